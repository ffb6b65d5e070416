"""``lucid-oracle golden``: what truths are stored, what one holds, and whether all are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from lucid.console import visible
from oracle.case.case import SEEDED
from oracle.commands.options import input_of, own_options
from oracle.commands.progress import progress
from oracle.files import write_whole
from oracle.graph.model import Mode
from oracle.run import cases_of
from oracle.truth.goldens import STORED, Golden, golden_directory, read_manifest, verify
from oracle.truth.making import add_to_manifest, known_manifest, make, write_manifest

SOUND, UNSOUND = 0, 2


def say(line: str, err: bool = False) -> None:
    """Print a line; names in it come from files."""
    click.echo(visible(line), err=err)


_TOLD = 50  # problems that are told one by one


_directory = click.option(
    "--directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the goldens are. [default: the project's]",
)


@click.group("golden")
def command() -> None:
    """The stored truths of the standard cases."""


@command.command("list")
@_directory
def list_goldens(directory: Path | None) -> int:
    """List the goldens: tensors, size, and how well the truth's two origins agree."""
    directory = golden_directory() if directory is None else directory
    manifest = read_manifest(directory)
    say(f"{'golden':<24}{'tensors':>8}{'size':>10}{'origins agree to':>18}")
    for name, entry in manifest["goldens"].items():
        size = sum(manifest["files"][f"{name}.{suffix}"]["size"] for suffix in ("json", "safetensors"))
        say(f"{name:<24}{entry['tensors']:>8}{size / 1e6:>7.2f} MB{entry['largest_error']:>18.1e}")
    total = sum(entry["size"] for entry in manifest["files"].values())
    say(f"{len(manifest['goldens'])} goldens, {total / 1e6:.1f} MB, law {manifest['law']}")
    return SOUND


@command.command("make")
@click.argument("model")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where to put them."
)
@click.option("--mode", type=click.Choice(["eval", "train", "both"]), default="both", show_default=True)
@click.option(
    "--input", "source", default=SEEDED, show_default=True, metavar="seeded|FILE.npz", help="What it is run on."
)
@click.option("--seed", type=int, default=0, show_default=True, help="What the seeded input and labels derive from.")
@own_options
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def make_goldens(
    model: str,
    output: Path,
    mode: Mode | Literal["both"],
    source: str,
    seed: int,
    shape: tuple[int, ...] | None,
    tokens: int,
    mirror: str,
    quiet: bool,
) -> int:
    """Store the truth of MODEL, with its weights and input, for another machine or another day.

    MODEL is as `lucid-oracle check` takes it, which judges by what is stored with `--directory DIR`.
    """
    cases = cases_of(model, mode, source=input_of(source), seed=seed, shape=shape, tokens=tokens, mirror=mirror)
    output.mkdir(parents=True, exist_ok=True)
    manifest = known_manifest(output)
    for case in cases:
        with progress(quiet) as step:
            step(f"{case.name}: the truth, and what float32 and three lower precisions may make of it")
            files, entry = make(case)
        for file, content in files.items():
            write_whole(output / file, content)
        add_to_manifest(manifest, case.name, files, entry)
        write_manifest(manifest, list(manifest["goldens"]), output)
        origins = " and ".join(entry["origins"])
        say(
            f"{case.name}: {entry['tensors']} tensors, {sum(map(len, files.values())) / 1e6:.2f} MB, truth of {origins}"
        )
    return SOUND


@command.command("show")
@click.argument("name")
@_directory
def show(name: str, directory: Path | None) -> int:
    """Show what the golden NAME holds: the case, its amplification, and each tensor's digest and budgets."""
    golden = Golden.load(name, directory)
    about = golden.case.describe()
    say(f"{name}: {about['model']}, {about['mode']}, input {about['input']} {about['shape']}, seed {about['seed']}")
    say(
        f"weights {golden.weights[:12]}; channels of both signs at every ReLU: at least "
        f"{golden.two_sided['share']:.0%} ({golden.two_sided['layer']})"
    )
    for kind, found in golden.amplification.items():
        say(
            f"budget of {kind.replace('_', ' ')}s, in float32 roundoffs: median {found['median']:g}, "
            f"largest {found['largest']:g}" + (f"; {found['vanishing']} vanish" if found["vanishing"] else "")
        )
    say(f"{'tensor':<52}{'shape':<20}{'digest':<14}" + "".join(f"{each:>10}" for each in STORED))
    for key in golden:
        shape = "x".join(map(str, golden.shape(key)))
        budgets = "".join(f"{golden.budget(key, each).rms:>10.1e}" for each in STORED)
        say(f"{'/'.join(key):<52}{shape:<20}{golden.digest(key)[:12]:<14}{budgets}")
    return SOUND


@command.command("verify")
@_directory
def verify_goldens(directory: Path | None) -> int:
    """Read every golden and say what is wrong with it, if anything: exit status 2."""
    directory = golden_directory() if directory is None else directory
    problems = verify(directory)
    for problem in problems[:_TOLD]:
        say(problem, err=True)
    if len(problems) > _TOLD:
        say(f"and {len(problems) - _TOLD} more", err=True)
    if not problems:
        say(f"{directory}: {len(read_manifest(directory)['goldens'])} goldens, every byte as it was made")
    return UNSOUND if problems else SOUND
