"""The free-running budget: how far may a healthy subject be from the truth in each tensor of a whole run?

The case itself says. The truth is run again, several times, with every operation's result disturbed by errors as large
as a healthy implementation of that precision makes in the summation order that loses most
(`oracle.budget.driven`), and the spread that this causes in each tensor is measured: an error grows or fades on
its way as this case makes it.

*Decisions.* A ReLU whose input rounding takes to the other side, and a max pooling whose winner it changes, let the
gradient jump by an amount that has nothing to do with the size of the error. So the disturbed runs keep the truth's
decisions; and a subject that decided otherwise, by no more than its forward budget, is judged against the truth at
*its* decisions (`oracle.truth.truth`). What is left is linear in the roundings, and its distribution is that of a sum
of many.

*The multiple.* A tensor's mean squared error is a sum of many squares, of which some move together; it is distributed
about as chi-squared over its degrees of freedom. Those are estimated from the scatter between the runs (twice the
squared mean over the variance). If a healthy subject is one more draw, the ratio of its mean square to the runs'
average follows Fisher's F, and the multiple is the square root of the quantile that one draw in ``1 / FALSE_ALARM``
exceeds; `MARGIN` stands for what the model of rounding leaves out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.operations import decisions
from oracle.precision.difference import Budget, Difference, Precision, channels, measure, root_mean_square
from oracle.precision.profile import Profile, profile_of
from oracle.subjects import find_subject
from oracle.trace import Key, Kind, Trace, execution_order

if TYPE_CHECKING:
    from oracle.budget.driven import Decisions

# Healthy implementations round here and there otherwise than the model does. PyTorch in its various guises was measured
# to use up to 0.81 of the budget without this factor (resnet_50, train, channels_last), lucid 0.4, ONNX Runtime 0.6.
MARGIN = 2.0

# One healthy tensor in so many may be flagged: 500 checks of 20,000 tensors leave one chance in a hundred for one
# alarm.
FALSE_ALARM = 1e-9
SEEDS: dict[Precision, int] = {"float32": 3, "tf32": 2, "bfloat16": 2, "float16": 2}

# float32's errors are put in so many times too large, and what comes of them is divided by it again: with the
# decisions fixed the response is in proportion, and the last bits of float64, in which machines and thread counts
# differ, are then so far below it that the stored budgets are the same everywhere.
MAGNIFIED = {"float32": 2.0**10}

# The degrees of freedom of a tensor are those of its neighbours in the order of execution, too: this many on each side.
NEIGHBOURS = 4

# Where a layer's inputs share a mean (they do behind a ReLU), all positions of a channel share the path that their
# partial sums take, a random walk tied at both ends. The mean square over such a walk (Cramer-von Mises) has mean 1/6
# and variance 1/45, which is 2.5 degrees of freedom: a channel has no more.
PATH_FREEDOM = 2.5

Progress = Callable[[str], None]


class Spread:
    """A recorder that measures disturbed runs against the truth."""

    def __init__(self, truth: Trace, scales: Mapping[Key, float], magnified: float) -> None:
        self._truth, self._scales, self._magnified = truth, scales, magnified
        self.found: dict[Key, list[Difference]] = {key: [] for key in truth}

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        key = (kind, name)
        found = measure(kind, array, self._truth[key], self._scales[key])
        channel = None if found.channel is None else found.channel / self._magnified
        self.found[key].append(Difference(found.error / self._magnified, found.largest / self._magnified, channel))


SIDE_NOTE = "judged at the subject's own decisions: {} elements of a ReLU or max pooling went the other way"


def decisions_of(case: Case, trace: Trace) -> Decisions:
    """What a run of ``case`` decided, from its tensors, whatever their order."""
    from oracle.budget.driven import Decisions, winners_of

    maker, found = case.graph.maker, decisions(case.graph)
    passed = {name: trace["activation", name] > 0 for name, how in found.items() if how == "side"}
    taking = [maker[name] for name, how in found.items() if how == "winner"]
    return Decisions(passed, {node.name: winners_of(node, trace["activation", node.inputs[0]]) for node in taking})


def truth_at(
    case: Case, truth: Trace, passed: Mapping[str, np.ndarray], winners: Mapping[str, np.ndarray] | None = None
) -> Trace:
    """The truth at other decisions: those of ``passed`` and ``winners``, and the truth's own where they say nothing.

    Args:
        case: what is run.
        truth: its truth.
        passed: by operation that decides by the sign, where it lets pass.
        winners: by operation that takes the largest, which.
    """
    from oracle.budget.driven import Decisions, run_driven

    own, moved = decisions_of(case, truth), Trace()
    run_driven(case, moved, Decisions({**own.passed, **passed}, {**own.winners, **(winners or {})}))
    return moved


def free_budget(
    case: Case,
    precision: str | Profile,
    seeds: int | None = None,
    *,
    truth: Trace | None = None,
    progress: Progress = lambda message: None,
) -> dict[Key, Budget]:
    """The budget of every tensor of the case.

    Args:
        case: what the subject runs.
        precision: the subject's profile. In float64 the budget is that of float32 in proportion (and the truth is wrong
            as much).
        seeds: how many disturbed runs; by default 3 in float32, 2 in the others.
        truth: the case's truth, where it is at hand.
        progress: called with a sentence before each run.

    Raises:
        UsageError: the precision is unknown, or too few seeds.
    """
    profile = profile_of(precision)
    if profile.base == "float64":
        single = free_budget(case, "float32", seeds, truth=truth, progress=progress)
        return {key: in_float64(key, budget) for key, budget in single.items()}
    count = SEEDS[profile.base] if seeds is None else seeds
    if count < 2:
        raise UsageError(f"seeds: got {count}; must be at least 2, to see a spread")
    if truth is None:
        truth = find_subject("torch:float64").trace(case)
    return from_spread(
        truth, _disturbed_runs(case, profile, count, truth, progress), profile.format.stored, case.graph.output
    )


# The law takes a variance in one pass, about a channel's first value as the pivot `p`: rounding costs
# `1 + (mean - p)^2 / variance` times what two passes cost. In float32 its sums are float64, and that is nothing; the
# float64 truth pays it. A first value is granted four deviations from its mean.
PIVOT = 1.0 + 4.0**2


def in_float64(key: Key, budget: Budget) -> Budget:
    """A float32 budget in proportion, twice over: the truth has rounded as well, a running variance about its pivot.

    Example:
        >>> in_float64(("activation", "fc"), Budget(2.0**-20)).rms == 2.0**-48
        True
        >>> in_float64(("statistic", "stem.1.running_var"), Budget(2.0**-20)).rms == 17 * 2.0**-48
        True
    """
    factor = 2.0 * 2.0**-29 * (PIVOT if key[0] == "statistic" and key[1].endswith(".running_var") else 1.0)
    channel = None if budget.channel is None else budget.channel * factor
    return Budget(budget.rms * factor, budget.largest * factor, channel)


def _disturbed_runs(
    case: Case, profile: Profile, count: int, truth: Trace, progress: Progress
) -> dict[Key, list[Difference]]:
    from oracle.budget.driven import Disturbance, roundoff_of, run_driven

    magnified = MAGNIFIED.get(profile.base, 1.0)
    roundoff = roundoff_of(profile).times(magnified)
    scales = {key: root_mean_square(truth[key]) for key in truth}
    spread = Spread(truth, scales, magnified)
    decided = decisions_of(case, truth)
    for seed in range(count):
        progress(f"{case.name}: {profile}, disturbed run {seed + 1} of {count}")
        text = f"{case.model.name}/{case.mode}/{case.seed}/{profile}/{seed}"
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        disturb = Disturbance(roundoff, np.random.Generator(np.random.SFC64(key)))
        run_driven(case, spread, decided, disturb)
    return spread.found


def from_spread(
    truth: Trace, found: Mapping[Key, Sequence[Difference]], stored: float, output: str
) -> dict[Key, Budget]:
    """The budgets that the spread of disturbed runs makes, each over its tensor's root mean square.

    Args:
        truth: what they spread about.
        found: by tensor, the difference in each of them.
        stored: the unit roundoff of what is stored.
        output: the value that the loss takes.
    """
    order = execution_order(truth)
    order += [key for key in truth if key not in set(order)]  # of a piece, gradients of what it begins with
    freedom = _freedom(order, found)
    budgets = {}
    for key in order:
        runs = found[key]
        multiple = math.sqrt(f_quantile(freedom[key], len(runs) * freedom[key]))
        rms = MARGIN * multiple * math.sqrt(sum(run.error**2 for run in runs) / len(runs)) + stored
        budgets[key] = Budget(
            rms, _largest(key, runs, truth[key], multiple, stored), _channels(key, runs, stored, truth)
        )
    if ("loss", "loss") in budgets and ("activation", output) in found:
        budgets["loss", "loss"] = _loss(truth, found, stored, output)
    return budgets


def _freedom(order: Sequence[Key], found: Mapping[Key, Sequence[Difference]]) -> dict[Key, float]:
    """The degrees of freedom of each tensor's mean squared error, pooled over neighbours of its kind."""
    freedom = {}
    for kind in dict.fromkeys(kind for kind, _ in order):
        keys = [key for key in order if key[0] == kind]
        squares = np.array([[run.error**2 for run in found[key]] for key in keys])
        means = squares.mean(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            scatter = np.where(means > 0, squares.var(axis=1, ddof=1) / means**2, 0.0)
        for place, key in enumerate(keys):
            near = scatter[max(0, place - NEIGHBOURS) : place + NEIGHBOURS + 1]
            largest = max(float(near.mean()), float(scatter[place]))
            freedom[key] = min(max(2.0 / largest if largest > 0 else math.inf, 1.0), 1e4)
    return freedom


def _largest(key: Key, runs: Sequence[Difference], truth: np.ndarray, multiple: float, stored: float) -> float:
    """The largest deviation of a normal error in ``n`` elements grows as ``sqrt(2 ln n)``; that which one draw in
    ``1 / FALSE_ALARM`` exceeds is as large as the usual one in so many times more elements. An element that is itself
    far above the others is stored with as much larger an error.
    """
    path = math.sqrt(f_quantile(PATH_FREEDOM, math.inf))  # of the channel in which it lies
    count = max(2, truth.size)
    tail = math.sqrt(1.0 + math.log(1.0 / FALSE_ALARM) / math.log(count))
    scale = root_mean_square(truth)
    peak = float(np.abs(truth).max(initial=0.0)) / scale if scale > 0 else 0.0
    return MARGIN * max(run.largest for run in runs) * max(tail, multiple, path) + stored * peak


def _channels(key: Key, runs: Sequence[Difference], stored: float, truth: Trace) -> np.ndarray | None:
    """By channel, the multiple being that of the channels' own degrees of freedom.

    A channel's few runs say little of its variance, and all channels together much: each is drawn towards their mean as
    strongly as the scatter among them allows (the empirical Bayes estimate of Smyth, 2004).
    """
    parts = [run.channel for run in runs if run.channel is not None]
    if len(parts) < len(runs) or not parts or parts[0].size == 0:
        return None
    squares = np.square(np.stack(parts))
    own = squares.mean(axis=0)
    common = float(own.mean())
    if common == 0.0:
        return np.full(own.shape, stored)
    live = own > 1e-6 * common  # a channel that a ReLU blocked has no error at all
    if live.sum() < 2:
        return np.full(own.shape, math.sqrt(common * len(own)) + stored)
    scatter = float((squares[:, live].var(axis=0, ddof=1) / own[live] ** 2).mean())
    each = min(max(2.0 / scatter if scatter > 0 else math.inf, 1.0), 1e4)
    drawn = min(each, PATH_FREEDOM)
    known = len(runs) * each
    excess = float(np.log(own[live]).var()) - _trigamma(known / 2)
    prior = min(2.0 * _inverse_trigamma(excess), 1e6) if excess > 0 else 1e6
    shrunk = (prior * common + known * own) / (prior + known)
    return MARGIN * np.sqrt(shrunk * f_quantile(drawn, known + prior)) + stored


def _loss(truth: Trace, found: Mapping[Key, Sequence[Difference]], stored: float, last: str) -> Budget:
    """One number has one degree of freedom, but its error is the sum of those of the logits, times their gradients."""
    loss, logits = float(truth["loss", "loss"]), truth["activation", last]
    runs = found["activation", last]
    error = root_mean_square(logits) * math.sqrt(sum(run.error**2 for run in runs) / len(runs))
    gradient = float(np.linalg.norm(truth["activation_gradient", last]))
    budget = math.sqrt(f_quantile(1.0, 1e6)) * (gradient * error / abs(loss) + 4 * stored) if loss else math.inf
    return Budget(budget, budget)


# -- distributions ---------------------------------------------------------------------------------------------------


@lru_cache(1 << 12)
def _quantile_on_grid(first: int, second: int) -> float:
    """The quantile of F at degrees of freedom ``2 ** (n / 2)``, found by halving the logarithm."""
    d1, d2 = 2.0 ** (first / 2), 2.0 ** (second / 2)
    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        if incomplete_beta(d2 / 2, d1 / 2, d2 / (d2 + d1 * math.exp(middle))) > FALSE_ALARM:
            low = middle
        else:
            high = middle
    return math.exp(high)


MOST_FREEDOM = 2.0**12


def f_quantile(first: float, second: float) -> float:
    """What a ratio of mean squares of ``first`` and ``second`` degrees of freedom exceeds once in ``1 / FALSE_ALARM``.

    The degrees are rounded down to half octaves and taken as at most 4096, which is the careful side.

    Example:
        >>> round(math.sqrt(f_quantile(1, 1e6)), 1), round(math.sqrt(f_quantile(1024, 4096)), 2)
        (6.1, 1.15)
    """
    steps = [math.floor(2 * math.log2(min(max(each, 1.0), MOST_FREEDOM))) for each in (first, second)]
    return _quantile_on_grid(steps[0], steps[1])


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function ``I_x(a, b)`` (continued fraction: DLMF 8.17.22, Lentz's method).

    Example:
        >>> round(incomplete_beta(2.0, 3.0, 0.5), 6)
        0.6875
    """
    if x <= 0.0 or x >= 1.0:
        return float(x > 0.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny, c = 1e-300, 1.0
    d = 1.0 / (1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 100_000):
        for top in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / (1.0 + top * d or tiny)
            c = 1.0 + top / c or tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return math.exp(logarithm) * fraction / a


def _trigamma(x: float) -> float:
    """The variance of the logarithm of a gamma variate (recurrence and asymptotic series: DLMF 5.15.8)."""
    total = 0.0
    while x < 10:
        total += 1 / x**2
        x += 1
    return total + 1 / x + 1 / (2 * x**2) + 1 / (6 * x**3) - 1 / (30 * x**5)


def _inverse_trigamma(value: float) -> float:
    """By halving: trigamma falls."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        if _trigamma(math.exp(middle)) > value:
            low = middle
        else:
            high = middle
    return math.exp(high)


def channel_count(key: Key, shape: tuple[int, ...]) -> int:
    """How many channels of a tensor have a budget of their own."""
    divided = channels(key[0], shape)
    return 0 if divided is None else divided[1]
