"""Operations by the order of values (``ARITHMETIC.md``, section 4.3): sorting, the largest, what is there, how often.

Of equal elements the first comes first, zeros of both signs are equal, and a NaN is above every number.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.backends import Backend, backend_for
from lucid.backends.shapes import Abstract
from lucid.core.device import move, to_numpy
from lucid.core.tensor import Operand, Tensor, as_tensor, wrap
from lucid.ops._common import one_axis
from lucid.ops._function import Function, apply
from lucid.ops.indexing import gather, index_select, nonzero
from lucid.ops.shape import reshape

__all__ = ["argsort", "histogram", "histogram2d", "sort", "topk", "unique"]


class ArgSort(Function):
    name = "argsort"
    params = ("axis", "descending")
    differentiable = False

    def __init__(self, axis: int, descending: bool) -> None:
        self.axis = axis
        self.descending = descending

    def forward(self, be: Backend, x: Any) -> Any:
        return be.argsort(x, self.axis, self.descending)


def argsort(x: Operand, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The places, int64, of the elements along ``axis`` in ascending order.

    Args:
        x: a tensor of any dtype but float16.
        axis: an axis; a tensor without axes counts as one element.
        descending: the largest first, NaN before them; equal elements stay in their order.
        stable: it always is; PyTorch's argument.

    Returns:
        The shape of ``x``.

    Raises:
        ValueError: there is no such axis.

    Source: ``torch.argsort``; ONNX operator TopK.

    Example:
        >>> import lucid
        >>> lucid.argsort(lucid.tensor([3.0, 1.0, 2.0]))
        tensor([1, 2, 0])
    """
    x = as_tensor(x)
    if not x.ndim:
        return reshape(argsort(reshape(x, (1,)), axis, descending), ())
    return apply(ArgSort(one_axis("argsort", axis, x.ndim), bool(descending)), x)


def sort(x: Operand, axis: int = -1, descending: bool = False, stable: bool = True) -> tuple[Tensor, Tensor]:
    """The elements along ``axis`` in ascending order, and their places: ``(values, argsort(x))``. Arguments as there.

    Gradient: ``dy`` back at the places.

    Raises:
        ValueError: there is no such axis.

    Source: ``torch.sort``; ONNX operator TopK.

    Example:
        >>> import lucid
        >>> values, places = lucid.sort(lucid.tensor([3.0, 1.0, 2.0]), descending=True)
        >>> values, places
        (tensor([3., 2., 1.]), tensor([0, 2, 1]))
    """
    x = as_tensor(x)
    places = argsort(x, axis, descending)
    return _at(x, axis, places), places


def _at(x: Tensor, axis: int, places: Tensor) -> Tensor:
    return gather(x, axis, places) if x.ndim else x


class TopK(Function):
    name = "topk"
    params = ("k", "axis", "largest")
    differentiable = False

    def __init__(self, k: int, axis: int, largest: bool) -> None:
        self.k = k
        self.axis = axis
        self.largest = largest

    def forward(self, be: Backend, x: Any) -> Any:
        return be.topk(x, self.k, self.axis, self.largest)


def topk(x: Operand, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """The ``k`` largest (or smallest) elements along ``axis`` and their places, the most extreme first.

    Args:
        x: a tensor of any dtype but float16.
        k: how many, from 0 to the length of the axis.
        axis: an axis.
        largest: False asks for the smallest.
        sorted: they always are; PyTorch's argument.

    Returns:
        ``(values, places)``, the places int64. Of equal elements the one with the lowest place comes first; a NaN is
        larger than every number. Gradient: ``dy`` back at the places.

    Raises:
        ValueError: there is no such axis, or no such ``k``.

    Source: ``torch.topk``; ONNX operator TopK.

    Example:
        >>> import lucid
        >>> values, places = lucid.topk(lucid.tensor([3.0, 1.0, 2.0]), 2)
        >>> values, places
        (tensor([3., 2.]), tensor([0, 2]))
    """
    x = as_tensor(x)
    place, count = one_axis("topk", axis, x.ndim), operator.index(k)
    if not 0 <= count <= x.shape[place]:
        raise ValueError(f"k: got {k}; may be 0 to {x.shape[place]}, the length of axis {place}")
    places = apply(TopK(count, place, bool(largest)), x)
    return _at(x, place, places), places


# -- what is there ---------------------------------------------------------------------------------------------------


def unique(
    x: Operand, sorted: bool = True, *, return_inverse: bool = False, return_counts: bool = False, axis: Any = None
) -> Any:
    """The different elements, or with ``axis`` the different slices, in ascending order.

    Args:
        x: a tensor of any dtype but float16. Each NaN is different from all others, as in PyTorch.
        sorted: they always are; PyTorch's argument.
        return_inverse: also, for each element of ``x``, the place of its equal in the result.
        return_counts: also how often each is there.
        axis: None takes all elements; else slices along an axis are compared, element by element from the first.

    Returns:
        The result, or a tuple with what else was asked for, in that order. It has no gradient.

    Raises:
        ValueError: there is no such axis.
        RuntimeError: the model is being traced, and the number of elements would depend on values.

    Source: ``torch.unique``.

    Example:
        >>> import lucid
        >>> lucid.unique(lucid.tensor([2, 1, 2]), return_counts=True)
        (tensor([1, 2]), tensor([1, 2]))
    """
    x = as_tensor(x).detach()
    be = backend_for(x.device)
    place = 0 if axis is None else one_axis("unique", axis, x.ndim)
    flat = reshape(x, (x.size,)) if axis is None else x
    array = flat._array
    count = array.shape[place]
    rows = be.xp.moveaxis(array, place, 0).reshape(count, array.size // count if count else 1)
    order = be.xp.arange(len(rows))
    for column in reversed(range(rows.shape[1])):
        order = order[be.argsort(rows[:, column][order], 0, False)]
    ordered = rows[order]
    fresh = be.xp.ones(len(rows), np.bool_)
    fresh[1:] = be.compare("not_equal", ordered[1:], ordered[:-1]).any(axis=1)
    first = nonzero(wrap(fresh, x.device))._array[:, 0]
    result = [index_select(flat, place, wrap(order[first], x.device))]
    if return_inverse:
        inverse = be.xp.empty(len(rows), np.int64)
        inverse[order] = be.xp.searchsorted(first, be.xp.arange(len(rows)), side="right") - 1
        result.append(reshape(wrap(inverse, x.device), x.shape if axis is None else (len(rows),)))
    if return_counts:
        ends = be.xp.concatenate([first[1:], be.xp.full(min(1, len(first)), len(rows), np.int64)])
        result.append(wrap(ends - first, x.device))
    return result[0] if len(result) == 1 else tuple(result)


# -- how often -------------------------------------------------------------------------------------------------------


def _edges(name: str, values: Any, bins: Any, limits: Any) -> Any:
    """The edges of the bins in the dtype of ``values``: worked out in float64, and narrowed."""
    if not isinstance(bins, int | np.integer):
        edges = np.asarray(to_numpy(bins._array) if isinstance(bins, Tensor) else bins).astype(values.dtype)
        if edges.ndim != 1 or len(edges) < 2 or not (edges[1:] >= edges[:-1]).all():
            raise ValueError(f"{name}: got edges {bins}; must be at least two, ascending")
        return edges
    if bins < 1:
        raise ValueError(f"bins: got {bins}; may be a number from 1 on, or edges")
    if limits is None:
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    else:
        low, high = map(float, limits)
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"{name}: got a range from {low} to {high}; must be finite, the lower end first")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, int(bins) + 1).astype(values.dtype)


def _bins(values: Any, edges: Any) -> Any:
    """The bin of each value, -1 for none: ``edges[i] <= value < edges[i + 1]``; the last bin has the last edge, too."""
    found = np.searchsorted(edges, values, side="right") - 1
    found[values == edges[-1]] = len(edges) - 2
    found[~((values >= edges[0]) & (values <= edges[-1]))] = -1
    return found


def _floats(name: str, x: Operand) -> tuple[Any, Tensor]:
    x = as_tensor(x)
    if x.dtype.kind != "f":
        x = x.astype(np.float32)
    if isinstance(x._array, Abstract):
        x._array.item()  # which says that a traced tensor has no values
    return to_numpy(x._array).ravel(), x


def histogram(
    x: Operand, bins: Any = 10, *, range: tuple[float, float] | None = None, density: bool = False
) -> tuple[Tensor, Tensor]:
    """How many elements lie in each bin, and the edges of the bins. Worked out on the host.

    Args:
        x: a tensor; NaN are in no bin.
        bins: how many of one width, or ascending edges.
        range: the ends of the first and the last bin; elements outside are left out. None: the smallest element and the
            largest.
        density: divide by the number of elements that are counted and by the bin's width, in float64.

    Returns:
        ``(counts, edges)`` in the dtype of ``x`` (of integers: float32). A bin has its lower edge, the last one both.

    Raises:
        ValueError: no bin, edges that do not ascend, a range that is not finite.

    Source: ``torch.histogram``, ``numpy.histogram``.

    Example:
        >>> import lucid
        >>> lucid.histogram(lucid.tensor([1.0, 2.0, 1.0]), 2)
        (tensor([2., 1.]), tensor([1. , 1.5, 2. ]))
    """
    values, x = _floats("histogram", x)
    edges = _edges("histogram", values, bins, range)
    found = _bins(values, edges)
    counts = np.bincount(found[found >= 0], minlength=len(edges) - 1).astype(np.float64)
    if density:
        counts = counts / counts.sum() / np.diff(edges.astype(np.float64))
    return wrap(move(counts.astype(values.dtype), x.device), x.device), wrap(move(edges, x.device), x.device)


def histogram2d(
    x: Operand, y: Operand, bins: Any = 10, *, range: Any = None, density: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """How many points ``(x[i], y[i])`` lie in each bin, ``(bins of x, bins of y)``, and the edges of both.

    ``bins`` and ``range`` are those of ``histogram``, for both or a pair of them; the rest as there.

    Raises: as ``histogram``; also ValueError: two numbers of elements.

    Source: ``numpy.histogram2d``.

    Example:
        >>> import lucid
        >>> counts, _, _ = lucid.histogram2d(lucid.tensor([0.0, 1.0]), lucid.tensor([0.0, 1.0]), 2)
        >>> counts
        tensor([[1., 0.],
                [0., 1.]])
    """
    (a, first), (b, _) = _floats("histogram2d", x), _floats("histogram2d", y)
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(
            f"histogram2d: got {a.size} {a.dtype} and {b.size} {b.dtype} elements; must be as many, of one dtype"
        )
    pair = bins if isinstance(bins, Sequence) and len(bins) == 2 else (bins, bins)
    limits = (None, None) if range is None else range
    edges = [_edges("histogram2d", *each) for each in zip((a, b), pair, limits, strict=True)]
    rows, columns = (_bins(values, e) for values, e in zip((a, b), edges, strict=True))
    shape, inside = tuple(len(e) - 1 for e in edges), (rows >= 0) & (columns >= 0)
    flat = rows[inside] * shape[1] + columns[inside]
    counts = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    if density:
        counts = counts / counts.sum() / np.outer(*[np.diff(e.astype(np.float64)) for e in edges])
    made = (counts.astype(a.dtype), *edges)
    counted, rows, columns = (wrap(move(array, first.device), first.device) for array in made)
    return counted, rows, columns
