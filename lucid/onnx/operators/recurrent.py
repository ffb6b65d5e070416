"""Recurrent layers of ONNX: RNN, GRU and LSTM, composed of lucid's operations, step by step.

The products with the input are one matrix product for all steps. Where sequences end early (``sequence_lens``) the
states stay as they were and the result is 0; backwards, a sequence starts at its own end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucid import ops
from lucid.core.tensor import Tensor, as_tensor
from lucid.onnx._importer import Call, imports

Unary = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]

_PLAIN: dict[str, Unary] = {
    "relu": ops.relu,
    "sigmoid": ops.sigmoid,
    "softplus": ops.softplus,
    "softsign": lambda x: x / (ops.abs(x) + 1.0),
    "tanh": ops.tanh,
}
_WITH_ALPHA: dict[str, tuple[Callable[[Tensor, float], Tensor], float]] = {
    "elu": (ops.elu, 1.0),
    "leakyrelu": (ops.leaky_relu, 0.01),
    "thresholdedrelu": (lambda x, alpha: ops.where(x > alpha, x, 0), 1.0),
}
"""With the default of alpha."""
_WITH_BOTH: dict[str, tuple[Callable[[Tensor, float, float], Tensor], float, float]] = {
    "affine": (lambda x, alpha, beta: x * alpha + beta, 1.0, 0.0),
    "hardsigmoid": (lambda x, alpha, beta: ops.clip(x * alpha + beta, 0.0, 1.0), 0.2, 0.5),
    "scaledtanh": (lambda x, alpha, beta: ops.tanh(x * beta) * alpha, 1.0, 1.0),
}
"""With the defaults of alpha and beta."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One direction of a layer.

    Attributes:
        weight: ``(gates * H, input)``.
        recurrence: ``(gates * H, H)``.
        bias: of both, ``(gates * H,)``, or None.
        peephole: ``(3 * H,)``, or None.
        act: the activations, each of what has been clipped.
    """

    weight: Tensor
    recurrence: Tensor
    bias: tuple[Tensor, ...] | None
    peephole: Tensor | None
    act: Sequence[Unary]


Advance = Callable[[Call, Cell, Tensor, State], State]
"""The states after a step, from the products with the input and the states before it. The first is the result."""


def _run(
    call: Call,
    advance: Advance,
    gates: int,
    operands: Sequence[Any],
    initial: Sequence[Tensor | None],
    peephole: Tensor | None = None,
) -> Any:
    """All directions of a layer: its result, and the last of each state."""
    x, weight, recurrence, bias, lengths = operands
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(call["direction"])
    if directions is None:
        raise call.refuse(f"direction is {call['direction']!r}; may be 'forward', 'reverse' or 'bidirectional'")
    size, layout = recurrence.shape[-1], call["layout"]
    if weight.shape[:2] != (len(directions), gates * size) or recurrence.shape[:2] != weight.shape[:2]:
        raise call.refuse(
            f"W is of shape {weight.shape} and R of {recurrence.shape}; of {len(directions)} directions with "
            f"{gates} gates of {size} neurons they must start with {(len(directions), gates * size)}"
        )
    if layout:
        x = ops.swapaxes(x, 0, 1)
        initial = [None if state is None else ops.swapaxes(state, 0, 1) for state in initial]
    length, batch, _ = x.shape
    inside = _inside(lengths, length, x.device)
    acts = _activations(call, len(directions))
    results, ends = [], []
    for index, backwards in enumerate(directions):
        halves = None if bias is None else tuple(ops.split(bias[index], gates * size))
        cell = Cell(
            weight[index], recurrence[index], halves, None if peephole is None else peephole[index], acts[index]
        )
        state = tuple(
            ops.zeros((batch, size), dtype=x.dtype, device=x.device) if each is None else each[index]
            for each in initial
        )
        given = ops.linear(x, cell.weight, None if halves is None else halves[0])
        steps: list[Any] = [None] * length
        for t in reversed(range(length)) if backwards else range(length):
            after = advance(call, cell, given[t], state)
            steps[t] = after[0]
            if inside is not None:
                steps[t] = ops.where(inside[t], after[0], 0.0)
                after = tuple(ops.where(inside[t], new, old) for new, old in zip(after, state, strict=True))
            state = after
        results.append(ops.stack(steps, 0) if steps else ops.zeros((0, batch, size), dtype=x.dtype, device=x.device))
        ends.append(state)
    y = ops.stack(results, 1)
    last = [ops.stack(each, 1 if layout else 0) for each in zip(*ends, strict=True)]
    return ops.transpose(y, (2, 0, 1, 3)) if layout else y, *last


def _inside(lengths: Any, length: int, device: str) -> list[Tensor] | None:
    """For each step, ``(batch, 1)``: whether a sequence is that long; None where all of them are."""
    if lengths is None or (isinstance(lengths, np.ndarray) and bool((lengths == length).all())):
        return None
    lengths = lengths if isinstance(lengths, Tensor) else as_tensor(lengths, device=device)
    ends = ops.unsqueeze(lengths, 1)
    return [ends > t for t in range(length)]


def _activations(call: Call, directions: int) -> list[list[Unary]]:
    """By direction."""
    given = call["activations"]
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[call.operator]
    names = given or (["Tanh"] if count == 1 else ["Sigmoid", "Tanh", "Tanh"][:count]) * directions
    alphas, betas = iter(call["activation_alpha"] or ()), iter(call["activation_beta"] or ())
    made = [_clipped(call, activation(call, name, alphas, betas)) for name in names[: count * directions]]
    if len(made) < count * directions:
        raise call.refuse(f"got {len(names)} activations; there must be {count} for each direction")
    return [made[i * count : (i + 1) * count] for i in range(directions)]


def activation(call: Call, name: str, alphas: Iterator[float], betas: Iterator[float]) -> Unary:
    """The function of that name; it takes from ``alphas`` and ``betas`` what it needs, as long as they last."""
    name = name.lower()
    if name in _PLAIN:
        return _PLAIN[name]
    if name in _WITH_ALPHA:
        one, default = _WITH_ALPHA[name]
        alpha = next(alphas, default)
        return lambda x: one(x, alpha)
    if name in _WITH_BOTH:
        both, first, second = _WITH_BOTH[name]
        a, b = next(alphas, first), next(betas, second)
        return lambda x: both(x, a, b)
    raise call.refuse(f"got the activation {name!r}; may be one of {', '.join((*_PLAIN, *_WITH_ALPHA, *_WITH_BOTH))}")


def _clipped(call: Call, function: Unary) -> Unary:
    clip = call["clip"]
    return (lambda x: function(ops.clip(x, -clip, clip))) if clip else function


def _recurrent(cell: Cell, h: Tensor) -> Tensor:
    return ops.linear(h, cell.recurrence, None if cell.bias is None else cell.bias[1])


# -- RNN -------------------------------------------------------------------------------------------------------------


@imports("RNN", known=(4,))
def _import_rnn(
    call: Call, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Any = None, h: Tensor | None = None
) -> Any:
    return _run(call, _rnn, 1, (x, w, r, b, lengths), (h,))


def _rnn(call: Call, cell: Cell, given: Tensor, state: State) -> State:
    return (cell.act[0](given + _recurrent(cell, state[0])),)


# -- GRU -------------------------------------------------------------------------------------------------------------


@imports("GRU", known=(4,))
def _import_gru(
    call: Call, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Any = None, h: Tensor | None = None
) -> Any:
    return _run(call, _gru_linear if call["linear_before_reset"] else _gru, 3, (x, w, r, b, lengths), (h,))


def _gru(call: Call, cell: Cell, given: Tensor, state: State) -> State:
    """The reset is of the state, before its product for the hidden gate."""
    (h,) = state
    size = h.shape[-1]
    bias = None if cell.bias is None else cell.bias[1]
    gates = given[:, : 2 * size] + ops.linear(
        h, cell.recurrence[: 2 * size], None if bias is None else bias[: 2 * size]
    )
    z, r = ops.split(cell.act[0](gates), size, 1)
    hidden = ops.linear(r * h, cell.recurrence[2 * size :], None if bias is None else bias[2 * size :])
    return (_mixed(z, cell.act[1](given[:, 2 * size :] + hidden), h),)


def _gru_linear(call: Call, cell: Cell, given: Tensor, state: State) -> State:
    """The reset is of that product, as in cuDNN."""
    (h,) = state
    size = h.shape[-1]
    again = _recurrent(cell, h)
    z, r = ops.split(cell.act[0](given[:, : 2 * size] + again[:, : 2 * size]), size, 1)
    return (_mixed(z, cell.act[1](given[:, 2 * size :] + r * again[:, 2 * size :]), h),)


def _mixed(z: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return (1.0 - z) * new + z * old


# -- LSTM ------------------------------------------------------------------------------------------------------------


@imports("LSTM", known=(4,))
def _import_lstm(
    call: Call,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Any = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
) -> Any:
    return _run(call, _lstm, 4, (x, w, r, b, lengths), (h, c), p)


def _lstm(call: Call, cell: Cell, given: Tensor, state: State) -> State:
    """With ``input_forget``, what is forgotten is what comes in. ``clip`` holds for the last activation, too, as ONNX
    says (ONNX Runtime does not clip there)."""
    h, c = state
    f, g, last = cell.act
    i_in, o_in, f_in, c_in = ops.split(given + _recurrent(cell, h), h.shape[-1], 1)
    peep = None if cell.peephole is None else ops.split(cell.peephole, h.shape[-1])
    i = f(i_in if peep is None else i_in + peep[0] * c)
    kept = 1.0 - i if call["input_forget"] else f(f_in if peep is None else f_in + peep[2] * c)
    c = kept * c + i * g(c_in)
    o = f(o_in if peep is None else o_in + peep[1] * c)
    return o * last(c), c
