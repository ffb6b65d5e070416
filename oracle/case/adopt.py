"""Tensors under foreign names, put under the oracle's: traces and weights. `oracle.case.names` reads the names
themselves.

What a name alone cannot say, the tensors do: which run of a shared ReLU was kept, whether a container's output is its
last layer's, and whether the shapes are those of the architecture at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from oracle.case.case import Case
from oracle.case.names import Reading, Rules, Vocabulary, listed
from oracle.case.shapes import shapes_of
from oracle.case.zoo import PUBLISHED
from oracle.errors import UsageError
from oracle.graph.model import Model
from oracle.trace import Key, Trace


@dataclass(frozen=True)
class Brought:
    """What a subject brings with it, where another takes it from the case.

    Args:
        weights: its own parameters and statistics, by the oracle's names; ``None`` where it has none.
        notes: what was assumed of its names, in sentences.
        origin: where they come from, as far as the subject knows; empty where it does not.
        takes: the shape of the input that it takes, 0 for a side that may be any; ``None`` where that is not known.
    """

    weights: Mapping[str, np.ndarray] | None
    notes: tuple[str, ...] = ()
    origin: str = field(default="", kw_only=True)
    takes: tuple[int, ...] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Adopted:
    """A trace under the oracle's names, and what was assumed to get there."""

    trace: Trace
    notes: tuple[str, ...] = ()


def adopt_trace(trace: Trace, case: Case, rules: Rules | None = None) -> Adopted:
    """Put a trace under the oracle's names.

    Where every name is the oracle's already, the trace itself comes back. A name that nobody knows stays as it is if
    nothing was assumed (the verdict then calls it unexpected); otherwise it is refused.

    Args:
        trace: what somebody dumped.
        case: what it is a trace of.
        rules: of ``--names``.

    Raises:
        UsageError: a name cannot be read with the assumptions that the others need, two would be one tensor, or the
            shapes say that it is another network.
    """
    reading = Vocabulary(case.model).read((name for _, name in trace), rules)
    notes = list(reading.assumed)
    moved: dict[Key, Key] = {key: (key[0], reading.names[key[1]]) for key in trace if key[1] in reading.names}
    left_out = {key for key in trace if key[1] in reading.left_out}
    for key in (key for key in trace if key[1] in reading.aliases):
        ours: Key = (key[0], reading.aliases[key[1]])
        if ours not in moved.values():
            moved[key] = ours
            notes.append(f"{key[1]} read as the output of its last layer, {ours[1]}")
        elif _same(trace, key, next(theirs for theirs, found in moved.items() if found == ours)):
            left_out.add(key)
        else:
            raise UsageError(f"names: {key[1]} should be the output of {ours[1]}, which is there too and differs")
    shapes = shapes_of(case) if notes or reading.shared else {}
    notes += _shared(trace, reading, moved, left_out, case, shapes)
    if notes:
        _judge_shapes(trace, moved, case.model, shapes)
    unknown = [key for key in trace if key not in moved and key not in left_out]
    if unknown and notes and moved:
        raise UsageError(
            f"names: {'; '.join(notes)}; but {listed('/'.join(key) for key in unknown)} "
            f"{'is' if len(unknown) == 1 else 'are'} not to be understood so: say what they are, or that they are to "
            "be left out, with --names"
        )
    if not notes and not left_out:
        return Adopted(trace)
    adopted = Trace()
    for key in trace:
        if key not in left_out:
            adopted.record(*moved.get(key, key), trace[key])
    adopted.consumers = trace.consumers
    return Adopted(adopted, tuple(notes))


def _same(trace: Trace, one: Key, other: Key) -> bool:
    return trace[one].shape == trace[other].shape and np.array_equal(trace[one], trace[other], equal_nan=True)


def _shared(
    trace: Trace,
    reading: Reading,
    moved: dict[Key, Key],
    left_out: set[Key],
    case: Case,
    shapes: Mapping[Key, tuple[int, ...]],
) -> list[str]:
    """Place the ReLUs that a block runs more than once; returns what was assumed.

    A hook that stores under the module's name keeps the last run's output, and the first run's gradient (which comes
    last). That is not relied upon where the tensors can tell: a ReLU's output is its input cut at zero, and the
    gradient of its input is that of its output or zero, both exactly.
    """
    inputs = {node.name: node.inputs[0] for node in case.graph.nodes if node.op == "relu"}
    found = {ours: theirs for theirs, ours in moved.items()}
    placed: dict[str, list[str]] = {}
    lost: list[str] = []
    for key in (key for key in trace if key[1] in reading.shared):
        runs = reading.shared[key[1]]
        doubles = [run for run in runs if (key[0], run) in found and _same(trace, key, found[key[0], run])]
        if doubles:
            left_out.add(key)
            continue
        fitting = [run for run in runs if shapes.get((key[0], run)) == trace[key].shape and (key[0], run) not in found]
        run = _which_run(trace, key, fitting, runs[-1], inputs, found)
        if run is None:
            lost.append("/".join(key))
            left_out.add(key)
        else:
            moved[key] = found_key = (key[0], run)
            found[found_key] = key
            last = run == runs[-1]
            placed.setdefault("the block's output" if last else run.rsplit(".", 1)[1], []).append("/".join(key))
    texts = [f"{listed(names, 2)} read as {what} (the module runs several times)" for what, names in placed.items()]
    if lost:
        texts.append(f"{listed(lost)} not compared: the module runs several times, and which run it is cannot be told")
    return texts


def _which_run(
    trace: Trace,
    key: Key,
    candidates: Sequence[str],
    last: str,
    inputs: Mapping[str, str],
    found: Mapping[Key, Key],
) -> str | None:
    """Which of a shared ReLU's runs a tensor is, by the tensors around it; ``None`` where that cannot be told."""
    for run in candidates:
        before = found.get((key[0], inputs[run])) if run in inputs else None
        if before and trace[before].shape == trace[key].shape and _relu_between(key[0], trace[before], trace[key]):
            return run
    if len(candidates) == 1:
        return candidates[0]
    return last if key[0] == "activation" and last in candidates else None  # what was stored last


def _relu_between(kind: str, before: np.ndarray, after: np.ndarray) -> bool:
    """Whether ``after`` is a ReLU's output (or its gradient), ``before`` its input (or that one's gradient)."""
    if kind == "activation":
        return np.array_equal(np.maximum(before, 0), after)
    return bool(np.any(before)) and bool(np.all((before == 0) | (before == after)))


def _judge_shapes(trace: Trace, moved: Mapping[Key, Key], model: Model, shapes: Mapping[Key, tuple[int, ...]]) -> None:
    """Refuse a reading whose shapes are another network's. (A few wrong shapes, or NHWC, are for the verdict.)

    Raises:
        UsageError: they are.
    """
    known = {theirs: ours for theirs, ours in moved.items() if ours in shapes}
    wrong = {theirs: ours for theirs, ours in known.items() if sorted(trace[theirs].shape) != sorted(shapes[ours])}
    if not wrong:
        return
    theirs, ours = next(iter(wrong.items()))
    text = f"{'/'.join(theirs)} is {trace[theirs].shape} where {model.name} has {shapes[ours]}"
    like = model.likeness(name for _, name in wrong.values())
    if like:
        raise UsageError(f"names: this is {like}: {text}")
    if 2 * len(wrong) > len(known):
        raise UsageError(f"names: this is another network, or another size of input: {text}; {len(wrong)} such tensors")


# -- weights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OtherWeights:
    """How a subject's own parameters and statistics compare with the case's.

    Attributes:
        compared: the names that were found in both, with the same shape.
        differing: those of them whose values differ.
        total: how many parameters and statistics the case has.
    """

    compared: tuple[str, ...]
    differing: tuple[str, ...]
    total: int

    @property
    def others(self) -> bool:
        """Whether these are simply other weights: most of what was compared differs."""
        return 2 * len(self.differing) > len(self.compared)


def compare_weights(own: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> OtherWeights:
    """Compare what a subject brings with the case's weights, value by value.

    A value may be off by one unit in the last place of the type in which the subject stores it: it was rounded once.

    Example:
        >>> state = {"fc.weight": np.ones((2, 2), np.float32), "fc.bias": np.zeros(2, np.float32)}
        >>> own = {"fc.weight": np.ones((2, 2), np.float16), "fc.bias": np.ones(2, np.float16)}
        >>> compare_weights(own, state).differing
        ('fc.bias',)
    """
    floats = {name: value for name, value in state.items() if value.dtype.kind == "f"}
    compared = [
        name
        for name, value in floats.items()
        if name in own and own[name].dtype.kind in "fV" and own[name].shape == value.shape
    ]
    differing = [name for name in compared if not _equal(own[name], floats[name])]
    return OtherWeights(tuple(compared), tuple(differing), len(floats))


def _equal(own: np.ndarray, ours: np.ndarray) -> bool:
    unit = {2: 2.0**-10, 4: 2.0**-23}.get(own.dtype.itemsize, 2.0**-23)
    least = 2.0**-24 if own.dtype.itemsize == 2 else 0.0  # float16's smallest number
    if own.dtype.name == "bfloat16":
        unit, least = 2.0**-7, 0.0
    wide, truth = own.astype(np.float64), ours.astype(np.float64)
    return bool(np.all(np.abs(wide - truth) <= unit * np.abs(truth) + least))


def _how_to_export(case: Case) -> str:
    """How somebody gets a file with the case's weights."""
    model = case.model.name
    if case.weights is not None:
        return f"those in {case.weights}"
    written = f"`lucid-oracle vectors {model}` writes them"
    if model not in PUBLISHED:
        return written
    size = "" if case.size == 224 else f" --image-size {case.size}"  # 224 is lucid-export's default
    return f"`lucid-export {model} --onnx --seed {case.seed}{size}`; {written}"


def require_input(label: str, brought: Brought, case: Case) -> None:
    """Check that a subject takes images of the case's number and size.

    Raises:
        UsageError: it does not; the sentence names the options with which it can be judged.
    """
    theirs, ours = brought.takes, case.input.shape
    if theirs is None or (
        len(theirs) == len(ours) and all(side in (0, wanted) for side, wanted in zip(theirs, ours, strict=True))
    ):
        return
    advice = f"export it with --image-size {case.size} --batch dynamic"
    if len(theirs) == len(ours) and theirs[1] in (0, ours[1]) and theirs[2] == theirs[3]:
        options = [f"--image-size {theirs[2]}"] if theirs[2] not in (0, case.size) else []
        options += [f"--batch {theirs[0]}"] if theirs[0] not in (0, case.batch) else []
        advice = f"check it with {' '.join(options)}, or {advice}"
    given, wanted = ("x".join(str(side or "N") for side in shape) for shape in (theirs, ours))
    raise UsageError(f"subject: {label} takes an input of {given}, and that of {case.name} is {wanted}: {advice}")


def judge_weights(label: str, brought: Brought, case: Case) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare a subject's own weights with the case's, before anything is run.

    Returns:
        What to say of the subject, in sentences, and the parameters and statistics of its own that differ: few.

    Raises:
        UsageError: these are other weights: what it computes would say nothing.
    """
    notes = [*brought.notes]
    if brought.weights is None:
        return tuple(notes), ()
    found = compare_weights(brought.weights, case.state)
    parameters = [name for name in found.compared if name.rpartition(".")[2] in ("weight", "bias")]
    differing = [name for name in found.differing if name in parameters] or list(found.differing)
    if found.differing and found.others:
        of = len(parameters) if differing[0] in parameters else len(found.compared)
        origin = f" ({brought.origin})" if brought.origin else ""
        raise UsageError(
            f"subject: {label}: these are other weights: {len(differing)} of {of} parameters differ (first: "
            f"{differing[0]}); it was exported with other weights than the case's{origin}: export it with those "
            f"({_how_to_export(case)}), or pass those that it was made of with --weights FILE"
        )
    if found.compared:
        equal = "all as the case's" if not found.differing else f"{len(found.differing)} of another value"
        notes.append(
            f"of {found.total} parameters and statistics {len(found.compared)} found by name and shape, {equal}"
        )
    else:
        notes.append("its own parameters are not found by name and shape, and were not compared with the case's")
    return tuple(notes), found.differing
