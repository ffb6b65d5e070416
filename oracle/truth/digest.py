"""The digest of a tensor: SHA-256 over its canonical bytes, so that two machines can say *equal* in 64 characters.

Canonical: the text ``DTYPE AxBxC\\n`` (a scalar has an empty shape), then the elements, little-endian, in C order,
every NaN as the one quiet NaN of positive sign. Hashing releases the interpreter's lock, so a pool of threads hashes
while the model goes on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np

_BLOCK = 1 << 18  # elements that are copied and hashed at a time: they stay in cache


def digest(array: np.ndarray) -> str:
    """The digest of an array of floats or integers, in any memory order.

    Example:
        >>> digest(np.zeros((2, 3), np.float32))[:16]
        'aaae406dd430f6df'
        >>> image = np.arange(24.0).reshape(1, 2, 3, 4)
        >>> digest(image) == digest(np.asfortranarray(image))
        True
    """
    array = np.asarray(array)
    hashed = hashlib.sha256(f"{array.dtype.name} {'x'.join(map(str, array.shape))}\n".encode())
    for block in _blocks(array):
        hashed.update(_canonical(block).data)
    return hashed.hexdigest()


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The elements in C order, in contiguous pieces, copied only where memory has another order."""
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            yield flat[start : start + _BLOCK]
    elif array.size <= _BLOCK:
        yield np.ascontiguousarray(array).reshape(-1)
    else:
        rows = max(1, _BLOCK // max(1, math.prod(array.shape[1:])))
        for start in range(0, len(array), rows):
            yield from _blocks(array[start] if rows == 1 else np.ascontiguousarray(array[start : start + rows]))


def _canonical(block: np.ndarray) -> np.ndarray:
    little = block if block.dtype.byteorder != ">" else block.astype(block.dtype.newbyteorder("<"))
    if np.issubdtype(block.dtype, np.floating) and block.size and np.isnan(little.max()):
        little = np.where(np.isnan(little), np.array(np.nan, little.dtype), little)
    return little.astype(little.dtype.newbyteorder("<"), copy=False)


@lru_cache(1)
def workers() -> ThreadPoolExecutor:
    """The threads that hash."""
    return ThreadPoolExecutor(2, thread_name_prefix="digest")


def digest_later(array: np.ndarray) -> Future[str]:
    """The digest, made by another thread. The array must not change until it is done."""
    return workers().submit(digest, array)
