"""Layers of attention."""

from __future__ import annotations

import math
from typing import Any

from lucid.core.dtypes import get_default_dtype
from lucid.core.tensor import Tensor
from lucid.nn import init
from lucid.nn.functional import dropout, scaled_dot_product_attention
from lucid.nn.linear import Linear
from lucid.nn.module import Module
from lucid.nn.parameter import Parameter, empty_weight
from lucid.ops import add, broadcast_to, concatenate, linear, mean, reshape, transpose, where
from lucid.ops.attention import attention
from lucid.ops.creation import empty, zeros

__all__ = ["MultiHeadAttention", "MultiheadAttention", "ScaledDotProductAttention"]


class ScaledDotProductAttention(Module):
    """``softmax(q k^T * scale + mask) v`` (``F.scaled_dot_product_attention`` explains the arguments).

    Args:
        attn_mask: what is added to the scores, or booleans; None for nothing.
        dropout_p: the share of weights that become 0 in training.
        is_causal: whether query ``t`` looks at the keys 0 to ``t`` alone.
        scale: a factor; None for one over the root of the width.

    Example:
        >>> import lucid
        >>> x = lucid.ones(2, 4, 5, 8)
        >>> lucid.nn.ScaledDotProductAttention(is_causal=True)(x, x, x).shape
        (2, 4, 5, 8)
    """

    def __init__(
        self,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.attn_mask = attn_mask
        self.dropout_p = dropout_p
        self.is_causal = is_causal
        self.scale = scale

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """``(..., T, E)``, ``(..., S, E)`` and ``(..., S, O)`` to ``(..., T, O)``."""
        p = self.dropout_p if self.training else 0.0
        return scaled_dot_product_attention(query, key, value, self.attn_mask, p, self.is_causal, self.scale)

    def extra_repr(self) -> str:
        """What is not in a mask."""
        return f"dropout_p={self.dropout_p}, is_causal={self.is_causal}, scale={self.scale}"


class MultiheadAttention(Module):
    """Attention by several heads at once: each has its share of the projected features, and the results, one beside
    the other, are projected once more.

    Args:
        embed_dim: E, the width of queries and results.
        num_heads: how many heads; they share E evenly.
        dropout: the share of weights that become 0 in training.
        bias: whether the projections have one.
        add_bias_kv: whether a learned key and value stand behind the others.
        add_zero_attn: whether a key and a value of zeros stand behind the others.
        kdim: the width of keys; None for E.
        vdim: the width of values; None for E.
        batch_first: whether inputs are ``(N, L, E)``, else ``(L, N, E)``.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        in_proj_weight: ``(3 E, E)``, those of query, key and value one behind the other; or None and
        q_proj_weight, k_proj_weight, v_proj_weight: ``(E, E)``, ``(E, kdim)``, ``(E, vdim)``, where the widths differ.
        in_proj_bias: ``(3 E,)``, or None.
        out_proj: the last projection, a ``Linear``.
        bias_k, bias_v: ``(1, 1, E)``, or None.

    Raises:
        ValueError: E is no multiple of ``num_heads``; in the call: shapes that do not fit.

    Source: Vaswani et al., NeurIPS 2017.

    Example:
        >>> import lucid
        >>> layer = lucid.nn.MultiheadAttention(8, 2, batch_first=True)
        >>> x = lucid.ones(3, 5, 8)
        >>> y, weights = layer(x, x, x)
        >>> y.shape, weights.shape
        ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim < 1 or embed_dim % num_heads:
            raise ValueError(f"num_heads: got {num_heads}; must divide embed_dim, {embed_dim}")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        placed: dict[str, Any] = {"dtype": dtype or get_default_dtype(), "device": device}
        joined = self.kdim == self.vdim == embed_dim
        shapes = {"in": (3 * embed_dim, embed_dim)} if joined else {}
        shapes |= (
            {}
            if joined
            else {name: (embed_dim, n) for name, n in zip("qkv", (embed_dim, self.kdim, self.vdim), strict=True)}
        )
        for name in ("in", "q", "k", "v"):
            self.register_parameter(
                f"{name}_proj_weight", empty_weight(*shapes[name], **placed) if name in shapes else None
            )
        self.register_parameter("in_proj_bias", Parameter(empty(3 * embed_dim, **placed)) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, Parameter(empty(1, 1, embed_dim, **placed)) if add_bias_kv else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform(weight)
        self.out_proj.reset_parameters()
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.constant(self.in_proj_bias, 0.0)
            init.constant(self.out_proj.bias, 0.0)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query: ``(L, N, E)``, with ``batch_first`` ``(N, L, E)``, or ``(L, E)``.
            key: ``(S, N, kdim)``, likewise.
            value: ``(S, N, vdim)``, likewise.
            key_padding_mask: ``(N, S)`` or ``(S,)``: booleans, True for keys that are left out, or what is added.
            need_weights: whether the weights are returned; without, they are never in memory at once.
            attn_mask: ``(L, S)`` or ``(N * heads, L, S)``: booleans, True for what is left out, or what is added.
            average_attn_weights: whether the weights returned are the mean over the heads.
            is_causal: whether query ``t`` looks at the keys 0 to ``t`` alone; of no meaning beside ``attn_mask``.

        Returns:
            The result, of the query's shape, and the weights, ``(N, L, S)`` or ``(N, heads, L, S)``, or None. A query
            that looks at no key has weights of 0.
        """
        alone = query.ndim == 2
        if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
            raise ValueError(
                f"MultiheadAttention: got shapes {query.shape}, {key.shape}, {value.shape}; must have 3 axes, or 2"
            )
        operands = self._project(query, key, value)
        if alone:
            operands = [reshape(x, (1, *x.shape)) for x in operands]
        elif not self.batch_first:
            operands = [transpose(x, (1, 0, 2)) for x in operands]
        q, k, v, added = self._extend(*operands)
        batch, length = q.shape[:2]
        mask = self._mask(key_padding_mask, attn_mask, (batch, length, k.shape[1] - added), added, q)
        causal = is_causal and attn_mask is None
        if causal and (mask is not None or added):
            raise ValueError(
                "is_causal: got True beside key_padding_mask, add_bias_kv or add_zero_attn; give attn_mask instead"
            )
        p = self.dropout if self.training else 0.0
        drop = None if p == 0.0 else lambda weights: dropout(weights, p)
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        result = attention(q, k, v, mask, causal, None, False, drop, need_weights)
        y, weights = result if need_weights else (result, None)
        y = reshape(transpose(y, (0, 2, 1, 3)), (batch, length, self.embed_dim))
        y = self.out_proj(reshape(y, y.shape[1:]) if alone else y if self.batch_first else transpose(y, (1, 0, 2)))
        if weights is not None:
            weights = mean(weights, 1) if average_attn_weights else weights
            weights = reshape(weights, weights.shape[1:]) if alone else weights
        return y, weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values as the heads get them."""
        e, bias = self.embed_dim, self.in_proj_bias
        if self.in_proj_weight is not None and query is key and key is value:
            y = linear(query, self.in_proj_weight, bias)
            return [y[..., i * e : (i + 1) * e] for i in range(3)]
        own = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        made = []
        for i, x in enumerate((query, key, value)):
            weight = own[i] if self.in_proj_weight is None else self.in_proj_weight[i * e : (i + 1) * e]
            assert weight is not None
            made.append(linear(x, weight, None if bias is None else bias[i * e : (i + 1) * e]))
        return made

    def _extend(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """With the learned key and value, and those of zeros; and how many they are."""
        shape = (k.shape[0], 1, self.embed_dim)
        added = 0
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (concatenate([x, broadcast_to(b, shape)], 1) for x, b in ((k, self.bias_k), (v, self.bias_v)))
            added += 1
        if self.add_zero_attn:
            nothing = zeros(*shape, dtype=k.dtype, device=k.device)
            k, v = concatenate([k, nothing], 1), concatenate([v, nothing], 1)
            added += 1
        return q, k, v, added

    def _heads(self, x: Tensor) -> Tensor:
        return transpose(reshape(x, (*x.shape[:2], self.num_heads, self.head_dim)), (0, 2, 1, 3))

    def _mask(
        self, padding: Tensor | None, mask: Tensor | None, sizes: tuple[int, int, int], added: int, like: Tensor
    ) -> Tensor | None:
        """What is added to the scores ``(N, heads, L, S)``: of keys, of pairs, and 0 for the keys that were added."""
        batch, length, keys = sizes
        parts = []
        if padding is not None:
            if padding.shape not in ((batch, keys), (keys,)[: 2 - batch]):
                raise ValueError(f"key_padding_mask: got shape {padding.shape}; must be ({batch}, {keys})")
            parts.append(reshape(_to_add(padding, like), (batch, 1, 1, keys)))
        if mask is not None:
            if mask.shape not in ((length, keys), (batch * self.num_heads, length, keys)):
                each = batch * self.num_heads, length, keys
                raise ValueError(f"attn_mask: got shape {mask.shape}; must be {each[1:]} or {each}")
            whole = (batch, self.num_heads, length, keys) if mask.ndim == 3 else mask.shape
            parts.append(reshape(_to_add(mask, like), whole))
        if not parts:
            return None
        total = parts[0] if len(parts) == 1 else add(*parts)
        if added:
            nothing = zeros(*total.shape[:-1], added, dtype=like.dtype, device=like.device)
            total = concatenate([total, nothing], -1)
        return total

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


def _to_add(mask: Tensor, like: Tensor) -> Tensor:
    """A mask whose booleans are True for what is left out, as what is added to scores."""
    if mask.dtype.kind != "b":
        return mask
    return where(mask, -math.inf, zeros((), dtype=like.dtype, device=like.device))


MultiHeadAttention = MultiheadAttention
