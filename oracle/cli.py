"""The command ``lucid-oracle``.

Exit status: 0 agrees, 1 disagrees, 2 it could not be done (wrong usage, an unreadable file, a full disk), 3 the oracle
itself failed, 130 interrupted. Every error but a failure of the oracle is one sentence on the standard error output.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from oracle.errors import UsageError

AGREES, DISAGREES, WRONG_USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``lucid-oracle`` and leave with its exit status."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run ``lucid-oracle`` and return its exit status.

    Example:
        >>> run(["check", "resnet51"])
        2
    """
    try:
        import click

        from oracle.commands import command
    except ImportError as error:
        return _say(f"the command needs {error.name} ({error}); install it with: pip install 'lucid-oracle[oracle]'")
    try:
        status = command.main(
            args=None if arguments is None else list(arguments), prog_name="lucid-oracle", standalone_mode=False
        )
        return status if isinstance(status, int) else AGREES
    except click.ClickException as error:
        error.show()
        return WRONG_USAGE
    except UsageError as error:
        return _say(str(error))
    except MemoryError:
        return _say("the memory of this machine is not enough; a smaller --image-size or --batch needs less")
    except (KeyboardInterrupt, click.exceptions.Abort):
        return _say("interrupted", INTERRUPTED)
    except Exception:  # a defect of the oracle must not look like a disagreement
        traceback.print_exc()
        return FAILED


def _say(sentence: str, status: int = WRONG_USAGE) -> int:
    print(f"lucid-oracle: {' '.join(sentence.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
