"""tools/mutants.py: what it changes, and what it says of tests that notice and tests that do not."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "mutants.py"
pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="the tools are not beside the tests")


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("mutants", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = a is None", ["x = a is not None"]),
        ("x = a == b", ["x = a != b"]),
        ("x = a and b", ["x = (a or b)", "x = b", "x = a"]),
        ("x = not a", ["x = a"]),
        ("x = a + b", ["x = (a - b)"]),
        ("x = -a", ["x = a"]),
        ("x = True", ["x = False"]),
        ("x = 2", ["x = 3"]),
        ("x = f(a, b, c=d)", ["x = f(a, c=d)", "x = f(a, b)"]),
        ("if a: b()", ["if (not a): b()"]),
        ("x = a if b else c", ["x = a if (not b) else c"]),
        ("def f() -> bool:\n    return a", ["def f() -> bool:\n    return False", "def f() -> bool:\n    return True"]),
        ("def f() -> list[int]:\n    return a", ["def f() -> list[int]:\n    return []"]),
        ("def f():\n    return a", ["def f():\n    return None"]),
        # Neither texts nor what is raised, imported or asserted, nor types.
        ("x = 'text'", []),
        ("raise ValueError(1, 2)", []),
        ("if TYPE_CHECKING: import a", []),
        ("x: Literal[1] = a", []),
        # Places are counted in bytes.
        ("x = 'größer'; y = 1", ["x = 'größer'; y = 2"]),
    ],
)
def test_what_is_changed(tool: Any, source: str, wanted: list[str]) -> None:
    found = [mutant.apply(source.encode()).decode() for mutant in tool.mutants_of(source.encode())]
    assert found == wanted


def test_every_mutant_can_be_compiled(tool: Any) -> None:
    source = TOOL.read_bytes()
    mutants = tool.mutants_of(source)
    assert len(mutants) > 50
    for mutant in mutants:
        ast.parse(mutant.apply(source))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "__init__.py").write_text("def larger(a: int, b: int) -> bool:\n    return a > b\n")
    (tmp_path / "test_weak.py").write_text("from small import larger\n\ndef test_it():\n    assert larger(2, 1)\n")
    equal = "\ndef test_equal():\n    assert not larger(1, 1)\n"
    (tmp_path / "test_strong.py").write_text((tmp_path / "test_weak.py").read_text() + equal)
    (tmp_path / "test_red.py").write_text("def test_red():\n    assert False\n")
    return tmp_path


@pytest.mark.parametrize(
    ("tests", "count", "status", "told"),
    [
        ("test_weak.py", 4, 1, ["2: a > b -> a >= b", "2: return a > b -> return True"]),
        ("test_strong.py", 1, 0, []),
        ("test_red.py", 1, 2, []),
    ],
)
def test_survivors_are_told(
    tool: Any, repository: Path, capsys: Any, tests: str, count: int, status: int, told: list[str]
) -> None:
    source = (repository / "small" / "__init__.py").read_bytes()
    options = ["--root", str(repository), "--file", "small/__init__.py", "--count", str(count)]
    assert tool.main([*options, "--tests", tests]) == status
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert sorted(lines[:-1]) == sorted(f"small/__init__.py:{each}" for each in told)
    if status < 2:
        assert lines[-1] == f"small/__init__.py, seed 0: {count - len(told)} of {count} mutants noticed"
    else:
        assert "the tests fail" in printed.err
    assert (repository / "small" / "__init__.py").read_bytes() == source


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--file", "small/none.py"], "there is no such file"),
        (["--file", "small/__init__.py", "--lines", "one"], "may be numbers and ranges"),
        (["--file", "small/__init__.py", "--lines", "1"], "nothing to change"),
        (["--file", "small/__init__.py", "--count", "0"], "nothing to change"),
    ],
)
def test_what_cannot_be_done(tool: Any, repository: Path, capsys: Any, arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        tool.main(["--root", str(repository), *arguments, "--tests", "test_weak.py"])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
