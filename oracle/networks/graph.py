"""From the graph that lucid traces of a module to a graph of the oracle: a node for each operation, in the same order.

Where the oracle has an operation of its own, with bounds derived by hand, the node is that; everything else is a traced
operation (`oracle.operations.traced`). The loss, the cross-entropy over an axis of classes, is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lucid.backends import backend_for
from lucid.graph import Graph as Traced
from lucid.graph import Node as Step
from oracle.errors import UsageError
from oracle.graph.graph import INPUT, Graph, Node, Shape, Window
from oracle.operations.traced import FUNCTIONS

LOSS = "loss"


def graph_of(traced: Traced, state: Mapping[str, Shape], statistics: frozenset[str], axis: int | None) -> Graph:
    """The oracle's graph.

    Args:
        traced: what lucid traced, of one input and one output.
        state: by name, the shapes of all parameters and buffers.
        statistics: the names of the buffers.
        axis: of the classes in the output; ``None`` where there is no loss.

    Raises:
        UsageError: an operation is not known, or makes no floats; or there are several inputs or outputs.
    """
    if traced.inputs != [INPUT] or len(traced.outputs) != 1:
        raise UsageError(
            f"model: takes {len(traced.inputs)} inputs and makes {len(traced.outputs)} outputs; may be one of each"
        )
    reader = _Reader(traced, state, statistics)
    nodes = [reader.node(step) for step in traced.nodes if not reader.is_constant(step)]
    [output] = traced.outputs
    nodes += [] if axis is None else [Node(LOSS, "loss", (output,), {"axis": axis})]
    runs = tuple(step.output for step in traced.nodes)
    return Graph(tuple(nodes), {INPUT: reader.shape(INPUT)}, state, output, runs=runs)


class _Reader:
    """Reads the operations of one traced graph."""

    def __init__(self, traced: Traced, state: Mapping[str, Shape], statistics: frozenset[str]) -> None:
        self._traced, self._state, self._statistics = traced, state, statistics
        self._constants = {name: value for name, value in traced.initializers.items() if name not in state}

    def shape(self, name: str) -> Shape:
        return tuple(int(side) for side in self._traced.values[name].shape if isinstance(side, int))

    def is_constant(self, step: Step) -> bool:
        """Whether an operation makes the same always, such as a mask of a shape; that is then known."""
        if step.function is None or not all(name is None or name in self._constants for name in step.inputs):
            return False
        arrays = [None if name is None else self._constants[name] for name in step.inputs]
        self._constants[step.output] = np.asarray(step.function.forward(backend_for("cpu"), *arrays))
        return True

    def node(self, step: Step) -> Node:
        """One operation."""
        dtype = self._traced.values[step.output].dtype
        if dtype.kind != "f":
            raise UsageError(f"model: {step.name} makes numbers of {dtype}, which the oracle does not judge")
        return self._known(step) or self._any(step)

    def _any(self, step: Step) -> Node:
        """A traced operation."""
        inputs: list[str] = []
        held: dict[str, str] = {}  # by role
        operands: list[tuple[str, Any]] = []
        for place, name in enumerate(step.inputs):
            if name is None:
                operands.append(("none", None))
            elif name in self._constants:
                operands.append(("constant", self._constants[name]))
            elif name in self._state:
                role = name.rpartition(".")[2]
                role = f"{role}_{place}" if role in held else role
                operands.append(("parameter", role))
                held[role] = name
            else:
                operands.append(("input", len(inputs)))
                inputs.append(name)
        attributes = {"operands": tuple(operands), "shape": self.shape(step.output), "call": step.attrs}
        if step.op not in FUNCTIONS:
            attributes["body"] = self._body(step, step.inputs)
        parameters = {role: name for role, name in held.items() if name not in self._statistics}
        statistics = {role: name for role, name in held.items() if name in self._statistics}
        return Node(step.name, step.op, tuple(inputs), attributes, parameters, statistics)

    def _body(self, step: Step, outer: tuple[str | None, ...]) -> tuple[Node, ...]:
        """The nodes of which a composed operation consists.

        Raises:
            UsageError: it has none, or one of them is not known.
        """
        if not step.body:
            raise UsageError(
                f"model: {step.name} is the operation {step.op}, which the oracle does not know; it knows "
                f"{', '.join(sorted(FUNCTIONS))}, and what is composed of them"
            )
        made: set[str] = set()
        nodes = []
        for part in step.body:
            operands: list[tuple[str, Any]] = []
            for name in part.inputs:
                if name is None:
                    operands.append(("none", None))
                elif name in made:
                    operands.append(("inner", name))
                elif name in outer:
                    operands.append(("outer", outer.index(name)))
                else:
                    operands.append(("constant", self._constants[name]))
            attributes: dict[str, Any] = {"operands": tuple(operands), "call": part.attrs}
            if part.op not in FUNCTIONS:
                attributes["body"] = self._body(part, part.inputs)
            made.add(part.name)
            nodes.append(Node(part.name, part.op, (), attributes))
        return tuple(nodes)

    # -- the operations with bounds derived by hand -----------------------------------------------------------------

    def _known(self, step: Step) -> Node | None:
        """The oracle's own operation, where it has one that is this."""
        value, *others = step.inputs
        if (
            value is None
            or value in self._constants
            or value in self._state
            or any(name and name not in self._state for name in others)
        ):
            return None
        held = dict(zip(_ROLES.get(step.op, ()), others, strict=False))
        attributes = self._attributes(step, held, len(self.shape(value)))
        if step.op not in _OWN or attributes is None:
            return None
        parameters = {role: name for role, name in held.items() if name and not role.startswith("running")}
        statistics = {role: name for role, name in held.items() if name and role.startswith("running")}
        return Node(step.name, _OWN[step.op], (value,), attributes, parameters, statistics)

    def _attributes(self, step: Step, held: Mapping[str, str | None], rank: int) -> dict[str, Any] | None:
        """What the oracle's own operation is told; ``None`` where it has none for this."""
        of, own, whole = step.attrs, _OWN.get(step.op), all(held.values())
        if own == "relu":
            return {}
        if own == "linear":
            return {} if rank == 2 and whole else None
        if own == "norm":
            return {name: of[name] for name in ("eps", "momentum")} if rank == 4 and whole else None
        if own == "conv":
            weight, bias = held["weight"], held["bias"]
            if weight is None or bias is not None or set(of["dilation"]) != {1} or rank != 4:
                return None
            window = Window(self._state[weight][2:], of["stride"], of["padding"])
            return {"window": window, "groups": of["groups"]}
        if own == "max pool" and not of["ceil_mode"] and set(of["dilation"]) == {1}:
            return {"window": Window(of["kernel_size"], of["stride"], of["padding"])}
        return None


_OWN = {
    "relu": "relu",
    "linear": "linear",
    "batch_norm": "norm",
    **{f"conv{sides}d": "conv" for sides in (1, 2, 3)},
    **{f"max_pool{sides}d": "max pool" for sides in (1, 2, 3)},
}
_ROLES = {
    "linear": ("weight", "bias"),
    "batch_norm": ("weight", "bias", "running_mean", "running_var"),
    **dict.fromkeys((f"conv{sides}d" for sides in (1, 2, 3)), ("weight", "bias")),
}
