"""Finding and choosing backends.

A backend is imported when it is first asked for; one that is missing or broken is one clear sentence, not a traceback.
``LUCID_BACKEND`` or ``lucid.set_backend`` chooses what runs ``device="cpu"``; without either it is ``native``, or,
where the compiled extension is missing, ``reference`` with one warning. ``device="gpu"`` is run by ``cuda`` unless
``LUCID_GPU_BACKEND`` or ``lucid.set_backend`` says otherwise. To add a backend is to add its name to ``BACKENDS``.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from lucid.backends import _settings
from lucid.backends._settings import SettingError
from lucid.backends.base import Backend

__all__ = [
    "Backend",
    "SettingError",
    "available_backends",
    "backend_for",
    "check_settings",
    "device_of",
    "get_backend",
    "known_backends",
    "set_backend",
    "use_backend",
]


class Known(NamedTuple):
    """Where a backend is found, the devices that it may serve (its own first), and whether one takes it unasked."""

    module: str
    cls: str
    devices: tuple[str, ...]
    unasked: bool = True


BACKENDS = {
    "native": Known("lucid.backends.native", "NativeBackend", ("cpu",)),
    "reference": Known("lucid.backends.reference", "ReferenceBackend", ("cpu",)),
    "cuda": Known("lucid.backends.cuda", "CudaBackend", ("gpu",)),
    # Its arrays are NumPy's, and it is slow. As a "gpu" it tries a program that moves data where there is none.
    "emulated": Known("lucid.backends.cuda", "EmulatedBackend", ("cpu", "gpu"), unasked=False),
}
_VARIABLES = {"cpu": "LUCID_BACKEND", "gpu": "LUCID_GPU_BACKEND"}
_loaded: dict[str, Backend] = {}
_current: dict[str, Backend] = {}


def known_backends(device: str | None = None) -> list[str]:
    """Names of all backends, or of those that may serve ``device``, whether or not they can run here."""
    return [name for name, known in BACKENDS.items() if device is None or device in known.devices]


def device_of(name: str) -> str:
    """The device that the backend ``name`` serves unless told otherwise.

    Example:
        >>> from lucid.backends import device_of
        >>> device_of("reference"), device_of("cuda")
        ('cpu', 'gpu')
    """
    return _known(name).devices[0]


def _known(name: str) -> Known:
    if name not in BACKENDS:
        raise ValueError(f"backend: got {name!r}; may be one of {', '.join(sorted(BACKENDS))}")
    return BACKENDS[name]


def get_backend(name: str) -> Backend:
    """The backend called ``name``.

    Raises:
        ValueError: no backend has that name.
        RuntimeError: it exists but cannot run here; the sentence says why.
    """
    known = _known(name)
    if name not in _loaded:
        try:
            _loaded[name] = getattr(importlib.import_module(known.module), known.cls)()
        except ImportError as error:
            raise RuntimeError(f"the {name!r} backend cannot run here: {error}") from error
    return _loaded[name]


def loaded_backends() -> list[Backend]:
    """Those that have been asked for so far."""
    return list(_loaded.values())


def available_backends(device: str | None = None) -> list[str]:
    """Names of the backends that can run here, or of those of them that may serve ``device``."""

    def runs(name: str) -> bool:
        try:
            get_backend(name)
        except RuntimeError:
            return False
        return True

    return [name for name in known_backends(device) if runs(name)]


def backend_for(device: str) -> Backend:
    """The backend that serves ``device`` now."""
    try:
        return _current[device]
    except KeyError:
        _current[device] = _default(device)
        return _current[device]


def set_backend(name: str, device: str | None = None) -> None:
    """Let the backend ``name`` serve ``device`` (None: its own device) from now on.

    Raises:
        ValueError: no backend has that name, or it cannot serve that device.
        RuntimeError: it cannot run here; the sentence says why.

    Example:
        >>> import lucid
        >>> from lucid.backends import backend_for
        >>> before = backend_for("cpu").name
        >>> lucid.set_backend("reference")
        >>> backend_for("cpu").name
        'reference'
        >>> lucid.set_backend(before)
    """
    device = device or device_of(name)
    if name in BACKENDS and device not in BACKENDS[name].devices:
        raise ValueError(f"backend: got {name!r}; device {device!r} may use {', '.join(known_backends(device))}")
    _current[device] = get_backend(name)


@contextlib.contextmanager
def use_backend(name: str, device: str | None = None) -> Iterator[Backend]:
    """``set_backend`` for the body of a ``with`` statement."""
    device = device or device_of(name)
    before = _current.get(device)
    set_backend(name, device)
    try:
        yield _current[device]
    finally:
        if before is None:
            _current.pop(device, None)
        else:
            _current[device] = before


def check_settings() -> None:
    """Check every variable of the environment that lucid reads: what a command does first.

    Raises:
        SettingError: one says what cannot be; the sentence names it, its value and what it may be.

    Example:
        >>> from lucid.backends import check_settings
        >>> check_settings()
    """
    for device, variable in _VARIABLES.items():
        _settings.choice(variable, known_backends(device))
    _settings.threads()
    _settings.cache_directory()
    if os.environ.get("LUCID_ISA"):
        with contextlib.suppress(RuntimeError):  # without the native kernels it chooses nothing
            get_backend("native")


def _default(device: str) -> Backend:
    chosen = _settings.choice(_VARIABLES[device], known_backends(device))
    if chosen is not None:
        try:
            return get_backend(chosen)
        except RuntimeError as error:
            raise RuntimeError(f"{_VARIABLES[device]}: got {chosen!r}, but {error}") from error
    first, *rest = [name for name in known_backends(device) if BACKENDS[name].unasked]
    try:
        return get_backend(first)
    except RuntimeError as error:
        if not rest:
            raise RuntimeError(f"device: got {device!r}, but {error}") from error
        warnings.warn(
            f"lucid runs on its {rest[0]!r} backend, which is exact but slow: {error}. "
            "Install a C++17 compiler and reinstall lucid to get the fast one.",
            RuntimeWarning,
            stacklevel=3,
        )
        return get_backend(rest[0])
