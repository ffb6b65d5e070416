"""Rows of convolution, pooling and batch normalisation: operations on ``(N, C, H, W)``."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import torch
import torch.nn.functional as TF

import lucid.nn.functional as F
from support.operations import Given, Kind, Row
from support.tables.elementwise import shape_name, wide

# image, weight, options
CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1x1": ((2, 3, 5, 7), (4, 3, 1, 1), {}),
    "1x1-stride2": ((2, 3, 5, 7), (4, 3, 1, 1), {"stride": 2}),
    "1x1-image": ((2, 3, 1, 1), (4, 3, 1, 1), {}),
    "1x1-padded": ((1, 2, 2, 2), (3, 2, 1, 1), {"padding": 1}),
    "single-number": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "3x3": ((2, 3, 5, 7), (4, 3, 3, 3), {}),
    "3x3-padding1": ((2, 3, 5, 7), (4, 3, 3, 3), {"padding": 1}),
    "3x3-padding1-stride2": ((2, 3, 5, 7), (4, 3, 3, 3), {"padding": 1, "stride": 2}),
    "3x3-even-stride2": ((2, 3, 6, 8), (4, 3, 3, 3), {"padding": 1, "stride": 2}),
    "3x3-on-1x1": ((2, 3, 1, 1), (4, 3, 3, 3), {"padding": 1}),
    "3x3-on-3x3": ((2, 3, 3, 3), (4, 3, 3, 3), {}),
    "7x7-stem": ((2, 3, 11, 13), (5, 3, 7, 7), {"padding": 3, "stride": 2}),
    "2x2-stride3-gaps": ((1, 2, 8, 9), (3, 2, 2, 2), {"stride": 3}),
    "1x5": ((2, 2, 4, 9), (3, 2, 1, 5), {"padding": (0, 2)}),
    "3x2-mixed": ((2, 2, 7, 6), (3, 2, 3, 2), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
    "dilation2": ((1, 2, 7, 8), (3, 2, 3, 3), {"padding": 2, "dilation": 2}),
    "dilation2-stride2": ((1, 2, 7, 8), (3, 2, 3, 3), {"padding": 2, "dilation": 2, "stride": 2}),
    "dilation3-on-5x5": ((1, 2, 5, 5), (3, 2, 3, 3), {"padding": 3, "dilation": 3}),
    "groups2": ((2, 4, 5, 5), (6, 2, 3, 3), {"padding": 1, "groups": 2}),
    "groups3-stride2": ((1, 6, 5, 6), (3, 2, 3, 3), {"padding": 1, "groups": 3, "stride": 2}),
    "depthwise": ((2, 5, 6, 5), (5, 1, 3, 3), {"padding": 1, "groups": 5}),
    "depthwise-wide": ((2, 37, 9, 8), (37, 1, 7, 7), {"padding": 3, "groups": 37}),
    "depthwise-mixed": (
        *((1, 19, 7, 9), (19, 1, 3, 2)),
        {"padding": (2, 1), "stride": (2, 1), "dilation": (1, 3), "groups": 19},
    ),
    "depthwise-twice": ((1, 3, 5, 5), (6, 1, 3, 3), {"groups": 3}),
    "same": ((1, 2, 5, 6), (3, 2, 3, 3), {"padding": "same"}),
    "same-even": ((1, 2, 5, 6), (3, 2, 2, 4), {"padding": "same"}),
    "same-dilation2": ((1, 2, 7, 6), (3, 2, 2, 3), {"padding": "same", "dilation": 2}),
    "valid": ((1, 2, 5, 6), (3, 2, 3, 3), {"padding": "valid"}),
    "padding-beyond": ((1, 2, 2, 3), (2, 2, 2, 2), {"padding": 3}),
    "no-images": ((0, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
    "one-row": ((1, 2, 1, 9), (3, 2, 1, 3), {"padding": (0, 1)}),
    "many-channels": ((1, 70, 3, 3), (33, 70, 3, 3), {"padding": 1}),
    "one-side": ((2, 3, 9), (4, 3, 3), {"padding": 1}),
    "one-side-mixed": ((2, 4, 11), (6, 2, 3), {"padding": 2, "stride": 2, "dilation": 2, "groups": 2}),
    "one-side-same": ((1, 2, 6), (3, 2, 4), {"padding": "same"}),
    "one-side-long": ((1, 17, 70), (5, 17, 31), {"padding": (9,), "stride": (3,)}),
    "three-sides": ((2, 3, 3, 4, 5), (4, 3, 2, 3, 3), {"padding": 1}),
    "three-sides-mixed": (
        *((1, 4, 5, 4, 6), (6, 2, 3, 2, 2)),
        {"padding": (1, 0, 1), "stride": (2, 1, 2), "dilation": (1, 2, 1), "groups": 2},
    ),
    "three-sides-same": ((1, 2, 3, 4, 3), (3, 2, 2, 3, 2), {"padding": "same"}),
    "three-sides-1x1x1": ((2, 3, 2, 3, 3), (4, 3, 1, 1, 1), {"stride": 2}),
    "three-sides-padding-beyond": ((1, 2, 1, 2, 3), (2, 2, 2, 2, 2), {"padding": 3}),
    "three-sides-many-channels": ((1, 20, 2, 3, 3), (17, 20, 2, 3, 2), {"padding": (1, 1, 0)}),
    "three-sides-no-images": ((0, 3, 3, 4, 4), (4, 3, 3, 3, 3), {"padding": 1}),
}
TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1x1": ((2, 3, 5, 7), (3, 4, 1, 1), {}),
    "4x4-stride2": ((2, 3, 4, 5), (3, 4, 4, 4), {"stride": 2, "padding": 1}),
    "3x3-output-padding": ((2, 3, 4, 5), (3, 4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "2x2-gaps": ((1, 2, 3, 4), (2, 3, 2, 2), {"stride": 3}),
    "mixed": (
        *((2, 4, 4, 3), (4, 3, 3, 2)),
        {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2), "groups": 2, "dilation": (2, 1)},
    ),
    "depthwise": ((1, 5, 4, 3), (5, 1, 3, 3), {"stride": 2, "groups": 5}),
    "output-padding-below-dilation": ((1, 2, 4, 3), (2, 3, 2, 2), {"output_padding": 1, "dilation": 2}),
    "many-channels": ((1, 40, 3, 3), (40, 33, 3, 3), {"stride": 2, "padding": 1}),
    "no-images": ((0, 3, 4, 4), (3, 2, 3, 3), {}),
    "one-side": ((2, 4, 6), (4, 3, 4), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    "three-sides": ((2, 3, 2, 3, 3), (3, 4, 3, 2, 3), {"stride": (2, 1, 2), "padding": (1, 0, 1)}),
    "three-sides-mixed": (
        *((1, 4, 3, 2, 3), (4, 1, 2, 2, 2)),
        {"stride": (3, 1, 2), "padding": (1, 1, 0), "output_padding": (2, 0, 1), "groups": 4, "dilation": (1, 2, 1)},
    ),
}
WINDOWS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "2": ((2, 3, 6, 8), {"kernel_size": 2}),
    "2-odd": ((2, 3, 5, 7), {"kernel_size": 2}),
    "1": ((2, 3, 3, 2), {"kernel_size": 1}),
    "1x1-image": ((2, 3, 1, 1), {"kernel_size": 1}),
    "whole": ((2, 3, 4, 5), {"kernel_size": (4, 5)}),
    "stem": ((2, 3, 7, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "stem-on-1x1": ((1, 2, 1, 1), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "overlapping": ((1, 2, 6, 6), {"kernel_size": 3, "stride": 1}),
    "gaps": ((1, 2, 8, 9), {"kernel_size": 2, "stride": 3}),
    "mixed": ((1, 2, 7, 8), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    "ceil": ((1, 2, 6, 7), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil-padding": ((1, 2, 6, 5), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    "ceil-last-in-padding": ((1, 1, 4, 4), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    "no-images": ((0, 3, 4, 4), {"kernel_size": 2}),
    "one-side": ((2, 3, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "one-side-ceil": ((1, 2, 8), {"kernel_size": (3,), "stride": (2,), "ceil_mode": True}),
    "three-sides": ((2, 3, 3, 5, 4), {"kernel_size": 2}),
    "three-sides-mixed": ((1, 2, 5, 4, 6), {"kernel_size": (3, 2, 3), "stride": (2, 1, 2), "padding": (1, 0, 1)}),
    "three-sides-ceil": ((1, 2, 4, 5, 3), {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True}),
}
ADAPTIVE: list[tuple[tuple[int, ...], Any]] = [
    ((2, 3, 5, 7), 1),
    ((2, 3, 7, 7), (1, 1)),
    ((2, 3, 5, 7), 3),
    ((2, 3, 5, 7), (2, 5)),
    ((1, 2, 3, 2), (5, 4)),
    ((1, 2, 4, 6), (None, 3)),
    ((2, 3, 1, 1), 1),
    ((0, 3, 4, 4), 1),
    ((2, 3, 4, 4), 4),
    ((2, 3, 7), 3),
    ((2, 3, 5), (None,)),
    ((2, 3, 3, 5, 4), 2),
    ((1, 2, 2, 3, 5), (3, None, 1)),
]


def convolutions() -> list[Row]:
    rows = []
    for (name, (x, w, options)), bias in itertools.product(CONVOLUTIONS.items(), (False, True)):
        given = Given(x), Given(w), *([Given(w[:1])] if bias else [])
        rows.append(conv(f"{name}{'-bias' * bias}", given, options))
    for (name, (x, w, options)), bias in itertools.product(TRANSPOSED.items(), (False, True)):
        given = Given(x), Given(w), *([Given((w[1] * options.get("groups", 1),))] if bias else [])
        rows.append(conv(f"{name}{'-bias' * bias}", given, options, "conv_transpose"))
    # A tap outside the image takes part as 0 in lucid and is left out in PyTorch: the same but for infinite weights,
    # so the special numbers are in the image.
    special = Given((2, 3, 6, 5), "infinite"), Given((4, 3, 3, 3))
    rows.append(conv("special", special, {"padding": 1}, smooth=False))
    rows.append(conv("special-stride2", special, {"stride": 2}, smooth=False))
    view = (Given((6, 3, 5, 2)), Given((3, 2, 3, 3)))
    rows.append(
        Row(
            "conv2d-of-channels-last-slice",
            F.conv2d,
            lambda x, w: F.conv2d(x.transpose(0, 3, 1, 2)[::2, :, :, 1:], w.swapaxes(0, 1)[:, :2], padding=1),
            lambda x, w: TF.conv2d(x.permute(0, 3, 1, 2)[::2, :, :, 1:], w.swapaxes(0, 1)[:, :2], padding=1),
            view,
            sums=True,
        )
    )
    return rows


def of_sides(name: str, shape: tuple[int, ...]) -> tuple[str, Any, Any]:
    """An operation's name with the number of sides of images of ``shape``, lucid's function and PyTorch's."""
    name = f"{name}{len(shape) - 2}d"
    return name, getattr(F, name), getattr(TF, name)


def conv(name: str, given: tuple[Given, ...], options: dict[str, Any], kind: str = "conv", **more: Any) -> Row:
    operation, ours, theirs = of_sides(kind, given[0].shape)

    def torch_conv(*inputs: Any) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using padding='same'")  # it copies the input to pad one side
            return theirs(*inputs, **options)

    return Row(
        f"{operation}-{name}", ours, lambda *inputs: ours(*inputs, **options), torch_conv, given, sums=True, **more
    )


def max_pools() -> list[Row]:
    dilated = {
        "dilated": ((1, 2, 7, 9), {"kernel_size": 3, "dilation": 2, "padding": 1}),
        "three-sides-dilated": (
            (1, 2, 5, 7, 5),
            {"kernel_size": (2, 3, 2), "dilation": (3, 2, 1), "padding": (0, 1, 1)},
        ),
    }
    rows = []
    for name, (shape, options) in {**WINDOWS, **dilated}.items():
        kinds: tuple[Kind, ...] = ("apart", "ties", "special")
        operation, ours, _ = of_sides("max_pool", shape)
        for kind in kinds:
            rows.append(
                Row(
                    f"{operation}-{name}-{kind}",
                    ours,
                    lambda x, ours=ours, options=options: ours(x, **options),
                    lambda x, options=options: first_nan_max_pool(x, options),
                    (Given(shape, kind),),
                    smooth=kind == "apart",
                    sums=True,
                )
            )
    return rows


def first_nan_max_pool(x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """PyTorch gives the gradient of a window with several NaN to the last of them, lucid to the first.

    So PyTorch is shown the windows one by one, and here the first NaN is gathered.
    """
    _, _, max_pool = of_sides("max_pool", tuple(x.shape))
    y, index = max_pool(x, **options, return_indices=True)
    if not y.isnan().any():
        return y
    numbers = torch.arange(math.prod(x.shape[2:]), dtype=x.dtype).reshape(1, 1, *x.shape[2:])
    # Of the NaN elements the one with the smallest place is the first: NaN becomes -place, all else -infinity.
    places = torch.where(x.isnan(), -numbers, -torch.inf)
    first = -max_pool(places, **options)
    index = torch.where(y.isnan(), first.nan_to_num(0, 0, 0).long(), index)
    return x.flatten(2).gather(2, index.flatten(2)).reshape(y.shape)


def average_pools() -> list[Row]:
    rows = []
    for (name, (shape, options)), include in itertools.product(WINDOWS.items(), (True, False)):
        if not options.get("padding") and not include:
            continue
        operation, ours, theirs = of_sides("avg_pool", shape)
        for kind in ("normal", "special"):
            rows.append(
                Row(
                    f"{operation}-{name}{'' if include else '-without-padding'}-{kind}",
                    ours,
                    lambda x, f=ours, o=options, i=include: f(x, **o, count_include_pad=i),
                    wide(lambda x, f=theirs, o=options, i=include: f(x, **o, count_include_pad=i)),
                    (Given(shape, kind),),
                    smooth=kind == "normal",
                    sums=True,
                )
            )
    for (shape, size), kind in itertools.product(ADAPTIVE, ("normal", "special")):
        operation, ours, theirs = of_sides("adaptive_avg_pool", shape)
        if size == (None,):  # which PyTorch has for more sides alone
            theirs = lambda x, _, f=theirs: f(x, x.shape[2])  # noqa: E731
        rows.append(
            Row(
                f"{operation}-{shape_name(shape)}-to{size}-{kind}".replace(" ", ""),
                ours,
                lambda x, f=ours, size=size: f(x, size),
                wide(lambda x, f=theirs, size=size: f(x, size)),
                (Given(shape, kind),),
                smooth=kind == "normal",
                sums=True,
            )
        )
    return rows


NORMALIZED = [(2, 3, 4, 5), (2, 3, 1, 1), (1, 3, 2, 1), (4, 1, 3, 3), (1, 1, 1, 2), (3, 37, 5, 5), (2, 2, 17, 9)]
NORMALIZED += [(5, 3), (3, 4, 7), (2, 3, 2, 3, 4)]


def adaptive_max_pools() -> list[Row]:
    rows = []
    for (shape, size), kind in itertools.product(ADAPTIVE, ("apart", "ties", "infinite")):
        operation, ours, theirs = of_sides("adaptive_max_pool", shape)
        if kind == "infinite" and size != shape[2]:  # of several NaN lucid's gradient goes to the first
            continue
        if size == (None,):
            theirs = lambda x, _, f=theirs: f(x, x.shape[2])  # noqa: E731
        rows.append(
            Row(
                f"{operation}-{shape_name(shape)}-to{size}-{kind}".replace(" ", ""),
                ours,
                lambda x, f=ours, size=size: f(x, size),
                lambda x, f=theirs, size=size: f(x, size),
                (Given(shape, kind),),
                smooth=kind == "apart",
                sums=True,
            )
        )
    return rows


def normalizations() -> list[Row]:
    rows = []
    for shape, training, affine, running in itertools.product(NORMALIZED, (True, False), (True, False), (True, False)):
        if not (training or running):
            continue
        # Two values per channel become +1 and -1, and their slope is rounding alone unless eps is large.
        eps = 0.5 if shape[0] * math.prod(shape[2:]) == 2 else 1e-5
        rows.append(normalization(shape, "normal", training, affine, running, momentum=0.1, eps=eps))
    rows.append(normalization((2, 3, 4, 5), "normal", True, True, True, momentum=1.0, eps=1e-3))
    rows.append(normalization((2, 3, 4, 5), "normal", True, True, True, momentum=0.0, eps=0.5))
    rows.append(normalization((0, 3, 4, 5), "normal", False, True, True))
    rows.append(normalization((2, 12, 4, 4), "infinite", False, True, True))
    return rows


def normalization(
    shape: tuple[int, ...], kind: Kind, training: bool, affine: bool, running: bool, **options: Any
) -> Row:
    """Inputs in the order image, weight and bias (if affine), running mean and variance (if there are any)."""
    channels = shape[1:2]
    given = [Given(shape, kind)]
    given += [Given(channels), Given(channels)] if affine else []
    given += [Given(channels, grad=False), Given(channels, "positive", grad=False)] if running else []

    def call(function: Any) -> Any:
        def run(x: Any, *rest: Any) -> Any:
            weight, bias = rest[:2] if affine else (None, None)
            mean, var = rest[-2:] if running else (None, None)
            return function(x, mean, var, weight, bias, training, **options)

        return run

    words = ["train" if training else "eval", "affine" * affine, "running" * running, kind]
    words += [f"{key}{value}" for key, value in options.items() if value not in (0.1, 1e-5)]
    name = "-".join(word for word in ["batch_norm", shape_name(shape), *words] if word)
    smooth = kind == "normal"
    return Row(name, F.batch_norm, call(F.batch_norm), call(TF.batch_norm), tuple(given), smooth=smooth, sums=True)


UNFOLDED: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 5, 4), {"kernel_size": 3}),
    ((2, 3, 5, 4), {"kernel_size": (2, 3), "padding": (1, 0), "stride": (2, 1)}),
    ((1, 2, 7, 8), {"kernel_size": 2, "dilation": (3, 2), "padding": 1, "stride": 2}),
    ((0, 2, 4, 4), {"kernel_size": 2}),
]


def columns() -> list[Row]:
    rows = []
    for i, (shape, options) in enumerate(UNFOLDED):
        for kind in ("normal", "special"):
            given, smooth = (Given(shape, kind),), kind == "normal"
            ours, theirs = (lambda x, f=f, o=options: f(x, **o) for f in (F.unfold, TF.unfold))
            rows.append(Row(f"unfold-{i}-{kind}", F.unfold, ours, theirs, given, smooth=smooth, sums=True))
        given = (Given(tuple(TF.unfold(torch.zeros(shape), **options).shape)),)
        ours, theirs = (lambda y, f=f, s=shape[2:], o=options: f(y, s, **o) for f in (F.fold, TF.fold))
        rows.append(Row(f"fold-{i}", F.fold, ours, theirs, given, sums=True))
    return rows


def dropouts() -> list[Row]:
    return [
        Row(
            f"dropout-{name}",
            F.dropout,
            lambda x, p=p, training=training: F.dropout(x, p, training) * 1,
            lambda x, p=p, training=training: TF.dropout(x, p, training) * 1,
            (Given((4, 5)),),
        )
        for name, p, training in [("nothing", 0.0, True), ("everything", 1.0, True), ("in-evaluation", 0.7, False)]
    ] + [
        Row(
            f"{operation.__name__}-{name}",
            operation,
            lambda x, f=operation, p=p, more=more: f(x, *more, p=p) * 1,
            lambda x, p=p: x * (1.0 - p),
            (Given(shape),),
        )
        for operation, shape, more in DROPOUTS
        for name, p in [("nothing", 0.0), ("everything", 1.0)]
    ]


DROPOUTS: list[tuple[Any, tuple[int, ...], tuple[Any, ...]]] = [
    (F.dropout1d, (2, 3, 4), ()),
    (F.dropout2d, (2, 3, 4, 2), ()),
    (F.dropout3d, (2, 3, 2, 4, 2), ()),
    (F.alpha_dropout, (4, 5), ()),
    (F.drop_path, (3, 4), ()),
    (F.drop_block, (2, 3, 5, 4), (1,)),
]


ROWS = [
    *convolutions(),
    *max_pools(),
    *average_pools(),
    *adaptive_max_pools(),
    *columns(),
    *normalizations(),
    *dropouts(),
]
