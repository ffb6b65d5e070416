"""The verdict in the terminal: every layer in the order of execution, readable at 100 columns, then the sentences.

The bar of a layer is the share of its budget that was used. Every colour is doubled by a mark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lucid.console import DONE
from oracle.report.json_report import OUTCOMES, Document, exit_status, shown, value, verdict_to_dict

if TYPE_CHECKING:
    from oracle.verdict import Verdict

_FORWARD = ("activation", "loss")
_BARS = {1: 12, 2: 8, 3: 8}  # characters of a bar by the number of columns
_SHORT_BAR = 4
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_TIGHT = 0.8  # a share of the budget from which the bar is coloured as a warning
_WITH_ERRORS = 2  # more columns than this leave no room for the errors themselves
Key = tuple[str, str]


def print_verdict(
    verdict: Verdict | Document, console: Console, *, tables: bool = True, worst: int | None = None
) -> None:
    """Print a table a case (unless ``tables`` is off) and the sentences.

    Args:
        verdict: what to print, or its JSON form.
        console: where.
        tables: whether to list layers at all.
        worst: list only this many layers, those that used most of their budget.
    """
    document = shown(verdict if isinstance(verdict, Mapping) else verdict_to_dict(verdict))
    marks = _Marks(console.encoding)
    for case in document["cases"]:
        console.print(f"[bold]{escape(case_title(case))}[/bold]")
        if case["truth"]:
            console.print(f"truth: {escape(case['truth'])}", style="dim")
        if tables:
            console.print(case_table(case, worst, marks))
        for subject in case["subjects"]:
            mark = marks.yes if subject["agrees"] else marks.no
            console.print(f"{mark} {escape(subject['sentence'])}.", soft_wrap=False)
        console.print()
    status = exit_status(document)
    console.print(OUTCOMES[status], style="bold green" if status == DONE else "bold red")


class _Marks:
    """Ticks, crosses and bars, in ASCII where the terminal has nothing else."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._rich = encoding.lower().startswith("utf")
        self.yes = f"[green]{'✓' if self._rich else 'ok'}[/green]"
        self.no = f"[red]{'✗' if self._rich else 'X'}[/red]"

    def bar(self, used: float, width: int) -> str:
        """A bar for a share of the budget, full from 1 on."""
        eighths = round(min(max(used, 0.0), 1.0) * width * 8)
        whole, part = divmod(eighths, 8)
        if self._rich:
            text = (_EIGHTHS[-1] * whole + (_EIGHTHS[part] if part else "")).ljust(width)
        else:
            text = ("#" * whole).ljust(width, ".")
        colour = "red" if used > 1 else "yellow" if used >= _TIGHT else "cyan"
        return f"[{colour} on grey23]{text}[/]"


def case_title(case: Mapping[str, Any]) -> str:
    """What a report puts over a case."""
    shape = "x".join(map(str, case["shape"]))
    loss = "" if case["loss"] is None else f", loss {value(case['loss']):.4f}"
    return f"{case['name']}: input {case['input']} {shape}, seed {case['seed']}{loss}, {case['seconds']:.1f} s"


def case_table(case: Mapping[str, Any], worst: int | None = None, marks: _Marks | None = None) -> Table:
    """One row a tensor: for each subject and view its error, the share of the budget that it used, and a mark."""
    marks = marks or _Marks()
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", no_wrap=True, overflow="ellipsis", max_width=42)
    subjects = case["subjects"]
    for subject in subjects:
        table.add_column(f"{escape(_folded(subject['subject']))}\n{subject['view']}", justify="right", no_wrap=True)
    found = [{(layer["kind"], layer["name"]): layer for layer in subject["layers"]} for subject in subjects]
    keys = list(dict.fromkeys(key for layers in found for key in layers))
    for heading, part in (
        ("forward", [key for key in keys if key[0] in _FORWARD]),
        ("backward", [key for key in keys if key[0] not in _FORWARD]),
    ):
        if part:
            table.add_row(f"[bold]{heading}[/bold]")
        for key in part if worst is None else _worst(part, found, worst):
            cells = [_cell(each.get(key), marks, len(subjects)) for each in found]
            table.add_row(escape(_row_name(key)), *cells)
    return table


def _row_name(key: Key) -> str:
    kind, name = key
    return f"  {name} (output)" if kind == "activation_gradient" else f"  {name}"


def _folded(label: str) -> str:
    """A subject's label, its options below its name.

    Example:
        >>> _folded("torch:no-onednn:threads=2").splitlines()
        ['torch', 'no-onednn', 'threads=2']
    """
    return label.replace(":", "\n")


def _cell(layer: Mapping[str, Any] | None, marks: _Marks, columns: int) -> str:
    if layer is None:
        return ""
    mark = marks.yes if layer["agrees"] else marks.no
    status, used = layer["status"], value(layer["used"])
    if status == "not observed":
        return "[dim]not observed  [/dim]"
    if status == "exact":
        return f"same bits {mark}"
    if status != "within" and (status != "over" or math.isnan(used)):
        return f"[red]{'other bits' if status == 'over' else status}[/red] {mark}"
    told = f"{value(layer['error']):.1e} " if columns <= _WITH_ERRORS and layer["error"] != "NaN" else ""
    return f"{told}{marks.bar(used, _BARS.get(columns, _SHORT_BAR))} {_percent(used):>5} {mark}"


def _percent(used: float) -> str:
    """A share in at most five characters.

    Example:
        >>> _percent(0.404), _percent(12.0), _percent(1e9)
        ('40%', '1200%', '>99x')
    """
    if math.isnan(used):
        return "-"
    return f"{used:.0%}" if used < 99 else ">99x"


def _worst(keys: Sequence[Key], found: Sequence[Mapping[Key, Mapping[str, Any]]], count: int) -> list[Key]:
    """The ``count`` keys that used most of their budget in some subject, in the order of execution."""

    def used(key: Key) -> float:
        return max(_urgency(layers[key]) for layers in found if key in layers)

    chosen = set(sorted(keys, key=used, reverse=True)[:count])
    return [key for key in keys if key in chosen]


def _urgency(layer: Mapping[str, Any]) -> float:
    """Puts what is out of line first, then what is closest to its budget, then what nothing is known of."""
    used = value(layer["used"])
    if layer["agrees"] or layer["status"] == "not observed":
        return -1.0 if math.isnan(used) else used
    return math.inf if math.isnan(used) else max(used, 1.0)
