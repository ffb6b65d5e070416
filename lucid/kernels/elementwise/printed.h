// The scalar functions of the law. Printed from functions.py by elementwise/printer.py: change that.
#pragma once

#include "terms.h"

namespace lucid {
namespace LUCID_ISA {
namespace scalar {

constexpr double LEAST_NORMAL = 0x1.0000000000000p-1022;  // 0x0010000000000000
constexpr double TWO_54 = 0x1.0000000000000p+54;  // 0x4350000000000000
constexpr double TWO_52 = 0x1.0000000000000p+52;  // 0x4330000000000000
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
constexpr double SELU_SCALE = 0x1.0cfabd6a91132p+0;  // 0x3FF0CFABD6A91132
constexpr double SELU_SCALE_ALPHA = 0x1.c212cc640f031p+0;  // 0x3FFC212CC640F031
constexpr double TWO_M54 = 0x1.0000000000000p-54;  // 0x3C90000000000000
constexpr double TWO_M14 = 0x1.0000000000000p-14;  // 0x3F10000000000000
constexpr double TWO_M28 = 0x1.0000000000000p-28;  // 0x3E30000000000000
constexpr double LN2 = 0x1.62e42fefa39efp-1;  // 0x3FE62E42FEFA39EF
constexpr double LN2_TAIL = 0x1.abc9e3b39803fp-56;  // 0x3C7ABC9E3B39803F
constexpr double INV_LN2_TAIL = 0x1.777d0ffda0d24p-56;  // 0x3C7777D0FFDA0D24
constexpr double TWO_OVER_PI = 0x1.45f306dc9c883p-1;  // 0x3FE45F306DC9C883
constexpr double PI_HALF = 0x1.921fb54442d18p+0;  // 0x3FF921FB54442D18
constexpr double PI_HALF_TAIL = 0x1.1a62633145c07p-54;  // 0x3C91A62633145C07
constexpr double PI_HALF_REST = -0x1.f1976b7ed8fbcp-110;  // 0xB91F1976B7ED8FBC
constexpr double SINH_HIGHEST = 0x1.633ce8fb9f87ep+9;  // 0x408633CE8FB9F87E
constexpr double TAN_PI_8 = 0x1.a827999fcef32p-2;  // 0x3FDA827999FCEF32
constexpr double TWO_OVER_SQRT_PI = 0x1.20dd750429b6dp+0;  // 0x3FF20DD750429B6D
constexpr double PI = 0x1.921fb54442d18p+1;  // 0x400921FB54442D18
constexpr double PI_4 = 0x1.921fb54442d18p-1;  // 0x3FE921FB54442D18
constexpr double PI_TAIL = 0x1.1a62633145c07p-53;  // 0x3CA1A62633145C07
constexpr double TWO_30 = 0x1.0000000000000p+30;  // 0x41D0000000000000
constexpr double TWO_60 = 0x1.0000000000000p+60;  // 0x43B0000000000000
constexpr double TWO_M56 = 0x1.0000000000000p-56;  // 0x3C70000000000000
constexpr double TWO_M84 = 0x1.0000000000000p-84;  // 0x3AB0000000000000
constexpr double TWO_M112 = 0x1.0000000000000p-112;  // 0x38F0000000000000
constexpr double TWO_M140 = 0x1.0000000000000p-140;  // 0x3730000000000000
constexpr int64_t HIDDEN_BIT = 0x0010000000000000;
constexpr int64_t LIMB = 0x000000000FFFFFFF;
constexpr double ERF_0 = 0x1.06eba8214db69p-3;  // 0x3FC06EBA8214DB69
constexpr double ERF_1 = -0x1.812746b0379e0p-2;  // 0xBFD812746B0379E0
constexpr double THIRD = 0x1.5555555555555p-2;  // 0x3FD5555555555555
constexpr double THIRD_TAIL = 0x1.5555555555555p-56;  // 0x3C75555555555555
constexpr double FIFTH = 0x1.999999999999ap-3;  // 0x3FC999999999999A
constexpr double FIFTH_TAIL = -0x1.999999999999ap-57;  // 0xBC6999999999999A
constexpr double SEVENTH = 0x1.2492492492492p-3;  // 0x3FC2492492492492
constexpr double SEVENTH_TAIL = 0x1.2492492492492p-57;  // 0x3C62492492492492
constexpr double SIXTH_TAIL = 0x1.5555555555555p-57;  // 0x3C65555555555555
constexpr double TWENTY_FOURTH_TAIL = 0x1.5555555555555p-59;  // 0x3C45555555555555
constexpr double TWO_M62 = 0x1.0000000000000p-62;  // 0x3C10000000000000
constexpr double TWO_M151 = 0x1.0000000000000p-151;  // 0x3680000000000000
constexpr double LEAST_SINGLE = 0x1.0000000000000p-126;  // 0x3810000000000000
constexpr int64_t REST_BITS = 0x000000001FFFFFFF;
constexpr int64_t MIDDLE_BITS = 0x0000000010000000;
LUCID_TABLE TWO_OVER_PI_LIMBS[] = {0x0, 0x0, 0xA2F9836, 0xE4E4415, 0x29FC275, 0x7D1F534, 0xDDC0DB6, 0x295993C, 0x439041F, 0xE5163AB, 0xDEBBC56, 0x1B7246E, 0x3A424DD, 0x2E00649, 0x2EEA09D, 0x1921CFE, 0x1DEB1CB, 0x129A73E, 0xE88235F, 0x52EBB44, 0x84E99C7, 0x26B45F, 0x7E41399, 0x1D63983, 0x5339F49, 0xC845F8B, 0xBDF9283, 0xB1FF897, 0xFFDE059, 0x80FEF2F, 0x118B5A0, 0xA6D1F6D, 0x367ECF2, 0x7CB09B7, 0x4F463F6, 0x69E5FEA, 0x2D7527B, 0xAC7EBE5, 0xF17B3D0, 0x739F78A, 0x5292EA6, 0xBFB5FB1, 0x1F8D5D0, 0x8560330, 0x46FC7B6};

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

// For float32: near 0, where 1/2 + x / 4 may be the middle of two, 1/2 + (x / 4 - x^3 / 48) rounded to odd.
template <class V>
LUCID_LANES V sigmoid_single64(V x) {
    const auto t = x * (number<V>(0.25) - ((x * x) / number<V>(48.0)));
    const auto y = number<V>(0.5) + t;
    const auto rest = (number<V>(0.5) - y) + t;
    const auto n = bits(y);
    const auto odd = from_bits(n + ((rest > number<V>(0.0)) ? (1 - (n & 1)) : ((rest < number<V>(0.0)) ? ((n & 1) - 1) : (0 * n))));
    return (magnitude(x) < TWO_M14) ? odd : sigmoid64(x);
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

// a + b, and what its rounding left (Knuth).
template <class V>
LUCID_LANES Pair<V> two_sum(V a, V b) {
    const auto s = a + b;
    const auto t = s - a;
    return {s, (a - (s - t)) + (b - t)};
}

// The same where a = 0 or |a| >= |b| (Dekker).
template <class V>
LUCID_LANES Pair<V> ordered_sum(V a, V b) {
    const auto s = a + b;
    return {s, b - (s - a)};
}

// a b, and what its rounding left.
template <class V>
LUCID_LANES Pair<V> two_product(V a, V b) {
    const auto p = a * b;
    return {p, fma(a, b, -p)};
}

// (n + n_rest) / (d + d_rest), and what is to be added to it.
template <class V>
LUCID_LANES Pair<V> quotient(V n, V n_rest, V d, V d_rest) {
    const auto inverse = number<V>(1.0) / d;
    const auto q = n * inverse;
    return {q, (fma(-q, d, n) + (n_rest - (q * d_rest))) * inverse};
}

// x - k log(2).
template <class V>
LUCID_LANES Pair<V> below_ln2(V x, V k) {
    return ordered_sum(x - (k * LN2_HI), -(k * LN2_LO));
}

// e^x - 1: with s = 2^k / 2 and r = x - k log(2) it is twice (s - 1/2) + s r + s (e^r - 1 - r).
template <class V>
LUCID_LANES V expm164(V x) {
    const auto n = integer(x * INV_LN2);
    const auto parts0 = below_ln2(x, floating(n));
    const auto r = parts0.value;
    const auto rest = parts0.rest;
    const auto z = r * r;
    const auto tail = (z * (((((number<V>(2.0924114913000376e-09) * z + 2.7557242995189784e-07) * z + 2.4801587361729256e-05) * z + 0.001388888888886504) * z + 0.04166666666666671) * z + 0.5)) + (((r * z) * ((((number<V>(2.51087368770112e-08) * z + 2.755724514881434e-06) * z + 0.00019841269885089992) * z + 0.008333333333322097) * z + 0.16666666666666677)) + (rest + (r * rest)));
    const auto s = power_of_two(n - 1);
    const auto parts1 = ordered_sum(s, number<V>(-0.5));
    const auto a = parts1.value;
    const auto a_rest = parts1.rest;
    const auto parts2 = two_sum(a, s * r);
    auto y = parts2.value;
    const auto y_rest = parts2.rest;
    y = number<V>(2.0) * (y + ((y_rest + a_rest) + (s * tail)));
    y = (x > EXP_HIGHEST) ? number<V>(from_bits(0x7FF0000000000000)) : y;
    y = (x < number<V>(-64.0)) ? number<V>(-1.0) : y;
    return (magnitude(x) < TWO_M54) ? x : y;
}

// With q = 4^-k, r = |x| - k log(2): ((1 - q) cosh r + (1 + q) sinh r) / ((1 + q) cosh r + (1 - q) sinh r).
template <class V>
LUCID_LANES V tanh64(V x) {
    const auto t = magnitude(x);
    const auto u = (t > number<V>(22.0)) ? number<V>(22.0) : t;
    const auto n = integer(u * INV_LN2);
    const auto parts0 = below_ln2(u, floating(n));
    const auto r = parts0.value;
    const auto rest = parts0.rest;
    const auto z = r * r;
    const auto c = z * (((((number<V>(2.0924114913000376e-09) * z + 2.7557242995189784e-07) * z + 2.4801587361729256e-05) * z + 0.001388888888886504) * z + 0.04166666666666671) * z + 0.5);
    const auto s = ((r * z) * ((((number<V>(2.51087368770112e-08) * z + 2.755724514881434e-06) * z + 0.00019841269885089992) * z + 0.008333333333322097) * z + 0.16666666666666677)) + rest;
    const auto p = power_of_two(-n);
    const auto q = p * p;
    const auto parts1 = ordered_sum(number<V>(1.0), -q);
    const auto a = parts1.value;
    const auto a_rest = parts1.rest;
    const auto parts2 = ordered_sum(number<V>(1.0), q);
    const auto b = parts2.value;
    const auto b_rest = parts2.rest;
    const auto parts3 = two_product(b, r);
    const auto h = parts3.value;
    const auto h_rest = parts3.rest;
    const auto parts4 = two_sum(a, h);
    auto y = parts4.value;
    auto y_rest = parts4.rest;
    const auto parts5 = ordered_sum(y, y_rest + ((h_rest + (a_rest + (b_rest * r))) + ((a * c) + (b * s))));
    y = parts5.value;
    y_rest = parts5.rest;
    const auto parts6 = two_product(a, r);
    const auto g = parts6.value;
    const auto g_rest = parts6.rest;
    const auto parts7 = ordered_sum(b, g);
    auto d = parts7.value;
    auto d_rest = parts7.rest;
    const auto parts8 = ordered_sum(d, d_rest + ((g_rest + (b_rest + (a_rest * r))) + ((b * c) + (a * s))));
    d = parts8.value;
    d_rest = parts8.rest;
    const auto parts9 = quotient(y, y_rest, d, d_rest);
    y = parts9.value;
    y_rest = parts9.rest;
    return with_sign(y + y_rest, x);
}

// With s = 2^k / 4, u = 2^-k / 4: twice (s - u) cosh r + (s + u) sinh r.
template <class V>
LUCID_LANES V sinh64(V x) {
    const auto t = magnitude(x);
    const auto n = integer(t * INV_LN2);
    const auto parts0 = below_ln2(t, floating(n));
    const auto r = parts0.value;
    const auto rest = parts0.rest;
    const auto z = r * r;
    const auto c = z * (((((number<V>(2.0924114913000376e-09) * z + 2.7557242995189784e-07) * z + 2.4801587361729256e-05) * z + 0.001388888888886504) * z + 0.04166666666666671) * z + 0.5);
    const auto q = ((r * z) * ((((number<V>(2.51087368770112e-08) * z + 2.755724514881434e-06) * z + 0.00019841269885089992) * z + 0.008333333333322097) * z + 0.16666666666666677)) + rest;
    const auto s = power_of_two(n - 2);
    const auto u = (t > number<V>(64.0)) ? number<V>(0.0) : power_of_two(-n - 2);
    const auto parts1 = ordered_sum(s, -u);
    const auto a = parts1.value;
    const auto a_rest = parts1.rest;
    const auto parts2 = ordered_sum(s, u);
    const auto b = parts2.value;
    const auto b_rest = parts2.rest;
    const auto parts3 = two_product(b, r);
    const auto h = parts3.value;
    const auto h_rest = parts3.rest;
    const auto parts4 = two_sum(a, h);
    auto y = parts4.value;
    const auto y_rest = parts4.rest;
    y = number<V>(2.0) * (y + ((y_rest + (h_rest + (a_rest + (b_rest * r)))) + ((a * c) + (b * q))));
    y = (t > SINH_HIGHEST) ? number<V>(from_bits(0x7FF0000000000000)) : y;
    return (t < TWO_M28) ? x : with_sign(y, x);
}

// Likewise, twice (s + u) cosh r + (s - u) sinh r.
template <class V>
LUCID_LANES V cosh64(V x) {
    const auto t = magnitude(x);
    const auto n = integer(t * INV_LN2);
    const auto parts0 = below_ln2(t, floating(n));
    const auto r = parts0.value;
    const auto rest = parts0.rest;
    const auto z = r * r;
    const auto c = z * (((((number<V>(2.0924114913000376e-09) * z + 2.7557242995189784e-07) * z + 2.4801587361729256e-05) * z + 0.001388888888886504) * z + 0.04166666666666671) * z + 0.5);
    const auto q = ((r * z) * ((((number<V>(2.51087368770112e-08) * z + 2.755724514881434e-06) * z + 0.00019841269885089992) * z + 0.008333333333322097) * z + 0.16666666666666677)) + rest;
    const auto s = power_of_two(n - 2);
    const auto u = (t > number<V>(64.0)) ? number<V>(0.0) : power_of_two(-n - 2);
    const auto parts1 = ordered_sum(s, -u);
    const auto a = parts1.value;
    const auto a_rest = parts1.rest;
    const auto parts2 = ordered_sum(s, u);
    const auto b = parts2.value;
    const auto b_rest = parts2.rest;
    const auto parts3 = two_product(a, r);
    const auto h = parts3.value;
    const auto h_rest = parts3.rest;
    const auto parts4 = ordered_sum(b, h);
    auto y = parts4.value;
    const auto y_rest = parts4.rest;
    y = number<V>(2.0) * (y + ((y_rest + (h_rest + (b_rest + (a_rest * r)))) + ((b * c) + (a * q))));
    return (t > SINH_HIGHEST) ? number<V>(from_bits(0x7FF0000000000000)) : y;
}

// 2^x: r = x - k, of which r log(2) is taken twice as precisely.
template <class V>
LUCID_LANES V exp264(V x) {
    const auto n = integer(x);
    const auto f = x - floating(n);
    const auto parts0 = two_product(f, number<V>(LN2));
    const auto r = parts0.value;
    const auto rest = parts0.rest;
    const auto z = r * r;
    const auto tail = (z * (((((number<V>(2.0924114913000376e-09) * z + 2.7557242995189784e-07) * z + 2.4801587361729256e-05) * z + 0.001388888888886504) * z + 0.04166666666666671) * z + 0.5)) + (((r * z) * ((((number<V>(2.51087368770112e-08) * z + 2.755724514881434e-06) * z + 0.00019841269885089992) * z + 0.008333333333322097) * z + 0.16666666666666677)) + (rest + (f * LN2_TAIL)));
    auto y = number<V>(1.0) + (r + tail);
    const auto half = n >> 1;
    y = (y * power_of_two(half)) * power_of_two(n - half);
    y = (x >= number<V>(1024.0)) ? number<V>(from_bits(0x7FF0000000000000)) : y;
    return (x < number<V>(-1075.0)) ? number<V>(0.0) : y;
}

// The logarithm to base 2: as log64, f - f^2 / 2 and what is added to it times 1 / log(2).
template <class V>
LUCID_LANES V log264(V x) {
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
    const auto parts0 = two_product(number<V>(0.5) * f, f);
    const auto h = parts0.value;
    const auto h_rest = parts0.rest;
    const auto parts1 = ordered_sum(f, -h);
    const auto g = parts1.value;
    auto g_rest = parts1.rest;
    g_rest = (g_rest - h_rest) + (s * (h + (t2 + t1)));
    const auto parts2 = two_product(g, number<V>(INV_LN2));
    const auto p = parts2.value;
    const auto p_rest = parts2.rest;
    const auto parts3 = ordered_sum(k, p);
    auto y = parts3.value;
    const auto y_rest = parts3.rest;
    y = y + (y_rest + (p_rest + ((g * INV_LN2_TAIL) + (g_rest * INV_LN2))));
    y = (x == number<V>(0.0)) ? number<V>(-from_bits(0x7FF0000000000000)) : y;
    y = (x == from_bits(0x7FF0000000000000)) ? x : y;
    return (x >= number<V>(0.0)) ? y : number<V>(from_bits(0x7FF8000000000000));
}

// log(1 + x): as log64 of the sum, and what its rounding left divided by it.
template <class V>
LUCID_LANES V log1p64(V x) {
    const auto parts0 = two_sum(number<V>(1.0), x);
    const auto u = parts0.value;
    const auto rest = parts0.rest;
    const auto n = bits((u > number<V>(0.0)) ? u : number<V>(1.0)) - SQRT_HALF_BITS;
    const auto k = floating(n >> 52);
    const auto f = (k == number<V>(0.0)) ? x : (from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - number<V>(1.0));
    const auto c = (k == number<V>(0.0)) ? number<V>(0.0) : (rest / u);
    const auto s = f / (number<V>(2.0) + f);
    const auto z = s * s;
    const auto w = z * z;
    const auto t1 = w * (LG2 + (w * (LG4 + (w * LG6))));
    const auto t2 = z * (LG1 + (w * (LG3 + (w * (LG5 + (w * LG7))))));
    const auto h = (number<V>(0.5) * f) * f;
    auto y = (k * LN2_HI) - ((h - ((s * (h + (t2 + t1))) + ((k * LN2_LO) + c))) - f);
    y = (magnitude(x) < TWO_M54) ? x : y;
    y = (x == number<V>(-1.0)) ? number<V>(-from_bits(0x7FF0000000000000)) : y;
    y = (x == from_bits(0x7FF0000000000000)) ? x : y;
    return (x >= number<V>(-1.0)) ? y : number<V>(from_bits(0x7FF8000000000000));
}

// Up to 1.05 a polynomial, beyond 1 - e^(-x x) g(x).
template <class V>
LUCID_LANES V erf64(V x) {
    const auto t = magnitude(x);
    const auto u = (t > number<V>(6.0)) ? number<V>(6.0) : t;
    auto z = u * u;
    const auto near = fma(u, fma(z, fma(z, ((((((((((number<V>(5.4179334335911175e-11) * z + -1.1030725481969274e-09) * z + 1.4564709803495148e-08) * z + -1.6335125102151369e-07) * z + 1.6459460881455214e-06) * z + -1.4925492151663093e-05) * z + 0.00012055326504983977) * z + -0.0008548326845425855) * z + 0.005223977622297334) * z + -0.026866170644800368) * z + 0.11283791670953316), number<V>(ERF_1)), number<V>(ERF_0)), u);
    const auto parts0 = two_product(u, u);
    const auto h = parts0.value;
    const auto h_rest = parts0.rest;
    const auto n = integer(-h * INV_LN2);
    const auto parts1 = below_ln2(-h, floating(n));
    const auto r = parts1.value;
    const auto rest = parts1.rest;
    z = r * r;
    const auto e = number<V>(1.0) + (r + ((z * (((((number<V>(2.0924114913000376e-09) * z + 2.7557242995189784e-07) * z + 2.4801587361729256e-05) * z + 0.001388888888886504) * z + 0.04166666666666671) * z + 0.5)) + (((r * z) * ((((number<V>(2.51087368770112e-08) * z + 2.755724514881434e-06) * z + 0.00019841269885089992) * z + 0.008333333333322097) * z + 0.16666666666666677)) + (rest - h_rest))));
    const auto v = (u - number<V>(2.0)) / (u + number<V>(2.0));
    const auto far = number<V>(1.0) - ((e * power_of_two(n)) * (((((((((((number<V>(-1.3821867547246918e-05) * v + 3.100727885329602e-05) * v + 0.0001736927453933356) * v + 4.312881189776806e-05) * v + -0.0009820123559740942) * v + -0.0008471327119564839) * v + 0.006997463591833767) * v + 0.0037328923850361117) * v + -0.07897858103371999) * v + 0.2416581942418593) * v + -0.42718584741393056) * v + 0.2553956763105065));
    return with_sign((t < number<V>(1.05)) ? near : far, x);
}

// As angle, for |x| above 2^30 (Payne and Hanek, 1983): |x| = m 2^e times 2 / pi, in limbs of 28 bits.
//
// Of the product only what is below 4 is computed, column by column; e + 28 = 28 q + s, and m 2^s has three limbs.
template <class V>
LUCID_LANES Triple<V> huge_angle(V x) {
    const auto b = bits(x);
    const auto m = (b & FRACTION_BITS) + HIDDEN_BIT;
    const auto e = ((b >> 52) & 2047) - 1047;
    const auto q = (e * 2341) >> 16;
    const auto s = e - (28 * q);
    const auto low = (m & LIMB) << s;
    const auto high = ((m >> 28) << s) + (low >> 28);
    const auto m0 = low & LIMB;
    const auto m1 = high & LIMB;
    const auto m2 = high >> 28;
    auto c = ((m0 * at(TWO_OVER_PI_LIMBS, q + 6)) + (m1 * at(TWO_OVER_PI_LIMBS, q + 7))) + (m2 * at(TWO_OVER_PI_LIMBS, q + 8));
    c = c >> 28;
    c = ((c + (m0 * at(TWO_OVER_PI_LIMBS, q + 5))) + (m1 * at(TWO_OVER_PI_LIMBS, q + 6))) + (m2 * at(TWO_OVER_PI_LIMBS, q + 7));
    const auto f5 = floating(c & LIMB) * TWO_M140;
    c = c >> 28;
    c = ((c + (m0 * at(TWO_OVER_PI_LIMBS, q + 4))) + (m1 * at(TWO_OVER_PI_LIMBS, q + 5))) + (m2 * at(TWO_OVER_PI_LIMBS, q + 6));
    const auto f4 = floating(c & LIMB) * TWO_M112;
    c = c >> 28;
    c = ((c + (m0 * at(TWO_OVER_PI_LIMBS, q + 3))) + (m1 * at(TWO_OVER_PI_LIMBS, q + 4))) + (m2 * at(TWO_OVER_PI_LIMBS, q + 5));
    const auto f3 = floating(c & LIMB) * TWO_M84;
    c = c >> 28;
    c = ((c + (m0 * at(TWO_OVER_PI_LIMBS, q + 2))) + (m1 * at(TWO_OVER_PI_LIMBS, q + 3))) + (m2 * at(TWO_OVER_PI_LIMBS, q + 4));
    const auto f2 = floating(c & LIMB) * TWO_M56;
    c = c >> 28;
    c = ((c + (m0 * at(TWO_OVER_PI_LIMBS, q + 1))) + (m1 * at(TWO_OVER_PI_LIMBS, q + 2))) + (m2 * at(TWO_OVER_PI_LIMBS, q + 3));
    const auto up = (c >> 27) & 1;
    const auto f1 = floating((c & LIMB) - (up * (LIMB + 1))) * TWO_M28;
    c = c >> 28;
    c = ((c + (m0 * at(TWO_OVER_PI_LIMBS, q))) + (m1 * at(TWO_OVER_PI_LIMBS, q + 1))) + (m2 * at(TWO_OVER_PI_LIMBS, q + 2));
    const auto k = floating((c & 3) + up);
    const auto parts0 = ordered_sum(f1, f2);
    auto h = parts0.value;
    auto t = parts0.rest;
    const auto parts1 = two_sum(t, f3);
    t = parts1.value;
    const auto u = parts1.rest;
    const auto parts2 = two_sum(h, t);
    h = parts2.value;
    t = parts2.rest;
    const auto parts3 = two_sum(h, t + (u + (f4 + f5)));
    h = parts3.value;
    t = parts3.rest;
    const auto parts4 = two_product(h, number<V>(PI_HALF));
    const auto r = parts4.value;
    auto rest = parts4.rest;
    rest = rest + ((h * PI_HALF_TAIL) + (t * PI_HALF));
    const auto sign = with_sign(number<V>(1.0), x);
    return {sign * r, sign * rest, sign * k};
}

// x - k pi / 2, what is to be added to it, and k, or a number that differs from it by a multiple of 4.
template <class V>
LUCID_LANES Triple<V> angle(V x) {
    const auto k = floating(integer(x * TWO_OVER_PI));
    const auto parts0 = two_product(k, number<V>(PI_HALF_TAIL));
    const auto p = parts0.value;
    const auto p_rest = parts0.rest;
    const auto parts1 = two_sum(fma(-k, number<V>(PI_HALF), x), -p);
    const auto r = parts1.value;
    auto rest = parts1.rest;
    rest = rest - (p_rest + (k * PI_HALF_REST));
    return rare((magnitude(x) > TWO_30), [&] { return huge_angle(x); }, Triple<V>{r, rest, k});
}

// Of r + rest up to pi / 4.
template <class V>
LUCID_LANES Pair<V> sin_near(V r, V rest) {
    const auto z = r * r;
    return ordered_sum(r, ((r * z) * (((((number<V>(1.5896921510034555e-10) * z + -2.5050760664740283e-08) * z + 2.7557313711393044e-06) * z + -0.00019841269829876842) * z + 0.008333333333322524) * z + -0.16666666666666632)) + (rest * (number<V>(1.0) - (number<V>(0.5) * z))));
}

// Of r + rest up to pi / 4.
template <class V>
LUCID_LANES Pair<V> cos_near(V r, V rest) {
    const auto z = r * r;
    const auto parts0 = ordered_sum(number<V>(1.0), number<V>(-0.5) * z);
    const auto y = parts0.value;
    const auto y_rest = parts0.rest;
    return ordered_sum(y, y_rest + (((z * z) * (((((number<V>(-1.1359703651364567e-11) * z + 2.0875724531227214e-09) * z + -2.7557314363225995e-07) * z + 2.4801587289527185e-05) * z + -0.0013888888888874207) * z + 0.04166666666666659)) - (r * rest)));
}

// The sine.
template <class V>
LUCID_LANES V sin64(V x) {
    const auto parts0 = angle(x);
    const auto r = parts0.value;
    const auto rest = parts0.rest;
    const auto k = parts0.turns;
    const auto n = integer(k);
    const auto parts1 = sin_near(r, rest);
    const auto s = parts1.value;
    const auto parts2 = cos_near(r, rest);
    const auto c = parts2.value;
    auto y = ((n & 1) == 1) ? c : s;
    y = ((n & 2) == 2) ? -y : y;
    y = (magnitude(x) < TWO_M28) ? x : y;
    return (magnitude(x) < from_bits(0x7FF0000000000000)) ? y : number<V>(from_bits(0x7FF8000000000000));
}

// The cosine.
template <class V>
LUCID_LANES V cos64(V x) {
    const auto parts0 = angle(x);
    const auto r = parts0.value;
    const auto rest = parts0.rest;
    const auto k = parts0.turns;
    const auto n = integer(k) + 1;
    const auto parts1 = sin_near(r, rest);
    const auto s = parts1.value;
    const auto parts2 = cos_near(r, rest);
    const auto c = parts2.value;
    auto y = ((n & 1) == 1) ? c : s;
    y = ((n & 2) == 2) ? -y : y;
    return (magnitude(x) < from_bits(0x7FF0000000000000)) ? y : number<V>(from_bits(0x7FF8000000000000));
}

// The tangent.
template <class V>
LUCID_LANES V tan64(V x) {
    const auto parts0 = angle(x);
    const auto r = parts0.value;
    const auto rest = parts0.rest;
    const auto k = parts0.turns;
    const auto odd = (integer(k) & 1) == 1;
    const auto parts1 = sin_near(r, rest);
    const auto s = parts1.value;
    const auto s_rest = parts1.rest;
    const auto parts2 = cos_near(r, rest);
    const auto c = parts2.value;
    const auto c_rest = parts2.rest;
    const auto parts3 = quotient(odd ? -c : s, odd ? -c_rest : s_rest, odd ? s : c, odd ? s_rest : c_rest);
    auto y = parts3.value;
    const auto y_rest = parts3.rest;
    y = (magnitude(x) < TWO_M28) ? x : (y + y_rest);
    return (magnitude(x) < from_bits(0x7FF0000000000000)) ? y : number<V>(from_bits(0x7FF8000000000000));
}

// What is to be added to s, the rounded root of z.
template <class V>
LUCID_LANES V root_rest(V s, V z) {
    return fma(-s, s, z) / ((s > number<V>(0.0)) ? (s + s) : number<V>(1.0));
}

// Up to 1/2 a polynomial, beyond pi / 2 - 2 asin(sqrt((1 - x) / 2)).
template <class V>
LUCID_LANES V asin64(V x) {
    const auto t = magnitude(x);
    const auto half = number<V>(0.5) * (number<V>(1.0) - t);
    const auto z = (t > number<V>(0.5)) ? half : (t * t);
    const auto s = square_root(half);
    const auto p = z * ((((((((((((number<V>(0.031562318345097824) * z + -0.01923117879099435) * z + 0.020408653394796753) * z + 0.0042630952734077) * z + 0.010626016444864978) * z + 0.01142782586943449) * z + 0.01397709041952301) * z + 0.017351942218265713) * z + 0.02237219535593218) * z + 0.030381943457679337) * z + 0.044642857157626635) * z + 0.07499999999990392) * z + 0.1666666666666668);
    const auto parts0 = ordered_sum(number<V>(PI_HALF), -(s + s));
    const auto h = parts0.value;
    const auto h_rest = parts0.rest;
    const auto far = h + (h_rest + (PI_HALF_TAIL - (number<V>(2.0) * ((s * p) + root_rest(s, half)))));
    return with_sign((t > number<V>(0.5)) ? far : (t + (t * p)), x);
}

// pi / 2 - asin(x), and beyond 1/2 twice asin(sqrt((1 - x) / 2)), or pi less that.
template <class V>
LUCID_LANES V acos64(V x) {
    const auto t = magnitude(x);
    const auto half = number<V>(0.5) * (number<V>(1.0) - t);
    const auto z = (t > number<V>(0.5)) ? half : (t * t);
    const auto s = square_root(half);
    const auto p = z * ((((((((((((number<V>(0.031562318345097824) * z + -0.01923117879099435) * z + 0.020408653394796753) * z + 0.0042630952734077) * z + 0.010626016444864978) * z + 0.01142782586943449) * z + 0.01397709041952301) * z + 0.017351942218265713) * z + 0.02237219535593218) * z + 0.030381943457679337) * z + 0.044642857157626635) * z + 0.07499999999990392) * z + 0.1666666666666668);
    const auto more = (s * p) + root_rest(s, half);
    const auto parts0 = ordered_sum(number<V>(PI), -(s + s));
    const auto h = parts0.value;
    const auto h_rest = parts0.rest;
    const auto left = h + (h_rest + (PI_TAIL - (number<V>(2.0) * more)));
    const auto parts1 = ordered_sum(number<V>(PI_HALF), -x);
    const auto g = parts1.value;
    const auto g_rest = parts1.rest;
    const auto near = g + (g_rest + (PI_HALF_TAIL - (x * p)));
    return (t > number<V>(0.5)) ? ((x > number<V>(0.0)) ? (number<V>(2.0) * (s + more)) : left) : near;
}

// What atan(a / b), less that many pi / 2 (the third), is the arc tangent of; a and b are from 0.
template <class V>
LUCID_LANES Triple<V> ratio(V a, V b) {
    const auto low = a <= (TAN_PI_8 * b);
    const auto high = (TAN_PI_8 * a) > b;
    const auto parts0 = two_sum(a, -b);
    auto n = parts0.value;
    const auto n_rest = parts0.rest;
    const auto parts1 = two_sum(a, b);
    auto d = parts1.value;
    const auto d_rest = parts1.rest;
    n = low ? a : (high ? -b : n);
    d = low ? b : (high ? a : d);
    const auto none = low | high;
    const auto parts2 = quotient(n, none ? number<V>(0.0) : n_rest, d, none ? number<V>(0.0) : d_rest);
    const auto q = parts2.value;
    const auto q_rest = parts2.rest;
    const auto parts = low ? number<V>(0.0) : (high ? number<V>(1.0) : number<V>(0.5));
    return {q, q_rest, parts};
}

// atan(a / b) for a and b from 0: less pi / 4 or pi / 2 it is at most pi / 8.
template <class V>
LUCID_LANES Pair<V> ratio_angle(V a, V b) {
    const auto parts0 = ratio(a, b);
    const auto q = parts0.value;
    const auto q_rest = parts0.rest;
    const auto parts = parts0.turns;
    const auto z = q * q;
    const auto parts2 = ordered_sum(parts * PI_HALF, q);
    const auto y = parts2.value;
    const auto y_rest = parts2.rest;
    return ordered_sum(y, y_rest + (((q * z) * ((((((((((number<V>(-0.018354013093411784) * z + 0.038492839790606734) * z + -0.05057054060768287) * z + 0.058520517004214616) * z + -0.06663710957063182) * z + 0.07692117124698288) * z + -0.0909090118650052) * z + 0.1111111091207188) * z + -0.14285714282992137) * z + 0.19999999999984008) * z + -0.33333333333333315)) + (q_rest + (parts * PI_HALF_TAIL))));
}

// The arc tangent.
template <class V>
LUCID_LANES V atan64(V x) {
    const auto t = magnitude(x);
    const auto parts0 = ratio_angle((t > TWO_60) ? number<V>(TWO_60) : t, number<V>(1.0));
    const auto y = parts0.value;
    return with_sign(y, x);
}

// |y| and |x|, divided by a power of two so that the larger is from 1 to 2.
template <class V>
LUCID_LANES Pair<V> point(V y, V x) {
    auto a = magnitude(y);
    auto b = magnitude(x);
    const auto larger = (a > b) ? a : b;
    const auto n = (bits(larger) >> 52) - 1023;
    const auto half = n >> 1;
    const auto p = power_of_two(-half);
    const auto q = power_of_two(half - n);
    a = (a == from_bits(0x7FF0000000000000)) ? number<V>(1.0) : ((b == from_bits(0x7FF0000000000000)) ? number<V>(0.0) : ((a * p) * q));
    b = (larger == number<V>(0.0)) | (magnitude(x) == from_bits(0x7FF0000000000000)) ? number<V>(1.0) : ((magnitude(y) == from_bits(0x7FF0000000000000)) ? number<V>(0.0) : ((b * p) * q));
    return {a, b};
}

// The angle of the point (x, y).
template <class V>
LUCID_LANES V atan264(V y, V x) {
    const auto parts0 = point(y, x);
    const auto a = parts0.value;
    const auto b = parts0.rest;
    const auto parts1 = ratio_angle(a, b);
    auto v = parts1.value;
    const auto v_rest = parts1.rest;
    const auto parts2 = ordered_sum(number<V>(PI), -v);
    const auto h = parts2.value;
    const auto h_rest = parts2.rest;
    v = (bits(x) < 0) ? (h + (h_rest + (PI_TAIL - v_rest))) : v;
    return (x != x) | (y != y) ? number<V>(from_bits(0x7FF8000000000000)) : with_sign(v, y);
}

// The nearest integer, ties to even.
template <class V>
LUCID_LANES V round64(V x) {
    const auto t = magnitude(x);
    return with_sign((t < TWO_52) ? ((t + TWO_52) - TWO_52) : t, x);
}

// The next integer below, or x.
template <class V>
LUCID_LANES V floor64(V x) {
    const auto y = round64(x);
    return y - ((y > x) ? number<V>(1.0) : number<V>(0.0));
}

// The next integer above, or x.
template <class V>
LUCID_LANES V ceil64(V x) {
    const auto y = round64(x);
    return with_sign(y + ((y < x) ? number<V>(1.0) : number<V>(0.0)), x);
}

// The next integer towards 0, or x.
template <class V>
LUCID_LANES V trunc64(V x) {
    return with_sign(floor64(magnitude(x)), x);
}

// (a + a_rest) (b + b_rest).
template <class V>
LUCID_LANES Pair<V> pair_product(V a, V a_rest, V b, V b_rest) {
    const auto parts0 = two_product(a, b);
    const auto p = parts0.value;
    const auto p_rest = parts0.rest;
    return {p, p_rest + ((a * b_rest) + (a_rest * b))};
}

// A step of Horner's rule, c + x y, where |c| is the larger.
template <class V>
LUCID_LANES Pair<V> pair_step(V c, V c_rest, V x, V x_rest, V y, V y_rest) {
    const auto parts0 = pair_product(x, x_rest, y, y_rest);
    const auto p = parts0.value;
    const auto p_rest = parts0.rest;
    const auto parts1 = ordered_sum(c, p);
    const auto s = parts1.value;
    const auto s_rest = parts1.rest;
    return {s, s_rest + (p_rest + c_rest)};
}

// log(x) of a positive x, as log64: with s = f / (2 + f), log(1 + f) is 2 atanh(s).
template <class V>
LUCID_LANES Pair<V> log_pair(V x) {
    const auto tiny = x < LEAST_NORMAL;
    const auto u = x * (tiny ? number<V>(TWO_54) : number<V>(1.0));
    const auto n = bits((u > number<V>(0.0)) ? u : number<V>(1.0)) - SQRT_HALF_BITS;
    const auto k = floating(n >> 52) - (tiny ? number<V>(54.0) : number<V>(0.0));
    const auto f = from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - number<V>(1.0);
    const auto parts0 = ordered_sum(number<V>(2.0), f);
    const auto d = parts0.value;
    const auto d_rest = parts0.rest;
    const auto parts1 = quotient(f, number<V>(0.0), d, d_rest);
    auto s = parts1.value;
    auto s_rest = parts1.rest;
    const auto parts2 = ordered_sum(s, s_rest);
    s = parts2.value;
    s_rest = parts2.rest;
    const auto parts3 = pair_product(s, s_rest, s, s_rest);
    auto z = parts3.value;
    auto z_rest = parts3.rest;
    const auto w = z * z;
    const auto tail = (((number<V>(0.05236447707177386) * w + 0.06666657336287023) * w + 0.09090909090650334) * w + 0.14285714285714285) + (z * (((number<V>(0.05308572170586171) * w + 0.058830251424610534) * w + 0.07692307762474186) * w + 0.11111111111111474));
    const auto parts4 = pair_step(number<V>(FIFTH), number<V>(FIFTH_TAIL), z, z_rest, tail, number<V>(0.0));
    auto y = parts4.value;
    auto y_rest = parts4.rest;
    const auto parts5 = pair_step(number<V>(THIRD), number<V>(THIRD_TAIL), z, z_rest, y, y_rest);
    y = parts5.value;
    y_rest = parts5.rest;
    const auto parts6 = pair_product(s, s_rest, z, z_rest);
    z = parts6.value;
    z_rest = parts6.rest;
    const auto parts7 = pair_product(z, z_rest, y, y_rest);
    y = parts7.value;
    y_rest = parts7.rest;
    const auto parts8 = ordered_sum(s, y);
    y = parts8.value;
    const auto rest = parts8.rest;
    y_rest = number<V>(2.0) * (rest + (s_rest + y_rest));
    const auto parts9 = two_product(k, number<V>(LN2_LO));
    const auto lo = parts9.value;
    const auto lo_rest = parts9.rest;
    const auto parts10 = ordered_sum(k * LN2_HI, number<V>(2.0) * y);
    const auto h = parts10.value;
    const auto h_rest = parts10.rest;
    return ordered_sum(h, lo + (h_rest + (y_rest + lo_rest)));
}

// e^(x + x_rest) / 2^k: 1 + r + r^2 (1/2 + r (1/6 + r (1/24 + ...))).
template <class V>
LUCID_LANES Pair<V> exp_pair(V x, V x_rest, V k) {
    const auto parts0 = two_product(k, number<V>(LN2_LO));
    const auto lo = parts0.value;
    const auto lo_rest = parts0.rest;
    const auto parts1 = two_sum(x - (k * LN2_HI), -lo);
    auto r = parts1.value;
    auto r_rest = parts1.rest;
    const auto parts2 = ordered_sum(r, r_rest + (x_rest - lo_rest));
    r = parts2.value;
    r_rest = parts2.rest;
    const auto parts3 = pair_step(number<V>(TWENTY_FOURTH), number<V>(TWENTY_FOURTH_TAIL), r, r_rest, (((((((((number<V>(1.1485109594626677e-11) * r + 1.608202806504724e-10) * r + 2.0876741885347773e-09) * r + 2.505208421886778e-08) * r + 2.7557319230466394e-07) * r + 2.7557319234355905e-06) * r + 2.480158730158633e-05) * r + 0.00019841269841268283) * r + 0.001388888888888889) * r + 0.008333333333333333), number<V>(0.0));
    auto y = parts3.value;
    auto y_rest = parts3.rest;
    const auto parts4 = pair_step(number<V>(SIXTH), number<V>(SIXTH_TAIL), r, r_rest, y, y_rest);
    y = parts4.value;
    y_rest = parts4.rest;
    const auto parts5 = pair_step(number<V>(0.5), number<V>(0.0), r, r_rest, y, y_rest);
    y = parts5.value;
    y_rest = parts5.rest;
    const auto parts6 = pair_product(r, r_rest, r, r_rest);
    const auto z = parts6.value;
    const auto z_rest = parts6.rest;
    const auto parts7 = pair_product(z, z_rest, y, y_rest);
    y = parts7.value;
    y_rest = parts7.rest;
    const auto parts8 = ordered_sum(r, y);
    y = parts8.value;
    auto rest = parts8.rest;
    y_rest = rest + (y_rest + r_rest);
    const auto parts9 = ordered_sum(number<V>(1.0), y);
    y = parts9.value;
    rest = parts9.rest;
    return ordered_sum(y, rest + y_rest);
}

// t^n of a positive t, two numbers divided by 2^k, and k: within 2^-64 of it.
template <class V>
LUCID_LANES Triple<V> raised(V t, V n) {
    const auto parts0 = log_pair(t);
    auto y = parts0.value;
    auto y_rest = parts0.rest;
    const auto parts1 = two_product(n, y);
    const auto p = parts1.value;
    auto p_rest = parts1.rest;
    p_rest = p_rest + (n * y_rest);
    const auto k = floating(integer(p * INV_LN2));
    const auto parts2 = exp_pair(p, p_rest, k);
    y = parts2.value;
    y_rest = parts2.rest;
    return {y, y_rest, k};
}

// y 2^k, which is infinite or 0 far out.
template <class V>
LUCID_LANES V scaled(V y, V k) {
    const auto n = integer(k);
    const auto half = n >> 1;
    y = (y * power_of_two(half)) * power_of_two(n - half);
    return (k > number<V>(1100.0)) ? number<V>(from_bits(0x7FF0000000000000)) : ((k < number<V>(-1100.0)) ? number<V>(0.0) : y);
}

// y + rest of a positive y, rounded to odd: where that is between two, the one with an odd last bit. What is
// narrowed afterwards is rounded once.
template <class V>
LUCID_LANES V odd64(V y, V rest) {
    const auto n = bits(y);
    return from_bits(n + ((rest > number<V>(0.0)) ? (1 - (n & 1)) : ((rest < number<V>(0.0)) ? ((n & 1) - 1) : (0 * n))));
}

// t^n rounded to odd. What is within 2^-62 of a float64 is meant to be it: a root, or a power, that is exact.
template <class V>
LUCID_LANES Triple<V> raised_odd(V t, V n) {
    const auto parts0 = raised(t, n);
    const auto y = parts0.value;
    auto y_rest = parts0.rest;
    const auto k = parts0.turns;
    y_rest = (magnitude(y_rest) > TWO_M62) ? y_rest : number<V>(0.0);
    return {scaled(odd64(y, y_rest), k), y_rest, k};
}

// Whether y is that near to the middle of two float32, in units of its last bit, or among the least ones.
template <class V>
LUCID_LANES auto by_middle(V y, int64_t units) {
    const auto place = (bits(y) & REST_BITS) - MIDDLE_BITS;
    const auto t = magnitude(y);
    return ((place < units) & (place > -units)) | ((t < LEAST_SINGLE) & (t > TWO_M151));
}

// The angle of the point (x, y), rounded to odd: with q = a / b it is q - q^3 / 3 + q^5 / 5 - q^7 / 7 and so on.
template <class V>
LUCID_LANES Triple<V> atan2_odd(V y, V x) {
    const auto parts0 = point(y, x);
    const auto a = parts0.value;
    const auto b = parts0.rest;
    const auto parts1 = ratio(a, b);
    auto q = parts1.value;
    auto q_rest = parts1.rest;
    const auto parts = parts1.turns;
    const auto parts3 = ordered_sum(q, q_rest);
    q = parts3.value;
    q_rest = parts3.rest;
    const auto parts4 = pair_product(q, q_rest, q, q_rest);
    auto z = parts4.value;
    auto z_rest = parts4.rest;
    const auto parts5 = pair_step(number<V>(-SEVENTH), number<V>(-SEVENTH_TAIL), z, z_rest, (((((((((((number<V>(-0.012961054160350876) * z + 0.027251613015641944) * z + -0.03533181479590891) * z + 0.03973501441986977) * z + -0.04345052883904436) * z + 0.0476170897869223) * z + -0.05263148731738876) * z + 0.05882352668012355) * z + -0.06666666661845053) * z + 0.07692307692263603) * z + -0.09090909090908933) * z + 0.1111111111111111), number<V>(0.0));
    auto v = parts5.value;
    auto v_rest = parts5.rest;
    const auto parts6 = pair_step(number<V>(FIFTH), number<V>(FIFTH_TAIL), z, z_rest, v, v_rest);
    v = parts6.value;
    v_rest = parts6.rest;
    const auto parts7 = pair_step(number<V>(-THIRD), number<V>(-THIRD_TAIL), z, z_rest, v, v_rest);
    v = parts7.value;
    v_rest = parts7.rest;
    const auto parts8 = pair_product(q, q_rest, z, z_rest);
    z = parts8.value;
    z_rest = parts8.rest;
    const auto parts9 = pair_product(z, z_rest, v, v_rest);
    v = parts9.value;
    v_rest = parts9.rest;
    const auto parts10 = ordered_sum(q, v);
    v = parts10.value;
    const auto rest = parts10.rest;
    const auto parts11 = ordered_sum(parts * PI_HALF, v);
    auto h = parts11.value;
    auto h_rest = parts11.rest;
    const auto parts12 = ordered_sum(h, h_rest + ((parts * PI_HALF_TAIL) + (rest + (q_rest + v_rest))));
    v = parts12.value;
    v_rest = parts12.rest;
    const auto parts13 = ordered_sum(number<V>(PI), -v);
    h = parts13.value;
    h_rest = parts13.rest;
    const auto left = bits(x) < 0;
    v_rest = left ? (h_rest + (PI_TAIL - v_rest)) : v_rest;
    const auto parts14 = ordered_sum(left ? h : v, v_rest);
    v = parts14.value;
    v_rest = parts14.rest;
    return {with_sign(odd64(v, v_rest), y), v_rest, parts};
}

// The angle of a point of float32, within 2^-41 of it, and a number that is neither 0 nor infinite where it is.
template <class V>
LUCID_LANES Pair<V> quick_angle64(V y, V x) {
    const auto a = magnitude(y);
    const auto b = magnitude(x);
    const auto low = a <= (TAN_PI_8 * b);
    const auto high = (TAN_PI_8 * a) > b;
    const auto d = low ? b : (high ? a : (a + b));
    const auto q = (low ? a : (high ? -b : (a - b))) / d;
    const auto z = q * q;
    const auto w = z * z;
    auto v = q + ((q * z) * (((((number<V>(-0.027231188880779692) * w + -0.06550878776298272) * w + -0.09090255665139077) * w + -0.14285713930151892) * w + -0.3333333333333092) + (z * (((number<V>(0.05168725600039612) * w + 0.07681041344029722) * w + 0.11111089637647514) * w + 0.19999999997723208))));
    v = v + (low ? number<V>(0.0) : (high ? number<V>(PI_HALF) : number<V>(PI_4)));
    return {with_sign((bits(x) < 0) ? (PI - v) : v, y), d};
}

// For float32: where that may narrow to either of two float32, the angle rounded to odd.
template <class V>
LUCID_LANES V atan2_single64(V y, V x) {
    const auto parts0 = quick_angle64(y, x);
    auto v = parts0.value;
    const auto d = parts0.rest;
    const auto usual = (d > number<V>(0.0)) & (d < from_bits(0x7FF0000000000000));
    const auto parts1 = rare((usual == 0), [&] { return Triple<V>{atan264(y, x), d, d}; }, Triple<V>{v, d, d});
    v = parts1.value;
    const auto parts2 = rare(by_middle(v, 8192), [&] { return atan2_odd(y, x); }, Triple<V>{v, d, d});
    v = parts2.value;
    return v;
}

// t^n of float32, within 2^-42 of it: 2^(n log2(t)).
template <class V>
LUCID_LANES V quick64(V t, V n) {
    const auto b = bits(t) - SQRT_HALF_BITS;
    const auto f = from_bits((b & FRACTION_BITS) + SQRT_HALF_BITS) - number<V>(1.0);
    const auto s = f / (number<V>(2.0) + f);
    auto z = s * s;
    const auto w = z * z;
    auto y = s * ((((number<V>(0.2429183013526297) * w + 0.3206163935263423) * w + 0.5770780172467822) * w + 2.885390081777927) + (z * ((number<V>(0.26144407006393944) * w + 0.4121984019742357) * w + 0.9617966939243335)));
    const auto p = n * (floating(b >> 52) + y);
    const auto k = integer(p);
    const auto r = p - floating(k);
    z = r * r;
    y = (((((number<V>(1.325964524488711e-06) * z + 0.0001540343375125101) * z + 0.009618129193934313) * z + 0.2402265069564034) * z + 1.0000000000000135) + (r * ((((number<V>(1.0205905413765595e-07) * z + 1.5252672924850737e-05) * z + 0.0013333558200794592) * z + 0.05550410866465167) * z + 0.6931471805599462))) * power_of_two(k);
    return (p > number<V>(200.0)) ? number<V>(from_bits(0x7FF0000000000000)) : ((p < number<V>(-200.0)) ? number<V>(0.0) : y);
}

// For float32: where that may narrow to either of two float32, t^n rounded to odd.
template <class V>
LUCID_LANES V raised_single64(V t, V n) {
    auto y = quick64(t, n);
    const auto parts0 = rare(by_middle(y, 2048), [&] { return raised_odd(t, n); }, Triple<V>{y, y, y});
    y = parts0.value;
    return y;
}

// For float64, within 0.7 ulp: of e^r what follows after 1 + r is one number.
template <class V>
LUCID_LANES V raised64(V t, V n) {
    const auto parts0 = log_pair(t);
    auto y = parts0.value;
    const auto y_rest = parts0.rest;
    const auto parts1 = two_product(n, y);
    const auto p = parts1.value;
    const auto p_rest = parts1.rest;
    const auto k = floating(integer(p * INV_LN2));
    const auto parts2 = two_product(k, number<V>(LN2_LO));
    const auto lo = parts2.value;
    const auto lo_rest = parts2.rest;
    const auto parts3 = two_sum(p - (k * LN2_HI), -lo);
    auto r = parts3.value;
    auto r_rest = parts3.rest;
    const auto parts4 = ordered_sum(r, r_rest + ((p_rest + (n * y_rest)) - lo_rest));
    r = parts4.value;
    r_rest = parts4.rest;
    const auto z = r * r;
    const auto tail = (z * (((((number<V>(2.0924114913000376e-09) * z + 2.7557242995189784e-07) * z + 2.4801587361729256e-05) * z + 0.001388888888886504) * z + 0.04166666666666671) * z + 0.5)) + (((r * z) * ((((number<V>(2.51087368770112e-08) * z + 2.755724514881434e-06) * z + 0.00019841269885089992) * z + 0.008333333333322097) * z + 0.16666666666666677)) + (r_rest + (r * r_rest)));
    const auto parts5 = ordered_sum(r, tail);
    const auto h = parts5.value;
    const auto h_rest = parts5.rest;
    const auto parts6 = ordered_sum(number<V>(1.0), h);
    y = parts6.value;
    const auto rest = parts6.rest;
    return scaled(y + (rest + h_rest), k);
}

// x^n, y being |x|^n: its sign, and where a number is 0, infinite or no number (IEEE 754, pow).
template <class V>
LUCID_LANES V cornered64(V y, V x, V n) {
    const auto t = magnitude(x);
    const auto half = number<V>(0.5) * n;
    const auto whole = round64(n) == n;
    const auto odd = whole & (round64(half) != half);
    const auto far = ((t == number<V>(0.0)) | (t == from_bits(0x7FF0000000000000))) | (magnitude(n) == from_bits(0x7FF0000000000000));
    y = far ? (((t > number<V>(1.0)) == (n > number<V>(0.0))) ? number<V>(from_bits(0x7FF0000000000000)) : number<V>(0.0)) : y;
    y = odd & (bits(x) < 0) ? -y : y;
    y = ((((x < number<V>(0.0)) & (t < from_bits(0x7FF0000000000000))) & (round64(n) != n)) | (x != x)) | (n != n) ? number<V>(from_bits(0x7FF8000000000000)) : y;
    return ((n == number<V>(0.0)) | (x == number<V>(1.0))) | ((t == number<V>(1.0)) & (magnitude(n) == from_bits(0x7FF0000000000000))) ? number<V>(1.0) : y;
}

// The same; where x is positive and both are finite, y is x^n already.
template <class V>
LUCID_LANES V everywhere64(V y, V x, V n) {
    const auto usual = ((x > number<V>(0.0)) & (x < from_bits(0x7FF0000000000000))) & (magnitude(n) < from_bits(0x7FF0000000000000));
    const auto parts0 = rare((usual == 0), [&] { return Triple<V>{cornered64(y, x, n), y, y}; }, Triple<V>{y, y, y});
    y = parts0.value;
    return y;
}

// x^n.
template <class V>
LUCID_LANES V pow64(V x, V n) {
    return everywhere64(raised64(magnitude(x), n), x, n);
}

// For float32.
template <class V>
LUCID_LANES V pow_single64(V x, V n) {
    return everywhere64(raised_single64(magnitude(x), n), x, n);
}

// One number beside every element.
template <class V>
LUCID_LANES V beside(double value, V) {
    return number<V>(value);
}

// x^3.
template <class V>
LUCID_LANES V cube64(V x) {
    const auto parts0 = two_product(x, x);
    const auto p = parts0.value;
    const auto p_rest = parts0.rest;
    const auto parts1 = two_product(p, x);
    const auto y = parts1.value;
    const auto y_rest = parts1.rest;
    return (magnitude(y) < from_bits(0x7FF0000000000000)) ? (y + (y_rest + (p_rest * x))) : y;
}

// For float32, of which the square is exact: rounded to odd.
template <class V>
LUCID_LANES V cube_single64(V x) {
    const auto t = magnitude(x);
    const auto parts0 = two_product(t * t, t);
    const auto y = parts0.value;
    const auto y_rest = parts0.rest;
    return with_sign(odd64(y, y_rest), x);
}

// SELU_SCALE x, and below 0 SELU_SCALE_ALPHA (e^x - 1).
template <class V>
LUCID_LANES V selu64(V x) {
    return (x <= number<V>(0.0)) ? (SELU_SCALE_ALPHA * expm164(x)) : (SELU_SCALE * x);
}

// The derivative of that.
template <class V>
LUCID_LANES V selu_slope64(V x) {
    return (x <= number<V>(0.0)) ? (SELU_SCALE_ALPHA * exp64(x)) : number<V>(SELU_SCALE);
}

// log(1 + e^x).
template <class V>
LUCID_LANES V softplus64(V x) {
    return ((x > number<V>(0.0)) ? x : number<V>(0.0)) + log1p64(exp64(-magnitude(x)));
}

// x tanh(log(1 + e^x)) = x n / d, and its limit: with e = e^-|x|, n is 1 + 2 e above 0 and e (2 + e) below.
template <class V>
LUCID_LANES V mish64(V x) {
    const auto e = exp64(-magnitude(x));
    const auto n = (x > number<V>(0.0)) ? (number<V>(1.0) + (e + e)) : (e * (number<V>(2.0) + e));
    const auto d = n + ((x > number<V>(0.0)) ? (number<V>(2.0) * (e * e)) : number<V>(2.0));
    return (x < number<V>(-800.0)) ? number<V>(-0.0) : (x * (n / d));
}

// The derivative of that.
template <class V>
LUCID_LANES V mish_slope64(V x) {
    const auto e = exp64(-magnitude(x));
    const auto n = (x > number<V>(0.0)) ? (number<V>(1.0) + (e + e)) : (e * (number<V>(2.0) + e));
    const auto d = n + ((x > number<V>(0.0)) ? (number<V>(2.0) * (e * e)) : number<V>(2.0));
    const auto t = n / d;
    const auto rise = (x * (number<V>(1.0) - (t * t))) * (((x > number<V>(0.0)) ? number<V>(1.0) : e) / (number<V>(1.0) + e));
    return t + ((magnitude(x) > number<V>(800.0)) ? number<V>(0.0) : rise);
}

// min(max(x + 3, 0), 6).
template <class V>
LUCID_LANES V ramp64(V x) {
    const auto y = x + number<V>(3.0);
    return (y <= number<V>(0.0)) ? number<V>(0.0) : ((y >= number<V>(6.0)) ? number<V>(6.0) : y);
}

// min(max(x + 3, 0), 6) / 6.
template <class V>
LUCID_LANES V hard_sigmoid64(V x) {
    return ramp64(x) / number<V>(6.0);
}

// x min(max(x + 3, 0), 6) / 6.
template <class V>
LUCID_LANES V hard_swish64(V x) {
    return (x <= number<V>(-3.0)) ? number<V>(0.0) : ((x * ramp64(x)) / number<V>(6.0));
}

// The derivative of that, as PyTorch has it at -3 and 3.
template <class V>
LUCID_LANES V hard_swish_slope64(V x) {
    return (x <= number<V>(-3.0)) ? number<V>(0.0) : ((x >= number<V>(3.0)) ? number<V>(1.0) : ((x / number<V>(3.0)) + number<V>(0.5)));
}

// x / (1 + e^-x), and its limit.
template <class V>
LUCID_LANES V silu64(V x) {
    const auto e = exp64(-magnitude(x));
    return (x < number<V>(-800.0)) ? number<V>(-0.0) : (((x > number<V>(0.0)) ? x : (x * e)) / (number<V>(1.0) + e));
}

// The derivative of that, (1 + x e^-x / (1 + e^-x)) / (1 + e^-x).
template <class V>
LUCID_LANES V silu_slope64(V x) {
    const auto e = exp64(-magnitude(x));
    const auto d = number<V>(1.0) + e;
    return (((x > number<V>(0.0)) ? number<V>(1.0) : e) / d) + ((magnitude(x) > number<V>(800.0)) ? number<V>(0.0) : (x * ((e / d) / d)));
}

// 2 e^(-x x) / sqrt(pi).
template <class V>
LUCID_LANES V erf_slope64(V x) {
    const auto parts0 = two_product(x, x);
    const auto h = parts0.value;
    const auto h_rest = parts0.rest;
    const auto e = exp64(-h);
    return (e - ((h > number<V>(800.0)) ? number<V>(0.0) : (e * h_rest))) * TWO_OVER_SQRT_PI;
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
LUCID_LANES V cube(V x) {
    return (x * x) * x;
}

template <class V>
LUCID_LANES V round(V x) {
    return narrow<V>(round64(wide(x)));
}

template <class V>
LUCID_LANES V floor(V x) {
    return narrow<V>(floor64(wide(x)));
}

template <class V>
LUCID_LANES V ceil(V x) {
    return narrow<V>(ceil64(wide(x)));
}

template <class V>
LUCID_LANES V trunc(V x) {
    return narrow<V>(trunc64(wide(x)));
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
    return amended(amended(amended(amended(amended(narrow<V>(log64(wide(x))), x, 0x1.827a740000000p-7f, -0x1.1c2b1e0000000p+2f), x, 0x1.2f1fd60000000p+3f, 0x1.1fcbce0000000p+1f), x, 0x1.bacb4a0000000p+25f, 0x1.1e06960000000p+4f), x, 0x1.b121a60000000p+76f, 0x1.a9a3f20000000p+5f), x, 0x1.6351d80000000p+95f, 0x1.08b5120000000p+6f);
}

template <class V>
LUCID_LANES V sigmoid(V x) {
    return amended(narrow<V>(single(x) ? sigmoid_single64(wide(x)) : sigmoid64(wide(x))), x, -0x1.250c020000000p-10f, 0x1.ffb6be0000000p-2f);
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
LUCID_LANES V expm1(V x) {
    return narrow<V>(expm164(wide(x)));
}

template <class V>
LUCID_LANES V exp2(V x) {
    return amended(amended(narrow<V>(exp264(wide(x))), x, 0x1.853a6e0000000p-9f, 0x1.00870a0000000p+0f), x, -0x1.e7526e0000000p-6f, 0x1.f58d620000000p-1f);
}

template <class V>
LUCID_LANES V log2(V x) {
    return narrow<V>(log264(wide(x)));
}

template <class V>
LUCID_LANES V log1p(V x) {
    return amended(amended(amended(amended(amended(amended(amended(amended(amended(narrow<V>(log1p64(wide(x))), x, 0x1.8000060000000p-21f, 0x1.7ffffe0000000p-21f), x, 0x1.2000360000000p-17f, 0x1.1fffe60000000p-17f), x, 0x1.fb035a0000000p-2f, 0x1.9bddc20000000p-2f), x, 0x1.0f1fd60000000p+3f, 0x1.1fcbce0000000p+1f), x, 0x1.b121a60000000p+76f, 0x1.a9a3f20000000p+5f), x, 0x1.6351d80000000p+95f, 0x1.08b5120000000p+6f), x, -0x1.7ffffa0000000p-21f, -0x1.8000020000000p-21f), x, -0x1.1fffca0000000p-17f, -0x1.20001a0000000p-17f), x, -0x1.1d91880000000p-9f, -0x1.1de14a0000000p-9f);
}

template <class V>
LUCID_LANES V sinh(V x) {
    return amended(amended(narrow<V>(sinh64(wide(x))), x, 0x1.250bfe0000000p-11f, 0x1.250bfe0000000p-11f), x, -0x1.250bfe0000000p-11f, -0x1.250bfe0000000p-11f);
}

template <class V>
LUCID_LANES V cosh(V x) {
    return narrow<V>(cosh64(wide(x)));
}

template <class V>
LUCID_LANES V tanh(V x) {
    return narrow<V>(tanh64(wide(x)));
}

template <class V>
LUCID_LANES V sin(V x) {
    return amended(amended(narrow<V>(sin64(wide(x))), x, 0x1.3333300000000p+13f, -0x1.63f4ba0000000p-2f), x, -0x1.3333300000000p+13f, 0x1.63f4ba0000000p-2f);
}

template <class V>
LUCID_LANES V cos(V x) {
    return amended(amended(amended(amended(narrow<V>(cos64(wide(x))), x, 0x1.3170f00000000p+63f, 0x1.fe29760000000p-1f), x, -0x1.3170f00000000p+63f, 0x1.fe29760000000p-1f), x, 0x1.2b96220000000p+67f, 0x1.f0285e0000000p-1f), x, -0x1.2b96220000000p+67f, 0x1.f0285e0000000p-1f);
}

template <class V>
LUCID_LANES V tan(V x) {
    return narrow<V>(tan64(wide(x)));
}

template <class V>
LUCID_LANES V arcsin(V x) {
    return narrow<V>(asin64(wide(x)));
}

template <class V>
LUCID_LANES V arccos(V x) {
    return amended(amended(narrow<V>(acos64(wide(x))), x, 0x1.110b460000000p-26f, 0x1.921fb60000000p+0f), x, 0x1.04c4440000000p-12f, 0x1.920f6a0000000p+0f);
}

template <class V>
LUCID_LANES V arctan(V x) {
    return amended(amended(narrow<V>(atan64(wide(x))), x, 0x1.1ad6460000000p-4f, 0x1.1a63860000000p-4f), x, -0x1.1ad6460000000p-4f, -0x1.1a63860000000p-4f);
}

template <class V>
LUCID_LANES V erf(V x) {
    return narrow<V>(erf64(wide(x)));
}

template <class V>
LUCID_LANES V silu(V x) {
    return narrow<V>(silu64(wide(x)));
}

template <class V>
LUCID_LANES V relu6(V x) {
    return (x <= number<V>(0.0)) ? number<V>(0.0) : ((x >= number<V>(6.0)) ? number<V>(6.0) : x);
}

template <class V>
LUCID_LANES V selu(V x) {
    return narrow<V>(selu64(wide(x)));
}

template <class V>
LUCID_LANES V hard_sigmoid(V x) {
    return narrow<V>(hard_sigmoid64(wide(x)));
}

template <class V>
LUCID_LANES V hard_swish(V x) {
    return narrow<V>(hard_swish64(wide(x)));
}

template <class V>
LUCID_LANES V softplus(V x) {
    return narrow<V>(softplus64(wide(x)));
}

template <class V>
LUCID_LANES V log_sigmoid(V x) {
    return narrow<V>(-softplus64(-wide(x)));
}

template <class V>
LUCID_LANES V mish(V x) {
    return narrow<V>(mish64(wide(x)));
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
LUCID_LANES V erf_grad(V dy, V x) {
    return narrow<V>(wide(dy) * erf_slope64(wide(x)));
}

template <class V>
LUCID_LANES V silu_grad(V dy, V x) {
    return narrow<V>(wide(dy) * silu_slope64(wide(x)));
}

template <class V>
LUCID_LANES V arctan2(V y, V x) {
    return narrow<V>(single(x) ? atan2_single64(wide(y), wide(x)) : atan264(wide(y), wide(x)));
}

template <class V>
LUCID_LANES V power(V x, V n) {
    return narrow<V>(single(x) ? pow_single64(wide(x), wide(n)) : pow64(wide(x), wide(n)));
}

template <class V>
LUCID_LANES V leaky_relu(V x, V slope) {
    return (x > number<V>(0.0)) ? x : (x * slope);
}

template <class V>
LUCID_LANES V leaky_relu_slope(V x, V slope) {
    return (x > number<V>(0.0)) ? number<V>(1.0) : slope;
}

template <class V>
LUCID_LANES V elu(V x, V alpha) {
    return (x <= number<V>(0.0)) ? narrow<V>(wide(alpha) * expm164(wide(x))) : x;
}

template <class V>
LUCID_LANES V elu_slope(V x, V alpha) {
    return (x <= number<V>(0.0)) ? narrow<V>(wide(alpha) * exp64(wide(x))) : number<V>(1.0);
}

template <class V>
LUCID_LANES V relu6_grad(V dy, V x) {
    return (x > number<V>(0.0)) & (x < number<V>(6.0)) ? dy : number<V>(0.0);
}

template <class V>
LUCID_LANES V selu_grad(V dy, V x) {
    return narrow<V>(wide(dy) * selu_slope64(wide(x)));
}

template <class V>
LUCID_LANES V hard_sigmoid_grad(V dy, V x) {
    return (x > number<V>(-3.0)) & (x < number<V>(3.0)) ? (dy / number<V>(6.0)) : number<V>(0.0);
}

template <class V>
LUCID_LANES V hard_swish_grad(V dy, V x) {
    return narrow<V>(wide(dy) * hard_swish_slope64(wide(x)));
}

template <class V>
LUCID_LANES V softplus_grad(V dy, V x) {
    return narrow<V>(wide(dy) * sigmoid64(wide(x)));
}

template <class V>
LUCID_LANES V log_sigmoid_grad(V dy, V x) {
    return narrow<V>(wide(dy) * sigmoid64(-wide(x)));
}

template <class V>
LUCID_LANES V mish_grad(V dy, V x) {
    return narrow<V>(wide(dy) * mish_slope64(wide(x)));
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

// x^3.
template <class V>
LUCID_LANES V power_cube(V x) {
    return narrow<V>(single(x) ? cube_single64(wide(x)) : cube64(wide(x)));
}

// x^(1/2): of -0 it is +0, of minus infinity infinite.
template <class V>
LUCID_LANES V power_root(V x) {
    return (x < number<V>(0.0)) & ((x + x) == x) ? magnitude(x) : (square_root(x) + number<V>(0.0));
}

// x^exponent for any other exponent.
template <class V>
LUCID_LANES V power_real(V x, double exponent) {
    const auto n = beside(exponent, wide(x));
    return narrow<V>(single(x) ? pow_single64(wide(x), n) : pow64(wide(x), n));
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
