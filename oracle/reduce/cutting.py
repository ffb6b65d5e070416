"""Sub-graphs of an ONNX model: what lies between tensors that are given and tensors that are asked for.

A tensor that follows from no input of the model (weights, what is made of weights) is never given: it stays part of the
sub-graph. A few integers, such as a shape, are given as constants, so that what they decide stays decided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
FEW = 64  # so many integers along one axis are a constant of a sub-graph, not an input
_CONSTANT = "Constant"


class Cuts:
    """An ONNX model to be cut.

    Attributes:
        proto: the model.
        inputs: the names that a caller gives.
        outputs: those that it returns.
        nodes: places of the nodes that follow from an input, in the order of execution.
        made: by tensor, the place of the node that makes it.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto, graph = proto, proto.graph
        self._nodes = _ordered(graph.node)
        self._weights: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self._sparse: dict[str, Any] = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self.inputs = tuple(value.name for value in graph.input if value.name not in self._weights)
        self.outputs = tuple(value.name for value in graph.output)
        self.made = {name: place for place, node in enumerate(self._nodes) for name in node.output if name}
        self._takes = [tuple(_taken(node)) for node in self._nodes]
        self._follows = set(self.inputs)
        for takes, node in zip(self._takes, self._nodes, strict=True):
            if self._follows.intersection(takes) or _is_random(node):
                self._follows.update(filter(None, node.output))
        self.nodes = [
            place for place, node in enumerate(self._nodes) if self._follows.intersection(filter(None, node.output))
        ]
        self._types = _types(proto)

    def node(self, place: int) -> onnx.NodeProto:
        """The node of that place."""
        return self._nodes[place]

    def follows(self, name: str) -> bool:
        """Whether a tensor follows from an input."""
        return name in self._follows

    def tensors(self) -> list[str]:
        """Every tensor that a node makes and that follows from an input, in the order of execution."""
        return [name for place in self.nodes for name in self._nodes[place].output if name]

    def taken(self, place: int) -> tuple[str, ...]:
        """The tensors that a node takes, those that graphs within it take too."""
        return self._takes[place]

    def between(self, cut: Collection[str], outputs: Sequence[str]) -> tuple[list[str], list[int]]:
        """What makes ``outputs`` of the tensors in ``cut`` and of the model's inputs.

        Returns:
            The tensors that must be given, and the places of the nodes.
        """
        given: set[str] = set()
        places: set[int] = set()
        wanted, seen = list(outputs), set(self._weights) | set(self._sparse)
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            place = self.made.get(name)
            if place is None or (name in cut and name in self._follows and name not in outputs):
                given.add(name)
            elif place not in places:
                places.add(place)
                wanted += self._takes[place]
        return [name for name in (*self.inputs, *self.made) if name in given], sorted(places)

    def cut(self, given: Arrays, places: Sequence[int], outputs: Sequence[str]) -> tuple[onnx.ModelProto, list[str]]:
        """A model of some nodes, and the names of its inputs; the shapes of these are those of the arrays.

        Args:
            given: what stands for the tensors that it takes; of several, the model takes those that are no constants.
            places: its nodes.
            outputs: what it returns.
        """
        constants = [name for name, array in given.items() if self._is_constant(name, array)]
        inputs = [name for name in given if name not in constants]
        made = self.part(places, outputs)
        made.graph.initializer.extend(numpy_helper.from_array(given[name], name) for name in constants)
        made.graph.input.extend(self._input(name, given[name]) for name in inputs)
        return made, inputs

    def part(self, places: Sequence[int], outputs: Sequence[str]) -> onnx.ModelProto:
        """A model of some nodes and of their weights; its inputs are left out."""
        taken = {name for place in places for name in self._takes[place]}
        graph = helper.make_graph(
            [self._nodes[place] for place in places],
            "reduced",
            [],
            [self._value(name) for name in outputs],
            [tensor for name, tensor in self._weights.items() if name in taken],
            sparse_initializer=[tensor for name, tensor in self._sparse.items() if name in taken],
        )
        return helper.make_model(
            graph,
            opset_imports=self.proto.opset_import,
            ir_version=self.proto.ir_version,
            functions=self.proto.functions,
        )

    def _input(self, name: str, array: Array) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, self.type_of(name, array), array.shape)

    def resized(self, model: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto:
        """A part of the model, for inputs of other shapes."""
        made = onnx.ModelProto()
        made.CopyFrom(model)
        del made.graph.input[:]
        made.graph.input.extend(self._input(name, array) for name, array in inputs.items())
        return made

    def count(self, places: Sequence[int]) -> int:
        """How many of the nodes compute anything of an input."""
        return sum(self.follows(name) for place in places for name in self._nodes[place].output[:1])

    def type_of(self, name: str, array: Array) -> int:
        """The element type of a tensor: the model's, or else what an array of it has, floats being float32."""
        found = self._types.get(name)
        if found is not None and found.tensor_type.elem_type:
            return int(found.tensor_type.elem_type)
        kind = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype
        return int(helper.np_dtype_to_tensor_dtype(kind))

    def dtype_of(self, name: str) -> np.dtype[Any] | None:
        """The same as NumPy has it, where the model says it."""
        found = self._types.get(name)
        if found is None or not found.tensor_type.elem_type:
            return None
        return np.dtype(helper.tensor_dtype_to_np_dtype(found.tensor_type.elem_type))

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape that the model declares, 0 for a side that is open."""
        found = self._types.get(name)
        sides = () if found is None else found.tensor_type.shape.dim
        return tuple(side.dim_value if side.HasField("dim_value") else 0 for side in sides)

    def _is_constant(self, name: str, array: Array) -> bool:
        return array.dtype.kind in "iub" and array.ndim <= 1 and array.size <= FEW and name not in self.inputs

    def _value(self, name: str) -> onnx.ValueInfoProto:
        """An output; its shape is left open."""
        found = self._types.get(name)
        if found is None or not found.tensor_type.elem_type:
            return helper.make_empty_tensor_value_info(name)
        return helper.make_tensor_value_info(name, found.tensor_type.elem_type, None)


def _ordered(nodes: Any) -> list[onnx.NodeProto]:
    """The nodes, constants first, which take nothing."""
    return sorted(nodes, key=lambda node: node.op_type != _CONSTANT)


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            for inner in graph.node:
                yield from (name for name in _taken(inner) if name not in own)
                own.update(inner.output)
            yield from (value.name for value in graph.output if value.name not in own)


def _is_random(node: onnx.NodeProto) -> bool:
    return node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")


def _types(proto: onnx.ModelProto) -> dict[str, Any]:
    """By tensor, its type, as far as onnx infers it."""
    try:
        graph = shape_inference.infer_shapes(proto).graph
    except Exception:  # InferenceError, and what else C++ throws
        graph = proto.graph
    return {value.name: value.type for value in (*graph.value_info, *graph.output, *graph.input)}
