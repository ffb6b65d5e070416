"""Rows of the operations without a gradient: comparisons, logic, places, counts, and tensors that are made of numbers.

Their results hold no rounding, or one, and are PyTorch's in value and dtype, for whole numbers and booleans too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import lucid
from support.operations import DTYPES, Given, Row

Function = Callable[..., Any]
WHOLE = (np.int64, np.int32)
LOGICAL = (*WHOLE, np.bool_)


def plain(
    name: str, operation: Function, ours: Function, theirs: Function, *given: Any, dtypes: Any = DTYPES, **options: Any
) -> Row:
    inputs = tuple(x if isinstance(x, Given) else Given(x, grad=False) for x in given)
    title = f"{operation.__name__}-{name}".replace(" ", "")
    return Row(title, operation, ours, theirs, inputs, smooth=False, dtypes=tuple(dtypes), **options)


def ties(*shape: Any) -> Given:
    return Given(shape, "ties", grad=False)


def special(*shape: Any) -> Given:
    return Given(shape, "special", grad=False)


def apart(*shape: Any) -> Given:
    return Given(shape, "apart", grad=False)


def alike(operation: Function, theirs: Function, name: str, *given: Any, **options: Any) -> Row:
    return plain(name, operation, operation, theirs, *given, **options)


def compared() -> list[Row]:
    rows: list[Row] = []
    for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        ours = getattr(lucid, name)
        theirs = torch.eq if name == "equal" else getattr(torch, name)
        number = [lambda x, f=ours: f(x, 1.0), lambda x, f=theirs: f(x, 1.0)]
        rows += [
            alike(
                ours,
                theirs,
                "ties",
                ties(3, 5),
                ties(
                    5,
                ),
                dtypes=(*DTYPES, *LOGICAL),
            ),
            alike(ours, theirs, "special", special(4, 9), special(4, 9)),
            alike(ours, theirs, "empty", (0, 3), (3,)),
            plain("number", ours, *number, ties(2, 7), dtypes=(*DTYPES, *WHOLE)),
        ]
    for name in ("and", "or", "xor"):
        ours, theirs = getattr(lucid, f"logical_{name}"), getattr(torch, f"logical_{name}")
        rows += [
            alike(ours, theirs, "ties", ties(3, 5), ties(3, 1), dtypes=(*DTYPES, *LOGICAL)),
            alike(
                ours,
                theirs,
                "special",
                special(4, 9),
                special(
                    9,
                ),
            ),
            alike(ours, theirs, "empty", (0,), ()),
        ]
    for name in ("and", "or", "xor"):
        ours, theirs = getattr(lucid, f"bitwise_{name}"), getattr(torch, f"bitwise_{name}")
        rows += [
            alike(ours, theirs, "ties", ties(3, 5), ties(3, 1), dtypes=LOGICAL),
            alike(ours, theirs, "empty", (0,), (1,), dtypes=LOGICAL),
        ]
    return rows


def asked() -> list[Row]:
    """Of each element, and of all along an axis."""
    rows = [
        alike(lucid.logical_not, torch.logical_not, "ties", ties(3, 5), dtypes=(*DTYPES, *LOGICAL)),
        alike(lucid.logical_not, torch.logical_not, "special", special(4, 9)),
        alike(lucid.bitwise_not, torch.bitwise_not, "ties", ties(3, 5), dtypes=LOGICAL),
    ]
    for name in ("isnan", "isinf", "isfinite"):
        ours, theirs = getattr(lucid, name), getattr(torch, name)
        rows += [
            alike(ours, theirs, "special", special(4, 9)),
            alike(ours, theirs, "empty", (2, 0)),
            alike(ours, theirs, "scalar", ()),
        ]
    for ours, theirs in ((lucid.all, torch.all), (lucid.any, torch.any)):
        for shape, axis in [((3, 4), None), ((3, 4), 0), ((2, 3, 4), (0, -1)), ((0, 3), 0), ((3, 0), 1), ((), None)]:
            name = f"{shape}-{axis}"
            if axis is None:
                rows.append(alike(ours, theirs, name, ties(*shape), dtypes=(*DTYPES, *LOGICAL)))
                continue
            mine = lambda x, f=ours, a=axis: f(x, a, True)  # noqa: E731
            its = lambda x, f=theirs, a=axis: f(x, dim=a, keepdim=True)  # noqa: E731
            rows.append(plain(name, ours, mine, its, ties(*shape), dtypes=(*DTYPES, *LOGICAL)))
        rows.append(alike(ours, theirs, "special", special(4, 9)))
    return rows


def placed() -> list[Row]:
    rows: list[Row] = []
    for ours, theirs in ((lucid.argmax, torch.argmax), (lucid.argmin, torch.argmin)):
        for shape, axis in [((3, 4), None), ((3, 4), 0), ((2, 3, 4), -2), ((0, 3), 1), ((), None)]:
            mine = lambda x, f=ours, a=axis: f(x, a)  # noqa: E731
            its = lambda x, f=theirs, a=axis: f(x, a)  # noqa: E731
            # PyTorch says of equal elements that any place may come back: here no two are equal.
            rows.append(plain(f"{shape}-{axis}", ours, mine, its, apart(*shape), dtypes=(*DTYPES, np.int64)))
        rows.append(plain("nan", ours, lambda x, f=ours: f(x, 1), lambda x, f=theirs: f(x, 1), special(3, 1)))
    for axis, descending in [(-1, False), (0, True)]:
        mine = lambda x, a=axis, d=descending: lucid.argsort(x, a, d)  # noqa: E731
        its = lambda x, a=axis, d=descending: torch.argsort(x, dim=a, descending=d, stable=True)  # noqa: E731
        rows += [
            plain(f"ties-{axis}", lucid.argsort, mine, its, ties(3, 7), dtypes=(*DTYPES, *LOGICAL)),
            plain(f"special-{axis}", lucid.argsort, mine, its, special(3, 9)),
            plain(f"empty-{axis}", lucid.argsort, mine, its, (0, 3)),
        ]
    for shape in [(3, 5), (2, 0), (4,), ()]:
        rows.append(
            alike(lucid.nonzero, torch.nonzero, str(shape), ties(*shape), dtypes=(*DTYPES, *LOGICAL)),
        )
    rows.append(alike(lucid.nonzero, torch.nonzero, "special", special(4, 9)))
    return rows


def counted() -> list[Row]:
    rows: list[Row] = []
    for part, word in enumerate(("values", "inverse", "counts")):
        for axis in (None, 1):
            mine = lambda x, a=axis, i=part: lucid.unique(x, return_inverse=True, return_counts=True, axis=a)[i]  # noqa: E731
            its = lambda x, a=axis, i=part: torch.unique(x, return_inverse=True, return_counts=True, dim=a)[i]  # noqa: E731
            name = f"{word}-{axis}"
            rows.append(plain(name, lucid.unique, mine, its, ties(2, 7), dtypes=(*DTYPES, *LOGICAL)))
    rows.append(alike(lucid.unique, torch.unique, "empty", (0,)))
    rows.append(alike(lucid.unique, torch.unique, "special", special(3, 6)))
    for part, word in enumerate(("counts", "edges")):
        for limits, density in [(None, False), ((-1.0, 1.5), True)]:
            options = {"range": limits, "density": density}
            mine = lambda x, o=options, i=part: lucid.histogram(x, 7, **o)[i]  # noqa: E731
            its = lambda x, o=options, i=part: torch.histogram(x, 7, **o)[i]  # noqa: E731
            # As many roundings as PyTorch, and other ones: the edges between are worked out in float64 here.
            rows.append(plain(f"{word}-{density}", lucid.histogram, mine, its, (40, 3), sums=True))
    for part, word in enumerate(("counts", "edges", "edges of the second")):
        mine = lambda a, b, i=part: lucid.histogram2d(a, b, (3, 4), density=True)[i]  # noqa: E731
        its = lambda a, b, i=part: of_points(a, b, (3, 4))[i]  # noqa: E731
        rows.append(plain(word, lucid.histogram2d, mine, its, (60,), (60,), sums=True))
    return rows


def of_points(a: torch.Tensor, b: torch.Tensor, bins: tuple[int, int]) -> list[torch.Tensor]:
    found = torch.histogramdd(torch.stack([a, b], 1), list(bins), density=True)
    return [found.hist, *found.bin_edges]


def made() -> list[Row]:
    """Tensors of numbers alone: no input, one dtype; ``empty`` says nothing of its values."""

    def make(name: str, operation: Function, ours: Function, theirs: Function) -> Row:
        return plain(name, operation, ours, theirs, dtypes=(np.float32,))

    def like(operation: Function, theirs: Function, *rest: Any) -> list[Row]:
        mine, its = (lambda x, f=f: f(x, *rest) for f in (operation, theirs))
        one = plain("shape", operation, mine, its, (2, 0, 3), dtypes=(*DTYPES, *LOGICAL))
        mine, its = (
            lambda x, f=f, t=t: f(x, *rest, dtype=t) for f, t in ((operation, lucid.int32), (theirs, torch.int32))
        )
        return [one, plain("dtype", operation, mine, its, (4,))]

    rows = []
    for name in ("zeros", "ones"):
        ours, theirs = getattr(lucid, name), getattr(torch, name)
        for shape in [(2, 3), (0, 4), (), (5,)]:
            rows.append(make(str(shape), ours, lambda f=ours, s=shape: f(s), lambda f=theirs, s=shape: f(s)))
        rows.append(
            make("int64", ours, lambda f=ours: f(2, 3, dtype="int64"), lambda f=theirs: f(2, 3, dtype=torch.int64))
        )
        rows += like(getattr(lucid, f"{name}_like"), getattr(torch, f"{name}_like"))
    rows += like(lucid.full_like, torch.full_like, 3)
    rows += [
        make("shape", lucid.empty, lambda: lucid.zeros_like(lucid.empty(2, 3)), lambda: torch.zeros(2, 3)),
        plain(
            "shape",
            lucid.empty_like,
            lambda x: lucid.zeros_like(lucid.empty_like(x)),
            torch.zeros_like,
            (2, 3),
            dtypes=(*DTYPES, *LOGICAL),
        ),
    ]
    for value in (2, 2.5, True, float("nan"), float("-inf"), -0.0):
        ours = lambda v=value: lucid.full((2, 3), v)  # noqa: E731
        theirs = lambda v=value: torch.full((2, 3), v)  # noqa: E731
        rows.append(make(str(value), lucid.full, ours, theirs))
    for size in [(3,), (2, 4), (4, 2), (0, 3)]:
        rows.append(make(str(size), lucid.eye, lambda s=size: lucid.eye(*s), lambda s=size: torch.eye(*s)))
    for of in [(5,), (2, 7), (7, 2, -2), (0,), (0.5, 2.0, 0.25), (1, 0), (-3, 3, 2)]:
        if of == (1, 0):  # PyTorch refuses a step that leads away
            rows.append(
                make(str(of), lucid.arange, lambda: lucid.arange(1, 0), lambda: torch.zeros(0, dtype=torch.int64))
            )
            continue
        rows.append(make(str(of), lucid.arange, lambda a=of: lucid.arange(*a), lambda a=of: torch.arange(*a)))
    for start, stop, steps in [(0.0, 1.0, 5), (-2, 3, 11), (1.0, 1.0, 3), (4, 0, 1), (0, 1, 0)]:
        of = start, stop, steps
        # sums: PyTorch's steps from the nearer end leave a rounding of the ends' size near 0.
        ours, theirs = (lambda a=of, f=f: f(*a) for f in (lucid.linspace, torch.linspace))
        rows.append(plain(str(of), lucid.linspace, ours, theirs, dtypes=(np.float32,), sums=True))
    return rows


ROWS = [*compared(), *asked(), *placed(), *counted(), *made()]
