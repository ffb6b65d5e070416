"""Operations by order and place that have no gradient, and what sorting, taking and putting say of their corners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.operations import gradient_like
from support.strict import traffic
from support.tables import arranging

import lucid
from lucid import nn
from lucid.graph import trace

NAN = float("nan")
VALUES = np.array([[3.0, NAN, -0.0, 1.0, 0.0], [NAN, -np.inf, 2.0, 2.0, np.inf]], np.float32)
WHOLE = [np.int8, np.uint8, np.int32, np.int64, np.bool_]


def both(values: Any) -> tuple[lucid.Tensor, torch.Tensor]:
    return lucid.tensor(values), torch.from_numpy(np.array(values))


def same(ours: lucid.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_places_of_the_sorted(backend: str, axis: int, descending: bool) -> None:
    x, t = both(VALUES)
    values, places = lucid.sort(x, axis, descending)
    expected = torch.sort(t, dim=axis, descending=descending, stable=True)
    same(places, expected.indices)
    same(x.argsort(axis, descending), expected.indices)
    same(values, expected.values)
    assert np.signbit(values.numpy()).tolist() == np.signbit(expected.values.numpy()).tolist()


@pytest.mark.parametrize("dtype", WHOLE)
def test_integers_and_booleans(backend: str, dtype: Any) -> None:
    x, t = both(np.random.default_rng(0).integers(0, 2 if dtype == np.bool_ else 120, (3, 40)).astype(dtype))
    for descending in (False, True):
        ours, theirs = x.sort(1, descending), torch.sort(t, dim=1, descending=descending, stable=True)
        same(ours[0], theirs.values)
        same(ours[1], theirs.indices)
    assert x.topk(4, 1)[0].tolist() == np.flip(np.sort(x.numpy(), 1), 1)[:, :4].tolist()
    places = lucid.tensor([[0, 3], [1, 1], [2, 0]])
    same(x.gather(1, places), t.gather(1, torch.from_numpy(places.numpy())))
    same(lucid.tril(x), torch.tril(t))
    same(lucid.roll(x, 3), torch.roll(t, 3))
    same(x.repeat(2, 1), t.repeat(2, 1))
    same(x.diagonal(1), t.diagonal(1))
    put = lucid.scatter(x, 1, places, x[:, :2])
    assert put.dtype == dtype
    assert put[0, 3] == x[0, 1]
    if dtype != np.bool_:
        same(lucid.scatter_add(x, 1, places, x[:, :2]), t.scatter_add(1, torch.from_numpy(places.numpy()), t[:, :2]))
        same(lucid.index_add(x, 0, [1, 1], x[:2]), t.index_add(0, torch.tensor([1, 1]), t[:2]))
        same(lucid.cumprod(x.long(), 1), torch.cumprod(t.long(), 1))
        same(lucid.einsum("ij,kj->ik", x.long(), x.long()), torch.einsum("ij,kj->ik", t.long(), t.long()))


def test_ties_of_topk(backend: str) -> None:
    x = lucid.tensor([1.0, 2.0, NAN, 2.0, -0.0, 0.0, NAN])
    assert x.topk(4)[1].tolist() == [2, 6, 1, 3]
    assert x.topk(3, largest=False)[1].tolist() == [4, 5, 0]


def test_a_long_row(backend: str) -> None:
    """So long that threads share it."""
    x, t = both(np.round(np.random.default_rng(0).standard_normal(70_000), 2).astype(np.float32))
    same(x.argsort(), torch.sort(t, stable=True).indices)
    same(x.topk(50)[1], torch.sort(t, descending=True, stable=True).indices[:50])


def test_of_several_values_for_a_place_the_last_stays(backend: str) -> None:
    x = lucid.zeros(3, requires_grad=True)
    v = lucid.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = lucid.scatter(x, 0, lucid.tensor([1, 1, 0]), v)
    assert y.tolist() == [3.0, 2.0, 0.0]
    y.backward(lucid.tensor([10.0, 20.0, 30.0]))
    assert v.grad.tolist() == [0.0, 20.0, 10.0]
    assert x.grad.tolist() == [0.0, 0.0, 30.0]


def test_indices_from_the_end(backend: str) -> None:
    x = lucid.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert lucid.gather(x, 1, lucid.tensor([[-1], [-2]])).tolist() == [[2.0], [3.0]]
    assert lucid.index_select(x, 0, [-1]).tolist() == [[3.0, 4.0]]
    assert lucid.take(x, [-1, 0]).tolist() == [4.0, 1.0]


# -- what is there ---------------------------------------------------------------------------------------------------


def test_nonzero(backend: str) -> None:
    for values in (VALUES, VALUES == VALUES, np.zeros((2, 0, 3)), np.float32(2.0), np.arange(4)):
        x, t = both(values)
        same(x.nonzero(), torch.nonzero(t))
    rows, columns = lucid.nonzero(lucid.tensor([[0, 1], [2, 0]]), as_tuple=True)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_unique(backend: str, dtype: Any, axis: int | None) -> None:
    x, t = both(np.random.default_rng(1).integers(0, 2, (7, 3)).astype(dtype))
    ours = lucid.unique(x, return_inverse=True, return_counts=True, axis=axis)
    for mine, theirs in zip(ours, torch.unique(t, return_inverse=True, return_counts=True, dim=axis), strict=True):
        same(mine, theirs)
    same(x.unique(axis=axis), torch.unique(t, dim=axis))


def test_unique_corners(backend: str) -> None:
    x, t = both(VALUES)
    same(lucid.unique(x), torch.unique(t))
    assert np.signbit(lucid.unique(lucid.tensor([-0.0, 0.0])).numpy()).tolist() == [True]
    assert [part.tolist() for part in lucid.unique(lucid.zeros(0), return_counts=True)] == [[], []]


@pytest.mark.parametrize("density", [False, True])
@pytest.mark.parametrize("limits", [None, (-1.0, 1.5)])
def test_histogram(backend: str, limits: Any, density: bool) -> None:
    x, t = both(np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32))
    ours = lucid.histogram(x, 7, range=limits, density=density)
    theirs = torch.histogram(t, 7, range=limits, density=density)
    np.testing.assert_allclose(ours[0].numpy(), theirs.hist.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours[1].numpy(), theirs.bin_edges.numpy(), rtol=1e-5)
    edges = [-1.0, 0.0, 0.5, 2.0]
    same(x.histogram(edges)[0], torch.histogram(t, torch.tensor(edges)).hist)


def test_histogram_corners(backend: str) -> None:
    counts, edges = lucid.histogram(lucid.tensor([1.0, 1.0]), 2)
    assert (counts.tolist(), edges.tolist()) == ([0.0, 2.0], [0.5, 1.0, 1.5])
    counts, _ = lucid.histogram(lucid.tensor([0.0, 1.0, 2.0, NAN, 2.5, -1.0]), 2, range=(0, 2))
    assert counts.tolist() == [1.0, 2.0]  # the last edge belongs to the last bin
    with pytest.raises(ValueError, match="must be finite"):
        lucid.histogram(lucid.tensor([NAN, 1.0]))


def test_histogram_of_points(backend: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 60))
    for options in ({}, {"bins": (3, 4)}, {"range": ((-1, 1), (-2, 0.5)), "density": True}):
        ours = lucid.histogram2d(lucid.tensor(a), lucid.tensor(b), **options)
        for mine, theirs in zip(ours, np.histogram2d(a, b, **options), strict=True):
            np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-12)


# -- errors and methods ----------------------------------------------------------------------------------------------

X = lucid.ones(2, 3)
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "axis": (lambda: lucid.sort(X, 2), ValueError, "axis 2"),
    "k": (lambda: lucid.topk(X, 4), ValueError, "k: got 4; may be 0 to 3"),
    "half precision": (lambda: lucid.sort(lucid.ones(2, dtype=lucid.float16)), TypeError, "float16"),
    "index out of range": (lambda: lucid.gather(X, 1, lucid.tensor([[3], [0]])), IndexError, "gather: got .* -3 to 2"),
    "index of floats": (lambda: lucid.gather(X, 1, X), TypeError, "must be integers"),
    "index of other axes": (lambda: lucid.gather(X, 1, lucid.tensor([0])), ValueError, "as many axes"),
    "index too long": (lambda: lucid.gather(X, 1, lucid.zeros(3, 1).long()), ValueError, "none longer but axis 1"),
    "index before the axis": (lambda: lucid.gather(X, lucid.zeros(2, 1).long(), 1), TypeError, "axis comes before"),
    "slices by a matrix": (lambda: lucid.index_select(X, 0, [[0]]), ValueError, "may have one axis"),
    "mask": (lambda: lucid.masked_select(X, X), TypeError, "must be booleans"),
    "source too small": (
        lambda: lucid.scatter(X, 1, lucid.zeros(2, 2).long(), lucid.ones(2, 1)),
        ValueError,
        "values of",
    ),
    "source of another dtype": (
        lambda: lucid.scatter_add(X, 1, lucid.zeros(2, 1).long(), lucid.ones(2, 1, dtype=lucid.float64)),
        TypeError,
        "scatter_add: .*float32 and float64",
    ),
    "slices to add": (lambda: lucid.index_add(X, 0, [0], lucid.ones(2, 3)), ValueError, r"must be \(1, 3\)"),
    "bins": (lambda: lucid.histogram(X, 0), ValueError, "bins: got 0"),
    "diagonal of one axis": (lambda: lucid.diagonal(X, 0, 1, -1), ValueError, "two axes"),
    "diag": (lambda: lucid.diag(lucid.ones(1, 1, 1)), ValueError, "one or two axes"),
    "triangle": (lambda: lucid.tril(lucid.ones(2)), ValueError, "two axes"),
    "repeats": (lambda: lucid.repeat(X, [1, 2], 1), ValueError, "2 numbers for the 3 elements"),
    "repeats below 0": (lambda: lucid.repeat(X, -1), ValueError, "repeats: got -1"),
    "tiles": (lambda: X.repeat(-1, 2), ValueError, "reps: got"),
    "repeat with an axis": (lambda: X.repeat(2, axis=0), TypeError, "repeat_interleave"),
    "rolls": (lambda: lucid.roll(X, (1, 2), 0), ValueError, "2 shifts for 1 axes"),
    "grid": (lambda: lucid.meshgrid(X), ValueError, "must be vectors"),
    "indexing of a grid": (lambda: lucid.meshgrid(lucid.ones(2), indexing="ji"), ValueError, "'ij' or 'xy'"),
    "products": (lambda: lucid.cumprod(X, 2), ValueError, "cumprod: got axis 2"),
    "letters": (lambda: lucid.einsum("i1", X), ValueError, "may be letters"),
    "operands": (lambda: lucid.einsum("ij,jk", X), ValueError, "for 1 operands; it describes 2"),
    "axes of an operand": (lambda: lucid.einsum("i->i", X), ValueError, "an operand of 2 axes"),
    "lengths": (lambda: lucid.einsum("ij,ij->i", X, lucid.ones(2, 4)), ValueError, "lengths 3 and 4"),
    "diagonal": (lambda: lucid.einsum("ii", X), ValueError, "lengths 2 and 3|lengths 3 and 2"),
    "result": (lambda: lucid.einsum("ij->k", X), ValueError, "may have 'k' once"),
    "tensors first": (lambda: lucid.einsum(X, "ij"), TypeError, "the text comes first"),
    "axes alike": (lambda: lucid.tensordot(X, X, 1), ValueError, "are not alike"),
    "outer": (lambda: lucid.outer(X, X), ValueError, "must be vectors"),
    "dtype as a diagonal": (lambda: lucid.eye(2, 2, lucid.float64), TypeError, "write dtype="),
    "dtype as a flag of a parameter": (lambda: nn.Parameter([1.0], lucid.float64), TypeError, "write dtype="),
    "dtype as a flag of a buffer": (lambda: nn.Buffer([1.0], lucid.float64), TypeError, "write dtype="),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    action, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        action()


def test_methods() -> None:
    """Every function that takes a tensor first is a method, and gives the same."""
    x, index = lucid.tensor([[3.0, 1.0], [2.0, 4.0]]), lucid.tensor([[1], [0]])
    calls: dict[str, tuple[Any, ...]] = {
        "tile": ((2, 1),), "split": (1,), "chunk": (2,), "unbind": (), "pad": (1,), "roll": (1,), "diagonal": (),
        "tril": (), "triu": (), "sort": (), "argsort": (), "topk": (1,), "unique": (), "nonzero": (), "histogram": (2,),
        "trace": (), "inner": (x,), "tensordot": (x,), "cumprod": (1,), "gather": (1, index), "flip": (0,), "diag": (),
        "scatter": (1, index, 5.0), "scatter_add": (1, index, x[:, :1]), "index_add": (0, [1], x[:1]), "take": ([3],),
        "index_select": (0, [1]), "masked_select": (x > 2,), "repeat_interleave": (2, 0),
    }  # fmt: skip
    for name, arguments in calls.items():
        ours, expected = getattr(x, name)(*arguments), getattr(lucid, name)(x, *arguments)
        for a, b in zip(*[part if isinstance(part, tuple) else (part,) for part in (ours, expected)], strict=True):
            assert a.tolist() == b.tolist(), name
    assert x.where(x > 2, 0).tolist() == [[3.0, 0.0], [0.0, 4.0]]
    assert x[0].outer(x[1]).tolist() == lucid.outer(x[0], x[1]).tolist()
    for name in ("concatenate", "stack", "hstack", "vstack"):
        expected = getattr(lucid, name)([x, x]).tolist()
        assert getattr(x, name)(x).tolist() == getattr(x, name)([x]).tolist() == expected, name
    assert x.concatenate(x, axis=1).shape == (2, 4)
    assert [grid.tolist() for grid in x[0].meshgrid(x[1])] == [g.tolist() for g in lucid.meshgrid(x[0], x[1])]


def test_eye() -> None:
    for rows, columns, k in [(3, None, 0), (2, 4, 1), (3, 2, -1)]:
        assert lucid.eye(rows, columns, k).tolist() == np.eye(rows, columns, k).tolist()


def test_types() -> None:
    assert isinstance(lucid.Float32, lucid.types.Numeric)
    assert lucid.types.Int64 is lucid.Int64


def test_what_depends_on_values_is_not_traced() -> None:
    class Counts(nn.Module):
        def forward(self, x: lucid.Tensor) -> lucid.Tensor:
            return self.function(x)

    for function in (lucid.nonzero, lucid.unique, lambda x: lucid.masked_select(x, x > 0)):
        module = Counts()
        module.function = function
        with pytest.raises(RuntimeError, match="depends on values, so they cannot be traced"):
            trace(module, lucid.ones(3))


def test_threads_have_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    x, v = (
        lucid.tensor(rng.standard_normal((300, 64)).astype(np.float32)),
        lucid.tensor(rng.standard_normal((5000, 64))),
    )
    index, line = lucid.tensor(rng.integers(0, 300, 5000)), lucid.tensor(rng.standard_normal(80_000).astype(np.float32))
    before, results = lucid.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            lucid.set_num_threads(threads)
            added = lucid.index_add(x, 0, index, v.float())
            results.append([added, line.argsort(), line.topk(9)[1], lucid.cumprod(x, 1), x.index_select(0, index)])
    finally:
        lucid.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()


def test_a_device_is_not_waited_for() -> None:
    """Every row of arrangement, order and place, forward and backward, but for those whose length is a value."""
    for row in arranging.ROWS:
        with lucid.use_backend("strict"):
            arrays = row.arrays(np.float32, "dense", 0)
            tensors = [lucid.tensor(x, device="gpu") for x in arrays]
            dy = lucid.tensor(gradient_like(row, row.ours(*tensors), "dense", 0), device="gpu")
            for given, tensor in zip(row.inputs, tensors, strict=True):
                tensor.requires_grad = given.grad
            with traffic() as seen:
                row.ours(*tensors).backward(dy)
            assert not seen.waits or row.operation is lucid.masked_select, row.name
