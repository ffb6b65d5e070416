"""Saving and loading, in the safetensors format: tensors and plain data, nothing that runs when it is read.

A file is written beside its destination under another name and renamed when it is complete, so that a destination holds
either what it held before or all of the new, whatever happens in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lucid._safetensors import read_file
from lucid.backends import backend_for
from lucid.device import check_device, to_numpy
from lucid.dtypes import as_dtype
from lucid.tensor import Tensor, as_tensor

__all__ = ["FileError", "atomic_write", "load", "save"]

_TREE = "lucid.tree"
"""The entry of a file's metadata that holds the structure of what was saved, where it is more than a flat dict."""


class FileError(OSError):
    """A file that cannot be written, or that does not hold what it should."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the body ends without an error, and is removed when it does not.

    A symbolic link is followed: it stays, and its target is replaced. A file that exists keeps its mode. An error, an
    interruption or a signal that ends the process leaves nothing behind.

    Raises:
        FileError: the directory is missing, ``path`` is something else than a regular file (a device, a FIFO, a
            directory), or renaming failed.

    Example:
        >>> import lucid, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = pathlib.Path(folder, "a.txt")
        ...     with lucid.io.atomic_write(target) as path:
        ...         _ = path.write_text("whole")
        ...     target.read_text()
        'whole'
    """
    target = _target(path)
    temporary = target.parent / f".{target.name[:200]}.{secrets.token_hex(6)}.tmp"
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
            raise FileError(f"{target}: cannot be written: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)


def _target(path: str | os.PathLike[str]) -> Path:
    """The regular file that writing to ``path`` would make or replace: where its symbolic links lead.

    Raises:
        FileError: there is something else than a regular file, or the directory is missing.
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


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


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
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])  # which now ends the process, as whoever sent it expects


def save(obj: Any, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write ``obj`` to ``path`` in the safetensors format.

    Args:
        obj: a dict of names and tensors (or arrays), such as a ``state_dict``; or nested dicts and lists of tensors,
            numbers, text, booleans and None, such as an optimiser's.
        path: the file to make or to replace, whole or not at all.
        metadata: text to store with it.

    Raises:
        TypeError: ``obj`` holds something else.
        FileError: the file cannot be written; an earlier one is then untouched, and nothing is left behind.

    Source: https://github.com/huggingface/safetensors

    Example:
        >>> import lucid, os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "x.safetensors")
        ...     lucid.save({"x": lucid.ones(2)}, path)
        ...     lucid.load(path)
        {'x': tensor([1., 1.])}
    """
    numpy_format = _safetensors()
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    header = dict(metadata or {})
    if _is_flat(obj):
        for name, value in obj.items():
            arrays[name] = _storable(name, value)
    else:
        try:
            header[_TREE] = json.dumps(_flatten(obj, "", arrays))
        except RecursionError:
            raise TypeError("save: the object is nested too deeply, or holds itself") from None
    with atomic_write(path) as temporary:
        try:
            numpy_format.save_file(arrays, str(temporary), header or None)
        except OSError:
            raise
        except Exception as error:  # safetensors reports a full disk as an exception of its own
            raise FileError(f"{Path(path)}: cannot be written: {error}") from error


def load(path: str | os.PathLike[str], device: str = "cpu") -> Any:
    """What ``save`` wrote to ``path``, or any safetensors file as a dict of names and tensors. Nothing in it is
    executed.

    Args:
        path: the file.
        device: where its tensors are to lie, whatever device they were saved from.

    Raises:
        ValueError, RuntimeError: a device that is unknown or that nothing serves here.
        FileNotFoundError: there is no such file.
        FileError: it cannot be read, is no whole safetensors file, or holds a type of numbers that has no exact place
            among lucid's.

    bfloat16 and the 8-bit floats E4M3 and E5M2 become float32, which holds each of their values.

    Example: see ``save``.
    """
    source = Path(path)
    backend_for(check_device(device))
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file")
    try:
        arrays, metadata = read_file(source)
    except OSError as error:
        raise FileError(f"{source}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FileError(f"{source}: cannot be read as a safetensors file: {error}") from error
    try:
        tensors = {name: as_tensor(array, device=device) for name, array in arrays.items()}
        return _unflatten(json.loads(metadata[_TREE]), tensors) if _TREE in metadata else tensors
    except RecursionError:
        raise FileError(f"{source}: does not hold what lucid.save writes: it is nested too deeply") from None
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"{source}: does not hold what lucid.save writes: {error}") from error


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("lucid.save needs the package safetensors: pip install safetensors") from error
    return safetensors.numpy


def _is_flat(obj: Any) -> bool:
    return isinstance(obj, Mapping) and all(isinstance(k, str) and _is_array(v) for k, v in obj.items())


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _storable(name: str, value: Any) -> np.ndarray[Any, Any]:
    array = to_numpy(value._array) if isinstance(value, Tensor) else value
    try:
        dtype = as_dtype(array.dtype)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    return np.ascontiguousarray(array, dtype).reshape(array.shape)  # ascontiguousarray gives every array an axis


def _flatten(obj: Any, path: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """``obj`` as JSON, its tensors moved to ``arrays`` under their path in it."""
    if obj is None or isinstance(obj, bool | int | float | str):
        return ["value", obj]
    if _is_array(obj):
        name = path if path not in arrays else f"{path}#{len(arrays)}"  # a key may itself look like a path
        arrays[name] = _storable(path, obj)
        return ["tensor", name]
    if isinstance(obj, list | tuple):
        return [type(obj).__name__, [_flatten(item, f"{path}/{i}", arrays) for i, item in enumerate(obj)]]
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise TypeError(f"save: got the key {key!r} in {path or 'the top'}; may be text or an integer")
        return ["dict", [[key, _flatten(item, f"{path}/{key}", arrays)] for key, item in obj.items()]]
    raise TypeError(
        f"save: got {type(obj).__name__} at {path or 'the top'}; may be a tensor, a number, text, None, "
        "or a dict or list of these"
    )


def _unflatten(node: Any, tensors: dict[str, Tensor]) -> Any:
    kind, content = node
    if kind == "value":
        return content
    if kind == "tensor":
        return tensors[content]
    if kind in ("list", "tuple"):
        items = [_unflatten(item, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    raise ValueError(f"unknown kind {kind!r}")
