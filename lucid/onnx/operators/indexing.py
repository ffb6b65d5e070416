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
