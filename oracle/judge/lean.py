"""Whether a whole tensor leans: its error goes along the tensor itself, further than roundings go all together.

In low precision one rounding of an element hides an error of 2 % or more. The mean of many roundings does not: an error
of one sign (a wrong factor, a truncating store, a missing term of a denominator) is measured by its projection on the
tensor, ``<e, t> / <t, t>``, which roundings to nearest leave near zero. How near:

- Elements that are stored as the same number are rounded alike, so what they do together is one error; those of
  different numbers are independent (`in_cells`).
- What an operation takes may have been rounded once more in the dump. One such error enters as many elements of the
  result as the operation has uses for it. Of a convolution all that it does is computed (`of_factors`). Elsewhere its
  effects may all go one way: the variance of the sum is at most so many times, the *fan*, that of independent errors
  (Cauchy and Schwarz). Equal neighbours of what it takes, such as the planes
  that an average pooling's gradient makes, are rounded alike too (`repeats`).
- What a channel shares counts as going one way in all of the channel, and as independent of the other channels.
- Errors of float32 sums count as going one way throughout: hardware may cut partial sums off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.backends import backend_for
from oracle.graph.graph import Node
from oracle.operations.contraction import conv_geometry
from oracle.operations.operation import Feed
from oracle.precision.rounding import REACH, Deviation, Rounding, mean_square

Array = np.ndarray[Any, Any]

NOTE = "as a whole it is {:+.2%} of the tensor off along the tensor itself, where roundings leave {:.2%}"


def in_cells(stored: Array, weights: Array) -> float:
    """The variance of a sum of errors of sizes ``weights``, those of elements that are stored as one number alike.

    Example:
        >>> in_cells(np.array([1.0, 1.0, 2.0], np.float32), np.array([1.0, 1.0, 1.0]))
        5.0
    """
    cells = np.abs(stored).astype(np.float32).view(np.uint32).reshape(-1) >> np.uint32(13)
    return float(np.square(np.bincount(cells, weights.reshape(-1))).sum())


def repeats(taken: Array) -> float:
    """How many of the elements that are not zero go together because their neighbours are equal: 1 where none are.

    Example:
        >>> repeats(np.array([1.0, 2.0, 3.0])), repeats(np.array([2.0, 0.0, 2.0, 2.0, 1.0, 1.0, 1.0]))
        (1.0, 3.0)
    """
    flat = taken.reshape(-1)
    flat = flat[flat != 0]
    if flat.size == 0:
        return 1.0
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    lengths = np.diff(np.concatenate((starts, [flat.size]))).astype(np.float64)
    return float(np.square(lengths).sum() / lengths.sum())


def of_factors(node: Node, feed: Feed, role: str, exact: Array, rounding: Rounding) -> float:
    """What one rounding of both factors of a convolution adds to the variance of ``<e, t>``, ``t`` being what it makes.

    A convolution and its two gradients are one form, linear in each of three tensors: ``sum of dy * conv(x, w)``. With
    ``t`` in the place of the one that is made, a relative error of an element of another moves the sum by that element
    times the form's derivative to it, whatever signs these have.
    """
    be = backend_for("cpu")
    geometry = conv_geometry(node)
    given = {"input": feed.inputs[0], "weight": feed.parameters["weight"], role: exact}
    if role != "output" and feed.gradient is not None:
        given["output"] = feed.gradient
    # Scaled, so that float32 neither underflows nor overflows.
    scales = {place: float(np.abs(part).max(initial=0.0)) or 1.0 for place, part in given.items()}
    single = {place: (part / scales[place]).astype(np.float32) for place, part in given.items()}
    shape, weights = given["input"].shape, given["weight"].shape
    derivatives: dict[str, Callable[[], Array]] = {
        "output": lambda: be.conv2d(single["input"], single["weight"], None, *geometry),
        "input": lambda: be.conv2d_input_grad(single["output"], single["weight"], shape, *geometry),
        "weight": lambda: be.conv2d_weight_grad(single["output"], single["input"], weights, *geometry),
    }
    variance = 0.0
    for place in derivatives:
        if place != role:
            variance += in_cells(given[place], np.multiply(single[place], derivatives[place](), dtype=np.float64))
    return mean_square(rounding.store) * variance * math.prod(scales.values()) ** 2


def of_fan(exact: Array, channel: int | None, granted: Deviation, uses: float) -> float:
    """What the rounding of an operation's inputs adds to the variance of ``<e, t>`` at most.

    Args:
        exact: ``t``.
        channel: the axis of its channels.
        granted: the variances that the rounding adds element by element.
        uses: the fan, times the repeats, of the inputs.
    """
    size = np.abs(exact)
    own = in_cells(exact, size * np.sqrt(granted.own)) if uses == 1 else uses * float((exact**2 * granted.own).sum())
    return own + _in_channels(size * np.sqrt(granted.shared), channel)


def _in_channels(sizes: Array, channel: int | None) -> float:
    """The variance of a sum of errors of these sizes, all of a channel alike."""
    rest = None if channel is None else tuple(each for each in range(sizes.ndim) if each != channel)
    return float(np.square(sizes.sum(rest)).sum())


def lean(
    array: Array, exact: Array, channel: int | None, made: Deviation, added: float, rounding: Rounding
) -> tuple[float, float]:
    """How far a tensor leans, and how far it may.

    Args:
        array: the subject's.
        exact: what it should be, ``t``.
        channel: the axis of its channels.
        made: what a healthy implementation may deviate by.
        added: what one rounding of the operation's inputs adds to the variance of ``<e, t>``.
        rounding: the subject's.
    """
    size, norm = np.abs(exact), float(np.vdot(exact, exact))
    if norm == 0.0:
        return 0.0, math.inf
    measured = float(np.vdot(np.subtract(array, exact, dtype=np.float64), exact)) / norm
    variance = added + in_cells(array, size * np.sqrt(made.own)) + _in_channels(size * np.sqrt(made.shared), channel)
    if not rounding.between:
        sums = np.maximum(made.own - mean_square(rounding.store) * exact * exact, 0.0)
        variance += float((size * np.sqrt(sums)).sum()) ** 2
    allowed = (1 + REACH) * math.sqrt(variance) + float((size * made.bias).sum())
    return measured, allowed / norm
