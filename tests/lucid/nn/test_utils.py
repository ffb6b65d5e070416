"""Clipping of gradients, beside PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import lucid
from lucid import nn
from lucid.nn import utils

SHAPES = (3, 4), (5,), (), (2, 0), (2, 3, 4, 5)


def both(dtype: Any, scale: float) -> tuple[list[nn.Parameter], list[torch.nn.Parameter]]:
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for shape in SHAPES:
        value, grad = (np.asarray(rng.standard_normal(shape) * scale, dtype) for _ in range(2))
        ours.append(nn.Parameter(value))
        theirs.append(torch.nn.Parameter(torch.tensor(value)))
        ours[-1].grad, theirs[-1].grad = lucid.tensor(grad), torch.tensor(grad)
    ours.append(nn.Parameter([1.0]))  # without a gradient
    return ours, theirs


@pytest.mark.parametrize("norm", [2, 1, 3, 0.5, math.inf])
@pytest.mark.parametrize("scale", [0.001, 10.0])
def test_norms_are_pytorchs(backend: str, norm: float, scale: float) -> None:
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 1e-5)):
        ours, theirs = both(dtype, scale)
        arrays = [p.grad.data for p in ours if p.grad is not None]
        own = utils.clip_grad_norm_(ours, 1.5, norm)
        other = torch.nn.utils.clip_grad_norm_([p for p in theirs if p.numel()], 1.5, norm)
        assert own.item() == pytest.approx(other.item(), rel=tolerance)
        assert own.dtype == dtype
        for p, q, array in zip(ours, theirs, arrays, strict=False):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=tolerance)
            assert p.grad.data is array


def test_values_are_pytorchs(backend: str) -> None:
    ours, theirs = both(np.float32, 2.0)
    ours[1].grad[0] = theirs[1].grad[0] = math.nan
    assert utils.clip_grad_value_(ours, 0.5) is None
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    for p, q in zip(ours, theirs, strict=False):
        np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())


def test_a_gradient_that_an_operation_made(backend: str) -> None:
    p = nn.Parameter(lucid.ones(4))
    p.sum().backward()
    utils.clip_grad_norm_(p, 1.0)
    assert p.grad.tolist() == pytest.approx([0.5] * 4, rel=1e-6)
    utils.clip_grad_value_(p, 0.25)
    assert p.grad.tolist() == [0.25] * 4


def test_two_dtypes_and_none() -> None:
    a, b = nn.Parameter(lucid.ones(1)), nn.Parameter(lucid.ones(1, dtype=lucid.float64))
    a.grad, b.grad = lucid.tensor([3.0]), lucid.tensor([4.0], dtype=lucid.float64)
    assert (utils.clip_grad_norm_([a, b], 50.0).item(), b.grad.item()) == (5.0, 4.0)
    assert utils.clip_grad_norm_([nn.Parameter([1.0])], 1.0).item() == 0.0


def test_refusals() -> None:
    p = nn.Parameter([1.0])
    p.grad = lucid.tensor([math.nan])
    with pytest.raises(RuntimeError, match="norm of the gradients is nan"):
        utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    with pytest.raises(ValueError, match=r"norm_type: got 0.0"):
        utils.clip_grad_norm_(p, 1.0, 0)
    with pytest.raises(TypeError, match="parameters: got int"):
        utils.clip_grad_value_([1], 1.0)
