"""Training is right and reproducible: real data to real accuracy, the same bits on every run, backend, thread count."""

from __future__ import annotations

import numpy as np
import pytest
from support.backends import BACKENDS, on

import lucid
from lucid import nn, optim
from lucid.models import ResNet
from lucid.models.blocks import BasicBlock, PreActBottleneck


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's 1797 handwritten digits, 8x8, as training and test sets; every fifth is for testing."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = (data.images[:, None].astype(np.float32) - 8) / 8
    y = data.target.astype(np.int64)
    test = np.arange(len(y)) % 5 == 0
    return x[~test], y[~test], x[test], y[test]


def small_resnet() -> ResNet:
    return ResNet(BasicBlock, [1, 1], num_classes=10, in_channels=1, stem_width=16, channels=(16, 32))


def train(model: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int, batch: int = 64) -> None:
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
    order = np.random.default_rng(0)
    model.train()
    for epoch in range(epochs):
        if epoch == epochs - 2:
            for group in optimizer.param_groups:
                group["lr"] = 0.005
        shuffled = order.permutation(len(y))
        for start in range(0, len(y) - batch + 1, batch):
            rows = shuffled[start : start + batch]
            # A ResNet halves an image three times before its stages: digits are enlarged to have something left.
            images = lucid.tensor(x[rows].repeat(4, axis=2).repeat(4, axis=3))
            loss = nn.functional.cross_entropy(model(images), lucid.tensor(y[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def accuracy(model: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    model.eval()
    with lucid.no_grad():
        scores = model(lucid.tensor(x.repeat(4, axis=2).repeat(4, axis=3))).numpy()
    return float((scores.argmax(1) == y).mean())


def weights_after(epochs: int, rows: int | None = None) -> tuple[nn.Module, dict[str, bytes]]:
    x, y, _, _ = digits()
    lucid.manual_seed(0)
    model = small_resnet()
    train(model, x[:rows], y[:rows], epochs)
    return model, {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.fixture
def native() -> None:
    if "native" not in lucid.available_backends():
        pytest.skip("the native backend is not built here; a whole training run on the reference takes too long")


@pytest.mark.usefixtures("native")
def test_digits_to_accuracy_and_twice_the_same_bits() -> None:
    with lucid.use_backend("native"):
        model, first = weights_after(epochs=6)
        _, _, x, y = digits()
        assert accuracy(model, x, y) > 0.97
        _, second = weights_after(epochs=6)
    assert first == second


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "reference"])
@pytest.mark.parametrize("block", [BasicBlock, PreActBottleneck])
def test_training_has_the_same_bits_on_every_backend_and_thread_count(block: type[nn.Module], name: str) -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    y = np.array([0, 1, 2, 1])

    def run() -> dict[str, bytes]:
        lucid.manual_seed(3)
        model = ResNet(block, [1, 1, 1], num_classes=3, stem_width=8, channels=(4, 8, 8), block_args={"se": True})
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        bits = {}
        for step in range(2):
            inputs = lucid.tensor(x, requires_grad=True)
            loss = nn.functional.cross_entropy(model(inputs), lucid.tensor(y), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bits[f"loss {step}"] = loss.numpy().tobytes()
            bits[f"input gradient {step}"] = inputs.grad.numpy().tobytes()
        return bits | {name: value.numpy().tobytes() for name, value in model.state_dict().items()}

    with on("reference"):
        expected = run()
    threads = lucid.get_num_threads()
    try:
        with on(name):
            for count in (1, 2, 3) if name == "native" else (1,):
                lucid.set_num_threads(count)
                assert run() == expected, f"{count} threads"
    finally:
        lucid.set_num_threads(threads)
