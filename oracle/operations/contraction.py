"""Contractions: sums of products, whose worst healthy order is one term after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lucid.backends import backend_for
from oracle.graph.graph import Node, Shape, Window
from oracle.operations.operation import (
    Array,
    Errs,
    Expected,
    Feed,
    Made,
    Operation,
    both,
    input_gradient,
    output,
    parameter,
)
from oracle.precision.algorithms import (
    of_images,
    of_pieces,
    tap_squares,
    winograd_input_gradient,
    winograd_output,
    winograd_weight_gradient,
)
from oracle.precision.rounding import Deviation, Rounding, chain, mean_square, plain_chain

Contraction = Callable[[Array, Array], Array]


def conv_geometry(node: Node) -> tuple[Any, ...]:
    """Stride, padding, dilation and groups, as the backends of lucid take them."""
    return node.window.stride, node.window.padding, (1,) * len(node.window.kernel), node.attributes["groups"]


def has_tiles(window: Window) -> bool:
    """Whether Winograd's algorithm is for it."""
    return set(window.kernel) == {3} and not window.strided


def _contraction(
    contraction_of: Contraction, a: Array, b: Array, terms: float, rounding: Rounding
) -> tuple[Array, Deviation, Array]:
    """A sum of products; its deviation: the worst healthy chain, and the operands' own rounding (TF32); and the sums of
    its squared products."""
    total = contraction_of(a, b)
    squares = _squares(contraction_of, a, b)
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
    contraction_of: Contraction, dy: Array, x: Array, terms: float, rounding: Rounding
) -> tuple[Array, Deviation, Array]:
    """A contraction over the images of a batch, which may be added up in the storage type."""
    total, deviation, squares = _contraction(contraction_of, dy, x, terms, rounding)
    if not rounding.between:
        return total, deviation, squares
    shares = [contraction_of(dy[i : i + 1], x[i : i + 1]) for i in range(len(dy))]
    return total, replace(deviation, own=deviation.own + of_images(shares, rounding)), squares


def _squares(contraction_of: Contraction, a: Array, b: Array) -> Array:
    """The sums of squared products; in float32, scaled so that nothing underflows: variances need no more."""
    scale_a, scale_b = (float(np.abs(each).max(initial=0.0)) or 1.0 for each in (a, b))
    small = contraction_of(np.square(a / scale_a).astype(np.float32), np.square(b / scale_b).astype(np.float32))
    scaled: Array = small.astype(np.float64) * (scale_a * scale_b) ** 2
    return scaled


def _conv(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    be, weight, [x] = backend_for("cpu"), feed.parameters["weight"], feed.inputs
    window, groups = node.window, node.attributes["groups"]
    geometry = conv_geometry(node)
    fan_in, fan_out = weight[0].size, weight.shape[0] // groups * window.taps
    tiles = rounding.winograd if has_tiles(window) else 0
    of = window.padding[0], tiles, rounding.sums, groups

    y, deviation, squares = _contraction(lambda a, b: be.conv2d(a, b, None, *geometry), x, weight, fan_in, rounding)
    deviation = _at_least(deviation, winograd_output(x, weight, *of)) if tiles else deviation
    yield output(node, y, deviation, squares)
    dy = feed.gradient
    if dy is None:
        return

    dx, deviation, squares = _contraction(
        lambda a, b: be.conv2d_input_grad(a, b, x.shape, *geometry), dy, weight, fan_out, rounding
    )
    if rounding.between and window.taps > 1:
        of_taps = tap_squares(dy, weight, x.shape, window.stride[0], window.padding[0], groups)
        deviation = replace(deviation, own=deviation.own + of_pieces(dx, of_taps, window.overlap, rounding))
    deviation = _at_least(deviation, winograd_input_gradient(dy, weight, *of)) if tiles else deviation
    yield input_gradient(node, dx, deviation, squares)

    pixels = dy.size // dy.shape[1]
    dw, deviation, squares = _over_images(
        lambda a, b: be.conv2d_weight_grad(a, b, weight.shape, *geometry), dy, x, pixels, rounding
    )
    deviation = _at_least(deviation, winograd_weight_gradient(dy, x, *of)) if tiles else deviation
    yield parameter(node, "weight", dw, deviation, squares)


def _at_least(deviation: Deviation, variances: tuple[Array, Array]) -> Deviation:
    """By one algorithm or another: a runtime that has two takes for each operation whichever is faster."""
    own, shared = variances
    return replace(deviation, own=np.maximum(deviation.own, own), shared=np.maximum(deviation.shared, shared))


def _linear(node: Node, feed: Feed, rounding: Rounding) -> Iterator[Expected]:
    weight, bias, [x], dy = feed.parameters["weight"], feed.parameters["bias"], feed.inputs, feed.gradient
    product, deviation, squares = _contraction(lambda a, b: a @ b.T, x, weight, weight.shape[1], rounding)
    total = product + bias
    # The bias is one term more: it starts the chain, or ends it.
    own = deviation.own + mean_square(rounding.sums) * (total * total + weight.shape[1] * bias * bias)
    yield output(node, total, replace(deviation, own=own), squares)
    if dy is None:
        return
    yield input_gradient(node, *_contraction(lambda a, b: a @ b, dy, weight, weight.shape[0], rounding))
    yield parameter(node, "weight", *_over_images(lambda a, b: a.T @ b, dy, x, dy.shape[0], rounding))
    magnitude = np.abs(dy).sum(0)
    own = plain_chain(rounding.sums, dy.shape[0], magnitude)
    yield parameter(node, "bias", dy.sum(0), Deviation(own + of_images(list(dy), rounding)))


def _of_conv(node: Node, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    """A sum of products: each product moves by the rounding of either factor."""
    return {role: _product(unit * each.squares) for role, each in made.items() if each.squares is not None}


def _product(variance: Array) -> Deviation:
    """Of the two factors' errors one is shared by the elements of a channel (a weight's by all positions, that of a
    gradient by all weights of its output channel)."""
    return Deviation(variance, variance)


def _of_linear(node: Node, feed: Feed, made: Made, unit: float, floor: float) -> dict[str, Deviation]:
    found = _of_conv(node, feed, made, unit, floor)
    found["output"] = both(found["output"], _product(unit * np.square(feed.parameters["bias"])))
    if feed.gradient is not None:
        found["bias"] = Deviation(unit * np.square(feed.gradient).sum(0))
    return found


def _fan(node: Node, role: str, parameters: Mapping[str, Array]) -> float:
    return float(parameters["weight"].shape[1 if role == "input" else 0])


def _conv_shape(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((inputs[0][0], parameters["weight"][0], *node.window.output(inputs[0][2:])),)


def _linear_shape(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*inputs[0][:-1], parameters["weight"][0]),)


def _compute_conv(node: Node, inputs: Sequence[Any], parameters: Mapping[str, Any], _: Any) -> Any:
    import torch

    convolve = (torch.conv1d, torch.conv2d, torch.conv3d)[len(node.window.kernel) - 1]
    return convolve(inputs[0], parameters["weight"], None, *conv_geometry(node))


def _compute_linear(node: Node, inputs: Sequence[Any], parameters: Mapping[str, Any], _: Any) -> Any:
    from torch.nn import functional

    return functional.linear(inputs[0], parameters["weight"], parameters["bias"])


def _describe_conv(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> str:
    window, groups = node.window, node.attributes["groups"]
    width, inner = parameters["weight"][:2]
    text = f"Conv2d({inner * groups}, {width}, kernel_size={window.kernel}, stride={window.stride}"
    text += f", padding={window.padding}" if any(window.padding) else ""
    return f"{text}{f', groups={groups}' if groups > 1 else ''}, bias=False)"


def _describe_linear(node: Node, inputs: Sequence[Shape], parameters: Mapping[str, Shape]) -> str:
    width, inner = parameters["weight"]
    return f"Linear(in_features={inner}, out_features={width}, bias=True)"


CONV = Operation(
    "conv",
    Errs("sums", terms=lambda node, shape: shape[1] // node.attributes["groups"] * node.window.taps),
    _conv_shape,
    _compute_conv,
    _describe_conv,
    makes=_conv,
    grants=_of_conv,
)
LINEAR = Operation(
    "linear",
    Errs("sums", terms=lambda node, shape: shape[-1]),
    _linear_shape,
    _compute_linear,
    _describe_linear,
    makes=_linear,
    grants=_of_linear,
    fan=_fan,
)
