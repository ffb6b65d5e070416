"""Where a difference lies, if it lies in a part of the tensor alone: an element, slices, a border, a tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oracle.judge.differences.pair import FLOAT32, SPARE, Array, Pair, energy, number, span

# An element counts as changed above what is healthy; if that marks too much, above these shares of the largest.
SHARES = (0.0, 1e-3, 1e-2)
# Outside of its place, a difference keeps at most this share of its energy, or the budget.
OUTSIDE = 0.01
# A part of an axis is at most this share of it, or a run that leaves out something that counts.
PART = 0.5
RUN = 0.9
# Places that follow no rule are a part where there are so few, or an eighth of the axis.
FEW = 4
COUNTS = 0.02
# A place is a box of which at least this share differs; below, elements are counted.
DENSE = 0.25
# Elements that are listed one by one.
LISTED = 3
# Borders are at most so many rows or columns, or this share.
BORDER, BORDER_SHARE = 2, 0.25


@dataclass(frozen=True)
class Place:
    """A part of a tensor.

    Args:
        words: what it is called.
        sets: along each axis, where it is touched.
        count: how many elements differ.
        dense: whether it is a box that is filled, so that something can be said of all of it.
    """

    words: str
    sets: Sequence[Array]
    count: int
    dense: bool

    def of(self, array: Array) -> Array:
        """That part of a tensor."""
        return array[np.ix_(*self.sets)]


def find(pair: Pair, strict: bool = False) -> Place | None:
    """The place of a difference, ``None`` where it is all over the tensor.

    Args:
        pair: the subject and the truth.
        strict: whether all outside has to be within the budget.
    """
    most_outside = SPARE * pair.allowed if strict else max(pair.allowed, OUTSIDE * pair.energy)
    size = np.abs(pair.difference)
    most = float(size.max())
    floor = max(pair.quiet, FLOAT32 * most)
    for part in SHARES:
        changed = size > max(floor, part * most)
        outside = pair.energy - float(np.square(pair.difference[changed]).sum())
        if not changed.any() or outside > max(most_outside, FLOAT32**2 * pair.norm):
            return None
        found = place_of(changed, pair)
        if found is not None:
            return found
    return None


def place_of(changed: Array, pair: Pair) -> Place | None:
    """The place of the elements that are marked."""
    words = pair.axes.words
    shape, count = changed.shape, int(np.count_nonzero(changed))
    sets = [_touched(changed, axis) for axis in range(changed.ndim)]
    if count <= LISTED and count < changed.size:
        at = [f"({', '.join(map(str, each))})" for each in np.argwhere(changed).tolist()]
        text = f"one element, at {at[0]}" if count == 1 else f"{count} elements, at {' and '.join(at)}"
        if changed.ndim == 1 or count == 1 or _hull(sets) > count:
            return Place(text, sets, count, count == 1)
    parts = [_is_part(sets[axis], shape[axis], axis, pair) for axis in range(changed.ndim)]
    if not any(parts):
        return _frame(changed, sets, count, pair)
    text = "".join(_image(sets, parts, shape)) if pair.axes.activation else ""
    rest = [axis for axis, part in enumerate(parts) if part and not (text and axis >= 2)]
    spans = [span(words[axis], sets[axis], shape[axis]) for axis in reversed(rest)]
    text = ", ".join([*([text] if text else []), *spans])
    if count < DENSE * _hull(sets):
        return Place(f"{count} elements of {changed.size}, within {text}", sets, count, False)
    return Place(text, sets, count, True)


def _touched(changed: Array, axis: int) -> Array:
    return np.flatnonzero(changed.any(tuple(each for each in range(changed.ndim) if each != axis)))


def _hull(sets: Sequence[Array]) -> int:
    return math.prod(len(each) for each in sets)


def _is_part(places: Array, count: int, axis: int, pair: Pair) -> bool:
    """Whether the touched places are a part of the axis worth naming."""
    if len(places) == count:
        return False
    if len(places) <= PART * count:
        return len(places) <= max(FEW, count / 8) or len(set(np.diff(places).tolist())) == 1
    run = places[-1] - places[0] + 1 == len(places)
    if not run or len(places) > RUN * count:
        return False
    left_out = np.setdiff1d(np.arange(count), places)
    return energy(np.take(pair.truth, left_out, axis)) > COUNTS * pair.norm


def _image(sets: Sequence[Array], parts: Sequence[bool], shape: Sequence[int]) -> Iterator[str]:
    """Words for the part of an image."""
    edges = {2: ("top", "bottom", "row"), 3: ("left", "right", "column")}
    named = [axis for axis in (2, 3) if parts[axis]]
    if len(named) == 2 and all(np.ptp(sets[axis]) + 1 == len(sets[axis]) for axis in named):
        yield f"one tile, {_range('row', sets[2])}, {_range('column', sets[3])}"
        return
    for axis in named:
        places, count = sets[axis], shape[axis]
        first, last, word = edges[axis]
        run = np.ptp(places) + 1 == len(places) and count > 2
        edge = first if places[0] == 0 else last if places[-1] == count - 1 else ""
        if run and edge and len(places) <= max(BORDER, BORDER_SHARE * count):
            yield f"the {edge} border, {_range(word, places)}"
        else:
            yield span(word, places, count)
        if axis != named[-1]:
            yield ", "


def _range(word: str, places: Array) -> str:
    return f"{word} {places[0]}" if len(places) == 1 else f"{word}s {places[0]} to {places[-1]}"


def _frame(changed: Array, sets: Sequence[Array], count: int, pair: Pair) -> Place | None:
    """The border all around, the inside untouched; or a few elements here and there."""
    if pair.axes.activation and min(changed.shape[2:]) > 2 and not changed[..., 1:-1, 1:-1].any():
        return Place("the border alone: padding?", sets, count, False)
    if count <= 0.1 * changed.size:
        return Place(f"{count} elements of {changed.size}", sets, count, False)
    return None


# -- what is there ----------------------------------------------------------------------------------------------------


def describe_place(
    pair: Pair, place: Place, values: Callable[[Pair], str], others: Mapping[str, Array] | None = None
) -> str:
    """The place, and what became of the values there."""
    if place.count == 1:
        return _element(pair, place)
    s = place.of(pair.subject)
    if not place.dense:
        return _scattered(pair, place)
    if not s.any():
        return f"zeros in {place.words}"
    inner = Pair(s, place.of(pair.truth), pair.granted, pair.axes, pair.count, False)
    text = _unwritten(place, inner, others or {}) or _copied(pair, place, inner) or values(inner) or _garbage(pair, s)
    return f"{place.words} ({text})" if text else place.words


def _scattered(pair: Pair, place: Place) -> str:
    changed = np.abs(pair.difference) > max(pair.quiet, FLOAT32 * float(np.abs(pair.difference).max()))
    if not pair.subject[changed].any():
        return f"zeros in {place.words}"
    if place.count > LISTED:
        return place.words
    apart = " and ".join(f"{each:.3g}" for each in pair.difference[changed])
    return f"{place.words}, off by {apart}"


def _element(pair: Pair, place: Place) -> str:
    at = tuple(int(each[0]) for each in place.sets)
    s, t = float(pair.subject[at]), float(pair.truth[at])
    bit = _flipped(s, t, pair.quiet)
    return f"{place.words}: {s:.4g}, truth {t:.4g}" + (f" ({bit} flipped?)" if bit else "")


def _flipped(s: float, t: float, quiet: float) -> str:
    """Which one bit of a float32, the other way, makes the subject's value the truth's."""
    if t == 0.0 or quiet > 1e-3 * abs(t) or abs(s) > 3e38:
        return ""
    bits = np.float32(s).view(np.uint32)
    with np.errstate(all="ignore"):
        fits = [
            bit
            for bit in range(32)
            if abs(float((bits ^ np.uint32(1 << bit)).view(np.float32)) - t) <= max(quiet, 1e-6 * abs(t))
        ]
    if len(fits) != 1:
        return ""
    return "the sign bit" if fits[0] == 31 else f"bit {fits[0]} of float32"


def _copied(pair: Pair, place: Place, inner: Pair) -> str:
    """Whether the place holds the truth's values of a place beside it."""
    for axis, places in enumerate(place.sets):
        count = pair.truth.shape[axis]
        if len(places) == count or inner.truth.size < 4:
            continue
        for step in dict.fromkeys((-len(places), len(places), -1, 1)):
            source = places + step
            if source[0] < 0 or source[-1] >= count:
                continue
            sets = [source if each == axis else indices for each, indices in enumerate(place.sets)]
            suffix = inner.explained(pair.truth[np.ix_(*sets)], 1)
            if suffix is not None:
                where = span(pair.axes.words[axis], source, count)
                return f"the values of {where}{suffix}"
        for source in (places[0] - 1, places[-1] + 1):
            if 0 <= source < count and len(places) > 1 and inner.truth.size >= 4 * len(places):
                sets = [np.array([source]) if each == axis else indices for each, indices in enumerate(place.sets)]
                suffix = inner.explained(np.broadcast_to(pair.truth[np.ix_(*sets)], inner.truth.shape))
                if suffix is not None:
                    return f"all hold the values of {pair.axes.words[axis]} {source}{suffix}"
    return ""


def _unwritten(place: Place, inner: Pair, others: Mapping[str, Array]) -> str:
    """Whether the place holds another tensor's values: an input's, where the operation left it as it was."""
    for name, other in others.items():
        if np.ndim(other) == len(place.sets) and all(
            len(indices) and indices[-1] < size for indices, size in zip(place.sets, np.shape(other), strict=False)
        ):
            suffix = inner.explained(place.of(np.asarray(other, np.float64)))
            if suffix is not None:
                return f"the values of {name} there{suffix}"
    return ""


def _garbage(pair: Pair, s: Array) -> str:
    """What memory looks like that nobody wrote."""
    size, scale = np.abs(s), math.sqrt(pair.norm / pair.truth.size)
    strange = (size > 1e6 * scale) | ((size > 0) & (size < 1e-30))
    if np.count_nonzero(strange) < 0.1 * s.size:
        return ""
    return f"values up to {number(float(size.max()), 2)}: memory that was never written?"
