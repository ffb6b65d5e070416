"""Variances and normalisation: in one pass or more, biased or not, and where eps is added."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from oracle.identify.formats import Array, Format

Normalize = Callable[[Array, float], Array]  # rows of a mean of 0 and a variance of 1, each
_N = 16
_EPS = 3.0
_PLACES: dict[str, Callable[[float], float]] = {
    "inside of the root": lambda variance: float((variance + _EPS) ** -0.5),
    "beside the root": lambda variance: 1 / (variance**0.5 + _EPS),
    "its root beside the root": lambda variance: 1 / (variance**0.5 + _EPS**0.5),
    "the least variance": lambda variance: max(variance, _EPS) ** -0.5,
    "the least deviation": lambda variance: 1 / max(variance**0.5, _EPS),
    "nowhere": lambda variance: variance**-0.5,
}
_DIVISORS = {"biased (N)": 1.0, "unbiased (N - 1)": _N / (_N - 1)}


def identify_normalization(normalize: Normalize, format: Format) -> dict[str, str]:
    """Which variance normalises, where eps is, and whether a large mean spoils it."""
    signs = np.tile([1.0, -1.0], (_N, _N // 2))
    found = abs(float(normalize(signs, _EPS)[0, 0]))
    candidates = {
        (place, divisor): at(variance) for place, at in _PLACES.items() for divisor, variance in _DIVISORS.items()
    }
    # (the least variance of 3 is the same for both divisors)
    nearest = min(candidates, key=lambda each: abs(candidates[each] - found))
    if not abs(candidates[nearest] - found) <= 2.0 ** (-format.fraction):  # or not a number
        told = {"eps": "in another place", "variance": "of another kind"}
    else:
        shared = [divisor for (_, divisor), value in candidates.items() if value == candidates[nearest]]
        told = {"eps": nearest[0], "variance": " or ".join(shared)}
    return {**told, "passes": _passes(lambda rows: normalize(rows, 2.0**-10), format, lambda y: abs(float(y[0, 0])))}


def identify_variance(variance: Callable[[Array], Array], format: Format) -> dict[str, str]:
    """The variance of each row: which divisor, and whether a large mean spoils it."""
    found = float(variance(np.tile([1.0, -1.0], (_N, _N // 2)))[0])
    kinds = [name for name, value in _DIVISORS.items() if abs(value - found) < 2.0**-6]
    told = {"variance": kinds[0] if kinds else "of another kind"}
    return {**told, "passes": _passes(variance, format, lambda y: float(y[0]))}


def _passes(of_rows: Callable[[Array], Array], format: Format, read: Callable[[Array], float]) -> str:
    """A mean L and values L + 1 and L - 1: their squares need more bits than there are, their deviations are exact."""
    if format.fraction <= 10:
        return "hidden: squares of what is stored fit into float32"
    signs = np.tile([1.0, -1.0], (_N, _N // 2))
    for exponent, words in ((format.fraction // 2 + 3, "one"), (format.fraction - 3, "one, in a wider format")):
        found = read(of_rows(2.0**exponent + signs))
        if not 0.9 < found < 1.1:
            return words
    return "two (or one that a large mean does not spoil)"
