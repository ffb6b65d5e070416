"""The shape of every tensor of a case, found without running anything: what a golden, or a trace, must be of."""

from __future__ import annotations

import math
from collections.abc import Iterator

from oracle.architecture import Architecture
from oracle.case import Case
from oracle.compare import execution_order
from oracle.layer import IMAGE, Layer, layers_of
from oracle.trace import Key

Shape = tuple[int, ...]


def shapes_of(case: Case) -> dict[Key, Shape]:
    """By tensor its shape, in the order of execution.

    Example:
        >>> from oracle.architecture import find_architecture
        >>> from oracle.case import standard_case
        >>> shapes = shapes_of(standard_case(find_architecture("resnet_18"), "train"))
        >>> shapes["activation", "stem.0"], shapes["parameter_gradient", "layer2.0.conv1.weight"]
        ((3, 64, 36, 36), (128, 64, 3, 3))
    """
    architecture = case.architecture
    outputs: dict[str, Shape] = {IMAGE: (case.batch, architecture.in_channels, case.size, case.size)}
    found: dict[Key, Shape] = {}
    for layer in layers_of(architecture):
        given = outputs[layer.inputs[0]]
        outputs[layer.name] = _output(layer, given, architecture)
        if layer.op == "loss":
            if case.mode == "train":
                found["loss", "loss"] = ()
            continue
        found["activation", layer.name] = outputs[layer.name]
        if case.mode == "train":
            found["activation_gradient", layer.name] = outputs[layer.name]
            for name, shape in _parameters(layer, given, outputs[layer.name]):
                found["parameter_gradient", f"{layer.name}.{name}"] = shape
            for name in ("running_mean", "running_var") if layer.op == "norm" else ():
                found["statistic", f"{layer.name}.{name}"] = given[1:2]
    return {key: found[key] for key in execution_order(found)}


def _output(layer: Layer, given: Shape, architecture: Architecture) -> Shape:
    if layer.op == "loss":
        return ()
    if layer.op == "linear":
        return (given[0], architecture.num_classes)
    if layer.op == "flatten":
        return (given[0], math.prod(given[1:]))
    if layer.op == "average pool":
        return (*given[:2], 1, 1)
    if layer.op in ("conv", "max pool"):
        channels = _width(layer, architecture) if layer.op == "conv" else given[1]
        sides = ((side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in given[2:])
        return (given[0], channels, *sides)
    return given


def _width(layer: Layer, architecture: Architecture) -> int:
    """How many channels a convolution makes."""
    place, *_, leaf = layer.name.split(".")
    if place == "stem":
        narrow = architecture.stem_type is not None and leaf != "6"  # of the deep stem's three, the last is the widest
        return architecture.stem_width // 2 if narrow else architecture.stem_width
    width = architecture.channels[int(place.removeprefix("layer")) - 1]
    if architecture.block == "basic":
        return width
    inner = width * architecture.base_width // 64 * architecture.cardinality
    return inner if leaf in ("conv1", "conv2") else 4 * width


def _parameters(layer: Layer, given: Shape, output: Shape) -> Iterator[tuple[str, Shape]]:
    if layer.op == "conv":
        yield "weight", (output[1], given[1] // layer.groups, layer.kernel, layer.kernel)
    elif layer.op == "linear":
        yield "weight", (output[1], given[1])
        yield "bias", (output[1],)
    elif layer.op == "norm":
        yield "weight", (output[1],)
        yield "bias", (output[1],)
