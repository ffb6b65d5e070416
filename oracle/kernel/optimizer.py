"""Steps of optimisers: a parameter afterwards, from its gradient and what is remembered of those before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oracle.kernel.bounded import Bounded
from oracle.kernel.elementwise import LENGTHS
from oracle.kernel.operation import Argument, KernelOperation, Made

_ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "step": 1}


def _moments(
    inputs: list[Bounded], beta1: float, beta2: float, weight_decay: float, decoupled: bool
) -> tuple[Bounded, Bounded, Bounded]:
    """The parameter after decoupled decay, and both moments; a mean may be ``m + (1 - beta) (g - m)``, too."""
    param, grad, mean, square = inputs
    of = param.of
    if not decoupled and weight_decay:
        grad = grad + param * of.constant(weight_decay)
    new_mean = mean * of.constant(beta1) + grad * of.constant(1 - beta1)
    new_mean = new_mean.with_error(2 * of.unit * (np.abs(mean.value) + np.abs(grad.value)) * (1 - beta1))
    new_square = square * of.constant(beta2) + grad * grad * of.constant(1 - beta2)
    return param, new_mean, new_square


def _step(
    inputs: list[Bounded],
    decoupled: bool,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
) -> tuple[Bounded, Bounded, Bounded]:
    param, mean, square = _moments(inputs, beta1, beta2, weight_decay, decoupled)
    of = param.of
    if decoupled:
        param = param * of.constant(1 - lr * weight_decay)
    root = square.sqrt() * of.constant(1 / math.sqrt(1 - beta2**step)) + of.constant(eps)
    moved = mean * of.constant(lr / (1 - beta1**step)) / root
    return param - moved.with_error(2 * of.unit * np.abs(moved.value)), mean, square


def _adam(decoupled: bool) -> Any:
    return lambda inputs, **attributes: _step(inputs, decoupled, **attributes)[0]


def _remembered(decoupled: bool) -> Any:
    """What a kernel may change in place: the parameter, and what it remembers."""

    def changes(inputs: list[Bounded], **attributes: Any) -> Made:
        param, mean, square = _step(inputs, decoupled, **attributes)
        return {0: param, 2: mean, 3: square}

    return changes


def _of_adam(name: str, decoupled: bool) -> KernelOperation:
    return KernelOperation(
        name,
        (
            Argument("param", changed=True),
            Argument("grad"),
            Argument("exp_avg", changed=True),
            Argument("exp_avg_sq", "positive", changed=True),
        ),
        _adam(decoupled),
        None,
        lambda attributes: LENGTHS,
        lambda sizes, attributes: (sizes,) * 4,
        _ADAM,
        ("small", "zeros", "strided"),
        changes=_remembered(decoupled),
        constants=4.0,
    )


OPTIMIZERS = (_of_adam("adam", False), _of_adam("adamw", True))
