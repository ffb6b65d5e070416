"""PyTorch on the CPU: the truth in float64, the yardstick in float32, and a foreign subject in other guises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from oracle.case import Case
from oracle.mirror.torch_twin import Residual, layers, make_twin
from oracle.subjects import Subject, choose
from oracle.trace import Recorder, Trace

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class TorchSubject(Subject):
    """The independently written PyTorch twin of the case's model.

    Options: ``float32`` (default) or ``float64``; ``onednn`` (default) or ``no-onednn``, two healthy implementations
        that
    round in different orders.
    """

    def __init__(self, *options: str) -> None:
        chosen = choose(
            "torch", options, {"precision": ("float32", "float64"), "convolutions": ("onednn", "no-onednn")}
        )
        self.precision = chosen["precision"]
        self._onednn = chosen["convolutions"] == "onednn"
        self.label = ":".join(("torch", *options))

    def build(self, case: Case) -> nn.Module:
        """The twin with the case's weights, in the case's mode."""
        return make_twin(case.architecture, case.state, _DTYPES[self.precision]).train(case.mode == "train")

    def run(self, case: Case, recorder: Recorder) -> None:
        """Run the twin; the gradient of an output is recorded when it is complete."""
        model = self.build(case)
        image = torch.from_numpy(case.input).to(_DTYPES[self.precision])
        for name, module in layers(model):
            module.register_forward_hook(lambda _module, _inputs, output, name=name: _seen(recorder, name, output))
        consumers = _watch_consumers(model) if isinstance(recorder, Trace) else None
        with _onednn(self._onednn), torch.set_grad_enabled(case.mode == "train"):
            logits = model(image)
            if case.mode == "train":
                loss = nn.functional.cross_entropy(logits, torch.from_numpy(case.labels))
                recorder.record("loss", "loss", loss.detach().numpy())
                loss.backward()
                for name, parameter in model.named_parameters():
                    if parameter.grad is not None:
                        recorder.record("parameter_gradient", name, parameter.grad.numpy())
        if consumers is not None and isinstance(recorder, Trace):
            recorder.consumers = {name: tuple(takers) for name, takers in consumers.items()}


def _seen(recorder: Recorder, name: str, output: Tensor) -> None:
    recorder.record("activation", name, output.detach().numpy())
    if output.requires_grad:
        output.register_hook(lambda gradient: recorder.record("activation_gradient", name, gradient.numpy()))


@contextlib.contextmanager
def _onednn(enabled: bool) -> Iterator[None]:
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(enabled)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _watch_consumers(model: nn.Module) -> dict[str, list[str]]:
    """Which layers take each layer's output, filled in while the model runs.

    A module that is called with it takes it; a block also takes what its own code adds: its input, where no projection
    stands on the shortcut, and the ends of its branches.
    """
    producers: dict[int, str] = {}
    alive: list[Tensor] = []  # an id names a tensor only while it lives
    consumers: dict[str, list[str]] = {}

    def before(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        producer = producers.get(id(inputs[0]))
        if producer is not None and (not isinstance(module, Residual) or module.downsample is None):
            consumers[producer].append(name)

    def after(name: str, module: nn.Module, output: Tensor) -> None:
        alive.append(output)
        producers[id(output)] = name
        consumers[name] = []
        if isinstance(module, Residual):
            for inner, takers in consumers.items():
                if inner.startswith(f"{name}.") and not takers:
                    takers.append(name)

    for name, module in layers(model):
        module.register_forward_pre_hook(lambda module, inputs, name=name: before(name, module, inputs))
        module.register_forward_hook(lambda module, _inputs, output, name=name: after(name, module, output))
    return consumers
