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
