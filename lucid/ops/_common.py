"""What the families of operations share: operands, shapes that broadcast, axes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

from lucid.backends import Backend, backend_for
from lucid.dtypes import bool_, get_default_dtype, int64
from lucid.ops._function import apply
from lucid.tensor import Tensor, as_tensor, wrap

Shape = tuple[int, ...]


def operands(name: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two operands as tensors of one dtype and of shapes that broadcast.

    A Python number takes the tensor's dtype; of a float and an integer tensor, the integers are converted.

    Raises:
        TypeError: two float dtypes, or something that is no operand.
        ValueError: the shapes do not broadcast.
    """
    if not isinstance(a, Tensor):
        a = _operand(name, a, b)
    if not isinstance(b, Tensor):
        b = _operand(name, b, a)
    x, y = a._array, b._array
    if x.dtype is not y.dtype and x.dtype != y.dtype:
        a, b = _promote(name, a, b)
    if x.ndim and y.ndim and x.shape != y.shape:
        broadcast_shape(name, x.shape, y.shape)
    return a, b


def _operand(name: str, value: Any, other: Any) -> Tensor:
    """A number or array beside ``other`` as a tensor."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float):
        if not isinstance(other, Tensor):
            return as_tensor(value)
        return wrap(number(other, value, _scalar_dtype(value, other._array.dtype)), other.device)
    if isinstance(value, np.ndarray) or hasattr(value, "__array__"):
        return as_tensor(value, device=other.device if isinstance(other, Tensor) else None)
    raise TypeError(f"{name}: got {type(value).__name__} as an operand; may be a tensor, an array or a number")


def number(like: Tensor, value: float, dtype: Any) -> Any:
    """``value`` as an array without axes, on the device of ``like``."""
    return backend_for(like.device).number(value, dtype)


def _scalar_dtype(value: bool | int | float, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f":
        return dtype
    if isinstance(value, bool):
        return dtype
    if isinstance(value, int):
        return int64 if dtype == bool_ else dtype
    return get_default_dtype()


def _promote(name: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    x, y = a.dtype, b.dtype
    if x.kind == "f" and y.kind == "f":
        raise TypeError(
            f"{name}: got tensors of dtype {x} and {y}; convert one with .astype, float dtypes are not mixed silently"
        )
    common = x if x.kind == "f" else y if y.kind == "f" else np.result_type(x, y)
    return a.astype(common), b.astype(common)


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


def unbroadcast(be: Backend, grad: Any, shape: Shape) -> Any:
    """The gradient of an operand of ``shape`` that was broadcast: the sum over axes added or stretched."""
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)
    axes = (*range(added), *[added + i for i, n in enumerate(shape) if n == 1 and grad.shape[added + i] != 1])
    return (be.reduce("sum", grad, axes, True) if axes else grad).reshape(shape)


def one_axis(name: str, axis: SupportsIndex, ndim: int) -> int:
    """``axis`` counted from the front.

    Raises:
        ValueError: there is no such axis.
    """
    number = operator.index(axis)
    if not -ndim <= number < ndim:
        raise ValueError(f"{name}: got axis {number} for a tensor of {ndim} axes; may be {-ndim} to {ndim - 1}")
    return number % ndim


def all_axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes that ``axis`` (a number, several, or None for all) names, ascending.

    Raises:
        ValueError: there is no such axis, or one is named twice.
    """
    if axis is None or axis == ():
        return tuple(range(ndim))
    if not isinstance(axis, Sequence):
        return (one_axis(name, axis, ndim),)
    axes = sorted(one_axis(name, a, ndim) for a in axis)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: got axis {tuple(axis)}; an axis may be named once")
    return tuple(axes)


def floating(x: Any) -> Tensor:
    """``x`` as a float tensor: integers are converted to the default dtype."""
    if not isinstance(x, Tensor):
        x = as_tensor(x)
    return x if x._array.dtype.kind == "f" else x.astype(get_default_dtype())


__all__ = [
    "Shape",
    "all_axes",
    "apply",
    "broadcast_shape",
    "floating",
    "number",
    "one_axis",
    "operands",
    "unbroadcast",
]
