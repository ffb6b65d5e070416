"""The recipes of CONTRIBUTING.md are true: what their tables list is where their examples stand, and all of it.

A heading ``### A kind: `name` `` is followed by a table whose first column are files.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from lucid.kernels.elementwise import printer

ROOT = Path(__file__).parents[1]
MOST = 5
"""Files that any addition touches, with its tests (a kernel: without)."""


def recipes() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Of each heading that names an example: that name, and the files in the table under it."""
    found = {}
    for section in re.split(r"^### ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)[1:]:
        name = re.match(r".*`(\w+)`$", section.splitlines()[0])
        if name:
            files = tuple(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
            found[section.splitlines()[0]] = name[1], files
    return found


@cache
def sources() -> dict[str, str]:
    """Those of lucid, but for what is printed."""
    paths = {path for path in (ROOT / "lucid").rglob("*") if path.suffix in {".py", ".md", ".h", ".cpp", ".cu", ".def"}}
    printed = {ROOT / "lucid" / path.relative_to(printer.LAW.parent) for path in printer.printed()}
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths - printed}


def holders(name: str) -> set[str]:
    """The sources of lucid in which ``name`` stands as a word; NumPy's function of that name is another."""
    word = re.compile(rf"(?<!np\.)\b{name}\b")
    return {path for path, text in sources().items() if word.search(text)}


def test_there_are_recipes() -> None:
    examples = {"gelu", "GELU", "layer_norm", "GroupNorm", "LayerNormalization", "cumsum", "wide_resnet_101"}
    assert examples <= {name for name, _ in recipes().values()}


@pytest.mark.parametrize("recipe", recipes())
def test_the_example_stands_in_the_files_of_its_recipe_alone(recipe: str) -> None:
    name, files = recipes()[recipe]
    assert 1 <= len(files) <= MOST
    for file in files:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), file
    others = {
        file for _, files in recipes().values() for file in files
    }  # another recipe's, as a layer calls its operation
    assert holders(name) <= others
