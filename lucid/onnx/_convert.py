"""From lucid's graph to ONNX: one table from operations to the nodes that stand for them.

Nodes and tensors keep the names of the graph, which are module paths; what one operation needs besides is named
``<name>/<what>``. A new operation says itself how it is exported (``Function.export``); of the others ``_SAME`` and
``_TABLE`` say it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lucid._version import __version__
from lucid.core import ARITHMETIC_VERSION
from lucid.graph import Graph, Node
from lucid.ops._function import Function

__all__ = ["DEFAULT_OPSET", "NEWEST_OPSET", "OLDEST_OPSET", "to_onnx"]

OLDEST_OPSET = 13  # the first in which the reductions' and shapes' operators have the form that this file writes
NEWEST_OPSET = min(onnx.defs.onnx_opset_version(), 25)  # the newest that has been tried with ONNX Runtime
DEFAULT_OPSET = 17  # known to every runtime of the last years

Translate = Callable[["_Builder", Node], None]


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
    builder = _Builder(graph, opset)
    for node in graph.nodes:
        builder.translate(node)
    outputs = [builder.output(name) for name in graph.outputs]
    extra = _extra_outputs(graph, also)
    returned = {info.name for info in outputs} | set(extra)
    used = {name for node in builder.nodes for name in node.input}
    proto = helper.make_graph(
        builder.nodes,
        name,
        [_value_info(graph, value) for value in graph.inputs],
        [*outputs, *(_value_info(graph, value) for value in extra)],
        [*(_tensor(name, array) for name, array in graph.initializers.items() if name in used), *builder.constants],
        value_info=[_value_info(graph, node.output) for node in graph.nodes if node.output not in returned],
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


def _value_info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    value = graph.values[name]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape))


class _Builder:
    """Collects the nodes and constants while the table's functions run."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self.graph = graph
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.returned: set[str] = set()

    def translate(self, node: Node) -> None:
        if node.op in _TABLE:
            _TABLE[node.op](self, node)
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
        made = {output for node in self.nodes for output in node.output}
        if name in made and name not in self.returned:
            self.returned.add(name)
            return _value_info(self.graph, name)
        copy = f"{name}/output{len(self.returned)}"
        self.returned.add(copy)
        self.nodes.append(helper.make_node("Identity", [name], [copy], name=copy))
        info = _value_info(self.graph, name)
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


# -- the table -------------------------------------------------------------------------------------------------------

_SAME = {  # operations that ONNX has with the same operands and no attributes
    "abs": "Abs",
    "add": "Add",
    "div": "Div",
    "equal": "Equal",
    "exp": "Exp",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "identity": "Identity",
    "isnan": "IsNaN",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "log": "Log",
    "logical_and": "And",
    "logical_not": "Not",
    "logical_or": "Or",
    "matmul": "MatMul",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "to_device": "Identity",
    "where": "Where",
}


def _same(b: _Builder, node: Node) -> None:
    b.emit(_SAME[node.op], node, node.inputs)


def _conv(b: _Builder, node: Node) -> None:
    b.emit("Conv", node, node.inputs, **_windows_of_taps(b, node))


def _conv_transpose(b: _Builder, node: Node) -> None:
    output_padding = list(node.attrs["output_padding"])
    b.emit("ConvTranspose", node, node.inputs, output_padding=output_padding, **_windows_of_taps(b, node))


def _windows_of_taps(b: _Builder, node: Node) -> dict[str, Any]:
    return {
        "kernel_shape": list(b.shape(node.inputs[1])[2:]),
        "strides": list(node.attrs["stride"]),
        "pads": list(node.attrs["padding"]) * 2,
        "dilations": list(node.attrs["dilation"]),
        "group": node.attrs["groups"],
    }


def _linear(b: _Builder, node: Node) -> None:
    x, weight, bias = node.inputs
    if len(b.shape(x)) == 2:
        b.emit("Gemm", node, node.inputs, transB=1)
        return
    transposed = b.emit("Transpose", node, [weight], "transposed", perm=[1, 0])
    if bias is None:
        b.emit("MatMul", node, [x, transposed])
    else:
        b.emit("Add", node, [b.emit("MatMul", node, [x, transposed], "product"), bias])


def _batch_norm(b: _Builder, node: Node) -> None:
    if node.attrs["training"]:
        raise ValueError(f"{node.name!r}: a normalisation by the statistics of its batch cannot be exported")
    x, gamma, beta, mean, var = node.inputs
    channels, dtype = b.shape(mean), b.dtype(node.output)
    b.emit(
        "BatchNormalization",
        node,
        [
            x,
            gamma or b.constant(node, "scale", np.ones(channels), dtype),
            beta or b.constant(node, "shift", np.zeros(channels), dtype),
            mean,
            var,
        ],
        epsilon=node.attrs["eps"],
    )


def _layer_norm(b: _Builder, node: Node) -> None:
    x, weight, bias = node.inputs
    shape, dtype = node.attrs["normalized_shape"], b.dtype(node.output)
    if b.opset < 17 or dtype != np.float32:  # the operator came in 17, and takes mean and variance in float32 at most
        b.translate_body(node)
        return
    scale = weight or b.constant(node, "scale", np.ones(shape), dtype)
    b.emit("LayerNormalization", node, [x, scale, bias], axis=-len(shape), epsilon=node.attrs["eps"])


def _max_pool(b: _Builder, node: Node) -> None:
    before, after, _ = _pool_padding(b, node, node.attrs["dilation"])
    b.emit(
        "MaxPool",
        node,
        node.inputs,
        kernel_shape=list(node.attrs["kernel_size"]),
        strides=list(node.attrs["stride"]),
        pads=[*before, *after],
        dilations=list(node.attrs["dilation"]),
    )


def _avg_pool(b: _Builder, node: Node) -> None:
    before, after, overhangs = _pool_padding(b, node, (1,) * len(node.attrs["kernel_size"]))
    counts_padding = node.attrs["count_include_pad"] and any(before)
    if counts_padding and overhangs:
        raise ValueError(
            f"{node.name!r}: an average pooling whose last window reaches beyond the padding (ceil_mode), and that "
            "counts the padding, has no counterpart in the ONNX export; use count_include_pad=False"
        )
    b.emit(
        "AveragePool",
        node,
        node.inputs,
        kernel_shape=list(node.attrs["kernel_size"]),
        strides=list(node.attrs["stride"]),
        pads=[*before, *after],
        count_include_pad=int(counts_padding),
    )


def _pool_padding(b: _Builder, node: Node, dilation: Sequence[int]) -> tuple[list[int], list[int], bool]:
    """Padding before and after, and whether a last window (of ceil_mode) reaches beyond lucid's own padding.

    The padding behind is widened to where that window ends, so that ONNX's own ceil_mode, whose meaning changed between
    versions, is not needed.
    """
    before = list(node.attrs["padding"])
    after = []
    for side, outputs, kernel, stride, step, pad in zip(
        b.shape(node.inputs[0])[2:],
        b.shape(node.output)[2:],
        node.attrs["kernel_size"],
        node.attrs["stride"],
        dilation,
        before,
        strict=True,
    ):
        if not (isinstance(side, int) and isinstance(outputs, int)):
            raise ValueError(f"{node.name!r}: a pooling of images of open size cannot be exported")
        end = (outputs - 1) * stride + step * (kernel - 1) + 1
        after.append(max(pad, end - side - pad))
    return before, after, after != before


def _square(b: _Builder, node: Node) -> None:
    b.emit("Mul", node, [node.inputs[0], node.inputs[0]])


def _not_equal(b: _Builder, node: Node) -> None:
    b.emit("Not", node, [b.emit("Equal", node, node.inputs, "equal")])


def _power(b: _Builder, node: Node) -> None:
    exponent = b.constant(node, "exponent", node.attrs["exponent"], b.dtype(node.output))
    b.emit("Pow", node, [node.inputs[0], exponent])


def _clip(b: _Builder, node: Node) -> None:
    bounds = (node.attrs[key] for key in ("min_value", "max_value"))
    dtype = b.dtype(node.output)
    names = [
        None if bound is None else b.constant(node, what, bound, dtype)
        for what, bound in zip(("min", "max"), bounds, strict=True)
    ]
    b.emit("Clip", node, [node.inputs[0], *names])


def _cast(b: _Builder, node: Node) -> None:
    b.emit("Cast", node, node.inputs, to=helper.np_dtype_to_tensor_dtype(np.dtype(node.attrs["dtype"])))


def _reduce(b: _Builder, node: Node) -> None:
    op_type = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}[node.op]
    axes, keepdims = list(node.attrs["axis"]), int(node.attrs["keepdims"])
    if not axes:  # nothing to reduce; ONNX would take no axes for all of them
        b.emit("Identity", node, node.inputs)
    elif b.opset >= 18 or op_type == "ReduceSum":  # in 18 the axes of the others became an operand too
        b.emit(op_type, node, [node.inputs[0], b.constant(node, "axes", axes)], keepdims=keepdims)
    else:
        b.emit(op_type, node, node.inputs, axes=axes, keepdims=keepdims)


def _argument(b: _Builder, node: Node) -> None:
    op_type, axis = {"argmax": "ArgMax", "argmin": "ArgMin"}[node.op], node.attrs["axis"]
    if axis is not None:
        b.emit(op_type, node, node.inputs, axis=axis, keepdims=int(node.attrs["keepdims"]))
        return
    flat = b.emit("Reshape", node, [node.inputs[0], b.constant(node, "flat_shape", [-1])], "flat")
    index = b.emit(op_type, node, [flat], "index", axis=0, keepdims=0)
    b.emit("Reshape", node, [index, b.constant(node, "shape", [1] * len(b.shape(node.output)))])


def _reshape(b: _Builder, node: Node) -> None:
    _reshape_to_output(b, node, node.inputs[0])


def _reshape_to_output(b: _Builder, node: Node, operand: str | None) -> None:
    target = [size if isinstance(size, int) else -1 for size in b.shape(node.output)]
    if target.count(-1) > 1:
        raise ValueError(
            f"{node.name!r}: a reshape to a shape with two open sizes has no counterpart in the ONNX export"
        )
    attrs: dict[str, Any] = {"allowzero": 1} if 0 in target and b.opset >= 14 else {}
    b.emit("Reshape", node, [operand, b.constant(node, "shape", target)], **attrs)


def _broadcast_to(b: _Builder, node: Node) -> None:
    target = [size if isinstance(size, int) else 1 for size in b.shape(node.output)]  # 1 keeps the operand's own size
    b.emit("Expand", node, [node.inputs[0], b.constant(node, "shape", target)])


def _transpose(b: _Builder, node: Node) -> None:
    b.emit("Transpose", node, node.inputs, perm=list(node.attrs["axes"]))


def _concatenate(b: _Builder, node: Node) -> None:
    b.emit("Concat", node, node.inputs, axis=node.attrs["axis"])


def _pad(b: _Builder, node: Node) -> None:
    before, after = zip(*node.attrs["widths"], strict=True)
    widths = b.constant(node, "pads", [*before, *after])
    value = b.constant(node, "value", node.attrs["value"], b.dtype(node.output))
    b.emit("Pad", node, [node.inputs[0], widths, value])


def _getitem(b: _Builder, node: Node) -> None:
    """Slices and integers become Slice and a Reshape; an index by arrays is refused."""
    index = node.attrs["index"] if isinstance(node.attrs["index"], tuple) else (node.attrs["index"],)
    source = b.shape(node.inputs[0])
    if not all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in index):
        raise ValueError(
            f"{node.name!r}: indexing by arrays has no counterpart in the ONNX export; slices and integers have"
        )
    positions = [part for part in index if part is not None]
    if Ellipsis in positions:
        place = positions.index(Ellipsis)
        positions[place : place + 1] = [slice(None)] * (len(source) - len(positions) + 1)
    taken = [
        (axis, part if isinstance(part, slice) else slice(part, part + 1 or None))
        for axis, part in enumerate(positions)
        if part != slice(None)
    ]
    if all(isinstance(part, slice) for part in positions) and len(positions) == len(index) and taken:
        b.emit("Slice", node, [node.inputs[0], *_slice_operands(b, node, taken)])
        return
    sliced = node.inputs[0]
    if taken:
        sliced = b.emit("Slice", node, [sliced, *_slice_operands(b, node, taken)], "slice")
    _reshape_to_output(b, node, sliced)


def _slice_operands(b: _Builder, node: Node, taken: list[tuple[int, slice]]) -> list[str]:
    """starts, ends, axes, steps."""
    largest = np.iinfo(np.int64).max
    columns: dict[str, list[int]] = {"starts": [], "ends": [], "axes": [], "steps": []}
    for axis, part in taken:
        step = 1 if part.step is None else part.step
        first, last = (0, largest) if step > 0 else (largest, -largest)
        columns["starts"].append(first if part.start is None else part.start)
        columns["ends"].append(last if part.stop is None else part.stop)
        columns["axes"].append(axis)
        columns["steps"].append(step)
    return [b.constant(node, what, values) for what, values in columns.items()]


def _log_softmax(b: _Builder, node: Node) -> None:
    b.emit("LogSoftmax", node, node.inputs, axis=node.attrs["axis"])


def _adaptive_avg_pool(b: _Builder, node: Node) -> None:
    sides = b.shape(node.inputs[0])[2:]
    outputs = b.shape(node.output)[2:]
    windows = [_window(side, out) for side, out in zip(sides, outputs, strict=True)]
    if set(outputs) == {1}:
        b.emit("GlobalAveragePool", node, node.inputs)
    elif all(windows):
        b.emit("AveragePool", node, node.inputs, kernel_shape=windows, strides=windows)
    else:  # windows of several sizes: as products with matrices of averages, side by side
        _averaged(b, node, sides, outputs)


def _averaged(b: _Builder, node: Node, sides: Sequence[Any], outputs: Sequence[Any]) -> None:
    """By matrices: the last side by one behind, the one before it by one in front, the first of three turned last."""
    dtype, value, last = b.dtype(node.output), node.inputs[0], len(sides) - 1
    if last == 2:
        turned = b.emit("Transpose", node, [value], "turned", perm=[0, 1, 3, 4, 2])
        planes = b.constant(node, "planes", _averages(sides[0], outputs[0]).T, dtype)
        averaged = b.emit("MatMul", node, [turned, planes], "planes_averaged")
        value = b.emit("Transpose", node, [averaged], "turned_back", perm=[0, 1, 4, 2, 3])
    if last > 0:
        rows = b.constant(node, "rows", _averages(sides[last - 1], outputs[last - 1]), dtype)
        value = b.emit("MatMul", node, [rows, value], "rows_averaged")
    b.emit("MatMul", node, [value, b.constant(node, "columns", _averages(sides[last], outputs[last]).T, dtype)])


def _window(side: Any, outputs: Any) -> int:
    """The size of the windows, if they have one size and share nothing; else 0."""
    return side // outputs if outputs and side % outputs == 0 else 0


def _averages(side: Any, outputs: Any) -> np.ndarray:
    matrix = np.zeros((outputs, side))
    for i in range(outputs):
        start, stop = i * side // outputs, -(-(i + 1) * side // outputs)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


_WINDOWS: dict[str, Translate] = {  # by name without the number of sides
    "adaptive_avg_pool": _adaptive_avg_pool,
    "avg_pool": _avg_pool,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
}

_TABLE: dict[str, Translate] = {
    **dict.fromkeys(_SAME, _same),
    **{f"{name}{sides}d": translate for name, translate in _WINDOWS.items() for sides in (1, 2, 3)},
    "argmax": _argument,
    "argmin": _argument,
    "batch_norm": _batch_norm,
    "broadcast_to": _broadcast_to,
    "cast": _cast,
    "clip": _clip,
    "concatenate": _concatenate,
    "getitem": _getitem,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "log_softmax": _log_softmax,
    "max": _reduce,
    "mean": _reduce,
    "min": _reduce,
    "not_equal": _not_equal,
    "pad": _pad,
    "power": _power,
    "reshape": _reshape,
    "square": _square,
    "sum": _reduce,
    "transpose": _transpose,
    **{operation.name: operation.export for operation in Function.__subclasses__() if operation.export is not None},
}
