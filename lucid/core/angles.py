"""Cosine and sine of one angle, the nearest float64 numbers, in integer arithmetic: the same on every machine."""

from __future__ import annotations

from functools import lru_cache

_BITS = 240  # behind the point of every number here
_PI = (314159265358979323846264338327950288419716939937510582097494459230781640628620899862803 << _BITS) // 10**86


@lru_cache(1024)
def of_radians(angle: float) -> tuple[float, float]:
    """Cosine and sine of an angle in radians, of a few million at most.

    Example:
        >>> of_radians(0.0)
        (1.0, 0.0)
    """
    numerator, denominator = float(angle).as_integer_ratio()
    exact = (numerator << _BITS) // denominator
    turns = (exact + _PI) // (2 * _PI)
    return _as_floats(*_series(exact - 2 * turns * _PI))


@lru_cache(1024)
def of_degrees(angle: float) -> tuple[float, float]:
    """Cosine and sine of an angle in degrees.

    Example:
        >>> of_degrees(90.0)
        (0.0, 1.0)
    """
    numerator, denominator = float(angle).as_integer_ratio()
    return of_turn(numerator, 360 * denominator)


def of_turn(numerator: int, denominator: int) -> tuple[float, float]:
    """Cosine and sine of a part of a whole turn.

    Example:
        >>> of_turn(1, 4)
        (0.0, 1.0)
    """
    numerator %= denominator
    quarters = (8 * numerator + denominator) // (2 * denominator)
    cosine, sine = _series((4 * numerator - quarters * denominator) * _PI // (2 * denominator))
    for _ in range(quarters % 4):
        cosine, sine = -sine, cosine
    return _as_floats(cosine, sine)


def _series(x: int) -> tuple[int, int]:
    sums, term, power = [0, 0], 1 << _BITS, 0
    while term:
        sums[power % 2] += term if power % 4 < 2 else -term
        power += 1
        term = (term * x >> _BITS) // power
        term += term == -1  # which floors for ever
    return sums[0], sums[1]


def _as_floats(cosine: int, sine: int) -> tuple[float, float]:
    return cosine / (1 << _BITS), sine / (1 << _BITS)
