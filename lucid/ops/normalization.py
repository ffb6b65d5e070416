"""Normalisation by mean and variance: of batches (``ARITHMETIC.md``, section 7) and of layers (7.1)."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from lucid.backends import Backend, backend_for
from lucid.core.dtypes import float64
from lucid.core.grad_mode import recording
from lucid.core.tensor import Tensor
from lucid.ops._function import Function, apply, compose, mixed_floats
from lucid.ops.elementwise import add, div, mul, sqrt, square, sub
from lucid.ops.reduction import mean

__all__ = ["batch_norm", "layer_norm"]


class BatchNorm(Function):
    """``training`` says whether the statistics are the batch's; they are left in ``mean`` and ``var`` (float64)."""

    name = "batch_norm"
    floats = True
    params = ("training", "momentum", "eps")

    def __init__(self, training: bool, momentum: float, eps: float) -> None:
        self.training = training
        self.momentum = momentum
        self.eps = eps

    def forward(self, be: Backend, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any) -> Any:
        if self.training:
            y, mean, var = be.batch_norm_train(x, gamma, beta, self.eps)
            self.mean, self.var = statistics_of(be, x, mean, var)
        else:
            self.mean, self.var = stored(be, running_mean), stored(be, running_var)
            y = be.batch_norm_eval(x, gamma, beta, self.mean, self.var, self.eps)
        self.saved = (x, gamma)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        x, gamma = self.saved  # type: ignore[misc]
        grads = be.batch_norm_grad(dy, x, gamma, self.mean, self.var, self.eps, self.training)
        needs = self.needs or ()
        return tuple([grad if need else None for grad, need in zip(grads, needs, strict=False)])


def statistics_of(be: Backend, x: Any, mean: Any, var: Any) -> tuple[Any, Any]:
    """The batch's statistics for the backward pass: of no values 0 and 1 instead of NaN, so that sums over no terms are
    0 there as everywhere."""
    return (mean, var) if x.size else (be.xp.zeros_like(mean), be.xp.ones_like(var))


def stored(be: Backend, statistic: Any) -> Any:
    """A running statistic in float64: a copy, because training goes on changing it."""
    wide = be.convert(statistic, float64)
    return wide.copy() if wide is statistic else wide


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` for each channel.

    Args:
        input: ``(N, C)``, or images of one to three sides, such as ``(N, C, H, W)``.
        running_mean: ``(C,)``, the mean to use in evaluation; updated in place in training. May be None in training.
        running_var: ``(C,)``, likewise the variance.
        weight: ``(C,)``, or None for 1.
        bias: ``(C,)``, or None for 0.
        training: whether mean and (biased) variance are those of the batch, over all axes but the
            channels'.
        momentum: ``running = running + momentum * (batch statistic - running)``; the variance that goes in is unbiased.
        eps: added to the variance.

    Returns:
        A tensor of the input's shape.

    Raises:
        ValueError: another rank or channel count; in training, a single value per channel; in evaluation, no
            statistics.
        TypeError: two float dtypes.

    Source: ONNX operator BatchNormalization; Ioffe and Szegedy, ICML 2015.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.tensor([1.0, 3.0]), (2, 1, 1, 1))
        >>> lucid.nn.functional.batch_norm(x, None, None, training=True, eps=0.0).tolist()
        [[[[-1.0]]], [[[1.0]]]]
    """
    return run(BatchNorm(training, momentum, eps), input, weight, bias, running_mean, running_var)


def run(
    function: BatchNorm,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *residual: Tensor | None,
) -> Tensor:
    """Check the operands, apply the function, let the running statistics follow."""
    shape = input._array.shape
    if not 2 <= len(shape) <= 5:
        raise ValueError(f"batch_norm: input has shape {shape}; must be (N, C), or images of one to three sides")
    check_channels(shape, running_mean, running_var, weight, bias)
    count = shape[0] * math.prod(shape[2:])
    if function.training and count == 1:
        raise ValueError(f"batch_norm: training needs more than one value per channel; input has shape {shape}")
    if not function.training and (running_mean is None or running_var is None):
        raise ValueError("batch_norm: evaluation needs running_mean and running_var; got None")
    y = apply(function, input, weight, bias, running_mean, running_var, *residual)
    if function.training and count and not recording.recomputing:
        be = backend_for(input.device)
        for running, statistic, factor in (
            (running_mean, function.mean, 1.0),
            (running_var, function.var, count / (count - 1)),
        ):
            if running is not None:
                be.running_update(running._array, statistic, factor, function.momentum)
                running._changed()
    return y


def check_channels(shape: tuple[int, ...], *values: Tensor | None) -> None:
    """Raise unless statistics and coefficients are one for each channel of an image of ``shape``."""
    channels = shape[1:2]
    for value in values:
        if value is not None and value._array.shape != channels:
            raise ValueError(
                f"batch_norm: input of shape {shape} has {shape[1]} channels; running_mean, running_var, weight, bias "
                f"must have shape {channels}, one of them has {value.shape}"
            )


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias``, mean and (biased) variance being those of the last axes.

    Args:
        input: ``(..., *normalized_shape)``, float32 or float64.
        normalized_shape: the lengths of the axes that are normalised together: one number, or several.
        weight: of shape ``normalized_shape``, or None for 1.
        bias: likewise, or None for 0.
        eps: added to the variance.

    Returns:
        A tensor of the input's shape and dtype. It is composed of other operations, and so is its gradient.

    Raises:
        ValueError: ``normalized_shape`` is empty, or not the end of the input's shape, or not the shape of a
            weight or bias.
        TypeError: integers, or two float dtypes.

    Source: ONNX operator LayerNormalization; Ba, Kiros and Hinton, 2016.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.layer_norm(lucid.tensor([[1.0, 3.0], [2.0, 10.0]]), 2, eps=0.0)
        tensor([[-1.,  1.],
                [-1.,  1.]])
    """
    shape = shape_of_layer(normalized_shape)
    if input.shape[-len(shape) :] != shape:
        raise ValueError(f"layer_norm: input has shape {input.shape}; must end in normalized_shape, {shape}")
    if input.dtype.kind != "f":
        raise TypeError(f"layer_norm: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != shape:
            raise ValueError(f"{name}: got shape {value.shape}; must be normalized_shape, {shape}")
        if value is not None and value.dtype != input.dtype:
            raise mixed_floats("layer_norm", input.dtype, value.dtype)
    return compose("layer_norm", _layer_norm, input, weight, bias, normalized_shape=shape, eps=float(eps))


def _layer_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, normalized_shape: tuple[int, ...], eps: float
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = sub(x, mean(x, axes, keepdims=True))
    y = div(centred, sqrt(add(mean(square(centred), axes, keepdims=True), eps)))
    if weight is not None:
        y = mul(y, weight)
    return y if bias is None else add(y, bias)


def shape_of_layer(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """``normalized_shape``, a number or several, as a shape.

    Raises:
        ValueError: it is empty.
    """
    numbers = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not numbers:
        raise ValueError("normalized_shape: got (); must name at least one axis")
    return tuple(map(operator.index, numbers))
