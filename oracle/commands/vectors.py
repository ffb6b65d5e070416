"""``lucid-oracle vectors``: write what somebody needs to run a case on a runtime that the oracle cannot drive."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from lucid.console import visible
from oracle.case.case import standard_case
from oracle.case.zoo import find_model
from oracle.commands.progress import progress
from oracle.graph.model import Mode
from oracle.report.vector_files import PAGE, write_vectors


@click.command("vectors")
@click.argument("model")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="What to make. [default: MODEL-vectors]"
)
@click.option("--mode", type=click.Choice(["eval", "train", "both"]), default="both", show_default=True)
@click.option("--force", is_flag=True, help="Replace DIR if it holds vectors.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(model: str, output: Path | None, mode: Mode | Literal["both"], force: bool, quiet: bool) -> None:
    """Write weights, inputs and the ONNX model of MODEL's standard cases, and a page that says what to dump.

    Whoever dumps tensors under the names on that page has them judged by `lucid-oracle compare`.
    """
    found = find_model(model)
    directory = Path(f"{model}-vectors") if output is None else output
    modes: tuple[Mode, ...] = ("eval", "train") if mode == "both" else (mode,)
    with progress(quiet) as step:
        write_vectors([standard_case(found, each) for each in modes], directory, force=force, progress=step)
    files = [file for file in directory.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    text = f"{directory}: {len(files)} files, {size / 1e6:.1f} MB; {directory / PAGE} says what to dump"
    click.echo(visible(text))
