"""Patterns that name axes: beside the einops package, where it is installed, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.einops import einsum, rearrange, reduce, repeat

CASES: list[tuple[str, tuple[int, ...], str, tuple[Any, ...], dict[str, int]]] = [
    ("rearrange", (2, 3, 4), "a b c -> c a b", (), {}),
    ("rearrange", (2, 3, 4), "a b c -> (c a) b", (), {}),
    ("rearrange", (2, 12), "a (b c) -> a c b", (), {"b": 3}),
    ("rearrange", (2, 3, 4, 6), "b c (h p1) (w p2) -> b (h w) (p1 p2 c)", (), {"p1": 2, "p2": 3}),
    ("rearrange", (2, 3, 4, 5), "a ... b -> b ... a", (), {}),
    ("rearrange", (2, 3, 4, 5), "a ... b -> (a ...) b", (), {}),
    ("rearrange", (2, 3), "a b -> a 1 b ()", (), {}),
    ("rearrange", (2, 1, 3), "a 1 b -> (a b)", (), {}),
    ("rearrange", (2, 3), "... -> ...", (), {}),
    ("rearrange", (), "-> 1", (), {}),
    ("rearrange", (0, 4), "a (b c) -> (a b) c", (), {"c": 2}),
    ("rearrange", (6,), "(a b_2 c)->c b_2 a", (), {"a": 1, "c": 3}),
    ("reduce", (2, 3, 4), "a b c -> b", ("sum",), {}),
    ("reduce", (2, 3, 4), "a b c -> c a", ("max",), {}),
    ("reduce", (2, 3, 4), "a b c ->", ("mean",), {}),
    ("reduce", (2, 4, 6), "c (h h2) (w w2) -> h w c", ("min",), {"h2": 2, "w2": 3}),
    ("reduce", (2, 4, 6), "c (h 2) (w 3) -> c h w", ("max",), {}),
    ("reduce", (2, 4, 6), "a ... -> ...", ("prod",), {}),
    ("reduce", (2, 3, 4), "a b c -> a 1 c", ("sum",), {}),
    ("reduce", (2, 3, 4), "a b c -> a b c", ("mean",), {}),
    ("repeat", (2, 3), "a b -> a b c", (), {"c": 4}),
    ("repeat", (2, 3), "a b -> (a 2) b", (), {}),
    ("repeat", (2, 3), "a b -> (r a) (b s)", (), {"r": 2, "s": 3}),
    ("repeat", (2, 3), "... -> 3 ...", (), {}),
    ("repeat", (), "-> n", (), {"n": 3}),
    ("repeat", (2, 3), "a b -> b a", (), {}),
]
OURS = {"rearrange": rearrange, "reduce": reduce, "repeat": repeat}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}: {case[2]}")
def test_is_einops(case: tuple[str, tuple[int, ...], str, tuple[Any, ...], dict[str, int]]) -> None:
    theirs = pytest.importorskip("einops")
    name, shape, pattern, rest, lengths = case
    x = np.random.default_rng(0).integers(-4, 5, shape).astype(np.float64)  # whole numbers: sums are exact
    expected = getattr(theirs, name)(x, pattern, *rest, **lengths)
    np.testing.assert_allclose(OURS[name](lucid.tensor(x), pattern, *rest, **lengths).numpy(), expected, rtol=1e-15)


@pytest.mark.parametrize(
    "pattern",
    ["b i k, b j k -> b i j", "row col, col -> row", "batch ..., batch -> ...", "a, b, c -> c a b", "i j -> j"],
)
def test_is_the_einsum_of_einops(pattern: str) -> None:
    theirs = pytest.importorskip("einops")
    rng = np.random.default_rng(0)
    sizes = {name: 2 + i for i, name in enumerate(sorted(set(pattern.replace(",", " ").replace("->", " ").split())))}
    shapes = [
        [n for name in part.split() for n in ((2, 3) if name == "..." else (sizes[name],))]
        for part in pattern.split("->")[0].split(",")
    ]
    arrays = [rng.integers(-4, 5, shape).astype(np.float64) for shape in shapes]
    expected = theirs.einsum(*arrays, pattern)
    np.testing.assert_array_equal(einsum(*map(lucid.tensor, arrays), pattern).numpy(), expected)


def test_other_forms() -> None:
    a, b = lucid.tensor([1.0, 2.0]), lucid.tensor([3.0, 4.0])
    assert rearrange([a, b], "two n -> n two").tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert einsum("i,i->", a, b).item() == 11.0
    assert reduce(a, "n -> 1", lambda x, axes: lucid.sum(x, axes) * 2).tolist() == [6.0]
    assert reduce(a > 1, "n ->", "any").item() is True


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no arrow": (lambda: rearrange(lucid.ones(2), "a"), "must have one '->'"),
    "sign": (lambda: rearrange(lucid.ones(2), "a -> a!"), "where '!' cannot stand"),
    "brackets": (lambda: rearrange(lucid.ones(2), "(a -> a"), r"a '\)' is missing"),
    "nested": (lambda: rearrange(lucid.ones(2), "((a)) -> a"), r"where '\(' cannot stand"),
    "twice": (lambda: rearrange(lucid.ones(2, 2), "a a -> a"), "may name 'a' once"),
    "axes": (lambda: rearrange(lucid.ones(2), "a b -> a b"), "another number of axes"),
    "two unknown": (lambda: rearrange(lucid.ones(4), "(a b) -> a b"), "give the length of 'a' or of 'b'"),
    "does not divide": (lambda: rearrange(lucid.ones(4), "(a b) -> a b", b=3), "length 4 cannot be"),
    "another length": (lambda: rearrange(lucid.ones(4), "a -> a", a=3), "length 4 cannot be"),
    "one side": (lambda: rearrange(lucid.ones(4), "a ->"), "'a' stands on one side alone"),
    "not named": (lambda: rearrange(lucid.ones(4), "a -> a", z=3), "a length for 'z'"),
    "new axis": (lambda: reduce(lucid.ones(4), "a -> b", b=2), "'b' stands on the right alone"),
    "lost axis": (lambda: repeat(lucid.ones(4), "a -> b", b=2), "'a' stands on the left alone"),
    "no length": (lambda: repeat(lucid.ones(4), "a -> a b"), "give the length of 'b'"),
    "reduction": (lambda: reduce(lucid.ones(4), "a ->", "median"), "may be sum, mean"),
    "dots": (lambda: rearrange(lucid.ones(4), "a -> a ..."), "stands on the right alone"),
    "dots joined": (lambda: rearrange(lucid.ones(4), "(... a) -> ... a"), "on the right alone"),
    "einsum": (lambda: einsum(lucid.ones(4), lucid.ones(4)), "must be text"),
    "layer": (lambda: nn.Rearrange("a"), "must have one '->'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read(name: str) -> None:
    action, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        action()
