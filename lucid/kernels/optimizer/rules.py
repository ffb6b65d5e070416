"""How an optimiser changes a parameter: the rules of section 10 of the law, each one expression in float64.

A rule (``@rule``) takes the parameter ``p``, its gradient ``g`` and what is remembered of it (``Wide``), and numbers
that the optimiser works out before (``lucid/optim``). It assigns what is new, and returns the parameter and the memory,
each narrowed once by whoever stores it. Memory that the settings do not ask for is None. Written, executed and printed
as the scalar functions are (``lucid/kernels/elementwise/functions.py``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from lucid.kernels.elementwise.functions import maximum
from lucid.kernels.elementwise.terms import Wide, magnitude, number, select, square_root


class Rule(NamedTuple):
    """A rule, and the names of what it remembers and of its numbers, in order."""

    function: Callable[..., Any]
    memory: tuple[str, ...]
    numbers: tuple[str, ...]


RULES: dict[str, Rule] = {}
"""The rules that a backend computes, by name."""


def rule(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make it a rule that a backend computes by name."""
    named = list(inspect.signature(function).parameters.values())[2:]
    memory = tuple(p.name for p in named if p.annotation == "Wide")
    RULES[function.__name__] = Rule(function, memory, tuple(p.name for p in named if p.name not in memory))
    return function


def minimised(g: Wide, p: Wide, weight_decay: float, maximize: bool) -> Wide:
    """The gradient of what is minimised, with weight decay."""
    d = g
    if maximize:
        d = -g
    if weight_decay:
        d = d + weight_decay * p
    return d


@rule
def adam(
    p: Wide,
    g: Wide,
    exp_avg: Wide,
    exp_avg_sq: Wide,
    max_exp_avg_sq: Wide,
    rest1: float,
    beta2: float,
    rest2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
    step_size: float,
    scale: float,
    amsgrad: bool,
    maximize: bool,
) -> tuple[Wide, ...]:
    g = minimised(g, p, weight_decay, maximize)
    p = p * shrink
    exp_avg = exp_avg + (g - exp_avg) * rest1
    exp_avg_sq = exp_avg_sq * beta2 + (g * g) * rest2
    top = exp_avg_sq
    if amsgrad:
        max_exp_avg_sq = maximum(max_exp_avg_sq, exp_avg_sq)
        top = max_exp_avg_sq
    p = p - step_size * (exp_avg / (square_root(top) * scale + eps))
    return p, exp_avg, exp_avg_sq, max_exp_avg_sq


@rule
def adamax(
    p: Wide,
    g: Wide,
    exp_avg: Wide,
    exp_inf: Wide,
    rest1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step_size: float,
    maximize: bool,
) -> tuple[Wide, ...]:
    g = minimised(g, p, weight_decay, maximize)
    exp_avg = exp_avg + (g - exp_avg) * rest1
    exp_inf = maximum(exp_inf * beta2, magnitude(g) + eps)
    p = p - step_size * (exp_avg / exp_inf)
    return p, exp_avg, exp_inf


@rule
def nadam(
    p: Wide,
    g: Wide,
    exp_avg: Wide,
    exp_avg_sq: Wide,
    rest1: float,
    beta2: float,
    rest2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
    scale: float,
    grad_size: float,
    avg_size: float,
    maximize: bool,
) -> tuple[Wide, ...]:
    g = minimised(g, p, weight_decay, maximize)
    p = p * shrink
    exp_avg = exp_avg + (g - exp_avg) * rest1
    exp_avg_sq = exp_avg_sq * beta2 + (g * g) * rest2
    p = p - (grad_size * g + avg_size * exp_avg) / (square_root(exp_avg_sq) * scale + eps)
    return p, exp_avg, exp_avg_sq


@rule
def radam(
    p: Wide,
    g: Wide,
    exp_avg: Wide,
    exp_avg_sq: Wide,
    rest1: float,
    beta2: float,
    rest2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
    step_size: float,
    adaptive: bool,
    maximize: bool,
) -> tuple[Wide, ...]:
    g = minimised(g, p, weight_decay, maximize)
    p = p * shrink
    exp_avg = exp_avg + (g - exp_avg) * rest1
    exp_avg_sq = exp_avg_sq * beta2 + (g * g) * rest2
    step = exp_avg
    if adaptive:
        step = exp_avg / (square_root(exp_avg_sq) + eps)
    p = p - step_size * step
    return p, exp_avg, exp_avg_sq


@rule
def adagrad(
    p: Wide, g: Wide, sum: Wide, eps: float, weight_decay: float, step_size: float, maximize: bool
) -> tuple[Wide, ...]:
    g = minimised(g, p, weight_decay, maximize)
    sum = sum + g * g
    p = p - step_size * (g / (square_root(sum) + eps))
    return p, sum


@rule
def adadelta(
    p: Wide,
    g: Wide,
    square_avg: Wide,
    acc_delta: Wide,
    lr: float,
    rho: float,
    rest: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> tuple[Wide, ...]:
    g = minimised(g, p, weight_decay, maximize)
    square_avg = square_avg * rho + (g * g) * rest
    delta = (square_root(acc_delta + eps) / square_root(square_avg + eps)) * g
    acc_delta = acc_delta * rho + (delta * delta) * rest
    p = p - lr * delta
    return p, square_avg, acc_delta


@rule
def rmsprop(
    p: Wide,
    g: Wide,
    square_avg: Wide,
    momentum_buffer: Wide,
    grad_avg: Wide,
    lr: float,
    alpha: float,
    rest: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> tuple[Wide, ...]:
    g = minimised(g, p, weight_decay, maximize)
    square_avg = square_avg * alpha + (g * g) * rest
    spread = square_avg
    if centered:
        grad_avg = grad_avg + (g - grad_avg) * rest
        spread = square_avg - grad_avg * grad_avg
    step = g / (square_root(spread) + eps)
    if momentum:
        momentum_buffer = momentum_buffer * momentum + step
        step = momentum_buffer
    p = p - lr * step
    return p, square_avg, momentum_buffer, grad_avg


@rule
def rprop(
    p: Wide,
    g: Wide,
    prev: Wide,
    step_size: Wide,
    etaminus: float,
    etaplus: float,
    least: float,
    most: float,
    maximize: bool,
) -> tuple[Wide, ...]:
    if maximize:
        g = -g
    turn = g * prev
    step_size = step_size * select(turn > 0.0, number(etaplus, g), select(turn < 0.0, number(etaminus, g), 1.0))
    step_size = select(turn == turn, step_size, turn)
    step_size = select(step_size < least, number(least, g), select(step_size > most, number(most, g), step_size))
    prev = select(turn < 0.0, 0.0, g)
    p = p - select(prev > 0.0, 1.0, select(prev < 0.0, -1.0, prev)) * step_size
    return p, prev, step_size


@rule
def asgd(
    p: Wide,
    g: Wide,
    ax: Wide,
    weight_decay: float,
    shrink: float,
    eta: float,
    mu: float,
    averaged: bool,
    maximize: bool,
) -> tuple[Wide, ...]:
    g = minimised(g, p, weight_decay, maximize)
    p = p * shrink - eta * g
    before = ax
    ax = p
    if averaged:
        ax = before + (p - before) * mu
    return p, ax
