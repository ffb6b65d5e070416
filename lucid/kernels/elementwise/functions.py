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
    Condition,
    Pair,
    Triple,
    Value,
    Wide,
    at,
    bits,
    bits_of,
    floating,
    fma,
    from_bits,
    horner,
    integer,
    magnitude,
    narrow,
    nearest,
    number,
    power_of_two,
    rare,
    select,
    single,
    square_root,
    wide,
    with_sign,
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
TWO_52 = bits_of(0x4330000000000000)
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

SELU_SCALE = bits_of(0x3FF0CFABD6A91132)  # 1.0507009873554805
SELU_SCALE_ALPHA = bits_of(0x3FFC212CC640F031)  # times 1.6732632423543772
TWO_M54 = bits_of(0x3C90000000000000)
TWO_M14 = bits_of(0x3F10000000000000)
TWO_M28 = bits_of(0x3E30000000000000)
LN2 = bits_of(0x3FE62E42FEFA39EF)
LN2_TAIL = bits_of(0x3C7ABC9E3B39803F)
INV_LN2_TAIL = bits_of(0x3C7777D0FFDA0D24)
TWO_OVER_PI = bits_of(0x3FE45F306DC9C883)  # 2 / pi
PI_HALF = bits_of(0x3FF921FB54442D18)
PI_HALF_TAIL = bits_of(0x3C91A62633145C07)
PI_HALF_REST = bits_of(0xB91F1976B7ED8FBC)
SINH_HIGHEST = bits_of(0x408633CE8FB9F87E)  # 710.4758600739439: beyond it the results are infinite
TAN_PI_8 = bits_of(0x3FDA827999FCEF32)
TWO_OVER_SQRT_PI = bits_of(0x3FF20DD750429B6D)
PI = bits_of(0x400921FB54442D18)
PI_4 = bits_of(0x3FE921FB54442D18)
PI_TAIL = bits_of(0x3CA1A62633145C07)
TWO_30 = bits_of(0x41D0000000000000)
TWO_60 = bits_of(0x43B0000000000000)
TWO_M56 = bits_of(0x3C70000000000000)
TWO_M84 = bits_of(0x3AB0000000000000)
TWO_M112 = bits_of(0x38F0000000000000)
TWO_M140 = bits_of(0x3730000000000000)
HIDDEN_BIT = 0x0010000000000000
LIMB = 0xFFFFFFF  # 28 bits
TWO_OVER_PI_LIMBS = (  # two zeros, and 2 / pi in limbs of 28 bits
    0x0000000,
    0x0000000,
    0xA2F9836,
    0xE4E4415,
    0x29FC275,
    0x7D1F534,
    0xDDC0DB6,
    0x295993C,
    0x439041F,
    0xE5163AB,
    0xDEBBC56,
    0x1B7246E,
    0x3A424DD,
    0x2E00649,
    0x2EEA09D,
    0x1921CFE,
    0x1DEB1CB,
    0x129A73E,
    0xE88235F,
    0x52EBB44,
    0x84E99C7,
    0x026B45F,
    0x7E41399,
    0x1D63983,
    0x5339F49,
    0xC845F8B,
    0xBDF9283,
    0xB1FF897,
    0xFFDE059,
    0x80FEF2F,
    0x118B5A0,
    0xA6D1F6D,
    0x367ECF2,
    0x7CB09B7,
    0x4F463F6,
    0x69E5FEA,
    0x2D7527B,
    0xAC7EBE5,
    0xF17B3D0,
    0x739F78A,
    0x5292EA6,
    0xBFB5FB1,
    0x1F8D5D0,
    0x8560330,
    0x46FC7B6,
)
# Near-minimax polynomials, in z = r * r but for the last: (cosh r - 1) / z and (sinh r - r) / (r z) for r up to
# log(2) / 2; (sin r - r) / (r z) and (cos r - 1 + z / 2) / (z z) up to pi / 4; (asin r - r) / (r z) up to 1/2;
# (atan r - r) / (r z) up to tan(pi / 8); erf(r) / r - 1, ERF_0 and ERF_1 first, up to 1.1; e^(t t) erfc(t) for t from
# 1.045 to 6.01, in (t - 2) / (t + 2).
COSH_TAIL = (
    0.5,
    0.04166666666666671,
    0.001388888888886504,
    2.4801587361729256e-05,
    2.7557242995189784e-07,
    2.0924114913000376e-09,
)
SINH_TAIL = (
    0.16666666666666677,
    0.008333333333322097,
    0.00019841269885089992,
    2.755724514881434e-06,
    2.51087368770112e-08,
)
SIN_TAIL = (
    -0.16666666666666632,
    0.008333333333322524,
    -0.00019841269829876842,
    2.7557313711393044e-06,
    -2.5050760664740283e-08,
    1.5896921510034555e-10,
)
COS_TAIL = (
    0.04166666666666659,
    -0.0013888888888874207,
    2.4801587289527185e-05,
    -2.7557314363225995e-07,
    2.0875724531227214e-09,
    -1.1359703651364567e-11,
)
ASIN_TAIL = (
    0.1666666666666668,
    0.07499999999990392,
    0.044642857157626635,
    0.030381943457679337,
    0.02237219535593218,
    0.017351942218265713,
    0.01397709041952301,
    0.01142782586943449,
    0.010626016444864978,
    0.0042630952734077,
    0.020408653394796753,
    -0.01923117879099435,
    0.031562318345097824,
)
ATAN_TAIL = (
    -0.33333333333333315,
    0.19999999999984008,
    -0.14285714282992137,
    0.1111111091207188,
    -0.0909090118650052,
    0.07692117124698288,
    -0.06663710957063182,
    0.058520517004214616,
    -0.05057054060768287,
    0.038492839790606734,
    -0.018354013093411784,
)
ERF_0 = bits_of(0x3FC06EBA8214DB69)
ERF_1 = bits_of(0xBFD812746B0379E0)
ERF_TAIL = (
    0.11283791670953316,
    -0.026866170644800368,
    0.005223977622297334,
    -0.0008548326845425855,
    0.00012055326504983977,
    -1.4925492151663093e-05,
    1.6459460881455214e-06,
    -1.6335125102151369e-07,
    1.4564709803495148e-08,
    -1.1030725481969274e-09,
    5.4179334335911175e-11,
)
ERFC_TAIL = (
    0.2553956763105065,
    -0.42718584741393056,
    0.2416581942418593,
    -0.07897858103371999,
    0.0037328923850361117,
    0.006997463591833767,
    -0.0008471327119564839,
    -0.0009820123559740942,
    4.312881189776806e-05,
    0.0001736927453933356,
    3.100727885329602e-05,
    -1.3821867547246918e-05,
)
THIRD = bits_of(0x3FD5555555555555)
THIRD_TAIL = bits_of(0x3C75555555555555)
FIFTH = bits_of(0x3FC999999999999A)
FIFTH_TAIL = bits_of(0xBC6999999999999A)
SEVENTH = bits_of(0x3FC2492492492492)
SEVENTH_TAIL = bits_of(0x3C62492492492492)
SIXTH_TAIL = bits_of(0x3C65555555555555)
TWENTY_FOURTH_TAIL = bits_of(0x3C45555555555555)
TWO_M62 = bits_of(0x3C10000000000000)
TWO_M151 = bits_of(0x3680000000000000)
LEAST_SINGLE = bits_of(0x3810000000000000)  # the least normal float32, 2^-126
REST_BITS = 0x1FFFFFFF  # of a float64, those that a float32 has not
MIDDLE_BITS = 0x10000000  # these, of the middle of two float32
# Likewise, for results of two float64: (atanh(r) / r - 1 - z / 3 - z z / 5) / z^3 up to (sqrt(2) - 1) / (sqrt(2) + 1);
# what e^r has from r^5 / 120 on, divided by r^5, up to log(2) / 2; (atan(r) / r - 1 + z / 3 - z z / 5 + z^3 / 7) / z^4
# up to tan(pi / 8).
LOG_FAR_EVEN = (
    0.14285714285714285,
    0.09090909090650334,
    0.06666657336287023,
    0.05236447707177386,
)
LOG_FAR_ODD = (
    0.11111111111111474,
    0.07692307762474186,
    0.058830251424610534,
    0.05308572170586171,
)
EXP_FAR = (
    0.008333333333333333,
    0.001388888888888889,
    0.00019841269841268283,
    2.480158730158633e-05,
    2.7557319234355905e-06,
    2.7557319230466394e-07,
    2.505208421886778e-08,
    2.0876741885347773e-09,
    1.608202806504724e-10,
    1.1485109594626677e-11,
)
ATAN_FAR = (
    0.1111111111111111,
    -0.09090909090908933,
    0.07692307692263603,
    -0.06666666661845053,
    0.05882352668012355,
    -0.05263148731738876,
    0.0476170897869223,
    -0.04345052883904436,
    0.03973501441986977,
    -0.03533181479590891,
    0.027251613015641944,
    -0.012961054160350876,
)
# For float32, even and odd coefficients: log2((1 + r) / (1 - r)) / r up to (sqrt(2) - 1) / (sqrt(2) + 1) by z, 2^r up
# to 1/2 by r, (atan(r) / r - 1) / z up to tan(pi / 8) by z.
LOG2_EVEN = (
    2.885390081777927,
    0.5770780172467822,
    0.3206163935263423,
    0.2429183013526297,
)
LOG2_ODD = (
    0.9617966939243335,
    0.4121984019742357,
    0.26144407006393944,
)
EXP2_EVEN = (
    1.0000000000000135,
    0.2402265069564034,
    0.009618129193934313,
    0.0001540343375125101,
    1.325964524488711e-06,
)
EXP2_ODD = (
    0.6931471805599462,
    0.05550410866465167,
    0.0013333558200794592,
    1.5252672924850737e-05,
    1.0205905413765595e-07,
)
ATAN_EVEN = (
    -0.3333333333333092,
    -0.14285713930151892,
    -0.09090255665139077,
    -0.06550878776298272,
    -0.027231188880779692,
)
ATAN_ODD = (
    0.19999999997723208,
    0.11111089637647514,
    0.07681041344029722,
    0.05168725600039612,
)

# The float32 of which the float64 does not narrow to the nearest, each followed by the nearest: found by searching
# all that lie near the middle of two (tools/records/elementary.md).
LOG_AMENDED = (
    bits_of(0x3F8827A740000000),  # 0x1.827a740000000p-7
    bits_of(0xC011C2B1E0000000),
    bits_of(0x4022F1FD60000000),  # 0x1.2f1fd60000000p+3
    bits_of(0x4001FCBCE0000000),
    bits_of(0x418BACB4A0000000),  # 0x1.bacb4a0000000p+25
    bits_of(0x4031E06960000000),
    bits_of(0x44BB121A60000000),  # 0x1.b121a60000000p+76
    bits_of(0x404A9A3F20000000),
    bits_of(0x45E6351D80000000),  # 0x1.6351d80000000p+95
    bits_of(0x40508B5120000000),
)
SIN_AMENDED = (
    bits_of(0x40C3333300000000),  # 0x1.3333300000000p+13
    bits_of(0xBFD63F4BA0000000),
    bits_of(0xC0C3333300000000),  # -0x1.3333300000000p+13
    bits_of(0x3FD63F4BA0000000),
)
EXP2_AMENDED = (
    bits_of(0x3F6853A6E0000000),  # 0x1.853a6e0000000p-9
    bits_of(0x3FF00870A0000000),
    bits_of(0xBF9E7526E0000000),  # -0x1.e7526e0000000p-6
    bits_of(0x3FEF58D620000000),
)
COS_AMENDED = (
    bits_of(0x43E3170F00000000),  # 0x1.3170f00000000p+63
    bits_of(0x3FEFE29760000000),
    bits_of(0xC3E3170F00000000),  # -0x1.3170f00000000p+63
    bits_of(0x3FEFE29760000000),
    bits_of(0x4422B96220000000),  # 0x1.2b96220000000p+67
    bits_of(0x3FEF0285E0000000),
    bits_of(0xC422B96220000000),  # -0x1.2b96220000000p+67
    bits_of(0x3FEF0285E0000000),
)
LOG1P_AMENDED = (
    bits_of(0x3EA8000060000000),  # 0x1.8000060000000p-21
    bits_of(0x3EA7FFFFE0000000),
    bits_of(0x3EE2000360000000),  # 0x1.2000360000000p-17
    bits_of(0x3EE1FFFE60000000),
    bits_of(0x3FDFB035A0000000),  # 0x1.fb035a0000000p-2
    bits_of(0x3FD9BDDC20000000),
    bits_of(0x4020F1FD60000000),  # 0x1.0f1fd60000000p+3
    bits_of(0x4001FCBCE0000000),
    bits_of(0x44BB121A60000000),  # 0x1.b121a60000000p+76
    bits_of(0x404A9A3F20000000),
    bits_of(0x45E6351D80000000),  # 0x1.6351d80000000p+95
    bits_of(0x40508B5120000000),
    bits_of(0xBEA7FFFFA0000000),  # -0x1.7ffffa0000000p-21
    bits_of(0xBEA8000020000000),
    bits_of(0xBEE1FFFCA0000000),  # -0x1.1fffca0000000p-17
    bits_of(0xBEE20001A0000000),
    bits_of(0xBF61D91880000000),  # -0x1.1d91880000000p-9
    bits_of(0xBF61DE14A0000000),
)
SINH_AMENDED = (
    bits_of(0x3F4250BFE0000000),  # 0x1.250bfe0000000p-11
    bits_of(0x3F4250BFE0000000),
    bits_of(0xBF4250BFE0000000),  # -0x1.250bfe0000000p-11
    bits_of(0xBF4250BFE0000000),
)
ARCTAN_AMENDED = (
    bits_of(0x3FB1AD6460000000),  # 0x1.1ad6460000000p-4
    bits_of(0x3FB1A63860000000),
    bits_of(0xBFB1AD6460000000),  # -0x1.1ad6460000000p-4
    bits_of(0xBFB1A63860000000),
)
ARCCOS_AMENDED = (
    bits_of(0x3E5110B460000000),  # 0x1.110b460000000p-26
    bits_of(0x3FF921FB60000000),
    bits_of(0x3F304C4440000000),  # 0x1.04c4440000000p-12
    bits_of(0x3FF920F6A0000000),
)
SIGMOID_AMENDED = (
    bits_of(0xBF5250C020000000),  # -0x1.250c020000000p-10
    bits_of(0x3FDFFB6BE0000000),
)

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


def sigmoid_single64(x: Wide) -> Wide:
    """For float32: near 0, where 1/2 + x / 4 may be the middle of two, 1/2 + (x / 4 - x^3 / 48) rounded to odd."""
    t = x * (0.25 - (x * x) / 48.0)
    y = 0.5 + t
    rest = (0.5 - y) + t
    n = bits(y)
    odd = from_bits(n + select(rest > 0.0, 1 - (n & 1), select(rest < 0.0, (n & 1) - 1, 0 * n)))
    return select(magnitude(x) < TWO_M14, odd, sigmoid64(x))


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


def two_sum(a: Wide, b: Wide) -> Pair:
    """a + b, and what its rounding left (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def ordered_sum(a: Wide, b: Wide) -> Pair:
    """The same where a = 0 or |a| >= |b| (Dekker)."""
    s = a + b
    return s, b - (s - a)


def two_product(a: Wide, b: Wide) -> Pair:
    """a b, and what its rounding left."""
    p = a * b
    return p, fma(a, b, -p)


def quotient(n: Wide, n_rest: Wide, d: Wide, d_rest: Wide) -> Pair:
    """(n + n_rest) / (d + d_rest), and what is to be added to it."""
    inverse = 1.0 / d
    q = n * inverse
    return q, (fma(-q, d, n) + (n_rest - q * d_rest)) * inverse


def below_ln2(x: Wide, k: Wide) -> Pair:
    """x - k log(2)."""
    return ordered_sum(x - k * LN2_HI, -(k * LN2_LO))


def expm164(x: Wide) -> Wide:
    """e^x - 1: with s = 2^k / 2 and r = x - k log(2) it is twice (s - 1/2) + s r + s (e^r - 1 - r)."""
    n = integer(x * INV_LN2)
    r, rest = below_ln2(x, floating(n))
    z = r * r
    tail = z * horner(COSH_TAIL, z) + ((r * z) * horner(SINH_TAIL, z) + (rest + r * rest))
    s = power_of_two(n - 1)
    a, a_rest = ordered_sum(s, number(-0.5, x))
    y, y_rest = two_sum(a, s * r)
    y = 2.0 * (y + ((y_rest + a_rest) + s * tail))
    y = select(x > EXP_HIGHEST, INF, y)
    y = select(x < -64.0, -1.0, y)
    return select(magnitude(x) < TWO_M54, x, y)


def tanh64(x: Wide) -> Wide:
    """With q = 4^-k, r = |x| - k log(2): ((1 - q) cosh r + (1 + q) sinh r) / ((1 + q) cosh r + (1 - q) sinh r)."""
    t = magnitude(x)
    u = select(t > 22.0, 22.0, t)
    n = integer(u * INV_LN2)
    r, rest = below_ln2(u, floating(n))
    z = r * r
    c = z * horner(COSH_TAIL, z)
    s = (r * z) * horner(SINH_TAIL, z) + rest
    p = power_of_two(-n)
    q = p * p
    a, a_rest = ordered_sum(number(1.0, x), -q)
    b, b_rest = ordered_sum(number(1.0, x), q)
    h, h_rest = two_product(b, r)
    y, y_rest = two_sum(a, h)
    y, y_rest = ordered_sum(y, y_rest + ((h_rest + (a_rest + b_rest * r)) + (a * c + b * s)))
    g, g_rest = two_product(a, r)
    d, d_rest = ordered_sum(b, g)
    d, d_rest = ordered_sum(d, d_rest + ((g_rest + (b_rest + a_rest * r)) + (b * c + a * s)))
    y, y_rest = quotient(y, y_rest, d, d_rest)
    return with_sign(y + y_rest, x)


def sinh64(x: Wide) -> Wide:
    """With s = 2^k / 4, u = 2^-k / 4: twice (s - u) cosh r + (s + u) sinh r."""
    t = magnitude(x)
    n = integer(t * INV_LN2)
    r, rest = below_ln2(t, floating(n))
    z = r * r
    c = z * horner(COSH_TAIL, z)
    q = (r * z) * horner(SINH_TAIL, z) + rest
    s = power_of_two(n - 2)
    u = select(t > 64.0, 0.0, power_of_two(-n - 2))
    a, a_rest = ordered_sum(s, -u)
    b, b_rest = ordered_sum(s, u)
    h, h_rest = two_product(b, r)
    y, y_rest = two_sum(a, h)
    y = 2.0 * (y + ((y_rest + (h_rest + (a_rest + b_rest * r))) + (a * c + b * q)))
    y = select(t > SINH_HIGHEST, INF, y)
    return select(t < TWO_M28, x, with_sign(y, x))


def cosh64(x: Wide) -> Wide:
    """Likewise, twice (s + u) cosh r + (s - u) sinh r."""
    t = magnitude(x)
    n = integer(t * INV_LN2)
    r, rest = below_ln2(t, floating(n))
    z = r * r
    c = z * horner(COSH_TAIL, z)
    q = (r * z) * horner(SINH_TAIL, z) + rest
    s = power_of_two(n - 2)
    u = select(t > 64.0, 0.0, power_of_two(-n - 2))
    a, a_rest = ordered_sum(s, -u)
    b, b_rest = ordered_sum(s, u)
    h, h_rest = two_product(a, r)
    y, y_rest = ordered_sum(b, h)
    y = 2.0 * (y + ((y_rest + (h_rest + (b_rest + a_rest * r))) + (b * c + a * q)))
    return select(t > SINH_HIGHEST, INF, y)


def exp264(x: Wide) -> Wide:
    """2^x: r = x - k, of which r log(2) is taken twice as precisely."""
    n = integer(x)
    f = x - floating(n)
    r, rest = two_product(f, number(LN2, x))
    z = r * r
    tail = z * horner(COSH_TAIL, z) + ((r * z) * horner(SINH_TAIL, z) + (rest + f * LN2_TAIL))
    y = 1.0 + (r + tail)
    half = n >> 1
    y = (y * power_of_two(half)) * power_of_two(n - half)
    y = select(x >= 1024.0, INF, y)
    return select(x < -1075.0, 0.0, y)


def log264(x: Wide) -> Wide:
    """The logarithm to base 2: as log64, f - f^2 / 2 and what is added to it times 1 / log(2)."""
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
    h, h_rest = two_product(0.5 * f, f)
    g, g_rest = ordered_sum(f, -h)
    g_rest = (g_rest - h_rest) + s * (h + (t2 + t1))
    p, p_rest = two_product(g, number(INV_LN2, x))
    y, y_rest = ordered_sum(k, p)
    y = y + (y_rest + (p_rest + (g * INV_LN2_TAIL + g_rest * INV_LN2)))
    y = select(x == 0.0, -INF, y)
    y = select(x == INF, x, y)
    return select(x >= 0.0, y, NAN)


def log1p64(x: Wide) -> Wide:
    """log(1 + x): as log64 of the sum, and what its rounding left divided by it."""
    u, rest = two_sum(number(1.0, x), x)
    n = bits(select(u > 0.0, u, 1.0)) - SQRT_HALF_BITS
    k = floating(n >> 52)
    f = select(k == 0.0, x, from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - 1.0)
    c = select(k == 0.0, 0.0, rest / u)
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    t1 = w * (LG2 + w * (LG4 + w * LG6))
    t2 = z * (LG1 + w * (LG3 + w * (LG5 + w * LG7)))
    h = (0.5 * f) * f
    y = k * LN2_HI - ((h - (s * (h + (t2 + t1)) + (k * LN2_LO + c))) - f)
    y = select(magnitude(x) < TWO_M54, x, y)
    y = select(x == -1.0, -INF, y)
    y = select(x == INF, x, y)
    return select(x >= -1.0, y, NAN)


def erf64(x: Wide) -> Wide:
    """Up to 1.05 a polynomial, beyond 1 - e^(-x x) g(x)."""
    t = magnitude(x)
    u = select(t > 6.0, 6.0, t)
    z = u * u
    near = fma(u, fma(z, fma(z, horner(ERF_TAIL, z), number(ERF_1, x)), number(ERF_0, x)), u)
    h, h_rest = two_product(u, u)
    n = integer(-h * INV_LN2)
    r, rest = below_ln2(-h, floating(n))
    z = r * r
    e = 1.0 + (r + (z * horner(COSH_TAIL, z) + ((r * z) * horner(SINH_TAIL, z) + (rest - h_rest))))
    v = (u - 2.0) / (u + 2.0)
    far = 1.0 - (e * power_of_two(n)) * horner(ERFC_TAIL, v)
    return with_sign(select(t < 1.05, near, far), x)


def huge_angle(x: Wide) -> Triple:
    """As angle, for |x| above 2^30 (Payne and Hanek, 1983): |x| = m 2^e times 2 / pi, in limbs of 28 bits.

    Of the product only what is below 4 is computed, column by column; e + 28 = 28 q + s, and m 2^s has three limbs.
    """
    b = bits(x)
    m = (b & FRACTION_BITS) + HIDDEN_BIT
    e = ((b >> 52) & 2047) - 1047
    q = (e * 2341) >> 16
    s = e - 28 * q
    low = (m & LIMB) << s
    high = ((m >> 28) << s) + (low >> 28)
    m0 = low & LIMB
    m1 = high & LIMB
    m2 = high >> 28
    c = m0 * at(TWO_OVER_PI_LIMBS, q + 6) + m1 * at(TWO_OVER_PI_LIMBS, q + 7) + m2 * at(TWO_OVER_PI_LIMBS, q + 8)
    c = c >> 28
    c = c + m0 * at(TWO_OVER_PI_LIMBS, q + 5) + m1 * at(TWO_OVER_PI_LIMBS, q + 6) + m2 * at(TWO_OVER_PI_LIMBS, q + 7)
    f5 = floating(c & LIMB) * TWO_M140
    c = c >> 28
    c = c + m0 * at(TWO_OVER_PI_LIMBS, q + 4) + m1 * at(TWO_OVER_PI_LIMBS, q + 5) + m2 * at(TWO_OVER_PI_LIMBS, q + 6)
    f4 = floating(c & LIMB) * TWO_M112
    c = c >> 28
    c = c + m0 * at(TWO_OVER_PI_LIMBS, q + 3) + m1 * at(TWO_OVER_PI_LIMBS, q + 4) + m2 * at(TWO_OVER_PI_LIMBS, q + 5)
    f3 = floating(c & LIMB) * TWO_M84
    c = c >> 28
    c = c + m0 * at(TWO_OVER_PI_LIMBS, q + 2) + m1 * at(TWO_OVER_PI_LIMBS, q + 3) + m2 * at(TWO_OVER_PI_LIMBS, q + 4)
    f2 = floating(c & LIMB) * TWO_M56
    c = c >> 28
    c = c + m0 * at(TWO_OVER_PI_LIMBS, q + 1) + m1 * at(TWO_OVER_PI_LIMBS, q + 2) + m2 * at(TWO_OVER_PI_LIMBS, q + 3)
    up = (c >> 27) & 1
    f1 = floating((c & LIMB) - up * (LIMB + 1)) * TWO_M28
    c = c >> 28
    c = c + m0 * at(TWO_OVER_PI_LIMBS, q) + m1 * at(TWO_OVER_PI_LIMBS, q + 1) + m2 * at(TWO_OVER_PI_LIMBS, q + 2)
    k = floating((c & 3) + up)
    h, t = ordered_sum(f1, f2)
    t, u = two_sum(t, f3)
    h, t = two_sum(h, t)
    h, t = two_sum(h, t + (u + (f4 + f5)))
    r, rest = two_product(h, number(PI_HALF, x))
    rest = rest + (h * PI_HALF_TAIL + t * PI_HALF)
    sign = with_sign(number(1.0, x), x)
    return sign * r, sign * rest, sign * k


def angle(x: Wide) -> Triple:
    """x - k pi / 2, what is to be added to it, and k, or a number that differs from it by a multiple of 4."""
    k = floating(integer(x * TWO_OVER_PI))
    p, p_rest = two_product(k, number(PI_HALF_TAIL, x))
    r, rest = two_sum(fma(-k, number(PI_HALF, x), x), -p)
    rest = rest - (p_rest + k * PI_HALF_REST)
    return rare(magnitude(x) > TWO_30, lambda: huge_angle(x), (r, rest, k))


def sin_near(r: Wide, rest: Wide) -> Pair:
    """Of r + rest up to pi / 4."""
    z = r * r
    return ordered_sum(r, (r * z) * horner(SIN_TAIL, z) + rest * (1.0 - 0.5 * z))


def cos_near(r: Wide, rest: Wide) -> Pair:
    """Of r + rest up to pi / 4."""
    z = r * r
    y, y_rest = ordered_sum(number(1.0, r), -0.5 * z)
    return ordered_sum(y, y_rest + ((z * z) * horner(COS_TAIL, z) - r * rest))


def sin64(x: Wide) -> Wide:
    """The sine."""
    r, rest, k = angle(x)
    n = integer(k)
    s, _ = sin_near(r, rest)
    c, _ = cos_near(r, rest)
    y = select((n & 1) == 1, c, s)
    y = select((n & 2) == 2, -y, y)
    y = select(magnitude(x) < TWO_M28, x, y)
    return select(magnitude(x) < INF, y, NAN)


def cos64(x: Wide) -> Wide:
    """The cosine."""
    r, rest, k = angle(x)
    n = integer(k) + 1
    s, _ = sin_near(r, rest)
    c, _ = cos_near(r, rest)
    y = select((n & 1) == 1, c, s)
    y = select((n & 2) == 2, -y, y)
    return select(magnitude(x) < INF, y, NAN)


def tan64(x: Wide) -> Wide:
    """The tangent."""
    r, rest, k = angle(x)
    odd = (integer(k) & 1) == 1
    s, s_rest = sin_near(r, rest)
    c, c_rest = cos_near(r, rest)
    y, y_rest = quotient(
        select(odd, -c, s), select(odd, -c_rest, s_rest), select(odd, s, c), select(odd, s_rest, c_rest)
    )
    y = select(magnitude(x) < TWO_M28, x, y + y_rest)
    return select(magnitude(x) < INF, y, NAN)


def root_rest(s: Wide, z: Wide) -> Wide:
    """What is to be added to s, the rounded root of z."""
    return fma(-s, s, z) / select(s > 0.0, s + s, 1.0)


def asin64(x: Wide) -> Wide:
    """Up to 1/2 a polynomial, beyond pi / 2 - 2 asin(sqrt((1 - x) / 2))."""
    t = magnitude(x)
    half = 0.5 * (1.0 - t)
    z = select(t > 0.5, half, t * t)
    s = square_root(half)
    p = z * horner(ASIN_TAIL, z)
    h, h_rest = ordered_sum(number(PI_HALF, x), -(s + s))
    far = h + (h_rest + (PI_HALF_TAIL - 2.0 * (s * p + root_rest(s, half))))
    return with_sign(select(t > 0.5, far, t + t * p), x)


def acos64(x: Wide) -> Wide:
    """pi / 2 - asin(x), and beyond 1/2 twice asin(sqrt((1 - x) / 2)), or pi less that."""
    t = magnitude(x)
    half = 0.5 * (1.0 - t)
    z = select(t > 0.5, half, t * t)
    s = square_root(half)
    p = z * horner(ASIN_TAIL, z)
    more = s * p + root_rest(s, half)
    h, h_rest = ordered_sum(number(PI, x), -(s + s))
    left = h + (h_rest + (PI_TAIL - 2.0 * more))
    g, g_rest = ordered_sum(number(PI_HALF, x), -x)
    near = g + (g_rest + (PI_HALF_TAIL - x * p))
    return select(t > 0.5, select(x > 0.0, 2.0 * (s + more), left), near)


def ratio(a: Wide, b: Wide) -> Triple:
    """What atan(a / b), less that many pi / 2 (the third), is the arc tangent of; a and b are from 0."""
    low = a <= TAN_PI_8 * b
    high = TAN_PI_8 * a > b
    n, n_rest = two_sum(a, -b)
    d, d_rest = two_sum(a, b)
    n = select(low, a, select(high, -b, n))
    d = select(low, b, select(high, a, d))
    none = low | high
    q, q_rest = quotient(n, select(none, 0.0, n_rest), d, select(none, 0.0, d_rest))
    parts = select(low, number(0.0, a), select(high, 1.0, number(0.5, a)))
    return q, q_rest, parts


def ratio_angle(a: Wide, b: Wide) -> Pair:
    """atan(a / b) for a and b from 0: less pi / 4 or pi / 2 it is at most pi / 8."""
    q, q_rest, parts = ratio(a, b)
    z = q * q
    y, y_rest = ordered_sum(parts * PI_HALF, q)
    return ordered_sum(y, y_rest + ((q * z) * horner(ATAN_TAIL, z) + (q_rest + parts * PI_HALF_TAIL)))


def atan64(x: Wide) -> Wide:
    """The arc tangent."""
    t = magnitude(x)
    y, _ = ratio_angle(select(t > TWO_60, TWO_60, t), number(1.0, x))
    return with_sign(y, x)


def point(y: Wide, x: Wide) -> Pair:
    """|y| and |x|, divided by a power of two so that the larger is from 1 to 2."""
    a = magnitude(y)
    b = magnitude(x)
    larger = select(a > b, a, b)
    n = (bits(larger) >> 52) - 1023
    half = n >> 1
    p = power_of_two(-half)
    q = power_of_two(half - n)
    a = select(a == INF, 1.0, select(b == INF, 0.0, (a * p) * q))
    b = select((larger == 0.0) | (magnitude(x) == INF), 1.0, select(magnitude(y) == INF, 0.0, (b * p) * q))
    return a, b


def atan264(y: Wide, x: Wide) -> Wide:
    """The angle of the point (x, y)."""
    a, b = point(y, x)
    v, v_rest = ratio_angle(a, b)
    h, h_rest = ordered_sum(number(PI, x), -v)
    v = select(bits(x) < 0, h + (h_rest + (PI_TAIL - v_rest)), v)
    return select((x != x) | (y != y), NAN, with_sign(v, y))


def round64(x: Wide) -> Wide:
    """The nearest integer, ties to even."""
    t = magnitude(x)
    return with_sign(select(t < TWO_52, (t + TWO_52) - TWO_52, t), x)


def floor64(x: Wide) -> Wide:
    """The next integer below, or x."""
    y = round64(x)
    return y - select(y > x, 1.0, number(0.0, x))


def ceil64(x: Wide) -> Wide:
    """The next integer above, or x."""
    y = round64(x)
    return with_sign(y + select(y < x, 1.0, number(0.0, x)), x)


def trunc64(x: Wide) -> Wide:
    """The next integer towards 0, or x."""
    return with_sign(floor64(magnitude(x)), x)


def pair_product(a: Wide, a_rest: Wide, b: Wide, b_rest: Wide) -> Pair:
    """(a + a_rest) (b + b_rest)."""
    p, p_rest = two_product(a, b)
    return p, p_rest + (a * b_rest + a_rest * b)


def pair_step(c: Wide, c_rest: Wide, x: Wide, x_rest: Wide, y: Wide, y_rest: Wide) -> Pair:
    """A step of Horner's rule, c + x y, where |c| is the larger."""
    p, p_rest = pair_product(x, x_rest, y, y_rest)
    s, s_rest = ordered_sum(c, p)
    return s, s_rest + (p_rest + c_rest)


def log_pair(x: Wide) -> Pair:
    """log(x) of a positive x, as log64: with s = f / (2 + f), log(1 + f) is 2 atanh(s)."""
    tiny = x < LEAST_NORMAL
    u = x * select(tiny, TWO_54, number(1.0, x))
    n = bits(select(u > 0.0, u, 1.0)) - SQRT_HALF_BITS
    k = floating(n >> 52) - select(tiny, 54.0, number(0.0, x))
    f = from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - 1.0
    d, d_rest = ordered_sum(number(2.0, f), f)
    s, s_rest = quotient(f, number(0.0, f), d, d_rest)
    s, s_rest = ordered_sum(s, s_rest)
    z, z_rest = pair_product(s, s_rest, s, s_rest)
    w = z * z
    tail = horner(LOG_FAR_EVEN, w) + z * horner(LOG_FAR_ODD, w)
    y, y_rest = pair_step(number(FIFTH, f), number(FIFTH_TAIL, f), z, z_rest, tail, number(0.0, f))
    y, y_rest = pair_step(number(THIRD, f), number(THIRD_TAIL, f), z, z_rest, y, y_rest)
    z, z_rest = pair_product(s, s_rest, z, z_rest)
    y, y_rest = pair_product(z, z_rest, y, y_rest)
    y, rest = ordered_sum(s, y)
    y_rest = 2.0 * (rest + (s_rest + y_rest))
    lo, lo_rest = two_product(k, number(LN2_LO, f))
    h, h_rest = ordered_sum(k * LN2_HI, 2.0 * y)
    return ordered_sum(h, lo + (h_rest + (y_rest + lo_rest)))


def exp_pair(x: Wide, x_rest: Wide, k: Wide) -> Pair:
    """e^(x + x_rest) / 2^k: 1 + r + r^2 (1/2 + r (1/6 + r (1/24 + ...)))."""
    lo, lo_rest = two_product(k, number(LN2_LO, x))
    r, r_rest = two_sum(x - k * LN2_HI, -lo)
    r, r_rest = ordered_sum(r, r_rest + (x_rest - lo_rest))
    y, y_rest = pair_step(
        number(TWENTY_FOURTH, x), number(TWENTY_FOURTH_TAIL, x), r, r_rest, horner(EXP_FAR, r), number(0.0, x)
    )
    y, y_rest = pair_step(number(SIXTH, x), number(SIXTH_TAIL, x), r, r_rest, y, y_rest)
    y, y_rest = pair_step(number(0.5, x), number(0.0, x), r, r_rest, y, y_rest)
    z, z_rest = pair_product(r, r_rest, r, r_rest)
    y, y_rest = pair_product(z, z_rest, y, y_rest)
    y, rest = ordered_sum(r, y)
    y_rest = rest + (y_rest + r_rest)
    y, rest = ordered_sum(number(1.0, x), y)
    return ordered_sum(y, rest + y_rest)


def raised(t: Wide, n: Wide) -> Triple:
    """t^n of a positive t, two numbers divided by 2^k, and k: within 2^-64 of it."""
    y, y_rest = log_pair(t)
    p, p_rest = two_product(n, y)
    p_rest = p_rest + n * y_rest
    k = floating(integer(p * INV_LN2))
    y, y_rest = exp_pair(p, p_rest, k)
    return y, y_rest, k


def scaled(y: Wide, k: Wide) -> Wide:
    """y 2^k, which is infinite or 0 far out."""
    n = integer(k)
    half = n >> 1
    y = (y * power_of_two(half)) * power_of_two(n - half)
    return select(k > 1100.0, INF, select(k < -1100.0, 0.0, y))


def odd64(y: Wide, rest: Wide) -> Wide:
    """y + rest of a positive y, rounded to odd: where that is between two, the one with an odd last bit. What is
    narrowed afterwards is rounded once."""
    n = bits(y)
    return from_bits(n + select(rest > 0.0, 1 - (n & 1), select(rest < 0.0, (n & 1) - 1, 0 * n)))


def raised_odd(t: Wide, n: Wide) -> Triple:
    """t^n rounded to odd. What is within 2^-62 of a float64 is meant to be it: a root, or a power, that is exact."""
    y, y_rest, k = raised(t, n)
    y_rest = select(magnitude(y_rest) > TWO_M62, y_rest, 0.0)
    return scaled(odd64(y, y_rest), k), y_rest, k


def by_middle(y: Wide, units: int) -> Condition:
    """Whether y is that near to the middle of two float32, in units of its last bit, or among the least ones."""
    place = (bits(y) & REST_BITS) - MIDDLE_BITS
    t = magnitude(y)
    return ((place < units) & (place > -units)) | ((t < LEAST_SINGLE) & (t > TWO_M151))


def atan2_odd(y: Wide, x: Wide) -> Triple:
    """The angle of the point (x, y), rounded to odd: with q = a / b it is q - q^3 / 3 + q^5 / 5 - q^7 / 7 and so on."""
    a, b = point(y, x)
    q, q_rest, parts = ratio(a, b)
    q, q_rest = ordered_sum(q, q_rest)
    z, z_rest = pair_product(q, q_rest, q, q_rest)
    v, v_rest = pair_step(number(-SEVENTH, q), number(-SEVENTH_TAIL, q), z, z_rest, horner(ATAN_FAR, z), number(0.0, q))
    v, v_rest = pair_step(number(FIFTH, q), number(FIFTH_TAIL, q), z, z_rest, v, v_rest)
    v, v_rest = pair_step(number(-THIRD, q), number(-THIRD_TAIL, q), z, z_rest, v, v_rest)
    z, z_rest = pair_product(q, q_rest, z, z_rest)
    v, v_rest = pair_product(z, z_rest, v, v_rest)
    v, rest = ordered_sum(q, v)
    h, h_rest = ordered_sum(parts * PI_HALF, v)
    v, v_rest = ordered_sum(h, h_rest + (parts * PI_HALF_TAIL + (rest + (q_rest + v_rest))))
    h, h_rest = ordered_sum(number(PI, x), -v)
    left = bits(x) < 0
    v_rest = select(left, h_rest + (PI_TAIL - v_rest), v_rest)
    v, v_rest = ordered_sum(select(left, h, v), v_rest)
    return with_sign(odd64(v, v_rest), y), v_rest, parts


def quick_angle64(y: Wide, x: Wide) -> Pair:
    """The angle of a point of float32, within 2^-41 of it, and a number that is neither 0 nor infinite where it is."""
    a = magnitude(y)
    b = magnitude(x)
    low = a <= TAN_PI_8 * b
    high = TAN_PI_8 * a > b
    d = select(low, b, select(high, a, a + b))
    q = select(low, a, select(high, -b, a - b)) / d
    z = q * q
    w = z * z
    v = q + (q * z) * (horner(ATAN_EVEN, w) + z * horner(ATAN_ODD, w))
    v = v + select(low, 0.0, select(high, PI_HALF, number(PI_4, y)))
    return with_sign(select(bits(x) < 0, PI - v, v), y), d


def atan2_single64(y: Wide, x: Wide) -> Wide:
    """For float32: where that may narrow to either of two float32, the angle rounded to odd."""
    v, d = quick_angle64(y, x)
    usual = (d > 0.0) & (d < INF)
    v, _, _ = rare(usual == 0, lambda: (atan264(y, x), d, d), (v, d, d))
    v, _, _ = rare(by_middle(v, 8192), lambda: atan2_odd(y, x), (v, d, d))
    return v


def quick64(t: Wide, n: Wide) -> Wide:
    """t^n of float32, within 2^-42 of it: 2^(n log2(t))."""
    b = bits(t) - SQRT_HALF_BITS
    f = from_bits((b & FRACTION_BITS) + SQRT_HALF_BITS) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    y = s * (horner(LOG2_EVEN, w) + z * horner(LOG2_ODD, w))
    p = n * (floating(b >> 52) + y)
    k = integer(p)
    r = p - floating(k)
    z = r * r
    y = (horner(EXP2_EVEN, z) + r * horner(EXP2_ODD, z)) * power_of_two(k)
    return select(p > 200.0, INF, select(p < -200.0, 0.0, y))


def raised_single64(t: Wide, n: Wide) -> Wide:
    """For float32: where that may narrow to either of two float32, t^n rounded to odd."""
    y = quick64(t, n)
    y, _, _ = rare(by_middle(y, 2048), lambda: raised_odd(t, n), (y, y, y))
    return y


def raised64(t: Wide, n: Wide) -> Wide:
    """For float64, within 0.7 ulp: of e^r what follows after 1 + r is one number."""
    y, y_rest = log_pair(t)
    p, p_rest = two_product(n, y)
    k = floating(integer(p * INV_LN2))
    lo, lo_rest = two_product(k, number(LN2_LO, p))
    r, r_rest = two_sum(p - k * LN2_HI, -lo)
    r, r_rest = ordered_sum(r, r_rest + ((p_rest + n * y_rest) - lo_rest))
    z = r * r
    tail = z * horner(COSH_TAIL, z) + ((r * z) * horner(SINH_TAIL, z) + (r_rest + r * r_rest))
    h, h_rest = ordered_sum(r, tail)
    y, rest = ordered_sum(number(1.0, r), h)
    return scaled(y + (rest + h_rest), k)


def cornered64(y: Wide, x: Wide, n: Wide) -> Wide:
    """x^n, y being |x|^n: its sign, and where a number is 0, infinite or no number (IEEE 754, pow)."""
    t = magnitude(x)
    half = 0.5 * n
    whole = round64(n) == n
    odd = whole & (round64(half) != half)
    far = (t == 0.0) | (t == INF) | (magnitude(n) == INF)
    y = select(far, select((t > 1.0) == (n > 0.0), INF, number(0.0, y)), y)
    y = select(odd & (bits(x) < 0), -y, y)
    y = select(((x < 0.0) & (t < INF) & (round64(n) != n)) | (x != x) | (n != n), NAN, y)
    return select((n == 0.0) | (x == 1.0) | ((t == 1.0) & (magnitude(n) == INF)), 1.0, y)


def everywhere64(y: Wide, x: Wide, n: Wide) -> Wide:
    """The same; where x is positive and both are finite, y is x^n already."""
    usual = (x > 0.0) & (x < INF) & (magnitude(n) < INF)
    y, _, _ = rare(usual == 0, lambda: (cornered64(y, x, n), y, y), (y, y, y))
    return y


def pow64(x: Wide, n: Wide) -> Wide:
    """x^n."""
    return everywhere64(raised64(magnitude(x), n), x, n)


def pow_single64(x: Wide, n: Wide) -> Wide:
    """For float32."""
    return everywhere64(raised_single64(magnitude(x), n), x, n)


def beside(value: float, x: Wide) -> Wide:
    """One number beside every element."""
    return number(value, x)


def cube64(x: Wide) -> Wide:
    """x^3."""
    p, p_rest = two_product(x, x)
    y, y_rest = two_product(p, x)
    return select(magnitude(y) < INF, y + (y_rest + p_rest * x), y)


def cube_single64(x: Wide) -> Wide:
    """For float32, of which the square is exact: rounded to odd."""
    t = magnitude(x)
    y, y_rest = two_product(t * t, t)
    return with_sign(odd64(y, y_rest), x)


def selu64(x: Wide) -> Wide:
    """SELU_SCALE x, and below 0 SELU_SCALE_ALPHA (e^x - 1)."""
    return select(x <= 0.0, SELU_SCALE_ALPHA * expm164(x), SELU_SCALE * x)


def selu_slope64(x: Wide) -> Wide:
    """The derivative of that."""
    return select(x <= 0.0, SELU_SCALE_ALPHA * exp64(x), SELU_SCALE)


def softplus64(x: Wide) -> Wide:
    """log(1 + e^x)."""
    return select(x > 0.0, x, number(0.0, x)) + log1p64(exp64(-magnitude(x)))


def mish64(x: Wide) -> Wide:
    """x tanh(log(1 + e^x)) = x n / d, and its limit: with e = e^-|x|, n is 1 + 2 e above 0 and e (2 + e) below."""
    e = exp64(-magnitude(x))
    n = select(x > 0.0, 1.0 + (e + e), e * (2.0 + e))
    d = n + select(x > 0.0, 2.0 * (e * e), 2.0)
    return select(x < -800.0, -0.0, x * (n / d))


def mish_slope64(x: Wide) -> Wide:
    """The derivative of that."""
    e = exp64(-magnitude(x))
    n = select(x > 0.0, 1.0 + (e + e), e * (2.0 + e))
    d = n + select(x > 0.0, 2.0 * (e * e), 2.0)
    t = n / d
    rise = (x * (1.0 - t * t)) * (select(x > 0.0, 1.0, e) / (1.0 + e))
    return t + select(magnitude(x) > 800.0, 0.0, rise)


def ramp64(x: Wide) -> Wide:
    """min(max(x + 3, 0), 6)."""
    y = x + 3.0
    return select(y <= 0.0, 0.0, select(y >= 6.0, 6.0, y))


def hard_sigmoid64(x: Wide) -> Wide:
    """min(max(x + 3, 0), 6) / 6."""
    return ramp64(x) / 6.0


def hard_swish64(x: Wide) -> Wide:
    """x min(max(x + 3, 0), 6) / 6."""
    return select(x <= -3.0, 0.0, (x * ramp64(x)) / 6.0)


def hard_swish_slope64(x: Wide) -> Wide:
    """The derivative of that, as PyTorch has it at -3 and 3."""
    return select(x <= -3.0, 0.0, select(x >= 3.0, 1.0, x / 3.0 + 0.5))


def silu64(x: Wide) -> Wide:
    """x / (1 + e^-x), and its limit."""
    e = exp64(-magnitude(x))
    return select(x < -800.0, -0.0, select(x > 0.0, x, x * e) / (1.0 + e))


def silu_slope64(x: Wide) -> Wide:
    """The derivative of that, (1 + x e^-x / (1 + e^-x)) / (1 + e^-x)."""
    e = exp64(-magnitude(x))
    d = 1.0 + e
    return select(x > 0.0, 1.0, e) / d + select(magnitude(x) > 800.0, 0.0, x * ((e / d) / d))


def erf_slope64(x: Wide) -> Wide:
    """2 e^(-x x) / sqrt(pi)."""
    h, h_rest = two_product(x, x)
    e = exp64(-h)
    return (e - select(h > 800.0, 0.0, e * h_rest)) * TWO_OVER_SQRT_PI


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
def cube(x: Value) -> Value:
    return (x * x) * x


@scalar
def round(x: Value) -> Value:
    return narrow(round64(wide(x)), x)


@scalar
def floor(x: Value) -> Value:
    return narrow(floor64(wide(x)), x)


@scalar
def ceil(x: Value) -> Value:
    return narrow(ceil64(wide(x)), x)


@scalar
def trunc(x: Value) -> Value:
    return narrow(trunc64(wide(x)), x)


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
    return nearest(log64(wide(x)), x, LOG_AMENDED)


@scalar
def sigmoid(x: Value) -> Value:
    return nearest(sigmoid_single64(wide(x)) if single(x) else sigmoid64(wide(x)), x, SIGMOID_AMENDED)


@scalar
def gelu(x: Value) -> Value:
    return narrow(gelu64(wide(x)), x)


@scalar
def gelu_tanh(x: Value) -> Value:
    return narrow(gelu_tanh64(wide(x)), x)


@scalar
def expm1(x: Value) -> Value:
    return narrow(expm164(wide(x)), x)


@scalar
def exp2(x: Value) -> Value:
    return nearest(exp264(wide(x)), x, EXP2_AMENDED)


@scalar
def log2(x: Value) -> Value:
    return narrow(log264(wide(x)), x)


@scalar
def log1p(x: Value) -> Value:
    return nearest(log1p64(wide(x)), x, LOG1P_AMENDED)


@scalar
def sinh(x: Value) -> Value:
    return nearest(sinh64(wide(x)), x, SINH_AMENDED)


@scalar
def cosh(x: Value) -> Value:
    return narrow(cosh64(wide(x)), x)


@scalar
def tanh(x: Value) -> Value:
    return narrow(tanh64(wide(x)), x)


@scalar
def sin(x: Value) -> Value:
    return nearest(sin64(wide(x)), x, SIN_AMENDED)


@scalar
def cos(x: Value) -> Value:
    return nearest(cos64(wide(x)), x, COS_AMENDED)


@scalar
def tan(x: Value) -> Value:
    return narrow(tan64(wide(x)), x)


@scalar
def arcsin(x: Value) -> Value:
    return narrow(asin64(wide(x)), x)


@scalar
def arccos(x: Value) -> Value:
    return nearest(acos64(wide(x)), x, ARCCOS_AMENDED)


@scalar
def arctan(x: Value) -> Value:
    return nearest(atan64(wide(x)), x, ARCTAN_AMENDED)


@scalar
def erf(x: Value) -> Value:
    return narrow(erf64(wide(x)), x)


@scalar
def silu(x: Value) -> Value:
    return narrow(silu64(wide(x)), x)


@scalar
def relu6(x: Value) -> Value:
    return select(x <= 0.0, 0.0, select(x >= 6.0, 6.0, x))


@scalar
def selu(x: Value) -> Value:
    return narrow(selu64(wide(x)), x)


@scalar
def hard_sigmoid(x: Value) -> Value:
    return narrow(hard_sigmoid64(wide(x)), x)


@scalar
def hard_swish(x: Value) -> Value:
    return narrow(hard_swish64(wide(x)), x)


@scalar
def softplus(x: Value) -> Value:
    return narrow(softplus64(wide(x)), x)


@scalar
def log_sigmoid(x: Value) -> Value:
    return narrow(-softplus64(-wide(x)), x)


@scalar
def mish(x: Value) -> Value:
    return narrow(mish64(wide(x)), x)


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
def erf_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * erf_slope64(wide(x)), x)


@scalar
def silu_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * silu_slope64(wide(x)), x)


@scalar
def arctan2(y: Value, x: Value) -> Value:
    return narrow(atan2_single64(wide(y), wide(x)) if single(x) else atan264(wide(y), wide(x)), x)


@scalar
def power(x: Value, n: Value) -> Value:
    return narrow(pow_single64(wide(x), wide(n)) if single(x) else pow64(wide(x), wide(n)), x)


@scalar
def leaky_relu(x: Value, slope: Value) -> Value:
    return select(x > 0.0, x, x * slope)


@scalar
def leaky_relu_slope(x: Value, slope: Value) -> Value:
    return select(x > 0.0, number(1.0, x), slope)


@scalar
def elu(x: Value, alpha: Value) -> Value:
    return select(x <= 0.0, narrow(wide(alpha) * expm164(wide(x)), x), x)


@scalar
def elu_slope(x: Value, alpha: Value) -> Value:
    return select(x <= 0.0, narrow(wide(alpha) * exp64(wide(x)), x), 1.0)


@scalar
def relu6_grad(dy: Value, x: Value) -> Value:
    return select((x > 0.0) & (x < 6.0), dy, 0.0)


@scalar
def selu_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * selu_slope64(wide(x)), x)


@scalar
def hard_sigmoid_grad(dy: Value, x: Value) -> Value:
    return select((x > -3.0) & (x < 3.0), dy / 6.0, 0.0)


@scalar
def hard_swish_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * hard_swish_slope64(wide(x)), x)


@scalar
def softplus_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * sigmoid64(wide(x)), x)


@scalar
def log_sigmoid_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * sigmoid64(-wide(x)), x)


@scalar
def mish_grad(dy: Value, x: Value) -> Value:
    return narrow(wide(dy) * mish_slope64(wide(x)), x)


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


def power_cube(x: Value) -> Value:
    """x^3."""
    return narrow(cube_single64(wide(x)) if single(x) else cube64(wide(x)), x)


def power_root(x: Value) -> Value:
    """x^(1/2): of -0 it is +0, of minus infinity infinite."""
    return select((x < 0.0) & ((x + x) == x), magnitude(x), square_root(x) + 0.0)


def power_real(x: Value, exponent: float) -> Value:
    """x^exponent for any other exponent."""
    n = beside(exponent, wide(x))
    return narrow(pow_single64(wide(x), n) if single(x) else pow64(wide(x), n), x)


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
