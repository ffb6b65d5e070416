"""Reading an ONNX model: from a file to a module, or to one error that says all that is not supported."""

from __future__ import annotations

import graphlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import defs, helper, inliner, shape_inference, version_converter

from lucid.core.tensor import Tensor
from lucid.files import FileError, open_regular
from lucid.nn.parameter import Buffer, Parameter
from lucid.onnx import operators  # noqa: F401 (the operators are entered when it is imported)
from lucid.onnx._check import check_model, check_nodes
from lucid.onnx._external import load_external
from lucid.onnx._importer import IMPORTS, Call, Value
from lucid.onnx._module import Body, OnnxModule, Operator, Step
from lucid.onnx._types import HALF, array_of, as_value, dtype_of, has_tensors

__all__ = ["OLDEST_READ", "UnsupportedError", "load"]

OLDEST_READ = 7  # the first opset in which operators broadcast as they do today
_OWN = ("", "ai.onnx")
LISTED = 6  # nodes of a circle that an error names
_LATEST = 2**31 - 1  # the largest number of a version that onnx takes
_DENSE = 2**28  # elements of a sparse constant, with its zeros
_SMALL = 1024  # bytes of an initializer that type inference is to see


class UnsupportedError(NotImplementedError):
    """A model has operators that lucid does not compute; the message lists all of them, with the nodes' names."""


Source: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto


def load(model: Source) -> OnnxModule:
    """An ONNX model as a module, in eval mode.

    Its float initializers (and constants of at least one axis) are parameters under their own names, so that it can be
    trained; the running statistics of BatchNormalization are buffers.

    Args:
        model: a file (external data is read from its folder), its bytes, or a model in memory.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no valid model of ONNX.
        UnsupportedError: a model of operators, or versions of them, that lucid does not compute; it names all.

    Example:
        >>> import lucid
        >>> from lucid.graph import trace
        >>> from lucid.onnx import load, to_onnx
        >>> layer = lucid.nn.Linear(3, 2)
        >>> module = load(to_onnx(trace(layer, lucid.ones((1, 3)))))
        >>> [name for name, _ in module.named_parameters()]
        ['weight', 'bias']
        >>> x = lucid.ones((1, 3))
        >>> bool((module(x).numpy() == layer(x).numpy()).all())
        True
    """
    try:
        return _loaded(model)
    except (ValueError, UnsupportedError) as error:
        sentence = " ".join(str(error).split())
        if type(error) in (ValueError, UnsupportedError) and sentence == str(error):
            raise
        raise (UnsupportedError if isinstance(error, UnsupportedError) else ValueError)(sentence) from error


def _loaded(model: Source) -> OnnxModule:
    proto, folder = _read(model)
    proto = _inlined(_renewed(proto))
    opset = _opset(proto)
    _refuse_unsupported(proto.graph, opset)
    check_nodes(
        (node, _schema(node.op_type, _domain(node), opset), _node_name(node)) for _, node in _nodes(proto.graph)
    )
    load_external(proto, folder)  # last: protobuf has no messages above 2 GB for onnx's functions
    return _Reader(proto, opset).module()


def _read(model: Source) -> tuple[onnx.ModelProto, str | None]:
    """The model, without the data that lie in other files, and the folder where they are."""
    if isinstance(model, onnx.ModelProto):
        proto, folder = onnx.ModelProto(), None
        proto.CopyFrom(model)
    elif isinstance(model, bytes):
        proto, folder = _parsed(model, "model"), None
    else:
        path = Path(model)
        try:
            with open_regular(path) as file:
                proto, folder = _parsed(file.read(), str(path)), str(path.parent)
        except FileError as error:
            raise FileError(f"{path}: {error}") from error
    if not proto.HasField("graph"):
        raise ValueError("model: it has no graph")
    check_model(proto)
    return proto, folder


def _parsed(content: bytes, name: str) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise ValueError(f"{name}: is no ONNX model: {error}") from error


def _opset(proto: onnx.ModelProto) -> dict[str, int]:
    opset = {"" if each.domain in _OWN else each.domain: each.version for each in proto.opset_import}
    opset.setdefault("", 1 if proto.ir_version < 3 else OLDEST_READ)
    newest = defs.onnx_opset_version()
    if min(opset.values()) < 1:
        raise ValueError(f"model: its operators are of opset {min(opset.values())}; it may be 1 or more")
    if opset[""] > newest:
        raise UnsupportedError(f"model: its operators are of opset {opset['']}; it may be at most {newest}")
    return opset


def _renewed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model in opset 7, where it has an older one and onnx knows how to change it."""
    if _opset(proto)[""] >= OLDEST_READ:
        return proto
    try:
        return version_converter.convert_version(proto, OLDEST_READ)
    except Exception:  # RuntimeError, ConvertError and what else C++ throws; the opset is refused then
        return proto


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its own functions, and without those of ONNX's operators that are computed by their parts."""
    try:
        if proto.functions:
            proto = inliner.inline_local_functions(proto)
        composed = _composed(proto)
        if composed:
            _complete(proto, composed)
            proto = shape_inference.infer_shapes(proto)
            proto = inliner.inline_selected_functions(proto, composed, inline_schema_functions=True)
        return proto
    except Exception as error:  # RuntimeError, InferenceError and what else C++ throws
        raise ValueError(f"model: its functions cannot be put in place: {error}") from error


def _complete(proto: onnx.ModelProto, composed: list[tuple[str, str]]) -> None:
    """Write out the defaults of attributes, which an operator's parts may refer to: onnx does not put them in."""
    opset = _opset(proto)
    for _, node in _nodes(proto.graph):
        domain = _domain(node)
        if (domain, node.op_type) in composed:
            given = {attribute.name for attribute in node.attribute}
            for name, attribute in _schema(node.op_type, domain, opset).attributes.items():
                if attribute.default_value is not None and attribute.default_value.type and name not in given:
                    node.attribute.append(attribute.default_value)


def _composed(proto: onnx.ModelProto) -> list[tuple[str, str]]:
    """The operators that lucid does not compute, but that ONNX defines by others."""
    opset = _opset(proto)
    found = []
    for domain, operator in sorted({(_domain(node), node.op_type) for _, node in _nodes(proto.graph)}):
        schema = _schema(operator, domain, opset)
        if (domain, operator) in IMPORTS or schema is None:
            continue
        if schema.has_function or schema.has_context_dependent_function:
            found.append((domain, operator))
    return found


def _nodes(graph: onnx.GraphProto) -> Iterator[tuple[onnx.GraphProto, onnx.NodeProto]]:
    """Every node, those of graphs within graphs too."""
    for node in graph.node:
        yield graph, node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(inner)


def _schema(operator: str, domain: str, opset: dict[str, int]) -> Any:
    try:
        version = min(opset.get(domain, 1), _LATEST)
        return defs.get_schema(operator, max_inclusive_version=version, domain=domain)
    except defs.SchemaError:
        return None


def _refuse_unsupported(graph: onnx.GraphProto, opset: dict[str, int]) -> None:
    """Raise one error about all that is not supported."""
    if opset[""] < OLDEST_READ:
        raise UnsupportedError(f"model: its operators are of opset {opset['']}; it must be at least {OLDEST_READ}")
    missing: dict[str, list[str]] = {}
    for _, node in _nodes(graph):
        domain = _domain(node)
        if (domain, node.op_type) not in IMPORTS:
            missing.setdefault(f"{domain}.{node.op_type}" if domain else node.op_type, []).append(_node_name(node))
    if missing:
        listed = "; ".join(f"{operator} ({', '.join(map(repr, names))})" for operator, names in sorted(missing.items()))
        raise UnsupportedError(f"model: lucid does not compute {listed}")


def _domain(node: onnx.NodeProto) -> str:
    return "" if node.domain in _OWN else node.domain


def _node_name(node: onnx.NodeProto) -> str:
    return node.name or next((name for name in node.output if name), node.op_type)


class _Reader:
    """Makes the parts of an ``OnnxModule``."""

    def __init__(self, proto: onnx.ModelProto, opset: dict[str, int]) -> None:
        self._proto = proto
        self._opset = opset
        self._states: dict[str, Tensor] = {}
        self._operators: dict[str, Operator] = {}
        self._taken = set(dir(OnnxModule(Body((), ()), {}, {}, {}, frozenset(), {})))  # what a module has itself

    def module(self) -> OnnxModule:
        graph = self._proto.graph
        dtypes = _inferred(self._proto)
        body = self._body(graph, dtypes, frozenset())
        held = {*body.constants, *body.states}
        optional = frozenset(info.name for info in graph.input if info.name in held)
        return OnnxModule(body, self._states, self._operators, dtypes, optional, self._opset)

    def _body(self, graph: onnx.GraphProto, around: dict[str, Any], outer: frozenset[str]) -> Body:
        dtypes = around | _declared(graph)
        given = [info.name for info in graph.input]
        held = {tensor.name: array_of(tensor) for tensor in graph.initializer}
        held |= {tensor.values.name: _dense(tensor) for tensor in graph.sparse_initializer}
        nodes = []
        for node in graph.node:
            constant = _constant(node)
            if constant is None:
                nodes.append(node)
            else:
                held[node.output[0]] = constant
        dtypes |= {name: array.dtype for name, array in held.items() if isinstance(array, np.ndarray)}
        body = Body(tuple(given), tuple(info.name for info in graph.output))
        uses = _uses(nodes)
        for name, array in held.items():
            self._hold(body, name, array, uses.get(name, []))
        known = {*given, *held}
        for node in _sorted(nodes, known | outer):
            body.steps.append(self._step(node, graph, dtypes, frozenset(known) | outer))
            known.update(name for name in node.output if name)
        missing = [name for name in body.outputs if name not in known | outer]
        if missing:
            raise ValueError(f"model: nothing makes its output {missing[0]!r}")
        _straight_through(body)
        _free(body)
        used = {name for step in body.steps for name in step.inputs} | set(body.outputs)
        used |= {name for step in body.steps for inner in step.bodies.values() for name in inner.captured}
        body.captured = tuple(sorted(used & (outer - known)))
        return body

    def _hold(self, body: Body, name: str, array: Value, uses: list[tuple[str, str, int]]) -> None:
        """Enter a constant: as a parameter, as a state, or as an array that is no part of the state."""
        importers = [(IMPORTS[domain, operator], position) for domain, operator, position in uses]
        tensors = [(importer, position) for importer, position in importers if not importer.on_host(position)]
        dtype = array.dtype if isinstance(array, np.ndarray) else np.dtype(object)
        if not tensors or not has_tensors(dtype) or not array.ndim:
            body.constants[name] = array
            return
        state = any(position in importer.state for importer, position in tensors)
        if not state and dtype not in HALF and dtype.kind != "f":
            body.constants[name] = array
            return
        key = self._key(name)
        tensor = as_value(array.copy(), "cpu")  # its own, so that it can be written to
        self._states[key] = Buffer(tensor) if state else Parameter(tensor)
        body.states[name] = key

    def _step(
        self, node: onnx.NodeProto, graph: onnx.GraphProto, dtypes: dict[str, Any], known: frozenset[str]
    ) -> Step:
        domain = _domain(node)
        schema = _schema(node.op_type, domain, self._opset)
        attributes, graphs = _attributes(node, schema)
        if node.op_type == "Gradient":
            graphs["graph"] = _differentiated(attributes, graph)
        for name in node.output:
            if name and name not in dtypes:
                dtypes[name] = _bound(schema, node, dtypes, name)
        call = Call(
            node.op_type,
            domain,
            _node_name(node),
            schema.since_version if schema is not None else self._opset.get(domain, 1),
            attributes,
            tuple(node.input),
            tuple(node.output),
            tuple(dtypes.get(name) for name in node.input),
            tuple(dtypes.get(name) for name in node.output),
        )
        operator = Operator(call)
        self._operators[self._key(next((name for name in node.output if name), call.name))] = operator
        bodies = {name: self._body(graph, dict(dtypes), known) for name, graph in graphs.items()}
        return Step(operator, call.inputs, call.outputs, (), bodies)

    def _key(self, name: str) -> str:
        """A name for the module's own that nothing else has."""
        key, count = name, 0
        while key in self._taken:
            count += 1
            key = f"{name}_{count}"
        self._taken.add(key)
        return key


def _differentiated(attributes: dict[str, Any], graph: onnx.GraphProto) -> onnx.GraphProto:
    """What a Gradient is of: the part of its graph that makes ``y`` of ``xs`` and ``zs``."""
    given = [*attributes["xs"], *(attributes.get("zs") or ())]
    maker = {name: node for node in graph.node for name in node.output if name}
    wanted, seen = [attributes["y"]], set(given)
    while wanted:
        name = wanted.pop()
        if name not in seen and name in maker:
            wanted.extend(_taken(maker[name]))
        seen.add(name)
    seen -= set(given)
    part = onnx.GraphProto(
        node=[node for node in graph.node if seen.intersection(node.output)], value_info=graph.value_info
    )
    part.input.extend(onnx.ValueInfoProto(name=name) for name in given)
    part.output.add().name = attributes["y"]
    return part


def _declared(graph: onnx.GraphProto) -> dict[str, np.dtype[Any] | None]:
    infos = (*graph.input, *graph.output, *graph.value_info)
    return {info.name: _element(info.type) for info in infos if info.HasField("type")}


def _element(of: onnx.TypeProto) -> np.dtype[Any] | None:
    """The dtype of the tensors in a value of this type."""
    kind = of.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        return dtype_of(getattr(of, kind).elem_type)
    return _element(getattr(of, kind).elem_type) if kind in ("sequence_type", "optional_type") else None


def _inferred(proto: onnx.ModelProto) -> dict[str, Any]:
    """Types by name, as far as onnx infers them. The graphs within the model get theirs in place."""
    light = onnx.ModelProto()
    light.CopyFrom(proto)
    for tensor in light.graph.initializer:
        if len(tensor.raw_data) > _SMALL:
            tensor.raw_data = b""
    try:
        typed = shape_inference.infer_shapes(light)
    except Exception:  # of a model that it cannot go through the definitions of operators tell what they can
        return _declared(proto.graph)
    for (_, node), (_, known) in zip(_nodes(proto.graph), _nodes(typed.graph), strict=True):
        for mine, other in zip(node.attribute, known.attribute, strict=True):
            if mine.HasField("g"):
                mine.g.value_info.extend(other.g.value_info)
    return _declared(typed.graph)


def _bound(schema: Any, node: onnx.NodeProto, dtypes: dict[str, Any], name: str) -> np.dtype[Any] | None:
    """The dtype of an output that has an input's type by the operator's definition."""
    if schema is None:
        keeps = IMPORTS[_domain(node), node.op_type].keeps
        return None if keeps is None or name != node.output[0] else dtypes.get(node.input[keeps])
    if not schema.outputs:
        return None
    kind = schema.outputs[min(list(node.output).index(name), len(schema.outputs) - 1)].type_str
    for position, given in enumerate(node.input):
        if given and schema.inputs[min(position, len(schema.inputs) - 1)].type_str == kind:
            return dtypes.get(given)
    return None


def _constant(node: onnx.NodeProto) -> Value:
    """The value of a Constant; None of another node."""
    if node.op_type != "Constant" or node.domain not in _OWN or len(node.attribute) != 1:
        return None
    [attribute] = node.attribute
    if attribute.name == "sparse_value":
        return _dense(attribute.sparse_tensor)
    value = _decoded(attribute)
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64}
    kinds |= {"value_ints": np.int64, "value_string": object, "value_strings": object}
    return np.asarray(value, kinds[attribute.name]) if attribute.name in kinds else value


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray[Any, Any]:
    """A sparse tensor with its zeros; its indices are places in row-major order, or a row of places each."""
    values, indices, shape = array_of(sparse.values), array_of(sparse.indices), tuple(sparse.dims)
    what = f"model: the sparse tensor {sparse.values.name!r} of shape {shape}"
    if min(shape, default=0) < 0 or math.prod(shape) > _DENSE or not has_tensors(values.dtype):
        raise ValueError(f"{what} has {math.prod(shape)} elements of {values.dtype}; there may be {_DENSE} numbers")
    limits = np.array([math.prod(shape)] if indices.ndim == 1 else shape, np.int64)
    places = indices.reshape(len(indices), -1) if indices.ndim else indices.reshape(1, 1)
    fits = indices.dtype == np.int64 and values.ndim == 1 and len(values) == len(places)
    if not fits or places.shape[1] != len(limits) or (places < 0).any() or (places >= limits).any():
        raise ValueError(f"{what} has values or indices that do not fit it")
    dense = np.zeros(shape, values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def _attributes(node: onnx.NodeProto, schema: Any) -> tuple[dict[str, Any], dict[str, onnx.GraphProto]]:
    values: dict[str, Any] = {}
    graphs: dict[str, onnx.GraphProto] = {}
    if schema is not None:
        for name, attribute in schema.attributes.items():
            if attribute.default_value is not None and attribute.default_value.type:
                values[name] = _decoded(attribute.default_value)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            graphs[attribute.name] = attribute.g
        else:
            values[attribute.name] = _decoded(attribute)
    return values, graphs


def _decoded(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, onnx.TensorProto):
        return array_of(value)
    if isinstance(value, int | float | onnx.TypeProto | onnx.SparseTensorProto):
        return value
    return [
        each.decode("utf-8", "surrogateescape")
        if isinstance(each, bytes)
        else array_of(each)
        if isinstance(each, onnx.TensorProto)
        else each
        for each in value
    ]


def _uses(nodes: list[onnx.NodeProto]) -> dict[str, list[tuple[str, str, int]]]:
    """Where each value is used: domain, operator and position; by nodes of graphs within, too."""
    uses: dict[str, list[tuple[str, str, int]]] = {}

    def see(node: onnx.NodeProto) -> None:
        for position, name in enumerate(node.input):
            domain = _domain(node)
            uses.setdefault(name, []).append((domain, node.op_type, position))

    for node in nodes:
        see(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                for _, inner in _nodes(attribute.g):
                    see(inner)
    return uses


def _sorted(nodes: list[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """The nodes, each after those whose values it takes.

    Raises:
        ValueError: a value is made by nothing, or by a circle of nodes.
    """
    needs = [_taken(node) - known for node in nodes]
    ready: set[str] = set()
    for node, needed in zip(nodes, needs, strict=True):
        if not needed <= ready:
            break
        ready.update(node.output)
    else:
        return nodes  # as ONNX demands
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    for node, needed in zip(nodes, needs, strict=True):
        for name in sorted(needed - maker.keys()):
            raise ValueError(f"model: nothing makes the value {name!r}, which {_node_name(node)!r} takes")
    before = {index: {maker[name] for name in needed} for index, needed in enumerate(needs)}
    try:
        return [nodes[index] for index in graphlib.TopologicalSorter(before).static_order()]
    except graphlib.CycleError as error:
        circle = ", ".join(repr(_node_name(nodes[index])) for index in error.args[1][:LISTED])
        raise ValueError(f"model: nodes take each other's values in a circle: {circle}") from None


def _taken(node: onnx.NodeProto) -> set[str]:
    """The values that a node takes from its graph, by its own graphs too."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        if attribute.HasField("g"):
            names |= _free_names(attribute.g)
    return names


def _free_names(graph: onnx.GraphProto) -> set[str]:
    own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output}
    taken = {name for node in graph.node for name in _taken(node)} | {info.name for info in graph.output}
    return taken - own


def _straight_through(body: Body) -> None:
    """Give what dequantises a value that was just quantised, by the same scale and zero point, that value's source.

    Its gradient goes there: the integers between have none.
    """
    quantizers = {step.outputs[0]: step for step in body.steps if step.operator.call.operator == "QuantizeLinear"}
    for step in body.steps:
        source = quantizers.get(step.inputs[0]) if step.operator.call.operator == "DequantizeLinear" else None
        if source is None or [n for n in step.inputs[1:] if n] != [n for n in source.inputs[1:] if n]:
            continue
        step.inputs = (*step.inputs, *[""] * (3 - len(step.inputs)), source.inputs[0])


def _free(body: Body) -> None:
    """Note, at every step, the values that nobody needs after it."""
    kept = set(body.outputs)
    for step in reversed(body.steps):
        used = {name for name in (*step.inputs, *step.outputs) if name}
        used |= {name for inner in step.bodies.values() for name in inner.captured}
        step.last = tuple(sorted(used - kept))
        kept |= used
