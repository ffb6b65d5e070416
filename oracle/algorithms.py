"""What the algorithm of a convolution adds to its rounding errors: the pieces of an input's gradient.

NumPy in float64, for both views: `oracle.exact` takes the variances as they are, and the disturbed runs draw from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from oracle.rounding import Rounding, chain, mean_square

Array = np.ndarray[Any, Any]


def of_pieces(total: Array, squares: Array, pieces: float, rounding: Rounding) -> Array | float:
    """The variance of adding a result's pieces in the storage type, in any order.

    A chain of so many terms (`oracle.rounding.chain`): each piece is rounded when it is stored, and each partial sum
    once more. Near zero every one of these roundings costs what the smallest numbers are apart.

    Args:
        total: the result.
        squares: of its pieces, summed.
        pieces: how many.
        rounding: whose ``between`` says what a partial sum is rounded to.

    Example:
        >>> of_pieces(np.ones(1), np.ones(1), 1, Rounding(0.5, 0.5, between=0.5))
        0.0
    """
    if not rounding.between or pieces < 2:
        return 0.0
    near_zero = (2 * pieces - 1) * mean_square(rounding.least)
    return chain(rounding.between, pieces, total, squares) + near_zero


def of_images(shares: Sequence[Array], rounding: Rounding) -> Array | float:
    """The same, from each image's share of a parameter's gradient."""
    if not rounding.between or len(shares) < 2:
        return 0.0
    return of_pieces(np.sum(shares, axis=0), np.sum(np.square(shares), axis=0), len(shares), rounding)


def tap_squares(dy: Array, weight: Array, shape: Sequence[int], stride: int, padding: int, groups: int = 1) -> Array:
    """What each tap of the kernel contributes to the gradient of a convolution's input, squared and added up.

    A library that has no kernel for a convolution writes the taps' contributions down as columns and adds the columns
    where they belong (``col2im``), all in the storage type.

    Shapes: ``(N, O, OH, OW), (O, C / groups, K, K) -> shape`` of the input.

    Example:
        >>> tap_squares(np.ones((1, 1, 2, 2)), np.full((1, 1, 3, 3), 2.0), (1, 1, 2, 2), 1, 1)[0, 0].tolist()
        [[16.0, 16.0], [16.0, 16.0]]
    """
    images, channels, height, width = shape
    rows, columns = dy.shape[2:]
    kernel = weight.shape[2]
    flat = dy.reshape(images, groups, dy.shape[1] // groups, rows * columns)
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    reach = (max(rows, columns) - 1) * stride + kernel
    canvas = np.zeros((images, channels, max(reach, height + 2 * padding), max(reach, width + 2 * padding)))
    for i in range(kernel):
        for j in range(kernel):
            share = np.swapaxes(split[..., i, j], 1, 2) @ flat
            place = canvas[:, :, i : i + rows * stride : stride, j : j + columns * stride : stride]
            place += np.square(share).reshape(images, channels, rows, columns)
    return canvas[:, :, padding : padding + height, padding : padding + width]
