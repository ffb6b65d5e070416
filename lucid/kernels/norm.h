// Batch normalisation over the rows of a (rows, channels) matrix (ARITHMETIC.md, section 7).
#pragma once

#include "reduce.h"

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
            const V d = load_wide<V>(x + r * channels + c) - load_wide<V>(pivot + c);
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

template <class T, bool RELU>
static void normalize_rows(int64_t rows, int64_t channels, const T* x, const T* mean, const T* scale, const T* shift,
                           T* y) {
    parallel_rows(rows, channels, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const T* from = x + r * channels;
            T* to = y + r * channels;
            int64_t c = 0;
            for (; c + LANES<T> <= channels; c += LANES<T>) {
                Vec<T> value = fma(load(from + c) - load(mean + c), load(scale + c), load(shift + c));
                if (RELU) value = value <= Vec<T>{} ? Vec<T>{} : value;
                store(to + c, value);
            }
            for (; c < channels; ++c) {
                const T value = fma1(from[c] - mean[c], scale[c], shift[c]);
                to[c] = RELU && value <= T(0) ? T(0) : value;
            }
        }
    });
}

template <class T>
static void normalize(int64_t rows, int64_t channels, const T* x, const T* mean, const T* scale, const T* shift,
                      bool relu, T* y) {
    if (relu)
        normalize_rows<T, true>(rows, channels, x, mean, scale, shift, y);
    else
        normalize_rows<T, false>(rows, channels, x, mean, scale, shift, y);
}

template <class T>
static void batch_norm_apply(int64_t rows, int64_t channels, const T* x, const T* gamma, const T* beta,
                             const double* mean, const double* var, double eps, T* y) {
    T* m = static_cast<T*>(std::malloc(size_t(3 * channels + 1) * sizeof(T)));
    T *k = m + channels, *shift = k + channels;
    for (int64_t c = 0; c < channels; ++c) {
        const Coefficients<T> of(gamma, mean[c], var[c], eps, c);
        m[c] = of.m;
        k[c] = of.k;
        shift[c] = T((beta ? double(beta[c]) : 0.0) - of.rest * double(of.k));
    }
    normalize(rows, channels, x, m, k, shift, false, y);
    std::free(m);
}

template <class T>
static void batch_norm_grad(int64_t rows, int64_t channels, const T* dy, const T* x, const T* gamma,
                            const double* mean, const double* var, double eps, bool training, T* dx, T* dgamma,
                            T* dbeta) {
    double* totals = static_cast<double*>(std::malloc(size_t(2 * channels + 1) * sizeof(double)));
    column_sums<2>(
        rows, channels,
        [&](int64_t r, int64_t c, auto* out) {
            using V = std::remove_reference_t<decltype(*out)>;
            const V g = load_wide<V>(dy + r * channels + c);
            out[0] = g;
            out[1] = g * (load_wide<V>(x + r * channels + c) - load_wide<V>(mean + c));
        },
        totals);
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
    parallel_rows(rows, channels, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const T *dy_row = dy + r * channels, *x_row = x + r * channels;
            T* to = dx + r * channels;
            int64_t c = 0;
            if (training) {
                for (; c + LANES<T> <= channels; c += LANES<T>)
                    store(to + c, fma(load(dy_row + c), load(k + c),
                                      fma(load(x_row + c) - load(m + c), load(b + c), load(e + c))));
                for (; c < channels; ++c) to[c] = fma1(dy_row[c], k[c], fma1(x_row[c] - m[c], b[c], e[c]));
            } else {
                for (; c < channels; ++c) to[c] = dy_row[c] * k[c];
            }
        }
    });
    std::free(m);
    std::free(totals);
}

}  // namespace LUCID_ISA
}  // namespace lucid
