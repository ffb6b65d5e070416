"""Whether a whole tensor leans: its error goes along the tensor itself, further than roundings go all together.

In low precision one rounding of an element hides an error of 2 % or more. The mean of many roundings does not: an error
of one sign (a wrong factor, a truncating store, a missing term of a denominator) is measured by its projection on the
tensor, ``<e, t> / <t, t>``, which roundings to nearest leave near zero. How near:

- Elements that are stored as the same number are rounded alike, so what they do together is one error; those of
  different numbers are independent (`in_cells`).
- What an operation takes may have been rounded once more in the dump. One such error enters as many elements of the
  result as the operation has uses for it, the *fan*, which may all go the same way: the variance of the sum is at most
  so many times that of independent errors (Cauchy and Schwarz). Equal neighbours of what it takes, such as the planes
  that an average pooling's gradient makes, are rounded alike too (`repeats`).
- What a channel shares counts as going one way in all of the channel, and as independent of the other channels.
- Errors of float32 sums count as going one way throughout: hardware may cut partial sums off.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oracle.layer import Layer
from oracle.rounding import REACH, Deviation, Rounding, mean_square

Array = np.ndarray[Any, Any]

NOTE = "as a whole it is {:+.2%} of the tensor off along the tensor itself, where roundings leave {:.2%}"


def in_cells(stored: Array, weights: Array) -> float:
    """The variance of a sum of errors of sizes ``weights``, those of elements that are stored as one number alike.

    Example:
        >>> in_cells(np.array([1.0, 1.0, 2.0], np.float32), np.array([1.0, 1.0, 1.0]))
        5.0
    """
    cells = np.abs(stored).astype(np.float32).view(np.uint32).reshape(-1) >> np.uint32(13)
    return float(np.square(np.bincount(cells, np.abs(weights).reshape(-1))).sum())


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


def fan(layer: Layer, role: str, made: Array, parameters: dict[str, Array]) -> float:
    """How many elements of a result one element of what the operation takes enters (a factor that a channel shares is
    counted there)."""
    overlap = (-(-layer.kernel // layer.stride)) ** 2
    if layer.op == "conv":
        outputs, inputs = parameters["weight"].shape[0] // layer.groups, parameters["weight"].shape[1]
        return inputs * layer.kernel**2 if role == "input" else outputs * overlap
    if layer.op == "linear":
        return float(parameters["weight"].shape[1 if role == "input" else 0])
    return float(overlap) if layer.op == "max pool" and role == "output" else 1.0


def lean(
    array: Array,
    exact: Array,
    channel: int | None,
    made: Deviation,
    granted: Deviation,
    uses: float,
    rounding: Rounding,
) -> tuple[float, float]:
    """How far a tensor leans, and how far it may.

    Args:
        array: the subject's.
        exact: what it should be.
        channel: the axis of its channels.
        made: what a healthy implementation may deviate by.
        granted: what one rounding of the operation's inputs may add.
        uses: the fan, times the repeats, of those inputs.
        rounding: the subject's.
    """
    size = np.abs(exact)
    norm = float(np.vdot(exact, exact))
    if norm == 0.0:
        return 0.0, math.inf
    measured = float(np.vdot(np.subtract(array, exact, dtype=np.float64), exact)) / norm
    variance = in_cells(array, size * np.sqrt(made.own))
    variance += (
        in_cells(array, size * np.sqrt(granted.own)) if uses == 1 else uses * float((exact**2 * granted.own).sum())
    )
    rest = None if channel is None else tuple(each for each in range(exact.ndim) if each != channel)
    variance += float(np.square((size * np.sqrt(made.shared + granted.shared)).sum(rest)).sum())
    if not rounding.between:
        sums = np.maximum(made.own - mean_square(rounding.store) * exact * exact, 0.0)
        variance += float((size * np.sqrt(sums)).sum()) ** 2
    allowed = (1 + REACH) * math.sqrt(variance) + float((size * (made.bias + granted.bias)).sum())
    return measured, allowed / norm
