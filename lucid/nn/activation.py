"""Activations, dropout, and the gate of squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

from lucid.core.tensor import Tensor
from lucid.nn.conv import Conv2d
from lucid.nn.functional import dropout
from lucid.nn.module import Module
from lucid.nn.pooling import AdaptiveAvgPool2d
from lucid.ops import gelu, relu, sigmoid

__all__ = ["GELU", "Dropout", "ReLU", "SEModule", "Sigmoid"]


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
