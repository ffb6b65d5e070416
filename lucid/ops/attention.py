"""Attention, and what transformers put around it (``ARITHMETIC.md``, section 9.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lucid.backends import Backend
from lucid.core.tensor import Tensor
from lucid.ops._common import broadcast_shape, one_axis, unbroadcast
from lucid.ops._function import Function, apply, compose, mixed_floats
from lucid.ops.creation import zeros
from lucid.ops.elementwise import add, mul, sigmoid, sub, where
from lucid.ops.product import matmul
from lucid.ops.shape import broadcast_to, concatenate, getitem, reshape, split, swapaxes

__all__ = ["attention", "rotary_embedding", "swiglu"]


class Attention(Function):
    """Of operands that have been checked; its mask has no gradient. The backward pass makes the weights again."""

    name = "attention"
    floats = True
    params = ("scale", "causal")

    def __init__(self, scale: float, causal: bool) -> None:
        self.scale = scale
        self.causal = causal

    def forward(self, be: Backend, q: Any, k: Any, v: Any, mask: Any) -> Any:
        self.saved = (q, k, v, mask)
        return be.attention(q, k, v, mask, self.scale, self.causal)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        q, k, v, mask = self.saved  # type: ignore[misc]
        grads = be.attention_grad(dy, q, k, v, mask, self.scale, self.causal)
        needs = self.needs or ()
        each = zip(grads, (q, k, v), needs, strict=False)
        return *[unbroadcast(be, grad, x.shape) if need else None for grad, x, need in each], None


class AttentionWeights(Function):
    """The softmax over the last axis of ``scores * scale + mask``."""

    name = "attention_weights"
    floats = True
    params = ("scale", "causal")

    def __init__(self, scale: float, causal: bool) -> None:
        self.scale = scale
        self.causal = causal

    def forward(self, be: Backend, scores: Any, mask: Any) -> Any:
        weights = be.attention_weights(scores, mask, self.scale, self.causal)
        self.saved = (weights, None if mask is None else mask.shape)
        return weights

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        weights, shape = self.saved  # type: ignore[misc]
        needs_scores, needs_mask = self.needs  # type: ignore[misc]
        grad = be.attention_weights_grad(dy, weights, self.causal)
        return (
            be.binary("mul", grad, be.number(self.scale, grad.dtype)) if needs_scores else None,
            unbroadcast(be, grad, shape) if needs_mask else None,
        )


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    grouped: bool = False,
    drop: Callable[[Tensor], Tensor] | None = None,
    weights: bool = False,
) -> Any:
    """What ``lucid.nn.functional.scaled_dot_product_attention`` says; ``drop`` is done to the weights, and with
    ``weights`` they are returned, too."""
    check(query, key, value, grouped)
    q, k, v = query, key, value
    if grouped:
        q, k, v = [_split_heads(x, key.shape[-3]) for x in (query, key, value)]  # beside the head that they share
        if mask is not None and mask.ndim > 2:
            mask = _split_heads(mask, key.shape[-3] if mask.shape[-3] > 1 else 1)
    factor = 1.0 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    if mask is not None:
        mask = _added(mask, q)
        shape = (*broadcast_shape("attention", q.shape[:-2], k.shape[:-2]), q.shape[-2], k.shape[-2])
        full = broadcast_shape("attn_mask", shape, mask.shape)
        if full[-2:] != shape[-2:]:
            raise ValueError(
                f"attn_mask: got shape {mask.shape}; must broadcast to {shape}, a number for each query and key"
            )
        if full != shape:
            q = broadcast_to(q, (*full[:-2], *q.shape[-2:]))
    if drop is None and not weights and (mask is None or not mask.requires_grad):
        y = apply(Attention(float(factor), causal), q, k, v, mask)
        return reshape(y, (*query.shape[:-1], value.shape[-1])) if grouped else y
    w = apply(AttentionWeights(float(factor), causal), matmul(q, swapaxes(k, -1, -2)), mask)
    y = matmul(w if drop is None else drop(w), v)
    y = reshape(y, (*query.shape[:-1], value.shape[-1])) if grouped else y
    return (y, w if drop is None else drop(w)) if weights else y


def check(query: Tensor, key: Tensor, value: Tensor, grouped: bool) -> None:
    """Raise unless the operands of attention fit."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dtype.kind != "f":
            raise TypeError(f"{name}: got a {x.dtype} tensor; may be float32 or float64 (convert with .astype)")
        if x.ndim < 2 + grouped:
            axes = "(..., heads, length, width)" if grouped else "(..., length, width)"
            raise ValueError(f"{name}: got shape {x.shape}; must be {axes}")
        if x.dtype != query.dtype:
            raise mixed_floats("scaled_dot_product_attention", query.dtype, x.dtype)
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"key: got shape {key.shape}; must be as wide as query, {query.shape}")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"value: got shape {value.shape}; must be as long as key, {key.shape}")
    if grouped:
        for name, x in (("key", key), ("value", value)):
            if not x.shape[-3] or query.shape[-3] % x.shape[-3]:
                raise ValueError(
                    f"{name}: got {x.shape[-3]} heads for a query of {query.shape[-3]}, which must be a multiple of it"
                )
        if key.shape[-3] != value.shape[-3]:
            raise ValueError(f"value: got {value.shape[-3]} heads; must be as many as key has, {key.shape[-3]}")


def _split_heads(x: Tensor, groups: int) -> Tensor:
    *leading, heads, length, width = x.shape
    return reshape(x, (*leading, groups, heads // groups, length, width))


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of booleans (True: looked at) as what is added to scores."""
    if mask.dtype.kind == "b":
        nothing = zeros((), dtype=like.dtype, device=like.device)
        return where(mask, nothing, -math.inf)
    if mask.dtype != like.dtype:
        raise TypeError(f"attn_mask: got a {mask.dtype} tensor; must be booleans or {like.dtype}, as the query")
    return mask


def swiglu(input: Tensor, axis: int = -1) -> Tensor:
    """``silu(a) * b``, ``a`` and ``b`` being the halves of ``input`` along ``axis`` and ``silu(a) = a * sigmoid(a)``.

    Args:
        input: a float tensor.
        axis: an axis of even length.

    Returns:
        Half as long along ``axis``. It is composed of ``sigmoid`` and two products, and so is its gradient.

    Raises:
        ValueError: there is no such axis, or its length is odd.
        TypeError: integers.

    Source: Shazeer, GLU variants improve transformer, 2020.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.swiglu(lucid.tensor([0.0, 1.0, 5.0, 2.0]))
        tensor([0.       , 1.4621172])
    """
    place = one_axis("swiglu", axis, input.ndim)
    if input.shape[place] % 2:
        raise ValueError(f"swiglu: got shape {input.shape} and axis {axis}; its length must be even")
    if input.dtype.kind != "f":
        raise TypeError(f"swiglu: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")
    return compose("swiglu", _swiglu, input, axis=place)


def _swiglu(input: Tensor, axis: int) -> Tensor:
    half = input.shape[axis] // 2
    a, b = split(input, [half, half], axis)
    return mul(mul(a, sigmoid(a)), b)


def rotary_embedding(input: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Turns pairs of features by an angle: ``(a, b)`` becomes ``(a cos - b sin, a sin + b cos)``.

    Args:
        input: ``(..., T, D)``.
        cos: the cosines of the angles, whose shape broadcasts to ``(..., T, R / 2)``; R features are turned.
        sin: their sines, likewise.
        interleaved: whether features ``2i`` and ``2i + 1`` are a pair, or ``i`` and ``i + R / 2``.

    Returns:
        A tensor of the input's shape: ``R`` features turned, the others as they are. It is composed of products, a
        difference and a sum, each rounded, and so is its gradient.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: two float dtypes.

    Source: ONNX operator RotaryEmbedding; Su et al., RoFormer, 2021.

    Example:
        >>> import lucid
        >>> x, zero, one = lucid.tensor([[1.0, 2.0]]), lucid.zeros(1, 1), lucid.ones(1, 1)
        >>> lucid.nn.functional.rotary_embedding(x, cos=zero, sin=one)
        tensor([[-2.,  1.]])
    """
    if input.dtype.kind != "f":
        raise TypeError(
            f"rotary_embedding: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)"
        )
    if input.ndim < 2 or cos.shape != sin.shape or not cos.ndim or 2 * cos.shape[-1] > input.shape[-1]:
        raise ValueError(
            f"rotary_embedding: got an input of shape {input.shape}, cos {cos.shape} and sin {sin.shape}; the input "
            "must have two axes, cos and sin one shape, of at most half the features"
        )
    turned = (*input.shape[:-1], cos.shape[-1])
    if broadcast_shape("rotary_embedding", turned, cos.shape) != turned:
        raise ValueError(f"cos: got shape {cos.shape}; must broadcast to {turned}")
    return compose("rotary_embedding", _rotary, input, cos, sin, interleaved=interleaved)


def _rotary(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    half = cos.shape[-1]
    if interleaved:
        a, b = getitem(x, (..., slice(0, 2 * half, 2))), getitem(x, (..., slice(1, 2 * half, 2)))
    else:
        a, b = getitem(x, (..., slice(0, half))), getitem(x, (..., slice(half, 2 * half)))
    left, right = sub(mul(a, cos), mul(b, sin)), add(mul(a, sin), mul(b, cos))
    if interleaved:
        pairs = [reshape(part, (*part.shape, 1)) for part in (left, right)]
        parts = [reshape(concatenate(pairs, -1), (*x.shape[:-1], 2 * half))]
    else:
        parts = [left, right]
    rest = x.shape[-1] - 2 * half
    if rest:
        parts.append(getitem(x, (..., slice(2 * half, None))))
    return concatenate(parts, -1) if len(parts) > 1 else parts[0]
