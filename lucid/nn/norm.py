"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lucid.core.dtypes import get_default_dtype, int64
from lucid.core.grad_mode import recording
from lucid.core.tensor import Tensor
from lucid.nn.module import Module
from lucid.nn.parameter import Parameter
from lucid.ops.creation import ones, zeros
from lucid.ops.fused import norm_act
from lucid.ops.normalization import (
    batch_norm,
    global_response_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
    shape_of_layer,
)

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GlobalResponseNorm", "GroupNorm"]
__all__ += ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "LayerNorm", "RMSNorm"]


class _BatchNorm(Module):
    axes: ClassVar[tuple[int, ...]]
    """How many axes an input may have."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        kind = dtype or get_default_dtype()
        n, track = num_features, track_running_stats
        self.register_parameter("weight", Parameter(ones(n, dtype=kind, device=device)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(n, dtype=kind, device=device)) if affine else None)
        self.register_buffer("running_mean", zeros(n, dtype=kind, device=device) if track else None)
        self.register_buffer("running_var", ones(n, dtype=kind, device=device) if track else None)
        self.register_buffer("num_batches_tracked", zeros((), dtype=int64, device=device) if track else None)

    def reset_running_stats(self) -> None:
        """Let the running statistics begin anew."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Let everything begin anew."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            self.weight._array[...] = 1
            self.bias._array[...] = 0
            self.weight._changed()
            self.bias._changed()

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return self._run(batch_norm, input)

    def normalize(self, input: Tensor, relu: bool = False, residual: Tensor | None = None) -> Tensor:
        """``forward`` plus ``residual`` (of the input's shape) and ReLU, where wanted, in one pass over memory.

        The result and all gradients have the bits of ``relu(self(input) + residual)``.

        Example:
            >>> import lucid
            >>> norm = lucid.nn.BatchNorm2d(1).eval()
            >>> x = lucid.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2)
            >>> bool((norm.normalize(x, relu=True, residual=x) == lucid.relu(norm(x) + x)).all())
            True
        """
        return self._run(norm_act, input, relu, residual)

    def _run(self, function: Any, input: Tensor, *more: Any) -> Tensor:
        shape, name = input._array.shape, type(self).__name__
        if len(shape) not in self.axes:
            raise ValueError(f"{name}: input has shape {shape}; must have {' or '.join(map(str, self.axes))} axes")
        if shape[1] != self.num_features:
            raise ValueError(f"{name}: input of shape {shape} has {shape[1]} channels; must be {self.num_features}")
        mean, var, batches = self.running_mean, self.running_var, self.num_batches_tracked
        training = self.training or mean is None or var is None
        if not self.training:
            return function(input, mean, var, self.weight, self.bias, training, 0.0, self.eps, *more)
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / (int(batches) + 1) if batches is not None else 0.0
        y = function(input, mean, var, self.weight, self.bias, training, momentum, self.eps, *more)
        if batches is not None and not recording.recomputing:
            batches._array += 1
            batches._changed()
        return y

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` for each channel of ``(N, C)`` or of images ``(N, C, L)``.

    In training the statistics are the batch's, and the running ones follow them; in evaluation they are the running
    ones.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how far running statistics go towards the batch's each time; None averages all batches evenly.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics; without, the batch's are used in evaluation too.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight, bias: ``(C,)``, ones and zeros; or None.
        running_mean, running_var: ``(C,)``, zeros and ones; or None.
        num_batches_tracked: int64, how many batches went into them; or None.

    Raises:
        ValueError: in the call: another rank or channel count; in training, a single value per channel.

    Source: Ioffe and Szegedy, ICML 2015.

    Example:
        >>> import lucid
        >>> layer = lucid.nn.BatchNorm1d(3)
        >>> layer(lucid.random.randn(2, 3, 4)).shape
        (2, 3, 4)
        >>> layer.num_batches_tracked
        tensor(1)
    """

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` for each channel of images.

    In training the statistics are the batch's, and the running ones follow them; in evaluation they are the running
    ones.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how far running statistics go towards the batch's each time; None averages all batches evenly.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics; without, the batch's are used in evaluation too.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight, bias: ``(C,)``, ones and zeros; or None.
        running_mean, running_var: ``(C,)``, zeros and ones; or None.
        num_batches_tracked: int64, how many batches went into them; or None.

    Raises:
        ValueError: in the call: another rank or channel count; in training, a single value per channel.

    Source: Ioffe and Szegedy, ICML 2015.

    Example:
        >>> import lucid
        >>> layer = lucid.nn.BatchNorm2d(3)
        >>> layer(lucid.random.randn(2, 3, 4, 4)).shape
        (2, 3, 4, 4)
        >>> layer.num_batches_tracked
        tensor(1)
    """

    axes = (4,)


class BatchNorm3d(_BatchNorm):
    """``y = (x - mean) / sqrt(var + eps) * weight + bias`` for each channel of images ``(N, C, D, H, W)``.

    In training the statistics are the batch's, and the running ones follow them; in evaluation they are the running
    ones.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how far running statistics go towards the batch's each time; None averages all batches evenly.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics; without, the batch's are used in evaluation too.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight, bias: ``(C,)``, ones and zeros; or None.
        running_mean, running_var: ``(C,)``, zeros and ones; or None.
        num_batches_tracked: int64, how many batches went into them; or None.

    Raises:
        ValueError: in the call: another rank or channel count; in training, a single value per channel.

    Source: Ioffe and Szegedy, ICML 2015.

    Example:
        >>> import lucid
        >>> layer = lucid.nn.BatchNorm3d(3)
        >>> layer(lucid.random.randn(2, 3, 2, 4, 4)).shape
        (2, 3, 2, 4, 4)
        >>> layer.num_batches_tracked
        tensor(1)
    """

    axes = (5,)


class LayerNorm(Module):
    """``y = (x - mean) / sqrt(var + eps) * weight + bias``, mean and variance being those of the last axes.

    Args:
        normalized_shape: the lengths of the axes that are normalised together: one number, or several.
        eps: added to the variance.
        elementwise_affine: whether there is a weight.
        bias: whether there is a bias beside the weight.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight, bias: of shape ``normalized_shape``, ones and zeros; or None.

    Raises:
        ValueError: ``normalized_shape`` is empty; in the call: the input's shape does not end in it.

    Source: Ba, Kiros and Hinton, 2016.

    Example:
        >>> import lucid
        >>> lucid.nn.LayerNorm(2)(lucid.tensor([[0.0, 2.0], [5.0, 5.0]])).shape
        (2, 2)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = shape = shape_of_layer(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        kind = dtype or get_default_dtype()
        shifts = elementwise_affine and bias
        self.register_parameter(
            "weight", Parameter(ones(shape, dtype=kind, device=device)) if elementwise_affine else None
        )
        self.register_parameter("bias", Parameter(zeros(shape, dtype=kind, device=device)) if shifts else None)

    def reset_parameters(self) -> None:
        """Let the weight be ones and the bias zeros again."""
        for parameter, value in ((self.weight, 1), (self.bias, 0)):
            if parameter is not None:
                parameter._array[...] = value
                parameter._changed()

    def forward(self, input: Tensor) -> Tensor:
        """``(..., *normalized_shape)`` to the same shape."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """``y = x / sqrt(mean(x^2) + eps) * weight``, the mean being that of the last axes.

    Args:
        normalized_shape: the lengths of the axes that are normalised together: one number, or several.
        eps: added to the mean; None for the spacing of the dtype's numbers at 1.
        elementwise_affine: whether there is a weight.
        device: where the weight lies; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: of shape ``normalized_shape``, ones; or None.

    Source: Zhang and Sennrich, NeurIPS 2019.

    Example:
        >>> import lucid
        >>> lucid.nn.RMSNorm(2)(lucid.tensor([[3.0, 4.0]])).shape
        (1, 2)
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = shape = shape_of_layer(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        weight = (
            Parameter(ones(shape, dtype=dtype or get_default_dtype(), device=device)) if elementwise_affine else None
        )
        self.register_parameter("weight", weight)

    def reset_parameters(self) -> None:
        """Let the weight be ones again."""
        _refill(self.weight, 1)

    def forward(self, input: Tensor) -> Tensor:
        """``(..., *normalized_shape)`` to the same shape."""
        return rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


def _refill(parameter: Tensor | None, value: float) -> None:
    if parameter is not None:
        parameter._array[...] = value
        parameter._changed()


class GroupNorm(Module):
    """``y = (x - mean) / sqrt(var + eps) * weight + bias``, mean and variance being those of a group of channels.

    Args:
        num_groups: into how many groups the channels are parted.
        num_channels: how many there are.
        eps: added to the variance.
        affine: whether there are a weight and a bias.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight, bias: ``(C,)``, ones and zeros; or None.

    Raises:
        ValueError: ``num_channels`` is no multiple of ``num_groups``.

    Source: Wu and He, ECCV 2018.

    Example:
        >>> import lucid
        >>> lucid.nn.GroupNorm(2, 4)(lucid.zeros(1, 4, 3)).shape
        (1, 4, 3)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"num_groups: got {num_groups}; must divide num_channels, {num_channels}")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        n, kind = num_channels, dtype or get_default_dtype()
        self.register_parameter("weight", Parameter(ones(n, dtype=kind, device=device)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(n, dtype=kind, device=device)) if affine else None)

    def reset_parameters(self) -> None:
        """Let the weight be ones and the bias zeros again."""
        _refill(self.weight, 1)
        _refill(self.bias, 0)

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, ...)`` to the same shape."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class _InstanceNorm(_BatchNorm):
    """``axes`` as in ``_BatchNorm``, the batch's included; an input may have one fewer, of a single example."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, ...)``, or ``(C, ...)``, to the same shape."""
        axes = self.axes[0]
        if input.ndim not in (axes - 1, axes) or input.shape[input.ndim - axes + 1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input has shape {input.shape}; must have {axes} axes, or {axes - 1} without "
                f"the batch, and {self.num_features} channels"
            )
        x = input if input.ndim == axes else input.reshape(1, *input.shape)
        own = self.training or self.running_mean is None
        momentum = 0.0 if self.momentum is None else self.momentum
        mean, var = (self.running_mean, self.running_var) if self.training or not own else (None, None)
        y = instance_norm(x, mean, var, self.weight, self.bias, own, momentum, self.eps)
        return y if input.ndim == axes else y.reshape(*input.shape)


_DOC = """``y = (x - mean) / sqrt(var + eps) * weight + bias`` for each channel of each example.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: how far running statistics go towards the batch's each time.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics, which are then used in evaluation.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes: as ``BatchNorm2d``.

    Raises:
        ValueError: in the call: another rank or channel count, a single value per channel.

    Source: Ulyanov et al., 2016.

    Example:
        >>> import lucid
        >>> lucid.nn.InstanceNorm{n}d(3)(lucid.random.randn(2, 3{sides})).shape
        (2, 3{sides})
    """


class InstanceNorm1d(_InstanceNorm):
    __doc__ = _DOC.format(n=1, sides=", 4")
    axes = (3,)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = _DOC.format(n=2, sides=", 4, 5")
    axes = (4,)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = _DOC.format(n=3, sides=", 2, 4, 5")
    axes = (5,)


class GlobalResponseNorm(Module):
    """``y = gamma * (x * n) + beta + x``: channels compete (``F.global_response_norm`` says how).

    Args:
        channels: C.
        eps: added to the mean.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        gamma, beta: ``(1, C, 1, 1)``, zeros.

    Source: Woo et al., ConvNeXt V2, CVPR 2023.

    Example:
        >>> import lucid
        >>> lucid.nn.GlobalResponseNorm(3)(lucid.ones(2, 3, 4, 4)).shape
        (2, 3, 4, 4)
    """

    def __init__(self, channels: int, eps: float = 1e-6, device: str | None = None, dtype: Any = None) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps
        kind = dtype or get_default_dtype()
        self.gamma = Parameter(zeros(1, channels, 1, 1, dtype=kind, device=device))
        self.beta = Parameter(zeros(1, channels, 1, 1, dtype=kind, device=device))

    def reset_parameters(self) -> None:
        """Let both be zeros again."""
        _refill(self.gamma, 0)
        _refill(self.beta, 0)

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, ...)`` to the same shape."""
        return global_response_norm(input, self.gamma, self.beta, self.eps)

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.channels}, eps={self.eps}"
