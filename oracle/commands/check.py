"""``lucid-oracle check``: run a model on every subject and judge every layer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from oracle.case import PHOTOGRAPH, SEEDED
from oracle.errors import UsageError
from oracle.report.json_report import write_json
from oracle.report.terminal import print_verdict
from oracle.verdict import DEFAULT_SUBJECTS, Verdict, check

AGREES, DISAGREES = 0, 1


@click.command("check")
@click.argument("model")
@click.option(
    "--subject",
    "--subjects",
    "subjects",
    multiple=True,
    metavar="NAME[,NAME]",
    help="Who runs it: lucid, lucid:reference, lucid:float64, onnxruntime, torch:no-onednn. May be repeated. "
    f"[default: {','.join(DEFAULT_SUBJECTS)}]",
)
@click.option("--backend", type=click.Choice(["native", "reference"]), help="Which of lucid's backends runs it.")
@click.option("--mode", type=click.Choice(["eval", "train", "both"]), default="both", show_default=True)
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="A picture instead of the photograph.")
@click.option(
    "--input",
    "source",
    type=click.Choice([PHOTOGRAPH, SEEDED]),
    default=PHOTOGRAPH,
    show_default=True,
    help="The photograph of Grace Hopper that matplotlib ships, or seeded noise.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="What weights, labels and noise derive from.")
@click.option(
    "--image-size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Height and width. [default: 224; 64 in a train step of more than 50 blocks]",
)
@click.option("--batch", type=click.IntRange(min=1), help="Number of images. [default: 1 in eval, 2 in train]")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights from a safetensors file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the whole verdict.")
@click.option("--worst", type=click.IntRange(min=1), metavar="N", help="List only the N layers closest to their limit.")
@click.option("-q", "--quiet", is_flag=True, help="No tables and no progress: one sentence a subject.")
def command(
    model: str,
    subjects: tuple[str, ...],
    backend: str | None,
    json_path: Path | None,
    worst: int | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Run MODEL on every subject and compare every layer with PyTorch.

    Every tensor's error against a float64 run stands beside the error that PyTorch's own float32 makes there.
    """
    names = _with_backend(_split(subjects) or list(DEFAULT_SUBJECTS), backend)
    _check_writable(json_path)
    verdict = _run(model, names, quiet, **options)
    try:
        if json_path is not None:
            write_json(verdict, json_path)
    finally:
        _print(verdict, quiet, worst)
    return AGREES if verdict.agrees else DISAGREES


def _run(
    model: str,
    subjects: list[str],
    quiet: bool,
    *,
    mode: Any,
    image: Path | None,
    source: str,
    seed: int,
    image_size: int | None,
    batch: int | None,
    weights: Path | None,
) -> Verdict:
    if image is not None and source == SEEDED:
        raise UsageError("--image and --input seeded exclude each other")
    arguments: dict[str, Any] = {
        "mode": mode,
        "source": source if image is None else image,
        "size": image_size,
        "batch": batch,
        "seed": seed,
        "weights": weights,
    }
    if quiet:
        return check(model, subjects, **arguments)
    progress = Console(stderr=True)
    with progress.status("starting") as status:

        def step(message: str) -> None:
            status.update(message)
            if not progress.is_terminal:
                progress.print(message, highlight=False)

        return check(model, subjects, progress=step, **arguments)


class _Console(Console):
    """A console whose reader may leave (``| head``): that ends the output, and is no disagreement."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(verdict: Verdict, quiet: bool, worst: int | None) -> None:
    console = _Console(highlight=False)
    if not console.is_terminal:
        console = _Console(highlight=False, width=100)
    print_verdict(verdict, console, tables=not quiet, worst=worst)


def _split(subjects: tuple[str, ...]) -> list[str]:
    return [name.strip() for text in subjects for name in text.split(",") if name.strip()]


def _with_backend(subjects: list[str], backend: str | None) -> list[str]:
    """``--backend`` as an option of every lucid subject.

    Example:
        >>> _with_backend(["lucid", "onnxruntime"], "reference")
        ['lucid:reference', 'onnxruntime']
    """
    if backend is None:
        return subjects
    if not any(name.split(":")[0] == "lucid" for name in subjects):
        raise UsageError("--backend chooses lucid's backend, but lucid is not among the subjects")
    return [f"{name}:{backend}" if name.split(":")[0] == "lucid" else name for name in subjects]


def _check_writable(path: Path | None) -> None:
    """Say now, not after minutes of work, that the verdict cannot be written there."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"--json: {path} is a directory")
    if not path.parent.is_dir():
        raise UsageError(f"--json: there is no directory {path.parent}")
