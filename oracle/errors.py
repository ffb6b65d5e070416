"""The one exception whose text is meant for the person at the keyboard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lucid.console import visible


class UsageError(ValueError):
    """What was asked for cannot be done; the text is one sentence that says why, and what may be given instead.

    Names and messages in it may come from a file, so the sentence is made `visible`, and of one line.

    Example:
        >>> print(UsageError("weights: there is no 'fc\\x1b[31m'\\nin the file"))
        weights: there is no 'fc\\x1b[31m' in the file
    """

    def __init__(self, sentence: object) -> None:
        super().__init__(visible(" ".join(str(sentence).splitlines())))


def name_of(error: Exception) -> str:
    """Somebody else's exception in words; its own may be out of order too.

    Example:
        >>> name_of(KeyError("fc"))
        "KeyError: 'fc'"
    """
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


@contextlib.contextmanager
def foreign(sentence: str) -> Iterator[None]:
    """Run somebody else's code: whatever it raises becomes a `UsageError` that begins with ``sentence``.

    Example:
        >>> with foreign("subject: mine cannot be made"):
        ...     raise RuntimeError("no device")
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: subject: mine cannot be made: RuntimeError: no device
    """
    try:
        yield
    except (UsageError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"{sentence}: {name_of(error)}") from error
