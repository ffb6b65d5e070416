"""Pooling: ``lucid.ops.pooling`` in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports
from lucid.onnx._windows import window_padding


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
    return (ops.adaptive_avg_pool1d, ops.adaptive_avg_pool2d, ops.adaptive_avg_pool3d)[x.ndim - 3](x, 1)


@imports("MaxPool")
def _import_max_pool(call: Call, x: Tensor) -> Tensor:
    sides = x.ndim - 2
    stride, dilation = call["strides"] or [1] * sides, call["dilations"] or [1] * sides
    x, padding = window_padding(call, x, call["kernel_shape"], stride, dilation, -np.inf)
    pool = (ops.max_pool1d, ops.max_pool2d, ops.max_pool3d)[sides - 1]
    return pool(x, tuple(call["kernel_shape"]), tuple(stride), padding, tuple(dilation), bool(call["ceil_mode"]))
