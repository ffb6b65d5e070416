"""Options that several commands share: where reports go, and how much is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from oracle.case.case import ARRAYS, PHOTOGRAPH, SEEDED
from oracle.errors import UsageError
from oracle.files import writable

Command = TypeVar("Command", bound=Callable[..., Any])
_REPORTS = {
    "json": "Write the whole verdict.",
    "junit": "Write JUnit XML, for Jenkins, GitLab and others.",
    "html": "Write a page to look at: one file, no network.",
}


def report_options(command: Command) -> Command:
    """Give a command ``--json``, ``--junit``, ``--html``, ``--all``, ``--worst`` and ``--quiet``.

    The command takes them as ``json_path``, ``junit_path``, ``html_path``, ``every``, ``worst`` and ``quiet``.
    """
    made: Any = command
    quiet = click.option("-q", "--quiet", is_flag=True, help="No tables and no progress: one sentence a subject.")
    worst = click.option(
        "--worst",
        type=click.IntRange(min=1),
        metavar="N",
        help="List the N tensors that used most of their budget. [default: 10, or what is out of line]",
    )
    every = click.option("--all", "every", is_flag=True, help="List every tensor.")
    made = every(worst(quiet(made)))
    for name, text in reversed(_REPORTS.items()):
        path = click.Path(path_type=Path)
        made = click.option(f"--{name}", f"{name}_path", type=path, metavar="FILE", help=text)(made)
    result: Command = made
    return result


def own_options(command: Command) -> Command:
    """Give a command ``--input-shape``, ``--tokens`` and ``--mirror``, of a model of one's own.

    The command takes them as ``shape``, ``tokens`` and ``mirror``.
    """
    made: Any = click.option(
        "--mirror",
        default="",
        metavar="MODULE:FACTORY",
        help="Of your own module of lucid the same in PyTorch, with parameters of the same names: a second origin.",
    )(command)
    made = click.option("--tokens", type=click.IntRange(min=0), default=0, help="Your model takes so many tokens.")(
        made
    )
    made = click.option(
        "--input-shape", "shape", callback=_shape, metavar="AxBxC", help="Of your model's input, such as 2x3x32x32."
    )(made)
    result: Command = made
    return result


def _shape(context: Any, parameter: Any, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    sides = text.replace(",", "x").split("x")
    if not all(side.isdigit() and int(side) > 0 for side in sides):
        raise UsageError(f"--input-shape: got {text!r}; may be sides such as 2x3x32x32")
    return tuple(map(int, sides))


def input_of(text: str) -> str | Path:
    """What ``--input`` says: a word, or the path of an array.

    Raises:
        UsageError: it is neither.
    """
    if text in (SEEDED, PHOTOGRAPH):
        return text
    if Path(text).suffix not in ARRAYS:
        raise UsageError(f"--input: got {text!r}; may be {SEEDED}, {PHOTOGRAPH}, or a file of {' or '.join(ARRAYS)}")
    return Path(text)


def names_option(command: Command) -> Command:
    """Give a command ``--names``."""
    made: Any = click.option(
        "--names",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="How to read names that are not the oracle's: a TOML or JSON object, theirs to ours, such as "
        '"encoder.conv1" = "stem.0", "encoder." = "" or "^stage(\\d)" = "layer\\1".',
    )(command)
    result: Command = made
    return result


def require_writable(**paths: Path | None) -> None:
    """Say now, not after minutes of work, that a report cannot be written where it is to go.

    Args:
        paths: by option, such as ``json=path``.

    Raises:
        UsageError: a path is no regular file, or its directory is missing; or two are the same file.
    """
    given = {name: path for name, path in paths.items() if path is not None}
    targets = set()
    for name, path in given.items():
        try:
            targets.add(writable(path))
        except UsageError as error:
            raise UsageError(f"--{name}: {error}") from None
    if len(targets) < len(given):
        raise UsageError(f"{', '.join(f'--{name}' for name in given)}: each report needs a file of its own")


class OutputConsole(Console):
    """Standard output (or error output), ``width`` columns wide where it is no terminal."""

    def __init__(self, width: int = 100, *, stderr: bool = False) -> None:
        super().__init__(highlight=False, stderr=stderr)
        if not self.is_terminal:
            super().__init__(highlight=False, stderr=stderr, width=width)

    def on_broken_pipe(self) -> None:
        """Leave it to the command's entry, which knows the status; rich itself would leave with 1, a disagreement."""
        raise
