"""The local view: each layer by itself, fed what the truth fed it, judged by the rounding errors of that one operation.

Forward a layer gets the truth's own input, backward the truth's own gradient of its output, both rounded to the
subject's precision. What it should make of them is computed again in float64 from those very numbers
(`oracle.judge.exact`), so nothing accumulates, no earlier fault is seen again, and a single wrong weight cannot hide
behind what depth amplifies. Every tensor is judged three times: element by element, by each channel's root mean square,
and as a whole.

A layer's verdicts are its output; the gradient that it makes for its input; those of its parameters; and of a batch
normalisation in training also the statistics after the step. Where an operation has code of its own, which calls
others, it is judged with those replaced by the truth: forward what it makes of them, and backward the gradient that
reaches them and what the code takes.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oracle.case.case import Case
from oracle.errors import UsageError, foreign, name_of
from oracle.graph.graph import INPUT, Node, Window
from oracle.judge.exact import expected, expected_arrivals
from oracle.judge.ties import FITTED, TIE_NOTE, pool_gradients
from oracle.judge.verdicts import LayerVerdict, Status, SubjectVerdict, no_numbers, status_of
from oracle.judge.words import describe_difference
from oracle.operations import is_loss, operation_of
from oracle.operations.operation import Expected, Feed, gradient_note
from oracle.precision.difference import JUDGEABLE, Budget, count_not_finite
from oracle.precision.profile import Profile, hint, profile_of
from oracle.precision.rounding import REACH, Deviation, Rounding, limit, mean_square, round_to, rounding_of
from oracle.subjects import Subject
from oracle.subjects.layerwise import CodeFeed, CodeRun, LayerRun, Layerwise
from oracle.trace import Kind, NotNumbersError, Trace, to_numbers

Array = np.ndarray[Any, Any]
Progress = Callable[[str], None]
FORWARD: tuple[Kind, ...] = ("activation", "loss", "statistic")

# Other profiles are tried on so many layers each way, the first ones that are over, by less than so many times their
# budget (an element near zero may use many times its own where sums are kept in the storage type).
HINTS, HINT_USED = 3, 4096.0


def local_check(subject: Subject, truth: Trace, case: Case, precision: str) -> SubjectVerdict:
    """Drive ``subject`` through ``case`` layer by layer and judge every layer by itself.

    Args:
        subject: one that can be driven (its ``layerwise`` is not ``None``).
        truth: the case's truth in float64, every tensor.
        case: what is run.
        precision: what the subject computes in, as `oracle.precision.profile` spells it.

    Raises:
        UsageError: the subject cannot be driven layer by layer.
    """
    return local_checks([subject], LocalTruth(case, truth, precision))[0]


def local_checks(subjects: Sequence[Subject], truth: LocalTruth) -> list[SubjectVerdict]:
    """The same for several subjects of one precision: what each layer should make is computed once.

    Raises:
        UsageError: a subject cannot be driven layer by layer.
    """
    runs = [_Run(subject, truth.case) for subject in subjects]
    for step in truth.steps():
        for run in runs:
            run.take(step, truth)
    return [run.verdict(truth) for run in runs]


@dataclass(frozen=True)
class Step:
    """One layer: what it is fed, and what it should make of it.

    Args:
        node: which.
        feed: what it is fed.
        expected: its output, gradients and statistics.
        within: the operations inside of its code, by name.
        outputs: what they return.
        input_gradients: what they hand back.
        source: what its code takes.
    """

    node: Node
    feed: Feed
    expected: Sequence[Expected]
    within: Mapping[str, Node]
    outputs: Mapping[str, Array]
    input_gradients: Mapping[str, Array]
    source: Array | None = None


class LocalTruth:
    """What every layer of a case is fed and should make of it, at one precision.

    Args:
        case: what is run.
        truth: its truth in float64.
        precision: the subjects'.
        keep: whether to keep every layer's expectation for the next subject; it takes several times the truth's memory.
    """

    def __init__(self, case: Case, truth: Trace, precision: str, *, keep: bool = False) -> None:
        self.case, self.truth, self.profile = case, truth, profile_of(precision)
        self.precision = str(self.profile)
        self.rounding = rounding_of(self.profile)
        self.nodes = [node for node in case.graph.nodes if not is_loss(node) or case.mode == "train"]
        self._kept: list[Step] | None = None
        self._keep = keep
        self._state = {
            name: round_to(value, self.profile) for name, value in case.state.items() if value.dtype.kind == "f"
        }

    def steps(self) -> Iterator[Step]:
        """The layers in the order in which they run forward."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Step] = []
        for step in self._make():
            if self._keep:
                kept.append(step)
            yield step
        if self._keep:
            self._kept = kept

    def _make(self) -> Iterator[Step]:
        handed: dict[str, Array] = {}
        for node in self.nodes:
            feed = self._feed(node)
            made = expected(node, feed, self.rounding)
            if node.has_code:
                yield self._code(node, feed, made, handed)
                handed = {}
                continue
            if node.scope and feed.gradient is not None:
                [gradient] = [each.exact for each in made if each.kind == "activation_gradient"]
                handed[node.name] = round_to(gradient, self.profile)
            yield Step(node, feed, [each for each in made if not self._needless(node, each)], {}, {}, {})

    def expectations(self, step: Step, profile: Profile) -> list[Expected]:
        """What a step should make under another profile of the same base."""
        if step.node.has_code:
            return list(step.expected)
        made = expected(step.node, step.feed, rounding_of(profile))
        return [each for each in made if not self._needless(step.node, each)]

    @staticmethod
    def _needless(node: Node, each: Expected) -> bool:
        """Nobody asks for the gradient of the network's input."""
        return each.kind == "activation_gradient" and INPUT in node.inputs

    def _fed(self, name: str) -> Array:
        return round_to(self.case.input if name == INPUT else self.truth["activation", name], self.profile)

    def _gradient(self, name: str) -> Array | None:
        key: tuple[Kind, str] = ("activation_gradient", name)
        return round_to(self.truth[key], self.profile) if key in self.truth else None

    def _feed(self, node: Node) -> Feed:
        inputs = tuple(self._fed(name) for name in node.inputs)
        training = self.case.mode == "train"
        return Feed(inputs, self._gradient(node.name), feed_state(node, self._state), self.case.labels, training)

    def _code(self, node: Node, feed: Feed, made: list[Expected], handed: dict[str, Array]) -> Step:
        within = {each.name: each for each in self.nodes if each.scope == node.name and each is not node}
        own = next((each.exact for each in made if each.kind == "activation_gradient"), None)
        made = [each for each in made if each.kind != "activation_gradient"]
        if own is not None:
            made += expected_arrivals(node, own, within, handed, self.rounding)
        outputs = {name: self._fed(name) for name in within}
        return Step(node, feed, made, within, outputs, handed, self._fed(node.source))


def feed_state(node: Node, state: Mapping[str, Array]) -> dict[str, Array]:
    """By role, an operation's parameters and statistics."""
    return {role: state[name] for role, name in (*node.parameters.items(), *node.statistics.items())}


class _Run:
    """One subject on its way through the layers."""

    def __init__(self, subject: Subject, case: Case) -> None:
        with foreign(f"subject: {subject.label} could not be taken apart for the local view"):
            driven = subject.layerwise(case)
        if driven is None:
            raise UsageError(f"subject: {subject.label} cannot be driven layer by layer: it has the free view alone")
        self._subject, self._driven = subject, driven
        self._forward: list[LayerVerdict] = []
        self._backward: list[list[LayerVerdict]] = []
        self._failure = ""
        self._seconds = 0.0
        # What the first tensors that are over came from: forward the first ones, backward (from the end) the last ones.
        self._suspects: list[_Suspect] = []
        self._late_suspects: deque[_Suspect] = deque(maxlen=HINTS)

    def take(self, step: Step, truth: LocalTruth) -> None:
        """Run and judge one layer."""
        start = time.perf_counter()
        if not step.node.has_code and not self._driven.drives(step.node):
            self._forward += [_unseen(each) for each in step.expected if each.kind in FORWARD]
            self._backward.append([_unseen(each) for each in step.expected if each.kind not in FORWARD])
            return
        try:
            made = _drive(self._driven, step)
        except UsageError:
            raise
        except Exception as error:  # a subject is foreign code: whatever it raises is its verdict
            self._failure = self._failure or f"{step.node.name}: {name_of(error)}"
            made = {}
        verdicts = [_tied(each, step, made, truth) or each for each in _judged(step, made, self._subject.kinds)]
        forward = [each for each in verdicts if each.kind in FORWARD]
        backward = [each for each in verdicts if each.kind not in FORWARD]
        self._forward += forward
        self._backward.append(backward)
        if len(self._suspects) < HINTS and any(map(may_be_meant, forward)):
            self._suspects.append(_Suspect(step, made, forward))
        if any(map(may_be_meant, backward)):
            self._late_suspects.append(_Suspect(step, made, backward))
        self._seconds += time.perf_counter() - start

    def _hints(self, truth: LocalTruth) -> dict[int, str]:
        """By identity of a verdict that is over, what it would take to allow it; the status stays as it is."""
        allowing: dict[int, list[Profile]] = {}
        for suspect in (*self._suspects, *self._late_suspects):
            for more in truth.profile.with_more():
                step = replace(suspect.step, expected=truth.expectations(suspect.step, more))
                judged = _judged(step, suspect.made, self._subject.kinds)
                allowed = {(each.kind, each.name) for each in judged if each.agrees}
                for each in filter(may_be_meant, suspect.verdicts):
                    if (each.kind, each.name) in allowed and _everywhere(suspect, each):
                        allowing.setdefault(id(each), []).append(more)
        return {each: hint(profiles) for each, profiles in allowing.items()}

    def verdict(self, truth: LocalTruth) -> SubjectVerdict:
        """Forward in order, then backward from the last layer to the first."""
        backward = [each for verdicts in reversed(self._backward) for each in verdicts]
        hints = self._hints(truth)
        found = [
            replace(each, difference="; ".join(filter(None, (each.difference, hints[id(each)]))))
            if id(each) in hints
            else each
            for each in (*self._forward, *backward)
        ]
        return SubjectVerdict(self._subject.label, "local", truth.precision, found, self._failure, self._seconds)


def _unseen(each: Expected) -> LayerVerdict:
    return LayerVerdict(each.kind, each.name, "local", "not observed", note="nothing does this operation alone")


Handed = dict[tuple[Kind, str, str], Any]
Made = dict[tuple[Kind, str, str], Array | NotNumbersError | None]


def _drive(driven: Layerwise, step: Step) -> Made:
    """Run one layer and sort what it made by kind, name and note, as `Expected` has them."""
    node, feed = step.node, step.feed
    if node.has_code:
        assert step.source is not None
        given = CodeFeed(step.source, step.outputs, step.input_gradients, feed.gradient)
        return _numbers(_of_code(node, driven.run_code(node, given)))
    return _numbers(_of_layer(node, driven.run(node, feed.inputs, feed.gradient)))


def _numbers(handed: Handed) -> Made:
    """What a subject handed over, as arrays; of what is none, why."""
    made: Made = {}
    for key, value in handed.items():
        try:
            made[key] = None if value is None else to_numbers(value)
        except NotNumbersError as error:
            made[key] = error
    return made


def _of_code(node: Node, run: CodeRun) -> Handed:
    made: Handed = {("activation", node.name, ""): run.output}
    for name, gradient in run.arrivals.items():
        made["activation_gradient", node.name, f"the gradient that reaches {name}"] = gradient
    return made


def _of_layer(node: Node, run: LayerRun) -> Handed:
    made: Handed = {("loss" if is_loss(node) else "activation", node.name, ""): run.output}
    for place, gradient in enumerate(run.input_gradients):
        made["activation_gradient", node.name, gradient_note(place)] = gradient
    for role, gradient in run.parameter_gradients.items():
        made["parameter_gradient", node.parameters.get(role, f"{node.name}.{role}"), ""] = gradient
    for role, statistic in run.statistics.items():
        made["statistic", node.statistics.get(role, f"{node.name}.{role}"), ""] = statistic
    return made


def _judged(step: Step, made: Made, kinds: Iterable[Kind]) -> list[LayerVerdict]:
    """One verdict for each kind and name; where several tensors share both, that of the worst."""
    owed = set(kinds)
    verdicts: dict[tuple[Kind, str], LayerVerdict] = {}
    for each in step.expected:
        if each.kind not in owed:
            continue
        found = judge_local(each, made.get((each.kind, each.name, each.note)), _known(step, each.kind))
        before = verdicts.get((each.kind, each.name))
        if before is None or _badness(found) > _badness(before):
            verdicts[each.kind, each.name] = found
    return list(verdicts.values())


@dataclass(frozen=True)
class _Suspect:
    """A step some of whose tensors are over, kept until other profiles are tried on it."""

    step: Step
    made: Made
    verdicts: Sequence[LayerVerdict]


def may_be_meant(verdict: LayerVerdict) -> bool:
    """Whether a tensor is over by so little that another profile may allow it."""
    return verdict.status == "over" and verdict.used < HINT_USED


def _everywhere(suspect: _Suspect, verdict: LayerVerdict) -> bool:
    return all(
        everywhere(each, array)
        for each in suspect.step.expected
        if (each.kind, each.name) == (verdict.kind, verdict.name)
        and isinstance(array := suspect.made.get((each.kind, each.name, each.note)), np.ndarray)
    )


def everywhere(wanted: Expected, array: Array) -> bool:
    """Whether the middle channel used at least an eighth of what the worst one used; true where there are none.

    The options of a profile cost all of a tensor; what is over in a few channels alone is something else.
    """
    if wanted.channel is None:
        return True
    squares, own, shared = (
        _by_channel(part, wanted.exact.shape, wanted.channel)
        for part in (np.square(array - wanted.exact), wanted.deviation.own, wanted.deviation.shared)
    )
    shares = np.sqrt(_shares(squares, own + shared))
    return bool(np.median(shares) >= shares.max() / 8)


def _known(step: Step, kind: Kind) -> dict[str, Array]:
    """What a layer is fed, by name, for the words about a difference."""
    if kind == "activation":
        return dict(zip(step.node.inputs, step.feed.inputs, strict=False))
    if kind == "activation_gradient" and step.feed.gradient is not None:
        handed = {f"what {name} hands back": gradient for name, gradient in step.input_gradients.items()}
        return {"the gradient of its output": step.feed.gradient, **handed}
    return {}


def _tied(verdict: LayerVerdict, step: Step, made: Made, truth: LocalTruth) -> LayerVerdict | None:
    """The verdict on the gradient of what takes the largest, if it is in line once ties may go to any of equals."""
    if (
        operation_of(step.node).decides(step.node) != "winner"
        or verdict.kind != "activation_gradient"
        or verdict.status != "over"
    ):
        return None
    [wanted] = [each for each in step.expected if each.kind == "activation_gradient"]
    array = made[wanted.kind, wanted.name, wanted.note]
    assert isinstance(array, np.ndarray)
    assert step.feed.gradient is not None
    return judge_ties(wanted, array, step.feed.inputs[0], step.feed.gradient, truth.rounding, step.node.window)


def _badness(verdict: LayerVerdict) -> tuple[bool, bool, float]:
    """What is over is worse than what is in line, and that is told before what is not judged."""
    return verdict.judged and not verdict.agrees, verdict.judged, math.inf if math.isnan(verdict.used) else verdict.used


def judge_local(
    wanted: Expected, array: Array | NotNumbersError | None, known: Mapping[str, Array] | None = None
) -> LayerVerdict:
    """One tensor that a layer made, against what it should have made; ``known`` is what it was fed, by name.

    Example:
        >>> from oracle.operations.operation import EXACT
        >>> wanted = Expected("activation", "relu", np.ones((1, 2)), EXACT)
        >>> judge_local(wanted, np.ones((1, 2))).status, judge_local(wanted, np.zeros((1, 2))).status
        ('exact', 'over')
    """
    key = (wanted.kind, wanted.name)
    exact, note = wanted.exact, wanted.note
    if array is None:
        return LayerVerdict(*key, "local", "missing", note=note or "the subject made no such tensor")
    if isinstance(array, NotNumbersError):
        return no_numbers(key, "local", array)
    if array.shape != exact.shape:
        text = describe_difference(array, exact, Budget(0.0))
        note = f"shape {array.shape} where the truth has {exact.shape}"
        return LayerVerdict(*key, "local", "shape", difference=text, note=note)
    if not np.isfinite(array).all():
        text = describe_difference(array, exact, Budget(0.0), kind=wanted.kind)
        return LayerVerdict(*key, "local", "not finite", difference=text, note=count_not_finite(array))
    return _measured(wanted, array, key, known)


def judge_ties(
    wanted: Expected, array: Array, image: Array, gradient: Array, rounding: Rounding, window: Window
) -> LayerVerdict | None:
    """A max pooling's gradient that is over, judged at the subject's own choice among equal elements.

    Args:
        wanted: the gradient where the first of equals wins.
        array: the subject's.
        image: what the pooling took.
        gradient: of its output.
        rounding: the subject's.
        window: of the pooling.

    Returns:
        The verdict, if it agrees so.
    """
    if array.shape != wanted.exact.shape or not np.isfinite(array).all():
        return None
    candidates, ties = pool_gradients(image, gradient, array, window)
    unit = mean_square(rounding.coarsest)
    for placed, reach in candidates:
        # What windows add up is rounded where it is stored, as many as overlap; parts may cancel, errors do not.
        summed = window.overlap * unit
        own = (FITTED**2 + summed) * np.square(reach) + summed * np.square(placed) + wanted.deviation.own
        again = judge_local(replace(wanted, exact=placed, deviation=Deviation(own)), array)
        if again.agrees:
            return replace(again, note=TIE_NOTE.format(ties))
    return None


def _measured(wanted: Expected, array: Array, key: tuple[Kind, str], known: Mapping[str, Array] | None) -> LayerVerdict:
    exact, deviation, axis = wanted.exact, wanted.deviation, wanted.channel
    scale = math.sqrt(float(np.vdot(exact, exact)) / exact.size) if exact.size else 0.0
    scale = scale if scale > 0 else 1.0  # of an exact zero, deviations are absolute
    found, largest, largest_budget = _squared_errors(wanted, array)
    parts = (deviation.own, deviation.shared, np.square(deviation.bias))
    own, shared, bias = (_by_channel(each, exact.shape, axis) for each in parts)
    count = exact.size / found.size
    error = math.sqrt(float(found.mean()))
    budget = float(limit(own.mean(), shared.mean(), exact.size, found.size)) + math.sqrt(float(bias.mean()))
    channel, used, allowed = None, math.nan, None
    if axis is not None:
        allowed = limit(own, shared, count) + np.sqrt(bias)
        shares = _shares(np.sqrt(found), allowed)
        channel = int(shares.argmax())
        used = float(shares[channel])
    over = error > budget or largest > largest_budget or used > 1.0
    status: Status = "exact" if error == 0 else status_of(not over, budget / scale <= JUDGEABLE)
    relative = Budget(budget / scale, largest_budget / scale, None if allowed is None else allowed / scale)
    return LayerVerdict(
        *key,
        "local",
        status,
        error / scale,
        budget / scale,
        largest / scale,
        largest_budget / scale,
        channel,
        used,
        describe_difference(array, exact, relative, kind=wanted.kind, others=known) if over else "",
        wanted.note,
    )


# So many elements are looked at together that what is computed of them stays in the processor's cache.
SLAB = 1 << 15


def _slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Pieces of the first axis."""
    step = max(1, SLAB * shape[0] // max(1, math.prod(shape)))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _squared_errors(wanted: Expected, array: Array) -> tuple[Array, float, float]:
    """The mean squared error of each channel (of everything, as one, where there are none); and of the element that
    uses most of its own budget, the error and that budget."""
    axis, shape = wanted.channel, wanted.exact.shape or (1,)
    exact, array = wanted.exact.reshape(shape), array.reshape(shape)
    own, shared, bias = (
        np.broadcast_to(part, shape) for part in (wanted.deviation.own, wanted.deviation.shared, wanted.deviation.bias)
    )
    sums = np.zeros(1 if axis is None else shape[axis])
    rest = None if axis is None else tuple(each for each in range(len(shape)) if each != axis)
    most, largest, budget = -1.0, 0.0, 0.0
    for piece in _slabs(shape):
        distance = np.abs(np.subtract(array[piece], exact[piece], dtype=np.float64))
        squares = np.square(distance)
        sums[piece if axis == 0 else slice(None)] += squares.sum(rest)
        allowed = (1 + REACH) * np.sqrt(own[piece] + shared[piece]) + bias[piece]
        shares = _shares(distance, allowed)
        worst = int(shares.argmax()) if shares.size else 0
        if shares.size and shares.flat[worst] > most:
            most, largest = float(shares.flat[worst]), float(distance.flat[worst])
            budget = float(allowed.flat[worst])
    return sums / max(1, exact.size // sums.size), largest, budget


def _shares(found: Array, allowed: Array | float) -> Array:
    """How much of what is allowed is used: nothing of nothing is 0, something of nothing infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = found / allowed
    return np.where(found == 0, 0.0, shares)


def _by_channel(values: Array | float, shape: tuple[int, ...], axis: int | None) -> Array:
    """The mean over each channel; over everything, as one channel, where there are none. Of values that broadcast to
    ``shape``, those that there are have the same mean."""
    values = np.asarray(values, np.float64)
    values = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    if axis is None:
        return np.asarray(values.mean()).reshape(1)
    means = values.mean(tuple(each for each in range(len(shape)) if each != axis))
    return np.broadcast_to(means, (shape[axis],))
