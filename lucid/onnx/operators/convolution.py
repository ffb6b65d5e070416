"""Convolution: ``lucid.ops.convolution`` in ONNX."""

from __future__ import annotations

from typing import Any

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports


@exports("conv1d", "conv2d", "conv3d")
def _conv(b: Builder, node: Node) -> None:
    b.emit("Conv", node, node.inputs, **_windows(b, node))


@exports("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(b: Builder, node: Node) -> None:
    output_padding = list(node.attrs["output_padding"])
    b.emit("ConvTranspose", node, node.inputs, output_padding=output_padding, **_windows(b, node))


def _windows(b: Builder, node: Node) -> dict[str, Any]:
    return {
        "kernel_shape": list(b.shape(node.inputs[1])[2:]),
        "strides": list(node.attrs["stride"]),
        "pads": list(node.attrs["padding"]) * 2,
        "dilations": list(node.attrs["dilation"]),
        "group": node.attrs["groups"],
    }
