"""Which backends the tests run on, and on which device.

All that can run here, and ``strict`` (support/strict.py), which is a GPU to everything above it.
``LUCID_TEST_BACKENDS`` names others, separated by commas; ``LUCID_TEST_DEVICE=gpu`` takes the GPU's alone and makes it
the default device, so that the whole suite runs there. What is asked for and cannot run here is an error, never a skip.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import lucid
from lucid.backends import BACKENDS as KNOWN
from lucid.backends import available_backends, device_of, get_backend, set_backend, use_backend
from support import strict  # noqa: F401 (it adds its backend to the known ones)


def _tested() -> dict[str, str]:
    names = [name for name in os.environ.get("LUCID_TEST_BACKENDS", "").split(",") if name]
    if DEVICE == "gpu":
        names = names or ["cuda"]
        set_backend(names[0], "gpu")
        lucid.set_default_device("gpu")
        return dict.fromkeys(names, "gpu")
    if DEVICE not in (None, "cpu"):
        raise ValueError(f"LUCID_TEST_DEVICE: got {DEVICE!r}; may be cpu or gpu")
    for name in names:
        get_backend(name)
    return {name: device_of(name) for name in names or available_backends() if names or name != "strict"}


DEVICE = os.environ.get("LUCID_TEST_DEVICE")
BACKENDS = _tested()
"""The backends that the tests run on, and the device that each serves. All are held to the bits of ``reference``."""

ON_GPU = [name for name in BACKENDS if "gpu" in KNOWN[name].devices] or ["strict"]
"""Those of them that can serve ``"gpu"``."""


@contextlib.contextmanager
def on(name: str) -> Iterator[str]:
    """Inside, the backend ``name`` serves its device, and that is the default device."""
    device, before = BACKENDS.get(name) or device_of(name), lucid.get_default_device()
    with use_backend(name, device):
        lucid.set_default_device(device)
        try:
            yield name
        finally:
            lucid.set_default_device(before)
