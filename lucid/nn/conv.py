"""The convolution layers."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, ClassVar

from lucid.core.dtypes import get_default_dtype
from lucid.core.tensor import Tensor
from lucid.kernels import windows
from lucid.kernels.declare import Sides
from lucid.nn import init
from lucid.nn.module import Module
from lucid.nn.parameter import Parameter, empty_weight
from lucid.ops import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d, fold, unfold
from lucid.ops._window import SEVERAL, SidesLike, per_side, require_image
from lucid.ops.creation import empty

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Fold", "Unfold"]


class _Convolution(Module):
    """What the layers share; a subclass says of how many sides it is, and what it computes."""

    sides: ClassVar[int]
    bias: Parameter | None
    padding: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: SidesLike,
        stride: SidesLike,
        padding: SidesLike | str,
        dilation: SidesLike,
        groups: int,
        padding_mode: str,
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
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_side("kernel_size", kernel_size, 1, self.sides)
        self.stride = per_side("stride", stride, 1, self.sides)
        self.padding = padding if isinstance(padding, str) else per_side("padding", padding, 0, self.sides)
        self.dilation = per_side("dilation", dilation, 1, self.sides)
        self.groups = groups
        self.padding_mode = padding_mode

    def _make_parameters(self, channels: tuple[int, int], bias: bool, device: str | None, dtype: Any) -> None:
        """The weight of those channels and the kernel's size, and the bias if there is one."""
        kind = dtype or get_default_dtype()
        self.weight = empty_weight(*channels, *self.kernel_size, dtype=kind, device=device)
        made = Parameter(empty(self.out_channels, dtype=kind, device=device)) if bias else None
        self.register_parameter("bias", made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """As PyTorch shows it: what is not the default."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if isinstance(self.padding, str) or any(self.padding):
            text += f", padding={self.padding}"
        if max(self.dilation) > 1:
            text += f", dilation={self.dilation}"
        return text + self._repr_of_output_padding() + self._repr_of_the_rest()

    def _repr_of_output_padding(self) -> str:
        return ""

    def _repr_of_the_rest(self) -> str:
        text = f", groups={self.groups}" if self.groups != 1 else ""
        return text if self.bias is not None else text + ", bias=False"


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: SidesLike,
        stride: SidesLike = 1,
        padding: SidesLike | str = 0,
        dilation: SidesLike = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f"padding: got {padding!r}; may be 'same', 'valid', a number or {SEVERAL[self.sides]}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        if padding == "same" and max(self.stride) > 1:
            raise ValueError(f"padding: 'same' needs stride 1, got {self.stride}")
        self._make_parameters((out_channels, in_channels // groups), bias, device, dtype)


class _ConvTranspose(_Convolution):
    padding: Sides

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: SidesLike,
        stride: SidesLike = 1,
        padding: SidesLike = 0,
        output_padding: SidesLike = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: SidesLike = 1,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self.output_padding = per_side("output_padding", output_padding, 0, self.sides)
        self._make_parameters((in_channels, out_channels // groups), bias, device, dtype)

    def _geometry(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[Any, ...]:
        """Stride, padding, output padding, groups and dilation; an ``output_size`` says what the output padding is."""
        more, sides = self.output_padding, self.sides
        if output_size is not None:
            asked = tuple(map(operator.index, output_size))[-sides:]
            require_image(type(self).__name__, input._array.shape, sides)
            place = input._array.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation
            least = windows.input_sizes(*place)
            if len(output_size) not in (sides, sides + 2) or any(
                not 0 <= size - low < step for size, low, step in zip(asked, least, self.stride, strict=False)
            ):
                most = tuple([low + step - 1 for low, step in zip(least, self.stride, strict=True)])
                raise ValueError(f"output_size: got {tuple(output_size)}; the sides may be {least} to {most}")
            more = tuple([size - low for size, low in zip(asked, least, strict=True)])
        return self.stride, self.padding, more, self.groups, self.dilation

    def _repr_of_output_padding(self) -> str:
        return f", output_padding={self.output_padding}" if any(self.output_padding) else ""


class Conv1d(_Conv):
    """One-dimensional convolution: ``lucid.nn.functional.conv1d`` with a weight and a bias of its own.

    Args:
        in_channels: C, at least 1.
        out_channels: O, at least 1.
        kernel_size: a number.
        stride: a number, at least 1.
        padding: a number, or ``"same"`` or ``"valid"``.
        dilation: a number, at least 1.
        groups: into how many groups channels are divided.
        bias: whether there is one.
        padding_mode: ``"zeros"``, the only one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(O, C/groups, K)``, from ``kaiming_uniform(a=sqrt(5))``: evenly up to ``1 / sqrt(fan_in)``.
        bias: ``(O,)``, evenly up to ``1 / sqrt(fan_in)``; or None.

    Raises:
        ValueError: groups that do not divide the channels, sizes below their least, another padding mode.

    Example:
        >>> import lucid
        >>> lucid.nn.Conv1d(3, 8, 3, stride=2, padding=1)(lucid.zeros(1, 3, 8)).shape
        (1, 8, 4)
    """

    sides = 1

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, L) -> (N, O, OL)``."""
        return conv1d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(_Conv):
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

    sides = 2

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, O, OH, OW)``."""
        return conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv3d(_Conv):
    """Three-dimensional convolution: ``lucid.nn.functional.conv3d`` with a weight and a bias of its own.

    Args:
        in_channels: C, at least 1.
        out_channels: O, at least 1.
        kernel_size: a number or three (along the depth, vertical, horizontal).
        stride: a number or three, at least 1.
        padding: a number or three, or ``"same"`` or ``"valid"``.
        dilation: a number or three, at least 1.
        groups: into how many groups channels are divided.
        bias: whether there is one.
        padding_mode: ``"zeros"``, the only one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(O, C/groups, KD, KH, KW)``, from ``kaiming_uniform(a=sqrt(5))``: evenly up to ``1 / sqrt(fan_in)``.
        bias: ``(O,)``, evenly up to ``1 / sqrt(fan_in)``; or None.

    Raises:
        ValueError: groups that do not divide the channels, sizes below their least, another padding mode.

    Example:
        >>> import lucid
        >>> lucid.nn.Conv3d(3, 8, 3, stride=2, padding=1)(lucid.zeros(1, 3, 4, 8, 8)).shape
        (1, 8, 2, 4, 4)
    """

    sides = 3

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, D, H, W) -> (N, O, OD, OH, OW)``."""
        return conv3d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose1d(_ConvTranspose):
    """One-dimensional transposed convolution: ``lucid.nn.functional.conv_transpose1d`` with parameters of its own.

    Args:
        in_channels: C, at least 1.
        out_channels: O, at least 1.
        kernel_size: a number.
        stride: a number, at least 1.
        padding: a number, at least 0.
        output_padding: a number, less than the stride or the dilation.
        groups: into how many groups channels are divided.
        bias: whether there is one.
        dilation: a number, at least 1.
        padding_mode: ``"zeros"``, the only one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(C, O/groups, K)``, from ``kaiming_uniform(a=sqrt(5))``: evenly up to
            ``1 / sqrt(O/groups * taps)``.
        bias: ``(O,)``, likewise; or None.

    Raises:
        ValueError: groups that do not divide the channels, sizes below their least, another padding mode.

    Example:
        >>> import lucid
        >>> lucid.nn.ConvTranspose1d(3, 8, 4, stride=2, padding=1)(lucid.zeros(1, 3, 4)).shape
        (1, 8, 8)
    """

    sides = 1

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """``(N, C, L) -> (N, O, OL)``; with ``output_size``, these sides in its stead."""
        return conv_transpose1d(input, self.weight, self.bias, *self._geometry(input, output_size))


class ConvTranspose2d(_ConvTranspose):
    """Two-dimensional transposed convolution: ``lucid.nn.functional.conv_transpose2d`` with parameters of its own.

    Args:
        in_channels: C, at least 1.
        out_channels: O, at least 1.
        kernel_size: a number or a pair (vertical, horizontal).
        stride: a number or a pair, at least 1.
        padding: a number or a pair, at least 0.
        output_padding: a number or a pair, less than the stride or the dilation.
        groups: into how many groups channels are divided.
        bias: whether there is one.
        dilation: a number or a pair, at least 1.
        padding_mode: ``"zeros"``, the only one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(C, O/groups, KH, KW)``, from ``kaiming_uniform(a=sqrt(5))``: evenly up to
            ``1 / sqrt(O/groups * taps)``.
        bias: ``(O,)``, likewise; or None.

    Raises:
        ValueError: groups that do not divide the channels, sizes below their least, another padding mode.

    Example:
        >>> import lucid
        >>> lucid.nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1)(lucid.zeros(1, 3, 4, 4)).shape
        (1, 8, 8, 8)
    """

    sides = 2

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """``(N, C, H, W) -> (N, O, OH, OW)``; with ``output_size``, these sides in its stead."""
        return conv_transpose2d(input, self.weight, self.bias, *self._geometry(input, output_size))


class ConvTranspose3d(_ConvTranspose):
    """Three-dimensional transposed convolution: ``lucid.nn.functional.conv_transpose3d`` with parameters of its own.

    Args:
        in_channels: C, at least 1.
        out_channels: O, at least 1.
        kernel_size: a number or three (along the depth, vertical, horizontal).
        stride: a number or three, at least 1.
        padding: a number or three, at least 0.
        output_padding: a number or three, less than the stride or the dilation.
        groups: into how many groups channels are divided.
        bias: whether there is one.
        dilation: a number or three, at least 1.
        padding_mode: ``"zeros"``, the only one.
        device: where the parameters lie; the default device if None.
        dtype: float32 or float64; the default dtype if None.

    Attributes:
        weight: ``(C, O/groups, KD, KH, KW)``, from ``kaiming_uniform(a=sqrt(5))``: evenly up to
            ``1 / sqrt(O/groups * taps)``.
        bias: ``(O,)``, likewise; or None.

    Raises:
        ValueError: groups that do not divide the channels, sizes below their least, another padding mode.

    Example:
        >>> import lucid
        >>> lucid.nn.ConvTranspose3d(3, 8, 4, stride=2, padding=1)(lucid.zeros(1, 3, 2, 4, 4)).shape
        (1, 8, 4, 8, 8)
    """

    sides = 3

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """``(N, C, D, H, W) -> (N, O, OD, OH, OW)``; with ``output_size``, these sides in its stead."""
        return conv_transpose3d(input, self.weight, self.bias, *self._geometry(input, output_size))


class Unfold(Module):
    """The windows of images as columns: ``lucid.nn.functional.unfold``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.Unfold(3, padding=1)(lucid.zeros(1, 2, 4, 5)).shape
        (1, 18, 20)
    """

    def __init__(
        self, kernel_size: SidesLike, dilation: SidesLike = 1, padding: SidesLike = 0, stride: SidesLike = 1
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C KH KW, OH OW)``."""
        return unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        rest = f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        return f"kernel_size={self.kernel_size}, {rest}"


class Fold(Unfold):
    """Columns put back on images: ``lucid.nn.functional.fold``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.Fold((4, 5), 3, padding=1)(lucid.zeros(1, 18, 20)).shape
        (1, 2, 4, 5)
    """

    def __init__(
        self,
        output_size: SidesLike,
        kernel_size: SidesLike,
        dilation: SidesLike = 1,
        padding: SidesLike = 0,
        stride: SidesLike = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C KH KW, OH OW) -> (N, C, H, W)``."""
        return fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"output_size={self.output_size}, {super().extra_repr()}"
