"""Rows of attention and of what transformers put around it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as TF

import lucid.nn.functional as F
from support.operations import Given, Kind, Row
from support.tables.elementwise import shape_name


def attention(
    q: tuple[int, ...],
    k: tuple[int, ...],
    out: int,
    words: str = "",
    mask: Any = None,
    kind: Kind = "normal",
    learned: bool = False,
    **options: Any,
) -> Row:
    """Inputs in the order query, key, value and mask, which is booleans or numbers, or drawn where it is a shape."""
    given = [Given(q, kind), Given(k), Given((*k[:-1], out))]
    if mask is not None:
        given.append(Given(mask, grad=learned) if isinstance(mask, tuple) else Given(fixed=mask, grad=False))
    name = "-".join(word for word in ["attention", shape_name(q), shape_name(k), str(out), words] if word)
    smooth = kind == "normal"

    def theirs(*tensors: Any) -> Any:
        return pytorchs(*tensors, **options)

    def ours(*tensors: Any) -> Any:
        return F.scaled_dot_product_attention(*tensors, **options)

    return Row(name, F.scaled_dot_product_attention, ours, theirs, tuple(given), smooth=smooth, sums=True)


def pytorchs(
    q: Any, k: Any, v: Any, mask: Any = None, is_causal: bool = False, scale: Any = None, enable_gqa: bool = False
) -> Any:
    """In float64, narrowed: PyTorch's float32 adds up in another order on every machine. Rows without a key are 0."""
    dtype, (q, k, v) = q.dtype, (q.double(), k.double(), v.double())
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if mask is not None:
        scores = torch.where(mask, scores, -math.inf) if mask.dtype == torch.bool else scores + mask.double()
    if is_causal:
        scores = torch.where(torch.ones(scores.shape[-2:]).tril().bool(), scores, -math.inf)
    none = (scores == -math.inf).all(-1, keepdim=True)
    weights = torch.where(none, 0.0, torch.softmax(torch.where(none, 0.0, scores), -1))
    return (weights @ v).to(dtype)


def composed(name: str, ours: Any, theirs: Any, *given: Given, **options: Any) -> Row:
    shapes = [shape_name(np.shape(g.fixed) if g.fixed is not None else g.shape) for g in given]
    words = [name, *shapes, *[f"{key}{value}" for key, value in options.items()]]
    smooth = "padding_idx" not in options  # the row of that number has no gradient
    return Row(
        "-".join(words), ours, lambda *x: ours(*x, **options), lambda *x: theirs(*x, **options), given, smooth, True
    )


def swiglu(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    a, b = torch.chunk(x, 2, axis)
    return TF.silu(a) * b


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool = False) -> torch.Tensor:
    """By complex numbers."""
    half = cos.shape[-1]
    turned, rest = x[..., : 2 * half], x[..., 2 * half :]
    pairs = (
        turned.reshape(*x.shape[:-1], half, 2)
        if interleaved
        else torch.stack([turned[..., :half], turned[..., half:]], -1)
    )
    product = torch.view_as_real(
        torch.complex(pairs[..., 0], pairs[..., 1]) * torch.complex(*torch.broadcast_tensors(cos, sin))
    )
    turned = product.reshape(turned.shape) if interleaved else torch.cat([product[..., 0], product[..., 1]], -1)
    return torch.cat([turned, rest], -1)


TOKENS = np.array([[1, 0, 4], [1, 1, 2]])
SEEN = np.array([[True, False, True], [False, False, False], [True, True, True], [False, True, False]])
ADDED = np.where(SEEN, [[0.5], [1.0], [-0.5], [2.0]], -np.inf)

ROWS = [
    attention((3, 4), (5, 4), 2),
    attention((1, 2), (1, 2), 1),
    attention((2, 3, 4, 5), (2, 3, 6, 5), 7),
    attention((2, 3, 4, 5), (3, 6, 5), 5, "broadcast"),
    attention((2, 40, 3), (2, 40, 3), 35, "causal", is_causal=True),
    attention((3, 2), (6, 2), 2, "causal-scale", is_causal=True, scale=-0.7),
    attention((6, 2), (3, 2), 2, "causal-long", is_causal=True),
    attention((2, 4, 3), (2, 3, 3), 2, "booleans", mask=SEEN),
    attention((2, 4, 3), (2, 3, 3), 2, "numbers", mask=ADDED),
    attention((2, 4, 3), (2, 3, 3), 2, "learned", mask=(2, 1, 3), learned=True),
    attention((4, 3), (3, 3), 2, "more", mask=np.stack([SEEN, ~SEEN])),
    attention((2, 4, 3, 2), (2, 2, 5, 2), 2, "grouped", enable_gqa=True),
    attention((2, 4, 3, 2), (2, 2, 5, 2), 2, "grouped-mask", mask=(2, 4, 3, 5), enable_gqa=True),
    attention((2, 0, 3), (2, 5, 3), 2, "empty"),
    attention((2, 3, 4), (2, 5, 4), 2, "infinite", kind="infinite"),
    composed("embedding", F.embedding, TF.embedding, Given(fixed=TOKENS, grad=False), Given((5, 3))),
    composed("embedding", F.embedding, TF.embedding, Given(fixed=TOKENS, grad=False), Given((5, 3)), padding_idx=-4),
    composed("embedding", F.embedding, TF.embedding, Given(fixed=TOKENS[:0], grad=False), Given((5, 3))),
    composed("bilinear", F.bilinear, TF.bilinear, Given((2, 3, 4)), Given((2, 3, 5)), Given((3, 4, 5)), Given((3,))),
    composed("bilinear", F.bilinear, TF.bilinear, Given((3, 4)), Given((3, 5)), Given((2, 4, 5))),
    composed("swiglu", F.swiglu, swiglu, Given((3, 8))),
    composed("swiglu", F.swiglu, swiglu, Given((2, 4, 3)), axis=1),
    composed("rotary", F.rotary_embedding, rotated, Given((2, 3, 8)), Given((3, 4)), Given((3, 4))),
    composed("rotary", F.rotary_embedding, rotated, Given((2, 3, 8)), Given((3, 3)), Given((3, 3)), interleaved=True),
]
