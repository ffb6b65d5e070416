"""The PyTorch twins of the ten models, written from the papers and ``torch.nn`` alone.

Nothing of lucid is imported here. Parameters carry the same names as lucid's, so weights travel by ``state_dict``, and
what the oracle calls a layer (a leaf module or a residual block) has the same path in both.

Sources: He et al. 2015 (arXiv:1512.03385) for the basic block and the bottleneck; He et al. 2016 (arXiv:1603.05027) for
pre-activation; Zagoruyko and Komodakis 2016 (arXiv:1605.07146) for width; He et al. 2018 (arXiv:1812.01187) for the
deep stem. A bottleneck strides in its 3x3 convolution, as every published implementation with these totals does (the
8.2 GFLOP of ResNet-50 at 224x224 include it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from oracle.graph.state import check_state
from oracle.resnets.description import Description


class Residual(nn.Module):
    """A residual block, ``main(x) + shortcut(x)``. By this base class the tracer knows that its output is a layer."""

    downsample: nn.Module | None
    out_channels: int

    def join(self, main: Tensor, shortcut: Tensor) -> Tensor:
        """How the two branches become the block's output; whoever drives a block may replace it."""
        return torch.relu(main + shortcut)


def _conv(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def _projection(cin: int, cout: int, stride: int) -> nn.Module | None:
    """The shortcut where the shape changes: a 1x1 convolution and its normalisation ("option B" of He et al. 2015)."""
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(_conv(cin, cout, 1, stride), nn.BatchNorm2d(cout))


class Basic(Residual):
    """``relu(bn(conv3x3(relu(bn(conv3x3(x))))) + shortcut(x))`` (He et al. 2015, figure 5 left)."""

    def __init__(self, cin: int, width: int, stride: int, architecture: Description) -> None:
        super().__init__()
        self.conv1 = _conv(cin, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(cin, width, stride)
        self.out_channels = width

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.join(y, x if self.downsample is None else self.downsample(x))


class Bottleneck(Residual):
    """``relu(main(x) + shortcut(x))``, main being 1x1, 3x3, 1x1, each normalised (He et al. 2015, figure 5 right)."""

    def __init__(self, cin: int, width: int, stride: int, architecture: Description) -> None:
        super().__init__()
        inner, groups = _inner_width(width, architecture), architecture.cardinality
        self.conv1 = _conv(cin, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(inner, inner, 3, stride, groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = _conv(inner, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _projection(cin, 4 * width, stride)
        self.out_channels = 4 * width

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.join(y, x if self.downsample is None else self.downsample(x))


class PreActBottleneck(Residual):
    """``main(a) + shortcut``, ``a = relu(bn(x))`` (He et al. 2016, figure 4e).

    The shortcut is ``x`` itself, or, where the shape changes, the projection of the activated ``a``. The published
    totals of the pre-activation models hold only if that projection is normalised over its output channels.
    """

    def __init__(self, cin: int, width: int, stride: int, architecture: Description) -> None:
        super().__init__()
        inner, groups = _inner_width(width, architecture), architecture.cardinality
        self.bn1 = nn.BatchNorm2d(cin)
        self.relu1 = nn.ReLU()
        self.conv1 = _conv(cin, inner, 1)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv2 = _conv(inner, inner, 3, stride, groups)
        self.bn3 = nn.BatchNorm2d(inner)
        self.relu3 = nn.ReLU()
        self.conv3 = _conv(inner, 4 * width, 1)
        self.downsample = _projection(cin, 4 * width, stride)
        self.out_channels = 4 * width

    def join(self, main: Tensor, shortcut: Tensor) -> Tensor:
        """A plain sum: the next block begins with the activation."""
        return main + shortcut

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu1(self.bn1(x))
        y = self.conv1(a)
        y = self.conv2(self.relu2(self.bn2(y)))
        y = self.conv3(self.relu3(self.bn3(y)))
        return self.join(y, x if self.downsample is None else self.downsample(a))


def _inner_width(width: int, architecture: Description) -> int:
    return width * architecture.base_width // 64 * architecture.cardinality


_BLOCKS: dict[str, type[Basic] | type[Bottleneck] | type[PreActBottleneck]] = {
    "basic": Basic,
    "bottleneck": Bottleneck,
    "preact": PreActBottleneck,
}


def _stem(architecture: Description) -> nn.Sequential:
    cin, width = architecture.in_channels, architecture.stem_width
    if architecture.stem_type is None:
        return nn.Sequential(nn.Conv2d(cin, width, 7, 2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    half = width // 2
    parts: list[nn.Module] = []
    for first, last, stride in ((cin, half, 2), (half, half, 1), (half, width, 1)):
        parts += [_conv(first, last, 3, stride), nn.BatchNorm2d(last), nn.ReLU()]
    return nn.Sequential(*parts)


class ResNet(nn.Module):
    """Stem, max pooling, stages ``layer1`` to ``layer4``, global average pooling, a linear classifier.

    Shapes: ``(N, in_channels, H, W) -> (N, num_classes)``.

    Example:
        >>> from oracle.resnets import find_architecture
        >>> with torch.device("meta"):
        ...     twin = ResNet(find_architecture("resnet_18"))
        >>> sum(parameter.numel() for parameter in twin.parameters())
        11689512
    """

    def __init__(self, architecture: Description) -> None:
        super().__init__()
        block = _BLOCKS[architecture.block]
        self.stem = _stem(architecture)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels, stages = architecture.stem_width, list[nn.Sequential]()
        for index, (width, count) in enumerate(zip(architecture.channels, architecture.layers, strict=True)):
            blocks: list[Residual] = []
            for position in range(count):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(channels, width, stride, architecture))
                channels = blocks[-1].out_channels
            stages.append(nn.Sequential(*blocks))
            self.add_module(f"layer{index + 1}", stages[-1])
        self._stages = tuple(stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, architecture.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.stem(x))
        for stage in self._stages:
            x = stage(x)
        return self.fc(self.flatten(self.avgpool(x)))


def parameter_shapes(architecture: Description) -> dict[str, tuple[int, ...]]:
    """Name and shape of every entry of the model's ``state_dict``, without allocating any of them."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in ResNet(architecture).state_dict().items()}


def make_twin(architecture: Description, state: Mapping[str, np.ndarray], dtype: torch.dtype) -> ResNet:
    """The twin with the weights ``state``, widened to ``dtype``.

    Raises:
        ValueError: names or shapes are not exactly the model's; all of them are listed in one sentence.
    """
    check_state(parameter_shapes(architecture), state)
    with torch.device("meta"):
        twin = ResNet(architecture)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
    floats = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
    twin.load_state_dict(floats, strict=True, assign=True)
    return twin.requires_grad_(True)


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules whose outputs a trace names: leaves and residual blocks, by path."""
    for name, module in model.named_modules():
        if isinstance(module, Residual) or next(module.children(), None) is None:
            yield name, module
