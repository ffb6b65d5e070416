"""The element types where the original has them: those of ``lucid.dtypes``, and ``Numeric``, their class."""

# ruff: noqa: F403

from __future__ import annotations

import numpy as np

from lucid.core.dtypes import *
from lucid.core.dtypes import __all__ as _dtypes

__all__ = ["Numeric", *_dtypes]

Numeric = np.dtype
"""The class of element types: ``isinstance(lucid.Float32, lucid.types.Numeric)``."""
