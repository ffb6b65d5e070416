"""ONNX Runtime layer by layer: every layer cut out of the model and run as a small model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import onnx

from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.graph.graph import INPUT, Node
from oracle.subjects.layerwise import Array, CodeFeed, CodeRun, LayerRun, Layerwise


class _Subject(Protocol):
    """What is asked of an `OnnxRuntimeSubject`."""

    def export(self, case: Case) -> tuple[onnx.ModelProto, dict[str, str]]: ...

    def load(self, model: bytes) -> Any: ...


class OnnxLayers(Layerwise):
    """The model that an `OnnxRuntimeSubject` would run, taken apart at the layers' tensors."""

    def __init__(self, subject: _Subject, case: Case) -> None:
        self._subject = subject
        proto, names = subject.export(case)
        self._image = proto.graph.input[0].name
        self._tensors = {layer: tensor for tensor, layer in names.items()}
        self._parts = _Parts(proto)

    def drives(self, node: Node) -> bool:
        """Whether all of its tensors are there."""
        return bool(node.inputs) and {node.name, *node.inputs} - {INPUT} <= set(self._tensors)

    def run(self, node: Node, inputs: Sequence[Array], gradient: Array | None) -> LayerRun:
        """Run the part of the model between the layer's inputs and its output."""
        return LayerRun(self._run(node, inputs))

    def run_code(self, node: Node, feed: CodeFeed) -> CodeRun:
        """Run the part of the model between the operation's inputs and its output."""
        return CodeRun(self._run(node, [feed.outputs.get(name, feed.source) for name in node.inputs]))

    def _run(self, node: Node, inputs: Sequence[Array]) -> Array:
        given = [self._image if name == INPUT else self._tensors[name] for name in node.inputs]
        session = self._subject.load(self._parts.between(given, self._tensors[node.name]))
        feeds = dict(zip(given, inputs, strict=True))
        result: Array = session.run(None, feeds)[0]
        return result


class _Parts:
    """Cuts a model at its tensors. (onnx's own extractor copies all weights for every part.)"""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self._makers = {name: node for node in proto.graph.node for name in node.output}
        self._weights = {tensor.name: tensor for tensor in proto.graph.initializer}
        known = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
        self._values = {value.name: value for value in known}

    def between(self, inputs: Sequence[str], output: str) -> bytes:
        """The part that makes ``output`` of ``inputs``, serialized.

        Raises:
            UsageError: the output needs something else.
        """
        nodes: list[onnx.NodeProto] = []
        weights: dict[str, onnx.TensorProto] = {}
        wanted, seen = [output], set(inputs)
        while wanted:
            name = wanted.pop()
            if name in seen or not name:
                continue
            seen.add(name)
            if name in self._weights:
                weights[name] = self._weights[name]
            elif name in self._makers:
                node = self._makers[name]
                nodes.append(node)
                wanted += node.input
            else:
                raise UsageError(f"subject: {output!r} is not made of {', '.join(inputs)} alone: it needs {name!r}")
        order = {id(node): place for place, node in enumerate(self._proto.graph.node)}
        nodes.sort(key=lambda node: order[id(node)])
        graph = onnx.helper.make_graph(
            nodes,
            output,
            [self._values[name] for name in inputs],
            [onnx.helper.make_empty_tensor_value_info(output)],
            list(weights.values()),
        )
        part = onnx.helper.make_model(graph, opset_imports=self._proto.opset_import, ir_version=self._proto.ir_version)
        content: bytes = part.SerializeToString()
        return content
