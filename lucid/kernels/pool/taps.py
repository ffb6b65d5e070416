"""Which elements of a side make one of a resized side, and with what weights: section 8.1 of the law, in float64.

A table is ``(first, at, weight)``: output ``i`` is made of the elements ``at[first[i]] .. at[first[i + 1] - 1]``, which
ascend.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from lucid.kernels.declare import Array

Table = tuple[Array, Array, Array]
CUBIC = -0.75
"""The coefficient of cubic convolution (Keys, 1981), and with antialiasing, where it is Pillow's."""
CUBIC_SMOOTHED = -0.5


@lru_cache(1024)
def side_taps(mode: str, size: int, output: int, align: bool, factor: float | None, smoothed: bool) -> Table:
    """The table of one side; ``mode`` is nearest, nearest-exact, linear or cubic, ``factor`` the scale asked for."""
    i = np.arange(output)
    if mode == "nearest":
        place = i * size // output if factor is None else np.floor(i * (1.0 / factor))
        return table(np.minimum(place, size - 1)[:, None], np.ones((output, 1)))
    if mode == "nearest-exact":
        place = (2 * i + 1) * size // (2 * output) if factor is None else np.floor((i + 0.5) * (1.0 / factor))
        return table(np.minimum(place, size - 1)[:, None], np.ones((output, 1)))
    if align:
        step = (size - 1) / (output - 1) if output > 1 else 0.0
    else:
        step = size / output if factor is None else 1.0 / factor
    if smoothed:
        return _smoothed_taps(mode, size, output, step)
    place = i * step if align else step * (i + 0.5) - 0.5
    if mode == "linear":
        place = np.maximum(place, 0.0)
    low = np.minimum(np.floor(place), size - 1)
    t = np.clip(place - low, 0.0, 1.0)
    if mode == "linear":
        return table(np.stack([low, np.minimum(low + 1, size - 1)], 1), np.stack([1.0 - t, t], 1))
    weights = [far(t + 1.0, CUBIC), near(t, CUBIC), near(1.0 - t, CUBIC), far((1.0 - t) + 1.0, CUBIC)]
    return table(np.clip(low[:, None] + np.arange(-1, 3), 0, size - 1), np.stack(weights, 1))


def near(x: Array, a: float) -> Array:
    """Cubic convolution within 1."""
    return (((a + 2.0) * x - (a + 3.0)) * x) * x + 1.0


def far(x: Array, a: float) -> Array:
    """Cubic convolution from 1 to 2."""
    return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a


def _smoothed_taps(mode: str, size: int, output: int, step: float) -> Table:
    """A filter that is as much wider as the side is reduced, its weights divided by their sum."""
    reach = (1.0 if mode == "linear" else 2.0) * max(step, 1.0)
    centre = step * (np.arange(output) + 0.5)
    low = np.maximum(np.trunc(centre - reach + 0.5), 0)
    end = np.minimum(np.trunc(centre + reach + 0.5), size)
    numbers = np.arange(int(np.max(end - low, initial=0)))
    at = low[:, None] + numbers
    x = np.abs((at - centre[:, None] + 0.5) * (1.0 / max(step, 1.0)))
    if mode == "linear":
        weight = np.maximum(1.0 - x, 0.0)
    else:
        weight = np.where(x < 1.0, near(x, CUBIC_SMOOTHED), np.where(x < 2.0, far(x, CUBIC_SMOOTHED), 0.0))
    weight = np.where(at < end[:, None], weight, 0.0)
    total = np.zeros(output)
    for column in weight.T:
        total = total + column
    return table(np.minimum(at, size - 1), weight / total[:, None])


def table(at: Array, weight: Array) -> Table:
    """Of ``(outputs, taps)``: taps on one element are one, with the sum of the weights; one of weight 0 is none."""
    outputs, taps = at.shape
    rows, at, weight = np.repeat(np.arange(outputs), taps), at.astype(np.int64).ravel(), weight.ravel()
    keys = rows * (at.max(initial=0) + 1) + at
    for _ in range(taps - 1):  # the first of equal ones takes the next
        again = np.flatnonzero(keys[1:] == keys[:-1])
        again = again[np.isin(again - 1, again, invert=True)]
        weight[again] = weight[again] + weight[again + 1]
        kept = np.isin(np.arange(len(keys)), again + 1, invert=True)
        keys, rows, at, weight = keys[kept], rows[kept], at[kept], weight[kept]
    kept = weight != 0.0
    return _rows(rows[kept], at[kept], weight[kept], outputs)


def _rows(rows: Array, at: Array, weight: Array, outputs: int) -> Table:
    first = np.concatenate([[0], np.add.accumulate(np.bincount(rows, minlength=outputs))]).astype(np.int64)
    return first, at, weight


def turned(table: Table, size: int) -> Table:
    """Of each of ``size`` elements, the outputs that it takes part in, ascending: the table of the gradient."""
    first, at, weight = table
    rows = np.repeat(np.arange(len(first) - 1), np.diff(first))
    order = np.argsort(at, kind="stable")
    return _rows(at[order], rows[order], weight[order], size)


def dense(table: Table, size: int) -> Array:
    """How much each element of a side takes part in each output: a matrix ``(outputs, size)``."""
    first, at, weight = table
    matrix = np.zeros((len(first) - 1, size))
    np.add.at(matrix, (np.repeat(np.arange(len(first) - 1), np.diff(first)), at), weight)
    return matrix


def joined(tables: list[Table]) -> tuple[Any, Any, Any]:
    """The tables of one side to three as one of three sides, one behind the other; a missing side has one element."""
    one: Table = np.array([0, 1]), np.zeros(1, np.int64), np.ones(1)
    tables = [one] * (3 - len(tables)) + tables
    ends = np.add.accumulate([0, *[len(at) for _, at, _ in tables]])
    first = [table[0][:-1] + start for table, start in zip(tables, ends, strict=False)]
    return (
        np.concatenate([*first, ends[-1:]]).astype(np.int64),
        np.concatenate([at for _, at, _ in tables]),
        np.concatenate([weight for *_, weight in tables]),
    )
