"""Images of other sides: between their elements, and at the places of a grid.

A place between elements is worked out in floating point, so that it is off by some roundings of the image's side; what
is taken there moves with it. Weights are written as functions of the distance, which hold beside the border, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.operation import Argument, Attributes, KernelOperation, Made, Shape, Sizes, by_sides

# Images, channels, rows, columns.
IMAGES = ((1, 1, 1, 1), (1, 2, 3, 5), (2, 3, 7, 4), (1, 5, 17, 9), (3, 2, 33, 8), (2, 65, 5, 6), (1, 1, 65, 67))
# The same, and the grid's rows and columns.
SAMPLED = (
    (1, 1, 1, 1, 1, 1), (1, 2, 3, 5, 2, 2), (2, 3, 7, 4, 5, 3), (1, 5, 17, 9, 4, 17), (3, 2, 13, 8, 9, 7),
    (2, 65, 5, 6, 3, 3), (1, 1, 19, 21, 33, 5),
)  # fmt: skip
_PLACE = 3.0  # roundings of a side, by which a place may be off
_CUBIC = -0.75


def _tent(distance: Array) -> Array:
    return np.maximum(0.0, 1.0 - np.abs(distance))


def _cubic(distance: Array) -> Array:
    """Keys' kernel."""
    t, a = np.abs(distance), _CUBIC
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    return np.where(t <= 1, near, np.where(t < 2, a * (((t - 5) * t + 8) * t - 4), 0.0))


def _places(sides: int, size: int, align_corners: bool) -> Array:
    """Where each of ``size`` elements lies among ``sides``."""
    at = np.arange(size, dtype=np.float64)
    if align_corners:
        return at * ((sides - 1) / max(1, size - 1))
    return (at + 0.5) * (sides / size) - 0.5


def _weights(x: Bounded, sides: int, size: int, mode: str, align_corners: bool) -> Bounded:
    """``size`` by ``sides``: how much of each element is in each result."""
    places = _places(sides, size, align_corners)[:, None]
    off = _PLACE * x.of.unit * (sides + 1)
    if mode == "bilinear":
        near = np.clip(places, 0, sides - 1) - np.arange(sides)
        value, error = _tent(near), np.where(np.abs(near) < 1 + off, off, 0.0)
    else:
        taps = np.arange(-2 - sides, 2 * sides + 2)
        kept = np.clip(taps, 0, sides - 1)[None, :, None] == np.arange(sides)
        value = (_cubic(places - taps)[..., None] * kept).sum(1)
        error = ((np.abs(places - taps) < 2 + off)[..., None] * kept * 2 * off).sum(1)
    return Bounded(x.of, value, error, np.zeros_like(value))


def _interpolate(inputs: list[Bounded], size: Any, mode: str, align_corners: bool) -> Bounded:
    x = inputs[0]
    rows, columns = _both(x, size, mode, align_corners)
    terms = 2 if mode == "bilinear" else 4
    wide = x.contracted(columns, lambda a, w: np.einsum("nchw,ow->ncho", a, w), terms)
    return wide.contracted(rows, lambda a, w: np.einsum("nchw,oh->ncow", a, w), terms)


def _both(x: Bounded, size: Any, mode: str, align_corners: bool) -> tuple[Bounded, Bounded]:
    sizes = by_sides(size, 2)
    rows, columns = (_weights(x, x.shape[2 + i], sizes[i], mode, align_corners) for i in range(2))
    return rows, columns


def _interpolate_gradient(
    dy: Bounded, inputs: list[Bounded], y: Bounded, size: Any, mode: str, align_corners: bool
) -> Made:
    rows, columns = _both(inputs[0], size, mode, align_corners)
    most = [int((each.error > 0).sum(0).max(initial=1)) for each in (rows, columns)]
    tall = dy.contracted(rows, lambda a, w: np.einsum("ncow,oh->nchw", a, w), most[0], pieces=most[0])
    return {0: tall.contracted(columns, lambda a, w: np.einsum("ncho,ow->nchw", a, w), most[1], pieces=most[1])}


def _check_interpolate(attributes: Attributes) -> None:
    if attributes["mode"] not in ("bilinear", "bicubic"):
        raise UsageError(f"mode: got {attributes['mode']!r}; may be 'bilinear' or 'bicubic'")


class _Sampled:
    """What each place of a grid takes of each element; beyond the border is nothing."""

    def __init__(self, x: Bounded, grid: Bounded, align_corners: bool) -> None:
        self.x, self.grid, of = x, grid, x.of
        batch = x.shape[0]
        self.parts = []
        for i, sides in enumerate((x.shape[3], x.shape[2])):
            given = grid.value[..., i].reshape(batch, -1, 1)
            places = (given + 1) / 2 * (sides - 1) if align_corners else ((given + 1) * sides - 1) / 2
            distance = places - np.arange(sides)
            off = _PLACE * of.unit * (sides + np.abs(places))
            reach = np.abs(distance) < 1 + off
            tent = Bounded(of, _tent(distance), np.where(reach, off, 0.0), np.zeros_like(distance))
            turns = (np.abs(distance) < off) | (np.abs(np.abs(distance) - 1) < off)
            rise = np.where(np.abs(distance) < 1, -np.sign(distance), 0.0)
            factor = (sides - 1) / 2 if align_corners else sides / 2
            slope = of.exact(rise).with_error(np.where(turns, 2.0, 0.0)) * factor
            self.parts.append((tent, slope))

    def _whole(self, columns: Bounded, rows: Bounded) -> Bounded:
        made = rows.moved(lambda part: part[..., None]) * columns.moved(lambda part: part[:, :, None, :])
        return made.moved(lambda part: part.reshape(*part.shape[:2], -1))

    def weights(self) -> Bounded:
        return self._whole(self.parts[0][0], self.parts[1][0])

    def image(self) -> Bounded:
        return self.x.moved(lambda part: part.reshape(*part.shape[:2], -1))

    def result(self) -> Bounded:
        made = self.image().contracted(self.weights(), lambda a, w: np.einsum("nck,npk->ncp", a, w), 4)
        return made.moved(lambda part: part.reshape(*self.x.shape[:2], *self.grid.shape[1:3]))

    def gradients(self, dy: Bounded) -> Made:
        flat = dy.moved(lambda part: part.reshape(*part.shape[:2], -1))
        weights = self.weights()
        most = float((weights.error > 0).sum(1).max(initial=1))
        dx = flat.contracted(weights, lambda d, w: np.einsum("ncp,npk->nck", d, w), most, pieces=most)
        # What each place has, times how the weights move with it: its terms have either sign and no rounding is shared.
        taken = flat.contracted(self.image(), lambda d, a: np.einsum("ncp,nck->npk", d, a), dy.shape[1])
        found = []
        for columns, rows in ((self.parts[0][1], self.parts[1][0]), (self.parts[0][0], self.parts[1][1])):
            found.append((taken * self._whole(columns, rows)).sum(-1, terms=4 * dy.shape[1]))
        grid = zip(*(each.parts for each in found), strict=True)
        shape = self.grid.shape
        of_grid = Bounded(dy.of, *(np.stack(pair, -1).reshape(shape) for pair in grid))
        return {0: dx.moved(lambda part: part.reshape(self.x.shape)), 1: of_grid}


def _grid_sample(inputs: list[Bounded], align_corners: bool) -> Bounded:
    x, grid = inputs
    return _Sampled(x, grid, align_corners).result()


def _grid_sample_gradients(dy: Bounded, inputs: list[Bounded], y: Bounded, align_corners: bool) -> Made:
    x, grid = inputs
    return _Sampled(x, grid, align_corners).gradients(dy)


def _sampled_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    batch, channels, rows, columns, high, wide = sizes
    return (batch, channels, rows, columns), (batch, high, wide, 2)


_AXES = ("image", "channel", "row", "column")
RESIZES = (
    KernelOperation(
        "interpolate",
        (Argument("input"),),
        _interpolate,
        _interpolate_gradient,
        lambda attributes: IMAGES,
        lambda sizes, attributes: (sizes,),
        {"size": (7, 12), "mode": "bilinear", "align_corners": False},
        ("spike", "strided"),
        _AXES,
        contained=False,
        check=_check_interpolate,
        lean_gradients=False,
        apart=lambda attributes, rank: 1,
    ),
    KernelOperation(
        "grid_sample",
        (Argument("input"), Argument("grid")),
        _grid_sample,
        _grid_sample_gradients,
        lambda attributes: SAMPLED,
        _sampled_shapes,
        {"align_corners": False},
        ("spike", "strided"),
        _AXES,
        contained=False,
        lean_gradients=False,
        apart=lambda attributes, rank: 1,
    ),
)
