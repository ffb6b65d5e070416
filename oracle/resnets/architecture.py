"""What the oracle knows of the ten models: their shape as the papers and the project's table of totals state it.

This is the oracle's own description. It shares nothing with ``lucid.models``, so that a structural mistake there
shows up as a divergence here instead of being repeated.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from oracle.errors import UsageError
from oracle.graph.graph import Graph
from oracle.graph.model import Layout, Mode
from oracle.resnets.description import BlockKind, Description
from oracle.resnets.engine import lucid_model
from oracle.resnets.graph import graph_of
from oracle.resnets.layout import V1, layout_of


@dataclass(frozen=True)
class Architecture(Description):
    """A residual network: stem, four stages of blocks, global average pooling, one linear layer.

    Args:
        name: what reports call it.
        block: ``basic`` and ``bottleneck`` (He et al. 2015), ``preact``: the pre-activation bottleneck (He et al.
            2016).
        layers: blocks in each stage.
        num_classes: outputs of the last linear layer.
        in_channels: channels of the image.
        stem_width: channels after the stem.
        stem_type: ``None`` is one 7x7 convolution, ``"deep"`` three 3x3 (He et al. 2018, ResNet-C).
        channels: the stages' widths; a bottleneck's output has four times as many.
        base_width: width of the bottleneck's 3x3 convolution in units where 64 is ``channels`` (128: Zagoruyko 2016).
        cardinality: groups of that convolution.
        parameters: the published number of parameters, ``None`` where none is known.

    Example:
        >>> find_architecture("resnet_50").layers
        (3, 4, 6, 3)
    """

    @property
    def stored_whole(self) -> bool:
        """Whether a golden holds every tensor of it whole: of the two narrow networks."""
        return self.name in NARROW

    @property
    def functional(self) -> bool:
        """Every operation is a module."""
        return False

    @property
    def modular(self) -> bool:
        """Likewise in lucid."""
        return True

    @property
    def mirrored(self) -> bool:
        """It has a twin in PyTorch."""
        return True

    @property
    def weights(self) -> None:
        """It has none of its own."""
        return

    @property
    def layout(self) -> Layout:
        """What torchvision calls its layers."""
        return layout_of(self)

    def graph(self, batch: int = 1, size: int = 224) -> Graph:
        """Its operations for so many images of that height and width."""
        return _graph(self, batch, size)

    def standard_shape(self, mode: Mode) -> tuple[int, int]:
        """Size and batch of a standard case.

        Example:
            >>> [find_architecture(name).standard_shape("eval") for name in ("resnet_50", "resnet_200", "narrow_basic")]
            [(224, 2), (128, 2), (72, 2)]
        """
        if mode == "train":
            return _TRAIN
        if self in NARROW.values():
            return _NARROW_EVAL
        return _DEEP_EVAL if self.block == "preact" else _EVAL

    def record(self) -> dict[str, Any]:
        """It as JSON."""
        return {"architecture": asdict(self)}

    def torch_model(self, state: Mapping[str, Any], dtype: Any) -> Any:
        """The PyTorch twin."""
        from oracle.resnets.twin import make_twin

        return make_twin(self, state, dtype)

    def renamed(self, traced: Any) -> Mapping[str, str]:
        """None has another name."""
        return {}

    def lucid_model(self) -> Any:
        """What `lucid.models` makes of it."""
        return lucid_model(self, published=ARCHITECTURES.get(self.name) == self)

    def likeness(self, names: Iterable[str]) -> str:
        """Whether another network is the original bottleneck."""
        first = all(V1.fullmatch(name) for name in names)
        if self.block == "basic" or not first:
            return ""
        return (
            "the original bottleneck (ResNet v1), whose first 1x1 convolution strides; "
            f"{self.name} strides in its 3x3 convolution (v1.5)"
        )


@lru_cache(maxsize=64)
def _graph(architecture: Architecture, batch: int, size: int) -> Graph:
    return graph_of(architecture, batch, size)


# Height and width of a standard case's images, and how many there are. The last stage of a 72x72 image has 3x3 pixels,
# the fewest that let a channel hold both signs in every image; the stages before it have odd sides, 5 and 9.
_TRAIN = (72, 3)
_EVAL = (224, 2)
# The pre-activation networks have up to 1001 layers: two images of 224x224 would take 5 GB in float64.
_DEEP_EVAL = (128, 2)
_NARROW_EVAL = (72, 2)


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("resnet_18", "basic", (2, 2, 2, 2), parameters=11_689_512),
        Architecture("resnet_34", "basic", (3, 4, 6, 3), parameters=21_797_672),
        Architecture("resnet_50", "bottleneck", (3, 4, 6, 3), parameters=25_557_032),
        Architecture("resnet_101", "bottleneck", (3, 4, 23, 3), parameters=44_549_160),
        Architecture("resnet_152", "bottleneck", (3, 8, 36, 3), parameters=60_192_808),
        Architecture("resnet_200", "preact", (3, 24, 36, 3), parameters=64_669_864),
        Architecture("resnet_269", "preact", (3, 30, 48, 8), parameters=102_069_416),
        Architecture("resnet_1001", "preact", (3, 94, 94, 3), parameters=149_071_016),
        Architecture("wide_resnet_50", "bottleneck", (3, 4, 6, 3), base_width=128, parameters=68_883_240),
        Architecture("wide_resnet_101", "bottleneck", (3, 4, 23, 3), base_width=128, parameters=126_886_696),
    )
}

# Two networks so narrow that a golden holds every tensor of theirs whole.
_BLOCKS: tuple[BlockKind, ...] = ("basic", "preact")
NARROW: dict[str, Architecture] = {
    f"narrow_{block}": Architecture(
        f"narrow_{block}", block, (1, 1, 1, 1), num_classes=10, stem_width=4, channels=(4, 4, 8, 8)
    )
    for block in _BLOCKS
}

# Small networks of each kind of block, of which one run takes a fraction of a second: what faults are put into.
_SIZES: dict[str, Any] = {"layers": (2, 2, 2, 1), "num_classes": 10, "stem_width": 16, "channels": (16, 24, 32, 48)}
SMALL: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("small_basic", "basic", **_SIZES),
        Architecture("small_bottleneck", "bottleneck", **_SIZES),
        Architecture("small_preact", "preact", **_SIZES),
        Architecture("small_grouped", "bottleneck", cardinality=2, **_SIZES),
    )
}


def find_architecture(name: str) -> Architecture:
    """The architecture called ``name``: one of the ten models, of ``NARROW`` or of ``SMALL``.

    Raises:
        UsageError: no model has that name; the sentence suggests the nearest.

    Example:
        >>> find_architecture("resnet50")
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: model: got 'resnet50'; did you mean 'resnet_50'? There are resnet_18, ...
    """
    known = ARCHITECTURES | NARROW | SMALL
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"model: got {name!r}; {hint}There are {', '.join(known)}")
