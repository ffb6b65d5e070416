"""The matrix for people: a table for the terminal and for Markdown, one row a fault, the misses in words, and a table
of what the cases cannot see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from oracle.faults.fault import CATALOGUE
from oracle.faults.matrix import Matrix, Outcome

VIEWS = ("free", "local", "exact")
SPOTS = ("case", "fault", "at", "because")


@dataclass(frozen=True)
class Row:
    """One fault: how often it was tried, how often it is inert or not to be seen by the case, and of those that changed
    a bit, what each view made of them."""

    category: str
    fault: str
    tried: int
    inert: int
    unseen: int
    views: dict[str, str]
    caught: str
    named: str


def _share(outcomes: Sequence[Outcome], view: str) -> str:
    """``caught/judged`` of one view, ``-`` where it judged none."""
    judged = [each for each in outcomes if view in each.caught]
    return f"{sum(each.caught[view] for each in judged)}/{len(judged)}" if judged else "-"


def rows(matrix: Matrix) -> Iterator[Row]:
    """The faults in the catalogue's order."""
    for name, fault in CATALOGUE.items():
        outcomes = [each for each in matrix.outcomes if each.fault == name]
        if not outcomes:
            continue
        yield _row(fault.category, name, outcomes)


def _row(category: str, name: str, outcomes: Sequence[Outcome]) -> Row:
    live = [each for each in outcomes if each.changed]
    return Row(
        category,
        name,
        len(outcomes),
        sum(not each.changed and not each.unseen for each in outcomes),
        sum(bool(each.unseen) for each in outcomes),
        {view: _share(live, view) for view in VIEWS},
        f"{sum(each.is_caught for each in live)}/{len(live)}",
        f"{sum(each.is_named for each in live)}/{len(live)}",
    )


def categories(matrix: Matrix) -> Iterator[Row]:
    """One row for all faults of a category; their number stands for the name."""
    for category in dict.fromkeys(fault.category for fault in CATALOGUE.values()):
        outcomes = [each for each in matrix.outcomes if each.category == category]
        if outcomes:
            yield _row(category, f"{len({each.fault for each in outcomes})} faults", outcomes)


def summary(matrix: Matrix) -> list[str]:
    """What it all comes to, in sentences."""
    live = len(matrix.live)
    sentences = [
        f"{len({each.fault for each in matrix.outcomes})} faults put into {len(matrix.outcomes)} subjects; "
        f"{live} changed a bit, {len(matrix.inert)} are inert (they change no bit of any case), and "
        f"{len(matrix.unseen)} cannot be seen by their case.",
        f"Of these {live}: caught {_percent(matrix.caught_share)}, the layer named {_percent(matrix.named_share)}.",
    ]
    for view in VIEWS:
        judged = [each for each in matrix.live if view in each.caught]
        if judged:
            caught = [each for each in judged if each.caught[view]]
            named = sum(each.named.get(view, False) for each in caught)
            sentences.append(
                f"The {view} view caught {len(caught)} of the {len(judged)} that it judged, and named {named} of these."
            )
    return sentences


def _percent(share: float) -> str:
    return "none" if math.isnan(share) else f"{100 * share:.2f} %"


def misses(matrix: Matrix) -> list[str]:
    """One sentence for each fault that was missed, or whose layer was not named."""
    sentences = []
    for outcome in matrix.missed:
        sentences.append(f"missed: {_where(outcome)}: {CATALOGUE[outcome.fault].description}")
    for outcome in matrix.misnamed:
        view = next(view for view in ("exact", "local", "free") if outcome.caught.get(view))
        sentences.append(f"another layer named: {_where(outcome)}: {outcome.found[view]}")
    return sentences


def blind_spots(matrix: Matrix) -> Iterator[tuple[str, str, str, str]]:
    """What a case cannot see: case, fault, the layers where it was tried in vain, and what the case lacks there."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for each in matrix.unseen:
        found.setdefault((each.case, each.fault, each.unseen), []).append(each.layer)
    for (case, fault, lacking), layers in found.items():
        yield case, fault, ", ".join(dict.fromkeys(layers)), lacking


def _where(outcome: Outcome) -> str:
    return f"{outcome.fault} at {outcome.layer} of {outcome.case} in {outcome.engine}"


def print_matrix(matrix: Matrix, console: Console, *, table: bool = True, every: bool = True) -> None:
    """The table, the summary, and the misses.

    Args:
        matrix: what to print.
        console: where.
        table: whether to print a table at all.
        every: one row a fault; otherwise one a category.
    """
    if table:
        shown = Table(title="faults: how often caught, of how many that changed a bit", title_justify="left")
        for heading in ("", "fault"):
            shown.add_column(heading)
        for heading in ("tried", "inert", "unseen", *VIEWS, "caught", "named"):
            shown.add_column(heading, justify="right")
        for row in rows(matrix) if every else categories(matrix):
            cells = (
                row.category,
                row.fault,
                str(row.tried),
                str(row.inert),
                str(row.unseen),
                *row.views.values(),
                row.caught,
                row.named,
            )
            shown.add_row(*cells)
        console.print(shown)
        blind = list(blind_spots(matrix))
        if blind:
            spots = Table(title=f"what {_cases(matrix)} cannot see", title_justify="left")
            for heading in SPOTS:
                spots.add_column(heading)
            for spot in blind:
                spots.add_row(*spot)
            console.print(spots)
    for sentence in (*misses(matrix), *summary(matrix)):
        console.print(sentence, highlight=False, markup=False)


def _cases(matrix: Matrix) -> str:
    return "this case" if len({each.case for each in matrix.outcomes}) == 1 else "these cases"


def to_markdown(matrix: Matrix) -> str:
    """The same as Markdown: by category, in sentences, the misses, and every fault.

    Example:
        >>> print(to_markdown(Matrix([])).splitlines()[0])
        | | fault | tried | inert | unseen | free | local | exact | caught | named |
    """
    lines = [*_markdown(categories(matrix)), "", *summary(matrix), ""]
    lines += [*(f"- {sentence}" for sentence in misses(matrix)), "", *_markdown(rows(matrix))]
    blind = [f"| {' | '.join(spot)} |" for spot in blind_spots(matrix)]
    if blind:
        lines += ["", f"What {_cases(matrix)} cannot see:", "", f"| {' | '.join(SPOTS)} |", "|---|---|---|---|", *blind]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(table: Iterator[Row]) -> Iterator[str]:
    yield "| | fault | tried | inert | unseen | " + " | ".join(VIEWS) + " | caught | named |"
    yield "|---|---|" + "---:|" * (5 + len(VIEWS))
    for row in table:
        views = " | ".join(row.views.values())
        counts = f"{row.tried} | {row.inert} | {row.unseen}"
        yield f"| {row.category} | {row.fault} | {counts} | {views} | {row.caught} | {row.named} |"
