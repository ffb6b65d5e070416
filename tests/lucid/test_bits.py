"""Every backend against the reference, bit for bit, over random shapes, on every instruction set, at 1 to 4 threads.

The families of kernels are in ``support/families.py``. The short sweep runs by default, the long one under the marker
``slow``. A failure names the seed of its case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from support.bits import assert_same_bits
from support.families import FAMILIES, OnHost, named
from support.variants import running, variants

from lucid.backends import get_backend
from lucid.backends.base import Backend
from lucid.kernels.declare import kernels

SHORT, LONG, CHUNK = 40, 440, 100


def check(name: str, seeds: Iterable[int]) -> None:
    """The cases of ``seeds`` on every variant, at 1 to 4 threads in turn."""
    for seed in seeds:
        call = FAMILIES[name](np.random.default_rng([seed, *name.encode()]))
        expected = dict(named(call(get_backend("reference"))))
        for backend, isa in variants():
            threads = seed % 4 + 1
            with running(isa, threads):
                got = dict(named(call(OnHost(get_backend(backend)))))
            assert_same_bits(got, expected, f"{name}, seed {seed}, {backend} {isa or ''}, {threads} threads")


needs_another = pytest.mark.skipif(not variants(), reason="no backend but the reference can run here")


@needs_another
@pytest.mark.parametrize("name", FAMILIES)
def test_same_bits(name: str) -> None:
    check(name, range(SHORT))


def test_every_kernel_of_a_backend_is_in_a_family() -> None:
    asked: set[str] = set()

    class Asked:
        def __getattr__(self, name: str) -> Any:
            asked.add(name)
            return getattr(get_backend("reference"), name)

    for name, draw in FAMILIES.items():
        draw(np.random.default_rng([0, *name.encode()]))(Asked())  # type: ignore[arg-type]
    machinery = {name for name in vars(Backend) if name[0] != "_" and callable(getattr(Backend, name))}
    assert (machinery | {k.name for k in kernels()}) - asked == {"plan"}  # test_plan.py


@needs_another
@pytest.mark.slow
@pytest.mark.parametrize("first", range(SHORT, LONG, CHUNK))
@pytest.mark.parametrize("name", FAMILIES)
def test_same_bits_long(name: str, first: int) -> None:
    check(name, range(first, first + CHUNK))
