"""CUDA kernels from source to machine code by NVRTC, when they are first asked for, and kept on disk.

CuPy could do that itself (``RawModule(code=...)``), but it adds ``-ftz=true`` behind the options it is given, and of
two the last counts: float32 subnormals would be flushed to zero, against section 1 of ARITHMETIC.md. So NVRTC is called
through CuPy's binding of it, and CuPy is given machine code.

A file of the cache is named after a hash of all that determines it: source, options, architecture, the compiler's
version. It is written beside and renamed, and begins with a hash of what follows: a run that is interrupted leaves a
whole file or none, several processes may write the same one, and a file that was damaged is made again. Without a
directory that can be written (``LUCID_CACHE_DIR``, or ``lucid`` in the user's cache) kernels are compiled in every run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from lucid.backends import _settings

FOLDER = Path(__file__).parent.parent / "kernels"
KERNELS = {path.name: path for path in sorted(FOLDER.glob("*/*.cu"))}
"""The files of CUDA kernels, each in its family's folder, by their names."""

OPTIONS = ("-std=c++17", "--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false")
"""No contraction, division and square root correctly rounded, subnormals kept: section 1 of ARITHMETIC.md."""

_DIGEST_BYTES = hashlib.sha256().digest_size


class KernelError(RuntimeError):
    """A kernel that does not compile or does not run; the sentence names it."""


@cache
def source(file: str) -> str:
    """The text of a kernel file with the project's headers in it; the compiler is told which line comes from where."""
    seen: set[Path] = set()

    def expand(path: Path) -> str:
        seen.add(path)
        lines = [f'#line 1 "{path.name}"']
        for number, line in enumerate(path.read_text().splitlines(), 1):
            include = re.match(r'#include "([^"]+)"', line)
            if line == "#pragma once":
                lines.append("")
            elif include is None:
                lines.append(line)
            elif include[1] == "emulate.h":  # for other compilers
                lines.append("")
            else:
                header = (path.parent / include[1]).resolve()
                if header not in seen:
                    lines.append(expand(header))
                lines.append(f'#line {number + 1} "{path.name}"')
        return "\n".join(lines)

    return expand(KERNELS[file].resolve()) + "\n"


def compile_error(file: str, log: str) -> KernelError:
    """What a compiler's log says, in a sentence with file and line."""
    found = re.search(r"^(?P<file>[^\s(]+)\((?P<line>\d+)\): (?:catastrophic )?error: (?P<what>.*)$", log, re.MULTILINE)
    if found is None:
        return KernelError(f"the CUDA kernels of {file} do not compile: {log.strip()}")
    return KernelError(f"a CUDA kernel does not compile: {found['file']}, line {found['line']}: {found['what']}")


class Compiler:
    """NVRTC for one GPU.

    Args:
        nvrtc: CuPy's binding, ``cupy.cuda.nvrtc``.
        capability: what the GPU can do, as 70, 80, 90.
    """

    def __init__(self, nvrtc: Any, capability: int) -> None:
        self._nvrtc = nvrtc
        self._version = nvrtc.getVersion()
        known = sorted(int(architecture) for architecture in nvrtc.getSupportedArchs())
        self._machine_code = capability in known
        """Else the GPU is newer than NVRTC: its driver translates what is made for the newest that both know."""
        older = [architecture for architecture in known if architecture <= capability]
        if not older:
            raise KernelError(
                f"this GPU has compute capability {capability / 10:.1f}; NVRTC {'.'.join(map(str, self._version))} "
                f"compiles for {known[0] / 10:.1f} and newer"
            )
        self._architecture = older[-1]

    def compiled(self, file: str, options: tuple[str, ...]) -> bytes:
        """The kernels of a file, from the cache where they are there.

        Raises:
            KernelError: they do not compile; the sentence names file and line.
        """
        text = source(file)
        options = (*options, f"--gpu-architecture={'sm' if self._machine_code else 'compute'}_{self._architecture}")
        name = hashlib.sha256(repr((text, options, self._version)).encode()).hexdigest() + ".cubin"
        kept = read(name)
        if kept is None:
            kept = self._compile(file, text, options)
            write(name, kept)
        return kept

    def _compile(self, file: str, text: str, options: tuple[str, ...]) -> bytes:
        program = self._nvrtc.createProgram(text, file, (), ())
        try:
            self._nvrtc.compileProgram(program, options)
            code: bytes = self._nvrtc.getCUBIN(program) if self._machine_code else self._nvrtc.getPTX(program)
            return code
        except self._nvrtc.NVRTCError as error:
            raise compile_error(file, self._nvrtc.getProgramLog(program)) from error
        finally:
            self._nvrtc.destroyProgram(program)


# -- the cache --------------------------------------------------------------------------------------------------------


def cache_directory() -> Path:
    """Where compiled kernels are kept."""
    chosen = _settings.cache_directory()
    if chosen is not None:
        return chosen
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lucid"


def read(name: str) -> bytes | None:
    """What ``write`` has kept under ``name``; None if there is nothing, or nothing whole."""
    try:
        content = (cache_directory() / name).read_bytes()
    except (OSError, RuntimeError):  # no file, no right to it, no home
        return None
    code = content[_DIGEST_BYTES:]
    return code if content[:_DIGEST_BYTES] == hashlib.sha256(code).digest() else None


def write(name: str, code: bytes) -> None:
    """Keep ``code`` under ``name``, if there is a place to keep it."""
    with contextlib.suppress(OSError, RuntimeError):
        directory = cache_directory()
        directory.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=name[:16] + ".", suffix=".partial", dir=directory)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            Path(beside).replace(directory / name)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
