"""PyTorch layer by layer: each module of the twin called by itself, with whatever hooks hang on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from oracle.case.case import Case
from oracle.graph.graph import INPUT, Node
from oracle.operations import is_loss
from oracle.subjects import stands_alone
from oracle.subjects.layerwise import Array, CodeFeed, CodeRun, LayerRun, Layerwise


class _Subject(Protocol):
    """What is asked of a `TorchSubject`."""

    device: torch.device

    def settings(self) -> contextlib.AbstractContextManager[None]: ...

    def tensor(self, array: Any) -> Tensor: ...

    def build(self, case: Case) -> nn.Module: ...

    def loss_of(self, model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]: ...


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A tensor's values in NumPy; bfloat16, which NumPy lacks, widened to float32 exactly."""
    tensor = tensor.detach()
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
    return array


class TorchLayers(Layerwise):
    """The twin that a `TorchSubject` would run, taken apart."""

    def __init__(self, subject: _Subject, case: Case) -> None:
        self._subject, self._case = subject, case
        with subject.settings():
            self._model = subject.build(case)
        self._modules = dict(self._model.named_modules())

    def drives(self, node: Node) -> bool:
        """Whether a module is that operation alone."""
        return is_loss(node) or (node.name in self._modules and stands_alone(node.name, self._case.graph))

    def run(self, node: Node, inputs: Sequence[Array], gradient: Array | None) -> LayerRun:
        """Call the module (the loss: the function that the subject minimises)."""
        backward = gradient is not None or (is_loss(node) and self._case.mode == "train")
        with self._subject.settings(), torch.set_grad_enabled(backward):
            wanted = backward and INPUT not in node.inputs
            given = [self._tensor(each).requires_grad_(wanted) for each in inputs]
            if is_loss(node):
                labels = torch.from_numpy(self._case.labels).to(self._subject.device)
                output = self._subject.loss_of(self._model)(given[0], labels)
                return self._finish(given, output, None, backward, nn.Module())
            module = self._modules[node.name]
            output = module(*given)
            return self._finish(given, output, gradient, backward, module)

    def _finish(
        self, given: Sequence[Tensor], output: Tensor, gradient: Array | None, backward: bool, module: nn.Module
    ) -> LayerRun:
        if backward and output.requires_grad:
            output.backward(None if gradient is None else self._tensor(gradient))
        parameters = {
            name: self._numpy(value.grad) for name, value in module.named_parameters() if value.grad is not None
        }
        for value in module.parameters():
            value.grad = None
        tracked = isinstance(module, nn.BatchNorm2d) and module.training
        statistics = {name: self._numpy(value) for name, value in module.named_buffers() if tracked and value.ndim}
        return LayerRun(
            self._numpy(output),
            [None if each.grad is None else self._numpy(each.grad) for each in given],
            parameters,
            statistics,
        )

    def run_code(self, node: Node, feed: CodeFeed) -> CodeRun:
        """Call the module with the modules inside of it replaced."""
        arrivals: dict[str, Array] = {}

        def stub(name: str) -> nn.Module:
            def arrived(dy: Tensor) -> None:
                arrivals[name] = self._numpy(dy)

            handed = self._tensor(feed.input_gradients[name]) if feed.gradient is not None else None
            return _Stub(self._tensor(feed.outputs[name]), handed, arrived)

        backward = feed.gradient is not None
        with self._subject.settings(), torch.set_grad_enabled(backward), self._replaced(feed.outputs, stub):
            x = self._tensor(feed.source).requires_grad_(backward)
            output = self._modules[node.name](x)
            if feed.gradient is not None and output.requires_grad:
                output.backward(self._tensor(feed.gradient))
                if x.grad is not None:
                    arrivals[node.source] = self._numpy(x.grad)
        return CodeRun(self._numpy(output), arrivals)

    @contextlib.contextmanager
    def _replaced(self, names: Mapping[str, Array], stub: Callable[[str], nn.Module]) -> Iterator[None]:
        """The modules of these names replaced, hooks and all."""
        homes = [(self._modules[name.rpartition(".")[0]]._modules, name.rpartition(".")[2], name) for name in names]
        before = [home.get(leaf) for home, leaf, _ in homes]
        try:
            for home, leaf, name in homes:
                home[leaf] = stub(name)
            yield
        finally:
            for (home, leaf, _), module in zip(homes, before, strict=True):
                home[leaf] = module

    def _tensor(self, array: Array) -> Tensor:
        return self._subject.tensor(array.copy())  # a copy: the module may write to it

    @staticmethod
    def _numpy(tensor: Tensor) -> Array:
        return to_numpy(tensor).copy()


class _Fed(torch.autograd.Function):
    """Returns what it is told to, forward and backward, and tells which gradient reached it."""

    @staticmethod
    def forward(context: Any, x: Tensor, output: Tensor, handed: Tensor, arrived: Callable[[Tensor], None]) -> Tensor:
        context.handed, context.arrived = handed, arrived
        return output.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        context.arrived(gradient)
        return context.handed.clone(), None, None, None


class _Stub(nn.Module):
    def __init__(self, output: Tensor, handed: Tensor | None, arrived: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._given = output, handed, arrived

    def forward(self, x: Tensor) -> Any:
        output, handed, arrived = self._given
        return output if handed is None else _Fed.apply(x, output, handed, arrived)
