"""Faults of the backward pass: masks, divisions, axes, dropped and doubled contributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.backends import backend_for
from oracle.case.case import Case
from oracle.faults.fault import Array, Context, Injection, Site, changed, fault, masked
from oracle.graph.graph import INPUT, Node
from oracle.operations.contraction import conv_geometry

BACK: dict[str, Any] = {"strikes": "backward"}
MASK: dict[str, Any] = {**BACK, "needs": "channels that hold both signs, differently in each image, at this ReLU"}
JOIN: dict[str, Any] = {"strikes": "backward", "engines": ("torch",)}


def _inner(layer: Node, case: Case) -> bool:
    """A layer whose input has a gradient."""
    return INPUT not in layer.inputs


def _many(layer: Node, case: Case) -> bool:
    return case.batch > 1 and _inner(layer, case)


def _inner_taps(layer: Node, case: Case) -> bool:
    return layer.window.taps > 1 and _inner(layer, case)


@fault("missing mask", "gradient", "The ReLU hands on the gradient of what it blocked.", "relu", **BACK)
def _unmasked(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: c.dy)


@fault("inverted mask", "gradient", "The ReLU blocks the gradient of what it let pass.", "relu", **BACK)
def _inverted(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: c.dy - c.dx)


def _masked(choose: Callable[[Array], Array]) -> Injection:
    """The ReLU's gradient with the mask of ``choose(x) > 0``."""
    return Injection(input_gradient=lambda c: masked(c.dy, choose(c.x)))


@fault("mask of another image", "gradient", "The mask is the other image's.", "relu", where=_many, **MASK)
def _other_mask(site: Site) -> Injection:
    return _masked(lambda x: x[::-1])


@fault("mask of the first image", "gradient", "All images take the first one's mask.", "relu", where=_many, **MASK)
def _first_mask(site: Site) -> Injection:
    return _masked(lambda x: x[:1])


@fault("mask of the next pixel", "gradient", "Each element takes the mask of the one before it.", "relu", **MASK)
def _next_mask(site: Site) -> Injection:
    return _masked(lambda x: np.roll(x, 1, 3))


@fault("mask of the channel's mean", "gradient", "A channel passes or is blocked whole, by its mean.", "relu", **MASK)
def _mean_mask(site: Site) -> Injection:
    return _masked(lambda x: x.mean((2, 3), keepdims=True))


@fault(
    "mask by the gradient's sign",
    "gradient",
    "The ReLU passes the positive gradients, whatever its input was.",
    "relu",
    **BACK,
)
def _sign_mask(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: np.maximum(c.dy, 0))


@fault("guided gradient", "gradient", "The ReLU blocks negative gradients too.", "relu", **MASK)
def _guided(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: np.maximum(c.dx, 0))


@fault(
    "loss not divided by the batch",
    "gradient",
    "The loss's gradient is the sum over the batch.",
    "loss",
    where=lambda layer, case: case.batch > 1,
    **BACK,
)
def _summed(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: c.dx * np.float32(site.case.batch))


@fault("label one off", "gradient", "The loss's gradient is that of the next class.", "loss", **BACK)
def _next_label(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: np.roll(c.dx, 1, 1))


@fault("softmax without its label", "gradient", "The loss's gradient is the softmax alone.", "loss", **BACK)
def _no_label(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        dx = changed(c.dx)
        dx[np.arange(len(dx)), site.case.labels] += np.float32(1 / len(dx))
        return dx

    return Injection(input_gradient=gradient)


@fault("label smoothing left on", "gradient", "A twentieth of each label is spread over all classes.", "loss", **BACK)
def _smoothing(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        rows, classes = c.dx.shape
        dx = c.dx - np.float32(0.05 / classes / rows)
        dx[np.arange(rows), site.case.labels] += np.float32(0.05 / rows)
        return dx

    return Injection(input_gradient=gradient)


@fault(
    "bias gradient over the wrong axis",
    "gradient",
    "The bias's gradient is summed over classes and spread.",
    "linear",
    **BACK,
)
def _wrong_axis(site: Site) -> Injection:
    return Injection(parameter_gradients={"bias": lambda g, c: np.full_like(g, c.dy.sum(1)[0])})


@fault(
    "bias gradient of one image",
    "gradient",
    "The bias's gradient is the first image's alone.",
    "linear",
    where=_many,
    **BACK,
)
def _one_image(site: Site) -> Injection:
    return Injection(parameter_gradients={"bias": lambda g, c: c.dy[0].copy()})


@fault(
    "bias gradient a mean",
    "gradient",
    "The bias's gradient is divided by the batch once more.",
    "linear",
    where=_many,
    **BACK,
)
def _mean_bias(site: Site) -> Injection:
    return Injection(parameter_gradients={"bias": lambda g, c: g / np.float32(len(c.dy))})


@fault(
    "shift gradient over images alone",
    "gradient",
    "A normalisation's shift gradient takes one row of pixels.",
    "norm",
    where=_inner,
    **BACK,
)
def _shift_axis(site: Site) -> Injection:
    return Injection(parameter_gradients={"bias": lambda g, c: c.dy[:, :, :1].sum((0, 2, 3)).astype(g.dtype)})


@fault(
    "scale gradient without the mean",
    "gradient",
    "A normalisation's scale gradient forgets to centre its input.",
    "norm",
    **BACK,
)
def _uncentred(site: Site) -> Injection:
    def gradient(g: Array, c: Context) -> Array:
        var = c.x.astype(np.float64).var((0, 2, 3))
        return ((c.dy * c.x).sum((0, 2, 3), dtype=np.float64) / np.sqrt(var + 1e-5)).astype(g.dtype)

    return Injection(parameter_gradients={"weight": gradient})


@fault(
    "normalisation's mean term dropped",
    "gradient",
    "The mean's part of the input's gradient is left out.",
    "norm",
    **BACK,
)
def _no_mean_term(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        x, weight = c.x.astype(np.float64), site.parameter("weight").reshape(1, -1, 1, 1)
        scale = weight / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
        return (c.dx + scale * c.dy.mean((0, 2, 3), keepdims=True)).astype(np.float32)

    return Injection(input_gradient=gradient)


@fault(
    "normalisation's variance term dropped",
    "gradient",
    "The variance's part of the input's gradient is left out.",
    "norm",
    **BACK,
)
def _no_variance_term(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        x, weight = c.x.astype(np.float64), site.parameter("weight").reshape(1, -1, 1, 1)
        root = np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
        normal = (x - x.mean((0, 2, 3), keepdims=True)) / root
        part = normal * (c.dy * normal).mean((0, 2, 3), keepdims=True)
        return (c.dx + weight / root * part).astype(np.float32)

    return Injection(input_gradient=gradient)


@fault("normalisation differentiated as in eval", "gradient", "The statistics count as constants.", "norm", **BACK)
def _as_eval(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        root = np.sqrt(c.x.astype(np.float64).var((0, 2, 3), keepdims=True) + 1e-5)
        return (site.parameter("weight").reshape(1, -1, 1, 1) / root * c.dy).astype(np.float32)

    return Injection(input_gradient=gradient)


@fault("shortcut's gradient dropped", "gradient", "The gradient of the shortcut is lost.", "sum", **JOIN)
def _shortcut(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: site.ended(main + (shortcut.detach() + shortcut * 0)))


@fault("branch's gradient dropped", "gradient", "The gradient of the residual branch is lost.", "sum", **JOIN)
def _branch(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: site.ended((main.detach() + main * 0) + shortcut))


@fault("shortcut's gradient doubled", "gradient", "The gradient of the shortcut is added twice.", "sum", **JOIN)
def _doubled(site: Site) -> Injection:
    return Injection(join=lambda main, shortcut: site.ended(main + (shortcut * 2 - shortcut.detach())))


@fault(
    "missing mask after the sum",
    "gradient",
    "The block's ReLU hands on all of the gradient.",
    "sum",
    where=lambda layer, case: layer.attributes["relu"],
    **JOIN,
)
def _unmasked_sum(site: Site) -> Injection:
    def join(main: Any, shortcut: Any) -> Any:
        total = main + shortcut
        return total + (total.relu() - total).detach()

    return Injection(join=join)


@fault(
    "mask of the first image after the sum",
    "gradient",
    "All images take the first one's mask at the block's ReLU.",
    "sum",
    where=lambda layer, case: layer.attributes["relu"] and case.batch > 1,
    **{**JOIN, "needs": MASK["needs"]},
)
def _first_mask_sum(site: Site) -> Injection:
    def join(main: Any, shortcut: Any) -> Any:
        total = main + shortcut
        passed = total * (total[:1] > 0)
        return passed + (total.relu() - passed).detach()

    return Injection(join=join)


@fault(
    "shortcut's gradient of the first image",
    "gradient",
    "The shortcut hands the first image's gradient to all.",
    "sum",
    where=lambda layer, case: case.batch > 1,
    **JOIN,
)
def _first_shortcut_gradient(site: Site) -> Injection:
    import torch

    class First(torch.autograd.Function):
        @staticmethod
        def forward(node: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(node: Any, gradient: Any) -> Any:
            return gradient[:1].expand_as(gradient).clone()

    return Injection(join=lambda main, shortcut: site.ended(main + First.apply(shortcut)))


@fault("weight gradient's sign", "gradient", "The weight's gradient has the wrong sign.", "conv", "linear", **BACK)
def _sign(site: Site) -> Injection:
    return Injection(parameter_gradients={"weight": lambda g, c: -g})


@fault(
    "weight gradient doubled",
    "gradient",
    "The weight's gradient is added to what was there: twice.",
    "conv",
    "linear",
    "norm",
    **BACK,
)
def _twice(site: Site) -> Injection:
    return Injection(parameter_gradients={"weight": lambda g, c: g * 2})


@fault(
    "weight gradient of one image",
    "gradient",
    "The weight's gradient leaves out an image.",
    "conv",
    where=_many,
    **BACK,
)
def _first_image(site: Site) -> Injection:
    def gradient(g: Array, c: Context) -> Array:
        dy, x = np.ascontiguousarray(c.dy[:1]), np.ascontiguousarray(c.x[:1])
        return np.ascontiguousarray(backend_for("cpu").conv2d_weight_grad(dy, x, g.shape, *conv_geometry(site.layer)))

    return Injection(parameter_gradients={"weight": gradient})


@fault(
    "weight gradient's taps exchanged",
    "gradient",
    "Rows and columns of the weight's gradient are exchanged.",
    "conv",
    where=_inner_taps,
    **BACK,
)
def _taps(site: Site) -> Injection:
    return Injection(parameter_gradients={"weight": lambda g, c: np.ascontiguousarray(g.swapaxes(2, 3))})


@fault(
    "weight gradient without the last row",
    "gradient",
    "The weight's gradient leaves out the last row of pixels.",
    "conv",
    **BACK,
)
def _no_last_row(site: Site) -> Injection:
    def gradient(g: Array, c: Context) -> Array:
        dy = changed(c.dy)
        dy[:, :, -1:] = 0
        made = backend_for("cpu").conv2d_weight_grad(dy, c.x, g.shape, *conv_geometry(site.layer))
        return np.ascontiguousarray(made)

    return Injection(parameter_gradients={"weight": gradient})


@fault(
    "weight gradient clipped",
    "gradient",
    "The weight's gradient is clipped at half its largest value.",
    "conv",
    "linear",
    **BACK,
)
def _clipped(site: Site) -> Injection:
    def gradient(g: Array, c: Context) -> Array:
        most = np.abs(g).max() / 2
        return np.clip(g, -most, most)

    return Injection(parameter_gradients={"weight": gradient})


@fault(
    "kernel not turned",
    "gradient",
    "The input's gradient correlates with the kernel as it is.",
    "conv",
    where=_inner_taps,
    **BACK,
)
def _not_turned(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        weight = np.ascontiguousarray(site.parameter("weight")[..., ::-1, ::-1])
        made = backend_for("cpu").conv2d_input_grad(c.dy, weight, c.x.shape, *conv_geometry(site.layer))
        return np.ascontiguousarray(made)

    return Injection(input_gradient=gradient)


@fault(
    "input gradient's border lost",
    "gradient",
    "The input's gradient is not written at the border.",
    "conv",
    "max pool",
    where=_inner,
    **BACK,
)
def _border(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        dx = changed(c.dx)
        dx[..., 0] = 0
        return dx

    return Injection(input_gradient=gradient)


@fault(
    "input gradient halved",
    "gradient",
    "The input's gradient is half of what it should be.",
    "conv",
    "norm",
    "linear",
    where=_inner,
    **BACK,
)
def _halved(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: c.dx / 2)


@fault(
    "gradient of another image",
    "gradient",
    "The images' gradients change places.",
    "conv",
    "norm",
    "relu",
    where=_many,
    **BACK,
)
def _other_image(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: np.ascontiguousarray(c.dx[::-1]))


@fault(
    "gradient of the first image",
    "gradient",
    "All images take the first one's gradient.",
    "conv",
    "norm",
    "relu",
    where=_many,
    **BACK,
)
def _first_gradient(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: np.repeat(c.dx[:1], len(c.dx), 0))


@fault(
    "wrong winner of a max pool",
    "gradient",
    "The gradient goes to the least element of each window, not to the largest.",
    "max pool",
    **BACK,
)
def _loser(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        padded = np.pad(c.x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
        least = windows.reshape(*windows.shape[:4], 9).argmin(-1)
        out = np.zeros(padded.shape, np.float32)
        n, ch, i, j = np.indices(least.shape)
        np.add.at(out, (n, ch, 2 * i + least // 3, 2 * j + least % 3), c.dy)
        return np.ascontiguousarray(out[..., 1:-1, 1:-1])

    return Injection(input_gradient=gradient)


@fault(
    "max pool's gradient overwritten",
    "gradient",
    "Where windows overlap, the last gradient replaces the others.",
    "max pool",
    **BACK,
)
def _overwritten(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        padded = np.pad(c.x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
        first = windows.reshape(*windows.shape[:4], 9).argmax(-1)
        out = np.zeros(padded.shape, np.float32)
        n, ch, i, j = np.indices(first.shape)
        out[n, ch, 2 * i + first // 3, 2 * j + first % 3] = c.dy
        return np.ascontiguousarray(out[..., 1:-1, 1:-1])

    return Injection(input_gradient=gradient)


@fault(
    "average pool's gradient not divided",
    "gradient",
    "The gradient of a mean is not divided by its count.",
    "average pool",
    **BACK,
)
def _undivided(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: np.broadcast_to(c.dy, c.dx.shape).copy())
