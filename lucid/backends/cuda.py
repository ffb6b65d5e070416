"""The CUDA kernels as a backend, on a GPU (``CudaBackend``) or emulated on the CPU (``EmulatedBackend``).

This file decides layouts, allocates results and says how a kernel is launched; ``lucid/kernels/cuda`` computes, run by
one of ``_cuda_run``. Images are stored channels-last, ``(N, H, W, C)`` in memory behind arrays of shape
``(N, C, H, W)``, and convolution weights ``(KH, KW, C, O)`` behind ``(O, C, KH, KW)``: an argument in that order is
used where it lies, any other is copied into it first. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from lucid.backends._cuda_compile import KERNELS
from lucid.backends._cuda_cut import (
    CONTRACTION,
    GROUP,
    NO_EPILOGUE,
    SEGMENT,
    SOURCES,
    TILES,
    Cut,
    Epilogue,
    best_cut,
    ceil_div,
    check_range,
    residue_class,
)
from lucid.backends._cuda_plan import CudaPlan
from lucid.backends._cuda_run import (
    TYPE_NAMES,
    CupyExecutor,
    EmulatedExecutor,
    Executor,
    Launch,
    Size,
    options_for,
    structure,
)
from lucid.backends.base import Array, FusedBackend, Pair, dense_order, index_dtype

_REDUCTION = {name: np.int32(code) for code, name in enumerate(("none", "sum", "mean"))}

THREADS = 256  # of a block, where a kernel does not say otherwise
SMALL_BLOCK = 64  # where threads are few and each has much to do: they spread over more multiprocessors
MOST_BLOCKS = 2**31 - 1  # of a grid's first size
MOST_GRID = 65535  # of its second and third
_GRID = f"{MOST_BLOCKS} by {MOST_GRID} by {MOST_GRID}"
MOST_SIDE = 2**31 - 1  # of an image: the kernels divide 32-bit numbers by it, where they can
BLOCKS_A_MULTIPROCESSOR = 32  # where a thread takes more than one element


_CHANNELS_LAST = (0, 2, 3, 1)
_CHANNELS_FIRST = (0, 3, 1, 2)
_WEIGHT_STORED = (2, 3, 1, 0)
_WEIGHT_SHAPED = (3, 2, 0, 1)


def _same_layout(a: Array, b: Array) -> bool:
    """Whether elements of one index lie at one offset; the stride of an axis of length one does not matter."""
    return a.shape == b.shape and all(
        size == 1 or p == q for size, p, q in zip(a.shape, a.strides, b.strides, strict=True)
    )


def _plane_index(shape: tuple[int, ...]) -> Any:
    """The integers that the kernels keep places of a plane in: 32 bits, which are the quicker ones."""
    dtype = index_dtype(shape)
    if dtype != np.int32:
        raise ValueError(
            f"max_pool2d: got images of {shape[2]}x{shape[3]}; on a GPU a plane may have at most {2**31 - 1} pixels"
        )
    return dtype


@lru_cache(4096)
def _contraction(source: str, fields: tuple[tuple[str, int], ...]) -> Any:
    """``Contraction`` of lucid/kernels/cuda/gemm.cuh; what is not named is 0."""
    check_range(source, dict(fields))
    given = dict(fields)
    values = [given.pop(name, 0) for name in CONTRACTION]
    assert not given
    return structure(values)


@lru_cache(4096)
def _variant(source: str, tile: str, pack_a: bool, pack_b: bool) -> tuple[str, tuple[str, ...]]:
    """An instance of the kernel of lucid/kernels/cuda/gemm.cu: its name, and the defines that make it."""
    name = f"contract_{source}_{tile}_{pack_a:d}_{pack_b:d}"
    return name, (f"LUCID_CONTRACT={name},{source},{tile},{str(pack_a).lower()},{str(pack_b).lower()}",)


def every_module() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The file and the options of all that ``CudaBackend`` may ever ask a compiler for."""
    dtypes: list[Any] = list(TYPE_NAMES)
    for dtype in dtypes:
        for path in sorted(KERNELS.glob("*.cu")):
            yield path.name, options_for(Launch(path.name, "", dtype, (1, 1, 1), 1, ()))
        for source, tile, a, b in product(SOURCES, TILES[dtype.itemsize], (False, True), (False, True)):
            name, defines = _variant(source, tile.name, a, b)
            yield "gemm.cu", options_for(Launch("gemm.cu", name, dtype, (1, 1, 1), 1, (), defines))


class CudaBackend(FusedBackend):
    """See ``Backend``. Kernels run on CuPy's current stream, their memory is CuPy's pool's."""

    name = "cuda"
    asynchronous = True

    def __init__(self) -> None:
        self._executor = self._make_executor()
        self.xp = self._executor.xp

    def _make_executor(self) -> Executor:
        return CupyExecutor()

    def _run(
        self, file: str, kernel: str, dtype: Any, grid: Size, *arguments: Any, block: int = THREADS, defines: Any = ()
    ) -> None:
        if grid[0] > MOST_BLOCKS or max(grid[1:]) > MOST_GRID:
            raise ValueError(f"{kernel}: so large a problem takes a grid of {grid} blocks; a GPU takes at most {_GRID}")
        self._executor.run(Launch(file, kernel, dtype, grid, block, arguments, defines))

    def _for_each(self, file: str, kernel: str, y: Array, *arguments: Any) -> None:
        """Launch a kernel that has a thread for every element of ``y``, if there are any."""
        if y.size:
            self._run(file, kernel, y.dtype, self._blocks(y.size), *arguments)

    def _blocks(self, threads: int) -> tuple[int, int, int]:
        """A grid for kernels whose threads take one element after the other."""
        return max(1, min(ceil_div(threads, THREADS), BLOCKS_A_MULTIPROCESSOR * self._executor.multiprocessors)), 1, 1

    def _dense(self, x: Array | None, dtype: Any = None) -> Array | None:
        """``x``, where there is one, without gaps in row-major order."""
        return None if x is None else self.xp.ascontiguousarray(x, dtype)

    def _like(self, x: Array, y: Array) -> Array:
        """``x`` broadcast to the shape, and copied to the memory order, of ``y`` where it has another."""
        if _same_layout(x, y):
            return x
        copy = self.xp.empty_like(y)
        copy[...] = x
        return copy

    # -- elementwise -------------------------------------------------------------------------------------------------

    def full(self, shape: tuple[int, ...], value: float, dtype: Any) -> Array:
        if np.dtype(dtype) not in TYPE_NAMES:
            return super().full(shape, value, dtype)
        y = self.xp.empty(shape, dtype)
        self._for_each("elementwise.cu", "fill", y, y.size, float(value), y)
        return y

    def compare(self, op: str, a: Array, b: Array) -> Array:
        if a.dtype not in TYPE_NAMES or a.dtype != b.dtype:
            return super().compare(op, a, b)
        a, b = self._broadcast(a, b)
        y = self.xp.empty_like(a, np.bool_)
        if y.size:
            self._run("elementwise.cu", op, a.dtype, self._blocks(y.size), y.size, a, b, y)
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
        if dense_order(x) is None:
            x = self.xp.ascontiguousarray(x)
        y = self.xp.empty_like(x, wanted)
        if y.size:
            self._run("elementwise.cu", "convert", x.dtype, self._blocks(y.size), y.size, x, y)
        return y

    def unary(self, op: str, x: Array) -> Array:
        if dense_order(x) is None:
            x = self.xp.ascontiguousarray(x)
        y = self.xp.empty_like(x)
        self._unary_to(op, x, y)
        return y

    def _unary_to(self, op: str, x: Array, y: Array) -> None:
        self._for_each("elementwise.cu", f"unary_{op}", y, y.size, x, y)

    def binary(self, op: str, a: Array, b: Array) -> Array:
        a, b = self._broadcast(a, b)
        y = self.xp.empty_like(a)
        self._binary_to(op, a, b, y)
        return y

    def _broadcast(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Both in their common shape, dense and in one memory order."""
        if a.shape == b.shape:
            if _same_layout(a, b) and dense_order(a) is not None:
                return a, b
            shape = a.shape
        else:
            shape = np.broadcast_shapes(a.shape, b.shape)
        full = next((x for x in (a, b) if x.shape == shape and dense_order(x) is not None), None)
        like = self.xp.empty(shape, a.dtype) if full is None else full
        return self._like(a, like), self._like(b, like)

    def _binary_to(self, op: str, a: Array, b: Array, y: Array) -> None:
        self._for_each("elementwise.cu", f"binary_{op}", y, y.size, a, b, y)

    def power(self, x: Array, exponent: float) -> Array:
        if exponent == 0.5:
            return self.unary("sqrt", x)
        if dense_order(x) is None:
            x = self.xp.ascontiguousarray(x)
        y, exponent = self.xp.empty_like(x), float(exponent)
        real = not (abs(exponent) < 2**30 and exponent.is_integer())
        whole = 0 if real else int(exponent)
        self._for_each("elementwise.cu", "power", y, x.size, x, real, exponent, whole, y)
        return y

    def running_update(self, running: Array, statistic: Array, factor: float, momentum: float) -> None:
        r = self._dense(running)
        given = running.size, float(factor), float(momentum), self._dense(statistic), r
        self._for_each("elementwise.cu", "running_update", running, *given)
        if r is not running:
            running[...] = r

    # -- sums --------------------------------------------------------------------------------------------------------

    def _terms(self, x: Array, axes: tuple[int, ...]) -> tuple[Array, tuple[int, int, int], tuple[int, ...]]:
        """``x`` so that in memory it is (outer, terms, inner), those sizes, and the order of its axes there."""
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        order = dense_order(x)
        start = None if order is None or not axes else order.index(axes[0])
        if order is not None and not axes:
            split = len(order)
        elif order is not None and start is not None and order[start : start + len(axes)] == tuple(axes):
            split = start
        else:
            order, split = (*kept, *axes), len(kept)
            x = self.xp.ascontiguousarray(x.transpose(order))
            stored: tuple[int, ...] = x.shape
            return x, self._sizes(stored, split, len(axes)), order
        return x, self._sizes(tuple(x.shape[axis] for axis in order), split, len(axes)), order

    @staticmethod
    def _sizes(stored: tuple[int, ...], split: int, reduced: int) -> tuple[int, int, int]:
        return prod(stored[:split]), prod(stored[split : split + reduced]), prod(stored[split + reduced :])

    def _kept(
        self, y: Array, shape: tuple[int, ...], axes: tuple[int, ...], order: tuple[int, ...], keepdims: bool
    ) -> Array:
        """``y``, made of the memory that ``_terms`` described, as the result of a reduction."""
        remaining = [axis for axis in order if axis not in axes]
        y = y.reshape(tuple(shape[axis] for axis in remaining))
        if remaining != sorted(remaining):
            y = y.transpose(tuple(remaining.index(axis) for axis in sorted(remaining)))
        return self.xp.expand_dims(y, axes) if keepdims else y

    def reduce(self, op: str, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        shape = x.shape
        x, (outer, terms, inner), order = self._terms(x, axes)
        y = self.xp.empty(outer * inner, x.dtype)
        if op in ("max", "min"):
            self._for_each("reduce.cu", "extremes", y, op == "max", outer, terms, inner, x, y, None)
        elif y.size:
            self._sum(x, outer, terms, inner, op == "mean", y)
        return self._kept(y, shape, axes, order, keepdims)

    def _sum(self, x: Array, outer: int, terms: int, inner: int, mean: bool, y: Array) -> None:
        count = ceil_div(terms, SEGMENT)
        parts = self.xp.empty(outer * count * inner, np.float64)
        if inner == 1 and count:
            grid = self._blocks(ceil_div(outer * count, 32) * THREADS)
            self._run("reduce.cu", "segment_sums_of_rows", x.dtype, grid, outer, terms, x, parts)
        elif count:
            self._run("reduce.cu", "segment_sums", x.dtype, self._blocks(parts.size), outer, terms, inner, x, parts)
        if count > GROUP:
            groups = self.xp.empty(outer * ceil_div(count, GROUP) * inner, np.float64)
            grid = self._blocks(groups.size)
            self._run("reduce.cu", "combine_parts", x.dtype, grid, outer, count, inner, GROUP, parts, groups)
            count, parts = ceil_div(count, GROUP), groups
        self._for_each("reduce.cu", "finish_parts", y, outer, count, inner, mean, float(terms), parts, y)

    def arg_extreme(self, op: str, x: Array, axis: int | None, keepdims: bool) -> Array:
        shape = x.shape
        axes = tuple(range(x.ndim)) if axis is None else (axis % x.ndim,)
        if axis is None:  # the index counts in row-major order
            x = self.xp.ascontiguousarray(x)
        x, (outer, terms, inner), order = self._terms(x, axes)
        index = self.xp.empty(outer * inner, np.int64)
        if index.size:
            arguments = op == "argmax", outer, terms, inner, x, None, index
            self._run("reduce.cu", "extremes", x.dtype, self._blocks(index.size), *arguments)
        return self._kept(index, shape, axes, order, keepdims)

    def index_add(self, shape: tuple[int, ...], index: Any, values: Array) -> Array:
        xp = self.xp
        y = xp.zeros(shape, values.dtype)
        at = xp.arange(y.size, dtype=np.int64).reshape(shape)[index]
        values = xp.ascontiguousarray(xp.broadcast_to(values, at.shape))
        at = at.reshape(-1)
        order = xp.argsort(at, kind="stable")
        if at.size:
            arguments = at.size, at[order], order.astype(np.int64, copy=False), values, y
            self._run("elementwise.cu", "index_add", y.dtype, self._blocks(at.size), *arguments)
        return y

    # -- contractions ------------------------------------------------------------------------------------------------

    def _contract(
        self,
        source: str,
        a: Array,
        b: Array,
        y: Array,
        packs: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
        epilogue: Epilogue = NO_EPILOGUE,
        **fields: int,
    ) -> None:
        """Launch gemm.cuh. ``packs``: what must be multiples of a pack's length for A, B and C to be read in packs."""
        m, n, k, batch = (fields[name] for name in ("m", "n", "k", "batch"))
        how = self._cut(m, n, k, batch, y.itemsize)
        lanes = 16 // y.itemsize
        pack_a, pack_b, pack_y = (
            self._address(x) % 16 == 0 and all(number % lanes == 0 for number in numbers)
            for x, numbers in zip((a, b, y), packs, strict=True)
        )
        pack_b = pack_b and pack_y and all(self._address(x) % 16 == 0 for x in epilogue[:5] if x is not None)
        if epilogue.residual is not None:
            assert _same_layout(epilogue.residual, y)
        fields.update(chunk=how.chunk, chunks=how.chunks, slots=how.slots)
        contraction = _contraction(source, tuple(fields.items()))  # refuses what would not fit the kernel's numbers
        tile, (name, variant) = how.tile, _variant(source, how.tile.name, pack_a, pack_b)
        slots = self.xp.empty((batch, how.slots, m, n), y.dtype) if how.slots else None
        grid = ceil_div(m, tile.m) * ceil_div(n, tile.n) * how.chunks, 1, min(batch, MOST_GRID)
        after = NO_EPILOGUE if how.slots else epilogue
        self._run(
            "gemm.cu", name, y.dtype, grid, contraction, a, b, y, slots, *after, block=tile.threads, defines=variant
        )
        if slots is not None:
            arguments = contraction, slots, y, *epilogue
            lanes = 8 if k > SEGMENT * GROUP else 1
            self._run("gemm.cu", "combine_chunks", y.dtype, self._blocks(lanes * m * n * batch), *arguments)

    def _cut(self, m: int, n: int, k: int, batch: int, itemsize: int) -> Cut:
        return best_cut(m, n, k, batch, itemsize, self._executor.multiprocessors)

    def _address(self, x: Array) -> int:
        return self._executor.address(x)

    def matmul(self, a: Array, b: Array) -> Array:
        m, n = a.shape[-2], b.shape[-1]
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        y = self.xp.empty((*leading, m, n), a.dtype)
        if y.size:
            self._matmul(self._matrices(a, leading), self._matrices(b, leading), y, NO_EPILOGUE)
        return y

    def _matrices(self, x: Array, leading: tuple[int, ...]) -> tuple[Array, bool, int]:
        """Matrices without gaps, whether they are stored transposed, values from one to the next (0: one for all)."""
        rows, columns = x.shape[-2:]
        if x.size == rows * columns:
            x, step = x.reshape(rows, columns), 0
        else:
            x, step = self.xp.broadcast_to(x, (*leading, rows, columns)), rows * columns
        if x.swapaxes(-1, -2).flags.c_contiguous and not x.flags.c_contiguous:
            return x.swapaxes(-1, -2), True, step
        return self.xp.ascontiguousarray(x), False, step

    def _matmul(self, a: tuple[Array, bool, int], b: tuple[Array, bool, int], y: Array, epilogue: Epilogue) -> None:
        (left, a_turned, a_step), (right, b_turned, b_step) = a, b
        m, n = y.shape[-2:]
        k = left.shape[-2 if a_turned else -1]
        a_pitch, b_pitch = left.shape[-1], right.shape[-1]
        self._contract(
            f"MATMUL_{'T' if a_turned else 'N'}{'T' if b_turned else 'N'}",
            left,
            right,
            y,
            ((a_pitch, a_step), (b_pitch, b_step), (n,)),
            epilogue,
            m=m,
            n=n,
            k=k,
            batch=y.size // (m * n),
            a_step=a_step,
            b_step=b_step,
            y_step=m * n,
            taps_h=1,
            taps_w=1,
            depth=k,
            a_pitch=a_pitch,
            b_pitch=b_pitch,
            y_pitch=n,
        )

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = self.xp.empty((x.shape[0], weight.shape[0]), x.dtype)
        if y.size:
            self._matmul(self._matrices(x, ()), self._matrices(weight.T, ()), y, Epilogue(self._dense(bias)))
        return y

    def _images(self, x: Array) -> Array:
        """``x`` of shape (N, C, H, W) as a dense (N, H, W, C) array."""
        return self.xp.ascontiguousarray(x.transpose(_CHANNELS_LAST))

    def _new_images(self, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
        """A new dense (N, H, W, C) array, and the same memory shaped (N, C, H, W)."""
        n, c, h, w = shape
        stored = self.xp.empty((n, h, w, c), dtype)
        return stored, stored.transpose(_CHANNELS_FIRST)

    def conv2d(
        self, x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Array:
        return self._conv2d(x, weight, bias, (stride, padding, dilation, groups))

    def conv2d_add(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: tuple[Pair, Pair, Pair, int],
        residual: Array,
    ) -> Array:
        return self._conv2d(x, weight, bias, geometry, residual=residual)

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
        return self._conv2d(x, weight, bias, geometry, self._coefficients(x.dtype, *norm), residual, relu)

    def _conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: tuple[Pair, Pair, Pair, int],
        norm: tuple[Array | None, ...] = (None, None, None),
        residual: Array | None = None,
        relu: bool = False,
    ) -> Array:
        stride, padding, dilation, _ = geometry
        n, _, h, w = x.shape
        o, _, kh, kw = weight.shape
        oh = (h + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
        ow = (w + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
        stored, y = self._new_images((n, o, oh, ow), x.dtype)
        if y.size:
            weight = self.xp.ascontiguousarray(weight.transpose(_WEIGHT_STORED))
            added = None if residual is None else self._images(residual)
            mean, scale, shift = norm
            epilogue = Epilogue(self._dense(bias), mean, scale, shift, added, relu)
            self._conv(self._images(x), weight, stored, geometry, epilogue)
        return y

    def _conv(
        self, x: Array, weight: Array, y: Array, geometry: tuple[Pair, Pair, Pair, int], epilogue: Epilogue
    ) -> None:
        """Everything as it is stored."""
        stride, padding, dilation, groups = geometry
        _, h, w, c = x.shape
        n, oh, ow, o = y.shape
        kh, kw, cg, _ = weight.shape
        og = o // groups
        self._contract(
            "FORWARD",
            x,
            weight,
            y,
            ((cg, c), (og, o), (og, o)),
            epilogue,
            m=n * oh * ow,
            n=og,
            k=kh * kw * cg,
            batch=groups,
            a_step=cg,
            b_step=og,
            y_step=og,
            rows_h=oh,
            rows_w=ow,
            stride_h=stride[0],
            stride_w=stride[1],
            start_h=-padding[0],
            start_w=-padding[1],
            step_h=dilation[0],
            step_w=dilation[1],
            image_h=h,
            image_w=w,
            image_pitch=c,
            taps_h=kh,
            taps_w=kw,
            depth=cg,
            b_pitch=o,
            y_pitch=o,
        )

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
        return self._input_grad(dy, weight, input_shape, (stride, padding, dilation, groups), NO_EPILOGUE)

    def conv2d_input_grad_onto(
        self,
        there: Array,
        dy: Array,
        weight: Array,
        geometry: tuple[Pair, Pair, Pair, int],
    ) -> Array:
        return self._input_grad(dy, weight, there.shape, geometry, Epilogue(residual=self._images(there)))

    def _input_grad(
        self,
        dy: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        geometry: tuple[Pair, Pair, Pair, int],
        epilogue: Epilogue,
    ) -> Array:
        stored, dx = self._new_images(input_shape, dy.dtype)
        if not dx.size:
            return dx
        stride, padding, dilation, groups = geometry
        images = self._images(dy)
        weight = self.xp.ascontiguousarray(weight.transpose(_WEIGHT_STORED))
        (n, h, w, c), (_, oh, ow, o), (kh, kw, cg, _) = stored.shape, images.shape, weight.shape
        og = o // groups
        # Pixels whose coordinates leave the same remainders by the stride see the same taps: a contraction each.
        for first_h in range(min(stride[0], h)):
            for first_w in range(min(stride[1], w)):
                down = residue_class(first_h, h, stride[0], padding[0], dilation[0], kh)
                across = residue_class(first_w, w, stride[1], padding[1], dilation[1], kw)
                self._contract(
                    "INPUT_GRAD",
                    images,
                    weight,
                    stored,
                    ((og, o), (og, o), (cg, c)),
                    epilogue,
                    m=n * down.pixels * across.pixels,
                    n=cg,
                    k=down.taps * across.taps * og,
                    batch=groups,
                    a_step=og,
                    b_step=og,
                    y_step=cg,
                    rows_h=down.pixels,
                    rows_w=across.pixels,
                    stride_h=1,
                    stride_w=1,
                    start_h=down.offset,
                    start_w=across.offset,
                    step_h=-down.offset_step,
                    step_w=-across.offset_step,
                    image_h=oh,
                    image_w=ow,
                    image_pitch=o,
                    taps_h=down.taps,
                    taps_w=across.taps,
                    depth=og,
                    b_pitch=o,
                    b_start=(down.tap0 * kw + across.tap0) * cg * o,
                    b_tap_h=down.tap_step * kw * cg * o,
                    b_tap_w=across.tap_step * cg * o,
                    y_pitch=c,
                    scattered=int(stride != (1, 1)),
                    out_h=h,
                    out_w=w,
                    first_h=first_h,
                    first_w=first_w,
                    skip_h=stride[0],
                    skip_w=stride[1],
                )
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
        stored = self.xp.empty((kh, kw, cg, o), dy.dtype)
        if stored.size:
            gradient, images = self._images(dy), self._images(x)
            (n, oh, ow, _), (_, h, w, c), og = gradient.shape, images.shape, o // groups
            self._contract(
                "WEIGHT_GRAD",
                images,
                gradient,
                stored,
                ((cg, c), (og, o), (og, o)),
                m=kh * kw * cg,
                n=og,
                k=n * oh * ow,
                batch=groups,
                a_step=cg,
                b_step=og,
                y_step=og,
                rows_h=oh,
                rows_w=ow,
                stride_h=stride[0],
                stride_w=stride[1],
                start_h=-padding[0],
                start_w=-padding[1],
                step_h=dilation[0],
                step_w=dilation[1],
                image_h=h,
                image_w=w,
                image_pitch=c,
                taps_h=kh,
                taps_w=kw,
                depth=cg,
                b_pitch=o,
                y_pitch=o,
            )
        return stored.transpose(_WEIGHT_SHAPED)

    # -- batch normalisation -----------------------------------------------------------------------------------------

    @staticmethod
    def _rows(x: Array) -> tuple[int, int]:
        """Pixels and channels of a stored image batch."""
        return x.shape[0] * x.shape[1] * x.shape[2], x.shape[3]

    def norm_act_train(
        self, x: Array, gamma: Array | None, beta: Array | None, eps: float, residual: Array | None, relu: bool
    ) -> tuple[Array, Array, Array]:
        xp, images = self.xp, self._images(x)
        rows, channels = self._rows(images)
        mean, var = xp.empty(channels, np.float64), xp.empty(channels, np.float64)
        coefficients = tuple(xp.empty((3, channels), x.dtype))
        if channels:
            parts = self._segment_sums("batch_norm_stats", images)
            given = rows, channels, images, parts, self._dense(gamma), self._dense(beta), float(eps)
            grid = self._blocks(channels * 8)
            self._run("norm.cu", "batch_norm_stats_end", x.dtype, grid, *given, mean, var, *coefficients)
        return self._normalize(images, coefficients, residual, relu), mean, var

    def _segment_sums(self, kernel: str, images: Array, *others: Array | None) -> Array:
        """Two float64 sums for each segment of each channel: (2, segments, channels)."""
        rows, channels = self._rows(images)
        segments = ceil_div(rows, SEGMENT)
        parts = self.xp.empty((2, segments, channels), np.float64)
        if parts.size:
            grid = ceil_div(segments * channels, SMALL_BLOCK), 1, 1
            self._run("norm.cu", kernel, images.dtype, grid, rows, channels, images, *others, parts, block=SMALL_BLOCK)
        return parts

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
        coefficients = self._coefficients(x.dtype, gamma, beta, mean, var, eps)
        return self._normalize(self._images(x), coefficients, residual, relu)

    def _coefficients(
        self, dtype: Any, gamma: Array | None, beta: Array | None, mean: Array, var: Array, eps: float
    ) -> tuple[Array, ...]:
        """Mean, scale and shift of stored statistics, in the operand's dtype."""
        channels = mean.size
        coefficients = tuple(self.xp.empty((3, channels), dtype))
        if channels:
            given = channels, *(self._dense(a) for a in (gamma, beta, mean, var)), float(eps)
            self._run("norm.cu", "batch_norm_coefficients", dtype, self._blocks(channels), *given, *coefficients)
        return coefficients

    def _normalize(self, images: Array, coefficients: tuple[Array, ...], residual: Array | None, relu: bool) -> Array:
        y = self.xp.empty_like(images)
        rows = self._rows(images)
        added = None if residual is None else self._images(residual)
        self._normalize_to(images.reshape(rows), coefficients, added, relu, y.reshape(rows))
        return y.transpose(_CHANNELS_FIRST)

    def _normalize_to(
        self, x: Array, coefficients: tuple[Array | None, ...], residual: Array | None, relu: bool, y: Array
    ) -> None:
        if y.size:
            arguments = *x.shape, x, *coefficients, residual, relu, y
            self._run("norm.cu", "normalize", y.dtype, self._blocks(ceil_div(y.size, 4)), *arguments)

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
        xp, images, gradient = self.xp, self._images(x), self._images(dy)
        after, before = (None if a is None else self._images(a) for a in (y, there))
        rows, channels = self._rows(images)
        dx, dgamma, dbeta = xp.empty_like(images), xp.empty(channels, x.dtype), xp.empty(channels, x.dtype)
        masked = xp.empty_like(images) if residual and y is not None else None
        if channels:
            gamma, mean, var = (self._dense(a) for a in (gamma, mean, var))
            parts = self._segment_sums("batch_norm_grad_sums", images, gradient, after, mean)
            coefficients = tuple(xp.empty((4, channels), x.dtype))
            arguments = rows, channels, parts, gamma, mean, var, float(eps), *coefficients, dgamma, dbeta
            self._run("norm.cu", "batch_norm_grad_end", x.dtype, self._blocks(channels * 8), *arguments)
        if dx.size:
            arguments = rows, channels, bool(training), gradient, images, after, before, *coefficients, dx, masked
            self._run("norm.cu", "batch_norm_grad", x.dtype, self._blocks(ceil_div(dx.size, 4)), *arguments)
        dresidual = None if not residual else dy if masked is None else masked.transpose(_CHANNELS_FIRST)
        return dx.transpose(_CHANNELS_FIRST), dgamma, dbeta, dresidual

    # -- pooling -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _pool(
        shape: tuple[int, ...],
        output: tuple[int, ...],
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        include_pad: bool = False,
        adaptive: bool = False,
    ) -> Any:
        """``Pool`` of lucid/kernels/cuda/pool.cu."""
        n, c, h, w = shape
        if max(h, w, *output) > MOST_SIDE:
            raise ValueError(
                f"pooling: images of {h}x{w} to {output[0]}x{output[1]}; a side has at most {MOST_SIDE} pixels on a GPU"
            )
        return structure([n, h, w, c, *output, *kernel, *stride, *padding, *dilation, include_pad, adaptive])

    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, output: Pair
    ) -> tuple[Array, Array]:
        shape = (*x.shape[:2], *output)
        stored, y = self._new_images(shape, x.dtype)
        index, index_shaped = self._new_images(shape, _plane_index(x.shape))
        sizes = self._pool(x.shape, output, kernel, stride, padding, dilation)
        self._for_each("pool.cu", "max_pool", y, sizes, self._images(x), stored, index)
        return y, index_shaped

    def max_pool2d_grad(self, dy: Array, index: Array, input_shape: tuple[int, ...]) -> Array:
        stored, dx = self._new_images(input_shape, dy.dtype)
        if not dx.size:
            return dx
        _, _, h, w = input_shape
        n, _, oh, ow = dy.shape
        sizes = self._pool(input_shape, (oh, ow))
        chosen = self._images(index).astype(_plane_index(input_shape), copy=False)
        ranges = []
        for vertical, windows, positions in ((True, oh, h), (False, ow, w)):
            bounds = self.xp.empty((2, windows), np.int32)
            covering = self.xp.empty((2, positions), np.int32)
            if bounds.size:
                self._run("pool.cu", "no_bounds", dy.dtype, self._blocks(windows), windows, bounds)
            if dy.size:
                grid = self._blocks(n * windows * THREADS)
                self._run("pool.cu", "window_bounds", dy.dtype, grid, sizes, vertical, chosen, bounds)
            grid = self._blocks(positions)
            self._run("pool.cu", "covering_windows", dy.dtype, grid, positions, windows, bounds, covering)
            ranges.append(covering)
        self._for_each("pool.cu", "max_pool_grad", dx, sizes, self._images(dy), chosen, *ranges, stored)
        return dx

    def avg_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool, output: Pair
    ) -> Array:
        sizes = self._pool(x.shape, output, kernel, stride, padding, include_pad=count_include_pad)
        return self._averaged("avg_pool", sizes, x, (*x.shape[:2], *output))

    def avg_pool2d_grad(
        self,
        dy: Array,
        input_shape: tuple[int, ...],
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        count_include_pad: bool,
    ) -> Array:
        sizes = self._pool(input_shape, dy.shape[2:], kernel, stride, padding, include_pad=count_include_pad)
        return self._averaged("avg_pool_grad", sizes, dy, input_shape)

    def adaptive_avg_pool2d(self, x: Array, output: Pair) -> Array:
        return self._averaged("avg_pool", self._pool(x.shape, output, adaptive=True), x, (*x.shape[:2], *output))

    def adaptive_avg_pool2d_grad(self, dy: Array, input_shape: tuple[int, ...]) -> Array:
        sizes = self._pool(input_shape, dy.shape[2:], adaptive=True)
        return self._averaged("avg_pool_grad", sizes, dy, input_shape)

    def _averaged(self, kernel: str, sizes: Any, x: Array, shape: tuple[int, ...]) -> Array:
        stored, y = self._new_images(shape, x.dtype)
        self._for_each("pool.cu", kernel, y, sizes, self._images(x), stored)
        return y

    def _swap_axes(self, x: Array, y: Array) -> None:
        """(n, a, b) to (n, b, a)."""
        n, a, b = x.shape
        tiles = n * ceil_div(a, 32) * ceil_div(b, 32)
        if y.size:
            self._run("pool.cu", "swap_axes", y.dtype, self._blocks(tiles * THREADS), n, a, b, x, y)

    # -- softmax and loss --------------------------------------------------------------------------------------------

    def log_softmax(self, x: Array, axis: int) -> Array:
        return self._by_rows("log_softmax", axis, x)

    def log_softmax_grad(self, dy: Array, y: Array, axis: int) -> Array:
        return self._by_rows("log_softmax_grad", axis, dy, y)

    def _by_rows(self, kernel: str, axis: int, *operands: Array) -> Array:
        rows = [self.xp.ascontiguousarray(self.xp.moveaxis(x, axis, -1)) for x in operands]
        y = self.xp.empty_like(rows[0])
        if y.size:
            count, classes = y.size // y.shape[-1], y.shape[-1]
            self._run("loss.cu", kernel, y.dtype, self._blocks(count * THREADS), count, classes, *rows, y)
        return self.xp.moveaxis(y, -1, axis)

    def nll_loss(
        self, logp: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str
    ) -> tuple[Array, Array]:
        loss = self.xp.empty((logp.shape[0],) if reduction == "none" else (), logp.dtype)
        weight_sum = self.xp.empty((), np.float64)
        given = *logp.shape, self._dense(logp), self._dense(target, np.int64), self._dense(weight)
        arguments = *given, int(ignore_index), _REDUCTION[reduction], loss, weight_sum
        self._run("loss.cu", "nll_loss", logp.dtype, (1, 1, 1), *arguments)
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
        dlogp = self.xp.empty((target.shape[0], classes), dloss.dtype)
        given = *dlogp.shape, self._dense(dloss), self._dense(target, np.int64), self._dense(weight)
        arguments = *given, int(ignore_index), _REDUCTION[reduction], weight_sum, dlogp
        self._for_each("loss.cu", "nll_loss_grad", dlogp, *arguments)
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
        scalars = float(lr), float(momentum), float(dampening), float(weight_decay)
        flags = bool(nesterov), bool(maximize), bool(first)
        p = param if dense_order(param) is not None else self.xp.ascontiguousarray(param)
        v = velocity if velocity is None or _same_layout(velocity, p) else self._like(velocity, p)
        self._for_each("elementwise.cu", "sgd", p, p.size, *scalars, *flags, self._like(grad, p), p, v)
        if p is not param:
            param[...] = p
        if velocity is not None and v is not velocity:
            velocity[...] = v

    # -- random numbers ----------------------------------------------------------------------------------------------

    def philox(self, seed: int, stream: int, block: int, words: int) -> Array:
        y = self.xp.empty(words, np.uint32)
        self._draw("philox", np.dtype(np.float32), seed, stream, block, y)
        return y

    def uniform(self, seed: int, stream: int, block: int, n: int, low: float, high: float, dtype: Any) -> Array:
        y = self.xp.empty(n, dtype)
        self._draw("uniform", y.dtype, seed, stream, block, y, float(low), float(high))
        return y

    def normal(self, seed: int, stream: int, block: int, n: int, mean: float, std: float, dtype: Any) -> Array:
        y = self.xp.empty(n, dtype)
        self._draw("normal", y.dtype, seed, stream, block, y, float(mean), float(std))
        return y

    # -- inference plans ---------------------------------------------------------------------------------------------

    def plan(self, elements: int, dtype: Any) -> CudaPlan:
        return CudaPlan(self, elements, dtype)

    def _draw(self, kernel: str, dtype: Any, seed: int, stream: int, block: int, y: Array, *scalars: float) -> None:
        if y.size:
            key = (np.uint64(number % 2**64) for number in (seed, stream, block))
            self._run("random.cu", kernel, dtype, self._blocks(y.size), *key, y.size, *scalars, y)


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
