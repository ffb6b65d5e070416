"""Reduction: ``lucid.ops.reduction`` in ONNX."""

from __future__ import annotations

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports


@exports("max", "mean", "min", "sum")
def _reduce(b: Builder, node: Node) -> None:
    op_type = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}[node.op]
    axes, keepdims = list(node.attrs["axis"]), int(node.attrs["keepdims"])
    if not axes:  # nothing to reduce; ONNX would take no axes for all of them
        b.emit("Identity", node, node.inputs)
    elif b.opset >= 18 or op_type == "ReduceSum":  # in 18 the axes of the others became an operand too
        b.emit(op_type, node, [node.inputs[0], b.constant(node, "axes", axes)], keepdims=keepdims)
    else:
        b.emit(op_type, node, node.inputs, axes=axes, keepdims=keepdims)


@exports("cumsum")
def _cumsum(b: Builder, node: Node) -> None:
    b.emit("CumSum", node, [node.inputs[0], b.constant(node, "axis", node.attrs["axis"])])


@exports("argmax", "argmin")
def _argument(b: Builder, node: Node) -> None:
    op_type, axis = {"argmax": "ArgMax", "argmin": "ArgMin"}[node.op], node.attrs["axis"]
    if axis is not None:
        b.emit(op_type, node, node.inputs, axis=axis, keepdims=int(node.attrs["keepdims"]))
        return
    flat = b.emit("Reshape", node, [node.inputs[0], b.constant(node, "flat_shape", [-1])], "flat")
    index = b.emit(op_type, node, [flat], "index", axis=0, keepdims=0)
    b.emit("Reshape", node, [index, b.constant(node, "shape", [1] * len(b.shape(node.output)))])
