"""Resizing of images of one to three sides (``ARITHMETIC.md``, section 8.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from lucid.backends import Backend
from lucid.core.tensor import Tensor
from lucid.kernels.declare import Sides
from lucid.kernels.pool import taps
from lucid.ops import pooling
from lucid.ops._function import Function, apply
from lucid.ops._window import MOST, SEVERAL, SidesLike, cached, per_side

__all__ = ["interpolate"]

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
