"""Backward hooks of modules: seeing all gradients of a module's inputs and outputs at once.

An operation of the graph has one result, a module may have several inputs and outputs. So each passes through a
``PassOn``, which hands its gradient to a common ``_Gather``. The walk reaches that one last, because it was created
first.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from lucid.core.grad_mode import grad_enabled
from lucid.core.node import creation
from lucid.core.tensor import SHARED, Tensor, wrap
from lucid.core.walk import walk_notes
from lucid.ops._function import EVERY_INPUT, Function

Gradients = tuple[Tensor | None, ...]


class Gather(Function):
    """A node that the gradients of ``count`` tensors reach together, in the notes of the walk, through ``PassOn``."""

    count: int


class _Gather(Gather):
    """Collects the gradients of ``tensors`` and shows them to ``observe``, which may return others."""

    name = "module_hook"
    may_alias = EVERY_INPUT

    def __init__(self, tensors: list[Tensor], observe: Callable[[Gradients], Gradients]) -> None:
        self.observe = observe
        self.count = len(tensors)
        self.device = tensors[0].device
        self.edges = tuple(t._edge() for t in tensors)
        self.seq = next(creation)

    def backward(self, be: Any, _marker: Any) -> tuple[Any, ...]:
        arrived = walk_notes().pop(self)
        shown = self.observe(tuple(None if g is None else wrap(g, self.device) for g in arrived))
        return tuple(None if g is None else g._array for g in shown)


class PassOn(Function):
    """Passes a tensor on unchanged, and its gradient to ``gather``."""

    name = "module_hook"

    def __init__(self, gather: Gather, slot: int) -> None:
        self.gather = gather
        self.slot = slot
        self.device = gather.device
        self.edges = (gather,)
        self.seq = next(creation)

    def backward(self, be: Any, dy: Any) -> tuple[Any, ...]:
        slots = walk_notes().setdefault(self.gather, [None] * self.gather.count)
        slots[self.slot] = dy
        return (be.number(0.0, "float64"),)  # what tells the walk to visit ``gather``; it has no other meaning


def _through(tensors: list[Tensor], observe: Callable[[Gradients], Gradients]) -> list[Tensor]:
    """``tensors`` as the same values whose gradients go through ``observe``."""
    gather = _Gather(tensors, observe)
    passed = []
    for slot, tensor in enumerate(tensors):
        out = wrap(tensor._array, tensor.device)
        out._version = tensor._version_cell()
        out._version[SHARED] = True
        out._requires_grad = True
        out._node = PassOn(gather, slot)
        passed.append(out)
    return passed


class BackwardHooks:
    """One call of a module with backward hooks: wraps its inputs, then its outputs, and calls the hooks in between.

    The hooks see ``(module, grad_input, grad_output)``, tuples with None where a positional input or an output is no
    tensor or needs no gradient, and may return a replacement of ``grad_input``.
    """

    def __init__(self, module: Any, hooks: list[Callable[..., Any]]) -> None:
        self.module = module
        self.hooks = hooks
        self.arity_out = 1
        self.inputs: list[int] = []
        self.arity = 0

    def wrap_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """``args`` with the tensors that need gradients passed through a ``_Gather``."""
        self.arity = len(args)
        self.inputs = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        if not self.inputs or not grad_enabled():
            self.inputs = []
            return args
        passed = list(args)
        for i, tensor in zip(self.inputs, _through([args[i] for i in self.inputs], self._on_input), strict=True):
            passed[i] = tensor
        return tuple(passed)

    def wrap_outputs(self, output: Any) -> Any:
        """The module's output (a tensor, or tuples, lists, dicts and dataclasses of them), likewise."""
        if not grad_enabled():
            return output
        outputs = leaves(output)
        self.arity_out = count = len(outputs)  # the closure holds this alone: with the outputs it would be a cycle
        places = [i for i, o in enumerate(outputs) if isinstance(o, Tensor) and o.requires_grad]
        if not places:
            return output

        def observe(grads: Gradients) -> Gradients:
            full: list[Tensor | None] = [None] * count
            for i, grad in zip(places, grads, strict=True):
                full[i] = grad
            walk_notes()[self] = tuple(full)
            if not self.inputs:
                self._call((None,) * self.arity)
            return grads

        for i, tensor in zip(places, _through([outputs[i] for i in places], observe), strict=True):
            outputs[i] = tensor
        return rebuilt(output, iter(outputs))

    def _on_input(self, grads: Gradients) -> Gradients:
        full: list[Tensor | None] = [None] * self.arity
        for i, grad in zip(self.inputs, grads, strict=True):
            full[i] = grad
        changed = self._call(tuple(full))
        return tuple(changed[i] for i in self.inputs)

    def _call(self, grad_input: Gradients) -> Gradients:
        grad_output = walk_notes().get(self, (None,) * self.arity_out)
        for hook in self.hooks:
            result = hook(self.module, grad_input, grad_output)
            if result is not None:
                grad_input = self._replacement(result, grad_input)
        return grad_input

    def _replacement(self, result: Any, grad_input: Gradients) -> Gradients:
        changed = result if isinstance(result, tuple) else (result,)
        if len(changed) != len(grad_input):
            raise RuntimeError(
                f"a backward hook of {type(self.module).__name__} returned {len(changed)} gradients; "
                f"must be {len(grad_input)}, one for each input, or None"
            )
        for new, old in zip(changed, grad_input, strict=True):
            if old is not None and not _fits(new, old):
                raise RuntimeError(
                    f"a backward hook of {type(self.module).__name__} returned {new!r} for a gradient "
                    f"of shape {old.shape} and dtype {old.dtype} on {old.device!r}"
                )
        return changed


def _fits(new: Any, old: Tensor) -> bool:
    return isinstance(new, Tensor) and (new.shape, new.dtype, new.device) == (old.shape, old.dtype, old.device)


def leaves(value: Any) -> list[Any]:
    """What tuples, lists, dicts and dataclasses inside each other hold, in order."""
    return [leaf for part in _parts(value) for leaf in leaves(part)] if _holds(value) else [value]


def rebuilt(value: Any, new: Iterator[Any]) -> Any:
    """``value`` with the next of ``new`` for each of its leaves; every container keeps its type."""
    if not _holds(value):
        return next(new)
    parts = [rebuilt(part, new) for part in _parts(value)]
    made: Any
    if isinstance(value, dict):
        made = copy.copy(value)
        made.update(zip(value, parts, strict=True))
        return made
    if isinstance(value, list):
        made = copy.copy(value)
        made[:] = parts
        return made
    if isinstance(value, tuple):
        return value._make(parts) if hasattr(value, "_make") else type(value)(parts)  # _make: a namedtuple
    made = copy.copy(value)
    for field, part in zip(dataclasses.fields(value), parts, strict=True):
        object.__setattr__(made, field.name, part)  # also where the dataclass is frozen
    return made


def _holds(value: Any) -> bool:
    return isinstance(value, tuple | list | dict) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, tuple | list):
        return list(value)
    return [getattr(value, field.name) for field in dataclasses.fields(value)]
