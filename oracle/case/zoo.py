"""The models that have names, whatever kind they are of."""

from __future__ import annotations

from collections.abc import Mapping

from oracle.graph.model import Model
from oracle.networks import NARROW_NETWORKS
from oracle.resnets import ARCHITECTURES, NARROW, SMALL, find_architecture

PUBLISHED: Mapping[str, Model] = ARCHITECTURES  # those that ``lucid-export`` knows
STANDARD: Mapping[str, Model] = {**ARCHITECTURES, **NARROW, **NARROW_NETWORKS}  # those of which there are goldens
SMALLEST: Mapping[str, Model] = SMALL  # those that faults are put into


def find_model(name: str) -> Model:
    """The model called ``name``.

    Raises:
        UsageError: no model has that name; the sentence suggests the nearest.
    """
    return NARROW_NETWORKS[name] if name in NARROW_NETWORKS else find_architecture(name)
