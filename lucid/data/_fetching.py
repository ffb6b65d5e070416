"""One batch loaded, by whichever process: every sample draws its own random numbers."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lucid.data._draws import batch_state, drawing_from, order_state, sample_state
from lucid.data.collating import default_collate
from lucid.data.datasets import IterableDataset, TensorDataset
from lucid.random import default_generator


class Task(NamedTuple):
    """A batch to be loaded. Of an iterable dataset, ``indices`` is the number of samples, or None for one alone."""

    token: int  # of the iteration that wants it
    number: int  # of the batch in it
    seed: int
    epoch: int
    indices: Any  # a list; anything else is the index of one sample that makes no batch
    batched: bool
    first: int  # how many samples of the epoch came before
    again: dict[int, int]  # by place in the batch: how often the sample has come before, where it has
    drop_last: bool = False
    freed: tuple[int, ...] = ()  # slots of memory that the worker may write again


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
                sample = self._sample(task, 0, task.indices)
            return self._together(task, sample, f"the sample {task.indices!r}")
        if type(self._dataset) is TensorDataset and self._collate is default_collate:
            with contextlib.suppress(Exception):  # below it is raised again, with the index
                return self._dataset.collated(task.indices)
        samples = []
        with drawing_from(order_state(task.seed, task.epoch)):  # and each sample from its own state
            for place, index in enumerate(task.indices):
                if not wanted():
                    raise DroppedError
                samples.append(self._sample(task, place, index))
        return self._together(task, samples, f"the samples {task.indices}")

    def _sample(self, task: Task, place: int, index: Any) -> Any:
        try:
            number = operator.index(index)  # of NumPy's integers, too
        except TypeError:
            number = -1
        if number < 0:
            number = task.first + place
        default_generator.set_state(sample_state(task.seed, task.epoch, number, task.again.get(place, 0)))
        try:
            return self._dataset[index]
        except StopIteration as error:  # left alone it would end the epoch, and nobody would know
            raise RuntimeError(f"dataset: raised StopIteration for the sample {index!r}") from error
        except Exception as error:
            error.add_note(f"lucid.data: raised for the sample {index!r} of the dataset")
            raise

    def _together(self, task: Task, samples: Any, which: str) -> Any:
        try:
            with drawing_from(batch_state(task.seed, task.epoch, task.number)):
                return self._collate(samples)
        except StopIteration as error:
            raise RuntimeError(f"collate_fn: raised StopIteration for {which}") from error
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
        given = samples if task.batched else samples[0]
        return self._together(task, given, f"the samples from {task.first} of the stream")
