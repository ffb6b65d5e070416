"""The graph of a residual network, made from the oracle's own description of it.

It shares nothing with ``lucid.models``, nor with the PyTorch twin: a mistake in one of the three shows as a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from oracle.graph.graph import INPUT, Graph, Node, Shape, Window
from oracle.resnets.description import Description

EPS, MOMENTUM = 1e-5, 0.1  # of the normalisations: PyTorch's defaults, which the papers' implementations share


class _Builder:
    """Adds operations, and knows how many channels each value has."""

    def __init__(self, channels: int) -> None:
        self.nodes: list[Node] = []
        self.state: dict[str, Shape] = {}
        self.channels = {INPUT: channels}

    def add(self, node: Node, channels: int) -> str:
        self.nodes.append(node)
        self.channels[node.name] = channels
        return node.name

    def conv(self, name: str, before: str, width: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        window = Window((kernel,) * 2, (stride,) * 2, (kernel // 2,) * 2)
        self.state[f"{name}.weight"] = (width, self.channels[before] // groups, kernel, kernel)
        attributes = {"window": window, "groups": groups}
        return self.add(Node(name, "conv", (before,), attributes, {"weight": f"{name}.weight"}), width)

    def norm(self, name: str, before: str) -> str:
        width = self.channels[before]
        parameters = {role: f"{name}.{role}" for role in ("weight", "bias")}
        statistics = {role: f"{name}.{role}" for role in ("running_mean", "running_var")}
        self.state |= dict.fromkeys((*parameters.values(), *statistics.values()), (width,))
        self.state[f"{name}.num_batches_tracked"] = ()
        attributes = {"eps": EPS, "momentum": MOMENTUM}
        return self.add(Node(name, "norm", (before,), attributes, parameters, statistics), width)

    def plain(self, name: str, op: str, before: str, **attributes: Any) -> str:
        return self.add(Node(name, op, (before,), attributes), self.channels[before])

    def linear(self, name: str, before: str, classes: int) -> str:
        self.state |= {f"{name}.weight": (classes, self.channels[before]), f"{name}.bias": (classes,)}
        parameters = {role: f"{name}.{role}" for role in ("weight", "bias")}
        return self.add(Node(name, "linear", (before,), {}, parameters), classes)


def graph_of(architecture: Description, batch: int = 1, size: int = 224) -> Graph:
    """The operations in the order in which they run forward; the loss is last.

    Example:
        >>> from oracle.resnets.architecture import find_architecture
        >>> [node.name for node in graph_of(find_architecture("resnet_18")).nodes][:6]
        ['stem.0', 'stem.1', 'stem.2', 'maxpool', 'layer1.0.conv1', 'layer1.0.bn1']
    """
    build = _Builder(architecture.in_channels)
    before = _stem(build, architecture)
    before = build.plain("maxpool", "max pool", before, window=Window((3, 3), (2, 2), (1, 1)))
    for stage, (width, count) in enumerate(zip(architecture.channels, architecture.layers, strict=True)):
        for position in range(count):
            stride = 2 if stage > 0 and position == 0 else 1
            before = _block(build, f"layer{stage + 1}.{position}", before, width, stride, architecture)
    before = build.plain("flatten", "flatten", build.plain("avgpool", "average pool", before))
    output = build.linear("fc", before, architecture.num_classes)
    build.plain("loss", "loss", output)
    inputs = {INPUT: (batch, architecture.in_channels, size, size)}
    return Graph(tuple(build.nodes), inputs, build.state, output)


def _stem(build: _Builder, architecture: Description) -> str:
    width = architecture.stem_width
    steps = (
        [(7, 2, width)] if architecture.stem_type is None else [(3, 2, width // 2), (3, 1, width // 2), (3, 1, width)]
    )
    before = INPUT
    for index, (kernel, stride, channels) in enumerate(steps):
        conv, norm, relu = (f"stem.{3 * index + part}" for part in range(3))
        before = build.plain(relu, "relu", build.norm(norm, build.conv(conv, before, channels, kernel, stride)))
    return before


def _block(build: _Builder, name: str, source: str, width: int, stride: int, architecture: Description) -> str:
    """Branch, shortcut, sum: the block's own code calls the others."""
    start = len(build.nodes)
    main, projected, out = _BRANCHES[architecture.block](build, name, source, width, stride, architecture)
    shortcut = source
    if stride > 1 or build.channels[source] != out:
        shortcut = build.norm(f"{name}.downsample.1", build.conv(f"{name}.downsample.0", projected, out, 1, stride))
    build.nodes[start:] = [replace(node, scope=name) for node in build.nodes[start:]]
    relu = architecture.block != "preact"
    return build.add(Node(name, "sum", (main, shortcut), {"relu": relu}, scope=name, source=source), out)


Branch = Callable[["_Builder", str, str, int, int, "Description"], tuple[str, str, int]]


def _basic(build: _Builder, name: str, x: str, width: int, stride: int, _: Description) -> tuple[str, str, int]:
    y = build.norm(f"{name}.bn1", build.conv(f"{name}.conv1", x, width, 3, stride))
    y = build.conv(f"{name}.conv2", build.plain(f"{name}.relu1", "relu", y), width, 3)
    return build.norm(f"{name}.bn2", y), x, width


def _bottleneck(
    build: _Builder, name: str, x: str, width: int, stride: int, architecture: Description
) -> tuple[str, str, int]:
    inner = width * architecture.base_width // 64 * architecture.cardinality
    y = build.norm(f"{name}.bn1", build.conv(f"{name}.conv1", x, inner, 1))
    y = build.plain(f"{name}.relu1", "relu", y)
    y = build.norm(f"{name}.bn2", build.conv(f"{name}.conv2", y, inner, 3, stride, architecture.cardinality))
    y = build.plain(f"{name}.relu2", "relu", y)
    return build.norm(f"{name}.bn3", build.conv(f"{name}.conv3", y, 4 * width, 1)), x, 4 * width


def _preact(
    build: _Builder, name: str, x: str, width: int, stride: int, architecture: Description
) -> tuple[str, str, int]:
    inner = width * architecture.base_width // 64 * architecture.cardinality
    activated = build.plain(f"{name}.relu1", "relu", build.norm(f"{name}.bn1", x))
    y = build.norm(f"{name}.bn2", build.conv(f"{name}.conv1", activated, inner, 1))
    y = build.plain(f"{name}.relu2", "relu", y)
    y = build.norm(f"{name}.bn3", build.conv(f"{name}.conv2", y, inner, 3, stride, architecture.cardinality))
    y = build.plain(f"{name}.relu3", "relu", y)
    return build.conv(f"{name}.conv3", y, 4 * width, 1), activated, 4 * width


_BRANCHES: dict[str, Branch] = {"basic": _basic, "bottleneck": _bottleneck, "preact": _preact}
