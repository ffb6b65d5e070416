// Batch normalisation of (rows, channels), channels side by side in memory: section 7 of ARITHMETIC.md. Statistics are summed
// segment by segment, one thread for a segment of a channel; a second kernel adds the segments and makes the coefficients, in
// the operand's dtype, by which the third treats every element.
#include "../cuda/device.cuh"

namespace lucid {
namespace {

constexpr int NORM_THREADS = 256;
constexpr int ROWS_AT_ONCE = 64 / sizeof(T);  // of a thread that sums, which holds as many more
constexpr int CHANNELS = 32, GROUPS_AT_ONCE = NORM_THREADS / CHANNELS;  // of a block that adds segments

// What a row holds at a channel.
struct Row {
    T x, dy, y;
};

// A ReLU's gradient, of section 5.
DEVICE T relu_grad(T dy, T y) { return y <= T(0) ? T(0) : dy; }

// parts[q][segment][channel] = the sums of the terms q of a row: load(r, c) brings it, terms(row, c, out) makes them.
template <class Row, class Load, class Terms>
DEVICE void sum_segments(int64_t rows, int64_t channels, double* parts, const Load& load, const Terms& terms) {
    const int64_t segments = (rows + SEGMENT - 1) / SEGMENT;
    for (int64_t at = first_index(); at < segments * channels; at += index_step()) {
        const int64_t c = at % channels, r0 = at / channels * SEGMENT;
        double sum[2] = {0.0, 0.0};
        in_batches<ROWS_AT_ONCE, Row>(
            smaller<int64_t>(SEGMENT, rows - r0), [&](int64_t r) { return load(r0 + r, c); },
            [&](const Row& row) {
                double term[2];
                terms(row, c, term);
                sum[0] = sum[0] + term[0];
                sum[1] = sum[1] + term[1];
            });
        parts[at] = sum[0];
        parts[segments * channels + at] = sum[1];
    }
}

// The totals of the parts: finish(c, totals) for each channel, by one thread. Groups are added by threads side by side.
template <class Finish>
DEVICE void add_segments(int64_t rows, int64_t channels, const double* parts, const Finish& finish) {
    __shared__ double group_sum[2][GROUPS_AT_ONCE][CHANNELS];
    struct Pair {
        double v[2];
    };
    const int64_t segments = (rows + SEGMENT - 1) / SEGMENT, groups = (segments + GROUP - 1) / GROUP;
    const int column = threadIdx.x % CHANNELS, lane = threadIdx.x / CHANNELS;
    for (int64_t c0 = int64_t(blockIdx.x) * CHANNELS; c0 < channels; c0 += int64_t(gridDim.x) * CHANNELS) {
        const int64_t c = c0 + column;
        double total[2] = {0.0, 0.0};
        for (int64_t g0 = 0; g0 < groups; g0 += GROUPS_AT_ONCE) {
            const int64_t first = (g0 + lane) * GROUP, members = smaller<int64_t>(segments - first, GROUP);
            if (c < channels && first < segments) {
                const double *from = parts + first * channels + c, *others = from + segments * channels;
                double sum[2] = {from[0], others[0]};
                in_batches<8, Pair>(
                    members - 1,
                    [&](int64_t j) {
                        return Pair{{from[(j + 1) * channels], others[(j + 1) * channels]}};
                    },
                    [&](const Pair& p) {
                        for (int q = 0; q < 2; ++q) sum[q] = sum[q] + p.v[q];
                    });
                for (int q = 0; q < 2; ++q) group_sum[q][lane][column] = sum[q];
            }
            __syncthreads();
            if (lane == 0 && c < channels)
                for (int64_t g = g0; g < smaller<int64_t>(groups, g0 + GROUPS_AT_ONCE); ++g)
                    for (int q = 0; q < 2; ++q)
                        total[q] = g == 0 ? group_sum[q][0][column] : total[q] + group_sum[q][g - g0][column];
            __syncthreads();
        }
        if (lane == 0 && c < channels) finish(c, total);
    }
}

struct Coefficients {
    double rstd, scale, rest;
    T m, k;

    DEVICE Coefficients(const T* gamma, double mean, double var, double eps, int64_t c) {
        rstd = 1.0 / square_root(var + eps);
        scale = (gamma ? double(gamma[c]) : 1.0) * rstd;
        m = T(mean);
        k = T(scale);
        rest = mean - double(m);
    }

    DEVICE T shift(const T* beta, int64_t c) const { return T((beta ? double(beta[c]) : 0.0) - rest * double(k)); }
};

// body(i, c) for every i of rows * columns, c being its column; one division a thread.
template <class Body>
DEVICE void each_element(int64_t rows, int64_t columns, const Body& body) {
    const int64_t step = index_step(), step_in_row = step % columns;
    int64_t column = first_index() % columns;
    for (int64_t at = first_index(); at < rows * columns; at += step) {
        body(at, column);
        column += step_in_row;
        if (column >= columns) column -= columns;
    }
}

DEVICE Pack pack_at(const T* p, int64_t i) {
    return reinterpret_cast<const Pack*>(p)[i];
}

}  // namespace

KERNEL(batch_norm_stats, NORM_THREADS, int64_t rows, int64_t channels, const T* x, double* parts) {
    sum_segments<T>(
        rows, channels, parts, [=](int64_t r, int64_t c) { return x[r * channels + c]; },
        [=](T value, int64_t c, double* term) {
            const double first = double(x[c]), pivot = first - first == 0.0 ? first : 0.0;
            const double d = double(value) - pivot;
            term[0] = d;
            term[1] = d * d;
        });
}

KERNEL(batch_norm_stats_end, NORM_THREADS, int64_t rows, int64_t channels, const T* x, const double* parts, const T* gamma,
       const T* beta, double eps, double* mean, double* var, T* m, T* k, T* shift) {
    add_segments(rows, channels, parts, [=](int64_t c, const double* total) {
        const double first = rows > 0 ? double(x[c]) : 0.0, pivot = first - first == 0.0 ? first : 0.0;
        const double count = double(rows), e = total[0] / count, v = total[1] / count - e * e;
        mean[c] = pivot + e;
        var[c] = v < 0.0 ? 0.0 : v;
        const Coefficients of(gamma, mean[c], var[c], eps, c);
        m[c] = of.m;
        k[c] = of.k;
        shift[c] = of.shift(beta, c);
    });
}

KERNEL(batch_norm_coefficients, NORM_THREADS, int64_t channels, const T* gamma, const T* beta, const double* mean,
       const double* var, double eps, T* m, T* k, T* shift) {
    for (int64_t c = first_index(); c < channels; c += index_step()) {
        const Coefficients of(gamma, mean[c], var[c], eps, c);
        m[c] = of.m;
        k[c] = of.k;
        shift[c] = of.shift(beta, c);
    }
}

// The residual may be null.
KERNEL(normalize, NORM_THREADS, int64_t rows, int64_t channels, const T* x, const T* m, const T* k, const T* shift,
       const T* residual, bool relu, T* y) {
    const auto value = [=](T from, T mean, T scale, T offset, T more) {
        T v = fma(from - mean, scale, offset);
        if (residual) v = v + more;
        return relu && v <= T(0) ? T(0) : v;
    };
    const bool packs = channels % Pack::LANES == 0 && aligned(x) && aligned(y) && aligned(m) && aligned(k) &&
                       aligned(shift) && aligned(residual);
    if (packs)
        each_element(rows, channels / Pack::LANES, [=](int64_t i, int64_t c) {
            Pack p = pack_at(x, i);
            const Pack more = residual ? pack_at(residual, i) : Pack{};
            const Pack mean = pack_at(m, c), scale = pack_at(k, c), offset = pack_at(shift, c);
            for (int j = 0; j < Pack::LANES; ++j)
                p.v[j] = value(p.v[j], mean.v[j], scale.v[j], offset.v[j], more.v[j]);
            reinterpret_cast<Pack*>(y)[i] = p;
        });
    else
        each_element(rows, channels, [=](int64_t i, int64_t c) {
            y[i] = value(x[i], m[c], k[c], shift[c], residual ? residual[i] : T(0));
        });
}

// y, here and below, is what the ReLU behind the normalisation made, or null where there is none.
KERNEL(batch_norm_grad_sums, NORM_THREADS, int64_t rows, int64_t channels, const T* x, const T* dy, const T* y,
       const double* mean, double* parts) {
    sum_segments<Row>(
        rows, channels, parts,
        [=](int64_t r, int64_t c) {
            const int64_t i = r * channels + c;
            return Row{x[i], dy[i], y ? y[i] : T(1)};
        },
        [=](const Row& row, int64_t c, double* term) {
            const double g = double(relu_grad(row.dy, row.y));
            term[0] = g;
            term[1] = g * (double(row.x) - mean[c]);
        });
}

KERNEL(batch_norm_grad_end, NORM_THREADS, int64_t rows, int64_t channels, const double* parts, const T* gamma,
       const double* mean, const double* var, double eps, T* m, T* k, T* b, T* e, T* dgamma, T* dbeta) {
    add_segments(rows, channels, parts, [=](int64_t c, const double* total) {
        const Coefficients of(gamma, mean[c], var[c], eps, c);
        const double count = double(rows);
        dbeta[c] = T(total[0]);
        dgamma[c] = T(total[1] * of.rstd);
        m[c] = of.m;
        k[c] = of.k;
        b[c] = T(-((of.scale * (of.rstd * of.rstd)) * (total[1] / count)));
        e[c] = T(-(of.scale * (total[0] / count)) - of.rest * double(b[c]));
    });
}

// dx is added to `accumulate_into`, and what goes to the residual is kept in dresidual, where these are not null.
KERNEL(batch_norm_grad, NORM_THREADS, int64_t rows, int64_t channels, bool training, const T* dy, const T* x, const T* y,
       const T* accumulate_into, const T* m, const T* k, const T* b, const T* e, T* dx, T* dresidual) {
    const auto value = [=](T gradient, T from, T mean, T scale, T slope, T rest, T before) {
        const T d = training ? fma(gradient, scale, fma(from - mean, slope, rest)) : gradient * scale;
        return accumulate_into ? before + d : d;
    };
    const bool packs = channels % Pack::LANES == 0 && aligned(dy) && aligned(x) && aligned(y) && aligned(accumulate_into) &&
                       aligned(dx) && aligned(dresidual) && aligned(m) && aligned(k) && aligned(b) && aligned(e);
    if (packs)
        each_element(rows, channels / Pack::LANES, [=](int64_t i, int64_t c) {
            Pack p = pack_at(dy, i);
            const Pack from = pack_at(x, i), before = accumulate_into ? pack_at(accumulate_into, i) : Pack{};
            const Pack mean = pack_at(m, c), scale = pack_at(k, c), slope = pack_at(b, c), rest = pack_at(e, c);
            if (y) {
                const Pack after = pack_at(y, i);
                for (int j = 0; j < Pack::LANES; ++j) p.v[j] = relu_grad(p.v[j], after.v[j]);
            }
            if (dresidual) reinterpret_cast<Pack*>(dresidual)[i] = p;
            for (int j = 0; j < Pack::LANES; ++j)
                p.v[j] = value(p.v[j], from.v[j], mean.v[j], scale.v[j], slope.v[j], rest.v[j], before.v[j]);
            reinterpret_cast<Pack*>(dx)[i] = p;
        });
    else
        each_element(rows, channels, [=](int64_t i, int64_t c) {
            const T gradient = y ? relu_grad(dy[i], y[i]) : dy[i];
            if (dresidual) dresidual[i] = gradient;
            dx[i] = value(gradient, x[i], m[c], k[c], b[c], e[c], accumulate_into ? accumulate_into[i] : T(0));
        });
}

KERNEL(running_update, NORM_THREADS, int64_t n, double factor, double momentum, const double* statistic, T* running) {
    for (int64_t i = first_index(); i < n; i += index_step()) {
        const double old = double(running[i]);
        running[i] = T(old + momentum * ((factor != 1.0 ? statistic[i] * factor : statistic[i]) - old));
    }
}

}  // namespace lucid
