"""How a batch comes from a worker process: its arrays through memory that both map, the rest through a pipe.

Such memory comes in slots, each of one batch. What arrives lies in its slot, without a copy; when the last of its
arrays is gone the slot is free, which the worker is told with its next task, and written again. Used pages are the
point: fresh ones for every batch cost more than copying it. The memory has no name (``memfd_create``): it is gone when
the processes are. Where the system has none, the arrays go through the pipe, too.
"""

from __future__ import annotations

import collections
import io
import mmap
import os
import pickle
import weakref
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from lucid.core.device import to_numpy
from lucid.core.tensor import Tensor, wrap

_SHARED = hasattr(os, "memfd_create")
_LEAST = 4096  # bytes of an array that goes through memory
_ALIGN = 64
_GROWTH = 1 << 20  # slots are a multiple of so many bytes


class Message(NamedTuple):
    """What goes through the pipe: which task it answers, and the pickled batch without its arrays."""

    token: int
    number: int
    pickled: bytes
    slot: int  # where the arrays are; -1 if there are none
    places: list[tuple[int, int]]  # of each array in the slot: first byte, bytes
    made: int  # bytes of the slot's memory, whose descriptor follows, if it is new; else 0
    dropped: tuple[int, ...]  # slots that were too small, and are no more


class _Pickler(pickle.Pickler):
    """Tensors are pickled as their values: where they came from, and who else shares them, stays behind."""

    def reducer_override(self, value: Any) -> Any:
        return (wrap, (to_numpy(value._array),)) if type(value) is Tensor else NotImplemented


class Sender:
    """The worker's end."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._memory: dict[int, mmap.mmap] = {}
        self._free: set[int] = set()
        self._next = 0

    def release(self, slots: tuple[int, ...]) -> None:
        """These may be written again."""
        self._free.update(slots)

    def send(self, token: int, number: int, value: Any) -> None:
        """Send ``value`` as the answer to a task.

        Raises:
            Exception: it cannot be pickled; nothing has then been sent.
        """
        arrays: list[np.ndarray[Any, Any]] = []

        def take(buffer: pickle.PickleBuffer) -> bool:
            array = np.frombuffer(buffer.raw(), np.uint8)
            if array.size < _LEAST:
                return True
            arrays.append(array)
            return False

        stream = io.BytesIO()
        _Pickler(stream, 5, buffer_callback=take if _SHARED else None).dump(value)
        places, total = [], 0
        for array in arrays:
            places.append((total, array.size))
            total += -(-array.size // _ALIGN) * _ALIGN
        if not arrays:
            self._link.send(Message(token, number, stream.getvalue(), -1, places, 0, ()))
            return
        slot = next((slot for slot in self._free if len(self._memory[slot]) >= total), None)
        if slot is not None:
            self._write(slot, arrays, places)
            self._link.send(Message(token, number, stream.getvalue(), slot, places, 0, ()))
            return
        dropped, self._free = tuple(self._free), set()
        for small in dropped:
            del self._memory[small]
        slot, self._next = self._next, self._next + 1
        size = -(-total // _GROWTH) * _GROWTH
        descriptor = os.memfd_create("lucid.data")
        try:
            os.ftruncate(descriptor, size)
            self._memory[slot] = mmap.mmap(descriptor, size)
            self._write(slot, arrays, places)
            self._link.send(Message(token, number, stream.getvalue(), slot, places, size, dropped))
            reduction.send_handle(self._link, descriptor, os.getppid())
        finally:
            os.close(descriptor)

    def _write(self, slot: int, arrays: list[np.ndarray[Any, Any]], places: list[tuple[int, int]]) -> None:
        self._free.discard(slot)
        for array, (start, size) in zip(arrays, places, strict=True):
            np.frombuffer(self._memory[slot], np.uint8, size, start)[:] = array


class Receiver:
    """The end of the process that takes the batches."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._memory: dict[int, mmap.mmap] = {}
        self._freed: collections.deque[int] = collections.deque()  # a garbage collection of any thread may add to it

    def freed(self) -> tuple[int, ...]:
        """The slots that have become free since this was asked last."""
        return tuple(self._freed.popleft() for _ in range(len(self._freed)))

    def receive(self) -> Message:
        """The next message; blocks."""
        message: Message = self._link.recv()
        for slot in message.dropped:
            del self._memory[slot]
        if message.made:
            descriptor = reduction.recv_handle(self._link)
            try:
                self._memory[message.slot] = mmap.mmap(descriptor, message.made)
            finally:
                os.close(descriptor)
        return message

    def drop(self, message: Message) -> None:
        """Free the slot of a message whose value nobody wants."""
        if message.slot >= 0:
            self._freed.append(message.slot)

    def value(self, message: Message) -> Any:
        """What was sent. Its large arrays lie in the slot, which is free when they are gone."""
        if message.slot < 0:
            return pickle.loads(message.pickled)
        whole = np.frombuffer(self._memory[message.slot], np.uint8)
        weakref.finalize(whole, self._freed.append, message.slot).atexit = False  # every array has it as its base
        arrays = [whole[start : start + size] for start, size in message.places]
        return pickle.loads(message.pickled, buffers=arrays)
