"""Elementwise: ``lucid.ops.elementwise`` in ONNX."""

from __future__ import annotations

import math

from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports

alike(
    {
        "abs": "Abs",
        "add": "Add",
        "div": "Div",
        "exp": "Exp",
        "log": "Log",
        "maximum": "Max",
        "minimum": "Min",
        "mul": "Mul",
        "neg": "Neg",
        "reciprocal": "Reciprocal",
        "relu": "Relu",
        "sigmoid": "Sigmoid",
        "sign": "Sign",
        "sqrt": "Sqrt",
        "sub": "Sub",
        "where": "Where",
    }
)


@exports("square")
def _square(b: Builder, node: Node) -> None:
    b.emit("Mul", node, [node.inputs[0], node.inputs[0]])


@exports("power")
def _power(b: Builder, node: Node) -> None:
    exponent = b.constant(node, "exponent", node.attrs["exponent"], b.dtype(node.output))
    b.emit("Pow", node, [node.inputs[0], exponent])


@exports("clip")
def _clip(b: Builder, node: Node) -> None:
    bounds = (node.attrs[key] for key in ("min_value", "max_value"))
    dtype = b.dtype(node.output)
    names = [
        None if bound is None else b.constant(node, what, bound, dtype)
        for what, bound in zip(("min", "max"), bounds, strict=True)
    ]
    b.emit("Clip", node, [node.inputs[0], *names])


@exports("gelu")
def _gelu(b: Builder, node: Node) -> None:
    """ONNX has it from version 20 on; before, the steps of its definition."""
    (x,), approximate = node.inputs, node.attrs["approximate"]
    if b.opset >= 20:
        b.emit("Gelu", node, [x], approximate=approximate)
        return

    def step(op: str, what: str, a: str | None, number: float) -> str:
        return b.emit(op, node, [a, b.constant(node, f"{what}_by", number, b.dtype(x))], what)

    if approximate == "tanh":
        cube = b.emit("Mul", node, [x, b.emit("Mul", node, [x, x], "square")], "cube")
        both = b.emit("Add", node, [x, step("Mul", "small", cube, 0.044715)], "sum")
        share = b.emit("Tanh", node, [step("Mul", "scaled", both, math.sqrt(2 / math.pi))], "share")
    else:
        share = b.emit("Erf", node, [step("Mul", "scaled", x, math.sqrt(0.5))], "share")
    b.emit("Mul", node, [step("Mul", "half", x, 0.5), step("Add", "whole", share, 1.0)])
