"""Pooling: section 8 of the law."""

from __future__ import annotations

from functools import lru_cache, reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np

from lucid.kernels.declare import DENSE, IMAGES, INDEX, Array, Returns, Sides, Structure, kernel
from lucid.kernels.sums import GATHERED, Bordered, blocks, inside, reach, sum_of, wide
from lucid.kernels.windows import window_fields


@lru_cache(1024)
def pool_problem(
    x: tuple[int, ...],
    outputs: Sides,
    kernel: Sides = (),
    stride: Sides = (),
    padding: Sides = (),
    dilation: Sides = (),
    count_include_pad: bool = False,
    adaptive: bool = False,
) -> Structure:
    """The fields of ``Pool`` of kernels.def, from the shape of the images and the spatial size of the result."""
    windows = window_fields(x[2:], outputs, kernel, stride, padding, dilation)
    return Structure(n=x[0], c=x[1], count_include_pad=count_include_pad, adaptive=adaptive, **windows)


def _max_pooled(x: Array, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides, output: Sides) -> Returns:
    shape = (*x.shape[:2], *output)
    return {"y": (shape, x.dtype), "index": (shape, np.int64)}


# -- windows of average pooling ------------------------------------------------------------------------------------
# A side of a pooling is (low, high): window i covers the elements low[i] .. high[i] - 1. Both ascend.

Side = tuple[Array, Array]


def pooling_side(size: int, output: int, kernel: int, stride: int, padding: int) -> Side:
    """The windows of one side, in coordinates of the input: they begin at ``-padding`` and end with the padding."""
    low = np.arange(output) * stride - padding
    return low, np.minimum(low + kernel, size + padding)


def clipped(side: Side, size: int) -> Side:
    return np.clip(side[0], 0, size), np.clip(side[1], 0, size)


def adaptive_side(size: int, output: int) -> Side:
    i = np.arange(output)
    return i * size // output, -(-(i + 1) * size // output)


def covering(side: Side, size: int) -> Side:
    """The windows ``low[h] .. high[h] - 1`` that cover element ``h``."""
    h = np.arange(size)
    return np.searchsorted(side[1], h, "right"), np.searchsorted(side[0], h, "right")


def sums_over(x: Array, sides: list[Side]) -> Array:
    """The float64 reduction of ``x`` ``(N, C, *sizes)`` over each box of windows, ``(N, C, *windows)``."""
    n, c, *sizes = x.shape
    pixels, windows = prod(sizes), [len(low) for low, _ in sides]
    places: Array = np.zeros((), np.int64)
    valid: Array = np.ones((), bool)
    for side, size in zip(sides, sizes, strict=True):
        members = _members(side)
        places, valid = np.add.outer(places * size, members), np.logical_and.outer(valid, members >= 0)
    places = np.where(valid, places, pixels)  # its axes: of every side the window, and the element in it
    d = len(sizes)
    places = places.transpose(*range(0, 2 * d, 2), *range(1, 2 * d, 2)).reshape(prod(windows), -1)
    # Elements that are no part of a window are no terms: the others are numbered without gaps, +0 follows.
    order = np.argsort(places == pixels, axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1).T
    planes = np.pad(x.reshape(n * c, pixels), ((0, 0), (0, 1)))
    result = np.zeros((n * c, prod(windows)))
    for block in blocks(n * c, max(1, GATHERED // max(1, places.size))):
        result[block] = sum_of(planes[block, places].swapaxes(0, 1))
    return result.reshape(n, c, *windows)


def _members(side: Side) -> Array:
    """``(windows, longest)``: the elements of each window, -1 after the last."""
    low, high = side
    numbers = low[:, None] + np.arange(max((high - low).max(initial=0), 0))
    return np.where(numbers < high[:, None], numbers, -1)


def _pooling(
    sizes: Sides, outputs: Sides, kernel: Sides, stride: Sides, padding: Sides, count_include_pad: bool
) -> tuple[list[Side], Array]:
    """The sides of an average pooling, clipped to the input, and the count of each window."""
    padded = [pooling_side(*side) for side in zip(sizes, outputs, kernel, stride, padding, strict=True)]
    sides = [clipped(side, size) for side, size in zip(padded, sizes, strict=True)]
    return sides, _count(padded if count_include_pad else sides)


def _count(sides: list[Side]) -> Array:
    return reduce(np.multiply.outer, [wide(high - low) for low, high in sides])


@kernel("8", returns=_max_pooled)
def max_pool2d(
    x: Array, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides, output: Sides
) -> tuple[Array, Array]:
    """``(y, index)``: ``y`` of spatial size ``output``, ``index`` the row-major place in the image, an integer."""
    taps = product(*map(range, kernel))
    return _largest(x, output, [reach(output, stride, padding, dilation, tap) for tap in taps])


@kernel("8", returns=lambda x, output: _max_pooled(x, (), (), (), (), output))
def adaptive_max_pool2d(x: Array, output: Sides) -> tuple[Array, Array]:
    """As ``max_pool2d``, of windows that follow from the ratio of the sizes."""
    members = [_members(adaptive_side(*sizes)) for sizes in zip(x.shape[2:], output, strict=True)]
    taps = product(*[range(side.shape[1]) for side in members])
    return _largest(x, output, [[side[:, k] for side, k in zip(members, tap, strict=True)] for tap in taps])


def _largest(x: Array, output: Sides, taps: list[list[Array]]) -> tuple[Array, Array]:
    """Of each window the largest element and its place; a tap says where it lies along each side, window by window."""
    sizes, image = x.shape[2:], Bordered(x)
    y = np.full((*x.shape[:2], *output), -np.inf, x.dtype)
    index = np.full(y.shape, -1, np.int64)
    for positions in taps:
        exists = reduce(np.logical_and.outer, map(inside, positions, sizes))
        place = reduce(np.add.outer, [p * prod(sizes[i + 1 :]) for i, p in enumerate(positions)])
        value = image.pick(*positions)
        better = exists & ((index < 0) | (value > y) | (np.isnan(value) & ~np.isnan(y)))
        y, index = np.where(better, value, y), np.where(better, place, index)
    return y, index


@kernel("8", returns=lambda dy, index, input_shape: {"dx": (input_shape, dy.dtype)})
def max_pool2d_grad(dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array:
    """The gradient of the input: each of ``dy`` added where its maximum came from."""
    n, c, *sizes = input_shape
    dx = np.zeros(n * c * prod(sizes), dy.dtype)
    positions = np.arange(n * c).reshape(n, c, *[1 for _ in sizes]) * prod(sizes) + index
    np.add.at(dx, positions[index >= 0], dy[index >= 0])  # row-major, one after the other
    return dx.reshape(input_shape)


@kernel(
    "8",
    returns=lambda x, kernel, stride, padding, count_include_pad, output: {"y": ((*x.shape[:2], *output), x.dtype)},
    layout={"x": IMAGES, "y": IMAGES},
    launch="avg_pool",
    sizes=lambda x, kernel, stride, padding, count_include_pad, output: {
        "pool": pool_problem(x.shape, output, kernel, stride, padding, count_include_pad=count_include_pad)
    },
)
def avg_pool2d(x: Array, kernel: Sides, stride: Sides, padding: Sides, count_include_pad: bool, output: Sides) -> Array:
    """The mean of each window; ``count_include_pad`` tells whether it divides by what lies in the padding, too."""
    sides, count = _pooling(x.shape[2:], output, kernel, stride, padding, count_include_pad)
    return (sums_over(x, sides) / count).astype(x.dtype)


@kernel(
    "8",
    returns=lambda dy, input_shape, *_: {"dx": (input_shape, dy.dtype)},
    layout={"dy": IMAGES, "dx": IMAGES},
    launch="avg_pool_grad",
    sizes=lambda dy, input_shape, kernel, stride, padding, count_include_pad: {
        "pool": pool_problem(input_shape, dy.shape[2:], kernel, stride, padding, count_include_pad=count_include_pad)
    },
)
def avg_pool2d_grad(
    dy: Array,
    input_shape: tuple[int, ...],
    kernel: Sides,
    stride: Sides,
    padding: Sides,
    count_include_pad: bool,
) -> Array:
    """The gradient of the input of ``avg_pool2d``."""
    sides, count = _pooling(input_shape[2:], dy.shape[2:], kernel, stride, padding, count_include_pad)
    covers = [covering(side, size) for side, size in zip(sides, input_shape[2:], strict=True)]
    return sums_over(wide(dy) / count, covers).astype(dy.dtype)


@kernel(
    "8",
    returns=lambda x, output: {"y": ((*x.shape[:2], *output), x.dtype)},
    layout={"x": IMAGES, "y": IMAGES},
    launch="avg_pool",
    sizes=lambda x, output: {"pool": pool_problem(x.shape, output, adaptive=True)},
)
def adaptive_avg_pool2d(x: Array, output: Sides) -> Array:
    """The mean of windows that follow from the ratio of the sizes."""
    sides = [adaptive_side(*sizes) for sizes in zip(x.shape[2:], output, strict=True)]
    return (sums_over(x, sides) / _count(sides)).astype(x.dtype)


@kernel(
    "8",
    returns=lambda dy, input_shape: {"dx": (input_shape, dy.dtype)},
    layout={"dy": IMAGES, "dx": IMAGES},
    launch="avg_pool_grad",
    sizes=lambda dy, input_shape: {"pool": pool_problem(input_shape, dy.shape[2:], adaptive=True)},
)
def adaptive_avg_pool2d_grad(dy: Array, input_shape: tuple[int, ...]) -> Array:
    """The gradient of the input of ``adaptive_avg_pool2d``."""
    sides = [adaptive_side(*sizes) for sizes in zip(input_shape[2:], dy.shape[2:], strict=True)]
    covers = [covering(side, size) for side, size in zip(sides, input_shape[2:], strict=True)]
    return sums_over(wide(dy) / _count(sides), covers).astype(dy.dtype)


@kernel(
    "8.1",
    returns=lambda x, first, at, weight, output: {"y": ((*x.shape[:2], *output), x.dtype)},
    layout={"x": IMAGES, "first": INDEX, "at": INDEX, "weight": DENSE, "y": IMAGES},
    sizes=lambda x, first, at, weight, output: {"pool": pool_problem(x.shape, output)},
)
def resample(x: Array, first: Array, at: Array, weight: Array, output: Sides) -> Array:
    """Images of other sides, by the joined tables of ``taps.py``: each element a weighted sum, narrowed once."""
    missing = 3 - len(output)
    windows, sides = (1,) * missing + output, []
    for i, count in enumerate(windows):
        start = sum(windows[:i])
        low, high = first[start : start + count, None], first[start + 1 : start + count + 1, None]
        numbers = low + np.arange(int(np.max(high - low, initial=0)))
        known = np.minimum(numbers, len(at) - 1)
        sides.append((np.where(numbers < high, at[known], -1), weight[known]))
    values = wide(x).reshape(*x.shape[:2], *(1,) * missing, *x.shape[2:])
    image, y, begun = Bordered(values), np.zeros((*x.shape[:2], *windows)), np.zeros(windows, bool)
    for tap in product(*[range(places.shape[1]) for places, _ in sides]):
        positions = [places[:, k] for (places, _), k in zip(sides, tap, strict=True)]
        exists = reduce(np.logical_and.outer, [position >= 0 for position in positions])
        factor = reduce(np.multiply.outer, [weights[:, k] for (_, weights), k in zip(sides, tap, strict=True)])
        term = factor * image.pick(*positions)
        y = np.where(exists, np.where(begun, y + term, term), y)
        begun = begun | exists
    return y.astype(x.dtype).reshape(*x.shape[:2], *output)


# -- sampling at places of a grid: 8.2 ---------------------------------------------------------------------------


def _places(v: Array, size: int, align: bool, border: bool, reflection: bool) -> tuple[Array, Array]:
    """The place along a side of ``size`` that ``v`` names (wide), and its derivative."""
    v = wide(v)
    p = (v + 1.0) / 2.0 * (size - 1.0) if align else ((v + 1.0) * size - 1.0) / 2.0
    slope = np.full(v.shape, (size - 1.0) / 2.0 if align else size / 2.0)
    if reflection:
        least, span = (0.0, size - 1.0) if align else (-0.5, float(size))
        d = p - least
        slope = np.where(d < 0.0, -slope, slope)
        d = np.abs(d)
        flips = np.floor(d / span) if span > 0.0 else d * 0.0
        d = d - flips * span if span > 0.0 else d * 0.0
        odd = flips - 2.0 * np.floor(flips / 2.0) != 0.0
        p, slope = np.where(odd, span - d, d) + least, np.where(odd, -slope, slope)
    if border or reflection:
        slope = np.where((p > 0.0) & (p < size - 1.0), slope, 0.0)
        p = np.where(p > 0.0, p, 0.0)
        p = np.where(p < size - 1.0, p, size - 1.0)
    return p, slope


def _grid_taps(grid: Array, sizes: Sides, nearest: bool, **how: bool) -> list[tuple[Array, Array, Array, Array]]:
    """Of every tap, in order: whether it is on the image, its row and its column, and its weight."""
    (x, _), (y, _) = (_places(grid[..., i], size, **how) for i, size in enumerate(sizes[::-1]))
    if nearest:
        parts: list[Any] = [((np.rint(y), np.ones(y.shape)), (np.rint(x), np.ones(x.shape)))]
    else:
        low, left = np.floor(y), np.floor(x)
        down, across = y - low, x - left
        rows = (low, 1.0 - down), (low + 1.0, down)
        parts = list(product(rows, ((left, 1.0 - across), (left + 1.0, across))))
    found = []
    for (row, by), (column, bx) in parts:
        exists = (row >= 0.0) & (row < sizes[0]) & (column >= 0.0) & (column < sizes[1])
        found.append((exists, *(np.where(exists, place, 0.0).astype(np.int64) for place in (row, column)), by * bx))
    return found


def _sampled(x: Array, row: Array, column: Array) -> Array:
    """``(N, C, OH, OW)``: the elements at a row and a column for each place of the grid."""
    return x.transpose(0, 2, 3, 1)[np.arange(len(x))[:, None, None], row, column].transpose(0, 3, 1, 2)


def _grid_sizes(x: tuple[int, ...], grid: tuple[int, ...], *how: bool) -> dict[str, Any]:
    named = dict(zip(("nearest", "align", "border", "reflection"), how, strict=True))
    return {"pool": pool_problem(x, grid[1:3]), **named}


@kernel(
    "8.2",
    returns=lambda x, grid, *_: {"y": ((*x.shape[:2], *grid.shape[1:3]), x.dtype)},
    layout={"x": IMAGES, "grid": DENSE, "y": IMAGES},
    sizes=lambda x, grid, *how: _grid_sizes(x.shape, grid.shape, *how),
)
def grid_sample(x: Array, grid: Array, nearest: bool, align: bool, border: bool, reflection: bool) -> Array:
    """``x`` at the places of ``grid`` (N, OH, OW, 2), which has a place across and one down for each."""
    y, begun = np.zeros((*x.shape[:2], *grid.shape[1:3])), np.zeros((len(x), 1, *grid.shape[1:3]), bool)
    how = {"align": align, "border": border, "reflection": reflection}
    for exists, row, column, weight in _grid_taps(grid, x.shape[2:], nearest, **how):
        taken = (exists & (weight != 0.0))[:, None]
        term = weight[:, None] * wide(_sampled(x, row, column))
        y = np.where(taken, np.where(begun, y + term, term), y)
        begun = begun | taken
    return y.astype(x.dtype)


@kernel(
    "8.2",
    returns=lambda dy, grid, input_shape, *_: {"dx": (input_shape, dy.dtype)},
    layout={"dy": IMAGES, "grid": DENSE, "dx": IMAGES},
    sizes=lambda dy, grid, input_shape, *how: _grid_sizes(input_shape, grid.shape, *how),
)
def grid_sample_input_grad(
    dy: Array,
    grid: Array,
    input_shape: tuple[int, ...],
    nearest: bool,
    align: bool,
    border: bool,
    reflection: bool,
) -> Array:
    """The gradient of ``x``: each of ``dy`` added, with the weight, where it came from."""
    how = {"align": align, "border": border, "reflection": reflection}
    taps = _grid_taps(grid, input_shape[2:], nearest, **how)
    n, c, height, width = input_shape
    terms = np.stack([(weight[:, None] * wide(dy)).astype(dy.dtype) for *_, weight in taps], -1)
    taken = np.stack([exists & (weight != 0.0) for exists, _, _, weight in taps], -1)
    places = np.stack([row * width + column for _, row, column, _ in taps], -1)
    dx = np.zeros((n, height * width, c), dy.dtype)
    for image in range(n):
        chosen = taken[image]
        np.add.at(dx[image], places[image][chosen], terms[image].transpose(1, 2, 3, 0)[chosen])  # in order
    return dx.reshape(n, height, width, c).transpose(0, 3, 1, 2)


@kernel(
    "8.2",
    returns=lambda dy, x, grid, *_: {"dgrid": (grid.shape, grid.dtype)},
    layout={"dy": IMAGES, "x": IMAGES, "grid": DENSE, "dgrid": DENSE},
    sizes=lambda dy, x, grid, align, border, reflection: _grid_sizes(
        x.shape, grid.shape, False, align, border, reflection
    ),
)
def grid_sample_grid_grad(dy: Array, x: Array, grid: Array, align: bool, border: bool, reflection: bool) -> Array:
    """The gradient of ``grid`` of the bilinear mode."""
    how = {"align": align, "border": border, "reflection": reflection}
    (px, slope_x), (py, slope_y) = (_places(grid[..., i], size, **how) for i, size in enumerate(x.shape[:1:-1]))
    across, down = (px - np.floor(px))[:, None], (py - np.floor(py))[:, None]
    corners = []
    for exists, row, column, _ in _grid_taps(grid, x.shape[2:], False, **how):
        corners.append(np.where(exists[:, None], wide(_sampled(x, row, column)), 0.0))
    a, b, c, d = corners
    by_x = ((b - a) * (1.0 - down) + (d - c) * down) * wide(dy)
    by_y = ((c - a) * (1.0 - across) + (d - b) * across) * wide(dy)
    sums = [
        np.where(slope != 0.0, sum_of(np.moveaxis(by, 1, 0)) * slope, 0.0)
        for by, slope in ((by_x, slope_x), (by_y, slope_y))
    ]
    return np.stack(sums, -1).astype(grid.dtype)
