"""Product: ``lucid.ops.product`` in ONNX."""

from __future__ import annotations

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports
from lucid.onnx._importer import Call, imports

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


@imports("MatMul")
def _import_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    return ops.matmul(a, b)


@imports("Gemm")
def _import_gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """``alpha a b + beta c``; a linear layer where that is one."""
    if (
        call["transB"]
        and not call["transA"]
        and call["alpha"] == 1
        and (c is None or (call["beta"] == 1 and c.ndim == 1))
    ):
        return ops.linear(a, b, c)
    product = ops.matmul(a.T if call["transA"] else a, b.T if call["transB"] else b)
    if call["alpha"] != 1:
        product = product * call["alpha"]
    if c is None:
        return product
    return product + (c if call["beta"] == 1 else c * call["beta"])


@imports("Einsum")
def _import_einsum(call: Call, *operands: Tensor) -> Tensor:
    return ops.einsum(call["equation"], *operands)
