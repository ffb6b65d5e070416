"""Parts of tools/verify_gpu.sh: what the GPU computes, judged bit for bit by the CPU of the same machine.

    python tools/verify_gpu.py require           # is everything there? names what is not
    python tools/verify_gpu.py compile           # every kernel, by as many processes as there are processors
    python tools/verify_gpu.py sweep             # every kernel of the backend, and every operation with its gradients
    python tools/verify_gpu.py models            # train steps and inference of all ten models

What differs is named, kernel by kernel and tensor by tensor; the exit status is 0 only if nothing does and as much was
tried as was asked for. Needs no pytest. ``--backend`` tries the tool itself where there is no GPU (``strict_cuda`` is
the emulator on arrays that are no NumPy arrays); nothing follows from that about any GPU.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

NEEDED = {
    "numpy": "lucid itself",
    "safetensors": "checkpoints, and the goldens",
    "cupy": "the GPU",
    "torch": "the bench's peer, and the table of operations",
    "click": "lucid-oracle certify",
    "rich": "lucid-oracle certify",
}
CASES, MOST_CASES = 24, 400  # seeds of each family of kernels: at least, at most
SHOWN = 10


class Findings:
    """What was compared, and what differed."""

    def __init__(self) -> None:
        self.compared = 0
        self.wrong: list[str] = []

    def compare(self, name: str, judge: Callable[[], Any]) -> None:
        """``judge`` raises where the bits differ, or where something does not run."""
        self.compared += 1
        try:
            judge()
        except Exception as error:
            self.wrong.append(f"{name}: {type(error).__name__}: {error}")
            if len(self.wrong) <= SHOWN:
                print(f"  WRONG {self.wrong[-1]}", flush=True)

    def close(self, what: str, enough: bool = True) -> int:
        print(f"{what}: {self.compared} compared, {len(self.wrong)} wrong")
        if not enough:
            print("not everything was tried in the time that there was")
        return int(bool(self.wrong) or not enough or not self.compared)


def require(backend: str) -> int:
    """What is missing, a line each; else what is there."""
    missing = []
    for name, purpose in NEEDED.items():
        try:
            importlib.import_module(name)
        except Exception as error:
            missing.append(f"{name} is missing ({type(error).__name__}: {error}): {purpose} needs it")
        else:
            print(f"  {name} is there")
    from lucid.backends import get_backend

    try:
        executor: Any = get_backend(backend)._executor  # type: ignore[attr-defined]
        print(f"  {backend}: {executor.multiprocessors} multiprocessors")
    except RuntimeError as error:
        missing.append(str(error))
    for line in missing:
        print(f"  {line}")
    return int(bool(missing))


# -- compilation ------------------------------------------------------------------------------------------------------


def compile_all(backend: str, capability: int | None) -> int:
    """All that the backend may ever launch goes to the cache of kernels now, so that no other step waits for it."""
    from lucid.backends.cuda import every_module

    modules, start = list(every_module()), time.monotonic()
    if backend == "cuda" and capability is None:
        import cupy

        capability = int(cupy.cuda.Device().compute_capability)
    if capability is None:
        print(f"  {backend} is not compiled by NVRTC")
        return 0
    context, tasks = multiprocessing.get_context("spawn"), [(capability, *module) for module in modules]
    with context.Pool(min(len(os.sched_getaffinity(0)), len(tasks))) as pool:
        failures = [text for text in pool.imap_unordered(compile_one, tasks) if text]
    for text in failures[:SHOWN]:
        print(f"  {text}")
    print(f"{len(modules)} modules compiled, {len(failures)} failed, {time.monotonic() - start:.0f} s")
    return int(bool(failures))


def compile_one(what: tuple[int, str, tuple[str, ...]]) -> str:
    """Why a module does not compile."""
    from cupy.cuda import nvrtc

    from lucid.backends._cuda_compile import Compiler

    capability, file, options = what
    try:
        Compiler(nvrtc, capability).compiled(file, options)
    except Exception as error:
        return f"{file}: {type(error).__name__}: {error}"
    return ""


# -- kernels and operations ------------------------------------------------------------------------------------------


def sweep(backend: str, judge: str, seconds: float) -> int:
    findings, end = Findings(), time.monotonic() + seconds
    sweep_kernels(findings, backend, judge, time.monotonic() + seconds / 2)
    all_rows = sweep_operations(findings, backend, judge, end)
    return findings.close("kernels and operations", all_rows)


def sweep_kernels(findings: Findings, backend: str, judge: str, end: float) -> None:
    """Every family of kernels, at least ``CASES`` seeds of each, more until the time is over."""
    from support.bits import assert_same_bits
    from support.families import FAMILIES, OnHost, named

    from lucid.backends import get_backend

    tried, mine = OnHost(get_backend(backend)), OnHost(get_backend(judge))
    seed = 0
    while seed < CASES or (seed < MOST_CASES and time.monotonic() < end):
        for name, draw in FAMILIES.items():

            def one(name: str = name, draw: Any = draw, seed: int = seed) -> None:
                call = draw(np.random.default_rng([seed, *name.encode()]))
                expected, got = dict(named(call(mine))), dict(named(call(tried)))
                assert_same_bits(got, expected, f"{name}, seed {seed}")

            findings.compare(f"kernel {name}, seed {seed}", one)
        seed += 1
    print(f"  {len(FAMILIES)} families of kernels, {seed} seeds each")


def sweep_operations(findings: Findings, backend: str, judge: str, end: float) -> bool:
    """Every row of the table of operations, forward and backward; whether there was time for all."""
    from support import tables
    from support.bits import assert_same_bits
    from support.operations import run

    rows = list(tables.ROWS)
    for number, row in enumerate(rows):
        if time.monotonic() > end:
            print(f"  {number} of {len(rows)} rows of the table of operations")
            return False
        for dtype in row.dtypes:

            def one(row: Any = row, dtype: Any = dtype) -> None:
                expected = run(row, judge, dtype)
                for layout in ("dense", "strided"):
                    assert_same_bits(run(row, backend, dtype, layout), expected, f"{row.name}, {layout}")

            findings.compare(f"operation {row.name}, {np.dtype(dtype)}", one)
    print(f"  {len(rows)} rows of the table of operations")
    return True


# -- models ----------------------------------------------------------------------------------------------------------


def models(backend: str, judge: str, seconds: float, narrow: bool) -> int:
    """A train step and an inference of every model at full width, and three steps of two of them."""
    from support.networks import NARROW, make, step, trained

    import lucid

    options: dict[str, Any] = NARROW if narrow else {}
    findings, end, names, done = Findings(), time.monotonic() + seconds, lucid.models.get_model_names(), 0
    runs: list[tuple[str, Any]] = [(name, step) for name in names]
    for name, run in [*runs, ("resnet_18", trained), ("resnet_200", trained)]:
        if time.monotonic() > end:
            break

        def one(name: str = name, run: Any = run) -> None:
            results = []
            for who in (judge, backend):
                model, images, classes = make(name, 5, **options)
                with serving(who):
                    results.append(run(model.to(lucid.get_default_device()), images, classes))
            different = [key for key in results[0] if results[0][key] != results[1][key]]
            assert not different, f"{len(different)} of {len(results[0])} tensors differ, first {different[0]}"

        what = "steps of training" if run is trained else "train step and inference"
        findings.compare(f"{name}, {what}", one)
        print(f"  {name}: {what}", flush=True)
        done += 1
    return findings.close("models", done == len(runs) + 2)


def serving(name: str) -> Any:
    from support.backends import on

    return on(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("require", "compile", "sweep", "models"))
    parser.add_argument("--backend", default="cuda", help="who is judged")
    parser.add_argument("--judge", default="native", help="who judges")
    parser.add_argument("--seconds", type=float, default=100, help="for a sweep, or for the models")
    parser.add_argument("--capability", type=int, metavar="NN", help="compile for this instead of the GPU, as 90")
    parser.add_argument("--narrow", action="store_true", help="models of few channels")
    arguments = parser.parse_args()
    if arguments.backend.startswith("strict"):
        importlib.import_module("support.strict")
    if arguments.part == "require":
        return require(arguments.backend)
    if arguments.part == "compile":
        return compile_all(arguments.backend, arguments.capability)
    if arguments.part == "sweep":
        return sweep(arguments.backend, arguments.judge, arguments.seconds)
    return models(arguments.backend, arguments.judge, arguments.seconds, arguments.narrow)


if __name__ == "__main__":
    sys.exit(main())
