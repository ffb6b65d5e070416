"""Sequences: lists of tensors and arrays, which no operator changes in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.onnx._importer import Call, Value, imports
from lucid.onnx._types import as_value
from lucid.onnx.operators.control import sliced


@imports("SequenceConstruct", raw=True)
def _import_construct(call: Call, *values: Value) -> list[Value]:
    return list(values)


@imports("SequenceEmpty", raw=True)
def _import_empty(call: Call) -> list[Value]:
    return []


def _place(call: Call, position: np.ndarray, length: int, last: int) -> int:
    place = int(position.reshape(-1)[0])
    if not -length <= place <= last:
        raise call.refuse(f"its position is {place} in a sequence of {length}")
    return place + length if place < 0 else place


@imports("SequenceAt", host=(1,), raw=True)
def _import_at(call: Call, sequence: list[Value], position: np.ndarray) -> Value:
    return sequence[_place(call, position, len(sequence), len(sequence) - 1)]


@imports("SequenceInsert", host=(2,), raw=True)
def _import_insert(call: Call, sequence: list[Value], value: Value, position: np.ndarray | None = None) -> list[Value]:
    """Before the position; at the end without one."""
    place = len(sequence) if position is None else _place(call, position, len(sequence), len(sequence))
    return [*sequence[:place], value, *sequence[place:]]


@imports("SequenceErase", host=(1,), raw=True)
def _import_erase(call: Call, sequence: list[Value], position: np.ndarray | None = None) -> list[Value]:
    """The position's, or the last one."""
    given = np.asarray(-1) if position is None else position
    place = _place(call, given, len(sequence), len(sequence) - 1)
    return [*sequence[:place], *sequence[place + 1 :]]


@imports("SequenceLength", raw=True, gradient=False)
def _import_length(call: Call, sequence: list[Value]) -> np.ndarray:
    return np.asarray(len(sequence), np.int64)


@imports("SequenceMap", raw=True)
def _import_map(call: Call, sequence: list[Value], *others: Value) -> tuple[list[Value], ...]:
    """The body on each element; of further sequences likewise, tensors are the same for all."""
    made = [
        call["body"](value, *(other[i] if isinstance(other, list) else other for other in others))
        for i, value in enumerate(sequence)
    ]
    return tuple([each[i] for each in made] for i in range(len(call.outputs)))


@imports("SplitToSequence", host=(1,), raw=True)
def _import_split_to_sequence(call: Call, value: Value, split: np.ndarray | None = None) -> list[Value]:
    """In parts of given lengths, or of one, of which the last may be shorter; without it one by one."""
    axis = call["axis"] % value.ndim
    length = value.shape[axis]
    if split is None and not call["keepdims"]:
        return [sliced(value, axis, i) for i in range(length)]
    if split is not None and split.ndim:
        ends = np.add.accumulate(split).tolist()
        if not ends or ends[-1] != length or int(split.min()) < 0:
            raise call.refuse(f"split: got {split.tolist()} for a length of {length}")
    else:
        step = 1 if split is None else int(split)
        if step < 1:
            raise call.refuse(f"split: got {step}; must be at least 1")
        ends = [min(length, end) for end in range(step, length + step, step)]
    return [sliced(value, axis, slice(start, end)) for start, end in zip([0, *ends], ends, strict=False)]


@imports("ConcatFromSequence", raw=True)
def _import_concat_from_sequence(call: Call, sequence: list[Value]) -> Value:
    if not sequence:
        raise call.refuse("its sequence is empty")
    axis, stacks = call["axis"], bool(call["new_axis"])
    tensors = [value for value in sequence if isinstance(value, Tensor)]
    if not tensors:
        join: Any = np.stack if stacks else np.concatenate
        return join(sequence, axis)
    parts = [v if isinstance(v, Tensor) else as_value(v, tensors[0].device) for v in sequence]
    return (ops.stack if stacks else ops.concatenate)(parts, axis)
