"""Activations, dropout, and the gate of squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

from lucid.core.tensor import Tensor
from lucid.nn.conv import Conv2d
from lucid.nn.functional import dropout
from lucid.nn.module import Module
from lucid.nn.pooling import AdaptiveAvgPool2d
from lucid.ops import (
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    log_sigmoid,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Dropout",
    "HardSigmoid",
    "HardSwish",
    "Hardsigmoid",
    "Hardswish",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "ReLU",
    "ReLU6",
    "SEModule",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Swish",
    "Tanh",
]


class ReLU(Module):
    """``max(x, 0)``.

    Args:
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.ReLU()(lucid.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return relu(input)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``.

    Example:
        >>> import lucid
        >>> lucid.nn.Sigmoid()(lucid.zeros(1))
        tensor([0.5])
    """

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return sigmoid(input)


class GELU(Module):
    """``x * cdf(x)``, where ``cdf`` is the normal distribution's.

    Args:
        approximate: ``"none"``, or ``"tanh"`` (``lucid.nn.functional.gelu`` says for what).

    Example:
        >>> import lucid
        >>> lucid.nn.GELU()(lucid.tensor([-1.0, 2.0]))
        tensor([-0.15865526,  1.9544997 ])
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"approximate={self.approximate!r}"


class ReLU6(Module):
    """``min(max(x, 0), 6)``.

    Args:
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.ReLU6()(lucid.tensor([-1.0, 2.0, 8.0]))
        tensor([0., 2., 6.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return relu6(input)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """``x`` where it is positive, else ``negative_slope * x``.

    Args:
        negative_slope: a number.
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.LeakyReLU()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-0.04, -0.01,  2.  ])
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """``x`` where it is positive, else ``alpha * (e ** x - 1)``.

    Args:
        alpha: a number.
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.ELU()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-0.9816844 , -0.63212055,  2.        ])
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return elu(input, self.alpha)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class SELU(Module):
    """``lucid.nn.functional.selu``: ELU with factors that keep mean 0 and variance 1.

    Args:
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.SELU()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-1.7258986, -1.1113307,  2.101402 ])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return selu(input)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return "inplace=True" if self.inplace else ""


class HardSigmoid(Module):
    """``min(max(x + 3, 0), 6) / 6``; ``Hardsigmoid`` is the same layer.

    Args:
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.HardSigmoid()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([0.        , 0.33333334, 0.8333333 ])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return hard_sigmoid(input)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return "inplace=True" if self.inplace else ""


class HardSwish(Module):
    """``x * min(max(x + 3, 0), 6) / 6``; ``Hardswish`` is the same layer.

    Args:
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.HardSwish()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([ 0.        , -0.33333334,  1.6666666 ])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return hard_swish(input)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return "inplace=True" if self.inplace else ""


class SiLU(Module):
    """``x / (1 + e ** -x)``; ``Swish`` is the same layer.

    Args:
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.SiLU()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-0.07194484, -0.26894143,  1.7615942 ])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return silu(input)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return "inplace=True" if self.inplace else ""


class Mish(Module):
    """``x * tanh(log(1 + e ** x))``.

    Args:
        inplace: taken for PyTorch's sake and shown; the input is never written to.

    Example:
        >>> import lucid
        >>> lucid.nn.Mish()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-0.07259174, -0.30340147,  1.943959  ])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return mish(input)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return "inplace=True" if self.inplace else ""


class Tanh(Module):
    """``lucid.tanh``.

    Example:
        >>> import lucid
        >>> lucid.nn.Tanh()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-0.9993293, -0.7615942,  0.9640276])
    """

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return tanh(input)


class LogSigmoid(Module):
    """``-log(1 + e ** -x)``.

    Example:
        >>> import lucid
        >>> lucid.nn.LogSigmoid()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([-4.01815   , -1.3132616 , -0.12692802])
    """

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return log_sigmoid(input)


class Softplus(Module):
    """``log(1 + e ** x)``.

    Example:
        >>> import lucid
        >>> lucid.nn.Softplus()(lucid.tensor([-4.0, -1.0, 2.0]))
        tensor([0.01814993, 0.3132617 , 2.126928  ])
    """

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return softplus(input)


class Softmax(Module):
    """``lucid.nn.functional.softmax`` along an axis.

    Args:
        dim: the axis; the last one if None.

    Example:
        >>> import lucid
        >>> lucid.nn.Softmax(-1)(lucid.zeros(2))
        tensor([0.5, 0.5])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return softmax(input, -1 if self.dim is None else self.dim)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"dim={self.dim}"


class Dropout(Module):
    """In training, zeroes elements with probability ``p`` and multiplies the others by ``1 / (1 - p)``.

    Raises:
        ValueError: ``p`` outside 0 to 1.

    Source: Srivastava et al., JMLR 15, 2014.

    Example:
        >>> import lucid
        >>> lucid.nn.Dropout(0.5).eval()(lucid.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p: got {p}; may be 0 to 1")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """A tensor of the input's shape."""
        return dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class SEModule(Module):
    """Squeeze-and-excitation: ``x * sigmoid(fc2(relu(fc1(mean of x over the image)))))``, a factor for each channel.

    Args:
        in_channels: C.
        reduction: by how much the hidden layer is narrower, ``max(1, C // reduction)`` channels.
        device: where the parameters lie.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        fc1, fc2: convolutions of size 1 with bias, ``C -> C/reduction -> C``.

    Source: Hu et al., CVPR 2018.

    Example:
        >>> import lucid
        >>> lucid.nn.SEModule(8, 4)(lucid.ones(2, 8, 3, 3)).shape
        (2, 8, 3, 3)
    """

    def __init__(self, in_channels: int, reduction: int = 16, device: str | None = None, dtype: Any = None) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction: got {reduction}; may be at least 1")
        hidden = max(1, in_channels // reduction)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc1 = Conv2d(in_channels, hidden, 1, device=device, dtype=dtype)
        self.relu = ReLU()
        self.fc2 = Conv2d(hidden, in_channels, 1, device=device, dtype=dtype)
        self.sigmoid = Sigmoid()

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        return input * self.sigmoid(self.fc2(self.relu(self.fc1(self.avgpool(input)))))


Swish = SiLU
Hardsigmoid = HardSigmoid
Hardswish = HardSwish
