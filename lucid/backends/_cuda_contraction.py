"""Contractions on a GPU: the convolution, its gradients and matrix products as problems of ``gemm.cuh``.

Each names the fields of ``Contraction`` that say where its factors and its result lie; what it does not name is 0.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from lucid.backends._compiled import CompiledBackend, same_layout
from lucid.backends._cuda_cut import (
    GROUP,
    SEGMENT,
    Axis,
    Cut,
    best_cut,
    ceil_div,
    check_range,
    residue_class,
)
from lucid.backends._cuda_source import structure
from lucid.backends.base import NOTHING, Array, Epilogue, Geometry, Sides
from lucid.kernels.contraction.reference import conv_shape
from lucid.kernels.declare import WEIGHT
from lucid.kernels.windows import by_side

MOST_GRID = 65535  # of a grid's second and third size
THREADS = 256  # of a block, where a kernel does not say otherwise

Size = tuple[int, int, int]


@lru_cache(4096)
def _contraction(source: str, given: tuple[tuple[str, int], ...]) -> Any:
    """``Contraction`` of lucid/kernels/contraction/gemm.cuh; refuses what would not fit the kernel's numbers."""
    check_range(source, dict(given))
    return structure("Contraction", dict(given))


@lru_cache(4096)
def variant(source: str, tile: str, pack_a: bool, pack_b: bool) -> tuple[str, tuple[str, ...]]:
    """An instance of the kernel of lucid/kernels/contraction/contraction.cu: its name, and the defines that make it."""
    name = f"contract_{source}_{tile}_{pack_a:d}_{pack_b:d}"
    return name, (f"LUCID_CONTRACT={name},{source},{tile},{str(pack_a).lower()},{str(pack_b).lower()}",)


def _source(name: str, geometry: Geometry) -> str:
    """The kernel for windows of so many sides."""
    return f"{name}_DEEP" if len(geometry[0]) == 3 else name


def _image_fields(sizes: Sides, pitch: int, step: Sides) -> dict[str, int]:
    """The fields of ``Contraction`` of an image, and of the way from tap to tap in it."""
    plane = step[0] * prod(sizes[1:]) * pitch if len(sizes) == 3 else 0
    return {**by_side("step_{}", step), **by_side("image_{}", sizes), "image_pitch": pitch, "a_tap_d": plane}


def _window_fields(
    images: tuple[int, ...], weight: tuple[int, ...], output: tuple[int, ...], geometry: Geometry
) -> dict[str, int]:
    """The fields of ``Contraction`` that a convolution and its weight's gradient share: where a place of the output
    meets the images, with the shapes as they are stored."""
    stride, padding, dilation, groups = geometry
    (_, *sizes, c), (*kernel, cg, o), (_, *outputs, _) = images, weight, output
    return {
        "batch": groups,
        "a_step": cg,
        "b_step": o // groups,
        "y_step": o // groups,
        **by_side("rows_{}", tuple(outputs)),
        **by_side("stride_{}", stride),
        **by_side("start_{}", tuple([-pad for pad in padding]), 0),
        **_image_fields(tuple(sizes), c, dilation),
        **by_side("taps_{}", tuple(kernel)),
        "channels": cg,
        "b_pitch": o,
        "y_pitch": o,
    }


def _class_fields(
    images: tuple[int, ...], weight: tuple[int, ...], inputs: tuple[int, ...], geometry: Geometry, axes: list[Axis]
) -> dict[str, int]:
    """The fields of ``Contraction`` of one class of an input gradient, with the shapes as they are stored."""
    stride, _, _, groups = geometry
    (n, *outputs, o), (*kernel, cg, _), (_, *sizes, c) = images, weight, inputs
    first, pixels, taps, tap0, tap_step, offset, offset_step = map(tuple, zip(*axes, strict=True))
    og = o // groups
    pitches = [prod(kernel[side + 1 :]) * cg * o for side in range(len(kernel))]  # of the weight, from tap to tap
    return {
        "m": n * prod(pixels),
        "n": cg,
        "k": prod(taps) * og,
        "batch": groups,
        "a_step": og,
        "b_step": og,
        "y_step": cg,
        **by_side("rows_{}", pixels),
        **by_side("stride_{}", (1,) * len(kernel)),
        **by_side("start_{}", offset, 0),
        **_image_fields(tuple(outputs), o, tuple([-step for step in offset_step])),
        **by_side("taps_{}", taps),
        "channels": og,
        "b_pitch": o,
        "b_start": sum(tap * pitch for tap, pitch in zip(tap0, pitches, strict=True)),
        **by_side("b_tap_{}", tuple([step * pitch for step, pitch in zip(tap_step, pitches, strict=True)]), 0),
        "y_pitch": c,
        "scattered": int(max(stride) > 1),
        **by_side("out_{}", tuple(sizes)),
        **by_side("first_{}", first, 0),
        **by_side("skip_{}", stride),
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
            channels=k,
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
        self, x: Array, weight: Array, bias: Array | None, stride: Sides, padding: Sides, dilation: Sides, groups: int
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
            (*pixels, o), (*kernel, cg, _), c = stored.shape, taps.shape, images.shape[-1]
            og = o // geometry[3]
            self._contract(
                _source("FORWARD", geometry),
                images,
                taps,
                stored,
                ((cg, c), (og, o), (og, o)),
                self._after(x.dtype, bias, then),
                m=prod(pixels),
                n=og,
                k=prod(kernel) * cg,
                **_window_fields(images.shape, taps.shape, stored.shape, geometry),
            )
        return y

    def conv2d_input_grad(
        self,
        dy: Array,
        weight: Array,
        input_shape: tuple[int, ...],
        stride: Sides,
        padding: Sides,
        dilation: Sides,
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
        (*kernel, cg, o), sizes, c = weight.shape, input_shape[2:], input_shape[1]
        og = o // groups
        # Pixels whose coordinates leave the same remainders by the stride see the same taps: a contraction each.
        for firsts in product(*(range(min(step, size)) for step, size in zip(stride, sizes, strict=True))):
            sides = zip(firsts, sizes, stride, padding, dilation, kernel, strict=True)
            axes = [residue_class(*side) for side in sides]
            fields = _class_fields(images.shape, weight.shape, stored.shape, geometry, axes)
            packs = (og, o), (og, o), (cg, c)
            self._contract(_source("INPUT_GRAD", geometry), images, weight, stored, packs, after, **fields)
        return dx

    def conv2d_weight_grad(
        self,
        dy: Array,
        x: Array,
        weight_shape: tuple[int, ...],
        stride: Sides,
        padding: Sides,
        dilation: Sides,
        groups: int,
    ) -> Array:
        (o, cg, *kernel), geometry = weight_shape, (stride, padding, dilation, groups)
        stored = self.empty((*kernel, cg, o), dy.dtype)
        if stored.size:
            gradient, images = self.images(dy), self.images(x)
            (*pixels, _), c, og = gradient.shape, images.shape[-1], o // groups
            self._contract(
                _source("WEIGHT_GRAD", geometry),
                images,
                gradient,
                stored,
                ((cg, c), (og, o), (og, o)),
                self._after(dy.dtype),
                m=prod(kernel) * cg,
                n=og,
                k=prod(pixels),
                **_window_fields(images.shape, stored.shape, gradient.shape, geometry),
            )
        return stored.transpose(WEIGHT.restored[stored.ndim])
