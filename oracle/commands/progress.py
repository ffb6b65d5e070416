"""Progress of long work, on the standard error output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.markup import escape

from lucid.console import visible
from oracle.commands.options import OutputConsole


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A function that is told each step: a spinner with the step on a terminal, one line a step elsewhere."""
    if quiet:
        yield lambda message: None
        return
    console = OutputConsole(stderr=True)
    with console.status("starting") as status:

        def step(message: str) -> None:
            text = escape(visible(message))  # it names subjects and cases
            status.update(text)
            if not console.is_terminal:
                console.print(text, soft_wrap=True)

        yield step
