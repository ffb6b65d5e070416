// Reductions over the middle axis of (outer, terms, inner): sections 2 and 4 of ARITHMETIC.md. Segments are summed side by
// side in float64, then segments to groups, groups to totals; a kernel that makes the last level narrows it.
#include "../cuda/device.cuh"

namespace lucid {
namespace {

constexpr int REDUCE_THREADS = 256;
constexpr int ROWS = 32, COLUMNS = 32;  // of the tile that turns rows of terms into columns

// `count` parts, at least one, that lie `pitch` apart, added in order.
DEVICE double sum_of_parts(const double* parts, int64_t count, int64_t pitch) {
    double sum = parts[0];
    in_batches<8, double>(
        count - 1, [&](int64_t k) { return parts[(k + 1) * pitch]; }, [&](double part) { sum = sum + part; });
    return sum;
}

}  // namespace

// to[o, j, i] = the sum of segment j; a thread has one (o, j, i), and neighbours are neighbours in memory.
KERNEL(segment_sums, REDUCE_THREADS, int64_t outer, int64_t terms, int64_t inner, const T* x, double* to) {
    const int64_t segments = (terms + SEGMENT - 1) / SEGMENT;
    for (int64_t at = first_index(); at < outer * segments * inner; at += index_step()) {
        const int64_t i = at % inner, j = at / inner % segments, o = at / (inner * segments);
        const T* from = x + (o * terms + j * SEGMENT) * inner + i;
        double sum = 0.0;
        in_batches<16, T>(
            smaller<int64_t>(SEGMENT, terms - j * SEGMENT), [&](int64_t t) { return from[t * inner]; },
            [&](T value) { sum = sum + double(value); });
        to[at] = sum;
    }
}

// The same where inner is 1: terms of a segment lie side by side. A block takes ROWS segments, brings COLUMNS terms of each to shared
// memory in whole lines, and a thread a segment adds them.
KERNEL(segment_sums_of_rows, REDUCE_THREADS, int64_t outer, int64_t terms, const T* x, double* to) {
    __shared__ T tile[ROWS][COLUMNS + 1];
    const int64_t segments = (terms + SEGMENT - 1) / SEGMENT;
    const int column = threadIdx.x % COLUMNS, first_row = threadIdx.x / COLUMNS;
    for (int64_t at = int64_t(blockIdx.x) * ROWS; at < outer * segments; at += int64_t(gridDim.x) * ROWS) {
        double sum = 0.0;
        for (int t0 = 0; t0 < SEGMENT; t0 += COLUMNS) {
            for (int row = first_row; row < ROWS; row += REDUCE_THREADS / COLUMNS) {
                const int64_t j = (at + row) % segments, o = (at + row) / segments, t = j * SEGMENT + t0 + column;
                if (o < outer && t < terms) tile[row][column] = x[o * terms + t];
            }
            __syncthreads();
            const int64_t own = at + threadIdx.x;
            if (threadIdx.x < ROWS && own < outer * segments) {
                const int64_t left = terms - own % segments * SEGMENT - t0;
                for (int t = 0; t < smaller<int64_t>(COLUMNS, left); ++t) sum = sum + double(tile[threadIdx.x][t]);
            }
            __syncthreads();
        }
        if (threadIdx.x < ROWS && at + threadIdx.x < outer * segments) to[at + threadIdx.x] = sum;
    }
}

// to[o, p, i] = parts p * size .. of `parts` added in order.
KERNEL(combine_parts, REDUCE_THREADS, int64_t outer, int64_t count, int64_t inner, int64_t size, const double* parts,
       double* to) {
    const int64_t pieces = (count + size - 1) / size;
    for (int64_t at = first_index(); at < outer * pieces * inner; at += index_step()) {
        const int64_t i = at % inner, p = at / inner % pieces, o = at / (inner * pieces);
        const double* from = parts + (o * count + p * size) * inner + i;
        to[at] = sum_of_parts(from, smaller(size, count - p * size), inner);
    }
}

// The last level: all parts are one piece (or there is none: +0), divided by `divisor` for a mean, narrowed.
KERNEL(finish_parts, REDUCE_THREADS, int64_t outer, int64_t count, int64_t inner, bool mean, double divisor,
       const double* parts, T* y) {
    for (int64_t at = first_index(); at < outer * inner; at += index_step()) {
        const double* from = parts + at / inner * count * inner + at % inner;
        const double sum = count > 0 ? sum_of_parts(from, count, inner) : 0.0;
        y[at] = T(mean ? sum / divisor : sum);
    }
}

// y[o, t, i] = the sum of the terms up to t, or with `reverse` from t on (section 4.1). A row is (o, i); a thread takes a
// segment of it, so a block has several rows if they are short, and goes along a long one.
KERNEL(cumsum, REDUCE_THREADS, int64_t outer, int64_t terms, int64_t inner, bool reverse, const T* x, T* y) {
    __shared__ double sums[REDUCE_THREADS];
    const int64_t segments = (terms + SEGMENT - 1) / SEGMENT, step = reverse ? -inner : inner;
    int side = 1;  // segments of a row at once
    while (side < segments && side < REDUCE_THREADS) side *= 2;
    const int rows = REDUCE_THREADS / side, mine = threadIdx.x % rows;
    for (int64_t first = int64_t(blockIdx.x) * rows; first < outer * inner; first += int64_t(gridDim.x) * rows) {
        const int64_t row = first + mine;
        const int64_t start = row / inner * terms * inner + row % inner + (reverse ? (terms - 1) * inner : 0);
        SegmentSums before, own;
        for (int64_t j = 0; j < segments; j += side) {
            const int64_t t0 = (j + threadIdx.x / rows) * SEGMENT, from = start + t0 * step;
            const int64_t count = row < outer * inner ? larger<int64_t>(0, smaller<int64_t>(SEGMENT, terms - t0)) : 0;
            const auto term = [&](int64_t t) { return x[from + t * step]; };
            double sum = 0.0;
            if (segments > 1) {
                in_batches<16, T>(count, term, [&](T value) { sum = sum + double(value); });
                sums[threadIdx.x] = sum;
                __syncthreads();
                for (int q = 0; q < side; ++q) {
                    if (q == int(threadIdx.x) / rows) own = before;
                    before.add(sums[q * rows + mine]);
                }
                __syncthreads();
            }
            const double groups = own.segments < GROUP ? 0.0 : own.total;
            const double group = own.segments % GROUP == 0 ? 0.0 : own.group;
            sum = 0.0;
            int64_t to = from;
            in_batches<16, T>(count, term, [&](T value) {
                sum = sum + double(value);
                y[to] = T(groups + (group + sum));
                to += step;
            });
        }
    }
}

// The extreme of each row of terms, its index, or both.
KERNEL(extremes, REDUCE_THREADS, bool max, int64_t outer, int64_t terms, int64_t inner, const T* x, T* y, int64_t* index) {
    for (int64_t at = first_index(); at < outer * inner; at += index_step()) {
        const T* from = x + at / inner * terms * inner + at % inner;
        T best = from[0];
        int64_t where = 0, t = 0;
        in_batches<16, T>(
            terms - 1, [&](int64_t k) { return from[(k + 1) * inner]; },
            [&](T value) {
                ++t;
                const bool better = max ? beats<true>(value, best) : beats<false>(value, best);
                best = better ? value : best;
                where = better ? t : where;
            });
        if (y) y[at] = best;
        if (index) index[at] = where;
    }
}

}  // namespace lucid
