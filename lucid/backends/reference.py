"""The law, executed: ``lucid/ARITHMETIC.md`` in NumPy alone, kernel by kernel. Every other backend is judged by it.

A kernel is the body of its declaration in ``lucid/kernels/*/reference.py``, written to be read beside the text. Here
are the functions of each element alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.backends.base import Array, Backend
from lucid.kernels.declare import Kernel, bind
from lucid.kernels.elementwise import functions
from lucid.kernels.elementwise.functions import FUNCTIONS

quiet = np.errstate  # @quiet(all="ignore"): infinities and NaN are results here, not accidents


class ReferenceBackend(Backend):
    """The law in NumPy. Arguments and results are described in ``base.py``."""

    name = "reference"
    xp = np

    # -- elementwise: §5, §6 -------------------------------------------------------------------------------------------

    @quiet(all="ignore")
    def unary(self, op: str, x: Array) -> Array:
        return np.asarray(FUNCTIONS[op](np.atleast_1d(x)).reshape(x.shape))

    @quiet(all="ignore")
    def binary(self, op: str, a: Array, b: Array) -> Array:
        y = FUNCTIONS[op](np.atleast_1d(a), np.atleast_1d(b))
        return np.asarray(y.reshape(np.broadcast_shapes(a.shape, b.shape)))

    @quiet(all="ignore")
    def power(self, x: Array, exponent: float) -> Array:
        if exponent == 0.5:
            return self.unary("sqrt", x)
        values = np.atleast_1d(x)
        if abs(exponent) < 2**30 and float(exponent).is_integer():
            y = functions.power_whole(values, int(exponent))
        else:
            y = functions.power_real(values, exponent)
        return np.array(y.reshape(x.shape))  # x itself to the power 1


def _method(k: Kernel) -> Any:
    return staticmethod(k.reference)


bind(ReferenceBackend, _method)
