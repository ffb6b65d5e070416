"""lucid itself, on any of its backends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import lucid
from lucid import Tensor, nn
from lucid.backends import device_of, known_backends
from lucid.device import MOST_THREADS, THREADS
from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.graph.graph import Graph
from oracle.subjects import Subject, choose, observed, positive, take
from oracle.subjects.layerwise import Layerwise
from oracle.subjects.lucid_layers import LucidLayers
from oracle.subjects.lucid_watch import record_value, watch_operations
from oracle.trace import Recorder


class LucidSubject(Subject):
    """The case's model as lucid has it.

    Options: a backend, ``native``, ``reference``, ``cuda`` or ``emulated`` (default: the one that serves the CPU now),
    or ``gpu`` for whichever serves the GPU now; ``float32`` (default) or ``float64``; ``plan``: the inference plan
    instead of the model itself, eval only, of which the network's output alone is observed; ``threads=N``.
    """

    exact = True

    def __init__(self, *options: str) -> None:
        named, plain = take("lucid", options, ("threads",))
        chosen = choose(
            "lucid",
            plain,
            {
                "precision": ("float32", "float64"),
                "backend": ("current", *known_backends(), "gpu"),
                "how": ("eager", "plan"),
            },
        )
        self.precision = chosen["precision"]
        self.label = ":".join(("lucid", *options))
        self._threads = positive("lucid", "threads", named["threads"]) if "threads" in named else None
        if self._threads is not None and self._threads > MOST_THREADS:
            raise UsageError(
                f"subject: {':'.join(('lucid', *options))}: threads: got {self._threads}; may be {THREADS}"
            )
        backend = chosen["backend"]
        self._backend = None if backend in ("current", "gpu") else backend
        self.device = "gpu" if backend == "gpu" else device_of(backend) if backend != "current" else "cpu"
        self._plan = chosen["how"] == "plan"
        self.layered = not self._plan
        if self._plan:
            self.modes, self.kinds, self.partial = frozenset({"eval"}), ("activation",), True
        try:
            if self._backend is not None:
                lucid.get_backend(self._backend)
            elif self.device == "gpu":
                lucid.zeros(1, device="gpu")
        except RuntimeError as error:
            raise UsageError(f"subject: {self.label}: {error}") from error

    def build(self, case: Case) -> nn.Module:
        """The model with the case's weights, in the case's mode."""
        return make_model(case, self.precision).to(self.device).train(case.mode == "train")

    def run(self, case: Case, recorder: Recorder) -> None:
        """Run the model; the gradient of an output is recorded when it is complete."""
        with self.settings():
            model = self.build(case)
            given = case.input.astype(self.precision) if case.input.dtype.kind == "f" else case.input
            image = lucid.tensor(given, device=self.device)
            if self._plan:
                recorder.record("activation", case.graph.output, lucid.compile(model, image)(image).numpy())
                return
            self.watch(model, case.graph, recorder)
            with contextlib.nullcontext() if case.mode == "train" else lucid.no_grad():
                logits = model(image)
                if case.mode == "train":
                    self.backward(case, model, logits, recorder)

    @staticmethod
    def watch(model: nn.Module, graph: Graph, recorder: Recorder) -> None:
        """Record every value of the graph, and its gradient when that is complete."""
        if graph.runs:
            watch_operations(model, graph, recorder)
            return
        for name, module in observed(model, graph):
            module.register_forward_hook(lambda _m, _i, output, name=name: record_value(recorder, name, output))

    def backward(self, case: Case, model: nn.Module, logits: Tensor, recorder: Recorder) -> None:
        """The loss and the gradients, recorded."""
        loss = self.loss_of(model)(logits, lucid.tensor(case.labels, device=self.device))
        recorder.record("loss", "loss", loss.numpy())
        for name, statistic in model.named_buffers():
            if statistic.ndim and name in case.graph.owner:  # not the number of batches
                recorder.record("statistic", name, statistic.numpy().copy())
        loss.backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                recorder.record("parameter_gradient", name, parameter.grad.numpy())

    def layerwise(self, case: Case) -> Layerwise | None:
        """The model taken apart; ``None`` for an inference plan."""
        return None if self._plan else LucidLayers(self, case)

    @staticmethod
    def loss_of(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        """What is minimised: the cross-entropy, unless the model brings a loss of its own."""
        loss: Callable[[Tensor, Tensor], Tensor] = getattr(model, "loss_function", nn.functional.cross_entropy)
        return loss

    @contextlib.contextmanager
    def settings(self) -> Iterator[None]:
        """The backend and the number of threads, as long as the subject runs."""
        threads = lucid.get_num_threads()
        with contextlib.nullcontext() if self._backend is None else lucid.use_backend(self._backend):
            if self._threads is not None:
                lucid.set_num_threads(self._threads)
            try:
                yield
            finally:
                lucid.set_num_threads(threads)


def make_model(case: Case, precision: str = "float32") -> nn.Module:
    """``lucid``'s model of the case, with the case's weights (``load_state_dict`` refuses any other set)."""
    with nn.init.skip_init():  # the weights come from the case
        model: nn.Module = case.model.lucid_model()
    model.load_state_dict({name: lucid.tensor(value) for name, value in case.state.items()})
    return model.to(precision)
