"""What one operation should make of what it is fed, and how far a healthy implementation may be from it.

Everything is computed in float64 from the very numbers that the subject is fed; contractions by lucid's float64
kernels, whose agreement with PyTorch in float64 the tests check. Each operation declares its own bounds
(`oracle.operations`); `oracle.precision.rounding` is the error model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from oracle.graph.graph import Node
from oracle.operations import operation_of
from oracle.operations.operation import EXACT, Array, Expected, Feed, channel_axis
from oracle.precision.rounding import Deviation, Rounding, mean_square, plain_chain


def expected(node: Node, feed: Feed, rounding: Rounding) -> list[Expected]:
    """Every tensor that an operation should make of ``feed``; none where no bounds were derived by hand, and PyTorch is
    not installed, in which they are found otherwise."""
    makes = operation_of(node).makes
    if makes is None:
        try:
            from oracle.budget.single import expected_of_one
        except ImportError:
            return []
        makes = expected_of_one
    return [
        replace(each, deviation=each.deviation.stored(each.exact, rounding)) if each.deviation is not EXACT else each
        for each in makes(node, feed.widened(), rounding)
    ]


def role_of(node: Node, each: Expected) -> str:
    """Which of an operation's tensors: ``output``, ``input`` (its gradient) or a parameter's or statistic's role."""
    if each.kind == "activation_gradient":
        return "input"
    return node.role(each.name) if each.kind in ("parameter_gradient", "statistic") else "output"


def granted(node: Node, feed: Feed, made: Sequence[Expected], rounding: Rounding) -> Mapping[str, Deviation]:
    """What one rounding of everything that an operation takes does to everything that it makes, to first order.

    Args:
        node: which operation.
        feed: what it takes.
        made: what it makes.
        rounding: whose ``store`` rounds it.

    Returns:
        By `role_of`, the variances.
    """
    grants = operation_of(node).grants
    assert grants is not None
    wide, unit = feed.widened(), mean_square(rounding.store)
    # Below the smallest normal number a rounding no longer shrinks with what it rounds: as if all were larger by that.
    floor = rounding.least / rounding.store
    found = grants(node, wide, {role_of(node, each): each for each in made}, unit, floor)
    contracts = any(each.squares is not None for each in made)
    if not contracts or rounding.store <= rounding.sums or not _is_small(wide, rounding):
        return found
    larger = replace(
        wide,
        inputs=tuple(np.hypot(each, floor) for each in wide.inputs),
        gradient=None if wide.gradient is None else np.hypot(wide.gradient, floor),
    )
    remade = {role_of(node, each): each for each in expected(node, larger, rounding)}
    return grants(node, larger, remade, unit, floor)


def _is_small(feed: Feed, rounding: Rounding) -> bool:
    """Whether what an operation takes is so near the storage type's smallest normal number that this shows."""
    least = 64 * rounding.least / rounding.store
    taken = (*feed.inputs, *([] if feed.gradient is None else [feed.gradient]))
    return any(float(np.vdot(each, each)) < least**2 * each.size for each in taken)


def expected_arrivals(
    node: Node, own: Array, within: Mapping[str, Node], input_gradients: Mapping[str, Array], rounding: Rounding
) -> Iterator[Expected]:
    """The gradient that should reach what an operation's code takes and the output of each operation inside of it: the
    sum over whoever takes that value, one rounding for each after the first, where it is stored.

    Args:
        node: the operation that has code.
        own: the gradient that it hands back itself.
        within: the operations inside of its code, by name.
        input_gradients: what each of them hands back.
        rounding: the subject's.
    """
    for name in (node.source, *within):
        parts = [own for end in node.inputs if end == name]
        parts += [input_gradients[taker.name].astype(np.float64) for taker in within.values() if name in taker.inputs]
        exact = np.sum(parts, axis=0)
        deviation = EXACT
        if len(parts) > 1:
            magnitude = np.sum(np.abs(parts), axis=0)
            deviation = Deviation(plain_chain(rounding.coarsest, len(parts) - 1, magnitude))
        note = f"the gradient that reaches {name}"
        yield Expected("activation_gradient", node.name, exact, deviation, channel_axis(exact), note)
