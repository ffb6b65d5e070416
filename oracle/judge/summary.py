"""What a check ends in: the verdicts on one case, those on all, and their form as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from oracle.case.case import Case
from oracle.judge.verdicts import LayerVerdict, SubjectVerdict

FORMAT = "lucid-oracle verdict 2"


@dataclass(frozen=True)
class CaseVerdict:
    """One case and what became of each subject in it, once for each view.

    Args:
        case: what was run.
        subjects: the verdicts.
        loss: the truth's loss, of a train step.
        truth: how the truth was established.
        seconds: how long all of it took.
    """

    case: Case
    subjects: Sequence[SubjectVerdict]
    loss: float | None = None
    truth: str = ""
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether every subject agrees in every view, and there was at least one.

        A view in which nothing of a subject could be judged says nothing, where another view of it agrees.
        """
        agreeing = {subject.subject for subject in self.subjects if subject.agrees}
        return bool(self.subjects) and all(
            subject.agrees or (subject.undecided and subject.subject in agreeing) for subject in self.subjects
        )


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
        """One sentence for each subject and view in each case."""
        return [f"{case.case.name}: {subject.sentence()}" for case in self.cases for subject in case.subjects]

    def to_dict(self) -> dict[str, Any]:
        """The whole verdict as JSON can hold it."""
        return verdict_to_dict(self)


def versions() -> dict[str, str]:
    """The versions of what took part, as far as they are installed."""
    found = {}
    for name in ("lucid-oracle", "numpy", "torch", "onnx", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


# -- as JSON ----------------------------------------------------------------------------------------------------------


def number(value: float) -> float | str:
    """A float as strict JSON can hold it: what is not finite becomes the string ``NaN``, ``Infinity`` or ``-Infinity``.

    Example:
        >>> number(0.5), number(float("nan")), number(float("-inf"))
        (0.5, 'NaN', '-Infinity')
    """
    if math.isfinite(value):
        return float(value)
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def verdict_to_dict(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain dictionaries, lists, strings and finite numbers."""
    return {
        "format": FORMAT,
        "agrees": verdict.agrees,
        "versions": dict(verdict.versions),
        "cases": [_case(case) for case in verdict.cases],
    }


def _case(case: CaseVerdict) -> dict[str, Any]:
    return {
        **case.case.describe(),
        "agrees": case.agrees,
        "truth": case.truth,
        "loss": None if case.loss is None else number(case.loss),
        "seconds": round(case.seconds, 3),
        "subjects": [_subject(subject) for subject in case.subjects],
    }


def _subject(subject: SubjectVerdict) -> dict[str, Any]:
    statuses = [layer.status for layer in subject.layers]
    return {
        "subject": subject.subject,
        "view": subject.view,
        "precision": subject.precision,
        "agrees": subject.agrees,
        "sentence": subject.sentence(),
        "failure": subject.failure or None,
        "notes": list(subject.notes),
        "differing": list(subject.differing),
        "first": place_of(subject, subject.first),
        "first_forward": place_of(subject, subject.first_forward),
        "first_backward": place_of(subject, subject.first_backward),
        "counts": {status: statuses.count(status) for status in dict.fromkeys(statuses)},
        "seconds": round(subject.seconds, 3),
        "layers": [layer_to_dict(layer) for layer in subject.layers],
    }


def place_of(subject: SubjectVerdict, layer: LayerVerdict | None) -> int | None:
    """Where a layer stands in the list of the subject's layers."""
    return None if layer is None else next(place for place, each in enumerate(subject.layers) if each is layer)


def layer_to_dict(layer: LayerVerdict) -> dict[str, Any]:
    """One tensor of a verdict."""
    return {
        "kind": layer.kind,
        "name": layer.name,
        "status": layer.status,
        "agrees": layer.agrees,
        "used": number(layer.used),
        "error": number(layer.error),
        "budget": number(layer.budget),
        "largest": number(layer.largest),
        "largest_budget": number(layer.largest_budget),
        "channel": None if layer.channel is None else int(layer.channel),
        "channel_share": number(layer.channel_share),
        "difference": layer.difference,
        "note": layer.note,
    }
