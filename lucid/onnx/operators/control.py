"""Control flow: graphs within the model that run once, or again and again. A condition is read as the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.onnx._importer import Call, Value, imports
from lucid.onnx._types import as_array, as_value


@imports("If", host=(0,), raw=True)
def _import_if(call: Call, condition: np.ndarray) -> tuple[Value, ...]:
    return tuple(call["then_branch" if condition.reshape(-1)[0] else "else_branch"]())


@imports("Loop", host=(0, 1), raw=True)
def _import_loop(
    call: Call, count: np.ndarray | None = None, condition: np.ndarray | None = None, *carried: Value
) -> tuple[Value, ...]:
    """``count`` times, or as long as the condition holds; what it carries along comes first, then what it stacks."""
    limit = None if count is None else int(count.reshape(-1)[0])
    goes_on = condition is None or bool(condition.reshape(-1)[0])
    states, stacks = list(carried), [[] for _ in call.outputs[len(carried) :]]  # type: list[Value], list[list[Value]]
    turn = 0
    while goes_on and (limit is None or turn < limit):
        told, *made = call["body"](np.asarray(turn, np.int64), np.asarray(True), *states)
        states = made[: len(states)]
        for stack, value in zip(stacks, made[len(states) :], strict=False):
            stack.append(value)
        goes_on = bool(_host(told).reshape(-1)[0])
        turn += 1
    dtypes = call.results[len(states) :]
    return (*states, *(_stacked(stack, 0, dtype) for stack, dtype in zip(stacks, dtypes, strict=True)))


def _host(value: Value) -> np.ndarray:
    return as_array(value) if isinstance(value, Tensor) else value


def _stacked(values: Sequence[Value], axis: int, dtype: np.dtype[Any] | None, shape: Sequence[int] = ()) -> Value:
    """Values along a new axis; without any, of length 0."""
    if not values:
        return np.zeros((*shape[:axis], 0, *shape[axis:]), dtype or np.float32)
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return np.stack(values, axis)
    return ops.stack([v if isinstance(v, Tensor) else as_value(v, tensors[0].device) for v in values], axis)


def sliced(value: Value, axis: int, index: int | slice) -> Value:
    """What is at a place along an axis."""
    return value[(slice(None),) * (axis % value.ndim) + (index,)]


@imports("Scan", raw=True)
def _import_scan(call: Call, *operands: Value) -> tuple[Value, ...]:
    """The body over slices of its last operands; what it carries along comes first, then what it stacks.

    Before opset 9 the first axis is a batch, the second is gone along, and the lengths of the batch come first.
    """
    count = call["num_scan_inputs"]
    if call.version >= 9:
        return tuple(_scan(call, operands, count))
    lengths, rest = operands[0], operands[1:]
    made = []
    for number in range(rest[0].shape[0]):
        values = [sliced(value, 0, number) for value in rest]
        if lengths is not None:
            end = int(_host(lengths)[number])
            values[-count:] = [sliced(value, 0, slice(end)) for value in values[-count:]]
        made.append(_scan(call, values, count))
    return tuple(_stacked(each, 0, dtype) for each, dtype in zip(zip(*made, strict=True), call.results, strict=True))


def _scan(call: Call, operands: Sequence[Value], count: int) -> list[Value]:
    states, inputs = list(operands[: len(operands) - count]), operands[len(operands) - count :]
    outputs = len(call.outputs) - len(states)
    old = call.version < 9
    if not 0 < count <= len(operands):
        raise call.refuse(f"num_scan_inputs is {count} of {len(operands)} operands")
    axes = call["scan_input_axes"] or [0] * count
    turned = call["directions" if old else "scan_input_directions"] or [0] * count
    lengths = {value.shape[axis] for value, axis in zip(inputs, axes, strict=True)}
    if len(lengths) != 1:
        raise call.refuse(f"its operands have lengths {sorted(lengths)}, which must be one")
    [length] = lengths
    stacks: list[list[Value]] = [[] for _ in range(outputs)]
    for turn in range(length):
        slices = [
            sliced(value, axis, length - 1 - turn if back else turn)
            for value, axis, back in zip(inputs, axes, turned, strict=True)
        ]
        made = call["body"](*states, *slices)
        states = made[: len(states)]
        for stack, value in zip(stacks, made[len(states) :], strict=False):
            stack.append(value)
    into = call["scan_output_axes"] or [0] * outputs
    back_to_front = call["scan_output_directions"] or [0] * outputs
    dtypes = call.results[len(states) :]
    for stack, axis, back, dtype in zip(stacks, into, back_to_front, dtypes, strict=True):
        ndim = stack[0].ndim + 1 if stack else 1
        states.append(_stacked(stack[::-1] if back else stack, axis % ndim, dtype))
    return states


# -- values that may not be there ------------------------------------------------------------------------------------


@imports("Optional", raw=True)
def _import_optional(call: Call, value: Value = None) -> Value:
    return value


@imports("OptionalHasElement", raw=True, gradient=False)
def _import_has_element(call: Call, value: Value = None) -> np.ndarray:
    return np.asarray(value is not None)


@imports("OptionalGetElement", raw=True)
def _import_get_element(call: Call, value: Value) -> Value:
    if value is None:
        raise call.refuse("its operand is an empty optional")
    return value
