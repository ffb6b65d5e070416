// Eigenvalues and singular values: sections 14.4 to 14.6 of the law. Included by linalg.h.
#pragma once

namespace lucid {
namespace LUCID_ISA {

constexpr double EPSILON = 0x1p-52, NEGLIGIBLE = 0x1p-960;
constexpr int SWEEPS = 60;
enum Failure { NONE, GIVEN_UP, NOT_FINITE, NOT_REAL };

static double hypotenuse(double a, double b) {
    a = __builtin_fabs(a), b = __builtin_fabs(b);
    const double large = a > b ? a : b, small = a > b ? b : a;
    if (large == 0.0) return large;
    const double ratio = small / large;
    return large * __builtin_sqrt(1.0 + ratio * ratio);
}

// -- 14.4: symmetric matrices --------------------------------------------------------------------------------------------------

// p[i] = the sum of v[j] a[j, i] from +0, j ascending, for columns of a row-major matrix; in pieces of its columns.
static void dots(bool inner, int64_t rows, int64_t columns, int64_t step, const double* v, const double* a, double* p) {
    using V = Vec<double>;
    constexpr int64_t LANE = LANES<double>, PIECE = 4 * LANE;
    each(inner && rows * columns > MATRIX_WORK, 0, (columns + PIECE - 1) / PIECE, [&](int64_t piece) {
        int64_t c = piece * PIECE;
        const int64_t end = smaller(columns, c + PIECE);
        if (end - c == PIECE) {
            V sums[4] = {};
            for (int64_t j = 0; j < rows; ++j) {
                const V one = splat(v[j]);
                for (int q = 0; q < 4; ++q) sums[q] = fma(one, load(a + j * step + c + q * LANE), sums[q]);
            }
            for (int q = 0; q < 4; ++q) store(p + c + q * LANE, sums[q]);
            return;
        }
        for (; c < end; ++c) {
            p[c] = 0.0;
            for (int64_t j = 0; j < rows; ++j) p[c] = fma1(v[j], a[j * step + c], p[c]);
        }
    });
}

// a[i, j] = fma(y, w[j], fma(x, v[j], a[i, j])) for columns [begin, end) of a row.
static void update_row(int64_t begin, int64_t end, double x, const double* v, double y, const double* w, double* row) {
    const Vec<double> xs = splat(x), ys = splat(y);
    int64_t j = begin;
    for (; j + LANES<double> <= end; j += LANES<double>)
        store(row + j, fma(ys, load(w + j), fma(xs, load(v + j), load(row + j))));
    for (; j < end; ++j) row[j] = fma1(y, w[j], fma1(x, v[j], row[j]));
}

// Makes the full symmetric matrix `a` tridiagonal; its vectors go to `v`, n values each. Returns how many reflections.
static int64_t tridiagonalize(bool inner, int64_t n, double* a, double* d, double* e, Reflection* made, double* v) {
    const Memory room(2 * n);
    double *p = room.data, *w = room.data + n;
    fill(n, 0.0, e);
    for (int64_t k = 0; k + 2 < n; ++k) {
        const int64_t size = n - k - 1;
        double *x = v + k * n, *rest = a + (k + 1) * n + k + 1;
        Reflection& r = made[k] = {k + 1, 0.0, x};
        e[k] = reflection(size, rest - 1, n, x, &r.tau);
        if (r.tau == 0.0) continue;
        dots(inner, size, size, n, x, rest, p);
        double sum = 0.0;
        for (int64_t i = 0; i < size; ++i) {
            p[i] = r.tau * p[i];
            sum = fma1(x[i], p[i], sum);
        }
        const double half = 0.5 * r.tau * sum;
        for (int64_t i = 0; i < size; ++i) w[i] = fma1(-half, x[i], p[i]);
        const auto row = [&](int64_t i) {
            update_row(0, i + 1, -x[i], w, -w[i], x, rest + i * n);
            update_row(i + 1, size, -w[i], x, -x[i], w, rest + i * n);
        };
        if (inner && size * size > MATRIX_WORK)
            parallel_range(size, 16, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) row(i);
            });
        else
            for (int64_t i = 0; i < size; ++i) row(i);
    }
    for (int64_t i = 0; i < n; ++i) d[i] = a[i * n + i];
    if (n > 1) e[n - 2] = a[(n - 1) * n + n - 2];
    return n > 2 ? n - 2 : 0;
}

// Rows i and j of z become c z_i - s z_j and s z_i + c z_j.
static void turn(int64_t n, double* one, double* other, double c, double s) {
    const Vec<double> cs = splat(c), ss = splat(s);
    int64_t k = 0;
    for (; k + LANES<double> <= n; k += LANES<double>) {
        const Vec<double> x = load(one + k), y = load(other + k);
        store(one + k, cs * x - ss * y);
        store(other + k, ss * x + cs * y);
    }
    for (; k < n; ++k) {
        const double x = one[k], y = other[k];
        one[k] = c * x - s * y;
        other[k] = s * x + c * y;
    }
}

// One QL step on rows `first` to `last`; fills, for each i, the turn of rows i and i + 1. Returns the lowest i that turned.
static int64_t ql_step(int64_t first, int64_t last, double* d, double* e, double* cosines, double* sines) {
    double g = (d[first + 1] - d[first]) / (2.0 * e[first]);
    double r = hypotenuse(g, 1.0);
    g = d[last] - d[first] + e[first] / (g + (g >= 0.0 ? r : -r));
    double s = 1.0, c = 1.0, p = 0.0;
    for (int64_t i = last - 1; i >= first; --i) {
        const double f = s * e[i], b = c * e[i];
        r = e[i + 1] = hypotenuse(f, g);
        if (r == 0.0) {
            d[i + 1] = d[i + 1] - p;
            e[last] = 0.0;
            return i + 1;
        }
        s = f / r, c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2.0 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        cosines[i] = c, sines[i] = s;
    }
    d[first] = d[first] - p;
    e[first] = g, e[last] = 0.0;
    return first;
}

// QL steps whose turns wait: strips of Z take many of them while they lie in cache.
struct Turns {
    struct Step {
        int64_t lowest, last, from;  // rows, and where the turns of this step begin
    };
    int64_t n, most, steps = 0, turns = 0;
    Memory angles, list;
    explicit Turns(int64_t n)
        : n(n), most(smaller<int64_t>(1 << 15, 4 * n * n + 1)), angles(2 * (most + n)), list(3 * most) {}
    double* cosines() const { return angles.data; }
    double* sines() const { return angles.data + most + n; }
    Step* all() const { return reinterpret_cast<Step*>(list.data); }

    // The turn of rows i and i + 1 of a step lies at `from` + i; `first` is the lowest row that it may have.
    void add(int64_t first, int64_t lowest, int64_t last) {
        if (lowest < last) all()[steps++] = {lowest, last, turns - first};
        turns += last - first;
    }
    bool full() const { return turns >= most || steps == most; }
    void apply(bool inner, const Strips& z) {
        each(inner && turns * n > MATRIX_WORK, 0, z.count, [&](int64_t s) {
            for (int64_t c = 0; c < WIDTH; c += TOGETHER * LANES<double>)
                for (int64_t k = 0; k < steps; ++k) apply_step(all()[k], z.of(s) + c);
        });
        steps = turns = 0;
    }
    void apply_step(const Step& step, double* z) const {
        using V = Vec<double>;
        V upper[TOGETHER];  // row i + 1, as the turn before left it
        for (int q = 0; q < TOGETHER; ++q) upper[q] = load(z + step.last * WIDTH + q * LANES<double>);
        for (int64_t i = step.last - 1; i >= step.lowest; --i) {
            const V c = splat(cosines()[step.from + i]), s = splat(sines()[step.from + i]);
            for (int q = 0; q < TOGETHER; ++q) {
                double* row = z + i * WIDTH + q * LANES<double>;
                const V lower = load(row);
                store(row + WIDTH, s * lower + c * upper[q]);
                upper[q] = c * lower - s * upper[q];
            }
        }
        for (int q = 0; q < TOGETHER; ++q) store(z + step.lowest * WIDTH + q * LANES<double>, upper[q]);
    }
};

static bool diagonalize(bool inner, double* d, double* e, const Strips& z) {
    const int64_t n = z.rows;
    Turns waiting(n);
    for (int64_t first = 0; first < n; ++first) {
        for (int step = 0;; ++step) {
            int64_t last = first;
            if (step == SWEEPS) return false;
            while (last < n - 1 && __builtin_fabs(e[last]) > EPSILON * (__builtin_fabs(d[last]) + __builtin_fabs(d[last + 1])))
                ++last;
            if (last == first) break;
            double *c = waiting.cosines() + waiting.turns - first, *s = waiting.sines() + waiting.turns - first;
            waiting.add(first, ql_step(first, last, d, e, c, s), last);
            if (waiting.full()) waiting.apply(inner, z);
        }
    }
    waiting.apply(inner, z);
    return true;
}

// The order that sorts, ascending, equal ones as they come.
static void sorted(int64_t n, const double* key, int64_t* order) {
    for (int64_t i = 0; i < n; ++i) {
        int64_t at = i;
        for (; at > 0 && key[order[at - 1]] > key[i]; --at) order[at] = order[at - 1];
        order[at] = i;
    }
}

static Failure symmetric(bool inner, int64_t n, const double* a, double* w, double* v) {
    const Memory full(n * n), beside(2 * n), vectors(n * n), list(3 * n), sorting(n);
    double *m = full.data, *d = beside.data, *e = d + n;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) m[i * n + j] = j <= i ? a[i * n + j] : a[j * n + i];
    bool finite;
    const int exponent = exponent_of(n * n, m, &finite);
    if (!finite) return NOT_FINITE;
    scale(n * n, m, -exponent);
    Reflection* made = reinterpret_cast<Reflection*>(list.data);
    const int64_t count = tridiagonalize(inner, n, m, d, e, made, vectors.data);
    const Strips q(n, n);
    set_identity(q);
    multiply(inner, made, count, true, q);
    const Strips z(n, n);  // its rows are the columns of q
    each(inner, 0, z.count, [&](int64_t s) {
        double* strip = z.of(s);
        for (int64_t i = 0; i < n; ++i)
            for (int64_t c = 0; c < WIDTH; ++c) strip[i * WIDTH + c] = s * WIDTH + c < n ? q.at(s * WIDTH + c, i) : 0.0;
    });
    if (!diagonalize(inner, d, e, z)) return GIVEN_UP;
    int64_t* order = reinterpret_cast<int64_t*>(sorting.data);
    sorted(n, d, order);
    for (int64_t j = 0; j < n; ++j) {
        w[j] = __builtin_ldexp(d[order[j]], exponent);
        for (int64_t i = 0; i < n; ++i) v[i * n + j] = z.at(order[j], i);
    }
    return NONE;
}

// `one(inner, a, w, v)` for each matrix of a batch, NaN where it fails.
template <class One>
static void each_eigen(int64_t batch, int64_t n, const double* a, double* w, double* v, int64_t* failed, const One& one) {
    each_matrix(batch, 8 * n * n * n, [&](int64_t b, bool inner) {
        failed[b] = one(inner, n, a + b * n * n, w + b * n, v + b * n * n);
        if (failed[b] == NONE) return;
        fill(n, __builtin_nan(""), w + b * n);
        fill(n * n, __builtin_nan(""), v + b * n * n);
    });
}

template <class T>
static void eigh_factor(int64_t batch, int64_t n, const double* a, double* w, double* v, int64_t* failed) {
    each_eigen(batch, n, a, w, v, failed, symmetric);
}

// -- 14.5: singular values -----------------------------------------------------------------------------------------------------

constexpr int64_t SUMS = 32;  // interleaved sums of a product of two vectors: four vectors of AVX-512

static double dot(int64_t n, const double* x, const double* y) {
    using V = Vec<double>;
    constexpr int LANE = LANES<double>, VECTORS = SUMS / LANE;
    V sums[VECTORS] = {};
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (int q = 0; q < VECTORS; ++q) sums[q] = sums[q] + load(x + i + q * LANE) * load(y + i + q * LANE);
    double s[SUMS];
    for (int q = 0; q < VECTORS; ++q) store(s + q * LANE, sums[q]);
    for (int k = 0; i < n; ++i, ++k) s[k] = s[k] + x[i] * y[i];
    for (int64_t h = SUMS / 2; h > 0; h /= 2)
        for (int64_t k = 0; k < h; ++k) s[k] = s[k] + s[k + h];
    return s[0];
}

// Rows of w and z are `step` apart.
static bool make_orthogonal(int64_t n, int64_t step, double* w, double* z) {
    const Memory squares(n);
    const double tolerance = EPSILON * __builtin_sqrt(double(n));
    for (int sweep = 0; sweep < SWEEPS; ++sweep) {
        bool turned = false;
        for (int64_t p = 0; p < n; ++p) squares.data[p] = dot(n, w + p * step, w + p * step);
        for (int64_t p = 0; p < n; ++p)
            for (int64_t q = p + 1; q < n; ++q) {
                double &pp = squares.data[p], &qq = squares.data[q];
                const double pq = dot(n, w + p * step, w + q * step);
                if (pp < NEGLIGIBLE || qq < NEGLIGIBLE ||
                    __builtin_fabs(pq) <= tolerance * (__builtin_sqrt(pp) * __builtin_sqrt(qq)))
                    continue;
                turned = true;
                const double zeta = (qq - pp) / (2.0 * pq);
                const double size = __builtin_fabs(zeta) + hypotenuse(zeta, 1.0);
                const double t = zeta >= 0.0 ? 1.0 / size : -1.0 / size, c = 1.0 / __builtin_sqrt(1.0 + t * t);
                turn(n, w + p * step, w + q * step, c, c * t);
                turn(n, z + p * step, z + q * step, c, c * t);
                pp = pp - t * pq;
                qq = qq + t * pq;
            }
        if (!turned) return true;
    }
    return false;
}

// The rows of w from `rank` on, so that all n are orthonormal.
static void complete(bool inner, int64_t n, int64_t rank, double* w) {
    const Strips known(n, rank), q(n, n);
    const Memory v(rank * n), list(3 * rank);
    for (int64_t s = 0; s < known.count; ++s) fill(n * WIDTH, 0.0, known.of(s));
    for (int64_t i = 0; i < rank; ++i)
        for (int64_t j = 0; j < n; ++j) known.at(j, i) = w[i * n + j];
    Reflection* made = reinterpret_cast<Reflection*>(list.data);
    const int64_t count = triangularize(inner, known, made, v.data);
    set_identity(q);
    multiply(inner, made, count, true, q);
    for (int64_t i = rank; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) w[i * n + j] = q.at(j, i);
}

// Of m, with rows >= columns = n (made triangular), u, s and the rows of vh.
static bool singular(bool inner, const Strips& m, const Strips& u, double* s, double* vh) {
    const int64_t n = m.columns, step = n + SUMS;  // no two rows lie a multiple of a page apart
    const Memory v(n * m.rows), list(3 * n), rows(2 * n * step), squares(2 * n);
    Reflection* made = reinterpret_cast<Reflection*>(list.data);
    triangularize(inner, m, made, v.data);
    double *w = rows.data, *z = rows.data + n * step, *lengths = squares.data;
    fill(2 * n * step, 0.0, w);
    for (int64_t i = 0; i < n; ++i) {
        z[i * step + i] = 1.0;
        for (int64_t j = i; j < n; ++j) w[i * step + j] = m.at(i, j);
    }
    if (!make_orthogonal(n, step, w, z)) return false;
    for (int64_t i = 0; i < n; ++i) {
        const double square = dot(n, w + i * step, w + i * step);
        lengths[i] = square < NEGLIGIBLE ? -0.0 : -__builtin_sqrt(square);
    }
    int64_t* order = reinterpret_cast<int64_t*>(lengths + n);
    sorted(n, lengths, order);
    for (int64_t strip = 0; strip < u.count; ++strip) fill(u.rows * WIDTH, 0.0, u.of(strip));
    int64_t rank = 0;
    for (int64_t i = 0; i < n; ++i) {
        s[i] = -lengths[order[i]];
        if (s[i] != 0.0) ++rank;
        for (int64_t j = 0; j < n; ++j) {
            u.at(j, i) = z[order[i] * step + j];
            if (s[i] != 0.0) vh[i * n + j] = w[order[i] * step + j] / s[i];
        }
    }
    if (rank < n) complete(inner, n, rank, vh);
    multiply(inner, made, n, false, u);
    return true;
}

static Failure singular_values(bool inner, int64_t rows, int64_t columns, const double* a, double* u, double* s, double* vh) {
    const bool wide = rows < columns;
    const int64_t tall = wide ? columns : rows, n = wide ? rows : columns;
    bool finite;
    const int exponent = exponent_of(rows * columns, a, &finite);
    if (!finite) return NOT_FINITE;
    const Strips m(tall, n), left(tall, n);
    const Memory right(n * n);
    for (int64_t strip = 0; strip < m.count; ++strip) fill(tall * WIDTH, 0.0, m.of(strip));
    for (int64_t i = 0; i < tall; ++i)
        for (int64_t j = 0; j < n; ++j) m.at(i, j) = __builtin_ldexp(wide ? a[j * columns + i] : a[i * columns + j], -exponent);
    if (!singular(inner, m, left, s, right.data)) return GIVEN_UP;
    scale(n, s, exponent);
    double *tall_vectors = wide ? vh : u, *others = wide ? u : vh;
    for (int64_t i = 0; i < tall; ++i)
        for (int64_t j = 0; j < n; ++j) tall_vectors[wide ? j * tall + i : i * n + j] = left.at(i, j);
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) others[wide ? j * n + i : i * n + j] = right.data[i * n + j];
    return NONE;
}

template <class T>
static void svd_factor(int64_t batch, int64_t rows, int64_t columns, const double* a, double* u, double* s, double* vh,
                       int64_t* failed) {
    const int64_t k = smaller(rows, columns);
    each_matrix(batch, 8 * rows * columns * k, [&](int64_t b, bool inner) {
        double *to_u = u + b * rows * k, *to_s = s + b * k, *to_vh = vh + b * k * columns;
        failed[b] = singular_values(inner, rows, columns, a + b * rows * columns, to_u, to_s, to_vh);
        if (failed[b] == NONE) return;
        fill(rows * k, __builtin_nan(""), to_u);
        fill(k, __builtin_nan(""), to_s);
        fill(k * columns, __builtin_nan(""), to_vh);
    });
}

}  // namespace LUCID_ISA
}  // namespace lucid

#include "schur.h"
