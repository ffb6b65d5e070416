"""sum, mean and cumsum, in every order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from kernel_corpus import alterations as alter
from kernel_corpus.arithmetic import ORDERS, STORED, Arithmetic, Array, arithmetic, base_of, compensated
from kernel_corpus.kernel import Bug, Kernel, Recipe

PRECISIONS = ("float32", "bfloat16", "float16")
SETTINGS: tuple[dict[str, Any], ...] = ({"axis": -1}, {"axis": 0}, {}, {"axis": -1, "keepdims": True})


def reduce(
    how: Arithmetic, x: Array, *, axis: Any = None, keepdims: bool = False, mean: bool = False, less: int = 0
) -> Array:
    """The sum over some axes; divided by how many terms it has, ``less`` some."""
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis))
    rest = [a for a in range(x.ndim) if a not in axes]
    count = int(np.prod([x.shape[a] for a in axes]))
    made = how.total(x.transpose(*rest, *axes).reshape(*(x.shape[a] for a in rest), count), len(rest))
    if mean:
        made = made / x.dtype.type(max(count - less, 1) if less else count)
    if keepdims:
        made = np.asarray(made).reshape([1 if a in axes else size for a, size in enumerate(x.shape)])
    return made


def cumsum(how: Arithmetic, x: Array, *, axis: int = -1) -> Array:
    """One term after the other."""
    return np.add.accumulate(x, axis=axis)


def blocked_cumsum(how: Arithmetic, x: Array, *, axis: int = -1, block: int = 64, carry: bool = True) -> Array:
    """Each block by itself, then the sum of all blocks before it."""
    rows = np.moveaxis(x, axis, -1)
    made, before = np.empty_like(rows), np.zeros(rows.shape[:-1], x.dtype)
    for start in range(0, rows.shape[-1], block):
        part = np.add.accumulate(rows[..., start : start + block], axis=-1)
        made[..., start : start + block] = part + before[..., None]
        before = before + part[..., -1] if carry else before
    return np.moveaxis(made, -1, axis)


def doubling_cumsum(how: Arithmetic, x: Array, *, axis: int = -1) -> Array:
    """Hillis and Steele: each element adds the one 1, 2, 4, ... before it."""
    made, step = np.moveaxis(x, axis, -1).copy(), 1
    while step < made.shape[-1]:
        made = np.concatenate([made[..., :step], made[..., step:] + made[..., :-step]], -1)
        step *= 2
    return np.moveaxis(made, -1, axis)


def wide_cumsum(how: Arithmetic, x: Array, *, axis: int = -1) -> Array:
    """In float64."""
    return np.add.accumulate(x, axis=axis, dtype=np.float64).astype(x.dtype)


CUMSUMS = {
    "in sequence": cumsum,
    "blocks of 64": blocked_cumsum,
    "blocks of 16": partial(blocked_cumsum, block=16),
    "doubling": doubling_cumsum,
    "in float64": wide_cumsum,
}


def healthy() -> Iterator[Kernel]:
    """Every order of summation."""
    for precision in PRECISIONS:
        for given in SETTINGS:
            for name, order in {**ORDERS, "Kahan": compensated}.items():
                for op in ("sum", "mean"):
                    body = partial(reduce, mean=op == "mean")
                    yield Recipe(op, name, arithmetic(precision, order), body, given).kernel()
        for axis in (-1, 0):
            for name, body in CUMSUMS.items():
                yield Recipe("cumsum", name, arithmetic(precision), body, {"axis": axis}).kernel()


# -- bugs --------------------------------------------------------------------------------------------------------------


def _narrow(how: Arithmetic, x: Array, *, axis: int = -1) -> Array:
    return np.add.accumulate(x.astype(STORED[base_of(how.precision)]), axis=axis).astype(x.dtype)


def _exclusive(how: Arithmetic, x: Array, *, axis: int = -1) -> Array:
    return np.add.accumulate(x, axis=axis) - x


SUM_BUGS = (
    *(alter.tail(tile) for tile in (16, 128)),
    alter.left_out("the last term left out", alter.all_but_last),
    alter.left_out("the first term twice", alter.twice_first),
    alter.left_out("1 % of the terms left out", alter.all_but_each(100)),
    alter.STORAGE_SUMS,
    alter.FACTOR,
    alter.TRUNCATING,
    alter.STRIDES,
    Bug("NaN swallowed", "NaN counts as zero", alter.inputs(lambda x: (np.where(np.isnan(x), 0, x).astype(x.dtype),))),
)  # fmt: skip
MEAN_BUGS = (
    *SUM_BUGS[:1],
    SUM_BUGS[4],
    *SUM_BUGS[5:],
    Bug("another divisor", "divided by one less", alter.body(partial(reduce, mean=True, less=1))),
)
CUMSUM_BUGS = (
    Bug("carry lost", "each block of 64 begins anew", alter.body(partial(blocked_cumsum, carry=False))),
    Bug("a term left out", "exclusive for inclusive", alter.body(_exclusive)),
    Bug("wrong axis", "axis 0 for the last", alter.attribute(axis=0)),
    alter.TRUNCATING,
    alter.FACTOR,
    alter.STRIDES,
    alter.unwritten(16),
)


def mutants() -> Iterator[Kernel]:
    """The tables."""
    for op, bugs in (("sum", SUM_BUGS), ("mean", MEAN_BUGS)):
        body = partial(reduce, mean=op == "mean")

        def recipe(precision: str, op: str = op, body: Any = body) -> Recipe:
            return Recipe(op, "in sequence", arithmetic(precision), body, SETTINGS[0])

        yield from alter.mutants(recipe, PRECISIONS, bugs)
    other = Bug("wrong axis", "axis 0 for the last", alter.attribute(axis=0))
    yield from alter.mutants(
        lambda p: Recipe("sum", "in sequence", arithmetic(p), reduce, {"axis": -1}), PRECISIONS, (other,)
    )
    yield from alter.mutants(
        lambda p: Recipe("cumsum", "in sequence", arithmetic(p), cumsum, {"axis": -1}), PRECISIONS, CUMSUM_BUGS
    )
    narrow = Bug("accumulators in the storage type", "accumulators in the storage type", alter.body(_narrow))
    for precision in PRECISIONS[1:]:
        yield Recipe("cumsum", "in sequence", arithmetic(precision), cumsum, {"axis": -1}).mutant(narrow)
