// Softmax and loss: ARITHMETIC.md, section 9.
#pragma once

#include "../elementwise/map.h"
#include "../reduce/reduce.h"

namespace lucid {
namespace LUCID_ISA {

using scalar::exp64;
using scalar::log64;

// A row as float64, in the buffer where it is not. (The compiler makes vectors of a loop over one dtype.)
inline const double* widened(const double* x, int64_t, double*) { return x; }
inline const double* widened(const float* x, int64_t n, double* buffer) {
    for (int64_t i = 0; i < n; ++i) buffer[i] = double(x[i]);
    return buffer;
}

template <class T>
static void log_softmax(int64_t rows, int64_t classes, const T* x, T* y) {
    parallel_range(rows, 1, [&](int64_t begin, int64_t end) {
        double* buffer = static_cast<double*>(std::malloc(size_t(classes) * sizeof(double)));
        for (int64_t r = begin; r < end; ++r) {
            const T* from = x + r * classes;
            T top = from[0];
            for (int64_t c = 1; c < classes; ++c) top = extreme<T, true>(top, from[c]);
            const double m = double(top);
            const double* wide_row = widened(from, classes, buffer);
            const double total = ordered_sum(classes, [&](int64_t c) { return exp64(wide_row[c] - m); });
            const double logarithm = log64(total);
            for (int64_t c = 0; c < classes; ++c) y[r * classes + c] = T((double(from[c]) - m) - logarithm);
        }
        std::free(buffer);
    });
}

template <class T>
static void log_softmax_grad(int64_t rows, int64_t classes, const T* dy, const T* y, T* dx) {
    parallel_range(rows, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin * classes; i < end * classes; i += classes) {
            const double total = ordered_sum(classes, [&](int64_t c) { return double(dy[i + c]); });
            for (int64_t c = 0; c < classes; ++c)
                dx[i + c] = T(double(dy[i + c]) - exp64(double(y[i + c])) * total);
        }
    });
}

// The sum over the rows that are not left out; value(n) is a term.
template <class Value>
static double kept_sum(int64_t rows, const int64_t* target, int64_t ignore, const Value& value) {
    int64_t* kept = static_cast<int64_t*>(std::malloc(size_t(rows + 1) * sizeof(int64_t)));
    int64_t count = 0;
    for (int64_t n = 0; n < rows; ++n)
        if (target[n] != ignore) kept[count++] = n;
    const double total = ordered_sum(count, [&](int64_t i) { return value(kept[i]); });
    std::free(kept);
    return total;
}

template <class T>
static void nll_loss(int64_t rows, int64_t classes, const T* logp, const int64_t* target, const T* weight,
                     int64_t ignore, Reduction reduction, T* loss, double* weight_sum) {
    const auto weight_of = [&](int64_t n) { return weight ? double(weight[target[n]]) : 1.0; };
    const auto term = [&](int64_t n) { return -(weight_of(n) * double(logp[n * classes + target[n]])); };
    *weight_sum = kept_sum(rows, target, ignore, weight_of);
    if (reduction == Reduction::none) {
        for (int64_t n = 0; n < rows; ++n) loss[n] = target[n] == ignore ? T(0) : T(term(n));
        return;
    }
    const double total = kept_sum(rows, target, ignore, term);
    *loss = T(reduction == Reduction::sum ? total : total / *weight_sum);
}

template <class T>
static void nll_loss_grad(int64_t rows, int64_t classes, const T* dloss, const int64_t* target, const T* weight,
                          int64_t ignore, Reduction reduction, const double* weight_sum, T* dlogp) {
    for (int64_t i = 0; i < rows * classes; ++i) dlogp[i] = T(0);
    for (int64_t n = 0; n < rows; ++n) {
        if (target[n] == ignore) continue;
        double q = double(dloss[reduction == Reduction::none ? n : 0]);
        if (reduction == Reduction::mean) q = q / *weight_sum;
        dlogp[n * classes + target[n]] = T(-((weight ? double(weight[target[n]]) : 1.0) * q));
    }
}

}  // namespace LUCID_ISA
}  // namespace lucid
