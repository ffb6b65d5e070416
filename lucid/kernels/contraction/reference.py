"""Sums of products: matrix products, convolution and its gradients, section 3 of the law."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from lucid.kernels._fma import chain
from lucid.kernels.declare import IMAGES, WEIGHT, Array, Pair, Returns, Structure, kernel
from lucid.kernels.sums import (
    GATHERED,
    GROUP,
    RUN,
    SEGMENT,
    Bordered,
    blocks,
    by_step,
    combine,
    grouped,
    in_order,
    pixels,
    reach,
    ungrouped,
)
from lucid.kernels.windows import output_size

BLOCK = 1 << 15  # partial sums worked on at once: their buffers fit a core's cache
WIDTH = 256  # outputs in a block's row, at most


@lru_cache(1024)
def conv_problem(
    x: tuple[int, ...],
    y: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Structure:
    """The fields of ``Conv`` of kernels.def, from the shapes of the arrays."""
    return Structure(
        n=x[0],
        h=x[2],
        w=x[3],
        c=x[1],
        oh=y[2],
        ow=y[3],
        o=weight[0],
        kh=weight[2],
        kw=weight[3],
        stride_h=stride[0],
        stride_w=stride[1],
        pad_h=padding[0],
        pad_w=padding[1],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        groups=groups,
    )


@lru_cache(1024)
def conv_shape(
    x: tuple[int, ...], weight: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int = 1
) -> tuple[int, ...]:
    """The shape of ``conv2d``'s result, from those of its operands."""
    sides = (output_size(x[i + 2], weight[i + 2], stride[i], padding[i], dilation[i]) for i in (0, 1))
    return x[0], weight[0], *sides


def _product(a: Array, b: Array) -> Returns:
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return {"y": ((*leading, a.shape[-2], b.shape[-1]), a.dtype)}


def _convolved(x: Array, weight: Array, bias: Array | None, *geometry: Any) -> Returns:
    return {"y": (conv_shape(x.shape, weight.shape, *geometry), x.dtype)}


def contraction(a: Array, b: Array) -> Array:
    """``y[g, m, n]``, the sum over ``k`` of ``a[k, g, m] * b[k, g, n]`` by fma, for ``(K, G, M)`` and ``(K, G, N)``."""
    (terms, batch, rows), columns = a.shape, b.shape[2]
    if rows > columns:  # the long axis last, where NumPy is quick; fma does not mind which factor is first
        return contraction(b, a).swapaxes(1, 2)
    y = np.zeros((batch, rows, columns), a.dtype)
    if terms == 0 or y.size == 0:
        return y
    room = BLOCK // min(GROUP * SEGMENT // RUN, -(-terms // RUN))
    columns_step = min(columns, WIDTH)
    rows_step = min(rows, max(1, room // columns_step))
    batch_step = max(1, room // (columns_step * rows_step))
    for g, m, n in product(blocks(batch, batch_step), blocks(rows, rows_step), blocks(columns, columns_step)):
        y[g, m, n] = _contraction_block(a[:, g, m, None], b[:, g, None, n])
    return y


def _contraction_block(a: Array, b: Array) -> Array:
    length = GROUP * SEGMENT
    groups = []
    for start in range(0, len(a), length):
        a_steps, b_steps = by_step(a[start : start + length], RUN), by_step(b[start : start + length], RUN)
        steps, runs = a_steps.shape[:2]
        short = len(a[start : start + length]) - (runs - 1) * steps  # an fma too many could turn -0 into +0
        live = [runs if step < short else runs - 1 for step in range(steps)]
        groups.append(combine(chain(a_steps, b_steps, live), SEGMENT // RUN, GROUP))
    return in_order(groups)


@kernel("3", returns=_product)
def matmul(a: Array, b: Array) -> Array:
    """``(..., M, K) @ (..., K, N) -> (..., M, N)``; leading dimensions broadcast; both have at least two."""
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (m, k), n = a.shape[-2:], b.shape[-1]
    batch = prod(leading)
    a = np.broadcast_to(a, (*leading, m, k)).reshape(batch, m, k)
    b = np.broadcast_to(b, (*leading, k, n)).reshape(batch, k, n)
    return contraction(a.transpose(2, 0, 1), b.swapaxes(0, 1)).reshape(*leading, m, n)


@kernel("3", returns=lambda x, weight, bias: {"y": ((x.shape[0], weight.shape[0]), x.dtype)})
def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """``(M, K) x (N, K) + (N,) -> (M, N)``."""
    y = matmul(x, weight.T)
    return y if bias is None else y + bias


@kernel("3", returns=_convolved)
def conv2d(
    x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """``(N, C, H, W) * (O, C/groups, KH, KW) -> (N, O, OH, OW)``."""
    (n, _, *size), (out, per_group, *kernel) = x.shape, weight.shape
    oh, ow = (output_size(size[i], kernel[i], stride[i], padding[i], dilation[i]) for i in (0, 1))
    taps = list(product(range(kernel[0]), range(kernel[1])))
    w = weight.reshape(groups, out // groups, per_group, *kernel).transpose(3, 4, 2, 0, 1)
    w = np.concatenate([w[tap] for tap in taps])
    y = np.zeros((n, out, oh, ow), x.dtype)
    for some in blocks(n, max(1, GATHERED // max(1, x.shape[1] * len(taps) * oh * ow))):
        image = Bordered(x[some])
        met = [
            image.pick(
                reach(oh, stride[0], padding[0], dilation[0], i), reach(ow, stride[1], padding[1], dilation[1], j)
            )
            for i, j in taps
        ]
        terms = np.concatenate([grouped(part, groups) for part in met])
        y[some] = ungrouped(contraction(w, terms), len(met[0]), oh, ow)
    return y if bias is None else y + bias[:, None, None]


@kernel(
    "3",
    returns=lambda dy, weight, input_shape, *_: {"dx": (input_shape, dy.dtype)},
    layout={"dy": IMAGES, "weight": WEIGHT, "dx": IMAGES},
    launch="conv_input_grad",
    sizes=lambda dy, weight, input_shape, *geometry: {
        "conv": conv_problem(input_shape, dy.shape, weight.shape, *geometry)
    },
)
def conv2d_input_grad(
    dy: Array,
    weight: Array,
    input_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """The gradient of the first factor of ``conv2d``."""
    dx = np.zeros(input_shape, dy.dtype)
    out, per_group, *kernel = weight.shape
    w = weight.reshape(groups, out // groups, per_group, *kernel).transpose(3, 4, 1, 0, 2)
    image = Bordered(dy)
    # Elements of one remainder by the stride meet the same taps.
    firsts = (range(min(stride[side], input_shape[side + 2])) for side in (0, 1))
    for first_row, first_column in product(*firsts):
        rows = np.arange(first_row, input_shape[2], stride[0]) + padding[0]
        columns = np.arange(first_column, input_shape[3], stride[1]) + padding[1]
        down = [i for i in range(kernel[0]) if (first_row + padding[0] - i * dilation[0]) % stride[0] == 0]
        across = [j for j in range(kernel[1]) if (first_column + padding[1] - j * dilation[1]) % stride[1] == 0]
        if not (down and across and dx.size and len(rows) and len(columns)):
            continue
        taps = list(product(down, across))
        met = [
            image.pick((rows - i * dilation[0]) // stride[0], (columns - j * dilation[1]) // stride[1]) for i, j in taps
        ]
        terms = np.concatenate([grouped(part, groups) for part in met])
        y = contraction(np.concatenate([w[tap] for tap in taps]), terms)
        y = ungrouped(y, len(dy), len(rows), len(columns))
        dx[:, :, first_row :: stride[0], first_column :: stride[1]] = y
    return dx


@kernel(
    "3",
    returns=lambda dy, x, weight_shape, *_: {"dweight": (weight_shape, dy.dtype)},
    layout={"dy": IMAGES, "x": IMAGES, "dweight": WEIGHT},
    launch="conv_weight_grad",
    sizes=lambda dy, x, weight_shape, *geometry: {"conv": conv_problem(x.shape, dy.shape, weight_shape, *geometry)},
)
def conv2d_weight_grad(
    dy: Array,
    x: Array,
    weight_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """The gradient of the second factor of ``conv2d``."""
    dw = np.zeros(weight_shape, dy.dtype)
    out, per_group, *kernel = weight_shape
    image = Bordered(x)
    gradient = pixels(dy).reshape(-1, groups, out // groups)
    for i, j in product(range(kernel[0]), range(kernel[1])):
        rows = reach(dy.shape[2], stride[0], padding[0], dilation[0], i)
        columns = reach(dy.shape[3], stride[1], padding[1], dilation[1], j)
        met = pixels(image.pick(rows, columns)).reshape(-1, groups, per_group)
        dw[:, :, i, j] = contraction(gradient, met).reshape(out, per_group)
    return dw
