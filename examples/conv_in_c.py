"""A convolution in C, called through ctypes, held to what healthy kernels return: ``python examples/conv_in_c.py``.

``conv2d`` hands C what it expects. ``careless`` forgets that an array may be a view: the check says so, and shows the
smallest shapes at which it goes wrong.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import oracle

SOURCE = Path(__file__).with_name("conv.c")
Array = np.ndarray[Any, Any]
_FLOATS = ctypes.POINTER(ctypes.c_float)


def build(folder: str) -> ctypes.CDLL:
    """Compile conv.c into ``folder`` and load it."""
    library = Path(folder) / "conv.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def call(library: ctypes.CDLL, x: Array, weight: Array, bias: Array) -> Array:
    """The convolution of three arrays whose elements lie one after the other."""
    (n, c, h, w), (o, _, k, l) = x.shape, weight.shape  # noqa: E741
    y = np.empty((n, o, h - k + 1, w - l + 1), np.float32)
    library.conv(*(each.ctypes.data_as(_FLOATS) for each in (x, weight, bias, y)), n, c, h, w, o, k, l)
    return y


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        library = build(folder)

        def conv2d(x: Array, weight: Array, bias: Array) -> Array:
            return call(library, *map(np.ascontiguousarray, (x, weight, bias)))

        def careless(x: Array, weight: Array, bias: Array) -> Array:
            return call(library, x, weight, bias)

        right, wrong = (oracle.check_kernel(fn, "conv2d") for fn in (conv2d, careless))
        print(right.sentence(), wrong.sentence(), sep="\n")
        return 0 if right.agrees and not wrong.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
