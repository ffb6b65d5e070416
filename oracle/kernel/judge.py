"""One result of a kernel, held to what healthy kernels may return.

Four questions, each of every element or of all together:

- Is each element among the numbers that a healthy kernel stores? Those lie between the exact value less its budget and
  the exact value plus it, both rounded as the result is stored. Of a bfloat16 result that was computed in float32 this
  is nearly always one number, sometimes two: a truncated store, or a factor of 1 + 2**-11, is seen at once.
- Is what is not finite where it should be, and has zero the sign that it should have?
- Does the budget leave anything to tell? One that exceeds 30 % of the result judges nothing, and is counted as that.
- Do the errors lean? Errors of one sign, each within its budget, are none of roundings to nearest. They are measured
  in roundings along the result's own sign, against their scatter between rows (or columns), which are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.operation import EACH
from oracle.precision.profile import FORMATS
from oracle.precision.rounding import REACH, round_to

# What a lean may be in any case, in roundings of what the kernel computes in: a vendor's exp or log may be off to one
# side by so much in the mean; and so much of the budget.
FUNCTION_LEAN = 0.3
LEAN_SHARE = 0.005
# Of fewer independent rows, or elements, no mean is judged.
FEWEST_GROUPS, FEWEST = 64, 128
_CLIP = 8.0  # roundings
_MOST = 0.3  # of a result's root mean square, that its budget may be
# What ``torch.testing.assert_close`` allows by default: relative, absolute.
_TOLERANCES = {
    "float64": (1e-7, 1e-7),
    "float32": (1.3e-6, 1e-5),
    "tf32": (1.3e-6, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float16": (1e-3, 1e-5),
}


@dataclass(frozen=True)
class Finding:
    """What is wrong with one result.

    Args:
        kind: ``elements``, ``not finite``, ``sign of zero``, ``lean`` or ``shape``.
        wrong: where, of the result's shape; ``None`` where all of it is.
        error: the largest error, in roundings of the result as stored.
        budget: what that element may have, in the same.
        lean: the mean error in roundings, and what it may be.
    """

    kind: str
    wrong: Array | None
    error: float = 0.0
    budget: float = 0.0
    lean: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Judged:
    """A result that was judged: how much of its budget the worst element used, what is wrong, and whether its budget is
    too large to tell anything."""

    share: float
    finding: Finding | None = None
    blind: bool = False


def stored_as(base: str, dtype: str, actual: Array) -> str:
    """The format in which a result is stored: the declared one, or a wider one that the kernel returned and filled."""
    if base == "tf32":
        base = "float32"
    if dtype not in FORMATS or FORMATS[dtype].stored >= FORMATS[base].stored:  # type: ignore[index]
        return base
    finite = actual[np.isfinite(actual)]
    with np.errstate(over="ignore"):
        narrow = np.array_equal(np.asarray(round_to(finite, base), np.float64), finite)
    return base if narrow else dtype


def judge_result(
    actual: Array,
    truth: Bounded,
    base: str,
    dtype: str,
    *,
    zeros: bool,
    contained: bool,
    leans: int | None,
    constants: float = 0.0,
) -> Judged:
    """Judge one result.

    Args:
        actual: what the kernel returned, in float64.
        truth: what it should have returned.
        base: the format that was declared.
        dtype: of what it returned.
        zeros: whether the sign of an exact zero is defined.
        contained: whether what should be a finite number has to be one: not where an input is not finite and a
            healthy algorithm may spread it.
        leans: the axis along which results are independent, where values were drawn at random, so that a mean says
            something; else ``None``.
        constants: what all results may be off by together because constants were rounded, in roundings.
    """
    exact = truth.value
    if actual.shape != exact.shape:
        return Judged(math.inf, Finding("shape", None))
    if actual.size == 0:
        return Judged(0.0)
    stored = stored_as(base, dtype, actual)
    unit, least = FORMATS[stored].stored, FORMATS[stored].least  # type: ignore[index]
    error = _error(truth, stored)
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = (np.asarray(round_to(each, stored), np.float64) for each in (exact - error, exact + error))
    finite = np.isfinite(exact)
    unlike = ~finite & ~(np.isnan(exact) & np.isnan(actual)) & (actual != exact)
    lost = finite & np.isnan(actual)
    if not contained:
        lost = np.zeros_like(lost)
        unlike &= np.isfinite(actual)
    with np.errstate(invalid="ignore"):
        outside = finite & ~np.isnan(actual) & ((actual < low) | (actual > high))
    distance = np.where(finite, np.abs(np.subtract(actual, exact, where=finite, out=np.zeros_like(exact))), 0.0)
    rounding = np.maximum(unit * np.abs(np.where(finite, exact, 0.0)), least or 5e-324)
    share = _largest(np.where(np.isfinite(actual), distance, 0.0) / (np.where(finite, error, 0.0) + rounding))
    if (unlike | lost).any():
        return Judged(math.inf, Finding("not finite", unlike | lost))
    if outside.any():
        place = int(np.argmax(np.where(outside, distance / (error + rounding), -1.0)))
        found = distance.flat[place] / rounding.flat[place], error.flat[place] / rounding.flat[place]
        return Judged(share, Finding("elements", outside, float(found[0]), float(found[1])))
    if zeros:
        flipped = (exact == 0) & (truth.error == 0) & (np.signbit(actual) != np.signbit(exact))
        if flipped.any():
            return Judged(share, Finding("sign of zero", flipped))
    if leans is not None and finite.all() and not truth.of.factors:
        lean = _lean(actual, exact, error, stored, truth, leans, constants)
        if lean is not None and abs(lean[0]) > lean[1]:
            return Judged(share, Finding("lean", None, lean=lean))
    return Judged(share, blind=_is_blind(exact[finite], error[finite]))


def _is_blind(exact: Array, error: Array) -> bool:
    """Whether most elements' budgets exceed a stated share of the result; one of nothing but zeros has no share."""
    size = math.sqrt(float(np.mean(np.square(exact)))) if exact.size else 0.0
    return size > 0 and float(np.mean(error > _MOST * size)) > 0.5


def _error(truth: Bounded, stored: str) -> Array:
    """What the number that is stored may be off by before it is."""
    error = truth.error
    if FORMATS[stored].stored > truth.of.unit:  # type: ignore[index]
        error = error + truth.pending
    if stored == "float64" and truth.of.unit == FORMATS["float64"].stored:
        error = 2 * error + truth.pending  # the truth is a float64 kernel too
    return np.where(np.isnan(error), np.inf, error)


def _largest(shares: Array) -> float:
    finite = shares[~np.isnan(shares)]
    return float(finite.max(initial=0.0))


def _lean(
    actual: Array, exact: Array, error: Array, stored: str, truth: Bounded, apart: int, constants: float
) -> tuple[float, float] | None:
    """The mean error in roundings along the result, and what it may be; ``None`` where nothing can be told."""
    unit = FORMATS[stored].stored  # type: ignore[index]
    told = np.abs(exact) > 64 * FORMATS[stored].least / unit  # type: ignore[index]
    if told.sum() < FEWEST or not told.any():
        return None
    nearest = np.asarray(round_to(exact, stored), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        roundings = np.where(told, np.sign(exact) * (actual - nearest) / (unit * np.abs(exact)), 0.0)
        granted = np.where(told, error / (unit * np.abs(exact)), 0.0)
    roundings = np.clip(roundings, -_CLIP, _CLIP)
    scatter = 0.0
    apart = apart if apart < exact.ndim else 0
    if exact.ndim == 0 or (apart != EACH and exact.shape[apart] < FEWEST_GROUPS):
        return None
    if apart == EACH:
        scatter = float(roundings.std()) / math.sqrt(roundings.size)
    for axis in (axis for axis, side in enumerate(exact.shape) if side >= FEWEST_GROUPS):
        means = roundings.mean(tuple(each for each in range(exact.ndim) if each != axis))
        scatter = max(scatter, float(means.std(ddof=1)) / math.sqrt(len(means)))
    allowed = (FUNCTION_LEAN + constants) * truth.of.unit / unit + LEAN_SHARE * float(np.minimum(granted, _CLIP).mean())
    return float(roundings.mean()), allowed + REACH * scatter


def in_units(value: float) -> str:
    """So many roundings, in words.

    Example:
        >>> in_units(3.14159), in_units(4130.2), in_units(float("inf"))
        ('3.14', '4,130', 'infinitely many')
    """
    if math.isinf(value):
        return "infinitely many"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def passes_tolerance(actual: Array, exact: Array, base: str) -> bool:
    """Whether the usual tolerance would have let a result pass, against the exact one as it is stored."""
    if actual.shape != exact.shape:
        return False
    relative, absolute = _TOLERANCES[base]
    wanted = np.asarray(round_to(exact, "float32" if base == "tf32" else base), np.float64)
    with np.errstate(invalid="ignore"):
        close = np.abs(actual - wanted) <= absolute + relative * np.abs(wanted)
    return bool((close | (actual == wanted) | (np.isnan(actual) & np.isnan(wanted))).all())
