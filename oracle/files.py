"""Files: the one writer that everything goes through, and the one reader of JSON.

A file is written beside its destination and renamed when it is complete, so that the destination is either what it was
or all of the new. What is no regular file (a device, a FIFO, a directory) is refused; a symbolic link is followed, so
that the link stays and its target is replaced; a file that exists keeps its mode. Whatever ends the writing before its
time (an error, an interruption) leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from oracle.errors import UsageError

MOST_JSON_BYTES = 1 << 30  # of a document that is read; a verdict of the largest model has 10 MB


def writable(path: Path) -> Path:
    """The regular file that writing to ``path`` would make or replace: where a symbolic link leads, in the end.

    Raises:
        UsageError: it is something else than a regular file, its directory is missing, or its links go in a circle.

    Example:
        >>> writable(Path("/dev/null"))
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: cannot write /dev/null: it is a character device, not a regular file
    """
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode
    except FileNotFoundError:
        if target.parent.is_dir():
            return target
        raise UsageError(f"cannot write {path}: there is no directory {target.parent}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise UsageError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        raise UsageError(f"cannot write {path}: it is a {_kind(mode)}, not a regular file")
    return target


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def write_whole(path: Path, content: bytes, rename: Callable[[str, Path], None] = os.replace) -> None:
    """Write a file whole or not at all, as the head of this module says.

    Raises:
        UsageError: it cannot be written (no such directory, no permission, no regular file, a full disk); nothing is
            left behind.
    """
    target = writable(path)
    temporary = _beside(target)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)  # less the umask
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rename(str(temporary), target)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _beside(target: Path) -> Path:
    """A new name in the same directory; chosen before anything is made, so that it can be removed at any time."""
    return target.parent / f".{target.name[:200]}.{secrets.token_hex(6)}.tmp"


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A new directory beside ``target`` to fill, which is removed unless the body has renamed it.

    Raises:
        OSError: it cannot be made.
    """
    temporary = _beside(target)
    try:
        temporary.mkdir()
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_json(path: Path, what: str) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        what: begins the sentence of an error, such as ``"verdict"``.

    Raises:
        UsageError: it cannot be read, is larger than any such file, or no JSON, or nested too deeply.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_JSON_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{what}: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MOST_JSON_BYTES:
        raise UsageError(f"{what}: {path} is larger than {MOST_JSON_BYTES >> 20} MiB, which no {what} is")
    return parse_json(content, f"{what}: {path}")


def parse_json(content: bytes | str, where: str) -> Any:
    """The value that JSON text stands for.

    Raises:
        UsageError: it is no JSON, or nested too deeply.

    Example:
        >>> parse_json("[" * 100_000, "x.json")
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: x.json is nested too deeply to be read
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply to be read") from None
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}") from None
