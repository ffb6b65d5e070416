"""Products along an axis: section 4.2 of the law."""

from __future__ import annotations

from math import prod

import numpy as np

from lucid.kernels.declare import DENSE, Array, kernel
from lucid.kernels.sums import wide


def along_axis(x: Array, axis: int) -> dict[str, int]:
    """``x`` as (outer, terms, inner)."""
    axis %= x.ndim
    return {"outer": prod(x.shape[:axis]), "terms": x.shape[axis], "inner": prod(x.shape[axis + 1 :])}


def _products(terms: Array) -> Array:
    """Along the first axis, one after the other from the first."""
    return np.multiply.accumulate(terms, axis=0)


@kernel(
    "4.2",
    returns=lambda x, axis: {"y": (x.shape, x.dtype)},
    layout={"x": DENSE, "y": DENSE},
    sizes=along_axis,
)
def cumprod(x: Array, axis: int) -> Array:
    """Along ``axis`` the product of the factors up to each, it included."""
    y = _products(np.moveaxis(wide(x), axis, 0))
    return np.ascontiguousarray(np.moveaxis(y, 0, axis)).astype(x.dtype)


@kernel(
    "4.2",
    returns=lambda dy, x, axis: {"dx": (x.shape, x.dtype)},
    layout={"dy": DENSE, "x": DENSE, "dx": DENSE},
    sizes=lambda dy, x, axis: along_axis(x, axis),
)
def cumprod_grad(dy: Array, x: Array, axis: int) -> Array:
    """The gradient of ``cumprod``, without a division, so that a factor may be 0."""
    if x.size == 0:
        return x.copy()
    factors, dx = np.moveaxis(wide(x), axis, 0), np.moveaxis(wide(dy), axis, 0).copy()
    for i in reversed(range(len(dx) - 1)):
        dx[i] = dx[i] + factors[i + 1] * dx[i + 1]
    dx[1:] = _products(factors)[:-1] * dx[1:]
    return np.ascontiguousarray(np.moveaxis(dx, 0, axis)).astype(x.dtype)
