"""A backend that computes shapes and dtypes alone: what a model makes of an input, without making it.

Every result is a single zero, broadcast to the shape that the law's kernel would return, so that the largest network on
the largest image costs no arithmetic and no memory. The tracer and ``summarize`` run models on it; its values mean
nothing. It serves no device by name: ``lucid.nn._dry_run`` lends it to one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.backends.base import Array, Backend
from lucid.kernels.declare import Kernel, bind

NO_RANDOM = (
    "a model that draws random numbers in its forward cannot be traced: draw them before, and pass them as an input"
)


class Abstract(np.ndarray):
    """An array without values: whatever NumPy computes from it is abstract too, and asking for a value is an error."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError(
            "a model that reads the values of its tensors (item, bool, float, tolist of a tensor, or an if on one) "
            "cannot be traced: the run that traces it computes shapes alone"
        )

    item = tolist = __bool__ = __int__ = __float__ = __index__ = __complex__ = _refuse


def abstract(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.broadcast_to(np.zeros((), dtype), shape).view(Abstract)


class ShapeBackend(Backend):
    """The kernels' shapes."""

    name = "shapes"
    xp = np

    def _no_random(self, *_: Any, **__: Any) -> Array:
        raise RuntimeError(NO_RANDOM)

    def from_zero(self, name: str, index: Array, size: int) -> Array:
        return abstract(index.shape, np.int64)

    def nonzero(self, x: Array) -> Array:
        raise RuntimeError(
            "how many elements nonzero, unique and masked_select find depends on values, so they cannot be traced"
        )

    philox = uniform = normal = _no_random


def _method(k: Kernel) -> Callable[..., Any]:
    def method(self: ShapeBackend, *arguments: Any, **named: Any) -> Any:
        results = tuple(abstract(shape, dtype) for shape, dtype in k.returns(*arguments, **named).values())
        return results[0] if len(results) == 1 else results or None

    return method


bind(ShapeBackend, _method)
