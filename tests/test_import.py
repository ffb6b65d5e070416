"""Importing lucid is light."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "onnx", "onnxruntime", "cupy", "matplotlib", "safetensors", "rich", "click", "PIL", "scipy")


def test_import_loads_numpy_alone() -> None:
    code = f"import sys, lucid; print([m for m in {HEAVY!r} if m in sys.modules], 'lucid.onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[] False"


def test_import_is_quick() -> None:
    code = "import time; t = time.process_time(); import lucid; print(time.process_time() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < 0.25
