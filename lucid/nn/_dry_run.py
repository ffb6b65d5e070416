"""Running a module for its shapes: nothing is computed, no value is read, no state changes, and somebody watches.

``summarize`` and ``lucid.graph.trace`` are such watchers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from lucid.backends import Backend, backend_for
from lucid.backends.shapes import Abstract, ShapeBackend, abstract
from lucid.core.grad_mode import recording, set_grad_enabled
from lucid.core.tensor import Tensor, wrap
from lucid.nn.module import Module
from lucid.ops import _function
from lucid.ops._function import Composition, Function, set_tracer

_lock = threading.RLock()  # there is one tracer at a time


class Watcher(Protocol):
    """What learns of a dry run: every module as it is entered and left, and every operation with abstract tensors."""

    def update(self, tensor: Tensor, result: Tensor) -> None: ...

    def enter(self, module: Any) -> None: ...

    def exit(self, module: Any, output: Any) -> None: ...

    def record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None: ...

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor: ...


def dry_run(
    module: Module,
    inputs: Sequence[Tensor],
    watcher: Watcher,
    call: Callable[..., Any] | None = None,
    training: bool = False,
) -> Any:
    """Call ``module``, or ``call``, which calls it, on tensors like ``inputs`` and return what it returns, abstract.
    It is in eval mode, or in training mode, and is afterwards as it was: running statistics stay, too.

    Raises:
        RuntimeError: its forward reads values, or draws random numbers.
        ValueError, TypeError: as the module raises on such an input.
    """
    modes = [(part, part.training) for part in module.modules()]
    with watched(watcher, training):
        try:
            module.train() if training else module.eval()
            return (call or module)(*inputs)
        finally:
            for part, mode in modes:
                part.training = mode


@contextlib.contextmanager
def watched(watcher: Watcher, differentiated: bool = False) -> Iterator[None]:
    """Let ``watcher`` see what this thread does, which computes shapes alone and leaves nothing behind."""
    with _lock, set_grad_enabled(differentiated):
        before = set_tracer(_OwnThread(watcher))
        again, recording.recomputing = recording.recomputing, True
        alone, recording.shapes_alone = recording.shapes_alone, True
        asked, recording.differentiated = recording.differentiated, differentiated
        try:
            yield
        finally:
            recording.recomputing, recording.shapes_alone, recording.differentiated = again, alone, asked
            set_tracer(before)


def abstract_like(tensor: Tensor, batch: int | None = None) -> Tensor:
    """A tensor without values, of the shape and dtype of ``tensor``, or of another length of its first axis."""
    shape = tensor.shape if batch is None else (batch, *tensor.shape[1:])
    return wrap(abstract(shape, tensor.dtype), tensor.device)


@contextlib.contextmanager
def concretely() -> Iterator[None]:
    """Compute what is known while a model is traced, such as shapes: with values, and unseen by the tracer.

    Example:
        >>> import lucid
        >>> with concretely():
        ...     (lucid.tensor([2, 3]) * 2).tolist()
        [4, 6]
    """
    tracer = _function._tracer
    if not isinstance(tracer, _OwnThread) or not tracer._own():
        yield
        return
    tracer.paused, recording.shapes_alone = True, False
    try:
        yield
    finally:
        tracer.paused, recording.shapes_alone = False, True


class _OwnThread:
    """The tracer of one thread: it gets shapes alone, and the watcher sees it; other threads compute as ever."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._thread = threading.get_ident()
        self.paused = False
        self._shapes = ShapeBackend()

    def backend(self, device: str) -> Backend:
        return self._shapes if self._own() else backend_for(device)

    def arrays(self, arrays: list[Any]) -> list[Any]:
        """Parameters and numbers as abstract as the input, wherever they lie."""
        if not self._own():
            return arrays
        return [a if a is None or isinstance(a, Abstract) else abstract(a.shape, a.dtype) for a in arrays]

    def record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        if self._own():
            # NumPy makes real arrays of abstract ones here and there.
            output._array = abstract(output.shape, output.dtype)
            if recording.differentiated and not recording.enabled:  # the model's own no_grad
                function.differentiable = False  # type: ignore[misc]
            self._watcher.record(function, inputs, output)

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor:
        return self._watcher.compose(whole, inputs, run) if self._own() else run()

    def update(self, tensor: Tensor, result: Tensor) -> bool:
        if not self._own():
            return False
        tensor._refuse_view()
        self._watcher.update(tensor, result)
        return True

    def enter(self, module: Any) -> None:
        if self._own():
            self._watcher.enter(module)

    def exit(self, module: Any, output: Any) -> None:
        if self._own():
            self._watcher.exit(module, output)

    def _own(self) -> bool:
        return not self.paused and threading.get_ident() == self._thread
