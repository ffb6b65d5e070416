"""What the families of operations share: operands, shapes that broadcast, axes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

from lucid.backends import Backend
from lucid.core.dtypes import get_default_dtype
from lucid.core.tensor import Tensor, as_tensor
from lucid.ops._function import apply
from lucid.ops._promotion import Shape, broadcast_shape, number, operands


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
        axes = f"may be {-ndim} to {ndim - 1}" if ndim else "it must have one"
        raise ValueError(f"{name}: got axis {number} for a tensor of {ndim} axes; {axes}")
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


def beside(x: Any, like: Tensor) -> Tensor:
    """``x`` as a tensor: where it is if it is one (operations refuse two devices), other data beside ``like``."""
    return x if isinstance(x, Tensor) else as_tensor(x, device=like.device)


__all__ = [
    "Shape",
    "all_axes",
    "apply",
    "beside",
    "broadcast_shape",
    "floating",
    "number",
    "one_axis",
    "operands",
    "unbroadcast",
]
