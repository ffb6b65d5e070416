"""Tensors that a module owns: parameters, which are trained, and buffers, which are only kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.core.tensor import Tensor, as_tensor, wrap
from lucid.ops.creation import empty

__all__ = ["Buffer", "Parameter", "empty_weight"]


class Parameter(Tensor):
    """A tensor that a module trains. It shares memory with ``data`` where that is a tensor or an array already.

    Args:
        data: a tensor, an array or nested lists.
        requires_grad: whether it is trained.
        dtype: None keeps that of an array.
        device: where it lies; None keeps that of a tensor, and is the default device for other data.

    Raises:
        TypeError: the second argument is no boolean; of the original it is the dtype.

    Example:
        >>> import lucid
        >>> lucid.nn.Parameter([1.0, 2.0])
        Parameter([1., 2.], requires_grad=True)
    """

    _repr_name = "Parameter"

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None, device: str | None = None) -> None:
        _check_flag("requires_grad", requires_grad)
        source = as_tensor(data, dtype=dtype, device=device)
        self._array = source._array
        if source.device != "cpu":
            self.device = source.device
        self._version = source._version_cell()
        if requires_grad:
            self.requires_grad = True


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not trained, such as a running mean.

    Args:
        data: a tensor, an array or nested lists; memory is shared where it is a tensor or an array.
        persistent: whether it is part of ``state_dict``.
        dtype: None keeps that of an array.
        device: where it lies; None keeps that of a tensor, and is the default device for other data.

    Raises:
        TypeError: the second argument is no boolean; of the original it is the dtype.

    Example:
        >>> import lucid
        >>> lucid.nn.Buffer([1.0, 2.0])
        Buffer([1., 2.])
    """

    _repr_name = "Buffer"
    persistent: bool = True

    def __init__(self, data: Any, persistent: bool = True, dtype: Any = None, device: str | None = None) -> None:
        _check_flag("persistent", persistent)
        source = as_tensor(data, dtype=dtype, device=device)
        self._array = source._array
        if source.device != "cpu":
            self.device = source.device
        self._version = source._version_cell()
        self.persistent = persistent


def _check_flag(name: str, value: Any) -> None:
    """Raise TypeError for a dtype or a device where PyTorch has a flag: the original has its dtype second."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: got {value!r}; must be True or False (write dtype=... for a dtype)")


def empty_weight(*shape: int, dtype: Any = None, device: str | None = None) -> Parameter:
    """A parameter of shape ``(O, I, ...)`` for a contraction, whose values are left as the memory was.

    It is stored in the order in which kernels read it, ``(..., I, O)`` with the output channel fastest, so that no
    kernel has to copy it first. Only the memory order differs from another parameter's.
    """
    stored = empty(*shape[2:], shape[1], shape[0], dtype=dtype, device=device)
    kernel_axes = range(len(shape) - 2)
    shaped = stored._array.transpose(len(shape) - 1, len(shape) - 2, *kernel_axes)
    return Parameter(wrap(shaped, stored.device))
