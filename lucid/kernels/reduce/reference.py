"""Sums, means and extremes over axes, and sums along an axis: sections 2 and 4 of the law."""

from __future__ import annotations

from math import prod

import numpy as np

from lucid.kernels.declare import DENSE, Array, Returns, kernel
from lucid.kernels.sums import GROUP, SEGMENT, by_step, sum_of, wide


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


def _along(x: Array, axis: int, reverse: bool) -> dict[str, int]:
    axis %= x.ndim
    return {"outer": prod(x.shape[:axis]), "terms": x.shape[axis], "inner": prod(x.shape[axis + 1 :])}


@kernel(
    "4.1",
    returns=lambda x, axis, reverse: {"y": (x.shape, x.dtype)},
    layout={"x": DENSE, "y": DENSE},
    sizes=_along,
    numbers=("reverse",),
)
def cumsum(x: Array, axis: int, reverse: bool) -> Array:
    """Along ``axis`` the sum of the terms up to each, it included; with ``reverse`` from each on, the last first."""
    if x.size == 0:
        return x.copy()
    terms = np.moveaxis(wide(x), axis, 0)[:: -1 if reverse else 1]
    steps = by_step(terms, SEGMENT)
    ends, segments = np.zeros(steps.shape[1:]), steps.swapaxes(0, 1)
    for step in steps:  # each segment's sum so far
        step[...] = ends = ends + step
    groups = group = np.zeros(ends.shape[1:])
    for j, (segment, end) in enumerate(zip(segments, ends, strict=True), start=1):
        segment[...] = groups + (group + segment)
        group = group + end
        if j % GROUP == 0:
            groups, group = groups + group, np.zeros(group.shape)
    sums = segments.reshape(-1, *ends.shape[1:])[: len(terms)]
    return np.ascontiguousarray(np.moveaxis(sums[:: -1 if reverse else 1], 0, axis)).astype(x.dtype)
