"""A plan is a recorded run: the kernels that one eager run called, to be called again over one arena.

Each step of a graph is run once as it always is, by a recording backend that notes its calls of kernels and the
memory that they touch. An array that a call reads is an argument of the step, a constant, or made before by a call;
what depends on constants alone is computed once and becomes a constant. A step that moves data in another way (NumPy's,
CuPy's) is not taken apart: it is run again as a whole, so whatever runs can be a step. Which value lies where is
decided when all steps are known (``Plan.lay_out``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np

from lucid.backends.base import Array, Backend, dense_order

Run = Callable[..., Array]
Again = Callable[[Array], None]
INPUT = ""
"""The name of the plan's first input among values; it is read where it lies, while others are copied first."""
CHANGING = frozenset({"index_add", "scatter", "scatter_add"})
"""Kernels that read what they write: a call of one does not tell the whole of a step."""
ALIGNMENT = 64  # bytes: a value starts on a cache line


class Touch(NamedTuple):
    """An array of a call, as ``Touched`` of ``lucid/kernels/call.h``."""

    keyword: str
    address: int
    bytes: int
    written: bool
    optional: bool


class Call(NamedTuple):
    """A call of a kernel that was made; ``made`` is the backend's own note of it."""

    kernel: str
    made: Any
    touched: tuple[Touch, ...]


class Place(NamedTuple):
    """Where an array of a call lies in a plan: ``behind`` bytes after the start of what ``kind`` says.

    ``value`` (``where`` is its name), ``result`` of the step, ``way`` (made and read in the step: its number),
    ``constant`` (what ``Plan.keep_constant`` returned), ``nothing`` (an array that nobody reads, or that is empty).
    """

    kind: str
    where: Any = None
    behind: int = 0


class PlacedCall(NamedTuple):
    """A recorded call and the places of its arrays; it keeps no array of the recorded run alive that a plan has not."""

    made: Any
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Memory:
    """A piece of memory with a meaning: the value ``name``, a constant, or (neither) made on the way in a step."""

    address: int
    bytes: int
    name: str | None = None
    constant: bool = False
    owner: Any = None

    def holds(self, touch: Touch) -> bool:
        return self.address <= touch.address and touch.address + touch.bytes <= self.address + self.bytes


@dataclass(frozen=True)
class Source:
    """What a step takes: a value of the plan by name, or a constant with its array, or nothing."""

    name: str | None = None
    constant: Array | None = None
    kind: str = ""
    """What a constant is, for ``Plan.constants``."""


@dataclass
class Step:
    """One step as it was recorded; without ``calls`` it is run again as a whole."""

    name: str
    run: Run
    operands: Sequence[Source]
    shape: tuple[int, ...]
    dtype: np.dtype
    order: tuple[int, ...]
    """The axes of the result as they lie in memory."""
    calls: list[PlacedCall] | None = None
    way: list[int] = field(default_factory=list)
    """The bytes of each array that is made and read in the step."""


class Recorder(Protocol):
    """A backend that notes what it does between ``start`` and ``finish``."""

    derived: list[tuple[Array, Array]]
    """Since the start: arrays that were copied into another memory order or dtype, and the copies."""
    numbers: list[Array]
    """Since the start: numbers as arrays."""

    def start(self) -> None: ...

    def finish(self) -> list[Call]: ...

    def forget(self) -> None:
        """Let go of what the last step needed beside its result."""

    def address(self, x: Array) -> int:
        """Where ``x`` lies."""


class Plan:
    """Steps of one backend; without a recorder each is run again as a whole (the reference).

    ``record`` every step, ``lay_out``, ``run``.
    """

    reads_what_it_is_given = False
    """Whether a recorded call goes on reading the constants that it was recorded with: then they must be the plan's."""

    def __init__(self, backend: Backend, dtype: Any, recorder: Recorder | None = None) -> None:
        self.backend, self.xp, self.dtype = backend, backend.xp, np.dtype(dtype)
        self.recorder: Any = recorder
        self.steps: list[Step] = []
        self.constants: list[tuple[str, Array]] = []
        """What it was made of, by what it is: copies of its own, which it reads at every run."""
        self.input_size = 0
        self._again: list[Again] = []
        self._ends: dict[str, int] = {}
        self._views: dict[str, Array] = {}
        self._inputs: list[str] = []
        """The inputs after the first."""

    # -- recording ---------------------------------------------------------------------------------------------------

    def take(self, name: str, x: Array) -> None:
        """There is another input: the value ``name``, like ``x``, has a place of its own to which it is copied."""
        self._inputs.append(name)
        self._views[name] = self.xp.empty(x.shape, x.dtype)

    def record(self, name: str, run: Run, operands: Sequence[Source], values: dict[str, Array]) -> Array:
        """Run a step and note how; ``values`` has the arrays of its operands that are values."""
        own = self.recorder is None or self.reads_what_it_is_given
        if own:
            operands = [self._own(operand) for operand in operands]
        if INPUT in values:
            self.input_size = values[INPUT].size
        arrays = [o.constant if o.name is None else values[o.name] for o in operands]
        if self.recorder is None:
            result, calls = run(self.backend, *arrays), None
        else:
            self.recorder.start()
            try:
                result = run(self.recorder, *arrays)
            finally:
                calls = self.recorder.finish()
        order = dense_order(result)
        if order is None:  # as it will lie in the arena, so that what reads it can be taken apart
            result, calls = result.copy("K"), None
            order = dense_order(result)
        step = Step(name, run, operands, result.shape, result.dtype, order or tuple(range(result.ndim)))
        if calls is not None and order is not None:
            self._take_apart(step, calls, result, arrays)
        if self.recorder is not None:
            self.recorder.forget()
        if step.calls is None and not own:
            step.operands = [self._own(operand) for operand in operands]
        self.steps.append(step)
        return result

    def _own(self, operand: Source) -> Source:
        """A plan is made of what the parameters are now: constants are copied."""
        if operand.constant is None:
            return operand
        return Source(None, self.xp.asarray(np.array(operand.constant, order="C")), operand.kind)

    def _take_apart(self, step: Step, calls: list[Call], result: Array, arrays: list[Array]) -> None:
        """Keep the calls of a step, if they explain its result."""
        if any(call.kernel in CHANGING for call in calls):
            return
        known = [
            self._memory(x, operand.name, operand.name is None)
            for operand, x in zip(step.operands, arrays, strict=True)
            if x is not None and dense_order(x) is not None
        ]
        for x, copy in self.recorder.derived:
            if any(memory.constant and memory.holds(self._touch(x)) for memory in known):
                known.append(self._memory(copy, None, True))
        known += [self._memory(x, None, True) for x in self.recorder.numbers]
        made: list[Memory] = []
        kept: list[Call] = []
        for call in calls:
            reads = [find(known, touch) for touch in call.touched if not touch.written and touch.bytes]
            if None in reads:
                return
            constant = all(memory is not None and memory.constant for memory in reads)
            written = [
                Memory(touch.address, touch.bytes, None, constant, call.made) for touch in call.touched if touch.written
            ]
            known += written
            if not constant:
                kept.append(call)
                made += written
        address, size = self.recorder.address(result), result.size * result.itemsize
        if size and any((memory.address, memory.bytes) == (address, size) for memory in made):
            step.calls = self._placed(step, kept, known, address)
            step.operands = ()

    def _placed(self, step: Step, calls: list[Call], known: list[Memory], result: int) -> list[PlacedCall]:
        """The calls with the meaning of each array in place of its address."""
        found = [(find(known, touch), touch) for call in calls for touch in call.touched]
        read = {memory.address for memory, touch in found if memory is not None and not touch.written}
        way: dict[int, int] = {}
        constants: dict[tuple[int, int], Any] = {}

        def place(call: Call, touch: Touch) -> Place:
            memory = find(known, touch)
            if memory is None or touch.bytes == 0:
                return Place("nothing")
            behind = touch.address - memory.address
            if memory.name is not None:
                return Place("value", memory.name, behind)
            if memory.constant:
                key = touch.address, touch.bytes
                if key not in constants:
                    constants[key] = self.keep_constant(step, call, touch)
                return Place("constant", constants[key])
            if memory.address == result:
                return Place("result", None, behind)
            if touch.optional and memory.address not in read:
                return Place("nothing")
            if memory.address not in way:
                way[memory.address] = len(step.way)
                step.way.append(memory.bytes)
            return Place("way", way[memory.address], behind)

        placed = []
        for call in calls:
            places = tuple([place(call, touch) for touch in call.touched])
            placed.append(PlacedCall(self.release(call, places), places))
        return placed

    def keep_constant(self, step: Step, call: Call, touch: Touch) -> Any:
        """Keep a constant that a call reads for the plan's life, and note it in ``constants``."""
        raise NotImplementedError

    def release(self, call: Call, places: tuple[Place, ...]) -> Any:
        """The backend's note of a call without the arrays that will lie elsewhere."""
        return call.made

    def _touch(self, x: Array) -> Touch:
        return Touch("", self.recorder.address(x), x.size * x.itemsize, False, False)

    def _memory(self, x: Array, name: str | None, constant: bool) -> Memory:
        return Memory(self.recorder.address(x), x.size * x.itemsize, name, constant, x)

    # -- laying out --------------------------------------------------------------------------------------------------

    def temporaries(self) -> list[int]:
        """The bytes that each step makes on its way, beside its result."""
        return [0 for _ in self.steps]

    def lay_out(self, arena_bytes: int, places: dict[str, int], temporaries: list[int]) -> None:
        """Where the arena holds each step's result, and what each makes on the way, in bytes."""
        raise NotImplementedError

    def view(self, place: int, step: Step) -> Array:
        """The result of ``step`` in the arena."""
        raise NotImplementedError

    def whole(self, step: Step) -> Again:
        """Run a step again as a whole, on the arena's values."""
        operands, run, backend, to = step.operands, step.run, self.backend, self._views[step.name]
        views = self._views

        into = getattr(run, "into", None)

        def again(x: Array) -> None:
            given = [o.constant if o.name is None else x if o.name == INPUT else views[o.name] for o in operands]
            if into is not None:
                into(backend, to, *given)
            else:
                to[...] = run(backend, *given)

        for operand in operands:
            if operand.constant is not None:
                self.constants.append((f"{step.name}: {operand.kind}", operand.constant))
        return again

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, inputs: Sequence[Array], results: Sequence[str]) -> list[Array]:
        """The values ``results`` for ``inputs``, in memory of their own, in row-major order."""
        x = self._take_in(inputs)
        for again in self._again:
            again(x)
        return [self._copy(x, result) for result in results]

    def observe(self, inputs: Sequence[Array], names: Iterable[str]) -> Iterator[Array]:
        """Run from step to step, and give the result of each."""
        x, first = self._take_in(inputs), 0
        for name in names:
            self._run_part(x, first, self._ends[name])
            first = self._ends[name]
            yield self._copy(x, name)

    def _take_in(self, inputs: Sequence[Array]) -> Array:
        """Copy the inputs after the first to their places; returns the first."""
        for name, other in zip(self._inputs, inputs[1:], strict=True):
            self._views[name][...] = other
        return row_major(inputs[0], self.xp)

    def _run_part(self, x: Array, first: int, end: int) -> None:
        for again in self._again[first:end]:
            again(x)

    def _copy(self, x: Array, name: str) -> Array:
        return (x if name == INPUT else self._views[name]).copy()


class WholePlan(Plan):
    """A plan whose steps are all run again as wholes, each result in an array of its own."""

    def lay_out(self, arena_bytes: int, places: dict[str, int], temporaries: list[int]) -> None:
        for step in self.steps:
            self._views[step.name] = self.xp.empty(step.shape, step.dtype)
            self._again.append(self.whole(step))
            self._ends[step.name] = len(self._again)


def find(memories: list[Memory], touch: Touch) -> Memory | None:
    """Whose memory an array lies in: the latest meaning counts."""
    return next((memory for memory in reversed(memories) if memory.holds(touch)), None)


def row_major(x: Array, xp: Any) -> Array:
    """``x``, copied if need be, its axes kept: ``ascontiguousarray`` gives one to an array without."""
    return x if x.flags.c_contiguous else xp.ascontiguousarray(x)


def rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def in_memory(flat: Array, step: Step) -> Array:
    """``flat``, the memory of a step's result, in its shape."""
    stored = flat.reshape(tuple([step.shape[axis] for axis in step.order]))
    return stored.transpose(tuple([step.order.index(axis) for axis in range(len(step.order))]))


def size_of(step: Step) -> int:
    """The bytes of a step's result."""
    return prod(step.shape) * step.dtype.itemsize
