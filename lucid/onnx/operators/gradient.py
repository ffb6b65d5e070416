"""What gradients need besides other operations (``lucid.graph.gradients.functions``) in ONNX."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import numpy_helper

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx.operators.pooling import pool_padding


@exports("expand_like")
def _expand_like(b: Builder, node: Node) -> None:
    x, like = node.inputs
    b.emit("Expand", node, [x, _shape(b, node, like)])


def _shape(b: Builder, node: Node, like: str | None) -> str:
    shape = b.shape(like)
    if all(isinstance(size, int) for size in shape):
        return b.constant(node, "shape", shape)
    return b.emit("Shape", node, [like], "shape")


@exports("count")
def _count(b: Builder, node: Node) -> None:
    (x,), axes, dtype = node.inputs, list(node.attrs["axis"]), b.dtype(node.output)
    sizes = [b.shape(x)[axis] for axis in axes]
    number = math.prod(size for size in sizes if isinstance(size, int))
    if all(isinstance(size, int) for size in sizes):
        b.emit("Identity", node, [b.constant(node, "number", float(number), dtype)])
        return
    taken = b.emit("Gather", node, [b.emit("Shape", node, [x], "shape"), b.constant(node, "axes", axes)], "sizes")
    wide = b.emit("Cast", node, [taken], "numbers", to=1 if dtype == np.float32 else 11)
    if b.opset < 18:
        b.emit("ReduceProd", node, [wide], axes=[0], keepdims=0)
    else:
        b.emit("ReduceProd", node, [wide, b.constant(node, "all", [0])], keepdims=0)


@exports("max_pool_grad")
def _max_pool_grad(b: Builder, node: Node) -> None:
    """``dy`` is added up where MaxPool's second result says."""
    if b.opset < 16:
        raise ValueError(f"{node.name!r}: the gradient of a max pooling has a form in ONNX from opset 16 on")
    dy, x, y = node.inputs
    pool = next((made for made in b.nodes if made.op_type == "MaxPool" and made.output[0] == y), None)
    index = f"{node.name}/indices"
    if pool is None:
        whole = replace(node, inputs=(x,), output=str(y))
        before, after, _ = pool_padding(b, whole, node.attrs["dilation"])
        attrs: dict[str, Any] = {"kernel_shape": node.attrs["kernel_size"], "strides": node.attrs["stride"]}
        attrs |= {"pads": [*before, *after], "dilations": node.attrs["dilation"]}
        b.emit("MaxPool", node, [x], "again", **{key: list(value) for key, value in attrs.items()})
        pool = b.nodes[-1]
    if len(pool.output) == 1:
        pool.output.append(index)
    flat = b.constant(node, "flat", [-1])
    size = b.emit("Reshape", node, [b.emit("Size", node, [x], "number"), flat], "size")
    zeros = b.emit("ConstantOfShape", node, [size], "zeros", value=_zero(b.dtype(node.output)))
    places = b.emit("Reshape", node, [pool.output[1], flat], "places")
    values = b.emit("Reshape", node, [dy, flat], "values")
    total = b.emit("ScatterElements", node, [zeros, places, values], "sums", axis=0, reduction="add")
    b.emit("Reshape", node, [total, _shape(b, node, x)])


def _zero(dtype: np.dtype) -> Any:
    return numpy_helper.from_array(np.zeros(1, dtype))
