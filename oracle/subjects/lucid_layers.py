"""lucid layer by layer: each module called by itself, with whatever hooks hang on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

import lucid
from lucid import Tensor, nn
from lucid.ops._function import Function, apply
from oracle.case.case import Case
from oracle.graph.graph import INPUT, Node
from oracle.operations import is_loss
from oracle.subjects import stands_alone
from oracle.subjects.layerwise import Array, CodeFeed, CodeRun, LayerRun, Layerwise


class _Subject(Protocol):
    """What is asked of a `LucidSubject`."""

    device: str
    precision: Any

    def settings(self) -> contextlib.AbstractContextManager[None]: ...

    def build(self, case: Case) -> nn.Module: ...

    def loss_of(self, model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]: ...


class LucidLayers(Layerwise):
    """The model that a `LucidSubject` would run, taken apart."""

    def __init__(self, subject: _Subject, case: Case) -> None:
        self._subject, self._case = subject, case
        with subject.settings():
            self._model = subject.build(case)
        self._modules = dict(self._model.named_modules())

    def drives(self, node: Node) -> bool:
        """Whether a module is that operation alone."""
        alone = self._case.model.modular and stands_alone(node.name, self._case.graph)
        return is_loss(node) or (alone and node.name in self._modules)

    def run(self, node: Node, inputs: Sequence[Array], gradient: Array | None) -> LayerRun:
        """Call the module (the loss: the function that the subject minimises)."""
        backward = gradient is not None or (is_loss(node) and self._case.mode == "train")
        with self._subject.settings(), contextlib.nullcontext() if backward else lucid.no_grad():
            given = [self._tensor(each, backward and INPUT not in node.inputs) for each in inputs]
            if is_loss(node):
                labels = lucid.tensor(self._case.labels, device=self._subject.device)
                output = self._subject.loss_of(self._model)(given[0], labels)
                return self._finish(given, output, None, backward, None)
            module = self._modules[node.name]
            output = module(*given)
            return self._finish(given, output, gradient, backward, module)

    def _finish(
        self, given: Sequence[Tensor], output: Tensor, gradient: Array | None, backward: bool, module: nn.Module | None
    ) -> LayerRun:
        if backward and output.requires_grad:
            output.backward(*() if gradient is None else (self._tensor(gradient, False),))
        parameters, statistics = {}, {}
        if module is not None:
            for name, value in module.named_parameters():
                if value.grad is not None:
                    parameters[name] = value.grad.numpy().copy()
                value.grad = None
            if isinstance(module, nn.BatchNorm2d) and module.training:
                statistics = {name: value.numpy().copy() for name, value in module.named_buffers() if value.ndim}
        gradients = [None if each.grad is None else each.grad.numpy() for each in given]
        return LayerRun(output.numpy(), gradients, parameters, statistics)

    def run_code(self, node: Node, feed: CodeFeed) -> CodeRun:
        """Call the module with the modules inside of it replaced."""
        arrivals: dict[str, Array] = {}

        def stub(name: str) -> Callable[[Tensor], Tensor]:
            handed = None if feed.gradient is None else feed.input_gradients[name].astype(self._subject.precision)
            output = feed.outputs[name].astype(self._subject.precision)
            return lambda x: apply(_Fed(output, handed, lambda dy: arrivals.update({name: dy})), x)

        backward = feed.gradient is not None
        with (
            self._subject.settings(),
            contextlib.nullcontext() if backward else lucid.no_grad(),
            self._replaced(feed.outputs, stub),
        ):
            x = self._tensor(feed.source, backward)
            output = self._modules[node.name](x)
            if feed.gradient is not None and output.requires_grad:
                output.backward(self._tensor(feed.gradient, False))
                if x.grad is not None:
                    arrivals[node.source] = x.grad.numpy()
        return CodeRun(output.numpy(), arrivals)

    @contextlib.contextmanager
    def _replaced(self, names: Mapping[str, Array], stub: Callable[[str], Any]) -> Iterator[None]:
        """The modules of these names replaced, hooks and all."""
        homes = [(self._modules[name.rpartition(".")[0]].__dict__, name.rpartition(".")[2], name) for name in names]
        before = [home[leaf] for home, leaf, _ in homes]
        try:
            for home, leaf, name in homes:
                home[leaf] = stub(name)
            yield
        finally:
            for (home, leaf, _), module in zip(homes, before, strict=True):
                home[leaf] = module

    def _tensor(self, array: Array, requires_grad: bool) -> Tensor:
        values = np.array(array, self._subject.precision if array.dtype.kind == "f" else array.dtype)
        return lucid.tensor(values, requires_grad=requires_grad, device=self._subject.device)


class _Fed(Function):
    """Returns what it is told to, forward and backward, and tells which gradient reached it."""

    name = "fed"

    def __init__(self, output: Array, handed: Array | None, arrived: Callable[[Array], None]) -> None:
        self.output, self.handed, self.arrived = output, handed, arrived

    def forward(self, be: Any, x: Any) -> Any:
        return be.xp.asarray(self.output)

    def backward(self, be: Any, dy: Any) -> tuple[Any, ...]:
        assert self.handed is not None
        self.arrived(np.array(dy.get() if hasattr(dy, "get") else dy))
        return (be.xp.asarray(self.handed),)
