// Everything that treats values or rows on their own: elementwise operations (ARITHMETIC.md, sections 5 and 6), softmax and loss (9),
// the optimiser (10), random numbers (11), indexed accumulation (12).
#pragma once

#include <type_traits>

#include "normal.h"
#include "reduce.h"

namespace lucid {
namespace LUCID_ISA {

constexpr int64_t GRAIN = Tuning::GRAIN, SLOW_GRAIN = Tuning::SLOW_GRAIN;

using scalar::exp64;
using scalar::log64;

// The vector in which a function that computes in float64 (or does not) takes values of T.
template <class T, bool WIDE>
using Lanes = std::conditional_t<WIDE, Part<T>, Vec<T>>;

// `count` values as a vector, zeros after them; as many as it has, if that is not said.
template <class V, class T>
inline V taken(const T* p, int64_t count = sizeof(V) / sizeof(T)) {
    V v = {};
    __builtin_memcpy(&v, p, size_t(count) * sizeof(T));
    return v;
}

template <class V, class T>
inline void put(T* p, V v, int64_t count) {
    __builtin_memcpy(p, &v, size_t(count) * sizeof(T));
}

// y[i] = f(x[i]...) for i from begin to end, in vectors; the last one is filled up. (By value: a store through y may not be
// taken for one into them.)
template <bool WIDE, class T, class F, class... X>
static void map_range(int64_t begin, int64_t end, T* y, F f, const X*... x) {
    using V = Lanes<T, WIDE>;
    constexpr int64_t STEP = sizeof(V) / sizeof(T), AT_ONCE = WIDE ? 1 : 4;  // vectors
    const auto put = [&](int64_t i) {
        const V v = f(taken<V>(x + i)...);
        __builtin_memcpy(y + i, &v, sizeof(V));
    };
    int64_t i = begin;
    for (; i + AT_ONCE * STEP <= end; i += AT_ONCE * STEP)
        for (int j = 0; j < AT_ONCE; ++j) put(i + j * STEP);
    for (; i + STEP <= end; i += STEP) put(i);
    if (i == end) return;
    const V v = f(taken<V>(x + i, end - i)...);
    __builtin_memcpy(y + i, &v, size_t(end - i) * sizeof(T));
}

template <bool WIDE, class T, class F, class... X>
inline void map(int64_t n, T* y, const F& f, const X*... x) {
    parallel_range(n, WIDE ? SLOW_GRAIN : GRAIN,
                   [&](int64_t begin, int64_t end) { map_range<WIDE>(begin, end, y, f, x...); });
}

template <class T>
static void unary(Unary op, int64_t n, const T* x, T* y) {
    switch (op) {
#define LUCID_CASE(name, wide) \
    case Unary::name: return map<wide>(n, y, [](auto v) { return scalar::name(v); }, x);
        LUCID_UNARY(LUCID_CASE)
#undef LUCID_CASE
    }
}

template <class T>
static void binary(Binary op, int64_t n, const T* a, const T* b, T* y) {
    switch (op) {
#define LUCID_CASE(name, wide) \
    case Binary::name: return map<wide>(n, y, [](auto u, auto v) { return scalar::name(u, v); }, a, b);
        LUCID_BINARY(LUCID_CASE)
#undef LUCID_CASE
    }
}

template <class T>
static void power(int64_t n, const T* x, double exponent, T* y) {
    if (exponent == 0.5) return unary(Unary::sqrt, n, x, y);
    if (!(magnitude(exponent) < 1073741824.0) || __builtin_rint(exponent) != exponent)
        return map<true>(n, y, [=](auto v) { return scalar::power_real(v, exponent); }, x);
    const int64_t whole = int64_t(exponent);
    map<false>(n, y, [=](auto v) { return scalar::power_whole(v, whole); }, x);
}

// -- softmax and loss -------------------------------------------------------------------------------------------------

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

// -- optimiser ----------------------------------------------------------------------------------------------------------

template <class T>
static void sgd(const Sgd& s, int64_t n, T* param, const T* grad, T* velocity) {
    parallel_range(n, GRAIN, [&](int64_t begin, int64_t end) {
        const Sgd own = s;  // which no store changes
        const auto update = [=](int64_t i, auto count) {
            using V = Vec<T>;
            const V p = taken<V>(param + i, count);
            const V d = scalar::sgd_gradient(taken<V>(grad + i, count), p, own.weight_decay, own.maximize);
            V v = d;
            if (own.momentum != 0.0) {
                v = scalar::sgd_velocity(d, taken<V>(velocity + i, count), own.momentum, own.dampening, own.first);
                put(velocity + i, v, count);
            }
            put(param + i, scalar::sgd_parameter(p, d, v, own.lr, own.momentum, own.nesterov), count);
        };
        int64_t i = begin;
        for (; i + LANES<T> <= end; i += LANES<T>) update(i, Count<LANES<T>>{});
        if (i < end) update(i, end - i);
    });
}

// -- random numbers -----------------------------------------------------------------------------------------------------

template <class T, class F>
inline void draw(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, T* y, const F& value_of) {
    constexpr int64_t A_BLOCK = sizeof(T) == 4 ? 4 : 2;  // values
    parallel_range((n + A_BLOCK - 1) / A_BLOCK, SLOW_GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            uint32_t word[4];
            philox4x32(seed, stream, block + uint64_t(i), word);
            for (int64_t j = 0; j < A_BLOCK && i * A_BLOCK + j < n; ++j)
                y[i * A_BLOCK + j] = value_of(sizeof(T) == 4 ? uniform_of_word(word[j])
                                                             : uniform_of_words(word[2 * j % 4], word[(2 * j + 1) % 4]));
        }
    });
}

template <class T>
static void uniform(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, double low, double high, T* y) {
    draw(seed, stream, block, n, y, [&](double u) { return T(low + (high - low) * u); });
}

template <class T>
static void normal(uint64_t seed, uint64_t stream, uint64_t block, int64_t n, double mean, double std, T* y) {
    draw(seed, stream, block, n, y, [&](double u) { return T(mean + std * normal64(u)); });
}

// -- indexed accumulation -----------------------------------------------------------------------------------------------

template <class T>
static void index_add(int64_t n, const int64_t* index, const T* values, T* y) {
    for (int64_t i = 0; i < n; ++i) y[index[i]] = y[index[i]] + values[i];
}

}  // namespace LUCID_ISA
}  // namespace lucid
