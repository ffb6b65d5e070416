"""What ``lucid-oracle`` takes and does; `oracle.cli` runs it and words its failures.

A command is one module here whose ``command`` is a click command. It is imported when it is asked for, so that
``lucid-oracle golden list`` does not wait for PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click

from lucid.backends import SettingError, check_settings
from oracle.errors import UsageError

# Each command's one line of help stands here, so that ``lucid-oracle --help`` imports none of them.
_COMMANDS = {
    "check": "Run a model on every subject and judge every layer.",
    "compare": "Judge a file of tensors by a golden.",
    "kernel": "Check one kernel, on inputs that find faults, by budgets derived for them.",
    "reduce": "Reduce a model that disagrees to the few of its nodes that do.",
    "identify": "Name the arithmetic of an implementation, operation by operation.",
    "golden": "List, show or verify the stored truths.",
    "report": "Make a page, JUnit XML or a table of a verdict that was written as JSON.",
    "certify": "Run the goldens' digests on this machine and write its certificate.",
    "faults": "Put every fault of the catalogue into subjects, and see who catches it.",
    "vectors": "Write weights, inputs, the ONNX model, and a page that says what to dump.",
}


class _Lazy(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found: click.Command = import_module(f"oracle.commands.{cmd_name}").command
        return found

    def commands_named(self, names: Sequence[str]) -> list[click.Command]:
        """Those of the names that are commands."""
        found = (self.get_command(click.Context(self), name) for name in names)
        return [each for each in found if each is not None]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lucid-oracle")
def command() -> None:
    """Is this model right here, forward and backward, and if not, which layer goes wrong first?"""
    try:
        check_settings()
    except SettingError as error:
        raise UsageError(str(error)) from None
