"""What an operation declares: the shape of what it makes, how it errs, whether it decides, and its float64 results.

An operation errs in one of four ways (`Errs`). It *moves* data and is exact; it *rounds* its result so many times an
element; it *sums* so many terms; or it is *composed*, and its budget comes from disturbed float64 runs of its parts.
Where a bound derived by hand is sharper, ``makes`` has it. `oracle.operations` holds the table, a family a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from oracle.graph.graph import Node, Shape
from oracle.precision.rounding import Deviation, Rounding
from oracle.trace import Kind

Array = np.ndarray[Any, Any]
Decision = Literal["", "side", "winner"]


@dataclass(frozen=True)
class Expected:
    """One tensor that an operation should make.

    Args:
        kind: what it is.
        name: the value or parameter.
        exact: its value, float64.
        deviation: what a healthy implementation may deviate by.
        channel: the axis of its channels; ``None`` where each element is its own.
        note: says which tensor it is where the name does not.
        squares: of a contraction, for each element the sum of its squared products.
        place: of the gradient of an input, which one.
    """

    kind: Kind
    name: str
    exact: Array
    deviation: Deviation
    channel: int | None = None
    note: str = ""
    squares: Array | None = None
    place: int = 0


@dataclass(frozen=True)
class Feed:
    """What an operation is fed: its inputs, its output's gradient (``None`` forward alone), its parameters and
    statistics by role, the labels of the loss, whether it normalises by the batch, and of one that decides by the sign
    where it lets pass, if that is known."""

    inputs: tuple[Array, ...]
    gradient: Array | None
    parameters: Mapping[str, Array]
    labels: Array
    training: bool
    passed: Array | None = None

    def widened(self) -> Feed:
        """All of it in float64, but for tokens."""
        return replace(
            self,
            inputs=tuple(each.astype(np.float64) if each.dtype.kind == "f" else each for each in self.inputs),
            gradient=None if self.gradient is None else self.gradient.astype(np.float64),
            parameters={role: value.astype(np.float64) for role, value in self.parameters.items()},
        )


@dataclass(frozen=True)
class Errs:
    """How an operation errs.

    Args:
        way: ``moves``, ``rounds``, ``sums`` or ``composed``.
        roundings: of one that rounds, how many an element.
        terms: of one that sums, how many terms, from the operation and the shape of its first input.
    """

    way: Literal["moves", "rounds", "sums", "composed"]
    roundings: int = 1
    terms: Callable[[Node, Shape], float] = lambda node, shape: 1.0


MOVES = Errs("moves")
COMPOSED = Errs("composed")

Made = Mapping[str, Expected]  # by role: ``output``, ``input`` (its gradient), or a parameter's or statistic's role
Makes = Callable[[Node, Feed, Rounding], Iterator[Expected]]
Grants = Callable[[Node, Feed, Made, float, float], dict[str, Deviation]]


@dataclass(frozen=True)
class Operation:
    """One entry of the table.

    Args:
        name: what graphs call it.
        errs: in which way.
        shape: the shapes of its outputs, from those of its inputs and of its parameters by role.
        compute: its output in PyTorch before it decides by the sign, from its inputs, its parameters by role and a
            `oracle.budget.driven.Setting`.
        describe: it in words, from the shapes as ``shape`` takes them.
        decides: whether it decides, by the sign of what it takes (``side``) or by the largest of several (``winner``).
        makes: every tensor that it should make of a feed, with the bounds derived by hand.
        grants: by role, what one rounding of everything that it takes does to what it makes, to first order.
        fan: how many elements of a result (by role) one element of what it takes enters.
    """

    name: str
    errs: Errs
    shape: Callable[[Node, Sequence[Shape], Mapping[str, Shape]], tuple[Shape, ...]]
    compute: Callable[[Node, Sequence[Any], Mapping[str, Any], Any], Any]
    describe: Callable[[Node, Sequence[Shape], Mapping[str, Shape]], str]
    decides: Callable[[Node], Decision] = lambda node: ""
    makes: Makes | None = None
    grants: Grants | None = None
    fan: Callable[[Node, str, Mapping[str, Array]], float] = lambda node, role, parameters: 1.0


EXACT = Deviation(0.0)


def output(node: Node, exact: Array, deviation: Deviation, squares: Array | None = None) -> Expected:
    """What it returns."""
    return Expected("activation", node.name, exact, deviation, channel_axis(exact), squares=squares)


def gradient_note(place: int) -> str:
    """What the gradient of an input is called."""
    return "the gradient of its input" if place == 0 else f"the gradient of its input {place + 1}"


def input_gradient(node: Node, exact: Array, deviation: Deviation, squares: Array | None = None) -> Expected:
    """The gradient that it hands back."""
    return Expected("activation_gradient", node.name, exact, deviation, channel_axis(exact), gradient_note(0), squares)


def parameter(node: Node, role: str, exact: Array, deviation: Deviation, squares: Array | None = None) -> Expected:
    """The gradient of a parameter."""
    channel = 0 if exact.ndim > 1 else None
    return Expected("parameter_gradient", node.parameters[role], exact, deviation, channel, squares=squares)


def channel_axis(array: Array) -> int | None:
    """Channels are axis 1 of whatever has positions behind it."""
    return 1 if array.ndim > 2 else None


def same_shape(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> tuple[Shape, ...]:
    """The shape of an operation on elements."""
    return (inputs[0],)


def both(one: Deviation, other: Deviation) -> Deviation:
    """Two independent causes of deviation."""
    return Deviation(one.own + other.own, one.shared + other.shared, one.bias + other.bias)
