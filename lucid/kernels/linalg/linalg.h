// Linear algebra: section 14 of the law, in float64 whatever T is. Strips of a matrix, or the matrices of a batch, go to threads.
#pragma once

#include "../kernels.h"
#include "strips.h"

namespace lucid {
namespace LUCID_ISA {

// -- 14.1: triangular factors -------------------------------------------------------------------------------------------------

static void exchange_rows(const Strips& m, int64_t i, int64_t j) {
    for (int64_t s = 0; s < m.count; ++s) {
        double *one = m.of(s) + i * WIDTH, *other = m.of(s) + j * WIDTH;
        for (int64_t c = 0; c < WIDTH; ++c) {
            const double kept = one[c];
            one[c] = other[c];
            other[c] = kept;
        }
    }
}

// The row from `from` on with the largest magnitude in a column of a strip: the first of equal ones, the first NaN.
static int64_t pivot_row(const double* column, int64_t from, int64_t rows) {
    int64_t at = from;
    double largest = -1.0;
    for (int64_t i = from; i < rows; ++i) {
        const double size = __builtin_fabs(column[i * WIDTH]);
        if (size != size) return i;
        if (size > largest) largest = size, at = i;
    }
    return at;
}

static void factor_panel(const Strips& m, int64_t p, int64_t end, int64_t* order, int64_t* swaps) {
    double* panel = m.of(p / WIDTH);
    for (int64_t k = p; k < end; ++k) {
        const int64_t column = k - p, at = pivot_row(panel + column, k, m.rows);
        if (at != k) {
            exchange_rows(m, k, at);
            const int64_t kept = order[k];
            order[k] = order[at], order[at] = kept;
            ++*swaps;
        }
        const double pivot = panel[k * WIDTH + column];
        double u[WIDTH];
        for (int64_t j = 0; j < WIDTH; ++j) u[j] = -panel[k * WIDTH + j];
        const Behind behind(column);
        for (int64_t i = k + 1; i < m.rows; ++i) {
            double* row = panel + i * WIDTH;
            if (pivot != 0.0) row[column] = row[column] / pivot;
            behind.eliminate(row[column], u, end - p, row);
        }
    }
}

template <class T>
static void lu_factor(int64_t batch, int64_t n, const double* a, double* lu, int64_t* order, int64_t* swaps) {
    each_matrix(batch, n * n * n / 3, [&](int64_t b, bool inner) {
        const Strips m(n, n);
        read(inner, a + b * n * n, m);
        swaps[b] = 0;
        for (int64_t i = 0; i < n; ++i) order[b * n + i] = i;
        for (int64_t p = 0; p < n; p += WIDTH) {
            const int64_t end = smaller<int64_t>(n, p + WIDTH);
            factor_panel(m, p, end, order + b * n, swaps + b);
            const double* l = m.of(p / WIDTH);
            each(inner, p / WIDTH + 1, m.count, [&](int64_t s) {
                double u[WIDTH * WIDTH];
                solve_block(WIDTH, l + p * WIDTH, WIDTH, false, m.of(s) + p * WIDTH, u);
                eliminate(n - end, l + end * WIDTH, WIDTH, u, WIDTH, m.of(s) + end * WIDTH);
            });
        }
        write(inner, m, lu + b * n * n);
    });
}

template <class T>
static void triangular_solve(int64_t batch, int64_t n, int64_t columns, bool upper, bool unit, const double* t, const double* b,
                             double* x) {
    each_matrix(batch, n * n * columns / 2, [&](int64_t i, bool inner) {
        const double* l = t + i * n * n;
        const Memory reversed(upper ? n * n : 0);  // an upper triangle read from its end is a lower one
        if (upper) {
            for (int64_t j = 0; j < n * n; ++j) reversed.data[j] = l[n * n - 1 - j];
            l = reversed.data;
        }
        each(inner, 0, (columns + WIDTH - 1) / WIDTH, [&](int64_t s) {
            const Memory strip(n * WIDTH);
            double u[WIDTH * WIDTH], *a = strip.data;
            read_strip(n, columns, s * WIDTH, upper, b + i * n * columns, a);
            for (int64_t p = 0; p < n; p += WIDTH) {
                const int64_t end = smaller<int64_t>(n, p + WIDTH);
                solve_block(end - p, l + p * n + p, n, !unit, a + p * WIDTH, u);
                eliminate(n - end, l + end * n + p, n, u, end - p, a + end * WIDTH);
            }
            write_strip(n, columns, s * WIDTH, upper, a, x + i * n * columns);
        });
    });
}

// -- 14.2: Cholesky -----------------------------------------------------------------------------------------------------------

// The columns [p, end) of L; above the diagonal the strip holds what nobody reads. Returns the order of the minor that is not
// positive, or 0.
static int64_t cholesky_panel(const Strips& m, int64_t p, int64_t end) {
    double* panel = m.of(p / WIDTH);
    for (int64_t k = p; k < end; ++k) {
        const int64_t column = k - p;
        double& pivot = panel[k * WIDTH + column];
        if (!(pivot > 0.0)) return k + 1;
        pivot = __builtin_sqrt(pivot);
        double u[WIDTH] = {};
        for (int64_t i = k + 1; i < m.rows; ++i) {
            double& l = panel[i * WIDTH + column];
            l = l / pivot;
            if (i < end) u[i - p] = -l;
        }
        const Behind behind(column);
        for (int64_t i = k + 1; i < m.rows; ++i) behind.eliminate(panel[i * WIDTH + column], u, end - p, panel + i * WIDTH);
    }
    return 0;
}

static int64_t cholesky_strips(bool inner, const Strips& m) {
    const int64_t n = m.rows;
    for (int64_t p = 0; p < n; p += WIDTH) {
        if (const int64_t failed = cholesky_panel(m, p, smaller<int64_t>(n, p + WIDTH))) return failed;
        const double* l = m.of(p / WIDTH);
        each(inner, p / WIDTH + 1, m.count, [&](int64_t s) {
            double u[WIDTH * WIDTH];
            const int64_t first = s * WIDTH;
            for (int64_t j = 0; j < WIDTH; ++j)
                for (int64_t k = 0; k < WIDTH; ++k) u[k * WIDTH + j] = first + j < n ? -l[(first + j) * WIDTH + k] : 0.0;
            eliminate(n - first, l + first * WIDTH, WIDTH, u, WIDTH, m.of(s) + first * WIDTH);
        });
    }
    return 0;
}

template <class T>
static void cholesky_factor(int64_t batch, int64_t n, const double* a, double* l, int64_t* failed) {
    each_matrix(batch, n * n * n / 6, [&](int64_t b, bool inner) {
        const Strips m(n, n);
        read(inner, a + b * n * n, m);
        failed[b] = cholesky_strips(inner, m);
        double* to = l + b * n * n;
        write(inner, m, to);
        for (int64_t i = 0; i < n; ++i) {
            for (int64_t j = 0; failed[b] && j <= i; ++j) to[i * n + j] = __builtin_nan("");
            for (int64_t j = i + 1; j < n; ++j) to[i * n + j] = 0.0;
        }
    });
}

// -- 14.3: reflections --------------------------------------------------------------------------------------------------------

// The exponent that brings the largest magnitude into [0.5, 1), 0 where there is none; `finite`: whether all are.
static int exponent_of(int64_t n, const double* a, bool* finite) {
    double largest = 0.0, zero = 0.0;
    for (int64_t i = 0; i < n; ++i) {
        const double size = __builtin_fabs(a[i]);
        zero = zero + size * 0.0;
        if (size > largest) largest = size;
    }
    *finite = zero == 0.0;
    int e = 0;
    if (*finite && largest > 0.0) __builtin_frexp(largest, &e);
    return e;
}
static void scale(int64_t n, double* a, int e) {
    if (e != 0)
        for (int64_t i = 0; i < n; ++i) a[i] = __builtin_ldexp(a[i], e);
}
static void fill(int64_t n, double value, double* a) {
    for (int64_t i = 0; i < n; ++i) a[i] = value;
}

template <class T>
static void qr_factor(int64_t batch, int64_t rows, int64_t columns, int64_t width, const double* a, double* q, double* r) {
    const int64_t count = smaller(rows, columns);
    each_matrix(batch, 2 * rows * columns * count, [&](int64_t b, bool inner) {
        double *to_q = q + b * rows * width, *to_r = r + b * width * columns;
        bool finite;
        const int e = exponent_of(rows * columns, a + b * rows * columns, &finite);
        if (finite) {
            const Strips m(rows, columns), left(rows, width);
            const Memory v(count * rows), list(3 * count);
            Reflection* made = reinterpret_cast<Reflection*>(list.data);
            read(inner, a + b * rows * columns, m);
            scale(m.count * rows * WIDTH, m.memory.data, -e);
            triangularize(inner, m, made, v.data);
            set_identity(left);
            multiply(inner, made, count, true, left);
            write(inner, left, to_q);
            scale(m.count * rows * WIDTH, m.memory.data, e);
            for (int64_t i = 0; i < width; ++i)
                for (int64_t j = 0; j < columns; ++j) to_r[i * columns + j] = j < i ? 0.0 : m.at(i, j);
        } else {
            fill(rows * width, __builtin_nan(""), to_q);
            for (int64_t i = 0; i < width; ++i)
                for (int64_t j = 0; j < columns; ++j) to_r[i * columns + j] = j < i ? 0.0 : __builtin_nan("");
        }
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid

#include "eigen.h"
