"""The CUDA kernels without a GPU: emulated, bit for bit, however a contraction is cut; and compiled by NVRTC.

What the emulated backend computes otherwise is judged where every backend is (test_bits.py, test_models_bits.py and
others); these tests are of what is CUDA's alone. In the tox environment ``emulated`` nothing of it may be missing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
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
from lucid.backends import BACKENDS, Known, _cuda_cut, _cuda_run, _loaded, cuda, get_backend
from lucid.backends._cuda_run import KERNELS, Launch, options_for, source
from lucid.backends.cuda import CudaBackend
from lucid.models import ResNet
from lucid.models.blocks import PreActBottleneck

DEMANDED = "emulated" in os.environ.get("LUCID_TEST_BACKENDS", "")
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
FILES = sorted(path.name for path in KERNELS.glob("*.cu"))
ARCHITECTURES = (70, 80, 90, 100)
CONTRACTIONS = ("matmul", "linear", "conv2d", "conv2d_input_grad", "conv2d_weight_grad")
SOURCES = ("FORWARD", "INPUT_GRAD", "WEIGHT_GRAD", "MATMUL_NN", "MATMUL_NT", "MATMUL_TN", "MATMUL_TT")


@pytest.fixture
def emulated() -> Any:
    try:
        return get_backend("emulated")
    except RuntimeError as error:
        if DEMANDED:
            raise
        pytest.skip(str(error))


@pytest.fixture
def compiler() -> nvrtc.Nvrtc:
    found = nvrtc.newest()
    if found is None:
        if DEMANDED:
            raise RuntimeError("NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12")
        pytest.skip("NVRTC is not installed")
    return found


def the_launch(file: str, dtype: Any, kernel: str = "", defines: tuple[str, ...] = ()) -> Launch:
    return Launch(file, kernel, dtype, (1, 1, 1), 1, (), defines)


def contraction(name: str, tile: str, packs: tuple[str, str], dtype: Any) -> Launch:
    return the_launch("gemm.cu", dtype, defines=(f"LUCID_CONTRACT=contract,{name},{tile},{','.join(packs)}",))


# -- emulated --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [32, 4, 1])
@pytest.mark.parametrize("tile", [0, 1, 2])
def test_no_cut_changes_a_bit(emulated: Any, monkeypatch: pytest.MonkeyPatch, tile: int, chunk: int) -> None:
    def forced(m: int, n: int, k: int, batch: int, itemsize: int) -> _cuda_cut.Cut:
        tiles = _cuda_cut.TILES[itemsize]
        return _cuda_cut.cut(tiles[tile % len(tiles)], chunk, k)

    monkeypatch.setattr(emulated, "_cut", forced)
    for name in CONTRACTIONS:
        for seed in range(12):
            call = FAMILIES[name](np.random.default_rng([seed, chunk, *name.encode()]))
            expected = dict(named(call(get_backend("reference"))))
            assert_same_bits(dict(named(call(emulated))), expected, f"{name}, seed {seed}, tile {tile}, chunk {chunk}")


def test_a_block_that_takes_several_matrices(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a grid's third size: a barrier parts the tiles of one matrix from those of the next."""
    monkeypatch.setattr(cuda, "MOST_GRID", 2)
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


class StrictExecutor(_cuda_run.EmulatedExecutor):
    """The emulator on arrays that are no NumPy arrays, as CuPy's are not, and that count who reads them."""

    xp = strict

    def run(self, launch: Launch) -> None:
        super().run(launch._replace(arguments=tuple(self._inside(argument) for argument in launch.arguments)))

    def address(self, x: Any) -> int:
        return super().address(self._inside(x))

    @staticmethod
    def _inside(x: Any) -> Any:
        assert not isinstance(x, np.ndarray) or x.dtype.kind == "V", "a host's array given to a kernel"
        return x._array if isinstance(x, strict.ndarray) else x


class StrictCuda(CudaBackend):
    name = "strict cuda"

    def _make_executor(self) -> StrictExecutor:
        return StrictExecutor()


@pytest.fixture
def on_strict_arrays(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(BACKENDS, "strict cuda", Known(__name__, "StrictCuda", ("gpu",), unasked=False))
    monkeypatch.setitem(_loaded, "strict cuda", StrictCuda())
    with lucid.use_backend("strict cuda", "gpu"):
        yield "strict cuda"


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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_every_kernel_compiles(compiler: nvrtc.Nvrtc, file: str, architecture: int) -> None:
    if architecture not in compiler.architectures():
        pytest.skip(f"this NVRTC knows {compiler.architectures()}")
    launches = [the_launch(file, dtype) for dtype in DTYPES]
    if file == "gemm.cu":
        launches += [contraction(name, "LARGE", ("true", "true"), DTYPES[0]) for name in SOURCES]
    for launch in launches:
        assert compiler.compile(source(file), options_for(launch), architecture)


@pytest.mark.parametrize("tile", ["LARGE", "NARROW", "SMALL"])
@pytest.mark.parametrize("name", SOURCES)
def test_every_contraction_compiles(compiler: nvrtc.Nvrtc, name: str, tile: str) -> None:
    for packs in (("true", "true"), ("false", "false")):
        for dtype in DTYPES if tile == "SMALL" else DTYPES[:1]:
            launch = contraction(name, tile, packs, dtype)
            assert compiler.compile(source("gemm.cu"), options_for(launch), 80, machine_code=False)


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


WITH_FMA = ("sgd", "contract", "combine_chunks", "normalize", "batch_norm_grad")
"""The kernels in which the law has an fma: the optimiser, contractions and what follows them, normalisation."""


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("file", FILES)
def test_ptx_rounds_as_the_law_does(compiler: nvrtc.Nvrtc, file: str, dtype: Any) -> None:
    launch = contraction("FORWARD", "SMALL", ("true", "true"), dtype) if file == "gemm.cu" else the_launch(file, dtype)
    ptx = compiler.compile(source(file), options_for(launch), 80, machine_code=False).decode()
    assert len(operations(ptx)) > 10
    assert breaches(ptx) == []


@pytest.mark.parametrize("option", ["--fmad=true", "--prec-div=false", "--ftz=true"])
def test_a_wrong_option_is_a_breach(compiler: nvrtc.Nvrtc, option: str) -> None:
    launch = the_launch("elementwise.cu", DTYPES[0])
    ptx = compiler.compile(source(launch.file), (*options_for(launch), option), 80, machine_code=False).decode()
    assert breaches(ptx)


def test_a_kernel_that_does_not_compile_names_its_file_and_line(compiler: nvrtc.Nvrtc) -> None:
    broken = source("norm.cu").replace("return 1.0 / (1.0 + exp64(-x));", "return 1.0 / (1.0 + exp46(-x));")
    assert broken != source("norm.cu")
    with pytest.raises(nvrtc.CompileError) as error:
        compiler.compile(broken, options_for(the_launch("norm.cu", DTYPES[0])), 80)
    text = (KERNELS.parent / "functions.h").read_text().splitlines()
    line = 1 + next(number for number, line in enumerate(text) if "double sigmoid64" in line)
    said = str(_cuda_run.compile_error("norm.cu", str(error.value)))
    assert said == f'a CUDA kernel does not compile: functions.h, line {line}: identifier "exp46" is undefined'


# -- faults ----------------------------------------------------------------------------------------------------------


def test_arguments_are_checked_against_the_kernel(emulated: Any) -> None:
    x = np.ones(4, np.float32)
    with pytest.raises(
        _cuda_run.KernelError, match=r"elementwise.cu: 'float unary' takes i4 i8 pf4 pf4; it was given i4 i8 pf8"
    ):
        emulated._run("elementwise.cu", "unary", x.dtype, (1, 1, 1), np.int32(0), 4, x.astype(float), x)


class FakeCupy(SimpleNamespace):
    """As much of CuPy as meets a fault: its pool is ``room`` bytes, its compiler says ``log``."""

    class OutOfMemoryError(MemoryError):
        pass

    class CompileException(Exception):  # noqa: N818 (its name there)
        pass

    def __init__(self, room: int = 0, log: str = "") -> None:
        def malloc(size: int) -> str:
            if size > room:
                raise self.OutOfMemoryError
            return f"{size} bytes"

        def compiled(code: str, options: tuple[str, ...], backend: str) -> Any:
            assert "--fmad=false" in options
            raise self.CompileException(log)

        pool = SimpleNamespace(malloc=malloc, used_bytes=lambda: 3 << 30)
        super().__init__(
            cuda=SimpleNamespace(
                runtime=SimpleNamespace(getDeviceCount=lambda: 1, memGetInfo=lambda: (1 << 20, 80 << 30)),
                Device=lambda: SimpleNamespace(attributes={"MultiProcessorCount": 132}),
                memory=SimpleNamespace(OutOfMemoryError=self.OutOfMemoryError),
                compiler=SimpleNamespace(CompileException=self.CompileException),
                set_allocator=lambda allocate: setattr(self, "allocate", allocate),
            ),
            get_default_memory_pool=lambda: pool,
            RawModule=compiled,
        )


def test_a_full_device_is_an_error_that_names_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCupy(room=1000)
    monkeypatch.setitem(sys.modules, "cupy", fake)  # type: ignore[arg-type]
    _cuda_run.CupyExecutor()
    with pytest.raises(_cuda_run.DeviceMemoryError) as error:
        fake.allocate(2 << 30)
    assert str(error.value) == (
        "the GPU has no room for 2.00 GiB more: this program's arrays hold 3.00 GiB, and 1.00 MiB of its 80.00 GiB "
        "are free"
    )
    assert isinstance(error.value, MemoryError)
    assert fake.allocate(1000) == "1000 bytes"  # and work goes on


def test_a_kernel_that_the_gpu_cannot_compile_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(log="norm.cu(12): error: expected a ;\n"))  # type: ignore[arg-type]
    with pytest.raises(_cuda_run.KernelError, match=r"does not compile: norm.cu, line 12: expected a ;$"):
        _cuda_run.CupyExecutor().run(the_launch("norm.cu", DTYPES[0], "normalize"))


def test_without_cupy_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"^the 'cuda' backend cannot run here: CuPy did not load .*; pip install"):
        get_backend("cuda")
