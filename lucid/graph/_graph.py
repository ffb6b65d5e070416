"""What a traced model is: named values, and the nodes that make one from others, in the order of execution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Graph", "Node", "Value"]

BATCH = "batch"  # a dimension of this name may have any size


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: unique in the graph; the path of the module that returned it, where one did.
        shape: sizes, or ``"batch"`` for the size that is left open, or None for one that follows from it.
        dtype: of its elements.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Attributes:
        op: the operation's name, such as ``"conv2d"``.
        name: unique among the nodes; the name of the output.
        attrs: the operation's attributes, such as ``{"stride": (2, 2)}``.
        inputs: names of values; None for an optional operand that is not there.
        output: the name of the value that it makes.
        body: of what it consists, if it is composed of other operations; the last node makes ``output``.
        function: the operation itself, if it is not composed; its ``forward`` computes the value from its inputs.
    """

    op: str
    name: str
    attrs: dict[str, Any]
    inputs: tuple[str | None, ...]
    output: str
    body: tuple[Node, ...] = ()
    function: Any = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class Graph:
    """A model as data. ``print`` it to read it.

    Attributes:
        nodes: in the order of execution, so that every input stands before its use.
        inputs: names of the values that a caller gives.
        outputs: names of the values that the model returns.
        initializers: parameters, buffers and constants by name; the arrays are the model's own, not copies.
        values: every value by name.
        variables: the initializers that a caller may replace.

    Example:
        >>> import lucid
        >>> from lucid.graph import trace
        >>> graph = trace(lucid.nn.Linear(3, 2), lucid.ones((1, 3)))
        >>> [(node.op, node.inputs, node.output) for node in graph.nodes]
        [('linear', ('input', 'weight', 'bias'), 'output')]
        >>> graph.values["output"].shape
        (1, 2)
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    variables: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [self._typed(name) for name in self.inputs]
        for node in self.nodes:
            attrs = "".join(f", {key}={value}" for key, value in node.attrs.items())
            operands = ", ".join("-" if name is None else name for name in node.inputs)
            lines.append(f"{self._typed(node.output)} = {node.op}({operands}{attrs})")
        return "\n".join([*lines, f"return {', '.join(self.outputs)}"])

    def _typed(self, name: str) -> str:
        value = self.values[name]
        return f"{name}: {value.dtype}[{', '.join('?' if size is None else str(size) for size in value.shape)}]"
