"""Which dtype an operation computes in when its operands have several: the one rule of all operations that mix them.

It is PyTorch's, but for floats:

- A Python number is weak: it takes the tensors' dtype, unless its kind is higher (boolean < integer < float): then the
  result is int64, or the default float dtype.
- Among tensors a higher kind wins whole: an integer tensor beside a float one takes the float dtype. A tensor without
  axes counts, beside others of its kind or a higher one, as little as a number.
- Integers of two dtypes are computed in the smallest one that holds both.
- float32 and float64 are never mixed silently, whatever their shapes: one of them has to be converted.

Integers are computed exactly, and wrap around where they leave their dtype, as in NumPy and PyTorch.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lucid.backends import backend_for
from lucid.core.dtypes import bool_, get_default_dtype, int64
from lucid.core.tensor import Tensor, as_tensor, wrap
from lucid.ops._function import mixed_floats

__all__ = ["broadcast_shape", "cast_to", "common_dtype", "is_number", "number", "operands", "out_of_range", "promoted"]

Shape = tuple[int, ...]
_RANK = {"b": 0, "i": 1, "u": 1, "f": 2}


def common_dtype(name: str, *values: Any) -> np.dtype[Any]:
    """The dtype in which tensors and Python numbers meet.

    Raises:
        TypeError: two float dtypes, or integers (uint64 and a signed one) that no integer dtype holds.
    """
    tensors = [value for value in values if isinstance(value, Tensor)]
    floats = [t.dtype for t in tensors if t.dtype.kind == "f"]
    for dtype in floats:
        if dtype != floats[0]:
            raise mixed_floats(name, floats[0], dtype)
    result: np.dtype[Any] | None = None
    for group in ([t.dtype for t in tensors if t.ndim], [t.dtype for t in tensors if not t.ndim]):
        if group:
            joined = functools.reduce(functools.partial(_join, name), group)
            if result is None or _RANK[joined.kind] > _RANK[result.kind]:
                result = joined
    for value in values:
        if not isinstance(value, Tensor):
            result = _with_number(value, result)
    assert result is not None
    return result


def _join(name: str, a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    if a.kind == "f" or b.kind == "f":
        return a if a.kind == "f" else b
    joined = np.result_type(a, b)
    if joined.kind == "f":
        raise TypeError(f"{name}: got tensors of dtype {a} and {b}, which no integer dtype holds; convert with .astype")
    return joined


def _with_number(value: bool | int | float, dtype: np.dtype[Any] | None) -> np.dtype[Any]:
    """The dtype of a number beside tensors of ``dtype`` (None: beside none)."""
    if isinstance(value, bool | np.bool_):
        return bool_ if dtype is None else dtype
    if isinstance(value, int | np.integer):
        return int64 if dtype is None or dtype == bool_ else dtype
    return dtype if dtype is not None and dtype.kind == "f" else get_default_dtype()


def is_number(value: Any) -> bool:
    """Whether ``value`` is a number without a dtype that counts: a Python number, or an element of an array."""
    return isinstance(value, bool | int | float | np.generic)


def operands(name: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two operands as tensors of one dtype (by the rule above) and of shapes that broadcast.

    Raises:
        TypeError: two float dtypes, or something that is no operand.
        ValueError: the shapes do not broadcast.
        OverflowError: a Python integer that the tensor's integer dtype does not hold.
    """
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        number_beside = type(b) in (float, int) and isinstance(a, Tensor) and a._array.dtype.kind == "f"
        if number_beside:  # the usual case, in a few steps
            b = _as_tensor(name, b, a._array.dtype, a)
        else:
            a, b = promoted(name, a, b)
    elif a._array.dtype is not b._array.dtype:
        a, b = promoted(name, a, b)
    x, y = a._array, b._array
    if x.ndim and y.ndim and x.shape != y.shape:
        broadcast_shape(name, x.shape, y.shape)
    return a, b


def cast_to(x: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """``x`` in ``dtype``, itself if it has it."""
    return x if x._array.dtype is dtype or x._array.dtype == dtype else x.astype(dtype)


def promoted(name: str, *values: Any) -> list[Tensor]:
    """Tensors, arrays and numbers as tensors of one dtype. Raises as ``operands``."""
    like = None
    for value in values:
        if isinstance(value, Tensor):
            like = value
            break
    known = [value if isinstance(value, Tensor) else _operand(name, value, like) for value in values]
    dtype = common_dtype(name, *known)
    return [
        cast_to(value, dtype) if isinstance(value, Tensor) else _as_tensor(name, value, dtype, like) for value in known
    ]


def _operand(name: str, value: Any, like: Tensor | None) -> Any:
    """A tensor, or a Python number."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, np.generic):
        return _operand(name, value.item(), like)
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        return as_tensor(value, device=None if like is None else like.device)
    raise TypeError(f"{name}: got {type(value).__name__} as an operand; may be a tensor, an array or a number")


def _as_tensor(name: str, value: bool | int | float, dtype: np.dtype[Any], like: Tensor | None) -> Tensor:
    if like is None:
        return as_tensor(value, dtype=dtype)
    try:
        return wrap(number(like, value, dtype), like.device)
    except OverflowError:
        raise out_of_range(name, value, dtype) from None


def out_of_range(name: str, value: Any, dtype: np.dtype[Any]) -> OverflowError:
    """The error for a number that a dtype does not hold."""
    if dtype.kind == "f":
        return OverflowError(f"{name}: got a Python integer too large for {dtype}; convert it with float() first")
    info = np.iinfo(dtype)
    return OverflowError(f"{name}: got {value} beside a {dtype} tensor, which holds {info.min} to {info.max}")


def number(like: Tensor, value: float, dtype: Any) -> Any:
    """``value`` as an array without axes, on the device of ``like``."""
    return backend_for(like.device).number(value, dtype)


def broadcast_shape(name: str, *shapes: Shape) -> Shape:
    """The shape that ``shapes`` broadcast to.

    Raises:
        ValueError: they do not.
    """
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(shape) for shape in shapes)
        raise ValueError(f"{name}: shapes {listed} do not broadcast") from None
