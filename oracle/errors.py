"""The one exception whose text is meant for the person at the keyboard."""

from __future__ import annotations

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
