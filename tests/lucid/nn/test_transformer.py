"""Attention, transformers and embedding as layers, beside PyTorch's in float64: results, weights and all gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import lucid
import lucid.nn.functional as F
from lucid import nn

RNG = np.random.default_rng(0)
LATER = np.triu(np.ones((4, 4), bool), 1)
PADDED = np.array([[False, False, True, True], [False, True, False, False], [False, False, False, False]])


def same(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-10, atol=1e-10)


def compare(ours: Any, theirs: Any, call: Callable[..., Any], *arrays: Any) -> None:
    """The result of ``call(module, library, *tensors)``, the gradients of the tensors and of all parameters."""
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = [lucid.tensor(array, requires_grad=True) for array in arrays]
    tx = [torch.tensor(array, requires_grad=True) for array in arrays]
    y, ty = call(ours, lucid, *x), call(theirs, torch, *tx)
    same(y, ty)
    dy = RNG.standard_normal(y.shape)
    y.backward(lucid.tensor(dy))
    ty.backward(torch.tensor(dy))
    for ours_, theirs_ in zip([*x, *ours.parameters()], [*tx, *theirs.parameters()], strict=True):
        if theirs_.grad is not None:
            same(ours_.grad, theirs_.grad)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"kdim": 5, "vdim": 3}, {"add_bias_kv": True, "add_zero_attn": True}, {"bias": False}],
    ids=["plain", "widths", "added", "no bias"],
)
@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention_is_pytorchs(backend: str, first: bool, options: dict[str, Any], weights: bool) -> None:
    sizes = (8, options.get("kdim", 8), options.get("vdim", 8))
    arrays = [RNG.standard_normal((3, 4, n) if first else (4, 3, n)) for n in sizes]
    for later, padded in itertools.product((None, LATER), (None, PADDED)):

        def call(m: Any, lib: Any, *x: Any, later: Any = later, padded: Any = padded) -> Any:
            masks = (None if mask is None else lib.tensor(mask) for mask in (padded, later))
            padding, mask = masks
            return m(*x, padding, weights, mask)[0]

        ours, theirs = (m.MultiheadAttention(8, 2, batch_first=first, **options).double() for m in (nn, torch.nn))
        compare(ours, theirs, call, *arrays)


@pytest.mark.parametrize("averaged", [True, False])
def test_the_weights_are_pytorchs(averaged: bool) -> None:
    ours, theirs = (m.MultiheadAttention(8, 2).double() for m in (nn, torch.nn))
    x = RNG.standard_normal((4, 8))  # no batch

    def call(m: Any, lib: Any, x: Any) -> Any:
        return m(x, x, x, attn_mask=lib.tensor(LATER), average_attn_weights=averaged)[1]

    compare(ours, theirs, call, x)
    each = lucid.tensor(RNG.standard_normal((6, 4, 4)) > 0)
    assert ours(*[lucid.zeros(4, 3, 8, dtype=lucid.float64)] * 3, attn_mask=each)[0].shape == (4, 3, 8)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_is_pytorchs(backend: str, norm_first: bool) -> None:
    options = {"batch_first": True, "norm_first": norm_first, "activation": "gelu", "dropout": 0.0}
    ours, theirs = (m.Transformer(8, 2, 2, 2, 12, **options).double() for m in (nn, torch.nn))
    src, tgt = RNG.standard_normal((3, 6, 8)), RNG.standard_normal((3, 4, 8))

    def call(m: Any, lib: Any, src: Any, tgt: Any) -> Any:
        mask = m.generate_square_subsequent_mask(4, dtype=lib.float64)
        padding = lib.tensor(np.where(PADDED, -np.inf, 0.0))
        return m(src, tgt, tgt_mask=mask, tgt_key_padding_mask=padding)

    compare(ours, theirs, call, src, tgt)


def test_causal_is_the_mask_of_what_is_later() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12).eval()
    x = lucid.tensor(RNG.standard_normal((4, 3, 8)).astype(np.float32))
    assert bool((layer(x, is_causal=True) == layer(x, lucid.tensor(LATER))).all())


def test_dropout_of_weights() -> None:
    x = lucid.ones(2, 3, 4)
    y = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
    assert set(np.round(3 * y.numpy().ravel() / 2).tolist()) <= {0.0, 1.0, 2.0, 3.0}
    assert not F.scaled_dot_product_attention(x, x, x, dropout_p=1.0).numpy().any()
    layer = nn.ScaledDotProductAttention(dropout_p=1.0)
    assert not layer(x, x, x).numpy().any()
    assert bool((layer.eval()(x, x, x) == 1.0).all())


def test_a_batch_changes_no_bits() -> None:
    rng = np.random.default_rng(3)
    q, k, v = (lucid.tensor(rng.standard_normal((3, 2, 150, 8)).astype(np.float32)) for _ in range(3))
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    for i in range(3):
        assert bool((F.scaled_dot_product_attention(q[i], k[i], v[i], is_causal=True) == whole[i]).all())


def test_embedding() -> None:
    layer = nn.Embedding(5, 3, padding_idx=-1)
    assert not layer.weight.numpy()[4].any()
    assert repr(layer) == "Embedding(5, 3, padding_idx=4)"
    compare(*[m.Embedding(5, 3, 1).double() for m in (nn, torch.nn)], lambda m, lib: m(lib.tensor([[1, 0], [4, 4]])))


def test_bilinear() -> None:
    ours, theirs = (m.Bilinear(4, 3, 2).double() for m in (nn, torch.nn))
    compare(ours, theirs, lambda m, lib, a, b: m(a, b), RNG.standard_normal((5, 4)), RNG.standard_normal((5, 3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: F.scaled_dot_product_attention(x, x, x, x, is_causal=True),
            ValueError,
            "is_causal: got True together",
        ),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=2), ValueError, "dropout_p: got 2"),
        (lambda x: F.scaled_dot_product_attention(x, x[..., :2], x), ValueError, "key: got shape"),
        (lambda x: F.scaled_dot_product_attention(x, x, x[:, :2]), ValueError, "value: got shape"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, lucid.ones(3)), ValueError, "attn_mask"),
        (lambda x: F.scaled_dot_product_attention(x, x.double(), x), TypeError, "float64"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, lucid.tensor([[1]])), TypeError, "attn_mask: got a int64"),
        (
            lambda x: F.scaled_dot_product_attention(x, x[:1], x[:1].expand(2, -1, -1), enable_gqa=True),
            ValueError,
            "heads",
        ),
        (lambda x: F.embedding([5], x[0]), IndexError, "got the number 5 at position 0; may be 0 to 3"),
        (lambda x: F.embedding([0], x), ValueError, "must be \\(rows, width\\)"),
        (lambda x: F.embedding([0.5], x[0]), TypeError, "must be integers"),
        (lambda x: F.embedding([0], x[0], padding_idx=4), ValueError, "padding_idx: got 4"),
        (lambda x: F.swiglu(x[..., :3]), ValueError, "must be even"),
        (lambda x: F.rotary_embedding(x, x, x), ValueError, "at most half"),
        (lambda x: F.bilinear(x, x[..., :3], x), ValueError, "features"),
        (lambda x: F.group_norm(x, 3), ValueError, "num_groups: got 3"),
        (lambda x: F.instance_norm(x[..., :1]), ValueError, "more than one value"),
        (lambda x: F.rms_norm(x, 3), ValueError, "rms_norm: input has shape"),
        (lambda x: F.normalize(x, 0), ValueError, "p: got 0"),
        (lambda x: F.global_response_norm(x, x, x), ValueError, "gamma: got shape"),
        (lambda x: nn.MultiheadAttention(4, 3), ValueError, "num_heads: got 3"),
        (lambda x: nn.MultiheadAttention(4, 2)(x, x, x, attn_mask=lucid.ones(3)), ValueError, "attn_mask: got shape"),
        (lambda x: nn.MultiheadAttention(4, 2)(x, x, x, lucid.ones(3, 3)), ValueError, "key_padding_mask: got shape"),
        (lambda x: nn.TransformerEncoderLayer(4, 2, activation="steep"), ValueError, "activation: got 'steep'"),
        (lambda x: nn.Embedding(3, 2, 3), ValueError, "padding_idx: got 3"),
        (lambda x: nn.GroupNorm(3, 4), ValueError, "num_groups: got 3"),
        (lambda x: nn.InstanceNorm2d(3)(x), ValueError, "InstanceNorm2d: input has shape"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[Any], Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(lucid.ones(2, 4, 4))
