"""What ``lucid-export`` takes and does; ``lucid.onnx.cli`` runs it and words its failures."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lucid import models, nn
from lucid._version import __version__
from lucid.backends import check_settings
from lucid.console import visible
from lucid.core.tensor import tensor
from lucid.io import load
from lucid.onnx._convert import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET
from lucid.onnx._export import export
from lucid.onnx._need import need
from lucid.onnx._verify import verify
from lucid.random import manual_seed

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
    "--image-size",
    type=click.IntRange(1),
    default=224,
    show_default=True,
    help="Height and width of the images; the file takes no others.",
)
@click.option("--weights", type=click.Path(path_type=Path), help="A safetensors file with the weights.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    help="Seed of the weights where there is no --weights.  [default: 0]",
)
@click.option(
    "--random",
    "at_random",
    is_flag=True,
    help="Initialise the weights as training starts from, instead of those that lucid-oracle's cases have.",
)
@click.option("--external-data", is_flag=True, help="Put the weights in a file beside the model.")
@click.option("--verify", "verified", is_flag=True, help="Run the file in ONNX Runtime and compare with lucid.")
@click.version_option(__version__, prog_name="lucid-export")
def command(
    model: str,
    as_onnx: bool,
    output: Path | None,
    opset: int,
    batch: int,
    image_size: int,
    weights: Path | None,
    seed: int | None,
    at_random: bool,
    external_data: bool,
    verified: bool,
) -> int:
    """Export MODEL, such as resnet_50, to a file for other runtimes.

    Without --weights the file holds seeded weights (lucid.models.seeded_state), those of lucid-oracle's cases: so
    `lucid-oracle check MODEL --image-size 224 --subject onnxruntime:file=MODEL.onnx` judges whether a runtime computes
    it right. (Its own default of the size is 128 for the pre-activation networks, and 224 for the others.)
    """
    check_settings()
    if not as_onnx:
        raise click.UsageError("say which format to write; it may be --onnx")
    if weights is not None and seed is not None:
        raise click.UsageError("--weights and --seed exclude each other: the weights come from one of them")
    if weights is not None and at_random:
        raise click.UsageError("--weights and --random exclude each other: the weights come from one of them")
    if verified:
        need("onnxruntime", "--verify")
    target = output if output is not None else Path(f"{model}.onnx")
    with _progress() as progress:
        progress(f"making {model}", 0, 0)
        network, origin = _make(model, weights, 0 if seed is None else seed, at_random)
        example = np.zeros((batch or 1, _in_channels(network), image_size, image_size), np.float32)
        files = export(
            network,
            tensor(example),
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
    sentence = f"{target}: {model}, {size / 1e6:.1f} MB, opset {opset}, batch {batch or 'dynamic'}, weights {origin}"
    click.echo(visible(sentence))
    if result is not None:
        click.echo(str(result))
    return 0 if result is None or result.agrees else 1


def _make(name: str, weights: Path | None, seed: int, at_random: bool) -> tuple[nn.Module, str]:
    """The model, and where its weights come from."""
    if weights is None and at_random:
        manual_seed(seed)
        return models.get_model(name), f"random, seed {seed}"
    if weights is None:
        with nn.init.skip_init():
            network = models.get_model(name)
        network.load_state_dict(models.seeded_state(network, seed))
        return network, f"seed {seed}"
    state = load(weights)
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
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=None)

        def update(step: str, done: int, total: int) -> None:
            shown.update(task, description=step, completed=done, total=total or None)

        yield update
