"""The networks that are described by a module: healthy subjects agree, and whatever is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import lucid
from lucid import nn
from oracle.case.case import Case, standard_case
from oracle.case.shapes import shapes_of
from oracle.case.zoo import find_model
from oracle.errors import UsageError
from oracle.networks.graph import graph_of
from oracle.run import check, run_case
from oracle.subjects import Subject, find_subject
from oracle.truth.truth import Truth, prepare

NAMES = ("narrow_gpt", "narrow_unet")
_truths: dict[tuple[str, Any], Truth] = {}


def truth_of(name: str, mode: Any) -> Truth:
    if (name, mode) not in _truths:
        _truths[name, mode] = prepare(standard_case(find_model(name), mode))
        _truths[name, mode].recompute()
    return _truths[name, mode]


@pytest.mark.parametrize("name", NAMES)
def test_healthy_subjects_agree(name: str) -> None:
    for mode, subjects in (
        ("eval", ["lucid", "torch", "onnxruntime"]),
        ("train", ["lucid", "torch", "torch:bfloat16"]),
    ):
        truth = truth_of(name, mode)
        verdict = run_case(truth.case, [find_subject(each) for each in subjects], truth=truth)
        for subject in verdict.subjects:
            assert subject.agrees, subject.sentence()
        views = {(subject.subject, subject.view) for subject in verdict.subjects}
        assert {("lucid", "exact"), ("torch", "free"), ("torch", "own"), ("torch", "local")} <= views


@pytest.mark.parametrize("name", NAMES)
def test_a_case_without_a_golden_has_its_truth_made(name: str) -> None:
    verdict = check(name, ["lucid"], mode="train", seed=3, batch=2, views=["free", "own"])
    assert verdict.agrees, [subject.sentence() for subject in verdict.cases[0].subjects]
    assert "PyTorch float64 agrees" in verdict.cases[0].truth


def test_lucid_hands_over_every_value_and_gradient() -> None:
    for name in NAMES:
        case = truth_of(name, "train").case
        assert set(find_subject("lucid").trace(case)) == set(shapes_of(case))


# -- what is wrong -----------------------------------------------------------------------------------------------------

Change = Callable[[Any], object]


def replaced(path: str, function: Callable[..., Any]) -> Change:
    """The module of that path computes another function."""
    return lambda model: setattr(model.get_submodule(path), "forward", function)


def of_eps(path: str) -> Change:
    return lambda model: setattr(model.get_submodule(path), "eps", 1e-3)


def not_causal(q: Any, k: Any, v: Any) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def scaled_by_width(q: Any, k: Any, v: Any) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / q.shape[-1])


def off_by_one_percent(model: Any, path: str) -> None:
    with torch.no_grad():
        model.get_parameter(path).view(-1)[0] *= 1.01


FAULTS: dict[str, tuple[str, Change, str]] = {
    "attention sees what comes after": ("narrow_gpt", replaced("blocks.1.attention", not_causal), "blocks.1.attention"),
    "attention is scaled otherwise": (
        "narrow_gpt",
        replaced("blocks.0.attention", scaled_by_width),
        "blocks.0.attention",
    ),
    "another form of GELU": ("narrow_gpt", replaced("blocks.0.gelu", torch.nn.functional.gelu), "blocks.0.gelu"),
    "another eps of a layer": ("narrow_gpt", of_eps("blocks.1.norm2"), "blocks.1.norm2"),
    "a weight": ("narrow_gpt", lambda model: off_by_one_percent(model, "blocks.1.wide.weight"), "blocks.1.wide"),
    "the positions": ("narrow_gpt", replaced("add", lambda a, b: a + b.flip(0)), "add"),
    "another eps of groups": ("narrow_unet", of_eps("down.1.1"), "down.1.1"),
    "a transposed weight": (
        "narrow_unet",
        lambda model: model.get_parameter("wider.0.weight").data.copy_(
            model.get_parameter("wider.0.weight").data.transpose(2, 3).clone()
        ),
        "wider.0",
    ),
    "joined in another order": (
        "narrow_unet",
        replaced("concatenate", lambda a, b: torch.cat([b, a], 1)),
        "concatenate",
    ),
}


@pytest.mark.parametrize(("name", "change", "place"), FAULTS.values(), ids=list(FAULTS))
def test_a_fault_is_named_in_every_view(name: str, change: Change, place: str) -> None:
    subject: Any = find_subject("torch")
    build = subject.build

    def broken(case: Case) -> Any:
        model = build(case)
        change(model)
        return model

    subject.build = broken
    truth = truth_of(name, "train")
    views: list[Any] = ["free", "own", *(["local"] if place in ("blocks.1.norm2", "wider.0") else [])]
    verdict = run_case(truth.case, [subject], truth=truth, views=views)
    for found in verdict.subjects:
        first = found.first_forward
        assert first is not None, found.sentence()
        assert first.name == place, (found.view, found.sentence())


def test_a_gradient_that_is_lost_is_named() -> None:
    class Detached(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b.detach()

    subject: Any = find_subject("torch")
    build = subject.build

    def broken(case: Case) -> Any:
        model = build(case)
        model.blocks[1].add = Detached()
        return model

    subject.build = broken
    truth = truth_of("narrow_gpt", "train")
    verdict = run_case(truth.case, [subject], truth=truth, views=["free", "local"])
    free, local = verdict.subjects
    assert free.first_forward is None
    assert free.first_backward is not None
    assert (free.first_backward.name, free.first_backward.status) == ("blocks.1.out.weight", "missing"), free.sentence()
    assert local.first_backward is not None
    assert local.first_backward.name == "blocks.1.add", local.sentence()


# -- what cannot be described ------------------------------------------------------------------------------------------


class Doing(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Any) -> Any:
        return self.function(*x)


@pytest.mark.parametrize(
    ("function", "count", "words"),
    [
        (lambda x: x.argmax(1), 1, "makes numbers of int64, which the oracle does not judge"),
        (lambda x: lucid.linalg.det(x), 1, "is the operation det, which the oracle does not know; it knows those of"),
        (lambda x, y: x + y, 2, "takes 2 inputs and makes 1 outputs; may be one of each"),
    ],
)
def test_what_cannot_be_described_is_one_sentence(function: Any, count: int, words: str) -> None:
    traced = lucid.graph.trace(Doing(function), *[lucid.zeros((3, 3))] * count)
    with pytest.raises(UsageError, match=words):
        graph_of(traced, Doing(function))


def test_a_run_that_does_something_else_than_its_trace_is_refused() -> None:
    subject: Any = find_subject("lucid")
    build = subject.build

    def changed(case: Case) -> Any:
        model = build(case)
        model.blocks[0].norm2.forward = lambda x: x * 1.0 + 0.0
        return model

    subject.build = changed
    with pytest.raises(UsageError, match=r"which it has when it is traced|where it has"):
        Subject.trace(subject, truth_of("narrow_gpt", "eval").case)


def test_tokens_and_labels_are_drawn() -> None:
    case = truth_of("narrow_gpt", "train").case
    tokens = case.model.graph().tokens["input"]
    assert case.input.dtype == np.int64
    assert 0 <= case.input.min() < case.input.max() < tokens
    assert case.labels.shape == case.input.shape
    assert len(np.unique(case.labels)) > tokens / 3
    with pytest.raises(UsageError, match="narrow_gpt has tokens: use the seeded input"):
        _ = Case(find_model("narrow_gpt"), "eval", "photo", 8, 2).input
