"""How far a healthy implementation of one operation may be from its exact result: the error model of the local view.

Every rounding contributes an error between -u and +u of what it rounds, u being the unit roundoff, and rounding errors
of different results are taken to be independent with mean zero (Higham and Mary, "A new approach to probabilistic
rounding error analysis", SIAM J. Sci. Comput. 41, 2019); the variance of one is then at most ``u**2 / 3``. The
variance of a sum's error is the sum over its partial sums, so the worst order is one sequential chain, and any blocked,
vectorised or pairwise order stays below it. `chain` is that variance.

From a variance v of n independent errors a limit follows that a healthy root mean square passes with a probability of
at most e**-t (Gaussian concentration: ``|z| <= sqrt(n) + sqrt(2 t)``): ``sqrt(v) (1 + sqrt(2 t / n))``. One element is
the case n = 1. Errors that a whole channel shares (those of its mean and its scale) count as one draw a channel.

The constants below are all that is not derived; each says what it grants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from oracle.precision.difference import PRECISIONS, Precision
from oracle.precision.profile import Profile, profile_of

Array = np.ndarray[Any, Any]

# The probability that one healthy limit is passed by chance. A check of resnet_1001 has some 1e8 elements.
CHANCE = 1e-12
# sqrt(2 t) for that chance.
REACH = math.sqrt(2 * math.log(1 / CHANCE))

# Partial sums of a contraction wander between 0 and the result like a random walk if the terms come in random order.
# Images and kernels are smooth, so neighbouring terms go together: the walk may wander this many times as far.
WANDER = 4.0

# Elements that share inputs have errors that go together: a channel counts as at most this many independent ones.
INDEPENDENT = 64

# Roundings that one transcendental function (exp, log, 1/sqrt) may cost: one correctly rounded result and three units
# in the last place, what vendors' vector libraries state for their default accuracy.
FUNCTION_ROUNDINGS = 4.0


@dataclass(frozen=True)
class Rounding:
    """Where a precision rounds.

    Args:
        store: unit roundoff of a stored result.
        sums: unit roundoff of sums and of what happens between loading and storing.
        operand: unit roundoff of a contraction's operand as the hardware takes it.
        least: half the distance of the smallest stored numbers.
        between: unit roundoff of partial sums between the images of a batch; 0 where those are kept as ``sums`` are.
        truncated: whether operands are cut off instead of rounded.
        one_pass: whether a batch's variance is the mean of the squares less the square of the mean.
        winograd: side of the output tiles where 3x3 convolutions of stride 1 run by Winograd's algorithm, or 0.
    """

    store: float
    sums: float
    operand: float = 0.0
    least: float = 0.0
    between: float = 0.0
    truncated: bool = False
    one_pass: bool = False
    winograd: int = 0

    @property
    def coarsest(self) -> float:
        """The unit roundoff of gradients that are added up where they are stored."""
        return max(self.sums, self.store)


@lru_cache(64)
def rounding_of(precision: str | Profile) -> Rounding:
    """Where a profile rounds, as the local view counts it.

    Example:
        >>> rounding_of("float16, sums in float16").between == 2.0**-11
        True
    """
    profile = profile_of(precision)
    of = profile.format
    return Rounding(
        of.stored,
        2 * of.sums if of.matrix_units else of.sums,
        of.factors,
        of.least,
        of.stored if profile.sums_in_storage else 0.0,
        profile.truncated,
        profile.one_pass_variance,
        profile.winograd,
    )


ROUNDINGS: dict[Precision, Rounding] = {base: rounding_of(base) for base in PRECISIONS}


def round_to(array: Array, precision: str | Profile) -> Array:
    """The nearest numbers of a precision (ties to even), held in float64 for float64 and in float32 otherwise; tokens
    as they are.

    Example:
        >>> third = np.array([1 / 3])
        >>> [float(round_to(third, name)[0]) for name in ("float32", "bfloat16", "float16")]
        [0.3333333432674408, 0.333984375, 0.333251953125]
    """
    base = profile_of(precision).base
    if array.dtype.kind in "iub":
        return array
    if base == "float64":
        return np.asarray(array, np.float64)
    single = np.asarray(array, np.float32)
    if base == "float16":
        with np.errstate(over="ignore"):
            return single.astype(np.float16).astype(np.float32)
    if base == "bfloat16":
        bits = np.asarray(single, order="C").view(np.uint32)  # keeps a scalar a scalar
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
        return np.where(np.isfinite(single), rounded.view(np.float32), single)
    return single


def mean_square(unit: float) -> float:
    """The variance of one relative rounding error that is uniform between ``-unit`` and ``unit``.

    Example:
        >>> mean_square(3.0)
        3.0
    """
    return unit * unit / 3


def growth(terms: float) -> float:
    """``sum of (j/K)**2 for j = 1..K``: the squared partial sums of K equal terms, over the squared sum.

    Example:
        >>> growth(1), growth(2)
        (1.0, 1.25)
    """
    return (terms + 1) * (2 * terms + 1) / (6 * max(terms, 1))


def chain(unit: float, terms: float, total: Array, squares: Array) -> Array:
    """The variance of the error of a sum of products in the worst healthy order, one term after the other.

    ``unit**2 / 3 * (growth(K) total**2 + WANDER**2 (K**2 - 1) / (6 K) squares + squares)``: partial sums go from 0 to
    the total (first term) and wander on the way as a bridge of independent terms does (second); every product is
    rounded too (third; an fma spares that).

    Args:
        unit: unit roundoff of the partial sums.
        terms: how many products, K.
        total: the exact sums.
        squares: for each, the sum of the squared products.

    Example:
        >>> u = 2.0**-24
        >>> float(chain(u, 1, np.array(1.0), np.array(1.0))) == 2 * u * u / 3
        True
    """
    walk = WANDER**2 * (terms * terms - 1) / (6 * max(terms, 1)) + 1
    variance: Array = mean_square(unit) * (growth(terms) * total * total + walk * squares)
    return variance


def plain_chain(unit: float, terms: float, magnitude: Array) -> Array:
    """The same for a plain sum over pixels, from the sum of magnitudes alone: pixels of an image may come in any order,
    all bright ones first.

    Example:
        >>> float(plain_chain(1.0, 1, np.array(3.0)))
        3.0
    """
    variance: Array = mean_square(unit) * growth(terms) * magnitude * magnitude
    return variance


def alike(unit: float, repeats: Array, total: Array) -> Array:
    """What a plain sum may deviate by more because one addend comes again and again, such as the zeros that a ReLU
    leaves: the same number added to partial sums of one binade is rounded the same way each time, so that the errors
    do not cancel but add.

    Of ``n`` such additions that go from 0 to ``T``, half meet partial sums above ``T / 2``, each wrong by one and the
    same error of at most ``unit T / 2``; half of the rest meet those above ``T / 4``, and so on, each binade with an
    error of its own: ``unit**2 / 3 * (n T)**2 * (1/16 + 1/256 + ...)``.

    Args:
        unit: unit roundoff of the partial sums.
        repeats: how often the addend comes.
        total: bound of the partial sums.

    Example:
        >>> float(alike(3.0, np.array(1.0), np.array(5.0))), float(alike(3.0, np.array(3.0), np.array(5.0)))
        (0.0, 20.0)
    """
    variance: Array = mean_square(unit) / 15 * np.square((repeats - 1) * total)
    return variance


@dataclass(frozen=True)
class Deviation:
    """What a healthy result may deviate by: the variance of what is each element's own, the variance of what a channel
    shares, and what the mean error may be, which no average takes away.

    All have the result's shape, or broadcast to it.
    """

    own: Array | float
    shared: Array | float = 0.0
    bias: Array | float = 0.0

    def stored(self, exact: Array, rounding: Rounding) -> Deviation:
        """With the rounding of the result itself, where that is coarser than the sums'."""
        own = self.own
        if rounding.store > rounding.sums:
            own = own + mean_square(rounding.store) * exact * exact
        return Deviation(own + mean_square(rounding.least), self.shared, self.bias)


def limit(mean_own: Array, mean_shared: Array, own_count: float, shared_count: float = 1.0) -> Array:
    """What a root mean square may be, from the mean variances and the numbers of independent errors behind them.

    Example:
        >>> bool(1.0 < limit(np.array(1.0), np.array(0.0), 1e12) < 3.0)
        True
    """
    own = np.sqrt(mean_own) * (1 + REACH / math.sqrt(min(max(own_count, 1.0), INDEPENDENT)))
    shared = np.sqrt(mean_shared) * (1 + REACH / math.sqrt(min(max(shared_count, 1.0), INDEPENDENT)))
    result: Array = own + shared
    return result
