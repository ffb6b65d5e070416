"""Elements and slices by their place along an axis (``ARITHMETIC.md``, section 12.1): taken, put, and added up.

An index may count from the end. One out of range is an error, but for a GPU, where reading the index would wait.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid.backends import Backend
from lucid.core.tensor import Operand, Tensor, as_tensor
from lucid.ops._common import beside, broadcast_shape, one_axis
from lucid.ops._function import Function, apply
from lucid.ops._promotion import cast_to, promoted
from lucid.ops.elementwise import mul
from lucid.ops.shape import broadcast_to, reshape

__all__ = [
    "gather",
    "index_add",
    "index_select",
    "masked_select",
    "nonzero",
    "put_along_axis",
    "scatter",
    "scatter_add",
    "take",
    "take_along_axis",
]


# -- taking ----------------------------------------------------------------------------------------------------------


class Gather(Function):
    """By an index of one axis slices, by another one elements; then ``x`` may be larger along the other axes."""

    params = ("axis",)
    any_dtype = True

    def __init__(self, name: str, axis: int) -> None:
        self.name = name  # type: ignore[misc]
        self.axis = axis

    def forward(self, be: Backend, x: Any, index: Any) -> Any:
        self.source = x.shape
        self.places = be.from_zero(self.name, index, x.shape[self.axis])
        return be.gather(x[_inside(x.shape, self.axis, index)], self.axis, self.places)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        dx = be.xp.zeros(self.source, dy.dtype)
        return _changed(be, be.scatter_add, dx, self.axis, self.places, dy), None


def _inside(shape: tuple[int, ...], axis: int, index: Any) -> tuple[slice, ...]:
    """The part of an array of ``shape`` that ``index`` speaks of."""
    if index.ndim != len(shape) or index.ndim == 1:
        return (slice(None),) * len(shape)
    return tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(index.shape))


def _changed(be: Backend, kernel: Any, x: Any, axis: int, places: Any, values: Any) -> Any:
    """``kernel`` on the part of ``x`` that ``places`` speak of; the rest is as it was."""
    inside = _inside(x.shape, axis, places)
    if x[inside].shape == x.shape:
        return kernel(x, axis, places, values)
    y = x.copy()
    y[inside] = kernel(x[inside], axis, places, values)
    return y


def _index(name: str, x: Tensor, index: Any) -> Tensor:
    index = beside(index, x)
    if index.dtype.kind not in "iu" and index.size:
        raise TypeError(f"{name}: got an index of dtype {index.dtype}; must be integers")
    return index


def _axis(name: str, x: Tensor, axis: Any) -> int:
    if isinstance(axis, Tensor) and axis.size != 1:
        raise TypeError(f"{name}: got a tensor as the axis; the axis comes before the index, as in PyTorch")
    return one_axis(name, axis, x.ndim)


def _fits(name: str, x: Tensor, axis: int, index: Tensor) -> None:
    """Raise unless ``index`` has the axes of ``x``, none but ``axis`` longer."""
    if index.ndim != x.ndim or any(
        n > m for i, (n, m) in enumerate(zip(index.shape, x.shape, strict=True)) if i != axis
    ):
        raise ValueError(
            f"{name}: got an index of shape {index.shape} for a tensor of shape {x.shape}; "
            f"it must have as many axes, none longer but axis {axis}"
        )


def gather(x: Operand, axis: int, index: Any) -> Tensor:
    """One element for each of ``index``: along axis 1 of three, ``y[i, j, k] = x[i, index[i, j, k], k]``.

    Args:
        x: a tensor of any dtype.
        axis: the axis along which ``index`` counts.
        index: integers, of as many axes as ``x``, none longer but ``axis``.

    Returns:
        The shape of ``index``. Gradient: ``scatter_add`` of ``dy`` to zeros.

    Raises:
        ValueError: there is no such axis, or the index has another shape.
        TypeError: an index of no integers.
        IndexError: an index out of range.

    Source: ``torch.gather``; ONNX operator GatherElements.

    Example:
        >>> import lucid
        >>> lucid.gather(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, lucid.tensor([[0], [1]]))
        tensor([[1.],
                [4.]])
    """
    x = as_tensor(x)
    place, index = _axis("gather", x, axis), _index("gather", x, index)
    _fits("gather", x, place, index)
    return apply(Gather("gather", place), x, index)


def take_along_axis(x: Operand, indices: Any, axis: int | None = None) -> Tensor:
    """``gather`` with NumPy's arguments: the shapes broadcast but for ``axis``; None takes row-major order.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([3.0, 1.0, 2.0])
        >>> lucid.take_along_axis(x, lucid.argsort(x), 0)
        tensor([1., 2., 3.])
    """
    x = as_tensor(x)
    index = _index("take_along_axis", x, indices)
    if axis is None:
        return gather(reshape(x, (x.size,)), 0, reshape(index, (index.size,)))
    place = one_axis("take_along_axis", axis, x.ndim)
    if index.ndim != x.ndim:
        raise ValueError(
            f"take_along_axis: got an index of {index.ndim} axes for a tensor of {x.ndim}; must be as many"
        )
    ends = [(1, 1) if i == place else pair for i, pair in enumerate(zip(x.shape, index.shape, strict=True))]
    shape = broadcast_shape("take_along_axis", tuple(a for a, _ in ends), tuple(b for _, b in ends))
    return gather(_spread(x, shape, place), place, _spread(index, shape, place))


def _spread(x: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    wanted = (*shape[:axis], x.shape[axis], *shape[axis + 1 :])
    return x if x.shape == wanted else broadcast_to(x, wanted)


def index_select(x: Operand, axis: int, index: Any) -> Tensor:
    """The slices of ``x`` along ``axis`` that ``index`` names.

    Args:
        x: a tensor of any dtype.
        axis: an axis.
        index: integers, one axis (or none: one slice).

    Returns:
        A copy, ``axis`` of which is as long as the index. Gradient: ``index_add`` of ``dy`` to zeros.

    Raises: as ``gather``.

    Source: ``torch.index_select``; ONNX operator Gather.

    Example:
        >>> import lucid
        >>> lucid.index_select(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, [1, 1])
        tensor([[2., 2.],
                [4., 4.]])
    """
    x = as_tensor(x)
    place, index = _axis("index_select", x, axis), _slices("index_select", x, index)
    return apply(Gather("index_select", place), x, index)


def _slices(name: str, x: Tensor, index: Any) -> Tensor:
    index = _index(name, x, index)
    if index.ndim > 1:
        raise ValueError(f"{name}: got an index of shape {index.shape}; may have one axis (gather takes more)")
    return index if index.ndim else reshape(index, (1,))


def take(x: Operand, index: Any) -> Tensor:
    """The elements of ``x``, counted in row-major order, that ``index`` names; in the shape of ``index``.

    Source: ``torch.take``. Gradient and errors as ``gather``.

    Example:
        >>> import lucid
        >>> lucid.take(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), [[3, 0]])
        tensor([[4., 1.]])
    """
    x = as_tensor(x)
    index = _index("take", x, index)
    flat = gather(reshape(x, (x.size,)), 0, reshape(index, (index.size,)))
    return reshape(flat, index.shape)


class NonZero(Function):
    name = "nonzero"
    any_dtype = True
    differentiable = False

    def forward(self, be: Backend, x: Any) -> Any:
        return be.nonzero(x)


def nonzero(x: Operand, *, as_tuple: bool = False) -> Any:
    """The places of the elements that are not zero (NaN are not), in row-major order: int64, ``(count, x.ndim)``.

    With ``as_tuple`` one tensor for each axis, which index ``x``.

    Raises:
        RuntimeError: the model is being traced, and the number of elements would depend on values.

    Source: ``torch.nonzero``; ONNX operator NonZero.

    Example:
        >>> import lucid
        >>> lucid.nonzero(lucid.tensor([[0, 1], [2, 0]]))
        tensor([[0, 1],
                [1, 0]])
    """
    places = apply(NonZero(), as_tensor(x))
    return tuple(places[:, i] for i in range(places.shape[1])) if as_tuple else places


def masked_select(x: Operand, mask: Any) -> Tensor:
    """The elements of ``x`` where ``mask`` is true, in row-major order, along one axis.

    Args:
        x: a tensor of any dtype.
        mask: booleans; the shapes broadcast.

    Raises:
        TypeError: a mask of no booleans.
        ValueError: the shapes do not broadcast.
        RuntimeError: the model is being traced, and the number of elements would depend on values.

    Source: ``torch.masked_select``. Gradient as ``gather``.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([1.0, -2.0, 3.0])
        >>> lucid.masked_select(x, x > 0)
        tensor([1., 3.])
    """
    x = as_tensor(x)
    mask = beside(mask, x)
    if mask.dtype.kind != "b":
        raise TypeError(f"masked_select: got a mask of dtype {mask.dtype}; must be booleans")
    shape = broadcast_shape("masked_select", x.shape, mask.shape)
    chosen = nonzero(reshape(broadcast_to(mask, shape), (math.prod(shape),)))
    return take(broadcast_to(x, shape), reshape(chosen, (chosen.size,)))


# -- putting and adding ----------------------------------------------------------------------------------------------


class Scatter(Function):
    name = "scatter"
    params = ("axis",)
    any_dtype_inputs = (1,)

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, be: Backend, x: Any, index: Any, values: Any) -> Any:
        self.places = be.from_zero(self.name, index, x.shape[self.axis])
        self.source = x.shape
        return _changed(be, be.scatter, x, self.axis, self.places, values)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        xp, inside = be.xp, _inside(self.source, self.axis, self.places)
        zeros = xp.zeros(self.places.shape, dy.dtype)
        needs_x, _, needs_values = self.needs  # type: ignore[misc]
        dx = _changed(be, be.scatter, dy, self.axis, self.places, zeros) if needs_x else None
        if not needs_values:
            return dx, None, None
        numbers = xp.arange(self.places.size, dtype=np.int64).reshape(self.places.shape)
        stayed = be.scatter(xp.zeros(dy[inside].shape, np.int64), self.axis, self.places, numbers)
        last = be.gather(stayed, self.axis, self.places) == numbers
        dvalues = xp.where(last, be.gather(dy[inside], self.axis, self.places), be.number(0.0, dy.dtype))
        return dx, None, dvalues


class ScatterAdd(Function):
    params = ("axis",)
    any_dtype_inputs = (1,)

    def __init__(self, name: str, axis: int) -> None:
        self.name = name  # type: ignore[misc]
        self.axis = axis

    def forward(self, be: Backend, x: Any, index: Any, values: Any) -> Any:
        self.places = be.from_zero(self.name, index, x.shape[self.axis])
        self.inside = _inside(x.shape, self.axis, index)
        return _changed(be, be.scatter_add, x, self.axis, self.places, values)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        needs_x, _, needs_values = self.needs  # type: ignore[misc]
        taken = be.gather(dy[self.inside], self.axis, self.places) if needs_values else None
        return dy.copy() if needs_x else None, None, taken


def _put_operands(name: str, x: Operand, axis: int, index: Any, values: Any, whole: bool) -> tuple[Any, ...]:
    """``x``, the axis, the index and the values of something that puts or adds, checked and of one dtype."""
    target, source = promoted(name, as_tensor(x), values)
    place = _axis(name, target, axis)
    index = _slices(name, target, index) if whole else _index(name, target, index)
    if not whole:
        _fits(name, target, place, index)
    shape = (*target.shape[:place], index.size, *target.shape[place + 1 :]) if whole else index.shape
    if not source.ndim:
        source = broadcast_to(source, shape)
    if not whole and source.ndim == len(shape) and all(n >= m for n, m in zip(source.shape, shape, strict=True)):
        source = source if source.shape == shape else source[tuple(slice(n) for n in shape)]
    if source.shape != shape:
        raise ValueError(
            f"{name}: got values of shape {source.shape}; must be {shape}, as the index has it, or a number"
        )
    return target, place, index, source


def scatter(x: Operand, axis: int, index: Any, src: Any) -> Tensor:
    """``x`` with values put in: along axis 1 of three, ``y[i, index[i, j, k], k] = src[i, j, k]``.

    Args:
        x: a tensor.
        axis: the axis along which ``index`` counts.
        index: integers, of as many axes as ``x``, none longer but ``axis``. Where it names an element twice, the last
            value in row-major order stays.
        src: a number, or a tensor of at least the index's shape, of which that part is taken.

    Returns:
        A copy. Gradients: ``dy``, 0 where a value was put; of ``src`` what ``dy`` is there, 0 for a value that did not
        stay.

    Raises: as ``gather``; also
        TypeError: two float dtypes.

    Source: ``torch.scatter``; ONNX operator ScatterElements.

    Example:
        >>> import lucid
        >>> lucid.scatter(lucid.zeros(2, 3), 1, lucid.tensor([[2], [0]]), 5.0)
        tensor([[0., 0., 5.],
                [5., 0., 0.]])
    """
    target, place, index, source = _put_operands("scatter", x, axis, index, src, False)
    return apply(Scatter(place), target, index, source)


def put_along_axis(x: Operand, indices: Any, values: Any, axis: int) -> Tensor:
    """``scatter`` with NumPy's arguments, but a new tensor: ``x`` stays as it is. Values broadcast to the index.

    Example:
        >>> import lucid
        >>> lucid.put_along_axis(lucid.zeros(3), lucid.tensor([1]), 2.0, 0)
        tensor([0., 2., 0.])
    """
    x = as_tensor(x)
    index = _index("put_along_axis", x, indices)
    source = promoted("put_along_axis", x, values)[1]
    return scatter(x, axis, index, source if source.shape == index.shape else broadcast_to(source, index.shape))


def scatter_add(x: Operand, axis: int, index: Any, src: Any) -> Tensor:
    """``x`` with values added: along axis 1 of three, ``y[i, index[i, j, k], k] += src[i, j, k]``.

    Each is added in the dtype of ``x``, in row-major order of ``src``: the same bits at any number of threads.
    Arguments and errors as ``scatter``. Gradients: ``dy``, and of ``src`` ``gather(dy, axis, index)``.

    Source: ``torch.scatter_add``; ONNX operator ScatterElements.

    Example:
        >>> import lucid
        >>> lucid.scatter_add(lucid.zeros(3), 0, lucid.tensor([1, 1]), lucid.tensor([2.0, 3.0]))
        tensor([0., 5., 0.])
    """
    target, place, index, source = _put_operands("scatter_add", x, axis, index, src, False)
    return apply(ScatterAdd("scatter_add", place), target, index, source)


def index_add(x: Operand, axis: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
    """``x`` with slices added: along the first axis, ``y[index[i]] += alpha * source[i]``, in that order.

    Args:
        x: a tensor.
        axis: an axis.
        index: integers, one axis.
        source: a tensor as ``x`` is, ``axis`` of which is as long as the index; or a number.
        alpha: a factor.

    Returns:
        A copy. Gradients: ``dy``, and ``alpha`` times the slices of ``dy`` that ``index`` names.

    Raises: as ``scatter``.

    Source: ``torch.index_add``.

    Example:
        >>> import lucid
        >>> lucid.index_add(lucid.zeros(2, 2), 0, [1, 1], lucid.ones(2, 2))
        tensor([[0., 0.],
                [2., 2.]])
    """
    target, place, index, values = _put_operands("index_add", x, axis, index, source, True)
    if alpha != 1:
        values = cast_to(mul(values, alpha), target.dtype)
    return apply(ScatterAdd("index_add", place), target, index, values)
