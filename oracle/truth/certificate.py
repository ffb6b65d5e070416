"""Certificates: did this machine reproduce every bit of the goldens, with which instruction sets and threads, and every
time?

There is no tolerance. A run hashes every tensor while it is made and compares the digest with the golden's. Over
several rounds (a burn-in) the digests must also stay what they were: one that ever changes is silent data corruption,
whether or not it was right before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

import lucid
from lucid.device import MOST_THREADS, THREADS, to_numpy
from oracle.errors import UsageError, foreign
from oracle.files import read_json, write_whole
from oracle.judge.summary import versions
from oracle.subjects import find_subject
from oracle.subjects.file import file_name
from oracle.trace import Key, Kind
from oracle.truth.digest import digest_later
from oracle.truth.goldens import Golden

FORMAT = "lucid-oracle certificate 1"
How = Literal["eager", "plan"]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Configuration:
    """How lucid runs.

    Args:
        backend: ``native``, ``reference``, ``cuda`` or ``emulated``.
        isa: the instruction set of the native backend; ``None`` elsewhere.
        threads: the number of threads; ``None`` leaves it.
        how: ``eager``, or ``plan``: the inference plan, whose steps are seen, but not what is folded into them.

    Example:
        >>> str(Configuration("native", "avx2", 2))
        'native avx2, 2 threads'
    """

    backend: str
    isa: str | None = None
    threads: int | None = None
    how: How = "eager"

    def __str__(self) -> str:
        name = self.backend if self.isa is None else f"{self.backend} {self.isa}"
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{name}{threads}{', plan' if self.how == 'plan' else ''}"


@dataclass
class Run:
    """What became of one golden under one configuration, over all rounds.

    Args:
        golden: its name.
        configuration: how lucid ran.
        digests: by tensor, the digest that the first round left.
        different: the tensors whose digest was, in some round, not the golden's (or that were not made at all).
        changed: those whose digest was not the same in all rounds, with the first round where it changed; also what
            lies in memory (kind ``memory``: weights, a plan's packed weights and other constants, the input), the
            steps of a plan that no golden knows (kind ``step``), and kinds of which the golden keeps no digests.
        held: the digests of those, as the first round found them.
        rounds: how often it ran.
        seconds: how long the fastest round took.
        failure: why a round could not finish, if one could not.
    """

    golden: str
    configuration: Configuration
    digests: dict[Key, str] = field(default_factory=dict)
    different: dict[Key, None] = field(default_factory=dict)
    changed: dict[Key, int] = field(default_factory=dict)
    held: dict[Key, str] = field(default_factory=dict)
    rounds: int = 0
    seconds: float = float("inf")
    failure: str = ""

    @property
    def agrees(self) -> bool:
        """Whether there was something to compare, and all of it was equal and stayed so."""
        return bool(self.digests) and not (self.failure or self.different or self.changed)

    def sentence(self) -> str:
        """What became of it, in words."""
        who = f"{self.golden}, {self.configuration}"
        if self.failure:
            return f"{who}: could not finish: {self.failure}"
        if self.changed:
            key, when = min(self.changed.items(), key=lambda entry: (entry[1], entry[0][0] != "memory"))
            if file_name(key).startswith("memory/"):
                return (
                    f"{who}: {len(self.changed)} digests changed from round to round, first that of {file_name(key)} "
                    f"in round {when}: memory does not keep what was written to it"
                )
            return (
                f"{who}: {len(self.changed)} digests changed from round to round, first that of {file_name(key)} in "
                f"round {when}: the machine does not compute the same every time"
            )
        if self.different:
            first = next(iter(self.different))
            return (
                f"{who}: {len(self.different)} of {len(self.digests)} digests differ, first that of {file_name(first)}"
            )
        return f"{who}: all {len(self.digests)} digests equal"


class _Hashing:
    """A recorder that keeps the digest of every tensor and nothing else; other threads make them."""

    def __init__(self) -> None:
        self._made: dict[Key, Future[str]] = {}

    def record(self, kind: Any, name: str, array: np.ndarray) -> None:
        self._made[kind, name] = digest_later(np.asarray(array))

    def __contains__(self, key: object) -> bool:
        return key in self._made

    def digests(self) -> dict[Key, str]:
        """By tensor, once all are made."""
        return {key: made.result() for key, made in self._made.items()}


def certify(
    goldens: Sequence[Golden],
    configurations: Sequence[Configuration],
    *,
    repeat: int = 1,
    progress: Progress = lambda message: None,
) -> list[Run]:
    """Run every golden's case in every configuration, ``repeat`` times over, and compare all digests.

    A plan runs eval cases alone. What a configuration holds (weights, a plan and its packed weights) is made once and
    stays in memory for all rounds; before each, all of it is hashed, so that a bit that flips there is noticed too,
    whether or not a result shows it. One network at a time is held.

    Raises:
        UsageError: a configuration cannot run here, or nothing would be compared.

    Example:
        >>> certify([], [Configuration("native")])
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: certify: no golden can run in any configuration: nothing would be compared
    """
    if repeat < 1:
        raise UsageError(f"repeat: got {repeat}; must be at least 1")
    runs = [
        [Run(golden.case.name, each) for each in configurations if each.how == "eager" or golden.case.mode == "eval"]
        for golden in goldens
    ]
    if not any(runs):
        raise UsageError("certify: no golden can run in any configuration: nothing would be compared")
    for golden, of_golden in zip(goldens, runs, strict=True):
        case = golden.case
        for run in of_golden:
            engine = _Engine(case, run.configuration)
            for number in range(1, repeat + 1):
                which = f"round {number} of {repeat}, " if repeat > 1 else ""
                progress(f"{which}{run.golden}: {run.configuration}")
                _one(run, golden, engine, number)
        for kept in ("state", "input", "labels"):  # a case keeps its weights; ten models' would fill the memory
            case.__dict__.pop(kept, None)
    return [run for of_golden in runs for run in of_golden]


class _Engine:
    """lucid in one configuration on one case; what it holds stays from round to round."""

    def __init__(self, case: Any, configuration: Configuration) -> None:
        options = [configuration.backend] + (["plan"] if configuration.how == "plan" else [])
        self._subject: Any = find_subject(":".join(("lucid", *options)))
        self._case, self._configuration = case, configuration
        self._recorder: Any = None
        self._model: Any = None
        self._plan: Any = None
        self._image: Any = None

    def run(self, recorder: _Hashing, held: _Hashing, names: Container[Key]) -> None:
        """One round: what is held is recorded in ``held``, then what is made in ``recorder``.

        A plan's steps whose names are among ``names`` are recorded as activations, the others in ``held``.
        """
        self._recorder = recorder
        with _settings(self._configuration), self._subject.settings():
            self._make()
            for name, array in self._held():
                held.record("memory", name, np.asarray(array))
            held.digests()  # before anything that a train step changes is changed
            if self._plan is not None:

                def seen(name: str, value: Any) -> None:
                    where = recorder if ("activation", name) in names else held
                    where.record("activation" if where is recorder else "step", name, value.numpy())

                output = self._plan.observe(self._image, seen)
                if ("activation", self._case.graph.output) not in recorder:
                    recorder.record("activation", self._case.graph.output, output.numpy())
                return
            train = self._case.mode == "train"
            with contextlib.nullcontext() if train else lucid.no_grad():
                logits = self._model(self._image)
                if train:
                    self._subject.backward(self._case, self._model, logits, self)

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        """As a recorder, which the model's hooks keep: what this round's takes."""
        self._recorder.record(kind, name, array)

    def _make(self) -> None:
        """The model or the plan, where there is none yet; a train step begins with the case's statistics."""
        if self._image is None:
            self._image = lucid.tensor(self._case.input, device=self._subject.device)
            model = self._subject.build(self._case)
            if self._configuration.how == "plan":
                self._plan = lucid.compile(model, self._image)
                return
            self._model = model
            self._subject.watch(model, self._case.graph, self)
        elif self._model is not None and self._case.mode == "train":
            for parameter in self._model.parameters():
                parameter.grad = None
            with lucid.no_grad():
                for name, buffer in self._model.named_buffers():
                    buffer.copy_(lucid.tensor(self._case.state[name], device=self._subject.device))

    def _held(self) -> Iterator[tuple[str, Any]]:
        yield "input", self._image.numpy()
        if self._plan is not None:
            for name, array in self._plan.constants().items():
                yield f"plan/{name}", to_numpy(array)
        else:
            for name, tensor in self._model.state_dict().items():
                yield f"weights/{name}", tensor.numpy()


def _one(run: Run, golden: Golden, engine: _Engine, number: int) -> None:
    recorder, held = _Hashing(), _Hashing()
    eager = run.configuration.how == "eager"
    known, output = dict.fromkeys(_keys(golden)), ("activation", golden.case.graph.output)
    start = time.perf_counter()
    try:
        engine.run(recorder, held, known)
    except (UsageError, MemoryError):
        raise
    except ImportError as error:
        raise UsageError(f"certify: {error}") from error
    except Exception as error:  # a defect of the machine's backend is what a certificate is for
        run.failure = f"{type(error).__name__}: {error}"
    digests = recorder.digests()
    run.seconds = min(run.seconds, time.perf_counter() - start)
    run.rounds += 1
    now = held.digests()
    kinds = {kind for kind, _ in known}
    for key in [key for key in digests if key[0] not in kinds]:  # the golden keeps no digests of the kind
        now[key] = digests.pop(key)
    expected = dict.fromkeys(key for key in known if eager or key == output or key in digests)
    for key in dict.fromkeys((*expected, *digests)):
        found = digests.get(key, "missing")
        if number == 1:
            run.digests[key] = found
        elif found != run.digests.get(key):
            run.changed.setdefault(key, number)
        if key not in expected or found != golden.digest(key):
            run.different[key] = None
    if number == 1:
        run.held = now
    for key in dict.fromkeys((*run.held, *now)):
        if not run.failure and now.get(key) != run.held.get(key):
            run.changed.setdefault(key, number)


@contextlib.contextmanager
def _settings(configuration: Configuration) -> Iterator[None]:
    """The instruction set and the number of threads, as long as a run lasts."""
    threads = lucid.get_num_threads()
    native = _native() if configuration.isa is not None else None
    isa = native.isa() if native is not None else None
    try:
        if native is not None:
            native.set_isa(configuration.isa)
        if configuration.threads is not None:
            lucid.set_num_threads(configuration.threads)
        yield
    finally:
        if native is not None:
            native.set_isa(isa)
        lucid.set_num_threads(threads)


def _native() -> Any:
    """The compiled extension, once the backend has chosen its instruction set."""
    try:
        lucid.get_backend("native")
    except RuntimeError as error:
        raise UsageError(f"certify: {error}") from error
    import _lucid_native

    return _lucid_native


def instruction_sets() -> list[str]:
    """The instruction sets of the native kernels that this processor has, best first; none without those kernels."""
    try:
        return list(_native().isa_names())
    except UsageError:
        return []


def configurations(
    backend: str,
    isas: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    *,
    plan: bool = True,
) -> list[Configuration]:
    """Every combination that was asked for; of the native backend, by default, every instruction set.

    Args:
        backend: the name of a lucid backend.
        isas: instruction sets of the native backend.
        threads: numbers of threads; by default 1 and as many as there are processors.
        plan: whether to run inference plans too, where the backend is not the reference.

    Raises:
        UsageError: the processor lacks an instruction set, or a number of threads is none.

    Example:
        >>> [str(each) for each in configurations("reference")]
        ['reference']
    """
    if backend != "native":
        if isas:
            raise UsageError(f"isa: {', '.join(isas)} is the native backend's; the backend is {backend}")
        plans: tuple[How, ...] = ("eager", "plan") if plan and backend != "reference" else ("eager",)
        return [Configuration(backend, how=how) for how in plans]
    known = instruction_sets()
    for isa in isas or ():
        if isa not in known:
            raise UsageError(f"isa: got {isa!r}; this processor has {', '.join(known) or 'no native kernels'}")
    counts = sorted({1, min(os.cpu_count() or 1, MOST_THREADS)}) if threads is None else threads
    if not counts or any(not 1 <= count <= MOST_THREADS for count in counts):
        raise UsageError(f"threads: got {', '.join(map(str, counts))}; each must be {THREADS}")
    hows: tuple[How, ...] = ("eager", "plan") if plan else ("eager",)
    return [Configuration("native", isa, count, how) for isa in isas or known for count in counts for how in hows]


# -- the certificate --------------------------------------------------------------------------------------------------


def certificate(name: str, goldens: Sequence[Golden], runs: Sequence[Run], seconds: float) -> dict[str, Any]:
    """What is written of the runs: the machine, the versions, and of each golden which digests were equal.

    All tensors of a golden are compared in a run; those that are not listed under ``different`` were equal.
    """
    return {
        "format": FORMAT,
        "name": name,
        "agrees": bool(runs) and all(run.agrees for run in runs),
        "made": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(seconds, 1),
        "machine": machine(gpu=any(run.configuration.backend == "cuda" for run in runs)),
        "versions": _versions(),
        "goldens": {golden.case.name: identity(golden) for golden in goldens},
        "rounds": max((run.rounds for run in runs), default=0),
        "digests": sum(len(run.digests) * run.rounds for run in runs),
        "runs": [_run_to_dict(run) for run in runs],
    }


def _run_to_dict(run: Run) -> dict[str, Any]:
    return {
        "golden": run.golden,
        "backend": run.configuration.backend,
        "isa": run.configuration.isa,
        "threads": run.configuration.threads,
        "how": run.configuration.how,
        "agrees": run.agrees,
        "digests": len(run.digests),
        "equal": len(run.digests) - len(run.different),
        "different": [file_name(key) for key in run.different],
        "changed": {file_name(key): number for key, number in run.changed.items()},
        "held": _held_to_dict(run),
        "failure": run.failure or None,
        "seconds": round(run.seconds, 2),
    }


def _held_to_dict(run: Run) -> dict[str, Any]:
    """What lay in memory: how many arrays, and one digest for all of them and their names.

    Certificates that were made before this was looked at lack it.
    """
    lines = [f"{file_name(key)} {found}\n" for key, found in run.held.items()]
    return {"arrays": len(run.held), "digest": hashlib.sha256("".join(lines).encode()).hexdigest()}


def _keys(golden: Golden) -> list[Key]:
    return list(golden.keys())


def identity(golden: Golden) -> str:
    """One digest for all digests of a golden: a certificate of other goldens is known by it."""
    lines = [f"{file_name(key)} {golden.digest(key)}\n" for key in _keys(golden)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def machine(gpu: bool = False) -> dict[str, Any]:
    """The processor, its instruction sets, and the GPU with its driver if one took part."""
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "processors": os.cpu_count(),
        "isa": instruction_sets(),
        "system": f"{platform.system()} {platform.release()}",
        "gpu": _gpu() if gpu else None,
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself, with the family, model and stepping that tell generations apart."""
    try:
        stated = dict(re.findall(r"^([^\t:]+)\t*: (.+)$", cpuinfo.read_text().split("\n\n")[0], re.MULTILINE))
    except OSError:
        stated = {}
    name = stated.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{field} {stated[key]}" for key, field in _CPU_FIELDS.items() if key in stated]
    return f"{name.strip()} ({', '.join(numbers)})" if numbers else name.strip()


_CPU_FIELDS = {"cpu family": "family", "model": "model", "stepping": "stepping"}


def _gpu() -> dict[str, Any]:
    import cupy

    runtime = cupy.cuda.runtime
    with foreign("--device: there is no GPU here that CUDA can use"):
        properties = runtime.getDeviceProperties(0)
    return {
        "name": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "memory_bytes": int(properties["totalGlobalMem"]),
        "driver": _driver(),
        "cuda_driver": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
    }


def _driver() -> str | None:
    found = shutil.which("nvidia-smi")
    if found is None:
        return None
    asked = [found, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None


def _versions() -> dict[str, Any]:
    return {
        **{name: version for name, version in versions().items() if name in ("lucid-oracle", "numpy")},
        "python": platform.python_version(),
        "arithmetic": lucid.ARITHMETIC_VERSION,
    }


def slug(text: str) -> str:
    """``text`` as the name of a file.

    Example:
        >>> slug("Intel(R) Xeon(R) Processor (family 6, model 167, stepping 1)")
        'intel-xeon-processor-family-6-model-167-stepping-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm|c)\)", " ", text.lower())).strip("-")


def write_certificate(document: dict[str, Any], path: Path) -> None:
    """Write a certificate.

    Raises:
        UsageError: the file cannot be written.
    """
    write_whole(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def read_certificates(directory: Path) -> list[dict[str, Any]]:
    """The certificates of a directory, by name.

    Raises:
        UsageError: one of them cannot be read, or is no certificate.
    """
    found = []
    for path in sorted(directory.glob("*.json")):
        document = read_json(path, "certificate")
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise UsageError(f"certificate: {path} is no certificate of the format {FORMAT!r}")
        found.append(document)
    return found


def table(certificates: Sequence[dict[str, Any]], current: dict[str, str]) -> str:
    """Certificates as a Markdown table, a row a machine, backend and instruction set.

    Args:
        certificates: as `read_certificates` returns them.
        current: the identity of each golden as it is now; a certificate of other goldens is marked as outdated.
    """
    lines = [
        "| machine | lucid | threads | cases | digests | equal | rounds | made |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for document in certificates:
        device = document["machine"]["gpu"]["name"] if document["machine"]["gpu"] else document["machine"]["processor"]
        groups: dict[str, list[dict[str, Any]]] = {}
        for run in document["runs"]:
            name = run["backend"] if run["isa"] is None else f"{run['backend']} {run['isa']}"
            groups.setdefault(name, []).append(run)
        outdated = any(current.get(name) != known for name, known in document["goldens"].items())
        for name, runs in groups.items():
            threads = sorted({run["threads"] for run in runs if run["threads"] is not None})
            hows = " and ".join(dict.fromkeys(run["how"] for run in runs))
            total, equal = (sum(run[what] for run in runs) for what in ("digests", "equal"))
            share = "all" if total == equal and all(run["agrees"] for run in runs) else f"**{equal}**"
            cells = (
                device,
                f"{name} ({hows})",
                ", ".join(map(str, threads)) or "-",
                str(len({run["golden"] for run in runs})),
                f"{total:,}",
                f"{share} (of other goldens)" if outdated else share,
                str(document["rounds"]),
                document["made"][:10],
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
