"""What kind of difference it is: words that send whoever debugs a kernel to the right place.

A difference that is everywhere is explained by what it is (a sign, a factor, a shift, another layout, coarser
rounding); one that is in few places by where it is (an element, a tile, a border, a channel, an image). The first
explanation that leaves no more than the budget, or a small share of the difference, is given; if none does, only how
far it extends.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from oracle.compare import Budget

Array = np.ndarray[Any, Any]

# An explanation holds where it leaves at most this share of the difference's root mean square.
EXPLAINED = 0.1
# A difference is in one place where that place holds all but this share of its energy.
ELSEWHERE = 1e-3
# A tile is a rectangle of at most this share of the image.
TILE = 0.5
# Rounding to a coarser format leaves these unit roundoffs (root mean square over the truth's own).
COARSER = (("TF32", 2.0**-11), ("float16", 2.0**-11), ("bfloat16", 2.0**-8))
# Permutations of channels are looked for where there are at most so many.
MOST_CHANNELS = 2048


def describe(subject: Array, truth: Array, budget: Budget) -> str:
    """What kind of difference lies between two tensors of one shape; "" where it cannot be told.

    Args:
        subject: the subject's tensor.
        truth: the truth's.
        budget: what a healthy subject may have there, over the truth's root mean square.

    Example:
        >>> truth = np.arange(1.0, 257.0).reshape(1, 4, 8, 8)
        >>> describe(-truth, truth, Budget(1e-6)), describe(truth * 1.01, truth, Budget(1e-6))
        ('the sign is reversed', 'a constant factor of 1.01')
        >>> broken = truth.copy()
        >>> broken[0, 2] += 1
        >>> describe(broken, truth, Budget(1e-6))
        'one channel of 4: 2'
    """
    if subject.shape != truth.shape or subject.size == 0:
        return ""
    subject, truth = np.atleast_1d(np.asarray(subject, np.float64)), np.atleast_1d(np.asarray(truth, np.float64))
    if not np.isfinite(subject).all():
        return _not_finite(subject)
    difference = subject - truth
    energy = float(np.square(difference).sum())
    if energy == 0.0 or not math.isfinite(energy):
        return ""
    allowed = _allowed(truth, budget)
    changed = _changed(difference, allowed)
    place = _place(changed, difference, energy, subject)
    if place and not place.startswith("all"):
        return place
    return _relation(subject, truth, energy, allowed) or place


def _allowed(truth: Array, budget: Budget) -> float:
    """The whole difference's energy that the budget grants."""
    granted = budget.rms if math.isfinite(budget.rms) else 0.0
    return granted**2 * float(np.square(truth).sum())


def _not_finite(subject: Array) -> str:
    nan, infinite = np.isnan(subject), np.isinf(subject)
    what = " and ".join(word for word, there in (("NaN", nan.any()), ("infinity", infinite.any())) if there)
    where = _where(nan | infinite)
    return f"{what} appears in {where}" if where else f"{what} appears"


def _changed(difference: Array, allowed: float) -> Any:
    """Which elements differ by more than rounding: those above a hundredth of the largest difference, if the rest is
    within the budget or next to nothing."""
    size = np.abs(difference)
    quiet = math.sqrt(allowed / max(1, difference.size)) * 4
    changed: Array = size > max(quiet, 0.01 * float(size.max()))
    return changed


# -- where ------------------------------------------------------------------------------------------------------------


def _place(changed: Any, difference: Array, energy: float, subject: Array) -> str:
    outside = float(np.square(np.where(changed, 0.0, difference)).sum())
    if not changed.any() or outside > 0.05 * energy:
        return "all elements"
    where = _where(changed)
    if where and not where.startswith("all") and not np.any(subject[changed]):
        return f"zeros in {where}"
    return where


def _where(changed: Any) -> str:
    """Words for where the elements lie that are marked."""
    count, size = int(np.count_nonzero(changed)), changed.size
    if count == 0:
        return ""
    if count == 1 and size > 1:
        return f"one element, at {tuple(int(place[0]) for place in np.nonzero(changed))}"
    if changed.ndim == 4:
        return _in_images(changed)
    for axis, word in ((1, "column"), (0, "row")):
        if changed.ndim == 2 and changed.shape[axis] > 1:
            told = _along(changed, axis, word)
            if told:
                return told
    return "all elements" if count > size / 2 else f"{count} elements of {size}"


def _in_images(changed: Any) -> str:
    images = changed.shape[0]
    touched_images = changed.any((1, 2, 3))
    touched_channels = changed.any((0, 2, 3))
    plane = changed.any((0, 1))
    area = _area(plane)
    if images > 1 and touched_images.sum() == 1 and changed.mean() > 0.2 / images:
        return f"one image of {images}: {int(touched_images.argmax())}"
    if area and not area.startswith("all"):
        return area + _some(touched_channels, "channel")
    few = _some(touched_channels, "channel", "").removeprefix(", ")
    return few or ("all elements" if changed.mean() > 0.25 else f"{int(changed.sum())} elements of {changed.size}")


def _some(touched: Any, word: str, every: str = "") -> str:
    """Which of a few channels are touched."""
    places = np.flatnonzero(touched)
    if len(places) == 1 and len(touched) > 1:
        return f", one {word} of {len(touched)}: {places[0]}" if every == "" else every
    if len(places) <= max(1, len(touched) // 2) and len(touched) > 1:
        if places[-1] - places[0] + 1 == len(places):
            return f", {word}s {places[0]} to {places[-1]} of {len(touched)}"
        shown = ", ".join(map(str, places[:4])) + (" and more" if len(places) > 4 else "")
        return f", {len(places)} {word}s of {len(touched)}: {shown}"
    return every


def _area(plane: Any) -> str:
    """What part of the image is touched: a border, a tile, or all."""
    height, width = plane.shape
    if height * width == 1:
        return ""
    rows, columns = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    if right - left + 1 == width and bottom - top + 1 <= height * TILE:
        edge = "top" if top == 0 else ("bottom" if bottom == height - 1 else "")
        return f"the {edge} border, rows {top} to {bottom}" if edge else f"rows {top} to {bottom}"
    if bottom - top + 1 == height and right - left + 1 <= width * TILE:
        edge = "left" if left == 0 else ("right" if right == width - 1 else "")
        return f"the {edge} border, columns {left} to {right}" if edge else f"columns {left} to {right}"
    if min(height, width) > 2 and not plane[1:-1, 1:-1].any():
        return "the border"
    if (bottom - top + 1) * (right - left + 1) <= TILE * height * width:
        return f"one tile, rows {top} to {bottom}, columns {left} to {right}"
    return "all"


def _along(changed: Any, axis: int, word: str) -> str:
    touched = changed.any(1 - axis)
    places = np.flatnonzero(touched)
    if len(places) == 1:
        return f"one {word} of {len(touched)}: {places[0]}"
    return ""


# -- what -------------------------------------------------------------------------------------------------------------


def _relation(subject: Array, truth: Array, energy: float, allowed: float) -> str:
    """How the whole tensor follows from the truth's."""
    # Where the whole is within the budget (one element alone is over), the budget explains anything: it is no measure.
    enough = EXPLAINED**2 * energy if allowed > energy / 4 else max(allowed, EXPLAINED**2 * energy)

    def explains(candidate: Array) -> bool:
        return float(np.square(subject - candidate).sum()) <= enough

    if not subject.any():
        return "all zeros"
    if explains(-truth):
        return "the sign is reversed"
    norm = float(np.square(truth).sum())
    if norm > 0:
        factor = float((subject * truth).sum()) / norm
        if f"{factor:.4g}" != "1" and explains(factor * truth):
            return f"a constant factor of {factor:.4g}"
    shift = float((subject - truth).mean())
    if explains(truth + shift):
        return f"a constant shift of {shift:.3g}"
    told = _rearranged(subject, truth, explains) or _by_channel(subject, truth, explains)
    return told or _coarser(energy, norm)


def _rearranged(subject: Array, truth: Array, explains: Any) -> str:
    for axes, words in _axes(truth):
        if truth.shape[axes[0]] == truth.shape[axes[1]] and explains(np.swapaxes(truth, *axes)):
            return words
    if truth.ndim == 4:
        moved = np.ascontiguousarray(truth.transpose(0, 2, 3, 1)).reshape(truth.shape)
        if explains(moved):
            return "NHWC read as NCHW"
        for axis, words in ((2, "upside down"), (3, "left and right exchanged"), ((2, 3), "turned by half")):
            if explains(np.flip(truth, axis)):
                return words
        for axis, step in itertools.product((2, 3), (-1, 1)):
            if explains(np.roll(truth, step, axis)):
                return f"shifted by one {'row' if axis == 2 else 'column'}"
    for axis, word in ((1, "channels"), (0, "images")):
        if truth.ndim > axis and truth.ndim != 1 and _permuted(subject, truth, axis, explains):
            return f"{word} are permuted"
    return ""


def _axes(truth: Array) -> Iterator[tuple[tuple[int, int], str]]:
    if truth.ndim == 4:
        yield (2, 3), "rows and columns are transposed"
        yield (0, 1), "the first two axes are transposed"
    elif truth.ndim == 2:
        yield (0, 1), "transposed"


def _permuted(subject: Array, truth: Array, axis: int, explains: Any) -> bool:
    """Whether slices along ``axis`` are the truth's in another order: each is matched by its own sums."""
    count = truth.shape[axis]
    if not 2 <= count <= MOST_CHANNELS:
        return False
    ours, theirs = (np.moveaxis(each, axis, 0).reshape(count, -1) for each in (subject, truth))
    order = np.argmax(ours @ theirs.T / np.maximum(np.linalg.norm(theirs, axis=1), 1e-300), axis=1)
    return len(set(order.tolist())) > count / 2 and explains(np.take(truth, order, axis))


def _by_channel(subject: Array, truth: Array, explains: Any) -> str:
    """A factor or a shift of each channel's own."""
    if truth.ndim != 4 or truth.shape[0] * truth.shape[2] * truth.shape[3] < 4:
        return ""
    axes = (0, 2, 3)
    norms = np.square(truth).sum(axes, keepdims=True)
    factors = (subject * truth).sum(axes, keepdims=True) / np.where(norms > 0, norms, 1.0)
    if explains(factors * truth):
        return f"each channel by a factor of its own, {factors.min():.4g} to {factors.max():.4g}"
    if explains(truth + (subject - truth).mean(axes, keepdims=True)):
        return "each channel shifted by its own constant"
    return ""


def _coarser(energy: float, norm: float) -> str:
    """Whether the difference has the size that rounding to a lower precision leaves."""
    if norm == 0.0:
        return ""
    relative = math.sqrt(energy / norm)
    for name, unit in COARSER:
        if unit / 8 <= relative <= 2 * unit:
            names = "TF32 or float16" if name == "TF32" else name
            return f"all elements, by as much as rounding to {names} leaves"
    return ""
