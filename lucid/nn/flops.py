"""How much arithmetic operations are: multiply-accumulates of convolutions and matrix products, and their count."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from lucid.backends import Backend, backend_for
from lucid.core.node import GradNode
from lucid.core.tensor import Tensor
from lucid.core.walk import Watch, set_watch
from lucid.ops._function import Composition, Function, set_tracer

__all__ = ["count_flops", "macs_of"]

# Length of the sum behind one element of the output, from the shapes of the operands.
_TERMS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), lambda x, weight: math.prod(weight[1:])),
    "linear": lambda x, weight: weight[1],
    "matmul": lambda a, b: a[-1],
}
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def macs_of(function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> int:
    """The multiply-accumulates of one operation: 0 but for convolutions, matrix products and attention."""
    shapes = [each.shape for each in inputs[:2] if each is not None]
    if function.name in _TERMS:
        return output.size * _TERMS[function.name](*shapes)
    if function.name in _TRANSPOSED:  # every element of the input goes through its channel's weight
        return math.prod(shapes[0]) * math.prod(shapes[1][1:])
    if function.name == "attention":  # a number for each query and key, then as much of its value
        (*_, width), (*_, keys, _), out = *shapes, output.shape[-1]
        return output.size // max(out, 1) * keys * (width + out)
    return 0


class count_flops:  # noqa: N801 (used as a function)
    """Counts, inside, the floating-point operations of convolutions and matrix products, two for each
    multiply-accumulate, as ``torch.utils.flop_counter`` does: of forward passes, and of backward passes what each
    gradient takes, which is as much again. Other operations, and taps of a convolution that meet padding, are not told
    apart: the first count nothing, the second as any other.

    Attributes:
        total: all of them.
        macs: half of that.
        by_operation: by the operation's name; backward passes under ``name.backward``.
        by_module: of forward passes, by the path of the layer that called the operation.

    Raises:
        RuntimeError: a model is being traced, or operations are watched already.

    Example:
        >>> import lucid
        >>> with lucid.count_flops() as count:
        ...     y = lucid.nn.Linear(3, 4)(lucid.ones(2, 3))
        >>> count.total
        48
    """

    def __init__(self) -> None:
        self.by_operation: dict[str, int] = {}
        self.by_module: dict[str, int] = {}
        self._of_node: WeakKeyDictionary[GradNode, tuple[int, int]] = WeakKeyDictionary()
        self._modules: list[Any] = []
        self._before: Watch | None = None

    @property
    def total(self) -> int:
        """All floating-point operations that were counted."""
        return sum(self.by_operation.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates: half of ``total``."""
        return self.total // 2

    def __enter__(self) -> count_flops:
        before = set_tracer(_Counter(self))
        if before is not None:
            set_tracer(before)
            raise RuntimeError("count_flops: a model is being traced, or operations are watched already")
        self._before = set_watch(self._passed)
        return self

    def __exit__(self, *_: object) -> None:
        set_tracer(None)
        set_watch(self._before)
        self._modules.clear()

    def _record(self, function: Function, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        flops = 2 * macs_of(function, inputs, output)
        if not flops:
            return
        self._add(self.by_operation, function.name, flops)
        if self._modules:
            paths = {id(module): path for path, module in self._modules[0].named_modules()}
            self._add(self.by_module, paths.get(id(self._modules[-1]), ""), flops)
        if function.needs is not None:
            self._of_node[function] = flops, sum(function.needs[:2])

    def _passed(self, node: GradNode, arrived: Any, grads: tuple[Any, ...]) -> None:
        flops, wanted = self._of_node.get(node, (0, 0))
        if flops:
            self._add(self.by_operation, f"{node.name}.backward", flops * wanted)

    @staticmethod
    def _add(to: dict[str, int], name: str, flops: int) -> None:
        to[name] = to.get(name, 0) + flops


class _Counter:
    """Shows a ``count_flops`` every operation and module; see ``lucid.ops._function.Tracer``."""

    def __init__(self, count: count_flops) -> None:
        self.record = count._record
        self.modules = count._modules

    def backend(self, device: str) -> Backend:
        return backend_for(device)

    def arrays(self, arrays: list[Any]) -> list[Any]:
        return arrays

    def compose(self, whole: Composition, inputs: tuple[Tensor | None, ...], run: Callable[[], Tensor]) -> Tensor:
        return run()

    def update(self, tensor: Tensor, result: Tensor) -> bool:
        return False

    def enter(self, module: Any) -> None:
        self.modules.append(module)

    def exit(self, module: Any, output: Any) -> None:
        while self.modules.pop() is not module:  # one inside was left by an error
            pass
