"""What collects a model's nodes, and the table of the functions that say which (``lucid.onnx.operators``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lucid.graph import Graph, Node

Export = Callable[["Builder", Node], None]
EXPORTS: dict[str, Export] = {}
"""By operation, what emits the nodes that stand for it."""


def exports(*operations: str) -> Callable[[Export], Export]:
    """Enter the decorated function for these operations."""

    def enter(export: Export) -> Export:
        EXPORTS.update(dict.fromkeys(operations, export))
        return export

    return enter


def alike(operators: Mapping[str, str]) -> None:
    """Enter operations that ONNX has with the same operands and no attributes, each by its operator."""
    for operation, operator in operators.items():
        EXPORTS[operation] = partial(_alike, operator)


def _alike(operator: str, b: Builder, node: Node) -> None:
    b.emit(operator, node, node.inputs)


def value_info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    """A value of the graph, as ONNX describes it."""
    value = graph.values[name]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape))


class Builder:
    """Collects the nodes and constants of a model while the functions of ``EXPORTS`` run."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self.graph = graph
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.made: set[str] = set()
        self.returned: set[str] = set()

    def translate(self, node: Node) -> None:
        if node.op in EXPORTS:
            EXPORTS[node.op](self, node)
        elif node.body:
            self.translate_body(node)
        else:
            raise ValueError(f"the operation {node.op!r} of {node.name!r} has no counterpart in the ONNX export")

    def translate_body(self, node: Node) -> None:
        """What a composed operation consists of, instead of itself."""
        for part in node.body:
            self.translate(part)

    def emit(self, op_type: str, node: Node, inputs: Sequence[str | None], what: str = "", **attrs: Any) -> str:
        """A node that makes ``node.output``, or, for a step on the way, ``<node.name>/<what>``."""
        name, output = (f"{node.name}/{what}",) * 2 if what else (node.name, node.output)
        operands = ["" if operand is None else operand for operand in inputs]
        while operands and not operands[-1]:
            operands.pop()
        self.nodes.append(helper.make_node(op_type, operands, [output], name=name, **attrs))
        return output

    def output(self, name: str) -> onnx.ValueInfoProto:
        """An output of the model; a copy where no node makes the value, or where it is returned a second time."""
        if not self.returned:  # everything is made before the first is returned
            self.made = {output for node in self.nodes for output in node.output}
        if name in self.made and name not in self.returned:
            self.returned.add(name)
            return value_info(self.graph, name)
        copy = f"{name}/output{len(self.returned)}"
        self.returned.add(copy)
        self.nodes.append(helper.make_node("Identity", [name], [copy], name=copy))
        info = value_info(self.graph, name)
        info.name = copy
        return info

    def constant(self, node: Node, what: str, array: Any, dtype: Any = np.int64) -> str:
        name = f"{node.name}/{what}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def shape(self, name: str | None) -> tuple[int | str | None, ...]:
        return self.graph.values[str(name)].shape

    def dtype(self, name: str | None) -> np.dtype:
        return self.graph.values[str(name)].dtype
