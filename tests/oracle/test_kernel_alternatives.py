"""What a failing kernel check says that the kernel computed instead, of kernels broken on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import oracle
from oracle.kernel import check

Array = np.ndarray[Any, Any]


def _wide(kernel: Callable[..., Array]) -> Callable[..., Array]:
    """The kernel in float64, its result rounded once."""

    def run(*inputs: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(kernel(*(each.astype(np.float64) for each in inputs))).astype(np.float32)

    return run


def _softmax(x: Array, taken: Any = slice(None)) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers[..., taken].sum(-1, keepdims=True)


def _layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5, **how: Any) -> Array:
    n = x.shape[-1]
    centred = x - x.mean(-1, keepdims=True)
    variance = (np.square(x) if how.get("about_zero") else np.square(centred)).mean(-1, keepdims=True)
    if how.get("unbiased"):
        variance = variance * n / max(1, n - 1)
    scale = 1 / (np.sqrt(variance) + eps) if how.get("outside") else 1 / np.sqrt(variance + eps)
    return (x if how.get("raw") else centred) * scale * weight + (0 if how.get("no_bias") else bias)


def _conv(x: Array, weight: Array, stride: int = 1, groups: int = 1, shift: int = 0) -> Array:
    """A convolution without padding; ``shift``: by how many groups channels are off."""
    n, _, height, width = x.shape
    filters, channels, kh, kw = weight.shape
    rows, columns = (height - kh) // stride + 1, (width - kw) // stride + 1
    out = np.zeros((n, filters, rows, columns), x.dtype)
    for f in range(filters):
        group = (f // (filters // groups) + shift) % groups
        part = x[:, group * channels : (group + 1) * channels]
        for i in range(rows):
            for j in range(columns):
                window = part[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
                out[:, f, i, j] = (window * weight[f]).sum((1, 2, 3))
    return out


def _tf32(x: Array) -> Array:
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(mantissa * 2048), exponent - 11)


def _gelu_tanh(x: Array) -> Array:
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def _cross_entropy(x: Array, target: Array, step: int = 0, extra: int = 0) -> Array:
    logs = x - x.max(1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    chosen = (target.astype(int) + step) % x.shape[1]
    return np.asarray(-np.take_along_axis(logs, chosen[:, None], 1).sum() / (len(x) + extra))


# Operation, attributes, shapes of the inputs, a kernel that is wrong, and what is said of it.
BROKEN: list[tuple[str, dict[str, Any], tuple[tuple[int, ...], ...], Callable[..., Array], str]] = [
    ("sum", {"axis": -1}, ((33, 40),), lambda x: x[:, :-1].sum(-1), "the last term is left out of the sum"),
    ("sum", {"axis": -1}, ((33, 40),), lambda x: x[:, :32].sum(-1), "past the last whole tile of 16 are left out"),
    ("sum", {"axis": -1}, ((33, 40),), lambda x: x.sum(-1) + x[:, 0], "the first term is counted twice"),
    ("sum", {"axis": -1}, ((33, 40),), lambda x: x.sum(-1) - x[:, 17], "term 17 is left out"),
    ("sum", {"axis": -1}, ((33, 33),), lambda x: x.sum(0), "along axis 0 instead of axis -1"),
    ("mean", {"axis": -1}, ((33, 40),), lambda x: x.sum(-1), "the sum instead of the mean"),
    ("mean", {"axis": -1}, ((33, 40),), lambda x: x.sum(-1) / 39, "divided by n - 1"),
    ("var", {"axis": -1}, ((33, 40),), lambda x: x.var(-1), "divided by n - 0 instead of n - 1"),
    ("cumsum", {"axis": -1}, ((9, 40),), lambda x: x.cumsum(-1) - x, "exclusive"),
    ("cumsum", {"axis": -1}, ((9, 40),), lambda x: x[:, ::-1].cumsum(-1)[:, ::-1], "reversed"),
    ("softmax", {}, ((9, 40),), lambda x: _softmax(x, slice(0, -1)), "the last column is left out of the denominator"),
    ("softmax", {}, ((9, 40),), lambda x: _softmax(x, slice(0, 32)), "tile of 16 are left out of the denominator"),
    ("softmax", {}, ((40, 40),), lambda x: _softmax(x.T).T, "axis 0 instead of axis -1"),
    ("matmul", {}, ((9, 33), (33, 8)), lambda a, b: a[:, 1:] @ b[1:], "the first k is left out"),
    ("matmul", {}, ((33, 33), (33, 33)), lambda a, b: a @ b.T, "the second factor is transposed"),
    ("matmul", {}, ((33, 64), (64, 9)), lambda a, b: _tf32(a) @ _tf32(b), "the factors are rounded to TF32"),
    ("linear", {}, ((9, 33), (8, 33), (8,)), lambda x, w, bias: x @ w.T, "the bias is left out"),
    ("conv2d", {}, ((2, 3, 6, 6), (4, 3, 3, 3)), lambda x, w: _conv(x, w[:, :, ::-1, ::-1]), "flipped in both axes"),
    ("conv2d", {}, ((2, 3, 6, 6), (4, 3, 3, 3)), lambda x, w: _conv(x, w.swapaxes(2, 3)), "rows and columns"),
    (
        "conv2d",
        {"groups": 3},
        ((2, 6, 6, 6), (6, 2, 3, 3)),
        lambda x, w: _conv(x, w, groups=3, shift=1),
        "groups are mixed",
    ),
    ("layer_norm", {}, ((9, 40),), lambda x, w, b: _layer_norm(x, w, b, unbiased=True), "the variance is unbiased"),
    ("layer_norm", {}, ((9, 40),), lambda x, w, b: _layer_norm(x, w, b, raw=True), "the mean is not subtracted"),
    ("layer_norm", {}, ((9, 40),), lambda x, w, b: _layer_norm(x, w, b, no_bias=True), "the bias is left out"),
    ("layer_norm", {}, ((9, 40),), lambda x, w, b: _layer_norm(x, w, b, 1.1e-5), "eps is 1.1e-05 instead of 1e-05"),
    ("layer_norm", {}, ((9, 40),), lambda x, w, b: _layer_norm(x, w, b, outside=True), "eps is added outside"),
    ("gelu", {}, ((9, 40),), _gelu_tanh, "GELU's tanh form instead of erf"),
    ("log", {}, ((9, 40),), lambda x: np.log(x + 1e-3), "log of x + 0.001"),
    ("subtract", {}, ((9, 40), (9, 40)), lambda a, b: b - a, "the operands are exchanged"),
    ("multiply", {}, ((33, 33), (33, 1)), lambda a, b: a * b.T, "broadcast along the other axis"),
    ("exp", {}, ((9, 40),), lambda x: np.exp(x[:1]).repeat(len(x), 0), "the batch's first element is repeated"),
    ("exp", {}, ((9, 40),), lambda x: np.exp(x) * (1 + 2.0**-12), "a constant factor of 1.000244"),
    ("cross_entropy", {}, ((40, 9), (40,), (9,)), lambda x, t: _cross_entropy(x, t, step=1), "the label after"),
    ("cross_entropy", {}, ((40, 9), (40,), (9,)), lambda x, t: _cross_entropy(x, t, extra=1), "divided by n + 1"),
]


def _name(row: Any) -> str:
    return f"{row[0]}: {row[4]}"


@pytest.mark.parametrize("row", BROKEN, ids=_name)
def test_says_what_a_broken_kernel_computed(row: Any) -> None:
    operation, attributes, shapes, kernel, words = row
    kernel = _of_arity(_wide(kernel), kernel.__code__.co_argcount)
    verdict = oracle.check_kernel(kernel, operation, shapes=[shapes], **attributes)
    assert verdict.first is not None
    assert words in verdict.first.kind, verdict.sentence()


def _of_arity(kernel: Callable[..., Array], count: int) -> Callable[..., Array]:
    """A function of so many parameters, which are what the check looks at."""
    of = {1: lambda x: kernel(x), 2: lambda x, second: kernel(x, second), 3: lambda x, *others: kernel(x, *others)}
    return of[count]


def test_a_healthy_kernel_asks_for_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "explain", lambda *given: pytest.fail("a healthy kernel was to be explained"))
    assert oracle.check_kernel(_wide(_softmax), "softmax", shapes=[(9, 40)]).agrees
