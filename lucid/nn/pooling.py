"""The pooling layers."""

from __future__ import annotations

from typing import Any

from lucid.core.tensor import Tensor
from lucid.nn.module import Module
from lucid.ops import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from lucid.ops._window import PairLike

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]


class MaxPool2d(Module):
    """The largest element of each window: ``lucid.nn.functional.max_pool2d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.MaxPool2d(3, stride=2, padding=1)(lucid.zeros(1, 2, 8, 8)).shape
        (1, 2, 4, 4)
    """

    def __init__(
        self,
        kernel_size: PairLike,
        stride: PairLike | None = None,
        padding: PairLike = 0,
        dilation: PairLike = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        """``(N, C, H, W) -> (N, C, OH, OW)``, with the indices if they are asked for."""
        geometry = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        if self.return_indices:
            return max_pool2d(input, *geometry, return_indices=True)
        return max_pool2d(input, *geometry)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window: ``lucid.nn.functional.avg_pool2d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.AvgPool2d(2)(lucid.zeros(1, 2, 8, 8)).shape
        (1, 2, 4, 4)
    """

    def __init__(
        self,
        kernel_size: PairLike,
        stride: PairLike | None = None,
        padding: PairLike = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, OH, OW)``."""
        return avg_pool2d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The means of a fixed number of windows: ``lucid.nn.functional.adaptive_avg_pool2d``.

    Example:
        >>> import lucid
        >>> lucid.nn.AdaptiveAvgPool2d((1, 1))(lucid.zeros(1, 2, 7, 7)).shape
        (1, 2, 1, 1)
    """

    def __init__(self, output_size: int | tuple[int | None, int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, *output_size)``."""
        return adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"output_size={self.output_size}"
