"""Inference plans: a traced model, fused, run once and recorded, and run again over one arena with almost no Python.

``compile`` traces the model, folds into each convolution the normalisation, the sum and the activation that follow it,
records the kernels of one eager run of these steps (``lucid/backends/_plan.py``), and gives every value that remains
a place in one arena for the time it lives. Fusion changes no bit: the epilogue of a convolution applies the roundings
that the single operations would apply, in their order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from lucid.autograd import no_grad
from lucid.backends import Backend, backend_for
from lucid.backends._plan import ALIGNMENT, INPUT, Source, row_major
from lucid.backends.base import Epilogue, Norm
from lucid.core.device import to_numpy
from lucid.graph._graph import Graph, Node
from lucid.graph._trace import trace
from lucid.nn import Module
from lucid.tensor import Tensor, as_tensor, wrap

__all__ = ["InferencePlan", "compile"]


def compile(model: Module, *examples: Tensor) -> InferencePlan:
    """An inference plan of ``model`` in eval mode, for inputs of the shapes and dtypes of ``examples``.

    The plan's outputs equal those of the model called in eval mode, bit for bit. It is made of the parameters and
    statistics as they are now; make a new one after they have changed.

    Args:
        model: a module that takes tensors and returns one, or a tuple of them.
        examples: give shapes and dtypes; their values do not matter.

    Raises:
        RuntimeError: the model cannot be traced (see ``lucid.graph.trace``).
        TypeError: there is no example.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> x = lucid.ones((1, 3, 8, 8))
        >>> plan = lucid.compile(model, x)
        >>> bool((plan(x).numpy() == model(x).numpy()).all())
        True
    """
    return InferencePlan(model, *examples)


class InferencePlan:
    """See ``compile``. Calling it from several threads is safe; they take turns.

    Attributes:
        input_shape: the shape that the (first) input must have; ``input_shapes`` has all.
        output_shape: that of the (first) result; ``output_shapes`` has all.
        steps: what runs, one line a step.
        arena_bytes: memory for all intermediate values.
    """

    def __init__(self, model: Module, *examples: Tensor) -> None:
        if not examples:
            raise TypeError("compile: got no example of an input; a plan has at least one")
        graph = trace(model, *examples)
        backend = backend_for(examples[0].device)
        self.input_shapes = [tuple(example.shape) for example in examples]
        self.dtypes = [example.dtype for example in examples]
        self.output_shapes: list[tuple[int, ...]] = [_shape(graph, name) for name in graph.outputs]
        self.input_shape, self.dtype, self.output_shape = self.input_shapes[0], self.dtypes[0], self.output_shapes[0]
        self._device = examples[0].device
        self._lock = threading.Lock()
        nodes = _unknown(graph, backend)
        steps = fuse(graph, nodes)
        self.steps = [str(step) for step in steps]
        self._names = [step.output for step in steps]
        made = [name for name in graph.outputs if name not in graph.initializers]
        self._made = [INPUT if name == graph.inputs[0] else name for name in made]
        self._constants = {
            i: backend.xp.array(graph.initializers[name])
            for i, name in enumerate(graph.outputs)
            if name in graph.initializers
        }
        self._others = graph.inputs[1:]
        self._plan = backend.plan(self.dtype)
        with no_grad():
            _record(self._plan, graph, steps, [example._array for example in examples])
        layout = _Layout(graph, steps, backend.terms_in_place, self._plan.temporaries())
        self.arena_bytes = layout.bytes
        self._plan.lay_out(layout.bytes, layout.places, layout.temporaries)

    def __call__(self, *inputs: Any) -> Any:
        """The model's output for tensors (or arrays) of ``input_shapes``; a tuple where it returns several."""
        arrays = self._arrays(inputs)
        with self._lock:
            results = self._plan.run(arrays, self._made)
        return self._returned(results)

    def _returned(self, made: Sequence[Any]) -> Any:
        """What the model returns, of what steps made, and copies of constants."""
        left = iter(made)
        constants = self._constants
        outputs = [constants[i].copy() if i in constants else next(left) for i in range(len(self.output_shapes))]
        tensors = [wrap(output, self._device) for output in outputs]
        return tensors[0] if len(tensors) == 1 else tuple(tensors)

    def observe(self, *inputs: Any, seen: Callable[[str, Tensor], None] | None = None) -> Any:
        """Run as a call does, and show the result of every step: ``seen(name, value)``; returns the model's output.

        ``seen`` may be the last argument without its name.

        Each is a copy, since the arena holds nothing longer than it is needed. ``seen`` must not run the plan.

        Example:
            >>> import lucid
            >>> from lucid import nn
            >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
            >>> x = lucid.ones((1, 3, 8, 8))
            >>> shapes = []
            >>> lucid.compile(model, x).observe(x, lambda name, value: shapes.append(value.shape)).shape
            (1, 144)
            >>> shapes[-1]
            (1, 144)
        """
        if seen is None:
            *given, seen = inputs
            inputs = tuple(given)
        arrays = self._arrays(inputs)
        shown = dict(zip([INPUT, *self._others], arrays, strict=True))
        with self._lock:
            for name, values in zip(self._names, self._plan.observe(arrays, self._names), strict=True):
                if name in self._made:
                    shown[name] = values
                seen(name, wrap(values, self._device))
        return self._returned([shown[name] for name in self._made])

    def constants(self) -> dict[str, Any]:
        """The arrays that the plan has made of the parameters and reads at every run, by step and what they are.

        They are the plan's own memory, in the order in which its kernels read them (a packed weight differs from one
        instruction set to another).

        Example:
            >>> import lucid
            >>> from lucid import nn
            >>> plan = lucid.compile(nn.Linear(3, 2), lucid.ones((1, 3)))
            >>> len(plan.constants())
            2
        """
        return dict(self._plan.constants)

    def _arrays(self, inputs: Sequence[Any]) -> list[Any]:
        if len(inputs) != len(self.input_shapes):
            raise TypeError(f"inputs: got {len(inputs)}; the plan takes {len(self.input_shapes)}")
        pairs = zip(inputs, self.input_shapes, self.dtypes, strict=True)
        return [self._input(x, shape, dtype)._array for x, shape, dtype in pairs]

    def _input(self, x: Any, shape: tuple[int, ...], dtype: Any) -> Tensor:
        x = as_tensor(x, device=None if isinstance(x, Tensor) else self._device)
        if x.device != self._device:
            raise RuntimeError(f"input: got a tensor on {x.device!r}; the plan runs on {self._device!r}")
        if x.shape != shape or x.dtype != dtype:
            raise ValueError(f"input: got {x.dtype} of shape {x.shape}; the plan takes {dtype} of shape {shape}")
        return x

    def __repr__(self) -> str:
        pairs = zip(self.dtypes, self.input_shapes, strict=True)
        given = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in pairs)
        returned = ", ".join(str(list(shape)) for shape in self.output_shapes)
        return (
            f"InferencePlan({given} -> {returned}, {len(self.steps)} steps, {self.arena_bytes / 2**20:.1f} MiB arena)"
        )


# -- fusion ----------------------------------------------------------------------------------------------------------


_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})


@dataclass(slots=True)
class Step:
    """A node of the graph and what was folded into it."""

    node: Node
    output: str
    norm: Node | None = None
    residual: str | None = None
    relu: bool = False

    def inputs(self) -> list[str]:
        """The values that it reads, parameters among them."""
        statistics = () if self.norm is None else self.norm.inputs[1:]
        return [name for name in (*self.node.inputs, *statistics, self.residual) if name is not None]

    def __str__(self) -> str:
        folded = [
            *(["batch_norm"] if self.norm is not None else []),
            *([f"add {self.residual}"] if self.residual is not None else []),
            *(["relu"] if self.relu else []),
        ]
        return f"{self.output} = {' + '.join([self.node.op, *folded])}({self.node.inputs[0]})"


def _unknown(graph: Graph, backend: Backend) -> list[Node]:
    """The nodes that depend on an input; what the others make is computed now, and enters the graph's initializers."""
    nodes: list[Node] = []
    made: dict[str, Any] = {}
    for node in _leaves(graph.nodes):
        names = [name for name in node.inputs if name is not None]
        if not all(name in graph.initializers for name in names):
            nodes.append(node)
            continue
        for name in names:
            made.setdefault(name, backend.xp.asarray(graph.initializers[name]))
        run, operands = _eager(Step(node, node.output))
        made[node.output] = run(backend, *(None if name is None else made[name] for name in operands))
        graph.initializers[node.output] = to_numpy(made[node.output])
    return nodes


def fuse(graph: Graph, nodes: Sequence[Node] | None = None) -> list[Step]:
    """The graph's nodes as steps, in order; those that can go into the step before them are folded into it."""
    nodes = _leaves(graph.nodes) if nodes is None else nodes
    uses: dict[str, int] = dict.fromkeys(graph.outputs, 1)
    for node in nodes:
        for name in node.inputs:
            if name is not None:
                uses[name] = uses.get(name, 0) + 1
    steps: list[Step] = []
    maker: dict[str, int] = {}  # which step makes a value

    def own(name: str | None) -> Step | None:
        """The step that makes ``name``, if nobody else reads it."""
        return steps[maker[name]] if name in maker and uses[name] == 1 else None

    def constant(names: tuple[str | None, ...]) -> bool:
        return all(name is None or name in graph.initializers for name in names)

    def fold(step: Step, node: Node) -> None:
        maker[node.output] = maker[step.output]
        step.output = node.output

    for node in nodes:
        first = own(node.inputs[0])
        if _is_norm(node) and first is not None and _takes_norm(first) and constant(node.inputs[1:]):
            first.norm = node
            fold(first, node)
        elif node.op == "relu" and first is not None and _takes_relu(first.node) and not first.relu:
            first.relu = True
            fold(first, node)
        elif node.op == "add" and (chosen := _takes_residual(graph, node, maker, own)) is not None:
            step, residual = chosen
            step.residual = residual
            fold(step, node)
        else:
            maker[node.output] = len(steps)
            steps.append(Step(node, node.output))
    return steps


def _leaves(nodes: Sequence[Node]) -> list[Node]:
    """The nodes, those of a composed operation in its place."""
    return [leaf for node in nodes for leaf in (_leaves(node.body) if node.body else (node,))]


def _is_norm(node: Node) -> bool:
    """Whether it is a normalisation by stored statistics."""
    return node.op == "batch_norm" and not node.attrs["training"]


def _takes_relu(node: Node) -> bool:
    return node.op in _CONVOLUTIONS or _is_norm(node)


def _takes_norm(step: Step) -> bool:
    return step.node.op in _CONVOLUTIONS and step.norm is None and step.residual is None and not step.relu


def _takes_residual(graph: Graph, node: Node, maker: dict[str, int], own: Any) -> tuple[Step, str] | None:
    """The later of the two convolutions whose values are added, and the value that it then reads."""
    a, b = node.inputs
    if a is None or b is None or a == b or graph.values[a].shape != graph.values[b].shape:
        return None
    for mine, other in sorted(((a, b), (b, a)), key=lambda names: -maker.get(names[0], -1)):
        step = own(mine)
        if step is None or step.node.op not in _CONVOLUTIONS or step.residual is not None or step.relu:
            continue
        if other not in graph.initializers and maker.get(other, -1) < maker[mine]:
            return step, other
    return None


# -- recording -------------------------------------------------------------------------------------------------------


def _record(plan: Any, graph: Graph, steps: list[Step], inputs: Sequence[Any]) -> None:
    """Run the steps one after the other, on ``inputs``, for the plan to note how."""
    last_use = {name: index for index, step in enumerate(steps) for name in step.inputs()}
    values = {INPUT: row_major(inputs[0], plan.xp)}
    for name, x in zip(graph.inputs[1:], inputs[1:], strict=True):
        plan.take(name, x)
        values[name] = plan.xp.array(x, order="C")  # memory of its own, though one array may be given twice
    for index, step in enumerate(steps):
        run, names = _eager(step)
        operands = [_source(graph, name) for name in names]
        values[step.output] = plan.record(step.output, run, operands, values)
        for name in step.inputs():
            if last_use[name] == index and name not in graph.outputs:
                values.pop(name, None)


def _source(graph: Graph, name: str | None) -> Source:
    if name is None:
        return Source()
    if name in graph.initializers:
        return Source(None, graph.initializers[name], name.rpartition(".")[2])
    return Source(INPUT if name == graph.inputs[0] else name)


def _eager(step: Step) -> tuple[Callable[..., Any], list[str | None]]:
    """What computes a step from a backend and arrays, and the names of the arrays."""
    node, norm = step.node, step.norm
    a, relu = node.attrs, step.relu
    if node.op in _CONVOLUTIONS:
        geometry = a["stride"], a["padding"], a["dilation"], a["groups"]

        def conv(be: Backend, x: Any, weight: Any, bias: Any, residual: Any, *stored: Any) -> Any:
            statistics = None if norm is None else _statistics(be, norm, *stored)
            return be.conv2d_norm(x, weight, bias, geometry, Epilogue(statistics, residual, relu))

        return conv, [*node.inputs, step.residual, *(() if norm is None else norm.inputs[1:5])]
    if _is_norm(node):

        def normalize(be: Backend, x: Any, *stored: Any) -> Any:
            return be.norm_act_eval(x, _statistics(be, node, *stored), None, relu)

        return normalize, list(node.inputs[:5])
    return _Forward(node.function), list(node.inputs)


class _Forward:
    """An operation as it is run eagerly; into memory that is given, where it only moves values there."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.into = getattr(function, "into", None)

    def __call__(self, be: Backend, *arrays: Any) -> Any:
        result = self._function.forward(be, *arrays)
        self._function.release()
        return be.xp.asarray(result)


def _statistics(be: Backend, norm: Node, gamma: Any, beta: Any, mean: Any, var: Any) -> Norm:
    return Norm(gamma, beta, be.convert(mean, np.float64), be.convert(var, np.float64), norm.attrs["eps"])


# -- places in the arena ---------------------------------------------------------------------------------------------


class _Layout:
    """The place of every step's result in the arena, in bytes: values that live at the same time do not overlap.

    But for a residual that nobody reads again: the sum takes its place, where the contraction has at most
    ``terms_in_place`` terms, so that no element is written before the residual's is read. ``temporaries`` are the bytes
    that each step needs on its way; where they lie is in an attribute of that name.
    """

    def __init__(
        self, graph: Graph, steps: list[Step], terms_in_place: int, temporaries: Sequence[int] | None = None
    ) -> None:
        self.places: dict[str, int] = {}
        self.temporaries: list[int] = []
        self.bytes = 0
        last_use = {name: index for index, step in enumerate(steps) for name in step.inputs()}
        last_use |= dict.fromkeys(graph.outputs, len(steps))
        live: list[tuple[int, int, str]] = []  # (start, end, name)
        for index, step in enumerate(steps):
            over = step.residual
            if (
                over in self.places
                and last_use[over] == index
                and over not in step.node.inputs
                and _bytes(graph, over) == _bytes(graph, step.output)
                and _terms(graph, step) <= terms_in_place
            ):
                self.places[step.output] = self.places[over]
                live[:] = [(start, end, step.output if name == over else name) for start, end, name in live]
            else:
                self.places[step.output] = self._place(live, step.output, _bytes(graph, step.output))
            on_the_way = temporaries[index] if temporaries is not None else 0
            self.temporaries.append(self._place(live, "", on_the_way) if on_the_way else 0)
            live[:] = [entry for entry in live if last_use.get(entry[2], -1) > index]

    def _place(self, live: list[tuple[int, int, str]], name: str, size: int) -> int:
        size = -(-size // ALIGNMENT) * ALIGNMENT
        place = 0
        for start, end, _ in sorted(live):
            if start - place >= size:
                break
            place = max(place, end)
        live.append((place, place + size, name))
        self.bytes = max(self.bytes, place + size)
        return place


def _terms(graph: Graph, step: Step) -> int:
    """How many products a convolution adds for an element of its result."""
    weight = step.node.inputs[1]
    assert weight is not None
    return prod(_shape(graph, weight)[1:])


def _bytes(graph: Graph, name: str) -> int:
    return prod(_shape(graph, name)) * graph.values[name].dtype.itemsize


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    return tuple(graph.values[name].shape)  # type: ignore[arg-type]
