"""Activations: one function of each element (``ARITHMETIC.md``, section 5), with its slope as a function of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from lucid.backends import Backend
from lucid.core.tensor import Operand, Tensor
from lucid.ops._common import floating
from lucid.ops._function import Function, apply
from lucid.ops._promotion import is_number

__all__ = [
    "elu",
    "hard_sigmoid",
    "hard_swish",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "log_sigmoid",
    "logsigmoid",
    "mish",
    "relu6",
    "selu",
    "silu",
    "softplus",
    "swish",
]


class Activation(Function):
    """``NAME(x)``; its gradient is ``NAME_grad(dy, x)``."""

    floats = True

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        return be.unary(self.name, x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.binary(f"{self.name}_grad", dy, self.saved[0]),)  # type: ignore[index]


class ActivationOfNumber(Function):
    """``NAME(x, number)``; its gradient is ``dy * NAME_slope(x, number)``."""

    floats = True
    params = ("number",)
    number_name: ClassVar[str]

    def __init__(self, number: float) -> None:
        if not is_number(number):
            raise TypeError(f"{self.number_name}: got {type(number).__name__}; may be a number")
        self.number = float(number)

    def attrs(self) -> dict[str, Any]:
        """The number by the name that the function has for it."""
        return {self.number_name: self.number}

    def forward(self, be: Backend, x: Any) -> Any:
        self.saved = (x,)
        return be.binary(self.name, x, be.number(self.number, x.dtype))

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved  # type: ignore[misc]
        return (be.binary("mul", dy, be.binary(f"{self.name}_slope", x, be.number(self.number, x.dtype))),)


class Relu6(Activation):
    name = "relu6"


def relu6(input: Operand) -> Tensor:
    """``min(max(x, 0), 6)``.

    Gradient: ``dy`` where ``0 < x < 6``, else 0. Source: ONNX operator Clip; Krizhevsky, 2010.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.relu6(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([0., 0., 2.])
    """
    return apply(Relu6(), floating(input))


class LeakyRelu(ActivationOfNumber):
    name = "leaky_relu"
    number_name = "negative_slope"


def leaky_relu(input: Operand, negative_slope: float = 0.01) -> Tensor:
    """``x`` where it is positive, else ``negative_slope * x``.

    Gradient: ``dy``, or ``dy * negative_slope`` where ``x`` is not positive.
    Source: ONNX operator LeakyRelu; Maas et al., ICML 2013.

    Raises:
        TypeError: ``negative_slope`` is no number.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.leaky_relu(lucid.tensor([-4.0, -1.0, 2.0]), 0.5)
        tensor([-2. , -0.5,  2. ])
    """
    return apply(LeakyRelu(negative_slope), floating(input))


class Elu(ActivationOfNumber):
    name = "elu"
    number_name = "alpha"


def elu(input: Operand, alpha: float = 1.0) -> Tensor:
    """``x`` where it is positive, else ``alpha * (e ** x - 1)``.

    Gradient: ``dy``, or ``dy * (alpha * e ** x)`` where ``x`` is not positive.
    Source: ONNX operator Elu; Clevert et al., ICLR 2016.

    Raises:
        TypeError: ``alpha`` is no number.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.elu(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-0.9816844 , -0.63212055,  2.        ])
    """
    return apply(Elu(alpha), floating(input))


class Selu(Activation):
    name = "selu"


def selu(input: Operand) -> Tensor:
    """``1.0507... * x`` where ``x`` is positive, else ``1.0507... * 1.6732... * (e ** x - 1)``.

    Gradient: ``dy`` times the derivative, in float64 and rounded once.
    Source: ONNX operator Selu; Klambauer et al., NeurIPS 2017.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.selu(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-1.7258986, -1.1113307,  2.101402 ])
    """
    return apply(Selu(), floating(input))


class HardSigmoid(Activation):
    name = "hard_sigmoid"


def hard_sigmoid(input: Operand) -> Tensor:
    """``min(max(x + 3, 0), 6) / 6``.

    Gradient: ``dy / 6`` where ``-3 < x < 3``, else 0.
    Source: ONNX operator HardSigmoid with alpha 1/6; Howard et al., ICCV 2019.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.hard_sigmoid(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([0.        , 0.33333334, 0.8333333 ])
    """
    return apply(HardSigmoid(), floating(input))


class HardSwish(Activation):
    name = "hard_swish"


def hard_swish(input: Operand) -> Tensor:
    """``x * min(max(x + 3, 0), 6) / 6``.

    Gradient: ``dy * (x / 3 + 1 / 2)`` where ``-3 < x < 3``, ``dy`` above, 0 below.
    Source: ONNX operator HardSwish; Howard et al., ICCV 2019.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.hard_swish(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([ 0.        , -0.33333334,  1.6666666 ])
    """
    return apply(HardSwish(), floating(input))


class Silu(Activation):
    name = "silu"


def silu(input: Operand) -> Tensor:
    """``x / (1 + e ** -x)``, with its limit 0 at minus infinity; ``swish`` is the same function.

    Gradient: ``dy`` times the derivative, in float64 and rounded once.
    Source: ONNX operators Mul and Sigmoid; Ramachandran et al., arXiv 1710.05941.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.silu(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-0.07194484, -0.26894143,  1.7615942 ])
    """
    return apply(Silu(), floating(input))


class Mish(Activation):
    name = "mish"


def mish(input: Operand) -> Tensor:
    """``x * tanh(log(1 + e ** x))``, with its limit 0 at minus infinity.

    Gradient: ``dy`` times the derivative, in float64 and rounded once. Source: ONNX operator Mish; Misra, BMVC 2020.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.mish(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-0.07259174, -0.30340147,  1.943959  ])
    """
    return apply(Mish(), floating(input))


class LogSigmoid(Activation):
    name = "log_sigmoid"


def log_sigmoid(input: Operand) -> Tensor:
    """``-log(1 + e ** -x)``, the logarithm of the sigmoid.

    Gradient: ``dy / (1 + e ** x)``. Source: ``torch.nn.functional.logsigmoid``.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.log_sigmoid(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-4.01815   , -1.3132616 , -0.12692802])
    """
    return apply(LogSigmoid(), floating(input))


class Softplus(Activation):
    name = "softplus"


def softplus(input: Operand) -> Tensor:
    """``log(1 + e ** x)``.

    Gradient: ``dy / (1 + e ** -x)``. Source: ONNX operator Softplus; Dugas et al., NIPS 2000.

    PyTorch's ``threshold``, above which it returns ``x``, is not needed: the formula is precise everywhere.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.softplus(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([0.01814993, 0.3132617 , 2.126928  ])
    """
    return apply(Softplus(), floating(input))


swish = silu
hardsigmoid = hard_sigmoid
hardswish = hard_swish
logsigmoid = log_sigmoid
