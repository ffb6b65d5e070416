"""Binary formats, and how widths are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format.

    Args:
        name: its name.
        fraction: bits of fraction: 23 in float32.
        lowest: the exponent of the smallest normal number.
        highest: the exponent of the largest power of two.
    """

    name: str
    fraction: int
    lowest: int
    highest: int


FORMATS = {
    each.name: each
    for each in (
        Format("float64", 52, -1022, 1023),
        Format("float32", 23, -126, 127),
        Format("float16", 10, -14, 15),
        Format("bfloat16", 7, -126, 127),
    )
}
_WIDTHS = {52: "float64", 23: "float32", 10: "TF32", 7: "bfloat16", 63: "80-bit extended"}


def width_in_words(fraction: int, highest: int) -> str:
    """The format with that many bits of fraction and that range; where none is known, the bits.

    Example:
        >>> width_in_words(10, 127), width_in_words(10, 15), width_in_words(21, 127)
        ('TF32', 'float16', '21 bits of fraction')
    """
    if fraction == 10 and highest <= 15:
        return "float16"
    return _WIDTHS.get(fraction, f"{fraction} bits of fraction")


def stored(values: Array, precision: str) -> Array:
    """The values as an array of that format; bfloat16 needs the package ml_dtypes."""
    if precision == "bfloat16":
        from ml_dtypes import bfloat16

        return values.astype(bfloat16)
    return values.astype(precision)
