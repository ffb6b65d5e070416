"""The oracle inside somebody's tests: failures that name the layer, and no green run that compared nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.verdicts import ABSENT, KEYS, OVER, a_subject, a_verdict

from oracle.errors import UsageError
from oracle.run import Verdict
from oracle.testing import OutOfLineError, assert_agrees, tensors_compared, to_trace

CONV = ("activation", "layer1.0.conv1")
TESTS = Path(__file__).parents[1]


def test_pytest_finds_the_plugin_by_itself() -> None:
    [entry] = [each for each in metadata.entry_points(group="pytest11") if each.name == "lucid-oracle"]
    assert entry.value == "oracle.pytest_plugin"


def test_what_agrees_is_counted() -> None:
    before = tensors_compared()
    assert_agrees(a_verdict(a_subject(), a_subject(view="local", changes={CONV: ABSENT})))
    assert tensors_compared() - before == len(KEYS["train"])  # once, in however many views


def test_a_failure_names_the_first_layer_and_keeps_the_verdict() -> None:
    verdict = a_verdict(a_subject(view="exact", label="healthy"), a_subject(changes={CONV: OVER}))
    before = tensors_compared()
    with pytest.raises(AssertionError, match=r"first out of line: the output of layer1\.0\.conv1") as caught:
        assert_agrees(verdict)
    assert isinstance(caught.value, OutOfLineError)
    assert caught.value.verdict is verdict
    assert "9000% used" in str(caught.value)
    assert "healthy" not in str(caught.value)
    assert tensors_compared() == before


@pytest.mark.parametrize(
    "verdict", [Verdict([], {}), a_verdict(), a_verdict(a_subject(changes=dict.fromkeys(KEYS["train"], ABSENT)))]
)
def test_nothing_compared_is_a_failure(verdict: Verdict) -> None:
    with pytest.raises(OutOfLineError, match="nothing was compared"):
        assert_agrees(verdict)


def test_anything_becomes_a_trace(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    given: dict[Any, Any] = {
        "activation/fc": torch.tensor([[1.5, 2.0]], dtype=torch.bfloat16, requires_grad=True),
        ("parameter_gradient", "fc.bias"): [1.0, 2.0],
        "loss": np.float32(0.5),
    }
    trace = to_trace(given)
    assert list(trace) == [("activation", "fc"), ("parameter_gradient", "fc.bias"), ("loss", "loss")]
    assert trace["activation", "fc"].tolist() == [[1.5, 2.0]]
    assert to_trace(trace) is trace
    trace.save(tmp_path / "trace.safetensors")
    assert (
        set(to_trace(tmp_path / "trace.safetensors"))
        == set(to_trace(str(tmp_path / "trace.safetensors")))
        == set(trace)
    )
    with pytest.raises(UsageError, match=r"'fc\.weight' is no name of a trace's tensor; may be such as 'activation/"):
        to_trace({"fc.weight": np.zeros(1)})


SUITE = """
import sys
sys.path.insert(0, {tests!r})
import pytest
from support.verdicts import OVER, a_subject, a_verdict
from oracle.testing import assert_agrees

def test_right():
    assert_agrees(a_verdict(a_subject()))

def test_nothing_to_do_with_it():
    pass

@pytest.mark.skip
def test_skipped():
    assert_agrees(a_verdict(a_subject()))

@pytest.mark.wrong
def test_wrong():
    assert_agrees(a_verdict(a_subject()))
    assert_agrees(a_verdict(a_subject(changes={{("activation", "fc"): OVER}})))
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "test_suite.py").write_text(SUITE.format(tests=str(TESTS)))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = wrong\n")
    return tmp_path


def pytest_in(suite: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("-m not.wrong --oracle-require=1", 0, "12 tensors in line, in 1 tests"),
        ("-m not.wrong --oracle-require=12", 0, "12 tensors in line"),
        ("-m not.wrong --oracle-require=13", 1, "12 tensors were compared, at least 13 are required"),
        ("-k skipped --oracle-require=1", 1, "verified too little"),
        ("-k skipped", 0, "1 skipped"),
        ("-k nothing_to_do --oracle-require=1", 1, "verified too little"),
        ("-k no_such_test --oracle-require=1", 1, "verified too little"),
        ("-k test_wrong --oracle-require=1", 1, "0 tensors were compared"),
        ("--collect-only --oracle-require=1", 0, "4 tests collected"),
        ("-k right -n 2 --oracle-require=1", 0, "12 tensors in line"),
        ("-k skipped -n 2 --oracle-require=1", 1, "verified too little"),
    ],
)
def test_a_run_that_compared_too_little_is_red(suite: Path, arguments: str, status: int, words: str) -> None:
    if "-n" in arguments:
        pytest.importorskip("xdist")
    found, output = pytest_in(suite, *(part.replace(".", " ") for part in arguments.split()))
    assert found == status, output
    assert words in output


def test_a_failure_leaves_a_page(suite: Path) -> None:
    found, output = pytest_in(suite, "--oracle-report", "pages")
    assert found == 1
    assert "first out of line: the output of fc" in output
    files = sorted(path.name for path in (suite / "pages").iterdir())
    assert files == ["test_suite.py_test_wrong.html", "test_suite.py_test_wrong.json"]
    assert "test_suite.py_test_wrong.html" in output


@pytest.mark.parametrize("given", ["test_suite.py", "test_suite.py/pages", "/dev/null", "loop/pages", ""])
def test_a_directory_that_cannot_be_is_wrong_usage(suite: Path, given: str) -> None:
    (suite / "loop").symlink_to("loop")
    found, output = pytest_in(suite, f"--oracle-report={given}")
    assert (found, "INTERNALERROR" in output) == (pytest.ExitCode.USAGE_ERROR, False), output
    assert f"--oracle-report: got {given!r}" in output


def test_a_page_that_cannot_be_written_is_said(suite: Path) -> None:
    (suite / "pages" / "test_suite.py_test_wrong.html").mkdir(parents=True)
    found, output = pytest_in(suite, "--oracle-report=pages")
    assert (found, "INTERNALERROR" in output) == (1, False), output
    assert "could not be written: " in output
    assert "it is a directory, not a regular file" in output


def test_the_plugin_loads_nothing_of_the_oracle(suite: Path) -> None:
    heavy = {"oracle.judge.verdicts", "oracle.testing", "lucid", "numpy", "torch"}
    (suite / "test_suite.py").write_text(
        f"import sys\ndef test_light():\n    assert not {heavy!r} & set(sys.modules)\n"
    )
    found, output = pytest_in(suite)
    assert found == 0, output
