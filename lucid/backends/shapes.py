"""A backend that computes shapes and dtypes alone: what a model makes of an input, without making it.

Every result is a single zero, broadcast to the shape that the law's kernel would return, so that the largest network on
the largest image costs no arithmetic and no memory. The tracer and ``summarize`` run models on it; its values mean
nothing. It serves no device by name: ``lucid.nn._dry_run`` lends it to one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.backends.base import Array, Backend, Pair

_NO_RANDOM = (
    "a model that draws random numbers in its forward cannot be traced: draw them before, and pass them as an input"
)


class Hollow(np.ndarray):
    """An array without values: whatever NumPy computes from it is hollow too, and asking for a value is an error."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError(
            "a model that reads the values of its tensors (item, bool, float, tolist of a tensor, or an if on one) "
            "cannot be traced: the run that traces it computes shapes alone"
        )

    item = tolist = __bool__ = __int__ = __float__ = __index__ = __complex__ = _refuse


def hollow(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.broadcast_to(np.zeros((), dtype), shape).view(Hollow)


def _like(x: Array) -> Array:
    return hollow(x.shape, x.dtype)


class ShapeBackend(Backend):
    """The kernels' shapes."""

    name = "shapes"
    xp = np

    def unary(self, op: str, x: Array) -> Array:
        return _like(x)

    def binary(self, op: str, a: Array, b: Array) -> Array:
        return hollow(np.broadcast_shapes(a.shape, b.shape), a.dtype)

    def power(self, x: Array, exponent: float) -> Array:
        return _like(x)

    def reduce(self, op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        kept = [1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdims or axis not in axes]
        return hollow(tuple(kept), x.dtype)

    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        return hollow(shape, values.dtype)

    def matmul(self, a: Array, b: Array) -> Array:
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return hollow((*leading, a.shape[-2], b.shape[-1]), a.dtype)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        return hollow((x.shape[0], weight.shape[0]), x.dtype)

    def conv2d(
        self, x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Array:
        spatial = (
            (size + 2 * pad - step * (kernel - 1) - 1) // jump + 1
            for size, pad, step, kernel, jump in zip(
                x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
            )
        )
        return hollow((x.shape[0], weight.shape[0], *spatial), x.dtype)

    def conv2d_input_grad(
        self,
        dy: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Array:
        return hollow(input_shape, dy.dtype)

    def conv2d_weight_grad(
        self,
        dy: Array,
        x: Array,
        weight_shape: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Array:
        return hollow(weight_shape, dy.dtype)

    def batch_norm_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        statistic = hollow((x.shape[1],), np.float64)
        return _like(x), statistic, statistic

    def batch_norm_eval(
        self, x: Array, gamma: Array | None, beta: Array | None, mean: Array, var: Array, eps: float
    ) -> Array:
        return _like(x)

    def batch_norm_grad(
        self, dy: Array, x: Array, gamma: Array | None, mean: Array, var: Array, eps: float, training: bool
    ) -> tuple[Array, Array, Array]:
        channels = hollow((x.shape[1],), x.dtype)
        return _like(x), channels, channels

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, output: Pair
    ) -> tuple[Array, Array]:
        shape = (*x.shape[:2], *output)
        return hollow(shape, x.dtype), hollow(shape, np.int64)

    def max_pool2d_grad(self, dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array:
        return hollow(input_shape, dy.dtype)

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool, output: Pair
    ) -> Array:
        return hollow((*x.shape[:2], *output), x.dtype)

    def avg_pool2d_grad(
        self,
        dy: Array,
        input_shape: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        count_include_pad: bool,
    ) -> Array:
        return hollow(input_shape, dy.dtype)

    def adaptive_avg_pool2d(self, x: Array, output: Pair) -> Array:
        return hollow((*x.shape[:2], *output), x.dtype)

    def adaptive_avg_pool2d_grad(self, dy: Array, input_shape: tuple[int, ...]) -> Array:
        return hollow(input_shape, dy.dtype)

    def log_softmax(self, x: Array, axis: int) -> Array:
        return _like(x)

    def log_softmax_grad(self, dy: Array, y: Array, axis: int) -> Array:
        return _like(y)

    def nll_loss(
        self, logp: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str
    ) -> tuple[Array, Array]:
        shape = target.shape if reduction == "none" else ()
        return hollow(shape, logp.dtype), hollow((), np.float64)

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
        return hollow((*target.shape, classes), dloss.dtype)

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
        """Nothing: a dry run changes no parameter."""

    def philox(self, seed: int, stream: int, block: int, words: int) -> Array:
        raise RuntimeError(_NO_RANDOM)

    def uniform(self, seed: int, stream: int, block: int, n: int, low: float, high: float, dtype: Any) -> Array:
        raise RuntimeError(_NO_RANDOM)

    def normal(self, seed: int, stream: int, block: int, n: int, mean: float, std: float, dtype: Any) -> Array:
        raise RuntimeError(_NO_RANDOM)
