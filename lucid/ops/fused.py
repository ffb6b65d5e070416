"""What networks do in a row, as one operation that spares passes over memory.

The bits, forward and backward, are those of the operations one by one (``ARITHMETIC.md``): each rounding is the same,
it only happens while the value is at hand. ``lucid.nn`` chooses these forms where nobody watches what lies between.
"""

from __future__ import annotations

from typing import Any

from lucid.backends import Backend
from lucid.backends.base import Epilogue, Norm
from lucid.core.dtypes import float64
from lucid.core.tensor import Tensor
from lucid.ops._function import Function, apply
from lucid.ops._window import output_size
from lucid.ops.convolution import Conv2d, resolve_geometry
from lucid.ops.normalization import BatchNorm, check_channels, run, statistics_of, stored

__all__ = ["conv2d_add", "conv2d_norm_act", "norm_act"]


class NormAct(BatchNorm):
    """``relu(batch_norm(x) + residual)``; the residual may be None, and ``relu`` says whether there is one."""

    accumulates = floats = True

    def __init__(self, training: bool, momentum: float, eps: float, relu: bool) -> None:
        super().__init__(training, momentum, eps)
        self.relu = relu
        self.may_alias = () if relu else (5,)  # the residual's gradient is dy itself

    def forward(self, be: Backend, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, residual: Any) -> Any:  # type: ignore[override]
        if self.training:
            y, mean, var = be.norm_act_train(x, gamma, beta, self.eps, residual, self.relu)
            self.mean, self.var = statistics_of(be, x, mean, var)
        else:
            self.mean, self.var = stored(be, mean), stored(be, var)
            y = be.norm_act_eval(x, Norm(gamma, beta, self.mean, self.var, self.eps), residual, self.relu)
        self.saved = (x, gamma, y if self.relu else None)
        return y

    def backward(self, be: Backend, dy: Any, accumulate_into: Any) -> tuple[Any, ...]:  # type: ignore[override]
        x, gamma, y = self.saved  # type: ignore[misc]
        needs = self.needs or ()
        wanted = needs[5]
        dx, dgamma, dbeta, dresidual = be.norm_act_grad(
            dy, x, y, Norm(gamma, None, self.mean, self.var, self.eps), self.training, wanted, accumulate_into
        )
        grads = (dx, dgamma, dbeta, None, None, dresidual)
        return tuple([grad if need else None for grad, need in zip(grads, needs, strict=True)])


class Conv2dAdd(Conv2d):
    """``conv2d(x) + residual``."""

    name = "conv2d_add"
    may_alias = (3,)  # the residual's gradient is dy itself

    def forward(self, be: Backend, x: Any, weight: Any, bias: Any, residual: Any) -> Any:  # type: ignore[override]
        self.save(x, weight)
        geometry = self.stride, self.padding, self.dilation, self.groups
        return be.conv2d_add(x, weight, bias, geometry, residual)

    def backward(self, be: Backend, dy: Any, accumulate_into: Any) -> tuple[Any, ...]:
        return (*super().backward(be, dy, accumulate_into), dy if self.needs[3] else None)  # type: ignore[index]


class Conv2dNormAct(Function):
    """``relu(batch_norm(conv2d(x)) + residual)`` with stored statistics, where no gradient is asked for."""

    name = "conv2d_norm_act"
    differentiable = False
    floats = True

    def __init__(self, geometry: Any, eps: float, relu: bool, stamp: int | None) -> None:
        self.geometry = geometry
        self.eps = eps
        self.relu = relu
        self.stamp = stamp

    def forward(
        self, be: Backend, x: Any, weight: Any, bias: Any, gamma: Any, beta: Any, mean: Any, var: Any, residual: Any
    ) -> Any:
        norm = Norm(gamma, beta, be.convert(mean, float64), be.convert(var, float64), self.eps)
        return be.conv2d_norm(x, weight, bias, self.geometry, Epilogue(norm, residual, self.relu), self.stamp)


def norm_act(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool,
    residual: Tensor | None,
) -> Tensor:
    """``batch_norm`` of the first eight arguments, plus ``residual`` (of the input's shape, or None), and ReLU.

    Raises:
        ValueError: as ``batch_norm``; a residual of another shape.
    """
    _check_residual(residual, input._array.shape)
    function = NormAct(training, momentum, eps, relu)
    return run(function, input, weight, bias, running_mean, running_var, residual)


def conv2d_add(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    residual: Tensor,
) -> Tensor:
    """A convolution of the first seven arguments, plus ``residual``, which has the shape of the result.

    Raises:
        ValueError: as ``conv2d``; a residual of another shape.
    """
    input, geometry, out = _resolve(input, weight, bias, stride, padding, dilation, groups)
    _check_residual(residual, out)
    return apply(Conv2dAdd(*geometry), input, weight, bias, residual)


def conv2d_norm_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    running_mean: Tensor,
    running_var: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
) -> Tensor:
    """A convolution of the first seven arguments, then ``norm_act`` with stored statistics, without a gradient.

    Raises:
        ValueError: as ``conv2d`` and ``norm_act``.
    """
    input, geometry, out = _resolve(input, weight, bias, stride, padding, dilation, groups)
    check_channels(out, running_mean, running_var, gamma, beta)
    _check_residual(residual, out)
    function = Conv2dNormAct(geometry, eps, relu, weight._stamp())
    return apply(function, input, weight, bias, gamma, beta, running_mean, running_var, residual)


def _resolve(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple[Tensor, Any, tuple[int, ...]]:
    """Input and geometry as ``resolve_geometry`` says, and the shape of the result."""
    sides = weight._array.ndim - 2
    input, geometry = resolve_geometry(sides, input, weight, bias, stride, padding, dilation, groups)
    x, w = input._array.shape, weight._array.shape
    return input, geometry, (x[0], w[0], *output_size(f"conv{sides}d", x, w[2:], *geometry[:3]))


def _check_residual(residual: Tensor | None, shape: tuple[int, ...]) -> None:
    if residual is not None and residual._array.shape != shape:
        raise ValueError(f"residual: got shape {residual.shape}; must be {shape}")
