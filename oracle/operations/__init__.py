"""The operations of graphs, a family a file: `OPERATIONS` has all of them by name."""

from oracle.graph.graph import Graph, Node, Shape
from oracle.operations.contraction import CONV, LINEAR
from oracle.operations.loss import LOSS, class_axis
from oracle.operations.normalization import NORM
from oracle.operations.operation import Operation
from oracle.operations.selection import FLATTEN, MAX_POOL, RELU
from oracle.operations.sums import AVERAGE_POOL, SUM
from oracle.operations.traced import COMPOSITION, MOVED, is_traced, traced_operation

__all__ = [
    "OPERATIONS",
    "class_axis",
    "consumers_of",
    "decisions",
    "describe_nodes",
    "is_loss",
    "is_traced",
    "operation_of",
    "rectified",
    "shapes_of_values",
    "state_shapes",
]

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (CONV, LINEAR, NORM, RELU, MAX_POOL, FLATTEN, SUM, AVERAGE_POOL, LOSS, MOVED, COMPOSITION)
}


def is_loss(node: Node) -> bool:
    """Whether an operation is the one that is minimised: what it makes is recorded as the loss."""
    return node.op == LOSS.name


def consumers_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    """By value, the operations that take it, but for the loss."""
    return {
        name: tuple(taker.name for taker in graph.consumers.get(name, ()) if not is_loss(taker))
        for node in graph.nodes
        for name in node.outputs
        if not is_loss(node)
    }


def operation_of(node: Node) -> Operation:
    """What an operation of a graph declares."""
    return traced_operation(node) if is_traced(node) else OPERATIONS[node.op]


def decisions(graph: Graph) -> dict[str, str]:
    """By operation that decides: how.

    Example:
        >>> from oracle.resnets import find_architecture
        >>> list(decisions(find_architecture("resnet_18").graph()).items())[:3]
        [('stem.2', 'side'), ('maxpool', 'winner'), ('layer1.0.relu1', 'side')]
    """
    found = {node.name: operation_of(node).decides(node) for node in graph.nodes}
    return {name: how for name, how in found.items() if how}


def rectified(graph: Graph) -> list[str]:
    """The operations that decide by the sign: whose output a ReLU makes."""
    return [name for name, how in decisions(graph).items() if how == "side"]


def shapes_of_values(graph: Graph) -> dict[str, Shape]:
    """By value, its shape; nothing is computed."""
    found = dict(graph.inputs)
    for node in graph.nodes:
        inputs = [found[name] for name in node.inputs]
        found |= zip(node.outputs, operation_of(node).shape(node, inputs, state_shapes(graph, node)), strict=True)
    return found


def describe_nodes(graph: Graph) -> dict[str, str]:
    """By operation, it in words."""
    values = shapes_of_values(graph)
    return {
        node.name: operation_of(node).describe(node, [values[name] for name in node.inputs], state_shapes(graph, node))
        for node in graph.nodes
    }


def state_shapes(graph: Graph, node: Node) -> dict[str, Shape]:
    """By role, the shapes of an operation's parameters and statistics."""
    return {role: graph.state[name] for role, name in (*node.parameters.items(), *node.statistics.items())}
