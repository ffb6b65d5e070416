"""Comparison: ``lucid.ops.comparison`` in ONNX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports
from lucid.onnx._importer import Call, Value, imports, imports_alike
from lucid.onnx._types import as_value, has_tensors

alike(
    {
        "equal": "Equal",
        "greater": "Greater",
        "greater_equal": "GreaterOrEqual",
        "isinf": "IsInf",
        "isnan": "IsNaN",
        "less": "Less",
        "less_equal": "LessOrEqual",
        "logical_and": "And",
        "logical_not": "Not",
        "logical_or": "Or",
        "logical_xor": "Xor",
    }
)


@exports("not_equal")
def _not_equal(b: Builder, node: Node) -> None:
    b.emit("Not", node, [b.emit("Equal", node, node.inputs, "equal")])


imports_alike(
    {
        "And": ops.logical_and,
        "BitwiseAnd": ops.bitwise_and,
        "BitwiseNot": ops.bitwise_not,
        "BitwiseOr": ops.bitwise_or,
        "BitwiseXor": ops.bitwise_xor,
        "Greater": ops.greater,
        "GreaterOrEqual": ops.greater_equal,
        "Less": ops.less,
        "LessOrEqual": ops.less_equal,
        "Not": ops.logical_not,
        "Or": ops.logical_or,
        "Xor": ops.not_equal,
    },
    gradient=False,
)


@imports("Equal", known=(0, 1), gradient=False)
def _import_equal(call: Call, a: Value, b: Value) -> Value:
    """Also of texts, which are arrays."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.asarray(np.equal(a, b), bool)
    tensor = next(x for x in (a, b) if isinstance(x, Tensor))  # whose type a constant has, too: the model's, or float64
    given = (x if isinstance(x, Tensor) else as_value(x, tensor.device).astype(tensor.dtype) for x in (a, b))
    return ops.equal(*given)


@imports("IsNaN", known=(0,), gradient=False)
def _import_isnan(call: Call, x: Value) -> Tensor:
    return ops.isnan(_number(x))


@imports("IsInf", known=(0,), gradient=False)
def _import_isinf(call: Call, x: Value) -> Tensor:
    x = _number(x)
    positive, negative = x == math.inf, x == -math.inf
    if not call["detect_positive"]:
        return negative if call["detect_negative"] else ops.zeros_like(positive)
    return positive | negative if call["detect_negative"] else positive


def _number(x: Value) -> Any:
    """Also of types that lucid has no tensors of, all of which float32 holds."""
    if not isinstance(x, np.ndarray):
        return x
    return as_value(x if has_tensors(x.dtype) else x.astype(np.float32), "cpu")


@imports("Where", moves=True)
def _import_where(call: Call, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ops.where(condition, x, y)
