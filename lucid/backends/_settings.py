"""What the environment asks for. Every ``LUCID_*`` variable is read here alone; what it says wrongly is one sentence.

========================= ==============================================================================
``LUCID_BACKEND``         what runs ``device="cpu"``
``LUCID_GPU_BACKEND``     what runs ``device="gpu"``
``LUCID_ISA``             the instruction set of the native kernels
``LUCID_NUM_THREADS``     how many threads the native kernels use; before it, ``OMP_NUM_THREADS``
``LUCID_CACHE_DIR``       where compiled CUDA kernels are kept
========================= ==============================================================================

A variable that is empty is as one that is not set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

MOST_THREADS = 1024
"""More than a machine has processors; each thread has a stack, and looks for work."""

THREADS = f"an integer of at least 1 and at most {MOST_THREADS}"

_applied = False


class SettingError(ValueError):
    """A variable of the environment that says what cannot be; the sentence names it, its value and what it may be."""


def choice(variable: str, known: Sequence[str], among: str = "") -> str | None:
    """What ``variable`` chooses of ``known``; None where it says nothing.

    Raises:
        SettingError: it names nothing of that.
    """
    given = os.environ.get(variable)
    if not given:
        return None
    if given not in known:
        raise SettingError(f"{variable}: got {given!r}; may be one of {', '.join(known)}{among}")
    return given


def threads() -> int | None:
    """How many threads the environment asks for; None where it leaves that open.

    ``OMP_NUM_THREADS`` is OpenMP's: of a list of numbers the first counts, and other text is passed over as there.

    Raises:
        SettingError: ``LUCID_NUM_THREADS`` is no such number, or ``OMP_NUM_THREADS`` is a number that is too large.
    """
    given = os.environ.get("LUCID_NUM_THREADS")
    if given:
        if not (given.strip().isdecimal() and given.isascii() and 1 <= _number(given) <= MOST_THREADS):
            raise SettingError(f"LUCID_NUM_THREADS: got {_short(given)}; may be {THREADS}")
        return _number(given)
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if not (given.isdecimal() and given.isascii()) or _number(given) == 0:
        return None
    if _number(given) > MOST_THREADS:
        raise SettingError(f"OMP_NUM_THREADS: got {_short(given)}; may be {THREADS} (or set LUCID_NUM_THREADS)")
    return _number(given)


def _number(text: str) -> int:
    """Of decimal digits; what has more than Python reads is too large anyhow."""
    digits = text.strip().lstrip("0")
    return int(digits or "0") if len(digits) < 10 else MOST_THREADS + 1


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "..")


def cache_directory() -> Path | None:
    """Where compiled kernels are to be kept; None where nothing is said.

    Raises:
        SettingError: there is something else than a directory.
    """
    given = os.environ.get("LUCID_CACHE_DIR")
    if not given:
        return None
    if "\0" in given or (Path(given).exists() and not Path(given).is_dir()):
        raise SettingError(
            f"LUCID_CACHE_DIR: got {given!r}, which is no directory; may be one, or a path to make one at"
        )
    return Path(given)


def extension() -> ModuleType:
    """The compiled extension, which has been told how many threads the environment asks for.

    Raises:
        ImportError: it was not built, or does not load.
        SettingError: the environment asks for a number of threads that cannot be.
    """
    global _applied
    import _lucid_native

    if not _applied:
        count = threads()
        if count is not None:
            _lucid_native.set_num_threads(count)
        _applied = True
    return _lucid_native
