"""Devices: moving to a GPU and back, what may not be mixed, and that a train step never waits for the GPU.

The GPU is ``strict`` (support/strict.py), arrays in main memory that behave as a GPU's, and the real one where there is
one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bits import assert_same_bits, bits
from support.strict import traffic

import lucid
from lucid import nn
from lucid.backends import available_backends, backend_for, device_of, known_backends
from lucid.models import ResNet, summarize
from lucid.models.blocks import BasicBlock, Bottleneck, PreActBottleneck

F = nn.functional
BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck, "preact": PreActBottleneck}


def narrow(block: type[nn.Module], **options: Any) -> ResNet:
    lucid.manual_seed(1)
    return ResNet(block, [1, 1], 5, stem_width=4, channels=(4, 6), **options)


def images(device: str, batch: int = 2) -> lucid.Tensor:
    return lucid.random.Generator(3).normal(0.0, 1.0, (batch, 3, 32, 32)).to(device)


def state(model: nn.Module, optimizer: lucid.optim.SGD) -> dict[str, Any]:
    memory = {f"memory {i}": m["momentum_buffer"].numpy() for i, m in enumerate(optimizer.state.values())}
    return {**{name: tensor.numpy() for name, tensor in model.state_dict().items()}, **memory}


def train(device: str, block: type[nn.Module], steps: int = 3) -> dict[str, Any]:
    """Every number that some steps leave behind."""
    model = narrow(block).to(device)
    optimizer = lucid.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    x, target = images(device), lucid.tensor([1, 4], device=device)
    losses = []
    with traffic() as seen:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(F.dropout(model(x), 0.1), target, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            losses.append(loss)
    assert seen.waits == [], f"the step waits for the device:\n{seen.waits[0]}"
    assert seen.uploads == [], f"the step copies to the device:\n{seen.uploads[0]}"
    return {**{f"loss {i}": loss.numpy() for i, loss in enumerate(losses)}, **state(model, optimizer)}


@pytest.mark.parametrize("block", BLOCKS)
def test_training_never_waits_and_has_the_bits_of_the_cpu(gpu: str, block: str) -> None:
    assert_same_bits(train(gpu, BLOCKS[block]), train("cpu", BLOCKS[block]))


def test_inference_never_waits(gpu: str) -> None:
    model = narrow(BasicBlock, stem_type="deep").eval()
    with lucid.no_grad():
        expected = model(images("cpu")).numpy()
        model.to(gpu)
        x = images(gpu)
        with traffic() as seen:
            got = model(x)
    assert (seen.waits, seen.uploads) == ([], [])
    assert bits(got.numpy()) == bits(expected)


def test_reading_a_value_waits() -> None:
    """Or the count above would prove nothing."""
    readers: list[Callable[[lucid.Tensor], Any]] = [
        lucid.Tensor.item,
        float,
        bool,
        str,
        np.asarray,
        lucid.Tensor.tolist,
        lucid.Tensor.cpu,
        lambda x: lucid.ones(3)[int(x)],
        lambda x: lucid.zeros(1, device="gpu")[x > 0],
    ]
    with lucid.use_backend("strict"):
        for read in readers:
            x = lucid.ones(1, device="gpu")
            with traffic() as seen:
                read(x)
            assert len(seen.waits) >= 1, read


def test_the_strict_device_refuses_what_a_gpu_refuses() -> None:
    with lucid.use_backend("strict"):
        x = lucid.ones(2, device="gpu").data
        for refused in (
            lambda: np.asarray(x),
            lambda: np.add(x, 1),
            lambda: np.concatenate([x, x]),
            lambda: x + np.ones(2),
            lambda: np.ones(2) + x,
            lambda: x[np.array([0])],
            lambda: x.__setitem__(0, np.ones(1)),
            lambda: backend_for("gpu").xp.where(np.ones(2, bool), x, x),
            lambda: backend_for("gpu").unary("neg", np.ones(2)),
        ):
            with pytest.raises(TypeError):
                refused()


# -- there and back --------------------------------------------------------------------------------------------------


def test_tensors_go_there_and_back(gpu: str) -> None:
    x = lucid.tensor(np.arange(24.0, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1))
    y = x.to(gpu)
    assert (y.is_gpu(), y.is_cpu(), y.shape, y.dtype) == (True, False, x.shape, x.dtype)
    assert y.data.strides == x.data.strides  # the memory order goes along
    assert y.numpy().strides == x.data.strides
    assert y.to(gpu) is y
    assert (y.cpu().device, x.gpu().device) == ("cpu", "gpu")
    assert y.tolist() == x.tolist()
    assert repr(lucid.ones(2).to(gpu)) == "tensor([1., 1.], device='gpu')"
    y.fill_(0)
    assert x.tolist() != y.tolist()  # a copy, whatever serves the device


MADE: dict[str, Callable[..., lucid.Tensor]] = {
    "tensor": lambda **where: lucid.tensor([[1.0, 2.0]], **where),
    "Tensor": lambda **where: lucid.Tensor([1, 2], **where),
    "to_tensor": lambda **where: lucid.to_tensor(np.ones(2, np.float16), **where),
    "to_tensor, dtype": lambda **where: lucid.to_tensor(lucid.ones(2), dtype=lucid.float64, **where),
    "zeros": lambda **where: lucid.zeros(2, 3, **where),
    "ones": lambda **where: lucid.ones(2, dtype=lucid.int8, **where),
    "full": lambda **where: lucid.full((2, 1), 0.1, **where),
    "eye": lambda **where: lucid.eye(2, 3, **where),
    "arange": lambda **where: lucid.arange(0.1, 3.3, 0.3, **where),
    "linspace": lambda **where: lucid.linspace(0.1, 0.7, 11, **where),
    "rand": lambda **where: lucid.random.rand(5, **where),
    "randn": lambda **where: lucid.random.randn(5, dtype=lucid.float64, **where),
    "randint": lambda **where: lucid.random.randint(3, 900, (3, 2), **where),
    "bernoulli": lambda **where: lucid.random.bernoulli(0.3, 20, **where),
    "permutation": lambda **where: lucid.random.permutation(9, **where),
    "Parameter": lambda **where: nn.Parameter([1.0, 2.0], **where),
    "Buffer": lambda **where: nn.Buffer([1.0, 2.0], **where),
    "Conv2d": lambda **where: nn.Conv2d(2, 3, 3, **where).weight,
    "Linear": lambda **where: nn.Linear(2, 3, **where).weight,
    "BatchNorm2d": lambda **where: nn.BatchNorm2d(3, **where).running_var,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_zero_without_axes_keeps_its_sign(gpu: str, zero: float, dtype: type) -> None:
    for opposite in (-zero, zero):  # a library that knows scalars by value would mix them up
        x = lucid.tensor(np.array(opposite, dtype)).to("gpu")
        assert x.shape == ()
        assert np.signbit(x.cpu().numpy()) == np.signbit(opposite)
        assert np.signbit(lucid.tensor(np.array(opposite, dtype), device="gpu").cpu().numpy()) == np.signbit(opposite)


@pytest.mark.parametrize("name", MADE)
def test_whatever_is_made_has_the_same_bits_there(gpu: str, name: str) -> None:
    results = []
    for where in ({"device": "cpu"}, {"device": gpu}):
        lucid.manual_seed(5)
        made = MADE[name](**where)
        assert made.device == where["device"]
        results.append((made.dtype, made.shape, bits(made.numpy())))
    lucid.manual_seed(5)
    lucid.set_default_device(gpu)
    try:
        made = MADE[name]()
    finally:
        lucid.set_default_device("cpu")
    assert made.device == gpu or name == "to_tensor, dtype"  # a tensor stays where it is
    assert results[1] == results[0] == (made.dtype, made.shape, bits(made.numpy()))


def test_a_module_goes_there_and_back_with_its_optimiser(gpu: str) -> None:
    """Two steps on the CPU are one there and one on the GPU."""

    def step(model: nn.Module, optimizer: lucid.optim.SGD, device: str) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images(device)), lucid.tensor([0, 3], device=device)).backward()
        optimizer.step()

    results = []
    for device in ("cpu", gpu):
        model = narrow(BasicBlock)
        optimizer = lucid.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for where in ("cpu", device, "cpu"):
            model.to(where)
            assert {p.device for p in model.parameters()} == {where}
            assert {p.grad.device for p in model.parameters() if p.grad is not None} <= {where}
            step(model, optimizer, where)
        assert {m["momentum_buffer"].device for m in optimizer.state.values()} == {"cpu"}
        results.append(state(model, optimizer))
    assert_same_bits(results[1], results[0])


def test_an_optimiser_follows_a_change_of_dtype() -> None:
    layer = nn.Linear(2, 2)
    optimizer = lucid.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    for dtype in (lucid.float32, lucid.float64):
        layer.to(dtype)
        optimizer.zero_grad()
        layer(lucid.ones(1, 2, dtype=dtype)).sum().backward()
        optimizer.step()
    assert {m["momentum_buffer"].dtype for m in optimizer.state.values()} == {lucid.float64}


def test_checkpoints_are_the_same_from_both_devices(gpu: str, tmp_path: Path) -> None:
    files = []
    for device in ("cpu", gpu):
        model = narrow(Bottleneck).to(device)
        optimizer = lucid.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        F.cross_entropy(model(images(device)), lucid.tensor([0, 3], device=device)).backward()
        optimizer.step()
        files.append(tmp_path / f"{device}.safetensors")
        lucid.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, files[-1])
    assert files[0].read_bytes() == files[1].read_bytes()
    for device in ("cpu", gpu):
        model = narrow(Bottleneck).to(device)
        optimizer = lucid.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        checkpoint = lucid.load(files[1])
        assert {t.device for t in checkpoint["model"].values()} == {"cpu"}
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        assert {t.device for t in [*model.parameters(), *model.buffers()]} == {device}
        assert {m["momentum_buffer"].device for m in optimizer.state.values()} == {device}
        there = lucid.load(files[1], device=gpu)
        assert {t.device for t in there["model"].values()} == {gpu}
        model.load_state_dict(there["model"])
        assert_same_bits(
            {name: tensor.numpy() for name, tensor in model.state_dict().items()},
            {name: tensor.numpy() for name, tensor in checkpoint["model"].items()},
        )


def test_gradients_come_back_over_the_border(gpu: str) -> None:
    x = lucid.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2).to(gpu)
    (y * y).sum().cpu().backward()
    assert x.grad is not None
    assert (x.grad.device, x.grad.tolist()) == ("cpu", [8.0, 16.0])
    leaf = lucid.tensor([1.0, 2.0], requires_grad=True, device=gpu)
    (leaf.to("cpu") * 3).sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad.device, leaf.grad.tolist()) == (gpu, [3.0, 3.0])


def test_numbers_and_arrays_come_to_the_tensor(gpu: str) -> None:
    x = lucid.tensor([1.0, 2.0], device=gpu)
    for y in (x + 1, 1 + x, x + np.ones(2, np.float32), np.ones(2, np.float32) + x, x + np.float64(1)):
        assert (y.device, y.tolist()) == (gpu, [2.0, 3.0])
    x[0] = 5
    x[1:] = [7.0]
    x[np.array([0])] = np.array([6.0])
    assert x[[1, 0]].tolist() == [7.0, 6.0]
    assert x.copy_(lucid.zeros(2)).tolist() == [0.0, 0.0]  # to copy is to bring
    y = lucid.zeros(2)
    assert y.copy_(x + 1).tolist() == [1.0, 1.0]
    assert y.is_cpu()


def test_shapes_and_graphs_of_models_there(gpu: str) -> None:
    model = narrow(BasicBlock, block_args={"se": True}).eval()
    table, steps = str(summarize(model, (1, 3, 32, 32))), str(lucid.graph.trace(model, images("cpu")))
    expected = model(images("cpu")).numpy()
    model.to(gpu)
    assert str(summarize(model, (1, 3, 32, 32))) == table
    assert str(lucid.graph.trace(model, images(gpu))) == steps
    plan = lucid.compile(model, images(gpu))
    assert bits(plan(images(gpu)).numpy()) == bits(plan(images("cpu").numpy()).numpy()) == bits(expected)
    with pytest.raises(RuntimeError, match="input: got a tensor on 'cpu'; the plan runs on 'gpu'"):
        plan(images("cpu"))


def slope(y: lucid.Tensor, x: lucid.Tensor) -> Any:
    y.backward()
    return x.grad


def written(x: lucid.Tensor, index: Any, value: Any) -> lucid.Tensor:
    y = x.detach().clone()
    y[index] = value
    return y


TINY = 1e-40  # subnormal in float32
SUBNORMALS: dict[str, Callable[[lucid.Tensor], Any]] = {
    "greater": lambda x: x > 0,
    "equal": lambda x: x == 0,
    "sign": lucid.sign,
    "abs": lambda x: slope(lucid.abs(x).sum(), x),
    "maximum": lambda x: slope(lucid.maximum(x, lucid.zeros_like(x)).sum(), x),
    "clip": lambda x: slope(lucid.clip(x, 0.0, 2.0).sum(), x),
    "max": lambda x: slope(lucid.max(x), x),
    "to float64": lambda x: x.to(lucid.float64),
    "tensor": lambda x: lucid.tensor(x, dtype=lucid.float64, device=x.device),
    "and back": lambda x: x.to(lucid.float64).to(lucid.float32),
    "to bool": lambda x: x.to(lucid.bool_),
    "add": lambda x: x + TINY,
    "setitem": lambda x: written(x, slice(2, 4), TINY),
    "setitem of an array": lambda x: written(x, 2, np.array(TINY)),
    "full": lambda x: lucid.full((2,), TINY, device=x.device),
    "where": lambda x: lucid.where(x > 0, x, TINY),
    "norm": lambda x: nn.BatchNorm2d(1).to(x.device).eval()(x.reshape(1, 1, 1, -1)),
}


@pytest.mark.parametrize("name", SUBNORMALS)
def test_subnormals_are_no_zeros(gpu: str, name: str) -> None:
    """CuPy's own kernels take them for that, so none of its may look at a float."""
    results = []
    for device in ("cpu", gpu):
        x = lucid.tensor([TINY, -TINY, 0.0, 1.0, -TINY / 3], requires_grad=True, device=device)
        result = SUBNORMALS[name](x)
        results.append({"result": result.numpy()})
    assert_same_bits(results[1], results[0])


def test_subnormals_go_along_with_a_module_and_its_optimiser(gpu: str) -> None:
    results = []
    for device in ("cpu", gpu):
        layer = nn.Linear(2, 2, bias=False, device=device)
        layer.weight.data[...] = lucid.full((2, 2), TINY, device=device).data
        optimizer = lucid.optim.SGD(layer.parameters(), lr=0.0, momentum=0.9)
        layer.weight.grad = lucid.full((2, 2), TINY, device=device)
        optimizer.step()
        layer.double()
        layer.weight.grad = lucid.zeros(2, 2, dtype=lucid.float64, device=device)
        optimizer.step()
        results.append({**state(layer, optimizer)})
    assert_same_bits(results[1], results[0])


# -- DLPack ----------------------------------------------------------------------------------------------------------


def test_dlpack_both_ways() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.arange(6.0).reshape(2, 3)
    ours = lucid.from_dlpack(theirs)
    theirs[0, 0] = 9
    assert (ours.device, ours.tolist()) == ("cpu", theirs.tolist())
    back = torch.from_dlpack(lucid.ones(2, 3))
    assert back.tolist() == [[1.0] * 3] * 2
    x = lucid.zeros(2)
    np.from_dlpack(x)  # the protocol asks for the device first
    shared = torch.from_dlpack(x)
    shared[1] = 4
    assert x.tolist() == [0.0, 4.0]


def test_dlpack_of_what_is_nowhere() -> None:
    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return (7, 0)

    with pytest.raises(ValueError, match="kind 7; may lie on the CPU"):
        lucid.from_dlpack(Elsewhere())
    with pytest.raises(TypeError, match="source: got list"):
        lucid.from_dlpack([1.0])


# -- what is refused -------------------------------------------------------------------------------------------------


def on_both(gpu: str) -> tuple[lucid.Tensor, lucid.Tensor]:
    return lucid.ones(2, 2), lucid.ones(2, 2, device=gpu)


MIXED: dict[str, Callable[[lucid.Tensor, lucid.Tensor], Any]] = {
    "add": lambda a, b: a + b,
    "where": lambda a, b: lucid.where(a > 0, b, b),
    "matmul": lambda a, b: a @ b,
    "linear": F.linear,
    "concatenate": lambda a, b: lucid.concatenate([a, b]),
    "less": lambda a, b: a < b,
    "getitem": lambda a, b: a[b > 0],
    "setitem": lambda a, b: a.__setitem__(0, b[0]),
    "conv2d": lambda a, b: nn.Conv2d(1, 1, 1)(b.reshape(1, 1, 2, 2)),
    "batch_norm": lambda a, b: nn.BatchNorm2d(1)(b.reshape(1, 1, 2, 2)),
    "nll_loss": lambda a, b: F.nll_loss(a, lucid.tensor([0, 1], device=b.device)),
    "sub": lambda a, b: F.mse_loss(a, b),
    "huber": lambda a, b: F.huber_loss(a, b),
    "embedding": lambda a, b: F.embedding(lucid.tensor([0, 1], device=b.device), a),
    "backward": lambda a, b: a.requires_grad_().backward(b),
}


@pytest.mark.parametrize("name", MIXED)
def test_devices_are_not_mixed(gpu: str, name: str) -> None:
    a, b = on_both(gpu)
    with pytest.raises(RuntimeError, match=f"^{name}: got tensors on '[cg]pu' and '[cg]pu'; all must be on one device"):
        MIXED[name](a, b)


def test_gradients_of_another_device_are_refused(gpu: str) -> None:
    layer = nn.Linear(2, 1)
    optimizer = lucid.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.tolist()
    layer.bias.grad = lucid.zeros(1)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"grad: got float32 of shape .* on 'gpu' for a parameter .* on 'cpu'"):
        layer.weight.grad = lucid.zeros(1, 2, device=gpu)
    layer.weight.grad = lucid.zeros(1, 2)
    layer.weight.data = layer.weight.gpu()  # the gradient stays behind
    with pytest.raises(ValueError, match=r"grad: got float32 of shape .* on 'cpu' for a parameter .* on 'gpu'"):
        optimizer.step()
    assert layer.weight.tolist() == before
    x = lucid.ones(2, requires_grad=True, device=gpu)
    handle = x.register_hook(lambda gradient: gradient.cpu())
    with pytest.raises(RuntimeError, match=r"a gradient hook returned .* on 'cpu'; may return .* on 'gpu'"):
        (x * 2).sum().backward()
    handle.remove()


NAMES = {
    "tpu": r"device: got 'tpu'; may be 'cpu' or 'gpu'$",
    "cuda": "device: got 'cuda'; may be 'cpu' or 'gpu', which is what lucid calls an NVIDIA GPU$",
    "gpu:1": "device: got 'gpu:1'; may be 'cpu' or 'gpu' without a number: there is one GPU, the first that",
    "cuda:0": "device: got 'cuda:0'; may be 'cpu' or 'gpu' without a number",
    "GPU": "device: got 'GPU'; may be 'cpu' or 'gpu'$",
    "": "device: got ''; may be 'cpu' or 'gpu'$",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_no_device(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    lucid.save({"x": lucid.ones(2)}, file)
    for call in (
        lambda: lucid.zeros(2, device=name),
        lambda: lucid.tensor([1.0], device=name),
        lambda: lucid.Tensor([1.0], device=name),
        lambda: lucid.to_tensor([1.0], device=name),
        lambda: lucid.ones(2).to(name),
        lambda: lucid.random.rand(2, device=name),
        lambda: nn.Linear(2, 2, device=name),
        lambda: nn.Linear(2, 2).to(name),
        lambda: lucid.load(file, device=name),
        lambda: lucid.set_default_device(name),
    ):
        with pytest.raises(ValueError, match=NAMES[name]):
            call()
    assert lucid.get_default_device() == "cpu"
    assert lucid.ones(2).to("float64").dtype == lucid.float64  # other text may be a dtype


@pytest.mark.skipif("cuda" in available_backends(), reason="there is a GPU")
def test_no_gpu_is_one_sentence() -> None:
    layer = nn.Linear(2, 2)
    for call in (
        lambda: lucid.zeros(2, device="gpu"),
        lambda: lucid.ones(2).to("gpu"),
        lambda: lucid.tensor([1.0], device="gpu"),
        lambda: layer.to("gpu"),
        lambda: lucid.set_default_device("gpu"),
    ):
        with pytest.raises(RuntimeError, match=r"^device: got 'gpu', but the 'cuda' backend cannot run here: [^\n]+$"):
            call()
    assert layer.weight.device == lucid.get_default_device() == "cpu"


def test_backends_and_their_devices(gpu: str) -> None:
    assert {name: device_of(name) for name in ("native", "reference", "cuda", "emulated")} == {
        "native": "cpu",
        "reference": "cpu",
        "cuda": "gpu",
        "emulated": "cpu",
    }
    assert known_backends("gpu") == ["cuda", "emulated", "strict", "strict_cuda"]
    assert backend_for("cpu").name != backend_for(gpu).name
    with pytest.raises(ValueError, match="backend: got 'cuda'; device 'cpu' may use native, reference, emulated"):
        lucid.set_backend("cuda", "cpu")
    with pytest.raises(ValueError, match="backend: got 'abacus'"):
        lucid.set_backend("abacus")


def test_a_variable_that_names_no_backend_of_the_cpu() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import lucid; lucid.zeros(2)"],
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "LUCID_BACKEND": "cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SettingError: LUCID_BACKEND: got 'cuda'; may be one of native, reference" in run.stderr


# -- checks that are put off ------------------------------------------------------------------------------------------


def test_a_wrong_target_is_told_when_a_value_is_read(gpu: str) -> None:
    x = lucid.zeros(3, 4, requires_grad=True, device=gpu)
    target = lucid.tensor([0, 9, 2], device=gpu)
    with traffic() as seen:
        loss = F.cross_entropy(x, target)
        loss.backward()
    assert seen.waits == []
    with pytest.raises(IndexError, match="target: got class 9 at position 1; may be 0 to 3, or -100"):
        loss.item()
    assert loss.item() == pytest.approx(np.log(4))  # told once; that row took no part


def test_wrong_probabilities_are_told_when_a_value_is_read(gpu: str) -> None:
    drawn = lucid.random.bernoulli(lucid.tensor([0.5, 1.5], device=gpu), device=gpu)
    with pytest.raises(ValueError, match=r"probs: got 1.5 at position 1; may be 0 to 1"):
        drawn.numpy()
    with pytest.raises(ValueError, match=r"probs: got 1.5; may be 0 to 1"):
        lucid.random.bernoulli(1.5, 2, device=gpu)


def test_checks_do_not_pile_up(gpu: str) -> None:
    x, target = lucid.zeros(1, 2, device=gpu), lucid.tensor([5], device=gpu)

    def never_read() -> None:
        for _ in range(2000):
            F.nll_loss(x, target)

    with pytest.raises(IndexError, match="got class 5"):
        never_read()
