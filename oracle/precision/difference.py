"""How far one tensor is from another, and how far it may be: errors and budgets over the root mean square of a
truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from oracle.trace import Kind

Precision = Literal["float64", "float32", "tf32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# A channel of fewer values than this says too little by itself: its root mean square scatters too much.
LEAST_CHANNEL = 16


# A budget above this share of its tensor's root mean square judges nothing: zeros, another tensor and noise would pass.
JUDGEABLE = 0.3

DROWNED = 10.0  # by how much a budget is widened that is larger than its tensor


@dataclass(frozen=True)
class Budget:
    """How far a healthy subject may be from the truth in one tensor, over the truth's root mean square.

    Args:
        rms: the root mean square of the whole difference.
        largest: the largest single deviation.
        channel: the root mean square of the difference within each channel; ``None`` where channels are too small or
            there are none.
    """

    rms: float
    largest: float = math.inf
    channel: np.ndarray | None = None

    def granted(self) -> Budget:
        """The budget as a verdict applies it.

        Where it exceeds the tensor itself, nearly everything has cancelled in that tensor (a bias gradient in front of
        a normalisation, say), and what is left is what the roundings of one implementation have in common: a model of
        independent ones then tells the order of magnitude and no more.

        Example:
            >>> Budget(0.5, 2.0).granted().rms, Budget(3.0, 5.0).granted().rms
            (0.5, 30.0)
        """
        if not 1.0 < self.rms < math.inf:
            return self
        channel = None if self.channel is None else self.channel * DROWNED
        return Budget(self.rms * DROWNED, self.largest * DROWNED, channel)


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from the truth, over the truth's root mean square (the scale).

    Args:
        error: root mean square of the whole difference.
        largest: the largest absolute difference.
        channel: root mean square of the difference within each channel; ``None`` where `channels` has none.
    """

    error: float
    largest: float
    channel: np.ndarray | None


def channels(kind: Kind, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """How a tensor divides into channels, as ``(before, channels, after)``; ``None`` where they are too small to judge.

    An activation's channel is axis 1, a weight's gradient's the output channel, axis 0.

    Example:
        >>> channels("activation", (2, 64, 8, 8)), channels("parameter_gradient", (64, 3, 7, 7))
        ((2, 64, 64), (1, 64, 147))
        >>> channels("activation", (1, 1000))
    """
    axis = 0 if kind == "parameter_gradient" else 1
    if len(shape) <= 1:
        return None
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return (before, shape[axis], after) if before * after >= LEAST_CHANNEL else None


def root_mean_square(array: np.ndarray) -> float:
    """Of all elements, in float64; 0 of none.

    Example:
        >>> root_mean_square(np.array([3.0, 4.0, 0.0, 0.0]))
        2.5
    """
    flat = array.reshape(-1)
    return math.sqrt(float(np.dot(flat, flat)) / flat.size) if flat.size else 0.0


def measure(kind: Kind, array: np.ndarray, truth: np.ndarray, scale: float | None = None) -> Difference:
    """Compare one finite tensor with the truth of the same shape.

    Args:
        kind: what the tensor is.
        array: the subject's.
        truth: float64, C order.
        scale: the truth's root mean square, where it is known already.

    Example:
        >>> measure("activation", np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]])).error
        0.0
        >>> measure("activation", np.full((1, 2), 1e-3), np.zeros((1, 2))).error
        0.001
    """
    scale = root_mean_square(truth) if scale is None else scale
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.subtract(array, truth, dtype=np.float64)
        largest = max(float(difference.max(initial=0.0)), -float(difference.min(initial=0.0)))
        divided = channels(kind, truth.shape)
        if divided is None:
            flat = difference.reshape(-1)
            squares, per_channel = float(np.dot(flat, flat)), None
        else:
            before, _, after = divided
            parts = difference.reshape(divided)
            sums = np.einsum("bca,bca->c", parts, parts, optimize=False)
            squares, per_channel = float(sums.sum()), np.sqrt(sums / (before * after))
    error = math.sqrt(squares / max(1, truth.size)) if math.isfinite(squares) else math.inf
    scale = scale or 1.0  # of a truth that is all zeros, the difference itself
    return Difference(error / scale, largest / scale, None if per_channel is None else per_channel / scale)


def count_not_finite(array: np.ndarray) -> str:
    """Words for the elements that are no numbers."""
    nans, infinities = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    return f"{nans} NaN and {infinities} infinite of {array.size}"


def all_finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite.

    Example:
        >>> all_finite(np.array([1.0, 2.0])), all_finite(np.array([1.0, np.nan]))
        (True, False)
    """
    return bool(np.isfinite(array).all())
