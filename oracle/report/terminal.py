"""The verdict in the terminal: a sentence a subject and view, then the tensors that are worth a look, in the order of
execution: those closest to their budgets, or those out of line with their neighbours, or all of them.

The bar of a tensor is the share of its budget that was used; it is as wide as the terminal leaves room for. Every
colour is doubled by a mark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lucid.console import DONE
from oracle.judge.summary import Verdict, verdict_to_dict
from oracle.report.json_report import (
    OUTCOMES,
    Document,
    exit_status,
    is_forward,
    shown,
    state,
    value,
)

CLOSEST = 10  # tensors that are listed where all is well
OUT_OF_LINE = 20  # tensors that are listed where it is not, without their neighbours
_BARS = (12, 8, 4, 0)  # characters of a bar, the first for which the table fits
_SHARE = len("1200% ✓")
_ERROR = len("1.0e-10 ")
_GAP = 2  # between columns
_NAMES = (14, 42)  # characters of a tensor's name at least, where nothing else is left, and at most
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_TIGHT = 0.8  # a share of the budget from which the bar is coloured as a warning
_WITH_ERRORS = 2  # more columns than this leave no room for the errors themselves
Key = tuple[str, str]


def print_verdict(
    verdict: Verdict | Document, console: Console, *, tables: bool = True, worst: int | None = None, every: bool = False
) -> None:
    """Print the sentences and, unless ``tables`` is off, a table a case.

    Args:
        verdict: what to print, or its JSON form.
        console: where.
        tables: whether to list tensors at all.
        worst: how many tensors to list, those that used most of their budget, whether they are out of line or not.
        every: list every tensor.
    """
    document = shown(verdict if isinstance(verdict, Mapping) else verdict_to_dict(verdict))
    marks = _Marks(console.encoding)
    for case in document["cases"]:
        console.print(f"[bold]{escape(case_title(case))}[/bold]")
        if case["truth"]:
            console.print(f"truth: {escape(case['truth'])}", style="dim")
        _print_notes(case, console)
        for subject in case["subjects"]:
            mark = marks.yes if subject["agrees"] else marks.no
            console.print(f"{mark} {escape(subject['sentence'])}.", soft_wrap=False)
            _print_notes(subject, console)
        choice = _choose(case, worst, every)
        if tables and choice.keys:
            console.print()
            console.print(_table(case, choice, marks, console.width))
            if choice.rest:
                console.print(f"and {choice.rest} more out of line; --all lists every tensor", style="red")
            elif len(choice.keys) < len(choice.order):
                console.print("--all lists every tensor", style="dim")
        console.print()
    status = exit_status(document)
    console.print(OUTCOMES[status], style="bold green" if status == DONE else "bold red")


def _print_notes(part: Mapping[str, Any], console: Console) -> None:
    for note in part.get("notes", ()):
        console.print(f"  note: {note}", markup=False, highlight=False)


class _Marks:
    """Ticks, crosses and bars, in ASCII where the terminal has nothing else."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._rich = encoding.lower().startswith("utf")
        self.gap = "⋯" if self._rich else "..."
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


@dataclass(frozen=True)
class _Choice:
    """Which of a case's tensors are listed.

    Attributes:
        heading: what they are.
        keys: those that are listed, in the order of execution.
        order: all of the case.
        rest: how many more are out of line.
    """

    heading: str
    keys: Sequence[Key]
    order: Sequence[Key]
    rest: int = 0


def _choose(case: Mapping[str, Any], worst: int | None, every: bool) -> _Choice:
    """Choose the tensors to list."""
    found = _by_key(case)
    order = list(dict.fromkeys(key for layers in found for key in layers))
    if every:
        return _Choice("", order, order)
    urgency = {key: max(_urgency(layers[key]) for layers in found if key in layers) for key in order}
    bad = [key for key in order if any(state(layers[key]) == "bad" for layers in found if key in layers)]
    if worst is not None or not bad:
        known = [key for key in order if urgency[key] > 0]
        chosen = set(sorted(known, key=lambda key: urgency[key], reverse=True)[: worst or CLOSEST])
        return _Choice("closest to their budgets", [key for key in order if key in chosen], order)
    places = [place for place, key in enumerate(order) if key in set(bad[:OUT_OF_LINE])]
    near = {each for place in places for each in (place - 1, place, place + 1)}
    keys = [key for place, key in enumerate(order) if place in near]
    return _Choice("out of line, and their neighbours", keys, order, len(bad) - sum(key in keys for key in bad))


def _by_key(case: Mapping[str, Any]) -> list[dict[Key, Mapping[str, Any]]]:
    """Of each subject and view, its tensors."""
    return [{(layer["kind"], layer["name"]): layer for layer in subject["layers"]} for subject in case["subjects"]]


def _table(case: Mapping[str, Any], choice: _Choice, marks: _Marks, width: int) -> Table:
    """One row a tensor: for each subject and view its error, the share of the budget that it used, and a mark."""
    subjects, found = case["subjects"], _by_key(case)
    heads = [f"{_folded(subject['subject'])}\n{subject['view']}" for subject in subjects]
    least, most = _NAMES
    names = min(most, max(len(_row_name(key)) for key in choice.keys))

    def needed(cell: int) -> int:
        """How wide the columns are whose cells are so wide."""
        return sum(_GAP + max(cell, *map(len, head.splitlines())) for head in heads)

    bar = next((bar for bar in _BARS if needed(bar + bool(bar) + _SHARE) <= width - names), 0)
    errors = len(subjects) <= _WITH_ERRORS and needed(_ERROR + bar + bool(bar) + _SHARE) <= width - names
    table = Table(box=None, pad_edge=False)
    names = max(least, min(max(names, len(choice.heading)), width - needed(bar + bool(bar) + _SHARE)))
    table.add_column(escape(choice.heading), no_wrap=True, overflow="ellipsis", width=names)
    for head in heads:
        table.add_column(escape(head), justify="right", no_wrap=True)
    for heading, forward in (("forward", True), ("backward", False)):
        part = [key for key in choice.keys if is_forward(key[0]) == forward]
        whole = [key for key in choice.order if is_forward(key[0]) == forward]
        if part:
            table.add_row(f"[bold]{heading}[/bold]")
        before = -1
        for key in part:
            place = whole.index(key)
            if place != before + 1 and choice.heading.startswith("out of line"):
                table.add_row(f"[dim]  {marks.gap}[/dim]")
            before = place
            table.add_row(escape(_row_name(key)), *(_cell(each.get(key), marks, bar, errors) for each in found))
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


def _cell(layer: Mapping[str, Any] | None, marks: _Marks, bar: int, errors: bool) -> str:
    if layer is None:
        return ""
    mark = marks.yes if layer["agrees"] else marks.no
    status, used = layer["status"], value(layer["used"])
    if state(layer) == "neutral":
        return f"[dim]{escape(status)}  [/dim]"
    bits = " bits" if bar else ""
    if status == "exact":
        return f"same{bits} {mark}"
    if status != "within" and (status != "over" or math.isnan(used)):
        return f"[red]{f'other{bits}' if status == 'over' else escape(status)}[/red] {mark}"
    number = f"{value(layer['error']):.1e} " if errors and layer["error"] != "NaN" else ""
    return f"{number}{f'{marks.bar(used, bar)} ' if bar else ''}{_percent(used):>5} {mark}"


def _percent(used: float) -> str:
    """A share in at most five characters.

    Example:
        >>> _percent(0.404), _percent(12.0), _percent(1e9)
        ('40%', '1200%', '>99x')
    """
    if math.isnan(used):
        return "-"
    return f"{used:.0%}" if used < 99 else ">99x"


def _urgency(layer: Mapping[str, Any]) -> float:
    """Puts what is out of line first, then what is closest to its budget, then what nothing is known of."""
    used = value(layer["used"])
    if state(layer) == "neutral":
        return -1.0
    if layer["agrees"]:
        return -1.0 if math.isnan(used) else used
    return math.inf if math.isnan(used) else max(used, 1.0)
