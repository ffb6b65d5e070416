"""Weighted sums along the sides of images: what ONNX has beyond lucid's own resizing and pooling.

A rule says which elements of a side make one of the result, and with what weights; from there on section 8.1 of the
law holds: each element is summed in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lucid.backends import Backend
from lucid.core.tensor import Tensor
from lucid.kernels.pool import taps
from lucid.ops._function import Function, apply
from lucid.ops._window import cached

MOST_SIDES = 3


class Rule(Protocol):
    """How a side is made of another: hashable, so that its table is made once."""

    @property
    def output(self) -> int: ...

    def table(self, size: int) -> taps.Table: ...


class Resampled(Function):
    """Images whose sides are made by rules. Gradient: ``dy`` with the same weights."""

    name = "resampled"
    floats = True
    params = ("rules",)

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.size = tuple([rule.output for rule in rules])

    def forward(self, be: Backend, x: Any) -> Any:
        self.sides = x.shape[2:]
        return be.resample(x, *cached(_tables, be, self.sides, self.rules, False), self.size)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.resample(dy, *cached(_tables, be, self.sides, self.rules, True), self.sides),)


def _tables(be: Backend, sizes: tuple[int, ...], rules: tuple[Rule, ...], turned: bool) -> tuple[Any, ...]:
    """What ``resample`` takes of all sides, where the backend has its arrays."""
    found = []
    for size, rule in zip(sizes, rules, strict=True):
        table = rule.table(size)
        found.append(taps.turned(table, size) if turned else table)
    return tuple([be.xp.asarray(array) for array in taps.joined(found)])


def resampled(x: Tensor, *rules: Rule) -> Tensor:
    """Images ``(N, C, *sides)`` of one to three sides, with a rule for each."""
    return apply(Resampled(rules), x)


@dataclass(frozen=True, slots=True)
class WindowSum:
    """The sum of each window, or its mean over the elements that lie on the side widened by ``counted``.

    Attributes:
        counted: how far before and behind the side elements count in the mean; None for the sum.
    """

    output: int
    kernel: int
    stride: int
    dilation: int
    begin: int
    counted: tuple[int, int] | None

    def table(self, size: int) -> taps.Table:
        at = np.arange(self.output)[:, None] * self.stride - self.begin + np.arange(self.kernel) * self.dilation
        weight = ((at >= 0) & (at < size)).astype(np.float64)
        if self.counted is not None:
            before, behind = self.counted
            count = ((at >= -before) & (at < size + behind)).sum(1, keepdims=True)
            weight = weight / np.maximum(count, 1)
        return taps.table(np.clip(at, 0, size - 1), weight)


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins of a stretch of a side, each the mean of ``samples`` places between its elements (RoiAlign).

    A place more than 1 outside counts as 0, one nearer as the element at that end.
    """

    output: int
    start: float
    width: float
    samples: int

    def places(self) -> np.ndarray:
        """``(output, samples)``."""
        steps = (np.arange(self.samples) + 0.5) * (self.width / self.samples)
        return self.start + np.arange(self.output)[:, None] * self.width + steps

    def around(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Elements and weights, ``(output, samples, 2)``."""
        place = self.places()
        outside = (place < -1.0) | (place > size)
        place = np.clip(place, 0.0, size - 1)
        low = np.floor(place)
        t = place - low
        at = np.stack([low, np.minimum(low + 1, size - 1)], -1)
        return at.astype(np.int64), np.where(outside[..., None], 0.0, np.stack([1.0 - t, t], -1))

    def table(self, size: int) -> taps.Table:
        at, weight = self.around(size)
        at, weight = at.reshape(self.output, -1), weight.reshape(self.output, -1) / self.samples
        order = np.argsort(at, 1, kind="stable")
        return taps.table(np.take_along_axis(at, order, 1), np.take_along_axis(weight, order, 1))


@dataclass(frozen=True, slots=True)
class Resizing:
    """A side resized as ONNX says.

    Attributes:
        scale: by which the side was to be longer, which need not be ``output`` by its size.
        mode: ``nearest``, ``linear`` or ``cubic``.
        transformation: where the elements of the result lie on the side.
        nearest: how places are rounded to elements.
        cubic: the coefficient of cubic convolution.
        exclude: whether elements beyond the ends have no weight, instead of the end's value.
        smoothed: whether, where the side gets shorter, filters are widened by as much.
        roi: the part of the side, from 0 to 1, that ``tf_crop_and_resize`` takes.
    """

    output: int
    scale: float
    mode: str
    transformation: str
    nearest: str
    cubic: float
    exclude: bool
    smoothed: bool
    roi: tuple[float, float]

    def places(self, size: int) -> np.ndarray:
        """Where each element of the result lies."""
        i, length = np.arange(self.output, dtype=np.float64), self.scale * size
        if self.transformation == "align_corners":
            return i * (size - 1) / (length - 1) if length != 1 else i * 0.0
        if self.transformation == "asymmetric":
            return i / self.scale
        if self.transformation == "tf_crop_and_resize":
            start, end = self.roi
            if length == 1:
                return i * 0.0 + 0.5 * (start + end) * (size - 1)
            return start * (size - 1) + i * (end - start) * (size - 1) / (length - 1)
        if self.transformation == "pytorch_half_pixel" and self.output == 1:
            return i - 0.5
        shift = size / 2 * (1 - self.output / length) if self.transformation == "half_pixel_symmetric" else 0.0
        return shift + (i + 0.5) / self.scale - 0.5

    def elements(self, size: int) -> np.ndarray:
        """The nearest element to each."""
        place = self.places(size)
        if self.nearest == "simple":  # before version 11
            found = np.ceil(place) if self.scale < 1 else np.floor(place)
        elif self.nearest == "round_prefer_ceil":
            found = np.floor(place + 0.5)
        elif self.nearest == "round_prefer_floor":
            found = np.ceil(place - 0.5)
        else:
            found = np.floor(place) if self.nearest == "floor" else np.ceil(place)
        return np.clip(found, 0, size - 1).astype(np.int64)

    def outside(self, size: int) -> np.ndarray:
        """Which elements of the result lie beyond the side, where that has a meaning."""
        place = self.places(size)
        return ((place < 0) | (place > size - 1)) & (self.transformation == "tf_crop_and_resize")

    def table(self, size: int) -> taps.Table:
        place = self.places(size)
        low = np.floor(place)
        reach = {"linear": 1, "cubic": 2}[self.mode]
        shrink = min(self.scale, 1.0) if self.smoothed else 1.0
        wide = int(np.ceil(reach / shrink))
        at = low[:, None] + np.arange(1 - wide, wide + 1)
        x = np.abs(at - place[:, None]) * shrink
        if self.mode == "linear":
            weight = np.maximum(1.0 - x, 0.0)
        else:
            weight = np.where(x <= 1, taps.near(x, self.cubic), np.where(x < 2, taps.far(x, self.cubic), 0.0))
        if self.exclude:
            weight = np.where((at < 0) | (at >= size), 0.0, weight)
        if self.exclude or self.smoothed:
            weight = weight / weight.sum(1, keepdims=True)
        weight = np.where(self.outside(size)[:, None], 0.0, weight)
        return taps.table(np.clip(at, 0, size - 1), weight)
