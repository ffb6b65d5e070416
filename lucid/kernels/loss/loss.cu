// Softmax and loss: section 9 of ARITHMETIC.md. Rows lie side by side; a block makes a row.
#include "../cuda/device.cuh"

namespace lucid {
namespace {

enum Reduction { NONE, SUM, MEAN };

constexpr int LOSS_THREADS = 256;
constexpr int SEGMENTS_AT_ONCE = 8;

// The sum of term(0) .. term(count - 1), which the block's threads compute side by side; every thread gets it.
template <class Term>
DEVICE double row_sum(int64_t count, const Term& term) {
    __shared__ double terms[SEGMENTS_AT_ONCE * SEGMENT], segment_sum[SEGMENTS_AT_ONCE], result;
    SegmentSums sums;
    for (int64_t c0 = 0; c0 < count; c0 += SEGMENTS_AT_ONCE * SEGMENT) {
        const int here = int(smaller<int64_t>(SEGMENTS_AT_ONCE * SEGMENT, count - c0));
        for (int i = threadIdx.x; i < here; i += LOSS_THREADS) terms[i] = term(c0 + i);
        __syncthreads();
        const int segments = (here + SEGMENT - 1) / SEGMENT;
        const int own = int(threadIdx.x);
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

// The largest of a row. (Which of equal zeros it is changes nothing: x - m is added to a logarithm that is not zero then.)
DEVICE T row_maximum(int64_t count, const T* x) {
    __shared__ T best[LOSS_THREADS];
    const int own = int(threadIdx.x);
    T value = x[0];
    for (int64_t i = own; i < count; i += LOSS_THREADS) value = beats<true>(x[i], value) ? x[i] : value;
    best[own] = value;
    for (int half = LOSS_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (own < half && beats<true>(best[own + half], best[own])) best[own] = best[own + half];
    }
    __syncthreads();
    return best[0];
}

}  // namespace

KERNEL(log_softmax, LOSS_THREADS, int64_t rows, int64_t classes, const T* x, T* y) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* from = x + row * classes;
        const double m = double(row_maximum(classes, from));
        const double logarithm = log64(row_sum(classes, [=](int64_t c) { return exp64(double(from[c]) - m); }));
        for (int64_t c = threadIdx.x; c < classes; c += LOSS_THREADS)
            y[row * classes + c] = T((double(from[c]) - m) - logarithm);
        __syncthreads();
    }
}

KERNEL(log_softmax_grad, LOSS_THREADS, int64_t rows, int64_t classes, const T* dy, const T* y, T* dx) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const int64_t at = row * classes;
        const double total = row_sum(classes, [=](int64_t c) { return double(dy[at + c]); });
        for (int64_t c = threadIdx.x; c < classes; c += LOSS_THREADS)
            dx[at + c] = T(double(dy[at + c]) - exp64(double(y[at + c])) * total);
        __syncthreads();
    }
}

// One block: its threads make the terms, its first thread adds those of rows that are not left out.
KERNEL(nll_loss, LOSS_THREADS, int64_t rows, int64_t classes, const T* logp, const int64_t* target, const T* weight,
       int64_t ignore, int32_t reduction, T* loss, double* weight_sum) {
    __shared__ double term[LOSS_THREADS], row_weight[LOSS_THREADS];
    __shared__ bool kept[LOSS_THREADS];
    OrderedSum losses, weights;
    for (int64_t r0 = 0; r0 < rows; r0 += LOSS_THREADS) {
        const int64_t row = r0 + threadIdx.x;
        if (row < rows) {
            const int64_t t = target[row];
            const bool keep = t != ignore;
            const double w = keep && weight ? double(weight[t]) : 1.0;
            const double value = keep ? -(w * double(logp[row * classes + t])) : 0.0;
            kept[threadIdx.x] = keep;
            term[threadIdx.x] = value;
            row_weight[threadIdx.x] = w;
            if (reduction == NONE) loss[row] = T(value);
        }
        __syncthreads();
        if (threadIdx.x == 0)
            for (int i = 0; i < smaller<int64_t>(LOSS_THREADS, rows - r0); ++i)
                if (kept[i]) {
                    losses.add(term[i]);
                    weights.add(row_weight[i]);
                }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        const double divisor = weights.finish(), total = losses.finish();
        *weight_sum = divisor;
        if (reduction != NONE) *loss = T(reduction == SUM ? total : total / divisor);
    }
}

KERNEL(nll_loss_grad, LOSS_THREADS, int64_t rows, int64_t classes, const T* dloss, const int64_t* target, const T* weight,
       int64_t ignore, int32_t reduction, const double* weight_sum, T* dlogp) {
    for (int64_t at = first_index(); at < rows * classes; at += index_step()) {
        const int64_t row = at / classes, t = target[row];
        T value = T(0);
        if (t != ignore && t == at % classes) {
            double q = double(dloss[reduction == NONE ? row : 0]);
            if (reduction == MEAN) q = q / *weight_sum;
            value = T(-((weight ? double(weight[t]) : 1.0) * q));
        }
        dlogp[at] = value;
    }
}

}  // namespace lucid
