"""What a backend is: one implementation of the law's kernels for one kind of memory.

Requirements that this file states and every backend meets:

- A backend knows arrays, never tensors or gradients. Its arrays are those of ``xp`` (NumPy, CuPy).
- Every kernel computes the bits of ``lucid/ARITHMETIC.md``; the section is named beside each.
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

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

import numpy as np

Array = Any
Pair = tuple[int, int]


NORM_PARTS = "mean", "scale", "shift"
"""The coefficients of a normalisation whose statistics are known (section 7), as plans keep them."""


def dense_order(x: Array) -> tuple[int, ...] | None:
    """The order of axes in which ``x`` lies densely in memory, or None if it has gaps or overlaps."""
    flags = x.flags
    if flags.c_contiguous:
        return tuple(range(x.ndim))
    order = sorted(range(x.ndim), key=lambda axis: (-x.strides[axis], axis))
    return tuple(order) if x.transpose(order).flags.c_contiguous else None


def index_dtype(shape: tuple[int, ...]) -> Any:
    """The integers that hold every offset ``h * W + w`` in a plane of images of ``shape``."""
    return np.dtype(np.int32 if shape[2] * shape[3] < 2**31 else np.int64)


class Backend(ABC):
    """The short list of kernels. ``float`` below means float32 or float64; images are ``(N, C, H, W)``."""

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

    def running_update(self, running: Array, statistic: Array, factor: float, momentum: float) -> None:
        """``running = running + momentum * (factor * statistic - running)`` in place; the statistic is float64, every
        operation rounds in float64, the result once more to the dtype of ``running`` (section 7)."""
        old = running.astype("float64")
        running[...] = old + momentum * ((statistic * factor if factor != 1 else statistic) - old)

    # -- elementwise: sections 5 and 6 -------------------------------------------------------------------------------

    @abstractmethod
    def unary(self, op: str, x: Array) -> Array:
        """A function of one value, of every element, by its name in ``lucid.kernels.elementwise.functions``."""

    @abstractmethod
    def binary(self, op: str, a: Array, b: Array) -> Array:
        """A function of two values, likewise, with NumPy broadcasting."""

    @abstractmethod
    def power(self, x: Array, exponent: float) -> Array:
        """``x ** exponent`` for one Python number."""

    # -- sums: sections 2 and 4 --------------------------------------------------------------------------------------

    @abstractmethod
    def reduce(self, op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        """``sum mean max min`` over ``axes`` (non-negative, ascending; all axes must be named to reduce all)."""

    @abstractmethod
    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        """Zeros of ``shape`` with ``values`` added at ``index`` (any NumPy index), duplicates in order (section 12)."""

    # -- contractions: section 3 -------------------------------------------------------------------------------------

    @abstractmethod
    def matmul(self, a: Array, b: Array) -> Array:
        """``(..., M, K) @ (..., K, N) -> (..., M, N)``; leading dimensions broadcast; both have at least two."""

    @abstractmethod
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """``(M, K) x (N, K) + (N,) -> (M, N)``."""

    @abstractmethod
    def conv2d(
        self, x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Array:
        """``(N, C, H, W) * (O, C/groups, KH, KW) -> (N, O, OH, OW)``."""

    @abstractmethod
    def conv2d_input_grad(
        self,
        dy: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Array: ...

    @abstractmethod
    def conv2d_weight_grad(
        self,
        dy: Array,
        x: Array,
        weight_shape: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Array: ...

    # -- batch normalisation: section 7 ------------------------------------------------------------------------------
    # ``mean`` and ``var`` between these kernels are float64, shape (C,); gamma and beta have x's dtype, or are None.

    @abstractmethod
    def batch_norm_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """``(y, mean, var)``, ``var`` biased."""

    @abstractmethod
    def batch_norm_eval(
        self, x: Array, gamma: Array | None, beta: Array | None, mean: Array, var: Array, eps: float
    ) -> Array:
        """``y`` from given statistics (float64)."""

    @abstractmethod
    def batch_norm_grad(
        self, dy: Array, x: Array, gamma: Array | None, mean: Array, var: Array, eps: float, training: bool
    ) -> tuple[Array, Array, Array]:
        """``(dx, dgamma, dbeta)``; ``training`` tells whether the statistics depended on ``x``."""

    # -- what networks do in a row, where a backend can spare passes over memory; the bits are those of one by one ----

    def conv2d_add(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: tuple[Pair, Pair, Pair, int],
        residual: Array,
    ) -> Array:
        """``conv2d(x, weight, bias, *geometry) + residual``."""
        return self.binary("add", self.conv2d(x, weight, bias, *geometry), residual)

    def conv2d_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: tuple[Pair, Pair, Pair, int],
        norm: tuple[Array | None, Array | None, Array, Array, float],
        residual: Array | None,
        relu: bool,
        stamp: int | None = None,
    ) -> Array:
        """``conv2d``, then ``batch_norm_eval`` with ``norm = (gamma, beta, mean, var, eps)``, sum and ReLU.

        ``stamp`` is a number that the weight's array has had since its values last changed, where that is known."""
        return self.norm_act_eval(self.conv2d(x, weight, bias, *geometry), *norm, residual, relu)

    def norm_act_eval(
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        mean: Array,
        var: Array,
        eps: float,
        residual: Array | None,
        relu: bool,
    ) -> Array:
        """``batch_norm_eval``, plus ``residual`` where there is one, and ``relu`` where wanted."""
        return self._then(self.batch_norm_eval(x, gamma, beta, mean, var, eps), residual, relu)

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
        gamma: Array | None,
        mean: Array,
        var: Array,
        eps: float,
        training: bool,
        residual: bool,
        there: Array | None = None,
    ) -> tuple[Array, Array, Array, Array | None]:
        """``(dx, dgamma, dbeta)`` and, if ``residual``, its gradient; ``y`` is the result where a ReLU made it.

        ``dx`` is added to ``there``, if that is given.
        """
        if y is not None:
            dy = self.binary("relu_grad", dy, y)
        dx, dgamma, dbeta = self.batch_norm_grad(dy, x, gamma, mean, var, eps, training)
        dx = dx if there is None else self.binary("add", there, dx)
        return dx, dgamma, dbeta, dy if residual else None

    def conv2d_input_grad_onto(
        self,
        there: Array,
        dy: Array,
        weight: Array,
        geometry: tuple[Pair, Pair, Pair, int],
    ) -> Array:
        """``there + conv2d_input_grad(dy, weight, there.shape, *geometry)``."""
        return self.binary("add", there, self.conv2d_input_grad(dy, weight, there.shape, *geometry))

    # -- pooling: section 8 ------------------------------------------------------------------------------------------

    @abstractmethod
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, output: Pair
    ) -> tuple[Array, Array]:
        """``(y, index)``: ``y`` of spatial size ``output``, ``index`` the integer offset ``h * W + w`` in the plane."""

    @abstractmethod
    def max_pool2d_grad(self, dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array: ...

    @abstractmethod
    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool, output: Pair
    ) -> Array: ...

    @abstractmethod
    def avg_pool2d_grad(
        self,
        dy: Array,
        input_shape: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        count_include_pad: bool,
    ) -> Array: ...

    @abstractmethod
    def adaptive_avg_pool2d(self, x: Array, output: Pair) -> Array: ...

    @abstractmethod
    def adaptive_avg_pool2d_grad(self, dy: Array, input_shape: tuple[int, ...]) -> Array: ...

    # -- softmax and loss: section 9 ---------------------------------------------------------------------------------

    @abstractmethod
    def log_softmax(self, x: Array, axis: int) -> Array: ...

    @abstractmethod
    def log_softmax_grad(self, dy: Array, y: Array, axis: int) -> Array: ...

    @abstractmethod
    def nll_loss(
        self, logp: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str
    ) -> tuple[Array, Array]:
        """``logp`` ``(N, C)``, ``target`` int64 ``(N,)``; ``reduction`` ``none sum mean``.

        Returns the loss (``(N,)`` or ``()``) and the float64 sum of the weights, which the gradient needs.
        """

    @abstractmethod
    def nll_loss_grad(
        self,
        dloss: Array,
        target: Array,
        weight: Array | None,
        ignore_index: int,
        reduction: str,
        weight_sum: Array,
        classes: int,
    ) -> Array:
        """The gradient of ``logp``, shape ``(N, classes)``."""

    # -- optimiser: section 10 ---------------------------------------------------------------------------------------

    @abstractmethod
    def sgd_step(
        self,
        param: Array,
        grad: Array,
        velocity: Array | None,
        first: bool,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        maximize: bool,
    ) -> None:
        """One update, in place in ``param`` and, if ``momentum`` is not 0, in ``velocity`` (written when ``first``)."""

    # -- random numbers: section 11 ----------------------------------------------------------------------------------

    @abstractmethod
    def philox(self, seed: int, stream: int, block: int, words: int) -> Array:
        """``words`` uint32 values from the start of ``block``, shape ``(words,)``."""

    @abstractmethod
    def uniform(self, seed: int, stream: int, block: int, n: int, low: float, high: float, dtype: Any) -> Array:
        """``n`` values; float32 takes one word a value, float64 two."""

    @abstractmethod
    def normal(self, seed: int, stream: int, block: int, n: int, mean: float, std: float, dtype: Any) -> Array:
        """``n`` values; words as in ``uniform``."""

    # -- inference plans ---------------------------------------------------------------------------------------------

    terms_in_place: int = 0
    """The longest contraction in a plan whose result may lie where its residual does, if nobody reads that again."""

    def plan(self, elements: int, dtype: Any) -> Any:
        """A new plan over an arena of ``elements`` values, to be told its steps by ``lucid.graph.compile``; or None.

        Its methods are those of ``lucid.backends.native.NativePlan``. A backend without plans runs the model instead.
        """
        return None


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
        return self.norm_act_eval(x, gamma, beta, mean, var, eps, None, False)

    def batch_norm_grad(
        self, dy: Array, x: Array, gamma: Array | None, mean: Array, var: Array, eps: float, training: bool
    ) -> tuple[Array, Array, Array]:
        return self.norm_act_grad(dy, x, None, gamma, mean, var, eps, training, False)[:3]
