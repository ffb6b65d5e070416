"""Rows of what arranges elements anew, takes, puts or orders them by place and value, and contracts by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import lucid
from lucid import einops
from support.operations import Given, Row
from support.tables.shapes import both, row

Function = Callable[..., Any]


def fixed(values: Any) -> Given:
    return Given(fixed=np.asarray(values), grad=False)


def cells(rng_seed: int, shape: tuple[int, ...], below: int) -> Given:
    """Places below ``below``, some of them twice."""
    return fixed(np.random.default_rng(rng_seed).integers(0, below, shape))


def diagonals() -> list[Row]:
    rows = [
        row(
            f"{shape}-{offset}-{a}{b}".replace(" ", ""),
            lucid.diagonal,
            lambda x, o=offset, a=a, b=b: lucid.diagonal(x, o, a, b),
            lambda x, o=offset, a=a, b=b: torch.diagonal(x, o, a, b),
            shape,
        )
        for shape, offset, a, b in [
            ((3, 3), 0, 0, 1),
            ((3, 5), 2, 0, 1),
            ((3, 5), -1, 1, 0),
            ((2, 3, 4), 1, 0, 2),
            ((2, 3, 4), -2, -1, 0),
            ((2, 0), 0, 0, 1),
            ((2, 3), 7, 0, 1),
        ]
    ]
    for shape, k in [((3,), 0), ((3,), 2), ((2,), -1), ((0,), 0), ((1,), 1), ((3, 4), 1)]:
        name = f"{shape}-{k}".replace(" ", "")
        rows.append(row(name, lucid.diag, lambda x, k=k: lucid.diag(x, k), lambda x, k=k: torch.diag(x, k), shape))
    rows.append(row("square", lucid.trace, lucid.trace, torch.trace, (4, 4)))
    batch = lambda x: x.diagonal(1, 0, 2).sum(-1)  # noqa: E731
    rows.append(row("batch", lucid.trace, lambda x: lucid.trace(x, 1, 0, 2), batch, (3, 2, 4)))
    for ours, theirs in [(lucid.tril, torch.tril), (lucid.triu, torch.triu)]:
        for shape, k in [((3, 3), 0), ((2, 3, 5), 1), ((4, 2), -1), ((0, 3), 0), ((2, 2), 5)]:
            name = f"{shape}-{k}".replace(" ", "")
            rows.append(row(name, ours, lambda x, f=ours, k=k: f(x, k), lambda x, f=theirs, k=k: f(x, k), shape))
        rows.append(row("special", ours, ours, theirs, Given((4, 4), "special"), smooth=False))
    return rows


def repeated() -> list[Row]:
    cases: list[tuple[tuple[int, ...], Any, Any]] = [
        ((3,), 2, 0),
        ((2, 3), 3, 1),
        ((2, 3), 2, None),
        ((2, 3), [1, 0, 2], -1),
        ((2, 0), 2, 0),
        ((2, 3), 0, 0),
        ((), 3, None),
    ]
    rows = [
        row(
            f"{shape}-{count}-{axis}".replace(" ", ""),
            lucid.repeat,
            lambda x, c=count, a=axis: lucid.repeat(x, c, a),
            lambda x, c=count, a=axis: torch.repeat_interleave(x, torch.tensor(c) if isinstance(c, list) else c, a),
            shape,
        )
        for shape, count, axis in cases
    ]
    tiles = [
        ((3,), (2,)),
        ((2, 3), (2, 1)),
        ((2, 3), (3,)),
        ((3,), (2, 2)),
        ((), (2,)),
        ((2, 1), (0, 2)),
        ((2, 2), (1, 1)),
    ]
    rows += [
        row(
            f"{shape}-{reps}".replace(" ", ""),
            lucid.tile,
            lambda x, r=reps: lucid.tile(x, r),
            lambda x, r=reps: torch.tile(x, r),
            shape,
        )
        for shape, reps in tiles
    ]
    rows.append(both("method", lucid.tile, lambda x: x.repeat(2, 1, 3), (2, 3)))
    return rows


def stacked() -> list[Row]:
    two = lambda f: lambda a, b: f([a, b])  # noqa: E731
    rows = [
        row(name, ours, two(ours), two(theirs), *shapes)
        for ours, theirs in [(lucid.hstack, torch.hstack), (lucid.vstack, torch.vstack)]
        for name, shapes in [
            ("vectors", ((3,), (3,))),
            ("matrices", ((2, 2), (2, 2))),
            ("numbers", ((), ())),
            ("volumes", ((2, 3, 1), (2, 3, 1))),
        ]
    ]
    rows += [
        row("first", lucid.unbind, lambda x: lucid.unbind(x)[1] * 3, lambda x: x.unbind()[1] * 3, (3, 2)),
        row("last", lucid.unbind, lambda x: lucid.unbind(x, -1)[0], lambda x: x.unbind(-1)[0], (3, 2)),
        row("one", lucid.flip, lambda x: lucid.flip(x, 1), lambda x: x.flip(1), (2, 3)),
        row("two", lucid.flip, lambda x: lucid.flip(x, (0, -1)), lambda x: x.flip(0, -1), (2, 3, 2)),
    ]
    rolls: list[tuple[tuple[int, ...], Any, Any]] = [
        ((5,), 2, None),
        ((2, 3), 1, None),
        ((2, 3), -4, 1),
        ((2, 3, 4), (1, -1), (0, 2)),
        ((0, 3), 1, 0),
        ((3,), 3, 0),
    ]
    rows += [
        row(
            f"{shape}-{shift}-{axis}".replace(" ", ""),
            lucid.roll,
            lambda x, s=shift, a=axis: lucid.roll(x, s, a),
            lambda x, s=shift, a=axis: torch.roll(x, s, a),
            shape,
        )
        for shape, shift, axis in rolls
    ]

    def grid(library: Any, how: str) -> Function:
        def used(*vectors: Any) -> Any:
            made = library.meshgrid(*vectors, indexing=how)
            return made[0] * 2 + made[-1] * made[1]

        return used

    rows += [row(how, lucid.meshgrid, grid(lucid, how), grid(torch, how), (2,), (3,), (4,)) for how in ("ij", "xy")]
    return rows


def taken() -> list[Row]:
    rows = []
    for shape, axis, index in [
        ((4, 5), 1, (4, 3)),
        ((4, 5), 0, (7, 5)),
        ((4, 5), 0, (2, 3)),
        ((2, 3, 4), -2, (2, 6, 4)),
        ((6,), 0, (9,)),
        ((3, 2), 1, (0, 2)),
    ]:
        places = cells(len(rows), index, shape[axis])
        ours = lambda x, i, a=axis: lucid.gather(x, a, i)  # noqa: E731
        theirs = lambda x, i, a=axis: torch.gather(x, a, i)  # noqa: E731
        rows.append(row(f"{shape}-{axis}-{index}".replace(" ", ""), lucid.gather, ours, theirs, shape, places))
    for shape, axis, index in [((4, 5), 0, [3, 0, 0, 1]), ((4, 5), -1, [4]), ((2, 3, 4), 1, []), ((5,), 0, [1, 1, 1])]:
        ours = lambda x, i, a=axis: lucid.index_select(x, a, i)  # noqa: E731
        theirs = lambda x, i, a=axis: torch.index_select(x, a, i)  # noqa: E731
        given = shape, fixed(np.array(index, np.int64))
        rows.append(row(f"{shape}-{axis}-{len(index)}".replace(" ", ""), lucid.index_select, ours, theirs, *given))
    rows += [
        row("matrix", lucid.take, lucid.take, torch.take, (3, 4), fixed([[0, 11], [5, 5]])),
        row(
            "mask",
            lucid.masked_select,
            lucid.masked_select,
            torch.masked_select,
            (3, 4),
            fixed(np.arange(12).reshape(3, 4) % 3 == 0),
        ),
        row(
            "row",
            lucid.masked_select,
            lucid.masked_select,
            torch.masked_select,
            (3, 4),
            fixed([True, False, True, True]),
        ),
        row("none", lucid.masked_select, lucid.masked_select, torch.masked_select, (3,), fixed([False] * 3)),
    ]
    for shape, index, axis in [((3, 4), (3, 2), 1), ((3, 4), (1, 6), -1), ((3, 1), (2, 5), 0), ((2, 3), (4,), None)]:
        places = cells(7, index, 2)
        name = f"{shape}-{index}-{axis}".replace(" ", "")
        ours = lambda x, i, a=axis: lucid.take_along_axis(x, i, a)  # noqa: E731
        theirs = lambda x, i, a=axis: torch.take_along_dim(x, i, a)  # noqa: E731
        rows.append(row(name, lucid.take_along_axis, ours, theirs, shape, places))
    return rows


def put() -> list[Row]:
    rows = []
    for shape, axis, index in [((4, 5), 1, (4, 3)), ((4, 5), 0, (2, 3)), ((2, 7, 3), 1, (2, 5, 3)), ((9,), 0, (4,))]:
        places = fixed(
            np.argsort(np.random.default_rng(3).random((*index[:axis], shape[axis], *index[axis + 1 :])), axis)[
                tuple(slice(n) for n in index)
            ]
        )
        name = f"{shape}-{axis}-{index}".replace(" ", "")
        ours = lambda x, v, i, a=axis: lucid.scatter(x, a, i, v)  # noqa: E731
        theirs = lambda x, v, i, a=axis: torch.scatter(x, a, i, v)  # noqa: E731
        rows.append(row(name, lucid.scatter, ours, theirs, shape, index, places))
        ours = lambda x, v, i, a=axis: lucid.put_along_axis(x, i, v, a)  # noqa: E731
        rows.append(row(name, lucid.put_along_axis, ours, theirs, shape, index, places))
        ours = lambda x, v, i, a=axis: lucid.scatter_add(x, a, i, v)  # noqa: E731
        theirs = lambda x, v, i, a=axis: torch.scatter_add(x, a, i, v)  # noqa: E731
        rows.append(row(name, lucid.scatter_add, ours, theirs, shape, index, cells(5, index, shape[axis])))
    number = (3, 4), fixed([[1, 0], [3, 3]])
    ours, theirs = lambda x, i: lucid.scatter(x, 1, i, 2.5), lambda x, i: torch.scatter(x, 1, i, 2.5)
    rows.append(row("number", lucid.scatter, ours, theirs, *number))
    ours, theirs = lambda x, i, v: lucid.scatter(x, 1, i, v), lambda x, i, v: torch.scatter(x, 1, i, v[:2, :2])
    rows.append(row("larger-source", lucid.scatter, ours, theirs, (3, 4), fixed([[1, 0], [3, 2]]), (3, 3)))
    for shape, axis, index, alpha in [((4, 5), 0, [3, 0, 0], 1), ((4, 5), 1, [1, 1], -0.5), ((6,), 0, [5] * 9, 1)]:
        source = (*shape[:axis], len(index), *shape[axis + 1 :])
        ours = lambda x, v, i, a=axis, f=alpha: lucid.index_add(x, a, i, v, alpha=f)  # noqa: E731
        theirs = lambda x, v, i, a=axis, f=alpha: torch.index_add(x, a, i, v, alpha=f)  # noqa: E731
        name = f"{shape}-{axis}-{alpha}".replace(" ", "")
        rows.append(row(name, lucid.index_add, ours, theirs, shape, source, fixed(index)))
    return rows


def ordered() -> list[Row]:
    rows = []
    for shape, axis in [((7,), 0), ((3, 30), 1), ((5, 3), 0), ((2, 40, 3), -2), ((0, 3), 0), ((3, 0), 1)]:
        for down in (False, True):
            ours = lambda x, a=axis, d=down: lucid.sort(x, a, d)[0]  # noqa: E731
            theirs = lambda x, a=axis, d=down: torch.sort(x, dim=a, descending=d, stable=True)[0]  # noqa: E731
            name = f"{shape}-{axis}-{down}".replace(" ", "")
            rows.append(row(name, lucid.sort, ours, theirs, Given(shape, "apart")))
    rows.append(row("number", lucid.sort, lambda x: lucid.sort(x)[0], lambda x: torch.sort(x)[0], ()))
    for kind in ("ties", "special"):
        for down in (False, True):
            ours = lambda x, d=down: lucid.sort(x, 1, d)[0]  # noqa: E731
            theirs = lambda x, d=down: torch.sort(x, dim=1, descending=d, stable=True)[0]  # noqa: E731
            rows.append(row(f"{kind}-{down}", lucid.sort, ours, theirs, Given((4, 60), kind), smooth=False))
    for shape, k, axis, largest in [
        ((40,), 3, 0, True),
        ((3, 50), 5, 1, False),
        ((5, 3), 5, 0, True),
        ((2, 3), 0, 1, True),
    ]:
        ours = lambda x, k=k, a=axis, w=largest: lucid.topk(x, k, a, w)[0]  # noqa: E731
        theirs = lambda x, k=k, a=axis, w=largest: torch.topk(x, k, a, w)[0]  # noqa: E731
        rows.append(row(f"{shape}-{k}-{axis}".replace(" ", ""), lucid.topk, ours, theirs, Given(shape, "apart")))
    return rows


def multiplied() -> list[Row]:
    return [
        row(
            f"{shape}-{axis}-{kind}".replace(" ", ""),
            lucid.cumprod,
            lambda x, a=axis: lucid.cumprod(x, a),
            lambda x, a=axis: torch.cumprod(x, a),
            Given(shape, kind),
            smooth=kind != "special",
        )
        for shape, axis, kind in [
            ((6,), 0, "normal"),
            ((3, 5), 1, "normal"),
            ((5, 3), 0, "normal"),
            ((2, 4, 20), -2, "normal"),
            ((0, 2), 0, "normal"),
            ((4, 9), 1, "ties"),
        ]
    ]


def contracted() -> list[Row]:
    cases: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
        ("ij,jk->ik", ((3, 4), (4, 5))),
        ("ij,jk", ((3, 4), (4, 5))),
        ("bij,bjk->bki", ((2, 3, 4), (2, 4, 5))),
        ("bhid,bhjd->bhij", ((2, 2, 3, 4), (2, 2, 5, 4))),
        ("i,j->ij", ((3,), (4,))),
        ("i,i->", ((3,), (3,))),
        ("ii->i", ((3, 3),)),
        ("ii", ((3, 3),)),
        ("iij,jk->ik", ((3, 3, 4), (4, 2))),
        ("ij->ji", ((3, 4),)),
        ("ijk->j", ((2, 3, 4),)),
        ("ij,ij->ij", ((3, 4), (3, 4))),
        ("ijk,k->ij", ((2, 3, 4), (4,))),
        ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 5))),
        ("ij,jk,ki->", ((2, 3), (3, 4), (4, 2))),
        ("a,ab,abc->abc", ((2,), (2, 3), (2, 3, 4))),
        ("ij,kl->", ((2, 3), (4, 2))),
        ("...ij,...jk->...ik", ((2, 3, 4), (4, 5))),
        ("...ij,...jk", ((5, 1, 3, 4), (2, 4, 2))),
        ("...,...", ((2, 3), (3,))),
        ("bi...,i->b...", ((2, 3, 4), (3,))),
        ("ij,jk->ik", ((3, 0), (0, 2))),
        ("", ((),)),
    ]
    rows = [
        row(
            f"{text}-{number}".replace(" ", ""),
            lucid.einsum,
            lambda *x, t=text: lucid.einsum(t, *x),
            lambda *x, t=text: torch.einsum(t, *x),
            *shapes,
        )
        for number, (text, shapes) in enumerate(cases)
    ]
    dots: list[tuple[tuple[int, ...], tuple[int, ...], Any]] = [
        ((2, 3, 4), (3, 4, 5), 2),
        ((2, 3), (3, 4), 1),
        ((2, 3), (4,), 0),
        ((2, 3, 4), (4, 5, 2), ([0, 2], [2, 0])),
        ((2, 3), (2, 3), ((-1,), (-1,))),
        ((3, 4), (3, 4), 0),
    ]
    rows += [
        row(
            f"{a}-{b}-{axes}".replace(" ", ""),
            lucid.tensordot,
            lambda x, y, d=axes: lucid.tensordot(x, y, d),
            lambda x, y, d=axes: torch.tensordot(x, y, d),
            a,
            b,
        )
        for a, b, axes in dots
    ]
    rows += [
        row(f"{a}-{b}".replace(" ", ""), lucid.inner, lucid.inner, torch.inner, a, b)
        for a, b in [((3,), (3,)), ((2, 3), (4, 3)), ((2, 3), (3,)), ((2, 2, 3), (2, 3)), ((), (3,))]
    ]
    rows += [
        row(f"{a}-{b}".replace(" ", ""), lucid.outer, lucid.outer, torch.outer, a, b)
        for a, b in [((3,), (2,)), ((0,), (2,))]
    ]
    return rows


def by_pattern() -> list[Row]:
    """Beside the same in PyTorch's operations; ``tests/lucid/test_patterns.py`` compares with the einops package."""
    return [
        row(
            "patches",
            einops.rearrange,
            lambda x: einops.rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=2, q=3),
            lambda x: x.reshape(2, 3, 2, 2, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(2, 4, 18),
            (2, 3, 4, 6),
        ),
        row(
            "pooled",
            einops.reduce,
            lambda x: einops.reduce(x, "... (h 2) w -> w ... h", "mean"),
            lambda x: x.reshape(3, 2, 2, 5).mean(2).permute(2, 0, 1),
            (3, 4, 5),
        ),
        row(
            "product",
            einops.reduce,
            lambda x: einops.reduce(x, "a b -> b", "prod"),
            lambda x: x.prod(0),
            (3, 4),
        ),
        row(
            "copies",
            einops.repeat,
            lambda x: einops.repeat(x, "h w -> (w 2) h c", c=3),
            lambda x: x.T[:, None, :, None].expand(3, 2, 2, 3).reshape(6, 2, 3),
            (2, 3),
        ),
        row(
            "by-words",
            einops.einsum,
            lambda x, y: einops.einsum(x, y, "batch row k, column k -> batch column row"),
            lambda x, y: torch.einsum("bik,jk->bji", x, y),
            (2, 3, 4),
            (5, 4),
        ),
    ]


ROWS = [
    *diagonals(),
    *repeated(),
    *stacked(),
    *taken(),
    *put(),
    *ordered(),
    *multiplied(),
    *contracted(),
    *by_pattern(),
]
