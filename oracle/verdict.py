"""`check`: run a model's cases through the subjects and gather one verdict.

For each mode PyTorch runs in float64 (the truth, kept whole) and in float32 (the yardstick); then each subject runs
and is measured while it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from oracle.architecture import Architecture, find_architecture
from oracle.case import PHOTOGRAPH, Case, Mode
from oracle.compare import Comparison, SubjectVerdict, judge
from oracle.errors import UsageError
from oracle.subjects import Subject, find_subject
from oracle.trace import Trace

DEFAULT_SUBJECTS = ("lucid", "onnxruntime")
SIZE = 224
TRAIN_BATCH = 2
# A train step of the pre-activation networks (66 blocks and more) at 224x224 would need tens of gigabytes and half an
# hour.
DEEP_TRAIN_SIZE = 64
DEEP_BLOCKS = 50
Progress = Callable[[str], None]


@dataclass(frozen=True)
class CaseVerdict:
    """One case and what became of each subject in it."""

    case: Case
    subjects: Sequence[SubjectVerdict]
    loss: float | None = None
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether every subject agrees, and there was at least one."""
        return bool(self.subjects) and all(subject.agrees for subject in self.subjects)


@dataclass(frozen=True)
class Verdict:
    """All cases of one check."""

    cases: Sequence[CaseVerdict]
    versions: dict[str, str]

    @property
    def agrees(self) -> bool:
        """Whether every case agrees, and there was at least one."""
        return bool(self.cases) and all(case.agrees for case in self.cases)

    def sentences(self) -> list[str]:
        """One sentence for each subject in each case."""
        return [f"{case.case.name}: {subject.sentence()}" for case in self.cases for subject in case.subjects]

    def to_dict(self) -> dict[str, Any]:
        """The whole verdict as JSON can hold it."""
        from oracle.report.json_report import verdict_to_dict

        return verdict_to_dict(self)


def check(
    model: str | Architecture,
    subjects: Iterable[str | Subject] = DEFAULT_SUBJECTS,
    *,
    mode: Mode | Literal["both"] = "both",
    source: str | Path = PHOTOGRAPH,
    size: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
    progress: Progress = lambda message: None,
) -> Verdict:
    """Is this model right on these subjects, forward and backward, and if not, which layer goes wrong first?

    Args:
        model: one of the ten names, or an `Architecture` of your own.
        subjects: names (``lucid``, ``lucid:reference``, ``lucid:float64``, ``torch:no-onednn``, ``onnxruntime``) or
            objects. A subject takes part in the modes that it can run.
        mode: ``eval``, ``train`` or ``both``.
        source: ``"photo"``, ``"seeded"``, or a picture's path.
        size: height and width of the input; by default 224, and 64 in a train step of a network of more than 50 blocks.
        batch: number of images; by default 1 in eval and 2 in a train step (one image alone leaves the last stage's
            batch normalisation next to nothing to normalise).
        seed: what weights, labels and seeded inputs derive from.
        weights: a safetensors file instead of seeded weights.
        progress: called with a sentence before each step.

    Raises:
        UsageError: what was asked for cannot be done as asked.
    """
    architecture = find_architecture(model) if isinstance(model, str) else model
    found = [find_subject(subject) if isinstance(subject, str) else subject for subject in subjects]
    labels = [subject.label for subject in found]
    if len(set(labels)) < len(labels):
        raise UsageError(f"subjects: got {', '.join(labels)}; each may be named once")
    modes: tuple[Mode, ...] = ("eval", "train") if mode == "both" else (mode,)
    cases = []
    for each in modes:
        case = Case(architecture, each, source, *_shape(architecture, each, size, batch), seed, weights)
        able = [subject for subject in found if each in subject.modes]
        if able:
            cases.append((case, able))
    if not cases:
        raise UsageError(f"subjects: none of ({', '.join(labels)}) can run mode {mode}: nothing would be compared")
    return Verdict([run_case(case, able, progress) for case, able in cases], versions())


def _shape(architecture: Architecture, mode: Mode, size: int | None, batch: int | None) -> tuple[int, int]:
    """The input's size and batch where they were not given."""
    deep = mode == "train" and sum(architecture.layers) > DEEP_BLOCKS
    usual = DEEP_TRAIN_SIZE if deep else SIZE
    images = 1 if mode == "eval" else TRAIN_BATCH
    return (usual if size is None else size), (images if batch is None else batch)


def run_case(case: Case, subjects: Iterable[Subject], progress: Progress = lambda message: None) -> CaseVerdict:
    """Run one case: the truth, the yardstick, then each subject.

    Raises:
        UsageError: the truth itself is not finite, so that nothing can be judged by it.
    """
    start = time.perf_counter()
    progress(f"{case.name}: PyTorch in float64, the truth")
    truth = find_subject("torch:float64").trace(case)
    _require_finite(truth, case)
    progress(f"{case.name}: PyTorch in float32, the yardstick")
    yardstick = Comparison(truth)
    find_subject("torch").run(case, yardstick)
    verdicts = []
    for subject in subjects:
        progress(f"{case.name}: {subject.label}")
        verdicts.append(_run_subject(subject, case, truth, yardstick))
    loss = float(truth["loss", "loss"]) if ("loss", "loss") in truth else None
    return CaseVerdict(case, verdicts, loss, time.perf_counter() - start)


def _run_subject(subject: Subject, case: Case, truth: Trace, yardstick: Comparison) -> SubjectVerdict:
    start = time.perf_counter()
    comparison, failure = Comparison(truth), ""
    try:
        subject.run(case, comparison)
    except UsageError:
        raise
    except Exception as error:  # a subject is foreign code: whatever it raises is its verdict, not the oracle's end
        failure = f"{type(error).__name__}: {error}"
    verdict = judge(subject.label, comparison, yardstick, case.mode, subject.precision, subject.kinds)
    return SubjectVerdict(
        verdict.subject, verdict.layers, verdict.flips, verdict.consumers, failure, time.perf_counter() - start
    )


def _require_finite(truth: Trace, case: Case) -> None:
    for kind, name in truth:
        if not np.isfinite(truth[kind, name]).all():
            raise UsageError(
                f"{case.name}: the float64 run is not finite from {kind} {name!r} on: with these weights and this "
                "input there is no truth to compare with"
            )


def versions() -> dict[str, str]:
    """The versions of what took part, as far as they are installed."""
    from importlib import metadata

    found = {}
    for name in ("lucid-oracle", "numpy", "torch", "onnx", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
