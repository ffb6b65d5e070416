"""Variables of the environment: what they may say, and that anything else is one sentence that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lucid
from lucid.backends import SettingError, _settings, available_backends, check_settings
from lucid.onnx.cli import run as export

VARIABLES = (
    "LUCID_BACKEND",
    "LUCID_GPU_BACKEND",
    "LUCID_ISA",
    "LUCID_NUM_THREADS",
    "OMP_NUM_THREADS",
    "LUCID_CACHE_DIR",
)
THREADS = "may be an integer of at least 1 and at most 1024"
# By name: the variable, its value, and what is said.
WRONG = {
    "another case": ("LUCID_BACKEND", "Native", "got 'Native'; may be one of native, reference"),
    "a space": ("LUCID_BACKEND", "native ", "got 'native '; may be one of native"),
    "another device's": ("LUCID_BACKEND", "cuda", "got 'cuda'; may be one of native"),
    "no backend": ("LUCID_GPU_BACKEND", "rocm", "got 'rocm'; may be one of cuda"),
    "the CPU's": ("LUCID_GPU_BACKEND", "native", "got 'native'; may be one of cuda"),
    "many": ("LUCID_NUM_THREADS", "many", f"got 'many'; {THREADS}"),
    "none": ("LUCID_NUM_THREADS", "0", f"got '0'; {THREADS}"),
    "fewer than none": ("LUCID_NUM_THREADS", "-2", f"got '-2'; {THREADS}"),
    "a part": ("LUCID_NUM_THREADS", "1.5", f"got '1.5'; {THREADS}"),
    "another number's sign": ("LUCID_NUM_THREADS", "²", f"got '²'; {THREADS}"),
    "too many": ("LUCID_NUM_THREADS", "1025", f"got '1025'; {THREADS}"),
    "more digits than are read": ("LUCID_NUM_THREADS", "9" * 5000, f"got '{'9' * 40}..'; {THREADS}"),
    "OpenMP's, too many": ("OMP_NUM_THREADS", "100000", f"got '100000'; {THREADS}"),
    "no directory": ("LUCID_CACHE_DIR", __file__, "which is no directory"),
}
NATIVE_WRONG = {
    "an ISA's case": ("LUCID_ISA", "AVX2", "got 'AVX2'; may be one of "),
    "no ISA": ("LUCID_ISA", "sse9", "got 'sse9'; may be one of "),
}
if "native" in available_backends():
    WRONG |= NATIVE_WRONG


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("name", [name for name in WRONG if WRONG[name][0] != "LUCID_ISA"])
def test_what_cannot_be_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, value, words = WRONG[name]
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError) as caught:
        check_settings()
    assert str(caught.value).startswith(f"{variable}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "1", " 3 ", "0012", "1024"])
def test_a_number_of_threads(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCID_NUM_THREADS", text)
    assert _settings.threads() == (int(text) if text else None)


@pytest.mark.parametrize(
    ("text", "count"), [("", None), ("4", 4), ("4,3,2", 4), ("many", None), ("0", None), ("-1", None), ("1024", 1024)]
)
def test_openmps_number_of_threads(text: str, count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP passes over what it cannot read; so is it here, since the variable is not lucid's."""
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert _settings.threads() == count
    monkeypatch.setenv("LUCID_NUM_THREADS", "7")
    assert _settings.threads() == 7


def test_a_directory_for_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path, tmp_path / "to be made"):
        monkeypatch.setenv("LUCID_CACHE_DIR", str(path))
        check_settings()
        assert _settings.cache_directory() == path


def test_a_backend_that_cannot_run_here_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    if "cuda" in available_backends():
        pytest.skip("cuda runs here")
    monkeypatch.setenv("LUCID_GPU_BACKEND", "cuda")
    with pytest.raises(RuntimeError, match=r"LUCID_GPU_BACKEND: got 'cuda', but the 'cuda' backend cannot run here"):
        lucid.zeros(1, device="gpu")


# Each in a process of its own, as a user meets it: from the library and from both commands.
HOW = {
    "lucid": ["-c", "import lucid; lucid.get_num_threads(); lucid.ones(2).sum()"],
    "lucid-export": ["-c", "from lucid.onnx.cli import main; main(['--onnx', 'resnet_18', '-o', '/nowhere/x.onnx'])"],
    "lucid-oracle": ["-m", "oracle.cli", "golden", "list"],
}

MET = [
    "another case",
    "many",
    "too many",
    "OpenMP's, too many",
    *(NATIVE_WRONG if "native" in available_backends() else ()),
]


def in_a_process(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", MET)
@pytest.mark.parametrize("how", HOW)
def test_a_user_meets_one_sentence(how: str, name: str) -> None:
    variable, value, words = WRONG[name]
    if variable in ("LUCID_NUM_THREADS", "OMP_NUM_THREADS") and "native" not in available_backends():
        pytest.skip("the reference backend has no threads")
    done = in_a_process(HOW[how], **{variable: value})
    last = done.stderr.strip().splitlines()[-1]
    if how == "lucid":
        assert done.returncode == 1
        assert last.startswith(f"lucid.backends._settings.SettingError: {variable}: got ")
    else:
        assert done.returncode == 2, done.stderr
        assert done.stderr.strip() == last
        assert last.startswith(f"{how}: {variable}: got ")
        assert done.stdout == ""
    assert words in last


def test_export_in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LUCID_BACKEND", "Native")
    assert export(["--onnx", "resnet_18"]) == 2
    assert capsys.readouterr().err.startswith("lucid-export: LUCID_BACKEND: got 'Native'; may be one of")
