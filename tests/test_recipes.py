"""The recipes of CONTRIBUTING.md are true: what their tables list is where their examples stand, and all of it.

A heading ``### A kind: `name` `` is followed by a table whose first column are files.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lucid.kernels.elementwise import printer

ROOT = Path(__file__).parents[1]
MOST = 5
"""Files that any addition touches, with its tests."""


def recipes() -> dict[str, tuple[str, ...]]:
    """The files in the table under each heading that names an example, by that name."""
    found = {}
    for section in re.split(r"^### ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)[1:]:
        name = re.match(r".*`(\w+)`$", section.splitlines()[0])
        if name:
            found[name[1]] = tuple(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    return found


def holders(name: str) -> set[str]:
    """The sources of lucid in which ``name`` stands as a word, but for those that are printed."""
    word = re.compile(rf"\b{name}\b")
    paths = [path for path in (ROOT / "lucid").rglob("*") if path.suffix in {".py", ".md", ".h", ".cpp", ".cu", ".def"}]
    named = {path.relative_to(ROOT).as_posix() for path in paths if word.search(path.read_text())}
    return named - {f"lucid/{path.relative_to(printer.LAW.parent).as_posix()}" for path in printer.printed()}


def test_there_are_recipes() -> None:
    assert {"gelu", "GELU", "layer_norm", "LayerNorm", "LayerNormalization", "wide_resnet_101"} <= set(recipes())


@pytest.mark.parametrize("name", recipes())
def test_the_example_stands_in_the_files_of_its_recipe_alone(name: str) -> None:
    files = recipes()[name]
    assert 1 <= len(files) <= MOST
    for file in files:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), file
    others = {
        file for files in recipes().values() for file in files
    }  # another recipe's, as a layer calls its operation
    assert holders(name) <= others
