"""The nodes of the graph that a backward pass walks. They know arrays, never tensors.

An operation that has a differentiable input is itself a node (``lucid.ops._function.Function``); so is the end of the
walk, the ``Leaf`` of a tensor that no operation made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from lucid.backends import Backend

__all__ = ["ArrayHook", "GradNode", "Holder", "HookHandle", "Leaf", "creation"]

ArrayHook = Callable[[Any, str], Any]
"""Sees a complete gradient, an array, and its device; returns what replaces it, or None."""

creation = itertools.count(1)
"""Numbers the nodes. Descending, it is a topological order of every graph."""


class Holder(Protocol):
    """What is given a gradient at the end of a pass: a tensor."""

    _grad: Any

    def _grad_with(self, array: Any, owned: bool) -> Any:
        """What ``_grad`` is to be after ``array`` has arrived; ``owned`` says whether nothing else holds the array."""


class GradNode:
    """What the walk visits: a gradient arrives, gradients go on along the edges.

    Attributes:
        name: what messages call it.
        seq: the node's number; every node that it leads to has a smaller one.
        device: where the gradient that arrives lies.
        edges: for each input the node that its gradient goes to, or None; None once the node was released.
        may_alias: the inputs whose gradient may be ``dy`` itself, a view of it, or an array that is returned twice.
        accumulates: whether ``run_backward`` adds to what has arrived at its first input from elsewhere.
        hooks: what is shown the complete gradient.
        holder: a weak reference to the tensor that keeps the gradient.
    """

    name: ClassVar[str] = "leaf"
    seq: int = 0
    device: str = "cpu"
    edges: tuple[GradNode | None, ...] | None = ()
    may_alias: range | tuple[int, ...] = ()
    accumulates: ClassVar[bool] = False
    hooks: dict[int, ArrayHook] | None = None
    holder: Callable[[], Holder | None] | None = None

    def run_backward(self, be: Backend, dy: Any, accumulate_into: Any) -> tuple[Any, ...]:
        """The gradients of the inputs. ``accumulate_into``, unless None, is part of the first one's sum."""
        return ()

    def release(self) -> None:
        """Drop what only a pass needs."""


class Leaf(GradNode):
    """Where a walk ends: the node of a tensor that no operation made."""

    def __init__(self, holder: Callable[[], Any], device: str) -> None:
        self.holder = holder
        self.seq = -next(creation)  # behind every operation
        if device != "cpu":
            self.device = device

    def __reduce__(self) -> Any:
        return _leaf_of, (self.holder(),)  # type: ignore[misc]  # (the tensor's pickle leaves its leaf out)


def _leaf_of(tensor: Any) -> Leaf:
    return Leaf(lambda: None, "cpu") if tensor is None else tensor._edge()


class HookHandle:
    """What registering a hook returns: ``remove()`` takes the hook out again, also as a context manager's end."""

    _ids = itertools.count()

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks = hooks
        self._id = next(self._ids)
        hooks[self._id] = hook

    def remove(self) -> None:
        """Take the hook out; doing so twice does nothing."""
        self._hooks.pop(self._id, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
