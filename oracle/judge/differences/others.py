"""How a tensor follows from other tensors of the run: overwritten, an addition left out or read wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from oracle.judge.differences.layout import stored
from oracle.judge.differences.pair import Array, Pair, number

# Tensors of the same shape that are looked at: the nearest before and behind.
NEAREST = 24
# A sample that an explanation is tried on may leave this share.
HINT = 0.2
# A sum's own terms leave this share of it on the sample.
EXACT = 1e-9


def from_others(pair: Pair, others: Mapping[str, Array], name: str) -> str:
    """What the subject is, told by other tensors.

    Args:
        pair: the subject and the truth.
        others: the truth's tensors by name, in the order of execution.
        name: the tensor's own name among them.
    """
    order = list(others)
    here = order.index(name) if name in others else len(order)
    alike = [
        (abs(place - here), place, each)
        for place, each in enumerate(order)
        if each != name and np.shape(others[each]) == pair.truth.shape
    ]
    near = {each: place - here for _, place, each in sorted(alike)[:NEAREST]}
    if name not in others:
        near = dict.fromkeys(near, 0)
    sampled = _Sampled(pair, {each: np.asarray(others[each], np.float64) for each in near})
    return _equal(sampled, near) or _sum(sampled) or _missing(sampled)


class _Sampled:
    """The pair and the other tensors at some places, so that most guesses cost little."""

    def __init__(self, pair: Pair, others: Mapping[str, Array]) -> None:
        self.pair, self.others = pair, others
        places = pair.places
        self.subject, self.truth = (each.reshape(-1)[places] for each in (pair.subject, pair.truth))
        self.some = {name: each.reshape(-1)[places] for name, each in others.items()}
        self.before = float(np.square(self.subject - self.truth).sum())

    def fits(self, guess: Array) -> bool:
        """Whether a guess at the places is worth trying on all."""
        return self.before > 0 and float(np.square(self.subject - guess).sum()) <= HINT * self.before


def _equal(sampled: _Sampled, near: Mapping[str, int]) -> str:
    for name, some in sampled.some.items():
        if sampled.fits(some):
            suffix = sampled.pair.explained(sampled.others[name])
            if suffix is not None:
                when = ", a later tensor: overwritten in place?" if near[name] > 0 else ""
                when = when or (", an earlier tensor: was the operation skipped?" if near[name] < 0 else "")
                return f"equal to {name}{when}{suffix}"
    return ""


def _sum(sampled: _Sampled) -> str:
    """Where the truth is the sum of two others, with or without a ReLU behind it: what became of the sum."""
    scale = float(np.square(sampled.truth).sum())
    names = list(sampled.some)
    for first in names:
        for second in names:
            if first == second:
                continue
            total = sampled.some[first] + sampled.some[second]
            for rectified in (False, True):
                right = np.maximum(total, 0) if rectified else total
                if scale and float(np.square(right - sampled.truth).sum()) <= max(EXACT * scale, _granted(sampled)):
                    text = _of_sum(sampled, first, second, rectified)
                    if text:
                        return text
    return ""


def _granted(sampled: _Sampled) -> float:
    return sampled.pair.granted * sampled.truth.size


def _of_sum(sampled: _Sampled, first: str, second: str, rectified: bool) -> str:
    """``first + second``, of which the second was treated wrongly."""
    pair = sampled.pair
    a, b = sampled.others[first], sampled.others[second]

    def act(total: Array) -> Array:
        return np.maximum(total, 0) if rectified else total

    guesses = [
        (act(a), f"the addition of {second} is missing"),
        (act(a + 2 * b), f"{second} is added twice"),
        (act(a - b), f"{second} is subtracted, not added"),
        (a + b, f"the ReLU behind the sum of {first} and {second} is missing"),
        (np.maximum(a + b, 0), f"a ReLU stands behind the sum of {first} and {second}"),
        (np.maximum(a, 0) + b, f"the ReLU stands before the addition of {second}"),
    ]
    for candidate, words in guesses:
        if sampled.fits(candidate.reshape(-1)[pair.places]):
            suffix = pair.explained(candidate)
            if suffix is not None:
                return words + suffix
    for moved, words in _misread(b):
        candidate = act(a + moved)
        if sampled.fits(candidate.reshape(-1)[pair.places]):
            suffix = pair.explained(candidate)
            if suffix is not None:
                return f"{second} is added, but {words}{suffix}"
    return ""


def _misread(b: Array) -> Iterator[tuple[Array, str]]:
    """A term of a sum as it is read with wrong strides."""
    yield b[::-1], "its images are in reverse order"
    yield np.broadcast_to(b[:1], b.shape), "its first image for all"
    if b.ndim != 4:
        return
    if b.shape[2] == b.shape[3]:
        yield b.swapaxes(2, 3), "its rows and columns are transposed"
    yield b.transpose(0, 2, 3, 1).reshape(b.shape), "NHWC read as NCHW"
    yield stored(b, (0, 2, 3, 1)), "NCHW read as NHWC"
    yield b[:, ::-1], "its channels are in reverse order"
    for axis, word in ((1, "channel"), (2, "row"), (3, "column")):
        for step in (1, -1):
            yield np.roll(b, step, axis), f"shifted by one {word}"
    _, channels, rows, columns = b.shape
    usual = {"image": channels * rows * columns, "channel": rows * columns, "row": columns, "column": 1}
    for word, stride in usual.items():
        for wrong in (0, stride + 1, stride - 1, stride + 2, 2 * stride, stride // 2):
            if wrong != stride and wrong >= 0:
                strides = {**usual, word: wrong}
                at = sum(
                    np.arange(count).reshape([-1 if here == axis else 1 for here in range(4)]) * strides[each]
                    for axis, (each, count) in enumerate(zip(strides, b.shape, strict=True))
                )
                yield (
                    b.reshape(-1)[np.asarray(at) % b.size],
                    f"read with a {word} stride of {wrong} instead of {stride}",
                )


def _missing(sampled: _Sampled) -> str:
    """``truth + c other``: a term that is missing, or there once more."""
    difference = sampled.subject - sampled.truth
    for name, some in sampled.some.items():
        norm = float(np.dot(some, some))
        c = float(np.dot(difference, some)) / norm if norm else 0.0
        if not c or not sampled.fits(sampled.truth + c * some):
            continue
        whole = sampled.others[name]
        suffix = sampled.pair.explained(sampled.pair.truth + c * whole, 1)
        if suffix is None:
            continue
        if abs(c + 1) < 1e-3:
            return f"{name} is missing from the sum{suffix}"
        if abs(c - 1) < 1e-3:
            return f"{name} is added once more{suffix}"
        return f"the truth and {number(c)} times {name}{suffix}"
    return ""
