"""Bugs that any operation can have, as changes of a `Recipe`: of its arithmetic, inputs, result or attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from kernel_corpus.arithmetic import STORED, Array, Total, base_of, nearest, truncated
from kernel_corpus.kernel import Bug, Kernel, Recipe

Change = Callable[[Recipe], Recipe]


# -- ways to change a recipe -------------------------------------------------------------------------------------------


def result(change: Callable[..., Array]) -> Change:
    """``change(result, *inputs)`` before it is stored."""

    def changed(recipe: Recipe) -> Recipe:
        def body(how: Any, *arrays: Array, **attributes: Any) -> Array:
            return change(recipe.body(how, *arrays, **attributes), *arrays)

        return replace(recipe, body=body)

    return changed


def gradient(place: int, change: Callable[[Array], Array]) -> Change:
    """``change`` of one of the gradients before it is stored."""

    def changed(recipe: Recipe) -> Recipe:
        def backward(how: Any, *arrays: Array, **attributes: Any) -> tuple[Array, ...]:
            made = list(recipe.backward(how, *arrays, **attributes))  # type: ignore[misc]
            made[place] = change(made[place])
            return tuple(made)

        return replace(recipe, backward=backward)

    return changed


def inputs(change: Callable[..., Any]) -> Change:
    """``change(*inputs)``, a tuple, takes the inputs' place."""

    def changed(recipe: Recipe) -> Recipe:
        return replace(recipe, body=lambda how, *arrays, **given: recipe.body(how, *change(*arrays), **given))

    return changed


def attribute(**other: Any) -> Change:
    """Other attributes than the kernel is given, forward and backward."""

    def changed(recipe: Recipe) -> Recipe:
        backward = recipe.backward
        return replace(
            recipe,
            body=lambda how, *arrays, **given: recipe.body(how, *arrays, **{**given, **other}),
            backward=backward and (lambda how, *arrays, **given: backward(how, *arrays, **{**given, **other})),
        )

    return changed


def total(change: Callable[[Total], Total]) -> Change:
    """Another sum in the place of the kernel's."""
    return lambda recipe: replace(recipe, how=replace(recipe.how, total=change(recipe.how.total)))


def body(other: Callable[..., Any]) -> Change:
    """Another algorithm altogether."""
    return lambda recipe: replace(recipe, body=other)


def backward(other: Callable[..., Any]) -> Change:
    """Another backward pass."""
    return lambda recipe: replace(recipe, backward=other)


# -- sums --------------------------------------------------------------------------------------------------------------


def kept(choose: Callable[[int], Any]) -> Callable[[Total], Total]:
    """A sum of some terms alone: ``choose(count)`` indexes them."""

    def changed(sum_of: Total) -> Total:
        return lambda terms, axis: sum_of(np.moveaxis(terms, axis, 0)[choose(terms.shape[axis])], 0)

    return changed


def whole_tiles(tile: int) -> Callable[[int], slice]:
    """All but the tail past the last whole tile; of less than a tile everything."""
    return lambda count: slice(0, count // tile * tile or count)


def all_but_last(count: int) -> slice:
    """All but the last, if there are two."""
    return slice(0, max(count - 1, 1))


def all_but_first(count: int) -> slice:
    """All but the first, if there are two."""
    return slice(1 if count > 1 else 0, None)


def all_but_each(every: int) -> Callable[[int], Array]:
    """All but each ``every``-th."""
    return lambda count: np.flatnonzero(np.arange(count) % every != every - 1)


def twice_first(count: int) -> Array:
    """The first twice."""
    return np.concatenate([np.zeros(min(count, 1), np.int64), np.arange(count)])


def in_storage(precision: str) -> Total:
    """Accumulators in the storage type, one term after the other."""

    def sum_of(terms: Array, axis: int) -> Array:
        narrow = terms.astype(STORED[base_of(precision)])
        if not narrow.shape[axis]:
            return np.zeros(np.delete(narrow.shape, axis), terms.dtype)
        return np.take(np.add.accumulate(narrow, axis=axis), -1, axis).astype(terms.dtype)

    return sum_of


def accumulators_in_storage(recipe: Recipe) -> Recipe:
    """Accumulators in the storage type."""
    return replace(recipe, how=replace(recipe.how, total=in_storage(recipe.how.precision)))


# -- places ------------------------------------------------------------------------------------------------------------


def past_tile(tile: int, axis: int, value: float) -> Callable[..., Array]:
    """What lies past the last whole tile along an axis is never written: ``value`` stands there."""

    def changed(made: Array, *_: Array) -> Array:
        made = np.array(made)
        if made.ndim:
            moved = np.moveaxis(made, axis, 0)
            moved[len(moved) // tile * tile or len(moved) :] = value
        return made

    return changed


def last_row(value: float) -> Callable[..., Array]:
    """The last row is never written."""

    def changed(made: Array, *_: Array) -> Array:
        made = np.array(made)
        if made.ndim and len(made) > 1:
            made[-1] = value
        return made

    return changed


def first_of_batch(made: Array, *_: Array) -> Array:
    """The first element's result for all of a batch."""
    return np.broadcast_to(made[:1], made.shape) if made.ndim and len(made) else made


def strides_ignored(recipe: Recipe) -> Recipe:
    """The first input's memory is read as if it lay in C order."""

    def around(fn: Callable[..., Any]) -> Callable[..., Any]:
        def run(first: Any, *others: Any, **given: Any) -> Any:
            if isinstance(first, torch.Tensor):
                return fn(first.detach().as_strided(first.shape, torch.empty(first.shape).stride()), *others, **given)
            strides = np.empty(first.shape, first.dtype).strides
            if first.size and min(first.strides, default=0) >= 0:
                first = np.lib.stride_tricks.as_strided(first, first.shape, strides)
            return fn(first, *others, **given)

        return run

    return replace(recipe, around=around)


def into_buffer(recipe: Recipe, part: Callable[[int], slice] = lambda count: slice(None)) -> Recipe:
    """A kernel that writes its result into a buffer that it is handed: all of it, or a part along the first axis."""

    def around(fn: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, out: Any = None, **attributes: Any) -> Any:
            made = fn(*given, **attributes)
            out = np.full(made.shape, np.nan, made.dtype) if out is None else out
            chosen = part(out.shape[0]) if out.ndim else ...
            out[chosen] = made[chosen]
            return out

        return run

    return replace(recipe, name=f"{recipe.name}, into a buffer", around=around)


def input_overwritten(recipe: Recipe) -> Recipe:
    """The result is left in the first input too, where it fits."""

    def around(fn: Callable[..., Any]) -> Callable[..., Any]:
        def run(first: Any, *others: Any, **attributes: Any) -> Any:
            made = fn(first, *others, **attributes)
            if made.shape == first.shape:
                first[...] = made
            return made

        return run

    return replace(recipe, around=around)


# -- values ------------------------------------------------------------------------------------------------------------


def scaled(factor: float) -> Callable[..., Array]:
    """A constant factor."""
    return lambda made, *_: made * made.dtype.type(factor)


def truncating_store(recipe: Recipe) -> Recipe:
    """A store that drops the low bits; what is stored as float32 is computed in float64."""
    computes = "float64" if base_of(recipe.how.precision) in ("float32", "tf32") else recipe.how.computes
    return replace(recipe, how=replace(recipe.how, store=truncated, computes=computes))


def rounded_before(precision: str) -> Callable[..., Array]:
    """The result is rounded to another format first."""
    return lambda made, *_: nearest(np.asarray(made), precision).astype(np.asarray(made).dtype)


def without_nan(made: Array, *_: Array) -> Array:
    """NaN becomes zero."""
    return np.where(np.isnan(made), made.dtype.type(0), made)


def clamped(made: Array, *_: Array) -> Array:
    """Infinities become the largest number of float16."""
    return np.where(np.isinf(made), np.copysign(made.dtype.type(65504), made), made)


def without_negative_zero(made: Array, *_: Array) -> Array:
    """Zeros lose their sign."""
    return made + made.dtype.type(0)


# -- tables ------------------------------------------------------------------------------------------------------------

TRUNCATING = Bug("a truncating store", "a truncating store", truncating_store, subtle=True)
FACTOR = Bug("a constant factor", "a factor of 1 + 2^-11", result(scaled(1 + 2.0**-11)), subtle=True)


def scaled_gradient(place: int, name: str) -> Bug:
    """One of the gradients times 1 + 2^-11."""
    return Bug("a constant factor", f"{name} times 1 + 2^-11", gradient(place, scaled(1 + 2.0**-11)), subtle=True)


STORAGE_SUMS = Bug("accumulators in the storage type", "accumulators in the storage type", accumulators_in_storage)
STRIDES = Bug("strides ignored", "strides ignored", strides_ignored)
FIRST_FOR_ALL = Bug("the batch's first element for all", "the batch's first element for all", result(first_of_batch))
NAN = Bug("NaN swallowed", "NaN swallowed", result(without_nan))
CLAMPED = Bug("infinities clamped", "infinities clamped", result(clamped))
NEGATIVE_ZERO = Bug("lost negative zero", "lost negative zero", result(without_negative_zero))
LAST_ROW = Bug("uninitialised", "the last row is not written", result(last_row(np.float32(-431602080.0))))


def tail(tile: int) -> Bug:
    """Of a sum: the terms past the last whole tile are left out."""
    return Bug("a tail left out", f"the tail of the sum past a tile of {tile} left out", total(kept(whole_tiles(tile))))


def unwritten(tile: int, axis: int = -1) -> Bug:
    """Of the output: what lies past the last whole tile stays zero."""
    what = f"axis {axis} past a tile of {tile} not written"
    return Bug("uninitialised", what, result(past_tile(tile, axis, 0.0)))


UNWRITTEN_LAST = Bug("uninitialised", "all but the last written", lambda recipe: into_buffer(recipe, all_but_last))
UNWRITTEN_TAIL = Bug("uninitialised", "whole tiles of 16 written", lambda recipe: into_buffer(recipe, whole_tiles(16)))
OVERWRITTEN = Bug("input overwritten", "the input overwritten", input_overwritten)


def left_out(name: str, choose: Callable[[int], Any], subtle: bool = False) -> Bug:
    """Of a sum: some terms are left out, or come twice."""
    return Bug("a term left out", name, total(kept(choose)), subtle=subtle)


def mutants(recipe: Callable[[str], Recipe], precisions: Iterable[str], bugs: Iterable[Bug]) -> Iterator[Kernel]:
    """Every bug in every precision, but for those that change nothing there: float32 accumulators and roundings to
    float32 are no bug of float32, and a factor of 1 + 2^-11 is lost in what moves bfloat16 about."""
    for precision in precisions:
        for bug in bugs:
            made, base = recipe(precision), base_of(precision)
            narrow = bug is STORAGE_SUMS or bug.kind == "one rounding too many"
            as_usual = narrow and base not in ("bfloat16", "float16")
            if not (as_usual or (bug is FACTOR and base == "bfloat16" and made.op in ("relu", "max_pool2d"))):
                yield made.mutant(bug)
