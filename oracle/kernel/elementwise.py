"""Operations on elements: functions of one tensor, and of two that are broadcast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.operation import Argument, Attributes, KernelOperation, Made, Shape, Sizes

# One element, primes, just past whole vectors and tiles, many.
LENGTHS = ((1,), (2,), (7,), (3, 5), (17,), (33,), (4, 65), (129,), (2, 257), (1025,), (97, 67), (0,), (3, 0), (20011,))
PAIRS: tuple[tuple[Shape, Shape], ...] = (
    ((1,), (1,)),
    ((3,), (3,)),
    ((3, 5), (5,)),
    ((4, 1), (1, 7)),
    ((17, 33), (17, 33)),
    ((2, 1, 5), (3, 1)),
    ((129,), (1,)),
    ((65, 257), (257,)),
    ((257, 65), (257, 1)),
    ((65, 65), (65, 1)),
    ((33, 33), (33,)),
    ((0, 3), (3,)),
    ((4, 1), (0,)),
    ((97, 131), (97, 131)),
)

_ERF = np.frompyfunc(math.erf, 1, 1)
_FUNCTION = ("span", "zeros", "special", "strided")
_DRAWS = ("span", "zeros", "special", "subnormal", "strided")


def erf(x: Array) -> Array:
    """The error function of float64."""
    return np.asarray(_ERF(x), np.float64)


def _unary(
    name: str,
    forward: Callable[..., Bounded],
    backward: Callable[..., Bounded] | None,
    **more: Any,
) -> KernelOperation:
    """A function of one tensor; ``backward`` takes dy, x, y and the attributes."""

    def gradients(dy: Bounded, inputs: list[Bounded], y: Bounded, **attributes: Any) -> Made:
        assert backward is not None
        return {0: backward(dy, inputs[0], y, **attributes)}

    given: dict[str, Any] = {"draws": _DRAWS, "argument": Argument("x")} | more
    argument = given.pop("argument")
    return KernelOperation(
        name,
        (argument,),
        lambda inputs, **attributes: forward(inputs[0], **attributes),
        None if backward is None else gradients,
        lambda attributes: LENGTHS,
        lambda sizes, attributes: (sizes,),
        **given,
    )


def _relu_gradient(dy: Bounded, x: Bounded, y: Bounded) -> Bounded:
    """At zero either side's slope is a gradient."""
    made = dy.where(x.value > 0, 0.0)
    return made.with_error(np.where(x.value == 0, np.abs(dy.value), 0.0))


def sigmoid(x: Bounded) -> Bounded:
    """Where ``exp(-x)`` is infinite, the quotient is 0, as it should be, and has no error of its own."""
    y = 1.0 / ((-x).exp() + 1.0)
    return Bounded(y.of, y.value, np.where(np.isfinite(y.error), y.error, 4 * y.of.unit * np.abs(y.value)), y.pending)


def _gelu(x: Bounded, approximate: str) -> Bounded:
    if approximate == "tanh":
        return (x * (_tanh(_inner(x)) + 1.0)).halved()
    return x * _phi(x)


def _phi(x: Bounded) -> Bounded:
    """``(1 + erf(x / sqrt 2)) / 2``, the distribution function of the normal distribution."""
    z = x * x.of.constant(1 / math.sqrt(2))
    return (_erf(z) + 1.0).halved()


def _erf(x: Bounded) -> Bounded:
    """In GELU 1 is added to it, so that libraries keep its error small against 1, not against the value: Abramowitz and
    Stegun's 7.1.26, which oneDNN takes, is off by 1.5e-7 in exact arithmetic, 2.5 roundings of
    float32, and by an exponential's and a polynomial's roundings."""
    made = x.function(erf(x.value), 2 / math.sqrt(math.pi) * np.exp(-np.square(x.value)))
    return made.with_error(8 * x.of.unit)


def _tanh(x: Bounded) -> Bounded:
    value = np.tanh(x.value)
    return x.function(value, 1 - value * value)


def _inner(x: Bounded) -> Bounded:
    return (x + x * x * x * x.of.constant(0.044715)) * x.of.constant(math.sqrt(2 / math.pi))


def _gelu_gradient(dy: Bounded, x: Bounded, y: Bounded, approximate: str) -> Bounded:
    if approximate == "tanh":
        t = _tanh(_inner(x))
        slope = (1.0 - t * t) * (x * x * x.of.constant(3 * 0.044715) + 1.0) * x.of.constant(math.sqrt(2 / math.pi))
        return dy * ((t + 1.0).halved() + (x * slope).halved())
    density = (-(x * x).halved()).exp() * x.of.constant(1 / math.sqrt(2 * math.pi))
    return dy * (_phi(x) + x * density)


def _check_gelu(attributes: Attributes) -> None:
    if attributes["approximate"] not in ("none", "tanh"):
        raise UsageError(f"approximate: got {attributes['approximate']!r}; may be 'none' or 'tanh'")


def _bounds(min_value: float | None, max_value: float | None) -> tuple[float, float]:
    return -math.inf if min_value is None else min_value, math.inf if max_value is None else max_value


def _clip(x: Bounded, min_value: float | None, max_value: float | None) -> Bounded:
    clipped = np.clip(x.value, *_bounds(min_value, max_value))
    return x.where((clipped == x.value) | np.isnan(x.value), clipped)


def _clip_gradient(dy: Bounded, x: Bounded, y: Bounded, min_value: float | None, max_value: float | None) -> Bounded:
    low, high = _bounds(min_value, max_value)
    edge = (x.value == low) | (x.value == high)
    return dy.where((x.value > low) & (x.value < high), 0.0).with_error(np.where(edge, np.abs(dy.value), 0.0))


def _power(x: Bounded, exponent: float) -> Bounded:
    with np.errstate(all="ignore"):
        value = np.power(x.value, exponent)
        slope = exponent * np.power(x.value, exponent - 1)
    made = x.function(value, slope, 2 * abs(exponent) + 4)
    if abs(exponent) <= 2:
        return made
    return made.with_error(2 * made.of.stored * np.abs(value))  # products that are stored


def _power_gradient(dy: Bounded, x: Bounded, y: Bounded, exponent: float) -> Bounded:
    return dy * (_power(x, exponent - 1) * exponent)


def _abs_gradient(dy: Bounded, x: Bounded, y: Bounded) -> Bounded:
    made = Bounded(dy.of, dy.value * np.sign(x.value), dy.error, dy.pending)
    return made.with_error(np.where(x.value == 0, np.abs(dy.value), 0.0))


def _leaky_gradient(dy: Bounded, x: Bounded, y: Bounded, negative_slope: float) -> Bounded:
    """At zero either side's slope is a gradient."""
    made = dy.where(x.value > 0, 0.0) + (dy * x.of.constant(negative_slope)).where(x.value <= 0, 0.0)
    return made.with_error(np.where(x.value == 0, np.abs(dy.value), 0.0))


def _silu(x: Bounded) -> Bounded:
    return x * sigmoid(x)


def _smooth(
    name: str, value: Callable[[Array], Array], slope: Callable[[Array], Array], **more: Any
) -> KernelOperation:
    """An elementary function from its value and its slope, which is a function that a kernel computes, too."""

    def forward(x: Bounded) -> Bounded:
        return x.function(value(x.value), slope(x.value))

    def backward(dy: Bounded, x: Bounded, y: Bounded) -> Bounded:
        step = 1e-4 * np.maximum(np.abs(x.value), 1.0)
        bend = (slope(x.value + step) - slope(x.value - step)) / (2 * step)
        made = x.function(slope(x.value), bend, 16.0)
        return dy * made.with_error(8 * x.of.unit)

    return _unary(name, forward, backward, **{"draws": _FUNCTION} | more)


def _function(
    name: str, value: Callable[[Array], Array], slope: Callable[..., Bounded], **more: Any
) -> KernelOperation:
    """An elementary function from its value; ``slope`` takes x and y and is written as a kernel computes it."""

    def forward(x: Bounded) -> Bounded:
        return x.function(value(x.value), np.zeros(()))  # of an input, which has no error

    return _unary(name, forward, lambda dy, x, y: dy * slope(x, y.stored()), **{"draws": _FUNCTION} | more)


def _inverse(x: Bounded) -> Bounded:
    """The slope of the arc sine."""
    return (1.0 - x * x).rsqrt()


_POSITIVE: dict[str, Any] = {"argument": Argument("x", "positive"), "span": (1e-6, 1e6), "draws": ("span", "strided")}
_FRACTION: dict[str, Any] = {"argument": Argument("x", "fraction"), "span": (-0.9, 0.9), "draws": ("span", "strided")}

ELEMENTARY = (
    _unary(
        "erf",
        _erf,
        lambda dy, x, y: dy * ((-(x * x)).exp() * x.of.constant(2 / math.sqrt(math.pi))),
        draws=_FUNCTION,
        constants=1.0,
    ),
    _function("exp2", np.exp2, lambda x, y: y * x.of.constant(math.log(2))),
    _function("expm1", np.expm1, lambda x, y: y + 1.0),
    _function("log2", np.log2, lambda x, y: 1.0 / (x * x.of.constant(math.log(2))), **_POSITIVE),
    _function("log1p", np.log1p, lambda x, y: 1.0 / (x + 1.0), **_POSITIVE),
    _function("tan", np.tan, lambda x, y: y * y + 1.0, **_FRACTION | {"span": (-1.5, 1.5)}),
    _function("arcsin", np.arcsin, lambda x, y: _inverse(x), **_FRACTION),
    _function("arccos", np.arccos, lambda x, y: -_inverse(x), **_FRACTION),
    _function("arctan", np.arctan, lambda x, y: 1.0 / (x * x + 1.0)),
    _function("sinh", np.sinh, lambda x, y: x.function(np.cosh(x.value), np.zeros(()))),
    _function("cosh", np.cosh, lambda x, y: x.function(np.sinh(x.value), np.zeros(()))),
)
UNARY = (
    *ELEMENTARY,
    _smooth("sin", np.sin, np.cos, draws=("span", "zeros", "nan", "strided")),
    _smooth("cos", np.cos, lambda x: -np.sin(x), draws=("span", "zeros", "nan", "strided")),
    _unary("exp", lambda x: x.exp(), lambda dy, x, y: dy * y.stored(), span=(-20.0, 20.0), draws=_FUNCTION),
    _unary(
        "log",
        lambda x: x.log(),
        lambda dy, x, y: dy / x,
        argument=Argument("x", "positive"),
        span=(1e-6, 1e6),
        draws=("span", "edges", "strided"),
        edges=(0.0, -1.0, math.inf, math.nan, 1.0),
    ),
    _unary(
        "sqrt",
        lambda x: x.sqrt(),
        lambda dy, x, y: dy / (y.stored() * 2.0),
        argument=Argument("x", "positive"),
        span=(1e-6, 1e6),
        draws=("span", "edges", "strided"),
        edges=(0.0, -1.0, math.inf, math.nan, 1.0),
    ),
    _unary("square", lambda x: x * x, lambda dy, x, y: dy * (x * 2.0), zeros=True, whole=False),
    _unary(
        "reciprocal",
        lambda x: x.of.exact(1.0).divided(x),
        lambda dy, x, y: -(dy * (y.stored() * y.stored())),
        argument=Argument("x", "positive"),
        span=(1e-3, 1e3),
        draws=("span", "strided"),
    ),
    _unary("negative", lambda x: -x, lambda dy, x, y: -dy, zeros=True),
    _unary("abs", lambda x: Bounded(x.of, np.abs(x.value), x.error, x.pending), _abs_gradient, zeros=True),
    _unary("relu", lambda x: x.maximum(0.0), _relu_gradient, whole=True),
    _unary(
        "sigmoid",
        sigmoid,
        lambda dy, x, y: dy * ((1.0 - y.stored()) * y.stored()),
        span=(-30.0, 30.0),
        draws=_FUNCTION,
    ),
    _unary("tanh", _tanh, lambda dy, x, y: dy * (1.0 - y.stored() * y.stored()), draws=_FUNCTION),
    _unary(
        "gelu",
        _gelu,
        _gelu_gradient,
        attributes={"approximate": "none"},
        check=_check_gelu,
        draws=("span", "zeros", "nan", "strided"),
        constants=1.0,
    ),
    _unary(
        "silu",
        _silu,
        lambda dy, x, y: dy * (sigmoid(x) * (x * (1.0 - sigmoid(x)) + 1.0)),
        draws=("span", "nan", "strided"),
    ),
    _unary(
        "leaky_relu",
        lambda x, negative_slope: (
            x.where(x.value > 0, 0.0) + (x * x.of.constant(negative_slope)).where(x.value <= 0, 0.0)
        ),
        _leaky_gradient,
        attributes={"negative_slope": 0.01},
        draws=("span", "zeros", "strided"),
    ),
    _unary(
        "clip",
        _clip,
        _clip_gradient,
        attributes={"min_value": None, "max_value": None},
    ),
    _unary(
        "power",
        _power,
        _power_gradient,
        attributes={"exponent": 2.0},
        argument=Argument("x", "positive"),
        span=(1e-3, 1e3),
        draws=("span", "strided"),
    ),
)


def unbroadcast(gradient: Bounded, shape: Shape) -> Bounded:
    """The sum of a gradient over the axes along which an input was repeated."""
    ahead = gradient.value.ndim - len(shape)
    axes = tuple(range(ahead)) + tuple(
        ahead + axis for axis, side in enumerate(shape) if side == 1 and gradient.shape[ahead + axis] != 1
    )
    return gradient.over_batch(axes).moved(lambda part: part.reshape(shape)) if axes else gradient


def _binary(
    name: str,
    forward: Callable[[Bounded, Bounded], Bounded],
    backward: Callable[[Bounded, Bounded, Bounded, Bounded], tuple[Bounded, Bounded]],
    **more: Any,
) -> KernelOperation:
    def gradients(dy: Bounded, inputs: list[Bounded], y: Bounded) -> Made:
        a, b = inputs
        return {
            place: unbroadcast(each, of.shape)
            for place, (each, of) in enumerate(zip(backward(dy, a, b, y), (a, b), strict=True))
        }

    def shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
        return sizes  # type: ignore[return-value]  # two shapes

    given: dict[str, Any] = {
        "draws": ("wide", "zeros", "special", "whole", "subnormal", "strided"),
        "zeros": True,
    } | more
    first, second = given.pop("first", Argument("a")), given.pop("second", Argument("b"))
    return KernelOperation(
        name,
        (first, second),
        lambda inputs: forward(*inputs),
        gradients,
        lambda attributes: PAIRS,  # type: ignore[arg-type,return-value]  # sizes are shapes here
        shapes,
        **given,
    )


def _broadcast(dy: Bounded, condition: Array, ties: Array) -> Bounded:
    """A gradient where a decision went one way; where both are equal, it may go either way, or in part."""
    return dy.where(condition, 0.0).with_error(np.where(ties, np.abs(dy.value), 0.0))


def _larger(sign: int) -> Callable[[Bounded, Bounded, Bounded, Bounded], tuple[Bounded, Bounded]]:
    def backward(dy: Bounded, a: Bounded, b: Bounded, y: Bounded) -> tuple[Bounded, Bounded]:
        ahead, ties = sign * a.value > sign * b.value, a.value == b.value
        return _broadcast(dy, ahead, ties), _broadcast(dy, ~ahead & ~ties, ties)

    return backward


def _angle_gradients(dy: Bounded, a: Bounded, b: Bounded, y: Bounded) -> tuple[Bounded, Bounded]:
    """In whatever order. Where squares are so small that they lose their digits, nothing can be told."""
    squares = a * a + b * b
    least = squares.of.least
    lost = np.where(squares.value < 2.0**16 * max(squares.of.tiny, least), np.inf, 2 * least / squares.value)
    return (dy * (b / squares)).with_error(lost), (dy * (-a / squares)).with_error(lost)


def _raised(a: Bounded, b: Bounded) -> Bounded:
    """Of inputs, which have no error."""
    value = np.power(a.value, b.value)
    return a.function(value, np.zeros(()), 2 * float(np.abs(b.value).max(initial=0.0)) + 4)


def _raised_gradients(dy: Bounded, a: Bounded, b: Bounded, y: Bounded) -> tuple[Bounded, Bounded]:
    return dy * (b * _raised(a, b - 1.0)), dy * (y.stored() * a.log())


BINARY = (
    _binary("add", lambda a, b: a + b, lambda dy, a, b, y: (dy, dy), whole=True),
    _binary("subtract", lambda a, b: a - b, lambda dy, a, b, y: (dy, -dy), whole=True),
    _binary("multiply", lambda a, b: a * b, lambda dy, a, b, y: (dy * b, dy * a), whole=True),
    _binary(
        "divide",
        lambda a, b: a.divided(b),
        lambda dy, a, b, y: (dy / b, -(dy * (a / (b * b)))),
        second=Argument("b", "positive"),
        draws=("wide", "zeros", "subnormal", "strided"),
    ),
    _binary("maximum", lambda a, b: a.maximum(b), _larger(1), zeros=False),
    _binary(
        "arctan2",
        lambda a, b: a.function(np.arctan2(a.value, b.value), np.zeros(())),
        _angle_gradients,
        draws=("zeros", "strided"),
        zeros=False,
    ),
    _binary(
        "power_of",
        _raised,
        _raised_gradients,
        draws=("strided",),
        zeros=False,
        first=Argument("a", "positive"),
        second=Argument("b", "scale"),
    ),
    _binary("minimum", lambda a, b: -((-a).maximum(-b)), _larger(-1), zeros=False),
)
