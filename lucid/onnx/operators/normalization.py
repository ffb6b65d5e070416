"""Normalization: ``lucid.ops.normalization`` in ONNX."""

from __future__ import annotations

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports


@exports("batch_norm")
def _batch_norm(b: Builder, node: Node) -> None:
    if node.attrs["training"]:
        raise ValueError(f"{node.name!r}: a normalisation by the statistics of its batch cannot be exported")
    x, gamma, beta, mean, var = node.inputs
    channels, dtype = b.shape(mean), b.dtype(node.output)
    b.emit(
        "BatchNormalization",
        node,
        [
            x,
            gamma or b.constant(node, "scale", np.ones(channels), dtype),
            beta or b.constant(node, "shift", np.zeros(channels), dtype),
            mean,
            var,
        ],
        epsilon=node.attrs["eps"],
    )


@exports("layer_norm")
def _layer_norm(b: Builder, node: Node) -> None:
    x, weight, bias = node.inputs
    shape, dtype = node.attrs["normalized_shape"], b.dtype(node.output)
    if b.opset < 17 or dtype != np.float32:  # the operator came in 17, and takes mean and variance in float32 at most
        b.translate_body(node)
        return
    scale = weight or b.constant(node, "scale", np.ones(shape), dtype)
    b.emit("LayerNormalization", node, [x, scale, bias], axis=-len(shape), epsilon=node.attrs["eps"])


@imports("BatchNormalization", state=(3, 4))
def _import_batch_norm(call: Call, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """ONNX's momentum is the share that is kept."""
    training = call.training or bool(call["training_mode"])
    return ops.batch_norm(x, mean, var, scale, shift, training, 1 - call["momentum"], call["epsilon"])
