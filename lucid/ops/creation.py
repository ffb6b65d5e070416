"""New tensors from shapes and numbers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.backends import backend_for
from lucid.core.device import check_device, move
from lucid.core.dtypes import as_dtype, get_default_dtype
from lucid.core.tensor import Tensor, as_tensor, wrap

__all__ = [
    "arange",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def _make(name: str, device: str | None, shape: tuple[int, ...], *rest: Any) -> tuple[Any, str]:
    """What the array library's function of that name makes on ``device``, and the device."""
    where = check_device(device)
    return getattr(backend_for(where).xp, name)(shape, *rest), where


def _bring(array: Any, device: str | None) -> tuple[Any, str]:
    """Numbers that NumPy has worked out, so that they have the same bits everywhere, on ``device``."""
    where = check_device(device)
    return move(array, where), where


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The lengths in ``zeros(2, 3)`` and in ``zeros((2, 3))`` alike."""
    if len(shape) == 1 and isinstance(shape[0], Sequence):
        shape = tuple(shape[0])
    lengths = tuple(map(operator.index, shape))
    if min(lengths, default=0) < 0:
        raise ValueError(f"shape: got {lengths}; lengths may be 0 or more")
    return lengths


def _finish(made: tuple[Any, str], requires_grad: bool, keep_grad: bool = False) -> Tensor:
    out = wrap(*made)
    if requires_grad:
        out.requires_grad = True
    if keep_grad:
        out.keep_grad = True
    return out


def zeros(
    *shape: Any, dtype: Any = None, requires_grad: bool = False, keep_grad: bool = False, device: str | None = None
) -> Tensor:
    """Zeros.

    Args:
        shape: lengths, as numbers or as one tuple.
        dtype: the default dtype if None.
        requires_grad: whether gradients are wanted.
        keep_grad: as in ``Tensor``.
        device: where it lies; the default device if None.

    Raises:
        ValueError: a negative length, or an unknown device.
        RuntimeError: a device that nothing serves here.

    Example:
        >>> import lucid
        >>> lucid.zeros(2, 2)
        tensor([[0., 0.],
                [0., 0.]])
    """
    made = _make("zeros", device, _shape(shape), as_dtype(dtype or get_default_dtype()))
    return _finish(made, requires_grad, keep_grad)


def ones(
    *shape: Any, dtype: Any = None, requires_grad: bool = False, keep_grad: bool = False, device: str | None = None
) -> Tensor:
    """Ones. Arguments and errors as ``zeros``.

    Example:
        >>> import lucid
        >>> lucid.ones(3)
        tensor([1., 1., 1.])
    """
    made = _make("ones", device, _shape(shape), as_dtype(dtype or get_default_dtype()))
    return _finish(made, requires_grad, keep_grad)


def empty(
    *shape: Any, dtype: Any = None, requires_grad: bool = False, keep_grad: bool = False, device: str | None = None
) -> Tensor:
    """A tensor whose values are left as the memory was. Arguments and errors as ``zeros``.

    Example:
        >>> import lucid
        >>> lucid.empty(2, 3).shape
        (2, 3)
    """
    made = _make("empty", device, _shape(shape), as_dtype(dtype or get_default_dtype()))
    return _finish(made, requires_grad, keep_grad)


def full(
    shape: int | Sequence[int],
    fill_value: float,
    dtype: Any = None,
    requires_grad: bool = False,
    keep_grad: bool = False,
    device: str | None = None,
) -> Tensor:
    """``fill_value`` everywhere; without a dtype, that of ``lucid.tensor(fill_value)``. Otherwise as ``zeros``.

    Example:
        >>> import lucid
        >>> lucid.full((2,), 0.5), lucid.full(2, 7)
        (tensor([0.5, 0.5]), tensor([7, 7]))
    """
    chosen = as_dtype(dtype) if dtype is not None else as_tensor(fill_value, device="cpu").dtype
    lengths = _shape(tuple(shape) if isinstance(shape, Sequence) else (shape,))
    where = check_device(device)
    return _finish((backend_for(where).full(lengths, fill_value, chosen), where), requires_grad, keep_grad)


def eye(
    rows: int,
    columns: int | None = None,
    k: int = 0,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    device: str | None = None,
) -> Tensor:
    """Ones on a diagonal of a matrix, zeros elsewhere; square if ``columns`` is None.

    Args:
        rows: how many.
        columns: how many; None: as many.
        k: the diagonal, so far above the main one; below 0, below it.
        dtype: the default dtype if None.
        requires_grad: whether gradients are wanted.
        device: where it lies; the default device if None.

    Raises:
        TypeError: ``k`` is no whole number (a dtype is given by its name).

    Example:
        >>> import lucid
        >>> lucid.eye(2)
        tensor([[1., 0.],
                [0., 1.]])
    """
    if not isinstance(k, int | np.integer):
        raise TypeError(f"k: got {k!r}; must be the number of a diagonal (write dtype=... for a dtype)")
    height, width = _shape((rows, rows if columns is None else columns))
    array = np.eye(height, width, int(k), dtype=as_dtype(dtype or get_default_dtype()))
    return _finish(_bring(array, device), requires_grad)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: Any = None,
    requires_grad: bool = False,
    device: str | None = None,
) -> Tensor:
    """The numbers from ``start`` (0 if only one is given), by ``step``, that stand before ``stop``.

    Without a dtype: int64 if all three are integers, else the default dtype. Computed in float64 (integers exactly) and
    rounded once.

    Raises:
        ValueError: ``step`` is 0.

    Example:
        >>> import lucid
        >>> lucid.arange(3), lucid.arange(0, 1, 0.25)
        (tensor([0, 1, 2]), tensor([0.  , 0.25, 0.5 , 0.75]))
    """
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise ValueError("step: got 0; may be any other number")
    whole = all(isinstance(n, int) for n in (start, stop, step))
    chosen = as_dtype(dtype) if dtype is not None else as_dtype("int64") if whole else get_default_dtype()
    return _finish(_bring(np.arange(start, stop, step).astype(chosen), device), requires_grad)


def linspace(
    start: float, stop: float, num: int = 50, dtype: Any = None, requires_grad: bool = False, device: str | None = None
) -> Tensor:
    """``num`` numbers at even distances from ``start`` to ``stop``, both included. Computed in float64, rounded once.

    Raises:
        ValueError: ``num`` is negative.

    Example:
        >>> import lucid
        >>> lucid.linspace(0, 1, 5)
        tensor([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    if num < 0:
        raise ValueError(f"num: got {num}; may be 0 or more")
    array = np.linspace(start, stop, num).astype(as_dtype(dtype or get_default_dtype()))
    return _finish(_bring(array, device), requires_grad)


def zeros_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape, device and (without ``dtype``) dtype of ``x``.

    Example:
        >>> import lucid
        >>> lucid.zeros_like(lucid.ones(2))
        tensor([0., 0.])
    """
    x = as_tensor(x)
    return zeros(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad, device=x.device)


def ones_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape, device and (without ``dtype``) dtype of ``x``.

    Example:
        >>> import lucid
        >>> lucid.ones_like(lucid.zeros(2))
        tensor([1., 1.])
    """
    x = as_tensor(x)
    return ones(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad, device=x.device)


def empty_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the shape, device and (without ``dtype``) dtype of ``x``, whose values are left as the memory was.

    Example:
        >>> import lucid
        >>> lucid.empty_like(lucid.zeros(2)).shape
        (2,)
    """
    x = as_tensor(x)
    return empty(x.shape, dtype=dtype or x.dtype, requires_grad=requires_grad, device=x.device)


def full_like(x: Any, fill_value: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """``fill_value`` in the shape, device and (without ``dtype``) dtype of ``x``.

    Example:
        >>> import lucid
        >>> lucid.full_like(lucid.zeros(2), 3)
        tensor([3., 3.])
    """
    x = as_tensor(x)
    return full(x.shape, fill_value, dtype or x.dtype, requires_grad, device=x.device)
