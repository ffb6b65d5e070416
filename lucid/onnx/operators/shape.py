"""Shape: ``lucid.ops.shape`` in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports
from lucid.onnx._importer import Call, imports

alike(
    {
        "identity": "Identity",
        "to_device": "Identity",
    }
)


@exports("reshape")
def _reshape(b: Builder, node: Node) -> None:
    _reshape_to_output(b, node, node.inputs[0])


def _reshape_to_output(b: Builder, node: Node, operand: str | None) -> None:
    target = [size if isinstance(size, int) else -1 for size in b.shape(node.output)]
    if target.count(-1) > 1:
        raise ValueError(
            f"{node.name!r}: a reshape to a shape with two open sizes has no counterpart in the ONNX export"
        )
    attrs: dict[str, Any] = {"allowzero": 1} if 0 in target and b.opset >= 14 else {}
    b.emit("Reshape", node, [operand, b.constant(node, "shape", target)], **attrs)


@exports("broadcast_to")
def _broadcast_to(b: Builder, node: Node) -> None:
    target = [size if isinstance(size, int) else 1 for size in b.shape(node.output)]  # 1 keeps the operand's own size
    b.emit("Expand", node, [node.inputs[0], b.constant(node, "shape", target)])


@exports("transpose")
def _transpose(b: Builder, node: Node) -> None:
    b.emit("Transpose", node, node.inputs, perm=list(node.attrs["axes"]))


@exports("concatenate")
def _concatenate(b: Builder, node: Node) -> None:
    b.emit("Concat", node, node.inputs, axis=node.attrs["axis"])


@exports("pad")
def _pad(b: Builder, node: Node) -> None:
    before, after = zip(*node.attrs["widths"], strict=True)
    widths = b.constant(node, "pads", [*before, *after])
    value = b.constant(node, "value", node.attrs["value"], b.dtype(node.output))
    b.emit("Pad", node, [node.inputs[0], widths, value])


@exports("cast")
def _cast(b: Builder, node: Node) -> None:
    b.emit("Cast", node, node.inputs, to=helper.np_dtype_to_tensor_dtype(np.dtype(node.attrs["dtype"])))


@exports("getitem")
def _getitem(b: Builder, node: Node) -> None:
    """Slices and integers become Slice and a Reshape; an index by arrays is refused."""
    index = node.attrs["index"] if isinstance(node.attrs["index"], tuple) else (node.attrs["index"],)
    source = b.shape(node.inputs[0])
    if not all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in index):
        raise ValueError(
            f"{node.name!r}: indexing by arrays has no counterpart in the ONNX export; slices and integers have"
        )
    positions = [part for part in index if part is not None]
    if Ellipsis in positions:
        place = positions.index(Ellipsis)
        positions[place : place + 1] = [slice(None)] * (len(source) - len(positions) + 1)
    taken = [
        (axis, part if isinstance(part, slice) else slice(part, part + 1 or None))
        for axis, part in enumerate(positions)
        if part != slice(None)
    ]
    if all(isinstance(part, slice) for part in positions) and len(positions) == len(index) and taken:
        b.emit("Slice", node, [node.inputs[0], *_slice_operands(b, node, taken)])
        return
    sliced = node.inputs[0]
    if taken:
        sliced = b.emit("Slice", node, [sliced, *_slice_operands(b, node, taken)], "slice")
    _reshape_to_output(b, node, sliced)


@exports("tile")
def _tile(b: Builder, node: Node) -> None:
    reps = node.attrs["reps"]
    if len(reps) == len(b.shape(node.inputs[0])):
        b.emit("Tile", node, [node.inputs[0], b.constant(node, "repeats", reps)])
    else:  # axes in front come first
        b.translate_body(node)


@exports("tril", "triu")
def _triangle(b: Builder, node: Node) -> None:
    if b.opset >= 14:
        b.emit("Trilu", node, [node.inputs[0], b.constant(node, "k", node.attrs["k"])], upper=int(node.op == "triu"))
    else:
        b.translate_body(node)


@exports("diagonal")
def _diagonal(b: Builder, node: Node) -> None:
    """The matrices as rows, of which the diagonal's elements are taken."""
    shape, made = b.shape(node.inputs[0]), b.shape(node.output)
    axes, offset = (node.attrs["axis1"], node.attrs["axis2"]), node.attrs["offset"]
    rows, columns = (shape[axis] for axis in axes)
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise ValueError(f"{node.name!r}: the diagonal of a matrix of open size has no counterpart in the ONNX export")
    others = [axis for axis in range(len(shape)) if axis not in axes]
    last = b.emit("Transpose", node, node.inputs, "matrices", perm=[*others, *axes])
    target = [0] * len(others) + [rows * columns]  # 0 keeps a size
    flat = b.emit("Reshape", node, [last, b.constant(node, "shape", target)], "rows")
    first = -offset * columns if offset < 0 else offset
    places = [first + i * (columns + 1) for i in range(int(made[-1] or 0))]
    b.emit("Gather", node, [flat, b.constant(node, "places", places)], axis=len(others))


def _slice_operands(b: Builder, node: Node, taken: list[tuple[int, slice]]) -> list[str]:
    """starts, ends, axes, steps."""
    largest = np.iinfo(np.int64).max
    columns: dict[str, list[int]] = {"starts": [], "ends": [], "axes": [], "steps": []}
    for axis, part in taken:
        step = 1 if part.step is None else part.step
        first, last = (0, largest) if step > 0 else (largest, -largest)
        columns["starts"].append(first if part.start is None else part.start)
        columns["ends"].append(last if part.stop is None else part.stop)
        columns["axes"].append(axis)
        columns["steps"].append(step)
    return [b.constant(node, what, values) for what, values in columns.items()]


@imports("Reshape", host=(1,), moves=True)
def _import_reshape(call: Call, x: Tensor, shape: np.ndarray) -> Tensor:
    """A size of 0 keeps the operand's, unless ``allowzero`` says that it is one."""
    kept = [x.shape[i] if size == 0 and not call["allowzero"] else int(size) for i, size in enumerate(shape)]
    return ops.reshape(x, tuple(kept))


@imports("Flatten", moves=True)
def _import_flatten(call: Call, x: Tensor) -> Tensor:
    axis = call["axis"] % (x.ndim + 1) if call["axis"] < 0 else call["axis"]
    rows = int(np.prod(x.shape[:axis]))
    return ops.reshape(x, (rows, int(np.prod(x.shape[axis:]))))


@imports("Identity", moves=True)
def _import_identity(call: Call, x: Tensor) -> Tensor:
    return x


@imports("Shape", moves=True, gradient=False)
def _import_shape(call: Call, x: Tensor) -> np.ndarray:
    return np.asarray(x.shape[call["start"] : call["end"]], np.int64)


@imports("Constant", host=None)
def _import_constant(call: Call) -> np.ndarray:
    return call["value"]
