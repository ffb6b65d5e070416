"""Foreign subjects in every guise that can run here: each makes the same numbers, to within its precision."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from support.verdicts import NARROW

import lucid
from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.graph.model import Mode
from oracle.judge.verdicts import Comparison, SubjectVerdict, judge
from oracle.precision.difference import Budget
from oracle.subjects import Subject, find_subject
from oracle.subjects.onnx_runtime import OnnxRuntimeSubject
from oracle.trace import Key, Trace, execution_order

CASES: dict[Mode, Case] = {mode: Case(NARROW, mode, source="seeded", size=64, batch=2) for mode in ("eval", "train")}


@pytest.fixture(scope="module")
def truths() -> dict[Mode, Trace]:
    return {mode: find_subject("torch:float64").trace(case) for mode, case in CASES.items()}


def errors(subject: Subject, truth: Trace, mode: Mode) -> dict[Key, float]:
    """Relative errors; gradients that are zero but for rounding (of a bias before a normalisation) left out."""
    found = subject.trace(CASES[mode])
    assert set(found) <= set(truth)
    return {
        key: float(np.linalg.norm(found[key].astype(np.float64) - truth[key]) / np.linalg.norm(truth[key]))
        for key in found
        if np.linalg.norm(truth[key]) > 1e-10
    }


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("lucid:threads=3", 1e-4),
        ("lucid:reference", 1e-4),
        ("torch:float64:threads=2", 1e-12),
        ("torch:no-onednn:channels_last", 1e-4),
        ("torch:device=cpu:cpu", 1e-4),
        ("torch:bfloat16", 0.5),
        ("torch:float16", 0.1),
    ],
)
def test_every_guise_runs_the_whole_case(text: str, limit: float, mode: Mode, truths: dict[Mode, Trace]) -> None:
    subject = find_subject(text)
    before = torch.get_num_threads(), lucid.get_num_threads(), torch._C._get_mkldnn_enabled()
    found = subject.trace(CASES[mode])
    assert (torch.get_num_threads(), lucid.get_num_threads(), torch._C._get_mkldnn_enabled()) == before
    assert set(found) == {key for key in truths[mode] if key[0] in subject.kinds}
    forward = [each for key, each in errors(subject, truths[mode], mode).items() if key[0] == "activation"]
    assert max(forward) < limit
    assert subject.label == text


@pytest.mark.parametrize("text", ["basic:threads=1", "extended", "unoptimized", "provider=cpu", "optimized:float32"])
def test_every_level_of_onnx_runtime(text: str, truths: dict[Mode, Trace]) -> None:
    found = errors(find_subject(f"onnxruntime:{text}"), truths["eval"], "eval")
    assert len(found) == len(truths["eval"])
    assert max(found.values()) < 1e-4


@pytest.mark.parametrize("text", ["lucid:plan", "onnxruntime:fused"])
def test_what_fuses_hands_over_its_output_alone(text: str, truths: dict[Mode, Trace]) -> None:
    subject = find_subject(text)
    assert subject.partial
    assert subject.modes == {"eval"}
    found = errors(subject, truths["eval"], "eval")
    assert list(found) == [("activation", "fc")]
    assert found["activation", "fc"] < 1e-4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("torch:cuda:float32", "PyTorch cannot use the device 'cuda' here"),
        ("torch:cuda:1", "PyTorch cannot use the device 'cuda:1' here"),
        ("torch:device=abacus", "PyTorch cannot use the device 'abacus' here"),
        ("torch:tf32", "tf32 is what CUDA devices have; on cpu it is float32"),
        ("torch:threads=0", "threads=0 of torch must be a positive number"),
        ("torch:threads=two", "threads=two of torch must be a positive number"),
        ("torch:threads=", "'threads=' is empty for torch"),
        ("torch:threads=1:threads=2", "'threads=2' is given twice to torch"),
        ("torch:speed=9", "'speed=9' is not an option of torch, which takes threads=, device="),
        ("torch:int8", "'int8' is not an option of torch"),
        ("lucid:plan:eager", "is a second how for lucid"),
        ("lucid:device=gpu", "'device=gpu' is not an option of lucid, which takes threads="),
        ("onnxruntime:provider=Abacus", "provider=Abacus: this ONNX Runtime has"),
        ("onnxruntime:file=missing.onnx", "cannot read missing.onnx"),
        ("onnxruntime:fused:layers", "is a second outputs for onnxruntime"),
    ],
)
def test_an_option_that_cannot_be_is_one_sentence(text: str, words: str) -> None:
    if "cuda" in text and torch.cuda.is_available():
        pytest.skip("CUDA runs here")
    with pytest.raises(UsageError, match=words):
        find_subject(text)


# -- an .onnx file that a toolchain has changed ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """The model with only its own output, as ``lucid-export`` writes it."""
    from lucid.onnx import export
    from oracle.subjects.lucid_engine import make_model

    path = tmp_path_factory.mktemp("onnx") / "narrow.onnx"
    export(make_model(CASES["eval"]).eval(), lucid.tensor(CASES["eval"].input), path)
    return onnx.load(path)


def changed(proto: onnx.ModelProto, path: Path) -> SubjectVerdict:
    """How a changed model fares against the truth."""
    onnx.save(proto, path)
    subject = find_subject(f"onnxruntime:file={path}")
    assert subject.label == f"onnxruntime:file={path.name}"
    truth = find_subject("torch:float64").trace(CASES["eval"])
    comparison = Comparison(
        execution_order(truth),
        "free",
        lambda key, array: judge(key, "free", array, truth[key], Budget(1e-5)),
        partial=subject.partial,
    )
    subject.run(CASES["eval"], comparison)
    return SubjectVerdict(subject.label, "free", "float32", comparison.layers())


def absent(verdict: SubjectVerdict) -> set[str]:
    return {layer.name for layer in verdict.layers if not layer.observed}


def fold(proto: onnx.ModelProto, convolution: str, norm: str, *, keep: str) -> onnx.ModelProto:
    """Fold a normalisation into the convolution before it; the result stays under the name ``keep``."""
    proto = copy.deepcopy(proto)
    graph = proto.graph
    made = {node.output[0]: node for node in graph.node}
    first, second = made[convolution], made[norm]
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    scale, bias, mean, variance = (values[name].astype(np.float64) for name in second.input[1:5])
    factor = scale / np.sqrt(variance + 1e-5)
    weight = (values[first.input[1]] * factor[:, None, None, None]).astype(np.float32)
    graph.initializer.extend(
        [
            numpy_helper.from_array(weight, "folded.weight"),
            numpy_helper.from_array((bias - mean * factor).astype(np.float32), "folded.bias"),
        ]
    )
    del first.input[1:]
    first.input.extend(["folded.weight", "folded.bias"])
    first.output[0] = keep
    graph.node.remove(second)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in (convolution, norm):
                node.input[place] = keep
    return proto


def test_an_unchanged_file_agrees_everywhere(exported: onnx.ModelProto, tmp_path: Path) -> None:
    verdict = changed(exported, tmp_path / "same.onnx")
    assert verdict.agrees, verdict.sentence()
    assert absent(verdict) == set()


@pytest.mark.parametrize("keep", ["layer2.0.bn2", "layer2.0.conv2"])
def test_a_folded_normalisation_leaves_its_convolution_unobserved(
    exported: onnx.ModelProto, keep: str, tmp_path: Path
) -> None:
    verdict = changed(fold(exported, "layer2.0.conv2", "layer2.0.bn2", keep=keep), tmp_path / "folded.onnx")
    assert verdict.agrees, verdict.sentence()
    assert absent(verdict) == {"layer2.0.conv2"}
    assert "(1 not observed)" in verdict.sentence()


def test_a_fault_in_a_folded_normalisation_is_found_there(exported: onnx.ModelProto, tmp_path: Path) -> None:
    proto = fold(exported, "layer2.0.conv2", "layer2.0.bn2", keep="layer2.0.conv2")
    [bias] = [each for each in proto.graph.initializer if each.name == "folded.bias"]
    values = numpy_helper.to_array(bias).copy()
    values[1] += 0.01
    bias.CopyFrom(numpy_helper.from_array(values, "folded.bias"))
    verdict = changed(proto, tmp_path / "faulty.onnx")
    assert verdict.first is not None
    assert verdict.first.name == "layer2.0.bn2"


def test_a_renamed_output_is_the_network_s(exported: onnx.ModelProto, tmp_path: Path) -> None:
    proto = copy.deepcopy(exported)
    last = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = ["logits" if name == last else name for name in node.output]
    proto.graph.output[0].name = "logits"
    verdict = changed(proto, tmp_path / "renamed.onnx")
    assert verdict.agrees
    assert absent(verdict) == set()


def test_what_onnx_runtime_itself_has_optimised(exported: onnx.ModelProto, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(exported.SerializeToString(), options, providers=["CPUExecutionProvider"])
    verdict = changed(onnx.load(tmp_path / "optimised.onnx"), tmp_path / "again.onnx")
    assert verdict.agrees, verdict.sentence()
    assert 0 < len(absent(verdict)) < len(verdict.layers)
    assert "fc" not in absent(verdict)
    assert {"stem.0", "stem.1"} <= absent(verdict)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    shape = onnx.helper.make_tensor_value_info
    both = [shape(name, onnx.TensorProto.FLOAT, [1]) for name in ("y", "z")]
    graph = onnx.helper.make_graph(
        [node, onnx.helper.make_node("Abs", ["x"], ["z"])], "g", [shape("x", onnx.TensorProto.FLOAT, [1])], both
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    subject = find_subject(f"onnxruntime:file={tmp_path / 'other.onnx'}")
    with pytest.raises(UsageError, match="has no tensor that is named as a layer of narrow-eval"):
        subject.run(CASES["eval"], Trace())
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(UsageError, match="is no ONNX model"):
        find_subject(f"onnxruntime:file={tmp_path / 'text.onnx'}")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_no_quiet_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["CPUExecutionProvider", "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    subject: Any = find_subject("onnxruntime:provider=cuda")
    assert isinstance(subject, OnnxRuntimeSubject)
    with pytest.raises(UsageError, match="could not start CUDAExecutionProvider"):
        subject.run(CASES["eval"], Trace())
