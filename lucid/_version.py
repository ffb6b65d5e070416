"""Which lucid this is. Loaded when it is asked for: looking up what is installed takes longer than importing lucid."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lucid-oracle")
except PackageNotFoundError:
    __version__ = "0+source"
