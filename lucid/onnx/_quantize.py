"""A model in 8 bits: QuantizeLinear and DequantizeLinear around convolutions and products, which runtimes fuse.

Activations are asymmetric, one scale a tensor, from the least and the largest value that the calibration data makes;
weights are symmetric, one scale for each output channel; biases are 32 bits of the product of both scales. The ranges
are lucid's: the same data gives the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lucid.core.grad_mode import no_grad
from lucid.core.tensor import Tensor
from lucid.onnx._load import load
from lucid.onnx._simplify import simplify

__all__ = ["quantize"]

Range = tuple[float, float]
_WEIGHTED = {"Conv": 0, "Gemm": 0, "MatMul": 1}
"""By operator, the axis of a weight's output channels (of Gemm with ``transB``)."""
DEEPEST = 128


def quantize(model: onnx.ModelProto, calibration: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """``model`` with 8-bit convolutions and products.

    Args:
        model: of float32, in eval mode.
        calibration: by input, arrays whose first axis counts the samples; a model of a fixed batch takes as many at a
            time.

    Raises:
        ValueError: the data does not fit the model.

    Source: Jacob et al., CVPR 2018; ONNX operators QuantizeLinear and DequantizeLinear.

    Example:
        >>> import numpy as np
        >>> import lucid
        >>> from lucid.graph import trace
        >>> from lucid.onnx import quantize, to_onnx
        >>> model = to_onnx(trace(lucid.nn.Linear(3, 2), lucid.ones((4, 3))))
        >>> small = quantize(model, {"input": np.ones((4, 3), np.float32)})
        >>> sorted({node.op_type for node in small.graph.node})
        ['DequantizeLinear', 'Gemm', 'QuantizeLinear']
    """
    smaller = simplify(model)  # so that a transposed weight is a constant, too
    _fold_normalisations(smaller.graph)
    ranges = _ranges(smaller, calibration)
    _Quantizer(smaller.graph, ranges).run()
    return smaller


def _arrays(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _replace(graph: onnx.GraphProto, name: str, array: np.ndarray) -> None:
    for tensor in graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(array, name))
            return
    graph.initializer.append(numpy_helper.from_array(array, name))


def _fold_normalisations(graph: onnx.GraphProto) -> None:
    """Let each convolution do what the normalisation behind it does, in float64, rounded once."""
    arrays = _arrays(graph)
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    makers = {node.output[0]: node for node in graph.node}
    outputs = {info.name for info in graph.output}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or uses[norm.input[0]] > 1 or norm.input[0] in outputs:
            continue
        if conv.input[1] not in arrays or uses[conv.input[1]] > 1 or any(name not in arrays for name in norm.input[1:]):
            continue
        gamma, beta, mean, var = (arrays[name].astype(np.float64) for name in norm.input[1:])
        eps = next((each.f for each in norm.attribute if each.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(var + eps)
        weight = arrays[conv.input[1]]
        bias = arrays[conv.input[2]].astype(np.float64) if len(conv.input) > 2 and conv.input[2] else 0.0
        _replace(graph, conv.input[1], (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype))
        name = f"{conv.name or conv.output[0]}/folded_bias"
        _replace(graph, name, ((bias - mean) * factor + beta).astype(weight.dtype))
        conv.input[:] = [*conv.input[:2], name]
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)
    used = {name for node in graph.node for name in node.input} | {info.name for info in graph.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _ranges(model: onnx.ModelProto, calibration: Mapping[str, np.ndarray]) -> dict[str, Range]:
    """The least and the largest number of every value."""
    module = load(model)
    names = [name for name in module.input_names if name not in module._optional]
    missing = [name for name in names if name not in calibration]
    if missing:
        raise ValueError(f"calibrate: the data has no {', '.join(map(repr, missing))}; it has {', '.join(calibration)}")
    found: dict[str, Range] = {}

    def seen(name: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.dtype.kind == "f" and value.size:
            array = value.numpy()
            low, high = found.get(name, (0.0, 0.0))  # 0 is exact: padding is made of it
            found[name] = min(low, float(array.min())), max(high, float(array.max()))

    def watch(name: str) -> Any:
        return lambda operator, inputs, output: seen(name, output)

    for name, operator in module.named_children():
        operator.register_forward_hook(watch(name))
    samples = min(len(calibration[name]) for name in names)
    batch = _fixed_batch(model.graph) or min(samples, 32)
    if samples < batch:
        raise ValueError(f"calibrate: got {samples} samples; the model takes {batch} at a time")
    with no_grad():
        for start in range(0, samples - batch + 1, batch):
            part = {name: calibration[name][start : start + batch] for name in names}
            for name, array in part.items():
                seen(name, Tensor(np.asarray(array)))
            module(**part)
    return found


def _fixed_batch(graph: onnx.GraphProto) -> int:
    sides = graph.input[0].type.tensor_type.shape.dim
    return sides[0].dim_value if sides else 0


class _Quantizer:
    """Puts pairs of nodes around the weighted ones."""

    def __init__(self, graph: onnx.GraphProto, ranges: Mapping[str, Range]) -> None:
        self.graph = graph
        self.ranges = ranges
        self.arrays = _arrays(graph)
        self.nodes: list[onnx.NodeProto] = []
        self.pairs: dict[str, str] = {}
        self.scales: dict[str, np.float32] = {}

    def run(self) -> None:
        uses: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                uses.setdefault(name, []).append(node)
        closed = set()  # values that are to be rounded to 8 bits when they are made
        for node in self.graph.node:
            node.input[:] = [self.pairs.get(name, name) for name in node.input]
            weighted = self._weighted(node)
            if weighted:
                self._quantize(node)
            self.nodes.append(node)
            if weighted:
                closed.add(self._end(node.output[0], uses))
            if node.output[0] in closed and node.output[0] in self.ranges:
                self._pair(node.output[0])
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input} | {info.name for info in self.graph.input}
        for tensor in [tensor for tensor in self.graph.initializer if tensor.name not in used]:
            self.graph.initializer.remove(tensor)

    def _end(self, name: str, uses: Mapping[str, list[onnx.NodeProto]]) -> str:
        """What is rounded to 8 bits: the sum with a bias and the ReLU behind a product, or the product itself; nothing
        where the model ends."""
        takers = uses.get(name, [])
        if len(takers) == 1 and takers[0].op_type == "Add" and any(each in self.arrays for each in takers[0].input):
            return self._end(takers[0].output[0], uses)
        if len(takers) == 1 and takers[0].op_type == "Relu":
            return takers[0].output[0]
        return name if takers else ""

    def _weighted(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _WEIGHTED or len(node.input) < 2 or node.input[1] not in self.arrays:
            return False
        if node.op_type == "MatMul" and self.arrays[node.input[1]].ndim != 2:
            return False
        source = node.input[0].removesuffix("/dequantized")
        return source in self.ranges and self.arrays[node.input[1]].dtype == np.float32

    def _quantize(self, node: onnx.NodeProto) -> None:
        source = node.input[0].removesuffix("/dequantized")
        inputs = [self._pair(source), *node.input[1:]]
        turned = any(each.name == "transB" and each.i for each in node.attribute)
        axis = _WEIGHTED[node.op_type] if node.op_type != "Gemm" or turned else 1
        weight = self.arrays[inputs[1]].astype(np.float64)
        over = tuple(i for i in range(weight.ndim) if i != axis)
        largest = np.abs(weight).max(axis=over)
        scales = np.where(largest > 0, largest / (DEEPEST - 1), 1.0).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        levels = np.clip(np.rint(weight / scales.reshape(shape)), 1 - DEEPEST, DEEPEST - 1).astype(np.int8)
        inputs[1] = self._held(inputs[1], levels, scales, axis)
        if len(inputs) > 2 and inputs[2] in self.arrays and self.arrays[inputs[2]].ndim == 1:
            both = (scales.astype(np.float64) * float(self.scales[source])).astype(np.float32)
            whole = np.rint(self.arrays[inputs[2]].astype(np.float64) / both)
            limits = np.iinfo(np.int32)
            inputs[2] = self._held(inputs[2], np.clip(whole, limits.min, limits.max).astype(np.int32), both, 0)
        node.input[:] = inputs

    def _held(self, name: str, levels: np.ndarray, scales: np.ndarray, axis: int) -> str:
        """A weight as integers, and the node that makes numbers of them; once for each scale of the input."""
        made = f"{name}/{len(self.nodes)}"
        zeros = np.zeros(scales.shape, levels.dtype)
        for what, array in (("levels", levels), ("scale", scales), ("zero", zeros)):
            self.graph.initializer.append(numpy_helper.from_array(array, f"{made}/{what}"))
        operands = [f"{made}/{what}" for what in ("levels", "scale", "zero")]
        self.nodes.append(helper.make_node("DequantizeLinear", operands, [f"{made}/dequantized"], made, axis=axis))
        return f"{made}/dequantized"

    def _pair(self, name: str) -> str:
        """A value rounded to 8 bits and back; once."""
        if name not in self.pairs:
            low, high = self.ranges[name]
            step = (high - low) / (2 * DEEPEST - 1)
            scale = np.float32(step if step > 0 else 1.0)
            zero = np.int8(np.clip(np.rint(-DEEPEST - low / float(scale)), -DEEPEST, DEEPEST - 1))
            self.scales[name] = scale
            for what, number in (("scale", scale), ("zero", zero)):
                self.graph.initializer.append(numpy_helper.from_array(np.asarray(number), f"{name}/{what}"))
            ends = [f"{name}/scale", f"{name}/zero"]
            levels, back = f"{name}/quantized", f"{name}/dequantized"
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *ends], [levels], levels))
            self.nodes.append(helper.make_node("DequantizeLinear", [levels, *ends], [back], back))
            self.pairs[name] = back
        return self.pairs[name]
