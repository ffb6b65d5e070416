"""Pooling over windows of images (``ARITHMETIC.md``, section 8)."""

from __future__ import annotations

from typing import Any, Literal, overload

from lucid.backends import Backend
from lucid.core.tensor import Tensor, wrap
from lucid.ops._function import Function, apply
from lucid.ops._window import MOST, Pair, PairLike, cached, output_size, per_side, require_image, times

__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "max_pool2d"]


class MaxPool2d(Function):
    name = "max_pool2d"
    floats = True
    params = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool, output: Pair
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


@overload
def max_pool2d(
    input: Tensor,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PairLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> Tensor: ...


@overload
def max_pool2d(
    input: Tensor,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PairLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def max_pool2d(
    input: Tensor,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PairLike = 0,
    dilation: PairLike = 1,
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
    geometry = cached(_windows, "max_pool2d", input._array.shape, kernel_size, stride, padding, dilation, ceil_mode)
    function = MaxPool2d(*geometry[:4], ceil_mode, geometry[4])
    y = apply(function, input)
    if not return_indices:
        return y
    return y, wrap(function.saved[0].astype("int64"), input.device)  # type: ignore[index]


def _windows(
    name: str,
    shape: tuple[int, ...],
    kernel_size: PairLike,
    stride: PairLike | None,
    padding: PairLike,
    dilation: PairLike,
    ceil_mode: bool,
) -> tuple[Pair, Pair, Pair, Pair, Pair]:
    """Window, stride, padding and dilation as pairs, and how many windows there are, after checking them."""
    require_image(name, shape)
    kernel = per_side("kernel_size", kernel_size, 1)
    strides = kernel if stride is None else per_side("stride", stride, 1)
    pads, dilations = per_side("padding", padding, 0), per_side("dilation", dilation, 1)
    spans = [step * (size - 1) + 1 for size, step in zip(kernel, dilations, strict=True)]
    if any(2 * width > span for width, span in zip(pads, spans, strict=True)):
        raise ValueError(f"padding: got {pads}; may be at most half of the window {times(tuple(spans))}")
    return kernel, strides, pads, dilations, output_size(name, shape, kernel, strides, pads, dilations, ceil_mode)


class AvgPool2d(Function):
    name = "avg_pool2d"
    floats = True
    params = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        ceil_mode: bool,
        count_include_pad: bool,
        output: Pair,
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


def avg_pool2d(
    input: Tensor,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PairLike = 0,
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
    geometry = cached(_windows, "avg_pool2d", input._array.shape, kernel_size, stride, padding, 1, ceil_mode)
    kernel, strides, pads, _, output = geometry
    return apply(AvgPool2d(kernel, strides, pads, ceil_mode, count_include_pad, output), input)


class AdaptiveAvgPool2d(Function):
    name = "adaptive_avg_pool2d"
    floats = True
    params = ("output_size",)

    def __init__(self, output_size: Pair) -> None:
        self.output_size = output_size

    def forward(self, be: Backend, x: Any) -> Any:
        self.shape = x.shape
        return be.adaptive_avg_pool2d(x, self.output_size)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.adaptive_avg_pool2d_grad(dy, self.shape),)


def adaptive_avg_pool2d(input: Tensor, output_size: int | tuple[int | None, int | None]) -> Tensor:
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
    shape = input._array.shape
    require_image("adaptive_avg_pool2d", shape)
    if isinstance(output_size, tuple | list):
        kept = len(output_size) == len(shape) - 2
        sides = [n if o is None else o for n, o in zip(shape[2:], output_size, strict=True)] if kept else output_size
        size = per_side("output_size", sides, 1)
    else:
        size = per_side("output_size", output_size, 1)
    if 0 in shape[2:]:
        raise ValueError(f"adaptive_avg_pool2d: input has shape {shape}; images must have at least one pixel")
    if max(shape[2:]) > MOST:
        raise ValueError(f"adaptive_avg_pool2d: input has shape {shape}; a side may have at most {MOST} pixels")
    return apply(AdaptiveAvgPool2d(size), input)
