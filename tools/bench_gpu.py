"""Times lucid beside PyTorch eager on one GPU: resnet_50 at 224x224, inference and train steps. It judges nothing.

    python tools/bench_gpu.py                      # the table
    python tools/bench_gpu.py --json record.json   # and every figure

PyTorch runs in true float32 (TF32 off), and once more with TF32 on, for the record: that is another, coarser
arithmetic. Every subject lives in a process of its own; rounds of all subjects alternate; a round is ``REPEAT`` runs
between two events of the device, after warm-up, and medians of rounds are compared. Shares are of what this card
reaches in the same run: a kernel of nothing but float32 fma for the peak, a copy for the memory's bandwidth. The peak
that follows from clock and multiprocessors is printed beside it.

``--device cpu`` tries the tool itself where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import bench

WORK = ("eval:32", "train:32", "train:128")
SUBJECTS = {
    "eval": ("lucid", "lucid plan", "torch", "torch tf32"),
    "train": ("lucid", "torch", "torch tf32"),
}
WARM_UP, REPEAT = 3, 3  # runs of every process before the first round; runs in a round
COPY_BYTES = 1 << 30
FMA_LANES = {7: 64, 8: 128, 9: 128, 10: 128, 12: 128}  # float32 fma a clock of a multiprocessor, by major capability
FMA_LANES_OF = {(8, 0): 64}  # A100
FMA_CHAINS, FMA_STEPS, FMA_THREADS, FMA_BLOCKS_A_MULTIPROCESSOR = 8, 1 << 14, 256, 8
FMA_KERNEL = """
extern "C" __global__ void __launch_bounds__(256) fma_chains(float a, float b, float* to) {
    float x[CHAINS];
#pragma unroll
    for (int i = 0; i < CHAINS; ++i) x[i] = float(threadIdx.x + i);
    for (int k = 0; k < STEPS; k += 16)
#pragma unroll
        for (int j = 0; j < 16; ++j)
#pragma unroll
            for (int i = 0; i < CHAINS; ++i) x[i] = __fmaf_rn(x[i], a, b);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; ++i) sum += x[i];
    if (sum == 42.0f) to[blockIdx.x] = sum;  // never, and the compiler does not know
}
"""


# -- arithmetic of the table -----------------------------------------------------------------------------------------


class Peaks(NamedTuple):
    """What the card can do: measured, and as its clock says (0: not known)."""

    fma_tflops: float
    clock_tflops: float
    copy_gbs: float


def clock_tflops(capability: tuple[int, int], multiprocessors: int, kilohertz: int) -> float:
    """10^12 float32 operations a second (an fma is two) if every lane of every multiprocessor works in every clock."""
    lanes = FMA_LANES_OF.get(capability, FMA_LANES.get(capability[0], 0))
    return 2e-9 * lanes * multiprocessors * kilohertz


def least_gigabytes(model: str, mode: str, batch: int, size: int = bench.IMAGE_SIZE) -> float:
    """10^9 bytes that an unfused step moves at least: operands and result of every operation once.

    A train step does that three times (forward, gradients of inputs, of weights); to update, it reads a parameter, its
    gradient and its momentum, and writes two of them.
    """
    import lucid

    network = lucid.models.get_model(model).eval()
    graph = lucid.graph.trace(network, lucid.zeros((1, 3, size, size)))
    weights = sum(parameter.size for parameter in network.parameters())

    def elements(name: str | None) -> int:
        if name is None or name in graph.initializers:
            return 0
        count = 1
        for length in graph.values[name].shape:
            count *= int(length)
        return count

    moved = sum(elements(name) for node in graph.nodes for name in (*node.inputs, node.output))
    passes, more = (3, 5) if mode == "train" else (1, 0)
    return 4e-9 * (passes * (moved * batch + weights) + more * weights)


def finished_rows(
    work: str, model: str, figures: dict[str, dict[str, Any]], gigaflops: float, gigabytes: float, peaks: Peaks
) -> list[dict[str, Any]]:
    """The figures of a piece of work with what follows from them."""
    mode, batch = work.split(":")
    rows = []
    for subject, figure in figures.items():
        row = {"model": model, "mode": mode, "batch": int(batch), "subject": subject, **figure}
        if "median_s" in figure:
            row["tflops"] = 1e-3 * gigaflops / figure["median_s"]
            row["images_a_second"] = int(batch) / figure["median_s"]
            row["of_fma_peak"] = row["tflops"] / peaks.fma_tflops if peaks.fma_tflops else None
            row["of_bandwidth"] = gigabytes / figure["median_s"] / peaks.copy_gbs if peaks.copy_gbs else None
            if "median_s" in figures.get("torch", {}):
                row["of_torch"] = figure["median_s"] / figures["torch"]["median_s"]
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [
        f"{'':20s} {'batch':>5s} {'ms':>8s} {'spread':>17s} {'/ torch':>8s} {'TFLOP/s':>8s} {'of peak':>8s} "
        f"{'of bandwidth':>12s} {'peak MiB':>9s}"
    ]
    for row in rows:
        name = f"{row['mode']} {row['subject']}"
        if "median_s" not in row:
            lines.append(f"{name:20s} {row['batch']:5d} {row['failure']}")
            continue
        spread = f"{1e3 * row['min_s']:.2f}-{1e3 * row['max_s']:.2f}"
        shares = [
            "" if row.get(key) is None else f"{row[key]:.{digits}}"
            for key, digits in (("of_torch", "2f"), ("of_fma_peak", "0%"), ("of_bandwidth", "0%"))
        ]
        lines.append(
            f"{name:20s} {row['batch']:5d} {1e3 * row['median_s']:8.2f} {spread:>17s} {shares[0]:>8s} "
            f"{row['tflops']:8.2f} {shares[1]:>8s} {shares[2]:>12s} {row['peak_mib']:9.0f}"
        )
    return "\n".join(lines)


# -- what a worker runs ----------------------------------------------------------------------------------------------


class Clock(NamedTuple):
    """``mark()`` puts an event on the device; ``seconds(a, b)`` waits for both; ``peak_mib()`` what was reserved."""

    mark: Callable[[], Any]
    seconds: Callable[[Any, Any], float]
    peak_mib: Callable[[], float]


def cupy_clock() -> Clock:
    import cupy

    def mark() -> Any:
        event = cupy.cuda.Event()
        event.record()
        return event

    def seconds(start: Any, end: Any) -> float:
        end.synchronize()
        return 1e-3 * float(cupy.cuda.get_elapsed_time(start, end))

    return Clock(mark, seconds, lambda: cupy.get_default_memory_pool().total_bytes() / 2**20)


def torch_clock() -> Clock:
    import torch

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(start: Any, end: Any) -> float:
        end.synchronize()
        return 1e-3 * float(start.elapsed_time(end))

    return Clock(mark, seconds, lambda: torch.cuda.max_memory_reserved() / 2**20)


def host_clock() -> Clock:
    return Clock(time.perf_counter, lambda start, end: end - start, bench.peak_memory)


def torch_run(model: str, mode: str, batch: int, device: str, tf32: bool) -> Callable[[], Any]:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True  # it may choose its fastest algorithms
    place = "cuda" if device == "gpu" else "cpu"
    network = bench.torch_network(model).to(place)
    x = torch.from_numpy(bench.images(batch)).to(place)
    if mode == "eval":
        network.eval()

        def infer() -> Any:
            with torch.inference_mode():
                return network(x)

        return infer
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    target = torch.arange(batch, device=place)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), target).backward()
        optimizer.step()

    return step


def prepare(subject: str, model: str, mode: str, batch: int, device: str) -> tuple[Callable[[], Any], Clock]:
    if subject.startswith("torch"):
        run = torch_run(model, mode, batch, device, subject == "torch tf32")
        return run, torch_clock() if device == "gpu" else host_clock()
    import lucid

    lucid.set_default_device(device)
    run = (
        bench.lucid_train(model, batch) if mode == "train" else bench.lucid_eval(model, batch, subject == "lucid plan")
    )
    return run, cupy_clock() if device == "gpu" else host_clock()


def worker(pipe: Any, subject: str, model: str, mode: str, batch: int, device: str, size: int) -> None:
    """Prepares and warms up; then a round for every message. Answers seconds a run, at the end the peak in MiB; a
    failure is answered as text."""
    try:
        bench.IMAGE_SIZE = size
        run, clock = prepare(subject, model, mode, batch, device)
        for _ in range(WARM_UP):
            run()
        clock.seconds(clock.mark(), clock.mark())
        pipe.send("ready")
        while pipe.recv():
            start = clock.mark()
            for _ in range(REPEAT):
                run()
            pipe.send(clock.seconds(start, clock.mark()) / REPEAT)
        pipe.send(clock.peak_mib())
    except Exception as error:
        pipe.send({"failure": f"{type(error).__name__}: {error}"})


class Subject:
    """A process that runs one subject."""

    def __init__(self, name: str, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=worker, args=(theirs, name, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.seconds: list[float] = []
        self.failure = ""

    def wait(self) -> None:
        """Until it is warm."""
        self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            answer = {"failure": "the process ended"}
        if isinstance(answer, dict):
            self.failure = answer["failure"]
        return answer

    def round(self) -> None:
        if not self.failure:
            self._pipe.send(True)
            answer = self._answer()
            if not self.failure:
                self.seconds.append(answer)

    def stop(self) -> dict[str, Any]:
        """Its figures."""
        peak = 0.0
        if not self.failure:
            self._pipe.send(False)
            peak = self._answer()
        self._process.join(20)
        self._process.kill()
        if self.failure or not self.seconds:
            return {"failure": self.failure or "no round was finished"}
        return {
            "median_s": statistics.median(self.seconds),
            "min_s": min(self.seconds),
            "max_s": max(self.seconds),
            "rounds": len(self.seconds),
            "peak_mib": peak,
        }


def measure(work: str, model: str, device: str, size: int, rounds: int) -> dict[str, dict[str, Any]]:
    mode, batch = work.split(":")
    subjects = {name: Subject(name, model, mode, int(batch), device, size) for name in SUBJECTS[mode]}
    for subject in subjects.values():
        subject.wait()
    for _ in range(rounds):
        for subject in subjects.values():
            subject.round()
    return {name: subject.stop() for name, subject in subjects.items()}


# -- the card --------------------------------------------------------------------------------------------------------


def card() -> tuple[dict[str, Any], Peaks]:
    """What it is, and its peaks: each the best of some runs between two events."""
    import cupy

    device, runtime = cupy.cuda.Device(), cupy.cuda.runtime
    properties = runtime.getDeviceProperties(device.id)
    multiprocessors, clock = int(device.attributes["MultiProcessorCount"]), int(device.attributes["ClockRate"])
    capability = int(device.compute_capability[:-1]), int(device.compute_capability[-1])
    described = {
        "gpu": properties["name"].decode(),
        "compute_capability": ".".join(map(str, capability)),
        "multiprocessors": multiprocessors,
        "clock_khz": clock,
        "memory_bytes": int(properties["totalGlobalMem"]),
        "driver": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "cupy": cupy.__version__,
    }
    clocks = cupy_clock()

    def best(run: Callable[[], Any]) -> float:
        """Seconds; infinity if it does not run."""
        try:
            run()
        except Exception as error:
            print(f"not measured: {type(error).__name__}: {error}", file=sys.stderr)
            return float("inf")
        seconds = []
        for _ in range(5):
            start = clocks.mark()
            run()
            seconds.append(clocks.seconds(start, clocks.mark()))
        return min(seconds)

    source = FMA_KERNEL.replace("CHAINS", str(FMA_CHAINS)).replace("STEPS", str(FMA_STEPS))
    kernel = cupy.RawKernel(source, "fma_chains")
    blocks, to = FMA_BLOCKS_A_MULTIPROCESSOR * multiprocessors, cupy.zeros(1, cupy.float32)
    arguments = cupy.float32(0.999), cupy.float32(1e-3), to
    fma_seconds = best(lambda: kernel((blocks,), (FMA_THREADS,), arguments))
    operations = 2.0 * FMA_CHAINS * FMA_STEPS * FMA_THREADS * blocks
    source_array, copy = cupy.zeros(COPY_BYTES, cupy.uint8), cupy.empty(COPY_BYTES, cupy.uint8)
    copy_seconds = best(lambda: cupy.copyto(copy, source_array))
    peaks = Peaks(
        1e-12 * operations / fma_seconds,
        clock_tflops(capability, multiprocessors, clock),
        2e-9 * COPY_BYTES / copy_seconds,
    )
    return described, peaks


def versions() -> dict[str, str]:
    import platform

    import torch

    import lucid

    return {"python": platform.python_version(), "lucid": lucid.__version__, "torch": torch.__version__}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet_50", metavar="NAME")
    parser.add_argument("--work", nargs="+", default=WORK, metavar="MODE:BATCH", help="eval:N or train:N")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=bench.IMAGE_SIZE, help="height and width of the images")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    described, peaks = card() if arguments.device == "gpu" else ({"gpu": "none"}, Peaks(0, 0, 0))
    described |= versions()
    print(described)
    print(
        f"float32 peak: {peaks.fma_tflops:.1f} TFLOP/s measured (fma kernel), {peaks.clock_tflops:.1f} by the clock; "
        f"memory: {peaks.copy_gbs:.0f} GB/s measured (copy, read and written bytes)"
    )
    rows: list[dict[str, Any]] = []
    bench.IMAGE_SIZE = arguments.size
    for work in arguments.work:
        mode, batch = work.split(":")
        print(f"{arguments.model} {work} ...", file=sys.stderr, flush=True)
        figures = measure(work, arguments.model, arguments.device, arguments.size, arguments.rounds)
        gigaflops = bench.gigaflops(arguments.model, mode, int(batch))
        gigabytes = least_gigabytes(arguments.model, mode, int(batch), arguments.size)
        rows += finished_rows(work, arguments.model, figures, gigaflops, gigabytes, peaks)
    print(
        f"\n{arguments.model} at {arguments.size}x{arguments.size}, medians; / torch: time over PyTorch eager, TF32 off"
    )
    print(table(rows))
    if arguments.json:
        record = {"machine": described, "peaks": peaks._asdict(), "size": arguments.size, "rows": rows}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        beside = arguments.json.with_name(arguments.json.name + ".partial")
        beside.write_text(json.dumps(record, indent=1) + "\n")
        beside.replace(arguments.json)
    return int(any("failure" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
