"""Pooling: the largest, or the mean, of each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.operation import Argument, Attributes, KernelOperation, Made, Shape, Sizes, pair

# Images, channels, rows, columns.
PLANES = (
    (1, 1, 4, 4), (2, 3, 7, 9), (1, 5, 8, 8), (3, 2, 13, 11), (1, 17, 6, 5), (2, 33, 5, 5), (1, 2, 33, 31),
    (1, 1, 65, 67), (2, 65, 9, 8), (4, 8, 16, 16), (0, 2, 8, 8),
)  # fmt: skip


class _Windows:
    """Where the windows of a pooling are: from a padded image, by their first row and column."""

    def __init__(self, shape: Shape, attributes: Attributes) -> None:
        self.shape = shape
        self.kernel = pair(attributes["kernel_size"])
        given = attributes["stride"]
        self.stride = self.kernel if given is None else pair(given)
        self.padding = pair(attributes["padding"])
        self.dilation = pair(attributes.get("dilation", 1))
        ceil = attributes["ceil_mode"]
        self.sides = tuple(self._count(axis, ceil) for axis in range(2))

    def _count(self, axis: int, ceil: bool) -> int:
        side, stride, padding = self.shape[2 + axis], self.stride[axis], self.padding[axis]
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        span = side + 2 * padding - reach
        count = (-(-span // stride) if ceil else span // stride) + 1
        if ceil and (count - 1) * stride >= side + padding:  # a window starts in the image or ahead of it
            count -= 1
        return count

    def taps(self) -> list[tuple[slice, slice]]:
        """For each place in a window, the elements of the padded image that the windows have there."""
        return [
            tuple(
                slice(place * d, place * d + (count - 1) * s + 1, s)
                for place, d, s, count in zip((i, j), self.dilation, self.stride, self.sides, strict=True)
            )  # type: ignore[misc]
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        ]

    def room(self) -> Shape:
        """The padded image's shape, with what windows reach behind it."""
        sides = [
            max((count - 1) * s + d * (k - 1) + 1, side + 2 * p)
            for count, s, d, k, side, p in zip(
                self.sides, self.stride, self.dilation, self.kernel, self.shape[2:], self.padding, strict=True
            )
        ]
        return (*self.shape[:2], *sides)

    def padded(self, x: Array, fill: float) -> Array:
        found = np.full(self.room(), fill)
        found[self._inside()] = x
        return found

    def _inside(self) -> tuple[slice, ...]:
        return (
            slice(None),
            slice(None),
            *(slice(p, p + side) for p, side in zip(self.padding, self.shape[2:], strict=True)),
        )

    def gathered(self, x: Array, fill: float) -> Array:
        """Each window's elements, along a new first axis."""
        padded = self.padded(x, fill)
        return np.stack([padded[..., rows, columns] for rows, columns in self.taps()])

    def scattered(self, parts: Array) -> Array:
        """The sums of what windows hand to each element: the adjoint of `gathered`."""
        found = np.zeros(self.room())
        for part, (rows, columns) in zip(parts, self.taps(), strict=True):
            found[..., rows, columns] += part
        return found[self._inside()]

    def counts(self, include_pad: bool) -> Array:
        """By how many elements each window is divided."""
        room = np.zeros(self.room()[2:])
        rows, columns = (side + 2 * p for side, p in zip(self.shape[2:], self.padding, strict=True))
        if include_pad:
            room[:rows, :columns] = 1
        else:
            room[self._inside()[2:]] = 1
        return np.sum([room[rows, columns] for rows, columns in self.taps()], axis=0)


def _max_pool(inputs: list[Bounded], **attributes: Any) -> Bounded:
    windows = _Windows(inputs[0].shape, attributes)
    elements = windows.gathered(inputs[0].value, -np.inf)
    largest = elements.max(0)
    # Of zeros of both signs either is the largest; among zeros of one sign that is its sign.
    signs = np.where(elements == 0, np.signbit(elements), np.nan)
    either = (largest == 0) & ((signs == 0).any(0) & (signs == 1).any(0))
    largest = np.where((largest == 0) & ~(signs == 0).any(0), -0.0, largest)
    return Bounded(inputs[0].of, largest, np.where(either, 5e-324, 0.0), np.zeros(largest.shape))


def _scattering(dy: Bounded) -> float:
    """The unit roundoff of gradients that windows hand to one element."""
    return 2 * dy.of.between + dy.of.sums


def _max_pool_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, **attributes: Any) -> Made:
    """To each window's largest; among equal ones to any, or in parts."""
    windows = _Windows(inputs[0].shape, attributes)
    elements = windows.gathered(inputs[0].value, -np.inf)
    won = elements == elements.max(0)
    ties = won & (won.sum(0) > 1)
    first = np.arange(len(won)).reshape(-1, 1, 1, 1, 1) == won.argmax(0)
    value = windows.scattered(first * dy.value)
    size = windows.scattered(won * np.abs(dy.value))
    taps = windows.scattered(won * np.ones_like(dy.value))
    error = _scattering(dy) * np.maximum(taps - 2, 0) * size + windows.scattered(ties * np.abs(dy.value))
    return {0: Bounded(dy.of, value, error, _scattering(dy) * np.abs(value) * (taps > 1))}


def _average_pool(inputs: list[Bounded], count_include_pad: bool, **attributes: Any) -> Bounded:
    x, windows = inputs[0], _Windows(inputs[0].shape, attributes)
    gathered = x.moved(lambda part: windows.gathered(part, 0.0))
    return gathered.sum(0) / windows.counts(count_include_pad)


def _average_pool_gradient(
    dy: Bounded, inputs: list[Bounded], y: Bounded, count_include_pad: bool, **attributes: Any
) -> Made:
    windows = _Windows(inputs[0].shape, attributes)
    share = dy / windows.counts(count_include_pad)
    value = np.broadcast_to(share.value, (len(windows.taps()), *share.shape))
    summed = windows.scattered(value)
    size = windows.scattered(np.abs(value))
    taps = windows.scattered(np.ones_like(value))
    error = (
        windows.scattered(np.broadcast_to(share.total, value.shape)) + _scattering(dy) * np.maximum(taps - 2, 0) * size
    )
    return {0: Bounded(dy.of, summed, error, _scattering(dy) * np.abs(summed) * (taps > 1))}


def _bins(side: int, count: int) -> list[slice]:
    return [slice(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]


def _sides(shape: Shape, output_size: Any) -> tuple[int, int]:
    given = (output_size, output_size) if output_size is None or isinstance(output_size, int) else tuple(output_size)
    first, second = (side if each is None else int(each) for each, side in zip(given, shape[2:], strict=True))
    return first, second


def _adaptive(inputs: list[Bounded], output_size: Any) -> Bounded:
    x = inputs[0]
    rows, columns = (_bins(side, count) for side, count in zip(x.shape[2:], _sides(x.shape, output_size), strict=True))
    cells = [[x.moved(lambda part, i=i, j=j: part[..., i, j]).mean((2, 3)) for j in columns] for i in rows]  # type: ignore[misc]
    parts = [np.stack([np.stack([cell.parts[place] for cell in row], -1) for row in cells], -2) for place in range(3)]
    return Bounded(x.of, *parts)


def _adaptive_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, output_size: Any) -> Made:
    x = inputs[0]
    value, error, size, taps = (np.zeros(x.shape) for _ in range(4))
    rows, columns = (_bins(side, count) for side, count in zip(x.shape[2:], _sides(x.shape, output_size), strict=True))
    for i, of_rows in enumerate(rows):
        for j, of_columns in enumerate(columns):
            place = (slice(None), slice(None), of_rows, of_columns)
            count = (of_rows.stop - of_rows.start) * (of_columns.stop - of_columns.start)
            share = dy.moved(lambda part, i=i, j=j: part[:, :, i : i + 1, j : j + 1]) / count  # type: ignore[misc]
            value[place] += share.value
            error[place] += share.total
            size[place] += np.abs(share.value)
            taps[place] += 1
    error += _scattering(dy) * np.maximum(taps - 2, 0) * size
    return {0: Bounded(dy.of, value, error, _scattering(dy) * np.abs(value) * (taps > 1))}


def _check(attributes: Attributes) -> None:
    for kernel, padding in zip(pair(attributes["kernel_size"]), pair(attributes["padding"]), strict=True):
        if kernel < 1 or not 0 <= padding <= kernel // 2:
            raise UsageError(
                f"padding: got {attributes['padding']} for kernel_size={attributes['kernel_size']}; "
                "may be 0 to half of it"
            )


def _plane_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    """Sides that hold one window at least."""
    kernel, dilation = pair(attributes["kernel_size"]), pair(attributes.get("dilation", 1))
    sides = [max(side, d * (k - 1) + 1) for side, d, k in zip(sizes[2:], dilation, kernel, strict=True)]
    return ((*sizes[:2], *sides),)


_POOLED: Attributes = {"kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False}
_AXES = ("image", "channel", "row", "column")

POOLINGS = (
    KernelOperation(
        "max_pool2d",
        (Argument("input", "distinct"),),
        _max_pool,
        _max_pool_gradient,
        lambda attributes: PLANES,
        _plane_shapes,
        _POOLED | {"dilation": 1},
        ("low", "zeros", "special", "whole", "strided"),
        _AXES,
        whole=True,
        zeros=True,
        conserves=lambda attributes, rank: (2, 3),
        check=_check,
    ),
    KernelOperation(
        "avg_pool2d",
        (Argument("input"),),
        _average_pool,
        _average_pool_gradient,
        lambda attributes: PLANES,
        _plane_shapes,
        _POOLED | {"count_include_pad": True},
        ("spike", "offset", "special", "wide", "strided"),
        _AXES,
        check=_check,
    ),
    KernelOperation(
        "adaptive_avg_pool2d",
        (Argument("input"),),
        _adaptive,
        _adaptive_gradient,
        lambda attributes: PLANES,
        lambda sizes, attributes: (sizes,),
        {"output_size": 1},
        ("spike", "offset", "special", "wide", "strided"),
        _AXES,
    ),
)
