"""Finding and choosing backends.

A backend is imported when it is first asked for; one that is missing or broken is one clear sentence, not a traceback.
``LUCID_BACKEND`` or ``lucid.set_backend`` chooses what runs ``device="cpu"``; without either it is ``native``, or,
where the compiled extension is missing, ``reference`` with one warning.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator

from lucid.backends.base import Backend

__all__ = ["Backend", "available_backends", "backend_for", "get_backend", "set_backend", "use_backend"]

_CLASSES = {
    "native": ("lucid.backends.native", "NativeBackend"),
    "reference": ("lucid.backends.reference", "ReferenceBackend"),
}
_DEVICE_BACKENDS = {"cpu": ("native", "reference")}
_loaded: dict[str, Backend] = {}
_current: dict[str, Backend] = {}


def get_backend(name: str) -> Backend:
    """The backend called ``name``.

    Raises:
        ValueError: no backend has that name.
        RuntimeError: it exists but cannot run here; the sentence says why.
    """
    if name not in _CLASSES:
        raise ValueError(f"backend: got {name!r}; may be one of {', '.join(sorted(_CLASSES))}")
    if name not in _loaded:
        module, cls = _CLASSES[name]
        try:
            _loaded[name] = getattr(importlib.import_module(module), cls)()
        except ImportError as error:
            raise RuntimeError(f"the {name!r} backend cannot run here: {error}") from error
    return _loaded[name]


def available_backends() -> list[str]:
    """Names of the backends that can run here."""

    def runs(name: str) -> bool:
        try:
            get_backend(name)
        except RuntimeError:
            return False
        return True

    return [name for name in _CLASSES if runs(name)]


def backend_for(device: str) -> Backend:
    """The backend that serves ``device`` now."""
    try:
        return _current[device]
    except KeyError:
        _current[device] = _default(device)
        return _current[device]


def set_backend(name: str, device: str = "cpu") -> None:
    """Let the backend ``name`` serve ``device`` from now on.

    Example:
        >>> import lucid
        >>> lucid.set_backend("reference")
        >>> lucid.set_backend("native")  # doctest: +SKIP
    """
    if name not in _DEVICE_BACKENDS[device]:
        raise ValueError(f"backend: got {name!r}; device {device!r} may use {', '.join(_DEVICE_BACKENDS[device])}")
    _current[device] = get_backend(name)


@contextlib.contextmanager
def use_backend(name: str, device: str = "cpu") -> Iterator[Backend]:
    """``set_backend`` for the body of a ``with`` statement."""
    before = backend_for(device)
    set_backend(name, device)
    try:
        yield _current[device]
    finally:
        _current[device] = before


def _default(device: str) -> Backend:
    chosen = os.environ.get("LUCID_BACKEND")
    if device == "cpu" and chosen:
        return get_backend(chosen)
    first, *rest = _DEVICE_BACKENDS[device]
    try:
        return get_backend(first)
    except RuntimeError as error:
        if not rest:
            raise
        warnings.warn(
            f"lucid runs on its {rest[0]!r} backend, which is exact but slow: {error}. "
            "Install a C++17 compiler and reinstall lucid to get the fast one.",
            RuntimeWarning,
            stacklevel=3,
        )
        return get_backend(rest[0])
