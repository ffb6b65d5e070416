"""Batch normalisation: statistics of a channel, which all of its elements share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oracle.graph.graph import Node, Shape
from oracle.operations.operation import (
    COMPOSED,
    Array,
    Expected,
    Feed,
    Made,
    Operation,
    input_gradient,
    output,
    parameter,
    same_shape,
)
from oracle.precision.algorithms import of_images
from oracle.precision.rounding import (
    FUNCTION_ROUNDINGS,
    ROUNDINGS,
    Deviation,
    Rounding,
    alike,
    growth,
    mean_square,
    plain_chain,
)


@dataclass(frozen=True)
class _Statistics:
    """Mean, variance and scale of each channel, with the variances of their errors; shaped to broadcast.

    Args:
        mean: of the batch, or stored.
        var: likewise, biased.
        scale: ``1 / sqrt(var + eps)``.
        mean_error: variance of the mean's error.
        var_error: variance of the variance's error.
        scale_error: variance of the scale's relative error.
    """

    mean: Array
    var: Array
    scale: Array
    mean_error: Array
    var_error: Array
    scale_error: Array


def _per_channel(values: Array) -> Array:
    return values.reshape(1, -1, 1, 1)


def _of_storing(rounding: Rounding) -> float:
    """The relative variance of storing a result, where that is coarser than the sums."""
    return mean_square(rounding.store) if rounding.store > rounding.sums else 0.0


def _statistics(node: Node, x: Array, feed: Feed, rounding: Rounding) -> _Statistics:
    """The batch's mean is one plain sum. Its variance is one of squared deviations from the mean: in two passes a chain
    of terms that sum to it; by Welford's updates, whose means are those of the terms so far, worse by the square root
    of ``1 + mean**2 / var`` (Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983).

    In one pass it is the mean of the squares less the square of the mean. Both are about ``mean**2`` and carry errors
    of that size: the sum of squares is a chain of ``var + mean**2``, the square of the mean has twice the mean's error
    and one rounding, and the difference one more.

    Both statistics are results, which a low precision may store in its own format (PyTorch does, where the parameters
    have that format)."""
    unit = mean_square(rounding.sums)
    stored = _of_storing(rounding)
    if feed.training:
        count = x.size // x.shape[1]
        mean = x.mean((0, 2, 3), keepdims=True)
        var = np.square(x - mean).mean((0, 2, 3), keepdims=True)
        magnitude = np.abs(x).sum((0, 2, 3), keepdims=True)
        mean_error = plain_chain(rounding.sums, count, magnitude) / count**2 + (unit + stored) * mean * mean
        power = np.square(mean)
        size = np.square(var + power) if rounding.one_pass else var * (var + power)
        var_error = unit * (growth(count) + 3) * size + 3 * np.square(mean_error) + stored * var * var
        if rounding.one_pass:
            var_error = var_error + _of_difference(power, mean_error, var, unit)
        if rounding.sums <= ROUNDINGS["float64"].sums:
            var_error = np.maximum(var_error, _about_first(x, mean, var, rounding))
        # A value that most of the channel has is its median; where a ReLU blocked it, its least or its largest.
        ordered = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
        median = np.partition(ordered, count // 2, axis=1)[:, count // 2].reshape(1, -1, 1, 1)
        for repeated in (x.min((0, 2, 3), keepdims=True), x.max((0, 2, 3), keepdims=True), median):
            repeats = np.maximum((x == repeated).sum((0, 2, 3), keepdims=True), 1)
            mean_error = mean_error + alike(rounding.sums, np.where(repeated == 0, 1, repeats), magnitude / count)
            var_error = var_error + alike(rounding.sums, repeats, np.sqrt(size))
    else:
        mean, var = _per_channel(feed.parameters["running_mean"]), _per_channel(feed.parameters["running_var"])
        mean_error = var_error = np.zeros_like(mean)
    with_eps = var + node.attributes["eps"]
    scale_error = var_error / (4 * with_eps * with_eps) + FUNCTION_ROUNDINGS**2 * unit + stored
    return _Statistics(mean, var, 1 / np.sqrt(with_eps), mean_error, var_error, scale_error)


def _of_difference(power: Array, mean_error: Array, var: Array, unit: float) -> Array:
    """What a variance that is a difference of two means owes to the second, the square of a mean, and to itself."""
    error: Array = 4 * power * mean_error + unit * (np.square(power) + np.square(var))
    return error


def _about_first(x: Array, mean: Array, var: Array, rounding: Rounding) -> Array:
    """The variance of the error of a variance taken in one pass about each channel's first value, as the law does.

    The law's sums are float64, so below float64 that costs nothing, and it is granted to float64 alone. It is the
    formula in one pass, of ``x`` less that value.
    """
    count, unit = x.size // x.shape[1], mean_square(rounding.sums)
    first = x[:1, :, :1, :1]
    power = np.square(mean - first)
    mean_error = plain_chain(rounding.sums, count, np.abs(x - first).sum((0, 2, 3), keepdims=True)) / count**2
    sums = unit * (growth(count) + 3) * np.square(var + power)
    error: Array = sums + _of_difference(power, mean_error + unit * power, var, unit)
    return error


def _norm(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    [x], dy = feed.inputs, feed.gradient
    gamma, beta = _per_channel(feed.parameters["weight"]), _per_channel(feed.parameters["bias"])
    known = _statistics(node, x, feed, rounding)
    unit = mean_square(rounding.sums)
    factor, centred = gamma * known.scale, x - known.mean
    y = factor * centred + beta
    # Either ``(x - mean) * scale * gamma + beta`` or, folded, ``x * factor + (beta - mean * factor)``: the factor costs
    # two roundings and the folded bias two more, which the channel shares; three are each element's own.
    folded = np.square(factor * x) + np.square(factor * known.mean)
    shared = unit * (2 * folded + beta * beta)
    shared = shared + np.square(factor) * known.mean_error + np.square(factor * centred) * known.scale_error
    own = unit * (folded + np.square(factor * centred) + y * y)
    yield output(node, y, Deviation(own, shared))
    if feed.training:
        yield from _running(node, x, feed, known, rounding)
    if dy is not None:
        yield from _norm_gradients(node, x, dy, gamma, known, rounding)


def _running(node: Node, x: Array, feed: Feed, known: _Statistics, rounding: Rounding) -> Iterator[Expected]:
    """``running + momentum * (statistic - running)``, or the two products added; the variance unbiased."""
    count = x.size // x.shape[1]
    unit, momentum = mean_square(rounding.sums), node.attributes["momentum"]
    for name, statistic, error, correction in (
        ("running_mean", known.mean, known.mean_error, 1.0),
        ("running_var", known.var, known.var_error, count / (count - 1)),
    ):
        before, now = feed.parameters[name], correction * statistic.reshape(-1)
        after = before + momentum * (now - before)
        own = momentum**2 * correction**2 * error.reshape(-1)
        own = own + unit * (after * after + 4 * np.square(momentum * now) + 2 * before * before)
        yield Expected("statistic", node.statistics[name], after, Deviation(own))


def _norm_gradients(
    node: Node, x: Array, dy: Array, gamma: Array, known: _Statistics, rounding: Rounding
) -> Iterator[Expected]:
    """``dx = gamma * scale * (dy - mean(dy) - xhat * mean(dy * xhat))`` and its two sums."""
    unit, count = mean_square(rounding.sums), x.size // x.shape[1]
    axes = (0, 2, 3)
    centred = x - known.mean
    xhat = centred * known.scale
    sum_dy, sum_dyx = dy.sum(axes, keepdims=True), (dy * xhat).sum(axes, keepdims=True)
    sum_dy_error = plain_chain(rounding.sums, count, np.abs(dy).sum(axes, keepdims=True))
    # A plain sum of products, each with three roundings; the mean's error shifts all terms, the scale's scales them.
    # It may also be the difference of two sums, of ``dy * x`` and of ``dy`` times the mean.
    magnitude = (np.abs(dy) * (np.abs(x) + np.abs(known.mean)) * known.scale).sum(axes, keepdims=True)
    sum_dyx_error = plain_chain(rounding.sums, count, magnitude) + 3 * unit * magnitude**2 / count
    sum_dyx_error = sum_dyx_error + known.mean_error * np.square(known.scale * sum_dy)
    stored = _of_storing(rounding)
    sum_dyx_error = sum_dyx_error + (known.scale_error + stored) * np.square(sum_dyx)
    sum_dy_error = sum_dy_error + stored * np.square(sum_dy)
    factor = gamma * known.scale
    along = xhat * sum_dyx / count
    dx = factor * (dy - sum_dy / count - along)
    # Elements: four roundings of each part, and of x and the mean apart where the formula is folded.
    folded = np.square(known.scale * sum_dyx / count) * (np.square(x) + np.square(known.mean))
    own = np.square(factor) * unit * 4 * (dy * dy + np.square(sum_dy / count) + along * along + folded)
    shared = sum_dy_error / count**2 + np.square(xhat / count) * sum_dyx_error
    shared = shared + np.square(sum_dyx / count) * (known.mean_error * known.scale**2 + xhat**2 * known.scale_error)
    shared = np.square(factor) * shared + dx * dx * known.scale_error
    yield input_gradient(node, dx, Deviation(own, shared))
    for name, terms, error in (("weight", dy * xhat, sum_dyx_error), ("bias", dy, sum_dy_error)):
        pieces = of_images(list(terms.sum((2, 3))), rounding)
        yield parameter(node, name, terms.sum(axes), Deviation(error.reshape(-1) + pieces))


def _of_norm(node: Node, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """``y = gamma * scale * (x - mean) + beta``. An element moves by its own rounding, and with its whole channel as
    the rounding of all of them (in training), or that of the stored statistics, moves the mean and the scale."""
    [x], dy = feed.inputs, feed.gradient
    axes, count = (0, 2, 3), x.size // x.shape[1]
    gamma, beta, running_mean, running_var = (
        feed.parameters[name].reshape(1, -1, 1, 1) for name in ("weight", "bias", "running_mean", "running_var")
    )
    if feed.training:
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        centred = x - mean
        of_mean = unit * np.square(x).mean(axes, keepdims=True) / count
        of_var = 4 * unit * np.square(centred * x).mean(axes, keepdims=True) / count
    else:
        mean, var, centred = running_mean, running_var, x - running_mean
        of_mean, of_var = unit * mean * mean, unit * var * var
    scale = 1 / np.sqrt(var + node.attributes["eps"])
    of_scale = of_var * scale**4 / 4  # relative
    if feed.training:
        # To second order, rounding makes the variance larger by that of the roundings themselves.
        of_scale = of_scale + np.square(unit * np.square(x).mean(axes, keepdims=True) * scale**2 / 2)
    factor = gamma * scale
    shared = np.square(factor) * of_mean + np.square(factor * centred) * (of_scale + unit) + unit * beta * beta
    found = {"output": Deviation(unit * np.square(factor * x), shared)}
    if feed.training:
        correction = count / max(1, count - 1)
        found["running_mean"] = Deviation((of_mean + unit * running_mean**2).reshape(-1))
        found["running_var"] = Deviation((correction**2 * of_var + unit * running_var**2).reshape(-1))
    if dy is None:
        return found
    xhat = centred * scale
    of_xhat = unit * np.square(scale * x)
    sum_dy, sum_dyx = dy.sum(axes, keepdims=True), (dy * xhat).sum(axes, keepdims=True)
    squares = np.square(dy) + floor**2
    of_sum_dy = unit * squares.sum(axes, keepdims=True)
    of_sum_dyx = (squares * (unit * np.square(xhat) + of_xhat)).sum(axes, keepdims=True)
    of_sum_dyx = of_sum_dyx + of_scale * sum_dyx**2 + of_mean * np.square(scale * sum_dy)
    along = sum_dyx / count
    dx = factor * (dy - sum_dy / count - xhat * along)
    own = np.square(factor) * (unit * squares + np.square(along) * of_xhat)
    shared = of_sum_dy / count**2 + np.square(xhat / count) * of_sum_dyx
    shared = shared + np.square(along) * (of_mean * scale**2 + np.square(xhat) * of_scale)
    found["input"] = Deviation(own, np.square(factor) * shared + dx * dx * (of_scale + unit))
    found["weight"] = Deviation(of_sum_dyx.reshape(-1))
    found["bias"] = Deviation(of_sum_dy.reshape(-1))
    return found


def _compute(node: Node, inputs: Sequence[Any], parameters: Mapping[str, Any], setting: Any) -> Any:
    from torch.nn import functional

    return functional.batch_norm(
        inputs[0],
        parameters["running_mean"],
        parameters["running_var"],
        parameters["weight"],
        parameters["bias"],
        setting.training,
        node.attributes["momentum"],
        node.attributes["eps"],
    )


def _describe(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> str:
    return f"BatchNorm2d({inputs[0][1]})"


NORM = Operation("norm", COMPOSED, same_shape, _compute, _describe, makes=_norm, grants=_of_norm)
