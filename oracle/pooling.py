"""Max pooling where elements of a window are equal: which of them wins is the runtime's own choice.

The gradient of a window goes to its largest element. Where several are the largest, some frameworks take the first
(PyTorch on a CPU, lucid), others another one or share among them: the value is the same, and no convention is more
right. So a gradient that went to others of the equal elements is explained by *some* share among them, and judged at
that share. Of zeros that a ReLU left, no gradient passes on, and some of it may be lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

TIE_NOTE = "{} windows of the max pooling have equal largest elements: judged at the subject's own choice among them"
_KERNEL, _STRIDE, _PADDING = 3, 2, 1
_ROUNDS = 400
# The share of a window's gradient to which the fit is trusted.
FITTED = 1e-3


def windows_of(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """For each window of an image the flat positions of its elements, and which of them lie inside the image.

    Shapes: ``(..., H, W)`` to twice ``(OH * OW, 9)``.

    Example:
        >>> positions, inside = windows_of((1, 1, 2, 2))
        >>> positions[inside].tolist()
        [0, 1, 2, 3]
    """
    height, width = shape[-2:]
    rows, columns = ((side + 2 * _PADDING - _KERNEL) // _STRIDE + 1 for side in (height, width))
    step = np.arange(_KERNEL) - _PADDING
    y = (_STRIDE * np.arange(rows))[:, None, None, None] + step[:, None]
    x = (_STRIDE * np.arange(columns))[None, :, None, None] + step[None, :]
    inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width)).reshape(rows * columns, -1)
    positions = np.clip(y, 0, height - 1) * width + np.clip(x, 0, width - 1)
    return positions.reshape(rows * columns, -1), inside


def pool_gradient(image: Array, gradient: Array, found: Array) -> tuple[Array, Array, int]:
    """The gradient of a max pooling's input at that share among equal elements which comes nearest to ``found``.

    Args:
        image: what the pooling took, ``(N, C, H, W)``.
        gradient: of its output, ``(N, C, OH, OW)``.
        found: the subject's gradient of its input, ``(N, C, H, W)``.

    Returns:
        It; how far each element of it may be off, since the share is fitted; and in how many windows that get a
        gradient elements are equal.

    Example:
        >>> image, gradient = np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1))
        >>> last = np.array([[[[0.0, 0.0], [0.0, 1.0]]]])
        >>> pool_gradient(image, gradient, last)[0].ravel().round(6).tolist()
        [0.0, 0.0, 0.0, 1.0]
    """
    planes = image.shape[0] * image.shape[1]
    flat = np.asarray(image, np.float64).reshape(planes, -1)
    dy = np.asarray(gradient, np.float64).reshape(planes, -1)
    positions, inside = windows_of(image.shape)
    values = np.where(inside, flat[:, positions], -np.inf)
    top = values.max(2)
    largest = values == top[:, :, None]
    at = np.arange(planes)[:, None, None] * flat.shape[1] + positions
    tied = (largest.sum(2) > 1) & (dy != 0)
    single = ~tied
    first = np.take_along_axis(at, largest.argmax(2)[:, :, None], 2)[:, :, 0]
    base: Array = np.zeros(flat.size)
    base += np.bincount(first[single], dy[single], minlength=flat.size)
    count = int(tied.sum())
    fitted: Array = np.zeros(flat.size)
    if count:
        legal, places, weight = largest[tied], at[tied], dy[tied]
        blocked = top[tied] == 0
        share = _shares(np.asarray(found, np.float64).reshape(-1) - base, legal, places, weight, blocked)
        base += np.bincount(places.ravel(), (share * weight[:, None]).ravel(), minlength=flat.size)
        reach = (legal * np.abs(weight)[:, None]).ravel()
        fitted = FITTED * np.bincount(places.ravel(), reach, minlength=flat.size)
    return base.reshape(image.shape), fitted.reshape(image.shape), count


def _shares(wanted: Array, legal: Array, places: Array, weight: Array, blocked: Array) -> Array:
    """Shares, none negative, that sum to one in each window (in a ``blocked`` one to at most one), whose gradients
    come nearest to ``wanted``: projected gradient descent. At most four windows hold an element, which bounds the
    step."""
    share: Array = legal / legal.sum(1, keepdims=True)
    ahead, momentum = share, 1.0
    for _ in range(_ROUNDS):  # with Nesterov's momentum (Beck and Teboulle, "A fast iterative shrinkage-thresholding")
        made = np.bincount(places.ravel(), (ahead * weight[:, None]).ravel(), minlength=wanted.size)
        apart = (wanted - made)[places] * legal
        if not (np.abs(apart) > 1e-6 * np.abs(weight)[:, None]).any():
            return ahead
        moved = ahead + apart / (4.0 * weight[:, None])
        clipped = np.maximum(moved, 0.0) * legal
        free = blocked & (clipped.sum(1) <= 1)
        after = np.where(free[:, None], clipped, _onto_simplex(moved, legal))
        further = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = after + (momentum - 1) / further * (after - share)
        share, momentum = after, further
    return share


def _onto_simplex(share: Array, legal: Array) -> Array:
    """The nearest shares that sum to one (Duchi and others, "Efficient projections onto the l1-ball", 2008)."""
    ordered = -np.sort(-np.where(legal, share, -np.inf), axis=1)
    finite = np.isfinite(ordered)
    sums = np.cumsum(np.where(finite, ordered, 0.0), axis=1)
    index = np.arange(1, share.shape[1] + 1)
    held = finite & (ordered - (sums - 1) / index > 0)
    last = held.shape[1] - 1 - held[:, ::-1].argmax(1)
    theta = (np.take_along_axis(sums, last[:, None], 1) - 1) / (last[:, None] + 1)
    return np.where(legal, np.maximum(share - theta, 0.0), 0.0)
