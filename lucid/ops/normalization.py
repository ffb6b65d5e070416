"""Batch normalisation (``ARITHMETIC.md``, section 7)."""

from __future__ import annotations

from typing import Any

from lucid.backends import Backend, backend_for
from lucid.core.dtypes import float64
from lucid.core.tensor import Tensor
from lucid.ops._function import Function, apply
from lucid.ops._window import require_image

__all__ = ["batch_norm"]


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
        input: images ``(N, C, H, W)``.
        running_mean: ``(C,)``, the mean to use in evaluation; updated in place in training. May be None in training.
        running_var: ``(C,)``, likewise the variance.
        weight: ``(C,)``, or None for 1.
        bias: ``(C,)``, or None for 0.
        training: whether mean and (biased) variance are those of the batch, over ``(N, H, W)``.
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
    require_image("batch_norm", shape)
    check_channels(shape, running_mean, running_var, weight, bias)
    count = shape[0] * shape[2] * shape[3]
    if function.training and count == 1:
        raise ValueError(f"batch_norm: training needs more than one value per channel; input has shape {shape}")
    if not function.training and (running_mean is None or running_var is None):
        raise ValueError("batch_norm: evaluation needs running_mean and running_var; got None")
    y = apply(function, input, weight, bias, running_mean, running_var, *residual)
    if function.training and count:
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
