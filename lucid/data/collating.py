"""Samples put together into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lucid.core.dtypes import as_dtype
from lucid.core.tensor import Tensor, as_tensor, wrap
from lucid.ops.shape import stack

__all__ = ["default_collate", "default_convert"]


def default_collate(batch: Sequence[Any]) -> Any:
    """The samples of a batch as tensors with a new first axis.

    Tensors, arrays and numbers become one tensor (integers int64, floats float64, as in PyTorch); dicts a dict of
    batches; tuples and lists a list of batches, named tuples one of their kind; text and bytes stay a list.

    Raises:
        TypeError: samples of another type, or of different ones.
        ValueError: samples of different shapes or lengths.

    Example:
        >>> import lucid
        >>> from lucid.data import default_collate
        >>> default_collate([{"x": lucid.zeros(2), "name": "a"}, {"x": lucid.ones(2), "name": "b"}])
        {'x': tensor([[0., 0.],
                [1., 1.]]), 'name': ['a', 'b']}
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return _stacked_tensors(batch)
    if isinstance(first, np.ndarray | np.generic | int | float):
        return _stacked(batch)
    if isinstance(first, str | bytes):
        return list(batch)
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, Sequence):
        if len({len(sample) for sample in batch}) != 1:
            raise ValueError(f"batch: got samples with {sorted({len(s) for s in batch})} parts; must be alike")
        parts = [default_collate(part) for part in zip(*batch, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    raise TypeError(
        f"batch: got samples of {type(first).__name__}; may be tensors, arrays, numbers, text, dicts or sequences of "
        "them; for others, give the DataLoader a collate_fn"
    )


def _stacked_tensors(batch: Sequence[Any]) -> Tensor:
    if not all(isinstance(sample, Tensor) for sample in batch):
        raise TypeError(f"batch: got samples of {_kinds(batch)}; must be alike")
    if any(sample.requires_grad or sample.device != "cpu" for sample in batch):
        return stack(list(batch))
    return _stacked([sample._array for sample in batch])


def _stacked(batch: Sequence[Any]) -> Tensor:
    arrays = [np.asarray(sample) for sample in batch]
    first = arrays[0]
    for array in arrays:
        if array.shape != first.shape:
            raise ValueError(f"batch: got samples of shapes {first.shape} and {array.shape}; must be alike")
        if array.dtype != first.dtype:
            raise TypeError(f"batch: got samples of {first.dtype} and {array.dtype}; must be alike")
    out = np.empty((len(arrays), *first.shape), as_dtype(first.dtype))
    for place, array in enumerate(arrays) if first.ndim else ():
        out[place] = array
    if not first.ndim:
        out[:] = arrays
    return wrap(out)


def _kinds(batch: Sequence[Any]) -> str:
    return " and ".join(sorted({type(sample).__name__ for sample in batch}))


def default_convert(sample: Any) -> Any:
    """One sample whose arrays have become tensors: what a ``DataLoader`` without batches returns.

    Example:
        >>> import numpy as np
        >>> from lucid.data.collating import default_convert
        >>> default_convert((np.zeros(2), "a"))
        [tensor([0., 0.], dtype=float64), 'a']
    """
    if isinstance(sample, np.ndarray | np.generic):
        return as_tensor(sample, device="cpu")
    if isinstance(sample, Mapping):
        return {key: default_convert(value) for key, value in sample.items()}
    if isinstance(sample, tuple | list):
        parts = [default_convert(part) for part in sample]
        return type(sample)(*parts) if hasattr(sample, "_fields") else parts
    return sample
