"""Where things stand in a chart of error over depth: plain geometry, which a template draws as SVG.

The vertical axis is logarithmic. Whatever has no place on it has a row of its own: an error of zero at the bottom, one
that is not finite (or could not be measured) at the top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from oracle.report.json_report import state, value

WIDTH, HEIGHT = 720.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 8.0, 22.0, 42.0
_ROW = 22.0  # height of the rows for what has no place on a logarithmic axis
_MOST_DECADES = 9  # labelled; more are thinned out
_LABEL_GAP = 44.0  # between labels of stages, in the units of the drawing
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Shape = Literal["circle", "diamond", "square"]
_SHAPES: dict[str, Shape] = {"parameter_gradient": "diamond", "loss": "square"}


@dataclass(frozen=True)
class Mark:
    """One tensor: where it stands, how it is drawn, and what is said where the pointer rests on it."""

    x: float
    y: float
    shape: Shape
    state: Literal["within", "over", "absent", "unjudged"]
    title: str
    row: int


@dataclass(frozen=True)
class Tick:
    """A label on an axis, and where; an empty one is a line alone."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A chart of one direction of one subject."""

    heading: str
    marks: Sequence[Mark]
    budget: str
    decades: Sequence[Tick]
    stages: Sequence[Tick]
    radius: float
    first: Mark | None = None
    first_label: str = ""
    zero: float | None = None
    beyond: float | None = None
    over: int = 0
    sizes: dict[str, float] = field(
        default_factory=lambda: {
            "width": WIDTH,
            "height": HEIGHT,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "top": TOP,
            "bottom": HEIGHT - BOTTOM,
        }
    )


def draw(heading: str, layers: Sequence[tuple[int, dict[str, Any]]], first: int | None) -> Chart | None:
    """The chart of some layers of a subject, ``None`` if none of them has an error or a budget to show.

    Args:
        heading: what stands over it.
        layers: each with its row in the page's table, in the order of execution.
        first: the row of the first that is out of line in this direction.
    """
    numbers = [value(layer[name]) for _, layer in layers for name in ("error", "budget")]
    usable = [number for number in numbers if math.isfinite(number) and number > 0]
    if not usable:
        return None
    low, high = math.floor(math.log10(min(usable))), math.ceil(math.log10(max(usable)))
    high = max(high, low + 1)
    errors = [value(layer["error"]) for _, layer in layers]
    budgets = [value(layer["budget"]) for _, layer in layers]
    zero = HEIGHT - BOTTOM - _ROW / 2 if 0 in (*errors, *budgets) else None
    beyond = TOP + _ROW / 2 if any(not math.isfinite(error) for error in errors) else None
    top = TOP + (_ROW if beyond is not None else 0.0)
    bottom = HEIGHT - BOTTOM - (_ROW if zero is not None else 0.0)
    across = (WIDTH - LEFT - RIGHT) / len(layers)

    def place(number: float) -> float:
        if number == 0:
            return zero if zero is not None else bottom
        if not math.isfinite(number):
            return beyond if beyond is not None else top
        return place_power(math.log10(number))

    def place_power(exponent: float) -> float:
        return bottom - (exponent - low) / (high - low) * (bottom - top)

    marks = [
        Mark(
            round(LEFT + (position + 0.5) * across, 1),
            round(place(error), 1),
            _SHAPES.get(layer["kind"], "circle"),
            _state(layer),
            in_words(layer),
            row,
        )
        for position, ((row, layer), error) in enumerate(zip(layers, errors, strict=True))
    ]
    found = next((mark for mark in marks if mark.row == first), None)
    return Chart(
        heading,
        marks,
        _steps([(position, place(budget)) for position, budget in enumerate(budgets) if budget < math.inf], across),
        _decades(low, high, place_power),
        _stages([layer["name"] for _, layer in layers], across),
        round(max(1.4, min(3.6, across * 0.42)), 2),
        found,
        next((layer["name"] for row, layer in layers if row == first), ""),
        zero,
        beyond,
        sum(mark.state == "over" for mark in marks),
    )


def _state(layer: dict[str, Any]) -> Literal["within", "over", "absent", "unjudged"]:
    if state(layer) == "neutral":
        return "absent" if layer["error"] == "NaN" else "unjudged"
    return "within" if layer["agrees"] else "over"


def in_words(layer: dict[str, Any]) -> str:
    """A layer in one line, for the pointer that rests on it."""
    parts = [f"{layer['kind'].replace('_', ' ')} {layer['name']}: {layer['status']}"]
    if layer["error"] != "NaN":
        parts.append(f"error {value(layer['error']):.2e}")
    if layer["budget"] != "NaN":
        parts.append(f"budget {value(layer['budget']):.2e}")
    if layer["used"] != "NaN":
        parts.append(f"{value(layer['used']):.0%} used")
    return "; ".join([", ".join(parts), *filter(None, (layer["difference"], layer["note"]))])


def _steps(points: Sequence[tuple[int, float]], across: float) -> str:
    """The budgets as the path of a staircase; a layer without one interrupts it."""
    path, before = [], None
    for position, y in points:
        left, right = LEFT + position * across, LEFT + (position + 1) * across
        path.append(f"{'L' if before == position - 1 else 'M'}{left:.1f} {y:.1f}H{right:.1f}")
        before = position
    return "".join(path)


def _decades(low: int, high: int, place: Any) -> list[Tick]:
    every = -(-(high - low) // _MOST_DECADES)
    exponents = range(low, high + 1)
    return [
        Tick(round(place(exponent), 1), f"10{str(exponent).translate(_SUPERSCRIPT)}")
        for exponent in exponents
        if (exponent - low) % every == 0
    ]


def _stages(names: Sequence[str], across: float) -> list[Tick]:
    """A tick where a part of the network begins; where they crowd, the stages are labelled before the rest."""
    parts = [name.split(".")[0] for name in names]
    begins = [place for place, part in enumerate(parts) if place == 0 or part != parts[place - 1]]
    labelled: list[int] = []
    for place in sorted(begins, key=lambda place: not parts[place].startswith("layer")):
        if all(abs(place - other) * across >= _LABEL_GAP for other in labelled):
            labelled.append(place)
    return [Tick(round(LEFT + place * across, 1), parts[place] if place in labelled else "") for place in begins]
