"""The law is accurate: for each layer of ResNet-50, fed the same input, lucid's RMS error against float64 is no worse
than that of PyTorch's own float32, forward and backward. The truth is PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.backends import BACKENDS
from support.families import OnHost

from lucid.backends import get_backend
from lucid.backends.base import Array, Backend

BATCH = 2
SUMMATION = 1 + 1e-9  # the two errors are themselves float64 sums, taken in different memory orders


def resnet_50_convolutions() -> list[tuple[int, int, int, int, int]]:
    """Distinct ``(in_channels, out_channels, kernel, stride, input size)`` at 224x224."""
    layers = [(3, 64, 7, 2, 224)]
    channels, size = 64, 56
    for stage, width in enumerate((64, 128, 256, 512)):
        stride = 1 if stage == 0 else 2
        smaller = size // stride
        layers += [
            (channels, width, 1, 1, size),
            (width, width, 3, stride, size),
            (width, 4 * width, 1, 1, smaller),
            (channels, 4 * width, 1, stride, size),
            (4 * width, width, 1, 1, smaller),
            (width, width, 3, 1, smaller),
        ]
        channels, size = 4 * width, smaller
    return list(dict.fromkeys(layers))


CONVOLUTIONS = resnet_50_convolutions()
QUICK = [(64, 64, 3, 1, 56), (1024, 256, 1, 1, 14), (512, 512, 3, 1, 7), (512, 2048, 1, 1, 7)]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Any:
    """Accuracy is a property of the law; every backend shows it."""
    return OnHost(get_backend(request.param))


@pytest.fixture
def native() -> Backend:
    try:
        return get_backend("native")
    except RuntimeError:
        pytest.skip("the native backend is not built here; the reference is too slow for whole layers")


def rms(x: Any, truth: Any) -> float:
    truth = np.asarray(truth, np.float64)
    return float(np.linalg.norm(np.asarray(x, np.float64) - truth) / max(np.linalg.norm(truth), 1e-300))


def assert_no_worse(names: list[str], ours: list[Any], theirs: list[Any], truth: list[Any]) -> None:
    for name, a, b, t in zip(names, ours, theirs, truth, strict=True):
        mine, peers = rms(a, t), rms(b, t)
        assert mine <= peers * SUMMATION, f"{name}: RMS error {mine:.3e}, PyTorch's float32 makes {peers:.3e}"


def in_torch(function: Any, arrays: list[Array], dy: Array | None, dtype: torch.dtype) -> list[Array]:
    """The value, and the gradients of all arguments for the output gradient ``dy``."""
    tensors = [torch.from_numpy(np.ascontiguousarray(a)).to(dtype).requires_grad_() for a in arrays]
    y = function(*tensors)
    seed = torch.ones_like(y) if dy is None else torch.from_numpy(dy).to(dtype)
    return [t.detach().numpy() for t in (y, *torch.autograd.grad(y, tensors, seed))]


def check_convolution(be: Backend, layer: tuple[int, int, int, int, int]) -> None:
    cin, cout, kernel, stride, size = layer
    rng = np.random.default_rng(layer)
    padding = kernel // 2
    out = (size + 2 * padding - kernel) // stride + 1
    x = np.maximum(rng.standard_normal((BATCH, cin, size, size), np.float32), 0)
    w = rng.standard_normal((cout, cin, kernel, kernel), np.float32) * np.float32(np.sqrt(2 / (cin * kernel**2)))
    dy = rng.standard_normal((BATCH, cout, out, out), np.float32)
    options = {"stride": (stride, stride), "padding": (padding, padding), "dilation": (1, 1), "groups": 1}

    def function(x: Any, w: Any) -> Any:
        return F.conv2d(x, w, None, stride, padding)

    assert_no_worse(
        ["output", "input gradient", "weight gradient"],
        [
            be.conv2d(x, w, None, **options),
            be.conv2d_input_grad(dy, w, x.shape, **options),
            be.conv2d_weight_grad(dy, x, w.shape, **options),
        ],
        in_torch(function, [x, w], dy, torch.float32),
        in_torch(function, [x, w], dy, torch.float64),
    )


@pytest.mark.parametrize("layer", QUICK, ids=str)
def test_convolution(native: Backend, layer: tuple[int, int, int, int, int]) -> None:
    check_convolution(native, layer)


@pytest.mark.slow
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_every_convolution(native: Backend, layer: tuple[int, int, int, int, int]) -> None:
    check_convolution(native, layer)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("channels", "size", "mean"), [(64, 56, 0.0), (256, 14, 3.0), (2048, 7, 0.5), (64, 16, 100.0)])
def test_batch_norm(backend: Backend, channels: int, size: int, mean: float, training: bool) -> None:
    rng = np.random.default_rng([channels, size])
    x = rng.standard_normal((BATCH, channels, size, size), np.float32) + np.float32(mean)
    dy = rng.standard_normal(x.shape, np.float32)
    gamma, beta = rng.random(channels, np.float32) + np.float32(0.5), rng.standard_normal(channels, np.float32)
    running_mean = np.float32(0.3) * rng.standard_normal(channels, np.float32) + np.float32(mean)
    running_var = rng.random(channels, np.float32) + np.float32(0.5)

    def function(x: Any, gamma: Any, beta: Any) -> Any:
        statistics = [torch.from_numpy(s).to(x.dtype).clone() for s in (running_mean, running_var)]
        return F.batch_norm(x, *statistics, gamma, beta, training, 0.1, 1e-5)

    if training:
        y, m, v = backend.batch_norm_train(x, gamma, beta, 1e-5)
    else:
        m, v = running_mean.astype(np.float64), running_var.astype(np.float64)
        y = backend.batch_norm_eval(x, gamma, beta, m, v, 1e-5)
    assert_no_worse(
        ["output", "input gradient", "weight gradient", "bias gradient"],
        [y, *backend.batch_norm_grad(dy, x, gamma, m, v, 1e-5, training)],
        in_torch(function, [x, gamma, beta], dy, torch.float32),
        in_torch(function, [x, gamma, beta], dy, torch.float64),
    )


def test_pooling(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, 64, 28, 28), np.float32)
    y, index = backend.max_pool2d(x, (3, 3), (2, 2), (1, 1), (1, 1), (14, 14))
    dy = rng.standard_normal(y.shape, np.float32)

    def largest(x: Any) -> Any:
        return F.max_pool2d(x, 3, 2, 1)

    assert_no_worse(
        ["max", "max gradient"],
        [y, backend.max_pool2d_grad(dy, index, x.shape)],
        in_torch(largest, [x], dy, torch.float32),
        in_torch(largest, [x], dy, torch.float64),
    )
    means = backend.adaptive_avg_pool2d(x, (1, 1))
    dy = rng.standard_normal(means.shape, np.float32)

    def average(x: Any) -> Any:
        return F.adaptive_avg_pool2d(x, 1)

    assert_no_worse(
        ["mean", "mean gradient"],
        [means, backend.adaptive_avg_pool2d_grad(dy, x.shape)],
        in_torch(average, [x], dy, torch.float32),
        in_torch(average, [x], dy, torch.float64),
    )


def test_linear(backend: Backend) -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((8, 2048), np.float32), rng.standard_normal((100, 2048), np.float32) / np.float32(45)
    b, dy = rng.standard_normal(100, np.float32), rng.standard_normal((8, 100), np.float32)
    assert_no_worse(
        ["output", "input gradient", "weight gradient", "bias gradient"],
        [
            backend.linear(x, w, b),
            backend.matmul(dy, w),
            backend.matmul(dy.T, x),
            backend.reduce("sum", dy, (0,), False),
        ],
        in_torch(F.linear, [x, w, b], dy, torch.float32),
        in_torch(F.linear, [x, w, b], dy, torch.float64),
    )


def test_loss(backend: Backend) -> None:
    rng = np.random.default_rng(2)
    x, target = 3 * rng.standard_normal((8, 1000), np.float32), rng.integers(0, 1000, 8)

    def function(x: Any) -> Any:
        return F.cross_entropy(x, torch.from_numpy(target))

    logp = backend.log_softmax(x, 1)
    loss, weight_sum = backend.nll_loss(logp, target, None, -100, "mean")
    dlogp = backend.nll_loss_grad(np.ones((), np.float32), target, None, -100, "mean", weight_sum, 1000)
    assert_no_worse(
        ["loss", "gradient"],
        [loss, backend.log_softmax_grad(dlogp, logp, 1)],
        in_torch(function, [x], None, torch.float32),
        in_torch(function, [x], None, torch.float64),
    )
