"""Worker processes: how they start, answer, fail and end.

- A worker ends when the pipe to it is closed, also because the process that started it is gone.
- It runs lucid on one thread: the workers together are the parallelism.
- By default it is a fork of the caller, where that is safe: on Linux, from a process that runs no other Python thread
  (a lock that one holds would stay locked) and has used no GPU. lucid's threads are made anew in it (``threads.cpp``).
  Else it comes from a fork server, a process without threads that has loaded what the caller's script imports.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

from lucid.backends import backend_for, device_of, loaded_backends, set_backend
from lucid.core.device import set_default_device, set_num_threads
from lucid.core.dtypes import get_default_dtype, set_default_dtype
from lucid.data._fetching import DroppedError, Fetcher, Task
from lucid.data._transport import Receiver, Sender

_GRACE = 5.0  # seconds that a worker has to end by itself
_START = -1  # the number of what is no batch: what went wrong before the first
_open: set[Connection] = set()  # this process's ends: a fork has them, too, and has to close them
_GUARD = (
    "a script that starts workers needs `if __name__ == '__main__':` around what it runs, unless "
    "multiprocessing_context is 'fork'"
)


class _RemoteError(Exception):
    """The traceback of another process, as the cause of the error that it raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Failure:
    """An error on its way from a worker: the exception, where it can be pickled, and its traceback as text."""

    def __init__(self, error: BaseException, worker: int) -> None:
        self.text = f"in worker {worker}:\n" + "".join(traceback.format_exception(error)).rstrip()
        try:
            self.pickled: bytes | None = pickle.dumps(error)
            pickle.loads(self.pickled)
        except Exception:
            self.pickled = None

    def error(self) -> BaseException:
        """The exception to raise; a RuntimeError with the text where it could not be pickled."""
        if self.pickled is None:
            return RuntimeError(f"DataLoader: {self.text}")
        error: BaseException = pickle.loads(self.pickled)
        error.__cause__ = _RemoteError(self.text)
        return error


class _Inbox:
    """The tasks that have come, read by a thread, so that the sender never waits for a batch to be loaded."""

    def __init__(self, link: Connection) -> None:
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.token = 0  # of the iteration whose batches are wanted
        self._link = link
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                came = self._link.recv()
                if came is None:
                    raise EOFError
                if isinstance(came, int):
                    self.token = came
                else:
                    self.tasks.put(came)
        except (EOFError, OSError):
            self.token = -1
            self.tasks.put(None)
        time.sleep(_GRACE)
        os._exit(1)


def _settings() -> tuple[str, Any]:
    return backend_for("cpu").name, get_default_dtype()


def work(number: int, link: Connection, settings: tuple[str, Any], made: Any, others: tuple[Connection, ...]) -> None:
    """What a worker runs. ``made`` is (dataset, collate, worker_init_fn), pickled unless the process was forked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller is interrupted, and closes the pipe
    for other in others:
        other.close()
    sender = Sender(link)
    try:
        try:
            _use_one_thread()
            set_default_device("cpu")
            set_backend(settings[0])
            set_default_dtype(settings[1])
            dataset, collate, init = pickle.loads(made) if isinstance(made, bytes) else made
            if init is not None:
                init(number)
            fetcher = Fetcher(dataset, collate)
        except Exception as error:
            sender.send(0, _START, Failure(error, number))
            return
        inbox = _Inbox(link)
        while (task := inbox.tasks.get()) is not None:
            _answer(task, fetcher, sender, inbox, number)
    except (BrokenPipeError, ConnectionResetError):  # the caller is gone
        return


def _use_one_thread() -> None:
    set_num_threads(1)
    if (torch := sys.modules.get("torch")) is not None:  # a fork lacks the threads that it would wait for
        torch.set_num_threads(1)


def _answer(task: Task, fetcher: Fetcher, sender: Sender, inbox: _Inbox, worker: int) -> None:
    sender.release(task.freed)
    try:
        value = fetcher.fetch(task, lambda: task.token == inbox.token)
        sender.send(task.token, task.number, value)
    except (DroppedError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        sender.send(task.token, task.number, Failure(error, worker))


class Pool:
    """The workers of a loader."""

    def __init__(
        self, dataset: Any, collate: Callable[[Any], Any], init: Callable[[int], Any] | None, count: int,
        context: Any,
    ) -> None:  # fmt: skip
        self.token = 0
        self._processes: list[Any] = []
        self._links: list[Connection] = []
        self._receivers: list[Receiver] = []
        chosen = _context(context)
        forked = chosen.get_start_method() == "fork"
        made: Any = (dataset, collate, init)
        if not forked:
            try:
                made = bytes(ForkingPickler.dumps(made))
            except Exception as error:
                raise TypeError(
                    f"dataset, collate_fn, worker_init_fn: cannot be sent to worker processes: {error}; classes and "
                    "functions must be defined at the top of a module, or multiprocessing_context be 'fork'"
                ) from error
        try:
            for number in range(count):
                ours, theirs = chosen.Pipe(duplex=True)
                self._links.append(ours)
                self._receivers.append(Receiver(ours))
                _open.add(ours)
                others = tuple(_open) if forked else ()
                process = chosen.Process(
                    target=work, args=(number, theirs, _settings(), made, others), daemon=True,
                    name=f"lucid.data worker {number}",
                )  # fmt: skip
                _start(process)
                theirs.close()
                self._processes.append(process)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._processes)

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [process.pid for process in self._processes]

    def begin(self) -> int:
        """A new iteration; what was asked for before is not wanted any more. Returns its token."""
        self.token += 1
        for link in self._links:
            self._send(link, self.token)
        return self.token

    def submit(self, worker: int, task: Task) -> None:
        """Ask a worker for a batch."""
        self._send(self._links[worker], task._replace(freed=self._receivers[worker].freed()))

    def _send(self, link: Connection, message: Any) -> None:
        try:
            link.send(message)
        except (BrokenPipeError, ConnectionResetError):  # it is gone: `receive` says how
            return

    def receive(self, worker: int, token: int, timeout: float) -> Any:
        """The worker's next batch of the iteration.

        Raises:
            RuntimeError: the worker has died, or it took longer than ``timeout`` seconds (0: any time).
            Exception: what it raised.
        """
        receiver, link, process = self._receivers[worker], self._links[worker], self._processes[worker]
        deadline = time.monotonic() + timeout if timeout else None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = wait([link, process.sentinel], left)
            if not ready:
                raise RuntimeError(f"DataLoader: worker {worker} has not loaded its batch within {timeout} s")
            try:
                if link not in ready and not link.poll():
                    raise EOFError
                message = receiver.receive()
            except (EOFError, OSError):
                raise self._death(worker) from None
            if message.number == _START or message.token == token:
                value = receiver.value(message)
                if isinstance(value, Failure):
                    raise value.error()
                return value
            receiver.drop(message)

    def _death(self, worker: int) -> RuntimeError:
        process = self._processes[worker]
        process.join(_GRACE)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit status {code}"
        hint = f"; {_GUARD}" if code == 1 else ""
        return RuntimeError(f"DataLoader: worker {worker} (process {process.pid}) {how}{hint}")

    def close(self) -> None:
        """End the workers, and wait until they have ended."""
        for link in self._links:
            self._send(link, None)
            _open.discard(link)
            link.close()
        deadline = time.monotonic() + _GRACE
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.terminate()
                process.join(_GRACE)
            if process.is_alive():
                process.kill()
                process.join()
        self._links, self._processes = [], []

    def __del__(self) -> None:
        self.close()


def _start(process: Any) -> None:
    with warnings.catch_warnings():  # Python warns of forks beside threads: lucid's bear it
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        process.start()


def _context(context: Any) -> Any:
    if context is not None and not isinstance(context, str):
        return context
    known = multiprocessing.get_all_start_methods()
    if context is not None and context not in known:
        raise ValueError(f"multiprocessing_context: got {context!r}; may be one of {', '.join(known)}")
    name = context or _usual(known)
    chosen = multiprocessing.get_context(name)
    if name == "forkserver":
        chosen.set_forkserver_preload(["lucid.data", *_imported_by_script()])
    return chosen


def _usual(known: list[str]) -> str:
    """How workers start where nobody says it."""
    uses_gpu = any(device_of(backend.name) != "cpu" for backend in loaded_backends())
    if sys.platform == "linux" and threading.active_count() == 1 and not uses_gpu:
        return "fork"
    return "forkserver" if "forkserver" in known else "spawn"


def _imported_by_script() -> list[str]:
    """The modules in the script's namespace. Each worker imports the script, and finds these loaded."""
    values = vars(sys.modules["__main__"]).values()
    names = {value.__name__ for value in values if isinstance(value, ModuleType)}
    return sorted(names & set(sys.modules) - {"__main__"})
