"""Operations as a table: a row states one once, and every check runs over all rows, dtypes, layouts and backends.

A row is lucid's function, PyTorch's function of the same meaning, and what to give both. Its numbers come from its name
and a seed that stands in the test's id, so a failure is repeated by its id alone. All tolerances are here.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

import lucid
from support.backends import on

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Layout = Literal["dense", "strided"]
Kind = Literal["normal", "positive", "apart", "ties", "special", "infinite"]

LAYOUTS: tuple[Layout, ...] = ("dense", "strided")
DTYPES = (np.float32, np.float64)

ELEMENT_ULPS = 8
"""How far apart two results of a few roundings each may be, relative to each element. A correctly rounded operation is
off by half an ulp, a library's exp, log or pow by up to 2, and the longest gradient here takes four of them."""
SUM_ULPS = 32
"""Likewise for sums of up to a few hundred terms, relative to the largest element: terms may cancel, and both libraries
round as often as there are terms, though mostly in both directions."""
FEW = 8
LEAST_SUM = 0.5
"""Among fewer than ``FEW`` elements all may happen to cancel. Then errors are measured against no less than this times
the root of the number of terms: inputs, and so terms, are of order 1, and partial sums grow as that root does."""
DIFFERENCE_TOLERANCE = 2e-7
"""For central differences in float64, relative to the largest slope: a step of 6e-6 leaves 4e-11 of truncation and
``eps / step`` = 4e-11 of rounding in each term; sums over a few hundred terms and steep functions take the rest."""
STEP = float(np.finfo(np.float64).eps ** (1 / 3))
PERTURBED = 24
"""How many elements of an input, chosen at random where it has more, are moved for a difference."""

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 1e-30, 1.0, -1.0])


@dataclass(frozen=True)
class Given:
    """One input: numbers to draw, or ``fixed`` ones.

    Kinds: ``normal``; ``positive`` (at least 0.5); ``apart`` (no two equal or near, none near 0); ``ties`` (few
    different ones, zeros of both signs); ``special`` (zeros, infinities, NaN, subnormal, the largest); ``infinite``
    (those without the largest, whose sums overflow in one order and not in another).
    """

    shape: Shape = ()
    kind: Kind = "normal"
    grad: bool = True
    fixed: Any = None

    def draw(self, rng: np.random.Generator, dtype: Any) -> Array:
        if self.fixed is not None:
            fixed = np.asarray(self.fixed)
            return fixed.astype(dtype) if fixed.dtype.kind == "f" else fixed
        x: Any = rng.standard_normal(self.shape)
        if self.kind == "positive":
            x = 0.5 + np.abs(x)
        elif self.kind == "apart":  # distinct, and away from 0: nothing changes order when one is moved a little
            places = rng.permutation(x.size).reshape(self.shape) + 0.5
            x = places / 4.0 * rng.choice([-1.0, 1.0], self.shape)
        elif self.kind == "ties":
            x = rng.integers(-2, 3, self.shape) * 1.0
            x = np.where(x == 0, rng.choice([0.0, -0.0], self.shape), x)
        x = np.array(x, dtype)
        if self.kind in ("special", "infinite"):
            chosen = rng.random(self.shape) < 0.6
            numbers = SPECIAL if self.kind == "special" else SPECIAL[~(np.abs(SPECIAL) == 3e38)]
            x[chosen] = rng.choice(numbers, int(chosen.sum())).astype(dtype)
        return x


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the table.

    ``smooth`` says that central differences mean something; ``sums`` that terms may cancel, so that errors are to be
    measured against the largest element. ``law``, where it is given, is the result in scalar loops written from
    ``ARITHMETIC.md``, of arrays.
    """

    name: str
    operation: Callable[..., Any]
    ours: Callable[..., lucid.Tensor]
    theirs: Callable[..., torch.Tensor]
    inputs: tuple[Given, ...]
    smooth: bool = True
    sums: bool = False
    dtypes: tuple[Any, ...] = DTYPES
    law: Callable[..., Array] | None = None

    def rng(self, seed: int) -> np.random.Generator:
        return np.random.default_rng([seed, zlib.crc32(self.name.encode())])

    def arrays(self, dtype: Any, layout: Layout, seed: int) -> list[Array]:
        rng = self.rng(seed)
        drawn = [given.draw(rng, dtype) for given in self.inputs]
        return drawn if layout == "dense" else [strided(rng, x) for x in drawn]


def strided(rng: np.random.Generator, x: Array) -> Array:
    """The values of ``x`` in memory with gaps, backwards, or in another order of axes (channels-last, mostly, if 4)."""
    y = x
    if x.ndim > 1:
        axes = (0, 2, 3, 1) if x.ndim == 4 and rng.random() < 0.6 else rng.permutation(x.ndim)
        y = np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))
    if x.ndim and rng.random() < 0.6:
        axis = int(rng.integers(x.ndim))
        wide = np.full([2 * n + 1 if i == axis else n for i, n in enumerate(x.shape)], 99, x.dtype)
        view = wide[(slice(None),) * axis + (slice(1, None, 2),)]
        y = view[(slice(None),) * axis + (slice(None, None, -1),)] if rng.random() < 0.5 else view
        y[...] = x
    return y


def gradient_like(row: Row, y: Any, layout: Layout, seed: int) -> Array:
    """The gradient that is handed to ``backward``: normal numbers, in memory as ``layout`` says."""
    rng = row.rng(seed + 1000)
    dy = np.asarray(rng.standard_normal(y.shape), y.dtype)
    return dy if layout == "dense" else strided(rng, dy)


@functools.lru_cache(16)  # it is compared with PyTorch and with other backends
def run(
    row: Row, backend: str, dtype: Any, layout: Layout = "dense", seed: int = 0, wanted: tuple[int, ...] | None = None
) -> dict[str, Array | None]:
    """The result of a row on one backend, and the gradient of each input; only of those in ``wanted``, if given."""
    with on(backend):
        tensors = []
        for i, (given, x) in enumerate(zip(row.inputs, row.arrays(dtype, layout, seed), strict=True)):
            tensor = lucid.to_tensor(x)
            tensor.requires_grad = given.grad and (wanted is None or i in wanted)
            tensors.append(tensor)
        y = row.ours(*tensors)
        if y.requires_grad:
            y.backward(lucid.to_tensor(gradient_like(row, y, layout, seed)))
        return _results(row, y, tensors)


@functools.lru_cache(4)  # each backend in turn is compared with it
def run_torch(row: Row, dtype: Any, seed: int = 0) -> dict[str, Array | None]:
    """The same by PyTorch."""
    tensors = []
    for given, x in zip(row.inputs, row.arrays(dtype, "dense", seed), strict=True):
        tensors.append(torch.from_numpy(x.copy()).requires_grad_(given.grad))
    y = row.theirs(*tensors)
    if y.requires_grad:
        y.backward(torch.from_numpy(gradient_like(row, y.detach().numpy(), "dense", seed)))
    return _results(row, y, tensors)


def _results(row: Row, y: Any, tensors: list[Any]) -> dict[str, Array | None]:
    """What a run of either library left: the result, gradients, and the other inputs, which may have been updated."""
    results: dict[str, Array | None] = {"result": y.detach().numpy()}
    for i, (given, tensor) in enumerate(zip(row.inputs, tensors, strict=True)):
        if given.grad:
            results[f"gradient of input {i}"] = None if tensor.grad is None else tensor.grad.numpy()
        elif given.fixed is None:
            results[f"input {i} afterwards"] = tensor.numpy()
    return results


def assert_near(name: str, got: Array | None, expected: Array | None, sums: bool, elements: int) -> None:
    """Raise unless ``got`` is ``expected`` up to the tolerances above; NaN and infinity must be the same.

    ``elements`` are those of the largest array of the operation: each of n sums has ``elements / n`` terms. An input on
    which the result does not depend has no gradient in PyTorch and zeros, or none, in lucid.
    """
    if expected is None or got is None:
        assert all(x is None or not np.any(x) for x in (got, expected)), f"{name}: only one of the two is there"
        return
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected, name)
        return
    info = np.finfo(expected.dtype)
    finite = np.isfinite(expected)
    size = np.abs(np.where(finite, expected, 0.0)).astype(np.float64)
    allowed = ELEMENT_ULPS * info.eps * size + 8 * info.smallest_subnormal
    if sums:
        terms = max(1.0, elements / max(size.size, 1))
        least = LEAST_SUM * math.sqrt(terms) if size.size < FEW else 0.0
        allowed = np.maximum(allowed, SUM_ULPS * info.eps * size.max(initial=least))
    with np.errstate(invalid="ignore"):
        same = (got == expected) | (np.isnan(got) & np.isnan(expected))
        near = np.isfinite(got) & finite & (np.abs(got.astype(np.float64) - expected) <= allowed)
    wrong = ~(same | near)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        raise AssertionError(
            f"{name}: {wrong.sum()} of {wrong.size} elements are off, first at {at}: lucid has {got[at]!r}, "
            f"PyTorch {expected[at]!r}, {allowed[at] if finite[at] else 0:.1e} apart would do"
        )


def differences(row: Row, index: int, seed: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Central differences of ``sum(dy * f(x))`` by elements of input ``index``, in float64."""
    arrays = row.arrays(np.float64, "dense", seed)
    tensors = [lucid.to_tensor(x) for x in arrays]
    dy = gradient_like(row, row.ours(*tensors), "dense", seed)
    x = arrays[index]
    places = row.rng(seed + 2000).permutation(x.size)[:PERTURBED]
    for place in places:
        at = tuple(int(i) for i in np.unravel_index(place, x.shape))
        kept, ends = x[at], []
        for moved in (kept + STEP, kept - STEP):
            x[at] = moved
            ends.append((moved, row.ours(*tensors).data.copy()))
        x[at] = kept
        (above, y_above), (below, y_below) = ends
        yield at, float(np.sum((y_above - y_below) * dy) / (above - below))
