"""Operations that move data and round nothing: shapes, joining, padding, indexing, conversion.

Reshaping, transposing, broadcasting and basic indexing may return views, which share memory with their operand.
"""

from __future__ import annotations

import builtins
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.backends import Backend
from lucid.core.device import move
from lucid.core.dtypes import as_dtype
from lucid.core.tensor import SHARED, Operand, Tensor, _plain_index, as_tensor
from lucid.ops._common import Shape, all_axes, broadcast_shape, one_axis, unbroadcast
from lucid.ops._function import EVERY_INPUT, Function, apply
from lucid.ops._promotion import promoted

__all__ = [
    "broadcast_to",
    "cast",
    "cat",
    "chunk",
    "clone",
    "concatenate",
    "detach",
    "expand_dims",
    "flatten",
    "getitem",
    "pad",
    "permute",
    "ravel",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "to_device",
    "transpose",
    "unsqueeze",
]


# -- shapes ----------------------------------------------------------------------------------------------------------


class Reshape(Function):
    name = "reshape"
    params = ("shape",)
    any_dtype = view = True
    may_alias = EVERY_INPUT

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def forward(self, be: Backend, x: Any) -> Any:
        self.source = x.shape
        return x.reshape(self.shape)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (dy.reshape(self.source),)


def reshape(x: Operand, shape: int | Sequence[int]) -> Tensor:
    """The elements in row-major order in another shape.

    Args:
        x: a tensor.
        shape: the new shape; one length may be -1, and is then worked out.

    Returns:
        A view where the memory order allows it. Gradient: ``dy`` in the shape of ``x``.

    Raises:
        ValueError: the number of elements is not the same.

    Source: ONNX operator Reshape.

    Example:
        >>> import lucid
        >>> lucid.reshape(lucid.arange(6), (2, -1))
        tensor([[0, 1, 2],
                [3, 4, 5]])
    """
    x = as_tensor(x)
    wanted = tuple(map(operator.index, shape)) if isinstance(shape, Sequence) else (operator.index(shape),)
    return apply(Reshape(_resolve(x, wanted)), x)


def _resolve(x: Tensor, wanted: Shape) -> Shape:
    """``wanted`` with its -1 worked out."""
    known = math.prod(n for n in wanted if n != -1)
    unknown = wanted.count(-1)
    if unknown > 1 or builtins.min(wanted, default=0) < -1:
        raise ValueError(f"shape: got {wanted}; lengths may be at least 0, and one may be -1")
    if (unknown and (known == 0 or x.size % known)) or (not unknown and known != x.size):
        raise ValueError(f"shape: got {wanted} for a tensor of shape {x.shape}, which has {x.size} elements")
    return tuple(x.size // known if n == -1 else n for n in wanted)


def flatten(x: Operand, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """``x`` with the axes from ``start_axis`` to ``end_axis`` (both included) joined into one.

    Raises:
        ValueError: there is no such axis, or the end stands before the start.

    Source: ONNX operator Flatten.

    Example:
        >>> import lucid
        >>> lucid.flatten(lucid.zeros(2, 3, 4), 1).shape
        (2, 12)
    """
    x = as_tensor(x)
    if not x.ndim:
        return reshape(x, (1,))
    start, end = one_axis("flatten", start_axis, x.ndim), one_axis("flatten", end_axis, x.ndim)
    if end < start:
        raise ValueError(f"flatten: got start_axis {start_axis} behind end_axis {end_axis}")
    shape = x.shape
    return apply(Reshape((*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])), x)


def ravel(x: Operand) -> Tensor:
    """The elements in row-major order along one axis.

    Example:
        >>> import lucid
        >>> lucid.ravel(lucid.zeros(2, 3)).shape
        (6,)
    """
    return reshape(x, (-1,)) if as_tensor(x).size else reshape(x, (0,))


def squeeze(x: Operand, axis: Any = None) -> Tensor:
    """``x`` without its axes of length one, or without those of ``axis`` that have length one.

    Raises:
        ValueError: there is no such axis.

    Source: ONNX operator Squeeze.

    Example:
        >>> import lucid
        >>> lucid.squeeze(lucid.zeros(1, 3, 1)).shape
        (3,)
    """
    x = as_tensor(x)
    none = isinstance(axis, Sequence) and not axis  # no axis at all, unlike in a reduction
    axes = () if none else all_axes("squeeze", axis, x.ndim)
    return apply(Reshape(tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes)), x)


def unsqueeze(x: Operand, axis: int) -> Tensor:
    """``x`` with an axis of length one at ``axis`` of the result.

    Raises:
        ValueError: there is no such axis.

    Source: ONNX operator Unsqueeze.

    Example:
        >>> import lucid
        >>> lucid.unsqueeze(lucid.zeros(2, 3), 1).shape
        (2, 1, 3)
    """
    x = as_tensor(x)
    place = one_axis("unsqueeze", axis, x.ndim + 1)
    return apply(Reshape((*x.shape[:place], 1, *x.shape[place:])), x)


expand_dims = unsqueeze


class Transpose(Function):
    name = "transpose"
    params = ("axes",)
    any_dtype = view = True
    may_alias = EVERY_INPUT

    def __init__(self, axes: Shape) -> None:
        self.axes = axes

    def forward(self, be: Backend, x: Any) -> Any:
        return x.transpose(self.axes)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return (dy.transpose(inverse),)


def transpose(x: Operand, axes: Sequence[int] | None = None) -> Tensor:
    """``x`` with its axes in the order of ``axes``; None reverses them.

    Args:
        x: a tensor.
        axes: each axis of ``x`` once; two numbers given to ``Tensor.transpose`` of a tensor with more axes are an
            error.

    Returns:
        A view. Gradient: ``dy`` with the axes put back.

    Raises:
        ValueError: not each axis is named once.

    Source: ONNX operator Transpose.

    Example:
        >>> import lucid
        >>> lucid.transpose(lucid.zeros(2, 3, 4), (2, 0, 1)).shape
        (4, 2, 3)
    """
    x = as_tensor(x)
    if axes is None:
        return apply(Transpose(tuple(reversed(range(x.ndim)))), x)
    order = tuple(one_axis("transpose", axis, x.ndim) for axis in axes)
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(
            f"axes: got {tuple(axes)} for a tensor of {x.ndim} axes; must name each once (swapaxes exchanges two)"
        )
    return apply(Transpose(order), x)


permute = transpose


def swapaxes(x: Operand, axis1: int, axis2: int) -> Tensor:
    """``x`` with two axes exchanged: a view.

    Raises:
        ValueError: there is no such axis.

    Example:
        >>> import lucid
        >>> lucid.swapaxes(lucid.zeros(2, 3, 4), 0, 2).shape
        (4, 3, 2)
    """
    x = as_tensor(x)
    order = list(range(x.ndim))
    a, b = one_axis("swapaxes", axis1, x.ndim), one_axis("swapaxes", axis2, x.ndim)
    order[a], order[b] = b, a
    return apply(Transpose(tuple(order)), x)


class BroadcastTo(Function):
    name = "broadcast_to"
    params = ("shape",)
    any_dtype = view = True
    may_alias = EVERY_INPUT

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def forward(self, be: Backend, x: Any) -> Any:
        self.source = x.shape
        return be.xp.broadcast_to(x, self.shape)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (unbroadcast(be, dy, self.source),)


def broadcast_to(x: Operand, shape: Sequence[int]) -> Tensor:
    """``x`` repeated along axes of length one, and along new axes in front, to ``shape``; -1 keeps a length.

    Returns:
        A view, not to be written to. Gradient: ``dy`` summed over the repeated axes.

    Raises:
        ValueError: ``x`` does not broadcast to ``shape``.

    Source: ONNX operator Expand.

    Example:
        >>> import lucid
        >>> lucid.broadcast_to(lucid.tensor([[1.0], [2.0]]), (2, 2))
        tensor([[1., 1.],
                [2., 2.]])
    """
    x = as_tensor(x)
    wanted = tuple(map(operator.index, shape))
    added = len(wanted) - x.ndim
    wanted = tuple(x.shape[i - added] if n == -1 and i >= added else n for i, n in enumerate(wanted))
    if builtins.min(wanted, default=0) < 0 or added < 0 or broadcast_shape("broadcast_to", x.shape, wanted) != wanted:
        raise ValueError(f"broadcast_to: shape {x.shape} does not broadcast to {wanted}")
    return apply(BroadcastTo(wanted), x)


# -- joining and parting ---------------------------------------------------------------------------------------------


class Concatenate(Function):
    name = "concatenate"
    params = ("axis",)
    may_alias = EVERY_INPUT

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, be: Backend, *arrays: Any) -> Any:
        self.lengths = [a.shape[self.axis] for a in arrays]
        return be.xp.concatenate(arrays, axis=self.axis)

    def into(self, be: Backend, out: Any, *arrays: Any) -> None:
        """As ``forward``, but written to ``out``: a plan has the result's place."""
        be.xp.concatenate(arrays, axis=self.axis, out=out)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        pieces, start = [], 0
        for length in self.lengths:
            pieces.append(dy[(slice(None),) * self.axis + (slice(start, start + length),)])
            start += length
        return tuple(pieces)


def _parts(tensors: Sequence[Any]) -> list[Tensor]:
    """Several tensors in their common dtype."""
    parts = [as_tensor(t) for t in tensors]
    if not parts:
        raise ValueError("tensors: got none; must be at least one")
    return promoted("concatenate", *parts)


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one behind the other along ``axis``.

    Args:
        tensors: at least one; all shapes agree but for ``axis``. Integers beside floats take the float dtype.
        axis: an existing axis.

    Returns:
        A copy. Gradients: the pieces of ``dy``.

    Raises:
        ValueError: no tensors, another shape, or no such axis.
        TypeError: two float dtypes.

    Source: ONNX operator Concat.

    Example:
        >>> import lucid
        >>> lucid.concatenate([lucid.zeros(2), lucid.ones(1)])
        tensor([0., 0., 1.])
    """
    parts = _parts(tensors)
    place = one_axis("concatenate", axis, parts[0].ndim)
    rest = [(*t.shape[:place], *t.shape[place + 1 :]) for t in parts]
    for part, shape in zip(parts, rest, strict=True):
        if part.ndim != parts[0].ndim or shape != rest[0]:
            raise ValueError(f"concatenate: shapes {parts[0].shape} and {part.shape} may differ in axis {place} only")
    return apply(Concatenate(place), *parts)


cat = concatenate


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape along a new axis.

    Raises: as ``concatenate``.

    Example:
        >>> import lucid
        >>> lucid.stack([lucid.zeros(2), lucid.ones(2)], axis=1)
        tensor([[0., 1.],
                [0., 1.]])
    """
    parts = _parts(tensors)
    if builtins.any(t.shape != parts[0].shape for t in parts):
        raise ValueError(f"stack: shapes {', '.join(str(t.shape) for t in parts)} must be equal")
    return concatenate([unsqueeze(t, axis) for t in parts], axis)


def split(x: Operand, size: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """``x`` cut along ``axis`` into views of length ``size`` (the last may be shorter) or of the lengths in ``size``.

    Raises:
        ValueError: the lengths do not add up, or ``size`` is less than one.

    Example:
        >>> import lucid
        >>> [t.tolist() for t in lucid.split(lucid.arange(5), 2)]
        [[0, 1], [2, 3], [4]]
    """
    x = as_tensor(x)
    place = one_axis("split", axis, x.ndim)
    length = x.shape[place]
    if isinstance(size, Sequence):
        sizes = [operator.index(n) for n in size]
        if builtins.sum(sizes) != length or builtins.min(sizes, default=0) < 0:
            raise ValueError(f"size: got {sizes}; must add up to {length}, the length of axis {place}")
    else:
        if size < 1:
            raise ValueError(f"size: got {size}; may be at least 1")
        sizes = [builtins.min(size, length - start) for start in range(0, length, size)] or [0]
    ends = list(itertools.accumulate(sizes))
    front = (slice(None),) * place
    return tuple(getitem(x, (*front, slice(end - n, end))) for n, end in zip(sizes, ends, strict=True))


def chunk(x: Operand, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """``x`` cut along ``axis`` into at most ``chunks`` views of equal length (the last may be shorter).

    Raises:
        ValueError: ``chunks`` is less than one.

    Example:
        >>> import lucid
        >>> [t.tolist() for t in lucid.chunk(lucid.arange(5), 2)]
        [[0, 1, 2], [3, 4]]
    """
    x = as_tensor(x)
    if chunks < 1:
        raise ValueError(f"chunks: got {chunks}; may be at least 1")
    length = x.shape[one_axis("chunk", axis, x.ndim)]
    return split(x, builtins.max(1, -(-length // chunks)), axis)


class Pad(Function):
    name = "pad"
    params = ("widths", "value")

    may_alias = EVERY_INPUT

    def __init__(self, widths: tuple[tuple[int, int], ...], value: float) -> None:
        self.widths = widths
        self.value = value

    def forward(self, be: Backend, x: Any) -> Any:
        self.inside = tuple(slice(a, a + n) for (a, _), n in zip(self.widths, x.shape, strict=True))
        shape = tuple(a + n + b for (a, b), n in zip(self.widths, x.shape, strict=True))
        y = be.full(shape, self.value, x.dtype)
        y[self.inside] = x
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (dy[self.inside],)


def pad(x: Operand, widths: Any, value: float = 0.0) -> Tensor:
    """``x`` with ``value`` around it.

    Args:
        x: a tensor.
        widths: how many elements are added before and behind each axis: one number for all, one pair for all, or a pair
            for each axis.
        value: a number.

    Returns:
        A copy. Gradient: ``dy`` without the border.

    Raises:
        ValueError: widths below 0, or not one pair for each axis.

    Source: ONNX operator Pad; ``numpy.pad``.

    Example:
        >>> import lucid
        >>> lucid.pad(lucid.ones(2), (1, 2))
        tensor([0., 1., 1., 0., 0.])
    """
    x = as_tensor(x)
    try:
        pairs = np.broadcast_to(np.asarray(widths, np.int64), (x.ndim, 2)).tolist()
    except ValueError:
        raise ValueError(f"widths: got {widths}; may be a number, a pair, or {x.ndim} pairs") from None
    if builtins.min((n for pair in pairs for n in pair), default=0) < 0:
        raise ValueError(f"widths: got {widths}; may be 0 or more")
    return apply(Pad(tuple((a, b) for a, b in pairs), value), x)


# -- indexing --------------------------------------------------------------------------------------------------------


class GetItem(Function):
    name = "getitem"
    params = ("index",)
    any_dtype = view = True

    def __init__(self, index: Any) -> None:
        self.index = index

    def forward(self, be: Backend, x: Any) -> Any:
        self.shape = x.shape
        return x[self.index]

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.index_add(self.shape, self.index, dy),)


def getitem(x: Operand, index: Any) -> Tensor:
    """``x[index]`` with NumPy's meaning: numbers, slices, ``...``, ``None``, integer and boolean arrays or tensors.

    Returns:
        A view for numbers, slices, ``...`` and None, else a copy. Gradient: ``dy`` added at ``index`` to zeros.

    Raises:
        IndexError: an index out of range, or too many of them.

    Source: NumPy's indexing; ONNX operators Slice and GatherND.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> x[:, 0], x[lucid.tensor([1, 1]), 0]
        (tensor([1., 3.]), tensor([3., 3.]))
    """
    x = as_tensor(x)
    index = _plain_index("getitem", x, index)
    if not isinstance(index, tuple):
        index = (index,)
    if not builtins.any(i is Ellipsis for i in index):
        index = (*index, ...)  # so that a single element is an array without axes, and a view
    return apply(GetItem(index), x)


# -- the same values elsewhere ---------------------------------------------------------------------------------------


class Cast(Function):
    name = "cast"
    params = ("dtype",)
    any_dtype = True

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.differentiable = dtype.kind == "f"  # type: ignore[misc]

    def forward(self, be: Backend, x: Any) -> Any:
        self.source = x.dtype
        return be.convert(x, self.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.convert(dy, self.source),)


def cast(x: Operand, dtype: Any) -> Tensor:
    """``x`` converted to ``dtype``, correctly rounded between floats; ``x`` itself if it has that dtype.

    Gradient: ``dy`` converted back; none through integers. Source: ONNX operator Cast.

    Raises:
        TypeError: no dtype of lucid.

    Example:
        >>> import lucid
        >>> lucid.cast(lucid.tensor([1.5]), lucid.int64)
        tensor([1])
    """
    x = as_tensor(x)
    chosen = as_dtype(dtype)
    return x if x._array.dtype == chosen else apply(Cast(chosen), x)


class ToDevice(Function):
    name = "to_device"
    params = ("target",)
    any_dtype = True

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target

    def forward(self, be: Backend, x: Any) -> Any:
        y = move(x, self.target)
        return y.copy() if y is x else y  # a backend of NumPy arrays may play the GPU: a copy there too

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (move(dy, self.source),)


def to_device(x: Tensor, device: str) -> Tensor:
    """``x`` on another device. Gradient: ``dy`` brought back."""
    function = ToDevice(x.device, device)
    out = apply(function, x)
    out.device = function.device = device
    return out


class Identity(Function):
    name = "identity"
    any_dtype = True

    def forward(self, be: Backend, x: Any) -> Any:
        return x.copy()

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (dy.copy(),)


def clone(x: Operand) -> Tensor:
    """A copy of ``x``. Gradient: ``dy``. Source: ONNX operator Identity.

    Example:
        >>> import lucid
        >>> lucid.clone(lucid.ones(2))
        tensor([1., 1.])
    """
    return apply(Identity(), x)


class Detach(Function):
    name = "identity"
    any_dtype = view = True
    differentiable = False

    def forward(self, be: Backend, x: Any) -> Any:
        return x


def detach(x: Tensor) -> Tensor:
    """``x`` without its history, sharing its memory.

    Example:
        >>> import lucid
        >>> x = lucid.ones(2, requires_grad=True)
        >>> lucid.detach(x).requires_grad
        False
    """
    out = apply(Detach(), x)
    out._version = x._version_cell()
    out._version[SHARED] = True
    return out
