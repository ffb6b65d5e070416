"""The elementary functions of section 6 of the law, one number at a time, written from its text: for ``test_law.py``.

``LOOPS`` has those of one number, ``LOOPS_OF_TWO`` those of two; each takes and gives float64.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import lucid

TEXT = (Path(lucid.__file__).parent / "ARITHMETIC.md").read_text(encoding="utf-8")
NAN, INF = math.nan, math.inf


def of_pattern(word: str) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", int(word, 16)))[0])


@functools.cache
def constant(name: str) -> float:
    (word,) = re.findall(rf"\| {name} \| 0x([0-9A-F]{{16}}) \|", TEXT)
    return of_pattern(word)


@functools.cache
def table(name: str) -> list[float]:
    (words,) = re.findall(rf"\| {name} \| ((?:0x[0-9A-F]{{16}}(?:, )?)+) ", TEXT)
    return [of_pattern(word[2:]) for word in words.split(", ")]


@functools.cache
def limbs() -> list[int]:
    (words,) = re.findall(r"\| TWO_OVER_PI_LIMBS \| ((?:[0-9A-F]{7}(?:, )?)+) ", TEXT)
    return [int(word, 16) for word in words.split(", ")]


def polynomial(name: str, x: float) -> float:
    value = table(name)[-1]
    for coefficient in table(name)[-2::-1]:
        value = value * x + coefficient
    return value


def fma(a: float, b: float, c: float) -> float:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return float(exact) if exact else a * b + c


def product(a: float, b: float) -> tuple[float, float]:
    """The product, and its error as far as float64 has it."""
    return a * b, fma(a, b, -(a * b))


def total(a: float, b: float) -> tuple[float, float]:
    """The sum and its error, which is exact."""
    return a + b, float(Fraction(a) + Fraction(b) - Fraction(a + b))


def ordered(a: float, b: float) -> tuple[float, float]:
    s = a + b
    return s, b - (s - a)


def divided(n: float, n_rest: float, d: float, d_rest: float) -> tuple[float, float]:
    inverse = 1 / d
    q = n * inverse
    return q, (fma(-q, d, n) + (n_rest - q * d_rest)) * inverse


def power(n: int) -> float:
    return math.ldexp(1.0, n)


def signed(x: float, like: float) -> float:
    return math.copysign(x, like)


def exp(x: float) -> float:
    if math.isnan(x):
        return x
    if x > 709.782712893384:
        return math.inf
    if x < -745.1332191019412:
        return 0.0
    k = round(x * of_pattern("3FF71547652B82FE"))
    hi, lo = x - k * of_pattern("3FE62E42FEE00000"), k * of_pattern("3DEA39EF35793C76")
    r = hi - lo
    t = r * r
    tail = of_pattern("BEBBBD41C5D26BF1") + t * of_pattern("3E66376972BEA4D0")
    tail = of_pattern("3F11566AAF25DE2C") + t * tail
    tail = of_pattern("BF66C16C16BEBD93") + t * tail
    tail = of_pattern("3FC555555555553E") + t * tail
    c = r - t * tail
    y = 1 - ((lo - (r * c) / (2 - c)) - hi)
    return (y * 2.0 ** (k // 2)) * 2.0 ** (k - k // 2)


def reduced(x: float) -> tuple[int, float, float, float, float]:
    """k, r and its rest, and the tails of cosh r and sinh r."""
    k = round(x * constant("INV_LN2"))
    r, rest = ordered(x - k * constant("LN2_HI"), -(k * constant("LN2_LO")))
    z = r * r
    return k, r, rest, z * polynomial("COSH_TAIL", z), (r * z) * polynomial("SINH_TAIL", z)


def expm1(x: float) -> float:
    if x > constant("EXP_HIGHEST"):
        return INF
    if x < -64:
        return -1.0
    if abs(x) < 2**-54:
        return x
    k, r, rest, c, s = reduced(x)
    tail = c + (s + (rest + r * rest))
    scale = power(k - 1)
    a, a_rest = ordered(scale, -0.5)
    y, y_rest = total(a, scale * r)
    return 2 * (y + ((y_rest + a_rest) + scale * tail))


def exp2(x: float) -> float:
    if x >= 1024 or x < -1075:
        return INF if x > 0 else 0.0
    k = round(x)
    f = x - k
    r, rest = product(f, constant("LN2"))
    z = r * r
    tail = z * polynomial("COSH_TAIL", z)
    tail = tail + ((r * z) * polynomial("SINH_TAIL", z) + (rest + f * constant("LN2_TAIL")))
    return ((1 + (r + tail)) * power(k // 2)) * power(k - k // 2)


def ends(a: float, b: float, r: float, a_rest: float, b_rest: float, c: float, s: float, order: Callable) -> tuple:
    """``a cosh r + b sinh r``: the leading sum, what it left, the rest of the product, and the tails."""
    h, h_rest = product(b, r)
    y, y_rest = order(a, h)
    return y, y_rest, h_rest + (a_rest + b_rest * r), a * c + b * s


def tanh(x: float) -> float:
    k, r, rest, c, s = reduced(min(abs(x), 22.0))
    s = s + rest
    q = power(-k) * power(-k)
    (a, a_rest), (b, b_rest) = ordered(1.0, -q), ordered(1.0, q)
    y, y_rest, small, tails = ends(a, b, r, a_rest, b_rest, c, s, total)
    y, y_rest = ordered(y, y_rest + (small + tails))
    d, d_rest, small, tails = ends(b, a, r, b_rest, a_rest, c, s, ordered)
    d, d_rest = ordered(d, d_rest + (small + tails))
    y, y_rest = divided(y, y_rest, d, d_rest)
    return signed(y + y_rest, x)


def hyperbolic(x: float, sine: bool) -> float:
    t = abs(x)
    if t > constant("SINH_HIGHEST"):
        return signed(INF, x) if sine else INF
    if sine and t < 2**-28:
        return x
    k, r, rest, c, s = reduced(t)
    s = s + rest
    scale, other = power(k - 2), 0.0 if t > 64 else power(-k - 2)
    (a, a_rest), (b, b_rest) = ordered(scale, -other), ordered(scale, other)
    if not sine:
        y, y_rest, small, tails = ends(b, a, r, b_rest, a_rest, c, s, ordered)
        return 2 * (y + ((y_rest + small) + tails))
    y, y_rest, small, tails = ends(a, b, r, a_rest, b_rest, c, s, total)
    return signed(2 * (y + ((y_rest + small) + tails)), x)


def log_parts(x: float) -> tuple[int, float, float, float]:
    """k, f, s and the polynomial of section 6 for x = 2^k (1 + f)."""
    m, k = math.frexp(x)
    if m < of_pattern("3FE6A09E667F3BCD"):
        m, k = 2 * m, k - 1
    return (k, m - 1, *log_series(m - 1))


def log_series(f: float) -> tuple[float, float]:
    s = f / (2 + f)
    z = s * s
    w = z * z
    one, two, three, four, five, six, seven = (constant(f"LG{i}") for i in range(1, 8))
    return s, z * (one + w * (three + w * (five + w * seven))) + w * (two + w * (four + w * six))


def log2(x: float) -> float:
    if x <= 0 or math.isinf(x):
        return INF if x > 0 else NAN if x < 0 else -INF
    k, f, s, series = log_parts(x)
    h, h_rest = product(0.5 * f, f)
    g, g_rest = ordered(f, -h)
    g_rest = (g_rest - h_rest) + s * (h + series)
    p, p_rest = product(g, constant("INV_LN2"))
    y, y_rest = ordered(float(k), p)
    return y + (y_rest + (p_rest + (g * constant("INV_LN2_TAIL") + g_rest * constant("INV_LN2"))))


def log1p(x: float) -> float:
    if x <= -1 or math.isinf(x):
        return INF if x > 0 else NAN if x < -1 else -INF
    if abs(x) < 2**-54:
        return x
    u, rest = total(1.0, x)
    k, f, s, series = log_parts(u)
    c = rest / u
    if k == 0:
        f, c = x, 0.0
        s, series = log_series(f)
    h = (0.5 * f) * f
    return k * constant("LN2_HI") - ((h - (s * (h + series) + (k * constant("LN2_LO") + c))) - f)


def erf(x: float) -> float:
    t = abs(x)
    u = min(t, 6.0)
    if t < 1.05:
        z = u * u
        q = fma(z, fma(z, polynomial("ERF_TAIL", z), constant("ERF_1")), constant("ERF_0"))
        return signed(fma(u, q, u), x)
    h, h_rest = product(u, u)
    k, r, rest, c, s = reduced(-h)
    e = (1 + (r + (c + (s + (rest - h_rest))))) * power(k)
    return signed(1 - e * polynomial("ERFC_TAIL", (u - 2) / (u + 2)), x)


def erf_slope(x: float) -> float:
    if abs(x) > 1e150:
        return 0.0
    h, h_rest = product(x, x)
    e = exp(-h)
    return (e - (0.0 if h > 800 else e * h_rest)) * constant("TWO_OVER_SQRT_PI")


# -- angles ----------------------------------------------------------------------------------------------------------


def huge(x: float) -> tuple[float, float, float]:
    """|x| = m 2^e, times 2 / pi in limbs of 28 bits."""
    m, e = math.frexp(abs(x))
    whole, exponent = int(math.ldexp(m, 53)), e - 53
    q, s = divmod(exponent + 28, 28)
    factors = [(whole << s) >> (28 * i) & 0xFFFFFFF for i in range(3)]
    carry, columns = 0, []
    for column in range(6, -1, -1):
        carry += sum(factor * limbs()[min(q + column + i, len(limbs()) - 1)] for i, factor in enumerate(factors))
        columns.append(carry & (0xFFFFFFF if column else 3))
        carry >>= 28
    k, first, *fractions = columns[::-1]
    if first >> 27:
        k, first = k + 1, first - (1 << 28)
    f1, f2, f3, f4, f5, _ = [math.ldexp(f, -28 * (i + 1)) for i, f in enumerate([first, *fractions])]
    h, t = ordered(f1, f2)
    t, u = total(t, f3)
    h, t = total(h, t)
    h, t = total(h, t + (u + (f4 + f5)))
    r, rest = product(h, constant("PI_HALF"))
    rest = rest + (h * constant("PI_HALF_TAIL") + t * constant("PI_HALF"))
    sign = signed(1.0, x)
    return sign * r, sign * rest, sign * k


def angle(x: float) -> tuple[float, float, float]:
    if abs(x) > 2.0**30:
        return huge(x)
    k = round(x * constant("TWO_OVER_PI"))
    p, p_rest = product(k, constant("PI_HALF_TAIL"))
    r, rest = total(fma(-k, constant("PI_HALF"), x), -p)
    return r, rest - (p_rest + k * constant("PI_HALF_REST")), k


def sine_and_cosine(r: float, rest: float) -> tuple[tuple[float, float], tuple[float, float]]:
    z = r * r
    sine = ordered(r, (r * z) * polynomial("SIN_TAIL", z) + rest * (1 - 0.5 * z))
    y, y_rest = ordered(1.0, -0.5 * z)
    return sine, ordered(y, y_rest + ((z * z) * polynomial("COS_TAIL", z) - r * rest))


def quadrant(x: float, further: int) -> float:
    r, rest, k = angle(x)
    n = int(k) + further
    (s, _), (c, _) = sine_and_cosine(r, rest)
    y = c if n & 1 else s
    return -y if n & 2 else y


def sin(x: float) -> float:
    return NAN if math.isinf(x) else x if abs(x) < 2**-28 else quadrant(x, 0)


def cos(x: float) -> float:
    return NAN if math.isinf(x) else quadrant(x, 1)


def tan(x: float) -> float:
    if math.isinf(x) or abs(x) < 2**-28:
        return NAN if math.isinf(x) else x
    r, rest, k = angle(x)
    (s, s_rest), (c, c_rest) = sine_and_cosine(r, rest)
    y, y_rest = divided(-c, -c_rest, s, s_rest) if int(k) & 1 else divided(s, s_rest, c, c_rest)
    return y + y_rest


def root_parts(t: float) -> tuple[float, float, float]:
    """(1 - t) / 2, its root, and what the root's rounding left."""
    half = 0.5 * (1 - t)
    s = math.sqrt(half)
    return half, s, fma(-s, s, half) / (2 * s) if s else 0.0


def asin(x: float) -> float:
    t = abs(x)
    if t > 1:
        return NAN
    if t <= 0.5:
        return signed(t + t * (t * t * polynomial("ASIN_TAIL", t * t)), x)
    z, s, rest = root_parts(t)
    h, h_rest = ordered(constant("PI_HALF"), -2 * s)
    more = s * (z * polynomial("ASIN_TAIL", z)) + rest
    return signed(h + (h_rest + (constant("PI_HALF_TAIL") - 2 * more)), x)


def acos(x: float) -> float:
    t = abs(x)
    if t > 1:
        return NAN
    if t <= 0.5:
        h, h_rest = ordered(constant("PI_HALF"), -x)
        return h + (h_rest + (constant("PI_HALF_TAIL") - x * (t * t * polynomial("ASIN_TAIL", t * t))))
    z, s, rest = root_parts(t)
    more = s * (z * polynomial("ASIN_TAIL", z)) + rest
    if x > 0:
        return 2 * (s + more)
    h, h_rest = ordered(constant("PI"), -2 * s)
    return h + (h_rest + (constant("PI_TAIL") - 2 * more))


def ratio_angle(a: float, b: float) -> tuple[float, float]:
    """atan(a / b) for a and b from 0."""
    q, q_rest, parts = ratio(a, b)
    z = q * q
    y, y_rest = ordered(parts * constant("PI_HALF"), q)
    more = (q * z) * polynomial("ATAN_TAIL", z) + (q_rest + parts * constant("PI_HALF_TAIL"))
    return ordered(y, y_rest + more)


def atan(x: float) -> float:
    return signed(ratio_angle(min(abs(x), 2.0**60), 1.0)[0], x)


def point(y: float, x: float) -> tuple[float, float]:
    a, b = abs(y), abs(x)
    if math.isinf(max(a, b)):
        return float(math.isinf(a)), float(math.isinf(b))
    if max(a, b) == 0:
        return 0.0, 1.0
    n = max(math.frexp(max(a, b))[1] - 1, -1023)
    return math.ldexp(a, -n), math.ldexp(b, -n)


def atan2(y: float, x: float) -> float:
    if math.isnan(x) or math.isnan(y):
        return NAN
    v, v_rest = ratio_angle(*point(y, x))
    if signed(1, x) < 0:
        h, h_rest = ordered(constant("PI"), -v)
        v = h + (h_rest + (constant("PI_TAIL") - v_rest))
    return signed(v, y)


# -- two numbers, and powers: what float32 rounds to odd near the middle of two ----------------------------------------


Sum = tuple[float, float]


def parted(name: str, x: float) -> float:
    """A polynomial whose even and odd coefficients stand apart."""
    return polynomial(f"{name}_EVEN", x * x) + x * polynomial(f"{name}_ODD", x * x)


def times(a: Sum, b: Sum) -> Sum:
    p, rest = product(a[0], b[0])
    return p, rest + (a[0] * b[1] + a[1] * b[0])


def step(c: str | float, x: Sum, y: Sum, sign: int = 1) -> Sum:
    """``c + x y``, of a constant by its name."""
    c, c_rest = (sign * constant(c), sign * constant(f"{c}_TAIL")) if isinstance(c, str) else (c, 0.0)
    p, rest = times(x, y)
    s, s_rest = ordered(c, p)
    return s, s_rest + (rest + c_rest)


def to_odd(y: float, rest: float) -> float:
    """Of a positive y."""
    odd = struct.unpack("<q", struct.pack("<d", y))[0] % 2 == 1
    return y if odd or not rest else math.nextafter(y, signed(INF, rest))


def by_middle(y: float, units: int) -> bool:
    """By the last 29 bits, of which the middle of two float32 has the first alone; or among the least numbers."""
    place = struct.unpack("<q", struct.pack("<d", y))[0] % 2**29 - 2**28
    return abs(place) < units or 2.0**-151 < abs(y) < 2.0**-126


def log_sum(x: float) -> Sum:
    m, k = math.frexp(x)
    if m < of_pattern("3FE6A09E667F3BCD"):
        m, k = 2 * m, k - 1
    f = m - 1
    s = ordered(*divided(f, 0.0, *ordered(2.0, f)))
    z = times(s, s)
    y = step("FIFTH", z, (parted("LOG_FAR", z[0]), 0.0))
    y = times(times(s, z), step("THIRD", z, y))
    h, rest = ordered(s[0], y[0])
    y_rest = 2 * (rest + (s[1] + y[1]))
    lo, lo_rest = product(k, constant("LN2_LO"))
    h, h_rest = ordered(k * constant("LN2_HI"), 2 * h)
    return ordered(h, lo + (h_rest + (y_rest + lo_rest)))


def reduced_log(t: float, n: float) -> tuple[Sum, int]:
    """What ``n log(t)`` is more than ``k log(2)``, and k."""
    log, log_rest = log_sum(t)
    if abs(n * log) > 2000:
        return (0.0, 0.0), 2000 if n * log > 0 else -2000
    p, p_rest = product(n, log)
    p_rest = p_rest + n * log_rest
    k = round(p * constant("INV_LN2"))
    lo, lo_rest = product(k, constant("LN2_LO"))
    r, r_rest = total(p - k * constant("LN2_HI"), -lo)
    return ordered(r, r_rest + (p_rest - lo_rest)), k


def raised_wide(t: float, n: float) -> float:
    (r, rest), k = reduced_log(t, n)
    z = r * r
    tail = z * polynomial("COSH_TAIL", z) + ((r * z) * polynomial("SINH_TAIL", z) + (rest + r * rest))
    h, h_rest = ordered(r, tail)
    y, rest = ordered(1.0, h)
    return scaled(y + (rest + h_rest), k)


def raised(t: float, n: float) -> tuple[float, float, int]:
    """Two numbers and k: ``t^n`` is their sum times ``2^k``."""
    r, k = reduced_log(t, n)
    y = step("TWENTY_FOURTH", r, (polynomial("EXP_FAR", r[0]), 0.0))
    y = times(times(r, r), step(0.5, r, step("SIXTH", r, y)))
    h, rest = ordered(r[0], y[0])
    rest = rest + (y[1] + r[1])
    h, h_rest = ordered(1.0, h)
    return *ordered(h, h_rest + rest), k


def scaled(y: float, k: int) -> float:
    if abs(k) > 1100:
        return INF if k > 0 else 0.0
    y = y * power(k // 2)
    return y * power(k - k // 2)


def quick(t: float, n: float) -> float:
    """``2^(n log2(t))``, of float32."""
    m, k = math.frexp(t)
    if m < of_pattern("3FE6A09E667F3BCD"):
        m, k = 2 * m, k - 1
    f = m - 1
    s = f / (2 + f)
    p = n * (k + s * parted("LOG2", s * s))
    if abs(p) > 200:
        return INF if p > 0 else 0.0
    return parted("EXP2", p - round(p)) * power(round(p))


def power_of(x: float, n: float, single: bool) -> float:
    """``x^n``."""
    t = abs(x)
    if n == 0 or x == 1 or (t == 1 and math.isinf(n)):
        return 1.0
    whole = math.isinf(n) or n == math.floor(n) if not math.isnan(n) else False
    if math.isnan(x) or math.isnan(n) or (-INF < x < 0 and not whole):
        return NAN
    if t in (0, INF) or math.isinf(n):
        y = INF if (t > 1) == (n > 0) else 0.0
    elif not single:
        y = raised_wide(t, n)
    else:
        y = quick(t, n)
        if by_middle(y, 2048):
            y, rest, k = raised(t, n)
            y = scaled(to_odd(y, rest if abs(rest) > 2.0**-62 else 0.0), k)
    return -y if signed(1, x) < 0 and not math.isinf(n) and math.fmod(n, 2) in (1, -1) else y


def cube(x: float, single: bool) -> float:
    if not abs((x * x) * x) < INF:
        return (x * x) * x
    p, p_rest = product(x, x)
    y, y_rest = product(p, x)
    return signed(to_odd(abs(y), signed(1, x) * y_rest), x) if single else y + (y_rest + p_rest * x)


def ratio(a: float, b: float) -> tuple[float, float, float]:
    """What ``atan(a / b)``, less so many ``pi / 2`` (the third), is the arc tangent of."""
    eighth = constant("TAN_PI_8")
    if a <= eighth * b:
        return *divided(a, 0.0, b, 0.0), 0.0
    if eighth * a > b:
        return *divided(-b, 0.0, a, 0.0), 1.0
    return *divided(*total(a, -b), *total(a, b)), 0.5


def quick_angle(y: float, x: float) -> float:
    a, b = abs(y), abs(x)
    if a <= constant("TAN_PI_8") * b:
        q, more = a / b, 0.0
    elif constant("TAN_PI_8") * a > b:
        q, more = -b / a, constant("PI_HALF")
    else:
        q, more = (a - b) / (a + b), constant("PI_4")
    z = q * q
    v = q + (q * z) * parted("ATAN", z) + more
    return signed(constant("PI") - v if signed(1, x) < 0 else v, y)


def atan2_single(y: float, x: float) -> float:
    special = y == x == 0 or not abs(x) + abs(y) < INF
    v = atan2(y, x) if special else quick_angle(y, x)
    if not by_middle(v, 8192):
        return v
    q, q_rest, parts = ratio(*point(y, x))
    q, q_rest = ordered(q, q_rest)
    z = times((q, q_rest), (q, q_rest))
    w = step("SEVENTH", z, (polynomial("ATAN_FAR", z[0]), 0.0), -1)
    w = step("THIRD", z, step("FIFTH", z, w), -1)
    w = times(times((q, q_rest), z), w)
    v, rest = ordered(q, w[0])
    h, h_rest = ordered(parts * constant("PI_HALF"), v)
    v, rest = ordered(h, h_rest + (parts * constant("PI_HALF_TAIL") + (rest + (q_rest + w[1]))))
    if signed(1, x) < 0:
        h, h_rest = ordered(constant("PI"), -v)
        v, rest = h, h_rest + (constant("PI_TAIL") - rest)
    return signed(to_odd(*ordered(v, rest)), y)


# -- activations, of e to a power that is not positive ---------------------------------------------------------------


def silu(x: float) -> float:
    if x < -800:
        return -0.0
    e = exp(-abs(x))
    return (x if x > 0 else x * e) / (1 + e)


def silu_slope(x: float) -> float:
    e = exp(-abs(x))
    d = 1 + e
    return (1.0 if x > 0 else e) / d + (0.0 if abs(x) > 800 else x * ((e / d) / d))


def softplus(x: float) -> float:
    return max(x, 0.0) + log1p(exp(-abs(x)))


def mish_parts(x: float) -> tuple[float, float, float]:
    e = exp(-abs(x))
    n = 1 + 2 * e if x > 0 else e * (2 + e)
    return e, n, n + (2 * (e * e) if x > 0 else 2.0)


def mish(x: float) -> float:
    _, n, d = mish_parts(x)
    return -0.0 if x < -800 else x * (n / d)


def mish_slope(x: float) -> float:
    e, n, d = mish_parts(x)
    t = n / d
    return t + (0.0 if abs(x) > 800 else (x * (1 - t * t)) * ((1.0 if x > 0 else e) / (1 + e)))


def ramp(x: float) -> float:
    return min(max(x + 3, 0.0), 6.0)


def hard_swish_slope(x: float) -> float:
    return 0.0 if x <= -3 else 1.0 if x >= 3 else x / 3 + 0.5


def selu(x: float) -> float:
    return constant("SELU_SCALE") * x if x > 0 else constant("SELU_SCALE_ALPHA") * expm1(x)


def selu_slope(x: float) -> float:
    return constant("SELU_SCALE_ALPHA") * exp(x) if x <= 0 else constant("SELU_SCALE")


def whole(function: Callable[[float], int]) -> Callable[[float], float]:
    """A function of Python's that gives an integer; those beyond 2^52 have no fraction."""
    return lambda x: x if abs(x) >= 2.0**52 else signed(float(function(x)), x)


def of_numbers(function: Callable[..., float]) -> Callable[..., float]:
    """NaN where the argument is."""
    return lambda *x: NAN if any(map(math.isnan, x)) else function(*x)


LOOPS = {
    name: of_numbers(function)
    for name, function in {
        "exp2": exp2, "expm1": expm1, "log2": log2, "log1p": log1p, "sin": sin, "cos": cos, "tan": tan,
        "arcsin": asin, "arccos": acos, "arctan": atan, "sinh": lambda x: hyperbolic(x, True),
        "cosh": lambda x: hyperbolic(x, False), "tanh": tanh, "erf": erf, "silu": silu, "softplus": softplus,
        "log_sigmoid": lambda x: -softplus(-x), "mish": mish, "selu": selu, "hard_sigmoid": lambda x: ramp(x) / 6,
        "hard_swish": lambda x: 0.0 if x <= -3 else (x * ramp(x)) / 6,
        "round": whole(round), "floor": whole(math.floor), "ceil": whole(math.ceil), "trunc": whole(math.trunc),
    }.items()
}  # fmt: skip
SLOPES = {
    name: of_numbers(function)
    for name, function in {
        "erf": erf_slope, "silu": silu_slope, "mish": mish_slope, "hard_swish": hard_swish_slope,
        "softplus": lambda x: 1 / (1 + exp(-x)), "log_sigmoid": lambda x: 1 / (1 + exp(x)),
    }.items()
}  # fmt: skip
SLOPES["selu"] = selu_slope


def sigmoid(x: float, single: bool) -> float:
    if not single or not abs(x) < 2**-14:
        e = exp(-x)
        return 0.0 if e == INF else 1 / (1 + e)
    return to_odd(*total(0.5, x * (0.25 - (x * x) / 48)))


def _pairs(name: str) -> dict[float, float]:
    numbers = table(name)
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


AMENDED = {name.lower(): _pairs(f"{name}_AMENDED") for name in re.findall(r"\| (\w+)_AMENDED \|", TEXT)}
"""By function, the float32 whose result the law states."""
