"""Signals: Fourier transforms of ONNX, and the windows and filters that stand beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from onnx import TensorProto

from lucid import ops
from lucid.core.angles import of_turn
from lucid.core.tensor import Tensor, as_tensor
from lucid.onnx._importer import Call, imports
from lucid.onnx._types import dtype_of

_DIRECT = 64
"""Up to this length a transform is one product; longer ones are made of those of two factors."""

Parts = tuple[Tensor, Tensor | None]
"""Real and imaginary part; None is 0."""


@imports("DFT", host=(1, 2))
def _import_dft(call: Call, x: Tensor, length: np.ndarray | None = None, axis: np.ndarray | None = None) -> Tensor:
    """In float64, rounded once."""
    given = call["axis"] if call.version < 20 else -2 if axis is None else int(axis.reshape(-1)[0])
    at, one = given % x.ndim, bool(call["onesided"])
    if at == x.ndim - 1:
        raise call.refuse(f"axis is {given}, which holds the real and imaginary parts of {x.shape}")
    known = x.shape[at] if not (call["inverse"] and one) else 2 * (x.shape[at] - 1)
    n = known if length is None else int(length.reshape(-1)[0])
    order = [axis for axis in range(x.ndim - 1) if axis != at] + [at]
    parts = _parts(x, order)
    if call["inverse"]:
        parts = _inverse(parts, n, one)
    else:
        parts = _fourier(*_fitted(parts, n), -1)
        parts = _fitted(parts, n // 2 + 1) if one else parts
    made = ops.stack([parts[0]] if call["inverse"] and one else list(_both(parts)), -1)
    back = [int(place) for place in np.argsort([*order, x.ndim - 1])]
    return ops.transpose(made, back).astype(x.dtype)


def _parts(x: Tensor, order: Sequence[int]) -> Parts:
    """Of ``(..., 1 or 2)``, in float64, the axes in another order."""
    wide = x.astype(np.float64)
    real = ops.transpose(wide[..., 0], order)
    return real, ops.transpose(wide[..., 1], order) if x.shape[-1] == 2 else None


def _both(parts: Parts) -> tuple[Tensor, Tensor]:
    real, imaginary = parts
    return real, ops.zeros_like(real) if imaginary is None else imaginary


def _fitted(parts: Parts, n: int) -> Parts:
    """Cut, or followed by zeros, to a length of ``n``."""

    def fitted(part: Tensor) -> Tensor:
        missing = n - part.shape[-1]
        return ops.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, missing)]) if missing > 0 else part[..., :n]

    real, imaginary = parts
    return fitted(real), None if imaginary is None else fitted(imaginary)


def _inverse(parts: Parts, n: int, one: bool) -> Parts:
    if one:  # the other half is its mirror, conjugate; the first and the middle element are real
        real, imaginary = _both(_fitted(parts, n // 2 + 1))
        mirror = [n - k for k in range(n // 2 + 1, n)]
        edge = np.array([0.0 if k == 0 or 2 * k == n else 1.0 for k in range(n // 2 + 1)])
        imaginary = imaginary * as_tensor(edge, device=imaginary.device)
        real = ops.concatenate([real, ops.index_select(real, real.ndim - 1, mirror)], -1)
        imaginary = ops.concatenate([imaginary, -ops.index_select(imaginary, real.ndim - 1, mirror)], -1)
        parts = real, imaginary
    real, imaginary = _both(_fourier(*_fitted(parts, n), 1))
    return real / float(n), imaginary / float(n)


def _fourier(real: Tensor, imaginary: Tensor | None, sign: int) -> Parts:
    """Along the last axis, with ``exp(sign 2 pi i j k / n)``; of a length ``a b`` by Cooley and Tukey, 1965."""
    n = real.shape[-1]
    a = next((d for d in range(math.isqrt(n), 1, -1) if n % d == 0), 1) if n > _DIRECT else 1
    if a == 1:
        return _times(real, imaginary, np.multiply.outer(np.arange(n), np.arange(n)), n, sign, ops.matmul)
    b, front = n // a, real.shape[:-1]

    def turned(part: Tensor | None, shape: tuple[int, int]) -> Tensor | None:
        return None if part is None else ops.swapaxes(ops.reshape(part, (*front, *shape)), -1, -2)

    columns = _fourier(_some(turned(real, (a, b))), turned(imaginary, (a, b)), sign)
    twiddled = _times(*columns, np.multiply.outer(np.arange(b), np.arange(a)), n, sign, ops.mul)
    rows = _fourier(_some(turned(twiddled[0], (b, a))), turned(twiddled[1], (b, a)), sign)
    made = [ops.reshape(_some(turned(part, (a, b))), (*front, n)) for part in _both(rows)]
    return made[0], made[1]


def _some(part: Tensor | None) -> Tensor:
    assert part is not None
    return part


def _times(real: Tensor, imaginary: Tensor | None, powers: np.ndarray, n: int, sign: int, product: Any) -> Parts:
    """The product with roots of one, of these powers."""
    roots = _roots(n)[powers % n]
    cosine, sine = (
        as_tensor(np.ascontiguousarray(part), device=real.device) for part in (roots[..., 0], roots[..., 1])
    )
    sine = sine * float(sign)
    if imaginary is None:
        return product(real, cosine), product(real, sine)
    return (
        product(real, cosine) - product(imaginary, sine),
        product(real, sine) + product(imaginary, cosine),
    )


@lru_cache(64)
def _roots(n: int) -> np.ndarray:
    """Cosine and sine of ``k`` parts of ``n`` of a turn, the nearest float64 numbers: the same on every machine."""
    return np.array([of_turn(k, n) for k in range(n)])


@imports("STFT", host=(1, 3))
def _import_stft(
    call: Call, x: Tensor, step: np.ndarray, window: Tensor | None = None, length: np.ndarray | None = None
) -> Tensor:
    """The transforms of frames, each times the window."""
    signal = x if x.ndim == 3 else ops.reshape(x, (*x.shape, 1))
    known = signal.shape[1] if window is None else window.shape[0]
    n = known if length is None else int(length.reshape(-1)[0])
    hop = int(step.reshape(-1)[0])
    if hop < 1 or not 1 <= n <= signal.shape[1]:
        raise call.refuse(f"its frames are {n} long with a step of {hop}; its signals have shape {x.shape}")
    starts = np.arange((signal.shape[1] - n) // hop + 1) * hop
    places = (starts[:, None] + np.arange(n)).reshape(-1)
    frames = ops.index_select(signal, 1, places)
    frames = ops.reshape(frames, (signal.shape[0], len(starts), n, signal.shape[2])).astype(np.float64)
    if window is not None:
        frames = frames * ops.reshape(window.astype(np.float64), (-1, 1))
    real, imaginary = _both(_fourier(*_parts(frames, (0, 1, 2)), -1))
    made = ops.stack([real, imaginary], -1)
    return (made[:, :, : n // 2 + 1] if call["onesided"] else made).astype(x.dtype)


_WINDOWS = {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


@imports(*_WINDOWS, host=None)
def _import_window(call: Call, size: np.ndarray) -> np.ndarray:
    """A sum of cosines."""
    n = int(size)
    turn = n if call["periodic"] else n - 1
    cosines = _roots(max(turn, 1))[:, 0]
    i = np.arange(n)
    weights = _WINDOWS[call.operator]
    y = sum(weight * cosines[i * order % max(turn, 1)] for order, weight in enumerate(weights))
    return np.asarray(y, np.float64).astype(dtype_of(call["output_datatype"] or TensorProto.FLOAT))


@imports("MelWeightMatrix", host=None)
def _import_mel_weights(
    call: Call, bins: np.ndarray, length: np.ndarray, rate: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Triangles, whose corners lie evenly on the mel scale."""
    count, n = int(bins), int(length)
    ends = ops.log1p(as_tensor(np.array([float(low), float(high)]) / 700.0)).numpy()
    corners = ends[0] + np.arange(count + 2) * ((ends[1] - ends[0]) / (count + 2))
    hertz = 700.0 * ops.expm1(as_tensor(corners)).numpy()
    edges = np.floor((n + 1) * hertz / int(rate)).astype(np.int64)
    y = np.zeros((n // 2 + 1, count))
    for i, (left, middle, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        if left == middle:
            y[middle, i] = 1.0
        else:
            y[left : middle + 1, i] = np.arange(middle - left + 1) / (middle - left)
        if right > middle:
            y[middle:right, i] = np.arange(right - middle, 0, -1) / (right - middle)
    return y.astype(dtype_of(call["output_datatype"] or TensorProto.FLOAT))
