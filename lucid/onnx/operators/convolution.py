"""Convolution: ``lucid.ops.convolution`` in ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor, as_tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports
from lucid.onnx._windows import padded, window_padding
from lucid.onnx.operators.resize import sampled


@exports("conv1d", "conv2d", "conv3d")
def _conv(b: Builder, node: Node) -> None:
    b.emit("Conv", node, node.inputs, **_windows(b, node))


@exports("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(b: Builder, node: Node) -> None:
    """ONNX Runtime takes an output padding below the stride: the rest of a larger one (below the dilation) is what the
    padding behind takes away less, or zeros behind."""
    x, weight, bias = node.inputs
    attrs, wider = _windows(b, node), list(node.attrs["output_padding"])
    beyond = [max(0, more - step + 1) for more, step in zip(wider, node.attrs["stride"], strict=True)]
    behind = [pad - more for pad, more in zip(node.attrs["padding"], beyond, strict=True)]
    attrs["output_padding"] = [more - less for more, less in zip(wider, beyond, strict=True)]
    attrs["pads"] = [*node.attrs["padding"], *(max(0, pad) for pad in behind)]
    if min(behind) >= 0:
        b.emit("ConvTranspose", node, node.inputs, **attrs)
        return
    y = b.emit("ConvTranspose", node, [x, weight], "inside", **attrs)
    widths = [0] * (len(behind) + 4) + [max(0, -pad) for pad in behind]
    y = b.emit("Pad", node, [y, b.constant(node, "widths", widths)], "" if bias is None else "padded")
    if bias is not None:
        column = b.constant(node, "column", [-1, *[1] * len(behind)])
        b.emit("Add", node, [y, b.emit("Reshape", node, [bias, column], "bias")])


@exports("unfold")
def _unfold(b: Builder, node: Node) -> None:
    """A convolution of each channel by itself with the taps of the window one by one: exact for finite images."""
    kernel, channels = list(node.attrs["kernel_size"]), b.shape(node.inputs[0])[1]
    if not isinstance(channels, int):
        raise ValueError(f"{node.name!r}: windows of images with an open number of channels cannot be exported")
    taps = int(np.prod(kernel))
    one = np.eye(taps).reshape(taps, 1, *kernel)
    weight = b.constant(node, "taps", np.tile(one, (channels, 1, 1, 1)), b.dtype(node.output))
    attrs: dict[str, Any] = {"strides": list(node.attrs["stride"]), "dilations": list(node.attrs["dilation"])}
    pads = list(node.attrs["padding"]) * 2
    columns = b.emit(
        "Conv", node, [node.inputs[0], weight], "columns", kernel_shape=kernel, pads=pads, group=channels, **attrs
    )
    b.emit("Reshape", node, [columns, b.constant(node, "shape", [0, channels * taps, -1])])


@exports("fold")
def _fold(b: Builder, node: Node) -> None:
    if b.opset < 18:
        raise ValueError(f"{node.name!r}: fold has a counterpart in ONNX, Col2Im, from opset 18 on")
    sides = b.constant(node, "sides", node.attrs["output_size"])
    kernel = b.constant(node, "kernel", node.attrs["kernel_size"])
    attrs: dict[str, Any] = {"strides": list(node.attrs["stride"]), "dilations": list(node.attrs["dilation"])}
    b.emit("Col2Im", node, [node.inputs[0], sides, kernel], pads=list(node.attrs["padding"]) * 2, **attrs)


def _windows(b: Builder, node: Node) -> dict[str, Any]:
    return {
        "kernel_shape": list(b.shape(node.inputs[1])[2:]),
        "strides": list(node.attrs["stride"]),
        "pads": list(node.attrs["padding"]) * 2,
        "dilations": list(node.attrs["dilation"]),
        "group": node.attrs["groups"],
    }


_CONV = {1: ops.conv1d, 2: ops.conv2d, 3: ops.conv3d}
_CONV_TRANSPOSE = {1: ops.conv_transpose1d, 2: ops.conv_transpose2d, 3: ops.conv_transpose3d}


def _check(call: Call, x: Tensor, weight: Tensor) -> int:
    """How many sides the images have."""
    sides = x.ndim - 2
    if not 1 <= sides <= 3:
        raise call.refuse(f"its images have {sides} sides; they may have one to three")
    if call["kernel_shape"] and tuple(call["kernel_shape"]) != weight.shape[2:]:
        raise call.refuse(f"kernel_shape is {call['kernel_shape']}; its weight has shape {weight.shape}")
    return sides


@imports("Conv")
def _import_conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    sides = _check(call, x, weight)
    stride, dilation = call["strides"] or [1] * sides, call["dilations"] or [1] * sides
    x, padding = window_padding(call, x, weight.shape[2:], stride, dilation)
    return _CONV[sides](x, weight, bias, tuple(stride), padding, tuple(dilation), call["group"])


@imports("ConvTranspose")
def _import_conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The whole result is cut by ``pads``; lucid cuts both ends alike and lengthens the last one."""
    sides = _check(call, x, weight)
    ones = [1] * sides
    stride, dilation = call["strides"] or ones, call["dilations"] or ones
    geometry = zip(x.shape[2:], stride, dilation, weight.shape[2:], strict=True)
    whole = [(n - 1) * step + gap * (size - 1) + 1 for n, step, gap, size in geometry]
    padding, more, rest = [], [], []
    for (before, after), step, gap in zip(_cuts(call, x, stride, whole), stride, dilation, strict=True):
        cut = max(before, 0)
        longer = cut - after
        kept = min(max(longer, 0), max(step, gap) - 1)
        padding.append(cut)
        more.append(kept)
        rest.append((max(-before, 0), longer - kept))
    beyond = any(a > 0 or b > 0 for a, b in rest)
    y = _CONV_TRANSPOSE[sides](
        x, weight, None if beyond else bias, tuple(stride), tuple(padding), tuple(more), call["group"], tuple(dilation)
    )
    y = padded(y, rest)
    return y + ops.reshape(bias, (-1, *ones)) if beyond and bias is not None else y


def _cuts(call: Call, x: Tensor, stride: Sequence[int], whole: Sequence[int]) -> list[tuple[int, int]]:
    """What is cut before and after each side of the whole result; negative where it is lengthened."""
    sides = len(stride)
    more = call["output_padding"] or [0] * sides
    rule = call["auto_pad"] or "NOTSET"
    wanted = call["output_shape"]
    if wanted is None and rule.startswith("SAME"):
        wanted = [n * step for n, step in zip(x.shape[2:], stride, strict=True)]
    if wanted is None:
        pads = (call["pads"] if rule == "NOTSET" else None) or [0] * 2 * sides
        return [(a, b - extra) for a, b, extra in zip(pads[:sides], pads[sides:], more, strict=True)]
    found = []
    for side, n, extra in zip(wanted[-sides:], whole, more, strict=True):
        total = n + extra - side
        less = max(total, 0) // 2
        before = less if rule == "SAME_UPPER" else max(total, 0) - less
        found.append((before, total - before - extra))
    return found


@imports("Col2Im", host=(1, 2))
def _import_col2im(call: Call, x: Tensor, image: np.ndarray, block: np.ndarray) -> Tensor:
    """Of two sides ``fold``, on images with their padding; else each column's elements are added one by one."""
    sides, (n, rows, _) = len(image), x.shape
    pads = call["pads"] or [0] * 2 * sides
    steps, gaps = call["strides"] or [1] * sides, call["dilations"] or [1] * sides
    ends = list(zip(pads[:sides], pads[sides:], strict=True))
    whole = [int(side) + a + b for side, (a, b) in zip(image, ends, strict=True)]
    kernel = tuple(map(int, block))
    if sides == 2:
        even = all(a == b for a, b in ends)
        if even:
            whole = list(map(int, image))
        y = ops.fold(x, tuple(whole), kernel, tuple(gaps), tuple(pads[:2]) if even else 0, tuple(steps))
        return y if even else padded(y, [(-a, -b) for a, b in ends])
    places = np.zeros((), np.int64)
    for side, size, step, gap in zip(whole, kernel, steps, gaps, strict=True):
        starts = np.arange(0, side - gap * (size - 1), step)
        place = np.arange(size)[:, None] * gap + starts
        grown = places[..., None, None] * side
        places = grown + place.reshape(*(1,) * places.ndim, *place.shape)
    order = (*range(0, 2 * sides, 2), *range(1, 2 * sides, 2))
    index = places.transpose(order).reshape(-1)
    columns = ops.reshape(x, (n, rows // math.prod(kernel), -1))
    if columns.shape[2] != index.size:
        raise call.refuse(
            f"its columns are of shape {x.shape}; on images {tuple(image)} it needs {index.size} elements"
        )
    empty = ops.zeros((*columns.shape[:2], math.prod(whole)), dtype=x.dtype, device=call.device)
    y = ops.reshape(ops.index_add(empty, 2, index, columns), (*columns.shape[:2], *whole))
    return padded(y, [(-a, -b) for a, b in ends])


@imports("DeformConv")
def _import_deform_conv(
    call: Call,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Each tap's elements at their own places, times ``mask``, and a product with the weight."""
    sides = _check(call, x, weight)
    n, groups, apart, taps = x.shape[0], call["group"], call["offset_group"], math.prod(weight.shape[2:])
    stride, dilation, pads = (
        call["strides"] or [1] * sides,
        call["dilations"] or [1] * sides,
        call["pads"] or [0] * sides,
    )
    shape = offset.shape[2:]
    if offset.shape[1] != apart * taps * sides or x.shape[1] % apart:
        raise call.refuse(f"offset has shape {offset.shape}; it must have {apart * taps * sides} channels")
    moves = ops.reshape(offset.astype(np.float64), (n * apart, taps, sides, *shape))
    grid = np.meshgrid(*map(np.arange, weight.shape[2:]), indexing="ij")
    places = []
    for axis, (step, gap, before) in enumerate(zip(stride, dilation, pads, strict=False)):
        start = np.arange(shape[axis]).reshape(-1, *[1] * (sides - axis - 1)) * step - before
        tap = grid[axis].reshape(-1, *[1] * sides) * gap
        places.append(moves[:, :, axis] + as_tensor((tap + start).astype(np.float64), device=x.device))
    columns = sampled(ops.reshape(x, (n * apart, x.shape[1] // apart, *x.shape[2:])), places, "linear")
    if mask is not None:
        columns = columns * ops.reshape(mask, (n * apart, 1, taps, *shape))
    columns = ops.reshape(columns, (n, groups, -1, math.prod(shape)))
    y = ops.matmul(ops.reshape(weight, (1, groups, weight.shape[0] // groups, -1)), columns)
    y = ops.reshape(y, (n, weight.shape[0], *shape))
    return y if bias is None else y + ops.reshape(bias, (-1, *[1] * sides))
