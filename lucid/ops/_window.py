"""What convolution and pooling share: a number for each side of an image, and the size of what windows leave."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from lucid.kernels import windows
from lucid.kernels.declare import Sides

SidesLike: TypeAlias = "int | Sequence[int]"
"""A number for all sides, or one for each."""
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


def per_side(name: str, value: Any, least: int, sides: int) -> Sides:
    """``value``, a number or one for each of the ``sides``, as one for each.

    Raises:
        ValueError: not integers of at least ``least`` and at most ``MOST``, or another number of them.
    """
    if type(value) is tuple and len(value) == sides and all(type(n) is int for n in value):
        numbers: Sides = value
    else:
        try:
            numbers = tuple(map(operator.index, value if isinstance(value, Sequence) else (value,)))
        except TypeError:
            numbers = ()
        if len(numbers) == 1:
            numbers = numbers * sides
        if len(numbers) != sides:
            raise ValueError(f"{name}: got {value!r}; may be an integer or {SEVERAL[sides]}")
    if min(numbers) < least:
        raise ValueError(f"{name}: got {value!r}; may be {least} or more")
    if max(numbers) > MOST:
        raise ValueError(f"{name}: got {value!r}; may be at most {MOST}")
    return numbers


SEVERAL = {1: "a sequence of one", 2: "a pair of integers", 3: "three integers"}
_AXES = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
KERNEL_AXES = {1: "K", 2: "KH, KW", 3: "KD, KH, KW"}


def require_image(name: str, shape: Sides, sides: int) -> None:
    """Raise ValueError unless ``shape`` is that of a batch of images with so many sides."""
    if len(shape) != sides + 2:
        raise ValueError(f"{name}: input has shape {shape}; must have {sides + 2} axes, {_AXES[sides]}")


def output_size(
    name: str, shape: Sides, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides, ceil_mode: bool = False
) -> Sides:
    """How many windows fit on images of ``shape``, along each side; ``lucid.kernels.windows`` counts them.

    Raises:
        ValueError: not one fits.
    """
    counts = windows.output_sizes(shape[2:], kernel, stride, padding, dilation, ceil_mode)
    if min(counts) < 1:
        raise ValueError(
            f"{name}: a kernel of {times(kernel)} with dilation {dilation} is larger than the input "
            f"{times(shape[2:])} with padding {padding}"
        )
    return counts


def times(sides: Sides) -> str:
    """``3x3``, for messages."""
    return "x".join(map(str, sides))
