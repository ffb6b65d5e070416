"""Scalar functions: what is printed from their expressions, and how an expression is refused.

What they compute is judged by code that shares nothing with them: test_law.py, test_accuracy.py, test_ops.py.
"""

from __future__ import annotations

import ast

import pytest

from lucid.kernels.elementwise import printer


def test_what_is_printed_is_in_the_tree():
    for path, text in printer.printed().items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name} is not what its source says: python -m lucid.kernels.elementwise.printer"
        )


def cpp(body: str) -> str:
    (tree,) = ast.parse(f"def f(x: Value, n: int) -> Value:\n    {body}").body
    return printer._Cpp(tree).text().splitlines()[2].strip()


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        ("return x - (x - x)", "return x - (x - x);"),
        ("return x - x - x", "return (x - x) - x;"),
        ("return x * x + x / x", "return (x * x) + (x / x);"),
        ("return -x * x", "return -x * x;"),
        ("return -(x * x)", "return -(x * x);"),
        ("return 2.0 * x", "return number<V>(2.0) * x;"),
        (
            "return select(x < P1, INF, -1.0)",
            "return (x < P1) ? number<V>(from_bits(0x7FF0000000000000)) : number<V>(-1.0);",
        ),
        ("return 1.0 + select(x < x, x, x)", "return number<V>(1.0) + ((x < x) ? x : x);"),
        ("y = narrow(exp64(wide(x)), x)", "const auto y = narrow<V>(exp64(wide(x)));"),
        ("return horner(NORMAL_B, x)", None),
    ],
)
def test_an_expression_as_cpp(python, expected):
    """Parentheses stand wherever an operation is an operand, so the order is the text's."""
    if expected is not None:
        assert cpp(python) == expected
    else:
        assert cpp(python).startswith("return (((((((number<V>(5226.495278852854) * x + 28729.085735721943) * x + ")


@pytest.mark.parametrize(
    "body",
    [
        "return horner(NORMAL_B, x + x)",
        "return x ** 2",
        "return 0.0 < x < 1.0",
        "x, y = x, x",
        "return ~n",
        "x += x",
        "return x[0]",
    ],
)
def test_what_cannot_be_printed(body):
    with pytest.raises((SyntaxError, KeyError)):
        cpp(body)
