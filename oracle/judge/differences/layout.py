"""Where values came from: axes in another order, an image turned or shifted, slices exchanged or repeated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from oracle.judge.differences.pair import FLOAT32, SPARE, Array, Axes, Pair, plural, span

# A sample may leave so much of its own difference before the whole is asked.
HINT = 0.2
# Slices are matched where there are at most so many, by at most so many of their elements.
MOST_SLICES = 2048
MATCHED = 1 << 9

LETTERS = {True: "NCHW", False: "OIHW"}


def rearranged(pair: Pair) -> str:
    """The axes in another order, in shape or in memory; an image turned; an image shifted."""
    if pair.truth.size < 4:
        return ""
    return _another_order(pair) or _turned(pair) or _shifted(pair) or _offset(pair)


# -- the order of axes ------------------------------------------------------------------------------------------------


def _orders(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the axes that move elements, the plainest first."""
    every = [order for order in itertools.permutations(range(len(shape))) if order != tuple(range(len(shape)))]
    yield from sorted(every, key=lambda order: sum(a != b for a, b in enumerate(order)))


def _another_order(pair: Pair) -> str:
    shape = pair.truth.shape
    if not 2 <= len(shape) <= 4:
        return ""
    for order in _orders(shape):
        suffix = _holds(pair, pair.truth.transpose(order))
        if suffix is not None:
            return _read_as(pair, order) + suffix
    for order in _orders(shape):
        suffix = _holds(pair, stored(pair.truth, order))
        if suffix is not None:
            return _read_as(pair, order, written=True) + suffix
    return ""


def stored(truth: Array, order: tuple[int, ...]) -> Array:
    """The truth's memory taken for that of a tensor whose axes lie in ``order``."""
    moved = truth.reshape([truth.shape[axis] for axis in order])
    return moved.transpose(np.argsort(order))


def _read_as(pair: Pair, order: tuple[int, ...], written: bool = False) -> str:
    """Words for axes that lie in ``order``, or are taken to."""
    shape, words = pair.truth.shape, pair.axes.words
    if len(shape) == 2:
        return "transposed" + ("" if shape[0] == shape[1] else " in memory")
    moved = [axis for axis, source in enumerate(order) if axis != source]
    if len(moved) == 2 and shape[moved[0]] == shape[moved[1]]:
        if len(shape) == 4 and moved == [2, 3]:
            return "rows and columns are transposed"
        return f"{plural(words[moved[0]])} and {plural(words[moved[1]])} are transposed"
    if len(shape) == 4:
        usual = LETTERS[pair.axes.activation]
        other = "".join(usual[axis] for axis in order)
        return f"{usual} read as {other}" if written else f"{other} read as {usual}"
    return f"the axes are read in the order {order}"


def _holds(pair: Pair, view: Array) -> str | None:
    """Whether the subject is ``view``, read in its own order."""
    places = pair.places
    guess = view[np.unravel_index(places, view.shape)]
    at = np.unravel_index(places, pair.truth.shape)
    if not _worth(pair.subject[at], pair.truth[at], guess):
        return None
    return pair.explained(np.ascontiguousarray(view).reshape(pair.truth.shape))


def _worth(subject: Array, truth: Array, guess: Array) -> bool:
    """Whether a guess explains enough of a sample to be tried on all."""
    before = float(np.square(subject - truth).sum())
    return before > 0.0 and float(np.square(subject - guess).sum()) <= HINT * before


# -- images -----------------------------------------------------------------------------------------------------------


def _turned(pair: Pair) -> str:
    if pair.truth.ndim != 4:
        return ""
    for axes, words in (((2,), "upside down"), ((3,), "left and right exchanged"), ((2, 3), "turned by half")):
        suffix = _holds(pair, np.flip(pair.truth, axes))
        if suffix is not None:
            return words + suffix
    return ""


# Steps that an image may be shifted by, in rows and columns.
STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (0, 2), (0, -2), (2, 0), (-2, 0), (2, 2), (-2, -2))


def _shifted(pair: Pair) -> str:
    """Shifted by one or two; what comes in at the edge may be anything."""
    if pair.truth.ndim != 4 or pair.axes.activation is False:
        return ""
    for steps in STEPS:
        if any(abs(step) > size // 3 for step, size in zip(steps, pair.truth.shape[2:], strict=True)):
            continue
        to = (slice(None), slice(None), *(_kept(step) for step in steps))
        source = (slice(None), slice(None), *(_kept(-step) for step in steps))
        inner, moved = pair.part(to), pair.truth[source]
        places = np.unravel_index(inner.places, moved.shape)
        if not _worth(inner.subject[places], inner.truth[places], moved[places]):
            continue
        suffix = inner.explained(moved)
        if suffix is not None:
            return f"shifted by {_steps(steps)}{suffix}"
    return ""


# Elements that a buffer may begin too early or too late.
OFFSETS = tuple(sign * step for step in (1, 2, 3, 4, 8, 16, 32) for sign in (1, -1))


def _offset(pair: Pair) -> str:
    """The whole memory shifted."""
    size = pair.truth.size
    for step in OFFSETS:
        if abs(step) > size // 8:
            continue
        inside = pair.places[(pair.places >= step) & (pair.places < size + step)]
        flat, truth = pair.subject.reshape(-1), pair.truth.reshape(-1)
        if _worth(flat[inside], truth[inside], truth[inside - step]):
            inner = Pair(flat[_kept(step)], truth[_kept(step)], pair.granted, pair.axes, 0, False)
            suffix = inner.explained(truth[_kept(-step)])
            if suffix is not None:
                return f"shifted by {step} elements in memory{suffix}"
    return ""


def _kept(step: int) -> slice:
    """The places that hold something after a shift by ``step``."""
    return slice(step, None) if step >= 0 else slice(None, step)


def _steps(steps: tuple[int, ...]) -> str:
    texts = [
        f"{ {1: 'one', 2: 'two'}[abs(step)] } {word}{'s' if abs(step) > 1 else ''}"
        for step, word in zip(steps, ("row", "column"), strict=True)
        if step
    ]
    return " and ".join(texts)


# -- slices -----------------------------------------------------------------------------------------------------------


def slices(pair: Pair) -> str:
    """Whole slices (images, channels, rows of a matrix) that hold other slices' values."""
    for axis in range(min(2, pair.truth.ndim)):
        if 2 <= pair.truth.shape[axis] <= MOST_SLICES:
            text = _along(pair, axis)
            if text:
                return text
    return ""


def _along(pair: Pair, axis: int) -> str:
    count = pair.truth.shape[axis]
    ours, theirs = (np.moveaxis(each, axis, 0).reshape(count, -1) for each in (pair.subject, pair.truth))
    each = theirs.shape[1]
    own = _squares(ours - theirs)
    changed = own > np.maximum(SPARE * pair.granted * each, FLOAT32**2 * _squares(theirs))
    few = np.flatnonzero(changed)
    if not len(few):
        return ""
    picked = np.unique(np.random.default_rng(0).integers(0, each, MATCHED)) if each > MATCHED else np.arange(each)
    some, all_of = ours[np.ix_(few, picked)], theirs[:, picked]
    distance = _squares(some)[:, None] - 2 * some @ all_of.T + _squares(all_of)[None]
    order = np.arange(count)
    order[few] = distance.argmin(1)
    if (order == np.arange(count)).all() or (each == 1 and len(few) == 1) or not ours[few].any():
        return ""  # what is all zeros comes from nowhere, though another slice may be zero
    candidate = np.take(pair.truth, order, axis)
    suffix = pair.explained(candidate)
    if suffix is None or not _telling(pair, candidate, count, each):
        return ""
    return _exchanged(pair.axes.words[axis], order) + suffix


def _squares(rows: Array) -> Array:
    squares: Array = np.einsum("ij,ij->i", rows, rows)
    return squares


def _telling(pair: Pair, candidate: Array, count: int, each: int) -> bool:
    """Whether slices of ``each`` elements are large enough that none of ``count`` others fits so well by chance."""
    left = float(np.square(pair.subject - candidate).sum()) / pair.energy
    return each * math.log(1 / math.sqrt(max(left, 1e-14))) > math.log(count) + 5


def _exchanged(word: str, order: Array) -> str:
    """Words for slices that hold those of ``order``."""
    count, here = len(order), np.arange(len(order))
    moved = np.flatnonzero(order != here)
    if (order == order[0]).all():
        return (
            f"every {word} holds the values of {word} {order[0]}"
            if order[0]
            else f"the first {word} for all {plural(word)}"
        )
    if len(moved) == 1:
        return f"{word} {moved[0]} of {count} holds the values of {word} {order[moved[0]]}"
    if len(set(order.tolist())) == count:
        if len(moved) == 2:
            return f"{plural(word)} {moved[0]} and {moved[1]} of {count} are exchanged"
        if (order == here[::-1]).all():
            return f"{plural(word)} are permuted: in reverse order"
        by = (here - order) % count
        if (by == by[0]).all():
            return f"{plural(word)} are permuted: rotated by {by[0] if by[0] <= count / 2 else by[0] - count}"
        return f"{plural(word)} are permuted ({len(moved)} of {count})"
    source = order[moved]
    if (source == source[0]).all():
        return f"{span(word, moved, count)} hold the values of {word} {source[0]}"
    if (np.diff(moved) == 1).all() and (np.diff(source) == 1).all():
        return f"{span(word, moved, count)} hold the values of {plural(word)} {source[0]} to {source[-1]}"
    return f"{span(word, moved, count)} hold the values of other {plural(word)}"


def another_shape(subject: Array, truth: Array, axes: Axes) -> Iterator[tuple[Array, str]]:
    """A tensor of another shape as it may have been meant: its axes in another order, or flattened."""
    if subject.ndim == truth.ndim and subject.ndim <= 4:
        for order in _orders(truth.shape):
            if tuple(truth.shape[axis] for axis in order) == subject.shape:
                yield subject.transpose(np.argsort(order)), _letters(order, axes)
    if subject.size == truth.size:
        yield subject.reshape(truth.shape), "the same values in another shape"


def _letters(order: tuple[int, ...], axes: Axes) -> str:
    if len(order) != 4:
        return "the truth's values, transposed" if len(order) == 2 else f"the truth's axes in the order {order}"
    return f"the truth's values with axes in the order {''.join(LETTERS[axes.activation][axis] for axis in order)}"
