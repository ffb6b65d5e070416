// The exponentials of a row and their sum, nearly: softmax and attention narrow what they make of them from both ends of the
// doubt, and where that makes a difference take the law's sums.
#pragma once

#include "../elementwise/map.h"

namespace lucid {
namespace LUCID_ISA {

// How far a sum of exponentials may be from the law's, in parts of it: its terms are within 2^-48, and a chain of
// additions has a 16th of them here, and at most SEGMENT + GROUP and each group there.
inline double doubt_of_sum(int64_t count) { return 0x1p-43 + double(count) * 0x1p-56; }

// e[i] = exp(x[i] - most), nearly, if there is an e; and their sum. No x is above `most`, which is finite.
static double sum_exponentials(int64_t count, const float* x, double most, double* e) {
    using V = Vec<double>;
    constexpr int64_t LANE = LANES<double>;
    constexpr double LOWEST = -600.0;  // its power is +0 in every float32 and in the sum of a row, in which one is 1
    const auto terms = [most](Part<float> from) {
        const V z = wide(from) - splat(most);
        return scalar::quick::growth(z < LOWEST ? splat(LOWEST) : z).value();
    };
    V sum = {}, other = {};
    int64_t i = 0;
    for (; i + 2 * LANE <= count; i += 2 * LANE) {
        const V a = terms(taken<Part<float>>(x + i)), b = terms(taken<Part<float>>(x + i + LANE));
        if (e) store(e + i, a), store(e + i + LANE, b);
        sum = sum + a;
        other = other + b;
    }
    double total = 0.0;
    for (; i < count; i += LANE) {
        const int64_t left = smaller(LANE, count - i);
        const V a = terms(taken<Part<float>>(x + i, left));
        for (int64_t j = 0; j < left; ++j) total = total + a[j];
        if (e) put(e + i, a, left);
    }
    sum = sum + other;
    for (int64_t j = 0; j < LANE; ++j) total = total + sum[j];
    return total;
}

// to[i] = narrow(low(i)), and whether narrow(high(i)) is always the same: `ends` writes both of a vector.
template <class Ends>
static bool narrow_both(int64_t count, float* to, const Ends& ends) {
    constexpr int64_t LANE = LANES<double>;
    Part<int32_t> differ = {};
    const auto narrowed = [&](int64_t i, int64_t left) {
        Vec<double> low, high;
        ends(i, left, low, high);
        const Part<float> value = narrow<Part<float>>(low);
        differ |= (Part<int32_t>)value ^ (Part<int32_t>)narrow<Part<float>>(high);
        return value;
    };
    int64_t i = 0;
    for (; i + LANE <= count; i += LANE) put(to + i, narrowed(i, LANE), LANE);
    if (i < count) put(to + i, narrowed(i, count - i), count - i);
    return !any_set(differ);
}

}  // namespace LUCID_ISA
}  // namespace lucid
