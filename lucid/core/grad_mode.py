"""Which operations are recorded for a backward pass: a mode of each thread, and what sets it."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import numpy as np

__all__ = ["enable_grad", "grad_enabled", "is_grad_enabled", "no_grad", "set_grad_enabled"]

_Callable = TypeVar("_Callable", bound=Callable[..., Any])


class _Mode(threading.local):
    enabled = True
    recomputing = False
    shapes_alone = False
    differentiated = False


recording = _Mode()
"""Of this thread: whether operations are recorded; whether they are run once more, so that what a first run has left
behind (running statistics) is not to be left again; whether a model is traced, so that there are no values; and whether
the gradient of what is traced is asked for."""


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
    return recording.enabled


is_grad_enabled = grad_enabled


class _ModeContext:
    """Sets this thread's mode for a ``with`` body or a decorated function, and puts the earlier one back."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._before: list[bool] = []  # a stack: one object may be entered again inside itself

    def __enter__(self) -> None:
        self._before.append(recording.enabled)
        recording.enabled = self._enabled

    def __exit__(self, *_: object) -> None:
        recording.enabled = self._before.pop()

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
        self._outside = recording.enabled
        recording.enabled = self._enabled

    def __enter__(self) -> None:
        self._before.append(self._outside)
        recording.enabled = self._enabled

    def __call__(self, function: _Callable) -> _Callable:
        recording.enabled = self._outside  # making it has set the mode, and it is the function's alone
        return super().__call__(function)
