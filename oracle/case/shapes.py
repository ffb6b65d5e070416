"""The shape of every tensor of a case, found without running anything: what a golden, or a trace, must be of."""

from __future__ import annotations

from oracle.case.case import Case
from oracle.graph.graph import Shape
from oracle.operations import is_loss, shapes_of_values
from oracle.trace import Key, execution_order


def shapes_of(case: Case) -> dict[Key, Shape]:
    """By tensor its shape, in the order of execution.

    Example:
        >>> from oracle.case.case import standard_case
        >>> from oracle.case.zoo import find_model
        >>> shapes = shapes_of(standard_case(find_model("narrow_basic"), "train"))
        >>> shapes["activation", "stem.0"], shapes["parameter_gradient", "layer3.0.conv1.weight"]
        ((3, 4, 36, 36), (8, 4, 3, 3))
    """
    graph, values, found = case.graph, shapes_of_values(case.graph), dict[Key, Shape]()
    train = case.mode == "train"
    for node in graph.nodes:
        if is_loss(node):
            found |= {("loss", node.name): ()} if train else {}
        else:
            found |= {("activation", name): values[name] for name in node.outputs}
    if not train:
        return found
    having = graph.differentiable
    found |= {("statistic", name): graph.state[name] for node in graph.nodes for name in node.statistics.values()}
    for node in reversed(graph.nodes):
        if not is_loss(node):
            found |= {("activation_gradient", name): values[name] for name in node.outputs if name in having}
    trained = {name for node in graph.nodes for name in node.parameters.values()}
    found |= {("parameter_gradient", name): shape for name, shape in graph.state.items() if name in trained}
    return {key: found[key] for key in execution_order(found)}
