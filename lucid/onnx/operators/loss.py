"""Loss: ``lucid.ops.loss`` in ONNX."""

from __future__ import annotations

from typing import Any

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports


@exports("log_softmax")
def _log_softmax(b: Builder, node: Node) -> None:
    b.emit("LogSoftmax", node, node.inputs, axis=node.attrs["axis"])


@imports("NegativeLogLikelihoodLoss")
def _import_nll_loss(call: Call, logp: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    return _nll_loss(call, logp, target, weight)


def _nll_loss(call: Call, logp: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    ignored: dict[str, Any] = {} if call["ignore_index"] is None else {"ignore_index": call["ignore_index"]}
    return ops.nll_loss(logp, target, weight, reduction=call["reduction"], **ignored)


@imports("SoftmaxCrossEntropyLoss")
def _import_cross_entropy(
    call: Call, scores: Tensor, target: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The loss, and the log-probabilities."""
    logp = ops.log_softmax(scores, 1)
    return _nll_loss(call, logp, target, weight), logp


@exports("nll_loss")
def _export_nll_loss(b: Builder, node: Node) -> None:
    attrs = {"ignore_index": node.attrs["ignore_index"], "reduction": node.attrs["reduction"]}
    b.emit("NegativeLogLikelihoodLoss", node, node.inputs, **attrs)
