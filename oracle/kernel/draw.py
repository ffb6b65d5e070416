"""The values that find faults.

``normal`` values alone let most faults pass: a last column that is left out of a sum of a thousand is lost in it. So
each operation is also fed rows of which one element counts (``spike``), whole numbers, whose sums are exact in any
order (``whole``), numbers of very different size (``wide``), around a large mean (``offset``), that cancel
(``cancel``), all equal (``constant``), zeros of both signs (``zeros``), so small that an epsilon shows (``small``) or
that numbers lose digits (``subnormal``), at the ends of what is defined (``edges``), all below zero (``low``), over the
function's whole span (``span``), with infinities and NaN (``special``, ``nan``, ``masked``), and views that are not
contiguous (``strided``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from oracle.kernel.operation import Argument, KernelOperation, Shape
from oracle.precision.profile import Profile
from oracle.precision.rounding import round_to

Array = np.ndarray[Any, Any]

# Kinds whose values differ at random, so that roundings of sums are independent; and those of small whole numbers.
RANDOM = ("normal", "strided", "small")
WHOLE = "whole"
NOT_FINITE = ("special", "nan", "masked", "edges")
INTEGER_RANGE = (-127, 128)
# The exponents of the smallest normal numbers.
_LEAST = {"float64": -1022, "float32": -126, "tf32": -126, "bfloat16": -126, "float16": -14, "int8": 0}


def draw_integers(shape: Shape, rng: Any) -> Array:
    """8-bit whole numbers, those at the ends of their range among them."""
    return rng.integers(*INTEGER_RANGE, shape).astype(np.float64)


@dataclass(frozen=True)
class Drawing:
    """One input that is drawn.

    Args:
        operation: whose.
        argument: which of its inputs; ``place`` counts them.
        shape: with an axis at least.
        axis: along which rows lie.
        profile: what stores it.
        rng: a generator of its own.
    """

    operation: KernelOperation
    argument: Argument
    place: int
    shape: Shape
    axis: int
    profile: Profile
    rng: Any

    def values(self, kind: str) -> Array:
        """Float64 numbers that the precision can store; labels are whole."""
        if self.argument.role == "label":
            return self.rng.integers(0, 1 << 30, self.shape)
        values = self._of_kind(kind)
        if self.argument.role == "positive" and kind not in ("span", "edges"):
            small = kind == "small"
            values = np.exp2(self.rng.uniform(-20, -10, self.shape)) if small else np.abs(values) + 2.0**-4
        if kind in ("wide", "span"):
            values = np.clip(values, -1e300, 1e300)
        with np.errstate(over="ignore"):
            return np.asarray(round_to(values, self.profile), np.float64)

    def _of_kind(self, kind: str) -> Array:
        rng, shape, role, span = self.rng, self.shape, self.argument.role, self.operation.span
        normal = rng.standard_normal(shape)
        if role == "scale":
            normal = 1.0 + normal / 4
        if role == "fraction":
            normal = 0.9 * np.tanh(normal)
        if kind == WHOLE:
            return rng.integers(-4, 5, shape).astype(np.float64)
        if kind == "edges":
            return _scattered(*self.operation.edges)(np.abs(normal) + 0.5, self.axis, rng)
        if kind == "zeros" and role == "distinct":  # windows of nothing but zeros below zero among them
            return np.where(rng.random(shape) < 0.8, -0.0, np.where(rng.random(shape) < 0.3, 0.0, -1.0))
        if kind == "zeros":
            choice = rng.integers(0, 4, shape)
            return np.where(choice == 0, 0.0, np.where(choice == 1, -0.0, normal))
        if kind == "span":
            return np.exp2(rng.uniform(*np.log2(span), shape)) if role == "positive" else rng.uniform(*span, shape)
        if kind == "wide" and role in ("data", "weight"):
            return np.copysign(np.exp2(rng.uniform(-10, 10, shape)), normal)
        if kind == "subnormal" and role in ("data", "weight") and self.place == 0:
            return normal * 2.0 ** (_LEAST[self.profile.base] - 2)
        if role == "distinct" and kind in ("normal", "strided"):
            return _distinct(shape, self.profile, rng)
        special = None if self.place else _SPECIAL.get(kind)
        return normal if special is None else special(normal, self.axis, rng)


def _distinct(shape: Shape, profile: Profile, rng: Any) -> Array:
    """Different numbers in each plane, so that no two are equal: where there are that many."""
    count = math.prod(shape[2:])
    unit = profile.format.stored
    few = int(min(count, 4 / unit)) or 1
    steps = np.sort(np.unique(np.asarray(round_to(np.linspace(0.25, 8.0, 4 * few), profile), np.float64)))
    steps = np.concatenate([-steps[::-1], steps])
    planes = math.prod(shape[:2])
    chosen = [rng.permutation(np.resize(rng.permutation(steps), count)) for _ in range(planes)]
    return np.reshape(chosen, shape) if planes else np.zeros(shape)


def _spike(normal: Array, axis: int, rng: Any) -> Array:
    """In each row one element that counts: in the first the last, in the second the first, then any."""
    values = normal / 64
    length = values.shape[axis]
    if values.size == 0:
        return values
    rows = np.moveaxis(values, axis, -1)
    count = rows.size // length
    places = rng.integers(0, length, count)
    places[0] = length - 1
    places[1:2] = 0
    flat = rows.reshape(count, length).copy()
    flat[np.arange(count), places] = 8.0
    return np.moveaxis(flat.reshape(rows.shape), -1, axis)


def _cancelling(normal: Array, axis: int, rng: Any) -> Array:
    """Each number and its opposite, and a little more."""
    rows = np.moveaxis(normal, axis, -1)
    half = rows.shape[-1] // 2
    rows = rows.copy()
    rows[..., half : 2 * half] = -rows[..., :half]
    rows = rows[..., rng.permutation(rows.shape[-1])] * 16 + rng.standard_normal(rows.shape) / 16
    return np.moveaxis(rows, -1, axis)


def _constant(normal: Array, axis: int, rng: Any) -> Array:
    return np.broadcast_to(np.take(normal, [0], axis), normal.shape).copy() if normal.shape[axis] else normal


def _scattered(*numbers: float) -> Any:
    def put(normal: Array, axis: int, rng: Any) -> Array:
        if normal.size < 4:
            return normal
        flat = normal.copy().reshape(-1)
        flat[rng.choice(flat.size, min(len(numbers), flat.size // 4), replace=False)] = numbers[: flat.size // 4]
        return flat.reshape(normal.shape)

    return put


def _masked(normal: Array, axis: int, rng: Any) -> Array:
    """Minus infinity in places, as attention masks have it; in no row everywhere."""
    hidden = rng.random(normal.shape) < 0.4
    if normal.shape[axis]:
        first = [slice(None)] * normal.ndim
        first[axis] = slice(0, 1)
        hidden[tuple(first)] = False
    return np.where(hidden, -np.inf, normal)


_SPECIAL = {
    "spike": _spike,
    "offset": lambda normal, axis, rng: normal + 100.0,
    "cancel": _cancelling,
    "constant": _constant,
    "small": lambda normal, axis, rng: normal * 3e-3,
    "low": lambda normal, axis, rng: normal - 8.0,
    "special": _scattered(math.nan, math.inf, -math.inf),
    "nan": _scattered(math.nan, math.nan),
    "masked": _masked,
}
