"""Rows of layer normalisation. Its law (``ARITHMETIC.md``, 7.1) is written here a second time, number by number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch.nn.functional as TF

import lucid.nn.functional as F
from support.operations import Array, Given, Kind, Row
from support.tables.elementwise import shape_name


def layer(shape: tuple[int, ...], axes: int, weight: bool, bias: bool, kind: Kind = "normal", eps: float = 1e-5) -> Row:
    """Inputs in the order input, weight and bias (where there are any)."""
    normalized = shape[len(shape) - axes :]

    def call(function: Any) -> Any:
        def run(x: Any, *rest: Any) -> Any:
            return function(x, normalized, rest[0] if weight else None, rest[-1] if bias else None, eps)

        return run

    given = (Given(shape, kind), *[Given(normalized)] * (weight + bias))
    words = [shape_name(shape), str(axes), "weight" * weight, "bias" * bias, kind, f"eps{eps}" * (eps != 1e-5)]
    name = "-".join(word for word in ["layer_norm", *words] if word)
    smooth = kind == "normal"
    return Row(
        name, F.layer_norm, call(F.layer_norm), call(TF.layer_norm), given, smooth=smooth, sums=True, law=call(law)
    )


def law(x: Array, normalized: tuple[int, ...], weight: Array | None, bias: Array | None, eps: float) -> Array:
    """Every row of the layer alone, in numbers of the dtype: each operation of NumPy's scalars is rounded once."""
    kind, width = x.dtype.type, math.prod(normalized)
    y = np.empty_like(x).reshape(-1, width)
    for row, values in zip(y, x.reshape(-1, width), strict=True):
        mean = kind(ordered_sum(values) / width)
        d = [value - mean for value in values]
        s = np.sqrt(kind(ordered_sum([value * value for value in d]) / width) + kind(eps))
        for i, value in enumerate(d):
            row[i] = value / s
            row[i] = row[i] if weight is None else row[i] * weight.flat[i]
            row[i] = row[i] if bias is None else row[i] + bias.flat[i]
    return y.reshape(x.shape)


def ordered_sum(terms: Any) -> float:
    """The reduction of section 2, before it is narrowed, of at most 8192 terms: one group."""
    segments = []
    for start in range(0, len(terms), 256):
        segment = 0.0
        for term in terms[start : start + 256]:
            segment += float(term)
        segments.append(segment)
    total = segments[0]
    for segment in segments[1:]:
        total += segment
    return total


ROWS = [
    layer((2, 3, 4), 1, True, True),
    layer((2, 3, 4), 2, True, False),
    layer((2, 3, 4), 3, False, False, eps=0.5),
    layer((5,), 1, False, True),
    layer((3, 5), 1, True, True),
    layer((2, 2, 300), 1, True, True),
    layer((0, 3), 1, True, True),
    layer((4, 12), 1, True, True, kind="infinite"),
]
