"""How a batch comes from a worker process: its arrays through memory that both map, the rest through a pipe.

A worker has as many slots of such memory as batches may wait. A slot is written again only after its batch has been
taken out, and grows when a batch needs more. The memory has no name (``memfd_create``): it is gone when the processes
are. Where the system has none, the arrays go through the pipe, too.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
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
    slot: int
    pickled: bytes
    places: list[tuple[int, int]]  # of each array in the slot: first byte, bytes
    grown: int  # bytes of the slot's new memory, whose descriptor follows; 0 if it is the old one


class _Pickler(pickle.Pickler):
    """Tensors are pickled as their values: where they came from, and who else shares them, stays behind."""

    def reducer_override(self, value: Any) -> Any:
        return (wrap, (to_numpy(value._array),)) if type(value) is Tensor else NotImplemented


class Sender:
    """The worker's end."""

    def __init__(self, link: Connection, slots: int) -> None:
        self._link = link
        self._memory: list[mmap.mmap | None] = [None] * slots

    def send(self, token: int, number: int, slot: int, value: Any) -> None:
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
        memory, grown, descriptor = self._memory[slot], 0, -1
        if arrays and (memory is None or len(memory) < total):
            grown = -(-total // _GROWTH) * _GROWTH
            descriptor = os.memfd_create("lucid.data")
            os.ftruncate(descriptor, grown)
            self._memory[slot] = memory = mmap.mmap(descriptor, grown)
        for array, (start, size) in zip(arrays, places, strict=True):
            np.frombuffer(memory, np.uint8, size, start)[:] = array  # type: ignore[arg-type]
        self._link.send(Message(token, number, slot, stream.getvalue(), places, grown))
        if grown:
            reduction.send_handle(self._link, descriptor, os.getppid())
            os.close(descriptor)


class Receiver:
    """The end of the process that takes the batches."""

    def __init__(self, link: Connection, slots: int) -> None:
        self._link = link
        self._memory: list[mmap.mmap | None] = [None] * slots

    def receive(self) -> Message:
        """The next message; blocks."""
        message: Message = self._link.recv()
        if message.grown:
            descriptor = reduction.recv_handle(self._link)
            try:
                self._memory[message.slot] = mmap.mmap(descriptor, message.grown)
            finally:
                os.close(descriptor)
        return message

    def value(self, message: Message) -> Any:
        """What was sent, in memory of its own."""
        memory = self._memory[message.slot]
        arrays = [np.frombuffer(memory, np.uint8, size, start).copy() for start, size in message.places]  # type: ignore[arg-type]
        return pickle.loads(message.pickled, buffers=arrays)
