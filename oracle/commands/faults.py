"""``lucid-oracle faults``: put every fault of the catalogue into subjects, and see who catches it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from oracle.case.case import SEEDED, Case
from oracle.case.zoo import SMALLEST, find_model
from oracle.commands.options import OutputConsole, require_writable
from oracle.commands.progress import progress
from oracle.errors import UsageError
from oracle.faults import CATALOGUE, find_fault
from oracle.faults.matrix import run_matrix
from oracle.files import record_lines, write_whole
from oracle.graph.model import Mode

# What has to be caught, and named, of the faults that change any bit.
CAUGHT, NAMED = 0.99, 0.95


@click.command("faults")
@click.argument("names", nargs=-1, metavar="[FAULT]...")
@click.option("--list", "listed", is_flag=True, help="Show the catalogue and stop.")
@click.option(
    "--category", multiple=True, type=click.Choice(["kernel", "normalisation", "gradient", "data", "precision"])
)
@click.option("--engine", type=click.Choice(["torch", "lucid", "both"]), default="both", show_default=True)
@click.option("--mode", type=click.Choice(["eval", "train", "both"]), default="both", show_default=True)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    help="Into which models: small ones (small_basic, small_bottleneck, small_preact, small_grouped; the default "
    "is all of these), or any of the ten. May be repeated.",
)
@click.option("--image-size", type=click.IntRange(min=32), default=72, show_default=True, metavar="PIXELS")
@click.option("--batch", type=click.IntRange(min=1), default=3, show_default=True, help="Images at a time.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Layers drawn for each fault."
)
@click.option("--seed", type=int, default=0, show_default=True, help="What layers and choices are drawn from.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write every outcome.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the table as Markdown.")
@click.option(
    "--all", "every", is_flag=True, help="One row a fault, also where no FAULT is named. [default: a category]"
)
@click.option("-q", "--quiet", is_flag=True, help="No table and no progress.")
def command(
    names: tuple[str, ...],
    listed: bool,
    category: tuple[str, ...],
    json_path: Path | None,
    markdown: Path | None,
    every: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Put each FAULT (all of them by default) into a PyTorch twin and a lucid model, and see which view catches it.

    Each strikes a layer drawn at random. The exit status is 1 if less than 99 % of those that change any bit are
    caught, or the layer of less than 95 % is named; 2 if none changed a bit. What changes no bit because the case lacks
    something (channels of both signs, a second image) is listed as what the case cannot see.
    """
    from oracle.faults.table import print_matrix, to_markdown

    require_writable(json=json_path, markdown=markdown)
    chosen = _chosen(names, category)
    console = OutputConsole(width=120)
    if listed:
        _print_catalogue(chosen, console)
        return 0
    matrix = _run(chosen, quiet, **options)
    if json_path is not None:
        write_whole(json_path, record_lines(matrix.to_dict()))
    if markdown is not None:
        write_whole(markdown, to_markdown(matrix).encode())
    print_matrix(matrix, console, table=not quiet, every=every or bool(names))
    if not matrix.live:
        raise UsageError("faults: none of these changed a bit of any subject: nothing was shown")
    return 0 if matrix.caught_share >= CAUGHT and matrix.named_share >= NAMED else 1


def _chosen(names: tuple[str, ...], categories: tuple[str, ...]) -> list[str]:
    found = [find_fault(name).name for name in names] if names else list(CATALOGUE)
    chosen = [name for name in found if not categories or CATALOGUE[name].category in categories]
    if not chosen:
        raise UsageError("fault: none of those named is of that category")
    return chosen


def _print_catalogue(names: list[str], console: Console) -> None:
    for name in names:
        fault = CATALOGUE[name]
        console.print(f"{fault.category:14} {name}: {fault.description} ({', '.join(fault.ops)})", markup=False)


def _run(
    faults: list[str],
    quiet: bool,
    *,
    engine: str,
    mode: str,
    models: tuple[str, ...],
    image_size: int,
    batch: int,
    repeats: int,
    seed: int,
) -> Any:
    found = [find_model(name) for name in models or SMALLEST]
    modes: tuple[Mode, ...] = ("eval", "train") if mode == "both" else (mode,)  # type: ignore[assignment]
    cases = [Case(each, one, SEEDED, image_size, batch) for each in found for one in modes]
    engines: Any = ("torch", "lucid") if engine == "both" else (engine,)
    with progress(quiet) as step:
        return run_matrix(cases, faults, engines=engines, repeats=repeats, seed=seed, progress=step)
