// Sums of rows that lie one after the other, in the order of ARITHMETIC.md, section 2: a vector has a lane for each row, so
// that several sums go on while each waits for its last term.
#pragma once

#include "reduce.h"

namespace lucid {
namespace LUCID_ISA {

constexpr int ROWS_SIDE_BY_SIDE = 8;

// m[i][k] = m[k][i].
static inline void exchange_lanes(Vec<double> (&m)[LANES<double>]) {
    constexpr int L = LANES<double>;
    using Mask = typename VecOf<int64_t>::aligned;
#pragma GCC unroll 3
    for (int d = L / 2; d > 0; d /= 2) {
        Mask low, high;
        for (int k = 0; k < L; ++k) {
            low[k] = k & d ? L + k - d : k;
            high[k] = k & d ? L + k : k + d;
        }
#pragma GCC unroll 8
        for (int i = 0; i < L; ++i) {
            if (i & d) continue;
            const Vec<double> a = m[i], b = m[i + d];
            m[i] = __builtin_shuffle(a, b, low);
            m[i + d] = __builtin_shuffle(a, b, high);
        }
    }
}

// totals[q] = the sum over i < count of the terms of row q, for as many rows as a vector has lanes. `vector(q, i)` are the
// terms from i on, `one(q, i)` is a term.
template <class Vector, class One>
static inline void sums_in_lanes(int64_t count, const Vector& vector, const One& one, double* totals) {
    constexpr int L = LANES<double>;
    using V = Vec<double>;
    V group = {}, total = {};
    const int64_t segments = (count + SEGMENT - 1) / SEGMENT;
    for (int64_t j = 0; j < segments; ++j) {
        V sum = {};
        const int64_t end = smaller<int64_t>(count, (j + 1) * SEGMENT);
        int64_t i = j * SEGMENT;
        for (; i + L <= end; i += L) {
            V m[L];
#pragma GCC unroll 8
            for (int q = 0; q < L; ++q) m[q] = vector(q, i);
            exchange_lanes(m);
#pragma GCC unroll 8
            for (int k = 0; k < L; ++k) sum = sum + m[k];
        }
        for (; i < end; ++i) {
            V m = {};
            for (int q = 0; q < L; ++q) m[q] = one(q, i);
            sum = sum + m;
        }
        group = j % GROUP == 0 ? sum : group + sum;
        if (j % GROUP == GROUP - 1 || j == segments - 1) total = j < GROUP ? group : total + group;
    }
    store(totals, total);
}

// The same of N rows, ROWS_SIDE_BY_SIDE or one.
template <int N, class Vector, class One>
static inline void sums_of_rows(int64_t count, const Vector& vector, const One& one, double* totals) {
    if constexpr (N == 1) {
        constexpr int L = LANES<double>;  // which divides a segment
        Vec<double> several = {};
        const int64_t whole = count / L * L;
        totals[0] = ordered_sum(count, [&](int64_t i) {
            if (i >= whole) return double(one(0, i));
            if (i % L == 0) several = vector(0, i);
            return double(several[i % L]);
        });
    } else {
        for (int q0 = 0; q0 < N; q0 += LANES<double>)
            sums_in_lanes(
                count, [&](int q, int64_t i) { return vector(q0 + q, i); },
                [&](int q, int64_t i) { return double(one(q0 + q, i)); }, totals + q0);
    }
}

// run(N, r, memory) for all rows by all threads: N = ROWS_SIDE_BY_SIDE of them from r on, the last ones one by one. Each
// thread has `bytes` of memory.
template <class Run>
static void rows_side_by_side(int64_t rows, int64_t grain, size_t bytes, const Run& run) {
    constexpr int SIDE = ROWS_SIDE_BY_SIDE;
    parallel_range((rows + SIDE - 1) / SIDE, grain, [&](int64_t begin, int64_t end) {
        void* memory = std::malloc(bytes);
        const int64_t last = smaller(rows, end * SIDE);
        int64_t r = begin * SIDE;
        for (; r + SIDE <= last; r += SIDE) run(Count<SIDE>{}, r, memory);
        for (; r < last; ++r) run(Count<1>{}, r, memory);
        std::free(memory);
    });
}

// `best`, or the largest of `top`; a NaN if `nan` has one.
template <class T>
static inline T largest_of_lanes(T best, const Vec<T>& top, const Vec<T>& nan) {
    for (int64_t i = 0; i < LANES<T>; ++i) best = extreme<T, true>(extreme<T, true>(best, top[i]), nan[i] != nan[i] ? nan[i] : best);
    return best;
}

// The largest of a row, NaN if there is one. (Which of equal zeros it is, is not told.)
template <class T>
static T largest_of_row(int64_t count, const T* x) {
    constexpr int64_t LANE = LANES<T>;
    T best = x[0];
    Vec<T> top = splat(best), nan = {};
    int64_t i = 0;
    for (; i + LANE <= count; i += LANE) {
        const Vec<T> v = load(x + i);
        top = v > top ? v : top;
        nan = v != v ? v : nan;
    }
    best = largest_of_lanes<T>(best, top, nan);
    for (; i < count; ++i) best = extreme<T, true>(best, x[i]);
    return best;
}

}  // namespace LUCID_ISA
}  // namespace lucid
