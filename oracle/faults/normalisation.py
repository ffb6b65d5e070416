"""Faults of batch normalisation: its constant, its variance, its statistics, its affine part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from oracle.faults.fault import Array, Context, Injection, Site, fault

NORM: str = "norm"
AXES = (0, 2, 3)
BATCH = ("train",)
STORED = ("eval",)


def _columns(values: Any) -> Array:
    return np.asarray(values, np.float64).reshape(1, -1, 1, 1)


def _normalised(site: Site, change: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Injection:
    """The layer with other statistics: ``change`` takes the input, its mean and its biased variance."""

    eps = site.layer.attributes["eps"]

    def normal(x: Array, mean: Array, var: Array) -> Array:
        y = (x - mean) / np.sqrt(var + eps) * _columns(site.parameter("weight")) + _columns(site.parameter("bias"))
        return y.astype(np.float32)

    def output(c: Context) -> Array:
        x = c.x.astype(np.float64)
        if site.case.mode == "train":
            mean, var = x.mean(AXES, keepdims=True), x.var(AXES, keepdims=True)
        else:
            mean, var = _columns(site.parameter("running_mean")), _columns(site.parameter("running_var"))
        wrong, right = normal(x, *change(x, mean, var)), normal(x, mean, var)
        return np.where(wrong == right, c.y, wrong)

    return Injection(output=output)


@fault("eps too large", "normalisation", "eps is 1e-3.", NORM)
def _eps(site: Site) -> Injection:
    return Injection(attributes={"eps": 1e-3})


@fault("eps too small", "normalisation", "eps is 1e-12.", NORM)
def _tiny(site: Site) -> Injection:
    return Injection(attributes={"eps": 1e-12})


@fault("eps outside the root", "normalisation", "eps is added to the standard deviation.", NORM)
def _outside(site: Site) -> Injection:
    eps = site.layer.attributes["eps"]
    return _normalised(site, lambda x, mean, var: (mean, np.square(np.sqrt(var) + eps) - eps))


@fault("unbiased variance", "normalisation", "The batch is normalised by its unbiased variance.", NORM, modes=BATCH)
def _unbiased(site: Site) -> Injection:
    def change(x: Array, mean: Array, var: Array) -> tuple[Array, Array]:
        count = x.size / x.shape[1]
        return mean, var * count / (count - 1)

    return _normalised(site, change)


@fault(
    "statistics of the first image",
    "normalisation",
    "Mean and variance are the first image's alone.",
    NORM,
    modes=BATCH,
    where=lambda layer, case: case.batch > 1,
)
def _first(site: Site) -> Injection:
    return _normalised(site, lambda x, mean, var: (x[:1].mean(AXES, keepdims=True), x[:1].var(AXES, keepdims=True)))


@fault("statistics without the last row", "normalisation", "The sums leave out the last row.", NORM, modes=BATCH)
def _last_row(site: Site) -> Injection:
    def change(x: Array, mean: Array, var: Array) -> tuple[Array, Array]:
        part = x[:, :, :-1] if x.shape[2] > 1 else x[:1]
        return part.mean(AXES, keepdims=True), part.var(AXES, keepdims=True)

    return _normalised(site, change)


@fault("variance around zero", "normalisation", "The variance is the mean of the squares.", NORM, modes=BATCH)
def _around_zero(site: Site) -> Injection:
    return _normalised(site, lambda x, mean, var: (mean, var + mean * mean))


@fault("channel statistics one off", "normalisation", "Each channel takes the mean of the one before it.", NORM)
def _one_off(site: Site) -> Injection:
    return _normalised(site, lambda x, mean, var: (np.roll(mean, 1, 1), var))


@fault(
    "stored statistics in training",
    "normalisation",
    "A train step normalises by the stored statistics.",
    NORM,
    modes=BATCH,
)
def _stored(site: Site) -> Injection:
    return Injection(training=False)


@fault("batch statistics in eval", "normalisation", "An eval run normalises by the batch.", NORM, modes=STORED)
def _batch(site: Site) -> Injection:
    return Injection(training=True)


@fault(
    "stale statistics", "normalisation", "The stored statistics are those of a new module, 0 and 1.", NORM, modes=STORED
)
def _stale(site: Site) -> Injection:
    return Injection(parameters={"running_mean": np.zeros_like, "running_var": np.ones_like})


@fault("variance for its root", "normalisation", "The division is by the variance.", NORM)
def _no_root(site: Site) -> Injection:
    eps = site.layer.attributes["eps"]
    return _normalised(site, lambda x, mean, var: (mean, np.square(var + eps) - eps))


@fault("no affine part", "normalisation", "Scale and shift are left out.", NORM)
def _no_affine(site: Site) -> Injection:
    return Injection(parameters={"weight": np.ones_like, "bias": np.zeros_like})


@fault("no shift", "normalisation", "The shift is left out.", NORM)
def _no_shift(site: Site) -> Injection:
    return Injection(parameters={"bias": np.zeros_like})


@fault("scale applied twice", "normalisation", "The scale is applied twice.", NORM)
def _squared(site: Site) -> Injection:
    return Injection(parameters={"weight": np.square})


@fault(
    "momentum the other way round",
    "normalisation",
    "The running statistics keep a tenth and take nine.",
    NORM,
    strikes="statistics",
)
def _momentum(site: Site) -> Injection:
    return Injection(attributes={"momentum": 1 - site.layer.attributes["momentum"]})


@fault(
    "running statistics not updated",
    "normalisation",
    "The running statistics stay as they were.",
    NORM,
    strikes="statistics",
)
def _frozen(site: Site) -> Injection:
    return Injection(attributes={"momentum": 0.0})


def _running(site: Site, mean: Callable[[Array], Array], var: Callable[[Array], Array]) -> Injection:
    """The running statistics take these of the batch, a tenth of them."""

    def statistics(c: Context) -> dict[str, Array]:
        x = c.x.astype(np.float64)
        kept = {name: site.parameter(name).astype(np.float64) for name in ("running_mean", "running_var")}
        taken = {"running_mean": mean(x), "running_var": var(x)}
        momentum = site.layer.attributes["momentum"]
        return {name: (kept[name] + momentum * (taken[name] - kept[name])).astype(np.float32) for name in kept}

    return Injection(statistics=statistics)


def _unbiased_var(x: Array) -> Array:
    return x.var(AXES, ddof=1)


@fault(
    "running statistics of the first image",
    "normalisation",
    "The running statistics take the first image's alone.",
    NORM,
    strikes="statistics",
    where=lambda layer, case: case.batch > 1,
)
def _running_first(site: Site) -> Injection:
    return _running(site, lambda x: x[:1].mean(AXES), lambda x: _unbiased_var(x[:1]))


@fault(
    "running variance biased",
    "normalisation",
    "The running variance takes the biased variance.",
    NORM,
    strikes="statistics",
)
def _running_biased(site: Site) -> Injection:
    return _running(site, lambda x: x.mean(AXES), lambda x: x.var(AXES))
