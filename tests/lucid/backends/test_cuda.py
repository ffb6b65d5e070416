"""The CUDA kernels without a GPU: emulated, bit for bit, however a contraction is cut; and compiled by NVRTC.

What the emulated backend computes otherwise is judged where every backend is (test_bits.py, test_models_bits.py and
others); these tests are of what is CUDA's alone. In the tox environment ``emulated`` nothing of it may be missing.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import nvrtc
from support.bits import assert_same_bits, bits
from support.families import FAMILIES, OnHost, named
from support.strict import strict, traffic

import lucid
import lucid.nn.functional as F
from lucid import backends
from lucid.backends import _cuda_compile, _cuda_contraction, _cuda_cut, _cuda_run, available_backends, cuda, get_backend
from lucid.backends._cuda_compile import KERNELS, source
from lucid.backends._cuda_cut import SOURCES
from lucid.backends._cuda_run import Launch, options_for
from lucid.kernels.elementwise.functions import FUNCTIONS
from lucid.kernels.optimizer.rules import RULES
from lucid.models import ResNet
from lucid.models.blocks import PreActBottleneck

DEMANDED = "emulated" in os.environ.get("LUCID_TEST_BACKENDS", "")
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
FILES = sorted(KERNELS)
ARCHITECTURES = (70, 80, 90, 100)
CONTRACTIONS = ("matmul", "linear", "conv2d", "conv2d_input_grad", "conv2d_weight_grad")


@pytest.fixture
def emulated() -> Any:
    try:
        return get_backend("emulated")
    except RuntimeError as error:
        if DEMANDED:
            raise
        pytest.skip(str(error))


def compiler_for(architecture: int) -> nvrtc.Nvrtc:
    found = nvrtc.for_architecture(architecture)
    if found is None:
        if DEMANDED:
            raise RuntimeError(
                f"no NVRTC for sm_{architecture} is installed: pip install nvidia-cuda-nvrtc-cu12==12.9.86"
            )
        pytest.skip(f"no NVRTC for sm_{architecture} is installed")
    return found


@pytest.fixture
def compiler() -> nvrtc.Nvrtc:
    return compiler_for(80)


def the_launch(file: str, dtype: Any, kernel: str = "", defines: tuple[str, ...] = ()) -> Launch:
    return Launch(file, kernel, dtype, (1, 1, 1), 1, (), defines)


def contraction(name: str, tile: str, packs: tuple[str, str], dtype: Any) -> Launch:
    return the_launch("contraction.cu", dtype, defines=(f"LUCID_CONTRACT=contract,{name},{tile},{','.join(packs)}",))


# -- emulated --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [32, 4, 1])
@pytest.mark.parametrize("name", CONTRACTIONS)
def test_no_cut_changes_a_bit(emulated: Any, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int) -> None:
    for seed in range(12):
        call = FAMILIES[name](np.random.default_rng([seed, chunk, *name.encode()]))
        expected = dict(named(call(get_backend("reference"))))
        for tile in range(max(map(len, _cuda_cut.TILES.values()))):

            def forced(m: int, n: int, k: int, batch: int, itemsize: int, tile: int = tile) -> _cuda_cut.Cut:
                tiles = _cuda_cut.TILES[itemsize]
                return _cuda_cut.cut(tiles[tile % len(tiles)], chunk, k)

            monkeypatch.setattr(emulated, "_cut", forced)
            assert_same_bits(dict(named(call(emulated))), expected, f"{name}, seed {seed}, tile {tile}, chunk {chunk}")


def test_a_block_that_takes_several_matrices(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a grid's third size: a barrier parts the tiles of one matrix from those of the next."""
    monkeypatch.setattr(_cuda_contraction, "MOST_GRID", 2)
    rng = np.random.default_rng(0)
    for k in (16, 48, 300):
        a, b = rng.standard_normal((7, 20, k)), rng.standard_normal((7, k, 9))
        assert bits(emulated.matmul(a, b)) == bits(get_backend("reference").matmul(a, b))


@pytest.mark.parametrize("k", [1, 31, 32, 33, 256, 300, 8192, 9000])
def test_sums_that_vanish_keep_their_sign(emulated: Any, k: int) -> None:
    """Every product is below the smallest subnormal: runs end as -0, and so must what is made of them."""
    a, b = np.full((3, k), -1e-30, np.float32), np.full((k, 5), 1e-30, np.float32)
    expected = get_backend("reference").matmul(a, b)
    assert np.signbit(expected).all()
    for tile in _cuda_cut.TILES[4]:
        for chunk in (32, 1):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(emulated, "_cut", lambda m, n, k, *_, t=tile, c=chunk: _cuda_cut.cut(t, c, k))
                assert bits(emulated.matmul(a, b)) == bits(expected)


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("k", [0, 1, 256, 257, 4608, 8192, 8193, 100352, 1605632])
@pytest.mark.parametrize(("m", "n"), [(64, 64), (32, 1000), (1568, 512), (401408, 64)])
def test_a_cut_covers_all_segments(m: int, n: int, k: int, itemsize: int) -> None:
    cut = _cuda_cut.best_cut(m, n, k, 1, itemsize, 132)
    segments = _cuda_cut.ceil_div(k, _cuda_cut.SEGMENT)
    assert cut.chunks * cut.chunk >= segments
    if cut.slots == 0:  # the sum of a group is made in place, a sum of groups never
        assert cut.chunks == 1
        assert segments <= _cuda_cut.GROUP
        return
    slots = 0
    for chunk in range(cut.chunks):
        first = chunk * cut.chunk
        slots += 1 if first % _cuda_cut.GROUP == 0 else min(cut.chunk, segments - first)
    assert cut.slots == slots
    assert cut.slots * m * n * itemsize <= _cuda_cut.MOST_SLOT_BYTES or cut.chunk == _cuda_cut.GROUP


@pytest.fixture
def on_strict_arrays(emulated: Any) -> Iterator[str]:
    """``"gpu"`` is the CUDA backend on arrays that are no NumPy arrays, and that count who reads them."""
    with lucid.use_backend("strict_cuda", "gpu"):
        yield "strict_cuda"


@pytest.mark.parametrize("name", FAMILIES)
def test_launches_touch_arrays_through_their_own_library(on_strict_arrays: str, name: str) -> None:
    backend = OnHost(get_backend(on_strict_arrays))
    for seed in range(12):
        call = FAMILIES[name](np.random.default_rng([seed, *name.encode()]))
        expected = dict(named(call(get_backend("reference"))))
        assert_same_bits(dict(named(call(backend))), expected, f"{name}, seed {seed}")


def test_a_train_step_and_a_plan_never_wait(on_strict_arrays: str) -> None:
    def step(device: str) -> tuple[dict[str, Any], Any]:
        lucid.manual_seed(4)
        model = ResNet(PreActBottleneck, [1, 1], 5, stem_width=4, channels=(3, 4)).to(device)
        optimizer = lucid.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        x = lucid.random.randn(2, 3, 32, 32).to(device)
        target = lucid.tensor([1, 3], device=device)
        with traffic() as seen:
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(model(x), target).backward()
                optimizer.step()
        assert seen.waits == []
        plan = lucid.compile(model.eval(), x)
        plan(x)
        with traffic() as seen:
            planned = plan(x)
        assert seen.waits == []
        return {name: value.numpy() for name, value in model.state_dict().items()}, planned.numpy()

    (state, planned), (expected, eager) = step("gpu"), step("cpu")
    assert_same_bits(state, expected)
    assert_same_bits({"planned": planned}, {"planned": eager})


# -- compiled --------------------------------------------------------------------------------------------------------


def check_resources(kernels: dict[str, nvrtc.Resources], threads: int, resident: int = 1) -> None:
    """As many blocks as were meant find room, with shared memory that needs no asking for."""
    assert kernels
    for name, needs in kernels.items():
        assert 0 < needs.registers <= 255, name
        assert -(-needs.registers // 8) * 8 * threads * resident <= REGISTERS, name
        assert needs.shared <= STATIC_SHARED, name
        assert needs.shared * resident <= LEAST_SHARED, name


REGISTERS = 65536  # of a multiprocessor
STATIC_SHARED, LEAST_SHARED = 48 << 10, 96 << 10  # bytes of a block, and what the smallest multiprocessor (sm_70) has


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", [file for file in FILES if file != "contraction.cu"])
def test_every_kernel_compiles(file: str, architecture: int) -> None:
    text = KERNELS[file].read_text()
    declared = set(re.findall(r"^KERNEL\((\w+),", text, re.MULTILINE))
    declared |= {f"compare_{name}" for name in re.findall(r"^COMPARE\((\w+),", text, re.MULTILINE)}
    if file == "elementwise.cu":  # it has one for every function of printed_names.h, too
        declared |= {kernel_of(f) for f in FUNCTIONS.values()}
    if file == "optimizer.cu":  # and one for every rule
        declared |= {f"update_{name}" for name in RULES}
    for dtype in DTYPES:
        kernels = compiler_for(architecture).resources(source(file), options_for(the_launch(file, dtype)), architecture)
        assert set(kernels) == declared
        check_resources(kernels, cuda.THREADS)
        assert {name: needs.spilled for name, needs in kernels.items() if needs.spilled > SAVED} == {}


WHOLE = 90  # the architecture for which both widths of loads are compiled


def all_contractions(name: str, tiles: list[str], switches: tuple[str, ...]) -> str:
    """contraction.cu with many instances of a source in it, so that they compile at once.

    ``switches`` are the alignments of both factors: whether they can be read four at a time.
    """
    mark, text = "#ifdef LUCID_CONTRACT ", source("contraction.cu")
    assert text.count(mark) == 1
    instances = [
        f"CONTRACT(contract_{tile}_{aligned}, {name}, {tile}, {aligned}, {aligned})"
        for tile in tiles
        for aligned in switches
    ]
    return text.replace(mark, "\n".join([*instances, mark]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SOURCES)
def test_every_contraction_compiles(name: str, dtype: Any, architecture: int) -> None:
    """On one architecture loads of either width; on the others what a network of even channels runs, since the rest
    differs from it in the width of its loads alone, and takes seconds to compile. (The emulator has every pair.)"""
    switches = ("true", "false") if architecture == WHOLE else ("true",)
    tiles = {tile.name: tile for tile in _cuda_cut.TILES[dtype.itemsize]}
    text, launch = all_contractions(name, list(tiles), switches), the_launch("contraction.cu", dtype)
    kernels = compiler_for(architecture).resources(text, options_for(launch), architecture)
    check_resources({"combine_chunks": kernels.pop("combine_chunks")}, cuda.THREADS)
    assert len(kernels) == len(switches) * len(tiles)
    for kernel, needs in kernels.items():
        tile = tiles[kernel.split("_")[1]]
        check_resources({kernel: needs}, tile.threads, tile.resident)
        if kernel.endswith("true"):  # what a network of even channels runs
            assert needs.spilled <= (0 if tile.name == "LARGE" else MOST_SPILLED[architecture]), (kernel, needs)


SAVED = 32  # bytes a thread that are put aside while a division is called
MOST_SPILLED = {70: 128, 80: 128, 90: 64, 100: 64}  # bytes a thread, outside of the loop over k


def operations(ptx: str) -> list[tuple[str, str]]:
    """Every operation on floats: the kernel it stands in, and its name with all that says how it rounds."""
    found = []
    for kernel in ptx.split(".entry ")[1:]:
        name = kernel.partition("(")[0].strip()
        found += [(name, operation) for operation in re.findall(r"\s((?:\w+)(?:\.\w+)*\.f(?:32|64))\s", kernel)]
    return found


def breaches(ptx: str) -> list[str]:
    """What in a file's PTX the law does not allow: something approximate, flushed, free to be fused, or fused."""
    bad = [word for word in (".approx", ".ftz", ".sat") if word in ptx]
    for kernel, operation in operations(ptx):
        kind, *how = operation.split(".")
        if kind in ("add", "sub", "mul", "div", "sqrt", "rcp", "fma", "mad", "rsqrt", "ex2", "lg2") and how[0] != "rn":
            bad.append(f"{kernel}: {operation}")
        if kind in ("fma", "mad") and kernel not in WITH_FMA:
            bad.append(f"{kernel}: {operation}")
    return bad


def kernel_of(function: Any) -> str:
    """The kernel that computes a function of each element."""
    return f"{('unary', 'binary')[function.__code__.co_argcount - 1]}_{function.__name__}"


def has_fma(function: Any) -> bool:
    """Whether an expression of the law has an fma in it, or in what it calls."""
    names = function.__code__.co_names
    called = [function.__globals__.get(name) for name in names if name in function.__globals__]
    return "fma" in names or any(has_fma(each) for each in called if hasattr(each, "__code__"))


WITH_FMA = {
    *("sgd", "contract", "combine_chunks", "normalize", "batch_norm_grad", "power"),
    *(kernel_of(function) for function in FUNCTIONS.values() if has_fma(function)),
}
"""The kernels in which the law has an fma: the optimiser, contractions and what follows them, normalisation, powers,
and some elementary functions."""


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("file", FILES)
def test_ptx_rounds_as_the_law_does(compiler: nvrtc.Nvrtc, file: str, dtype: Any) -> None:
    launch = (
        contraction("FORWARD", "SMALL", ("true", "true"), dtype)
        if file == "contraction.cu"
        else the_launch(file, dtype)
    )
    ptx = compiler.compile(source(file), options_for(launch), 80, machine_code=False).decode()
    assert operations(ptx)
    assert breaches(ptx) == []


@pytest.mark.parametrize("option", ["--fmad=true", "--prec-div=false", "--ftz=true"])
def test_a_wrong_option_is_a_breach(compiler: nvrtc.Nvrtc, option: str) -> None:
    launch = the_launch("elementwise.cu", DTYPES[0])
    ptx = compiler.compile(source(launch.file), (*options_for(launch), option), 80, machine_code=False).decode()
    assert breaches(ptx)


def test_a_kernel_that_does_not_compile_names_its_file_and_line(compiler: nvrtc.Nvrtc) -> None:
    broken = source("elementwise.cu").replace("+ exp64(-x));", "+ exp46(-x));")
    assert broken != source("elementwise.cu")
    with pytest.raises(nvrtc.CompileError) as error:
        compiler.compile(broken, options_for(the_launch("elementwise.cu", DTYPES[0])), 80)
    text = KERNELS["elementwise.cu"].with_name("printed.h").read_text().splitlines()
    line = 1 + next(number for number, line in enumerate(text) if "+ exp64(-x));" in line)
    said = str(_cuda_compile.compile_error("elementwise.cu", str(error.value)))
    assert said == f'a CUDA kernel does not compile: printed.h, line {line}: identifier "exp46" is undefined'


# -- faults ----------------------------------------------------------------------------------------------------------


def test_arguments_are_checked_against_the_kernel(emulated: Any) -> None:
    x = np.ones(4, np.float32)
    with pytest.raises(
        _cuda_run.KernelError, match=r"elementwise.cu: 'float unary_neg' takes i8 pf4 pf4; it was given i8 pf8"
    ):
        emulated._run("elementwise.cu", "unary_neg", x.dtype, (1, 1, 1), 4, x.astype(float), x)


class FakeNvrtc:
    """As much of ``cupy.cuda.nvrtc`` as is asked for: NVRTC through tests/support/nvrtc.py, or a failure with a log."""

    class NVRTCError(Exception):
        pass

    def __init__(
        self, log: str = "", architectures: tuple[int, ...] = (70, 80, 90), real: nvrtc.Nvrtc | None = None
    ) -> None:
        self.log, self.architectures, self.real = log, architectures, real
        self.compiled: list[tuple[str, ...]] = []
        self.programs: list[str] = []

    def getVersion(self) -> tuple[int, int]:  # noqa: N802 (its names there)
        return 12, 9

    def getSupportedArchs(self) -> list[int]:  # noqa: N802
        return list(self.architectures)

    def createProgram(self, text: str, name: str, headers: Any, names: Any) -> int:  # noqa: N802
        self.programs.append(text)
        return len(self.programs)

    def compileProgram(self, program: int, options: tuple[str, ...]) -> None:  # noqa: N802
        self.compiled.append(options)
        if self.log:
            raise self.NVRTCError
        if self.real is not None:
            *others, architecture = options
            kind, number = architecture.rpartition("=")[2].split("_")
            self.code = self.real.compile(self.programs[program - 1], tuple(others), int(number), kind == "sm")
        else:
            self.code = f"{kind_of(options)} of {len(self.programs[program - 1])} characters".encode()

    def getCUBIN(self, program: int) -> bytes:  # noqa: N802
        return self.code

    getPTX = getCUBIN  # noqa: N815

    def getProgramLog(self, program: int) -> str:  # noqa: N802
        return self.log

    def destroyProgram(self, program: int) -> None:  # noqa: N802
        self.programs[program - 1] = ""


def kind_of(options: tuple[str, ...]) -> str:
    return options[-1].rpartition("=")[2]


class FakeCupy(SimpleNamespace):
    """As much of CuPy as meets a fault: its pool is ``room`` bytes, its driver fails with ``fault``."""

    class OutOfMemoryError(MemoryError):
        pass

    class CUDADriverError(RuntimeError):
        pass

    def __init__(
        self, room: int = 0, log: str = "", fault: str = "", architectures: tuple[int, ...] = (70, 80, 90)
    ) -> None:
        def malloc(size: int) -> str:
            if size > room:
                raise self.OutOfMemoryError
            return f"{size} bytes"

        def load(code: bytes) -> None:
            self.loaded.append(code)
            if fault:
                raise self.CUDADriverError(fault)

        def launch(*arguments: Any) -> None:
            self.launched.append(arguments)

        self.loaded: list[bytes] = []
        self.launched: list[Any] = []
        module = SimpleNamespace(load=load, get_function=lambda name: launch)
        pool = SimpleNamespace(malloc=malloc, used_bytes=lambda: 3 << 30)
        super().__init__(
            cuda=SimpleNamespace(
                runtime=SimpleNamespace(
                    getDeviceCount=lambda: 1, memGetInfo=lambda: (1 << 20, 80 << 30), CUDARuntimeError=RuntimeError
                ),
                driver=SimpleNamespace(CUDADriverError=self.CUDADriverError),
                Device=lambda: SimpleNamespace(attributes={"MultiProcessorCount": 132}, compute_capability="90"),
                memory=SimpleNamespace(OutOfMemoryError=self.OutOfMemoryError),
                nvrtc=FakeNvrtc(log, architectures),
                function=SimpleNamespace(Module=lambda: module),
                get_allocator=lambda: malloc,
                set_allocator=lambda allocate: setattr(self, "allocate", allocate),
            ),
            get_default_memory_pool=lambda: pool,
        )


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of kernels."""
    monkeypatch.setenv("LUCID_CACHE_DIR", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


@pytest.fixture
def a_gpu(cached: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeCupy]:
    def make(**options: Any) -> FakeCupy:
        fake = FakeCupy(**options)
        monkeypatch.setitem(sys.modules, "cupy", fake)  # type: ignore[arg-type]
        return fake

    return make


def test_a_full_device_is_an_error_that_names_the_sizes(a_gpu: Callable[..., FakeCupy]) -> None:
    fake = a_gpu(room=1000)
    _cuda_run.CupyExecutor()
    with pytest.raises(_cuda_run.DeviceMemoryError) as error:
        fake.allocate(2 << 30)
    assert str(error.value) == (
        "the GPU has no room for 2.00 GiB more: this program's arrays hold 3.00 GiB, and 1.00 MiB of its 80.00 GiB "
        "are free"
    )
    assert isinstance(error.value, MemoryError)
    assert fake.allocate(1000) == "1000 bytes"  # and work goes on


class Room:
    """Lets the array library of the strict devices make so many arrays, then none, as a full GPU would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.made = 0
        for name in ("empty", "empty_like", "zeros", "ascontiguousarray"):
            monkeypatch.setattr(strict, name, self._limited(getattr(strict, name)))

    def _limited(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def limited(*arguments: Any, **options: Any) -> Any:
            self.made += 1
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise _cuda_run.DeviceMemoryError("the GPU has no room for 2.00 GiB more")
            return make(*arguments, **options)

        return limited


def test_a_step_that_found_no_room_is_run_again(on_strict_arrays: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(monkeypatch)
    lucid.manual_seed(4)
    model = ResNet(PreActBottleneck, [1, 1], 5, stem_width=4, channels=(3, 4)).to("gpu")
    optimizer = lucid.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    x, target = lucid.random.randn(2, 3, 32, 32).to("gpu"), lucid.tensor([1, 3], device="gpu")

    def gradients() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()

    def state() -> dict[str, Any]:
        return {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    gradients()
    optimizer.step()
    before = {name: value.copy() for name, value in state().items()}
    room.made = 0
    gradients()
    needed = room.made
    expected = {name: p.grad.numpy() for name, p in model.named_parameters()}
    assert needed > 100
    for left in (0, 1, 5, needed // 4, needed // 2, needed - 20, needed - 1):
        model.load_state_dict({name: lucid.tensor(value) for name, value in before.items()})
        room.left = left
        with pytest.raises(_cuda_run.DeviceMemoryError, match=r"no room for 2\.00 GiB more"):
            gradients()
        room.left = None
        after = state()
        assert_same_bits({n: after[n] for n in expected}, {n: before[n] for n in expected})
        model.load_state_dict({name: lucid.tensor(value) for name, value in before.items()})
        gradients()
        assert_same_bits(
            {name: p.grad.numpy() for name, p in model.named_parameters()}, expected, f"{left} of {needed}"
        )


def test_a_plan_that_found_no_room_is_made_again(on_strict_arrays: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plan needs it takes when it is made: then it runs, however full the GPU is."""
    room = Room(monkeypatch)
    model = ResNet(PreActBottleneck, [1, 1], 5, stem_width=4, channels=(3, 4)).to("gpu").eval()
    x = lucid.random.randn(2, 3, 32, 32).to("gpu")
    expected = model(x).numpy()
    room.made = 0
    lucid.compile(model, x)
    needed = room.made
    for left in (0, 1, 2, needed // 2, needed - 1):
        room.left = left
        with pytest.raises(_cuda_run.DeviceMemoryError):
            lucid.compile(model, x)
        room.left = None
        plan = lucid.compile(model, x)
        room.left = 0
        for _ in range(2):
            assert bits(plan(x).numpy()) == bits(expected)


def test_a_driver_that_fails_names_the_kernels(a_gpu: Callable[..., FakeCupy]) -> None:
    launch = the_launch("normalize.cu", DTYPES[0], "normalize")
    a_gpu(fault="CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    with pytest.raises(
        _cuda_run.DeviceMemoryError, match=r"no room \(normalize.cu: .*\): .* 1.00 MiB of its 80.00 GiB are free"
    ):
        _cuda_run.CupyExecutor().run(launch)
    a_gpu(fault="CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid")
    with pytest.raises(
        _cuda_run.KernelError, match=r"normalize.cu: the driver does not take its kernels: CUDA_ERROR_INVALID"
    ):
        _cuda_run.CupyExecutor().run(launch)


def test_a_kernel_that_the_gpu_cannot_compile_is_an_error_that_names_it(a_gpu: Callable[..., FakeCupy]) -> None:
    a_gpu(log="normalize.cu(12): error: expected a ;\n")
    with pytest.raises(_cuda_run.KernelError, match=r"does not compile: normalize.cu, line 12: expected a ;$"):
        _cuda_run.CupyExecutor().run(the_launch("normalize.cu", DTYPES[0], "normalize"))


def test_a_plan_is_captured_as_a_graph(a_gpu: Callable[..., FakeCupy]) -> None:
    fake, said = a_gpu(), []

    class Stream:
        def __init__(self, non_blocking: bool) -> None:
            assert non_blocking

        def __enter__(self) -> None:
            said.append("enter")

        def __exit__(self, *_: Any) -> None:
            said.append("exit")

        def begin_capture(self) -> None:
            said.append("begin")

        def end_capture(self) -> Any:
            said.append(f"end after {len(fake.launched)}")
            return SimpleNamespace(upload=lambda stream: said.append("upload"), launch=lambda: said.append("launch"))

    fake.cuda.Stream = Stream
    executor, launch = _cuda_run.CupyExecutor(), the_launch("normalize.cu", DTYPES[0], "normalize")
    executor.run(launch)
    again = executor.capture([launch, launch])
    assert said == ["enter", "begin", "end after 3", "exit", "upload"]
    again()
    again()
    assert said[5:] == ["launch", "launch"]
    assert len(fake.launched) == 3
    broken = launch._replace(kernel="other")
    executor._functions["other", DTYPES[0]] = lambda *_: (_ for _ in ()).throw(FakeCupy.CUDADriverError("INVALID"))
    with pytest.raises(_cuda_run.KernelError, match=r"normalize.cu: kernel 'other' does not start: INVALID"):
        executor.capture([broken])
    assert said[-2:] == ["end after 3", "exit"]  # no stream is left capturing


def test_a_gpu_is_given_what_was_made_for_it(a_gpu: Callable[..., FakeCupy]) -> None:
    for architectures, kind in (((70, 80, 90), "sm_90"), ((70, 80), "compute_80"), ((70, 100), "compute_70")):
        fake = a_gpu(architectures=architectures)
        executor = _cuda_run.CupyExecutor()
        for _ in range(2):
            executor.run(the_launch("normalize.cu", DTYPES[0], "normalize")._replace(arguments=(None, 3)))
        assert [kind_of(options) for options in fake.cuda.nvrtc.compiled] == [kind]
        assert fake.loaded[0].startswith(kind.encode())
        assert fake.launched == [((1, 1, 1), (1, 1, 1), (0, 3))] * 2
    a_gpu(architectures=(100, 120))
    with pytest.raises(ImportError, match=r"compute capability 9.0; NVRTC 12.9 compiles for 10.0 and newer"):
        _cuda_run.CupyExecutor()


# -- the cache of compiled kernels ------------------------------------------------------------------------------------


def compiled_by(fake: FakeNvrtc, capability: int = 90, dtype: Any = DTYPES[0]) -> bytes:
    launch = the_launch("normalize.cu", dtype)
    return _cuda_compile.Compiler(fake, capability).compiled(launch.file, options_for(launch))


def test_kernels_are_compiled_once_for_each_thing_that_determines_them(cached: Path) -> None:
    fake = FakeNvrtc()
    codes = [compiled_by(fake, *which) for which in ((90,), (80,), (90, DTYPES[1]), (90,))]
    assert codes[0] == codes[3]
    assert len(fake.compiled) == len(list(cached.iterdir())) == 3
    fake.getVersion = lambda: (13, 0)  # type: ignore[method-assign]
    compiled_by(fake)
    assert len(fake.compiled) == 4
    assert "--ftz=false" in fake.compiled[0]
    assert not [option for options in fake.compiled for option in options if "ftz=true" in option]


def test_a_damaged_file_is_made_again(cached: Path) -> None:
    fake = FakeNvrtc()
    code = compiled_by(fake)
    (file,) = cached.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:10], whole[:-1], whole + b"x", b"x" + whole[1:]):
        file.write_bytes(damaged)
        assert compiled_by(fake) == code
        assert file.read_bytes() == whole
    assert len(fake.compiled) == 6


def test_a_run_that_is_interrupted_leaves_no_file(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    fake = FakeNvrtc()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compiled_by(fake)
    assert list(cached.iterdir()) == []
    compiled_by(fake)
    assert len(list(cached.iterdir())) == 1


KILLED = """
import os, sys
from lucid.backends import _cuda_compile
written = os.fdopen
def half(handle, mode):
    file = written(handle, mode)
    write = file.write
    def stop(content):
        write(content[: len(content) // 2]); file.flush(); os._exit(9)
    class Half:
        def __enter__(self): return self
        def __exit__(self, *_): pass
        write = staticmethod(stop)
    return Half()
if sys.argv[1] == "killed":
    os.fdopen = half
for _ in range(50):
    _cuda_compile.write("kernel", b"code" * 100_000)
    assert _cuda_compile.read("kernel") == b"code" * 100_000
"""


def test_processes_that_write_at_once_or_are_killed_leave_whole_files(cached: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}

    def together(how: str) -> list[int]:
        command = [sys.executable, "-c", KILLED, how]
        return [run.wait() for run in [subprocess.Popen(command, env=environment) for _ in range(4)]]

    assert together("killed") == [9] * 4
    assert _cuda_compile.read("kernel") is None
    assert together("whole") == [0] * 4
    assert together("killed") == [9] * 4
    assert _cuda_compile.read("kernel") == b"code" * 100_000


def test_without_a_place_for_a_cache_kernels_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("LUCID_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    fake = FakeNvrtc()
    assert compiled_by(fake) == compiled_by(fake)
    assert len(fake.compiled) == 2


def test_the_cache_is_the_users_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUCID_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert _cuda_compile.cache_directory() == Path("/somewhere/lucid")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _cuda_compile.cache_directory() == Path.home() / ".cache/lucid"


def test_what_is_kept_is_machine_code(cached: Path, compiler: nvrtc.Nvrtc) -> None:
    fake = FakeNvrtc(architectures=(80,), real=compiler)
    assert compiled_by(fake, 80).startswith(b"\x7fELF")
    assert b".version" in compiled_by(fake, 90)  # PTX, for a driver to translate


ASKED_OF_CUPY = """
    ndarray empty empty_like zeros full asarray asnumpy ascontiguousarray broadcast_to expand_dims moveaxis where take
    stack concatenate arange argsort any argmax get_default_memory_pool __version__
    cuda.get_allocator cuda.set_allocator cuda.memory.OutOfMemoryError cuda.Device cuda.driver.CUDADriverError
    cuda.runtime.CUDARuntimeError cuda.runtime.getDeviceCount cuda.runtime.memGetInfo cuda.function.Module.load
    cuda.function.Module.get_function cuda.Stream.begin_capture cuda.Stream.end_capture cuda.Graph.upload
    cuda.Graph.launch cuda.Event cuda.get_elapsed_time cuda.nvrtc.createProgram cuda.nvrtc.compileProgram
    cuda.nvrtc.getCUBIN cuda.nvrtc.getPTX cuda.nvrtc.getProgramLog cuda.nvrtc.destroyProgram cuda.nvrtc.NVRTCError
"""


@pytest.fixture
def real_cupy() -> Any:
    """CuPy can be loaded without a GPU: its interfaces are there, and its binding of NVRTC works."""
    if DEMANDED:
        return importlib.import_module("cupy")
    return pytest.importorskip("cupy")


def test_cupy_has_what_is_asked_of_it(real_cupy: Any) -> None:
    for name in ASKED_OF_CUPY.split():
        attrgetter(name)(real_cupy)
    pool = real_cupy.get_default_memory_pool()
    assert callable(pool.used_bytes)
    assert callable(pool.total_bytes)


def test_kernels_compile_through_cupys_binding(real_cupy: Any, cached: Path) -> None:
    binding = real_cupy.cuda.nvrtc
    assert compiled_by(binding, 80).startswith(b"\x7fELF")
    assert b".version" in compiled_by(binding, 999)
    broken = _cuda_compile.Compiler(binding, 80)
    with pytest.raises(
        _cuda_compile.KernelError, match=r"a CUDA kernel does not compile: device.cuh, line \d+: identifier"
    ):
        broken.compiled("normalize.cu", ("-DLUCID_T=nothing", *_cuda_compile.OPTIONS))


def test_no_gpu_is_one_sentence(real_cupy: Any) -> None:
    if "cuda" in available_backends():
        pytest.skip("there is a GPU")
    with pytest.raises(
        RuntimeError, match=r"^the 'cuda' backend cannot run here: CuPy found no NVIDIA GPU \([^\n]+\)$"
    ):
        get_backend("cuda")


def test_every_module_is_listed(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the families launch is on the list from which tools/verify_gpu.sh compiles beforehand."""
    launched: set[Any] = set()
    run = emulated._executor.run
    monkeypatch.setattr(
        emulated._executor, "run", lambda launch: (launched.add((launch.file, options_for(launch))), run(launch))[1]
    )
    for name, draw in FAMILIES.items():
        for seed in range(12):
            draw(np.random.default_rng([seed, *name.encode()]))(emulated)
    listed = list(cuda.every_module())
    assert len(set(listed)) == len(listed)
    assert len(launched) > 30
    assert launched - set(listed) == set()


def test_cupys_own_options_would_flush_subnormals(compiler: nvrtc.Nvrtc) -> None:
    """Why ``RawModule`` is not asked to compile: it appends this to any options, and the last one counts."""
    launch = the_launch("elementwise.cu", DTYPES[0])
    ptx = compiler.compile(source(launch.file), (*options_for(launch), "-ftz=true"), 80, machine_code=False)
    assert b"add.rn.ftz.f32" in ptx or b"add.ftz.f32" in ptx


def test_without_cupy_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(backends._loaded, "cuda", raising=False)  # where there is a GPU, it may be there
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"^the 'cuda' backend cannot run here: CuPy did not load .*; pip install"):
        get_backend("cuda")
