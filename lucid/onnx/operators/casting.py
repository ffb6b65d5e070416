"""Conversion between all of ONNX's types: floats of 64 to 4 bits, integers of 64 to 2 bits, booleans and text.

A value is rounded once, to the nearest, ties to even. Of types that lucid has no tensors of it is done on the host.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.nn._dry_run import concretely
from lucid.onnx._importer import Call, Value, imports
from lucid.onnx._types import HALF, TEXT, as_array, as_value, bits_of, dtype_of, has_tensors, narrowed, rounded

_Array = np.ndarray[Any, Any]

_SCALE_TYPE = np.dtype(ml_dtypes.float8_e8m0fnu)
_NAN = 0xFF  # the exponents of float32, and the codes of float8_e8m0fnu


@imports("Cast", raw=True)
def _import_cast(call: Call, x: Value) -> Value:
    to = dtype_of(call["to"])
    if to is None:
        raise call.refuse(f"to: is {call['to']}, which is none of ONNX's element types")
    return converted(call, x, call.results[0] or to)


@imports("CastLike", raw=True)
def _import_cast_like(call: Call, x: Value, like: Value) -> Value:
    """The type is the declared one: a tensor of float32 may stand for half precision."""
    return converted(call, x, call.dtypes[1] or call.results[0] or like.dtype)


@imports("BitCast", raw=True, gradient=False)
def _import_bit_cast(call: Call, x: Value) -> Value:
    """The same bits as another type of as many."""
    to, array = dtype_of(call["to"]), _array(call, x)
    if to is None or TEXT in (to, array.dtype) or bits_of(to) != bits_of(array.dtype):
        raise call.refuse(f"to: is {to}; must have as many bits as {array.dtype}")
    return _coded(array, to)


def converted(call: Call, x: Value, to: np.dtype[Any]) -> Value:
    """``x`` as ``to``: as a tensor, where it is one and ``to`` has tensors, else as an array."""
    if isinstance(x, Tensor) and has_tensors(to):
        if to in HALF:
            return rounded(x, to)
        return x if x.dtype == to else ops.cast(x, to)
    mode = (call["round_mode"] or "up").lower()
    with concretely():
        return _converted(_array(call, x), to, call["saturate"] != 0, mode)


def _array(call: Call, x: Value) -> _Array:
    return as_array(x, call.dtypes[0]) if isinstance(x, Tensor) else x


def _converted(x: _Array, to: np.dtype[Any], saturate: bool = True, mode: str = "up") -> _Array:
    if x.dtype == to:
        return x
    if to == TEXT:
        return np.array([str(each) for each in x.ravel()], object).reshape(x.shape)
    if x.dtype == TEXT:
        x = _parsed(x, to)
    elif not has_tensors(x.dtype):
        x = x.astype(np.float32)  # exact: none of these types has more than 8 bits
    if (to.kind in "biu" and has_tensors(to)) or to in (np.float32, np.float64):
        return as_array(ops.cast(as_value(x, "cpu").detach(), to)) if x.dtype != to else x
    if is_small_integer(to):
        whole = x if x.dtype.kind in "biu" else as_array(ops.cast(as_value(x, "cpu"), np.dtype(np.int64)))
        return _coded((whole & ((1 << bits_of(to)) - 1)).astype(np.uint8), to)
    if x.dtype not in HALF and x.dtype != np.float32:
        x = narrowed(x.astype(np.float64))
    return small_float(x.astype(np.float32), to, saturate, mode)


def small_float(x: _Array, to: np.dtype[Any], saturate: bool = True, mode: str = "up") -> _Array:
    """Values of float32 rounded to a float type of 16 to 4 bits; to float8, ``saturate`` keeps them finite."""
    if to == _SCALE_TYPE:
        return _exponent(x, saturate, mode)
    limit = np.float32(np.inf) if to in HALF or not saturate else np.float32(ml_dtypes.finfo(to).max)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.clip(x, -limit, limit).astype(to)


def _exponent(x: _Array, saturate: bool, mode: str) -> _Array:
    """Powers of two, as float8_e8m0fnu: up, down or to the nearest (half way up)."""
    bits = np.ascontiguousarray(x).view(np.uint32).reshape(x.shape)
    exponent, rest = ((bits >> 23) & _NAN).astype(np.int64), bits & 0x7FFFFF
    made = exponent + ({"up": rest > 0, "down": rest < 0, "nearest": rest >= 0x400000}[mode])
    if saturate:
        made = np.minimum(made, _NAN - 1)
        made = np.where((exponent == _NAN) & (rest == 0), _NAN - 1, made)
    else:
        made = np.where((made > _NAN) | (x == 0), _NAN, made)
    return np.where(np.isnan(x), _NAN, made).astype(np.uint8).view(_SCALE_TYPE)


def _parsed(x: _Array, to: np.dtype[Any]) -> _Array:
    """Numbers from text: integers exactly, where it is one and ``to`` has integers."""

    def number(text: str) -> Any:
        if to.kind in "iu" or is_small_integer(to):
            try:
                return int(text)
            except ValueError:
                return int(float(text))
        return float(text)

    numbers = [number(each) for each in x.ravel()]
    kind = np.uint64 if to == np.uint64 else np.int64 if to.kind in "i" or is_small_integer(to) else np.float64
    kind = np.int64 if to.kind == "u" and to != np.uint64 else kind
    return np.array(numbers, kind).reshape(x.shape)


def is_small_integer(dtype: np.dtype[Any]) -> bool:
    """Whether it is one of the integers of 4 or 2 bits."""
    return dtype.name in ("int4", "uint4", "int2", "uint2")


def _coded(array: _Array, to: np.dtype[Any]) -> _Array:
    """The bits of ``array`` as ``to``; of types below 8 bits they are the lowest of a byte, with copies of the sign."""
    bits = bits_of(to)
    code = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)
    if bits < 8:
        code = code & ((1 << bits) - 1)
        if to.name.startswith("int"):
            code = np.where(code >> (bits - 1), code | (0xFF & -(1 << bits)), code).astype(np.uint8)
    return code.view(to)
