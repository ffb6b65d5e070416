"""What torchvision and the programs that follow it call the layers of a residual network."""

from __future__ import annotations

import re

from oracle.graph.model import Layout
from oracle.resnets.description import Description

# The ReLUs of a block in the order in which one shared module would run them; "" is the one that ends the block.
_RELUS = {"basic": ("relu1", ""), "bottleneck": ("relu1", "relu2", ""), "preact": ("relu1", "relu2", "relu3")}
_STEM = {"conv1": "stem.0", "bn1": "stem.1", "relu": "stem.2"}

# Where the original bottleneck differs: it strides in its first convolution.
V1 = re.compile(r"layer[2-8]\.0\.(conv1|bn1|relu1)")


def layout_of(architecture: Description) -> Layout:
    """torchvision's names: ``conv1``, ``bn1``, ``relu`` for the stem, one ``relu`` module a block."""
    blocks = [
        f"layer{stage + 1}.{position}" for stage, count in enumerate(architecture.layers) for position in range(count)
    ]
    relus = _RELUS[architecture.block]
    return Layout(
        "torchvision",
        _STEM if architecture.stem_type is None else {},
        re.compile(r"layer\d+|stem"),
        re.compile(r"(layer\d+\.\d+)\.relu(?:_(\d+))?"),
        {block: tuple(f"{block}.{leaf}" if leaf else block for leaf in relus) for block in blocks},
        re.compile(r"layer\d+\.\d+\.add"),
    )
