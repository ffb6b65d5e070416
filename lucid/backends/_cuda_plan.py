"""Plans of the CUDA kernels: recorded launches over one arena; on a GPU, each stretch of them is one CUDA graph.

The first run launches one by one, later runs repeat that. What a plan needs is allocated before and stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from math import prod
from typing import Any, NamedTuple

from lucid.backends._cuda_run import Executor, Launch
from lucid.backends._cuda_source import Parameter, signatures
from lucid.backends._plan import INPUT, Call, Place, Plan, Step, Touch, in_memory, size_of
from lucid.backends.base import Array
from lucid.backends.cuda import CudaBackend
from lucid.kernels.declare import IMAGES

CONSTANTS = {"b": "weight", "m": "mean", "k": "scale"}
"""What a constant is, by the parameter that reads it, where its name does not say it."""


class RecordingExecutor(Executor):
    """Runs what it is told and remembers it."""

    def __init__(self, inner: Executor) -> None:
        self.inner, self.launches = inner, list[Launch]()
        self.xp, self.multiprocessors = inner.xp, inner.multiprocessors

    def run(self, launch: Launch) -> None:
        self.launches.append(launch)
        self.inner.run(launch)

    def address(self, x: Any) -> int:
        return self.inner.address(x)


class CudaRecorder:
    """A backend as ``backend``, but it notes its launches, and moves values by kernels."""

    def __init__(self, backend: CudaBackend) -> None:
        self.executor = RecordingExecutor(backend._executor)
        self.derived: list[tuple[Array, Array]] = []
        self.numbers: list[Array] = []
        self.kernels = copy(backend)
        self.kernels._executor = self.executor
        self.kernels.dense = self._dense  # type: ignore[method-assign]
        self.kernels.images = self._images  # type: ignore[method-assign]
        self._contiguous = backend.xp.ascontiguousarray

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernels, name)

    def start(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.derived.clear()
        self.executor.launches.clear()

    def finish(self) -> list[Call]:
        return [Call(launch.kernel, launch, tuple(self._touched(launch))) for launch in self.executor.launches]

    def _touched(self, launch: Launch) -> list[Touch]:
        """Its arrays; what is no array in a launch is no memory."""
        return [
            Touch(parameter.name, self.address(x), x.size * x.itemsize, parameter.written, parameter.optional)
            for parameter, x in arrays_of(launch)
        ]

    def address(self, x: Array) -> int:
        return self.executor.address(x)

    def _dense(self, x: Array | None, dtype: Any = None) -> Array | None:
        if x is None:
            return None
        made = self._contiguous(x, dtype)
        if made is not x:
            self.derived.append((x, made))
        return made

    def _images(self, x: Array) -> Array:
        n, c, *sides = x.shape
        stored = x.transpose(IMAGES.order[x.ndim])
        if stored.flags.c_contiguous or not x.flags.c_contiguous:
            return self._contiguous(stored)
        images = self.kernels.empty((n, *sides, c), x.dtype)
        self.kernels._swap_axes(x.reshape(n, c, prod(sides)), images.reshape(n, prod(sides), c))
        return images


def arrays_of(launch: Launch) -> list[tuple[Parameter, Array]]:
    """The arrays of a launch, in order."""
    pairs = zip(signatures()[launch.declared].parameters, launch.arguments, strict=True)
    return [(parameter, x) for parameter, x in pairs if parameter.pointer and x is not None]


class Part(NamedTuple):
    """What stands in a launch for an array that lies in the plan: so many values of a dtype."""

    size: int
    itemsize: int


class CudaPlan(Plan):
    """See ``Plan``."""

    reads_what_it_is_given = True

    def __init__(self, backend: CudaBackend, dtype: Any) -> None:
        super().__init__(backend, dtype, CudaRecorder(backend))
        self._executor = backend._executor
        self._parts: list[list[Launch] | Callable[[Array], None]] = []
        self._repeat: list[Callable[[Array], Any]] | None = None
        self._input: Array | None = None

    def keep_constant(self, step: Step, call: Call, touch: Touch) -> Any:
        x = next(x for _, x in arrays_of(call.made) if self.recorder.address(x) == touch.address)
        self.constants.append((f"{step.name}: {CONSTANTS.get(touch.keyword, touch.keyword)}", x))
        return x

    def release(self, call: Call, places: tuple[Place, ...]) -> Any:
        """Constants, and what is made on the way, stay where they are."""
        left, arguments = iter(places), []
        kept = {id(x) for _, x in arrays_of(call.made)}
        for x in call.made.arguments:
            if id(x) in kept and next(left).kind not in ("constant", "way"):
                x = Part(x.size, x.itemsize)
            arguments.append(x)
        return call.made._replace(arguments=tuple(arguments))

    def lay_out(self, arena_bytes: int, places: dict[str, int], temporaries: list[int]) -> None:
        self._arena = self.xp.empty(arena_bytes // self.dtype.itemsize, self.dtype)
        flat: dict[str, Array] = {name: self._views[name].reshape(-1) for name in self._inputs}
        for step in self.steps:
            start, size = places[step.name] // self.dtype.itemsize, size_of(step) // step.dtype.itemsize
            own = step.dtype != self.dtype  # the arena holds values of one dtype
            flat[step.name] = self.xp.empty(size, step.dtype) if own else self._arena[start : start + size]
            self._views[step.name] = in_memory(flat[step.name], step)
            self._parts.append(self.whole(step) if step.calls is None else self._launches(step, flat))
            self._ends[step.name] = len(self._parts)
            step.calls = None

    def _launches(self, step: Step, flat: dict[str, Array]) -> list[Launch]:
        """The launches of a step, with its arrays where they lie in the plan."""
        launches = []
        for made, places in step.calls or ():
            left, arguments = iter([place for place in places if place.kind not in ("constant", "way")]), []
            for x in made.arguments:
                arguments.append(self._at(step, next(left), x, flat) if isinstance(x, Part) else x)
            launches.append(made._replace(arguments=tuple(arguments)))
        return launches

    def _at(self, step: Step, place: Place, part: Part, flat: dict[str, Array]) -> Array | None:
        if place.kind == "nothing":
            return None
        if place.kind == "value" and place.where == INPUT:
            if self._input is None:
                self._input = self.xp.empty(self.input_size, self.dtype)
            memory = self._input
        else:
            memory = flat[step.name if place.kind == "result" else place.where]
        first = place.behind // part.itemsize
        return memory[first : first + part.size]

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, inputs: Sequence[Array], results: Sequence[str]) -> list[Array]:
        x = self._take_in(inputs)
        if self._repeat is None:
            self._run_part(x, 0, len(self._parts))
            self._repeat = self._captured()
        else:
            for repeat in self._repeat:
                repeat(x)
        return [self._copy(x, result) for result in results]

    def _take_in(self, inputs: Sequence[Array]) -> Array:
        x = super()._take_in(inputs)
        if self._input is not None:
            self._input[...] = x.reshape(-1)
        return x

    def _run_part(self, x: Array, first: int, end: int) -> None:
        for part in self._parts[first:end]:
            if callable(part):
                part(x)
            else:
                for launch in part:
                    self._executor.run(launch)

    def _captured(self) -> list[Callable[[Array], Any]]:
        """Stretches of launches as one each, and what is run again as a whole between them."""
        found: list[Callable[[Array], Any]] = []
        stretch: list[Launch] = []

        def close() -> None:
            if stretch:
                again = self._executor.capture(list(stretch))
                found.append(lambda _, again=again: again())  # type: ignore[misc]
                stretch.clear()

        for part in self._parts:
            if callable(part):
                close()
                found.append(part)
            else:
                stretch.extend(part)
        close()
        return found
