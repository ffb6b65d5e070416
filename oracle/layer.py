"""What each layer of an architecture is: which operation, of which geometry, on which other layers' outputs.

The local view feeds every layer by itself, so it has to know what a layer takes. This list is made from the oracle's
own description of the ten models, not from a subject's, and shares nothing with ``lucid.models``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from oracle.architecture import Architecture

Op = Literal["conv", "norm", "relu", "max pool", "average pool", "flatten", "linear", "sum", "loss"]
IMAGE = "input"  # the name of what the first layer takes


@dataclass(frozen=True)
class Layer:
    """One layer of a trace.

    Args:
        name: its path, the name of its output in a trace.
        op: what it computes. ``sum`` is what a residual block's own code does: it adds its branch and its shortcut.
        inputs: the names of the outputs that it takes, ``"input"`` for the image.
        kernel: height and width of its kernel or window.
        stride: of the kernel or window.
        padding: on each side.
        groups: of a convolution.
        relu: whether a ``sum`` ends in a ReLU.
        block: the residual block that it is in; of a ``sum``, itself.
        source: of a ``sum``, what the block takes.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    relu: bool = False
    block: str = ""
    source: str = ""


@lru_cache(maxsize=64)
def layers_of(architecture: Architecture) -> tuple[Layer, ...]:
    """The layers in the order in which they run forward; the loss is last.

    Example:
        >>> from oracle.architecture import find_architecture
        >>> [layer.name for layer in layers_of(find_architecture("resnet_18"))][:6]
        ['stem.0', 'stem.1', 'stem.2', 'maxpool', 'layer1.0.conv1', 'layer1.0.bn1']
    """
    return tuple(_layers(architecture))


def _layers(architecture: Architecture) -> Iterator[Layer]:
    stem = list(_stem(architecture))
    yield from stem
    yield Layer("maxpool", "max pool", (stem[-1].name,), kernel=3, stride=2, padding=1)
    before, channels = "maxpool", architecture.stem_width
    for stage, (width, count) in enumerate(zip(architecture.channels, architecture.layers, strict=True)):
        out = width if architecture.block == "basic" else 4 * width
        for position in range(count):
            name = f"layer{stage + 1}.{position}"
            stride = 2 if stage > 0 and position == 0 else 1
            fits = stride == 1 and channels == out
            yield from _BLOCKS[architecture.block](name, before, stride, fits, architecture.cardinality)
            before, channels = name, out
    yield Layer("avgpool", "average pool", (before,))
    yield Layer("flatten", "flatten", ("avgpool",))
    yield Layer("fc", "linear", ("flatten",))
    yield Layer("loss", "loss", ("fc",))


def _stem(architecture: Architecture) -> Iterator[Layer]:
    kernels = [(7, 2)] if architecture.stem_type is None else [(3, 2), (3, 1), (3, 1)]
    before = IMAGE
    for index, (kernel, stride) in enumerate(kernels):
        conv, norm, relu = (f"stem.{3 * index + part}" for part in range(3))
        yield Layer(conv, "conv", (before,), kernel, stride, kernel // 2)
        yield Layer(norm, "norm", (conv,))
        yield Layer(relu, "relu", (norm,))
        before = relu


def _chain(block: str, before: str, steps: list[Layer]) -> Iterator[Layer]:
    """The steps with their block's name before theirs, each on the output of the one before."""
    for step in steps:
        name = f"{block}.{step.name}"
        yield Layer(name, step.op, (before,), step.kernel, step.stride, step.padding, step.groups, block=block)
        before = name


def _conv(name: str, kernel: int, stride: int = 1, groups: int = 1) -> Layer:
    return Layer(name, "conv", (), kernel, stride, kernel // 2, groups)


def _projection(stride: int) -> list[Layer]:
    return [_conv("downsample.0", 1, stride), Layer("downsample.1", "norm", ())]


def _with_shortcut(
    block: str, source: str, projected: str, main: list[Layer], stride: int, fits: bool, relu: bool
) -> Iterator[Layer]:
    yield from _chain(block, source, main)
    shortcut = source
    if not fits:
        yield from _chain(block, projected, _projection(stride))
        shortcut = f"{block}.downsample.1"
    ends = (f"{block}.{main[-1].name}", shortcut)
    yield Layer(block, "sum", ends, relu=relu, block=block, source=source)


def _basic(block: str, source: str, stride: int, fits: bool, groups: int) -> Iterator[Layer]:
    main = [
        _conv("conv1", 3, stride),
        Layer("bn1", "norm", ()),
        Layer("relu1", "relu", ()),
        _conv("conv2", 3),
        Layer("bn2", "norm", ()),
    ]
    return _with_shortcut(block, source, source, main, stride, fits, relu=True)


def _bottleneck(block: str, source: str, stride: int, fits: bool, groups: int) -> Iterator[Layer]:
    main = [
        _conv("conv1", 1),
        Layer("bn1", "norm", ()),
        Layer("relu1", "relu", ()),
        _conv("conv2", 3, stride, groups),
        Layer("bn2", "norm", ()),
        Layer("relu2", "relu", ()),
        _conv("conv3", 1),
        Layer("bn3", "norm", ()),
    ]
    return _with_shortcut(block, source, source, main, stride, fits, relu=True)


def _preact(block: str, source: str, stride: int, fits: bool, groups: int) -> Iterator[Layer]:
    main = [
        Layer("bn1", "norm", ()),
        Layer("relu1", "relu", ()),
        _conv("conv1", 1),
        Layer("bn2", "norm", ()),
        Layer("relu2", "relu", ()),
        _conv("conv2", 3, stride, groups),
        Layer("bn3", "norm", ()),
        Layer("relu3", "relu", ()),
        _conv("conv3", 1),
    ]
    return _with_shortcut(block, source, f"{block}.relu1", main, stride, fits, relu=False)


_BLOCKS = {"basic": _basic, "bottleneck": _bottleneck, "preact": _preact}


def consumers(layers: tuple[Layer, ...]) -> dict[str, list[Layer]]:
    """By name of an output, the layers that take it.

    Example:
        >>> from oracle.architecture import find_architecture
        >>> takers = consumers(layers_of(find_architecture("resnet_18")))
        >>> [layer.name for layer in takers["maxpool"]]
        ['layer1.0.conv1', 'layer1.0']
    """
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        for name in layer.inputs:
            found.setdefault(name, []).append(layer)
    return found


def pooled_layer(architecture: Architecture) -> str:
    """The layer whose output the max pooling takes.

    Example:
        >>> from oracle.architecture import find_architecture
        >>> pooled_layer(find_architecture("resnet_18"))
        'stem.2'
    """
    [pool] = [layer for layer in layers_of(architecture) if layer.op == "max pool"]
    return pool.inputs[0]
