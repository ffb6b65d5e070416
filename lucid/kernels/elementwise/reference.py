"""The functions of each element as kernels: sections 5 and 6 of the law. ``functions.py`` has the functions."""

from __future__ import annotations

import numpy as np

from lucid.kernels.declare import Array, kernel
from lucid.kernels.elementwise.functions import FUNCTIONS, power_cube, power_real, power_root, power_whole


@kernel("5, 6", returns=lambda op, x: {"y": (x.shape, x.dtype)})
def unary(op: str, x: Array) -> Array:
    """A function of one value, of every element, by its name in ``lucid.kernels.elementwise.functions``."""
    return np.asarray(FUNCTIONS[op](np.atleast_1d(x)).reshape(x.shape))


@kernel("5, 6", returns=lambda op, a, b: {"y": (np.broadcast_shapes(a.shape, b.shape), a.dtype)})
def binary(op: str, a: Array, b: Array) -> Array:
    """A function of two values, likewise, with NumPy broadcasting."""
    y = FUNCTIONS[op](np.atleast_1d(a), np.atleast_1d(b))
    return np.asarray(y.reshape(np.broadcast_shapes(a.shape, b.shape)))


@kernel("6", returns=lambda x, exponent: {"y": (x.shape, x.dtype)})
def power(x: Array, exponent: float) -> Array:
    """``x ** exponent`` for one Python number."""
    values = np.atleast_1d(x)
    if exponent == 0.5:
        y = power_root(values)
    elif exponent == 3:
        y = power_cube(values)
    elif exponent in (-1, 0, 1, 2):
        y = power_whole(values, int(exponent))
    else:
        y = power_real(values, exponent)
    return np.array(y.reshape(x.shape))  # x itself to the power 1
