"""Would the tests notice? Change one place of a file at a time, run some tests, and print every change that they pass.

    python tools/mutants.py --file oracle/judge/local.py --tests tests/oracle/judge/test_local.py --count 20 --seed 0

A change (a *mutant*) is one of: another comparison or its boundary, another constant, a negated condition, `and` for
`or`, `+` for `-` and `*` for `/`, a neutral value returned, an argument left out. A seeded sample of --count is drawn
of all that the file (or --lines of it) has; texts and what is raised are left as they are. The tests run in a
temporary copy of the repository, so the checkout is never changed. A run that fails, or takes longer than --limit
seconds, has noticed. The exit status is 0 if every mutant was noticed, 1 if some survived, 2 if nothing could be told:
the tests fail without a change, say. A survivor may be equivalent to what it was made of; somebody has to read it.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LEFT_OUT = shutil.ignore_patterns(".git", "build", "__pycache__", ".*_cache", ".venv", ".tox")

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_NEUTRAL = {"bool": "False", "int": "0", "float": "0.0", "str": "''", "list": "[]", "dict": "{}", "tuple": "()"}

# In every process that the tests start, packages come from the copy, whatever an editable installation says.
_FROM_THE_COPY = """
import sys
from importlib.machinery import PathFinder

class Copy:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            return PathFinder.find_spec(name, [{copy!r}] if path is None else path, target)

sys.meta_path.insert(0, Copy)
"""


@dataclass(frozen=True)
class Mutant:
    """One change: what stands on a line, and what it becomes; ``start`` and ``end`` are offsets in the source."""

    line: int
    before: str
    after: str
    start: int
    end: int

    def apply(self, source: bytes) -> bytes:
        """The changed source."""
        return source[: self.start] + self.after.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.line}: {' '.join(self.before.split())} -> {' '.join(self.after.split())}"


def mutants_of(source: bytes) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines.

    Example:
        >>> [str(mutant) for mutant in mutants_of(b"passed = error <= 2")]
        ['1: error <= 2 -> error < 2', '1: error <= 2 -> error > 2', '1: 2 -> 3']
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, changed in _changes(ast.parse(source)):
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        after = f"({ast.unparse(changed)})" if isinstance(changed, _WRAPPED) else ast.unparse(changed)
        found.append(Mutant(node.lineno, source[start:end].decode(), after, start, end))
    return sorted(dict.fromkeys(found), key=lambda each: (each.start, -each.end))


_WRAPPED = (ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp)  # parenthesised, as the source may have been


def _changes(node: ast.AST, returns: str = "") -> Iterator[tuple[ast.AST, ast.AST]]:
    """The nodes below ``node`` that can be changed, each with what it becomes; ``returns`` is a function's type."""
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr):
        return
    if isinstance(node, ast.FunctionDef):
        returns = ast.unparse(node.returns).partition("[")[0] if node.returns else ""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "keywords") and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _changes(child, returns)
    for changed in _changed(node, returns):
        yield node, changed
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        test = node.test  # a comparison is turned round already
        if not isinstance(test, ast.Compare) and ast.unparse(test) != "TYPE_CHECKING":
            yield test, ast.UnaryOp(ast.Not(), test)


def _changed(node: ast.AST, returns: str) -> Iterator[ast.AST]:
    """What one node may become."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS[type(operator)]:
                yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for place in range(len(node.values)):
            rest = node.values[:place] + node.values[place + 1 :]
            yield _with(node, values=rest) if len(rest) > 1 else rest[0]
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield _with(node, op=_ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Return) and node.value is not None:
        neutral = ast.parse(_NEUTRAL.get(returns, "None"), mode="eval").body
        if ast.dump(neutral) != ast.dump(node.value):
            yield ast.Return(neutral)
        if returns == "bool":
            yield ast.Return(ast.Constant(True))
    elif isinstance(node, ast.Call):
        if len(node.args) > 1 and not isinstance(node.args[-1], ast.Starred):
            yield _with(node, args=node.args[:-1])
        for place, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                yield _with(node, keywords=node.keywords[:place] + node.keywords[place + 1 :])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


class Bench:
    """A copy of the repository in which tests are run."""

    def __init__(self, root: Path, where: Path, tests: Sequence[str], limit: float) -> None:
        self._copy, self._tests, self._limit = where / "copy", tests, limit
        shutil.copytree(root, self._copy, ignore=_LEFT_OUT)
        packages = {path.parent.name for path in self._copy.glob("*/__init__.py")}
        site = where / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_FROM_THE_COPY.format(packages=packages, copy=str(self._copy)))
        before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(self._copy), *before])}

    def passes(self) -> bool:
        """Whether the tests pass in time."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *self._tests]
        try:
            done = subprocess.run(
                command, cwd=self._copy, env=self._environment, capture_output=True, timeout=self._limit, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def survives(self, file: str, mutant: Mutant) -> bool:
        """Whether the tests pass with that change, which is then taken back."""
        path = self._copy / file
        source = path.read_bytes()
        try:
            self._write(path, mutant.apply(source))
            return self.passes()
        finally:
            self._write(path, source)

    @staticmethod
    def _write(path: Path, source: bytes) -> None:
        path.write_bytes(source)
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):  # it may be of the same second and size
            compiled.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", required=True, help="what is changed, from the root of the repository")
    parser.add_argument("--tests", required=True, nargs="+", help="files or names of tests, as pytest takes them")
    parser.add_argument("--count", type=int, default=20, help="how many mutants are drawn (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("--lines", default="", help="draw from these lines alone, such as 10-40,77")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds that one run may take (default 120)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: that of this tool)")
    given = parser.parse_args(arguments)
    path = given.root / given.file
    if not path.is_file():
        parser.error(f"--file: got {given.file}; there is no such file in {given.root}")
    mutants = mutants_of(path.read_bytes())
    if given.lines:
        try:
            wanted = _lines(given.lines)
        except ValueError:
            parser.error(f"--lines: got {given.lines!r}; may be numbers and ranges, such as 10-40,77")
        mutants = [mutant for mutant in mutants if mutant.line in wanted]
    drawn = random.Random(given.seed).sample(mutants, min(max(given.count, 0), len(mutants)))
    if not drawn:
        parser.error(f"nothing to change: {given.file} has {len(mutants)} mutants there, and --count is {given.count}")
    with tempfile.TemporaryDirectory() as where:
        bench = Bench(given.root, Path(where), given.tests, given.limit)
        if not bench.passes():
            print(f"the tests fail, or take longer than {given.limit:g} s, without a change", file=sys.stderr)
            return 2
        survivors = 0
        for mutant in sorted(drawn, key=lambda each: each.start):
            if bench.survives(given.file, mutant):
                survivors += 1
                print(f"{given.file}:{mutant}", flush=True)
    print(f"{given.file}, seed {given.seed}: {len(drawn) - survivors} of {len(drawn)} mutants noticed", flush=True)
    return 1 if survivors else 0


def _lines(text: str) -> set[int]:
    """The lines that ``text`` names.

    Example:
        >>> sorted(_lines("3-5,9"))
        [3, 4, 5, 9]
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


if __name__ == "__main__":
    sys.exit(main())
