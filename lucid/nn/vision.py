"""Layers of convolutional networks that are made of other layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lucid.core.tensor import Tensor
from lucid.nn._fused import conv_norm_act
from lucid.nn.activation import ReLU
from lucid.nn.container import ModuleList
from lucid.nn.conv import Conv1d, Conv2d, Conv3d
from lucid.nn.module import Module
from lucid.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from lucid.nn.pooling import AdaptiveAvgPool2d
from lucid.ops import mul, reshape, softmax, stack, sum
from lucid.ops._window import SidesLike
from lucid.ops.resize import FactorLike, interpolate

__all__ = ["ConvBNReLU1d", "ConvBNReLU2d", "ConvBNReLU3d"]
__all__ += ["DepthSeparableConv1d", "DepthSeparableConv2d", "DepthSeparableConv3d", "SelectiveKernel", "Upsample"]


class _ConvBNReLU(Module):
    layers: ClassVar[tuple[Any, Any]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: SidesLike,
        stride: SidesLike = 1,
        padding: SidesLike | str = 0,
        dilation: SidesLike = 1,
        groups: int = 1,
        conv_bias: bool = True,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        bn_affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        conv, norm = self.layers
        geometry = kernel_size, stride, padding, dilation, groups
        self.conv = conv(in_channels, out_channels, *geometry, conv_bias, device=device, dtype=dtype)
        self.bn = norm(out_channels, eps, momentum, bn_affine, track_running_stats, device=device, dtype=dtype)
        self.relu = ReLU()

    def reset_parameters(self) -> None:
        """Let convolution and normalisation begin anew."""
        self.conv.reset_parameters()
        self.bn.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """``relu(bn(conv(input)))``."""
        return conv_norm_act(self.conv, self.bn, self.relu, input)


class _DepthSeparableConv(Module):
    layer: ClassVar[Any]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: SidesLike,
        stride: SidesLike = 1,
        padding: SidesLike | str = 0,
        dilation: SidesLike = 1,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        geometry = kernel_size, stride, padding, dilation, in_channels
        self.depthwise = self.layer(in_channels, in_channels, *geometry, bias, device=device, dtype=dtype)
        self.pointwise = self.layer(in_channels, out_channels, 1, bias=bias, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Draw both convolutions anew."""
        self.depthwise.reset_parameters()
        self.pointwise.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """``pointwise(depthwise(input))``."""
        return self.pointwise(self.depthwise(input))


class ConvBNReLU1d(_ConvBNReLU):
    """``relu(bn(conv(x)))``: ``Conv1d``, ``BatchNorm1d`` and ``ReLU``, one operation in inference.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, conv_bias: the convolution's.
        eps, momentum, bn_affine, track_running_stats: the normalisation's.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        conv, bn, relu: the layers.

    Raises:
        ValueError: as these layers.

    Example:
        >>> import lucid
        >>> lucid.nn.ConvBNReLU1d(3, 8, 3, padding=1)(lucid.zeros(1, 3, 8)).shape
        (1, 8, 8)
    """

    layers = Conv1d, BatchNorm1d


class ConvBNReLU2d(_ConvBNReLU):
    """``relu(bn(conv(x)))``: ``Conv2d``, ``BatchNorm2d`` and ``ReLU``, one operation in inference.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, conv_bias: the convolution's.
        eps, momentum, bn_affine, track_running_stats: the normalisation's.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        conv, bn, relu: the layers.

    Raises:
        ValueError: as these layers.

    Example:
        >>> import lucid
        >>> lucid.nn.ConvBNReLU2d(3, 8, 3, padding=1)(lucid.zeros(1, 3, 8, 8)).shape
        (1, 8, 8, 8)
    """

    layers = Conv2d, BatchNorm2d


class ConvBNReLU3d(_ConvBNReLU):
    """``relu(bn(conv(x)))``: ``Conv3d``, ``BatchNorm3d`` and ``ReLU``, one operation in inference.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, conv_bias: the convolution's.
        eps, momentum, bn_affine, track_running_stats: the normalisation's.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        conv, bn, relu: the layers.

    Raises:
        ValueError: as these layers.

    Example:
        >>> import lucid
        >>> lucid.nn.ConvBNReLU3d(3, 8, 3, padding=1)(lucid.zeros(1, 3, 4, 8, 8)).shape
        (1, 8, 4, 8, 8)
    """

    layers = Conv3d, BatchNorm3d


class DepthSeparableConv1d(_DepthSeparableConv):
    """A convolution of each channel by itself, then one of size 1 over the channels: ``pointwise(depthwise(x))``.

    Args:
        in_channels, out_channels: at least 1.
        kernel_size, stride, padding, dilation: of the convolution of each channel.
        bias: whether both have one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        depthwise, pointwise: the convolutions.

    Raises:
        ValueError: as ``Conv1d``.

    Source: Howard et al., arXiv 1704.04861 (MobileNets).

    Example:
        >>> import lucid
        >>> lucid.nn.DepthSeparableConv1d(3, 8, 3, padding=1)(lucid.zeros(1, 3, 8)).shape
        (1, 8, 8)
    """

    layer = Conv1d


class DepthSeparableConv2d(_DepthSeparableConv):
    """A convolution of each channel by itself, then one of size 1 over the channels: ``pointwise(depthwise(x))``.

    Args:
        in_channels, out_channels: at least 1.
        kernel_size, stride, padding, dilation: of the convolution of each channel.
        bias: whether both have one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        depthwise, pointwise: the convolutions.

    Raises:
        ValueError: as ``Conv2d``.

    Source: Howard et al., arXiv 1704.04861 (MobileNets).

    Example:
        >>> import lucid
        >>> lucid.nn.DepthSeparableConv2d(3, 8, 3, padding=1)(lucid.zeros(1, 3, 8, 8)).shape
        (1, 8, 8, 8)
    """

    layer = Conv2d


class DepthSeparableConv3d(_DepthSeparableConv):
    """A convolution of each channel by itself, then one of size 1 over the channels: ``pointwise(depthwise(x))``.

    Args:
        in_channels, out_channels: at least 1.
        kernel_size, stride, padding, dilation: of the convolution of each channel.
        bias: whether both have one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        depthwise, pointwise: the convolutions.

    Raises:
        ValueError: as ``Conv3d``.

    Source: Howard et al., arXiv 1704.04861 (MobileNets).

    Example:
        >>> import lucid
        >>> lucid.nn.DepthSeparableConv3d(3, 8, 3, padding=1)(lucid.zeros(1, 3, 4, 8, 8)).shape
        (1, 8, 4, 8, 8)
    """

    layer = Conv3d


class SelectiveKernel(Module):
    """Convolutions of several sizes beside each other, summed with a share for each channel that the image decides.

    ``u[b] = relu(bn(conv_b(x)))``, ``s`` the mean over the image of the sum of all ``u``,
    ``a = softmax over b of fc2(relu(bn(fc1(s))))``, ``y = sum over b of a[b] * u[b]``.

    Args:
        in_channels, out_channels: at least 1.
        kernel_sizes: one odd number for each branch.
        stride: of every branch.
        padding: one number for each branch; None keeps the size at stride 1, ``kernel_size // 2``.
        groups: of every branch.
        reduction: by how much the hidden layer is narrower, ``max(32, out_channels // reduction)`` channels.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        branches: the convolutions, ``ConvBNReLU2d`` without a bias.
        fc1, fc2: ``ConvBNReLU2d`` and ``Conv2d`` of size 1.

    Raises:
        ValueError: no kernel sizes, or paddings that are not one for each; as ``ConvBNReLU2d``.

    Source: Li et al., CVPR 2019.

    Example:
        >>> import lucid
        >>> lucid.nn.SelectiveKernel(4, 8, [3, 5])(lucid.ones(2, 4, 6, 6)).shape
        (2, 8, 6, 6)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[int],
        stride: int = 1,
        padding: Sequence[int] | None = None,
        groups: int = 1,
        reduction: int = 16,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        pads = [size // 2 for size in kernel_sizes] if padding is None else list(padding)
        if not kernel_sizes or len(pads) != len(kernel_sizes):
            raise ValueError(
                f"kernel_sizes, padding: got {list(kernel_sizes)} and {pads}; may be one or more, a padding each"
            )
        if reduction < 1:
            raise ValueError(f"reduction: got {reduction}; may be at least 1")
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        rest: dict[str, Any] = {"groups": groups, "conv_bias": False, **where}
        sizes = zip(kernel_sizes, pads, strict=True)
        self.branches = ModuleList(
            [ConvBNReLU2d(in_channels, out_channels, k, stride, pad, **rest) for k, pad in sizes]
        )
        self.avgpool = AdaptiveAvgPool2d(1)
        hidden = max(32, out_channels // reduction)
        self.fc1 = ConvBNReLU2d(out_channels, hidden, 1, conv_bias=False, **where)
        self.fc2 = Conv2d(hidden, len(kernel_sizes) * out_channels, 1, bias=False, **where)

    def reset_parameters(self) -> None:
        """Let all layers begin anew."""
        for layer in (*self.branches, self.fc1, self.fc2):
            layer.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, O, OH, OW)``."""
        each = stack([branch(input) for branch in self.branches], 1)
        weights = self.fc2(self.fc1(self.avgpool(sum(each, 1))))
        n, branches, channels = each.shape[:3]
        return sum(mul(each, softmax(reshape(weights, (n, branches, channels, 1, 1)), 1)), 1)


class Upsample(Module):
    """Images with other sides: ``lucid.nn.functional.interpolate``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.Upsample(scale_factor=2, mode="bilinear")(lucid.zeros(1, 2, 3, 4)).shape
        (1, 2, 6, 8)
    """

    def __init__(
        self,
        size: SidesLike | None = None,
        scale_factor: FactorLike | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(f"size, scale_factor: got {size} and {scale_factor}; one of them must be given")
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, *sides) -> (N, C, *size)``."""
        options = self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        return interpolate(input, *options)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        by = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{by}, mode={self.mode!r}"
