// Softmax and loss: ARITHMETIC.md, section 9.
#pragma once

#include "../elementwise/map.h"
#include "../reduce/rows.h"
#include "exponentials.h"

namespace lucid {
namespace LUCID_ISA {

using scalar::exp64;
using scalar::log64;

// N rows; `e` has room for them as float64.
template <int N, class T>
static void log_softmax_rows(int64_t classes, const T* x, double* e, T* y) {
    using V = Vec<double>;
    constexpr int64_t LANE = LANES<double>;
    double m[N], total[N];
    for (int q = 0; q < N; ++q) {
        const T* from = x + q * classes;
        double* to = e + q * classes;
        const double most = m[q] = double(largest_of_row(classes, from));
        int64_t c = 0;
        for (; c + LANE <= classes; c += LANE) store(to + c, exp64(load_wide<V>(from + c) - splat(most)));
        for (; c < classes; ++c) to[c] = exp64(double(from[c]) - most);
    }
    sums_of_rows<N>(
        classes, [=](int q, int64_t i) { return load(e + q * classes + i); },
        [=](int q, int64_t i) { return e[q * classes + i]; }, total);
    for (int q = 0; q < N; ++q) {
        const double logarithm = log64(total[q]), most = m[q];
        for (int64_t c = q * classes; c < (q + 1) * classes; ++c) y[c] = T((double(x[c]) - most) - logarithm);
    }
}

// One row, or false where its logarithm would have to be nearer.
static bool log_softmax_row_quick(int64_t classes, const float* x, float* y) {
    const double most = double(largest_of_row(classes, x)), doubt = doubt_of_sum(classes);
    if (!(magnitude(most) <= 0x1p100)) return false;
    const double logarithm = log64(sum_exponentials(classes, x, most, nullptr));
    const auto m = splat(most), least = splat(logarithm - doubt), largest = splat(logarithm + doubt);
    return narrow_both(classes, y, [=](int64_t i, int64_t count, auto& low, auto& high) {
        const auto z = wide(taken<Part<float>>(x + i, count)) - m;
        low = z - largest;
        high = z - least;
    });
}

template <int N, class T>
static bool log_softmax_quick(int64_t classes, const T* x, T* y) {
    if constexpr (sizeof(T) == sizeof(float)) {
        for (int q = 0; q < N; ++q)
            if (!log_softmax_row_quick(classes, x + q * classes, y + q * classes)) return false;
        return true;
    }
    return false;
}

template <class T>
static void log_softmax(int64_t rows, int64_t classes, const T* x, T* y) {
    rows_side_by_side(rows, 1, size_t(ROWS_SIDE_BY_SIDE * classes) * sizeof(double), [=](auto count, int64_t r, void* e) {
        constexpr int N = int(decltype(count){});
        if (log_softmax_quick<N>(classes, x + r * classes, y + r * classes)) return;
        log_softmax_rows<N>(classes, x + r * classes, static_cast<double*>(e), y + r * classes);
    });
}

// How far it went from the left: to the end, or to where a result was in doubt, as all are where dy is y times a number.
template <class T, class Exact>
static int64_t log_softmax_grad_quick(int64_t classes, const T* dy, const T* y, double sum, const Exact& exact, T* dx) {
    constexpr int64_t LANE = LANES<double>, LARGE = 0x4082C00000000000;  // 600: no exponential is subnormal before
    int64_t c = 0;
    if constexpr (sizeof(T) == sizeof(float)) {
        const double low = sum * (1.0 - 0x1p-36), high = sum * (1.0 + 0x1p-36);
        for (int left = 4; left > 0 && c + LANE <= classes; c += LANE) {
            const Part<T> a = taken<Part<T>>(dy + c), b = taken<Part<T>>(y + c);
            const Vec<double> g = wide(a), power = wide(b), e = scalar::quick::growth(power).value();
            Part<T> value = narrow<Part<T>>(g - e * low);
            const Part<int32_t> differ = (Part<int32_t>)value ^ (Part<int32_t>)narrow<Part<T>>(g - e * high);
            if (any_set(differ) | any_above(bits(power) & 0x7FFFFFFFFFFFFFFF, LARGE)) {
                value = exact(a, b);
                --left;
            }
            put(dx + c, value, LANE);
        }
    }
    return c;
}

template <int N, class T>
static void log_softmax_grad_rows(int64_t classes, const T* dy, const T* y, T* dx) {
    using V = Vec<double>;
    double total[N];
    sums_of_rows<N>(
        classes, [=](int q, int64_t i) { return load_wide<V>(dy + q * classes + i); },
        [=](int q, int64_t i) { return dy[q * classes + i]; }, total);
    for (int q = 0; q < N; ++q) {
        const T *g = dy + q * classes, *from = y + q * classes;
        const auto exact = [sum = total[q]](auto a, auto b) { return narrow<decltype(a)>(wide(a) - exp64(wide(b)) * sum); };
        const int64_t begin = log_softmax_grad_quick(classes, g, from, total[q], exact, dx + q * classes);
        map_range<true>(begin, classes, dx + q * classes, exact, g, from);
    }
}

template <class T>
static void log_softmax_grad(int64_t rows, int64_t classes, const T* dy, const T* y, T* dx) {
    rows_side_by_side(rows, 1, 0, [=](auto count, int64_t r, void*) {
        log_softmax_grad_rows<int(decltype(count){})>(classes, dy + r * classes, y + r * classes, dx + r * classes);
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
