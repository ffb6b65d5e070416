"""From the graph that lucid traces of a module to a graph of the oracle: a node for each operation, in the same order.

Where the oracle has an operation of its own, with bounds derived by hand, the node is that; everything else is a traced
operation (`oracle.operations.traced`). The loss, the cross-entropy over an axis of classes, is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lucid import nn
from lucid.backends import backend_for
from lucid.graph import Graph as Traced
from lucid.graph import Node as Step
from oracle.errors import UsageError
from oracle.graph.graph import INPUT, Graph, Node, Shape, Window
from oracle.operations.traced import FUNCTIONS

LOSS = "loss"


def graph_of(traced: Traced, model: nn.Module, renamed: Mapping[str, str] | None = None) -> Graph:
    """The oracle's graph.

    The loss takes the classes along the last axis of an output of three, along axis 1 of any other; an output of fewer
    than two axes has none.

    Args:
        traced: what lucid traced, of one input and one output.
        model: the module of which it was.
        renamed: other names of its values.

    Raises:
        UsageError: an operation is not known, or makes no floats; or there are several inputs or outputs.
    """
    if traced.inputs != [INPUT] or len(traced.outputs) != 1:
        raise UsageError(
            f"model: takes {len(traced.inputs)} inputs and makes {len(traced.outputs)} outputs; may be one of each"
        )
    reader = _Reader(traced, model, renamed or {})
    nodes = [reader.node(step) for step in traced.nodes if not reader.is_inner(step)]
    output, rank = reader.name(traced.outputs[0]), len(reader.shape(traced.outputs[0]))
    nodes += [Node(LOSS, "loss", (output,), {"axis": 2 if rank == 3 else 1})] if rank > 1 else []
    runs = tuple(reader.name(step.output) for step in traced.nodes if reader.runs(step))
    return Graph(tuple(nodes), {INPUT: reader.shape(INPUT)}, reader.state, output, runs=runs)


class _Reader:
    """Reads the operations of one traced graph."""

    def __init__(self, traced: Traced, model: nn.Module, renamed: Mapping[str, str]) -> None:
        self._traced, self._model, self._renamed = traced, model, renamed
        self.state: dict[str, Shape] = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        self._statistics = frozenset(name for name, _ in model.named_buffers())
        self._constants = {name: value for name, value in traced.initializers.items() if name not in self.state}
        self._integers: dict[str, Step] = {}

    def name(self, value: str) -> str:
        """What the oracle calls a value."""
        return self._renamed.get(value, value)

    def shape(self, name: str) -> Shape:
        return tuple(int(side) for side in self._traced.values[name].shape if isinstance(side, int))

    def is_inner(self, step: Step) -> bool:
        """Whether an operation is no node: it makes the same always, such as a mask of a shape, and is then known; or
        it makes integers, and is a part of those that take them."""
        if step.function is not None and all(name is None or name in self._constants for name in step.inputs):
            arrays = [None if name is None else self._constants[name] for name in step.inputs]
            self._constants[step.output] = np.asarray(step.function.forward(backend_for("cpu"), *arrays))
            return True
        dtype = self._traced.values[step.output].dtype
        if dtype.kind == "f":
            return False
        if step.output in self._traced.outputs:
            raise UsageError(f"model: {step.name} makes numbers of {dtype}, which the oracle does not judge")
        self._integers[step.output] = step
        return True

    def runs(self, step: Step) -> bool:
        """Whether an operation takes anything that is not the same always."""
        return step.output not in self._constants

    def node(self, step: Step) -> Node:
        """One operation."""
        return self._known(step) or self._any(step)

    def _any(self, step: Step) -> Node:
        """A traced operation."""
        inputs: list[str] = []
        held: dict[str, str] = {}  # by role
        attributes = {**self._made(step, inputs, held), "shape": self.shape(step.output)}
        parameters = {role: name for role, name in held.items() if name not in self._statistics}
        statistics = {role: name for role, name in held.items() if name in self._statistics}
        return Node(self.name(step.output), step.op, tuple(inputs), attributes, parameters, statistics)

    def _made(self, step: Step, inputs: list[str], held: dict[str, str]) -> dict[str, Any]:
        """The attributes of an operation; the values and, by role, the state that it takes are added to the others."""

        def operand(place: int, name: str | None) -> tuple[str, Any]:
            if name is None:
                return "none", None
            if name in self._constants:
                return "constant", self._constants[name]
            if name in self._integers:
                part = self._integers[name]
                return "made", Node(part.name, part.op, (), self._made(part, inputs, held))
            if name in self.state:
                role = name.rpartition(".")[2]
                role = f"{role}_{place}" if role in held else role
                held[role] = name
                return "parameter", role
            inputs.append(self.name(name))
            return "input", len(inputs) - 1

        operands = tuple(operand(place, name) for place, name in enumerate(step.inputs))
        body = {} if step.op in FUNCTIONS else {"body": self._body(step, step.inputs)}
        return {"operands": operands, "call": step.attrs, **body}

    def _body(self, step: Step, outer: tuple[str | None, ...]) -> tuple[Node, ...]:
        """The nodes of which a composed operation consists.

        Raises:
            UsageError: it has none, or one of them is not known.
        """
        if not step.body:
            raise UsageError(
                f"model: {step.name} is the operation {step.op}, which the oracle does not know; it knows those of "
                f"oracle.operations.traced ({len(FUNCTIONS)}), and what is composed of them"
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

    def _is_value(self, name: str | None) -> bool:
        return name is not None and not any(name in known for known in (self._constants, self._integers, self.state))

    def _known(self, step: Step) -> Node | None:
        """The oracle's own operation, where it has one that is this."""
        value, *others = step.inputs
        if (
            value is None
            or value in self._constants
            or value in self.state
            or any(name and name not in self.state for name in others)
        ):
            return None
        held = dict(zip(_ROLES.get(step.op, ()), others, strict=False))
        attributes = self._attributes(step, held, len(self.shape(value)))
        if step.op not in _OWN or attributes is None:
            return None
        parameters = {role: name for role, name in held.items() if name and not role.startswith("running")}
        statistics = {role: name for role, name in held.items() if name and role.startswith("running")}
        return Node(self.name(step.output), _OWN[step.op], (self.name(value),), attributes, parameters, statistics)

    def _attributes(self, step: Step, held: Mapping[str, str | None], rank: int) -> dict[str, Any] | None:
        """What the oracle's own operation is told; ``None`` where it has none for this."""
        of, own, whole = step.attrs, _OWN.get(step.op), all(held.values())
        if own == "relu":
            return {}
        if own == "linear":
            return {} if rank == 2 and whole else None
        if own == "norm":
            # It is traced in eval mode, where nothing is moved.
            momentum = getattr(dict(self._model.named_modules()).get(step.output), "momentum", None)
            known = rank == 4 and whole and momentum is not None
            return {"eps": of["eps"], "momentum": momentum} if known else None
        if own == "conv":
            weight, bias = held["weight"], held["bias"]
            if weight is None or bias is not None or set(of["dilation"]) != {1} or rank != 4:
                return None
            window = Window(self.state[weight][2:], of["stride"], of["padding"])
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
