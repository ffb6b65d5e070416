"""The backward walk: from a result to the gradients of everything that it depends on.

It is iterative and visits nodes in descending order of creation, which is a topological order, and also the order in
which ``ARITHMETIC.md``, section 5, adds gradients that meet. What a node has saved is dropped as soon as it has been
visited.
"""

from __future__ import annotations

import threading
from heapq import heappop, heappush
from typing import Any

from lucid.backends import backend_for
from lucid.core.grad_mode import recording
from lucid.core.node import GradNode, Holder

__all__ = ["backward", "walk_notes"]


class _Pass(threading.local):
    notes: dict[Any, Any] | None = None


_pass = _Pass()


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
    before = recording.enabled, _pass.notes
    recording.enabled, _pass.notes = False, {}
    try:
        for holder, grad in _walk(root, gradient, retain_graph):
            holder._grad = grad
    finally:
        recording.enabled, _pass.notes = before


def _walk(root: GradNode, gradient: Any, retain_graph: bool) -> list[tuple[Holder, Any]]:
    """The gradients to hand out."""
    kept: list[tuple[Holder, Any]] = []
    pending = {root: _Pending(gradient, False)}
    heap = [(-root.seq, root)]
    while heap:
        node = heappop(heap)[1]
        arrived = pending.pop(node)
        if node.hooks:
            _run_hooks(node, arrived)
        holder = None if node.holder is None else node.holder()
        if holder is not None:  # an inner node's array goes on, and may end as another tensor's gradient
            kept.append((holder, holder._grad_with(arrived.array, arrived.owned and not node.edges)))
        first = pending.get(node.edges[0]) if node.accumulates and node.edges else None  # type: ignore[arg-type]
        grads = node.run_backward(backend_for(node.device), arrived.array, None if first is None else first.array)
        edges, may_alias = node.edges, node.may_alias
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
