"""The commands of docs/training.md, as printed: the same bits with workers, after a stop, and on every backend."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_page_works_as_printed(tmp_path: Path) -> None:
    blocks = re.findall(r"```(python|console)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = os.pathsep.join(filter(None, sys.path))
    ran = 0
    for kind, block in blocks:
        if kind == "python":
            (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
            continue
        (tmp_path / "checkpoint.safetensors").unlink(missing_ok=True)
        for command, printed in re.findall(r"\$ (.*)\n((?:(?!\$ ).*\n)*)", block):
            before, _, arguments = command.partition("python ")
            settings = dict(setting.split("=") for setting in before.split())
            found = subprocess.run(
                [sys.executable, *arguments.split()],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": path, **settings},
                capture_output=True,
                text=True,
                check=False,
            )
            assert found.stdout == printed, f"{command}\n{found.stdout}{found.stderr}"
            ran += 1
    assert ran == 6
