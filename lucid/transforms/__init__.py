"""Transforms of images: lucid tensors, NumPy arrays and Pillow images, with the same bits everywhere.

- An image is a tensor ``(.., C, H, W)``, an array ``(H, W)`` or ``(H, W, C)``, or a Pillow image of mode L, LA, RGB,
  RGBA, I or F; what comes out is of the same kind and dtype. Tensors come out without history: no gradient.
- The arithmetic is float64 in the order that ``ARITHMETIC.md``, section 11.2, states, narrowed once at the end;
  integers are rounded to the nearest, halves up.
- Random transforms draw from ``lucid.random``'s global generator, which in a ``DataLoader`` is the sample's own.

The names and their meaning are torchvision's. Pillow is not imported unless an image of it is given.
"""

from __future__ import annotations

from lucid.transforms.geometry import (
    CenterCrop,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
)
from lucid.transforms.values import Compose, Normalize, RandomGrayscale, ToTensor

__all__ = [
    "CenterCrop",
    "Compose",
    "Normalize",
    "RandomCrop",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToTensor",
]
