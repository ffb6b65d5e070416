"""How a kernel rounds: what it stores, how it takes a factor, and in which order it adds.

A kernel computes in float32 (float64 where it stores float64) and stores in its format, as GPUs and vector units do.
Arrays between loading and storing are NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
Total = Callable[[Array, int], Array]

STORED = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "tf32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}


def base_of(precision: str) -> str:
    """What a profile stores in: its first word.

    Example:
        >>> base_of("float16, sums in float16")
        'float16'
    """
    return precision.split(",")[0]


# -- storing and taking ------------------------------------------------------------------------------------------------


def nearest(array: Array, precision: str) -> Array:
    """The nearest stored numbers, ties to even; infinite where they are too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(STORED[base_of(precision)])


def cut_bits(array: Array, bits: int) -> Array:
    """float32 without its last ``bits``: rounded towards zero."""
    kept = np.ascontiguousarray(array, np.float32).view(np.uint32) & np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)
    return np.where(np.isfinite(array), kept.view(np.float32).reshape(array.shape), array)


def truncated(array: Array, precision: str) -> Array:
    """Rounded towards zero, as a store that only drops bits does."""
    base = base_of(precision)
    if base == "bfloat16":
        return nearest(cut_bits(array, 16), precision)
    near = nearest(array, precision)
    too_large = np.abs(near.astype(np.float64)) > np.abs(array.astype(np.float64))
    return np.where(too_large & np.isfinite(near), np.nextafter(near, near.dtype.type(0)), near)


def rounded_tf32(array: Array) -> Array:
    """To TF32's 10 bits of a fraction, ties to even: a contraction's factor as a tensor core takes it."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    even = (bits >> np.uint32(13)) & np.uint32(1)
    near = ((bits + np.uint32(0xFFF) + even) & np.uint32(0xFFFFE000)).view(np.float32).reshape(array.shape)
    return np.where(np.isfinite(array), near, array)


def truncated_tf32(array: Array) -> Array:
    """TF32 that drops the low bits of a factor."""
    return cut_bits(array, 13)


def unchanged(array: Array) -> Array:
    """A factor as it is."""
    return array


# -- orders of summation -----------------------------------------------------------------------------------------------


def sequential(terms: Array, axis: int) -> Array:
    """One term after the other, in the terms' own type."""
    if not terms.shape[axis]:
        return np.zeros(np.delete(terms.shape, axis), terms.dtype)
    return np.take(np.add.accumulate(terms, axis=axis, dtype=terms.dtype), -1, axis)


def numpy_sum(terms: Array, axis: int) -> Array:
    """NumPy's own: unrolled by 8 and pairwise along the last axis."""
    return np.sum(terms, axis=axis, dtype=terms.dtype)


def _ordered(key: Callable[[Array], Array]) -> Total:
    def total(terms: Array, axis: int) -> Array:
        return sequential(np.take_along_axis(terms, np.argsort(key(terms), axis=axis, kind="stable"), axis), axis)

    return total


def random_order(terms: Array, axis: int) -> Array:
    """A permutation, the same for all."""
    order = np.random.default_rng(terms.shape[axis]).permutation(terms.shape[axis])
    return sequential(np.take(terms, order, axis), axis)


def alternating(terms: Array, axis: int) -> Array:
    """The largest, the smallest, the next largest, the next smallest: signs take turns."""
    up = np.sort(terms, axis=axis)
    size = terms.shape[axis]
    order = np.empty(size, np.int64)
    order[0::2], order[1::2] = np.arange(size)[::-1][: (size + 1) // 2], np.arange(size)[: size // 2]
    return sequential(np.take(up, order, axis), axis)


def pairwise(terms: Array, axis: int) -> Array:
    """Neighbours, then neighbours of the sums."""
    terms = np.moveaxis(terms, axis, 0)
    if not len(terms):
        return np.zeros(terms.shape[1:], terms.dtype)
    while len(terms) > 1:
        even = terms[0 : len(terms) // 2 * 2 : 2] + terms[1::2]
        terms = np.concatenate([even, terms[len(terms) // 2 * 2 :]])
    return terms[0]


def blocked(size: int) -> Total:
    """Blocks of ``size`` one term after the other, then the blocks' sums."""

    def total(terms: Array, axis: int) -> Array:
        terms = np.moveaxis(terms, axis, 0)
        parts = [sequential(terms[start : start + size], 0) for start in range(0, max(len(terms), 1), size)]
        return sequential(np.stack(parts), 0)

    return total


def lanes(count: int) -> Total:
    """``count`` accumulators that take turns, as a vector register's lanes or a GPU's threads do; then a tree."""

    def total(terms: Array, axis: int) -> Array:
        terms = np.moveaxis(terms, axis, 0)
        return pairwise(np.stack([sequential(terms[lane::count], 0) for lane in range(count)]), 0)

    return total


def split_k(parts: int) -> Total:
    """``parts`` equal parts, each pairwise, then added one after the other, the last first."""

    def total(terms: Array, axis: int) -> Array:
        pieces = np.array_split(np.moveaxis(terms, axis, 0), parts)
        return sequential(np.stack([pairwise(piece, 0) for piece in pieces[::-1]]), 0)

    return total


def compensated(terms: Array, axis: int) -> Array:
    """Kahan's: what each addition lost is added to the next term."""
    terms = np.moveaxis(terms, axis, 0)
    total = np.zeros(terms.shape[1:], terms.dtype)
    lost = np.zeros_like(total)
    for term in terms:
        corrected = term - lost
        larger = total + corrected
        lost = np.where(np.isfinite(larger), (larger - total) - corrected, 0).astype(terms.dtype)
        total = larger
    return total


def in_float64(terms: Array, axis: int) -> Array:
    """A float64 accumulator."""
    return np.sum(terms, axis=axis, dtype=np.float64).astype(terms.dtype)


ORDERS: dict[str, Total] = {
    "in sequence": sequential,
    "numpy's order": numpy_sum,
    "ascending": _ordered(lambda terms: terms),
    "descending": _ordered(lambda terms: -terms),
    "smallest magnitude first": _ordered(np.abs),
    "largest magnitude first": _ordered(lambda terms: -np.abs(terms)),
    "random order": random_order,
    "alternating in sign": alternating,
    "pairwise": pairwise,
    "blocks of 32": blocked(32),
    "8 lanes": lanes(8),
    "split-K by 4": split_k(4),
    "float64 accumulators": in_float64,
}


# -- an arithmetic -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arithmetic:
    """How a kernel rounds.

    Args:
        precision: the profile that it declares.
        total: adds terms along an axis.
        factor: how a contraction takes its factors.
        store: rounds a result to what is stored.
        computes: what it computes in, where that is not what its precision says.
    """

    precision: str
    total: Total = sequential
    factor: Callable[[Array], Array] = unchanged
    store: Callable[[Array, str], Array] = nearest
    computes: str = ""

    @property
    def wide(self) -> np.dtype[Any]:
        """What it computes in."""
        return np.dtype(self.computes or (np.float64 if self.precision.startswith("float64") else np.float32))

    def mean(self, terms: Array, axis: int) -> Array:
        """The sum over the number of terms."""
        return (self.total(terms, axis) / self.wide.type(terms.shape[axis])).astype(self.wide)


def arithmetic(precision: str, total: Total = sequential) -> Arithmetic:
    """The usual one of a precision."""
    if precision.startswith("tf32"):
        return Arithmetic(precision, total, truncated_tf32 if "truncated" in precision else rounded_tf32)
    return Arithmetic(precision, total)
