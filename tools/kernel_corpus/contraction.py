"""matmul, linear, conv2d and its gradients: products added in any order, im2col, taps, Winograd, FFT, split-K."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from kernel_corpus import alterations as alter
from kernel_corpus.arithmetic import ORDERS, Arithmetic, Array, arithmetic, nearest, rounded_tf32, sequential
from kernel_corpus.kernel import Bug, Kernel, Recipe

LOW = ("bfloat16", "float16")
PRECISIONS = ("float32", "tf32", *LOW)
PRODUCTS = 1 << 20  # that are held at once


def pair(value: Any) -> tuple[int, int]:
    """An attribute of two sides."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


# -- products of matrices ----------------------------------------------------------------------------------------------


def products(how: Arithmetic, a: Array, b: Array) -> Array:
    """``(M, K) @ (K, N)``: every product is rounded, and they are added in the arithmetic's order."""
    a, b = how.factor(a), how.factor(b)
    rows = max(1, PRODUCTS // max(1, b.size))
    parts = [how.total(a[start : start + rows, :, None] * b, 1) for start in range(0, len(a), rows)]
    return np.concatenate(parts) if parts else np.zeros((0, b.shape[1]), a.dtype)


def outer(how: Arithmetic, a: Array, b: Array) -> Array:
    """A sum of outer products, one k after the other."""
    a, b = how.factor(a), how.factor(b)
    made = np.zeros((len(a), b.shape[1]), a.dtype)
    for k in range(a.shape[1]):
        made += a[:, k, None] * b[k]
    return made


def blas(how: Arithmetic, a: Array, b: Array) -> Array:
    """NumPy's BLAS."""
    return how.factor(a) @ how.factor(b)


def tiles(how: Arithmetic, a: Array, b: Array, tile: int = 32) -> Array:
    """Tiles of K by BLAS, added to an accumulator."""
    a, b = how.factor(a), how.factor(b)
    made = np.zeros((len(a), b.shape[1]), a.dtype)
    for k in range(0, a.shape[1], tile):
        made += a[:, k : k + tile] @ b[k : k + tile]
    return made


def batched(two: Any, how: Arithmetic, a: Array, b: Array) -> Array:
    """A product of matrices over the leading axes, with broadcasting; vectors as NumPy takes them."""
    left, right = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    lead = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left, right = (np.broadcast_to(each, lead + each.shape[-2:]) for each in (left, right))
    made = np.empty((*lead, left.shape[-2], right.shape[-1]), a.dtype)
    for place in np.ndindex(*lead):
        made[place] = two(how, left[place], right[place])
    made = made[..., 0, :] if a.ndim == 1 else made
    return made[..., 0] if b.ndim == 1 else made


def linear(two: Any, how: Arithmetic, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``."""
    made = batched(two, how, x.reshape(-1, x.shape[-1]), weight.T).reshape(*x.shape[:-1], len(weight))
    return made if bias is None else made + bias


TWO = {"outer products": outer, "BLAS": blas, "tiles of 32 in K": tiles, "tiles of 128 in K": partial(tiles, tile=128)}


def matmuls(precision: str) -> Iterator[tuple[str, Any, Arithmetic]]:
    """The ways to multiply two matrices: a name, the function, its arithmetic."""
    for name, two in TWO.items():
        yield name, two, arithmetic(precision)
    for name, order in ORDERS.items():
        yield f"products {name}", products, arithmetic(precision, order)


# -- convolution -------------------------------------------------------------------------------------------------------


def windows(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, fill: float = 0.0) -> Array:
    """``(N, C, H, W) -> (N, C, OH, OW, KH, KW)``."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair, (kernel, stride, padding, dilation))
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    every = np.lib.stride_tricks.sliding_window_view(padded, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), axis=(2, 3))
    return every[:, :, ::sh, ::sw, ::dh, ::dw]


def im2col(
    two: Any, how: Arithmetic, x: Array, weight: Array, bias: Array | None = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, shift: int = 0,
) -> Array:  # fmt: skip
    """Columns of the windows, and one product of matrices a group. ``shift`` takes another group's channels."""
    seen = windows(x, weight.shape[2:], stride, padding, dilation)
    n, _, oh, ow = seen.shape[:4]
    inner, outer_ = weight.shape[1], len(weight) // groups
    made = np.empty((n, len(weight), oh, ow), x.dtype)
    for group in range(groups):
        taken = (group + shift) % groups
        columns = seen[:, taken * inner : (taken + 1) * inner].transpose(0, 2, 3, 1, 4, 5).reshape(n * oh * ow, -1)
        rows = weight[group * outer_ : (group + 1) * outer_].reshape(outer_, -1)
        share = two(how, columns, np.ascontiguousarray(rows.T)).reshape(n, oh, ow, outer_)
        made[:, group * outer_ : (group + 1) * outer_] = share.transpose(0, 3, 1, 2)
    return made if bias is None else made + bias[:, None, None]


def taps(
    how: Arithmetic, x: Array, weight: Array, bias: Array | None = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Array:  # fmt: skip
    """One product over the channels for each tap, and the taps added up, after the bias."""
    x, weight = how.factor(x), how.factor(weight)
    seen = windows(x, weight.shape[2:], stride, padding, dilation)
    n, _, oh, ow = seen.shape[:4]
    made = np.zeros((n, len(weight), oh, ow), x.dtype)
    made += 0 if bias is None else bias[:, None, None]
    split = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
    for i, j in np.ndindex(*weight.shape[2:]):
        view = seen[..., i, j].reshape(n, groups, weight.shape[1], oh * ow)
        made += (split[..., i, j] @ view).reshape(made.shape)
    return made


def fft(
    how: Arithmetic, x: Array, weight: Array, bias: Array | None = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Array:  # fmt: skip
    """By Fourier transforms in float64."""
    (sh, sw), (ph, pw), (dh, dw) = map(pair, (stride, padding, dilation))
    kh, kw = weight.shape[2:]
    wide = np.zeros((*weight.shape[:2], (kh - 1) * dh + 1, (kw - 1) * dw + 1))
    wide[:, :, ::dh, ::dw] = weight
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    size = padded.shape[2:]
    of_x = np.fft.rfft2(padded).reshape(len(x), groups, 1, weight.shape[1], size[0], -1)
    of_w = np.conj(np.fft.rfft2(wide, size)).reshape(1, groups, len(weight) // groups, weight.shape[1], size[0], -1)
    made = np.fft.irfft2((of_x * of_w).sum(3), size).reshape(len(x), len(weight), *size)
    made = made[:, :, : size[0] - wide.shape[2] + 1 : sh, : size[1] - wide.shape[3] + 1 : sw].astype(x.dtype)
    return made if bias is None else made + bias[:, None, None]


# Winograd's F(2, 3) and F(4, 3), from Lavin and Gray, "Fast algorithms for convolutional neural networks" (2016).
B2 = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
G2 = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
A2 = [[1, 1, 1, 0], [0, 1, -1, -1]]
B4 = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
G4 = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
A4 = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
WINOGRAD = {2: (B2, G2, A2), 4: (B4, G4, A4)}


def winograd(
    m: int, how: Arithmetic, x: Array, weight: Array, bias: Array | None = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Array:  # fmt: skip
    """Winograd's F(m, 3); what it does not serve goes by im2col, as libraries do."""
    plain = pair(stride) == pair(dilation) == (1, 1) and groups == 1 and weight.shape[2:] == (3, 3)
    if not plain:
        return im2col(blas, how, x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    data, kernel, out = (np.array(each, x.dtype) for each in WINOGRAD[m])
    ph, pw = pair(padding)
    oh, ow = x.shape[2] + 2 * ph - 2, x.shape[3] + 2 * pw - 2
    more = (-oh % m, -ow % m)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph + more[0]), (pw, pw + more[1])))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (m + 2, m + 2), axis=(2, 3))[:, :, ::m, ::m]
    of_x = data @ seen @ data.T
    of_w = kernel @ weight @ kernel.T
    made = out @ np.einsum("ncijpq,ocpq->noijpq", of_x, of_w, dtype=x.dtype) @ out.T
    n, o, rows, columns = made.shape[:4]
    made = made.transpose(0, 1, 2, 4, 3, 5).reshape(n, o, rows * m, columns * m)[:, :, :oh, :ow]
    return made if bias is None else made + bias[:, None, None]


def conv_gradients(
    how: Arithmetic, dy: Array, x: Array, weight: Array, bias: Array | None = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1, keep: Any = None,
) -> tuple[Array, Array, Array | None]:  # fmt: skip
    """Of the input (taps added where they belong), the weight (a sum over images and positions) and the bias.

    ``keep(i, j)`` says which taps the input's gradient takes: all, but for a bug."""
    (sh, sw), (ph, pw), (dh, dw) = map(pair, (stride, padding, dilation))
    n, o, oh, ow = dy.shape
    size = dy.reshape(n, groups, o // groups, oh * ow)
    split = weight.reshape(groups, o // groups, *weight.shape[1:])
    seen = windows(x, weight.shape[2:], stride, padding, dilation)
    canvas = np.zeros((n, x.shape[1], x.shape[2] + 2 * ph, x.shape[3] + 2 * pw), x.dtype)
    dweight = np.empty_like(weight)
    for i, j in np.ndindex(*weight.shape[2:]):
        share = np.swapaxes(how.factor(split[..., i, j]), 1, 2) @ how.factor(size)
        place = canvas[:, :, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
        if keep is None or keep(i, j):
            place += share.reshape(place.shape)
        for group in range(groups):
            inner = weight.shape[1]
            columns = seen[:, group * inner : (group + 1) * inner, :, :, i, j].transpose(1, 0, 2, 3).reshape(inner, -1)
            rows = size[:, group].transpose(1, 0, 2).reshape(o // groups, -1)
            made = products(how, rows, np.ascontiguousarray(columns.T))
            dweight[group * (o // groups) : (group + 1) * (o // groups), :, i, j] = made
    dbias = None if bias is None else how.total(dy.transpose(1, 0, 2, 3).reshape(o, -1), 1)
    return canvas[:, :, ph : ph + x.shape[2], pw : pw + x.shape[3]], dweight, dbias


CONVS: tuple[dict[str, Any], ...] = (
    {},
    {"padding": 1},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 2},
    {"groups": 2, "padding": 1},
)


def healthy() -> Iterator[Kernel]:
    """Every algorithm in every precision."""
    for precision in PRECISIONS:
        for name, two, how in matmuls(precision):
            yield Recipe("matmul", name, how, partial(batched, two)).kernel()
            yield Recipe("linear", name, how, partial(linear, two)).kernel()
        for attributes in CONVS:
            for name, two, how in matmuls(precision):
                if name in (
                    "BLAS",
                    "products random order",
                    "products 8 lanes",
                    "products descending",
                    "products pairwise",
                ):
                    yield Recipe("conv2d", f"im2col, {name}", how, partial(im2col, two), attributes).kernel()
            yield Recipe("conv2d", "taps", arithmetic(precision), taps, attributes).kernel()
            if precision != "tf32":
                yield Recipe("conv2d", "FFT in float64", arithmetic(precision), fft, attributes).kernel()
            for order in ("in sequence", "pairwise", "random order"):
                how = arithmetic(precision, ORDERS[order])
                forward = partial(im2col, blas)
                yield Recipe("conv2d", f"gradients {order}", how, forward, attributes, conv_gradients).kernel()
    for m in (2, 4):
        how = arithmetic(f"float32, winograd {m}x{m}")
        for attributes in CONVS[:2]:
            yield Recipe("conv2d", f"Winograd F({m}, 3)", how, partial(winograd, m), attributes).kernel()
    yield Recipe("matmul", "truncated factors", arithmetic("tf32, truncated"), partial(batched, blas)).kernel()
    yield Recipe("conv2d", "truncated factors", arithmetic("tf32, truncated"), taps, {"padding": 1}).kernel()


# -- bugs --------------------------------------------------------------------------------------------------------------


def _last_channel_without_bias(x: Array, weight: Array, bias: Array | None = None) -> tuple[Any, ...]:
    if bias is not None:
        bias = np.append(bias[:-1], bias.dtype.type(0))
    return x, weight, bias


def _rounded_before_bias(how: Arithmetic, x: Array, weight: Array, bias: Array | None = None, **given: Any) -> Array:
    made = (linear(blas, how, x, weight) if weight.ndim == 2 else taps(how, x, weight, **given)).astype(how.wide)
    made = nearest(made, how.precision).astype(how.wide)
    return made if bias is None else made + (bias if weight.ndim == 2 else bias[:, None, None])


def _without_last_tap(how: Arithmetic, dy: Array, x: Array, weight: Array, *bias: Any, **given: Any) -> Any:
    last = weight.shape[2] - 1, weight.shape[3] - 1
    return conv_gradients(how, dy, x, weight, *bias, **given, keep=lambda i, j: last == (0, 0) or (i, j) != last)


def _kernel_flipped(how: Arithmetic, dy: Array, x: Array, weight: Array, *bias: Any, **given: Any) -> Any:
    wrong, *_ = conv_gradients(how, dy, x, weight[:, :, ::-1, ::-1], *bias, **given)
    return wrong, *conv_gradients(how, dy, x, weight, *bias, **given)[1:]


def _tf32(recipe: Recipe) -> Recipe:
    return replace(recipe, how=replace(recipe.how, factor=rounded_tf32))


def _last_column(made: Array, *_: Array) -> Array:
    made = np.array(made)
    made[..., -1:] = 0
    return made


K_BUGS = (
    *(alter.tail(tile) for tile in (16, 32, 64)),
    alter.left_out("the last k left out", alter.all_but_last),
    alter.left_out("the first k twice", alter.twice_first),
)
COMMON = (alter.STORAGE_SUMS, alter.TRUNCATING, alter.FACTOR, alter.STRIDES, alter.NAN)
UNDECLARED = Bug("factors in TF32", "factors in TF32, undeclared", _tf32)
MATMUL_BUGS = (
    *K_BUGS,
    *COMMON,
    alter.unwritten(16, -1),
    alter.unwritten(32, -2),
    alter.LAST_ROW,
    Bug("a column left out", "the last column is zero", alter.result(_last_column)),
)
LINEAR_BUGS = (
    *K_BUGS[1:4],
    *COMMON,
    Bug("bias missing", "no bias for the last channel", alter.inputs(_last_channel_without_bias)),
    Bug("one rounding too many", "rounded before the bias", alter.body(_rounded_before_bias), subtle=True),
    alter.unwritten(32),
)
CONV_BUGS = (
    alter.tail(16),
    alter.left_out("the last k left out", alter.all_but_last),
    *COMMON,
    alter.FIRST_FOR_ALL,
    Bug("bias missing", "no bias for the last channel", alter.inputs(_last_channel_without_bias)),
    Bug("one rounding too many", "rounded before the bias", alter.body(_rounded_before_bias), subtle=True),
    Bug(
        "the kernel flipped", "the kernel flipped",
        alter.inputs(lambda x, w, *b: (x, w[:, :, ::-1, ::-1], *b)),
    ),
    Bug(
        "the kernel transposed", "the kernel's sides exchanged",
        alter.inputs(lambda x, w, *b: (x, w.swapaxes(2, 3) if w.shape[2] == w.shape[3] else w, *b)),
    ),
)  # fmt: skip
GRADIENT_BUGS = (
    alter.scaled_gradient(1, "the weight's gradient"),
    alter.scaled_gradient(0, "the input's gradient"),
    alter.left_out("the last position left out of the weight's gradient", alter.all_but_last),
    alter.tail(32),
    alter.STORAGE_SUMS,
    alter.TRUNCATING,
    Bug(
        "a tap left out", "the last tap left out of the input's gradient",
        alter.backward(_without_last_tap),
    ),
    Bug(
        "the kernel flipped", "the kernel flipped in the input's gradient",
        alter.backward(_kernel_flipped),
    ),
)  # fmt: skip
MIXED = Bug("groups mixed", "each group takes the next group's channels", alter.attribute(shift=1))
NO_STRIDE = Bug("stride ignored", "the second row of each stride", alter.inputs(lambda x, *w: (np.roll(x, -1, 2), *w)))


def mutants() -> Iterator[Kernel]:
    """The tables of bugs in float32, bfloat16 and float16."""
    three = ("float32", *LOW)
    yield from alter.mutants(
        lambda p: Recipe("matmul", "products", arithmetic(p), partial(batched, products)), three, MATMUL_BUGS
    )
    yield from alter.mutants(
        lambda p: Recipe("linear", "products", arithmetic(p), partial(linear, products)), three, LINEAR_BUGS
    )
    padded = {"padding": 1}
    conv = partial(im2col, products)
    yield from alter.mutants(lambda p: Recipe("conv2d", "im2col", arithmetic(p), conv, padded), three, CONV_BUGS)
    grouped = {"groups": 2, "padding": 1}
    yield from alter.mutants(lambda p: Recipe("conv2d", "im2col", arithmetic(p), conv, grouped), three, (MIXED,))
    strided = {"stride": 2, "padding": 1}
    yield from alter.mutants(lambda p: Recipe("conv2d", "im2col", arithmetic(p), conv, strided), three, (NO_STRIDE,))
    dilated = {"dilation": 2, "padding": 2}
    ignored = Bug("dilation ignored", "dilation 1, padding 1", alter.attribute(dilation=1, padding=1))
    yield from alter.mutants(lambda p: Recipe("conv2d", "im2col", arithmetic(p), conv, dilated), three, (ignored,))
    yield from alter.mutants(
        lambda p: Recipe(
            "conv2d", "gradients", arithmetic(p, sequential), partial(im2col, blas), padded, conv_gradients
        ),
        three,
        GRADIENT_BUGS,
    )
    for op, body in (("matmul", partial(batched, blas)), ("linear", partial(linear, blas))):
        yield Recipe(op, "BLAS", arithmetic("float32"), body).mutant(UNDECLARED)
    yield Recipe("conv2d", "taps", arithmetic("float32"), taps, padded).mutant(UNDECLARED)
