"""One comparison: a subject's tensors against the truth's, judged beside PyTorch's own float32 error.

A `Comparison` measures tensors while the subject runs, so that only the truth has to be kept whole. `judge` then sets
the subject's errors beside the yardstick's and finds the first layer, forward and backward, that is out of line. What
is missing, misshapen, unexpected or not finite is out of line; and comparing nothing never agrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from oracle import tolerance
from oracle.case import Mode
from oracle.trace import KINDS, Key, Kind, Trace

Status = Literal["ok", "over", "missing", "shape", "not finite", "unexpected", "repeated"]
_BLOCK = 1 << 18  # elements compared at a time: float64 temporaries stay in cache


@dataclass(frozen=True)
class Measurement:
    """How far one tensor is from the truth.

    Args:
        error: root mean square of the difference over that of the truth.
        largest: the largest absolute difference over the truth's root mean square.
        norm: the Euclidean norm that the error is relative to: the truth's, as a rule.
        problem: what kept it from being measured, if anything did; ``note`` says more.
    """

    error: float = math.nan
    largest: float = math.nan
    norm: float = math.nan
    problem: Status | None = None
    note: str = ""


def measure(array: np.ndarray, truth: np.ndarray, least_norm: float = 0.0) -> Measurement:
    """Compare one tensor with the truth.

    ``error = ||array - truth|| / max(||truth||, least_norm)``; where that is 0, 0 for all zeros and infinity else.

    Example:
        >>> measure(np.array([1.0, 2.0]), np.array([1.0, 2.0])).error
        0.0
        >>> measure(np.array([1.0, np.nan]), np.array([1.0, 2.0])).problem
        'not finite'
        >>> measure(np.zeros(2), np.zeros(3)).note
        'shape (2,) where the truth has (3,)'
    """
    if array.shape != truth.shape:
        return Measurement(problem="shape", note=f"shape {array.shape} where the truth has {truth.shape}")
    squares, norm, largest = 0.0, 0.0, 0.0
    for part, exact in _blocks(array, truth):
        # A difference of more than 1e154 overflows when squared; infinite is the right answer, not a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            difference = part.astype(np.float64) - exact
            squares += float(np.dot(difference, difference))
            norm += float(np.dot(exact, exact))
            largest = max(largest, float(np.abs(difference).max(initial=0.0)))
        if not math.isfinite(squares) and not np.isfinite(part).all():
            return Measurement(problem="not finite", note=_count_not_finite(array))
    norm = max(norm, least_norm**2)
    if norm == 0.0:
        return Measurement(0.0, 0.0, 0.0) if squares == 0.0 else Measurement(math.inf, math.inf, 0.0)
    return Measurement(math.sqrt(squares / norm), largest / math.sqrt(norm / truth.size), math.sqrt(norm))


def _blocks(array: np.ndarray, truth: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    flat, exact = array.reshape(-1), truth.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK], exact[start : start + _BLOCK]


def _count_not_finite(array: np.ndarray) -> str:
    nans, infinities = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    return f"{nans} NaN and {infinities} infinite of {array.size}"


class Comparison:
    """A recorder that measures each tensor against ``truth`` and keeps only the numbers.

    In a train step it also watches the branches: where the subject's ReLU or max pooling decided otherwise than the
    truth's, the gradient that changes sides there is the square root of `branches`, relative to the layer's whole
    gradient.
    """

    def __init__(self, truth: Trace) -> None:
        self.truth = truth
        self.measured: dict[Key, Measurement] = {}
        self.branches: dict[str, float] = {}
        self.flips: dict[str, int] = {}
        self._before: tuple[str, np.ndarray] | None = None

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        """Measure one tensor."""
        array = np.asarray(array)
        if (kind, name) in self.measured:
            self.measured[kind, name] = Measurement(problem="repeated", note="recorded twice")
        elif (kind, name) not in self.truth:
            self.measured[kind, name] = Measurement(problem="unexpected", note="the truth has no such layer")
        else:
            self.measured[kind, name] = measure(array, self.truth[kind, name], self._least_norm(kind, name))
            if kind == "activation" and self.measured[kind, name].problem is None:
                self._watch(name, array)

    def _least_norm(self, kind: Kind, name: str) -> float:
        """What a bias's or scale's gradient is at least measured against.

        Behind a bias that the next normalisation takes away again, the gradient is zero, and float64 leaves some
        1e-16 of the terms it sums; such a residue is no measure, but the terms are: the gradient of the output.
        """
        terms: Key = ("activation_gradient", name.rsplit(".", 1)[0])
        if kind != "parameter_gradient" or self.truth[kind, name].ndim != 1 or terms not in self.truth:
            return 0.0
        whole, norm = (float(np.linalg.norm(self.truth[key])) for key in (terms, (kind, name)))
        return whole if norm < tolerance.RESIDUE * whole else 0.0

    def _watch(self, name: str, array: np.ndarray) -> None:
        if ("activation_gradient", name) not in self.truth:
            return
        exact = self.truth["activation", name]
        if exact.min(initial=0.0) >= 0:  # behind a ReLU: what it blocked is 0, and nothing is negative
            self._weigh(name, (array != 0) != (exact != 0), exact != 0)
        if name.rsplit(".", 1)[-1] == "maxpool" and self._before is not None:
            source, before = self._before
            changed = _winners(before) != _winners(self.truth["activation", source])
            self._weigh(name, changed, np.True_)
        self._before = (name, array)

    def _weigh(self, decider: str, changed: np.ndarray, passing: np.ndarray | np.bool_) -> None:
        """Note that the layer ``decider`` took the elements ``changed`` the other way."""
        count = int(np.count_nonzero(changed))
        if count == 0:
            return
        gradient = self.truth["activation_gradient", decider]
        whole = float(np.sum(np.square(gradient), where=passing))
        moved = float(np.sum(np.square(gradient), where=changed))
        self.flips[decider] = self.flips.get(decider, 0) + count
        self.branches[decider] = self.branches.get(decider, 0.0) + (moved / whole if whole else math.inf)


def _winners(image: np.ndarray) -> np.ndarray:
    """The choice of the models' max pooling: the first largest of each 3x3 window (stride 2, padding 1)."""
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    winners: np.ndarray = windows.reshape(*windows.shape[:4], 9).argmax(axis=-1)
    return winners


@dataclass(frozen=True)
class LayerVerdict:
    """One tensor of a subject: its error, PyTorch's own, what was allowed, and the verdict."""

    kind: Kind
    name: str
    status: Status
    error: float = math.nan
    yardstick: float = math.nan
    allowed: float = math.nan
    largest: float = math.nan
    largest_yardstick: float = math.nan
    largest_allowed: float = math.nan
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether this tensor is in line."""
        return self.status == "ok"

    @property
    def ratio(self) -> float:
        """The subject's error in units of PyTorch's own; NaN where there is none to divide by."""
        return self.error / self.yardstick if self.yardstick > 0 else math.nan

    @property
    def used(self) -> float:
        """The share of the allowance that was used: over 1 is out of line. NaN where nothing could be measured."""
        shares = [
            _share(self.error, self.allowed),
            _share(self.largest, self.largest_allowed),
        ]
        return math.nan if any(map(math.isnan, shares)) else max(shares)


def _share(value: float, allowed: float) -> float:
    if math.isinf(allowed):
        return 0.0
    return value / allowed if allowed > 0 else (0.0 if value == 0 else math.inf)


@dataclass(frozen=True)
class SubjectVerdict:
    """What became of one subject in one case: every tensor in the order of execution, forward, then backward."""

    subject: str
    layers: Sequence[LayerVerdict]
    flips: dict[str, int] = field(default_factory=dict)
    consumers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether every tensor is in line, and there was at least one."""
        return not self.failure and bool(self.layers) and all(layer.agrees for layer in self.layers)

    @property
    def first_forward(self) -> LayerVerdict | None:
        """The first tensor out of line on the way forward."""
        return self._first(("activation", "loss"))

    @property
    def first_backward(self) -> LayerVerdict | None:
        """The first tensor out of line on the way back."""
        return self._first(("activation_gradient", "parameter_gradient"))

    def _first(self, kinds: tuple[Kind, ...]) -> LayerVerdict | None:
        return next((layer for layer in self.layers if layer.kind in kinds and not layer.agrees), None)

    def sentence(self) -> str:
        """The verdict in words."""
        if self.failure:
            found = next((layer for layer in self.layers if layer.status not in ("ok", "missing")), None)
            before = f"; before that, out of line: {describe(found)} ({self._why(found)})" if found else ""
            return f"{self.subject} could not finish: {self.failure}{before}"
        if not self.layers:
            return f"{self.subject}: nothing was compared, which is no agreement"
        forward, backward = self.first_forward, self.first_backward
        if forward is None and backward is None:
            worst = max(self.layers, key=lambda layer: layer.used)
            return (
                f"{self.subject} agrees in all {len(self.layers)} tensors; "
                f"closest to its limit: {describe(worst)}, {worst.used:.0%} of what is allowed"
            )
        parts = []
        if forward is not None:
            parts.append(f"forward, first out of line: {describe(forward)} ({self._why(forward)})")
        if backward is not None:
            after = "" if forward is None else ", which may follow from the forward pass"
            parts.append(f"backward, first out of line: {describe(backward)} ({self._why(backward)}){after}")
        return f"{self.subject} disagrees. {'; '.join(parts)}"

    def _why(self, layer: LayerVerdict) -> str:
        if layer.status != "over":
            return layer.note or layer.status
        told = f"error {layer.error:.1e}, PyTorch's own {layer.yardstick:.1e}, allowed {layer.allowed:.1e}"
        if layer.error <= layer.allowed:
            told = f"largest deviation {layer.largest:.1e} of the root mean square, allowed {layer.largest_allowed:.1e}"
        if layer.kind == "activation_gradient" and self.consumers.get(layer.name):
            told += f"; the backward of {' and '.join(self.consumers[layer.name])} makes it"
        return told


def describe(layer: LayerVerdict) -> str:
    """What a tensor is called in a sentence.

    Example:
        >>> describe(LayerVerdict("activation_gradient", "layer1.0.bn1", "ok"))
        'the gradient of the output of layer1.0.bn1'
    """
    words = {
        "activation": "the output of {}",
        "loss": "the {}",
        "activation_gradient": "the gradient of the output of {}",
        "parameter_gradient": "the gradient of {}",
    }
    return words[layer.kind].format(layer.name)


def execution_order(truth: Trace, kinds: Iterable[Kind] = KINDS) -> list[Key]:
    """The truth's tensors as they come to be: activations, the loss, then from the last layer to the first the
    gradient of its output and those of its parameters.

    Example:
        >>> trace = Trace()
        >>> for kind, name in [("activation", "stem.0"), ("activation", "fc"), ("parameter_gradient", "stem.0.weight"),
        ...                    ("activation_gradient", "stem.0"), ("activation_gradient", "fc")]:
        ...     trace.record(kind, name, np.zeros(1))
        >>> execution_order(trace)[2:]
        [('activation_gradient', 'fc'), ('activation_gradient', 'stem.0'), ('parameter_gradient', 'stem.0.weight')]
    """
    forward = [key for key in truth if key[0] in ("activation", "loss")]
    parameters: dict[str, list[str]] = {}
    for name in truth.names("parameter_gradient"):
        parameters.setdefault(name.rsplit(".", 1)[0], []).append(name)
    backward: list[Key] = []
    for layer in reversed(truth.names("activation")):
        if ("activation_gradient", layer) in truth:
            backward.append(("activation_gradient", layer))
        backward += [("parameter_gradient", name) for name in parameters.get(layer, ())]
    return [key for key in forward + backward if key[0] in set(kinds)]


def judge(
    label: str, subject: Comparison, yardstick: Comparison, mode: Mode, precision: str, kinds: Iterable[Kind] = KINDS
) -> SubjectVerdict:
    """Set a subject's errors beside PyTorch's own and decide, tensor by tensor.

    Args:
        label: what the subject is called.
        subject: its measured run.
        yardstick: PyTorch's float32 run of the same case.
        mode: chooses the factor.
        precision: the subject's, ``float32`` or ``float64``.
        kinds: the kinds of tensors that this subject owes.
    """
    truth = subject.truth
    moved = 0.0  # the squared share of the gradient that branches decided otherwise have moved so far
    layers = []
    for key in execution_order(truth, kinds):
        slack = tolerance.BRANCH_FACTOR * math.sqrt(moved)
        layers.append(_judge_one(key, subject, yardstick, mode, precision, slack))
        if key[0] == "activation_gradient":
            moved += subject.branches.get(key[1], 0.0)
    strangers = [key for key in subject.measured if key not in truth]
    layers += [LayerVerdict(*key, status="unexpected", note=subject.measured[key].note) for key in strangers]
    return SubjectVerdict(label, layers, flips=subject.flips, consumers=truth.consumers)


def _judge_one(
    key: Key, subject: Comparison, yardstick: Comparison, mode: Mode, precision: str, slack: float
) -> LayerVerdict:
    found = subject.measured.get(key, Measurement(problem="missing", note="the subject left no such tensor"))
    own = yardstick.measured.get(key, Measurement())
    if found.problem is not None:
        return LayerVerdict(*key, status=found.problem, yardstick=own.error, note=found.note)
    scale, floor = tolerance.yardstick_scale(precision), tolerance.yardstick_floor(precision)
    carried, sensitivity = _carried(key, yardstick)
    typical = max(_usable(own.error), carried) * scale
    slack *= sensitivity
    scatter = tolerance.scatter(yardstick.truth[key].size)
    allowed = tolerance.FACTOR[mode] * scatter * max(typical, floor) + slack
    expected = tolerance.LARGEST_OF_MANY * max(typical, floor)
    largest_allowed = tolerance.LARGEST_FACTOR * max(_usable(own.largest) * scale, expected)
    if slack > 0:
        largest_allowed = math.inf
    within = found.error <= allowed and found.largest <= largest_allowed
    return LayerVerdict(
        *key,
        status="ok" if within else "over",
        error=found.error,
        yardstick=own.error,
        allowed=allowed,
        largest=found.largest,
        largest_yardstick=own.largest,
        largest_allowed=largest_allowed,
    )


def _usable(value: float) -> float:
    """A yardstick that is itself not a number grants nothing beyond the floor."""
    return 0.0 if math.isnan(value) else value


def _carried(key: Key, yardstick: Comparison) -> tuple[float, float]:
    """What PyTorch's error in the gradient ``dy`` of a layer's output makes, by itself, of the sums over it.

    The gradient of a bias or a scale is one sum a channel. If the errors of its terms are independent, the relative
    error of all sums together is that of ``dy`` times ``||dy|| / ||sums||``: large where the terms cancel. A few
    dozen sums are too small a sample for PyTorch's own error in them to show it. Returns that error and the factor
    (at least 1).
    """
    kind, name = key
    layer = yardstick.measured.get(("activation_gradient", name.rsplit(".", 1)[0]))
    own = yardstick.measured.get(key)
    if kind != "parameter_gradient" or layer is None or own is None or yardstick.truth[key].ndim != 1:
        return 0.0, 1.0
    factor = layer.norm / own.norm if own.norm > 0 else math.inf
    if math.isnan(factor):
        return 0.0, 1.0
    return _usable(layer.error) * factor, max(1.0, factor)
