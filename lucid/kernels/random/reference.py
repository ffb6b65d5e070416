"""Random numbers: section 11 of the law."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.kernels import _functions as functions
from lucid.kernels.declare import DENSE, Array, kernel
from lucid.kernels.sums import wide


def _key(seed: int, stream: int, block: int) -> dict[str, int]:
    return {"seed": seed % 2**64, "stream": stream % 2**64, "block": block % 2**64}


@kernel(
    "11",
    returns=lambda seed, stream, block, words: {"y": ((words,), np.uint32)},
    layout={"y": DENSE},
    sizes=lambda seed, stream, block, words: {**_key(seed, stream, block), "n": words},
)
def philox(seed: int, stream: int, block: int, words: int) -> Array:
    """``words`` uint32 values from the start of ``block``, shape ``(words,)``."""
    return functions.philox4x32(seed, stream, block, -(-words // 4))[:words]


@kernel(
    "11",
    returns=lambda seed, stream, block, n, low, high, dtype: {"y": ((n,), dtype)},
    layout={"y": DENSE},
    sizes=lambda seed, stream, block, n, low, high, dtype: {
        **_key(seed, stream, block),
        "n": n,
        "low": low,
        "high": high,
    },
)
def uniform(seed: int, stream: int, block: int, n: int, low: float, high: float, dtype: Any) -> Array:
    """``n`` values; float32 takes one word a value, float64 two."""
    return (low + (high - low) * _fractions(seed, stream, block, n, dtype)).astype(dtype)


@kernel(
    "11",
    returns=lambda seed, stream, block, n, mean, std, dtype: {"y": ((n,), dtype)},
    layout={"y": DENSE},
    sizes=lambda seed, stream, block, n, mean, std, dtype: {
        **_key(seed, stream, block),
        "n": n,
        "mean": mean,
        "std": std,
    },
)
def normal(seed: int, stream: int, block: int, n: int, mean: float, std: float, dtype: Any) -> Array:
    """``n`` values; words as in ``uniform``."""
    return (mean + std * functions.normal64(_fractions(seed, stream, block, n, dtype))).astype(dtype)


def _fractions(seed: int, stream: int, block: int, n: int, dtype: Any) -> Array:
    """The law's ``u``, in float64, strictly between 0 and 1."""
    if np.dtype(dtype) == np.float32:
        return (wide(philox(seed, stream, block, n)) + 0.5) * 2.0**-32
    r0, r1 = philox(seed, stream, block, 2 * n).reshape(n, 2).T
    return (wide(r0 >> 6) * 2.0**26 + wide(r1 >> 6) + 0.5) * 2.0**-52
