"""Contractions on a GPU: the convolution, its gradients and matrix products as problems of ``gemm.cuh``.

Each names the fields of ``Contraction`` that say where its factors and its result lie; what it does not name is 0.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Any

import numpy as np

from lucid.backends._compiled import CompiledBackend, same_layout
from lucid.backends._cuda_cut import (
    GROUP,
    SEGMENT,
    Cut,
    best_cut,
    ceil_div,
    check_range,
    residue_class,
)
from lucid.backends._cuda_source import structure
from lucid.backends.base import NOTHING, Array, Epilogue, Geometry, Pair
from lucid.kernels.contraction.reference import conv_shape
from lucid.kernels.declare import WEIGHT

MOST_GRID = 65535  # of a grid's second and third size
THREADS = 256  # of a block, where a kernel does not say otherwise

Size = tuple[int, int, int]


@lru_cache(4096)
def _contraction(source: str, given: tuple[tuple[str, int], ...]) -> Any:
    """``Contraction`` of lucid/kernels/cuda/gemm.cuh; refuses what would not fit the kernel's numbers."""
    check_range(source, dict(given))
    return structure("Contraction", dict(given))


@lru_cache(4096)
def variant(source: str, tile: str, pack_a: bool, pack_b: bool) -> tuple[str, tuple[str, ...]]:
    """An instance of the kernel of lucid/kernels/cuda/gemm.cu: its name, and the defines that make it."""
    name = f"contract_{source}_{tile}_{pack_a:d}_{pack_b:d}"
    return name, (f"LUCID_CONTRACT={name},{source},{tile},{str(pack_a).lower()},{str(pack_b).lower()}",)


def _window_fields(
    images: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...], geometry: Geometry
) -> dict[str, int]:
    """The fields of ``Contraction`` that a convolution and its weight's gradient share: where a place of the output
    meets the images, with the shapes as they are stored."""
    stride, padding, dilation, groups = geometry
    (_, h, w, c), (kh, kw, cg, o) = images, weight
    return {
        "batch": groups,
        "a_step": cg,
        "b_step": o // groups,
        "y_step": o // groups,
        "rows_h": output[1],
        "rows_w": output[2],
        "stride_h": stride[0],
        "stride_w": stride[1],
        "start_h": -padding[0],
        "start_w": -padding[1],
        "step_h": dilation[0],
        "step_w": dilation[1],
        "image_h": h,
        "image_w": w,
        "image_pitch": c,
        "taps_h": kh,
        "taps_w": kw,
        "depth": cg,
        "b_pitch": o,
        "y_pitch": o,
    }


class CudaContractions(CompiledBackend):
    """The part of ``CudaBackend`` that contracts."""

    _executor: Any

    @abstractmethod
    def call(
        self, kernel: str, dtype: Any, grid: Size, threads: int = THREADS, instance: Any = None, /, **named: Any
    ) -> None:
        """Start ``kernel`` with what it takes by name; ``instance``: as ``variant`` says."""

    @abstractmethod
    def blocks(self, threads: int) -> Size:
        """A grid for kernels whose threads take one element after the other."""

    def _contract(
        self,
        source: str,
        a: Array,
        b: Array,
        y: Array,
        packs: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
        after: dict[str, Any],
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
        pack_b = (
            pack_b
            and pack_y
            and all(self._address(x) % 16 == 0 for name, x in after.items() if name != "relu" and x is not None)
        )
        if after["residual"] is not None:
            assert same_layout(after["residual"], y)
        fields.update(chunk=how.chunk, chunks=how.chunks, slots=how.slots)
        problem = _contraction(source, tuple(fields.items()))
        tile, instance = how.tile, variant(source, how.tile.name, pack_a, pack_b)
        slots = self.empty((batch, how.slots, m, n), y.dtype) if how.slots else None
        grid = ceil_div(m, tile.m) * ceil_div(n, tile.n) * how.chunks, 1, min(batch, MOST_GRID)
        given = {"a": a, "b": b, "y": y, "slots": slots, **(self._after(y.dtype) if how.slots else after)}
        self.call("contract", y.dtype, grid, tile.threads, instance, contraction=problem, **given)
        if slots is not None:
            grid = self.blocks((8 if k > SEGMENT * GROUP else 1) * m * n * batch)
            self.call("combine_chunks", y.dtype, grid, contraction=problem, slots=slots, y=y, **after)

    def _after(self, dtype: Any, bias: Array | None = None, then: Epilogue = NOTHING) -> dict[str, Any]:
        return {"bias": self.dense(bias), **self.after(dtype, then)}

    def _cut(self, m: int, n: int, k: int, batch: int, itemsize: int) -> Cut:
        return best_cut(m, n, k, batch, itemsize, self._executor.multiprocessors)

    def _address(self, x: Array) -> int:
        return self._executor.address(x)

    def matmul(self, a: Array, b: Array) -> Array:
        m, n = a.shape[-2], b.shape[-1]
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        y = self.empty((*leading, m, n), a.dtype)
        if y.size:
            self._matmul(self._matrices(a, leading), self._matrices(b, leading), y)
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

    def _matmul(
        self, a: tuple[Array, bool, int], b: tuple[Array, bool, int], y: Array, bias: Array | None = None
    ) -> None:
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
            self._after(y.dtype, bias),
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
        y = self.empty((x.shape[0], weight.shape[0]), x.dtype)
        if y.size:
            self._matmul(self._matrices(x, ()), self._matrices(weight.T, ()), y, bias)
        return y

    def conv2d(
        self, x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Array:
        return self._conv2d(x, weight, bias, (stride, padding, dilation, groups), NOTHING)

    def conv2d_add(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        residual: Array,
    ) -> Array:
        return self._conv2d(x, weight, bias, geometry, Epilogue(residual=residual))

    def conv2d_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        then: Epilogue,
        stamp: int | None = None,
    ) -> Array:
        return self._conv2d(x, weight, bias, geometry, then)

    def _conv2d(self, x: Array, weight: Array, bias: Array | None, geometry: Geometry, then: Epilogue) -> Array:
        stored, y = self.new_images(conv_shape(x.shape, weight.shape, *geometry), x.dtype)
        if y.size:
            images, taps = self.images(x), self.weight(weight)
            (n, oh, ow, o), (kh, kw, cg, _), c = stored.shape, taps.shape, images.shape[3]
            og = o // geometry[3]
            self._contract(
                "FORWARD",
                images,
                taps,
                stored,
                ((cg, c), (og, o), (og, o)),
                self._after(x.dtype, bias, then),
                m=n * oh * ow,
                n=og,
                k=kh * kw * cg,
                **_window_fields(images.shape, taps.shape, stored.shape, geometry),
            )
        return y

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
        return self._input_grad(dy, weight, input_shape, (stride, padding, dilation, groups), NOTHING)

    def conv2d_input_grad_onto(
        self,
        accumulate_into: Array,
        dy: Array,
        weight: Array,
        geometry: Geometry,
    ) -> Array:
        then = Epilogue(residual=accumulate_into)
        return self._input_grad(dy, weight, accumulate_into.shape, geometry, then)

    def _input_grad(
        self,
        dy: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        geometry: Geometry,
        then: Epilogue,
    ) -> Array:
        stored, dx = self.new_images(input_shape, dy.dtype)
        if not dx.size:
            return dx
        stride, padding, dilation, groups = geometry
        images = self.images(dy)
        weight, after = self.weight(weight), self._after(dy.dtype, None, then)
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
                    after,
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
        stored = self.empty((kh, kw, cg, o), dy.dtype)
        if stored.size:
            gradient, images = self.images(dy), self.images(x)
            (n, oh, ow, _), c, og = gradient.shape, images.shape[3], o // groups
            self._contract(
                "WEIGHT_GRAD",
                images,
                gradient,
                stored,
                ((cg, c), (og, o), (og, o)),
                self._after(dy.dtype),
                m=kh * kw * cg,
                n=og,
                k=n * oh * ow,
                **_window_fields(images.shape, stored.shape, gradient.shape, (stride, padding, dilation, groups)),
            )
        return stored.transpose(WEIGHT.restored)
