"""The tracer: from a model and an example input to a graph.

The model runs once (twice where the batch is left open) on tensors without values, and every operation that goes
through lucid is noted. So a graph is what the model does on inputs of that shape in eval mode: a Python ``if`` on a
shape is resolved, and one on a value is an error. Forward hooks run, and what they do is traced too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lucid.backends.shapes import Abstract
from lucid.core.tensor import Tensor
from lucid.graph._graph import BATCH, Graph, Node, Value
from lucid.nn import Module
from lucid.nn._dry_run import abstract_like, dry_run
from lucid.ops._function import Composition, Function

__all__ = ["trace"]

BATCHES = (2, 3)  # two lengths of the first axis, to see which sizes follow it


def trace(model: Module, *inputs: Tensor, dynamic_batch: bool = False) -> Graph:
    """The graph of ``model`` in eval mode on inputs like ``inputs``; their values do not matter.

    A value is named by the path of the module that returned it (``layer1.0.conv1``); what an operation in a module's
    own forward makes on the way is ``<path>.<operation>`` (``layer1.0.add``), with ``_1``, ``_2`` where that is taken.
    A single input is called ``input``, several ``input_0``, ``input_1``; parameters and buffers have their names in the
    state_dict.

    Args:
        model: any module whose forward takes tensors and returns a tensor, or a tuple or list of them.
        inputs: examples, for their shapes and dtypes.
        dynamic_batch: leave the length of the first axis of every input open; in ``Value.shape`` it is ``"batch"``.

    Raises:
        RuntimeError: the forward depends on values (``item``, ``bool`` or ``float`` of a tensor), draws random numbers,
            or computes with a traced tensor's array behind lucid's back.
        ValueError: with ``dynamic_batch``, the forward does something else for another batch.
        TypeError: the model returns something else than tensors.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> from lucid.graph import trace
        >>> print(trace(nn.Sequential(nn.Flatten(), nn.ReLU()), lucid.ones((4, 3, 2)), dynamic_batch=True))
        input: float32[batch, 3, 2]
        0: float32[batch, 6] = reshape(input, shape=('batch', 6))
        1: float32[batch, 6] = relu(0)
        return 1
    """
    if not dynamic_batch:
        return _trace(model, [abstract_like(tensor) for tensor in inputs])
    if any(tensor.ndim == 0 for tensor in inputs):
        raise ValueError("dynamic_batch: an input without axes has no batch")
    return merge(*(_trace(model, [abstract_like(tensor, batch) for tensor in inputs]) for batch in BATCHES))


def _trace(model: Module, inputs: list[Tensor]) -> Graph:
    names = ["input"] if len(inputs) == 1 else [f"input_{index}" for index in range(len(inputs))]
    return trace_call(model, model, inputs, names)


def trace_call(
    model: Module,
    call: Callable[..., Any],
    inputs: list[Tensor],
    names: list[str],
    result: str | None = None,
    training: bool = False,
) -> Graph:
    """The graph of ``call``, which runs ``model``, on abstract inputs of these names; ``result`` names what it
    returns."""
    tracer = _GraphTracer(model, inputs, names)
    output = dry_run(model, inputs, tracer, call, training)
    if result is not None:
        tracer.claim(output, result)
    outputs = list(output) if isinstance(output, tuple | list) else [output]
    if not outputs or not all(isinstance(tensor, Tensor) for tensor in outputs):
        kinds = ", ".join(type(tensor).__name__ for tensor in outputs)
        raise TypeError(
            f"model: returned {kinds or 'nothing'}; a traced model may return a tensor or a tuple of tensors"
        )
    return tracer.graph(outputs)


@dataclass(slots=True, eq=False)
class _Traced:
    """A tensor that the tracer has met. It holds the tensor, so that its ``id`` stays its own."""

    tensor: Tensor
    name: str  # preferred; made unique when the graph is made
    claimed: bool  # whether the name is the path of a module (or of a parameter, or an input's)


@dataclass(slots=True, eq=False)
class _Step:
    """An operation that the tracer has met; ``body`` are the steps of one that is composed."""

    function: Function | Composition
    operands: list[_Traced | None]
    made: _Traced
    body: list[_Step]


class _GraphTracer:
    def __init__(self, model: Module, inputs: list[Tensor], names: list[str]) -> None:
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._known: dict[int, _Traced] = {}  # by id of the tensor, and of its array, which a detached twin shares
        self._initializers: list[_Traced] = []
        self._steps: list[_Step] = []
        self._changed: list[Tensor] = []
        self._scopes: list[tuple[str, int]] = [("", 0)]  # path, and the number of steps at its entry
        self._state = {id(tensor): name for name, tensor in state_of(model)}
        self._inputs = [self._meet(tensor, name, True) for tensor, name in zip(inputs, names, strict=True)]

    # -- what the tracer is told -------------------------------------------------------------------------------------

    def enter(self, module: Any) -> None:
        path = self._paths.get(id(module))
        if path is None:  # made in a forward, so that no path leads to it
            path = _join(self._scopes[-1][0], type(module).__name__.lower())
        self._scopes.append((path, len(self._steps)))

    def exit(self, module: Any, output: Any) -> None:
        path, entry = self._scopes.pop()
        names = getattr(module, "output_names", None)  # of a module that names each of several outputs
        several = zip(output, names, strict=False) if names is not None and isinstance(output, tuple) else None
        for one, name in several or [(output, path or "output")]:
            made = self._known.get(id(one))
            if made is not None and not made.claimed and any(made is step.made for step in self._steps[entry:]):
                made.name, made.claimed = name, True

    def claim(self, output: Any, name: str) -> None:
        """Let what a step has made have this name."""
        made = self._known.get(id(output))
        if made is not None and any(made is step.made for step in self._steps):
            made.name, made.claimed = name, True

    def record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        if any(isinstance(leaf, Abstract) for leaf in _leaves(tuple(function.attrs().values()))):
            raise RuntimeError(f"{self._scopes[-1][0] or 'the model'}: indexing by a traced tensor cannot be traced")
        operands = [None if tensor is None else self._operand(tensor) for tensor in inputs]
        made = self._meet(output, _join(self._scopes[-1][0], function.name), False)
        self._steps.append(_Step(function, operands, made, []))

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor:
        operands = [None if tensor is None else self._operand(tensor) for tensor in inputs]
        entry = len(self._steps)
        output = run()
        body = self._steps[entry:]
        if body:
            made = body[-1].made
            made.name = _join(self._scopes[-1][0], whole.name)
            self._steps[entry:] = [_Step(whole, operands, made, body)]
        return output

    def update(self, tensor: Tensor, result: Tensor) -> None:
        """``tensor`` was changed in place: from now on it, and what shares its array, is ``result``."""
        if not isinstance(tensor._array, Abstract):
            raise RuntimeError(
                f"{self._scopes[-1][0] or 'the model'}: its forward changes a parameter, a buffer or a constant in "
                "place, which cannot be traced; compute a new tensor"
            )
        made = self._operand(result)
        self._known[id(tensor)] = self._known[id(tensor._array)] = made
        self._changed.append(tensor)  # so that its id stays its own

    def _meet(self, tensor: Tensor, name: str, claimed: bool) -> _Traced:
        traced = _Traced(tensor, name, claimed)
        self._known[id(tensor)] = traced
        if isinstance(tensor._array, Abstract):
            self._known.setdefault(id(tensor._array), traced)
        return traced

    def _operand(self, tensor: Tensor) -> _Traced:
        known = self._known.get(id(tensor)) or self._known.get(id(tensor._array))
        if known is not None:
            return known
        if isinstance(tensor._array, Abstract):
            raise RuntimeError(
                f"{self._scopes[-1][0] or 'the model'}: its forward computes with a tensor's array (.data, .numpy()) "
                "behind lucid's back, which cannot be traced; use lucid's operations"
            )
        name = self._state.get(id(tensor))
        initializer = self._meet(tensor, name or _join(self._scopes[-1][0], "constant"), name is not None)
        self._initializers.append(initializer)
        return initializer

    # -- what becomes of it ------------------------------------------------------------------------------------------

    def graph(self, outputs: list[Tensor]) -> Graph:
        """The graph that ends in ``outputs``."""
        returned = [self._operand(tensor) for tensor in outputs]
        self._make_names_unique()
        graph = Graph(
            inputs=[traced.name for traced in self._inputs],
            outputs=[traced.name for traced in returned],
            initializers={traced.name: traced.tensor.numpy() for traced in self._initializers},
        )
        for traced in (*self._inputs, *self._initializers, *_made(self._steps)):
            graph.values[traced.name] = Value(traced.name, traced.tensor.shape, traced.tensor.dtype)
        graph.nodes.extend(map(_node, self._steps))
        return graph

    def _make_names_unique(self) -> None:
        """Make names unique; those that are somebody's path come first."""
        everything = [*self._inputs, *self._initializers, *_made(self._steps)]
        taken: set[str] = set()
        for traced in sorted(everything, key=lambda traced: not traced.claimed):  # stable: in order of execution
            name, count = traced.name, 0
            while name in taken:
                count += 1
                name = f"{traced.name}_{count}"
            traced.name = name
            taken.add(name)


def _made(steps: list[_Step]) -> list[_Traced]:
    """What ``steps`` and their bodies make, each once; a composed operation first, because its name is to stay."""
    return list(dict.fromkeys(made for step in steps for made in (step.made, *_made(step.body))))


def _node(step: _Step) -> Node:
    names = tuple(None if operand is None else operand.name for operand in step.operands)
    body = tuple(map(_node, step.body))
    function = step.function if isinstance(step.function, Function) else None
    return Node(step.function.name, step.made.name, step.function.attrs(), names, step.made.name, body, function)


def state_of(model: Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    return [*model.named_parameters(), *model.named_buffers()]


def _leaves(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, tuple | list) else [value]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# -- the open batch --------------------------------------------------------------------------------------------------


def merge(first: Graph, second: Graph) -> Graph:
    """One graph from those at two batches: what differs between them is what follows the batch."""
    nodes = _merge_nodes(first.nodes, second.nodes)
    if first.outputs != second.outputs:
        raise ValueError("dynamic_batch: the model does another thing for another batch")
    for name, array in first.initializers.items():
        other = second.initializers[name]
        if array is not other and not (array.shape == other.shape and np.array_equal(array, other, equal_nan=True)):
            raise ValueError(f"dynamic_batch: the constant {name!r} follows the batch, which a graph cannot tell")
    values = {name: _merge_value(value, second.values[name]) for name, value in first.values.items()}
    return replace(first, nodes=nodes, values=values)


def _merge_nodes(first: Sequence[Node], second: Sequence[Node]) -> list[Node]:
    for a, b in zip(first, second, strict=False):
        if replace(a, attrs={}, body=()) != replace(b, attrs={}, body=()):
            raise ValueError(f"dynamic_batch: the model does another thing for another batch, first at {a.name!r}")
    if len(first) != len(second):
        raise ValueError("dynamic_batch: the model does another thing for another batch")
    return [
        replace(a, attrs=_merge_attrs(a, b), body=tuple(_merge_nodes(a.body, b.body)))
        for a, b in zip(first, second, strict=True)
    ]


def _merge_value(first: Value, second: Value) -> Value:
    if len(first.shape) != len(second.shape):
        raise ValueError(f"dynamic_batch: {first.name!r} has another number of axes for another batch")
    return replace(first, shape=_merge_shape(first.shape, second.shape))


def _merge_shape(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[int | str | None, ...]:
    pairs = zip(first, second, strict=True)
    return tuple(a if a == b else BATCH if (a, b) == BATCHES else None for a, b in pairs)


def _merge_attrs(first: Node, second: Node) -> dict[str, Any]:
    merged = {}
    for key, value in first.attrs.items():
        other = second.attrs[key]
        same = all(np.array_equal(a, b) for a, b in zip(_leaves(value), _leaves(other), strict=False))
        if not same and key != "shape":
            raise ValueError(f"dynamic_batch: {key} of {first.name!r} follows the batch, which a graph cannot tell")
        merged[key] = value if same else _merge_shape(value, other)
    return merged
