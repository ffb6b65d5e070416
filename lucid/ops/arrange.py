"""Operations that arrange elements anew and round nothing: diagonals, triangles, repetition, stacking, rotation, grids.

All but ``diagonal`` are composed of those of ``shape.py``, and take every dtype.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.backends import Backend, backend_for
from lucid.core.tensor import Operand, Tensor, as_tensor
from lucid.ops._common import Shape, one_axis
from lucid.ops._function import Function, apply, compose
from lucid.ops._promotion import broadcast_shape
from lucid.ops.elementwise import where
from lucid.ops.reduction import sum
from lucid.ops.shape import broadcast_to, clone, concatenate, getitem, pad, reshape, unsqueeze

__all__ = [
    "diag",
    "diagonal",
    "flip",
    "hstack",
    "meshgrid",
    "repeat",
    "repeat_interleave",
    "roll",
    "tile",
    "trace",
    "tril",
    "triu",
    "unbind",
    "vstack",
]


# -- diagonals and triangles -----------------------------------------------------------------------------------------


class Diagonal(Function):
    name = "diagonal"
    params = ("offset", "axis1", "axis2")
    any_dtype = view = True

    def __init__(self, offset: int, axis1: int, axis2: int) -> None:
        self.offset = offset
        self.axis1 = axis1
        self.axis2 = axis2

    def forward(self, be: Backend, x: Any) -> Any:
        self.source = x.shape
        y = x.diagonal(self.offset, self.axis1, self.axis2)
        if getattr(x.flags, "writeable", False):  # NumPy gives a view that is not
            y.flags.writeable = True
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        dx = be.xp.zeros(self.source, dy.dtype)
        others = [i for i in range(dx.ndim) if i not in (self.axis1, self.axis2)]
        places = be.xp.arange(dy.shape[-1])
        matrices = dx.transpose((*others, self.axis1, self.axis2))
        matrices[..., places - min(self.offset, 0), places + max(self.offset, 0)] = dy
        return (dx,)


def diagonal(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonals of the matrices of ``axis1`` (rows) and ``axis2`` (columns): ``y[..., i] = x[i, i + offset]``.

    Args:
        x: a tensor of at least two axes.
        offset: how far above the main diagonal; below 0, how far below it.
        axis1: the rows.
        axis2: the columns, another axis.

    Returns:
        A view: the other axes in their order, and the diagonal last. Gradient: ``dy`` on the
        diagonal of zeros.

    Raises:
        ValueError: there is no such axis, or it is the same one.

    Source: ``numpy.diagonal``, ``torch.diagonal``.

    Example:
        >>> import lucid
        >>> lucid.diagonal(lucid.arange(6).reshape(2, 3), 1)
        tensor([1, 5])
    """
    x = as_tensor(x)
    rows, columns = one_axis("diagonal", axis1, x.ndim), one_axis("diagonal", axis2, x.ndim)
    if rows == columns:
        raise ValueError(f"diagonal: got axis {axis1} for rows and for columns; must be two axes")
    return apply(Diagonal(operator.index(offset), rows, columns), x)


def diag(x: Operand, k: int = 0) -> Tensor:
    """Of a vector the matrix that has it on its diagonal ``k``, of a matrix its diagonal ``k``.

    Args:
        x: ``(N,)`` or ``(M, N)``.
        k: how far above the main diagonal; below 0, how far below it.

    Returns:
        ``(N + |k|, N + |k|)``, or ``diagonal(x, k)``.

    Raises:
        ValueError: another number of axes.

    Source: ``numpy.diag``, ``torch.diag``.

    Example:
        >>> import lucid
        >>> lucid.diag(lucid.tensor([1, 2]))
        tensor([[1, 0],
                [0, 2]])
    """
    x = as_tensor(x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ValueError(f"diag: got shape {x.shape}; must have one or two axes")
    n = x.shape[0]  # rows of one element and n zeros are, one element later each, the columns of a diagonal
    square = reshape(reshape(pad(unsqueeze(x, 1), ((0, 0), (0, n))), (n * (n + 1),))[: n * n], (n, n))
    return pad(square, ((max(-k, 0), max(k, 0)), (max(k, 0), max(-k, 0)))) if k else square


def trace(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of ``diagonal(x, offset, axis1, axis2)``. Arguments and errors as there.

    Example:
        >>> import lucid
        >>> lucid.trace(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor(5.)
    """
    return sum(diagonal(x, offset, axis1, axis2), -1)


def _triangle(name: str, x: Operand, k: int) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"{name}: got shape {x.shape}; must have at least two axes")

    def body(x: Tensor, k: int) -> Tensor:
        lower = np.tri(x.shape[-2], x.shape[-1], k if name == "tril" else k - 1, dtype=bool)
        return where(
            as_tensor(lower if name == "tril" else ~lower, device=x.device), x, as_tensor(0, x.dtype, x.device)
        )

    return compose(name, body, x, k=operator.index(k))


def tril(x: Operand, k: int = 0) -> Tensor:
    """The lower triangles of the matrices in the last two axes: zeros above diagonal ``k``.

    Args:
        x: ``(..., M, N)``.
        k: the last diagonal that is kept, counted as in ``diagonal``.

    Returns:
        A copy. Gradient: the same triangle of ``dy``.

    Raises:
        ValueError: fewer than two axes.

    Source: ONNX operator Trilu.

    Example:
        >>> import lucid
        >>> lucid.tril(lucid.ones(2, 3))
        tensor([[1., 0., 0.],
                [1., 1., 0.]])
    """
    return _triangle("tril", x, k)


def triu(x: Operand, k: int = 0) -> Tensor:
    """The upper triangles of the matrices in the last two axes: zeros below diagonal ``k``. Otherwise as ``tril``.

    Example:
        >>> import lucid
        >>> lucid.triu(lucid.ones(2, 3), 1)
        tensor([[0., 1., 1.],
                [0., 0., 1.]])
    """
    return _triangle("triu", x, k)


# -- repetition ------------------------------------------------------------------------------------------------------


def repeat(x: Operand, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element (or, with ``axis``, each slice) ``repeats`` times in a row.

    This is the original's and NumPy's ``repeat``, and PyTorch's ``repeat_interleave``. PyTorch's ``Tensor.repeat`` is
    ``tile``, and so is the method here.

    Args:
        x: a tensor.
        repeats: a number, or one for each element along ``axis``.
        axis: an axis; None takes all elements in row-major order.

    Returns:
        A copy. Gradient: the sum of ``dy`` over the repetitions of each.

    Raises:
        ValueError: a number below 0, not one for each, or no such axis.

    Source: ``numpy.repeat``.

    Example:
        >>> import lucid
        >>> lucid.repeat(lucid.tensor([1, 2]), 2), lucid.repeat(lucid.tensor([1, 2]), [1, 3])
        (tensor([1, 1, 2, 2]), tensor([1, 2, 2, 2]))
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = reshape(x, (x.size,)), 0
    place = one_axis("repeat", axis, x.ndim)
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu" or counts.ndim > 1 or (counts.size and counts.min() < 0):
        raise ValueError(f"repeats: got {repeats}; may be a whole number from 0 on, or one for each element")
    n = x.shape[place]
    if counts.ndim and counts.size not in (1, n):
        raise ValueError(
            f"repeats: got {counts.size} numbers for the {n} elements of axis {place}; may be one for each"
        )
    if counts.size != 1:
        return getitem(x, (*[slice(None)] * place, np.repeat(np.arange(n), counts)))
    count, shape = int(counts.reshape(())), x.shape
    wide = broadcast_to(unsqueeze(x, place + 1), (*shape[: place + 1], count, *shape[place + 1 :]))
    return _apart(x, reshape(wide, (*shape[:place], n * count, *shape[place + 1 :])))


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """``y``, or a copy where it is a view of ``x``, whose elements it would share."""
    shared = backend_for(x.device).xp.may_share_memory(x._array, y._array)
    return clone(y) if shared or not getattr(y._array.flags, "writeable", True) else y


repeat_interleave = repeat


def tile(x: Operand, reps: int | Sequence[int]) -> Tensor:
    """``x`` as a whole repeated ``reps`` times along each axis.

    Args:
        x: a tensor.
        reps: a number for each axis, for the last ones if there are fewer; with more, ``x`` gets axes in front.

    Returns:
        A copy. Gradient: the sum of ``dy`` over the repetitions.

    Raises:
        ValueError: a number below 0.

    Source: ONNX operator Tile; ``torch.tile``, ``Tensor.repeat`` of PyTorch.

    Example:
        >>> import lucid
        >>> lucid.tile(lucid.tensor([1, 2]), (2, 2))
        tensor([[1, 2, 1, 2],
                [1, 2, 1, 2]])
    """
    x = as_tensor(x)
    counts = tuple(map(operator.index, reps)) if isinstance(reps, Sequence) else (operator.index(reps),)
    if min(counts, default=0) < 0:
        raise ValueError(f"reps: got {reps}; may be 0 or more")
    counts = (1,) * (x.ndim - len(counts)) + counts

    def body(x: Tensor, reps: Shape) -> Tensor:
        shape = (1,) * (len(reps) - x.ndim) + x.shape
        apart = [length for n in shape for length in (1, n)]
        wide = broadcast_to(reshape(x, apart), [length for pair in zip(reps, shape, strict=True) for length in pair])
        return _apart(x, reshape(wide, [count * n for count, n in zip(reps, shape, strict=True)]))

    return compose("tile", body, x, reps=counts)


# -- joining, parting, turning ---------------------------------------------------------------------------------------


def hstack(tensors: Sequence[Any]) -> Tensor:
    """Tensors side by side: ``concatenate`` along the second axis, of vectors and numbers along the first.

    Raises: as ``concatenate``.

    Example:
        >>> import lucid
        >>> lucid.hstack([lucid.tensor([1, 2]), lucid.tensor([3])])
        tensor([1, 2, 3])
    """
    parts = [t if t.ndim else reshape(t, (1,)) for t in map(as_tensor, tensors)]
    return concatenate(parts, 1 if parts and parts[0].ndim > 1 else 0)


def vstack(tensors: Sequence[Any]) -> Tensor:
    """Tensors one above the other: ``concatenate`` along the first axis; vectors are rows.

    Raises: as ``concatenate``.

    Example:
        >>> import lucid
        >>> lucid.vstack([lucid.tensor([1, 2]), lucid.tensor([3, 4])])
        tensor([[1, 2],
                [3, 4]])
    """
    return concatenate([t if t.ndim > 1 else reshape(t, (1, t.size)) for t in map(as_tensor, tensors)], 0)


def unbind(x: Operand, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of ``x`` along ``axis``: views without that axis.

    Raises:
        ValueError: there is no such axis.

    Example:
        >>> import lucid
        >>> lucid.unbind(lucid.tensor([[1, 2], [3, 4]]), 1)
        (tensor([1, 3]), tensor([2, 4]))
    """
    x = as_tensor(x)
    front = (slice(None),) * one_axis("unbind", axis, x.ndim)
    return tuple(getitem(x, (*front, i)) for i in range(x.shape[len(front)]))


def flip(x: Operand, axis: int | Sequence[int]) -> Tensor:
    """``x`` backwards along ``axis``: a view. Gradient: ``dy`` backwards.

    Raises:
        ValueError: there is no such axis.

    Example:
        >>> import lucid
        >>> lucid.flip(lucid.tensor([1, 2, 3]), 0)
        tensor([3, 2, 1])
    """
    x = as_tensor(x)
    axes = {one_axis("flip", a, x.ndim) for a in (axis if isinstance(axis, Sequence) else [axis])}
    return getitem(x, tuple(slice(None, None, -1 if i in axes else None) for i in range(x.ndim)))


def roll(x: Operand, shifts: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements ``shifts`` places further along ``axis``; those that leave at one end come in at the other.

    Args:
        x: a tensor.
        shifts: a number, or one for each axis; below 0 it is the other way.
        axis: an axis, or several; None rolls the elements in row-major order.

    Returns:
        A copy. Gradient: ``dy`` rolled back.

    Raises:
        ValueError: there is no such axis, or not one shift for each.

    Source: ``numpy.roll``, ``torch.roll``.

    Example:
        >>> import lucid
        >>> lucid.roll(lucid.tensor([1, 2, 3]), 1)
        tensor([3, 1, 2])
    """
    x = as_tensor(x)
    if axis is None:
        return reshape(roll(reshape(x, (x.size,)), shifts, 0), x.shape)
    axes = [axis] if not isinstance(axis, Sequence) else list(axis)
    steps = [shifts] * len(axes) if not isinstance(shifts, Sequence) else list(shifts)
    if len(steps) != len(axes):
        raise ValueError(f"roll: got {len(steps)} shifts for {len(axes)} axes; must be one for each")
    for step, a in zip(steps, axes, strict=True):
        place = one_axis("roll", a, x.ndim)
        n, front = x.shape[place], (slice(None),) * place
        moved = operator.index(step) % n if n else 0
        if moved:
            tail, head = getitem(x, (*front, slice(n - moved, None))), getitem(x, (*front, slice(None, n - moved)))
            x = concatenate([tail, head], place)
    return x


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid: of vectors, each spread over the shape that their lengths make.

    Args:
        tensors: vectors or numbers.
        indexing: ``"ij"``: the shape is ``(N0, N1, N2, ..)``, as PyTorch has it; ``"xy"``: ``(N1, N0, N2, ..)``, as
            NumPy has it.

    Returns:
        As many views as there are vectors, not to be written to. Gradient: ``dy`` summed over the other axes.

    Raises:
        ValueError: a tensor with more axes, or another ``indexing``.

    Source: ``torch.meshgrid``.

    Example:
        >>> import lucid
        >>> rows, columns = lucid.meshgrid(lucid.arange(2), lucid.arange(3))
        >>> rows
        tensor([[0, 0, 0],
                [1, 1, 1]])
    """
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tuple(tensors[0])
    parts = [as_tensor(t) for t in tensors]
    if indexing not in ("ij", "xy"):
        raise ValueError(f"indexing: got {indexing!r}; may be 'ij' or 'xy'")
    if any(t.ndim > 1 for t in parts):
        raise ValueError(f"meshgrid: got shapes {', '.join(str(t.shape) for t in parts)}; must be vectors")
    places = list(range(len(parts)))
    if indexing == "xy" and len(parts) > 1:
        places[:2] = 1, 0
    shaped = [
        reshape(t, [t.size if i == place else 1 for i in range(len(parts))])
        for place, t in zip(places, parts, strict=True)
    ]
    shape = broadcast_shape("meshgrid", *[t.shape for t in shaped])
    return tuple(broadcast_to(t, shape) for t in shaped)
