"""Inputs, the float64 result, and a bound that no healthy kernel passes.

These are what a careful user of a fixed tolerance would draw: normal numbers in shapes that are no multiples of tiles,
one input that is a transposed view, one with zeros of both signs, infinities and NaN. The kernel check draws its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kernel_corpus.arithmetic import STORED, Array, base_of
from kernel_corpus.contraction import pair
from kernel_corpus.kernel import Kernel, load, tensor_of
from kernel_corpus.libraries import TORCH

ROWS = ((1, 1), (1, 7), (3, 5), (17, 33), (5, 129), (64, 257), (2, 1000), (3, 7, 65), (1, 32768))
MATRICES = ((1, 1, 1), (2, 3, 5), (17, 33, 16), (5, 129, 65), (65, 257, 33), (1, 4097, 3), (33, 100, 1))
# Images, channels, height, width, output channels, the kernel's side.
IMAGES = ((1, 2, 5, 5, 2, 3), (2, 4, 9, 7, 4, 3), (3, 8, 17, 17, 6, 3), (2, 16, 13, 11, 4, 1), (2, 32, 8, 8, 2, 3))
POOLED = ((1, 1, 5, 5), (2, 3, 7, 9), (1, 4, 17, 33), (2, 2, 32, 31), (1, 2, 9, 70))
NORMALISED = ((2, 3, 4, 4), (5, 7, 9, 3), (16, 4, 17, 17), (33, 5))
CLASSES = ((1, 2), (7, 10), (33, 129), (64, 1000), (3, 5, 4))
PAIRS = (
    ((1,), (1,)),
    ((3, 5), (5,)),
    ((17, 33), (17, 1)),
    ((65, 65), (65, 1)),
    ((2, 3, 129), (3, 1)),
    ((17, 33), (17, 33)),
    ((20011,), (20011,)),
)
VECTORS = ((1,), (7,), (129,), (17, 33), (97, 67), (20011,))
# Operations that decide or move what they are given, or whose special values have one right answer.
SPECIAL = (
    "relu",
    "exp",
    "log",
    "sigmoid",
    "add",
    "multiply",
    "max_pool2d",
    "sum",
    "mean",
    "softmax",
    "log_softmax",
)


@dataclass(frozen=True)
class Draw:
    """Inputs of one call.

    Args:
        name: the sizes, or what is special.
        inputs: in the stored format, ``None`` where one is not given.
        terms: how many are added up for one element of the result.
        special: whether values are not finite.
    """

    name: str
    inputs: tuple[Any, ...]
    terms: int
    special: bool = False


def _normal(shape: Any, precision: str, rng: np.random.Generator) -> Array:
    return rng.standard_normal(shape).astype(STORED[base_of(precision)])


def draws(kernel: Kernel, seed: int = 0) -> Iterator[Draw]:
    """The inputs that a kernel of an operation and its attributes is given."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{kernel.op} {sorted(kernel.attributes.items())!r}".encode())])
    for name, arrays, terms in _plain(kernel.op, kernel.attributes, kernel.precision, rng):
        yield Draw(name, arrays, terms)
        if 200 < arrays[0].size < 5000 and arrays[0].ndim > 1 and arrays[0].shape[0] > 1:
            last = name, arrays, terms
    name, (first, *more), terms = last
    view = np.ascontiguousarray(first.T).T
    yield Draw(f"{name}, a transposed view", (view, *more), terms)
    if kernel.op in ("softmax", "log_softmax"):
        rows = np.arange(len(first)).reshape(-1, *[1] * (first.ndim - 1)) * 150.0
        yield Draw(f"{name}, rows far apart", ((first.astype(np.float64) + rows).astype(first.dtype),), terms)
    if "FFT" in kernel.name or "winograd" in kernel.precision:
        return  # a NaN spreads over all that such an algorithm transforms together
    values = first.copy()
    some = rng.choice(values.size, 12, replace=False)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 100.0] if kernel.op in SPECIAL else [np.nan]
    values.reshape(-1)[some] = np.resize(special, len(some)).astype(values.dtype)
    if kernel.op == "max_pool2d":
        values[0, 0, :4, :4] = -0.0
    if kernel.op in ("add", "multiply"):
        values[:, 0], more[0] = -0.0, np.where(np.arange(len(more[0]))[:, None] < 9, -0.0, more[0]).astype(first.dtype)
        values[10, 1:3] = np.inf
    yield Draw(f"{name}, special values", (values, *more), terms, True)


def _plain(
    op: str, given: Mapping[str, Any], precision: str, rng: np.random.Generator
) -> Iterator[tuple[str, Any, int]]:
    def normal(*shape: int) -> Array:
        return _normal(shape, precision, rng)

    def near_one(size: int) -> Array:
        return (1 + np.abs(rng.standard_normal(size))).astype(STORED[base_of(precision)])

    if op in ("matmul", "linear"):
        for m, k, n in MATRICES:
            scale = normal(n, k) if op == "linear" else normal(k, n)
            yield f"{m}x{k}x{n}", (normal(m, k), scale, *([normal(n)] if op == "linear" else [])), k
        if op == "matmul":
            yield "2x5x17x3", (normal(2, 5, 17), normal(2, 17, 3)), 17
    elif op == "conv2d":
        for n, c, h, w, o, k in IMAGES:
            groups = given.get("groups", 1)
            dx = (k - 1) * pair(given.get("dilation", 1))[0] + 1
            if h + 2 * pair(given.get("padding", 0))[0] >= dx:
                yield (
                    f"{n}x{c}x{h}x{w}, {o}x{k}x{k}",
                    (normal(n, c, h, w), normal(o, c // groups, k, k), normal(o)),
                    c * k * k,
                )
    elif op == "batch_norm":
        for shape in NORMALISED:
            c = shape[1]
            arrays = (normal(*shape), normal(c), near_one(c), near_one(c), normal(c))
            yield "x".join(map(str, shape)), arrays, int(np.prod(shape)) // c
    elif op.endswith("pool2d"):
        for shape in POOLED:
            x = normal(*shape)
            x = np.rint(x * x.dtype.type(2)) if shape[1] == 3 else x  # ties
            yield "x".join(map(str, shape)), (x.astype(STORED[base_of(precision)]),), int(np.prod(shape[2:]))
    elif op == "cross_entropy":
        for shape in CLASSES:
            yield (
                "x".join(map(str, shape)),
                (normal(*shape), rng.integers(0, shape[1], (shape[0], *shape[2:]))),
                sum(shape),
            )
    elif op in ("add", "multiply"):
        for one, other in PAIRS:
            yield f"{one} and {other}", (normal(*one), normal(*other)), 1
    elif op in ("relu", "exp", "log", "sigmoid", "gelu"):
        for shape in VECTORS:
            x = normal(*shape)
            yield "x".join(map(str, shape)), (np.abs(x) + x.dtype.type(0.001) if op == "log" else x,), 1
    else:
        for shape in ROWS:
            x = normal(*shape)
            more = (near_one(shape[-1]), normal(shape[-1])) if op == "layer_norm" else ()
            yield "x".join(map(str, shape)), (x, *more), int(np.prod(shape))


# -- the truth ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """The float64 result, the gradients of a gradient of ones and twos, and what a healthy kernel may be off by."""

    result: Array
    bound: Array
    gradient: Array
    gradients: tuple[Array | None, ...]


def truth(kernel: Kernel, draw: Draw, backward: bool = False) -> Truth:
    """By PyTorch in float64."""
    wide = [None if each is None else tensor_of(load(each, np.dtype(np.float64))) for each in draw.inputs]
    for place, each in enumerate(wide):
        statistics = kernel.op == "batch_norm" and place in (1, 2)
        if backward and not statistics and each is not None and each.is_floating_point():
            each.requires_grad_(True)
    made = TORCH[kernel.op](*wide, **kernel.attributes)
    gradient = np.ones(made.shape)
    gradient.reshape(-1)[::2] = -2.0
    gradients: tuple[Array | None, ...] = ()
    if backward:
        made.backward(torch.from_numpy(gradient))
        gradients = tuple(None if each is None or each.grad is None else each.grad.numpy() for each in wide)
    result = made.detach().numpy()
    with np.errstate(all="ignore"):
        bound = _bound(kernel, [None if each is None else each.detach() for each in wide], result, draw.terms)
    return Truth(result, bound, gradient, gradients)


def _bound(kernel: Kernel, inputs: list[Any], y: Array, terms: int) -> Array:
    """``(terms + 8) u magnitude``, the worst of any order, and twice the rounding of what is stored."""
    base = base_of(kernel.precision)
    stored = {"bfloat16": 2.0**-8, "float16": 2.0**-11}.get(base, 2.0**-24)
    unit = 2.0**-53 if base == "float64" else 2.0**-24
    one = {"tf32": 2.0**-10 if "truncated" in kernel.precision else 2.0**-11}.get(base, 0.0)
    op, given = kernel.op, kernel.attributes
    factors = 1.0
    if "winograd" in kernel.precision:
        factors = 64.0
    sizes = [each.abs() if each is not None and each.is_floating_point() else each for each in inputs]
    if op in (
        "matmul",
        "linear",
        "conv2d",
        "sum",
        "mean",
        "cumsum",
        "avg_pool2d",
        "adaptive_avg_pool2d",
        "add",
        "multiply",
        "relu",
    ):
        size = TORCH[op](*sizes, **given).numpy()
        if "winograd" in kernel.precision:
            size = np.full_like(size, size.max())
        slack = ((terms + 8) * unit + 2 * one) * size * factors
    elif op == "max_pool2d":
        slack = np.zeros_like(y)
    elif op in ("batch_norm", "layer_norm"):
        x = sizes[0]
        weight, bias = (sizes[3], sizes[4]) if op == "batch_norm" else (sizes[1], sizes[2])
        deep = 100.0 if given.get("training", op == "layer_norm") else 1.0
        scale = float(weight.max()) * (1 + float(x.max())) / (1.0 if deep > 1 else float(inputs[2].min()) ** 0.5)
        slack = (terms + 8) * unit * (scale * deep + float(bias.max())) + np.zeros_like(y)
    elif op in ("softmax", "log_softmax"):
        span = float(sizes[0].max()) * 2
        slack = (terms + 16 + 2 * span) * unit * (np.abs(y) if op == "softmax" else 1 + np.abs(y))
    elif op == "cross_entropy":
        many = inputs[1].numel() if given.get("reduction") == "sum" else 1
        span = float(sizes[0].max()) * 2 + np.log(inputs[0].shape[1])
        slack = ((terms + 16) * unit + stored) * (1 + span) * many * np.ones_like(y)
    else:
        scale = np.maximum(np.abs(y), sizes[0].numpy()) if op == "gelu" else np.abs(y)
        slack = 16 * unit * scale * (1 + sizes[0].numpy() if op == "exp" else 1)
    least = {"float16": 2.0**-24, "bfloat16": 2.0**-133}.get(base, 2.0**-149)
    # PyTorch stores what it normalises, or the exponentials, in between.
    roundings = 2.0 if op in ("softmax", "log_softmax", "batch_norm") else 1.01
    return slack + (stored * roundings if stored > unit else 0.0) * (np.abs(y) + slack) + least + 0 * y
