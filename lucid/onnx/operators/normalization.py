"""Normalization: ``lucid.ops.normalization`` in ONNX."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.dtypes import bool_, int32
from lucid.core.grad_mode import no_grad
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.nn.parameter import Buffer
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports, imports_contributed
from lucid.onnx.operators.composed import by_batch
from lucid.onnx.operators.random import generator
from lucid.ops.embedding import embedding


@exports("batch_norm")
def _batch_norm(b: Builder, node: Node) -> None:
    if node.attrs["training"]:
        by_batch(b, node)
        return
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
def _import_batch_norm(call: Call, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor) -> Any:
    """ONNX's momentum is the share that is kept. Where the model asks for training it gets the running statistics as
    results, with the variance of the population; lucid's train mode keeps them as lucid's layers do."""
    rows = x
    if call.version < 9 and not call["spatial"]:  # statistics of each place
        rows = ops.reshape(x, (x.shape[0], -1))
        scale, shift, mean, var = (ops.reshape(each, (-1,)) for each in (scale, shift, mean, var))
    elif not 2 <= x.ndim <= _MOST_AXES:
        rows = ops.reshape(x, (x.shape[0], scale.shape[0], -1))
    scale, shift = (each.astype(x.dtype) if each.dtype != x.dtype else each for each in (scale, shift))
    momentum, eps = 1 - call["momentum"], call["epsilon"]
    asked = call["training_mode"] or any(call.outputs[1:])
    kept = (None, None) if asked else (mean, var)
    y = ops.batch_norm(rows, kept[0], kept[1], scale, shift, bool(asked) or call.training, momentum, eps)
    if rows is not x:
        y = ops.reshape(y, x.shape)
    if not asked:
        return y
    axes = (0, *range(2, rows.ndim))
    now = [function.astype(mean.dtype) for function in (ops.mean(rows, axes), ops.var(rows, axes, correction=0))]
    running = [
        before * call["momentum"] + statistic * momentum for before, statistic in zip((mean, var), now, strict=True)
    ]
    if call.training:
        for state, value in zip((mean, var), running, strict=True):
            if isinstance(state, Buffer):
                with no_grad():
                    state.copy_(value)
    return y, *running, *now


_MOST_AXES = 5


@imports("InstanceNormalization")
def _import_instance_norm(call: Call, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return ops.group_norm(x, x.shape[1], scale, shift, call["epsilon"])


@imports("GroupNormalization")
def _import_group_norm(call: Call, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Before version 21 there is one scale and one shift for a group."""
    groups = call["num_groups"]
    if call.version < 21 and groups:
        scale, shift = (ops.repeat(each, x.shape[1] // groups, 0) for each in (scale, shift))
    return ops.group_norm(x, groups, scale, shift, call["epsilon"])


@imports("LayerNormalization")
@imports_contributed("LayerNormalization")
def _import_layer_norm(call: Call, x: Tensor, scale: Tensor | None, shift: Tensor | None = None) -> Any:
    return _layer_normalized(call, x, scale, shift, True)


@imports("RMSNormalization")
def _import_rms_norm(call: Call, x: Tensor, scale: Tensor) -> Any:
    return _layer_normalized(call, x, scale, None, False)[0]


def _layer_normalized(call: Call, x: Tensor, scale: Tensor | None, shift: Tensor | None, centre: bool) -> Any:
    """The result, the mean and the inverse of the deviation; the last two where the model asks for them. All of it is
    computed in the dtype of ``x``, also where ``stash_type`` allows less. (In older files the operator is one of ONNX
    Runtime's own, without a definition that has defaults.)"""
    axis, eps = int(call.default("axis", -1)), call.default("epsilon", 1e-5)
    shape = x.shape[axis:]
    outer = [each for each in (scale, shift) if each is not None and (each.shape != shape or each.dtype != x.dtype)]
    weight, bias = (None, None) if outer else (scale, shift)
    y = ops.layer_norm(x, shape, weight, bias, eps) if centre else ops.rms_norm(x, shape, weight, eps)
    if outer:
        y = y if scale is None else y * scale.astype(y.dtype)
        y = y if shift is None else y + shift.astype(y.dtype)
    if not any(call.outputs[1:3]):
        return y, None, None
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = ops.mean(x, axes, keepdims=True)
    deviation = ops.sqrt(ops.mean(ops.square(x - mean if centre else x), axes, keepdims=True) + eps)
    return y, mean, ops.reciprocal(deviation)


@imports("LRN")
def _import_lrn(call: Call, x: Tensor) -> Tensor:
    """``x / (bias + alpha / size * sum of squares of the channels around)^beta``."""
    size, channels = call["size"], x.shape[1]
    before = (size - 1) // 2
    squares = ops.pad(ops.square(x), [(0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2)])
    total = reduce(ops.add, (squares[:, i : i + channels] for i in range(size)))
    return x / ops.power(total * (call["alpha"] / size) + call["bias"], call["beta"])


@imports("MeanVarianceNormalization")
def _import_mean_variance(call: Call, x: Tensor) -> Tensor:
    axes = tuple(call["axes"])
    centred = x - ops.mean(x, axes, keepdims=True)
    return centred / (ops.sqrt(ops.mean(ops.square(centred), axes, keepdims=True)) + _LEAST_DEVIATION)


_LEAST_DEVIATION = 1e-9  # of ONNX's definition


@imports("Dropout", host=(1, 2), random=True)
def _import_dropout(
    call: Call, x: Tensor, ratio: np.ndarray | None = None, training: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """The result and where it is kept; it drops where the model asks for it, and in train mode."""
    share = call["ratio"] if call["ratio"] is not None else 0.5
    if ratio is not None:
        share = float(ratio.item())
    drops = call.training or (training is not None and bool(training.item()))
    if not drops or share == 0:
        return x, ops.full(x.shape, True, dtype=bool_, device=x.device)
    kept = generator(call).bernoulli(1 - share, x.shape, x.dtype, x.device)
    return x * (kept / (1 - share)), kept.astype(bool_)


# -- of ONNX Runtime --------------------------------------------------------------------------------------------------


@imports("SimplifiedLayerNormalization", keeps=0)
@imports_contributed("SimplifiedLayerNormalization")
def _import_simplified_layer_norm(call: Call, x: Tensor, scale: Tensor) -> Any:
    """Its second result is the inverse of the root of the mean of squares."""
    y, _, inverse = _layer_normalized(call, x, scale, None, False)
    return y, inverse


@imports_contributed("SkipLayerNormalization")
def _import_skip_layer_norm(
    call: Call, x: Tensor, skip: Tensor, scale: Tensor, shift: Tensor | None = None, bias: Tensor | None = None
) -> Any:
    return _skipped(call, x, skip, scale, shift, bias, True)


@imports_contributed("SkipSimplifiedLayerNormalization")
def _import_skip_simplified(call: Call, x: Tensor, skip: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    return _skipped(call, x, skip, scale, None, bias, False)


def _skipped(
    call: Call, x: Tensor, skip: Tensor, scale: Tensor, shift: Tensor | None, bias: Tensor | None, centre: bool
) -> Any:
    """The last result is the sum that is normalized."""
    total = x + skip if bias is None else x + skip + bias
    return *_layer_normalized(call, total, scale, shift, centre), total


@imports_contributed("EmbedLayerNormalization", keeps=2)
def _import_embed_layer_norm(
    call: Call,
    words: Tensor,
    segments: Tensor | None,
    word_table: Tensor,
    place_table: Tensor,
    segment_table: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    mask: Tensor | None = None,
    places: Tensor | None = None,
) -> Any:
    """The result, how many words each mask has, and the sum that is normalized."""
    batch, length = words.shape
    total = embedding(words, word_table)
    total = total + (place_table[:length] if places is None else embedding(places, place_table))
    if segments is not None and segment_table is not None:
        total = total + embedding(segments, segment_table)
    eps = call.default("epsilon", 1e-12)
    y = ops.layer_norm(total, total.shape[-1], scale, shift, eps)
    if mask is None:
        count = ops.zeros((batch,), dtype=int32, device=words.device)
    else:
        count = ops.sum((mask != 0).astype(int32), 1).astype(int32)
    return y, count, total
