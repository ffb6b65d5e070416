"""Devices by name, and how arrays come to them and back.

A tensor knows its device as a string; the backend that serves it is found by ``lucid.backends.backend_for``.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from lucid.backends import _DEVICE_BACKENDS, backend_for

__all__ = ["get_num_threads", "set_num_threads"]

_KNOWN = ("cpu", "gpu")


def check_device(device: str) -> str:
    """``device`` if a backend exists for it.

    Raises:
        ValueError: it is not the name of a device.
        RuntimeError: it is, but nothing here can serve it.
    """
    if device in _DEVICE_BACKENDS:
        return device
    if device in _KNOWN:
        raise RuntimeError(f"device: got {device!r}, which no backend serves here; may be 'cpu'")
    raise ValueError(f"device: got {device!r}; may be 'cpu' or 'gpu'")


def move(array: Any, device: str) -> Any:
    """``array`` (of any device) as an array of ``device``; the same one if it is there already."""
    return backend_for(device).xp.asarray(to_numpy(array) if device == "cpu" else array)


def to_numpy(array: Any) -> np.ndarray[Any, Any]:
    """A backend's array, or another library's, as a NumPy array; copied only if it lies on another device."""
    if isinstance(array, np.ndarray):
        return array
    return array.get() if hasattr(array, "get") else np.asarray(array)


def set_num_threads(threads: int) -> None:
    """Let the native kernels use ``threads`` threads. Results do not depend on it.

    Raises:
        ValueError: fewer than one.

    Example:
        >>> import lucid
        >>> before = lucid.get_num_threads()
        >>> lucid.set_num_threads(1)
        >>> lucid.get_num_threads()
        1
        >>> lucid.set_num_threads(before)
    """
    global _threads
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise ValueError(f"threads: got {threads!r}; may be an integer of at least 1")
    native = _native()
    if native is not None:
        native.set_num_threads(threads)
    _threads = threads


def get_num_threads() -> int:
    """How many threads the native kernels use."""
    native = _native()
    return int(native.num_threads()) if native is not None else _threads


_threads = 1


def _native() -> Any:
    """The compiled extension, or None: the reference backend has one thread whatever is asked for."""
    try:
        return importlib.import_module("_lucid_native")
    except ImportError:
        return None
