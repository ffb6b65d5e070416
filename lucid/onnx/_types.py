"""Types of ONNX and of NumPy, and half precision in float32.

ONNX names its types by numbers and NumPy (with the package ml_dtypes, which onnx brings) by dtypes. lucid has tensors
of the floats, integers and booleans of NumPy. It computes half precision as float32,
rounded after each operator.
"""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

from lucid.backends import Backend
from lucid.backends.shapes import Abstract
from lucid.core.tensor import Tensor, as_tensor
from lucid.ops._function import Function, apply

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TEXT = np.dtype(object)
HALF = frozenset({np.dtype(np.float16), BFLOAT16})


def dtype_of(element: int) -> np.dtype[Any] | None:
    """NumPy's dtype of one of ONNX's element types; ``object`` for text, None for one that is not defined."""
    if element == onnx.TensorProto.STRING:
        return TEXT
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(element))
    except (KeyError, ValueError):
        return None


def element_of(dtype: np.dtype[Any]) -> int:
    """ONNX's element type of a dtype."""
    return int(onnx.TensorProto.STRING if dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(dtype))


def array_of(tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
    """A tensor's values, in NumPy's own byte order; text as ``str``.

    Raises:
        ValueError: its data are not as many as its shape says, or of no type of ONNX.
    """
    shape = tuple(tensor.dims)
    try:
        if min(shape, default=0) < 0:
            raise ValueError("a length is below 0")
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # ValueError, TypeError, KeyError and what else onnx lets through
        what = f"{tensor.name!r} of shape {shape} and element type {tensor.data_type}"
        raise ValueError(f"model: the tensor {what} cannot be read: {error}") from None
    if array.dtype.kind in "SUO":
        texts = [each.decode("utf-8", "surrogateescape") if isinstance(each, bytes) else each for each in array.ravel()]
        array = np.array(texts, object).reshape(array.shape)
    return array


def bytes_of(tensor: onnx.TensorProto) -> int:
    """How many bytes its data are, in a file of their own.

    Raises:
        ValueError: its type has no such data, or a length is below 0.
    """
    dtype = dtype_of(tensor.data_type)
    if dtype is None or dtype == TEXT or min(tensor.dims, default=0) < 0:
        raise ValueError(f"its element type is {tensor.data_type} and its shape {tuple(tensor.dims)}")
    return -(-math.prod(tensor.dims) * bits_of(dtype) // 8)


def bits_of(dtype: np.dtype[Any]) -> int:
    """How many bits an element has, packed as ONNX packs it."""
    if dtype.name in ("int4", "uint4", "int2", "uint2"):
        return int(dtype.name[-1])
    return 4 if dtype.name == "float4_e2m1fn" else 6 if dtype.name.startswith("float6_") else dtype.itemsize * 8


def has_tensors(dtype: np.dtype[Any]) -> bool:
    """Whether a value of this dtype can be one of lucid's tensors (half precision as float32)."""
    return dtype in HALF or (dtype.kind in "fiub" and dtype.itemsize <= 8 and dtype.type.__module__ == "numpy")


def as_value(array: np.ndarray[Any, Any], device: str) -> Tensor:
    """An array as a tensor on ``device``; half precision as float32."""
    return as_tensor(array.astype(np.float32) if array.dtype in HALF else array, device=device)


def as_array(value: Tensor, dtype: np.dtype[Any] | None = None) -> np.ndarray[Any, Any]:
    """A tensor's values in NumPy; of ``dtype``, where that is given.

    Raises:
        RuntimeError: it has none, as the model is being traced.
    """
    if isinstance(value._array, Abstract):
        raise RuntimeError(
            "a value that depends on the model's inputs says how an operator computes, or runs on the host; such a "
            "model cannot be traced"
        )
    array = value.detach().cpu().numpy()
    return array if dtype is None or dtype == array.dtype else array.astype(dtype)


def narrowed(x: Any, xp: Any = np) -> Any:
    """An array of float64 in float32, so that rounding it once more, to fewer bits, gives what rounding once would.

    What float32 does not hold exactly goes to the neighbour whose last bit is 1 ("round to odd").
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = x.astype(np.float32)
    back, bits = near.astype(np.float64), near.view(np.uint32)
    inexact = (back != x) & (x == x) & ((bits & np.uint32(1)) == 0)
    step = xp.where(abs(back) > abs(x), np.uint32(0xFFFFFFFF), np.uint32(1))
    return xp.where(inexact, bits + step, bits).astype(np.uint32).view(np.float32).reshape(x.shape)


class _Rounded(Function):
    """Values of float32 or float64 rounded once to a half type, as float32; the gradient passes."""

    name = "rounded"
    params = ("dtype",)
    floats = True

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def forward(self, be: Backend, x: Any) -> Any:
        self.source = x.dtype
        if x.dtype == np.float64:
            x = narrowed(be.xp.ascontiguousarray(x), be.xp)
        if self.dtype == "float16":
            with np.errstate(over="ignore"):
                return x.astype(np.float16).astype(np.float32)
        bits = be.xp.ascontiguousarray(x).view(np.uint32)
        nearest = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
        kept = be.xp.where(x != x, bits | np.uint32(0x400000), nearest) & np.uint32(0xFFFF0000)
        return kept.view(np.float32).reshape(x.shape)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (dy if dy.dtype == self.source else be.convert(dy, self.source),)


def rounded(x: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """``x`` rounded to the nearest values of a half type, ties to even; a tensor of float32.

    Example:
        >>> import lucid
        >>> rounded(lucid.tensor([1.0004, 70000.0]), lucid.float16)
        tensor([ 1., inf])
    """
    return apply(_Rounded(str(dtype)), x if x.dtype in (np.float32, np.float64) else x.astype(np.float64))
