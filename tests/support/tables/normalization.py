"""Rows of layer normalisation and its like. The law (7.1) is written here a second time, number by number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
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


def rms(shape: tuple[int, ...], axes: int, weight: bool, eps: float | None = None) -> Row:
    """PyTorch's takes another way in float32: its own formula in float64 stands for it."""
    normalized = shape[len(shape) - axes :]

    def theirs(x: Any, *rest: Any) -> Any:
        epsilon = torch.finfo(x.dtype).eps if eps is None else eps
        wide = [part.double() for part in rest]
        return TF.rms_norm(x.double(), normalized, *(wide or [None]), eps=epsilon).to(x.dtype)

    def ours(x: Any, *rest: Any) -> Any:
        return F.rms_norm(x, normalized, *(rest or [None]), eps=eps)

    def by_law(x: Array, *rest: Array) -> Array:
        kind, width = x.dtype.type, math.prod(normalized)
        y = np.empty_like(x).reshape(-1, width)
        for row, values in zip(y, x.reshape(-1, width), strict=True):
            s = np.sqrt(
                kind(ordered_sum([v * v for v in values]) / width) + kind(np.finfo(kind).eps if eps is None else eps)
            )
            for i, value in enumerate(values):
                row[i] = value / s if not rest else value / s * rest[0].flat[i]
        return y.reshape(x.shape)

    given = (Given(shape), *[Given(normalized)] * weight)
    name = f"rms_norm-{shape_name(shape)}-{axes}{'-weight' * weight}-{eps}"
    return Row(name, F.rms_norm, ours, theirs, given, sums=True, law=by_law)


def of_channels(name: str, shape: tuple[int, ...], affine: bool, *options: Any) -> Row:
    """Group normalisation, and that of instances: in float64, narrowed."""
    given = (Given(shape), *[Given(shape[1:2])] * (2 * affine))

    def call(module: Any) -> Any:
        function = getattr(module, name)
        none = () if name == "group_norm" else (None, None)

        def run(x: Any, *rest: Any) -> Any:
            return function(x, *options, *none, *rest)

        return run

    ours, theirs = call(F), call(TF)
    words = "-".join([name, shape_name(shape), *["affine"] * affine, *map(str, options)])
    return Row(
        words,
        getattr(F, name),
        ours,
        lambda x, *rest: theirs(x.double(), *[part.double() for part in rest]).to(x.dtype),
        given,
        sums=True,
    )


def response(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """As ConvNeXt V2 has it, with channels in front."""
    sides = tuple(range(2, x.ndim))
    shape = (1, -1, *[1 for _ in sides])
    g = torch.linalg.vector_norm(x, dim=sides, keepdim=True)
    n = g / (g.mean(dim=1, keepdim=True) + 1e-6)
    return gamma.reshape(shape) * (x * n) + beta.reshape(shape) + x


def normalized(shape: tuple[int, ...], p: float, dim: int) -> Row:
    return Row(
        f"normalize-{shape_name(shape)}-{p}-{dim}",
        F.normalize,
        lambda x: F.normalize(x, p, dim),
        lambda x: TF.normalize(x.double(), p, dim).to(x.dtype),
        (Given(shape),),
        sums=True,
    )


ROWS = [
    layer((2, 3, 4), 1, True, True),
    layer((2, 3, 4), 2, True, False),
    layer((2, 3, 4), 3, False, False, eps=0.5),
    layer((5,), 1, False, True),
    layer((3, 5), 1, True, True),
    layer((2, 2, 300), 1, True, True),
    layer((0, 3), 1, True, True),
    layer((4, 12), 1, True, True, kind="infinite"),
    layer((17, 10), 1, True, True),
    layer((4, 6), 2, True, True),
    layer((3, 9, 300), 1, False, False),
    rms((2, 3, 4), 2, True),
    rms((9, 300), 1, True, 1e-3),
    rms((4,), 1, False),
    of_channels("group_norm", (2, 6, 3, 4), True, 3),
    of_channels("group_norm", (3, 10), False, 2),
    of_channels("group_norm", (0, 4, 3), True, 2),
    of_channels("instance_norm", (2, 3, 5), True),
    of_channels("instance_norm", (2, 3, 2, 3, 2), False),
    Row(
        "response-2x3x4x5",
        F.global_response_norm,
        F.global_response_norm,
        response,
        (Given((2, 3, 4, 5)), Given((3,)), Given((3,))),
        sums=True,
    ),
    Row(
        "response-2x3x4",
        F.global_response_norm,
        F.global_response_norm,
        response,
        (Given((2, 3, 4)), Given((3,)), Given((3,))),
        sums=True,
    ),
    *[normalized((3, 4, 2), p, 1) for p in (1, 2, 3.0, math.inf)],
    normalized((5,), 2, 0),
]
