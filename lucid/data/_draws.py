"""Which random numbers an epoch's order and a sample draw (``ARITHMETIC.md``, section 11.1).

Both draw from ``lucid.random``'s global generator, which is set for as long as they run and then put back. What a
sample draws depends on the seed, the epoch and its index alone: never on who loads it, or when.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lucid.random import default_generator

State = tuple[int, int, int]

_LOADING, _EPOCH, _AGAIN = 63, 39, 40  # by how many bits each number is shifted


def order_state(seed: int, epoch: int) -> State:
    """From where the order of an epoch's samples is drawn."""
    return seed, (1 << _LOADING) + (epoch << _EPOCH), 0


def sample_state(seed: int, epoch: int, index: int, again: int = 0) -> State:
    """From where the sample ``index`` draws when it comes for the time ``again`` (from 0) in an epoch."""
    return seed, (1 << _LOADING) + (epoch << _EPOCH) + 1 + index, again << _AGAIN


@contextlib.contextmanager
def drawing_from(state: State) -> Iterator[None]:
    """Let the global generator go on from ``state``, and afterwards from where it was."""
    before = default_generator.get_state()
    default_generator.set_state(state)
    try:
        yield
    finally:
        default_generator.set_state(before)
