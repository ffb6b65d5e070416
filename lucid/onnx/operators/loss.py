"""Loss: ``lucid.ops.loss`` in ONNX."""

from __future__ import annotations

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports


@exports("log_softmax")
def _log_softmax(b: Builder, node: Node) -> None:
    b.emit("LogSoftmax", node, node.inputs, axis=node.attrs["axis"])


@exports("nll_loss")
def _nll_loss(b: Builder, node: Node) -> None:
    attrs = {"ignore_index": node.attrs["ignore_index"], "reduction": node.attrs["reduction"]}
    b.emit("NegativeLogLikelihoodLoss", node, node.inputs, **attrs)
