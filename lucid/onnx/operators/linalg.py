"""Linear algebra: ``lucid.ops.linalg`` in ONNX, which has the determinant alone; norms of vectors are reductions."""

from __future__ import annotations

import math

from lucid import ops
from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports
from lucid.onnx._importer import imports_alike

alike(
    {
        "det": "Det",
    }
)


@exports("vector_norm")
def _vector_norm(b: Builder, node: Node) -> None:
    p, axes, keepdims = node.attrs["ord"], list(node.attrs["axis"]), int(node.attrs["keepdims"])
    x = b.emit("Abs", node, node.inputs, "" if not axes else "sizes")
    if not axes:
        return
    if p == 0:
        x = b.emit("Sign", node, [x], "ones")
    if math.isinf(p):
        _reduce(b, node, "ReduceMax" if p > 0 else "ReduceMin", x, axes, keepdims)
    elif p in (0, 1, 2):
        _reduce(b, node, "ReduceL2" if p == 2 else "ReduceSum", x, axes, keepdims)
    else:
        dtype = b.dtype(node.output)
        powers = b.emit("Pow", node, [x, b.constant(node, "ord", p, dtype)], "powers")
        total = _reduce(b, node, "ReduceSum", powers, axes, keepdims, "sum")
        b.emit("Pow", node, [total, b.constant(node, "root", 1 / p, dtype)])


def _reduce(b: Builder, node: Node, op_type: str, x: str, axes: list[int], keepdims: int, what: str = "") -> str:
    if b.opset >= 18 or op_type == "ReduceSum":  # in 18 the axes of the others became an operand too
        return b.emit(op_type, node, [x, b.constant(node, "axes", axes)], what, keepdims=keepdims)
    return b.emit(op_type, node, [x], what, axes=axes, keepdims=keepdims)


imports_alike({"Det": ops.linalg.det})
