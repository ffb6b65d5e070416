"""Gradients of what moves elements: ``lucid.ops.shape``, ``arrange`` and ``indexing``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.core.tensor import Tensor, tensor
from lucid.graph.gradients._rules import differentiates, scalar, unbroadcast
from lucid.graph.gradients.functions import expand_like
from lucid.ops.comparison import equal
from lucid.ops.creation import zeros
from lucid.ops.elementwise import where
from lucid.ops.indexing import gather, index_add, index_select, scatter, scatter_add
from lucid.ops.shape import cast, getitem, pad, reshape, transpose


@differentiates("identity", "to_device", "module_hook", "rounded")
def _same(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return dy


@differentiates("straight_through")
def _straight_through(
    f: Any, dy: Tensor, y: Tensor, x: Tensor, made: Tensor, inside: Tensor
) -> Sequence[Tensor | None]:
    return where(inside, dy, scalar(0.0, dy)), None, None


@differentiates("reshape")
def _reshape(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return reshape(dy, x.shape)


@differentiates("transpose")
def _transpose(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return transpose(dy, sorted(range(len(f.axes)), key=f.axes.__getitem__))


@differentiates("broadcast_to")
def _broadcast_to(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return unbroadcast(dy, x)


@differentiates("concatenate")
def _concatenate(f: Any, dy: Tensor, y: Tensor, *parts: Tensor) -> list[Tensor]:
    pieces, start = [], 0
    for part in parts:
        end = start + part.shape[f.axis]
        pieces.append(getitem(dy, (slice(None),) * f.axis + (slice(start, end),)))
        start = end
    return pieces


@differentiates("pad")
def _pad(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    inside = [slice(a, a + n) if (a, b) != (0, 0) else slice(None) for (a, b), n in zip(f.widths, x.shape, strict=True)]
    return getitem(dy, tuple(inside))


@differentiates("cast")
def _cast(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Any:
    return cast(dy, x.dtype) if x.dtype.kind == "f" else (None,)


@differentiates("getitem")
def _getitem(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Zeros around, between, and, for a negative step, the other way round."""
    index = f.index if isinstance(f.index, tuple) else (f.index,)
    if not all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in index):
        return _by_arrays(index, dy, x)
    given = [part for part in index if part is not None]
    if Ellipsis in given:
        place = given.index(Ellipsis)
        given[place : place + 1] = [slice(None)] * (x.ndim - len(given) + 1)
    given += [slice(None)] * (x.ndim - len(given))
    spans = [_span(part, n) for part, n in zip(given, x.shape, strict=True)]
    dy = reshape(dy, [len(span) for span in spans])
    for axis, span in enumerate(spans):
        dy = _spread(dy, axis, span, x.shape[axis])
    return dy


def _span(part: Any, size: int) -> range:
    """The elements of an axis that are taken, in their order."""
    if isinstance(part, slice):
        return range(size)[part]
    return range(part % size, part % size + 1)


def _spread(dy: Tensor, axis: int, span: range, size: int) -> Tensor:
    """``dy`` at the places ``span`` of an axis of ``size``, zeros elsewhere."""
    if span == range(size):
        return dy
    if not len(span):
        return pad(dy, [(0, size if i == axis else 0) for i in range(dy.ndim)])
    if span.step < 0:
        dy = getitem(dy, (slice(None),) * axis + (slice(None, None, -1),))
        span = span[::-1]
    first, step, number = span[0], span.step, len(span)
    if step > 1 and number > 1:
        apart = reshape(dy, (*dy.shape[: axis + 1], 1, *dy.shape[axis + 1 :]))
        apart = pad(apart, [(0, step - 1 if i == axis + 1 else 0) for i in range(apart.ndim)])
        apart = reshape(apart, (*dy.shape[:axis], number * step, *dy.shape[axis + 1 :]))
        number = (number - 1) * step + 1
        dy = getitem(apart, (slice(None),) * axis + (slice(0, number),))
    behind = size - first - number
    return pad(dy, [(first, behind) if i == axis else (0, 0) for i in range(dy.ndim)]) if first or behind else dy


def _by_arrays(index: tuple[Any, ...], dy: Tensor, x: Tensor) -> Tensor:
    """Of one array of integers, for one axis behind whole ones: what it names is added up."""
    chosen = [i for i, part in enumerate(index) if not (isinstance(part, slice) and part == slice(None))]
    axis = chosen[0]
    places = np.asarray(index[axis])
    if len(chosen) > 1 or places.dtype.kind not in "iu":
        raise ValueError("an index by several arrays, by arrays and slices, or by booleans has no gradient in graphs")
    slices = reshape(dy, (*x.shape[:axis], places.size, *x.shape[axis + 1 :]))
    return index_add(_nothing(x), axis, tensor(places.reshape(-1) % x.shape[axis]), slices)


def _nothing(like: Tensor) -> Tensor:
    return expand_like(zeros((1,) * like.ndim, dtype=like.dtype), like)


@differentiates("diagonal")
def _diagonal(f: Any, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Each element in its row: ``dy`` beside itself, where a mask has the diagonal."""
    others = [i for i in range(x.ndim) if i not in (f.axis1, f.axis2)]
    rows, columns = x.shape[f.axis1], x.shape[f.axis2]
    mask = np.eye(rows, columns, f.offset, dtype=bool)
    first = max(-f.offset, 0)
    leading = [(0, 0)] * (dy.ndim - 1)
    along = pad(dy, [*leading, (first, rows - first - dy.shape[-1])])
    matrices = where(tensor(mask), reshape(along, (*along.shape, 1)), scalar(0.0, dy))
    order = [*others, f.axis1, f.axis2]
    return transpose(matrices, sorted(range(x.ndim), key=order.__getitem__))


@differentiates("gather")
def _gather(f: Any, dy: Tensor, y: Tensor, x: Tensor, index: Tensor) -> tuple[Tensor, None]:
    return scatter_add(_nothing(x), f.axis, index, dy), None


@differentiates("index_select")
def _index_select(f: Any, dy: Tensor, y: Tensor, x: Tensor, index: Tensor) -> tuple[Tensor, None]:
    return index_add(_nothing(x), f.axis, index, dy), None


@differentiates("embedding")
def _embedding(f: Any, dy: Tensor, y: Tensor, index: Tensor, weight: Tensor) -> tuple[None, Tensor]:
    flat = reshape(index, (index.size,))
    rows = reshape(dy, (index.size, weight.shape[1]))
    if f.padding_idx is not None:
        left_out = reshape(equal(flat, f.padding_idx), (index.size, 1))
        rows = where(left_out, scalar(0.0, rows), rows)
    return None, index_add(_nothing(weight), 0, flat, rows)


@differentiates("scatter_add")
def _scatter_add(f: Any, dy: Tensor, y: Tensor, x: Tensor, index: Tensor, values: Tensor) -> Sequence[Tensor | None]:
    return dy, None, gather(dy, f.axis, index)


@differentiates("index_add")
def _index_add(f: Any, dy: Tensor, y: Tensor, x: Tensor, index: Tensor, values: Tensor) -> Sequence[Tensor | None]:
    return dy, None, index_select(dy, f.axis, index)


@differentiates("scatter")
def _scatter(f: Any, dy: Tensor, y: Tensor, x: Tensor, index: Tensor, values: Tensor) -> Sequence[Tensor | None]:
    """A value that another one replaced has none: each leaves its number, and the last stays."""
    dx = scatter(dy, f.axis, index, scalar(0.0, dy))
    numbers = tensor(np.arange(index.size).reshape(index.shape))
    stayed = scatter(zeros(x.shape, dtype=numbers.dtype), f.axis, index, numbers)
    last = equal(gather(stayed, f.axis, index), numbers)
    return dx, None, where(last, gather(dy, f.axis, index), scalar(0.0, dy))
