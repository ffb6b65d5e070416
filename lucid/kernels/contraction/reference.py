"""Sums of products: matrix products, convolution and its gradients, section 3 of the law."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from lucid.kernels._fma import chain
from lucid.kernels.declare import IMAGES, WEIGHT, Array, Returns, Sides, Structure, kernel
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
from lucid.kernels.windows import output_sizes, window_fields

BLOCK = 1 << 15  # partial sums worked on at once: their buffers fit a core's cache
WIDTH = 256  # outputs in a block's row, at most


@lru_cache(1024)
def conv_problem(
    x: tuple[int, ...],
    y: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Sides,
    padding: Sides,
    dilation: Sides,
    groups: int,
) -> Structure:
    """The fields of ``Conv`` of kernels.def, from the shapes of the arrays."""
    windows = window_fields(x[2:], y[2:], weight[2:], stride, padding, dilation)
    return Structure(n=x[0], c=x[1], o=weight[0], groups=groups, **windows)


@lru_cache(1024)
def conv_shape(
    x: tuple[int, ...], weight: tuple[int, ...], stride: Sides, padding: Sides, dilation: Sides, groups: int = 1
) -> tuple[int, ...]:
    """The shape of ``conv2d``'s result, from those of its operands."""
    return x[0], weight[0], *output_sizes(x[2:], weight[2:], stride, padding, dilation)


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
    x: Array, weight: Array, bias: Array | None, stride: Sides, padding: Sides, dilation: Sides, groups: int
) -> Array:
    """``(N, C, *sides) * (O, C/groups, *kernel) -> (N, O, *outputs)``, for one, two or three sides."""
    (n, out, *outputs), (_, per_group, *kernel) = (
        conv_shape(x.shape, weight.shape, stride, padding, dilation),
        weight.shape,
    )
    taps = list(product(*map(range, kernel)))
    by_tap = weight.reshape(groups, out // groups, per_group, *kernel)
    by_tap = by_tap.transpose(*range(3, by_tap.ndim), 2, 0, 1)
    w = np.concatenate([by_tap[tap] for tap in taps])
    y = np.zeros((n, out, *outputs), x.dtype)
    for some in blocks(n, max(1, GATHERED // max(1, x.shape[1] * len(taps) * prod(outputs)))):
        image = Bordered(x[some])
        met = [image.pick(*reach(tuple(outputs), stride, padding, dilation, tap)) for tap in taps]
        terms = np.concatenate([grouped(part, groups) for part in met])
        y[some] = ungrouped(contraction(w, terms), len(met[0]), tuple(outputs))
    return y if bias is None else y + bias.reshape(-1, *[1 for _ in outputs])


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
    stride: Sides,
    padding: Sides,
    dilation: Sides,
    groups: int,
) -> Array:
    """The gradient of the first factor of ``conv2d``."""
    dx = np.zeros(input_shape, dy.dtype)
    (out, per_group, *kernel), (_, _, *sizes) = weight.shape, input_shape
    by_tap = weight.reshape(groups, out // groups, per_group, *kernel)
    by_tap = by_tap.transpose(*range(3, by_tap.ndim), 1, 0, 2)
    image = Bordered(dy)
    # Elements of one remainder by the stride meet the same taps.
    for firsts in product(*(range(min(step, size)) for step, size in zip(stride, sizes, strict=True))):
        sides = list(zip(firsts, sizes, kernel, stride, padding, dilation, strict=True))
        places = [np.arange(first, size, step) + pad for first, size, _, step, pad, _ in sides]
        seen = [
            [k for k in range(taps) if (first + pad - k * gap) % step == 0] for first, _, taps, step, pad, gap in sides
        ]
        taps = list(product(*seen))
        if not (taps and dx.size):
            continue
        met = [
            image.pick(*((p - k * gap) // step for p, k, gap, step in zip(places, tap, dilation, stride, strict=True)))
            for tap in taps
        ]
        terms = np.concatenate([grouped(part, groups) for part in met])
        y = contraction(np.concatenate([by_tap[tap] for tap in taps]), terms)
        class_of = tuple([slice(first, None, step) for first, step in zip(firsts, stride, strict=True)])
        dx[:, :, *class_of] = ungrouped(y, len(dy), tuple(map(len, places)))
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
    stride: Sides,
    padding: Sides,
    dilation: Sides,
    groups: int,
) -> Array:
    """The gradient of the second factor of ``conv2d``."""
    dw: Array = np.zeros(weight_shape, dy.dtype)
    out, per_group, *kernel = weight_shape
    image = Bordered(x)
    gradient = pixels(dy).reshape(-1, groups, out // groups)
    for tap in product(*map(range, kernel)):
        met = image.pick(*reach(dy.shape[2:], stride, padding, dilation, tap))
        terms = pixels(met).reshape(-1, groups, per_group)
        dw[:, :, *tap] = contraction(gradient, terms).reshape(out, per_group)
    return dw
