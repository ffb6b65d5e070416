"""What a residual network is, in numbers: all that its graph, its names and its models are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["basic", "bottleneck", "preact"]


@dataclass(frozen=True)
class Description:
    """The numbers of an ``oracle.Architecture``, which explains them."""

    name: str
    block: BlockKind
    layers: tuple[int, ...]
    num_classes: int = 1000
    in_channels: int = 3
    stem_width: int = 64
    stem_type: Literal["deep"] | None = None
    channels: tuple[int, ...] = (64, 128, 256, 512)
    base_width: int = 64
    cardinality: int = 1
    parameters: int | None = None

    def __post_init__(self) -> None:
        if self.block not in ("basic", "bottleneck", "preact"):
            raise ValueError(f"block: got {self.block!r}; may be one of basic, bottleneck, preact")
        if len(self.layers) != len(self.channels):
            raise ValueError(f"layers: got {len(self.layers)} stages; channels has {len(self.channels)}")
