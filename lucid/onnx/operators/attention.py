"""Attention: ``lucid.ops.attention`` and ``lucid.ops.embedding`` in ONNX."""

from __future__ import annotations

import numpy as np

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports


@exports("embedding")
def _embedding(b: Builder, node: Node) -> None:
    index, weight = node.inputs
    b.emit("Gather", node, [weight, index], axis=0)


@exports("attention")
def _attention(b: Builder, node: Node) -> None:
    q, k, v, mask = node.inputs
    axes = len(b.shape(k))
    turned = b.emit("Transpose", node, [k], "keys", perm=[*range(axes - 2), axes - 1, axes - 2])
    scores = b.emit("MatMul", node, [q, turned], "scores")
    b.emit("MatMul", node, [_weights(b, node, scores, mask, (b.shape(q)[-2], b.shape(k)[-2]), "weights"), v])


@exports("attention_weights")
def _attention_weights(b: Builder, node: Node) -> None:
    scores, mask = node.inputs
    queries, keys = b.shape(scores)[-2:]
    _weights(b, node, str(scores), mask, (queries, keys), "")


def _weights(
    b: Builder, node: Node, scores: str, mask: str | None, sizes: tuple[int | str | None, int | str | None], what: str
) -> str:
    """The softmax of the scaled and masked scores; where nothing is left to look at, 0."""
    dtype = b.dtype(node.output)
    a = b.emit("Mul", node, [scores, b.constant(node, "scale", node.attrs["scale"], dtype)], "scaled")
    if mask is not None:
        a = b.emit("Add", node, [a, mask], "masked")
    if node.attrs["causal"]:
        queries, keys = sizes
        if not isinstance(queries, int) or not isinstance(keys, int):
            raise ValueError(f"{node.name!r}: causal attention of an open length has no counterpart in the ONNX export")
        later = np.where(np.tri(queries, keys, dtype=bool), 0.0, -np.inf)
        a = b.emit("Add", node, [a, b.constant(node, "later", later, dtype)], "causal")
    if mask is None:
        return b.emit("Softmax", node, [a], what, axis=-1)
    zero = b.constant(node, "zero", 0.0, dtype)
    top = _largest(b, node, a)
    nothing = b.emit("Equal", node, [top, b.constant(node, "lowest", -np.inf, dtype)], "nothing")
    finite = b.emit("Where", node, [nothing, zero, a], "finite")
    soft = b.emit("Softmax", node, [finite], "softmax", axis=-1)
    return b.emit("Where", node, [nothing, zero, soft], what)


def _largest(b: Builder, node: Node, a: str) -> str:
    if b.opset < 18:
        return b.emit("ReduceMax", node, [a], "largest", axes=[-1], keepdims=1)
    return b.emit("ReduceMax", node, [a, b.constant(node, "last", [-1])], "largest", keepdims=1)
