"""What collate functions and samples draw, whoever makes the batch; and what may not end an epoch unseen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import random
from lucid.data import DataLoader, IterableDataset, default_collate
from lucid.random import Generator

START = 2**63  # of the streams of loaders (the law's section 11.1)
EPOCH = 2**39


class Noise:
    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> lucid.Tensor:
        return random.randn(3, device="cpu") + index


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[lucid.Tensor]:
        for _ in range(11):
            yield random.randn(3, device="cpu")


def mixed(samples: list[lucid.Tensor]) -> tuple[lucid.Tensor, lucid.Tensor]:
    """The samples, each with a share of another one, as in mixup."""
    x = default_collate(samples)
    share = random.rand(1, device="cpu")
    return share * x + (1 - share) * x[random.permutation(len(samples), device="cpu")], share


def bits(batches: Any) -> list[tuple[bytes, ...]]:
    return [tuple(part.numpy().tobytes() for part in batch) for batch in batches]


def loader(data: Any, workers: int, **more: Any) -> DataLoader:
    if workers:
        more |= {"num_workers": workers, "multiprocessing_context": "fork"}
    return DataLoader(data, 4, seed=3, collate_fn=mixed, **more)


@pytest.mark.parametrize("data", [Noise(), Stream()], ids=["samples", "stream"])
def test_a_collate_function_draws_the_same_in_any_number_of_workers(data: Any) -> None:
    alone = loader(data, 0)
    before = random.get_state()
    expected = [bits(alone), bits(alone)]
    assert random.get_state() == before
    assert expected[0] != expected[1]
    for workers in (1, 3):
        shared = loader(data, workers)
        assert [bits(shared), bits(shared)] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_it_draws_what_the_law_says(workers: int) -> None:
    batches = loader(Noise(), workers)
    for epoch in range(2):
        for number, (_, share) in enumerate(batches):
            own = Generator(3, START + epoch * EPOCH, (number + 1) * 2**40)
            assert (share == own.uniform(0.0, 1.0, 1)).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_gone_on_with_draws_the_same(workers: int) -> None:
    whole = loader(Noise(), workers, shuffle=True)
    expected = bits(whole)
    begun = loader(Noise(), workers, shuffle=True)
    batches = iter(begun)
    first = bits(next(batches) for _ in range(2))
    resumed = loader(Noise(), workers, shuffle=True)
    resumed.load_state_dict(begun.state_dict())
    assert first + bits(resumed) == expected


def test_a_sample_by_a_numpy_integer_is_that_sample() -> None:
    plain = list(DataLoader(Noise(), 2, seed=1, sampler=[5, 2]))
    assert np.array_equal(plain[0], next(iter(DataLoader(Noise(), 2, seed=1, sampler=list(np.array([5, 2]))))))
    alone = next(iter(DataLoader(Noise(), 1, seed=1, sampler=np.array([2]))))
    assert np.array_equal(plain[0][1], alone[0])


class Stops:
    """A dataset with a mistake."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 5:
            next(iter(()))
        return index


def stops(samples: list[int]) -> Any:
    return next(iter(()))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_iteration_does_not_end_the_epoch(workers: int) -> None:
    more = {"num_workers": workers, "multiprocessing_context": "fork"} if workers else {}
    with pytest.raises(RuntimeError, match="dataset: raised StopIteration for the sample 5"):
        list(DataLoader(Stops(), 2, **more))
    with pytest.raises(RuntimeError, match="collate_fn: raised StopIteration for the samples"):
        list(DataLoader(range(4), 2, collate_fn=stops, **more))
