// Matrices as strips of 32 columns, row after row, filled up with zeros: what a step of elimination, or a reflection, does to
// a strip stays in cache, strips are independent of each other, and the vectorised index is the column.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "../threads.h"
#include "../vec.h"

namespace lucid {
namespace LUCID_ISA {

constexpr int64_t WIDTH = 32;  // columns of a strip: four vectors of AVX-512
constexpr int64_t MATRIX_WORK = 40000;  // multiplications of small matrices that are worth a task

struct Memory {
    double* data;
    explicit Memory(int64_t doubles) : data(static_cast<double*>(std::malloc(size_t(doubles + 1) * sizeof(double)))) {}
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { std::free(data); }
};

// `body(matrix, inner)` for each matrix of a batch; `inner` says that the threads are there for the matrix itself.
template <class Body>
static void each_matrix(int64_t batch, int64_t work, const Body& body) {
    if (batch < num_threads()) {
        for (int64_t b = 0; b < batch; ++b) body(b, true);
        return;
    }
    parallel_range(batch, larger<int64_t>(1, MATRIX_WORK / larger<int64_t>(1, work)), [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) body(b, false);
    });
}

// `body(i)` for `begin <= i < end`.
template <class Body>
static void each(bool inner, int64_t begin, int64_t end, const Body& body) {
    if (inner && end - begin > 1)
        parallel(end - begin, [&](int64_t i) { body(begin + i); });
    else
        for (int64_t i = begin; i < end; ++i) body(i);
}

struct Strips {
    int64_t rows, columns, count;
    Memory memory;
    Strips(int64_t rows, int64_t columns)
        : rows(rows), columns(columns), count((columns + WIDTH - 1) / WIDTH), memory(count * rows * WIDTH) {}
    double* of(int64_t strip) const { return memory.data + strip * rows * WIDTH; }
    double& at(int64_t row, int64_t column) const { return of(column / WIDTH)[row * WIDTH + column % WIDTH]; }
};

// Columns [from, from + WIDTH) of a row-major matrix into a strip, and back; `backward`: the last row first.
static void read_strip(int64_t rows, int64_t columns, int64_t from, bool backward, const double* a, double* strip) {
    const int64_t here = smaller<int64_t>(WIDTH, columns - from);
    for (int64_t i = 0; i < rows; ++i) {
        const double* row = a + (backward ? rows - 1 - i : i) * columns + from;
        for (int64_t j = 0; j < here; ++j) strip[i * WIDTH + j] = row[j];
        for (int64_t j = here; j < WIDTH; ++j) strip[i * WIDTH + j] = 0.0;
    }
}
static void write_strip(int64_t rows, int64_t columns, int64_t from, bool backward, const double* strip, double* a) {
    const int64_t here = smaller<int64_t>(WIDTH, columns - from);
    for (int64_t i = 0; i < rows; ++i) {
        double* row = a + (backward ? rows - 1 - i : i) * columns + from;
        for (int64_t j = 0; j < here; ++j) row[j] = strip[i * WIDTH + j];
    }
}
static void read(bool inner, const double* a, const Strips& to) {
    each(inner, 0, to.count, [&](int64_t s) { read_strip(to.rows, to.columns, s * WIDTH, false, a, to.of(s)); });
}
static void write(bool inner, const Strips& from, double* a) {
    each(inner, 0, from.count, [&](int64_t s) { write_strip(from.rows, from.columns, s * WIDTH, false, from.of(s), a); });
}

// -- elimination ------------------------------------------------------------------------------------------------------------

// a[i, j] = fma(l[i, k], u[k, j], a[i, j]) for k ascending, for R rows of a strip; rows of l are l_step apart.
template <int R>
inline void eliminate_tile(const double* l, int64_t l_step, const double* u, int64_t count, double* a) {
    using V = Vec<double>;
    constexpr int LANE = LANES<double>, VECTORS = sizeof(V) == 64 ? 4 : 2;
    for (int c = 0; c < WIDTH; c += VECTORS * LANE) {
        V sums[R][VECTORS];
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < VECTORS; ++v) sums[r][v] = load(a + r * WIDTH + c + v * LANE);
        for (int64_t k = 0; k < count; ++k) {
            V right[VECTORS];
            for (int v = 0; v < VECTORS; ++v) right[v] = load(u + k * WIDTH + c + v * LANE);
            for (int r = 0; r < R; ++r) {
                const V left = splat(l[r * l_step + k]);
                for (int v = 0; v < VECTORS; ++v) sums[r][v] = fma(left, right[v], sums[r][v]);
            }
        }
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < VECTORS; ++v) store(a + r * WIDTH + c + v * LANE, sums[r][v]);
    }
}
static void eliminate(int64_t rows, const double* l, int64_t l_step, const double* u, int64_t count, double* a) {
    constexpr int ROWS = 6;  // with them the tile fills the registers
    int64_t i = 0;
    for (; i + ROWS <= rows; i += ROWS) eliminate_tile<ROWS>(l + i * l_step, l_step, u, count, a + i * WIDTH);
    for (; i + 2 <= rows; i += 2) eliminate_tile<2>(l + i * l_step, l_step, u, count, a + i * WIDTH);
    for (; i < rows; ++i) eliminate_tile<1>(l + i * l_step, l_step, u, count, a + i * WIDTH);
}

// The rows of a lower triangle against a strip: row i loses l[i, k] times row k, k ascending; with `divide`, row k is first
// divided by l[k, k]. Rows are negated into `u`, for `eliminate`.
static void solve_block(int64_t count, const double* l, int64_t l_step, bool divide, double* a, double* u) {
    using V = Vec<double>;
    for (int64_t k = 0; k < count; ++k)
        for (int c = 0; c < WIDTH; c += LANES<double>) {
            V row = load(a + k * WIDTH + c);
            if (divide) row = row / splat(l[k * l_step + k]);
            store(a + k * WIDTH + c, row);
            store(u + k * WIDTH + c, -row);
            for (int64_t i = k + 1; i < count; ++i) {
                double* to = a + i * WIDTH + c;
                store(to, fma(splat(l[i * l_step + k]), -row, load(to)));
            }
        }
}

// Of the columns behind `column` in a row of a strip: fma(l, u, row), nothing else is touched.
struct Behind {
    typedef int64_t Mask __attribute__((vector_size(VECTOR_BYTES)));
    int64_t column, first;
    Mask mask;
    explicit Behind(int64_t column) : column(column), first((column + 1) / LANES<double> * LANES<double>) {
        for (int i = 0; i < LANES<double>; ++i) mask[i] = first + i > column ? -1 : 0;
    }
    void eliminate(double l, const double* u, int64_t end, double* row) const {
        using V = Vec<double>;
        if (first >= end) return;
        const V left = splat(l), before = load(row + first);
        store(row + first, mask ? fma(left, load(u + first), before) : before);
        for (int64_t c = first + LANES<double>; c < end; c += LANES<double>)
            store(row + c, fma(left, load(u + c), load(row + c)));
    }
};

// -- reflections ------------------------------------------------------------------------------------------------------------

// 1 - tau v v^T, of the rows from `first` on; v[0] is 1.
struct Reflection {
    int64_t first;
    double tau;
    const double* v;
};

// Of x[0], x[step], ..: v, tau, and the number in front of the zeros (section 14.3).
static double reflection(int64_t n, const double* x, int64_t step, double* v, double* tau) {
    const double alpha = x[0];
    double rest = 0.0;
    for (int64_t i = 1; i < n; ++i) {
        v[i] = x[i * step];
        rest = fma1(v[i], v[i], rest);
    }
    v[0] = 1.0;
    *tau = 0.0;
    if (rest == 0.0) return alpha;
    const double length = __builtin_sqrt(fma1(alpha, alpha, rest));
    const double beta = alpha < 0.0 ? length : -length;
    const double divisor = alpha - beta;
    for (int64_t i = 1; i < n; ++i) v[i] = v[i] / divisor;
    *tau = (beta - alpha) / beta;
    return beta;
}

constexpr int TOGETHER = 4;  // vectors of a strip's columns that a reflection takes at once

// w = v^T a; then a = fma(v, t, a); or this and, of the rows that it made, w = next^T a.
template <bool UPDATE, bool DOT>
inline void reflect_rows(int64_t rows, const double* v, const Vec<double>* t, const double* next, double* a, Vec<double>* w) {
    using V = Vec<double>;
    constexpr int LANE = LANES<double>;
    V sums[TOGETHER], taken[TOGETHER];
    for (int q = 0; q < TOGETHER; ++q) sums[q] = w[q], taken[q] = t[q];
    for (int64_t i = 0; i < rows; ++i) {
        const V one = splat(UPDATE ? v[i] : 0.0), other = splat(DOT ? next[i] : 0.0);
        for (int q = 0; q < TOGETHER; ++q) {
            V row = load(a + i * WIDTH + q * LANE);
            if constexpr (UPDATE) {
                row = fma(one, taken[q], row);
                store(a + i * WIDTH + q * LANE, row);
            }
            if constexpr (DOT) sums[q] = fma(other, row, sums[q]);
        }
    }
    for (int q = 0; q < TOGETHER; ++q) w[q] = sums[q];
}

// Reflections in the order of `at(0)`, `at(1)`, .. of the columns [c, c + TOGETHER vectors) of a strip; one begins at most a
// row behind or before the last, so that the sums of the next are taken on the way.
template <class At>
static void reflect_columns(int64_t rows, int64_t count, const At& at, double* strip) {
    using V = Vec<double>;
    V w[TOGETHER], t[TOGETHER];
    bool summed = false;
    for (int64_t q = 0; q < count; ++q) {
        const Reflection r = at(q);
        if (r.tau == 0.0) continue;
        double* a = strip + r.first * WIDTH;
        const int64_t n = rows - r.first;
        if (!summed) {
            for (V& sum : w) sum = V{};
            reflect_rows<false, true>(n, nullptr, t, r.v, a, w);
        }
        for (int i = 0; i < TOGETHER; ++i) t[i] = -(splat(r.tau) * w[i]), w[i] = V{};
        const Reflection next = q + 1 < count ? at(q + 1) : Reflection{0, 0.0, nullptr};
        summed = next.tau != 0.0;
        if (!summed) {
            reflect_rows<true, false>(n, r.v, t, nullptr, a, w);
        } else if (next.first > r.first) {
            reflect_rows<true, false>(1, r.v, t, nullptr, a, w);
            reflect_rows<true, true>(n - 1, r.v + 1, t, next.v, a + WIDTH, w);
        } else {
            reflect_rows<false, true>(1, nullptr, t, next.v, a - WIDTH, w);
            reflect_rows<true, true>(n, r.v, t, next.v + 1, a, w);
        }
    }
}
template <class At>
static void reflect_strip(int64_t rows, int64_t count, const At& at, double* strip) {
    for (int64_t c = 0; c < WIDTH; c += TOGETHER * LANES<double>) reflect_columns(rows, count, at, strip + c);
}

// The product of reflections, the first leftmost, times q; where `identity`, only those that move a strip.
static void multiply(bool inner, const Reflection* made, int64_t count, bool identity, const Strips& q) {
    each(inner, 0, q.count, [&](int64_t s) {
        int64_t moving = count;
        while (identity && moving > 0 && made[moving - 1].first >= (s + 1) * WIDTH) --moving;
        reflect_strip(q.rows, moving, [&](int64_t i) { return made[moving - 1 - i]; }, q.of(s));
    });
}
static void set_identity(const Strips& q) {
    for (int64_t i = 0; i < q.count * q.rows * WIDTH; ++i) q.memory.data[i] = 0.0;
    for (int64_t i = 0; i < smaller(q.rows, q.columns); ++i) q.at(i, i) = 1.0;
}

// Makes `a` upper triangular (what it leaves below is not looked at); fills `made` and, for their vectors, `v`, which has
// rows values for each.
static int64_t triangularize(bool inner, const Strips& a, Reflection* made, double* v) {
    const int64_t count = smaller(a.rows, a.columns);
    for (int64_t p = 0; p < count; p += WIDTH) {
        const int64_t end = smaller<int64_t>(count, p + WIDTH);
        double* panel = a.of(p / WIDTH);
        for (int64_t k = p; k < end; ++k) {
            Reflection& r = made[k] = {k, 0.0, v + k * a.rows};
            double* x = panel + k * WIDTH + k - p;
            const double beta = reflection(a.rows - k, x, WIDTH, v + k * a.rows, &r.tau);
            reflect_strip(a.rows, 1, [&](int64_t) { return r; }, panel);  // of columns that are ready, what lies below
            *x = beta;
        }
        each(inner, p / WIDTH + 1, a.count,
             [&](int64_t s) { reflect_strip(a.rows, end - p, [&](int64_t i) { return made[p + i]; }, a.of(s)); });
    }
    return count;
}

}  // namespace LUCID_ISA
}  // namespace lucid
