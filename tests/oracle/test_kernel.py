"""The check of one kernel: healthy ones agree in every precision, broken ones fail and are described."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.optim.adam import adam as adam_step

import lucid
import oracle
from oracle.errors import UsageError
from oracle.kernel.bounded import Arithmetic
from oracle.kernel.check import arithmetic_of
from oracle.kernel.operations import OPERATIONS
from oracle.precision.rounding import round_to
from oracle.testing import KernelOutOfLineError, assert_kernel, assert_within_budget

SINGLE = ("float32", "bfloat16", "float16")


ELEMENTARY = ("erf", "exp2", "expm1", "log2", "log1p", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arctan2")


def single(fn: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Low precision is computed in float32, and stored as the inputs are."""

    def kernel(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        of = torch.float64 if x.dtype == torch.float64 else torch.float32
        return fn(x.to(of), *(each.to(of) for each in rest)).to(x.dtype)

    return kernel


def _rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def _adam(decoupled: bool, **changed: float) -> Callable[..., torch.Tensor]:
    """PyTorch's step, on copies."""
    numbers = {"beta1": 0.9, "beta2": 0.999, "lr": 1e-3, "weight_decay": 0.01, "eps": 1e-8} | changed

    def kernel(param: torch.Tensor, grad: torch.Tensor, mean: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        param = param.clone()
        adam_step(
            [param], [grad], [mean.clone()], [square.clone()], [], [torch.tensor(0.0)], foreach=False, amsgrad=False,
            maximize=False, decoupled_weight_decay=decoupled, **numbers,  # type: ignore[arg-type]
        )  # fmt: skip
        return param

    return kernel


# PyTorch's kernels: a healthy implementation that shares no code with the check.
HEALTHY: list[tuple[str, Callable[..., Any], dict[str, Any]]] = [
    ("exp", torch.exp, {}),
    ("log", torch.log, {}),
    ("sqrt", torch.sqrt, {}),
    ("relu", torch.relu, {}),
    ("sigmoid", torch.sigmoid, {}),
    ("tanh", torch.tanh, {}),
    ("silu", F.silu, {}),
    ("sin", torch.sin, {}),
    ("cos", torch.cos, {}),
    ("leaky_relu", lambda x: F.leaky_relu(x, 0.2), {"negative_slope": 0.2}),
    ("gelu", F.gelu, {}),
    ("gelu", F.gelu, {"approximate": "tanh"}),
    ("clip", lambda x: torch.clamp(x, -1, 1), {"min_value": -1, "max_value": 1}),
    ("add", torch.add, {}),
    ("multiply", torch.mul, {}),
    ("divide", torch.div, {}),
    ("maximum", torch.maximum, {}),
    ("matmul", torch.matmul, {}),
    ("linear", F.linear, {}),
    ("conv2d", F.conv2d, {}),
    ("conv2d", F.conv2d, {"stride": 2, "padding": 1, "groups": 3}),
    ("conv2d", F.conv2d, {"dilation": 2, "padding": 2}),
    ("batch_norm", F.batch_norm, {}),
    ("batch_norm", F.batch_norm, {"training": True}),
    ("layer_norm", F.layer_norm, {}),
    ("max_pool2d", F.max_pool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool2d", F.avg_pool2d, {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
    ("adaptive_avg_pool2d", F.adaptive_avg_pool2d, {"output_size": (3, 2)}),
    ("softmax", lambda x: F.softmax(x, -1), {"axis": -1}),
    ("log_softmax", lambda x: F.log_softmax(x, -1), {"axis": -1}),
    ("cross_entropy", F.cross_entropy, {}),
    ("cross_entropy", F.cross_entropy, {"reduction": "none"}),
    ("sum", lambda x: x.sum(-1), {"axis": -1}),
    ("mean", lambda x: x.mean(-1), {"axis": -1}),
    ("cumsum", lambda x: x.cumsum(-1), {"axis": -1}),
    ("amax", lambda x: x.amax(-1), {"axis": -1}),
    ("sort", lambda x: x.sort(-1)[0], {"axis": -1}),
    *[(name, getattr(torch, name), {}) for name in ELEMENTARY],
    ("power", lambda x: x**2.5, {"exponent": 2.5}),
    ("power_of", torch.pow, {}),
    ("bmm", torch.bmm, {}),
    ("einsum", lambda a, b: torch.einsum("bij,bkj->bik", a, b), {"equation": "bij,bkj->bik"}),
    ("logsumexp", single(lambda x: torch.logsumexp(x, -1)), {"axis": -1}),
    ("rms_norm", single(lambda x, w: F.rms_norm(x, x.shape[-1:], w, 1e-6)), {"eps": 1e-6}),
    ("group_norm", F.group_norm, {"num_groups": 2}),
    ("instance_norm", single(lambda x, w, b: F.instance_norm(x, None, None, w, b)), {}),
    ("scaled_dot_product_attention", F.scaled_dot_product_attention, {}),
    ("scaled_dot_product_attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        {"is_causal": True}),
    ("scaled_dot_product_attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        {"enable_gqa": True}),
    ("masked_attention", F.scaled_dot_product_attention, {}),
    ("embedding", F.embedding, {}),
    ("rotary_embedding", _rotary, {}),
    ("swiglu", single(lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1]), {}),
    ("interpolate", single(lambda x: F.interpolate(x, (7, 12), mode="bilinear")), {}),
    ("interpolate", single(lambda x: F.interpolate(x, (5, 9), mode="bicubic", align_corners=True)),
        {"size": (5, 9), "mode": "bicubic", "align_corners": True}),
    ("grid_sample", single(lambda x, grid: F.grid_sample(x, grid, align_corners=False)), {}),
    ("adam", single(_adam(decoupled=False)), {}),
    ("adamw", single(_adam(decoupled=True)), {}),
]  # fmt: skip


# Not in low precision: PyTorch has no kernels there, or adds windows up in it.
SIDES: list[tuple[str, Callable[..., Any], dict[str, Any]]] = [
    ("conv1d", F.conv1d, {"stride": 2, "padding": 1}),
    ("conv3d", F.conv3d, {"padding": 1}),
    ("conv_transpose1d", F.conv_transpose1d, {"stride": 2}),
    ("conv_transpose2d", F.conv_transpose2d, {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    ("conv_transpose3d", F.conv_transpose3d, {"dilation": 2}),
    ("max_pool1d", F.max_pool1d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool3d", F.max_pool3d, {"kernel_size": 2}),
    ("avg_pool1d", F.avg_pool1d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("avg_pool3d", F.avg_pool3d, {"kernel_size": 2, "ceil_mode": True}),
    ("adaptive_avg_pool3d", F.adaptive_avg_pool3d, {"output_size": (2, None, 3)}),
]  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("op", "fn", "attributes"), SIDES, ids=[op for op, *_ in SIDES])
def test_windows_of_one_to_three_sides(
    op: str, fn: Callable[..., Any], attributes: dict[str, Any], precision: str
) -> None:
    verdict = oracle.check_kernel(fn, op, precision=precision, **attributes)
    assert verdict.agrees, verdict.sentence()
    assert not verdict.notes


@pytest.mark.parametrize("precision", SINGLE)  # float64: see the truths below
@pytest.mark.parametrize(("op", "fn", "attributes"), HEALTHY, ids=[f"{op}-{i}" for i, (op, *_) in enumerate(HEALTHY)])
def test_healthy_kernels_agree(op: str, fn: Callable[..., Any], attributes: dict[str, Any], precision: str) -> None:
    verdict = oracle.check_kernel(fn, op, precision=precision, **attributes)
    assert verdict.agrees, verdict.sentence()
    assert verdict.checks > 20
    assert not verdict.refused, verdict.refused
    if OPERATIONS[op].backward is not None:
        assert not verdict.notes  # gradients were checked too


def low(fn: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Computed in float32, stored as the first input is."""

    def kernel(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return fn(x.float(), *(each.float() for each in rest)).to(x.dtype)

    return kernel


def _without_last(x: torch.Tensor) -> torch.Tensor:
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e[..., : max(1, e.shape[-1] - 1)].sum(-1, keepdim=True)


def _tail(x: torch.Tensor, tile: int = 16) -> torch.Tensor:
    whole = x.shape[-1] // tile * tile or x.shape[-1]
    return x[..., :whole].sum(-1)


def _one_percent(x: torch.Tensor) -> torch.Tensor:
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / (e.sum(-1, keepdim=True) - (e[..., ::128].sum(-1, keepdim=True) if e.shape[-1] > 128 else 0))


def _cut(x: torch.Tensor) -> torch.Tensor:
    """A softmax in bfloat16 whose store cuts off."""
    y = torch.softmax(x.float(), -1)
    return (y.view(torch.int32) & -65536).view(torch.float32).to(torch.bfloat16)


def _layer_norm(eps: float = 1e-5, unbiased: bool = False) -> Callable[..., torch.Tensor]:
    def kernel(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        v = x.var(-1, keepdim=True, correction=int(unbiased and x.shape[-1] > 1))
        return (x - x.mean(-1, keepdim=True)) / torch.sqrt(v + eps) * weight + bias

    return kernel


def _short_erf(x: torch.Tensor) -> torch.Tensor:
    """Abramowitz and Stegun's 7.1.27, which is off by 5e-4."""
    t = x.abs()
    u = 1 + t * (0.278393 + t * (0.230389 + t * (0.000972 + t * 0.078108)))
    return torch.copysign(1 - 1 / u**4, x)


def _peeking(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril(1)
    return F.scaled_dot_product_attention(query, key, value, mask)


BROKEN: list[tuple[str, str, Callable[..., Any], dict[str, Any]]] = [
    ("softmax, last column", "float32", _without_last, {}),
    ("softmax, last column", "bfloat16", low(_without_last), {}),
    ("softmax, 1 % of the terms", "bfloat16", low(_one_percent), {}),
    ("softmax, truncating store", "bfloat16", _cut, {}),
    ("softmax, a factor", "bfloat16", low(lambda x: torch.softmax(x, -1) * (1 + 2**-11)), {}),
    ("softmax, fast exp", "float32", lambda x: torch.softmax(x * (1 + 2e-6), -1), {}),
    ("softmax, wrong axis", "float32", lambda x: torch.softmax(x, 0), {"axis": -1}),
    ("sum, tail", "float32", _tail, {"axis": -1}),
    ("sum, sums in storage", "bfloat16", lambda x: x.cumsum(-1)[..., -1] if x.numel() and x.shape[-1] < 0 else
        torch.stack([_running(row) for row in x.reshape(-1, x.shape[-1])]).reshape(x.shape[:-1]), {"axis": -1}),
    ("relu, lost NaN", "float32", lambda x: torch.where(x > 0, x, torch.zeros_like(x)), {}),
    ("multiply, lost sign of zero", "float32", lambda a, b: a * b + 0.0, {}),
    ("gelu, tanh form", "float32", lambda x: F.gelu(x, approximate="tanh"), {}),
    ("layer_norm, eps", "float32", _layer_norm(1.1e-5), {}),
    ("layer_norm, unbiased", "float16", low(_layer_norm(unbiased=True)), {}),
    ("matmul, a k left out", "float32", lambda a, b: a[:, :-1] @ b[:-1], {}),
    ("matmul, one rounding too many", "float32", lambda a, b: (a.half() @ b.half()).float(), {}),
    ("conv2d, kernel flipped", "float32", lambda x, w, b: F.conv2d(x, w.flip(-1), b), {}),
    ("conv2d, bias of the last channel", "float32",
        lambda x, w, b: F.conv2d(x, w, torch.cat([b[:-1], torch.zeros_like(b[-1:])])), {}),
    ("max_pool2d, padding as zero", "float32",
        lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("batch_norm, unbiased", "float32", lambda x, m, v, w, b: F.batch_norm(
        x, None, None, w, b, True) * (1 - 1 / x[:, 0].numel()) ** 0.5, {"training": True}),
    ("erf, a short polynomial", "float32", _short_erf, {}),
    ("arctan2, a quotient", "float32", lambda a, b: torch.atan(a / b), {}),
    ("power_of, of the magnitude", "float32", lambda a, b: torch.pow(a, b.abs()), {}),
    ("bmm, the first of the batch", "float32", lambda a, b: a @ b[:1], {}),
    ("einsum, not turned", "float32", lambda a, b: torch.einsum("bij,bjk->bik", a, b.mT) * (1 + 2**-11),
        {"equation": "bij,bkj->bik"}),
    ("logsumexp, no maximum", "float32", lambda x: torch.log(torch.exp(x).sum(-1)), {}),
    ("rms_norm, eps", "float32", lambda x, w: F.rms_norm(x, x.shape[-1:], w, 2e-6), {"eps": 1e-6}),
    ("group_norm, other groups", "float32", lambda x, w, b: F.group_norm(x, 1, w, b), {"num_groups": 2}),
    ("instance_norm, of the batch", "float32", lambda x, w, b: F.batch_norm(x, None, None, w, b, True), {}),
    ("scaled_dot_product_attention, not scaled", "bfloat16",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0), {}),
    ("masked_attention, mask left out", "float32", lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v), {}),
    ("scaled_dot_product_attention, a key too many", "float32", _peeking, {"is_causal": True}),
    ("scaled_dot_product_attention, heads in turn", "float32", lambda q, k, v: F.scaled_dot_product_attention(
        q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1)), {"enable_gqa": True}),
    ("embedding, the last row", "float32", lambda input, weight: weight[input.clamp(max=max(0, len(weight) - 2))], {}),
    ("rotary_embedding, the other way", "float32", lambda x, cos, sin: _rotary(x, cos, -sin), {}),
    ("swiglu, halves exchanged", "float32", lambda x: F.silu(x.chunk(2, -1)[1]) * x.chunk(2, -1)[0], {}),
    ("interpolate, corners", "float32",
        lambda x: F.interpolate(x, (7, 12), mode="bilinear", align_corners=True), {}),
    ("grid_sample, corners", "float32", lambda x, grid: F.grid_sample(x, grid, align_corners=True), {}),
    ("adam, decoupled", "float32", _adam(decoupled=True), {}),
    ("adamw, eps", "float32", _adam(decoupled=True, eps=1e-6), {}),
    ("cross_entropy, sum for mean", "float32", lambda x, target: F.cross_entropy(x, target, reduction="sum"), {}),
]  # fmt: skip


def _running(row: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=row.dtype)
    for value in row[:4096]:
        total = total + value
    return total + row[4096:].sum()


@pytest.mark.parametrize(("name", "precision", "fn", "attributes"), BROKEN, ids=[f"{n}-{p}" for n, p, *_ in BROKEN])
def test_broken_kernels_are_caught(
    name: str, precision: str, fn: Callable[..., Any], attributes: dict[str, Any]
) -> None:
    verdict = oracle.check_kernel(fn, name.partition(",")[0], precision=precision, **attributes)
    assert not verdict.agrees
    assert verdict.first is not None
    assert verdict.first.reproduce in verdict.sentence()
    again = oracle.check_kernel(fn, verdict.operation, precision=precision, shapes=[verdict.first.shapes], **attributes)
    assert not again.agrees  # the line that reproduces it does


def _fourier(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A convolution with a padding of 1 by a Fourier transform in float64, which leaves 1e-17 where zeros are right."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    sides = [a + b - 1 for a, b in zip(x.shape[2:], weight.shape[2:], strict=True)]
    spectra = (np.fft.rfft2(each.astype(np.float64), sides) for each in (x, weight[..., ::-1, ::-1]))
    full = np.fft.irfft2(np.einsum("nchw,ochw->nohw", *spectra), sides)
    rows, columns = (slice(b - 1, a) for a, b in zip(x.shape[2:], weight.shape[2:], strict=True))
    return full[..., rows, columns].astype(np.float32)


# Healthy kernels that were flagged once, with the seed that showed it.
ONCE_FLAGGED: list[tuple[str, Callable[..., Any], str, int, dict[str, Any]]] = [
    ("sigmoid", torch.sigmoid, "float16", 11, {}),  # its gradient goes through numbers too small for float16
    ("conv2d", _fourier, "float32", 1, {"padding": 1}),
    ("log", np.log, "float32", 1, {}),
]


@pytest.mark.parametrize("once", ONCE_FLAGGED, ids=[op for op, *_ in ONCE_FLAGGED])
def test_healthy_kernels_that_were_flagged_once(once: tuple[str, Callable[..., Any], str, int, dict[str, Any]]) -> None:
    op, fn, precision, seed, attributes = once
    verdict = oracle.check_kernel(fn, op, precision=precision, seed=seed, **attributes)
    assert verdict.agrees, verdict.sentence()


def test_rows_with_infinities_are_judged() -> None:
    """A masked element has no error; it must not make its row's budget endless."""

    def kernel(x: torch.Tensor) -> torch.Tensor:
        y = torch.softmax(x, -1)
        return torch.where(torch.isinf(x).any(-1, keepdim=True), y * 1.01, y)

    verdict = oracle.check_kernel(kernel, "softmax", axis=-1)
    assert verdict.first is not None
    assert verdict.first.draw == "masked"


def test_what_a_budget_cannot_tell_is_not_judged() -> None:
    """100,003 terms that may be added in bfloat16 may give anything: zeros too, which is no agreement."""
    precision = "bfloat16, sums in bfloat16"
    verdict = oracle.check_kernel(lambda x: x.sum(-1), "sum", precision=precision, shapes=[(4, 100003)], axis=-1)
    assert verdict.blind > 0
    assert f"{verdict.blind} more results were not judged" in verdict.sentence()
    assert verdict.to_dict()["blind"] == verdict.blind
    x = torch.rand(4, 100003).bfloat16()
    with pytest.raises(AssertionError, match="nothing was judged"):
        assert_within_budget(torch.zeros(4).bfloat16(), "sum", x, precision=precision, axis=-1)


def test_a_tail_is_placed() -> None:
    verdict = oracle.check_kernel(_tail, "sum", axis=-1)
    assert "past the last whole tile of 16" in verdict.sentence()


def test_a_factor_is_measured() -> None:
    verdict = oracle.check_kernel(lambda x: torch.softmax(x, -1) * (1 + 2**-11), "softmax")
    assert "a constant factor of 1.000488" in verdict.sentence()


def test_wrong_gradients_are_caught() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx: Any, dy: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return dy * (x[:1] > 0)

    verdict = oracle.check_kernel(Wrong.apply, "relu", shapes=[(4, 17)])
    assert verdict.first is not None
    assert verdict.first.result == "gradient of x"
    right = oracle.check_kernel(F.relu, "relu", backward=lambda dy, x: dy * (x > 0))
    assert right.agrees, right.sentence()
    wrong = oracle.check_kernel(F.relu, "relu", backward=lambda dy, x: dy * (dy > 0))
    assert not wrong.agrees


def test_the_framework_is_found() -> None:
    seen = set()

    def kernel(x: Any) -> Any:
        seen.add(type(x).__module__.split(".")[0])
        return np.maximum(x, 0)

    assert oracle.check_kernel(kernel, "relu").agrees
    assert seen == {"numpy"}
    assert oracle.check_kernel(lucid.nn.functional.relu, "relu").agrees
    assert oracle.check_kernel(torch.nn.ReLU(), "relu").agrees


def _linear(a: Any, b: Any) -> Any:
    return a @ b.T


def _tiled(x: Any, w: Any, tile: int = 16) -> Any:
    return x @ w.T


def _norm(x: Any, g: Any, b: Any, eps: float = 1e-5) -> Any:
    return F.layer_norm(x, x.shape[-1:], g, b, eps)


def _gamma_first(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
    return F.batch_norm(x, mean, variance, gamma, beta)


# However a kernel takes its inputs and attributes.
SIGNATURES: list[tuple[str, Callable[..., Any], dict[str, Any]]] = [
    ("softmax", torch.softmax, {"axis": -1}),
    ("softmax", F.softmax, {"axis": -1}),
    ("softmax", torch.nn.Softmax(-1), {"axis": -1}),
    ("softmax", functools.partial(F.softmax, dim=-1), {"axis": -1}),
    ("softmax", lucid.nn.functional.softmax, {"axis": -1}),
    ("sum", torch.sum, {"axis": 0}),
    ("cumsum", torch.cumsum, {"axis": -1}),
    ("exp", np.exp, {}),
    ("add", np.add, {}),
    ("matmul", np.matmul, {}),
    ("linear", _linear, {}),
    ("linear", _tiled, {}),
    ("layer_norm", _norm, {}),
    ("layer_norm", lambda x: F.layer_norm(x, x.shape[-1:]), {}),
    ("batch_norm", _gamma_first, {}),
    ("batch_norm", lambda x: F.batch_norm(x, None, None, training=True), {"training": True}),
    ("batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, True), {"training": True}),
    ("conv2d", lambda x, w: F.conv2d(x, w, stride=2), {"stride": 2}),
    ("conv2d", lambda x, w, *, stride: F.conv2d(x, w, stride=stride), {"stride": 2}),
    ("max_pool2d", torch.nn.MaxPool2d(2), {"kernel_size": 2}),
    ("cross_entropy", lambda logits, labels: F.cross_entropy(logits, labels), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "fn", "attributes"), SIGNATURES, ids=[f"{op}-{i}" for i, (op, *_) in enumerate(SIGNATURES)]
)
def test_inputs_find_their_parameters(op: str, fn: Callable[..., Any], attributes: dict[str, Any]) -> None:
    verdict = oracle.check_kernel(fn, op, **attributes)
    assert verdict.agrees, verdict.sentence()
    assert not verdict.refused, verdict.refused


@pytest.mark.parametrize("require", ["repeatable", "batch invariant"])
def test_requirements(require: str) -> None:
    rng = np.random.default_rng(0)

    def kernel(x: torch.Tensor) -> torch.Tensor:
        order = torch.from_numpy(rng.permutation(x.shape[-1])) if require == "repeatable" else torch.arange(x.shape[-1])
        if require == "batch invariant" and len(x) > 1:
            order = order.flip(0)
        total = torch.zeros(len(x))
        for column in x[:, order].unbind(1):
            total = total + column
        return total

    shapes = [(5, 100)]
    assert oracle.check_kernel(kernel, "sum", axis=-1, shapes=shapes).agrees
    verdict = oracle.check_kernel(kernel, "sum", axis=-1, shapes=shapes, require=[require])
    assert not verdict.agrees
    assert "the same bits" in verdict.sentence()


def test_whole_numbers_are_exact() -> None:
    assert oracle.check_kernel(lambda a, b: a.astype(np.int32) @ b.astype(np.int32), "matmul", precision="int8").agrees
    wrong = oracle.check_kernel(lambda a, b: (a.astype(np.int32) @ b.astype(np.int32)) | 1, "matmul", precision="int8")
    assert not wrong.agrees


class TestWithinBudget:
    def test_right_and_wrong_results(self) -> None:
        x, w, b = torch.randn(2, 6, 9, 9), torch.randn(4, 3, 3, 3, requires_grad=True), torch.randn(4)
        y = F.conv2d(x, w, b, stride=2, padding=1, groups=2)
        dy = torch.randn_like(y)
        (dw,) = torch.autograd.grad(y, w, dy, retain_graph=True)
        given = {"stride": 2, "padding": 1, "groups": 2}
        assert_within_budget(y, "conv2d", x, w, b, **given)
        assert_within_budget(dw, "conv2d", x, w, b, gradient=dy, wrt=1, **given)
        assert_within_budget(dw, "conv2d", x, w, b, gradient=dy, wrt="weight", **given)
        with pytest.raises(KernelOutOfLineError, match=r"a constant factor of 1\.0001"):
            assert_within_budget(y * 1.0001, "conv2d", x, w, b, **given)
        with pytest.raises(AssertionError, match="gradient of weight"):
            assert_within_budget(dw.flip(-1), "conv2d", x, w, b, gradient=dy, wrt=1, **given)

    def test_dtypes_say_the_precision(self) -> None:
        x = torch.randn(5, 300).bfloat16()
        assert_within_budget(F.softmax(x, -1), "softmax", x)
        assert_within_budget(F.layer_norm(x, (300,)), "layer_norm", x, (300,))
        with pytest.raises(AssertionError):
            assert_within_budget(F.softmax(x, -1) * 1.01, "softmax", x)

    @pytest.mark.parametrize("axis", [-1, 0])
    def test_large_results_are_judged_in_blocks(self, axis: int) -> None:
        x = torch.randn(300, 300)
        y = F.softmax(x, axis)
        assert_within_budget(y, "softmax", x, axis=axis)
        assert_within_budget(x.sum(axis), "sum", x, axis=axis)
        y[299, 7] += 1e-4
        with pytest.raises(AssertionError, match="row 299 of 300"):
            assert_within_budget(y, "softmax", x, axis=axis)

    @pytest.mark.parametrize(
        ("match", "arguments", "named"),
        [
            ("may be", ("nothing", 1.0), {}),
            ("needs weight", ("linear", np.ones((2, 3))), {}),
            ("takes x", ("relu", np.ones(2), np.ones(2)), {}),
            ("from both", ("relu", np.ones(2)), {"wrt": 0}),
            ("wrt: got 3", ("relu", np.ones(2)), {"wrt": 3, "gradient": np.ones(2)}),
            ("it has axis", ("softmax", np.ones((2, 3))), {"dim": -1}),
        ],
    )
    def test_what_cannot_be_is_said(self, match: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=match):
            assert_within_budget(np.ones(2, np.float32), *arguments, **named)


@pytest.mark.parametrize(
    ("match", "op", "given"),
    [
        ("operation: got 'soft'", "soft", {}),
        ("it has axis", "softmax", {"dim": 1}),
        ("precision: got", "softmax", {"precision": "float8"}),
        ("no result in whole numbers", "softmax", {"precision": "int8"}),
        ("require: got", "softmax", {"require": ["fast"]}),
        ("needs a shape for each", "matmul", {"shapes": [(3, 4)]}),
        ("shapes: got none", "softmax", {"shapes": []}),
        ("reduction", "cross_entropy", {"reduction": "most"}),
    ],
)
def test_what_cannot_be_is_said(match: str, op: str, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=match):
        oracle.check_kernel(torch.exp, op, **given)


def test_a_kernel_that_raises_everywhere_is_no_verdict() -> None:
    def kernel(x: Any) -> Any:
        raise ValueError("not today")

    with pytest.raises(UsageError, match="not today"):
        oracle.check_kernel(kernel, "relu")


def test_a_kernel_that_refuses_some_shapes_is_told() -> None:
    def kernel(x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 1:
            raise ValueError("vectors only")
        return x.relu()

    verdict = assert_kernel(kernel, "relu")
    assert "it raised at" in verdict.sentence()
    assert "vectors only" in verdict.sentence()


def test_the_verdict_is_json() -> None:
    verdict = oracle.check_kernel(_tail, "sum", axis=-1)
    told = json.loads(json.dumps(verdict.to_dict()))
    assert told["agrees"] is False
    assert told["failures"][0]["shapes"] == [list(shape) for shape in verdict.failures[0].shapes]


# The truths: lucid's NumPy in `Bounded` numbers beside PyTorch in float64.
@pytest.mark.parametrize(("op", "fn", "attributes"), HEALTHY, ids=[f"{op}-{i}" for i, (op, *_) in enumerate(HEALTHY)])
def test_truths_are_pytorchs_in_float64(op: str, fn: Callable[..., Any], attributes: dict[str, Any]) -> None:
    verdict = oracle.check_kernel(fn, op, precision="float64", seed=7, **attributes)
    assert verdict.agrees, verdict.sentence()
    assert verdict.closest < 1.01


def test_budgets_grow_as_errors_do() -> None:
    """A plain float32 chain of K terms stays within the budget of its sum, in any order, and is not far below."""
    rng = np.random.default_rng(0)
    for terms in (2, 10, 1000, 20000):
        values = rng.standard_normal((8, terms)).astype(np.float32)
        for order in (values, np.sort(values, 1), np.sort(values, 1)[:, ::-1]):
            total = np.zeros(8, np.float32)
            for column in order.T:
                total = total + column
            made = arithmetic_of("float32", "normal").exact(order.astype(np.float64)).sum(1)
            assert (np.abs(total - made.value) <= made.total).all()


def test_bounded_numbers_hold_float32_arithmetic() -> None:
    """Random expressions in float32 stay within what `Bounded` grants."""
    rng = np.random.default_rng(1)
    of = Arithmetic(2.0**-24, 2.0**-24, 2.0**-24, least=2.0**-150)
    a, b = (rng.standard_normal(1000).astype(np.float32) for _ in range(2))
    one, other = of.exact(a), of.exact(b)
    cases = [
        (a * b + a, one * other + one),
        ((a + b) / (a * a + np.float32(1)), (one + other) / (one * one + 1.0)),
        (np.sqrt(a * a + b * b), (one * one + other * other).sqrt()),
        (np.exp(a - b).astype(np.float32), (one - other).exp()),
        ((a - b) * (a + b), (one - other) * (one + other)),
    ]
    for found, bound in cases:
        assert (np.abs(found - bound.value) <= bound.total).all()


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "mykernels.py").write_text(
        "import torch\n\ndef softmax(x):\n    return torch.softmax(x, -1)\n\n"
        "def broken(x):\n    return torch.softmax(x, -1) * 1.001\n"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "oracle.cli", "kernel", "softmax", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    right = run("--with", "mykernels:softmax", "--precision", "bfloat16", "-a", "axis=-1")
    assert (right.returncode, right.stderr) == (0, "")
    assert "agrees" in right.stdout
    wrong = run("--with", "mykernels:broken", "--json", "verdict.json")
    assert wrong.returncode == 1
    assert "a constant factor of 1.001" in wrong.stdout
    assert json.loads((tmp_path / "verdict.json").read_text())["agrees"] is False
    for arguments in (
        ("--with", "mykernels:none"),
        ("--with", "nomodule:f"),
        ("--with", "mykernels:softmax", "-a", "x"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1


TESTS = """
import pytest, torch

@pytest.mark.kernel("softmax", precision="bfloat16", axis=-1)
def test_right(assert_kernel):
    assert_kernel(lambda x: torch.softmax(x, -1))

@pytest.mark.kernel("softmax", axis=-1)
def test_wrong(assert_kernel):
    assert_kernel(lambda x: torch.softmax(x, -1) * 1.001)
"""


def test_the_fixture_and_the_report(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--oracle-report=reports"]
    if "oracle.pytest_plugin" not in str(sys.modules.get("oracle.pytest_plugin")):
        command += ["-p", "oracle.pytest_plugin"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in found.stdout, found.stdout + found.stderr
    [page] = tmp_path.glob("reports/*.html")
    assert "a constant factor of 1.001" in page.read_text()


def test_rounding_to_storage_is_one_right_number() -> None:
    """In low precision an element that is computed in float32 has one right value, but for few."""
    x = np.asarray(round_to(np.random.default_rng(0).standard_normal((50, 40)), "bfloat16"), np.float64)
    made = OPERATIONS["softmax"].forward([arithmetic_of("bfloat16", "normal").exact(x)], axis=-1)
    low_end, high_end = (round_to(made.value + sign * made.total, "bfloat16") for sign in (-1, 1))
    assert np.mean(low_end != high_end) < 0.01
