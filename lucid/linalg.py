"""Linear algebra of the last two axes, batched, with gradients (``ARITHMETIC.md``, section 14).

Everything is computed in float64 and narrowed once, on the CPU on every backend.
"""

# ruff: noqa: F403 (the public names, each listed by its own module)

from __future__ import annotations

from lucid.ops.linalg import *
from lucid.ops.linalg import __all__ as __all__
