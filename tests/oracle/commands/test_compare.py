"""``lucid-oracle compare`` and `assert_matches_golden`: tensors that somebody dumped, judged by a golden."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("torch")

from oracle import cli
from oracle.errors import UsageError
from oracle.subjects import find_subject
from oracle.testing import OutOfLineError, assert_matches_golden
from oracle.trace import Key, Trace
from oracle.truth.goldens import Golden

NAME = "narrow_basic-train"
FAULTY: Key = ("activation_gradient", "layer2.0.bn1")
FUSED: Key = ("activation", "layer1.0.relu1")


@pytest.fixture(scope="module")
def healthy() -> Trace:
    return find_subject("torch").trace(Golden.load(NAME).case)


@pytest.fixture
def dump(healthy: Trace, tmp_path: Path) -> Callable[..., Path]:
    """Write the healthy trace, changed."""

    def write(change: Callable[[Key, np.ndarray], np.ndarray | None] = lambda key, array: array) -> Path:
        trace = Trace()
        for key in healthy:
            array = change(key, healthy[key])
            if array is not None:
                trace.record(*key, array)
        path = tmp_path / "trace.safetensors"
        trace.save(path)
        return path

    return write


def one_channel(key: Key, array: np.ndarray) -> np.ndarray | None:
    """A channel of one gradient off by 1 %, and one output not dumped."""
    if key == FUSED:
        return None
    if key == FAULTY:
        array = array.copy()
        array[:, 1] *= np.float32(1.01)
    return array


def run(*arguments: str) -> int:
    return cli.run(["compare", *arguments, "--golden", NAME, "-q"])


@pytest.mark.parametrize("stored", [False, True], ids=["free", "stored"])
def test_a_healthy_dump_agrees(dump: Callable[..., Path], stored: bool, capsys: pytest.CaptureFixture[str]) -> None:
    path = dump()
    assert run(str(path), *(["--stored"] if stored else [])) == cli.AGREES
    assert "file:trace.safetensors" in capsys.readouterr().out
    assert assert_matches_golden(path, NAME, stored=stored).agrees


@pytest.mark.parametrize("stored", [False, True], ids=["free", "stored"])
def test_the_first_layer_out_of_line_is_named(
    dump: Callable[..., Path], stored: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dump(one_channel)
    reports = {name: tmp_path / f"report.{name}" for name in ("json", "junit", "html")}
    options = [part for name, file in reports.items() for part in (f"--{name}", str(file))]
    assert run(str(path), *(["--stored"] if stored else []), *options) == cli.DISAGREES
    out = " ".join(capsys.readouterr().out.split())
    assert "first out of line: the gradient of the output of layer2.0.bn1" in out
    count = len(Golden.load(NAME).keys())
    assert f"1 of {count} tensors not observed" in out
    subject, *others = json.loads(reports["json"].read_text())["cases"][0]["subjects"]
    assert [each["view"] for each in others] == ([] if stored else ["own"])
    assert all(each["layers"][each["first"]]["name"] == FAULTY[1] for each in others)
    layer = subject["layers"][subject["first"]]
    assert (layer["kind"], layer["name"], layer["status"]) == (*FAULTY, "over")
    assert [each["name"] for each in subject["layers"] if each["status"] == "not observed"] == [FUSED[1]]
    root = ElementTree.parse(reports["junit"]).getroot()
    assert (root[0].get("tests"), root[0].get("failures")) == (str(count), "1")
    assert "first out of line: layer2.0.bn1" in reports["html"].read_text()
    with pytest.raises(OutOfLineError, match=r"first out of line: the gradient of the output of layer2\.0\.bn1"):
        assert_matches_golden(path, NAME, stored=stored)


def test_the_budget_is_that_of_the_precision_that_was_claimed(tmp_path: Path) -> None:
    trace = find_subject("torch:bfloat16").trace(Golden.load(NAME).case)
    trace.save(tmp_path / "trace.safetensors")
    assert run(str(tmp_path / "trace.safetensors")) == cli.DISAGREES
    assert run(str(tmp_path / "trace.safetensors"), "--precision", "bfloat16") == cli.AGREES


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        ("float33", "precision: got 'float33'; may be float64, float32, tf32, bfloat16, float16, and options"),
        ("float16, truncated", "after float16 may come sums in float16, sums in float32, one-pass variance"),
        ("float64, one-pass variance", "float64 has no options"),
        ("float32, winograd 4x4, winograd 6x6", "exclude each other"),
    ],
)
def test_a_precision_that_is_none_is_wrong_usage(
    dump: Callable[..., Path], capsys: pytest.CaptureFixture[str], precision: str, words: str
) -> None:
    path = str(dump())
    assert run(path, "--precision", precision) == cli.WRONG_USAGE
    assert words in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UsageError, match="precision: got"):
        assert_matches_golden(path, NAME, precision)


def test_options_of_a_precision_are_declared(
    dump: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Budgets that the golden has not are made from disturbed runs; from samples alone they cannot be."""
    path, report = str(dump()), tmp_path / "verdict.json"
    assert run(path, "--precision", "Float32, one-pass-variance", "--json", str(report)) == cli.AGREES
    subjects = json.loads(report.read_text())["cases"][0]["subjects"]
    assert {each["view"]: each["precision"] for each in subjects} == dict.fromkeys(
        ("free", "own"), "float32, one-pass variance"
    )
    verdict = assert_matches_golden(path, NAME, "float32, one-pass variance").cases[0].subjects[0]
    plain = assert_matches_golden(path, NAME).cases[0].subjects[0]
    wider = [a.budget / b.budget for a, b in zip(verdict.layers, plain.layers, strict=True)]
    assert max(wider) > 1.1
    capsys.readouterr()
    assert run(path, "--precision", "float32, one-pass variance", "--stored") == cli.WRONG_USAGE
    assert "needs the truth computed again, in the view free" in " ".join(capsys.readouterr().err.split())
    subject_text = f"file:{path}:bfloat16:sums-in-bfloat16"
    assert find_subject(subject_text).precision == "bfloat16, sums in bfloat16"


def test_options_that_play_no_part_in_an_eval_run_cost_nothing(tmp_path: Path) -> None:
    """Sums of gradients and statistics of a batch: the golden's own budgets serve, in the stored view too."""
    golden = Golden.load("narrow_basic-eval")
    find_subject("torch:bfloat16").trace(golden.case).save(tmp_path / "trace.safetensors")
    profile = "bfloat16, sums in bfloat16, one-pass variance"
    for stored in (True, False):
        found = assert_matches_golden(tmp_path / "trace.safetensors", golden, profile, stored=stored)
        plain = assert_matches_golden(tmp_path / "trace.safetensors", golden, "bfloat16", stored=stored)
        for a, b in zip(found.cases[0].subjects[0].layers, plain.cases[0].subjects[0].layers, strict=True):
            assert a == b


def test_a_transposed_tensor_is_of_another_shape(dump: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = dump(lambda key, array: array.transpose(0, 2, 3, 1) if key == FUSED else array)
    assert run(str(path)) == cli.DISAGREES
    told = "layer1.0.relu1 (shape (3, 18, 18, 4) where the truth has (3, 4, 18, 18); the truth's values with axes in"
    assert told in " ".join(capsys.readouterr().out.split())


def test_a_tensor_of_no_layer_is_unexpected_and_other_names_are_noted(
    healthy: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"activation/fc": healthy["activation", "fc"]}
    np.savez(tmp_path / "noted.npz", **good, images=np.zeros(3))  # type: ignore[arg-type]
    assert run(str(tmp_path / "noted.npz")) == cli.AGREES
    assert "note: 'images' in" in capsys.readouterr().out
    np.savez(tmp_path / "strange.npz", **good, **{"activation/layer9": np.zeros(3)})  # type: ignore[arg-type]
    assert run(str(tmp_path / "strange.npz")) == cli.DISAGREES
    assert "layer9 (the truth has no such tensor)" in " ".join(capsys.readouterr().out.split())


def test_nothing_to_compare_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "none.npz", **{"activation/nowhere": np.zeros(3, np.float32)})  # type: ignore[arg-type]
    assert run(str(tmp_path / "none.npz")) == cli.WRONG_USAGE
    assert "holds no tensor of narrow_basic-train: nothing would be compared" in capsys.readouterr().err
    with pytest.raises(UsageError, match="nothing would be compared"):
        assert_matches_golden({"activation/nowhere": np.zeros(3)}, NAME)
    assert run(str(tmp_path / "missing.npz")) == cli.WRONG_USAGE


def test_a_golden_that_is_not_there_is_wrong_usage(
    dump: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(dump())
    assert cli.run(["compare", path, "--golden", "resnet_19-eval"]) == cli.WRONG_USAGE
    assert "resnet_19-eval" in capsys.readouterr().err
    assert cli.run(["compare", path, "--golden", NAME, "--directory", str(tmp_path)]) == cli.WRONG_USAGE
    assert "manifest.json" in capsys.readouterr().err
