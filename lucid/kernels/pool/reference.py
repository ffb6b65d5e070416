"""Pooling: section 8 of the law."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from lucid.kernels.declare import IMAGES, Array, Pair, Returns, Structure, kernel
from lucid.kernels.sums import GATHERED, Bordered, blocks, reach, sum_of, wide


@lru_cache(1024)
def pool_problem(
    x: tuple[int, ...],
    output: tuple[int, ...],
    kernel: Pair = (1, 1),
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    count_include_pad: bool = False,
    adaptive: bool = False,
) -> Structure:
    """The fields of ``Pool`` of kernels.def, from the shape of the images and the spatial size of the result."""
    return Structure(
        n=x[0],
        h=x[2],
        w=x[3],
        c=x[1],
        oh=output[0],
        ow=output[1],
        kh=kernel[0],
        kw=kernel[1],
        stride_h=stride[0],
        stride_w=stride[1],
        pad_h=padding[0],
        pad_w=padding[1],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        count_include_pad=count_include_pad,
        adaptive=adaptive,
    )


def _max_pooled(x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, output: Pair) -> Returns:
    shape = (*x.shape[:2], *output)
    return {"y": (shape, x.dtype), "index": (shape, np.int64)}


# -- windows of average pooling ------------------------------------------------------------------------------------
# A side of a pooling is (low, high): window i covers the elements low[i] .. high[i] - 1. Both ascend.

Side = tuple[Array, Array]


def pooling_side(size: int, output: int, kernel: int, stride: int, padding: int) -> Side:
    """The windows of one side, in coordinates of the input: they begin at ``-padding`` and end with the padding."""
    low = np.arange(output) * stride - padding
    return low, np.minimum(low + kernel, size + padding)


def inside(side: Side, size: int) -> Side:
    return np.clip(side[0], 0, size), np.clip(side[1], 0, size)


def adaptive_side(size: int, output: int) -> Side:
    i = np.arange(output)
    return i * size // output, -(-(i + 1) * size // output)


def covering(side: Side, size: int) -> Side:
    """The windows ``low[h] .. high[h] - 1`` that cover element ``h``."""
    h = np.arange(size)
    return np.searchsorted(side[1], h, "right"), np.searchsorted(side[0], h, "right")


def sums_over(x: Array, rows: Side, columns: Side) -> Array:
    """The float64 reduction of ``x`` ``(N, C, H, W)`` over each rectangle, ``(N, C, len(rows), len(columns))``."""
    n, c, h, w = x.shape
    shape = (n, c, len(rows[0]), len(columns[0]))
    y, x_columns = _members(rows), _members(columns)
    valid = (y >= 0)[:, None, :, None] & (x_columns >= 0)[:, None, :]
    offsets = np.where(valid, y[:, None, :, None] * w + x_columns[:, None, :], h * w)
    offsets = offsets.reshape(shape[2] * shape[3], -1)
    # Elements that are no part of a window are no terms: the others are numbered without gaps, +0 follows.
    order = np.argsort(offsets == h * w, axis=1, kind="stable")
    offsets = np.take_along_axis(offsets, order, axis=1).T
    planes = np.pad(x.reshape(n * c, h * w), ((0, 0), (0, 1)))
    result = np.zeros((n * c, shape[2] * shape[3]))
    for block in blocks(n * c, max(1, GATHERED // max(1, offsets.size))):
        result[block] = sum_of(planes[block, offsets].swapaxes(0, 1))
    return result.reshape(shape)


def _members(side: Side) -> Array:
    """``(windows, longest)``: the elements of each window, -1 after the last."""
    low, high = side
    numbers = low[:, None] + np.arange(max((high - low).max(initial=0), 0))
    return np.where(numbers < high[:, None], numbers, -1)


def _pooling(
    size: tuple[int, ...], output: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> tuple[list[Side], Array]:
    """The two sides of an average pooling, clipped to the input, and the count of each window."""
    padded = [pooling_side(size[i], output[i], kernel[i], stride[i], padding[i]) for i in (0, 1)]
    sides = [inside(side, extent) for side, extent in zip(padded, size, strict=True)]
    return sides, _count(padded if count_include_pad else sides)


def _count(sides: list[Side]) -> Array:
    rows, columns = (wide(high - low) for low, high in sides)
    return rows[:, None] * columns


@kernel("8", returns=_max_pooled)
def max_pool2d(
    x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, output: Pair
) -> tuple[Array, Array]:
    """``(y, index)``: ``y`` of spatial size ``output``, ``index`` the integer offset ``h * W + w`` in the plane."""
    height, width = x.shape[2:]
    image = Bordered(x)
    y = np.full((*x.shape[:2], *output), -np.inf, x.dtype)
    index = np.full(y.shape, -1, np.int64)
    for i, j in product(range(kernel[0]), range(kernel[1])):
        rows = reach(output[0], stride[0], padding[0], dilation[0], i)
        columns = reach(output[1], stride[1], padding[1], dilation[1], j)
        inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
        value = image.pick(rows, columns)
        better = (index < 0) | (value > y) | (np.isnan(value) & ~np.isnan(y))
        y = np.where(inside & better, value, y)
        index = np.where(inside & better, rows[:, None] * width + columns, index)
    return y, index


@kernel("8", returns=lambda dy, index, input_shape: {"dx": (input_shape, dy.dtype)})
def max_pool2d_grad(dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array:
    """The gradient of the input: each of ``dy`` added where its maximum came from."""
    n, c, h, w = input_shape
    dx = np.zeros(n * c * h * w, dy.dtype)
    positions = np.arange(n * c).reshape(n, c, 1, 1) * (h * w) + index
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
def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool, output: Pair) -> Array:
    """The mean of each window; ``count_include_pad`` tells whether it divides by what lies in the padding, too."""
    sides, count = _pooling(x.shape[2:], output, kernel, stride, padding, count_include_pad)
    return (sums_over(x, *sides) / count).astype(x.dtype)


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
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
) -> Array:
    """The gradient of the input of ``avg_pool2d``."""
    sides, count = _pooling(input_shape[2:], dy.shape[2:], kernel, stride, padding, count_include_pad)
    covers = (covering(side, size) for side, size in zip(sides, input_shape[2:], strict=True))
    return sums_over(wide(dy) / count, *covers).astype(dy.dtype)


@kernel(
    "8",
    returns=lambda x, output: {"y": ((*x.shape[:2], *output), x.dtype)},
    layout={"x": IMAGES, "y": IMAGES},
    launch="avg_pool",
    sizes=lambda x, output: {"pool": pool_problem(x.shape, output, adaptive=True)},
)
def adaptive_avg_pool2d(x: Array, output: Pair) -> Array:
    """The mean of windows that follow from the ratio of the sizes."""
    sides = [adaptive_side(*sizes) for sizes in zip(x.shape[2:], output, strict=True)]
    return (sums_over(x, *sides) / _count(sides)).astype(x.dtype)


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
    covers = (covering(side, size) for side, size in zip(sides, input_shape[2:], strict=True))
    return sums_over(wide(dy) / _count(sides), *covers).astype(dy.dtype)
