"""What happened to a result, and where, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from oracle.judge.words import describe_difference
from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.judge import Finding, in_units
from oracle.precision.difference import Budget
from oracle.precision.profile import FORMATS

_NAMED = 6  # places that are listed
_TILES = (1024, 512, 256, 128, 64, 32, 16, 8, 4)


def kind_of(actual: Array, truth: Bounded, finding: Finding, base: str) -> str:
    """What kind of difference it is."""
    exact = truth.value
    if finding.kind == "shape":
        return f"its shape is {actual.shape}, where {exact.shape} is right"
    if finding.kind == "not finite":
        return _not_finite(actual, exact, finding.wrong)
    if finding.kind == "sign of zero":
        return "zeros have the wrong sign"
    if finding.kind == "lean":
        return cut_off(actual, truth, base) or _leaning(finding)
    if finding.kind in ("not repeatable", "not batch invariant"):
        same = "the same inputs" if finding.kind == "not repeatable" else "one of a batch alone and in the batch"
        return f"{same} did not give the same bits"
    if finding.kind == "overwritten":
        return "it has other values after the call"
    return cut_off(actual, truth, base) or _factor(actual, truth, base) or _told(actual, truth, base)


def _leaning(finding: Finding) -> str:
    mean, allowed = finding.lean
    way = "towards zero" if mean < 0 else "away from zero"
    return (
        f"its errors lean {way}: {in_units(abs(mean))} roundings in the mean, where a healthy kernel has at most "
        f"{in_units(allowed)}; each alone is within its budget (a truncated store, a missing term, another constant?)"
    )


def _not_finite(actual: Array, exact: Array, wrong: Array | None) -> str:
    assert wrong is not None
    found, wanted = actual[wrong], exact[wrong]
    if np.isnan(wanted).any() and not np.isnan(found).all():
        return "NaN is swallowed: a result is a number that should be NaN"
    if np.isnan(found).any():
        return "NaN where a number is right"
    if np.isinf(wanted).any() and np.isfinite(found).any():
        return "an infinity is lost"
    return "infinities where numbers are right"


def cut_off(actual: Array, truth: Bounded, base: str) -> str:
    """Whether results are the numbers next to the exact ones, on the side of zero."""
    told = np.isfinite(truth.value) & np.isfinite(actual)
    if told.sum() < 8:
        return ""
    exact, unit = truth.value[told], FORMATS[base].stored  # type: ignore[index]
    off = (actual[told] - exact) / (unit * np.where(exact == 0, 1.0, np.abs(exact)))
    inward = np.sign(exact) * off <= 0.02
    if np.abs(off).max() <= 2.02 and inward.mean() > 0.98 and np.any(off) and np.abs(off[off != 0]).mean() > 0.3:
        return "results are cut off instead of rounded (every error is towards zero)"
    return ""


def _factor(actual: Array, truth: Bounded, base: str) -> str:
    """A factor that all elements share, however near to 1."""
    exact = truth.value
    told = np.isfinite(exact) & np.isfinite(actual) & (exact != 0)
    if told.sum() < 8:
        return ""
    s, t, unit = actual[told], exact[told], FORMATS[base].stored  # type: ignore[index]
    factor = float(np.dot(s, t) / np.dot(t, t))
    left = np.abs(s - factor * t)
    granted = truth.total[told] + 2 * unit * np.abs(t) * max(1.0, abs(factor))
    scatter = 2 * unit / math.sqrt(told.sum())
    if abs(factor - 1) > 4 * scatter and (left <= granted).mean() > 0.98:
        if abs(factor + 1) < 1e-3:
            return "the sign is reversed"
        if abs(factor) < 1e-6:
            return "it is zero"
        return f"a constant factor of {factor:.7g}"
    return ""


_LITTLE = "values differ by more than roundings explain"


def _told(actual: Array, truth: Bounded, base: str) -> str:
    """What is known of such differences; of small ones, to which side they are."""
    exact = truth.value
    if exact.size == 1 and np.isfinite(exact).all() and exact.all():
        found, right = float(actual.flat[0]), float(exact.flat[0])
        return f"{found:.6g}, truth {right:.6g}: a factor of {found / right:.6g}"
    told = _described(actual, truth, base)
    if "no element stands out" not in told and told != _LITTLE:
        return told
    off = np.sign(exact) * np.sign(actual - exact)
    off = off[np.isfinite(off) & (off != 0)]
    if not off.size:
        return _LITTLE
    away = float(np.mean(off > 0))
    if abs(2 * away - 1) * math.sqrt(off.size) > 5:
        return (
            f"its errors lean {'away from zero' if away > 0.5 else 'towards zero'}: {max(away, 1 - away):.0%} of them"
        )
    return f"{_LITTLE}, to either side ({away:.0%} away from zero)"


def _described(actual: Array, truth: Bounded, base: str) -> str:
    """The differences of finite elements."""
    finite = np.isfinite(truth.value) & np.isfinite(actual)
    exact, actual = (np.where(finite, each, 0.0) for each in (truth.value, actual))
    size = math.sqrt(float(np.mean(np.square(exact)))) if exact.size else 0.0
    if not size:
        return "values differ"
    granted = np.where(finite, truth.total + FORMATS[base].stored * np.abs(exact), 0.0)  # type: ignore[index]
    budget = Budget(max(math.sqrt(float(np.mean(np.square(granted)))) / size, 1e-18))
    return describe_difference(actual, exact, budget) or _LITTLE


def place_of(wrong: Array, axes: Sequence[str]) -> str:
    """Where elements are wrong: a range of an axis, single places of it, or how many everywhere.

    Example:
        >>> wrong = np.zeros((3, 130), bool)
        >>> wrong[:, 128:] = True
        >>> place_of(wrong, ("row", "column"))
        'columns 128 to 129 of 130: past the last whole tile of 128'
    """
    if wrong.ndim == 0 or wrong.all():
        return "all of them" if wrong.size > 1 else ""
    names = list(axes) or [f"index of axis {axis}" for axis in range(wrong.ndim)]
    told = []
    for axis, name in enumerate(names):
        others = tuple(each for each in range(wrong.ndim) if each != axis)
        touched = np.flatnonzero(wrong.any(others))
        if len(touched) < wrong.shape[axis]:
            told.append(_along(name, touched, wrong.shape[axis]))
    return ", ".join(told[:3]) if told else "scattered"


def _along(name: str, touched: Array, side: int) -> str:
    many = f"{name.replace('index', 'indices')}" if "index" in name else f"{name}s"
    first, last = int(touched[0]), int(touched[-1])
    if len(touched) == 1:
        which = f"{name} {first} of {side}" if first else f"the first {name} of {side}"
        return which + (", the last" if last == side - 1 and first else "") + _tile(first, side)
    if last - first + 1 == len(touched):
        return f"{many} {first} to {last} of {side}" + (_tile(first, side) if last == side - 1 else "")
    steps = np.diff(touched)
    if len(touched) > 2 and (steps == steps[0]).all():
        return f"every {_ordinal(int(steps[0]))} {name} from {first}"
    if len(touched) <= _NAMED:
        return f"{many} {', '.join(map(str, touched))} of {side}"
    return f"{len(touched)} of {side} {many}"


def _tile(first: int, side: int) -> str:
    for tile in _TILES:
        if first and first % tile == 0 and side - first < tile:
            return f": past the last whole tile of {tile}"
    return ""


def tile_of(sizes: Sequence[int] | None) -> str:
    """Whether the smallest sizes that fail are just past a tile.

    Example:
        >>> tile_of((1, 17)), tile_of((3, 5))
        ('lengths up to 16 agree: past the last whole tile of 16', '')
    """
    for size in sizes or ():
        if isinstance(size, int):
            for tile in _TILES:
                if tile >= 8 and size > tile and (size - 1) % tile == 0:
                    return f"lengths up to {size - 1} agree: past the last whole tile of {tile}"
    return ""


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
