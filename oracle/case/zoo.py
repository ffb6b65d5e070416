"""The models that have names, whatever kind they are of."""

from __future__ import annotations

from collections.abc import Mapping

from oracle.errors import UsageError
from oracle.graph.graph import Shape
from oracle.graph.model import Model
from oracle.networks import NARROW_NETWORKS
from oracle.networks.given import given_network, is_given
from oracle.resnets import ARCHITECTURES, NARROW, SMALL, find_architecture

PUBLISHED: Mapping[str, Model] = ARCHITECTURES  # those that ``lucid-export`` knows
STANDARD: Mapping[str, Model] = {**ARCHITECTURES, **NARROW, **NARROW_NETWORKS}  # those of which there are goldens
SMALLEST: Mapping[str, Model] = SMALL  # those that faults are put into


def find_model(name: str, shape: Shape | None = None, tokens: int = 0, mirror: str = "") -> Model:
    """The model called ``name``, or somebody's own (`oracle.networks.given`).

    Raises:
        UsageError: no model has that name; the sentence suggests the nearest.
    """
    if is_given(name):
        return given_network(name, shape, tokens, mirror)
    if shape is not None or tokens or mirror:
        raise UsageError(f"model: {name} has an input and a mirror of its own: give neither")
    return NARROW_NETWORKS[name] if name in NARROW_NETWORKS else find_architecture(name)
