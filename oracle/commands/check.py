"""``lucid-oracle check``: run a model on every subject and judge every layer, in every view that applies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from oracle.case.case import PHOTOGRAPH, SEEDED
from oracle.commands.options import (
    OutputConsole,
    input_of,
    names_option,
    own_options,
    report_options,
    require_writable,
)
from oracle.commands.progress import progress
from oracle.errors import UsageError
from oracle.precision.profile import is_option
from oracle.report import write_reports
from oracle.report.json_report import exit_status
from oracle.report.terminal import print_verdict
from oracle.run import DEFAULT_SUBJECTS, DEFAULT_VIEWS, check


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
@click.option(
    "--view",
    "views",
    multiple=True,
    type=click.Choice(["exact", "free", "stored", "own", "local"]),
    help="exact: lucid's digests. free: a whole run, within its budget. stored: the same by the golden's samples and "
    "projections alone. own: every tensor of that run from the run's own values. local: layer by layer. May be "
    f"repeated. [default: {', '.join(DEFAULT_VIEWS)}]",
)
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="A picture instead of the seeded input.")
@click.option(
    "--input",
    "source",
    metavar="seeded|photo|FILE.npz",
    default=SEEDED,
    show_default=True,
    help="Seeded noise, the photograph of Grace Hopper that matplotlib ships, or an array (also .npy).",
)
@own_options
@click.option("--seed", type=int, default=0, show_default=True, help="What weights, labels and noise derive from.")
@click.option(
    "--image-size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Height and width. [default: 72 in train; in eval 224, 128 for pre-activation networks, 72 for narrow ones]",
)
@click.option("--batch", type=click.IntRange(min=1), help="Number of images. [default: 2 in eval, 3 in train]")
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Weights from a safetensors file.")
@names_option
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the goldens are. [default: the project's]",
)
@report_options
def command(
    model: str,
    subjects: tuple[str, ...],
    backend: str | None,
    views: tuple[str, ...],
    image: Path | None,
    source: str,
    image_size: int | None,
    directory: Path | None,
    json_path: Path | None,
    junit_path: Path | None,
    html_path: Path | None,
    worst: int | None,
    every: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Run MODEL on every subject and judge every layer, forward and backward.

    MODEL is a name, or one of your own: an ONNX file, or package.module:factory (or FILE.py:factory) that makes a
    module of lucid or of PyTorch.

    lucid is held to the golden's digests, a foreign subject to the budgets that the case itself gives. Another seed,
    size, picture or other weights make a case without a golden, whose truth is made on the spot.
    """
    names = _with_backend(_split(subjects) or list(DEFAULT_SUBJECTS), backend)
    require_writable(json=json_path, junit=junit_path, html=html_path)
    if image is not None and source == PHOTOGRAPH:
        raise UsageError("--image and --input photo exclude each other")
    asked: Any = views or DEFAULT_VIEWS
    given = input_of(source) if image is None else image
    with progress(quiet) as step:
        verdict = check(
            model, names, views=asked, source=given, size=image_size, golden=directory, progress=step, **options
        )
    try:
        write_reports(verdict, json=json_path, junit=junit_path, html=html_path)
    finally:
        print_verdict(verdict, OutputConsole(), tables=not quiet, worst=worst, every=every)
    return exit_status(verdict)


def _split(subjects: tuple[str, ...]) -> list[str]:
    """The subjects' names; an option of a precision belongs to the one before.

    Example:
        >>> _split(("lucid,torch:float16, sums in float32",))
        ['lucid', 'torch:float16, sums in float32']
    """
    names: list[str] = []
    for name in (part.strip() for text in subjects for part in text.split(",")):
        if names and is_option(name):
            names[-1] += f", {name}"
        elif name:
            names.append(name)
    return names


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
