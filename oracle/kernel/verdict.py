"""What a kernel check says: a verdict, and of a failure the least that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from oracle.kernel.judge import in_units

Shape = tuple[int, ...]


@dataclass(frozen=True)
class KernelFailure:
    """One result that no healthy kernel returns.

    Args:
        result: which one: ``output``, or ``gradient of NAME``.
        shapes: of the inputs, the smallest that fail.
        draw: the kind of values.
        kind: what happened, in words.
        place: which elements, in words.
        count: how many elements are wrong, and of how many.
        error: the worst error, in roundings of the result as stored; ``budget`` and ``rounding`` beside it: what a
            healthy kernel may have there, and what the exact result, rounded once, has.
        passes: whether the usual tolerance lets it pass.
        reproduce: a line that runs this one check.
        note: what else is known.
        told_at: the shapes at which kind, place, count and error were seen: larger ones tell more.
    """

    result: str
    shapes: tuple[Shape, ...]
    draw: str
    kind: str
    place: str
    count: tuple[int, int]
    error: float
    budget: float
    passes: bool
    reproduce: str
    note: str = ""
    told_at: tuple[Shape, ...] = ()

    def sentence(self) -> str:
        """All of it."""
        wrong, size = self.count
        parts = [f"{self.result} is wrong from shape {shapes_in_words(self.shapes)} on ({self.draw} values)"]
        if not self.told_at or self.told_at == self.shapes:
            parts = [f"{self.result} is wrong at shape {shapes_in_words(self.shapes)} ({self.draw} values)"]
        told = self.kind
        if self.told_at and self.told_at != self.shapes:
            told = f"at {shapes_in_words(self.told_at)} {told}"
        if wrong:
            told += f", in {wrong:,} of {size:,} elements" + (f": {self.place}" if self.place else "")
        parts.append(told)
        if self.error:
            parts.append(
                f"the worst is {in_units(self.error)} roundings off, where a healthy kernel is at most "
                f"{in_units(self.budget)} off before it rounds its result"
            )
        if self.passes:
            parts.append("torch.testing.assert_close lets it pass at its default")
        if self.note:
            parts.append(self.note)
        return "; ".join(parts) + (f"\n  reproduce: {self.reproduce}" if self.reproduce else "")

    def to_dict(self) -> dict[str, Any]:
        return {
            "result": self.result,
            "shapes": [list(shape) for shape in self.shapes],
            "draw": self.draw,
            "kind": self.kind,
            "place": self.place,
            "wrong": self.count[0],
            "elements": self.count[1],
            "error": self.error,
            "budget": self.budget,
            "passes_assert_close": self.passes,
            "reproduce": self.reproduce,
            "note": self.note,
            "told_at": [list(shape) for shape in self.told_at],
        }


@dataclass
class KernelVerdict:
    """What a check of one kernel found.

    Args:
        operation: what it should compute.
        precision: what was declared.
        checks: how many results were judged.
        elements: in how many elements.
        blind: how many results more could not be judged, for their budgets are too large a share of them.
        closest: how much of its budget the worst healthy element used.
        failures: what is wrong; the smallest first.
        refused: shapes that the kernel raised at, with what it said.
        notes: what was not checked, and why; what was assumed.
        repeatable: whether the same inputs gave the same bits twice.
    """

    operation: str
    precision: str
    checks: int = 0
    elements: int = 0
    blind: int = 0
    closest: float = 0.0
    failures: list[KernelFailure] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    repeatable: bool = True
    kernel: str = ""

    @property
    def agrees(self) -> bool:
        """Whether something was judged, and nothing is wrong."""
        return self.checks > 0 and not self.failures

    @property
    def first(self) -> KernelFailure | None:
        """The failure with the smallest inputs."""
        return self.failures[0] if self.failures else None

    def sentence(self) -> str:
        """The verdict in words."""
        subject = f"{self.kernel or 'the kernel'} as {self.operation} in {self.precision}"
        if self.first is not None:
            told = f"{subject} disagrees: {self.first.sentence()}"
        elif not self.checks:
            told = f"{subject}: nothing was judged, which is no agreement"
        else:
            told = (
                f"{subject} agrees in {self.checks} results of {self.elements:,} elements; the worst used "
                f"{self.closest:.0%} of its budget"
            )
        more = list(self.notes)
        if self.blind:
            more.append(
                f"{self.blind} more results were not judged: the budgets of most of their elements exceed 30 % of them"
            )
        if self.refused:
            more.append(f"it raised at {len(self.refused)} of the shapes, the first: {self.refused[0]}")
        if not self.repeatable:
            more.append("the same inputs did not give the same bits twice")
        return told + "".join(f"\n  note: {each}" for each in more)

    def to_dict(self) -> dict[str, Any]:
        """What a report holds."""
        return {
            "kernel": self.kernel,
            "operation": self.operation,
            "precision": self.precision,
            "agrees": self.agrees,
            "checks": self.checks,
            "elements": self.elements,
            "blind": self.blind,
            "closest": self.closest,
            "repeatable": self.repeatable,
            "failures": [each.to_dict() for each in self.failures],
            "refused": list(self.refused),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return self.sentence()


def shapes_in_words(shapes: Sequence[Shape]) -> str:
    return " and ".join(str(tuple(shape)) for shape in shapes)
