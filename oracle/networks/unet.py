"""A narrow U-Net: as lucid runs it, and mirrored in PyTorch from the paper (Ronneberger et al., 2015)."""

from __future__ import annotations

from typing import Any

import lucid
import lucid.nn.functional as F
from lucid import nn
from oracle.networks.network import Network

INPUTS, CLASSES, WIDTHS, GROUPS = 2, 3, (8, 16), 4


class Level(nn.Sequential):
    """Two convolutions of 3x3, each with a normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        steps: list[nn.Module] = []
        for channels in (inputs, outputs):
            steps += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, outputs), nn.ReLU()]
        super().__init__(*steps)


class UNet(nn.Module):
    """Images ``(N, INPUTS, H, W)`` to the logits of each pixel's class: down to smaller images and up again, each
    joined to the one of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([Level(a, b) for a, b in zip((INPUTS, *WIDTHS[:-1]), WIDTHS, strict=True)])
        ups = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.wider = nn.ModuleList([nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in ups])
        self.up = nn.ModuleList([Level(2 * b, b) for _, b in ups])
        self.head = nn.Conv2d(WIDTHS[0], CLASSES, 1)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        """The logits."""
        kept: list[lucid.Tensor] = []
        for level in self.down:
            x = level(F.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        for wider, level, beside in zip(self.wider, self.up, kept[-2::-1], strict=True):
            x = level(lucid.concatenate([beside, wider(x)], 1))
        return self.head(x)


def mirror() -> Any:
    """The same in PyTorch; modules without parameters have the names of the values that they make."""
    import torch

    class Joined(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return torch.cat([a, b], 1)

    def level(inputs: int, outputs: int) -> Any:
        steps: list[Any] = []
        for channels in (inputs, outputs):
            convolution = torch.nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
            steps += [convolution, torch.nn.GroupNorm(GROUPS, outputs), torch.nn.ReLU()]
        return torch.nn.Sequential(*steps)

    class Mirror(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            high, low = WIDTHS
            self.down = torch.nn.ModuleList([level(INPUTS, high), level(high, low)])
            self.wider = torch.nn.ModuleList([torch.nn.ConvTranspose2d(low, high, 2, 2)])
            self.up = torch.nn.ModuleList([level(2 * high, high)])
            self.head = torch.nn.Conv2d(high, CLASSES, 1)
            self.max_pool2d, self.concatenate = torch.nn.MaxPool2d(2), Joined()

        def forward(self, x: Any) -> Any:
            high = self.down[0](x)
            low = self.down[1](self.max_pool2d(high))
            return self.head(self.up[0](self.concatenate(high, self.wider[0](low))))

    return Mirror()


NARROW_UNET = Network(
    "narrow_unet",
    UNet,
    mirror,
    shape=lambda batch, size: (batch, INPUTS, size, size),
    sizes={"eval": (20, 2), "train": (12, 3)},
    numbers={"inputs": INPUTS, "classes": CLASSES, "widths": list(WIDTHS), "groups": GROUPS},
)
