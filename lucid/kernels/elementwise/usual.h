// Functions of printed.h for a vector of usual numbers: the same roundings, without what no element of it needs. What printed.h calls
// with a vector is then these. (A product that is exact may be a part of an fma; scaling by a power of two that leaves a normal
// number is adding to the exponent.)
#pragma once

#include "printed.h"

namespace lucid {
namespace LUCID_ISA {
namespace scalar {

// a b + c, where a b is exact.
LUCID_LANES Vec<double> exact_fma(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(LUCID_HARDWARE_FMA)
    return fma(a, b, c);
#else
    return a * b + c;
#endif
}

LUCID_LANES Vec<double> exp64(Vec<double> x) {
    constexpr int64_t LARGE = 0x4085E00000000000;  // 700: no result is infinite or subnormal before
    if (any_above(bits(x) & 0x7FFFFFFFFFFFFFFF, LARGE)) return exp64<Vec<double>>(x);
    const auto turns = x * INV_LN2 + MAGIC;
    const auto k = turns - MAGIC;
    const auto hi = exact_fma(k, splat(-LN2_HI), x);
    const auto lo = k * LN2_LO;
    const auto r = hi - lo;
    const auto t = r * r;
    const auto c = r - (t * (P1 + (t * (P2 + (t * (P3 + (t * (P4 + (t * P5)))))))));
    const auto y = 1.0 - ((lo - ((r * c) / (2.0 - c))) - hi);
    return from_bits(bits(y) + shifted_left(bits(turns), 52));
}

LUCID_LANES Vec<double> log64(Vec<double> x) {
    constexpr int64_t INFINITE = 0x7FF0000000000000, NORMAL = 0x0010000000000000;
    if (any_above(bits(x) - NORMAL, INFINITE - NORMAL - 1)) return log64<Vec<double>>(x);
    const auto n = bits(x) - SQRT_HALF_BITS;
    const auto k = floating(n >> 52);
    const auto f = from_bits((n & FRACTION_BITS) + SQRT_HALF_BITS) - 1.0;
    const auto s = f / (2.0 + f);
    const auto z = s * s;
    const auto w = z * z;
    const auto t1 = w * (LG2 + (w * (LG4 + (w * LG6))));
    const auto t2 = z * (LG1 + (w * (LG3 + (w * (LG5 + (w * LG7))))));
    const auto h = (0.5 * f) * f;
    return exact_fma(k, splat(LN2_HI), f - (h - ((s * (h + (t2 + t1))) + (k * LN2_LO))));
}

}  // namespace scalar
}  // namespace LUCID_ISA
}  // namespace lucid
