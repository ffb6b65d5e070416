"""Define-by-run differentiation: which operations are recorded, and the walk that turns a result into gradients.

An operation that has a differentiable input is itself the node of the graph (``lucid.ops._function.Function``). The
walk is iterative and visits nodes in descending order of creation, which is a topological order, and also the order
in which ``ARITHMETIC.md``, section 5, adds gradients that meet. What a node has saved is dropped as soon as it has
been visited.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lucid.backends import backend_for

if TYPE_CHECKING:
    from lucid.ops._function import Function
    from lucid.tensor import Tensor

__all__ = ["enable_grad", "grad_enabled", "is_grad_enabled", "no_grad", "set_grad_enabled"]

_Callable = TypeVar("_Callable", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True
    walk: _Walk | None = None


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
        return _decorated(type(self).__name__, function, self._enabled)


class _Steps:
    """Runs a generator or an awaitable with a mode that holds inside it alone, not in whoever waits for it."""

    def __init__(self, inner: Any, enabled: bool) -> None:
        self._inner = inner
        self._enabled = enabled

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.run(self._inner.__await__())

    def run(self, inner: Any) -> Generator[Any, Any, Any]:
        step, value = inner.send, None
        while True:
            try:
                with _ModeContext(self._enabled):
                    given = step(value)
            except StopIteration as end:
                return end.value
            try:
                step, value = inner.send, (yield given)
            except GeneratorExit:
                with _ModeContext(self._enabled):
                    inner.close()
                raise
            except BaseException as error:
                step, value = inner.throw, error


def _decorated(name: str, function: Any, enabled: bool) -> Any:
    """``function`` with the mode set while its own code runs."""
    if isinstance(function, type) or not callable(function):
        what = f"the class {function.__name__}" if isinstance(function, type) else repr(function)
        raise TypeError(f"{name}: got {what} to decorate; may be a function (decorate a class's methods one by one)")
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            return (yield from _Steps(generator, enabled).run(generator))

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            return await _Steps(function(*args, **kwargs), enabled)

    elif inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            step = generator.__anext__()
            try:
                while True:
                    given = await _Steps(step, enabled)
                    try:
                        step = generator.asend((yield given))
                    except GeneratorExit:
                        await _Steps(generator.aclose(), enabled)
                        raise
                    except BaseException as error:
                        step = generator.athrow(error)
            except StopAsyncIteration:
                return

    else:

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with _ModeContext(enabled):  # a new one each call: calls may overlap in several threads
                return function(*args, **kwargs)

    return wrapped


class no_grad(_ModeContext):  # noqa: N801 (PyTorch's name)
    """Operations inside are not recorded: their results need no gradient and nothing is kept for one.

    Use it as ``with lucid.no_grad():``, or as the decorator ``@lucid.no_grad()`` or ``@lucid.no_grad`` of a function, a
    generator or a coroutine, inside which alone it holds; it holds for the calling thread.

    Raises:
        TypeError: it decorates a class.

    Example:
        >>> import lucid
        >>> x = lucid.ones(2, requires_grad=True)
        >>> with lucid.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    def __new__(cls, function: Any = None) -> Any:
        return super().__new__(cls) if function is None else _decorated(cls.__name__, function, False)

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

    def __new__(cls, function: Any = None) -> Any:
        return super().__new__(cls) if function is None else _decorated(cls.__name__, function, True)

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_ModeContext):  # noqa: N801
    """Switch recording on or off, at once; used as a context manager, until its body ends; used as a decorator,
    inside the function alone.

    Raises:
        TypeError: ``mode`` is not True or False.

    Example:
        >>> import lucid
        >>> with lucid.set_grad_enabled(False):
        ...     lucid.grad_enabled()
        False
    """

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool | int | np.bool_):
            raise TypeError(f"mode: got {mode!r}; may be True or False, also as @lucid.set_grad_enabled(False)")
        super().__init__(bool(mode))
        self._outside = _mode.enabled
        _mode.enabled = self._enabled

    def __enter__(self) -> None:
        self._before.append(self._outside)
        _mode.enabled = self._enabled

    def __call__(self, function: _Callable) -> _Callable:
        _mode.enabled = self._outside  # making it has set the mode, and it is the function's alone
        return super().__call__(function)


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


class _Walk:
    """One backward pass: what it has found so far, all of which is dropped with it where it fails.

    leaves: gradients on their way to leaves. kept: gradients of inner results that were asked for. notes: what nodes
    leave for nodes visited later (the hooks of modules do), by their own keys.
    """

    __slots__ = ("kept", "leaves", "notes")

    def __init__(self) -> None:
        self.leaves: dict[int, tuple[Tensor, _Pending]] = {}
        self.kept: list[tuple[Tensor, Any]] = []
        self.notes: dict[Any, Any] = {}


def walk_notes() -> dict[Any, Any]:
    """The notes of the pass that this thread is in."""
    walk = _mode.walk
    assert walk is not None
    return walk.notes


def backward(root: Tensor, gradient: Any, retain_graph: bool) -> None:
    """Carry ``gradient`` (an array of ``root``'s shape and dtype) from ``root`` to every leaf that it depends on.

    Tensors are given their gradients after the whole walk and all hooks, so a pass that fails changes no ``grad``.
    """
    walk = _Walk()
    before = _mode.enabled, _mode.walk
    _mode.enabled, _mode.walk = False, walk
    try:
        if root._node is None:
            walk.leaves[id(root)] = (root, _Pending(gradient, False))
        else:
            _walk(root._node, gradient, retain_graph, walk)
        given = [(tensor, _added(tensor, array)) for tensor, array in walk.kept]
        leaves = walk.leaves
        while leaves:  # each array is dropped as its sum is made
            leaf, pending = leaves.pop(next(iter(leaves)))
            given.append((leaf, _complete(leaf, pending)))
            del pending
        for tensor, grad in given:
            tensor._grad = grad
    finally:
        _mode.enabled, _mode.walk = before


def _walk(root: Function, gradient: Any, retain_graph: bool, walk: _Walk) -> None:
    from lucid.ops._function import Function

    leaves = walk.leaves
    pending: dict[Function, _Pending] = {root: _Pending(gradient, False)}
    heap = [(-root.seq, root)]
    while heap:
        node = heappop(heap)[1]
        arrived = pending.pop(node)
        if node.hooks or node.keeper is not None:
            _observe(node, arrived, walk)
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


def _observe(node: Function, arrived: _Pending, walk: _Walk) -> None:
    """Show the complete gradient of an inner result to its hooks, then keep it where that was asked for."""
    if node.hooks:
        _run_hooks(node.hooks, arrived, node.device)
    tensor = None if node.keeper is None else node.keeper()
    if tensor is not None:
        # The array goes on through the walk, where it may end as another tensor's gradient: keep a copy.
        walk.kept.append((tensor, arrived.array.copy()))


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


def _complete(leaf: Tensor, pending: _Pending) -> Tensor:
    """What ``leaf.grad`` is to be, after the leaf's hooks."""
    if leaf._hooks:
        _run_hooks(leaf._hooks, pending, leaf.device)
    if leaf.grad is not None:
        return _added(leaf, pending.array)
    from lucid.tensor import wrap

    return wrap(pending.array if pending.owned else pending.array.copy("K"), leaf.device)


def _added(tensor: Tensor, array: Any) -> Tensor:
    """``array`` as a gradient, with ``tensor.grad`` before it where there is one already."""
    from lucid.tensor import check_devices, misfit_of_grad, wrap

    if tensor.grad is not None:
        check_devices("backward, adding to grad", tensor, tensor.grad)
        problem = misfit_of_grad(tensor, tensor.grad)
        if problem:
            raise ValueError(f"backward, adding to {problem}")
        array = backend_for(tensor.device).binary("add", tensor.grad._array, array)
    return wrap(array, tensor.device)
