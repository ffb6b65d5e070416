// Batch normalisation over the rows of a (rows, channels) matrix, layer normalisation over rows (ARITHMETIC.md, section 7).
#pragma once

#include "../elementwise/map.h"
#include "../reduce/rows.h"

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

// -- layer normalisation, and that by the root mean square: section 7.1 ---------------------------------------------------------

// body(a, b), of values that are types.
template <class Body>
inline void either(bool a, bool b, const Body& body) {
    if (a)
        b ? body(Bool<true>{}, Bool<true>{}) : body(Bool<true>{}, Bool<false>{});
    else
        b ? body(Bool<false>{}, Bool<true>{}) : body(Bool<false>{}, Bool<false>{});
}

template <int N, class T>
static void standardize_rows(int64_t width, const T* x, const T* weight, const T* bias, double eps, T* mean, T* root, T* y) {
    double total[N];
    T m[N] = {};
    if (mean) {
        sums_of_rows<N>(
            width, [=](int q, int64_t i) { return load_wide<Vec<double>>(x + q * width + i); },
            [=](int q, int64_t i) { return x[q * width + i]; }, total);
        for (int q = 0; q < N; ++q) mean[q] = m[q] = T(total[q] / double(width));
    }
    sums_of_rows<N>(
        width,
        [=, &m](int q, int64_t i) {
            const Part<T> from = taken<Part<T>>(x + q * width + i), c = mean ? from - m[q] : from;
            return wide(c * c);
        },
        [=, &m](int q, int64_t i) {
            const T c = mean ? x[q * width + i] - m[q] : x[q * width + i];
            return c * c;
        },
        total);
    for (int q = 0; q < N; ++q) {
        const T s = root[q] = scalar::sqrt(T(total[q] / double(width)) + T(eps));
        const T *from = x + q * width, centre = m[q];
        T* to = y + q * width;
        const auto write = [=](auto scaled, auto shifted) {
            for (int64_t i = 0; i < width; ++i) {
                const T value = (mean ? from[i] - centre : from[i]) / s, more = scaled ? value * weight[i] : value;
                to[i] = shifted ? more + bias[i] : more;
            }
        };
        either(weight != nullptr, bias != nullptr, write);
    }
}

// Of ROWS_SIDE_BY_SIDE rows each.
static inline int64_t grain_of_rows(int64_t width) { return larger<int64_t>(1, grain_of_sums(width) / ROWS_SIDE_BY_SIDE); }

template <class T>
static void standardize(int64_t rows, int64_t width, const T* x, const T* weight, const T* bias, double eps, T* mean, T* root,
                        T* y) {
    rows_side_by_side(rows, grain_of_rows(width), 0, [=](auto count, int64_t r, void*) {
        standardize_rows<int(decltype(count){})>(width, x + r * width, weight, bias, eps, mean ? mean + r : mean, root + r,
                                                 y + r * width);
    });
}

// dx of N rows; `quotient` and `terms` have room for them.
template <int N, class T>
static void standardize_grad_rows(int64_t width, const T* dy, const T* x, const T* weight, const T* mean, const T* root,
                                  const T* arrived, T* quotient, T* terms, T* dx) {
    double total[N];
    for (int q = 0; q < N; ++q) {
        const T *g = dy + q * width, *from = x + q * width, s = root[q], centre = mean ? mean[q] : T(0);
        T *to = quotient + q * width, *term = terms + q * width, *c = dx + q * width;
        if (mean)
            for (int64_t i = 0; i < width; ++i) c[i] = from[i] - centre;
        else
            for (int64_t i = 0; i < width; ++i) c[i] = from[i];
        if (weight)
            for (int64_t i = 0; i < width; ++i) to[i] = g[i] * weight[i] / s;
        else
            for (int64_t i = 0; i < width; ++i) to[i] = g[i] / s;
        for (int64_t i = 0; i < width; ++i) term[i] = -(to[i] * (c[i] / s));
    }
    sums_of_rows<N>(
        width, [=](int q, int64_t i) { return load_wide<Vec<double>>(terms + q * width + i); },
        [=](int q, int64_t i) { return terms[q * width + i]; }, total);
    for (int q = 0; q < N; ++q) {
        const T slope = T(total[q]) / (T(2) * root[q]) / T(width);
        T *c = dx + q * width, *to = quotient + q * width;
        if (arrived && !mean)
            for (int64_t i = 0; i < width; ++i) to[i] = arrived[q * width + i] + to[i];
        for (int64_t i = 0; i < width; ++i) c[i] = to[i] + slope * (T(2) * c[i]);
    }
    if (!mean) return;
    sums_of_rows<N>(
        width, [=](int q, int64_t i) { return -load_wide<Vec<double>>(dx + q * width + i); },
        [=](int q, int64_t i) { return -dx[q * width + i]; }, total);
    for (int q = 0; q < N; ++q) {
        const T back = T(total[q]) / T(width);
        T* to = dx + q * width;
        if (arrived)
            for (int64_t i = 0; i < width; ++i) to[i] = arrived[q * width + i] + to[i] + back;
        else
            for (int64_t i = 0; i < width; ++i) to[i] = to[i] + back;
    }
}

template <class T>
static void standardize_grad(int64_t rows, int64_t width, const T* dy, const T* x, const T* weight, const T* mean,
                             const T* root, const T* accumulate_into, T* dx, T* dweight, T* dbias) {
    const int64_t values = ROWS_SIDE_BY_SIDE * width;
    const auto run = [=](auto count, int64_t r, void* memory) {
        T *quotient = static_cast<T*>(memory), *terms = quotient + values;
        const T* arrived = accumulate_into ? accumulate_into + r * width : accumulate_into;
        standardize_grad_rows<int(decltype(count){})>(width, dy + r * width, x + r * width, weight, mean ? mean + r : mean, root + r,
                                                      arrived, quotient, terms, dx + r * width);
    };
    if (dx) rows_side_by_side(rows, grain_of_rows(width), size_t(2 * values) * sizeof(T), run);
    if (!dweight && !dbias) return;
    double* totals = static_cast<double*>(std::malloc(size_t(2 * width) * sizeof(double)));
    column_sums<2>(
        rows, width,
        [=](int64_t r, int64_t c, auto* out) {
            using V = std::remove_reference_t<decltype(*out)>;
            const int64_t at = r * width + c;
            const T centre = mean ? mean[r] : T(0), s = root[r];
            if constexpr (sizeof(V) == sizeof(double)) {
                const T d = mean ? x[at] - centre : x[at];
                out[0] = double(dy[at] * (d / s));
                out[1] = double(dy[at]);
            } else {
                const Part<T> g = taken<Part<T>>(dy + at), from = taken<Part<T>>(x + at);
                const Part<T> d = mean ? from - centre : from;
                out[0] = wide(g * (d / s));
                out[1] = wide(g);
            }
        },
        totals);
    for (int64_t i = 0; i < width; ++i) {
        if (dweight) dweight[i] = T(totals[i]);
        if (dbias) dbias[i] = T(totals[width + i]);
    }
    std::free(totals);
}

}  // namespace LUCID_ISA
}  // namespace lucid
