"""The whole verdict as JSON: strict (no bare NaN or Infinity), written whole or not at all, and read again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oracle.compare import LayerVerdict, SubjectVerdict
from oracle.errors import UsageError
from oracle.files import write_whole

if TYPE_CHECKING:
    from oracle.verdict import CaseVerdict, Verdict

FORMAT = "lucid-oracle verdict 2"
Document = Mapping[str, Any]

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


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


def value(number: float | str) -> float:
    """The float that `number` wrote.

    Example:
        >>> value("Infinity"), value(0.5)
        (inf, 0.5)
    """
    return _WORDS[number] if isinstance(number, str) else float(number)


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
        "first": _place(subject, subject.first),
        "first_forward": _place(subject, subject.first_forward),
        "first_backward": _place(subject, subject.first_backward),
        "counts": {status: statuses.count(status) for status in dict.fromkeys(statuses)},
        "seconds": round(subject.seconds, 3),
        "layers": [layer_to_dict(layer) for layer in subject.layers],
    }


def _place(subject: SubjectVerdict, layer: LayerVerdict | None) -> int | None:
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


def write_json(document: Document, path: Path) -> None:
    """Write a verdict's JSON form to ``path``.

    Raises:
        UsageError: the file cannot be written.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    write_whole(path, (text + "\n").encode())


_NUMBER = (int, float, str)
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "verdict": {"agrees": (bool,), "versions": (dict,), "cases": (list,)},
    "case": {
        "name": (str,),
        "agrees": (bool,),
        "truth": (str,),
        "shape": (list,),
        "input": (str,),
        "seed": (int,),
        "seconds": _NUMBER,
        "loss": (*_NUMBER, type(None)),
        "subjects": (list,),
    },
    "subject": {
        "subject": (str,),
        "view": (str,),
        "precision": (str,),
        "agrees": (bool,),
        "sentence": (str,),
        "failure": (str, type(None)),
        "first": (int, type(None)),
        "first_forward": (int, type(None)),
        "first_backward": (int, type(None)),
        "seconds": _NUMBER,
        "layers": (list,),
    },
    "layer": {
        "kind": (str,),
        "name": (str,),
        "status": (str,),
        "agrees": (bool,),
        "used": _NUMBER,
        "error": _NUMBER,
        "budget": _NUMBER,
        "largest": _NUMBER,
        "largest_budget": _NUMBER,
        "channel": (int, type(None)),
        "channel_share": _NUMBER,
        "difference": (str,),
        "note": (str,),
    },
}
_PARTS = {"verdict": ("cases", "case"), "case": ("subjects", "subject"), "subject": ("layers", "layer")}


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        UsageError: the file is missing, or no verdict of this format; the sentence says what is wrong with it.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"verdict: cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"verdict: {path} is not JSON: {error}") from None
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise UsageError(f"verdict: the format of {path} is {found!r}; may be {FORMAT!r}")
    problem = _problem(document, "verdict")
    if problem:
        raise UsageError(f"verdict: {path} is not a sound verdict: {problem}")
    return document


def _problem(part: Any, what: str) -> str:
    """What is wrong with a part of a document; empty where nothing is."""
    if not isinstance(part, dict):
        return f"a {what} is {type(part).__name__}, not an object"
    for name, types in _FIELDS[what].items():
        if name not in part:
            return f"a {what} has no {name!r}"
        if not isinstance(part[name], types):
            return f"{name!r} of a {what} is {part[name]!r}"
        if types is _NUMBER and isinstance(part[name], str) and part[name] not in _WORDS:
            return f"{name!r} of a {what} is {part[name]!r}; may be a number or one of {', '.join(_WORDS)}"
    if what == "subject":
        for name in ("first", "first_forward", "first_backward"):
            if part[name] is not None and not 0 <= part[name] < len(part["layers"]):
                return f"{name!r} of a subject is {part[name]}, and it has {len(part['layers'])} layers"
    inner, kind = _PARTS.get(what, ("", ""))
    return next(filter(None, (_problem(each, kind) for each in part[inner])), "") if inner else ""
