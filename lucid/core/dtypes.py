"""The element types of tensors: plain NumPy dtypes under the names that users of lucid and of PyTorch know.

Arithmetic is defined for float32 and float64 (``ARITHMETIC.md``, section 1); integers and booleans are exact; float16
is a type to store and to convert, not to compute with.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "Float16",
    "Float32",
    "Float64",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "bool_",
    "float16",
    "float32",
    "float64",
    "get_default_dtype",
    "int8",
    "int16",
    "int32",
    "int64",
    "set_default_dtype",
    "uint8",
]

float16 = Float16 = np.dtype(np.float16)
float32 = Float32 = np.dtype(np.float32)
float64 = Float64 = np.dtype(np.float64)
int8 = Int8 = np.dtype(np.int8)
int16 = Int16 = np.dtype(np.int16)
int32 = Int32 = np.dtype(np.int32)
int64 = Int64 = np.dtype(np.int64)
uint8 = np.dtype(np.uint8)
bool_ = np.dtype(np.bool_)

_default = float32


def get_default_dtype() -> np.dtype[Any]:
    """The dtype of tensors made from Python floats, and of new parameters.

    Example:
        >>> import lucid
        >>> lucid.get_default_dtype()
        dtype('float32')
    """
    return _default


def set_default_dtype(dtype: Any) -> None:
    """Let ``dtype`` (float32 or float64) be the default.

    Raises:
        TypeError: ``dtype`` is no dtype that lucid computes with.

    Example:
        >>> import lucid
        >>> lucid.set_default_dtype(lucid.float64)
        >>> lucid.zeros(2).dtype
        dtype('float64')
        >>> lucid.set_default_dtype(lucid.float32)
    """
    global _default
    chosen = as_dtype(dtype)
    if chosen not in (float32, float64):
        raise TypeError(f"dtype: got {chosen}; may be float32 or float64")
    _default = chosen


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """``dtype`` as a dtype of lucid, in native byte order.

    ``float`` stands for the default dtype, as in PyTorch.

    Raises:
        TypeError: it is complex, an object, text or anything else that a tensor cannot hold.
    """
    if dtype is float:
        return _default
    try:
        given = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: got {dtype!r}; may be a float, integer or boolean type") from None
    if given.kind not in "fiub" or given.itemsize > 8:
        raise TypeError(f"dtype: got {given}; may be a float, integer or boolean type of at most 64 bits")
    return np.dtype(given.type)
