"""max_pool2d, avg_pool2d, adaptive_avg_pool2d: window by window, or tap by tap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernel_corpus import alterations as alter
from kernel_corpus.arithmetic import ORDERS, Arithmetic, Array, arithmetic
from kernel_corpus.contraction import pair
from kernel_corpus.kernel import Bug, Kernel, Recipe

PRECISIONS = ("float32", "bfloat16", "float16")
MAXES: tuple[dict[str, Any], ...] = (
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 2, "stride": 1, "dilation": 2},
)
AVERAGES: tuple[dict[str, Any], ...] = (
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
)
ADAPTIVES: tuple[dict[str, Any], ...] = ({"output_size": 1}, {"output_size": 3}, {"output_size": (2, 5)})


def sides(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> list[tuple[int, int]]:
    """By output, where its window begins (it may be before the input) and ends, in one direction."""
    reach = dilation * (kernel - 1) + 1
    span = size + 2 * padding - reach
    count = (-(-span // stride) if ceil else span // stride) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1
    return [(i * stride - padding, i * stride - padding + reach) for i in range(count)]


def max_pool2d(
    how: Arithmetic, x: Array, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False, fill: float = -np.inf, larger: Any = np.maximum,
) -> Array:  # fmt: skip
    """The largest of each window, tap by tap; ``fill`` stands in the padding."""
    (kh, kw), (ph, pw), (dh, dw) = map(pair, (kernel_size, padding, dilation))
    sh, sw = pair(kernel_size if stride is None else stride)
    rows, columns = (
        sides(x.shape[2], kh, sh, ph, dh, ceil_mode),
        sides(x.shape[3], kw, sw, pw, dw, ceil_mode),
    )
    high = (
        max([end for _, end in rows], default=0) - x.shape[2],
        max([end for _, end in columns], default=0) - x.shape[3],
    )
    padded = np.pad(x, ((0, 0), (0, 0), (ph, max(high[0], 0)), (pw, max(high[1], 0))), constant_values=fill)
    made = np.full((*x.shape[:2], len(rows), len(columns)), -np.inf, x.dtype)
    for i, j in np.ndindex(kh, kw):
        at = np.ix_([start + ph + i * dh for start, _ in rows], [start + pw + j * dw for start, _ in columns])
        made = larger(made, padded[:, :, at[0], at[1]])
    return made


def max_pool2d_gradient(
    how: Arithmetic, dy: Array, x: Array, *, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False, ties: bool = False,
) -> tuple[Array]:  # fmt: skip
    """To the first largest of each window; ``ties``: to all that are as large."""
    (kh, kw), (ph, pw), (dh, dw) = map(pair, (kernel_size, padding, dilation))
    sh, sw = pair(kernel_size if stride is None else stride)
    rows = sides(x.shape[2], kh, sh, ph, dh, ceil_mode)
    columns = sides(x.shape[3], kw, sw, pw, dw, ceil_mode)
    largest = max_pool2d(
        how, x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    made, given = np.zeros_like(x), np.zeros(largest.shape, bool)
    for i, j in np.ndindex(kh, kw):
        down = np.array([start + i * dh for start, _ in rows], np.int64)
        right = np.array([start + j * dw for start, _ in columns], np.int64)
        inside = ((down >= 0) & (down < x.shape[2]))[:, None] & ((right >= 0) & (right < x.shape[3]))
        at = np.clip(down, 0, x.shape[2] - 1)[:, None], np.clip(right, 0, x.shape[3] - 1)
        seen = x[:, :, at[0], at[1]]
        hit = inside & ((seen == largest) | np.isnan(seen) & np.isnan(largest)) & (ties | ~given)
        np.add.at(made, (slice(None), slice(None), *at), np.where(hit, dy, 0))
        given |= hit
    return (made,)


def avg_pool2d(
    how: Arithmetic, x: Array, *, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, whole: bool = False,
) -> Array:  # fmt: skip
    """The mean of each window; ``whole`` always divides by the kernel's area."""
    (kh, kw), (ph, pw) = map(pair, (kernel_size, padding))
    sh, sw = pair(kernel_size if stride is None else stride)
    height, width = x.shape[2:]
    rows, columns = sides(height, kh, sh, ph, 1, ceil_mode), sides(width, kw, sw, pw, 1, ceil_mode)
    made = np.empty((*x.shape[:2], len(rows), len(columns)), x.dtype)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            counted = (min(bottom, height + ph) - top) * (min(right, width + pw) - left)
            seen = x[:, :, max(top, 0) : bottom, max(left, 0) : right]
            inside = seen.shape[2] * seen.shape[3]
            over = kh * kw if whole else counted if count_include_pad else inside
            made[:, :, i, j] = how.total(seen.reshape(*x.shape[:2], inside), 2) / x.dtype.type(over)
    return made


def adaptive_avg_pool2d(how: Arithmetic, x: Array, *, output_size: Any, up: bool = True, over: Any = None) -> Array:
    """The mean of windows from ``floor(i H / OH)`` to ``ceil((i + 1) H / OH)``; ``up``: rounded up at the end."""
    wanted = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    sizes = [have if want is None else int(want) for want, have in zip(wanted, x.shape[2:], strict=True)]

    def ends(i: int, of: int, size: int) -> tuple[int, int]:
        end = -(-(i + 1) * size // of) if up else (i + 1) * size // of
        return i * size // of, max(end, i * size // of + 1)

    made = np.empty((*x.shape[:2], *sizes), x.dtype)
    for i, j in np.ndindex(*sizes):
        (top, bottom), (left, right) = ends(i, sizes[0], x.shape[2]), ends(j, sizes[1], x.shape[3])
        seen = x[:, :, top:bottom, left:right]
        terms = seen.reshape(*x.shape[:2], -1)
        made[:, :, i, j] = how.total(terms, 2) / x.dtype.type(over or terms.shape[2])
    return made


def healthy() -> Iterator[Kernel]:
    """Max pooling has one result; averages some orders of summation."""
    for precision in PRECISIONS:
        for attributes in MAXES:
            how = arithmetic(precision)
            yield Recipe("max_pool2d", "tap by tap", how, max_pool2d, attributes).kernel()
            yield Recipe("max_pool2d", "gradient", how, max_pool2d, attributes, max_pool2d_gradient).kernel()
        for order in ("in sequence", "descending", "random order", "pairwise", "float64 accumulators"):
            how = arithmetic(precision, ORDERS[order])
            for attributes in AVERAGES:
                yield Recipe("avg_pool2d", order, how, avg_pool2d, attributes).kernel()
            for attributes in ADAPTIVES:
                yield Recipe("adaptive_avg_pool2d", order, how, adaptive_avg_pool2d, attributes).kernel()


def _plain_max(a: Array, b: Array) -> Array:
    return np.where(b > a, b, a)  # a NaN never is larger


def _without_ties(how: Arithmetic, x: Array, *, ties: bool = False, **given: Any) -> Array:
    return max_pool2d(how, x, **given)


MAX_BUGS = (
    Bug("NaN swallowed", "NaN swallowed by fmax", alter.attribute(larger=np.fmax)),
    Bug("NaN swallowed", "NaN swallowed by a comparison", alter.attribute(larger=_plain_max)),
    alter.CLAMPED,
    alter.STRIDES,
    alter.FACTOR,
    alter.FIRST_FOR_ALL,
    alter.unwritten(16),
)
PADDED_BUGS = (
    Bug("padding as zero", "padding counts as zero", alter.attribute(fill=0.0)),
    alter.NEGATIVE_ZERO,
)
AVERAGE_BUGS = (
    alter.STORAGE_SUMS,
    alter.TRUNCATING,
    alter.FACTOR,
    alter.STRIDES,
    alter.left_out("the last of each window left out", alter.all_but_last),
)


def mutants() -> Iterator[Kernel]:
    """The tables of bugs."""

    def of(op: str, body: Any, given: dict[str, Any]) -> Any:
        return lambda precision: Recipe(op, "windows", arithmetic(precision), body, given)

    yield from alter.mutants(of("max_pool2d", max_pool2d, MAXES[0]), PRECISIONS, MAX_BUGS)
    yield from alter.mutants(of("max_pool2d", max_pool2d, MAXES[1]), PRECISIONS, PADDED_BUGS)
    ties = Bug("ties counted twice", "the gradient goes to all that tie", alter.attribute(ties=True))
    scaled = alter.scaled_gradient(0, "the gradient")

    def gradient(precision: str) -> Recipe:
        how = arithmetic(precision)
        return Recipe("max_pool2d", "gradient", how, _without_ties, MAXES[0], max_pool2d_gradient)

    yield from alter.mutants(gradient, PRECISIONS, (ties,))
    yield from alter.mutants(gradient, ("float32", "float16"), (scaled,))
    undilated = Bug("dilation ignored", "windows of neighbours", alter.attribute(dilation=1, stride=1, kernel_size=3))
    yield from alter.mutants(of("max_pool2d", max_pool2d, MAXES[3]), PRECISIONS, (undilated,))
    yield from alter.mutants(of("avg_pool2d", avg_pool2d, AVERAGES[1]), PRECISIONS, AVERAGE_BUGS)
    counted = (Bug("count_include_pad wrong", "padding not counted", alter.attribute(count_include_pad=False)),)
    yield from alter.mutants(of("avg_pool2d", avg_pool2d, AVERAGES[1]), PRECISIONS, counted)
    counted = (Bug("count_include_pad wrong", "padding counted", alter.attribute(count_include_pad=True)),)
    yield from alter.mutants(of("avg_pool2d", avg_pool2d, AVERAGES[2]), PRECISIONS, counted)
    counted = (Bug("ceil_mode wrong", "the last windows divided by the whole area", alter.attribute(whole=True)),)
    yield from alter.mutants(of("avg_pool2d", avg_pool2d, AVERAGES[3]), PRECISIONS, counted)
    adaptive = (
        Bug("windows wrong", "windows rounded down at the end", alter.attribute(up=False)),
        alter.TRUNCATING,
        alter.STORAGE_SUMS,
        alter.FACTOR,
    )
    yield from alter.mutants(of("adaptive_avg_pool2d", adaptive_avg_pool2d, ADAPTIVES[1]), PRECISIONS, adaptive)
