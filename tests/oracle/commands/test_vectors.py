"""Test vectors: the directory holds what it says, its page's examples run, and what stands there is not lost."""

from __future__ import annotations

import json
import re
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
from safetensors.numpy import load_file

from oracle import cli
from oracle.case.case import Case, standard_case
from oracle.case.names import Rules
from oracle.case.shapes import shapes_of
from oracle.errors import UsageError
from oracle.report import vector_files as vectors
from oracle.report.vector_files import wanted, write_vectors
from oracle.resnets import Architecture
from oracle.resnets.twin import make_twin
from oracle.subjects import find_subject
from oracle.subjects.file import file_name, read_trace

NARROW = Architecture("narrow", "bottleneck", (1, 1, 1, 1), num_classes=10, stem_width=8, channels=(8, 8, 8, 8))
EVAL, TRAIN = (standard_case(NARROW, mode) for mode in ("eval", "train"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "narrow"
    write_vectors([EVAL, TRAIN], path)
    return path


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


@pytest.mark.parametrize("case", [EVAL, TRAIN], ids=lambda case: case.name)
@pytest.mark.parametrize("block", ["basic", "bottleneck", "preact"])
def test_the_names_and_shapes_are_those_of_a_run(case: Case, block: Any) -> None:
    architecture = Architecture(f"narrow-{block}", block, (1, 2), num_classes=10, stem_width=8, channels=(8, 16))
    case = standard_case(architecture, case.mode)
    trace = find_subject("torch").trace(case)
    assert {each.key: each.shape for each in wanted(case)} == {key: trace[key].shape for key in trace}


@pytest.mark.parametrize("block", ["basic", "bottleneck", "preact"])
def test_shapes_found_without_pytorch_are_those_of_the_twin(block: Any) -> None:
    widths: dict[str, Any] = {"base_width": 128, "cardinality": 2} if block != "basic" else {}
    for stem in (None, "deep"):
        architecture = Architecture("odd", block, (1, 2), 10, 2, 16, stem, (8, 16), **widths)
        for mode in ("eval", "train"):
            case = Case(architecture, mode, "seeded", 33, 3)
            assert list(shapes_of(case).items()) == [(each.key, each.shape) for each in wanted(case)]


def test_the_index_and_the_page_name_every_tensor(directory: Path) -> None:
    index = json.loads((directory / vectors.INDEX).read_text())["cases"]
    page = (directory / vectors.PAGE).read_text()
    for case in (EVAL, TRAIN):
        expected = wanted(case)
        assert index[case.name] == {file_name(each.key): list(each.shape) for each in expected}
        for each in expected:
            if each.key[0] != "activation_gradient":
                assert f"| `{file_name(each.key)}` | `{each.shape}` |" in page


def test_weights_and_inputs_are_the_case(directory: Path) -> None:
    weights = load_file(directory / vectors.WEIGHTS)
    make_twin(NARROW, weights, torch.float32)  # strict: names and shapes are PyTorch's
    assert all(np.array_equal(weights[name], value) for name, value in TRAIN.state.items())
    tensors = load_file(directory / "narrow-train.safetensors")
    assert np.array_equal(tensors["input"], TRAIN.input)
    assert np.array_equal(tensors["labels"], TRAIN.labels)
    assert np.array_equal(load_file(directory / "narrow-eval.safetensors")["input"], EVAL.input)


def read_pb(path: Path) -> tuple[str, np.ndarray]:
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    return tensor.name, onnx.numpy_helper.to_array(tensor)


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_the_onnx_test_data_holds_on_other_runtimes(directory: Path, runtime: str) -> None:
    name, image = read_pb(directory / vectors.TEST_DATA / "input_0.pb")
    output, expected = read_pb(directory / vectors.TEST_DATA / "output_0.pb")
    model = directory / vectors.MODEL
    if runtime == "reference":
        from onnx.reference import ReferenceEvaluator

        [found] = ReferenceEvaluator(str(model)).run([output], {name: image})
    else:
        [found] = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run([output], {name: image})
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_onnx_finds_it_as_one_of_its_own_test_cases(directory: Path) -> None:
    from onnx.backend.test.loader import TestCase
    from onnx.backend.test.runner import Runner

    case = TestCase("narrow", "narrow", None, str(directory), None, None, "real", 1e-5, 1e-5)
    assert sorted(path.name for path in Path(case.model_dir).glob("test_data_set_*/*_0.pb")) == [
        "input_0.pb",
        "output_0.pb",
    ]
    name, image = read_pb(directory / vectors.TEST_DATA / "input_0.pb")
    _, expected = read_pb(directory / vectors.TEST_DATA / "output_0.pb")
    found = onnxruntime.InferenceSession(directory / vectors.MODEL).run(None, {name: image})
    Runner.assert_similar_outputs([expected], found, rtol=case.rtol, atol=case.atol)
    with pytest.raises(AssertionError):
        Runner.assert_similar_outputs([expected + 0.01], found, rtol=case.rtol, atol=case.atol)


def blocks(language: str) -> list[str]:
    """The code blocks of a language on the page in the current directory."""
    return re.findall(rf"```{language}\n(.*?)```", Path(vectors.PAGE).read_text(), re.DOTALL)


def test_the_examples_of_the_page_run(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in contents(directory).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    helper, forward, _, backward = blocks("python")
    assert 'assert_matches_golden("trace-eval.safetensors", "narrow-eval")' in helper
    model = make_twin(NARROW, load_file(vectors.WEIGHTS), torch.float32).train()
    for example in (forward, backward):
        exec(example, {"model": model})
    for case, subject in ((EVAL, "onnxruntime"), (TRAIN, "torch")):
        found, expected = read_trace(Path(f"trace-{case.mode}.safetensors")), find_subject(subject).trace(case)
        assert not found.strangers
        assert set(found.trace) == set(expected)
        for key in expected:
            np.testing.assert_allclose(found.trace[key], expected[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["narrow_basic", "narrow_preact"])
def test_what_the_page_says_works_as_printed(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["vectors", model, "-o", str(tmp_path / "v"), "-q"]) == cli.AGREES
    monkeypatch.chdir(tmp_path / "v")
    helper, *examples = blocks("python")
    space: dict[str, Any] = {}
    for example in examples:
        exec(example, space)
    exec(helper, {})
    commands = re.findall(r"^lucid-oracle (.*)$", Path(vectors.PAGE).read_text(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["compare", "compare"]
    capsys.readouterr()
    for command in commands:
        assert cli.run([*command.split(), "-q"]) == cli.AGREES, capsys.readouterr().out
        assert "not observed" not in capsys.readouterr().out


def test_the_rules_on_the_page_are_rules(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    [text] = blocks("toml")
    (tmp_path / "names.toml").write_text(text)
    rules = Rules.read(tmp_path / "names.toml")
    names = ("encoder.fc", "conv_in.weight", "stage3_unit0.bn1", "auxiliary.fc")
    assert [rules.apply(name) for name in names] == ["fc", "stem.0.weight", "layer3.0.bn1", None]


def test_the_page_states_the_conventions(directory: Path) -> None:
    """Each row of the table is what the twin does, for whoever implements by the page alone."""
    page = (directory / vectors.PAGE).read_text()
    x = torch.zeros(2, 1, 2, 2, requires_grad=True)
    torch.relu(x).sum().backward()
    assert x.grad is not None
    assert "its gradient at 0 is 0" in page
    assert not x.grad.any()
    _, winners = torch.nn.functional.max_pool2d(torch.zeros(1, 1, 4, 4), 3, 2, 1, return_indices=True)
    assert "the first largest in row-major order takes the gradient" in page
    assert winners.flatten().tolist() == [0, 1, 4, 5]
    norm = torch.nn.BatchNorm2d(1)
    values = torch.arange(8.0).reshape(2, 1, 2, 2)
    norm(values)
    assert "`running = (1 - m) * running + m * batch`, m = 0.1, with the *unbiased* variance" in page
    assert norm.momentum == 0.1
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.running_mean.item() == pytest.approx(0.1 * 3.5)
    assert norm.running_var.item() == pytest.approx(0.9 + 0.1 * float(np.arange(8).var(ddof=1)))
    assert norm.eps == 1e-5


def test_the_same_model_gives_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    write_vectors([EVAL, TRAIN], tmp_path / "again")
    assert contents(tmp_path / "again") == contents(directory)


def test_one_mode(tmp_path: Path) -> None:
    write_vectors([TRAIN], tmp_path / "train")
    assert sorted(contents(tmp_path / "train")) == [
        "README.md",
        "narrow-train.safetensors",
        "tensors.json",
        "weights.safetensors",
    ]
    assert "onnx" not in (tmp_path / "train" / vectors.PAGE).read_text().lower()


def test_what_stands_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError, match="not empty" if not force else "does not hold vectors"):
            write_vectors([TRAIN], mine, force=force)
    assert contents(mine) == {"thesis.txt": b"years of work"}
    with pytest.raises(UsageError, match="exists and is no directory"):
        write_vectors([TRAIN], mine / "thesis.txt")
    with pytest.raises(UsageError, match="there is no directory"):
        write_vectors([TRAIN], tmp_path / "no" / "where")
    monkeypatch.chdir(mine)
    with pytest.raises(UsageError, match="is the current directory"):
        write_vectors([TRAIN], Path(), force=True)


def test_an_empty_directory_is_taken_and_force_replaces_vectors(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_vectors([TRAIN], tmp_path / "out")
    (tmp_path / "out" / "trace-train.safetensors").write_bytes(b"mine")
    with pytest.raises(UsageError, match="--force"):
        write_vectors([TRAIN], tmp_path / "out")
    with pytest.raises(UsageError, match=r"also holds trace-train\.safetensors"):
        write_vectors([TRAIN], tmp_path / "out", force=True)
    (tmp_path / "out" / "trace-train.safetensors").unlink()
    write_vectors([TRAIN], tmp_path / "out", force=True)
    assert sorted(contents(tmp_path / "out")) == vectors._written(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_old_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_vectors([TRAIN], tmp_path / "out")
    before = contents(tmp_path / "out")

    def full(*_arguments: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vectors, "page", full)
    with pytest.raises(UsageError, match="No space left"):
        write_vectors([TRAIN], tmp_path / "out", force=True)
    assert contents(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r18"
    assert cli.run(["vectors", "resnet_18", "-o", str(out), "--mode", "train"]) == cli.AGREES
    told = capsys.readouterr()
    assert f"{out}: 4 files" in told.out
    assert "resnet_18-train: input and names" in told.err
    assert cli.run(["vectors", "resnet_18", "-o", str(out), "--mode", "train", "-q"]) == cli.WRONG_USAGE
    assert "--force" in capsys.readouterr().err
    assert cli.run(["vectors", "resnet_19"]) == cli.WRONG_USAGE
