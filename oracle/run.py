"""`check`: run a model's cases through the subjects, look at each in every view that applies, gather one verdict.

lucid's backends are held to the golden's digests (*exact*); foreign subjects to the budgets, once for the whole run
(*free*, or *stored* where only samples and projections are at hand), tensor by tensor from what the subject itself had
(*own*), and once layer by layer (*local*).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from oracle.case.adopt import adopt_trace, judge_weights, require_input
from oracle.case.case import ARRAYS, SEEDED, Case, read_array
from oracle.case.names import Rules
from oracle.case.zoo import find_model, is_given
from oracle.errors import UsageError, foreign, name_of
from oracle.graph.model import Mode, Model
from oracle.judge.local import LocalTruth, local_checks
from oracle.judge.own import own_check
from oracle.judge.summary import CaseVerdict, Verdict, versions
from oracle.judge.verdicts import UNSEEN, Comparison, LayerVerdict, SubjectVerdict, View, no_numbers
from oracle.networks.given import name_of as name_of_model
from oracle.operations import is_loss
from oracle.precision.profile import profile_of
from oracle.subjects import Subject, find_subject, require_sound
from oracle.trace import Key, Kind, NotNumbersError, Recorder, Trace, require_key, to_numbers
from oracle.truth.goldens import Golden, stored_case, stored_input
from oracle.truth.truth import Truth, prepare

DEFAULT_SUBJECTS = ("lucid", "torch", "onnxruntime")
DEFAULT_VIEWS: tuple[View, ...] = ("exact", "free", "own", "local")
Progress = Callable[[str], None]


def check(
    model: str | Model,
    subjects: Iterable[str | Subject] = DEFAULT_SUBJECTS,
    *,
    mode: Mode | Literal["both"] = "both",
    views: Iterable[View] = DEFAULT_VIEWS,
    source: str | Path = SEEDED,
    size: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
    names: Path | None = None,
    golden: Path | None = None,
    shape: tuple[int, ...] | None = None,
    tokens: int = 0,
    mirror: str = "",
    progress: Progress = lambda message: None,
) -> Verdict:
    """Is this model right on these subjects, forward and backward, and if not, which layer goes wrong first?

    Args:
        model: one of the ten names, a name of ``NARROW`` or ``SMALL`` in `oracle.resnets` or of ``NARROW_NETWORKS`` in
            `oracle.networks`; or one of your own: ``package.module:factory`` of a module of lucid or of PyTorch, or an
            ONNX file.
        subjects: names (``lucid``, ``lucid:reference``, ``lucid:float64``, ``torch:no-onednn``, ``onnxruntime``) or
            objects. A subject takes part in the modes that it can run.
        mode: ``eval``, ``train`` or ``both``.
        views: ``exact`` holds lucid to the digests; ``free`` judges a foreign subject's whole run, ``stored`` does so
            by the golden's samples and projections alone; ``own`` judges every tensor of that run from the run's own
            values; ``local`` feeds it layer by layer.
        source: ``"seeded"``, ``"photo"``, a picture's path, or that of an ``.npz`` or ``.npy`` file.
        size: height and width of the input; by default 72 in a train step, and in eval 224 (128 for the pre-activation
            networks, 72 for a narrow one).
        batch: number of images; by default 2 in eval and 3 in a train step.
        seed: what weights, labels and seeded inputs derive from.
        weights: a safetensors file instead of seeded weights.
        names: a file of rules (`oracle.case.names.Rules`) for the names in ``weights`` and in what subjects read.
        golden: where the goldens are, if not in the package.
        shape: of the input of a model of your own; by default that of the array in ``source``, or in the ONNX file.
        tokens: how many tokens there are, where such a model takes tokens.
        mirror: ``package.module:factory`` in PyTorch of a model of lucid, the truth's second origin.
        progress: called with a sentence before each step.

    A case that is not a golden's (another seed, size, picture or weights) has its truth made on the spot.

    Raises:
        UsageError: what was asked for cannot be done as asked, or a golden is damaged.
    """
    cases = cases_of(
        model,
        mode,
        source=source,
        size=size,
        batch=batch,
        seed=seed,
        weights=weights,
        names=names,
        golden=golden,
        shape=shape,
        tokens=tokens,
        mirror=mirror,
    )
    subjects = list(subjects)
    if subjects == list(DEFAULT_SUBJECTS) and not cases[0].model.mirrored:
        subjects.remove("torch")
    found = [find_subject(subject) if isinstance(subject, str) else require_sound(subject) for subject in subjects]
    labels = [subject.label for subject in found]
    if len(set(labels)) < len(labels):
        raise UsageError(f"subjects: got {', '.join(labels)}; each may be named once")
    wanted = _check_views(views)
    plan = [(case, [subject for subject in found if case.mode in subject.modes]) for case in cases]
    plan = [(case, able) for case, able in plan if able]
    if not plan:
        raise UsageError(f"subjects: none of ({', '.join(labels)}) can run mode {mode}: nothing would be compared")
    verdicts = [run_case(case, able, progress, views=wanted, directory=golden) for case, able in plan]
    return Verdict(verdicts, versions())


def cases_of(
    model: str | Model,
    mode: Mode | Literal["both"] = "both",
    *,
    source: str | Path = SEEDED,
    size: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
    names: Path | None = None,
    golden: Path | None = None,
    shape: tuple[int, ...] | None = None,
    tokens: int = 0,
    mirror: str = "",
) -> list[Case]:
    """The cases of a model, with arguments as `check` has them. Of a model without classes ``both`` is eval alone.

    Raises:
        UsageError: there is no such model, or it cannot be run so.
    """
    modes: tuple[Mode, ...] = ("eval", "train") if mode == "both" else (mode,)
    if isinstance(model, str) and is_given(model) and shape is None:
        shape, tokens = _input_of(model, modes, Path(source), tokens, golden)
    found = find_model(model, shape, tokens, mirror) if isinstance(model, str) else model
    if mode == "both" and not any(map(is_loss, found.graph().nodes)):
        modes = ("eval",)
    cases = []
    for each in modes:
        usual_size, usual_batch = found.standard_shape(each)
        sides = (usual_size if size is None else size), (usual_batch if batch is None else batch)
        cases.append(stored_case(Case(found, each, source, *sides, seed, weights, names), golden))
    return cases


def _input_of(
    model: str, modes: Sequence[Mode], source: Path, tokens: int, golden: Path | None
) -> tuple[tuple[int, ...] | None, int]:
    """The shape of the input of a model of somebody's own, and how many tokens there are: those of the array in a file,
    or of a golden."""
    if source.suffix in ARRAYS:
        array = read_array(source)
        return array.shape, tokens or (int(array.max(initial=0)) + 1 if array.dtype.kind in "iu" else 0)
    found = [stored_input(f"{name_of_model(model)}-{mode}", golden) for mode in modes if golden is not None]
    shape, of_golden = next((each for each in found if each[0] is not None), (None, 0))
    return shape, tokens or of_golden


def _check_views(views: Iterable[View]) -> tuple[View, ...]:
    wanted = tuple(dict.fromkeys(views))
    unknown = [view for view in wanted if view not in get_args(View)]
    if unknown or not wanted:
        raise UsageError(f"views: got {', '.join(unknown) or 'none'}; may be {', '.join(get_args(View))}")
    return wanted


def run_case(
    case: Case,
    subjects: Iterable[Subject],
    progress: Progress = lambda message: None,
    *,
    views: Iterable[View] = DEFAULT_VIEWS,
    truth: Truth | None = None,
    directory: Path | None = None,
) -> CaseVerdict:
    """Run one case: the truth if a view needs it, then each subject in each view that applies to it.

    Args:
        case: what to run.
        subjects: who runs it.
        progress: called with a sentence before each step.
        views: as in `check`.
        truth: the case's truth, where it was made before.
        directory: where the goldens are.

    Raises:
        UsageError: the truth itself is not finite, so that nothing can be judged by it; a golden is damaged; or no
            view applies to any of the subjects.
    """
    start = time.perf_counter()
    wanted, subjects = _check_views(views), list(subjects)
    truth = prepare(case, directory) if truth is None else truth
    plan = [(subject, view) for subject in subjects for view in views_of(subject, wanted, truth)]
    if not plan:
        raise UsageError(
            f"views: none of ({', '.join(wanted)}) applies to ({', '.join(subject.label for subject in subjects)}) in "
            f"{case.name}: nothing would be compared"
        )
    brought = {subject: _brought(subject, case) for subject in dict.fromkeys(subject for subject, _ in plan)}
    if any(view in ("free", "local") for _, view in plan):
        truth.recompute(progress)
    verdicts = _local([subject for subject, view in plan if view == "local"], truth, progress)
    for subject in subjects:
        whole = [view for each, view in plan if each is subject and view != "local"]
        if whole:
            progress(f"{case.name}: {subject.label}, {' and '.join(whole)}")
            verdicts |= {(subject, verdict.view): verdict for verdict in look(subject, whole, truth)}
    # Of a model whose modules are no operations, none may be there to be driven; other views say what can be said.
    idle = {
        (subject, view)
        for (subject, view), verdict in verdicts.items()
        if view == "local" and not verdict.observed and not verdict.failure and (subject, "free") in verdicts
    }
    found = [replace(verdicts[each], **brought[each[0]]) for each in plan if each in verdicts and each not in idle]
    return CaseVerdict(case, found, truth.loss, truth.how, time.perf_counter() - start)


def _brought(subject: Subject, case: Case) -> dict[str, Any]:
    """What is to be said of a subject's own weights and names, as fields of its verdicts.

    Raises:
        UsageError: its weights are not the case's, or it takes other images.
    """
    with foreign(f"subject: {subject.label} could not say what weights it has"):
        found = subject.brings(case)
        if found is None:
            return {}
        notes, differing = judge_weights(subject.label, found, case)
        require_input(subject.label, found, case)
    return {"notes": notes, "differing": differing}


def views_of(subject: Subject, wanted: Sequence[View], truth: Truth) -> list[View]:
    """Which of the wanted views apply: exact to lucid where there are digests, the others to everybody else.

    Where there is no golden, lucid is judged as a foreign subject is.
    """
    if subject.exact and truth.golden is not None:
        return [view for view in wanted if view == "exact"]
    local = subject.layered and (truth.case.model.modular or not subject.exact)
    applies = {"free": True, "own": True, "stored": truth.golden is not None, "local": local}
    return sorted((view for view in wanted if applies.get(view, False)), key=list(applies).index)


def _local(subjects: Sequence[Subject], truth: Truth, progress: Progress) -> dict[tuple[Subject, View], SubjectVerdict]:
    """The local view of all subjects; those of one precision share what each layer should make."""
    verdicts: dict[tuple[Subject, View], SubjectVerdict] = {}
    for precision in dict.fromkeys(subject.precision for subject in subjects):
        group = [subject for subject in subjects if subject.precision == precision]
        progress(f"{truth.case.name}: {', '.join(subject.label for subject in group)}, local")
        start = time.perf_counter()
        found = local_checks(group, LocalTruth(truth.case, truth.trace, precision))
        seconds = (time.perf_counter() - start) / len(group)
        for subject, verdict in zip(group, found, strict=True):
            verdicts[subject, "local"] = replace(verdict, seconds=seconds)
    return verdicts


class _Several:
    """A recorder that hands every tensor to several others."""

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self._recorders = recorders

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        """Hand one tensor on."""
        for recorder in self._recorders:
            recorder.record(kind, name, array)


class _Kept(Trace):
    """A trace of whatever a subject records; what it records twice, the comparison reports.

    Attributes:
        refused: what holds no numbers, and is not kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[Key, LayerVerdict] = {}

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        """Keep one tensor."""
        require_key(kind, name)
        key = (kind, name)
        if key in self or key in self.refused:
            return
        try:
            super().record(kind, name, to_numbers(array))
        except NotNumbersError as error:
            self.refused[key] = no_numbers(key, "own", error)


def look(subject: Subject, views: Sequence[View], truth: Truth) -> list[SubjectVerdict]:
    """Run one subject once and judge it in each of some views (not ``local``); its tensors are kept for ``own`` alone.

    The view ``own`` is left out where nothing in the run could be judged in it.
    """
    precision = str(profile_of(subject.precision))
    start, failure, keys = time.perf_counter(), "", truth.keys(subject.kinds)
    partial = subject.partial or (UNSEEN if truth.case.model.functional and not subject.exact else False)
    comparisons: dict[View, Comparison] = {
        view: Comparison(keys, view, truth.judge(view, precision), partial=partial) for view in views if view != "own"
    }
    kept = _Kept() if "own" in views else None
    try:
        subject.run(truth.case, _Several([*comparisons.values(), *([] if kept is None else [kept])]))
    except UsageError:
        raise
    except Exception as error:  # a subject is foreign code: whatever it raises is its verdict, not the oracle's end
        failure = name_of(error)
    found = []
    for view, comparison in comparisons.items():
        layers, seconds = truth.hinted(comparison.layers(), view, precision), time.perf_counter() - start
        found.append(SubjectVerdict(subject.label, view, precision, layers, failure, seconds, truth.consumers))
        start = time.perf_counter()
    if kept is not None:
        own = _own(kept, subject.label, precision, truth.keys_and_statistics(subject.kinds), truth, failure)
        own = replace(own, layers=[kept.refused.get((each.kind, each.name), each) for each in own.layers])
        if own.judged or not found:
            found.append(own)
    return found


def _own(trace: Trace, label: str, precision: str, keys: list[Key], truth: Truth, failure: str = "") -> SubjectVerdict:
    found = own_check(trace, truth.case, precision, keys, truth.shape, label)
    return replace(found, failure=failure, consumers=truth.consumers)


def compare_trace(
    trace: Trace,
    golden: str | Golden,
    precision: str = "float32",
    *,
    label: str = "trace",
    stored: bool = False,
    rules: Rules | None = None,
    directory: Path | None = None,
    progress: Progress = lambda message: None,
) -> Verdict:
    """Judge tensors that somebody dumped, against a golden: the whole run (``free``, or ``stored``), and every tensor
    from those of the trace that it is made from (``own``), where there are such.

    Args:
        trace: the tensors.
        golden: the golden, or its name, such as ``"resnet_50-train"``.
        precision: what they were computed in, as `oracle.precision.profile` spells it.
        label: what reports call them.
        stored: judge by the golden's samples and projections alone, without recomputing the truth.
        rules: how names are read that are not the oracle's.
        directory: where the goldens are, if not in the package.
        progress: called with a sentence before each step.

    Raises:
        UsageError: the golden is unknown or damaged, the trace holds nothing of it, or its names cannot be read.
    """
    start, precision = time.perf_counter(), str(profile_of(precision))
    found = Golden.load(golden, directory) if isinstance(golden, str) else golden
    adopted = adopt_trace(trace, found.case, rules)
    if not set(adopted.trace) & set(found.keys()):
        raise UsageError(f"{label}: it holds no tensor of {found.name}: nothing would be compared")
    truth = Truth(found.case, found)
    view: View = "stored" if stored else "free"
    if view == "free":
        truth.recompute(progress)
    progress(f"{found.case.name}: {label}")
    comparison = Comparison(truth.keys(), view, truth.judge(view, precision), partial=True)
    trace = adopted.trace
    trace.replay(comparison)
    layers = truth.hinted(comparison.layers(), view, precision)
    subjects = [SubjectVerdict(label, view, precision, layers, "", time.perf_counter() - start, truth.consumers)]
    if not stored:
        own = _own(trace, label, precision, truth.keys_and_statistics(), truth)
        subjects += [own] if own.judged else []
    subjects = [replace(subject, notes=adopted.notes) for subject in subjects]
    return Verdict([CaseVerdict(found.case, subjects, truth.loss, truth.how, time.perf_counter() - start)], versions())
