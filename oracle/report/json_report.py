"""The whole verdict as JSON: strict (no bare NaN or Infinity), written whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from oracle.compare import LayerVerdict, SubjectVerdict
from oracle.trace import write_whole
from oracle.verdict import CaseVerdict, Verdict

FORMAT = "lucid-oracle verdict 1"


def number(value: float) -> float | str:
    """A float as strict JSON can hold it: what is not finite becomes the string ``NaN``, ``Infinity`` or ``-Infinity``.

    Example:
        >>> number(0.5), number(float("nan")), number(float("-inf"))
        (0.5, 'NaN', '-Infinity')
    """
    if math.isfinite(value):
        return value
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
        "loss": None if case.loss is None else number(case.loss),
        "seconds": round(case.seconds, 3),
        "subjects": [_subject(subject) for subject in case.subjects],
    }


def _subject(subject: SubjectVerdict) -> dict[str, Any]:
    forward, backward = subject.first_forward, subject.first_backward
    return {
        "subject": subject.subject,
        "agrees": subject.agrees,
        "sentence": subject.sentence(),
        "failure": subject.failure or None,
        "first_forward": forward and forward.name,
        "first_backward": backward and backward.name,
        "flips": dict(subject.flips),
        "seconds": round(subject.seconds, 3),
        "layers": [_layer(layer) for layer in subject.layers],
    }


def _layer(layer: LayerVerdict) -> dict[str, Any]:
    return {
        "kind": layer.kind,
        "name": layer.name,
        "status": layer.status,
        "error": number(layer.error),
        "torch_error": number(layer.yardstick),
        "ratio": number(layer.ratio),
        "allowed": number(layer.allowed),
        "largest": number(layer.largest),
        "torch_largest": number(layer.largest_yardstick),
        "largest_allowed": number(layer.largest_allowed),
        "note": layer.note,
    }


def write_json(verdict: Verdict, path: Path) -> None:
    """Write the verdict to ``path``.

    Raises:
        UsageError: the file cannot be written.
    """
    text = json.dumps(verdict_to_dict(verdict), indent=1, allow_nan=False)
    write_whole(path, (text + "\n").encode())
