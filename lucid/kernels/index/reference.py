"""Indexed accumulation, and elements and slices by their place along an axis: sections 12 and 12.1 of the law.

In the latter ``index`` holds places from 0 on, int64. With one axis it names slices of ``x``, ``axis`` of which is then
as long as it is; else it names an element for each of its own, and has the shape of ``x`` but for ``axis``.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from lucid.kernels.declare import DENSE, INDEX, Array, kernel


@kernel("12", returns=lambda shape, index, values: {"y": (shape, values.dtype)})
def index_add(shape: tuple[int, ...], index: Any, values: Array) -> Array:
    """Zeros of ``shape`` with ``values`` added at ``index`` (any NumPy index), duplicates in order."""
    size = prod(shape)
    positions = np.arange(size).reshape(shape)[index]
    y = np.zeros(size, values.dtype)
    np.add.at(y, positions.ravel(), np.broadcast_to(values, positions.shape).ravel())
    return y.reshape(shape)


def taken_shape(x: Array, axis: int, index: Array) -> tuple[int, ...]:
    """The shape of what ``index`` names."""
    axis %= x.ndim
    return (*x.shape[:axis], len(index), *x.shape[axis + 1 :]) if index.ndim == 1 else index.shape


def along(x: Array, axis: int, index: Array) -> dict[str, Any]:
    """``x`` as (outer, terms, inner), and ``count`` places, of slices or of elements."""
    axis %= x.ndim
    sizes = {"outer": prod(x.shape[:axis]), "terms": x.shape[axis], "inner": prod(x.shape[axis + 1 :])}
    whole = index.ndim == 1
    return {**sizes, "count": index.shape[0 if whole else axis], "whole": whole}


def places(xp: Any, x: Array, axis: int, index: Array) -> Array:
    """Where in row-major order each element that ``index`` names stands, in the row-major order of the index."""
    numbers = xp.arange(x.size, dtype=np.int64).reshape(x.shape)
    found = xp.take(numbers, index, axis) if index.ndim == 1 else xp.take_along_axis(numbers, index, axis)
    return found.reshape(-1)


@kernel(
    "12.1",
    returns=lambda x, axis, index: {"y": (taken_shape(x, axis, index), x.dtype)},
    layout={"x": DENSE, "index": INDEX, "y": DENSE},
)
def gather(x: Array, axis: int, index: Array) -> Array:
    """What ``index`` names, of any dtype."""
    return np.take(x, index, axis) if index.ndim == 1 else np.take_along_axis(x, index, axis)


@kernel(
    "12.1",
    returns=lambda x, axis, index, values: {"y": (x.shape, x.dtype)},
    layout={"x": DENSE, "index": INDEX, "values": DENSE, "y": DENSE},
)
def scatter(x: Array, axis: int, index: Array, values: Array) -> Array:
    """``x`` with ``values`` at ``index``, of any dtype; where it names an element twice, the last value stays."""
    y = x.copy().reshape(-1)
    for place, value in zip(places(np, x, axis, index).tolist(), values.ravel(), strict=True):
        y[place] = value
    return y.reshape(x.shape)


@kernel(
    "12.1",
    returns=lambda x, axis, index, values: {"y": (x.shape, x.dtype)},
    layout={"x": DENSE, "index": INDEX, "values": DENSE, "y": DENSE},
)
def scatter_add(x: Array, axis: int, index: Array, values: Array) -> Array:
    """``x`` with ``values`` added at ``index`` one after the other; integers too."""
    y = x.ravel().copy()
    np.add.at(y, places(np, x, axis, index), values.ravel())
    return y.reshape(x.shape)
