"""Layers, losses, initial values: what networks are built from."""

from __future__ import annotations

import importlib
from typing import Any

from lucid.nn import functional, init
from lucid.nn.activation import Dropout, ReLU, SEModule, Sigmoid
from lucid.nn.container import ModuleDict, ModuleList, Sequential
from lucid.nn.conv import Conv2d
from lucid.nn.linear import Flatten, Identity, Linear
from lucid.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from lucid.nn.module import Module
from lucid.nn.norm import BatchNorm2d
from lucid.nn.parameter import Buffer, Parameter
from lucid.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "ResNet",
    "SEModule",
    "Sequential",
    "Sigmoid",
    "functional",
    "init",
]


ABOVE: dict[str, str] = {}
"""Names of this package whose homes stand above it, and these homes: ``lucid`` enters them. Loaded when asked for."""


def __getattr__(name: str) -> Any:
    if name in ABOVE:
        return getattr(importlib.import_module(ABOVE[name]), name)
    raise AttributeError(f"module 'lucid.nn' has no attribute {name!r}")
