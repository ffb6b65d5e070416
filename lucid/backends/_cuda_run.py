"""Who runs the CUDA kernels: a GPU through CuPy, or the emulator on NumPy arrays.

Both are told the same thing, a kernel by file and name, a grid, a block and the arguments, so what is proven of one
holds for the other. Arguments are arrays (pointers), None (a null pointer), Python's ``int`` ``float`` ``bool`` (int64,
float64, bool), NumPy's scalars, and structures (``_cuda_source.structure``).
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from lucid.backends._cuda_compile import OPTIONS, Compiler, KernelError

Size = tuple[int, int, int]

_NULL = np.uint64(0)
TYPE_NAMES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


class Launch(NamedTuple):
    """A kernel of a file, compiled for a dtype and with ``defines``; how many blocks of how many threads; and what for.

    A kernel's name alone says what its defines are. ``declared`` is the name under which the source has its parameters,
    where many kernels are made of one text.
    """

    file: str
    kernel: str
    dtype: Any
    grid: Size
    block: int
    arguments: tuple[Any, ...]
    defines: tuple[str, ...] = ()
    declared: str = ""


def options_for(launch: Launch) -> tuple[str, ...]:
    """What NVRTC is told, but for the architecture."""
    return *OPTIONS, f"-DLUCID_T={TYPE_NAMES[launch.dtype]}", *(f"-D{define}" for define in launch.defines)


class DeviceMemoryError(MemoryError):
    """The device has no room for an array. What was computed before is as it was, and work can go on."""


def size_text(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"


class Executor(ABC):
    """Runs kernels on arrays of ``xp``."""

    xp: ModuleType
    multiprocessors: int

    @abstractmethod
    def run(self, launch: Launch) -> None:
        """Start a kernel."""

    @abstractmethod
    def address(self, x: Any) -> int:
        """Where the array lies."""

    def capture(self, launches: Sequence[Launch]) -> Any:
        """A function that runs ``launches`` (the arguments of ``run``), which have run before, again."""

        def replay() -> None:
            for launch in launches:
                self.run(launch)

        return replay


class CupyExecutor(Executor):
    """A GPU. Modules are compiled when a kernel of theirs is first asked for (``_cuda_compile``)."""

    def __init__(self) -> None:
        try:
            import cupy
        except Exception as error:
            raise ImportError(
                f"CuPy did not load ({_in_short(error)}); pip install 'lucid-oracle[gpu]' brings it"
            ) from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise ImportError(f"CuPy found no NVIDIA GPU ({_in_short(error)})") from error
        if count == 0:
            raise ImportError("CuPy found no NVIDIA GPU")
        self.xp = cupy
        device = cupy.cuda.Device()
        self.multiprocessors = int(device.attributes["MultiProcessorCount"])
        try:
            self._compiler = Compiler(cupy.cuda.nvrtc, int(device.compute_capability))
        except KernelError as error:
            raise ImportError(str(error)) from error
        except Exception as error:
            raise ImportError(f"CuPy found no NVRTC ({_in_short(error)})") from error
        self._modules: dict[tuple[Any, ...], Any] = {}
        self._functions: dict[tuple[Any, ...], Any] = {}
        self._allocator = cupy.cuda.get_allocator()
        cupy.cuda.set_allocator(self._allocate)

    def _allocate(self, size: int) -> Any:
        try:
            return self._allocator(size)
        except self.xp.cuda.memory.OutOfMemoryError:  # CuPy's pool has given back what it could, and tried again
            raise self._full(f"for {size_text(size)} more") from None

    def _full(self, what: str) -> DeviceMemoryError:
        free, total = self.xp.cuda.runtime.memGetInfo()
        held = self.xp.get_default_memory_pool().used_bytes()
        return DeviceMemoryError(
            f"the GPU has no room {what}: this program's arrays hold {size_text(held)}, and {size_text(free)} of its "
            f"{size_text(total)} are free"
        )

    def run(self, launch: Launch) -> None:
        key = launch.kernel, launch.dtype
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = self._function(launch)
        arguments = tuple(_NULL if argument is None else argument for argument in launch.arguments)
        try:
            function(launch.grid, (launch.block, 1, 1), arguments)
        except self.xp.cuda.driver.CUDADriverError as error:
            raise self._driver_error(error, f"{launch.file}: kernel {launch.kernel!r} does not start") from error

    def address(self, x: Any) -> int:
        return int(x.data.ptr)

    def _function(self, launch: Launch) -> Any:
        key = launch.file, launch.dtype, launch.defines
        if key not in self._modules:
            code = self._compiler.compiled(launch.file, options_for(launch))
            module = self.xp.cuda.function.Module()
            try:
                module.load(code)
            except self.xp.cuda.driver.CUDADriverError as error:
                raise self._driver_error(error, f"{launch.file}: the driver does not take its kernels") from error
            self._modules[key] = module
        return self._modules[key].get_function(launch.kernel)

    def _driver_error(self, error: Exception, what: str) -> Exception:
        """What the driver says, as an error of lucid's."""
        if "OUT_OF_MEMORY" in str(error):
            return self._full(f"({what})")
        return KernelError(f"{what}: {_in_short(error)}")

    def capture(self, launches: Sequence[Launch]) -> Any:
        stream = self.xp.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                for launch in launches:
                    self.run(launch)
            finally:
                graph = stream.end_capture()
        graph.upload(stream)
        return graph.launch  # on the stream that is current when it is called


def _in_short(error: Exception) -> str:
    """One line of an error's text: CuPy frames some of its own with advice, the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    cause = next((number for number, line in enumerate(lines[:-1]) if line.startswith("Original error")), -1)
    return lines[cause + 1] if lines else type(error).__name__


class EmulatedExecutor(Executor):
    """The kernels as C++ (``lucid/kernels/cuda/emulate.h``), run at once, on NumPy arrays."""

    xp = np
    multiprocessors = 4  # few, so that small work is cut in pieces, too

    def __init__(self) -> None:
        spec = importlib.util.find_spec("_lucid_emulated")
        if spec is None or spec.origin is None:
            raise ImportError("it is not built by default; install lucid with -C cmake.define.LUCID_EMULATED=ON")
        self._library = ctypes.CDLL(spec.origin)
        self._library.lucid_emulated_signature.restype = ctypes.c_char_p
        self._lock = threading.Lock()  # shared memory of the emulation is there once

    def run(self, launch: Launch) -> None:
        name = f"{TYPE_NAMES[launch.dtype]} {launch.kernel}"
        signature = self._library.lucid_emulated_signature(name.encode())
        if signature is None:
            raise KernelError(f"{launch.file}: no kernel {name!r} was built for the emulator")
        values = [_value(argument) for argument in launch.arguments]
        given, wanted = [_spelling(argument) for argument in launch.arguments], signature.decode().split()
        same = [g == w or (g == "p" and w[0] == "p") for g, w in zip(given, wanted, strict=False)]
        if len(given) != len(wanted) or not all(same):
            raise KernelError(f"{launch.file}: {name!r} takes {' '.join(wanted)}; it was given {' '.join(given)}")
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = (ctypes.c_uint * 3)(*launch.grid), (ctypes.c_uint * 3)(launch.block, 1, 1)
        with self._lock:
            parted = self._library.lucid_emulated_run(name.encode(), *sizes, pointers)
        if parted:
            raise KernelError(f"{launch.file}: {name!r} has a barrier that not all threads of a block reach")

    def address(self, x: Any) -> int:
        return int(x.ctypes.data)


def _spelling(argument: Any) -> str:
    """As emulate.h spells parameters: p and the type for a pointer, s and the size for a structure."""
    if argument is None:
        return "p"
    if isinstance(argument, np.ndarray) and argument.dtype.kind != "V":
        return "p" + _spelling(argument.dtype.type())
    if isinstance(argument, np.ndarray):
        return f"s{argument.itemsize}"
    dtype = np.asarray(argument).dtype
    return ("u" if dtype.kind == "b" else dtype.kind) + str(dtype.itemsize)


def _value(argument: Any) -> Any:
    """An array that holds what is passed: the argument itself, or the address of an array's data."""
    if argument is None:
        return np.zeros((), np.uint64)
    if isinstance(argument, np.ndarray) and argument.dtype.kind != "V":
        return np.array(argument.ctypes.data, np.uint64)
    return np.asarray(argument)
