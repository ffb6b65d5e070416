// The vector of one instruction set: width, loads, stores, broadcast and an exact fma. The only file of the kernels
// that knows instructions. The build sets LUCID_ISA (a namespace's name) and LUCID_VECTOR_BYTES.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
#define LUCID_HARDWARE_FMA 1
#endif

namespace lucid {
namespace LUCID_ISA {

constexpr int VECTOR_BYTES = LUCID_VECTOR_BYTES;

template <class T>
struct VecOf {
    typedef T aligned __attribute__((vector_size(VECTOR_BYTES)));
    typedef T unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
    typedef T part __attribute__((vector_size(VECTOR_BYTES / 8 * int(sizeof(T)))));
};
template <class T>
using Vec = typename VecOf<T>::aligned;
template <class T>
constexpr int LANES = VECTOR_BYTES / int(sizeof(T));
// As many values as a vector has doubles.
template <class T>
using Part = typename VecOf<T>::part;

template <class T>
inline Vec<T> load(const T* p) {
    return *reinterpret_cast<const typename VecOf<T>::unaligned*>(p);
}
template <class T>
inline void store(T* p, Vec<T> v) {
    *reinterpret_cast<typename VecOf<T>::unaligned*>(p) = v;
}

// Broadcast: written with intrinsics, since a loop over lanes becomes a shuffle, which costs a slot of the fma's port.
#if defined(__AVX512F__)
inline Vec<float> splat(float v) { return (Vec<float>)_mm512_set1_ps(v); }
inline Vec<double> splat(double v) { return (Vec<double>)_mm512_set1_pd(v); }
#elif defined(__AVX2__)
inline Vec<float> splat(float v) { return (Vec<float>)_mm256_set1_ps(v); }
inline Vec<double> splat(double v) { return (Vec<double>)_mm256_set1_pd(v); }
#elif defined(__aarch64__)
inline Vec<float> splat(float v) { return (Vec<float>)vdupq_n_f32(v); }
inline Vec<double> splat(double v) { return (Vec<double>)vdupq_n_f64(v); }
#else
template <class T>
inline Vec<T> splat(T value) {
    Vec<T> v;
    for (int i = 0; i < LANES<T>; ++i) v[i] = value;
    return v;
}
#endif

// `wide` values for float64 sums: one (V = double) or a vector of them, from either dtype.
template <class V, class T>
inline V load_wide(const T* p) {
    if constexpr (sizeof(V) == sizeof(double)) {
        return V(*p);
    } else if constexpr (sizeof(T) == sizeof(double)) {
        return load(p);
#if defined(__AVX512F__)
    } else if constexpr (sizeof(V) == 64) {  // the compiler would convert two halves and join them
        return (V)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined(__AVX2__)
    } else if constexpr (sizeof(V) == 32) {
        return (V)_mm256_cvtps_pd(_mm_loadu_ps(p));
#endif
    } else {
        typedef T half __attribute__((vector_size(VECTOR_BYTES / 2), aligned(sizeof(T)), may_alias));
        return __builtin_convertvector(*reinterpret_cast<const half*>(p), V);
    }
}

// A part of float32 as float64, and the nearest float32. (GCC 12 takes the plain intrinsics' don't-care operand for an
// uninitialised variable; with a full mask the instruction is the same.)
#if defined(__AVX512F__)
inline Vec<double> wide(Part<float> x) { return (Vec<double>)_mm512_maskz_cvtps_pd(0xFF, (__m256)x); }
inline Part<float> made(Vec<double> x, Part<float>*) { return (Part<float>)_mm512_maskz_cvtpd_ps(0xFF, (__m512d)x); }
#elif defined(__AVX2__)
inline Vec<double> wide(Part<float> x) { return (Vec<double>)_mm256_cvtps_pd((__m128)x); }
inline Part<float> made(Vec<double> x, Part<float>*) { return (Part<float>)_mm256_cvtpd_ps((__m256d)x); }
#elif defined(__SSE2__)  // the compiler would convert one by one
inline Vec<double> wide(Part<float> x) {
    return (Vec<double>)_mm_cvtps_pd((__m128)_mm_loadl_epi64(reinterpret_cast<const __m128i*>(&x)));
}
inline Part<float> made(Vec<double> x, Part<float>*) {
    Part<float> y;
    _mm_storel_epi64(reinterpret_cast<__m128i*>(&y), (__m128i)_mm_cvtpd_ps((__m128d)x));
    return y;
}
#else
inline Vec<double> wide(Part<float> x) { return __builtin_convertvector(x, Vec<double>); }
inline Part<float> made(Vec<double> x, Part<float>*) { return __builtin_convertvector(x, Part<float>); }
#endif

#if defined(__AVX512F__)
inline Vec<float> square_root(Vec<float> x) { return (Vec<float>)_mm512_maskz_sqrt_ps(0xFFFF, (__m512)x); }
inline Vec<double> square_root(Vec<double> x) { return (Vec<double>)_mm512_maskz_sqrt_pd(0xFF, (__m512d)x); }
#elif defined(__AVX2__)
inline Vec<float> square_root(Vec<float> x) { return (Vec<float>)_mm256_sqrt_ps((__m256)x); }
inline Vec<double> square_root(Vec<double> x) { return (Vec<double>)_mm256_sqrt_pd((__m256d)x); }
#else
template <class V>
inline V square_root(V x) {
    for (unsigned i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = sizeof(x[0]) == 4 ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
    return x;
}
#endif

// One rounding, on every machine.
inline double fma1(double a, double b, double c) { return __builtin_fma(a, b, c); }

#if defined(LUCID_HARDWARE_FMA)
inline float fma1(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
// Without an fma instruction: the product of two float32 is exact in float64; the sum is rounded to odd there (Boldo
// and Melquiond, 2008), so that the second rounding, to float32, is the only one that counts.
inline float fma1(float a, float b, float c) {
    const double p = double(a) * double(b), d = double(c);
    const double s = p + d;
    const double t = s - p;
    const double e = (p - (s - t)) + (d - t);
    union {
        double d;
        uint64_t u;
    } bits{s};
    const bool inexact = e == e && e != 0.0;
    const uint64_t toward_zero = (e > 0) != (s > 0);
    if (inexact && !(bits.u & 1)) bits.u = bits.u + 1 - 2 * toward_zero;
    return float(bits.d);
}
#endif

#if defined(__AVX512F__)
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif defined(__AVX2__) && defined(__FMA__)
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#elif defined(__aarch64__)
inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
    return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
    return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
template <class V>
inline V fma(V a, V b, V c) {
    V r;
    for (unsigned i = 0; i < sizeof(V) / sizeof(a[0]); ++i) r[i] = fma1(a[i], b[i], c[i]);
    return r;
}
#endif

// a b + c, rounded once where that costs no more than twice: for what need not have the same bits everywhere.
template <class V>
inline V about_fma(V a, V b, V c) {
#if defined(LUCID_HARDWARE_FMA)
    return fma(a, b, c);
#else
    return a * b + c;
#endif
}

// 1 / x within 2^-40 of it, for a normal x whose inverse is normal; its bits differ from machine to machine.
inline Vec<double> about_inverse(Vec<double> x) {
#if defined(__AVX512F__)
    const Vec<double> y = (Vec<double>)_mm512_maskz_rcp14_pd(0xFF, (__m512d)x), rest = fma(-x, y, splat(1.0));
    return fma(y, fma(rest, rest, rest), y);
#else
    return 1.0 / x;
#endif
}

// sqrt(x) likewise, for a positive x.
inline Vec<double> about_root(Vec<double> x) {
#if defined(__AVX512F__)
    const Vec<double> y = (Vec<double>)_mm512_maskz_rsqrt14_pd(0xFF, (__m512d)x), s = x * y, half = 0.5 * y;
    const Vec<double> rest = fma(-s, half, splat(0.5)), nearer = fma(s, rest, s);
    return fma(fma(-nearer, nearer, x), fma(half, rest, half), nearer);
#else
    return square_root(x);
#endif
}

// Whether a comparison holds in any of the lanes.
inline bool any(Vec<int64_t> holds) {
#if defined(__AVX512F__)
    return _mm512_movepi64_mask((__m512i)holds) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_pd((__m256d)holds) != 0;
#else
    bool found = false;
    for (int i = 0; i < LANES<int64_t>; ++i) found |= holds[i] != 0;
    return found;
#endif
}

// An entry of a table for each lane, by the last places of its number: of LUCID_PICKS entries, as many as cost no more than an
// addition.
#if defined(__AVX512F__)
#define LUCID_PICKS 8
inline Vec<int64_t> pick(const int64_t (&table)[8], Vec<int64_t> places) {
    return (Vec<int64_t>)_mm512_permutexvar_epi64((__m512i)places, _mm512_loadu_si512(table));
}
#else
#define LUCID_PICKS 1
inline int64_t pick(const int64_t (&table)[1], Vec<int64_t>) { return table[0]; }
#endif

// Whether any bit is set.
inline bool any_set(Part<int32_t> n) {
#if defined(__AVX512F__)
    return !_mm256_testz_si256((__m256i)n, (__m256i)n);
#else
    int32_t all = 0;
    for (unsigned i = 0; i < sizeof(n) / sizeof(int32_t); ++i) all |= n[i];
    return all != 0;
#endif
}

// Whether any lane, taken without a sign, is above `limit`; and whether any lane has none of these places.
inline bool any_above(Vec<int64_t> n, int64_t limit) {
#if defined(__AVX512F__)  // the compiler would make vectors of masks, and masks of them
    return _mm512_cmpgt_epu64_mask((__m512i)n, _mm512_set1_epi64(limit)) != 0;
#else
    return any((Vec<int64_t>)((typename VecOf<uint64_t>::aligned)n > uint64_t(limit)));
#endif
}
inline bool any_without(Vec<int64_t> n, int64_t places) {
#if defined(__AVX512F__)
    return _mm512_testn_epi64_mask((__m512i)n, _mm512_set1_epi64(places)) != 0;
#else
    return any((n & places) == 0);
#endif
}

template <class T>
inline T smaller(T a, T b) {
    return a < b ? a : b;
}
template <class T>
inline T larger(T a, T b) {
    return a > b ? a : b;
}

}  // namespace LUCID_ISA
}  // namespace lucid
