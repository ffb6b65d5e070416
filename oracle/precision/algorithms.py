"""What the algorithm of a convolution adds to its rounding errors: the pieces of a gradient, and Winograd's transforms.

NumPy in float64, for both views: `oracle.judge.exact` takes the variances as they are, and the disturbed runs draw from
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from oracle.precision.rounding import Rounding, chain, mean_square

Array = np.ndarray[Any, Any]


def of_pieces(total: Array, squares: Array, pieces: float, rounding: Rounding) -> Array | float:
    """The variance of adding a result's pieces in the storage type, in any order.

    A chain of so many terms (`oracle.precision.rounding.chain`): each piece is rounded when it is stored, and each
    partial sum once more. Near zero every one of these roundings costs what the smallest numbers are apart.

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


# -- Winograd ----------------------------------------------------------------------------------------------------------

# Where the polynomials are evaluated, besides infinity: every library takes these, as their powers are exact.
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)


@dataclass(frozen=True)
class Transforms:
    """``output = out.T @ ((kernel @ g) * (data @ d))`` correlates ``d`` with the kernel ``g``.

    Args:
        out: ``A``, (points, m).
        kernel: ``G``, (points, r).
        data: ``B.T``, (points, points).
    """

    out: Array
    kernel: Array
    data: Array


@lru_cache(8)
def transforms(m: int, r: int = 3) -> Transforms:
    """The matrices of Winograd's F(m, r), by the construction of Cook and Toom.

    Two polynomials are evaluated at ``m + r - 2`` points and at infinity, multiplied there, and their product is
    interpolated; by the transposition principle the same matrices correlate. (Lavin and Gray, "Fast algorithms for
    convolutional neural networks", 2016.)

    Example:
        >>> of = transforms(2)
        >>> d, g = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, 2.0])
        >>> (of.out.T @ ((of.kernel @ g) * (of.data @ d))).tolist()
        [9.0, 13.0]
    """
    points = np.array(POINTS[: m + r - 2])
    size = len(points) + 1
    out, kernel, data = np.zeros((size, m)), np.zeros((size, r)), np.zeros((size, size))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        out[i] = point ** np.arange(m)
        kernel[i] = point ** np.arange(r) / np.prod(point - others)
        data[i, : size - 1] = np.poly(others)[::-1]
    out[-1, -1] = kernel[-1, -1] = 1.0
    data[-1] = np.poly(points)[::-1]
    return Transforms(out, kernel, data)


@dataclass(frozen=True)
class Spread:
    """Exact values with the variances of their errors."""

    value: Array
    variance: Array


def _transformed(matrix: Array, given: Spread, unit: float) -> Spread:
    """``matrix @ value @ matrix.T`` over the last two axes, each stage a sum in floating point: the errors so far go
    through the squared matrix, each sum is a chain (`oracle.precision.rounding.chain`), and its constants are rounded
    too."""
    value, variance = given.value, given.variance
    terms = np.count_nonzero(matrix, axis=1).astype(np.float64)[:, None]
    for _ in range(2):
        total = matrix @ value
        squares = np.square(matrix) @ np.square(value)
        own = np.stack(
            [chain(unit, float(n[0]), total[..., i, :], squares[..., i, :]) for i, n in enumerate(terms)], -2
        )
        variance = np.square(matrix) @ variance + own + mean_square(unit) * squares
        value, variance = np.swapaxes(total, -1, -2), np.swapaxes(variance, -1, -2)
    return Spread(value, variance)


def _tiles(x: Array, m: int, size: int, padding: int, rows: int, columns: int) -> Array:
    """The overlapping tiles of ``x``: ``(N, C, H, W) -> (N, C, rows, columns, size, size)``."""
    high, wide = (rows - 1) * m + size, (columns - 1) * m + size
    canvas = np.zeros((*x.shape[:2], high, wide))
    height, width = min(x.shape[2], high - padding), min(x.shape[3], wide - padding)
    canvas[:, :, padding : padding + height, padding : padding + width] = x[:, :, :height, :width]
    view = np.lib.stride_tricks.sliding_window_view(canvas, (size, size), axis=(2, 3))
    return view[:, :, ::m, ::m]


def _contracted(a: Spread, b: Spread, unit: float) -> tuple[Array, Array, Array]:
    """The products over the first axis at each point: the sums' own variance, and what is ``a``'s.

    Shapes: ``(K, M, points), (K, P, points) -> (M, P, points)`` each: the sums, their variance, that which ``a`` makes.
    """
    (av, aw), (bv, bw) = ((np.moveaxis(each, -1, 0) for each in (of.value, of.variance)) for of in (a, b))
    turned, weighted = np.swapaxes(av, 1, 2), np.swapaxes(aw, 1, 2)
    total = turned @ bv
    own = chain(unit, av.shape[1], total, np.square(turned) @ np.square(bv)) + np.square(turned) @ bw
    parts = (total, own, weighted @ np.square(bv))
    return tuple(np.moveaxis(each, 0, -1) for each in parts)  # type: ignore[return-value]


def winograd_output(x: Array, weight: Array, padding: int, m: int, unit: float, groups: int = 1) -> tuple[Array, Array]:
    """The variances of a 3x3 convolution of stride 1 by Winograd's F(m x m, 3 x 3): each element's own, and that of the
    transformed kernels' errors, which all tiles of a channel share.

    The transforms amplify: their entries grow with the tile (up to 8 and 21/4 for 6x6), large terms cancel, and what
    was rounded when they were large stays. Nothing is bounded by a norm here: the errors of both transforms, of the
    sums over the channels, and of the output's transform are propagated from the very numbers.

    Shapes: ``(N, C, H, W), (O, C / groups, 3, 3) -> (N, O, OH, OW)`` twice.

    Example:
        >>> x, weight = np.ones((1, 4, 12, 12)), np.ones((2, 4, 3, 3))
        >>> of = {m: float(winograd_output(x, weight, 1, m, 2.0**-24)[0].mean()) for m in (2, 4, 6)}
        >>> of[2] < of[4] < of[6]
        True
    """
    of = transforms(m)
    images, height, width = x.shape[0], x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2
    rows, columns, size = -(-height // m), -(-width // m), len(of.data)
    tiles = np.moveaxis(_tiles(x, m, size, padding, rows, columns), 1, 0)
    inputs, outputs = x.shape[1] // groups, weight.shape[0] // groups
    found = []
    for group in range(groups):
        given = tiles[group * inputs : (group + 1) * inputs]
        data = _transformed(of.data, Spread(given, np.zeros_like(given)), unit)
        taps = np.swapaxes(weight[group * outputs : (group + 1) * outputs].astype(np.float64), 0, 1)
        kernel = _transformed(of.kernel, Spread(taps, np.zeros_like(taps)), unit)
        total, own, shared = _contracted(_flat(kernel, inputs), _flat(data, inputs), unit)
        square = (outputs, images, rows, columns, size, size)
        result = _transformed(of.out.T, Spread(total.reshape(square), own.reshape(square)), unit)
        spread = np.square(of.out.T) @ shared.reshape(square) @ np.square(of.out)
        found.append((result.variance, spread))
    return tuple(  # type: ignore[return-value]
        np.concatenate([_assembled(each[part], height, width) for each in found], axis=1) for part in (0, 1)
    )


def _flat(spread: Spread, channels: int) -> Spread:
    """``(channels, ..., size, size) -> (channels, everything, points)``."""
    points = spread.value.shape[-1] ** 2
    return Spread(spread.value.reshape(channels, -1, points), spread.variance.reshape(channels, -1, points))


def _assembled(tiles: Array, height: int, width: int) -> Array:
    """``(O, N, rows, columns, m, m) -> (N, O, height, width)``."""
    outputs, images, rows, columns, m, _ = tiles.shape
    whole = tiles.transpose(1, 0, 2, 4, 3, 5).reshape(images, outputs, rows * m, columns * m)
    return whole[:, :, :height, :width]


def winograd_input_gradient(
    dy: Array, weight: Array, padding: int, m: int, unit: float, groups: int = 1
) -> tuple[Array, Array]:
    """The same of its input's gradient: a convolution of the output's gradient with the turned kernels.

    Shapes: ``(N, O, OH, OW), (O, C / groups, 3, 3) -> (N, C, H, W)`` twice.
    """
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    turned = np.swapaxes(split, 1, 2)[..., ::-1, ::-1].reshape(-1, split.shape[1], 3, 3)
    return winograd_output(dy, turned, 2 - padding, m, unit, groups)


def winograd_weight_gradient(
    dy: Array, x: Array, padding: int, m: int, unit: float, groups: int = 1
) -> tuple[Array, Array]:
    """The same of its weight's gradient, with the matrices transposed: ``G.T [(B.T d B) * (A dy A.T)] G``, summed over
    the tiles of all images.

    Shapes: ``(N, O, OH, OW), (N, C, H, W) -> (O, C / groups, 3, 3)`` twice.
    """
    of = transforms(m)
    rows, columns, size = -(-dy.shape[2] // m), -(-dy.shape[3] // m), len(of.data)
    gradients = _transformed(of.out, _exactly(_tiles(dy, m, m, 0, rows, columns)), unit)
    data = _transformed(of.data, _exactly(_tiles(x, m, size, padding, rows, columns)), unit)
    inputs, outputs = x.shape[1] // groups, dy.shape[1] // groups

    def flat(each: Array, start: int, count: int) -> Array:
        part = np.moveaxis(each[:, start : start + count], 1, 3)
        return part.reshape(-1, count, size * size)

    found = []
    for group in range(groups):
        a = Spread(*(flat(each, group * outputs, outputs) for each in (gradients.value, gradients.variance)))
        b = Spread(*(flat(each, group * inputs, inputs) for each in (data.value, data.variance)))
        total, own, shared = (each.reshape(outputs, inputs, size, size) for each in _contracted(a, b, unit))
        result = _transformed(of.kernel.T, Spread(total, own), unit)
        found.append((result.variance, np.square(of.kernel.T) @ shared @ np.square(of.kernel)))
    return tuple(np.concatenate([each[part] for each in found]) for part in (0, 1))  # type: ignore[return-value]


def _exactly(value: Array) -> Spread:
    value = np.asarray(value, np.float64)
    return Spread(value, np.zeros_like(value))
