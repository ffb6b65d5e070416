"""The command line: exit status, sentences instead of tracebacks, and the JSON verdict."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("torch")

from oracle import cli
from oracle import run as verdict
from oracle.judge.verdicts import LayerVerdict, SubjectVerdict
from oracle.subjects import Subject

FAST = ["--image-size", "64", "--subject", "torch:no-onednn", "--mode", "eval", "--view", "free"]


@dataclass
class Result:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def run(*arguments: str) -> Result:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = cli.run(["check", *arguments])
    return Result(status, out.getvalue(), err.getvalue())


def test_agreement(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    result = run("resnet_18", *FAST, "--all", "--json", str(path))
    assert result.exit_code == cli.AGREES, result.output
    assert "layer4.1.conv2" in result.output
    assert "agrees in all" in result.output
    read = json.loads(path.read_text())
    assert read["agrees"] is True
    assert read["cases"][0]["name"] == "resnet_18-eval"
    assert len(read["cases"][0]["subjects"][0]["layers"]) == 61


def test_disagreement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def wrong(subject: Subject, *_arguments: object) -> list[SubjectVerdict]:
        layer = LayerVerdict("activation", "stem.0", "free", "over", 1.0, 1e-7)
        return [SubjectVerdict(subject.label, "free", "float32", [layer])]

    monkeypatch.setattr(verdict, "look", wrong)
    path = tmp_path / "verdict.json"
    result = run("resnet_18", *FAST, "--quiet", "--json", str(path))
    assert result.exit_code == cli.DISAGREES
    assert "first out of line: the output of stem.0" in " ".join(result.output.split())
    assert json.loads(path.read_text())["agrees"] is False


def test_quiet_says_one_sentence_a_subject() -> None:
    result = run("resnet_18", *FAST, "--quiet")
    assert result.exit_code == cli.AGREES
    assert "layer2.0.conv1 " not in result.output
    assert result.stderr == ""


def test_a_summary_by_default() -> None:
    lines = run("narrow_basic", "--subject", "torch,lucid", "--view", "free", "--view", "exact").stdout.splitlines()
    assert len(lines) < 60  # 276 with --all
    assert sum(line.startswith("✓ ") for line in lines) == 4
    tables = [line for line in lines if line.startswith("  ")]
    assert len([line for line in tables if "same bits ✓" in line]) == 20
    assert len(run("narrow_basic", "--subject", "torch", "--view", "free", "--all").stdout.splitlines()) > 150


def test_progress_goes_to_standard_error() -> None:
    result = run("resnet_18", *FAST)
    assert "resnet_18-eval: lucid in float64" in result.stderr
    assert "lucid in float64" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet50"], "did you mean 'resnet_50'"),
        (["resnet_18", "--subject", "lucit"], "did you mean 'lucid'"),
        (["resnet_18", "--subject", "torch:float8"], "'float8' is not an option of torch"),
        (["resnet_18", "--subject", "torch:float32:float64"], "is a second precision"),
        (["resnet_18", "--subject", "torch,torch"], "each may be named once"),
        (["resnet_18", "--subject", "torch", "--backend", "reference"], "lucid is not among the subjects"),
        (["resnet_18", *FAST, "--image", "missing.jpg"], "cannot read missing.jpg"),
        (["resnet_18", *FAST, "--weights", "missing.safetensors"], "cannot read missing.safetensors"),
        (["resnet_18", *FAST, "--image", "x.jpg", "--input", "photo"], "exclude each other"),
        (["resnet_18", *FAST, "--json", "/no/such/directory/verdict.json"], "there is no directory"),
        (
            ["resnet_18", "--subject", "torch:no-onednn", "--mode", "train", "--image-size", "32", "--batch", "1"],
            "size",
        ),
        (["resnet_18", "--image-size", "0"], "0 is not in the range"),
        (["resnet_18", "--mode", "test"], "is not one of"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == cli.WRONG_USAGE, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_corrupt_files_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x10\0\0\0\0\0\0\0not json at all..")
    for option in ("--weights", "--image"):
        result = run("resnet_18", *FAST, option, str(broken))
        assert result.exit_code == cli.WRONG_USAGE
        assert str(broken) in result.stderr


def test_json_into_a_directory_is_refused_before_the_work(tmp_path: Path) -> None:
    result = run("resnet_18", *FAST, "--json", str(tmp_path))
    assert result.exit_code == cli.WRONG_USAGE
    assert "is a directory" in result.stderr
    assert "float64" not in result.stderr


def test_a_mode_that_no_subject_can_run_is_wrong_usage() -> None:
    pytest.importorskip("onnxruntime")
    result = run("resnet_18", "--subject", "onnxruntime", "--mode", "train")
    assert result.exit_code == cli.WRONG_USAGE
    assert "nothing would be compared" in result.stderr


def test_a_defect_of_the_oracle_is_no_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "look", lambda *_arguments: 1 / 0)
    result = run("resnet_18", *FAST, "--quiet")
    assert result.exit_code == cli.FAILED
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, cli.INTERRUPTED), (MemoryError, cli.WRONG_USAGE)])
def test_interruption_and_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: int
) -> None:
    def stop(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(verdict, "run_case", stop)
    assert run("resnet_18", *FAST, "--quiet").exit_code == status


def test_help_and_version_are_no_errors() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.run(["check", "--help"]) == cli.AGREES
    assert "--image-size" in out.getvalue()


def test_a_reader_that_leaves_is_no_verdict() -> None:
    code = f"import sys; from oracle.cli import main; main(['check', 'narrow_basic', *{FAST}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=300) == cli.WRONG_USAGE
