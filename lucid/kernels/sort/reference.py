"""The order of the elements along an axis: section 4.3 of the law."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.kernels.declare import AXIS_LAST, Array, kernel

INT64 = np.dtype(np.int64)


def stable_order(xp: Any, x: Array, axis: int, descending: bool) -> Array:
    """``argsort`` of integers and booleans: ``~`` turns their order round and keeps equal ones equal."""
    return xp.argsort(~x if descending else x, axis=axis, kind="stable").astype(np.int64, copy=False)


@kernel(
    "4.3",
    returns=lambda x, axis, descending: {"index": (x.shape, INT64)},
    layout={"x": AXIS_LAST, "index": AXIS_LAST},
)
def argsort(x: Array, axis: int, descending: bool) -> Array:
    """Where each element of the sorted ``x`` stands: int64. Equal ones keep their order; a NaN is above all numbers."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable").astype(np.int64)
    last = x.shape[axis] - 1
    return (last - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)).astype(np.int64)


def _chosen(x: Array, k: int, axis: int, largest: bool) -> dict[str, Any]:
    return {"index": (tuple(k if i == axis % x.ndim else n for i, n in enumerate(x.shape)), INT64)}


@kernel("4.3", returns=_chosen, layout={"x": AXIS_LAST, "index": AXIS_LAST})
def topk(x: Array, k: int, axis: int, largest: bool) -> Array:
    """The first ``k`` along ``axis`` of what ``argsort(x, axis, largest)`` is."""
    return np.take(argsort(x, axis, largest), np.arange(k), axis)
