"""An exact ``fma(a, b, c)``, ``a * b + c`` with one rounding, in NumPy alone.

Float32: the product is exact in float64; the sum is not, so its rounding error is recovered and the sum rounded to odd,
after which the second rounding, to float32, cannot go wrong. Float64: the same idea on error-free transformations
(Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
Transactions on Computers 57, 2008), where no intermediate can overflow or underflow; elsewhere rational arithmetic.

``fma`` is the definition. ``chain`` runs many of them in a row, with buffers that stay in cache and shortcuts that are
taken only where they are proved to give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Array = Any

# Outside these bounds the float64 transformations below might overflow, or lose the low end of a product.
LARGEST_FACTOR, LARGEST_TERM, SMALLEST_PRODUCT = 2.0**990, 2.0**1000, 2.0**-900
# No float32 product below this one: then a sum that is subnormal in float32 is exact in float64 (see _chain32).
SMALLEST_PRODUCT32 = 2.0**-120
SPLITTER = 2.0**27 + 1  # Veltkamp's constant for a 53-bit significand


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``(s, e)``: the rounded sum and its exact error, ``s + e == a + b`` (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def split(a: Array) -> tuple[Array, Array]:
    """``(high, low)``, ``a == high + low``, of 26 bits each (Veltkamp)."""
    t = SPLITTER * a
    high = t - (t - a)
    return high, a - high


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """``(p, e)``: the rounded product and its exact error (Dekker)."""
    (a_high, a_low), (b_high, b_low) = split(a), split(b)
    p = a * b
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def round_to_odd(a: Array, b: Array) -> Array:
    """``a + b`` in float64, rounded to odd: where inexact, the neighbour of the sum whose last bit is 1."""
    s, error = two_sum(a, b)
    bits = s.view(np.int64)
    move = (error != 0) & (bits & 1 == 0) & np.isfinite(s)
    return np.where(move, bits + np.where((error > 0) == (s > 0), 1, -1), bits).view(np.float64)


@np.errstate(all="ignore")
def fma(a: Array, b: Array, c: Array) -> Array:
    """``a * b + c`` with one rounding, for arrays of one dtype (float32 or float64) that broadcast together."""
    shape = np.broadcast_shapes(a.shape, b.shape, c.shape)
    a, b, c = (np.atleast_1d(operand) for operand in (a, b, c))
    if a.dtype == np.float32:
        a, b, c = (operand.astype(np.float64) for operand in (a, b, c))
        return round_to_odd(a * b, c).astype(np.float32).reshape(shape)
    return _fma64(*np.broadcast_arrays(a, b, c)).reshape(shape)


def _fma64(a: Array, b: Array, c: Array) -> Array:
    product = np.abs(a * b)
    safe = (np.abs(a) <= LARGEST_FACTOR) & (np.abs(b) <= LARGEST_FACTOR) & (np.abs(c) <= LARGEST_TERM)
    safe &= (product <= LARGEST_TERM) & ((product >= SMALLEST_PRODUCT) | (a == 0) | (b == 0))
    high, low = two_product(a, b)
    result = _sum_of_three(high, low, c)
    result = np.where(result == 0, high + c, result)  # an exact zero: the transformations lose its sign
    finite = np.isfinite(a) & np.isfinite(b)
    result = np.where(finite & np.isfinite(c), result, np.where(finite, c, a * b + c))
    for i in map(tuple, np.argwhere(~safe & finite & np.isfinite(c))):
        result[i] = _fma_of_numbers(float(a[i]), float(b[i]), float(c[i]))
    return result


def _sum_of_three(high: Array, low: Array, c: Array) -> Array:
    """``high + low + c`` with one rounding, for an unevaluated sum ``high + low`` (Boldo and Melquiond, figure 3)."""
    t_high, t_low = two_sum(c, low)
    v_high, v_low = two_sum(high, t_high)
    return v_high + round_to_odd(t_low, v_low)


def _fma_of_numbers(a: float, b: float, c: float) -> float:
    """Any three finite numbers, by exact rational arithmetic; Python's division of integers rounds once."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:  # then a * b is exact, too, or a zero of the right sign
        return a * b + c
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@np.errstate(all="ignore")
def chain(a: Array, b: Array, live: Sequence[int]) -> Array:
    """``s = fma(a[i], b[i], s)`` from ``s = +0``, ``i`` ascending; step ``i`` is for the first ``live[i]`` rows only.

    ``a`` and ``b`` are ``(steps, rows, ...)``, of one dtype, and their steps broadcast together to the shape of ``s``.
    """
    a_least, a_most = _bounds(a)
    b_least, b_most = _bounds(b)
    single = a.dtype == np.float32
    if single and a_least * b_least >= SMALLEST_PRODUCT32:
        return _chain32(a, b, live)
    in_range = a_most <= LARGEST_FACTOR and b_most <= LARGEST_FACTOR and len(live) * a_most * b_most <= LARGEST_TERM
    if not single and in_range and a_least * b_least >= SMALLEST_PRODUCT:
        return _chain64(a, b, live)
    total = np.zeros(np.broadcast_shapes(a.shape[1:], b.shape[1:]), a.dtype)
    for i, rows in enumerate(live):
        total[:rows] = fma(a[i, :rows], b[i, :rows], total[:rows])
    return total


def _bounds(a: Array) -> tuple[float, float]:
    """Least (of those that are not zero) and greatest magnitude; NaN where there is a NaN."""
    magnitude = np.abs(a)
    least = magnitude.min(where=magnitude > 0, initial=np.inf)
    return float(least), float(magnitude.max(initial=0))


def _chain32(a: Array, b: Array, live: Sequence[int]) -> Array:
    """``chain`` for float32 with no tiny product.

    ``float32(float64(p + c))``, twice rounded, differs from the fma only where the float64 sum was rounded onto a tie
    between two float32 neighbours: its low 29 bits are then 1 and 28 zeros. Those elements go through round_to_odd. The
    ties between subnormal neighbours look different, but there the sum was exact: ``p`` and ``c`` are multiples of
    2**-167, so a sum under 2**-126 has less than 53 bits.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    shape = np.broadcast_shapes(a.shape[1:], b.shape[1:])
    totals = np.zeros(shape)  # float32 values, held as float64
    products, sums, low_bits = np.empty(shape), np.empty(shape), np.empty(shape, np.int64)
    narrowed, ties = np.empty(shape, np.float32), np.empty(shape, bool)
    for i, rows in enumerate(live):
        c, p, s, tie = totals[:rows], products[:rows], sums[:rows], ties[:rows]
        np.multiply(a[i, :rows], b[i, :rows], out=p)
        np.add(p, c, out=s)
        np.bitwise_and(s.view(np.int64), 0x1FFFFFFF, out=low_bits[:rows])
        np.equal(low_bits[:rows], 0x10000000, out=tie)
        if tie.any():
            s[tie] = round_to_odd(p[tie], c[tie])
        narrowed[:rows] = s
        c[...] = narrowed[:rows]
    return totals.astype(np.float32)


def _chain64(a: Array, b: Array, live: Sequence[int]) -> Array:
    """``chain`` for float64 where every product and sum is in the range of the transformations."""
    totals = np.zeros(np.broadcast_shapes(a.shape[1:], b.shape[1:]))
    for i, rows in enumerate(live):
        totals[:rows] = _sum_of_three(*two_product(a[i, :rows], b[i, :rows]), totals[:rows])
    return totals
