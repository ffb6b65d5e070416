"""The pooling layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from lucid.core.tensor import Tensor
from lucid.nn.module import Module
from lucid.ops import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from lucid.ops._window import SidesLike, per_side
from lucid.ops.pooling import OutputLike

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]


class _MaxPool(Module):
    pool: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: SidesLike,
        stride: SidesLike | None = None,
        padding: SidesLike = 0,
        dilation: SidesLike = 1,
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
        """``(N, C, *sides) -> (N, C, *outputs)``, with the indices if they are asked for."""
        geometry = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        return self.pool(input, *geometry, return_indices=self.return_indices)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class _AvgPool(Module):
    pool: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        kernel_size: SidesLike,
        stride: SidesLike | None = None,
        padding: SidesLike = 0,
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
        """``(N, C, *sides) -> (N, C, *outputs)``."""
        return self.pool(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AdaptiveAvgPool(Module):
    pool: ClassVar[Callable[..., Tensor]]

    def __init__(self, output_size: OutputLike) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, *sides) -> (N, C, *output_size)``."""
        return self.pool(input, self.output_size)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(Module):
    pool: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: OutputLike, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """``(N, C, *sides) -> (N, C, *output_size)``, with the indices if they are asked for."""
        return self.pool(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        return f"output_size={self.output_size}"


class MaxPool1d(_MaxPool):
    """The largest element of each window: ``lucid.nn.functional.max_pool1d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.MaxPool1d(3, stride=2, padding=1)(lucid.zeros(1, 2, 8)).shape
        (1, 2, 4)
    """

    pool = staticmethod(max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest element of each window: ``lucid.nn.functional.max_pool2d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.MaxPool2d(3, stride=2, padding=1)(lucid.zeros(1, 2, 8, 8)).shape
        (1, 2, 4, 4)
    """

    pool = staticmethod(max_pool2d)


class MaxPool3d(_MaxPool):
    """The largest element of each window: ``lucid.nn.functional.max_pool3d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.MaxPool3d(3, stride=2, padding=1)(lucid.zeros(1, 2, 4, 8, 8)).shape
        (1, 2, 2, 4, 4)
    """

    pool = staticmethod(max_pool3d)


class AvgPool1d(_AvgPool):
    """The mean of each window: ``lucid.nn.functional.avg_pool1d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.AvgPool1d(2)(lucid.zeros(1, 2, 8)).shape
        (1, 2, 4)
    """

    pool = staticmethod(avg_pool1d)

    def extra_repr(self) -> str:
        """As PyTorch shows it."""
        sizes = [per_side("", value, 0, 1) for value in (self.kernel_size, self.stride, self.padding)]
        return "kernel_size={}, stride={}, padding={}".format(*sizes)


class AvgPool2d(_AvgPool):
    """The mean of each window: ``lucid.nn.functional.avg_pool2d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.AvgPool2d(2)(lucid.zeros(1, 2, 8, 8)).shape
        (1, 2, 4, 4)
    """

    pool = staticmethod(avg_pool2d)


class AvgPool3d(_AvgPool):
    """The mean of each window: ``lucid.nn.functional.avg_pool3d``, which explains the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.AvgPool3d(2)(lucid.zeros(1, 2, 4, 8, 8)).shape
        (1, 2, 2, 4, 4)
    """

    pool = staticmethod(avg_pool3d)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of a given number of windows: ``lucid.nn.functional.adaptive_avg_pool1d``, which has the argument.

    Example:
        >>> import lucid
        >>> lucid.nn.AdaptiveAvgPool1d(1)(lucid.zeros(1, 2, 8)).shape
        (1, 2, 1)
    """

    pool = staticmethod(adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of a given number of windows: ``lucid.nn.functional.adaptive_avg_pool2d``, which has the argument.

    Example:
        >>> import lucid
        >>> lucid.nn.AdaptiveAvgPool2d((1, 1))(lucid.zeros(1, 2, 8, 8)).shape
        (1, 2, 1, 1)
    """

    pool = staticmethod(adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of a given number of windows: ``lucid.nn.functional.adaptive_avg_pool3d``, which has the argument.

    Example:
        >>> import lucid
        >>> lucid.nn.AdaptiveAvgPool3d(1)(lucid.zeros(1, 2, 4, 8, 8)).shape
        (1, 2, 1, 1, 1)
    """

    pool = staticmethod(adaptive_avg_pool3d)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest of a given number of windows: ``lucid.nn.functional.adaptive_max_pool1d``, which has the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.AdaptiveMaxPool1d(1)(lucid.zeros(1, 2, 8)).shape
        (1, 2, 1)
    """

    pool = staticmethod(adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest of a given number of windows: ``lucid.nn.functional.adaptive_max_pool2d``, which has the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.AdaptiveMaxPool2d(1)(lucid.zeros(1, 2, 8, 8)).shape
        (1, 2, 1, 1)
    """

    pool = staticmethod(adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest of a given number of windows: ``lucid.nn.functional.adaptive_max_pool3d``, which has the arguments.

    Example:
        >>> import lucid
        >>> lucid.nn.AdaptiveMaxPool3d(1)(lucid.zeros(1, 2, 4, 8, 8)).shape
        (1, 2, 1, 1, 1)
    """

    pool = staticmethod(adaptive_max_pool3d)
