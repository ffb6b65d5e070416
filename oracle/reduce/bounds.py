"""What a sub-graph should make of its inputs, and how far each element of it may be from that.

lucid traces the sub-graph in float64 (`lucid.onnx.load`). Its operations are run in PyTorch's primitive operations
(`oracle.operations.traced`), several times with every one of these disturbed as a healthy implementation's rounding may
disturb it (`oracle.budget.parts`), and the disturbed values go on through the sub-graph: the budget of an element is a
multiple of the spread that this causes. An operation that the oracle does not know is lucid's own, in float64, with its
operands and its result disturbed by the square root of as many terms as it may sum.

What decides by rounding or comparing (``round``, a quantisation) may decide otherwise in a healthy run: what follows
from a decision that disturbances larger by `FLIPPED` change is granted what comes of these. Integers are exact, but
where they may be decided otherwise.
"""

from __future__ import annotations

import hashlib
import math
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from torch import Tensor

import lucid
from lucid.backends import backend_for
from lucid.graph import Node as Step
from lucid.graph import trace
from lucid.onnx import load
from oracle.budget.driven import Disturbance, Roundoff
from oracle.budget.parts import DisturbedParts
from oracle.budget.single import DISTURBED, MARGIN
from oracle.errors import UsageError
from oracle.operations.traced import FUNCTIONS
from oracle.precision.profile import Profile
from oracle.precision.rounding import FUNCTION_ROUNDINGS, REACH, Rounding, mean_square, rounding_of
from oracle.reduce.cutting import Array, Arrays

RUNS = 8
FEWER_RUNS, LARGE = 4, 2**21  # of a sub-graph whose values have more elements than that
UNJUDGED = 0.3  # a budget above that part of its tensor says nothing where the tensor is within
FLIPPED = 2.0**6
JUMPS = 2.0  # of what flips make in disturbed runs, which have many more of them
MOST_TERMS = 2.0**12
_STEPS = (
    "round",
    "floor",
    "ceil",
    "trunc",
    "sign",
    "greater",
    "less",
    "equal",
    "not_equal",
    "isinf",
    "isnan",
    "arg",
    "quantize",
)
_EXACT = ("max_pool", "amax", "sort", "topk", "adaptive_max")


class Expected(NamedTuple):
    """By output, what it should be in float64, and what each element may be off by."""

    exact: dict[str, Array]
    budget: dict[str, Array]


class Verdict(NamedTuple):
    """One output of a subject.

    Args:
        used: the most that an element is off by, over its budget; infinite where it is no number, or of another shape.
        place: which element that is.
        judged: whether the budget is small enough for agreement to mean something.
    """

    used: float
    place: tuple[int, ...]
    judged: bool

    @property
    def agrees(self) -> bool:
        """Whether every element is within its budget."""
        return self.used <= 1.0


def expected_of(model: onnx.ModelProto, inputs: Arrays, precision: str | Profile = "float32") -> Expected:
    """What a model should return, and what each element may be off by.

    Raises:
        Exception: lucid cannot read or trace the model; of whatever type.
    """
    module = load(model).double()
    given = {name: _widened(inputs[name]) for name in module.input_names}
    graph = trace(module, *(lucid.tensor(array) for array in given.values()))
    start: dict[str, Any] = {name: torch.from_numpy(np.array(array)) for name, array in graph.initializers.items()}
    start |= {name: torch.from_numpy(array) for name, array in zip(graph.inputs, given.values(), strict=True)}
    names = dict(zip(module.output_names, graph.outputs, strict=True))
    confirmed = _run(graph.nodes, start)
    size = sum(each.numel() for each in confirmed.values())
    rounding = rounding_of(precision)
    deciding = any(_decides(step) for step in graph.nodes)
    magnified = FLIPPED if deciding else max(1.0, DISTURBED / rounding.store)
    roundoff = Roundoff(
        rounding.store, rounding.operand, rounding.sums, 0.0, 2 * rounding.least, rounding.between, rounding.truncated
    ).times(magnified)
    kept = {name: confirmed[value].numpy() for name, value in names.items()}
    totals = {name: np.zeros(value.shape) for name, value in kept.items()}
    jumps = {name: np.zeros(value.shape) for name, value in kept.items()}
    count = RUNS if size <= LARGE else FEWER_RUNS
    for seed in range(count):
        drawn = int.from_bytes(hashlib.sha256(f"reduce/{seed}".encode()).digest()[:16], "little")
        disturb = Disturbance(roundoff, np.random.Generator(np.random.SFC64(drawn)))
        made, flipped = _disturbed(graph.nodes, start, disturb, confirmed)
        for name, total in totals.items():
            with np.errstate(invalid="ignore"):
                off = made[names[name]].numpy().astype(np.float64) - kept[name]
            if names[name] in flipped:
                jumps[name] = np.maximum(jumps[name], np.abs(_finite(off)))
            else:
                total += np.square(_finite(off) / magnified) / count
    budgets = {name: _budget(total, jumps[name], kept[name], rounding) for name, total in totals.items()}
    exact = _by_lucid_alone(module, given)
    for name, budget in budgets.items():
        if not judge(kept[name], exact[name], budget).agrees:
            raise UsageError(f"model: lucid and PyTorch, both in float64, make different things of {name!r}")
    return Expected(exact, budgets)


def _budget(total: Array, jumps: Array, exact: Array, rounding: Rounding) -> Array:
    """Of each element, from what disturbed runs show of its variance and, where decisions flipped, of its jumps.

    Integers are exact, but where they may flip.
    """
    if exact.dtype.kind != "f":
        return np.where(total + jumps > 0, np.inf, 0.0)
    once = mean_square(max(rounding.store, rounding.sums)) * np.square(_finite(exact))
    variance = MARGIN**2 * (total + _over_channel(np.mean, total)) + once + mean_square(rounding.least)
    budget: Array = REACH * np.sqrt(variance) + JUMPS * _over_channel(np.max, jumps)
    return budget


def _by_lucid_alone(module: Any, given: Arrays) -> dict[str, Array]:
    with lucid.no_grad():
        made = module(**given)
    values = made if isinstance(made, tuple) else (made,)
    arrays = (value.numpy() if isinstance(value, lucid.Tensor) else value for value in values)
    return {name: np.asarray(array) for name, array in zip(module.output_names, arrays, strict=True)}


def _decides(step: Step) -> bool:
    """Whether an operation rounds or compares."""
    if step.op == "cast":
        return np.dtype(step.attrs["dtype"]).kind != "f"
    return step.op.startswith(_STEPS)


def judge(made: Any, exact: Array, budget: Array) -> Verdict:
    """One output, beside what it should be."""
    array = np.asarray(made)
    if array.shape != exact.shape or array.dtype.kind not in "fiub":
        return Verdict(math.inf, (), True)
    if exact.size == 0:
        return Verdict(0.0, (), True)
    exact = exact.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        true = np.where(np.abs(exact) > np.finfo(np.float32).max, np.sign(exact) * np.inf, exact)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.abs(array.astype(np.float64) - exact) / budget
    same = (array == true) | (np.isnan(array) & np.isnan(true))
    off = np.where(same, 0.0, np.where(np.isfinite(off), off, np.inf))
    place = np.unravel_index(int(np.argmax(off)), off.shape)
    finite = exact[np.isfinite(exact)]
    scale = float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
    judged = scale == 0.0 or float(np.median(budget)) <= UNJUDGED * scale
    return Verdict(float(off[place]), tuple(int(each) for each in place), judged)


# -- one run -----------------------------------------------------------------------------------------------------------


def _run(steps: Sequence[Step], start: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every value, in float64."""
    values: dict[str, Any] = dict(start)
    with torch.no_grad():
        for step in steps:
            values[step.output] = _made(step, values, None)
    return values


def _disturbed(
    steps: Sequence[Step], start: Mapping[str, Any], disturb: Disturbance, exact: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """Every value, disturbed, and which of them follow from one that was decided otherwise."""
    values: dict[str, Any] = dict(start)
    flipped: set[str] = set()
    with torch.no_grad():
        for step in steps:
            made = values[step.output] = _made(step, values, disturb)
            if flipped.intersection(step.inputs) or (_decides(step) and not torch.equal(made, exact[step.output])):
                flipped.add(step.output)
    return values, flipped


def _made(step: Step, values: MutableMapping[str, Any], disturb: Disturbance | None) -> Tensor:
    operands = [None if name is None else values[name] for name in step.inputs]
    function = FUNCTIONS.get(step.op)
    if function is not None:
        if disturb is None:
            return _tensor(function(*operands, **step.attrs))
        with DisturbedParts(disturb):
            made = _tensor(function(*operands, **step.attrs))
        return made + _off_place(step, operands[0], disturb) if step.op == "interpolate" else made
    if step.body:
        inner: MutableMapping[str, Any] = ChainMap({}, values)
        for part in step.body:
            inner[part.name] = _made(part, inner, disturb)
        return _tensor(inner[step.body[-1].name])
    return _by_lucid(step, operands, disturb)


def _off_place(step: Step, x: Any, disturb: Disturbance) -> Tensor:
    """What places rounded to float32 do to an image of another size: so much of the way to the neighbouring pixels."""
    found = torch.zeros(())
    for axis in range(2, x.ndim):
        side = x.shape[axis]
        steps = torch.diff(x, dim=axis, append=x.narrow(axis, side - 1, 1)).abs()
        far = torch.maximum(steps, steps.roll(1, axis))
        found = found + FUNCTIONS[step.op](far, **step.attrs) * (disturb.roundoff.sums * side)
    return found * disturb.values(tuple(found.shape))


def _by_lucid(step: Step, operands: Sequence[Any], disturb: Disturbance | None) -> Tensor:
    """An operation that the oracle does not know, by lucid's own kernel; disturbed in what it takes and makes."""
    floats = [each for each in operands if each is not None and each.is_floating_point()]
    unit = 0.0
    if disturb is not None and floats and not step.op.startswith(_EXACT) and not _decides(step):
        largest = max(floats, key=Tensor.numel)
        terms = min(MOST_TERMS, max(1.0, largest.numel() / max(1, largest.shape[0] if largest.ndim else 1)))
        unit = disturb.roundoff.sums * FUNCTION_ROUNDINGS * math.sqrt(terms)
    given = [
        None
        if each is None
        else (disturb.relative(each, unit) if disturb is not None and each.is_floating_point() else each).numpy()
        for each in operands
    ]
    made = torch.from_numpy(np.array(step.function.forward(backend_for("cpu"), *given)))
    return disturb.relative(made, unit) if disturb is not None and made.is_floating_point() else made


def _tensor(value: Any) -> Tensor:
    made: Tensor = value
    return made.double() if made.is_floating_point() else made


def _widened(array: Array) -> Array:
    return np.array(array, np.float64) if array.dtype.kind == "f" else np.array(array)


def _over_channel(of: Callable[..., Any], array: Array) -> Array:
    """The mean or largest of each channel (axis 1), or of all where there is none."""
    axes = tuple(axis for axis in range(array.ndim) if axis != 1 or array.ndim < 3)
    found: Array = np.broadcast_to(of(array, axes, keepdims=True) if array.size else 0.0, array.shape)
    return found


def _finite(array: Array) -> Array:
    """With 0 for what is no number."""
    return np.where(np.isfinite(array), array, 0.0)
