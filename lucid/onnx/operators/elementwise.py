"""Elementwise: ``lucid.ops.elementwise`` in ONNX."""

from __future__ import annotations

import math

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports
from lucid.onnx._importer import Call, imports, imports_alike

alike(
    {
        "abs": "Abs",
        "add": "Add",
        "arccos": "Acos",
        "arcsin": "Asin",
        "arctan": "Atan",
        "cos": "Cos",
        "cosh": "Cosh",
        "div": "Div",
        "erf": "Erf",
        "exp": "Exp",
        "log": "Log",
        "maximum": "Max",
        "minimum": "Min",
        "mul": "Mul",
        "neg": "Neg",
        "power_of": "Pow",
        "reciprocal": "Reciprocal",
        "relu": "Relu",
        "sigmoid": "Sigmoid",
        "selu": "Selu",
        "sign": "Sign",
        "sin": "Sin",
        "sinh": "Sinh",
        "softplus": "Softplus",
        "sqrt": "Sqrt",
        "sub": "Sub",
        "tan": "Tan",
        "tanh": "Tanh",
        "where": "Where",
    }
)


imports_alike(
    {"Add": ops.add, "Mul": ops.mul, "Sub": ops.sub, "Relu": ops.relu, "Sigmoid": ops.sigmoid, "Exp": ops.exp}
)


@imports("LeakyRelu")
def _import_leaky_relu(call: Call, x: Tensor) -> Tensor:
    return ops.leaky_relu(x, call["alpha"])


@exports("square")
def _square(b: Builder, node: Node) -> None:
    b.emit("Mul", node, [node.inputs[0], node.inputs[0]])


@exports("power")
def _power(b: Builder, node: Node) -> None:
    exponent = b.constant(node, "exponent", node.attrs["exponent"], b.dtype(node.output))
    b.emit("Pow", node, [node.inputs[0], exponent])


def _beside(b: Builder, op: str, node: Node, x: str | None, number: float, what: str = "") -> str:
    """``x`` and a number as operands; of a step on the way where ``what`` names it."""
    return b.emit(op, node, [x, b.constant(node, f"{what or op.lower()}_by", number, b.dtype(node.inputs[0]))], what)


@exports("cube")
def _cube(b: Builder, node: Node) -> None:
    (x,) = node.inputs
    b.emit("Mul", node, [b.emit("Mul", node, [x, x], "square"), x])


@exports("exp2")
def _exp2(b: Builder, node: Node) -> None:
    b.emit("Pow", node, [b.constant(node, "base", 2.0, b.dtype(node.output)), node.inputs[0]])


@exports("log2")
def _log2(b: Builder, node: Node) -> None:
    _beside(b, "Div", node, b.emit("Log", node, node.inputs, "log"), math.log(2))


@exports("expm1")
def _expm1(b: Builder, node: Node) -> None:
    """As PyTorch exports it: ONNX has no function that is precise near 0."""
    _beside(b, "Sub", node, b.emit("Exp", node, node.inputs, "exp"), 1.0)


@exports("log1p")
def _log1p(b: Builder, node: Node) -> None:
    """Likewise."""
    b.emit("Log", node, [_beside(b, "Add", node, node.inputs[0], 1.0, "sum")])


@exports("rounding")
def _rounding(b: Builder, node: Node) -> None:
    (x,), mode = node.inputs, node.attrs["mode"]
    if mode != "trunc":
        b.emit(mode.capitalize(), node, [x])
        return
    whole = b.emit("Floor", node, [b.emit("Abs", node, [x], "magnitude")], "whole")
    b.emit("Mul", node, [whole, b.emit("Sign", node, [x], "sign")])


@exports("relu6")
def _relu6(b: Builder, node: Node) -> None:
    bounds = [b.constant(node, what, number, b.dtype(node.output)) for what, number in (("min", 0.0), ("max", 6.0))]
    b.emit("Clip", node, [node.inputs[0], *bounds])


@exports("leaky_relu")
def _leaky_relu(b: Builder, node: Node) -> None:
    b.emit("LeakyRelu", node, node.inputs, alpha=node.attrs["negative_slope"])


@exports("elu")
def _elu(b: Builder, node: Node) -> None:
    b.emit("Elu", node, node.inputs, alpha=node.attrs["alpha"])


@exports("hard_sigmoid")
def _hard_sigmoid(b: Builder, node: Node) -> None:
    b.emit("HardSigmoid", node, node.inputs, alpha=1 / 6, beta=0.5)


@exports("hard_swish")
def _hard_swish(b: Builder, node: Node) -> None:
    """ONNX has HardSwish from version 14 on; this is what it says that it is."""
    share = b.emit("HardSigmoid", node, node.inputs, "share", alpha=1 / 6, beta=0.5)
    b.emit("Mul", node, [node.inputs[0], share])


@exports("silu")
def _silu(b: Builder, node: Node) -> None:
    b.emit("Mul", node, [node.inputs[0], b.emit("Sigmoid", node, node.inputs, "share")])


@exports("mish")
def _mish(b: Builder, node: Node) -> None:
    share = b.emit("Tanh", node, [b.emit("Softplus", node, node.inputs, "softplus")], "share")
    b.emit("Mul", node, [node.inputs[0], share])


@exports("log_sigmoid")
def _log_sigmoid(b: Builder, node: Node) -> None:
    softplus = b.emit("Softplus", node, [b.emit("Neg", node, node.inputs, "negative")], "softplus")
    b.emit("Neg", node, [softplus])


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
