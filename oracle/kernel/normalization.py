"""Normalisations: by the batch's statistics or stored ones, and along the last axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.bounded import Bounded
from oracle.kernel.operation import Argument, Attributes, KernelOperation, Made, Shape, Sizes
from oracle.kernel.rows import ROWS

# Images, channels, rows, columns.
BATCHES = (
    (2, 1, 1, 1), (3, 2, 1, 1), (2, 3, 5, 7), (4, 17, 3, 3), (1, 5, 9, 9), (8, 67, 2, 3), (3, 2, 33, 31),
    (2, 129, 4, 4), (5, 3, 65, 17), (16, 64, 4, 4), (4, 257, 3, 3), (1, 2, 257, 129),
)  # fmt: skip


class _Normalized:
    """``(x - mean) / sqrt(var + eps)`` over some axes, with what a healthy kernel may have there.

    A kernel may fold the statistics into one factor and one shift (``x * scale - mean * scale``, as PyTorch does),
    which costs a rounding of each; it may store them as it stores results, between two kernels or for the backward
    pass.
    """

    def __init__(self, x: Bounded, axes: tuple[int, ...], eps: float, keep: bool) -> None:
        self.x, self.axes = x, axes
        self.count = math.prod(x.shape[axis] for axis in axes)
        self.mean = x.mean(axes, keepdims=True)
        self.variance = (x - self.mean).square().mean(axes, keepdims=True)
        of = x.of
        if of.one_pass:
            squares = np.square(x.value).mean(axes, keepdims=True)
            self.variance = self.variance.with_error(2 * of.gain(self.count, of.unit) * squares + 4 * of.unit * squares)
        if keep and of.stored > of.unit:  # deviations from a mean that was stored
            self.variance = self.variance.with_error(np.square(of.stored * self.mean.value))
        # The mean's own error moves the variance by its square, and by nothing to first order.
        self.scale = (self.variance + eps).rsqrt()
        if keep:
            self.mean, self.scale = self.mean.stored(), self.scale.stored()
        self.value = fold(x, self.mean, self.scale)


def fold(x: Bounded, mean: Bounded, scale: Bounded) -> Bounded:
    """``(x - mean) * scale``, or ``x * scale - mean * scale``."""
    made = (x - mean) * scale
    apart = np.abs(x.value * scale.value) + np.abs(mean.value * scale.value)
    return made.with_error(2 * x.of.unit * apart)


def _affine(normalized: Bounded, weight: Bounded | None, bias: Bounded | None, shape: Shape) -> Bounded:
    made = normalized
    if weight is not None:
        made = made * weight.moved(lambda part: part.reshape(shape))
    if bias is not None:
        shift = bias.moved(lambda part: part.reshape(shape))
        made = (made + shift).with_error(made.of.unit * np.abs(shift.value))
    return made


def _layer_axes(x: Shape, normalized_shape: Any) -> tuple[int, ...]:
    count = 1 if isinstance(normalized_shape, int) else len(tuple(normalized_shape))
    return tuple(range(len(x) - count, len(x)))


def _layer_norm(inputs: list[Any], normalized_shape: Any, eps: float) -> Bounded:
    x, weight, bias = inputs
    axes = _layer_axes(x.shape, normalized_shape)
    return _affine(_Normalized(x, axes, eps, False).value, weight, bias, tuple(x.shape[axes[0] :]))


def _through(dy: Bounded, made: _Normalized, weight: Bounded | None, shape: Shape) -> Bounded:
    """``scale (g - mean(g) - xhat mean(g xhat))``, g being the gradient of the normalised value."""
    g = dy if weight is None else dy * weight.moved(lambda part: part.reshape(shape))
    xhat = made.value
    along = (g * xhat).mean(made.axes, keepdims=True)
    return made.scale * (g - g.mean(made.axes, keepdims=True) - xhat * along)


def _layer_norm_gradients(dy: Bounded, inputs: list[Any], y: Any, normalized_shape: Any, eps: float) -> Made:
    x, weight, bias = inputs
    axes = _layer_axes(x.shape, normalized_shape)
    made = _Normalized(x, axes, eps, True)
    shape = tuple(x.shape[axes[0] :])
    found = {0: _through(dy, made, weight, shape)}
    others = tuple(range(axes[0]))
    if weight is not None:
        found[1] = (dy * made.value).over_batch(others)
    if bias is not None:
        found[2] = dy.over_batch(others)
    return found


def _settle_layer(attributes: Attributes, shapes: Sequence[Shape]) -> Attributes:
    given = attributes["normalized_shape"]
    if given is None:
        return attributes | {"normalized_shape": tuple(shapes[0][-1:])}
    wanted = (given,) if isinstance(given, int) else tuple(given)
    if tuple(shapes[0][-len(wanted) :]) != wanted:
        raise UsageError(f"normalized_shape: got {given} for an input of {shapes[0]}; may be its last sides")
    return attributes


def _layer_sizes(attributes: Attributes) -> Sequence[Sizes]:
    given = attributes["normalized_shape"]
    return ROWS if given is None else [(rows, 0) for rows in (1, 3, 67, 257, 0)]


def _layer_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    given = attributes["normalized_shape"]
    last = (sizes[1],) if given is None else (given,) if isinstance(given, int) else tuple(given)
    return (sizes[0], *last), last, last


def _channels(x: Shape) -> tuple[tuple[int, ...], Shape]:
    """The axes over which statistics are taken, and the shape that broadcasts over channels."""
    return tuple(axis for axis in range(len(x)) if axis != 1), (1, x[1], *(1,) * (len(x) - 2))


def _batch_norm(inputs: list[Any], training: bool, momentum: float, eps: float) -> Bounded:
    x, running_mean, running_var, weight, bias = inputs
    axes, shape = _channels(x.shape)
    if training:
        of_batch = _Normalized(x, axes, eps, True)
        made = _affine(of_batch.value, weight, bias, shape)
        return _folded(made, x, of_batch.mean, of_batch.scale, weight, bias, shape)
    mean, variance = (each.moved(lambda part: part.reshape(shape)) for each in (running_mean, running_var))
    scale = (variance + eps).rsqrt()
    made = _affine(fold(x, mean, scale), weight, bias, shape)
    return _folded(made, x, mean, scale, weight, bias, shape)


def _folded(made: Bounded, x: Bounded, mean: Bounded, scale: Bounded, weight: Any, bias: Any, shape: Shape) -> Bounded:
    """Weight and statistics folded into one factor and one shift before the input is seen; in low precision those are
    kept as results are stored."""
    factor = np.abs(scale.value) * (1.0 if weight is None else np.abs(weight.value.reshape(shape)))
    unit = 2 * x.of.unit + (4 * x.of.stored if x.of.stored > x.of.unit else 0.0)
    shift = 0.0 if bias is None else np.abs(bias.value.reshape(shape))
    return made.with_error(unit * (factor * (np.abs(x.value) + np.abs(mean.value)) + shift))


def _batch_norm_gradients(dy: Bounded, inputs: list[Any], y: Any, training: bool, momentum: float, eps: float) -> Made:
    x, running_mean, running_var, weight, bias = inputs
    axes, shape = _channels(x.shape)
    if training:
        made = _Normalized(x, axes, eps, True)
        found = {0: _through(dy, made, weight, shape)}
        xhat = made.value
    else:
        mean, variance = (each.moved(lambda part: part.reshape(shape)) for each in (running_mean, running_var))
        scale = (variance + eps).rsqrt()
        xhat = fold(x, mean, scale)
        found = {0: dy * scale if weight is None else dy * (scale * weight.moved(lambda part: part.reshape(shape)))}
    if weight is not None:
        found[3] = (dy * xhat).over_batch(axes)
    if bias is not None:
        found[4] = dy.over_batch(axes)
    return found


class _Groups:
    """Channels in groups, each normalised by its own statistics."""

    def __init__(self, x: Bounded, groups: int, eps: float, keep: bool) -> None:
        if groups < 1 or x.shape[1] % groups:
            raise UsageError(f"num_groups: got {groups} for {x.shape[1]} channels; may be a number that divides them")
        self.x, self.parts = x, (x.shape[0], groups, math.prod(x.shape[1:]) // groups)
        self.made = _Normalized(x.moved(lambda part: part.reshape(self.parts)), (2,), eps, keep)
        self.shape = (1, x.shape[1], *(1,) * (len(x.shape) - 2))

    def each(self, statistic: Bounded) -> Bounded:
        """A group's, beside each of its channels."""
        channels = self.x.shape[1] // self.parts[1]
        return statistic.moved(lambda part: np.repeat(part, channels, 1).reshape(-1, *self.shape[1:]))

    def result(self, weight: Bounded | None, bias: Bounded | None) -> Bounded:
        made = _affine(self.made.value.moved(lambda part: part.reshape(self.x.shape)), weight, bias, self.shape)
        factor = np.abs(self.each(self.made.scale).value)
        if weight is not None:
            factor = factor * np.abs(weight.value.reshape(self.shape))
        # Statistics, weight and bias may be folded into one factor and one shift.
        apart = factor * (np.abs(self.x.value) + np.abs(self.each(self.made.mean).value))
        return made.with_error(2 * made.of.unit * apart)

    def gradients(self, dy: Bounded, weight: Bounded | None, bias: Bounded | None) -> dict[str, Bounded]:
        g = dy if weight is None else dy * weight.moved(lambda part: part.reshape(self.shape))
        of_group = _through(g.moved(lambda part: part.reshape(self.parts)), self.made, None, ())
        found = {"input": of_group.moved(lambda part: part.reshape(self.x.shape))}
        axes, _ = _channels(self.x.shape)
        if weight is not None:
            xhat = self.made.value.moved(lambda part: part.reshape(self.x.shape))
            # PyTorch adds up dy and dy x alone, and folds the statistics in afterwards.
            apart = np.abs(dy.value) * (np.abs(self.x.value) + np.abs(self.each(self.made.mean).value))
            size = (apart * np.abs(self.each(self.made.scale).value)).sum(axes)
            unit = dy.of.gain(math.prod(self.x.shape[axis] for axis in axes) + 1, dy.of.unit) + 4 * dy.of.unit
            found["weight"] = (dy * xhat).over_batch(axes).with_error(unit * size)
        if bias is not None:
            found["bias"] = dy.over_batch(axes)
        return found


def _group_norm(inputs: list[Any], num_groups: int, eps: float) -> Bounded:
    x, weight, bias = inputs
    return _Groups(x, num_groups, eps, False).result(weight, bias)


def _group_norm_gradients(dy: Bounded, inputs: list[Any], y: Any, num_groups: int, eps: float) -> Made:
    x, weight, bias = inputs
    return dict(enumerate(_Groups(x, num_groups, eps, True).gradients(dy, weight, bias).values()))


def _instance_norm(inputs: list[Any], eps: float) -> Bounded:
    return _group_norm(inputs, inputs[0].shape[1], eps)


def _instance_norm_gradients(dy: Bounded, inputs: list[Any], y: Any, eps: float) -> Made:
    return _group_norm_gradients(dy, inputs, y, inputs[0].shape[1], eps)


def _group_sizes(attributes: Attributes) -> Sequence[Sizes]:
    """Channels that can be divided."""
    groups = int(attributes.get("num_groups", 1))
    return [(n, c * groups, *sides) for n, c, *sides in ((n, max(1, c // groups), *s) for n, c, *s in BATCHES)]


class _Rooted:
    """``x / sqrt(mean(x^2) + eps)`` over the last axes."""

    def __init__(self, x: Bounded, normalized_shape: Any, eps: float | None) -> None:
        self.axes = _layer_axes(x.shape, normalized_shape)
        if eps is None:
            eps = 2 * (x.of.stored or 2.0**-24)
        self.scale = (x.square().mean(self.axes, keepdims=True) + eps).rsqrt()
        self.value = x * self.scale


def _rms_norm(inputs: list[Any], normalized_shape: Any, eps: float | None) -> Bounded:
    x, weight = inputs
    made = _Rooted(x, normalized_shape, eps)
    return made.value if weight is None else made.value * weight


def _rms_norm_gradients(dy: Bounded, inputs: list[Any], y: Any, normalized_shape: Any, eps: float | None) -> Made:
    x, weight = inputs
    made = _Rooted(x, normalized_shape, eps)
    g = dy if weight is None else dy * weight
    found = {0: made.scale * (g - made.value * (g * made.value).mean(made.axes, keepdims=True))}
    if weight is not None:
        found[1] = (dy * made.value).over_batch(tuple(range(made.axes[0])))
    return found


def _running(inputs: list[Any], training: bool, momentum: float, eps: float) -> Made:
    """The running statistics afterwards: the batch's mean, and its unbiased variance."""
    x, running_mean, running_var = inputs[:3]
    if not training or running_mean is None:
        return {}
    axes, _ = _channels(x.shape)
    made = _Normalized(x, axes, eps, True)
    count = made.count
    mean = made.mean.moved(lambda part: part.reshape(-1))
    variance = made.variance.moved(lambda part: part.reshape(-1)) * (count / max(1, count - 1))
    found = {}
    for place, old, new in ((1, running_mean, mean), (2, running_var, variance)):
        parts = old * (1 - momentum), new.stored() * momentum
        size = np.abs(parts[0].value) + np.abs(parts[1].value)
        found[place] = (parts[0] + parts[1]).with_error(2 * max(x.of.unit, x.of.stored) * size)  # momentum is rounded
    return found


NORMALIZATIONS = (
    KernelOperation(
        "layer_norm",
        (Argument("input"), Argument("weight", "scale", "given"), Argument("bias", "data", "given")),
        _layer_norm,
        _layer_norm_gradients,
        _layer_sizes,
        _layer_shapes,
        {"normalized_shape": None, "eps": 1e-5},
        ("small", "spike", "offset", "constant", "nan", "strided"),
        ("row", "column"),
        settle=_settle_layer,
        apart=lambda attributes, rank: 0,
    ),
    KernelOperation(
        "rms_norm",
        (Argument("input"), Argument("weight", "scale", "given")),
        _rms_norm,
        _rms_norm_gradients,
        _layer_sizes,
        lambda sizes, attributes: _layer_shapes(sizes, attributes)[:2],
        {"normalized_shape": None, "eps": None},
        ("small", "spike", "offset", "constant", "nan", "strided"),
        ("row", "column"),
        settle=_settle_layer,
        apart=lambda attributes, rank: 0,
    ),
    KernelOperation(
        "group_norm",
        (Argument("input"), Argument("weight", "scale", "given"), Argument("bias", "data", "given")),
        _group_norm,
        _group_norm_gradients,
        _group_sizes,
        lambda sizes, attributes: (sizes, *((sizes[1],),) * 2),
        {"num_groups": 1, "eps": 1e-5},
        ("small", "spike", "offset", "constant", "nan", "strided"),
        ("image", "channel", "row", "column"),
        apart=lambda attributes, rank: 0,
    ),
    KernelOperation(
        "instance_norm",
        (Argument("input"), Argument("weight", "scale", "given"), Argument("bias", "data", "given")),
        _instance_norm,
        _instance_norm_gradients,
        lambda attributes: [sizes for sizes in BATCHES if math.prod(sizes[2:]) > 1],
        lambda sizes, attributes: (sizes, *((sizes[1],),) * 2),
        {"eps": 1e-5},
        ("small", "spike", "offset", "constant", "nan", "strided"),
        ("image", "channel", "row", "column"),
        apart=lambda attributes, rank: 0,
    ),
    KernelOperation(
        "batch_norm",
        (
            Argument("input"),
            Argument("running_mean", "data", "given", gradient=False, changed=True),
            Argument("running_var", "positive", "given", gradient=False, changed=True),
            Argument("weight", "scale", "given"),
            Argument("bias", "data", "given"),
        ),
        _batch_norm,
        _batch_norm_gradients,
        lambda attributes: BATCHES,
        lambda sizes, attributes: (sizes, *((sizes[1],),) * 4),
        {"training": False, "momentum": 0.1, "eps": 1e-5},
        ("small", "spike", "offset", "constant", "nan", "strided"),
        ("image", "channel", "row", "column"),
        changes=_running,
        apart=lambda attributes, rank: 1 if rank > 1 else 0,
    ),
)
