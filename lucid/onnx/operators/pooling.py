"""Pooling: ``lucid.ops.pooling`` in ONNX."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import linalg, ops
from lucid.core.tensor import Tensor, as_tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports
from lucid.onnx._taps import Bins, WindowSum, resampled
from lucid.onnx._windows import Pooling, padded, pooling_of


@exports("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(b: Builder, node: Node) -> None:
    before, after, _ = pool_padding(b, node, node.attrs["dilation"])
    b.emit(
        "MaxPool",
        node,
        node.inputs,
        kernel_shape=list(node.attrs["kernel_size"]),
        strides=list(node.attrs["stride"]),
        pads=[*before, *after],
        dilations=list(node.attrs["dilation"]),
    )


@exports("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(b: Builder, node: Node) -> None:
    before, after, overhangs = pool_padding(b, node, (1,) * len(node.attrs["kernel_size"]))
    counts_padding = node.attrs["count_include_pad"] and any(before)
    if counts_padding and overhangs:
        raise ValueError(
            f"{node.name!r}: an average pooling whose last window reaches beyond the padding (ceil_mode), and that "
            "counts the padding, has no counterpart in the ONNX export; use count_include_pad=False"
        )
    b.emit(
        "AveragePool",
        node,
        node.inputs,
        kernel_shape=list(node.attrs["kernel_size"]),
        strides=list(node.attrs["stride"]),
        pads=[*before, *after],
        count_include_pad=int(counts_padding),
    )


def pool_padding(b: Builder, node: Node, dilation: Sequence[int]) -> tuple[list[int], list[int], bool]:
    """Padding before and after, and whether a last window (of ceil_mode) reaches beyond lucid's own padding.

    The padding behind is widened to where that window ends, so that ONNX's own ceil_mode, whose meaning changed between
    versions, is not needed.
    """
    before = list(node.attrs["padding"])
    after = []
    for side, outputs, kernel, stride, step, pad in zip(
        b.shape(node.inputs[0])[2:],
        b.shape(node.output)[2:],
        node.attrs["kernel_size"],
        node.attrs["stride"],
        dilation,
        before,
        strict=True,
    ):
        if not (isinstance(side, int) and isinstance(outputs, int)):
            raise ValueError(f"{node.name!r}: a pooling of images of open size cannot be exported")
        end = (outputs - 1) * stride + step * (kernel - 1) + 1
        after.append(max(pad, end - side - pad))
    return before, after, after != before


@exports("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def _adaptive_avg_pool(b: Builder, node: Node) -> None:
    sides = b.shape(node.inputs[0])[2:]
    outputs = b.shape(node.output)[2:]
    windows = [_window(side, out) for side, out in zip(sides, outputs, strict=True)]
    if set(outputs) == {1}:
        b.emit("GlobalAveragePool", node, node.inputs)
    elif all(windows):
        b.emit("AveragePool", node, node.inputs, kernel_shape=windows, strides=windows)
    else:  # windows of several sizes: as products with matrices of averages
        _averaged(b, node, sides, outputs)


@exports("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max_pool(b: Builder, node: Node) -> None:
    outputs = b.shape(node.output)[2:]
    windows = [_window(side, out) for side, out in zip(b.shape(node.inputs[0])[2:], outputs, strict=True)]
    if set(outputs) == {1}:
        b.emit("GlobalMaxPool", node, node.inputs)
    elif all(windows):
        b.emit("MaxPool", node, node.inputs, kernel_shape=windows, strides=windows)
    else:
        raise ValueError(
            f"{node.name!r}: an adaptive max pooling whose windows are of several sizes has no counterpart in the ONNX "
            "export; sides that are multiples of the output's have"
        )


def _averaged(b: Builder, node: Node, sides: Sequence[Any], outputs: Sequence[Any]) -> None:
    """By matrices: the last side by one behind, the one before it by one in front, the first of three turned last."""
    dtype, value, last = b.dtype(node.output), node.inputs[0], len(sides) - 1
    if last == 2:
        turned = b.emit("Transpose", node, [value], "turned", perm=[0, 1, 3, 4, 2])
        planes = b.constant(node, "planes", _averages(sides[0], outputs[0]).T, dtype)
        averaged = b.emit("MatMul", node, [turned, planes], "planes_averaged")
        value = b.emit("Transpose", node, [averaged], "turned_back", perm=[0, 1, 4, 2, 3])
    if last > 0:
        rows = b.constant(node, "rows", _averages(sides[last - 1], outputs[last - 1]), dtype)
        value = b.emit("MatMul", node, [rows, value], "rows_averaged")
    b.emit("MatMul", node, [value, b.constant(node, "columns", _averages(sides[last], outputs[last]).T, dtype)])


def _window(side: Any, outputs: Any) -> int:
    """The size of the windows, if they have one size and share nothing; else 0."""
    return side // outputs if outputs and side % outputs == 0 else 0


def _averages(side: Any, outputs: Any) -> np.ndarray:
    matrix = np.zeros((outputs, side))
    for i in range(outputs):
        start, stop = i * side // outputs, -(-(i + 1) * side // outputs)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


@imports("GlobalAveragePool")
def _import_global_average(call: Call, x: Tensor) -> Tensor:
    if not 3 <= x.ndim <= 5:
        return ops.mean(x, tuple(range(2, x.ndim)), keepdims=True)
    return (ops.adaptive_avg_pool1d, ops.adaptive_avg_pool2d, ops.adaptive_avg_pool3d)[x.ndim - 3](x, 1)


@imports("GlobalMaxPool")
def _import_global_max(call: Call, x: Tensor) -> Tensor:
    if not 3 <= x.ndim <= 5:
        return ops.max(x, tuple(range(2, x.ndim)), keepdims=True)
    return (ops.adaptive_max_pool1d, ops.adaptive_max_pool2d, ops.adaptive_max_pool3d)[x.ndim - 3](x, 1)


@imports("GlobalLpPool")
def _import_global_lp(call: Call, x: Tensor) -> Tensor:
    return linalg.vector_norm(x, call["p"], tuple(range(2, x.ndim)), keepdims=True)


_MAX_POOL = (ops.max_pool1d, ops.max_pool2d, ops.max_pool3d)
_AVG_POOL = (ops.avg_pool1d, ops.avg_pool2d, ops.avg_pool3d)


@imports("MaxPool")
def _import_max_pool(call: Call, x: Tensor) -> Any:
    pooling = pooling_of(call, x.shape[2:])
    floats = x if x.dtype.kind == "f" else x.astype(np.float32)  # 8 bits, exactly
    laid, padding, ceil = pooling.room(floats, -np.inf)
    pool, where = _MAX_POOL[len(padding) - 1], len(call.outputs) > 1 and bool(call.outputs[1])
    geometry = pooling.kernel, pooling.stride, padding, pooling.dilation, ceil
    if not where:
        return pooling.cut(pool(laid, *geometry)).astype(x.dtype)
    y, index = pool(laid, *geometry, return_indices=True)
    moved = laid.shape != x.shape
    places = _places(call, pooling.cut(index), x.shape, laid.shape[2:], [a for a, _ in pooling.pads] if moved else None)
    return pooling.cut(y).astype(x.dtype), places


def _places(
    call: Call, index: Tensor, shape: Sequence[int], laid: Sequence[int], before: Sequence[int] | None
) -> Tensor:
    """Places in the whole of ``x``, of places on images of the sides ``laid``, which may have a border."""
    n, channels, *sides = shape
    images = np.arange(n * channels, dtype=np.int64).reshape(n, channels, *[1] * len(sides)) * math.prod(sides)
    turned = bool(call["storage_order"])
    if turned or before is not None:
        rest, numbers = index, []
        for side in reversed(laid):
            numbers.append(rest % side)
            rest = rest // side
        numbers.reverse()
        if before is not None:
            numbers = [number - a for number, a in zip(numbers, before, strict=True)]
        order = list(zip(numbers, sides, strict=True))
        index = ops.zeros_like(index)
        for number, side in reversed(order) if turned else order:
            index = index * side + number
    return index + as_tensor(images, device=index.device)


@imports("AveragePool")
def _import_average_pool(call: Call, x: Tensor) -> Tensor:
    pooling, counts = pooling_of(call, x.shape[2:]), bool(call["count_include_pad"])
    if max(pooling.dilation) > 1:
        return resampled(x, *_sums(pooling, [pair if counts else (0, 0) for pair in pooling.pads]))
    laid, padding, ceil = pooling.room(x, 0.0, not counts)
    if laid is not x and not counts:  # what was laid around would count
        return resampled(x, *_sums(pooling, [(0, 0)] * len(padding)))
    pool = _AVG_POOL[len(padding) - 1]
    return pooling.cut(pool(laid, pooling.kernel, pooling.stride, padding, ceil, counts))


def _sums(pooling: Pooling, counted: Sequence[tuple[int, int] | None]) -> list[WindowSum]:
    numbers = zip(pooling.output, pooling.kernel, pooling.stride, pooling.dilation, pooling.pads, counted, strict=True)
    return [WindowSum(n, size, step, gap, before, pair) for n, size, step, gap, (before, _), pair in numbers]


@imports("LpPool")
def _import_lp_pool(call: Call, x: Tensor) -> Tensor:
    """The power's sum over each window in float64, then its root."""
    p, pooling = call["p"], pooling_of(call, x.shape[2:])
    powers = ops.square(x) if p == 2 else ops.abs(x) if p == 1 else ops.power(ops.abs(x), p)
    sums = resampled(powers, *_sums(pooling, [None] * len(pooling.output)))
    return ops.sqrt(sums) if p == 2 else sums if p == 1 else ops.power(sums, 1.0 / p)


@imports("MaxUnpool", host=(2,))
def _import_max_unpool(call: Call, x: Tensor, index: Tensor, shape: np.ndarray | None = None) -> Tensor:
    sides = x.ndim - 2
    pads, steps = call["pads"] or [0] * 2 * sides, call["strides"] or [1] * sides
    least = [
        (n - 1) * step - before - after + size
        for n, step, before, after, size in zip(
            x.shape[2:], steps, pads[:sides], pads[sides:], call["kernel_shape"], strict=True
        )
    ]
    flat = ops.zeros(math.prod(x.shape[:2]) * math.prod(least), dtype=x.dtype, device=call.device)
    put = ops.scatter(flat, 0, ops.reshape(index, (-1,)), ops.reshape(x, (-1,)))
    y = ops.reshape(put, (*x.shape[:2], *least))
    if shape is None:
        return y
    more = [(0, int(side) - n) for side, n in zip(shape[2:], least, strict=True)]
    return padded(y, more)


@imports("MaxRoiPool", host=(1,))
def _import_max_roi_pool(call: Call, x: Tensor, rois: np.ndarray) -> Tensor:
    """Of each bin the rows and columns, some of them again so that all bins are as large; of an empty one 0."""
    found = []
    for batch, *corners in rois.astype(np.float32):
        left, top, right, bottom = (math.floor(float(v * np.float32(call["spatial_scale"])) + 0.5) for v in corners)
        image, empty = x[int(batch) : int(batch) + 1], np.zeros((), bool)
        kernel = []
        for axis, (start, end), bins in zip((2, 3), ((top, bottom), (left, right)), call["pooled_shape"], strict=True):
            width = max(end - start + 1, 1) / bins
            low = np.clip(np.floor(np.arange(bins) * width).astype(np.int64) + start, 0, x.shape[axis])
            high = np.clip(np.ceil(np.arange(1, bins + 1) * width).astype(np.int64) + start, 0, x.shape[axis])
            most = max(1, int((high - low).max()))
            places = np.minimum(low[:, None] + np.arange(most), np.maximum(high, 1)[:, None] - 1)
            image = ops.index_select(image, axis, np.clip(places, 0, x.shape[axis] - 1).reshape(-1))
            empty = empty[..., None] | (high <= low)
            kernel.append(most)
        largest = ops.max_pool2d(image, tuple(kernel), tuple(kernel))
        found.append(ops.masked_fill(largest, as_tensor(empty, device=x.device), 0.0) if empty.any() else largest)
    return (
        ops.concatenate(found)
        if found
        else ops.zeros((0, x.shape[1], *call["pooled_shape"]), dtype=x.dtype, device=x.device)
    )


_MOST_PLACES = 2**20
"""Of a region, along a side."""


@imports("RoiAlign", host=(1, 2))
def _import_roi_align(call: Call, x: Tensor, rois: np.ndarray, batch: np.ndarray) -> Tensor:
    """Version 10 has places half a pixel further, and bins of at least one pixel."""
    half = call.version >= 16 and call["coordinate_transformation_mode"] == "half_pixel"
    scale, samples = call["spatial_scale"], call["sampling_ratio"]
    sizes = call["output_height"] or 1, call["output_width"] or 1
    found = []
    for (left, top, right, bottom), at in zip(
        rois.astype(np.float64) * scale - (0.5 if half else 0.0), batch, strict=True
    ):
        image, rules = x[int(at) : int(at) + 1], []
        for start, end, bins in ((top, bottom, sizes[0]), (left, right, sizes[1])):
            length = end - start if half else max(end - start, 1.0)
            if not max(abs(start), abs(length)) * max(samples, 1) <= _MOST_PLACES:
                raise call.refuse(f"a region from {start} to {end} with sampling_ratio {samples} is too large")
            rules.append(Bins(bins, start, length / bins, samples or max(1, math.ceil(length / bins))))
        found.append(resampled(image, *rules) if call["mode"] != "max" else _largest(image, *rules))
    return ops.concatenate(found) if found else ops.zeros((0, x.shape[1], *sizes), dtype=x.dtype, device=x.device)


def _largest(image: Tensor, down: Bins, across: Bins) -> Tensor:
    """RoiAlign's maximum: of the four elements around each place, times their weights."""
    (rows, high), (columns, wide) = down.around(image.shape[2]), across.around(image.shape[3])
    terms = []
    for i, j in itertools.product(range(2), range(2)):
        four = ops.index_select(ops.index_select(image, 2, rows[..., i].reshape(-1)), 3, columns[..., j].reshape(-1))
        weight = np.multiply.outer(high[..., i].reshape(-1), wide[..., j].reshape(-1)).astype(image.dtype)
        terms.append(four * as_tensor(weight, device=image.device))
    kernel = down.samples, across.samples
    return ops.max_pool2d(functools.reduce(ops.maximum, terms), kernel, kernel)
