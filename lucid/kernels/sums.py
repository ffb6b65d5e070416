"""What the references of several families share: sums in the law's order (section 2), and images.

They vectorise across output elements and across segments, never inside a sum, and bound their memory by working through
the outputs in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lucid.kernels.declare import Array

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
    """An image batch ``(N, C, H, W)`` from which rows and columns are picked by number; those outside are +0."""

    def __init__(self, x: Array) -> None:
        self.height, self.width = x.shape[2:]
        self.values = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))

    def pick(self, rows: Array, columns: Array) -> Array:
        """``(N, C, len(rows), len(columns))``."""
        rows = np.where((rows >= 0) & (rows < self.height), rows, self.height)
        columns = np.where((columns >= 0) & (columns < self.width), columns, self.width)
        return self.values[:, :, rows[:, None], columns]


def grouped(x: Array, groups: int) -> Array:
    """``(N, C, H, W)`` as ``(C / groups, groups, N * H * W)``: the layout of a contraction's factor."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h * w).transpose(2, 1, 0, 3).reshape(c // groups, groups, n * h * w)


def ungrouped(y: Array, n: int, h: int, w: int) -> Array:
    """``(groups, C / groups, N * H * W)`` as ``(N, C, H, W)``."""
    return y.reshape(y.shape[0] * y.shape[1], n, h, w).swapaxes(0, 1)


def reach(output: int, stride: int, padding: int, dilation: int, k: int) -> Array:
    """The input coordinates that tap ``k`` meets, output by output."""
    return np.arange(output) * stride - padding + k * dilation


def pixels(x: Array) -> Array:
    """``(N, C, H, W)`` as ``(N * H * W, C)``, in the order ``(n, h, w)``."""
    return x.transpose(0, 2, 3, 1).reshape(x.size // x.shape[1] if x.shape[1] else 0, x.shape[1])
