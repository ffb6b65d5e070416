"""Rows of the operations that move data and round nothing, and of views through which others see their operand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as TF

import lucid
import lucid.nn.functional as F
from support.operations import Given, Row

Function = Callable[..., Any]


def row(name: str, operation: Function, ours: Function, theirs: Function, *shapes: Any, **options: Any) -> Row:
    given = tuple(shape if isinstance(shape, Given) else Given(shape) for shape in shapes)
    return Row(f"{operation.__name__}-{name}", operation, ours, theirs, given, sums=True, **options)


def both(name: str, operation: Function, function: Function, *shapes: Any, **options: Any) -> Row:
    """A row whose function is written the same way for both libraries."""
    return row(name, operation, function, function, *shapes, **options)


def shaped() -> list[Row]:
    rows = [
        both(f"{source}-{target}".replace(" ", ""), lucid.reshape, lambda x, t=target: x.reshape(t), source)
        for source, target in [
            ((6,), (2, 3)),
            ((2, 3, 4), (4, -1)),
            ((2, 3, 4), (-1,)),
            ((), (1, 1)),
            ((1,), ()),
            ((0, 3), (3, 0, 2)),
        ]
    ]
    rows += [
        both(f"{shape}-{start}-{end}".replace(" ", ""), lucid.flatten, lambda x, a=start, b=end: x.flatten(a, b), shape)
        for shape, start, end in [
            ((2, 3, 4), 0, -1),
            ((2, 3, 4), 1, 2),
            ((2, 3, 4), -2, -1),
            ((0, 3, 2), 1, 2),
            ((), 0, -1),
        ]
    ]
    rows += [both(str(shape), lucid.ravel, lambda x: x.ravel(), shape) for shape in [(), (0,), (2, 3), (2, 3, 4)]]
    rows += [
        both(f"{shape}-{axis}".replace(" ", ""), lucid.unsqueeze, lambda x, a=axis: x.unsqueeze(a), shape)
        for shape, axis in [((), 0), ((3,), 0), ((3,), -1), ((2, 3), 1), ((0,), 0)]
    ]
    rows += [
        row(
            f"{shape}-{axis}".replace(" ", ""),
            lucid.squeeze,
            lambda x, a=axis: lucid.squeeze(x, a),
            lambda x, a=axis: x.squeeze() if a is None else x.squeeze(a),
            shape,
        )
        for shape, axis in [
            ((1, 3, 1), None),
            ((1, 3, 1), 0),
            ((1, 3, 1), 1),
            ((1, 3, 1), (0, -1)),
            ((), None),
            ((1, 0), 0),
        ]
    ]
    return rows


def turned() -> list[Row]:
    rows = [
        row(
            f"{shape}-{axes}".replace(" ", ""),
            lucid.transpose,
            lambda x, a=axes: lucid.transpose(x, a),
            lambda x, a=axes: x.permute(a),
            shape,
        )
        for shape, axes in [
            ((3,), (0,)),
            ((2, 3), (1, 0)),
            ((2, 3, 4), (2, 0, 1)),
            ((2, 3, 4), (-1, 0, 1)),
            ((2, 3, 5, 7), (0, 2, 3, 1)),
            ((0, 3), (1, 0)),
            ((), ()),
        ]
    ]
    rows.append(row("reversed", lucid.transpose, lucid.transpose, lambda x: x.permute(2, 1, 0), (2, 3, 4)))
    rows += [
        both(f"{a},{b}", lucid.swapaxes, lambda x, a=a, b=b: x.swapaxes(a, b), (2, 3, 4))
        for a, b in [(0, 1), (0, -1), (1, 1)]
    ]
    rows += [
        both(f"{shape}-{target}".replace(" ", ""), lucid.broadcast_to, lambda x, t=target: x.broadcast_to(t), shape)
        for shape, target in [
            ((), (2, 3)),
            ((3,), (2, 3)),
            ((2, 1), (2, 3)),
            ((1, 1), (1, 1)),
            ((3, 1, 2), (4, 3, 5, 2)),
            ((1,), (0,)),
        ]
    ]
    return rows


def joined() -> list[Row]:
    return [
        row("one", lucid.concatenate, lambda a: lucid.concatenate([a]), lambda a: torch.cat([a]), (2, 3)),
        row("rows", lucid.concatenate, lambda *t: lucid.cat(t), lambda *t: torch.cat(t), (2, 3), (1, 3), (4, 3)),
        row("columns", lucid.concatenate, lambda *t: lucid.cat(t, -1), lambda *t: torch.cat(t, -1), (2, 3), (2, 1)),
        row("empty", lucid.concatenate, lambda *t: lucid.cat(t, 1), lambda *t: torch.cat(t, 1), (2, 0), (2, 3)),
        row(
            "channels",
            lucid.concatenate,
            lambda *t: lucid.cat(t, 1),
            lambda *t: torch.cat(t, 1),
            (2, 3, 4, 4),
            (2, 1, 4, 4),
        ),
        row(
            "integers",
            lucid.concatenate,
            lambda a, b: lucid.cat([b, a]),
            lambda a, b: torch.cat([b, a]),
            (2, 3),
            Given(fixed=np.array([[1, -2, 3]]), grad=False),
        ),
        row("twice", lucid.concatenate, lambda a: lucid.cat([a, a * 2, a]), lambda a: torch.cat([a, a * 2, a]), (2, 3)),
        row("first", lucid.stack, lambda *t: lucid.stack(t), lambda *t: torch.stack(t), (2, 3), (2, 3)),
        row("last", lucid.stack, lambda *t: lucid.stack(t, -1), lambda *t: torch.stack(t, -1), (2, 3), (2, 3), (2, 3)),
        row("scalars", lucid.stack, lambda *t: lucid.stack(t), lambda *t: torch.stack(t), (), ()),
        row("empty", lucid.stack, lambda *t: lucid.stack(t, 1), lambda *t: torch.stack(t, 1), (0, 2), (0, 2)),
    ]


def parted() -> list[Row]:
    """Parts used unevenly, and one of them not at all."""

    def use(parts: Any) -> Any:
        return parts[0] * 3 + parts[2] * parts[2]

    return [
        row("even", lucid.split, lambda x: use(lucid.split(x, 2)), lambda x: use(torch.split(x, 2)), (6, 3)),
        row(
            "sizes", lucid.split, lambda x: lucid.split(x, [1, 4], 1)[1], lambda x: torch.split(x, [1, 4], 1)[1], (2, 5)
        ),
        row("short", lucid.split, lambda x: lucid.split(x, 4)[1], lambda x: torch.split(x, 4)[1], (7,)),
        row("three", lucid.chunk, lambda x: use(lucid.chunk(x, 3, 1)), lambda x: use(torch.chunk(x, 3, 1)), (2, 6)),
    ]


def padded() -> list[Row]:
    cases: list[tuple[tuple[int, ...], Any, Any, float]] = [
        ((4,), (1, 2), (1, 2), 0.0),
        ((2, 3), ((1, 0), (0, 2)), (0, 2, 1, 0), -1.5),
        ((2, 3), 1, (1, 1, 1, 1), 0.0),
        ((2, 1, 3, 3), ((0, 0), (0, 0), (1, 1), (2, 2)), (2, 2, 1, 1), float("-inf")),
        ((0, 3), ((1, 1), (0, 0)), (0, 0, 1, 1), 2.0),
        ((2, 3), 0, (0, 0, 0, 0), 0.0),
    ]
    return [
        row(
            f"{shape}-{widths}-{value}".replace(" ", ""),
            F.pad,
            lambda x, w=widths, v=value: F.pad(x, w, v),
            lambda x, w=theirs, v=value: TF.pad(x, w, value=v),
            shape,
            smooth=value != float("-inf"),
        )
        for shape, widths, theirs, value in cases
    ]


def indexed() -> list[Row]:
    cases: dict[str, Any] = {
        "number": 1,
        "negative": -1,
        "element": (1, 2),
        "slice": slice(1, 3),
        "steps": (slice(None, None, 2), slice(1, None, 3)),
        "ellipsis": (..., 1),
        "newaxis": (None, 1, None),
        "nothing": slice(2, 2),
        "integers": [0, 2, 0, 0],
        "integers-2d": (np.array([[0, 1], [2, 0]]), np.array([3, 3])),
        "integers-slice": (slice(None), np.array([4, 4, 0, -1])),
        "no-integers": np.zeros(0, np.int64),
        "mask": np.array([True, False, True, True]),
        "mask-2d": np.arange(20).reshape(4, 5) % 3 == 0,
        "no-mask": np.zeros((4, 5), bool),
        "apart": (np.array([0, 1, 1]), None, np.array([2, 2, 2])),
    }

    def theirs(x: torch.Tensor, index: Any) -> torch.Tensor:
        parts = index if isinstance(index, tuple) else (index,)
        return x[tuple(torch.as_tensor(i) if isinstance(i, np.ndarray | list) else i for i in parts)]

    rows = [
        row(name, lucid.getitem, lambda x, i=index: x[i], lambda x, i=index: theirs(x, i), (4, 5))
        for name, index in cases.items()
    ]
    for name, index in [("by-integers", [0, 2, 0, -1]), ("by-mask", [True, False, True, True])]:  # an input like others
        given = (4, 5), Given(fixed=np.array(index), grad=False)
        rows.append(row(name, lucid.getitem, lambda x, i: x[i], lambda x, i: x[i], *given))
    backwards = (slice(None, None, -1), slice(None, None, -2))
    rows.append(row("backwards", lucid.getitem, lambda x: x[backwards], lambda x: x.flip(0, 1)[:, ::2], (4, 5)))
    many = np.random.default_rng(5).integers(0, 3, 400)
    rows.append(row("many-duplicates", lucid.getitem, lambda x: x[many], lambda x: x[torch.as_tensor(many)], (3, 2)))
    return rows


def copied() -> list[Row]:
    def there_and_back(x: Any) -> Any:
        other = lucid.float64 if x.dtype == lucid.float32 else lucid.float32
        return lucid.cast(lucid.cast(x, other), x.dtype)

    def there_and_back_torch(x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.float64 if x.dtype == torch.float32 else torch.float32).to(x.dtype)

    return [
        both("4d", lucid.clone, lambda x: x.clone(), (2, 3, 4, 5)),
        both("scalar", lucid.clone, lambda x: x.clone(), ()),
        both("detached", lucid.detach, lambda x: x * x.detach(), (3, 2), smooth=False),
        row("cpu", lucid.to_device, lambda x: lucid.to_device(x, x.device), lambda x: x.clone(), (3, 2)),
        row(
            "widened",
            lucid.cast,
            lambda x: lucid.cast(x, "float64"),
            lambda x: x.double(),
            (3, 2),
            dtypes=(np.float32,),
        ),
        row(
            "narrowed",
            lucid.cast,
            lambda x: lucid.cast(x, "float32"),
            lambda x: x.float(),
            (3, 2),
            dtypes=(np.float64,),
            smooth=False,  # a step is less than a float32 can tell
        ),
        row("there-and-back", lucid.cast, there_and_back, there_and_back_torch, (3, 2), smooth=False),
    ]


def seen_through_views() -> list[Row]:
    """Operations whose operands are views, made by lucid itself, of what has the gradient."""
    return [
        both("of-transposed", lucid.mul, lambda x: (x.swapaxes(0, 1) * x[:, 0]).sum(), (3, 3)),
        both("of-slices", lucid.add, lambda x: x[:, ::2] + x[:, 1::2], (4, 6)),
        both("of-broadcast", lucid.mul, lambda x, y: x.broadcast_to((4, 3)) * y, (3,), (4, 3)),
        both("of-transposes", lucid.matmul, lambda x, y: x.swapaxes(0, 1) @ y.swapaxes(0, 1), (5, 3), (4, 5)),
        both("of-itself", lucid.matmul, lambda x: x @ x.swapaxes(0, 1), (3, 4)),
        both("of-slice", lucid.sum, lambda x: x[1:, ::3].sum(0), (3, 8)),
        both("of-view-of-view", lucid.reshape, lambda x: x[1:].swapaxes(0, 1).reshape((2, 6)) * 2, (4, 4)),
        both("of-transposed-result", lucid.exp, lambda x: x.exp().swapaxes(0, 1)[1:], (3, 4)),
    ]


ROWS = [
    *shaped(),
    *turned(),
    *joined(),
    *parted(),
    *padded(),
    *indexed(),
    *copied(),
    *seen_through_views(),
]
