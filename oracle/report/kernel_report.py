"""A kernel's verdict as a page and as JSON."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from lucid.console import visible
from oracle.files import write_whole
from oracle.report.json_report import shown

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ margin: 0 auto; padding: 24px; max-width: 1000px; font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; }}
h1 {{ font-size: 22px; }}
th, td {{ text-align: left; vertical-align: top; padding: 4px 16px 4px 0; border-bottom: 1px solid #d5dae0; }}
table {{ border-collapse: collapse; width: 100%; }} th {{ white-space: nowrap; }} code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
{rows}
</table>
</body>
</html>
"""


def write_kernel_report(verdict: Any, stem: Path) -> Path:
    """Write ``STEM.json`` and ``STEM.html``; returns where the page is.

    Raises:
        UsageError: a file cannot be written.
    """
    document = shown(verdict.to_dict())
    write_whole(stem.with_name(f"{stem.name}.json"), (json.dumps(document, indent=1) + "\n").encode())
    page = stem.with_name(f"{stem.name}.html")
    write_whole(page, to_html(verdict).encode())
    return page


def to_html(verdict: Any) -> str:
    """The page of a verdict; what comes from outside is escaped."""
    state = "agrees" if verdict.agrees else "disagrees"
    rows = [
        ("checked", f"{verdict.checks:,} results of {verdict.elements:,} elements"),
        ("precision", verdict.precision),
    ]
    for failure in verdict.failures:
        rows += [
            ("what is wrong", failure.result),
            ("what happened", failure.kind),
            ("where", failure.place or "-"),
            ("smallest shapes", " and ".join(map(str, failure.shapes))),
            ("values", failure.draw),
            ("elements", f"{failure.count[0]:,} of {failure.count[1]:,}"),
            ("worst error", f"{failure.error:.4g} roundings; a healthy kernel has at most {failure.budget:.4g}"),
            ("assert_close", "lets it pass at its default" if failure.passes else "sees it"),
            ("reproduce", failure.reproduce or "-"),
        ]
    rows += [("note", note) for note in (*verdict.notes, *verdict.refused)]
    cells = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(visible(str(told)))}</td></tr>" for name, told in rows)
    title = escape(visible(f"{verdict.kernel or 'the kernel'} as {verdict.operation} {state}"))
    return _PAGE.format(title=title, rows=cells)
