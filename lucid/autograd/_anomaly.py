"""Which operation made the first NaN or infinity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from lucid.backends import Backend, backend_for
from lucid.core.device import to_numpy
from lucid.core.node import GradNode
from lucid.core.tensor import Tensor
from lucid.core.walk import Watch, set_watch
from lucid.ops._function import Composition, Function, set_tracer

__all__ = ["AnomalyError", "detect_anomaly"]


class AnomalyError(RuntimeError):
    """An operation made a NaN or an infinity of numbers that were none."""


class detect_anomaly:  # noqa: N801 (PyTorch's name)
    """Inside, the first operation that makes a NaN or an infinity of numbers that are none raises an error, which names
    it, the layer that called it, and the element: in a forward or a backward pass of this thread.

    An infinity that an operation is given (a mask of minus infinity) is none of its making. Each operation waits for
    its values, so this is for finding a fault, not for training.

    Args:
        check_nan: whether NaN counts.
        check_inf: whether infinities count.

    Raises:
        AnomalyError: such an operation ran.
        RuntimeError: a model is being traced, or this one is entered inside another.

    Example:
        >>> import lucid
        >>> with lucid.autograd.detect_anomaly():
        ...     lucid.log(lucid.tensor([1.0, -1.0]))
        Traceback (most recent call last):
        lucid.autograd._anomaly.AnomalyError: log made nan in 1 of 2 elements, the first at [1]; its inputs have none
    """

    def __init__(self, check_nan: bool = True, check_inf: bool = True) -> None:
        self._kinds = [name for name, wanted in (("nan", check_nan), ("inf", check_inf)) if wanted]
        self._before: Watch | None = None

    def __enter__(self) -> None:
        watcher = _Watcher(self._kinds)
        before = set_tracer(watcher)
        if before is not None:
            set_tracer(before)
            raise RuntimeError("detect_anomaly: a model is being traced, or detect_anomaly is entered already")
        self._before = set_watch(watcher.passed)

    def __exit__(self, *_: object) -> None:
        set_tracer(None)
        set_watch(self._before)


class _Watcher:
    """Sees every operation, module and node; see ``lucid.ops._function.Tracer``."""

    def __init__(self, kinds: list[str]) -> None:
        self.kinds = kinds
        self.modules: list[Any] = []
        self.wholes: list[str] = []
        self.places: WeakKeyDictionary[GradNode, str] = WeakKeyDictionary()

    def backend(self, device: str) -> Backend:
        return backend_for(device)

    def arrays(self, arrays: list[Any]) -> list[Any]:
        return arrays

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor:
        self.wholes.append(whole.name)
        try:
            return run()
        finally:
            self.wholes.pop()

    def update(self, tensor: Tensor, result: Tensor) -> bool:
        return False

    def enter(self, module: Any) -> None:
        self.modules.append(module)

    def exit(self, module: Any, output: Any) -> None:
        while self.modules.pop() is not module:  # one inside was left by an error
            pass

    def record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        place = self.place(function)
        self.places[function] = place
        given: list[Any] = [each._array for each in inputs if each is not None]
        numbers = [value for value in function.attrs().values() if isinstance(value, float)]
        problem = self.made(output._array, given, numbers)
        if problem:
            raise AnomalyError(f"{place} made {problem}; its inputs have none")

    def passed(self, node: GradNode, arrived: Any, grads: tuple[Any, ...]) -> None:
        """A node of a backward pass has been visited."""
        for number, made in enumerate(grads):
            problem = None if made is None else self.made(made, [arrived], [])
            if problem:
                place = self.places.get(node, node.name)
                raise AnomalyError(
                    f"backward of {place} made {problem} of the gradient of input {number}; "
                    "the gradient that arrived has none"
                )

    def place(self, function: Function) -> str:
        """The operation's name, and the layer that called it."""
        name = " in ".join([function.name, *reversed(self.wholes)])
        if not self.modules:
            return name
        root, layer = self.modules[0], self.modules[-1]
        paths = {id(module): path for path, module in root.named_modules()}
        kind, path = type(layer).__name__, paths.get(id(layer), "")
        return f"{name} in {path!r} ({kind}) of {type(root).__name__}" if path else f"{name} in {kind}"

    def made(self, array: Any, given: list[Any], numbers: list[float]) -> str | None:
        """What is new in ``array``: NaN or infinities that are not among what was given."""
        if array.dtype.kind != "f":
            return None
        values = to_numpy(array)
        for kind in self.kinds:
            test: Any = np.isnan if kind == "nan" else np.isinf
            found = test(values)
            if not found.any():
                continue
            before = any(each.dtype.kind == "f" and test(to_numpy(each)).any() for each in given)
            # Of infinities a NaN may be made, and that is its making; an infinity is made of an infinity.
            if before or any(math.isinf(v) if kind == "inf" else math.isnan(v) for v in numbers):
                continue
            first = tuple(int(i) for i in np.argwhere(found)[0])
            value = "-inf" if kind == "inf" and values[first] < 0 else kind
            return f"{value} in {int(found.sum())} of {found.size} elements, the first at {list(first)}"
        return None
