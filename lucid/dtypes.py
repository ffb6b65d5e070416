"""The element types under their public path; ``lucid.core.dtypes`` is where they are written."""

# ruff: noqa: F401, F403

from __future__ import annotations

from lucid.core.dtypes import *
from lucid.core.dtypes import __all__, as_dtype
