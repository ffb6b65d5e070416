"""Elementary functions of each element (``ARITHMETIC.md``, sections 5 and 6), and rounding to integers.

Of float32 each result is the nearest to the true value, for every input; of float64 it is within one unit in the last
place. A gradient is composed of operations of the law, in the order in which it is written here.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lucid.backends import Backend
from lucid.core.tensor import Operand, Tensor, as_tensor
from lucid.ops._common import floating, unbroadcast
from lucid.ops._function import Function, apply
from lucid.ops._promotion import operands
from lucid.ops.elementwise import div, mul

__all__ = [
    "acos",
    "arccos",
    "arcsin",
    "arctan",
    "arctan2",
    "asin",
    "atan",
    "atan2",
    "ceil",
    "cos",
    "cosh",
    "cube",
    "erf",
    "exp2",
    "expm1",
    "floor",
    "log1p",
    "log2",
    "round",
    "sin",
    "sinh",
    "tan",
    "tanh",
    "trunc",
]


_LN2 = 0.6931471805599453


class Elementary(Function):
    """A function that the backends know by its name; ``slope(be, dy, kept)`` is the gradient of its argument."""

    floats = True
    keeps_result: ClassVar[bool] = False
    """Whether the gradient is made of the result, and not of the argument."""

    def forward(self, be: Backend, x: Any) -> Any:
        y = be.unary(self.name, x)
        self.saved = (y if self.keeps_result else x,)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (self.slope(be, dy, self.saved[0]),)  # type: ignore[index]

    def slope(self, be: Backend, dy: Any, kept: Any) -> Any:
        raise NotImplementedError


def one(be: Backend, like: Any) -> Any:
    """1 in the dtype of ``like``."""
    return be.number(1.0, like.dtype)


class Exp2(Elementary):
    name = "exp2"
    keeps_result = True

    def slope(self, be: Backend, dy: Any, y: Any) -> Any:
        return be.binary("mul", dy, be.binary("mul", y, be.number(_LN2, y.dtype)))


def exp2(x: Operand) -> Tensor:
    """``2 ** x``.

    Gradient: ``dy * (y * log(2))``. Source: ``torch.exp2``.

    Example:
        >>> import lucid
        >>> lucid.exp2(lucid.tensor([0.0, 1.0]))
        tensor([1., 2.])
    """
    return apply(Exp2(), floating(x))


class Expm1(Elementary):
    name = "expm1"
    keeps_result = True

    def slope(self, be: Backend, dy: Any, y: Any) -> Any:
        return be.binary("mul", dy, be.binary("add", y, one(be, y)))


def expm1(x: Operand) -> Tensor:
    """``e ** x - 1``, precise near 0.

    Gradient: ``dy * (y + 1)``. Source: ``torch.expm1``; fdlibm for the reduction.

    Example:
        >>> import lucid
        >>> lucid.expm1(lucid.tensor([0.0, 1.0]))
        tensor([0.       , 1.7182819])
    """
    return apply(Expm1(), floating(x))


class Log2(Elementary):
    name = "log2"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.binary("div", be.binary("mul", dy, be.number(1.0 / _LN2, x.dtype)), x)


def log2(x: Operand) -> Tensor:
    """The logarithm to base 2; NaN below 0, minus infinity at 0.

    Gradient: ``dy * (1 / log(2)) / x``. Source: ``torch.log2``; fdlibm.

    Example:
        >>> import lucid
        >>> lucid.log2(lucid.tensor([1.0, 8.0]))
        tensor([0., 3.])
    """
    return apply(Log2(), floating(x))


class Log1p(Elementary):
    name = "log1p"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.binary("div", dy, be.binary("add", x, one(be, x)))


def log1p(x: Operand) -> Tensor:
    """``log(1 + x)``, precise near 0; NaN below -1, minus infinity at -1.

    Gradient: ``dy / (x + 1)``. Source: ``torch.log1p``; fdlibm.

    Example:
        >>> import lucid
        >>> lucid.log1p(lucid.tensor([0.0, 1.0]))
        tensor([0.       , 0.6931472])
    """
    return apply(Log1p(), floating(x))


class Sin(Elementary):
    name = "sin"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.binary("mul", dy, be.unary("cos", x))


def sin(x: Operand) -> Tensor:
    """The sine of an angle in radians; NaN of an infinity.

    Gradient: ``dy * cos(x)``. Source: ONNX operator Sin; Payne and Hanek, SIGNUM 18, 1983, for large angles.

    Example:
        >>> import lucid
        >>> lucid.sin(lucid.tensor([0.0, 1.0]))
        tensor([0.        , 0.84147096])
    """
    return apply(Sin(), floating(x))


class Cos(Elementary):
    name = "cos"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.unary("neg", be.binary("mul", dy, be.unary("sin", x)))


def cos(x: Operand) -> Tensor:
    """The cosine of an angle in radians; NaN of an infinity.

    Gradient: ``-(dy * sin(x))``. Source: ONNX operator Cos; as ``sin``.

    Example:
        >>> import lucid
        >>> lucid.cos(lucid.tensor([0.0, 1.0]))
        tensor([1.       , 0.5403023])
    """
    return apply(Cos(), floating(x))


class Tan(Elementary):
    name = "tan"
    keeps_result = True

    def slope(self, be: Backend, dy: Any, y: Any) -> Any:
        return be.binary("mul", dy, be.binary("add", one(be, y), be.unary("square", y)))


def tan(x: Operand) -> Tensor:
    """The tangent of an angle in radians; NaN of an infinity.

    Gradient: ``dy * (1 + y * y)``. Source: ONNX operator Tan; as ``sin``.

    Example:
        >>> import lucid
        >>> lucid.tan(lucid.tensor([0.0, 1.0]))
        tensor([0.       , 1.5574077])
    """
    return apply(Tan(), floating(x))


def _leg(be: Backend, x: Any) -> Any:
    """``sqrt(1 - x^2)`` as that of a product: near 1 and -1, ``x * x`` is rounded to where the difference begins."""
    return be.unary("sqrt", be.binary("mul", be.binary("sub", one(be, x), x), be.binary("add", one(be, x), x)))


class Arcsin(Elementary):
    name = "arcsin"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.binary("div", dy, _leg(be, x))


def arcsin(x: Operand) -> Tensor:
    """The angle from ``-pi / 2`` to ``pi / 2`` whose sine is ``x``; NaN beyond -1 and 1.

    Gradient: ``dy / sqrt((1 - x) * (1 + x))``. Source: ONNX operator Asin; fdlibm.

    Example:
        >>> import lucid
        >>> lucid.arcsin(lucid.tensor([0.0, 1.0]))
        tensor([0.       , 1.5707964])
    """
    return apply(Arcsin(), floating(x))


class Arccos(Elementary):
    name = "arccos"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.unary("neg", be.binary("div", dy, _leg(be, x)))


def arccos(x: Operand) -> Tensor:
    """The angle from 0 to ``pi`` whose cosine is ``x``; NaN beyond -1 and 1.

    Gradient: ``-(dy / sqrt((1 - x) * (1 + x)))``. Source: ONNX operator Acos; fdlibm.

    Example:
        >>> import lucid
        >>> lucid.arccos(lucid.tensor([0.0, 1.0]))
        tensor([1.5707964, 0.       ])
    """
    return apply(Arccos(), floating(x))


class Arctan(Elementary):
    name = "arctan"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.binary("div", dy, be.binary("add", one(be, x), be.unary("square", x)))


def arctan(x: Operand) -> Tensor:
    """The angle from ``-pi / 2`` to ``pi / 2`` whose tangent is ``x``.

    Gradient: ``dy / (1 + x * x)``. Source: ONNX operator Atan; fdlibm.

    Example:
        >>> import lucid
        >>> lucid.arctan(lucid.tensor([0.0, 1.0]))
        tensor([0.       , 0.7853982])
    """
    return apply(Arctan(), floating(x))


class Sinh(Elementary):
    name = "sinh"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.binary("mul", dy, be.unary("cosh", x))


def sinh(x: Operand) -> Tensor:
    """The hyperbolic sine, ``(e ** x - e ** -x) / 2``.

    Gradient: ``dy * cosh(x)``. Source: ONNX operator Sinh.

    Example:
        >>> import lucid
        >>> lucid.sinh(lucid.tensor([0.0, 1.0]))
        tensor([0.       , 1.1752012])
    """
    return apply(Sinh(), floating(x))


class Cosh(Elementary):
    name = "cosh"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.binary("mul", dy, be.unary("sinh", x))


def cosh(x: Operand) -> Tensor:
    """The hyperbolic cosine, ``(e ** x + e ** -x) / 2``.

    Gradient: ``dy * sinh(x)``. Source: ONNX operator Cosh.

    Example:
        >>> import lucid
        >>> lucid.cosh(lucid.tensor([0.0, 1.0]))
        tensor([1.       , 1.5430807])
    """
    return apply(Cosh(), floating(x))


class Tanh(Elementary):
    name = "tanh"
    keeps_result = True

    def slope(self, be: Backend, dy: Any, y: Any) -> Any:
        return be.binary("mul", dy, be.binary("sub", one(be, y), be.unary("square", y)))


def tanh(x: Operand) -> Tensor:
    """The hyperbolic tangent, ``sinh(x) / cosh(x)``.

    Gradient: ``dy * (1 - y * y)``. Source: ONNX operator Tanh.

    Example:
        >>> import lucid
        >>> lucid.tanh(lucid.tensor([0.0, 1.0]))
        tensor([0.       , 0.7615942])
    """
    return apply(Tanh(), floating(x))


class Erf(Elementary):
    name = "erf"

    def slope(self, be: Backend, dy: Any, x: Any) -> Any:
        return be.binary("erf_grad", dy, x)


def erf(x: Operand) -> Tensor:
    """The error function, ``2 / sqrt(pi)`` times the integral of ``e ** (-t * t)`` from 0 to ``x``.

    Gradient: ``dy * (2 / sqrt(pi) * e ** (-x * x))``.
    Source: ONNX operator Erf; Cody, Mathematics of Computation 23, 1969.

    Example:
        >>> import lucid
        >>> lucid.erf(lucid.tensor([0.0, 1.0]))
        tensor([0.       , 0.8427008])
    """
    return apply(Erf(), floating(x))


class Arctan2(Function):
    name = "arctan2"
    floats = True

    def forward(self, be: Backend, y: Any, x: Any) -> Any:
        self.saved = (y, x)
        return be.binary("arctan2", y, x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        y, x = self.saved  # type: ignore[misc]
        needs_y, needs_x = self.needs  # type: ignore[misc]
        share = be.binary("div", dy, be.binary("add", be.unary("square", x), be.unary("square", y)))
        return (
            unbroadcast(be, be.binary("mul", share, x), y.shape) if needs_y else None,
            unbroadcast(be, be.unary("neg", be.binary("mul", share, y)), x.shape) if needs_x else None,
        )


def arctan2(y: Operand, x: Operand) -> Tensor:
    """The angle of the point ``(x, y)`` from ``-pi`` to ``pi``, element by element; of zeros by their signs.

    Args:
        y: a tensor, array or number.
        x: another, whose shape broadcasts with that of ``y``. Integers are converted to the default dtype.

    Returns:
        A tensor of the broadcast shape. Gradients: with ``q = dy / (x * x + y * y)``, ``q * x`` and ``-(q * y)``.

    Raises:
        TypeError: two float dtypes.
        ValueError: the shapes do not broadcast.

    Source: ``torch.atan2``; fdlibm.

    Example:
        >>> import lucid
        >>> lucid.arctan2(lucid.tensor([1.0, 0.0]), lucid.tensor([1.0, -1.0]))
        tensor([0.7853982, 3.1415927])
    """
    a, b = operands("arctan2", y, x)
    return apply(Arctan2(), floating(a), floating(b))


# -- to integers, and the cube ---------------------------------------------------------------------------------------


class Rounding(Function):
    """``round``, ``floor``, ``ceil`` and ``trunc``: floats whose fraction is gone. The gradient is 0."""

    params = ("mode",)
    name = "rounding"

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def forward(self, be: Backend, x: Any) -> Any:
        return be.unary(self.mode, x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.xp.zeros_like(dy),)


def _rounded(mode: str, x: Operand) -> Tensor:
    x = as_tensor(x)
    return apply(Rounding(mode), x) if x.dtype.kind == "f" else x


def round(x: Operand, decimals: int = 0) -> Tensor:
    """The nearest integer, ties to even; with ``decimals`` the nearest multiple of ``10 ** -decimals``.

    Args:
        x: a tensor, array or number; integers are returned as they are, unless ``decimals`` is negative.
        decimals: how many digits stay after the point. Other than 0, ``round(x * 10 ** decimals) / 10 ** decimals``.

    Returns:
        A tensor of the input's shape and dtype. Gradient: 0.

    Source: ONNX operator Round; ``torch.round``.

    Example:
        >>> import lucid
        >>> lucid.round(lucid.tensor([0.5, 1.5, -2.7])), lucid.round(lucid.tensor([1.23]), decimals=1)
        (tensor([ 0.,  2., -3.]), tensor([1.2]))
    """
    if decimals == 0:
        return _rounded("round", x)
    x = floating(x)
    if decimals > 0:
        return div(_rounded("round", mul(x, 10.0**decimals)), 10.0**decimals)
    return mul(_rounded("round", div(x, 10.0**-decimals)), 10.0**-decimals)


def floor(x: Operand) -> Tensor:
    """The largest integer that is not above ``x``, as a float; integers as they are.

    Gradient: 0. Source: ONNX operator Floor.

    Example:
        >>> import lucid
        >>> lucid.floor(lucid.tensor([1.5, -1.5]))
        tensor([ 1., -2.])
    """
    return _rounded("floor", x)


def ceil(x: Operand) -> Tensor:
    """The least integer that is not below ``x``, as a float; integers as they are.

    Gradient: 0. Source: ONNX operator Ceil.

    Example:
        >>> import lucid
        >>> lucid.ceil(lucid.tensor([1.5, -1.5]))
        tensor([ 2., -1.])
    """
    return _rounded("ceil", x)


def trunc(x: Operand) -> Tensor:
    """``x`` without its fraction, as a float; integers as they are. Gradient: 0. Source: ``torch.trunc``.

    Example:
        >>> import lucid
        >>> lucid.trunc(lucid.tensor([1.5, -1.5]))
        tensor([ 1., -1.])
    """
    return _rounded("trunc", x)


class Cube(Function):
    name = "cube"

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        return be.unary("cube", x) if x.dtype.kind == "f" else be.xp.asarray((x * x) * x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved  # type: ignore[misc]
        return (be.binary("mul", dy, be.binary("mul", be.number(3.0, x.dtype), be.unary("square", x))),)


def cube(x: Operand) -> Tensor:
    """``(x * x) * x``. Gradient: ``dy * (3 * (x * x))``. Source: ONNX operator Mul, twice.

    Example:
        >>> import lucid
        >>> lucid.cube(lucid.tensor([2.0, -3.0]))
        tensor([  8., -27.])
    """
    return apply(Cube(), as_tensor(x))


asin = arcsin
acos = arccos
atan = arctan
atan2 = arctan2
