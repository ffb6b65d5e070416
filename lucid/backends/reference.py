"""The law, executed: ``lucid/ARITHMETIC.md`` in NumPy alone, kernel by kernel. Every other backend is judged by it.

A kernel is the body of its declaration in ``lucid/kernels/*/reference.py``, written to be read beside the text. Here
are the functions of each element alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from lucid.backends.base import Array, Backend
from lucid.kernels import _functions as functions
from lucid.kernels.declare import Kernel, bind
from lucid.kernels.sums import wide

quiet = np.errstate  # @quiet(all="ignore"): infinities and NaN are results here, not accidents


class ReferenceBackend(Backend):
    """The law in NumPy. Arguments and results are described in ``base.py``."""

    name = "reference"
    xp = np

    # -- elementwise: §5, §6 -------------------------------------------------------------------------------------------

    _unary: ClassVar[dict[str, Callable[[Array], Array]]] = {
        "neg": np.negative,
        "abs": np.abs,
        "sqrt": np.sqrt,
        "square": lambda x: x * x,
        "reciprocal": lambda x: 1 / x,
        "relu": lambda x: np.where(x <= 0, x.dtype.type(0), x),
        "exp": lambda x: functions.exp64(wide(x)).astype(x.dtype),
        "log": lambda x: functions.log64(wide(x)).astype(x.dtype),
        "sigmoid": lambda x: functions.sigmoid64(wide(x)).astype(x.dtype),
    }
    _binary: ClassVar[dict[str, Callable[[Array, Array], Array]]] = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "maximum": lambda a, b: np.where(np.isnan(a) | (a >= b), a, b),
        "minimum": lambda a, b: np.where(np.isnan(a) | (a <= b), a, b),
        "relu_grad": lambda dy, x: np.where(x <= 0, dy.dtype.type(0), dy),
    }

    @quiet(all="ignore")
    def unary(self, op: str, x: Array) -> Array:
        return np.asarray(self._unary[op](x))

    @quiet(all="ignore")
    def binary(self, op: str, a: Array, b: Array) -> Array:
        return np.asarray(self._binary[op](a, b))

    @quiet(all="ignore")
    def power(self, x: Array, exponent: float) -> Array:
        if abs(exponent) < 2**30 and float(exponent).is_integer():
            return np.asarray(_integer_power(x, int(exponent)))
        if exponent == 0.5:
            return np.asarray(np.sqrt(x))
        y = functions.exp64(exponent * functions.log64(wide(x)))
        return np.asarray(y.astype(x.dtype))


def _integer_power(x: Array, n: int) -> Array:
    """Square and multiply from the lowest bit of ``|n|``."""
    if n == 0:
        return np.ones_like(x)
    result, p, bits = None, x, abs(n)
    while bits:
        if bits & 1:
            result = p if result is None else result * p
        bits >>= 1
        if bits:
            p = p * p
    assert result is not None
    return 1 / result if n < 0 else result.copy()


def _method(k: Kernel) -> Any:
    return staticmethod(k.reference)


bind(ReferenceBackend, _method)
