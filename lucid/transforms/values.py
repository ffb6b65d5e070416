"""Transforms that change values: to tensors, normalised, grey; and transforms one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid.core.tensor import Tensor, wrap
from lucid.transforms._images import drawn, is_pillow, opened, probability

__all__ = ["Compose", "Normalize", "RandomGrayscale", "ToTensor"]


class Compose:
    """Transforms one after the other.

    Example:
        >>> import numpy as np
        >>> from lucid.transforms import CenterCrop, Compose, ToTensor
        >>> Compose([CenterCrop(1), ToTensor()])(np.full((3, 3), 255, np.uint8))
        tensor([[[1.]]])
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return f"Compose({self.transforms})"


class ToTensor:
    """An array ``(H, W, C)`` or ``(H, W)``, or a Pillow image, as a tensor ``(C, H, W)``.

    ``uint8`` becomes float32, ``x / 255`` rounded once; others keep their dtype and values.

    Raises:
        TypeError: the image is a tensor, or nothing that can be one.

    Example:
        >>> import numpy as np
        >>> from lucid.transforms import ToTensor
        >>> ToTensor()(np.array([[0, 51, 255]], np.uint8))
        tensor([[[0. , 0.2, 1. ]]])
    """

    def __call__(self, image: Any) -> Tensor:
        if isinstance(image, Tensor):
            raise TypeError("image: got a tensor; may be a NumPy array or a Pillow image")
        if is_pillow(image) and image.mode == "1":
            image = image.convert("L")
        x = opened(image)
        planes = x.array[None] if x.channels is None else np.moveaxis(x.array, x.channels, 0)
        if planes.dtype == np.uint8:
            return wrap(np.ascontiguousarray(planes, np.float32) / np.float32(255))
        return wrap(np.array(planes, order="C"))

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize:
    """``(x - mean) / std`` for each channel of a float image, in float64, narrowed once.

    Args:
        mean, std: a number for each channel, or one for all.

    Raises:
        ValueError: an ``std`` of 0, or another number of channels than the image has.
        TypeError: an image of integers.

    Example:
        >>> import lucid
        >>> from lucid.transforms import Normalize
        >>> Normalize([0.5], [0.25])(lucid.tensor([[[0.0, 1.0]]]))
        tensor([[[-2.,  2.]]])
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = (np.asarray(value, np.float64).reshape(-1) for value in (mean, std))
        if not (self.std != 0).all() or self.mean.size == 0 or self.mean.shape != self.std.shape:
            raise ValueError(f"mean, std: got {mean}, {std}; must be as many numbers, and no std 0")

    def __call__(self, image: Any) -> Any:
        x = opened(image)
        if x.array.dtype.kind != "f":
            raise TypeError(f"image: got dtype {x.array.dtype}; must be floats: ToTensor makes them")
        channels = 1 if x.channels is None else x.array.shape[x.channels]
        if self.mean.size not in (1, channels):
            raise ValueError(f"mean, std: got {self.mean.size} numbers for an image with {channels} channels")
        shape = (-1, 1, 1) if x.channels == -3 else (-1,)
        mean, std = self.mean.reshape(shape), self.std.reshape(shape)
        out = np.subtract(x.array, mean, dtype=np.float64)
        out /= std
        return x.close(out)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean.tolist()}, std={self.std.tolist()})"


class RandomGrayscale:
    """The image in grey, in as many channels as it has, with probability ``p``.

    Grey of ``uint8`` is ``(19595 R + 38470 G + 7471 B + 32768) >> 16``, as in Pillow; else
    ``(0.2989 R + 0.587 G) + 0.114 B`` in float64, as in torchvision.

    Raises:
        ValueError: ``p`` outside 0 to 1; an image that has neither one channel nor three.

    Example:
        >>> import numpy as np
        >>> from lucid.transforms import RandomGrayscale
        >>> RandomGrayscale(1.0)(np.array([[[255, 0, 0]]], np.uint8))
        array([[[76, 76, 76]]], dtype=uint8)
    """

    def __init__(self, p: float = 0.1) -> None:
        self.p = probability(p)

    def __call__(self, image: Any) -> Any:
        x = opened(image)
        channels = 1 if x.channels is None else x.array.shape[x.channels]
        if channels not in (1, 3):
            raise ValueError(f"image: has {channels} channels; may have 1 or 3")
        if drawn(0.0, 1.0) >= self.p or channels == 1:
            return x.close(x.array)
        assert x.channels is not None
        planes = np.moveaxis(x.array, x.channels, 0)
        if x.array.dtype == np.uint8:
            red, green, blue = planes.astype(np.uint32)
            grey = ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)
        else:
            red, green, blue = planes.astype(np.float64)
            grey = (0.2989 * red + 0.587 * green) + 0.114 * blue
        return x.close(np.stack([grey] * 3, axis=x.channels))

    def __repr__(self) -> str:
        return f"RandomGrayscale(p={self.p})"
