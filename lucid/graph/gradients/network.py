"""Gradients of layers: products, attention, convolution, pooling, resizing, normalisation and losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.core.tensor import Tensor, tensor
from lucid.graph.gradients._rules import differentiates, lowers, scalar, unbroadcast
from lucid.graph.gradients.functions import count, expand_like, max_pool_grad
from lucid.kernels.pool import taps
from lucid.ops import convolution
from lucid.ops._function import apply
from lucid.ops.activation import softplus
from lucid.ops.attention import AttentionWeights
from lucid.ops.comparison import equal, not_equal
from lucid.ops.elementwise import abs, add, div, exp, log, maximum, minimum, mul, neg, sigmoid, sqrt, square, sub, where
from lucid.ops.loss import BinaryCross, LogitCross
from lucid.ops.product import matmul
from lucid.ops.reduction import mean, sum
from lucid.ops.resize import _KINDS
from lucid.ops.shape import cast, getitem, pad, reshape, swapaxes, transpose

CONV = {1: convolution.conv1d, 2: convolution.conv2d, 3: convolution.conv3d}
CONV_TRANSPOSE = {
    1: convolution.conv_transpose1d,
    2: convolution.conv_transpose2d,
    3: convolution.conv_transpose3d,
}

# -- products and attention ------------------------------------------------------------------------------------------


@differentiates("matmul")
def _matmul(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    left = reshape(a, (1, a.size)) if a.ndim == 1 else a
    right = reshape(b, (b.size, 1)) if b.ndim == 1 else b
    if a.ndim == 1 or b.ndim == 1:
        leading = dy.shape[: dy.ndim - (a.ndim > 1) - (b.ndim > 1)]
        dy = reshape(dy, (*leading, left.shape[-2], right.shape[-1]))
    da = unbroadcast(matmul(dy, swapaxes(right, -1, -2)), left)
    db = unbroadcast(matmul(swapaxes(left, -1, -2), dy), right)
    return reshape(da, a.shape) if a.ndim == 1 else da, reshape(db, b.shape) if b.ndim == 1 else db


@differentiates("linear")
def _linear(f: Any, dy: Tensor, y: Tensor, x: Tensor, weight: Tensor, bias: Any) -> tuple[Tensor | None, ...]:
    rows = reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])) if x.ndim != 2 else x
    flat = reshape(dy, (math.prod(x.shape[:-1]), weight.shape[0])) if x.ndim != 2 else dy
    return matmul(dy, weight), matmul(swapaxes(flat, 0, 1), rows), None if bias is None else sum(flat, 0)


@lowers("attention")
def _attention(f: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    weights = apply(AttentionWeights(f.scale, f.causal), matmul(q, swapaxes(k, -1, -2)), mask)
    return matmul(weights, v)


@differentiates("attention_weights")
def _attention_weights(f: Any, dy: Tensor, y: Tensor, scores: Tensor, mask: Any) -> tuple[Tensor | None, ...]:
    grad = mul(y, sub(dy, sum(mul(dy, y), -1, keepdims=True)))
    return mul(grad, f.scale), None if mask is None or mask.dtype.kind != "f" else unbroadcast(grad, mask)


# -- convolution -----------------------------------------------------------------------------------------------------


def _geometry(f: Any) -> tuple[Any, ...]:
    return f.stride, f.padding, f.dilation, f.groups


def input_grad(dy: Tensor, weight: Tensor, shape: Sequence[int], geometry: tuple[Any, ...]) -> Tensor:
    """A transposed convolution, as much wider as the image has pixels behind the last window."""
    stride, padding, dilation, groups = geometry
    kernel, sides = weight.shape[2:], dy.shape[2:]
    least = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1
        for n, s, p, d, k in zip(sides, stride, padding, dilation, kernel, strict=True)
    ]
    over = [size - small for size, small in zip(shape[2:], least, strict=True)]
    beside = tuple([min(o, max(s, d) - 1) for o, s, d in zip(over, stride, dilation, strict=True)])
    dx = CONV_TRANSPOSE[len(kernel)](dy, weight, None, stride, padding, beside, groups, dilation)
    missing = [(0, o - b) for o, b in zip(over, beside, strict=True)]
    return pad(dx, [(0, 0), (0, 0), *missing]) if any(after for _, after in missing) else dx


def weight_grad(dy: Tensor, x: Tensor, shape: Sequence[int], geometry: tuple[Any, ...]) -> Tensor:
    """A convolution of the image, its channels being the batch, by ``dy``: strides and dilations change places."""
    stride, padding, dilation, groups = geometry
    images, channels = x.shape[:2]
    if not any(padding):  # pixels behind the last window are none of its
        ends = [
            (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(dy.shape[2:], stride, dilation, shape[2:], strict=True)
        ]
        x = x if tuple(ends) == x.shape[2:] else getitem(x, (slice(None), slice(None), *map(slice, ends)))
    sides = x.shape[2:]
    if groups > 1:
        parts = reshape(x, (images, groups, channels // groups, *sides))
        turned = transpose(parts, (2, 1, 0, *range(3, parts.ndim)))
        turned = reshape(turned, (channels // groups, groups * images, *sides))
    else:
        turned = swapaxes(x, 0, 1)
    made = CONV[len(sides)](turned, swapaxes(dy, 0, 1), None, dilation, padding, stride, groups)
    inside = tuple([slice(0, k) if n != k else slice(None) for n, k in zip(made.shape[2:], shape[2:], strict=True)])
    if any(part != slice(None) for part in inside):
        made = getitem(made, (slice(None), slice(None), *inside))
    return swapaxes(made, 0, 1)


def _bias_grad(dy: Tensor, bias: Any) -> Tensor | None:
    return None if bias is None else sum(dy, (0, *range(2, dy.ndim)))


@differentiates("conv1d", "conv2d", "conv3d")
def _conv(f: Any, dy: Tensor, y: Tensor, x: Tensor, weight: Tensor, bias: Any) -> tuple[Tensor | None, ...]:
    geometry = _geometry(f)
    dx = input_grad(dy, weight, x.shape, geometry)
    return dx, weight_grad(dy, x, weight.shape, geometry), _bias_grad(dy, bias)


@differentiates("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(f: Any, dy: Tensor, y: Tensor, x: Tensor, weight: Tensor, bias: Any) -> tuple[Tensor | None, ...]:
    geometry = _geometry(f)
    dx = CONV[x.ndim - 2](dy, weight, None, *geometry)
    if dx.shape != x.shape:  # a window of the output padding's is none of the convolution's
        dx = getitem(dx, (Ellipsis, *[slice(0, size) for size in x.shape[2:]]))
    return dx, weight_grad(x, dy, weight.shape, geometry), _bias_grad(dy, bias)


@differentiates("unfold")
def _unfold(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return convolution.fold(dy, f.image, f.kernel_size, f.dilation, f.padding, f.stride)


@differentiates("fold")
def _fold(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return convolution.unfold(dy, f.kernel_size, f.dilation, f.padding, f.stride)


# -- pooling and resizing --------------------------------------------------------------------------------------------


@differentiates("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return max_pool_grad(f, dy, x, y)


class _Even:
    """An adaptive pooling whose windows are of one size and share nothing, as a pooling."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        if any(n % m for n, m in zip(x.shape[2:], y.shape[2:], strict=True)):
            raise ValueError("an adaptive max pooling whose windows are of several sizes has no gradient in graphs")
        self.kernel_size = self.stride = tuple([n // m for n, m in zip(x.shape[2:], y.shape[2:], strict=True)])
        self.padding, self.dilation = (0,) * (x.ndim - 2), (1,) * (x.ndim - 2)


@differentiates("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max_pool(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return max_pool_grad(_Even(x, y), dy, x, y)


@differentiates("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Each element over its window: a transposed convolution of channel by channel with ones."""
    windows = _window_counts(f, x.shape[2:], y.shape[2:])
    shares = div(dy, tensor(windows.astype(dy.dtype)))
    images, channels = x.shape[:2]
    ones = tensor(np.ones((1, 1, *f.kernel_size), dy.dtype))
    ends = [(n - 1) * s + k for n, s, k in zip(y.shape[2:], f.stride, f.kernel_size, strict=True)]
    still = (0,) * (x.ndim - 2)
    single = reshape(shares, (images * channels, 1, *y.shape[2:]))
    spread = CONV_TRANSPOSE[x.ndim - 2](single, ones, None, f.stride, still, still, 1, (1,) * (x.ndim - 2))
    spread = reshape(spread, (images, channels, *ends))
    behind = [max(p + n - end, 0) for p, n, end in zip(f.padding, x.shape[2:], ends, strict=True)]
    if any(behind):
        spread = pad(spread, [(0, 0), (0, 0), *[(0, more) for more in behind]])
    inside = [slice(p, p + n) for p, n in zip(f.padding, x.shape[2:], strict=True)]
    return spread if spread.shape == x.shape else getitem(spread, (slice(None), slice(None), *inside))


def _window_counts(f: Any, sides: Sequence[int], outputs: Sequence[int]) -> np.ndarray:
    """By how much each window's sum is divided."""
    counts = np.ones(())
    for side, out, kernel, stride, padding in zip(sides, outputs, f.kernel_size, f.stride, f.padding, strict=True):
        first = np.arange(out) * stride - padding
        if f.count_include_pad:
            along = np.minimum(first + kernel, side + padding) - first
        else:
            along = np.minimum(first + kernel, side) - np.maximum(first, 0)
        counts = counts[..., None] * along
    return counts


def _along(x: Tensor, axis: int, matrix: np.ndarray) -> Tensor:
    """``x`` with its axis multiplied by a matrix: ``y[i] = sum over j of matrix[i, j] x[j]``."""
    constant = matrix.astype(x.dtype)
    if axis == x.ndim - 2:
        return matmul(tensor(constant), x)
    last = x.ndim - 1
    turned = x if axis == last else swapaxes(x, axis, last)
    made = matmul(turned, tensor(np.ascontiguousarray(constant.T)))
    return made if axis == last else swapaxes(made, axis, last)


@differentiates("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_avg_pool(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    if set(y.shape[2:]) == {1}:
        return expand_like(div(dy, count(x, tuple(range(2, x.ndim)))), x)
    for axis, (side, out) in enumerate(zip(x.shape[2:], y.shape[2:], strict=True), start=2):
        matrix = np.zeros((side, out))
        for i in range(out):
            start, stop = i * side // out, -(-(i + 1) * side // out)
            matrix[start:stop, i] = 1 / (stop - start)
        dy = _along(dy, axis, matrix)
    return dy


@differentiates("interpolate")
def _interpolate(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Every side is a product with a matrix of weights."""
    kind = _KINDS[f.mode][0]
    for i, (side, out) in enumerate(zip(x.shape[2:], y.shape[2:], strict=True)):
        factor = None if f.scale_factor is None else f.scale_factor[i]
        table = taps.side_taps(kind, side, out, f.align_corners, factor, f.antialias)
        dy = _along(dy, i + 2, taps.dense(table, side).T)
    return dy


@differentiates("resampled")
def _resampled(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    for i, (rule, side) in enumerate(zip(f.rules, x.shape[2:], strict=True)):
        dy = _along(dy, i + 2, taps.dense(rule.table(side), side).T)
    return dy


# -- normalisation ---------------------------------------------------------------------------------------------------


def _beside(value: Tensor, x: Tensor) -> Tensor:
    """One number for each channel, beside images."""
    return reshape(value, (1, x.shape[1], *[1] * (x.ndim - 2)))


def _standardized(f: Any, x: Tensor, running_mean: Any, running_var: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The standardised images, one over the deviation, mean and variance, with the axes kept."""
    axes = (0, *range(2, x.ndim))
    if f.training:
        middle = mean(x, axes, keepdims=True)
        centred = sub(x, middle)
        var = mean(square(centred), axes, keepdims=True)
    else:
        middle, var = _beside(running_mean, x), _beside(running_var, x)
        centred = sub(x, middle)
    inverse = div(scalar(1.0, x), sqrt(add(var, f.eps)))
    return mul(centred, inverse), inverse, middle, var


@lowers("batch_norm")
def _batch_norm(f: Any, x: Tensor, gamma: Any, beta: Any, running_mean: Any, running_var: Any, *more: Any) -> Any:
    """By the statistics of the batch its parts, and what the running statistics become; by stored ones itself."""
    if not f.training:
        return apply(f, x, gamma, beta, running_mean, running_var)
    y, _, middle, var = _standardized(f, x, running_mean, running_var)
    y = y if gamma is None else mul(y, _beside(gamma, x))
    y = y if beta is None else add(y, _beside(beta, x))
    changed = {}
    if running_mean is not None and f.momentum:
        many = count(x, (0, *range(2, x.ndim)))
        unbiased = mul(var, div(many, sub(many, 1.0)))
        for place, running, value in ((3, running_mean, middle), (4, running_var, unbiased)):
            step = mul(sub(reshape(value, running.shape), running), f.momentum)
            changed[place] = add(running, step)
    return y, changed


@differentiates("batch_norm")
def _batch_norm_grad(
    f: Any, dy: Tensor, y: Tensor, x: Tensor, gamma: Any, beta: Any, running_mean: Any, running_var: Any, *more: Any
) -> tuple[Tensor | None, ...]:
    axes = (0, *range(2, x.ndim))
    normal, inverse, _, _ = _standardized(f, x, running_mean, running_var)
    dgamma = sum(mul(dy, normal), axes, keepdims=True)
    dbeta = sum(dy, axes, keepdims=True)
    centred = dy
    if f.training:
        many = count(x, axes)
        centred = sub(sub(dy, div(dbeta, many)), mul(normal, div(dgamma, many)))
    scale = inverse if gamma is None else mul(inverse, _beside(gamma, x))
    flat = (x.shape[1],)
    return (
        mul(centred, scale),
        None if gamma is None else reshape(dgamma, flat),
        None if beta is None else reshape(dbeta, flat),
        None,
        None,
    )


# -- losses ----------------------------------------------------------------------------------------------------------


@differentiates("log_softmax")
def _log_softmax(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return sub(dy, mul(exp(y), sum(dy, f.axis, keepdims=True)))


@differentiates("nll_loss")
def _nll_loss(f: Any, dy: Tensor, y: Tensor, logp: Tensor, target: Tensor, weight: Any) -> tuple[Tensor | None, ...]:
    """``-w`` where the class is the target, over the sum of the targets' weights for a mean."""
    rows, classes = logp.shape
    column = reshape(target, (rows, 1))
    chosen = cast(equal(tensor(np.arange(classes)[None]), column), dy.dtype)
    if weight is not None:
        chosen = mul(chosen, reshape(weight, (1, classes)))
    zero = scalar(0.0, dy)
    chosen = where(not_equal(column, f.ignore_index), chosen, zero)
    if f.reduction == "mean":
        dy = div(dy, sum(chosen))
    elif f.reduction == "none":
        dy = reshape(dy, (rows, 1))
    return where(equal(chosen, 0.0), zero, neg(mul(chosen, dy))), None, None


@differentiates("huber")
def _huber(f: Any, dy: Tensor, y: Tensor, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    dx = mul(dy, maximum(minimum(sub(x, target), f.delta), -f.delta))
    return dx, neg(dx)


@lowers("huber")
def _huber_parts(f: Any, x: Tensor, target: Tensor) -> Tensor:
    size = abs(sub(x, target))
    near = minimum(size, f.delta)
    return mul(near, sub(size, mul(near, 0.5)))


@differentiates(BinaryCross.name)
def _cross(f: Any, dy: Tensor, y: Tensor, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    dx = div(sub(x, target), maximum(mul(x, sub(1.0, x)), 1e-12))
    return mul(dy, dx), mul(dy, sub(_log(sub(1.0, x)), _log(x)))


def _log(x: Tensor) -> Tensor:
    return maximum(log(x), -100.0)


@lowers(BinaryCross.name)
def _cross_parts(f: Any, x: Tensor, target: Tensor) -> Tensor:
    return neg(add(mul(target, _log(x)), mul(sub(1.0, target), _log(sub(1.0, x)))))


@differentiates(LogitCross.name)
def _logit_cross(f: Any, dy: Tensor, y: Tensor, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    slope = sub(mul(sub(1.0, target), sigmoid(x)), mul(target, sigmoid(neg(x))))
    return mul(dy, slope), mul(dy, neg(x))


@lowers(LogitCross.name)
def _logit_cross_parts(f: Any, x: Tensor, target: Tensor) -> Tensor:
    return add(sub(maximum(x, 0.0), mul(x, target)), softplus(neg(abs(x))))
