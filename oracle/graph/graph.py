"""A graph: operations by name, what each takes, its attributes and its parameters, in the order of execution.

Values and parameters have free strings for names; nothing is read out of a name. What an operation computes, how it
errs and what it decides is declared once for all graphs (`oracle.operations`). A trace names the values of a graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Shape = tuple[int, ...]
INPUT = "input"  # the name of what the first operation takes


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling, over one, two or three sides.

    Example:
        >>> window = Window((3, 3), (2, 2), (1, 1))
        >>> window.output((9, 8)), window.taps, window.overlap
        ((5, 4), 9, 4)
    """

    kernel: Shape
    stride: Shape
    padding: Shape

    @property
    def taps(self) -> int:
        """How many elements it holds."""
        return math.prod(self.kernel)

    @property
    def overlap(self) -> int:
        """How many windows hold one element, at most."""
        return math.prod(-(-kernel // stride) for kernel, stride in zip(self.kernel, self.stride, strict=True))

    @property
    def strided(self) -> bool:
        """Whether it moves by more than one element."""
        return max(self.stride) > 1

    def output(self, sides: Iterable[int]) -> Shape:
        """How many windows there are along each side."""
        given = zip(sides, self.kernel, self.stride, self.padding, strict=True)
        return tuple((side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in given)


@dataclass(frozen=True)
class Node:
    """One operation of a graph.

    Args:
        name: of the operation, and of its output if it has one alone.
        op: what it computes, a name of `oracle.operations`.
        inputs: the names of the values that it takes.
        attributes: whatever else says what it computes, such as ``window``.
        parameters: by role (``weight``), the name of each parameter that it is differentiated by.
        statistics: by role (``running_mean``), the name of what it keeps between runs.
        scope: the operation in whose own code this one is called; of one that has such code, itself.
        source: what that code takes.
        outputs: the names of the values that it makes.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    statistics: Mapping[str, str] = field(default_factory=dict, hash=False)
    scope: str = ""
    source: str = ""
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.outputs:
            object.__setattr__(self, "outputs", (self.name,))

    @property
    def window(self) -> Window:
        """Its window; one of a single element where it has none."""
        found: Window = self.attributes.get("window", _POINT)
        return found

    @property
    def has_code(self) -> bool:
        """Whether other operations run inside of its own code."""
        return bool(self.source)

    def role(self, name: str) -> str:
        """What a parameter or statistic of this name is to it."""
        return next(role for role, found in (*self.parameters.items(), *self.statistics.items()) if found == name)


_POINT = Window((1, 1), (1, 1), (0, 0))


@dataclass(frozen=True)
class Graph:
    """Operations in the order in which they run forward.

    Args:
        nodes: the operations.
        inputs: by name, the shape of each value that is given.
        state: by name, the shape of every parameter and of everything that is kept between runs.
        output: the value that the network returns.
        tokens: by input that holds tokens, how many there are; the other inputs hold floats.
        runs: of a traced one, the names of all operations that run, of those too that are no nodes because they make
            integers; not of those that make the same always.

    Example:
        >>> nodes = (Node("a", "relu", ("input",)), Node("b", "sum", ("a", "input")))
        >>> graph = Graph(nodes, {"input": (1, 4)}, {}, "b")
        >>> [node.name for node in graph.consumers["input"]], graph.maker["b"].op
        (['a', 'b'], 'sum')
    """

    nodes: tuple[Node, ...]
    inputs: Mapping[str, Shape] = field(hash=False)
    state: Mapping[str, Shape] = field(hash=False)
    output: str = ""
    tokens: Mapping[str, int] = field(default_factory=dict, hash=False)
    runs: tuple[str, ...] = ()

    @cached_property
    def maker(self) -> dict[str, Node]:
        """By value, the operation that makes it."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """By value, the operations that take it."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def places(self) -> dict[str, int]:
        """By value, when its operation runs."""
        return {name: place for place, node in enumerate(self.nodes) for name in node.outputs}

    @cached_property
    def owner(self) -> dict[str, Node]:
        """By parameter or statistic, the operation that has it."""
        return {name: node for node in self.nodes for name in (*node.parameters.values(), *node.statistics.values())}

    @cached_property
    def differentiable(self) -> frozenset[str]:
        """The values that have a gradient: those that a parameter leads to."""
        found: set[str] = set()
        for node in self.nodes:
            if node.parameters or not found.isdisjoint(node.inputs):
                found.update(node.outputs)
        return frozenset(found)

    def ancestors(self, name: str) -> list[Node]:
        """The operations that lead to a value, in order; the last one makes it.

        Example:
            >>> graph = Graph((Node("a", "relu", ("input",)), Node("b", "relu", ("input",))), {}, {}, "b")
            >>> [node.name for node in graph.ancestors("b")]
            ['b']
        """
        wanted, found = [name], set[str]()
        while wanted:
            node = self.maker.get(wanted.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                wanted += node.inputs
        return [node for node in self.nodes if node.name in found]
