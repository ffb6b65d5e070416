"""What ``lucid-export`` takes and does; ``lucid.onnx.cli`` runs it and words its failures."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import lucid
from lucid import models, nn
from lucid.onnx._convert import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET
from lucid.onnx._export import export
from lucid.onnx._need import need
from lucid.onnx._verify import verify

LISTED = 4  # how many of the entries that do not fit an error names
DYNAMIC_BATCHES = (1, 3)  # the batches at which a file with an open batch is verified


class BatchSize(click.ParamType):
    """A positive number, or ``dynamic`` (None)."""

    name = "N|dynamic"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "dynamic":
            return 0
        if str(value).isdecimal() and int(str(value)) > 0:
            return int(str(value))
        return self.fail(f"got {value!r}; it may be a positive number or dynamic", param, ctx)


@click.command(name="lucid-export", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option("--onnx", "as_onnx", is_flag=True, help="Write an ONNX model (the one format there is).")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The file to write.  [default: MODEL.onnx]")
@click.option(
    "--opset",
    type=click.IntRange(OLDEST_OPSET, NEWEST_OPSET),
    default=DEFAULT_OPSET,
    show_default=True,
    help="Version of ONNX's operators.",
)
@click.option("--batch", type=BatchSize(), default="dynamic", show_default=True, help="Images at a time.")
@click.option(
    "--image-size", type=click.IntRange(1), default=224, show_default=True, help="Height and width of the images."
)
@click.option("--weights", type=click.Path(path_type=Path), help="A safetensors file with the weights.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    help="Seed of random weights.  [default: 0 where there is no --weights]",
)
@click.option("--external-data", is_flag=True, help="Put the weights in a file beside the model.")
@click.option("--verify", "verified", is_flag=True, help="Run the file in ONNX Runtime and compare with lucid.")
@click.version_option(lucid.__version__, prog_name="lucid-export")
def command(
    model: str,
    as_onnx: bool,
    output: Path | None,
    opset: int,
    batch: int,
    image_size: int,
    weights: Path | None,
    seed: int | None,
    external_data: bool,
    verified: bool,
) -> int:
    """Export MODEL, such as resnet_50, to a file for other runtimes."""
    lucid.backends.check_settings()
    if not as_onnx:
        raise click.UsageError("say which format to write; it may be --onnx")
    if weights is not None and seed is not None:
        raise click.UsageError("--weights and --seed exclude each other: the weights come from one of them")
    if verified:
        need("onnxruntime", "--verify")
    target = output if output is not None else Path(f"{model}.onnx")
    with _progress() as progress:
        progress(f"making {model}", 0, 0)
        network, origin = _make(model, weights, 0 if seed is None else seed)
        example = np.zeros((batch or 1, _in_channels(network), image_size, image_size), np.float32)
        files = export(
            network,
            lucid.tensor(example),
            target,
            opset=opset,
            dynamic_batch=not batch,
            external_data=external_data,
            metadata={"lucid.model": model, "lucid.weights": origin},
            progress=progress,
        )
        size = sum(file.stat().st_size for file in files)
        result = None
        if verified:
            batches = [batch] if batch else DYNAMIC_BATCHES
            result = verify(files[0], network, [(count, *example.shape[1:]) for count in batches], progress=progress)
    click.echo(f"{target}: {model}, {size / 1e6:.1f} MB, opset {opset}, batch {batch or 'dynamic'}, weights {origin}")
    if result is not None:
        click.echo(str(result))
    return 0 if result is None or result.agrees else 1


def invoke(arguments: Sequence[str] | None) -> int:
    """Run the command; click's errors become ``ValueError`` with one sentence."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with command.make_context("lucid-export", given) as context:
            return command.invoke(context)
    except click.exceptions.Exit as ended:  # --help, --version
        return ended.exit_code
    except click.ClickException as error:
        raise ValueError(f"{error.format_message().rstrip('.')} (see lucid-export --help)") from error


def _make(name: str, weights: Path | None, seed: int) -> tuple[nn.Module, str]:
    """The model, and where its weights come from."""
    if weights is None:
        lucid.manual_seed(seed)
        return models.get_model(name), f"seed {seed}"
    state = lucid.load(weights)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with nn.init.skip_init():
        network = models.get_model(name)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{weights}: does not fit {name}: {_shortened(str(error))}") from error
    return network, f"sha256:{digest}"


def _shortened(text: str) -> str:
    """A list of lines as one sentence: what it begins with, and how much more there is."""
    lines = text.splitlines()
    shown = "; ".join(line.strip() for line in lines[1 : 1 + LISTED]) if len(lines) > 1 else text
    more = len(lines) - 1 - LISTED
    return f"{shown}; and {more} more" if more > 0 else shown


def _in_channels(network: nn.Module) -> int:
    return next(module for module in network.modules() if isinstance(module, nn.Conv2d)).in_channels


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A line on the terminal that tells what is done and how far it is; nothing where there is no terminal."""
    console = Console(file=sys.stderr)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=None)

        def update(step: str, done: int, total: int) -> None:
            shown.update(task, description=step, completed=done, total=total or None)

        yield update
