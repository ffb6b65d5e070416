"""Rows of resizing. The result of the law (``ARITHMETIC.md``, 8.1) is in ``tests/lucid/test_law.py``."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as TF

import lucid.nn.functional as F
from support.operations import Given, Row
from support.tables.elementwise import shape_name, wide

# shape, options
RESIZED: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    *[
        (shape, {"size": size, "mode": mode})
        for mode in ("nearest", "nearest-exact", "area")
        for shape, size in (((2, 3, 7), 4), ((2, 3, 4, 5), (8, 5)), ((1, 2, 3, 4, 5), (2, 6, 5)))
    ],
    *[
        (shape, {"size": size, "mode": mode, "align_corners": align})
        for align in (False, True)
        for shape, size, mode in (
            ((2, 3, 5), 9, "linear"),
            ((2, 3, 4, 5), (7, 3), "bilinear"),
            ((2, 3, 1, 1), (3, 1), "bilinear"),
            ((2, 17, 3, 4), (6, 8), "bilinear"),
            ((2, 3, 4, 5), (9, 4), "bicubic"),
            ((1, 2, 3, 2, 4), (2, 5, 4), "trilinear"),
        )
    ],
    ((2, 3, 4, 5), {"scale_factor": 2, "mode": "bilinear"}),
    ((2, 3, 4, 5), {"scale_factor": (1.7, 0.6), "mode": "bilinear"}),
    ((2, 3, 4, 5), {"scale_factor": (1.7, 0.6), "mode": "bilinear", "recompute_scale_factor": True}),
    ((2, 3, 4, 5), {"scale_factor": 2.3, "mode": "bicubic", "align_corners": False}),
    ((1, 2, 6), {"scale_factor": 1.5, "mode": "nearest"}),
    ((1, 2, 6), {"scale_factor": 2.5, "mode": "nearest-exact"}),
    ((2, 2, 9, 8), {"size": (4, 3), "mode": "bilinear", "antialias": True}),
    ((1, 2, 9, 8), {"size": (4, 11), "mode": "bicubic", "antialias": True}),
    ((0, 3, 4, 5), {"size": 3, "mode": "bilinear"}),
]


def resized(shape: tuple[int, ...], options: dict[str, Any], kind: Any = "normal") -> Row:
    words = [f"{value}" if value is not True else key for key, value in options.items() if value is not False]
    name = "-".join(["interpolate", shape_name(shape), *words, *([kind] if kind != "normal" else [])]).replace(" ", "")
    smooth = kind == "normal"
    ours, theirs = (lambda x, f=f: f(x, **options) for f in (F.interpolate, TF.interpolate))
    return Row(name, F.interpolate, ours, wide(theirs), (Given(shape, kind),), smooth=smooth, sums=True)


ROWS = [
    *[resized(shape, options) for shape, options in RESIZED],
    resized((2, 3, 4, 5), {"size": (8, 10), "mode": "nearest"}, "special"),
]
