"""Sums, means and extrema over axes (``ARITHMETIC.md``, section 4).

``axis`` is a number, several, or None for all axes; ``keepdims`` leaves reduced axes with length one.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

from lucid.backends import Backend
from lucid.core.tensor import Operand, Tensor, as_tensor
from lucid.ops._common import all_axes, one_axis
from lucid.ops._function import EVERY_INPUT, Function, apply
from lucid.ops.elementwise import div, square, sub

__all__ = ["amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "max", "mean", "min", "sum", "var"]


class _Reduce(Function):
    """What the reductions share: axes, and the shape that a gradient has before it is spread over them."""

    params = ("axis", "keepdims")

    def __init__(self, axis: tuple[int, ...], keepdims: bool) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def reduce(self, be: Backend, x: Any) -> Any:
        self.shape = x.shape
        if not x.ndim:  # a reduction of one term
            return be.reduce(self.name, x.reshape(1), (0,), False)
        return be.reduce(self.name, x, self.axis, self.keepdims)

    def keep(self, array: Any) -> Any:
        """A result or its gradient with the reduced axes put back, of length one."""
        return array.reshape([1 if i in self.axis else n for i, n in enumerate(self.shape)])

    def spread(self, be: Backend, array: Any) -> Any:
        """``array`` over the shape of the operand."""
        return be.xp.broadcast_to(self.keep(array), self.shape)


class Sum(_Reduce):
    name = "sum"
    may_alias = EVERY_INPUT

    def forward(self, be: Backend, x: Any) -> Any:
        if x.dtype.kind != "f":
            return be.xp.asarray(x.sum(axis=self.axis, keepdims=self.keepdims))
        return self.reduce(be, x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (self.spread(be, dy),)


def sum(x: Operand, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over ``axis``.

    Args:
        x: a tensor of any shape. Integers are added exactly.
        axis: one axis, several, or None for all.
        keepdims: whether reduced axes stay, with length one.

    Returns:
        The sums, +0 where there are no terms. Gradient: ``dy``, spread over the reduced axes.

    Raises:
        ValueError: there is no such axis, or one is named twice.

    Source: ONNX operator ReduceSum.

    Example:
        >>> import lucid
        >>> lucid.sum(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        tensor([4., 6.])
    """
    x = as_tensor(x)
    return apply(Sum(all_axes("sum", axis, x.ndim), keepdims), x)


class CumulativeSum(Function):
    name = "cumsum"
    params = ("axis",)

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, be: Backend, x: Any) -> Any:
        if x.dtype.kind != "f":
            return be.xp.asarray(x.cumsum(axis=self.axis))
        return be.cumsum(x, self.axis, False)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.cumsum(dy, self.axis, True),)


def cumsum(x: Operand, axis: int) -> Tensor:
    """The sums along ``axis`` up to each element: ``y[i] = x[0] + .. + x[i]``.

    Each is rounded as ``sum`` of the same elements is, so the last along the axis equals ``sum(x, axis)``.

    Args:
        x: a tensor of any shape with an axis. Integers are added exactly.
        axis: one axis.

    Returns:
        The shape of ``x``. Gradient: the same sums of ``dy`` from the other end, ``dx[i] = dy[i] + .. + dy[K-1]``.

    Raises:
        ValueError: there is no such axis.

    Source: ONNX operator CumSum.

    Example:
        >>> import lucid
        >>> lucid.cumsum(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        tensor([[1., 2.],
                [4., 6.]])
    """
    x = as_tensor(x)
    return apply(CumulativeSum(one_axis("cumsum", axis, x.ndim)), x)


class CumulativeProduct(Function):
    name = "cumprod"
    params = ("axis",)

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, be: Backend, x: Any) -> Any:
        if x.dtype.kind != "f":
            return be.xp.asarray(x.cumprod(axis=self.axis))
        self.saved = (x,)
        return be.cumprod(x, self.axis)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.cumprod_grad(dy, *self.saved, self.axis),)  # type: ignore[misc]


def cumprod(x: Operand, axis: int) -> Tensor:
    """The products along ``axis`` up to each element: ``y[i] = x[0] * .. * x[i]``.

    They are a chain in float64, each narrowed once.

    Args:
        x: a tensor of any shape with an axis. Integers are multiplied exactly, and wrap around.
        axis: one axis.

    Returns:
        The shape of ``x``. Gradient: ``dx[i]``, the product of the elements before ``i``, times
        ``s[i] = dy[i] + x[i + 1] * s[i + 1]``; so elements may be 0.

    Raises:
        ValueError: there is no such axis.

    Source: ``torch.cumprod``.

    Example:
        >>> import lucid
        >>> lucid.cumprod(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        tensor([[1., 2.],
                [3., 8.]])
    """
    x = as_tensor(x)
    return apply(CumulativeProduct(one_axis("cumprod", axis, x.ndim)), x)


class Mean(_Reduce):
    name = "mean"
    may_alias = EVERY_INPUT

    def forward(self, be: Backend, x: Any) -> Any:
        return self.reduce(be, x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        count = be.number(math.prod(self.shape[i] for i in self.axis), dy.dtype)
        return (self.spread(be, be.binary("div", dy, count)),)


def mean(x: Operand, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean over ``axis``; NaN where there are no terms. Arguments and errors as ``sum``.

    Gradient: ``dy / count``, spread over the reduced axes. Source: ONNX operator ReduceMean.

    Raises:
        TypeError: integers, whose mean has no dtype to be in.

    Example:
        >>> import lucid
        >>> lucid.mean(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1, keepdims=True)
        tensor([[1.5],
                [3.5]])
    """
    x = _float_tensor("mean", x)
    return apply(Mean(all_axes("mean", axis, x.ndim), keepdims), x)


def _float_tensor(name: str, x: Operand) -> Tensor:
    x = as_tensor(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: got a {x.dtype} tensor; may be float32 or float64 (convert with .astype)")
    return x


def var(x: Operand, axis: Any = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """The variance over ``axis``: ``sum(square(x - mean(x))) / (count - correction)``.

    Each operation rounds on its own, in that order. Arguments and errors as ``sum``; ``correction`` 1 gives the
    unbiased estimate (PyTorch's default), 0 the variance of the values themselves.

    Example:
        >>> import lucid
        >>> lucid.var(lucid.tensor([1.0, 2.0, 3.0]))
        tensor(1.)
    """
    x = _float_tensor("var", x)
    axes = all_axes("var", axis, x.ndim)
    count = math.prod(x.shape[i] for i in axes)
    deviations = square(sub(x, mean(x, axes, keepdims=True)))
    # With too few values this is 0 / 0 or a sum over 0, as in PyTorch: NaN or infinity.
    return div(sum(deviations, axes, keepdims), builtins.max(count - correction, 0))


class _Extreme(_Reduce):
    """``max`` and ``min``; elements that share the extreme share its gradient evenly."""

    def forward(self, be: Backend, x: Any) -> Any:
        if builtins.any(x.shape[i] == 0 for i in self.axis):
            raise ValueError(f"{self.name}: got shape {x.shape} and axis {self.axis}; there is no element to take")
        if x.dtype.kind == "f":
            y = self.reduce(be, x)
        else:
            self.shape = x.shape
            y = be.xp.asarray(getattr(x, self.name)(axis=self.axis, keepdims=self.keepdims))
        self.saved = (x, y)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        x, y = self.saved  # type: ignore[misc]
        best = be.compare("equal", x, self.keep(y))
        best |= (x != x) & self.keep(y != y)
        count = best.sum(axis=self.axis, keepdims=True).astype(dy.dtype)
        share = be.binary("div", self.keep(dy), count.reshape(self.keep(dy).shape))
        return (be.xp.where(best, share, be.number(0.0, dy.dtype)),)


class Max(_Extreme):
    name = "max"


class Min(_Extreme):
    name = "min"


def max(x: Operand, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element over ``axis``; NaN if one is NaN. Arguments as ``sum``.

    Gradient: ``dy / k`` to each of the ``k`` elements that are equal to the result, else 0, as ``torch.amax`` has it.
    Source: ONNX operator ReduceMax.

    Raises:
        ValueError: there is no such axis, or no element.

    Example:
        >>> import lucid
        >>> lucid.max(lucid.tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
        tensor([2., 4.])
    """
    x = as_tensor(x)
    return apply(Max(all_axes("max", axis, x.ndim), keepdims), x)


def min(x: Operand, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest element over ``axis``; NaN if one is NaN. Otherwise as ``max``.

    Example:
        >>> import lucid
        >>> lucid.min(lucid.tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
        tensor([1., 3.])
    """
    x = as_tensor(x)
    return apply(Min(all_axes("min", axis, x.ndim), keepdims), x)


class ArgExtreme(Function):
    params = ("axis", "keepdims")
    differentiable = False

    def __init__(self, name: str, axis: int | None, keepdims: bool) -> None:
        self.name = name  # type: ignore[misc]
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, be: Backend, x: Any) -> Any:
        if (x.size if self.axis is None else x.shape[self.axis]) == 0:
            raise ValueError(f"{self.name}: got shape {x.shape} and axis {self.axis}; there is no element to take")
        return be.arg_extreme(self.name, x, self.axis, self.keepdims)


def argmax(x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index, int64, of the first largest element (of the first NaN, if there is one) along ``axis``.

    With ``axis=None`` the index counts all elements in row-major order. Source: ONNX operator ArgMax.

    Raises:
        ValueError: there is no such axis, or no element.

    Example:
        >>> import lucid
        >>> lucid.argmax(lucid.tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
        tensor([1, 0])
    """
    x = as_tensor(x)
    return apply(ArgExtreme("argmax", None if axis is None else one_axis("argmax", axis, x.ndim), keepdims), x)


def argmin(x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index, int64, of the first smallest element along ``axis``; otherwise as ``argmax``.

    Example:
        >>> import lucid
        >>> lucid.argmin(lucid.tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
        tensor([0, 1])
    """
    x = as_tensor(x)
    return apply(ArgExtreme("argmin", None if axis is None else one_axis("argmin", axis, x.ndim), keepdims), x)


amax = max
amin = min
