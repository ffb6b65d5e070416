"""Which views apply to which subjects, what is refused, and what one verdict is made of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.judge.verdicts import LayerVerdict, SubjectVerdict
from oracle.run import DEFAULT_VIEWS, CaseVerdict, Verdict, check, look, run_case, views_of
from oracle.subjects import Subject
from oracle.trace import Key, Recorder
from oracle.truth.goldens import Golden
from oracle.truth.truth import Truth

GOLDEN = Golden.load("narrow_basic-eval")
CASE = GOLDEN.case
EVERY: Any = ("exact", "free", "own", "stored", "local")


@dataclass(eq=False)
class Made(Subject):
    """A subject of which only what it can do matters."""

    label: str = "made"
    exact: bool = False
    layered: bool = False
    partial: bool = False

    def run(self, case: Case, recorder: Recorder) -> None:
        recorder.record("activation", "stem.0", np.zeros((1, 4, 16, 16), np.float32))


@pytest.mark.parametrize(
    ("exact", "layered", "golden", "wanted", "views"),
    [
        (True, True, True, EVERY, ["exact"]),
        (True, True, True, ["free", "local", "own", "stored"], []),
        (True, True, False, EVERY, ["free", "own", "local"]),
        (True, False, False, EVERY, ["free", "own"]),
        (False, True, True, EVERY, ["free", "own", "stored", "local"]),
        (False, False, True, EVERY, ["free", "own", "stored"]),
        (False, True, False, EVERY, ["free", "own", "local"]),
        (False, False, False, ["exact", "local", "stored"], []),
        (False, True, True, ["local"], ["local"]),
        (False, False, True, ["local"], []),
        (False, False, True, ["own"], ["own"]),
        (False, False, True, ["stored"], ["stored"]),
        (False, True, True, DEFAULT_VIEWS, ["free", "own", "local"]),
    ],
)
def test_the_views_that_apply(exact: bool, layered: bool, golden: bool, wanted: Any, views: list[str]) -> None:
    found = views_of(Made(exact=exact, layered=layered), wanted, Truth(CASE, GOLDEN if golden else None))
    assert found == views


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (["loose"], "views: got loose; may be exact, free, local, own, stored"),
        (["free", "tight", "loose"], "views: got tight, loose; may be"),
        ([], "views: got none; may be"),
    ],
)
def test_unknown_views_are_refused(views: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check("narrow_basic", [Made()], mode="eval", views=views)
    with pytest.raises(UsageError, match=words):
        run_case(CASE, [Made()], views=views)


def test_a_view_that_applies_to_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match=r"none of \(local\) applies to \(made\) in narrow_basic-eval"):
        run_case(CASE, [Made()], views=["local"], truth=Truth(CASE, GOLDEN))


def test_the_local_view_is_of_those_subjects_that_can_be_driven() -> None:
    pytest.importorskip("torch")
    from oracle.subjects import find_subject

    others = [Made(label="one", partial=True), find_subject("torch"), Made(label="two", partial=True)]
    found = run_case(CASE, others, views=["free", "local"], truth=Truth(CASE, GOLDEN))
    told = [(each.subject, each.view) for each in found.subjects]
    assert told == [("one", "free"), ("torch", "free"), ("torch", "local"), ("two", "free")]
    assert found.subjects[2].agrees
    for each in found.subjects:
        assert {layer.view for layer in each.layers} == {each.view}


def test_a_run_serves_every_view() -> None:
    runs: list[str] = []

    class Counted(Made):
        def run(self, case: Case, recorder: Recorder) -> None:
            runs.append(case.name)
            super().run(case, recorder)

    found = look(Counted(), ["free", "own", "stored"], Truth(CASE, GOLDEN))
    assert runs == ["narrow_basic-eval"]
    assert [each.view for each in found] == ["free", "stored", "own"]
    assert all(each.first is not None and each.first.name == "stem.0" for each in found)


def test_the_own_view_is_left_out_where_it_can_judge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyTorch a tensor is not judged over a piece of the graph."""
    monkeypatch.setitem(sys.modules, "oracle.judge.pieces", None)

    class Late(Made):
        def run(self, case: Case, recorder: Recorder) -> None:
            recorder.record("activation", "fc", np.zeros(GOLDEN.shape(("activation", "fc")), np.float32))

    assert [each.view for each in look(Late(), ["free", "own"], Truth(CASE, GOLDEN))] == ["free"]
    [own] = look(Late(), ["own"], Truth(CASE, GOLDEN))
    assert own.undecided
    assert not own.agrees


def test_a_subject_that_fails_fails_in_every_view() -> None:
    class Broken(Made):
        def run(self, case: Case, recorder: Recorder) -> None:
            super().run(case, recorder)
            raise RuntimeError("lost")

    for each in look(Broken(), ["free", "own"], Truth(CASE, GOLDEN)):
        assert not each.agrees
        assert "could not finish: RuntimeError: lost" in each.sentence()


def test_a_tensor_that_is_recorded_twice_is_told() -> None:
    class Twice(Made):
        def run(self, case: Case, recorder: Recorder) -> None:
            super().run(case, recorder)
            super().run(case, recorder)

    free, own = look(Twice(), ["free", "own"], Truth(CASE, GOLDEN))
    assert free.first is not None
    assert free.first.status == "repeated"
    assert not own.failure


def test_nothing_never_agrees() -> None:
    assert not Verdict([], {}).agrees
    assert not CaseVerdict(CASE, []).agrees
    good = SubjectVerdict("s", "free", "float32", [LayerVerdict("activation", "fc", "free", "within", 0.1, 0.2)])
    bad = SubjectVerdict("s", "own", "float32", [LayerVerdict("activation", "fc", "own", "over", 0.3, 0.2)])
    assert CaseVerdict(CASE, [good]).agrees
    assert not CaseVerdict(CASE, [good, bad]).agrees
    assert not Verdict([CaseVerdict(CASE, [good]), CaseVerdict(CASE, [bad])], {}).agrees


# -- by the golden alone -----------------------------------------------------------------------------------------------

KEYS: list[Key] = [("activation", "layer1.0.conv1"), ("activation", "fc")]


def whole(key: Key) -> np.ndarray:
    found = GOLDEN.full(key)
    assert found is not None
    return found


def one(truth: np.ndarray, place: int, value: float) -> np.ndarray:
    made = truth.copy()
    made.flat[place] += value
    return made


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("change", "exact", "stored"),
    [
        (lambda t, at: t, "exact", "within"),
        (lambda t, at: np.asfortranarray(t), "exact", "within"),
        (lambda t, at: t * (1 + 2.0**-40), "over", "within"),
        (lambda t, at: t * (1 + 2.0**-10), "over", "over"),
        (lambda t, at: t * 0, "over", "over"),
        (lambda t, at: one(t, at, 1e-2), "over", "over"),  # one element, far below what moves the whole
        (lambda t, at: t.reshape(-1), "shape", "shape"),
        (lambda t, at: t[:1], "shape", "shape"),
        (lambda t, at: one(t, at, np.nan), "not finite", "not finite"),
        (lambda t, at: one(t, at + 1, np.inf), "not finite", "not finite"),
    ],
)
def test_a_tensor_is_judged_by_the_golden_alone(change: Any, key: Key, exact: str, stored: str) -> None:
    truth, at = whole(key), int(GOLDEN.samples(key)[0][0])
    array = change(truth, at)
    found = Truth(CASE, GOLDEN).judge("exact", "float64")(key, array).result()  # type: ignore[union-attr]
    assert (found.kind, found.name, found.view, found.status) == (*key, "exact", exact)
    found = Truth(CASE, GOLDEN).judge("stored", "float32")(key, array)
    assert isinstance(found, LayerVerdict)
    assert (found.kind, found.name, found.view, found.status) == (*key, "stored", stored)


@pytest.mark.parametrize("key", GOLDEN.keys()[::5])
def test_what_is_stored_measures_in_the_size_of_the_tensor(key: Key) -> None:
    """The sketch's estimate is a sum of sixteen squares and scatters; of the samples the largest deviation is known."""
    truth, norm = whole(key), GOLDEN.norm(key)
    found = Truth(CASE, GOLDEN).judge("stored", "float32")(key, truth * (1 + 2.0**-10))
    assert isinstance(found, LayerVerdict)
    assert 0.3 < found.error * 2**10 < 3
    assert found.largest * 2**10 == pytest.approx(np.abs(GOLDEN.samples(key)[1]).max() / norm, rel=1e-9)


def test_a_stored_budget_that_exceeds_its_tensor_judges_nothing() -> None:
    """The budget of that tensor is made wider than its share; zeros are then within it, and say nothing."""
    key = KEYS[0]
    place, tables = GOLDEN.keys().index(key), dict(GOLDEN.tables)
    for wide, status in ((0.25, "over"), (2.0, "not judged")):
        tables["budget"] = GOLDEN.tables["budget"].copy()
        tables["budget"][place] = (wide, 100.0)
        judged = Truth(CASE, replace(GOLDEN, tables=tables)).judge("stored", "float32")(key, whole(key) * 0)
        assert isinstance(judged, LayerVerdict)
        assert judged.status == status


def test_the_view_of_samples_takes_no_options() -> None:
    with pytest.raises(
        UsageError, match="stored: the golden has budgets of the base precisions alone; 'tf32, truncated'"
    ):
        Truth(CASE, GOLDEN).judge("stored", "tf32, truncated")
    # In eval there is no backward pass, and nothing is left of that option.
    assert Truth(CASE, GOLDEN).judge("stored", "float16, sums in float16") is not None
