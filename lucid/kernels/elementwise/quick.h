// Functions of float32 in fewer instructions than the law's formulas take, with the same bits: a float64 `y` that is within DOUBT
// of what the formula narrows is narrowed itself, unless the middle of two float32 is nearer than that, or an argument is
// out of the ordinary. Then the vector takes the formula (printed.h). tests/lucid/test_bits.py compares both, tools/exhaustive.py all inputs.
//
// The polynomials are through Chebyshev's nodes (tools/quick_polynomials.py); what is said of each is how far it is from
// the function, in parts of that.
#pragma once

#include "usual.h"

namespace lucid {
namespace LUCID_ISA {
namespace scalar {

namespace quick {

using V = Vec<double>;
using N = Vec<int64_t>;

constexpr int64_t DOUBT = 1 << 17;  // last places of a float64: 2^-35 at most, where polynomials and roundings err by 2^-37
constexpr int64_t REST = 0x1FFFFFFF, MIDDLE = 0x10000000;  // what narrowing leaves out, and where it has to choose

// (e^r - 1) / r and (2^r - 1) / r, where r is up to half of 1 / PARTS of a doubling, and 2^(n / PARTS) less n / PARTS in the exponent.
#if LUCID_PICKS == 8
constexpr double GROWTH[] = {0x1.00000000000b9p+0, 0x1.000000000002ep-1, 0x1.55555547d358ap-3, 0x1.5555554e945a5p-5,
                             0x1.1115c09c28342p-7, 0x1.6c1b70f560d4ep-10};  // 2^-44.4
constexpr double DOUBLING[] = {0x1.62e42fefa3aefp-1, 0x1.ebfbdff82c5e7p-3, 0x1.c6b08d5e4baabp-5, 0x1.3b2ab6f568777p-7,
                               0x1.5d8dfde9a2241p-10, 0x1.430d3b40417cbp-13};  // 2^-44.5
constexpr int64_t PARTS = 8, ROOTS[] = {0x3ff0000000000000, 0x3fef72b83c7d517b, 0x3fef06fe0a31b715, 0x3feebfdad5362a27,
                                        0x3feea09e667f3bcd, 0x3feeace5422aa0db, 0x3feee89f995ad3ad, 0x3fef5818dcfba487};
#else
constexpr double GROWTH[] = {0x1.0000000000006p+0, 0x1.0000000000001p-1, 0x1.5555555550d87p-3, 0x1.5555555553d68p-5,
                             0x1.11111123bf235p-7, 0x1.6c16c17889f87p-10, 0x1.a01994c812e0bp-13,
                             0x1.a019b91475f57p-16, 0x1.72e108093cfa3p-19, 0x1.28917cb4d0599p-22};  // 2^-49.2
constexpr double DOUBLING[] = {0x1.62e42fefa39efp-1, 0x1.ebfbdff823cecp-3, 0x1.c6b08d7047e52p-5, 0x1.3b2ab7181b8abp-7,
                               0x1.5d87fe86fe93ap-10, 0x1.4308ac85774f5p-13, 0x1.ffcb95157455dp-17,
                               0x1.63d1367aca924p-20, 0x1.b63880e7f3d8ep-24};  // 2^-43.4
constexpr int64_t PARTS = 1, ROOTS[] = {0x3ff0000000000000};
#endif
constexpr int PART_BITS = PARTS == 8 ? 3 : 0;

// sin(r) / r, tan(r) / r, atan(q) / q, asin(s) / s and log((1 + s) / (1 - s)) / s, of the squares.
constexpr double SINE[] = {0x1.ffffffffffe3ap-1, -0x1.5555555543bddp-3, 0x1.11111109eefdcp-7, -0x1.a019fd48ed0abp-13,
                           0x1.71dcf81f41c71p-19, -0x1.ae044893639a8p-26, 0x1.52e573730ab94p-33};  // 2^-43.6
constexpr double TANGENT[] = {0x1.0000000000774p+0, 0x1.555555527b292p-2, 0x1.111112810bf52p-3, 0x1.ba1b11bc4c620p-5,
                              0x1.665da71df878ep-6, 0x1.21998995edd25p-7, 0x1.e6029fc883912p-9, 0x1.25d344b419aabp-10,
                              0x1.39da308a0aa59p-10, -0x1.b0412d6a96d02p-12, 0x1.d3295ac431e80p-12};  // 2^-41.0
constexpr double ARCTANGENT[] = {0x1.fffffffffe56dp-1, -0x1.5555554ba457dp-2, 0x1.99999046ceb9fp-3,
                                 -0x1.249091443f1a9p-3, 0x1.c6cc2f1dec7c9p-4, -0x1.7055bfc39ef81p-4,
                                 0x1.1da9c07407f26p-4, -0x1.347870b366b62p-5};  // 2^-40.3
constexpr double ARCSINE[] = {0x1.ffffffffffe37p-1, 0x1.55555556ba270p-3, 0x1.333331c549874p-4, 0x1.6db76c40bed6ep-5,
                              0x1.f1aa2e2527765p-6, 0x1.70310a971bbc0p-6, 0x1.0de3a725264c0p-6, 0x1.315fa5cf84fcbp-6,
                              -0x1.7664a4833704bp-9, 0x1.05af7ffa46404p-5};  // 2^-43.9
constexpr double LOGARITHM[] = {0x1.fffffffffff12p+0, 0x1.5555555671491p-1, 0x1.9999962c0523ap-2,
                                0x1.2494381f44911p-2, 0x1.c620ee4db5b99p-3, 0x1.9192e663307b0p-3};  // 2^-45.1

template <int COUNT>
LUCID_LANES V polynomial(const double (&coefficients)[COUNT], V x) {
    V terms[(COUNT + 1) / 2], power = x;
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; i += 2)
        terms[i / 2] = i + 1 < COUNT ? about_fma(splat(coefficients[i + 1]), x, splat(coefficients[i])) : splat(coefficients[i]);
#pragma GCC unroll 8
    for (int left = (COUNT + 1) / 2; left > 1; left = (left + 1) / 2) {
        power = power * power;
#pragma GCC unroll 16
        for (int i = 0; i < left; i += 2) terms[i / 2] = i + 1 < left ? about_fma(terms[i + 1], power, terms[i]) : terms[i];
    }
    return terms[0];
}

// How far |x|, as bits, is above LOW; and how far it may be. (Without a sign: below LOW is far above.)
template <int64_t LOW, int64_t HIGH>
struct Within {
    N place;
    explicit Within(V x) : place((bits(x) & 0x7FFFFFFFFFFFFFFF) - LOW) {}
    static constexpr int64_t ROOM = HIGH - LOW;
};

// Likewise of the positive numbers.
struct Positive {
    N place;
    explicit Positive(V x) : place(bits(x) - 1) {}
    static constexpr int64_t ROOM = 0x7FEFFFFFFFFFFFFE;
};

template <class Range, class Formula>
LUCID_LANES Part<float> settled(V y, const Range& range, const Formula& formula) {
    const N shifted = bits(y) + (MIDDLE + DOUBT);
    if (__builtin_expect(any_above(range.place, Range::ROOM) | any_without(shifted, REST - (2 * DOUBT - 1)), 0)) return formula();
    return made(y, static_cast<Part<float>*>(nullptr));
}

// base^x = scale (1 + rise), of a base that grows by `rise` within a half turn.
struct Growth {
    V scale, rise;
    V value() const { return about_fma(scale, rise, scale); }
    V less_one() const { return about_fma(scale, rise, scale - 1.0); }
};

// Of `turns`, in whose last places the parts of a doubling are counted.
template <int COUNT>
LUCID_LANES Growth growth(const double (&coefficients)[COUNT], V turns, V r) {
    const N scale = pick(ROOTS, bits(turns)) + shifted_left(bits(turns), 52 - PART_BITS);
    return {from_bits(scale), r * polynomial(coefficients, r)};
}

// e^x within 2^-48, for -700 <= x <= 700.
LUCID_LANES Growth growth(V x) {
    const V turns = about_fma(x, splat(PARTS * INV_LN2), splat(MAGIC));
    return growth(GROWTH, turns, about_fma(turns - MAGIC, splat(-LN2 / PARTS), x));
}

constexpr int64_t ZERO = 0, TINY = 0x3870000000000000;     // 0, 2^-120
constexpr int64_t EXP_RANGE = 0x4055C00000000000;                  // 87
constexpr int64_t SINE_RANGE = 0x40C0000000000000;                 // 8192

// k, and x - (k + shift) period, for a period of two parts.
struct Angle {
    V turns, r;
};

LUCID_LANES Angle angle(V x, double inverse, double shift, double high, double low) {
    const V turns = about_fma(x, splat(inverse), splat(-shift)) + MAGIC, k = (turns - MAGIC) + shift;
    return {turns, about_fma(k, splat(-low), about_fma(k, splat(-high), x))};
}

constexpr double PI_HIGH = 0x1.921fb54440000p+1, PI_LOW = 0x1.68c234c4c6629p-38;  // of 37 bits, and the rest

LUCID_LANES V sine(const Angle& a, V r) {
    const V y = r * polynomial(SINE, r * r);
    return from_bits(bits(y) ^ shifted_left(bits(a.turns), 63));
}

constexpr int64_t BELOW_ONE = 0x3FEFFFFFE0000000;  // 1 - 2^-24

// The arcsine of |x| up to 1/2, else of sqrt((1 - |x|) / 2).
struct Arc {
    N steep;
    V y;
    explicit Arc(V x) {
        const V t = magnitude(x), rest = 0.5 * (1.0 - t);
        steep = t > 0.5;
        const V z = steep ? rest : t * t;
        y = (steep ? about_root(rest) : t) * polynomial(ARCSINE, z);
    }
};

struct Logarithm {
    V k, value;  // log(m) of x = 2^k m
};

LUCID_LANES V logarithm_of(V f) {
    const V s = f * about_inverse(2.0 + f);
    return s * polynomial(LOGARITHM, s * s);
}

LUCID_LANES Logarithm logarithm(V x) {
    const N n = bits(x) - SQRT_HALF_BITS;
    return {floating(n >> 52), logarithm_of(from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - 1.0)};
}

constexpr int64_t GELU_RANGE = 0x4022000000000000;  // 9: e^-u is about 10^38 there

}  // namespace quick

LUCID_LANES Part<float> exp(Part<float> x) {
    const auto t = wide(x);
    return quick::settled(quick::growth(t).value(), quick::Within<quick::ZERO, quick::EXP_RANGE>(t), [=] { return exp<Part<float>>(x); });
}

LUCID_LANES Part<float> expm1(Part<float> x) {
    const auto t = wide(x);
    return quick::settled(with_sign(quick::growth(t).less_one(), t), quick::Within<quick::ZERO, quick::EXP_RANGE>(t),
                          [=] { return expm1<Part<float>>(x); });
}

LUCID_LANES Part<float> exp2(Part<float> x) {
    const auto t = wide(x);
    const auto turns = t + MAGIC / quick::PARTS;
    const auto g = quick::growth(quick::DOUBLING, turns, t - (turns - MAGIC / quick::PARTS));
    return quick::settled(g.value(), quick::Within<quick::ZERO, quick::EXP_RANGE>(t), [=] { return exp2<Part<float>>(x); });
}

LUCID_LANES Part<float> sigmoid(Part<float> x) {
    const auto t = wide(x);
    const auto y = about_inverse(1.0 + quick::growth(-t).value());
    return quick::settled(y, quick::Within<quick::ZERO, quick::EXP_RANGE>(t), [=] { return sigmoid<Part<float>>(x); });
}

LUCID_LANES Part<float> silu(Part<float> x) {
    const auto t = wide(x);
    const auto y = t * about_inverse(1.0 + quick::growth(-t).value());
    return quick::settled(y, quick::Within<quick::TINY, quick::EXP_RANGE>(t), [=] { return silu<Part<float>>(x); });
}

LUCID_LANES Part<float> tanh(Part<float> x) {
    constexpr int64_t RANGE = 0x4045000000000000;  // 42
    const auto t = wide(x);
    const auto e = quick::growth(t + t).less_one();
    return quick::settled(with_sign(e * about_inverse(e + 2.0), t), quick::Within<quick::ZERO, RANGE>(t),
                          [=] { return tanh<Part<float>>(x); });
}

LUCID_LANES Part<float> sinh(Part<float> x) {
    const auto t = wide(x);
    const auto e = quick::growth(magnitude(t)).less_one();
    return quick::settled(with_sign(0.5 * (e + e * about_inverse(e + 1.0)), t), quick::Within<quick::ZERO, quick::EXP_RANGE>(t),
                          [=] { return sinh<Part<float>>(x); });
}

LUCID_LANES Part<float> cosh(Part<float> x) {
    const auto t = wide(x);
    const auto e = quick::growth(t).value();
    return quick::settled(0.5 * (e + about_inverse(e)), quick::Within<quick::ZERO, quick::EXP_RANGE>(t),
                          [=] { return cosh<Part<float>>(x); });
}

LUCID_LANES Part<float> gelu_tanh(Part<float> x) {
    const auto t = wide(x);
    const auto u = t * (GELU_C0 + GELU_C1 * (t * t));
    return quick::settled(t * about_inverse(1.0 + quick::growth(-u).value()), quick::Within<quick::TINY, quick::GELU_RANGE>(t),
                          [=] { return gelu_tanh<Part<float>>(x); });
}

LUCID_LANES Part<float> sin(Part<float> x) {
    const auto t = wide(x);
    const auto a = quick::angle(t, 0.5 * TWO_OVER_PI, 0.0, quick::PI_HIGH, quick::PI_LOW);
    return quick::settled(quick::sine(a, a.r), quick::Within<quick::ZERO, quick::SINE_RANGE>(t), [=] { return sin<Part<float>>(x); });
}

LUCID_LANES Part<float> cos(Part<float> x) {
    const auto t = wide(x);
    const auto a = quick::angle(t, 0.5 * TWO_OVER_PI, 0.5, quick::PI_HIGH, quick::PI_LOW);
    return quick::settled(quick::sine(a, -a.r), quick::Within<quick::ZERO, quick::SINE_RANGE>(t), [=] { return cos<Part<float>>(x); });
}

LUCID_LANES Part<float> tan(Part<float> x) {
    const auto t = wide(x);
    const auto a = quick::angle(t, TWO_OVER_PI, 0.0, 0.5 * quick::PI_HIGH, 0.5 * quick::PI_LOW);
    const auto y = a.r * quick::polynomial(quick::TANGENT, a.r * a.r);
    return quick::settled((bits(a.turns) & 1) == 1 ? -about_inverse(y) : y, quick::Within<quick::ZERO, quick::SINE_RANGE>(t),
                          [=] { return tan<Part<float>>(x); });
}

LUCID_LANES Part<float> arctan(Part<float> x) {
    constexpr int64_t RANGE = 0x43B0000000000000;  // 2^60
    const auto t = wide(x), a = magnitude(t);
    const auto low = a <= TAN_PI_8, high = a > 1.0 / TAN_PI_8;
    const auto numerator = low ? a : high ? splat(-1.0) : a - 1.0, divisor = low ? splat(1.0) : high ? a : a + 1.0;
    const auto q = numerator * about_inverse(divisor), turn = low ? splat(0.0) : high ? splat(PI_HALF) : splat(0.5 * PI_HALF);
    const auto y = about_fma(q, quick::polynomial(quick::ARCTANGENT, q * q), turn);
    return quick::settled(with_sign(y, t), quick::Within<quick::ZERO, RANGE>(t), [=] { return arctan<Part<float>>(x); });
}

LUCID_LANES Part<float> arcsin(Part<float> x) {
    const auto t = wide(x);
    const quick::Arc arc(t);
    return quick::settled(with_sign(arc.steep ? PI_HALF - (arc.y + arc.y) : arc.y, t), quick::Within<quick::ZERO, quick::BELOW_ONE>(t),
                          [=] { return arcsin<Part<float>>(x); });
}

LUCID_LANES Part<float> arccos(Part<float> x) {
    const auto t = wide(x);
    const quick::Arc arc(t);
    const auto twice = arc.y + arc.y, steep = t > 0.0 ? twice : PI - twice;
    return quick::settled(arc.steep ? steep : PI_HALF - with_sign(arc.y, t), quick::Within<quick::ZERO, quick::BELOW_ONE>(t),
                          [=] { return arccos<Part<float>>(x); });
}

LUCID_LANES Part<float> log(Part<float> x) {
    const auto t = wide(x);
    const auto l = quick::logarithm(t);
    return quick::settled(about_fma(l.k, splat(LN2), l.value), quick::Positive(t), [=] { return log<Part<float>>(x); });
}

LUCID_LANES Part<float> log2(Part<float> x) {
    const auto t = wide(x);
    const auto l = quick::logarithm(t);
    return quick::settled(about_fma(l.value, splat(INV_LN2), l.k), quick::Positive(t), [=] { return log2<Part<float>>(x); });
}

LUCID_LANES Part<float> log1p(Part<float> x) {
    const auto t = wide(x), u = 1.0 + t;
    const auto n = bits(u) - SQRT_HALF_BITS;
    const auto k = floating(n >> 52), f = from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - 1.0;
    const auto y = about_fma(k, splat(LN2), quick::logarithm_of(k == 0.0 ? t : f));
    return quick::settled(with_sign(y, t), quick::Positive(u), [=] { return log1p<Part<float>>(x); });
}

}  // namespace scalar
}  // namespace LUCID_ISA
}  // namespace lucid
