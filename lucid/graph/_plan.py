"""Inference plans: a traced model, fused and laid out in one arena, run with almost no Python.

``compile`` traces the model, folds into each convolution the normalisation, the sum and the activation that follow it,
and gives every value that remains a place in one arena for the time it lives. Fusion changes no bit: the epilogue of a
convolution applies the roundings that the single operations would apply, in their order.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from lucid.autograd import no_grad
from lucid.backends import Backend, backend_for
from lucid.graph._graph import Graph, Node
from lucid.graph._trace import trace
from lucid.nn import Module
from lucid.tensor import Tensor, as_tensor, wrap

__all__ = ["InferencePlan", "compile"]

ALIGNMENT = 16  # elements: a value starts on a cache line


def compile(model: Module, example: Tensor) -> InferencePlan:
    """An inference plan of ``model`` in eval mode, for inputs of the shape and dtype of ``example``.

    The plan's outputs equal those of the model called in eval mode, bit for bit. It is made of the parameters and
    statistics as they are now; make a new one after they have changed.

    Args:
        model: a module that takes one tensor and returns one.
        example: gives shape and dtype; its values do not matter.

    Raises:
        RuntimeError: the model cannot be traced (see ``lucid.graph.trace``).
        NotImplementedError: it uses an operation that plans do not have; the sentence names it.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> x = lucid.ones((1, 3, 8, 8))
        >>> plan = lucid.compile(model, x)
        >>> bool((plan(x).numpy() == model(x).numpy()).all())
        True
    """
    return InferencePlan(model, example)


class InferencePlan:
    """See ``compile``. Calling it from several threads is safe; they take turns.

    Attributes:
        input_shape: the shape that an input must have.
        output_shape: that of the result.
        steps: what runs, one line a step.
        arena_bytes: memory for all intermediate values.
    """

    def __init__(self, model: Module, example: Tensor) -> None:
        graph = trace(model, example)
        if len(graph.outputs) != 1:
            raise NotImplementedError(f"compile: the model returns {len(graph.outputs)} tensors; a plan returns one")
        backend = backend_for(example.device)
        self.input_shape, self.dtype = tuple(example.shape), example.dtype
        self.output_shape: tuple[int, ...] = _shape(graph, graph.outputs[0])
        self._device = example.device
        self._lock = threading.Lock()
        steps = fuse(graph)
        self.steps = [str(step) for step in steps]
        layout = _Layout(graph, steps, backend.terms_in_place)
        self.arena_bytes = layout.elements * self.dtype.itemsize
        self._output = graph.outputs[0]
        self._plan = backend.plan(layout.elements, self.dtype)
        self._model = None
        if self._plan is None:  # this backend has no plans: a copy of the model computes the same bits
            self._model = _frozen(model)
            return
        builder = _Builder(graph, self._plan, layout, backend)
        self._constants: dict[str, Any] = {}
        self._cuts: list[tuple[str, tuple[int, ...], int, int]] = []  # name, shape, the plan's step behind, place
        for step in steps:
            known = len(self._plan.constants)
            builder.add(step)
            self._constants |= {f"{step.output}: {name}": array for name, array in self._plan.constants[known:]}
            place = builder.places[step.output] if step.output != builder.result else self._plan.OUTPUT
            self._cuts.append((step.output, _shape(graph, step.output), self._plan.steps, place))

    def __call__(self, x: Any) -> Tensor:
        """The model's output for ``x``, a tensor (or array) of ``input_shape``."""
        x = self._input(x)
        with self._lock:
            if self._model is not None:
                with no_grad():
                    output: Tensor = self._model(x)
                return output
            return wrap(self._plan.run(x._array, self.output_shape), self._device)

    def observe(self, x: Any, seen: Callable[[str, Tensor], None]) -> Tensor:
        """Run as a call does, and show the result of every step: ``seen(name, value)``; returns the model's output.

        Each is a copy, since the arena holds nothing longer than it is needed. ``seen`` must not run the plan. Where
        the backend has no plans, the output alone is shown.

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
        x = self._input(x)
        if self._model is not None:
            output = self(x)
            seen(self._output, output)
            return output
        with self._lock:
            cuts = [(end, place, prod(shape)) for _, shape, end, place in self._cuts]
            made = self._plan.observe(x._array, self.output_shape, cuts)
            for (name, shape, _, place), values in zip(self._cuts, made, strict=True):
                if len(shape) == 4 and place != self._plan.OUTPUT:  # images lie channels-last
                    n, c, h, w = shape
                    output = wrap(values.reshape(n, h, w, c).transpose(0, 3, 1, 2), self._device)
                else:
                    output = wrap(values.reshape(shape), self._device)
                seen(name, output)
        return output

    def constants(self) -> dict[str, Any]:
        """The arrays that the plan has made of the parameters and reads at every run, by step and what they are.

        They are the plan's own memory, in the order in which its kernels read them (a packed weight differs from one
        instruction set to another). Where the backend has no plans they are the copied model's state.

        Example:
            >>> import lucid
            >>> from lucid import nn
            >>> plan = lucid.compile(nn.Linear(3, 2), lucid.ones((1, 3)))
            >>> len(plan.constants())
            2
        """
        if self._model is not None:
            return {name: tensor._array for name, tensor in self._model.state_dict(keep_vars=True).items()}
        return dict(self._constants)

    def _input(self, x: Any) -> Tensor:
        x = as_tensor(x, device=None if isinstance(x, Tensor) else self._device)
        if x.device != self._device:
            raise RuntimeError(f"input: got a tensor on {x.device!r}; the plan runs on {self._device!r}")
        if x.shape != self.input_shape or x.dtype != self.dtype:
            raise ValueError(
                f"input: got {x.dtype} of shape {x.shape}; the plan takes {self.dtype} of shape {self.input_shape}"
            )
        return x

    def __repr__(self) -> str:
        return (
            f"InferencePlan({self.dtype}{list(self.input_shape)} -> {list(self.output_shape)}, "
            f"{len(self.steps)} steps, {self.arena_bytes / 2**20:.1f} MiB arena)"
        )


def _frozen(model: Module) -> Module:
    """A copy of ``model`` as it is now, in eval mode, without hooks, which a plan does not call."""
    frozen = copy.deepcopy(model).eval()
    for part in frozen.modules():
        part._forward_pre_hooks = part._forward_hooks = part._backward_hooks = None
    return frozen


# -- fusion ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Step:
    """A node of the graph and what was folded into it."""

    node: Node
    output: str
    norm: Node | None = None
    residual: str | None = None
    relu: bool = False

    def inputs(self) -> list[str]:
        """The values that it reads, without parameters."""
        operands = self.node.inputs if self.node.op in _BOTH_OPERANDS else self.node.inputs[:1]
        return [name for name in (*operands, self.residual) if name is not None]

    def __str__(self) -> str:
        folded = [
            *(["batch_norm"] if self.norm is not None else []),
            *([f"add {self.residual}"] if self.residual is not None else []),
            *(["relu"] if self.relu else []),
        ]
        return f"{self.output} = {' + '.join([self.node.op, *folded])}({self.node.inputs[0]})"


_BOTH_OPERANDS = ("add", "mul", "sub", "div", "maximum", "minimum")


def fuse(graph: Graph) -> list[Step]:
    """The graph's nodes as steps, in order; those that can go into the step before them are folded into it."""
    uses: dict[str, int] = dict.fromkeys(graph.outputs, 1)
    for node in graph.nodes:
        for name in node.inputs:
            if name is not None:
                uses[name] = uses.get(name, 0) + 1
    steps: list[Step] = []
    maker: dict[str, int] = {}  # which step makes a value

    def own(name: str | None) -> Step | None:
        """The step that makes ``name``, if nobody else reads it."""
        return steps[maker[name]] if name in maker and uses[name] == 1 else None

    def fold(step: Step, node: Node) -> None:
        maker[node.output] = maker[step.output]
        step.output = node.output

    for node in graph.nodes:
        first = own(node.inputs[0])
        if node.op == "batch_norm" and first is not None and _takes_norm(first):
            first.norm = node
            fold(first, node)
        elif node.op == "relu" and first is not None and first.node.op in ("conv2d", "batch_norm") and not first.relu:
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


def _takes_norm(step: Step) -> bool:
    return step.node.op == "conv2d" and step.norm is None and step.residual is None and not step.relu


def _takes_residual(graph: Graph, node: Node, maker: dict[str, int], own: Any) -> tuple[Step, str] | None:
    """The later of the two convolutions whose values are added, and the value that it then reads."""
    a, b = node.inputs
    if a is None or b is None or a == b or graph.values[a].shape != graph.values[b].shape:
        return None
    for mine, other in sorted(((a, b), (b, a)), key=lambda names: -maker.get(names[0], -1)):
        step = own(mine)
        if step is None or step.node.op != "conv2d" or step.residual is not None or step.relu:
            continue
        if other not in graph.initializers and maker.get(other, -1) < maker[mine]:
            return step, other
    return None


# -- places in the arena ---------------------------------------------------------------------------------------------


class _Layout:
    """The offset of every value: values that live at the same time do not overlap.

    But for a residual that nobody reads again: the sum takes its place, where the contraction has at most
    ``terms_in_place`` terms, so that no element is written before the residual's is read.
    """

    def __init__(self, graph: Graph, steps: list[Step], terms_in_place: int) -> None:
        self.places: dict[str, int] = {}
        self.elements = 0
        last_use = {name: index for index, step in enumerate(steps) for name in step.inputs()}
        live: list[tuple[int, int, str]] = []  # (offset, end, name)
        self.staged = graph.inputs[0] + ":channels_last"
        self._place(live, self.staged, prod(_shape(graph, graph.inputs[0])))
        last_use[self.staged] = last_use.get(graph.inputs[0], 0)
        for index, step in enumerate(steps):
            over = step.residual
            if (
                over in self.places
                and last_use[over] == index
                and over not in (step.node.inputs[0], *graph.outputs)
                and _terms(graph, step) <= terms_in_place
            ):
                self.places[step.output] = self.places[over]
                live[:] = [(offset, end, step.output if name == over else name) for offset, end, name in live]
            else:
                self._place(live, step.output, prod(_shape(graph, step.output)))
            live[:] = [entry for entry in live if last_use.get(entry[2], index) > index or entry[2] == step.output]

    def _place(self, live: list[tuple[int, int, str]], name: str, size: int) -> None:
        size = -(-size // ALIGNMENT) * ALIGNMENT
        start = 0
        for offset, end, _ in sorted(live):
            if offset - start >= size:
                break
            start = max(start, end)
        self.places[name] = start
        live.append((start, start + size, name))
        self.elements = max(self.elements, start + size)


def _terms(graph: Graph, step: Step) -> int:
    """How many products a convolution adds for an element of its result."""
    weight = step.node.inputs[1]
    assert weight is not None
    return prod(_shape(graph, weight)[1:])


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    return tuple(graph.values[name].shape)  # type: ignore[arg-type]


# -- from steps to a backend's plan ----------------------------------------------------------------------------------


class _Builder:
    """Tells a backend's plan each step. Images lie channels-last in the arena, everything else in row-major order."""

    def __init__(self, graph: Graph, plan: Any, layout: _Layout, backend: Backend) -> None:
        self.graph, self.plan, self.backend = graph, plan, backend
        self.places = dict(layout.places)
        source = graph.inputs[0]
        shape = _shape(graph, source)
        if len(shape) == 4:
            self.places[source] = self.places[layout.staged]
            plan.to_channels_last(shape[0], shape[1], shape[2] * shape[3], plan.INPUT, self.places[source])
        else:
            self.places[source] = plan.INPUT
        self.result = graph.outputs[0]

    def add(self, step: Step) -> None:
        method = getattr(self, f"_{step.node.op}", None)
        if method is None:
            raise NotImplementedError(f"compile: a plan has no {step.node.op!r} (at {step.node.name!r})")
        if step.output == self.result:
            shape = self._shape(step.output)
            if len(shape) == 4 and prod(shape[2:]) > 1:  # results are handed out in row-major order
                method(step, self.places[step.output])
                place = self.places[step.output]
                self.plan.to_channels_last(shape[0], shape[2] * shape[3], shape[1], place, self.plan.OUTPUT)
                return
            self.places[step.output] = self.plan.OUTPUT
        method(step, self.places[step.output])

    def _shape(self, name: str | None) -> tuple[int, ...]:
        assert name is not None
        return _shape(self.graph, name)

    def _place(self, name: str | None) -> int:
        if name in self.graph.initializers:
            raise NotImplementedError(f"compile: a plan has no operation on the constant {name!r}")
        return self.plan.NOWHERE if name is None else self.places[name]

    def _array(self, name: str | None) -> Any:
        return None if name is None else self.graph.initializers[name]

    def _norm(self, node: Node | None) -> Any:
        """The coefficients of section 7: mean, scale and shift in the operand's dtype."""
        if node is None:
            return None
        gamma, beta, mean, var = (self._array(name) for name in node.inputs[1:5])
        dtype = mean.dtype
        mean64, var64 = mean.astype(np.float64), var.astype(np.float64)
        with np.errstate(all="ignore"):
            rstd = 1.0 / np.sqrt(var64 + node.attrs["eps"])
            scale = rstd if gamma is None else gamma.astype(np.float64) * rstd
            m, k = mean64.astype(dtype), scale.astype(dtype)
            shift = (0.0 if beta is None else beta.astype(np.float64)) - (mean64 - m) * k.astype(np.float64)
        return m, k, shift.astype(dtype)

    def _conv2d(self, step: Step, place: int) -> None:
        x, weight, bias = step.node.inputs
        a = step.node.attrs
        self.plan.conv(
            self._shape(x),
            self._shape(step.output),
            (a["stride"], a["padding"], a["dilation"], a["groups"]),
            self._place(x),
            self._array(weight),
            self._array(bias),
            self._norm(step.norm),
            self._place(step.residual),
            step.relu,
            place,
        )

    def _batch_norm(self, step: Step, place: int) -> None:
        n, c, h, w = self._shape(step.output)
        self.plan.norm(n * h * w, c, self._place(step.node.inputs[0]), self._norm(step.node), step.relu, place)

    def _linear(self, step: Step, place: int) -> None:
        x, weight, bias = step.node.inputs
        *leading, k = self._shape(x)
        self.plan.linear(prod(leading), k, self._place(x), self._array(weight), self._array(bias), place)

    def _max_pool2d(self, step: Step, place: int) -> None:
        a = step.node.attrs
        geometry = a["kernel_size"], a["stride"], a["padding"], a["dilation"]
        x = step.node.inputs[0]
        self.plan.max_pool(self._shape(x), self._shape(step.output), geometry, self._place(x), place)

    def _avg_pool2d(self, step: Step, place: int) -> None:
        a = step.node.attrs
        geometry = a["kernel_size"], a["stride"], a["padding"], (1, 1)
        x = step.node.inputs[0]
        self.plan.avg_pool(
            self._shape(x), self._shape(step.output), geometry, a["count_include_pad"], False, self._place(x), place
        )

    def _adaptive_avg_pool2d(self, step: Step, place: int) -> None:
        x = step.node.inputs[0]
        geometry = (1, 1), (1, 1), (0, 0), (1, 1)
        self.plan.avg_pool(self._shape(x), self._shape(step.output), geometry, False, True, self._place(x), place)

    def _reshape(self, step: Step, place: int) -> None:
        x = step.node.inputs[0]
        source, shape = self._shape(x), self._shape(step.output)
        if len(shape) == 4 and source != shape:
            raise NotImplementedError(f"compile: a plan has no reshape to images (at {step.node.name!r})")
        pixels = prod(source[2:]) if len(source) == 4 else 1
        channels = source[1] if len(source) == 4 else prod(source)
        batch = source[0] if len(source) == 4 else 1
        self.plan.to_channels_last(batch, pixels, channels, self._place(x), place)

    def _unary(self, step: Step, place: int) -> None:
        self.plan.unary(step.node.op, prod(self._shape(step.output)), self._place(step.node.inputs[0]), place)

    _relu = _sigmoid = _neg = _abs = _sqrt = _square = _reciprocal = _exp = _log = _unary

    def _binary(self, step: Step, place: int) -> None:
        a, b = step.node.inputs
        shapes = self._shape(a), self._shape(b)
        if shapes[0] == shapes[1]:
            self.plan.binary(step.node.op, prod(shapes[0]), self._place(a), self._place(b), place)
            return
        if step.node.op == "mul" and len(shapes[0]) == len(shapes[1]) == 4:
            (a, b), (full, small) = ((a, b), shapes) if prod(shapes[0]) > prod(shapes[1]) else ((b, a), shapes[::-1])
            n, c, h, w = full
            if small == (n, c, 1, 1):
                self.plan.scale_channels(n, h * w, c, self._place(a), self._place(b), place)
                return
        raise NotImplementedError(f"compile: a plan has no {step.node.op!r} of shapes {shapes[0]} and {shapes[1]}")

    _add = _sub = _mul = _div = _maximum = _minimum = _binary
