"""In which order samples are loaded, and which of them make a batch.

Random samplers draw from ``lucid.random``: from the generator that they are given, or from the global one, which a
``DataLoader`` sets to where its epoch's order is drawn from (``ARITHMETIC.md``, section 11.1).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np

from lucid.core.dtypes import float64
from lucid.random import Generator, default_generator

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]


class Sampler:
    """An order of samples: a class of yours whose ``__iter__`` gives their indices, for every epoch anew.

    Example:
        >>> from lucid.data import DataLoader, Sampler
        >>> class Backwards(Sampler):
        ...     def __init__(self, data):
        ...         self.data = data
        ...     def __iter__(self):
        ...         return reversed(range(len(self.data)))
        ...     def __len__(self):
        ...         return len(self.data)
        >>> data = range(4)
        >>> [batch.tolist() for batch in DataLoader(data, batch_size=2, sampler=Backwards(data))]
        [[3, 2], [1, 0]]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__}: a sampler needs __iter__()")


class SequentialSampler(Sampler):
    """The samples in their own order.

    Example:
        >>> from lucid.data import SequentialSampler
        >>> list(SequentialSampler("abc"))
        [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """The samples in random order: permutations one after the other until there are enough; or drawn one by one.

    Args:
        data_source: what has the samples.
        replacement: whether a sample may come again before all others have come.
        num_samples: how many; as many as there are if None.
        generator: what is drawn from.

    Raises:
        ValueError: no samples to draw from, or ``num_samples`` below 1.

    Example:
        >>> import lucid
        >>> from lucid.data import RandomSampler
        >>> sorted(RandomSampler("abcd", generator=lucid.random.Generator(1)))
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self.num_samples = len(data_source) if num_samples is None else num_samples
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"num_samples: got {num_samples}; may be 1 or more")
        if self.num_samples and not len(data_source):
            raise ValueError("data_source: has no samples to draw from")

    def __iter__(self) -> Iterator[int]:
        generator, count = self.generator or default_generator, len(self.data_source)
        if self.replacement:
            yield from generator.randint(0, count, self.num_samples, device="cpu").tolist() if count else ()
            return
        for start in range(0, self.num_samples, count or 1):
            order = generator.permutation(count, device="cpu").tolist()
            yield from order[: self.num_samples - start]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices in random order.

    Example:
        >>> import lucid
        >>> from lucid.data import SubsetRandomSampler
        >>> sorted(SubsetRandomSampler([7, 5], lucid.random.Generator(1)))
        [5, 7]
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        order = (self.generator or default_generator).permutation(len(self.indices), device="cpu")
        return (self.indices[place] for place in order.tolist())

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """Indices drawn with the probabilities ``weights / sum(weights)``.

    With replacement each draw ``u`` is the first index at which the running sum of the weights, in float64, is above
    ``u`` times the whole. Without, the indices with the greatest ``log(u) / weight`` come, greatest first: compared as
    ``-log64(u) / weight``, which is the time of an event that comes at that rate (Efraimidis and Spirakis, 2006).

    Args:
        weights: numbers of 0 or more.
        num_samples: how many to draw.
        replacement: whether an index may come again.
        generator: what is drawn from.

    Raises:
        ValueError: a negative weight or one that is not finite, none above 0, or, without replacement, too few.

    Example:
        >>> import lucid
        >>> from lucid.data import WeightedRandomSampler
        >>> list(WeightedRandomSampler([0.0, 1.0, 0.0], 4))
        [1, 1, 1, 1]
    """

    def __init__(
        self, weights: Any, num_samples: int, replacement: bool = True, generator: Generator | None = None
    ) -> None:
        self.weights = np.asarray(weights, np.float64)
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator
        positive = int((self.weights > 0).sum())
        if self.weights.ndim != 1 or not positive or not np.isfinite(self.weights).all() or self.weights.min() < 0:
            raise ValueError("weights: must be a list of finite numbers of 0 or more, one of them above 0")
        if num_samples < 1 or not (replacement or num_samples <= positive):
            most = "" if replacement else f" to {positive}, the number of weights above 0"
            raise ValueError(f"num_samples: got {num_samples}; may be 1{most or ' or more'}")

    def __iter__(self) -> Iterator[int]:
        generator = self.generator or default_generator
        count = self.num_samples if self.replacement else len(self.weights)
        u = generator.uniform(0.0, 1.0, count, dtype=float64, device="cpu")
        if self.replacement:
            sums = np.add.accumulate(self.weights)  # one after the other
            last = int(np.flatnonzero(self.weights)[-1])
            found = np.minimum(np.searchsorted(sums, u.numpy() * sums[-1], side="right"), last)
        else:
            with np.errstate(divide="ignore"):
                times = -u.log().numpy() / self.weights
            found = np.argsort(times, kind="stable")[: self.num_samples]
        return iter(found.tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """The indices of a sampler in lists of ``batch_size``; the last may be shorter, or is dropped.

    Raises:
        ValueError: ``batch_size`` below 1.

    Example:
        >>> from lucid.data import BatchSampler
        >>> list(BatchSampler(range(5), batch_size=2, drop_last=False))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool = False) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size!r}; may be an integer of 1 or more")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[Any]]:
        indices = iter(self.sampler)
        while len(batch := list(itertools.islice(indices, self.batch_size))) == self.batch_size:
            yield batch
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        whole, left = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return whole + (left > 0 and not self.drop_last)
