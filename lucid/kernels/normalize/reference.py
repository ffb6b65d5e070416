"""Batch normalisation: section 7 of the law.

``mean`` and ``var`` between these kernels are float64, shape (C,); gamma and beta have x's dtype, or are None.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.kernels._fma import fma
from lucid.kernels.declare import Array, Returns, kernel
from lucid.kernels.sums import pixels, sum_of, wide


def _normalized(x: Array, *_: Any) -> Returns:
    statistic = (x.shape[1],), np.float64
    return {"y": (x.shape, x.dtype), "mean": statistic, "var": statistic}


def _gradients(dy: Array, x: Array, *_: Any) -> Returns:
    channels = (x.shape[1],), x.dtype
    return {"dx": (x.shape, x.dtype), "dgamma": channels, "dbeta": channels}


@kernel("7", returns=_normalized)
def batch_norm_train(x: Array, gamma: Array | None, beta: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """``(y, mean, var)``, ``var`` biased."""
    values = wide(pixels(x))
    count = np.float64(len(values))
    first = values[0] if len(values) else np.zeros(x.shape[1])
    pivot = np.where(np.isfinite(first), first, 0.0)
    d = values - pivot
    e = sum_of(d) / count
    mean, var = pivot + e, np.maximum(sum_of(d * d) / count - e * e, 0.0)
    return batch_norm_eval(x, gamma, beta, mean, var, eps), mean, var


@kernel("7", returns=lambda x, *_: {"y": (x.shape, x.dtype)})
def batch_norm_eval(x: Array, gamma: Array | None, beta: Array | None, mean: Array, var: Array, eps: float) -> Array:
    """``y`` from given statistics (float64)."""
    _, scale = _scale(gamma, var, eps)
    m, k = mean.astype(x.dtype), scale.astype(x.dtype)
    rest = mean - wide(m)
    shift = ((0.0 if beta is None else wide(beta)) - rest * wide(k)).astype(x.dtype)
    m, k, shift = (_per_channel(c, x) for c in (m, k, shift))
    return fma(x - m, k, shift)


@kernel("7", returns=_gradients)
def batch_norm_grad(
    dy: Array, x: Array, gamma: Array | None, mean: Array, var: Array, eps: float, training: bool
) -> tuple[Array, Array, Array]:
    """``(dx, dgamma, dbeta)``; ``training`` tells whether the statistics depended on ``x``."""
    gradient = wide(pixels(dy))
    count = np.float64(len(gradient))
    A, B = sum_of(gradient), sum_of(gradient * (wide(pixels(x)) - mean))
    rstd, scale = _scale(gamma, var, eps)
    m, k = mean.astype(x.dtype), scale.astype(x.dtype)
    rest = mean - wide(m)
    if training:
        b = (-((scale * (rstd * rstd)) * (B / count))).astype(x.dtype)
        c = (-(scale * (A / count)) - rest * wide(b)).astype(x.dtype)
        m, k, b, c = (_per_channel(coefficient, x) for coefficient in (m, k, b, c))
        dx = fma(dy, k, fma(x - m, b, c))
    else:
        dx = dy * _per_channel(k, x)
    return dx, (B * rstd).astype(x.dtype), A.astype(x.dtype)


def _scale(gamma: Array | None, var: Array, eps: float) -> tuple[Array, Array]:
    """``(rstd, scale)`` of §7."""
    rstd = 1 / np.sqrt(var + eps)
    return rstd, rstd if gamma is None else wide(gamma) * rstd


def _per_channel(coefficient: Array, x: Array) -> Array:
    return coefficient.reshape(-1, *[1 for _ in x.shape[2:]])
