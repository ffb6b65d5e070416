"""Transcendental functions and random words of the law (§6, §11), in NumPy: float64 arrays in, float64 arrays out.

Line by line what ``ARITHMETIC.md`` says; nothing here calls a library's ``exp`` or ``log``, whose bits vary by machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def _bits(*patterns: int) -> list[float]:
    return [float(value) for value in np.array(patterns, np.uint64).view(np.float64)]


INV_LN2, LN2_HI, LN2_LO, SQRT_HALF = _bits(
    0x3FF71547652B82FE, 0x3FE62E42FEE00000, 0x3DEA39EF35793C76, 0x3FE6A09E667F3BCD
)
P1, P2, P3, P4, P5 = _bits(
    0x3FC555555555553E, 0xBF66C16C16BEBD93, 0x3F11566AAF25DE2C, 0xBEBBBD41C5D26BF1, 0x3E66376972BEA4D0
)
LG1, LG2, LG3, LG4, LG5, LG6, LG7 = _bits(
    0x3FE5555555555593,
    0x3FD999999997FA04,
    0x3FD2492494229359,
    0x3FCC71C51D8E78AF,
    0x3FC7466496CB03DE,
    0x3FC39A09D078C69F,
    0x3FC2F112DF3E5244,
)


def exp64(x: Array) -> Array:
    k = np.rint(x * INV_LN2)
    hi = x - k * LN2_HI
    lo = k * LN2_LO
    r = hi - lo
    t = r * r
    c = r - t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * P5))))
    y = 1 - ((lo - (r * c) / (2 - c)) - hi)
    ordinary = (x >= -745.1332191019412) & (x <= 709.782712893384)
    k = np.where(ordinary, k, 0).astype(np.int64)
    y = np.ldexp(np.ldexp(y, k // 2), k - k // 2)
    y = np.where(x > 709.782712893384, np.inf, y)
    y = np.where(x < -745.1332191019412, 0.0, y)
    return np.where(np.isnan(x), np.nan, y)


def log64(x: Array) -> Array:
    m, k = np.frexp(x)  # 1/2 <= m < 1
    small = m < SQRT_HALF
    m, k = np.where(small, m * 2, m), k - small
    f = m - 1
    s = f / (2 + f)
    z = s * s
    w = z * z
    t1 = w * (LG2 + w * (LG4 + w * LG6))
    t2 = z * (LG1 + w * (LG3 + w * (LG5 + w * LG7)))
    R = t2 + t1
    h = (0.5 * f) * f
    y = k * LN2_HI - ((h - (s * (h + R) + k * LN2_LO)) - f)
    y = np.where(x == 0, -np.inf, y)
    y = np.where(x == np.inf, np.inf, y)
    return np.where(np.isnan(x) | (x < 0), np.nan, y)


def sigmoid64(x: Array) -> Array:
    return 1 / (1 + exp64(-x))


# Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988), as printed there: a0 .. a7 and so on.
A = (
    3.3871328727963666080e0,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
)
B = (
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
)
C = (
    1.42343711074968357734e0,
    4.63033784615654529590e0,
    5.76949722146069140550e0,
    3.64784832476320460504e0,
    1.27045825245236838258e0,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
)
D = (
    1.0,
    2.05319162663775882187e0,
    1.67638483018380384940e0,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)
E = (
    6.65790464350110377720e0,
    5.46378491116411436990e0,
    1.78482653991729133580e0,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
)
F = (
    1.0,
    5.99832206555887937690e-1,
    1.36929880922735805310e-1,
    1.48753612908506148525e-2,
    7.86869131145613259100e-4,
    1.84631831751005468180e-5,
    1.42151175831644588870e-7,
    2.04426310338993978564e-15,
)


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    value = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def normal64(u: Array) -> Array:
    """The normal deviate of which a fraction ``u`` lies below, ``0 < u < 1``."""
    q = u - 0.5
    r = 0.180625 - q * q
    centre = (q * _horner(A, r)) / _horner(B, r)
    r = np.sqrt(-log64(np.where(q < 0, u, 1 - u)))
    near, far = r - 1.6, r - 5
    tail = np.where(r <= 5, _horner(C, near) / _horner(D, near), _horner(E, far) / _horner(F, far))
    return np.where(np.abs(q) <= 0.425, centre, np.where(q < 0, -tail, tail))


WORD = 0xFFFFFFFF


def philox4x32(seed: int, stream: int, block: int, blocks: int) -> Array:
    """``4 * blocks`` uint32 words: ten rounds of Philox4x32 (Salmon et al., SC 2011) for consecutive counters."""
    counters: Array = np.uint64(block & (2**64 - 1)) + np.arange(blocks, dtype=np.uint64)
    c0, c1 = counters & WORD, counters >> 32
    c2, c3 = (np.full(blocks, word, np.uint64) for word in (stream & WORD, stream >> 32 & WORD))
    k0, k1 = seed & WORD, seed >> 32 & WORD
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ np.uint64(k0), p1 & WORD, (p0 >> 32) ^ c3 ^ np.uint64(k1), p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32).reshape(-1)
