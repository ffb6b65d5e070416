"""The commands of docs/kernels.md, as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
PROGRAMS = {"lucid-oracle": ["-m", "oracle.cli"], "pytest": ["-m", "pytest", "-p", "no:cacheprovider"]}


def numberless(text: str) -> str:
    """The text without its numbers, which new draws may change."""
    return re.sub(r"\d[\d,]*", "#", text)


def test_the_page_works_as_printed(tmp_path: Path) -> None:
    blocks = re.findall(r"```(python|console)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    ran = 0
    for kind, block in blocks:
        if kind == "python":
            (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
            continue
        for command, printed in re.findall(r"\$ (.*)\n((?:(?!\$ ).*\n)*)", block):
            program, *arguments = command.split()
            run = [sys.executable, *PROGRAMS[program], *arguments]
            found = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
            wanted = [re.escape(numberless(part)) for part in printed.strip().split("...")]
            assert re.match(r"[\s\S]*".join(wanted), numberless(found.stdout)), (
                f"{command}\n{found.stdout}{found.stderr}"
            )
            assert found.returncode == ("disagrees" in printed)
            ran += 1
    assert ran >= 3


def test_a_convolution_in_c() -> None:
    """What a user writes who calls C: right, and careless about views."""
    command = [sys.executable, str(PAGE.parents[1] / "examples" / "conv_in_c.py")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "conv2d as conv2d in float32 agrees" in found.stdout
    assert "read as if it were contiguous" in found.stdout
