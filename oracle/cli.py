"""The command ``lucid-oracle``.

Exit status: 0 agrees, 1 disagrees (a number is wrong), 2 it could not be done (wrong usage, an unreadable file, a
subject that could not finish, a full disk, a reader that left), 3 the oracle itself failed, 130 interrupted. Every
error but a failure of the oracle is one sentence on the standard error output.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lucid.console import DONE, FAILED, IMPOSSIBLE, INTERRUPTED, WRONG, CommandError, invoke, leave, run_command
from oracle.errors import UsageError

AGREES, DISAGREES, WRONG_USAGE = DONE, WRONG, IMPOSSIBLE
__all__ = ["AGREES", "DISAGREES", "FAILED", "INTERRUPTED", "WRONG_USAGE", "main", "run"]

NAME = "lucid-oracle"
_SMALLER = ("--image-size", "--batch", "--stored", "--model", "--mode")  # options that make do with less memory


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``lucid-oracle`` and leave with its exit status."""
    leave(lambda: run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run ``lucid-oracle`` and return its exit status.

    Example:
        >>> run(["check", "resnet51"])
        2
    """
    given = sys.argv[1:] if arguments is None else list(arguments)

    def body() -> int:
        try:
            import click  # noqa: F401 (its absence is told before anything else)

            from oracle.commands import command
        except ImportError as error:
            raise CommandError(
                f"the command needs {error.name} ({error}); install it with: pip install 'lucid-oracle[oracle]'"
            ) from None
        return invoke(command, NAME, given)

    return run_command(NAME, body, reported=(CommandError, UsageError), memory=lambda: _too_little_memory(given))


def _too_little_memory(arguments: Sequence[str]) -> str:
    """The sentence for want of memory, with those options of the command that make do with less."""
    from oracle.commands import command

    found = command.commands_named(arguments[:1])
    known = {option for each in found for parameter in each.params for option in parameter.opts}
    smaller = [option for option in _SMALLER if option in known]
    hint = f"; {' or '.join(smaller)} can make it less" if smaller else ""
    return f"the memory of this machine is not enough{hint}"


if __name__ == "__main__":
    main()
