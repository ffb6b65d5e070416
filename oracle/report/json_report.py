"""The whole verdict as JSON: strict (no bare NaN or Infinity), written whole or not at all, and read again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from lucid.console import DONE, IMPOSSIBLE, WRONG, visible
from oracle import files
from oracle.errors import UsageError
from oracle.judge.summary import FORMAT, CaseVerdict, Verdict, number, place_of
from oracle.judge.verdicts import LayerVerdict, Status, SubjectVerdict, View
from oracle.precision.difference import PRECISIONS
from oracle.trace import KINDS

Document = Mapping[str, Any]
State = Literal["good", "bad", "neutral"]
NEUTRAL = ("not observed", "not judged")  # neither agreement nor disagreement; any other status that agrees not is bad

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def value(number: float | str) -> float:
    """The float that `number` wrote.

    Example:
        >>> value("Infinity"), value(0.5)
        (inf, 0.5)
    """
    return _WORDS[number] if isinstance(number, str) else float(number)


def state(layer: Mapping[str, Any]) -> State:
    """How a report shows a tensor.

    Example:
        >>> [state({"status": status, "agrees": False}) for status in ("over", "not judged", "anything new")]
        ['bad', 'neutral', 'bad']
    """
    if layer["agrees"]:
        return "good"
    return "neutral" if layer["status"] in NEUTRAL else "bad"


def is_forward(kind: str) -> bool:
    """Whether tensors of that kind come of the forward pass.

    Example:
        >>> is_forward("loss"), is_forward("parameter_gradient")
        (True, False)
    """
    return not kind.endswith("_gradient")


def shown(document: Any) -> Any:
    r"""A document (or a part of one) with every text in it made `visible`: names come from files.

    Example:
        >>> shown({"name": "fc\x1b[2J", "shape": [1, 2]})
        {'name': 'fc\\x1b[2J', 'shape': [1, 2]}
    """
    if isinstance(document, str):
        return visible(document)
    if isinstance(document, Mapping):
        return {visible(name): shown(part) for name, part in document.items()}
    return [shown(part) for part in document] if isinstance(document, list) else document


def write_json(document: Document, path: Path) -> None:
    """Write a verdict's JSON form to ``path``.

    Raises:
        UsageError: the file cannot be written.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    files.write_whole(path, (text + "\n").encode())


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
# Lists of sentences or names, which documents of earlier versions lack.
_OPTIONAL = {"case": ("notes",), "subject": ("notes", "differing")}
_PARTS = {"verdict": ("cases", "case"), "case": ("subjects", "subject"), "subject": ("layers", "layer")}
_WORDS_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "subject": {"view": get_args(View), "precision": PRECISIONS},
    "layer": {"kind": KINDS, "status": get_args(Status)},
}
_PLACES = ("first", "first_forward", "first_backward")
_MOST_SECONDS = 1e9


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote. What it says in sum (who agrees, which layer is the first) is not believed but
    found again from its layers.

    Raises:
        UsageError: the file is missing, or no verdict of this format; the sentence says what is wrong with it.
    """
    document = files.read_json(path, "verdict")
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise UsageError(f"verdict: the format of {path} is {_short(found)}; may be {FORMAT!r}")
    problem = _problem(document, "verdict")
    if problem:
        raise UsageError(f"verdict: {path} is not a sound verdict: {problem}")
    read: dict[str, Any] = document
    find_sums_again(read)
    try:
        shown(read)
    except RecursionError:  # in a part that nobody knows, such as no verdict has
        raise UsageError(f"verdict: {path} is nested too deeply to be read") from None
    return read


def _problem(part: Any, what: str) -> str:
    """What is wrong with a part of a document; empty where nothing is."""
    if not isinstance(part, dict):
        return f"a {what} is {type(part).__name__}, not an object"
    for name, types in _FIELDS[what].items():
        if name not in part:
            return f"a {what} has no {name!r}"
        given = part[name]
        if not isinstance(given, types) or (isinstance(given, bool) and bool not in types):
            return f"{name!r} of a {what} is {_short(given)}"
        if types[: len(_NUMBER)] == _NUMBER and given is not None and not _is_number(given, name):
            return (
                f"{name!r} of a {what} is {_short(given)}; may be a number that fits it, or one of {', '.join(_WORDS)}"
            )
        known = _WORDS_OF.get(what, {}).get(name)
        if known is not None and given not in known:
            return f"{name!r} of a {what} is {_short(given)}; may be one of {', '.join(known)}"
    for name in _OPTIONAL.get(what, ()):
        found = part.setdefault(name, [])
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            return f"{name!r} of a {what} is {_short(found)}; may be a list of sentences"
    problem = _further_problem(part, what)
    if problem:
        return problem
    inner, kind = _PARTS.get(what, ("", ""))
    return next(filter(None, (_problem(each, kind) for each in part[inner])), "") if inner else ""


def _is_number(given: Any, name: str) -> bool:
    """Whether a field holds a number that it can have: only a loss may be negative, and seconds are finite."""
    if isinstance(given, str):
        return given in _WORDS and name != "seconds" and (name == "loss" or given != "-Infinity")
    try:
        found = float(given)
    except OverflowError:
        return False
    return name == "loss" or (0 <= found <= _MOST_SECONDS if name == "seconds" else not found < 0)


def _further_problem(part: dict[str, Any], what: str) -> str:
    """What the types alone do not tell."""
    if what == "verdict":
        strange = [name for name, version in part["versions"].items() if not isinstance(version, str)]
        return f"the version of {_short(strange[0])} is no text" if strange else ""
    if what == "case":
        sound = all(type(side) is int and 0 <= side < 1 << 63 for side in part["shape"])
        return "" if sound else f"'shape' of a case is {_short(part['shape'])}"
    if what == "subject":
        for name in _PLACES:
            if part[name] is not None and not 0 <= part[name] < len(part["layers"]):
                return f"{name!r} of a subject is {_short(part[name])}, and it has {len(part['layers'])} layers"
        keys = [(layer.get("kind"), layer.get("name")) for layer in part["layers"] if isinstance(layer, dict)]
        if all(isinstance(each, str) for key in keys for each in key) and len(set(keys)) < len(keys):
            return "a layer of a subject is there twice"
    if what == "layer" and part["channel"] is not None and not 0 <= part["channel"] < 1 << 63:
        return f"'channel' of a layer is {_short(part['channel'])}"
    return ""


def _short(given: Any) -> str:
    """A value as an error shows it."""
    try:
        text = repr(given)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a value of type {type(given).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


_LONGEST = 60


# -- what a document says in sum --------------------------------------------------------------------------------------


def find_sums_again(document: dict[str, Any]) -> None:
    """Find again, from the layers, what a document says in sum, and write it over what stands there.

    A layer is what its status says, unless its own numbers contradict it: then it is over.
    """
    for case in document["cases"]:
        for subject in case["subjects"]:
            for layer in subject["layers"]:
                _settle_layer(layer, subject)
            _settle_subject(subject)
    found = _rebuilt(document)
    for case, of_case in zip(document["cases"], found.cases, strict=True):
        case["agrees"] = of_case.agrees
    document["agrees"] = found.agrees


def _settle_layer(layer: dict[str, Any], subject: Mapping[str, Any]) -> None:
    found = _layer(layer, subject)
    measured = not math.isnan(found.used)
    if found.agrees and (
        found.used > 1 or (found.status == "exact" and found.error > 0) or (found.status == "within" and not measured)
    ):
        layer["note"] = layer["note"] or f"it was called {found.status}, which its own numbers do not bear out"
        layer["status"] = "over"
        found = _layer(layer, subject)
    layer["agrees"], layer["used"] = found.agrees, number(found.used)


def _settle_subject(subject: dict[str, Any]) -> None:
    found = _rebuilt_subject(subject)
    places = {
        "first": place_of(found, found.first),
        "first_forward": place_of(found, found.first_forward),
        "first_backward": place_of(found, found.first_backward),
    }
    stated = (subject["agrees"], {name: subject[name] for name in _PLACES})
    if stated != (found.agrees, places) or (" agrees in " in subject["sentence"] and not found.agrees):
        subject["sentence"] = found.sentence()
    statuses = [layer.status for layer in found.layers]
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    subject.update(places, agrees=found.agrees, counts=counts)


def _layer(layer: Mapping[str, Any], subject: Mapping[str, Any]) -> LayerVerdict:
    numbers = ("error", "budget", "largest", "largest_budget", "channel_share")
    return LayerVerdict(
        layer["kind"],
        layer["name"],
        subject["view"],
        layer["status"],
        channel=layer["channel"],
        difference=layer["difference"],
        note=layer["note"],
        **{name: value(layer[name]) for name in numbers},
    )


def _rebuilt(document: Document) -> Verdict:
    """The verdict that a document was made of, without what was run: who agrees, and where not."""
    nothing: Any = None
    cases = [CaseVerdict(nothing, [_rebuilt_subject(each) for each in case["subjects"]]) for case in document["cases"]]
    return Verdict(cases, {})


def _rebuilt_subject(subject: Mapping[str, Any]) -> SubjectVerdict:
    """The verdict on a subject that its JSON form was made of."""
    layers = [_layer(layer, subject) for layer in subject["layers"]]
    failure, differing = subject["failure"] or "", tuple(subject.get("differing", ()))
    return SubjectVerdict(
        subject["subject"], subject["view"], subject["precision"], layers, failure, differing=differing
    )


OUTCOMES = {DONE: "agrees", WRONG: "disagrees", IMPOSSIBLE: "could not be done"}


def exit_status(verdict: Verdict | Document) -> int:
    """The exit status that a verdict means.

    Returns:
        1 if a number was found wrong; else 2 if a subject could not finish, or nothing of it was compared, or there is
        none; else 0. What a subject that could not finish still owed is no wrong number.

    Example:
        >>> exit_status({"cases": []})
        2
    """
    found = _rebuilt(verdict) if isinstance(verdict, Mapping) else verdict
    if any(_found_wrong(subject) for case in found.cases for subject in case.subjects):
        return WRONG
    return DONE if found.agrees else IMPOSSIBLE


def _found_wrong(subject: SubjectVerdict) -> bool:
    if subject.failure:
        subject = replace(subject, layers=[layer for layer in subject.layers if layer.status != "missing"])
    return subject.first is not None or bool(subject.differing)
