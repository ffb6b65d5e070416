"""Define-by-run differentiation: which operations are recorded, and the walk that turns a result into gradients.

An operation that has a differentiable input is itself the node of the graph (``lucid.ops._function.Function``). The
walk is iterative and visits nodes in descending order of creation, which is a topological order, and also the order
in which ``ARITHMETIC.md``, section 5, adds gradients that meet. What a node has saved is dropped as soon as it has
been visited.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, TypeVar

from lucid.backends import backend_for

if TYPE_CHECKING:
    from lucid.ops._function import Function
    from lucid.tensor import Tensor

__all__ = ["enable_grad", "grad_enabled", "is_grad_enabled", "no_grad", "set_grad_enabled"]

_Callable = TypeVar("_Callable", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True


_mode = _Mode()


def grad_enabled() -> bool:
    """Whether this thread records operations for a backward pass.

    Example:
        >>> import lucid
        >>> lucid.grad_enabled()
        True
        >>> with lucid.no_grad():
        ...     lucid.grad_enabled()
        False
    """
    return _mode.enabled


is_grad_enabled = grad_enabled


class _ModeContext:
    """Sets this thread's mode for a ``with`` body or a decorated function, and puts the earlier one back."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._before: list[bool] = []  # a stack: one object may be entered again inside itself

    def __enter__(self) -> None:
        self._before.append(_mode.enabled)
        _mode.enabled = self._enabled

    def __exit__(self, *_: object) -> None:
        _mode.enabled = self._before.pop()

    def __call__(self, function: _Callable) -> _Callable:
        enabled = self._enabled

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _ModeContext(enabled):  # a new one each call: calls may overlap in several threads
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class no_grad(_ModeContext):  # noqa: N801 (PyTorch's name)
    """Operations inside are not recorded: their results need no gradient and nothing is kept for one.

    Use it as ``with lucid.no_grad():`` or as the decorator ``@lucid.no_grad()``; it holds for the calling thread.

    Example:
        >>> import lucid
        >>> x = lucid.ones(2, requires_grad=True)
        >>> with lucid.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_ModeContext):  # noqa: N801
    """The opposite of ``no_grad``: operations inside are recorded again.

    Example:
        >>> import lucid
        >>> x = lucid.ones(2, requires_grad=True)
        >>> with lucid.no_grad(), lucid.enable_grad():
        ...     y = x * 2
        >>> y.requires_grad
        True
    """

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_ModeContext):  # noqa: N801
    """Switch recording on or off, at once; used as a context manager, until its body ends.

    Example:
        >>> import lucid
        >>> with lucid.set_grad_enabled(False):
        ...     lucid.grad_enabled()
        False
    """

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._outside = _mode.enabled
        _mode.enabled = self._enabled

    def __enter__(self) -> None:
        self._before.append(self._outside)
        _mode.enabled = self._enabled


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


class _Pending:
    """A gradient on its way: the array so far, and whether nothing else can hold that array."""

    __slots__ = ("array", "owned")

    def __init__(self, array: Any, owned: bool) -> None:
        self.array = array
        self.owned = owned


def backward(root: Tensor, gradient: Any, retain_graph: bool) -> None:
    """Carry ``gradient`` (an array of ``root``'s shape and dtype) from ``root`` to every leaf that it depends on.

    Leaves are given their gradients after the whole walk, so a walk that fails changes no ``grad`` of a leaf.
    """
    leaves: dict[int, tuple[Tensor, _Pending]] = {}
    before, _mode.enabled = _mode.enabled, False
    try:
        if root._node is None:
            leaves[id(root)] = (root, _Pending(gradient, False))
        else:
            _walk(root._node, gradient, retain_graph, leaves)
        for leaf, pending in leaves.values():
            _give(leaf, pending)
    finally:
        _mode.enabled = before


def _walk(root: Function, gradient: Any, retain_graph: bool, leaves: dict[int, tuple[Tensor, _Pending]]) -> None:
    from lucid.ops._function import Function

    pending: dict[Function, _Pending] = {root: _Pending(gradient, False)}
    heap = [(-root.seq, root)]
    while heap:
        node = heappop(heap)[1]
        arrived = pending.pop(node)
        if node.hooks or node.keeper is not None:
            _observe(node, arrived)
        there = _there(node, pending)
        grads = node.run_backward(backend_for(node.device), arrived.array, None if there is None else there.array)
        del arrived
        edges, lent, first = node.edges, node.lent, 0
        if there is not None and edges is not None:
            there.array, there.owned = grads[0], True
            edges, grads, first = edges[1:], grads[1:], 1
        if not retain_graph:
            node.release()
        for i, (edge, grad) in enumerate(zip(edges, grads, strict=False), first):  # type: ignore[arg-type]
            if edge is None or grad is None:
                continue
            if isinstance(edge, Function):
                there = pending.get(edge)
                if there is None:
                    pending[edge] = _Pending(grad, i not in lent)
                    heappush(heap, (-edge.seq, edge))
                    continue
            else:
                known = leaves.get(id(edge))
                if known is None:
                    leaves[id(edge)] = (edge, _Pending(grad, i not in lent))
                    continue
                there = known[1]
            there.array = backend_for(edge.device).binary("add", there.array, grad)
            there.owned = True
        del grads, node, edges
        grad = edge = there = known = None


def _there(node: Function, pending: dict[Function, _Pending]) -> _Pending | None:
    """What has arrived at a node's first input from elsewhere, if the node can add to it."""
    from lucid.ops._function import Function

    first = node.edges[0] if node.adds and node.edges else None
    return pending.get(first) if isinstance(first, Function) else None


def _observe(node: Function, arrived: _Pending) -> None:
    """Show the complete gradient of an inner result to its hooks, then keep it where that was asked for."""
    if node.hooks:
        _run_hooks(node.hooks, arrived, node.device)
    tensor = None if node.keeper is None else node.keeper()
    if tensor is not None:
        from lucid.tensor import wrap

        # The array goes on through the walk, where it may end as another tensor's gradient: keep a copy.
        kept = arrived.array.copy()
        if tensor.grad is not None:
            kept = backend_for(tensor.device).binary("add", tensor.grad._array, kept)
        tensor.grad = wrap(kept, tensor.device)


def _run_hooks(hooks: dict[int, Callable[[Tensor], Tensor | None]], arrived: _Pending, device: str) -> None:
    from lucid.tensor import Tensor, wrap

    for hook in list(hooks.values()):
        shape, dtype = arrived.array.shape, arrived.array.dtype
        replaced = hook(wrap(arrived.array, device))
        arrived.owned = False  # the hook may have kept it
        if replaced is None:
            continue
        fits = isinstance(replaced, Tensor) and replaced.device == device
        if not fits or replaced.shape != shape or replaced.dtype != dtype:
            raise RuntimeError(
                f"a gradient hook returned {_describe(replaced)}; may return None or a {dtype} Tensor of shape {shape} "
                f"on {device!r}"
            )
        arrived.array = replaced._array


def _describe(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        where = f" on {value.device!r}" if hasattr(value, "device") else ""
        return f"a {value.dtype} {type(value).__name__} of shape {tuple(value.shape)}{where}"
    return repr(value)


def _give(leaf: Tensor, pending: _Pending) -> None:
    """Add a complete gradient to ``leaf.grad``."""
    from lucid.tensor import check_devices, wrap

    if leaf._hooks:
        _run_hooks(leaf._hooks, pending, leaf.device)
    if leaf.grad is not None:
        check_devices("backward, adding to grad", leaf, leaf.grad)
        leaf.grad = wrap(backend_for(leaf.device).binary("add", leaf.grad._array, pending.array), leaf.device)
    else:
        leaf.grad = wrap(pending.array if pending.owned else pending.array.copy("K"), leaf.device)
