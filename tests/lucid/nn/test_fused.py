"""Modules that run as one operation: the bits of the modules one by one, forward and backward; nobody is overlooked."""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.backends import on
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


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_lie_in_memory_as_their_parameters_do(backend: str, block: str) -> None:
    # Else every optimiser's step would copy them first.
    if backend == "reference":
        pytest.skip("its arrays lie as NumPy makes them")
    with on(backend):
        model = make(block)
        nn.functional.cross_entropy(model(images()), lucid.tensor([0, 1, 4])).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            array, grad = parameter._array, parameter.grad._array
            known = [(p, g) for n, p, g in zip(array.shape, array.strides, grad.strides, strict=True) if n > 1]
            assert all(p == g for p, g in known), name


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


def _step(conv: nn.Conv2d, _: Any) -> None:
    conv.weight.grad = lucid.ones_like(conv.weight)
    lucid.optim.SGD([conv.weight], lr=0.1).step()


def _write(array: Any, value: float = 3.0) -> None:
    array[..., 0, 0, 0] = value


def _shared(conv: nn.Conv2d) -> np.ndarray:
    """Make the weight share memory with an array that its owner keeps."""
    owned = np.array(conv.weight.tolist(), np.float32)
    conv.weight = nn.Parameter(owned)
    return owned


def _to_and_fro(conv: nn.Conv2d, _: Any) -> None:
    conv.double()
    _write(conv.weight.data)
    conv.float()


# Every way to change a weight: what is taken of the model before it runs, and how the weight is changed after.
CHANGES: dict[str, tuple[Callable[[nn.Conv2d], Any], Callable[[nn.Conv2d, Any], Any]]] = {
    "data": (lambda conv: None, lambda conv, _: _write(conv.weight.data)),
    "data taken before": (lambda conv: conv.weight.data, lambda conv, array: _write(array)),
    "data of a view": (lambda conv: conv.weight.swapaxes(2, 3).data, lambda conv, array: _write(array)),
    "data of a detached view": (lambda conv: conv.weight.detach()[5:].data, lambda conv, array: _write(array)),
    "other data": (lambda conv: None, lambda conv, _: setattr(conv.weight, "data", conv.weight.data + 1)),
    "numpy": (lambda conv: conv.weight.numpy()[5], lambda conv, array: array.__setitem__(..., array[::-1].copy())),
    "asarray": (lambda conv: np.asarray(conv.weight), lambda conv, array: _write(array)),
    "dlpack": (lambda conv: None, lambda conv, _: _write(np.from_dlpack(conv.weight))),
    "the array it is made of": (_shared, lambda conv, array: _write(array)),
    "item": (lambda conv: None, lambda conv, _: _write(conv.weight)),
    "item of a view": (lambda conv: conv.weight.swapaxes(2, 3), lambda conv, view: _write(view)),
    "item of a detached tensor": (lambda conv: conv.weight.detach(), lambda conv, other: _write(other)),
    "copy_": (lambda conv: None, lambda conv, _: conv.weight.copy_(conv.weight + 1)),
    "zero_": (lambda conv: None, lambda conv, _: conv.weight.zero_()),
    "init": (lambda conv: None, lambda conv, _: nn.init.kaiming_normal_(conv.weight)),
    "load_state_dict": (
        lambda conv: {name: value + 1 for name, value in conv.state_dict().items()},
        lambda conv, state: conv.load_state_dict(state),
    ),
    "the state's tensor": (lambda conv: conv.state_dict()["weight"], lambda conv, tensor: _write(tensor)),
    "another parameter of its memory": (lambda conv: nn.Parameter(conv.weight), lambda conv, other: _write(other)),
    "another parameter": (lambda conv: None, lambda conv, _: setattr(conv, "weight", nn.Parameter(conv.weight + 1))),
    "step": (lambda conv: None, _step),
    "to and fro": (lambda conv: None, _to_and_fro),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_weight_counts(backend: str, how: str) -> None:
    """Packed weights are kept from call to call; every way to change a weight must be noticed."""
    if lucid.get_default_device() != "cpu" and how in ("numpy", "asarray", "dlpack", "the array it is made of"):
        pytest.skip("this memory is not shared with a GPU's")
    prepare, change = CHANGES[how]
    lucid.manual_seed(7)
    conv, norm = nn.Conv2d(33, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
    model = nn.Sequential(conv, norm, nn.ReLU()).eval()
    x = lucid.tensor(np.random.default_rng(5).standard_normal((2, 33, 6, 6)).astype(np.float32))
    with lucid.no_grad():
        taken = prepare(conv)
        before = model(x).numpy().copy()
        assert bits(model(x).numpy()) == bits(before)
        change(conv, taken)
        after = model(x).numpy()
        expected = lucid.relu(norm(conv(x))).numpy()
    assert bits(after) == bits(expected)
    assert bits(after) != bits(before)


def test_weights_that_nobody_else_has_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    native = pytest.importorskip("lucid.backends.native")
    looked: list[int] = []
    find = native._native.fingerprint
    monkeypatch.setattr(native._native, "fingerprint", lambda array: looked.append(1) or find(array))
    with on("native"), lucid.no_grad():
        conv = nn.Conv2d(33, 64, 3, padding=1, bias=False)
        model = nn.Sequential(conv, nn.BatchNorm2d(64), nn.ReLU()).eval()
        model(lucid.zeros(1, 33, 4, 4))
        copy.deepcopy(model)(lucid.zeros(1, 33, 4, 4))
        assert not looked
        conv.weight.numpy()
        model(lucid.zeros(1, 33, 4, 4))
        assert looked


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


def test_the_same_sizes_again_take_the_same_places() -> None:
    """Also where sizes differ, and what is given back in another order becomes one block again."""
    native = pytest.importorskip("_lucid_native")
    gc.collect()
    rng = np.random.default_rng(5)
    sizes = [int(size) for size in rng.integers(1 << 14, 3 << 20, 40)]

    def step(seed: int) -> list[int]:
        order = np.random.default_rng(seed).permutation(len(sizes))
        arrays, places = [], []
        for i, size in enumerate(sizes):
            arrays.append(native.empty([size], False))
            arrays[-1][:] = i
            places.append(arrays[-1].ctypes.data)
            if i % 7 == 6:
                arrays[i - 3] = None  # an intermediate value
        assert all((array == i).all() for i, array in enumerate(arrays) if array is not None)
        for i in order:
            arrays[i] = None
        return places

    first = step(0)
    assert all(step(seed) == first for seed in range(1, 4))
    largest = native.empty([2 * max(sizes)], False)  # more than any block that was given back
    assert largest.ctypes.data < max(first)


@pytest.mark.parametrize("sides", [1, 3])
def test_convolutions_of_one_side_and_three_take_the_normalisation(backend: str, sides: int) -> None:
    conv, norm = getattr(nn, f"Conv{sides}d"), getattr(nn, f"BatchNorm{sides}d")
    model = nn.Sequential(conv(3, 17, 3, padding=1), norm(17), nn.ReLU())
    x = lucid.tensor(np.random.default_rng(1).standard_normal((2, 3, 5, 6, 7)[: sides + 2]).astype(np.float32))
    trained = model(x)
    trained.backward(trained.detach())
    plain = copy.deepcopy(model).eval()
    watch(plain)
    with lucid.no_grad():
        assert bits(model.eval()(x).numpy()) == bits(plain(x).numpy())
