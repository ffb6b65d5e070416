"""Operations that gradients need and nobody calls: they have kernels, shapes and an ONNX form, but no public name."""

from __future__ import annotations

import math
from typing import Any

from lucid.backends import Backend
from lucid.core.tensor import Tensor
from lucid.ops._function import Function, apply

__all__ = ["count", "expand_like", "max_pool_grad"]


class ExpandLike(Function):
    """``x`` repeated to the shape of another tensor, whose values do not matter."""

    name = "expand_like"
    any_dtype = True

    def forward(self, be: Backend, x: Any, like: Any) -> Any:
        return be.xp.broadcast_to(x, like.shape)


class Count(Function):
    """How many elements ``x`` has along axes, as a number of its dtype."""

    name = "count"
    params = ("axis",)

    def __init__(self, axis: tuple[int, ...]) -> None:
        self.axis = axis

    def forward(self, be: Backend, x: Any) -> Any:
        return be.number(float(math.prod(x.shape[i] for i in self.axis)), x.dtype)


class MaxPoolGrad(Function):
    """Of ``dy``, the operand and the result: each element goes to where the largest one of its window was found."""

    name = "max_pool_grad"
    params = ("kernel_size", "stride", "padding", "dilation")
    floats = True

    def __init__(self, pool: Any) -> None:
        self.kernel_size = pool.kernel_size
        self.stride = pool.stride
        self.padding = pool.padding
        self.dilation = pool.dilation

    def forward(self, be: Backend, dy: Any, x: Any, y: Any) -> Any:
        _, index = be.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, y.shape[2:])
        return be.max_pool2d_grad(dy, index, x.shape)


def expand_like(x: Tensor, like: Tensor) -> Tensor:
    """``x`` repeated to the shape of ``like``."""
    return x if x.shape == like.shape else apply(ExpandLike(), x, like)


def count(x: Tensor, axis: tuple[int, ...]) -> Tensor:
    """How many elements ``x`` has along ``axis``."""
    return apply(Count(axis), x)


def max_pool_grad(pool: Any, dy: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the operand of ``pool``, a ``MaxPool`` or what has its attributes."""
    return apply(MaxPoolGrad(pool), dy, x, y)
