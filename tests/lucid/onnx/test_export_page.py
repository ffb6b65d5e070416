"""The commands of docs/export.md, as printed; ``...`` stands for what differs from machine to machine."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("click")

from lucid.onnx import cli

PAGE = Path(__file__).parents[3] / "docs" / "export.md"


def test_the_page_works_as_printed(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    ran = 0
    for kind, block in re.findall(r"```(python|console)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if kind == "python":
            Path(block.splitlines()[0].removeprefix("# ")).write_text(block)
            continue
        for command, printed in re.findall(r"\$ (.*)\n((?:(?!\$ ).*\n)*)", block):
            name, *arguments = shlex.split(command)
            if name == "python":
                exec(compile(Path(arguments[0]).read_text(), arguments[0], "exec"), {})
            else:
                assert cli.run(arguments) == 0
            out, err = capsys.readouterr()
            assert doctest.OutputChecker().check_output(printed, out, doctest.ELLIPSIS), f"{command}\n{out}{err}"
            ran += 1
    assert ran == 9
