"""cross_entropy: the negative logarithm of softmax at each label, and their mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from kernel_corpus import alterations as alter
from kernel_corpus.arithmetic import ORDERS, Arithmetic, Array, arithmetic
from kernel_corpus.kernel import Bug, Kernel, Recipe
from kernel_corpus.softmax import online, softmax

PRECISIONS = ("float32", "bfloat16", "float16")
SETTINGS: tuple[dict[str, Any], ...] = ({}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.1})


def cross_entropy(
    how: Arithmetic, x: Array, target: Array, weight: Array | None = None, *, ignore_index: int = -100,
    reduction: str = "mean", label_smoothing: float = 0.0, log_softmax: Any = None,
) -> Array:  # fmt: skip
    """PyTorch's definition; classes are axis 1."""
    log_softmax = log_softmax or partial(softmax, logarithm=True)
    logs = np.moveaxis(log_softmax(how, x, axis=1), 1, -1).reshape(-1, x.shape[1])
    labels = target.reshape(-1)
    counts = labels != ignore_index
    labels = np.where(counts, labels, 0).astype(np.int64)
    scale = np.ones(x.shape[1], x.dtype) if weight is None else weight
    share = np.where(counts, scale[labels], 0).astype(x.dtype)
    losses = -logs[np.arange(len(labels)), labels] * share
    if label_smoothing:
        kind = x.dtype.type
        smooth = np.where(counts, -how.total(logs * scale, 1), 0).astype(x.dtype)
        losses = kind(1 - label_smoothing) * losses + kind(label_smoothing / x.shape[1]) * smooth
    losses = np.where(counts, losses, 0).astype(x.dtype)
    if reduction == "none":
        return losses.reshape(target.shape)
    total = how.total(losses, 0)
    if reduction == "sum":
        return total
    return total / how.total(share, 0)


def healthy() -> Iterator[Kernel]:
    """Orders of all its sums."""
    for precision in PRECISIONS:
        for given in SETTINGS:
            for order in (
                "in sequence",
                "pairwise",
                "random order",
                "descending",
                "split-K by 4",
                "float64 accumulators",
            ):
                yield Recipe(
                    "cross_entropy", order, arithmetic(precision, ORDERS[order]), cross_entropy, given
                ).kernel()
            body = partial(cross_entropy, log_softmax=partial(online, logarithm=True))
            yield Recipe("cross_entropy", "online", arithmetic(precision), body, given).kernel()


def _next_label(x: Array, target: Array, *weight: Any) -> tuple[Any, ...]:
    return x, np.where(target >= 0, (target + 1) % max(x.shape[1], 1), target), *weight


def _one_more(made: Array, x: Array, target: Array, *_: Array) -> Array:
    return made * made.dtype.type(target.size / (target.size + 1))


def _without_last_row(x: Array, target: Array, *weight: Any) -> tuple[Any, ...]:
    return (x, target, *weight) if len(x) < 2 else (x[:-1], target[:-1], *weight)


def _denominator(choose: Any) -> Any:
    """The softmax's denominator alone misses terms."""

    def changed(recipe: Recipe) -> Recipe:
        def log_softmax(how: Arithmetic, x: Array, *, axis: int) -> Array:
            return softmax(replace(how, total=alter.kept(choose)(how.total)), x, axis=axis, logarithm=True)

        return replace(recipe, body=partial(cross_entropy, log_softmax=log_softmax))

    return changed


BUGS = (
    Bug("a mask off by one", "the label after the right one", alter.inputs(_next_label)),
    alter.STORAGE_SUMS,
    Bug("another divisor", "the sum for the mean", alter.attribute(reduction="sum")),
    Bug("another divisor", "one row too many in the divisor", alter.result(_one_more)),
    Bug("a term left out", "the last row left out", alter.inputs(_without_last_row)),
)  # fmt: skip


# A loss of all rows in bfloat16 hides these.
ROW_BUGS = (
    Bug("a term left out", "the last class left out of the denominator", _denominator(alter.all_but_last), subtle=True),
    Bug(
        "a term left out", "1 % of the denominator's terms left out", _denominator(alter.all_but_each(100)), subtle=True
    ),
    Bug("a tail left out", "classes past a tile of 32 left out", _denominator(alter.whole_tiles(32))),
    alter.FACTOR,
)


def mutants() -> Iterator[Kernel]:
    """The table, and what the attributes can lose."""
    yield from alter.mutants(
        lambda p: Recipe("cross_entropy", "by rows", arithmetic(p), cross_entropy), PRECISIONS, BUGS
    )
    none = {"reduction": "none"}
    yield from alter.mutants(
        lambda p: Recipe("cross_entropy", "by rows", arithmetic(p), cross_entropy), PRECISIONS[:1], ROW_BUGS
    )
    rows = (alter.TRUNCATING, alter.STRIDES, *ROW_BUGS)
    yield from alter.mutants(
        lambda p: Recipe("cross_entropy", "by rows", arithmetic(p), cross_entropy, none), PRECISIONS, rows
    )
    smooth = Bug("label smoothing ignored", "no label smoothing", alter.attribute(label_smoothing=0.0))
    other = Bug("label smoothing ignored", "label smoothing of 0.09", alter.attribute(label_smoothing=0.09))
    given = {"label_smoothing": 0.1}
    yield from alter.mutants(
        lambda p: Recipe("cross_entropy", "by rows", arithmetic(p), cross_entropy, given), PRECISIONS, (smooth, other)
    )
