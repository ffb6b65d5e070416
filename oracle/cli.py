"""``lucid-oracle``: the oracle on the command line. Exit status 0 agrees, 1 disagrees, 2 wrong usage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from oracle.case import PHOTOGRAPH, SEEDED
from oracle.errors import UsageError
from oracle.verdict import DEFAULT_SUBJECTS, Verdict, check

AGREES, DISAGREES, WRONG_USAGE = 0, 1, 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lucid-oracle")
def main() -> None:
    """Is this model right here, forward and backward, and if not, which layer goes wrong first?"""


@main.command("check")
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
@click.option("--image-size", type=click.IntRange(min=1), default=224, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), help="Number of images. [default: 1 in eval, 2 in train]")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights from a safetensors file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write the whole verdict.")
@click.option("--worst", type=click.IntRange(min=1), metavar="N", help="List only the N layers closest to their limit.")
@click.option("-q", "--quiet", is_flag=True, help="No tables and no progress: one sentence a subject.")
def check_command(
    model: str,
    subjects: tuple[str, ...],
    backend: str | None,
    json_path: Path | None,
    worst: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Run MODEL on every subject and compare every layer with PyTorch.

    Every tensor's error against a float64 run stands beside the error that PyTorch's own float32 makes there.
    """
    try:
        names = _with_backend(_split(subjects) or list(DEFAULT_SUBJECTS), backend)
        _check_writable(json_path)
        verdict = _run(model, names, quiet, **options)
        _print(verdict, quiet, worst)
        if json_path is not None:
            from oracle.report.json_report import write_json

            write_json(verdict, json_path)
    except UsageError as error:
        click.echo(f"lucid-oracle: {error}", err=True)
        sys.exit(WRONG_USAGE)
    sys.exit(AGREES if verdict.agrees else DISAGREES)


def _run(
    model: str,
    subjects: list[str],
    quiet: bool,
    *,
    mode: Any,
    image: Path | None,
    source: str,
    seed: int,
    image_size: int,
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


def _print(verdict: Verdict, quiet: bool, worst: int | None) -> None:
    from oracle.report.terminal import print_verdict

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=100)
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


if __name__ == "__main__":
    main()
