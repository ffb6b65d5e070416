"""The law, executed: ``lucid/ARITHMETIC.md`` in NumPy alone, kernel by kernel. Every other backend is judged by it.

It is written to be read beside the text, whose sections are named as §n. It vectorises across output elements and
across segments, never inside a sum, and bounds its memory by working through the outputs in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from lucid.backends import _random
from lucid.backends._fma import chain, fma
from lucid.backends.base import Array, Backend, Pair
from lucid.kernels.elementwise import functions
from lucid.kernels.elementwise.functions import FUNCTIONS

RUN = 32  # §2: terms in a run
SEGMENT = 256  # §2: terms in a segment
GROUP = 32  # §2: segments in a group
BLOCK = 1 << 15  # partial sums worked on at once: their buffers fit a core's cache
WIDTH = 256  # outputs in a block's row, at most
GATHERED = 1 << 22  # terms copied out of an image at once

quiet = np.errstate  # @quiet(all="ignore"): infinities and NaN are results here, not accidents


def wide(x: Array) -> Array:
    return x.astype(np.float64)


# -- sums: §2 ----------------------------------------------------------------------------------------------------------


def combine(parts: Array, *sizes: int) -> Array:
    """The total of partial sums on axis 0 (at least one): ``sizes[0]`` of them make one of the next level, etc."""
    for size in sizes:
        parts = [_in_order(parts[i : i + size]) for i in range(0, len(parts), size)]
    return _in_order(parts)


def _in_order(terms: Any) -> Array:
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
    return _in_order(groups)


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


def conv_output(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def pixels(x: Array) -> Array:
    """``(N, C, H, W)`` as ``(N * H * W, C)``, in the order ``(n, h, w)``."""
    return x.transpose(0, 2, 3, 1).reshape(x.size // x.shape[1] if x.shape[1] else 0, x.shape[1])


# -- windows of average pooling: §8 ------------------------------------------------------------------------------------
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


class ReferenceBackend(Backend):
    """The law in NumPy. Arguments and results are described in ``base.py``."""

    name = "reference"
    xp = np

    # -- elementwise: §5, §6 -------------------------------------------------------------------------------------------

    @quiet(all="ignore")
    def unary(self, op: str, x: Array) -> Array:
        return np.asarray(FUNCTIONS[op](np.atleast_1d(x)).reshape(x.shape))

    @quiet(all="ignore")
    def binary(self, op: str, a: Array, b: Array) -> Array:
        y = FUNCTIONS[op](np.atleast_1d(a), np.atleast_1d(b))
        return np.asarray(y.reshape(np.broadcast_shapes(a.shape, b.shape)))

    @quiet(all="ignore")
    def power(self, x: Array, exponent: float) -> Array:
        if exponent == 0.5:
            return self.unary("sqrt", x)
        values = np.atleast_1d(x)
        if abs(exponent) < 2**30 and float(exponent).is_integer():
            y = functions.power_whole(values, int(exponent))
        else:
            y = functions.power_real(values, exponent)
        return np.array(y.reshape(x.shape))  # x itself to the power 1

    # -- sums: §2, §4, §12 ---------------------------------------------------------------------------------------------

    @quiet(all="ignore")
    def reduce(self, op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdims or axis not in axes)
        count, outputs = prod(x.shape[axis] for axis in axes), prod(x.shape[axis] for axis in kept)
        terms = x.transpose(*axes, *kept).reshape(count, outputs)
        if op in ("max", "min"):  # argmax gives the first of equal terms, the first NaN if there is one
            first = terms.argmax(axis=0) if op == "max" else terms.argmin(axis=0)
            y = np.take_along_axis(terms, first[None], axis=0)
        else:
            y = sum_of(terms) if op == "sum" else sum_of(terms) / count
        return y.astype(x.dtype).reshape(shape)

    @quiet(all="ignore")
    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        size = prod(shape)
        positions = np.arange(size).reshape(shape)[index]
        y = np.zeros(size, values.dtype)
        np.add.at(y, positions.ravel(), np.broadcast_to(values, positions.shape).ravel())
        return y.reshape(shape)

    # -- contractions: §3 ----------------------------------------------------------------------------------------------

    @quiet(all="ignore")
    def matmul(self, a: Array, b: Array) -> Array:
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        (m, k), n = a.shape[-2:], b.shape[-1]
        batch = prod(leading)
        a = np.broadcast_to(a, (*leading, m, k)).reshape(batch, m, k)
        b = np.broadcast_to(b, (*leading, k, n)).reshape(batch, k, n)
        return contraction(a.transpose(2, 0, 1), b.swapaxes(0, 1)).reshape(*leading, m, n)

    @quiet(all="ignore")
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = self.matmul(x, weight.T)
        return y if bias is None else y + bias

    @quiet(all="ignore")
    def conv2d(
        self, x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Array:
        (n, _, *size), (out, per_group, *kernel) = x.shape, weight.shape
        oh, ow = (conv_output(size[i], kernel[i], stride[i], padding[i], dilation[i]) for i in (0, 1))
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

    @quiet(all="ignore")
    def conv2d_input_grad(
        self,
        dy: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Array:
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
                image.pick((rows - i * dilation[0]) // stride[0], (columns - j * dilation[1]) // stride[1])
                for i, j in taps
            ]
            terms = np.concatenate([grouped(part, groups) for part in met])
            y = contraction(np.concatenate([w[tap] for tap in taps]), terms)
            y = ungrouped(y, len(dy), len(rows), len(columns))
            dx[:, :, first_row :: stride[0], first_column :: stride[1]] = y
        return dx

    @quiet(all="ignore")
    def conv2d_weight_grad(
        self,
        dy: Array,
        x: Array,
        weight_shape: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Array:
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

    # -- batch normalisation: §7 ---------------------------------------------------------------------------------------

    @quiet(all="ignore")
    def batch_norm_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        values = wide(pixels(x))
        count = np.float64(len(values))
        first = values[0] if len(values) else np.zeros(x.shape[1])
        pivot = np.where(np.isfinite(first), first, 0.0)
        d = values - pivot
        e = sum_of(d) / count
        mean, var = pivot + e, np.maximum(sum_of(d * d) / count - e * e, 0.0)
        return self.batch_norm_eval(x, gamma, beta, mean, var, eps), mean, var

    @quiet(all="ignore")
    def batch_norm_eval(
        self, x: Array, gamma: Array | None, beta: Array | None, mean: Array, var: Array, eps: float
    ) -> Array:
        _, scale = _scale(gamma, var, eps)
        m, k = mean.astype(x.dtype), scale.astype(x.dtype)
        rest = mean - wide(m)
        shift = ((0.0 if beta is None else wide(beta)) - rest * wide(k)).astype(x.dtype)
        return fma(x - _per_channel(m), _per_channel(k), _per_channel(shift))

    @quiet(all="ignore")
    def batch_norm_grad(
        self, dy: Array, x: Array, gamma: Array | None, mean: Array, var: Array, eps: float, training: bool
    ) -> tuple[Array, Array, Array]:
        gradient = wide(pixels(dy))
        count = np.float64(len(gradient))
        A, B = sum_of(gradient), sum_of(gradient * (wide(pixels(x)) - mean))
        rstd, scale = _scale(gamma, var, eps)
        m, k = mean.astype(x.dtype), scale.astype(x.dtype)
        rest = mean - wide(m)
        if training:
            b = (-((scale * (rstd * rstd)) * (B / count))).astype(x.dtype)
            c = (-(scale * (A / count)) - rest * wide(b)).astype(x.dtype)
            dx = fma(dy, _per_channel(k), fma(x - _per_channel(m), _per_channel(b), _per_channel(c)))
        else:
            dx = dy * _per_channel(k)
        return dx, (B * rstd).astype(x.dtype), A.astype(x.dtype)

    # -- pooling: §8 ---------------------------------------------------------------------------------------------------

    @quiet(all="ignore")
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, output: Pair
    ) -> tuple[Array, Array]:
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

    @quiet(all="ignore")
    def max_pool2d_grad(self, dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array:
        n, c, h, w = input_shape
        dx = np.zeros(n * c * h * w, dy.dtype)
        positions = np.arange(n * c).reshape(n, c, 1, 1) * (h * w) + index
        np.add.at(dx, positions[index >= 0], dy[index >= 0])  # row-major, one after the other
        return dx.reshape(input_shape)

    @quiet(all="ignore")
    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool, output: Pair
    ) -> Array:
        sides, count = _pooling(x.shape[2:], output, kernel, stride, padding, count_include_pad)
        return (sums_over(x, *sides) / count).astype(x.dtype)

    @quiet(all="ignore")
    def avg_pool2d_grad(
        self,
        dy: Array,
        input_shape: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        count_include_pad: bool,
    ) -> Array:
        sides, count = _pooling(input_shape[2:], dy.shape[2:], kernel, stride, padding, count_include_pad)
        covers = (covering(side, size) for side, size in zip(sides, input_shape[2:], strict=True))
        return sums_over(wide(dy) / count, *covers).astype(dy.dtype)

    @quiet(all="ignore")
    def adaptive_avg_pool2d(self, x: Array, output: Pair) -> Array:
        sides = [adaptive_side(*sizes) for sizes in zip(x.shape[2:], output, strict=True)]
        return (sums_over(x, *sides) / _count(sides)).astype(x.dtype)

    @quiet(all="ignore")
    def adaptive_avg_pool2d_grad(self, dy: Array, input_shape: tuple[int, ...]) -> Array:
        sides = [adaptive_side(*sizes) for sizes in zip(input_shape[2:], dy.shape[2:], strict=True)]
        covers = (covering(side, size) for side, size in zip(sides, input_shape[2:], strict=True))
        return sums_over(wide(dy) / _count(sides), *covers).astype(dy.dtype)

    # -- softmax and loss: §9 ------------------------------------------------------------------------------------------

    @quiet(all="ignore")
    def log_softmax(self, x: Array, axis: int) -> Array:
        z = wide(x) - wide(x.max(axis=axis, keepdims=True))
        total = functions.log64(sum_of(np.moveaxis(functions.exp64(z), axis, 0)))
        return (z - np.expand_dims(total, axis)).astype(x.dtype)

    @quiet(all="ignore")
    def log_softmax_grad(self, dy: Array, y: Array, axis: int) -> Array:
        total = np.expand_dims(sum_of(np.moveaxis(dy, axis, 0)), axis)
        return (wide(dy) - functions.exp64(wide(y)) * total).astype(dy.dtype)

    @quiet(all="ignore")
    def nll_loss(
        self, logp: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str
    ) -> tuple[Array, Array]:
        rows = np.flatnonzero(target != ignore_index)
        weights = _weights(weight, target[rows])
        losses = -(weights * wide(logp[rows, target[rows]]))
        weight_sum = np.asarray(sum_of(weights))
        if reduction == "none":
            y = np.zeros(len(target))
            y[rows] = losses
        else:
            y = sum_of(losses) if reduction == "sum" else sum_of(losses) / weight_sum
        return np.asarray(y).astype(logp.dtype), weight_sum

    @quiet(all="ignore")
    def nll_loss_grad(
        self,
        dloss: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
        reduction: str,
        weight_sum: Array,
        classes: int,
    ) -> Array:
        rows = np.flatnonzero(target != ignore_index)
        q = wide(dloss)
        if reduction == "none":
            q = q[rows]
        elif reduction == "mean":
            q = q / weight_sum
        dx = np.zeros((len(target), classes), dloss.dtype)
        dx[rows, target[rows]] = -(_weights(weight, target[rows]) * q)
        return dx

    # -- optimiser: §10 ------------------------------------------------------------------------------------------------

    @quiet(all="ignore")
    def sgd_step(
        self,
        param: Array,
        grad: Array,
        velocity: Array | None,
        first: bool,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
    ) -> None:
        number = param.dtype.type
        d = -grad if maximize else grad
        if weight_decay:
            d = fma(number(weight_decay), param, d)
        if momentum:
            assert velocity is not None
            if first:
                velocity[...] = d
            else:
                fresh = number(1 - dampening) * d if dampening else d
                velocity[...] = fma(number(momentum), velocity, fresh)
            d = fma(number(momentum), velocity, d) if nesterov else velocity
        param[...] = fma(-number(lr), d, param)

    # -- random numbers: §11 -------------------------------------------------------------------------------------------

    def philox(self, seed: int, stream: int, block: int, words: int) -> Array:
        return _random.philox4x32(seed, stream, block, -(-words // 4))[:words]

    @quiet(all="ignore")
    def uniform(self, seed: int, stream: int, block: int, n: int, low: float, high: float, dtype: Any) -> Array:
        return (low + (high - low) * self._fractions(seed, stream, block, n, dtype)).astype(dtype)

    @quiet(all="ignore")
    def normal(self, seed: int, stream: int, block: int, n: int, mean: float, std: float, dtype: Any) -> Array:
        return (mean + std * _random.normal64(self._fractions(seed, stream, block, n, dtype))).astype(dtype)

    def _fractions(self, seed: int, stream: int, block: int, n: int, dtype: Any) -> Array:
        """The law's ``u``, in float64, strictly between 0 and 1."""
        if np.dtype(dtype) == np.float32:
            return (wide(self.philox(seed, stream, block, n)) + 0.5) * 2.0**-32
        r0, r1 = self.philox(seed, stream, block, 2 * n).reshape(n, 2).T
        return (wide(r0 >> 6) * 2.0**26 + wide(r1 >> 6) + 0.5) * 2.0**-52


def _scale(gamma: Array | None, var: Array, eps: float) -> tuple[Array, Array]:
    """``(rstd, scale)`` of §7."""
    rstd = 1 / np.sqrt(var + eps)
    return rstd, rstd if gamma is None else wide(gamma) * rstd


def _per_channel(coefficient: Array) -> Array:
    return coefficient[:, None, None]


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


def _weights(weight: Array | None, target: Array) -> Array:
    return np.ones(len(target)) if weight is None else wide(weight)[target]
