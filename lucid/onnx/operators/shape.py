"""Shape: ``lucid.ops.shape`` in ONNX."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import helper

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, alike, exports
from lucid.onnx._importer import Call, imports
from lucid.onnx._types import dtype_of
from lucid.ops._common import broadcast_shape

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
    axes = list(node.attrs["axes"])
    b.emit("Transpose", node, node.inputs, perm=axes) if axes else b.emit("Identity", node, node.inputs)


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
    axis = call["axis"] + x.ndim if call["axis"] < 0 else call["axis"]
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


@imports("Size", moves=True, gradient=False)
def _import_size(call: Call, x: Tensor) -> np.ndarray:
    return np.asarray(math.prod(x.shape), np.int64)


@imports("Transpose", moves=True)
def _import_transpose(call: Call, x: Tensor) -> Tensor:
    return ops.transpose(x, call["perm"])


@imports("Concat", moves=True)
def _import_concat(call: Call, *parts: Tensor) -> Tensor:
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, call["axis"])


@imports("Split", host=(1,), moves=True)
def _import_split(call: Call, x: Tensor, sizes: np.ndarray | None = None) -> tuple[Tensor, ...]:
    """Into given lengths, or into as many parts as there are outputs, the last of which may be shorter."""
    axis, count = call["axis"] or 0, len(call.outputs)
    lengths = call["split"] if sizes is None else sizes.tolist()
    if lengths is None:
        whole = x.shape[axis]
        part = -(-whole // count)
        lengths = [max(0, min(part, whole - i * part)) for i in range(count)]
    return ops.split(x, lengths, axis)


@imports("Slice", host=(1, 2, 3, 4), moves=True)
def _import_slice(
    call: Call,
    x: Tensor,
    starts: np.ndarray | None = None,
    ends: np.ndarray | None = None,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> Tensor:
    """Places out of range stand for the nearest one; before opset 10 all are attributes."""
    first, last = _integers(starts, call["starts"]), _integers(ends, call["ends"])
    if first is None or last is None:
        raise call.refuse("it has no starts and ends")
    places = _integers(axes, call["axes"]) or list(range(len(first)))
    strides = _integers(steps, None) or [1] * len(first)
    if not len(first) == len(last) == len(places) == len(strides) or 0 in strides:
        raise call.refuse(f"got starts {first}, ends {last}, axes {places}, steps {strides}")
    index = [slice(None)] * x.ndim
    for axis, begin, end, step in zip(places, first, last, strides, strict=True):
        if not -x.ndim <= axis < x.ndim:
            raise call.refuse(f"axes: {axis} is no axis of a value of shape {x.shape}")
        index[axis] = slice(begin, end, step)
    return ops.getitem(x, tuple(index))


def _integers(given: np.ndarray | None, attribute: list[int] | None) -> list[int] | None:
    """An operand of integers, or the attribute that had its place in older opsets."""
    return attribute if given is None else np.atleast_1d(given).tolist()


@imports("Squeeze", host=(1,), moves=True)
def _import_squeeze(call: Call, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
    chosen = _integers(axes, call["axes"])
    if chosen is None:
        return ops.squeeze(x)
    if any(x.shape[axis] != 1 for axis in chosen):
        raise call.refuse(f"axes: {chosen} of a value of shape {x.shape} are not all of length 1")
    return ops.squeeze(x, tuple(chosen))


@imports("Unsqueeze", host=(1,), moves=True)
def _import_unsqueeze(call: Call, x: Tensor, axes: np.ndarray | None = None) -> Tensor:
    """Axes are counted in the result."""
    chosen = _integers(axes, call["axes"]) or []
    ndim = x.ndim + len(chosen)
    places = {axis % ndim for axis in chosen if -ndim <= axis < ndim}
    if len(places) != len(chosen):
        raise call.refuse(f"axes: {chosen} are not {len(chosen)} different ones of {ndim}")
    lengths = iter(x.shape)
    return ops.reshape(x, tuple(1 if i in places else next(lengths) for i in range(ndim)))


@imports("Expand", host=(1,), moves=True)
def _import_expand(call: Call, x: Tensor, shape: np.ndarray) -> Tensor:
    """To the shape that both broadcast to: a length of 1 keeps the operand's."""
    return ops.broadcast_to(x, broadcast_shape("Expand", x.shape, tuple(shape.tolist())))


@imports("Tile", host=(1,), moves=True)
def _import_tile(call: Call, x: Tensor, repeats: np.ndarray) -> Tensor:
    return ops.tile(x, tuple(repeats.tolist()))


@imports("Pad", host=(1, 2, 3), moves=True)
def _import_pad(
    call: Call,
    x: Tensor,
    pads: np.ndarray | None = None,
    value: np.ndarray | None = None,
    axes: np.ndarray | None = None,
) -> Tensor:
    """By a constant, or by elements of the operand; a negative width takes elements away, before any are added."""
    widths = _integers(pads, call["pads"]) or []
    chosen = list(range(x.ndim)) if axes is None else [int(axis) % x.ndim for axis in axes]
    if len(widths) != 2 * len(chosen):
        raise call.refuse(f"pads: got {len(widths)} widths for {len(chosen)} axes")
    sides = [(0, 0)] * x.ndim
    for axis, before, after in zip(chosen, widths[: len(chosen)], widths[len(chosen) :], strict=True):
        sides[axis] = (before, after)
    if min(widths, default=0) < 0:
        kept = [(max(0, -before), n - max(0, -after)) for (before, after), n in zip(sides, x.shape, strict=True)]
        x = ops.getitem(x, tuple(slice(start, max(start, end)) for start, end in kept))
        sides = [(max(0, before), max(0, after)) for before, after in sides]
    mode: Any = call["mode"] or "constant"
    if mode == "constant":
        fill = call["value"] or 0.0 if value is None else value.reshape(-1)[0]
        return ops.pad(x, sides, fill.item() if isinstance(fill, np.generic) else fill)
    for axis, (before, after) in enumerate(sides):
        if before or after:
            if not x.shape[axis]:
                raise call.refuse(f"there are no elements to repeat along axis {axis} of shape {x.shape}")
            places = np.pad(np.arange(x.shape[axis]), (before, after), mode)
            x = ops.index_select(x, axis, places)
    return x


@imports("Range", host=None)
def _import_range(call: Call, start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """``start + i delta`` before ``limit``; floats in float64, rounded once."""
    if not delta:
        raise call.refuse("delta is 0")
    kind: Any = np.float64 if start.dtype.kind not in "iu" else start.dtype
    first, last, step = (each.reshape(()).astype(kind).item() for each in (start, limit, delta))
    count = max(0, -(-(last - first) // step) if kind != np.float64 else math.ceil((last - first) / step))
    exact: Any = np.int64 if kind != np.float64 else kind
    return (np.arange(count, dtype=exact) * step + first).astype(start.dtype)


@imports("Trilu", host=(1,), moves=True)
def _import_trilu(call: Call, x: Tensor, k: np.ndarray | None = None) -> Tensor:
    return (ops.triu if call["upper"] else ops.tril)(x, 0 if k is None else int(k.reshape(-1)[0]))


@imports("EyeLike", moves=True, gradient=False)
def _import_eye_like(call: Call, x: Tensor) -> np.ndarray:
    dtype = dtype_of(call["dtype"]) if call["dtype"] else call.dtypes[0] or x.dtype
    if x.ndim != 2 or dtype is None:
        raise call.refuse(f"got a value of shape {x.shape}; must have two axes")
    return np.eye(x.shape[0], x.shape[1], call["k"]).astype(dtype)


@imports("ConstantOfShape", host=None)
def _import_constant_of_shape(call: Call, shape: np.ndarray) -> np.ndarray:
    value = np.zeros(1, np.float32) if call["value"] is None else call["value"].reshape(-1)
    return np.full(tuple(shape.tolist()), value[0], value.dtype)


@imports("CenterCropPad", host=(1,), moves=True)
def _import_center_crop_pad(call: Call, x: Tensor, shape: np.ndarray) -> Tensor:
    """Each length to the one that is wanted: the middle of it, or zeros around it."""
    axes = call["axes"] if call["axes"] is not None else list(range(x.ndim))
    index, sides = [slice(None)] * x.ndim, [(0, 0)] * x.ndim
    for axis, wanted in zip(axes, shape.tolist(), strict=True):
        more = wanted - x.shape[axis]
        if more < 0:
            index[axis] = slice(-more // 2, -more // 2 + wanted)
        else:
            sides[axis] = (more // 2, more - more // 2)
    return ops.pad(ops.getitem(x, tuple(index)), sides)


@imports("SpaceToDepth", moves=True)
def _import_space_to_depth(call: Call, x: Tensor) -> Tensor:
    """Places in a block come first in the depth (DCR), or last (CRD)."""
    n, c, h, w = x.shape
    b = call["blocksize"]
    blocks = ops.reshape(x, (n, c, h // b, b, w // b, b))
    order = (0, 3, 5, 1, 2, 4) if (call["mode"] or "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return ops.reshape(ops.transpose(blocks, order), (n, c * b * b, h // b, w // b))


@imports("DepthToSpace", moves=True)
def _import_depth_to_space(call: Call, x: Tensor) -> Tensor:
    """Places in a block come first in the depth (DCR), or last (CRD, as PyTorch's pixel_shuffle)."""
    n, c, h, w = x.shape
    b = call["blocksize"]
    c //= b * b
    if (call["mode"] or "DCR") == "DCR":
        blocks = ops.transpose(ops.reshape(x, (n, b, b, c, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        blocks = ops.transpose(ops.reshape(x, (n, c, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return ops.reshape(blocks, (n, c, h * b, w * b))


@imports("ReverseSequence", moves=True)
def _import_reverse_sequence(call: Call, x: Tensor, lengths: Tensor) -> Tensor:
    """The first ``lengths[b]`` elements in time of each sequence in reverse, the others as they are."""
    time, batch = call["time_axis"], call["batch_axis"]
    if {time, batch} != {0, 1}:
        raise call.refuse(f"time_axis is {time} and batch_axis {batch}; they must be 0 and 1")
    places = ops.arange(x.shape[time], dtype=np.int64, device=x.device)
    ends = ops.reshape(lengths, (-1, 1))
    turned = ops.where(places < ends, ends - 1 - places, places)
    if time == 0:
        turned = ops.transpose(turned)
    index = ops.reshape(turned, (*turned.shape, *(1,) * (x.ndim - 2)))
    return ops.gather(x, time, ops.broadcast_to(index, x.shape))


@imports("Where", moves=True)
def _import_where(call: Call, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ops.where(condition, x, y)
