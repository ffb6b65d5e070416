"""Convolution: ``lucid.ops.convolution`` in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports
from lucid.onnx._windows import window_padding


@exports("conv1d", "conv2d", "conv3d")
def _conv(b: Builder, node: Node) -> None:
    b.emit("Conv", node, node.inputs, **_windows(b, node))


@exports("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(b: Builder, node: Node) -> None:
    output_padding = list(node.attrs["output_padding"])
    b.emit("ConvTranspose", node, node.inputs, output_padding=output_padding, **_windows(b, node))


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


@imports("Conv")
def _import_conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    sides = x.ndim - 2
    stride, dilation = call["strides"] or [1] * sides, call["dilations"] or [1] * sides
    x, padding = window_padding(call, x, weight.shape[2:], stride, dilation)
    return _CONV[sides](x, weight, bias, tuple(stride), padding, tuple(dilation), call["group"])
