"""Convolution: ``lucid.ops.convolution`` in ONNX."""

from __future__ import annotations

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports


@exports("conv2d")
def _conv2d(b: Builder, node: Node) -> None:
    pad_h, pad_w = node.attrs["padding"]
    b.emit(
        "Conv",
        node,
        node.inputs,
        kernel_shape=list(b.shape(node.inputs[1])[2:]),
        strides=list(node.attrs["stride"]),
        pads=[pad_h, pad_w, pad_h, pad_w],
        dilations=list(node.attrs["dilation"]),
        group=node.attrs["groups"],
    )
