"""Models by class, by factory, or by name; and ``summarize``, a table of what a model is made of."""

# ruff: noqa: F403 (the models, listed by their own module)

from __future__ import annotations

from lucid.models import blocks, resnet
from lucid.models.registry import get_model, get_model_names, register_model
from lucid.models.resnet import *
from lucid.models.seeded import seeded_state
from lucid.models.summary import Summary, SummaryRow, summarize

__all__ = [
    "Summary",
    "SummaryRow",
    "blocks",
    "get_model",
    "get_model_names",
    "register_model",
    "seeded_state",
    "summarize",
]
__all__ += resnet.__all__
