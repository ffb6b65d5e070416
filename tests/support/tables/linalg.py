"""Rows of linear algebra. What has a sign of its own (a column of ``Q``, an eigenvector) is made free of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch

import lucid
from lucid import linalg
from support.operations import Given, Row
from support.tables.elementwise import shape_name

Function = Callable[..., Any]
SQUARE: list[tuple[int, ...]] = [(1, 1), (3, 3), (2, 4, 4), (0, 3, 3), (2, 0, 0), (2, 1, 5, 5)]
RECTANGLES: list[tuple[int, ...]] = [(4, 4), (5, 3), (3, 5), (2, 6, 2), (1, 3), (4, 1), (0, 3, 2), (2, 3, 0)]


def turned(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def library_of(x: Any) -> Any:
    return torch if isinstance(x, torch.Tensor) else lucid


def eye(x: Any) -> Any:
    return library_of(x).eye(x.shape[-1], dtype=x.dtype)


def dominant(x: Any) -> Any:
    """Far from singular, with rows that have to be exchanged."""
    n = x.shape[-1]
    return x + (eye(x) * (2.0 * n))[list(reversed(range(n)))]


def positive(x: Any) -> Any:
    return x @ turned(x) + eye(x) * float(x.shape[-1])


def symmetric(x: Any) -> Any:
    """With eigenvalues that are apart."""
    steps = library_of(x).arange(x.shape[-1], dtype=x.dtype) * 3.0 + 1.0
    return (x + turned(x)) * 0.25 + steps * eye(x)


def real(x: Any) -> Any:
    """Similar to a diagonal matrix of numbers that are apart."""
    n = x.shape[-1]
    v = dominant(x) * (0.5 / max(n, 1))
    return v @ ((library_of(x).arange(n, dtype=x.dtype) + 1.0) * eye(x)) @ library_of(x).linalg.inv(v)


def ramped(x: Any) -> Any:
    """With singular values that are apart, and of full rank."""
    library = library_of(x)
    rows, columns = x.shape[-2:]
    n = max(rows, columns)
    steps = (library.arange(n, dtype=x.dtype) * 2.0 + 1.0) * library.eye(n, dtype=x.dtype)
    return x * 0.25 + steps[:rows, :columns]


def both(name: str) -> tuple[Function, Function]:
    return getattr(linalg, name), getattr(torch.linalg, name)


def row(name: str, label: str, prepare: Function, after: Function, *given: Given, **options: Any) -> Row:
    """``after`` gets the library's function, and the inputs, the first of them prepared."""
    ours, theirs = both(name)
    return Row(
        f"{name}-{label}",
        ours,
        lambda x, *others: after(ours, prepare(x), *others),
        lambda x, *others: after(theirs, prepare(x), *others),
        given,
        sums=True,
        **options,
    )


def call(function: Function, *operands: Any) -> Any:
    return function(*operands)


def as_it_is(x: Any) -> Any:
    return x


def both_parts(function: Function, x: Any) -> Any:
    """Sign and logarithm, as one number each."""
    sign, log = function(x)
    return sign * 3.0 + log


def projections(function: Function, x: Any) -> Any:
    """``V diag(1, 2, ..) V^T``, in which signs are gone."""
    w, v = function(x)
    steps = library_of(x).arange(w.shape[-1], dtype=x.dtype) + 1.0
    return (v * steps) @ turned(v) + w[..., None, :]


def sorted_projections(function: Function, x: Any) -> Any:
    """The same of real eigenvalues in any order: ``V diag(sqrt(w)) V^-1``."""
    w, v = function(x)
    library = library_of(x)
    if library is torch:
        w, v = w.real, v.real
    return (v * library.sqrt(w)[..., None, :]) @ library.linalg.inv(v)


def qr_free(function: Function, x: Any, mode: str = "reduced") -> Any:
    """``|Q|`` over ``|R|`` squared: without signs."""
    q, r = function(x, mode)
    library = library_of(x)
    return library.cat([turned(q * q), r * r], -1)


def svd_free(function: Function, x: Any) -> Any:
    u, s, vh = function(x, full_matrices=False)
    steps = library_of(x).arange(s.shape[-1], dtype=x.dtype) + 1.0
    return (u * (s + steps)[..., None, :]) @ vh


def factors() -> list[Row]:
    rows = []
    for shape in SQUARE:
        name, given = shape_name(shape), Given(shape)
        for function in ("inv", "det"):
            rows.append(row(function, name, dominant, call, given))
        rows.append(row("slogdet", name, dominant, both_parts, given))
        rows.append(row("cholesky", name, positive, call, given))
        rows.append(row("eigh", name, symmetric, projections, given))
        rows.append(row("eigvalsh", name, symmetric, call, given))
        rows.append(row("eig", name, real, sorted_projections, given))
        rows.append(row("eigvals", name, symmetric, sum_of_squares, given))
    return rows


def sum_of_squares(function: Function, x: Any) -> Any:
    """Of eigenvalues, whatever their order."""
    w = function(x)
    w = w.real if isinstance(w, torch.Tensor) else w
    return (w * w).sum(-1)


SOLVED: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 3), (3,)),
    ((3, 3), (3, 2)),
    ((2, 4, 4), (2, 4)),
    ((2, 1, 4, 4), (3, 4, 2)),
    ((4, 4), (2, 4, 1)),
    ((0, 3, 3), (0, 3, 2)),
    ((2, 0, 0), (2, 0, 3)),
    ((40, 40), (40, 3)),
]


def systems() -> list[Row]:
    rows = []
    for a, b in SOLVED:
        name = f"{shape_name(a)}-{shape_name(b)}"
        rows.append(row("solve", name, dominant, call, Given(a), Given(b)))
        if len(b) < 2 or (len(b) == 2 and len(a) == 3):
            continue
        for upper in (False, True):
            for unit in (False, True):
                more = {"upper": upper, "unitriangular": unit}
                rows.append(
                    row(
                        "solve_triangular",
                        f"{name}-{'upper' if upper else 'lower'}{'-unit' * unit}",
                        functools.partial(_for_triangle, unit),
                        lambda function, x, y, more=more: function(x, y, **more),
                        Given(a),
                        Given(b),
                    )
                )
    return rows


def _for_triangle(unit: bool, x: Any) -> Any:
    n = max(x.shape[-1], 1)
    return x * (0.5 / n) if unit else x * (0.5 / n) + eye(x)


def rectangles() -> list[Row]:
    rows = []
    for shape in RECTANGLES:
        name, given = shape_name(shape), Given(shape)
        tall = shape[-2] > shape[-1]
        rows.append(row("qr", name, ramped, qr_free, given))
        if not tall:
            rows.append(row("qr", f"{name}-complete", ramped, lambda f, x: qr_free(f, x, "complete"), given))
        rows.append(row("svd", name, ramped, svd_free, given))
        rows.append(row("svdvals", name, ramped, call, given))
        rows.append(row("pinv", name, ramped, call, given))
    return rows


def norms() -> list[Row]:
    rows = []
    for shape, axis in [((7,), None), ((3, 5), 0), ((2, 3, 4), (0, 2)), ((), None), ((2, 3), None), ((0, 3), 0)]:
        for order in (2, 1, 3, 0.5, math.inf, -math.inf, 0):
            if 0 in shape and math.isinf(order):
                continue
            rows.append(
                row(
                    "vector_norm",
                    f"{shape_name(shape)}-axis{axis}-ord{order}".replace(" ", ""),
                    as_it_is,
                    lambda f, x, order=order, axis=axis: f(x, order, axis),
                    Given(shape, "apart"),
                    smooth=order != 0,
                )
            )
    for order in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
        for shape, axis, keep in [((4, 3), (-2, -1), False), ((2, 3, 4), (2, 0), True)]:
            rows.append(
                row(
                    "matrix_norm",
                    f"{shape_name(shape)}-ord{order}",
                    as_it_is,
                    lambda f, x, order=order, axis=axis, keep=keep: f(x, order, axis, keep),
                    Given(shape),
                )
            )
    calls: dict[str, Function] = {
        "all": lambda f, x: f(x),
        "ord2": lambda f, x: f(x, 2),
        "axis": lambda f, x: f(x, 1, 0),
        "axes": lambda f, x: f(x, None, (0, 1), True),
        "nuc": lambda f, x: f(x, "nuc"),
    }
    return rows + [row("norm", name, as_it_is, function, Given((4, 3))) for name, function in calls.items()]


ROWS = [
    *factors(),
    *systems(),
    *rectangles(),
    *norms(),
    *[
        row("matrix_power", f"{shape_name(shape)}-{n}", ramped, lambda f, x, n=n: f(x, n), Given(shape))
        for shape in [(3, 3), (2, 2, 2), (0, 2, 2)]
        for n in (0, 1, 2, 5, -1, -3)
    ],
]
