"""Rearranging, reducing, repeating and contracting by patterns that name axes (``lucid.ops.patterns``)."""

# ruff: noqa: F403

from __future__ import annotations

from lucid.ops.patterns import *
from lucid.ops.patterns import __all__  # noqa: F401
