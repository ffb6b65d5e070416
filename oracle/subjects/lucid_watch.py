"""What lucid computes, operation by operation, as a model runs in its usual way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid import Tensor, nn
from lucid.backends import Backend, backend_for
from lucid.ops._function import Composition, Function, set_tracer
from oracle.errors import UsageError
from oracle.graph.graph import Graph
from oracle.operations import shapes_of_values
from oracle.trace import Recorder


def record_value(recorder: Recorder, name: str, value: Tensor) -> None:
    """Record a value, and its gradient when that is complete."""
    recorder.record("activation", name, value.numpy())
    if value.requires_grad:
        value.register_hook(lambda gradient: recorder.record("activation_gradient", name, gradient.numpy()))


def watch_operations(model: nn.Module, graph: Graph, recorder: Recorder) -> None:
    """Whenever ``model`` runs forward, record what each of its operations makes, under the names of a traced graph.

    The operations come in the order in which they were traced. What one is composed of is not looked at, so that it
    runs as it always does.

    Raises:
        UsageError: (when it runs) the model does something else than when it was traced.
    """
    forward = model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        watcher = _Watcher(graph, recorder, [*args, *model.state_dict().values(), *model.parameters()])
        before = set_tracer(watcher)
        try:
            output = forward(*args, **kwargs)
        finally:
            set_tracer(before)
        watcher.finish()
        return output

    model.forward = watched  # type: ignore[method-assign]


class _Watcher:
    """Sees every operation of a run; see ``lucid.ops._function.Tracer``."""

    wholes = True

    def __init__(self, graph: Graph, recorder: Recorder, given: list[Any]) -> None:
        self._names, self._shapes = iter(graph.runs), shapes_of_values(graph)
        self._recorder, self._inside = recorder, 0
        # What is not always the same, by the arrays' identities; they are held, so that those stay their own.
        self._held = [tensor._array for tensor in given if isinstance(tensor, Tensor)]
        self._known = set(map(id, self._held))

    def backend(self, device: str) -> Backend:
        return backend_for(device)

    def arrays(self, arrays: list[Any]) -> list[Any]:
        return arrays

    def record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        if not self._inside:
            self._seen(inputs, output)

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor:
        self._inside += 1
        try:
            output = run()
        finally:
            self._inside -= 1
        if not self._inside:
            self._seen(inputs, output)
        return output

    def update(self, tensor: Tensor, result: Tensor) -> bool:
        return False

    def enter(self, module: Any) -> None:
        """Modules do not matter."""

    def exit(self, module: Any, output: Any) -> None:
        """Likewise."""

    def finish(self) -> None:
        """The model has run."""
        left = next(self._names, None)
        if left is not None:
            raise UsageError(f"model: a run ended before {left}, which it has when it is traced")

    def _seen(self, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        if not any(tensor is not None and id(tensor._array) in self._known for tensor in inputs):
            return
        self._held.append(output._array)
        self._known.add(id(output._array))
        name = next(self._names, None)
        shape = self._shapes.get(name or "")  # none of integers
        if name is None or (shape is not None and shape != tuple(output.shape)):
            wanted = f"{name} of shape {shape}" if name else "no operation"
            raise UsageError(
                f"model: a run makes a tensor of shape {tuple(output.shape)} where it has {wanted} when it is traced"
            )
        if shape is not None:
            record_value(self._recorder, name, output)
