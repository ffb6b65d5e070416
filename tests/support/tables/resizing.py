"""Rows of resizing. The result of the law (``ARITHMETIC.md``, 8.1) is in ``tests/lucid/test_law.py``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as TF

import lucid.nn.functional as F
from support.operations import Given, Row
from support.tables.elementwise import shape_name, wide, wide_all

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


def sampled() -> list[Row]:
    rows = []
    places = np.array([[[-0.9, -0.7], [0.3, 0.11], [0.95, -0.2]], [[-1.4, 0.2], [2.3, -3.1], [0.05, 0.6]]])
    grid = np.stack([places, places[::-1] * 0.7 + 0.013])
    for mode in ("bilinear", "nearest"):
        for padding in ("zeros", "border", "reflection"):
            for align in (False, True):
                for shape in ((2, 3, 4, 5), (2, 17, 3, 2)):
                    given = Given(shape), Given(fixed=grid, grad=mode == "bilinear")
                    options = {"mode": mode, "padding_mode": padding, "align_corners": align}
                    ours, theirs = (lambda x, g, f=f, o=options: f(x, g, **o) for f in (F.grid_sample, TF.grid_sample))
                    name = f"grid_sample-{shape_name(shape)}-{mode}-{padding}{'-corners' * align}"
                    rows.append(Row(name, F.grid_sample, ours, wide_all(theirs), given, sums=True))
    odd = np.array([[[[0.0, 0.0], [np.nan, 0.0], [np.inf, 0.5], [1e30, 0.0]]]])
    given = Given((1, 2, 3, 3)), Given(fixed=odd, grad=False)
    rows.append(Row("grid_sample-odd", F.grid_sample, F.grid_sample, without_nan, given, smooth=False, sums=True))
    for align in (False, True):
        ours, theirs = (lambda t, f=f, a=align: f(t, (2, 1, 3, 4), a) for f in (F.affine_grid, TF.affine_grid))
        name = f"affine_grid-{align}"
        rows.append(Row(name, F.affine_grid, ours, wide(theirs), (Given((2, 2, 3)),), sums=True))
    for name, angle, options in (("30", 30.0, {}), ("far", -1000.5, {"center": (1.0, 2.5)})):
        ours = lambda x, a=angle, o=options: F.rotate(x, a, **o)  # noqa: E731
        theirs = lambda x, a=angle, o=options: turned(x, a, **o)  # noqa: E731
        # In float64 alone: a place is rounded to float32, and where pixels change quickly the result with it.
        rows.append(
            Row(f"rotate-{name}", F.rotate, ours, theirs, (Given((1, 2, 4, 5)),), sums=True, dtypes=(np.float64,))
        )
    return rows


def without_nan(x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Places that are no numbers lie outside; PyTorch leaves open where."""
    return TF.grid_sample(x, torch.where(torch.isfinite(grid) & (grid.abs() < 1e9), grid, 9.0), align_corners=False)


def turned(x: torch.Tensor, angle: float, center: tuple[float, float] | None = None) -> torch.Tensor:
    """Each pixel by itself, in pixels: where it comes from, and the four around that place."""
    _, _, height, width = x.shape
    cx, cy = (width / 2, height / 2) if center is None else center
    turn = math.radians(math.remainder(angle, 360.0))  # whole turns would cost digits
    c, s = math.cos(turn), math.sin(turn)
    rows = []
    for i in range(height):
        for j in range(width):
            u, v = j + 0.5 - cx, i + 0.5 - cy
            px, py = c * u - s * v + cx - 0.5, s * u + c * v + cy - 0.5
            value = x[:, :, 0, 0] * 0
            for row in (math.floor(py), math.floor(py) + 1):
                for column in (math.floor(px), math.floor(px) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        value = value + (1 - abs(py - row)) * (1 - abs(px - column)) * x[:, :, row, column]
            rows.append(value)
    return torch.stack(rows, -1).reshape(x.shape)


ROWS = [
    *sampled(),
    *[resized(shape, options) for shape, options in RESIZED],
    resized((2, 3, 4, 5), {"size": (8, 10), "mode": "nearest"}, "special"),
]
