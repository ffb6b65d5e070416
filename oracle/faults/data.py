"""Faults of data: bits, permutations, layouts, what is no number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from oracle.case.case import Case
from oracle.faults.fault import Array, Context, Injection, Site, changed, fault
from oracle.graph.graph import INPUT, Node

WEIGHTED: tuple[str, ...] = ("conv", "linear")
EVERY: tuple[str, ...] = ("conv", "norm", "relu", "max pool", "average pool", "linear")
# Bits that a budget can be asked to see: from the sign to an eighth of the fraction. A flip below that is smaller than
# what rounding leaves, and shows to the digest of an exact subject alone.
BITS = (31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20)


def _square(layer: Node, case: Case) -> bool:
    shape = case.graph.state[layer.parameters["weight"]]
    return shape[0] == shape[1]


def _channels(layer: Node, case: Case) -> bool:
    return INPUT not in layer.inputs


def flip(array: Array, place: int, bit: int) -> Array:
    """One bit of one float32 element the other way.

    Example:
        >>> flip(np.ones(1, np.float32), 0, 31)
        array([-1.], dtype=float32)
    """
    flipped = np.array(array, np.float32, order="C")
    flipped.reshape(-1).view(np.uint32)[place] ^= np.uint32(1 << bit)
    return flipped


def _lively(site: Site, array: Array) -> int:
    """Where an element of at least average size is."""
    flat = np.abs(array.reshape(-1))
    places = np.flatnonzero(flat >= flat.mean())
    return int(places[site.draw.integer(len(places))])


def _one_weight(site: Site, change: Callable[[Array, int], Array]) -> Injection:
    return Injection(parameters={"weight": lambda weight: change(weight, _lively(site, weight))})


@fault(
    "bit flipped in a weight", "data", "One bit of one weight, from the sign to an eighth of the fraction.", *WEIGHTED
)
def _weight_bit(site: Site) -> Injection:
    bit = site.draw.pick(BITS)
    return _one_weight(site, lambda weight, place: flip(weight, place, bit))


@fault("bit flipped in an activation", "data", "One bit of one output.", *EVERY)
def _activation_bit(site: Site) -> Injection:
    bit = site.draw.pick(BITS)
    return Injection(output=lambda c: flip(c.y, _lively(site, c.y), bit))


@fault(
    "bit flipped in a gradient",
    "data",
    "One bit of one element of the input's gradient.",
    *EVERY,
    strikes="backward",
    where=_channels,
)
def _gradient_bit(site: Site) -> Injection:
    bit = site.draw.pick(BITS)
    return Injection(input_gradient=lambda c: flip(c.dx, _lively(site, c.dx), bit))


@fault(
    "low bit flipped in an activation",
    "data",
    "The lowest bit of one output: less than rounding leaves.",
    "conv",
    "norm",
)
def _low_bit(site: Site) -> Injection:
    return Injection(output=lambda c: flip(c.y, _lively(site, c.y), 0))


@fault("weight off by 1 %", "data", "One weight of a convolution or of the classifier is 1 % too large.", *WEIGHTED)
def _one_percent(site: Site) -> Injection:
    def change(weight: Array, place: int) -> Array:
        wrong = changed(weight)
        wrong.reshape(-1)[place] *= np.float32(1.01)
        return wrong

    return _one_weight(site, change)


@fault("weight's sign", "data", "One weight has the wrong sign.", *WEIGHTED)
def _sign(site: Site) -> Injection:
    return _one_weight(site, lambda weight, place: flip(weight, place, 31))


@fault("weight zeroed", "data", "One weight is zero.", *WEIGHTED)
def _zeroed(site: Site) -> Injection:
    def change(weight: Array, place: int) -> Array:
        wrong = changed(weight)
        wrong.reshape(-1)[place] = 0
        return wrong

    return _one_weight(site, change)


@fault("scale off by 1 %", "data", "One channel's scale in a normalisation is 1 % too large.", "norm")
def _scale(site: Site) -> Injection:
    def change(weight: Array) -> Array:
        wrong = changed(weight)
        wrong[site.draw.integer(len(wrong))] *= np.float32(1.01)
        return wrong

    return Injection(parameters={"weight": change})


@fault("weight transposed", "data", "Output and input channels of the weight are exchanged.", "conv", where=_square)
def _transposed(site: Site) -> Injection:
    return Injection(parameters={"weight": lambda weight: np.ascontiguousarray(weight.swapaxes(0, 1))})


@fault("output channels exchanged", "data", "Two output channels of the weight change places.", *WEIGHTED)
def _outputs(site: Site) -> Injection:
    def change(weight: Array) -> Array:
        order = np.arange(len(weight))
        first = site.draw.integer(len(weight) - 1)
        order[[first, first + 1]] = order[[first + 1, first]]
        return np.ascontiguousarray(weight[order])

    return Injection(parameters={"weight": change})


@fault("input channels exchanged", "data", "Two input channels of the weight change places.", *WEIGHTED)
def _inputs(site: Site) -> Injection:
    def change(weight: Array) -> Array:
        order = np.arange(weight.shape[1])
        first = site.draw.integer(weight.shape[1] - 1)
        order[[first, first + 1]] = order[[first + 1, first]]
        return np.ascontiguousarray(weight[:, order])

    return Injection(parameters={"weight": change})


@fault("one channel permuted", "data", "Two channels of the output change places.", "conv", "norm")
def _permuted(site: Site) -> Injection:
    def output(c: Context) -> Array:
        y = changed(c.y)
        first = site.draw.integer(y.shape[1] - 1)
        y[:, [first, first + 1]] = y[:, [first + 1, first]]
        return y

    return Injection(output=output)


@fault(
    "NHWC read as NCHW",
    "data",
    "The output is stored channels last and read channels first.",
    "conv",
    "norm",
    "max pool",
)
def _layout(site: Site) -> Injection:
    return Injection(output=lambda c: np.ascontiguousarray(c.y.transpose(0, 2, 3, 1)).reshape(c.y.shape))


@fault("NaN in one element", "data", "One output is no number.", *EVERY)
def _nan(site: Site) -> Injection:
    return Injection(output=lambda c: _with(c.y, site, np.nan))


@fault("infinity in one element", "data", "One output is infinite.", *EVERY)
def _infinity(site: Site) -> Injection:
    return Injection(output=lambda c: _with(c.y, site, np.inf))


def _with(array: Array, site: Site, value: float) -> Array:
    wrong = changed(array)
    wrong.reshape(-1)[site.draw.integer(wrong.size)] = value
    return wrong


@fault("weights of another layer", "data", "The weight is scaled as if for another fan-in: 10 % too large.", "conv")
def _ten_percent(site: Site) -> Injection:
    return Injection(parameters={"weight": lambda weight: weight * np.float32(1.1)})
