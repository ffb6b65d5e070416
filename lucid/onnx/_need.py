"""Optional packages: imported when they are asked for, and a clear sentence where they are missing."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

EXTRA = "lucid-oracle[onnx]"


def need(package: str, purpose: str, install: str = EXTRA) -> ModuleType:
    """Import ``package``, which comes with ``install``; onnxruntime without its telemetry.

    Raises:
        ImportError: it is not installed, or broken; the sentence says what to install.
    """
    try:
        if package == "onnxruntime":
            return _onnxruntime()
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs the package {package} ({error}); install it with: pip install '{install}'"
        ) from error


def _onnxruntime() -> ModuleType:
    """ONNX Runtime, which since 1.29 writes an identifier into the user's home and looks up a host as soon as it is
    imported, unless it is told not to before. Whoever wants that sets the variable to 0.

    Source: https://github.com/microsoft/onnxruntime/pull/27379
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    runtime = importlib.import_module("onnxruntime")
    if os.environ["ORT_DISABLE_TELEMETRY"] != "0":
        runtime.disable_telemetry_events()  # where somebody imported it before
    return runtime
