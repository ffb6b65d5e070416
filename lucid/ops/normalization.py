"""Normalisation by mean and variance: of batches (``ARITHMETIC.md``, section 7) and of layers (7.1)."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.backends import Backend, backend_for
from lucid.core.dtypes import float64
from lucid.core.grad_mode import no_grad, recording
from lucid.core.tensor import Tensor
from lucid.ops._common import one_axis
from lucid.ops._function import Function, apply, compose, mixed_floats, tracing
from lucid.ops.elementwise import abs, add, div, maximum, mul, power, sqrt, square, sub, where
from lucid.ops.reduction import max, mean, sum, var
from lucid.ops.shape import reshape

__all__ = [
    "batch_norm",
    "global_response_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "normalize",
    "rms_norm",
]


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
    shape = check_layer("layer_norm", input, normalized_shape, weight, bias)
    return _standardized("layer_norm", _layer_norm, input, weight, bias, shape, float(eps))


class Standardize(Function):
    """Layer normalisation and that by the root mean square, of rows in one pass: the composition's bits."""

    name = "standardize"
    accumulates = floats = True

    def __init__(self, width: int, eps: float, centre: bool) -> None:
        self.width = width
        self.eps = eps
        self.centre = centre

    def forward(self, be: Backend, x: Any, weight: Any, bias: Any) -> Any:
        rows = x.reshape(-1, self.width)
        flat = None if weight is None else weight.reshape(-1)
        y, mean, root = be.standardize(rows, flat, None if bias is None else bias.reshape(-1), self.eps, self.centre)
        self.saved = (rows, flat, mean, root)
        self.shapes = x.shape, None if weight is None else weight.shape, None if bias is None else bias.shape
        return y.reshape(x.shape)

    def backward(self, be: Backend, dy: Any, accumulate_into: Any) -> tuple[Any, ...]:
        x, weight, mean, root = self.saved  # type: ignore[misc]
        arrived = None if accumulate_into is None else accumulate_into.reshape(x.shape)
        grads = be.standardize_grad(dy.reshape(x.shape), x, weight, mean, root, arrived, self.needs)  # type: ignore[arg-type]
        return tuple([None if grad is None else grad.reshape(s) for grad, s in zip(grads, self.shapes, strict=True)])


def _standardized(
    name: str,
    body: Any,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    shape: tuple[int, ...],
    eps: float,
) -> Tensor:
    """The composition ``body``, or one kernel that has its bits."""
    width = math.prod(shape)
    # Of a single row, or of rows of one number, a gradient is not summed, which shows in the sign of a zero.
    if tracing() or width < 2 or input.ndim == len(shape) or not input.size:
        return compose(name, body, input, weight, bias, normalized_shape=shape, eps=eps)
    return apply(Standardize(width, eps, name == "layer_norm"), input, weight, bias)


def _layer_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, normalized_shape: tuple[int, ...], eps: float
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    return _scaled(sub(x, mean(x, axes, keepdims=True)), axes, eps, weight, bias)


def _scaled(centred: Tensor, axes: Any, eps: float, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = div(centred, sqrt(add(mean(square(centred), axes, keepdims=True), eps)))
    if weight is not None:
        y = mul(y, weight)
    return y if bias is None else add(y, bias)


def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """``y = x / sqrt(mean(x^2) + eps) * weight``, the mean being that of the last axes.

    Args:
        input: ``(..., *normalized_shape)``, float32 or float64.
        normalized_shape: the lengths of the axes that are normalised together: one number, or several.
        weight: of shape ``normalized_shape``, or None for 1.
        eps: added to the mean; None for the spacing of the dtype's numbers at 1.

    Returns:
        A tensor of the input's shape and dtype. It is composed of other operations, and so is its gradient.

    Raises: as ``layer_norm``.

    Source: ONNX operator RMSNormalization; Zhang and Sennrich, NeurIPS 2019.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.rms_norm(lucid.tensor([[1.0, 7.0], [0.0, 2.0]]), 2, eps=0.0)
        tensor([[0.2      , 1.4      ],
                [0.       , 1.4142135]])
    """
    shape = check_layer("rms_norm", input, normalized_shape, weight, None)
    chosen = float(np.finfo(input.dtype).eps) if eps is None else float(eps)
    return _standardized("rms_norm", _rms_norm, input, weight, None, shape, chosen)


def _rms_norm(x: Tensor, weight: Tensor | None, _: None, normalized_shape: tuple[int, ...], eps: float) -> Tensor:
    return _scaled(x, tuple(range(-len(normalized_shape), 0)), eps, weight, None)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias``, mean and variance being those of a group of channels.

    Args:
        input: ``(N, C, ...)``, float32 or float64.
        num_groups: into how many groups the channels are parted.
        weight: ``(C,)``, or None for 1.
        bias: ``(C,)``, or None for 0.
        eps: added to the variance.

    Returns:
        A tensor of the input's shape and dtype: ``layer_norm`` of each group, then a product and a sum.

    Raises:
        ValueError: fewer than two axes, ``C`` that is no multiple of ``num_groups``, a weight or bias of another shape.
        TypeError: integers, or two float dtypes.

    Source: ONNX operator GroupNormalization; Wu and He, ECCV 2018.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.group_norm(lucid.tensor([[1.0, 3.0, 2.0, 10.0]]), 2, eps=0.0)
        tensor([[-1.,  1., -1.,  1.]])
    """
    check_channels_of("group_norm", input, weight, bias)
    channels = input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"num_groups: got {num_groups}; must divide the {channels} channels of {input.shape}")
    return compose("group_norm", _group_norm, input, weight, bias, num_groups=num_groups, eps=float(eps))


def _group_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, num_groups: int, eps: float) -> Tensor:
    size = x.shape[1] // num_groups * math.prod(x.shape[2:])
    return _affine(
        reshape(layer_norm(reshape(x, (x.shape[0], num_groups, size)), size, eps=eps), x.shape), weight, bias
    )


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """``y * weight + bias``, one of each for a channel."""
    sides = (1,) * (y.ndim - 2)
    if weight is not None:
        y = mul(y, reshape(weight, (*weight.shape, *sides)))
    return y if bias is None else add(y, reshape(bias, (*bias.shape, *sides)))


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` for each channel of each example.

    Args:
        input: ``(N, C, ...)`` with one to three sides, float32 or float64.
        running_mean: ``(C,)``, what is used instead of the input's means if ``use_input_stats`` is false; else it
            follows the mean over the batch of theirs. Or None.
        running_var: ``(C,)``, likewise the (unbiased) variance.
        weight: ``(C,)``, or None for 1.
        bias: ``(C,)``, or None for 0.
        use_input_stats: whether mean and (biased) variance are those of the input.
        momentum: ``running = running + momentum * (statistic - running)``.
        eps: added to the variance.

    Returns:
        A tensor of the input's shape and dtype: ``group_norm`` with a group for each channel; by running statistics,
        ``batch_norm``.

    Raises:
        ValueError: another rank, a single value per channel, statistics, a weight or a bias of another shape.
        TypeError: integers, or two float dtypes.

    Source: ONNX operator InstanceNormalization; Ulyanov et al., 2016.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.instance_norm(lucid.tensor([[[1.0, 3.0], [2.0, 10.0]]]), eps=0.0)
        tensor([[[-1.,  1.],
                 [-1.,  1.]]])
    """
    check_channels_of("instance_norm", input, weight, bias, running_mean, running_var)
    if not 3 <= input.ndim <= 5:
        raise ValueError(f"instance_norm: input has shape {input.shape}; must be (N, C, ...) with one to three sides")
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError("instance_norm: without use_input_stats it needs running_mean and running_var; got None")
        return batch_norm(input, running_mean, running_var, weight, bias, False, 0.0, eps)
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(f"instance_norm: needs more than one value per channel; input has shape {input.shape}")
    y = compose("instance_norm", _instance_norm, input, weight, bias, eps=float(eps))
    if input.size and (running_mean is not None or running_var is not None):
        _follow(input, running_mean, running_var, momentum)
    return y


def _instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    return _group_norm(x, weight, bias, x.shape[1], eps)


def _follow(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, momentum: float) -> None:
    """Let running statistics go towards the mean over the batch of the instances'."""
    sides = tuple(range(2, input.ndim))
    be = backend_for(input.device)
    with no_grad():
        for running, function in ((running_mean, mean), (running_var, var)):
            if running is not None:
                statistic = mean(function(input, sides), 0)
                be.running_update(running._array, be.convert(statistic._array, float64), 1.0, momentum)
                running._changed()


def global_response_norm(input: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-6) -> Tensor:
    """``y = gamma * (x * n) + beta + x``, with ``g`` the root of the sum of squares over the sides of each channel, and
    ``n = g / (mean over channels of g + eps)``.

    Args:
        input: ``(N, C, ...)``, float32 or float64.
        gamma: of C elements.
        beta: likewise.
        eps: added to the mean.

    Returns:
        A tensor of the input's shape and dtype. It is composed of other operations, and so is its gradient; a channel
        of zeros has none through ``g``.

    Raises:
        ValueError: fewer than three axes, a gamma or beta of another size.
        TypeError: integers, or two float dtypes.

    Source: Woo et al., ConvNeXt V2, CVPR 2023.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.global_response_norm(lucid.ones(1, 1, 2), lucid.ones(1), lucid.zeros(1), eps=0.0)
        tensor([[[2., 2.]]])
    """
    if input.ndim < 3:
        raise ValueError(
            f"global_response_norm: input has shape {input.shape}; must be (N, C, ...) with one side at least"
        )
    flat = []
    for name, value in (("gamma", gamma), ("beta", beta)):
        if math.prod(value.shape) != input.shape[1]:
            raise ValueError(
                f"{name}: got shape {value.shape}; must have {input.shape[1]} elements, one for each channel"
            )
        flat.append(reshape(value, (input.shape[1],)))
    check_channels_of("global_response_norm", input, *flat)
    return compose("global_response_norm", _global_response_norm, input, *flat, eps=float(eps))


def _global_response_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    squares = sum(square(x), tuple(range(2, x.ndim)), keepdims=True)
    nothing = squares == 0.0  # where a root has no slope
    g = where(nothing, 0.0, sqrt(where(nothing, 1.0, squares)))
    n = div(g, add(mean(g, 1, keepdims=True), eps))
    return add(_affine(mul(x, n), gamma, beta), x)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """``x / max(norm, eps)``, the norm being ``(sum of |x|^p)^(1 / p)`` along ``dim``.

    Args:
        input: a float tensor.
        p: above 0; infinity takes the largest magnitude.
        dim: an axis.
        eps: the least divisor.

    Returns:
        A tensor of the input's shape. It is composed of other operations, and so is its gradient; the larger of two is
        found before the root is taken.

    Raises:
        ValueError: there is no such axis, or ``p`` is not above 0.
        TypeError: integers.

    Source: ONNX operator LpNormalization; ``torch.nn.functional.normalize``.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.normalize(lucid.tensor([[3.0, 4.0]]))
        tensor([[0.6, 0.8]])
    """
    if input.dtype.kind != "f":
        raise TypeError(f"normalize: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")
    if not p > 0:
        raise ValueError(f"p: got {p}; must be above 0")
    return compose(
        "normalize", _normalize, input, p=float(p), dim=one_axis("normalize", dim, input.ndim), eps=float(eps)
    )


def _normalize(x: Tensor, p: float, dim: int, eps: float) -> Tensor:
    if p == math.inf:
        return div(x, maximum(max(abs(x), dim, keepdims=True), eps))
    if p == 1.0:
        return div(x, maximum(sum(abs(x), dim, keepdims=True), eps))
    powers = square(x) if p == 2.0 else power(abs(x), p)
    largest = maximum(sum(powers, dim, keepdims=True), eps**p)
    return div(x, sqrt(largest) if p == 2.0 else power(largest, 1.0 / p))


def check_channels_of(name: str, input: Tensor, *values: Tensor | None) -> None:
    """Raise unless the input is ``(N, C, ...)`` of floats and each value is ``(C,)`` in its dtype."""
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")
    if input.ndim < 2:
        raise ValueError(f"{name}: input has shape {input.shape}; must be (N, C, ...)")
    for value in values:
        if value is None:
            continue
        if value.shape != input.shape[1:2]:
            raise ValueError(
                f"{name}: input of shape {input.shape} has {input.shape[1]} channels; what there is one of for each "
                f"must have shape ({input.shape[1]},), one of them has {value.shape}"
            )
        if value.dtype != input.dtype:
            raise mixed_floats(name, input.dtype, value.dtype)


def check_layer(
    name: str, input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None, bias: Tensor | None
) -> tuple[int, ...]:
    """The shape of the axes that are normalised together, after checking that the operands fit it."""
    shape = shape_of_layer(normalized_shape)
    if input.shape[-len(shape) :] != shape:
        raise ValueError(f"{name}: input has shape {input.shape}; must end in normalized_shape, {shape}")
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")
    for what, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != shape:
            raise ValueError(f"{what}: got shape {value.shape}; must be normalized_shape, {shape}")
        if value is not None and value.dtype != input.dtype:
            raise mixed_floats(name, input.dtype, value.dtype)
    return shape


def shape_of_layer(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """``normalized_shape``, a number or several, as a shape.

    Raises:
        ValueError: it is empty.
    """
    numbers = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not numbers:
        raise ValueError("normalized_shape: got (); must name at least one axis")
    return tuple(map(operator.index, numbers))
