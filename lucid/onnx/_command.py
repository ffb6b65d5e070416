"""What ``lucid-export`` takes and does; ``lucid.onnx.cli`` runs it and words its failures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import click
import numpy as np
import onnx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lucid._version import __version__
from lucid.backends import check_settings
from lucid.console import visible
from lucid.core.tensor import Tensor, tensor
from lucid.graph import Graph, trace, trace_gradients
from lucid.onnx._convert import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET
from lucid.onnx._export import write_graph
from lucid.onnx._need import need
from lucid.onnx._precision import halve
from lucid.onnx._quantize import quantize
from lucid.onnx._simplify import simplify
from lucid.onnx._sources import InputShape, Source, Wanted, find
from lucid.onnx._verify import verify, verify_gradients
from lucid.optim import SGD
from lucid.random import Generator

DYNAMIC_BATCHES = (1, 3)  # the batches at which a file with an open batch is verified
TRAINED_BATCH = 2  # likewise of a train step


class BatchSize(click.ParamType):
    """A positive number, or ``dynamic`` (0)."""

    name = "N|dynamic"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "dynamic":
            return 0
        if str(value).isdecimal() and int(str(value)) > 0:
            return int(str(value))
        return self.fail(f"got {value!r}; it may be a positive number or dynamic", param, ctx)


@dataclass(slots=True)
class Options:
    """The command line."""

    model: str
    as_onnx: bool
    output: Path | None
    opset: int
    batch: int | None
    image_size: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    weights: Path | None
    seed: int | None
    at_random: bool
    gradients: bool
    optimizer: str | None
    lr: float
    momentum: float
    weight_decay: float
    simplified: bool
    precision: Literal["float32", "float16", "bfloat16", "int8"]
    float32_inputs: bool
    calibration: Path | None
    external_data: bool
    verified: bool

    def check(self) -> None:
        """Raise where options exclude each other."""
        chosen = {
            "--weights and --seed": self.weights is not None and self.seed is not None,
            "--weights and --random": self.weights is not None and self.at_random,
        }
        for both in (both for both, meant in chosen.items() if meant):
            raise click.UsageError(f"{both} exclude each other: the weights come from one of them")
        if not self.as_onnx:
            raise click.UsageError("say which format to write; it may be --onnx")
        if self.optimizer is not None and not self.gradients:
            raise click.UsageError("--optimizer is a part of --gradients")
        if self.gradients and self.precision != "float32":
            raise click.UsageError("--gradients and --precision exclude each other: gradients are float32")
        if (self.precision == "int8") != (self.calibration is not None):
            raise click.UsageError("--precision int8 and --calibrate FILE.npz belong together")
        if self.verified and (self.precision != "float32" or self.optimizer is not None):
            raise click.UsageError("--verify is for float32, and of --gradients without --optimizer")


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
@click.option(
    "--batch",
    type=BatchSize(),
    help="Images at a time.  [default: dynamic for a model of the zoo, else as --input-shape or the file says]",
)
@click.option("--dynamic", "batch", flag_value="dynamic", type=BatchSize(), help="The same as --batch dynamic.")
@click.option(
    "--image-size",
    type=click.IntRange(1),
    default=224,
    show_default=True,
    help="Height and width of a zoo model's images; the file takes no others.",
)
@click.option(
    "--input-shape",
    "shapes",
    type=InputShape(),
    multiple=True,
    help="Shape of an input of an ONNX file or a factory, such as 1,3,224,224 or int64:1,16; once for each input.",
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
@click.option(
    "--gradients",
    is_flag=True,
    help="Write a train step: images and labels in; cross-entropy, gradients and running statistics out.",
)
@click.option(
    "--optimizer", type=click.Choice(["sgd"]), help="With --gradients: let the step return the new parameters, too."
)
@click.option("--lr", type=float, default=0.1, show_default=True, help="Its learning rate, an input of the file.")
@click.option("--momentum", type=float, default=0.9, show_default=True, help="Its momentum.")
@click.option("--weight-decay", type=float, default=0.0, show_default=True, help="Its weight decay.")
@click.option("--simplify", "simplified", is_flag=True, help="Fold constants, and leave out what nobody needs.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="Of weights and of what is computed; int8 quantizes convolutions and products.",
)
@click.option("--float32-inputs", is_flag=True, help="In half precision, let inputs and outputs stay float32.")
@click.option(
    "--calibrate",
    "calibration",
    type=click.Path(path_type=Path),
    help="With --precision int8: an .npz file with samples of each input under its name.",
)
@click.option("--external-data", is_flag=True, help="Put the weights in a file beside the model.")
@click.option("--verify", "verified", is_flag=True, help="Run the file in ONNX Runtime and compare with lucid.")
@click.version_option(__version__, prog_name="lucid-export")
def command(**given: Any) -> int:
    """Export MODEL to a file for other runtimes.

    MODEL is a model of the zoo, such as resnet_50; an ONNX file, which is read and written anew; or
    package.module:factory, a function that makes a lucid.nn.Module.

    Without --weights the file of a zoo model holds seeded weights (lucid.models.seeded_state), those of lucid-oracle's
    cases: so `lucid-oracle check MODEL --image-size 224 --subject onnxruntime:file=MODEL.onnx` judges whether a runtime
    computes it right. (Its own default of the size is 128 for the pre-activation networks, and 224 for the others.)
    """
    options = Options(**given)
    check_settings()
    options.check()
    if options.verified:
        need("onnxruntime", "--verify")
    with _progress() as progress:
        progress(f"making {options.model}", 0, 0)
        source = find(
            Wanted(
                options.model,
                options.weights,
                0 if options.seed is None else options.seed,
                options.at_random,
                options.batch,
                options.image_size,
                options.shapes,
            )
        )
        target = options.output if options.output is not None else _target(options, source)
        files = _written(options, source, target, progress)
        result = _verified(options, source, files[0], progress) if options.verified else None
    size = sum(file.stat().st_size for file in files) / 1e6
    shown = "dynamic" if source.open_batch else str(source.inputs[0].shape[0] if source.inputs[0].ndim else 1)
    kind = (
        " (a train step)" if options.gradients else "" if options.precision == "float32" else f" ({options.precision})"
    )
    click.echo(
        visible(
            f"{target}: {source.name}{kind}, {size:.1f} MB, opset {options.opset}, batch {shown}, "
            f"weights {source.origin}"
        )
    )
    if result is not None:
        click.echo(str(result))
    return 0 if result is None or result.agrees else 1


def _target(options: Options, source: Source) -> Path:
    """A file of the current directory; never the one that was read."""
    target = Path(f"{source.name}.onnx")
    if options.model.endswith(".onnx") and target.exists() and target.resolve() == Path(options.model).resolve():
        raise click.UsageError(f"{options.model} would be overwritten; say where to write by --output")
    return target


def _written(options: Options, source: Source, target: Path, progress: Callable[[str, int, int], None]) -> list[Path]:
    network, inputs, dynamic = source.network, source.inputs, source.open_batch

    def make() -> Graph:
        try:
            return traced()
        except (ValueError, TypeError, RuntimeError, MemoryError):
            raise
        except Exception as error:  # somebody's code
            raise ValueError(f"{source.name}: its forward raised {type(error).__name__}: {error}") from error

    def traced() -> Graph:
        if not options.gradients:
            return trace(network, *inputs, dynamic_batch=dynamic)
        labels = tensor(np.zeros(inputs[0].shape[0], np.int64))
        return trace_gradients(network, inputs, labels, optimizer=_optimizer(options, source), dynamic_batch=dynamic)

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        if options.simplified:
            progress("simplifying", 0, 0)
            model = simplify(model)
        if options.precision == "int8":
            progress("quantizing", 0, 0)
            return quantize(model, _calibration(options))
        if options.precision != "float32":
            model = halve(model, options.precision, options.float32_inputs)
        return model

    metadata = {"lucid.model": source.name, "lucid.weights": source.origin}
    name = type(network).__name__
    return write_graph(
        make, target, progress, options.external_data, change, opset=options.opset, metadata=metadata, name=name
    )


def _optimizer(options: Options, source: Source) -> SGD | None:
    if options.optimizer is None:
        return None
    return SGD(source.network.parameters(), options.lr, options.momentum, weight_decay=options.weight_decay)


def _calibration(options: Options) -> dict[str, np.ndarray]:
    assert options.calibration is not None
    try:
        with np.load(options.calibration, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
        raise ValueError(f"{options.calibration}: cannot be read as an .npz file: {error}") from error


def _verified(options: Options, source: Source, file: Path, progress: Callable[[str, int, int], None]) -> Any:
    if len(source.inputs) != 1 or source.inputs[0].dtype != np.float32:
        raise click.UsageError("--verify is for models of one input, of float32")
    shape = source.inputs[0].shape
    if not options.gradients:
        batches = DYNAMIC_BATCHES if source.open_batch else shape[:1]
        return verify(file, source.network, [(count, *shape[1:]) for count in batches], progress=progress)
    progress("verifying", 0, 0)
    count = TRAINED_BATCH if source.open_batch else shape[0]
    image = Generator(0).normal(0.0, 1.0, (count, *shape[1:]))
    labels: Tensor = tensor(np.arange(count, dtype=np.int64) % 2)
    return verify_gradients(file, source.network, [image], [labels])


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
