"""Which backends the tests run on, and on which device.

All that can run here, each on its own device; ``LUCID_TEST_BACKENDS`` names others, separated by commas. What is asked
for and cannot run here is an error, never a skip. To test a new backend is to name it there. What a device other than
the CPU must do besides is also tried on ``strict`` and ``strict_cuda`` (support/strict.py), which are a GPU to
everything above them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import lucid
from lucid.backends import available_backends, device_of, get_backend, use_backend
from support import strict  # noqa: F401 (it adds its backend to the known ones)

STRICT = ("strict", "strict_cuda")


def _tested() -> dict[str, str]:
    names = [name for name in os.environ.get("LUCID_TEST_BACKENDS", "").split(",") if name]
    for name in names:
        get_backend(name)
    return {name: device_of(name) for name in names or available_backends() if names or name not in STRICT}


BACKENDS = _tested()
"""The backends that the tests run on, and the device that each serves. All are held to the bits of ``reference``."""

ON_GPU = [name for name in available_backends("gpu") if name in STRICT or BACKENDS.get(name) == "gpu"]
"""Those of them that serve ``"gpu"``, and the strict ones."""


@contextlib.contextmanager
def on(name: str) -> Iterator[str]:
    """Inside, the backend ``name`` serves its device, and that is the default device."""
    device, before = device_of(name), lucid.get_default_device()
    with use_backend(name, device):
        lucid.set_default_device(device)
        try:
            yield name
        finally:
            lucid.set_default_device(before)
