"""``lucid-oracle identify``: name the arithmetic of an implementation."""

from __future__ import annotations

import json
from pathlib import Path

import click

from lucid.console import visible
from oracle.commands.options import require_writable
from oracle.errors import UsageError
from oracle.files import read_json, write_whole
from oracle.identify import OPERATIONS, find_implementation, identify, signatures


@click.command("identify", epilog=f"\b\nOperations, and what a function of them is given:\n{signatures()}")
@click.argument("subject")
@click.option(
    "--operation",
    "-o",
    "operations",
    multiple=True,
    type=click.Choice(OPERATIONS),
    help="Identify this one alone. May be repeated. [default: all that the subject has]",
)
@click.option("--precision", metavar="NAME", help="What its arrays are: float32, bfloat16, float16 or float64.")
@click.option("--terms", type=int, default=256, show_default=True, help="How many terms are added up.")
@click.option("--expect", type=click.Path(path_type=Path), metavar="FILE", help="Hold it to what --json wrote.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write what was found.")
def command(
    subject: str,
    operations: tuple[str, ...],
    precision: str | None,
    terms: int,
    expect: Path | None,
    json_path: Path | None,
) -> int:
    """Name the arithmetic of SUBJECT from outside, operation by operation.

    SUBJECT is torch, torch:bfloat16, torch:cuda, onnxruntime, lucid, lucid:reference, or MODULE:TABLE, a dictionary of
    functions of NumPy arrays by operation; with one --operation it may be the function itself. The exit status is 1
    where it is not what --expect says.
    """
    require_writable(json=json_path)
    expected = None if expect is None else _expected(expect)
    made = find_implementation(subject, precision, operations[0] if len(operations) == 1 else None)
    identity = identify(made, operations, terms)
    click.echo("\n".join(map(visible, identity.sentence().splitlines())))
    if json_path is not None:
        write_whole(json_path, (json.dumps(identity.to_dict(), indent=1) + "\n").encode())
    if expected is None:
        return 0
    differences = identity.differences(expected)
    click.echo("\n".join(f"changed: {visible(each)}" for each in differences) or "as expected")
    return 1 if differences else 0


def _expected(path: Path) -> dict[str, dict[str, str]]:
    found = read_json(path, "--expect")
    if not isinstance(found, dict) or not isinstance(found.get("found"), dict):
        raise UsageError(f"--expect: {path} is not what --json writes")
    expected: dict[str, dict[str, str]] = found["found"]
    return expected
