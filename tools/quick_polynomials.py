"""Prints the polynomials of ``lucid/kernels/elementwise/quick.h``, each with how far it is from its function.

    python tools/quick_polynomials.py

A polynomial goes through its function at Chebyshev's nodes, with 200 bits; the distance is the largest of a thousand
places, in parts of the function, as a power of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpmath import mp, mpf

mp.prec = 200
Function = Callable[[Any], Any]


def root_of(f: Function) -> Function:
    """``f(sqrt(z)) / sqrt(z)``, of an odd function."""
    return lambda z: f(mp.sqrt(z)) / mp.sqrt(z)


LN2, TENTH = mp.log(2), mpf(2) ** -100
POLYNOMIALS: dict[str, tuple[Function, Any, Any, int]] = {
    "GROWTH, 8 parts": (lambda r: mp.expm1(r) / r, -LN2 / 16, LN2 / 16, 6),
    "GROWTH, 1 part": (lambda r: mp.expm1(r) / r, -LN2 / 2, LN2 / 2, 10),
    "DOUBLING, 8 parts": (lambda r: mp.expm1(r * LN2) / r, -mpf(1) / 16, mpf(1) / 16, 6),
    "DOUBLING, 1 part": (lambda r: mp.expm1(r * LN2) / r, -mpf(1) / 2, mpf(1) / 2, 9),
    "SINE": (root_of(mp.sin), TENTH, (mp.pi / 2) ** 2, 7),
    "TANGENT": (root_of(mp.tan), TENTH, (mp.pi / 4) ** 2, 11),
    "ARCTANGENT": (root_of(mp.atan), TENTH, (mp.sqrt(2) - 1) ** 2, 8),
    "ARCSINE": (root_of(mp.asin), TENTH, mpf(1) / 4, 10),
    "LOGARITHM": (lambda z: 2 * root_of(mp.atanh)(z), TENTH, ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2, 6),
}


def through_nodes(f: Function, low: Any, high: Any, count: int) -> list[float]:
    """``count`` coefficients, from the lowest power."""
    places = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    powers = mp.matrix([[x**j for j in range(count)] for x in places])
    return [float(c) for c in mp.lu_solve(powers, mp.matrix([f(x) for x in places]))]


def main() -> None:
    for name, (f, least, most, count) in POLYNOMIALS.items():
        spare = (most - least) * mpf(2) ** -20  # what rounding an argument may add
        low, high = (least if least == TENTH else least - spare), most + spare
        coefficients = through_nodes(f, low, high, count)
        places = [low + (high - low) * mpf(2 * i + 1) / 2000 for i in range(1000)]
        distance = max(abs(mp.polyval(coefficients[::-1], x) / f(x) - 1) for x in places)
        print(f"{name}: 2^{float(mp.log(distance, 2)):.1f}\n  {', '.join(c.hex() for c in coefficients)}")


if __name__ == "__main__":
    main()
