"""The CUDA kernels as a backend, on a GPU (``CudaBackend``) or emulated on the CPU (``EmulatedBackend``).

This file says how kernels are launched where their declarations do not; ``_compiled.py`` how arrays lie,
``_cuda_contraction.py`` how contractions are put; ``lucid/kernels/cuda`` computes, run by one of ``_cuda_run``. Nothing
here waits for the device but the kernels that the host runs (``Kernel.tasks``): their arguments are copied there, and
their results back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from lucid.backends._compiled import as_images, launched, rows_of, same_layout
from lucid.backends._cuda_compile import KERNELS
from lucid.backends._cuda_contraction import MOST_GRID, THREADS, CudaContractions, Size, variant
from lucid.backends._cuda_cut import GROUP, SEGMENT, SOURCES, TILES, ceil_div
from lucid.backends._cuda_run import TYPE_NAMES, CupyExecutor, EmulatedExecutor, Executor, Launch, options_for
from lucid.backends._cuda_source import in_order
from lucid.backends.base import Array, Backend, Norm, Sides, dense_order, index_dtype
from lucid.kernels.declare import Kernel, Structure, bind
from lucid.kernels.index.reference import places
from lucid.kernels.pool.reference import pool_problem
from lucid.kernels.scan.reference import along_axis
from lucid.kernels.sort.reference import stable_order

try:
    from lucid.backends.native import NativeBackend as Host
except ImportError:  # the extension is missing
    from lucid.backends.reference import ReferenceBackend as Host  # type: ignore[assignment]

SMALL_BLOCK = 64  # where threads are few and each has much to do: they spread over more multiprocessors
MOST_BLOCKS = 2**31 - 1  # of a grid's first size
_GRID = f"{MOST_BLOCKS} by {MOST_GRID} by {MOST_GRID}"
MOST_SIDE = 2**31 - 1  # of an image: the kernels divide 32-bit numbers by it, where they can
BLOCKS_A_MULTIPROCESSOR = 32  # where a thread takes more than one element


def _plane_index(shape: tuple[int, ...]) -> Any:
    """The integers that the kernels keep places of a plane in: 32 bits, which are the quicker ones."""
    dtype = index_dtype(shape)
    if dtype != np.int32:
        raise ValueError(
            f"max_pool{len(shape) - 2}d: got images of {'x'.join(map(str, shape[2:]))}; on a GPU a plane may have at "
            f"most {2**31 - 1} pixels"
        )
    return dtype


def _rows(images: Array) -> dict[str, int]:
    """Pixels and channels of a stored image batch, by name."""
    return dict(zip(("rows", "channels"), rows_of(images), strict=True))


def every_module() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The file and the options of all that ``CudaBackend`` may ever ask a compiler for."""
    dtypes: list[Any] = list(TYPE_NAMES)
    for dtype in dtypes:
        for file in KERNELS:
            yield file, options_for(Launch(file, "", dtype, (1, 1, 1), 1, ()))
        for source, tile, a, b in product(SOURCES, TILES[dtype.itemsize], (False, True), (False, True)):
            name, defines = variant(source, tile.name, a, b)
            yield "contraction.cu", options_for(Launch("contraction.cu", name, dtype, (1, 1, 1), 1, (), defines))


class CudaBackend(CudaContractions):
    """See ``Backend``. Kernels run on CuPy's current stream, their memory is CuPy's pool's."""

    name = "cuda"
    asynchronous = True
    plans = "lucid.backends._cuda_plan", "CudaPlan"

    def __init__(self) -> None:
        self._executor = self._make_executor()
        self.xp = self._executor.xp

    def _make_executor(self) -> Executor:
        return CupyExecutor()

    # -- machinery ---------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.xp.empty(shape, dtype)

    def _run(
        self,
        file: str,
        kernel: str,
        dtype: Any,
        grid: Size,
        *arguments: Any,
        block: int = THREADS,
        defines: tuple[str, ...] = (),
        declared: str = "",
    ) -> None:
        if grid[0] > MOST_BLOCKS or max(grid[1:]) > MOST_GRID:
            raise ValueError(f"{kernel}: so large a problem takes a grid of {grid} blocks; a GPU takes at most {_GRID}")
        self._executor.run(Launch(file, kernel, dtype, grid, block, arguments, defines, declared))

    def call(
        self, kernel: str, dtype: Any, grid: Size, threads: int = THREADS, instance: Any = None, /, **named: Any
    ) -> None:
        file, arguments = in_order(kernel, named)
        name, defines = instance or (kernel, ())
        self._run(file, name, dtype, grid, *arguments, block=threads, defines=defines, declared=kernel)

    def each(self, kernel: str, y: Array, instance: Any = None, /, **named: Any) -> None:
        """Start a kernel that has a thread for every element of ``y``, if there are any."""
        if y.size:
            self.call(kernel, y.dtype, self.blocks(y.size), THREADS, instance, **named)

    def launch(self, kernel: str, y: Array, tasks: str, named: dict[str, Any]) -> None:
        if "pool" in named:
            self._check_sides(named["pool"])
            if max(named["pool"][name] for name in ("d", "od", "kd")) > 1:
                kernel += "_deep"  # two sides are spared the registers of a third
        dtype = y.dtype if y.dtype in TYPE_NAMES else np.dtype(np.float32)
        if tasks == "nothing":
            self.call(kernel, dtype, (1, 1, 1), **named)
        elif y.size:
            self.call(kernel, dtype, self.blocks(named["rows"] * THREADS if tasks == "rows" else y.size), **named)

    def launch_rule(self, rule: str, param: Array, named: dict[str, Any]) -> None:
        self.each("update", param, (f"update_{rule}", ()), **named)

    def blocks(self, threads: int) -> Size:
        return max(1, min(ceil_div(threads, THREADS), BLOCKS_A_MULTIPROCESSOR * self._executor.multiprocessors)), 1, 1

    # -- elementwise -------------------------------------------------------------------------------------------------

    def full(self, shape: tuple[int, ...], value: float, dtype: Any) -> Array:
        if np.dtype(dtype) not in TYPE_NAMES:
            return super().full(shape, value, dtype)
        y = self.xp.empty(shape, dtype)
        self.each("fill", y, n=y.size, value=value, y=y)
        return y

    def compare(self, op: str, a: Array, b: Array) -> Array:
        if a.dtype not in TYPE_NAMES or a.dtype != b.dtype:
            return super().compare(op, a, b)
        a, b = self._broadcast(a, b)
        y = self.xp.empty_like(a, np.bool_)
        if y.size:
            self.call("compare", a.dtype, self.blocks(y.size), THREADS, (f"compare_{op}", ()), n=y.size, a=a, b=b, y=y)
        return y

    def sign(self, x: Array) -> Array:
        return self.unary("sign", x) if x.dtype in TYPE_NAMES else super().sign(x)

    def convert(self, x: Array, dtype: Any) -> Array:
        wanted = np.dtype(dtype)
        if x.dtype not in TYPE_NAMES or x.dtype == wanted:
            return super().convert(x, wanted)
        if wanted == np.bool_:
            return self.compare("not_equal", x, self.number(0.0, x.dtype))
        if wanted not in TYPE_NAMES:
            return super().convert(x, wanted)
        x = self.without_gaps(x)
        y = self.xp.empty_like(x, wanted)
        if y.size:
            self.call("convert", x.dtype, self.blocks(y.size), n=y.size, x=x, y=y)
        return y

    def unary(self, op: str, x: Array) -> Array:
        x = self.without_gaps(x)
        y = self.xp.empty_like(x)
        self._unary_to(op, x, y)
        return y

    def _unary_to(self, op: str, x: Array, y: Array) -> None:
        self.each("unary", y, (f"unary_{op}", ()), n=y.size, x=x, y=y)

    def binary(self, op: str, a: Array, b: Array) -> Array:
        a, b = self._broadcast(a, b)
        y = self.xp.empty_like(a)
        self._binary_to(op, a, b, y)
        return y

    def _broadcast(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Both in their common shape, dense and in one memory order."""
        if a.shape == b.shape:
            if same_layout(a, b) and dense_order(a) is not None:
                return a, b
            shape = a.shape
        else:
            shape = np.broadcast_shapes(a.shape, b.shape)
        full = next((x for x in (a, b) if x.shape == shape and dense_order(x) is not None), None)
        like = self.xp.empty(shape, a.dtype) if full is None else full
        return self.like(a, like), self.like(b, like)

    def _binary_to(self, op: str, a: Array, b: Array, y: Array) -> None:
        self.each("binary", y, (f"binary_{op}", ()), n=y.size, a=a, b=b, y=y)

    def power(self, x: Array, exponent: float) -> Array:
        x = self.without_gaps(x)
        y = self.xp.empty_like(x)
        self.each("power", y, n=x.size, x=x, exponent=float(exponent), y=y)
        return y

    def running_update(self, running: Array, statistic: Array, factor: float, momentum: float) -> None:
        r = self.xp.ascontiguousarray(running)
        self.each(
            "running_update",
            r,
            n=r.size,
            factor=factor,
            momentum=momentum,
            statistic=self.xp.ascontiguousarray(statistic),
            running=r,
        )
        if r is not running:
            running[...] = r

    # -- sums --------------------------------------------------------------------------------------------------------

    def reduce(self, op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        shape = x.shape
        x, (outer, terms, inner), order = self.terms(x, axes)
        y = self.empty((outer * inner,), x.dtype)
        if op in ("max", "min"):
            self.each("extremes", y, max=op == "max", outer=outer, terms=terms, inner=inner, x=x, y=y, index=None)
        elif y.size:
            self._sum(x, outer, terms, inner, op == "mean", y)
        return self.kept(y, shape, axes, order, keepdims)

    def _sum(self, x: Array, outer: int, terms: int, inner: int, mean: bool, y: Array) -> None:
        count = ceil_div(terms, SEGMENT)
        parts = self.empty((outer * count * inner,), np.float64)
        if inner == 1 and count:
            grid = self.blocks(ceil_div(outer * count, 32) * THREADS)
            self.call("segment_sums_of_rows", x.dtype, grid, outer=outer, terms=terms, x=x, to=parts)
        elif count:
            grid = self.blocks(parts.size)
            self.call("segment_sums", x.dtype, grid, outer=outer, terms=terms, inner=inner, x=x, to=parts)
        if count > GROUP:
            sizes = {"outer": outer, "count": count, "inner": inner}
            groups = self.empty((outer * ceil_div(count, GROUP) * inner,), np.float64)
            self.call("combine_parts", x.dtype, self.blocks(groups.size), **sizes, size=GROUP, parts=parts, to=groups)
            count, parts = ceil_div(count, GROUP), groups
        self.each("finish_parts", y, outer=outer, count=count, inner=inner, mean=mean, divisor=terms, parts=parts, y=y)

    def arg_extreme(self, op: str, x: Array, axis: int | None, keepdims: bool) -> Array:
        shape = x.shape
        if x.dtype not in TYPE_NAMES:  # dense, so that places are counted in row-major order
            return super().arg_extreme(op, self.xp.ascontiguousarray(x).reshape(shape), axis, keepdims)
        if not shape:
            return self.xp.zeros((), np.int64)
        axes = tuple(range(x.ndim)) if axis is None else (axis % x.ndim,)
        if axis is None:  # the index counts in row-major order
            x = self.xp.ascontiguousarray(x)
        x, (outer, terms, inner), order = self.terms(x, axes)
        index = self.empty((outer * inner,), np.int64)
        if index.size:
            grid = self.blocks(index.size)
            self.call(
                "extremes",
                x.dtype,
                grid,
                max=op == "argmax",
                outer=outer,
                terms=terms,
                inner=inner,
                x=x,
                y=None,
                index=index,
            )
        return self.kept(index, shape, axes, order, keepdims)

    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        xp = self.xp
        y = xp.zeros(shape, values.dtype)
        at = xp.arange(y.size, dtype=np.int64).reshape(shape)[index]
        values = xp.ascontiguousarray(xp.broadcast_to(values, at.shape))
        self._add_in_order(y, at.reshape(-1), values)
        return y

    # -- order and places along an axis ------------------------------------------------------------------------------

    def argsort(self, x: Array, axis: int, descending: bool) -> Array:
        return stable_order(self.xp, self._order_key(x) if x.dtype in TYPE_NAMES else x, axis, descending)

    def topk(self, x: Array, k: int, axis: int, largest: bool) -> Array:
        order = self.argsort(x, axis, largest)
        return self.xp.ascontiguousarray(order[(slice(None),) * (axis % x.ndim) + (slice(k),)])

    def _order_key(self, x: Array) -> Array:
        """Integers in the order of floats: zeros of both signs are equal, and so are NaN, above all numbers."""
        kind = np.dtype(f"i{x.dtype.itemsize}")
        bits = self.xp.ascontiguousarray(x).view(kind)
        magnitude = kind.type(np.iinfo(kind).max)
        key = self.xp.where(bits < 0, -(bits & magnitude), bits)
        infinity = kind.type(np.array(np.inf, x.dtype).view(kind))
        return self.xp.where((bits & magnitude) > infinity, magnitude, key)

    def cumprod_grad(self, dy: Array, x: Array, axis: int) -> Array:
        dx, after = self.empty(x.shape, x.dtype), self.empty(x.shape, np.float64)
        sizes = along_axis(x, axis)
        self.each("cumprod_slopes", dx, **sizes, dy=self.dense(dy), x=self.dense(x), after=after, dx=dx)
        return dx

    def gather(self, x: Array, axis: int, index: Array) -> Array:
        take = self.xp.take if index.ndim == 1 else self.xp.take_along_axis
        return take(x, index, axis)

    def scatter(self, x: Array, axis: int, index: Array, values: Array) -> Array:
        xp, y = self.xp, self.xp.ascontiguousarray(x).copy()
        at = places(xp, x, axis, index)
        order = xp.argsort(at, kind="stable")
        at, values = at[order], values.reshape(-1)[order]
        y.reshape(-1)[at] = values[xp.searchsorted(at, at, side="right") - 1]  # all that go to one place are the last
        return y

    def scatter_add(self, x: Array, axis: int, index: Array, values: Array) -> Array:
        y = self.xp.ascontiguousarray(x).copy()
        at = places(self.xp, x, axis, index)
        if x.dtype in TYPE_NAMES:
            self._add_in_order(y, at, self.xp.ascontiguousarray(values))
        else:
            self.xp.add.at(y.reshape(-1), at, values.reshape(-1))
        return y

    def _add_in_order(self, y: Array, at: Array, values: Array) -> None:
        """Add ``values`` to the elements of ``y`` whose places in memory are ``at``."""
        order = self.xp.argsort(at, kind="stable")
        if at.size:
            order = order.astype(np.int64, copy=False)
            grid = self.blocks(at.size)
            self.call("index_add", y.dtype, grid, n=at.size, place=at[order], order=order, values=values, y=y)

    # -- batch normalisation -----------------------------------------------------------------------------------------

    def norm_act_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float, residual: Array | None, relu: bool
    ) -> tuple[Array, Array, Array]:
        images = self.images(x)
        channels = images.shape[-1]
        mean, var = self.empty((channels,), np.float64), self.empty((channels,), np.float64)
        m, k, shift = coefficients = tuple(self.empty((3, channels), x.dtype))
        if channels:
            self.call(
                "batch_norm_stats_end",
                x.dtype,
                self.blocks(channels * 8),
                **_rows(images),
                x=images,
                parts=self._segment_sums("batch_norm_stats", images),
                gamma=self.dense(gamma),
                beta=self.dense(beta),
                eps=eps,
                mean=mean,
                var=var,
                m=m,
                k=k,
                shift=shift,
            )
        return self._normalize(images, coefficients, residual, relu), mean, var

    def _segment_sums(self, kernel: str, images: Array, **others: Array | None) -> Array:
        """Two float64 sums for each segment of each channel: (2, segments, channels)."""
        sizes = _rows(images)
        parts = self.empty((2, ceil_div(sizes["rows"], SEGMENT), sizes["channels"]), np.float64)
        if parts.size:
            grid = ceil_div(parts.size // 2, SMALL_BLOCK), 1, 1
            self.call(kernel, images.dtype, grid, SMALL_BLOCK, **sizes, x=images, **others, parts=parts)
        return parts

    def norm_act_eval(self, x: Array, norm: Norm, residual: Array | None, relu: bool) -> Array:
        return self._normalize(self.images(x), self.coefficients(x.dtype, norm), residual, relu)

    def coefficients(self, dtype: Any, norm: Norm) -> tuple[Array, ...]:
        m, k, shift = made = tuple(self.empty((3, norm.mean.size), dtype))
        if norm.mean.size:
            self.call(
                "batch_norm_coefficients",
                dtype,
                self.blocks(norm.mean.size),
                channels=norm.mean.size,
                gamma=self.dense(norm.gamma),
                beta=self.dense(norm.beta),
                mean=self.dense(norm.mean),
                var=self.dense(norm.var),
                eps=norm.eps,
                m=m,
                k=k,
                shift=shift,
            )
        return made

    def _normalize(self, images: Array, coefficients: tuple[Array, ...], residual: Array | None, relu: bool) -> Array:
        y = self.xp.empty_like(images)
        if y.size:
            (m, k, shift), residual = coefficients, self.images_or_none(residual)
            given = {"x": images, "m": m, "k": k, "shift": shift, "residual": residual, "relu": relu, "y": y}
            self.call("normalize", y.dtype, self.blocks(ceil_div(y.size, 4)), **_rows(images), **given)
        return as_images(y)

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
        images, gradient, after = self.images(x), self.images(dy), self.images_or_none(y)
        sizes, channels = _rows(images), images.shape[-1]
        dx = self.xp.empty_like(images)
        dgamma, dbeta = self.empty((channels,), x.dtype), self.empty((channels,), x.dtype)
        masked = self.xp.empty_like(images) if residual and y is not None else None
        if channels:
            statistics = {"gamma": self.dense(norm.gamma), "mean": self.dense(norm.mean), "var": self.dense(norm.var)}
            parts = self._segment_sums("batch_norm_grad_sums", images, dy=gradient, y=after, mean=statistics["mean"])
            terms = dict(zip(("m", "k", "b", "e"), self.empty((4, channels), x.dtype), strict=True))
            made = {**terms, "dgamma": dgamma, "dbeta": dbeta}
            grid = self.blocks(channels * 8)
            self.call("batch_norm_grad_end", x.dtype, grid, **sizes, parts=parts, **statistics, eps=norm.eps, **made)
        if dx.size:
            self.call(
                "batch_norm_grad",
                x.dtype,
                self.blocks(ceil_div(dx.size, 4)),
                **sizes,
                training=training,
                dy=gradient,
                x=images,
                y=after,
                accumulate_into=self.images_or_none(accumulate_into),
                **terms,
                dx=dx,
                dresidual=masked,
            )
        dresidual = None if not residual else dy if masked is None else as_images(masked)
        return as_images(dx), dgamma, dbeta, dresidual

    # -- pooling -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _check_sides(pool: dict[str, int]) -> None:
        sizes, outputs = ([pool[name.format(side)] for side in "dhw"] for name in ("{}", "o{}"))
        if max(*sizes, *outputs) > MOST_SIDE:
            before, after = ("x".join(map(str, three)) for three in (sizes, outputs))
            raise ValueError(f"pooling: images of {before} to {after}; a side has at most {MOST_SIDE} pixels on a GPU")

    def max_pool2d(
        self, x: Array, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides, output: Sides
    ) -> tuple[Array, Array]:
        return self._max_pool(x, output, pool_problem(x.shape, output, kernel, stride, padding, dilation))

    def adaptive_max_pool2d(self, x: Array, output: Sides) -> tuple[Array, Array]:
        return self._max_pool(x, output, pool_problem(x.shape, output, adaptive=True))

    def _max_pool(self, x: Array, output: Sides, pool: Structure) -> tuple[Array, Array]:
        shape = (*x.shape[:2], *output)
        stored, y = self.new_images(shape, x.dtype)
        places, index = self.new_images(shape, _plane_index(x.shape))
        self.launch("max_pool", y, "elements", {"pool": pool, "x": self.images(x), "y": stored, "index": places})
        return y, index

    def max_pool2d_grad(self, dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array:
        stored, dx = self.new_images(input_shape, dy.dtype)
        if not dx.size:
            return dx
        pool = pool_problem(input_shape, dy.shape[2:])
        gradient, places = self.images(dy), self.images(index).astype(_plane_index(input_shape), copy=False)
        ranges = {}
        windows, sizes = ([pool[name.format(side)] for side in "dhw"] for name in ("o{}", "{}"))
        for side, name in enumerate(("deep", "down", "across")):
            if side > 0 or max(windows[0], sizes[0]) > 1:
                after, pitch = prod(windows[side + 1 :]) * pool["c"], prod(sizes[side + 1 :])
                along = {"before": prod(windows[:side]), "after": after, "pitch": pitch}
                along |= {"n": pool["n"], "windows": windows[side], "positions": sizes[side]}
                ranges[name] = self._covering_windows(dy.dtype, places, **along)
        given = {"pool": pool, "dy": gradient, "index": places, **ranges, "dx": stored}
        self.launch("max_pool_grad", dx, "elements", given)
        return dx

    def _covering_windows(self, dtype: Any, index: Array, **along: int) -> Array:
        """Of one side, the first and the last window that may have chosen each position."""
        positions, windows = along["positions"], along["windows"]
        bounds, ranges = self.empty((2, windows), np.int32), self.empty((2, positions), np.int32)
        if bounds.size:
            self.call("no_bounds", dtype, self.blocks(windows), windows=windows, bounds=bounds)
        if index.size:
            grid = self.blocks(along["n"] * windows * THREADS)
            self.call("window_bounds", dtype, grid, **along, index=index, bounds=bounds)
        side = {"positions": positions, "windows": windows}
        self.call("covering_windows", dtype, self.blocks(positions), **side, bounds=bounds, ranges=ranges)
        return ranges

    def _swap_axes(self, x: Array, y: Array) -> None:
        """(n, a, b) to (n, b, a)."""
        n, a, b = x.shape
        if y.size:
            grid = self.blocks(n * ceil_div(a, 32) * ceil_div(b, 32) * THREADS)
            self.call("swap_axes", y.dtype, grid, n=n, channels=a, pixels=b, x=x, y=y)


@cache
def _host() -> Backend:
    return Host()


def _method(k: Kernel) -> Callable[..., Any]:
    if k.tasks != "host":
        return launched(k)

    def on_host(self: CudaBackend, *arguments: Any) -> Any:
        xp = self.xp
        from_device = getattr(xp, "asnumpy", np.asarray)
        given = [from_device(x) if isinstance(x, xp.ndarray) else x for x in arguments]
        made = getattr(_host(), k.name)(*given)
        return tuple([xp.asarray(y) for y in made]) if isinstance(made, tuple) else xp.asarray(made)

    return on_host


bind(CudaBackend, _method)


class EmulatedBackend(CudaBackend):
    """The same kernels and the same launches, run on the CPU one thread after the other: slow, and the same bits."""

    name = "emulated"
    asynchronous = False

    def _make_executor(self) -> Executor:
        return EmulatedExecutor()

    # NumPy's operators turn arrays without axes into scalars, which are no memory that a kernel could be given.

    def unary(self, op: str, x: Array) -> Array:
        return super().unary(op, np.asarray(x))

    def binary(self, op: str, a: Array, b: Array) -> Array:
        return super().binary(op, np.asarray(a), np.asarray(b))
