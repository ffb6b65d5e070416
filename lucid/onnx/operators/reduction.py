"""Reduction: ``lucid.ops.reduction`` in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lucid import ops
from lucid.core.dtypes import float64
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, Import, imports
from lucid.onnx.operators.elementwise import whole_quotient


@exports("max", "mean", "min", "sum")
def _reduce(b: Builder, node: Node) -> None:
    op_type = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}[node.op]
    axes, keepdims = list(node.attrs["axis"]), int(node.attrs["keepdims"])
    if not axes:  # nothing to reduce; ONNX would take no axes for all of them
        b.emit("Identity", node, node.inputs)
    elif b.opset >= 18 or op_type == "ReduceSum":  # in 18 the axes of the others became an operand too
        b.emit(op_type, node, [node.inputs[0], b.constant(node, "axes", axes)], keepdims=keepdims)
    else:
        b.emit(op_type, node, node.inputs, axes=axes, keepdims=keepdims)


@exports("cumsum")
def _cumsum(b: Builder, node: Node) -> None:
    b.emit("CumSum", node, [node.inputs[0], b.constant(node, "axis", node.attrs["axis"])])


@exports("argmax", "argmin")
def _argument(b: Builder, node: Node) -> None:
    op_type, axis = {"argmax": "ArgMax", "argmin": "ArgMin"}[node.op], node.attrs["axis"]
    if axis is not None:
        b.emit(op_type, node, node.inputs, axis=axis, keepdims=int(node.attrs["keepdims"]))
        return
    flat = b.emit("Reshape", node, [node.inputs[0], b.constant(node, "flat_shape", [-1])], "flat")
    index = b.emit(op_type, node, [flat], "index", axis=0, keepdims=0)
    b.emit("Reshape", node, [index, b.constant(node, "shape", [1] * len(b.shape(node.output)))])


Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _imports_reduction(*operators: str) -> Callable[[Reduction], Reduction]:
    """Enter a function of tensor, axes and ``keepdims``; the axes of the operators are an attribute or an operand."""

    def enter(function: Reduction) -> Reduction:
        imports(*operators, host=(1,))(_over_axes(function))
        return function

    return enter


def _over_axes(function: Reduction) -> Import:
    def call_it(call: Call, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
        chosen = call["axes"] if axes is None else axes.tolist()
        keepdims = bool(call["keepdims"])
        if not chosen and call["noop_with_empty_axes"]:  # each element is reduced alone
            return function(ops.reshape(x, (1, *x.shape)), (0,), False)
        return function(x, tuple(chosen) if chosen else tuple(range(x.ndim)), keepdims)

    return call_it


_imports_reduction("ReduceSum")(ops.sum)


@_imports_reduction("ReduceMean")
def _mean(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """Of integers, without its fraction."""
    if x.dtype.kind == "f":
        return ops.mean(x, axes, keepdims)
    total = ops.sum(x, axes, keepdims)
    return whole_quotient(total, ops.full_like(total, _count(x, axes)))


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[axis] for axis in axes)


@_imports_reduction("ReduceMax")
def _max(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.max(x, axes, keepdims) if _count(x, axes) else _nothing(x, axes, keepdims, _range(x)[0])


@_imports_reduction("ReduceMin")
def _min(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.min(x, axes, keepdims) if _count(x, axes) else _nothing(x, axes, keepdims, _range(x)[1])


def _range(x: Tensor) -> tuple[float, float]:
    if x.dtype.kind == "f":
        return -math.inf, math.inf
    if x.dtype.kind == "b":
        return False, True
    return int(np.iinfo(x.dtype).min), int(np.iinfo(x.dtype).max)


def _nothing(x: Tensor, axes: tuple[int, ...], keepdims: bool, value: float) -> Tensor:
    """What a reduction of no elements is."""
    shape = ops.sum(x, axes, keepdims).shape
    return ops.full(shape, value, dtype=x.dtype, device=x.device)


@_imports_reduction("ReduceProd")
def _prod(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """The last of the cumulative products."""
    count = _count(x, axes)
    if not count:
        return _nothing(x, axes, keepdims, 1)
    reduced = {axis % x.ndim for axis in axes}
    kept = [axis for axis in range(x.ndim) if axis not in reduced]
    rows = ops.reshape(ops.transpose(x, [*kept, *sorted(reduced)]), (*(x.shape[axis] for axis in kept), count))
    shape = [1 if axis in reduced else n for axis, n in enumerate(x.shape) if keepdims or axis not in reduced]
    return ops.reshape(ops.cumprod(rows, -1)[..., -1], shape)


@_imports_reduction("ReduceL1")
def _l1(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.sum(ops.abs(x), axes, keepdims)


@_imports_reduction("ReduceL2")
def _l2(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.linalg.vector_norm(_floats(x), 2, axes, keepdims)


@_imports_reduction("ReduceSumSquare")
def _sum_square(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.sum(ops.square(x), axes, keepdims)


@_imports_reduction("ReduceLogSum")
def _log_sum(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return ops.log(ops.sum(_floats(x), axes, keepdims))


@_imports_reduction("ReduceLogSumExp")
def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """With the largest taken out, where that is a number."""
    x = _floats(x)
    largest = _max(x.detach(), axes, True)
    largest = ops.where(ops.isfinite(largest), largest, 0.0)
    total = ops.log(ops.sum(ops.exp(x - largest), axes, keepdims))
    return total + ops.reshape(largest, total.shape)


def _floats(x: Tensor) -> Tensor:
    """Integers as float64; the result is converted back."""
    return x if x.dtype.kind == "f" else x.astype(float64)


@imports("CumSum", host=(1,))
def _import_cumsum(call: Call, x: Tensor, axis: np.ndarray) -> Tensor:
    return _cumulative(call, ops.cumsum, 0, x, int(axis.item()))


@imports("CumProd", host=(1,))
def _import_cumprod(call: Call, x: Tensor, axis: np.ndarray) -> Tensor:
    return _cumulative(call, ops.cumprod, 1, x, int(axis.item()))


def _cumulative(call: Call, function: Callable[[Tensor, int], Tensor], first: int, x: Tensor, axis: int) -> Tensor:
    """From the other end with ``reverse``; ``exclusive``, of the elements before each."""
    y = function(ops.flip(x, axis) if call["reverse"] else x, axis).astype(x.dtype)
    if call["exclusive"] and x.shape[axis]:
        before, last = ops.split(y, [x.shape[axis] - 1, 1], axis)
        y = ops.concatenate([ops.full_like(last, first), before], axis)
    return ops.flip(y, axis) if call["reverse"] else y


def flattened(call: Call, x: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """A function along an axis: before version 13, of the axes from ``axis`` on as one."""
    axis = call["axis"]
    if call.version >= 13:
        return function(x, axis)
    rows = math.prod(x.shape[: axis % x.ndim if axis < 0 else axis])
    return ops.reshape(function(ops.reshape(x, (rows, x.size // max(rows, 1))), 1), x.shape)


@imports("Softmax")
def _import_softmax(call: Call, x: Tensor) -> Tensor:
    return flattened(call, x, ops.softmax)


@imports("LogSoftmax")
def _import_log_softmax(call: Call, x: Tensor) -> Tensor:
    return flattened(call, x, ops.log_softmax)


@imports("Hardmax", gradient=False)
def _import_hardmax(call: Call, x: Tensor) -> Tensor:
    """1 at the first of the largest along the axis, else 0."""

    def hardmax(x: Tensor, axis: int) -> Tensor:
        best = ops.argmax(x, axis, keepdims=True)
        places = ops.arange(x.shape[axis], device=x.device)
        beside = ops.reshape(places, [1 if i != axis % x.ndim else -1 for i in range(x.ndim)])
        return (best == beside).astype(x.dtype)

    return flattened(call, x, hardmax)


@imports("LpNormalization")
def _import_lp_normalization(call: Call, x: Tensor) -> Tensor:
    """0 where the norm is 0."""
    norm = ops.linalg.vector_norm(x, call["p"], call["axis"], keepdims=True)
    return x / ops.where(norm == 0, 1.0, norm)
