"""The law, executed: ``lucid/ARITHMETIC.md`` in NumPy alone, kernel by kernel. Every other backend is judged by it.

A kernel is the body of its declaration in ``lucid/kernels/*/reference.py``, written to be read beside the text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.backends.base import Backend
from lucid.kernels.declare import Kernel, bind


class ReferenceBackend(Backend):
    """The law in NumPy."""

    name = "reference"
    xp = np


def _method(k: Kernel) -> Any:
    return staticmethod(k.reference)


bind(ReferenceBackend, _method)
