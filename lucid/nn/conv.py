"""The convolution layer."""

from __future__ import annotations

import math
from typing import Any

from lucid.core.dtypes import get_default_dtype
from lucid.core.tensor import Tensor
from lucid.nn import init
from lucid.nn.module import Module
from lucid.nn.parameter import Parameter, empty_weight
from lucid.ops import conv2d
from lucid.ops._window import Pair, PairLike, per_side
from lucid.ops.creation import empty

__all__ = ["Conv2d"]


class Conv2d(Module):
    """Two-dimensional convolution: ``lucid.nn.functional.conv2d`` with a weight and a bias of its own.

    Args:
        in_channels: C, at least 1.
        out_channels: O, at least 1.
        kernel_size: a number or a pair (vertical, horizontal).
        stride: a number or a pair, at least 1.
        padding: a number or a pair, or ``"same"`` or ``"valid"``.
        dilation: a number or a pair, at least 1.
        groups: into how many groups channels are divided.
        bias: whether there is one.
        padding_mode: ``"zeros"``, the only one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(O, C/groups, KH, KW)``, from ``kaiming_uniform(a=sqrt(5))``: evenly up to ``1 / sqrt(fan_in)``.
        bias: ``(O,)``, evenly up to ``1 / sqrt(fan_in)``; or None.

    Raises:
        ValueError: groups that do not divide the channels, sizes below their least, another padding mode.

    Example:
        >>> import lucid
        >>> lucid.nn.Conv2d(3, 8, 3, stride=2, padding=1)(lucid.zeros(1, 3, 8, 8)).shape
        (1, 8, 4, 4)
    """

    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PairLike,
        stride: PairLike = 1,
        padding: PairLike | str = 0,
        dilation: PairLike = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise ValueError(f"in_channels, out_channels: got {in_channels} and {out_channels}; may be at least 1")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups: got {groups}; must divide in_channels {in_channels} and out_channels {out_channels}"
            )
        if padding_mode != "zeros":
            raise ValueError(f"padding_mode: got {padding_mode!r}; may be 'zeros'")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f"padding: got {padding!r}; may be 'same', 'valid', a number or a pair")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size: Pair = per_side("kernel_size", kernel_size, 1)
        self.stride: Pair = per_side("stride", stride, 1)
        self.padding: Pair | str = padding if isinstance(padding, str) else per_side("padding", padding, 0)
        self.dilation: Pair = per_side("dilation", dilation, 1)
        self.groups = groups
        self.padding_mode = padding_mode
        if padding == "same" and max(self.stride) > 1:
            raise ValueError(f"padding: 'same' needs stride 1, got {self.stride}")
        kind = dtype or get_default_dtype()
        self.weight = empty_weight(out_channels, in_channels // groups, *self.kernel_size, dtype=kind, device=device)
        self.register_parameter("bias", Parameter(empty(out_channels, dtype=kind, device=device)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, O, OH, OW)``."""
        return conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """As PyTorch shows it: what is not the default."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if isinstance(self.padding, str) or any(self.padding):
            text += f", padding={self.padding}"
        if max(self.dilation) > 1:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"
