"""Comparisons and logic: exact, boolean, and without gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid.backends import Backend
from lucid.core.dtypes import int64
from lucid.core.tensor import Operand, Tensor, as_tensor
from lucid.ops._common import all_axes
from lucid.ops._function import Function, apply
from lucid.ops._promotion import is_number, operands

__all__ = [
    "all",
    "any",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "not_equal",
]


class Compare(Function):
    differentiable = False

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        return be.compare(self.name, a, b)


class Logical(Compare):
    """``logical_and``, ``_or``, ``_xor``: whether an element is zero the backend says, for which a subnormal is not."""

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        return be.compare(self.name, _true(be, a), _true(be, b))


def _true(be: Backend, x: Any) -> Any:
    return x if x.dtype.kind == "b" else be.convert(x, np.bool_)


_MIRROR = {"less": "greater", "less_equal": "greater_equal", "greater": "less", "greater_equal": "less_equal"}


def _compare(name: str, a: Any, b: Any) -> Tensor:
    if not isinstance(b, Tensor) and is_number(b) and isinstance(a, Tensor):
        return _compare_number(name, a, b)
    if not isinstance(a, Tensor) and is_number(a) and isinstance(b, Tensor):
        return _compare_number(_MIRROR.get(name, name), b, a)
    return apply(Compare(name), *operands(name, a, b))


def _compare_number(name: str, x: Tensor, value: Any) -> Tensor:
    """A comparison with a number, whose answer is the mathematical one also where the dtype of ``x`` lacks the number:
    an integer out of its range, or a fraction beside integers. (A number that floats only round is rounded.)"""
    if isinstance(value, np.generic):
        value = value.item()
    kind = x._array.dtype.kind
    if kind == "f":
        if type(value) is not int or -_SAFE < value < _SAFE:
            return apply(Compare(name), *operands(name, x, value))
        largest = int(np.finfo(x.dtype).max)
        least: float = -math.inf
        below, above = _neighbours(value, -largest, largest)
        below, above = -math.inf if below is None else below, math.inf if above is None else above
    else:
        if isinstance(value, bool):
            return apply(Compare(name), *operands(name, x, value))
        if kind == "b":
            x = x.astype(int64)
        info = np.iinfo(x.dtype)
        least = info.min
        below, above = _neighbours(value, info.min, info.max)
    if below == above is not None:
        return apply(Compare(name), *operands(name, x, below))
    return _between(name, x, below, above, least)


_SAFE = 1 << 15  # what every float dtype holds


def _neighbours(value: float, least: int, largest: int) -> tuple[float | None, float | None]:
    """The largest integer up to ``value`` and the smallest from it on, of those from ``least`` to ``largest``."""
    if value != value:
        return None, None
    if value > largest:
        return largest, None
    if value < least:
        return None, least
    return math.floor(value), math.ceil(value)


def _between(name: str, x: Tensor, below: float | None, above: float | None, least: float) -> Tensor:
    """A comparison with a number that lies between ``below`` and ``above``, neighbours of the dtype (None: there is
    none); ``least`` is a number that no element is less than."""
    if name.startswith("less") and below is not None:
        return apply(Compare("less_equal"), *operands(name, x, below))
    if name.startswith("greater") and above is not None:
        return apply(Compare("greater_equal"), *operands(name, x, above))
    never = apply(Compare("less"), *operands(name, x, least))
    return logical_not(never) if name == "not_equal" else never


def equal(a: Operand, b: Operand) -> Tensor:
    """Where ``a == b``, element by element: a boolean tensor of the broadcast shape.

    A Python number beside integers is compared exactly, also where it is a fraction or out of their range.

    Raises:
        TypeError: two float dtypes.
        ValueError: the shapes do not broadcast.

    Source: ONNX operator Equal.

    Example:
        >>> import lucid
        >>> lucid.equal(lucid.tensor([1, 2]), 2)
        tensor([False,  True])
    """
    return _compare("equal", a, b)


def not_equal(a: Operand, b: Operand) -> Tensor:
    """Where ``a != b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.not_equal(lucid.tensor([1, 2]), 2)
        tensor([ True, False])
    """
    return _compare("not_equal", a, b)


def less(a: Operand, b: Operand) -> Tensor:
    """Where ``a < b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.less(lucid.tensor([1, 2]), 2)
        tensor([ True, False])
    """
    return _compare("less", a, b)


def less_equal(a: Operand, b: Operand) -> Tensor:
    """Where ``a <= b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.less_equal(lucid.tensor([1, 2]), 2)
        tensor([ True,  True])
    """
    return _compare("less_equal", a, b)


def greater(a: Operand, b: Operand) -> Tensor:
    """Where ``a > b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.greater(lucid.tensor([1, 2]), 1)
        tensor([False,  True])
    """
    return _compare("greater", a, b)


def greater_equal(a: Operand, b: Operand) -> Tensor:
    """Where ``a >= b``; otherwise as ``equal``.

    Example:
        >>> import lucid
        >>> lucid.greater_equal(lucid.tensor([1, 2]), 2)
        tensor([False,  True])
    """
    return _compare("greater_equal", a, b)


def logical_and(a: Operand, b: Operand) -> Tensor:
    """Where both are true (not zero). Source: ONNX operator And.

    Example:
        >>> import lucid
        >>> lucid.logical_and(lucid.tensor([True, False]), True)
        tensor([ True, False])
    """
    return apply(Logical("logical_and"), *operands("logical_and", a, b))


def logical_or(a: Operand, b: Operand) -> Tensor:
    """Where either is true (not zero). Source: ONNX operator Or.

    Example:
        >>> import lucid
        >>> lucid.logical_or(lucid.tensor([True, False]), False)
        tensor([ True, False])
    """
    return apply(Logical("logical_or"), *operands("logical_or", a, b))


def logical_xor(a: Operand, b: Operand) -> Tensor:
    """Where one is true (not zero) and the other is not. Source: ONNX operator Xor.

    Example:
        >>> import lucid
        >>> lucid.logical_xor(lucid.tensor([1.0, 0.0]), lucid.tensor([2.0, -1.0]))
        tensor([False,  True])
    """
    return apply(Logical("logical_xor"), *operands("logical_xor", a, b))


class Bitwise(Function):
    differentiable = False

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        return be.xp.asarray(getattr(be.xp, self.name)(a, b))


_OF_BOOLEANS = {"bitwise_and": "logical_and", "bitwise_or": "logical_or", "bitwise_xor": "not_equal"}


def _bitwise(name: str, a: Any, b: Any) -> Tensor:
    x, y = operands(name, a, b)
    if x.dtype.kind == "f":
        raise TypeError(f"{name}: got {x.dtype} operands; may be integers or booleans")
    return apply(Compare(_OF_BOOLEANS[name]) if x.dtype.kind == "b" else Bitwise(name), x, y)


def bitwise_and(a: Operand, b: Operand) -> Tensor:
    """``a & b``: of integers bit by bit, of booleans logically.

    Raises:
        TypeError: floats.
        ValueError: the shapes do not broadcast.

    Source: ONNX operators BitwiseAnd and And.

    Example:
        >>> import lucid
        >>> lucid.bitwise_and(lucid.tensor([6]), 3)
        tensor([2])
    """
    return _bitwise("bitwise_and", a, b)


def bitwise_or(a: Operand, b: Operand) -> Tensor:
    """``a | b``; otherwise as ``bitwise_and``.

    Example:
        >>> import lucid
        >>> lucid.bitwise_or(lucid.tensor([6]), 3)
        tensor([7])
    """
    return _bitwise("bitwise_or", a, b)


def bitwise_xor(a: Operand, b: Operand) -> Tensor:
    """``a ^ b``; otherwise as ``bitwise_and``.

    Example:
        >>> import lucid
        >>> lucid.bitwise_xor(lucid.tensor([6]), 3)
        tensor([5])
    """
    return _bitwise("bitwise_xor", a, b)


def bitwise_not(x: Operand) -> Tensor:
    """``~x``; otherwise as ``bitwise_and``.

    Example:
        >>> import lucid
        >>> lucid.bitwise_not(lucid.tensor([6])), lucid.bitwise_not(lucid.tensor([True]))
        (tensor([-7]), tensor([False]))
    """
    x = as_tensor(x)
    if x.dtype.kind == "f":
        raise TypeError(f"bitwise_not: got {x.dtype} operands; may be integers or booleans")
    return logical_not(x) if x.dtype.kind == "b" else apply(Test("bitwise_not"), x)


class Test(Function):
    differentiable = False
    any_dtype = True
    __test__ = False  # not a pytest class

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def forward(self, be: Backend, x: Any) -> Any:
        return be.xp.asarray(getattr(be.xp, self.name)(_true(be, x) if self.name == "logical_not" else x))


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


def isinf(x: Operand) -> Tensor:
    """Where ``x`` is an infinity of either sign. Source: ONNX operator IsInf.

    Example:
        >>> import lucid
        >>> lucid.isinf(lucid.tensor([0.0, -float("inf")]))
        tensor([False,  True])
    """
    return apply(Test("isinf"), x)


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
        return be.xp.asarray(getattr(be.xp, self.name)(_true(be, x), axis=self.axis, keepdims=self.keepdims))


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
