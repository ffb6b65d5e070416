"""Which tensors of a foreign ONNX file are which layers, by its parameters' names, its nodes' paths and its edges.

``torch.onnx`` names a tensor after the module that made it (``/layer1/layer1.0/conv1/Conv_output_0``) and keeps the
parameters' names (``layer1.0.conv1.weight``) where it folds nothing. Either one says which layer a convolution, a
normalisation or the classifier is; ReLUs, sums and poolings follow from the edges of the graph between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from oracle.case.names import Reading, Rules, Vocabulary
from oracle.errors import UsageError
from oracle.graph.graph import Node
from oracle.graph.model import Model

_ANCHORS = {"Conv": "conv", "BatchNormalization": "norm", "Gemm": "linear", "MatMul": "linear"}
_CONVOLUTIONS = ("Conv", "FusedConv")
_FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)
_FOLLOWERS = {
    "relu": ("Relu",),
    "max pool": ("MaxPool",),
    "average pool": ("GlobalAveragePool",),
    "flatten": ("Flatten", "Reshape"),
}


def module_path(tensor: str) -> str:
    """The path of the module that made a tensor, as ``torch.onnx`` writes it; empty where it is none of its names.

    Example:
        >>> module_path("/layer1/layer1.0/downsample/downsample.0/Conv_output_0")
        'layer1.0.downsample.0'
        >>> module_path("conv1"), module_path("/Flatten_output_0")
        ('', '')
    """
    if not tensor.startswith("/"):
        return ""
    path: list[str] = []
    for part in tensor.split("/")[1:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)


def read_parameters(proto: onnx.ModelProto, model: Model, rules: Rules | None = None) -> Reading:
    """What the names of a model's parameters and the paths of its tensors are."""
    names = [tensor.name for tensor in proto.graph.initializer]
    for node in proto.graph.node:
        if node.op_type == "Identity":  # torch.onnx stores equal parameters once
            names += node.output
        if node.op_type in _ANCHORS:
            names += filter(None, (module_path(output) for output in node.output))
    return Vocabulary(model).read(names, rules)


class ForeignGraph:
    """A foreign model's graph, matched with that of a model.

    Args:
        proto: the model.
        model: what it should be.
        rules: of ``--names``.

    Raises:
        UsageError: a convolution has another geometry than its layer.
    """

    def __init__(self, proto: onnx.ModelProto, model: Model, rules: Rules | None = None) -> None:
        self.reading = read_parameters(proto, model, rules)
        self._model = model
        self._layers = {node.name: node for node in model.graph().nodes}
        self._weights = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
        self._takers: dict[str, list[onnx.NodeProto]] = {}
        for node in proto.graph.node:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)
        self.tensors: dict[str, str] = {}
        self._rule(proto.graph.node, rules or Rules())
        self._anchor(proto.graph.node)
        self._follow()

    def names(self) -> dict[str, str]:
        """The model's tensors to the layers that they are, in the order of execution."""
        return {self.tensors[name]: name for name in self._layers if name in self.tensors}

    def _rule(self, nodes: Iterable[onnx.NodeProto], rules: Rules) -> None:
        """Take the tensors that rules say are layers."""
        given = [output for node in nodes for output in node.output if output and rules.fits(output)]
        for theirs, ours in Vocabulary(self._model).read(given, rules).names.items():
            if ours in self._layers:
                self.tensors[ours] = theirs

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed, in sentences."""
        if not self.tensors:
            return self.reading.assumed
        text = f"{len(self.tensors)} tensors found by torch.onnx's names, the parameters' names and the graph's edges"
        return (*self.reading.assumed, text)

    def _anchor(self, nodes: Iterable[onnx.NodeProto]) -> None:
        """Find what has parameters."""
        norms = {layer.inputs[0]: layer.name for layer in self._layers.values() if layer.op == "norm"}
        for node in nodes:
            layer = self._layer_of(node)
            if layer is None:
                continue
            self._require_geometry(node, layer)
            folded = layer.op == "conv" and len(node.input) > 2 and bool(node.input[2])
            name = norms.get(layer.name) if folded else layer.name
            if name is not None:
                self.tensors.setdefault(name, node.output[0])

    def _layer_of(self, node: onnx.NodeProto) -> Node | None:
        op = _ANCHORS.get(node.op_type)
        if op is None:
            return None
        weight = self.reading.names.get(node.input[1], "").rpartition(".")[0]
        path = self.reading.names.get(module_path(node.output[0]), "")
        return next((self._layers[name] for name in (weight, path) if self._is(name, op)), None)

    def _is(self, name: str, op: str) -> bool:
        return name in self._layers and self._layers[name].op == op

    def _require_geometry(self, node: onnx.NodeProto, layer: Node) -> None:
        """Raise UsageError where a convolution strides, reaches or divides otherwise than its layer."""
        if layer.op != "conv":
            return
        given: dict[str, Any] = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        kernel = given.get("kernel_shape") or self._weights.get(node.input[1], [0, 0, *layer.window.kernel])[2:]
        for what, found, wanted in (
            ("stride", given.get("strides", [1, 1]), list(layer.window.stride)),
            ("kernel", kernel, list(layer.window.kernel)),
            ("groups", [given.get("group", 1)], [layer.attributes["groups"]]),
        ):
            if list(found) != wanted:
                name = self._model.name
                text = f"{what} {found[0]} at {layer.name}, where {name} has {wanted[0]}"
                like = self._model.likeness([layer.name]) if what == "stride" else ""
                raise UsageError(f"names: the file has {text}: it is {like or 'another network'}")

    def _follow(self) -> None:
        """Find what has no parameters, from what it takes."""
        for layer in self._layers.values():
            given = [self.tensors.get(name) for name in layer.inputs]
            if layer.name in self.tensors or None in given:
                continue
            output = self._sum(given, layer.attributes["relu"]) if layer.op == "sum" else self._next(given[0], layer.op)
            if output is not None:
                self.tensors[layer.name] = output

    def _next(self, tensor: str | None, op: str) -> str | None:
        takers = [node for node in self._takers.get(tensor or "", []) if node.op_type in _FOLLOWERS.get(op, ())]
        return takers[0].output[0] if len(takers) == 1 else None

    def _sum(self, given: list[str | None], relu: bool) -> str | None:
        takers = [node for node in self._takers.get(given[0] or "", []) if node.op_type == "Add"]
        sums = [node.output[0] for node in takers if set(node.input) == set(given)]
        if len(sums) != 1:
            return None
        return self._next(sums[0], "relu") if relu else sums[0]


def own_weights(proto: onnx.ModelProto, reading: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The parameters and statistics that a model brings, by the oracle's names.

    No convolution of these networks has a bias. One that has grown one took a normalisation in: its weight is another
    number with reason, and is left out.

    Args:
        proto: the model.
        reading: its names to ours.
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    same = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "Identity"}
    folded = {node.input[1] for node in proto.graph.node if node.op_type in _CONVOLUTIONS and len(node.input) > 2}
    found: dict[str, np.ndarray] = {}
    for theirs, ours in reading.items():
        tensor = stored.get(same.get(theirs, theirs))
        if tensor is not None and theirs not in folded and tensor.data_type in _FLOATS:
            found[ours] = onnx.numpy_helper.to_array(tensor)
    return found
