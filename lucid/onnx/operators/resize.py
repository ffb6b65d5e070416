"""Resizing: ``lucid.ops.resize`` in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.graph import Node
from lucid.onnx._builder import Builder, exports


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
