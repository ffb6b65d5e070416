"""Numbers that know how far a healthy computation may be from them.

An operation of a kernel check is written once, in `Bounded` numbers: their float64 values are the truth, and beside
each value stands a bound of what a healthy kernel may have there instead. Bounds grow as errors do, to first order and
never by luck: an addition rounds once and hands on what its terms had; a product scales it; a sum of K terms may be
added in any order; a function (exp, log, erf) may be off by as much as vendors' libraries state.

What the *last* operation rounds is kept apart (``pending``): a kernel that computes in float32 and stores in bfloat16
rounds to float32 and then once more, and one that stores what it computes in rounds once. So a result that one
operation makes (a sum of two numbers, a square root) has one right answer, and a truncated one is seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from oracle.precision.rounding import REACH, growth

Array = np.ndarray[Any, Any]
Axes = int | tuple[int, ...] | None

# Roundings that one function may cost: of a correctly rounded result there is one. NumPy states 2.52 units in the last
# place for its float32 exp and 3.83 for its log (two roundings each), more than others' vector libraries.
FUNCTION_ROUNDINGS, LOG_ROUNDINGS = 6.0, 8.0


@dataclass(frozen=True)
class Arithmetic:
    """How a healthy kernel computes.

    Args:
        unit: unit roundoff of what it computes in between loading and storing.
        sums: unit roundoff of partial sums.
        stored: unit roundoff of what it stores.
        factors: unit roundoff by which a contraction's factors are shortened (TF32), or 0.
        products: unit roundoff of a contraction's partial sums, where matrix units cut them off.
        between: unit roundoff of sums over a batch, and over the windows that an element is in, where those are added
            up where gradients are stored; or 0.
        least: half the distance of the smallest numbers it computes with.
        tiny: half the distance of the smallest numbers it stores.
        alike: whether terms of a sum may be rounded all to one side, as equal terms are: sums then may be off by as
            many roundings as they have terms, instead of by what independent roundings amount to.
        grid: how many different numbers inputs have between a power of two and the next.
        whole: whether all inputs are small whole numbers, whose sums and products are exact in any order.
        tiles: side of the tiles of Winograd's algorithm, if declared.
        one_pass: whether a variance may be a difference of two means.
        composed: whether each operation may store what it makes.
    """

    unit: float
    sums: float
    stored: float
    factors: float = 0.0
    products: float = 0.0
    between: float = 0.0
    least: float = 0.0
    tiny: float = 0.0
    alike: bool = True
    grid: float = math.inf
    whole: bool = False
    tiles: int = 0
    one_pass: bool = False
    composed: bool = False

    def constant(self, value: float) -> Bounded:
        """A constant that a kernel has rounded."""
        return self.exact(value).with_error(self.unit * abs(value))

    def exact(self, value: Any) -> Bounded:
        """A number that every kernel has as it is: an input, a constant."""
        value = np.asarray(value, np.float64)
        return Bounded(self, value, np.zeros(value.shape), np.zeros(value.shape))

    def gain(self, terms: float, unit: float) -> float:
        """By what a sum of ``terms`` may be off, over the sum of its terms' magnitudes, whatever their order.

        Partial sums are at most that sum, so all errors together are at most ``terms - 1`` roundings of it. Where they
        are independent, their variance is that of `oracle.precision.rounding.plain_chain`. Of numbers on a coarse grid
        many are equal, and a kernel that sorts them adds equal ones one after the other: those are rounded alike.

        Example:
            >>> Arithmetic(1.0, 1.0, 1.0).gain(1001, 1.0), round(Arithmetic(1.0, 1.0, 1.0, alike=False).gain(1001, 1.0))
            (1000.0, 78)
        """
        if self.whole or terms <= 1:
            return 0.0
        worst = terms - 1.0
        equal = max(1.0, terms / self.grid)
        return unit * (worst if self.alike else min(worst, REACH * math.sqrt(growth(terms) * equal / 3)))


@dataclass(frozen=True)
class Bounded:
    """Values, and what a healthy kernel's may be off by.

    Args:
        of: the kernel's arithmetic.
        value: float64.
        error: what it may be off by before the last operation's own rounding.
        pending: that rounding.
    """

    of: Arithmetic
    value: Array
    error: Array
    pending: Array

    @cached_property
    def total(self) -> Array:
        """All of it."""
        return self.error + self.pending

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def _made(self, value: Any, error: Any, roundings: float = 1.0, extra: float = 0.0) -> Bounded:
        """The result of one operation that rounds ``roundings`` times, and ``extra`` times before."""
        value = np.asarray(value, np.float64)
        size = np.where(np.isfinite(value), np.abs(value), 0.0)  # an infinity is not rounded
        error = np.broadcast_to(np.asarray(error, np.float64), value.shape) + extra * self.of.unit * size
        return Bounded(self.of, value, error, roundings * self.of.unit * size + (self.of.least if roundings else 0.0))

    def _other(self, other: Any) -> Bounded:
        return other if isinstance(other, Bounded) else self.of.exact(other)

    def __add__(self, other: Any) -> Bounded:
        other = self._other(other)
        value = self.value + other.value
        return self._made(value, self.total + other.total, 0.0 if self.of.whole else 1.0)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Bounded:
        return self + -self._other(other)

    def __rsub__(self, other: Any) -> Bounded:
        return self._other(other) - self

    def __neg__(self) -> Bounded:
        return Bounded(self.of, -self.value, self.error, self.pending)

    def __mul__(self, other: Any) -> Bounded:
        other = self._other(other)
        error = _times(np.abs(self.value), other.total) + _times(np.abs(other.value) + other.total, self.total)
        return self._made(self.value * other.value, error)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Bounded:
        """A quotient, or a product with a rounded reciprocal."""
        other = self._other(other)
        value = self.value / other.value
        least = np.maximum(np.abs(other.value) - other.total, np.abs(other.value) / 2)
        error = (self.total + _times(np.abs(value), other.total)) / least
        return self._made(value, error, extra=1.0)

    def __rtruediv__(self, other: Any) -> Bounded:
        return self._other(other) / self

    def divided(self, other: Any) -> Bounded:
        """The quotient that IEEE 754 defines: rounded once."""
        made = self / other
        return Bounded(self.of, made.value, np.maximum(made.error - self.of.unit * np.abs(made.value), 0), made.pending)

    def square(self) -> Bounded:
        return self * self

    def halved(self) -> Bounded:
        """Times one half, which is exact."""
        return Bounded(self.of, self.value / 2, self.error / 2, self.pending / 2)

    def function(self, value: Array, slope: Array, roundings: float = FUNCTION_ROUNDINGS) -> Bounded:
        """A function of it, from its derivative: ``roundings`` all together, as a vendor's library states."""
        return self._made(value, _times(np.abs(slope), self.total), extra=roundings - 1)

    def exp(self) -> Bounded:
        value = np.exp(self.value)
        return self.function(value, value * np.exp(np.minimum(self.total, 1.0)))

    def log(self) -> Bounded:
        return self.function(np.log(self.value), 1 / self.value, LOG_ROUNDINGS)

    def sqrt(self, roundings: float = 2.0) -> Bounded:
        """The square root; IEEE 754 defines it, vendors' vector libraries are within one unit in the last place."""
        value = np.sqrt(self.value)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(self.total == 0, 0.0, 0.5 / value)
        return self.function(value, np.nan_to_num(slope, posinf=0.0), roundings)

    def rsqrt(self) -> Bounded:
        return self.function(1 / np.sqrt(self.value), 0.5 * self.value**-1.5)

    def maximum(self, other: Any) -> Bounded:
        """The larger, exact."""
        other = self._other(other)
        larger = self.value >= other.value
        near = np.abs(self.value - other.value) <= self.total + other.total
        value = np.maximum(self.value, other.value)
        error = np.where(near, np.maximum(self.total, other.total), np.where(larger, self.total, other.total))
        return Bounded(self.of, value, error, np.zeros(value.shape))

    def where(self, condition: Array, other: Any) -> Bounded:
        """This where ``condition`` holds, elsewhere ``other``."""
        other = self._other(other)
        pick = [np.where(condition, a, b) for a, b in zip(self.parts, other.parts, strict=True)]
        return Bounded(self.of, *pick)

    @property
    def parts(self) -> tuple[Array, Array, Array]:
        return self.value, self.error, self.pending

    def moved(self, move: Callable[[Array], Array]) -> Bounded:
        """Elements moved, chosen or repeated: exact."""
        return Bounded(self.of, *(move(part) for part in self.parts))

    def max(self, axis: Axes, keepdims: bool = False) -> Bounded:
        value = self.value.max(axis, keepdims=keepdims)
        error = self.total.max(axis, keepdims=keepdims)
        return Bounded(self.of, value, error, np.zeros(np.shape(value)))

    def sum(self, axis: Axes = None, keepdims: bool = False, terms: float | None = None) -> Bounded:
        """A sum in whatever order; of ``terms`` elements, if fewer than there are count."""
        value = self.value.sum(axis, keepdims=keepdims)
        count = self.value.size / max(1, np.size(value)) if terms is None else terms
        magnitude = np.abs(self.value).sum(axis, keepdims=keepdims)
        error = self.total.sum(axis, keepdims=keepdims)
        return self._summed(value, magnitude, error, count)

    def _summed(self, value: Array, magnitude: Array, error: Array, terms: Any) -> Bounded:
        grown = error + _times(self._gains(np.maximum(np.asarray(terms) - 1, 1), self.of.sums), magnitude)
        rounded = 0.0 if self.of.whole else 1.0
        return self._made(value, grown, rounded * (np.max(terms, initial=0) > 1))

    def _gains(self, terms: Array, unit: float) -> Array:
        return np.vectorize(lambda count: self.of.gain(count, unit), otypes=[np.float64])(terms)

    def over_batch(self, axis: Axes) -> Bounded:
        """A sum over a batch, as gradients of parameters are: perhaps added up where they are stored."""
        made = self.sum(axis)
        if not self.of.between:
            return made
        count = self.value.size / max(1, made.value.size)
        return made.with_error(self.of.gain(count, self.of.between) * np.abs(self.value).sum(axis))

    def mean(self, axis: Axes = None, keepdims: bool = False) -> Bounded:
        total = self.sum(axis, keepdims)
        return total / (self.value.size / max(1, total.value.size))

    def cumsum(self, axis: int) -> Bounded:
        count = self.value.shape[axis]
        terms = np.arange(1, count + 1).reshape(
            [-1 if each == axis % self.value.ndim else 1 for each in range(self.value.ndim)]
        )
        value, magnitude = self.value.cumsum(axis), np.abs(self.value).cumsum(axis)
        return self._summed(value, magnitude, self.total.cumsum(axis), terms if count else 1)

    def stored(self) -> Bounded:
        """What is written and read again, as a framework does between two kernels: rounded as it is stored."""
        if self.of.stored <= self.of.unit and not self.of.composed:
            return self
        size = np.abs(self.value)
        return Bounded(
            self.of, self.value, self.total + self.of.stored * size + self.of.tiny, np.zeros(self.value.shape)
        )

    def contracted(
        self, other: Bounded, form: Callable[[Array, Array], Array], terms: float, pieces: float = 1.0
    ) -> Bounded:
        """A bilinear form: sums of ``terms`` products of an element of this and one of ``other``.

        A factor that hardware shortens errs by ``factors``, and matrix units may cut partial sums off. The sum may be
        made in ``pieces`` (images, places of a window) that are added up where results are stored.
        """
        of = self.of
        value = form(self.value, other.value)
        a, b = np.abs(self.value), np.abs(other.value)
        magnitude = form(a, b)
        unit = max(of.sums, of.products)
        error = (of.gain(terms, unit) + (0.0 if of.whole else unit) * (terms > 1)) * magnitude
        if of.whole:  # what float64 leaves of an algorithm that takes other sums, such as a Fourier transform
            error = error + 2.0**-44 * magnitude
        if of.between and pieces > 1:
            error = error + 2 * of.gain(pieces + 1, of.between) * magnitude
        if of.factors and not of.whole:
            error = error + 2 * of.factors * magnitude
        for first, second in ((self.total, b), (a + self.total, other.total)):
            if np.any(first) and np.any(second):
                error = error + form(first, second)
        return self._made(value, error, 0.0 if of.whole else 1.0)

    def with_error(self, more: Array | float) -> Bounded:
        """With so much more that it may be off by."""
        return Bounded(self.of, self.value, self.error + more, self.pending)


def _times(a: Any, b: Any) -> Any:
    """A product of a bound and a size: nothing times anything, an infinity too, is nothing."""
    with np.errstate(invalid="ignore"):
        product = np.multiply(a, b)
    return np.where((np.asarray(a) == 0) | (np.asarray(b) == 0), 0.0, product)
