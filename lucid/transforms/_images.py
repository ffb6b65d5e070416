"""The kinds of images, opened as arrays and closed again; and what random transforms draw."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from lucid.core.device import move, to_numpy
from lucid.core.dtypes import float64
from lucid.core.tensor import Tensor, wrap
from lucid.random import default_generator

Array = np.ndarray[Any, Any]

_MODES = ("L", "LA", "RGB", "RGBA", "I", "F")


class Image(NamedTuple):
    """An image as an array; which of its axes are rows, columns and channels (None: it has none); and its kind."""

    array: Array
    rows: int
    columns: int
    channels: int | None
    source: Any

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.array.shape[self.rows], self.array.shape[self.columns]

    def close(self, array: Array) -> Any:
        """``array`` as an image of the same kind and dtype."""
        array = np.ascontiguousarray(narrowed(array, self.array.dtype))
        if isinstance(self.source, Tensor):
            return wrap(move(array, self.source.device), self.source.device)
        return array if isinstance(self.source, np.ndarray) else sys.modules["PIL.Image"].fromarray(array)


def is_pillow(image: Any) -> bool:
    """Whether it is a Pillow image."""
    pillow = sys.modules.get("PIL.Image")  # nobody has one where it is not loaded
    return pillow is not None and isinstance(image, pillow.Image)


def opened(image: Any) -> Image:
    """An image of any kind as an array.

    Raises:
        TypeError: it is none, or of a mode or dtype that has no arithmetic.
        ValueError: its number of axes is another.
    """
    if isinstance(image, Tensor):
        array = to_numpy(image._array)
        if array.ndim < 2:
            raise ValueError(f"image: got a tensor of shape {array.shape}; must be (.., C, H, W) or (H, W)")
        axes: tuple[int, int, int | None] = (-2, -1, -3 if array.ndim > 2 else None)
    elif is_pillow(image):
        if image.mode not in _MODES:
            raise TypeError(f"image: got a Pillow image of mode {image.mode}; may be {', '.join(_MODES)}: convert it")
        array = np.asarray(image)
        axes = (0, 1, 2 if array.ndim == 3 else None)
    elif isinstance(image, np.ndarray):
        array = image
        if array.ndim not in (2, 3):
            raise ValueError(f"image: got an array of shape {array.shape}; must be (H, W) or (H, W, C)")
        axes = (0, 1, 2 if array.ndim == 3 else None)
    else:
        raise TypeError(f"image: got {type(image).__name__}; may be a tensor, a NumPy array or a Pillow image")
    if array.dtype.kind not in "uif":
        raise TypeError(f"image: got dtype {array.dtype}; may be integers or floats")
    return Image(array, *axes, image)


def narrowed(array: Array, dtype: np.dtype[Any]) -> Array:
    """Float64 values in ``dtype``: integers are the nearest, halves up, within what the dtype holds."""
    if array.dtype == dtype or dtype.kind == "f":
        return array.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.floor(array + 0.5), limits.min, limits.max).astype(dtype)


def pair(name: str, size: Any) -> tuple[int, int]:
    """``size`` as height and width: two integers of 1 or more, or one for both."""
    both = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(both) == 1:
        both *= 2
    if len(both) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in both):
        raise ValueError(f"{name}: got {size!r}; may be an integer of 1 or more, or a height and a width")
    return both


def probability(p: float) -> float:
    """``p``, if it is one."""
    if not 0 <= p <= 1:
        raise ValueError(f"p: got {p}; may be 0 to 1")
    return float(p)


def drawn(low: float, high: float) -> float:
    """A number between ``low`` and ``high``, in float64: two words."""
    return float(default_generator.uniform(low, high, (), dtype=float64, device="cpu").item())


def drawn_integer(most: int) -> int:
    """An integer from 0 to ``most``: two words."""
    return int(default_generator.randint(0, most + 1, (), device="cpu").item())
