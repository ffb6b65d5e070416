"""softmax and log_softmax: by rows, online (one pass), in blocks that are merged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from kernel_corpus import alterations as alter
from kernel_corpus.arithmetic import ORDERS, Arithmetic, Array, arithmetic, nearest, sequential
from kernel_corpus.elementwise import exp_by_halves, exp_by_powers, fast_exp
from kernel_corpus.kernel import Bug, Kernel, Recipe

PRECISIONS = ("float32", "bfloat16", "float16")
SETTINGS: tuple[dict[str, Any], ...] = ({"axis": -1}, {"axis": 0})
BLOCK = 128


def safe_max(x: Array) -> Array:
    """The largest of each row; 0 of none."""
    return x.max(-1, initial=-np.inf, keepdims=True)


def softmax(
    how: Arithmetic, x: Array, *, axis: int = -1, exp: Any = np.exp, largest: Any = safe_max, logarithm: bool = False,
    reciprocal: bool = False,
) -> Array:  # fmt: skip
    """``exp(x - max) / sum``, or ``(x - max) - log(sum)``; ``reciprocal`` multiplies by ``1 / sum``."""
    rows = np.moveaxis(x, axis, -1)
    shifted = rows - largest(rows)
    powers = exp(shifted)
    total = how.total(powers, powers.ndim - 1)[..., None]
    if logarithm:
        made = shifted - np.log(total)
    else:
        made = powers * (total.dtype.type(1) / total) if reciprocal else powers / total
    return np.moveaxis(made, -1, axis)


def online(how: Arithmetic, x: Array, *, axis: int = -1, logarithm: bool = False, block: int = BLOCK) -> Array:
    """Blocks of columns; a running largest and a running sum that is rescaled when the largest changes."""
    rows = np.moveaxis(x, axis, -1)
    largest = np.full((*rows.shape[:-1], 1), -np.inf, x.dtype)
    total = np.zeros_like(largest)
    for start in range(0, rows.shape[-1], block):
        part = rows[..., start : start + block]
        higher = np.maximum(largest, safe_max(part))
        rescale = np.where(np.isneginf(largest), 0, np.exp(largest - higher)).astype(x.dtype)
        total = total * rescale + how.total(np.exp(part - higher), rows.ndim - 1)[..., None]
        largest = higher
    shifted = rows - largest
    return np.moveaxis(shifted - np.log(total) if logarithm else np.exp(shifted) / total, -1, axis)


def gradient(how: Arithmetic, dy: Array, x: Array, *, axis: int = -1, logarithm: bool = False) -> tuple[Array]:
    """``y (dy - sum(dy y))``, or ``dy - exp(y) sum(dy)``."""
    y = np.moveaxis(softmax(replace(how, total=sequential), x, axis=axis), axis, -1)
    rows = np.moveaxis(dy, axis, -1)
    if logarithm:
        made = rows - y * how.total(rows, rows.ndim - 1)[..., None]
    else:
        made = y * (rows - how.total(rows * y, rows.ndim - 1)[..., None])
    return (np.moveaxis(made, -1, axis),)


def healthy() -> Iterator[Kernel]:
    """Every order of the denominator's sum, and the ways to it."""
    for precision in PRECISIONS:
        for op, logarithm in (("softmax", False), ("log_softmax", True)):
            for given in SETTINGS:
                for order in ORDERS:
                    how = arithmetic(precision, ORDERS[order])
                    yield Recipe(op, order, how, partial(softmax, logarithm=logarithm), given).kernel()
                ways = {
                    "online": partial(online, logarithm=logarithm),
                    "online, blocks of 16": partial(online, logarithm=logarithm, block=16),
                    "exp in float64": partial(softmax, logarithm=logarithm, exp=exp_by_halves),
                    "exp by a polynomial": partial(softmax, logarithm=logarithm, exp=exp_by_powers),
                    "times the reciprocal": partial(softmax, logarithm=logarithm, reciprocal=True),
                }
                for order in ("in sequence", "pairwise", "random order"):
                    how, body = arithmetic(precision, ORDERS[order]), partial(softmax, logarithm=logarithm)
                    back = partial(gradient, logarithm=logarithm)
                    yield Recipe(op, f"gradient, {order}", how, body, given, back).kernel()
                for name, body in ways.items():
                    yield Recipe(op, name, arithmetic(precision), body, given).kernel()


# -- bugs --------------------------------------------------------------------------------------------------------------


def _no_max(x: Array) -> Array:
    return np.zeros((*x.shape[:-1], 1), x.dtype)


def _whole_max(x: Array) -> Array:
    return x.max(initial=-np.inf).reshape((1,) * x.ndim)


def _masked(how: Arithmetic, x: Array, *, axis: int = -1, logarithm: bool = False, more: int = 0) -> Array:
    """A mask of the valid columns that is off by one: ``more`` columns of zeros take part, or the last does not."""
    rows = np.moveaxis(x, axis, -1)
    if more > 0:
        padded = np.concatenate([rows, np.zeros((*rows.shape[:-1], more), x.dtype)], -1)
        return np.moveaxis(softmax(how, padded, logarithm=logarithm)[..., :-more], -1, axis)
    seen = rows[..., : max(rows.shape[-1] - 1, 1)]
    made = softmax(how, seen, logarithm=logarithm)
    full = np.full(rows.shape, -np.inf if logarithm else 0, x.dtype)
    full[..., : seen.shape[-1]] = made
    return np.moveaxis(full, -1, axis)


def _twice(how: Arithmetic, x: Array, *, axis: int = -1, logarithm: bool = False) -> Array:
    """The exponentials (or their logarithm's argument) are stored before they are normalised."""
    return softmax(
        how, x, axis=axis, logarithm=logarithm, exp=lambda z: nearest(np.exp(z), how.precision).astype(z.dtype)
    )


def _gradient_total(choose: Any) -> Any:
    """The gradient's sum alone misses terms."""

    def changed(recipe: Recipe) -> Recipe:
        def backward(how: Arithmetic, *arrays: Array, **given: Any) -> Any:
            return healthy_one(replace(how, total=alter.kept(choose)(how.total)), *arrays, **given)

        healthy_one = recipe.backward
        return replace(recipe, backward=backward)

    return changed


def bugs(logarithm: bool) -> tuple[Bug, ...]:
    """The table of one of the two."""
    of, masked = (partial(body, logarithm=logarithm) for body in (softmax, _masked))
    return (
        alter.left_out("the last column left out of the denominator", alter.all_but_last, subtle=True),
        alter.left_out("the first column left out of the denominator", alter.all_but_first, subtle=True),
        alter.left_out("1 % of the denominator's terms left out", alter.all_but_each(100), subtle=True),
        alter.left_out("one in 128 of the denominator's terms left out", alter.all_but_each(128), subtle=True),
        alter.tail(32),
        alter.tail(128),
        alter.STORAGE_SUMS,
        alter.TRUNCATING,
        alter.FACTOR,
        alter.STRIDES,
        alter.NAN,
        alter.unwritten(64),
        Bug("overflow", "the largest is not subtracted", alter.body(partial(of, largest=_no_max))),
        Bug("overflow", "the largest of all rows is subtracted", alter.body(partial(of, largest=_whole_max))),
        Bug("a mask off by one", "the last column masked", alter.body(masked)),
        Bug("a mask off by one", "one padded column takes part", alter.body(partial(masked, more=1))),
        Bug("wrong axis", "axis 0 for the last", alter.body(lambda how, x, axis=-1: of(how, x, axis=0))),
    )  # fmt: skip


GRADIENT_BUGS = (
    Bug("a term left out", "the last column left out of the gradient's sum", _gradient_total(alter.all_but_last)),
    Bug(
        "a tail left out",
        "the tail of the gradient's sum past a tile of 32 left out",
        _gradient_total(alter.whole_tiles(32)),
    ),
    alter.scaled_gradient(0, "the gradient"),
)


def mutants() -> Iterator[Kernel]:
    """The table in each precision; a fast exp where that is many roundings."""
    for op, logarithm in (("softmax", False), ("log_softmax", True)):
        body = partial(softmax, logarithm=logarithm)

        def recipe(precision: str, op: str = op, body: Any = body) -> Recipe:
            return Recipe(op, "by rows", arithmetic(precision), body, SETTINGS[0])

        yield from alter.mutants(recipe, PRECISIONS, bugs(logarithm))
        yield from alter.mutants(
            lambda p, op=op, body=body, logarithm=logarithm: Recipe(
                op, "gradient", arithmetic(p), body, SETTINGS[0], partial(gradient, logarithm=logarithm)
            ),
            PRECISIONS,
            GRADIENT_BUGS,
        )
        rounded = Bug(
            "one rounding too many",
            "exponentials stored in between",
            alter.body(partial(_twice, logarithm=logarithm)),
            subtle=True,
        )
        if not logarithm:
            yield from alter.mutants(recipe, PRECISIONS[1:], (rounded,))
        yield recipe("float32").mutant(
            Bug("fast-math exp", "an exp of 2.4e-6", alter.body(partial(body, exp=fast_exp)), subtle=True)
        )
