"""Operators of training graphs: gradients by lucid's autograd, and the optimizers' updates as ONNX defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import ops
from lucid.autograd import enable_grad, grad
from lucid.core.tensor import Tensor
from lucid.onnx._importer import Call, imports

DOMAIN = "ai.onnx.preview.training"


@imports("Gradient", domain=DOMAIN, gradient=False)
def _import_gradient(call: Call, *operands: Tensor) -> Any:
    """Of the part of the graph from ``xs`` and ``zs`` to ``y``, run again on the operands; of several elements of ``y``
    it is the sum."""
    count = len(call["xs"])
    with enable_grad():
        given = [operand.detach() for operand in operands]
        for leaf in given[:count]:
            leaf.requires_grad = True
        [y] = call["graph"](*given)
        grads = grad(y, given[:count], ops.ones_like(y), allow_unused=True)
    made = [ops.zeros_like(x) if dx is None else dx for x, dx in zip(given, grads, strict=False)]
    return tuple(made) if count > 1 else made[0]


def _parted(call: Call, operands: tuple[Tensor, ...], kinds: int) -> list[tuple[Tensor, ...]]:
    """The operands of each parameter: itself, its gradient, and what the optimizer remembers of it."""
    if len(operands) % kinds:
        raise call.refuse(f"got {len(operands)} tensors; there must be {kinds} for each parameter")
    count = len(operands) // kinds
    return [operands[i::count] for i in range(count)]


def _in_order(results: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(each for kind in zip(*results, strict=True) for each in kind)


@imports("Momentum", domain=DOMAIN, host=(1,))
def _import_momentum(call: Call, rate: Tensor, step: np.ndarray, *operands: Tensor) -> tuple[Tensor, ...]:
    if call["mode"] not in ("standard", "nesterov"):
        raise call.refuse(f"mode is {call['mode']!r}; may be 'standard' or 'nesterov'")
    alpha, beta = call["alpha"], call["beta"] if step.item() > 0 else 1.0
    results = []
    for x, g, v in _parted(call, operands, 3):
        slope = x * call["norm_coefficient"] + g
        v = v * alpha + slope * beta
        results.append((x - rate * (v if call["mode"] == "standard" else slope + v * alpha), v))
    return _in_order(results)


@imports("Adagrad", domain=DOMAIN, host=(1,))
def _import_adagrad(call: Call, rate: Tensor, step: np.ndarray, *operands: Tensor) -> tuple[Tensor, ...]:
    rate = rate / (1.0 + step.item() * call["decay_factor"])
    results = []
    for x, g, h in _parted(call, operands, 3):
        slope = x * call["norm_coefficient"] + g
        h = h + slope * slope
        results.append((x - rate * slope / (ops.sqrt(h) + call["epsilon"]), h))
    return _in_order(results)


@imports("Adam", domain=DOMAIN, host=(1,))
def _import_adam(call: Call, rate: Tensor, step: np.ndarray, *operands: Tensor) -> tuple[Tensor, ...]:
    alpha, beta, count = call["alpha"], call["beta"], step.item()
    if count > 0:
        rate = rate * ((1 - beta**count) ** 0.5 / (1 - alpha**count))
    results = []
    for x, g, v, h in _parted(call, operands, 4):
        slope = x * call["norm_coefficient"] + g
        v = v * alpha + slope * (1 - alpha)
        h = h * beta + slope * slope * (1 - beta)
        x = x - rate * v / (ops.sqrt(h) + call["epsilon"])
        results.append((x * (1 - call["norm_coefficient_post"]), v, h))
    return _in_order(results)
