"""The law once more, one number at a time, against the reference backend bit for bit.

Everything above the tests is written from ``lucid/ARITHMETIC.md`` alone: scalar loops, and an fma rounded once by
rational arithmetic. It shares no code with the backend, so a slip in the backend's order cannot hide in both.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import elementary
from support.elementary import exp as exp64
from support.families import FLAGS, WANTED_BY

import lucid
from lucid.backends import get_backend
from lucid.core.angles import of_degrees
from lucid.kernels import _fma
from lucid.kernels.elementwise import functions
from lucid.kernels.elementwise.functions import FUNCTIONS
from lucid.kernels.optimizer.rules import RULES
from lucid.kernels.pool import taps
from lucid.optim._rule import power as rule_power

Array = Any
BACKEND = get_backend("reference")
DTYPES = [np.float32, np.float64]
SEED = 20240607
# significand bits, exponent of the least subnormal, exponent of overflow
FORMATS = {np.float32: (24, -149, 128), np.float64: (53, -1074, 1024)}


# -- section 1: numbers ----------------------------------------------------------------------------------------------


def rounded(value: Fraction, dtype: Any) -> float:
    """A non-zero rational number to the nearest of ``dtype``, ties to even, overflowing to infinity."""
    digits, least, top = FORMATS[dtype]
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    lowest = max(exponent - digits + 1, least)
    quantum = Fraction(2) ** lowest
    whole, rest = divmod(magnitude, quantum)
    whole += (rest * 2 > quantum) or (rest * 2 == quantum and whole % 2 == 1)
    result = math.inf if whole * quantum >= 2**top else math.ldexp(whole, lowest)
    return -result if value < 0 else result


def scalar_fma(a: float, b: float, c: float, dtype: Any) -> float:
    if math.isnan(a) or math.isnan(b) or math.isnan(c):
        return math.nan
    negative = math.copysign(1, a) * math.copysign(1, b) < 0
    if math.isinf(a) or math.isinf(b):
        product = -math.inf if negative else math.inf
        invalid = a == 0 or b == 0 or (math.isinf(c) and c != product)
        return math.nan if invalid else product
    if math.isinf(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact:
        return rounded(exact, dtype)
    both_negative = negative and math.copysign(1, c) < 0 and c == 0
    return -0.0 if both_negative else 0.0


def narrow(x: float, dtype: Any) -> Any:
    with np.errstate(all="ignore"):
        return dtype(x)


def divide(a: float, b: float) -> float:
    with np.errstate(all="ignore"):
        return float(np.float64(a) / np.float64(b))


# -- section 2: the order of a sum -----------------------------------------------------------------------------------


def total_of(segments: list[Any]) -> Any:
    groups = []
    for g in range(0, len(segments), 32):
        group = segments[g]
        for s in segments[g + 1 : g + 32]:
            group = group + s
        groups.append(group)
    total = groups[0]
    for group in groups[1:]:
        total = total + group
    return total


def contraction(pairs: Sequence[tuple[float, float]], dtype: Any) -> Any:
    if not pairs:
        return dtype(0)
    segments = []
    with np.errstate(all="ignore"):
        for j in range(0, len(pairs), 256):
            segment, runs = pairs[j : j + 256], []
            for i in range(0, len(segment), 32):
                r = 0.0
                for a, b in segment[i : i + 32]:
                    r = scalar_fma(a, b, r, dtype)
                runs.append(dtype(r))
            s = runs[0]
            for r in runs[1:]:
                s = s + r
            segments.append(s)
        return total_of(segments)


def reduction(terms: Iterable[float]) -> float:
    terms = [float(t) for t in terms]
    if not terms:
        return 0.0
    segments = []
    for j in range(0, len(terms), 256):
        s = 0.0
        for t in terms[j : j + 256]:
            s = s + t
        segments.append(s)
    return total_of(segments)


# -- section 3: contractions -----------------------------------------------------------------------------------------


# Loops over sides: of the output, of the kernel, of the input; the first side is the outermost.


def at(x: Array, n: int, c: int, place: Sequence[int]) -> float:
    inside = all(0 <= p < size for p, size in zip(place, x.shape[2:], strict=True))
    return float(x[(n, c, *place)]) if inside else 0.0


def meeting(output: Any, tap: Any, stride: Any, padding: Any, dilation: Any) -> list[int]:
    """The input coordinates that a tap meets."""
    sides = zip(output, tap, stride, padding, dilation, strict=True)
    return [o * step - pad + k * gap for o, k, step, pad, gap in sides]


def conv2d(x: Array, w: Array, stride: Any, padding: Any, dilation: Any, groups: int, output: Any) -> Array:
    out, per_group, *kernel = w.shape
    y = np.empty((len(x), out, *output), x.dtype)
    for n, o, *place in np.ndindex(y.shape):
        first = o // (out // groups) * per_group
        pairs = []
        for *tap, ci in np.ndindex(*kernel, per_group):
            met = meeting(place, tap, stride, padding, dilation)
            pairs.append((at(x, n, first + ci, met), float(w[(o, ci, *tap)])))
        y[(n, o, *place)] = contraction(pairs, x.dtype.type)
    return y


def conv2d_input_grad(dy: Array, w: Array, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    out, per_group, *kernel = w.shape
    per_out = out // groups
    dx = np.empty(shape, dy.dtype)
    for n, c, *place in np.ndindex(*shape):
        group, ci = divmod(c, per_group)
        pairs = []
        for *tap, o in np.ndindex(*kernel, per_out):
            ahead = [p + pad - k * gap for p, pad, k, gap in zip(place, padding, tap, dilation, strict=True)]
            if any(a % step for a, step in zip(ahead, stride, strict=True)):
                continue
            channel = group * per_out + o
            met = [a // step for a, step in zip(ahead, stride, strict=True)]
            pairs.append((at(dy, n, channel, met), float(w[(channel, ci, *tap)])))
        dx[(n, c, *place)] = contraction(pairs, dy.dtype.type)
    return dx


def conv2d_weight_grad(dy: Array, x: Array, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    dw = np.empty(shape, dy.dtype)
    for o, ci, *tap in np.ndindex(*shape):
        c = o // (shape[0] // groups) * shape[1] + ci
        pairs = []
        for n, *place in np.ndindex(len(x), *dy.shape[2:]):
            met = meeting(place, tap, stride, padding, dilation)
            pairs.append((float(dy[(n, o, *place)]), at(x, n, c, met)))
        dw[(o, ci, *tap)] = contraction(pairs, dy.dtype.type)
    return dw


# -- section 6: transcendental functions -----------------------------------------------------------------------------


def pattern(bits: int) -> float:
    return struct.unpack(">d", bits.to_bytes(8, "big"))[0]


@functools.cache
def printed_constants() -> dict[str, Any]:
    """The constants of section 6, as the law's tables have them."""
    text = (Path(lucid.__file__).parent / "ARITHMETIC.md").read_text(encoding="utf-8")
    found = re.findall(r"\| (\w+) \| ((?:0x[0-9A-F]{16}(?:, )?)+) ", text)
    numbers = {name: [pattern(int(word, 16)) for word in words.split(", ")] for name, words in found}
    return {name: values if len(values) > 1 else values[0] for name, values in numbers.items()}


def polynomial(coefficients: list[float], x: float) -> float:
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def cdf64(x: float) -> float:
    if math.isnan(x):
        return x
    c, t = printed_constants(), abs(x)
    if t > 64:
        return 1.0 if x > 0 else 0.0
    g = t / (t + 6)
    q = 2 * g - 1
    r = polynomial(c["CDF_EVEN"], q * q) + q * polynomial(c["CDF_ODD"], q * q)
    (head,) = struct.unpack("<d", b"\0\0\0\0" + struct.pack("<d", t)[4:])
    d = 0.5 * (head - t) * (head + t)
    y = exp64(-(0.5 * head * head)) * ((0.5 + g * r) / (1 + t))
    y = y + y * (d + d * d * (0.5 + d * (c["SIXTH"] + d * c["TWENTY_FOURTH"])))
    return 1 - y if x > 0 else y


def cross64(x: float, t: float) -> float:
    u = 1 - x
    far, near = log64(u) + (((1 - u) - x) / u if u > 0 else 0), log64(x)
    far, near = (-100.0 if value < -100 else value for value in (far, near))
    return -(t * near + (1 - t) * far)


def logit_cross64(x: float, t: float) -> float:
    e = exp64(-abs(x))
    u = 1 + e
    return ((x if x > 0 else 0.0) - x * t) + (log64(u) + divide(e - (u - 1), u))


def logit_cross_slope64(x: float, t: float) -> float:
    e = exp64(-abs(x))
    p, q = (1.0, e) if x > 0 else (e, 1.0)
    return (1 - t) * divide(p, 1 + e) - t * divide(q, 1 + e)


def gelu_slope64(x: float) -> float:
    if abs(x) > 64:
        return cdf64(x) + 0.0
    return cdf64(x) + x * (exp64(-(0.5 * x * x)) * printed_constants()["INV_SQRT_2PI"])


def gelu_tanh64(x: float) -> float:
    c = printed_constants()
    u = x * (c["GELU_C0"] + c["GELU_C1"] * (x * x))
    e = exp64(-abs(u))
    return -0.0 if x < -64 else (x if u > 0 else x * e) / (1 + e)


def gelu_tanh_slope64(x: float) -> float:
    c, w = printed_constants(), x * x
    u = x * (c["GELU_C0"] + c["GELU_C1"] * w)
    e = exp64(-abs(u))
    y = (1.0 if u > 0 else e) / (1 + e)
    if abs(x) > 64:
        return y
    return y + x * (c["GELU_C0"] + (3 * c["GELU_C1"]) * w) * (e / (1 + e) / (1 + e))


def log64(x: float) -> float:
    if math.isnan(x) or x < 0:
        return math.nan
    if x == 0 or math.isinf(x):
        return math.inf if x else -math.inf
    m, k = math.frexp(x)
    if m < pattern(0x3FE6A09E667F3BCD):
        m, k = 2 * m, k - 1
    f = m - 1
    s = f / (2 + f)
    z = s * s
    w = z * z
    inner = pattern(0x3FC39A09D078C69F)
    t1 = w * (pattern(0x3FD999999997FA04) + w * (pattern(0x3FCC71C51D8E78AF) + w * inner))
    inner = pattern(0x3FC7466496CB03DE) + w * pattern(0x3FC2F112DF3E5244)
    t2 = z * (pattern(0x3FE5555555555593) + w * (pattern(0x3FD2492494229359) + w * inner))
    R = t2 + t1
    h = (0.5 * f) * f
    return k * pattern(0x3FE62E42FEE00000) - ((h - (s * (h + R) + k * pattern(0x3DEA39EF35793C76))) - f)


# -- section 7: batch normalisation ----------------------------------------------------------------------------------


def statistics(values: list[float]) -> tuple[float, float]:
    pivot = values[0] if values and math.isfinite(values[0]) else 0.0
    d = [v - pivot for v in values]
    m = divide(reduction(d), len(values))
    var = divide(reduction(v * v for v in d), len(values)) - m * m
    return pivot + m, (0.0 if var < 0 else var)


def scale_of(gamma: Array | None, var: float, eps: float, c: int) -> tuple[float, float]:
    with np.errstate(all="ignore"):
        rstd = divide(1, float(np.sqrt(np.float64(var + eps))))
    return rstd, (1.0 if gamma is None else float(gamma[c])) * rstd


def batch_norm(x: Array, gamma: Array | None, beta: Array | None, mean: Any, var: Any, eps: float) -> Array:
    dtype = x.dtype.type
    y = np.empty_like(x)
    for n, c, h, w in np.ndindex(x.shape):
        _, scale = scale_of(gamma, float(var[c]), eps, c)
        m, k = narrow(float(mean[c]), dtype), narrow(scale, dtype)
        with np.errstate(all="ignore"):
            rest = float(np.float64(mean[c]) - np.float64(m))
            shift = (0.0 if beta is None else float(beta[c])) - rest * float(k)
            centred = x[n, c, h, w] - m
        y[n, c, h, w] = scalar_fma(float(centred), float(k), float(narrow(shift, dtype)), dtype)
    return y


def batch_norm_grad(
    dy: Array, x: Array, gamma: Array | None, mean: Any, var: Any, eps: float, training: bool
) -> tuple[Array, Array, Array]:
    dtype = x.dtype.type
    dx, dgamma, dbeta = np.empty_like(x), np.empty(x.shape[1], dtype), np.empty(x.shape[1], dtype)
    count = x.shape[0] * x.shape[2] * x.shape[3]
    for c in range(x.shape[1]):
        order = [(n, c, h, w) for n, h, w in np.ndindex(x.shape[0], *x.shape[2:])]
        mu = float(mean[c])
        A = reduction(float(dy[i]) for i in order)
        B = reduction(float(dy[i]) * (float(x[i]) - mu) for i in order)
        rstd, a = scale_of(gamma, float(var[c]), eps, c)
        dgamma[c], dbeta[c] = narrow(B * rstd, dtype), narrow(A, dtype)
        m, k = narrow(mu, dtype), narrow(a, dtype)
        b = narrow(-((a * (rstd * rstd)) * divide(B, count)), dtype)
        with np.errstate(all="ignore"):
            rest = float(np.float64(mu) - np.float64(m))
            constant = narrow(-(a * divide(A, count)) - rest * float(b), dtype)
            for i in order:
                if training:
                    inner = scalar_fma(float(x[i] - m), float(b), float(constant), dtype)
                    dx[i] = scalar_fma(float(dy[i]), float(k), inner, dtype)
                else:
                    dx[i] = dy[i] * k
    return dx, dgamma, dbeta


# -- section 8: pooling ----------------------------------------------------------------------------------------------


def max_pool(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, output: Any) -> tuple[Array, Array]:
    y = np.full((*x.shape[:2], *output), -np.inf, x.dtype)
    index = np.full(y.shape, -1)
    places = np.arange(math.prod(x.shape[2:])).reshape(x.shape[2:])
    for n, c, *place in np.ndindex(y.shape):
        window = []
        for tap in np.ndindex(*kernel):
            met = tuple(meeting(place, tap, stride, padding, dilation))
            if all(0 <= p < size for p, size in zip(met, x.shape[2:], strict=True)):
                window.append((float(x[(n, c, *met)]), places[met]))
        nans = [entry for entry in window if math.isnan(entry[0])]
        if window:
            best = max(value for value, _ in window) if not nans else math.nan
            found = nans[0] if nans else next(entry for entry in window if entry[0] == best)
            y[(n, c, *place)], index[(n, c, *place)] = found
    return y, index


def average_windows(size: int, kernel: int, stride: int, padding: int, output: int) -> list[tuple[range, int]]:
    """For each window of one side, the coordinates inside the input, and how many lie inside the padded input."""
    windows = []
    for o in range(output):
        low, high = o * stride - padding, o * stride - padding + kernel
        inside = range(max(low, 0), min(high, size))
        windows.append((inside, min(high, size + padding) - low))
    return windows


def adaptive_windows(size: int, output: int) -> list[tuple[range, int]]:
    spans = [range(i * size // output, math.ceil(Fraction((i + 1) * size, output))) for i in range(output)]
    return [(span, len(span)) for span in spans]


def count_of(windows: Sequence[tuple[range, int]], include_pad: bool) -> int:
    return math.prod(padded if include_pad else len(inside) for inside, padded in windows)


def avg_pool(x: Array, *sides: Any, include_pad: bool) -> Array:
    y = np.empty((*x.shape[:2], *map(len, sides)), x.dtype)
    for n, c, *place in np.ndindex(y.shape):
        windows = [side[o] for side, o in zip(sides, place, strict=True)]
        total = reduction(float(x[(n, c, *met)]) for met in itertools.product(*(inside for inside, _ in windows)))
        y[(n, c, *place)] = narrow(divide(total, count_of(windows, include_pad)), x.dtype.type)
    return y


def avg_pool_grad(dy: Array, shape: Any, *sides: Any, include_pad: bool) -> Array:
    dx = np.empty(shape, dy.dtype)
    for n, c, *place in np.ndindex(*shape):
        covering = [
            [o for o, (inside, _) in enumerate(side) if p in inside] for side, p in zip(sides, place, strict=True)
        ]
        terms = []
        for met in itertools.product(*covering):
            windows = [side[o] for side, o in zip(sides, met, strict=True)]
            terms.append(divide(float(dy[(n, c, *met)]), count_of(windows, include_pad)))
        dx[(n, c, *place)] = narrow(reduction(terms), dy.dtype.type)
    return dx


# -- helpers of the tests --------------------------------------------------------------------------------------------


def assert_same(ours: Array, law: Array) -> None:
    """Equal bits, or both NaN; equal dtypes and shapes."""
    ours, law = np.asarray(ours), np.asarray(law)
    assert (ours.dtype, ours.shape) == (law.dtype, law.shape)
    unsigned = np.uint32 if ours.itemsize == 4 else np.uint64
    equal = np.ascontiguousarray(ours).view(unsigned) == np.ascontiguousarray(law).view(unsigned)
    if ours.dtype.kind == "f":
        equal |= np.isnan(ours) & np.isnan(law)
    wrong = np.argwhere(~equal)
    if len(wrong):
        first = tuple(wrong[0])
        pytest.fail(f"{len(wrong)} of {ours.size} differ, first at {first}: {ours[first]!r}, law {law[first]!r}")


def random(shape: Any, dtype: Any, kind: str = "plain", seed: int = SEED) -> Array:
    """``plain``: normal values, some zero. ``tiny``: products underflow. ``special``: infinities, NaN, extremes."""
    rng = np.random.default_rng([seed, *np.atleast_1d(shape)])
    x = np.asarray(rng.standard_normal(shape))
    x[rng.random(shape) < 0.2] = 0.0
    x[rng.random(shape) < 0.1] = -0.0
    if kind == "tiny":
        x *= 2.0 ** (-75 if dtype is np.float32 else -537)
    x = x.astype(dtype)
    if kind == "special":
        info = np.finfo(dtype)
        odd = [np.inf, -np.inf, np.nan, 0.0, -0.0, info.max, -info.max, info.tiny, info.smallest_subnormal, 1.0]
        chosen = rng.random(shape) < 0.04
        x[chosen] = rng.choice(odd, int(chosen.sum())).astype(dtype)
    return x


KINDS = ["plain", "tiny", "special"]


# -- fma -------------------------------------------------------------------------------------------------------------


def check_fma(a: Array, b: Array, c: Array) -> None:
    dtype = a.dtype.type
    law = [scalar_fma(*map(float, triple), dtype) for triple in zip(a, b, c, strict=True)]
    assert_same(_fma.fma(a, b, c), np.array(law, dtype))


def random_bits(rng: np.random.Generator, n: int, dtype: Any) -> Array:
    unsigned = np.uint32 if dtype is np.float32 else np.uint64
    return rng.integers(0, np.iinfo(unsigned).max, n, unsigned, endpoint=True).view(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_of_random_bits(dtype: Any) -> None:
    rng = np.random.default_rng(SEED)
    check_fma(*(random_bits(rng, 4000, dtype) for _ in range(3)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0, -60, -70, -126, -140, 60, 64, -500, -511, -530, 500, 511])
def test_fma_that_cancels(dtype: Any, scale: int) -> None:
    """``c`` is near ``-a * b``: the rounding is decided by the low half of the product."""
    rng = np.random.default_rng([SEED, scale + 1000])
    with np.errstate(all="ignore"):
        a, b = (np.ldexp(rng.uniform(1, 2, 600), scale // 2 + i).astype(dtype) for i in (0, scale % 2))
        c = -(a * b)
        for shift in (0.0, 1.0, -1.0, 0.5, 2.0**-13, 2.0**-25, 2.0**-40):
            c_near = (c * dtype(1 + shift)).astype(dtype)
            check_fma(a, b, c_near)
            check_fma(a, b, np.nextafter(c_near, dtype(np.inf)))


def near_ties(dtype: Any, unit: float, n: int = 3000) -> tuple[Array, Array, Array]:
    """``a, b, c`` such that ``c + a * b`` lies a hair off the middle of two neighbours, ``unit`` apart.

    ``c`` is a random multiple of ``unit`` and ``a * b = unit / 2 * (1 - h * h)``, of either sign.
    There a second rounding goes wrong, whether the first fell on the tie itself or one bit beside it.
    """
    (digits, least, _), rng = FORMATS[dtype], np.random.default_rng(SEED)
    smallest = 2.0 if unit == 2.0**least else 2.0 ** (digits - 1)  # subnormals have fewer digits
    c = np.floor(2 ** rng.uniform(math.log2(smallest), digits, n)) * unit
    hair = np.floor(2 ** rng.uniform(0, digits / 2, n)) * 2.0 ** (1 - digits)
    exponent = math.frexp(unit)[1] - 2
    a = np.ldexp(1 + hair, exponent // 2) * rng.choice([1, -1], n)
    b = np.ldexp(1 - hair, exponent - exponent // 2)
    c = np.where(rng.random(n) < 0.5, c, -c)
    return a.astype(dtype), b.astype(dtype), c.astype(dtype)


def units(dtype: Any) -> list[float]:
    """Spacings of neighbours: ordinary, large, and the least, that of the subnormals."""
    _, least, top = FORMATS[dtype]
    return [2.0**-30, 1.0, 2.0 ** (top - 100), 2.0**least]


@pytest.mark.parametrize("unit", range(4))
@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_near_ties(dtype: Any, unit: int) -> None:
    check_fma(*near_ties(dtype, units(dtype)[unit]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_of_special_values(dtype: Any) -> None:
    info = np.finfo(dtype)
    least, tiny, big = float(info.smallest_subnormal), float(info.tiny), float(info.max)
    half = 2.0 ** (FORMATS[dtype][1] // 2)
    values = [0.0, 1.0, 1.5, least, 3 * least, tiny, tiny - least, half, big, math.sqrt(big), math.inf]
    values = [sign * v for v in values for sign in (1, -1)] + [math.nan]
    check_fma(*np.array(list(itertools.product(values, repeat=3)), dtype).T)


def floats(dtype: Any) -> st.SearchStrategy[float]:
    return st.floats(width=32 if dtype is np.float32 else 64)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_fma_of_anything(dtype: Any, data: st.DataObject) -> None:
    triple = [np.array([data.draw(floats(dtype))], dtype) for _ in range(3)]
    check_fma(*triple)


def test_fma_broadcasts_and_keeps_the_shape() -> None:
    x = random((2, 3, 4), np.float32)
    y = _fma.fma(x, np.float32(3), np.ones((3, 1), np.float32))
    assert_same(y, np.vectorize(lambda v: scalar_fma(float(v), 3.0, 1.0, np.float32), otypes=[np.float32])(x))
    assert _fma.fma(*(np.ones((), np.float64),) * 3) == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["plain", "tiny", "special", "huge factors", "huge products"])
def test_chain_is_fma_after_fma(dtype: Any, kind: str) -> None:
    """The shortcuts of ``chain`` give the bits of the definition, whichever of them is taken."""
    a, b = random((40, 3, 5, 1), dtype, kind), random((40, 3, 1, 4), dtype, kind)
    top = FORMATS[dtype][2]
    if kind == "huge factors":
        a *= dtype(2.0 ** (top - 10))
    if kind == "huge products":
        a, b = a * dtype(2.0 ** (top // 2 - 1)), b * dtype(2.0 ** (top // 2))
    live = [3] * 17 + [2] * 23
    total = np.zeros((3, 5, 4), dtype)
    for i, rows in enumerate(live):
        for r, m, n in np.ndindex(rows, 5, 4):
            total[r, m, n] = scalar_fma(float(a[i, r, m, 0]), float(b[i, r, 0, n]), float(total[r, m, n]), dtype)
    assert_same(_fma.chain(a, b, live), total)


@pytest.mark.parametrize("unit", range(4))
@pytest.mark.parametrize("dtype", DTYPES)
def test_chain_near_ties(dtype: Any, unit: int) -> None:
    a, b, c = near_ties(dtype, units(dtype)[unit])
    chained = _fma.chain(np.stack([c, a])[:, None], np.stack([np.ones_like(b), b])[:, None], [1, 1])
    law = [scalar_fma(*map(float, triple), dtype) for triple in zip(a, b, c, strict=True)]
    assert_same(chained, np.array([law], dtype))


# -- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("terms", [0, 1, 2, 255, 256, 257, 511, 512, 600, 8191, 8192, 8193, 8449, 17000])
def test_sum_order(dtype: Any, terms: int) -> None:
    x = random((terms, 2), dtype)
    law = [reduction(x[:, i]) for i in (0, 1)]
    assert_same(BACKEND.reduce("sum", x, (0,), False), np.array([narrow(t, dtype) for t in law]))
    means = [narrow(divide(t, terms), dtype) for t in law]
    assert_same(BACKEND.reduce("mean", x, (0,), True), np.array([means]))


def law_of_sums(x: Array, reverse: bool) -> list[Any]:
    """By 4.1: the sum of the terms up to each, or of those from each on, the last first."""
    terms = [float(v) for v in x]
    if reverse:
        return law_of_sums(x[::-1], False)[::-1]
    return [narrow(reduction(terms[: i + 1]), x.dtype.type) for i in range(len(terms))]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "axis"), [((7,), 0), ((0,), -1), ((3, 0, 2), 0), ((2, 300, 3), 1), ((3, 2, 9), -3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cumsum(shape: tuple[int, ...], axis: int, kind: str, dtype: Any, reverse: bool) -> None:
    x = random(shape, dtype, kind)
    law = np.zeros_like(x)
    for rows in np.ndindex(*np.delete(shape, axis)):
        at = (*rows[: axis % x.ndim], slice(None), *rows[axis % x.ndim :])
        law[at] = law_of_sums(x[at], reverse)
    assert_same(BACKEND.cumsum(x, axis, reverse), law)
    assert_same(BACKEND.cumsum(x.copy("F"), axis, reverse), law)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cumsum_of_several_groups(dtype: Any, reverse: bool) -> None:
    """At a sample of elements: the ends of segments and groups, and others."""
    x = random(3 * 8192 + 300, dtype, "plain")
    backwards = slice(None, None, -1 if reverse else 1)
    y, terms = BACKEND.cumsum(x, 0, reverse)[backwards], [float(v) for v in x[backwards]]
    for i in [0, 1, 255, 256, 257, 8191, 8192, 8193, 8448, 16383, 16384, 20000, 24575, 24576, len(x) - 1]:
        assert y[i] == narrow(reduction(terms[: i + 1]), dtype)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2), ()])
@pytest.mark.parametrize("op", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("kind", ["plain", "special"])
def test_reduce_over_axes(op: str, axes: tuple[int, ...], kind: str) -> None:
    x = random((7, 6, 9), np.float32, kind)
    kept = [axis for axis in range(3) if axis not in axes]
    law = np.empty([x.shape[axis] for axis in kept], np.float32)
    for place in np.ndindex(law.shape):
        index: list[Any] = [slice(None)] * 3
        for axis, i in zip(kept, place, strict=True):
            index[axis] = i
        terms = [float(v) for v in np.asarray(x[tuple(index)]).ravel()]
        nan = any(map(math.isnan, terms))
        law[place] = {
            "sum": lambda t=terms: narrow(reduction(t), np.float32),
            "mean": lambda t=terms: narrow(divide(reduction(t), len(t)), np.float32),
            "max": lambda t=terms, n=nan: math.nan if n else next(v for v in t if v == max(t)),
            "min": lambda t=terms, n=nan: math.nan if n else next(v for v in t if v == min(t)),
        }[op]()
    assert_same(BACKEND.reduce(op, x, axes, False), law)
    assert BACKEND.reduce(op, x, axes, True).shape == tuple(1 if i in axes else n for i, n in enumerate(x.shape))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "axis"), [((9,), 0), ((0,), -1), ((2, 40, 3), 1), ((3, 2, 21), -1), ((35, 2), 0)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cumprod(shape: tuple[int, ...], axis: int, kind: str, dtype: Any) -> None:
    x, dy = random(shape, dtype, kind), random(shape, dtype, "plain")
    y, dx = np.zeros_like(x), np.zeros_like(x)
    for rows in np.ndindex(*np.delete(shape, axis)):
        at = (*rows[: axis % x.ndim], slice(None), *rows[axis % x.ndim :])
        factors, slopes = [float(v) for v in x[at]], [float(v) for v in dy[at]]
        before, product = [], 1.0
        for factor in factors:
            before.append(product)
            product = product * factor
        y[at] = [narrow(p * f, dtype) for p, f in zip(before, factors, strict=True)]
        s, after = 0.0, []
        for i in reversed(range(len(factors))):
            s = slopes[i] + factors[i + 1] * s if i + 1 < len(factors) else slopes[i]
            after.insert(0, s)
        dx[at] = [narrow(p * s if i else s, dtype) for i, (p, s) in enumerate(zip(before, after, strict=True))]
    assert_same(BACKEND.cumprod(x, axis), y)
    assert_same(BACKEND.cumprod_grad(dy, x, axis), dx)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_order(dtype: Any, kind: str, descending: bool) -> None:
    """By counting what comes before each element: what is less, and of equal ones those before it."""
    x = np.concatenate([random((2, 30), dtype, kind), np.zeros((2, 2), dtype), -np.zeros((2, 2), dtype)], 1)
    x[0, 5] = x[0, 17] = x[1, 3] = math.nan
    x[:, 8] = x[:, 20]
    law = np.zeros(x.shape, np.int64)
    for row, values in enumerate(x.tolist()):
        for i, value in enumerate(values):
            rank = 0
            for j, other in enumerate(values):
                above, below = (other, value) if descending else (value, other)
                less = not math.isnan(below) and (math.isnan(above) or below < above)
                same = value == other or (math.isnan(value) and math.isnan(other))
                rank += less or (same and j < i)
            law[row, rank] = i
    assert_same(BACKEND.argsort(x, 1, descending), law)
    assert_same(BACKEND.argsort(np.asfortranarray(x.T), 0, descending), law.T)
    for k in (0, 1, 3, 20, 34):
        assert_same(BACKEND.topk(x, k, -1, descending), law[:, :k])


@pytest.mark.parametrize("dtype", DTYPES)
def test_places_in_order(dtype: Any) -> None:
    rng = np.random.default_rng(SEED)
    x, v = (
        random((3, 5, 4), dtype),
        random((3, 9, 4), dtype) * dtype(1e3) ** rng.integers(-2, 3, (3, 9, 4)).astype(dtype),
    )
    index, slices = rng.integers(0, 5, (3, 9, 4)), rng.integers(0, 5, 9)
    for places in (index, np.asfortranarray(index), slices):
        taken, put, added = np.zeros_like(v), x.copy(), x.copy()
        for i, j, k in np.ndindex(v.shape):
            place = i, int(places[j] if places.ndim == 1 else places[i, j, k]), k
            taken[i, j, k] = x[place]
            put[place] = v[i, j, k]
            added[place] = added[place] + v[i, j, k]
        assert_same(BACKEND.gather(x, 1, places), taken)
        assert_same(BACKEND.scatter(x, -2, places, v), put)
        assert_same(BACKEND.scatter_add(x, 1, places, v), added)


@pytest.mark.parametrize("dtype", DTYPES)
def test_index_add_in_order(dtype: Any) -> None:
    rng = np.random.default_rng(SEED)
    rows, columns = rng.integers(-3, 3, (2, 40, 5), np.int64)
    index = (np.asfortranarray(rows), slice(None), np.asfortranarray(columns))
    values = random((40, 5, 4), dtype) * dtype(1e3) ** rng.integers(-2, 3, (40, 5, 4)).astype(dtype)
    law = np.zeros((3, 4, 3), dtype)
    for i, j, k in np.ndindex(40, 5, 4):
        law[rows[i, j], k, columns[i, j]] += values[i, j, k]
    assert_same(BACKEND.index_add((3, 4, 3), index, values), law)
    assert_same(BACKEND.index_add((3,), np.asfortranarray(rows), values[..., 0]), law_of_rows(rows, values[..., 0]))


def law_of_rows(rows: Array, values: Array) -> Array:
    law = np.zeros(3, values.dtype)
    for i, j in np.ndindex(rows.shape):
        law[rows[i, j]] += values[i, j]
    return law


# -- contractions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0, 1, 3, 255, 256, 257, 700])
def test_matmul(k: int, kind: str, dtype: Any) -> None:
    a, b = random((3, k), dtype, kind), random((k, 2), dtype, kind, seed=1)
    law = np.array([[contraction(list(zip(map(float, r), map(float, c), strict=True)), dtype) for c in b.T] for r in a])
    assert_same(BACKEND.matmul(a, b), law.astype(dtype))
    bias = random(2, dtype)
    assert_same(BACKEND.linear(a, np.ascontiguousarray(b.T), None), law)
    with np.errstate(all="ignore"):
        assert_same(BACKEND.linear(a, np.ascontiguousarray(b.T), bias), law + bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [8191, 8192, 8193, 16384 + 300])
def test_matmul_in_groups(k: int, dtype: Any) -> None:
    a, b = random((1, k), dtype), random((k, 1), dtype, seed=1)
    law = contraction(list(zip(map(float, a[0]), map(float, b[:, 0]), strict=True)), dtype)
    assert_same(BACKEND.matmul(a, b), np.array([[law]]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 256, 300])
def test_short_segment_keeps_minus_zero(k: int, dtype: Any) -> None:
    """Negative products that underflow leave -0, which one fma too many of zeros would turn into +0."""
    least = np.finfo(dtype).smallest_subnormal
    a, b = np.full((2, k), -least), np.full((k, 2), least)
    assert_same(BACKEND.matmul(a, b), np.full((2, 2), -0.0, dtype))


def test_matmul_leading_dimensions() -> None:
    a, b = random((2, 1, 3, 5), np.float32), random((4, 5, 2), np.float32)
    y = BACKEND.matmul(a, b)
    assert y.shape == (2, 4, 3, 2)
    for i, j in np.ndindex(2, 4):
        assert_same(y[i, j], BACKEND.matmul(a[i, 0], b[j]))


# batch, channels, height, width, output channels, kernel, stride, padding, dilation, groups
CONVOLUTIONS = {
    "1x1": (2, 5, 4, 3, 3, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "3x3": (1, 3, 5, 4, 2, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "stride": (1, 2, 6, 7, 3, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    "1x1 stride": (2, 3, 5, 5, 2, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "stride that does not divide twice the padding": (1, 2, 7, 8, 2, (3, 4), (3, 3), (1, 2), (1, 1), 1),
    "uneven": (1, 2, 7, 5, 2, (2, 3), (3, 1), (0, 2), (1, 2), 1),
    "dilation": (1, 2, 7, 7, 2, (3, 3), (1, 1), (2, 2), (2, 2), 1),
    "dilation and stride": (1, 1, 9, 8, 2, (3, 2), (2, 3), (1, 1), (2, 3), 1),
    "groups": (1, 4, 4, 4, 6, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "depthwise": (1, 4, 5, 5, 4, (3, 3), (2, 2), (1, 1), (1, 1), 4),
    "two segments": (1, 30, 3, 3, 2, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "two segments of the input's gradient": (1, 1, 3, 3, 31, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "two segments of the weight's gradient": (3, 1, 11, 11, 1, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "larger than the input": (1, 2, 2, 2, 2, (5, 5), (1, 1), (2, 2), (1, 1), 1),
    "unmet pixels": (1, 1, 6, 6, 1, (1, 1), (3, 3), (0, 0), (1, 1), 1),
}


# the same with one side or three: length, or depth, height and width
CONVOLUTIONS_OF_OTHER_SIDES = {
    "one side": (2, 5, 9, 3, (3,), (1,), (1,), (1,), 1),
    "one side, mixed": (1, 4, 11, 6, (4,), (3,), (2,), (2,), 2),
    "one side, two segments": (1, 2, 132, 2, (130,), (1,), (0,), (1,), 1),
    "three sides": (2, 2, 3, 4, 3, 2, (3, 3, 2), (1, 1, 1), (1, 1, 0), (1, 1, 1), 1),
    "three sides, stride": (1, 2, 5, 4, 5, 3, (2, 3, 3), (2, 1, 2), (1, 1, 1), (1, 1, 1), 1),
    "three sides, dilation and stride": (1, 1, 7, 3, 4, 2, (3, 2, 2), (3, 2, 1), (1, 0, 1), (2, 1, 3), 1),
    "three sides, groups": (1, 4, 3, 3, 2, 6, (2, 2, 2), (1, 2, 1), (1, 0, 1), (1, 1, 1), 2),
    "three sides, two segments": (1, 9, 3, 2, 3, 2, (3, 3, 4), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1),
    "three sides, planes outside": (1, 2, 1, 2, 3, 2, (3, 1, 2), (2, 1, 1), (3, 0, 0), (2, 1, 1), 1),
}


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.float32, "plain"), (np.float32, "tiny"), (np.float32, "special"), (np.float64, "plain")]
)
@pytest.mark.parametrize("case", [*CONVOLUTIONS, *CONVOLUTIONS_OF_OTHER_SIDES])
def test_convolution(case: str, dtype: Any, kind: str) -> None:
    n, c, *size, out, kernel, stride, padding, dilation, groups = {**CONVOLUTIONS, **CONVOLUTIONS_OF_OTHER_SIDES}[case]
    x, weight = random((n, c, *size), dtype, kind), random((out, c // groups, *kernel), dtype, kind)
    settings_ = stride, padding, dilation, groups
    y = BACKEND.conv2d(x, weight, None, *settings_)
    assert_same(y, conv2d(x, weight, *settings_, y.shape[2:]))
    bias = random(out, dtype)
    with np.errstate(all="ignore"):
        assert_same(BACKEND.conv2d(x, weight, bias, *settings_), y + bias.reshape(-1, *[1] * len(size)))
    dy = random(y.shape, dtype, kind)
    assert_same(
        BACKEND.conv2d_input_grad(dy, weight, x.shape, *settings_), conv2d_input_grad(dy, weight, x.shape, *settings_)
    )
    assert_same(
        BACKEND.conv2d_weight_grad(dy, x, weight.shape, *settings_), conv2d_weight_grad(dy, x, weight.shape, *settings_)
    )


# -- elementwise -----------------------------------------------------------------------------------------------------


def power_of(x: Any, n: float) -> Any:
    return narrow(elementary.power_of(float(x), n, type(x) is np.float32), type(x))


def scalar_power(x: Any, n: int) -> Any:
    dtype = type(x)
    if n == 0:
        return dtype(1)
    result, p, bits = None, x, abs(n)
    while bits:
        if bits % 2:
            result = p if result is None else result * p
        bits //= 2
        p = p * p if bits else p
    return dtype(1) / result if n < 0 else result


ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "sign": lambda x: x if x != x else type(x)(int(x > 0) - int(x < 0)),
    "neg": lambda x: -x,
    "abs": abs,
    "sqrt": np.sqrt,
    "square": lambda x: x * x,
    "reciprocal": lambda x: type(x)(1) / x,
    "relu": lambda x: x if x > 0 or x != x else type(x)(0),
    "exp": lambda x: narrow(exp64(float(x)), type(x)),
    "log": lambda x: narrow(log64(float(x)), type(x)),
    "sigmoid": lambda x: narrow(elementary.sigmoid(float(x), type(x) is np.float32), type(x)),
    "gelu": lambda x: narrow(-0.0 if x < -64 else float(x) * cdf64(float(x)), type(x)),
    "gelu_tanh": lambda x: narrow(gelu_tanh64(float(x)), type(x)),
    "cube": lambda x: x * x * x,
    "relu6": lambda x: x if 0 < x < 6 or x != x else type(x)(6 if x > 0 else 0),
}
for _name, _loop in elementary.LOOPS.items():
    ELEMENTWISE[_name] = lambda x, loop=_loop: narrow(loop(float(x)), type(x))
for _name in elementary.AMENDED:
    ELEMENTWISE[_name] = lambda x, name=_name, loop=ELEMENTWISE[_name]: type(x)(
        elementary.AMENDED[name].get(float(x), loop(x)) if type(x) is np.float32 else loop(x)
    )
PAIRWISE: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "maximum": lambda a, b: a if a != a or a >= b else b,
    "minimum": lambda a, b: a if a != a or a <= b else b,
    "relu_grad": lambda dy, x: type(dy)(0) if x <= 0 else dy,
    "gelu_grad": lambda dy, x: narrow(float(dy) * gelu_slope64(float(x)), type(x)),
    "cross": lambda x, t: narrow(cross64(float(x), float(t)), type(x)),
    "cross_slope": lambda x, t: narrow(divide(float(x) - float(t), max((1 - float(x)) * float(x), 1e-12)), type(x)),
    "logit_cross": lambda x, t: narrow(logit_cross64(float(x), float(t)), type(x)),
    "logit_cross_slope": lambda x, t: narrow(logit_cross_slope64(float(x), float(t)), type(x)),
    "gelu_tanh_grad": lambda dy, x: narrow(float(dy) * gelu_tanh_slope64(float(x)), type(x)),
    "arctan2": lambda y, x: narrow(
        (elementary.atan2_single if type(x) is np.float32 else elementary.atan2)(float(y), float(x)), type(x)
    ),
    "power": lambda x, n: power_of(x, float(n)),
    "leaky_relu": lambda x, slope: x if x > 0 else x * slope,
    "leaky_relu_slope": lambda x, slope: type(x)(1) if x > 0 else slope,
    "elu": lambda x, alpha: narrow(float(alpha) * elementary.expm1(float(x)), type(x)) if x <= 0 else x,
    "elu_slope": lambda x, alpha: narrow(float(alpha) * exp64(float(x)), type(x)) if x <= 0 else type(x)(1),
    "relu6_grad": lambda dy, x: dy if 0 < x < 6 else type(x)(0),
    "hard_sigmoid_grad": lambda dy, x: dy / type(x)(6) if -3 < x < 3 else type(x)(0),
}
for _name, _loop in elementary.SLOPES.items():
    PAIRWISE[f"{_name}_grad"] = lambda dy, x, loop=_loop: narrow(float(dy) * loop(float(x)), type(x))


def awkward(dtype: Any) -> Array:
    """Specials, bounds of exp64, and random values from the least to the greatest."""
    info, rng = np.finfo(dtype), np.random.default_rng(SEED)
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny, info.smallest_subnormal, 1.0, -1.0]
    odd += [709.782712893384, 709.79, -745.1332191019412, -745.14, 88.8, -104.0, 0.5, math.sqrt(0.5), 3 * 2.0**-149]
    scaled = rng.standard_normal(1000) * 10.0 ** rng.uniform(-3, 3, 1000)
    near_one = rng.uniform(0.6, 1.6, 1000)
    with np.errstate(all="ignore"):
        parts = [np.array(odd).astype(dtype), scaled.astype(dtype), near_one.astype(dtype)]
        return np.concatenate([*parts, random_bits(rng, 300, dtype)])


def test_every_function_has_its_loop_here() -> None:
    assert {*ELEMENTWISE, *PAIRWISE} == {*FUNCTIONS}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_unary(op: str, dtype: Any) -> None:
    x = awkward(dtype)
    with np.errstate(all="ignore"):
        assert_same(BACKEND.unary(op, x), np.array([ELEMENTWISE[op](v) for v in x], dtype))


@pytest.mark.parametrize(
    ("op", "low", "high"), [("exp", -700, 700), ("exp", -1, 1), ("log", 0.5, 2), ("log", 1e-9, 1e9)]
)
def test_transcendental_functions_at_many_points(op: str, low: float, high: float) -> None:
    x = np.random.default_rng(SEED).uniform(low, high, 60_000)
    law = exp64 if op == "exp" else log64
    assert_same(BACKEND.unary(op, x), np.array([law(v) for v in x.tolist()]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", PAIRWISE)
def test_binary(op: str, dtype: Any) -> None:
    a, b = awkward(dtype)[:40, None], awkward(dtype)[:40]
    with np.errstate(all="ignore"):
        law = [[PAIRWISE[op](u, v) for v in b] for u in a[:, 0]]
        assert_same(BACKEND.binary(op, a, b), np.array(law, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "exponent", [0, 1, 2, 3, 5, 10, 63, -1, -2, -7, 4.0, 0.5, 1.5, -0.5, 1 / 3, -2.25, 2.0**31, math.inf]
)
def test_power(exponent: float, dtype: Any) -> None:
    x = awkward(dtype)
    with np.errstate(all="ignore"):
        if exponent in (-1, 0, 1, 2):
            law = [scalar_power(v, int(exponent)) for v in x]
        elif exponent == 3:
            law = [narrow(elementary.cube(float(v), dtype is np.float32), dtype) for v in x]
        elif exponent == 0.5:
            law = [math.inf if v == -math.inf else np.sqrt(v) + dtype(0) for v in x]
        else:
            law = [power_of(v, exponent) for v in x]
        assert_same(BACKEND.power(x, exponent), np.array(law, dtype))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 10, 63, -1, -2, -7, 1000])
def test_power_of_rules_and_schedules(n: int) -> None:
    """By squaring (section 10.2)."""
    for x in awkward(np.float64)[11:100]:
        with np.errstate(all="ignore"):
            assert_same(np.array([rule_power(float(x), n)]), np.array([scalar_power(x, n)]))


def test_numbers_by_the_middle_of_two_float32() -> None:
    """Operands of few bits: powers and angles that are exact, or in the middle of two."""
    rng, of = np.random.default_rng(SEED), np.float32
    x, n = rng.integers(1, 300, 400).astype(of) ** 2, (rng.integers(-20, 20, 400) / 2).astype(of)
    y, z = (
        (rng.integers(1, 9, 400) * 2.0**-149).astype(of),
        (rng.integers(1, 9, 400) * 2.0 ** rng.integers(0, 3)).astype(of),
    )
    with np.errstate(all="ignore"):
        assert_same(
            BACKEND.binary("power", x, n), np.array([PAIRWISE["power"](*pair) for pair in zip(x, n, strict=True)])
        )
        for other in (z, -z):
            law = [PAIRWISE["arctan2"](*pair) for pair in zip(y, other, strict=True)]
            assert_same(BACKEND.binary("arctan2", y, other), np.array(law))


# How many ulps of the true value each is off at most, in float64, from -38 to 10; of a slope, ulps of at least 1.
GELUS = {"cdf64": 4, "gelu64": 4, "gelu_slope64": 4, "gelu_tanh64": 300, "gelu_tanh_slope64": 4}


def exactly(name: str) -> tuple[Any, Callable[[Any], Any]]:
    """mpmath, with 400 bits, and the function in it."""
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.prec = 400
    rate, cube = mp.sqrt(2 / mp.pi), mp.mpf("0.044715")

    def tanh_share(v: Any) -> tuple[Any, Any]:
        """``(1 + tanh(u)) / 2`` and its derivative by ``v``."""
        share = 1 / (1 + mp.exp(-2 * rate * (v + cube * v**3)))
        return share, share * (1 - share) * 2 * rate * (1 + 3 * cube * v**2)

    truth: dict[str, Callable[[Any], Any]] = {
        "cdf64": mp.ncdf,
        "gelu64": lambda v: v * mp.ncdf(v),
        "gelu_slope64": lambda v: mp.ncdf(v) + v * mp.npdf(v),
        "gelu_tanh64": lambda v: v * tanh_share(v)[0],
        "gelu_tanh_slope64": lambda v: tanh_share(v)[0] + v * tanh_share(v)[1],
    }
    return mp, truth[name]


@pytest.mark.parametrize("name", GELUS)
def test_gelus_are_accurate(name: str) -> None:
    mp, truth = exactly(name)
    rng = np.random.default_rng(SEED)
    parts = (-1e-300, 1e-300), (-1e-3, 1e-3), (-1, 0), (-4, -1), (-13, -4), (0, 10)
    x = np.concatenate([rng.uniform(low, high, 100) for low, high in parts])
    with np.errstate(all="ignore"):
        ours = getattr(functions, name)(x)
    for at, y in zip(x.tolist(), ours.tolist(), strict=True):
        true = truth(mp.mpf(at))
        unit = np.spacing(max(abs(float(true)), 1.0 if "slope" in name else 0.0))
        assert abs(mp.mpf(y) - true) <= GELUS[name] * mp.mpf(float(unit)), at


@pytest.mark.record
@pytest.mark.parametrize(("name", "wrong"), [("gelu", []), ("gelu_tanh", [-float.fromhex("0x1.6148dep-16")])])
def test_float32_is_correctly_rounded(name: str, wrong: list[float]) -> None:
    """Every input from 2^-30 to 16 and its negative, but for subnormal results; nearer to 0 it is half the input.

    Where the float64 is farther from the middle of two float32 than its error can be, it rounds as the truth does.
    """
    mp, truth = exactly(f"{name}64")
    native, found, block = get_backend("native"), [], 1 << 21
    for sign, start in itertools.product((0, 1 << 31), range((127 - 30) << 23, (127 + 4) << 23, block)):
        x = (np.arange(start, start + block, dtype=np.int64) + sign).astype(np.uint32).view(np.float32)
        y, narrowed = native.unary(name, x.astype(np.float64)), native.unary(name, x)
        assert_same(y.astype(np.float32), narrowed)
        from_middle = np.abs((y.view(np.int64) & 0x1FFFFFFF) - 0x10000000)
        for i in np.flatnonzero((from_middle <= GELUS[f"{name}64"]) & (np.abs(y) >= 2.0**-126)):
            off = [
                abs(mp.mpf(float(v)) - truth(mp.mpf(float(x[i]))))
                for v in (narrowed[i], *np.nextafter(narrowed[i], np.float32([-np.inf, np.inf])))
            ]
            if min(off) < off[0]:
                found.append(float(x[i]))
    assert found == wrong


# -- batch normalisation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["plain", "large mean", "special", "infinite pivot", "constant"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 1, 1), (3, 2, 10, 10)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm(shape: tuple[int, ...], kind: str, affine: bool, dtype: Any) -> None:
    x, dy = random(shape, dtype, kind), random(shape, dtype, seed=1)
    if kind == "large mean":
        x += dtype(1000)
    if kind == "infinite pivot":
        x[0, 0, 0, 0] = np.inf
    if kind == "constant":
        x[...] = dtype(0.1)
    gamma, beta = (random(shape[1], dtype, seed=2), random(shape[1], dtype, seed=3)) if affine else (None, None)
    y, mean, var = BACKEND.batch_norm_train(x, gamma, beta, 1e-5)
    law = [statistics([float(v) for v in x[:, c].ravel()]) for c in range(shape[1])]
    assert_same(mean, np.array([m for m, _ in law]))
    assert_same(var, np.array([v for _, v in law]))
    assert_same(y, batch_norm(x, gamma, beta, mean, var, 1e-5))
    assert_same(BACKEND.batch_norm_eval(x, gamma, beta, mean, var, 1e-5), y)
    for training in (True, False):
        ours = BACKEND.batch_norm_grad(dy, x, gamma, mean, var, 1e-5, training)
        for part, expected in zip(ours, batch_norm_grad(dy, x, gamma, mean, var, 1e-5, training), strict=True):
            assert_same(part, expected)


def test_batch_norm_keeps_what_narrowing_the_mean_lost() -> None:
    """Where ``x`` equals the narrowed mean, the output is the lost part of it times the narrowed scale, and no more."""
    rng = np.random.default_rng(SEED)
    x, dy = np.ones((2, 50, 2, 1), np.float32), random((2, 50, 2, 1), np.float32)
    mean, var = 1 + rng.uniform(-1, 1, 50) * 2.0**-26, rng.uniform(0.5, 2, 50)
    assert_same(BACKEND.batch_norm_eval(x, None, None, mean, var, 1e-5), batch_norm(x, None, None, mean, var, 1e-5))
    for part, expected in zip(
        BACKEND.batch_norm_grad(dy, x, None, mean, var, 1e-5, True),
        batch_norm_grad(dy, x, None, mean, var, 1e-5, True),
        strict=True,
    ):
        assert_same(part, expected)


# -- pooling ---------------------------------------------------------------------------------------------------------

# sides, kernel, stride, padding, output
POOLINGS = {
    "2x2": ((6, 4), (2, 2), (2, 2), (0, 0), (3, 2)),
    "overlapping": ((7, 6), (3, 3), (2, 2), (1, 1), (4, 3)),
    "uneven": ((5, 9), (3, 2), (1, 3), (1, 0), (5, 3)),
    "beyond the edge": ((6, 5), (3, 3), (2, 2), (1, 1), (4, 3)),
    "one side": ((11,), (3,), (2,), (1,), (6,)),
    "three sides": ((5, 4, 6), (3, 2, 3), (2, 2, 1), (1, 0, 1), (3, 2, 6)),
    "three sides, beyond the edge": ((4, 3, 5), (2, 2, 2), (2, 2, 2), (0, 1, 0), (2, 2, 3)),
    "more than a segment": ((40, 20), (37, 19), (2, 2), (5, 4), (7, 5)),
    "three sides, more than a segment": ((9, 8, 9), (7, 6, 8), (1, 2, 1), (1, 2, 0), (5, 4, 2)),
    "gaps": ((7, 7), (2, 2), (3, 3), (0, 0), (2, 2)),
}


@pytest.mark.parametrize("kind", ["plain", "special"])
@pytest.mark.parametrize("case", POOLINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_average_pooling(case: str, kind: str, dtype: Any) -> None:
    size, kernel, stride, padding, output = POOLINGS[case]
    x, dy = random((1, 2, *size), dtype, kind), random((1, 2, *output), dtype, kind, seed=1)
    sides = [average_windows(*side) for side in zip(size, kernel, stride, padding, output, strict=True)]
    for include in (True, False):
        assert_same(
            BACKEND.avg_pool2d(x, kernel, stride, padding, include, output), avg_pool(x, *sides, include_pad=include)
        )
        ours = BACKEND.avg_pool2d_grad(dy, x.shape, kernel, stride, padding, include)
        assert_same(ours, avg_pool_grad(dy, x.shape, *sides, include_pad=include))


def test_average_pooling_gradient_of_many_windows() -> None:
    """An element under more than 256 windows: its gradient has two segments."""
    x, dy = np.zeros((1, 1, 40, 40), np.float32), random((1, 1, 21, 21), np.float32)
    sides = [average_windows(40, 20, 1, 0, 21)] * 2
    law = avg_pool_grad(dy, x.shape, *sides, include_pad=True)
    assert_same(BACKEND.avg_pool2d_grad(dy, x.shape, (20, 20), (1, 1), (0, 0), True), law)


@pytest.mark.parametrize(
    ("size", "output"),
    [
        *itertools.product([(7, 7), (5, 8), (1, 1), (20, 18)], [(1, 1), (2, 3), (7, 5), (9, 10)]),
        *[((7,), (3,)), ((4,), (6,)), ((5, 4, 3), (2, 3, 3)), ((3, 1, 6), (4, 2, 4))],
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_adaptive_pooling(size: Any, output: Any, dtype: Any) -> None:
    x, dy = random((2, 2, *size), dtype), random((2, 2, *output), dtype)
    sides = [adaptive_windows(s, o) for s, o in zip(size, output, strict=True)]
    assert_same(BACKEND.adaptive_avg_pool2d(x, output), avg_pool(x, *sides, include_pad=False))
    assert_same(BACKEND.adaptive_avg_pool2d_grad(dy, x.shape), avg_pool_grad(dy, x.shape, *sides, include_pad=False))
    x = np.round(x)  # ties
    y, index = BACKEND.adaptive_max_pool2d(x, output)
    for place in np.ndindex(y.shape):
        spans = [range(s * i // o, -(-s * (i + 1) // o)) for s, o, i in zip(size, output, place[2:], strict=True)]
        best = max(itertools.product(*spans), key=lambda at, image=x[place[:2]]: image[at])  # of equals, the first
        assert (y[place], index[place]) == (x[(*place[:2], *best)], np.ravel_multi_index(best, size))


def side_taps(mode: str, i: int, size: int, output: int, align: bool, smoothed: bool) -> dict[int, float]:
    """Element and weight of each tap of place ``i``, from the text of section 8.1."""

    def near(x: float, a: float) -> float:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: float, a: float) -> float:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    if mode == "nearest":
        return {min(i * size // output, size - 1): 1.0}
    if mode == "nearest-exact":
        return {min((2 * i + 1) * size // (2 * output), size - 1): 1.0}
    step = size / output
    if align:
        step = (size - 1) / (output - 1) if output > 1 else 0.0
    found: list[tuple[int, float]] = []
    if smoothed:
        r, c = (1 if mode == "linear" else 2) * max(step, 1), step * (i + 0.5)
        for k in range(max(int(c - r + 0.5), 0), min(int(c + r + 0.5), size)):
            x = abs((k - c + 0.5) * (1 / max(step, 1)))
            cubic = near(x, -0.5) if x < 1 else far(x, -0.5) if x < 2 else 0.0
            found.append((k, max(1 - x, 0.0) if mode == "linear" else cubic))
        total = 0.0
        for _, weight in found:
            total += weight
        found = [(k, weight / total) for k, weight in found]
    else:
        p = i * step if align else step * (i + 0.5) - 0.5
        p = max(p, 0.0) if mode == "linear" else p
        a = min(math.floor(p), size - 1)
        t = min(max(p - a, 0.0), 1.0)
        if mode == "linear":
            found = [(a, 1 - t), (a + 1, t)]
        else:
            weights = far(t + 1, -0.75), near(t, -0.75), near(1 - t, -0.75), far((1 - t) + 1, -0.75)
            found = [(a + k - 1, weight) for k, weight in enumerate(weights)]
    together: dict[int, float] = {}
    for k, weight in found:
        k = min(max(k, 0), size - 1)
        together[k] = together[k] + weight if k in together else weight
    return {k: weight for k, weight in together.items() if weight != 0}


@pytest.mark.parametrize(("size", "output"), [((5,), (9,)), ((4, 6), (7, 3)), ((3, 1), (2, 4)), ((2, 3, 4), (3, 2, 6))])
@pytest.mark.parametrize(
    ("mode", "align", "smoothed"),
    [("nearest", 0, 0), ("nearest-exact", 0, 0), *itertools.product(("linear", "cubic"), (0, 1), (0, 1))],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_resizing(size: Any, output: Any, mode: str, align: int, smoothed: int, dtype: Any) -> None:
    x, dy = random((1, 2, *size), dtype, "special"), random((1, 2, *output), dtype, seed=1)
    sides = list(zip(size, output, strict=True))
    tables = [taps.side_taps(mode, s, o, bool(align), None, bool(smoothed)) for s, o in sides]
    y = BACKEND.resample(x, *taps.joined(tables), output)
    back = [taps.turned(table, s) for table, s in zip(tables, size, strict=True)]
    dx = BACKEND.resample(dy, *taps.joined(back), size)
    of = [[side_taps(mode, i, s, o, bool(align), bool(smoothed)) for i in range(o)] for s, o in sides]
    with np.errstate(all="ignore"):
        for place in np.ndindex(y.shape):
            chosen = [list(side[i].items()) for side, i in zip(of, place[2:], strict=True)]
            law = weighted_sum(x[place[:2]], itertools.product(*chosen))
            assert_same(y[place], narrow(law, dtype))
        for place in np.ndindex(dx.shape):
            uses = [[(o, t[i]) for o, t in enumerate(side) if i in t] for side, i in zip(of, place[2:], strict=True)]
            assert_same(dx[place], narrow(weighted_sum(dy[place[:2]], itertools.product(*uses)), dtype))


def weighted_sum(image: Array, chosen: Any) -> float:
    total: float | None = None
    for parts in chosen:
        weight = 1.0
        for _, one in parts:
            weight = weight * one
        term = weight * float(image[tuple(k for k, _ in parts)])
        total = term if total is None else total + term
    return 0.0 if total is None else total


def grid_place(v: float, size: int, align: bool, padding: str) -> tuple[float, float]:
    """The place along a side that ``v`` names, and its derivative, from the text of section 8.2."""
    p = (v + 1) / 2 * (size - 1) if align else ((v + 1) * size - 1) / 2
    k = (size - 1) / 2 if align else size / 2
    if padding == "reflection":
        low, n = (0.0, size - 1.0) if align else (-0.5, float(size))
        if p < low:
            k = -k
        d = abs(p - low)
        f = math.floor(d / n) if n else 0
        d = d - f * n if n else 0.0
        p, k = ((n - d) + low, -k) if f % 2 else (d + low, k)
    if padding != "zeros":
        k = k if 0 < p < size - 1 else 0.0
        p = p if p > 0 else 0.0
        p = p if p < size - 1 else size - 1.0
    return p, k


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sampling_at_places(nearest: bool, align: bool, padding: str, dtype: Any) -> None:
    rng = np.random.default_rng(SEED)
    for height, width in ((4, 5), (3, 1)):
        x, dy = random((2, 3, height, width), dtype), random((2, 3, 4, 3), dtype, seed=1)
        grid = rng.uniform(-2.5, 2.5, (2, 4, 3, 2))
        grid = np.where(rng.random(grid.shape) < 0.4, np.round(grid * 2) / 2, grid).astype(dtype)
        how = align, padding == "border", padding == "reflection"
        y, dx, dgrid = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(grid)
        for n, i, j in np.ndindex(2, 4, 3):
            (px, kx), (py, ky) = (
                grid_place(float(grid[n, i, j, axis]), size, align, padding) for axis, size in ((0, width), (1, height))
            )
            if nearest:
                taps = [(round(py), round(px), 1.0)]
            else:
                ax, ay = math.floor(px), math.floor(py)
                tx, ty = px - ax, py - ay
                taps = [(ay + a, ax + b, (ty if a else 1 - ty) * (tx if b else 1 - tx)) for a in (0, 1) for b in (0, 1)]
            inside = [0 <= row < height and 0 <= column < width for row, column, _ in taps]
            for c in range(3):
                total: float | None = None
                for (row, column, weight), there in zip(taps, inside, strict=True):
                    if there and weight:
                        term = weight * float(x[n, c, row, column])
                        total = term if total is None else total + term
                        dx[n, c, row, column] += narrow(weight * float(dy[n, c, i, j]), dtype)
                y[n, c, i, j] = 0.0 if total is None else total
            across = down = 0.0
            for c in range(3 * (not nearest)):
                a, b, e, f = (
                    float(x[n, c, row, column]) if there else 0.0
                    for (row, column, _), there in zip(taps, inside, strict=True)
                )
                across += ((b - a) * (1 - ty) + (f - e) * ty) * float(dy[n, c, i, j])
                down += ((e - a) * (1 - tx) + (f - b) * tx) * float(dy[n, c, i, j])
            dgrid[n, i, j] = across * kx if kx else 0.0, down * ky if ky else 0.0
        assert_same(BACKEND.grid_sample(x, grid, nearest, *how), y)
        assert_same(BACKEND.grid_sample_input_grad(dy, grid, x.shape, nearest, *how), dx)
        if not nearest:
            assert_same(BACKEND.grid_sample_grid_grad(dy, x, grid, *how), dgrid)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 45.0, -45.0, 135.0, 180.0, 270.0, 1e6 + 0.25, -723.4])
def test_cosine_and_sine_of_degrees(degrees: float) -> None:
    cosine, sine = of_degrees(degrees)
    mp = pytest.importorskip("mpmath").mp.clone()
    with mp.workprec(200):
        angle = mp.mpf(degrees) * mp.pi / 180
        assert abs(cosine - mp.cos(angle)) < 3e-16
        assert abs(sine - mp.sin(angle)) < 3e-16


@pytest.mark.parametrize("kind", ["plain", "special", "equal"])
@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize("case", list(POOLINGS)[:7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pooling(case: str, dilated: bool, kind: str, dtype: Any) -> None:
    size, kernel, stride, padding, output = POOLINGS[case]
    dilation = (2, 3, 2)[: len(size)] if dilated else (1,) * len(size)
    x, dy = random((2, 2, *size), dtype, kind), random((2, 2, *output), dtype, seed=1)
    if kind == "equal":
        x = np.round(x * 0.4)
    y, index = BACKEND.max_pool2d(x, kernel, stride, padding, dilation, output)
    law, law_index = max_pool(x, kernel, stride, padding, dilation, output)
    assert_same(y, law)
    assert_same(index, law_index)
    dx = np.zeros((2, 2, math.prod(size)), dtype)
    for place in np.ndindex(y.shape):
        if law_index[place] >= 0:
            dx[(*place[:2], law_index[place])] += dy[place]
    assert_same(BACKEND.max_pool2d_grad(dy, index, x.shape), dx.reshape(x.shape))


# -- softmax and loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "special", "large"])
@pytest.mark.parametrize(("shape", "axis"), [((3, 5), 1), ((2, 300), 1), ((4, 3), 0), ((2, 4, 3), 1), ((3, 1), 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax(shape: Any, axis: int, kind: str, dtype: Any) -> None:
    x, dy = random(shape, dtype, kind), random(shape, dtype, seed=1)
    if kind == "large":
        x *= dtype(500)
    y = BACKEND.log_softmax(x, axis)
    law, law_dx = np.empty_like(x), np.empty_like(x)
    for place in np.ndindex(*shape[:axis], *shape[axis + 1 :]):
        index = (*place[:axis], slice(None), *place[axis:])
        row = [float(v) for v in x[index]]
        top = math.nan if any(map(math.isnan, row)) else max(row)
        z = [v - top for v in row]
        L = log64(reduction(exp64(v) for v in z))
        law[index] = [narrow(v - L, dtype) for v in z]
        S = reduction(dy[index])
        law_dx[index] = [
            narrow(float(g) - exp64(float(v)) * S, dtype) for g, v in zip(dy[index], y[index], strict=True)
        ]
    assert_same(y, law)
    assert_same(BACKEND.log_softmax_grad(dy, y, axis), law_dx)


@pytest.mark.parametrize("kind", ["plain", "special", "causal", "masked"])
@pytest.mark.parametrize(("queries", "keys", "width"), [(2, 3, 2), (3, 300, 1), (4, 2, 40), (1, 1, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention(queries: int, keys: int, width: int, kind: str, dtype: Any) -> None:
    chosen = kind if kind == "special" else "plain"
    q, k, v = (random((n, width), dtype, chosen, seed=i) for i, n in enumerate((queries, keys, keys)))
    dy, scale, causal = random((queries, width), dtype, seed=3), 0.3, kind == "causal"
    mask = (
        None if kind != "masked" else np.where(random((queries, keys), dtype, seed=4) > 0, dtype(0), dtype(-math.inf))
    )
    if mask is not None:
        mask[-1] = -math.inf  # a query without a key
    f, p, da = dtype(scale), np.zeros((queries, keys), dtype), np.zeros((queries, keys), dtype)
    with np.errstate(all="ignore"):
        for t in range(queries):
            seen = [j for j in range(keys) if not (causal and j > t)]
            a = [contraction(list(zip(map(float, q[t]), map(float, k[j]), strict=True)), dtype) * f for j in seen]
            a = a if mask is None else [x + mask[t, j] for x, j in zip(a, seen, strict=True)]
            m = math.nan if any(map(math.isnan, a)) else float(max(a))
            if m != -math.inf:
                e = [exp64(float(x) - m) for x in a]
                r = divide(1.0, reduction(e))
                p[t, seen] = [narrow(x * r, dtype) for x in e]
            dp = {j: contraction(list(zip(map(float, dy[t]), map(float, v[j]), strict=True)), dtype) for j in seen}
            D = reduction(float(p[t, j]) * float(dp[j]) for j in seen)
            da[t, seen] = [narrow(float(p[t, j]) * (float(dp[j]) - D), dtype) for j in seen]
        ds = da * f

    def product(a: Array, b: Array) -> Array:
        rows = [[contraction(list(zip(map(float, x), map(float, y), strict=True)), dtype) for y in b.T] for x in a]
        return np.array(rows, dtype)

    operands = q, k, v, mask, scale, causal
    assert_same(BACKEND.attention(*operands), product(p, v))
    dq, dk, dv = BACKEND.attention_grad(dy, *operands)
    assert_same(dq, product(ds, k))
    assert_same(dk, product(ds.T, q))
    assert_same(dv, product(p.T, dy))


@pytest.mark.parametrize("reduction_", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 6, 700])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nll_loss(rows: int, weighted: bool, reduction_: str, dtype: Any) -> None:
    logp, w = random((rows, 4), dtype), np.abs(random(4, dtype)) if weighted else None
    target = np.random.default_rng(SEED).integers(0, 4, rows)
    target[1::3] = 2
    used = [n for n in range(rows) if target[n] != 2]
    weight = {n: 1.0 if w is None else float(w[target[n]]) for n in used}
    loss = {n: -(weight[n] * float(logp[n, target[n]])) for n in used}
    total, weights = reduction(loss.values()), reduction(weight.values())
    law: Array = {
        "none": [narrow(loss.get(n, 0.0), dtype) for n in range(rows)],
        "sum": narrow(total, dtype),
        "mean": narrow(divide(total, weights), dtype),
    }[reduction_]
    law = np.array(law, dtype)
    ours, weight_sum = BACKEND.nll_loss(logp, target, w, 2, reduction_)
    assert_same(ours, law)
    assert_same(weight_sum, np.float64(weights))
    dloss = np.asarray(random(law.shape or (1,), dtype, seed=1)).reshape(law.shape) + dtype(0.7)
    q = {n: float(dloss[n] if reduction_ == "none" else dloss) for n in used}
    if reduction_ == "mean":
        q = {n: divide(v, weights) for n, v in q.items()}
    dx = np.zeros((rows, 4), dtype)
    for n in used:
        dx[n, target[n]] = narrow(-(weight[n] * q[n]), dtype)
    assert_same(BACKEND.nll_loss_grad(dloss, target, w, 2, reduction_, weight_sum, 4), dx)


# -- optimiser -------------------------------------------------------------------------------------------------------

SGD = {
    "plain": {},
    "weight decay": {"weight_decay": 1e-4},
    "momentum": {"momentum": 0.9, "weight_decay": 1e-4},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "dampening": {"momentum": 0.9, "dampening": 0.9},
    "maximise": {"momentum": 0.7, "weight_decay": 0.1, "maximize": True},
    "decay that narrows to zero": {"weight_decay": 1e-60},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", SGD)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sgd(case: str, kind: str, dtype: Any) -> None:
    options = {"lr": 0.1, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False}
    options |= SGD[case]
    number = {name: float(narrow(float(value), dtype)) for name, value in options.items()}
    param, velocity = random(30, dtype, kind), np.full(30, np.nan, dtype)
    param[0] = np.inf if kind == "special" else param[0]
    law_p, law_v = [float(p) for p in param], [0.0] * 30
    for step in range(3):
        grad = random(30, dtype, kind, seed=step)
        for i in range(30):
            d = -float(grad[i]) if options["maximize"] else float(grad[i])
            if options["weight_decay"]:
                d = scalar_fma(number["weight_decay"], law_p[i], d, dtype)
            if options["momentum"]:
                with np.errstate(all="ignore"):
                    fresh = float(dtype(1 - options["dampening"]) * dtype(d)) if options["dampening"] else d
                law_v[i] = d if step == 0 else scalar_fma(number["momentum"], law_v[i], fresh, dtype)
                d = scalar_fma(number["momentum"], law_v[i], d, dtype) if options["nesterov"] else law_v[i]
            law_p[i] = scalar_fma(-number["lr"], d, law_p[i], dtype)
        BACKEND.sgd_step(param, grad, velocity if options["momentum"] else None, step == 0, **options)
        assert_same(param, np.array(law_p, dtype))
        if options["momentum"]:
            assert_same(velocity, np.array(law_v, dtype))


def decayed(g: Any, p: Any, n: dict[str, Any]) -> Any:
    g = -g if n["maximize"] else g
    return g + n["weight_decay"] * p if n["weight_decay"] else g


def larger(a: Any, b: Any) -> Any:
    return a if math.isnan(a) or a >= b else b


def averages(p: Any, g: Any, m: Any, v: Any, n: dict[str, Any]) -> Any:
    g = decayed(g, p, n)
    return p * n["shrink"], g, m + (g - m) * n["rest1"], v * n["beta2"] + g * g * n["rest2"]


def law_adam(p: Any, g: Any, m: Any, v: Any, top: Any = None, **n: Any) -> Any:
    p, g, m, v = averages(p, g, m, v, n)
    top = larger(top, v) if n["amsgrad"] else v
    return p - n["step_size"] * (m / (np.sqrt(top) * n["scale"] + n["eps"])), m, v, top


def law_adamax(p: Any, g: Any, m: Any, u: Any, **n: Any) -> Any:
    g = decayed(g, p, n)
    m, u = m + (g - m) * n["rest1"], larger(u * n["beta2"], abs(g) + n["eps"])
    return p - n["step_size"] * (m / u), m, u


def law_nadam(p: Any, g: Any, m: Any, v: Any, **n: Any) -> Any:
    p, g, m, v = averages(p, g, m, v, n)
    return p - (n["grad_size"] * g + n["avg_size"] * m) / (np.sqrt(v) * n["scale"] + n["eps"]), m, v


def law_radam(p: Any, g: Any, m: Any, v: Any, **n: Any) -> Any:
    p, g, m, v = averages(p, g, m, v, n)
    return p - n["step_size"] * (m / (np.sqrt(v) + n["eps"]) if n["adaptive"] else m), m, v


def law_adagrad(p: Any, g: Any, total: Any, **n: Any) -> Any:
    g = decayed(g, p, n)
    total = total + g * g
    return p - n["step_size"] * (g / (np.sqrt(total) + n["eps"])), total


def law_adadelta(p: Any, g: Any, v: Any, a: Any, **n: Any) -> Any:
    g = decayed(g, p, n)
    v = v * n["rho"] + g * g * n["rest"]
    d = np.sqrt(a + n["eps"]) / np.sqrt(v + n["eps"]) * g
    return p - n["lr"] * d, v, a * n["rho"] + d * d * n["rest"]


def law_rmsprop(p: Any, g: Any, v: Any, buffer: Any = None, mean: Any = None, **n: Any) -> Any:
    g = decayed(g, p, n)
    v = v * n["alpha"] + g * g * n["rest"]
    mean = mean + (g - mean) * n["rest"] if n["centered"] else mean
    step = g / (np.sqrt(v - mean * mean if n["centered"] else v) + n["eps"])
    buffer = buffer * n["momentum"] + step if n["momentum"] else buffer
    return p - n["lr"] * (buffer if n["momentum"] else step), v, buffer, mean


def law_rprop(p: Any, g: Any, prev: Any, step: Any, **n: Any) -> Any:
    g = -g if n["maximize"] else g
    turn = g * prev
    step = turn if math.isnan(turn) else step * (n["etaplus"] if turn > 0 else n["etaminus"] if turn < 0 else 1.0)
    step = n["least"] if step < n["least"] else n["most"] if step > n["most"] else step
    prev = np.float64(0) if turn < 0 else g
    return p - (prev if math.isnan(prev) or prev == 0 else np.copysign(1.0, prev)) * step, prev, step


def law_asgd(p: Any, g: Any, ax: Any, **n: Any) -> Any:
    p = p * n["shrink"] - n["eta"] * decayed(g, p, n)
    return p, ax + (p - ax) * n["mu"] if n["averaged"] else p


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rules_of_updates(name: str, kind: str, dtype: Any) -> None:
    rule, law = RULES[name], globals()[f"law_{name}"]
    flags = [number for number in rule.numbers if number in FLAGS]
    for choice in itertools.product([False, True], repeat=len(flags)):
        numbers = {number: 0.1 + 0.8 / (3 + i) for i, number in enumerate(rule.numbers)}
        numbers |= dict(zip(flags, choice, strict=True))
        if sum(choice) % 2:
            numbers |= {number: 0.0 for number in ("weight_decay", "momentum") if number in numbers}
        names = [known for known in rule.memory if numbers.get(WANTED_BY.get(known, ""), True)]
        param, grad = random(30, dtype, kind), random(30, dtype, kind, seed=1)
        memory = {known: abs(random(30, dtype, kind, seed=2 + i)) for i, known in enumerate(names)}
        expected = []
        with np.errstate(all="ignore"):
            for i in range(30):
                before = [np.float64(memory[known][i]) if known in memory else None for known in rule.memory]
                after = law(np.float64(param[i]), np.float64(grad[i]), *before, **numbers)
                expected.append([dtype(after[0])] + [dtype(after[1 + rule.memory.index(known)]) for known in names])
        BACKEND.update(name, param, grad, memory, numbers)
        for array, column in zip([param, *memory.values()], zip(*expected, strict=True), strict=True):
            assert_same(array, np.array(column, dtype))


# -- random numbers --------------------------------------------------------------------------------------------------


def philox_block(seed: int, stream: int, block: int) -> list[int]:
    low = 0xFFFFFFFF
    counter, key = [block & low, block >> 32 & low, stream & low, stream >> 32 & low], [seed & low, seed >> 32 & low]
    for _ in range(10):
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [second >> 32 ^ counter[1] ^ key[0], second & low, first >> 32 ^ counter[3] ^ key[1], first & low]
        key = [(key[0] + 0x9E3779B9) & low, (key[1] + 0xBB67AE85) & low]
    return counter


@pytest.mark.parametrize(
    ("seed", "stream", "block"),
    [(0, 0, 0), (7, 3, 2**32 - 2), (2**64 - 1, 2**64 - 1, 2**64 - 2), (123456789012345, 2**40 + 5, 99)],
)
def test_draws(seed: int, stream: int, block: int) -> None:
    words = [w for i in range(12) for w in philox_block(seed, stream, (block + i) % 2**64)]
    assert BACKEND.philox(seed, stream, block, 45).tolist() == words[:45]
    low, high = -1.5, 0.7
    for dtype, u in (
        (np.float32, [(r + 0.5) * 2.0**-32 for r in words[:23]]),
        (
            np.float64,
            [((a >> 6) * 2**26 + (b >> 6) + 0.5) * 2.0**-52 for a, b in zip(words[::2], words[1::2], strict=True)][:23],
        ),
    ):
        law = np.array([narrow(low + (high - low) * v, dtype) for v in u])
        assert_same(BACKEND.uniform(seed, stream, block, 23, low, high, dtype), law)


# -- linear algebra: section 14 ----------------------------------------------------------------------------------------


def fma64(a: float, b: float, c: float) -> float:
    return scalar_fma(float(a), float(b), float(c), np.float64)


def exact_root(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def law_lu(a: Array) -> tuple[Array, list[int], int]:
    m, n, swaps = a.tolist(), len(a), 0
    order = list(range(n))
    for k in range(n):
        p, largest = k, -1.0
        for i in range(k, n):
            if math.isnan(m[i][k]):
                p = i
                break
            if abs(m[i][k]) > largest:
                p, largest = i, abs(m[i][k])
        if p != k:
            m[k], m[p], order[k], order[p] = m[p], m[k], order[p], order[k]
            swaps += 1
        for i in range(k + 1, n):
            if m[k][k] != 0:
                m[i][k] = divide(m[i][k], m[k][k])
            for j in range(k + 1, n):
                m[i][j] = fma64(-m[i][k], m[k][j], m[i][j])
    return np.array(m).reshape(n, n), order, swaps


def law_triangular(t: Array, b: Array, upper: bool, unit: bool) -> Array:
    x, n = b.tolist(), len(t)
    steps = list(range(n))[:: -1 if upper else 1]
    for at, k in enumerate(steps):
        for j in range(b.shape[1]):
            if not unit:
                x[k][j] = divide(x[k][j], t[k, k])
            for i in steps[at + 1 :]:
                x[i][j] = fma64(-t[i, k], x[k][j], x[i][j])
    return np.array(x).reshape(b.shape)


def law_cholesky(a: Array) -> Array:
    m, n = np.tril(a).tolist(), len(a)
    for k in range(n):
        m[k][k] = exact_root(m[k][k])
        for i in range(k + 1, n):
            m[i][k] = divide(m[i][k], m[k][k])
        for i in range(k + 1, n):
            for j in range(k + 1, i + 1):
                m[i][j] = fma64(-m[i][k], m[j][k], m[i][j])
    return np.array(m).reshape(n, n)


def law_scale(a: Array) -> tuple[list[list[float]], int]:
    largest = max((abs(x) for x in a.ravel().tolist()), default=0.0)
    e = math.frexp(largest)[1]
    return [[math.ldexp(x, -e) for x in row] for row in a.tolist()], e


def law_reflection(x: list[float]) -> tuple[list[float], float, float]:
    rest = 0.0
    for value in x[1:]:
        rest = fma64(value, value, rest)
    if rest == 0:
        return [1.0, *x[1:]], 0.0, x[0]
    length = math.sqrt(fma64(x[0], x[0], rest))
    beta = length if x[0] < 0 else -length
    return [1.0, *[value / (x[0] - beta) for value in x[1:]]], (beta - x[0]) / beta, beta


def law_reflect(
    m: list[list[float]], v: list[float], tau: float, first: int, columns: Any, right: bool = False
) -> None:
    """Rows of ``m`` from ``first`` on of these columns; from the right, columns from ``first`` on of these rows."""
    if tau == 0:
        return
    for j in columns:
        w = 0.0
        for i, value in enumerate(v):
            w = fma64(value, m[j][first + i] if right else m[first + i][j], w)
        t = tau * w
        for i, value in enumerate(v):
            row, column = (j, first + i) if right else (first + i, j)
            m[row][column] = fma64(-value, t, m[row][column])


def law_identity(rows: int, columns: int) -> list[list[float]]:
    return [[float(i == j) for j in range(columns)] for i in range(rows)]


def law_triangularized(m: list[list[float]], rows: int, columns: int) -> list[tuple[int, list[float], float]]:
    made = []
    for k in range(min(rows, columns)):
        v, tau, m[k][k] = law_reflection([m[i][k] for i in range(k, rows)])
        for i in range(k + 1, rows):
            m[i][k] = 0.0
        law_reflect(m, v, tau, k, range(k + 1, columns))
        made.append((k, v, tau))
    return made


def law_qr(a: Array, width: int) -> tuple[Array, Array]:
    rows, columns = a.shape
    m, e = law_scale(a)
    q = law_identity(rows, width)
    for k, v, tau in reversed(law_triangularized(m, rows, columns)):
        law_reflect(q, v, tau, k, range(width))
    return np.array(q).reshape(rows, width), np.ldexp(np.array(m).reshape(rows, columns)[:width], e)


def law_hypotenuse(a: float, b: float) -> float:
    large, small = max(abs(a), abs(b)), min(abs(a), abs(b))
    return large * math.sqrt(1 + (small / large) * (small / large)) if large else 0.0


def law_tridiagonal(m: list[list[float]]) -> tuple[list[float], list[float], list[list[float]]]:
    n, made = len(m), []
    e = [0.0] * n
    for k in range(n - 2):
        v, tau, e[k] = law_reflection([m[i][k] for i in range(k + 1, n)])
        made.append((k + 1, v, tau))
        if tau == 0:
            continue
        size, p, h = len(v), [], 0.0
        for i in range(size):
            w = 0.0
            for j in range(size):
                w = fma64(v[j], m[k + 1 + j][k + 1 + i], w)
            p.append(tau * w)
        for i in range(size):
            h = fma64(v[i], p[i], h)
        h = 0.5 * tau * h
        ws = [fma64(-h, v[i], p[i]) for i in range(size)]
        for i in range(size):
            for j in range(i + 1):
                r, c = k + 1 + i, k + 1 + j
                m[r][c] = m[c][r] = fma64(-ws[i], v[j], fma64(-v[i], ws[j], m[r][c]))
    if n > 1:
        e[n - 2] = m[n - 1][n - 2]
    z = law_identity(n, n)
    for k, v, tau in reversed(made):
        law_reflect(z, v, tau, k, range(n))
    return [m[i][i] for i in range(n)], e, z


def law_ql_step(d: list[float], e: list[float], z: list[list[float]], l: int, t: int) -> None:
    g = (d[l + 1] - d[l]) / (2 * e[l])
    r = law_hypotenuse(g, 1.0)
    g = d[t] - d[l] + e[l] / (g + (r if g >= 0 else -r))
    s, c, p = 1.0, 1.0, 0.0
    for i in range(t - 1, l - 1, -1):
        f, b = s * e[i], c * e[i]
        r = e[i + 1] = law_hypotenuse(f, g)
        if r == 0:
            d[i + 1], e[t] = d[i + 1] - p, 0.0
            return
        s, c = f / r, g / r
        g = d[i + 1] - p
        r = (d[i] - g) * s + 2 * c * b
        p = s * r
        d[i + 1] = g + p
        g = c * r - b
        for row in z:
            row[i], row[i + 1] = c * row[i] - s * row[i + 1], s * row[i] + c * row[i + 1]
    d[l], e[l], e[t] = d[l] - p, g, 0.0


def law_eigh(a: Array) -> tuple[Array, Array]:
    n = len(a)
    m, exponent = law_scale(np.tril(a) + np.tril(a, -1).T)
    d, e, z = law_tridiagonal(m)
    for l in range(n):
        while True:
            t = l
            while t < n - 1 and abs(e[t]) > 2.0**-52 * (abs(d[t]) + abs(d[t + 1])):
                t += 1
            if t == l:
                break
            law_ql_step(d, e, z, l, t)
    order = sorted(range(n), key=lambda i: d[i])
    return np.array([math.ldexp(d[i], exponent) for i in order]), np.array(z).reshape(n, n)[:, order]


def law_dot(a: list[float], b: list[float]) -> float:
    s = [0.0] * 32
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        s[i % 32] += x * y
    for h in (16, 8, 4, 2, 1):
        for i in range(h):
            s[i] += s[i + h]
    return s[0]


def law_turn(rows: list[list[float]], p: int, q: int, c: float, s: float) -> None:
    pairs = list(zip(rows[p], rows[q], strict=True))
    rows[p], rows[q] = [c * x - s * y for x, y in pairs], [s * x + c * y for x, y in pairs]


def law_svd(a: Array) -> tuple[Array, Array, Array]:
    rows, n = a.shape
    m, e = law_scale(a)
    made = law_triangularized(m, rows, n)
    x, z, turned = [row[:] for row in m[:n]], law_identity(n, n), True
    while turned:
        turned = False
        squares = [law_dot(row, row) for row in x]
        for p, q in itertools.combinations(range(n), 2):
            pp, qq, g = squares[p], squares[q], law_dot(x[p], x[q])
            if min(pp, qq) < 2.0**-960 or abs(g) <= 2.0**-52 * math.sqrt(n) * (math.sqrt(pp) * math.sqrt(qq)):
                continue
            turned = True
            y = (qq - pp) / (2 * g)
            u = abs(y) + law_hypotenuse(y, 1.0)
            t = 1 / u if y >= 0 else -1 / u
            c = 1 / math.sqrt(1 + t * t)
            law_turn(x, p, q, c, c * t)
            law_turn(z, p, q, c, c * t)
            squares[p], squares[q] = pp - t * g, qq + t * g
    squares = [law_dot(row, row) for row in x]
    s = [0.0 if square < 2.0**-960 else math.sqrt(square) for square in squares]
    order = sorted(range(n), key=lambda i: -s[i])
    vh = [[value / s[i] for value in x[i]] for i in order if s[i]]
    if len(vh) < n:
        known = np.array(vh).reshape(len(vh), n).T
        q = law_identity(n, n)
        for k, v, tau in reversed(law_triangularized(known.tolist(), n, len(vh))):
            law_reflect(q, v, tau, k, range(n))
        vh += [[q[i][j] for i in range(n)] for j in range(len(vh), n)]
    u = [[z[i][j] for i in order] if j < n else [0.0] * n for j in range(rows)]
    for k, v, tau in reversed(made):
        law_reflect(u, v, tau, k, range(n))
    return np.array(u).reshape(rows, n), np.array([math.ldexp(s[i], e) for i in order]), np.array(vh).reshape(n, n)


def law_hessenberg(m: list[list[float]]) -> list[list[float]]:
    n, made, z = len(m), [], law_identity(len(m), len(m))
    for k in range(n - 2):
        v, tau, beta = law_reflection([m[i][k] for i in range(k + 1, n)])
        for i in range(k + 1, n):
            m[i][k] = beta if i == k + 1 else 0.0
        law_reflect(m, v, tau, k + 1, range(k + 1, n))
        law_reflect(m, v, tau, k + 1, range(n), right=True)
        made.append((k + 1, v, tau))
    for k, v, tau in reversed(made):
        law_reflect(z, v, tau, k, range(n))
    return z


def law_pair(m: list[list[float]], z: list[list[float]], n: int) -> None:
    k = n - 1
    p = (m[k][k] - m[n][n]) / 2
    q = p * p + m[n][k] * m[k][n]
    y = p + math.sqrt(q) if p >= 0 else p - math.sqrt(q)
    h = law_hypotenuse(m[n][k], y)
    s, c = m[n][k] / h, y / h
    for j in range(k, len(m)):
        a, b = m[k][j], m[n][j]
        m[k][j], m[n][j] = c * a + s * b, c * b - s * a
    for row in [*m[: n + 1], *z]:
        a, b = row[k], row[n]
        row[k], row[n] = c * a + s * b, c * b - s * a
    m[n][k] = 0.0


def law_double_step(m: list[list[float]], z: list[list[float]], first: int, n: int, step: int) -> None:
    x, y, w = m[n][n], m[n - 1][n - 1], m[n][n - 1] * m[n - 1][n]
    if step % 10 == 0:
        s = abs(m[n][n - 1]) + abs(m[n - 1][n - 2])
        x = y = x + 0.75 * s
        w = -0.4375 * (s * s)
    for k in range(n - 2, first - 1, -1):
        a = m[k][k]
        r, s = x - a, y - a
        v = [(r * s - w) / m[k + 1][k] + m[k][k + 1], m[k + 1][k + 1] - a - r - s, m[k + 2][k + 1]]
        size = abs(v[0]) + abs(v[1]) + abs(v[2])
        v = [value / size for value in v]
        if k == first:
            break
        around = abs(v[0]) * (abs(m[k - 1][k - 1]) + abs(a) + abs(m[k + 1][k + 1]))
        if abs(m[k][k - 1]) * (abs(v[1]) + abs(v[2])) < 2.0**-52 * around:
            break
    for i in range(k, n):
        end = min(i + 2, n) + 1
        if i > k:
            v = [m[j][i - 1] for j in range(i, end)]
        v, tau, beta = law_reflection(v)
        if i > k:
            for j in range(i, end):
                m[j][i - 1] = beta if j == i else 0.0
        elif k > first and tau != 0:
            m[k][k - 1] = -m[k][k - 1]
        law_reflect(m, v, tau, i, range(i, len(m)))
        law_reflect(m, v, tau, i, range(min(i + 3, n) + 1), right=True)
        law_reflect(z, v, tau, i, range(len(m)), right=True)


def law_schur(m: list[list[float]]) -> list[list[float]]:
    z, n, step = law_hessenberg(m), len(m) - 1, 0
    while n >= 0:
        first = n
        while first > 0:
            near = abs(m[first - 1][first - 1]) + abs(m[first][first])
            if abs(m[first][first - 1]) <= 2.0**-52 * (near or 1.0):
                m[first][first - 1] = 0.0
                break
            first -= 1
        if first >= n - 1:
            if first == n - 1:
                law_pair(m, z, n)
            n, step = first - 1, 0
        else:
            step += 1
            law_double_step(m, z, first, n, step)
    return z


def law_eig(a: Array) -> tuple[Array, Array]:
    n = len(a)
    m, e = law_scale(a)
    z = law_schur(m)
    largest = max((abs(m[i][j]) for i in range(n) for j in range(i, n)), default=0.0)
    vectors = np.zeros((n, n))
    for k in range(n):
        x = [-m[i][k] for i in range(k)] + [1.0]
        for i in range(k - 1, -1, -1):
            gap, least = m[i][i] - m[k][k], 2.0**-52 * (largest or 1.0)
            x[i] /= least if abs(gap) < least else gap
            if abs(x[i]) > 2.0**300:
                x = [value / abs(x[i]) for value in x]
            for j in range(i):
                x[j] = fma64(-m[j][i], x[i], x[j])
        y = [0.0] * n
        for r in range(n):
            for i in range(k + 1):
                y[r] = fma64(x[i], z[r][i], y[r])
        length = math.sqrt(law_dot(y, y))
        vectors[:, k] = [value / length for value in y]
    return np.array([math.ldexp(m[i][i], e) for i in range(n)]), vectors


@pytest.mark.parametrize("kind", [*KINDS, "singular"])
@pytest.mark.parametrize("n", [0, 1, 2, 6])
def test_triangular_factors(n: int, kind: str) -> None:
    a = random((n, n), np.float64, "plain" if kind == "singular" else kind)
    if kind == "singular" and n > 2:
        a[:, 1] = 0.0
        a[3] = a[2]
    with np.errstate(all="ignore"):
        m, order, swaps = law_lu(a)
        for ours, law in zip(BACKEND.lu_factor(a), (m, np.array(order, np.int64), np.int64(swaps)), strict=True):
            assert_same(ours, law)
        b = random((n, 3), np.float64, "plain" if kind == "singular" else kind, 7)
        for upper, unit in itertools.product((False, True), repeat=2):
            assert_same(BACKEND.triangular_solve(m, b, upper, unit), law_triangular(m, b, upper, unit))
    if kind == "plain":
        product = a @ a.T + np.eye(n)
        factor, failed = BACKEND.cholesky_factor(product)
        assert_same(factor, law_cholesky(product))
        assert failed == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 0), (6, 3), (3, 6), (5, 5)])
def test_reflections(shape: tuple[int, int]) -> None:
    for a in (random(shape, np.float64), random(shape, np.float64) * 1e200, np.zeros(shape)):
        for complete in (False, True):
            width = shape[0] if complete else min(shape)
            for ours, law in zip(BACKEND.qr_factor(a, complete), law_qr(a, width), strict=True):
                assert_same(ours, law)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_symmetric_eigenvalues(n: int) -> None:
    for a in (random((n, n), np.float64), np.diag(np.arange(n) % 3 * 1.0), random((n, n), np.float64) * 1e-300):
        w, v, failed = BACKEND.eigh_factor(a)
        assert failed == 0
        for ours, law in zip((w, v), law_eigh(a), strict=True):
            assert_same(ours, law)


@pytest.mark.parametrize("shape", [(1, 1), (4, 0), (6, 3), (9, 9), (4, 4)])
def test_singular_values(shape: tuple[int, int]) -> None:
    low = random(shape, np.float64)
    low[:, -1:] = 0.0
    for a in (random(shape, np.float64), low, np.zeros(shape)):
        u, s, vh, failed = BACKEND.svd_factor(a)
        assert failed == 0
        for ours, law in zip((u, s, vh), law_svd(a), strict=True):
            assert_same(ours, law)
        u, s, vh, failed = BACKEND.svd_factor(a.T)
        left, values, right = law_svd(a)
        if shape[0] != shape[1]:
            for ours, law in zip((u, s, vh), (right.T, values, left.T), strict=True):
                assert_same(ours, law)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 6])
def test_real_eigenvalues(n: int) -> None:
    x = random((n, n), np.float64)
    similar = (x + 3 * np.eye(n)) @ np.diag(np.arange(n) + 1.0) @ np.linalg.inv(x + 3 * np.eye(n))
    for a in (similar, similar * 1e200, x + x.T, np.triu(x), np.zeros((n, n)), np.triu(np.ones((n, n)))):
        w, v, failed = BACKEND.eig_factor(a)
        assert failed == 0
        for ours, law in zip((w, v), law_eig(a), strict=True):
            assert_same(ours, law)
