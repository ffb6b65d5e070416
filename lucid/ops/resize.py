"""Resizing of images of one to three sides, and sampling at places (``ARITHMETIC.md``, sections 8.1 and 8.2)."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from lucid.backends import Backend
from lucid.core.angles import of_degrees
from lucid.core.tensor import Tensor, as_tensor
from lucid.kernels.declare import Sides
from lucid.kernels.pool import taps
from lucid.ops import pooling
from lucid.ops._function import Function, apply, compose
from lucid.ops._window import MOST, SEVERAL, SidesLike, cached, per_side, require_image
from lucid.ops.product import matmul
from lucid.ops.shape import broadcast_to, reshape, transpose

__all__ = ["affine_grid", "grid_sample", "interpolate", "rotate"]

FactorLike: TypeAlias = "float | Sequence[float]"
"""A number for all sides, or one for each."""
_KINDS = {
    "nearest": ("nearest", (1, 2, 3)),
    "nearest-exact": ("nearest-exact", (1, 2, 3)),
    "linear": ("linear", (1,)),
    "bilinear": ("linear", (2,)),
    "trilinear": ("linear", (3,)),
    "bicubic": ("cubic", (2,)),
    "area": ("area", (1, 2, 3)),
}
"""Of each mode, what is done along every side, and how many sides images may have."""


class Interpolate(Function):
    name = "interpolate"
    floats = True
    params = ("size", "mode", "align_corners", "scale_factor", "antialias")

    def __init__(
        self, size: Sides, mode: str, align_corners: bool, scale_factor: tuple[float, ...] | None, antialias: bool
    ) -> None:
        self.size = size
        self.mode = mode
        self.align_corners = align_corners
        self.scale_factor = scale_factor
        self.antialias = antialias

    def forward(self, be: Backend, x: Any) -> Any:
        self.sides = x.shape[2:]
        return be.resample(x, *self.tables(be, False), self.size)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.resample(dy, *self.tables(be, True), self.sides),)

    def tables(self, be: Backend, turned: bool) -> tuple[Any, Any, Any]:
        options = _KINDS[self.mode][0], self.align_corners, self.scale_factor, self.antialias
        return cached(_tables, be, self.sides, self.size, *options, turned)


def _tables(
    be: Backend,
    sizes: Sides,
    outputs: Sides,
    kind: str,
    align: bool,
    factors: tuple[float, ...] | None,
    smoothed: bool,
    turned: bool,
) -> tuple[Any, ...]:
    """What ``resample`` takes of all sides, where the backend has its arrays."""
    found = []
    for i, (size, output) in enumerate(zip(sizes, outputs, strict=True)):
        table = taps.side_taps(kind, size, output, align, None if factors is None else factors[i], smoothed)
        found.append(taps.turned(table, size) if turned else table)
    return tuple([be.xp.asarray(array) for array in taps.joined(found)])


def interpolate(
    input: Tensor,
    size: SidesLike | None = None,
    scale_factor: FactorLike | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """``input`` with other sides: each element is a weighted mean of those around its place on the input.

    Args:
        input: images of one to three sides, ``(N, C, *sides)``, float32 or float64, with at least one pixel.
        size: the sides of the result: a number or one for each side. Either this or ``scale_factor``.
        scale_factor: by what sides are multiplied, a number or one for each, and rounded down.
        mode: ``"nearest"``, ``"nearest-exact"`` (which sees pixels as squares, as Pillow does), ``"linear"`` (of one
            side), ``"bilinear"`` and ``"bicubic"`` (two), ``"trilinear"`` (three), or ``"area"`` (adaptive averages).
        align_corners: whether the middles of the pixels at the corners stay where they are, instead of the corners of
            the image; of meaning for the linear and cubic modes alone.
        recompute_scale_factor: whether the scale follows from the two sizes, instead of being ``scale_factor``.
        antialias: whether, where the image is reduced, filters are widened by as much: bilinear and bicubic alone.

    Returns:
        ``(N, C, *size)``. Places and weights are float64, each element is summed in float64 and rounded once. Gradient:
        ``dy`` with the same weights.

    Raises:
        ValueError: another rank, an empty image, an unknown mode or one for other sides, neither or both of ``size``
            and ``scale_factor``, ``align_corners`` or ``antialias`` where they have no meaning.
        TypeError: integers.

    Source: ONNX operator Resize; Keys, IEEE Trans. ASSP 29, 1981, for cubic convolution.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.tensor([0.0, 1.0]), (1, 1, 2))
        >>> lucid.nn.functional.interpolate(x, 4, mode="linear").tolist()
        [[[0.0, 0.25, 0.75, 1.0]]]
    """
    sides, shape = input.ndim - 2, input.shape
    if not 1 <= sides <= 3:
        raise ValueError(f"interpolate: input has shape {shape}; must be images of one to three sides, (N, C, *sides)")
    if mode not in _KINDS or sides not in _KINDS[mode][1]:
        may = ", ".join(repr(name) for name, (_, takes) in _KINDS.items() if sides in takes)
        raise ValueError(f"mode: got {mode!r}; for images of {sides} sides it may be {may}")
    if 0 in shape[2:] or max(shape[2:]) > MOST:
        raise ValueError(f"interpolate: input has shape {shape}; a side may have 1 to {MOST} pixels")
    kind = _KINDS[mode][0]
    if align_corners is not None and kind not in ("linear", "cubic"):
        raise ValueError(f"align_corners: got {align_corners} for mode {mode!r}; may be None there")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"antialias: got {antialias} for mode {mode!r}; may be True for 'bilinear' and 'bicubic'")
    output, factors = _output(shape[2:], size, scale_factor)
    if kind == "area":
        return getattr(pooling, f"adaptive_avg_pool{sides}d")(input, output)
    given = None if recompute_scale_factor or align_corners else factors
    return apply(Interpolate(output, mode, bool(align_corners), given, bool(antialias)), input)


def _output(sizes: Sides, size: SidesLike | None, factor: FactorLike | None) -> tuple[Sides, tuple[float, ...] | None]:
    """The sides of the result, and the scales that were asked for."""
    if (size is None) == (factor is None):
        raise ValueError(f"size, scale_factor: got {size} and {factor}; one of them must be given, the other None")
    if size is not None:
        return per_side("size", size, 1, len(sizes)), None
    given = tuple(factor) if isinstance(factor, Sequence) else (factor,) * len(sizes)
    try:
        factors = tuple([float(f) for f in given])  # type: ignore[arg-type]
    except (TypeError, ValueError):
        factors = ()
    if len(factors) != len(sizes) or not all(f > 0 and math.isfinite(f) for f in factors):
        raise ValueError(f"scale_factor: got {factor!r}; may be a number above 0, or {SEVERAL[len(sizes)]} above 0")
    scaled = [math.floor(side * f) for side, f in zip(sizes, factors, strict=True)]
    return per_side("scale_factor: the sides of the result", scaled, 1, len(sizes)), factors


class GridSample(Function):
    name = "grid_sample"
    floats = True
    params = ("mode", "padding_mode", "align_corners")

    def __init__(self, mode: str, padding_mode: str, align_corners: bool) -> None:
        self.mode = mode
        self.padding_mode = padding_mode
        self.align_corners = align_corners

    @property
    def how(self) -> tuple[bool, bool, bool]:
        return self.align_corners, self.padding_mode == "border", self.padding_mode == "reflection"

    def forward(self, be: Backend, x: Any, grid: Any) -> Any:
        self.saved = (x, grid)
        return be.grid_sample(x, grid, self.mode == "nearest", *self.how)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        x, grid = self.saved  # type: ignore[misc]
        needs_x, needs_grid = self.needs  # type: ignore[misc]
        nearest, dgrid = self.mode == "nearest", None
        if needs_grid:
            flat = be.full(grid.shape, 0.0, grid.dtype) if nearest else None
            dgrid = be.grid_sample_grid_grad(dy, x, grid, *self.how) if flat is None else flat
        return be.grid_sample_input_grad(dy, grid, x.shape, nearest, *self.how) if needs_x else None, dgrid


def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """``input`` at places: ``y[n, :, i, j]`` is the image ``n`` at ``(grid[n, i, j, 0], grid[n, i, j, 1])``.

    The first number goes across and the second down, from -1 to 1 over the image.

    Args:
        input: images ``(N, C, H, W)``, float32 or float64, with at least one pixel.
        grid: ``(N, OH, OW, 2)`` of the same dtype.
        mode: ``"bilinear"`` or ``"nearest"``.
        padding_mode: what lies outside: ``"zeros"``, ``"border"`` (the pixel at the border), ``"reflection"``.
        align_corners: whether -1 and 1 are the middles of the pixels at the corners, instead of the image's edges.
            None is False.

    Returns:
        ``(N, C, OH, OW)``. Places and weights are float64, each element is summed in float64 and rounded once.
        Gradients: that of the image adds ``dy`` with the same weights; that of the grid is 0 for ``"nearest"``.

    Raises:
        ValueError: another rank, shapes that do not fit, an empty image, an unknown mode.
        TypeError: integers, two float dtypes.

    Source: ONNX operator GridSample; Jaderberg et al., NeurIPS 2015.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.tensor([0.0, 1.0]), (1, 1, 1, 2))
        >>> lucid.nn.functional.grid_sample(x, lucid.zeros(1, 1, 1, 2)).tolist()
        [[[[0.5]]]]
    """
    shape, places = input._array.shape, grid._array.shape
    require_image("grid_sample", shape, 2)
    if len(places) != 4 or places[0] != shape[0] or places[3] != 2:
        raise ValueError(f"grid: got shape {places} beside images of {shape}; must be ({shape[0]}, OH, OW, 2)")
    if 0 in shape[2:]:
        raise ValueError(f"grid_sample: input has shape {shape}; images must have at least one pixel")
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"mode: got {mode!r}; may be 'bilinear' or 'nearest'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"padding_mode: got {padding_mode!r}; may be 'zeros', 'border' or 'reflection'")
    return apply(GridSample(mode, padding_mode, bool(align_corners)), input, grid)


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The grid for ``grid_sample`` that maps each place ``(x, y)`` of the result to ``theta (x, y, 1)`` of the image.

    Args:
        theta: matrices ``(N, 2, 3)``, float32 or float64.
        size: ``(N, C, H, W)`` of the result.
        align_corners: as in ``grid_sample``, which must be told the same.

    Returns:
        ``(N, H, W, 2)``: the matrix product of the places, which are worked out in float64 and rounded once, and
        ``theta``.

    Raises:
        ValueError: another shape of ``theta``, or other sizes.
        TypeError: integers.

    Source: ONNX operator AffineGrid; Jaderberg et al., NeurIPS 2015.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.affine_grid(lucid.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2)).tolist()
        [[[[-0.5, 0.0], [0.5, 0.0]]]]
    """
    sizes = tuple(map(operator.index, size))
    if len(sizes) != 4 or min(sizes[2:], default=0) < 1:
        raise ValueError(f"size: got {tuple(size)}; may be (N, C, H, W) with at least one pixel")
    if theta.shape != (sizes[0], 2, 3):
        raise ValueError(f"theta: got shape {theta.shape}; must be ({sizes[0]}, 2, 3)")
    if theta.dtype.kind != "f":
        raise TypeError(f"affine_grid: got a {theta.dtype} tensor; may be float32 or float64 (convert with .astype)")
    down, across = (middles(count, bool(align_corners)) for count in sizes[2:])
    base = np.stack([*np.meshgrid(across, down), np.ones(sizes[2:])], -1).reshape(-1, 3)
    places = as_tensor(base.astype(theta.dtype), device=theta.device)
    return compose("affine_grid", _affine_grid, theta, places, height=sizes[2], width=sizes[3])


def middles(count: int, align: bool) -> Any:
    """The places of the pixels of a side."""
    i = np.arange(count)
    if align:
        return 2.0 * i / (count - 1.0) - 1.0 if count > 1 else np.zeros(1)
    return (2.0 * i + 1.0) / count - 1.0


def _affine_grid(theta: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    return reshape(matmul(places, transpose(theta, (0, 2, 1))), (theta.shape[0], height, width, 2))


def rotate(
    input: Tensor,
    angle: float,
    center: tuple[float, float] | None = None,
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> Tensor:
    """Images turned counter-clockwise by ``angle`` degrees: ``grid_sample`` at places that are turned back.

    Args:
        input: images ``(N, C, H, W)``, float32 or float64.
        angle: degrees, a finite number.
        center: about which point, ``(across, down)`` in pixels from the upper left corner; None is the image's middle.
        mode: ``"bilinear"`` or ``"nearest"``.
        padding_mode: as in ``grid_sample``.

    Returns:
        A tensor of the input's shape. Cosine and sine are the float64 numbers nearest to those of the angle.

    Raises:
        ValueError: another rank, an angle that is not finite; as ``grid_sample``.
        TypeError: integers.

    Example:
        >>> import lucid
        >>> x = lucid.reshape(lucid.arange(4.0), (1, 1, 2, 2))
        >>> lucid.nn.functional.rotate(x, 90, mode="nearest").tolist()
        [[[[1.0, 3.0], [0.0, 2.0]]]]
    """
    require_image("rotate", input.shape, 2)
    if not math.isfinite(angle):
        raise ValueError(f"angle: got {angle}; may be any finite number")
    if input.dtype.kind != "f":
        raise TypeError(f"rotate: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")
    n, _, height, width = input.shape
    cosine, sine = of_degrees(float(angle))
    x, y = (0.0, 0.0) if center is None else (2.0 * center[0] / width - 1.0, 2.0 * center[1] / height - 1.0)
    tall = height / width if width else 1.0
    rows = np.array([[cosine, -sine * tall, 0.0], [sine / tall if tall else 0.0, cosine, 0.0]])
    rows[:, 2] = np.array([x, y]) - (rows[:, 0] * x + rows[:, 1] * y)
    theta = as_tensor(rows[None].astype(input.dtype), device=input.device)
    grid = affine_grid(theta, (1, 1, height, width))
    return grid_sample(input, broadcast_to(grid, (n, height, width, 2)), mode, padding_mode)
