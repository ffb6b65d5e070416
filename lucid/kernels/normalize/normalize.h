// Batch normalisation over the rows of a (rows, channels) matrix (ARITHMETIC.md, section 7).
#pragma once

#include "../reduce/reduce.h"

namespace lucid {
namespace LUCID_ISA {

template <class T>
static void batch_norm_stats(int64_t rows, int64_t channels, const T* x, double* mean, double* var) {
    double* pivot = static_cast<double*>(std::malloc(size_t(3 * channels + 1) * sizeof(double)));
    double* totals = pivot + channels;
    for (int64_t c = 0; c < channels; ++c) {
        const double first = rows > 0 ? double(x[c]) : 0.0;
        pivot[c] = first - first == 0.0 ? first : 0.0;
    }
    column_sums<2>(
        rows, channels,
        [&](int64_t r, int64_t c, auto* out) {
            using V = std::remove_reference_t<decltype(*out)>;
            const V d = load_near<V>(x + r * channels + c) - load_wide<V>(pivot + c);
            out[0] = d;
            out[1] = d * d;
        },
        totals);
    const double count = double(rows);
    for (int64_t c = 0; c < channels; ++c) {
        const double m = totals[c] / count;
        const double v = totals[channels + c] / count - m * m;
        mean[c] = pivot[c] + m;
        var[c] = v < 0.0 ? 0.0 : v;
    }
    std::free(pivot);
}

// What the law derives from the statistics of one channel: m and k in the operand's dtype, the rest in float64.
template <class T>
struct Coefficients {
    double rstd, scale, rest;
    T m, k;

    Coefficients(const T* gamma, double mean, double var, double eps, int64_t c) {
        rstd = 1.0 / __builtin_sqrt(var + eps);
        scale = (gamma ? double(gamma[c]) : 1.0) * rstd;
        m = T(mean);
        k = T(scale);
        rest = mean - double(m);
    }
};

// Rows in pieces that are worth a thread.
template <class Body>
inline void parallel_rows(int64_t rows, int64_t channels, const Body& body) {
    parallel_range(rows, larger<int64_t>(1, 16384 / larger<int64_t>(1, channels)), body);
}

// y = fma(x - mean, scale, shift), plus the residual where there is one, and ReLU.
template <class T, bool RELU, bool RESIDUAL>
static void normalize_rows(int64_t rows, int64_t channels, const T* x, const T* mean, const T* scale, const T* shift,
                           const T* residual, T* y) {
    parallel_rows(rows, channels, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const T* from = x + r * channels;
            const T* more = residual + (RESIDUAL ? r * channels : 0);
            T* to = y + r * channels;
            int64_t c = 0;
            for (; c + LANES<T> <= channels; c += LANES<T>) {
                Vec<T> value = fma(load(from + c) - load(mean + c), load(scale + c), load(shift + c));
                if (RESIDUAL) value = value + load(more + c);
                if (RELU) value = value <= Vec<T>{} ? Vec<T>{} : value;
                store(to + c, value);
            }
            for (; c < channels; ++c) {
                T value = fma1(from[c] - mean[c], scale[c], shift[c]);
                if (RESIDUAL) value = value + more[c];
                to[c] = RELU && value <= T(0) ? T(0) : value;
            }
        }
    });
}

template <class T>
static void normalize(int64_t rows, int64_t channels, const T* x, const T* mean, const T* scale, const T* shift,
                      const T* residual, bool relu, T* y) {
    const auto run = residual ? (relu ? normalize_rows<T, true, true> : normalize_rows<T, false, true>)
                              : (relu ? normalize_rows<T, true, false> : normalize_rows<T, false, false>);
    run(rows, channels, x, mean, scale, shift, residual, y);
}

// The coefficients of the output (section 7): mean, scale and shift in the operand's dtype, for all channels.
template <class T>
static void batch_norm_coefficients(int64_t channels, const T* gamma, const T* beta, const double* mean,
                                    const double* var, double eps, T* m, T* k, T* shift) {
    for (int64_t c = 0; c < channels; ++c) {
        const Coefficients<T> of(gamma, mean[c], var[c], eps, c);
        m[c] = of.m;
        k[c] = of.k;
        shift[c] = T((beta ? double(beta[c]) : 0.0) - of.rest * double(of.k));
    }
}

template <class T>
static void batch_norm_apply(int64_t rows, int64_t channels, const T* x, const T* gamma, const T* beta,
                             const double* mean, const double* var, double eps, const T* residual, bool relu, T* y) {
    T* m = static_cast<T*>(std::malloc(size_t(3 * channels + 1) * sizeof(T)));
    batch_norm_coefficients(channels, gamma, beta, mean, var, eps, m, m + channels, m + 2 * channels);
    normalize(rows, channels, x, m, m + channels, m + 2 * channels, residual, relu, y);
    std::free(m);
}

// The gradient that arrives at a normalisation: dy, or, behind a ReLU whose result is y, +0 where that is not positive.
template <bool RELU, class V, class T>
inline V arriving(const T* dy, const T* y) {
    if constexpr (RELU)
        return load_near<V>(y) <= V{} ? V{} : load_near<V>(dy);
    else
        return load_near<V>(dy);
}

// The second pass: dx, added to `accumulate_into`, and the gradient that came through the ReLU, if it is wanted.
template <class T, bool RELU, bool TRAINING>
static void batch_norm_grad_rows(int64_t rows, int64_t channels, const T* dy, const T* x, const T* y, const T* m,
                                 const T* k, const T* b, const T* e, const T* accumulate_into, T* dx, T* masked) {
    parallel_rows(rows, channels, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const T *dy_row = dy + r * channels, *x_row = x + r * channels, *y_row = y + (RELU ? r * channels : 0);
            T* to = dx + r * channels;
            const T* onto = accumulate_into ? accumulate_into + r * channels : nullptr;
            T* also = masked ? masked + r * channels : nullptr;
            int64_t c = 0;
            for (; c + LANES<T> <= channels; c += LANES<T>) {
                Vec<T> g = load(dy_row + c);
                if (RELU) g = load(y_row + c) <= Vec<T>{} ? Vec<T>{} : g;
                if (also) store(also + c, g);
                const Vec<T> value = TRAINING ? fma(g, load(k + c), fma(load(x_row + c) - load(m + c), load(b + c), load(e + c)))
                                              : g * load(k + c);
                store(to + c, onto ? load(onto + c) + value : value);
            }
            for (; c < channels; ++c) {
                const T g = RELU && y_row[c] <= T(0) ? T(0) : dy_row[c];
                if (also) also[c] = g;
                const T value = TRAINING ? fma1(g, k[c], fma1(x_row[c] - m[c], b[c], e[c])) : g * k[c];
                to[c] = onto ? onto[c] + value : value;
            }
        }
    });
}

// `y` is the result of the ReLU behind the normalisation, null where there is none.
template <class T>
static void batch_norm_grad(int64_t rows, int64_t channels, const T* dy, const T* x, const T* y, const T* gamma,
                            const double* mean, const double* var, double eps, bool training, const T* accumulate_into, T* dx,
                            T* masked, T* dgamma, T* dbeta) {
    double* totals = static_cast<double*>(std::malloc(size_t(2 * channels + 1) * sizeof(double)));
    const auto sum = [&](auto relu) {
        column_sums<2>(
            rows, channels,
            [&](int64_t r, int64_t c, auto* out) {
                using V = std::remove_reference_t<decltype(*out)>;
                const int64_t i = r * channels + c;
                out[0] = arriving<relu, V>(dy + i, y + (relu ? i : 0));
                out[1] = out[0] * (load_near<V>(x + i) - load_wide<V>(mean + c));
            },
            totals);
    };
    if (y)
        sum(Bool<true>{});
    else
        sum(Bool<false>{});
    T* m = static_cast<T*>(std::malloc(size_t(4 * channels + 1) * sizeof(T)));
    T *k = m + channels, *b = k + channels, *e = b + channels;
    const double count = double(rows);
    for (int64_t c = 0; c < channels; ++c) {
        const Coefficients<T> of(gamma, mean[c], var[c], eps, c);
        const double sum_dy = totals[c], sum_dyx = totals[channels + c];
        dbeta[c] = T(sum_dy);
        dgamma[c] = T(sum_dyx * of.rstd);
        m[c] = of.m;
        k[c] = of.k;
        b[c] = T(-((of.scale * (of.rstd * of.rstd)) * (sum_dyx / count)));
        e[c] = T(-(of.scale * (sum_dy / count)) - of.rest * double(b[c]));
    }
    const auto run = y ? (training ? batch_norm_grad_rows<T, true, true> : batch_norm_grad_rows<T, true, false>)
                       : (training ? batch_norm_grad_rows<T, false, true> : batch_norm_grad_rows<T, false, false>);
    run(rows, channels, dy, x, y, m, k, b, e, accumulate_into, dx, masked);
    std::free(m);
    std::free(totals);
}

}  // namespace LUCID_ISA
}  // namespace lucid
