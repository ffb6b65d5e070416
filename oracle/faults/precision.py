"""Faults of precision: a format that was not asked for, sums in half precision, approximate functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from oracle.faults.fault import Array, Context, Injection, Site, fault
from oracle.precision.difference import Precision
from oracle.precision.rounding import round_to

CONTRACTIONS: tuple[str, ...] = ("conv", "linear")
# A sum in half precision is rounded after each of so many blocks of input channels, at most.
BLOCKS = 64


def to_tf32(array: Array) -> Array:
    """The nearest numbers with 10 bits of fraction.

    Example:
        >>> float(to_tf32(np.array([1 + 2.0**-11 + 2.0**-12], np.float32))[0]) == 1 + 2.0**-10
        True
    """
    bits = np.array(array, np.float32, order="C").view(np.uint32)
    odd = (bits >> np.uint32(13)) & np.uint32(1)
    return ((bits + np.uint32(0xFFF) + odd) & np.uint32(0xFFFFE000)).view(np.float32)


def _contracted(site: Site, x: Array, weight: Array) -> Array:
    if site.layer.op == "conv":
        return site.conv(x, weight)
    return (x @ weight.T + site.parameter("bias")).astype(np.float32)


def _operands(site: Site, to: Callable[[Array], Array]) -> Injection:
    def output(c: Context) -> Array:
        weight = site.parameter("weight")
        wrong, right = _contracted(site, to(c.x), to(weight)), _contracted(site, c.x, weight)
        return np.where(wrong == right, c.y, wrong)

    return Injection(output=output)


@fault("TF32 operands", "precision", "A contraction takes its operands in TF32.", *CONTRACTIONS)
def _tf32(site: Site) -> Injection:
    return _operands(site, to_tf32)


@fault("bfloat16 operands", "precision", "A contraction takes its operands in bfloat16.", *CONTRACTIONS)
def _bfloat16(site: Site) -> Injection:
    return _operands(site, lambda array: round_to(array, "bfloat16"))


@fault("float16 operands", "precision", "A contraction takes its operands in float16.", *CONTRACTIONS)
def _float16(site: Site) -> Injection:
    return _operands(site, lambda array: round_to(array, "float16"))


@fault(
    "weights in bfloat16",
    "precision",
    "The weights were stored in bfloat16 and widened again.",
    "conv",
    "linear",
    "norm",
)
def _stored(site: Site) -> Injection:
    return Injection(parameters={"weight": lambda weight: round_to(weight, "bfloat16")})


@fault("weights in 8 bits", "precision", "The weights were quantised to 255 steps.", *CONTRACTIONS)
def _quantised(site: Site) -> Injection:
    def change(weight: Array) -> Array:
        step = np.abs(weight).max() / 127
        return (np.round(weight / step) * step).astype(np.float32)

    return Injection(parameters={"weight": change})


def _rounded_sums(site: Site, to: Precision) -> Injection:
    def output(c: Context) -> Array:
        weight = site.parameter("weight")
        total = np.zeros_like(c.y)
        for part in np.array_split(np.arange(weight.shape[1]), min(BLOCKS, weight.shape[1])):
            only = np.zeros_like(weight)
            only[:, part] = weight[:, part]
            total = round_to(total + site.conv(c.x, only), to)
        return total

    return Injection(output=output)


@fault("sums in float16", "precision", "A convolution adds in float16.", "conv")
def _half(site: Site) -> Injection:
    return _rounded_sums(site, "float16")


@fault("sums in bfloat16", "precision", "A convolution adds in bfloat16.", "conv")
def _brain(site: Site) -> Injection:
    return _rounded_sums(site, "bfloat16")


@fault("output in bfloat16", "precision", "The output is stored in bfloat16.", "conv", "norm", "linear", "average pool")
def _output(site: Site) -> Injection:
    return Injection(output=lambda c: round_to(c.y, "bfloat16"))


@fault("output in float16", "precision", "The output is stored in float16.", "conv", "norm", "linear", "average pool")
def _output16(site: Site) -> Injection:
    return Injection(output=lambda c: round_to(c.y, "float16"))


@fault(
    "gradient in bfloat16",
    "precision",
    "The input's gradient is stored in bfloat16.",
    "conv",
    "norm",
    "linear",
    strikes="backward",
    where=lambda layer, case: "input" not in layer.inputs,
)
def _gradient(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: round_to(c.dx, "bfloat16"))


@fault(
    "gradient in float16",
    "precision",
    "The input's gradient is stored in float16, whose smallest numbers are large.",
    "conv",
    "norm",
    "linear",
    strikes="backward",
    where=lambda layer, case: "input" not in layer.inputs,
)
def _gradient16(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: round_to(c.dx, "float16"))


@fault("flush to zero", "precision", "Subnormal results become zero.", "conv", "norm", needs="a subnormal result")
def _flush(site: Site) -> Injection:
    return Injection(output=lambda c: np.where(np.abs(c.y) < np.finfo(np.float32).tiny, np.float32(0), c.y))


@fault(
    "flush to zero of gradients in float16",
    "precision",
    "Gradients below float16's normal numbers become zero.",
    "conv",
    "norm",
    strikes="backward",
    where=lambda layer, case: "input" not in layer.inputs,
)
def _flush16(site: Site) -> Injection:
    return Injection(input_gradient=lambda c: np.where(np.abs(c.dx) < np.finfo(np.float16).tiny, np.float32(0), c.dx))


@fault("fast reciprocal root", "precision", "A normalisation's 1/sqrt has 12 bits, without a Newton step.", "norm")
def _fast_root(site: Site) -> Injection:
    def output(c: Context) -> Array:
        shift = site.parameter("bias").reshape(1, -1, 1, 1)
        x = c.x.astype(np.float64)
        batch = site.case.mode == "train"
        var = x.var((0, 2, 3)) if batch else site.parameter("running_var").astype(np.float64)
        exact = 1 / np.sqrt(var + 1e-5)
        coarse = np.ldexp(np.round(np.ldexp(np.frexp(exact)[0], 12)), np.frexp(exact)[1] - 12)
        return ((c.y - shift) * (coarse / exact).reshape(1, -1, 1, 1) + shift).astype(np.float32)

    return Injection(output=output)


@fault("fast exponential", "precision", "The loss's exponential is good to four digits.", "loss", strikes="backward")
def _fast_exponential(site: Site) -> Injection:
    def gradient(c: Context) -> Array:
        rows = len(c.dx)
        label = np.zeros_like(c.dx)
        label[np.arange(rows), site.case.labels] = np.float32(1 / rows)
        return ((c.dx + label) * np.float32(1 + 1e-4) - label).astype(np.float32)

    return Injection(input_gradient=gradient)


@fault("fast division", "precision", "A mean multiplies by a reciprocal of 12 bits.", "average pool")
def _fast_division(site: Site) -> Injection:
    return Injection(output=lambda c: c.y * np.float32(1 + 2.0**-12))


@fault("loss in bfloat16", "precision", "The loss is computed from logits in bfloat16.", "loss", modes=("train",))
def _loss(site: Site) -> Injection:
    return Injection(input=lambda c: round_to(c.x, "bfloat16"))
