"""Loss: ``lucid.ops.loss`` in ONNX."""

from __future__ import annotations

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports


@exports("log_softmax")
def _log_softmax(b: Builder, node: Node) -> None:
    b.emit("LogSoftmax", node, node.inputs, axis=node.attrs["axis"])
