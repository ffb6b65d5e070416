"""Linear algebra: section 14 of the law. Matrices are float64, ``(..., rows, columns)``; results are, too.

What every kernel does with one matrix stands in a function of its own; the kernels go through the batch. They run on
the host on every backend: a matrix goes through thousands of short steps that depend on each other.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from lucid.kernels._fma import chain, fma
from lucid.kernels.declare import DENSE, Array, Returns, kernel

EPSILON = 2.0**-52
NEGLIGIBLE = 2.0**-960  # a squared length below it counts as zero
SWEEPS = 60  # of Jacobi rotations, or steps of QR for one eigenvalue, before a matrix is given up
LANES = 8  # interleaved sums of a product of two vectors, section 14.6
_F64, _I64 = np.dtype(np.float64), np.dtype(np.int64)


def _batch(a: Array) -> int:
    return prod(a.shape[:-2])


def _stacked(a: Array) -> Array:
    """A copy as (batch, rows, columns)."""
    return np.array(a, np.float64, order="C").reshape(_batch(a), *a.shape[-2:])


def _square(a: Array) -> dict[str, int]:
    return {"batch": _batch(a), "n": a.shape[-1]}


def _rectangle(a: Array) -> dict[str, int]:
    return {"batch": _batch(a), "rows": a.shape[-2], "columns": a.shape[-1]}


def _dense(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, DENSE)


# -- 14.1: triangular factors ----------------------------------------------------------------------------------------


def _lu(a: Array) -> Returns:
    return {"lu": (a.shape, _F64), "order": (a.shape[:-1], _I64), "swaps": (a.shape[:-2], _I64)}


@kernel("14.1", returns=_lu, layout=_dense("a", "lu", "order", "swaps"), sizes=_square, tasks="host")
def lu_factor(a: Array) -> tuple[Array, Array, Array]:
    """``a[order] = L U``, both in one matrix, and how many rows changed places."""
    factors = _stacked(a)
    order = np.tile(np.arange(a.shape[-1]), (len(factors), 1))
    swaps = np.zeros(len(factors), np.int64)
    for b, (m, rows) in enumerate(zip(factors, order, strict=True)):
        for k in range(len(m)):
            p = k + int(np.abs(m[k:, k]).argmax())  # the first of equal ones; the first NaN
            if p != k:
                m[[k, p]], rows[[k, p]] = m[[p, k]], rows[[p, k]]
                swaps[b] += 1
            if m[k, k] != 0:
                m[k + 1 :, k] /= m[k, k]
            m[k + 1 :, k + 1 :] = fma(-m[k + 1 :, k, None], m[k, None, k + 1 :], m[k + 1 :, k + 1 :])
    return factors.reshape(a.shape), order.reshape(a.shape[:-1]), swaps.reshape(a.shape[:-2])


@kernel(
    "14.1",
    returns=lambda t, b, upper, unit: {"x": (b.shape, _F64)},
    layout=_dense("t", "b", "x"),
    sizes=lambda t, b, upper, unit: {"batch": _batch(b), "n": b.shape[-2], "columns": b.shape[-1]},
    numbers=("upper", "unit"),
    tasks="host",
)
def triangular_solve(t: Array, b: Array, upper: bool, unit: bool) -> Array:
    """``t x = b`` for the upper or the lower triangle of ``t``; with ``unit`` its diagonal counts as ones."""
    solutions = _stacked(b)
    for m, x in zip(_stacked(t), solutions, strict=True):
        n = len(m)
        for k in reversed(range(n)) if upper else range(n):
            if not unit:
                x[k] /= m[k, k]
            rest = slice(0, k) if upper else slice(k + 1, n)
            x[rest] = fma(-m[rest, k, None], x[k, None], x[rest])
    return solutions.reshape(b.shape)


def _cholesky(a: Array) -> Returns:
    return {"l": (a.shape, _F64), "failed": (a.shape[:-2], _I64)}


@kernel("14.2", returns=_cholesky, layout=_dense("a", "l", "failed"), sizes=_square, tasks="host")
def cholesky_factor(a: Array) -> tuple[Array, Array]:
    """``a = L L^T``; ``failed`` is 0, or the order of the first leading minor that is not positive."""
    factors, failed = np.tril(_stacked(a)), np.zeros(_batch(a), np.int64)
    for b, m in enumerate(factors):
        for k in range(len(m)):
            if not m[k, k] > 0:
                failed[b] = k + 1
                m[...] = np.tril(np.full(m.shape, np.nan))
                break
            m[k, k] = np.sqrt(m[k, k])
            m[k + 1 :, k] /= m[k, k]
            below = m[k + 1 :, k]
            m[k + 1 :, k + 1 :] = np.tril(fma(-below[:, None], below[None, :], m[k + 1 :, k + 1 :]))
    return factors.reshape(a.shape), failed.reshape(a.shape[:-2])


# -- 14.3: reflections -----------------------------------------------------------------------------------------------


def scaled(a: Array) -> tuple[Array, int]:
    """``a * 2^-e`` and ``e``: the largest magnitude is in [0.5, 1) then; ``e`` is 0 where there is none."""
    largest = np.abs(a).max(initial=0.0)
    e = int(np.frexp(largest)[1]) if 0 < largest < np.inf else 0
    return np.ldexp(a, -e), e


def reflection(x: Array) -> tuple[Array, float, float]:
    """``(v, tau, beta)``: ``v[0]`` is 1, and ``(1 - tau v v^T) x`` is ``beta`` in front of zeros."""
    v = x.copy()
    v[0] = 1.0
    alpha = x[0]
    rest = chain(x[1:, None], x[1:, None], [1] * (len(x) - 1))[0] if len(x) > 1 else np.float64(0)
    if rest == 0:
        return v, np.float64(0), alpha
    length = np.sqrt(fma(alpha, alpha, rest))
    beta = length if alpha < 0 else -length
    v[1:] = x[1:] / (alpha - beta)
    return v, (beta - alpha) / beta, beta


def dots(v: Array, a: Array) -> Array:
    """``v^T a`` for the columns of ``a``."""
    return chain(v[:, None], a, [a.shape[1]] * len(v))


def reflect(v: Array, tau: float, a: Array) -> None:
    """``a = (1 - tau v v^T) a`` in place; nothing where ``tau`` is 0."""
    if tau != 0 and a.size:
        t = tau * dots(v, a)
        a[0] -= t
        a[1:] = fma(-v[1:, None], t[None, :], a[1:])


Reflections = list[tuple[int, Array, float]]


def triangularize(a: Array) -> Reflections:
    """Make ``a`` upper triangular in place, by reflections of the rows from ``k`` on."""
    made = []
    for k in range(min(a.shape)):
        v, tau, beta = reflection(a[k:, k])
        a[k, k], a[k + 1 :, k] = beta, 0.0
        reflect(v, tau, a[k:, k + 1 :])
        made.append((k, v, tau))
    return made


def product(made: Reflections, q: Array, all_columns: bool = False) -> Array:
    """The product of reflections, the first leftmost, times ``q``, in place; only columns that an identity's move."""
    for k, v, tau in reversed(made):
        reflect(v, tau, q[k:, 0 if all_columns else k :])
    return q


def _qr(a: Array, complete: bool) -> Returns:
    *batch, rows, columns = a.shape
    k = rows if complete else min(rows, columns)
    return {"q": ((*batch, rows, k), _F64), "r": ((*batch, k, columns), _F64)}


@kernel(
    "14.3",
    returns=_qr,
    layout=_dense("a", "q", "r"),
    sizes=lambda a, complete: {**_rectangle(a), "width": _qr(a, complete)["q"][0][-1]},
    tasks="host",
)
def qr_factor(a: Array, complete: bool) -> tuple[Array, Array]:
    """``a = Q R``, the columns of ``Q`` orthonormal; with ``complete`` it is square."""
    (q_shape, _), (r_shape, _) = _qr(a, complete).values()
    q, r = np.zeros((_batch(a), *q_shape[-2:])), np.zeros((_batch(a), *r_shape[-2:]))
    for b, m in enumerate(_stacked(a)):
        if not np.isfinite(m).all():
            q[b], r[b] = np.nan, np.triu(np.full(r.shape[1:], np.nan))
            continue
        m, e = scaled(m)
        made = triangularize(m)
        r[b] = np.ldexp(m[: r_shape[-2]], e)
        q[b] = product(made, np.eye(q_shape[-2], q_shape[-1]))
    return q.reshape(q_shape), r.reshape(r_shape)


# -- 14.4: symmetric matrices ----------------------------------------------------------------------------------------


def hypotenuse(a: float, b: float) -> float:
    a, b = abs(a), abs(b)
    large, small = (a, b) if a > b else (b, a)
    if large == 0:
        return large
    ratio = small / large
    return large * np.sqrt(1.0 + ratio * ratio)


def tridiagonalize(a: Array) -> tuple[Array, Array, Reflections]:
    """Diagonal, what stands beside it (and a 0), and reflections, of a symmetric matrix whose lower triangle counts."""
    n, made = len(a), []
    a = np.where(np.tri(n, dtype=bool), a, a.T)
    beside = np.zeros(n)
    for k in range(n - 2):
        v, tau, beside[k] = reflection(a[k + 1 :, k])
        made.append((k + 1, v, tau))
        if tau == 0:
            continue
        rest = a[k + 1 :, k + 1 :]
        p = tau * dots(v, rest)
        half = 0.5 * tau * dots(v, p[:, None])[0]
        w = fma(-half, v, p)
        lower = fma(-w[:, None], v[None, :], fma(-v[:, None], w[None, :], rest))
        rest[...] = np.where(np.tri(len(v), dtype=bool), lower, lower.T)
    if n > 1:
        beside[n - 2] = a[n - 1, n - 2]
    return a.diagonal().copy(), beside, made


def turn(z: Array, i: int, j: int, c: float, s: float) -> None:
    """Rows ``i`` and ``j`` become ``c z_i - s z_j`` and ``s z_i + c z_j``."""
    z[i], z[j] = c * z[i] - s * z[j], s * z[i] + c * z[j]


def diagonalize(d: Array, e: Array, z: Array) -> bool:
    """QL steps on the diagonals ``d``, ``e`` until ``e`` is gone; the rows of ``z`` turn along. False: given up."""
    n = len(d)
    for first in range(n):
        for _ in range(SWEEPS):
            last = first
            while last < n - 1 and abs(e[last]) > EPSILON * (abs(d[last]) + abs(d[last + 1])):
                last += 1
            if last == first:
                break
            g = (d[first + 1] - d[first]) / (2.0 * e[first])
            r = hypotenuse(g, 1.0)
            g = d[last] - d[first] + e[first] / (g + (r if g >= 0 else -r))
            s, c, p = 1.0, 1.0, 0.0
            for i in reversed(range(first, last)):
                f, b = s * e[i], c * e[i]
                r = e[i + 1] = hypotenuse(f, g)
                if r == 0:
                    d[i + 1] -= p
                    e[last] = 0.0
                    break
                s, c = f / r, g / r
                g = d[i + 1] - p
                r = (d[i] - g) * s + 2.0 * c * b
                p = s * r
                d[i + 1] = g + p
                g = c * r - b
                turn(z, i, i + 1, c, s)
            else:
                d[first] -= p
                e[first], e[last] = g, 0.0
        else:
            return False
    return True


def _eigh(a: Array) -> Returns:
    return {"w": (a.shape[:-1], _F64), "v": (a.shape, _F64), "failed": (a.shape[:-2], _I64)}


@kernel("14.4", returns=_eigh, layout=_dense("a", "w", "v", "failed"), sizes=_square, tasks="host")
def eigh_factor(a: Array) -> tuple[Array, Array, Array]:
    """``a = V diag(w) V^T``, ``w`` ascending; ``failed`` is 0, 1 (no end was reached) or 2 (``a`` is not finite)."""
    w, v, failed = np.full(a.shape[:-1], np.nan), np.full(a.shape, np.nan), np.zeros(a.shape[:-2], np.int64)
    for at in np.ndindex(a.shape[:-2]):
        m = np.where(np.tri(a.shape[-1], dtype=bool), a[at], 0.0)
        if not np.isfinite(m).all():
            failed[at] = 2
            continue
        m, e = scaled(m)
        d, beside, made = tridiagonalize(m)
        z = np.ascontiguousarray(product(made, np.eye(len(m))).T)
        if not diagonalize(d, beside, z):
            failed[at] = 1
            continue
        order = np.argsort(d, kind="stable")
        w[at], v[at] = np.ldexp(d[order], e), z[order].T
    return w, v, failed


# -- 14.5: singular values -------------------------------------------------------------------------------------------


def dot(a: Array, b: Array) -> float:
    """The product of two vectors in eight interleaved sums."""
    terms = a * b
    s = np.zeros(LANES)
    for i in range(0, len(terms), LANES):
        part = terms[i : i + LANES]
        s[: len(part)] += part
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))


def make_orthogonal(w: Array, z: Array) -> bool:
    """Turn pairs of rows of ``w`` until all are orthogonal; the rows of ``z`` turn along. False: given up."""
    n = len(w)
    tolerance = EPSILON * np.sqrt(np.float64(n))
    for _ in range(SWEEPS):
        turned = False
        for p in range(n):
            for q in range(p + 1, n):
                pp, qq, pq = dot(w[p], w[p]), dot(w[q], w[q]), dot(w[p], w[q])
                if pp < NEGLIGIBLE or qq < NEGLIGIBLE or abs(pq) <= tolerance * (np.sqrt(pp) * np.sqrt(qq)):
                    continue
                turned = True
                zeta = (qq - pp) / (2.0 * pq)
                size = abs(zeta) + hypotenuse(zeta, 1.0)
                t = 1.0 / size if zeta >= 0 else -1.0 / size
                c = 1.0 / np.sqrt(1.0 + t * t)
                turn(w, p, q, c, c * t)
                turn(z, p, q, c, c * t)
        if not turned:
            return True
    return False


def _svd(a: Array) -> Returns:
    *batch, rows, columns = a.shape
    k = min(rows, columns)
    return {
        "u": ((*batch, rows, k), _F64),
        "s": ((*batch, k), _F64),
        "vh": ((*batch, k, columns), _F64),
        "failed": (tuple(batch), _I64),
    }


def singular_values(m: Array) -> tuple[Array, Array, Array] | None:
    """``(u, s, vh)`` of a matrix with at least as many rows as columns; None: given up."""
    rows, n = m.shape
    m, e = scaled(m)
    made = triangularize(m)
    w, z = m[:n].copy(), np.eye(n)
    if not make_orthogonal(w, z):
        return None
    squares = np.array([dot(row, row) for row in w])
    s = np.where(squares < NEGLIGIBLE, 0.0, np.sqrt(squares))
    order = np.argsort(-s, kind="stable")
    s, w, z = s[order], w[order], z[order]
    rank = int(np.count_nonzero(s))
    w[:rank] /= s[:rank, None]
    if rank < n:
        w[rank:] = product(triangularize(w[:rank].T.copy()), np.eye(n)).T[rank:]
    u = np.zeros((rows, n))
    u[:n] = z.T
    return product(made, u, all_columns=True), np.ldexp(s, e), w


@kernel("14.5", returns=_svd, layout=_dense("a", "u", "s", "vh", "failed"), sizes=_rectangle, tasks="host")
def svd_factor(a: Array) -> tuple[Array, Array, Array, Array]:
    """``a = U diag(s) Vh``, ``s`` descending; ``failed`` as of ``eigh_factor``."""
    u, s, vh, failed = (np.full(shape, 0 if dtype == _I64 else np.nan, dtype) for shape, dtype in _svd(a).values())
    for at in np.ndindex(a.shape[:-2]):
        m, wide = a[at], a.shape[-2] < a.shape[-1]
        if not np.isfinite(m).all():
            failed[at] = 2
            continue
        found = singular_values(m.T if wide else m)
        if found is None:
            failed[at] = 1
            continue
        left, s[at], right = found
        u[at], vh[at] = (right.T, left.T) if wide else (left, right)
    return u, s, vh, failed


# -- 14.6: square matrices with real eigenvalues ---------------------------------------------------------------------


def hessenberg(h: Array) -> Array:
    """Make ``h`` zero below its first subdiagonal in place; returns the orthogonal ``z`` of ``a = z h z^T``."""
    n, made = len(h), []
    for k in range(n - 2):
        v, tau, beta = reflection(h[k + 1 :, k])
        h[k + 1, k], h[k + 2 :, k] = beta, 0.0
        reflect(v, tau, h[k + 1 :, k + 1 :])
        reflect(v, tau, h[:, k + 1 :].T)
        made.append((k + 1, v, tau))
    return product(made, np.eye(n))


def split_pair(h: Array, z: Array, n: int) -> bool:
    """Make the last two rows of the leading ``n + 1`` triangular. False: their eigenvalues are not real."""
    m = n - 1
    p = (h[m, m] - h[n, n]) / 2.0
    square = p * p + h[n, m] * h[m, n]
    if not square >= 0:
        return False
    root = np.sqrt(square)
    root = p + root if p >= 0 else p - root
    size = hypotenuse(h[n, m], root)
    s, c = h[n, m] / size, root / size
    for one, other in ((h[m, m:], h[n, m:]), (h[: n + 1, m], h[: n + 1, n]), (z[:, m], z[:, n])):
        one[...], other[...] = c * one + s * other, c * other - s * one
    h[n, m] = 0.0
    return True


def start_of_step(h: Array, first: int, n: int, x: float, y: float, w: float) -> tuple[int, Array]:
    """Where a double step begins, and the vector that it reflects first."""
    for m in reversed(range(first, n - 1)):
        r, s = x - h[m, m], y - h[m, m]
        v = np.array([(r * s - w) / h[m + 1, m] + h[m, m + 1], h[m + 1, m + 1] - h[m, m] - r - s, h[m + 2, m + 1]])
        v /= abs(v[0]) + abs(v[1]) + abs(v[2])
        if m == first:
            break
        near = abs(v[0]) * (abs(h[m - 1, m - 1]) + abs(h[m, m]) + abs(h[m + 1, m + 1]))
        if abs(h[m, m - 1]) * (abs(v[1]) + abs(v[2])) < EPSILON * near:
            break
    return m, v


def double_step(h: Array, z: Array, first: int, n: int, x: float, y: float, w: float) -> None:
    """Two steps of QR with the shifts whose sum is ``x + y`` and whose product is ``x y - w``."""
    m, v = start_of_step(h, first, n, x, y, w)
    for k in range(m, n):
        if k > m:
            v = h[k : min(k + 3, n + 1), k - 1].copy()
        elif n - k < 2:
            v = v[:2]
        v, tau, beta = reflection(v)
        last = k + len(v)
        if k > m:
            h[k, k - 1], h[k + 1 : last, k - 1] = beta, 0.0
        elif m > first and tau != 0:
            h[k, k - 1] = -h[k, k - 1]
        reflect(v, tau, h[k:last, k:])
        reflect(v, tau, h[: min(n, k + 3) + 1, k:last].T)
        reflect(v, tau, z[:, k:last].T)


def make_triangular(h: Array, z: Array) -> int:
    """QR steps on Hessenberg's form until it is upper triangular; 0, 1 (given up) or 3 (an eigenvalue is not real)."""
    n, steps = len(h) - 1, 0
    while n >= 0:
        first = n
        while first > 0:
            near = abs(h[first - 1, first - 1]) + abs(h[first, first])
            if abs(h[first, first - 1]) <= EPSILON * (near if near != 0 else 1.0):
                h[first, first - 1] = 0.0
                break
            first -= 1
        if first >= n - 1:
            if first == n - 1 and not split_pair(h, z, n):
                return 3
            n, steps = first - 1, 0
            continue
        if steps == SWEEPS:
            return 1
        x, y, w = h[n, n], h[n - 1, n - 1], h[n, n - 1] * h[n - 1, n]
        steps += 1
        if steps % 10 == 0:  # a shift out of turn
            s = abs(h[n, n - 1]) + abs(h[n - 1, n - 2])
            x = y = x + 0.75 * s
            w = -0.4375 * (s * s)
        double_step(h, z, first, n, x, y, w)
    return 0


def eigenvectors(t: Array, z: Array) -> Array:
    """Those of ``z t z^T``, ``t`` upper triangular, as columns of length one."""
    n = len(t)
    largest = np.abs(np.triu(t)).max(initial=0.0)
    least = EPSILON * (largest if largest > 0 else 1.0)
    vectors = np.zeros((n, n))
    for k in range(n):
        x = np.zeros(n)
        x[k] = 1.0
        x[:k] = -t[:k, k]
        for i in reversed(range(k)):
            gap = t[i, i] - t[k, k]
            if abs(gap) < least:
                gap = least
            x[i] /= gap
            if abs(x[i]) > 2.0**300:
                x /= abs(x[i])
            x[:i] = fma(-t[:i, i], x[i], x[:i])
        y = chain(x[: k + 1, None], np.ascontiguousarray(z[:, : k + 1].T), [n] * (k + 1))
        vectors[:, k] = y / np.sqrt(dot(y, y))
    return vectors


@kernel("14.6", returns=_eigh, layout=_dense("a", "w", "v", "failed"), sizes=_square, tasks="host")
def eig_factor(a: Array) -> tuple[Array, Array, Array]:
    """``a V = V diag(w)``, the columns of ``V`` of length one; ``failed`` is also 3 where an eigenvalue is not real."""
    w, v, failed = np.full(a.shape[:-1], np.nan), np.full(a.shape, np.nan), np.zeros(a.shape[:-2], np.int64)
    for at in np.ndindex(a.shape[:-2]):
        if not np.isfinite(a[at]).all():
            failed[at] = 2
            continue
        h, e = scaled(a[at])
        z = hessenberg(h)
        failed[at] = make_triangular(h, z)
        if not failed[at]:
            w[at], v[at] = np.ldexp(h.diagonal(), e), eigenvectors(h, z)
    return w, v, failed
