"""What was found of an implementation, in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Aspects = dict[str, str]


@dataclass
class Identity:
    """The arithmetic of an implementation.

    Args:
        name: whose.
        precision: what its operations take and return.
        found: by operation, by aspect, what was found.
        refused: by operation, why it could not be run.
    """

    name: str
    precision: str
    found: dict[str, Aspects] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """A line for each aspect of each operation."""
        lines = [f"{self.name} in {self.precision}"]
        for operation, aspects in self.found.items():
            lines.append(operation)
            lines += [f"  {aspect}: {told}" for aspect, told in aspects.items()]
        lines += [f"{operation}\n  could not be run: {reason}" for operation, reason in self.refused.items()]
        return "\n".join(lines)

    def differences(self, other: Mapping[str, Mapping[str, str]]) -> list[str]:
        """What is not as in the ``found`` of another one, of what both have."""
        return [
            f"{operation}, {aspect}: {told}; expected {other[operation][aspect]}"
            for operation, aspects in self.found.items()
            for aspect, told in aspects.items()
            if aspect in other.get(operation, {}) and other[operation][aspect] != told
        ]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "precision": self.precision, "found": self.found, "refused": self.refused}
