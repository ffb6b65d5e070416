"""What the commands ``lucid-export`` and ``lucid-oracle`` have in common: how they end, and how they print names.

- Whatever a command raises becomes an exit status and one sentence on the standard error output (`run_command`).
- Names come from files, and a file may hold anything: `visible` is what is printed of them.

Exit status: 0 done, 1 a number is wrong, 2 it could not be done, 3 a defect of the command itself, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

__all__ = [
    "DONE",
    "FAILED",
    "IMPOSSIBLE",
    "INTERRUPTED",
    "WRONG",
    "CommandError",
    "invoke",
    "leave",
    "run_command",
    "visible",
]

DONE, WRONG, IMPOSSIBLE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130

_UNPRINTABLE = re.compile(r"[^ -~]")  # ASCII is decided at once; of the rest, Unicode's categories decide


class CommandError(ValueError):
    """What was asked for on the command line cannot be done; the text is one sentence."""


def visible(text: str) -> str:
    r"""The text with everything escaped that is not printed as itself.

    Control characters (a terminal obeys them), bidirectional marks (they turn the text around), characters without
    width, lone surrogates, and spaces other than the usual one become ``\x1b``, ``\u202e`` and the like.

    Example:
        >>> visible("layer\x1b[2J\u202e.1"), visible("grün")
        ('layer\\x1b[2J\\u202e.1', 'grün')
    """
    return _UNPRINTABLE.sub(
        lambda found: found[0] if found[0].isprintable() else found[0].encode("unicode_escape").decode("ascii"), text
    )


def run_command(
    name: str,
    body: Callable[[], int],
    *,
    reported: tuple[type[Exception], ...] = (CommandError,),
    interrupted: str = "interrupted",
    memory: Callable[[], str] = lambda: "the memory of this machine is not enough",
) -> int:
    """Run a command; whatever it raises becomes an exit status and one sentence on the standard error output.

    Args:
        name: of the command, which the sentence begins with.
        body: runs it and returns its exit status.
        reported: exceptions whose text is meant for the user.
        interrupted: the sentence for Control-C and a polite kill.
        memory: the sentence where the memory is not enough.

    Returns:
        The body's status; or `IMPOSSIBLE`, `INTERRUPTED`, or, of any other exception, which is a defect, `FAILED`.

    Example:
        >>> run_command("example", lambda: 0)
        0
        >>> import contextlib, io
        >>> with contextlib.redirect_stderr(io.StringIO()):
        ...     run_command("example", lambda: open("/no/such/file").fileno())
        2
    """
    with _interruptible():
        try:
            status = body()
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk is noticed here, not by the interpreter on its way out
            return status
        except KeyboardInterrupt:
            return say(name, interrupted, INTERRUPTED)
        except SystemExit as ended:  # somebody's own module, which the command was told to run
            return say(name, f"something that it ran ended the process with {ended.code!r}")
        except reported as error:
            return say(name, str(error))
        except ImportError as error:
            return say(name, f"{error}; install what is missing with: pip install 'lucid-oracle[oracle]'")
        except BrokenPipeError:
            return say(name, "whoever read the output left before its end")
        except OSError as error:
            return say(name, f"{error.filename}: {error.strerror}" if error.filename else _words(error))
        except MemoryError:
            return say(name, memory())
        except Exception as error:  # a defect of the command must look like no verdict
            if "can't allocate memory" in str(error):  # PyTorch has no exception of its own for it
                return say(name, memory())
            with contextlib.suppress(OSError):
                traceback.print_exc()
            return FAILED
        finally:
            _let_go(sys.stdout)
            _let_go(sys.stderr)


def leave(run: Callable[[], int]) -> None:
    """Run a command as the whole process: leave with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal has not
    sys.exit(run())


def say(name: str, sentence: str, status: int = IMPOSSIBLE) -> int:
    """Print a sentence on the standard error output, if anybody can be told, and return the status."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"{name}: {visible(' '.join(sentence.split()))}", file=sys.stderr, flush=True)
    return status


def invoke(command: Any, name: str, arguments: Sequence[str] | None) -> int:
    """Run a click command with these arguments (by default the process's) and return its exit status.

    Raises:
        CommandError: click does not accept the arguments.
        KeyboardInterrupt: it was interrupted.
    """
    import click

    given = sys.argv[1:] if arguments is None else list(arguments)
    if any("\0" in each for each in given):  # click's own checks of paths would end in a traceback
        raise CommandError("an argument holds a null character, which no name has")
    if f"_{name.upper().replace('-', '_')}_COMPLETE" in os.environ:
        command.main(given, prog_name=name)  # a shell asks what may come next
    try:
        with command.make_context(name, given) as context:
            status = command.invoke(context)
            return status if isinstance(status, int) else DONE
    except click.exceptions.Exit as ended:  # --help, --version
        return ended.exit_code
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else name
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
            click.echo(error.format_message(), err=True)
            return IMPOSSIBLE
        raise CommandError(f"{error.format_message().rstrip('.')} (see {where} --help)") from None
    except click.ClickException as error:
        raise CommandError(error.format_message()) from None


def _words(error: OSError) -> str:
    return f"it cannot be done: {error.strerror or error}"


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A polite kill is an interruption as any other: what was begun is cleared away."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()  # signals can be handled there alone
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP) if in_main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _let_go(stream: Any) -> None:
    """Forget what a stream could not write: the interpreter would try again on its way out, and spoil the status."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
            stream.flush()
