"""Who may import whom: importing lucid is light, imports go one way, and nowhere in a circle.

Every import statement of the sources counts: of a module, of a function, and those for type checkers alone.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "onnx", "onnxruntime", "cupy", "matplotlib", "safetensors", "rich", "click", "PIL", "scipy")
OPTIONAL = {*HEAVY, "jinja2", "ml_dtypes", "_lucid_native"}  # what may be missing, and is imported where it is needed

# From the bottom to the top; a module belongs to its longest name here, and may import its own floor and those below.
FLOORS = (
    ("lucid._version", "lucid.kernels"),
    ("lucid._safetensors", "lucid.console", "lucid.files"),
    ("lucid.backends",),
    ("lucid.core",),
    ("lucid.device", "lucid.dtypes", "lucid.tensor", "lucid.types"),  # public paths of what is in core
    ("lucid.ops",),
    ("lucid.einops", "lucid.io", "lucid.linalg", "lucid.random"),
    ("lucid.nn",),
    ("lucid.autograd", "lucid.data", "lucid.models", "lucid.optim", "lucid.transforms"),
    ("lucid.graph",),
    ("lucid.onnx",),
    ("lucid",),
    ("oracle",),
)


# Modules that import what they use when they use it, and why.
LATE = {
    "oracle.pytest_plugin"
}  # pytest loads it in every session, before a suite's conftest chooses a number of threads


class Import(NamedTuple):
    """One import statement: of what, by whom, in which line, whether in a function, whether for type checkers alone."""

    target: str
    source: str
    line: int
    local: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: imports {self.target}"


@cache
def modules() -> dict[str, Path]:
    """The sources of lucid and oracle by name."""
    found = {}
    for package in ("lucid", "oracle"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every source."""
    return tuple(
        Import(target, source, line, local, typing)
        for source, path in modules().items()
        for target, line, local, typing in _statements(ast.parse(path.read_text()))
    )


def _statements(node: ast.AST, local: bool = False, typing: bool = False) -> Iterator[tuple[str, int, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((name.name, child.lineno, local, typing) for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            for name in child.names:
                whole = f"{child.module}.{name.name}"
                yield whole if whole in modules() else str(child.module), child.lineno, local, typing
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            checked = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from _statements(child, local or inside, typing or checked)


def floor(module: str) -> int:
    """On which floor ``module`` stands."""
    while True:
        for number, names in enumerate(FLOORS):
            if module in names:
                return number
        module = module.rpartition(".")[0]


def circles() -> list[set[str]]:
    """The sets of modules that import each other."""
    edges: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.target in edges and one.target != one.source:
            edges[one.source].add(one.target)
    reached = {name: _reach(edges, name) for name in edges}
    found = {frozenset(other for other in reached[name] if name in reached[other]) for name in edges}
    return [set(circle) for circle in found if circle]


def optional() -> set[str]:
    """The modules that cannot be loaded where an optional package is missing."""
    edges: dict[str, set[str]] = {name: set() for name in modules()}
    needs = {}
    for one in imports():
        if not (one.local or one.typing):
            packages = one.target.split(".")
            edges[one.source] |= {".".join(packages[:end]) for end in range(1, len(packages) + 1)} & set(edges)
            needs[one.source] = needs.get(one.source, False) or packages[0] in OPTIONAL
    return {name for name in edges if any(needs.get(other) for other in {name, *_reach(edges, name)})}


def _reach(edges: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = edges[waiting.pop()] - seen
        seen |= new
        waiting.extend(new)
    return seen


def test_imports_go_down() -> None:
    inside = [one for one in imports() if one.target in modules()]
    assert len(inside) > 500
    assert not [str(one) for one in inside if floor(one.target) > floor(one.source)]


def test_there_is_no_circle() -> None:
    assert not circles()


def test_local_imports_are_of_optional_packages() -> None:
    """Or of a module that imports one when it is loaded."""
    later = optional()
    assert "oracle.budget.driven" in later
    assert not {"oracle.run", "lucid.onnx"} & later
    assert not [
        str(one)
        for one in imports()
        if one.local
        and one.source not in LATE
        and one.target not in later
        and one.target.partition(".")[0] not in OPTIONAL
    ]


def test_import_loads_numpy_alone() -> None:
    code = f"import sys, lucid; print([m for m in {HEAVY!r} if m in sys.modules], 'lucid.onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] False"


def test_import_is_quick() -> None:
    code = "import time; t = time.process_time(); import lucid; print(time.process_time() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < 0.25
