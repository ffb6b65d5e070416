"""Resizing: ``lucid.ops.resize`` in ONNX."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor, as_tensor
from lucid.graph import Node
from lucid.kernels.pool.taps import CUBIC, far, near
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports
from lucid.onnx._taps import MOST_SIDES, Resizing, resampled
from lucid.ops.resize import middles


@exports("interpolate")
def _interpolate(b: Builder, node: Node) -> None:
    mode, aligned = node.attrs["mode"], node.attrs["align_corners"]
    attrs: dict[str, Any] = {"coordinate_transformation_mode": "align_corners" if aligned else "half_pixel"}
    if mode == "nearest":
        attrs |= {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    elif mode == "nearest-exact":
        attrs |= {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
    elif mode == "bicubic":
        attrs |= {"mode": "cubic", "cubic_coeff_a": -0.5 if node.attrs["antialias"] else -0.75}
    else:
        attrs["mode"] = "linear"
    if node.attrs["antialias"]:
        if b.opset < 18:
            raise ValueError(f"{node.name!r}: resizing with antialiasing has a counterpart in ONNX from opset 18 on")
        attrs |= {"antialias": 1, "exclude_outside": 1}
    shape = b.shape(node.output)
    if not all(isinstance(side, int) for side in shape):
        raise ValueError(f"{node.name!r}: a resizing of images of open size has no counterpart in the ONNX export")
    if node.attrs["scale_factor"] is None:
        b.emit("Resize", node, [node.inputs[0], None, None, b.constant(node, "sizes", shape)], **attrs)
    else:
        scales = b.constant(node, "scales", [1.0, 1.0, *node.attrs["scale_factor"]], np.float32)
        b.emit("Resize", node, [node.inputs[0], None, scales], **attrs)


@exports("grid_sample")
def _grid_sample(b: Builder, node: Node) -> None:
    if b.opset < 16:
        raise ValueError(f"{node.name!r}: grid_sample has a counterpart in ONNX, GridSample, from opset 16 on")
    mode = "linear" if node.attrs["mode"] == "bilinear" and b.opset >= 20 else node.attrs["mode"]
    attrs = {"padding_mode": node.attrs["padding_mode"], "align_corners": int(node.attrs["align_corners"])}
    b.emit("GridSample", node, node.inputs, mode=mode, **attrs)


@imports("Resize", host=(1, 2, 3))
def _import_resize(
    call: Call,
    x: Tensor,
    roi: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> Tensor:
    """By lucid's own interpolation where it is the same, else by tables of taps; nearest elements are only moved."""
    if call.version < 11:
        roi, scales = None, roi
    axes = [axis % x.ndim for axis in call["axes"] or range(x.ndim)]
    corners = np.concatenate([[0.0] * len(axes), [1.0] * len(axes)]) if roi is None or not roi.size else roi
    factors, outputs = _lengths(call, [x.shape[axis] for axis in axes], scales, sizes)
    rules = {}
    for i, axis in enumerate(axes):
        rule = Resizing(
            outputs[i],
            factors[i],
            call["mode"],
            call["coordinate_transformation_mode"] or "asymmetric",
            call["nearest_mode"] or "simple",
            call["cubic_coeff_a"] or -0.75,
            bool(call["exclude_outside"]),
            bool(call["antialias"]),
            (float(corners[i]), float(corners[len(axes) + i])),
        )
        if not (rule.scale == 1.0 and rule.output == x.shape[axis] and rule.roi == (0.0, 1.0)):
            rules[axis] = rule
    own = _own_mode(x, rules)
    if own:
        size = tuple(rules[axis].output if axis in rules else x.shape[axis] for axis in range(2, x.ndim))
        aligned = own[1] if own[0] not in ("nearest", "nearest-exact") else None
        return ops.interpolate(x, size, mode=own[0], align_corners=aligned)
    y = _nearest(x, rules) if call["mode"] == "nearest" else _by_taps(x, rules)
    for axis, rule in rules.items():
        outside = rule.outside(x.shape[axis])
        if outside.any():
            mask = as_tensor(outside.reshape(-1, *[1] * (x.ndim - axis - 1)), device=x.device)
            y = ops.where(mask, ops.full_like(y, call["extrapolation_value"]), y)
    return y


@imports("Upsample", host=(1,))
def _import_upsample(call: Call, x: Tensor, scales: np.ndarray | None = None) -> Tensor:
    given = np.float32(call["scales"]) if scales is None else scales
    if call["mode"] not in ("nearest", "linear"):
        raise call.refuse(f"mode is {call['mode']!r}; it may be 'nearest' or 'linear'")
    return _import_resize(dataclasses.replace(call, version=10), x, given)


def _lengths(
    call: Call, sides: list[int], scales: np.ndarray | None, sizes: np.ndarray | None
) -> tuple[list[float], list[int]]:
    """The scale of each side, and how long it gets."""
    if (scales is None or not scales.size) == (sizes is None or not sizes.size):
        raise call.refuse("one of scales and sizes must be given, the other not")
    if sizes is None or not sizes.size:
        long = np.floor(np.asarray(sides, np.float32) * np.asarray(scales, np.float32))
        return [float(scale) for scale in np.asarray(scales)], [int(n) for n in long]
    factors, outputs = [int(n) / side for n, side in zip(sizes, sides, strict=True)], [int(n) for n in sizes]
    policy = call["keep_aspect_ratio_policy"] or "stretch"
    if policy != "stretch":
        factor = min(factors) if policy == "not_larger" else max(factors)
        factors, outputs = [factor] * len(sides), [math.floor(factor * side + 0.5) for side in sides]
    return factors, outputs


def _own_mode(x: Tensor, rules: dict[int, Resizing]) -> tuple[str, bool] | None:
    """The mode of ``interpolate`` that is the same, and whether corners are aligned; None where there is none."""
    sides, several = x.ndim - 2, set(rules)
    exact = all(rule.output == rule.scale * x.shape[axis] for axis, rule in rules.items())
    plain = not any(rule.exclude or rule.smoothed for rule in rules.values())
    kinds = {(rule.mode, rule.transformation, rule.nearest, rule.cubic) for rule in rules.values()}
    if not (1 <= sides <= 3 and several <= set(range(2, x.ndim)) and x.dtype.kind == "f"):
        return None
    if len(kinds) != 1 or not exact or not plain:
        return None
    ((mode, transformation, nearest, cubic),) = kinds
    if transformation == "pytorch_half_pixel" and all(rule.output > 1 for rule in rules.values()):
        transformation = "half_pixel"
    if mode == "nearest":
        up = all(rule.scale >= 1 for rule in rules.values())
        floors = transformation == "asymmetric" and (nearest == "floor" or (nearest == "simple" and up))
        if floors:
            return "nearest", False
        return ("nearest-exact", False) if (transformation, nearest) == ("half_pixel", "round_prefer_ceil") else None
    if transformation not in ("half_pixel", "align_corners") or (mode == "cubic" and (sides != 2 or cubic != -0.75)):
        return None
    return "bicubic" if mode == "cubic" else ("linear", "bilinear", "trilinear")[sides - 1], (
        transformation == "align_corners"
    )


def _nearest(x: Tensor, rules: dict[int, Resizing]) -> Tensor:
    for axis, rule in rules.items():
        x = ops.index_select(x, axis, rule.elements(x.shape[axis]))
    return x


def _by_taps(x: Tensor, rules: dict[int, Resizing]) -> Tensor:
    """Three sides at a time; integers in float64, to the nearest and to what the type can hold."""
    dtype, shape = x.dtype, list(x.shape)
    if dtype.kind != "f":
        x = x.astype(np.float64)
    todo = list(rules.items())
    while todo:
        now, todo = dict(todo[:MOST_SIDES]), todo[MOST_SIDES:]
        order = [axis for axis in range(x.ndim) if axis not in now] + list(now)
        for axis, rule in now.items():
            shape[axis] = rule.output
        images = ops.reshape(ops.transpose(x, order), (1, -1, *(x.shape[axis] for axis in now)))
        made = ops.reshape(resampled(images, *now.values()), [shape[axis] for axis in order])
        x = ops.transpose(made, [int(place) for place in np.argsort(order)])
    if dtype.kind == "f":
        return x
    limits = np.iinfo(dtype)
    return ops.clip(ops.round(x), limits.min, limits.max).astype(dtype)


# -- sampling --------------------------------------------------------------------------------------------------------


@imports("GridSample")
def _import_grid_sample(call: Call, x: Tensor, grid: Tensor) -> Tensor:
    """Two sides by ``grid_sample``; more sides, and cubic convolution, by gathering each element in float64."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(call["mode"], call["mode"])
    padding, aligned = call["padding_mode"], bool(call["align_corners"])
    if mode not in ("linear", "nearest", "cubic") or padding not in ("zeros", "border", "reflection"):
        raise call.refuse(f"mode is {mode!r} and padding_mode {padding!r}; ONNX does not have them")
    if x.ndim == 4 and mode != "cubic":
        own = "bilinear" if mode == "linear" else mode
        return ops.grid_sample(x, grid, own, padding, aligned)
    places = []
    for axis, size in enumerate(x.shape[2:]):
        v = grid[..., x.ndim - 3 - axis].astype(np.float64)
        place = (v + 1.0) * ((size - 1) / 2) if aligned else ((v + 1.0) * size - 1.0) * 0.5
        if mode == "nearest":
            place = ops.round(place)
        if padding == "border":
            place = ops.clip(place, 0.0, size - 1.0)
        elif padding == "reflection":
            place = _reflected(place, size, aligned)
        places.append(place)
    return sampled(x, places, mode, padding, aligned)


def _reflected(place: Tensor, size: int, aligned: bool) -> Tensor:
    """Places beyond the ends mirrored at them, as often as needed."""
    first, last = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
    if last == first:
        return ops.zeros_like(place)
    away = ops.abs(place - first)
    turns = ops.floor(away / (last - first))
    rest = away - turns * (last - first)
    odd = ops.not_equal(ops.floor(turns * 0.5) * 2.0, turns)
    return ops.where(odd, last - rest, rest + first)


def sampled(x: Tensor, places: list[Tensor], mode: str, padding: str = "zeros", aligned: bool = True) -> Tensor:
    """Images ``(N, C, *sides)`` at places ``(N, *shape)``, in elements and float64, one for each side.

    Returns:
        ``(N, C, *shape)``; each is summed in float64 tap by tap, the last side's fastest.
    """
    n, channels, *sides = x.shape
    values = ops.reshape(x.astype(np.float64), (n, channels, -1))
    taps = [_around(place, size, mode, padding, aligned) for place, size in zip(places, sides, strict=True)]
    terms = []
    for chosen in itertools.product(*taps):
        index, weight = chosen[0]
        for (at, factor), size in zip(chosen[1:], sides[1:], strict=True):
            index, weight = index * size + at, weight * factor
        flat = ops.broadcast_to(ops.reshape(index, (n, 1, -1)), (n, channels, index.size // max(n, 1)))
        terms.append(ops.gather(values, 2, flat) * ops.reshape(weight, (n, 1, -1)))
    total = functools.reduce(ops.add, terms)
    return ops.reshape(total, (n, channels, *places[0].shape[1:])).astype(x.dtype)


def _around(place: Tensor, size: int, mode: str, padding: str, aligned: bool) -> list[tuple[Tensor, Tensor]]:
    """The elements around each place, and their weights."""
    low = ops.floor(place.detach())
    t = place - low
    if mode == "nearest":
        weights = {0: ops.ones_like(t)}
    elif mode == "linear":
        weights = {0: 1.0 - t, 1: t}
    else:
        a = CUBIC
        weights = {-1: far(t + 1.0, a), 0: near(t, a), 1: near(1.0 - t, a), 2: far(2.0 - t, a)}
    found = []
    for step, weight in weights.items():
        at = low + float(step)
        if padding == "reflection":
            at = ops.trunc(_reflected(at, size, aligned))
        inside = ops.clip(at, 0.0, size - 1.0)
        if padding == "zeros":
            weight = ops.where(ops.equal(at, inside), weight, ops.zeros_like(weight))
        found.append((inside.astype(np.int64), weight))
    return found


@imports("AffineGrid", host=(1,))
def _import_affine_grid(call: Call, theta: Tensor, size: np.ndarray) -> Tensor:
    if len(size) == 4:
        return ops.affine_grid(theta, [int(n) for n in size], bool(call["align_corners"]))
    if len(size) != 5 or theta.shape[1:] != (3, 4):
        raise call.refuse(f"size is {size.tolist()} and theta has shape {theta.shape}; images have two or three sides")
    n, sides = int(size[0]), [int(side) for side in size[2:]]
    lines = [middles(side, bool(call["align_corners"])) for side in sides]
    depth, down, across = np.meshgrid(*lines, indexing="ij")
    base = np.stack([across, down, depth, np.ones(sides)], -1).reshape(-1, 4).astype(theta.dtype)
    grid = ops.matmul(as_tensor(base, device=theta.device), ops.transpose(theta, (0, 2, 1)))
    return ops.reshape(grid, (n, *sides, 3))
