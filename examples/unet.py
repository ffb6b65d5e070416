"""A small U-Net that learns to find discs in noise: ``python examples/unet.py [STEPS]``.

Two runs print the same digits, on every machine and at any number of threads.
"""

from __future__ import annotations

import sys

import lucid
import lucid.nn.functional as F
from lucid import Tensor, nn, optim


class Level(nn.Sequential):
    """Two convolutions of 3x3, each with a normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        steps: list[nn.Module] = []
        for channels in (inputs, outputs):
            steps += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.GroupNorm(groups, outputs), nn.ReLU()]
        super().__init__(*steps)


class UNet(nn.Module):
    """Levels down to small images and up again, each joined to the one of its size (Ronneberger et al., 2015).

    Args:
        inputs: channels of the images, ``(N, inputs, H, W)``; sides are multiples of ``2^(len(widths) - 1)``.
        outputs: channels of the result, ``(N, outputs, H, W)``.
        widths: channels of each level.
        groups: of every normalisation.
    """

    def __init__(
        self, inputs: int = 1, outputs: int = 1, widths: tuple[int, ...] = (8, 16, 32), groups: int = 4
    ) -> None:
        super().__init__()
        downs = zip((inputs, *widths[:-1]), widths, strict=True)
        self.down = nn.ModuleList([Level(a, b, groups) for a, b in downs])
        ups = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.wider = nn.ModuleList([nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in ups])
        self.up = nn.ModuleList([Level(2 * b, b, groups) for _, b in ups])
        self.head = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level in self.down:
            x = level(F.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        for wider, level, beside in zip(self.wider, self.up, kept[-2::-1], strict=True):
            x = level(lucid.concatenate([beside, wider(x)], 1))
        return self.head(x)


def discs(count: int, side: int = 32) -> tuple[Tensor, Tensor]:
    """Noisy images of discs, and where these are."""
    places = lucid.arange(float(side)) + 0.5
    middle = lucid.random.uniform(0.3 * side, 0.7 * side, (2, count, 1, 1, 1))
    radius = lucid.random.uniform(0.1 * side, 0.3 * side, (count, 1, 1, 1))
    apart = (places.reshape(1, 1, 1, side) - middle[0]) ** 2 + (places.reshape(1, 1, side, 1) - middle[1]) ** 2
    target = (apart <= radius**2).astype(lucid.float32)
    return target + lucid.random.normal(0.0, 1.0, (count, 1, side, side)), target


def step(model: UNet, optimiser: optim.SGD, images: Tensor, target: Tensor) -> Tensor:
    """One step of training; returns the loss before it."""
    loss = F.binary_cross_entropy_with_logits(model(images), target)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss


def main(steps: int = 60) -> float:
    """Train, and return the share of pixels of new images that are right."""
    lucid.manual_seed(0)
    model = UNet()
    optimiser = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for i in range(steps):
        loss = step(model, optimiser, *discs(8))
        if i % 10 == 0:
            print(f"step {i:3d}  loss {loss.item():.9g}")
    images, target = discs(32)
    with lucid.no_grad():
        right = ((model.eval()(images) > 0) == (target > 0.5)).astype(lucid.float32).mean().item()
    print(f"{100 * right:.2f} % of the pixels of new images are right")
    return right


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
