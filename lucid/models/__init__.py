"""Models by class, by factory, or by name; and ``summarize``, a table of what a model is made of."""

from __future__ import annotations

from lucid.models import blocks
from lucid.models.registry import get_model, get_model_names, register_model
from lucid.models.resnet import (
    ResNet,
    resnet_18,
    resnet_34,
    resnet_50,
    resnet_101,
    resnet_152,
    resnet_200,
    resnet_269,
    resnet_1001,
    wide_resnet_50,
    wide_resnet_101,
)
from lucid.models.seeded import seeded_state
from lucid.models.summary import Summary, SummaryRow, summarize

__all__ = [
    "ResNet",
    "Summary",
    "SummaryRow",
    "blocks",
    "get_model",
    "get_model_names",
    "register_model",
    "resnet_18",
    "resnet_34",
    "resnet_50",
    "resnet_101",
    "resnet_152",
    "resnet_200",
    "resnet_269",
    "resnet_1001",
    "seeded_state",
    "summarize",
    "wide_resnet_50",
    "wide_resnet_101",
]
