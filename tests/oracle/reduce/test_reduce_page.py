"""The commands of docs/reduce.md, as printed; numbers may differ, and ``...`` stands for whatever is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("click")

from oracle import cli

PAGE = Path(__file__).parents[3] / "docs" / "reduce.md"
STATUSES = {"python model.py": 0, "compiler.py:run": 1, "python repro/run.py": 1}


def numberless(text: str) -> str:
    return re.sub(r"\d[\d.,]*", "#", text)


def test_the_page_works_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = []
    for kind, block in re.findall(r"```(python|console)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if kind == "python":
            if block.startswith("# "):
                Path(block.splitlines()[0].removeprefix("# ")).write_text(block)
            continue
        for command, printed in re.findall(r"\$ (.*)\n((?:(?!\$ ).*\n)*)", block):
            name, *arguments = shlex.split(command)
            if name == "python":
                found = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
                status, out = found.returncode, found.stdout
            else:
                status, out = cli.run([*arguments, "-q"]), capsys.readouterr().out
            wanted = [re.escape(numberless(part)) for part in printed.strip().split("...")]
            assert re.match(r"[\s\S]*".join(wanted), numberless(out)), f"{command}\n{out}"
            assert status == next((each for part, each in STATUSES.items() if part in command), 0)
            ran.append(command)
    assert len(ran) == 4
    assert (tmp_path / "repro" / "subject.py").read_text() == (tmp_path / "compiler.py").read_text()
