"""Operators of the domain ``com.microsoft`` that ONNX Runtime's optimizer leaves in the files that it saves: products,
convolutions and attention. Activations and normalizations are beside ONNX's own.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. The definitions are not in the
package onnx, so that attributes have no defaults here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor, as_tensor
from lucid.onnx._importer import IMPORTS, Call, imports_contributed
from lucid.onnx.operators.attention import allowed_keys, attended, join_heads, masked, rotated, split_heads
from lucid.onnx.operators.recurrent import activation


def _own(call: Call, operator: str, *operands: Any, **defaults: Any) -> Any:
    """What ONNX's own operator makes, with the call's attributes and ``defaults`` for those that are missing."""
    inner = replace(call, operator=operator, domain="", attributes=defaults | call.attributes)
    return IMPORTS["", operator].function(inner, *operands)


# -- products and convolutions with what follows -------------------------------------------------------------------


def _activated(call: Call, y: Tensor, params: list[float]) -> Tensor:
    name = call["activation"]
    if not name:
        return y
    if name == "Clip":
        return ops.clip(y, *params[:2])
    return activation(call, name, iter(params[:1]), iter(params[1:2]))(y)


@imports_contributed("FusedConv")
def _import_fused_conv(
    call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None
) -> Tensor:
    y = _own(call, "Conv", x, weight, bias, group=1)
    return _activated(call, y if added is None else y + added, call["activation_params"] or [])


@imports_contributed("FusedGemm")
def _import_fused_gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    y = _own(call, "Gemm", a, b, c, alpha=1.0, beta=1.0, transA=0, transB=0)
    given = (call[f"activation_{which}"] for which in ("alpha", "beta"))
    return _activated(call, y, [number for number in given if number is not None])


@imports_contributed("FusedMatMul", "TransposeMatMul")
def _import_fused_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    a, b = (_turned(call, x, side) for x, side in ((a, "A"), (b, "B")))
    y = ops.matmul(a, b)
    return y if call["alpha"] in (None, 1) else y * call["alpha"]


def _turned(call: Call, x: Tensor, side: str) -> Tensor:
    """With ``transBatch`` the first axis comes before the last; with ``trans`` the last two are exchanged."""
    if call[f"transBatch{side}"] and x.ndim > 2:
        x = ops.transpose(x, (*range(1, x.ndim - 1), 0, x.ndim - 1))
    return ops.swapaxes(x, -1, -2) if call[f"trans{side}"] and x.ndim > 1 else x


@imports_contributed("NhwcMaxPool")
def _import_nhwc_maxpool(call: Call, x: Tensor) -> Tensor:
    y = _own(call, "MaxPool", ops.transpose(x, (0, 3, 1, 2)), auto_pad="NOTSET", ceil_mode=0, storage_order=0)
    return ops.transpose(y[0] if isinstance(y, tuple) else y, (0, 2, 3, 1))


# -- attention ---------------------------------------------------------------------------------------------------------


@imports_contributed("RotaryEmbedding")
def _import_rotary(call: Call, x: Tensor, places: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """A single place is that of the first token."""
    if places.shape == (1,):
        length = x.shape[-2]
        places = ops.reshape(places + as_tensor(np.arange(length), device=x.device), (1, length))
    heads = call["num_heads"] or x.shape[-1] // (2 * cos.shape[-1])
    return rotated(call, x, cos, sin, places, heads)


@imports_contributed("MultiHeadAttention")
def _import_multi_head_attention(
    call: Call,
    q: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
    bias: Tensor | None = None,
    padding: Tensor | None = None,
    scores_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
) -> Any:
    heads = call["num_heads"]
    if q.ndim == 5:  # (B, T, H, 3, D)
        q, k, v = (join_heads(ops.swapaxes(q[:, :, :, i], 1, 2)) for i in range(3))
    elif k is not None and k.ndim == 5:
        k, v = (join_heads(ops.swapaxes(k[:, :, :, i], 1, 2)) for i in range(2))
    if k is None or v is None:
        raise call.refuse("key and value must be given, but where they are packed with the query")
    if bias is not None:
        widths = [q.shape[-1], q.shape[-1], bias.shape[0] - 2 * q.shape[-1]]
        parts = ops.split(bias, widths)
        q = q + parts[0]
        k, v = (x + part if x.ndim == 3 else x for x, part in zip((k, v), parts[1:], strict=True))
    q, k, v = (split_heads(x, heads) if x.ndim == 3 else x for x in (q, k, v))
    if past_key is not None and past_value is not None:
        k, v = ops.concatenate([past_key, k], 2), ops.concatenate([past_value, v], 2)
    y, scores = _masked_attention(call, q, k, v, padding, scores_bias)
    return join_heads(y), k, v, scores


@imports_contributed("Attention")
def _import_attention(
    call: Call,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    padding: Tensor | None = None,
    past: Tensor | None = None,
    scores_bias: Tensor | None = None,
) -> Any:
    """The products of query, key and value are one matrix product."""
    if call["do_rotary"]:
        raise call.refuse("do_rotary is 1; may be 0")
    product = ops.matmul(x, weight) if bias is None else ops.matmul(x, weight) + bias
    widths = list(call["qkv_hidden_sizes"] or [product.shape[-1] // 3] * 3)
    q, k, v = (split_heads(part, call["num_heads"]) for part in ops.split(product, widths, -1))
    if past is not None:
        k, v = ops.concatenate([past[0], k], 2), ops.concatenate([past[1], v], 2)
    y, _ = _masked_attention(call, q, k, v, padding, scores_bias)
    present = ops.stack([k, v], 0) if any(call.outputs[1:2]) else None
    return join_heads(y), present


def _masked_attention(
    call: Call, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None, scores_bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    queries, keys = q.shape[2], k.shape[2]
    mask = scores_bias
    if padding is not None:
        seen = _seen(call, padding, q.shape[0], keys)
        hidden = ops.where(seen, ops.zeros((), dtype=q.dtype, device=q.device), call.default("mask_filter_value", -1e4))
        mask = hidden if mask is None else mask + hidden
    causal = bool(call["unidirectional"])
    mask = masked(mask, allowed_keys(queries, keys, keys - queries, causal, -1, -1), q)
    scale = call["scale"] or None
    inner = replace(call, attributes=call.attributes | {"scale": scale})
    return attended(inner, q, k, v, mask, False)


def _seen(call: Call, padding: Tensor, batch: int, keys: int) -> Tensor:
    """Which keys are no padding: booleans that broadcast to ``(B, H, T, S)``, from the forms that a mask may have."""
    places = as_tensor(np.arange(keys), device=padding.device)
    if padding.ndim == 1:
        ends = ops.reshape(padding[:batch], (batch, 1, 1, 1))
        seen = places < ends
        if padding.shape[0] == 2 * batch:  # where the sequences start
            seen = seen & (places >= ops.reshape(padding[batch:], (batch, 1, 1, 1)))
        return seen
    if padding.ndim in (2, 3):
        return ops.unsqueeze(ops.unsqueeze(padding, 1) if padding.ndim == 2 else padding, 1) != 0
    raise call.refuse(f"its mask is of shape {padding.shape}; may have one to three axes")
