"""Optional packages: imported when they are asked for, and a clear sentence where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

EXTRA = "lucid-oracle[onnx]"


def need(package: str, purpose: str) -> ModuleType:
    """Import ``package``.

    Raises:
        ImportError: it is not installed, or broken; the sentence says what to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs the package {package} ({error}); install it with: pip install '{EXTRA}'"
        ) from error
