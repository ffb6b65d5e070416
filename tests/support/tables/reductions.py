"""Rows of sums, means and extrema, of matrix products, and of softmax and the losses."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as TF

import lucid
import lucid.nn.functional as F
from support.operations import Given, Kind, Row
from support.tables.elementwise import shape_name, wide

AXES: list[tuple[tuple[int, ...], Any]] = [
    ((), None),
    ((1,), 0),
    ((1, 1), None),
    ((7,), None),
    ((5, 3), 0),
    ((5, 3), -1),
    ((5, 3), (0, 1)),
    ((2, 3, 4), 1),
    ((2, 3, 4), (0, 2)),
    ((2, 3, 4), (-1, 0)),
    ((2, 3, 5, 7), (0, 2, 3)),
    ((3, 0, 2), 0),
    ((600, 2), 0),
]
TOO_FEW = [(), (1,), (1, 1), (3, 0, 2)]
"""Of these a variance has no meaning; lucid and PyTorch have NaN."""
EMPTY = [((0,), None), ((3, 0, 2), 1), ((3, 0, 2), (0, 1, 2))]

Function = Callable[..., Any]


def reduction(name: str, theirs: Function, kind: Kind, axes: list[Any] = AXES, **options: Any) -> list[Row]:
    """The reduction over every choice of axes, with and without keeping them."""
    ours = getattr(lucid, name)
    rows = []
    for (shape, axis), keep in itertools.product(axes, (False, True)):
        rows.append(
            Row(
                f"{name}-{shape_name(shape)}-axis{axis}{'-keepdims' if keep else ''}".replace(" ", ""),
                ours,
                lambda x, axis=axis, keep=keep: ours(x, axis, keep),
                lambda x, axis=axis, keep=keep: theirs(x, tuple(range(x.ndim)) if axis is None else axis, keep),
                (Given(shape, kind),),
                sums=True,
                **options,
            )
        )
    return rows


def special_reduction(name: str, theirs: Function, kind: Kind = "special") -> list[Row]:
    ours = getattr(lucid, name)
    given = (Given((40, 3), kind),)
    return [
        Row(
            f"{name}-{kind}-axis{axis}",
            ours,
            lambda x, axis=axis: ours(x, axis),
            lambda x, axis=axis: theirs(x, axis, False),
            given,
            smooth=False,
            sums=True,
        )
        for axis in (0, 1)
    ]


ALONG = [((1,), 0), ((7,), -1), ((0,), 0), ((5, 3), 0), ((5, 3), -1), ((2, 3, 4), 1), ((2, 0, 3), 0), ((2, 600), 1)]


def sums_along() -> list[Row]:
    def row(name: str, axis: int, *given: Given, **options: Any) -> Row:
        name = f"cumsum-{name}-axis{axis}"
        return Row(
            name, lucid.cumsum, lambda x: lucid.cumsum(x, axis), lambda x: torch.cumsum(x, axis), given, **options
        )

    return [
        *[row(shape_name(shape), axis, Given(shape), sums=True) for shape, axis in ALONG],
        row("special", 1, Given((3, 40), "infinite"), smooth=False, sums=True),
    ]


def torch_sum(x: torch.Tensor, axis: Any, keep: bool) -> torch.Tensor:
    return torch.sum(x, axis, keepdim=keep)


def torch_mean(x: torch.Tensor, axis: Any, keep: bool) -> torch.Tensor:
    return torch.mean(x, axis, keepdim=keep)


def torch_var(x: torch.Tensor, axis: Any, keep: bool) -> torch.Tensor:
    return torch.var(x, axis, keepdim=keep)


def quiet_var(x: torch.Tensor) -> torch.Tensor:
    """PyTorch's variance of too few values, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.var(x)


def extremum(function: Function) -> Function:
    """``torch.amax`` with the gradient of a NaN result given to the NaN elements, where PyTorch has 0 / 0 for all."""

    def theirs(x: torch.Tensor, axis: Any, keep: bool) -> torch.Tensor:
        y = function(x, axis, keepdim=keep)
        kept = function(x, axis, keepdim=True)
        if not kept.isnan().any():
            return y
        found = (x.isnan() & kept.isnan()) | (x == kept)
        share = found.to(x.dtype) / found.sum(axis, keepdim=True)
        return _WithSlope.apply(x, y.detach(), share, axis, keep)

    return theirs


class _WithSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, share: torch.Tensor, axis: Any, keep: bool) -> torch.Tensor:
        ctx.share, ctx.axis, ctx.keep = share, axis, keep
        return y.clone()

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[Any, ...]:
        dy = dy if ctx.keep else dy.unsqueeze(ctx.axis)
        return torch.where(ctx.share > 0, dy * ctx.share, torch.zeros_like(ctx.share)), None, None, None, None


PRODUCTS = [
    ((3,), (3,)),
    ((0,), (0,)),
    ((1, 1), (1, 1)),
    ((4, 3), (3,)),
    ((3,), (3, 4)),
    ((4, 3), (3, 5)),
    ((4, 0), (0, 5)),
    ((0, 3), (3, 5)),
    ((2, 4, 3), (2, 3, 5)),
    ((2, 4, 3), (3, 5)),
    ((4, 3), (2, 3, 5)),
    ((2, 1, 4, 3), (3, 3, 2)),
    ((2, 4, 3), (3,)),
    ((3,), (2, 3, 5)),
    ((0, 4, 3), (3, 5)),
    ((17, 300), (300, 33)),
]
LINEAR = [((2, 3), 4), ((1, 1), 1), ((0, 3), 4), ((3,), 4), ((2, 5, 3), 4), ((2, 0, 3), 4), ((9, 290), 33)]


def products() -> list[Row]:
    rows = []
    for a, b in PRODUCTS:
        given = Given(a), Given(b)
        name = f"{shape_name(a)}-{shape_name(b)}"
        rows.append(Row(f"matmul-{name}", lucid.matmul, lucid.matmul, torch.matmul, given, sums=True))
        if len(a) < 3 and len(b) < 3:
            rows.append(Row(f"dot-{name}", lucid.dot, lucid.dot, torch.matmul, given, sums=True))
    special = Given((7, 40), "infinite"), Given((40, 9))
    rows.append(Row("matmul-special", lucid.matmul, lucid.matmul, torch.matmul, special, smooth=False, sums=True))
    for (shape, features), bias in itertools.product(LINEAR, (False, True)):
        layer = Given(shape), Given((features, shape[-1])), *([Given((features,))] if bias else [])
        name = f"linear-{shape_name(shape)}-to{features}{'-bias' if bias else ''}"
        rows.append(Row(name, F.linear, F.linear, TF.linear, layer, sums=True))
    return rows


SOFTMAX = [((1,), 0), ((5,), -1), ((3, 4), 0), ((3, 4), 1), ((0, 4), 1), ((2, 3, 4), 1), ((4, 700), 1), ((1, 1), 1)]


def softmaxes() -> list[Row]:
    rows = []
    for ours, theirs in ((F.log_softmax, TF.log_softmax), (F.softmax, TF.softmax)):
        for shape, axis in SOFTMAX:
            rows.append(
                Row(
                    f"{ours.__name__}-{shape_name(shape)}-axis{axis}",
                    ours,
                    lambda x, f=ours, axis=axis: f(x, axis),
                    lambda x, f=theirs, axis=axis: f(x, dim=axis),
                    (Given(shape),),
                    sums=True,
                )
            )
    far = Given(fixed=[[1e30, 0.0, -1e30], [-np.inf, 0.0, 1.0], [-np.inf] * 3, [np.inf, 0.0, 1.0], [np.nan, 0.0, 1.0]])
    rows.append(
        Row("log_softmax-far", F.log_softmax, F.log_softmax, lambda x: TF.log_softmax(x, -1), (far,), False, True)
    )
    return rows


ROWS_OF_CLASSES: dict[str, tuple[tuple[int, ...], Any]] = {
    "batch": ((5, 4), [0, 3, 1, 1, 2]),
    "single": ((4,), 2),
    "one-class": ((2, 1), [0, 0]),
    "empty": ((0, 4), np.zeros(0, np.int64)),
    "spatial": ((2, 4, 3), [[0, 3, 1], [2, 2, 0]]),
    "image": ((2, 3, 2, 2), [[[0, 1], [2, 2]], [[1, 1], [0, 2]]]),
    "ignored": ((5, 4), [0, -100, 1, -100, 2]),
    "all-ignored": ((2, 4), [-100, -100]),
    "class-ignored": ((5, 4), [0, 1, 1, 1, 2]),
}


def losses_of_classes() -> list[Row]:
    rows = []
    for (name, (shape, target)), reduced, weighted in itertools.product(
        ROWS_OF_CLASSES.items(), ("none", "sum", "mean"), (False, True)
    ):
        classes = shape[1] if len(shape) > 1 else shape[0]
        weight = [Given((classes,), "positive", grad=False)] if weighted else []
        options: dict[str, Any] = {"reduction": reduced, "ignore_index": 1 if name == "class-ignored" else -100}
        for smoothing in (None, 0.0, 0.1):
            ours, theirs = (F.nll_loss, TF.nll_loss) if smoothing is None else (F.cross_entropy, TF.cross_entropy)
            more = options if smoothing is None else {**options, "label_smoothing": smoothing}
            if smoothing and weighted and reduced == "mean" and name == "all-ignored":
                continue  # 0 / 0 in both, of different terms: PyTorch's gradient has NaN at some elements only
            rows.append(
                Row(
                    f"{ours.__name__}-{name}-{reduced}{'-weight' * weighted}{f'-smooth{smoothing}' * bool(smoothing)}",
                    ours,
                    lambda x, t, w=None, f=ours, more=more: f(x, t, w, **more),
                    lambda x, t, w=None, f=theirs, more=more: f(x, t, w, **more),
                    (Given(shape), Given(fixed=np.asarray(target, np.int64), grad=False), *weight),
                    smooth=not (name == "all-ignored" and reduced == "mean"),  # 0 / 0, and by the law no gradient
                    sums=True,
                )
            )
    return rows


def losses_of_probabilities() -> list[Row]:
    rows = []
    for shape, reduced, weighted, smoothing in itertools.product(
        [(5, 4), (4,), (2, 4, 3), (0, 4)], ("none", "sum", "mean"), (False, True), (0.0, 0.1)
    ):
        classes = shape[1] if len(shape) > 1 else shape[0]
        weight = [Given((classes,), "positive", grad=False)] if weighted else []
        options: dict[str, Any] = {"reduction": reduced, "label_smoothing": smoothing}
        rows.append(
            Row(
                f"cross_entropy-probabilities-{shape_name(shape)}-{reduced}{'-weight' * weighted}-smooth{smoothing}",
                F.cross_entropy,
                lambda x, t, w=None, options=options: F.cross_entropy(x, t, w, **options),
                lambda x, t, w=None, options=options: TF.cross_entropy(x, t, w, **options),
                (Given(shape), Given(shape, "positive"), *weight),
                sums=True,
            )
        )
    return rows


def squared_errors() -> list[Row]:
    return [
        Row(
            f"mse_loss-{shape_name(shape)}-{reduced}",
            F.mse_loss,
            lambda x, t, reduced=reduced: F.mse_loss(x, t, reduction=reduced),
            lambda x, t, reduced=reduced: TF.mse_loss(x, t, reduction=reduced),
            (Given(shape), Given(shape)),
            sums=True,
        )
        for shape, reduced in itertools.product([(), (5,), (2, 3, 4), (0, 3)], ("none", "sum", "mean"))
    ]


ROWS = [
    *reduction("sum", torch_sum, "normal", AXES + EMPTY),
    *reduction("mean", torch_mean, "normal", AXES + EMPTY),
    *reduction("var", torch_var, "normal", [(s, a) for s, a in AXES if s not in TOO_FEW]),
    *reduction("max", torch.amax, "apart"),
    *reduction("min", torch.amin, "apart"),
    *sums_along(),
    *special_reduction("sum", wide(torch_sum)),
    *special_reduction("mean", wide(torch_mean)),
    *special_reduction("max", extremum(torch.amax)),
    *special_reduction("min", extremum(torch.amin)),
    *special_reduction("max", torch.amax, "ties"),
    *special_reduction("min", torch.amin, "ties"),
    *[
        Row(f"var-{shape_name(shape)}", lucid.var, lucid.var, quiet_var, (Given(shape),), smooth=False)
        for shape in TOO_FEW
    ],
    Row(
        "var-correction0",
        lucid.var,
        lambda x: lucid.var(x, 0, correction=0),
        lambda x: torch.var(x, 0, correction=0),
        (Given((5, 3)),),
        sums=True,
    ),
    *products(),
    *softmaxes(),
    *losses_of_classes(),
    *losses_of_probabilities(),
    *squared_errors(),
]
