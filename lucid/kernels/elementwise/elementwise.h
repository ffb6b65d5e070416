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
