"""Devices by name, how arrays come to them and back, and what is checked when values come back.

A tensor knows its device as a string; the backend that serves it is found by ``lucid.backends.backend_for``. A GPU
works behind the program's back: only reading a value waits for it. So what an operation would have to read in order to
refuse its input is checked when the program itself next reads a value (``refuse_where``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.backends import Backend, backend_for, loaded_backends
from lucid.backends._settings import MOST_THREADS, THREADS, extension
from lucid.backends.base import dense_order

__all__ = ["empty_cache", "get_default_device", "get_num_threads", "set_default_device", "set_num_threads"]

DEVICES = ("cpu", "gpu")
_ELSEWHERE = ("cuda", "hip", "rocm", "nvidia")  # what others call a GPU
_default_device = "cpu"


def get_default_device() -> str:
    """The device of tensors and modules that are made without naming one.

    Example:
        >>> import lucid
        >>> lucid.get_default_device()
        'cpu'
    """
    return _default_device


def set_default_device(device: str) -> None:
    """Let tensors and modules be made on ``device`` where none is named.

    Raises:
        ValueError: it is not the name of a device.
        RuntimeError: it is, but nothing here can serve it.

    Example:
        >>> import lucid
        >>> lucid.set_default_device("cpu")
        >>> lucid.zeros(2).device
        'cpu'
    """
    global _default_device
    backend_for(check_device(device))
    _default_device = device


def check_device(device: str | None) -> str:
    """``device``, or the default one for None, if it names a device (``backend_for`` says if nothing serves it).

    Raises:
        ValueError: it is not.
    """
    if device is None:
        return _default_device
    if device in DEVICES:
        return device
    raise ValueError(f"device: got {device!r}; may be 'cpu' or 'gpu'{_hint(device)}")


def _hint(device: Any) -> str:
    kind, colon, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if colon and number.isdigit() and kind in (*DEVICES, *_ELSEWHERE):
        return " without a number: there is one GPU, the first that CUDA_VISIBLE_DEVICES leaves"
    return ", which is what lucid calls an NVIDIA GPU" if kind in _ELSEWHERE else ""


def names_device(target: Any) -> bool:
    """Whether ``target`` of a ``to`` is meant as a device: text that is no dtype."""
    if not isinstance(target, str) or target in DEVICES:
        return isinstance(target, str)
    try:
        np.dtype(target)
    except TypeError:
        return True
    return False


def move(array: Any, device: str) -> Any:
    """``array`` (of any device) as an array of ``device``, in the same memory order; the same one if it is there.

    Raises:
        RuntimeError: nothing here can serve the device.
    """
    return place(backend_for(device), array)


def place(be: Backend, array: Any) -> Any:
    """``array`` as one of a backend's; otherwise as ``move``."""
    xp = be.xp
    if isinstance(array, xp.ndarray):
        return array
    array = to_numpy(array)
    if xp is np:
        return array
    if array.ndim == 0:  # CuPy takes -0.0 without axes for 0.0
        return xp.asarray(array.reshape(1)).reshape(())
    order = dense_order(array)
    if order is None:
        return xp.asarray(np.ascontiguousarray(array))
    return xp.asarray(array.transpose(order)).transpose(np.argsort(order).tolist())


def to_numpy(array: Any) -> np.ndarray[Any, Any]:
    """A backend's array, or another library's, as a NumPy array; copied only if it lies on another device.

    Raises:
        Exception: what ``refuse_where`` has put off.
    """
    if isinstance(array, np.ndarray):
        return array
    for backend in loaded_backends():
        xp = backend.xp
        if xp is not np and isinstance(array, xp.ndarray):
            order = dense_order(array)
            if order is None:
                copy = xp.asnumpy(array)
            else:
                copy = xp.asnumpy(array.transpose(order)).transpose(np.argsort(order).tolist())
            _raise_pending()
            return copy
    return np.asarray(array)


# -- checks that would wait for a device -----------------------------------------------------------------------------

_MOST_PENDING = 1024
_pending: list[tuple[Backend, Any, Callable[[int, float], Exception]]] = []


def refuse_where(be: Backend, bad: Any, values: Any, error: Callable[[int, float], Exception]) -> None:
    """Raise ``error(place, value)`` for the first place where ``bad`` is true; ``values`` holds what stands there.

    Both have one axis. On a backend that computes behind the program's back this does not wait: the error is raised
    when a value is next read from a device (or after ``1024`` checks), and until then the caller must be safe with
    what is there.
    """
    if be.name == "shapes":  # which has no values
        return
    if not be.asynchronous:
        if bad.any():
            place = int(bad.argmax())
            raise error(place, values[place].item())
        return
    if not bad.size:
        return
    xp = be.xp
    place = xp.argmax(bad)
    found = [xp.any(bad), place, xp.take(values, place)]
    _pending.append((be, xp.stack([part.astype(np.float64) for part in found]), error))
    if len(_pending) >= _MOST_PENDING:
        _raise_pending()


def _raise_pending() -> None:
    """Raise the first error that was put off, if there is one."""
    waiting, _pending[:] = list(_pending), []
    for be, record, error in waiting:
        recorded, place, value = be.xp.asnumpy(record).tolist()
        if recorded:
            raise error(int(place), value)


def set_num_threads(threads: int) -> None:
    """Let the native kernels use ``threads`` threads. Results do not depend on it.

    Where the system does not let so many be made, the kernels go on with those that there are.

    Raises:
        ValueError: fewer than one, or more than 1024.

    Example:
        >>> import lucid
        >>> before = lucid.get_num_threads()
        >>> lucid.set_num_threads(1)
        >>> lucid.get_num_threads()
        1
        >>> lucid.set_num_threads(before)
    """
    global _threads
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads: got {threads!r}; may be {THREADS}")
    native = _native()
    if native is not None:
        native.set_num_threads(threads)
    _threads = threads


def empty_cache() -> int:
    """Give memory that results have left, and that is kept for the next, back to the system; returns how many bytes.

    The native kernels keep at most a quarter more than results alone have taken at their most, or 256 MiB. Arrays that
    are in use are not touched.

    Example:
        >>> import lucid
        >>> _ = lucid.empty_cache()
        >>> lucid.empty_cache()
        0
    """
    native = _native()
    return int(native.empty_store()) if native is not None else 0


def get_num_threads() -> int:
    """How many threads the native kernels use."""
    native = _native()
    return int(native.num_threads()) if native is not None else _threads


_threads = 1


def _native() -> Any:
    """The compiled extension, or None: the reference backend has one thread whatever is asked for."""
    try:
        return extension()
    except ImportError:
        return None
