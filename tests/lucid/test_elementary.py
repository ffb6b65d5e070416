"""Elementary functions beside mpmath: float64 within 1 ulp, float32 the nearest.

``tools/exhaustive.py`` goes through every float32; here are a stratified part of them and all that it found hard.
"""

from __future__ import annotations

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


def ours(name: str, x: Any) -> Any:
    with np.errstate(all="ignore"):
        return functions.FUNCTIONS[name](x)


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
    wrong, _ = exhaustive.compared(name, np.concatenate([x, hard]), ours)
    assert wrong == []
