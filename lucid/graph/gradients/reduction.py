"""Gradients of sums, means, extrema and norms over axes: ``lucid.ops.reduction`` and ``vector_norm``."""

from __future__ import annotations

import math
from typing import Any

from lucid.core.tensor import Tensor
from lucid.graph.gradients._rules import differentiates, scalar
from lucid.graph.gradients.functions import count, expand_like
from lucid.ops.comparison import equal, isnan, logical_and, logical_or
from lucid.ops.elementwise import abs, add, div, mul, power, sign, where
from lucid.ops.reduction import cumsum, sum
from lucid.ops.shape import cast, getitem, pad, reshape


def _kept(value: Tensor, x: Tensor, axis: tuple[int, ...]) -> Tensor:
    """A result or its gradient with the reduced axes put back, of length one."""
    shape = tuple([1 if i in axis else n for i, n in enumerate(x.shape)])
    return value if value.shape == shape else reshape(value, shape)


@differentiates("sum")
def _sum(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return expand_like(_kept(dy, x, f.axis), x)


@differentiates("mean")
def _mean(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return expand_like(_kept(div(dy, count(x, f.axis)), x, f.axis), x)


@differentiates("max", "min")
def _extreme(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Shared evenly by the elements that are equal to it."""
    top = _kept(y, x, f.axis)
    best = logical_or(equal(x, top), logical_and(isnan(x), isnan(top)))
    share = div(_kept(dy, x, f.axis), sum(cast(best, dy.dtype), f.axis, keepdims=True) if f.axis else scalar(1.0, dy))
    return where(best, share, scalar(0.0, dy))


def _flipped(x: Tensor, axis: int) -> Tensor:
    return getitem(x, (slice(None),) * axis + (slice(None, None, -1),))


@differentiates("cumsum")
def _cumsum(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return _flipped(cumsum(_flipped(dy, f.axis), f.axis), f.axis)


@differentiates("cumprod")
def _cumprod(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """``dx[i] = before[i] s[i]`` with ``s[i] = dy[i] + x[i + 1] s[i + 1]``: the recurrence in steps of 1, 2, 4, .."""
    axis, size = f.axis, x.shape[f.axis]

    def moved(value: Tensor, by: int, fill: float) -> Tensor:
        """The elements ``by`` places further on (or back), and behind the end ``fill``."""
        ends = (0, by) if by > 0 else (-by, 0)
        part = slice(by, None) if by > 0 else slice(0, size + by)
        inside = getitem(value, (slice(None),) * axis + (part,))
        return pad(inside, [ends if i == axis else (0, 0) for i in range(value.ndim)], fill)

    total, factor, step = dy, moved(x, 1, 0.0), 1
    while step < size:
        total = add(total, mul(factor, moved(total, step, 0.0)))
        factor = mul(factor, moved(factor, step, 0.0))
        step *= 2
    return mul(moved(y, -1, 1.0) if size > 1 else mul(y, 0.0) + 1.0, total)


@differentiates("vector_norm")
def _vector_norm(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Any:
    p, axis = f.ord, f.axis
    if p == 0:
        return (None,)
    top, dy = _kept(y, x, axis), _kept(dy, x, axis)
    zero = scalar(0.0, dy)

    def share(value: Tensor, by: Tensor) -> Tensor:
        return where(equal(top, 0.0), zero, div(value, by))

    if p == 2:
        return mul(x, share(dy, top))
    if p == 1:
        return mul(sign(x), dy)
    if math.isinf(p):
        chosen = cast(equal(abs(x), top), dy.dtype)
        return mul(mul(sign(x), chosen), div(dy, sum(chosen, axis, keepdims=True) if axis else chosen))
    slope = where(equal(x, 0.0), zero, mul(sign(x), power(abs(x), p - 1)))
    return mul(slope, share(dy, power(top, p - 1)))
