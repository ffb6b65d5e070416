"""The C++ kernels as a backend.

This file decides layouts and allocates results; ``lucid/kernels`` computes. Images are stored channels-last,
``(N, H, W, C)`` in memory behind arrays of shape ``(N, C, H, W)``, and convolution weights ``(KH, KW, C, O)`` behind
``(O, C, KH, KW)``: an argument in that order is used where it lies, any other is copied into it first.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from math import prod
from typing import Any

import numpy as np

from lucid.backends._settings import choice, extension
from lucid.backends.base import NORM_PARTS, Array, FusedBackend, Pair, dense_order, index_dtype

try:
    _native: Any = extension()
except ImportError as error:
    raise ImportError(f"its compiled extension did not load ({error})") from error

_UNARY: dict[str, int] = _native.UNARY
_BINARY: dict[str, int] = _native.BINARY
_REDUCE = {name: code for code, name in enumerate(("sum", "mean", "max", "min"))}
_REDUCTION = {"none": 0, "sum": 1, "mean": 2}
# One correctly rounded operation: NumPy's is the same, and walks broadcast operands without copying them.
_NUMPY_BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}

_LARGE = 1 << 14  # elements from which an array is worth memory of the extension's store

_CHANNELS_LAST = (0, 2, 3, 1)
_CHANNELS_FIRST = (0, 3, 1, 2)
_WEIGHT_STORED = (2, 3, 1, 0)
_WEIGHT_SHAPED = (3, 2, 0, 1)


def _same_layout(a: Array, b: Array) -> bool:
    """Whether elements of one index lie at one offset; the stride of an axis of length one does not matter."""
    if a.strides == b.strides:
        return a.shape == b.shape
    return a.shape == b.shape and all(
        size == 1 or p == q for size, p, q in zip(a.shape, a.strides, b.strides, strict=True)
    )


def _images(x: Array) -> Array:
    """``x`` of shape (N, C, H, W) as a dense (N, H, W, C) array."""
    images = x.transpose(_CHANNELS_LAST)
    if images.flags.c_contiguous:
        return images
    if x.size < _LARGE or not x.flags.c_contiguous:
        return np.ascontiguousarray(images)
    n, c, h, w = x.shape
    images = _empty((n, h, w, c), x.dtype)
    _native.swap_axes(n, c, h * w, x, images)
    return images


def _matrix(x: Array) -> Array:
    """A matrix without gaps in row-major order."""
    if x.size < _LARGE or x.flags.c_contiguous or not x.flags.f_contiguous:
        return np.ascontiguousarray(x)
    rows, columns = x.shape
    matrix = _empty((rows, columns), x.dtype)
    _native.swap_axes(1, columns, rows, x.T, matrix)
    return matrix


def _dense(x: Array | None) -> Array | None:
    """``x``, where there is one, without gaps."""
    return None if x is None else np.ascontiguousarray(x)


def _empty(shape: tuple[int, ...] | list[int], dtype: Any) -> Array:
    """A new dense array; a large one in memory that was used before, if there is some."""
    if prod(shape) >= _LARGE and (dtype == np.float32 or dtype == np.float64):
        array: Array = _native.empty(shape, dtype == np.float64)
        return array
    return np.empty(shape, dtype)


def _empty_like(x: Array) -> Array:
    """A new dense array with the axes of ``x`` in their order in memory; ``x`` has no gaps."""
    if x.size < _LARGE:
        return np.empty_like(x)
    order = dense_order(x)
    if order is None:
        return np.empty_like(x)
    y = _empty([x.shape[axis] for axis in order], x.dtype)
    return y.transpose([order.index(axis) for axis in range(x.ndim)])


def _new_images(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """A new dense (N, H, W, C) array, and the same memory shaped (N, C, H, W)."""
    n, c, h, w = shape
    stored = _empty((n, h, w, c), dtype)
    return stored, stored.transpose(_CHANNELS_FIRST)


def _rows(x: Array) -> tuple[int, int]:
    """Pixels and channels of a stored image batch."""
    return x.shape[0] * x.shape[1] * x.shape[2], x.shape[3]


class NativePlan:
    """A plan of the C++ kernels (``lucid/kernels/plan.h``): sizes are put in order here, and arrays kept alive."""

    NOWHERE, INPUT, OUTPUT = -1, -2, -3

    def __init__(self, elements: int, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._plan = (_native.PlanFloat32 if self.dtype == np.float32 else _native.PlanFloat64)(elements)
        self.constants: list[tuple[str, Array]] = []
        """What it was made of, by what it is: copies of its own, which it reads at every run."""
        self.to_channels_last = self._plan.to_channels_last
        self.scale_channels = self._plan.scale_channels

    @property
    def steps(self) -> int:
        """How many there are."""
        return int(self._plan.steps)

    def _kept(self, name: str, array: Array | None) -> Array | None:
        """A copy of the plan's own: a plan is made of what the parameters are now."""
        if array is not None:
            array = np.array(array, order="C")
            self.constants.append((name, array))
        return array

    def _kept_norm(self, norm: tuple[Array, Array, Array] | None) -> tuple[Array | None, ...]:
        return tuple(self._kept(name, part) for name, part in zip(NORM_PARTS, norm or (None,) * 3, strict=True))

    def conv(
        self,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        geometry: tuple[Pair, Pair, Pair, int],
        x: int,
        weight: Array,
        bias: Array | None,
        norm: tuple[Array, Array, Array] | None,
        residual: int,
        relu: bool,
        y: int,
    ) -> None:
        sizes = NativeBackend._conv_sizes(input_shape, output_shape, weight.shape[2:], *geometry)
        weight = np.ascontiguousarray(weight.transpose(_WEIGHT_STORED))  # the plan packs a copy
        parts = self._kept("bias", bias), *self._kept_norm(norm)
        self.constants.append(("packed weight", self._plan.conv(sizes, x, weight, *parts, residual, relu, y)))

    def linear(self, rows: int, k: int, x: int, weight: Array, bias: Array | None, y: int) -> None:
        stored, kept = np.ascontiguousarray(weight.T), self._kept("bias", bias)
        self.constants.append(("packed weight", self._plan.linear(rows, weight.shape[0], k, x, stored, kept, y)))

    def norm(self, rows: int, channels: int, x: int, norm: tuple[Array, Array, Array], relu: bool, y: int) -> None:
        self._plan.norm(rows, channels, x, *self._kept_norm(norm), relu, y)

    def max_pool(
        self,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        geometry: tuple[Pair, Pair, Pair, Pair],
        x: int,
        y: int,
    ) -> None:
        self._plan.max_pool(NativeBackend._pool_sizes(input_shape, output_shape[2:], *geometry), x, y)

    def avg_pool(
        self,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        geometry: tuple[Pair, Pair, Pair, Pair],
        include_pad: bool,
        adaptive: bool,
        x: int,
        y: int,
    ) -> None:
        sizes = NativeBackend._pool_sizes(input_shape, output_shape[2:], *geometry)
        self._plan.avg_pool(sizes, include_pad, adaptive, x, y)

    def unary(self, op: str, n: int, x: int, y: int) -> None:
        self._plan.unary(_UNARY[op], n, x, y)

    def binary(self, op: str, n: int, a: int, b: int, y: int) -> None:
        self._plan.binary(_BINARY[op], n, a, b, y)

    def run(self, x: Array, output_shape: tuple[int, ...]) -> Array:
        y = np.empty(output_shape, self.dtype)
        self._plan.run(np.ascontiguousarray(x), y, 0, self.steps)
        return y

    def observe(self, x: Array, output_shape: tuple[int, ...], cuts: Iterable[tuple[int, int, int]]) -> Iterator[Array]:
        """Run from cut to cut (the end of a step, and where it left how many values), and give those values."""
        x, y, first = np.ascontiguousarray(x), np.empty(output_shape, self.dtype), 0
        for end, place, count in cuts:
            self._plan.run(x, y, first, end)
            made = y.reshape(-1) if place == self.OUTPUT else self._plan.arena()[place : place + count]
            yield made.copy()
            first = end


class _Panels:
    """Weights as the micro-kernel reads them, kept as long as the array that they were made of lives.

    A stamp tells that nobody wrote into the array since. Where there is none, because somebody outside lucid has the
    array too, each use compares the fingerprint of the weight's bytes with that of the bytes that were packed.
    """

    def __init__(self) -> None:
        # By id: a weak reference, what they belong to, they.
        self._kept: dict[int, tuple[Any, tuple[Any, ...], Array]] = {}
        self._lock = threading.Lock()

    def of(self, weight: Array, sizes: list[int], stamp: int | None) -> tuple[Array, bool]:
        """The panels of ``weight``, ``(O, C/groups, KH, KW)``, and True; or, of a small one, the weight as stored."""
        stored = weight.transpose(_WEIGHT_STORED)
        if stored.size < _LARGE:
            return np.ascontiguousarray(stored), False
        # The panels depend on these alone. (With a stamp, a weight of another order is copied only to be packed.)
        values = _native.fingerprint(np.ascontiguousarray(stored)) if stamp is None else ("stamp", stamp)
        made_of = (values, _native.isa(), sizes[-1])
        key = id(weight)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0]() is weight and kept[1] == made_of:
                return kept[2], True
        stored = np.ascontiguousarray(stored)
        panels = _empty((_native.packed_weight_size(sizes, stored),), weight.dtype)
        _native.pack_weight(sizes, stored, panels)
        with self._lock:
            self._kept[key] = (weakref.ref(weight, lambda _: self._forget(key)), made_of, panels)
        return panels, True

    def _forget(self, key: int) -> None:
        self._kept.pop(key, None)  # without the lock, which this thread may hold while an array dies


class NativeBackend(FusedBackend):
    """See ``Backend``; ``LUCID_ISA`` chooses the instruction set among those that the processor has."""

    name = "native"
    xp = np

    def __init__(self) -> None:
        self._panels = _Panels()
        chosen = choice("LUCID_ISA", _native.isa_names(), ", which this processor can run")
        if chosen is not None:
            _native.set_isa(chosen)

    def number(self, value: float, dtype: Any) -> Array:
        return np.array(value, dtype)

    # -- elementwise -------------------------------------------------------------------------------------------------

    def unary(self, op: str, x: Array) -> Array:
        if not x.flags.forc and dense_order(x) is None:
            x = np.ascontiguousarray(x)
        y = np.empty_like(x) if x.size < _LARGE else _empty_like(x)
        _native.unary(_UNARY[op], x, y)
        return y

    def binary(self, op: str, a: Array, b: Array) -> Array:
        if _same_layout(a, b) and (a.flags.forc or dense_order(a) is not None):
            y = np.empty_like(a) if a.size < _LARGE else _empty_like(a)
            _native.binary(_BINARY[op], a, b, y)
            return y
        if op in _NUMPY_BINARY:
            with np.errstate(all="ignore"):
                return np.asarray(_NUMPY_BINARY[op](a, b))
        shape = np.broadcast_shapes(a.shape, b.shape)
        y = _empty_like(a) if a.shape == shape and dense_order(a) is not None else np.empty(shape, a.dtype)
        _native.binary(_BINARY[op], self._like(a, y), self._like(b, y), y)
        return y

    @staticmethod
    def _like(x: Array, y: Array) -> Array:
        """``x`` broadcast to the shape, and copied to the memory order, of ``y`` where it has another."""
        if _same_layout(x, y):
            return x
        copy = _empty_like(y)
        copy[...] = x
        return copy

    def power(self, x: Array, exponent: float) -> Array:
        if dense_order(x) is None:
            x = np.ascontiguousarray(x)
        y = _empty_like(x)
        _native.power(x, float(exponent), y)
        return y

    # -- sums --------------------------------------------------------------------------------------------------------

    def reduce(self, op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        order = dense_order(x)
        split = None if order is None else self._one_run(order, axes)
        if order is None or split is None:
            order, split = (*kept, *axes), len(kept)
            x = np.ascontiguousarray(x.transpose(order))
            stored = x.shape
        else:
            stored = tuple(x.shape[axis] for axis in order)
        outer = int(np.prod(stored[:split], dtype=np.int64))
        terms = int(np.prod(stored[split : split + len(axes)], dtype=np.int64))
        inner = int(np.prod(stored[split + len(axes) :], dtype=np.int64))
        remaining = [axis for axis in order if axis not in axes]
        y = np.empty([stored[order.index(axis)] for axis in remaining], x.dtype)
        if y.size:
            with np.errstate(all="ignore"):
                _native.reduce(_REDUCE[op], outer, terms, inner, x, y)
        y = y.transpose([remaining.index(axis) for axis in kept])
        return np.expand_dims(y, axes) if keepdims else y

    @staticmethod
    def _one_run(order: tuple[int, ...], axes: tuple[int, ...]) -> int | None:
        """Where the reduced axes start in ``order``, if they stand there side by side and ascending."""
        if not axes:
            return len(order)
        start = order.index(axes[0])
        return start if order[start : start + len(axes)] == tuple(axes) else None

    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        y = np.zeros(shape, values.dtype)
        at = np.arange(y.size, dtype=np.int64).reshape(shape)[index]
        _native.index_add(np.ascontiguousarray(at), np.ascontiguousarray(np.broadcast_to(values, at.shape)), y)
        return y

    # -- contractions ------------------------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        *_, m, k = a.shape
        n = b.shape[-1]
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        batch = int(np.prod(leading, dtype=np.int64))
        y = np.empty((*leading, m, n), a.dtype)

        def operand(x: Array, rows: int, columns: int) -> tuple[Array, int]:
            if x.size == rows * columns:  # one matrix for the whole batch
                return _matrix(x.reshape(rows, columns)), 0
            return np.ascontiguousarray(np.broadcast_to(x, (*leading, rows, columns))), rows * columns

        if y.size:
            left, left_stride = operand(a, m, k)
            right, right_stride = operand(b, k, n)
            _native.matmul(batch, m, n, k, left, left_stride, right, right_stride, None, y)
        return y

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        m, k = x.shape
        n = weight.shape[0]
        y = np.empty((m, n), x.dtype)
        if y.size:
            _native.matmul(1, m, n, k, _matrix(x), 0, _matrix(weight.T), 0, _dense(bias), y)
        return y

    @staticmethod
    def _conv_sizes(
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        kernel: tuple[int, ...],
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> list[int]:
        n, c, h, w = input_shape
        _, o, oh, ow = output_shape
        return [n, h, w, c, oh, ow, o, *kernel, *stride, *padding, *dilation, groups]

    def conv2d(
        self, x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Array:
        return self.conv2d_add(x, weight, bias, (stride, padding, dilation, groups), None)

    def conv2d_add(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: tuple[Pair, Pair, Pair, int],
        residual: Array | None,
    ) -> Array:
        stored, y, sizes = self._conv_result(x, weight.shape, *geometry)
        weight = np.ascontiguousarray(weight.transpose(_WEIGHT_STORED))
        more = None if residual is None else _images(residual)
        _native.conv(sizes, _images(x), weight, _dense(bias), more, stored)
        return y

    @classmethod
    def _conv_result(
        cls, x: Array, weight: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> tuple[Array, Array, list[int]]:
        """Memory for a convolution's result, the same shaped (N, C, H, W), and all sizes."""
        n, _, h, w = x.shape
        o, _, kh, kw = weight
        oh = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
        ow = (w + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
        stored, y = _new_images((n, o, oh, ow), x.dtype)
        return stored, y, cls._conv_sizes(x.shape, y.shape, (kh, kw), stride, padding, dilation, groups)

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
        return self._conv2d_input_grad(dy, weight, input_shape, (stride, padding, dilation, groups), None)

    def conv2d_input_grad_onto(
        self,
        there: Array,
        dy: Array,
        weight: Array,
        geometry: tuple[Pair, Pair, Pair, int],
    ) -> Array:
        return self._conv2d_input_grad(dy, weight, there.shape, geometry, _images(there))

    def _conv2d_input_grad(
        self,
        dy: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        geometry: tuple[Pair, Pair, Pair, int],
        there: Array | None,
    ) -> Array:
        stored, dx = _new_images(input_shape, dy.dtype)
        sizes = self._conv_sizes(input_shape, dy.shape, weight.shape[2:], *geometry)
        weight = np.ascontiguousarray(weight.transpose(_WEIGHT_STORED))
        _native.conv_input_grad(sizes, _images(dy), weight, there, stored)
        return dx

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
        o, cg, kh, kw = weight_shape
        stored = _empty((kh, kw, cg, o), dy.dtype)
        sizes = self._conv_sizes(x.shape, dy.shape, (kh, kw), stride, padding, dilation, groups)
        _native.conv_weight_grad(sizes, _images(dy), _images(x), stored)
        return stored.transpose(_WEIGHT_SHAPED)

    # -- batch normalisation -----------------------------------------------------------------------------------------

    def norm_act_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float, residual: Array | None, relu: bool
    ) -> tuple[Array, Array, Array]:
        images = _images(x)
        rows, channels = _rows(images)
        mean, var = np.empty(channels), np.empty(channels)
        _native.batch_norm_stats(rows, channels, images, mean, var)
        x = images.transpose(_CHANNELS_FIRST)
        return self.norm_act_eval(x, gamma, beta, mean, var, eps, residual, relu), mean, var

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
        images = _images(x)
        y = _empty(images.shape, images.dtype)
        gamma, beta, mean, var = (_dense(a) for a in (gamma, beta, mean, var))
        more = None if residual is None else _images(residual)
        _native.batch_norm_apply(*_rows(images), images, gamma, beta, mean, var, float(eps), more, relu, y)
        return y.transpose(_CHANNELS_FIRST)

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
        stored, y, sizes = self._conv_result(x, weight.shape, *geometry)
        gamma, beta, mean, var = (_dense(a) for a in norm[:4])
        more = None if residual is None else _images(residual)
        panels, packed = self._panels.of(weight, sizes, stamp)
        _native.conv_norm(
            sizes, _images(x), panels, packed, _dense(bias), gamma, beta, mean, var, float(norm[4]), more, relu, stored
        )
        return y

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
        images = _images(x)
        rows, channels = _rows(images)
        dx = _empty(images.shape, images.dtype)
        # Without a ReLU the gradient that arrives is dy itself.
        arrived = _empty(images.shape, images.dtype) if residual and y is not None else None
        gamma, mean, var = (_dense(a) for a in (gamma, mean, var))
        dgamma, dbeta = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
        after = None if y is None else _images(y)
        _native.batch_norm_grad(
            rows,
            channels,
            _images(dy),
            images,
            after,
            gamma,
            mean,
            var,
            float(eps),
            training,
            None if there is None else _images(there),
            dx,
            arrived,
            dgamma,
            dbeta,
        )
        more = None if not residual else dy if arrived is None else arrived.transpose(_CHANNELS_FIRST)
        return dx.transpose(_CHANNELS_FIRST), dgamma, dbeta, more

    # -- pooling -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _pool_sizes(
        shape: tuple[int, ...],
        output: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair = (1, 1),
    ) -> list[int]:
        n, c, h, w = shape
        return [n, h, w, c, *output, *kernel, *stride, *padding, *dilation]

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, output: Pair
    ) -> tuple[Array, Array]:
        n, c, _, _ = x.shape
        stored, y = _new_images((n, c, *output), x.dtype)
        index, index_shaped = _new_images((n, c, *output), index_dtype(x.shape))
        _native.max_pool(
            self._pool_sizes(x.shape, output, kernel, stride, padding, dilation), _images(x), stored, index
        )
        return y, index_shaped

    def max_pool2d_grad(self, dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array:
        stored, dx = _new_images(input_shape, dy.dtype)
        sizes = self._pool_sizes(input_shape, dy.shape[2:], (1, 1), (1, 1), (0, 0))
        chosen = _images(index).astype(index_dtype(input_shape), copy=False)
        _native.max_pool_grad(sizes, _images(dy), chosen, stored)
        return dx

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool, output: Pair
    ) -> Array:
        stored, y = _new_images((*x.shape[:2], *output), x.dtype)
        sizes = self._pool_sizes(x.shape, output, kernel, stride, padding)
        _native.avg_pool(sizes, count_include_pad, False, _images(x), stored)
        return y

    def avg_pool2d_grad(
        self,
        dy: Array,
        input_shape: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        count_include_pad: bool,
    ) -> Array:
        stored, dx = _new_images(input_shape, dy.dtype)
        sizes = self._pool_sizes(input_shape, dy.shape[2:], kernel, stride, padding)
        _native.avg_pool_grad(sizes, count_include_pad, False, _images(dy), stored)
        return dx

    def adaptive_avg_pool2d(self, x: Array, output: Pair) -> Array:
        stored, y = _new_images((*x.shape[:2], *output), x.dtype)
        _native.avg_pool(self._pool_sizes(x.shape, output, (1, 1), (1, 1), (0, 0)), False, True, _images(x), stored)
        return y

    def adaptive_avg_pool2d_grad(self, dy: Array, input_shape: tuple[int, ...]) -> Array:
        stored, dx = _new_images(input_shape, dy.dtype)
        sizes = self._pool_sizes(input_shape, dy.shape[2:], (1, 1), (1, 1), (0, 0))
        _native.avg_pool_grad(sizes, False, True, _images(dy), stored)
        return dx

    # -- softmax and loss --------------------------------------------------------------------------------------------

    def log_softmax(self, x: Array, axis: int) -> Array:
        rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        y = _empty_like(rows)
        if y.size:
            _native.log_softmax(rows.size // rows.shape[-1], rows.shape[-1], rows, y)
        return np.moveaxis(y, -1, axis)

    def log_softmax_grad(self, dy: Array, y: Array, axis: int) -> Array:
        dy_rows, y_rows = (np.ascontiguousarray(np.moveaxis(a, axis, -1)) for a in (dy, y))
        dx = _empty_like(y_rows)
        if dx.size:
            _native.log_softmax_grad(dx.size // dx.shape[-1], dx.shape[-1], dy_rows, y_rows, dx)
        return np.moveaxis(dx, -1, axis)

    def nll_loss(
        self, logp: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str
    ) -> tuple[Array, Array]:
        rows, classes = logp.shape
        loss = np.empty((rows,) if reduction == "none" else (), logp.dtype)
        weight_sum = np.empty(())
        arguments = np.ascontiguousarray(logp), np.ascontiguousarray(target, np.int64), _dense(weight)
        _native.nll_loss(rows, classes, *arguments, ignore_index, _REDUCTION[reduction], loss, weight_sum)
        return loss, weight_sum

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
        dlogp = np.empty((target.shape[0], classes), dloss.dtype)
        arguments = np.ascontiguousarray(dloss), np.ascontiguousarray(target, np.int64), _dense(weight)
        _native.nll_loss_grad(
            target.shape[0], classes, *arguments, ignore_index, _REDUCTION[reduction], float(weight_sum), dlogp
        )
        return dlogp

    # -- optimiser ---------------------------------------------------------------------------------------------------

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
        scalars = float(lr), float(momentum), float(dampening), float(weight_decay), nesterov, maximize
        if dense_order(param) is None or (velocity is not None and not _same_layout(velocity, param)):
            p = np.ascontiguousarray(param)
            v = None if velocity is None else np.ascontiguousarray(velocity)
            self.sgd_step(
                p, np.ascontiguousarray(grad), v, first, lr, momentum, dampening, weight_decay, nesterov, maximize
            )
            param[...] = p
            if velocity is not None:
                velocity[...] = v
            return
        _native.sgd(param, self._like(grad, param), velocity, first, *scalars)

    # -- random numbers ----------------------------------------------------------------------------------------------

    def philox(self, seed: int, stream: int, block: int, words: int) -> Array:
        y = np.empty(words, np.uint32)
        _native.philox(seed, stream, block, y)
        return y

    def uniform(self, seed: int, stream: int, block: int, n: int, low: float, high: float, dtype: Any) -> Array:
        y = np.empty(n, dtype)
        _native.uniform(seed, stream, block, float(low), float(high), y)
        return y

    def normal(self, seed: int, stream: int, block: int, n: int, mean: float, std: float, dtype: Any) -> Array:
        y = np.empty(n, dtype)
        _native.normal(seed, stream, block, float(mean), float(std), y)
        return y

    # -- inference plans ---------------------------------------------------------------------------------------------

    terms_in_place = _native.SEGMENT  # a longer one keeps its sum so far in the result

    def plan(self, elements: int, dtype: Any) -> NativePlan:
        return NativePlan(elements, dtype)
