"""Plans of the C++ kernels: recorded calls as a program (``lucid/kernels/program.h``), run without the interpreter."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from lucid.backends._compiled import as_images, rows_of, same_layout
from lucid.backends._plan import INPUT, Call, Place, Plan, Step, Touch, in_memory, rounded, size_of
from lucid.backends.base import NOTHING, Array, Epilogue, Norm, Sides, dense_order
from lucid.backends.native import NativeBackend, empty
from lucid.backends.native import _native as native
from lucid.kernels.declare import IMAGES

CONSTANTS = {("conv", "weight"): "packed weight"}
"""By kernel and keyword, what a constant is, where the keyword does not say it."""


class NativeRecorder(NativeBackend):
    """The backend, but it notes its calls, moves values by kernels, and packs every weight."""

    def __init__(self) -> None:  # it has no state of the backend's
        self.derived: list[tuple[Array, Array]] = []
        self.numbers: list[Array] = []

    def start(self) -> None:
        native.start_recording()

    def forget(self) -> None:
        """Gives pages back, too: early steps have large results, late ones large weights; their peaks do not meet."""
        self.derived.clear()
        self.numbers.clear()
        native.empty_store()

    def finish(self) -> list[Call]:
        calls = [
            Call(made.kernel, made, tuple([Touch(*touch) for touch in made.touched])) for made in native.recorded()
        ]
        native.stop_recording()
        return calls

    def address(self, x: Array) -> int:
        return int(x.__array_interface__["data"][0])

    def _moved(self, x: Array, copy: Array) -> Array:
        if copy is not x:
            self.derived.append((x, copy))
        return copy

    def dense(self, x: Array | None, dtype: Any = None) -> Array | None:
        if x is None or dtype is not None or x.flags.c_contiguous:
            return None if x is None else self._moved(x, np.ascontiguousarray(x, dtype))
        copy = empty(x.shape, x.dtype)  # of the store, which gives pages back
        copy[...] = x
        return self._moved(x, copy)

    def number(self, value: float, dtype: Any) -> Array:
        self.numbers.append(super().number(value, dtype))
        return self.numbers[-1]

    def binary(self, op: str, a: Array, b: Array) -> Array:
        if a.shape == b.shape and dense_order(a) is not None and same_layout(a, b):
            return super().binary(op, a, b)
        return self._binary_over(op, a, b)

    def convert(self, x: Array, dtype: Any) -> Array:
        return self._moved(x, super().convert(x, dtype))

    def images(self, x: Array) -> Array:
        images = x.transpose(IMAGES.order[x.ndim])
        if images.flags.c_contiguous or not x.flags.c_contiguous:
            return super().images(x)
        n, c, *sides = x.shape
        images = empty((n, *sides, c), x.dtype)
        native.swap_axes(n=n, rows=c, columns=prod(sides), x=x, y=images)
        return images

    def panels(self, weight: Array, conv: bytes, groups: int, stamp: int | None) -> tuple[Array, bool]:
        stored = self.weight(weight)
        panels = empty((native.packed_weight_size(conv=conv, weight=stored),), weight.dtype)
        native.pack_weight(conv=conv, weight=stored, packed=panels)
        return panels, True

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """A convolution of images of one pixel, whose weight is packed once."""
        one: Sides = (1, 1)
        images, taps = x.reshape(*x.shape, 1, 1), weight.reshape(*weight.shape, 1, 1)
        y = self.conv2d_norm(images, taps, bias, (one, (0, 0), one, 1), NOTHING)
        return y.reshape(y.shape[:2])

    def norm_act_eval(self, x: Array, norm: Norm, residual: Array | None, relu: bool) -> Array:
        images = self.images(x)
        y = empty(images.shape, images.dtype)
        given = self.after(x.dtype, Epilogue(norm, residual, relu))
        rows, channels = rows_of(images)
        native.normalize(rows=rows, channels=channels, x=images, **given, y=y)
        return as_images(y)


class NativePlan(Plan):
    """See ``Plan``."""

    def __init__(self, backend: NativeBackend, dtype: Any) -> None:
        super().__init__(backend, dtype, NativeRecorder())
        self._program = native.Program()

    def keep_constant(self, step: Step, call: Call, touch: Touch) -> Any:
        room = self._program.room(touch.bytes)
        room[:] = np.ctypeslib.as_array((ctypes.c_uint8 * touch.bytes).from_address(touch.address))
        name = CONSTANTS.get((call.kernel, touch.keyword), touch.keyword)
        whole = touch.bytes % self.dtype.itemsize == 0  # else it is of another type than the plan's first input
        self.constants.append((f"{step.name}: {name}", room.view(self.dtype) if whole else room))
        return self.recorder.address(room)

    def release(self, call: Call, places: tuple[Place, ...]) -> Any:
        call.made.release()
        return call.made

    def temporaries(self) -> list[int]:
        return [sum(map(rounded, step.way)) for step in self.steps]

    def lay_out(self, arena_bytes: int, places: dict[str, int], temporaries: list[int]) -> None:
        arena = self._program.reserve(arena_bytes)
        base = self.recorder.address(arena)
        for step, scratch in zip(self.steps, temporaries, strict=True):
            flat = arena[places[step.name] : places[step.name] + size_of(step)].view(step.dtype)
            self._views[step.name] = in_memory(flat, step)
            if step.calls is None:
                self._again.append(self.whole(step))
            else:
                first = self._program.calls
                starts = {name: base + place for name, place in places.items()}
                starts |= {name: self.recorder.address(self._views[name]) for name in self._inputs}
                self._add(step, starts, base + scratch)
                self._again.append(partial(self._program.run, first=first, end=self._program.calls))
            self._ends[step.name] = len(self._again)
        self._join()

    def _add(self, step: Step, starts: dict[str, int], scratch: int) -> None:
        """The calls of a step, with its arrays where they lie in the plan."""
        way = [scratch + before for before in accumulate(map(rounded, step.way), initial=0)]
        for made, places in step.calls or ():
            addresses, of_input = [], []
            for kind, where, behind in places:
                input = kind == "value" and where == INPUT
                of_input.append(behind if input else -1)
                if kind == "nothing" or input:
                    addresses.append(0)
                elif kind == "constant":
                    addresses.append(where)
                elif kind == "way":
                    addresses.append(way[where] + behind)
                else:
                    addresses.append(starts[step.name if kind == "result" else where] + behind)
            self._program.add(made, addresses, of_input)
        step.calls = None

    def _join(self) -> None:
        """Stretches of calls, which run without the interpreter."""
        self._whole: list[Callable[[Array], None]] = []
        for again in self._again:
            last = self._whole[-1] if self._whole else None
            if isinstance(again, partial) and isinstance(last, partial):
                self._whole[-1] = partial(self._program.run, first=last.keywords["first"], end=again.keywords["end"])
            else:
                self._whole.append(again)

    def run(self, inputs: Sequence[Array], results: Sequence[str]) -> list[Array]:
        x = self._take_in(inputs)
        for again in self._whole:
            again(x)
        return [self._copy(x, result) for result in results]
