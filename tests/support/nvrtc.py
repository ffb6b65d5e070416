"""NVRTC, the compiler that CuPy uses at run time, called by hand: it needs no GPU.

It is found in the package ``nvidia-cuda-nvrtc-cu12`` or ``nvidia-cuda-nvrtc``, or where ``LUCID_NVRTC`` says.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple


def libraries() -> list[Path]:
    """Every NVRTC that is installed here."""
    named = os.environ.get("LUCID_NVRTC")
    if named:
        return [Path(named)]
    nvidia = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (nvidia.submodule_search_locations or [])] if nvidia else []
    return sorted(path for root in roots for path in root.glob("*/lib/libnvrtc.so.*") if ".alt" not in path.name)


class CompileError(Exception):
    """The compiler's log."""


class Resources(NamedTuple):
    """What a kernel needs of a multiprocessor: registers a thread, bytes of them that do not fit, shared memory."""

    registers: int
    spilled: int
    shared: int


class Nvrtc:
    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} returned {code}")

    def architectures(self) -> list[int]:
        """Those that it compiles for, as 70, 75, ..."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        return list(numbers)

    def compile(self, source: str, options: tuple[str, ...], architecture: int, machine_code: bool = True) -> bytes:
        """Machine code (a cubin) or PTX.

        Raises:
            CompileError: it does not compile.
        """
        return self._compile(source, options, architecture, machine_code)[0]

    def resources(self, source: str, options: tuple[str, ...], architecture: int) -> dict[str, Resources]:
        """What each kernel needs, as the assembler tells it."""
        _, log = self._compile(source, (*options, "--ptxas-options=-v"), architecture, True)
        found = {}
        for part in log.split("Compiling entry function '")[1:]:
            numbers = [
                re.search(rf"{words}", part)
                for words in (r"Used (\d+) reg", r"(\d+) bytes spill st", r"(\d+) bytes smem")
            ]
            registers, spilled, shared = (int(number[1]) if number else 0 for number in numbers)
            found[part.partition("'")[0]] = Resources(registers, spilled, shared)
        return found

    def _compile(
        self, source: str, options: tuple[str, ...], architecture: int, machine_code: bool
    ) -> tuple[bytes, str]:
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        kind = "sm" if machine_code else "compute"
        given = [option.encode() for option in (*options, f"--gpu-architecture={kind}_{architecture}")]
        failed = self._library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
        if failed:
            raise CompileError(self._text(program, "nvrtcGetProgramLog").decode())
        code = self._text(program, "nvrtcGetCUBIN" if machine_code else "nvrtcGetPTX")
        log = self._text(program, "nvrtcGetProgramLog").decode()
        self._call("nvrtcDestroyProgram", ctypes.byref(program))
        return code, log

    def _text(self, program: ctypes.c_void_p, name: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"{name}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(name, program, text)
        return text.raw.rstrip(b"\0") if "CUBIN" not in name else text.raw


@cache
def compilers() -> tuple[Nvrtc, ...]:
    """Every NVRTC here."""
    return tuple(Nvrtc(path) for path in libraries())


def for_architecture(architecture: int) -> Nvrtc | None:
    """One that compiles for it: an architecture that a newer toolkit has dropped may be an older one's."""
    return next((compiler for compiler in compilers() if architecture in compiler.architectures()), None)
