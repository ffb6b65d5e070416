"""The C++ kernels as a backend: ``lucid/kernels/kernels.def`` says what each takes, ``_compiled.py`` how arrays lie.

What is written here are the launches that a declaration does not say: those on the shortest way, and those that
fuse several operations, choose among kernels, or work in place.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from lucid.backends._compiled import CompiledBackend, as_images, axis_to_last, launched, rows_of, same_layout
from lucid.backends._settings import choice, extension
from lucid.backends.base import Array, Epilogue, Geometry, Norm, Sides, dense_order, index_dtype
from lucid.kernels.contraction.reference import conv_problem, conv_shape
from lucid.kernels.declare import IMAGES, WEIGHT, Structure, bind
from lucid.kernels.index.reference import along, places, taken_shape
from lucid.kernels.pool.reference import pool_problem
from lucid.kernels.sort.reference import stable_order

try:
    _native: Any = extension()
except ImportError as error:
    raise ImportError(f"its compiled extension did not load ({error})") from error

# One correctly rounded operation: NumPy's is the same, and walks broadcast operands without copying them.
_NUMPY_BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}

_LARGE = 1 << 14  # elements from which an array is worth memory of the extension's store


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
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
    y = empty(tuple([x.shape[axis] for axis in order]), x.dtype)
    return y.transpose([order.index(axis) for axis in range(x.ndim)])


@functools.lru_cache(maxsize=4096)
def walk_over(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    a_shape: tuple[int, ...],
    a_strides: tuple[int, ...],
    b_shape: tuple[int, ...],
    b_strides: tuple[int, ...],
    itemsize: int,
) -> dict[str, int] | None:
    """How ``binary_over`` goes over a dense result of ``shape`` and its operands; None where it takes more than three
    loops, or an operand has gaps along the last."""
    ndim = len(shape)

    def moved(own: tuple[int, ...], steps: tuple[int, ...]) -> list[int]:
        lead = ndim - len(own)
        return [0] * lead + [0 if size == 1 else step // itemsize for size, step in zip(own, steps, strict=True)]

    operands = moved(a_shape, a_strides), moved(b_shape, b_strides)
    loops: list[list[int]] = []  # size, step of a, step of b; the innermost last
    for axis in sorted(range(ndim), key=lambda axis: -strides[axis]):
        size, steps = shape[axis], [steps[axis] for steps in operands]
        if size == 1:
            continue
        if loops and all(before == step * size for before, step in zip(loops[-1][1:], steps, strict=True)):
            loops[-1] = [loops[-1][0] * size, *steps]
        else:
            loops.append([size, *steps])
    steps = [step for loop in loops for step in loop[1:]]
    if len(loops) > 3 or min(steps, default=0) < 0 or max(loops[-1][1:] if loops else [0]) > 1:
        return None
    loops = [[1, 0, 0]] * (3 - len(loops)) + loops
    sides = ("outer", "middle", "inner")
    walk = {side: loop[0] for side, loop in zip(sides, loops, strict=True)}
    for place, name in ((1, "a"), (2, "b")):
        walk |= {f"{name}_{side}": loop[place] for side, loop in zip(sides, loops, strict=True)}
    return walk


def _packed(problem: Structure, make: Callable[..., bytes]) -> bytes:
    """The structure in C++ of a problem."""
    packed = problem.packed.get("native")
    if packed is None:
        packed = problem.packed["native"] = make(**problem)
    return packed


def _conv(*shapes_and_geometry: Any) -> bytes:
    return _packed(conv_problem(*shapes_and_geometry), _native.Conv)


@lru_cache(1024)
def _convolution(
    x: tuple[int, ...], weight: tuple[int, ...], geometry: Geometry
) -> tuple[tuple[int, ...], tuple[int, ...], bytes]:
    """The stored shape of a convolution's result, the way back from its layout, and the problem."""
    y = conv_shape(x, weight, *geometry)
    return (y[0], *y[2:], y[1]), IMAGES.restored[len(y)], _conv(x, y, weight, *geometry)


def _pool(*sizes: Any) -> bytes:
    return _packed(pool_problem(*sizes), _native.Pool)


def _matrix(x: Array) -> Array:
    """A matrix without gaps in row-major order."""
    if x.size < _LARGE or x.flags.c_contiguous or not x.flags.f_contiguous:
        return np.ascontiguousarray(x)
    rows, columns = x.shape
    matrix = empty((rows, columns), x.dtype)
    _native.swap_axes(n=1, rows=columns, columns=rows, x=x.T, y=matrix)
    return matrix


class _Panels:
    """Weights as the micro-kernel reads them, kept as long as the array that they were made of lives.

    A stamp tells that nobody wrote into the array since. Where there is none, because somebody outside lucid has the
    array too, each use compares the fingerprint of the weight's bytes with that of the bytes that were packed.
    """

    def __init__(self) -> None:
        # By id: a weak reference, what they belong to, they.
        self._kept: dict[int, tuple[Any, tuple[Any, ...], Array]] = {}
        self._lock = threading.Lock()

    def of(self, weight: Array, conv: bytes, groups: int, stamp: int | None) -> tuple[Array, bool]:
        """The panels of ``weight``, ``(O, C/groups, *kernel)``, and True; or, of a small one, the weight as stored."""
        stored = weight.transpose(WEIGHT.order[weight.ndim])
        if stored.size < _LARGE:
            return np.ascontiguousarray(stored), False
        # The panels depend on these alone. (With a stamp, a weight of another order is copied only to be packed.)
        values = _native.fingerprint(np.ascontiguousarray(stored)) if stamp is None else ("stamp", stamp)
        made_of = (values, _native.isa(), groups)
        key = id(weight)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0]() is weight and kept[1] == made_of:
                return kept[2], True
        stored = np.ascontiguousarray(stored)
        panels = empty((_native.packed_weight_size(conv=conv, weight=stored),), weight.dtype)
        _native.pack_weight(conv=conv, weight=stored, packed=panels)
        with self._lock:
            self._kept[key] = (weakref.ref(weight, lambda _: self._forget(key)), made_of, panels)
        return panels, True

    def _forget(self, key: int) -> None:
        self._kept.pop(key, None)  # without the lock, which this thread may hold while an array dies


class NativeBackend(CompiledBackend):
    """See ``Backend``; ``LUCID_ISA`` chooses the instruction set among those that the processor has."""

    name = "native"
    xp = np
    empty = staticmethod(empty)

    def __init__(self) -> None:
        self.panels = _Panels().of
        chosen = choice("LUCID_ISA", _native.isa_names(), ", which this processor can run")
        if chosen is not None:
            _native.set_isa(chosen)

    def number(self, value: float, dtype: Any) -> Array:
        return np.array(value, dtype)

    def launch(self, kernel: str, y: Array, tasks: str, named: dict[str, Any]) -> None:
        if y.size or tasks in ("nothing", "host"):
            getattr(_native, kernel)(named)

    def launch_rule(self, rule: str, param: Array, named: dict[str, Any]) -> None:
        _native.update(rule=rule, **named)

    def packed(self, named: dict[str, Any]) -> dict[str, Any]:
        make = {"conv": _native.Conv, "pool": _native.Pool}
        return {name: _packed(value, make[name]) if name in make else value for name, value in named.items()}

    def images(self, x: Array) -> Array:
        images = x.transpose(IMAGES.order[x.ndim])
        if images.flags.c_contiguous:
            return images
        if x.size < _LARGE or not x.flags.c_contiguous:
            return np.ascontiguousarray(images)
        n, c, *sides = x.shape
        images = empty((n, *sides, c), x.dtype)
        _native.swap_axes(n=n, rows=c, columns=prod(sides), x=x, y=images)
        return images

    def dense(self, x: Array | None, dtype: Any = None) -> Array | None:
        return None if x is None else np.ascontiguousarray(x, dtype)

    def like(self, x: Array, y: Array) -> Array:
        if same_layout(x, y):
            return x
        copy = _empty_like(y)
        copy[...] = x
        return copy

    # -- elementwise -------------------------------------------------------------------------------------------------

    def unary(self, op: str, x: Array) -> Array:
        if not x.flags.forc and dense_order(x) is None:
            x = np.ascontiguousarray(x)
        y = np.empty_like(x) if x.size < _LARGE else _empty_like(x)
        _native.unary(op=op, n=x.size, x=x, y=y)
        return y

    def binary(self, op: str, a: Array, b: Array) -> Array:
        if same_layout(a, b) and (a.flags.forc or dense_order(a) is not None):
            y = np.empty_like(a) if a.size < _LARGE else _empty_like(a)
            _native.binary(op=op, n=a.size, a=a, b=b, y=y)
            return y
        if op in _NUMPY_BINARY:
            with np.errstate(all="ignore"):
                return np.asarray(_NUMPY_BINARY[op](a, b))
        return self._binary_over(op, a, b)

    def _binary_over(self, op: str, a: Array, b: Array) -> Array:
        """Of operands that are broadcast; the result lies as the operand of its shape does."""
        shape = np.broadcast_shapes(a.shape, b.shape)
        like = next((x for x in (a, b) if x.shape == shape and dense_order(x) is not None), None)
        y = np.empty(shape, a.dtype) if like is None else _empty_like(like)
        if not y.size:
            return y
        walk = walk_over(y.shape, y.strides, a.shape, a.strides, b.shape, b.strides, y.itemsize)
        if walk is None:
            _native.binary(op=op, n=y.size, a=self.like(a, y), b=self.like(b, y), y=y)
        else:
            _native.binary_over(op=op, a=a, b=b, y=y, **walk)
        return y

    def power(self, x: Array, exponent: float) -> Array:
        x = self.without_gaps(x)
        y = _empty_like(x)
        _native.power(n=x.size, x=x, exponent=exponent, y=y)
        return y

    # -- sums --------------------------------------------------------------------------------------------------------

    def reduce(self, op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        shape = x.shape
        x, (outer, terms, inner), order = self.terms(x, axes)
        y = np.empty(outer * inner, x.dtype)
        if y.size:
            _native.reduce(op=op, outer=outer, terms=terms, inner=inner, x=x, y=y)
        return self.kept(y, shape, axes, order, keepdims)

    # -- order and places along an axis ------------------------------------------------------------------------------

    def argsort(self, x: Array, axis: int, descending: bool) -> Array:
        if x.dtype.kind != "f":
            return stable_order(np, x, axis, descending)
        order, restored = axis_to_last(x.ndim, axis)
        rows = np.ascontiguousarray(x if order is None else x.transpose(order))
        index, terms = np.empty(rows.shape, np.int64), rows.shape[-1]
        if index.size:
            _native.argsort(rows=rows.size // terms, terms=terms, descending=descending, x=rows, index=index)
        return index if restored is None else index.transpose(restored)

    def topk(self, x: Array, k: int, axis: int, largest: bool) -> Array:
        order, restored = axis_to_last(x.ndim, axis)
        rows = np.ascontiguousarray(x if order is None else x.transpose(order))
        if x.dtype.kind != "f":
            index = np.ascontiguousarray(stable_order(np, rows, -1, largest)[..., :k])
        else:
            index, terms = np.empty((*rows.shape[:-1], k), np.int64), rows.shape[-1]
            if index.size:
                _native.topk(rows=rows.size // terms, terms=terms, k=k, largest=largest, x=rows, index=index)
        return index if restored is None else index.transpose(restored)

    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        y = np.zeros(shape, values.dtype)
        first, *rest = index if isinstance(index, tuple) and index else (index,)
        if type(first) is np.ndarray and first.dtype.kind in "iu" and all(i is ... for i in rest):  # slices of a table
            slices = np.ascontiguousarray(first, np.int64).reshape(-1)
            slices = slices if not slices.size or slices.min() >= 0 else np.where(slices < 0, slices + shape[0], slices)
            values = np.ascontiguousarray(np.broadcast_to(values, (*first.shape, *shape[1:])))
            self._at_places(_native.scatter_add, y, 0, slices, values)
            return y
        at = np.arange(y.size, dtype=np.int64).reshape(shape)[index]
        values = np.ascontiguousarray(np.broadcast_to(values, at.shape))
        _native.index_add(n=values.size, index=np.ascontiguousarray(at), values=values, y=y)
        return y

    def gather(self, x: Array, axis: int, index: Array) -> Array:
        if x.dtype not in (np.float32, np.float64):
            return np.take(x, index, axis) if index.ndim == 1 else np.take_along_axis(x, index, axis)
        y = empty(taken_shape(x, axis, index), x.dtype)
        if y.size:
            x, index = np.ascontiguousarray(x), np.ascontiguousarray(index)
            _native.gather(**along(x, axis, index), x=x, index=index, y=y)
        return y

    def scatter(self, x: Array, axis: int, index: Array, values: Array) -> Array:
        y = x.copy("C")
        if x.dtype in (np.float32, np.float64):
            self._at_places(_native.scatter, y, axis, index, values)
        else:
            y.reshape(-1)[places(np, x, axis, index)] = values.reshape(-1)
        return y

    def scatter_add(self, x: Array, axis: int, index: Array, values: Array) -> Array:
        y = x.copy("C")
        if x.dtype in (np.float32, np.float64):
            self._at_places(_native.scatter_add, y, axis, index, values)
        else:
            np.add.at(y.reshape(-1), places(np, x, axis, index), values.reshape(-1))
        return y

    def _at_places(self, run: Callable[..., Any], y: Array, axis: int, index: Array, values: Array) -> None:
        if index.size and y.size:
            index, values = np.ascontiguousarray(index), np.ascontiguousarray(values)
            run(**along(y, axis, index), index=index, values=values, y=y)

    # -- contractions ------------------------------------------------------------------------------------------------

    def matmul(self, a: Array, b: Array) -> Array:
        *_, m, k = a.shape
        n = b.shape[-1]
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        y = np.empty((*leading, m, n), a.dtype)

        def operand(x: Array, rows: int, columns: int) -> tuple[Array, int]:
            if x.size == rows * columns:  # one matrix for the whole batch
                return _matrix(x.reshape(rows, columns)), 0
            return np.ascontiguousarray(np.broadcast_to(x, (*leading, rows, columns))), rows * columns

        if y.size:
            (a, a_stride), (b, b_stride) = operand(a, m, k), operand(b, k, n)
            _native.matmul(batch=prod(leading), m=m, n=n, k=k, a=a, a_stride=a_stride, b=b, b_stride=b_stride, y=y)
        return y

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        (m, k), n = x.shape, weight.shape[0]
        y = np.empty((m, n), x.dtype)
        if y.size:
            a, b = _matrix(x), _matrix(weight.T)
            _native.matmul(batch=1, m=m, n=n, k=k, a=a, a_stride=0, b=b, b_stride=0, bias=self.dense(bias), y=y)
        return y

    def conv2d(
        self, x: Array, weight: Array, bias: Array | None, stride: Sides, padding: Sides, dilation: Sides, groups: int
    ) -> Array:
        return self.conv2d_add(x, weight, bias, (stride, padding, dilation, groups), None)

    def conv2d_add(
        self, x: Array, weight: Array, bias: Array | None, geometry: Geometry, residual: Array | None
    ) -> Array:
        shape, restored, conv = _convolution(x.shape, weight.shape, geometry)
        y = empty(shape, x.dtype)
        _native.conv(
            conv=conv,
            x=self.images(x),
            weight=self.weight(weight),
            packed=False,
            bias=self.dense(bias),
            residual=self.images_or_none(residual),
            y=y,
        )
        return y.transpose(restored)

    def conv2d_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        then: Epilogue,
        stamp: int | None = None,
    ) -> Array:
        shape, restored, conv = _convolution(x.shape, weight.shape, geometry)
        y = empty(shape, x.dtype)
        panels, packed = self.panels(weight, conv, geometry[3], stamp)
        norm, residual, relu = then  # as ``after`` does, at half the cost
        mean, scale, shift = (None, None, None) if norm is None else self.coefficients(x.dtype, norm)
        _native.conv(
            conv=conv,
            x=self.images(x),
            weight=panels,
            packed=packed,
            bias=self.dense(bias),
            mean=mean,
            scale=scale,
            shift=shift,
            residual=self.images_or_none(residual),
            relu=relu,
            y=y,
        )
        return y.transpose(restored)

    def conv2d_input_grad_onto(self, accumulate_into: Array, dy: Array, weight: Array, geometry: Geometry) -> Array:
        stored, dx = self.new_images(accumulate_into.shape, dy.dtype)
        conv, before = _conv(dx.shape, dy.shape, weight.shape, *geometry), self.images(accumulate_into)
        _native.conv_input_grad(
            conv=conv, dy=self.images(dy), weight=self.weight(weight), accumulate_into=before, dx=stored
        )
        return dx

    # -- batch normalisation -----------------------------------------------------------------------------------------

    def norm_act_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float, residual: Array | None, relu: bool
    ) -> tuple[Array, Array, Array]:
        images = self.images(x)
        rows, channels = rows_of(images)
        mean, var = np.empty(channels), np.empty(channels)
        _native.batch_norm_stats(rows=rows, channels=channels, x=images, mean=mean, var=var)
        return self.norm_act_eval(as_images(images), Norm(gamma, beta, mean, var, eps), residual, relu), mean, var

    def norm_act_eval(self, x: Array, norm: Norm, residual: Array | None, relu: bool) -> Array:
        gamma, beta, mean, var, eps = norm
        images = self.images(x)
        y = empty(images.shape, images.dtype)
        rows, channels = rows_of(images)
        _native.batch_norm_apply(
            rows=rows,
            channels=channels,
            x=images,
            gamma=self.dense(gamma),
            beta=self.dense(beta),
            mean=self.dense(mean),
            var=self.dense(var),
            eps=eps,
            residual=self.images_or_none(residual),
            relu=relu,
            y=y,
        )
        return as_images(y)

    def coefficients(self, dtype: Any, norm: Norm) -> Array:
        gamma, beta, mean, var, eps = norm
        m, k, shift = made = np.empty((3, mean.size), dtype)
        _native.batch_norm_coefficients(
            channels=mean.size,
            gamma=self.dense(gamma),
            beta=self.dense(beta),
            mean=self.dense(mean),
            var=self.dense(var),
            eps=eps,
            m=m,
            k=k,
            shift=shift,
        )
        return made

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
        gamma, _, mean, var, eps = norm
        images = self.images(x)
        rows, channels = rows_of(images)
        dx = empty(images.shape, images.dtype)
        # Without a ReLU the gradient that comes through it is dy itself.
        masked = empty(images.shape, images.dtype) if residual and y is not None else None
        dgamma, dbeta = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
        _native.batch_norm_grad(
            rows=rows,
            channels=channels,
            dy=self.images(dy),
            x=images,
            y=self.images_or_none(y),
            gamma=self.dense(gamma),
            mean=self.dense(mean),
            var=self.dense(var),
            eps=eps,
            training=training,
            accumulate_into=self.images_or_none(accumulate_into),
            dx=dx,
            masked=masked,
            dgamma=dgamma,
            dbeta=dbeta,
        )
        dresidual = None if not residual else dy if masked is None else as_images(masked)
        return as_images(dx), dgamma, dbeta, dresidual

    # -- layer normalisation -----------------------------------------------------------------------------------------

    def standardize(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float, centre: bool
    ) -> tuple[Array, Array | None, Array]:
        x, y = np.ascontiguousarray(x), empty(x.shape, x.dtype)
        mean, root = np.empty((len(x), 1), x.dtype) if centre else None, np.empty((len(x), 1), x.dtype)
        sizes = {"rows": x.shape[0], "width": x.shape[1], "eps": eps}
        weight, bias = self.dense(weight), self.dense(bias)
        _native.standardize(**sizes, x=x, weight=weight, bias=bias, mean=mean, root=root, y=y)
        return y, mean, root

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
        width = x.shape[1]
        dx = empty(x.shape, x.dtype) if needs[0] else None
        dweight, dbias = [np.empty(width, x.dtype) if need else None for need in needs[1:]]
        _native.standardize_grad(
            rows=x.shape[0],
            width=width,
            dy=np.ascontiguousarray(dy),
            x=np.ascontiguousarray(x),
            weight=self.dense(weight),
            mean=mean,
            root=root,
            accumulate_into=self.dense(accumulate_into),
            dx=dx,
            dweight=dweight,
            dbias=dbias,
        )
        return dx, dweight, dbias

    # -- attention ---------------------------------------------------------------------------------------------------

    def attention(self, q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool) -> Array:
        leading, named = self._attention(q, k, v, mask, scale, causal)
        y = empty((*leading, named["queries"], named["out"]), q.dtype)
        if y.size:
            _native.attention(**named, y=y)
        return y

    def attention_grad(
        self, dy: Array, q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool
    ) -> tuple[Array, Array, Array]:
        leading, named = self._attention(q, k, v, mask, scale, causal)
        *_, keys, width = k.shape
        dq = empty((*leading, q.shape[-2], width), q.dtype)
        dk, dv = empty((*leading, keys, width), q.dtype), empty((*leading, keys, v.shape[-1]), q.dtype)
        if prod(leading):
            dy = np.ascontiguousarray(np.broadcast_to(dy, (*leading, *dy.shape[-2:])))
            _native.attention_grad(**named, dy=dy, dq=dq, dk=dk, dv=dv)
        return dq, dk, dv

    def _attention(
        self, q: Array, k: Array, v: Array, mask: Array | None, scale: float, causal: bool
    ) -> tuple[tuple[int, ...], dict[str, Any]]:
        """The leading axes of the result, and the operands by the names that kernels have for them."""
        (*_, queries, width), (*_, keys, out) = q.shape, v.shape
        masks = () if mask is None else mask.shape[:-2]
        leading = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2], masks)
        named = {
            "batch": prod(leading),
            "queries": queries,
            "keys": keys,
            "width": width,
            "out": out,
            "q": np.ascontiguousarray(np.broadcast_to(q, (*leading, queries, width))),
            "k": np.ascontiguousarray(k),
            "key_places": self.places_of(k, leading),
            "v": np.ascontiguousarray(v),
            "value_places": self.places_of(v, leading),
            "scale": scale,
            "causal": causal,
        }
        return leading, named | self.masked(mask, leading, queries, keys)

    # -- pooling -----------------------------------------------------------------------------------------------------

    def max_pool2d(
        self, x: Array, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides, output: Sides
    ) -> tuple[Array, Array]:
        return self._max_pool(x, output, _pool(x.shape, output, kernel, stride, padding, dilation))

    def adaptive_max_pool2d(self, x: Array, output: Sides) -> tuple[Array, Array]:
        return self._max_pool(x, output, _packed(pool_problem(x.shape, output, adaptive=True), _native.Pool))

    def _max_pool(self, x: Array, output: Sides, pool: bytes) -> tuple[Array, Array]:
        shape, width = (*x.shape[:2], *output), index_dtype(x.shape)
        (stored, y), (places, index) = self.new_images(shape, x.dtype), self.new_images(shape, width)
        run = _native.max_pool if width == np.int32 else _native.max_pool_wide
        run(pool=pool, x=self.images(x), y=stored, index=places)
        return y, index

    def max_pool2d_grad(self, dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array:
        (stored, dx), width = self.new_images(input_shape, dy.dtype), index_dtype(input_shape)
        places = self.images(index).astype(width, copy=False)
        run = _native.max_pool_grad if width == np.int32 else _native.max_pool_grad_wide
        run(pool=_pool(input_shape, dy.shape[2:]), dy=self.images(dy), index=places, dx=stored)
        return dx

    # -- inference plans ---------------------------------------------------------------------------------------------

    terms_in_place = _native.SEGMENT  # a longer one keeps its sum so far in the result
    plans = "lucid.backends._native_plan", "NativePlan"


bind(NativeBackend, launched)
