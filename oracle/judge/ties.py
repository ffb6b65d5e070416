"""Max pooling where elements of a window are equal: which of them wins is the runtime's own choice.

The gradient of a window goes to its largest element. Where several are the largest, some frameworks take the first
(PyTorch on a CPU, lucid), others another one or share among them: the value is the same, and no convention is more
right. So a gradient that went to others of the equal elements is explained by *some* share among them, and judged at
that share. Of zeros that a ReLU left, no gradient passes on, and some of it may be lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oracle.graph.graph import Window

Array = np.ndarray[Any, Any]

TIE_NOTE = "{} windows of the max pooling have equal largest elements: judged at the subject's own choice among them"
_ROUNDS, _SWEEPS = 400, 20
# The share of a window's gradient to which the fit is trusted.
FITTED = 1e-3


def windows_of(shape: tuple[int, ...], window: Window) -> tuple[Array, Array]:
    """For each window of an image the flat positions of its elements, and which of them lie inside the image.

    Shapes: ``(..., H, W)`` to twice ``(OH * OW, taps)``.

    Example:
        >>> positions, inside = windows_of((1, 1, 2, 2), Window((3, 3), (2, 2), (1, 1)))
        >>> positions[inside].tolist()
        [0, 1, 2, 3]
    """
    sides = shape[-len(window.kernel) :]
    starts = np.indices(window.output(sides)).reshape(len(sides), -1, 1) * np.reshape(window.stride, (-1, 1, 1))
    steps = np.indices(window.kernel).reshape(len(sides), 1, -1) - np.reshape(window.padding, (-1, 1, 1))
    places, most = starts + steps, np.reshape(sides, (-1, 1, 1))
    inside = ((places >= 0) & (places < most)).all(0)
    return np.ravel_multi_index(tuple(np.clip(places, 0, most - 1)), sides), inside


def pool_gradients(
    image: Array, gradient: Array, found: Array, window: Window, placed: Array | None = None
) -> tuple[list[tuple[Array, Array]], int]:
    """The gradients of a max pooling's input at the shares among equal elements that may explain ``found``.

    The last of them wins; all share alike; the one wins that comes nearest to ``found``; or the nearest shares do. A
    fit mixes up a small gradient and the rounding of a large one beside it: the plain ones are first.

    Args:
        image: what the pooling took, ``(N, C, H, W)``.
        gradient: of its output, ``(N, C, OH, OW)``.
        found: the subject's gradient of its input, ``(N, C, H, W)``.
        window: of the pooling.
        placed: what goes to those shares, such as the truth's gradient of the output; ``gradient`` by default.

    Returns:
        Each, with the sum of the magnitudes that equal elements may have got; and in how many windows that get a
        gradient elements are equal.

    Example:
        >>> image, gradient = np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1))
        >>> found = np.array([[[[0.0, 0.0], [0.0, 1.0]]]])
        >>> window = Window((3, 3), (2, 2), (1, 1))
        >>> [each.ravel().tolist() for each, _ in pool_gradients(image, gradient, found, window)[0]][:2]
        [[0.0, 0.0, 0.0, 1.0], [0.25, 0.25, 0.25, 0.25]]
    """
    planes = image.shape[0] * image.shape[1]
    flat = np.asarray(image, np.float64).reshape(planes, -1)
    dy = np.asarray(gradient, np.float64).reshape(planes, -1)
    goes = dy if placed is None else np.asarray(placed, np.float64).reshape(planes, -1)
    positions, inside = windows_of(image.shape, window)
    values = np.where(inside, flat[:, positions], -np.inf)
    top = values.max(2)
    largest = values == top[:, :, None]
    at = np.arange(planes)[:, None, None] * flat.shape[1] + positions
    tied = (largest.sum(2) > 1) & (dy != 0)
    if not tied.any():
        return [], 0
    first = np.take_along_axis(at, largest.argmax(2)[:, :, None], 2)[:, :, 0]

    def scattered(places: Array, parts: Array) -> Array:
        made: Array = np.zeros(flat.size)
        made += np.bincount(places.ravel(), parts.ravel(), minlength=flat.size)
        return made

    legal, places, weight = largest[tied], at[tied], dy[tied]
    left = np.asarray(found, np.float64).reshape(-1) - scattered(first[~tied], dy[~tied])
    fitted = _shares(left, legal, places, weight, top[tied] == 0, window.overlap)
    last = np.eye(legal.shape[1])[legal.shape[1] - 1 - legal[:, ::-1].argmax(1)]
    apart = _numbers(window, image.shape)[np.nonzero(tied)[1]]
    tries = [
        _winners(left, legal, places, weight, apart, start)
        for start in (fitted.argmax(1), _one_by_one(left, legal, places, weight))
    ]
    nearest = min(tries, key=lambda share: _missed(left, places, share, weight))
    base, reach = scattered(first[~tied], goes[~tied]), scattered(places, legal * np.abs(goes[tied])[:, None])
    shares = (last, legal / legal.sum(1, keepdims=True), nearest, fitted)
    made = [base + scattered(places, share * goes[tied][:, None]) for share in shares]
    return [(each.reshape(image.shape), reach.reshape(image.shape)) for each in made], int(tied.sum())


def _numbers(window: Window, shape: tuple[int, ...]) -> Array:
    """A number for each window: those of one number have no element in common."""
    counts = window.output(shape[-len(window.kernel) :])
    found: Array = np.zeros(1, np.intp)
    for count, kernel, stride in zip(counts, window.kernel, window.stride, strict=True):
        reach = -(-kernel // stride)
        found = np.add.outer(found * reach, np.arange(count) % reach).reshape(-1)
    return found


def _one_by_one(wanted: Array, legal: Array, places: Array, weight: Array) -> Array:
    """A winner a window, those with the largest gradients first, each where it leaves least."""
    left, chosen = wanted.copy(), np.zeros(len(weight), np.intp)
    for each in np.argsort(-np.abs(weight)):
        chosen[each] = np.where(legal[each], left[places[each]] * weight[each], -np.inf).argmax()
        left[places[each, chosen[each]]] -= weight[each]
    return chosen


def _missed(wanted: Array, places: Array, share: Array, weight: Array) -> float:
    """By how much the gradients of those shares miss what is wanted: the sum of squares."""
    made = np.bincount(places.ravel(), (share * weight[:, None]).ravel(), minlength=wanted.size)
    return float(np.square(wanted - made).sum())


def _winners(wanted: Array, legal: Array, places: Array, weight: Array, apart: Array, start: Array) -> Array:
    """One winner a window, as a share of one, so that the gradients come near to ``wanted``: windows that have no
    element in common choose at once, each what fits best beside the others' choice, until none changes."""
    one = np.eye(legal.shape[1])
    share: Array = one[start]
    for _ in range(_SWEEPS):
        before = share.copy()
        for number in range(apart.max() + 1):
            mine = apart == number
            made = np.bincount(places.ravel(), (share * weight[:, None]).ravel(), minlength=wanted.size)
            left = (wanted - made)[places[mine]] + share[mine] * weight[mine, None]
            share[mine] = one[np.where(legal[mine], left * weight[mine, None], -np.inf).argmax(1)]
        if (share == before).all():
            break
    return share


def _shares(wanted: Array, legal: Array, places: Array, weight: Array, blocked: Array, overlap: int) -> Array:
    """Shares, none negative, that sum to one in each window (in a ``blocked`` one to at most one), whose gradients
    come nearest to ``wanted``: projected gradient descent. At most ``overlap`` windows hold an element, which
    bounds the step."""
    share: Array = legal / legal.sum(1, keepdims=True)
    extrapolated, momentum = share, 1.0
    for _ in range(_ROUNDS):  # with Nesterov's momentum (Beck and Teboulle, "A fast iterative shrinkage-thresholding")
        made = np.bincount(places.ravel(), (extrapolated * weight[:, None]).ravel(), minlength=wanted.size)
        apart = (wanted - made)[places] * legal
        if not (np.abs(apart) > 1e-6 * np.abs(weight)[:, None]).any():
            return extrapolated
        moved = extrapolated + apart / (float(overlap) * weight[:, None])
        clipped = np.maximum(moved, 0.0) * legal
        free = blocked & (clipped.sum(1) <= 1)
        after = np.where(free[:, None], clipped, _onto_simplex(moved, legal))
        further = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        extrapolated = after + (momentum - 1) / further * (after - share)
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
