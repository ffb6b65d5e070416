"""Elementwise arithmetic: subnormal numbers, a * b + c, how exact functions are, and how casts round."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from oracle.identify.formats import FORMATS, Array, Format

Function = Callable[..., Array]


def identify_subnormal(multiply: Function, format: Format) -> dict[str, str]:
    """Whether subnormal factors and products are zero."""
    smallest, tiny = 2.0**format.lowest, 2.0 ** (format.lowest - 2)
    ones = np.ones(16)
    taken = multiply(ones * tiny, ones * 2.0**8)[0] != 0
    given = multiply(ones * smallest, ones * 0.25)[0] != 0
    return {
        "subnormal inputs": "kept" if taken else "taken as zero",
        "subnormal results": "kept" if given else "flushed to zero",
    }


def identify_added_subnormal(add: Function, format: Format) -> dict[str, str]:
    """Whether subnormal terms and sums are zero."""
    smallest, tiny = 2.0**format.lowest, 2.0 ** (format.lowest - 2)
    ones = np.ones(16)
    taken = add(ones * smallest, ones * tiny)[0] != smallest
    given = add(ones * (smallest + tiny), ones * -smallest)[0] != 0
    given = given or (taken and add(ones * smallest * 1.5, ones * -smallest)[0] != 0)
    return {
        "subnormal inputs": "kept" if taken else "taken as zero",
        "subnormal results": "kept" if given else "flushed to zero",
    }


def identify_multiply_add(multiply_add: Function, format: Format) -> dict[str, str]:
    """Whether a * b is rounded before c is added."""
    half = format.fraction // 2 + 2
    value, rest = 1 + 2.0**-half, -(1 + 2.0 ** (1 - half))
    ones = np.ones(64)
    found = multiply_add(ones * value, ones * value, ones * rest)
    kept = found == 2.0 ** (-2 * half)
    if kept.any() and not kept.all():
        return {"a * b + c": "rounded once in some elements, twice in others"}
    return {"a * b + c": "rounded once (fma, or a wider format)" if kept.all() else "rounded twice"}


# By function the exponents of the grid, whether negative numbers too, and the function in float64.
FUNCTIONS: dict[str, tuple[tuple[float, float], bool, Callable[[Array], Array]]] = {
    "exp": ((-6, 6.4), True, np.exp),
    "log": ((-20, 20), False, np.log),
    "tanh": ((-6, 3), True, np.tanh),
    "sigmoid": ((-6, 4), True, lambda x: 1 / (1 + np.exp(-x))),
    "rsqrt": ((-20, 20), False, lambda x: 1 / np.sqrt(x)),
    "sqrt": ((-20, 20), False, np.sqrt),
    "reciprocal": ((-20, 20), True, lambda x: 1 / x),
}
_GRID = 4096


def identify_function(
    name: str, function: Function, format: Format, rounded: Callable[[Array], Array]
) -> dict[str, str]:
    """How exact a function is, over a grid of numbers, and where it is far off, what it could be instead.

    Args:
        name: one of `FUNCTIONS`.
        function: the implementation.
        format: what it takes and returns.
        rounded: rounds to that format.
    """
    (low, high), negative, exact = FUNCTIONS[name]
    if format.name == "float16":
        high = min(high, 3.3) if name == "exp" else min(high, 10)
        low = max(low, -10)
    x = rounded(2.0 ** np.linspace(low, high, _GRID))
    x = np.concatenate([x, -x]) if negative else x
    wide = format.name == "float64"
    truth = exact(x.astype(np.longdouble) if wide else x)
    normal = np.abs(truth) >= 2.0**format.lowest
    found = function(x)
    if wide and np.finfo(np.longdouble).nmant <= 52:
        return {"results": "hidden: this machine has nothing wider"}
    if not np.isfinite(found[normal]).all():
        return {"results": "not finite where they should be"}
    errors = _in_units(found, truth, format)[normal]
    worst, near = float(errors.max()), float(errors[np.abs(x[normal]) <= 4].max())
    if worst <= 0.5 + 2.0**-20:
        return {"results": "rounded correctly"}
    if worst <= 1:
        return {"results": "within 1 unit in the last place"}
    if worst <= 4:
        return {"results": f"within {math.ceil(worst)} units in the last place"}
    if name == "exp" and _by_exp2(x, found, format, rounded)[normal].max() <= 4:
        return {"results": "2 to the power of a rounded x * log2(e): the error grows with x"}
    relative = float((np.abs(found - truth) / np.abs(truth))[normal].max())
    bits = f"{max(0, math.floor(-math.log2(relative)))} of {format.fraction + 1} bits"
    if near <= 64:
        return {"results": f"within {math.ceil(near)} units in the last place up to 4, {bits} beyond"}
    return {"results": f"approximate: {bits}"}


def _in_units(found: Array, truth: Array, format: Format) -> Array:
    """Errors in units in the last place of the truth."""
    exponent = np.maximum(np.frexp(np.abs(truth))[1] - 1, format.lowest)
    errors: Array = np.abs(found - truth) / np.ldexp(np.ones_like(truth), exponent - format.fraction)
    return errors


def _by_exp2(x: Array, found: Array, format: Format, rounded: Callable[[Array], Array]) -> Array:
    """How far the results are from 2 to the power of the rounded product."""
    factor = float(rounded(np.array([math.log2(math.e)]))[0])
    return _in_units(found, np.exp2(rounded(x * factor)), format)


def identify_cast(cast: Function, format: Format) -> dict[str, str]:
    """How float32 numbers become narrower ones of that format: rounding, overflow, subnormal numbers."""
    unit = 2.0**-format.fraction
    parts = np.array([0.5, 1.5, 0.25, 0.75, 1.25])
    probes = np.concatenate([1 + parts * unit, -1 - parts * unit])
    again = [cast(np.tile(probes, 8)).reshape(8, -1) for _ in range(2)]
    found = [tuple(((np.abs(row) - 1) / unit).astype(float)) for each in again for row in each]
    known = {
        (0.0, 2.0, 0.0, 1.0, 1.0) * 2: "to nearest even",
        (1.0, 2.0, 0.0, 1.0, 1.0) * 2: "to nearest, ties away from zero",
        (0.0, 1.0, 0.0, 1.0, 1.0) * 2: "to nearest, ties towards zero",
        (0.0, 1.0, 0.0, 0.0, 1.0) * 2: "truncated",
        (1.0, 2.0, 1.0, 1.0, 2.0) * 2: "away from zero",
        (1.0, 2.0, 1.0, 1.0, 2.0, 0.0, 1.0, 0.0, 0.0, 1.0): "up",
        (0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 1.0, 1.0, 2.0): "down",
    }
    rounding = known.get(found[0], "in another way") if len(set(found)) == 1 else "at random"
    rounding = rounding if np.isfinite(found).all() else "not finite"
    largest = 2.0**format.highest * (2 - unit)
    beyond = np.float64(np.finfo(np.float32).max) if format.highest > 100 else 2.0**17
    over = cast(np.array([beyond, largest] * 8))[:2]
    tiny = cast(np.full(16, 2.0 ** (format.lowest - format.fraction)))[0]
    return {
        "rounding": rounding,
        "beyond the largest": _overflow(over[0], largest),
        "subnormal results": "kept" if tiny != 0 else "flushed to zero",
    }


def _overflow(found: float, largest: float) -> str:
    if np.isinf(found):
        return "infinity"
    return "the largest number" if found == largest else "not a number" if np.isnan(found) else "another number"


def target_of(operation: str) -> Format:
    """The format that a cast makes.

    Example:
        >>> target_of("cast_float16").fraction
        10
    """
    return FORMATS[operation.removeprefix("cast_")]
