// The weights of attention: section 9.1 of ARITHMETIC.md. A block makes a row.
#include "../cuda/device.cuh"

namespace lucid {
namespace {

constexpr int ATTENTION_THREADS = 256;
constexpr int SIDE_BY_SIDE = 8;  // segments

// The sum of term(0) .. term(count - 1), which the block's threads compute side by side; every thread gets it.
template <class Term>
DEVICE double sum_over_keys(int64_t count, const Term& term) {
    __shared__ double terms[SIDE_BY_SIDE * SEGMENT], segment_sum[SIDE_BY_SIDE], result;
    SegmentSums sums;
    for (int64_t c0 = 0; c0 < count; c0 += SIDE_BY_SIDE * SEGMENT) {
        const int here = int(smaller<int64_t>(SIDE_BY_SIDE * SEGMENT, count - c0));
        for (int i = threadIdx.x; i < here; i += ATTENTION_THREADS) terms[i] = term(c0 + i);
        __syncthreads();
        const int segments = (here + SEGMENT - 1) / SEGMENT, own = int(threadIdx.x);
        if (own < segments) {
            double sum = 0.0;
            for (int i = own * SEGMENT; i < smaller(here, (own + 1) * SEGMENT); ++i) sum = sum + terms[i];
            segment_sum[own] = sum;
        }
        __syncthreads();
        if (threadIdx.x == 0)
            for (int j = 0; j < segments; ++j) sums.add(segment_sum[j]);
    }
    if (threadIdx.x == 0) result = sums.finish();
    __syncthreads();
    return result;
}

// The largest of value(0) .. value(count - 1).
template <class Value>
DEVICE T largest_of_keys(int64_t count, const Value& value) {
    __shared__ T best[ATTENTION_THREADS];
    const int own = int(threadIdx.x);
    T found = value(0);
    for (int64_t i = own; i < count; i += ATTENTION_THREADS) {
        const T v = value(i);
        found = beats<true>(v, found) ? v : found;
    }
    best[own] = found;
    for (int half = ATTENTION_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (own < half && beats<true>(best[own + half], best[own])) best[own] = best[own + half];
    }
    __syncthreads();
    return best[0];
}

}  // namespace

KERNEL(attention_weights, ATTENTION_THREADS, int64_t rows, int64_t queries, int64_t keys, const T* scores,
       Maybe<const T> mask, const int64_t* places, int64_t mask_step, double scale, bool causal, T* weights) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const int64_t t = row % queries, seen = causal ? smaller<int64_t>(keys, t + 1) : keys;
        const T* from = scores + row * keys;
        const T* added = mask ? mask + places[row / queries] + t * mask_step : nullptr;
        const T factor = T(scale);
        const auto value = [=](int64_t j) {
            const T scaled = from[j] * factor;
            return added ? scaled + added[j] : scaled;
        };
        const double m = double(largest_of_keys(seen, value));
        const bool none = m == -double_of(0x7FF0000000000000ull);
        const double r = 1.0 / sum_over_keys(seen, [=](int64_t j) { return exp64(double(value(j)) - m); });
        for (int64_t j = threadIdx.x; j < keys; j += ATTENTION_THREADS)
            weights[row * keys + j] = none || j >= seen ? T(0) : T(exp64(double(value(j)) - m) * r);
        __syncthreads();
    }
}

KERNEL(attention_weights_grad, ATTENTION_THREADS, int64_t rows, int64_t queries, int64_t keys, const T* dweights,
       const T* weights, bool causal, T* dscores) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const int64_t seen = causal ? smaller<int64_t>(keys, row % queries + 1) : keys;
        const T *g = dweights + row * keys, *p = weights + row * keys;
        const double total = sum_over_keys(seen, [=](int64_t j) { return double(p[j]) * double(g[j]); });
        for (int64_t j = threadIdx.x; j < keys; j += ATTENTION_THREADS)
            dscores[row * keys + j] = j >= seen ? T(0) : T(double(p[j]) * (double(g[j]) - total));
        __syncthreads();
    }
}

}  // namespace lucid
