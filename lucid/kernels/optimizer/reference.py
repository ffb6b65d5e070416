"""Updates of parameters: section 10 of the law."""

from __future__ import annotations

from typing import Any

from lucid.kernels._fma import fma
from lucid.kernels.declare import Array, kernel


def sgd_sizes(
    first: bool,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
) -> dict[str, Any]:
    """The fields of ``Sgd`` of kernels.def."""
    return {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": weight_decay,
        "nesterov": nesterov,
        "maximize": maximize,
        "first": first,
    }


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
    number = param.dtype.type
    d = -grad if maximize else grad
    if weight_decay:
        d = fma(number(weight_decay), param, d)
    if momentum:
        assert velocity is not None
        if first:
            velocity[...] = d
        else:
            fresh = number(1 - dampening) * d if dampening else d
            velocity[...] = fma(number(momentum), velocity, fresh)
        d = fma(number(momentum), velocity, d) if nesterov else velocity
    param[...] = fma(-number(lr), d, param)
