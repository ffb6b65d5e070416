"""Subjects with a fault: a PyTorch twin or a lucid model with an `Injection` around one of its modules.

The functions of an injection see NumPy arrays. They stand in two nodes of the engine's own graph, one before the module
and one after it, so that they act in a run of the whole model and in the local view alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lucid.nn.functional import cross_entropy
from lucid.ops._function import Function, apply
from lucid.tensor import wrap
from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.faults.fault import Array, Context, Draw, Engine, Fault, Injection, Site
from oracle.graph.graph import Node
from oracle.operations import is_loss
from oracle.subjects import Subject
from oracle.subjects.lucid_engine import LucidSubject

if TYPE_CHECKING:
    from oracle.subjects.pytorch import TorchSubject


def place(fault: Fault, case: Case, seed: int) -> Node | None:
    """The layer of ``case`` that the fault strikes, drawn at random; ``None`` where it can strike none."""
    able = fault.layers(case, case.graph.nodes)
    return Draw(seed, f"{fault.name}/{case.name}/layer").pick(able) if able else None


def faulty(engine: Engine, fault: Fault, case: Case, layer: Node, seed: int, *options: str) -> Subject:
    """A subject of ``engine`` that is healthy but for ``fault`` at ``layer``.

    Raises:
        UsageError: the fault cannot be put into that engine's models, or not at that layer.
    """
    if engine not in fault.engines:
        raise UsageError(f"fault: {fault.name!r} can be put into {', '.join(fault.engines)} alone, not into {engine}")
    if layer not in fault.layers(case, case.graph.nodes):
        raise UsageError(f"fault: {fault.name!r} cannot strike {layer.name} of {case.name}")
    injection = fault.make(Site(layer, case, Draw(seed, f"{fault.name}/{case.name}/choices")))
    return _torch_subject(layer, injection, options) if engine == "torch" else _lucid_subject(layer, injection, options)


def _changed_state(state: Mapping[str, Array], layer: Node, injection: Injection) -> dict[str, Array]:
    """By full name, the parameters and statistics of the layer that the injection changes."""
    names = {f"{layer.name}.{name}": change for name, change in injection.parameters.items()}
    return {name: np.asarray(change(state[name]), np.float32) for name, change in names.items()}


# -- PyTorch ----------------------------------------------------------------------------------------------------------


def _torch_subject(layer: Node, injection: Injection, options: tuple[str, ...]) -> TorchSubject:
    import torch

    from oracle.subjects.pytorch import TorchSubject

    class Faulty(TorchSubject):
        """Keeps the model that it ran, for its statistics."""

        model: Any = None

        def build(self, case: Case) -> torch.nn.Module:
            self.model = super().build(case)
            _into_torch(self.model, case, layer, injection)
            return self.model

    return Faulty(*options)


def _into_torch(model: Any, case: Case, layer: Node, injection: Injection) -> None:
    import torch

    entries = model.state_dict()
    with torch.no_grad():
        for name, value in _changed_state(case.state, layer, injection).items():
            entries[name].copy_(torch.from_numpy(value))
    if is_loss(layer):
        before, after = _torch_nodes(injection)

        def loss(logits: Any, labels: Any) -> Any:
            context = Context()
            return after(torch.nn.functional.cross_entropy(before(logits, context), labels), context)

        model.loss_function = loss
        return
    module = model.get_submodule(layer.name)
    _set_attributes(module, injection)
    if injection.join is not None:
        module.join = injection.join
    if _acts(injection):
        _hook(module, *_torch_nodes(injection), _keep_torch(injection))
        for name, change in injection.parameter_gradients.items():
            _watch_torch_parameter(module, name, change)


def _set_attributes(module: Any, injection: Injection) -> None:
    for name, value in injection.attributes.items():
        setattr(module, name, value)
    if injection.training is not None:
        module.training = injection.training


def _acts(injection: Injection) -> bool:
    """Whether functions have to stand around the module."""
    functions = (injection.input, injection.output, injection.output_gradient, injection.input_gradient)
    others = bool(injection.parameter_gradients) or injection.statistics is not None
    return any(each is not None for each in functions) or others


Hook = Callable[[Any, Context], Any]
Keep = Callable[[Any, Context], None]


def _hook(module: Any, before: Hook, after: Hook, keep: Keep) -> None:
    """Put the nodes around the module, and ``keep`` behind it; one `Context` for each call."""

    def enter(owner: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        owner.__dict__["fault_context"] = context = Context()
        return (before(inputs[0], context), *inputs[1:])

    module.register_forward_pre_hook(enter)

    def leave(owner: Any, _inputs: tuple[Any, ...], output: Any) -> Any:
        keep(owner, owner.__dict__["fault_context"])
        return after(output, owner.__dict__["fault_context"])

    module.register_forward_hook(leave)


def _torch_nodes(injection: Injection) -> tuple[Hook, Hook]:
    import torch

    def numpy(tensor: Any) -> Array:
        return np.ascontiguousarray(tensor.detach().cpu().numpy())

    def like(array: Array, tensor: Any) -> Any:
        return torch.from_numpy(np.array(array, order="C")).to(tensor.device, tensor.dtype)

    class Before(torch.autograd.Function):
        @staticmethod
        def forward(node: Any, x: Any, context: Context) -> Any:
            node.context = context
            context.x = numpy(x)
            return x.clone() if injection.input is None else like(injection.input(context), x)

        @staticmethod
        def backward(node: Any, gradient: Any) -> Any:
            context = node.context
            context.dx = numpy(gradient)
            changed = (
                gradient if injection.input_gradient is None else like(injection.input_gradient(context), gradient)
            )
            return changed, None

    class After(torch.autograd.Function):
        @staticmethod
        def forward(node: Any, y: Any, context: Context) -> Any:
            node.context, node.shape = context, y.shape
            context.y = numpy(y)
            return y.clone() if injection.output is None else like(injection.output(context), y)

        @staticmethod
        def backward(node: Any, gradient: Any) -> Any:
            context = node.context
            context.dy = numpy(gradient)
            if gradient.shape != node.shape:  # the output got another shape: its gradient is not this module's
                return torch.zeros(node.shape, dtype=gradient.dtype), None
            if injection.output_gradient is None:
                return gradient, None
            return like(injection.output_gradient(context), gradient), None

    return Before.apply, After.apply


def _keep_torch(injection: Injection) -> Keep:
    import torch

    def keep(module: Any, context: Context) -> None:
        for name, value in ({} if injection.statistics is None else injection.statistics(context)).items():
            kept = getattr(module, name)
            kept.copy_(torch.from_numpy(np.array(value)).to(kept.dtype))

    return keep


def _watch_torch_parameter(module: Any, name: str, change: Callable[[Array, Context], Array]) -> None:
    import torch

    def seen(gradient: Any) -> Any:
        made = change(gradient.detach().cpu().numpy(), module.__dict__["fault_context"])
        return torch.from_numpy(np.array(made, np.float32)).to(gradient.dtype)

    getattr(module, name).register_hook(seen)


# -- lucid ------------------------------------------------------------------------------------------------------------


def _lucid_subject(layer: Node, injection: Injection, options: tuple[str, ...]) -> LucidSubject:
    class Faulty(LucidSubject):
        """Keeps the model that it ran, for its statistics."""

        model: Any = None

        def build(self, case: Case) -> Any:
            self.model = super().build(case)
            _into_lucid(self.model, case, layer, injection)
            return self.model

    return Faulty(*options)


def _into_lucid(model: Any, case: Case, layer: Node, injection: Injection) -> None:
    entries = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, value in _changed_state(case.state, layer, injection).items():
        entries[name].data[...] = value
    before, after = _lucid_nodes(injection)
    if is_loss(layer):

        def loss(logits: Any, labels: Any) -> Any:
            context = Context()
            return after(cross_entropy(before(logits, context), labels), context)

        model.loss_function = loss
        return
    module = dict(model.named_modules())[layer.name]
    _set_attributes(module, injection)
    if _acts(injection):
        _hook(module, before, after, _keep_lucid(injection))
        for name, change in injection.parameter_gradients.items():
            _watch_lucid_parameter(module, name, change)


def _lucid_nodes(injection: Injection) -> tuple[Hook, Hook]:
    def like(array: Array, other: Array) -> Array:
        return np.array(array, other.dtype, order="C")

    class Before(Function):
        name = "fault_before"

        def __init__(self, context: Context) -> None:
            self.context = context

        def forward(self, be: Any, x: Any) -> Any:
            self.context.x = np.ascontiguousarray(x)
            return like(x if injection.input is None else injection.input(self.context), x)

        def backward(self, be: Any, dy: Any) -> tuple[Any, ...]:
            self.context.dx = np.ascontiguousarray(dy)
            return (like(dy if injection.input_gradient is None else injection.input_gradient(self.context), dy),)

    class After(Function):
        name = "fault_after"

        def __init__(self, context: Context) -> None:
            self.context = context

        def forward(self, be: Any, y: Any) -> Any:
            self.shape = y.shape
            self.context.y = np.ascontiguousarray(y)
            return like(y if injection.output is None else injection.output(self.context), y)

        def backward(self, be: Any, dy: Any) -> tuple[Any, ...]:
            self.context.dy = np.ascontiguousarray(dy)
            if dy.shape != self.shape:  # the output got another shape: its gradient is not this module's
                return (np.zeros(self.shape, dy.dtype),)
            return (like(dy if injection.output_gradient is None else injection.output_gradient(self.context), dy),)

    return (lambda x, context: apply(Before(context), x)), (lambda y, context: apply(After(context), y))


def _keep_lucid(injection: Injection) -> Keep:
    def keep(module: Any, context: Context) -> None:
        for name, value in ({} if injection.statistics is None else injection.statistics(context)).items():
            getattr(module, name).data[...] = value

    return keep


def _watch_lucid_parameter(module: Any, name: str, change: Callable[[Array, Context], Array]) -> None:
    def seen(gradient: Any) -> Any:
        made = change(np.ascontiguousarray(gradient.numpy()), module.__dict__["fault_context"])
        return wrap(np.array(made, gradient.numpy().dtype, order="C"))

    getattr(module, name).register_hook(seen)
