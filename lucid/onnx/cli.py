"""The command ``lucid-export``: a model by name to a file for other runtimes.

Exit status: 0 done, 1 the verification disagrees, 2 it could not be done (wrong usage, bad weights, full disk), 130
interrupted. Every error is one sentence on the standard error output.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from lucid.onnx._need import need

DISAGREES, FAILED, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``lucid-export`` and leave with its exit status."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run ``lucid-export`` and return its exit status.

    Example:
        >>> from lucid.onnx.cli import run
        >>> run(["--onnx", "resnet_18", "--opset", "1"])
        2
    """
    in_main = threading.current_thread() is threading.main_thread()  # signals can be handled there alone
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP) if in_main}
    try:
        for package in ("click", "rich", "onnx"):
            need(package, "lucid-export")
        from lucid.onnx._command import invoke

        return invoke(arguments)
    except KeyboardInterrupt:
        return _fail("interrupted; no file is left half-written", INTERRUPTED)
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("the memory of this machine is not enough for this model")
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A polite kill is an interruption as any other: what was begun is cleared away."""
    raise KeyboardInterrupt


def _fail(sentence: str, status: int = FAILED) -> int:
    print(f"lucid-export: {' '.join(sentence.split())}", file=sys.stderr)
    return status
