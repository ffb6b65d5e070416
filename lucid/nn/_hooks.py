"""Backward hooks of modules: seeing all gradients of a module's inputs and outputs at once.

An operation of the graph has one result, a module may have several inputs and outputs. So each passes through an
``_Arm``, which hands its gradient to a common ``_Joint``; the walk reaches the joint after all arms, because it was
created first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid.autograd import grad_enabled
from lucid.ops._function import EVERY_INPUT, Function, _creation
from lucid.tensor import Tensor, wrap

Gradients = tuple[Tensor | None, ...]


class _Joint(Function):
    """Collects the gradients of ``tensors`` and shows them to ``observe``, which may return others."""

    name = "module_hook"
    lent = EVERY_INPUT

    def __init__(self, tensors: list[Tensor], observe: Callable[[Gradients], Gradients]) -> None:
        self.observe = observe
        self.slots: list[Any] = [None] * len(tensors)
        self.device = tensors[0].device
        self.edges = tuple(t._node or t for t in tensors)
        self.seq = next(_creation)

    def backward(self, be: Any, _marker: Any) -> tuple[Any, ...]:
        arrived, self.slots = self.slots, [None] * len(self.slots)
        shown = self.observe(tuple(None if g is None else wrap(g, self.device) for g in arrived))
        return tuple(None if g is None else g._array for g in shown)


class _Arm(Function):
    """Passes a tensor on unchanged, and its gradient to the joint."""

    name = "module_hook"

    def __init__(self, joint: _Joint, slot: int) -> None:
        self.joint = joint
        self.slot = slot
        self.device = joint.device
        self.edges = (joint,)
        self.seq = next(_creation)

    def backward(self, be: Any, dy: Any) -> tuple[Any, ...]:
        self.joint.slots[self.slot] = dy
        return (be.number(0.0, "float64"),)  # what tells the walk to visit the joint; it has no other meaning


def _through(tensors: list[Tensor], observe: Callable[[Gradients], Gradients]) -> list[Tensor]:
    """``tensors`` as the same values whose gradients go through ``observe``."""
    joint = _Joint(tensors, observe)
    passed = []
    for slot, tensor in enumerate(tensors):
        out = wrap(tensor._array, tensor.device)
        out._version = tensor._version_cell()
        out._requires_grad = True
        out._node = _Arm(joint, slot)
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
        self.grad_output: Gradients = ()
        self.inputs: list[int] = []
        self.arity = 0

    def wrap_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """``args`` with the tensors that need gradients passed through a joint."""
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
        """The module's output (a tensor, or a tuple or list of them), passed through a joint."""
        if not grad_enabled():
            return output
        outputs = list(output) if isinstance(output, tuple | list) else [output]
        places = [i for i, o in enumerate(outputs) if isinstance(o, Tensor) and o.requires_grad]
        if not places:
            return output

        count = len(outputs)  # the closure holds this alone: with the outputs it would be a cycle

        def observe(grads: Gradients) -> Gradients:
            full: list[Tensor | None] = [None] * count
            for i, grad in zip(places, grads, strict=True):
                full[i] = grad
            self.grad_output = tuple(full)
            if not self.inputs:
                self._call((None,) * self.arity)
            return grads

        for i, tensor in zip(places, _through([outputs[i] for i in places], observe), strict=True):
            outputs[i] = tensor
        return type(output)(outputs) if isinstance(output, tuple | list) else outputs[0]

    def _on_input(self, grads: Gradients) -> Gradients:
        full: list[Tensor | None] = [None] * self.arity
        for i, grad in zip(self.inputs, grads, strict=True):
            full[i] = grad
        changed = self._call(tuple(full))
        return tuple(changed[i] for i in self.inputs)

    def _call(self, grad_input: Gradients) -> Gradients:
        for hook in self.hooks:
            result = hook(self.module, grad_input, self.grad_output)
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
