"""The weights of attention, and their gradient: section 9.1 of the law."""

from __future__ import annotations

import numpy as np

from lucid.kernels.declare import DENSE, Array, kernel
from lucid.kernels.elementwise import functions
from lucid.kernels.sums import sum_of, wide


def _seen(scores: Array, causal: bool) -> Array:
    """Which keys a query looks at, ``(T, S)``."""
    return np.tri(*scores.shape[-2:], dtype=bool) if causal else np.ones(scores.shape[-2:], bool)


def _over_keys(terms: Array) -> Array:
    return sum_of(np.moveaxis(terms, -1, 0))[..., None]


@kernel(
    "9.1",
    returns=lambda scores, mask, scale, causal: {"weights": (scores.shape, scores.dtype)},
    layout={"scores": DENSE, "mask": DENSE, "weights": DENSE},
)
def attention_weights(scores: Array, mask: Array | None, scale: float, causal: bool) -> Array:
    """The softmax over the last axis of ``scores * scale + mask``, ``(..., T, S)``; a mask's shape broadcasts."""
    a = scores * scores.dtype.type(scale)
    if mask is not None:
        a = a + mask
    a = np.where(_seen(scores, causal), wide(a), -np.inf)
    top = a.max(axis=-1, keepdims=True, initial=-np.inf)
    e = np.where(top == -np.inf, 0.0, functions.exp64(a - np.where(top == -np.inf, 0.0, top)))
    total = _over_keys(np.where(_seen(scores, causal), e, 0.0))
    weights = np.where((top == -np.inf) | ~_seen(scores, causal), 0.0, e * (1.0 / total))
    return weights.astype(scores.dtype)


@kernel(
    "9.1",
    returns=lambda dweights, weights, causal: {"dscores": (weights.shape, weights.dtype)},
    layout={"dweights": DENSE, "weights": DENSE, "dscores": DENSE},
    sizes=lambda dweights, weights, causal: {
        "rows": weights.size // max(weights.shape[-1], 1),
        "queries": weights.shape[-2],
        "keys": weights.shape[-1],
    },
    numbers=("causal",),
    tasks="rows",
)
def attention_weights_grad(dweights: Array, weights: Array, causal: bool) -> Array:
    """The gradient of ``scores * scale + mask``, from the weights and their gradient."""
    seen = _seen(weights, causal)
    p, g = wide(weights), np.where(seen, wide(dweights), 0.0)
    total = _over_keys(np.where(seen, p * g, 0.0))
    return np.where(seen, p * (g - total), 0.0).astype(weights.dtype)
