"""Random numbers: section 11 of the law."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.kernels.declare import DENSE, Array, kernel
from lucid.kernels.elementwise import functions
from lucid.kernels.sums import wide


def normal64(u: Array) -> Array:
    """The normal deviate of which a fraction ``u`` lies below, ``0 < u < 1``."""
    q = u - 0.5
    r = np.sqrt(-functions.log64(np.where(q < 0, u, 1 - u)))
    tail: Array = np.where(r <= 5, functions.normal_near(r), functions.normal_far(r))
    return np.where(np.abs(q) <= 0.425, functions.normal_centre(q), np.where(q < 0, -tail, tail))


WORD = 0xFFFFFFFF


def philox4x32(seed: int, stream: int, block: int, blocks: int) -> Array:
    """``4 * blocks`` uint32 words: ten rounds of Philox4x32 (Salmon et al., SC 2011) for consecutive counters."""
    counters: Array = np.uint64(block & (2**64 - 1)) + np.arange(blocks, dtype=np.uint64)
    c0, c1 = counters & WORD, counters >> 32
    c2, c3 = (np.full(blocks, word, np.uint64) for word in (stream & WORD, stream >> 32 & WORD))
    k0, k1 = seed & WORD, seed >> 32 & WORD
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ np.uint64(k0), p1 & WORD, (p0 >> 32) ^ c3 ^ np.uint64(k1), p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32).reshape(-1)


START = "seed", "stream", "block"


@kernel(
    "11",
    returns=lambda seed, stream, block, words: {"y": ((words,), np.uint32)},
    layout={"y": DENSE},
    sizes=lambda seed, stream, block, words: {"n": words},
    numbers=START,
)
def philox(seed: int, stream: int, block: int, words: int) -> Array:
    """``words`` uint32 values from the start of ``block``, shape ``(words,)``."""
    return philox4x32(seed, stream, block, -(-words // 4))[:words]


@kernel(
    "11",
    returns=lambda seed, stream, block, n, low, high, dtype: {"y": ((n,), dtype)},
    layout={"y": DENSE},
    sizes=lambda seed, stream, block, n, *_: {"n": n},
    numbers=(*START, "low", "high"),
)
def uniform(seed: int, stream: int, block: int, n: int, low: float, high: float, dtype: Any) -> Array:
    """``n`` values; float32 takes one word a value, float64 two."""
    return (low + (high - low) * _fractions(seed, stream, block, n, dtype)).astype(dtype)


@kernel(
    "11",
    returns=lambda seed, stream, block, n, mean, std, dtype: {"y": ((n,), dtype)},
    layout={"y": DENSE},
    sizes=lambda seed, stream, block, n, *_: {"n": n},
    numbers=(*START, "mean", "std"),
)
def normal(seed: int, stream: int, block: int, n: int, mean: float, std: float, dtype: Any) -> Array:
    """``n`` values; words as in ``uniform``."""
    return (mean + std * normal64(_fractions(seed, stream, block, n, dtype))).astype(dtype)


def _fractions(seed: int, stream: int, block: int, n: int, dtype: Any) -> Array:
    """The law's ``u``, in float64, strictly between 0 and 1."""
    if np.dtype(dtype) == np.float32:
        return (wide(philox(seed, stream, block, n)) + 0.5) * 2.0**-32
    r0, r1 = philox(seed, stream, block, 2 * n).reshape(n, 2).T
    return (wide(r0 >> 6) * 2.0**26 + wide(r1 >> 6) + 0.5) * 2.0**-52
