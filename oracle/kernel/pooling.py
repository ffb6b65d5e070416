"""Pooling: the largest, or the mean, of each window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.kernels.windows import output_sizes
from oracle.errors import UsageError
from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.operation import Argument, Attributes, KernelOperation, Made, Shape, Sizes, by_sides

# Images, channels, rows, columns.
PLANES = (
    (1, 1, 4, 4), (2, 3, 7, 9), (1, 5, 8, 8), (3, 2, 13, 11), (1, 17, 6, 5), (2, 33, 5, 5), (1, 2, 33, 31),
    (1, 1, 65, 67), (2, 65, 9, 8), (4, 8, 16, 16), (0, 2, 8, 8),
)  # fmt: skip


def _at(place: Sequence[int | slice]) -> tuple[Any, ...]:
    """An index of the last axes."""
    return (..., *place)


class _Windows:
    """Where the windows of a pooling are: from a padded image, by their first row and column."""

    def __init__(self, shape: Shape, attributes: Attributes) -> None:
        self.shape = shape
        count = len(shape) - 2
        self.kernel = by_sides(attributes["kernel_size"], count)
        given = attributes["stride"]
        self.stride = self.kernel if given is None else by_sides(given, count)
        self.padding = by_sides(attributes["padding"], count)
        self.dilation = by_sides(attributes.get("dilation", 1), count)
        geometry = self.kernel, self.stride, self.padding, self.dilation
        self.sides = output_sizes(shape[2:], *geometry, attributes["ceil_mode"])

    def taps(self) -> list[tuple[slice, ...]]:
        """For each place in a window, the elements of the padded image that the windows have there."""
        return [
            tuple(
                slice(at * d, at * d + (count - 1) * s + 1, s)
                for at, d, s, count in zip(place, self.dilation, self.stride, self.sides, strict=True)
            )
            for place in np.ndindex(*self.kernel)
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
        return np.stack([padded[_at(tap)] for tap in self.taps()])

    def scattered(self, parts: Array) -> Array:
        """The sums of what windows hand to each element: the adjoint of `gathered`."""
        found = np.zeros(self.room())
        for part, tap in zip(parts, self.taps(), strict=True):
            found[_at(tap)] += part
        return found[self._inside()]

    def counts(self, include_pad: bool) -> Array:
        """By how many elements each window is divided."""
        room = np.zeros(self.room()[2:])
        if include_pad:
            room[tuple(slice(side + 2 * p) for side, p in zip(self.shape[2:], self.padding, strict=True))] = 1
        else:
            room[self._inside()[2:]] = 1
        return np.asarray(np.sum([room[tap] for tap in self.taps()], axis=0))


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
    first = np.arange(len(won)).reshape(-1, *(1,) * dy.value.ndim) == won.argmax(0)
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


def _cells(shape: Shape, output_size: Any) -> list[tuple[tuple[int, ...], tuple[slice, ...], int]]:
    """Each element of an adaptive pooling's result: its place, the elements that it is the mean of, how many."""
    count = len(shape) - 2
    given = (output_size,) * count if output_size is None or isinstance(output_size, int) else tuple(output_size)
    if len(given) != count:
        raise UsageError(f"output_size: got {output_size!r}; may be a whole number, or {count} of them")
    wanted = [side if each is None else int(each) for each, side in zip(given, shape[2:], strict=True)]
    bins = [_bins(side, each) for side, each in zip(shape[2:], wanted, strict=True)]
    found = []
    for place in np.ndindex(*wanted):
        part = tuple(of_side[at] for of_side, at in zip(bins, place, strict=True))
        found.append((place, part, math.prod(each.stop - each.start for each in part)))
    return found


def _adaptive(inputs: list[Bounded], output_size: Any) -> Bounded:
    x = inputs[0]
    cells = _cells(x.shape, output_size)
    behind = tuple(range(2, x.value.ndim))
    sides = [1 + last for last in cells[-1][0]]
    parts = [np.zeros((*x.shape[:2], *sides)) for _ in range(3)]
    for place, part, _ in cells:
        mean = x.moved(lambda values, part=part: values[_at(part)]).mean(behind)  # type: ignore[misc]
        for whole, each in zip(parts, mean.parts, strict=True):
            whole[_at(place)] = each
    return Bounded(x.of, *parts)


def _adaptive_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, output_size: Any) -> Made:
    x = inputs[0]
    value, error, size, taps = (np.zeros(x.shape) for _ in range(4))
    for place, part, count in _cells(x.shape, output_size):
        one = _at([slice(at, at + 1) for at in place])
        share = dy.moved(lambda values, one=one: values[one]) / count  # type: ignore[misc]
        for whole, each in ((value, share.value), (error, share.total), (size, np.abs(share.value)), (taps, 1.0)):
            whole[_at(part)] += each
    error += _scattering(dy) * np.maximum(taps - 2, 0) * size
    return {0: Bounded(dy.of, value, error, _scattering(dy) * np.abs(value) * (taps > 1))}


def _check(attributes: Attributes) -> None:
    kernel, padding = np.broadcast_arrays(attributes["kernel_size"], attributes["padding"])
    if (kernel < 1).any() or (padding < 0).any() or (padding > kernel // 2).any():
        raise UsageError(
            f"padding: got {attributes['padding']} for kernel_size={attributes['kernel_size']}; may be 0 to half of it"
        )


def _planes(sides: int) -> tuple[Sizes, ...]:
    """`PLANES` of one side or three: without rows, or with a depth."""
    if sides == 2:
        return PLANES
    if sides == 1:
        return tuple((*each[:2], each[3]) for each in PLANES)
    return tuple((*each[:2], 5, *each[2:]) for each in PLANES if max(each[2:]) < 18)


def _plane_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    """Sides that hold one window at least."""
    count = len(sizes) - 2
    kernel, dilation = (by_sides(each, count) for each in (attributes["kernel_size"], attributes.get("dilation", 1)))
    sides = [max(side, d * (k - 1) + 1) for side, d, k in zip(sizes[2:], dilation, kernel, strict=True)]
    return ((*sizes[:2], *sides),)


_POOLED: Attributes = {"kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False}


def _pooling(sides: int, name: str, forward: Any, backward: Any, **more: Any) -> KernelOperation:
    given: dict[str, Any] = {
        "arguments": (Argument("input"),),
        "shapes": _plane_shapes,
        "draws": ("spike", "offset", "special", "wide", "strided"),
        "check": _check,
    } | more
    return KernelOperation(
        f"{name}{sides}d",
        forward=forward,
        backward=backward,
        sizes=lambda attributes: _planes(sides),
        axes=("image", "channel", *("depth", "row", "column")[3 - sides :]),
        **given,
    )


def _poolings(sides: int) -> tuple[KernelOperation, ...]:
    return (
        _pooling(
            sides,
            "max_pool",
            _max_pool,
            _max_pool_gradient,
            arguments=(Argument("input", "distinct"),),
            attributes=_POOLED | {"dilation": 1},
            draws=("low", "zeros", "special", "whole", "strided"),
            whole=True,
            zeros=True,
            conserves=lambda attributes, rank: tuple(range(2, rank)),
        ),
        _pooling(
            sides,
            "avg_pool",
            _average_pool,
            _average_pool_gradient,
            attributes=_POOLED | {"count_include_pad": True},
        ),
        _pooling(
            sides,
            "adaptive_avg_pool",
            _adaptive,
            _adaptive_gradient,
            shapes=lambda sizes, attributes: (sizes,),
            attributes={"output_size": 1},
            check=lambda attributes: None,
        ),
    )


POOLINGS = tuple(operation for sides in (1, 2, 3) for operation in _poolings(sides))
