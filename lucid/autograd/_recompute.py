"""Checkpointing: what a function needs for its backward pass is computed once more instead of kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid import random
from lucid.core.grad_mode import enable_grad, no_grad, recording
from lucid.core.node import creation
from lucid.core.tensor import SHARED, VERSION, Tensor, wrap
from lucid.core.walk import walk_notes
from lucid.nn._hooks import Gather, PassOn
from lucid.nn.module import Module
from lucid.ops import _function
from lucid.ops._function import EVERY_INPUT

__all__ = ["checkpoint"]


class _Recompute(Gather):
    """Runs a function again, and lets the walk go on through the graph of that run."""

    name = "checkpoint"
    may_alias = EVERY_INPUT

    def __init__(self, again: Callable[[], list[Tensor]], shapes: list[tuple[int, ...]], device: str) -> None:
        self.again: Callable[[], list[Tensor]] | None = again
        self.shapes = shapes
        self.count = len(shapes)
        self.device = device
        self.edges = ()
        self.seq = next(creation)

    def backward(self, be: Any, _marker: Any) -> tuple[Any, ...]:
        arrived = walk_notes().pop(self)
        assert self.again is not None
        outputs = self.again()
        shapes = [output.shape for output in outputs]
        if shapes != self.shapes:
            raise RuntimeError(f"checkpoint: the function returned shapes {shapes}; at first they were {self.shapes}")
        self.edges = tuple([output._edge() if output.requires_grad else None for output in outputs])
        return tuple(arrived)

    def release(self) -> None:
        super().release()
        self.again = None


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)``, of which nothing is kept for the backward pass but its arguments: that pass runs
    it once more. Values and gradients have the same bits as without.

    The second run draws the same random numbers from ``lucid.random``'s generator, so dropout has the same mask, and
    leaves no running statistics of batch normalisation behind. Float results require a gradient where operations are
    recorded. Without recording, and while a model is traced, the function is simply called.

    Args:
        function: a function or a module; it returns a tensor, or a tuple in which tensors are.
        args: its arguments.
        use_reentrant: PyTorch's choice of an implementation; either is this one.
        preserve_rng_state: whether the second run draws the random numbers of the first.
        kwargs: its named arguments.

    Raises:
        RuntimeError: in the backward pass, an argument, or a parameter of a module, was changed in place after its use;
            the second run returns other shapes.

    Source: Chen et al., arXiv 1604.06174 (2016), in PyTorch's form.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([1.0, 2.0], requires_grad=True)
        >>> lucid.autograd.checkpoint(lambda x: (x * x).sum(), x).backward()
        >>> x.grad
        tensor([2., 4.])
    """
    if not recording.enabled or _function._tracer is not None:
        return function(*args, **kwargs)
    state = random.get_state()
    with no_grad():
        result = function(*args, **kwargs)
    many = isinstance(result, tuple)
    outputs = list(result) if many else [result]
    places = [i for i, each in enumerate(outputs) if isinstance(each, Tensor) and each.dtype.kind == "f"]
    if not places:
        return result

    def again() -> list[Tensor]:
        now = random.get_state()
        if preserve_rng_state:
            random.set_state(state)
        before, recording.recomputing = recording.recomputing, True
        try:
            with enable_grad():
                made = function(*args, **kwargs)
        finally:
            recording.recomputing = before
            if preserve_rng_state:
                random.set_state(now)
        return [made[i] for i in places] if many else [made]

    gather = _Recompute(again, [outputs[i].shape for i in places], outputs[places[0]].device)
    watched = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    watched += list(function.parameters()) if isinstance(function, Module) else []
    gather.versions = [(cell, cell[VERSION]) for cell in (each._version_cell() for each in watched)]
    for slot, i in enumerate(places):
        out = wrap(outputs[i]._array, outputs[i].device)
        out._version = outputs[i]._version_cell()
        out._version[SHARED] = True
        out._requires_grad = True
        out._node = PassOn(gather, slot)
        outputs[i] = out
    return tuple(outputs) if many else outputs[0]
