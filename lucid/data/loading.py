"""The data loader: batches in order, from this process or from workers, always the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lucid.data._draws import drawing_from, order_state
from lucid.data._fetching import End, Fetcher, Task
from lucid.data._workers import Pool
from lucid.data.collating import default_collate, default_convert
from lucid.data.datasets import IterableDataset
from lucid.data.samplers import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler
from lucid.random import Generator, default_generator

__all__ = ["DataLoader"]

_WITHOUT_REPEATS = (SequentialSampler, SubsetRandomSampler)


class DataLoader:
    """The batches of a dataset, epoch after epoch.

    The order of an epoch depends on the seed and the epoch's number, and the random numbers of a sample on these and
    the sample's index (``ARITHMETIC.md``, section 11.1), so every batch has the same bits with any number of workers,
    on every machine.

    Args:
        dataset: what has ``dataset[index]`` and ``len(dataset)``, or an ``IterableDataset``.
        batch_size: samples in a batch; None returns samples alone, whose arrays have become tensors.
        shuffle: whether each epoch has an order of its own.
        sampler: gives the order instead; any iterable of indices that can be gone through once an epoch.
        batch_sampler: gives lists of indices, instead of ``batch_size``, ``shuffle``, ``sampler`` and ``drop_last``.
        num_workers: processes that load; 0 loads when a batch is asked for.
        collate_fn: makes a batch of a list of samples; ``default_collate`` if None. What it draws from ``lucid.random``
            depends on the seed, the epoch and the batch's number.
        drop_last: whether a last batch with fewer samples is left out.
        timeout: seconds that a batch of a worker may take; 0 is any time.
        worker_init_fn: called with the worker's number when it starts.
        multiprocessing_context: how workers start: ``"fork"``, ``"forkserver"``, ``"spawn"``, or a context of
            ``multiprocessing``. None is ``"fork"`` on Linux in a process that runs one Python thread and has used no
            GPU, else ``"forkserver"`` where the system has it. All but ``"fork"`` need datasets and functions that can
            be pickled, and in a script ``if __name__ == "__main__":``.
        generator: what the seed is drawn from, now; ``lucid.random``'s global one if None.
        prefetch_factor: batches that each worker may have ready; 2 if None.
        persistent_workers: whether the workers stay for the next epoch.
        seed: the seed itself, instead of ``generator``.

    ``epoch`` is the number of the epoch that the next iteration begins with; it may be set. ``state_dict`` says where
    the iteration is, and a loader that is given it by ``load_state_dict`` goes on from the next batch.

    Raises:
        TypeError, ValueError: arguments of another type or value, or that exclude each other.
        RuntimeError: while iterating: a worker died, or took longer than ``timeout``.

    An error of the dataset or of ``collate_fn`` is raised here, with a note of the sample and, as its cause, the
    worker's traceback. After a ``break``, an error or an interrupt no worker is left, unless they are persistent.

    Example:
        >>> import lucid
        >>> from lucid.data import DataLoader
        >>> loader = DataLoader(range(5), batch_size=2, shuffle=True, seed=1)
        >>> len(loader), sorted(x for batch in loader for x in batch.tolist())
        (3, [0, 1, 2, 3, 4])
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        *,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        seed: int | None = None,
    ) -> None:
        self.dataset, self.num_workers, self.timeout = dataset, _count("num_workers", num_workers, 0), timeout
        self.drop_last, self.worker_init_fn = drop_last, worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self._choose_order(batch_size, shuffle, sampler, batch_sampler)
        if (prefetch_factor is not None or persistent_workers or timeout) and not num_workers:
            raise ValueError("prefetch_factor, persistent_workers, timeout: need num_workers of 1 or more")
        if timeout < 0:
            raise ValueError(f"timeout: got {timeout}; may be 0 or more seconds")
        self.prefetch_factor = 2 if prefetch_factor is None else _count("prefetch_factor", prefetch_factor, 1)
        self.persistent_workers = persistent_workers
        self.collate_fn = collate_fn or (default_collate if self._batched else default_convert)
        if seed is not None and generator is not None:
            raise ValueError("seed, generator: got both; give one")
        if seed is None:
            seed = int((generator or default_generator).randint(0, 1 << 32, (), device="cpu").item())
        self.seed, self.epoch = seed, 0
        self._pool: Pool | None = None
        self._position = (0, 0)  # the epoch and its batch that come next, for `state_dict`
        self._skip = 0

    def _choose_order(
        self, batch_size: int | None, shuffle: bool, sampler: Iterable[Any] | None, batches: Iterable[Any] | None
    ) -> None:
        if batches is not None and (batch_size not in (1, None) or shuffle or sampler is not None or self.drop_last):
            raise ValueError("batch_sampler: excludes batch_size, shuffle, sampler and drop_last")
        if sampler is not None and shuffle:
            raise ValueError("sampler: excludes shuffle")
        if batch_size is None and batches is None and self.drop_last:
            raise ValueError("drop_last: needs a batch_size")
        streams = isinstance(self.dataset, IterableDataset)
        if streams and (shuffle or sampler is not None or batches is not None):
            raise ValueError("dataset: an iterable one has its own order: no shuffle, sampler or batch_sampler")
        if batch_size is not None:
            _count("batch_size", batch_size, 1)
        if not streams and sampler is None:
            sampler = (RandomSampler if shuffle else SequentialSampler)(self.dataset)
        self._streams, self._batched = streams, batches is not None or batch_size is not None
        self.batch_size = None if batches is not None else batch_size
        self.sampler: Any = sampler
        if batches is None and batch_size is not None and not streams:
            batches = BatchSampler(sampler, batch_size, self.drop_last)  # type: ignore[arg-type]
        self.batch_sampler: Any = batches
        alone = isinstance(sampler, _WITHOUT_REPEATS) or (type(sampler) is RandomSampler and not sampler.replacement)
        self._may_repeat = not (alone and isinstance(batches, BatchSampler | None))

    def __len__(self) -> int:
        if not self._streams:
            return len(self.batch_sampler if self._batched else self.sampler)
        samples = len(self.dataset)
        return samples // (self.batch_size or 1) if self.drop_last else -(-samples // (self.batch_size or 1))

    def __iter__(self) -> Iterator[Any]:
        return _Iteration(self)

    def state_dict(self) -> dict[str, int]:
        """``seed``, ``epoch`` and ``batches``: where the iteration that began last is."""
        return {"seed": self.seed, "epoch": self._position[0], "batches": self._position[1]}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next iteration go on from where ``state_dict`` said.

        The batches before are not loaded, unless the dataset is iterable. A sampler with a generator of its own has
        to be put where it was when the epoch began.

        Raises:
            ValueError: ``state`` lacks an entry, or has another.
        """
        if set(state) != {"seed", "epoch", "batches"}:
            raise ValueError(f"state: got the entries {sorted(state)}; must be batches, epoch, seed")
        self.seed, self.epoch, self._skip = state["seed"], state["epoch"], state["batches"]
        self._position = self.epoch, self._skip

    def _workers(self) -> Pool:
        """The workers, started unless they are there."""
        if self._pool is None:
            pool = Pool(
                self.dataset, self.collate_fn, self.worker_init_fn, 1 if self._streams else self.num_workers,
                self.multiprocessing_context,
            )  # fmt: skip
            if not self.persistent_workers:
                return pool
            self._pool = pool
        return self._pool


class _Iteration:
    """One epoch."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader, self._epoch = loader, loader.epoch
        skip, loader._skip = loader._skip, 0
        loader.epoch += 1
        loader._position = self._epoch, skip
        self._length = _length(loader)
        self._given = 0  # batches that were returned, or skipped
        self._asked = 0
        self._samples = 0  # that are in the batches asked for
        self._came: dict[Any, int] = {}  # how often each sample has come
        self._ended = False
        self._order_state = order_state(loader.seed, self._epoch)
        self._order: Iterator[Any] | None = None
        self._fetcher = Fetcher(loader.dataset, loader.collate_fn) if not loader.num_workers else None
        self._pool: Pool | None = None
        self._token = id(self) if self._fetcher else 0
        while not loader._streams and self._given < skip and self._take() is not None:
            self._given += 1  # the order goes on, and nothing is loaded
        self._asked = self._given
        if loader.num_workers:
            self._pool = loader._workers()
            self._token = self._pool.begin()
            self._ask()
        for _ in range(skip if loader._streams else 0):
            self._next()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        try:
            batch = self._next()
        except BaseException:
            self._end(broken=True)
            raise
        if isinstance(batch, End):
            self._end()
            self._set_position(self._epoch + 1, 0)
            raise StopIteration
        self._set_position(*((self._epoch + 1, 0) if self._given == self._length else (self._epoch, self._given)))
        return batch

    def _next(self) -> Any:
        if self._fetcher:
            task = self._take()
            batch = End() if task is None else self._fetcher.fetch(task)
        else:
            assert self._pool is not None
            if self._pool.token != self._token:
                raise RuntimeError("DataLoader: another iteration has taken the persistent workers")
            if self._given == self._asked:
                return End()
            batch = self._pool.receive(self._given % len(self._pool), self._token, self._loader.timeout)
        self._given += 1
        self._ask()
        return batch

    def _set_position(self, epoch: int, batches: int) -> None:
        if self._loader.epoch == self._epoch + 1:  # unless another iteration has begun
            self._loader._position = epoch, batches

    def _ask(self) -> None:
        """Ask for as many batches as may be ready."""
        while self._pool and self._asked < self._given + len(self._pool) * self._loader.prefetch_factor:
            worker = self._asked % len(self._pool)
            task = self._take()
            if task is None:
                return
            self._pool.submit(worker, task)
            self._asked += 1

    def _take(self) -> Task | None:
        """The next batch of the epoch, as a task; None after the last."""
        loader, number = self._loader, self._asked if self._pool else self._given
        if loader._streams:
            indices: Any = loader.batch_size
        else:
            with drawing_from(self._order_state):
                if self._order is None:
                    self._order = iter(loader.batch_sampler if loader._batched else loader.sampler)
                try:
                    indices = next(self._order)
                except StopIteration:
                    return None
                finally:
                    self._order_state = default_generator.get_state()
            if loader._batched and not isinstance(indices, list):
                indices = list(indices)
        again = self._again(indices) if loader._may_repeat and not loader._streams else {}
        first = self._samples
        self._samples += (indices if loader._streams else len(indices)) if loader._batched else 1
        return Task(
            self._token, number, loader.seed, self._epoch, indices, loader._batched, first, again,
            loader.drop_last,
        )  # fmt: skip

    def _again(self, indices: Any) -> dict[int, int]:
        again = {}
        for place, index in enumerate(indices if self._loader._batched else [indices]):
            times = self._came.get(index, 0)
            self._came[index] = times + 1
            if times:
                again[place] = times
        return again

    def _end(self, broken: bool = False) -> None:
        """Let the workers go; those that are persistent stay, unless they are broken."""
        self._ended = True
        pool, self._pool = self._pool, None
        if pool is not None and (broken or pool is not self._loader._pool):
            pool.close()
            if pool is self._loader._pool:
                self._loader._pool = None
        self._order = self._fetcher = None

    def __del__(self) -> None:
        if getattr(self, "_ended", True) is False:
            self._end()


def _length(loader: DataLoader) -> int | None:
    """How many batches an epoch has, if that is known."""
    try:
        return len(loader)
    except TypeError:
        return None


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: got {value!r}; may be an integer of {least} or more")
    return value
