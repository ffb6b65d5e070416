"""Random programs over all operations: beside PyTorch in float64, and in bits on every backend."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from support.backends import on
from support.bits import assert_same_bits
from support.programs import OPERATIONS, Array, names_of, run_lucid, run_torch
from support.variants import running, variants

SHORT, LONG = 16, 60
NEAR = 1e-7
"""Of the largest element, in float64: a step may lose a factor of a thousand (a quotient by something small), and a few
such steps meet."""
VARIANTS = variants()

pytestmark = pytest.mark.filterwarnings("ignore:.*(encountered in|degrees of freedom)")


@cache
def reference(seed: int, dtype: type[np.floating]) -> dict[str, Array]:
    with on("reference"):
        return run_lucid(seed, dtype)


def check_beside_torch(seed: int) -> None:
    ours, theirs = reference(seed, np.float64), run_torch(seed, np.float64)
    nothing = np.zeros(
        ()
    )  # where the result does not depend on a leaf, one library has no gradient and the other zeros
    for name in {**ours, **theirs}:
        got, expected = ours.get(name, nothing), theirs.get(name, nothing)
        with np.errstate(invalid="ignore"):
            near = np.abs(got - expected) <= NEAR * np.abs(expected).max(initial=1e-3, where=np.isfinite(expected))
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        assert (near | same).all(), f"seed {seed}, {name}; steps: {names_of(seed)}"


def check_bits(seed: int, variant: tuple[str, str | None]) -> None:
    backend, isa = variant
    dtype = (np.float32, np.float64)[seed % 2]
    with on(backend), running(isa, seed % 4 + 1):
        found = run_lucid(seed, dtype)
    assert_same_bits(found, reference(seed, dtype), f"seed {seed}, {backend} {isa or ''}; steps: {names_of(seed)}")


def test_programs_take_in_all_operations() -> None:
    """None of these families has got lost on the way from the tables."""
    assert {"add", "conv2d", "matmul", "softmax", "layer_norm", "cumsum", "max_pool2d", "getitem"} <= OPERATIONS.keys()


@pytest.mark.parametrize("seed", range(SHORT))
def test_programs_are_pytorchs(seed: int) -> None:
    check_beside_torch(seed)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("seed", range(SHORT))
def test_programs_have_the_same_bits(seed: int, variant: tuple[str, str | None]) -> None:
    check_bits(seed, variant)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1000 + LONG))
def test_many_programs(seed: int) -> None:
    check_beside_torch(seed)
    for variant in VARIANTS:
        check_bits(seed, variant)
