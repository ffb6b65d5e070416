// Eigenvalues of any square matrix, if they are real: section 14.6 of the law. Included by eigen.h.
#pragma once

namespace lucid {
namespace LUCID_ISA {

// A row-major square matrix.
struct Square {
    int64_t n;
    double* data;
    double* row(int64_t i) const { return data + i * n; }
    double& operator()(int64_t i, int64_t j) const { return data[i * n + j]; }
};

// a = (1 - tau v v^T) a for columns [begin, end) of the rows from `first` on; t is room for a row.
static void reflect_from_left(bool inner, int64_t count, const double* v, double tau, int64_t first, int64_t begin, int64_t end,
                              const Square& a, double* t) {
    using V = Vec<double>;
    if (tau == 0.0 || end <= begin) return;
    dots(inner, count, end - begin, a.n, v, a.row(first) + begin, t);
    for (int64_t j = 0; j < end - begin; ++j) t[j] = -(tau * t[j]);
    for (int64_t i = 0; i < count; ++i) {
        double* row = a.row(first + i) + begin;
        const V one = splat(v[i]);
        int64_t j = 0;
        for (; j + LANES<double> <= end - begin; j += LANES<double>) store(row + j, fma(one, load(t + j), load(row + j)));
        for (; j < end - begin; ++j) row[j] = fma1(v[i], t[j], row[j]);
    }
}

// The same for rows [0, end) of the columns from `first` on: a = a (1 - tau v v^T).
static void reflect_from_right(int64_t count, const double* v, double tau, int64_t first, int64_t end, const Square& a) {
    if (tau == 0.0) return;
    for (int64_t i = 0; i < end; ++i) {
        double *row = a.row(i) + first, sum = 0.0;
        for (int64_t j = 0; j < count; ++j) sum = fma1(v[j], row[j], sum);
        const double t = -(tau * sum);
        for (int64_t j = 0; j < count; ++j) row[j] = fma1(v[j], t, row[j]);
    }
}

static void hessenberg(bool inner, const Square& h, const Square& z) {
    const int64_t n = h.n, count = n > 2 ? n - 2 : 0;
    const Memory vectors(count * n), list(3 * count), room(n);
    Reflection* made = reinterpret_cast<Reflection*>(list.data);
    for (int64_t k = 0; k < count; ++k) {
        double* v = vectors.data + k * n;
        Reflection& r = made[k] = {k + 1, 0.0, v};
        const int64_t size = n - k - 1;
        h(k + 1, k) = reflection(size, &h(k + 1, k), n, v, &r.tau);
        for (int64_t i = k + 2; i < n; ++i) h(i, k) = 0.0;
        reflect_from_left(inner, size, v, r.tau, k + 1, k + 1, n, h, room.data);
        reflect_from_right(size, v, r.tau, k + 1, n, h);
    }
    const Strips q(n, n);
    set_identity(q);
    multiply(inner, made, count, true, q);
    write(inner, q, z.data);
}

static bool split_pair(const Square& h, const Square& z, int64_t n) {
    const int64_t m = n - 1;
    const double p = (h(m, m) - h(n, n)) / 2.0, square = p * p + h(n, m) * h(m, n);
    if (!(square >= 0.0)) return false;
    double root = __builtin_sqrt(square);
    root = p >= 0.0 ? p + root : p - root;
    const double size = hypotenuse(h(n, m), root), s = h(n, m) / size, c = root / size;
    const auto turned = [&](double& one, double& other) {
        const double x = one, y = other;
        one = c * x + s * y;
        other = c * y - s * x;
    };
    for (int64_t j = m; j < h.n; ++j) turned(h(m, j), h(n, j));
    for (int64_t i = 0; i <= n; ++i) turned(h(i, m), h(i, n));
    for (int64_t i = 0; i < h.n; ++i) turned(z(i, m), z(i, n));
    h(n, m) = 0.0;
    return true;
}

// Where a double step begins, and the three numbers that it reflects first.
static int64_t start_of_step(const Square& h, int64_t first, int64_t n, double x, double y, double w, double* v) {
    for (int64_t m = n - 2;; --m) {
        const double r = x - h(m, m), s = y - h(m, m);
        v[0] = (r * s - w) / h(m + 1, m) + h(m, m + 1);
        v[1] = h(m + 1, m + 1) - h(m, m) - r - s;
        v[2] = h(m + 2, m + 1);
        const double size = __builtin_fabs(v[0]) + __builtin_fabs(v[1]) + __builtin_fabs(v[2]);
        for (int i = 0; i < 3; ++i) v[i] = v[i] / size;
        if (m == first) return m;
        const double sum = __builtin_fabs(h(m - 1, m - 1)) + __builtin_fabs(h(m, m)) + __builtin_fabs(h(m + 1, m + 1));
        const double near = __builtin_fabs(v[0]) * sum;
        if (__builtin_fabs(h(m, m - 1)) * (__builtin_fabs(v[1]) + __builtin_fabs(v[2])) < EPSILON * near) return m;
    }
}

static void double_step(const Square& h, const Square& z, int64_t first, int64_t n, double x, double y, double w, double* room) {
    double start[3], v[3], tau;
    const int64_t m = start_of_step(h, first, n, x, y, w, start);
    for (int64_t k = m; k < n; ++k) {
        const int64_t count = smaller<int64_t>(3, n + 1 - k);
        for (int64_t i = 0; k > m && i < count; ++i) start[i] = h(k + i, k - 1);
        const double beta = reflection(count, start, 1, v, &tau);
        if (k > m) {
            h(k, k - 1) = beta;
            for (int64_t i = 1; i < count; ++i) h(k + i, k - 1) = 0.0;
        } else if (m > first && tau != 0.0) {
            h(k, k - 1) = -h(k, k - 1);
        }
        reflect_from_left(false, count, v, tau, k, k, h.n, h, room);
        reflect_from_right(count, v, tau, k, smaller(n, k + 3) + 1, h);
        reflect_from_right(count, v, tau, k, h.n, z);
    }
}

static Failure make_triangular(const Square& h, const Square& z) {
    const Memory room(h.n);
    int steps = 0;
    for (int64_t n = h.n - 1; n >= 0;) {
        int64_t first = n;
        for (; first > 0; --first) {
            const double near = __builtin_fabs(h(first - 1, first - 1)) + __builtin_fabs(h(first, first));
            if (__builtin_fabs(h(first, first - 1)) <= EPSILON * (near != 0.0 ? near : 1.0)) {
                h(first, first - 1) = 0.0;
                break;
            }
        }
        if (first >= n - 1) {
            if (first == n - 1 && !split_pair(h, z, n)) return NOT_REAL;
            n = first - 1, steps = 0;
            continue;
        }
        if (steps == SWEEPS) return GIVEN_UP;
        double x = h(n, n), y = h(n - 1, n - 1), w = h(n, n - 1) * h(n - 1, n);
        if (++steps % 10 == 0) {
            const double s = __builtin_fabs(h(n, n - 1)) + __builtin_fabs(h(n - 1, n - 2));
            x = y = x + 0.75 * s;
            w = -0.4375 * (s * s);
        }
        double_step(h, z, first, n, x, y, w, room.data);
    }
    return NONE;
}

// Those of z t z^T, t upper triangular, as columns of v of length one.
static void eigenvectors(bool inner, const Square& t, const Square& z, double* v) {
    const int64_t n = t.n;
    double largest = 0.0;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = i; j < n; ++j) largest = larger(largest, __builtin_fabs(t(i, j)));
    const double least = EPSILON * (largest > 0.0 ? largest : 1.0);
    const Memory turned(n * n);  // z^T: the columns of z in rows
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) turned.data[j * n + i] = z(i, j);
    each(inner, 0, n, [&](int64_t k) {
        const Memory room(2 * n);
        double *x = room.data, *y = room.data + n;
        for (int64_t i = 0; i < k; ++i) x[i] = -t(i, k);
        x[k] = 1.0;
        for (int64_t i = k - 1; i >= 0; --i) {
            double gap = t(i, i) - t(k, k);
            if (__builtin_fabs(gap) < least) gap = least;
            x[i] = x[i] / gap;
            const double size = __builtin_fabs(x[i]);
            if (size > 0x1p300)
                for (int64_t j = 0; j <= k; ++j) x[j] = x[j] / size;
            for (int64_t j = 0; j < i; ++j) x[j] = fma1(-t(j, i), x[i], x[j]);
        }
        dots(false, k + 1, n, n, x, turned.data, y);
        const double length = __builtin_sqrt(square_of(n, y));
        for (int64_t i = 0; i < n; ++i) v[i * n + k] = y[i] / length;
    });
}

static Failure real_eigen(bool inner, int64_t n, const double* a, double* w, double* v) {
    bool finite;
    const int exponent = exponent_of(n * n, a, &finite);
    if (!finite) return NOT_FINITE;
    const Memory matrix(n * n), vectors(n * n);
    const Square h{n, matrix.data}, z{n, vectors.data};
    for (int64_t i = 0; i < n * n; ++i) h.data[i] = a[i];
    scale(n * n, h.data, -exponent);
    hessenberg(inner, h, z);
    const Failure failed = make_triangular(h, z);
    if (failed != NONE) return failed;
    for (int64_t i = 0; i < n; ++i) w[i] = __builtin_ldexp(h(i, i), exponent);
    eigenvectors(inner, h, z, v);
    return NONE;
}

template <class T>
static void eig_factor(int64_t batch, int64_t n, const double* a, double* w, double* v, int64_t* failed) {
    each_eigen(batch, n, a, w, v, failed, real_eigen);
}

}  // namespace LUCID_ISA
}  // namespace lucid
