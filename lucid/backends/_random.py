"""Random words of the law and the normal deviates made of them (§11), in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.kernels.elementwise import functions

Array = Any


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
