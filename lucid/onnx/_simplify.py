"""Making a model smaller without changing what it computes: constants are folded by lucid's arithmetic, copies and what
nobody takes are left out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lucid.onnx.backend import LucidBackend

__all__ = ["simplify"]

LARGEST = 1 << 20  # elements of a folded constant that was smaller before: a spread array is larger than its recipe
_KEPT = {"Constant", "ConstantOfShape", "QuantizeLinear", "DequantizeLinear", "RandomNormal", "RandomUniform"}
_RANDOM = {"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of the same outputs with fewer nodes.

    Nodes of constants alone are computed by lucid, whose results are those of its law; Identity and what no output
    needs is left out. Initializers that are inputs, too, are not constant. Nodes with graphs inside stay.

    Example:
        >>> import lucid
        >>> from lucid.graph import trace
        >>> from lucid.onnx import simplify, to_onnx
        >>> model = to_onnx(trace(lucid.nn.Linear(3, 2), lucid.ones((1, 5, 3))))
        >>> [node.op_type for node in model.graph.node], [node.op_type for node in simplify(model).graph.node]
        (['Transpose', 'MatMul', 'Add'], ['MatMul', 'Add'])
    """
    simpler = onnx.ModelProto()
    simpler.CopyFrom(model)
    graph = simpler.graph
    given = {info.name for info in graph.input}
    outputs = {info.name for info in graph.output}
    constants = {each.name: each for each in graph.initializer if each.name not in given}
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs and not _inner(graph):
            renamed[node.output[0]] = node.input[0]
        elif not _folded(node, simpler, constants, outputs):
            nodes.append(node)
    needed, kept = set(outputs) | _captured(nodes), []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed.update(node.input)
    held = [each for each in graph.initializer if each.name in given or each.name in needed]
    new = [each for name, each in constants.items() if name in needed and each.name not in {h.name for h in held}]
    infos = [info for info in graph.value_info if info.name in needed]
    for field, parts in ((graph.node, kept[::-1]), (graph.initializer, [*held, *new]), (graph.value_info, infos)):
        copies = [type(part).FromString(part.SerializeToString()) for part in parts]
        del field[:]
        field.extend(copies)
    return simpler


def _inner(graph: onnx.GraphProto) -> bool:
    return any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)


def _captured(nodes: list[onnx.NodeProto]) -> set[str]:
    """What graphs inside take from around them."""
    graphs = [attribute.g for node in nodes for attribute in node.attribute if attribute.HasField("g")]
    return {name for graph in graphs for node in graph.node for name in node.input} | {
        name for graph in graphs for name in _captured(list(graph.node))
    }


def _folded(
    node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, onnx.TensorProto], outputs: set[str]
) -> bool:
    """Enter a node's results as constants, if it is one of constants alone."""
    taken = [name for name in node.input if name]
    if node.op_type == "Constant" or not taken or node.op_type in _KEPT | _RANDOM or set(node.output) & outputs:
        return False
    if any(name not in constants for name in taken) or any(part.HasField("g") for part in node.attribute):
        return False
    arrays = [numpy_helper.to_array(constants[name]) for name in dict.fromkeys(taken)]
    infos = [
        helper.make_tensor_value_info(name, constants[name].data_type, constants[name].dims)
        for name in dict.fromkeys(taken)
    ]
    results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    single = helper.make_model(helper.make_graph([node], "node", infos, results), opset_imports=model.opset_import)
    try:
        made = LucidBackend.run_model(single, arrays)
    except (ValueError, TypeError, NotImplementedError, RuntimeError):
        return False  # an operator that lucid does not compute stays
    if any(not isinstance(each, np.ndarray) for each in made):
        return False
    if sum(each.size for each in made) > max(LARGEST, sum(each.size for each in arrays)):
        return False
    for name, array in zip([name for name in node.output if name], made, strict=True):
        constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
    return True
