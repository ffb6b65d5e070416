"""Gradients of operations on each element: ``lucid.ops.elementwise``, ``elementary`` and ``activation``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lucid.core.tensor import Tensor
from lucid.graph.gradients._rules import RULES, differentiates, scalar, unbroadcast
from lucid.ops.activation import softplus
from lucid.ops.comparison import (
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_or,
)
from lucid.ops.elementary import cos, cosh, erf, sin, sinh, tanh
from lucid.ops.elementwise import (
    add,
    div,
    exp,
    floor_divide,
    log,
    minimum,
    mul,
    neg,
    power,
    sigmoid,
    sign,
    sqrt,
    square,
    sub,
    where,
)

LN2 = math.log(2)


def _slopes(slopes: Mapping[str, Callable[[Any, Tensor, Tensor], Tensor]]) -> None:
    """Enter functions of one value by their derivative, ``slope(f, x, y)``."""
    for name, slope in slopes.items():
        RULES[name] = lambda f, dy, y, x, slope=slope: mul(dy, slope(f, x, y))


def _leg(x: Tensor) -> Tensor:
    """``sqrt(1 - x^2)``."""
    return sqrt(mul(sub(1.0, x), add(x, 1.0)))


def _gelu(f: Any, x: Tensor, y: Tensor) -> Tensor:
    """Of the tanh form ``x sigmoid(2 u)``, or of ``x cdf(x)``."""
    if f.approximate == "tanh":
        c = math.sqrt(2 / math.pi)
        w = square(x)
        t = tanh(mul(mul(x, c), add(mul(w, 0.044715), 1.0)))
        rise = mul(mul(sub(1.0, square(t)), x), mul(add(mul(w, 3 * 0.044715), 1.0), c / 2))
        return add(mul(add(t, 1.0), 0.5), rise)
    cdf = mul(add(erf(mul(x, math.sqrt(0.5))), 1.0), 0.5)
    return add(cdf, mul(x, mul(exp(mul(square(x), -0.5)), 1 / math.sqrt(2 * math.pi))))


def _mish(f: Any, x: Tensor, y: Tensor) -> Tensor:
    t = tanh(softplus(x))
    return add(t, mul(mul(x, sub(1.0, square(t))), sigmoid(x)))


def _above(x: Tensor, bound: float, then: Any, otherwise: Any) -> Tensor:
    return where(greater(x, bound), _number(then, x), _number(otherwise, x))


def _number(value: Any, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else scalar(value, like)


SELU_SCALE, SELU_SCALE_ALPHA = 1.0507009873554805, 1.7580993408473766

_slopes(
    {
        "abs": lambda f, x, y: sign(x),
        "square": lambda f, x, y: mul(x, 2.0),
        "cube": lambda f, x, y: mul(square(x), 3.0),
        "exp": lambda f, x, y: y,
        "exp2": lambda f, x, y: mul(y, LN2),
        "expm1": lambda f, x, y: add(y, 1.0),
        "sigmoid": lambda f, x, y: mul(y, sub(1.0, y)),
        "sin": lambda f, x, y: cos(x),
        "cos": lambda f, x, y: neg(sin(x)),
        "tan": lambda f, x, y: add(square(y), 1.0),
        "sinh": lambda f, x, y: cosh(x),
        "cosh": lambda f, x, y: sinh(x),
        "tanh": lambda f, x, y: sub(1.0, square(y)),
        "erf": lambda f, x, y: mul(exp(neg(square(x))), 2 / math.sqrt(math.pi)),
        "gelu": _gelu,
        "silu": lambda f, x, y: add(sigmoid(x), mul(y, sub(1.0, sigmoid(x)))),
        "mish": _mish,
        "softplus": lambda f, x, y: sigmoid(x),
        "log_sigmoid": lambda f, x, y: sigmoid(neg(x)),
        "leaky_relu": lambda f, x, y: _above(x, 0.0, 1.0, f.number),
        "elu": lambda f, x, y: _above(x, 0.0, 1.0, mul(exp(minimum(x, 0.0)), f.number)),
        "selu": lambda f, x, y: _above(x, 0.0, SELU_SCALE, mul(exp(minimum(x, 0.0)), SELU_SCALE_ALPHA)),
        "hard_swish": lambda f, x, y: _above(x, -3.0, _above(x, 3.0, 1.0, add(div(x, 3.0), 0.5)), 0.0),
    }
)


@differentiates("log")
def _log(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return div(dy, x)


@differentiates("log2")
def _log2(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return div(mul(dy, 1 / LN2), x)


@differentiates("log1p")
def _log1p(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return div(dy, add(x, 1.0))


@differentiates("sqrt")
def _sqrt(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return div(dy, mul(y, 2.0))


@differentiates("reciprocal")
def _reciprocal(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return neg(mul(dy, square(y)))


@differentiates("arcsin")
def _arcsin(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return div(dy, _leg(x))


@differentiates("arccos")
def _arccos(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return neg(div(dy, _leg(x)))


@differentiates("arctan")
def _arctan(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return div(dy, add(square(x), 1.0))


@differentiates("neg")
def _neg(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return neg(dy)


@differentiates("relu")
def _relu(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return where(less_equal(y, 0.0), scalar(0.0, dy), dy)


@differentiates("relu6")
def _relu6(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return where(logical_and(greater(x, 0.0), less(x, 6.0)), dy, scalar(0.0, dy))


@differentiates("hard_sigmoid")
def _hard_sigmoid(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return where(logical_and(greater(x, -3.0), less(x, 3.0)), div(dy, 6.0), scalar(0.0, dy))


@differentiates("clip")
def _clip(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """NaN lies outside."""
    for inside, bound in ((greater_equal, f.min_value), (less_equal, f.max_value)):
        if bound is not None:
            dy = where(inside(x, bound), dy, scalar(0.0, dy))
    return dy


@differentiates("sign", "rounding")
def _flat(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Sequence[None]:
    return (None,)


@differentiates("add")
def _add(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return unbroadcast(dy, a), unbroadcast(dy, b)


@differentiates("sub")
def _sub(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return unbroadcast(dy, a), unbroadcast(neg(dy), b)


@differentiates("mul")
def _mul(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return unbroadcast(mul(dy, b), a), unbroadcast(mul(dy, a), b)


@differentiates("div")
def _div(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    q = div(dy, b)
    return unbroadcast(q, a), unbroadcast(neg(mul(q, y)), b)


@differentiates("maximum", "minimum")
def _extremum(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Half to each where they are equal."""
    zero, shared = scalar(0.0, dy), where(equal(a, b), mul(dy, 0.5), dy)
    loses = less if f.name == "maximum" else greater
    return (
        unbroadcast(where(loses(a, b), zero, shared), a),
        unbroadcast(where(loses(b, a), zero, shared), b),
    )


@differentiates("power")
def _power(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Any:
    n = f.exponent
    return (None,) if n == 0 else mul(dy, mul(power(x, n - 1), n))


@differentiates("power_of")
def _power_of(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    zero = scalar(0.0, dy)
    da = where(equal(b, 0.0), zero, mul(dy, mul(b, power(a, sub(b, 1.0)))))
    still = logical_and(equal(a, 0.0), greater_equal(b, 0.0))
    db = where(still, zero, mul(dy, mul(y, log(a))))
    return unbroadcast(da, a), unbroadcast(db, b)


@differentiates("floor_divide")
def _floor_divide(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[None, ...]:
    return None, None


@differentiates("remainder")
def _remainder(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return unbroadcast(dy, a), unbroadcast(neg(mul(dy, floor_divide(a, b))), b)


@differentiates("arctan2")
def _arctan2(f: Any, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    share = div(dy, add(square(b), square(a)))
    return unbroadcast(mul(share, b), a), unbroadcast(neg(mul(share, a)), b)


@differentiates("where")
def _where(f: Any, dy: Tensor, y: Tensor, condition: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
    zero = scalar(0.0, dy)
    return None, unbroadcast(where(condition, dy, zero), a), unbroadcast(where(condition, zero, dy), b)


@differentiates("clip_between")
def _clip_between(f: Any, dy: Tensor, y: Tensor, x: Tensor, low: Any, high: Any) -> tuple[Tensor | None, ...]:
    """To the operand within the bounds, to a bound beyond it; where bounds are crossed all goes to the upper one."""
    zero = scalar(0.0, dy)
    inside, below, above = equal(x, x), None, None
    if low is not None:
        below = less(x, low)
        inside = logical_and(inside, greater_equal(x, low))
    if high is not None:
        above = greater(x, high)
        inside = logical_and(inside, less_equal(x, high))
    if below is not None and above is not None:
        below, above = logical_and(below, less(low, high)), logical_or(above, less(high, low))
    each = ((inside, x), (below, low), (above, high))
    return tuple([None if taken is None else unbroadcast(where(taken, dy, zero), like) for taken, like in each])
