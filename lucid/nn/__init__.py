"""Layers, losses, initial values: what networks are built from."""

# ruff: noqa: F403 (the layers of a family, each listed by its own module)

from __future__ import annotations

import importlib
from typing import Any

from lucid.nn import (
    activation,
    attention,
    container,
    conv,
    dropout,
    embedding,
    functional,
    init,
    linear,
    loss,
    module,
    norm,
    pooling,
    rearrange,
    transformer,
    utils,
    vision,
)
from lucid.nn.activation import *
from lucid.nn.attention import *
from lucid.nn.container import *
from lucid.nn.conv import *
from lucid.nn.dropout import *
from lucid.nn.embedding import *
from lucid.nn.linear import *
from lucid.nn.loss import *
from lucid.nn.module import *
from lucid.nn.norm import *
from lucid.nn.parameter import Buffer, Parameter
from lucid.nn.pooling import *
from lucid.nn.rearrange import *
from lucid.nn.transformer import *
from lucid.nn.vision import *

__all__ = ["Buffer", "Parameter", "ResNet", "functional", "init", "utils"]  # noqa: F405 (ResNet: see ABOVE)
__all__ += activation.__all__
__all__ += attention.__all__
__all__ += container.__all__
__all__ += conv.__all__
__all__ += dropout.__all__
__all__ += embedding.__all__
__all__ += linear.__all__
__all__ += loss.__all__
__all__ += module.__all__
__all__ += norm.__all__
__all__ += pooling.__all__
__all__ += rearrange.__all__
__all__ += transformer.__all__
__all__ += vision.__all__

ABOVE: dict[str, str] = {}
"""Names of this package whose homes stand above it, and these homes: ``lucid`` enters them. Loaded when asked for."""


def __getattr__(name: str) -> Any:
    if name in ABOVE:
        return getattr(importlib.import_module(ABOVE[name]), name)
    raise AttributeError(f"module 'lucid.nn' has no attribute {name!r}")
