"""The terms in which scalar functions are written (``functions.py``), as NumPy computes them.

``terms.h`` has the same terms in C++, for one number and for a vector of them. Each is exact or rounds once. A
*value* is an array of float32 or float64, a *wide* one is float64; ``+ - * /``, comparisons and integer operations
are the language's own. Arrays have at least one axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.kernels import _fma

Value = Any
"""A number of the operation's dtype; the function returns one of the same."""
Wide = Any
"""A float64 number."""
Integer = Any
"""A signed integer of 64 bits beside each value."""

Condition = Any
"""Whether something holds, beside each value."""

Pair = tuple[Any, Any]
"""Two float64 numbers whose sum is meant."""
Triple = tuple[Any, Any, Any]
"""Likewise, and a third one."""

_MAGIC = (
    6755399441055744.0  # 1.5 * 2^52: what is added to it has no room for a fraction, and its low bits are an integer
)
_MAGIC_BITS = 0x4338000000000000


def bits_of(pattern: int) -> float:
    """The float64 of 64 bits: how the law writes its constants."""
    return float(np.uint64(pattern).view(np.float64))


def wide(x: Value) -> Wide:
    """The same number as a float64."""
    return x.astype(np.float64)


def narrow(x: Wide, like: Value) -> Value:
    """The number of the dtype of ``like`` that is nearest, ties to even."""
    return x.astype(like.dtype)


def single(x: Value) -> bool:
    """Whether the dtype is float32."""
    return bool(x.dtype == np.float32)


def nearest(x: Wide, like: Value, amended: tuple[float, ...]) -> Value:
    """``narrow(x, like)``, but of float32 the second of a pair in ``amended`` where ``like`` is the first."""
    y = narrow(x, like)
    if like.dtype == np.float32:
        for place, result in zip(amended[::2], amended[1::2], strict=True):
            y[like == np.float32(place)] = result
    return y


def number(value: float, like: Value) -> Value:
    """One number in the dtype, and beside every element, of ``like``."""
    return np.full_like(like, value)


def select(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the condition holds, else ``b``; one of them may be a number."""
    dtype = getattr(a, "dtype", None) or b.dtype
    return np.where(condition, np.asarray(a, dtype), np.asarray(b, dtype))


def rare(condition: Any, slow: Callable[[], Triple], usual: Triple) -> Triple:
    """``slow()`` where the condition holds, else ``usual``; computed only if it holds somewhere."""
    if not np.any(condition):
        return usual
    return tuple(np.where(condition, a, b) for a, b in zip(slow(), usual, strict=True))


def at(table: tuple[int, ...], place: Integer) -> Integer:
    """The integer of the table there; of another place the result means nothing."""
    return np.array(table)[np.clip(place, 0, len(table) - 1)]


def square_root(x: Value) -> Value:
    """Correctly rounded."""
    return np.sqrt(x)


def magnitude(x: Value) -> Value:
    """``x`` without its sign."""
    return np.abs(x)


def with_sign(x: Wide, sign: Wide) -> Wide:
    """The magnitude of ``x`` with the sign of ``sign``."""
    return np.copysign(x, sign)


def integer(x: Wide) -> Integer:
    """The nearest integer, ties to even, for ``|x| < 2^51``; of any other ``x`` the result means nothing."""
    return bits(x + _MAGIC) - _MAGIC_BITS


def floating(n: Integer) -> Wide:
    """An integer, ``|n| < 2^51``, as a float64."""
    return from_bits(n + _MAGIC_BITS) - _MAGIC


def fma(a: Value, b: Value, c: Value) -> Value:
    """``a * b + c``, rounded once."""
    return _fma.fma(a, b, c)


def bits(x: Wide) -> Integer:
    """The 64 bits of a float64, as a signed integer."""
    return x.view(np.int64)


def from_bits(n: Integer) -> Wide:
    """The float64 of 64 bits."""
    return n.view(np.float64)


def power_of_two(n: Integer) -> Wide:
    """``2^n`` for ``-1022 <= n <= 1023``; of any other ``n`` the result means nothing."""
    return from_bits((n + 1023) << 52)


def horner(coefficients: tuple[float, ...], x: Wide) -> Wide:
    """The polynomial with these coefficients from the lowest power, from the highest: ``value * x + coefficient``."""
    value = number(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value
