"""Comparison: ``lucid.ops.comparison`` in ONNX."""

from __future__ import annotations

from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports

alike(
    {
        "equal": "Equal",
        "greater": "Greater",
        "greater_equal": "GreaterOrEqual",
        "isnan": "IsNaN",
        "less": "Less",
        "less_equal": "LessOrEqual",
        "logical_and": "And",
        "logical_not": "Not",
        "logical_or": "Or",
    }
)


@exports("not_equal")
def _not_equal(b: Builder, node: Node) -> None:
    b.emit("Not", node, [b.emit("Equal", node, node.inputs, "equal")])
