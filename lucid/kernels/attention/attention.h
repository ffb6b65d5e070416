// Attention: ARITHMETIC.md, section 9.1. The fused kernels take the queries block by block: the scores of a block are all that
// is ever there of them, and both contractions are those of gemm.h.
#pragma once

#include "../contraction/conv.h"
#include "../elementwise/map.h"
#include "../loss/exponentials.h"
#include "../reduce/rows.h"

namespace lucid {
namespace LUCID_ISA {

using scalar::exp64;

constexpr double NO_KEY = -__builtin_inf();

// Keys that a query looks at.
inline int64_t seen_keys(int64_t query, int64_t keys, bool causal) { return causal ? smaller(keys, query + 1) : keys; }

// The sums of rows of `pitch` terms, of which `count` are not +0.
static inline void sums_of(int rows, int64_t count, int64_t pitch, const double* terms, double* totals) {
    const auto vector = [=](int q, int64_t i) { return load(terms + q * pitch + i); };
    const auto one = [=](int q, int64_t i) { return terms[q * pitch + i]; };
    if (rows == ROWS_SIDE_BY_SIDE) return sums_of_rows<ROWS_SIDE_BY_SIDE>(count, vector, one, totals);
    for (int q = 0; q < rows; ++q)
        sums_of_rows<1>(
            count, [=](int, int64_t i) { return vector(q, i); }, [=](int, int64_t i) { return one(q, i); }, totals + q);
}

// Scores and masks of one head.
template <class T>
struct Weights {
    int64_t keys;
    T scale;
    const T* mask;  // of query 0
    int64_t mask_step;
    bool causal;
};

// to[j] = scores[j] * scale + mask[j]; returns the largest, a NaN if there is one.
template <class T>
static T scale_row(int64_t count, T scale, const T* mask, const T* scores, T* to) {
    constexpr int64_t LANE = LANES<T>;
    const Vec<T> factor = splat(scale);
    Vec<T> top = splat(T(NO_KEY)), nan = {};
    int64_t j = 0;
    for (; j + LANE <= count; j += LANE) {
        Vec<T> a = load(scores + j) * factor;
        if (mask) a = a + load(mask + j);
        store(to + j, a);
        top = a > top ? a : top;
        nan = a != a ? a : nan;
    }
    T best = largest_of_lanes<T>(T(NO_KEY), top, nan);
    for (; j < count; ++j) {
        T a = scores[j] * scale;
        if (mask) a = a + mask[j];
        to[j] = a;
        best = extreme<T, true>(best, a);
    }
    return best;
}

// e[j] = exp64(a[j] - m).
template <class T>
static void map_exp(int64_t count, const T* a, double m, double* e) {
    using V = Vec<double>;
    constexpr int64_t LANE = LANES<double>;
    const V top = splat(m);
    int64_t j = 0;
    for (; j + LANE <= count; j += LANE) store(e + j, exp64(load_wide<V>(a + j) - top));
    for (; j < count; ++j) e[j] = exp64(double(a[j]) - m);
}

// The weights of a row of scores, scaled, the largest of which is m; or false where its sum would have to be nearer. They go to the
// beginning of e.
template <class T>
static bool weights_of_row_quick(int64_t count, const T* a, double m, double* e) {
    if constexpr (sizeof(T) == sizeof(float)) {
        if (!(magnitude(m) <= 0x1p100)) return false;
        const double factor = 1.0 / sum_exponentials(count, a, m, e), doubt = doubt_of_sum(count);
        const auto least = splat(factor * (1.0 - doubt)), largest = splat(factor * (1.0 + doubt));
        return narrow_both(count, reinterpret_cast<T*>(e), [=](int64_t i, int64_t left, auto& low, auto& high) {
            const auto value = taken<Vec<double>>(e + i, left);
            low = value * least;
            high = value * largest;
        });
    }
    return false;
}

// The weights of the queries query0 .., a row each; `e` has room for ROWS_SIDE_BY_SIDE rows of `limit`, to which keys are looked at.
template <class T>
static void weights_of_rows(const Weights<T>& w, int64_t query0, int64_t rows, int64_t limit, int64_t pitch, const T* scores,
                            T* weights, double* e) {
    for (int64_t r0 = 0; r0 < rows; r0 += ROWS_SIDE_BY_SIDE) {
        const int side = int(smaller<int64_t>(ROWS_SIDE_BY_SIDE, rows - r0));
        double total[ROWS_SIDE_BY_SIDE], largest[ROWS_SIDE_BY_SIDE];
        bool none[ROWS_SIDE_BY_SIDE], settled = true;
        int64_t most = 0;
        for (int q = 0; q < side; ++q) most = larger(most, seen_keys(query0 + r0 + q, limit, w.causal));
        for (int q = 0; q < side; ++q) {
            const int64_t query = query0 + r0 + q, seen = seen_keys(query, limit, w.causal);
            T* const to = weights + (r0 + q) * pitch;
            double* const row = e + q * limit;
            const T* const mask = w.mask ? w.mask + query * w.mask_step : nullptr;
            const double m = double(scale_row(seen, w.scale, mask, scores + (r0 + q) * pitch, to));
            none[q] = m == NO_KEY;
            largest[q] = m;
            settled = settled && weights_of_row_quick(seen, to, m, row);
        }
        for (int q = 0; q < side; ++q) {
            const int64_t seen = seen_keys(query0 + r0 + q, limit, w.causal);
            T* const to = weights + (r0 + q) * pitch;
            double* const row = e + q * limit;
            if (settled) {
                copy_values(to, reinterpret_cast<const T*>(row), seen);
                for (int64_t j = seen; j < limit; ++j) to[j] = T(0);
                continue;
            }
            map_exp(seen, to, largest[q], row);
            for (int64_t j = seen; j < most; ++j) row[j] = 0.0;
        }
        if (settled) continue;
        sums_of(side, most, limit, e, total);
        for (int q = 0; q < side; ++q) {
            T* const to = weights + (r0 + q) * pitch;
            const double* const row = e + q * limit;
            const double factor = 1.0 / total[q];
            const int64_t seen = none[q] ? 0 : seen_keys(query0 + r0 + q, limit, w.causal);
            for (int64_t j = 0; j < seen; ++j) to[j] = T(row[j] * factor);
            for (int64_t j = seen; j < limit; ++j) to[j] = T(0);
        }
    }
}

// dscores from weights and their gradient, likewise; then times `scale`. dscores may be dweights.
template <class T>
static void grads_of_rows(bool causal, T scale, int64_t query0, int64_t rows, int64_t limit, int64_t pitch, const T* dweights,
                          const T* weights, T* dscores, double* e) {
    for (int64_t r0 = 0; r0 < rows; r0 += ROWS_SIDE_BY_SIDE) {
        const int side = int(smaller<int64_t>(ROWS_SIDE_BY_SIDE, rows - r0));
        double total[ROWS_SIDE_BY_SIDE];
        int64_t most = 0;
        for (int q = 0; q < side; ++q) most = larger(most, seen_keys(query0 + r0 + q, limit, causal));
        for (int q = 0; q < side; ++q) {
            const int64_t seen = seen_keys(query0 + r0 + q, limit, causal), at = (r0 + q) * pitch;
            double* const row = e + q * limit;
            for (int64_t j = 0; j < seen; ++j) row[j] = double(weights[at + j]) * double(dweights[at + j]);
            for (int64_t j = seen; j < most; ++j) row[j] = 0.0;
        }
        sums_of(side, most, limit, e, total);
        for (int q = 0; q < side; ++q) {
            const int64_t seen = seen_keys(query0 + r0 + q, limit, causal), at = (r0 + q) * pitch;
            for (int64_t j = 0; j < seen; ++j)
                dscores[at + j] = T(double(weights[at + j]) * (double(dweights[at + j]) - total[q])) * scale;
            for (int64_t j = seen; j < limit; ++j) dscores[at + j] = T(0);
        }
    }
}

// Memory of a thread, kept from call to call: `block_memory` is the contraction's.
static BlockMemory& attention_memory() {
    static thread_local BlockMemory memory;
    return memory;
}

template <class T>
static void attention_weights(int64_t rows, int64_t queries, int64_t keys, const T* scores, const T* mask,
                              const int64_t* places, int64_t mask_step, double scale, bool causal, T* weights) {
    const int64_t batch = rows / larger<int64_t>(queries, 1), blocks = (queries + ROWS_SIDE_BY_SIDE - 1) / ROWS_SIDE_BY_SIDE;
    parallel_range(batch * blocks, 1, [&](int64_t begin, int64_t end) {
        double* e = static_cast<double*>(
            attention_memory().reserve(size_t(ROWS_SIDE_BY_SIDE * keys) * sizeof(double) + CACHE_LINE));
        for (int64_t i = begin; i < end; ++i) {
            const int64_t b = i / blocks, t = i % blocks * ROWS_SIDE_BY_SIDE, at = (b * queries + t) * keys;
            const Weights<T> w{keys, T(scale), mask ? mask + places[b] : nullptr, mask_step, causal};
            weights_of_rows(w, t, smaller<int64_t>(ROWS_SIDE_BY_SIDE, queries - t), keys, keys, scores + at, weights + at, e);
        }
    });
}

template <class T>
static void attention_weights_grad(int64_t rows, int64_t queries, int64_t keys, const T* dweights, const T* weights,
                                   bool causal, T* dscores) {
    const int64_t batch = rows / larger<int64_t>(queries, 1), blocks = (queries + ROWS_SIDE_BY_SIDE - 1) / ROWS_SIDE_BY_SIDE;
    parallel_range(batch * blocks, 1, [&](int64_t begin, int64_t end) {
        double* e = static_cast<double*>(
            attention_memory().reserve(size_t(ROWS_SIDE_BY_SIDE * keys) * sizeof(double) + CACHE_LINE));
        for (int64_t i = begin; i < end; ++i) {
            const int64_t t = i % blocks * ROWS_SIDE_BY_SIDE, at = (i / blocks * queries + t) * keys;
            grads_of_rows(causal, T(1), t, smaller<int64_t>(ROWS_SIDE_BY_SIDE, queries - t), keys, keys, dweights + at,
                          weights + at, dscores + at, e);
        }
    });
}

// -- fused ------------------------------------------------------------------------------------------------------------------

// A[m, k] at a[m * lda + k], C at y[m * ldy + n].
template <class T>
struct StridedSource {
    static constexpr bool BY_PIXEL = false;
    using TileA = PackedTile<T>;
    using Buffer = RowBuffer<T>;
    const T* a;
    int64_t lda;
    T* y;
    int64_t ldy;

    void rows(const RowTile& tile, T** to) const {
        for (int i = 0; i < tile.rows; ++i) to[i] = y + (tile.m0 + i) * ldy;
    }
    void prefetch(const RowTile&, Prefetch&) const {}
    PackedTile<T> tile(const RowTile& tile, const RowTile&, int64_t, Buffer& memory) const {
        const auto [m0, rows, k0, length] = tile;
        for (int i = 0; i < rows; ++i) copy_values(memory.values + i * Tuning::A_PITCH, a + (m0 + i) * lda + k0, length);
        return {memory.values};
    }
};

// A[m, k] at a[k * lda + m], read where it lies.
template <class T>
struct TransposedTile {
    const T* at;
    int64_t ld;
    const T* column(int k) const { return at + k * ld; }
    T element(const T* column, int i) const { return column[i]; }
    void prefetch(const Prefetch::Run&, int64_t, int, int) const {}
};

template <class T>
struct TransposedSource {
    static constexpr bool BY_PIXEL = false;
    using TileA = TransposedTile<T>;
    struct Buffer {};
    const T* a;
    int64_t lda;
    T* y;
    int64_t ldy;

    void rows(const RowTile& tile, T** to) const {
        for (int i = 0; i < tile.rows; ++i) to[i] = y + (tile.m0 + i) * ldy;
    }
    void prefetch(const RowTile&, Prefetch&) const {}
    TransposedTile<T> tile(const RowTile& tile, const RowTile&, int64_t, Buffer&) const {
        return {a + tile.k0 * lda + tile.m0, lda};
    }
};

// C = A B in this thread.
template <class T, class Source>
static void gemm_alone(int64_t m, int64_t n, int64_t k, const T* b, int64_t ldb, const Source& source) {
    if (m <= 0 || n <= 0) return;
    if (k <= 0) {
        for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j) source.y[i * source.ldy + j] = T(0);
        return;
    }
    const Problem<T> p{m, n, k, b, ldb, m, {}};
    const RowTiles tiles(m, m);
    const int64_t wide = Tuning::NC_BYTES / int64_t(sizeof(T)), columns = (n + wide - 1) / wide;
    for (int64_t i = 0; i < columns; ++i)
        MacroKernel<T, Source>(p, source, tiles, Blocks{1, columns}, i).loop_over_segments();
}

// The transpose of a (rows, width) matrix as panels: what has a row for each k, `width` of them.
template <class T>
static void pack_transpose(int64_t rows, int64_t width, const T* from, T* panels) {
    constexpr int64_t NR = PANEL<T>;
    for (int64_t r0 = 0; r0 < rows; r0 += NR) {
        const int64_t here = smaller(NR, rows - r0);
        T* const panel = panels + r0 * width;
        for (int64_t k = 0; k < width; ++k) {
            for (int64_t r = 0; r < here; ++r) panel[k * NR + r] = from[(r0 + r) * width + k];
            for (int64_t r = here; r < NR; ++r) panel[k * NR + r] = T(0);
        }
    }
}

template <class T>
static bool all_finite(int64_t n, const T* x) {
    T sum = T(0);
    for (int64_t i = 0; i < n; ++i) sum = sum + (x[i] - x[i]) * T(0);  // NaN stays
    return sum == sum;
}

// Terms of a contraction that are +0 times a finite number change nothing but the sign of a zero: where some were left out, the
// sum is added to +0.
template <class T>
static void add_zero(int64_t rows, int64_t columns, T* y) {
    for (int64_t i = 0; i < rows * columns; ++i) y[i] = y[i] + T(0);
}

// Values of T, each part from a new line on.
template <class T>
struct Parts {
    char* at;
    template <class V>
    V* take(int64_t count) {
        V* p = reinterpret_cast<V*>(at);
        at += (size_t(count) * sizeof(V) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
        return p;
    }
};

constexpr int64_t BLOCK_BYTES = 384 * 1024;  // of scores, which stay in the second-level cache

inline int64_t whole_runs(int64_t terms) { return (terms + RUN - 1) / RUN * RUN; }

template <class T>
static void attention(int64_t batch, int64_t queries, int64_t keys, int64_t width, int64_t out, const T* q, const T* k,
                      const int64_t* key_places, const T* v, const int64_t* value_places, const T* mask,
                      const int64_t* places, int64_t mask_step, double scale, bool causal, T* y) {
    const int64_t pitch = keys + CACHE_LINE / int64_t(sizeof(T)), fit = BLOCK_BYTES / int64_t(sizeof(T)) / pitch;
    const int64_t rows = larger<int64_t>(ROWS_SIDE_BY_SIDE, smaller<int64_t>(128, fit) / ROWS_SIDE_BY_SIDE * ROWS_SIDE_BY_SIDE);
    const int64_t blocks = (queries + rows - 1) / rows;
    // A task packs the keys for its blocks: as few tasks as keep the threads busy.
    const int64_t wanted = (Tuning::TASKS_A_THREAD * num_threads() + batch - 1) / larger<int64_t>(batch, 1);
    const int64_t parts = num_threads() == 1 ? 1 : larger<int64_t>(1, smaller(blocks, wanted));
    const int64_t packed = packed_size<T>(width, keys);
    parallel(batch * parts, [&](int64_t task) {
        const int64_t b = task / parts, part = task % parts;
        const size_t bytes = size_t(packed + rows * pitch) * sizeof(T) + size_t(ROWS_SIDE_BY_SIDE * keys) * sizeof(double);
        Parts<T> memory{static_cast<char*>(attention_memory().reserve(bytes + 4 * CACHE_LINE))};
        T* const panels = memory.template take<T>(packed);
        T* const scores = memory.template take<T>(rows * pitch);
        double* const e = memory.template take<double>(ROWS_SIDE_BY_SIDE * keys);
        const T* const values = v + value_places[b];
        pack_transpose(keys, width, k + key_places[b], panels);
        const bool skips = causal && all_finite(keys * out, values);
        const Weights<T> w{keys, T(scale), mask ? mask + places[b] : nullptr, mask_step, causal};
        for (int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; ++block) {
            const int64_t t = block * rows, here = smaller(rows, queries - t);
            const int64_t limit = skips ? smaller(keys, whole_runs(t + here)) : keys;
            T* const to = y + (b * queries + t) * out;
            gemm_alone(here, limit, width, panels, PACKED, StridedSource<T>{q + (b * queries + t) * width, width, scores, pitch});
            weights_of_rows(w, t, here, limit, pitch, scores, scores, e);
            gemm_alone(here, out, limit, values, out, StridedSource<T>{scores, pitch, to, out});
            if (limit < keys) add_zero(here, out, to);
        }
    });
}

// C = A^T B over a block of queries, one segment of the contraction over all of them: added to what came before.
template <class T>
static void add_segment(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, bool first, T* segment, T* sum) {
    const TransposedSource<T> source{a, lda, first ? sum : segment, n};
    gemm_alone(m, n, k, b, n, source);
    if (first) return;
    for (int64_t i = 0; i < m * n; ++i) sum[i] = sum[i] + segment[i];
}

template <class T>
static void attention_grad(int64_t batch, int64_t queries, int64_t keys, int64_t width, int64_t out, const T* dy, const T* q,
                           const T* k, const int64_t* key_places, const T* v, const int64_t* value_places, const T* mask,
                           const int64_t* places, int64_t mask_step, double scale, bool causal, T* dq, T* dk, T* dv) {
    const int64_t pitch = keys + CACHE_LINE / int64_t(sizeof(T)), widest = larger(width, out);
    const int64_t rows = smaller<int64_t>(SEGMENT, queries), groups = (queries + GROUP * SEGMENT - 1) / (GROUP * SEGMENT);
    const int64_t packed = packed_size<T>(width, keys), packed_values = packed_size<T>(out, keys);
    parallel(batch, [&](int64_t b) {
        const size_t values_of_t = size_t(packed + packed_values + 2 * rows * pitch + 3 * keys * widest);
        const size_t bytes = values_of_t * sizeof(T) + size_t(ROWS_SIDE_BY_SIDE * keys) * sizeof(double);
        Parts<T> memory{static_cast<char*>(attention_memory().reserve(bytes + 12 * CACHE_LINE))};
        T* const panels = memory.template take<T>(packed);
        T* const value_panels = memory.template take<T>(packed_values);
        T* const p = memory.template take<T>(rows * pitch);
        T* const ds = memory.template take<T>(rows * pitch);
        T* const segment = memory.template take<T>(keys * widest);
        T* const group_k = memory.template take<T>(keys * width);
        T* const group_v = memory.template take<T>(keys * out);
        double* const e = memory.template take<double>(ROWS_SIDE_BY_SIDE * keys);
        const T *const own_k = k + key_places[b], *const own_v = v + value_places[b];
        const T *const own_q = q + b * queries * width, *const own_dy = dy + b * queries * out;
        T *const own_dk = dk + b * keys * width, *const own_dv = dv + b * keys * out;
        pack_transpose(keys, width, own_k, panels);
        pack_transpose(keys, out, own_v, value_panels);
        const bool skips = causal && groups == 1 && all_finite(keys * width, own_k) && all_finite(queries * width, own_q) &&
                           all_finite(queries * out, own_dy);
        const Weights<T> w{keys, T(scale), mask ? mask + places[b] : nullptr, mask_step, causal};
        if (queries == 0 || skips) {
            for (int64_t i = 0; i < keys * width; ++i) own_dk[i] = T(0);
            for (int64_t i = 0; i < keys * out; ++i) own_dv[i] = T(0);
        }
        for (int64_t t = 0; t < queries; t += SEGMENT) {
            const int64_t here = smaller<int64_t>(SEGMENT, queries - t), number = t / SEGMENT;
            const int64_t limit = skips ? smaller(keys, whole_runs(t + here)) : keys;
            const bool beside = number >= GROUP, first = number % GROUP == 0;
            gemm_alone(here, limit, width, panels, PACKED, StridedSource<T>{own_q + t * width, width, p, pitch});
            weights_of_rows(w, t, here, limit, pitch, p, p, e);
            gemm_alone(here, limit, out, value_panels, PACKED, StridedSource<T>{own_dy + t * out, out, ds, pitch});
            grads_of_rows(causal, T(scale), t, here, limit, pitch, ds, p, ds, e);
            T* const to = dq + (b * queries + t) * width;
            gemm_alone(here, width, limit, own_k, width, StridedSource<T>{ds, pitch, to, width});
            if (limit < keys) add_zero(here, width, to);
            add_segment(limit, width, here, ds, pitch, own_q + t * width, first, segment, beside ? group_k : own_dk);
            add_segment(limit, out, here, p, pitch, own_dy + t * out, first, segment, beside ? group_v : own_dv);
            if (!beside || (number % GROUP != GROUP - 1 && t + here < queries)) continue;
            for (int64_t i = 0; i < keys * width; ++i) own_dk[i] = own_dk[i] + group_k[i];
            for (int64_t i = 0; i < keys * out; ++i) own_dv[i] = own_dv[i] + group_v[i];
        }
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid
