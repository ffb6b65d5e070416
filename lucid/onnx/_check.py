"""What is wrong with an ONNX model, said before anything of it is used.

A file may come from anywhere: each of these is one sentence, a ``ValueError``, and costs neither much time nor memory.
"""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import onnx

from lucid.onnx._types import dtype_of

__all__ = ["check_model", "check_nodes"]

DEEPEST = 64
"""Functions that call functions, and types of types."""
INNERMOST = 24
"""Graphs within graphs; protobuf itself ends a little further."""
MOST_NODES = 1_000_000
"""Nodes of a model whose functions are in place: a few functions that call each other twice could make any number."""


def check_model(proto: onnx.ModelProto) -> None:
    """Raise ``ValueError`` unless names, types and nesting of a model are as they must be."""
    _check_depth(proto)
    _check_functions(proto)
    _check_texts(node for function in proto.functions for node in function.node)
    for graph in _graphs([proto.graph]):
        _check_texts(graph.node)
        _check_names(graph)
    for info in (*proto.graph.input, *proto.graph.output):
        _check_type(info.name, info.type)
    if not proto.graph.output:
        raise ValueError("model: it has no outputs")


def _inner(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs that are attributes of nodes."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _graphs(outer: list[onnx.GraphProto]) -> Iterator[onnx.GraphProto]:
    """Graphs, and those within them; not deeper than ``_check_depth`` lets them be."""
    for graph in outer:
        yield graph
        yield from _graphs(list(_inner(graph.node)))


def _check_depth(proto: onnx.ModelProto) -> None:
    level = [proto.graph, *(graph for function in proto.functions for graph in _inner(function.node))]
    for _ in range(INNERMOST):
        if not level:
            return
        level = [inner for graph in level for inner in _inner(graph.node)]
    raise ValueError(f"model: its graphs lie within graphs, more than {INNERMOST} deep")


def _check_functions(proto: onnx.ModelProto) -> None:
    """No function may call itself, and with all of them in place the model may not be of more than so many nodes."""
    bodies = {(each.domain, each.name, each.overload): each for each in proto.functions}
    if len(bodies) != len(proto.functions):
        raise ValueError("model: two of its functions have one name")

    def called(nodes: Iterable[onnx.NodeProto]) -> Counter[tuple[str, str, str]]:
        names: Counter[tuple[str, str, str]] = Counter()
        for node in nodes:
            names[node.domain, node.op_type, node.overload] += 1
            for graph in _inner([node]):
                names.update(called(graph.node))
        return names

    calls = {name: called(body.node) for name, body in bodies.items()}
    try:
        order = list(graphlib.TopologicalSorter({n: c.keys() & bodies.keys() for n, c in calls.items()}).static_order())
    except graphlib.CycleError as error:
        raise ValueError(f"model: its function {error.args[1][0][1]!r} calls itself") from None
    sizes, depths = dict.fromkeys(bodies, 0), dict.fromkeys(bodies, 0)

    def total(names: Counter[tuple[str, str, str]]) -> int:
        return sum(count * max(1, sizes.get(name, 1)) for name, count in names.items())

    for name in order:
        sizes[name] = total(calls[name])
        depths[name] = 1 + max((depths[other] for other in calls[name] if other in depths), default=0)
        if sizes[name] > MOST_NODES or depths[name] > DEEPEST:
            raise ValueError(
                f"model: its function {name[1]!r} consists of {sizes[name]} nodes, {depths[name]} functions deep; "
                f"there may be {MOST_NODES} and {DEEPEST}"
            )
    if bodies and total(called(proto.graph.node)) > MOST_NODES:
        raise ValueError(f"model: with its functions in place it has more than {MOST_NODES} nodes")


def _check_texts(nodes: Iterable[onnx.NodeProto]) -> None:
    """Bytes that are no UTF-8 arrive as such."""
    for node in nodes:
        texts = [node.op_type, node.domain, node.name, *node.input, *node.output]
        texts += [text for attribute in node.attribute for text in (attribute.name, attribute.ref_attr_name)]
        wrong = [text for text in texts if not isinstance(text, str)]
        if wrong:
            raise ValueError(f"model: the name {wrong[0]!r} is no UTF-8")


def _check_names(graph: onnx.GraphProto) -> None:
    """Within a graph a value has one name, and one origin; an initializer may have an input's name."""
    inputs = [info.name for info in graph.input]
    held = [tensor.name for tensor in graph.initializer] + [each.values.name for each in graph.sparse_initializer]
    made = [name for node in graph.node for name in node.output if name]
    outputs = [info.name for info in graph.output]
    for what, names in (("inputs", inputs), ("initializers", held), ("outputs", outputs)):
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"model: one of its {what} has no name of UTF-8")
    for what, names in (
        ("of its inputs have the name", inputs),
        ("of its initializers have the name", held),
        ("nodes make the value", made),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"model: two {what} {twice[0]!r}")
    both = {*inputs, *held} & {*made}
    if both:
        raise ValueError(f"model: a node makes the value {min(both)!r}, which is there already")


def _check_type(name: str, of: onnx.TypeProto) -> None:
    """An element type must be one of ONNX's; it may be left out."""
    for _ in range(DEEPEST):
        kind = of.WhichOneof("value")
        if kind in ("sequence_type", "optional_type"):
            of = getattr(of, kind).elem_type
            continue
        element = getattr(of, kind).elem_type if kind in ("tensor_type", "sparse_tensor_type") else 0
        if element and dtype_of(element) is None:
            raise ValueError(f"model: {name!r} is of element type {element}, which ONNX does not have")
        return
    raise ValueError(f"model: the type of {name!r} is more than {DEEPEST} deep")


def check_nodes(nodes: Iterable[tuple[onnx.NodeProto, Any, str]]) -> None:
    """Raise ``ValueError`` unless operands and attributes are those of the operators' definitions.

    Args:
        nodes: each with its definition (None where there is none) and its name.
    """
    for node, schema, name in nodes:
        given = Counter(attribute.name for attribute in node.attribute)
        twice = [each for each, count in given.items() if count > 1]
        if twice:
            raise ValueError(f"{node.op_type} {name!r}: it has the attribute {twice[0]!r} twice")
        if schema is None:
            continue
        for what, count, least, most in (
            ("operands", len(node.input), schema.min_input, schema.max_input),
            ("results", len(node.output), schema.min_output, schema.max_output),
        ):
            if not least <= count <= most:
                raise ValueError(f"{node.op_type} {name!r}: it has {count} {what}; it may have {least} to {most}")
        for given_name, operand in zip(node.input, schema.inputs, strict=False):
            if not given_name and operand.option == operand.option.Single:
                raise ValueError(f"{node.op_type} {name!r}: it has no operand {operand.name!r}")
        _check_attributes(node, schema, name, given)


_PARTS: dict[int, Any] = {
    onnx.AttributeProto.TENSOR: "t",
    onnx.AttributeProto.GRAPH: "g",
    onnx.AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    onnx.AttributeProto.TYPE_PROTO: "tp",
}


def _check_body(node: onnx.NodeProto, body: onnx.GraphProto, where: str) -> None:
    """A graph that control flow runs takes what the node gives, and makes what the node makes."""
    given = {"If": 0, "Loop": max(2, len(node.input)), "SequenceMap": len(node.input)}.get(node.op_type)
    made = len(node.output) + (node.op_type == "Loop")
    if given is not None and (len(body.input) != given or len(body.output) < made):
        raise ValueError(
            f"{where} has {len(body.input)} inputs and {len(body.output)} outputs; the node has {given} and {made}"
        )


def _check_attributes(node: onnx.NodeProto, schema: Any, name: str, given: Counter[str]) -> None:
    known = schema.attributes
    for attribute in node.attribute:
        where = f"{node.op_type} {name!r}: its attribute {attribute.name!r}"
        if attribute.name not in known:
            raise ValueError(f"{where} is none of {', '.join(sorted(known)) or 'which it has any'}")
        wanted, kinds = int(known[attribute.name].type.value), onnx.AttributeProto.AttributeType
        if attribute.ref_attr_name:
            raise ValueError(f"{where} refers to {attribute.ref_attr_name!r}, which no function has")
        if attribute.type != wanted:
            raise ValueError(f"{where} is {kinds.Name(attribute.type)}; it must be {kinds.Name(wanted)}")
        if attribute.type in _PARTS and not attribute.HasField(_PARTS[attribute.type]):
            raise ValueError(f"{where} is empty")
        if attribute.type == onnx.AttributeProto.GRAPH:
            _check_body(node, attribute.g, where)
    missing = [each for each, wanted in known.items() if wanted.required and each not in given]
    if missing:
        raise ValueError(f"{node.op_type} {name!r}: it has no attribute {missing[0]!r}")
