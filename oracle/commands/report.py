"""``lucid-oracle report``: turn a verdict that was written as JSON into other reports."""

from __future__ import annotations

from pathlib import Path

import click

from oracle.commands.options import OutputConsole, report_options, require_writable
from oracle.report import write_reports
from oracle.report.json_report import exit_status, read_json
from oracle.report.terminal import print_verdict


@click.command("report")
@click.argument("verdict", type=click.Path(path_type=Path))
@report_options
def command(
    verdict: Path,
    json_path: Path | None,
    junit_path: Path | None,
    html_path: Path | None,
    worst: int | None,
    every: bool,
    quiet: bool,
) -> int:
    """Read VERDICT, which `--json` of another command wrote, print it, and write the reports that are asked for.

    The exit status is what its layers say: 0 if all agree, 1 if one is out of line, 2 if a subject could not finish or
    nothing was compared.
    """
    require_writable(json=json_path, junit=junit_path, html=html_path)
    document = read_json(verdict)
    write_reports(document, json=json_path, junit=junit_path, html=html_path)
    print_verdict(document, OutputConsole(), tables=not quiet, worst=worst, every=every)
    return exit_status(document)
