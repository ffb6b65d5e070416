"""Random programs over all operations of the tables: 10 to 30 steps, each on results of earlier ones.

A step is a row. What it takes has the row's shape: the elements of an earlier result, repeated where they are too few.
What it makes is brought back to between -1 and 1, so that nothing grows. A row that is added to the tables takes part.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import lucid
from support.operations import Given, Row
from support.tables import ROWS

Array = np.ndarray[Any, Any]
LEAVES = ((4, 5), (3, 7), (2, 3, 5))
MOST_ELEMENTS = 3000  # of what a step takes
ENDS = 6  # results that are added up


def chainable(row: Row) -> bool:
    """Whether a row can take results of others: it does not jump, and is not about numbers that are not finite."""
    return (
        row.smooth
        and np.float64 in row.dtypes
        and any(_linked(given) for given in row.inputs)
        and not any(given.kind in ("special", "infinite") for given in row.inputs)
        and all(math.prod(given.shape) <= MOST_ELEMENTS for given in row.inputs)
        and all(math.prod(given.shape) > 0 for given in row.inputs if given.fixed is None)
    )


def _linked(given: Given) -> bool:
    return given.grad and given.fixed is None


def _by_operation() -> dict[str, list[Row]]:
    """By the first word of its name, which is the operation's, the rows: a large family is not drawn more often."""
    found = defaultdict(list)
    for row in filter(chainable, ROWS):
        found[re.split(r"[-, ]", row.name)[0]].append(row)
    return dict(found)


OPERATIONS = _by_operation()


@dataclass(frozen=True)
class Step:
    """A row, and for each of its inputs which result it takes (of one that the row draws, nothing)."""

    row: Row
    sources: tuple[int | None, ...]


def program(seed: int) -> list[Step]:
    """Steps, each on any of the results before it."""
    rng = np.random.default_rng([seed, 16])
    steps: list[Step] = []
    names = sorted(OPERATIONS)
    for _ in range(rng.integers(10, 31)):
        rows = OPERATIONS[names[rng.integers(len(names))]]
        row = rows[rng.integers(len(rows))]
        known = len(LEAVES) + len(steps)
        steps.append(Step(row, tuple(int(rng.integers(known)) if _linked(g) else None for g in row.inputs)))
    return steps


def leaves(seed: int, dtype: Any) -> list[Array]:
    """What a program begins with."""
    rng = np.random.default_rng([seed, 61])
    return [rng.standard_normal(shape).astype(dtype) for shape in LEAVES]


def _link(value: Any, given: Given, tensor: Callable[[Array], Any]) -> Any:
    """``value`` in another shape."""
    flat, count = value.reshape(-1), math.prod(given.shape)
    taken = flat if flat.shape[0] == count else flat[tensor(np.arange(count) % flat.shape[0])]
    taken = taken.reshape(given.shape)
    return taken * taken + 0.5 if given.kind == "positive" else taken


def _run(
    steps: Sequence[Step], given: Sequence[Any], dtype: Any, tensor: Callable[[Array], Any], which: str
) -> dict[str, Array]:
    values, made = list(given), list[Array]()
    for step in steps:
        own = step.row.arrays(dtype, "dense", 0)
        taken = [
            tensor(own[i].copy()) if source is None else _link(values[source], step.row.inputs[i], tensor)
            for i, source in enumerate(step.sources)
        ]
        y = getattr(step.row, which)(*taken)
        made.append(y.detach().numpy())
        useful = made[-1].size > 0 and made[-1].dtype == dtype and bool(np.isfinite(made[-1]).all())
        values.append(2.0 * y / (y * y + 1.0) if useful else values[0])
    total = sum((value.sum() for value in values[-ENDS:]), values[0].sum())
    total.backward()
    results = {f"result {i}": value for i, value in enumerate(made)}
    gradients = {f"gradient {i}": leaf.grad.numpy() for i, leaf in enumerate(given) if leaf.grad is not None}
    return {**results, **gradients}


def run_lucid(seed: int, dtype: Any) -> dict[str, Array]:
    """Results and gradients of the program of a seed, on the backend in use."""
    given = [lucid.to_tensor(x) for x in leaves(seed, dtype)]
    for leaf in given:
        leaf.requires_grad = True
    return _run(program(seed), given, dtype, lucid.to_tensor, "ours")


def run_torch(seed: int, dtype: Any) -> dict[str, Array]:
    """The same by PyTorch."""
    given = [torch.from_numpy(x).requires_grad_() for x in leaves(seed, dtype)]
    return _run(program(seed), given, dtype, torch.from_numpy, "theirs")


def names_of(seed: int) -> str:
    """The operations of a program, for whoever looks for the one that is wrong."""
    return ", ".join(f"{i}: {step.row.name}" for i, step in enumerate(program(seed)))
