"""The rooms of the oracle: who may import whom, and that only one part knows what a residual network is."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

import oracle

ROOT = Path(oracle.__file__).parent
# Public names that say so: `oracle.Architecture` and its table, what subjects of one's own call the model; and a
# machine's architecture.
PUBLIC = {
    "__init__.py": ("ARCHITECTURES", "Architecture", "find_architecture", "resnets"),
    "zoo.py": ("ARCHITECTURES", "find_architecture", "resnets"),
    "case.py": ("architecture",),
    "certificate.py": ("architecture",),
}
NAMES = re.compile(r".*(maxpool|avgpool|Residual|[Aa]rchitecture|ARCHITECTURES|ResNet|resnets|downsample).*")
STRINGS = re.compile(
    r"f?[\"'](maxpool|avgpool|fc|stem|layer\d|downsample|architecture|bn\d|conv\d(?!d))([.\d\w]*)[\"']"
)


def code_of(file: Path) -> list[tuple[int, str]]:
    """The names and strings of a file, without comments and docstrings, whose examples may name anything."""
    found, before = [], tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
        docstring = token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        short = token.type == tokenize.STRING and len(token.string) < 40
        if token.type == tokenize.NAME or (short and not docstring):
            found.append((token.start[0], token.string))
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.type
    return found


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_only_one_description_knows_residual_networks(file: Path) -> None:
    name = str(file.relative_to(ROOT))
    if name.startswith("resnets/"):
        return
    allowed, lines = PUBLIC.get(file.name, ()), file.read_text().splitlines()
    found = {
        line
        for line, text in code_of(file)
        if (NAMES.fullmatch(text) or STRINGS.fullmatch(text)) and text.strip("'\"") not in allowed
    }
    assert not [f"{line}: {lines[line - 1].strip()}" for line in sorted(found)]


# Each room imports, when it is loaded, from those before it alone.
ROOMS = (
    "errors", "files", "tensors", "trace", "precision", "graph", "operations", "resnets", "networks", "case",
    "subjects", "budget", "judge", "truth", "report", "run", "testing", "faults", "commands", "cli",
)  # fmt: skip


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_rooms_import_in_one_direction(file: Path) -> None:
    room = file.relative_to(ROOT).with_suffix("").parts[0]
    if room not in ROOMS:
        return
    for node in ast.parse(file.read_text()).body:
        taken = [f"{node.module}.{name.name}" for name in node.names] if isinstance(node, ast.ImportFrom) else []
        for name in [name.split(".")[1] for name in taken if name.startswith("oracle.")]:
            assert name not in ROOMS or ROOMS.index(name) <= ROOMS.index(room), f"{room} imports {name}"
