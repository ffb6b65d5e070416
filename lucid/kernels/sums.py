"""What the references of several families share: sums in the law's order (section 2), and images.

They vectorise across output elements and across segments, never inside a sum, and bound their memory by working through
the outputs in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from lucid.kernels.declare import Array, Sides

RUN = 32  # §2: terms in a run
SEGMENT = 256  # §2: terms in a segment
GROUP = 32  # §2: segments in a group
GATHERED = 1 << 22  # terms copied out of an image at once


def wide(x: Array) -> Array:
    return x.astype(np.float64)


# -- sums: §2 ----------------------------------------------------------------------------------------------------------


def combine(parts: Array, *sizes: int) -> Array:
    """The total of partial sums on axis 0 (at least one): ``sizes[0]`` of them make one of the next level, etc."""
    for size in sizes:
        parts = [in_order(parts[i : i + size]) for i in range(0, len(parts), size)]
    return in_order(parts)


def in_order(terms: Any) -> Array:
    total, *others = terms
    for term in others:
        total = total + term
    return total


def by_step(terms: Array, length: int) -> Array:
    """``(K, ...)`` terms in pieces of ``length`` as ``(steps, pieces, ...)``; zeros fill up the last piece."""
    steps = min(length, len(terms))
    pieces = -(-len(terms) // steps)
    filled = np.zeros((pieces * steps, *terms.shape[1:]), terms.dtype)
    filled[: len(terms)] = terms
    return np.ascontiguousarray(filled.reshape(pieces, steps, *terms.shape[1:]).swapaxes(0, 1))


def sum_of(terms: Array) -> Array:
    """The reduction of ``terms`` over axis 0. (A sum that began at +0 is never -0: filling up with +0 is safe.)"""
    if len(terms) == 0:
        return np.zeros(terms.shape[1:])
    steps = by_step(wide(terms), SEGMENT)
    total = np.zeros(steps.shape[1:])
    for step in steps:
        total += step
    return combine(total, GROUP)


def blocks(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


# -- images ------------------------------------------------------------------------------------------------------------


class Bordered:
    """An image batch ``(N, C, *sides)`` of which positions are picked along every side; those outside are +0."""

    def __init__(self, x: Array) -> None:
        self.sides = x.shape[2:]
        self.values = np.pad(x, [(0, 0), (0, 0), *[(0, 1) for _ in self.sides]])

    def pick(self, *positions: Array) -> Array:
        """``(N, C, len(positions[0]), ..)``."""
        picked = [np.where(inside(p, size), p, size) for p, size in zip(positions, self.sides, strict=True)]
        return self.values[(slice(None), slice(None), *np.ix_(*picked))]


def inside(positions: Array, size: int) -> Array:
    return (positions >= 0) & (positions < size)


def grouped(x: Array, groups: int) -> Array:
    """``(N, C, *sides)`` as ``(C / groups, groups, N * pixels)``: the layout of a contraction's factor."""
    n, c, *sides = x.shape
    x = x.reshape(n, groups, c // groups, prod(sides))
    return x.transpose(2, 1, 0, 3).reshape(c // groups, groups, n * prod(sides))


def ungrouped(y: Array, n: int, sides: Sides) -> Array:
    """``(groups, C / groups, N * pixels)`` as ``(N, C, *sides)``."""
    return y.reshape(y.shape[0] * y.shape[1], n, *sides).swapaxes(0, 1)


def reach(outputs: Sides, stride: Sides, padding: Sides, dilation: Sides, tap: Sides) -> list[Array]:
    """Along every side, the input coordinates that a tap meets, output by output."""
    sides = zip(outputs, stride, padding, dilation, tap, strict=True)
    return [np.arange(count) * step - pad + k * gap for count, step, pad, gap, k in sides]


def pixels(x: Array) -> Array:
    """``(N, C, *sides)`` as ``(N * pixels, C)``, in row-major order."""
    n, c, *sides = x.shape
    return np.moveaxis(x, 1, -1).reshape(n * prod(sides), c)
