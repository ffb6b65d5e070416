"""Reading and writing files: what is no regular file is refused, and what is written is whole or not there.

- A file is written beside its destination under another name and renamed when it is complete, so that the destination
  holds either what it held before or all of the new. A symbolic link is followed: it stays, and its target is replaced.
  A file that exists keeps its mode.
- An error, an interruption or a signal that ends the process leaves nothing behind.
- A device, a FIFO or a directory is neither written over nor waited for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

__all__ = ["FileError", "atomic_write", "new_directory", "open_regular", "writable"]


class FileError(OSError):
    """A file that cannot be written or read, or that does not hold what it should."""


# -- writing ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the body ends without an error, and is removed when it does not.

    A symbolic link is followed: it stays, and its target is replaced. A file that exists keeps its mode. An error, an
    interruption or a signal that ends the process leaves nothing behind.

    Raises:
        FileError: the directory is missing, ``path`` is something else than a regular file (a device, a FIFO, a
            directory), or writing or renaming failed.

    Example:
        >>> import lucid, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = pathlib.Path(folder, "a.txt")
        ...     with lucid.io.atomic_write(target) as path:
        ...         _ = path.write_text("whole")
        ...     target.read_text()
        'whole'
    """
    target = writable(path)
    temporary = _beside(target)
    with _put_off_signals():
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))  # less the umask
            mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
            yield temporary
            temporary.chmod(mode)  # whoever wrote may have made the file anew, readable by its owner alone
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            if isinstance(error, FileError):
                raise
            raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A new directory beside ``target`` to fill, which is removed unless the body has renamed it.

    Raises:
        OSError: it cannot be made.
    """
    temporary = _beside(target)
    with _put_off_signals():
        try:
            temporary.mkdir()
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def writable(path: str | os.PathLike[str]) -> Path:
    """The regular file that writing to ``path`` would make or replace: where its symbolic links lead, in the end.

    Raises:
        FileError: there is something else than a regular file, the directory is missing, or the links go in a circle.

    Example:
        >>> writable("/dev/null")
        Traceback (most recent call last):
        ...
        lucid.files.FileError: /dev/null: cannot be written: it is a character device, not a regular file
    """
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode
    except FileNotFoundError:
        if target.parent.is_dir():
            return target
        raise FileError(f"{Path(path)}: there is no directory {target.parent}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise FileError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: cannot be written: it is a {_kind(mode)}, not a regular file")
    return target


def _beside(target: Path) -> Path:
    """A new name in the same directory; chosen before anything is made, so that it can be removed at any time."""
    return target.parent / f".{os.fsdecode(os.fsencode(target.name)[:200])}.{secrets.token_hex(6)}.tmp"


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


# -- reading ----------------------------------------------------------------------------------------------------------


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read bytes from.

    A FIFO would wait for somebody who writes, and a device may never end: what is no regular file is refused at once.

    Raises:
        OSError: it cannot be opened; a `FileError` where it is no regular file, or its name is none.

    Example:
        >>> open_regular("/dev/zero")
        Traceback (most recent call last):
        ...
        lucid.files.FileError: it is a character device, not a regular file
    """
    try:
        _require_regular(Path(path).stat().st_mode)  # opening a device may already do something
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except ValueError as error:  # a name with a null character
        raise FileError(str(error)) from None
    try:
        _require_regular(os.fstat(descriptor).st_mode)  # it may have been replaced meanwhile
        return cast("BinaryIO", os.fdopen(descriptor, "rb"))
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise FileError(f"it is a {_kind(mode)}, not a regular file")


# -- signals ----------------------------------------------------------------------------------------------------------


class _Ended(BaseException):
    """A signal whose default is to end the process came while a file was written."""


@contextlib.contextmanager
def _put_off_signals() -> Iterator[None]:
    """Let signals that would end the process on the spot end the body by an exception first, so that it clears away.

    Signals that the program handles are left to it. Only the main thread can do that, in Python.
    """
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)
        if len(came) == 1:  # a second one must not end the clearing away
            raise _Ended

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, note)
    try:
        yield
    except _Ended:
        if not came:  # it is that of a file, or a directory, that is being written around this one
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])  # which now ends the process, as whoever sent it expects
