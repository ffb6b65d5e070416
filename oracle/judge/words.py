"""What kind of difference it is: words that send whoever debugs a kernel to the right place.

A wrong guess is worse than none. A kind is named only where the tensor that it would make is the subject's, within a
small multiple of the budget; or where it explains at least 99 % of the squared difference, and then the words say how
much (`oracle.judge.differences.pair`). Whatever is a hint at a cause ends in a question mark. If no kind holds, the
words say what was measured: how many elements, where, and how subject and truth go together.

`ORDER` is the order in which kinds are tried. What holds for the whole tensor comes before where it lies: of a tensor
with a few large elements that is scaled, these few differ most, but its kind is the factor. What can imitate others
comes late.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from oracle.judge.differences import layout, others, place, values
from oracle.judge.differences.pair import Array, Axes, Pair, axes_of, best, energy, number
from oracle.precision.difference import Budget

# One rule for every element. The first that holds is told.
VALUES: tuple[Callable[[Pair], str], ...] = (
    values.zeros,
    values.constant,
    values.sign,
    values.factor,
    values.shift,
    values.cut,
    values.clamped,
    values.affine,
)
# Coarser numbers: they have more freedom.
LOOSER: tuple[Callable[[Pair], str], ...] = (values.formats, values.grid)
# The order in which kinds are tried: how values changed; which are zero or are not; how they follow from other tensors;
# which other slices or axes they came from; the place (and how values changed there), where all else is within the
# budget; each slice by itself; what else changed values; and the place of nearly all of the difference.
ORDER = ("values", "mask", "others", "slices", "axes", "place", "each", "looser", "scattered")

# Largest numbers of formats, for infinities.
OVERFLOWS = ((65504.0, "float16"), (3.3895e38, "bfloat16"), (3.4028e38, "float32"))
# What formats round by; a difference of a quarter to 1.2 of it, with a mean of nothing, has the size of a rounding.
COARSER = (("TF32 or float16", 2.0**-11), ("bfloat16", 2.0**-8))


def describe_difference(
    subject: Array,
    truth: Array,
    budget: Budget,
    *,
    kind: str | None = None,
    name: str = "",
    others: Mapping[str, Array] | None = None,
) -> str:
    """What kind of difference lies between two tensors; "" where there is none, or nothing can be told.

    Args:
        subject: the subject's tensor.
        truth: the truth's.
        budget: what a healthy subject may have there, over the truth's root mean square.
        kind: what the tensor is (`oracle.trace.KINDS`), which names its axes; guessed from its shape where not given.
        name: what it is called among ``others``.
        others: other tensors of the truth by name, in the order of execution: inputs, later tensors.

    Example:
        >>> truth = np.random.default_rng(0).standard_normal((1, 4, 8, 8))
        >>> describe_difference(-truth, truth, Budget(1e-6)), describe_difference(truth * 1.01, truth, Budget(1e-6))
        ('the sign is reversed', 'a constant factor of 1.01')
        >>> broken = truth.copy()
        >>> broken[0, 2] = 0
        >>> describe_difference(broken, truth, Budget(1e-6))
        'zeros in one channel of 4: 2'
        >>> describe_difference(np.maximum(truth, 0), truth, Budget(1e-6))
        'the negative part is cut: a ReLU in place?'
    """
    subject, truth = np.asarray(subject), np.asarray(truth)
    if not {subject.dtype.kind, truth.dtype.kind} <= set("fiub"):  # objects, say
        return ""
    subject, truth = subject.astype(np.float64), truth.astype(np.float64)
    if subject.shape != truth.shape:
        return _another_shape(subject, truth, budget, kind)
    if subject.size == 0 or not np.isfinite(truth).all():
        return ""
    axes = axes_of(np.atleast_1d(truth).shape, kind)
    subject, truth = np.atleast_1d(subject), np.atleast_1d(truth)
    if not np.isfinite(subject).all():
        return _not_finite(subject, truth, axes)
    pair = _pair(subject, truth, budget, axes)
    if pair.energy == 0.0:
        return ""
    return _named(pair, others or {}, name) or _measured(pair, budget)


def _pair(subject: Array, truth: Array, budget: Budget, axes: Axes) -> Pair:
    """Both tensors, divided by what would make their squares too large or too small, and what the budget grants."""
    largest = float(max(np.abs(subject).max(), np.abs(truth).max()))
    if not 1e-100 < largest < 1e100:
        subject, truth = subject / (largest or 1.0), truth / (largest or 1.0)
    granted = budget.rms if math.isfinite(budget.rms) else 0.0
    count = truth.size // truth.shape[axes.channel] if axes.channel is not None and truth.ndim > axes.channel else 0
    return Pair(subject, truth, granted**2 * float(np.square(truth).mean()), axes, count)


def _named(pair: Pair, known: Mapping[str, Array], name: str) -> str:
    """The first kind that holds."""

    def the_place(strict: bool) -> str:
        where = place.find(pair, strict)
        if where is None or (strict and not where.dense):
            return ""
        return place.describe_place(pair, where, _inside, known)

    tries: dict[str, Callable[[], str]] = {
        "values": lambda: _first(VALUES, pair),
        "mask": lambda: _first((values.mask, values.dropped), pair),
        "others": lambda: others.from_others(pair, known, name) if known else "",
        "slices": lambda: layout.slices(pair),
        "axes": lambda: layout.rearranged(pair),
        "each": lambda: _first((values.by_slice,), pair),
        "place": lambda: the_place(True),
        "looser": lambda: _first(LOOSER, pair),
        "scattered": lambda: the_place(False),
    }
    return best(tries[each]() for each in ORDER)


def _inside(pair: Pair) -> str:
    """What happened to the values of one place."""
    return _first((*VALUES, values.mask, values.by_slice, *LOOSER), pair)


def _first(kinds: Sequence[Callable[[Pair], str]], pair: Pair) -> str:
    return best(_confirmed(each, pair) for each in kinds)


def _confirmed(kind: Callable[[Pair], str], pair: Pair) -> str:
    """A kind that holds for a part of a large tensor is tried on all of it."""
    if pair.thin is not pair and not kind(pair.thin):
        return ""
    return kind(pair)


# -- what is measured -------------------------------------------------------------------------------------------------


def _measured(pair: Pair, budget: Budget) -> str:
    """How far the difference extends, and how the two go together."""
    changed = np.abs(pair.difference) > max(pair.quiet, 1e-9 * float(np.abs(pair.difference).max()))
    if changed.size == 1:
        return f"{pair.subject.flat[0]:.6g}, truth {pair.truth.flat[0]:.6g}"
    share = np.count_nonzero(changed) / changed.size
    if share == 0.0:
        return _worst(pair, budget)
    size, mean = math.sqrt(pair.energy / pair.truth.size), float(pair.difference.mean())
    parts = [
        f"all elements{_coarser(pair, mean, size)}"
        if share > 0.99
        else f"{100 * share:.2g} % of the elements stand out"
    ]
    if abs(mean) > 0.3 * size and pair.truth.size > 1:
        parts.append(f"mostly of one sign, {mean:+.2g} on average")
    ratio = math.sqrt(energy(pair.subject) / pair.norm) if pair.norm > 0 else 1.0
    if not 0.5 < ratio < 2:
        parts.append(f"{number(ratio, 2)} times as large as the truth")
    correlation = _correlation(pair.subject, pair.truth)
    if correlation < 0.99:
        parts.append(f"correlation with the truth {correlation:.2g}")
    return ", ".join(parts)


def _worst(pair: Pair, budget: Budget) -> str:
    """No element is far out, so it is a channel or the sum of many."""
    axis, allowed = pair.axes.channel, budget.channel
    if axis is not None and allowed is not None and len(allowed) == pair.truth.shape[axis]:
        rest = tuple(each for each in range(pair.truth.ndim) if each != axis)
        scale = math.sqrt(pair.norm / pair.truth.size)
        over = np.flatnonzero(np.sqrt(np.square(pair.difference).mean(rest)) > np.asarray(allowed) * scale)
        if 0 < len(over) <= len(allowed) / 2:
            return place.span(pair.axes.words[axis], over, len(allowed))
    return "no element stands out"


def _correlation(subject: Array, truth: Array) -> float:
    a, b = (each.reshape(-1) - each.mean() for each in (subject, truth))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.dot(a, b)) / norm if norm > 0 else 1.0


def _coarser(pair: Pair, mean: float, size: float) -> str:
    """Whether the difference has the size that rounding to a lower precision leaves."""
    if pair.norm == 0.0 or pair.truth.size < 16:
        return ""
    held = values.format_of(pair.subject)
    relative = math.sqrt(pair.energy / pair.norm)
    for name, unit in COARSER:
        if held == name and math.sqrt(pair.granted * pair.truth.size / pair.norm) < unit / 8:
            return f" hold {name} numbers"
        if unit / 4 <= relative <= 1.2 * unit and abs(mean) < 0.1 * size:
            return f", of the size that roundings to {name} leave"
    return ""


# -- what is no number, or has another shape --------------------------------------------------------------------------


def _not_finite(subject: Array, truth: Array, axes: Axes) -> str:
    nan, infinite = np.isnan(subject), np.isinf(subject)
    what = " and ".join(word for word, present in (("NaN", nan.any()), ("infinity", infinite.any())) if present)
    bad = nan | infinite
    if bad.all():
        return f"{what} everywhere"
    clean = np.where(bad, 0.0, truth)
    found = place.place_of(bad, Pair(clean, truth, 0.0, axes))
    where = found.words if found else f"{np.count_nonzero(bad)} elements of {bad.size}"
    return f"{what} appears in {where}{_overflow(infinite, bad, truth)}"


def _overflow(infinite: Array, bad: Array, truth: Array) -> str:
    """Whether it is infinite where the truth is larger than a format's largest number."""
    if not infinite.any():
        return ""
    least, most = float(np.abs(truth[infinite]).min()), float(np.abs(truth[~bad]).max(initial=0.0))
    for limit, name in OVERFLOWS:
        if least >= 0.999 * limit and most <= 1.001 * limit:
            return f", where the truth is beyond {name}'s largest number"
    return f", where the truth is beyond {most:.4g}" if least > most > 0 and infinite.sum() > 1 else ""


def _another_shape(subject: Array, truth: Array, budget: Budget, kind: str | None) -> str:
    """Whether a tensor of another shape holds the truth's values."""
    if subject.size == 0 or truth.size == 0 or not (np.isfinite(subject).all() and np.isfinite(truth).all()):
        return ""
    granted = budget.rms if math.isfinite(budget.rms) else 0.0
    largest = float(max(np.abs(subject).max(), np.abs(truth).max())) or 1.0
    subject, truth = subject / largest, truth / largest
    allowed = 4 * max(granted**2, 2.0**-46) * float(np.square(truth).sum())
    for meant, words in layout.another_shape(subject, truth, axes_of(truth.shape, kind)):
        if float(np.square(meant - truth).sum()) <= allowed:
            return words
    return ""
