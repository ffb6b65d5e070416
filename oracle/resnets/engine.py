"""How lucid makes a residual network. Nothing else of the description takes anything from ``lucid.models``."""

from __future__ import annotations

from lucid import models, nn
from lucid.models.blocks import BasicBlock, Bottleneck, PreActBottleneck
from oracle.resnets.description import Description

_BLOCKS: dict[str, type[nn.Module]] = {"basic": BasicBlock, "bottleneck": Bottleneck, "preact": PreActBottleneck}


def lucid_model(architecture: Description, published: bool) -> nn.Module:
    """The model of that name where it is published, and otherwise one of that shape."""
    if published:
        return models.get_model(architecture.name)
    width = {"base_width": architecture.base_width, "cardinality": architecture.cardinality}
    return models.ResNet(
        _BLOCKS[architecture.block],
        list(architecture.layers),
        architecture.num_classes,
        in_channels=architecture.in_channels,
        stem_width=architecture.stem_width,
        stem_type=architecture.stem_type,
        channels=architecture.channels,
        block_args={} if architecture.block == "basic" else width,
    )
