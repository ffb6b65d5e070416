"""The comparison by itself, on hand-made traces: what is measured, what is allowed, and what never agrees."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from oracle import tolerance
from oracle.architecture import Architecture
from oracle.case import Case
from oracle.compare import Comparison, SubjectVerdict, judge, measure
from oracle.errors import UsageError
from oracle.report.json_report import number, verdict_to_dict, write_json
from oracle.report.terminal import print_verdict
from oracle.trace import Key, Trace
from oracle.verdict import CaseVerdict, Verdict

RNG = np.random.default_rng(0)
LAYERS = ["stem.0", "stem.1", "stem.2", "maxpool", "fc"]


def make_truth() -> Trace:
    truth = Trace()
    for name in LAYERS:
        truth.record("activation", name, RNG.standard_normal((2, 4, 8, 8)) + (0 if name != "stem.2" else 10))
    truth.record("loss", "loss", np.array(2.0))
    for name in LAYERS:
        truth.record("activation_gradient", name, RNG.standard_normal((2, 4, 8, 8)))
    for name in ("stem.0.weight", "stem.1.bias", "fc.weight"):
        truth.record("parameter_gradient", name, RNG.standard_normal((4,) if name.endswith("bias") else (4, 4)))
    truth.consumers = {"stem.0": ("stem.1",)}
    return truth


def noisy(truth: Trace, error: float, changes: dict[Key, np.ndarray | None] | None = None) -> Comparison:
    """A run with a relative error of ``error`` everywhere, but for ``changes`` (None leaves a tensor out)."""
    comparison = Comparison(truth)
    for key in truth:
        array = truth[key] * (1 + error * RNG.choice([-1.0, 1.0], truth[key].shape))
        changed = (changes or {}).get(key, array)
        if changed is not None:
            comparison.record(*key, changed)
    return comparison


def verdict_for(
    error: float, changes: dict[Key, np.ndarray | None] | None = None, mode: str = "train"
) -> SubjectVerdict:
    truth = make_truth()
    return judge("subject", noisy(truth, error, changes), noisy(truth, 1e-6), mode, "float32")  # type: ignore[arg-type]


# -- measuring ---------------------------------------------------------------------------------------------------------


def test_error_is_relative_to_the_whole_tensor() -> None:
    truth = RNG.standard_normal(1_000_000)
    found = measure((truth * (1 + 1e-6)).astype(np.float64), truth)
    assert found.error == pytest.approx(1e-6, rel=1e-6)
    assert found.largest == pytest.approx(1e-6 * np.abs(truth).max(), rel=1e-2)
    assert found.norm == pytest.approx(np.linalg.norm(truth))


def test_a_single_element_shows_in_the_largest_deviation() -> None:
    truth = RNG.standard_normal(1_000_000)
    array = truth.copy()
    array[777_777] += 1e-3
    found = measure(array, truth)
    assert found.error == pytest.approx(1e-6, rel=1e-2)
    assert found.largest == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(
    ("array", "truth", "problem"),
    [
        ([1.0, math.nan], [1.0, 2.0], "not finite"),
        ([1.0, math.inf], [1.0, 2.0], "not finite"),
        ([1.0], [1.0, 2.0], "shape"),
        ([[1.0, 2.0]], [1.0, 2.0], "shape"),
    ],
)
def test_what_cannot_be_measured(array: list[float], truth: list[float], problem: str) -> None:
    assert measure(np.array(array), np.array(truth)).problem == problem


def test_all_zero_truth() -> None:
    assert measure(np.zeros(3), np.zeros(3)).error == 0
    assert measure(np.array([0, 1e-30, 0]), np.zeros(3)).error == math.inf


def test_empty_and_scalar_and_any_memory_order() -> None:
    assert measure(np.zeros((0, 3)), np.zeros((0, 3))).error == 0
    assert measure(np.array(2.0), np.array(1.0)).error == 1
    truth = RNG.standard_normal((3, 4, 5))
    assert measure(np.asfortranarray(truth), truth).error == 0


def test_huge_differences_are_infinite_not_a_warning() -> None:
    assert measure(np.array([1e200]), np.array([1.0])).error == math.inf


# -- judging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "factor"), sorted(tolerance.FACTOR.items()))
def test_the_rule(mode: str, factor: float) -> None:
    limit = 1e-6 * factor * tolerance.scatter(2 * 4 * 8 * 8)
    assert verdict_for(1e-6 * factor, mode=mode).agrees
    assert verdict_for(0.98 * limit, mode=mode).agrees
    over = verdict_for(1.02 * limit, mode=mode)
    assert not over.agrees
    assert over.first_forward is not None
    assert over.first_forward.name == "stem.0"
    assert over.first_backward is not None
    assert over.first_backward.name == "fc"


def test_a_lucky_yardstick_does_not_condemn() -> None:
    truth = make_truth()
    exact = noisy(truth, 0.0)
    assert judge("subject", noisy(truth, 4 * 2.0**-24), exact, "eval", "float32").agrees
    assert not judge("subject", noisy(truth, 8 * 2.0**-24), exact, "eval", "float32").agrees


def test_float64_is_held_to_float64() -> None:
    truth = make_truth()
    assert judge("subject", noisy(truth, 1e-15), noisy(truth, 1e-6), "train", "float64").agrees
    assert not judge("subject", noisy(truth, 1e-13), noisy(truth, 1e-6), "train", "float64").agrees


def test_a_yardstick_that_is_not_finite_grants_nothing() -> None:
    truth = make_truth()
    key: Key = ("activation", "fc")
    broken = noisy(truth, 1e-6, {key: np.full((2, 4, 8, 8), np.nan)})
    verdict = judge("subject", noisy(truth, 1e-4), broken, "eval", "float32")
    assert [layer.name for layer in verdict.layers if layer.kind == "activation" and layer.agrees] == []


def test_comparing_nothing_never_agrees() -> None:
    empty = Trace()
    verdict = judge("subject", Comparison(empty), Comparison(empty), "eval", "float32")
    assert not verdict.agrees
    assert "nothing was compared" in verdict.sentence()
    assert not Verdict([], {}).agrees
    assert not CaseVerdict(Case(Architecture("a", "basic", (1, 1, 1, 1)), "eval"), []).agrees


def test_order_of_the_first_divergence() -> None:
    spoiled = RNG.standard_normal((2, 4, 8, 8))
    verdict = verdict_for(
        1e-6, {("activation_gradient", "stem.1"): spoiled, ("activation_gradient", "stem.0"): spoiled}
    )
    assert verdict.first_forward is None
    assert verdict.first_backward is not None
    assert verdict.first_backward.name == "stem.1"


def test_a_bias_gradient_of_cancelling_terms_is_not_held_to_a_lucky_yardstick() -> None:
    truth = make_truth()
    bias: Key = ("parameter_gradient", "stem.1.bias")
    truth._tensors[bias] = np.full(4, 1e-3)
    yardstick = noisy(truth, 1e-6, {bias: truth[bias]})
    share = np.linalg.norm(truth["activation_gradient", "stem.1"]) / np.linalg.norm(truth[bias]) * 1e-6
    limit = tolerance.FACTOR["train"] * tolerance.scatter(4) * share
    for part, agrees in ((0.95, True), (1.05, False)):
        wrong = truth[bias] * (1 + part * limit)
        assert judge("subject", noisy(truth, 1e-6, {bias: wrong}), yardstick, "train", "float32").agrees is agrees


# -- branches ----------------------------------------------------------------------------------------------------------


def rectified() -> tuple[Trace, np.ndarray]:
    """A truth whose stem.1 is a ReLU's output with one element hardly above zero."""
    truth = make_truth()
    values = np.maximum(RNG.standard_normal((2, 4, 8, 8)), 0)
    values[0, 0, 0, 0] = 1e-9
    truth._tensors["activation", "stem.1"] = values
    return truth, values


def test_a_branch_that_rounding_decides_is_allowed_for() -> None:
    truth, values = rectified()
    flipped = values.copy()
    flipped[0, 0, 0, 0] = 0
    gradient = truth["activation_gradient", "stem.0"] * (1 + 0.5 / 16)
    changes: dict[Key, np.ndarray | None] = {
        ("activation", "stem.1"): flipped,
        ("activation_gradient", "stem.0"): gradient,
    }
    verdict = judge("subject", noisy(truth, 1e-7, changes), noisy(truth, 1e-6), "train", "float32")
    assert verdict.flips == {"stem.1": 1}
    assert verdict.agrees, verdict.sentence()
    without = judge(
        "subject",
        noisy(truth, 0.0, {("activation_gradient", "stem.0"): gradient}),
        noisy(truth, 1e-6),
        "train",
        "float32",
    )
    assert without.flips == {}
    assert without.first_backward is not None
    assert without.first_backward.name == "stem.0"


def test_a_branch_allowance_reaches_only_what_comes_after_it() -> None:
    truth, values = rectified()
    flipped = values.copy()
    flipped[0, 0, 0, 0] = 0
    gradient = truth["activation_gradient", "stem.2"] * 1.01
    changes: dict[Key, np.ndarray | None] = {
        ("activation", "stem.1"): flipped,
        ("activation_gradient", "stem.2"): gradient,
    }
    verdict = judge("subject", noisy(truth, 1e-7, changes), noisy(truth, 1e-6), "train", "float32")
    assert verdict.first_backward is not None
    assert verdict.first_backward.name == "stem.2"


def test_a_large_flip_is_a_forward_fault() -> None:
    truth, values = rectified()
    flipped = values.copy()
    flipped[0, 0][flipped[0, 0] > 0.5] = 0
    verdict = judge(
        "subject", noisy(truth, 1e-7, {("activation", "stem.1"): flipped}), noisy(truth, 1e-6), "train", "float32"
    )
    assert verdict.first_forward is not None
    assert verdict.first_forward.name == "stem.1"


def test_a_max_pooling_that_decides_otherwise_is_counted() -> None:
    truth = make_truth()
    image = RNG.standard_normal((2, 4, 8, 8)) + 10
    image[0, 0, 2, 2], image[0, 0, 2, 3] = 30.0, 30.0 - 1e-9
    other = image.copy()
    other[0, 0, 2, 3] = 30.0 + 1e-9
    truth._tensors["activation", "stem.2"] = image
    truth._tensors["activation_gradient", "maxpool"] = RNG.standard_normal((2, 4, 8, 8))
    pooled = RNG.standard_normal((2, 4, 4, 4))
    truth._tensors["activation", "maxpool"] = pooled
    truth._tensors["activation_gradient", "maxpool"] = RNG.standard_normal((2, 4, 4, 4))
    comparison = noisy(truth, 0.0, {("activation", "stem.2"): other})
    # Of the windows of stride 2, only the one over rows and columns 1 to 3 holds both pixels.
    assert comparison.flips == {"maxpool": 1}


# -- reports -----------------------------------------------------------------------------------------------------------


def a_verdict(changes: dict[Key, np.ndarray | None] | None = None) -> Verdict:
    case = Case(Architecture("small", "basic", (1, 1, 1, 1)), "train", size=64, batch=2)
    return Verdict([CaseVerdict(case, [verdict_for(1e-6, changes)], loss=2.0, seconds=1.25)], {"numpy": "2"})


def test_json_is_strict_and_whole(tmp_path: Path) -> None:
    verdict = a_verdict({("activation", "stem.1"): None, ("activation", "maxpool"): np.full((2, 4, 8, 8), np.nan)})
    write_json(verdict, tmp_path / "verdict.json")
    read = json.loads((tmp_path / "verdict.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert read == verdict_to_dict(verdict)
    assert read["agrees"] is False
    [subject] = read["cases"][0]["subjects"]
    assert subject["first_forward"] == "stem.1"
    assert [layer["status"] for layer in subject["layers"][:4]] == ["ok", "missing", "ok", "not finite"]
    assert subject["layers"][1]["error"] == "NaN"
    assert {"model", "mode", "shape", "seed", "loss"} <= set(read["cases"][0])


def test_json_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        write_json(a_verdict(), tmp_path / "missing" / "verdict.json")
    assert number(math.inf) == "Infinity"


def test_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"verdict\.json: No space left on device"):
        write_json(a_verdict(), tmp_path / "verdict.json")
    assert list(tmp_path.iterdir()) == []


def test_the_table_fits_100_columns_and_lists_every_layer() -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    print_verdict(a_verdict({("activation", "stem.1"): None}), console)
    text = console.export_text()
    assert all(len(line) <= 100 for line in text.splitlines())
    for name in (*LAYERS, "stem.0.weight", "stem.1 (output)"):
        assert f" {name} " in text
    assert "missing ✗" in text
    assert "subject disagrees. forward, first out of line: the output of stem.1" in text
    assert text.rstrip().endswith("disagrees")


def test_only_the_worst() -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    print_verdict(a_verdict({("activation", "stem.1"): None}), console, worst=1)
    text = console.export_text()
    assert " stem.1 " in text
    assert " stem.2 " not in text
