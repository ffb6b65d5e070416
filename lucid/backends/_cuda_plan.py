"""Inference plans on CUDA kernels: the first run launches them one by one and writes down how; later runs repeat that.

On a GPU the repetition is one CUDA graph. What a plan needs is allocated at its first run and stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from lucid.backends._cuda_cut import Epilogue
from lucid.backends._cuda_run import Executor, Launch
from lucid.backends.base import NORM_PARTS, Array, Pair
from lucid.kernels.pool.reference import pool_problem

if TYPE_CHECKING:
    from lucid.backends.cuda import CudaBackend

Norm = tuple[Array, Array, Array]


class Recorder(Executor):
    """Runs what it is told and remembers it."""

    def __init__(self, inner: Executor) -> None:
        self.inner, self.launches = inner, list[Launch]()
        self.xp, self.multiprocessors = inner.xp, inner.multiprocessors

    def run(self, launch: Launch) -> None:
        self.launches.append(launch)
        self.inner.run(launch)

    def address(self, x: Any) -> int:
        return self.inner.address(x)


class CudaPlan:
    """See ``Backend.plan``: the methods tell steps, ``run`` runs them. Images lie channels-last in the arena."""

    NOWHERE, INPUT, OUTPUT = -1, -2, -3

    def __init__(self, backend: CudaBackend, elements: int, dtype: Any) -> None:
        self._recorder = Recorder(backend._executor)
        self._kernels = copy(backend)  # as the backend, but what it launches is written down
        self._kernels._executor = self._recorder
        self._xp = backend.xp
        self.dtype = np.dtype(dtype)
        self._elements = elements
        self._steps: list[Callable[[], None]] = []
        self._memory: dict[int, Array] = {}
        self._again: Callable[[], None] | None = None
        self.constants: list[tuple[str, Array]] = []
        """What it was made of, by what it is: copies of its own, which it reads at every run."""

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self._steps)

    def _at(self, place: int, shape: tuple[int, ...]) -> Array:
        """The value that lies at ``place`` when the plan runs."""
        if place < 0:
            return self._memory[place].reshape(shape)
        return self._memory[0][place : place + prod(shape)].reshape(shape)

    def _kept(self, name: str, array: Any) -> Array | None:
        """A constant, on the device: a copy of the plan's own, which is made of what the parameters are now."""
        if array is None:
            return None
        kept = self._xp.asarray(np.array(array, order="C"))
        self.constants.append((name, kept))
        return kept

    def to_channels_last(self, n: int, channels: int, pixels: int, x: int, y: int) -> None:
        shapes = (n, channels, pixels), (n, pixels, channels)
        self._steps.append(lambda: self._kernels._swap_axes(self._at(x, shapes[0]), self._at(y, shapes[1])))

    def conv(
        self,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        geometry: tuple[Pair, Pair, Pair, int],
        x: int,
        weight: Array,
        bias: Array | None,
        norm: Norm | None,
        residual: int,
        relu: bool,
        y: int,
    ) -> None:
        stored = self._kept("weight", weight.transpose(2, 3, 1, 0))
        mean, scale, shift = (self._kept(*part) for part in zip(NORM_PARTS, norm or (None,) * 3, strict=True))
        epilogue = Epilogue(self._kept("bias", bias), mean, scale, shift, None, relu)
        images = _last(input_shape), _last(output_shape)

        def step() -> None:
            added = None if residual == self.NOWHERE else self._at(residual, images[1])
            to, after = self._at(y, images[1]), epilogue._replace(residual=added)
            self._kernels._conv(self._at(x, images[0]), stored, to, geometry, after)

        self._steps.append(step)

    def linear(self, rows: int, k: int, x: int, weight: Array, bias: Array | None, y: int) -> None:
        n, b = weight.shape[0], self._kept("weight", weight.T)
        epilogue = Epilogue(self._kept("bias", bias))

        def step() -> None:
            a, to = self._at(x, (rows, k)), self._at(y, (rows, n))
            self._kernels._matmul((a, False, 0), (b, False, 0), to, epilogue)

        self._steps.append(step)

    def norm(self, rows: int, channels: int, x: int, norm: Norm, relu: bool, y: int) -> None:
        parts, shape = tuple(map(self._kept, NORM_PARTS, norm)), (rows, channels)
        self._steps.append(
            lambda: self._kernels._normalize_to(
                {"rows": rows, "channels": channels}, self._at(x, shape), parts, None, relu, self._at(y, shape)
            )
        )

    def max_pool(
        self,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        geometry: tuple[Pair, Pair, Pair, Pair],
        x: int,
        y: int,
    ) -> None:
        sizes = pool_problem(input_shape, output_shape[2:], *geometry)
        self._pooling("max_pool", {"pool": sizes, "index": None}, input_shape, output_shape, x, y)

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
        sizes = pool_problem(input_shape, output_shape[2:], *geometry, include_pad, adaptive)
        self._pooling("avg_pool", {"pool": sizes}, input_shape, output_shape, x, y)

    def _pooling(
        self, kernel: str, sizes: dict[str, Any], source: tuple[int, ...], result: tuple[int, ...], x: int, y: int
    ) -> None:
        def step() -> None:
            to = self._at(y, result)
            self._kernels.launch(kernel, to, "elements", {**sizes, "x": self._at(x, source), "y": to})

        self._steps.append(step)

    def unary(self, op: str, n: int, x: int, y: int) -> None:
        self._steps.append(lambda: self._kernels._unary_to(op, self._at(x, (n,)), self._at(y, (n,))))

    def binary(self, op: str, n: int, a: int, b: int, y: int) -> None:
        self._steps.append(
            lambda: self._kernels._binary_to(op, self._at(a, (n,)), self._at(b, (n,)), self._at(y, (n,)))
        )

    def scale_channels(self, n: int, pixels: int, channels: int, a: int, b: int, y: int) -> None:
        def step() -> None:
            to = self._at(y, (n, pixels, channels))
            given = {"a": self._at(a, to.shape), "b": self._at(b, (n, channels)), "y": to}
            self._kernels.each("scale_channels", to, n=n, pixels=pixels, channels=channels, **given)

        self._steps.append(step)

    def run(self, x: Array, output_shape: tuple[int, ...]) -> Array:
        self._take_in(x, output_shape)
        if self._again is None:
            self._recorder.launches.clear()
            for step in self._steps:
                step()
            self._again = self._recorder.inner.capture(self._recorder.launches)
        else:
            self._again()
        return self._memory[self.OUTPUT].reshape(output_shape).copy()

    def _take_in(self, x: Array, output_shape: tuple[int, ...]) -> None:
        """Have memory for a run, and the input in it."""
        if not self._memory:
            places = (0, self._elements), (self.INPUT, x.size), (self.OUTPUT, prod(output_shape))
            self._memory = {place: self._xp.empty(size, self.dtype) for place, size in places}
        self._memory[self.INPUT].reshape(x.shape)[...] = x

    def observe(self, x: Array, output_shape: tuple[int, ...], cuts: Iterable[tuple[int, int, int]]) -> Iterator[Array]:
        """As that of ``NativePlan``: kernel by kernel, as the first run was."""
        self._take_in(x, output_shape)
        first = 0
        for end, place, count in cuts:
            for step in self._steps[first:end]:
                step()
            self._recorder.launches.clear()  # nothing here is to be repeated
            yield self._at(place, (count,)).copy()
            first = end


def _last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of images as they are stored."""
    return shape[0], *shape[2:], shape[1]
