"""Elementary functions beside mpmath: float64 within 1 ulp, float32 the nearest.

``tools/exhaustive.py`` goes through every float32; here are a stratified part of them and all that it found hard.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.scripts import script

from lucid.kernels.elementwise import functions

mpmath = pytest.importorskip("mpmath")
exhaustive = script("tools/exhaustive.py")

SEED = 20240607
SPANS = {
    "exp2": (-1000, 1000, -0.6, 0.6), "expm1": (-40, 700, -0.6, 0.6), "log2": (1e-3, 1e3, 0.7, 1.5),
    "log1p": (-0.99, 1e3, -0.4, 0.6), "sin": (-1e9, 1e9, -4, 4), "cos": (-1e9, 1e9, -4, 4), "tan": (-1e9, 1e9, -4, 4),
    "arcsin": (-1, 1, 0.45, 0.55), "arccos": (-1, 1, 0.45, 0.55), "arctan": (-50, 50, 0.3, 2.6),
    "sinh": (-700, 700, -1, 1), "cosh": (-700, 700, -1, 1), "tanh": (-20, 20, -1, 1), "erf": (-5.9, 5.9, 0.9, 1.3),
}  # fmt: skip
# Angles that lie next to a multiple of pi / 2: the first is the nearest of all float64.
NEAR_TURNS = [6381956970095103.0 * 2.0**797, 5319372648326541.0 * 2.0**255, 1e22, 2.0**1023, 411775.0, 2.0**30 + 0.5]


def ours(name: str, *x: Any) -> Any:
    with np.errstate(all="ignore"):
        return functions.FUNCTIONS[name](*x)


@pytest.mark.parametrize("name", SPANS)
def test_float64_is_within_an_ulp(name: str) -> None:
    rng, (low, high, inner, outer) = np.random.default_rng(SEED), SPANS[name]
    x = np.concatenate([rng.uniform(low, high, 150), rng.uniform(inner, outer, 150), rng.uniform(0, 1e-9, 10)])
    if name in ("sin", "cos", "tan"):
        x = np.concatenate([x, NEAR_TURNS, 2.0 ** rng.uniform(28, 1023.9, 60)])
    truth = exhaustive.exact(name)
    for at, y in zip(x.tolist(), ours(name, x).tolist(), strict=True):
        true = truth(at)
        assert abs(y - true) < np.spacing(abs(float(true))), at.hex()


def test_angle_of_a_point_is_within_an_ulp() -> None:
    mp, rng = mpmath.mp.clone(), np.random.default_rng(SEED)
    mp.prec = 300
    y, x = rng.standard_normal((2, 300)) * 2.0 ** rng.uniform(-30, 30, (2, 300))
    angles = functions.FUNCTIONS["arctan2"](y, x).tolist()
    for a, b, v in zip(y.tolist(), x.tolist(), angles, strict=True):
        true = mp.atan2(a, b)
        assert abs(v - true) < np.spacing(abs(float(true)))


@pytest.mark.parametrize("name", [*SPANS, "exp", "log", "sigmoid"])
def test_float32_is_the_nearest(name: str) -> None:
    """2^13 of all patterns, one in each of as many parts, and those whose float64 lies at the middle of two."""
    rng = np.random.default_rng(SEED)
    parts = np.arange(0, 1 << 32, 1 << 19) + rng.integers(0, 1 << 19, 1 << 13)
    x = parts.astype(np.uint32).view(np.float32)
    hard = np.array(getattr(functions, f"{name.upper()}_AMENDED", ())[::2], np.float32)
    wrong, _ = exhaustive.compared(name, np.concatenate([x, hard]), ours=ours)
    assert wrong == []


@pytest.mark.parametrize("name", exhaustive.PAIRS)
def test_float32_of_two_is_the_nearest(name: str) -> None:
    """Drawn as ``tools/exhaustive.py`` draws them, and all hard ones."""
    drawn = zip(exhaustive.pairs(name, 1 << 20, 1 << 13), exhaustive.hard(name), strict=True)
    wrong, decided = exhaustive.compared(name, *(np.append(x, h) for x, h in drawn), ours=ours)
    assert wrong == []
    assert decided > 5


# Bases and exponents: results everywhere, large exponents of numbers next to 1, numbers that may be negative, roots.
POWERS: dict[str, Any] = {
    "everywhere": lambda rng, n: (x := 2.0 ** rng.uniform(-1074, 1023, n), rng.uniform(-1074, 1023, n) / np.log2(x)),
    "near 1": lambda rng, n: (
        x := 1 + rng.choice([1, -1], n) * 2.0 ** -rng.uniform(1, 52, n),
        rng.uniform(-740, 709, n) / np.log(x),
    ),
    "middle": lambda rng, n: (x := rng.uniform(0.5, 2, n), rng.uniform(-740, 709, n) / np.log(x)),
    "usual": lambda rng, n: (rng.uniform(0, 30, n), rng.uniform(-9, 9, n)),
    "whole": lambda rng, n: (rng.uniform(-30, 30, n), rng.integers(-99, 99, n).astype(np.float64)),
    "roots": lambda rng, n: (rng.uniform(0, 1e9, n), 1 / rng.integers(2, 9, n)),
}


@pytest.mark.parametrize("kind", POWERS)
def test_power_is_within_an_ulp(kind: str) -> None:
    mp, (x, n) = mpmath.mp.clone(), POWERS[kind](np.random.default_rng(SEED), 250)
    mp.prec = 300
    for a, b, y in zip(x.tolist(), n.tolist(), ours("power", x, n).tolist(), strict=True):
        true = mp.power(a, b)
        assert abs(y - true) < np.spacing(abs(float(true))), (a.hex(), b.hex())


def test_cubes_are_the_nearest() -> None:
    """Of float32 from 1 to 2, one in each of 2^13 parts, such whose cubes are subnormal, and float64."""
    rng = np.random.default_rng(SEED)
    x = (np.arange(1 << 13) * 2.0**-13 + 1 + rng.integers(0, 1 << 10, 1 << 13) * 2.0**-23).astype(np.float32)
    x = np.concatenate([x, x * np.float32(2.0**-49), np.array([257, 321, 2.0**43], np.float32)])
    with np.errstate(all="ignore"):
        got = functions.power_cube(x)
        wide = functions.power_cube(x.astype(np.float64) * (1 + 2.0**-40))
    for at, y, of_wide in zip(x.tolist(), got, wide.tolist(), strict=True):
        true = Fraction(at) ** 3
        assert y == np.float32(np.inf) if true >= 2**128 else abs(Fraction(float(y)) - true) <= _half(y), at.hex()
        cube = Fraction(at * (1 + 2.0**-40)) ** 3
        assert abs(Fraction(of_wide) - cube) <= Fraction(np.spacing(of_wide)) * Fraction(1001, 2000)


def _half(y: np.float32) -> Fraction:
    return Fraction(float(np.spacing(y))) / 2
