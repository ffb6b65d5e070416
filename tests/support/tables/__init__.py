"""The rows of ``tests/lucid/test_ops.py``, one family of operations a file."""

from __future__ import annotations

from support.tables import (
    arranging,
    attention,
    elementwise,
    exact,
    images,
    linalg,
    normalization,
    reductions,
    resizing,
    shapes,
)

ROWS = [
    *elementwise.ROWS,
    *reductions.ROWS,
    *shapes.ROWS,
    *arranging.ROWS,
    *images.ROWS,
    *resizing.ROWS,
    *normalization.ROWS,
    *linalg.ROWS,
    *attention.ROWS,
    *exact.ROWS,
]
