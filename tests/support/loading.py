"""Datasets that worker processes can import."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import lucid
from lucid.data import Dataset, IterableDataset


class Noisy(Dataset):
    """Sample ``i`` is ``i`` and random numbers, as an array that is small or large, with parts of every kind."""

    def __init__(self, length: int, size: int = 5) -> None:
        self.length, self.size = length, size

    def __getitem__(self, index: int) -> Any:
        noise = lucid.random.uniform(0.0, 1.0, self.size) + float(index)
        return {"noise": noise, "index": index, "name": f"sample {index}", "pair": (np.float64(index), noise.numpy())}

    def __len__(self) -> int:
        return self.length


class Failing(Noisy):
    """One sample raises."""

    def __init__(self, length: int, bad: int, how: str) -> None:
        super().__init__(length)
        self.bad, self.how = bad, how

    def __getitem__(self, index: int) -> Any:
        if index == self.bad:
            if self.how == "raise":
                raise KeyError("no such file")
            if self.how == "local":

                class Local(Exception):  # noqa: N818 (cannot be pickled)
                    pass

                raise Local("only here")
            if self.how == "exit":
                os._exit(3)
            time.sleep(60)
        return super().__getitem__(index)


class Stream(IterableDataset):
    """Numbers one after the other, with noise."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Any]:
        for index in range(self.length):
            yield index + lucid.random.rand(2)


def unlike(worker: int) -> None:
    """A start of workers that leaves their own random numbers and threads in different states."""
    lucid.manual_seed(1000 + worker)
    lucid.set_num_threads(1 + worker % 2)


def refuse(worker: int) -> None:
    """A start that fails."""
    raise OSError(f"worker {worker} does not start")


def pairs(samples: list[Any]) -> list[int]:
    """A collate function of the user."""
    return [sample["index"] for sample in samples]


def bits(value: Any) -> Any:
    """A batch as what can be compared exactly, with its dtypes and shapes."""
    if isinstance(value, lucid.Tensor):
        return str(value.dtype), value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    return [bits(part) for part in value] if isinstance(value, list) else value


def children() -> list[int]:
    """The processes that this one started and that live."""
    return [process.pid or 0 for process in multiprocessing.active_children()]
