"""What convolution and pooling share: pairs of numbers, and the size of what windows leave."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

Pair = tuple[int, int]
PairLike: TypeAlias = "int | Sequence[int]"
_Result = TypeVar("_Result")


MOST = 2**31 - 1
"""Of a side, a stride, a padding, a dilation: products of two of them then fit 64 bits, in which kernels count."""

_cache: dict[Any, Any] = {}
_CACHE_ENTRIES = 4096


def cached(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """``function(*arguments)``, remembered: a network asks for the same few geometries again and again."""
    key = (function, *arguments)
    try:
        return _cache[key]
    except (KeyError, TypeError):  # not seen yet, or a list among the arguments
        result = function(*arguments)
    with contextlib.suppress(TypeError):
        if len(_cache) >= _CACHE_ENTRIES:
            _cache.clear()
        _cache[key] = result
    return result


def pair(name: str, value: Any, least: int) -> Pair:
    """``value``, a number or two, as (vertical, horizontal).

    Raises:
        ValueError: not one or two integers of at least ``least`` and at most ``MOST``.
    """
    if type(value) is tuple and len(value) == 2 and type(value[0]) is int and type(value[1]) is int:
        both = value
    else:
        try:
            numbers = [operator.index(n) for n in value] if isinstance(value, Sequence) else [operator.index(value)] * 2
        except TypeError:
            numbers = []
        if len(numbers) == 1:
            numbers = numbers * 2
        if len(numbers) != 2:
            raise ValueError(f"{name}: got {value!r}; may be an integer or a pair of integers")
        both = (numbers[0], numbers[1])
    if both[0] < least or both[1] < least:
        raise ValueError(f"{name}: got {value!r}; may be {least} or more")
    if both[0] > MOST or both[1] > MOST:
        raise ValueError(f"{name}: got {value!r}; may be at most {MOST}")
    return both


def require_image(name: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless ``shape`` is that of a batch of images."""
    if len(shape) != 4:
        raise ValueError(f"{name}: input has shape {shape}; must have 4 axes, (N, C, H, W)")


def output_size(
    name: str,
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> Pair:
    """How many windows fit on images of ``shape``, down and across.

    With ``ceil_mode`` a last window may reach beyond the padded image, also the first one; one that would begin behind
    the image, in the padding or after it, is dropped, as in PyTorch.

    Raises:
        ValueError: not one fits.
    """
    height = _along(shape[2], kernel[0], stride[0], padding[0], dilation[0], ceil_mode)
    width = _along(shape[3], kernel[1], stride[1], padding[1], dilation[1], ceil_mode)
    if height < 1 or width < 1:
        raise ValueError(
            f"{name}: a kernel of {kernel[0]}x{kernel[1]} with dilation {dilation} is larger than the input "
            f"{shape[2]}x{shape[3]} with padding {padding}"
        )
    return height, width


def _along(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = -(-room // stride) + 1 if ceil_mode else room // stride + 1  # may be less than 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1  # the last window would begin in the padding behind
    return count
