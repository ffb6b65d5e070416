"""Images on another grid of pixels: the arithmetic of ``ARITHMETIC.md``, section 11.2, and no other."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from lucid.core.angles import of_degrees

Array = np.ndarray[Any, Any]

_CACHED = 1 << 14  # numbers of a part that stays in the cache


@functools.lru_cache(maxsize=256)
def _taps(old: int, new: int, antialias: bool) -> tuple[Array, Array]:
    """Which pixels take part in each new one, in ascending order, and their weights; places past the last weigh 0."""
    scale = old / new
    spread = max(scale, 1.0) if antialias else 1.0
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum(np.floor(centre - spread + 0.5), 0.0)
    last = np.minimum(np.floor(centre + spread + 0.5), float(old))
    places = first[:, None] + np.arange(int((last - first).max()))
    weights = np.maximum(1.0 - np.abs((places - centre[:, None] + 0.5) / spread), 0.0)
    weights[places >= last[:, None]] = 0.0
    whole = np.zeros(new)
    for tap in weights.T:
        whole = whole + tap
    return np.minimum(places, old - 1).astype(np.intp), weights / whole[:, None]


def resized(x: Array, axis: int, new: int, antialias: bool) -> Array:
    """``x`` with ``new`` pixels along ``axis``, by linear weights, in float64."""
    if x.shape[axis] == new:
        return x.astype(np.float64)
    lines = np.moveaxis(x, axis, 0)
    flat = np.ascontiguousarray(lines.reshape(lines.shape[0], -1), np.float64)
    places, weights = _taps(x.shape[axis], new, antialias)
    out = np.zeros((new, flat.shape[1]))
    step = max(1, _CACHED // max(1, flat.shape[1]))
    part = np.empty((step, flat.shape[1]))
    for start in range(0, new, step):  # as many lines as stay in the cache
        some = slice(start, min(start + step, new))
        products = part[: some.stop - start]
        for tap in range(places.shape[1]):
            flat.take(places[some, tap], 0, products, "clip")
            products *= weights[some, tap, None]
            out[some] += products
    return np.moveaxis(out.reshape(new, *lines.shape[1:]), 0, axis)


def nearest(x: Array, axis: int, new: int) -> Array:
    """``x`` with ``new`` pixels along ``axis``: pixel ``i`` is the old pixel ``floor(i * old / new)``, exactly."""
    return x.take(np.arange(new) * x.shape[axis] // new, axis)


def turned_size(height: int, width: int, sine: float, cosine: float) -> tuple[int, int]:
    """How large an image has to be to hold another that was turned; exactly, by quarters of a turn."""
    if not sine or not cosine:
        return (height, width) if cosine else (width, height)
    corners = [(x * width, y * height) for x in (-0.5, 0.5) for y in (-0.5, 0.5)]
    across = [x * cosine + y * sine + 0.5 * width for x, y in corners]
    down = [y * cosine - x * sine + 0.5 * height for x, y in corners]

    def extent(values: list[float]) -> int:
        most, least = math.trunc(max(values) / 1e-3) * 1e-3, math.trunc(min(values) / 1e-3) * 1e-3
        return math.ceil(most) - math.floor(least)

    return extent(down), extent(across)


def turned(
    x: Array, degrees: float, smooth: bool, expand: bool, centre: tuple[float, float] | None, fill: Array
) -> Array:
    """``x`` of shape ``(H, W, ..)`` turned counter-clockwise about ``centre`` (column, row)."""
    cosine, sine = of_degrees(degrees)
    height, width = x.shape[:2]
    rows, columns = turned_size(height, width, sine, cosine) if expand else (height, width)
    middle = ((width - 1) / 2, (height - 1) / 2)
    old = middle if centre is None or expand else (centre[0] - 0.5, centre[1] - 0.5)
    new = ((columns - 1) / 2, (rows - 1) / 2) if expand else old
    across, down = np.arange(columns) - new[0], (np.arange(rows) - new[1])[:, None]
    from_x = (across * cosine - down * sine) + old[0]
    from_y = (across * sine + down * cosine) + old[1]

    def pixels(row: Array, column: Array) -> Array:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        found = x[np.where(inside, row, 0).astype(np.intp), np.where(inside, column, 0).astype(np.intp)]
        return np.where(inside.reshape(inside.shape + (1,) * (x.ndim - 2)), found, fill)

    if not smooth:
        return pixels(np.floor(from_y + 0.5), np.floor(from_x + 0.5))
    top, left = np.floor(from_y), np.floor(from_x)
    beside = ((from_y - top, from_x - left), (1.0 - (from_y - top), 1.0 - (from_x - left)))
    out = np.zeros((rows, columns, *x.shape[2:]))
    for row in (0, 1):
        for column in (0, 1):
            weight = beside[1 - row][0] * beside[1 - column][1]
            weight = weight.reshape(weight.shape + (1,) * (x.ndim - 2))
            out = out + weight * pixels(top + row, left + column).astype(np.float64)
    return out
