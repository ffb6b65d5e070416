"""One batch loaded, by whichever process: every sample draws its own random numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lucid.data._draws import drawing_from, order_state, sample_state
from lucid.data.collating import default_collate
from lucid.data.datasets import IterableDataset, TensorDataset
from lucid.random import default_generator


class Task(NamedTuple):
    """A batch to be loaded. Of an iterable dataset, ``indices`` is the number of samples, or None for one alone."""

    token: int  # of the iteration that wants it
    number: int  # of the batch in it
    slot: int
    seed: int
    epoch: int
    indices: Any  # a list; anything else is the index of one sample that makes no batch
    batched: bool
    first: int  # how many samples of the epoch came before
    again: dict[int, int]  # by place in the batch: how often the sample has come before, where it has
    drop_last: bool = False


class End:
    """What an iterable dataset that has ended answers."""


class DroppedError(Exception):
    """Nobody wants the batch any more."""


class Fetcher:
    """Loads batches of one dataset."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self._dataset, self._collate = dataset, collate
        self._stream: Iterator[Any] | None = None
        self._token = -1

    def fetch(self, task: Task, wanted: Callable[[], bool] = lambda: True) -> Any:
        """The batch; ``End`` after the last.

        Raises:
            DroppedError: ``wanted`` said no.
            Exception: what the dataset or the collating raised, with a note of where.
        """
        if isinstance(self._dataset, IterableDataset):
            return self._next(task, wanted)
        if not task.batched:
            with drawing_from(order_state(task.seed, task.epoch)):
                return self._collate(self._sample(task, 0, task.indices))
        if type(self._dataset) is TensorDataset and self._collate is default_collate:
            with contextlib.suppress(Exception):  # below it is raised again, with the index
                return self._dataset.collated(task.indices)
        samples = []
        with drawing_from(order_state(task.seed, task.epoch)):  # and each sample from its own state
            for place, index in enumerate(task.indices):
                if not wanted():
                    raise DroppedError
                samples.append(self._sample(task, place, index))
        return self._together(samples, f"the samples {task.indices}")

    def _sample(self, task: Task, place: int, index: Any) -> Any:
        number = index if isinstance(index, int) and index >= 0 else task.first + place
        default_generator.set_state(sample_state(task.seed, task.epoch, number, task.again.get(place, 0)))
        try:
            return self._dataset[index]
        except Exception as error:
            error.add_note(f"lucid.data: raised for the sample {index!r} of the dataset")
            raise

    def _together(self, samples: list[Any], which: str) -> Any:
        try:
            return self._collate(samples)
        except Exception as error:
            error.add_note(f"lucid.data: raised when {which} were put together")
            raise

    def _next(self, task: Task, wanted: Callable[[], bool]) -> Any:
        if self._token != task.token:
            self._token = task.token
            with drawing_from(order_state(task.seed, task.epoch)):
                self._stream = iter(self._dataset)
        samples: list[Any] = []
        for place in range(task.indices if task.batched else 1):
            if not wanted():
                raise DroppedError
            try:
                with drawing_from(sample_state(task.seed, task.epoch, task.first + place)):
                    samples.append(next(self._stream))  # type: ignore[arg-type]
            except StopIteration:
                break
            except Exception as error:
                error.add_note(f"lucid.data: raised for the sample {task.first + place} of the stream")
                raise
        if not samples or (task.drop_last and len(samples) < task.indices):
            return End()
        if not task.batched:
            return self._collate(samples[0])
        return self._together(samples, f"the samples from {task.first} of the stream")
