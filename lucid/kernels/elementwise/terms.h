// The terms of functions.py in C++; terms.py says what each means. Here they take one number, on the CPU, a GPU and its emulator;
// and, where there are vectors (vec.h), a vector of numbers. Each instruction set has its own, in its namespace.
#pragma once

#include "../functions.h"

#ifdef LUCID_VECTOR_BYTES
#include "../vec.h"
#else
#define LUCID_ISA device  // a GPU, or its emulator
#endif

#ifdef __CUDACC__
#define LUCID_LANES __device__ inline
#define LUCID_TABLE __device__ constexpr int64_t
#else
#define LUCID_LANES static inline __attribute__((always_inline))
#define LUCID_TABLE constexpr int64_t
#endif

namespace lucid {
namespace LUCID_ISA {

#ifdef __CUDACC__
LUCID_LANES float square_root(float x) { return __fsqrt_rn(x); }
LUCID_LANES double square_root(double x) { return __dsqrt_rn(x); }
LUCID_LANES float magnitude(float x) { return fabsf(x); }
LUCID_LANES double magnitude(double x) { return fabs(x); }
LUCID_LANES float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
LUCID_LANES double fma(double a, double b, double c) { return __fma_rn(a, b, c); }
#else
LUCID_LANES float square_root(float x) { return __builtin_sqrtf(x); }
LUCID_LANES double square_root(double x) { return __builtin_sqrt(x); }
LUCID_LANES float magnitude(float x) { return __builtin_fabsf(x); }
LUCID_LANES double magnitude(double x) { return __builtin_fabs(x); }
#ifndef LUCID_VECTOR_BYTES
LUCID_LANES float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
LUCID_LANES double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#endif
#endif

LUCID_LANES double wide(float x) { return double(x); }
LUCID_LANES double wide(double x) { return x; }
LUCID_LANES float made(double x, float*) { return float(x); }
LUCID_LANES double made(double x, double*) { return x; }
LUCID_LANES int64_t bits(double x) { return int64_t(bits_of(x)); }
LUCID_LANES double from_bits(int64_t n) { return double_of(uint64_t(n)); }
LUCID_LANES int64_t shifted_left(int64_t n, int places) { return int64_t(uint64_t(n) << places); }

#ifdef LUCID_VECTOR_BYTES
LUCID_LANES Vec<double> wide(Vec<double> x) { return x; }
LUCID_LANES Vec<double> made(Vec<double> x, Vec<double>*) { return x; }
// One number beside every element. (x - 0 is x, -0 and NaN too.)
LUCID_LANES Vec<float> made(double x, Vec<float>*) { return splat(float(x)); }
LUCID_LANES Vec<double> made(double x, Vec<double>*) { return splat(x); }
LUCID_LANES Part<float> made(double x, Part<float>*) { return float(x) - Part<float>{}; }
LUCID_LANES Vec<int64_t> bits(Vec<double> x) { return (Vec<int64_t>)x; }
LUCID_LANES Vec<double> from_bits(Vec<int64_t> n) { return (Vec<double>)n; }
LUCID_LANES Vec<int64_t> shifted_left(Vec<int64_t> n, int places) { return n << places; }
LUCID_LANES Vec<double> magnitude(Vec<double> x) { return (Vec<double>)((Vec<int64_t>)x & 0x7FFFFFFFFFFFFFFF); }
LUCID_LANES Vec<float> magnitude(Vec<float> x) { return (Vec<float>)((Vec<int32_t>)x & 0x7FFFFFFF); }
#endif

template <class W>
LUCID_LANES W with_sign(W x, W sign) {
    constexpr int64_t SIGN = -0x7FFFFFFFFFFFFFFF - 1;
    return from_bits((bits(x) & ~SIGN) | (bits(sign) & SIGN));
}

template <class V, class W>
LUCID_LANES V narrow(W x) {
    return made(x, static_cast<V*>(nullptr));
}

template <class V>
LUCID_LANES V number(double x) {
    return made(x, static_cast<V*>(nullptr));
}

// Two numbers whose sum is meant.
template <class V>
struct Pair {
    V value, rest;
};

// Likewise, and a third one.
template <class V>
struct Triple {
    V value, rest, turns;
};

// A number taken out of a table of integers: of a place outside of it the result means nothing.
template <int COUNT>
LUCID_LANES int64_t at(const int64_t (&table)[COUNT], int64_t place) {
    return table[place < 0 ? 0 : place < COUNT ? place : COUNT - 1];
}

// slow() where the condition holds, else `usual`; computed only if it holds somewhere.
LUCID_LANES bool any(bool condition) { return condition; }
#ifdef LUCID_VECTOR_BYTES
template <int COUNT>
LUCID_LANES Vec<int64_t> at(const int64_t (&table)[COUNT], Vec<int64_t> place) {
    Vec<int64_t> found;
    for (int i = 0; i < LANES<int64_t>; ++i) found[i] = at(table, place[i]);
    return found;
}
#endif
template <class C, class F, class V>
LUCID_LANES Triple<V> rare(C condition, const F& slow, const Triple<V>& usual) {
    if (!any(condition)) return usual;
    const Triple<V> other = slow();
    return {condition ? other.value : usual.value, condition ? other.rest : usual.rest,
            condition ? other.turns : usual.turns};
}

LUCID_LANES bool single(float) { return true; }
LUCID_LANES bool single(double) { return false; }
#ifdef LUCID_VECTOR_BYTES
LUCID_LANES bool single(Part<float>) { return true; }
LUCID_LANES bool single(Vec<double>) { return false; }
#endif

// Of float32, `result` where x is `place`: see `nearest` of terms.py.
LUCID_LANES float amended(float y, float x, float place, float result) { return x == place ? result : y; }
LUCID_LANES double amended(double y, double, float, float) { return y; }
#ifdef LUCID_VECTOR_BYTES
LUCID_LANES Vec<double> amended(Vec<double> y, Vec<double>, float, float) { return y; }
LUCID_LANES Part<float> amended(Part<float> y, Part<float> x, float place, float result) {
    return x == number<Part<float>>(place) ? number<Part<float>>(result) : y;
}
#endif

constexpr double MAGIC = 6755399441055744.0;  // 1.5 * 2^52: what is added to it has no room for a fraction
constexpr int64_t MAGIC_BITS = 0x4338000000000000;

template <class W>
LUCID_LANES auto integer(W x) {
    return bits(x + MAGIC) - MAGIC_BITS;
}

template <class I>
LUCID_LANES auto floating(I n) {
    return from_bits(n + MAGIC_BITS) - MAGIC;
}

template <class I>
LUCID_LANES auto power_of_two(I n) {
    return from_bits(shifted_left(n + 1023, 52));
}

#ifdef LUCID_VECTOR_BYTES
// For vectors printed.h calls these of usual.h.
namespace scalar {
LUCID_LANES Vec<double> exp64(Vec<double> x);
LUCID_LANES Vec<double> log64(Vec<double> x);
}  // namespace scalar
#endif

}  // namespace LUCID_ISA
}  // namespace lucid
