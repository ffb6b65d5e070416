"""The own view: every tensor of a trace judged from its nearest ancestors in that trace, with the trace's own values.

For each layer whose inputs a subject handed over, what that one operation makes of those very numbers is computed in
float64 (`oracle.exact`) and the subject's output is judged as in the local view. Backward likewise: the gradient of an
output is the sum over the layers that take it, each fed the subject's own activations and the subject's own gradient
of its output; gradients of parameters come from the layer's own input and output gradient. Which elements a ReLU lets
pass and which win in the max pooling is what the subject's own values say. So nothing accumulates and nothing has to
be fed: a file is enough, and in low precision, where the budget of a whole run exceeds the signal, every tensor is
still judged. The image, the labels and the weights are the case's.

A trace may hold less than the runtime had: a fused kernel keeps float32 between two operations, and what is dumped was
rounded once more. So the budget grants one rounding of each input in the storage type of the declared precision, on
its way through the operation (`input_deviations`): of activations and gradients element by element, of weights, of
which a channel's elements share the error, once a channel.

In low precision an error of one sign hides below one rounding of an element: the whole tensor leans (`oracle.lean`).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oracle.case import Case
from oracle.compare import LayerVerdict, SubjectVerdict, count_not_finite
from oracle.exact import EPS, Expected, Feed, expected, expected_sum
from oracle.layer import IMAGE, Layer, consumers, layers_of
from oracle.lean import NOTE, fan, lean, of_factors, of_fan, repeats
from oracle.local import FORWARD, HINTS, everywhere, judge_local, judge_ties, may_be_meant
from oracle.profile import hint, profile_of
from oracle.rounding import ROUNDINGS, Deviation, Rounding, mean_square, plain_chain, round_to, rounding_of
from oracle.trace import Key, Trace

Array = np.ndarray[Any, Any]
Shapes = Callable[[Key], tuple[int, ...]]
Made = Mapping[str, Expected]  # by role, as `_role` has it

NOTHING_TO_JUDGE_FROM = "what it is made from is not in the trace"


def own_check(trace: Trace, case: Case, precision: str, keys: list[Key], shape: Shapes, label: str) -> SubjectVerdict:
    """Judge every tensor of a trace by those that it is made from.

    Args:
        trace: the subject's.
        case: what was run.
        precision: what it was computed and stored in.
        keys: the tensors of the case, in the order of execution.
        shape: the shape of each.
        label: what reports call the subject.
    """
    start = time.perf_counter()
    found = _Own(trace, case, precision, shape).judge()
    layers = []
    for key in keys:
        if key in found:
            layers.append(found[key])
        elif key not in trace:
            layers.append(LayerVerdict(*key, "own", "not observed", note="the subject left no such tensor"))
        else:
            layers.append(_alone(key, trace[key], shape(key)))
    return SubjectVerdict(label, "own", precision, layers, "", time.perf_counter() - start)


def _alone(key: Key, array: Array, shape: tuple[int, ...]) -> LayerVerdict:
    """A tensor without ancestors: all that can be said is that it has a shape and is finite."""
    if array.shape != shape:
        return LayerVerdict(*key, "own", "shape", note=f"shape {array.shape} where the truth has {shape}")
    if not np.isfinite(array).all():
        return LayerVerdict(*key, "own", "not finite", note=count_not_finite(array))
    return LayerVerdict(*key, "own", "not judged", note=NOTHING_TO_JUDGE_FROM)


@dataclass
class _Part:
    """What one consumer adds to the gradient of an output."""

    exact: Array
    deviation: Deviation
    consumer: str
    gradient: Array | None  # of its output; the loss has none
    pooled: tuple[Array, Array] | None = None  # the input and the output's gradient, where a max pooling makes it


@dataclass(frozen=True)
class _Suspect:
    """A tensor that is over, and what made it, kept until other profiles are tried."""

    layer: Layer
    feed: Feed
    role: str
    key: Key = ("activation", "")


class _Own:
    """One trace on its way through the layers."""

    def __init__(self, trace: Trace, case: Case, precision: str, shape: Shapes) -> None:
        self._trace, self._case, self._shape = trace, case, shape
        profile = self._profile = profile_of(precision)
        self._rounding: Rounding = rounding_of(profile)
        self._image = round_to(case.input, profile)
        self._state = {name: round_to(value, profile) for name, value in case.state.items() if value.dtype.kind == "f"}
        self._training = case.mode == "train"
        layers = layers_of(case.architecture)
        self._layers = [layer for layer in layers if layer.op != "loss" or self._training]
        self._takers = {name: len(takers) for name, takers in consumers(tuple(self._layers)).items()}
        self._parts: dict[str, list[_Part]] = {}
        self._found: dict[Key, LayerVerdict] = {}
        self._lean: dict[Key, tuple[float, float]] = {}
        # What the first tensors that are over came from, forward the first ones and backward the last ones.
        self._suspects: list[_Suspect] = []
        self._late_suspects: deque[_Suspect] = deque(maxlen=HINTS)

    def judge(self) -> dict[Key, LayerVerdict]:
        """The verdicts on everything that has its ancestors."""
        for layer in self._layers:
            inputs = [self._image if name == IMAGE else self._known("activation", name) for name in layer.inputs]
            if any(each is None for each in inputs):
                continue
            given = tuple(each for each in inputs if each is not None)
            gradient = self._known("activation_gradient", layer.name) if self._training else None
            if layer.op == "sum":
                self._sum(layer, given, gradient)
            else:
                self._operation(layer, given, gradient)
        self._hint()
        return self._found

    def _known(self, kind: Any, name: str) -> Array | None:
        """A tensor of the trace that can be an input: of the right shape, and finite."""
        key: Key = (kind, name)
        if key not in self._trace:
            return None
        array = self._trace[key]
        return array if array.shape == self._shape(key) and np.isfinite(array).all() else None

    def _judge(self, wanted: Expected, known: Mapping[str, Array], suspect: _Suspect | None = None) -> None:
        key: Key = (wanted.kind, wanted.name)
        if key in self._trace:
            found = replace(judge_local(wanted, self._trace[key], known), view="own")
            self._found[key] = self._leaning(found)
            self._suspected(wanted, suspect)

    def _operation(self, layer: Layer, inputs: tuple[Array, ...], gradient: Array | None) -> None:
        prefix = f"{layer.name}."
        parameters = {
            name.removeprefix(prefix): value
            for name, value in self._state.items()
            if name.rpartition(".")[0] == layer.name
        }
        feed = Feed(inputs, gradient, parameters, self._case.labels, self._training)
        taken = dict(zip(layer.inputs, inputs, strict=True))
        for each in self._makes(layer, feed, self._rounding):
            suspect = _Suspect(layer, feed, _role(layer, each))
            if each.kind == "activation_gradient":
                pooled = (inputs[0], gradient) if layer.op == "max pool" and gradient is not None else None
                self._add(layer.inputs[0], _Part(each.exact, each.deviation, layer.name, gradient, pooled), suspect)
                continue
            self._judge(replace(each, note=""), taken if each.kind == "activation" else {}, suspect)

    def _makes(self, layer: Layer, feed: Feed, rounding: Rounding) -> list[Expected]:
        """What a layer should make of its feed, one rounding of what it takes granted."""
        made = expected(layer, feed, rounding)
        granted = input_deviations(layer, feed, made, rounding)
        found = []
        for each in made:
            deviation = _both(each.deviation, granted.get(_role(layer, each), Deviation(0.0)))
            if layer.op == "relu" and each.kind == "activation_gradient":
                each = replace(each, exact=self._passed(layer, feed))
            found.append(replace(each, deviation=deviation))
            if rounding is self._rounding and self._leans(layer, each):
                self._judge_lean(layer, feed, each, granted)
        return found

    def _leans(self, layer: Layer, each: Expected) -> bool:
        """Whether a tensor is judged by how it leans: where storing is coarser than summing, and one layer makes it."""
        if self._rounding.store <= self._rounding.sums or layer.op == "loss" or each.exact.ndim < 2:
            return False
        if each.kind != "activation_gradient":
            return True
        # Which of equal elements a max pooling takes is the subject's choice, and not one of sign.
        return layer.op != "max pool" and self._takers.get(layer.inputs[0]) == 1

    def _judge_lean(self, layer: Layer, feed: Feed, each: Expected, granted: Mapping[str, Deviation]) -> None:
        role = _role(layer, each)
        key: Key = (each.kind, layer.inputs[0] if role == "input" else each.name)
        array = self._known(*key) if key in self._trace else None
        if array is None or array.shape != each.exact.shape:
            return
        if layer.op == "conv":
            added = of_factors(layer, feed, role, each.exact, self._rounding)
        else:
            uses = fan(layer, role, feed.parameters)
            uses *= max(repeats(taken) for taken in (*feed.inputs, feed.gradient) if taken is not None)
            added = of_fan(each.exact, each.channel, granted.get(role, Deviation(0.0)), uses)
        self._lean[key] = lean(array, each.exact, each.channel, each.deviation, added, self._rounding)

    def _leaning(self, found: LayerVerdict) -> LayerVerdict:
        """The verdict, with the tensor's lean where that is over."""
        measured, allowed = self._lean.pop((found.kind, found.name), (0.0, math.inf))
        if found.status != "within" or abs(measured) <= allowed:
            return found
        return replace(
            found,
            status="over",
            channel=None,
            channel_share=abs(measured) / allowed,
            note=NOTE.format(measured, allowed),
        )

    def _suspected(self, wanted: Expected, suspect: _Suspect | None) -> None:
        key: Key = (wanted.kind, wanted.name)
        if suspect is None or not may_be_meant(self._found[key]) or not everywhere(wanted, self._trace[key]):
            return
        suspect = replace(suspect, key=key)
        if key[0] in FORWARD:
            self._suspects += [suspect] if len(self._suspects) < HINTS else []
        else:
            self._late_suspects.append(suspect)

    def _hint(self) -> None:
        """Says of the first few that are over which option of a profile would allow them; the status stays as it is."""
        for suspect in (*self._suspects, *self._late_suspects):
            found, allowing = self._found[suspect.key], []
            for more in self._profile.with_more():
                made = self._makes(suspect.layer, suspect.feed, rounding_of(more))
                [wanted] = [each for each in made if _role(suspect.layer, each) == suspect.role]
                if judge_local(wanted, self._trace[suspect.key]).agrees:
                    allowing.append(more)
            if allowing and found.status == "over":
                told = "; ".join(filter(None, (found.difference, hint(allowing))))
                self._found[suspect.key] = replace(found, difference=told)

    def _passed(self, layer: Layer, feed: Feed) -> Array:
        """The gradient behind a ReLU: where the subject's own output is above zero, or else its input."""
        output = self._known("activation", layer.name)
        assert feed.gradient is not None
        passed = (feed.inputs[0] if output is None else output) > 0
        return np.where(passed, feed.gradient.astype(np.float64), 0.0)

    def _sum(self, layer: Layer, ends: tuple[Array, ...], gradient: Array | None) -> None:
        wanted = expected_sum(layer, (ends[0], ends[1]), self._rounding)
        unit = mean_square(self._rounding.store)
        wide = [each.astype(np.float64) for each in ends]
        deviation = _both(wanted.deviation, Deviation(unit * sum(each**2 for each in wide)))
        self._judge(replace(wanted, deviation=deviation), dict(zip(layer.inputs, ends, strict=True)))
        if gradient is None:
            return
        dy = gradient.astype(np.float64)
        own = unit * (dy * dy + (self._rounding.least / self._rounding.store) ** 2)
        if layer.relu:
            output, total = self._known("activation", layer.name), wide[0] + wide[1]
            passed = (total if output is None else output) > 0
            if output is None:
                # One rounding of the ends may move their sum across zero: either side is then the subject's own.
                near = np.abs(total) <= self._rounding.store * (np.abs(wide[0]) + np.abs(wide[1]))
                own = np.where(near, dy * dy, own)
            dy = np.where(passed, dy, 0.0)
        for name in layer.inputs:
            self._add(name, _Part(dy, Deviation(own), layer.name, gradient))

    def _add(self, name: str, part: _Part, suspect: _Suspect | None = None) -> None:
        """One more consumer's gradient; the last one makes the sum, which is then judged."""
        parts = self._parts.setdefault(name, [])
        parts.append(part)
        key: Key = ("activation_gradient", name)
        if len(parts) < self._takers.get(name, 0) or name == IMAGE or key not in self._trace:
            return
        del self._parts[name]
        exact = np.sum([each.exact for each in parts], axis=0)
        deviation = parts[0].deviation
        for each in parts[1:]:
            deviation = _both(deviation, each.deviation)
        if len(parts) > 1:
            magnitude = np.sum([np.abs(each.exact) for each in parts], axis=0)
            coarsest = max(self._rounding.sums, self._rounding.store)
            deviation = _both(deviation, Deviation(plain_chain(coarsest, len(parts) - 1, magnitude)))
        wanted = Expected("activation_gradient", name, exact, deviation, 1 if exact.ndim == 4 else None)
        # A kernel that does nothing hands its output's gradient back; one consumer's part may be all there is.
        known = {each.consumer: each.gradient for each in parts if each.gradient is not None}
        if len(parts) > 1:
            known |= {f"what {each.consumer} hands back": each.exact for each in parts}
        self._judge(wanted, known, suspect if len(parts) == 1 else None)
        pooled = parts[0].pooled
        if pooled is not None and len(parts) == 1 and self._found[key].status == "over":
            again = judge_ties(wanted, self._trace[key], *pooled, self._rounding)
            if again is not None:
                self._found[key] = replace(again, view="own")


def _both(one: Deviation, other: Deviation) -> Deviation:
    return Deviation(one.own + other.own, one.shared + other.shared, one.bias + other.bias)


def _role(layer: Layer, each: Expected) -> str:
    """Which of a layer's tensors: ``output``, ``input`` (its gradient) or a parameter's or statistic's own name."""
    if each.kind == "activation_gradient":
        return "input"
    return "output" if each.name == layer.name else each.name.removeprefix(f"{layer.name}.")


# -- one rounding of the inputs ----------------------------------------------------------------------------------------


def input_deviations(layer: Layer, feed: Feed, made: Sequence[Expected], rounding: Rounding) -> Mapping[str, Deviation]:
    """What one rounding of everything that an operation takes does to everything that it makes, to first order.

    Args:
        layer: which operation.
        feed: what it takes.
        made: what it makes.
        rounding: whose ``store`` rounds it.

    Returns:
        By ``output``, ``input`` (the gradient of it) and each parameter's or statistic's name, the variances.
    """
    wide = Feed(
        tuple(each.astype(np.float64) for each in feed.inputs),
        None if feed.gradient is None else feed.gradient.astype(np.float64),
        {name: value.astype(np.float64) for name, value in feed.parameters.items()},
        feed.labels,
        feed.training,
    )
    # Below the smallest normal number a rounding no longer shrinks with what it rounds: as if all were larger by that.
    floor = rounding.least / rounding.store
    found = _INPUTS[layer.op](
        layer, wide, {_role(layer, each): each for each in made}, mean_square(rounding.store), floor
    )
    if layer.op not in ("conv", "linear") or rounding.store <= rounding.sums or not _is_small(wide, rounding):
        return found
    larger = replace(
        wide,
        inputs=tuple(np.hypot(each, floor) for each in wide.inputs),
        gradient=None if wide.gradient is None else np.hypot(wide.gradient, floor),
    )
    remade = {_role(layer, each): each for each in expected(layer, larger, rounding)}
    return _INPUTS[layer.op](layer, larger, remade, mean_square(rounding.store), floor)


def _is_small(feed: Feed, rounding: Rounding) -> bool:
    """Whether what an operation takes is so near the storage type's smallest normal number that this shows."""
    least = 64 * rounding.least / rounding.store
    taken = (*feed.inputs, *([] if feed.gradient is None else [feed.gradient]))
    return any(float(np.vdot(each, each)) < least**2 * each.size for each in taken)


def _of_conv(layer: Layer, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """A sum of products: each product moves by the rounding of either factor."""
    return {role: _product(unit * each.squares) for role, each in made.items() if each.squares is not None}


def _product(variance: Array) -> Deviation:
    """Of the two factors' errors one is shared by the elements of a channel (a weight's by all positions, that of a
    gradient by all weights of its output channel)."""
    return Deviation(variance, variance)


def _of_linear(layer: Layer, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    found = _of_conv(layer, feed, made, unit, floor)
    found["output"] = _both(found["output"], _product(unit * np.square(feed.parameters["bias"])))
    if feed.gradient is not None:
        found["bias"] = Deviation(unit * np.square(feed.gradient).sum(0))
    return found


def _of_norm(layer: Layer, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """``y = gamma * scale * (x - mean) + beta``. An element moves by its own rounding, and with its whole channel as
    the rounding of all of them (in training), or that of the stored statistics, moves the mean and the scale."""
    [x], dy = feed.inputs, feed.gradient
    axes, count = (0, 2, 3), x.size // x.shape[1]
    gamma, beta, running_mean, running_var = (
        feed.parameters[name].reshape(1, -1, 1, 1) for name in ("weight", "bias", "running_mean", "running_var")
    )
    if feed.training:
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        centred = x - mean
        of_mean = unit * np.square(x).mean(axes, keepdims=True) / count
        of_var = 4 * unit * np.square(centred * x).mean(axes, keepdims=True) / count
    else:
        mean, var, centred = running_mean, running_var, x - running_mean
        of_mean, of_var = unit * mean * mean, unit * var * var
    scale = 1 / np.sqrt(var + EPS)
    of_scale = of_var * scale**4 / 4  # relative
    if feed.training:
        # To second order, rounding makes the variance larger by that of the roundings themselves.
        of_scale = of_scale + np.square(unit * np.square(x).mean(axes, keepdims=True) * scale**2 / 2)
    factor = gamma * scale
    shared = np.square(factor) * of_mean + np.square(factor * centred) * (of_scale + unit) + unit * beta * beta
    found = {"output": Deviation(unit * np.square(factor * x), shared)}
    if feed.training:
        correction = count / max(1, count - 1)
        found["running_mean"] = Deviation((of_mean + unit * running_mean**2).reshape(-1))
        found["running_var"] = Deviation((correction**2 * of_var + unit * running_var**2).reshape(-1))
    if dy is None:
        return found
    xhat = centred * scale
    of_xhat = unit * np.square(scale * x)
    sum_dy, sum_dyx = dy.sum(axes, keepdims=True), (dy * xhat).sum(axes, keepdims=True)
    squares = np.square(dy) + floor**2
    of_sum_dy = unit * squares.sum(axes, keepdims=True)
    of_sum_dyx = (squares * (unit * np.square(xhat) + of_xhat)).sum(axes, keepdims=True)
    of_sum_dyx = of_sum_dyx + of_scale * sum_dyx**2 + of_mean * np.square(scale * sum_dy)
    along = sum_dyx / count
    dx = factor * (dy - sum_dy / count - xhat * along)
    own = np.square(factor) * (unit * squares + np.square(along) * of_xhat)
    shared = of_sum_dy / count**2 + np.square(xhat / count) * of_sum_dyx
    shared = shared + np.square(along) * (of_mean * scale**2 + np.square(xhat) * of_scale)
    found["input"] = Deviation(own, np.square(factor) * shared + dx * dx * (of_scale + unit))
    found["weight"] = Deviation(of_sum_dyx.reshape(-1))
    found["bias"] = Deviation(of_sum_dy.reshape(-1))
    return found


def _of_selection(layer: Layer, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """What selects rounds nothing: results are inputs, each rounded once."""
    [x], dy = feed.inputs, feed.gradient
    found = {"output": Deviation(unit * np.square(made["output"].exact))}
    if dy is None:
        return found
    if layer.op == "max pool":
        squares = replace(feed, gradient=np.square(dy))
        moved = {each.kind: each.exact for each in expected(layer, squares, ROUNDINGS["float64"])}
        return {**found, "input": Deviation(unit * moved["activation_gradient"])}
    return {**found, "input": Deviation(unit * (np.square(dy) + floor**2).reshape(x.shape))}


def _of_average(layer: Layer, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    [x], dy = feed.inputs, feed.gradient
    pixels = x.shape[2] * x.shape[3]
    found = {"output": Deviation(unit * np.square(x).mean((2, 3), keepdims=True) / pixels)}
    if dy is not None:
        found["input"] = Deviation(0.0, np.broadcast_to(unit * np.square(dy / pixels), x.shape))
    return found


def _of_loss(layer: Layer, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """The loss moves by ``sum(dz * e)``, ``e`` being the errors of ``z``; a probability by ``p * (e - sum(p * e))``."""
    [z] = feed.inputs
    rows = z.shape[0]
    powers = np.exp(z - z.max(1, keepdims=True))
    probability = powers / powers.sum(1, keepdims=True)
    wanted = np.zeros_like(z)
    wanted[np.arange(rows), feed.labels] = 1.0
    of_loss = unit * np.square((probability - wanted) / rows * z).sum()
    together = np.square(probability * z).sum(1, keepdims=True)
    return {
        "output": Deviation(np.array(of_loss)),
        "input": Deviation(unit * np.square(probability / rows) * (z * z + together)),
    }


_INPUTS: dict[str, Callable[[Layer, Feed, Made, float, float], dict[str, Deviation]]] = {
    "conv": _of_conv,
    "linear": _of_linear,
    "norm": _of_norm,
    "relu": _of_selection,
    "max pool": _of_selection,
    "average pool": _of_average,
    "flatten": _of_selection,
    "loss": _of_loss,
}
