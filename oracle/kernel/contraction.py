"""Contractions: matrix products, linear layers, convolutions and their gradients."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from lucid.backends import backend_for
from lucid.kernels.windows import input_sizes, output_sizes
from oracle.errors import UsageError
from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.operation import Argument, Attributes, KernelOperation, Made, Shape, Sizes, by_sides

# Rows, terms, columns: one, primes, just past tiles of 16 to 256, one row, many terms, none.
MATRICES = (
    (1, 1, 1), (1, 7, 1), (3, 5, 2), (2, 17, 3), (17, 33, 9), (16, 64, 16), (33, 65, 17), (65, 129, 31), (5, 257, 67),
    (130, 3, 129), (5, 1000, 3), (1, 1025, 37), (2, 4097, 3), (1, 100003, 2), (128, 128, 128), (0, 5, 3), (3, 5, 0),
)  # fmt: skip
# Images, channels a group, filters a group, rows, columns, and the window's.
IMAGES = (
    (1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 5, 5, 3, 3), (2, 3, 2, 7, 9, 3, 3), (1, 4, 5, 9, 8, 1, 1), (3, 2, 3, 8, 7, 3, 2),
    (2, 17, 9, 6, 6, 3, 3), (1, 33, 17, 5, 7, 3, 3), (1, 3, 4, 23, 19, 7, 7), (2, 65, 5, 4, 5, 1, 1),
    (2, 5, 33, 17, 13, 3, 3), (1, 130, 3, 5, 5, 3, 3), (5, 8, 8, 16, 16, 3, 3), (1, 2, 2, 33, 35, 5, 5),
    (0, 2, 3, 5, 5, 3, 3),
)  # fmt: skip
_DRAWS = ("whole", "spike", "wide", "cancel", "special", "zeros", "strided")


# Batch, and a matrix's sizes.
BATCHES = ((1, 1, 1, 1), (2, 3, 5, 2), (5, 17, 9, 4), (3, 33, 65, 17), (2, 65, 129, 31), (7, 4, 257, 3), (2, 2, 999, 1))


def _matmul(inputs: list[Bounded]) -> Bounded:
    a, b = inputs
    return a.contracted(b, np.matmul, a.shape[-1])


def _transposed(a: Bounded) -> Bounded:
    return a.moved(lambda part: np.swapaxes(part, -1, -2))


def _matmul_gradients(dy: Bounded, inputs: list[Bounded], y: Bounded) -> Made:
    a, b = inputs
    return {
        0: dy.contracted(_transposed(b), np.matmul, b.shape[-1]),
        1: _transposed(a).contracted(dy, np.matmul, a.shape[-2]),
    }


def _einsum(inputs: list[Bounded], equation: str) -> Bounded:
    a, b = inputs
    first, second, result = _letters(equation)
    return _summed(a, b, first, second, result)


def _summed(a: Bounded, b: Bounded, first: str, second: str, result: str) -> Bounded:
    sides = dict(zip(first + second, a.shape + b.shape, strict=True))
    terms = math.prod(side for letter, side in sides.items() if letter not in result)
    return a.contracted(b, lambda x, y: np.einsum(f"{first},{second}->{result}", x, y), terms)


def _einsum_gradients(dy: Bounded, inputs: list[Bounded], y: Bounded, equation: str) -> Made:
    a, b = inputs
    first, second, result = _letters(equation)
    return {0: _summed(dy, b, result, second, first), 1: _summed(a, dy, first, result, second)}


def _letters(equation: str) -> tuple[str, str, str]:
    """The letters of both operands and of the result; each stands in two of them."""
    found = re.fullmatch(r"([a-z]+),([a-z]+)->([a-z]*)", equation.replace(" ", ""))
    if not found or any(sum(c in part for part in found.groups()) < 2 for c in "".join(found.groups())):
        raise UsageError(
            f"equation: got {equation!r}; may be letters of two operands and the result, each letter in two of the "
            "three, as 'bij,bjk->bik'"
        )
    first, second, result = found.groups()
    return first, second, result


def _einsum_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    first, second, _ = _letters(attributes["equation"])
    letters = sorted({*first, *second})
    sides = {letter: sizes[i % len(sizes)] for i, letter in enumerate(letters)}
    return tuple(sides[c] for c in first), tuple(sides[c] for c in second)


def _check_einsum(attributes: Attributes) -> None:
    _letters(attributes["equation"])


def _add_bias(product: Bounded, bias: Bounded | None, shape: Shape) -> Bounded:
    """The bias starts a chain of sums, or ends it."""
    if bias is None:
        return product
    made = product + bias.moved(lambda part: part.reshape(shape))
    grown = 0.0 if product.of.whole else product.of.unit
    return made.with_error(grown * (np.abs(product.value) + np.abs(bias.value.reshape(shape))))


def _linear(inputs: list[Any]) -> Bounded:
    x, weight, bias = inputs
    product = x.contracted(weight, lambda a, b: a @ b.T, x.shape[-1])
    return _add_bias(product, bias, (weight.shape[0],))


def _linear_gradients(dy: Bounded, inputs: list[Any], y: Bounded) -> Made:
    x, weight, bias = inputs
    rows = math.prod(x.shape[:-1])
    found = {
        0: dy.contracted(weight, np.matmul, weight.shape[0]),
        1: _rows(dy).contracted(_rows(x), lambda a, b: a.T @ b, rows),
    }
    if bias is not None:
        found[2] = _rows(dy).over_batch(0)
    return found


def _rows(x: Bounded) -> Bounded:
    return x.moved(lambda part: part.reshape(math.prod(part.shape[:-1]), part.shape[-1]))


class _Geometry:
    """Stride, padding, dilation and groups of a convolution, and its three forms in float64."""

    def __init__(self, x: Shape, weight: Shape, attributes: Attributes) -> None:
        self.x, self.weight = x, weight
        kernel = weight[2:]
        self.dilation = by_sides(attributes["dilation"], len(kernel))
        self.stride = by_sides(attributes["stride"], len(kernel))
        self.groups = int(attributes["groups"])
        given = attributes["padding"]
        if given == "same":
            total = [dilation * (side - 1) for dilation, side in zip(self.dilation, kernel, strict=True)]
            self.padding = tuple(each // 2 for each in total)
            if any(each % 2 for each in total):
                raise UsageError(f"padding: 'same' with a window of {kernel} and dilation {self.dilation} is not even")
        else:
            self.padding = by_sides(0 if given == "valid" else given, len(kernel))
        self.terms = math.prod(weight[1:])

    @property
    def of(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.groups

    def sides(self) -> tuple[int, ...]:
        return output_sizes(self.x[2:], self.weight[2:], self.stride, self.padding, self.dilation)

    def output(self, x: Array, weight: Array) -> Array:
        if 0 in x.shape:
            return np.zeros((x.shape[0], self.weight[0], *self.sides()))
        return backend_for("cpu").conv2d(np.ascontiguousarray(x), np.ascontiguousarray(weight), None, *self.of)

    def input_gradient(self, dy: Array, weight: Array) -> Array:
        if 0 in dy.shape:
            return np.zeros(self.x)
        be = backend_for("cpu")
        return be.conv2d_input_grad(np.ascontiguousarray(dy), np.ascontiguousarray(weight), self.x, *self.of)

    def weight_gradient(self, dy: Array, x: Array) -> Array:
        if 0 in dy.shape:
            return np.zeros(self.weight)
        be = backend_for("cpu")
        return be.conv2d_weight_grad(np.ascontiguousarray(dy), np.ascontiguousarray(x), self.weight, *self.of)


def _any_algorithm(made: Bounded, a: Bounded, b: Bounded, length: float, axis: int) -> Bounded:
    """Grant what algorithms over whole images cost, too: a Fourier transform (Higham, Accuracy and Stability of
    Numerical Algorithms, 24.1: an error of ``O(u log N)`` of the norms) and Winograd's with small tiles, which spread
    errors over neighbours; so much of the product of the norms of one image (or of all, for a weight) and one filter.
    """
    of = made.of
    if 0 in (*made.shape, *a.shape, *b.shape):
        return made
    rounds = {0: 1.0, 2: 1.0, 4: 8.0, 6: 64.0}[of.tiles]
    size = np.linalg.norm(a.value.reshape(a.shape[0], -1), axis=1) if axis == 0 else np.linalg.norm(a.value)
    other = np.linalg.norm(b.value.reshape(b.shape[0], -1), axis=1).max()
    unit = 2.0**-50 if of.whole else of.unit  # of whole numbers float64's, which some transforms are made in
    grown = unit * rounds * math.log2(max(2.0, length)) * size * other
    return made.with_error(np.reshape(grown, (np.size(grown), *(1,) * (made.value.ndim - 1))))


def _conv(inputs: list[Any], **attributes: Any) -> Bounded:
    x, weight, bias = inputs
    geometry = _Geometry(x.shape, weight.shape, attributes)
    made = x.contracted(weight, geometry.output, geometry.terms)
    made = _any_algorithm(made, x, weight, math.prod(x.shape[2:]), 0)
    return _add_bias(made, bias, (1, weight.shape[0], *(1,) * len(weight.shape[2:])))


def _conv_gradients(dy: Bounded, inputs: list[Any], y: Any, **attributes: Any) -> Made:
    x, weight, bias = inputs
    geometry = _Geometry(x.shape, weight.shape, attributes)
    taps, per_group = math.prod(weight.shape[2:]), weight.shape[0] // geometry.groups
    dx = dy.contracted(weight, geometry.input_gradient, per_group * taps, taps)
    dx = _any_algorithm(dx, dy, weight, math.prod(x.shape[2:]), 0)
    dw = dy.contracted(x, geometry.weight_gradient, dy.shape[0] * math.prod(dy.shape[2:]), dy.shape[0])
    dw = _any_algorithm(dw, dy, x, math.prod(x.shape[2:]) * x.shape[0], 1)
    found = {0: dx, 1: dw}
    if bias is not None:
        found[2] = dy.over_batch((0, *range(2, dy.value.ndim)))
    return found


def _conv_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    images, channels, filters, *rest = sizes
    count = len(rest) // 2
    given, window = rest[:count], rest[count:]
    groups, padding = int(attributes["groups"]), attributes["padding"]
    dilation = by_sides(attributes["dilation"], count)
    around = by_sides(0 if isinstance(padding, str) else padding, count)
    sides = [
        max(side, each * (kernel - 1) + 1 - 2 * pad)
        for side, each, kernel, pad in zip(given, dilation, window, around, strict=True)
    ]
    if padding == "same":
        window = [side if each * (side - 1) % 2 == 0 else side + 1 for side, each in zip(window, dilation, strict=True)]
    x = (images, channels * groups, *sides)
    return x, (filters * groups, channels, *window), (filters * groups,)


def _images(sides: int) -> tuple[Sizes, ...]:
    """`IMAGES` of one side or three: without rows, or with a depth."""
    if sides == 2:
        return IMAGES
    if sides == 1:
        return tuple((*each[:3], each[4], each[6]) for each in IMAGES)
    return tuple((*each[:3], 3, *each[3:5], min(2, each[5]), *each[5:]) for each in IMAGES if max(each[3:5]) < 18)


def _check_conv(attributes: Attributes) -> None:
    for name, least in (("stride", 1), ("dilation", 1), ("groups", 1)):
        if np.min(attributes[name]) < least:
            raise UsageError(f"{name}: got {attributes[name]!r}; may be {least} or more")
    if isinstance(attributes["padding"], str) and attributes["padding"] not in ("same", "valid"):
        raise UsageError(f"padding: got {attributes['padding']!r}; may be whole numbers, 'same' or 'valid'")


def _transposed_size(x: Shape, weight: Shape, attributes: Attributes) -> Shape:
    """The shape of a transposed convolution's result."""
    count = len(weight) - 2
    stride, padding, more, dilation = (
        by_sides(attributes[name], count) for name in ("stride", "padding", "output_padding", "dilation")
    )
    least = input_sizes(x[2:], weight[2:], stride, padding, dilation)
    sides = [side + extra for side, extra in zip(least, more, strict=True)]
    if min(sides) < 1:
        raise UsageError(f"padding: got {attributes['padding']!r}; it leaves nothing of a result")
    return (x[0], weight[1] * int(attributes["groups"]), *sides)


def _transposed_geometry(x: Shape, weight: Shape, attributes: Attributes) -> _Geometry:
    """Of the convolution whose input gradient it is."""
    return _Geometry(_transposed_size(x, weight, attributes), weight, attributes)


def _conv_transpose(inputs: list[Any], **attributes: Any) -> Bounded:
    x, weight, bias = inputs
    geometry = _transposed_geometry(x.shape, weight.shape, attributes)
    taps, per_group = math.prod(weight.shape[2:]), weight.shape[0] // geometry.groups
    made = x.contracted(weight, geometry.input_gradient, per_group * taps, taps)
    made = _any_algorithm(made, x, weight, math.prod(geometry.x[2:]), 0)
    return _add_bias(made, bias, (1, geometry.x[1], *(1,) * len(weight.shape[2:])))


def _conv_transpose_gradients(dy: Bounded, inputs: list[Any], y: Any, **attributes: Any) -> Made:
    x, weight, bias = inputs
    geometry = _transposed_geometry(x.shape, weight.shape, attributes)
    dx = dy.contracted(weight, geometry.output, geometry.terms)
    dx = _any_algorithm(dx, dy, weight, math.prod(geometry.x[2:]), 0)
    dw = x.contracted(dy, geometry.weight_gradient, x.shape[0] * math.prod(x.shape[2:]), x.shape[0])
    dw = _any_algorithm(dw, x, dy, math.prod(geometry.x[2:]) * x.shape[0], 1)
    found = {0: dx, 1: dw}
    if bias is not None:
        found[2] = dy.over_batch((0, *range(2, dy.value.ndim)))
    return found


def _conv_transpose_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    """Images large enough that padding leaves something."""
    images, channels, filters, *rest = sizes
    count, groups = len(rest) // 2, int(attributes["groups"])
    padding = by_sides(attributes["padding"], count)
    sides = [max(side, 2 * pad + 1) for side, pad in zip(rest[:count], padding, strict=True)]
    return (images, channels * groups, *sides), (channels * groups, filters, *rest[count:]), (filters * groups,)


CONV_ATTRIBUTES = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_WEIGHT, _BIAS = Argument("weight", "weight"), Argument("bias", "weight", optional="given")


def _alone(place: int) -> Any:
    """One gradient of a convolution as an operation of its own; takes dy and the other factor, and the shape of what
    it is the gradient of as ``input_size`` or ``weight_size``."""

    def forward(inputs: list[Bounded], **attributes: Any) -> Bounded:
        dy, other = inputs
        size = tuple(attributes.pop("input_size" if place == 0 else "weight_size"))
        of = dy.of.exact(np.zeros(size))
        given = [of, other, None] if place == 0 else [other, of, None]
        return _conv_gradients(dy, given, None, **attributes)[place]

    return forward


def _alone_shapes(place: int) -> Any:
    def shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
        x, weight, _ = _conv_shapes(sizes, attributes)
        dy = (x[0], weight[0], *_Geometry(x, weight, attributes).sides())
        return (dy, weight) if place == 0 else (dy, x)

    return shapes


def _alone_size(place: int) -> Any:
    """The size that is not given: of all that the two shapes allow, the smallest."""
    name = "input_size" if place == 0 else "weight_size"

    def settle(attributes: Attributes, given: Any) -> Attributes:
        if attributes[name] is not None:
            return attributes
        dy, other = given
        stride, padding, dilation = (by_sides(attributes[each], 2) for each in ("stride", "padding", "dilation"))
        if place == 0:
            sides = input_sizes(dy[2:], other[2:], stride, padding, dilation)
            return attributes | {name: (dy[0], other[1] * int(attributes["groups"]), *sides)}
        # As many taps as windows of the result's size, whose elements lie a stride apart, moved by the dilation.
        sides = output_sizes(other[2:], dy[2:], dilation, padding, stride)
        return attributes | {name: (dy[1], other[1] // int(attributes["groups"]), *sides)}

    return settle


def _axes(sides: int) -> tuple[str, ...]:
    return ("image", "channel", *("depth", "row", "column")[3 - sides :])


def _convolution(sides: int) -> KernelOperation:
    return KernelOperation(
        f"conv{sides}d",
        (Argument("input"), _WEIGHT, _BIAS),
        _conv,
        _conv_gradients,
        lambda attributes: _images(sides),
        _conv_shapes,
        CONV_ATTRIBUTES,
        _DRAWS,
        _axes(sides),
        contained=False,
        whole=True,
        check=_check_conv,
    )


def _transposed_convolution(sides: int) -> KernelOperation:
    return KernelOperation(
        f"conv_transpose{sides}d",
        (Argument("input"), _WEIGHT, _BIAS),
        _conv_transpose,
        _conv_transpose_gradients,
        lambda attributes: _images(sides),
        _conv_transpose_shapes,
        CONV_ATTRIBUTES | {"output_padding": 0},
        _DRAWS,
        _axes(sides),
        contained=False,
        whole=True,
        check=_check_conv,
    )


CONTRACTIONS = (
    KernelOperation(
        "matmul",
        (Argument("a"), Argument("b", "weight")),
        _matmul,
        _matmul_gradients,
        lambda attributes: MATRICES,
        lambda sizes, attributes: ((sizes[0], sizes[1]), (sizes[1], sizes[2])),
        draws=_DRAWS,
        axes=("row", "column"),
        whole=True,
    ),
    KernelOperation(
        "bmm",
        (Argument("a"), Argument("b", "weight")),
        _matmul,
        _matmul_gradients,
        lambda attributes: BATCHES,
        lambda sizes, attributes: (sizes[:3], (sizes[0], *sizes[2:])),
        draws=_DRAWS,
        axes=("batch", "row", "column"),
        whole=True,
    ),
    KernelOperation(
        "einsum",
        (Argument("a"), Argument("b", "weight")),
        _einsum,
        _einsum_gradients,
        lambda attributes: BATCHES,
        _einsum_shapes,
        {"equation": "bij,bjk->bik"},
        _DRAWS,
        whole=True,
        check=_check_einsum,
    ),
    KernelOperation(
        "linear",
        (Argument("input"), _WEIGHT, _BIAS),
        _linear,
        _linear_gradients,
        lambda attributes: MATRICES,
        lambda sizes, attributes: ((sizes[0], sizes[1]), (sizes[2], sizes[1]), (sizes[2],)),
        draws=_DRAWS,
        axes=("row", "output feature"),
        whole=True,
    ),
    *(_convolution(sides) for sides in (1, 2, 3)),
    *(_transposed_convolution(sides) for sides in (1, 2, 3)),
    KernelOperation(
        "conv2d_input_grad",
        (Argument("dy"), _WEIGHT),
        _alone(0),
        None,
        lambda attributes: IMAGES,
        _alone_shapes(0),
        CONV_ATTRIBUTES | {"input_size": None},
        ("whole", "spike", "cancel", "strided"),
        ("image", "channel", "row", "column"),
        contained=False,
        check=_check_conv,
        settle=_alone_size(0),
    ),
    KernelOperation(
        "conv2d_weight_grad",
        (Argument("dy"), Argument("input")),
        _alone(1),
        None,
        lambda attributes: IMAGES,
        _alone_shapes(1),
        CONV_ATTRIBUTES | {"weight_size": None},
        ("whole", "spike", "cancel", "strided"),
        ("filter", "channel", "row", "column"),
        contained=False,
        check=_check_conv,
        settle=_alone_size(1),
    ),
)
