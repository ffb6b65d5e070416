"""The comparison by itself, on hand-made tensors: what is measured, what is judged, and what never agrees."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from oracle.case.case import Case
from oracle.judge.verdicts import Comparison, LayerVerdict, Status, SubjectVerdict, View, judge, share, worst_channel
from oracle.precision.difference import JUDGEABLE, Budget, channels, measure
from oracle.resnets import find_architecture
from oracle.run import CaseVerdict
from oracle.trace import Key, execution_order

RNG = np.random.default_rng(0)
KEY: Key = ("activation", "stem.0")
SHAPE = (2, 4, 8, 8)


# -- measuring --------------------------------------------------------------------------------------------------------


def test_error_is_relative_to_the_whole_tensor() -> None:
    truth = RNG.standard_normal(SHAPE)
    found = measure("activation", truth * (1 + 1e-6), truth)
    assert found.error == pytest.approx(1e-6, rel=1e-6)
    rms = float(np.sqrt(np.mean(truth**2)))
    assert found.largest == pytest.approx(1e-6 * np.abs(truth).max() / rms, rel=1e-6)
    assert found.channel == pytest.approx(1e-6 * np.sqrt(np.mean(truth**2, axis=(0, 2, 3))) / rms, rel=1e-6)


def test_any_memory_order_and_lower_precision() -> None:
    truth = RNG.standard_normal(SHAPE)
    assert measure("activation", np.asfortranarray(truth), truth).error == 0
    assert measure("activation", truth.astype(np.float16), truth).error == pytest.approx(2e-4, rel=0.5)
    assert measure("loss", np.array(2.0), np.array(1.0)).error == 1
    assert measure("activation", np.zeros((0, 3)), np.zeros((0, 3))).error == 0


def test_channels() -> None:
    assert channels("activation_gradient", SHAPE) == (2, 4, 64)
    assert channels("parameter_gradient", (64, 3, 7, 7)) == (1, 64, 147)
    assert channels("parameter_gradient", (64,)) is None
    assert channels("loss", ()) is None
    assert worst_channel(np.zeros(2), np.zeros(2)) == (0, 0.0)
    assert worst_channel(None, np.zeros(2))[0] is None


# -- judging ----------------------------------------------------------------------------------------------------------


def judged(array: np.ndarray, truth: np.ndarray, budget: Budget) -> LayerVerdict:
    return judge(KEY, "free", array, truth, budget, explain=lambda *_: "all elements")


def test_each_part_of_the_budget_can_be_over_alone() -> None:
    truth = np.ones(SHAPE)
    channel = np.full(4, 1e-3)
    whole = truth + 1e-4
    assert judged(whole, truth, Budget(2e-4, 2e-4, channel)).status == "within"
    over = judged(whole, truth, Budget(0.9e-4, 1.0, channel))
    assert (over.status, over.difference) == ("over", "all elements")
    one = truth.copy()
    one[1, 2, 3, 4] += 1e-2
    assert judged(one, truth, Budget(0.3, 0.9e-2, channel)).status == "over"
    assert judged(one, truth, Budget(0.3, 1.1e-2, channel)).status == "within"
    line = truth.copy()
    line[:, 3] += 1.1e-3
    over = judged(line, truth, Budget(0.3, 1.0, channel))
    assert (over.status, over.channel, round(over.channel_share, 3)) == ("over", 3, 1.1)
    assert over.used == over.channel_share


def test_what_is_just_within() -> None:
    """A budget includes its end: of a tensor that has none, equal is within, and nothing else."""
    nothing = Budget(0.0, 0.0, np.zeros(4))
    for truth in (np.ones(SHAPE), np.zeros(SHAPE)):
        assert judged(truth, truth, nothing).status == "within"
        assert judged(truth + 2.0**-40, truth, nothing).status == "over"
    half = Budget(0.25, 0.25, np.full(4, 0.25))
    assert judged(np.full(SHAPE, 1.25), np.ones(SHAPE), half).status == "within"
    for part in ({"rms": 0.2}, {"largest": 0.2}, {"channel": np.full(4, 0.2)}):
        assert judged(np.full(SHAPE, 1.25), np.ones(SHAPE), dataclasses.replace(half, **part)).status == "over"


@pytest.mark.parametrize(
    ("array", "status"),
    [
        (np.full(SHAPE, np.nan), "not finite"),
        (np.full(SHAPE, np.inf), "not finite"),
        (np.full(SHAPE, -np.inf), "not finite"),
        (np.full(SHAPE, 1e300), "over"),
        (np.ones(SHAPE[1:]), "shape"),
        (np.ones((2, 8, 8, 4)), "shape"),
    ],
)
def test_what_is_never_within(array: np.ndarray, status: str) -> None:
    found = judged(array, np.ones(SHAPE), Budget(math.inf if status != "over" else 1.0, 1.0, None))
    assert (found.status, found.agrees) == (status, False)


def test_one_nan_among_many_is_not_finite() -> None:
    array = np.ones(SHAPE, np.float32)
    array[0, 1, 2, 3] = np.nan
    assert judged(array, np.ones(SHAPE), Budget(1.0, 1.0, np.ones(4))).status == "not finite"


def test_a_budget_that_exceeds_its_share_of_the_tensor_judges_nothing() -> None:
    """But what is over even so is over."""
    truth = RNG.standard_normal(SHAPE)
    within, unjudged = (judged(np.zeros(SHAPE), truth, Budget(rms)).status for rms in (0.3, 3.0))
    assert (within, unjudged) == ("over", "not judged")
    assert judged(truth, truth, Budget(JUDGEABLE)).status == "within"
    assert judged(truth, truth, Budget(math.nextafter(JUDGEABLE, 1))).status == "not judged"
    assert judged(100 * truth, truth, Budget(3.0)).status == "over"


@pytest.mark.parametrize(
    ("statuses", "agrees", "undecided", "words"),
    [
        (["within", "not judged"], True, False, "agrees in 1 tensors (1 not judged: their budget exceeds 0.3"),
        (["within", "not judged", "not observed"], True, False, "0.3 of the tensor; 1 not observed)"),
        (["within", "within"], True, False, "agrees in all 2 tensors; closest"),
        (["not judged"], False, True, "nothing was judged (1 not judged: their budget exceeds 0.3"),
        (["not judged", "not observed"], False, True, "which is no agreement"),
        (["not observed"], False, False, "nothing was compared, which is no agreement"),
        (["over", "not judged"], False, False, "disagrees. forward, first out of line: the output of 0"),
        (["over", "within", "not judged", "not observed"], False, False, "1 of 4 tensors not observed; 1 not judged"),
    ],
)
def test_what_is_not_judged_is_counted_and_never_agrees(
    statuses: list[Status], agrees: bool, undecided: bool, words: str
) -> None:
    layers = [LayerVerdict("activation", str(n), "free", each, 0.1, 0.5) for n, each in enumerate(statuses)]
    found = SubjectVerdict("subject", "free", "float32", layers)
    assert (found.agrees, found.undecided) == (agrees, undecided)
    assert words in found.sentence()
    assert len(found.judged) == sum(each in ("within", "over") for each in statuses)
    other = SubjectVerdict("subject", "own", "float32", [LayerVerdict("activation", "0", "own", "within", 0.1, 0.5)])
    case = CaseVerdict(Case(find_architecture("narrow_basic"), "eval", source="seeded"), [found, other])
    assert case.agrees == (agrees or undecided)
    assert CaseVerdict(case.case, [found]).agrees == agrees
    stranger = dataclasses.replace(other, subject="another")
    assert CaseVerdict(case.case, [found, stranger]).agrees == agrees


def test_a_failure_is_never_undecided() -> None:
    layer = LayerVerdict(*KEY, "free", "not judged", 0.1, 0.5)
    assert not SubjectVerdict("subject", "free", "float32", [layer], "RuntimeError: lost").undecided


def test_comparing_nothing_never_agrees() -> None:
    verdict = SubjectVerdict("subject", "free", "float32", [])
    assert not verdict.agrees
    assert "nothing was compared" in verdict.sentence()


def test_a_failure_never_agrees() -> None:
    layer = LayerVerdict(*KEY, "free", "within", 0.0, 1.0)
    assert SubjectVerdict("subject", "free", "float32", [layer]).agrees
    assert not SubjectVerdict("subject", "free", "float32", [layer], "RuntimeError: lost").agrees


@pytest.mark.parametrize(
    ("value", "allowed", "used"),
    [
        (1.0, 4.0, 0.25),
        (0.0, 0.0, 0.0),
        (1.0, 0.0, math.inf),
        (1.0, math.inf, 0.0),
        (math.inf, 1.0, math.inf),
        (math.inf, math.inf, 0.0),
        (math.nan, 1.0, math.nan),
        (1.0, math.nan, math.nan),
        (0.0, math.nan, math.nan),
        (math.nan, math.inf, math.nan),
        (math.nan, math.nan, math.nan),
    ],
)
def test_the_share_that_is_used(value: float, allowed: float, used: float) -> None:
    assert share(value, allowed) == pytest.approx(used, rel=0, abs=0, nan_ok=True)
    layer = LayerVerdict(*KEY, "free", "within", value, allowed)
    assert layer.used == pytest.approx(used, rel=0, abs=0, nan_ok=True)
    layer = LayerVerdict(*KEY, "free", "within", 0.1, 1.0, value, allowed, 3, 0.01)
    assert layer.used == (0.1 if math.isnan(used) else max(used, 0.1))


OUT = {"forward": ("activation", "a"), "backward": ("activation_gradient", "b")}


@pytest.mark.parametrize(
    ("bad", "view", "fields", "said", "unsaid"),
    [
        ((), "free", {"failure": "E: lost"}, ("could not finish: E: lost",), ("out of line", "agrees")),
        (("forward",), "free", {"failure": "E: lost"}, ("E: lost; before that, out of line: the output of a",), ()),
        (("backward",), "own", {"failure": "E: lost"}, ("out of line: the gradient of the output of b",), ()),
        (("forward", "backward"), "free", {}, ("the output of a", "b (error", "may follow from the forward"), ()),
        (("forward", "backward"), "own", {}, ("the output of a", "b (error"), ("may follow",)),
        (("forward", "backward"), "local", {}, ("the output of a", "that b hands back"), ("may follow",)),
        (
            ("backward",),
            "free",
            {},
            ("first out of line: the gradient of the output of b",),
            ("may follow", "forward,"),
        ),
        ((), "free", {"differing": ("w",)}, ("disagrees. its own w differs from the case's",), ("more", "out of line")),
        ((), "free", {"differing": tuple("wxy")}, ("its own w, x, y differ from the case's",), ("more",)),
        ((), "free", {"differing": tuple("vwxyz")}, ("its own v, w, x and 2 more differ from the case's",), ("y",)),
    ],
)
def test_a_verdict_says_what_is_out_of_line_and_what_may_follow(
    bad: tuple[str, ...], view: View, fields: dict[str, Any], said: tuple[str, ...], unsaid: tuple[str, ...]
) -> None:
    """A tensor that a subject still owed when it failed is not out of line: one such stands before the others."""
    wrong = [OUT[each] for each in bad]
    layers = [LayerVerdict("activation", "first", view, "missing" if "failure" in fields else "within", 0.1, 0.5)]
    layers += [LayerVerdict(*key, view, "over" if key in wrong else "within", 0.6, 0.5) for key in OUT.values()]
    told = SubjectVerdict("s", view, "float32", layers, **fields).sentence()
    assert all(words in told for words in said), told
    assert not any(words in told.removeprefix(f"s ({view}) disagrees") for words in unsaid), told


# -- the recorder -----------------------------------------------------------------------------------------------------


def test_missing_repeated_and_unexpected() -> None:
    keys: list[Key] = [("activation", name) for name in ("a", "b", "c")]
    comparison = Comparison(keys, "free", lambda key, array: LayerVerdict(*key, "free", "within", 0.0, 1.0))
    for name in ("b", "z", "a", "a"):
        comparison.record("activation", name, np.zeros(1))
    found = [(layer.name, layer.status) for layer in comparison.layers()]
    assert found == [("a", "repeated"), ("b", "within"), ("c", "missing"), ("z", "unexpected")]


def test_verdicts_may_come_later_from_threads() -> None:
    with ThreadPoolExecutor(1) as pool:
        comparison = Comparison([KEY], "exact", lambda key, array: pool.submit(LayerVerdict, *key, "exact", "exact"))
        comparison.record(*KEY, np.zeros(1))
        [layer] = comparison.layers()
    assert layer.status == "exact"


def test_the_first_is_the_first_to_execute() -> None:
    keys: list[Key] = [
        ("activation", "a"), ("activation", "b"), ("loss", "loss"), ("activation_gradient", "a"),
        ("activation_gradient", "b"), ("parameter_gradient", "a.weight"), ("parameter_gradient", "b.weight"),
    ]  # fmt: skip
    order = execution_order(keys)
    assert order[3:] == [
        ("activation_gradient", "b"), ("parameter_gradient", "b.weight"),
        ("activation_gradient", "a"), ("parameter_gradient", "a.weight"),
    ]  # fmt: skip
    wrong = {("activation_gradient", "a"), ("parameter_gradient", "b.weight")}
    layers = [LayerVerdict(*key, "free", "over" if key in wrong else "within", 1.0, 2.0) for key in order]
    verdict = SubjectVerdict("subject", "free", "float32", layers)
    assert verdict.first is not None
    assert verdict.first.name == "b.weight"
    assert verdict.first_forward is None
    assert "the gradient of b.weight" in verdict.sentence()
