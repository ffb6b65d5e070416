"""The free-running budget: healthy subjects stay within it, decisions are followed, and its statistics are right."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy import special, stats  # noqa: E402

from oracle.budget.driven import Decisions, Disturbance, roundoff_of, run_driven  # noqa: E402
from oracle.budget.free import (  # noqa: E402
    FALSE_ALARM,
    SEEDS,
    _inverse_trigamma,
    _trigamma,
    decisions_of,
    f_quantile,
    free_budget,
    incomplete_beta,
    truth_at,
)
from oracle.case.case import Case  # noqa: E402
from oracle.errors import UsageError  # noqa: E402
from oracle.precision.difference import root_mean_square  # noqa: E402
from oracle.precision.rounding import alike, growth, mean_square  # noqa: E402
from oracle.resnets import Architecture  # noqa: E402
from oracle.run import run_case  # noqa: E402
from oracle.subjects import find_subject  # noqa: E402
from oracle.trace import Trace  # noqa: E402
from oracle.truth.truth import Truth, prepare  # noqa: E402

SMALL = {
    block: Architecture(f"small_{block}", block, (2, 2, 2, 1), num_classes=10, stem_width=8, channels=(8, 16, 24, 32))
    for block in ("basic", "bottleneck", "preact")
}


def case_of(block: str = "basic", mode: str = "train", seed: int = 0) -> Case:
    return Case(SMALL[block], mode, "seeded", size=64, batch=2, seed=seed)  # type: ignore[arg-type]


# -- healthy subjects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("block", SMALL)
def test_healthy_subjects_stay_within(block: str, mode: str, seed: int) -> None:
    subjects = [find_subject(name) for name in ("torch", "torch:no-onednn", "torch:float64", "lucid")]
    verdict = run_case(case_of(block, mode, seed), subjects, views=["free"])
    assert [subject.view for subject in verdict.subjects] == ["free"] * 4
    assert verdict.agrees, [subject.sentence() for subject in verdict.subjects]
    assert "PyTorch float64 agrees" in verdict.truth


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_compiled_network_stays_within(mode: str) -> None:
    verdict = run_case(case_of("basic", mode), [find_subject("torch:compile")])
    assert [subject.view for subject in verdict.subjects] == ["free", "own"]
    assert verdict.agrees, [subject.sentence() for subject in verdict.subjects]


def test_budgets_follow_the_precision() -> None:
    case = case_of()
    truth = find_subject("lucid:float64").trace(case)
    found = {each: free_budget(case, each, truth=truth) for each in ("float64", "float32", "float16", "bfloat16")}
    activations = [key for key in truth if key[0] == "activation"]
    ratio = np.median([found["bfloat16"][key].rms / found["float16"][key].rms for key in activations])
    assert 5 < ratio < 13  # 2 ** 3
    key = ("activation", "layer2.1.bn2")
    assert found["float64"][key].rms == found["float32"][key].rms * 2.0**-28
    assert 100 < found["float16"][key].rms / found["float32"][key].rms < 10_000
    again = free_budget(case, "float32", truth=truth)
    assert all(again[key].rms == found["float32"][key].rms for key in again)


def test_what_cannot_be_budgeted() -> None:
    with pytest.raises(UsageError, match="precision: got 'int8'"):
        free_budget(case_of(), "int8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seeds: got 1; must be at least 2"):
        free_budget(case_of(), "float32", 1)


def test_without_a_truth_the_budget_makes_its_own() -> None:
    """PyTorch's float64 run stands in for lucid's: what is left apart is float64's rounding of the truth itself."""
    case = case_of(mode="eval")
    truth = find_subject("torch:float64").trace(case)
    alone, given = free_budget(case, "float16", 2), free_budget(case, "float16", 2, truth=truth)
    assert list(alone) == list(given)
    for key, budget in alone.items():
        assert (budget.rms, budget.largest) == (given[key].rms, given[key].largest), key
    apart = free_budget(case, "float16", 2, truth=find_subject("lucid:float64").trace(case))
    assert all(apart[key].rms == pytest.approx(alone[key].rms, rel=1e-6) for key in alone)


def test_the_number_of_runs_may_be_given() -> None:
    case, told = case_of(mode="eval"), []
    truth = find_subject("torch:float64").trace(case)
    free_budget(case, "tf32, truncated", 3, truth=truth, progress=told.append)
    assert told == [f"{case.name}: tf32, truncated, disturbed run {run} of 3" for run in (1, 2, 3)]
    told.clear()
    free_budget(case, "tf32", truth=truth, progress=told.append)
    assert len(told) == SEEDS["tf32"] == 2


# -- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", SMALL)
def test_at_its_own_decisions_the_truth_is_the_truth(block: str) -> None:
    case = case_of(block)
    truth, driven = find_subject("torch:float64").trace(case), Trace()
    decisions = decisions_of(case, truth)
    assert isinstance(decisions, Decisions)
    run_driven(case, driven, decisions)
    assert set(driven) == set(truth)
    for key in truth:
        scale = root_mean_square(truth[key])
        assert np.abs(driven[key] - truth[key]).max() <= 1e-11 * scale + 1e-15, key


def test_a_subject_is_judged_at_its_own_decisions() -> None:
    """One element behind a ReLU is so near to zero that a healthy subject may take it to either side."""
    case = case_of("bottleneck")
    truth = prepare(case)
    name = "layer2.0.relu1"
    trace = truth.trace
    passing = trace["activation", name].copy()
    gradient = trace["activation_gradient", name]
    place = np.unravel_index(np.argmax(np.where(passing > 0, np.abs(gradient), 0)), passing.shape)
    passing[place] = 0.0
    moved = truth_at(case, trace, {name: passing > 0}, None)
    assert moved["activation_gradient", "layer2.0.bn1"][place] == 0
    # The subject's gradients are those at its decision; its activations differ from the truth's within the budget.
    judge = truth.judge("free", "float32")
    allowed = truth.budget(("activation", name), "float32")
    near = trace["activation", name].copy()
    near[place] = 0.0
    judged = judge(("activation", name), near)
    assert not judged.agrees  # this element was far from zero: crossing over is a fault, and is not followed
    assert allowed.largest < 1e-3
    key = ("activation_gradient", "layer2.0.bn1")
    assert not judge(key, moved[key]).agrees  # type: ignore[union-attr]
    assert judge(key, trace[key]).agrees  # type: ignore[union-attr]


class Close(Truth):
    """A truth one of whose ReLU inputs lies just above zero."""

    def __init__(self, case: Case, trace: Trace) -> None:
        super().__init__(case)
        self._trace, self._scales = trace, {key: root_mean_square(trace[key]) for key in trace}
        self._budgets = {"float32": free_budget(case, "float32", truth=trace)}


def test_a_near_zero_that_goes_the_other_way_is_followed() -> None:
    case, name = case_of("bottleneck"), "layer2.0.relu1"
    trace = find_subject("lucid:float64").trace(case)
    for key in trace:
        trace.replace(key, np.asarray(trace[key], order="C"))
    values = trace["activation", name].copy()
    place = np.unravel_index(
        np.argmax(np.where(values > 0, np.abs(trace["activation_gradient", name]), 0)), values.shape
    )
    values[place] = 1e-9
    trace.replace(("activation", name), values)
    judge = Close(case, trace).judge("free", "float32")
    blocked = values.copy()
    blocked[place] = 0.0
    assert judge(("activation", name), blocked).agrees  # type: ignore[union-attr]
    moved = truth_at(case, trace, {name: blocked > 0}, None)
    key = ("activation_gradient", "layer2.0.bn1")
    verdict = judge(key, moved[key])
    assert verdict.agrees  # type: ignore[union-attr]
    assert "1 elements" in verdict.note  # type: ignore[union-attr]
    assert not judge(key, trace[key]).agrees  # type: ignore[union-attr]


# -- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "x"), [(0.5, 0.5, 0.3), (2, 3, 0.9), (50, 0.5, 0.99), (300, 700, 0.2), (1, 1, 0.5)])
def test_incomplete_beta(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-10)


@pytest.mark.parametrize(("a", "b", "x"), [(2.0, 3.0, 0.0), (2.0, 3.0, -1.0), (2.0, 3.0, 1.0), (2.0, 3.0, 1.5)])
def test_incomplete_beta_at_its_ends(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == (1.0 if x >= 1.0 else 0.0)


@pytest.mark.parametrize("x", [0.399, 0.4, 0.401, 1e-12, 1 - 1e-12])
def test_incomplete_beta_on_both_sides_of_its_reflection(x: float) -> None:
    """With ``a = 1, b = 2`` the function is ``1 - (1 - x)**2``; it is reflected above ``(a + 1) / (a + b + 2)``."""
    assert incomplete_beta(1.0, 2.0, x) == pytest.approx(1 - (1 - x) ** 2, rel=1e-10)


@pytest.mark.parametrize("first", [2.0 ** (n / 2) for n in range(25)])
def test_f_quantile_on_its_whole_grid(first: float) -> None:
    """Its bounds hold every quantile: ``1 / FALSE_ALARM`` draws of one over one degree of freedom are the farthest."""
    for second in (2.0 ** (n / 2) for n in range(0, 25, 3)):
        wanted = float(stats.f.isf(FALSE_ALARM, first, second))
        assert f_quantile(first, second) == pytest.approx(wanted, rel=1e-6), second


@pytest.mark.parametrize("value", [1e-6, 1e-3, 0.1, 0.5, 1.0, math.pi**2 / 6, 10.0, 1e4, 1e8])
def test_inverse_trigamma(value: float) -> None:
    """The series stops before ``1 / (42 x**7)``, at ``x`` of 10 at least; the halving ends at its last bits."""
    x = _inverse_trigamma(value)
    assert _trigamma(x) == pytest.approx(value, rel=1e-12)
    assert _trigamma(x) == pytest.approx(float(special.polygamma(1, x)), rel=1e-12, abs=1 / (42 * 10**7))


@pytest.mark.parametrize(("first", "second"), [(1, 4096), (2, 8), (16, 64), (256, 1024), (4096, 4096)])
def test_f_quantile(first: int, second: int) -> None:
    assert f_quantile(first, second) == pytest.approx(float(stats.f.isf(FALSE_ALARM, first, second)), rel=1e-4)


def test_f_quantile_is_careful_between_its_grid_points() -> None:
    for first, second in ((3, 11), (23, 60), (1e5, 1e7), (0.3, 5)):
        exact = float(stats.f.isf(FALSE_ALARM, max(first, 1), second))
        assert f_quantile(first, second) >= exact * 0.9999
    assert math.isfinite(f_quantile(math.inf, math.inf))


@pytest.mark.parametrize("count", [100, 972, 5000])
def test_one_addend_again_and_again_is_granted_what_it_costs(count: int) -> None:
    """Sums in float32 of 400 seeded numbers, each ``count`` times: the error does not grow as a random walk does."""
    addends = np.random.default_rng(count).uniform(1, 2, 400).astype(np.float32)
    exact = addends.astype(np.float64) * count
    sums = np.cumsum(np.broadcast_to(addends, (count, 400)), axis=0, dtype=np.float32)[-1]
    error = (sums - exact) / exact
    granted = math.sqrt(float(alike(2.0**-24, np.array(float(count)), np.array(1.0))))
    assert 0.5 * granted < math.sqrt(np.square(error).mean()) < granted
    assert np.abs(error).max() < 3 * granted
    assert granted > 3 * math.sqrt(mean_square(2.0**-24) * growth(count))


def test_zeros_behind_a_relu_are_granted_in_a_variance() -> None:
    x = torch.ones(2, 2, 6, 6, dtype=torch.float64)
    x[:, 1, 1:] = 0.0  # 60 of 72
    generator = np.random.Generator(np.random.SFC64(0))
    usual = Disturbance(roundoff_of("float32"), generator).repeated(x)
    assert usual.tolist() == [0.0, float(alike(2.0**-24, np.array(60.0), np.array(1.0)))]
    assert Disturbance(roundoff_of("float32, one-pass variance"), generator).repeated(x).tolist() == [0.0, 0.0]
