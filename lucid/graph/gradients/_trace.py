"""From a model and its loss to a graph of the loss and its gradients.

The forward graph is traced in training mode and run again, shapes alone, operation by operation; then the rules of the
table are run in the reverse order, and what they do is noted like everything else. Equal operations on equal operands
are one node, so that a rule may ask for what the forward pass has already made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lucid.backends.shapes import Abstract, abstract
from lucid.core.tensor import Tensor, wrap
from lucid.graph._graph import Graph, Node, Value
from lucid.graph._trace import BATCHES, merge, state_of, trace_call
from lucid.graph.gradients._rules import LOWERED, RULES, scalar
from lucid.nn import Module
from lucid.nn._dry_run import abstract_like, watched
from lucid.ops._function import Composition, Function, apply
from lucid.ops.elementwise import add, mul, neg, sub
from lucid.ops.loss import cross_entropy
from lucid.ops.shape import Identity
from lucid.optim import SGD

__all__ = ["trace_gradients"]

SMALL = 64  # constants of at most so many elements are compared, so that equal ones are one
Loss = Callable[..., Tensor]


def trace_gradients(
    model: Module,
    inputs: Tensor | Sequence[Tensor],
    labels: Tensor | Sequence[Tensor] = (),
    loss: Loss = cross_entropy,
    *,
    of: Sequence[str] | None = None,
    optimizer: SGD | None = None,
    dynamic_batch: bool = False,
) -> Graph:
    """The graph of a loss and of its gradients, for ``model`` in training mode.

    Its inputs are the model's and the labels (``labels``, or ``labels_0``, ``labels_1``); it returns ``loss``, then
    ``<name>.grad`` for each parameter that the loss depends on, then ``<name>.next``: what becomes of running
    statistics, and with an optimiser of parameters and of what it remembers (``<name>.momentum``, zeros before the
    first step). All of these are ``variables``: a graph has their values, and a caller may give others.

    Args:
        model: any module that ``trace`` takes.
        inputs: an input, or several, for their shapes and dtypes; their values do not matter.
        labels: likewise what the loss gets besides the model's output.
        loss: ``loss(output, *labels)``, a number.
        of: the parameters, inputs and layers whose gradients are wanted; None for every parameter that requires one.
        optimizer: whose settings the updates have.
        dynamic_batch: leave the length of the first axis of every input and label open.

    Raises:
        RuntimeError: the model or the loss cannot be traced: it reads values, draws random numbers (dropout), or
            changes something else than running statistics in place.
        ValueError: the loss is no number of a float dtype, an operation has no gradient in graphs, or ``of`` names
            nothing.

    Example:
        >>> import lucid
        >>> from lucid import nn
        >>> from lucid.graph import trace_gradients
        >>> print(trace_gradients(nn.Linear(2, 1, bias=False), lucid.ones((4, 2)), loss=lucid.sum))
        input: float32[4, 2]
        output: float32[4, 1] = linear(input, weight, -)
        loss: float32[] = sum(output, axis=(0, 1), keepdims=False)
        loss.backward.reshape: float32[1, 1] = reshape(constant, shape=(1, 1))
        loss.backward.expand_like: float32[4, 1] = expand_like(loss.backward.reshape, output)
        output.backward.transpose: float32[1, 4] = transpose(loss.backward.expand_like, axes=(1, 0))
        weight.grad: float32[1, 2] = matmul(output.backward.transpose, input)
        return loss, weight.grad
    """
    images, targets = [[part] if isinstance(part, Tensor) else list(part) for part in (inputs, labels)]
    task = _Task(model, images, targets, loss, of, optimizer)
    if not dynamic_batch:
        return _trace(task, None)
    if any(part.ndim == 0 for part in (*images, *targets)):
        raise ValueError("dynamic_batch: an input without axes has no batch")
    return merge(*(_trace(task, batch) for batch in BATCHES))


@dataclass(slots=True)
class _Task:
    """The arguments of ``trace_gradients``."""

    model: Module
    inputs: list[Tensor]
    labels: list[Tensor]
    loss: Loss
    of: Sequence[str] | None
    optimizer: SGD | None


def _trace(task: _Task, batch: int | None) -> Graph:
    model, inputs, labels = task.model, task.inputs, task.labels
    names = [*_numbered("input", len(inputs)), *_numbered("labels", len(labels))]

    def call(*arguments: Tensor) -> Tensor:
        return task.loss(model(*arguments[: len(inputs)]), *arguments[len(inputs) :])

    examples = [abstract_like(part, batch) for part in (*inputs, *labels)]
    forward = trace_call(model, call, examples, names, "loss", training=True)
    result = forward.values[forward.outputs[0]]
    if len(forward.outputs) != 1 or result.shape or result.dtype.kind != "f":
        raise ValueError(f"loss: returned {result.dtype} of shape {result.shape}; must be one number of a float dtype")
    state = dict(state_of(model))
    wanted = _wanted(task, forward, state)
    recorder = _Recorder()
    with watched(recorder):
        replay = _Replay(recorder, forward, state)
        gradients = replay.backward(wanted)
        outputs = {"loss": replay.loss}
        outputs |= {f"{name}.grad": gradient for name, gradient in gradients.items()}
        if task.optimizer is not None:
            replay.changed |= _updates(replay, task.optimizer, gradients, state)
        outputs |= {f"{name}.next": value for name, value in replay.changed.items()}
    return recorder.graph(names, outputs, set(state))


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}_{index}" for index in range(count)]


def _wanted(task: _Task, forward: Graph, state: dict[str, Tensor]) -> list[str]:
    if task.of is None:
        return [name for name, parameter in task.model.named_parameters() if parameter.requires_grad]
    known = [*forward.inputs, *state, *(node.output for node in forward.nodes)]
    unknown = [name for name in task.of if name not in known]
    if unknown:
        raise ValueError(f"of: got {', '.join(map(repr, unknown))}; may be names of parameters, inputs and layers")
    return list(task.of)


class _Recorder:
    """A watcher that makes a graph of what it sees, in which equal things are one."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}  # by id of the tensor
        self._alive: list[Tensor] = []  # so that an id stays its own
        self._known: dict[Any, Tensor] = {}  # what has been made, by how
        self._nodes: list[Node] = []
        self._final: dict[str, str] = {}  # the name that a value gets in the end
        self._taken: set[str] = set()
        self._made: set[str] = set()  # what a node makes
        self.values: dict[str, Value] = {}
        self.initializers: dict[str, np.ndarray] = {}
        self.variables: list[str] = []
        self.scope = ""
        self.tape: list[tuple[Function, tuple[Tensor | None, ...], Tensor]] = []
        self.taping = False
        self._taped: set[str] = set()

    # -- what a watcher is told --------------------------------------------------------------------------------------

    def enter(self, module: Any) -> None: ...

    def exit(self, module: Any, output: Any) -> None: ...

    def update(self, tensor: Tensor, result: Tensor) -> None:
        raise RuntimeError("a rule may not change a tensor in place")

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor:
        return run()

    def record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        operands = tuple(None if part is None else self.name_of(part) for part in inputs)
        key = function.name, _key(function.attrs()), operands
        known = self._known.setdefault(key, output)
        if known is not output:
            self._names[id(output)] = self._names[id(known)]
            self._alive.append(output)
        else:
            name = self.meet(output, f"{self.scope}.{function.name}" if self.scope else function.name)
            self._made.add(name)
            self._nodes.append(Node(function.name, name, function.attrs(), operands, name, (), function))
        if self.taping:
            self.remember(function, inputs, output)

    def remember(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        """Put on the tape what has a rule of its own: equal things once, where they come first."""
        name = self._names[id(output)]
        if name not in self._taped:
            self._taped.add(name)
            self.tape.append((function, inputs, output))

    # -- names -------------------------------------------------------------------------------------------------------

    def meet(self, value: Tensor, name: str) -> str:
        """Enter a value under this name, or the next one that is free."""
        unique, count = name, 0
        while unique in self._taken:
            count += 1
            unique = f"{name}_{count}"
        self._taken.add(unique)
        self._names[id(value)] = unique
        self._alive.append(value)
        self.values[unique] = Value(unique, value.shape, value.dtype)
        return unique

    def name_of(self, value: Tensor) -> str:
        """The name of a value, which is a constant where nothing has made it."""
        name = self._names.get(id(value))
        if name is not None:
            return name
        if isinstance(value._array, Abstract):
            raise RuntimeError(f"{self.scope or 'a rule'}: computes with an array behind lucid's back")
        array = value.numpy()
        key = array.dtype, array.shape, array.tobytes() if array.size <= SMALL else id(value)
        if key in self._known:
            return self._names[id(self._known[key])]
        self._known[key] = value
        name = self.meet(value, "constant")
        self.initializers[name] = array
        return name

    def initializer(self, value: Tensor, name: str, array: np.ndarray, variable: bool) -> None:
        """Enter a parameter, a buffer or a constant of the model."""
        self.initializers[self.meet(value, name)] = array
        if variable:
            self.variables.append(name)

    def call(self, value: Tensor, name: str) -> None:
        """Let a value have this name in the end, if it has no other."""
        made = self._names[id(value)]
        if made in self._made and made not in self._final and (name == made or name not in self._taken):
            self._final[made] = name
            self._taken.add(name)

    # -- what becomes of it ------------------------------------------------------------------------------------------

    def graph(self, inputs: list[str], outputs: dict[str, Tensor], state: set[str]) -> Graph:
        """The graph that returns ``outputs``: without what they do not need."""
        returned = [self._returned(name, value) for name, value in outputs.items()]
        needed, nodes = set(returned), []
        for node in reversed(self._nodes):
            if node.output in needed:
                nodes.append(node)
                needed.update(name for name in node.inputs if name is not None)
        nodes.reverse()

        def final(name: str) -> str:
            return self._final.get(name, name)

        renamed = [
            replace(
                node,
                name=final(node.output),
                output=final(node.output),
                inputs=tuple(None if name is None else final(name) for name in node.inputs),
            )
            for node in nodes
        ]
        kept = [name for name in self.initializers if name in needed]
        made = [*inputs, *kept, *(node.output for node in nodes)]
        return Graph(
            nodes=renamed,
            inputs=inputs,
            outputs=[final(name) for name in returned],
            initializers={name: self.initializers[name] for name in kept},
            values={final(name): replace(self.values[name], name=final(name)) for name in made},
            variables=[name for name in self.variables if name in needed],
        )

    def _returned(self, name: str, value: Tensor) -> str:
        self.call(value, name)
        made = self._names[id(value)]
        if self._final.get(made, made) == name:
            return made
        copied = self.meet(wrap(abstract(value.shape, value.dtype), value.device), name)
        self._nodes.append(Node(Identity.name, copied, {}, (made,), copied, (), Identity()))
        return copied


def _key(value: Any) -> Any:
    """Something that can be looked up, for any attribute."""
    if isinstance(value, dict):
        return tuple((name, _key(part)) for name, part in value.items())
    if isinstance(value, tuple | list):
        return tuple(_key(part) for part in value)
    if isinstance(value, slice):
        return "slice", value.start, value.stop, value.step
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return type(value), value


class _Replay:
    """The forward graph once more, and the rules behind it."""

    def __init__(self, recorder: _Recorder, forward: Graph, state: dict[str, Tensor]) -> None:
        self.recorder = recorder
        self.tensors: dict[str, Tensor] = {}
        self.changed: dict[str, Tensor] = {}
        for name in forward.inputs:
            value = forward.values[name]
            self.tensors[name] = wrap(abstract(value.shape, value.dtype), "cpu")  # type: ignore[arg-type]
            recorder.meet(self.tensors[name], name)
        for name, array in forward.initializers.items():
            self.tensors[name] = wrap(abstract(array.shape, array.dtype), "cpu")
            recorder.initializer(self.tensors[name], name, array, name in state)
        recorder.taping = True
        for node in _flat(forward.nodes):
            self._run(node)
        recorder.taping = False
        self.loss = self.tensors[forward.outputs[0]]

    def _run(self, node: Node) -> None:
        recorder = self.recorder
        operands = [None if name is None else self.changed.get(name, self.tensors[name]) for name in node.inputs]
        recorder.scope = node.name
        lowered = LOWERED.get(node.op)
        if lowered is None:
            made = apply(node.function, *operands)
        else:
            whole = node.op in RULES  # which is the rule of all of it
            recorder.taping = not whole and node.function.differentiable
            made = lowered(node.function, *operands)
            recorder.taping = True
            made, changed = made if isinstance(made, tuple) else (made, {})
            for place, value in changed.items():
                self.changed[str(node.inputs[place])] = value
            if whole:
                recorder.remember(node.function, tuple(operands), made)
        recorder.call(made, node.output)
        self.tensors[node.output] = made

    def backward(self, wanted: list[str]) -> dict[str, Tensor]:
        """The gradients of ``wanted``, of those that the loss depends on."""
        name_of = self.recorder.name_of
        tape = self.recorder.tape
        active = {name_of(self.tensors[name]) for name in wanted if name in self.tensors}
        for function, inputs, output in tape:
            floats = [part for part in inputs if part is not None and part.dtype.kind == "f"]
            through = function.differentiable and output.dtype.kind == "f"
            if through and any(name_of(part) in active for part in floats):
                active.add(name_of(output))
        gradients = {name_of(self.loss): scalar(1.0, self.loss)}
        for function, inputs, output in reversed(tape):
            made = name_of(output)
            if made not in active or made not in gradients or not function.differentiable:
                continue
            self.recorder.scope = f"{self.recorder._final.get(made, made)}.backward"
            self._rule(function, inputs, output, gradients, active)
        found = {name: gradients.get(name_of(self.tensors[name])) for name in wanted if name in self.tensors}
        return {name: gradient for name, gradient in found.items() if gradient is not None}

    def _rule(
        self,
        function: Function,
        inputs: tuple[Tensor | None, ...],
        output: Tensor,
        gradients: dict[str, Tensor],
        active: set[str],
    ) -> None:
        """Let the gradient of a result arrive at its operands."""
        rule, name_of = RULES.get(function.name), self.recorder.name_of
        if rule is None:
            raise ValueError(f"the operation {function.name!r} of {name_of(output)!r} has no gradient in graphs")
        try:
            found = rule(function, gradients[name_of(output)], output, *inputs)
        except ValueError as error:
            raise ValueError(f"{name_of(output)!r}: {error}") from error
        each = [found] if isinstance(found, Tensor) else found
        for part, gradient in zip(inputs, each, strict=False):
            if part is None or gradient is None or name_of(part) not in active:
                continue
            name = name_of(part)
            gradients[name] = add(gradients[name], gradient) if name in gradients else gradient


def _flat(nodes: Sequence[Node]) -> Iterator[Node]:
    """Composed operations as their parts."""
    for node in nodes:
        if node.body:
            yield from _flat(node.body)
        else:
            yield node


def _updates(
    replay: _Replay, optimizer: SGD, gradients: dict[str, Tensor], state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """What parameters and velocities become, by the settings of each one's group."""
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    changed, recorder = {}, replay.recorder
    for name, gradient in gradients.items():
        group = groups.get(id(state.get(name)))
        if group is None:
            continue
        if group["dampening"]:
            raise ValueError(f"optimizer: got dampening {group['dampening']}; may be 0 in a graph")
        parameter = replay.tensors[name]
        recorder.scope = f"{name}.step"
        step = neg(gradient) if group["maximize"] else gradient
        if group["weight_decay"]:
            step = add(step, mul(parameter, float(group["weight_decay"])))
        if group["momentum"]:
            velocity = wrap(abstract(parameter.shape, parameter.dtype), "cpu")
            zeros = np.zeros(parameter.shape, parameter.dtype)
            recorder.initializer(velocity, f"{name}.momentum", zeros, True)
            new = changed[f"{name}.momentum"] = add(mul(velocity, float(group["momentum"])), step)
            step = add(step, mul(new, float(group["momentum"]))) if group["nesterov"] else new
        changed[name] = sub(parameter, mul(step, _rate(replay, group)))
    return changed


def _rate(replay: _Replay, group: dict[str, Any]) -> Tensor:
    """The learning rate of a group, a variable."""
    known = replay.tensors.get(f"lr {id(group)}")
    if known is None:
        number = sum(name.startswith("lr ") for name in replay.tensors)
        dtype = group["params"][0].dtype
        known = replay.tensors[f"lr {id(group)}"] = wrap(abstract((), dtype), "cpu")
        name = "lr" if not number else f"lr_{number}"
        replay.recorder.initializer(known, name, np.asarray(group["lr"], dtype), True)
    return known
