"""A model in half precision: weights, constants and what is computed are float16 or bfloat16."""

from __future__ import annotations

from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Half", "halve"]

Half = Literal["float16", "bfloat16"]
TYPES = {"float16": (TensorProto.FLOAT16, np.float16), "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}
FLOAT32_OPERANDS = {"Resize": (1, 2), "Upsample": (1,), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}
"""By operator, the operands that are float32 whatever the data is."""
BFLOAT16_OPSET = 22  # the first whose convolutions and poolings take it


def halve(model: onnx.ModelProto, precision: Half, float32_inputs: bool = False) -> onnx.ModelProto:
    """``model`` with every float32 as float16 or bfloat16, each weight rounded once.

    Args:
        model: of float32.
        precision: of what is stored and computed.
        float32_inputs: whether inputs and outputs stay float32, converted as the model begins and ends.

    Raises:
        ValueError: a weight is too large for float16, or the opset is too old for bfloat16.

    Example:
        >>> import lucid
        >>> from lucid.graph import trace
        >>> from lucid.onnx import halve, to_onnx
        >>> model = halve(to_onnx(trace(lucid.nn.Linear(3, 2), lucid.ones((1, 3)))), "float16")
        >>> model.graph.initializer[0].data_type == 10
        True
    """
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if precision == "bfloat16" and opset < BFLOAT16_OPSET:
        raise ValueError(f"opset: got {opset}; bfloat16 needs {BFLOAT16_OPSET} or newer, whose convolutions take it")
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    kept = _float32_names(halved.graph)
    _convert_graph(halved.graph, precision, kept)
    if float32_inputs:
        _convert_ends(halved.graph, model.graph, TYPES[precision][0])
    return halved


def _float32_names(graph: onnx.GraphProto) -> set[str]:
    return {
        node.input[place]
        for node in graph.node
        for place in FLOAT32_OPERANDS.get(node.op_type, ())
        if place < len(node.input)
    }


def _convert_graph(graph: onnx.GraphProto, precision: str, kept: set[str]) -> None:
    code = TYPES[precision][0]
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _convert_tensor(tensor, precision)
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT and info.name not in kept:
            info.type.tensor_type.elem_type = code
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _convert_graph(attribute.g, precision, kept | _float32_names(attribute.g))
            elif attribute.name == "value" and attribute.HasField("t") and node.output[0] not in kept:
                _convert_tensor(attribute.t, precision)
            elif attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = code


def _convert_tensor(tensor: onnx.TensorProto, precision: str) -> None:
    if tensor.data_type != TensorProto.FLOAT:
        return
    array = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = array.astype(TYPES[precision][1])
    if bool((np.isinf(half.astype(np.float32)) & ~np.isinf(array)).any()):
        raise ValueError(
            f"precision: {tensor.name!r} holds {np.abs(array).max():g}, which is too large for {precision}"
        )
    tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))


def _convert_ends(graph: onnx.GraphProto, original: onnx.GraphProto, code: int) -> None:
    """Cast what comes in and what goes out."""
    held = {tensor.name for tensor in graph.initializer}
    before, after, renamed = [], [], {}
    for info, old in zip(graph.input, original.input, strict=True):
        if info.name not in held and old.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
            renamed[info.name] = f"{info.name}/half"
            before.append(helper.make_node("Cast", [info.name], [renamed[info.name]], renamed[info.name], to=code))
    for info, old in zip(graph.output, original.output, strict=True):
        if old.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
            inside = renamed.setdefault(info.name, f"{info.name}/half")
            after.append(helper.make_node("Cast", [inside], [info.name], f"{info.name}/float32", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend([*before, *nodes, *after])
