"""Operations on each element, with NumPy's broadcasting (``ARITHMETIC.md``, sections 5 and 6).

Each result is one correctly rounded operation of the backend; a gradient is composed of the same operations, in the
order in which it is written here. Integers and booleans are computed exactly, by the array library itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.backends import Backend
from lucid.core.device import refuse_where
from lucid.core.dtypes import float64, int64
from lucid.core.tensor import Operand, Tensor, as_tensor, wrap
from lucid.ops._common import floating, unbroadcast
from lucid.ops._function import EVERY_INPUT, Function, apply
from lucid.ops._promotion import (
    broadcast_shape,
    cast_to,
    common_dtype,
    is_number,
    number,
    operands,
    out_of_range,
    promoted,
)

__all__ = [
    "abs",
    "add",
    "clamp",
    "clip",
    "div",
    "divide",
    "exp",
    "floor_divide",
    "gelu",
    "log",
    "masked_fill",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "neg",
    "negative",
    "pow",
    "power",
    "reciprocal",
    "relu",
    "remainder",
    "sigmoid",
    "sign",
    "sqrt",
    "square",
    "sub",
    "subtract",
    "where",
]

_INTEGER = {"add": "add", "sub": "subtract", "mul": "multiply", "maximum": "maximum", "minimum": "minimum"}
_INTEGER_UNARY = {"neg": "negative", "abs": "absolute", "square": "square"}


def _binary(be: Backend, op: str, a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return be.binary(op, a, b)
    return be.xp.asarray(getattr(be.xp, _INTEGER[op])(a, b))


def _unary(be: Backend, op: str, x: Any) -> Any:
    if x.dtype.kind == "f":
        return be.unary(op, x)
    if x.dtype.kind == "b" and op == "neg":
        raise TypeError("neg: booleans have no sign; convert them with .astype, or use ~")
    if op == "relu":
        return be.xp.asarray(be.xp.maximum(x, 0).astype(x.dtype))
    return be.xp.asarray(getattr(be.xp, _INTEGER_UNARY[op])(x))


# -- two operands ----------------------------------------------------------------------------------------------------


class Add(Function):
    name = "add"
    may_alias = EVERY_INPUT

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        if self.needs is not None:
            self.shapes = a.shape, b.shape
        return _binary(be, "add", a, b)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        needs_a, needs_b = self.needs  # type: ignore[misc]
        return (
            unbroadcast(be, dy, self.shapes[0]) if needs_a else None,
            unbroadcast(be, dy, self.shapes[1]) if needs_b else None,
        )


def add(a: Operand, b: Operand) -> Tensor:
    """``a + b``.

    Args:
        a: a tensor, array or number.
        b: another, whose shape broadcasts with that of ``a``. A number takes the tensor's dtype.

    Returns:
        A tensor of the broadcast shape. Gradients: ``dy`` for both, summed over broadcast axes.

    Raises:
        TypeError: two float dtypes.
        ValueError: the shapes do not broadcast.

    Source: ONNX operator Add.

    Example:
        >>> import lucid
        >>> lucid.add(lucid.tensor([1.0, 2.0]), 3)
        tensor([4., 5.])
    """
    return apply(Add(), *operands("add", a, b))


class Sub(Function):
    name = "sub"
    may_alias = EVERY_INPUT

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        if self.needs is not None:
            self.shapes = a.shape, b.shape
        if a.dtype.kind == "b":
            raise TypeError("sub: booleans cannot be subtracted; convert them with .astype, or use ~ and &")
        return _binary(be, "sub", a, b)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        needs_a, needs_b = self.needs  # type: ignore[misc]
        return (
            unbroadcast(be, dy, self.shapes[0]) if needs_a else None,
            unbroadcast(be, be.unary("neg", dy), self.shapes[1]) if needs_b else None,
        )


def sub(a: Operand, b: Operand) -> Tensor:
    """``a - b``. Arguments and errors as ``add``.

    Gradients: ``dy`` and ``-dy``. Source: ONNX operator Sub.

    Example:
        >>> import lucid
        >>> lucid.sub(3, lucid.tensor([1.0, 2.0]))
        tensor([2., 1.])
    """
    return apply(Sub(), *operands("sub", a, b))


class Mul(Function):
    name = "mul"

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        needs = self.needs
        if needs is not None:  # each for the other's gradient
            self.saved = (a if needs[1] else None, b if needs[0] else None, a.shape, b.shape)
        return _binary(be, "mul", a, b)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        a, b, a_shape, b_shape = self.saved  # type: ignore[misc]
        needs_a, needs_b = self.needs  # type: ignore[misc]
        return (
            unbroadcast(be, be.binary("mul", dy, b), a_shape) if needs_a else None,
            unbroadcast(be, be.binary("mul", dy, a), b_shape) if needs_b else None,
        )


def mul(a: Operand, b: Operand) -> Tensor:
    """``a * b``, element by element. Arguments and errors as ``add``.

    Gradients: ``dy * b`` and ``dy * a``. Source: ONNX operator Mul.

    Example:
        >>> import lucid
        >>> lucid.mul(lucid.tensor([1.0, 2.0]), lucid.tensor([3.0, 4.0]))
        tensor([3., 8.])
    """
    return apply(Mul(), *operands("mul", a, b))


class Div(Function):
    name = "div"

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        y = be.binary("div", a, b)
        if self.needs is not None:
            self.saved = (a.shape, b, y if self.needs[1] else None)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        shape, b, y = self.saved  # type: ignore[misc]
        needs_a, needs_b = self.needs  # type: ignore[misc]
        q = be.binary("div", dy, b)
        return (
            unbroadcast(be, q, shape) if needs_a else None,
            unbroadcast(be, be.unary("neg", be.binary("mul", q, y)), b.shape) if needs_b else None,
        )


def div(a: Operand, b: Operand) -> Tensor:
    """``a / b``, element by element; integers are converted to the default dtype first. Arguments and errors as
    ``add``.

    Gradients: ``q = dy / b`` and ``-(q * y)``. Source: ONNX operator Div.

    Example:
        >>> import lucid
        >>> lucid.div(lucid.tensor([1.0, 3.0]), 2)
        tensor([0.5, 1.5])
    """
    x, y = operands("div", a, b)
    return apply(Div(), floating(x), floating(y))


class _Extremum(Function):
    """``maximum`` and ``minimum``: the operand taken has the gradient, each half of it where they are equal."""

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        self.saved = (a, b)
        return _binary(be, self.name, a, b)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        a, b = self.saved  # type: ignore[misc]
        needs_a, needs_b = self.needs  # type: ignore[misc]
        xp = be.xp
        shared = xp.where(be.compare("equal", a, b), be.binary("mul", dy, be.number(0.5, dy.dtype)), dy)
        zero = be.number(0.0, dy.dtype)
        less, greater = be.compare("less", a, b), be.compare("greater", a, b)
        a_loses, b_loses = (less, greater) if self.name == "maximum" else (greater, less)
        return (
            unbroadcast(be, xp.where(a_loses, zero, shared), a.shape) if needs_a else None,
            unbroadcast(be, xp.where(b_loses, zero, shared), b.shape) if needs_b else None,
        )


class Maximum(_Extremum):
    name = "maximum"


class Minimum(_Extremum):
    name = "minimum"


def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of ``a`` and ``b``, element by element; NaN if either is. Arguments and errors as ``add``.

    Gradients: ``dy`` where the operand is the larger one, ``dy / 2`` where they are equal, else 0, as PyTorch has it.
    Source: ONNX operator Max.

    Example:
        >>> import lucid
        >>> lucid.maximum(lucid.tensor([1.0, 5.0]), 3)
        tensor([3., 5.])
    """
    return apply(Maximum(), *operands("maximum", a, b))


def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of ``a`` and ``b``, element by element; NaN if either is. Arguments and errors as ``add``.

    Gradients: as ``maximum``. Source: ONNX operator Min.

    Example:
        >>> import lucid
        >>> lucid.minimum(lucid.tensor([1.0, 5.0]), 3)
        tensor([1., 3.])
    """
    return apply(Minimum(), *operands("minimum", a, b))


class Power(Function):
    name = "power"
    params = ("exponent",)

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        return be.power(x, self.exponent)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved  # type: ignore[misc]
        n = self.exponent
        if n == 0:
            return (be.xp.zeros_like(x),)
        slope = be.binary("mul", be.number(n, x.dtype), be.power(x, n - 1))
        return (be.binary("mul", dy, slope),)


class IntegerPower(Function):
    """Of integers: exact, wrapping around where a result leaves the dtype."""

    name = "power"
    differentiable = False

    def forward(self, be: Backend, x: Any, exponent: Any) -> Any:
        def error(place: int, value: float) -> Exception:
            return ValueError(
                f"power: got the exponent {int(value)} at position {place} for integers; may be 0 or more "
                "(convert one operand with .astype)"
            )

        refuse_where(be, (exponent < 0).reshape(-1), exponent.reshape(-1), error)
        with np.errstate(all="ignore"):
            return be.xp.asarray(be.xp.power(x, be.xp.maximum(exponent, 0).astype(x.dtype)))


class PowerOf(Function):
    """``a ** b`` of float tensors. Gradients are composed in float64, and rounded once."""

    name = "power_of"

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        self.saved = (a, b)
        return be.binary("power", a, b)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        a, b = self.saved  # type: ignore[misc]
        needs_a, needs_b = self.needs  # type: ignore[misc]
        x, n, dz = be.convert(a, float64), be.convert(b, float64), be.convert(dy, float64)
        zero = be.number(0.0, float64)
        da = db = None
        if needs_a:
            slope = be.binary("mul", n, be.binary("power", x, be.binary("sub", n, be.number(1.0, float64))))
            da = be.xp.where(n == 0, zero, be.binary("mul", dz, slope))
        if needs_b:
            slope = be.binary("mul", be.binary("power", x, n), be.unary("log", x))
            db = be.xp.where((x == 0) & (n >= 0), zero, be.binary("mul", dz, slope))
        return tuple(
            None if grad is None else unbroadcast(be, self._narrowed(be, grad, dy.dtype), like.shape)
            for grad, like in ((da, a), (db, b))
        )

    @staticmethod
    def _narrowed(be: Backend, x: Any, dtype: Any) -> Any:
        with np.errstate(all="ignore"):  # infinity is a result here
            return be.convert(x, dtype)


def power(x: Operand, exponent: Operand) -> Tensor:
    """``x ** exponent``, element by element.

    Of special numbers what C's ``pow`` has: ``x ** 0`` and ``1 ** exponent`` are 1, whatever the other is; a negative
    number to an exponent that is not whole is NaN.

    Args:
        x: a tensor, array or number.
        exponent: another, whose shape broadcasts with that of ``x``. Of integers to integers the power is exact and
            wraps around, and exponents may be 0 or more; with a float among them both become floats. A Python number
            is taken in float64.

    Returns:
        A tensor of the broadcast shape: of float32 the nearest, of float64 within 1 ulp. Gradients:
        ``dy * (n * x ** (n - 1))``, 0 for ``n = 0``; to an exponent ``dy * (y * log(x))``, 0 for ``x = 0``
        and ``n >= 0``.

    Raises:
        TypeError: two float dtypes; something that is no operand.
        ValueError: shapes that do not broadcast; an integer to a negative integer.

    Source: ONNX operator Pow.

    Example:
        >>> import lucid
        >>> lucid.power(lucid.tensor([1.0, 2.0, 3.0]), 3), 2 ** lucid.tensor([3, 62])
        (tensor([ 1.,  8., 27.]), tensor([                  8, 4611686018427387904]))
    """
    if isinstance(exponent, np.generic):
        exponent = exponent.item()
    alone = isinstance(exponent, Tensor) and exponent._array.ndim == 0 and not exponent.requires_grad
    if alone and isinstance(x, Tensor) and common_dtype("power", x, exponent) == x.dtype and x.dtype.kind == "f":
        exponent = float(exponent.item())  # type: ignore[union-attr]
    if is_number(exponent):
        x = as_tensor(x)
        if x.dtype.kind == "f" or isinstance(exponent, float):
            return apply(Power(_float("power", exponent, x)), floating(x))
        if exponent < 0:
            raise ValueError(
                f"exponent: got {exponent} for integers; may be 0 or more (convert the integers with .astype)"
            )
    x, n = operands("power", x, exponent)
    if x.dtype.kind == "b":
        return apply(IntegerPower(), cast_to(x, int64), cast_to(n, int64)).astype(bool)
    return apply(PowerOf() if x.dtype.kind == "f" else IntegerPower(), x, n)


def _float(name: str, value: Any, like: Tensor) -> float:
    try:
        return float(value)
    except OverflowError:
        raise out_of_range(name, value, like.dtype) from None


class FloorDivide(Function):
    name = "floor_divide"

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        self.shapes = a.shape, b.shape
        if a.dtype.kind == "f":
            return _divmod(be, a, b)[0]
        _refuse_zero(be, self.name, b)
        with np.errstate(all="ignore"):
            return be.xp.asarray(be.xp.floor_divide(a, b))

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return tuple([be.xp.zeros(shape, dy.dtype) for shape in self.shapes])


class Remainder(Function):
    name = "remainder"

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        self.saved = (a.shape, a, b)
        if a.dtype.kind == "f":
            return _divmod(be, a, b)[1]
        _refuse_zero(be, self.name, b)
        with np.errstate(all="ignore"):
            return be.xp.asarray(be.xp.remainder(a, b))

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        shape, a, b = self.saved  # type: ignore[misc]
        needs_a, needs_b = self.needs  # type: ignore[misc]
        db = be.unary("neg", be.binary("mul", dy, _divmod(be, a, b)[0])) if needs_b else None
        return unbroadcast(be, dy.copy(), shape) if needs_a else None, None if db is None else unbroadcast(
            be, db, b.shape
        )


def _divmod(be: Backend, a: Any, b: Any) -> tuple[Any, Any]:
    """Floor of the quotient, and the remainder with the sign of ``b``, of floats.

    ``fmod`` is exact, and each other step is one rounding of the law; so it is Python's ``divmod``, but that division
    by 0 gives what ``/`` gives, and NaN.
    """
    xp = be.xp
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = (xp.broadcast_to(part, shape).copy() for part in (a, b))
    zero, one, half = (be.number(value, a.dtype) for value in (0.0, 1.0, 0.5))

    def exactly(function: Any, *arrays: Any) -> Any:
        """A function whose result the dtype holds, in float64: CuPy's own kernels drop subnormals of float32."""
        with np.errstate(all="ignore"):
            return be.convert(xp.asarray(function(*[be.convert(array, float64) for array in arrays])), a.dtype)

    def chosen(condition: Any, yes: Any, no: Any) -> Any:
        return xp.asarray(xp.where(condition, yes, no))

    negative = be.compare("less", b, zero)
    rest = exactly(xp.fmod, a, b)
    turned = be.compare("not_equal", rest, zero) & (negative != be.compare("less", rest, zero))
    whole = be.binary("div", be.binary("sub", a, rest), b)
    whole = chosen(turned, be.binary("sub", whole, one), whole)
    floor = exactly(xp.floor, whole)
    up = be.compare("greater", be.binary("sub", whole, floor), half)
    floor = chosen(up, be.binary("add", floor, one), floor)
    quotient = be.binary("div", a, b)
    floor = chosen(be.compare("equal", whole, zero), exactly(xp.copysign, xp.zeros_like(a), quotient), floor)
    same = chosen(be.compare("equal", rest, zero), exactly(xp.copysign, xp.zeros_like(a), b), rest)
    rest = chosen(turned, be.binary("add", rest, b), same)
    return chosen(be.compare("equal", b, zero), quotient, floor), rest


def _refuse_zero(be: Backend, name: str, divisor: Any) -> None:
    def error(place: int, value: float) -> Exception:
        return ZeroDivisionError(f"{name}: got the integer divisor 0 at position {place}")

    flat = divisor.reshape(-1)
    refuse_where(be, flat == 0, flat, error)


def floor_divide(a: Operand, b: Operand) -> Tensor:
    """``a // b``: the quotient rounded down, as Python has it. Arguments and errors as ``add``.

    Of floats, division by 0 is that of ``/``. Gradients: 0.

    Raises:
        ZeroDivisionError: an integer divisor is 0. For tensors on a GPU it comes when a value is next read from there.
        TypeError: booleans alone.

    Source: Python's ``//``.

    Example:
        >>> import lucid
        >>> lucid.floor_divide(lucid.tensor([7, -7]), 2)
        tensor([ 3, -4])
    """
    return apply(FloorDivide(), *_numeric("floor_divide", a, b))


def remainder(a: Operand, b: Operand) -> Tensor:
    """``a % b``: ``a - (a // b) * b``, exactly, with the sign of ``b``. Arguments and errors as ``floor_divide``.

    Of floats, the remainder by 0 is NaN. Gradients: ``dy`` and ``-(dy * (a // b))``. Source: Python's ``%``; ONNX
    operator Mod for integers.

    Example:
        >>> import lucid
        >>> lucid.remainder(lucid.tensor([7, -7]), 2)
        tensor([1, 1])
    """
    return apply(Remainder(), *_numeric("remainder", a, b))


def _numeric(name: str, a: Operand, b: Operand) -> tuple[Tensor, Tensor]:
    x, y = operands(name, a, b)
    if x.dtype.kind == "b":
        raise TypeError(f"{name}: got booleans alone; convert one with .astype")
    return x, y


# -- one operand -----------------------------------------------------------------------------------------------------


class Neg(Function):
    name = "neg"

    def forward(self, be: Backend, x: Any) -> Any:
        return _unary(be, "neg", x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.unary("neg", dy),)


def neg(x: Operand) -> Tensor:
    """``-x``. Gradient: ``-dy``. Source: ONNX operator Neg.

    Example:
        >>> import lucid
        >>> lucid.neg(lucid.tensor([1.0, -2.0]))
        tensor([-1.,  2.])
    """
    return apply(Neg(), x)


class Abs(Function):
    name = "abs"

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        return _unary(be, "abs", x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved  # type: ignore[misc]
        return (be.binary("mul", dy, be.sign(x)),)


def abs(x: Operand) -> Tensor:
    """``|x|``. Gradient: ``dy * sign(x)``, so 0 at 0. Source: ONNX operator Abs.

    Example:
        >>> import lucid
        >>> lucid.abs(lucid.tensor([1.0, -2.0]))
        tensor([1., 2.])
    """
    return apply(Abs(), x)


class Sign(Function):
    name = "sign"

    def forward(self, be: Backend, x: Any) -> Any:
        if x.dtype.kind == "b":
            raise TypeError("sign: booleans have no sign; convert them with .astype")
        return be.sign(x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.xp.zeros_like(dy),)


def sign(x: Operand) -> Tensor:
    """-1, 0 or 1 by the sign of ``x``; NaN for NaN. Gradient: 0. Source: ONNX operator Sign.

    Example:
        >>> import lucid
        >>> lucid.sign(lucid.tensor([3.0, 0.0, -2.0]))
        tensor([ 1.,  0., -1.])
    """
    return apply(Sign(), x)


class Sqrt(Function):
    name = "sqrt"

    def forward(self, be: Backend, x: Any) -> Any:
        y = be.unary("sqrt", x)
        self.saved = (y,)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (y,) = self.saved  # type: ignore[misc]
        return (be.binary("div", dy, be.binary("mul", be.number(2.0, y.dtype), y)),)


def sqrt(x: Operand) -> Tensor:
    """The square root; NaN below 0. Gradient: ``dy / (2 * y)``. Source: ONNX operator Sqrt.

    Example:
        >>> import lucid
        >>> lucid.sqrt(lucid.tensor([4.0, 9.0]))
        tensor([2., 3.])
    """
    return apply(Sqrt(), floating(x))


class Square(Function):
    name = "square"

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        return _unary(be, "square", x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved  # type: ignore[misc]
        return (be.binary("mul", dy, be.binary("mul", be.number(2.0, x.dtype), x)),)


def square(x: Operand) -> Tensor:
    """``x * x``. Gradient: ``dy * (2 * x)``. Source: ONNX operator Mul of a value with itself.

    Example:
        >>> import lucid
        >>> lucid.square(lucid.tensor([2.0, -3.0]))
        tensor([4., 9.])
    """
    return apply(Square(), x)


class Reciprocal(Function):
    name = "reciprocal"

    def forward(self, be: Backend, x: Any) -> Any:
        y = be.unary("reciprocal", x)
        self.saved = (y,)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (y,) = self.saved  # type: ignore[misc]
        return (be.unary("neg", be.binary("mul", dy, be.unary("square", y))),)


def reciprocal(x: Operand) -> Tensor:
    """``1 / x``. Gradient: ``-(dy * (y * y))``. Source: ONNX operator Reciprocal.

    Example:
        >>> import lucid
        >>> lucid.reciprocal(lucid.tensor([2.0, 4.0]))
        tensor([0.5 , 0.25])
    """
    return apply(Reciprocal(), floating(x))


class Exp(Function):
    name = "exp"

    def forward(self, be: Backend, x: Any) -> Any:
        y = be.unary("exp", x)
        self.saved = (y,)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (y,) = self.saved  # type: ignore[misc]
        return (be.binary("mul", dy, y),)


def exp(x: Operand) -> Tensor:
    """``e ** x``. Gradient: ``dy * y``. Source: ONNX operator Exp; fdlibm.

    Example:
        >>> import lucid
        >>> lucid.exp(lucid.tensor([0.0, 1.0]))
        tensor([1.       , 2.7182817])
    """
    return apply(Exp(), floating(x))


class Log(Function):
    name = "log"

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        return be.unary("log", x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved  # type: ignore[misc]
        return (be.binary("div", dy, x),)


def log(x: Operand) -> Tensor:
    """The natural logarithm; NaN below 0, minus infinity at 0. Gradient: ``dy / x``. Source: ONNX operator Log; fdlibm.

    Example:
        >>> import lucid
        >>> lucid.log(lucid.tensor([1.0, 2.0]))
        tensor([0.       , 0.6931472])
    """
    return apply(Log(), floating(x))


class Sigmoid(Function):
    name = "sigmoid"

    def forward(self, be: Backend, x: Any) -> Any:
        y = be.unary("sigmoid", x)
        self.saved = (y,)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (y,) = self.saved  # type: ignore[misc]
        slope = be.binary("mul", be.binary("sub", be.number(1.0, y.dtype), y), y)
        return (be.binary("mul", dy, slope),)


def sigmoid(x: Operand) -> Tensor:
    """``1 / (1 + e ** -x)``. Gradient: ``dy * ((1 - y) * y)``. Source: ONNX operator Sigmoid.

    Example:
        >>> import lucid
        >>> lucid.sigmoid(lucid.tensor([0.0]))
        tensor([0.5])
    """
    return apply(Sigmoid(), floating(x))


class Relu(Function):
    name = "relu"

    def forward(self, be: Backend, x: Any) -> Any:
        y = be.unary("relu", x) if x.dtype.kind == "f" else _unary(be, "relu", x)
        self.saved = (y,)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        # The result is positive or NaN exactly where the input is, and unlike the input the next layer keeps it anyway.
        return (be.binary("relu_grad", dy, self.saved[0]),)  # type: ignore[index]


def relu(x: Operand) -> Tensor:
    """``x`` where it is positive (or NaN), else 0. Gradient: ``dy`` where ``x`` is positive (or NaN), else 0.

    Source: ONNX operator Relu; Nair and Hinton, ICML 2010.

    Example:
        >>> import lucid
        >>> lucid.relu(lucid.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """
    return apply(Relu(), x)


class Gelu(Function):
    name = "gelu"
    params = ("approximate",)
    floats = True

    def __init__(self, approximate: str) -> None:
        self.approximate = approximate
        self.kernel = {"none": "gelu", "tanh": "gelu_tanh"}[approximate]

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        return be.unary(self.kernel, x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved  # type: ignore[misc]
        return (be.binary(f"{self.kernel}_grad", dy, x),)


def gelu(input: Operand, approximate: str = "none") -> Tensor:
    """The Gaussian error linear unit, ``x * cdf(x)``, where ``cdf`` is the normal distribution's.

    Args:
        input: a tensor; integers are converted to the default dtype.
        approximate: ``"none"``, or ``"tanh"`` for ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))``.

    Returns:
        A tensor of the input's shape, 0 at minus infinity. Gradient: ``dy * (cdf(x) + x * cdf'(x))``, or ``dy`` times
        the derivative of the other formula; each is computed in float64 and rounded once.

    Raises:
        ValueError: another ``approximate``.

    Source: ONNX operator Gelu; Hendrycks and Gimpel, arXiv 1606.08415.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.gelu(lucid.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.15865526,  0.        ,  0.8413448 ])
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate: got {approximate!r}; may be 'none' or 'tanh'")
    return apply(Gelu(approximate), floating(input))


class Clip(Function):
    name = "clip"
    params = ("min_value", "max_value")

    def __init__(self, min_value: float | None, max_value: float | None) -> None:
        self.min_value = min_value
        self.max_value = max_value

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        y = x
        if self.min_value is not None:
            y = _binary(be, "maximum", y, be.number(self.min_value, x.dtype))
        if self.max_value is not None:
            y = _binary(be, "minimum", y, be.number(self.max_value, x.dtype))
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved  # type: ignore[misc]
        inside = x == x
        if self.min_value is not None:
            inside &= be.compare("greater_equal", x, be.number(self.min_value, x.dtype))
        if self.max_value is not None:
            inside &= be.compare("less_equal", x, be.number(self.max_value, x.dtype))
        return (be.xp.where(inside, dy, be.number(0.0, dy.dtype)),)


class ClipBetween(Function):
    """``clip`` whose bounds are tensors (None: open)."""

    name = "clip_between"

    def forward(self, be: Backend, x: Any, low: Any, high: Any) -> Any:
        self.saved = (x, low, high)
        y = x if low is None else _binary(be, "maximum", x, low)
        return y if high is None else _binary(be, "minimum", y, high)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        x, low, high = self.saved  # type: ignore[misc]
        needs_x, needs_low, needs_high = self.needs  # type: ignore[misc]
        below = False if low is None else be.compare("less", x, low)
        above = False if high is None else be.compare("greater", x, high)
        both = low is not None and high is not None
        crossed = be.compare("less", high, low) if both else False
        open_ = be.compare("less", low, high) if both else True
        outside = (x != x) | below | above

        def where(taken: Any, like: Any) -> Any:
            return unbroadcast(be, be.xp.where(taken, dy, be.number(0.0, dy.dtype)), like.shape)

        return (
            where(~outside, x) if needs_x else None,
            where(below & open_, low) if needs_low else None,
            where(above | crossed, high) if needs_high else None,
        )


def clip(x: Operand, min_value: Operand | None = None, max_value: Operand | None = None) -> Tensor:
    """``minimum(maximum(x, min_value), max_value)``; None leaves a side open.

    Args:
        x: a tensor.
        min_value: a number, or a tensor whose shape broadcasts with that of ``x``.
        max_value: likewise. Integers between float bounds become floats.

    Returns:
        A tensor. Gradients: to ``x`` where ``min_value <= x <= max_value``; to ``min_value`` where ``x`` is below it,
        and to ``max_value`` where ``x`` is above it; where the bounds are crossed all of it goes to ``max_value``,
        whose value is taken; where they are equal ``min_value`` has none; else 0.

    Raises:
        ValueError: both bounds are None; shapes that do not broadcast.
        TypeError: two float dtypes; a bound that is no number.

    Source: ONNX operator Clip; ``torch.clamp`` for the gradients.

    Example:
        >>> import lucid
        >>> lucid.clip(lucid.tensor([-1.0, 0.5, 2.0]), 0, 1)
        tensor([0. , 0.5, 1. ])
    """
    if min_value is None and max_value is None:
        raise ValueError("clip: got neither min_value nor max_value; needs at least one")
    x = as_tensor(x)
    bounds: list[Any] = [
        None if b is None else b.item() if isinstance(b, np.generic) else b for b in (min_value, max_value)
    ]
    if all(b is None or is_number(b) for b in bounds):
        dtype = common_dtype("clip", x, *[b for b in bounds if b is not None])
        x = cast_to(x, dtype)
        if dtype.kind != "f":
            bounds = _bounds_within(x, *bounds)
        return apply(Clip(*bounds), x)
    x, *given = promoted("clip", x, *[b for b in bounds if b is not None])
    broadcast_shape("clip", x.shape, *[b.shape for b in given])
    return apply(ClipBetween(), x, *[None if b is None else given.pop(0) for b in bounds])


def _bounds_within(x: Tensor, low: Any, high: Any) -> list[Any]:
    """Integer bounds that the dtype of ``x`` holds; one that no value can pass is none."""
    if x.dtype.kind == "b":
        return [low, high]
    info = np.iinfo(x.dtype)
    if (low is not None and low > info.max) or (high is not None and high < info.min):
        raise out_of_range("clip", low if low is not None and low > info.max else high, x.dtype)
    if low is not None and low < info.min:
        low = info.min
    if high is not None and high > info.max:
        high = info.max
    return [low, high]


# -- choices ---------------------------------------------------------------------------------------------------------


class Where(Function):
    name = "where"
    any_dtype_inputs = (0,)

    def forward(self, be: Backend, condition: Any, a: Any, b: Any) -> Any:
        self.saved = (condition, a.shape, b.shape)
        return be.xp.asarray(be.xp.where(condition, a, b))

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        condition, a, b = self.saved  # type: ignore[misc]
        _, needs_a, needs_b = self.needs  # type: ignore[misc]
        zero = be.number(0.0, dy.dtype)
        return (
            None,
            unbroadcast(be, be.xp.where(condition, dy, zero), a) if needs_a else None,
            unbroadcast(be, be.xp.where(condition, zero, dy), b) if needs_b else None,
        )


def where(condition: Any, a: Operand, b: Operand) -> Tensor:
    """``a`` where ``condition`` is true, else ``b``.

    Args:
        condition: a boolean tensor or array; its shape broadcasts with those of ``a`` and ``b``.
        a: a tensor, array or number.
        b: another. Two float dtypes are an error.

    Returns:
        Gradients: ``dy`` where the operand was taken, else 0.

    Raises:
        TypeError: the condition is not boolean; two float dtypes.
        ValueError: the shapes do not broadcast.

    Source: ONNX operator Where.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([1.0, -2.0])
        >>> lucid.where(x > 0, x, 0)
        tensor([1., 0.])
    """
    mask = _mask("where", condition, a if isinstance(a, Tensor) else b)
    x, y = operands("where", a, b)
    broadcast_shape("where", mask.shape, x.shape, y.shape)
    return apply(Where(), mask, x, y)


def _mask(name: str, condition: Any, like: Any) -> Tensor:
    device = like.device if isinstance(like, Tensor) and not isinstance(condition, Tensor) else None
    mask = as_tensor(condition, device=device)
    if mask.dtype.kind != "b":
        raise TypeError(f"{name}: got a condition of dtype {mask.dtype}; must be boolean")
    return mask


def masked_fill(x: Tensor, mask: Any, value: float) -> Tensor:
    """``x`` with ``value`` where ``mask`` is true.

    Args:
        x: a tensor.
        mask: a boolean tensor whose shape broadcasts to that of ``x``.
        value: a number, which takes the dtype of ``x``.

    Returns:
        Gradient: ``dy`` where the mask is false, else 0.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: its shape does not broadcast to that of ``x``.

    Source: ONNX operator Where.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([1.0, -2.0])
        >>> lucid.masked_fill(x, x < 0, 9)
        tensor([1., 9.])
    """
    x = as_tensor(x)
    condition = _mask("masked_fill", mask, x)
    if broadcast_shape("masked_fill", x.shape, condition.shape) != x.shape:
        raise ValueError(f"masked_fill: a mask of shape {condition.shape} does not broadcast to shape {x.shape}")
    return apply(Where(), condition, wrap(number(x, value, x.dtype), x.device), x)


multiply = mul
divide = div
subtract = sub
negative = neg
pow = power
clamp = clip
