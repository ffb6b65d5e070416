"""The scalar functions of the law (sections 5, 6, 10 and 11 of ``ARITHMETIC.md``), each one expression.

Called with arrays a function is the NumPy reference. ``printer.py`` reads its text and prints the same steps as C++
(``printed.h``) and as the law's formulas. So a function is written in few words: assignments, ``return``, the terms
of ``terms.py``, ``+ - * /``, comparisons, ``& | << >>`` of integers and conditions; ``if`` and ``while`` on Python
numbers. A float is written with a point, an integer without.

Rules. Every operation rounds once, in the order that parentheses and Python's precedence say. A function of values
(``@scalar``) computes in the operation's dtype, or wholly in float64: ``narrow(f64(wide(x)), x)``. Nothing here calls
a library's ``exp`` or ``log``, whose bits vary by machine. The polynomials of section 6 are those of fdlibm (Sun
Microsystems, 1993), written without its branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid.kernels.elementwise.terms import (
    Value,
    Wide,
    bits,
    bits_of,
    floating,
    fma,
    from_bits,
    horner,
    integer,
    magnitude,
    narrow,
    number,
    power_of_two,
    select,
    square_root,
    wide,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""The functions that a backend computes, by name: ``unary(name, x)`` or ``binary(name, a, b)``."""


def scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make it a function that a backend computes by name."""
    FUNCTIONS[function.__name__] = function
    return function


# -- constants -------------------------------------------------------------------------------------------------------

INF = bits_of(0x7FF0000000000000)
NAN = bits_of(0x7FF8000000000000)
LEAST_NORMAL = bits_of(0x0010000000000000)
TWO_54 = bits_of(0x4350000000000000)
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
FRACTION_BITS = 0x000FFFFFFFFFFFFF

EXP_HIGHEST = bits_of(0x40862E42FEFA39EF)  # 709.782712893384: beyond it the result is infinity
EXP_LOWEST = bits_of(0xC0874910D52D3051)  # -745.1332191019412: below it the result is 0
INV_LN2 = bits_of(0x3FF71547652B82FE)
LN2_HI = bits_of(0x3FE62E42FEE00000)
LN2_LO = bits_of(0x3DEA39EF35793C76)
P1 = bits_of(0x3FC555555555553E)
P2 = bits_of(0xBF66C16C16BEBD93)
P3 = bits_of(0x3F11566AAF25DE2C)
P4 = bits_of(0xBEBBBD41C5D26BF1)
P5 = bits_of(0x3E66376972BEA4D0)

LG1 = bits_of(0x3FE5555555555593)
LG2 = bits_of(0x3FD999999997FA04)
LG3 = bits_of(0x3FD2492494229359)
LG4 = bits_of(0x3FCC71C51D8E78AF)
LG5 = bits_of(0x3FC7466496CB03DE)
LG6 = bits_of(0x3FC39A09D078C69F)
LG7 = bits_of(0x3FC2F112DF3E5244)

INV_SQRT_2PI = bits_of(0x3FD9884533D43651)
HEAD_BITS = 0x7FFFFFFF00000000  # of a positive number: what is left of it can be squared exactly
SIXTH = bits_of(0x3FC5555555555555)
TWENTY_FOURTH = bits_of(0x3FA5555555555555)
# Chebyshev's approximation of ((1 + t) cdf(-t) e^(t^2 / 2) - 1/2) / g, g = t / (t + 6), for t up to 39, as a polynomial
# in 2 g - 1: its even and its odd coefficients.
CDF_EVEN = (
    -0.09308959945774412,
    0.15658397427865664,
    0.13304771317347558,
    0.04832982060718456,
    0.007716453468040194,
    0.00010715301258945135,
    -5.6236054078120144e-05,
    5.294105264946005e-06,
    -2.695925699313401e-07,
    -8.420904324311514e-09,
    4.3445979125358074e-09,
    -4.6494526944449544e-10,
)
CDF_ODD = (
    -0.07696112515379727,
    -0.16533074783785026,
    -0.08786277904766296,
    -0.02183609230315997,
    -0.0018451423952129745,
    0.0001318260833609901,
    3.5300991047226585e-06,
    -1.728656165711099e-06,
    2.725472573297943e-07,
    -3.5942485462432335e-08,
    4.374568498880354e-09,
    -3.597933304375653e-10,
)
GELU_C0 = bits_of(0x3FF9884533D43651)  # 2 sqrt(2 / pi)
GELU_C1 = bits_of(0x3FB2444F2A4D8B4B)  # 2 sqrt(2 / pi) 0.044715

# -- section 6: in float64 -------------------------------------------------------------------------------------------


def exp64(x: Wide) -> Wide:
    """e to the power x."""
    n = integer(x * INV_LN2)
    k = floating(n)
    hi = x - k * LN2_HI
    lo = k * LN2_LO
    r = hi - lo
    t = r * r
    c = r - t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * P5))))
    y = 1.0 - ((lo - (r * c) / (2.0 - c)) - hi)
    half = n >> 1
    y = (y * power_of_two(half)) * power_of_two(n - half)
    y = select(x > EXP_HIGHEST, INF, y)
    return select(x < EXP_LOWEST, 0.0, y)


def log64(x: Wide) -> Wide:
    """The natural logarithm: x = 2^k m with sqrt(1/2) <= m < sqrt(2)."""
    tiny = x < LEAST_NORMAL
    u = x * select(tiny, TWO_54, number(1.0, x))
    n = bits(select(u > 0.0, u, 1.0)) - SQRT_HALF_BITS
    k = floating(n >> 52) - select(tiny, 54.0, number(0.0, x))
    f = from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    t1 = w * (LG2 + w * (LG4 + w * LG6))
    t2 = z * (LG1 + w * (LG3 + w * (LG5 + w * LG7)))
    r = t2 + t1
    h = (0.5 * f) * f
    y = k * LN2_HI - ((h - (s * (h + r) + k * LN2_LO)) - f)
    y = select(x == 0.0, -INF, y)
    y = select(x == INF, x, y)
    return select(x >= 0.0, y, NAN)


def sigmoid64(x: Wide) -> Wide:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + exp64(-x))


def cdf64(x: Wide) -> Wide:
    """The normal distribution, (1 + erf(x / sqrt(2))) / 2, within 4 ulp. Of -t: e^(-t^2 / 2) (1/2 + g r) / (1 + t)."""
    t = magnitude(x)
    g = t / (t + 6.0)
    q = (g + g) - 1.0
    w = q * q
    r = horner(CDF_EVEN, w) + q * horner(CDF_ODD, w)
    head = from_bits(bits(t) & HEAD_BITS)
    d = (0.5 * (head - t)) * (head + t)
    rest = d + (d * d) * (0.5 + d * (SIXTH + d * TWENTY_FOURTH))
    y = exp64(-((0.5 * head) * head)) * ((0.5 + g * r) / (1.0 + t))
    y = y + y * rest
    y = select(t > 64.0, 0.0, y)
    return select(x > 0.0, 1.0 - y, y)


def gelu64(x: Wide) -> Wide:
    """x cdf(x), and its limit."""
    return select(x < -64.0, -0.0, x * cdf64(x))


def gelu_slope64(x: Wide) -> Wide:
    """cdf(x) + x cdf'(x)."""
    density = exp64(-((0.5 * x) * x)) * INV_SQRT_2PI
    return cdf64(x) + select(magnitude(x) > 64.0, 0.0, x * density)


def gelu_tanh64(x: Wide) -> Wide:
    """x (1 + tanh(u / 2)) / 2 for u = 2 sqrt(2 / pi) (x + 0.044715 x^3): it is x / (1 + e^-u). And its limit."""
    u = x * (GELU_C0 + GELU_C1 * (x * x))
    e = exp64(-magnitude(u))
    return select(x < -64.0, -0.0, select(u > 0.0, x, x * e) / (1.0 + e))


def gelu_tanh_slope64(x: Wide) -> Wide:
    """The derivative of that: x u' e^u / (1 + e^u)^2 is added to 1 / (1 + e^-u)."""
    w = x * x
    u = x * (GELU_C0 + GELU_C1 * w)
    e = exp64(-magnitude(u))
    d = 1.0 + e
    rise = (x * (GELU_C0 + (3.0 * GELU_C1) * w)) * ((e / d) / d)
    return select(u > 0.0, 1.0, e) / d + select(magnitude(x) > 64.0, 0.0, rise)


def cross64(x: Wide, t: Wide) -> Wide:
    """-(t ln x + (1 - t) ln(1 - x)), each logarithm at least -100. What 1 - x loses is put back to first order."""
    u = 1.0 - x
    lost = (1.0 - u) - x
    far = select(u > 0.0, log64(u) + lost / u, log64(u))
    near = log64(x)
    far = select(far < -100.0, -100.0, far)
    near = select(near < -100.0, -100.0, near)
    return -(t * near + (1.0 - t) * far)


def cross_slope64(x: Wide, t: Wide) -> Wide:
    """The derivative of that by x, its divisor at least 1e-12."""
    d = (1.0 - x) * x
    return (x - t) / select(d < 1e-12, 1e-12, d)


def logit_cross64(x: Wide, t: Wide) -> Wide:
    """The same of the sigmoid of x: max(x, 0) - x t + ln(1 + e^-|x|)."""
    e = exp64(-magnitude(x))
    u = 1.0 + e
    rest = log64(u) + (e - (u - 1.0)) / u
    return (select(x > 0.0, x, 0.0) - x * t) + rest


def logit_cross_slope64(x: Wide, t: Wide) -> Wide:
    """The derivative of that, sigmoid(x) - t, as (1 - t) sigmoid(x) - t sigmoid(-x)."""
    e = exp64(-magnitude(x))
    u = 1.0 + e
    return (1.0 - t) * (select(x > 0.0, 1.0, e) / u) - t * (select(x > 0.0, e, 1.0) / u)


# -- section 5: of one value -----------------------------------------------------------------------------------------


@scalar
def neg(x: Value) -> Value:
    return -x


@scalar
def abs(x: Value) -> Value:
    return magnitude(x)


@scalar
def sign(x: Value) -> Value:
    return select(x > 0.0, 1.0, select(x < 0.0, -1.0, select(x == 0.0, 0.0, x)))


@scalar
def sqrt(x: Value) -> Value:
    return square_root(x)


@scalar
def square(x: Value) -> Value:
    return x * x


@scalar
def reciprocal(x: Value) -> Value:
    return 1.0 / x


@scalar
def relu(x: Value) -> Value:
    return select(x <= 0.0, 0.0, x)


@scalar
def exp(x: Value) -> Value:
    return narrow(exp64(wide(x)), x)


@scalar
def log(x: Value) -> Value:
    return narrow(log64(wide(x)), x)


@scalar
def sigmoid(x: Value) -> Value:
    return narrow(sigmoid64(wide(x)), x)


@scalar
def gelu(x: Value) -> Value:
    return narrow(gelu64(wide(x)), x)


@scalar
def gelu_tanh(x: Value) -> Value:
    return narrow(gelu_tanh64(wide(x)), x)


# -- section 5: of two values ----------------------------------------------------------------------------------------


@scalar
def add(a: Value, b: Value) -> Value:
    return a + b


@scalar
def sub(a: Value, b: Value) -> Value:
    return a - b


@scalar
def mul(a: Value, b: Value) -> Value:
    return a * b


@scalar
def div(a: Value, b: Value) -> Value:
    return a / b


@scalar
def maximum(a: Value, b: Value) -> Value:
    return select((a != a) | (a >= b), a, b)


@scalar
def minimum(a: Value, b: Value) -> Value:
    return select((a != a) | (a <= b), a, b)


@scalar
def relu_grad(dy: Value, x: Value) -> Value:
    return select(x <= 0.0, 0.0, dy)


@scalar
def gelu_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * gelu_slope64(wide(x)), x)


@scalar
def gelu_tanh_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * gelu_tanh_slope64(wide(x)), x)


@scalar
def cross(x: Value, t: Value) -> Value:
    return narrow(cross64(wide(x), wide(t)), x)


@scalar
def cross_slope(x: Value, t: Value) -> Value:
    return narrow(cross_slope64(wide(x), wide(t)), x)


@scalar
def logit_cross(x: Value, t: Value) -> Value:
    return narrow(logit_cross64(wide(x), wide(t)), x)


@scalar
def logit_cross_slope(x: Value, t: Value) -> Value:
    return narrow(logit_cross_slope64(wide(x), wide(t)), x)


# -- section 5: powers ------------------------------------------------------------------------------------------------


def power_whole(x: Value, n: int) -> Value:
    """x^n for an integer n: square and multiply, from the lowest bit of |n|."""
    if n == 0:
        return number(1.0, x)
    left = -n if n < 0 else n
    p = x
    while left & 1 == 0:
        p = p * p
        left = left >> 1
    r = p
    while left > 1:
        p = p * p
        left = left >> 1
        if left & 1 == 1:
            r = r * p
    if n < 0:
        r = 1.0 / r
    return r


def power_real(x: Value, exponent: float) -> Value:
    """x^exponent for any other exponent; NaN for x below 0."""
    return narrow(exp64(exponent * log64(wide(x))), x)


# -- section 10: an update of a parameter ------------------------------------------------------------------------------


def sgd_gradient(g: Value, p: Value, weight_decay: float, maximize: bool) -> Value:
    """The gradient of what is minimised, with weight decay."""
    d = g
    if maximize:
        d = -g
    if weight_decay:
        d = fma(number(weight_decay, p), p, d)
    return d


def sgd_velocity(d: Value, v: Value, momentum: float, dampening: float, first: bool) -> Value:
    """The velocity, of the one before but for the first time."""
    if first:
        return d
    fresh = d
    if dampening:
        fresh = number(1.0 - dampening, d) * d
    return fma(number(momentum, v), v, fresh)


def sgd_parameter(p: Value, d: Value, v: Value, lr: float, momentum: float, nesterov: bool) -> Value:
    """The parameter, of the gradient and, where there is momentum, the velocity."""
    step = d
    if momentum:
        step = v
        if nesterov:
            step = fma(number(momentum, v), v, d)
    return fma(-number(lr, p), step, p)


# -- section 11: normal deviates, as Wichura's AS 241 (PPND16) has them -----------------------------------------------
# Applied Statistics 37 (1988). Coefficients from the lowest power, as printed there.

NORMAL_A = (
    3.3871328727963666080e0,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
)
NORMAL_B = (
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
)
NORMAL_C = (
    1.42343711074968357734e0,
    4.63033784615654529590e0,
    5.76949722146069140550e0,
    3.64784832476320460504e0,
    1.27045825245236838258e0,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
)
NORMAL_D = (
    1.0,
    2.05319162663775882187e0,
    1.67638483018380384940e0,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)
NORMAL_E = (
    6.65790464350110377720e0,
    5.46378491116411436990e0,
    1.78482653991729133580e0,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
)
NORMAL_F = (
    1.0,
    5.99832206555887937690e-1,
    1.36929880922735805310e-1,
    1.48753612908506148525e-2,
    7.86869131145613259100e-4,
    1.84631831751005468180e-5,
    1.42151175831644588870e-7,
    2.04426310338993978564e-15,
)


def normal_centre(q: Wide) -> Wide:
    """For |q| <= 0.425."""
    r = 0.180625 - q * q
    return (q * horner(NORMAL_A, r)) / horner(NORMAL_B, r)


def normal_near(r: Wide) -> Wide:
    """For r <= 5."""
    s = r - 1.6
    return horner(NORMAL_C, s) / horner(NORMAL_D, s)


def normal_far(r: Wide) -> Wide:
    """For r > 5."""
    s = r - 5.0
    return horner(NORMAL_E, s) / horner(NORMAL_F, s)
