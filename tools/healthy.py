"""Check subjects that are known to be healthy, many times; the oracle must never flag one.

    python tools/healthy.py --json tools/records/healthy.json

Narrow and small networks with many seeds, then the ten models with one, in the standard shapes: PyTorch with and
without oneDNN, with one and two threads, channels last, in bfloat16 and float16, compiled; ONNX Runtime at each level
of optimisation, and a file that lucid exported; lucid's backends, judged as a foreign subject is. Every pair of a
subject and a view (free, own, local) that it has is one check. The exit status is 1 if any was flagged, or if fewer
than --least were made. The record says how much of their budgets the healthy subjects used. A sweep may be made in
parts:

    python tools/healthy.py --seeds 0 --models resnet_1001 --add old.json --json new.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lucid
from lucid.onnx import export
from oracle.case.case import SEEDED, Case
from oracle.faults.bench import Bench
from oracle.files import record_lines, write_whole
from oracle.graph.model import Mode
from oracle.judge.verdicts import SubjectVerdict
from oracle.resnets import ARCHITECTURES, NARROW, SMALL, Architecture, find_architecture
from oracle.run import versions
from oracle.subjects import Subject, find_subject
from oracle.subjects.lucid_engine import make_model

TORCH = ("torch", "torch:no-onednn", "torch:threads=1", "torch:threads=2", "torch:channels_last")
LOW = ("torch:bfloat16", "torch:float16")
COMPILED = ("torch:compile",)
ONNX = ("onnxruntime", "onnxruntime:extended", "onnxruntime:basic", "onnxruntime:unoptimized")
EXPORTED = "onnxruntime:file="  # followed by where a model of the case lies, which lucid exported
LUCID = ("lucid", "lucid:reference", "lucid:float64")
MODES: tuple[Mode, ...] = ("eval", "train")


@dataclass
class Tally:
    """All checks so far.

    Args:
        used: by subject, mode and view, the largest share of any budget that was used.
        count: by the same, how many checks.
        flagged: one sentence for each false alarm.
        seconds: that earlier runs took.
    """

    used: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    flagged: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, case: Case, verdict: SubjectVerdict) -> None:
        """Count one check."""
        key = f"{verdict.subject} {case.mode} {verdict.view}"
        self.count[key] = self.count.get(key, 0) + 1
        known = [layer.used for layer in verdict.layers if not math.isnan(layer.used)]
        self.used[key] = max(self.used.get(key, 0.0), *known, 0.0)
        if not (verdict.agrees or verdict.undecided):
            self.flagged.append(f"{case.name} seed {case.seed} size {case.size}: {verdict.sentence()}")

    def add_record(self, path: Path) -> None:
        """Count the checks of an earlier run too.

        Raises:
            ValueError: it was made with other versions: the two are no one sweep.
        """
        made = json.loads(path.read_text())
        if made["versions"] != versions():
            raise ValueError(f"--add: {path} was made with {made['versions']}, and this is {versions()}")
        self.seconds += made["seconds"]
        self.flagged += made["flagged"]
        for key, of in made["subjects"].items():
            self.count[key] = self.count.get(key, 0) + of["checks"]
            self.used[key] = max(self.used.get(key, 0.0), of["largest share of a budget"])

    @property
    def checks(self) -> int:
        """How many."""
        return sum(self.count.values())


def subjects_of(case: Case, names: Sequence[str], scratch: Path) -> list[Subject]:
    """Those of ``names`` that can run the case; a model that has to be exported is, into ``scratch``."""
    found = []
    for name in names:
        if name == EXPORTED:
            if case.mode == "train":
                continue
            path = scratch / f"{case.name}.onnx"
            export(make_model(case).eval(), lucid.tensor(case.input), path)
            name += str(path)
        found.append(find_subject(name))
    return [subject for subject in found if case.mode in subject.modes]


def sweep(arguments: argparse.Namespace) -> Iterator[tuple[Case, Sequence[str]]]:
    """The cases, and who runs them."""
    usual = (*TORCH, *ONNX, EXPORTED, *LUCID)
    for seed in range(arguments.seeds):
        for architecture in (NARROW | SMALL).values():
            low, compiled = LOW if seed < arguments.low else (), COMPILED if seed < arguments.compiled else ()
            for mode in MODES:
                yield standard(architecture, mode, seed), (*usual, *low, *compiled)
    for name in arguments.models:
        for mode in MODES:
            low = LOW[:1] if name in arguments.low_models else ()
            yield standard(find_architecture(name), mode, 0, arguments.size), (*usual, *low)


def standard(architecture: Architecture, mode: Mode, seed: int, size: int | None = None) -> Case:
    """The standard case with seeded input, or one of another size."""
    usual, batch = architecture.standard_shape(mode)
    return Case(architecture, mode, SEEDED, usual if size is None else size, batch, seed)


def check(case: Case, names: Sequence[str], tally: Tally) -> None:
    """Every subject in the views free, own and local."""
    benches: dict[str, Bench] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for subject in subjects_of(case, names, Path(scratch)):
            if subject.precision not in benches:
                truth = next(iter(benches.values())).truth if benches else None
                keep = case.architecture in (NARROW | SMALL).values()
                benches[subject.precision] = Bench(case, subject.precision, truth, keep=keep)
            bench = benches[subject.precision]
            trace = subject.trace(case)
            tally.add(case, bench.free(subject, trace))
            tally.add(case, bench.own(subject, trace))
            if subject.layered:
                tally.add(case, bench.local(subject))


def record(tally: Tally, seconds: float) -> dict[str, Any]:
    """As JSON can hold it."""
    return {
        "format": "lucid-oracle healthy 1",
        "checks": tally.checks,
        "flagged": tally.flagged,
        "seconds": round(tally.seconds + seconds, 1),
        "versions": versions(),
        "subjects": {
            key: {"checks": tally.count[key], "largest share of a budget": round(tally.used[key], 3)}
            for key in sorted(tally.count)
        },
    }


def write(path: Path | None, tally: Tally, start: float) -> None:
    """Write the record as it is by now."""
    if path is not None:
        write_whole(path, record_lines(record(tally, time.perf_counter() - start)))


def main() -> int:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the record")
    parser.add_argument("--seeds", type=int, default=10, help="of the small networks")
    parser.add_argument("--compiled", type=int, default=1, help="seeds of the small networks that torch.compile runs")
    parser.add_argument("--low", type=int, default=2, help="seeds of the small networks that run in low precision")
    parser.add_argument("--low-models", nargs="*", default=["resnet_18"], help="full models that run in bfloat16 too")
    parser.add_argument("--models", nargs="*", default=list(ARCHITECTURES), help="full models, all ten by default")
    parser.add_argument("--subjects", nargs="*", help="of those that would run a case, these alone")
    parser.add_argument("--add", nargs="*", type=Path, default=[], help="records of earlier runs, counted too")
    parser.add_argument("--size", type=int, help="height and width of the full models' images")
    parser.add_argument("--least", type=int, default=500, help="checks that have to be made")
    arguments = parser.parse_args()
    start, tally = time.perf_counter(), Tally()
    for path in arguments.add:
        tally.add_record(path)
    for case, names in sweep(arguments):
        before, flagged = tally.checks, len(tally.flagged)
        check(case, [name for name in names if arguments.subjects is None or name in arguments.subjects], tally)
        print(
            f"{case.name} seed {case.seed}: {tally.checks - before} checks, {len(tally.flagged) - flagged} flagged",
            flush=True,
        )
        for sentence in tally.flagged[flagged:]:
            print(f"  {sentence}", flush=True)
        write(arguments.json, tally, start)
    write(arguments.json, tally, start)
    print(f"{tally.checks} checks of healthy subjects, {len(tally.flagged)} flagged")
    return 0 if not tally.flagged and tally.checks >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
