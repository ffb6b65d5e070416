"""Modules that run as one operation: the bits of the modules one by one, forward and backward; nobody is overlooked."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from support.bits import bits

import lucid
from lucid import nn
from lucid.models import ResNet
from lucid.models.blocks import BasicBlock, Bottleneck, PreActBottleneck
from lucid.nn import _fused

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck, "preact": PreActBottleneck}


def make(block: str) -> ResNet:
    lucid.manual_seed(3)
    return ResNet(BLOCKS[block], [2, 1], 5, stem_width=6, channels=(8, 20))


def images(batch: int = 3, size: int = 33) -> lucid.Tensor:
    return lucid.tensor(np.random.default_rng(4).standard_normal((batch, 3, size, size)).astype(np.float32))


def watch(model: nn.Module) -> list[str]:
    """Hooks on every module: the model then runs them one by one."""
    seen: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _m, _i, _o, name=name: seen.append(name))
    return seen


def step(model: nn.Module, x: lucid.Tensor) -> dict[str, np.ndarray]:
    loss = nn.functional.cross_entropy(model(x), lucid.tensor(np.arange(len(x)) % 5))
    loss.backward()
    found = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.numpy(), **found, **{name: b.numpy() for name, b in model.named_buffers()}}


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "statistics frozen"])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_train_step_has_the_bits_of_modules_one_by_one(backend: str, block: str, frozen: bool) -> None:
    fused, plain = make(block), make(block)
    seen = watch(plain)
    for model in (fused, plain):
        model.train(not frozen)
    a, b = step(fused, images()), step(plain, images())
    assert "layer1.0.bn1" in seen
    assert a.keys() == b.keys()
    assert [name for name in a if bits(a[name]) != bits(b[name])] == []


@pytest.mark.parametrize("block", BLOCKS)
def test_inference_has_the_bits_of_modules_one_by_one(backend: str, block: str) -> None:
    fused, plain = make(block).eval(), make(block).eval()
    watch(plain)
    with lucid.no_grad():
        assert bits(fused(images()).numpy()) == bits(plain(images()).numpy())


def test_a_watched_module_is_called(backend: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    seen: list[int] = []
    model[1].register_forward_hook(lambda _m, _i, output: seen.append(1) or output * 2)
    with lucid.no_grad():
        y = model(images(1, 4))
        expected = lucid.relu(model[1](model[0](images(1, 4))))
    assert len(seen) == 2
    assert bits(y.numpy()) == bits(expected.numpy())


def test_a_module_of_ones_own_is_called(backend: str) -> None:
    class Norm(nn.BatchNorm2d):
        def forward(self, input: lucid.Tensor) -> lucid.Tensor:
            return input * 0.0

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Norm(4), nn.ReLU()).eval()
    with lucid.no_grad():
        assert not model(images(1, 4)).numpy().any()
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    model[0].forward = lambda x: lucid.zeros(1, 4, 4, 4)  # as a fault is put in
    with lucid.no_grad():
        assert not model(images(1, 4)).numpy().any()


@pytest.mark.parametrize("where", ["data", "numpy", "view", "step"])
def test_weights_written_behind_lucids_back_count(backend: str, where: str) -> None:
    """Packed weights are kept from call to call; every way to change a weight must be noticed."""
    conv, norm = nn.Conv2d(33, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
    model = nn.Sequential(conv, norm, nn.ReLU()).eval()
    x = lucid.tensor(np.random.default_rng(5).standard_normal((2, 33, 6, 6)).astype(np.float32))
    if where in ("numpy", "view") and not np.shares_memory(conv.weight.numpy(), conv.weight.numpy()):
        pytest.skip("numpy() copies from this backend's memory, so nothing can be written through it")
    view = conv.weight.numpy()[5]
    with lucid.no_grad():
        before = model(x).numpy().copy()
        if where == "data":
            conv.weight.data[0, 0, 0, 0] += 1
        elif where == "numpy":
            conv.weight.numpy()[:, 3] *= 2
        elif where == "view":
            view[...] = view[::-1].copy()
        else:
            conv.weight.grad = lucid.ones_like(conv.weight)
            lucid.optim.SGD([conv.weight], lr=0.1).step()
        after = model(x).numpy()
        expected = lucid.relu(norm(conv(x))).numpy()
    assert bits(after) == bits(expected)
    assert bits(after) != bits(before)


def test_several_threads_share_a_model(backend: str) -> None:
    model, x = make("bottleneck").eval(), images()
    with lucid.no_grad():
        expected = bits(model(x).numpy())
    model.fc.weight.data[...] += 0  # the same bytes
    found: list[bytes] = []

    def work() -> None:
        with lucid.no_grad():
            found.extend(bits(model(x).numpy()) for _ in range(3))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 12


def test_a_residual_of_another_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"residual: got shape \(1, 2, 1, 1\); must be \(1, 2, 3, 3\)"):
        nn.BatchNorm2d(2).normalize(lucid.ones((1, 2, 3, 3)), residual=lucid.ones((1, 2, 1, 1)))


def test_unwatched_knows_the_tracer() -> None:
    assert _fused.unwatched(nn.ReLU(), None)
    steps = lucid.graph.trace(make("basic"), images(1))
    assert [node.op for node in steps.nodes].count("batch_norm") == 9


def test_memory_is_used_again_and_given_back() -> None:
    pytest.importorskip("_lucid_native")
    lucid.empty_cache()
    with lucid.use_backend("native"):
        x = lucid.relu(lucid.zeros((1, 64, 128, 128)))
        address = x.numpy().ctypes.data
        held = x.numpy()
        del x
        y = lucid.relu(lucid.zeros((1, 64, 128, 128)))
        assert y.numpy().ctypes.data != address  # an array that somebody has is not handed out again
        del held
        assert lucid.relu(lucid.zeros((1, 64, 128, 128))).numpy().ctypes.data == address
    assert lucid.empty_cache() >= 4 * 64 * 128 * 128
    assert lucid.empty_cache() == 0
