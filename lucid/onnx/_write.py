"""Writing a model so that the output is replaced whole or not at all, and an interruption leaves nothing behind.

With external data there are two files: the data file is named by its content, so that it never takes the place of one
that an older model still needs; the model, renamed last, is what makes the new pair count; the older model's data is
removed after that. Exports into one directory take turns.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import onnx

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from lucid.files import atomic_write, writable

__all__ = ["write_model"]

Report = Callable[[int, int], None]  # bytes done, bytes in all

CHUNK_BYTES = 8 << 20
EXTERNAL_BYTES = 1024  # smaller tensors stay in the model, as in onnx's own writer
ALIGNMENT_BYTES = 4096  # lets a runtime map the tensors from the file


def write_model(
    model: onnx.ModelProto, path: str | os.PathLike[str], *, external_data: bool = False, report: Report | None = None
) -> list[Path]:
    """Write ``model`` to ``path`` and return the files written, the model first.

    Args:
        model: with all its tensors inside; with ``external_data`` they are taken out of it.
        path: the file to make or to replace.
        external_data: whether the weights go to a second file beside it, ``<name>.<hash>.data``.
        report: told of the progress.

    Raises:
        OSError: the file cannot be written; an older one is then as it was.

    Example:
        >>> import tempfile
        >>> import lucid
        >>> from lucid.graph import trace
        >>> from lucid.onnx import to_onnx, write_model
        >>> model = to_onnx(trace(lucid.nn.Linear(30, 20), lucid.ones((1, 30))))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [file.suffix for file in write_model(model, f"{folder}/linear.onnx", external_data=True)]
        ['.onnx', '.data']
    """
    target = writable(path)
    with _alone_in(target.parent):
        older_data = [file for file in _data_files(target) if _refers_to(target, file)]
        with contextlib.ExitStack() as undo:
            data = _write_data(model, target, undo, report) if external_data else None
            content = model.SerializeToString(deterministic=True)
            _write(target, _chunks(content), len(content), None if external_data else report)
            undo.pop_all()
        for old in older_data:
            if old != data:
                with contextlib.suppress(OSError):
                    old.unlink()
    return [target] if data is None else [target, data]


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Wait until no other export writes into ``directory``: of two at once, neither would know the other's data file.

    The directory itself is locked, so that no lock is left behind. A file system without locks has none.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(directory, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _write_data(model: onnx.ModelProto, target: Path, undo: contextlib.ExitStack, report: Report | None) -> Path:
    """Move the large tensors of ``model`` to a file of their own; ``undo`` removes it where no model needs it."""
    large = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= EXTERNAL_BYTES]
    contents = [tensor.raw_data for tensor in large]
    digest = hashlib.sha256()
    for chunk in _aligned(contents):
        digest.update(chunk)
    data = target.with_name(f"{target.name}.{digest.hexdigest()[:16]}.data")
    undo.callback(_remove_unless_used, data, target)
    _write(data, _aligned(contents), sum(len(content) + _padding(content) for content in contents), report)
    offset = 0
    for tensor, content in zip(large, contents, strict=True):
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", data.name), ("offset", str(offset)), ("length", str(len(content)))):
            tensor.external_data.add(key=key, value=value)
        offset += len(content) + _padding(content)
    return data


def _write(path: Path, chunks: Iterable[memoryview], total: int, report: Report | None) -> None:
    done = 0
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            done += len(chunk)
            if report is not None:
                report(done, total)


def _chunks(content: bytes) -> Iterator[memoryview]:
    view = memoryview(content)
    return (view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES))


def _aligned(contents: list[bytes]) -> Iterator[memoryview]:
    return (chunk for content in contents for part in (content, bytes(_padding(content))) for chunk in _chunks(part))


def _padding(content: bytes) -> int:
    return -len(content) % ALIGNMENT_BYTES


def _data_files(target: Path) -> list[Path]:
    """The data files that exports to ``target`` made."""
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{16}\.data")
    siblings = target.parent.iterdir() if target.is_file() else ()
    return [entry for entry in siblings if pattern.fullmatch(entry.name)]


def _refers_to(model: Path, data: Path) -> bool:
    return model.is_file() and data.name.encode() in model.read_bytes()


def _remove_unless_used(data: Path, model: Path) -> None:
    """Asks the model on the disk, which alone knows whether the rename happened before the interruption."""
    if not _refers_to(model, data):
        data.unlink(missing_ok=True)
