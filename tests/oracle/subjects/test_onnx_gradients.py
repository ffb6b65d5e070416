"""Train steps as plain ONNX, run by ONNX Runtime and judged within the oracle's budgets."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("onnxruntime")

from lucid.graph.gradients import RULES
from oracle.errors import UsageError
from oracle.run import check
from oracle.subjects import find_subject
from oracle.trace import KINDS

SUBJECT = "onnxruntime:gradients"


@pytest.mark.parametrize("name", ["narrow_basic", "narrow_preact", "narrow_gpt", "narrow_unet"])
def test_every_tensor_is_within_its_budget(name: str) -> None:
    verdict = check(name, [SUBJECT], mode="train")
    subjects = verdict.cases[0].subjects
    assert verdict.agrees, [subject.sentence() for subject in subjects]
    layers = subjects[0].layers
    assert {layer.kind for layer in layers} >= set(KINDS) - {"statistic"}
    assert {layer.status for layer in layers} <= {"within", "not judged"}


def test_a_wrong_rule_disagrees(monkeypatch: Any) -> None:
    """The gradient of batch normalisation off by a thousandth."""
    right = RULES["batch_norm"]

    def wrong(f: Any, dy: Any, y: Any, x: Any, gamma: Any, *rest: Any) -> Any:
        dx, *others = right(f, dy, y, x, gamma, *rest)
        return dx * 1.001, *others

    monkeypatch.setitem(RULES, "batch_norm", wrong)
    verdict = check("narrow_basic", [SUBJECT], mode="train")
    assert not verdict.agrees


def test_files_have_no_gradients() -> None:
    with pytest.raises(UsageError, match="gradients are what lucid exports, of no file"):
        find_subject(f"{SUBJECT}:file=model.onnx")
