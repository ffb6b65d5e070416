"""The verdict in the terminal: every layer in the order of execution, readable at 100 columns, then the sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from oracle.compare import LayerVerdict, SubjectVerdict
from oracle.trace import Key
from oracle.verdict import CaseVerdict, Verdict

_FORWARD = ("activation", "loss")


def print_verdict(verdict: Verdict, console: Console, *, tables: bool = True, worst: int | None = None) -> None:
    """Print a table a case (unless ``tables`` is off) and the sentences.

    Args:
        verdict: what to print.
        console: where.
        tables: whether to list layers at all.
        worst: list only this many layers, those that used most of what is allowed.
    """
    for case in verdict.cases:
        console.print(f"[bold]{escape(_title(case))}[/bold]")
        if tables:
            console.print(case_table(case, worst))
        for subject in case.subjects:
            mark = "[green]✓[/green]" if subject.agrees else "[red]✗[/red]"
            console.print(f"{mark} {escape(subject.sentence())}.", soft_wrap=False)
            if subject.flips and not subject.failure:
                console.print(f"  {escape(flip_sentence(subject))}")
        console.print()
    if verdict.agrees:
        console.print("[bold green]agrees[/bold green]")
    else:
        console.print("[bold red]disagrees[/bold red]")


def case_table(case: CaseVerdict, worst: int | None = None) -> Table:
    """One row a tensor: PyTorch's own error, then each subject's error, its ratio to PyTorch's, and a mark."""
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", no_wrap=True, overflow="ellipsis", max_width=42)
    table.add_column("torch", justify="right", no_wrap=True)
    for subject in case.subjects:
        table.add_column(escape(subject.subject), justify="right", no_wrap=True)
    found = [{(layer.kind, layer.name): layer for layer in subject.layers} for subject in case.subjects]
    keys = list(dict.fromkeys(key for layers in found for key in layers))
    forward = [key for key in keys if key[0] in _FORWARD]
    backward = [key for key in keys if key[0] not in _FORWARD]
    for heading, part in (("forward", forward), ("backward", backward)):
        if part:
            table.add_row(f"[bold]{heading}[/bold]")
        for key in part if worst is None else _worst(part, found, worst):
            layers = [each.get(key) for each in found]
            table.add_row(escape(_row_name(key)), _own_error(layers), *map(_cell, layers))
    return table


def _title(case: CaseVerdict) -> str:
    about = case.case
    shape = "x".join(map(str, (about.batch, about.architecture.in_channels, about.size, about.size)))
    loss = "" if case.loss is None else f", loss {case.loss:.4f}"
    return f"{about.name}: input {about.source} {shape}, seed {about.seed}{loss}, {case.seconds:.1f} s"


def _row_name(key: Key) -> str:
    kind, name = key
    return f"  {name} (output)" if kind == "activation_gradient" else f"  {name}"


def _own_error(layers: Sequence[LayerVerdict | None]) -> str:
    errors = [layer.yardstick for layer in layers if layer is not None]
    return _short(errors[0]) if errors else ""


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1e}"


def _cell(layer: LayerVerdict | None) -> str:
    if layer is None:
        return ""
    if layer.status not in ("ok", "over"):
        return f"[red]{layer.status} ✗[/red]"
    ratio = "     " if math.isnan(layer.ratio) else f"{min(layer.ratio, 9999):.2f}x" if layer.ratio < 100 else ">100x"
    mark = "[green]✓[/green]" if layer.agrees else "[red]✗[/red]"
    return f"{_short(layer.error)} {ratio:>6} {mark}"


def _worst(keys: Sequence[Key], found: Sequence[dict[Key, LayerVerdict]], count: int) -> list[Key]:
    """The ``count`` keys that used most of their allowance in some subject, in the order of execution."""

    def used(key: Key) -> float:
        shares = [layers[key].used for layers in found if key in layers]
        return max(math.inf if math.isnan(share) else share for share in shares)

    chosen = set(sorted(keys, key=used, reverse=True)[:count])
    return [key for key in keys if key in chosen]


def flip_sentence(subject: SubjectVerdict) -> str:
    """What the branches that rounding decided otherwise mean for the gradients."""
    count = sum(subject.flips.values())
    where = ", ".join(list(subject.flips)[:3]) + (", ..." if len(subject.flips) > 3 else "")
    elements = "element" if count == 1 else "elements"
    return (
        f"{count} {elements} of a ReLU or max pooling went the other way than in float64 ({where}); "
        "the jump in the gradient that this makes is allowed for"
    )
