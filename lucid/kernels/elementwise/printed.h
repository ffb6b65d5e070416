// The scalar functions of the law. Printed from functions.py by elementwise/printer.py: change that.
#pragma once

#include "terms.h"

namespace lucid {
namespace LUCID_ISA {
namespace scalar {

constexpr double LEAST_NORMAL = 0x1.0000000000000p-1022;  // 0x0010000000000000
constexpr double TWO_54 = 0x1.0000000000000p+54;  // 0x4350000000000000
constexpr int64_t SQRT_HALF_BITS = 0x3FE6A09E667F3BCD;
constexpr int64_t FRACTION_BITS = 0x000FFFFFFFFFFFFF;
constexpr double EXP_HIGHEST = 0x1.62e42fefa39efp+9;  // 0x40862E42FEFA39EF
constexpr double EXP_LOWEST = -0x1.74910d52d3051p+9;  // 0xC0874910D52D3051
constexpr double INV_LN2 = 0x1.71547652b82fep+0;  // 0x3FF71547652B82FE
constexpr double LN2_HI = 0x1.62e42fee00000p-1;  // 0x3FE62E42FEE00000
constexpr double LN2_LO = 0x1.a39ef35793c76p-33;  // 0x3DEA39EF35793C76
constexpr double P1 = 0x1.555555555553ep-3;  // 0x3FC555555555553E
constexpr double P2 = -0x1.6c16c16bebd93p-9;  // 0xBF66C16C16BEBD93
constexpr double P3 = 0x1.1566aaf25de2cp-14;  // 0x3F11566AAF25DE2C
constexpr double P4 = -0x1.bbd41c5d26bf1p-20;  // 0xBEBBBD41C5D26BF1
constexpr double P5 = 0x1.6376972bea4d0p-25;  // 0x3E66376972BEA4D0
constexpr double LG1 = 0x1.5555555555593p-1;  // 0x3FE5555555555593
constexpr double LG2 = 0x1.999999997fa04p-2;  // 0x3FD999999997FA04
constexpr double LG3 = 0x1.2492494229359p-2;  // 0x3FD2492494229359
constexpr double LG4 = 0x1.c71c51d8e78afp-3;  // 0x3FCC71C51D8E78AF
constexpr double LG5 = 0x1.7466496cb03dep-3;  // 0x3FC7466496CB03DE
constexpr double LG6 = 0x1.39a09d078c69fp-3;  // 0x3FC39A09D078C69F
constexpr double LG7 = 0x1.2f112df3e5244p-3;  // 0x3FC2F112DF3E5244
constexpr double INV_SQRT_2PI = 0x1.9884533d43651p-2;  // 0x3FD9884533D43651
constexpr int64_t HEAD_BITS = 0x7FFFFFFF00000000;
constexpr double SIXTH = 0x1.5555555555555p-3;  // 0x3FC5555555555555
constexpr double TWENTY_FOURTH = 0x1.5555555555555p-5;  // 0x3FA5555555555555
constexpr double GELU_C0 = 0x1.9884533d43651p+0;  // 0x3FF9884533D43651
constexpr double GELU_C1 = 0x1.2444f2a4d8b4bp-4;  // 0x3FB2444F2A4D8B4B

// e to the power x.
template <class V>
LUCID_LANES V exp64(V x) {
    const auto n = integer(x * INV_LN2);
    const auto k = floating(n);
    const auto hi = x - (k * LN2_HI);
    const auto lo = k * LN2_LO;
    const auto r = hi - lo;
    const auto t = r * r;
    const auto c = r - (t * (P1 + (t * (P2 + (t * (P3 + (t * (P4 + (t * P5)))))))));
    auto y = number<V>(1.0) - ((lo - ((r * c) / (number<V>(2.0) - c))) - hi);
    const auto half = n >> 1;
    y = (y * power_of_two(half)) * power_of_two(n - half);
    y = (x > EXP_HIGHEST) ? number<V>(from_bits(0x7FF0000000000000)) : y;
    return (x < EXP_LOWEST) ? number<V>(0.0) : y;
}

// The natural logarithm: x = 2^k m with sqrt(1/2) <= m < sqrt(2).
template <class V>
LUCID_LANES V log64(V x) {
    const auto tiny = x < LEAST_NORMAL;
    const auto u = x * (tiny ? number<V>(TWO_54) : number<V>(1.0));
    const auto n = bits((u > number<V>(0.0)) ? u : number<V>(1.0)) - SQRT_HALF_BITS;
    const auto k = floating(n >> 52) - (tiny ? number<V>(54.0) : number<V>(0.0));
    const auto f = from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - number<V>(1.0);
    const auto s = f / (number<V>(2.0) + f);
    const auto z = s * s;
    const auto w = z * z;
    const auto t1 = w * (LG2 + (w * (LG4 + (w * LG6))));
    const auto t2 = z * (LG1 + (w * (LG3 + (w * (LG5 + (w * LG7))))));
    const auto r = t2 + t1;
    const auto h = (number<V>(0.5) * f) * f;
    auto y = (k * LN2_HI) - ((h - ((s * (h + r)) + (k * LN2_LO))) - f);
    y = (x == number<V>(0.0)) ? number<V>(-from_bits(0x7FF0000000000000)) : y;
    y = (x == from_bits(0x7FF0000000000000)) ? x : y;
    return (x >= number<V>(0.0)) ? y : number<V>(from_bits(0x7FF8000000000000));
}

// 1 / (1 + e^-x).
template <class V>
LUCID_LANES V sigmoid64(V x) {
    return number<V>(1.0) / (number<V>(1.0) + exp64(-x));
}

// The normal distribution, (1 + erf(x / sqrt(2))) / 2, within 4 ulp. Of -t: e^(-t^2 / 2) (1/2 + g r) / (1 + t).
template <class V>
LUCID_LANES V cdf64(V x) {
    const auto t = magnitude(x);
    const auto g = t / (t + number<V>(6.0));
    const auto q = (g + g) - number<V>(1.0);
    const auto w = q * q;
    const auto r = (((((((((((number<V>(-4.6494526944449544e-10) * w + 4.3445979125358074e-09) * w + -8.420904324311514e-09) * w + -2.695925699313401e-07) * w + 5.294105264946005e-06) * w + -5.6236054078120144e-05) * w + 0.00010715301258945135) * w + 0.007716453468040194) * w + 0.04832982060718456) * w + 0.13304771317347558) * w + 0.15658397427865664) * w + -0.09308959945774412) + (q * (((((((((((number<V>(-3.597933304375653e-10) * w + 4.374568498880354e-09) * w + -3.5942485462432335e-08) * w + 2.725472573297943e-07) * w + -1.728656165711099e-06) * w + 3.5300991047226585e-06) * w + 0.0001318260833609901) * w + -0.0018451423952129745) * w + -0.02183609230315997) * w + -0.08786277904766296) * w + -0.16533074783785026) * w + -0.07696112515379727));
    const auto head = from_bits(bits(t) & HEAD_BITS);
    const auto d = (number<V>(0.5) * (head - t)) * (head + t);
    const auto rest = d + ((d * d) * (number<V>(0.5) + (d * (SIXTH + (d * TWENTY_FOURTH)))));
    auto y = exp64(-((number<V>(0.5) * head) * head)) * ((number<V>(0.5) + (g * r)) / (number<V>(1.0) + t));
    y = y + (y * rest);
    y = (t > number<V>(64.0)) ? number<V>(0.0) : y;
    return (x > number<V>(0.0)) ? (number<V>(1.0) - y) : y;
}

// x cdf(x), and its limit.
template <class V>
LUCID_LANES V gelu64(V x) {
    return (x < number<V>(-64.0)) ? number<V>(-0.0) : (x * cdf64(x));
}

// cdf(x) + x cdf'(x).
template <class V>
LUCID_LANES V gelu_slope64(V x) {
    const auto density = exp64(-((number<V>(0.5) * x) * x)) * INV_SQRT_2PI;
    return cdf64(x) + ((magnitude(x) > number<V>(64.0)) ? number<V>(0.0) : (x * density));
}

// x (1 + tanh(u / 2)) / 2 for u = 2 sqrt(2 / pi) (x + 0.044715 x^3): it is x / (1 + e^-u). And its limit.
template <class V>
LUCID_LANES V gelu_tanh64(V x) {
    const auto u = x * (GELU_C0 + (GELU_C1 * (x * x)));
    const auto e = exp64(-magnitude(u));
    return (x < number<V>(-64.0)) ? number<V>(-0.0) : (((u > number<V>(0.0)) ? x : (x * e)) / (number<V>(1.0) + e));
}

// The derivative of that: x u' e^u / (1 + e^u)^2 is added to 1 / (1 + e^-u).
template <class V>
LUCID_LANES V gelu_tanh_slope64(V x) {
    const auto w = x * x;
    const auto u = x * (GELU_C0 + (GELU_C1 * w));
    const auto e = exp64(-magnitude(u));
    const auto d = number<V>(1.0) + e;
    const auto rise = (x * (GELU_C0 + ((number<V>(3.0) * GELU_C1) * w))) * ((e / d) / d);
    return (((u > number<V>(0.0)) ? number<V>(1.0) : e) / d) + ((magnitude(x) > number<V>(64.0)) ? number<V>(0.0) : rise);
}

// -(t ln x + (1 - t) ln(1 - x)), each logarithm at least -100. What 1 - x loses is put back to first order.
template <class V>
LUCID_LANES V cross64(V x, V t) {
    const auto u = number<V>(1.0) - x;
    const auto lost = (number<V>(1.0) - u) - x;
    auto far = (u > number<V>(0.0)) ? (log64(u) + (lost / u)) : log64(u);
    auto near = log64(x);
    far = (far < number<V>(-100.0)) ? number<V>(-100.0) : far;
    near = (near < number<V>(-100.0)) ? number<V>(-100.0) : near;
    return -((t * near) + ((number<V>(1.0) - t) * far));
}

// The derivative of that by x, its divisor at least 1e-12.
template <class V>
LUCID_LANES V cross_slope64(V x, V t) {
    const auto d = (number<V>(1.0) - x) * x;
    return (x - t) / ((d < number<V>(1e-12)) ? number<V>(1e-12) : d);
}

// The same of the sigmoid of x: max(x, 0) - x t + ln(1 + e^-|x|).
template <class V>
LUCID_LANES V logit_cross64(V x, V t) {
    const auto e = exp64(-magnitude(x));
    const auto u = number<V>(1.0) + e;
    const auto rest = log64(u) + ((e - (u - number<V>(1.0))) / u);
    return (((x > number<V>(0.0)) ? x : number<V>(0.0)) - (x * t)) + rest;
}

// The derivative of that, sigmoid(x) - t, as (1 - t) sigmoid(x) - t sigmoid(-x).
template <class V>
LUCID_LANES V logit_cross_slope64(V x, V t) {
    const auto e = exp64(-magnitude(x));
    const auto u = number<V>(1.0) + e;
    return ((number<V>(1.0) - t) * (((x > number<V>(0.0)) ? number<V>(1.0) : e) / u)) - (t * (((x > number<V>(0.0)) ? e : number<V>(1.0)) / u));
}

template <class V>
LUCID_LANES V neg(V x) {
    return -x;
}

template <class V>
LUCID_LANES V abs(V x) {
    return magnitude(x);
}

template <class V>
LUCID_LANES V sign(V x) {
    return (x > number<V>(0.0)) ? number<V>(1.0) : ((x < number<V>(0.0)) ? number<V>(-1.0) : ((x == number<V>(0.0)) ? number<V>(0.0) : x));
}

template <class V>
LUCID_LANES V sqrt(V x) {
    return square_root(x);
}

template <class V>
LUCID_LANES V square(V x) {
    return x * x;
}

template <class V>
LUCID_LANES V reciprocal(V x) {
    return number<V>(1.0) / x;
}

template <class V>
LUCID_LANES V relu(V x) {
    return (x <= number<V>(0.0)) ? number<V>(0.0) : x;
}

template <class V>
LUCID_LANES V exp(V x) {
    return narrow<V>(exp64(wide(x)));
}

template <class V>
LUCID_LANES V log(V x) {
    return narrow<V>(log64(wide(x)));
}

template <class V>
LUCID_LANES V sigmoid(V x) {
    return narrow<V>(sigmoid64(wide(x)));
}

template <class V>
LUCID_LANES V gelu(V x) {
    return narrow<V>(gelu64(wide(x)));
}

template <class V>
LUCID_LANES V gelu_tanh(V x) {
    return narrow<V>(gelu_tanh64(wide(x)));
}

template <class V>
LUCID_LANES V add(V a, V b) {
    return a + b;
}

template <class V>
LUCID_LANES V sub(V a, V b) {
    return a - b;
}

template <class V>
LUCID_LANES V mul(V a, V b) {
    return a * b;
}

template <class V>
LUCID_LANES V div(V a, V b) {
    return a / b;
}

template <class V>
LUCID_LANES V maximum(V a, V b) {
    return (a != a) | (a >= b) ? a : b;
}

template <class V>
LUCID_LANES V minimum(V a, V b) {
    return (a != a) | (a <= b) ? a : b;
}

template <class V>
LUCID_LANES V relu_grad(V dy, V x) {
    return (x <= number<V>(0.0)) ? number<V>(0.0) : dy;
}

template <class V>
LUCID_LANES V gelu_grad(V dy, V x) {
    return narrow<V>(wide(dy) * gelu_slope64(wide(x)));
}

template <class V>
LUCID_LANES V gelu_tanh_grad(V dy, V x) {
    return narrow<V>(wide(dy) * gelu_tanh_slope64(wide(x)));
}

template <class V>
LUCID_LANES V cross(V x, V t) {
    return narrow<V>(cross64(wide(x), wide(t)));
}

template <class V>
LUCID_LANES V cross_slope(V x, V t) {
    return narrow<V>(cross_slope64(wide(x), wide(t)));
}

template <class V>
LUCID_LANES V logit_cross(V x, V t) {
    return narrow<V>(logit_cross64(wide(x), wide(t)));
}

template <class V>
LUCID_LANES V logit_cross_slope(V x, V t) {
    return narrow<V>(logit_cross_slope64(wide(x), wide(t)));
}

// x^n for an integer n: square and multiply, from the lowest bit of |n|.
template <class V>
LUCID_LANES V power_whole(V x, int64_t n) {
    if (n == 0) {
        return number<V>(1.0);
    }
    auto left = (n < 0) ? -n : n;
    auto p = x;
    while ((left & 1) == 0) {
        p = p * p;
        left = left >> 1;
    }
    auto r = p;
    while (left > 1) {
        p = p * p;
        left = left >> 1;
        if ((left & 1) == 1) {
            r = r * p;
        }
    }
    if (n < 0) {
        r = number<V>(1.0) / r;
    }
    return r;
}

// x^exponent for any other exponent; NaN for x below 0.
template <class V>
LUCID_LANES V power_real(V x, double exponent) {
    return narrow<V>(exp64(exponent * log64(wide(x))));
}

// The gradient of what is minimised, with weight decay.
template <class V>
LUCID_LANES V sgd_gradient(V g, V p, double weight_decay, bool maximize) {
    auto d = g;
    if (maximize) {
        d = -g;
    }
    if (weight_decay) {
        d = fma(number<V>(weight_decay), p, d);
    }
    return d;
}

// The velocity, of the one before but for the first time.
template <class V>
LUCID_LANES V sgd_velocity(V d, V v, double momentum, double dampening, bool first) {
    if (first) {
        return d;
    }
    auto fresh = d;
    if (dampening) {
        fresh = number<V>(1.0 - dampening) * d;
    }
    return fma(number<V>(momentum), v, fresh);
}

// The parameter, of the gradient and, where there is momentum, the velocity.
template <class V>
LUCID_LANES V sgd_parameter(V p, V d, V v, double lr, double momentum, bool nesterov) {
    auto step = d;
    if (momentum) {
        step = v;
        if (nesterov) {
            step = fma(number<V>(momentum), v, d);
        }
    }
    return fma(-number<V>(lr), step, p);
}

// For |q| <= 0.425.
template <class V>
LUCID_LANES V normal_centre(V q) {
    const auto r = number<V>(0.180625) - (q * q);
    return (q * (((((((number<V>(2509.0809287301227) * r + 33430.57558358813) * r + 67265.7709270087) * r + 45921.95393154987) * r + 13731.69376550946) * r + 1971.5909503065513) * r + 133.14166789178438) * r + 3.3871328727963665)) / (((((((number<V>(5226.495278852854) * r + 28729.085735721943) * r + 39307.89580009271) * r + 21213.794301586597) * r + 5394.196021424751) * r + 687.1870074920579) * r + 42.31333070160091) * r + 1.0);
}

// For r <= 5.
template <class V>
LUCID_LANES V normal_near(V r) {
    const auto s = r - number<V>(1.6);
    return (((((((number<V>(0.0007745450142783414) * s + 0.022723844989269184) * s + 0.2417807251774506) * s + 1.2704582524523684) * s + 3.6478483247632045) * s + 5.769497221460691) * s + 4.630337846156546) * s + 1.4234371107496835) / (((((((number<V>(1.0507500716444169e-09) * s + 0.0005475938084995345) * s + 0.015198666563616457) * s + 0.14810397642748008) * s + 0.6897673349851) * s + 1.6763848301838038) * s + 2.053191626637759) * s + 1.0);
}

// For r > 5.
template <class V>
LUCID_LANES V normal_far(V r) {
    const auto s = r - number<V>(5.0);
    return (((((((number<V>(2.0103343992922881e-07) * s + 2.7115555687434876e-05) * s + 0.0012426609473880784) * s + 0.026532189526576124) * s + 0.29656057182850487) * s + 1.7848265399172913) * s + 5.463784911164114) * s + 6.657904643501103) / (((((((number<V>(2.0442631033899397e-15) * s + 1.421511758316446e-07) * s + 1.8463183175100548e-05) * s + 0.0007868691311456133) * s + 0.014875361290850615) * s + 0.1369298809227358) * s + 0.599832206555888) * s + 1.0);
}

}  // namespace scalar
}  // namespace LUCID_ISA
}  // namespace lucid
