"""lucid and ONNX Runtime under the oracle: healthy models agree, and faults put into lucid are named.

Two independently written models meet here: lucid's and the PyTorch twins. The ten models at full size are marked slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import lucid
from lucid.ops import elementwise
from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.judge.verdicts import SubjectVerdict
from oracle.resnets import ARCHITECTURES, Architecture, find_architecture
from oracle.run import check, run_case
from oracle.subjects import Subject, find_subject
from oracle.subjects.lucid_engine import LucidSubject
from oracle.trace import Kind, Recorder
from oracle.truth.truth import Truth, prepare

SIZES: dict[str, Any] = {"layers": (2, 2, 2, 1), "num_classes": 10, "stem_width": 8, "channels": (8, 16, 24, 32)}
TINY = {
    "basic": Architecture("tiny_basic", "basic", **SIZES),
    "bottleneck": Architecture("tiny_bottleneck", "bottleneck", **SIZES),
    "preact": Architecture("tiny_preact", "preact", **SIZES),
    "wide": Architecture("tiny_wide", "bottleneck", base_width=128, **SIZES),
    "grouped": Architecture("tiny_grouped", "bottleneck", cardinality=2, **SIZES),
    "deep stem": Architecture("tiny_deep", "basic", stem_type="deep", **SIZES),
    "no projection": Architecture("tiny_plain", "basic", **{**SIZES, "channels": (8, 8, 8, 8)}),
    "grey": Architecture("tiny_grey", "basic", in_channels=1, **SIZES),
}


def verdict_of(subject: str | Subject, architecture: Architecture, mode: str, size: int = 64) -> SubjectVerdict:
    source = "photo" if architecture.in_channels == 3 else "seeded"
    case = Case(architecture, mode, source, size=size, batch=2)  # type: ignore[arg-type]
    found = find_subject(subject) if isinstance(subject, str) else subject
    return run_case(case, [found], views=["free"], truth=truth_of(case)).subjects[0]


@lru_cache(maxsize=2 * len(TINY))
def truth_of(case: Case) -> Truth:
    """The case's truth, made once for the tests of a process."""
    return prepare(case)


# -- healthy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", TINY)
def test_lucid_agrees(name: str, mode: str, precision: str, backend: str) -> None:
    verdict = verdict_of(f"lucid:{backend}:{precision}", TINY[name], mode)
    assert verdict.agrees, verdict.sentence()
    kinds = {layer.kind for layer in verdict.layers}
    expected: set[Kind] = {"activation"}
    if mode == "train":
        expected |= {"loss", "activation_gradient", "parameter_gradient", "statistic"}
    assert kinds == expected


@pytest.mark.parametrize("options", ["", ":unoptimized"])
@pytest.mark.parametrize("name", TINY)
def test_onnx_runtime_agrees(name: str, options: str) -> None:
    pytest.importorskip("onnxruntime")
    verdict = verdict_of(f"onnxruntime{options}", TINY[name], "eval")
    assert verdict.agrees, verdict.sentence()


def test_odd_sizes_agree() -> None:
    verdict = verdict_of("lucid", TINY["bottleneck"], "train", size=75)
    assert verdict.agrees, verdict.sentence()


def test_check_as_a_library() -> None:
    pytest.importorskip("onnxruntime")
    steps: list[str] = []
    verdict = check(TINY["basic"], ["lucid", "onnxruntime"], size=64, views=["free"], progress=steps.append)
    assert verdict.agrees, verdict.sentences()
    assert [(case.case.name, [each.subject for each in case.subjects]) for case in verdict.cases] == [
        ("tiny_basic-eval", ["lucid", "onnxruntime"]),
        ("tiny_basic-train", ["lucid"]),
    ]
    assert [step for step in steps if "lucid, free" in step]
    assert verdict.to_dict()["agrees"] is True


def test_the_twins_have_the_names_of_lucid() -> None:
    for name, architecture in ARCHITECTURES.items():
        if max(architecture.layers) > 40:  # each stage repeats its last block: nothing new in the longest
            continue
        with lucid.nn.init.skip_init():
            state = lucid.models.get_model(name).state_dict()
        from oracle.resnets.twin import parameter_shapes

        assert {key: tuple(value.shape) for key, value in state.items()} == parameter_shapes(architecture)


def test_unknown_backend_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="'tpu' is not an option of lucid"):
        find_subject("lucid:tpu")


# -- faults in lucid ---------------------------------------------------------------------------------------------------


class Spoiled(LucidSubject):
    def __init__(self, fault: Callable[[Any], None]) -> None:
        super().__init__()
        self._fault = fault

    def build(self, case: Case) -> Any:
        model = super().build(case)
        self._fault(model)
        return model


def submodule(model: Any, path: str) -> Any:
    return dict(model.named_modules())[path]


def one_weight(model: Any) -> None:
    weight = submodule(model, "layer2.1.conv2").weight.data
    out, channel = np.unravel_index(np.abs(weight).argmax(), weight.shape)[:2]
    weight[out, channel] *= 1.01


def another_eps(model: Any) -> None:
    submodule(model, "layer3.0.bn2").eps = 1e-3


def swapped_strides(model: Any) -> None:
    submodule(model, "layer2.0.conv1").stride, submodule(model, "layer2.0.conv2").stride = (2, 2), (1, 1)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    ("fault", "layer"),
    [(one_weight, "layer2.1.conv2"), (another_eps, "layer3.0.bn2"), (swapped_strides, "layer2.0.conv1")],
)
def test_forward_fault_in_lucid_is_named(fault: Callable[[Any], None], layer: str, mode: str) -> None:
    verdict = verdict_of(Spoiled(fault), TINY["bottleneck"], mode)
    assert verdict.first_forward is not None, verdict.sentence()
    assert verdict.first_forward.name == layer, verdict.sentence()


class Unmasked(LucidSubject):
    """lucid whose ReLUs, in float32, forgot their masks."""

    def run(self, case: Case, recorder: Recorder) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(elementwise.Relu, "backward", lambda self, be, dy: (dy,))
            super().run(case, recorder)


def test_missing_relu_mask_in_lucid_is_named() -> None:
    verdict = verdict_of(Unmasked(), TINY["basic"], "train")
    assert verdict.first_forward is None, verdict.sentence()
    assert verdict.first_backward is not None
    # The last block's own ReLU is the first that the backward pass meets: what it sums is wrong.
    assert verdict.first_backward.name == "layer4.0.downsample.1"
    assert "the backward of layer4.0 makes it" in verdict.sentence()


def test_a_fault_of_the_engine_itself_leaves_no_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise.Relu, "backward", lambda self, be, dy: (dy,))
    with pytest.raises(UsageError, match=r"first in the gradient of the output of layer4\.0\.downsample\.1 .*no truth"):
        run_case(Case(TINY["basic"], "train", size=64, batch=2), [find_subject("torch")], views=["free"])
    with pytest.raises(UsageError, match="has another digest than the golden"):
        check("resnet_18", ["torch"], mode="train", views=["free"])


# -- the ten models; the rest of them are in tests/parity --------------------------------------------------------------

needs_native = pytest.mark.skipif(
    "native" not in lucid.available_backends(), reason="at these sizes the reference backend takes minutes"
)


@needs_native
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_model_has_its_digests(mode: str) -> None:
    verdict = check("resnet_18", ["lucid:native"], mode=mode)  # type: ignore[arg-type]
    assert [subject.view for subject in verdict.cases[0].subjects] == ["exact"]
    assert verdict.agrees, verdict.sentences()


@pytest.mark.parametrize("name", ["resnet_18", pytest.param("resnet_50", marks=pytest.mark.slow)])
def test_onnx_runtime_with_an_open_batch(name: str) -> None:
    """Batches of 1 and of 3 through one model that leaves the batch open; at 224x224 all ten are in tests/parity."""
    onnx_runtime = pytest.importorskip("oracle.subjects.onnx_runtime")
    subject = onnx_runtime.OnnxRuntimeSubject()
    session = subject.session(Case(find_architecture(name), "eval", size=96))
    subject.session = lambda case: session
    for batch in (1, 3):
        verdict = run_case(Case(find_architecture(name), "eval", size=96, batch=batch), [subject]).subjects[0]
        assert verdict.agrees, f"batch {batch}: {verdict.sentence()}"


@needs_native
@pytest.mark.slow
def test_train_step_beside_the_truth() -> None:
    """By the budgets, with a truth of its own; at 224x224 the digests of all ten are in tests/parity."""
    case = Case(find_architecture("resnet_50"), "train", size=96, batch=2)
    verdict = run_case(case, [find_subject("lucid:native")]).subjects[0]
    assert verdict.agrees, verdict.sentence()
    assert math.isfinite(max(layer.used for layer in verdict.layers))
