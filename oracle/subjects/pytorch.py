"""PyTorch on any of its devices: the independent float64 run, and a foreign subject in many guises."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.graph.graph import Graph
from oracle.operations import consumers_of
from oracle.precision.difference import Precision
from oracle.precision.profile import take_profile
from oracle.subjects import Subject, choose, observed, positive, take
from oracle.subjects.layerwise import Layerwise
from oracle.subjects.torch_layers import TorchLayers, to_numpy
from oracle.trace import Recorder, Trace

_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

# What PyTorch leaves to whatever runs underneath. In the 16-bit formats a convolution that oneDNN does not take (which
# depends on the processor) adds its weight's gradient image by image in the storage type, and cuBLAS may reduce in it.
# TF32 operands are cut off or rounded as the library's kernel has it.
USUAL: dict[Precision, str] = {
    "bfloat16": "sums in bfloat16",
    "float16": "sums in float16",
    "tf32": "truncated",
}


class TorchSubject(Subject):
    """The independently written PyTorch twin of the case's model.

    Options, one of each group, the first by default, or ``KEY=VALUE``:

    - precision: ``float32``, ``float64``, ``bfloat16``, ``float16`` (parameters and activations alike), ``tf32`` (CUDA
      alone; in ``float32`` it is switched off there, though PyTorch's own convolutions have it on). The three low
      precisions declare what PyTorch leaves to the processor: ``sums in float16`` (or ``bfloat16``), and ``truncated``
      for TF32. ``torch:float16:sums-in-float32`` and ``torch:tf32:rounded`` hold it to the stricter profile, and other
      options of `oracle.precision.profile` may be given likewise;
    - device: ``cpu``, ``cuda``, ``mps``, ``xpu``, each with a number if there are several (``torch:cuda:1``), or
      ``device=NAME``, anything that ``torch.device`` takes;
    - ``eager`` or ``compile`` (torch.compile of the whole network, with every layer's output kept; of the gradients
      it hands over the parameters' alone);
    - ``contiguous`` or ``channels_last``;
    - ``onednn`` or ``no-onednn``, on the CPU two healthy implementations that round in different orders;
    - ``threads=N``.
    """

    def __init__(self, *options: str) -> None:
        named, plain = take("torch", options, ("threads", "device"))
        declared, plain = take_profile("torch", plain, USUAL)
        number = next((option for option in plain if option.isdigit()), "")
        chosen = choose(
            "torch",
            tuple(option for option in plain if option != number),
            {
                "precision": tuple(_DTYPES),
                "device": ("cpu", "cuda", "mps", "xpu"),
                "how": ("eager", "compile"),
                "layout": ("contiguous", "channels_last"),
                "convolutions": ("onednn", "no-onednn"),
            },
        )
        self.precision = str(declared)
        self.label = ":".join(("torch", *options))
        self.dtype = _DTYPES[declared.base]
        self.device = _device(self.label, named.get("device", ":".join(filter(None, (chosen["device"], number)))))
        self._tf32 = declared.base == "tf32"
        if self._tf32 and self.device.type != "cuda":
            raise UsageError(f"subject: {self.label}: tf32 is what CUDA devices have; on {self.device} it is float32")
        self._compile = chosen["how"] == "compile"
        self.layered = not self._compile
        if self._compile:
            self.kinds = ("activation", "loss", "statistic", "parameter_gradient")
        self.layout = torch.channels_last if chosen["layout"] == "channels_last" else torch.contiguous_format
        self._onednn = chosen["convolutions"] == "onednn"
        self._threads = positive("torch", "threads", named["threads"]) if "threads" in named else None

    def build(self, case: Case) -> nn.Module:
        """The twin with the case's weights, in the case's mode."""
        twin: nn.Module = case.model.torch_model(case.state, self.dtype).to(self.device)
        for parameter in twin.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=self.layout)
        return twin.train(case.mode == "train")

    def run(self, case: Case, recorder: Recorder) -> None:
        """Run the twin; the gradient of an output is recorded when it is complete."""
        with self.settings():
            model = self.build(case)
            image = self.tensor(case.input)
            labels = torch.from_numpy(case.labels).to(self.device) if case.mode == "train" else None
            if self._compile:
                _run_compiled(model, case.graph, image, labels, recorder)
            else:
                _run_eager(model, case.graph, image, labels, recorder)

    def tensor(self, array: Any) -> Tensor:
        """A tensor of the subject's device, precision and layout; tokens keep their type."""
        tensor = torch.from_numpy(array)
        layout = self.layout if tensor.ndim == 4 else torch.contiguous_format
        dtype = self.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self.device, dtype, memory_format=layout)

    def layerwise(self, case: Case) -> Layerwise | None:
        """The twin taken apart; ``None`` where it is compiled whole."""
        return None if self._compile else TorchLayers(self, case)

    @staticmethod
    def loss_of(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        """What is minimised: the cross-entropy, unless the model brings a loss of its own."""
        loss: Callable[[Tensor, Tensor], Tensor] = getattr(model, "loss_function", nn.functional.cross_entropy)
        return loss

    @contextlib.contextmanager
    def settings(self) -> Iterator[None]:
        """PyTorch's global switches, as long as the subject runs."""
        tf32 = self._tf32
        threads = torch.get_num_threads()
        matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        with _onednn(self._onednn):
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            if self._threads is not None:
                torch.set_num_threads(self._threads)
            try:
                yield
            finally:
                torch.set_num_threads(threads)
                torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution


def _device(label: str, name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"subject: {label}: PyTorch cannot use the device {name!r} here: {error}") from None
    return device


def _run_eager(model: nn.Module, graph: Graph, image: Tensor, labels: Tensor | None, recorder: Recorder) -> None:
    for name, module in observed(model, graph):
        module.register_forward_hook(lambda _module, _inputs, output, name=name: _seen(recorder, name, output))
    with torch.set_grad_enabled(labels is not None):
        logits = model(image)
        if labels is not None:
            _backward(model, logits, labels, recorder)
    if isinstance(recorder, Trace):
        recorder.consumers = consumers_of(graph)


def _backward(model: nn.Module, logits: Tensor, labels: Tensor, recorder: Recorder) -> None:
    loss = TorchSubject.loss_of(model)(logits, labels)
    recorder.record("loss", "loss", to_numpy(loss))
    for name, statistic in model.named_buffers():
        if statistic.is_floating_point():
            recorder.record("statistic", name, to_numpy(statistic.clone()))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            recorder.record("parameter_gradient", name, to_numpy(parameter.grad))


def _run_compiled(model: nn.Module, graph: Graph, image: Tensor, labels: Tensor | None, recorder: Recorder) -> None:
    """As `_run_eager`, in one graph that returns every layer's output beside the logits.

    A hook that leaves the graph would cut it into single layers, and nothing would be left to fuse. For the same reason
    the gradients of the outputs are not asked for: what takes them changes what the compiler does to the backward pass.
    """
    outputs: dict[str, Tensor] = {}
    for name, module in observed(model, graph):
        module.register_forward_hook(lambda _module, _inputs, output, name=name: outputs.update({name: output}))
    with torch.set_grad_enabled(labels is not None):
        logits = torch.compile(model)(image)
        for name, output in outputs.items():
            recorder.record("activation", name, to_numpy(output))
        if labels is not None:
            _backward(model, logits, labels, recorder)


def _seen(recorder: Recorder, name: str, output: Tensor) -> None:
    recorder.record("activation", name, to_numpy(output))
    if output.requires_grad:
        output.register_hook(lambda gradient: recorder.record("activation_gradient", name, to_numpy(gradient)))


@contextlib.contextmanager
def _onednn(enabled: bool) -> Iterator[None]:
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(enabled)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
