"""From lucid's graph to ONNX.

The graph's variables are inputs of the model that need not be given: the initializers of these names are their values.

Nodes and tensors keep the names of the graph, which are module paths; what one operation needs besides is named
``<name>/<what>``. ``lucid.onnx.operators`` says what stands for each operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lucid._version import __version__
from lucid.core import ARITHMETIC_VERSION
from lucid.graph import Graph
from lucid.onnx import operators  # noqa: F401 (the operations are entered when it is imported)
from lucid.onnx._builder import Builder, value_info

__all__ = ["DEFAULT_OPSET", "NEWEST_OPSET", "OLDEST_OPSET", "to_onnx"]

OLDEST_OPSET = 13  # the first in which the reductions' and shapes' operators have the form that this file writes
NEWEST_OPSET = min(onnx.defs.onnx_opset_version(), 25)  # the newest that has been tried with ONNX Runtime
DEFAULT_OPSET = 17  # known to every runtime of the last years


def to_onnx(
    graph: Graph,
    *,
    opset: int = DEFAULT_OPSET,
    also: Literal["all"] | Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    name: str = "lucid",
) -> onnx.ModelProto:
    """The ONNX model of a graph.

    Args:
        graph: of ``lucid.graph.trace``.
        opset: version of ONNX's operators.
        also: names of values to return besides the graph's own outputs, or ``"all"`` for every value that a node makes.
        metadata: entries for ``metadata_props``, besides lucid's version and its arithmetic's.
        name: of the ONNX graph.

    Raises:
        ValueError: ``opset`` is out of range, ``also`` names no value of the graph, or an operation has no
            counterpart in ONNX.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> from lucid.graph import trace
        >>> from lucid.onnx import to_onnx
        >>> model = to_onnx(trace(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), lucid.ones((1, 3))))
        >>> [(node.name, node.op_type) for node in model.graph.node]
        [('0', 'Gemm'), ('1', 'Relu')]
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ValueError(f"opset: got {opset}; it may be {OLDEST_OPSET} to {NEWEST_OPSET}")
    builder = Builder(graph, opset)
    for node in graph.nodes:
        builder.translate(node)
    outputs = [builder.output(name) for name in graph.outputs]
    extra = _extra_outputs(graph, also)
    returned = {info.name for info in outputs} | set(extra)
    used = {name for node in builder.nodes for name in node.input}
    variables = [name for name in graph.variables if name in used]
    proto = helper.make_graph(
        builder.nodes,
        name,
        [value_info(graph, value) for value in (*graph.inputs, *variables)],
        [*outputs, *(value_info(graph, value) for value in extra)],
        [*(_tensor(name, array) for name, array in graph.initializers.items() if name in used), *builder.constants],
        value_info=[value_info(graph, node.output) for node in graph.nodes if node.output not in returned],
    )
    versions = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        proto,
        opset_imports=versions,
        ir_version=helper.find_min_ir_version_for(versions),
        producer_name="lucid",
        producer_version=__version__,
    )
    helper.set_model_props(model, {**_versions(), **(metadata or {})})
    return model


def _versions() -> dict[str, str]:
    return {"lucid.version": __version__, "lucid.arithmetic": str(ARITHMETIC_VERSION)}


def _extra_outputs(graph: Graph, also: Literal["all"] | Sequence[str]) -> list[str]:
    made = [node.output for node in graph.nodes]
    unknown = [] if also == "all" else [name for name in also if name not in made]
    if unknown:
        raise ValueError(f"also: no node of the graph makes {', '.join(map(repr, unknown))}")
    return [name for name in made if name not in graph.outputs and (also == "all" or name in also)]


def _tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
