"""What moves data: it rounds nothing. A ReLU decides by the sign of each element, a max pooling by the largest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lucid.backends import backend_for
from oracle.graph.graph import Node, Shape
from oracle.operations.operation import (
    EXACT,
    MOVES,
    Array,
    Expected,
    Feed,
    Made,
    Operation,
    input_gradient,
    output,
    same_shape,
)
from oracle.precision.rounding import ROUNDINGS, Deviation, Rounding, plain_chain


def _relu(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """Exact both ways: ``max(x, 0)``, and the gradient where ``x > 0``."""
    [x], dy = feed.inputs, feed.gradient
    yield output(node, np.maximum(x, 0.0), EXACT)
    if dy is not None:
        yield input_gradient(node, np.where(x > 0 if feed.passed is None else feed.passed, dy, 0.0), EXACT)


def _max_pool(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """The first largest of each window, exact; its gradient adds at most as many values as windows overlap, where they
    are stored."""
    be, [x], window = backend_for("cpu"), feed.inputs, node.window
    sides: Any = window.kernel, window.stride, window.padding, (1, 1), window.output(x.shape[2:])
    y, index = be.max_pool2d(x, *sides)
    yield output(node, np.asarray(y), EXACT)
    dy = feed.gradient
    if dy is None:
        return
    magnitude = be.max_pool2d_grad(np.abs(dy), index, x.shape)
    deviation = Deviation(plain_chain(rounding.coarsest, window.overlap, magnitude))
    yield input_gradient(node, be.max_pool2d_grad(dy, index, x.shape), deviation)


def _flatten(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    [x], dy = feed.inputs, feed.gradient
    yield output(node, x.reshape(x.shape[0], -1), EXACT)
    if dy is not None:
        yield input_gradient(node, dy.reshape(x.shape), EXACT)


def _of_selection(node: Node, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """What selects rounds nothing: results are inputs, each rounded once."""
    [x], dy = feed.inputs, feed.gradient
    found = {"output": Deviation(unit * np.square(made["output"].exact))}
    if dy is None:
        return found
    if node.op == "max pool":
        squares = replace(feed, gradient=np.square(dy))
        moved = {each.kind: each.exact for each in _max_pool(node, squares, ROUNDINGS["float64"])}
        return {**found, "input": Deviation(unit * moved["activation_gradient"])}
    return {**found, "input": Deviation(unit * (np.square(dy) + floor**2).reshape(x.shape))}


def _pool_shape(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*inputs[0][:2], *node.window.output(inputs[0][2:])),)


def _flat_shape(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((inputs[0][0], math.prod(inputs[0][1:])),)


def _compute_pool(node: Node, inputs: Sequence[Any], parameters: Mapping[str, Any], _: Any) -> Any:
    from torch.nn import functional

    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[len(node.window.kernel) - 1]
    return pool(inputs[0], node.window.kernel, node.window.stride, node.window.padding)


def _describe_pool(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> str:
    kernel, stride, padding = (sides[0] for sides in (node.window.kernel, node.window.stride, node.window.padding))
    return f"MaxPool2d(kernel_size={kernel}, stride={stride}, padding={padding}, dilation=1, ceil_mode=False)"


def _pool_fan(node: Node, role: str, parameters: Mapping[str, Array]) -> float:
    return float(node.window.overlap) if role == "output" else 1.0


RELU = Operation(
    "relu",
    MOVES,
    same_shape,
    lambda node, inputs, parameters, setting: inputs[0],
    lambda node, inputs, parameters: "ReLU()",
    lambda node: "side",
    makes=_relu,
    grants=_of_selection,
)
MAX_POOL = Operation(
    "max pool",
    MOVES,
    _pool_shape,
    _compute_pool,
    _describe_pool,
    lambda node: "winner",
    makes=_max_pool,
    grants=_of_selection,
    fan=_pool_fan,
)
FLATTEN = Operation(
    "flatten",
    MOVES,
    _flat_shape,
    lambda node, inputs, parameters, setting: inputs[0].flatten(1),
    lambda node, inputs, parameters: "Flatten(start_dim=1, end_dim=-1)",
    makes=_flatten,
    grants=_of_selection,
)
