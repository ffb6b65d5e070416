"""The command ``lucid-export``: a model by name to a file for other runtimes.

Exit status: 0 done, 1 the verification disagrees, 2 it could not be done (wrong usage, bad weights, full disk), 3 the
command itself failed, 130 interrupted. Every error but the command's own is one sentence on the standard error output.
"""

from __future__ import annotations

from collections.abc import Sequence

from lucid.console import FAILED, IMPOSSIBLE, INTERRUPTED, WRONG, invoke, leave, run_command
from lucid.onnx._need import need

__all__ = ["DISAGREES", "FAILED", "IMPOSSIBLE", "INTERRUPTED", "main", "run"]

DISAGREES = WRONG
NAME = "lucid-export"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``lucid-export`` and leave with its exit status."""
    leave(lambda: run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run ``lucid-export`` and return its exit status.

    Example:
        >>> from lucid.onnx.cli import run
        >>> run(["--onnx", "resnet_18", "--opset", "1"])
        2
    """

    def body() -> int:
        for package in ("click", "rich", "onnx"):
            need(package, NAME)
        return invoke(need("lucid.onnx._command", NAME).command, NAME, arguments)

    return run_command(
        NAME,
        body,
        reported=(ValueError, TypeError, RuntimeError, ImportError),
        interrupted="interrupted; no file is left half-written",
        memory=lambda: "the memory of this machine is not enough for this model; a smaller --image-size may do",
    )
