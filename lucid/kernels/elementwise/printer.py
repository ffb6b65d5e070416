"""Prints the scalar functions of ``functions.py`` and the optimisers' ``rules.py`` from their text: as C++ and as the
law's formulas.

``python -m lucid.kernels.elementwise.printer`` writes what it prints; a test holds that it is what stands in the tree.
A statement becomes a statement and an operation an operation, so the order of rounding is the text's. The C++ is a
template: ``V`` is a number or a vector of them, and ``terms.h`` has the terms for either.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from lucid.kernels.elementwise import functions
from lucid.kernels.optimizer import rules

ROOM = Path(__file__).parent
LAW = ROOM.parent.parent / "ARITHMETIC.md"

_OPERATORS: dict[type, str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_PARAMETERS = {"Value": "V", "Wide": "V", "int": "int64_t", "float": "double", "bool": "bool"}

_PARTS = {"Pair": "Pair<V>", "Triple": "Triple<V>", "Condition": "auto"}
"""What a function returns that gives numbers whose sum is meant, or a condition."""


def constants() -> dict[str, Any]:
    """The module's numbers and tables of them, by name."""
    return {name: value for name, value in vars(functions).items() if name.isupper() and type(value) is not dict}


def _pattern(value: float) -> str:
    """The 64 bits of a number, as the law writes them."""
    return f"{int(np.float64(value).view(np.uint64)):016X}"


def definitions(module: ModuleType = functions) -> dict[str, ast.FunctionDef]:
    """The text of every function, in order."""
    made = [f for f in vars(module).values() if isinstance(f, FunctionType) and f.__module__ == module.__name__]
    trees = [ast.parse(inspect.getsource(f)).body[0] for f in made if f not in (functions.scalar, rules.rule)]
    return {tree.name: tree for tree in trees if isinstance(tree, ast.FunctionDef)}


def _steps(tree: ast.FunctionDef) -> list[ast.stmt]:
    return tree.body[1:] if ast.get_docstring(tree) else tree.body


def _results(tree: ast.FunctionDef) -> tuple[str, ...]:
    """The parameters that a function of several results assigns and returns, by name; of one result: none."""
    last = tree.body[-1]
    if not isinstance(last, ast.Return) or not isinstance(last.value, ast.Tuple):
        return ()
    if tree.returns and ast.unparse(tree.returns) in _PARTS:
        return ()
    names = tuple([ast.unparse(value) for value in last.value.elts])
    if not set(names) <= {a.arg for a in tree.args.args}:
        raise SyntaxError(f"{tree.name}: {ast.unparse(last)!r} may return parameters alone")
    return names


def is_wide(tree: ast.FunctionDef) -> bool:
    """Whether it computes in float64 whatever the dtype is."""
    return any(isinstance(node, ast.Call) and ast.unparse(node.func) == "wide" for node in ast.walk(tree))


# -- C++ -------------------------------------------------------------------------------------------------------------


class _Cpp:
    """One function as a template."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        self.tree = tree
        stored = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        self.variable = {name for name in stored if stored.count(name) > 1}
        self.declared = {a.arg for a in tree.args.args}
        self.results = _results(tree)
        self.lines: list[str] = []

    def text(self) -> str:
        said = ast.get_docstring(self.tree)
        result = "void" if self.results else _PARTS.get(ast.unparse(self.tree.returns or ast.Name("Value")), "V")
        self.block(_steps(self.tree), 1)
        arguments = ", ".join(map(self.parameter, self.tree.args.args))
        return "\n".join(
            [
                *[f"// {line}".rstrip() for line in (said or "").splitlines()],
                "template <class V>",
                f"LUCID_LANES {result} {self.tree.name}({arguments}) {{",
                *self.lines,
                "}",
            ]
        )

    def parameter(self, a: ast.arg) -> str:
        """One whose value is not used (``number`` takes the type of it alone) has no name."""
        kind = _PARAMETERS[ast.unparse(a.annotation)] + "&" * (a.arg in self.results)  # type: ignore[arg-type]
        return f"{kind} {a.arg}" if re.search(rf"\b{a.arg}\b", "\n".join(self.lines)) else kind

    def block(self, statements: list[ast.stmt], depth: int) -> None:
        for statement in statements:
            self.statement(statement, depth)

    def statement(self, s: ast.stmt, depth: int) -> None:
        if isinstance(s, ast.Return) and self.results:
            return  # they stand where they were given
        if isinstance(s, ast.Return) and isinstance(s.value, ast.Tuple):
            self.put(depth, f"return {{{', '.join(map(self.expression, s.value.elts))}}};")
        elif isinstance(s, ast.Return) and s.value is not None:
            self.put(depth, f"return {self.expression(s.value)};")
        elif isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name):
            name = s.targets[0].id
            declared = "" if name in self.declared else "auto " if name in self.variable else "const auto "
            self.declared.add(name)
            self.put(depth, f"{declared}{name} = {self.expression(s.value)};")
        elif isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Tuple) and isinstance(s.value, ast.Call):
            self.parts(depth, s.targets[0], s.value)
        elif isinstance(s, ast.If | ast.While) and not s.orelse:
            word = "if" if isinstance(s, ast.If) else "while"
            self.put(depth, f"{word} ({self.expression(s.test)}) {{")
            self.block(s.body, depth + 1)
            self.put(depth, "}")
        else:
            raise SyntaxError(f"{self.tree.name}: {ast.unparse(s)!r} is no step that can be printed")

    def parts(self, depth: int, targets: ast.Tuple, value: ast.Call) -> None:
        """``a, b = f(x)``: what was assigned before is assigned again, the others are declared."""
        names = [ast.unparse(target) for target in targets.elts]
        earlier = sum("auto parts" in line for line in self.lines)
        called = f"parts{earlier}"
        self.put(depth, f"const auto {called} = {self.expression(value)};")
        for name, part in zip(names, ("value", "rest", "turns"), strict=False):
            if name == "_":
                continue
            declared = "" if name in self.declared else "auto " if name in self.variable else "const auto "
            self.declared.add(name)
            self.put(depth, f"{declared}{name} = {called}.{part};")

    def put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def expression(self, e: ast.expr, inner: bool = False) -> str:
        """``inner``: in parentheses, where it is an operation on two."""
        if isinstance(e, ast.Call):
            name = ast.unparse(e.func)
            text = self.call(name, e.args)
            return f"({text})" if inner and name == "select" else text
        if isinstance(e, ast.Name):
            value = constants().get(e.id, 0)
            return e.id if np.isfinite(value) else f"from_bits(0x{_pattern(value)})"
        if isinstance(e, ast.Constant):
            return f"number<V>({e.value!r})" if isinstance(e.value, float) else str(e.value)
        if isinstance(e, ast.Lambda):
            return f"[&] {{ return {self.expression(e.body)}; }}"
        if isinstance(e, ast.Tuple):
            return f"Triple<V>{{{', '.join(map(self.expression, e.elts))}}}"
        if isinstance(e, ast.UnaryOp) and isinstance(e.op, ast.USub):
            if isinstance(e.operand, ast.Constant):
                return self.expression(ast.Constant(-e.operand.value))  # type: ignore[operator]
            return f"-{self.expression(e.operand, True)}"
        if isinstance(e, ast.IfExp):
            parts = [self.expression(part, True) for part in (e.test, e.body, e.orelse)]
            return "{} ? {} : {}".format(*parts)
        if isinstance(e, ast.BinOp):
            left, op, right = e.left, e.op, e.right
        elif isinstance(e, ast.Compare) and len(e.ops) == 1:
            left, op, right = e.left, e.ops[0], e.comparators[0]  # type: ignore[assignment]
        else:
            raise SyntaxError(f"{self.tree.name}: {ast.unparse(e)!r} is no expression that can be printed")
        both = f"{self.expression(left, True)} {_OPERATORS[type(op)]} {self.expression(right, True)}"
        return f"({both})" if inner else both

    def call(self, name: str, arguments: list[ast.expr]) -> str:
        if name == "horner":
            if not isinstance(arguments[1], ast.Name):
                raise SyntaxError(
                    f"{self.tree.name}: horner's argument has no name, so it would be computed many times"
                )
            table, x = constants()[ast.unparse(arguments[0])], self.expression(arguments[1])
            value = f"number<V>({table[-1]!r})"
            for coefficient in reversed(table[:-1]):
                value = f"({value} * {x} + {coefficient!r})"
            return value
        if name == "number":
            return f"number<V>({ast.unparse(arguments[0])})"
        if name == "at":
            return f"at({ast.unparse(arguments[0])}, {self.expression(arguments[1])})"
        if name == "nearest":
            value, x = (self.expression(a) for a in arguments[:2])
            text, table = f"narrow<V>({value})", constants()[ast.unparse(arguments[2])]
            for place, result in zip(table[::2], table[1::2], strict=True):
                text = f"amended({text}, {x}, {place.hex()}f, {result.hex()}f)"
            return text
        given = [self.argument(a) for a in arguments]
        if name == "select":
            given[1:] = [self.argument(a, True) for a in arguments[1:]]
            return "{} ? {} : {}".format(*given)
        if name == "narrow":
            return f"narrow<V>({given[0]})"
        return f"{name}({', '.join(given)})"

    def argument(self, e: ast.expr, inner: bool = False) -> str:
        """Where a constant stands for a value beside every element, it is made one."""
        text = self.expression(e, inner or isinstance(e, ast.Compare))
        return f"number<V>({text})" if ast.unparse(e).lstrip("-") in constants() else text


def header() -> str:
    """``printed.h``: every function as a template of the number, or the vector of numbers, that it treats."""
    numbers = [
        f"constexpr double {name} = {value.hex()};  // 0x{_pattern(value)}"
        if isinstance(value, float)
        else f"constexpr int64_t {name} = 0x{value:016X};"
        for name, value in constants().items()
        if isinstance(value, int) or (isinstance(value, float) and np.isfinite(value))
    ]
    numbers += [
        f"LUCID_TABLE {name}[] = {{{', '.join(f'0x{n:X}' for n in value)}}};"
        for name, value in constants().items()
        if isinstance(value, tuple) and isinstance(value[0], int)
    ]
    bodies = [_Cpp(tree).text() for tree in definitions().values()]
    parts = "\n".join(numbers), *bodies
    return _HEADER.format("scalar functions", "functions.py", "terms.h", "\n\n".join(parts))


def rules_header() -> str:
    """``optimizer/printed.h``: the rules of updates, likewise."""
    bodies = [_Cpp(tree).text() for tree in definitions(rules).values()]
    return _HEADER.format("optimisers' rules", "rules.py", "../elementwise/printed.h", "\n\n".join(bodies))


_HEADER = """\
// The {} of the law. Printed from {} by elementwise/printer.py: change that.
#pragma once

#include "{}"

namespace lucid {{
namespace LUCID_ISA {{
namespace scalar {{

{}

}}  // namespace scalar
}}  // namespace LUCID_ISA
}}  // namespace lucid
"""


def names() -> str:
    """``printed_names.h``: what backends compute by name: functions of one value and of two, and rules."""
    found = definitions()
    trees = [found[name] for name in functions.FUNCTIONS]
    lists = {
        word: [f"F({t.name}, {str(is_wide(t)).lower()})" for t in trees if len(t.args.args) == count]
        for count, word in ((1, "UNARY"), (2, "BINARY"))
    }
    lists["RULES"] = [f"F({name}, ({', '.join(_slots(rule))}))" for name, rule in rules.RULES.items()]
    return _NAMES.format(
        *["#define LUCID_{}(F) \\\n    {}".format(word, " \\\n    ".join(rows)) for word, rows in lists.items()]
    )


def _slots(rule: rules.Rule) -> list[str]:
    """The arguments of a rule as every rule has them: the parameter, its gradient, memory, numbers."""
    return ["p", "g", *[f"m{i}" for i in range(len(rule.memory))], *[f"n{i}" for i in range(len(rule.numbers))]]


_NAMES = """\
// F(name, whether it computes in float64 whatever the dtype) for the functions of one value and of two; F(name,
// arguments) for the rules of updates. Printed from functions.py and rules.py by printer.py: change those.
#pragma once

{}

{}

{}
"""

# -- the law ---------------------------------------------------------------------------------------------------------


def _formula(e: ast.AST) -> str:
    """An expression as the law has it, where the dtype that ``narrow`` and ``number`` take is understood."""
    text = re.sub(r"narrow\((.*), \w+\)$", r"narrow(\1)", ast.unparse(e))
    text = re.sub(r"number\(([\d.]+), \w+\)", r"\1", text)
    return re.sub(r"number\(([^()]+), \w+\)", r"narrow(\1)", text)


def _cell(tree: ast.FunctionDef) -> str:
    """The formula of a function of one step, in a table."""
    (step,) = _steps(tree)
    return _formula(step).removeprefix("return ").replace("|", "\\|")


def _law_of(tree: ast.FunctionDef) -> str:
    lines = [f"{tree.name}({', '.join(a.arg for a in tree.args.args)}):"]
    for statement in _steps(tree):
        lines += ["    " + line for line in _formula(statement).splitlines()]
    return "\n".join("    " + line for line in lines)


def law() -> dict[str, str]:
    """The parts of ``ARITHMETIC.md`` that are printed, by their names there."""
    trees = definitions()
    short, others = [trees[name] for name in functions.FUNCTIONS], ("power_", "sgd_", "normal_")

    rows = [f"| `{t.name}({', '.join(a.arg for a in t.args.args)})` | `{_cell(t)}` |" for t in short]
    floats = {name: value for name, value in constants().items() if isinstance(value, float | int)}
    cells = [f"| {n} | 0x{_pattern(v) if isinstance(v, float) else f'{v:016X}'} |" for n, v in floats.items()]
    half = -(-len(cells) // 2)
    paired = [left + (cells[half + i] if half + i < len(cells) else "| | |") for i, left in enumerate(cells[:half])]
    tables = {name: value for name, value in constants().items() if isinstance(value, tuple) and name[:6] != "NORMAL"}
    long = [
        f"| {name} | {', '.join(f'0x{_pattern(c)}' if isinstance(c, float) else f'{c:07X}' for c in value)} |"
        for name, value in tables.items()
    ]
    return {
        "polynomials": "\n".join(["| polynomial | coefficients, from the lowest power |", "|---|---|", *long]),
        "functions": "\n".join(["| function | formula |", "|---|---|", *rows]),
        "powers": "\n\n".join(_law_of(t) for t in trees.values() if t.name.startswith("power_")),
        "optimizer": "\n\n".join(_law_of(t) for t in trees.values() if t.name.startswith("sgd_")),
        "rules": re.sub(r"narrow\((\w+)\)", r"\1", "\n\n".join(_law_of(t) for t in definitions(rules).values())),
        "float64": "\n\n".join(
            _law_of(t) for t in trees.values() if t.name not in functions.FUNCTIONS and not t.name.startswith(others)
        ),
        "constants": "\n".join(["| constant | value | constant | value |", "|---|---|---|---|", *paired]).replace(
            "||", "|"
        ),
    }


def law_text(before: str) -> str:
    """``ARITHMETIC.md`` with those parts as they are now: each stands between two comments that name it."""
    for name, part in law().items():
        start, end = f"<!-- printed: {name} -->\n", "\n<!-- end -->"
        assert before.count(start) == 1, name
        head, _, rest = before.partition(start)
        before = head + start + "\n" + part + "\n" + end + rest.partition(end)[2]
    return before


def printed() -> dict[Path, str]:
    """Every file that is printed, and what it says."""
    return {
        ROOM / "printed.h": header(),
        ROOM / "printed_names.h": names(),
        ROOM.parent / "optimizer" / "printed.h": rules_header(),
        LAW: law_text(LAW.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    for path, text in printed().items():
        path.write_text(text, encoding="utf-8")
