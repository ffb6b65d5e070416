"""Linear algebra of the last two axes (``ARITHMETIC.md``, section 14); public as ``lucid.linalg``.

Everything is computed in float64, gradients too, and narrowed once to the operand's dtype. An operation with several
results makes one array of all of them, from which they are sliced.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.backends import Backend
from lucid.core.device import refuse_where
from lucid.core.tensor import Operand, Tensor
from lucid.ops import reduction, shape
from lucid.ops._common import all_axes, broadcast_shape, floating
from lucid.ops._function import Function, apply
from lucid.ops._promotion import promoted
from lucid.ops.creation import eye
from lucid.ops.product import matmul

__all__ = [
    "LinAlgError",
    "cholesky",
    "det",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "matrix_norm",
    "matrix_power",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "vector_norm",
]

Shape = tuple[int, ...]


class LinAlgError(RuntimeError):
    """A matrix that has no such inverse, factor or real eigenvalues. PyTorch's, too, is a ``RuntimeError``."""


# -- what the operations share -----------------------------------------------------------------------------------------


class _Wide:
    """Arithmetic of one backend in float64."""

    def __init__(self, be: Backend) -> None:
        self.be, self.xp = be, be.xp

    def __call__(self, x: Any) -> Any:
        return self.be.convert(x, np.float64)

    def narrow(self, x: Any, dtype: Any) -> Any:
        """A number too large for ``dtype`` becomes infinity, without a word."""
        with np.errstate(over="ignore"):
            return self.be.convert(x, dtype)

    def add(self, a: Any, b: Any) -> Any:
        return self.be.binary("add", a, b)

    def sub(self, a: Any, b: Any) -> Any:
        return self.be.binary("sub", a, b)

    def mul(self, a: Any, b: Any) -> Any:
        return self.be.binary("mul", a, b)

    def div(self, a: Any, b: Any) -> Any:
        return self.be.binary("div", a, b)

    def neg(self, a: Any) -> Any:
        return self.be.unary("neg", a)

    def number(self, value: float) -> Any:
        return self.be.number(value, np.float64)

    def product(self, first: Any, *others: Any) -> Any:
        """Of matrices, from the left."""
        for other in others:
            first = self.be.matmul(first, other)
        return first

    def identity(self, n: int) -> Any:
        return self.xp.eye(n, dtype=np.float64)

    def zero_where(self, condition: Any, x: Any) -> Any:
        return self.xp.where(condition, self.number(0.0), x)

    def is_zero(self, x: Any) -> Any:
        return self.be.compare("equal", x, self.number(0.0))

    def beside_identity(self, x: Any) -> Any:
        """``1 - x``."""
        return self.sub(self.identity(x.shape[-1]), x)


def _t(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _diagonal(x: Any) -> Any:
    return x.diagonal(0, -2, -1)


def _matrices(name: str, a: Any, square: bool = True) -> Tensor:
    """``a`` as float matrices.

    Raises:
        ValueError: too few axes, or matrices that are not square where they have to be.
    """
    a = floating(a)
    if a.ndim < 2 or (square and a.shape[-1] != a.shape[-2]):
        expected = "(..., n, n), square matrices" if square else "(..., rows, columns)"
        raise ValueError(f"{name}: got shape {a.shape}; must be {expected}")
    return a


def _refuse(be: Backend, name: str, bad: Any, sentence: str) -> None:
    """Raise for the first matrix of a batch where ``bad`` is true. A run for shapes alone has no values to look at."""
    if be.name == "shapes":
        return

    def error(place: int, _: float) -> Exception:
        if not bad.ndim:
            return LinAlgError(f"{name}: the matrix {sentence}")
        at = np.unravel_index(place, bad.shape)
        return LinAlgError(f"{name}: matrix {', '.join(str(int(i)) for i in at)} of the batch {sentence}")

    refuse_where(be, bad.reshape(-1), bad.reshape(-1), error)


_FAILURES = {
    2: "has elements that are not finite",
    1: "was given up: its iteration did not end",
    3: "has eigenvalues that are not real; there is no complex dtype to return them in",
}


def _refuse_failed(be: Backend, name: str, failed: Any) -> None:
    for code, sentence in _FAILURES.items():
        _refuse(be, name, failed == code, sentence)


class _Several(Function):
    """An operation with several results: ``factor`` makes them in float64, ``pull`` makes the gradient of theirs."""

    floats = True

    def forward(self, be: Backend, a: Any) -> Any:
        f = _Wide(be)
        self.dtype, self.shape = a.dtype, a.shape
        made = self.factor(be, f(a))
        self.saved = made
        batch = a.shape[:-2]
        self.shapes = tuple([part.shape for part in made])
        flat = [part.reshape(*batch, math.prod(part.shape[len(batch) :])) for part in made]
        return f.narrow(be.xp.concatenate(flat, -1), a.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, parts, at = _Wide(be), [], 0
        batch = len(self.shape) - 2
        for full in self.shapes:
            size = math.prod(full[batch:])
            parts.append(f(dy[..., at : at + size]).reshape(full))
            at += size
        return (f.narrow(self.pull(f, *parts), self.dtype),)

    def factor(self, be: Backend, a: Any) -> tuple[Any, ...]:
        raise NotImplementedError

    def pull(self, f: _Wide, *parts: Any) -> Any:
        raise NotImplementedError


def _results(function: _Several, a: Tensor, *shapes: Shape) -> tuple[Tensor, ...]:
    """What ``function`` makes of ``a``, each of its shape behind the batch's."""
    made, found, at = apply(function, a), [], 0
    for last in shapes:
        size = math.prod(last)
        found.append(shape.reshape(made[..., at : at + size], (*a.shape[:-2], *last)))
        at += size
    return tuple(found)


# -- triangular factors ------------------------------------------------------------------------------------------------


def _lu_solve(be: Backend, lu: Any, order: Any, b: Any) -> Any:
    """``a x = b``."""
    y = be.triangular_solve(lu, be.xp.take_along_axis(b, order[..., None], -2), False, True)
    return be.triangular_solve(lu, y, True, False)


def _lu_solve_transposed(be: Backend, lu: Any, order: Any, b: Any) -> Any:
    """``a^T x = b``."""
    y = be.triangular_solve(_t(lu), b, False, False)
    y = be.triangular_solve(_t(lu), y, True, True)
    return be.xp.take_along_axis(y, be.xp.argsort(order, axis=-1)[..., None], -2)


def _refuse_singular(be: Backend, name: str, lu: Any) -> None:
    zero = be.compare("equal", _diagonal(lu), be.number(0.0, np.float64))
    _refuse(be, name, zero.any(axis=-1), "is singular")


class Solve(Function):
    name = "solve"
    floats = True

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        f = _Wide(be)
        lu, order, _ = be.lu_factor(f(a))
        _refuse_singular(be, "solve", lu)
        x = _lu_solve(be, lu, order, f(b))
        self.saved = (lu, order, x)
        return f.narrow(x, a.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, (lu, order, x) = _Wide(be), self.saved  # type: ignore[misc]
        db = _lu_solve_transposed(be, lu, order, f(dy))
        da = f.narrow(f.neg(f.product(db, _t(x))), dy.dtype) if self.needs[0] else None  # type: ignore[index]
        return da, f.narrow(db, dy.dtype)


def solve(a: Operand, b: Operand) -> Tensor:
    """``x`` of ``a x = b``, by LU factors with partial pivoting.

    Args:
        a: ``(..., n, n)``.
        b: ``(..., n, k)``; or vectors: ``(n,)``, or the shape of ``a`` without its last axis. Leading axes broadcast.

    Returns:
        The shape of ``b``, broadcast. Gradients: ``db = a^-T dx``, ``da = -db x^T``.

    Raises:
        ValueError: matrices that are not square, or shapes that do not fit.
        LinAlgError: a matrix is singular (a pivot is 0); it is named.
        TypeError: two float dtypes.

    Source: LAPACK's getrf and getrs; Golub and Van Loan, Matrix Computations, 3.4.

    Example:
        >>> import lucid
        >>> lucid.linalg.solve(lucid.tensor([[2.0, 1.0], [1.0, 3.0]]), lucid.tensor([3.0, 5.0]))
        tensor([0.8, 1.4])
    """
    a, b = promoted("solve", a, b)
    a, b = _matrices("solve", a), floating(b)
    vector = b.ndim == 1 or (a.ndim == b.ndim + 1 and b.shape == a.shape[:-1])
    if vector:
        b = shape.unsqueeze(b, -1)
    x = apply(Solve(), *_beside("solve", a, b))
    return shape.squeeze(x, -1) if vector else x


def _beside(name: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices and right-hand sides with their leading axes broadcast."""
    if b.ndim < 2 or b.shape[-2] != a.shape[-1]:
        raise ValueError(
            f"{name}: got matrices {a.shape} and right-hand sides {b.shape}; must be (..., n, n) and (..., n, k)"
        )
    batch = broadcast_shape(name, a.shape[:-2], b.shape[:-2])
    spread = [x if x.shape[:-2] == batch else shape.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b)]
    return spread[0], spread[1]


class Inverse(Function):
    name = "inv"
    floats = True

    def forward(self, be: Backend, a: Any) -> Any:
        f = _Wide(be)
        lu, order, _ = be.lu_factor(f(a))
        _refuse_singular(be, "inv", lu)
        y = _lu_solve(be, lu, order, be.xp.broadcast_to(f.identity(a.shape[-1]), a.shape))
        self.saved = (y,)
        return f.narrow(y, a.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, (y,) = _Wide(be), self.saved  # type: ignore[misc]
        return (f.narrow(f.neg(f.product(_t(y), f(dy), _t(y))), dy.dtype),)


def inv(a: Operand) -> Tensor:
    """The inverse, ``a a^-1 = 1``: ``solve`` with the identity on the right.

    Args:
        a: ``(..., n, n)``.

    Returns:
        The shape of ``a``. Gradient: ``-y^T dy y^T`` of the inverse ``y``.

    Raises:
        ValueError: matrices that are not square.
        LinAlgError: a matrix is singular; it is named.

    Source: LAPACK's getrf and getrs.

    Example:
        >>> import lucid
        >>> lucid.linalg.inv(lucid.tensor([[2.0, 0.0], [0.0, 4.0]]))
        tensor([[0.5 , 0.  ],
                [0.  , 0.25]])
    """
    return apply(Inverse(), _matrices("inv", a))


def _product_of(f: _Wide, x: Any) -> Any:
    """The product along the last axis: the first half times the second, until one is left."""
    while x.shape[-1] > 1:
        if x.shape[-1] % 2:
            x = f.xp.concatenate([x, f.xp.ones((*x.shape[:-1], 1))], -1)
        half = x.shape[-1] // 2
        x = f.mul(x[..., :half], x[..., half:])
    return x[..., 0] if x.shape[-1] else f.xp.ones(x.shape[:-1])


def _parity(f: _Wide, swaps: Any) -> Any:
    return f(1 - 2 * (swaps % 2))


class Determinant(Function):
    name = "det"
    floats = True

    def forward(self, be: Backend, a: Any) -> Any:
        f = _Wide(be)
        lu, order, swaps = be.lu_factor(f(a))
        self.saved = (lu, order, swaps)
        return f.narrow(f.mul(_parity(f, swaps), _product_of(f, _diagonal(lu))), a.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        """Of a singular matrix, too: where a pivot is 0 it takes the place of one that is far below rounding."""
        f, (lu, order, swaps) = _Wide(be), self.saved  # type: ignore[misc]
        xp, n, pivots = be.xp, lu.shape[-1], _diagonal(lu)
        if not n:
            return (f.narrow(lu, dy.dtype),)
        sizes = be.unary("abs", pivots)
        largest = be.reduce("max", sizes, (sizes.ndim - 1,), True)
        tiny = f.mul(xp.where(f.is_zero(largest), f.number(1.0), largest), f.number(2.0**-60))
        moved = xp.where(f.is_zero(pivots), tiny, pivots)
        eye_ = f.identity(n)
        lu = xp.where(eye_ == 1, moved[..., None, :], lu)
        y = _lu_solve_transposed(be, lu, order, xp.broadcast_to(eye_, lu.shape))
        det = f.mul(_parity(f, swaps), _product_of(f, moved))
        return (f.narrow(f.mul(f.mul(f(dy), det)[..., None, None], y), dy.dtype),)


def det(a: Operand) -> Tensor:
    """The determinant: the product of the pivots of ``a``, with the sign of the exchanges of rows.

    Args:
        a: ``(..., n, n)``; of no rows it is 1.

    Returns:
        ``(...)``. Gradient: ``dy det(a) a^-T``, for a singular matrix its limit, the cofactors.

    Raises:
        ValueError: matrices that are not square.

    Source: ONNX operator Det.

    Example:
        >>> import lucid
        >>> lucid.linalg.det(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor(-2.)
    """
    return apply(Determinant(), _matrices("det", a))


class LogDeterminant(_Several):
    name = "slogdet"

    def factor(self, be: Backend, a: Any) -> tuple[Any, ...]:
        f = _Wide(be)
        lu, order, swaps = be.lu_factor(a)
        self.factors = lu, order
        pivots = _diagonal(lu)
        sign = f.mul(_parity(f, swaps), _product_of(f, be.sign(pivots)))
        return sign, be.reduce("sum", be.unary("log", be.unary("abs", pivots)), (pivots.ndim - 1,), False)

    def pull(self, f: _Wide, dsign: Any, dlog: Any) -> Any:
        lu, order = self.factors
        return f.mul(
            dlog[..., None, None],
            _lu_solve_transposed(f.be, lu, order, f.xp.broadcast_to(f.identity(lu.shape[-1]), lu.shape)),
        )


def slogdet(a: Operand) -> tuple[Tensor, Tensor]:
    """The sign of the determinant, and the logarithm of its magnitude, which neither overflows nor underflows.

    Args:
        a: ``(..., n, n)``.

    Returns:
        Two of ``(...)``; of a singular matrix 0 and minus infinity. Gradient: ``dlog a^-T``.

    Raises:
        ValueError: matrices that are not square.

    Source: NumPy's slogdet.

    Example:
        >>> import lucid
        >>> lucid.linalg.slogdet(lucid.tensor([[0.0, 1.0], [1.0, 0.0]]))
        (tensor(-1.), tensor(0.))
    """
    sign, log = _results(LogDeterminant(), _matrices("slogdet", a), (), ())
    return sign, log


class SolveTriangular(Function):
    name = "solve_triangular"
    params = ("upper", "unit")
    floats = True

    def __init__(self, upper: bool, unit: bool) -> None:
        self.upper, self.unit = upper, unit

    def forward(self, be: Backend, t: Any, b: Any) -> Any:
        f = _Wide(be)
        wide = f(t)
        x = be.triangular_solve(wide, f(b), self.upper, self.unit)
        self.saved = (wide, x)
        return f.narrow(x, b.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, (t, x) = _Wide(be), self.saved  # type: ignore[misc]
        db = be.triangular_solve(_t(t), f(dy), not self.upper, self.unit)
        dt = f.neg(f.product(db, _t(x)))
        kept = be.xp.triu(dt, int(self.unit)) if self.upper else be.xp.tril(dt, -int(self.unit))
        return f.narrow(kept, dy.dtype), f.narrow(db, dy.dtype)


def solve_triangular(a: Operand, b: Operand, *, upper: bool, unitriangular: bool = False) -> Tensor:
    """``x`` of ``a x = b`` for the upper or the lower triangle of ``a``; the rest of ``a`` is not looked at.

    Args:
        a: ``(..., n, n)``.
        b: ``(..., n, k)``. Leading axes broadcast.
        upper: whether it is the upper triangle.
        unitriangular: whether the diagonal counts as ones, whatever stands there.

    Returns:
        The shape of ``b``, broadcast; where the diagonal has a 0, infinities or NaN. Gradients: ``db = a^-T dx``,
        ``da`` the triangle of ``-db x^T``.

    Raises:
        ValueError: matrices that are not square, or shapes that do not fit.
        TypeError: two float dtypes.

    Source: LAPACK's trtrs.

    Example:
        >>> import lucid
        >>> a, b = lucid.tensor([[2.0, 0.0], [1.0, 1.0]]), lucid.tensor([[4.0], [3.0]])
        >>> lucid.linalg.solve_triangular(a, b, upper=False)
        tensor([[2.],
                [1.]])
    """
    a, b = promoted("solve_triangular", a, b)
    a, b = _matrices("solve_triangular", a), floating(b)
    return apply(SolveTriangular(bool(upper), bool(unitriangular)), *_beside("solve_triangular", a, b))


class Cholesky(Function):
    name = "cholesky"
    floats = True

    def forward(self, be: Backend, a: Any) -> Any:
        f = _Wide(be)
        factor, failed = be.cholesky_factor(f(a))
        _refuse(be, "cholesky", failed != 0, "is not positive definite")
        self.saved = (factor,)
        return f.narrow(factor, a.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, (l,) = _Wide(be), self.saved  # type: ignore[misc]  # noqa: E741
        m = f.product(_t(l), f(dy))
        middle = f.mul(f.add(be.xp.tril(m), _t(be.xp.tril(m, -1))), f.number(0.5))
        left = be.triangular_solve(_t(l), middle, True, False)
        both = _t(be.triangular_solve(_t(l), _t(left), True, False))
        return (f.narrow(f.mul(f.add(both, _t(both)), f.number(0.5)), dy.dtype),)


def cholesky(a: Operand, *, upper: bool = False) -> Tensor:
    """``L`` of ``a = L L^T``, lower triangular with a positive diagonal.

    Args:
        a: ``(..., n, n)``, symmetric and positive definite; the lower triangle alone is looked at.
        upper: whether ``L^T`` is returned.

    Returns:
        The shape of ``a``. Gradient: symmetric, ``L^-T P L^-1`` with the symmetric ``P`` whose lower triangle is half
        that of ``L^T dL``.

    Raises:
        ValueError: matrices that are not square.
        LinAlgError: a matrix is not positive definite; it is named.

    Source: LAPACK's potrf; Murray, Differentiation of the Cholesky decomposition, 2016.

    Example:
        >>> import lucid
        >>> lucid.linalg.cholesky(lucid.tensor([[4.0, 2.0], [2.0, 2.0]]))
        tensor([[2., 0.],
                [1., 1.]])
    """
    factor = apply(Cholesky(), _matrices("cholesky", a))
    return shape.swapaxes(factor, -1, -2) if upper else factor


# -- reflections -------------------------------------------------------------------------------------------------------


class QR(_Several):
    name = "qr"
    params = ("complete",)

    def __init__(self, complete: bool) -> None:
        self.complete = complete

    def factor(self, be: Backend, a: Any) -> tuple[Any, ...]:
        if self.complete and self.needs is not None and a.shape[-2] > a.shape[-1]:
            raise ValueError(
                f"qr: the gradient of mode 'complete' is not defined for more rows than columns, shape {a.shape}; "
                "mode may be 'reduced'"
            )
        return be.qr_factor(a, self.complete)

    def pull(self, f: _Wide, dq: Any, dr: Any) -> Any:
        q, r = self.saved  # type: ignore[misc]
        n = q.shape[-1]
        first, rest = r[..., :n], r[..., n:]
        dfirst, drest = dr[..., :n], dr[..., n:]
        if rest.shape[-1]:  # columns behind the square: Q, which the others determine, times what is in R
            dq = f.add(dq, f.product(q, rest, _t(drest)))
        m = f.sub(f.product(first, _t(dfirst)), f.product(_t(dq), q))
        symmetric = f.add(f.xp.tril(m), _t(f.xp.tril(m, -1)))
        right = _t(f.add(dq, f.product(q, symmetric)))
        da = _t(f.be.triangular_solve(first, right, True, False))
        return f.xp.concatenate([da, f.product(q, drest)], -1) if rest.shape[-1] else da


def qr(a: Operand, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """``Q R = a``, the columns of ``Q`` orthonormal, ``R`` upper triangular, by Householder's reflections.

    As in LAPACK the diagonal of ``R`` may be negative: ``R[k, k]`` has the sign opposite to what the reflections before
    left there, unless there are zeros below it.

    Args:
        a: ``(..., m, n)``.
        mode: ``"reduced"`` (``Q`` is ``(..., m, k)``, ``R`` ``(..., k, n)``, ``k = min(m, n)``), ``"complete"``
            (``k = m``), or ``"r"``: as ``"reduced"``, and ``Q`` is an empty tensor.

    Returns:
        ``Q`` and ``R``; NaN where a matrix has elements that are not finite. Gradients, for ``a`` of full rank: with
        ``M = R dR^T - dQ^T Q``, ``(dQ + Q copyltu(M)) R^-T``; of ``"complete"`` only where ``m <= n``.

    Raises:
        ValueError: fewer than two axes, another mode, or a gradient that is not defined.

    Source: LAPACK's geqrf and orgqr; Walter, Lehmann and Lamour, On evaluating higher-order derivatives of the QR
    decomposition, 2012.

    Example:
        >>> import lucid
        >>> q, r = lucid.linalg.qr(lucid.tensor([[3.0, 1.0], [4.0, 2.0]]))
        >>> r
        tensor([[-5. , -2.2],
                [ 0. ,  0.4]])
    """
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f"qr: mode: got {mode!r}; may be 'reduced', 'complete' or 'r'")
    a = _matrices("qr", a, square=False)
    rows, columns = a.shape[-2:]
    k = rows if mode == "complete" else min(rows, columns)
    q, r = _results(QR(mode == "complete"), a, (rows, k), (k, columns))
    return (q[..., :0, :0] if mode == "r" else q), r


# -- eigenvalues -------------------------------------------------------------------------------------------------------


def _gaps(f: _Wide, w: Any) -> Any:
    """``w[j] - w[i]``, with ones on the diagonal."""
    return f.xp.where(f.identity(w.shape[-1]) == 1, f.number(1.0), f.sub(w[..., None, :], w[..., :, None]))


def _as_diagonal(f: _Wide, x: Any) -> Any:
    """Matrices with ``x`` on their diagonals."""
    return f.xp.where(f.identity(x.shape[-1]) == 1, x[..., None], f.number(0.0))


class SymmetricEigen(_Several):
    name = "eigh"

    def factor(self, be: Backend, a: Any) -> tuple[Any, ...]:
        w, v, failed = be.eigh_factor(a)
        _refuse_failed(be, "eigh", failed)
        return w, v

    def pull(self, f: _Wide, dw: Any, dv: Any) -> Any:
        w, v = self.saved  # type: ignore[misc]
        turned = f.div(f.product(_t(v), dv), _gaps(f, w))
        middle = f.xp.where(f.identity(w.shape[-1]) == 1, dw[..., None], turned)
        return f.product(v, middle, _t(v))


def eigh(a: Operand) -> tuple[Tensor, Tensor]:
    """``a = V diag(w) V^T`` of symmetric matrices: reflections to three diagonals, then implicit QL steps.

    Args:
        a: ``(..., n, n)``, symmetric; the lower triangle alone is looked at.

    Returns:
        ``w`` ``(..., n)``, ascending, and ``V`` ``(..., n, n)``, whose columns are orthonormal. The sign of a column is
        what the steps leave, the same on every machine; of repeated eigenvalues, so is the basis. Gradient:
        ``V (diag(dw) + V^T dV / E) V^T`` with ``E[i, j] = w[j] - w[i]``: not finite for repeated eigenvalues if it goes
        through ``V``.

    Raises:
        ValueError: matrices that are not square.
        LinAlgError: a matrix has elements that are not finite; it is named.

    Source: Golub and Van Loan, Matrix Computations, 8.3; EISPACK's imtql2; Giles, 2008, for the gradient.

    Example:
        >>> import lucid
        >>> lucid.linalg.eigh(lucid.tensor([[2.0, 0.0], [0.0, 1.0]]))[0]
        tensor([1., 2.])
    """
    a = _matrices("eigh", a)
    n = a.shape[-1]
    w, v = _results(SymmetricEigen(), a, (n,), (n, n))
    return w, v


class SymmetricEigenvalues(Function):
    name = "eigvalsh"
    floats = True

    def forward(self, be: Backend, a: Any) -> Any:
        f = _Wide(be)
        w, v, failed = be.eigh_factor(f(a))
        _refuse_failed(be, "eigvalsh", failed)
        self.saved = (v,)
        return f.narrow(w, a.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, (v,) = _Wide(be), self.saved  # type: ignore[misc]
        return (f.narrow(f.product(f.mul(v, f(dy)[..., None, :]), _t(v)), dy.dtype),)


def eigvalsh(a: Operand) -> Tensor:
    """The eigenvalues of symmetric matrices, ascending: those of ``eigh``; their gradient is always finite.

    Args, errors and source as ``eigh``.

    Returns:
        ``(..., n)``. Gradient: ``V diag(dw) V^T``.

    Example:
        >>> import lucid
        >>> lucid.linalg.eigvalsh(lucid.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([-1.,  1.])
    """
    return apply(SymmetricEigenvalues(), _matrices("eigvalsh", a))


class Eigen(_Several):
    name = "eig"

    def factor(self, be: Backend, a: Any) -> tuple[Any, ...]:
        w, v, failed = be.eig_factor(a)
        _refuse_failed(be, "eig", failed)
        return w, v

    def pull(self, f: _Wide, dw: Any, dv: Any) -> Any:
        w, v = self.saved  # type: ignore[misc]
        be, g = f.be, f.product(_t(v), dv)
        one = f.identity(w.shape[-1]) == 1
        inner = f.sub(g, f.product(_t(v), f.mul(v, _diagonal(g)[..., None, :])))
        middle = f.xp.where(one, dw[..., None], f.div(inner, _gaps(f, w)))
        lu, order, _ = be.lu_factor(_t(v))
        return _lu_solve(be, lu, order, f.product(middle, _t(v)))


def eig(a: Operand) -> tuple[Tensor, Tensor]:
    """``a V = V diag(w)`` of matrices whose eigenvalues are real: Hessenberg's form, then Francis' double steps of QR.

    Args:
        a: ``(..., n, n)``.

    Returns:
        ``w`` ``(..., n)`` in the order in which the steps leave them, and ``V`` ``(..., n, n)``, whose columns have
        length one. Gradient: ``V^-T (diag(dw) + (G - V^T V diag(G)) / E) V^T``, ``G = V^T dV``,
        ``E[i, j] = w[j] - w[i]``.

    Raises:
        ValueError: matrices that are not square.
        LinAlgError: a matrix has eigenvalues that are not real (PyTorch returns complex ones; lucid has no such
            dtype), or elements that are not finite; it is named.

    Source: EISPACK's hqr2; Golub and Van Loan, Matrix Computations, 7.5.

    Example:
        >>> import lucid
        >>> lucid.linalg.eig(lucid.tensor([[2.0, 1.0], [0.0, 3.0]]))[0]
        tensor([2., 3.])
    """
    a = _matrices("eig", a)
    n = a.shape[-1]
    w, v = _results(Eigen(), a, (n,), (n, n))
    return w, v


def eigvals(a: Operand) -> Tensor:
    """The eigenvalues of ``eig``; arguments and errors as there.

    Example:
        >>> import lucid
        >>> lucid.linalg.eigvals(lucid.tensor([[2.0, 1.0], [0.0, 3.0]]))
        tensor([2., 3.])
    """
    return eig(a)[0]


# -- singular values ---------------------------------------------------------------------------------------------------


def _completed(be: Backend, u: Any) -> Any:
    """The orthonormal columns of ``u``, and behind them those that make it square."""
    return be.xp.concatenate([u, be.qr_factor(u, True)[0][..., u.shape[-1] :]], -1)


class SVD(_Several):
    name = "svd"
    params = ("full",)

    def __init__(self, full: bool) -> None:
        self.full = full

    def factor(self, be: Backend, a: Any) -> tuple[Any, ...]:
        u, s, vh, failed = be.svd_factor(a)
        _refuse_failed(be, "svd", failed)
        if self.full:
            return _completed(be, u), s, _t(_completed(be, _t(vh)))
        return u, s, vh

    def pull(self, f: _Wide, du: Any, ds: Any, dvh: Any) -> Any:
        u, s, vh = self.saved  # type: ignore[misc]
        k = s.shape[-1]
        u, du, vh, dvh = u[..., :k], du[..., :k], vh[..., :k, :], dvh[..., :k, :]
        squares = f.mul(s, s)
        gaps = _gaps(f, squares)

        def skew(x: Any) -> Any:
            return f.div(f.sub(x, _t(x)), gaps)

        left = f.mul(skew(f.product(_t(u), du)), s[..., None, :])
        right = f.mul(s[..., :, None], skew(f.product(vh, _t(dvh))))
        da = f.product(u, f.add(f.add(left, right), _as_diagonal(f, ds)), vh)
        if u.shape[-2] > k:
            outside = f.sub(du, f.product(u, _t(u), du))
            da = f.add(da, f.product(f.div(outside, s[..., None, :]), vh))
        if vh.shape[-1] > k:
            outside = f.sub(dvh, f.product(dvh, _t(vh), vh))
            da = f.add(da, f.product(u, f.div(outside, s[..., :, None])))
        return da


def svd(a: Operand, full_matrices: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """``a = U diag(s) Vh``, the columns of ``U`` and the rows of ``Vh`` orthonormal: QR, then Jacobi's rotations.

    Args:
        a: ``(..., m, n)``; ``k = min(m, n)``.
        full_matrices: whether ``U`` is ``(..., m, m)`` and ``Vh`` ``(..., n, n)``, else ``(..., m, k)`` and
            ``(..., k, n)``.

    Returns:
        ``U``, ``s`` ``(..., k)``, descending and not negative, and ``Vh``. Signs are what the rotations leave, the same
        on every machine. Gradient: of ``s``, ``U diag(ds) Vh``; through ``U`` and ``Vh`` it is not finite for repeated
        singular values; what ``full_matrices`` adds is taken for constant.

    Raises:
        ValueError: fewer than two axes.
        LinAlgError: a matrix has elements that are not finite; it is named.

    Source: Hestenes, 1958; Demmel and Veselic, Jacobi's method is more accurate than QR, 1992; Townsend, 2016, for the
    gradient.

    Example:
        >>> import lucid
        >>> lucid.linalg.svd(lucid.tensor([[0.0, 2.0], [1.0, 0.0]]))[1]
        tensor([2., 1.])
    """
    a = _matrices("svd", a, square=False)
    (m, n), k = a.shape[-2:], min(a.shape[-2:])
    shapes = ((m, m), (k,), (n, n)) if full_matrices else ((m, k), (k,), (k, n))
    u, s, vh = _results(SVD(bool(full_matrices)), a, *shapes)
    return u, s, vh


class SingularValues(Function):
    name = "svdvals"
    floats = True

    def forward(self, be: Backend, a: Any) -> Any:
        f = _Wide(be)
        u, s, vh, failed = be.svd_factor(f(a))
        _refuse_failed(be, "svdvals", failed)
        self.saved = (u, vh)
        return f.narrow(s, a.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, (u, vh) = _Wide(be), self.saved  # type: ignore[misc]
        return (f.narrow(f.product(f.mul(u, f(dy)[..., None, :]), vh), dy.dtype),)


def svdvals(a: Operand) -> Tensor:
    """The singular values, descending: those of ``svd``; their gradient is always finite.

    Args, errors and source as ``svd``.

    Returns:
        ``(..., min(m, n))``. Gradient: ``U diag(ds) Vh``.

    Example:
        >>> import lucid
        >>> lucid.linalg.svdvals(lucid.tensor([[0.0, 2.0], [1.0, 0.0]]))
        tensor([2., 1.])
    """
    return apply(SingularValues(), _matrices("svdvals", a, square=False))


class PseudoInverse(Function):
    name = "pinv"
    params = ("rcond",)
    floats = True

    def __init__(self, rcond: float) -> None:
        self.rcond = rcond

    def forward(self, be: Backend, a: Any) -> Any:
        f = _Wide(be)
        wide = f(a)
        u, s, vh, failed = be.svd_factor(wide)
        _refuse_failed(be, "pinv", failed)
        if s.shape[-1]:
            small = be.compare("less_equal", s, f.mul(s[..., :1], f.number(self.rcond)))
            inverse = f.zero_where(small, f.div(f.number(1.0), s))
            y = f.product(f.mul(_t(vh), inverse[..., None, :]), _t(u))
        else:
            y = _t(wide)
        self.saved = (wide, y)
        return f.narrow(y, a.dtype)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, (a, y) = _Wide(be), self.saved  # type: ignore[misc]
        g, yt = f(dy), _t(y)
        left = f.product(f.beside_identity(f.product(a, y)), _t(g), y, yt)
        right = f.product(yt, y, _t(g), f.beside_identity(f.product(y, a)))
        return (f.narrow(f.sub(f.add(left, right), f.product(yt, g, yt)), dy.dtype),)


def pinv(a: Operand, rcond: float | None = None) -> Tensor:
    """The pseudo-inverse (Moore and Penrose): ``V diag(1 / s) U^T``, without the singular values that count as 0.

    Args:
        a: ``(..., m, n)``.
        rcond: singular values up to this times the largest count as 0; None: ``max(m, n)`` times the epsilon of the
            dtype.

    Returns:
        ``(..., n, m)``. Gradient of ``y``: ``(1 - a y) dy^T y y^T + y^T y dy^T (1 - y a) - y^T dy y^T``.

    Raises:
        ValueError: fewer than two axes, or a negative ``rcond``.
        LinAlgError: a matrix has elements that are not finite; it is named.

    Source: Golub and Pereyra, The differentiation of pseudo-inverses, 1973.

    Example:
        >>> import lucid
        >>> lucid.linalg.pinv(lucid.tensor([[2.0], [0.0]]))
        tensor([[0.5, 0. ]])
    """
    a = _matrices("pinv", a, square=False)
    if rcond is None:
        rcond = max(a.shape[-2:]) * float(np.finfo(a.dtype).eps)
    if not rcond >= 0:
        raise ValueError(f"pinv: rcond: got {rcond}; must be at least 0")
    return apply(PseudoInverse(float(rcond)), a)


# -- powers and norms --------------------------------------------------------------------------------------------------


def matrix_power(a: Operand, n: int) -> Tensor:
    """``a`` multiplied with itself ``n`` times: the binary digits of ``n`` from the lowest, ``r = r p``, ``p = p p``.

    Args:
        a: ``(..., m, m)``.
        n: an integer. Of 0 the result is the identity, of a negative one the power of the inverse.

    Returns:
        The shape of ``a``. Gradient: that of the products.

    Raises:
        ValueError: matrices that are not square.
        LinAlgError: ``n`` is negative, and a matrix singular; it is named.
        TypeError: ``n`` is no integer.

    Source: NumPy's matrix_power.

    Example:
        >>> import lucid
        >>> lucid.linalg.matrix_power(lucid.tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
        tensor([[1., 5.],
                [0., 1.]])
    """
    a, left = _matrices("matrix_power", a), operator.index(n)
    if left < 0:
        a, left = inv(a), -left
    if left == 0:
        return shape.clone(shape.broadcast_to(eye(a.shape[-1], dtype=a.dtype, device=a.device), a.shape))
    result = None
    while True:
        if left & 1:
            result = a if result is None else matmul(result, a)
        left >>= 1
        if not left:
            assert result is not None
            return shape.clone(result) if n == 1 else result
        a = matmul(a, a)


class VectorNorm(Function):
    name = "vector_norm"
    params = ("ord", "axis", "keepdims")
    floats = True

    def __init__(self, ord: float, axis: tuple[int, ...], keepdims: bool) -> None:
        self.ord, self.axis, self.keepdims = ord, axis, keepdims

    def forward(self, be: Backend, x: Any) -> Any:
        f = _Wide(be)
        wide = f(x)
        kept = tuple([1 if i in self.axis else n for i, n in enumerate(x.shape)])
        if not x.ndim:
            y = wide
            if self.ord == 0:
                y = f(~f.is_zero(wide))
            y = be.unary("abs", y)
        else:
            y = self._norm(f, wide).reshape(kept)
        self.saved = (wide, y)
        shape = kept if self.keepdims else tuple([n for i, n in enumerate(x.shape) if i not in self.axis])
        return f.narrow(y, x.dtype).reshape(shape)

    def _norm(self, f: _Wide, x: Any) -> Any:
        be, p, over = f.be, self.ord, (self.axis, True)
        if p == 0:
            return be.reduce("sum", f(~f.is_zero(x)), *over)
        if p == 2:
            return be.unary("sqrt", be.reduce("sum", be.unary("square", x), *over))
        x = be.unary("abs", x)
        if math.isinf(p):
            return be.reduce("max" if p > 0 else "min", x, *over)
        if p == 1:
            return be.reduce("sum", x, *over)
        return be.power(be.reduce("sum", be.power(x, p), *over), 1 / p)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        f, (x, y), p = _Wide(be), self.saved, self.ord  # type: ignore[misc]
        dy_wide = f(dy).reshape(y.shape)
        if p == 0:
            return (f.narrow(be.xp.zeros(x.shape), dy.dtype),)
        if p == 2:
            return (f.narrow(f.mul(x, f.zero_where(f.is_zero(y), f.div(dy_wide, y))), dy.dtype),)
        sign = be.sign(x)
        if p == 1:
            return (f.narrow(f.mul(sign, dy_wide), dy.dtype),)
        size = be.unary("abs", x)
        if math.isinf(p):
            chosen = f(be.compare("equal", size, y))
            count = be.reduce("sum", chosen, self.axis, True) if x.ndim else chosen
            return (f.narrow(f.mul(f.mul(sign, chosen), f.div(dy_wide, count)), dy.dtype),)
        slope = f.zero_where(f.is_zero(x), f.mul(sign, be.power(size, p - 1)))
        return (f.narrow(f.mul(slope, f.zero_where(f.is_zero(y), f.div(dy_wide, be.power(y, p - 1)))), dy.dtype),)


def vector_norm(x: Operand, ord: float = 2, axis: Any = None, keepdims: bool = False) -> Tensor:
    """``(sum |x|^ord)^(1/ord)`` over ``axis``; for infinity the largest ``|x|``, for minus infinity the least, for 0
    how many are not 0.

    Args:
        x: a tensor of any shape.
        ord: a number.
        axis: one axis, several, or None for all.
        keepdims: whether reduced axes stay, with length one.

    Returns:
        The norms, of no elements 0. Gradient: ``sign(x) |x|^(ord-1) dy / y^(ord-1)``, 0 where the norm is 0; for
        infinities shared among equal elements.

    Raises:
        ValueError: there is no such axis, or no elements for an infinite or a negative ``ord``.

    Source: PyTorch's vector_norm.

    Example:
        >>> import lucid
        >>> lucid.linalg.vector_norm(lucid.tensor([3.0, -4.0]))
        tensor(5.)
    """
    x, p = floating(x), float(ord)
    axes = all_axes("vector_norm", axis, x.ndim)
    if (math.isinf(p) or p < 0) and 0 in [x.shape[i] for i in axes]:
        raise ValueError(f"vector_norm: got shape {x.shape}, axis {axis}; of no elements there is no norm of ord {ord}")
    return apply(VectorNorm(p, axes, bool(keepdims)), x)


def _two_axes(name: str, axis: Any, ndim: int) -> tuple[int, int]:
    if not isinstance(axis, Sequence) or len(axis) != 2:
        raise ValueError(f"{name}: axis: got {axis!r}; must be two axes")
    first, second = (all_axes(name, i, ndim)[0] for i in axis)
    if first == second:
        raise ValueError(f"{name}: got axis {tuple(axis)}; an axis may be named once")
    return first, second


def matrix_norm(a: Operand, ord: Any = "fro", axis: Any = (-2, -1), keepdims: bool = False) -> Tensor:
    """A norm of matrices.

    Args:
        a: a tensor of two axes or more.
        ord: ``"fro"`` (the root of the sum of squares), ``"nuc"`` (the sum of the singular values), infinity and minus
            infinity (the largest and the least sum of ``|a|`` along a row), 1 and -1 (along a column), 2 and -2 (the
            largest and the least singular value).
        axis: the axes of rows and columns.
        keepdims: whether they stay, with length one.

    Returns:
        The norms. Gradient: that of sums, extremes and singular values.

    Raises:
        ValueError: another ``ord``, or there are no such axes.
        LinAlgError: for ``"nuc"``, 2 and -2, elements that are not finite.

    Source: NumPy's norm; PyTorch's matrix_norm.

    Example:
        >>> import lucid
        >>> lucid.linalg.matrix_norm(lucid.tensor([[1.0, -2.0], [3.0, 4.0]]), ord=1)
        tensor(6.)
    """
    a = floating(a)
    rows, columns = _two_axes("matrix_norm", axis, a.ndim)
    if ord == "fro":
        return apply(VectorNorm(2.0, tuple(sorted((rows, columns))), bool(keepdims)), a)
    if ord in (1, -1, math.inf, -math.inf):
        first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = vector_norm(a, 1, first, True)
        y = (reduction.max if ord > 0 else reduction.min)(sums, second, True)
    elif ord in ("nuc", 2, -2):
        order = [*[i for i in range(a.ndim) if i not in (rows, columns)], rows, columns]
        s = svdvals(shape.transpose(a, order))
        y = reduction.sum(s, -1) if ord == "nuc" else (reduction.max if ord > 0 else reduction.min)(s, -1)
        for i in sorted((rows, columns)):
            y = shape.unsqueeze(y, i)
    else:
        raise ValueError(f"matrix_norm: ord: got {ord!r}; may be 'fro', 'nuc', inf, -inf, 1, -1, 2 or -2")
    return y if keepdims else shape.squeeze(y, (rows, columns))


def norm(x: Operand, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """``matrix_norm`` where ``axis`` names two axes (or ``ord`` is given, ``axis`` is not, and ``x`` is a matrix), else
    ``vector_norm``.

    Args:
        x: a tensor.
        ord: as of those; None: 2 for vectors, ``"fro"`` for matrices.
        axis: one axis, two, or None: all elements as one vector if ``ord`` is None, too.
        keepdims: whether reduced axes stay, with length one.

    Returns:
        The norms, and gradients, of those.

    Raises:
        ValueError: no such axes, or an ``ord`` that does not fit.

    Source: NumPy's and PyTorch's norm.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([[3.0, 0.0], [0.0, -4.0]])
        >>> lucid.linalg.norm(x), lucid.linalg.norm(x, ord=2), lucid.linalg.norm(x, ord=1, axis=0)
        (tensor(5.), tensor(4.), tensor([3., 4.]))
    """
    x = floating(x)
    if axis is None and ord is not None:
        if x.ndim not in (1, 2):
            raise ValueError(f"norm: got ord {ord!r} and shape {x.shape}; without axis it must have one axis or two")
        axis = tuple(range(x.ndim)) if x.ndim == 2 else 0
    if isinstance(axis, Sequence) and len(axis) == 2:
        return matrix_norm(x, "fro" if ord is None else ord, axis, keepdims)
    if isinstance(ord, str):
        raise ValueError(f"norm: ord: got {ord!r} for vectors; may be a number")
    return vector_norm(x, 2 if ord is None else ord, axis, keepdims)
