"""Product: ``lucid.ops.product`` in ONNX."""

from __future__ import annotations

from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports

alike(
    {
        "matmul": "MatMul",
    }
)


@exports("linear")
def _linear(b: Builder, node: Node) -> None:
    x, weight, bias = node.inputs
    if len(b.shape(x)) == 2:
        b.emit("Gemm", node, node.inputs, transB=1)
        return
    transposed = b.emit("Transpose", node, [weight], "transposed", perm=[1, 0])
    if bias is None:
        b.emit("MatMul", node, [x, transposed])
    else:
        b.emit("Add", node, [b.emit("MatMul", node, [x, transposed], "product"), bias])
