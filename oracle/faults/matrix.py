"""The matrix: every fault in a subject at a layer drawn at random, and which view caught it and named that layer.

A fault goes into the PyTorch twin, which the free and the local view judge as they would any foreign subject, and,
where it can, into a lucid model, whose bits are compared with the healthy model's: the exact view. The same subjects
without a fault come first; if one of them is flagged, nothing here would prove anything, and that is an error.

A fault that changes no bit of the trace nor of the statistics that are kept leaves nothing to catch. That has one of
two reasons, which are never mixed:

- it is *inert*: it changes nothing whatever the case, and the catalogue says why (a max pool that pads with zero behind
  a ReLU, for instance);
- or it *cannot be seen by this case*: another input or weight would show it (the mask of another image where a channel
  has one sign, or anything that mixes images in a batch of one). That is a blind spot of the case, listed as such.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracle.case.case import SEEDED, Case
from oracle.case.zoo import SMALLEST
from oracle.errors import UsageError
from oracle.faults.bench import Bench, same_bits
from oracle.faults.fault import CATALOGUE, Engine, Fault, find_fault
from oracle.faults.inject import faulty, place
from oracle.graph.graph import Node
from oracle.graph.model import Mode
from oracle.judge.verdicts import SubjectVerdict
from oracle.subjects import Subject, find_subject
from oracle.trace import Trace

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one fault at one layer.

    Args:
        fault: its name.
        category: its kind.
        engine: whose model it was put into.
        case: which case.
        layer: where it struck.
        changed: whether it changed any bit.
        unseen: why it changed none, if another case would show it: what this case lacks.
        caught: by view, whether it was caught; views that do not apply are absent.
        named: by view, whether the first tensor that is over is the one that the fault makes.
        found: by view, the sentence.
        failure: why the subject could not finish, if it could not.
    """

    fault: str
    category: str
    engine: Engine
    case: str
    layer: str
    changed: bool
    caught: Mapping[str, bool] = field(default_factory=dict)
    named: Mapping[str, bool] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""
    unseen: str = ""

    @property
    def is_caught(self) -> bool:
        """Whether any view caught it."""
        return any(self.caught.values())

    @property
    def is_named(self) -> bool:
        """Whether the layer was named by the most precise view that caught it: exact, else local, else free."""
        for view in ("exact", "local", "free"):
            if self.caught.get(view):
                return self.named.get(view, False)
        return False


class _Proving:
    """One case, and the healthy subjects' own results, to which every faulty one is compared.

    Args:
        case: the case.
        progress: called with a sentence before each step.

    Raises:
        UsageError: a healthy subject is flagged.
    """

    def __init__(self, case: Case, progress: Progress = lambda message: None) -> None:
        self.case = case
        progress(f"{case.name}: the truth and its budgets")
        self.bench = Bench(case)
        progress(f"{case.name}: the healthy subjects")
        self.healthy = {engine: _run(find_subject(engine), case) for engine in ("torch", "lucid")}
        for verdict in self._foreign(find_subject("torch"), self.healthy["torch"].trace):
            if not verdict.agrees:
                raise UsageError(f"{case.name}: the healthy subject is flagged: {verdict.sentence()}")

    def try_fault(self, engine: Engine, fault: Fault, layer: Node, seed: int) -> Outcome:
        """Put one fault into one subject and look at it in every view that applies."""
        subject = faulty(engine, fault, self.case, layer, seed)
        run = _run(subject, self.case)
        changed = bool(run.failure) or not run.same_bits(self.healthy[engine])
        entry: dict[str, Any] = {}
        if changed:
            look = self._foreign if engine == "torch" else self._own
            verdicts = look(subject, run.trace)
            entry = {
                "caught": {each.view: not each.agrees for each in verdicts},
                "named": {each.view: _names(each, layer) for each in verdicts if not each.agrees},
                "found": {each.view: each.sentence() for each in verdicts},
            }
        elif not fault.no_op:
            entry = {"unseen": f"it needs {fault.needs}"}
        return Outcome(
            fault.name, fault.category, engine, self.case.name, layer.name, changed, **entry, failure=run.failure
        )

    def _foreign(self, subject: Subject, trace: Trace) -> list[SubjectVerdict]:
        return [self.bench.free(subject, trace), self.bench.local(subject)]

    def _own(self, subject: Subject, trace: Trace) -> list[SubjectVerdict]:
        """lucid's views: exact, and local for what the trace does not hold (the statistics that are kept)."""
        exact = self.bench.exact(subject, trace, self.healthy["lucid"].trace)
        return [exact, self.bench.local(subject)] if exact.agrees else [exact]


@dataclass(frozen=True)
class _Ran:
    """A subject's trace, and the statistics that its model holds afterwards."""

    trace: Trace
    statistics: Mapping[str, np.ndarray]
    failure: str = ""

    def same_bits(self, other: _Ran) -> bool:
        """Whether not one bit differs."""
        if list(self.trace) != list(other.trace):
            return False
        same = all(same_bits(self.trace[key], other.trace[key]) for key in other.trace)
        return same and all(same_bits(self.statistics[name], other.statistics[name]) for name in other.statistics)


def _run(subject: Any, case: Case) -> _Ran:
    """Run a subject whose model is asked for its statistics afterwards."""
    models: list[Any] = []
    build = subject.build

    def watched(case: Case) -> Any:
        models.append(build(case))
        return models[-1]

    subject.build = watched
    trace, failure = Trace(), ""
    try:
        subject.run(case, trace)
    except Exception as error:  # a faulty model may fail; that is a way of being caught
        failure = f"{type(error).__name__}: {error}"
    del subject.build  # the instance's; the class's own is back
    statistics = {}
    for model in models:
        for name, value in model.named_buffers():
            if name.rpartition(".")[2] in ("running_mean", "running_var"):
                statistics[name] = np.array(value.numpy())
    return _Ran(trace, statistics, failure)


def _names(verdict: SubjectVerdict, layer: Node) -> bool:
    """Whether the first tensor that is over is one that the faulty layer makes: its output, its statistics, the
    gradients of its parameters, or that of its input, which the free view has under the name of what the layer takes.

    (A wrong weight that meets zeros alone shows in no output, but in the gradient of the layer's input.)"""
    first = verdict.first
    if first is None:
        return False
    owner, _, leaf = first.name.rpartition(".")
    if first.kind == "parameter_gradient" or leaf in ("running_mean", "running_var"):
        return owner == layer.name
    if first.kind == "activation_gradient" and verdict.view != "local":  # the gradients of what the layer takes
        return first.name in (*layer.inputs, layer.source)
    return first.name == layer.name


@dataclass(frozen=True)
class Matrix:
    """All outcomes, and what they come to."""

    outcomes: Sequence[Outcome]
    seconds: float = 0.0

    @property
    def inert(self) -> list[Outcome]:
        """Those that change no bit of any case."""
        return [each for each in self.outcomes if not each.changed and not each.unseen]

    @property
    def unseen(self) -> list[Outcome]:
        """Those that changed no bit of this case, but would of another: what it cannot see."""
        return [each for each in self.outcomes if not each.changed and each.unseen]

    @property
    def live(self) -> list[Outcome]:
        """Those that changed something."""
        return [each for each in self.outcomes if each.changed]

    @property
    def missed(self) -> list[Outcome]:
        """Those that no view caught."""
        return [each for each in self.live if not each.is_caught]

    @property
    def misnamed(self) -> list[Outcome]:
        """Those that were caught, with another layer named."""
        return [each for each in self.live if each.is_caught and not each.is_named]

    @property
    def caught_share(self) -> float:
        """Of those that changed something, the share that was caught; NaN of none."""
        return 1 - len(self.missed) / len(self.live) if self.live else float("nan")

    @property
    def named_share(self) -> float:
        """Of those that changed something, the share whose layer was named."""
        return sum(each.is_named for each in self.live) / len(self.live) if self.live else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "format": "lucid-oracle faults 2",
            "faults": len({each.fault for each in self.outcomes}),
            "injections": len(self.outcomes),
            "inert": len(self.inert),
            "unseen": len(self.unseen),
            "changed": len(self.live),
            "caught": len(self.live) - len(self.missed),
            "named": sum(each.is_named for each in self.live),
            "caught_share": self.caught_share,
            "named_share": self.named_share,
            "seconds": round(self.seconds, 1),
            "outcomes": [_outcome_to_dict(each) for each in self.outcomes],
        }


def _outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    entry = {
        "fault": outcome.fault,
        "category": outcome.category,
        "engine": outcome.engine,
        "case": outcome.case,
        "layer": outcome.layer,
        "changed": outcome.changed,
    }
    if outcome.changed:
        entry |= {"caught": dict(outcome.caught), "named": dict(outcome.named)}
        if not outcome.is_caught or not outcome.is_named:
            entry["found"] = dict(outcome.found)
    if outcome.unseen:
        entry["unseen"] = outcome.unseen
    if outcome.failure:
        entry["failure"] = outcome.failure
    return entry


def matrix_cases(
    modes: Iterable[Mode] = ("eval", "train"), size: int = 72, batch: int = 3, seed: int = 0
) -> list[Case]:
    """The small networks' cases, of the shape of a standard train step."""
    return [Case(model, mode, SEEDED, size, batch, seed) for model in SMALLEST.values() for mode in modes]


def run_matrix(
    cases: Sequence[Case],
    faults: Iterable[str] | None = None,
    *,
    engines: Sequence[Engine] = ("torch", "lucid"),
    repeats: int = 1,
    seed: int = 0,
    progress: Progress = lambda message: None,
) -> Matrix:
    """Put each fault into each engine in each case that it can strike, ``repeats`` times at layers drawn anew.

    Raises:
        UsageError: a fault is unknown, a healthy subject is flagged, or nothing at all was tried.
    """
    chosen = [find_fault(name) for name in (CATALOGUE if faults is None else faults)]
    start = time.perf_counter()
    outcomes = list(_outcomes(cases, chosen, engines, repeats, seed, progress))
    if not outcomes:
        raise UsageError("faults: none of them can strike any of the cases: nothing would be proved")
    return Matrix(outcomes, time.perf_counter() - start)


def _outcomes(
    cases: Sequence[Case],
    faults: Sequence[Fault],
    engines: Sequence[Engine],
    repeats: int,
    seed: int,
    progress: Progress,
) -> Iterator[Outcome]:
    for case in cases:
        proving: _Proving | None = None
        layers = case.graph.nodes
        for fault in faults:
            if fault.hidden_by_the_batch(case, layers):
                lacking = "it needs more than one image"
                yield from (
                    Outcome(fault.name, fault.category, engine, case.name, "-", False, unseen=lacking)
                    for engine in engines
                    if engine in fault.engines
                )
                continue
            for repeat in range(repeats):
                layer = place(fault, case, seed + repeat)
                if layer is None:
                    break
                proving = proving or _Proving(case, progress)
                for engine in engines:
                    if engine in fault.engines:
                        progress(f"{case.name}: {fault.name} at {layer.name}, {engine}")
                        yield proving.try_fault(engine, fault, layer, seed + repeat)
