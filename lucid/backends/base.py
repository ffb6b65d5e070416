"""What a backend is: one implementation of the law's kernels for one kind of memory.

Requirements that this file states and every backend meets:

- A backend knows arrays, never tensors or gradients. Its arrays are those of ``xp`` (NumPy, CuPy).
- It has a method for every kernel that ``lucid/kernels/*/reference.py`` declares (``kernels.declare.bind``), with the
  arguments of the declaration, and computes the bits of ``lucid/ARITHMETIC.md``, whose section is named there.
- Arguments have been checked by the operation that calls (dtypes equal, shapes fit); a kernel does not check again.
- Arrays come with any strides and any memory order. Results may have any memory order too (an image batch may be stored
  channels-last); only their values and shapes count. A result never shares memory with an argument, except where a
  docstring says "in place".
- Moving data (reshape, transpose, concatenate, gather, select, zero-filled buffers), and comparing or computing
  integers, rounds nothing: operations use ``xp`` for it directly, and no kernel is needed. What looks at floats
  (``compare sign convert``, a float constant) is asked of the backend: CuPy's own kernels take a float32 subnormal for
  zero.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from math import prod
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from lucid.kernels.declare import Array, Sides

Geometry = tuple[Sides, Sides, Sides, int]
"""Stride, padding and dilation of a convolution, and its groups."""


class Norm(NamedTuple):
    """A normalisation by statistics; mean and variance are float64."""

    gamma: Array | None
    beta: Array | None
    mean: Array
    var: Array
    eps: float


class Epilogue(NamedTuple):
    """What is done with every value of a convolution while it is at hand, in this order."""

    norm: Norm | None = None
    residual: Array | None = None
    relu: bool = False


NOTHING = Epilogue()


def dense_order(x: Array) -> tuple[int, ...] | None:
    """The order of axes in which ``x`` lies densely in memory, or None if it has gaps or overlaps."""
    flags = x.flags
    if flags.c_contiguous:
        return tuple(range(x.ndim))
    order = sorted(range(x.ndim), key=lambda axis: (-x.strides[axis], axis))
    return tuple(order) if x.transpose(order).flags.c_contiguous else None


def index_dtype(shape: tuple[int, ...]) -> Any:
    """The integers that hold every place in an image, for images of ``shape``."""
    return np.dtype(np.int32 if prod(shape[2:]) < 2**31 else np.int64)


class Backend:
    """The short list of kernels. ``float`` below means float32 or float64; images are ``(N, C, H, W)``,
    of windows ``(N, C, *sides)`` with one to three sides."""

    name: str
    xp: ModuleType
    asynchronous: bool = False
    """Whether kernels run behind the program's back, so that reading a value waits for them."""

    # -- what every array library can do; a backend may do it better --------------------------------------------------

    def full(self, shape: tuple[int, ...], value: float, dtype: Any) -> Array:
        """``value``, narrowed to ``dtype``, everywhere."""
        return self.xp.full(shape, value, dtype)

    def number(self, value: float, dtype: Any) -> Array:
        """One number as an array without axes, narrowed to ``dtype``."""
        return self.full((), value, dtype)

    def compare(self, op: str, a: Array, b: Array) -> Array:
        """``equal not_equal less less_equal greater greater_equal`` with NumPy broadcasting: booleans (any dtype)."""
        return self.xp.asarray(getattr(self.xp, op)(a, b))

    def sign(self, x: Array) -> Array:
        """-1, 0 or 1 by the sign of every element, NaN for NaN (any dtype that has signs)."""
        return self.xp.asarray(self.xp.sign(x))

    def convert(self, x: Array, dtype: Any) -> Array:
        """``x`` in another dtype (any), correctly rounded between floats; a copy, also where it has that dtype."""
        return self.xp.asarray(x).astype(dtype)

    def arg_extreme(self, op: str, x: Array, axis: int | None, keepdims: bool) -> Array:
        """``argmax argmin``: int64, the first of equal elements, the first NaN where there is one (section 4)."""
        return self.xp.asarray(getattr(self.xp, op)(x, axis=axis, keepdims=keepdims))

    def from_zero(self, name: str, index: Array, size: int) -> Array:
        """An integer index that may count from the end as places from 0 on, dense and int64.

        Raises:
            IndexError: one is out of range (looked for only where reading a value does not wait).
        """
        index = self.xp.ascontiguousarray(index, dtype=np.int64)
        if not index.size or (not self.asynchronous and int(index.view(np.uint64).max()) < size):
            return index
        if not self.asynchronous and not -size <= int(index.min()) <= int(index.max()) < size:
            raise IndexError(f"{name}: got indices {index.min()} to {index.max()}; may be {-size} to {size - 1}")
        return self.xp.where(index < 0, index + size, index)

    def nonzero(self, x: Array) -> Array:
        """The places, in row-major order, of elements that are not zero (any dtype): int64, a row each."""
        true = self.convert(x, np.bool_)
        if not x.ndim:  # a row without columns, or none
            return self.xp.empty((int(self.xp.nonzero(true.reshape(1))[0].size), 0), np.int64)
        return self.xp.stack(self.xp.nonzero(true), axis=1).astype(np.int64)

    def running_update(self, running: Array, statistic: Array, factor: float, momentum: float) -> None:
        """``running = running + momentum * (factor * statistic - running)`` in place; the statistic is float64, every
        operation rounds in float64, the result once more to the dtype of ``running`` (section 7)."""
        old = running.astype("float64")
        running[...] = old + momentum * ((statistic * factor if factor != 1 else statistic) - old)

    # -- the kernels that lucid/kernels/<family>/reference.py declares ------------------------------------------------

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"{type(self).__name__} has no kernel {name!r}")

    # -- what networks do in a row, where a backend can spare passes over memory; the bits are those of one by one ----

    def conv2d_add(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        residual: Array,
    ) -> Array:
        """``conv2d(x, weight, bias, *geometry) + residual``."""
        return self.binary("add", self.conv2d(x, weight, bias, *geometry), residual)

    def conv2d_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        then: Epilogue,
        stamp: int | None = None,
    ) -> Array:
        """``conv2d``, then what ``then`` says: ``batch_norm_eval``, sum and ReLU.

        ``stamp`` is a number that the weight's array has had since its values last changed, where that is known."""
        y = self.conv2d(x, weight, bias, *geometry)
        norm, residual, relu = then
        return self._then(y, residual, relu) if norm is None else self.norm_act_eval(y, norm, residual, relu)

    def norm_act_eval(self, x: Array, norm: Norm, residual: Array | None, relu: bool) -> Array:
        """``batch_norm_eval``, plus ``residual`` where there is one, and ``relu`` where wanted."""
        return self._then(self.batch_norm_eval(x, *norm), residual, relu)

    def norm_act_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float, residual: Array | None, relu: bool
    ) -> tuple[Array, Array, Array]:
        """``batch_norm_train``, and the rest likewise: ``(y, mean, var)``."""
        y, mean, var = self.batch_norm_train(x, gamma, beta, eps)
        return self._then(y, residual, relu), mean, var

    def _then(self, y: Array, residual: Array | None, relu: bool) -> Array:
        if residual is not None:
            y = self.binary("add", y, residual)
        return self.unary("relu", y) if relu else y

    def norm_act_grad(
        self,
        dy: Array,
        x: Array,
        y: Array | None,
        norm: Norm,
        training: bool,
        residual: bool,
        accumulate_into: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        """``(dx, dgamma, dbeta)`` and, if ``residual``, its gradient; ``y`` is the result where a ReLU made it, and
        the beta of ``norm`` is not looked at.

        ``dx`` is added to ``accumulate_into``, if that is given.
        """
        if y is not None:
            dy = self.binary("relu_grad", dy, y)
        gamma, _, mean, var, eps = norm
        dx, dgamma, dbeta = self.batch_norm_grad(dy, x, gamma, mean, var, eps, training)
        dx = dx if accumulate_into is None else self.binary("add", accumulate_into, dx)
        return dx, dgamma, dbeta, dy if residual else None

    def conv2d_input_grad_onto(
        self,
        accumulate_into: Array,
        dy: Array,
        weight: Array,
        geometry: Geometry,
    ) -> Array:
        """``accumulate_into + conv2d_input_grad(dy, weight, accumulate_into.shape, *geometry)``."""
        dx = self.conv2d_input_grad(dy, weight, accumulate_into.shape, *geometry)
        return self.binary("add", accumulate_into, dx)

    def attention(self, q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool) -> Array:
        """``attention_weights(q k^T, mask, scale, causal) v``; leading axes broadcast as ``matmul``'s do."""
        scores = self.matmul(q, k.swapaxes(-1, -2))
        return self.matmul(self.attention_weights(scores, mask, scale, causal), v)

    def attention_grad(
        self, dy: Array, q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool
    ) -> tuple[Array, Array, Array]:
        """The gradients of ``q``, ``k`` and ``v``, with all leading axes."""
        scores = self.matmul(q, k.swapaxes(-1, -2))
        weights = self.attention_weights(scores, mask, scale, causal)
        dweights = self.matmul(dy, v.swapaxes(-1, -2))
        dscores = self.attention_weights_grad(dweights, weights, causal)
        dscores = self.binary("mul", dscores, self.number(scale, dscores.dtype))
        dk = self.matmul(dscores.swapaxes(-1, -2), q)
        return self.matmul(dscores, k), dk, self.matmul(weights.swapaxes(-1, -2), dy)

    def standardize(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float, centre: bool
    ) -> tuple[Array, Array | None, Array]:
        """Rows ``(M, K)`` minus their mean (if ``centre``) over the root of their mean square plus ``eps``, times
        ``weight`` plus ``bias``, ``(K,)`` (section 7.1): the result, the means and the roots, ``(M, 1)``."""
        mean = self.reduce("mean", x, (1,), True) if centre else None
        centred = x if mean is None else self.binary("sub", x, mean)
        squares = self.reduce("mean", self.unary("square", centred), (1,), True)
        root = self.unary("sqrt", self.binary("add", squares, self.number(eps, x.dtype)))
        y = self.binary("div", centred, root)
        y = y if weight is None else self.binary("mul", y, weight)
        return y if bias is None else self.binary("add", y, bias), mean, root

    def standardize_grad(
        self,
        dy: Array,
        x: Array,
        weight: Array | None,
        mean: Array | None,
        root: Array,
        accumulate_into: Array | None,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Array | None, Array | None, Array | None]:
        """The gradients of ``x``, ``weight`` and ``bias`` that are wanted, in the order of the composition's: what has
        arrived at ``x``, ``accumulate_into``, meets its two parts one after the other."""

        def arrived(part: Array) -> Array:
            return part if accumulate_into is None else self.binary("add", accumulate_into, part)

        centred = x if mean is None else self.binary("sub", x, mean)
        y = self.binary("div", centred, root)
        dbias = self.reduce("sum", dy, (0,), False) if needs[2] else None
        dweight = self.reduce("sum", self.binary("mul", dy, y), (0,), False) if needs[1] else None
        if not needs[0]:
            return None, dweight, dbias
        quotient = self.binary("div", dy if weight is None else self.binary("mul", dy, weight), root)
        droot = self.reduce("sum", self.unary("neg", self.binary("mul", quotient, y)), (1,), True)
        two, count = self.number(2.0, x.dtype), self.number(x.shape[1], x.dtype)
        dsquare = self.binary("div", self.binary("div", droot, self.binary("mul", two, root)), count)
        rest = self.binary("mul", dsquare, self.binary("mul", two, centred))
        if mean is None:
            return self.binary("add", arrived(quotient), rest), dweight, dbias
        dcentred = self.binary("add", quotient, rest)
        dmean = self.reduce("sum", self.unary("neg", dcentred), (1,), True)
        return self.binary("add", arrived(dcentred), self.binary("div", dmean, count)), dweight, dbias

    # -- inference plans ---------------------------------------------------------------------------------------------

    terms_in_place: int = 0
    """The longest contraction in a plan whose result may lie where its residual does, if nobody reads that again."""

    plans: tuple[str, str] = "lucid.backends._plan", "WholePlan"
    """The module and the class of its plans, found by name when one is asked for, as backends are."""

    def plan(self, dtype: Any) -> Any:
        """A new ``Plan`` of steps whose values have ``dtype``."""
        module, name = self.plans
        return getattr(importlib.import_module(module), name)(self, dtype)


class FusedBackend(Backend):
    """A backend with kernels for ``norm_act_train``, ``norm_act_eval`` and ``norm_act_grad``, which it defines.

    Without a residual and a ReLU, they are batch normalisation.
    """

    def batch_norm_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        return self.norm_act_train(x, gamma, beta, eps, None, False)

    def batch_norm_eval(
        self, x: Array, gamma: Array | None, beta: Array | None, mean: Array, var: Array, eps: float
    ) -> Array:
        return self.norm_act_eval(x, Norm(gamma, beta, mean, var, eps), None, False)

    def batch_norm_grad(
        self, dy: Array, x: Array, gamma: Array | None, mean: Array, var: Array, eps: float, training: bool
    ) -> tuple[Array, Array, Array]:
        return self.norm_act_grad(dy, x, None, Norm(gamma, None, mean, var, eps), training, False)[:3]
