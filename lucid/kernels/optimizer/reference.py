"""Updates of parameters: section 10 of the law."""

from __future__ import annotations

import numpy as np

from lucid.kernels.declare import Array, kernel
from lucid.kernels.elementwise import functions
from lucid.kernels.elementwise.terms import wide
from lucid.kernels.optimizer.rules import RULES


@kernel("10", returns=lambda *_, **__: {})
def sgd_step(
    param: Array,
    grad: Array,
    velocity: Array | None,
    first: bool,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    """One update, in place in ``param`` and, if ``momentum`` is not 0, in ``velocity`` (written when ``first``)."""
    d = functions.sgd_gradient(grad, param, weight_decay, maximize)
    v = d
    if momentum:
        assert velocity is not None
        v = velocity[...] = functions.sgd_velocity(d, velocity, momentum, dampening, first)
    param[...] = functions.sgd_parameter(param, d, v, lr, momentum, nesterov)


@kernel("10.1", returns=lambda *_, **__: {})
def update(rule: str, param: Array, grad: Array, memory: dict[str, Array], numbers: dict[str, float]) -> None:
    """One update by a rule of ``lucid.kernels.optimizer.rules``, in place in ``param`` and in each of ``memory``."""
    function, names, _ = RULES[rule]
    kept = [param, *[memory.get(name) for name in names]]
    old = [None if array is None else wide(np.atleast_1d(array)) for array in kept]
    new = function(old[0], wide(np.atleast_1d(grad)), *old[1:], **numbers)
    for array, value in zip(kept, new, strict=True):
        if array is not None:
            array[...] = value.reshape(array.shape)
