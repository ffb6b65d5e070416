"""Residual networks: the ``ResNet`` class and the ten networks that are made of it.

``logits = fc(flatten(avgpool(stages(maxpool(stem(images))))))``; each stage after the first halves the image. Nothing
stands between the last stage and the pooling, in the pre-activation networks neither. The factories pass their keyword
arguments on to ``ResNet``.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

from lucid import nn
from lucid.core.tensor import Tensor
from lucid.models.blocks import BasicBlock, Bottleneck, PreActBottleneck
from lucid.models.registry import register_model

__all__ = [
    "ResNet",
    "resnet_18",
    "resnet_34",
    "resnet_50",
    "resnet_101",
    "resnet_152",
    "resnet_200",
    "resnet_269",
    "resnet_1001",
    "wide_resnet_50",
    "wide_resnet_101",
]


class ResNet(nn.Module):
    r"""A residual network, ``output = FC(GAP(ResidualBlocks(Stem(input))))``.

    Convolutions start from the Kaiming normal distribution (fan out, gain of ReLU), drawn from lucid's global generator
    in the order of the modules; normalisations start from 1 and 0, ``fc`` as ``nn.Linear`` does.

    Args:
        block: the class of the residual blocks, as ``lucid.models.blocks`` describes it.
        layers: the number of blocks in each stage.
        num_classes: the number of outputs of ``fc``.
        in_channels: channels of the images, ``(N, in_channels, H, W)``.
        stem_width: channels of the stem's output.
        stem_type: None for one 7x7 convolution, ``"deep"`` for three 3x3 ones of ``stem_width // 2``,
            ``stem_width // 2`` and ``stem_width`` channels (ResNet-C of He et al., "Bag of tricks", CVPR 2019).
        channels: for each stage, the ``channels`` of its blocks.
        avg_down: whether shortcuts that halve the image do so by a mean of 2x2 before their 1x1 convolution, instead of
            its stride (ResNet-D of the same paper).
        block_args: keyword arguments for every block, such as ``base_width``, ``cardinality``, ``dilation``, ``se``.

    Attributes:
        stem (nn.Sequential): the convolution or convolutions before the stages.
        layers (list[nn.Module]): the stages, which are also the submodules ``layer1``, ``layer2`` and so on.
        num_classes (int): the number of outputs.
        block (type[nn.Module]): the class of the blocks.

    Raises:
        ValueError: a size is not positive, or ``layers`` and ``channels`` are not of one length.
        TypeError: ``block`` is not a block, or takes no such ``block_args``.

    He et al., "Deep residual learning for image recognition", CVPR 2016.

    Example:
        >>> import lucid
        >>> from lucid.models import ResNet
        >>> from lucid.models.blocks import BasicBlock
        >>> model = ResNet(BasicBlock, [1, 1], num_classes=10, stem_width=4, channels=(4, 8))
        >>> model(lucid.ones((2, 3, 16, 16))).shape
        (2, 10)
        >>> [len(stage) for stage in model.layers]
        [1, 1]
    """

    def __init__(
        self,
        block: type[nn.Module],
        layers: list[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem_width: int = 64,
        stem_type: Literal["deep"] | None = None,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        block_args: dict[str, Any] = {},  # noqa: B006 (never changed; the documented signature)
        *,
        avg_down: bool = False,
    ) -> None:
        super().__init__()
        _check_block(block, block_args)
        _check_sizes(layers, channels, num_classes=num_classes, in_channels=in_channels, stem_width=stem_width)
        self.num_classes = num_classes
        self.block = block
        self._stages = len(layers)
        with nn.init.skip_init():  # the weights are drawn once, below
            self.stem = _stem(in_channels, stem_width, stem_type)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            width = stem_width
            for index, (depth, stage_channels) in enumerate(zip(layers, channels, strict=True)):
                stride = 1 if index == 0 else 2
                self.add_module(
                    f"layer{index + 1}", _stage(block, width, stage_channels, depth, stride, block_args, avg_down)
                )
                width = stage_channels * block.expansion  # type: ignore[attr-defined]
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.flatten = nn.Flatten()
            self.fc = nn.Linear(width, num_classes)
        self._draw_weights()

    @property
    def layers(self) -> list[nn.Module]:
        """The stages, in order."""
        return [getattr(self, f"layer{index + 1}") for index in range(self._stages)]

    def forward(self, x: Tensor) -> Tensor:
        """Class scores ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        x = self.maxpool(self.stem(x))
        for stage in self.layers:
            x = stage(x)
        return self.fc(self.flatten(self.avgpool(x)))

    def _draw_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros(module.bias)
            elif isinstance(module, nn.Linear):
                module.reset_parameters()


def _check_block(block: type[nn.Module], block_args: dict[str, Any]) -> None:
    if not (isinstance(block, type) and issubclass(block, nn.Module) and hasattr(block, "expansion")):
        raise TypeError(
            f"block: got {block!r}; it may be a subclass of nn.Module with an attribute `expansion`, "
            "such as BasicBlock, Bottleneck, PreActBottleneck of lucid.models.blocks"
        )
    parameters = inspect.signature(block).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    allowed = [name for name in parameters if name not in ("in_channels", "channels", "stride", "downsample")]
    unknown = [name for name in block_args if name not in allowed]
    if unknown:
        raise TypeError(f"block_args: {block.__name__} takes no {', '.join(unknown)}; it may be {', '.join(allowed)}")


def _check_sizes(layers: Sequence[int], channels: Sequence[int], **sizes: int) -> None:
    if len(layers) != len(channels) or not layers:
        raise ValueError(
            f"layers, channels: got {len(layers)} and {len(channels)} stages; both may have any one number from 1 on"
        )
    for name, values in {
        "layers": layers,
        "channels": channels,
        **{key: [size] for key, size in sizes.items()},
    }.items():
        wrong = [value for value in values if value < 1]
        if wrong:
            raise ValueError(f"{name}: got {wrong[0]}; it may be 1 or more")


def _stem(in_channels: int, width: int, stem_type: str | None) -> nn.Sequential:
    if stem_type is None:
        return nn.Sequential(
            nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
    if stem_type != "deep":
        raise ValueError(f"stem_type: got {stem_type!r}; it may be 'deep' or None")
    if width < 2:
        raise ValueError(f"stem_width: got {width}; for a deep stem it may be 2 or more")
    half = width // 2
    steps: list[nn.Module] = []
    for inputs, outputs, stride in ((in_channels, half, 2), (half, half, 1), (half, width, 1)):
        steps += [
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*steps)


def _stage(
    block: type[Any],
    in_channels: int,
    channels: int,
    depth: int,
    stride: int,
    block_args: dict[str, Any],
    avg_down: bool,
) -> nn.Sequential:
    """``depth`` blocks; the first has the stride, and a downsample where the shortcut does not fit."""
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        pools = avg_down and stride != 1
        mean = [nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)] if pools else []
        conv = nn.Conv2d(in_channels, out_channels, 1, stride=1 if pools else stride, bias=False)
        downsample = nn.Sequential(*mean, conv, nn.BatchNorm2d(out_channels))
    first = block(in_channels, channels, stride, downsample, **block_args)
    return nn.Sequential(first, *(block(out_channels, channels, 1, None, **block_args) for _ in range(depth - 1)))


@register_model
def resnet_18(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """ResNet-18, basic blocks; 11,689,512 parameters for 1000 classes."""
    return ResNet(BasicBlock, [2, 2, 2, 2], num_classes, **kwargs)


@register_model
def resnet_34(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """ResNet-34, basic blocks; 21,797,672 parameters for 1000 classes."""
    return ResNet(BasicBlock, [3, 4, 6, 3], num_classes, **kwargs)


@register_model
def resnet_50(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """ResNet-50, bottlenecks; 25,557,032 parameters for 1000 classes."""
    return ResNet(Bottleneck, [3, 4, 6, 3], num_classes, **kwargs)


@register_model
def resnet_101(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """ResNet-101, bottlenecks; 44,549,160 parameters for 1000 classes."""
    return ResNet(Bottleneck, [3, 4, 23, 3], num_classes, **kwargs)


@register_model
def resnet_152(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """ResNet-152, bottlenecks; 60,192,808 parameters for 1000 classes."""
    return ResNet(Bottleneck, [3, 8, 36, 3], num_classes, **kwargs)


@register_model
def resnet_200(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """ResNet-200, pre-activation bottlenecks; 64,669,864 parameters for 1000 classes."""
    return ResNet(PreActBottleneck, [3, 24, 36, 3], num_classes, **kwargs)


@register_model
def resnet_269(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """ResNet-269, pre-activation bottlenecks; 102,069,416 parameters for 1000 classes."""
    return ResNet(PreActBottleneck, [3, 30, 48, 8], num_classes, **kwargs)


@register_model
def resnet_1001(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """ResNet-1001, pre-activation bottlenecks; 149,071,016 parameters for 1000 classes."""
    return ResNet(PreActBottleneck, [3, 94, 94, 3], num_classes, **kwargs)


@register_model
def wide_resnet_50(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """Wide ResNet-50-2, twice the inner width; 68,883,240 parameters for 1000 classes."""
    return ResNet(Bottleneck, [3, 4, 6, 3], num_classes, **_wide(kwargs))


@register_model
def wide_resnet_101(num_classes: int = 1000, **kwargs: Any) -> ResNet:
    """Wide ResNet-101-2, twice the inner width; 126,886,696 parameters for 1000 classes."""
    return ResNet(Bottleneck, [3, 4, 23, 3], num_classes, **_wide(kwargs))


def _wide(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**kwargs, "block_args": {"base_width": 128, **kwargs.get("block_args", {})}}
