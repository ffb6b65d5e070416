"""``lucid-oracle golden``: what truths are stored, what one holds, and whether all are whole."""

from __future__ import annotations

from pathlib import Path

import click

from lucid.console import visible
from oracle.truth.goldens import STORED, Golden, golden_directory, read_manifest, verify

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
