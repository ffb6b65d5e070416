"""Convolution and transposed convolution of images of one to three sides (``ARITHMETIC.md``, section 3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, ClassVar

from lucid.backends import Backend
from lucid.core.tensor import Tensor
from lucid.kernels import windows
from lucid.kernels.declare import Sides
from lucid.ops._function import Function, apply
from lucid.ops._window import KERNEL_AXES, SEVERAL, SidesLike, cached, output_size, per_side, require_image, times
from lucid.ops.shape import pad

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold", "unfold"]

Geometry = tuple[Sides, Sides, Sides, int]
"""Stride, padding, dilation and groups."""


class Conv(Function):
    params = ("stride", "padding", "dilation", "groups")
    accumulates = floats = True

    def __init__(self, stride: Sides, padding: Sides, dilation: Sides, groups: int) -> None:
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(self, be: Backend, x: Any, weight: Any, bias: Any) -> Any:
        self.save(x, weight)
        return be.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def save(self, x: Any, weight: Any) -> None:
        """Keep each array for the other's gradient."""
        needs = self.needs
        if needs is not None:
            self.saved = (x if needs[1] else None, weight if needs[0] else None, x.shape, weight.shape)

    def backward(self, be: Backend, dy: Any, accumulate_into: Any) -> tuple[Any, ...]:
        x, weight, x_shape, weight_shape = self.saved  # type: ignore[misc]
        needs_x, needs_weight, needs_bias = self.needs[:3]  # type: ignore[index]
        geometry = self.stride, self.padding, self.dilation, self.groups
        dx = None
        if needs_x:
            dx = (
                be.conv2d_input_grad(dy, weight, x_shape, *geometry)
                if accumulate_into is None
                else be.conv2d_input_grad_onto(accumulate_into, dy, weight, geometry)
            )
        return (
            dx,
            be.conv2d_weight_grad(dy, x, weight_shape, *geometry) if needs_weight else None,
            _bias_grad(be, dy) if needs_bias else None,
        )


class Conv1d(Conv):
    name = "conv1d"


class Conv2d(Conv):
    name = "conv2d"


class Conv3d(Conv):
    name = "conv3d"


_CONV = {1: Conv1d, 2: Conv2d, 3: Conv3d}


class ConvTranspose(Function):
    """The input gradient of a convolution as an operation: its gradients are that convolution and its weight's."""

    params = ("stride", "padding", "output_padding", "groups", "dilation")
    floats = True

    def __init__(
        self,
        stride: Sides,
        padding: Sides,
        output_padding: Sides,
        groups: int,
        dilation: Sides,
        output: Sides,
    ) -> None:
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding
        self.groups = groups
        self.dilation = dilation
        self.output = output

    def forward(self, be: Backend, x: Any, weight: Any, bias: Any) -> Any:
        needs = self.needs
        if needs is not None:
            self.saved = (x if needs[1] else None, weight if needs[0] else None, x.shape, weight.shape)
        shape = len(x), weight.shape[1] * self.groups, *self.output
        y = be.conv2d_input_grad(x, weight, shape, self.stride, self.padding, self.dilation, self.groups)
        return y if bias is None else be.binary("add", y, bias.reshape(-1, *[1 for _ in self.output]))

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        x, weight, x_shape, weight_shape = self.saved  # type: ignore[misc]
        needs_x, needs_weight, needs_bias = self.needs  # type: ignore[misc]
        geometry = self.stride, self.padding, self.dilation, self.groups
        dx = None
        if needs_x:  # a window of the output padding's is none of the convolution's
            dx = be.conv2d(dy, weight, None, *geometry)[(..., *[slice(size) for size in x_shape[2:]])]
        return (
            dx,
            be.conv2d_weight_grad(x, dy, weight_shape, *geometry) if needs_weight else None,
            _bias_grad(be, dy) if needs_bias else None,
        )


class ConvTranspose1d(ConvTranspose):
    name = "conv_transpose1d"


class ConvTranspose2d(ConvTranspose):
    name = "conv_transpose2d"


class ConvTranspose3d(ConvTranspose):
    name = "conv_transpose3d"


_CONV_TRANSPOSE = {1: ConvTranspose1d, 2: ConvTranspose2d, 3: ConvTranspose3d}


def _bias_grad(be: Backend, dy: Any) -> Any:
    return be.reduce("sum", dy, (0, *range(2, dy.ndim)), False)


class Unfold(Function):
    """The windows of an image as columns; ``Fold`` is its gradient, and its gradient is ``Unfold``."""

    name = "unfold"
    floats = True
    params: ClassVar[tuple[str, ...]] = ("kernel_size", "dilation", "padding", "stride")

    def __init__(
        self, kernel_size: Sides, dilation: Sides, padding: Sides, stride: Sides, image: Sides, windows: Sides
    ) -> None:
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride
        self.image = image
        self.windows = windows

    def forward(self, be: Backend, x: Any) -> Any:
        return self.unfolded(be, x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (self.folded(be, dy),)

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        """Every element of the window, and where its column comes from on the padded image."""
        for kh, kw in itertools.product(*map(range, self.kernel_size)):
            starts = kh * self.dilation[0], kw * self.dilation[1]
            spans = zip(starts, self.stride, self.windows, strict=True)
            yield kh, kw, tuple([slice(start, start + step * n, step) for start, step, n in spans])  # type: ignore[misc]

    def padded(self, be: Backend, n: int, c: int, dtype: Any) -> tuple[Any, Any]:
        """Zeros as large as the padded image, and their part that is the image."""
        (top, left), (height, width) = self.padding, self.image
        border = be.full((n, c, height + 2 * top, width + 2 * left), 0.0, dtype)
        return border, border[:, :, top : top + height, left : left + width]

    def unfolded(self, be: Backend, x: Any) -> Any:
        n, c = x.shape[:2]
        if any(self.padding):
            border, inside = self.padded(be, n, c, x.dtype)
            inside[...] = x
            x = border
        columns = be.xp.empty((n, c, *self.kernel_size, *self.windows), x.dtype)
        for kh, kw, (rows, places) in self.taps():
            columns[:, :, kh, kw] = x[:, :, rows, places]
        return columns.reshape(n, c * math.prod(self.kernel_size), math.prod(self.windows))

    def folded(self, be: Backend, y: Any) -> Any:
        n, c = y.shape[0], y.shape[1] // math.prod(self.kernel_size)
        columns = y.reshape(n, c, *self.kernel_size, *self.windows)
        border, inside = self.padded(be, n, c, y.dtype)
        for kh, kw, (rows, places) in self.taps():
            border[:, :, rows, places] = be.binary("add", border[:, :, rows, places], columns[:, :, kh, kw])
        return inside.copy() if any(self.padding) else border


class Fold(Unfold):
    name = "fold"
    params = ("output_size", "kernel_size", "dilation", "padding", "stride")

    @property
    def output_size(self) -> Sides:
        return self.image

    def forward(self, be: Backend, x: Any) -> Any:
        return self.folded(be, x)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (self.unfolded(be, dy),)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: SidesLike = 1,
    padding: SidesLike | str = 0,
    dilation: SidesLike = 1,
    groups: int = 1,
) -> Tensor:
    """One-dimensional convolution (without flipping the kernel):

    ``y[n, o, i] = b[o] + sum over (k, c) of x[n, c, i*stride - padding + k*dilation] * w[o, c, k]``.

    Args:
        input: ``(N, C, L)``.
        weight: ``(O, C/groups, K)``.
        bias: ``(O,)``, or None.
        stride: at least 1.
        padding: how many zeros stand on both sides, or ``"valid"`` or ``"same"``, as in ``conv2d``.
        dilation: the distance between taps, at least 1.
        groups: into how many groups channels are divided; output channels of a group see its input channels alone.

    Returns:
        ``(N, O, OL)`` with ``OL = floor((L + 2 padding - dilation (K - 1) - 1) / stride) + 1``.

    Raises:
        ValueError: another rank or channel count, groups that do not divide, a kernel longer than the padded input.
        TypeError: two float dtypes.

    Source: ONNX operator Conv.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.conv1d(lucid.ones(1, 1, 4), lucid.ones(1, 1, 2), stride=2).tolist()
        [[[2.0, 2.0]]]
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: SidesLike = 1,
    padding: SidesLike | str = 0,
    dilation: SidesLike = 1,
    groups: int = 1,
) -> Tensor:
    """Two-dimensional convolution (without flipping the kernel):

    ``y[n, o, i, j] = b[o] + sum over (kh, kw, c) of x[n, c, i*stride - padding + kh*dilation, ...] * w[o, c, kh, kw]``.

    Args:
        input: images ``(N, C, H, W)``.
        weight: ``(O, C/groups, KH, KW)``.
        bias: ``(O,)``, or None.
        stride: a number or a pair (vertical, horizontal), at least 1.
        padding: zeros around the image: a number or a pair, at least 0; or ``"valid"`` (none), or ``"same"`` (as many
            as keep the size, with stride 1; an odd one goes behind).
        dilation: the distance between taps: a number or a pair, at least 1.
        groups: into how many groups channels are divided; output channels of a group see its input channels alone.

    Returns:
        ``(N, O, OH, OW)`` with ``OH = floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1``.

    Raises:
        ValueError: another rank or channel count, groups that do not divide, a kernel larger than the padded input.
        TypeError: two float dtypes.

    Source: ONNX operator Conv.

    Example:
        >>> import lucid
        >>> y = lucid.nn.functional.conv2d(lucid.ones(1, 1, 3, 3), lucid.ones(1, 1, 2, 2))
        >>> y.tolist()
        [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: SidesLike = 1,
    padding: SidesLike | str = 0,
    dilation: SidesLike = 1,
    groups: int = 1,
) -> Tensor:
    """Three-dimensional convolution: ``conv2d`` with a depth, whose taps are the outermost ones of the sum.

    Args:
        input: ``(N, C, D, H, W)``.
        weight: ``(O, C/groups, KD, KH, KW)``.
        bias: ``(O,)``, or None.
        stride: a number or three (along the depth, vertical, horizontal), at least 1.
        padding: zeros around the image: a number or three, or ``"valid"`` or ``"same"``, as in ``conv2d``.
        dilation: the distance between taps: a number or three, at least 1.
        groups: into how many groups channels are divided; output channels of a group see its input channels alone.

    Returns:
        ``(N, O, OD, OH, OW)``, each side as in ``conv2d``.

    Raises:
        ValueError, TypeError: as ``conv2d``.

    Source: ONNX operator Conv.

    Example:
        >>> import lucid
        >>> y = lucid.nn.functional.conv3d(lucid.ones(1, 1, 2, 3, 3), lucid.ones(1, 1, 2, 2, 2))
        >>> y.tolist()
        [[[[[8.0, 8.0], [8.0, 8.0]]]]]
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: SidesLike = 1,
    padding: SidesLike = 0,
    output_padding: SidesLike = 0,
    groups: int = 1,
    dilation: SidesLike = 1,
) -> Tensor:
    """One-dimensional transposed convolution: ``conv_transpose2d`` along one side.

    Args:
        input: ``(N, C, L)``.
        weight: ``(C, O/groups, K)``.
        bias: ``(O,)``, or None.
        stride: of the convolution that is transposed, at least 1.
        padding: its padding, at least 0.
        output_padding: by how much the result is longer than the least; less than the stride or the dilation.
        groups: into how many groups channels are divided.
        dilation: the distance between taps, at least 1.

    Returns:
        ``(N, O, OL)`` with ``OL = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1``.

    Raises:
        ValueError, TypeError: as ``conv_transpose2d``.

    Source: ONNX operator ConvTranspose.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.conv_transpose1d(lucid.ones(1, 1, 2), lucid.ones(1, 1, 3), stride=2).tolist()
        [[[1.0, 1.0, 2.0, 1.0, 1.0]]]
    """
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: SidesLike = 1,
    padding: SidesLike = 0,
    output_padding: SidesLike = 0,
    groups: int = 1,
    dilation: SidesLike = 1,
) -> Tensor:
    """Two-dimensional transposed convolution: what ``conv2d`` with these arguments does to the gradient of its result.

    ``y[n, o, h, w] = b[o] + sum over (kh, kw, c) of x[n, c, i, j] * w[c, o, kh, kw]``, over the taps for which
    ``h = i*stride - padding + kh*dilation`` and ``w = j*stride - padding + kw*dilation``.

    Args:
        input: images ``(N, C, H, W)``.
        weight: ``(C, O/groups, KH, KW)``.
        bias: ``(O,)``, or None.
        stride: of the convolution that is transposed: a number or a pair (vertical, horizontal), at least 1.
        padding: its padding: a number or a pair, at least 0.
        output_padding: by how much the result is larger than the least (a stride maps several sizes to one): a number
            or a pair, less than the stride or the dilation.
        groups: into how many groups channels are divided; output channels of a group see its input channels alone.
        dilation: the distance between taps: a number or a pair, at least 1.

    Returns:
        ``(N, O, OH, OW)`` with ``OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1``.

    Raises:
        ValueError: another rank or channel count, groups that do not divide, a result without pixels, an output padding
            that is too large.
        TypeError: two float dtypes.

    Source: ONNX operator ConvTranspose; Dumoulin and Visin, 2016.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.conv_transpose2d(lucid.ones(1, 1, 1, 2), lucid.ones(1, 1, 2, 2)).tolist()
        [[[[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]]]
    """
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: SidesLike = 1,
    padding: SidesLike = 0,
    output_padding: SidesLike = 0,
    groups: int = 1,
    dilation: SidesLike = 1,
) -> Tensor:
    """Three-dimensional transposed convolution: ``conv_transpose2d`` with a depth.

    Args:
        input: ``(N, C, D, H, W)``.
        weight: ``(C, O/groups, KD, KH, KW)``.
        bias: ``(O,)``, or None.
        stride: of the convolution that is transposed: a number or three (along the depth, vertical, horizontal).
        padding: its padding: a number or three, at least 0.
        output_padding: by how much the result is larger than the least: a number or three.
        groups: into how many groups channels are divided.
        dilation: the distance between taps: a number or three, at least 1.

    Returns:
        ``(N, O, OD, OH, OW)``, each side as in ``conv_transpose2d``.

    Raises:
        ValueError, TypeError: as ``conv_transpose2d``.

    Source: ONNX operator ConvTranspose.

    Example:
        >>> import lucid
        >>> y = lucid.nn.functional.conv_transpose3d(lucid.ones(1, 1, 1, 1, 2), lucid.ones(1, 1, 2, 1, 1))
        >>> y.tolist()
        [[[[[1.0, 1.0]], [[1.0, 1.0]]]]]
    """
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _conv(sides: int, input: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    input, geometry = resolve_geometry(sides, input, weight, bias, *options)
    return apply(_CONV[sides](*geometry), input, weight, bias)


def resolve_geometry(
    sides: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: SidesLike,
    padding: SidesLike | str,
    dilation: SidesLike,
    groups: int,
) -> tuple[Tensor, Geometry]:
    """The input, widened where a named padding is uneven, and stride, padding, dilation and groups, checked."""
    if isinstance(padding, str):
        steps, gaps = per_side("stride", stride, 1, sides), per_side("dilation", dilation, 1, sides)
        input, padding = _named_padding(sides, input, weight, padding, steps, gaps)
    return input, cached(_geometry, sides, *_shapes(input, weight, bias), stride, padding, dilation, groups)


def _shapes(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Sides, Sides, Sides | None]:
    return input._array.shape, weight._array.shape, None if bias is None else bias._array.shape


def _geometry(
    sides: int,
    x: Sides,
    w: Sides,
    bias: Sides | None,
    stride: SidesLike,
    padding: SidesLike,
    dilation: SidesLike,
    groups: int,
) -> Geometry:
    """Stride, padding and dilation by side, and groups, after checking all of them and the shapes."""
    name = f"conv{sides}d"
    by_side = (
        per_side("stride", stride, 1, sides),
        per_side("padding", padding, 0, sides),
        per_side("dilation", dilation, 1, sides),
    )
    _check_operands(name, sides, "(O, C/groups", x, w)
    if groups < 1 or w[0] % groups or x[1] % groups:
        raise ValueError(f"groups: got {groups}; must divide the {x[1]} input channels and the {w[0]} output channels")
    if x[1] != w[1] * groups:
        raise ValueError(
            f"{name}: input of shape {x} has {x[1]} channels; the weight {w} with groups={groups} takes {w[1] * groups}"
        )
    _check_bias(name, bias, w[0])
    output_size(name, x, w[2:], *by_side)
    return (*by_side, groups)


def _check_operands(name: str, sides: int, channels: str, x: Sides, w: Sides) -> None:
    if len(w) != sides + 2 or 0 in w:
        raise ValueError(f"{name}: weight has shape {w}; must be {channels}, {KERNEL_AXES[sides]}) without empty axes")
    require_image(name, x, sides)


def _check_bias(name: str, bias: Sides | None, channels: int) -> None:
    if bias is not None and bias != (channels,):
        raise ValueError(f"{name}: bias has shape {bias}; must be {(channels,)}")


def _named_padding(
    sides: int, input: Tensor, weight: Tensor, padding: str, stride: Sides, dilation: Sides
) -> tuple[Tensor, Sides]:
    """The input, widened where the two ends of a side differ, and the padding that remains for both ends."""
    if padding == "valid":
        return input, (0,) * sides
    if padding != "same":
        raise ValueError(f"padding: got {padding!r}; may be 'same', 'valid', a number or {SEVERAL[sides]}")
    if max(stride) > 1:
        raise ValueError(f"padding: 'same' needs stride 1, got {stride}")
    _check_operands(f"conv{sides}d", sides, "(O, C/groups", input._array.shape, weight._array.shape)
    total = [gap * (kernel - 1) for gap, kernel in zip(dilation, weight.shape[2:], strict=True)]
    if any(n % 2 for n in total):
        input = pad(input, ((0, 0), (0, 0), *[(0, n % 2) for n in total]))
    return input, per_side("padding", [n // 2 for n in total], 0, sides)


def _conv_transpose(sides: int, input: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    function = _CONV_TRANSPOSE[sides]
    geometry = cached(_transposed_geometry, function.name, sides, *_shapes(input, weight, bias), *options)
    return apply(function(*geometry), input, weight, bias)


def _transposed_geometry(
    name: str,
    sides: int,
    x: Sides,
    w: Sides,
    bias: Sides | None,
    stride: SidesLike,
    padding: SidesLike,
    output_padding: SidesLike,
    groups: int,
    dilation: SidesLike,
) -> tuple[Sides, Sides, Sides, int, Sides, Sides]:
    """The options by side, and the sides of the result, after checking all of them and the shapes."""
    strides, pads = per_side("stride", stride, 1, sides), per_side("padding", padding, 0, sides)
    more, dilations = per_side("output_padding", output_padding, 0, sides), per_side("dilation", dilation, 1, sides)
    _check_operands(name, sides, "(C, O/groups", x, w)
    if groups < 1 or w[0] % groups:
        raise ValueError(f"groups: got {groups}; must divide the {w[0]} input channels of the weight")
    if x[1] != w[0]:
        raise ValueError(f"{name}: input of shape {x} has {x[1]} channels; the weight {w} takes {w[0]}")
    _check_bias(name, bias, w[1] * groups)
    if any(extra >= max(step, gap) for extra, step, gap in zip(more, strides, dilations, strict=True)):
        raise ValueError(
            f"output_padding: got {more}; must be less than the stride {strides} or the dilation {dilations}"
        )
    least = windows.input_sizes(x[2:], w[2:], strides, pads, dilations)
    output = tuple([size + extra for size, extra in zip(least, more, strict=True)])
    if min(output) < 1:
        raise ValueError(
            f"{name}: an input of {times(x[2:])} with a kernel of {times(w[2:])} and padding {pads} leaves a result of "
            f"{times(output)}; each side must be at least 1"
        )
    return strides, pads, more, groups, dilations, output


def unfold(
    input: Tensor, kernel_size: SidesLike, dilation: SidesLike = 1, padding: SidesLike = 0, stride: SidesLike = 1
) -> Tensor:
    """The windows of images as columns: what a convolution multiplies its weight with.

    Args:
        input: images ``(N, C, H, W)``, float32 or float64.
        kernel_size: the window's size: a number or a pair (vertical, horizontal).
        dilation: the distance between the elements of a window: a number or a pair, at least 1.
        padding: zeros around the image: a number or a pair, at least 0.
        stride: the distance between windows: a number or a pair, at least 1.

    Returns:
        ``(N, C KH KW, OH OW)``: rows are channels and then elements of the window, columns windows. Gradient: ``fold``.

    Raises:
        ValueError: another rank, a window larger than the padded image.
        TypeError: integers.

    Source: MATLAB's im2col; PyTorch's ``unfold``.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(9.0), (1, 1, 3, 3))
        >>> lucid.nn.functional.unfold(x, 2)[0, :, 0].tolist()
        [0.0, 1.0, 3.0, 4.0]
    """
    require_image("unfold", input._array.shape, 2)
    image = input._array.shape[2:]
    geometry = cached(_columns, "unfold", image, kernel_size, dilation, padding, stride)
    return apply(Unfold(*geometry[:4], image, geometry[4]), input)


def fold(
    input: Tensor,
    output_size: SidesLike,
    kernel_size: SidesLike,
    dilation: SidesLike = 1,
    padding: SidesLike = 0,
    stride: SidesLike = 1,
) -> Tensor:
    """Columns put back to where ``unfold`` takes them from, and added where windows overlap.

    An element of the result starts from ``+0`` and adds what lies on it in ascending order of the window's elements.

    Args:
        input: ``(N, C KH KW, OH OW)``, float32 or float64.
        output_size: the sides of the result: a number or a pair (vertical, horizontal).
        kernel_size, dilation, padding, stride: as in ``unfold``.

    Returns:
        ``(N, C, *output_size)``. Gradient: ``unfold``.

    Raises:
        ValueError: another rank, channels that are no multiple of the window, another number of windows.
        TypeError: integers.

    Source: MATLAB's col2im; ONNX operator Col2Im.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.fold(lucid.ones(1, 4, 4), 3, 2).tolist()
        [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
    """
    shape, image = input._array.shape, per_side("output_size", output_size, 1, 2)
    geometry = cached(_columns, "fold", image, kernel_size, dilation, padding, stride)
    taps, windows = math.prod(geometry[0]), geometry[4]
    if len(shape) != 3 or shape[1] % taps or shape[2] != math.prod(windows):
        raise ValueError(
            f"fold: input has shape {shape}; must be (N, C * {taps}, {math.prod(windows)}), columns of "
            f"{times(windows)} windows"
        )
    return apply(Fold(*geometry[:4], image, windows), input)


def _columns(
    name: str, image: Sides, kernel_size: SidesLike, dilation: SidesLike, padding: SidesLike, stride: SidesLike
) -> tuple[Sides, Sides, Sides, Sides, Sides]:
    """Window, dilation, padding and stride by side, and how many windows there are, after checking them."""
    kernel, gaps = per_side("kernel_size", kernel_size, 1, 2), per_side("dilation", dilation, 1, 2)
    pads, steps = per_side("padding", padding, 0, 2), per_side("stride", stride, 1, 2)
    return kernel, gaps, pads, steps, output_size(name, (1, 1, *image), kernel, steps, pads, gaps)
