"""Softmax and loss: section 9 of the law."""

from __future__ import annotations

import numpy as np

from lucid.kernels.declare import AXIS_LAST, DENSE, INDEX, Array, Returns, kernel
from lucid.kernels.elementwise import functions
from lucid.kernels.sums import sum_of, wide


def _rows(x: Array, axis: int) -> dict[str, int]:
    classes = x.shape[axis]
    return {"rows": x.size // classes if classes else 0, "classes": classes}


def _losses(logp: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str) -> Returns:
    return {"loss": (target.shape if reduction == "none" else (), logp.dtype), "weight_sum": ((), np.float64)}


@kernel(
    "9",
    returns=lambda x, axis: {"y": (x.shape, x.dtype)},
    layout={"x": AXIS_LAST, "y": AXIS_LAST},
    sizes=lambda x, axis: _rows(x, axis),
    tasks="rows",
)
def log_softmax(x: Array, axis: int) -> Array:
    """``x - log(sum(exp(x)))`` along ``axis``."""
    z = wide(x) - wide(x.max(axis=axis, keepdims=True))
    total = functions.log64(sum_of(np.moveaxis(functions.exp64(z), axis, 0)))
    return (z - np.expand_dims(total, axis)).astype(x.dtype)


@kernel(
    "9",
    returns=lambda dy, y, axis: {"dx": (y.shape, dy.dtype)},
    layout={"dy": AXIS_LAST, "y": AXIS_LAST, "dx": AXIS_LAST},
    sizes=lambda dy, y, axis: _rows(y, axis),
    tasks="rows",
)
def log_softmax_grad(dy: Array, y: Array, axis: int) -> Array:
    """The gradient of ``x``, from the result ``y``."""
    total = np.expand_dims(sum_of(np.moveaxis(dy, axis, 0)), axis)
    return (wide(dy) - functions.exp64(wide(y)) * total).astype(dy.dtype)


@kernel(
    "9",
    returns=_losses,
    layout={"logp": DENSE, "target": INDEX, "weight": DENSE, "loss": DENSE, "weight_sum": DENSE},
    sizes=lambda logp, target, weight, ignore_index, reduction: {
        "rows": logp.shape[0],
        "classes": logp.shape[1],
        "ignore": ignore_index,
        "reduction": reduction,
    },
    tasks="nothing",
)
def nll_loss(
    logp: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str
) -> tuple[Array, Array]:
    """``logp`` ``(N, C)``, ``target`` int64 ``(N,)``; ``reduction`` ``none sum mean``.

    Returns the loss (``(N,)`` or ``()``) and the float64 sum of the weights, which the gradient needs.
    """
    rows = np.flatnonzero(target != ignore_index)
    weights = _weights(weight, target[rows])
    losses = -(weights * wide(logp[rows, target[rows]]))
    weight_sum = np.asarray(sum_of(weights))
    if reduction == "none":
        y = np.zeros(len(target))
        y[rows] = losses
    else:
        y = sum_of(losses) if reduction == "sum" else sum_of(losses) / weight_sum
    return np.asarray(y).astype(logp.dtype), weight_sum


@kernel(
    "9",
    returns=lambda dloss, target, weight, ignore_index, reduction, weight_sum, classes: {
        "dlogp": ((*target.shape, classes), dloss.dtype)
    },
    layout={"dloss": DENSE, "target": INDEX, "weight": DENSE, "weight_sum": DENSE, "dlogp": DENSE},
    sizes=lambda dloss, target, weight, ignore_index, reduction, weight_sum, classes: {
        "rows": target.shape[0],
        "classes": classes,
        "ignore": ignore_index,
        "reduction": reduction,
    },
)
def nll_loss_grad(
    dloss: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    reduction: str,
    weight_sum: Array,
    classes: int,
) -> Array:
    """The gradient of ``logp``, shape ``(N, classes)``."""
    rows = np.flatnonzero(target != ignore_index)
    q = wide(dloss)
    if reduction == "none":
        q = q[rows]
    elif reduction == "mean":
        q = q / weight_sum
    dx = np.zeros((len(target), classes), dloss.dtype)
    dx[rows, target[rows]] = -(_weights(weight, target[rows]) * q)
    return dx


def _weights(weight: Array | None, target: Array) -> Array:
    return np.ones(len(target)) if weight is None else wide(weight)[target]
