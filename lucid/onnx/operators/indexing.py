"""Places along an axis and order: ``lucid.ops.indexing`` and ``lucid.ops.order`` in ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.graph import Node
from lucid.onnx._builder import Builder, exports
from lucid.onnx._importer import Call, imports
from lucid.onnx._types import as_array


@exports("gather", "index_select")
def _gather(b: Builder, node: Node) -> None:
    op_type = "GatherElements" if node.op == "gather" else "Gather"
    b.emit(op_type, node, node.inputs, axis=node.attrs["axis"])


@exports("scatter", "scatter_add")
def _scatter(b: Builder, node: Node) -> None:
    attrs: dict[str, Any] = {"axis": node.attrs["axis"]}
    if node.op == "scatter_add":
        if b.opset < 16:
            raise ValueError(f"{node.name!r}: scatter_add has a counterpart in the ONNX export from opset 16 on")
        attrs["reduction"] = "add"
    b.emit("ScatterElements", node, node.inputs, **attrs)


@exports("argsort", "topk")
def _order(b: Builder, node: Node) -> None:
    axis, sort = node.attrs["axis"], node.op == "argsort"
    count = b.shape(node.inputs[0])[axis] if sort else node.attrs["k"]
    if not isinstance(count, int):
        raise ValueError(f"{node.name!r}: the order along an axis of open size has no counterpart in the ONNX export")
    inputs = [str(node.inputs[0]), b.constant(node, "k", [count])]
    largest = int(node.attrs["descending" if sort else "largest"])
    outputs = [f"{node.name}/values", node.output]
    b.nodes.append(helper.make_node("TopK", inputs, outputs, name=node.name, axis=axis, largest=largest, sorted=1))


@exports("index_add")
def _index_add(b: Builder, node: Node) -> None:
    """By the first axis, to which another one is turned."""
    if b.opset < 16:
        raise ValueError(f"{node.name!r}: index_add has a counterpart in the ONNX export from opset 16 on")
    (x, index, values), axis, axes = node.inputs, node.attrs["axis"], len(b.shape(node.output))
    turned = [axis, *(i for i in range(axes) if i != axis)]
    if axis:
        x = b.emit("Transpose", node, [x], "turned", perm=turned)
        values = b.emit("Transpose", node, [values], "values", perm=turned)
    places = b.emit("Unsqueeze", node, [index, b.constant(node, "last", [-1])], "places")
    made = b.emit("ScatterND", node, [x, places, values], "sums" if axis else "", reduction="add")
    if axis:
        b.emit("Transpose", node, [made], perm=sorted(range(axes), key=turned.__getitem__))


@imports("Gather", moves=True)
def _import_gather(call: Call, x: Tensor, index: Tensor) -> Tensor:
    """Slices along an axis, in the place of which the index's axes are."""
    axis = call["axis"] % x.ndim if x.ndim else 0
    taken = ops.index_select(x, axis, ops.reshape(index, (index.size,)))
    if index.ndim == 1:
        return taken
    return ops.reshape(taken, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


@imports("GatherElements", moves=True)
def _import_gather_elements(call: Call, x: Tensor, index: Tensor) -> Tensor:
    return ops.gather(x, call["axis"], index)


@imports("GatherND", moves=True)
def _import_gather_nd(call: Call, x: Tensor, index: Tensor) -> Tensor:
    """The slice of ``x`` that each row of the index names; ``batch_dims`` leading axes belong together."""
    batch = call["batch_dims"] or 0
    depth = index.shape[-1]
    if batch + depth > x.ndim or x.shape[:batch] != index.shape[:batch]:
        raise call.refuse(f"got an index of shape {index.shape} for a value of shape {x.shape}")
    rows, rest = _numbered(index, x.shape[batch : batch + depth]), x.shape[batch + depth :]
    batches, size = math.prod(x.shape[:batch]), math.prod(x.shape[batch : batch + depth])
    if batch:
        first = ops.arange(batches, dtype=np.int64, device=x.device) * size
        rows = ops.reshape(rows, (batches, -1)) + ops.reshape(first, (-1, 1))
    flat = ops.reshape(x, (batches * size, *rest))
    return ops.reshape(ops.index_select(flat, 0, ops.reshape(rows, (-1,))), (*index.shape[:-1], *rest))


def _numbered(index: Tensor, lengths: Sequence[int]) -> Tensor:
    """The places that rows of numbers name, counted in row-major order of axes of these lengths."""
    if not lengths:
        return ops.zeros(math.prod(index.shape[:-1]), dtype=np.int64, device=index.device)
    total: Any = 0
    for axis, length in enumerate(lengths):
        place = ops.reshape(index[..., axis], (-1,))
        numbers = ops.arange(length, dtype=np.int64, device=index.device)
        total = total * length + ops.index_select(numbers, 0, place)  # from the end, and out of range, as elsewhere
    return total


_BY: dict[str, Any] = {"mul": ops.mul, "min": ops.minimum, "max": ops.maximum}


@imports("Scatter", "ScatterElements", moves=True)
def _import_scatter(call: Call, x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Put, or combined with what is there, in row-major order of the index; of those that are put the last stays."""
    reduction = call["reduction"] or "none"
    if reduction in ("none", "add"):
        return (ops.scatter if reduction == "none" else ops.scatter_add)(x, call["axis"], index, values)
    axis = call["axis"] % x.ndim
    places = as_array(index)
    places = np.where(places < 0, places + x.shape[axis], places)
    grid: list[Any] = list(np.indices(places.shape, sparse=True))
    grid[axis] = places
    flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*grid)), x.shape).ravel()
    return ops.reshape(_combined(call, ops.reshape(x, (-1,)), flat, ops.reshape(values, (-1,)), reduction), x.shape)


@imports("ScatterND", moves=True)
def _import_scatter_nd(call: Call, x: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Likewise with slices of ``x``, which the rows of the index name."""
    reduction, depth = call["reduction"] or "none", index.shape[-1]
    rows, rest = math.prod(x.shape[:depth]), math.prod(x.shape[depth:])
    target = ops.reshape(x, (rows, rest))
    places = ops.reshape(_numbered(index, x.shape[:depth]), (-1,))
    source = ops.reshape(values, (places.size, rest))
    if reduction == "none":
        made = ops.scatter(target, 0, ops.broadcast_to(ops.reshape(places, (-1, 1)), source.shape), source)
    elif reduction == "add":
        made = ops.index_add(target, 0, places, source)
    else:
        made = _combined(call, target, as_array(places), source, reduction)
    return ops.reshape(made, x.shape)


def _combined(call: Call, x: Tensor, places: np.ndarray, values: Tensor, reduction: str) -> Tensor:
    """``x[places[i]] = f(x[places[i]], values[i])`` for one i after the other.

    In rounds: first all that meet their place for the first time, then those that do for the second time ..
    """
    combine = _BY[reduction]
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    fresh = np.ones(len(ordered), np.bool_)
    fresh[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(fresh)
    turn = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    for number in range(turn.max(initial=-1) + 1):
        chosen = np.sort(order[turn == number])
        rows = places[chosen]
        made = combine(ops.index_select(x, 0, rows), ops.index_select(values, 0, chosen))
        wide = rows.reshape(-1, *(1,) * (x.ndim - 1))
        x = ops.scatter(x, 0, np.broadcast_to(wide, made.shape), made)
    return x


@imports("TensorScatter", moves=True)
def _import_tensor_scatter(call: Call, cache: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
    """A cache with values put in from the place on that ``starts`` has for each sequence; circular: past the end."""
    axis = call["axis"] % cache.ndim
    places = ops.arange(update.shape[axis], dtype=np.int64, device=cache.device)
    shape = [1] * cache.ndim
    shape[axis] = update.shape[axis]
    index = ops.reshape(places, shape)
    if starts is not None:
        index = index + ops.reshape(starts, (-1, *(1,) * (cache.ndim - 1)))
    if call["mode"] == "circular":
        index = ops.remainder(index, cache.shape[axis])
    return ops.scatter(cache, axis, ops.broadcast_to(index, update.shape), update)


@imports("OneHot", host=(1,), moves=True)
def _import_one_hot(call: Call, index: Tensor, depth: np.ndarray, values: Tensor) -> Tensor:
    """``values[1]`` where the new axis is at the index, which may count from the end; else ``values[0]``."""
    count = int(depth.reshape(-1)[0])
    axis = call["axis"] % (index.ndim + 1)
    index = index if index.dtype == np.int64 else index.astype(np.int64)
    chosen = ops.unsqueeze(ops.where(index < 0, index + count, index), axis)
    places = ops.reshape(ops.arange(count, dtype=np.int64, device=index.device), (-1, *(1,) * (index.ndim - axis)))
    return ops.where(chosen == places, values[1], values[0])


@imports("NonZero", moves=True, gradient=False)
def _import_nonzero(call: Call, x: Tensor) -> Tensor | np.ndarray:
    places = ops.transpose(ops.nonzero(x if x.ndim else ops.reshape(x, (1,))))
    return as_array(places) if x.device == "cpu" else places


@imports("Compress", host=(1,), moves=True)
def _import_compress(call: Call, x: Tensor, condition: np.ndarray) -> Tensor:
    axis = call["axis"]
    if axis is None:
        x, axis = ops.reshape(x, (-1,)), 0
    return ops.index_select(x, axis, np.flatnonzero(condition))


@imports("TopK", host=(1,))
def _import_topk(call: Call, x: Tensor, k: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """Of equal elements the first ones; they are always in order."""
    count = call["k"] if k is None else int(k.reshape(-1)[0])
    return ops.topk(x, count, -1 if call["axis"] is None else call["axis"], call["largest"] != 0)


@imports("Unique", host=None)
def _import_unique(call: Call, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """The different elements or slices, where each is first, which of them each is, and how often it is there.

    In order, or as they come.
    """
    axis = call["axis"]
    rows = x.reshape(-1, 1) if axis is None else np.moveaxis(x, axis, 0)
    kept = rows.shape[1:]
    rows = rows.reshape(len(rows), math.prod(kept))
    ranks = np.stack([np.unique(column, return_inverse=True)[1].reshape(-1) for column in rows.T], axis=-1)
    _, first, inverse, counts = np.unique(ranks, axis=0, return_index=True, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    if not call["sorted"]:
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        first, inverse, counts = first[order], place[inverse], counts[order]
    made = rows[first].reshape(len(first), *kept)
    made = made.reshape(-1) if axis is None else np.moveaxis(made, 0, axis)
    return made, first, inverse, counts


@imports("ArgMax", "ArgMin", gradient=False)
def _import_arg_extreme(call: Call, x: Tensor) -> Tensor:
    """Where the first extreme element is, or the last one."""
    axis = call["axis"] % x.ndim
    find = ops.argmax if call.operator == "ArgMax" else ops.argmin
    last = bool(call["select_last_index"])
    found = x.shape[axis] - 1 - find(ops.flip(x, axis), axis) if last else find(x, axis)
    return ops.unsqueeze(found, axis) if call["keepdims"] else found


@imports("Hardmax", gradient=False)
def _import_hardmax(call: Call, x: Tensor) -> Tensor:
    """1 at the first largest element, else 0; before opset 13 of all axes from ``axis`` on together."""
    axis = call["axis"] % x.ndim
    if call.version < 13:
        flat = ops.reshape(x, (math.prod(x.shape[:axis]), -1))
        return ops.reshape(_hard(flat, 1), x.shape)
    return _hard(x, axis)


def _hard(x: Tensor, axis: int) -> Tensor:
    places = ops.arange(x.shape[axis], dtype=np.int64, device=x.device)
    places = ops.reshape(places, (-1, *(1,) * (x.ndim - 1 - axis)))
    return (ops.unsqueeze(ops.argmax(x, axis), axis) == places).astype(x.dtype)
