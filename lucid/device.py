"""Devices under their public path; ``lucid.core.device`` is where they are written."""

from __future__ import annotations

from lucid.core.device import (
    MOST_THREADS,
    THREADS,
    empty_cache,
    get_default_device,
    get_num_threads,
    place,
    set_default_device,
    set_num_threads,
    to_numpy,
)

__all__ = [
    "MOST_THREADS",
    "THREADS",
    "empty_cache",
    "get_default_device",
    "get_num_threads",
    "place",
    "set_default_device",
    "set_num_threads",
    "to_numpy",
]
