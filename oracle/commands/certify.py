"""``lucid-oracle certify``: does this machine reproduce every bit of the goldens, and does it do so every time?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from lucid.console import DONE, IMPOSSIBLE, WRONG, visible
from oracle.commands.options import OutputConsole
from oracle.commands.progress import progress
from oracle.errors import UsageError
from oracle.files import writable
from oracle.truth.certificate import (
    Run,
    certificate,
    certify,
    configurations,
    identity,
    machine,
    processor,
    read_certificates,
    slug,
    table,
    write_certificate,
)
from oracle.truth.goldens import Golden, golden_directory, golden_names

HARDWARE = "hardware"
_NUMBERS = "N[,N]"


@click.command("certify")
@click.option("--name", metavar="NAME", help="The certificate's. [default: from the processor's or GPU's name]")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="These models alone. May be repeated.")
@click.option("--mode", type=click.Choice(["eval", "train", "both"]), default="both", show_default=True)
@click.option("--device", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True)
@click.option("--backend", metavar="NAME", help="A lucid backend. [default: native, or cuda with --device gpu]")
@click.option(
    "--isa",
    multiple=True,
    metavar="NAME[,NAME]",
    help="Instruction sets of native. [default: all that the processor has]",
)
@click.option(
    "--threads", multiple=True, metavar=_NUMBERS, help="Numbers of threads. [default: 1 and the number of processors]"
)
@click.option("--plan/--no-plan", default=True, show_default=True, help="Whether to run inference plans too.")
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Rounds.")
@click.option("--directory", type=click.Path(path_type=Path), metavar="DIR", help="Where the goldens are.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write. [default: hardware/NAME.json beside the goldens]",
)
@click.option("--list", "listing", is_flag=True, help="Run nothing: list the certificates that there are (Markdown).")
@click.option("-q", "--quiet", is_flag=True, help="No progress, and only what is not equal.")
def command(
    name: str | None,
    models: tuple[str, ...],
    mode: Literal["eval", "train", "both"],
    device: str,
    backend: str | None,
    isa: tuple[str, ...],
    threads: tuple[str, ...],
    plan: bool,
    repeat: int,
    directory: Path | None,
    output: Path | None,
    listing: bool,
    quiet: bool,
) -> int:
    """Run the digests of all goldens on this machine and write golden/hardware/NAME.json.

    With --repeat N they run N times over: a digest that ever changes is silent data corruption, and is reported.
    """
    home = golden_directory() if directory is None else directory
    names = golden_names(directory)
    if listing:
        goldens = [Golden.load(each, directory) for each in names]
        current = {golden.case.name: identity(golden) for golden in goldens}
        try:
            listed = table(read_certificates(home / HARDWARE), current)
        except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            text = f"{type(error).__name__}: {error}"
            raise UsageError(f"certificate: one in {home / HARDWARE} is not sound: {text}") from None
        for line in listed.splitlines():
            click.echo(visible(line))
        return DONE
    backend = backend or ("cuda" if device == "gpu" else "native")
    chosen = configurations(backend, _split(",".join(isa) or None), _numbers(",".join(threads) or None), plan=plan)
    goldens = [Golden.load(each, directory) for each in _select(names, models, mode)]
    name = name or slug(_device_name(backend))
    path = output or home / HARDWARE / f"{name}.json"
    if output is None:
        path.parent.mkdir(exist_ok=True)
    writable(path)  # said now, not after hours
    start = time.perf_counter()
    with progress(quiet) as step:
        runs = certify(goldens, chosen, repeat=repeat, progress=step)
    document = certificate(name, goldens, runs, time.perf_counter() - start)
    write_certificate(document, path)
    console = OutputConsole()
    for run in runs:
        if not (quiet and run.agrees):
            mark = "[green]✓[/green]" if run.agrees else "[red]✗[/red]"
            console.print(f"{mark} ", end="")
            console.print(visible(run.sentence()), markup=False)
    text = "all equal" if document["agrees"] else "NOT all equal"
    summary = f"{document['digests']} digests in {document['seconds']:.1f} s, {text}; {path}"
    console.print(visible(summary), markup=False)
    return status_of(runs)


def status_of(runs: Sequence[Run]) -> int:
    """1 if a digest was wrong, or changed; else 2 if a run could not finish, or nothing was compared; else 0.

    What a run that could not finish did not make is no wrong digest.

    Example:
        >>> status_of([])
        2
    """
    for run in runs:
        made = [key for key in run.different if run.digests.get(key) != "missing"]
        if run.changed or made or (run.different and not run.failure):
            return WRONG
    return DONE if runs and all(run.agrees for run in runs) else IMPOSSIBLE


def _device_name(backend: str) -> str:
    if backend != "cuda":
        return processor()
    found: str = machine(gpu=True)["gpu"]["name"]
    return found


def _select(names: list[str], models: tuple[str, ...], mode: str) -> list[str]:
    """The goldens of some models in some mode.

    Raises:
        UsageError: there is no golden of one of them.

    Example:
        >>> _select(["resnet_18-eval", "resnet_18-train", "resnet_50-eval"], ("resnet_18",), "eval")
        ['resnet_18-eval']
    """
    known = list(dict.fromkeys(name.rsplit("-", 1)[0] for name in names))
    for model in models:
        if model not in known:
            raise UsageError(f"--model: there is no golden of {model!r}; there are {', '.join(known) or 'none'}")
    found = []
    for name in names:
        model, its_mode = name.rsplit("-", 1)
        if (not models or model in models) and mode in ("both", its_mode):
            found.append(name)
    if not found:
        raise UsageError(f"certify: there is no golden of mode {mode}: nothing would be compared")
    return found


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str | None) -> list[int] | None:
    parts = _split(text)
    if parts is None:
        return None
    if not parts or not all(part.isdigit() for part in parts):
        raise UsageError(f"--threads: got {text!r}; may be {_NUMBERS}, such as 1,2")
    return [int(part) for part in parts]
