"""Times lucid beside PyTorch and ONNX Runtime on the same work. It shows; it names nothing a pass or a fail.

    python tools/bench.py                                   # the table of the README
    python tools/bench.py --models resnet_50 --work eval:1  # one row
    python tools/bench.py --layers resnet_50 --batch 8      # every distinct convolution, forward and backward
    python tools/bench.py --overhead                        # what one small operation costs
    python tools/bench.py --operations                      # single operations beside PyTorch (bench_operations.py)
    python tools/bench.py --onnx                            # models read from ONNX beside ONNX Runtime (bench_onnx.py)
    python tools/bench.py --tracing                         # what tracing every layer costs

Every subject lives in a process of its own, which gives its peak memory; the rounds of all subjects alternate, so that
a noisy neighbour harms all of them, and medians are compared. The SGEMM limit is a large matrix product of PyTorch's,
in the same run, on the same threads. ``--json FILE`` keeps every figure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODELS = ("resnet_18", "resnet_50", "resnet_200")
WORK = ("eval:1", "eval:8", "train:8")
SUBJECTS = {"eval": ("lucid", "lucid plan", "torch", "onnxruntime"), "train": ("lucid", "torch")}
IMAGE_SIZE = 224
SETTLE = 0.05  # seconds between subjects: others' spinning threads go to sleep
GEMM_SIZE = 2048


# -- what a worker runs ----------------------------------------------------------------------------------------------


def images(batch: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).standard_normal((batch, 3, IMAGE_SIZE, IMAGE_SIZE), np.float32)


def lucid_eval(model: str, batch: int, plan: bool = False) -> Callable[[], Any]:
    import lucid

    network = lucid.models.get_model(model).eval()
    x = lucid.tensor(images(batch))
    if plan:
        compiled = lucid.compile(network, x)
        return lambda: compiled(x)

    def run() -> Any:
        with lucid.no_grad():
            return network(x)

    return run


def lucid_train(model: str, batch: int) -> Callable[[], Any]:
    import numpy as np

    import lucid
    from lucid import optim
    from lucid.nn.functional import cross_entropy

    network = lucid.models.get_model(model)
    optimizer = optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    x, target = lucid.tensor(images(batch)), lucid.tensor(np.arange(batch))

    def run() -> None:
        optimizer.zero_grad()
        cross_entropy(network(x), target).backward()
        optimizer.step()

    return run


def torch_network(model: str) -> Any:
    from oracle.resnets import ARCHITECTURES
    from oracle.resnets.twin import ResNet

    return ResNet(ARCHITECTURES[model])


def torch_eval(model: str, batch: int) -> Callable[[], Any]:
    import torch

    network, x = torch_network(model).eval(), torch.from_numpy(images(batch))

    def run() -> Any:
        with torch.inference_mode():
            return network(x)

    return run


def torch_train(model: str, batch: int) -> Callable[[], Any]:
    import torch

    network = torch_network(model).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    x, target = torch.from_numpy(images(batch)), torch.arange(batch)

    def run() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), target).backward()
        optimizer.step()

    return run


def onnxruntime_eval(model: str, batch: int, threads: int) -> Callable[[], Any]:
    import tempfile

    import lucid
    from lucid.onnx import export
    from lucid.onnx._need import need

    onnxruntime = need("onnxruntime", "the row of ONNX Runtime")

    x = images(batch)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(lucid.models.get_model(model), lucid.tensor(x), path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": x})


def gemm() -> Callable[[], Any]:
    import torch

    a, b = torch.randn(GEMM_SIZE, GEMM_SIZE), torch.randn(GEMM_SIZE, GEMM_SIZE)
    return lambda: torch.mm(a, b)


def prepare(subject: str, model: str, mode: str, batch: int, threads: int) -> Callable[[], Any]:
    if subject == "sgemm":
        return gemm()
    if subject == "onnxruntime":
        return onnxruntime_eval(model, batch, threads)
    if subject == "torch":
        return torch_eval(model, batch) if mode == "eval" else torch_train(model, batch)
    return lucid_train(model, batch) if mode == "train" else lucid_eval(model, batch, subject == "lucid plan")


def worker(pipe: Any, subject: str, model: str, mode: str, batch: int, threads: int) -> None:
    """Prepares, then runs once for every message; answers seconds, or, at the end, the peak memory in MiB."""
    if subject in ("torch", "sgemm"):
        import torch

        torch.set_num_threads(threads)
    elif subject != "onnxruntime":
        import lucid

        lucid.set_num_threads(threads)
    run = prepare(subject, model, mode, batch, threads)
    if subject == "onnxruntime":  # the exporter's memory is not the runtime's: count from here
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    pipe.send("ready")
    while pipe.recv():
        start = time.perf_counter()
        run()
        pipe.send(time.perf_counter() - start)
    pipe.send(peak_memory())


def peak_memory() -> float:
    """The most memory that this process held, in MiB."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- rounds ------------------------------------------------------------------------------------------------------------


class Remote:
    """A subject in its own process."""

    def __init__(self, subject: str, model: str, mode: str, batch: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, subject, model, mode, batch, threads)
        self._process = context.Process(target=worker, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.seconds: list[float] = []
        self.memory = 0.0
        self._pipe.recv()

    def run(self, keep: bool = True) -> None:
        self._pipe.send(True)
        seconds = self._pipe.recv()
        if keep:
            self.seconds.append(seconds)

    def stop(self) -> None:
        self._pipe.send(False)
        self.memory = self._pipe.recv()
        self._process.join()


def measure(model: str, mode: str, batch: int, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """For each subject the median seconds, the spread and the peak memory; also of the SGEMM limit."""
    names = ("sgemm", *SUBJECTS[mode])
    remotes = {name: Remote(name, model, mode, batch, threads) for name in names}
    for number in range(-2, rounds):
        for remote in remotes.values():
            time.sleep(SETTLE)
            remote.run(keep=number >= 0)
    for remote in remotes.values():
        remote.stop()
    return {
        name: {
            "median_s": statistics.median(remote.seconds),
            "min_s": min(remote.seconds),
            "max_s": max(remote.seconds),
            "peak_mib": remote.memory,
        }
        for name, remote in remotes.items()
    }


def gigaflops(model: str, mode: str, batch: int) -> float:
    """Multiplications and additions of convolutions and matrix products, in 10^9; a train step is three passes."""
    import lucid

    macs = lucid.models.summarize(lucid.models.get_model(model), (batch, 3, IMAGE_SIZE, IMAGE_SIZE)).total_macs
    return 2e-9 * macs * (3 if mode == "train" else 1)


def network_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for model in arguments.models:
        for work in arguments.work:
            mode, batch = work.split(":")
            print(f"{model} {work} ...", file=sys.stderr, flush=True)
            figures = measure(model, mode, int(batch), arguments.threads, arguments.rounds)
            limit = 2e-9 * GEMM_SIZE**3 / figures.pop("sgemm")["median_s"]
            work_done = gigaflops(model, mode, int(batch))
            for name, row in figures.items():
                row["gflops"] = work_done / row["median_s"]
                row["of_sgemm"] = row["gflops"] / limit
                for peer in ("torch", "onnxruntime"):
                    if peer in figures:
                        row[f"of_{peer}"] = row["median_s"] / figures[peer]["median_s"]
                rows.append({"model": model, "mode": mode, "batch": int(batch), "subject": name, **row})
    return rows


def show_networks(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="time and memory; ratios are to the peer's median in the same run, below 1 is faster")
    for title in (
        "model",
        "mode",
        "batch",
        "subject",
        "ms",
        "spread",
        "/ torch",
        "/ ort",
        "GFLOP/s",
        "of SGEMM",
        "peak MiB",
    ):
        table.add_column(title, justify="left" if title in ("model", "mode", "subject") else "right")
    before = None
    for row in rows:
        if before is not None and before != (row["model"], row["mode"], row["batch"]):
            table.add_section()
        before = row["model"], row["mode"], row["batch"]
        ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("of_torch", "of_onnxruntime")]
        table.add_row(
            row["model"],
            row["mode"],
            str(row["batch"]),
            row["subject"],
            f"{1e3 * row['median_s']:.1f}",
            f"{1e3 * row['min_s']:.1f}-{1e3 * row['max_s']:.1f}",
            *ratios,
            f"{row['gflops']:.0f}",
            f"{row['of_sgemm']:.0%}",
            f"{row['peak_mib']:.0f}",
        )
    Console(width=130 if not sys.stdout.isatty() else None).print(table)


# -- single layers and single operations -----------------------------------------------------------------------------


def median_time(run: Callable[[], Any], rounds: int) -> float:
    run()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def timed_in_turn(rounds: int) -> Callable[[Callable[[], Any], Callable[[], Any]], tuple[float, float]]:
    """Measures two calls in turn, after one of each: the median seconds of both."""

    def timed(*calls: Callable[[], Any]) -> tuple[float, float]:
        seconds: list[list[float]] = [[], []]
        for turn in range(rounds + 1):
            for call, found in zip(calls, seconds, strict=True):
                time.sleep(SETTLE)
                start = time.perf_counter()
                call()
                if turn:
                    found.append(time.perf_counter() - start)
        ours, theirs = map(statistics.median, seconds)
        return ours, theirs

    return timed


def layer_rows(model: str, batch: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Every distinct convolution of a model: forward, input gradient, weight gradient, beside PyTorch's."""
    import numpy as np
    import torch

    import lucid
    from lucid.backends import get_backend

    torch.set_num_threads(threads)
    lucid.set_num_threads(threads)
    be = get_backend("native")
    graph = lucid.graph.trace(lucid.models.get_model(model), lucid.zeros((batch, 3, IMAGE_SIZE, IMAGE_SIZE)))
    counts: dict[Any, int] = {}
    for node in graph.nodes:
        if node.op == "conv2d":
            shapes = tuple(graph.values[name].shape for name in (node.inputs[0], node.inputs[1], node.output))
            key = (*shapes, *(node.attrs[name] for name in ("stride", "padding", "dilation", "groups")))
            counts[key] = counts.get(key, 0) + 1
    rows = []
    rng = np.random.default_rng(0)
    for (xs, ws, ys, stride, padding, dilation, groups), count in counts.items():
        x, w, dy = (rng.standard_normal(shape, np.float32) for shape in (xs, ws, ys))
        stored = np.ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
        x, dy = (np.ascontiguousarray(v.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for v in (x, dy))
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        t = [torch.from_numpy(v) for v in (x, w, dy)]
        of_torch = [stride, padding, dilation, False, [0, 0], groups]

        def torch_gradient(mask: list[bool], t: Any = t, o: Any = of_torch) -> Any:
            return torch.ops.aten.convolution_backward(t[2], t[0], t[1], None, *o, mask)

        runs = {
            "forward": (
                lambda x=x, w=stored, o=options: be.conv2d(x, w, None, **o),
                lambda t=t, o=of_torch: torch.conv2d(t[0], t[1], None, o[0], o[1], o[2], o[5]),
            ),
            "input gradient": (
                lambda dy=dy, w=stored, s=xs, o=options: be.conv2d_input_grad(dy, w, s, **o),
                lambda f=torch_gradient: f([True, False, False]),
            ),
            "weight gradient": (
                lambda dy=dy, x=x, s=ws, o=options: be.conv2d_weight_grad(dy, x, s, **o),
                lambda f=torch_gradient: f([False, True, False]),
            ),
        }
        work = 2e-9 * np.prod(ys) * np.prod(ws[1:])
        row: dict[str, Any] = {"input": xs, "weight": ws, "stride": stride, "count": count}
        for name, (ours, theirs) in runs.items():
            mine, peers = median_time(ours, rounds), median_time(theirs, rounds)
            row[name] = {"median_s": mine, "gflops": work / mine, "of_torch": mine / peers}
        rows.append(row)
    return rows


def show_layers(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="GFLOP/s, and the time over PyTorch's")
    for title in ("input", "weight", "stride", "count", "forward", "input gradient", "weight gradient"):
        table.add_column(title, justify="left" if title in ("input", "weight") else "right")
    for row in rows:
        cells = [f"{row[key]['gflops']:.0f}  {row[key]['of_torch']:.2f}" for key in row if isinstance(row[key], dict)]
        table.add_row(str(row["input"]), str(row["weight"]), str(row["stride"][0]), str(row["count"]), *cells)
    Console(width=130 if not sys.stdout.isatty() else None).print(table)


def overhead_rows() -> list[dict[str, Any]]:
    """Microseconds for one operation on 16 elements, where all that counts is the way to the kernel."""
    import numpy as np
    import torch

    import lucid

    x = np.linspace(-1, 1, 16, dtype=np.float32)
    a, b = lucid.tensor(x), torch.from_numpy(x)
    a_grad, b_grad = lucid.tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
    pairs = {
        "relu": (lambda: lucid.relu(a), lambda: torch.relu(b)),
        "relu, recorded": (lambda: lucid.relu(a_grad), lambda: torch.relu(b_grad)),
        "add": (lambda: a + a, lambda: b + b),
        "sum": (lambda: a.sum(), lambda: b.sum()),
        "relu, sum, backward": (
            lambda: lucid.relu(a_grad).sum().backward(),
            lambda: torch.relu(b_grad).sum().backward(),
        ),
    }

    def microseconds(run: Callable[[], Any], repeat: int = 2000) -> float:
        def many() -> None:
            for _ in range(repeat):
                run()

        return 1e6 * median_time(many, 5) / repeat

    return [
        {"operation": name, "lucid_us": microseconds(ours), "torch_us": microseconds(theirs)}
        for name, (ours, theirs) in pairs.items()
    ]


def tracing_row(model: str, rounds: int) -> dict[str, Any]:
    """The golden's train step as it is, and with every activation and gradient kept."""
    import lucid
    from lucid import optim
    from lucid.nn.functional import cross_entropy
    from oracle.case.case import standard_case
    from oracle.resnets import find_architecture
    from oracle.subjects.lucid_engine import LucidSubject, make_model
    from oracle.trace import Trace

    class Latest:
        """Records into the trace of the step at hand."""

        trace = Trace()

        def record(self, *tensor: Any) -> None:
            self.trace.record(*tensor)

    case, subject, latest = standard_case(find_architecture(model), "train"), LucidSubject(), Latest()
    image, labels = lucid.tensor(case.input), lucid.tensor(case.labels)
    plain, traced = make_model(case).train(), make_model(case).train()
    subject.watch(traced, case.graph, latest)
    steps = [optim.SGD(network.parameters(), lr=1e-3, momentum=0.9) for network in (plain, traced)]

    def run_plain() -> None:
        steps[0].zero_grad()
        cross_entropy(plain(image), labels).backward()
        steps[0].step()

    def run_traced() -> None:
        latest.trace = Trace()
        steps[1].zero_grad()
        subject.backward(case, traced, traced(image), latest)
        steps[1].step()

    ours = [(median_time(run_plain, 1), median_time(run_traced, 1)) for _ in range(rounds)]
    plain_s, traced_s = (statistics.median(times) for times in zip(*ours, strict=True))
    return {"model": model, "plain_s": plain_s, "traced_s": traced_s, "tensors": len(latest.trace)}


def budget_rows(rounds: int) -> list[dict[str, Any]]:
    """`oracle.testing.assert_within_budget` beside the operation in PyTorch's float64."""
    import torch
    from torch.nn import functional as f

    from oracle.testing import assert_within_budget

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    large, image, square = normal(4096, 1024), normal(8, 64, 56, 56), normal(1024, 1024)
    cases: list[tuple[str, Callable[..., Any], list[torch.Tensor], dict[str, Any]]] = [
        ("conv2d", lambda x, w: f.conv2d(x, w, padding=1), [image, normal(64, 64, 3, 3)], {"padding": 1}),
        ("matmul", torch.matmul, [square, square], {}),
        ("softmax", lambda x: f.softmax(x, -1), [normal(512, 32768)], {"axis": -1}),
        ("layer_norm", lambda x: f.layer_norm(x, x.shape[-1:]), [large], {}),
        ("gelu", f.gelu, [large], {}),
        ("add", torch.add, [large, large], {}),
        ("sum", lambda x: x.sum(-1), [large], {"axis": -1}),
    ]
    rows = []
    for op, run, inputs, attributes in cases:
        result, wide = run(*inputs), [each.double() for each in inputs]

        def check(result: Any = result, op: str = op, inputs: Any = inputs, attributes: Any = attributes) -> None:
            assert_within_budget(result, op, *inputs, **attributes)

        def plain(run: Any = run, wide: Any = wide) -> None:
            run(*wide)

        rows.append({"operation": op, "check_s": median_time(check, rounds), "float64_s": median_time(plain, rounds)})
    return rows


def machine(threads: int) -> dict[str, Any]:
    import _lucid_native as _native

    import lucid

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "isa": _native.isa(),
        "threads": threads,
        "python": platform.python_version(),
        "lucid": lucid.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    parser.add_argument("--work", nargs="+", default=WORK, metavar="MODE:BATCH", help="eval:N or train:N")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--layers", metavar="MODEL", help="single convolutions of this model instead")
    parser.add_argument("--batch", type=int, default=8, help="for --layers")
    parser.add_argument("--overhead", action="store_true", help="the cost of one small operation instead")
    parser.add_argument("--operations", nargs="*", metavar="ROW", help="single operations, all or those, instead")
    parser.add_argument("--onnx", nargs="*", metavar="NAME", help="ONNX models, all or those with a name in, instead")
    parser.add_argument("--wheels", type=Path, default=Path("build/wheels"), help="for --onnx (see real_files.py)")
    parser.add_argument("--tracing", action="store_true", help="what the oracle's tracing costs a train step instead")
    parser.add_argument("--budget", action="store_true", help="what one assert_within_budget costs instead")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    print(machine(arguments.threads))
    if arguments.layers:
        rows = layer_rows(arguments.layers, arguments.batch, arguments.threads, arguments.rounds)
        show_layers(rows)
    elif arguments.overhead:
        rows = overhead_rows()
        for row in rows:
            print(f"{row['operation']:22s} lucid {row['lucid_us']:7.2f} us   torch {row['torch_us']:7.2f} us")
    elif arguments.operations is not None:
        import torch
        from bench_operations import operation_rows, show_operations

        import lucid

        torch.set_num_threads(arguments.threads)
        lucid.set_num_threads(arguments.threads)
        rows = operation_rows(arguments.operations, timed_in_turn(arguments.rounds))
        show_operations(rows)
    elif arguments.onnx is not None:
        from bench_onnx import onnx_rows

        import lucid

        lucid.set_num_threads(arguments.threads)
        rows = onnx_rows(arguments.onnx, arguments.wheels, timed_in_turn(arguments.rounds))
    elif arguments.tracing:
        rows = [tracing_row(model, arguments.rounds) for model in arguments.models]
        for row in rows:
            times = f"{1e3 * row['plain_s']:.1f} ms, traced {1e3 * row['traced_s']:.1f} ms"
            print(f"{row['model']}: {times}, {row['traced_s'] / row['plain_s']:.2f} times, {row['tensors']} tensors")
    elif arguments.budget:
        rows = budget_rows(arguments.rounds)
        for row in rows:
            times = f"{1e3 * row['check_s']:8.1f} ms, float64 {1e3 * row['float64_s']:7.1f} ms"
            print(f"{row['operation']:12s} {times}, {row['check_s'] / row['float64_s']:.1f} times")
    else:
        rows = network_rows(arguments)
        show_networks(rows)
    if arguments.json:
        beside = arguments.json.with_name(arguments.json.name + ".partial")
        beside.write_text(json.dumps({"machine": machine(arguments.threads), "rows": rows}, indent=1, default=str))
        beside.replace(arguments.json)


if __name__ == "__main__":
    main()
