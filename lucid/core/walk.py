"""The backward walk: from a result to the gradients of everything that it depends on.

It is iterative and visits nodes in descending order of creation, which is a topological order, and also the order in
which ``ARITHMETIC.md``, section 5, adds gradients that meet. What a node has saved is dropped as soon as it has been
visited.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from lucid.backends import backend_for
from lucid.core.grad_mode import recording
from lucid.core.node import GradNode, Holder

__all__ = ["Watch", "backward", "gradients", "set_watch", "walk_notes"]

Watch = Callable[[GradNode, Any, tuple[Any, ...]], None]
"""Sees a node, the gradient that arrived there, and those that it makes of it."""


class _Pass(threading.local):
    notes: dict[Any, Any] | None = None
    watch: Watch | None = None


_pass = _Pass()


def set_watch(watch: Watch | None) -> Watch | None:
    """Let ``watch`` see the passes of this thread from now on (None: nobody); returns the one before."""
    before, _pass.watch = _pass.watch, watch
    return before


def walk_notes() -> dict[Any, Any]:
    """What nodes leave for nodes visited later in this thread's pass (the hooks of modules do), by their own keys."""
    assert _pass.notes is not None
    return _pass.notes


class _Pending:
    """A gradient on its way: the array so far, and whether nothing else can hold that array."""

    __slots__ = ("array", "owned")

    def __init__(self, array: Any, owned: bool) -> None:
        self.array = array
        self.owned = owned


def backward(root: GradNode, gradient: Any, retain_graph: bool) -> None:
    """Carry ``gradient``, an array, from ``root`` to every leaf that it depends on.

    Gradients are handed to their holders after the whole walk and all hooks, so a pass that fails changes none.
    """
    for holder, grad in _pass_of({root: gradient}, retain_graph, None):
        holder._grad = grad


def gradients(roots: dict[GradNode, Any], wanted: dict[GradNode, Any], retain_graph: bool) -> None:
    """Carry gradients from several roots, and put what arrives at the nodes ``wanted`` there; hand out nothing."""
    _pass_of(roots, retain_graph, wanted)


def _pass_of(
    roots: dict[GradNode, Any], retain_graph: bool, wanted: dict[GradNode, Any] | None
) -> list[tuple[Holder, Any]]:
    before = recording.enabled, _pass.notes
    recording.enabled, _pass.notes = False, {}
    try:
        return _walk(roots, retain_graph, wanted)
    finally:
        recording.enabled, _pass.notes = before


def _walk(
    roots: dict[GradNode, Any], retain_graph: bool, wanted: dict[GradNode, Any] | None
) -> list[tuple[Holder, Any]]:
    """The gradients to hand out."""
    kept: list[tuple[Holder, Any]] = []
    pending = {root: _Pending(gradient, False) for root, gradient in roots.items()}
    heap = [(-root.seq, root) for root in pending]
    heapify(heap)
    watch = _pass.watch
    while heap:
        node = heappop(heap)[1]
        arrived = pending.pop(node)
        if node.hooks:
            _run_hooks(node, arrived)
        holder = None if node.holder is None else node.holder()
        if wanted is not None:
            if node in wanted:
                wanted[node] = arrived.array if arrived.owned and not node.edges else arrived.array.copy("K")
        elif holder is not None:  # an inner node's array goes on, and may end as another tensor's gradient
            kept.append((holder, holder._grad_with(arrived.array, arrived.owned and not node.edges)))
        first = pending.get(node.edges[0]) if node.accumulates and node.edges else None  # type: ignore[arg-type]
        grads = node.run_backward(backend_for(node.device), arrived.array, None if first is None else first.array)
        edges, may_alias = node.edges, node.may_alias
        if watch is not None:
            watch(node, arrived.array, grads)
        if not retain_graph:
            node.release()
        if first is not None:
            first.array, first.owned = grads[0], True
        del arrived, node, holder
        for i, (edge, grad) in enumerate(zip(edges, grads, strict=False)):  # type: ignore[arg-type]
            if edge is None or grad is None or (i == 0 and first is not None):
                continue
            known = pending.get(edge)
            if known is None:
                pending[edge] = _Pending(grad, i not in may_alias)
                heappush(heap, (-edge.seq, edge))
            else:
                known.array = backend_for(edge.device).binary("add", known.array, grad)
                known.owned = True
        del edges, grads
        first = edge = grad = known = None
    return kept


def _run_hooks(node: GradNode, arrived: _Pending) -> None:
    for hook in list((node.hooks or {}).values()):
        replaced = hook(arrived.array, node.device)
        arrived.owned = False  # the hook may have kept it
        if replaced is not None:
            arrived.array = replaced
