"""Sums, means and extremes over axes, and indexed accumulation: sections 2, 4 and 12 of the law."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from lucid.kernels.declare import Array, Returns, kernel
from lucid.kernels.sums import sum_of


def _reduced(op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Returns:
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdims or axis not in axes)
    return {"y": (shape, x.dtype)}


@kernel("2, 4", returns=_reduced)
def reduce(op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """``sum mean max min`` over ``axes`` (non-negative, ascending; all axes must be named to reduce all)."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdims or axis not in axes)
    count, outputs = prod(x.shape[axis] for axis in axes), prod(x.shape[axis] for axis in kept)
    terms = x.transpose(*axes, *kept).reshape(count, outputs)
    if op in ("max", "min"):  # argmax gives the first of equal terms, the first NaN if there is one
        first = terms.argmax(axis=0) if op == "max" else terms.argmin(axis=0)
        y = np.take_along_axis(terms, first[None], axis=0)
    else:
        y = sum_of(terms) if op == "sum" else sum_of(terms) / count
    return y.astype(x.dtype).reshape(shape)


@kernel("12", returns=lambda shape, index, values: {"y": (shape, values.dtype)})
def index_add(shape: tuple[int, ...], index: Any, values: Array) -> Array:
    """Zeros of ``shape`` with ``values`` added at ``index`` (any NumPy index), duplicates in order."""
    size = prod(shape)
    positions = np.arange(size).reshape(shape)[index]
    y = np.zeros(size, values.dtype)
    np.add.at(y, positions.ravel(), np.broadcast_to(values, positions.shape).ravel())
    return y.reshape(shape)
