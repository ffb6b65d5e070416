"""Linear algebra beyond the table of operations: what is refused, how near results come, orders and signs, devices.

Bounds are residuals in float64: a backward stable method leaves a small multiple of ``n eps |a|`` (Higham, Accuracy and
Stability of Numerical Algorithms), which is measured here with nothing but NumPy's products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import lucid
from lucid import linalg
from lucid.graph import trace

Array = np.ndarray[Any, Any]
EPSILON = 2.0**-52
SIZES = [1, 5, 33, 70]
SMALL = 4.0
"""Residuals may be this times ``n eps |a|``; those of healthy methods here are below 1."""


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def size(x: Array) -> float:
    return float(np.sqrt((x * x).sum()))


def assert_small(residual: Array, scale: float, n: int) -> None:
    assert size(residual) <= SMALL * max(n, 1) * EPSILON * scale


def orthonormal(q: Array) -> None:
    assert_small(q.T @ q - np.eye(q.shape[1]), np.sqrt(q.shape[1]), q.shape[0])


def numpy(*tensors: lucid.Tensor) -> list[Array]:
    return [tensor.numpy() for tensor in tensors]


# -- residuals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_solutions(n: int) -> None:
    a, b = random(n, n), random(n, 3)
    x = linalg.solve(lucid.tensor(a), lucid.tensor(b)).numpy()
    assert_small(a @ x - b, size(a) * size(x), n)
    y = linalg.inv(lucid.tensor(a)).numpy()
    assert_small(a @ y - np.eye(n), size(a) * size(y), n)
    p = a @ a.T + np.eye(n)
    factor = linalg.cholesky(lucid.tensor(p)).numpy()
    assert_small(factor @ factor.T - p, size(p), n)
    assert not np.triu(factor, 1).any()


@pytest.mark.parametrize(("m", "n"), [(33, 7), (7, 33), (40, 40), (70, 35)])
def test_orthogonal_factors(m: int, n: int) -> None:
    a = random(m, n)
    for mode in ("reduced", "complete"):
        q, r = numpy(*linalg.qr(lucid.tensor(a), mode))
        orthonormal(q)
        assert_small(q @ r - a, size(a), m)
        assert not np.tril(r, -1).any()
    for full in (False, True):
        u, s, vh = numpy(*linalg.svd(lucid.tensor(a), full_matrices=full))
        k = len(s)
        orthonormal(u)
        orthonormal(vh.T)
        assert_small(u[:, :k] * s @ vh[:k] - a, size(a), max(m, n))
        assert np.all(s[:-1] >= s[1:])
        assert s[-1] >= 0
        assert (u.shape, vh.shape) == (((m, m), (n, n)) if full else ((m, k), (k, n)))


@pytest.mark.parametrize("n", SIZES)
def test_eigenvalues(n: int) -> None:
    a = random(n, n)
    symmetric = a + a.T
    w, v = numpy(*linalg.eigh(lucid.tensor(symmetric)))
    orthonormal(v)
    assert_small(symmetric @ v - v * w, size(symmetric), n)
    assert np.all(w[:-1] <= w[1:])
    assert linalg.eigvalsh(lucid.tensor(symmetric)).numpy().tolist() == w.tolist()
    real = np.linalg.solve(
        a + 3 * np.sqrt(n) * np.eye(n), (np.arange(n) + 1.0)[:, None] * (a + 3 * np.sqrt(n) * np.eye(n))
    )
    w, v = numpy(*linalg.eig(lucid.tensor(real)))
    assert_small(real @ v - v * w, size(real), n)
    assert np.allclose(np.sort(w), np.arange(n) + 1, rtol=1e-10, atol=0)
    assert np.allclose((v * v).sum(0), 1, rtol=1e-14)


def test_graded_and_extreme_matrices() -> None:
    """Small singular values keep their relative accuracy; nothing overflows or vanishes on the way."""
    small = np.diag([1.0, 1e-100, 1e-200]) @ np.array([[1.0, 0.5, 0.1], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    s = linalg.svdvals(lucid.tensor(small)).numpy()
    assert np.allclose(np.log10(s[:2]), [0.05, -100.0], atol=0.2)
    a = random(6, 6)
    for scale in (1e300, 1e-300):
        big = lucid.tensor((a + a.T) * (scale / 10))
        assert np.allclose(linalg.eigvalsh(big).numpy() / scale * 10, np.linalg.eigvalsh(a + a.T), rtol=1e-12)
        assert np.allclose(linalg.svdvals(lucid.tensor(a * (scale / 10))).numpy() / scale * 10, np.linalg.svd(a)[1])
        q, r = numpy(*linalg.qr(lucid.tensor(a * (scale / 10))))
        orthonormal(q)
        assert np.allclose(q @ (r / scale * 10), a)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_rank_deficient(rank: int) -> None:
    a = random(6, rank) @ random(rank, 4)
    u, s, vh = numpy(*linalg.svd(lucid.tensor(a), full_matrices=False))
    orthonormal(u)
    orthonormal(vh.T)
    assert_small(u * s @ vh - a, size(a), 6)
    assert np.all(s[rank:] <= 1e-14 * max(s[0], 1.0))
    assert np.allclose(linalg.pinv(lucid.tensor(a)).numpy(), np.linalg.pinv(a), atol=1e-12)


# -- float32, batches, memory ------------------------------------------------------------------------------------------

UNARY: dict[str, Callable[[lucid.Tensor], Any]] = {
    "inv": linalg.inv,
    "det": linalg.det,
    "cholesky": lambda x: linalg.cholesky(x @ x.swapaxes(-1, -2)),
    "qr": linalg.qr,
    "svd": linalg.svd,
    "eigh": linalg.eigh,
    "pinv": lambda x: linalg.pinv(x, rcond=1e-9),
    "norm": linalg.norm,
}


def results(function: Callable[[lucid.Tensor], Any], x: Array) -> list[Array]:
    made = function(lucid.tensor(x))
    return numpy(*made) if isinstance(made, tuple) else numpy(made)


@pytest.mark.parametrize("name", [name for name in UNARY if name != "cholesky"])
def test_float32_is_float64_narrowed_once(backend: str, name: str) -> None:
    x = random(2, 4, 4).astype(np.float32)
    for single, double in zip(results(UNARY[name], x), results(UNARY[name], x.astype(np.float64)), strict=True):
        assert single.dtype == np.float32
        assert single.tolist() == double.astype(np.float32).tolist()


@pytest.mark.parametrize("name", [name for name in UNARY if name != "norm"])
def test_a_matrix_does_not_see_its_neighbours(backend: str, name: str) -> None:
    x = random(3, 2, 5, 5)
    whole = results(UNARY[name], x)
    alone = [results(UNARY[name], x[i, j]) for i in range(3) for j in range(2)]
    for part, result in enumerate(whole):
        assert result.reshape(6, *result.shape[2:]).tolist() == [one[part].tolist() for one in alone]


# -- what is refused ---------------------------------------------------------------------------------------------------

EYE = np.eye(3)
SINGULAR = np.ones((2, 2, 3, 3)) * 0.0 + EYE
SINGULAR[1, 0, 2] = SINGULAR[1, 0, 1]
TURNING = np.array([[0.0, -1.0], [1.0, 0.0]])
NAN = np.where(EYE == 1, np.nan, 0.0)


@pytest.mark.parametrize(
    ("function", "x", "sentence"),
    [
        (linalg.inv, SINGULAR, "inv: matrix 1, 0 of the batch is singular"),
        (lambda x: linalg.solve(x, lucid.ones(3, 1, dtype=x.dtype)), SINGULAR[1, 0], "solve: the matrix is singular"),
        (lambda x: linalg.matrix_power(x, -2), SINGULAR[1], "inv: matrix 0 of the batch is singular"),
        (linalg.cholesky, -EYE, "cholesky: the matrix is not positive definite"),
        (linalg.cholesky, np.stack([EYE, NAN]), "cholesky: matrix 1 of the batch is not positive definite"),
        (linalg.eig, np.stack([EYE[:2, :2], TURNING]), "eig: matrix 1 of the batch has eigenvalues that are not real"),
        *[
            (f, np.stack([EYE, NAN]), f"{f.__name__}: matrix 1 of the batch has elements that are not finite")
            for f in (linalg.eigh, linalg.eigvalsh, linalg.eig, linalg.svd, linalg.svdvals, linalg.pinv)
        ],
    ],
)
def test_a_matrix_that_will_not_do_is_named(backend: str, function: Any, x: Array, sentence: str) -> None:
    with pytest.raises(linalg.LinAlgError, match=sentence):
        numpy(*np.atleast_1d(function(lucid.tensor(x))))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda x: linalg.inv(x[0]), ValueError, r"inv: got shape \(3,\); must be \(..., n, n\), square matrices"),
        (lambda x: linalg.det(x[:2]), ValueError, r"det: got shape \(2, 3\)"),
        (lambda x: linalg.qr(x[0]), ValueError, r"qr: got shape \(3,\); must be \(..., rows, columns\)"),
        (lambda x: linalg.qr(x, "full"), ValueError, "qr: mode: got 'full'; may be 'reduced', 'complete' or 'r'"),
        (lambda x: linalg.solve(x, x[:2]), ValueError, r"solve: got matrices \(3, 3\) and right-hand sides \(2, 3\)"),
        (lambda x: linalg.solve(x, x.astype(lucid.float32)), TypeError, "float32"),
        (lambda x: linalg.pinv(x, rcond=-1.0), ValueError, "pinv: rcond: got -1.0; must be at least 0"),
        (lambda x: linalg.matrix_power(x, 1.5), TypeError, None),
        (lambda x: linalg.norm(x, ord=3), ValueError, "matrix_norm: ord: got 3; may be 'fro'"),
        (lambda x: linalg.norm(x, ord="fro", axis=0), ValueError, "norm: ord: got 'fro' for vectors"),
        (lambda x: linalg.norm(x[None], ord=2), ValueError, "norm: got ord 2 and shape"),
        (lambda x: linalg.matrix_norm(x, axis=(0, 0)), ValueError, "an axis may be named once"),
        (lambda x: linalg.vector_norm(x[:0], float("inf")), ValueError, "of no elements there is no norm"),
    ],
)
def test_arguments_that_do_not_fit(call: Any, error: Any, sentence: str | None) -> None:
    with pytest.raises(error, match=sentence):
        call(lucid.tensor(random(3, 3)))


def test_a_gradient_that_is_not_defined() -> None:
    x = lucid.tensor(random(4, 2), requires_grad=True)
    with pytest.raises(ValueError, match="qr: the gradient of mode 'complete' is not defined"):
        linalg.qr(x, "complete")
    with lucid.no_grad():
        assert linalg.qr(x, "complete")[0].shape == (4, 4)


# -- gradients at the edges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_determinant_of_a_singular_matrix_has_its_cofactors(rank: int) -> None:
    a = random(4, 4)
    a[:, rank:] = 0.0 if rank < 3 else a[:, 1:2]
    x = lucid.tensor(a, requires_grad=True)
    linalg.det(x).backward()
    minors = [
        [np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) * (-1) ** (i + j) for j in range(4)] for i in range(4)
    ]
    assert np.allclose(np.asarray(x.grad), minors, atol=1e-13)


def test_values_of_repeated_eigenvalues_have_gradients() -> None:
    for function in (linalg.eigvalsh, linalg.svdvals):
        x = lucid.tensor(np.eye(3), requires_grad=True)
        function(x).sum().backward()
        assert np.allclose(np.asarray(x.grad), np.eye(3))


@pytest.mark.parametrize("order", [0.5, 1, 1.5, 2, 3, float("inf"), float("-inf")])
def test_norms_at_zero_have_pytorchs_gradients(order: float) -> None:
    for values in ([0.0, 0.0], [0.0, 2.0], [3.0, -3.0]):
        x, y = lucid.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
        linalg.vector_norm(x, order).backward()
        torch.linalg.vector_norm(y, order).backward()
        assert y.grad is not None
        assert np.allclose(np.asarray(x.grad), y.grad.numpy()), (order, values)


# -- devices and graphs ------------------------------------------------------------------------------------------------


def test_on_a_gpu_the_host_computes(gpu: str) -> None:
    a = random(2, 4, 4)
    a = a @ a.swapaxes(-1, -2) + np.eye(4)
    for name, function in UNARY.items():
        x, y = lucid.tensor(a, requires_grad=True), lucid.tensor(a, device=gpu, requires_grad=True)
        first, second = (made[-1] if isinstance(made, tuple) else made for made in (function(x), function(y)))
        assert second.device == gpu
        first.sum().backward()
        second.sum().backward()
        assert second.numpy().tolist() == first.numpy().tolist(), name
        assert x.grad is not None
        assert y.grad is not None
        assert np.array_equal(y.grad.numpy(), x.grad.numpy(), equal_nan=True), name


def test_traced_and_compiled() -> None:
    """A graph takes shapes alone; a plan runs the operation again, and refuses what it refuses."""

    class Solver(lucid.nn.Module):
        def forward(self, x: lucid.Tensor) -> lucid.Tensor:
            w, v = linalg.eigh(x @ x.swapaxes(-1, -2))
            return linalg.inv(x) @ v * w

    x = lucid.tensor(random(3, 3).astype(np.float32))
    assert {"eigh", "inv"} <= {node.op for node in trace(Solver(), x).nodes}
    compiled = lucid.compile(Solver().eval(), x)
    for seed in (0, 1):
        y = lucid.tensor(random(3, 3, seed=seed).astype(np.float32))
        assert compiled(y).numpy().tolist() == Solver()(y).numpy().tolist()
    with pytest.raises(linalg.LinAlgError, match="is singular"):
        compiled(lucid.zeros(3, 3))
