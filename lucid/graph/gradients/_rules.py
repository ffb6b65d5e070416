"""The table of gradient rules, and what enters them.

A rule says what the gradient of an operation's inputs is, in other operations: ``rule(f, dy, y, *inputs)`` gets the
``Function`` (for its attributes), the gradient of the result, the result and the inputs (None where an optional one is
missing), and returns a gradient or None for each input. Constants have none, so that a rule may leave out what nobody
asks for, and what is worked out in vain is dropped from the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid.core.tensor import Tensor, tensor
from lucid.ops import reduction, shape

__all__ = ["LOWERED", "RULES", "differentiates", "lowers", "scalar", "unbroadcast"]

Rule = Callable[..., "Tensor | Sequence[Tensor | None]"]
RULES: dict[str, Rule] = {}
"""By operation, its gradient."""
LOWERED: dict[str, Callable[..., Any]] = {}
"""By operation, what it consists of in a graph of gradients: ``lowered(f, *inputs)`` returns the result, or the result
and, by the number of an input, what a buffer there becomes."""


def differentiates(*operations: str) -> Callable[[Rule], Rule]:
    """Enter the decorated rule for these operations."""

    def enter(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, rule))
        return rule

    return enter


def lowers(operation: str) -> Callable[[Any], Any]:
    """Enter the decorated function as what an operation consists of."""

    def enter(function: Any) -> Any:
        LOWERED[operation] = function
        return function

    return enter


def unbroadcast(dy: Tensor, like: Tensor) -> Tensor:
    """``dy`` summed over the axes along which an operand of the shape of ``like`` was repeated."""
    if dy.shape == like.shape:
        return dy
    front = dy.ndim - like.ndim
    axes = tuple(i for i in range(dy.ndim) if i < front or (like.shape[i - front] == 1 and dy.shape[i] != 1))
    if axes:
        dy = reduction.sum(dy, axes, keepdims=True)
    return shape.reshape(dy, like.shape) if front else dy


def scalar(value: float, like: Tensor) -> Tensor:
    """A number in the dtype of ``like``."""
    return tensor(np.asarray(value, like.dtype))
