"""Pooling over windows of images of one to three sides (``ARITHMETIC.md``, section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

from lucid.backends import Backend
from lucid.core.tensor import Tensor, wrap
from lucid.kernels.declare import Sides
from lucid.ops._function import Function, apply
from lucid.ops._window import MOST, SidesLike, cached, output_size, per_side, require_image, times

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]

OutputLike: TypeAlias = "int | Sequence[int | None]"
"""A number for all sides, or one for each; None keeps a side's length."""


class MaxPool(Function):
    floats = True
    params = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self, kernel_size: Sides, stride: Sides, padding: Sides, dilation: Sides, ceil_mode: bool, output: Sides
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        self.output = output

    def forward(self, be: Backend, x: Any) -> Any:
        y, index = be.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.output)
        self.saved = (index, x.shape)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        index, shape = self.saved  # type: ignore[misc]
        return (be.max_pool2d_grad(dy, index, shape),)


class MaxPool1d(MaxPool):
    name = "max_pool1d"


class MaxPool2d(MaxPool):
    name = "max_pool2d"


class MaxPool3d(MaxPool):
    name = "max_pool3d"


_MAX_POOL = {1: MaxPool1d, 2: MaxPool2d, 3: MaxPool3d}


class AvgPool(Function):
    floats = True
    params = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

    def __init__(
        self,
        kernel_size: Sides,
        stride: Sides,
        padding: Sides,
        ceil_mode: bool,
        count_include_pad: bool,
        output: Sides,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.output = output

    def forward(self, be: Backend, x: Any) -> Any:
        self.shape = x.shape
        return be.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.count_include_pad, self.output)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        geometry = self.kernel_size, self.stride, self.padding, self.count_include_pad
        return (be.avg_pool2d_grad(dy, self.shape, *geometry),)


class AvgPool1d(AvgPool):
    name = "avg_pool1d"


class AvgPool2d(AvgPool):
    name = "avg_pool2d"


class AvgPool3d(AvgPool):
    name = "avg_pool3d"


_AVG_POOL = {1: AvgPool1d, 2: AvgPool2d, 3: AvgPool3d}


class AdaptiveAvgPool(Function):
    floats = True
    params = ("output_size",)

    def __init__(self, output_size: Sides) -> None:
        self.output_size = output_size

    def forward(self, be: Backend, x: Any) -> Any:
        self.shape = x.shape
        return be.adaptive_avg_pool2d(x, self.output_size)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.adaptive_avg_pool2d_grad(dy, self.shape),)


class AdaptiveAvgPool1d(AdaptiveAvgPool):
    name = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(AdaptiveAvgPool):
    name = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(AdaptiveAvgPool):
    name = "adaptive_avg_pool3d"


class AdaptiveMaxPool(Function):
    floats = True
    params = ("output_size",)

    def __init__(self, output_size: Sides) -> None:
        self.output_size = output_size

    def forward(self, be: Backend, x: Any) -> Any:
        y, index = be.adaptive_max_pool2d(x, self.output_size)
        self.saved = (index, x.shape)
        return y

    backward = MaxPool.backward


class AdaptiveMaxPool1d(AdaptiveMaxPool):
    name = "adaptive_max_pool1d"


class AdaptiveMaxPool2d(AdaptiveMaxPool):
    name = "adaptive_max_pool2d"


class AdaptiveMaxPool3d(AdaptiveMaxPool):
    name = "adaptive_max_pool3d"


_ADAPTIVE_MAX_POOL = {1: AdaptiveMaxPool1d, 2: AdaptiveMaxPool2d, 3: AdaptiveMaxPool3d}
_ADAPTIVE_AVG_POOL = {1: AdaptiveAvgPool1d, 2: AdaptiveAvgPool2d, 3: AdaptiveAvgPool3d}


@overload
def max_pool1d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Tensor: ...


@overload
def max_pool1d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def max_pool1d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window along one side: ``max_pool2d``, which explains the arguments.

    Args:
        input: ``(N, C, L)``.
        kernel_size: the window's size: a number.
        stride: the distance between windows; None is the window's size.
        padding: how far windows reach beyond the image, at most half of the window.
        dilation: the distance between the elements of a window.
        ceil_mode: whether a last window that begins on the image and reaches beyond the padding counts.
        return_indices: whether to return also where each element was found, as its place, int64.

    Returns:
        ``(N, C, OL)``.

    Raises:
        ValueError: as ``max_pool2d``.

    Source: ONNX operator MaxPool.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(6.0), (1, 1, 6))
        >>> lucid.nn.functional.max_pool1d(x, 2).tolist()
        [[[1.0, 3.0, 5.0]]]
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@overload
def max_pool2d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Tensor: ...


@overload
def max_pool2d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def max_pool2d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window; NaN if the window has one.

    Args:
        input: images ``(N, C, H, W)``.
        kernel_size: the window's size: a number or a pair (vertical, horizontal).
        stride: the distance between windows; None is the window's size.
        padding: how far windows reach beyond the image, at most half of the window; nothing there is ever the largest.
        dilation: the distance between the elements of a window.
        ceil_mode: whether a last window that begins on the image and reaches beyond the padding counts.
        return_indices: whether to return also where each element was found, as ``h * W + w``, int64.

    Returns:
        ``(N, C, OH, OW)``. Gradient: ``dy`` to the first largest element of each window.

    Raises:
        ValueError: another rank, a window larger than the padded image (with ``ceil_mode``, where it reaches beyond by
            the stride or more), padding of more than half a window.

    Source: ONNX operator MaxPool.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(16.0), (1, 1, 4, 4))
        >>> lucid.nn.functional.max_pool2d(x, 2).tolist()
        [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@overload
def max_pool3d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Tensor: ...


@overload
def max_pool3d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def max_pool3d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    dilation: SidesLike = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window with a depth: ``max_pool2d``, which explains the arguments.

    Args:
        input: ``(N, C, D, H, W)``.
        kernel_size: the window's size: a number or three (along the depth, vertical, horizontal).
        stride: the distance between windows; None is the window's size.
        padding: how far windows reach beyond the image, at most half of the window.
        dilation: the distance between the elements of a window.
        ceil_mode: whether a last window that begins on the image and reaches beyond the padding counts.
        return_indices: whether to return also where each element was found, as ``(d * H + h) * W + w``, int64.

    Returns:
        ``(N, C, OD, OH, OW)``.

    Raises:
        ValueError: as ``max_pool2d``.

    Source: ONNX operator MaxPool.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(16.0), (1, 1, 2, 2, 4))
        >>> lucid.nn.functional.max_pool3d(x, 2).tolist()
        [[[[[13.0, 15.0]]]]]
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_pool(
    sides: int,
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None,
    padding: SidesLike,
    dilation: SidesLike,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    make = _MAX_POOL[sides]
    geometry = cached(_windows, make.name, sides, input._array.shape, kernel_size, stride, padding, dilation, ceil_mode)
    function = make(*geometry[:4], ceil_mode, geometry[4])
    return _with_indices(function, input) if return_indices else apply(function, input)


def _with_indices(function: Function, input: Tensor) -> tuple[Tensor, Tensor]:
    """The result of a max pooling, and where its elements were found."""
    y = apply(function, input)
    return y, wrap(function.saved[0].astype("int64"), input.device)  # type: ignore[index]


def _windows(
    name: str,
    sides: int,
    shape: tuple[int, ...],
    kernel_size: SidesLike,
    stride: SidesLike | None,
    padding: SidesLike,
    dilation: SidesLike,
    ceil_mode: bool,
) -> tuple[Sides, Sides, Sides, Sides, Sides]:
    """Window, stride, padding and dilation by side, and how many windows there are, after checking them."""
    require_image(name, shape, sides)
    kernel = per_side("kernel_size", kernel_size, 1, sides)
    strides = kernel if stride is None else per_side("stride", stride, 1, sides)
    pads, dilations = per_side("padding", padding, 0, sides), per_side("dilation", dilation, 1, sides)
    spans = [step * (size - 1) + 1 for size, step in zip(kernel, dilations, strict=True)]
    if any(2 * width > span for width, span in zip(pads, spans, strict=True)):
        raise ValueError(f"padding: got {pads}; may be at most half of the window {times(tuple(spans))}")
    return kernel, strides, pads, dilations, output_size(name, shape, kernel, strides, pads, dilations, ceil_mode)


def avg_pool1d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window along one side: ``avg_pool2d``, which explains the arguments.

    Args:
        input: ``(N, C, L)``.
        kernel_size: the window's size: a number.
        stride: the distance between windows; None is the window's size.
        padding: zeros around the image, at most half of the window.
        ceil_mode: whether a last window that begins on the image and reaches beyond the padding counts.
        count_include_pad: whether a window's mean counts the padding's zeros.

    Returns:
        ``(N, C, OL)``.

    Raises:
        ValueError: as ``max_pool2d``.

    Source: ONNX operator AveragePool.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(6.0), (1, 1, 6))
        >>> lucid.nn.functional.avg_pool1d(x, 2).tolist()
        [[[0.5, 2.5, 4.5]]]
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window.

    Args:
        input: images ``(N, C, H, W)``.
        kernel_size: the window's size: a number or a pair (vertical, horizontal).
        stride: the distance between windows; None is the window's size.
        padding: zeros around the image, at most half of the window.
        ceil_mode: whether a last window that begins on the image and reaches beyond the padding counts.
        count_include_pad: whether a window's mean counts the padding's zeros.

    Returns:
        ``(N, C, OH, OW)``.

    Raises:
        ValueError: as ``max_pool2d``.

    Source: ONNX operator AveragePool.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(16.0), (1, 1, 4, 4))
        >>> lucid.nn.functional.avg_pool2d(x, 2).tolist()
        [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool3d(
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None = None,
    padding: SidesLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window with a depth: ``avg_pool2d``, which explains the arguments.

    Args:
        input: ``(N, C, D, H, W)``.
        kernel_size: the window's size: a number or three (along the depth, vertical, horizontal).
        stride: the distance between windows; None is the window's size.
        padding: zeros around the image, at most half of the window.
        ceil_mode: whether a last window that begins on the image and reaches beyond the padding counts.
        count_include_pad: whether a window's mean counts the padding's zeros.

    Returns:
        ``(N, C, OD, OH, OW)``.

    Raises:
        ValueError: as ``max_pool2d``.

    Source: ONNX operator AveragePool.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(16.0), (1, 1, 2, 2, 4))
        >>> lucid.nn.functional.avg_pool3d(x, 2).tolist()
        [[[[[6.5, 8.5]]]]]
    """
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def _avg_pool(
    sides: int,
    input: Tensor,
    kernel_size: SidesLike,
    stride: SidesLike | None,
    padding: SidesLike,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Tensor:
    make = _AVG_POOL[sides]
    geometry = cached(_windows, make.name, sides, input._array.shape, kernel_size, stride, padding, 1, ceil_mode)
    kernel, strides, pads, _, output = geometry
    return apply(make(kernel, strides, pads, ceil_mode, count_include_pad, output), input)


def adaptive_avg_pool1d(input: Tensor, output_size: OutputLike) -> Tensor:
    """The means of ``output_size`` windows, which divide a side as evenly as whole elements allow.

    Args:
        input: ``(N, C, L)`` with at least one element.
        output_size: a number; None, in a sequence of one, keeps the length.

    Returns:
        ``(N, C, output_size)``.

    Raises:
        ValueError: as ``adaptive_avg_pool2d``, which says where the windows lie.

    Source: ONNX operator GlobalAveragePool for size 1.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(6.0), (1, 1, 6))
        >>> lucid.nn.functional.adaptive_avg_pool1d(x, 3).tolist()
        [[[0.5, 2.5, 4.5]]]
    """
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: OutputLike) -> Tensor:
    """The means of ``output_size`` windows, which divide the image as evenly as whole pixels allow.

    Window ``i`` of ``O`` along a side of ``I`` spans ``floor(i I / O)`` to ``ceil((i + 1) I / O) - 1``.

    Args:
        input: images ``(N, C, H, W)`` with at least one pixel.
        output_size: a number or a pair (vertical, horizontal); None keeps the side's length.

    Returns:
        ``(N, C, *output_size)``.

    Raises:
        ValueError: another rank, or an empty image.

    Source: ONNX operator GlobalAveragePool for size 1; He et al., 2015 (SPP).

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(16.0), (1, 1, 4, 4))
        >>> lucid.nn.functional.adaptive_avg_pool2d(x, 1).tolist()
        [[[[7.5]]]]
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: OutputLike) -> Tensor:
    """The means of ``output_size`` windows, which divide the image as evenly as whole pixels allow.

    Args:
        input: ``(N, C, D, H, W)`` with at least one pixel.
        output_size: a number or three (along the depth, vertical, horizontal); None keeps the side's length.

    Returns:
        ``(N, C, *output_size)``.

    Raises:
        ValueError: as ``adaptive_avg_pool2d``, which says where the windows lie.

    Source: ONNX operator GlobalAveragePool for size 1.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(16.0), (1, 1, 2, 2, 4))
        >>> lucid.nn.functional.adaptive_avg_pool3d(x, (1, 1, 2)).tolist()
        [[[[[6.5, 8.5]]]]]
    """
    return _adaptive_avg_pool(3, input, output_size)


def _adaptive_avg_pool(sides: int, input: Tensor, output_size: OutputLike) -> Tensor:
    make = _ADAPTIVE_AVG_POOL[sides]
    return apply(make(_adaptive_sides(make.name, sides, input._array.shape, output_size)), input)


def _adaptive_sides(name: str, sides: int, shape: tuple[int, ...], output_size: OutputLike) -> Sides:
    """How many windows there are along each side, after checking them."""
    require_image(name, shape, sides)
    wanted: Any = output_size
    if isinstance(output_size, tuple | list) and len(output_size) == sides:
        wanted = [size if count is None else count for size, count in zip(shape[2:], output_size, strict=True)]
    counts = per_side("output_size", wanted, 1, sides)
    if 0 in shape[2:]:
        raise ValueError(f"{name}: input has shape {shape}; images must have at least one pixel")
    if max(shape[2:]) > MOST:
        raise ValueError(f"{name}: input has shape {shape}; a side may have at most {MOST} pixels")
    return counts


@overload
def adaptive_max_pool1d(input: Tensor, output_size: OutputLike, return_indices: Literal[False] = False) -> Tensor: ...


@overload
def adaptive_max_pool1d(
    input: Tensor, output_size: OutputLike, return_indices: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def adaptive_max_pool1d(input: Tensor, output_size: OutputLike, return_indices: bool = False) -> Any:
    """The largest elements of ``output_size`` windows, which lie as those of ``adaptive_avg_pool1d``.

    Args:
        input: ``(N, C, L)`` with at least one pixel.
        output_size: a number; None, in a sequence of one, keeps the length.
        return_indices: whether to return also where each element was found, as its place, int64.

    Returns:
        ``(N, C, *output_size)``. Gradient: ``dy`` to the first largest element of each window.

    Raises:
        ValueError: another rank, or an empty image.

    Source: ONNX operator GlobalMaxPool for size 1; He et al., 2015 (SPP).

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(6.0), (1, 1, 6))
        >>> lucid.nn.functional.adaptive_max_pool1d(x, 3).tolist()
        [[[1.0, 3.0, 5.0]]]
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


@overload
def adaptive_max_pool2d(input: Tensor, output_size: OutputLike, return_indices: Literal[False] = False) -> Tensor: ...


@overload
def adaptive_max_pool2d(
    input: Tensor, output_size: OutputLike, return_indices: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def adaptive_max_pool2d(input: Tensor, output_size: OutputLike, return_indices: bool = False) -> Any:
    """The largest elements of ``output_size`` windows, which lie as those of ``adaptive_avg_pool2d``.

    Args:
        input: images ``(N, C, H, W)`` with at least one pixel.
        output_size: a number or a pair (vertical, horizontal); None keeps the side's length.
        return_indices: whether to return also where each element was found, as ``h * W + w``, int64.

    Returns:
        ``(N, C, *output_size)``. Gradient: ``dy`` to the first largest element of each window.

    Raises:
        ValueError: another rank, or an empty image.

    Source: ONNX operator GlobalMaxPool for size 1; He et al., 2015 (SPP).

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(16.0), (1, 1, 4, 4))
        >>> lucid.nn.functional.adaptive_max_pool2d(x, 2).tolist()
        [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


@overload
def adaptive_max_pool3d(input: Tensor, output_size: OutputLike, return_indices: Literal[False] = False) -> Tensor: ...


@overload
def adaptive_max_pool3d(
    input: Tensor, output_size: OutputLike, return_indices: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def adaptive_max_pool3d(input: Tensor, output_size: OutputLike, return_indices: bool = False) -> Any:
    """The largest elements of ``output_size`` windows, which lie as those of ``adaptive_avg_pool3d``.

    Args:
        input: ``(N, C, D, H, W)`` with at least one pixel.
        output_size: a number or three (along the depth, vertical, horizontal); None keeps the side's length.
        return_indices: whether to return also where each element was found, as ``(d * H + h) * W + w``, int64.

    Returns:
        ``(N, C, *output_size)``. Gradient: ``dy`` to the first largest element of each window.

    Raises:
        ValueError: another rank, or an empty image.

    Source: ONNX operator GlobalMaxPool for size 1; He et al., 2015 (SPP).

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(16.0), (1, 1, 2, 2, 4))
        >>> lucid.nn.functional.adaptive_max_pool3d(x, (1, 1, 2)).tolist()
        [[[[[13.0, 15.0]]]]]
    """
    return _adaptive_max_pool(3, input, output_size, return_indices)


def _adaptive_max_pool(sides: int, input: Tensor, output_size: OutputLike, return_indices: bool) -> Any:
    make = _ADAPTIVE_MAX_POOL[sides]
    function = make(_adaptive_sides(make.name, sides, input._array.shape, output_size))
    return _with_indices(function, input) if return_indices else apply(function, input)
