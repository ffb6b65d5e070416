"""The one exception whose text is meant for the person at the keyboard."""

from __future__ import annotations


class UsageError(ValueError):
    """What was asked for cannot be done; the text is one sentence that says why, and what may be given instead."""
