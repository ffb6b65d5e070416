"""Updates of parameters: section 10 of the law."""

from __future__ import annotations

from lucid.kernels.declare import Array, kernel
from lucid.kernels.elementwise import functions


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
