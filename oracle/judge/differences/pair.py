"""A subject's tensor beside the truth's, and when something explains how they differ.

An explanation is a *candidate*: the tensor that the subject would have if the explanation were right. It holds where
three things hold: what it leaves is within a small multiple of the budget, or a hundredth of the squared difference (in
which case the words say how much it explains); it is right nearly everywhere it says that the tensor changed, so that
one large element never speaks for all; and it says that something changed at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# What is left may be so many times the energy that the budget grants: twice its root mean square.
SPARE = 4.0
# If it is more, the explanation may leave this share of the difference's energy, and says what it explains.
UNEXPLAINED = 0.01
# An explanation within the budget still has to explain this share.
LEAST = 0.9
# Of the elements that an explanation moves, at most this share may be somewhere else.
MISPLACED = 0.15
# An element is somewhere else that is off by more than this share of what the explanation moves it.
WRONG = 0.5
# A subject holds float32 or less: what its own rounding leaves is never held against an explanation.
FLOAT32 = 2.0**-23
# Of fewer elements nothing is explained in part.
FEWEST = 8
# What the words of an explanation say that leaves more than the budget.
PARTLY = ", which explains"
# Elements that relations of values are looked for in first; they are confirmed on all.
THIN = 1 << 15
# Elements that an order of axes is looked for in first.
SAMPLE = 1 << 12


@dataclass(frozen=True)
class Axes:
    """What the axes of a tensor are called, and which of them holds the channels.

    Args:
        words: one an axis, singular.
        channel: the axis that has a scale and a shift of its own, ``None`` where there is none.
        activation: whether the axes are those of images.
    """

    words: tuple[str, ...]
    channel: int | None
    activation: bool = False


def axes_of(shape: tuple[int, ...], kind: str | None = None) -> Axes:
    """The axes of a tensor of a ``kind`` of `oracle.trace.KINDS`; without one, a square window of odd size behind many
    slices is taken for a weight's.

    Example:
        >>> axes_of((2, 64, 8, 8)).words, axes_of((64, 64, 3, 3)).words[0], axes_of((2, 10)).words
        (('image', 'channel', 'row', 'column'), 'output channel', ('row', 'column'))
    """
    if len(shape) == 4:
        weight = kind == "parameter_gradient" or (kind is None and _like_weight(shape))
        if weight:
            return Axes(("output channel", "input channel", "row in the window", "column in the window"), 0)
        return Axes(("image", "channel", "row", "column"), 1, True)
    if len(shape) == 2:
        return Axes(("row", "column"), 0 if kind == "parameter_gradient" else 1)
    if len(shape) == 1:
        return Axes(("element",), None)
    return Axes(tuple(f"slice along axis {axis}" for axis in range(len(shape))), 1)


def _like_weight(shape: tuple[int, ...]) -> bool:
    return shape[2] == shape[3] and shape[2] in (1, 3, 5, 7) and shape[0] >= 16


@dataclass(frozen=True)
class Pair:
    """Two tensors of one shape, float64, at least one axis, finite.

    Args:
        subject: the subject's.
        truth: the truth's.
        granted: the mean square that the budget grants an element's difference.
        axes: what the axes are called.
        count: elements a channel of the whole tensor (a part of it, or a thinned one, keeps the whole's).
        whole: whether it is the whole tensor.
    """

    subject: Array
    truth: Array
    granted: float
    axes: Axes
    count: int = 0
    whole: bool = field(default=True)

    @cached_property
    def difference(self) -> Array:
        """Subject less truth."""
        return self.subject - self.truth

    @cached_property
    def energy(self) -> float:
        """The sum of the squared difference."""
        return energy(self.difference)

    @cached_property
    def norm(self) -> float:
        """The sum of the squared truth."""
        return energy(self.truth)

    @cached_property
    def variation(self) -> float:
        """The sum of the squared deviations of the subject from its mean, where the truth has any. What explains less
        than this says no more than that the subject is nearly constant."""
        return energy(self.subject - self.subject.mean() if np.ptp(self.truth) > 0 else self.subject)

    @property
    def allowed(self) -> float:
        """The energy that the budget grants the difference."""
        return self.granted * self.truth.size

    @property
    def quiet(self) -> float:
        """What a healthy element may differ by: a few times what the budget grants on average."""
        return 4 * math.sqrt(self.granted)

    @property
    def is_over(self) -> bool:
        """Whether the difference as a whole is well over the budget. If it is not (one element alone is), the budget
        explains anything and is no measure."""
        return self.energy > SPARE * self.allowed

    @cached_property
    def places(self) -> Array:
        """Flat places of elements to try an explanation on: some at random, and some that differ."""
        if self.truth.size <= SAMPLE:
            return np.arange(self.truth.size)
        some = np.random.default_rng(0).integers(0, self.truth.size, SAMPLE)
        apart = np.flatnonzero(np.abs(self.difference.reshape(-1)) > self.quiet)
        return np.union1d(some, apart[:: 1 + apart.size // SAMPLE])

    def part(self, where: tuple[Any, ...]) -> Pair:
        """The same for a part of the tensor (basic indices that keep every axis)."""
        return Pair(self.subject[where], self.truth[where], self.granted, self.axes, self.count, False)

    @cached_property
    def thin(self) -> Pair:
        """A part small enough to try many explanations on: every third, fifth, ... row and column."""
        where: list[Any] = [slice(None)] * self.truth.ndim
        left = self.truth.size
        for axis in [axis for axis in range(self.truth.ndim - 1, -1, -1) if axis != self.axes.channel]:
            step = max(1, min(self.truth.shape[axis] // 3, -(-left // THIN))) | 1  # odd: no pattern of tiles
            if left > THIN and step > 1:
                where[axis] = slice(None, None, step)
                left = left // step
        return self if left == self.truth.size else self.part(tuple(where))

    def explained(self, candidate: Array, freedom: float = 0.0) -> str | None:
        """Whether ``candidate`` explains the subject: ``None`` if not, "" if it leaves no more than the budget, or the
        words that say how much it explains.

        Args:
            candidate: what the subject would be.
            freedom: how many numbers of the explanation were fitted; what few elements can say is not said.
        """
        if self.truth.size < 2 * freedom or self.energy == 0.0:
            return None
        rest = self.subject - candidate
        left = energy(rest)
        share = left / min(self.energy, self.variation) if self.variation > 0.0 else math.inf
        suffix = self._words(left, share, candidate)
        if suffix is None or not self._reaches(candidate, rest):
            return None
        return suffix

    def _words(self, left: float, share: float, candidate: Array) -> str | None:
        if left <= SPARE * max(self.allowed, FLOAT32**2 * energy(candidate)):
            return "" if share <= (1 - LEAST if self.is_over else UNEXPLAINED) else None
        if self.truth.size < FEWEST:
            return None
        return f"{PARTLY} {_percent(share)} of the squared difference" if share <= UNEXPLAINED else None

    def _reaches(self, candidate: Array, rest: Array) -> bool:
        """Whether the candidate is right at nearly all elements that it moves, not only at the large ones."""
        moved = np.abs(candidate - self.truth)
        counted = moved > self.quiet / 2
        count = int(np.count_nonzero(counted))
        allowed = np.maximum(np.maximum(self.quiet, WRONG * moved), FLOAT32 * np.abs(candidate))
        misplaced = int(np.count_nonzero(counted & (np.abs(rest) > allowed)))
        return count > 0 and misplaced <= MISPLACED * count


def _percent(left: float) -> str:
    """The share that is explained, never rounded up to all of it.

    Example:
        >>> _percent(0.004), _percent(1e-9)
        ('99.6 %', '99.99 %')
    """
    return f"{math.floor(1e4 * (1 - left)) / 100:.4g} %" if left >= 1e-4 else "99.99 %"


def best(explanations: Iterable[str]) -> str:
    """The first that explains all but what the budget grants; if none does, the first that explains nearly all.

    Example:
        >>> best(["", f"a factor{PARTLY} 99.4 % of the squared difference", "a sign"])
        'a sign'
    """
    partly = ""
    for each in explanations:
        if each and PARTLY not in each:
            return each
        partly = partly or each
    return partly


def plural(word: str) -> str:
    """More than one of what an axis is called.

    Example:
        >>> plural("channel"), plural("row in the window")
        ('channels', 'rows in the window')
    """
    head, where = _split(word)
    return f"{head}s{where}"


def _split(word: str) -> tuple[str, str]:
    """What an axis is called, and where."""
    for between in (" in ", " along "):
        head, found, tail = word.partition(between)
        if found:
            return head, f"{between}{tail}"
    return word, ""


def span(word: str, places: Array, count: int) -> str:
    """Words for some places along an axis.

    Example:
        >>> span("channel", np.arange(508, 512), 512), span("row in the window", np.array([0, 1]), 3)
        ('channels 508 to 511 of 512', 'rows 0 to 1 of 3 in the window')
        >>> span("channel", np.array([5]), 64), span("channel", np.array([1, 5, 6, 8, 9]), 64)
        ('one channel of 64: 5', '5 channels of 64: 1, 5, 6, 8 and more')
    """
    places, (word, where) = np.asarray(places), _split(word)
    if len(places) == 1:
        return f"one {word} of {count}{where}: {places[0]}"
    steps = np.diff(places)
    if (steps == 1).all():
        return f"{word}s {places[0]} to {places[-1]} of {count}{where}"
    if len(places) > 2 and (steps == steps[0]).all():
        nth = {2: "2nd", 3: "3rd"}.get(int(steps[0]), f"{steps[0]}th")
        return f"every {nth} {word} of {count}{where}, from {places[0]} to {places[-1]}"
    shown = ", ".join(map(str, places[:4])) + (" and more" if len(places) > 4 else "")
    return f"{len(places)} {word}s of {count}{where}: {shown}"


def energy(array: Array) -> float:
    """The sum of squares."""
    flat = array.reshape(-1)
    return float(np.dot(flat, flat))


def number(value: float, digits: int = 4) -> str:
    """A number for a sentence: with ``digits`` digits, and near 1 with as many as show how far from it.

    Example:
        >>> number(0.999023), number(1.01), number(1024.0), number(1 - 2.0**-20)
        ('0.99902', '1.01', '1024', '0.99999905')
    """
    apart = abs(value - 1)
    if 1e-12 < apart < 0.01:
        return f"{value:.{1 - math.floor(math.log10(apart))}f}".rstrip("0")
    return f"{value:.{digits}g}"
