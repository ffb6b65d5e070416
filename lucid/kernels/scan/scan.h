// Products along an axis: ARITHMETIC.md, section 4.2. A row is a chain, so several go side by side.
#pragma once

#include <cstdlib>

#include "../kernels.h"
#include "../order.h"
#include "../threads.h"
#include "../tuning.h"
#include "../vec.h"

namespace lucid {
namespace LUCID_ISA {

constexpr int PRODUCTS_AT_ONCE = 16;  // rows whose products so far stay in registers [registers]

// `chain(count, at, apart)` for every `count` rows of (outer, terms, inner), at most PRODUCTS_AT_ONCE, whose first elements
// are at `at`, `at + apart`, ..
template <class Chain>
static void for_rows(int64_t outer, int64_t terms, int64_t inner, const Chain& chain) {
    constexpr int64_t N = PRODUCTS_AT_ONCE;
    const int64_t apart = inner > 1 ? 1 : terms, side = inner > 1 ? inner : outer;  // rows that lie `apart`
    const int64_t runs = (side + N - 1) / N, grain = larger<int64_t>(1, Tuning::GRAIN / larger<int64_t>(1, terms * smaller(N, side)));
    parallel_range((inner > 1 ? outer : 1) * runs, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t first = i % runs * N;
            chain(smaller(N, side - first), i / runs * terms * inner + first * apart, apart);
        }
    });
}

template <int N, class T>
static void products(int64_t terms, int64_t step, int64_t apart, const T* x, T* y) {
    double p[N];
    for (int q = 0; q < N; ++q) p[q] = 1.0;
    for (int64_t t = 0; t < terms; ++t, x += step, y += step)
        for (int q = 0; q < N; ++q) y[q * apart] = T(p[q] = p[q] * double(x[q * apart]));
}

template <class T>
static void cumprod(int64_t outer, int64_t terms, int64_t inner, const T* x, T* y) {
    for_rows(outer, terms, inner, [&](int64_t count, int64_t at, int64_t apart) {
        if (count == PRODUCTS_AT_ONCE) return products<PRODUCTS_AT_ONCE>(terms, inner, apart, x + at, y + at);
        for (int64_t q = 0; q < count; ++q) products<1>(terms, inner, apart, x + at + q * apart, y + at + q * apart);
    });
}

// `after` holds s, N numbers a term.
template <int N, class T>
static void product_slopes(int64_t terms, int64_t step, int64_t apart, const T* dy, const T* x, T* dx, double* after) {
    double s[N], p[N];
    for (int q = 0; q < N; ++q) s[q] = 0.0, p[q] = 1.0;
    for (int64_t t = terms - 1; t >= 0; --t)
        for (int q = 0; q < N; ++q) {
            const int64_t at = t * step + q * apart;
            s[q] = t == terms - 1 ? double(dy[at]) : double(dy[at]) + double(x[at + step]) * s[q];
            after[t * N + q] = s[q];
        }
    for (int64_t t = 0; t < terms; ++t)
        for (int q = 0; q < N; ++q) {
            const int64_t at = t * step + q * apart;
            dx[at] = T(t == 0 ? after[q] : p[q] * after[t * N + q]);
            p[q] = p[q] * double(x[at]);
        }
}

template <class T>
static void cumprod_grad(int64_t outer, int64_t terms, int64_t inner, const T* dy, const T* x, T* dx) {
    for_rows(outer, terms, inner, [&](int64_t count, int64_t at, int64_t apart) {
        const bool full = count == PRODUCTS_AT_ONCE;
        double* after = static_cast<double*>(std::malloc(size_t(terms * (full ? count : 1)) * sizeof(double)));
        if (full) product_slopes<PRODUCTS_AT_ONCE>(terms, inner, apart, dy + at, x + at, dx + at, after);
        for (int64_t q = at; !full && q < at + count * apart; q += apart)
            product_slopes<1>(terms, inner, apart, dy + q, x + q, dx + q, after);
        std::free(after);
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
