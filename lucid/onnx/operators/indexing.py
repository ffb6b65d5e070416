"""Places along an axis and order: ``lucid.ops.indexing`` and ``lucid.ops.order`` in ONNX."""

from __future__ import annotations

from typing import Any

from onnx import helper

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports


@exports("gather", "index_select")
def _gather(b: Builder, node: Node) -> None:
    op_type = "GatherElements" if node.op == "gather" else "Gather"
    b.emit(op_type, node, node.inputs, axis=node.attrs["axis"])


@exports("scatter", "scatter_add")
def _scatter(b: Builder, node: Node) -> None:
    attrs: dict[str, Any] = {"axis": node.attrs["axis"]}
    if node.op == "scatter_add":
        if b.opset < 16:
            raise ValueError(f"{node.name!r}: scatter_add has a counterpart in the ONNX export from opset 16 on")
        attrs["reduction"] = "add"
    b.emit("ScatterElements", node, node.inputs, **attrs)


@exports("argsort", "topk")
def _order(b: Builder, node: Node) -> None:
    axis, sort = node.attrs["axis"], node.op == "argsort"
    count = b.shape(node.inputs[0])[axis] if sort else node.attrs["k"]
    if not isinstance(count, int):
        raise ValueError(f"{node.name!r}: the order along an axis of open size has no counterpart in the ONNX export")
    inputs = [str(node.inputs[0]), b.constant(node, "k", [count])]
    largest = int(node.attrs["descending" if sort else "largest"])
    outputs = [f"{node.name}/values", node.output]
    b.nodes.append(helper.make_node("TopK", inputs, outputs, name=node.name, axis=axis, largest=largest, sorted=1))


@exports("index_add")
def _index_add(b: Builder, node: Node) -> None:
    """By the first axis, to which another one is turned."""
    if b.opset < 16:
        raise ValueError(f"{node.name!r}: index_add has a counterpart in the ONNX export from opset 16 on")
    (x, index, values), axis, axes = node.inputs, node.attrs["axis"], len(b.shape(node.output))
    turned = [axis, *(i for i in range(axes) if i != axis)]
    if axis:
        x = b.emit("Transpose", node, [x], "turned", perm=turned)
        values = b.emit("Transpose", node, [values], "values", perm=turned)
    places = b.emit("Unsqueeze", node, [index, b.constant(node, "last", [-1])], "places")
    made = b.emit("ScatterND", node, [x, places, values], "sums" if axis else "", reduction="add")
    if axis:
        b.emit("Transpose", node, [made], perm=sorted(range(axes), key=turned.__getitem__))
