"""A verdict for people (a table in the terminal, a page of HTML) and for programs (JSON, JUnit XML).

Every report is made from the verdict's JSON form, never from the verdict itself. So one that was written on another
machine, or last year, can be turned into any of the others (``lucid-oracle report``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oracle.judge.summary import Verdict, verdict_to_dict
from oracle.report.json_report import write_json
from oracle.report.junit_report import write_junit

__all__ = ["write_reports"]


def write_reports(
    verdict: Verdict | Mapping[str, Any],
    *,
    json: Path | None = None,
    junit: Path | None = None,
    html: Path | None = None,
) -> None:
    """Write those reports of a verdict (or of its JSON form) that are asked for, each whole or not at all.

    Raises:
        UsageError: a file cannot be written.
    """
    from oracle.report.html_report import write_html

    document = verdict if isinstance(verdict, Mapping) else verdict_to_dict(verdict)
    for path, write in ((json, write_json), (junit, write_junit), (html, write_html)):
        if path is not None:
            write(document, path)
