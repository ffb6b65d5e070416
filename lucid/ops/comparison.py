"""Comparisons and logic: exact, boolean, and without gradients."""

from __future__ import annotations

from typing import Any

from lucid.backends import Backend
from lucid.ops._common import all_axes, operands
from lucid.ops._function import Function, apply
from lucid.tensor import Operand, Tensor, as_tensor

__all__ = [
    "all",
    "any",
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "not_equal",
]


class Compare(Function):
    differentiable = False

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        return be.compare(self.name, a, b)


def equal(a: Operand, b: Operand) -> Tensor:
    """Where ``a == b``, element by element: a boolean tensor of the broadcast shape.

    Raises:
        TypeError: two float dtypes.
        ValueError: the shapes do not broadcast.

    Source: ONNX operator Equal.

    Example:
        >>> import lucid
        >>> lucid.equal(lucid.tensor([1, 2]), 2)
        tensor([False,  True])
    """
    return apply(Compare("equal"), *operands("equal", a, b))


def not_equal(a: Operand, b: Operand) -> Tensor:
    """Where ``a != b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.not_equal(lucid.tensor([1, 2]), 2)
        tensor([ True, False])
    """
    return apply(Compare("not_equal"), *operands("not_equal", a, b))


def less(a: Operand, b: Operand) -> Tensor:
    """Where ``a < b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.less(lucid.tensor([1, 2]), 2)
        tensor([ True, False])
    """
    return apply(Compare("less"), *operands("less", a, b))


def less_equal(a: Operand, b: Operand) -> Tensor:
    """Where ``a <= b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.less_equal(lucid.tensor([1, 2]), 2)
        tensor([ True,  True])
    """
    return apply(Compare("less_equal"), *operands("less_equal", a, b))


def greater(a: Operand, b: Operand) -> Tensor:
    """Where ``a > b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.greater(lucid.tensor([1, 2]), 1)
        tensor([False,  True])
    """
    return apply(Compare("greater"), *operands("greater", a, b))


def greater_equal(a: Operand, b: Operand) -> Tensor:
    """Where ``a >= b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.greater_equal(lucid.tensor([1, 2]), 2)
        tensor([False,  True])
    """
    return apply(Compare("greater_equal"), *operands("greater_equal", a, b))


def logical_and(a: Operand, b: Operand) -> Tensor:
    """Where both are true (not zero). Source: ONNX operator And.

    Example:
        >>> import lucid
        >>> lucid.logical_and(lucid.tensor([True, False]), True)
        tensor([ True, False])
    """
    return apply(Compare("logical_and"), *operands("logical_and", a, b))


def logical_or(a: Operand, b: Operand) -> Tensor:
    """Where either is true (not zero). Source: ONNX operator Or.

    Example:
        >>> import lucid
        >>> lucid.logical_or(lucid.tensor([True, False]), False)
        tensor([ True, False])
    """
    return apply(Compare("logical_or"), *operands("logical_or", a, b))


class Test(Function):
    differentiable = False
    any_dtype = True
    __test__ = False  # not a pytest class

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def forward(self, be: Backend, x: Any) -> Any:
        return be.xp.asarray(getattr(be.xp, self.name)(x))


def logical_not(x: Operand) -> Tensor:
    """Where ``x`` is false (zero). Source: ONNX operator Not.

    Example:
        >>> import lucid
        >>> lucid.logical_not(lucid.tensor([True, False]))
        tensor([False,  True])
    """
    return apply(Test("logical_not"), x)


def isnan(x: Operand) -> Tensor:
    """Where ``x`` is NaN. Source: ONNX operator IsNaN.

    Example:
        >>> import lucid
        >>> lucid.isnan(lucid.tensor([0.0, float("nan")]))
        tensor([False,  True])
    """
    return apply(Test("isnan"), x)


def isfinite(x: Operand) -> Tensor:
    """Where ``x`` is neither infinite nor NaN.

    Example:
        >>> import lucid
        >>> lucid.isfinite(lucid.tensor([0.0, float("inf")]))
        tensor([ True, False])
    """
    return apply(Test("isfinite"), x)


class Quantify(Function):
    params = ("axis", "keepdims")
    differentiable = False
    any_dtype = True

    def __init__(self, name: str, axis: tuple[int, ...], keepdims: bool) -> None:
        self.name = name  # type: ignore[misc]
        self.axis = axis
        self.keepdims = keepdims

    def forward(self, be: Backend, x: Any) -> Any:
        return be.xp.asarray(getattr(be.xp, self.name)(x, axis=self.axis, keepdims=self.keepdims))


def all(x: Operand, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements along ``axis`` (None: all axes) are true (not zero).

    Example:
        >>> import lucid
        >>> lucid.all(lucid.tensor([[True, False], [True, True]]), axis=1)
        tensor([False,  True])
    """
    x = as_tensor(x)
    return apply(Quantify("all", all_axes("all", axis, x.ndim), keepdims), x)


def any(x: Operand, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether any element along ``axis`` (None: all axes) is true (not zero).

    Example:
        >>> import lucid
        >>> lucid.any(lucid.tensor([[True, False], [False, False]]), axis=1)
        tensor([ True, False])
    """
    x = as_tensor(x)
    return apply(Quantify("any", all_axes("any", axis, x.ndim), keepdims), x)
