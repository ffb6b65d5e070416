"""The fully connected layer, and two layers that only pass on."""

from __future__ import annotations

import math
from typing import Any

from lucid.core.dtypes import get_default_dtype
from lucid.core.tensor import Tensor
from lucid.nn import init
from lucid.nn.module import Module
from lucid.nn.parameter import Parameter, empty_weight
from lucid.ops import bilinear, flatten, linear
from lucid.ops.creation import empty

__all__ = ["Bilinear", "Flatten", "Identity", "Linear"]


class Linear(Module):
    """``y = x W^T + b``.

    Args:
        in_features: the length of the input's last axis.
        out_features: that of the output's.
        bias: whether there is one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(out_features, in_features)``, evenly up to ``1 / sqrt(in_features)``.
        bias: ``(out_features,)``, likewise; or None.

    Raises:
        ValueError: a negative size.

    Example:
        >>> import lucid
        >>> lucid.nn.Linear(4, 2)(lucid.zeros(3, 4)).shape
        (3, 2)
    """

    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        kind = dtype or get_default_dtype()
        self.weight = empty_weight(out_features, in_features, dtype=kind, device=device)
        self.register_parameter("bias", Parameter(empty(out_features, dtype=kind, device=device)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """``(..., in_features) -> (..., out_features)``."""
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """``y[o] = sum over i, j of x1[i] * W[o, i, j] * x2[j]``, plus ``b[o]``.

    Args:
        in1_features: the length of the first input's last axis.
        in2_features: that of the second's.
        out_features: that of the output's.
        bias: whether there is one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(out_features, in1_features, in2_features)``, evenly up to ``1 / sqrt(in1_features)``.
        bias: ``(out_features,)``, likewise; or None.

    Example:
        >>> import lucid
        >>> lucid.nn.Bilinear(4, 3, 2)(lucid.zeros(5, 4), lucid.zeros(5, 3)).shape
        (5, 2)
    """

    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in1_features < 1:
            raise ValueError(f"in1_features: got {in1_features}; must be at least 1")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        kind = dtype or get_default_dtype()
        self.weight = Parameter(empty(out_features, in1_features, in2_features, dtype=kind, device=device))
        self.register_parameter("bias", Parameter(empty(out_features, dtype=kind, device=device)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """``(..., in1_features)`` and ``(..., in2_features)`` to ``(..., out_features)``."""
        return bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Identity(Module):
    """Returns its input. Arguments are taken and ignored, as PyTorch's.

    Example:
        >>> import lucid
        >>> lucid.nn.Identity()(lucid.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """The input."""
        return input


class Flatten(Module):
    """Joins the axes from ``start_axis`` to ``end_axis`` into one.

    Example:
        >>> import lucid
        >>> lucid.nn.Flatten()(lucid.zeros(2, 3, 4)).shape
        (2, 12)
    """

    def __init__(self, start_axis: int = 1, end_axis: int = -1) -> None:
        super().__init__()
        self.start_axis = start_axis
        self.end_axis = end_axis

    def forward(self, input: Tensor) -> Tensor:
        """``flatten(input, start_axis, end_axis)``."""
        return flatten(input, self.start_axis, self.end_axis)

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_axis={self.start_axis}, end_axis={self.end_axis}"
