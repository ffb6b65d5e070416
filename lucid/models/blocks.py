"""Residual blocks, the pieces that ``ResNet`` stacks.

A block is a module class with a class attribute ``expansion`` (its output has ``channels * expansion`` channels), made
as ``Block(in_channels, channels, stride, downsample, **block_args)``, where ``downsample`` is the module that fits the
shortcut to the output, or None where the input fits already. Parameters have torchvision's names.
"""

from __future__ import annotations

from typing import ClassVar

import lucid.nn.functional as F
from lucid import nn
from lucid.core.tensor import Tensor
from lucid.nn._fused import conv_add, conv_norm_act, norm_act

__all__ = ["BasicBlock", "Bottleneck", "PreActBottleneck"]

REFERENCE_WIDTH = 64  # the ``base_width`` at which a bottleneck is as wide as its ``channels`` say


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ``y = relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))``.

    Args:
        in_channels: channels of the input, ``(N, in_channels, H, W)``.
        channels: channels of the output, ``(N, channels, H / stride, W / stride)``.
        stride: of the first convolution.
        downsample: the shortcut; None for the input itself.
        dilation: of both convolutions.
        se: whether to weight the channels by squeeze-and-excitation before the sum.
        se_reduction: the reduction ratio of squeeze-and-excitation.

    He et al., "Deep residual learning for image recognition", CVPR 2016; Hu et al., "Squeeze-and-excitation networks",
    CVPR 2018.

    Example:
        >>> import lucid
        >>> from lucid.models.blocks import BasicBlock
        >>> BasicBlock(4, 4)(lucid.ones((2, 4, 6, 6))).shape
        (2, 4, 6, 6)
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        dilation: int = 1,
        se: bool = False,
        se_reduction: int = 16,
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(channels, channels, 1, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = _squeeze_excitation(channels, se, se_reduction)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = conv_norm_act(self.conv1, self.bn1, self.relu1, x)
        return _join(self, self.conv2, self.bn2, y, x)


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution and a shortcut:
    ``y = relu(bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x)))))))) + shortcut(x))``.

    The inner width is ``int(channels * base_width / 64) * cardinality``. The stride is that of the 3x3 convolution, as
    in torchvision ("ResNet v1.5").

    Args:
        in_channels: channels of the input, ``(N, in_channels, H, W)``.
        channels: a quarter of the channels of the output, ``(N, 4 * channels, H / stride, W / stride)``.
        stride: of the 3x3 convolution.
        downsample: the shortcut; None for the input itself.
        base_width: 64 for the original network, 128 for the wide ones, 4 with ``cardinality=32`` for ResNeXt 32x4d.
        cardinality: groups of the 3x3 convolution.
        dilation: of the 3x3 convolution.
        se: whether to weight the channels by squeeze-and-excitation before the sum.
        se_reduction: the reduction ratio of squeeze-and-excitation.

    He et al., "Deep residual learning for image recognition", CVPR 2016; Zagoruyko and Komodakis, "Wide residual
    networks", BMVC 2016; Xie et al., "Aggregated residual transformations for deep neural networks", CVPR 2017.

    Example:
        >>> import lucid
        >>> from lucid.models.blocks import Bottleneck
        >>> Bottleneck(8, 2, base_width=128, cardinality=2)(lucid.ones((1, 8, 5, 5))).shape
        (1, 8, 5, 5)
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        base_width: int = REFERENCE_WIDTH,
        cardinality: int = 1,
        dilation: int = 1,
        se: bool = False,
        se_reduction: int = 16,
    ) -> None:
        super().__init__()
        width = _inner_width(channels, base_width, cardinality)
        out_channels = channels * self.expansion
        self.conv1 = _conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(width, width, stride, dilation, cardinality)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = _conv1x1(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.se = _squeeze_excitation(out_channels, se, se_reduction)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = conv_norm_act(self.conv1, self.bn1, self.relu1, x)
        y = conv_norm_act(self.conv2, self.bn2, self.relu2, y)
        return _join(self, self.conv3, self.bn3, y, x)


class PreActBottleneck(nn.Module):
    """A bottleneck whose normalisations and activations stand before the convolutions:
    ``a = relu(bn1(x)); y = conv3(relu(bn3(conv2(relu(bn2(conv1(a))))))) + shortcut``.

    The shortcut is ``downsample(a)`` (it takes the activated input), or ``x`` itself where there is no downsample;
    nothing is applied after the sum. Arguments are those of ``Bottleneck``.

    He et al., "Identity mappings in deep residual networks", ECCV 2016.

    Example:
        >>> import lucid
        >>> from lucid.models.blocks import PreActBottleneck
        >>> PreActBottleneck(8, 2)(lucid.ones((1, 8, 5, 5))).shape
        (1, 8, 5, 5)
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        base_width: int = REFERENCE_WIDTH,
        cardinality: int = 1,
        dilation: int = 1,
        se: bool = False,
        se_reduction: int = 16,
    ) -> None:
        super().__init__()
        width = _inner_width(channels, base_width, cardinality)
        out_channels = channels * self.expansion
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = _conv1x1(in_channels, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv2 = _conv3x3(width, width, stride, dilation, cardinality)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU()
        self.conv3 = _conv1x1(width, out_channels)
        self.se = _squeeze_excitation(out_channels, se, se_reduction)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        activated = norm_act(self.bn1, self.relu1, x)
        y = conv_norm_act(self.conv1, self.bn2, self.relu2, activated)
        y = conv_norm_act(self.conv2, self.bn3, self.relu3, y)

        def shortcut() -> Tensor:
            return x if self.downsample is None else self.downsample(activated)

        if self.se is None:
            return conv_add(self.conv3, y, shortcut)
        return self.se(self.conv3(y)) + shortcut()


def _join(block: BasicBlock | Bottleneck, conv: nn.Conv2d, norm: nn.BatchNorm2d, y: Tensor, x: Tensor) -> Tensor:
    """The end of a block: ``relu(se(norm(conv(y))) + shortcut(x))``."""

    def shortcut() -> Tensor:
        return x if block.downsample is None else block.downsample(x)

    if block.se is None:
        return conv_norm_act(conv, norm, None, y, shortcut, relu_after=True)
    return F.relu(block.se(conv_norm_act(conv, norm, None, y)) + shortcut())


def _conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def _conv3x3(in_channels: int, out_channels: int, stride: int, dilation: int, groups: int = 1) -> nn.Conv2d:
    """Padded by its dilation, so that at stride 1 the image keeps its size."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        groups=groups,
        bias=False,
    )


def _inner_width(channels: int, base_width: int, cardinality: int) -> int:
    if cardinality < 1:
        raise ValueError(f"cardinality: got {cardinality}; it may be any positive number of groups")
    width = channels * base_width // REFERENCE_WIDTH * cardinality
    if width < 1:
        raise ValueError(
            f"base_width: got {base_width}; at {channels} channels it may be {-(-REFERENCE_WIDTH // channels)} or "
            "more, so that the block has at least one inner channel"
        )
    return width


def _squeeze_excitation(channels: int, wanted: bool, reduction: int) -> nn.SEModule | None:
    return nn.SEModule(channels, reduction) if wanted else None
