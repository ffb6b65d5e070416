"""Which views apply to which subjects, what is refused, and what one verdict is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from oracle.case import Case
from oracle.compare import LayerVerdict, SubjectVerdict
from oracle.errors import UsageError
from oracle.golden import Golden
from oracle.subjects import Subject
from oracle.trace import Recorder
from oracle.truth import Truth
from oracle.verdict import DEFAULT_VIEWS, CaseVerdict, Verdict, check, look, run_case, views_of

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


def test_the_own_view_is_left_out_where_it_can_judge_nothing() -> None:
    class Late(Made):
        def run(self, case: Case, recorder: Recorder) -> None:
            recorder.record("activation", "fc", np.zeros((CASE.batch, 10), np.float32))

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
