// Reductions, and sums along an axis, in the order of ARITHMETIC.md, section 2: `column_sums` runs any number of float64 sums per column over
// the rows of a matrix, one segment after another; batch normalisation and `reduce` say what a row contributes.
#pragma once

#include <cstdlib>
#include <type_traits>

#include "../constant.h"
#include "../kernels.h"
#include "../order.h"
#include "../threads.h"
#include "../tuning.h"
#include "../vec.h"

namespace lucid {
namespace LUCID_ISA {

// Combines segment sums that lie `pitch` apart: segments to groups, groups to the total (section 2).
inline double combine_segments(const double* sums, int64_t segments, int64_t pitch) {
    if (segments == 0) return 0.0;
    double total = 0.0;
    for (int64_t g = 0; g < segments; g += GROUP) {
        double group = sums[g * pitch];
        for (int64_t j = g + 1; j < smaller(segments, g + int64_t(GROUP)); ++j) group = group + sums[j * pitch];
        total = g == 0 ? group : total + group;
    }
    return total;
}

template <class S>
struct Unaligned {
    typedef S type __attribute__((aligned(sizeof(double)), may_alias));
};

// `load_wide` of what is read from one end to the other: prefetches what lies some pages ahead, which the processor,
// seeing several rows at a time, does not guess.
template <class V, class T>
inline V load_near(const T* p) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + Tuning::STREAM_PREFETCH), 0, 3);
    return load_wide<V>(p);
}

// totals[q * columns + c] = the sum over rows r of term q of (r, c), for Q terms a row. `terms(r, c, out)` writes the
// terms at column c, or, where out is an array of vectors, at the columns of a vector from c on.
template <int Q, class Terms>
static void column_sums(int64_t rows, int64_t columns, const Terms& terms, double* totals) {
    using V = Vec<double>;
    constexpr int64_t LANE = LANES<double>, ROWS = Tuning::ROWS_AT_ONCE, COLUMNS = Tuning::COLUMNS_A_TASK;
    const int64_t segments = (rows + SEGMENT - 1) / SEGMENT;
    double* sums = static_cast<double*>(std::malloc(size_t(segments * Q * columns + 1) * sizeof(double)));
    const int64_t runs = (columns + COLUMNS - 1) / COLUMNS;
    parallel(segments * runs, [&](int64_t task) {
        const int64_t segment = task / runs;
        const int64_t r0 = segment * SEGMENT, r1 = smaller(rows, r0 + SEGMENT);
        const int64_t begin = task % runs * COLUMNS, end = smaller(columns, begin + COLUMNS);
        double* to = sums + segment * Q * columns;
        for (int q = 0; q < Q; ++q)
            for (int64_t c = begin; c < end; ++c) to[q * columns + c] = 0.0;
        const auto add = [&](auto zero, auto count, int64_t r, int64_t c) {
            using S = decltype(zero);  // one column, or a vector of them
            S sum[Q], term[Q];
            for (int q = 0; q < Q; ++q) sum[q] = load_wide<S>(to + q * columns + c);
            for (int64_t i = 0; i < count; ++i) {
                terms(r + i, c, term);
                for (int q = 0; q < Q; ++q) sum[q] = sum[q] + term[q];
            }
            for (int q = 0; q < Q; ++q) *reinterpret_cast<typename Unaligned<S>::type*>(to + q * columns + c) = sum[q];
        };
        const auto add_rows = [&](auto count, int64_t r) {
            int64_t c = begin;
            for (; c + LANE <= end; c += LANE) add(V{}, count, r, c);
            for (; c < end; ++c) add(0.0, count, r, c);
        };
        int64_t r = r0;
        for (; r + ROWS <= r1; r += ROWS) add_rows(Count<ROWS>{}, r);
        for (; r < r1; ++r) add_rows(Count<1>{}, r);
    });
    parallel_range(Q * columns, Tuning::COMBINE_COLUMNS, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) totals[i] = combine_segments(sums + i, segments, Q * columns);
    });
    std::free(sums);
}

// The sum of value(0) .. value(n-1).
template <class Value>
static double ordered_sum(int64_t n, const Value& value) {
    double total = 0.0, group = 0.0;
    const int64_t segments = (n + SEGMENT - 1) / SEGMENT;
    for (int64_t j = 0; j < segments; ++j) {
        double s = 0.0;
        for (int64_t i = j * SEGMENT; i < smaller<int64_t>(n, (j + 1) * SEGMENT); ++i) s = s + value(i);
        group = j % GROUP == 0 ? s : group + s;
        if (j % GROUP == GROUP - 1 || j == segments - 1) total = j < GROUP ? group : total + group;
    }
    return total;
}

// sums[j] = the sum of the whole segment j of a row whose terms are `step` apart, for the first `segments`, a multiple of
// SEGMENTS_AT_ONCE: they are independent, so some are summed side by side.
template <class T, class Step>
static void segment_sums(int64_t segments, Step step, const T* x, double* sums) {
    constexpr int SIDE = Tuning::SEGMENTS_AT_ONCE;
    parallel_range(segments / SIDE, Tuning::SEGMENTS_A_TASK, [&](int64_t begin, int64_t end) {
        for (int64_t j = begin * SIDE; j < end * SIDE; j += SIDE) {
            double s[SIDE] = {};
            const T* from = x + j * SEGMENT * step;
            for (int i = 0; i < SEGMENT; ++i)
                for (int q = 0; q < SIDE; ++q) s[q] = s[q] + double(from[(q * SEGMENT + i) * step]);
            for (int q = 0; q < SIDE; ++q) sums[j + q] = s[q];
        }
    });
}

// The sum of a contiguous row.
template <class T>
static double row_sum(int64_t n, const T* x) {
    constexpr int SIDE = Tuning::SEGMENTS_AT_ONCE;
    const int64_t segments = (n + SEGMENT - 1) / SEGMENT, at_once = n / SEGMENT / SIDE * SIDE;
    if (segments < SIDE + 1) return ordered_sum(n, [&](int64_t i) { return double(x[i]); });
    double* sums = static_cast<double*>(std::malloc(size_t(segments) * sizeof(double)));
    segment_sums(at_once, Count<1>{}, x, sums);
    for (int64_t j = at_once; j < segments; ++j)
        sums[j] = ordered_sum(smaller<int64_t>(SEGMENT, n - j * SEGMENT),
                              [&](int64_t i) { return double(x[j * SEGMENT + i]); });
    const double total = combine_segments(sums, segments, 1);
    std::free(sums);
    return total;
}

template <class T, bool MAX>
inline T extreme(T best, T value) {
    if (best != best) return best;
    if (value != value) return value;
    return (MAX ? value > best : value < best) ? value : best;
}

// How many results of so many terms are worth a task.
inline int64_t grain_of_sums(int64_t terms) { return larger<int64_t>(1, Tuning::GRAIN / larger<int64_t>(1, terms)); }

template <class T, bool MAX>
static void reduce_extreme(int64_t outer, int64_t terms, int64_t inner, const T* x, T* y) {
    parallel_range(outer * inner, grain_of_sums(terms), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const T* from = x + i / inner * terms * inner + i % inner;
            T best = from[0];
            for (int64_t t = 1; t < terms; ++t) best = extreme<T, MAX>(best, from[t * inner]);
            y[i] = best;
        }
    });
}

template <class T>
static void reduce_sums(bool mean, int64_t outer, int64_t terms, int64_t inner, const T* x, T* y) {
    const auto finish = [&](double total) { return T(mean ? total / double(terms) : total); };
    if (inner == 1) {
        parallel_range(outer, grain_of_sums(terms), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) y[i] = finish(row_sum(terms, x + i * terms));
        });
        return;
    }
    double* totals = static_cast<double*>(std::malloc(size_t(inner) * sizeof(double)));
    for (int64_t o = 0; o < outer; ++o) {
        const T* from = x + o * terms * inner;
        column_sums<1>(
            terms, inner,
            [&](int64_t r, int64_t c, auto* out) {
                using V = std::remove_reference_t<decltype(*out)>;
                out[0] = load_wide<V>(from + r * inner + c);
            },
            totals);
        for (int64_t i = 0; i < inner; ++i) y[o * inner + i] = finish(totals[i]);
    }
    std::free(totals);
}

template <class T>
static void reduce(Reduce op, int64_t outer, int64_t terms, int64_t inner, const T* x, T* y) {
    switch (op) {
        case Reduce::sum: return reduce_sums(false, outer, terms, inner, x, y);
        case Reduce::mean: return reduce_sums(true, outer, terms, inner, x, y);
        case Reduce::max: return reduce_extreme<T, true>(outer, terms, inner, x, y);
        case Reduce::min: return reduce_extreme<T, false>(outer, terms, inner, x, y);
    }
}

// -- sums along an axis: section 4.1 --------------------------------------------------------------------------------------

// What came before a segment: the groups, and the segments of its own group; +0 where there is none.
struct Before {
    double groups = 0.0, group = 0.0;
    void add(int64_t segment, double sum) {
        group = group + sum;
        if (segment % GROUP != GROUP - 1) return;
        groups = groups + group;
        group = 0.0;
    }
};

// A segment of N rows, which lie `apart`: y[t] = groups + (group + the sum of the segment's terms up to t). Returns in
// `sums` what they come to.
template <int N, class T, class Apart>
inline void cumsum_segment(int64_t terms, int64_t step, Apart apart, const Before* before, const T* x, T* y, double* sums) {
    double groups[N], group[N], sum[N];
    for (int q = 0; q < N; ++q) groups[q] = before[q].groups, group[q] = before[q].group, sum[q] = 0.0;
    for (int64_t t = 0; t < terms; ++t, x += step, y += step) {
        for (int q = 0; q < N; ++q) sum[q] = sum[q] + double(x[q * apart]);
        for (int q = 0; q < N; ++q) y[q * apart] = T(groups[q] + (group[q] + sum[q]));
    }
    for (int q = 0; q < N; ++q) sums[q] = sum[q];
}

// N rows that lie side by side, from segment `first` on.
template <int N, class T>
static void cumsum_rows(int64_t terms, int64_t step, Before* before, const T* x, T* y, int64_t first = 0) {
    double sums[N];
    for (int64_t j = first; j * SEGMENT < terms; ++j) {
        const int64_t at = j * SEGMENT, count = smaller<int64_t>(SEGMENT, terms - at);
        cumsum_segment<N>(count, step, Count<1>{}, before, x + at * step, y + at * step, sums);
        for (int q = 0; q < N; ++q) before[q].add(j, sums[q]);
    }
}

// One row; of a long one segments are summed first, so that they can go side by side.
template <class T>
static void cumsum_row(int64_t terms, int64_t step, const T* x, T* y) {
    constexpr int SIDE = Tuning::SEGMENTS_AT_ONCE;
    const int64_t at_once = terms / SEGMENT / SIDE * SIDE;
    Before now;
    if (at_once == 0) return cumsum_rows<1>(terms, step, &now, x, y);
    double* sums = static_cast<double*>(std::malloc(size_t(at_once) * sizeof(double)));
    Before* before = static_cast<Before*>(std::malloc(size_t(at_once) * sizeof(Before)));
    segment_sums(at_once, step, x, sums);
    for (int64_t j = 0; j < at_once; ++j) {
        before[j] = now;
        now.add(j, sums[j]);
    }
    parallel_range(at_once / SIDE, Tuning::SEGMENTS_A_TASK, [&](int64_t begin, int64_t end) {
        for (int64_t j = begin * SIDE; j < end * SIDE; j += SIDE) {
            const int64_t at = j * SEGMENT * step;
            cumsum_segment<SIDE>(SEGMENT, step, SEGMENT * step, before + j, x + at, y + at, sums + j);
        }
    });
    cumsum_rows<1>(terms, step, &now, x, y, at_once);
    std::free(before);
    std::free(sums);
}

template <class T>
static void cumsum(int64_t outer, int64_t terms, int64_t inner, bool reverse, const T* x, T* y) {
    constexpr int SIDE = 2 * LANES<double>;  // rows whose sums, and what came before, stay in registers
    const int64_t first = reverse ? (terms - 1) * inner : 0, step = reverse ? -inner : inner;
    const int64_t pieces = (inner + SIDE - 1) / SIDE;  // of rows that lie side by side
    parallel_range(outer * pieces, grain_of_sums(terms * smaller<int64_t>(SIDE, inner)), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t column = i % pieces * SIDE, at = i / pieces * terms * inner + first + column;
            if (inner == 1) {
                cumsum_row(terms, step, x + at, y + at);
            } else if (column + SIDE <= inner) {
                Before before[SIDE];
                cumsum_rows<SIDE>(terms, step, before, x + at, y + at);
            } else {
                for (int64_t c = 0; c < inner - column; ++c) cumsum_row(terms, step, x + at + c, y + at + c);
            }
        }
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
