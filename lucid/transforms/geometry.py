"""Transforms that move pixels: resizing, cutting, mirroring and turning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid.transforms._images import Array, Image, drawn, drawn_integer, opened, pair, probability
from lucid.transforms._resampling import nearest, resized, turned

__all__ = [
    "CenterCrop",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
]

_INTERPOLATIONS = ("nearest", "bilinear")
_PAD_MODES = ("constant", "edge", "reflect", "symmetric")


def _interpolation(name: Any) -> str:
    plain = str(getattr(name, "value", name))  # torchvision's constants hold these names
    if plain not in _INTERPOLATIONS:
        raise ValueError(f"interpolation: got {name!r}; may be {' or '.join(map(repr, _INTERPOLATIONS))}")
    return plain


class Resize:
    """The image in another size.

    ``"bilinear"``: a new pixel is a weighted sum of old ones, along rows first and then along columns; the weight of a
    pixel falls linearly from the new pixel's centre to 0 at a distance of one pixel, or, with ``antialias``, of one new
    pixel where that is wider. ``"nearest"``: new pixel ``i`` is the old pixel ``floor(i * old / new)``.

    Args:
        size: height and width; or one integer, the length of the shorter side.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        max_size: the most that the longer side may have where ``size`` is one integer.
        antialias: see above.

    Raises:
        ValueError: a size below 1, another interpolation, or a ``max_size`` that is not above ``size``.

    Example:
        >>> import numpy as np
        >>> from lucid.transforms import Resize
        >>> Resize((1, 2))(np.array([[0, 10, 20, 30], [0, 10, 20, 30]], np.uint8))
        array([[ 7, 23]], dtype=uint8)
    """

    def __init__(
        self, size: Any, interpolation: Any = "bilinear", max_size: int | None = None, antialias: bool = True
    ) -> None:
        single = size[0] if isinstance(size, list | tuple) and len(size) == 1 else size
        self.shorter = single if isinstance(single, int) else None
        self.size, self.max_size, self.antialias = pair("size", size), max_size, antialias
        self.interpolation = _interpolation(interpolation)
        if max_size is not None and (self.shorter is None or max_size <= self.shorter):
            raise ValueError(f"max_size: got {max_size} with size {size}; must be above one integer size")

    def __call__(self, image: Any) -> Any:
        x = opened(image)
        height, width = self._new_size(*x.size)
        if self.interpolation == "nearest":
            return x.close(nearest(nearest(x.array, x.columns, width), x.rows, height))
        if (height, width) == x.size:
            return x.close(x.array)
        across = resized(x.array, x.columns, width, self.antialias)
        return x.close(resized(across, x.rows, height, self.antialias))

    def _new_size(self, height: int, width: int) -> tuple[int, int]:
        if self.shorter is None:
            return self.size
        short, long = min(height, width), max(height, width)
        new_short, new_long = self.shorter, self.shorter * long // short
        if self.max_size is not None and new_long > self.max_size:
            new_short, new_long = self.max_size * new_short // new_long, self.max_size
        return (new_short, new_long) if height <= width else (new_long, new_short)

    def __repr__(self) -> str:
        return f"Resize(size={self.shorter or self.size}, interpolation={self.interpolation!r})"


class CenterCrop:
    """The middle of the image, ``size`` large; zeros around an image that is smaller.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> import numpy as np
        >>> from lucid.transforms import CenterCrop
        >>> CenterCrop(2)(np.arange(16).reshape(4, 4))
        array([[ 5,  6],
               [ 9, 10]])
    """

    def __init__(self, size: Any) -> None:
        self.size = pair("size", size)

    def __call__(self, image: Any) -> Any:
        x = opened(image)
        short = [max(0, new - old) for new, old in zip(self.size, x.size, strict=True)]
        array = _padded(x, [(n // 2, (n + 1) // 2) for n in short], "constant", 0)
        x = x._replace(array=array)
        top, left = (round((old - new) / 2) for old, new in zip(x.size, self.size, strict=True))
        return _cut(x, top, left, self.size)

    def __repr__(self) -> str:
        return f"CenterCrop(size={self.size})"


class RandomCrop:
    """A part of the image, ``size`` large, at a place drawn at random: first the row, then the column; none is drawn
    where the image has that size.

    Args:
        size: height and width, or one integer for both.
        padding: pixels put around the image before: one number, (left and right, top and bottom), or (left, top, right,
            bottom).
        pad_if_needed: whether an image that is too small is padded on both sides by what it lacks.
        fill: the value of padded pixels in the mode ``"constant"``, or one for each channel.
        padding_mode: ``"constant"``, ``"edge"``, ``"reflect"`` or ``"symmetric"``.

    Raises:
        ValueError: a size below 1, another padding or mode; an image that is smaller than ``size``.

    Example:
        >>> import lucid
        >>> from lucid.transforms import RandomCrop
        >>> RandomCrop(2)(lucid.ones(3, 8, 8)).shape
        (3, 2, 2)
    """

    def __init__(
        self, size: Any, padding: Any = None, pad_if_needed: bool = False, fill: Any = 0, padding_mode: str = "constant"
    ) -> None:
        self.size, self.pad_if_needed, self.fill = pair("size", size), pad_if_needed, fill
        sides = (padding,) if isinstance(padding, int) else tuple(padding or (0,))
        if len(sides) not in (1, 2, 4) or any(not isinstance(n, int) or n < 0 for n in sides):
            raise ValueError(f"padding: got {padding!r}; may be 1, 2 or 4 integers of 0 or more")
        left, top, right, bottom = (sides * 4)[:4]
        self.padding = [(top, bottom), (left, right)]
        if padding_mode not in _PAD_MODES:
            raise ValueError(f"padding_mode: got {padding_mode!r}; may be one of {', '.join(_PAD_MODES)}")
        self.padding_mode = padding_mode

    def __call__(self, image: Any) -> Any:
        x = opened(image)
        x = x._replace(array=_padded(x, self.padding, self.padding_mode, self.fill))
        if self.pad_if_needed:
            short = [max(0, new - old) for new, old in zip(self.size, x.size, strict=True)]
            x = x._replace(array=_padded(x, [(n, n) for n in short], self.padding_mode, self.fill))
        most = [old - new for old, new in zip(x.size, self.size, strict=True)]
        if min(most) < 0:
            raise ValueError(f"size: got {self.size} for an image of {x.size}; may not be larger, unless padded")
        top, left = (drawn_integer(most[0]), drawn_integer(most[1])) if any(most) else (0, 0)
        return _cut(x, top, left, self.size)

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"


class RandomHorizontalFlip:
    """The image, mirrored left to right with probability ``p``: where a number drawn from 0 to 1 is below ``p``.

    Raises:
        ValueError: ``p`` outside 0 to 1.

    Example:
        >>> import numpy as np
        >>> from lucid.transforms import RandomHorizontalFlip
        >>> RandomHorizontalFlip(1.0)(np.array([[1, 2], [3, 4]]))
        array([[2, 1],
               [4, 3]])
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(p)

    def __call__(self, image: Any) -> Any:
        x = opened(image)
        return x.close(np.flip(x.array, x.columns) if drawn(0.0, 1.0) < self.p else x.array)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p})"


class RandomVerticalFlip(RandomHorizontalFlip):
    """The image, mirrored top to bottom with probability ``p``.

    Example:
        >>> import numpy as np
        >>> from lucid.transforms import RandomVerticalFlip
        >>> RandomVerticalFlip(1.0)(np.array([[1, 2], [3, 4]]))
        array([[3, 4],
               [1, 2]])
    """

    def __call__(self, image: Any) -> Any:
        x = opened(image)
        return x.close(np.flip(x.array, x.rows) if drawn(0.0, 1.0) < self.p else x.array)


class RandomRotation:
    """The image, turned counter-clockwise by an angle drawn at random.

    Args:
        degrees: the least and the greatest angle; or one number ``d`` of 0 or more, for ``-d`` to ``d``.
        interpolation: ``"nearest"`` or ``"bilinear"``.
        expand: whether the result is as large as the turned image needs; it is then turned about its middle.
        center: column and row about which it is turned, where ``(0, 0)`` is the upper left corner; the middle if None.
        fill: the value outside of the image, or one for each channel.

    Raises:
        ValueError: other degrees or another interpolation.

    Example:
        >>> import numpy as np
        >>> from lucid.transforms import RandomRotation
        >>> RandomRotation((90, 90))(np.array([[1, 2], [3, 4]]))
        array([[2, 4],
               [1, 3]])
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: Any = "nearest",
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: Any = 0,
    ) -> None:
        pairs = (-degrees, degrees) if isinstance(degrees, int | float) else tuple(degrees)
        if len(pairs) != 2 or not pairs[0] <= pairs[1]:
            raise ValueError(f"degrees: got {degrees!r}; may be one number of 0 or more, or the least and the greatest")
        self.degrees = float(pairs[0]), float(pairs[1])
        self.interpolation, self.expand, self.fill = _interpolation(interpolation), expand, fill
        if center is not None and len(center) != 2:
            raise ValueError(f"center: got {center!r}; may be a column and a row")
        self.center = None if center is None else (float(center[0]), float(center[1]))

    def __call__(self, image: Any) -> Any:
        x = opened(image)
        array = np.moveaxis(x.array, (x.rows, x.columns), (0, 1))
        angle = drawn(*self.degrees)
        fill = np.asarray(self.fill, x.array.dtype)  # one for each channel: the last axis, or the one before rows
        smooth = self.interpolation == "bilinear"
        out = turned(array, angle, smooth, self.expand, self.center, fill)
        return x.close(np.moveaxis(out, (0, 1), (x.rows, x.columns)))

    def __repr__(self) -> str:
        return f"RandomRotation(degrees={list(self.degrees)}, interpolation={self.interpolation!r})"


def _padded(x: Image, sides: list[tuple[int, int]], mode: str, fill: Any) -> Array:
    """The image with pixels around it: ``sides`` are above and below, left and right."""
    if not any(map(any, sides)):
        return x.array
    around = [(0, 0)] * x.array.ndim
    around[x.rows], around[x.columns] = sides
    if mode != "constant":
        return np.pad(x.array, around, mode)  # type: ignore[call-overload]
    inside = tuple(slice(before, before + n) for (before, _), n in zip(around, x.array.shape, strict=True))
    out = np.empty([n + sum(more) for n, more in zip(x.array.shape, around, strict=True)], x.array.dtype)
    values = np.asarray(fill)
    out[...] = values.reshape(-1, 1, 1) if x.channels == -3 and values.ndim else values
    out[inside] = x.array
    return out


def _cut(x: Image, top: int, left: int, size: tuple[int, int]) -> Any:
    part: list[Any] = [slice(None)] * x.array.ndim
    part[x.rows], part[x.columns] = slice(top, top + size[0]), slice(left, left + size[1])
    return x.close(x.array[tuple(part)])
