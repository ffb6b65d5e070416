"""The verdict as one page of HTML: no network, no other file; charts are SVG, the table is sorted and searched by a few
lines of JavaScript, and without JavaScript it is still all there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lucid.console import DONE
from oracle.files import write_whole
from oracle.report.chart import Chart, draw
from oracle.report.json_report import OUTCOMES, Document, exit_status, is_forward, shown, state, value
from oracle.report.terminal import case_title

_KINDS = {
    "activation": "output",
    "loss": "loss",
    "activation_gradient": "gradient of output",
    "parameter_gradient": "gradient of parameter",
}
_PRINTED = {"bad": 30, "good": 10}  # rows of one subject that paper gets where nothing was searched for
_SYMBOLS = {"good": "✓", "bad": "✗", "neutral": "-"}


def to_html(document: Document) -> str:
    """The page of a verdict's JSON form."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("oracle"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    document = shown(document)
    status = exit_status(document)
    rows: list[dict[str, Any]] = []
    cases = [_case(case, rows) for case in document["cases"]]
    return environment.get_template("report.html.j2").render(
        agrees=status == DONE,
        outcome=OUTCOMES[status],
        versions=document["versions"],
        cases=cases,
        rows=rows,
        total=len(rows),
    )


def write_html(document: Document, path: Path) -> None:
    """Write a verdict's JSON form as a page.

    Raises:
        UsageError: the file cannot be written.
    """
    write_whole(path, to_html(document).encode())


def _case(case: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": case["name"],
        "title": case_title(case),
        "truth": case["truth"],
        "notes": case["notes"],
        "subjects": [_subject(case, subject, rows) for subject in case["subjects"]],
    }


def _subject(case: dict[str, Any], subject: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    start = len(rows)
    layers = list(enumerate(subject["layers"], start))
    rows += [_row(number, case, subject, layer) for number, layer in layers]
    _choose_printed(rows[start:])
    observed = [layer for _, layer in layers if state(layer) != "neutral"]
    used = [value(layer["used"]) for layer in observed if layer["used"] != "NaN"]
    return {
        **subject,
        "anchor": f"s{start}-{len(subject['layers'])}",
        "charts": _charts(subject, layers, start),
        "compared": len(observed),
        "over": sum(not layer["agrees"] for layer in observed),
        "absent": sum(layer["status"] == "not observed" for _, layer in layers),
        "unjudged": sum(state(layer) == "neutral" and layer["status"] != "not observed" for _, layer in layers),
        "used": "" if not used or subject["view"] == "exact" else _percent(max(used)),
        "first_row": None if subject["first"] is None else rows[start + subject["first"]],
    }


def _charts(subject: dict[str, Any], layers: list[tuple[int, dict[str, Any]]], start: int) -> list[Chart]:
    forward = [each for each in layers if is_forward(each[1]["kind"])]
    backward = [each for each in layers if not is_forward(each[1]["kind"])]
    found = (
        draw(heading, part, None if subject[first] is None else start + subject[first])
        for heading, part, first in (
            ("Forward", forward, "first_forward"),
            ("Backward", backward, "first_backward"),
        )
        if part
    )
    return [chart for chart in found if chart is not None]


def _row(number: int, case: dict[str, Any], subject: dict[str, Any], layer: dict[str, Any]) -> dict[str, Any]:
    used = value(layer["used"])
    return {
        "number": number,
        "case": case["name"],
        "subject": subject["subject"],
        "view": subject["view"],
        "kind": _KINDS.get(layer["kind"], layer["kind"].replace("_", " ")),
        "name": layer["name"],
        "error": _short(layer["error"]),
        "error_key": _key(layer["error"]),
        "budget": _short(layer["budget"]),
        "budget_key": _key(layer["budget"]),
        "used": "" if layer["status"] == "exact" else _percent(used),
        "used_key": _key(layer["used"]),
        "bar": 0 if math.isnan(used) else round(100 * min(max(used, 0.0), 1.0)),
        "state": state(layer),
        "symbol": _SYMBOLS[state(layer)],
        "status": layer["status"],
        "words": _words(layer),
        "printed": False,
    }


def _choose_printed(rows: list[dict[str, Any]]) -> None:
    """Mark those of one subject's rows that are printed: the first out of line, and the closest to their budgets."""
    bad = [row for row in rows if row["state"] == "bad"]
    close = sorted((row for row in rows if row["state"] == "good"), key=lambda row: -float(row["used_key"]))
    for row in bad[: _PRINTED["bad"]] + close[: _PRINTED["good"]]:
        row["printed"] = row["view"] != "exact" or row["state"] == "bad"


def _words(layer: dict[str, Any]) -> str:
    words = [layer["difference"], layer["note"]]
    if layer["status"] == "over":
        if value(layer["largest"]) > value(layer["largest_budget"]):
            words.append(f"largest deviation {_short(layer['largest'])}, budget {_short(layer['largest_budget'])}")
        if layer["channel"] is not None and value(layer["channel_share"]) > 1:
            words.append(f"channel {layer['channel']}: {_percent(value(layer['channel_share']))} of its budget")
    return "; ".join(filter(None, words))


def _short(number: float | str) -> str:
    return "" if number == "NaN" else f"{value(number):.2e}"


def _percent(used: float) -> str:
    return "" if math.isnan(used) else f"{used:.0%}" if used < 100 else f"{used:.0e} times"


def _key(number: float | str) -> str:
    """What a column is sorted by; what could not be measured comes before all."""
    found = value(number)
    return "-1" if math.isnan(found) else repr(found) if math.isfinite(found) else "1e999"
