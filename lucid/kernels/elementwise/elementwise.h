// The functions of each element (ARITHMETIC.md, sections 5 and 6), and the exchange of axes.
#pragma once

#include "map.h"
#include "transpose.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
static void unary(Unary op, int64_t n, const T* x, T* y) {
    switch (op) {
#define LUCID_CASE(name, wide) \
    case Unary::name: return map<wide>(n, y, [](auto v) { return scalar::name(v); }, x);
        LUCID_UNARY(LUCID_CASE)
#undef LUCID_CASE
    }
}

template <class T>
static void binary(Binary op, int64_t n, const T* a, const T* b, T* y) {
    switch (op) {
#define LUCID_CASE(name, wide) \
    case Binary::name: return map<wide>(n, y, [](auto u, auto v) { return scalar::name(u, v); }, a, b);
        LUCID_BINARY(LUCID_CASE)
#undef LUCID_CASE
    }
}

template <class T>
static void binary_over(Binary op, int64_t outer, int64_t middle, int64_t inner, const T* a, int64_t a_outer,
                        int64_t a_middle, int64_t a_inner, const T* b, int64_t b_outer, int64_t b_middle,
                        int64_t b_inner, T* y) {
    const Over<T> first{a, a_outer, a_middle, a_inner}, second{b, b_outer, b_middle, b_inner};
    switch (op) {
#define LUCID_CASE(name, wide)                                                                                     \
    case Binary::name:                                                                                             \
        return map_over<wide>(outer, middle, inner, y, [](auto u, auto v) { return scalar::name(u, v); }, first, second);
        LUCID_BINARY(LUCID_CASE)
#undef LUCID_CASE
    }
}

template <class T>
static void power(int64_t n, const T* x, double exponent, T* y) {
    if (exponent == 0.5) return map<false>(n, y, [](auto v) { return scalar::power_root(v); }, x);
    if (exponent == 3.0) return map<true>(n, y, [](auto v) { return scalar::power_cube(v); }, x);
    if (exponent == -1.0 || exponent == 0.0 || exponent == 1.0 || exponent == 2.0) {
        const int64_t whole = int64_t(exponent);
        return map<false>(n, y, [=](auto v) { return scalar::power_whole(v, whole); }, x);
    }
    map<true>(n, y, [=](auto v) { return scalar::power_real(v, exponent); }, x);
}

}  // namespace LUCID_ISA
}  // namespace lucid
