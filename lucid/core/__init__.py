"""What every operation stands on: dtypes, devices, tensors, the nodes of a graph and the walk back through it.

Nothing here knows an operation. ``lucid.backends`` is below, ``lucid.ops`` above; the public names are in ``lucid``.
"""

from __future__ import annotations

ARITHMETIC_VERSION = 1
"""The version of ``ARITHMETIC.md`` that this lucid computes by."""
