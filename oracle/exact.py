"""What one layer should make of what it is fed, and how far a healthy implementation may be from it.

Everything is computed in float64 from the very numbers that the subject is fed; contractions by lucid's float64
kernels, whose agreement with PyTorch in float64 the tests check, the rest here. `oracle.rounding` is the error model;
each function below says which sums and roundings it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lucid.backends import Backend, backend_for
from oracle.algorithms import (
    of_images,
    of_pieces,
    tap_squares,
    winograd_input_gradient,
    winograd_output,
    winograd_weight_gradient,
)
from oracle.layer import Layer
from oracle.rounding import (
    FUNCTION_ROUNDINGS,
    ROUNDINGS,
    Deviation,
    Rounding,
    alike,
    chain,
    growth,
    mean_square,
    plain_chain,
)
from oracle.trace import Kind

Array = np.ndarray[Any, Any]

# The models' own constants (PyTorch's defaults, which the papers' implementations share).
EPS = 1e-5
MOMENTUM = 0.1


@dataclass(frozen=True)
class Expected:
    """One tensor that a layer should make.

    Args:
        kind: what it is.
        name: the layer or parameter.
        exact: its value, float64.
        deviation: what a healthy implementation may deviate by.
        channel: the axis of its channels; ``None`` where each element is its own.
        note: says which tensor it is where the name does not.
        squares: of a contraction, for each element the sum of its squared products.
    """

    kind: Kind
    name: str
    exact: Array
    deviation: Deviation
    channel: int | None = None
    note: str = ""
    squares: Array | None = None


@dataclass(frozen=True)
class Feed:
    """What a layer is fed: its inputs, its output's gradient (``None`` forward alone), its parameters and statistics
    (by their own names), the labels of the loss, and whether it normalises by the batch."""

    inputs: tuple[Array, ...]
    gradient: Array | None
    parameters: Mapping[str, Array]
    labels: Array
    training: bool


def expected(layer: Layer, feed: Feed, rounding: Rounding) -> list[Expected]:
    """Every tensor that ``layer`` (not a ``sum``) should make of ``feed``."""
    wide = Feed(
        tuple(each.astype(np.float64) for each in feed.inputs),
        None if feed.gradient is None else feed.gradient.astype(np.float64),
        {name: value.astype(np.float64) for name, value in feed.parameters.items()},
        feed.labels,
        feed.training,
    )
    return [
        replace(each, deviation=each.deviation.stored(each.exact, rounding)) if each.deviation is not EXACT else each
        for each in _OPERATIONS[layer.op](layer, wide, rounding)
    ]


EXACT = Deviation(0.0)


def _coarsest(rounding: Rounding) -> float:
    """The unit roundoff of gradients that are added up where they are stored."""
    return max(rounding.sums, rounding.store)


def _output(layer: Layer, exact: Array, deviation: Deviation, squares: Array | None = None) -> Expected:
    return Expected("activation", layer.name, exact, deviation, _channel_axis(exact), squares=squares)


def _input_gradient(layer: Layer, exact: Array, deviation: Deviation, squares: Array | None = None) -> Expected:
    axis, note = _channel_axis(exact), "the gradient of its input"
    return Expected("activation_gradient", layer.name, exact, deviation, axis, note, squares)


def _channel_axis(array: Array) -> int | None:
    return 1 if array.ndim == 4 else None


def _parameter(layer: Layer, name: str, exact: Array, deviation: Deviation, squares: Array | None = None) -> Expected:
    channel = 0 if exact.ndim > 1 else None
    return Expected("parameter_gradient", f"{layer.name}.{name}", exact, deviation, channel, squares=squares)


# -- contractions -----------------------------------------------------------------------------------------------------

Contraction = Callable[[Array, Array], Array]


def _contraction(
    contract: Contraction, a: Array, b: Array, terms: float, rounding: Rounding
) -> tuple[Array, Deviation, Array]:
    """A sum of products; its deviation: the worst healthy chain, and the operands' own rounding (TF32); and the sums of
    its squared products."""
    total = contract(a, b)
    squares = _squares(contract, a, b)
    own = chain(rounding.sums, terms, total, squares)
    if not rounding.operand:
        return total, Deviation(own), squares
    return total, _of_operands(own, total, squares, rounding), squares


def _of_operands(own: Array, total: Array, squares: Array, rounding: Rounding) -> Deviation:
    """What it costs that the hardware shortens both operands (TF32).

    Rounded, each product has two more errors of variance ``u**2 / 3`` of it; one of the operands is the same for all
    elements of a channel (a weight, or the gradient of its output).

    Cut off, an operand ``m * 2**e`` loses between 0 and ``2 u * 2**e``, which is ``u / m`` of it in the mean, and as
    ``1 <= m < 2`` at most ``u``; about that mean the variance is ``E[4/3 (u/m)**2] - E[u/m]**2``, and whatever the
    distribution of ``m``, at most ``u**2 / 3``. So the variances are the same, and all products lose together: the
    result's mean error is up to ``2 u`` of it.
    """
    each = mean_square(rounding.operand) * squares
    bias = 2 * rounding.operand * np.abs(total) if rounding.truncated else 0.0
    return Deviation(own + each, each, bias)


def _over_images(
    contract: Contraction, dy: Array, x: Array, terms: float, rounding: Rounding
) -> tuple[Array, Deviation, Array]:
    """A contraction over the images of a batch, which may be added up in the storage type."""
    total, deviation, squares = _contraction(contract, dy, x, terms, rounding)
    if not rounding.between:
        return total, deviation, squares
    shares = [contract(dy[i : i + 1], x[i : i + 1]) for i in range(len(dy))]
    return total, replace(deviation, own=deviation.own + of_images(shares, rounding)), squares


def _squares(contract: Contraction, a: Array, b: Array) -> Array:
    """The sums of squared products; in float32, scaled so that nothing underflows: variances need no more."""
    scale_a, scale_b = (float(np.abs(each).max(initial=0.0)) or 1.0 for each in (a, b))
    small = contract(np.square(a / scale_a).astype(np.float32), np.square(b / scale_b).astype(np.float32))
    scaled: Array = small.astype(np.float64) * (scale_a * scale_b) ** 2
    return scaled


def _backend() -> Backend:
    return backend_for("cpu")


def _conv(layer: Layer, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    be, weight, [x] = _backend(), feed.parameters["weight"], feed.inputs
    pair = (layer.kernel, layer.kernel)
    geometry = (layer.stride,) * 2, (layer.padding,) * 2, (1, 1), layer.groups
    fan_in, fan_out = weight[0].size, weight.shape[0] // layer.groups * pair[0] * pair[1]
    tiles = rounding.winograd if layer.kernel == 3 and layer.stride == 1 else 0
    of = layer.padding, tiles, rounding.sums, layer.groups

    y, deviation, squares = _contraction(lambda a, b: be.conv2d(a, b, None, *geometry), x, weight, fan_in, rounding)
    deviation = _at_least(deviation, winograd_output(x, weight, *of)) if tiles else deviation
    yield _output(layer, y, deviation, squares)
    dy = feed.gradient
    if dy is None:
        return

    dx, deviation, squares = _contraction(
        lambda a, b: be.conv2d_input_grad(a, b, x.shape, *geometry), dy, weight, fan_out, rounding
    )
    if rounding.between and layer.kernel > 1:
        of_taps = tap_squares(dy, weight, x.shape, layer.stride, layer.padding, layer.groups)
        taps = (-(-layer.kernel // layer.stride)) ** 2  # that meet one pixel
        deviation = replace(deviation, own=deviation.own + of_pieces(dx, of_taps, taps, rounding))
    deviation = _at_least(deviation, winograd_input_gradient(dy, weight, *of)) if tiles else deviation
    yield _input_gradient(layer, dx, deviation, squares)

    pixels = dy.size // dy.shape[1]
    dw, deviation, squares = _over_images(
        lambda a, b: be.conv2d_weight_grad(a, b, weight.shape, *geometry), dy, x, pixels, rounding
    )
    deviation = _at_least(deviation, winograd_weight_gradient(dy, x, *of)) if tiles else deviation
    yield _parameter(layer, "weight", dw, deviation, squares)


def _at_least(deviation: Deviation, variances: tuple[Array, Array]) -> Deviation:
    """By one algorithm or another: a runtime that has two takes for each layer whichever is faster."""
    own, shared = variances
    return replace(deviation, own=np.maximum(deviation.own, own), shared=np.maximum(deviation.shared, shared))


def _linear(layer: Layer, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    weight, bias, [x], dy = feed.parameters["weight"], feed.parameters["bias"], feed.inputs, feed.gradient
    product, deviation, squares = _contraction(lambda a, b: a @ b.T, x, weight, weight.shape[1], rounding)
    total = product + bias
    # The bias is one term more: it starts the chain, or ends it.
    own = deviation.own + mean_square(rounding.sums) * (total * total + weight.shape[1] * bias * bias)
    yield _output(layer, total, replace(deviation, own=own), squares)
    if dy is None:
        return
    yield _input_gradient(layer, *_contraction(lambda a, b: a @ b, dy, weight, weight.shape[0], rounding))
    yield _parameter(layer, "weight", *_over_images(lambda a, b: a.T @ b, dy, x, dy.shape[0], rounding))
    magnitude = np.abs(dy).sum(0)
    own = plain_chain(rounding.sums, dy.shape[0], magnitude)
    yield _parameter(layer, "bias", dy.sum(0), Deviation(own + of_images(list(dy), rounding)))


# -- batch normalisation ----------------------------------------------------------------------------------------------


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


def _statistics(x: Array, feed: Feed, rounding: Rounding) -> _Statistics:
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
    with_eps = var + EPS
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


def _norm(layer: Layer, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    [x], dy = feed.inputs, feed.gradient
    gamma, beta = _per_channel(feed.parameters["weight"]), _per_channel(feed.parameters["bias"])
    known = _statistics(x, feed, rounding)
    unit = mean_square(rounding.sums)
    factor, centred = gamma * known.scale, x - known.mean
    y = factor * centred + beta
    # Either ``(x - mean) * scale * gamma + beta`` or, folded, ``x * factor + (beta - mean * factor)``: the factor costs
    # two roundings and the folded bias two more, which the channel shares; three are each element's own.
    folded = np.square(factor * x) + np.square(factor * known.mean)
    shared = unit * (2 * folded + beta * beta)
    shared = shared + np.square(factor) * known.mean_error + np.square(factor * centred) * known.scale_error
    own = unit * (folded + np.square(factor * centred) + y * y)
    yield _output(layer, y, Deviation(own, shared))
    if feed.training:
        yield from _running(layer, x, feed, known, rounding)
    if dy is not None:
        yield from _norm_gradients(layer, x, dy, gamma, known, rounding)


def _running(layer: Layer, x: Array, feed: Feed, known: _Statistics, rounding: Rounding) -> Iterator[Expected]:
    """``running + momentum * (statistic - running)``, or the two products added; the variance unbiased."""
    count = x.size // x.shape[1]
    unit = mean_square(rounding.sums)
    for name, statistic, error, correction in (
        ("running_mean", known.mean, known.mean_error, 1.0),
        ("running_var", known.var, known.var_error, count / (count - 1)),
    ):
        before, now = feed.parameters[name], correction * statistic.reshape(-1)
        after = before + MOMENTUM * (now - before)
        own = MOMENTUM**2 * correction**2 * error.reshape(-1)
        own = own + unit * (after * after + 4 * np.square(MOMENTUM * now) + 2 * before * before)
        yield Expected("statistic", f"{layer.name}.{name}", after, Deviation(own))


def _norm_gradients(
    layer: Layer, x: Array, dy: Array, gamma: Array, known: _Statistics, rounding: Rounding
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
    yield _input_gradient(layer, dx, Deviation(own, shared))
    for name, terms, error in (("weight", dy * xhat, sum_dyx_error), ("bias", dy, sum_dy_error)):
        pieces = of_images(list(terms.sum((2, 3))), rounding)
        yield _parameter(layer, name, terms.sum(axes), Deviation(error.reshape(-1) + pieces))


# -- what selects, and what averages ----------------------------------------------------------------------------------


def _relu(layer: Layer, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """Exact both ways: ``max(x, 0)``, and the gradient where ``x > 0``."""
    [x], dy = feed.inputs, feed.gradient
    yield _output(layer, np.maximum(x, 0.0), EXACT)
    if dy is not None:
        yield _input_gradient(layer, np.where(x > 0, dy, 0.0), EXACT)


def _max_pool(layer: Layer, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """The first largest of each window, exact; its gradient adds at most as many values as windows overlap, where they
    are stored."""
    be, [x] = _backend(), feed.inputs
    height, width = ((side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in x.shape[2:])
    window = (layer.kernel,) * 2, (layer.stride,) * 2, (layer.padding,) * 2, (1, 1)
    y, index = be.max_pool2d(x, *window, (height, width))
    yield _output(layer, np.asarray(y), EXACT)
    dy = feed.gradient
    if dy is None:
        return
    overlap = (-(-layer.kernel // layer.stride)) ** 2
    magnitude = be.max_pool2d_grad(np.abs(dy), index, x.shape)
    yield _input_gradient(
        layer, be.max_pool2d_grad(dy, index, x.shape), Deviation(plain_chain(_coarsest(rounding), overlap, magnitude))
    )


def _average_pool(layer: Layer, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """A plain sum and a division; backward, a division, or the product with a rounded reciprocal."""
    [x], dy = feed.inputs, feed.gradient
    pixels = x.shape[2] * x.shape[3]
    mean = x.mean((2, 3), keepdims=True)
    unit = mean_square(rounding.sums)
    error = plain_chain(rounding.sums, pixels, np.abs(x).sum((2, 3), keepdims=True)) / pixels**2
    yield _output(layer, mean, Deviation(error + 2 * unit * mean * mean))
    if dy is not None:
        share = np.broadcast_to(dy / pixels, x.shape)
        yield _input_gradient(layer, share, Deviation(0.0, 2 * unit * share * share))


def _flatten(layer: Layer, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    [x], dy = feed.inputs, feed.gradient
    yield _output(layer, x.reshape(x.shape[0], -1), EXACT)
    if dy is not None:
        yield _input_gradient(layer, dy.reshape(x.shape), EXACT)


def _loss(layer: Layer, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    """Cross-entropy, ``mean(log(sum(exp(z - top))) + top - z[label])``, and its gradient, ``(softmax - one) / N``.

    An exponential's argument is rounded once and the function costs `FUNCTION_ROUNDINGS`; the sum of the exponentials
    is a plain chain; a stored logarithm of a probability, from which the gradient starts, is rounded once more.
    """
    [z], labels = feed.inputs, feed.labels
    rows, classes = z.shape
    unit, stored = mean_square(rounding.sums), mean_square(rounding.store)
    top = z.max(1, keepdims=True)
    powers = np.exp(z - top)
    total = powers.sum(1, keepdims=True)
    log_total = np.log(total)
    log_probability = z - top - log_total
    total_error = unit * (growth(classes) + FUNCTION_ROUNDINGS**2 + (powers * np.square(z - top)).sum(1, keepdims=True))
    log_error = total_error + unit * (FUNCTION_ROUNDINGS**2 * np.square(log_total) + np.square(z - top))
    log_error = log_error + (unit + stored) * np.square(log_probability) + unit * np.square(top + log_total)
    taken = np.arange(rows), labels
    each, each_error = -log_probability[taken], log_error[taken]
    value = np.array(each.mean())
    error = each_error.sum() / rows**2 + unit * growth(rows) * np.abs(each).mean() ** 2
    yield Expected("loss", layer.name, value, Deviation(np.array(error)))
    if not feed.training:
        return
    probability = np.exp(log_probability)
    wanted = np.zeros_like(z)
    wanted[taken] = 1.0
    dz = (probability - wanted) / rows
    own = (log_error + FUNCTION_ROUNDINGS**2 * unit + 2 * stored) * np.square(probability / rows) + 3 * unit * dz * dz
    yield _input_gradient(layer, dz, Deviation(own))


_OPERATIONS: dict[str, Callable[[Layer, Feed, Rounding], Iterator[Expected]]] = {
    "conv": _conv,
    "linear": _linear,
    "norm": _norm,
    "relu": _relu,
    "max pool": _max_pool,
    "average pool": _average_pool,
    "flatten": _flatten,
    "loss": _loss,
}


# -- residual blocks --------------------------------------------------------------------------------------------------


def expected_sum(layer: Layer, inputs: tuple[Array, Array], rounding: Rounding) -> Expected:
    """What a block's own code should return: branch plus shortcut, one rounding, and then perhaps a ReLU, exact."""
    total = inputs[0].astype(np.float64) + inputs[1].astype(np.float64)
    exact = np.maximum(total, 0.0) if layer.relu else total
    deviation = Deviation(mean_square(rounding.sums) * exact * exact).stored(exact, rounding)
    return _output(layer, exact, deviation)


def expected_arrivals(
    layer: Layer,
    inputs: tuple[Array, Array],
    gradient: Array,
    within: Mapping[str, Layer],
    input_gradients: Mapping[str, Array],
    rounding: Rounding,
) -> Iterator[Expected]:
    """The gradient that should reach what the block takes and each of its layers' outputs: the sum over whoever takes
    that tensor, one rounding for each after the first, where it is stored.

    Args:
        layer: the block.
        inputs: the ends of its branch and of its shortcut.
        gradient: of its output.
        within: the layers of the block, by name.
        input_gradients: what each of them hands back.
        rounding: the subject's.
    """
    dy = gradient.astype(np.float64)
    if layer.relu:
        dy = np.where(inputs[0].astype(np.float64) + inputs[1].astype(np.float64) > 0, dy, 0.0)
    for name in (layer.source, *within):
        parts = [dy for end in layer.inputs if end == name]
        parts += [input_gradients[taker.name].astype(np.float64) for taker in within.values() if name in taker.inputs]
        exact = np.sum(parts, axis=0)
        deviation = EXACT
        if len(parts) > 1:
            magnitude = np.sum(np.abs(parts), axis=0)
            deviation = Deviation(plain_chain(_coarsest(rounding), len(parts) - 1, magnitude))
        yield Expected(
            "activation_gradient",
            layer.name,
            exact,
            deviation,
            _channel_axis(exact),
            f"the gradient that reaches {name}",
        )
