"""Rows of a table, by number (``ARITHMETIC.md``, section 12 for the gradient)."""

from __future__ import annotations

from typing import Any

from lucid.backends import Backend
from lucid.core.device import refuse_where
from lucid.core.dtypes import int64
from lucid.core.tensor import Tensor
from lucid.ops._common import beside
from lucid.ops._function import Function, apply

__all__ = ["embedding"]


class Embedding(Function):
    name = "embedding"
    any_dtype_inputs = (0,)
    params = ("padding_idx",)

    def __init__(self, padding_idx: int | None) -> None:
        self.padding_idx = padding_idx

    def forward(self, be: Backend, index: Any, weight: Any) -> Any:
        rows = weight.shape[0]

        def error(place: int, value: float) -> Exception:
            return IndexError(f"embedding: got the number {int(value)} at position {place}; may be 0 to {rows - 1}")

        if be.name != "shapes":  # which has no values
            flat = index.reshape(-1)
            bad = (flat < 0) | (flat >= rows)
            refuse_where(be, bad, flat, error)
            if be.asynchronous and rows:
                index = be.xp.where(bad, 0, flat).reshape(index.shape)
        self.saved = (index, weight.shape)
        return be.xp.take(weight, index, axis=0)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        index, shape = self.saved  # type: ignore[misc]
        if self.padding_idx is not None:
            left_out = (index == self.padding_idx)[..., None]
            dy = be.xp.where(left_out, be.number(0.0, dy.dtype), dy)
        return None, be.index_add(shape, (index,), dy)


def embedding(input: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """The rows of ``weight`` whose numbers are ``input``.

    Args:
        input: integers of any shape, from 0 to the number of rows less one.
        weight: ``(rows, width)``.
        padding_idx: a row that gets no gradient; a negative one counts from the end.

    Returns:
        ``(*input.shape, width)``. Gradient: ``dy`` added at ``input`` to zeros, in order.

    Raises:
        IndexError: a number that is no row's. For numbers on a GPU it comes when a value is next read from there.
        ValueError: a weight of another rank, a ``padding_idx`` that is no row.
        TypeError: an input that is no integers, a weight that is no floats.

    Source: ONNX operator Gather.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.embedding(lucid.tensor([1, 0, 1]), lucid.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[3., 4.],
                [1., 2.],
                [3., 4.]])
    """
    index = beside(input, weight)
    if index.dtype.kind not in "iu":
        raise TypeError(f"embedding: input is a {index.dtype} tensor; must be integers")
    if weight.dtype.kind != "f":
        raise TypeError(f"embedding: weight is a {weight.dtype} tensor; may be float32 or float64")
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight has shape {weight.shape}; must be (rows, width)")
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise ValueError(f"padding_idx: got {padding_idx}; may be {-rows} to {rows - 1}")
        padding_idx %= rows
    return apply(Embedding(padding_idx), index if index.dtype == int64 else index.astype(int64), weight)
