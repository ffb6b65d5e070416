"""Layers, losses, initial values: what networks are built from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lucid.nn import activation, functional, init
from lucid.nn.activation import *  # noqa: F403
from lucid.nn.container import ModuleDict, ModuleList, Sequential
from lucid.nn.conv import Conv2d
from lucid.nn.linear import Flatten, Identity, Linear
from lucid.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from lucid.nn.module import Module
from lucid.nn.norm import BatchNorm2d
from lucid.nn.parameter import Buffer, Parameter
from lucid.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d

if TYPE_CHECKING:
    from lucid.models import ResNet

__all__ = [
    *activation.__all__,
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "CrossEntropyLoss",
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
    "ResNet",
    "Sequential",
    "functional",
    "init",
]


def __getattr__(name: str) -> Any:
    """``lucid.nn.ResNet`` is the model of ``lucid.models``, which stands above this package: loaded when asked for."""
    if name == "ResNet":
        from lucid.models import ResNet

        return ResNet
    raise AttributeError(f"module 'lucid.nn' has no attribute {name!r}")
