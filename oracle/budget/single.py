"""One traced operation by itself: what it should make of what it is fed, and how far a healthy implementation may be.

It is run in float64 and, where it is composed, several times more with each of its parts disturbed
(`oracle.budget.parts`). An element's variance is what these runs show of it; `MARGIN` is for how little that is.
What moves data is exact forward; backward it adds up what it had handed to several.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from oracle.budget.driven import Disturbance, Roundoff, Setting
from oracle.budget.parts import DisturbedParts
from oracle.graph.graph import Node
from oracle.operations import operation_of
from oracle.operations.operation import EXACT, Array, Expected, Feed, channel_axis, gradient_note, parameter
from oracle.precision.rounding import Deviation, Rounding, mean_square, plain_chain

RUNS = 16
MARGIN = 2.0
DISTURBED = 2.0**-14  # finer precisions are disturbed as coarsely as this, and what comes of it is scaled down


def expected_of_one(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """Every tensor that a traced operation should make of ``feed``."""
    operation = _Operation(node, feed)
    exact = operation.run(feed.gradient)
    if operation_of(node).errs.way == "moves":
        deviations = [EXACT, *_added_up(operation, feed, rounding)]
    else:
        deviations = _spread(operation, feed, exact, rounding)
    yield Expected("activation", node.name, exact[0], deviations[0], channel_axis(exact[0]))
    for what, array, deviation in zip(operation.leaves, exact[1:], deviations[1:], strict=True):
        if isinstance(what, str):
            yield parameter(node, what, array, deviation)
        else:
            note = gradient_note(what)
            yield Expected("activation_gradient", node.name, array, deviation, channel_axis(array), note, place=what)


class _Operation:
    """An operation, with what it is fed as leaves.

    Attributes:
        leaves: of which there are gradients: inputs by place, parameters by role.
    """

    def __init__(self, node: Node, feed: Feed) -> None:
        self.node, self._feed = node, feed
        self._setting = Setting(feed.training, feed.labels)
        floats = [place for place, each in enumerate(feed.inputs) if each.dtype.kind == "f"]
        self.leaves: list[int | str] = [*floats, *node.parameters] if feed.gradient is not None else []

    def run(self, gradient: Array | None, disturb: Disturbance | None = None) -> list[Array]:
        """What it makes, and the gradients of the leaves."""
        inputs = [torch.from_numpy(np.array(each)) for each in self._feed.inputs]
        parameters = {role: torch.from_numpy(np.array(value)) for role, value in self._feed.parameters.items()}
        wanted: list[Tensor] = [inputs[of] if isinstance(of, int) else parameters[of] for of in self.leaves]
        for leaf in wanted:
            leaf.requires_grad_()
        with DisturbedParts(disturb) if disturb is not None else torch.enable_grad():
            y = operation_of(self.node).compute(self.node, inputs, parameters, self._setting)
            found = (
                []
                if gradient is None
                else torch.autograd.grad(y, wanted, torch.from_numpy(gradient), allow_unused=True)
            )
        gradients = [torch.zeros_like(x) if dx is None else dx for x, dx in zip(wanted, found, strict=True)]
        return [each.detach().numpy() for each in (y, *gradients)]


def _added_up(operation: _Operation, feed: Feed, rounding: Rounding) -> list[Deviation]:
    """Of each gradient of what moves data: a sum of as many terms as it was handed to, where it is stored."""
    if feed.gradient is None:
        return []
    terms = operation.run(np.ones_like(feed.gradient))[1:]
    sizes = operation.run(np.abs(feed.gradient))[1:]
    most = [float(np.abs(each).max(initial=0.0)) for each in terms]
    return [
        EXACT if many <= 1 else Deviation(plain_chain(rounding.coarsest, many, size))
        for many, size in zip(most, sizes, strict=True)
    ]


def _spread(operation: _Operation, feed: Feed, exact: Sequence[Array], rounding: Rounding) -> list[Deviation]:
    """Of each tensor, from disturbed runs; one rounding of the result besides."""
    magnified = max(1.0, DISTURBED / rounding.store)
    roundoff = Roundoff(
        rounding.store,
        rounding.operand,
        rounding.sums,
        0.0,
        2 * rounding.least,
        rounding.between,
        rounding.truncated,
    ).times(magnified)
    squares = [np.zeros(each.shape) for each in exact]
    for seed in range(RUNS):
        drawn = int.from_bytes(hashlib.sha256(f"{operation.node.name}/{seed}".encode()).digest()[:16], "little")
        made = operation.run(feed.gradient, Disturbance(roundoff, np.random.Generator(np.random.SFC64(drawn))))
        for total, found, true in zip(squares, made, exact, strict=True):
            total += np.square((found - true) / magnified)
    once = mean_square(rounding.sums)
    return [
        Deviation(MARGIN**2 * total / RUNS + once * np.square(true), total / RUNS)
        for total, true in zip(squares, exact, strict=True)
    ]
