"""What happened to each value: a sign, a factor, a shift, a side cut off, a mask, a ceiling, a coarser grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from oracle.judge.differences.pair import FLOAT32, SPARE, Array, Pair, best, energy, number
from oracle.precision.rounding import round_to

Kind = Callable[[Pair], str]


# -- one rule for all elements ----------------------------------------------------------------------------------------


def zeros(pair: Pair) -> str:
    """Nothing was written."""
    return "all zeros" if not pair.subject.any() else ""


def constant(pair: Pair) -> str:
    """One value everywhere."""
    first = pair.subject.flat[0]
    if pair.subject.size < 3 or not np.ptp(pair.truth) > 0 or not (pair.subject == first).all():
        return ""
    return f"one value everywhere, {first:.4g}"


def sign(pair: Pair) -> str:
    """``-truth``."""
    suffix = pair.explained(-pair.truth)
    return "" if suffix is None else f"the sign is reversed{suffix}"


def factor(pair: Pair) -> str:
    """``a truth``; ``a = sqrt((M - 1) / M)`` is what an unbiased variance of M elements makes of a normalisation."""
    if pair.norm == 0.0 or pair.truth.size < 2:
        return ""
    a = float(np.vdot(pair.subject, pair.truth)) / pair.norm
    suffix = pair.explained(a * pair.truth, 1)
    if suffix is None:
        return ""
    many = pair.count
    if pair.axes.activation and many > 1 and abs((1 - a * a) * many - 1) < 0.02:
        return f"a factor of sqrt((M - 1) / M), {number(a)} with M = {many}: unbiased variance?{suffix}"
    return f"a constant factor of {number(a)}{suffix}"


def shift(pair: Pair) -> str:
    """``truth + b``."""
    if pair.truth.size < 2:
        return ""
    b = float(pair.difference.mean())
    suffix = pair.explained(pair.truth + b, 1)
    return "" if suffix is None else f"a constant shift of {b:.3g}{suffix}"


def affine(pair: Pair) -> str:
    """``a truth + b``."""
    if pair.truth.size < 6:
        return ""
    centred = pair.truth - pair.truth.mean()
    norm = energy(centred)
    if norm == 0.0:
        return ""
    a = float(np.vdot(pair.subject, centred)) / norm
    b = float(pair.subject.mean() - a * pair.truth.mean())
    suffix = pair.explained(a * pair.truth + b, 2)
    return "" if suffix is None else f"a factor of {number(a)} and a shift of {b:.3g}{suffix}"


# -- sides ------------------------------------------------------------------------------------------------------------


def cut(pair: Pair) -> str:
    """``max(truth, 0)`` and its relatives, where the truth has both sides."""
    t = pair.truth
    if not (t.min() < -pair.quiet and t.max() > pair.quiet):
        return ""
    return best(_sides(pair))


def _sides(pair: Pair) -> Iterator[str]:
    t = pair.truth
    for candidate, words in (
        (np.maximum(t, 0), "the negative part is cut: a ReLU in place?"),
        (np.minimum(t, 0), "the positive part is cut"),
        (np.abs(t), "the sign of the negative part is lost: the absolute value"),
    ):
        yield _say(words, pair.explained(candidate))
    for side, words in ((t < 0, "negative"), (t > 0, "positive")):
        slope = float(np.vdot(pair.subject[side], t[side])) / energy(t[side])
        suffix = pair.explained(np.where(side, slope * t, t), 1)
        yield _say(f"the {words} side by a slope of {number(slope)}, the other side right", suffix)


def _say(words: str, suffix: str | None) -> str:
    return "" if suffix is None else words + suffix


def mask(pair: Pair) -> str:
    """Elements that are zero on one of the two sides and not on the other, all others right: what a ReLU, its mask or
    a pooling decides."""
    t, s = pair.truth, pair.subject
    dead, zeroed = t == 0, (s == 0) & (np.abs(t) > pair.quiet)
    passed = dead & (np.abs(s) > pair.quiet)
    apart = zeroed | passed
    if np.count_nonzero(apart) < 4 or energy(np.where(apart, 0.0, pair.difference)) > _rest(pair):
        return ""
    dead_count, live_count = int(np.count_nonzero(dead)), int(np.count_nonzero(~dead))
    many, lost = int(np.count_nonzero(passed)), int(np.count_nonzero(zeroed))
    if many and not lost and many >= 0.8 * dead_count and live_count:
        return _passed(s, t, passed)
    if many and lost:
        if many >= 0.8 * dead_count and lost >= 0.8 * live_count:
            return "zeros where the truth has values, and values where it has zeros: an inverted mask?"
        if pair.whole and t.ndim == 4 and pair.axes.activation:
            for other, words in _other_masks(t != 0):
                if np.count_nonzero((s != 0) != other) <= 0.01 * many:
                    return f"right but for {words}"
        return (
            f"zeros at {lost} elements where the truth has values, values at {many} where it has zeros, "
            "all others right: another mask?"
        )
    return _small(pair, zeroed) if lost and not many else ""


def _other_masks(mask: Array) -> Iterator[tuple[Array, str]]:
    """The masks that images may have been given instead of their own."""
    if len(mask) > 1:
        yield np.broadcast_to(mask[:1], mask.shape), "its mask, which is the first image's for all images"
        yield mask[::-1], "its mask, which is another image's (in reverse order)"
        yield np.roll(mask, 1, 0), "its mask, which is that of the image before"
        yield np.roll(mask, -1, 0), "its mask, which is that of the image behind"


def _rest(pair: Pair) -> float:
    return max(4 * pair.allowed, 1e-6 * pair.energy)


def _passed(s: Array, t: Array, passed: Array) -> str:
    """A ReLU's output, or a gradient behind one, with values where it should have zeros."""
    if (s[passed] < 0).all() and (t >= 0).all():
        ratio = math.sqrt(energy(s[passed]) / np.count_nonzero(passed) / (energy(t) / np.count_nonzero(t)))
        if ratio < 0.5:
            return f"the negative side passes, by a slope of about {ratio:.1g} (by the sizes of the two sides)"
        return "the negative side passes: no ReLU?"
    return "values where the truth has zeros, right elsewhere: a missing mask?"


# What formats cannot hold, or hold as subnormal numbers.
SMALLEST = (
    (2.0**-126, "float32's and bfloat16's smallest normal number"),
    (2.0**-14, "float16's smallest normal number"),
    (2.0**-25, "half of float16's smallest number"),
)


def dropped(pair: Pair) -> str:
    """Some elements zero, the others by a factor: what a dropout that was left on makes."""
    s, t = pair.subject, pair.truth
    zeroed = (s == 0) & (np.abs(t) > pair.quiet)
    share = float(zeroed.sum() / max(1, int((t != 0).sum())))
    if not 0.02 < share < 0.9:
        return ""
    kept = np.where(zeroed, 0.0, t)
    norm = energy(kept)
    a = float(np.vdot(s, kept)) / norm if norm > 0 else 0.0
    left = energy(s - a * kept)
    if a < 1.005 or abs(a * (1 - share) - 1) > 0.1 or left > SPARE * max(pair.allowed, FLOAT32**2 * pair.norm):
        return ""
    return f"{100 * share:.2g} % of the elements are zero, the others by a factor of {number(a)}: a dropout?"


def _small(pair: Pair, zeroed: Array) -> str:
    """Zeros below a threshold, values above."""
    size = np.abs(pair.truth)
    most = float(size[zeroed].max())
    live = pair.subject != 0
    least = float(size[live].min()) if live.any() else math.inf
    if most > least:
        return ""
    for limit, words in SMALLEST:
        if most <= limit * 1.01 and least >= limit * 0.99:
            return f"values below {limit:.3g} ({words}) are zero: flushed?"
    return f"values below {most:.3g} are zero, those above right"


def clamped(pair: Pair) -> str:
    """``clip(truth, least, most)``."""
    least, most = float(pair.subject.min()), float(pair.subject.max())
    over, under = (int(np.count_nonzero(pair.truth > most + pair.quiet)), int((pair.truth < least - pair.quiet).sum()))
    at_most, at_least = int((pair.subject == most).sum()), int((pair.subject == least).sum())
    sides = []
    low, high = -math.inf, math.inf
    if over and at_most >= max(over, 2):
        high = most
        sides.append(f"above {most:.4g}")
    if under and at_least >= max(under, 2):
        low = least
        sides.append(f"below {least:.4g}")
    if not sides or least == most:
        return ""
    suffix = pair.explained(np.clip(pair.truth, low, high))
    return "" if suffix is None else f"values {' and '.join(sides)} are cut off: saturated?{suffix}"


# -- one rule a channel -----------------------------------------------------------------------------------------------


# A rule for each channel is told where more than this share of them is touched; fewer are a place.
FEW = 0.5


def by_slice(pair: Pair) -> str:
    """A factor, a shift, or both, of each channel's own or each image's; "" where few are touched: that is a place."""
    axes = dict.fromkeys((pair.axes.channel, 0, 1))
    return best(_by_slice(pair, axis) for axis in axes if axis is not None and axis < pair.truth.ndim > 1)


def _by_slice(pair: Pair, axis: int) -> str:
    others = tuple(each for each in range(pair.truth.ndim) if each != axis)
    count, each = pair.truth.shape[axis], pair.truth.size // pair.truth.shape[axis]
    if each < 2 or count < 2:
        return ""
    s, t = pair.subject, pair.truth
    touched = np.square(pair.difference).mean(others) > max(SPARE * pair.granted, FLOAT32**2 * pair.norm / t.size)
    if np.count_nonzero(touched) <= FEW * count:
        return ""
    squares = np.square(t).sum(others, keepdims=True)
    factors = (s * t).sum(others, keepdims=True) / np.where(squares > 0, squares, 1.0)
    suffix = pair.explained(factors * t, count)
    if suffix is not None and squares.any():
        return _factors(pair, axis, factors.reshape(-1)[squares.reshape(-1) > 0], "", suffix)
    suffix = pair.explained(t + pair.difference.mean(others, keepdims=True), count)
    if suffix is not None:
        hint = ": a mean or a bias?" if axis == pair.axes.channel else ""
        return f"each {pair.axes.words[axis]} shifted by a constant of its own{hint}{suffix}"
    centred = t - t.mean(others, keepdims=True)
    spread = np.square(centred).sum(others, keepdims=True)
    slopes = (s * centred).sum(others, keepdims=True) / np.where(spread > 0, spread, 1.0)
    shifts = s.mean(others, keepdims=True) - slopes * t.mean(others, keepdims=True)
    suffix = pair.explained(slopes * t + shifts, 2 * count) if each >= 6 else None
    if suffix is None and each >= 6 and axis == pair.axes.channel:
        return _behind_relu(pair, axis, others)
    return (
        ""
        if suffix is None or not spread.any()
        else _affine(pair, axis, slopes.reshape(-1)[spread.reshape(-1) > 0], suffix)
    )


def _behind_relu(pair: Pair, axis: int, others: tuple[int, ...]) -> str:
    """The same for what a ReLU cut afterwards: a channel's factor and shift show where both are positive, and what was
    cut from the truth may appear up to the shift."""
    s, t = pair.subject, pair.truth
    if s.min() < 0 or t.min() < 0 or np.count_nonzero(t == 0) < 0.05 * t.size:
        return ""
    both = (s > 0) & (t > 0)
    many = np.maximum(both.sum(others, keepdims=True), 1)
    mean_s: Array = np.where(both, s, 0).sum(others, keepdims=True) / many
    mean_t: Array = np.where(both, t, 0).sum(others, keepdims=True) / many
    centred = np.where(both, t - mean_t, 0.0)
    spread = np.square(centred).sum(others, keepdims=True)
    slopes = (s * centred).sum(others, keepdims=True) / np.where(spread > 0, spread, 1.0)
    shifts = np.where(spread > 0, mean_s - slopes * mean_t, 0.0)
    made = np.where(spread > 0, np.maximum(slopes * t + shifts, 0), s)
    suffix = pair.explained(np.where(t > 0, made, np.minimum(s, made)), 2 * pair.truth.shape[axis])
    if suffix is None or not spread.any():
        return ""
    slopes = slopes.reshape(-1)[spread.reshape(-1) > 0]
    if np.abs(slopes - 1).max() < 1e-3 * np.abs(shifts).max() / math.sqrt(pair.norm / t.size):
        return f"each {pair.axes.words[axis]} shifted by a constant of its own before a ReLU: a mean or a bias?{suffix}"
    return _affine(pair, axis, slopes, suffix, " before a ReLU")


def _factors(pair: Pair, axis: int, factors: Array, more: str, suffix: str, before: str = "") -> str:
    """Words for a factor of each slice's own."""
    low, high = float(factors.min()), float(factors.max())
    one_side = low > 0 and (high <= 1 + 1e-6 or low >= 1 - 1e-6)
    hint = ": eps or variance?" if one_side else ": scale or variance?"
    if not pair.axes.activation or axis != pair.axes.channel:
        hint = ""
    span = f"{number(low)} to {number(high)}"
    return f"each {pair.axes.words[axis]} by a factor{more} of its own{before}, {span}{hint}{suffix}"


def _affine(pair: Pair, axis: int, slopes: Array, suffix: str, before: str = "") -> str:
    many, word = pair.count, pair.axes.words[axis]
    middle = float(np.median(slopes))
    if pair.axes.activation and many > 1 and np.abs((1 - np.square(slopes)) * many - 1).max() < 0.05:
        root = f"a factor of sqrt((M - 1) / M), {number(middle)} with M = {many}"
        return f"each {word} by {root}, about a centre of its own{before}: unbiased variance?{suffix}"
    if float(np.ptp(slopes)) < 1e-3 * abs(middle - 1):
        return f"a factor of {number(middle)}, and each {word} shifted by a constant of its own{before}{suffix}"
    return _factors(pair, axis, slopes, " and a shift", suffix, before)


# -- grids ------------------------------------------------------------------------------------------------------------


def formats(pair: Pair) -> str:
    """Rounded to a format that holds less, or cut off to it."""
    if not pair.is_over:
        return ""
    with np.errstate(over="ignore"):
        single = pair.truth.astype(np.float32).astype(np.float64)  # what is rounded once more
    return best(_say(name, pair.explained(to(single))) for name, to in _formats())


def _formats() -> Iterator[tuple[str, Callable[[Array], Array]]]:
    yield "rounded to float32", lambda t: t
    yield "rounded to TF32 or float16 (10 bits of fraction)", lambda t: _to_bits(t, 10, np.round)
    yield "rounded to float16", lambda t: np.asarray(round_to(t, "float16"), np.float64)
    yield "rounded to bfloat16", lambda t: np.asarray(round_to(t, "bfloat16"), np.float64)
    yield "cut off to TF32 or float16 (10 bits of fraction), not rounded", lambda t: _to_bits(t, 10, np.trunc)
    yield "cut off to bfloat16 (7 bits of fraction), not rounded", lambda t: _to_bits(t, 7, np.trunc)
    yield "rounded to float8 (E4M3)", lambda t: _to_bits(t, 3, np.round, least=2.0**-9, most=448.0)
    yield "rounded to float8 (E5M2)", lambda t: _to_bits(t, 2, np.round, least=2.0**-16, most=57344.0)


def _to_bits(t: Array, bits: int, to: Callable[[Array], Array], least: float = 0.0, most: float = math.inf) -> Array:
    """``bits`` of fraction, steps of at least ``least``, saturated at ``most``."""
    exponent = np.frexp(t)[1]
    step = np.maximum(np.ldexp(1.0, exponent - 1 - bits), least)
    return np.clip(to(t / step) * step, -most, most)


# Distances of neighbouring levels are whole multiples of one step up to this share of it.
LEVEL = 0.02
# A grid of more levels is none that can be told.
LEVELS = 1 << 12


def grid(pair: Pair) -> str:
    """Rounded to the levels of an integer format, one step for all or one a channel."""
    if not pair.is_over or pair.truth.size < 16:
        return ""
    found = _levels(pair.subject)
    if found is None:
        return _grid_by_channel(pair)
    step, levels = found
    return best(
        _say(
            f"{how} to {_bits(levels)}, steps of {step:.4g}",
            pair.explained(_on_grid(pair.truth, pair.subject, step, to)),
        )
        for how, to in (("rounded", np.round), ("rounded down", np.floor))
    )


def _bits(levels: int) -> str:
    """The integer format that has so many levels, where there is one that needs them.

    Example:
        >>> _bits(244), _bits(15), _bits(31)
        ('8 bits: 244 levels', '4 bits: 15 levels', '31 levels')
    """
    bits = next((bits for bits in (4, 8) if 2 ** (bits - 2) < levels <= 2**bits), 0)
    return f"{bits} bits: {levels} levels" if bits else f"{levels} levels"


def _grid_by_channel(pair: Pair) -> str:
    for axis in dict.fromkeys((pair.axes.channel, 0)):
        if axis is None or not 2 <= pair.truth.shape[axis] <= 4096 or pair.truth.size < 16 * pair.truth.shape[axis]:
            continue
        s, t = (np.moveaxis(each, axis, 0) for each in (pair.subject, pair.truth))
        candidate, most = np.empty(t.shape), 0
        for place in range(len(s)):
            found = _levels(s[place]) if np.ptp(s[place]) > 0 else (1.0, 1)
            if found is None:
                break
            candidate[place] = _on_grid(t[place], s[place], found[0]) if found[1] > 1 else s[place]
            most = max(most, found[1])
        else:
            suffix = pair.explained(np.moveaxis(candidate, 0, axis))
            if suffix is not None:
                return f"rounded to {_bits(most)}, steps of its own for each {pair.axes.words[axis]}{suffix}"
    return ""


def _levels(s: Array) -> tuple[float, int] | None:
    """The step of the grid on which all values lie, and how many levels it has from the least value to the largest."""
    some = s.reshape(-1)
    if some.size > LEVELS and len(np.unique(some[:LEVELS])) > LEVELS / 2:
        return None
    values = np.unique(some)
    if len(values) > LEVELS or len(values) < 3:
        return None
    span = float(values[-1] - values[0])
    gaps = np.diff(values)
    gaps = gaps[gaps > 1e-6 * max(abs(values[0]), abs(values[-1]))]  # one level's values in float32
    if len(gaps) == 0:
        return None
    for part in (1, 2, 3, 4):
        step = float(gaps.min()) / part
        steps = gaps / step
        if span / step < LEVELS and np.abs(steps - np.round(steps)).max() < LEVEL * max(1.0, steps.max() / 8):
            step = span / round(span / step)
            return step, round(span / step) + 1
    return None


def _on_grid(t: Array, s: Array, step: float, to: Callable[[Array], Array] = np.round) -> Array:
    """The truth's nearest levels, within the subject's range."""
    least = float(s.min())
    return np.clip(least + to((t - least) / step) * step, least, float(s.max()))


def format_of(subject: Array) -> str:
    """The narrowest common format that holds every value, "" where that is float32 or more."""
    if not subject.any():
        return ""
    for name, bits in (("bfloat16", 7), ("TF32 or float16", 10)):
        if np.array_equal(_to_bits(subject, bits, np.trunc), subject):
            return name
    return ""
