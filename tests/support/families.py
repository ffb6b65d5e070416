"""Families of kernels: each draws a case from a random generator and returns a call, which runs on any backend.

The calls give NumPy arrays and want NumPy arrays back, so a backend of other arrays is run through ``OnHost``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid.backends.base import Array, Backend, Epilogue, Norm
from lucid.device import place, to_numpy
from lucid.kernels.elementwise.functions import FUNCTIONS
from lucid.kernels.optimizer.rules import RULES
from lucid.kernels.pool import taps

Call = Callable[[Backend], Any]
Draw = Callable[[np.random.Generator], Call]
FAMILIES: dict[str, Draw] = {}

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 1e-30, 1.0, -1.0])


def family(draw: Draw) -> Draw:
    FAMILIES[draw.__name__] = draw
    return draw


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, special: float = 0.0) -> Array:
    """Normal values of several scales, in a random memory order; a share ``special`` of them from ``SPECIAL``."""
    x = np.asarray(rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4), dtype)
    if special:
        chosen = rng.random(shape) < special
        x[chosen] = rng.choice(SPECIAL, int(chosen.sum())).astype(dtype)
    if len(shape) >= 4 and rng.random() < 0.6:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    if len(shape) > 1 and rng.random() < 0.3:
        axes = rng.permutation(len(shape))
        return np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))
    if len(shape) > 0 and rng.random() < 0.1:  # with gaps
        wide = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x


def dtype_of(rng: np.random.Generator) -> Any:
    return np.float32 if rng.random() < 0.7 else np.float64


def share_of_specials(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.0, 0.0, 0.02, 0.3]))


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    a, b = (int(v) for v in rng.integers(low, high + 1, 2))
    return (a, a) if rng.random() < 0.5 else (a, b)


def numbers(rng: np.random.Generator, low: int, high: int, sides: int) -> tuple[int, ...]:
    if sides == 2:
        return pair(rng, low, high)
    return tuple(int(v) for v in rng.integers(low, high + 1, sides))


def sides_of(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2, 2, 2, 3]))


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def convolution(rng: np.random.Generator) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Keyword arguments and the shapes of input, weight and output."""
    sides = sides_of(rng)
    while True:
        groups = int(rng.choice([1, 1, 1, 2, 3, 4]))
        depthwise = rng.random() < 0.1
        groups = int(rng.choice([groups, 21, 70])) if depthwise else groups
        cg, og = (
            (1, 1)
            if depthwise
            else (int(rng.choice([1, 2, 3, 5, 16, 33, 70])), int(rng.choice([1, 2, 7, 16, 33, 65, 130])))
        )
        kernel, stride = numbers(rng, 1, 4, sides), numbers(rng, 1, 3, sides)
        padding, dilation = numbers(rng, 0, 3, sides), numbers(rng, 1, 2, sides)
        n, size = int(rng.choice([0, 1, 1, 2, 3])), numbers(rng, 1, (60, 13, 7)[sides - 1], sides)
        out = tuple(output_size(*side) for side in zip(size, kernel, stride, padding, dilation, strict=True))
        work = n * groups * cg * og * math.prod(kernel) * math.prod(out)
        if min(out) > 0 and work < 600_000:
            break
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return options, (n, groups * cg, *size), (groups * og, cg, *kernel), (n, groups * og, *out)


def geometry_of(options: dict[str, Any]) -> tuple[Any, Any, Any, int]:
    """What the fused forms take as one argument."""
    return options["stride"], options["padding"], options["dilation"], options["groups"]


@family
def conv2d(rng: np.random.Generator) -> Call:
    options, x_shape, w_shape, y_shape = convolution(rng)
    dtype, special = dtype_of(rng), share_of_specials(rng)
    x, w = values(rng, x_shape, dtype, special), values(rng, w_shape, dtype, special)
    bias = values(rng, w_shape[:1], dtype) if rng.random() < 0.5 else None
    residual = values(rng, y_shape, dtype, special)
    geometry = geometry_of(options)
    return lambda be: (be.conv2d(x, w, bias, **options), be.conv2d_add(x, w, bias, geometry, residual))


@family
def conv2d_input_grad(rng: np.random.Generator) -> Call:
    options, x_shape, w_shape, y_shape = convolution(rng)
    dtype, special = dtype_of(rng), share_of_specials(rng)
    dy, w = values(rng, y_shape, dtype, special), values(rng, w_shape, dtype, special)
    accumulate_into = values(rng, x_shape, dtype, special)
    geometry = geometry_of(options)
    return lambda be: (
        be.conv2d_input_grad(dy, w, x_shape, *geometry),
        be.conv2d_input_grad_onto(accumulate_into, dy, w, geometry),
    )


@family
def conv2d_weight_grad(rng: np.random.Generator) -> Call:
    options, x_shape, w_shape, y_shape = convolution(rng)
    dtype, special = dtype_of(rng), share_of_specials(rng)
    dy, x = values(rng, y_shape, dtype, special), values(rng, x_shape, dtype, special)
    return lambda be: be.conv2d_weight_grad(dy, x, w_shape, **options)


@family
def conv2d_norm(rng: np.random.Generator) -> Call:
    """A convolution with everything that may be folded into it; the reference runs it step by step."""
    options, x_shape, w_shape, y_shape = convolution(rng)
    dtype, special = dtype_of(rng), share_of_specials(rng)
    x, w = values(rng, x_shape, dtype, special), values(rng, w_shape, dtype, special)
    channels = y_shape[1:2]
    bias, gamma, beta = (values(rng, channels, dtype) if rng.random() < 0.5 else None for _ in range(3))
    norm = Norm(gamma, beta, rng.standard_normal(channels), rng.random(channels) + 0.1, 1e-5)
    if len(x_shape) != 4:  # batch normalisation is of two sides
        norm = None
    residual = values(rng, y_shape, dtype, special) if rng.random() < 0.5 else None
    geometry = geometry_of(options)
    relu = bool(rng.random() < 0.5)
    return lambda be: be.conv2d_norm(x, w, bias, geometry, Epilogue(norm, residual, relu))


@family
def norm_act(rng: np.random.Generator) -> Call:
    """Normalisation, residual sum and ReLU, forward and backward, in both modes."""
    shape = (int(rng.integers(1, 4)), int(rng.choice([1, 3, 8, 17, 40])), *pair(rng, 1, 12))
    dtype, special = dtype_of(rng), share_of_specials(rng)
    x, dy = values(rng, shape, dtype, special), values(rng, shape, dtype, special)
    channels = shape[1:2]
    gamma, beta = (values(rng, channels, dtype) if rng.random() < 0.7 else None for _ in range(2))
    residual = values(rng, shape, dtype, special) if rng.random() < 0.5 else None
    relu, training = bool(rng.random() < 0.7), bool(rng.random() < 0.6)
    mean, var = rng.standard_normal(channels), rng.random(channels) + 0.1
    accumulate_into = values(rng, shape, dtype, special) if rng.random() < 0.5 else None

    def call(be: Backend) -> Any:
        stored = be.norm_act_eval(x, Norm(gamma, beta, mean, var, 1e-5), residual, relu)
        y, m, v = be.norm_act_train(x, gamma, beta, 1e-5, residual, relu)
        after = (y if training else stored) if relu else None
        norm = Norm(gamma, None, *((m, v) if training else (mean, var)), 1e-5)
        grads = be.norm_act_grad(dy, x, after, norm, training, residual is not None, accumulate_into)
        return (stored, y, m, v, *grads[: 3 if residual is None else 4])

    return call


@family
def matmul(rng: np.random.Generator) -> Call:
    dtype, special = dtype_of(rng), share_of_specials(rng)
    m, n = int(rng.choice([1, 2, 13, 14, 15, 33, 70])), int(rng.choice([1, 2, 13, 14, 15, 33, 70, 150]))
    k = int(rng.choice([0, 1, 5, 255, 256, 257, 700, 8192, 8193, 9000]))
    if m * n * k > 600_000:
        m, n = min(m, 5), min(n, 14)
    leading = [(), (), (2,), (3, 2)][int(rng.integers(4))]
    if k > 1000:
        leading = ()
    a = values(rng, (*leading, m, k), dtype, special)
    b = values(rng, (*(leading if rng.random() < 0.5 else ()), k, n), dtype, special)
    return lambda be: be.matmul(a, b)


@family
def linear(rng: np.random.Generator) -> Call:
    dtype = dtype_of(rng)
    m, k, n = int(rng.integers(0, 18)), int(rng.integers(1, 600)), int(rng.integers(1, 80))
    x, w = values(rng, (m, k), dtype), values(rng, (n, k), dtype)
    bias = values(rng, (n,), dtype) if rng.random() < 0.5 else None
    return lambda be: be.linear(x, w, bias)


def image_shape(rng: np.random.Generator, channels: int = 70, side: int = 20, sides: int = 2) -> tuple[int, ...]:
    longest = (4 * side, side, side // 2)[sides - 1]
    return (int(rng.integers(1, 4)), int(rng.integers(1, channels)), *numbers(rng, 1, longest, sides))


def half_of(rng: np.random.Generator, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """A padding of at most half of each window."""
    return tuple(int(rng.integers(0, size // 2 + 1)) for size in kernel)


@family
def batch_norm(rng: np.random.Generator) -> Call:
    dtype, special = dtype_of(rng), share_of_specials(rng) / 10
    shape = image_shape(rng, sides=sides_of(rng)) if rng.random() < 0.9 else (2, 3, 70, 65)
    if rng.random() < 0.1:
        shape = shape[:2]
    x, dy = values(rng, shape, dtype, special), values(rng, shape, dtype, special)
    gamma, beta = values(rng, shape[1:2], dtype), values(rng, shape[1:2], dtype)
    if rng.random() < 0.2:
        gamma = beta = None
    eps = float(rng.choice([1e-5, 1e-3]))
    mean, var = rng.standard_normal(shape[1]), rng.random(shape[1])

    def run(be: Backend) -> Any:
        y, batch_mean, batch_var = be.batch_norm_train(x, gamma, beta, eps)
        return (
            y,
            batch_mean,
            batch_var,
            be.batch_norm_grad(dy, x, gamma, batch_mean, batch_var, eps, True),
            be.batch_norm_eval(x, gamma, beta, mean, var, eps),
            be.batch_norm_grad(dy, x, gamma, mean, var, eps, False),
        )

    return run


@family
def max_pool2d(rng: np.random.Generator) -> Call:
    dtype, special, sides = dtype_of(rng), share_of_specials(rng), sides_of(rng)
    while True:
        shape, kernel = image_shape(rng, 40, 12, sides), numbers(rng, 1, 4, sides)
        stride, dilation, padding = numbers(rng, 1, 3, sides), numbers(rng, 1, 2, sides), half_of(rng, kernel)
        out = tuple(output_size(*side) for side in zip(shape[2:], kernel, stride, padding, dilation, strict=True))
        if min(out) > 0:
            break
    x, dy = values(rng, shape, dtype, special), values(rng, (*shape[:2], *out), dtype)
    with np.errstate(over="ignore"):
        x = np.round(x, 1)  # equal values in one window

    def run(be: Backend) -> Any:
        y, index = be.max_pool2d(x, kernel, stride, padding, dilation, out)
        return y, np.asarray(index, np.int64), be.max_pool2d_grad(dy, index, shape)

    return run


@family
def avg_pool2d(rng: np.random.Generator) -> Call:
    dtype, special, sides = dtype_of(rng), share_of_specials(rng), sides_of(rng)
    while True:
        shape, kernel = image_shape(rng, 40, 24, sides), numbers(rng, 1, (40, 18, 7)[sides - 1], sides)
        stride, padding = numbers(rng, 1, 3, sides), half_of(rng, kernel)
        out = tuple(output_size(*side) for side in zip(shape[2:], kernel, stride, padding, strict=True))
        if min(out) > 0:
            break
    include = bool(rng.integers(2))
    x, dy = values(rng, shape, dtype, special), values(rng, (*shape[:2], *out), dtype, special)
    return lambda be: (
        be.avg_pool2d(x, kernel, stride, padding, include, out),
        be.avg_pool2d_grad(dy, shape, kernel, stride, padding, include),
    )


@family
def adaptive_avg_pool2d(rng: np.random.Generator) -> Call:
    dtype, special, sides = dtype_of(rng), share_of_specials(rng), sides_of(rng)
    shape, out = image_shape(rng, 80, 20, sides), numbers(rng, 1, (9, 9, 5)[sides - 1], sides)
    x, dy = values(rng, shape, dtype, special), values(rng, (*shape[:2], *out), dtype, special)
    return lambda be: (be.adaptive_avg_pool2d(x, out), be.adaptive_avg_pool2d_grad(dy, shape))


@family
def adaptive_max_pool2d(rng: np.random.Generator) -> Call:
    dtype, special, sides = dtype_of(rng), share_of_specials(rng), sides_of(rng)
    shape, out = image_shape(rng, 80, 20, sides), numbers(rng, 1, (9, 9, 5)[sides - 1], sides)
    x, dy = values(rng, shape, dtype, special), values(rng, (*shape[:2], *out), dtype)
    with np.errstate(over="ignore"):
        x = np.round(x, 1)  # equal values in one window

    def run(be: Backend) -> Any:
        y, index = be.adaptive_max_pool2d(x, out)
        return y, np.asarray(index, np.int64), be.max_pool2d_grad(dy, index, shape)

    return run


@family
def resample(rng: np.random.Generator) -> Call:
    """Resizing and its gradient, with every kind of table."""
    dtype, special, sides = dtype_of(rng), share_of_specials(rng), sides_of(rng)
    shape, out = image_shape(rng, int(rng.choice([4, 70])), 14, sides), numbers(rng, 1, (60, 30, 9)[sides - 1], sides)
    x, dy = values(rng, shape, dtype, special), values(rng, (*shape[:2], *out), dtype, special)
    mode, align = str(rng.choice(["nearest", "nearest-exact", "linear", "cubic"])), bool(rng.integers(2))
    smoothed = bool(rng.random() < 0.3) and not align
    tables = [taps.side_taps(mode, s, o, align, None, smoothed) for s, o in zip(shape[2:], out, strict=True)]
    back = [taps.turned(table, size) for table, size in zip(tables, shape[2:], strict=True)]
    return lambda be: (
        be.resample(x, *taps.joined(tables), out),
        be.resample(dy, *taps.joined(back), shape[2:]),
    )


@family
def grid_sample(rng: np.random.Generator) -> Call:
    """Sampling at places, inside and outside, on pixels and between, and both gradients."""
    dtype, special = dtype_of(rng), share_of_specials(rng)
    shape, out = image_shape(rng, int(rng.choice([4, 70, 300])), 9), numbers(rng, 1, 12, 2)
    x, dy = values(rng, shape, dtype, special), values(rng, (*shape[:2], *out), dtype, special)
    grid = rng.uniform(-1.5, 1.5, (shape[0], *out, 2))
    grid = np.where(rng.random(grid.shape) < 0.3, np.round(grid * 2) / 2, grid).astype(dtype)
    grid[rng.random(grid.shape) < 0.05] = rng.choice([np.nan, np.inf, -1e30, 37.0])
    nearest, align = bool(rng.integers(2)), bool(rng.integers(2))
    border, reflection = [(False, False), (True, False), (False, True)][int(rng.integers(3))]
    how = align, border, reflection
    return lambda be: (
        be.grid_sample(x, grid, nearest, *how),
        be.grid_sample_input_grad(dy, grid, shape, nearest, *how),
        be.grid_sample_grid_grad(dy, x, grid, *how),
    )


def taking(values: int) -> list[str]:
    """The names of the functions of each element that take so many values."""
    return [name for name, f in FUNCTIONS.items() if f.__code__.co_argcount == values]


@family
def unary(rng: np.random.Generator) -> Call:
    dtype, shape = dtype_of(rng), tuple(int(v) for v in rng.integers(0, 12, int(rng.integers(0, 5))))
    x = values(rng, shape, dtype, 0.3)
    exponents = (0, 1, 2, 3, -1, -2, 7, 0.5, 1.7, -0.3)
    return lambda be: ([be.unary(op, x) for op in taking(1)], [be.power(x, e) for e in exponents])


@family
def binary(rng: np.random.Generator) -> Call:
    dtype, shape = dtype_of(rng), tuple(int(v) for v in rng.integers(1, 8, int(rng.integers(0, 5))))
    a = values(rng, shape, dtype, 0.3)
    keep = rng.random(len(shape)) < 0.7
    other = tuple(size if kept else 1 for size, kept in zip(shape, keep, strict=True))
    b = values(rng, other[int(rng.integers(0, len(shape) + 1)) :] if rng.random() < 0.3 else other, dtype, 0.3)
    if rng.random() < 0.5:
        b = values(rng, shape, dtype, 0.3)
    return lambda be: [be.binary(op, a, b) for op in taking(2)]


@family
def compare(rng: np.random.Generator) -> Call:
    dtype, shape = dtype_of(rng), tuple(int(v) for v in rng.integers(0, 8, int(rng.integers(0, 5))))
    a = values(rng, shape, dtype, 0.5)
    keep = rng.random(len(shape)) < 0.7
    b = values(
        rng, tuple(n if kept else 1 for n, kept in zip(shape, keep, strict=True)) if 0 not in shape else (), dtype, 0.5
    )
    whole = rng.integers(-2, 3, shape)
    ops = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    return lambda be: (
        [be.compare(op, a, b) for op in ops],
        [be.compare(op, whole, whole[::-1] if shape else whole) for op in ops],
    )


@family
def convert(rng: np.random.Generator) -> Call:
    dtype, shape = dtype_of(rng), tuple(int(v) for v in rng.integers(0, 8, int(rng.integers(0, 5))))
    x, whole = values(rng, shape, dtype, 0.5), rng.integers(-300, 300, shape)
    floats = np.float32, np.float64, np.bool_
    value = float(rng.choice([*SPECIAL, 0.1, 1 / 3]))
    return lambda be: (
        [be.convert(x, to) for to in floats],
        [be.convert(whole, to) for to in (*floats, np.int64)],
        [be.sign(x), be.sign(whole)],
        [be.number(value, to) for to in (np.float32, np.float64)],
        [be.full(shape, value, np.float32), be.full(shape, 7, np.int64)],
    )


@family
def arg_extreme(rng: np.random.Generator) -> Call:
    dtype, shape = dtype_of(rng), tuple(int(v) for v in rng.integers(1, 9, int(rng.integers(1, 5))))
    with np.errstate(over="ignore"):
        x = np.round(values(rng, shape, dtype, share_of_specials(rng)), 1)  # equal values
    axis = None if rng.random() < 0.3 else int(rng.integers(-len(shape), len(shape)))
    keepdims = bool(rng.integers(2))
    return lambda be: [be.arg_extreme(op, x, axis, keepdims) for op in ("argmax", "argmin")]


@family
def running_update(rng: np.random.Generator) -> Call:
    dtype, channels = dtype_of(rng), int(rng.integers(1, 70))
    running, statistic = values(rng, (channels,), dtype, 0.1), values(rng, (channels,), np.float64, 0.1)
    factor, momentum = float(rng.choice([1.0, 8 / 7])), float(rng.choice([0.1, 0.0, 1.0]))

    def run(be: Backend) -> Any:
        changed = running.copy() if running.flags.c_contiguous else np.repeat(running, 2)[::2]
        with np.errstate(all="ignore"):
            be.running_update(changed, statistic, factor, momentum)
        return changed

    return run


@family
def reductions(rng: np.random.Generator) -> Call:
    dtype, special = dtype_of(rng), share_of_specials(rng)
    shape = tuple(int(v) for v in rng.integers(1, 12, int(rng.integers(1, 5))))
    if rng.random() < 0.3:
        shape = (int(rng.choice([256, 257, 3000, 8192, 20000])), int(rng.integers(1, 5)))
    x = values(rng, shape, dtype, special)
    axes = tuple(axis for axis in range(len(shape)) if rng.random() < 0.6)
    keepdims = bool(rng.integers(2))
    return lambda be: [be.reduce(op, x, axes, keepdims) for op in ("sum", "mean", "max", "min")]


@family
def cumsum(rng: np.random.Generator) -> Call:
    dtype, special = dtype_of(rng), share_of_specials(rng)
    shape = tuple(int(v) for v in rng.integers(0 if rng.random() < 0.1 else 1, 12, int(rng.integers(1, 5))))
    axis = int(rng.integers(-len(shape), len(shape)))
    if rng.random() < 0.5:
        long = int(rng.choice([255, 256, 257, 2048, 2049, 3000, 8192, 8193, 17000, 70000]))
        shape = (int(rng.integers(1, 3)), long, int(rng.choice([1, 1, 2, 5, 17] if long < 9000 else [1])))
        axis = int(rng.choice([1, -2]))
        dtype = np.float64 if rng.random() < 0.6 else np.float32  # float32 hides most slips of the order
    x = values(rng, shape, dtype, special)
    return lambda be: [be.cumsum(x, axis, reverse) for reverse in (False, True)]


@family
def softmax_and_loss(rng: np.random.Generator) -> Call:
    dtype, special = dtype_of(rng), share_of_specials(rng) / 10
    rows, classes = int(rng.integers(1, 12)), int(rng.choice([1, 2, 10, 256, 257, 1000]))
    x, dy = values(rng, (rows, classes), dtype, special), values(rng, (rows, classes), dtype, special)
    target = rng.integers(0, classes, rows)
    weight = rng.random(classes).astype(dtype) if rng.random() < 0.5 else None
    ignore = int(rng.choice([-100, 0]))

    def run(be: Backend) -> Any:
        logp = be.log_softmax(x, 1)
        results: list[Any] = [logp, be.log_softmax_grad(dy, logp, 1)]
        for reduction in ("none", "sum", "mean"):
            loss, weight_sum = be.nll_loss(logp, target, weight, ignore, reduction)
            dloss = np.full(loss.shape, 0.7, dtype)
            results += [loss, be.nll_loss_grad(dloss, target, weight, ignore, reduction, weight_sum, classes)]
        return results

    return run


@family
def softmax_of_sure_rows(rng: np.random.Generator) -> Call:
    """Rows of which one class has nearly all, or that reach far down: where a sum has to be the law's to the bit."""
    rows, classes = int(rng.choice([1, 3, 8, 17])), int(rng.choice([1, 3, 40, 300]))
    x = (rng.standard_normal((rows, classes)) * 2.0 ** rng.integers(-6, 10, (rows, 1))).astype(np.float32)
    x[np.arange(rows), rng.integers(0, classes, rows)] += rng.choice([0, 5, 12, 17, 40, 700], rows).astype(np.float32)
    x[rng.random(x.shape) < rng.choice([0, 0.1])] = rng.choice([-np.inf, np.inf, np.nan], p=[0.8, 0.1, 0.1])
    dy = rng.standard_normal(x.shape).astype(np.float32)

    def run(be: Backend) -> Any:
        logp = be.log_softmax(x, 1)
        y = be.unary("exp", logp)
        grads = [be.log_softmax_grad(each, logp, 1) for each in (dy, y, np.zeros_like(dy))]
        return [logp, y, *grads, be.attention_weights(x[None, None], None, 1.0, False)]

    return run


@family
def functions_at_their_limits(rng: np.random.Generator) -> Call:
    """Float32 near places where a backend may go over to another way of computing the same."""
    limits = rng.choice([0.0, 2.0**-126, 2.0**-120, 1.0, 9.0, 42.0, 64.0, 87.0, 89.0, 104.0, 8192.0, 2.0**30], 200)
    near = limits * (1 + rng.integers(-6, 7, 200) * 2.0**-23)
    x = np.concatenate([near, np.ldexp(rng.uniform(1, 2, 100), rng.integers(-30, 10, 100))]).astype(np.float32)
    x *= rng.choice([-1, 1], x.shape).astype(np.float32)

    def run(be: Backend) -> Any:
        return [be.unary(op, x) for op in taking(1)]

    return run


@family
def attention(rng: np.random.Generator) -> Call:
    """The kernels of the weights, and the whole, which a backend may fuse."""
    dtype, special = dtype_of(rng), share_of_specials(rng) / 20
    batch, heads, queries, keys = (
        int(rng.choice(sizes)) for sizes in ((1, 2), (1, 3), (1, 5, 9, 40, 300), (1, 7, 33, 270))
    )
    if queries * keys > 20_000:  # enough of one size
        batch = heads = 1
    width, out = (int(v) for v in rng.integers(1, 9 if queries * keys > 2_000 else 40, 2))
    shared = int(rng.choice([1, heads]))  # heads of keys
    q, dy = (
        values(rng, (batch, heads, queries, width), dtype, special),
        values(rng, (batch, heads, queries, out), dtype),
    )
    k, v = values(rng, (batch, shared, keys, width), dtype), values(rng, (batch, shared, keys, out), dtype, special)
    shapes = [(keys,), (queries, keys), (batch, 1, 1, keys), (batch, heads, queries, keys), (queries, 1)]
    shape = shapes[int(rng.integers(len(shapes)))]
    mask = np.where(rng.random(shape) < 0.4, -np.inf, rng.standard_normal(shape)).astype(dtype)
    given = None if rng.random() < 0.5 else mask
    causal = bool(given is None and rng.random() < 0.6)
    scores = values(rng, (batch, heads, queries, keys), dtype, special)

    def run(be: Backend) -> Any:
        weights = be.attention_weights(scores, given, 0.3, causal)
        rest = q, k, v, given, 0.3, causal
        return [
            weights,
            be.attention_weights_grad(scores, weights, causal),
            be.attention(*rest),
            be.attention_grad(dy, *rest),
        ]

    return run


@family
def standardize(rng: np.random.Generator) -> Call:
    dtype, special = dtype_of(rng), share_of_specials(rng)
    rows, width = int(rng.choice([1, 3, 8, 9, 20, 300])), int(rng.choice([2, 5, 16, 33, 256, 300, 1000]))
    x, dy = values(rng, (rows, width), dtype, special), values(rng, (rows, width), dtype, special)
    weight, bias = (values(rng, (width,), dtype) if rng.random() < 0.6 else None for _ in range(2))
    centre, needs = bool(rng.integers(2)), (bool(rng.random() < 0.8), weight is not None, bias is not None)
    arrived = values(rng, (rows, width), dtype) if rng.random() < 0.5 else None

    def run(be: Backend) -> Any:
        y, mean, root = be.standardize(x, weight, bias, 1e-3, centre)
        grads = be.standardize_grad(dy, x, weight, mean, root, arrived, needs)
        return [y, root, *[part for part in grads if part is not None]]

    return run


@family
def sgd_step(rng: np.random.Generator) -> Call:
    dtype, shape = dtype_of(rng), tuple(int(v) for v in rng.integers(1, 12, 4))
    p, v = values(rng, shape, dtype), values(rng, shape, dtype)
    g = values(rng, shape, dtype, share_of_specials(rng))
    options = {
        "first": bool(rng.integers(2)),
        "lr": 0.1,
        "momentum": float(rng.choice([0, 0.9])),
        "dampening": float(rng.choice([0, 0.1])),
        "weight_decay": float(rng.choice([0, 1e-4])),
        "nesterov": bool(rng.integers(2)),
        "maximize": bool(rng.integers(2)),
    }

    def run(be: Backend) -> Any:
        param, velocity = p.copy("K"), v.copy("K")
        be.sgd_step(param, g, velocity if options["momentum"] else None, **options)
        return param, velocity

    return run


FLAGS = "amsgrad", "adaptive", "averaged", "centered", "maximize"
WANTED_BY = {"max_exp_avg_sq": "amsgrad", "momentum_buffer": "momentum", "grad_avg": "centered"}


@family
def update(rng: np.random.Generator) -> Call:
    """A rule of an optimiser, with memory as steps leave it, or with anything in it."""
    dtype, shape = dtype_of(rng), tuple(int(v) for v in rng.integers(1, 12, 4))
    rule = str(rng.choice(list(RULES)))
    chosen = {
        name: bool(rng.integers(2)) if name in FLAGS else float(rng.choice([0.0, 0.1, 0.9, 1.0, rng.random()]))
        for name in RULES[rule].numbers
    }
    special = share_of_specials(rng)
    p, g = values(rng, shape, dtype), values(rng, shape, dtype, special)
    wanted = [name for name in RULES[rule].memory if chosen.get(WANTED_BY.get(name, ""), True)]
    kept = {name: values(rng, shape, dtype, special / 3) for name in wanted}
    for name in ("exp_avg_sq", "square_avg", "sum", "acc_delta", "max_exp_avg_sq"):
        if name in kept and rng.random() < 0.9:
            np.abs(kept[name], out=kept[name])

    def run(be: Backend) -> Any:
        param, memory = p.copy("K"), {name: array.copy("K") for name, array in kept.items()}
        be.update(rule, param, g, memory, chosen)
        return param, *memory.values()

    return run


@family
def random_numbers(rng: np.random.Generator) -> Call:
    dtype, n = dtype_of(rng), int(rng.integers(0, 3000))
    seed, stream, block = (int(v) for v in rng.integers(0, 2**63, 3))
    return lambda be: (
        be.philox(seed, stream, block, n),
        be.uniform(seed, stream, block, n, -1.5, 2.5, dtype),
        be.normal(seed, stream, block, n, 0.5, 2.0, dtype),
    )


@family
def index_add(rng: np.random.Generator) -> Call:
    dtype, shape = dtype_of(rng), tuple(int(v) for v in rng.integers(1, 8, 2))
    index = rng.integers(0, shape[0], int(rng.integers(1, 20)))
    v = values(rng, (len(index), shape[1]), dtype, share_of_specials(rng))
    return lambda be: be.index_add(shape, index, v)


@family
def cumprod(rng: np.random.Generator) -> Call:
    dtype, special = dtype_of(rng), share_of_specials(rng)
    shape = tuple(int(v) for v in rng.integers(0 if rng.random() < 0.1 else 1, 40, int(rng.integers(1, 4))))
    x, dy = values(rng, shape, dtype, special), values(rng, shape, dtype)
    axis = int(rng.integers(-len(shape), len(shape)))
    if rng.random() < 0.5:  # products that neither vanish nor overflow
        x = np.asarray(1 + rng.standard_normal(shape) / 8, dtype)
    return lambda be: (be.cumprod(x, axis), be.cumprod_grad(dy, x, axis))


@family
def order(rng: np.random.Generator) -> Call:
    """Rows that are short, of several lengths of digits, and so long that threads share one."""
    dtype, special = dtype_of(rng), share_of_specials(rng)
    shape = tuple(int(v) for v in rng.integers(0 if rng.random() < 0.1 else 1, 60, int(rng.integers(1, 4))))
    axis = int(rng.integers(-len(shape), len(shape)))
    if rng.random() < 0.3:
        shape, axis = (int(rng.integers(1, 3)), int(rng.choice([300, 32768, 40000]))), 1
    x = values(rng, shape, dtype, special)
    if rng.random() < 0.5:
        with np.errstate(over="ignore"):
            x = np.round(x, int(rng.integers(0, 2)))  # equal values
    whole = rng.integers(-9, 9, shape)
    k = min(shape[axis], int(rng.choice([0, 1, 2, 5, 30, shape[axis]])))
    descending = bool(rng.integers(2))
    return lambda be: (
        be.argsort(x, axis, descending),
        be.topk(x, k, axis, descending),
        be.argsort(whole, axis, descending),
        be.topk(whole, k, axis, descending),
    )


@family
def places(rng: np.random.Generator) -> Call:
    """Elements and slices, taken, put and added."""
    dtype, special = dtype_of(rng), share_of_specials(rng)
    shape = tuple(int(v) for v in rng.integers(1, 12, int(rng.integers(1, 4))))
    if rng.random() < 0.2:
        shape = (int(rng.integers(1, 3)), int(rng.integers(1, 9)), int(rng.integers(1, 200)))
    axis = int(rng.integers(-len(shape), len(shape)))
    count, at = int(rng.integers(0 if rng.random() < 0.1 else 1, 30)), axis % len(shape)
    taken = (*shape[:at], count, *shape[at + 1 :])
    index = rng.integers(0, shape[at], count if rng.random() < 0.5 else taken)
    x, v = values(rng, shape, dtype, special), values(rng, taken, dtype, special)
    whole, others = rng.integers(-9, 9, shape), rng.integers(-9, 9, taken)
    return lambda be: (
        be.gather(x, axis, be.from_zero("gather", index - shape[at] * (index % 2), shape[at])),
        be.nonzero(whole),
        be.nonzero(x),
        be.scatter(x, axis, index, v),
        be.scatter_add(x, axis, index, v),
        be.gather(whole, axis, index),
        be.scatter(whole, axis, index, others),
        be.scatter_add(whole, axis, index, others),
    )


def matrices(rng: np.random.Generator, *shape: int) -> Array:
    """A small batch of them, in any memory order; sometimes with zeros, so that they may be singular."""
    x = values(rng, (*[(), (), (2,), (0,)][int(rng.integers(4))], *shape), np.float64)
    return np.where(rng.random(x.shape) < 0.4, 0.0, x) if rng.random() < 0.3 else x


@family
def linear_systems(rng: np.random.Generator) -> Call:
    n, columns = int(rng.choice([0, 1, 2, 7, 31, 33, 40])), int(rng.choice([1, 3, 34]))
    a = matrices(rng, n, n)
    if n and rng.random() < 0.3:
        a[..., rng.integers(n), rng.integers(n)] = rng.choice(SPECIAL)
    b = values(rng, (*a.shape[:-1], columns), np.float64)
    symmetric = np.nan_to_num(a) @ np.nan_to_num(a).swapaxes(-1, -2) + np.eye(n)
    upper, unit = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    return lambda be: (
        be.lu_factor(a),
        be.triangular_solve(a, b, upper, unit),
        be.cholesky_factor(symmetric),
        be.cholesky_factor(a),
    )


@family
def qr_factor(rng: np.random.Generator) -> Call:
    a = matrices(rng, *(int(rng.choice([0, 1, 2, 9, 33])) for _ in "mn"))
    complete = bool(rng.random() < 0.5)
    return lambda be: be.qr_factor(a, complete)


@family
def eigenvalues(rng: np.random.Generator) -> Call:
    n = int(rng.choice([0, 1, 2, 3, 5, 11]))
    a = matrices(rng, n, n)
    if n and rng.random() < 0.2:
        a[..., 0, 0] = rng.choice(SPECIAL)
    return lambda be: (be.eigh_factor(a), be.eig_factor(a), be.eig_factor(np.triu(a) + 0.01 * np.tril(a, -1)))


@family
def svd_factor(rng: np.random.Generator) -> Call:
    a = matrices(rng, *(int(rng.choice([0, 1, 2, 5, 12])) for _ in "mn"))
    return lambda be: be.svd_factor(a)


def named(result: Any, name: str = "result") -> Iterator[tuple[str, Array]]:
    if isinstance(result, (list, tuple)):
        for number, part in enumerate(result):
            yield from named(part, f"{name}[{number}]")
    else:
        yield name, np.asarray(result)


class OnHost:
    """A backend that takes and returns NumPy arrays; those of its own it makes and reads back itself."""

    _IN_PLACE = ("sgd_step", "update", "running_update")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            placed = [self._put(argument) for argument in arguments]
            result = getattr(self._backend, name)(*placed, **{key: self._put(o) for key, o in options.items()})
            if name in self._IN_PLACE:
                for argument, changed in zip(arguments, placed, strict=True):
                    pairs = (
                        [(array, changed[name]) for name, array in argument.items()]
                        if isinstance(argument, dict)
                        else [(argument, changed)]
                    )
                    for array, new in pairs:
                        if isinstance(array, np.ndarray):
                            array[...] = to_numpy(new)
            return self._get(result)

        return call

    def _put(self, value: Any) -> Any:
        if isinstance(value, tuple):
            parts = [self._put(part) for part in value]
            return type(value)(*parts) if isinstance(value, Norm | Epilogue) else tuple(parts)
        if isinstance(value, dict):
            return {name: self._put(part) for name, part in value.items()}
        return place(self._backend, value) if isinstance(value, np.ndarray) else value

    def _get(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._get(part) for part in value)
        return None if value is None else to_numpy(value)
