"""Operations of transformers: attention, rows of a table, features turned by an angle, gated units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.elementwise import sigmoid
from oracle.kernel.operation import Argument, Attributes, KernelOperation, Made, Shape, Sizes

# Batch, heads, queries, keys, width of a head: one, primes, just past tiles of 16 to 64, one query, many keys.
ATTENTIONS = (
    (1, 1, 1, 1, 1), (1, 2, 3, 5, 4), (2, 4, 7, 7, 8), (1, 2, 17, 17, 16), (2, 2, 33, 33, 8), (1, 4, 65, 65, 32),
    (1, 2, 129, 129, 16), (3, 2, 1, 130, 16), (1, 2, 67, 257, 64), (1, 2, 5, 1025, 8), (2, 4, 96, 96, 20),
)  # fmt: skip
# Places, rows of the table, their width.
TABLES = (
    (1, 1, 1), (3, 2, 4), (17, 5, 3), (33, 257, 8), (129, 17, 33), (1000, 7, 5), (65, 65, 129), (257, 1025, 16),
    (2, 3, 1025), (5000, 3, 2),
)  # fmt: skip
# Batch, heads, places, half the width.
TURNS = ((1, 1, 1, 1), (1, 2, 3, 2), (2, 2, 5, 4), (1, 3, 17, 8), (2, 4, 33, 16), (1, 2, 129, 32), (3, 1, 65, 65))


class _Attention:
    """The weights of attention, and what they are made of; for gradients they may be made again.

    A kernel may scale queries, keys, or what they make, and may store the weights before it multiplies values by them
    (matrix units take them so); it need not divide them by their sum before.
    """

    def __init__(self, inputs: list[Any], again: bool, is_causal: bool, scale: float | None, enable_gqa: bool) -> None:
        self.q, k, v, *masks = inputs
        self.repeats = self.q.shape[1] // k.shape[1] if enable_gqa else 1
        self.k, self.v = self._repeated(k), self._repeated(v)
        width = self.q.shape[-1]
        self.scale = 1 / math.sqrt(width) if scale is None else float(scale)
        scores = self.q.contracted(_turned(self.k), np.matmul, width)
        made = scores * scores.of.constant(self.scale)
        apart = np.matmul(np.abs(self.q.value), np.abs(_turned(self.k).value)) * abs(self.scale)
        made = made.with_error(2 * made.of.unit * apart)
        for mask in masks:
            made = made + mask
        if is_causal:
            made = made.where(np.tri(*made.shape[-2:]) > 0, -math.inf)
        largest = made.max(-1, keepdims=True)
        e = (made - largest).exp()
        total = e.sum(-1, keepdims=True)
        of = made.of
        weights = (e / total).with_error(max(2.0**-1022, of.least / of.unit))  # the least are perhaps taken for 0
        if again:  # from the logarithm of the sum, which was kept
            along = np.abs(largest.value) + np.abs(largest.value + np.log(total.value))
            weights = weights.with_error(2 * of.unit * along * weights.value)
        self.weights = weights.stored()

    def _repeated(self, x: Bounded) -> Bounded:
        return x.moved(lambda part: np.repeat(part, self.repeats, 1)) if self.repeats > 1 else x

    def result(self) -> Bounded:
        return self.weights.contracted(self.v, np.matmul, self.v.shape[-2])

    def gradients(self, dy: Bounded) -> Made:
        queries, keys = self.weights.shape[-2:]
        dv = _turned(self.weights).contracted(dy, np.matmul, queries)
        dp = dy.contracted(_turned(self.v), np.matmul, self.v.shape[-1]).stored()
        ds = (self.weights * (dp - (self.weights * dp).sum(-1, keepdims=True))).stored()
        scale = ds.of.constant(self.scale)
        dq = ds.contracted(self.k, np.matmul, keys) * scale
        dk = _turned(ds).contracted(self.q, np.matmul, queries) * scale
        return {0: dq, 1: self._gathered(dk), 2: self._gathered(dv)}

    def _gathered(self, gradient: Bounded) -> Bounded:
        """Of a head that serves several: the sum of what it has from each."""
        if self.repeats == 1:
            return gradient
        batch, heads, *rest = gradient.shape
        parts = (batch, heads // self.repeats, self.repeats, *rest)
        return gradient.moved(lambda part: part.reshape(parts)).over_batch(2)


def _turned(x: Bounded) -> Bounded:
    return x.moved(lambda part: np.swapaxes(part, -1, -2))


def _attention(inputs: list[Any], **attributes: Any) -> Bounded:
    return _Attention(inputs, False, **attributes).result()


def _attention_gradients(dy: Bounded, inputs: list[Any], y: Bounded, **attributes: Any) -> Made:
    return _Attention(inputs, True, **attributes).gradients(dy)


def _attention_sizes(attributes: Attributes) -> list[Sizes]:
    return [sizes for sizes in ATTENTIONS if not attributes["enable_gqa"] or sizes[1] % 2 == 0]


def _attention_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    batch, heads, queries, keys, width = sizes
    of_keys = (batch, heads // 2 if attributes["enable_gqa"] else heads, keys, width)
    return (batch, heads, queries, width), of_keys, of_keys, (queries, keys)


def _hot(places: Any, rows: int) -> Array:
    return (np.asarray(places).reshape(-1, 1) == np.arange(rows)).astype(np.float64)


def _embedding(inputs: list[Any]) -> Bounded:
    places, weight = inputs
    return weight.moved(lambda part: part[np.asarray(places).astype(np.int64)])


def _embedding_gradient(dy: Bounded, inputs: list[Any], y: Bounded) -> Made:
    """A row's is the sum over the places that took it, in whatever order, perhaps added up where it is stored."""
    hot = dy.of.exact(_hot(inputs[0], inputs[1].shape[0]))
    most = float(hot.value.sum(0).max(initial=1.0))
    rows = dy.moved(lambda part: part.reshape(-1, part.shape[-1]))
    return {1: hot.contracted(rows, lambda a, b: a.T @ b, most, pieces=most)}


def _pairs(x: Bounded, interleaved: bool) -> tuple[Bounded, Bounded]:
    if interleaved:
        return x.moved(lambda part: part[..., ::2]), x.moved(lambda part: part[..., 1::2])
    half = x.shape[-1] // 2
    return x.moved(lambda part: part[..., :half]), x.moved(lambda part: part[..., half:])


def _joined(a: Bounded, b: Bounded, interleaved: bool) -> Bounded:
    def join(first: Array, second: Array) -> Array:
        if interleaved:
            return np.stack([first, second], -1).reshape(*first.shape[:-1], -1)
        return np.concatenate([first, second], -1)

    return Bounded(a.of, *(join(*parts) for parts in zip(a.parts, b.parts, strict=True)))


def _turn(x: Bounded, cos: Bounded, sin: Bounded, interleaved: bool) -> Bounded:
    a, b = _pairs(x, interleaved)
    return _joined((a * cos).stored() - (b * sin).stored(), (a * sin).stored() + (b * cos).stored(), interleaved)


def _rotary(inputs: list[Bounded], interleaved: bool) -> Bounded:
    x, cos, sin = inputs
    return _turn(x, cos, sin, interleaved)


def _rotary_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, interleaved: bool) -> Made:
    _, cos, sin = inputs
    return {0: _turn(dy, cos, -sin, interleaved)}


def _swiglu(inputs: list[Bounded], axis: int) -> Bounded:
    a, b = _halves(inputs[0], axis)
    return a * sigmoid(a) * b


def _halves(x: Bounded, axis: int) -> tuple[Bounded, Bounded]:
    if x.shape[axis] % 2:
        raise UsageError(f"axis: got {axis}, which has {x.shape[axis]} elements; may be one that has two halves")
    return x.moved(lambda part: np.split(part, 2, axis)[0]), x.moved(lambda part: np.split(part, 2, axis)[1])


def _swiglu_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: int) -> Made:
    a, b = _halves(inputs[0], axis)
    s = sigmoid(a).stored()
    da = (dy * b).stored() * (s * (a * (1.0 - s) + 1.0))
    parts = zip(da.parts, (dy * (a * s).stored()).parts, strict=True)
    return {0: Bounded(da.of, *(np.concatenate(pair, axis) for pair in parts))}


def _swiglu_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    rows, half = sizes
    return ((2 * half, rows) if attributes["axis"] in (0, -2) else (rows, 2 * half),)


def _of_attention(name: str, *mask: Argument) -> KernelOperation:
    """With a mask that is added, or without one: kernels that may take it refuse it beside ``is_causal``."""
    return KernelOperation(
        name,
        (Argument("query"), Argument("key"), Argument("value"), *mask),
        _attention,
        _attention_gradients,
        _attention_sizes,
        lambda sizes, attributes: _attention_shapes(sizes, attributes)[: 3 + len(mask)],
        {"is_causal": False, "scale": None, "enable_gqa": False},
        ("spike", "offset", "constant", "strided"),
        ("batch", "head", "query", "feature"),
        contained=False,
        lean_gradients=False,
        apart=lambda attributes, rank: 2,
    )


TRANSFORMERS = (
    _of_attention("scaled_dot_product_attention"),
    _of_attention("masked_attention", Argument("attn_mask", gradient=False)),
    KernelOperation(
        "embedding",
        (Argument("input", "label", gradient=False, below=(1, 0)), Argument("weight")),
        _embedding,
        _embedding_gradient,
        lambda attributes: TABLES,
        lambda sizes, attributes: ((sizes[0],), (sizes[1], sizes[2])),
        draws=("wide", "strided"),
        axes=("place", "feature"),
        zeros=True,
        lean_gradients=False,
    ),
    KernelOperation(
        "rotary_embedding",
        (
            Argument("input"),
            Argument("cos", "fraction", gradient=False),
            Argument("sin", "fraction", gradient=False),
        ),
        _rotary,
        _rotary_gradient,
        lambda attributes: TURNS,
        lambda sizes, attributes: ((*sizes[:3], 2 * sizes[3]), (sizes[2], sizes[3]), (sizes[2], sizes[3])),
        {"interleaved": False},
        ("wide", "zeros", "strided"),
        ("batch", "head", "place", "feature"),
    ),
    KernelOperation(
        "swiglu",
        (Argument("input"),),
        _swiglu,
        _swiglu_gradient,
        lambda attributes: ((1, 1), (3, 2), (5, 17), (67, 33), (130, 8), (5, 1000), (2, 4099), (257, 129)),
        _swiglu_shapes,
        {"axis": -1},
        ("span", "nan", "strided"),
        ("row", "column"),
    ),
)
