"""Progress of long work, on the standard error output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A function that is told each step: a spinner with the step on a terminal, one line a step elsewhere."""
    if quiet:
        yield lambda message: None
        return
    console = Console(stderr=True)
    with console.status("starting") as status:

        def step(message: str) -> None:
            status.update(message)
            if not console.is_terminal:
                console.print(message, highlight=False)

        yield step
