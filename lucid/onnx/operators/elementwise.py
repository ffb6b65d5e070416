"""Elementwise: ``lucid.ops.elementwise`` in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.dtypes import float64, int64
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports
from lucid.onnx._importer import Call, imports, imports_alike, imports_contributed
from lucid.onnx._types import as_value
from lucid.ops._function import apply
from lucid.ops.comparison import Bitwise

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


imports_alike(
    {
        "Abs": ops.abs,
        "Acos": ops.arccos,
        "Add": ops.add,
        "Asin": ops.arcsin,
        "Atan": ops.arctan,
        "Ceil": ops.ceil,
        "Cos": ops.cos,
        "Cosh": ops.cosh,
        "Erf": ops.erf,
        "Exp": ops.exp,
        "Floor": ops.floor,
        "HardSwish": ops.hard_swish,
        "Log": ops.log,
        "Mish": ops.mish,
        "Mul": ops.mul,
        "Neg": ops.neg,
        "Reciprocal": ops.reciprocal,
        "Relu": ops.relu,
        "Round": ops.round,
        "Sigmoid": ops.sigmoid,
        "Sign": ops.sign,
        "Sin": ops.sin,
        "Sinh": ops.sinh,
        "Softplus": ops.softplus,
        "Sqrt": ops.sqrt,
        "Sub": ops.sub,
        "Tan": ops.tan,
        "Tanh": ops.tanh,
    }
)


# -- arithmetic ------------------------------------------------------------------------------------------------------


@imports("Div")
def _import_div(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Of integers, the quotient without its fraction."""
    return ops.div(a, b) if a.dtype.kind == "f" else whole_quotient(a, b)


def whole_quotient(a: Tensor, b: Tensor) -> Tensor:
    """The quotient of integers, without its fraction."""
    quotient = ops.floor_divide(a, b)
    if a.dtype.kind == "u":
        return quotient
    rounded_down = ((a < 0) != (b < 0)) & (ops.mul(quotient, b) != a)
    return ops.add(quotient, rounded_down.astype(a.dtype))


@imports("Mod")
def _import_mod(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """The remainder with the sign of the divisor, or with ``fmod`` that of the dividend: then it is that of their
    magnitudes."""
    if not call["fmod"]:
        return ops.remainder(a, b)
    if a.dtype.kind != "f":
        return ops.sub(a, ops.mul(whole_quotient(a, b), b))
    negative = a < 0
    rest = ops.remainder(ops.where(negative, -a, a), ops.abs(b))
    return ops.where(negative, -rest, rest)


@imports("Pow", known=(1,))
def _import_pow(call: Call, x: Tensor, exponent: Tensor | np.ndarray) -> Tensor:
    """In the dtype of ``x``; where one operand is of integers and the other of floats, computed in float64."""
    if isinstance(exponent, np.ndarray):
        if not exponent.ndim and x.dtype.kind == "f":
            return ops.power(x, float(exponent))
        exponent = as_value(exponent, x.device)
    wide = float64 if "f" in (x.dtype.kind, exponent.dtype.kind) else int64
    if x.dtype.kind == exponent.dtype.kind == "f" and x.dtype == exponent.dtype:
        return ops.power(x, exponent)
    return ops.power(x.astype(wide), exponent.astype(wide)).astype(x.dtype)


def _folded(fold: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda call, *operands: reduce(fold, operands)


imports("Max")(_folded(ops.maximum))
imports("Min")(_folded(ops.minimum))
imports("Sum")(_folded(ops.add))


@imports("Mean")
def _import_mean(call: Call, *operands: Tensor) -> Tensor:
    return reduce(ops.add, operands) / len(operands)


@imports("Clip", known=(1, 2))
def _import_clip(call: Call, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Before version 11 the bounds are attributes."""
    if call.version < 11:
        low, high = call["min"], call["max"]
    bounds = [bound.item() if isinstance(bound, np.ndarray) else bound for bound in (low, high)]
    return x if bounds == [None, None] else ops.clip(x, *bounds)


@imports("BitShift", gradient=False)
def _import_bit_shift(call: Call, x: Tensor, by: Tensor) -> Tensor:
    """By as many bits as there are, or by a negative number, nothing but the sign is left of a shift to the right."""
    if call["direction"] not in ("LEFT", "RIGHT"):
        raise call.refuse(f"direction is {call['direction']!r}; may be 'LEFT' or 'RIGHT'")
    left, bits = call["direction"] == "LEFT", 8 * x.dtype.itemsize
    none = (by < 0) | (by >= bits)
    shifted = apply(Bitwise("left_shift" if left else "right_shift"), x, ops.where(none, 0, by))
    gone = ops.zeros_like(x) if left else ops.sub(ops.zeros_like(x), (x < 0).astype(x.dtype))
    return ops.where(none, gone, shifted)


# -- inverse hyperbolic functions ------------------------------------------------------------------------------------


def _in_float64(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Computed in float64 and rounded once."""
    return lambda call, x: function(x.astype(float64)).astype(x.dtype)


_FAR = 1e150  # its square is a number, and 1 beside that is none


def _arcsinh(x: Tensor) -> Tensor:
    """Of ``a = |x|``: ``log1p(a + a^2 / (1 + sqrt(1 + a^2)))``, and beyond ``_FAR`` also the logarithm of the rest."""
    negative = x < 0
    size = ops.where(negative, -x, x)
    near = ops.clip(size, None, _FAR)
    square = near * near
    y = ops.log1p(near + square / (ops.sqrt(square + 1.0) + 1.0)) + ops.log(ops.clip(size / _FAR, 1.0, None))
    return ops.where(size > 0, ops.where(negative, -y, y), x)


def _arccosh(x: Tensor) -> Tensor:
    return _arcsinh(ops.sqrt((x - 1.0) / 2.0)) * 2.0


def _arctanh(x: Tensor) -> Tensor:
    return (ops.log1p(x) - ops.log1p(-x)) / 2.0


imports("Asinh")(_in_float64(_arcsinh))
imports("Acosh")(_in_float64(_arccosh))
imports("Atanh")(_in_float64(_arctanh))


# -- activations -----------------------------------------------------------------------------------------------------


@imports("LeakyRelu")
def _import_leaky_relu(call: Call, x: Tensor) -> Tensor:
    return ops.leaky_relu(x, call["alpha"])


@imports("PRelu")
def _import_prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    """In files of opset 6 a slope of one axis is of the channels."""
    if call.version <= 7 and slope.ndim == 1 < x.ndim - 1 and slope.shape[0] not in (1, x.shape[-1]):
        slope = ops.reshape(slope, (-1, *[1] * (x.ndim - 2)))
    return ops.where(x > 0, x, ops.mul(x, slope))


@imports("ThresholdedRelu")
def _import_thresholded_relu(call: Call, x: Tensor) -> Tensor:
    return ops.where(x > call["alpha"], x, 0)


@imports("Elu")
def _import_elu(call: Call, x: Tensor) -> Tensor:
    return ops.elu(x, call["alpha"])


@imports("Selu")
def _import_selu(call: Call, x: Tensor) -> Tensor:
    if (call["alpha"], call["gamma"]) == (_SELU_ALPHA, _SELU_GAMMA):
        return ops.selu(x)
    return ops.elu(x, call["alpha"]) * call["gamma"]


_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # ONNX's defaults


@imports("Celu")
def _import_celu(call: Call, x: Tensor) -> Tensor:
    alpha = call["alpha"]
    return ops.where(x > 0, x, ops.expm1(ops.clip(x, None, 0.0) / alpha) * alpha)


@imports("HardSigmoid")
def _import_hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    """lucid's own where the slope is float32's 1 / 6."""
    if (call["alpha"], call["beta"]) == (float(np.float32(1 / 6)), 0.5):
        return ops.hard_sigmoid(x)
    return ops.clip(x * call["alpha"] + call["beta"], 0.0, 1.0)


@imports("Softsign")
def _import_softsign(call: Call, x: Tensor) -> Tensor:
    return x / (ops.abs(x) + 1.0)


@imports("Gelu")
def _import_gelu(call: Call, x: Tensor) -> Tensor:
    return ops.gelu(x, call["approximate"])


@imports("Swish")
def _import_swish(call: Call, x: Tensor) -> Tensor:
    return swish(x, call["alpha"])


@imports("SwiGLU")
def _import_swiglu(call: Call, gate: Tensor, x: Tensor) -> Tensor:
    return swish(gate, call["alpha"]) * x


def swish(x: Tensor, alpha: float) -> Tensor:
    """``x * sigmoid(alpha * x)``."""
    return ops.silu(x) if alpha == 1 else x * ops.sigmoid(x * alpha)


@imports("Shrink")
def _import_shrink(call: Call, x: Tensor) -> Tensor:
    """Towards 0 by ``bias``, and 0 where ``x`` lies within ``lambd`` of it."""
    y = x if x.dtype.kind == "f" else x.astype(float64)
    shrunk = ops.where(y < -call["lambd"], y + call["bias"], ops.where(y > call["lambd"], y - call["bias"], 0))
    return shrunk.astype(x.dtype)


# -- activations of ONNX Runtime --------------------------------------------------------------------------------------


@imports_contributed("Gelu")
def _import_plain_gelu(call: Call, x: Tensor) -> Tensor:
    return ops.gelu(x)


@imports_contributed("BiasGelu")
def _import_bias_gelu(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    return ops.gelu(x + bias)


@imports_contributed("FastGelu")
def _import_fast_gelu(call: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return ops.gelu(x if bias is None else x + bias, "tanh")


@imports_contributed("QuickGelu")
def _import_quick_gelu(call: Call, x: Tensor) -> Tensor:
    return swish(x, call.default("alpha", 1.702))
