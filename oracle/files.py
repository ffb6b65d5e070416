"""Files, with `UsageError` as their errors: one writer that every report and table goes through, one reader of JSON.

How they are written and opened is `lucid.files`: whole or not at all, and never a device or a FIFO.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lucid import files
from oracle.errors import UsageError

MOST_BYTES = 1 << 30  # of a document that is read; a verdict of the largest model has 10 MB


def writable(path: Path) -> Path:
    """The regular file that writing to ``path`` would make or replace: where a symbolic link leads, in the end.

    Raises:
        UsageError: it is something else than a regular file, its directory is missing, or its links go in a circle.

    Example:
        >>> writable(Path("/dev/null"))
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: /dev/null: cannot be written: it is a character device, not a regular file
    """
    try:
        return files.writable(path)
    except files.FileError as error:
        raise UsageError(error) from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, as `lucid.files.atomic_write` does.

    Raises:
        UsageError: it cannot be written (no such directory, no permission, no regular file, a full disk); nothing is
            left behind.
    """
    try:
        with files.atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except files.FileError as error:
        raise UsageError(error) from None


def read_bytes(path: Path, what: str) -> bytes:
    """What a file holds.

    Args:
        path: the file.
        what: begins the sentence of an error, such as ``"verdict"``.

    Raises:
        UsageError: it cannot be read, is no regular file, or is larger than any such file.
    """
    try:
        with files.open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{what}: cannot read {path}: {error.strerror or error}") from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{what}: {path} is larger than {MOST_BYTES >> 20} MiB, which no {what} is")
    return content


def read_json(path: Path, what: str) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        what: begins the sentence of an error, such as ``"verdict"``.

    Raises:
        UsageError: it cannot be read, is larger than any such file, or no JSON, or nested too deeply.
    """
    return parse_json(read_bytes(path, what), f"{what}: {path}")


def record_lines(document: dict[str, Any]) -> bytes:
    """JSON text with one record a line: each item of the document, and each entry of an item that holds several.

    Example:
        >>> print(record_lines({"format": "x 1", "rows": [{"a": 1, "b": [2]}, {"a": 3}]}).decode(), end="")
        {
        "format": "x 1",
        "rows": [
        {"a": 1, "b": [2]},
        {"a": 3}
        ]
        }
    """

    def text(value: Any) -> str:
        if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
            return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(part)}" for key, part in value.items()) + "\n}"
        if isinstance(value, list) and any(isinstance(part, dict) for part in value):
            return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        return json.dumps(value)

    return (
        "{\n" + ",\n".join(f"{json.dumps(key)}: {text(value)}" for key, value in document.items()) + "\n}\n"
    ).encode()


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
