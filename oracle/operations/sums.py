"""Sums: of two values, and over all positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from oracle.graph.graph import Node, Shape
from oracle.operations.operation import (
    EXACT,
    Errs,
    Expected,
    Feed,
    Made,
    Operation,
    input_gradient,
    output,
    same_shape,
)
from oracle.precision.rounding import Deviation, Rounding, mean_square, plain_chain


def _average_pool(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """A plain sum and a division; backward, a division, or the product with a rounded reciprocal."""
    [x], dy = feed.inputs, feed.gradient
    pixels = x.shape[2] * x.shape[3]
    mean = x.mean((2, 3), keepdims=True)
    unit = mean_square(rounding.sums)
    error = plain_chain(rounding.sums, pixels, np.abs(x).sum((2, 3), keepdims=True)) / pixels**2
    yield output(node, mean, Deviation(error + 2 * unit * mean * mean))
    if dy is not None:
        share = np.broadcast_to(dy / pixels, x.shape)
        yield input_gradient(node, share, Deviation(0.0, 2 * unit * share * share))


def _of_average(node: Node, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    [x], dy = feed.inputs, feed.gradient
    pixels = x.shape[2] * x.shape[3]
    found = {"output": Deviation(unit * np.square(x).mean((2, 3), keepdims=True) / pixels)}
    if dy is not None:
        found["input"] = Deviation(0.0, np.broadcast_to(unit * np.square(dy / pixels), x.shape))
    return found


def _sum(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """One rounding, and then perhaps a ReLU, exact."""
    total = feed.inputs[0] + feed.inputs[1]
    exact = np.maximum(total, 0.0) if node.attributes.get("relu") else total
    yield output(node, exact, Deviation(mean_square(rounding.sums) * exact * exact))
    if feed.gradient is not None:
        dy = feed.gradient
        if node.attributes.get("relu"):
            dy = np.where(total > 0 if feed.passed is None else feed.passed, dy, 0.0)
        for place in range(len(feed.inputs)):
            yield replace(input_gradient(node, dy, EXACT), place=place)


def _of_sum(node: Node, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """Both ends rounded once. Where a decision is not known, that may move their sum across zero: either side is then
    the subject's own."""
    found = {"output": Deviation(unit * sum(each**2 for each in feed.inputs))}
    if feed.gradient is not None:
        own = unit * (np.square(feed.gradient) + floor**2)
        if node.attributes.get("relu") and feed.passed is None:
            near = np.abs(sum(feed.inputs)) <= math.sqrt(3 * unit) * sum(np.abs(each) for each in feed.inputs)
            own = np.where(near, np.square(feed.gradient), own)
        found["input"] = Deviation(own)
    return found


def _describe_sum(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> str:
    total = "main branch + shortcut"
    return f"block: relu({total})" if node.attributes.get("relu") else f"block: {total}"


SUM = Operation(
    "sum",
    Errs("rounds"),
    same_shape,
    lambda node, inputs, parameters, setting: inputs[0] + inputs[1],
    _describe_sum,
    lambda node: "side" if node.attributes.get("relu") else "",
    makes=_sum,
    grants=_of_sum,
)
AVERAGE_POOL = Operation(
    "average pool",
    Errs("sums", terms=lambda node, shape: math.prod(shape[2:])),
    lambda node, inputs, parameters: ((*inputs[0][:2], *(1,) * (len(inputs[0]) - 2)),),
    lambda node, inputs, parameters, setting: inputs[0].mean(tuple(range(2, inputs[0].ndim)), keepdim=True),
    lambda node, inputs, parameters: "AdaptiveAvgPool2d(output_size=1)",
    makes=_average_pool,
    grants=_of_average,
)
