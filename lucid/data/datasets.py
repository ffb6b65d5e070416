"""What is loaded from: samples that are found by an index, or that come one after the other."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from lucid.core.tensor import Tensor, as_tensor
from lucid.random import Generator, default_generator

__all__ = ["ConcatDataset", "Dataset", "IterableDataset", "Subset", "TensorDataset", "random_split"]

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples that are found by an index: a class of yours that has ``__getitem__`` and ``__len__``.

    Random numbers that ``__getitem__`` takes from ``lucid.random``, and those of ``lucid.transforms``, are the sample's
    own in a ``DataLoader``: the same, whichever worker loads it. Those of ``random`` and ``numpy.random`` are not.

    Example:
        >>> from lucid.data import Dataset
        >>> class Squares(Dataset):
        ...     def __getitem__(self, index):
        ...         return index**2
        ...     def __len__(self):
        ...         return 4
        >>> (Squares() + Squares())[5]
        1
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__}: a dataset needs __getitem__(index)")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__}: a dataset needs __len__()")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples that come one after the other: a class of yours that has ``__iter__``.

    A stream has one order, so a ``DataLoader`` gives it to one worker, however many it has.

    Example:
        >>> from lucid.data import DataLoader, IterableDataset
        >>> class Count(IterableDataset):
        ...     def __iter__(self):
        ...         return iter(range(5))
        >>> [batch.tolist() for batch in DataLoader(Count(), batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__}: an iterable dataset needs __iter__()")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__}: an iterable dataset has no length")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample ``i`` is ``(x[i], y[i], ..)`` of tensors or arrays ``x, y, ..`` of the same length.

    Raises:
        ValueError: there are none, or their first axes differ.

    Example:
        >>> import lucid
        >>> from lucid.data import TensorDataset
        >>> data = TensorDataset(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), lucid.tensor([7, 8]))
        >>> len(data), data[1]
        (2, (tensor([3., 4.]), tensor(8)))
    """

    def __init__(self, *tensors: Tensor | np.ndarray[Any, Any]) -> None:
        self.tensors = tuple(x if isinstance(x, Tensor) else as_tensor(x, device="cpu") for x in tensors)
        shapes = [tensor.shape for tensor in self.tensors]
        if not shapes or () in shapes or len({shape[0] for shape in shapes}) != 1:
            raise ValueError(f"tensors: got shapes {shapes}; must be one or more that have the same length")

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def collated(self, indices: Sequence[int]) -> list[Tensor]:
        """What ``default_collate`` makes of the samples ``indices``, in one step."""
        return [tensor[np.asarray(indices, np.int64)] for tensor in self.tensors]


class ConcatDataset(Dataset[T_co]):
    """The samples of several datasets, one dataset after the other.

    Raises:
        ValueError: there are none.
        TypeError: one of them has no length.

    Example:
        >>> import lucid
        >>> from lucid.data import ConcatDataset
        >>> data = ConcatDataset([range(3), range(10, 12)])
        >>> len(data), data[3], data[-1]
        (5, 10, 11)
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("datasets: got none; must be one or more")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> T_co:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"index: got {index}; may be {-len(self)} to {len(self) - 1}")
        which = bisect.bisect_right(self.cumulative_sizes, at)
        found: T_co = self.datasets[which][at - (self.cumulative_sizes[which - 1] if which else 0)]
        return found

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class Subset(Dataset[T_co]):
    """The samples ``dataset[indices[0]], dataset[indices[1]], ..``.

    Example:
        >>> from lucid.data import Subset
        >>> list(Subset("abcde", [4, 0]))
        ['e', 'a']
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: int) -> T_co:
        found: T_co = self.dataset[self.indices[index]]
        return found

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset[Any]]:
    """The dataset in parts that share no sample, drawn at random.

    Args:
        dataset: what is split.
        lengths: the parts' lengths, which add up to the dataset's; or their shares, which add up to 1: each part has
            ``floor(share * length)`` samples, and what is left goes to the parts one by one, from the first.
        generator: what is drawn from; ``lucid.random``'s global one if None.

    Raises:
        ValueError: they do not add up, or one is negative.

    Example:
        >>> import lucid
        >>> from lucid.data import random_split
        >>> train, test = random_split(range(10), [0.8, 0.2], lucid.random.Generator(0))
        >>> len(train), len(test), sorted([*train, *test]) == list(range(10))
        (8, 2, True)
    """
    total = len(dataset)
    counts: list[Any] = list(lengths)
    if math.isclose(sum(lengths), 1) and all(0 <= share <= 1 for share in lengths):
        counts = [math.floor(total * share) for share in lengths]
        for part in range(total - sum(counts)):
            counts[part % len(counts)] += 1
    if sum(counts) != total or min(counts, default=0) < 0 or any(count != int(count) for count in counts):
        raise ValueError(f"lengths: got {list(lengths)}; must add up to {total}, the dataset's length, or to 1")
    order = (generator or default_generator).permutation(total, device="cpu").tolist()
    ends = list(itertools.accumulate(map(int, counts)))
    return [Subset(dataset, order[end - int(count) : end]) for end, count in zip(ends, counts, strict=True)]
