"""``lucid-oracle reduce``: from a model that disagrees to the few of its nodes that do."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import onnx

import lucid
from lucid.console import visible
from lucid.graph import trace
from lucid.onnx import to_onnx
from oracle.case.case import PHOTOGRAPH, SEEDED, read_array
from oracle.commands.options import input_of, own_options
from oracle.commands.progress import progress
from oracle.errors import UsageError, foreign
from oracle.reduce.cutting import Array, Cuts
from oracle.reduce.files import require_own, write_repro
from oracle.reduce.search import reduce_model
from oracle.reduce.subjects import find_runner
from oracle.run import cases_of
from oracle.subjects.lucid_engine import make_model

_ONNX = ".onnx"


@click.command("reduce")
@click.argument("model")
@click.option(
    "--subject",
    required=True,
    metavar="NAME",
    help="Who disagrees: onnxruntime with its options (onnxruntime:basic, onnxruntime:provider=CUDA, "
    "onnxruntime:file=changed.onnx), or a function of a model and its inputs as MODULE:FUNCTION or FILE.py:FUNCTION.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where it goes.")
@click.option(
    "--input",
    "source",
    metavar="seeded|photo|FILE.npz",
    default=SEEDED,
    show_default=True,
    help="Seeded noise, the photograph of Grace Hopper, or arrays, of an ONNX file with several inputs by their names.",
)
@own_options
@click.option("--seed", type=int, default=0, show_default=True, help="What weights and noise derive from.")
@click.option("--precision", metavar="NAME[, OPTION]...", help="What the subject computes in. [default: its own]")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    model: str,
    subject: str,
    output: Path,
    source: str,
    shape: tuple[int, ...] | None,
    tokens: int,
    mirror: str,
    seed: int,
    precision: str | None,
    quiet: bool,
) -> int:
    """Reduce MODEL to the smallest sub-graph on which a subject disagrees with the truth.

    MODEL is a name, an ONNX file, or package.module:factory (or FILE.py:factory). The exit status is 0 where nothing
    disagrees, 1 where a sub-graph was written, and 2 where it could not be done.
    """
    require_own(output)
    if mirror:
        raise UsageError("--mirror: lucid's float64 run is the truth here, which PyTorch's operations confirm")
    given = input_of(source)
    with progress(quiet) as step:
        step(f"reading {model}")
        if model.endswith(_ONNX):
            proto, inputs = _of_file(Path(model), given, shape, tokens, seed)
        else:
            proto, inputs = _exported(model, given, shape, tokens, seed)
        runner = find_runner(subject, proto)
        found = reduce_model(
            proto,
            runner,
            inputs,
            precision=precision or runner.precision,
            observed=runner.observed,
            progress=step,
        )
    click.echo(visible(f"{runner.label}: {found.sentence()}"))
    if found.agrees:
        return 0 if found.judged else 2
    write_repro(found, runner, output)
    click.echo(visible(f"{output}: python {output / 'run.py'} exits with 1 while it disagrees"))
    return 1


def _exported(
    model: str, source: str | Path, shape: tuple[int, ...] | None, tokens: int, seed: int
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """What lucid exports of a model in eval mode, and its input."""
    [case] = cases_of(model, "eval", source=source, seed=seed, shape=shape, tokens=tokens)
    graph = trace(make_model(case).eval(), lucid.tensor(case.input))
    return to_onnx(graph), {graph.inputs[0]: case.input}


def _of_file(
    path: Path, source: str | Path, shape: tuple[int, ...] | None, tokens: int, seed: int
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    with foreign(f"model: {path} cannot be read"):
        proto = onnx.load(path)
        cuts = Cuts(proto)
    if source == PHOTOGRAPH:
        raise UsageError(f"--input: a photograph is for models that have a name; give {path} arrays")
    if isinstance(source, Path):
        return proto, _named(source, cuts)
    drawn = np.random.default_rng(seed)
    return proto, {name: _seeded(name, cuts, shape, tokens, drawn) for name in cuts.inputs}


def _named(path: Path, cuts: Cuts) -> dict[str, Array]:
    """The arrays of a file, in the types of the model's inputs."""
    if len(cuts.inputs) == 1:
        arrays = {cuts.inputs[0]: read_array(path)}
    else:
        with foreign(f"--input: {path} cannot be read"), np.load(path) as file:
            arrays = {name: file[name] for name in cuts.inputs if name in file.files}
    missing = [name for name in cuts.inputs if name not in arrays]
    if missing:
        raise UsageError(f"--input: {path} has no {', '.join(map(repr, missing))}, which the model takes")
    return {name: array.astype(cuts.dtype_of(name) or array.dtype) for name, array in arrays.items()}


def _seeded(name: str, cuts: Cuts, shape: tuple[int, ...] | None, tokens: int, drawn: np.random.Generator) -> Array:
    """One input, drawn."""
    declared, dtype = cuts.shape_of(name), np.dtype(cuts.dtype_of(name) or np.float32)
    sides = shape if shape is not None and len(cuts.inputs) == 1 else declared
    if not all(sides):
        raise UsageError(f"--input: the model does not say what shape {name!r} has: give --input-shape or --input")
    if dtype.kind == "f":
        return drawn.standard_normal(sides).astype(dtype)
    if not tokens or dtype.kind not in "iu":
        raise UsageError(f"--input: the model takes {name!r} of {dtype}: give --input, or --tokens N")
    return drawn.integers(0, tokens, sides).astype(dtype)
