"""Attention: ``lucid.ops.attention`` and ``lucid.ops.embedding`` in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor, as_tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports
from lucid.ops._function import apply
from lucid.ops.attention import AttentionWeights, attention, rotary_embedding
from lucid.ops.embedding import embedding


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


@imports("Attention")
def _import_attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Any:
    """``softmax_precision`` is not needed: the softmax is precise."""
    packed = q.ndim == 3
    if packed:
        q, k, v = (_heads_of(call, x, name) for x, name in ((q, "q"), (k, "kv"), (v, "kv")))
    offset: Any = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = ops.concatenate([past_key, k], 2), ops.concatenate([past_value, v], 2)
    elif lengths is not None:
        lengths = ops.reshape(lengths, (-1, 1, 1, 1))
        offset = lengths - q.shape[2]
    causal = bool(call["is_causal"])
    windows = [-1 if call[side] is None else call[side] for side in ("left_window_size", "right_window_size")]
    plain = causal and windows == [-1, -1] and mask is None and lengths is None and isinstance(offset, int)
    plain = plain and offset == 0
    if not plain:
        allowed = allowed_keys(q.shape[2], k.shape[2], offset, causal, *windows)
        if lengths is not None:
            within = as_tensor(np.arange(k.shape[2]), device=q.device) < lengths
            allowed = within if allowed is None else within & allowed
        mask = masked(_padded(mask, k.shape[2]), allowed, q)
    y, scores = attended(call, q, k, v, mask, plain)
    return join_heads(y) if packed else y, k, v, scores


def _heads_of(call: Call, x: Tensor, whose: str) -> Tensor:
    heads = call[f"{whose}_num_heads"]
    if not heads or x.shape[-1] % heads:
        raise call.refuse(f"{whose}_num_heads is {heads}; it must divide {x.shape[-1]}, the length of the last axis")
    return split_heads(x, heads)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(B, T, H * D)`` as ``(B, H, T, D)``."""
    return ops.transpose(ops.reshape(x, (*x.shape[:2], heads, x.shape[2] // heads)), (0, 2, 1, 3))


def join_heads(x: Tensor) -> Tensor:
    """``(B, H, T, D)`` as ``(B, T, H * D)``."""
    b, heads, length, width = x.shape
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (b, length, heads * width))


def allowed_keys(queries: int, keys: int, offset: Any, causal: bool, left: int, right: int) -> Any:
    """Which keys a query may look at, by its place: an array where that is known, a tensor, or None for all."""
    if not causal and left < 0 and right < 0:
        return None
    ahead: Any = np.arange(keys) - np.arange(queries)[:, None]
    ahead = ahead - offset if isinstance(offset, int) else as_tensor(ahead, device=offset.device) - offset
    parts = [ahead <= 0] if causal else []
    if left >= 0:
        parts.append(ahead >= -left)
    if right >= 0:
        parts.append(ahead <= right)
    allowed = parts[0]
    for part in parts[1:]:
        allowed = allowed & part
    return allowed


def _padded(mask: Tensor | None, keys: int) -> Tensor | None:
    """A mask of fewer keys hides the others."""
    if mask is None or mask.shape[-1] == keys:
        return mask
    widths = [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])]
    return ops.pad(mask, widths, False if mask.dtype.kind == "b" else -np.inf)


def masked(mask: Tensor | None, allowed: Any, like: Tensor) -> Tensor | None:
    """A mask of booleans or numbers, that hides what is not allowed too."""
    if allowed is None:
        return mask
    allowed = allowed if isinstance(allowed, Tensor) else as_tensor(allowed, device=like.device)
    if mask is None:
        return allowed
    return mask & allowed if mask.dtype.kind == "b" else ops.where(allowed, mask, -np.inf)


def attended(
    call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool
) -> tuple[Tensor, Tensor | None]:
    """Attention of ``(B, H, T, D)``, and what ``qk_matmul_output_mode`` says where the model asks for it."""
    grouped = q.shape[1] != k.shape[1]
    scale, cap = call["scale"], call["softcap"]
    if not cap and not any(call.outputs[3:4]):
        return attention(q, k, v, mask, causal, scale, grouped), None
    if grouped:
        k, v = (ops.repeat(x, q.shape[1] // k.shape[1], 1) for x in (k, v))
    if causal:
        mask = as_tensor(np.tri(q.shape[2], k.shape[2], dtype=bool), device=q.device)
    shown = [ops.matmul(q, ops.swapaxes(k, -1, -2)) * (q.shape[-1] ** -0.5 if scale is None else scale)]
    shown.append(ops.tanh(shown[0] / cap) * cap if cap else shown[0])
    if mask is not None and mask.dtype.kind == "b":
        mask = ops.where(mask, ops.zeros((), dtype=q.dtype, device=q.device), -np.inf)
    shown.append(shown[1] if mask is None else shown[1] + mask)
    shown.append(apply(AttentionWeights(1.0, False), shown[2], None if mask is None else ops.zeros_like(mask)))
    return ops.matmul(shown[3], v), shown[call["qk_matmul_output_mode"] or 0]


@imports("RotaryEmbedding")
def _import_rotary(call: Call, x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None = None) -> Tensor:
    if x.ndim == 3 and not call["num_heads"]:
        raise call.refuse("num_heads must be given for an input of three axes")
    return rotated(call, x, cos, sin, places, call["num_heads"])


def rotated(call: Call, x: Tensor, cos: Tensor, sin: Tensor, places: Tensor | None, heads: int) -> Tensor:
    """Of ``(B, H, T, D)``, or of ``(B, T, H * D)``; where places are given the angles are rows of a table."""
    if places is not None:
        cos, sin = embedding(places, cos), embedding(places, sin)
    packed = x.ndim == 3
    if packed:
        x = split_heads(x, heads)
    width = call["rotary_embedding_dim"] or x.shape[-1]
    if cos.shape[-1] != width // 2:
        raise call.refuse(f"the cosines are of shape {cos.shape}; their last axis must be of length {width // 2}")
    cos, sin = (ops.unsqueeze(each, 1) for each in (cos, sin))
    y = rotary_embedding(x, cos, sin, bool(call["interleaved"]))
    return join_heads(y) if packed else y


@imports("LinearAttention")
def _import_linear_attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Token by token, as its definition has it; a head of keys serves a group of heads of queries."""
    rule, heads = call["update_rule"], call["kv_num_heads"]
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        raise call.refuse(f"update_rule is {rule!r}; may be 'linear', 'gated', 'delta' or 'gated_delta'")
    for name, operand, needed in (("decay", decay, "gated" in rule), ("beta", beta, "delta" in rule)):
        if (operand is not None) != needed:
            raise call.refuse(f"update_rule {rule!r} {'needs' if needed else 'has no'} {name}")
    b, length, _ = q.shape
    keys, values = (_heads_of(call, x, "kv") for x in (k, v))
    queries = _heads_of(call, q, "q")
    width = queries.shape[-1]
    queries = ops.reshape(queries, (b, heads, queries.shape[1] // heads, length, width))
    scale = call["scale"] or width**-0.5
    if state is None:
        state = ops.zeros((b, heads, width, values.shape[-1]), dtype=q.dtype, device=q.device)
    results = []
    for t in range(length):
        key, value = keys[:, :, t], values[:, :, t]
        if decay is not None:
            state = state * ops.exp(ops.reshape(decay[:, t], (b, heads, -1, 1)))
        if beta is not None:
            seen = ops.matmul(ops.unsqueeze(key, 2), state)[:, :, 0]
            value = (value - seen) * ops.reshape(beta[:, t], (b, -1, 1))
        state = state + ops.unsqueeze(key, 3) * ops.unsqueeze(value, 2)
        results.append(ops.matmul(queries[:, :, :, t], state) * scale)
    y = ops.stack(results, 1)  # (B, T, H, group, D)
    return ops.reshape(y, (b, length, -1)), state


@imports("CausalConvWithState")
def _import_causal_conv(
    call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    if call["activation"] not in ("none", "silu", "swish"):
        raise call.refuse(f"activation is {call['activation']!r}; may be 'none', 'silu' or 'swish'")
    before = weight.shape[2] - 1
    whole = ops.pad(x, [(0, 0), (0, 0), (before, 0)]) if state is None else ops.concatenate([state, x], 2)
    y = ops.conv1d(whole, weight, bias, groups=weight.shape[0])
    return y if call["activation"] == "none" else ops.silu(y), whole[:, :, whole.shape[2] - before :]


@imports("FlexAttention", domain="ai.onnx.preview")
def _import_flex_attention(call: Call, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Its graphs change the scores before the softmax, and the weights after it."""
    scale, grouped = call["scale"], q.shape[1] != k.shape[1]
    if call["score_mod"] is None and call["prob_mod"] is None:
        return attention(q, k, v, None, False, scale, grouped)
    if grouped:
        k, v = (ops.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if call["score_mod"] is not None:
        [scores] = call["score_mod"](scores)
    weights = ops.softmax(scores, -1)
    if call["prob_mod"] is not None:
        [weights] = call["prob_mod"](weights)
    return ops.matmul(weights, v)
