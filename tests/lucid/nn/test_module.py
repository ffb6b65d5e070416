"""Modules: registering, looking through, state, hooks, layers against PyTorch's, and what they refuse."""

from __future__ import annotations

import collections
import copy
import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import lucid
import lucid.nn.functional as F
from lucid import nn

torch.set_num_threads(1)
F64 = lucid.float64


class Net(nn.Module):
    """A module with everything: parameters, buffers of both kinds, modules, a shared module, a missing bias."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter([2.0])
        self.conv = nn.Conv2d(1, 2, 3, bias=False)
        self.bn = nn.BatchNorm2d(2)
        self.body = nn.Sequential(nn.ReLU(), nn.Flatten())
        self.fc = nn.Linear(8, 3)
        self.again = self.fc
        self.register_buffer("offset", lucid.zeros(1))
        self.register_buffer("scratch", lucid.zeros(1), persistent=False)
        self.register_parameter("missing", None)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return self.fc(self.body(self.bn(self.conv(x)))) * self.scale + self.offset


def image(*shape: int, seed: int = 0, dtype: Any = np.float32) -> lucid.Tensor:
    return lucid.tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


# -- looking through ---------------------------------------------------------------------------------------------------


def test_names() -> None:
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "scale", "conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias",
    ]  # fmt: skip
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in net.named_parameters("net")][:2] == ["net.scale", "net.conv.weight"]
    assert [n for n, _ in net.named_buffers()] == [
        "offset", "scratch", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked",
    ]  # fmt: skip
    assert [n for n, _ in net.named_modules()] == ["", "conv", "bn", "body", "body.0", "body.1", "fc"]
    assert [n for n, _ in net.named_children()] == ["conv", "bn", "body", "fc"]
    assert "again" in [n for n, _ in net.named_modules(remove_duplicate=False)]
    assert len(list(net.modules())) == 7
    assert len(list(net.children())) == 4
    assert len(list(net.buffers())) == 5
    assert net.get_submodule("body.1") is net.body[1]
    assert net.get_submodule("") is net
    with pytest.raises(AttributeError, match="no module 'nobody'"):
        net.get_submodule("body.nobody")


def test_counting() -> None:
    net = Net()
    assert net.count_parameters() == net.parameter_size == 1 + 18 + 2 + 2 + 24 + 3
    assert net.count_parameters(recurse=False) == 1


def test_repr_is_pytorchs() -> None:
    ours = nn.Sequential(
        nn.Conv2d(3, 8, (3, 5), stride=2, padding=1, dilation=(2, 1), bias=False),
        nn.Sequential(nn.Conv2d(8, 8, 3, groups=4, padding="same"), nn.BatchNorm2d(8, momentum=None), nn.ReLU(True)),
        nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Identity(),
        nn.ModuleList([nn.Linear(2, 3, bias=False)]),
        nn.Sigmoid(),
        nn.Conv1d(3, 4, 3, padding=1),
        nn.Conv3d(3, 4, 3, stride=(1, 2, 2), groups=1),
        nn.ConvTranspose1d(4, 2, 3, 2, 1, 1),
        nn.ConvTranspose2d(4, 2, 3, dilation=2, groups=2, bias=False),
        nn.ConvTranspose3d(4, 2, 3, 2, output_padding=(1, 0, 1), dilation=2),
        nn.MaxPool1d(2),
        nn.MaxPool3d((1, 2, 2), dilation=2),
        nn.AvgPool1d(2, padding=1),
        nn.AvgPool3d(2, 1),
        nn.AdaptiveAvgPool1d(2),
        nn.AdaptiveAvgPool3d((1, 2, None)),
        nn.AdaptiveMaxPool2d((1, None)),
        nn.Upsample(size=(2, 3)),
        nn.Unfold(3, padding=1),
        nn.Fold((4, 5), (2, 3)),
        nn.Upsample(scale_factor=2.0, mode="bilinear"),
    )
    t = torch.nn
    theirs = t.Sequential(
        t.Conv2d(3, 8, (3, 5), stride=2, padding=1, dilation=(2, 1), bias=False),
        t.Sequential(t.Conv2d(8, 8, 3, groups=4, padding="same"), t.BatchNorm2d(8, momentum=None), t.ReLU(True)),
        t.MaxPool2d(3, 2, 1),
        t.AvgPool2d(2),
        t.AdaptiveAvgPool2d((1, 1)),
        t.Identity(),
        t.ModuleList([t.Linear(2, 3, bias=False)]),
        t.Sigmoid(),
        t.Conv1d(3, 4, 3, padding=1),
        t.Conv3d(3, 4, 3, stride=(1, 2, 2), groups=1),
        t.ConvTranspose1d(4, 2, 3, 2, 1, 1),
        t.ConvTranspose2d(4, 2, 3, dilation=2, groups=2, bias=False),
        t.ConvTranspose3d(4, 2, 3, 2, output_padding=(1, 0, 1), dilation=2),
        t.MaxPool1d(2),
        t.MaxPool3d((1, 2, 2), dilation=2),
        t.AvgPool1d(2, padding=1),
        t.AvgPool3d(2, 1),
        t.AdaptiveAvgPool1d(2),
        t.AdaptiveAvgPool3d((1, 2, None)),
        t.AdaptiveMaxPool2d((1, None)),
        t.Upsample(size=(2, 3)),
        t.Unfold(3, padding=1),
        t.Fold((4, 5), (2, 3)),
        t.Upsample(scale_factor=2.0, mode="bilinear"),
    )
    expected = repr(theirs).replace("affine=True, bias=True", "affine=True")  # which later PyTorchs have
    assert repr(ours) == expected
    assert repr(nn.Module()) == "Module()"


# -- registering -------------------------------------------------------------------------------------------------------


def test_attributes_move_between_registries() -> None:
    module = nn.Module()
    module.x = nn.Parameter([1.0])
    module.x = nn.ReLU()
    assert (list(module._parameters), [n for n, _ in module.named_modules()]) == ([], ["", "x"])
    module.x = nn.Buffer([1.0])
    assert (list(module._modules), list(module.state_dict())) == ([], ["x"])
    module.x = lucid.zeros(3)
    assert module.state_dict()["x"].shape == (3,)
    del module.x
    assert list(module.state_dict()) == []
    assert not hasattr(module, "x")
    module.y = nn.Parameter([1.0])
    module.y = None
    assert (list(module.parameters()), module.y) == ([], None)
    module.y = nn.Parameter([2.0])
    assert len(list(module.parameters())) == 1


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a tensor for a parameter": (
        lambda: setattr(nn.Linear(1, 1), "weight", lucid.ones(1)),
        TypeError,
        "weight: got Tensor",
    ),
    "a number for a module": (lambda: setattr(Net(), "fc", 3), TypeError, "fc: got int"),
    "a number for a buffer": (lambda: setattr(Net(), "offset", 3), TypeError, "offset: got int"),
    "a name with a dot": (lambda: nn.Module().register_buffer("a.b", None), KeyError, "without dots"),
    "an empty name": (lambda: nn.Module().add_module("", nn.ReLU()), KeyError, "not empty"),
    "a name that is taken": (lambda: nn.Module().register_parameter("forward", None), KeyError, "already"),
    "no parameter": (lambda: nn.Module().register_parameter("p", lucid.ones(1)), TypeError, "param: got Tensor"),
    "no tensor": (lambda: nn.Module().register_buffer("b", [1.0]), TypeError, "tensor: got list"),
    "no module": (lambda: nn.Sequential(3), TypeError, "module: got int"),
    "no forward": (lambda: nn.Module()(1), NotImplementedError, "does not define forward"),
    "a mode": (lambda: nn.ReLU().train("yes"), ValueError, "mode: got 'yes'"),
    "an integer module": (lambda: nn.ReLU().to(lucid.int64), TypeError, "float32 or float64"),
    "no such module": (lambda: nn.Sequential(nn.ReLU())[1], IndexError, "has 1 modules"),
    "no such name": (lambda: nn.ModuleDict({"a": nn.ReLU()})["b"], KeyError, "may be one of a"),
    "convolution: channels": (lambda: nn.Conv2d(3, 4, 1)(image(1, 2, 4, 4)), ValueError, "has 2 channels; .* takes 3"),
    "convolution: rank": (lambda: nn.Conv2d(3, 4, 1)(image(3, 4, 4)), ValueError, r"\(3, 4, 4\); must have 4 axes"),
    "convolution: kernel": (
        lambda: nn.Conv2d(1, 1, 5)(image(1, 1, 4, 6)),
        ValueError,
        "5x5 .* larger than the input 4x6",
    ),
    "convolution: dilated kernel": (lambda: nn.Conv2d(1, 1, 3, dilation=3)(image(1, 1, 6, 9)), ValueError, "larger"),
    "convolution: dtype": (
        lambda: nn.Conv2d(1, 1, 1)(image(1, 1, 2, 2, dtype=np.float64)),
        TypeError,
        "conv2d: got tensors of dtype float64 and float32",
    ),
    "convolution: groups": (lambda: nn.Conv2d(3, 4, 1, groups=2), ValueError, "groups: got 2; must divide"),
    "convolution: groups of a weight": (
        lambda: F.conv2d(image(1, 4, 3, 3), lucid.ones(3, 2, 1, 1), groups=2),
        ValueError,
        "groups: got 2",
    ),
    "convolution: no groups": (
        lambda: F.conv2d(image(1, 4, 3, 3), lucid.ones(4, 4, 1, 1), groups=0),
        ValueError,
        "groups",
    ),
    "convolution: weight": (lambda: F.conv2d(image(1, 4, 3, 3), lucid.ones(4, 4)), ValueError, "weight has shape"),
    "convolution: bias": (
        lambda: F.conv2d(image(1, 1, 3, 3), lucid.ones(2, 1, 1, 1), lucid.ones(3)),
        ValueError,
        "bias has shape",
    ),
    "convolution: stride": (lambda: nn.Conv2d(1, 1, 1, stride=0), ValueError, "stride: got 0; may be 1 or more"),
    "convolution: kernel size": (lambda: nn.Conv2d(1, 1, (1, 2, 3)), ValueError, "kernel_size: got"),
    "convolution: fraction": (lambda: nn.Conv2d(1, 1, 1.5), ValueError, "kernel_size: got 1.5"),
    "convolution: negative padding": (lambda: nn.Conv2d(1, 1, 1, padding=-1), ValueError, "padding: got -1"),
    "convolution: padding": (lambda: nn.Conv2d(1, 1, 1, padding="full"), ValueError, "'full'"),
    "convolution: same with stride": (lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), ValueError, "stride 1"),
    "convolution: padding mode": (lambda: nn.Conv2d(1, 1, 1, padding_mode="reflect"), ValueError, "'zeros'"),
    "convolution: no channels": (lambda: nn.Conv2d(0, 1, 1), ValueError, "at least 1"),
    "layer normalisation: shape": (lambda: nn.LayerNorm(3)(image(2, 4)), ValueError, r"\(2, 4\).*must end in .*\(3,\)"),
    "layer normalisation: no axis": (lambda: nn.LayerNorm(()), ValueError, r"normalized_shape: got \(\)"),
    "layer normalisation: weight": (
        lambda: F.layer_norm(image(2, 4), 4, lucid.ones(3)),
        ValueError,
        r"weight: got shape \(3,\); must be .*\(4,\)",
    ),
    "layer normalisation: integers": (lambda: F.layer_norm(lucid.arange(4), 4), TypeError, "layer_norm: got a int64"),
    "layer normalisation: dtypes": (
        lambda: nn.LayerNorm(4).double()(image(2, 4)),
        TypeError,
        "layer_norm: .*float32 and float64",
    ),
    "normalisation: channels": (lambda: nn.BatchNorm2d(3)(image(2, 4, 2, 2)), ValueError, "has 4 channels; must be 3"),
    "normalisation: rank": (lambda: nn.BatchNorm2d(3)(image(2, 3)), ValueError, "must have 4 axes"),
    "normalisation: one value": (lambda: nn.BatchNorm2d(3)(image(1, 3, 1, 1)), ValueError, "more than one value"),
    "normalisation: no statistics": (
        lambda: F.batch_norm(image(1, 3, 2, 2), None, None),
        ValueError,
        "evaluation needs",
    ),
    "normalisation: statistics": (
        lambda: F.batch_norm(image(1, 3, 2, 2), lucid.zeros(2), lucid.ones(3)),
        ValueError,
        "must have shape",
    ),
    "normalisation: dtype": (
        lambda: nn.BatchNorm2d(1).double()(image(2, 1, 2, 2)),
        TypeError,
        "batch_norm: .* float64",
    ),
    "pooling: rank": (lambda: nn.MaxPool2d(2)(image(2, 2)), ValueError, "max_pool2d: .* 4 axes"),
    "pooling: kernel": (lambda: nn.MaxPool2d(3)(image(1, 1, 2, 5)), ValueError, "3x3 .* larger than the input 2x5"),
    "pooling: padding": (lambda: nn.AvgPool2d(2, padding=2)(image(1, 1, 4, 4)), ValueError, "half of the window"),
    "pooling: stride": (lambda: nn.AvgPool2d(2, stride=0)(image(1, 1, 4, 4)), ValueError, "stride: got 0"),
    "adaptive pooling: size": (lambda: nn.AdaptiveAvgPool2d(0)(image(1, 1, 4, 4)), ValueError, "output_size: got 0"),
    "adaptive pooling: empty": (lambda: nn.AdaptiveAvgPool2d(1)(lucid.zeros(1, 1, 0, 4)), ValueError, "one pixel"),
    "linear: features": (lambda: nn.Linear(3, 2)(lucid.ones(2, 4)), ValueError, "must have length 3"),
    "linear: weight": (lambda: F.linear(lucid.ones(2, 4), lucid.ones(4)), ValueError, "weight has shape"),
    "linear: bias": (lambda: F.linear(lucid.ones(2, 4), lucid.ones(3, 4), lucid.ones(4)), ValueError, "bias has shape"),
    "dropout": (lambda: nn.Dropout(1.5), ValueError, "p: got 1.5"),
    "squeeze and excitation": (lambda: nn.SEModule(4, 0), ValueError, "reduction: got 0"),
    "loss: class": (
        lambda: F.cross_entropy(lucid.zeros(2, 3), lucid.tensor([0, 3])),
        IndexError,
        "class 3 at position 1",
    ),
    "loss: negative class": (lambda: F.nll_loss(lucid.zeros(2, 3), lucid.tensor([-1, 0])), IndexError, "0 to 2"),
    "loss: rows": (lambda: F.cross_entropy(lucid.zeros(2, 3), lucid.tensor([0])), ValueError, r"\(2, 3\).*\(1,\)"),
    "loss: floats": (lambda: F.nll_loss(lucid.zeros(2, 3), lucid.ones(2)), TypeError, "target: got float32"),
    "loss: no tensor": (lambda: F.cross_entropy(lucid.zeros(2, 3), [0, 1]), TypeError, "target: got list"),
    "loss: weights": (
        lambda: F.cross_entropy(lucid.zeros(2, 3), lucid.tensor([0, 1]), lucid.ones(2)),
        ValueError,
        r"weight: got shape \(2,\)",
    ),
    "loss: reduction": (
        lambda: nn.CrossEntropyLoss(reduction="average")(lucid.zeros(2, 3), lucid.tensor([0, 1])),
        ValueError,
        "'average'",
    ),
    "loss: smoothing": (
        lambda: F.cross_entropy(lucid.zeros(2, 3), lucid.tensor([0, 1]), label_smoothing=2.0),
        ValueError,
        "0 to 1",
    ),
    "loss: probabilities": (lambda: F.cross_entropy(lucid.zeros(2, 3), lucid.zeros(2)), ValueError, "input's shape"),
    "loss: squared error": (lambda: F.mse_loss(lucid.zeros(2, 1), lucid.zeros(2)), ValueError, "must be equal"),
    "log_softmax: axis": (lambda: F.log_softmax(lucid.zeros(2, 3), 2), ValueError, "axis 2"),
    "log_softmax: integers": (lambda: F.log_softmax(lucid.arange(3)), TypeError, "int64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    action, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        action()


def test_a_refused_batch_leaves_the_statistics_alone() -> None:
    layer = nn.BatchNorm2d(3)
    before = {k: v.tolist() for k, v in layer.state_dict().items()}
    for bad in (image(1, 3, 1, 1), image(2, 4, 2, 2), image(2, 3, 2, 2, dtype=np.float64)):
        with pytest.raises((ValueError, TypeError)):
            layer(bad)
    assert {k: v.tolist() for k, v in layer.state_dict().items()} == before


def test_init_before_super() -> None:
    class Hasty(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"super\(\).__init__"):
        Hasty()


# -- containers --------------------------------------------------------------------------------------------------------


def test_sequential() -> None:
    a, b, c = nn.ReLU(), nn.Sigmoid(), nn.Identity()
    model = nn.Sequential(a, b)
    assert model.append(c) is model
    assert (len(model), model[-1], list(model), b in model) == (3, c, [a, b, c], True)
    assert list(model[:2]) == [a, b]
    assert isinstance(model[1:], nn.Sequential)
    model.insert(1, c)
    del model[0]
    model[0] = a
    assert list(model) == [a, b, c]
    assert [n for n, _ in model.named_children()] == ["0", "1", "2"]
    named = nn.Sequential({"first": a, "second": b})
    assert [n for n, _ in named.named_children()] == ["first", "second"]
    assert named(lucid.tensor([-1.0])).tolist() == [0.5]


def test_module_list_and_dict() -> None:
    a, b = nn.ReLU(), nn.Linear(1, 1)
    modules = nn.ModuleList([a]).extend([b])
    assert (list(modules), list(modules[1:]), modules[-1]) == ([a, b], [b], b)
    named = nn.ModuleDict({"a": a})
    named["b"] = b
    assert (list(named.keys()), named.values(), named.items(), "b" in named) == (
        ["a", "b"],
        [a, b],
        [("a", a), ("b", b)],
        True,
    )
    assert named.pop("b") is b
    del named["a"]
    assert len(named) == 0
    assert [n for n, _ in modules.named_parameters()] == ["1.weight", "1.bias"]


# -- changing all of it ------------------------------------------------------------------------------------------------


def test_train_and_eval_reach_everything() -> None:
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())


def test_apply_goes_from_inner_to_outer() -> None:
    seen = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Sequential", "Linear", "Net"]


def test_conversion_of_a_module(backend: str) -> None:
    net = Net()
    net(image(2, 1, 4, 4)).sum().backward()
    weight = net.fc.weight
    assert net.double() is net
    assert net.fc.weight is weight
    assert {p.dtype for p in net.parameters()} == {F64}
    assert weight.grad.dtype == F64
    assert (net.bn.running_mean.dtype, net.bn.num_batches_tracked.dtype) == (F64, lucid.int64)
    net(image(2, 1, 4, 4, dtype=np.float64))
    assert net.to("cpu", lucid.float32).fc.weight.dtype == lucid.float32
    assert net.float().conv.weight.dtype == lucid.float32


def test_moving_a_module(gpu: str) -> None:
    net = Net().to("gpu")
    assert {t.device for t in [*net.parameters(), *net.buffers()]} == {"gpu"}
    net(image(2, 1, 4, 4).gpu()).sum().backward()
    assert net.conv.weight.grad.device == "gpu"
    lucid.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).step()
    with pytest.raises(RuntimeError, match="'cpu' and 'gpu'"):
        net(image(2, 1, 4, 4))
    net.load_state_dict(Net().state_dict())


def test_freezing_and_forgetting() -> None:
    net = Net()
    net(image(2, 1, 4, 4)).sum().backward()
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert not net.requires_grad_(False)(image(2, 1, 4, 4)).requires_grad


def test_deep_copies_of_modules() -> None:
    net = Net()
    other = copy.deepcopy(net)
    other.fc.weight.data[...] = 0
    assert net.fc.weight.numpy().any()
    assert other.again is other.fc


# -- state -------------------------------------------------------------------------------------------------------------


def test_state_dict_shares_memory_and_order() -> None:
    net = Net()
    state = net.state_dict()
    assert list(state) == [
        "scale", "offset", "conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
        "bn.num_batches_tracked", "fc.weight", "fc.bias", "again.weight", "again.bias",
    ]  # fmt: skip
    assert np.shares_memory(state["fc.weight"].data, net.fc.weight.data)
    assert not state["fc.weight"].requires_grad
    assert net.state_dict(keep_vars=True)["fc.weight"] is net.fc.weight
    assert next(iter(net.bn.state_dict("bn."))) == "bn.weight"


def test_loading_a_state() -> None:
    source, target = Net(), Net()
    source(image(2, 1, 4, 4))
    weight = target.fc.weight
    assert target.load_state_dict(source.state_dict()) == ([], [])
    assert target.fc.weight is weight
    for name, value in target.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), source.state_dict()[name].numpy())
    assert not np.shares_memory(target.fc.weight.data, source.fc.weight.data)


def test_loading_converts_floats_and_takes_arrays_and_pytorchs() -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.full((1, 2), 0.1), "bias": torch.tensor([1.0])})
    assert layer.weight.tolist() == [[float(np.float32(0.1))] * 2]
    assert (layer.weight.dtype, layer.bias.tolist()) == (lucid.float32, [1.0])


def test_a_state_that_does_not_fit_is_one_error_and_changes_nothing() -> None:
    net = Net()
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    state: dict[str, Any] = {name: lucid.ones_like(value) for name, value in net.state_dict().items()}
    del state["fc.bias"], state["again.bias"]
    state["stranger"] = lucid.ones(1)
    state["conv.weight"] = lucid.ones(2, 1, 5, 5)
    state["bn.num_batches_tracked"] = lucid.tensor(1.5)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    for part in (
        "Net",
        "missing: fc.bias",
        "unexpected: stranger",
        "wrong shape: conv.weight is (2, 1, 5, 5), must be (2, 1, 3, 3)",
        "wrong dtype: bn.num_batches_tracked is float32, must be int64",
    ):
        assert part in text
    with pytest.raises(RuntimeError, match="wrong shape"):
        net.load_state_dict(state, strict=False)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_loading_leniently() -> None:
    layer = nn.Linear(2, 1)
    keys = layer.load_state_dict({"weight": lucid.ones(1, 2), "stranger": lucid.ones(1)}, strict=False)
    assert keys.missing_keys == ["bias"]
    assert keys.unexpected_keys == ["stranger"]
    assert layer.weight.tolist() == [[1.0, 1.0]]


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_forward_hooks() -> None:
    layer = nn.ReLU()
    seen = []
    first = layer.register_forward_hook(lambda m, args, out: seen.append((m, args[0].tolist(), out.tolist())))
    second = layer.register_forward_hook(lambda m, args, out: out * 10)
    before = layer.register_forward_pre_hook(lambda m, args: args[0] + 1)
    assert layer(lucid.tensor([1.0])).tolist() == [20.0]
    assert seen == [(layer, [2.0], [2.0])]
    for handle in (first, second, before):
        handle.remove()
    assert layer(lucid.tensor([1.0])).tolist() == [1.0]
    assert len(seen) == 1


class Two(nn.Module):
    """Two inputs, two outputs; works in both libraries."""

    def forward(self, a: Any, b: Any) -> Any:
        return a * b, a + b


class TorchTwo(torch.nn.Module):
    forward = Two.forward


def backward_hooks(module: Any, tensor: Callable[[Any], Any], needs: tuple[bool, bool], use: str, replace: bool) -> Any:
    """What a full backward hook sees, and what the inputs get, in either library."""
    seen = []

    def hook(m: Any, grad_input: Any, grad_output: Any) -> Any:
        seen.append([[None if g is None else g.tolist() for g in gs] for gs in (grad_input, grad_output)])
        return tuple(None if g is None else g * 10 for g in grad_input) if replace else None

    module.register_full_backward_hook(hook)
    a, b = tensor([1.0, 2.0]), tensor([3.0, 4.0])
    leaves = [x for x, need in zip((a, b), needs, strict=True) if need]
    for x in leaves:
        x.requires_grad = True
    y, z = module(a, b)
    {"both": lambda: (y * 2 + z).sum(), "first": lambda: y.sum(), "second": lambda: (z * z).sum()}[use]().backward()
    return seen, [None if x.grad is None else x.grad.tolist() for x in leaves]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("use", ["both", "first", "second"])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_backward_hooks_are_pytorchs(needs: tuple[bool, bool], use: str, replace: bool) -> None:
    ours = backward_hooks(Two(), lucid.tensor, needs, use, replace)
    seen, grads = backward_hooks(TorchTwo(), torch.tensor, needs, use, replace)
    for grad_input, _ in seen:  # where an input needs no gradient PyTorch shows zeros, lucid None
        grad_input[:] = [g if need else None for g, need in zip(grad_input, needs, strict=True)]
    assert ours == (seen, grads)


def test_backward_hooks_of_layers_see_what_pytorchs_see(backend: str) -> None:
    ours, theirs = nn.Linear(3, 2, dtype=F64), torch.nn.Linear(3, 2, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((4, 3))
    got: dict[str, Any] = {}
    ours.register_backward_hook(lambda m, i, o: got.update(ours=(i, o)))
    theirs.register_full_backward_hook(lambda m, i, o: got.update(theirs=(i, o)))
    (ours(lucid.tensor(x, requires_grad=True)) ** 2).sum().backward()
    (theirs(torch.tensor(x, requires_grad=True)) ** 2).sum().backward()
    for a, b in zip(got["ours"], got["theirs"], strict=True):
        np.testing.assert_allclose(a[0].numpy(), b[0].numpy(), rtol=1e-12)


def test_backward_hook_without_input_gradients() -> None:
    layer = nn.Linear(2, 1)
    seen = []
    layer.register_backward_hook(lambda m, i, o: seen.append((i, o[0].tolist())))
    layer(lucid.ones(1, 2)).sum().backward()
    assert seen == [((None,), [[1.0]])]
    assert layer.weight.grad.tolist() == [[1.0, 1.0]]


def test_backward_hooks_forget_between_passes() -> None:
    module, seen = Two(), []
    module.register_backward_hook(lambda m, i, o: seen.append([g is None for g in o]))
    y, z = module(lucid.ones(1, requires_grad=True), lucid.ones(1))
    (y + z).backward(retain_graph=True)
    z.backward()
    assert seen == [[False, False], [True, False]]


def test_backward_hooks_leave_no_cycles_and_inference_alone() -> None:
    layer = nn.ReLU()
    handle = layer.register_backward_hook(lambda m, i, o: None)
    with lucid.no_grad():
        assert not layer(lucid.ones(1, requires_grad=True)).requires_grad
    gc.collect()
    gc.disable()
    try:
        y = layer(lucid.ones(1, requires_grad=True))
        node = weakref.ref(y._node)
        y.sum().backward()
        del y
        assert node() is None
    finally:
        gc.enable()
    handle.remove()
    assert layer(lucid.ones(1, requires_grad=True))._node.name == "relu"


@pytest.mark.parametrize("bad", [(1,), (None, None)])
def test_backward_hooks_return_gradients(bad: Any) -> None:
    layer = nn.ReLU()
    layer.register_backward_hook(lambda m, i, o: bad)
    with pytest.raises(RuntimeError, match="backward hook of ReLU"):
        layer(lucid.ones(1, requires_grad=True)).backward()


# -- layers against PyTorch --------------------------------------------------------------------------------------------

LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "convolution": (lambda m: m.Conv2d(3, 4, 3), (2, 3, 6, 5)),
    "convolution, everything": (
        lambda m: m.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, False),
        (2, 4, 7, 6),
    ),
    "convolution, same": (lambda m: m.Conv2d(2, 3, (3, 5), padding="same", dilation=2), (1, 2, 8, 9)),
    "convolution, same, even kernel": (lambda m: m.Conv2d(2, 3, (4, 2), padding="same"), (1, 2, 5, 6)),
    "convolution, valid": (lambda m: m.Conv2d(2, 3, 2, padding="valid"), (1, 2, 3, 3)),
    "convolution, depthwise": (lambda m: m.Conv2d(3, 6, 3, padding=1, groups=3), (1, 3, 4, 4)),
    "convolution, one side": (lambda m: m.Conv1d(3, 4, 3, 2, 1), (2, 3, 8)),
    "convolution, one side, everything": (lambda m: m.Conv1d(4, 6, 3, 2, (1,), 2, 2, False), (2, 4, 9)),
    "convolution, three sides": (lambda m: m.Conv3d(3, 4, (2, 3, 3), padding=1), (2, 3, 3, 4, 5)),
    "convolution, three sides, same": (lambda m: m.Conv3d(2, 3, (2, 3, 1), padding="same"), (1, 2, 3, 4, 3)),
    "transposed convolution": (lambda m: m.ConvTranspose2d(3, 4, 4, 2, 1), (2, 3, 4, 5)),
    "transposed convolution, everything": (
        lambda m: m.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, (2, 1)),
        (2, 4, 4, 3),
    ),
    "transposed convolution, one side": (lambda m: m.ConvTranspose1d(3, 4, 3, 2, 1, 1), (2, 3, 5)),
    "transposed convolution, three sides": (lambda m: m.ConvTranspose3d(2, 3, 3, (2, 1, 2), groups=1), (2, 2, 2, 3, 2)),
    "linear": (lambda m: m.Linear(4, 3), (5, 4)),
    "linear without bias": (lambda m: m.Linear(4, 3, False), (5, 4)),
    "linear, more axes": (lambda m: m.Linear(4, 3), (2, 5, 4)),
    "linear, one axis": (lambda m: m.Linear(4, 3), (4,)),
    "normalisation": (lambda m: m.BatchNorm2d(3), (4, 3, 2, 5)),
    "normalisation, cumulative": (lambda m: m.BatchNorm2d(3, momentum=None), (4, 3, 2, 5)),
    "normalisation, plain": (lambda m: m.BatchNorm2d(3, 1e-3, 0.3, False, False), (4, 3, 2, 5)),
    "normalisation, no side": (lambda m: m.BatchNorm1d(3), (5, 3)),
    "normalisation, one side": (lambda m: m.BatchNorm1d(3, momentum=None), (4, 3, 5)),
    "normalisation, three sides": (lambda m: m.BatchNorm3d(3), (2, 3, 2, 3, 2)),
    "sequence, one side": (lambda m: m.Sequential(m.Conv1d(2, 3, 3), m.BatchNorm1d(3), m.ReLU()), (3, 2, 6)),
    "sequence, three sides": (lambda m: m.Sequential(m.Conv3d(2, 3, 2), m.BatchNorm3d(3), m.ReLU()), (2, 2, 3, 3, 2)),
    "layer normalisation": (lambda m: m.LayerNorm(4), (2, 3, 4)),
    "layer normalisation, no bias": (lambda m: m.LayerNorm((3, 4), 1e-3, True, False), (2, 3, 4)),
    "layer normalisation, plain": (lambda m: m.LayerNorm([4], elementwise_affine=False), (2, 3, 4)),
    "root mean square": (lambda m: m.RMSNorm(4), (2, 3, 4)),
    "root mean square, plain": (lambda m: m.RMSNorm((3, 4), 1e-3, False), (2, 3, 4)),
    "groups": (lambda m: m.GroupNorm(2, 4), (2, 4, 3)),
    "groups, plain": (lambda m: m.GroupNorm(4, 4, 1e-3, False), (2, 4, 3, 2)),
    "instances, one side": (lambda m: m.InstanceNorm1d(3), (2, 3, 4)),
    "instances": (lambda m: m.InstanceNorm2d(3, affine=True, track_running_stats=True), (2, 3, 4, 5)),
    "instances, three sides": (lambda m: m.InstanceNorm3d(3, 1e-3, 0.3, True, True), (2, 3, 2, 4, 2)),
    "instance alone": (lambda m: m.InstanceNorm2d(3), (3, 4, 5)),
    "encoder layer": (lambda m: m.TransformerEncoderLayer(8, 2, 12, 0.0), (5, 3, 8)),
    "encoder": (
        lambda m: m.TransformerEncoder(
            m.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True, bias=False), 2
        ),
        (3, 5, 8),
    ),
    "largest": (lambda m: m.MaxPool2d(3, 2, 1), (2, 3, 7, 6)),
    "largest, dilated": (lambda m: m.MaxPool2d((2, 3), dilation=(2, 1)), (2, 3, 7, 7)),
    "largest, ceiling": (lambda m: m.MaxPool2d(3, 2, 1, ceil_mode=True), (1, 2, 6, 7)),
    "largest, ceiling inside the padding": (lambda m: m.MaxPool2d(2, 2, 1, ceil_mode=True), (1, 2, 5, 4)),
    "average": (lambda m: m.AvgPool2d(3, 2, 1), (2, 3, 7, 6)),
    "average, ceiling": (lambda m: m.AvgPool2d(3, 2, 1, True, False), (2, 3, 6, 7)),
    "adaptive average": (lambda m: m.AdaptiveAvgPool2d((3, 2)), (2, 3, 7, 5)),
    "largest, one side": (lambda m: m.MaxPool1d(3, 2, 1), (2, 3, 8)),
    "largest, three sides": (lambda m: m.MaxPool3d((2, 3, 2), 2, (1, 1, 0), ceil_mode=True), (2, 3, 4, 5, 4)),
    "average, one side": (lambda m: m.AvgPool1d(3, 2, 1), (2, 3, 8)),
    "average, three sides": (lambda m: m.AvgPool3d(2, (1, 2, 2), 1, False, False), (2, 3, 3, 5, 4)),
    "adaptive average, length": (lambda m: m.AdaptiveAvgPool1d(3), (2, 3, 7)),
    "adaptive average, three sides": (lambda m: m.AdaptiveAvgPool3d((2, None, 3)), (2, 3, 5, 2, 7)),
    "adaptive largest": (lambda m: m.AdaptiveMaxPool2d((3, None)), (2, 3, 7, 5)),
    "adaptive largest, one side": (lambda m: m.AdaptiveMaxPool1d(3), (2, 3, 7)),
    "adaptive largest, three sides": (lambda m: m.AdaptiveMaxPool3d((2, 1, 3)), (2, 3, 5, 2, 7)),
    "adaptive average, one side": (lambda m: m.AdaptiveAvgPool2d((None, 4)), (2, 3, 5, 6)),
    "windows as columns": (lambda m: m.Unfold((2, 3), 1, 1, 2), (2, 3, 4, 5)),
    "columns on images": (lambda m: m.Fold((4, 5), 2, padding=1, stride=2), (2, 12, 9)),
    "upsampling": (lambda m: m.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (2, 3, 4, 5)),
    "upsampling, three sides": (lambda m: m.Upsample((3, 4, 5)), (2, 3, 2, 2, 3)),
    "rectifier": (lambda m: m.ReLU(), (3, 4)),
    "sigmoid": (lambda m: m.Sigmoid(), (3, 4)),
    "gelu": (lambda m: m.GELU(), (3, 4)),
    "gelu tanh": (lambda m: m.GELU("tanh"), (3, 4)),
    "relu6": (lambda m: m.ReLU6(), (3, 4)),
    "leaky": (lambda m: m.LeakyReLU(0.2), (3, 4)),
    "elu": (lambda m: m.ELU(1.5), (3, 4)),
    "selu": (lambda m: m.SELU(), (3, 4)),
    "hard swish": (lambda m: m.Hardswish(), (3, 4)),
    "silu": (lambda m: m.SiLU(), (3, 4)),
    "mish": (lambda m: m.Mish(), (3, 4)),
    "tanh": (lambda m: m.Tanh(), (3, 4)),
    "log sigmoid": (lambda m: m.LogSigmoid(), (3, 4)),
    "softplus": (lambda m: m.Softplus(), (3, 4)),
    "softmax": (lambda m: m.Softmax(1), (3, 4)),
    "flatten": (lambda m: m.Flatten(), (2, 3, 4)),
    "identity": (lambda m: m.Identity(1, two=2), (2, 3)),
    "sequence": (lambda m: m.Sequential(m.Conv2d(2, 3, 3), m.BatchNorm2d(3), m.ReLU(), m.Flatten(), m.Linear(12, 2)),
                 (3, 2, 4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_pytorchs(backend: str, name: str) -> None:
    make, shape = LAYERS[name]
    ours, theirs = make(nn).double(), make(torch.nn).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    for _ in range(2):  # twice, for running statistics
        array = rng.standard_normal(shape)
        x, tx = lucid.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
        y, ty = ours(x), theirs(tx)
        np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-11, atol=1e-11)
        weights = rng.standard_normal(y.shape)
        y.backward(lucid.tensor(weights))
        ty.backward(torch.tensor(weights))
        np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-10, atol=1e-10)
    for (_, p), (_, tp) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), tp.grad.numpy(), rtol=1e-10, atol=1e-10)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-12, atol=1e-12)
    ours.eval(), theirs.eval()
    array = rng.standard_normal(shape)
    x, tx = lucid.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    y, ty = ours(x), theirs(tx)
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-11, atol=1e-11)
    y.sum().backward()
    ty.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-10, atol=1e-10)


PAIRS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], tuple[int, ...]]] = {
    "bilinear": (lambda m: m.Bilinear(4, 3, 5), (2, 6, 4), (2, 6, 3)),
    "bilinear without bias": (lambda m: m.Bilinear(4, 3, 5, False), (2, 4), (2, 3)),
    "decoder layer": (lambda m: m.TransformerDecoderLayer(8, 2, 12, 0.0), (5, 3, 8), (4, 3, 8)),
    "decoder": (
        lambda m: m.TransformerDecoder(
            m.TransformerDecoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True, bias=False), 2
        ),
        (3, 5, 8),
        (3, 4, 8),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_layers_of_two_inputs_are_pytorchs(backend: str, name: str) -> None:
    make, *shapes = PAIRS[name]
    ours, theirs = make(nn).double(), make(torch.nn).double()
    ours.load_state_dict(theirs.state_dict())
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    x, tx = [lucid.tensor(a, requires_grad=True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, ty = ours(*x), theirs(*tx)
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-11, atol=1e-11)
    weights = rng.standard_normal(y.shape)
    y.backward(lucid.tensor(weights))
    ty.backward(torch.tensor(weights))
    for p, tp in zip([*x, *ours.parameters()], [*tx, *theirs.parameters()], strict=True):
        np.testing.assert_allclose(p.grad.numpy(), tp.grad.numpy(), rtol=1e-10, atol=1e-10)


def test_response_normalisation_is_the_papers(backend: str) -> None:
    """PyTorch has none: ``gamma * x * N(x) + beta + x``, N the channel's norm over the mean of all channels' norms."""
    layer = nn.GlobalResponseNorm(3)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 5))
    layer = layer.double()
    numbers = {name: rng.standard_normal(p.shape) for name, p in layer.named_parameters()}
    layer.load_state_dict({name: lucid.tensor(value) for name, value in numbers.items()})
    gamma, beta = (value.reshape(1, 3, 1, 1) for value in numbers.values())
    norms = np.sqrt((x**2).sum((2, 3), keepdims=True))
    expected = gamma * x * norms / (norms.mean(1, keepdims=True) + 1e-6) + beta + x
    np.testing.assert_allclose(layer(lucid.tensor(x)).numpy(), expected, rtol=1e-12, atol=1e-12)


# Layers that PyTorch has not, draw, hold others or take a target; by the test that has them.
ELSEWHERE = {
    "test_module.py": """Module ModuleDict ParameterDict ParameterList BCELoss BCEWithLogitsLoss CrossEntropyLoss
        HuberLoss MSELoss NLLLoss SmoothL1Loss Dropout1d Dropout2d Dropout3d AlphaDropout DropBlock DropPath SEModule
        SelectiveKernel ConvBNReLU1d ConvBNReLU2d ConvBNReLU3d DepthSeparableConv1d DepthSeparableConv2d
        DepthSeparableConv3d GlobalResponseNorm""",
    "test_transformer.py": "Embedding ScaledDotProductAttention Transformer",
    "test_patterns.py": "Rearrange",
    "test_ops.py": "HardSigmoid Hardsigmoid",  # by its function: PyTorch's slope in float64 has a float32's sixth
}


def test_every_layer_has_a_row_or_a_test() -> None:
    made = {type(m) for make, *_ in [*LAYERS.values(), *PAIRS.values()] for m in make(nn).modules()}
    public = {
        name: value for name, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Module)
    }
    elsewhere = {name for names in ELSEWHERE.values() for name in names.split()}
    assert {name for name, layer in public.items() if layer not in made} == elsewhere


def test_dropouts_of_channels_paths_and_blocks(backend: str) -> None:
    lucid.manual_seed(0)
    x = lucid.ones(64, 40, 3, 3)
    y = F.dropout2d(x, 0.25)
    planes = y.numpy().reshape(64 * 40, 9)
    assert (planes == planes[:, :1]).all()
    assert set(planes[:, 0].tolist()) == {0.0, np.float32(1 / 0.75)}
    assert abs((planes[:, 0] > 0).mean() - 0.75) < 0.05
    paths = F.drop_path(x, 0.5, scale_by_keep=False).numpy().reshape(64, -1)
    assert (paths == paths[:, :1]).all()
    assert set(paths[:, 0].tolist()) == {0.0, 1.0}
    z = F.alpha_dropout(lucid.random.randn(200, 500), 0.3).numpy()
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.02
    blocks = F.drop_block(lucid.ones(50, 4, 12, 10), 4, 0.2).numpy()
    kept = blocks > 0
    assert abs(1 - kept.mean() - 0.2) < 0.05
    assert abs(blocks.mean() - 1) < 1e-5
    for plane in ~kept.reshape(-1, 12, 10):  # each dropped pixel is in a square that is dropped whole
        fits = [plane[i : i + 4, j : j + 4].all() for i in range(9) for j in range(7)]
        covered = np.zeros_like(plane)
        for place in np.flatnonzero(fits):
            covered[place // 7 : place // 7 + 4, place % 7 : place % 7 + 4] = True
        assert (covered == plane).all()
    layer = nn.DropBlock(3, 0.5)
    assert (layer.eval()(x).numpy() == 1).all()
    assert repr(nn.Sequential(nn.Dropout1d(0.2), nn.DropPath(0.1))).count("p=0.") == 2


def test_containers_of_parameters() -> None:
    values = nn.ParameterList([lucid.ones(2)]).append(nn.Parameter(lucid.zeros(3, 1)))
    assert [name for name, _ in values.named_parameters()] == ["0", "1"]
    values[-1] = lucid.zeros(4)
    assert ([p.shape for p in values], len(values), values[0:1][0].shape) == ([(2,), (4,)], 2, (2,))
    with pytest.raises(IndexError, match="has 2 parameters"):
        values[2]
    named = nn.ParameterDict({"a": lucid.ones(1), "b": lucid.ones(2)})
    assert (list(named), "a" in named, named.pop("a").shape) == (["a", "b"], True, (1,))
    del named["b"]
    with pytest.raises(KeyError, match="may be one of none"):
        named["b"]
    named["c"] = lucid.ones(1)
    named.clear()
    assert list(named.parameters()) == []
    modules = nn.ModuleDict({"a": nn.ReLU()})
    modules.clear()
    assert len(modules) == 0
    assert list(nn.Sequential.from_ordered_dict({"x": nn.ReLU()})._modules) == ["x"]
    assert len(nn.Sequential.from_modules(nn.ReLU(), nn.ReLU())) == 2


def test_transposed_convolutions_of_a_given_size(backend: str) -> None:
    layer, x = nn.ConvTranspose2d(2, 3, 3, (2, 3), 1), image(1, 2, 4, 5)
    theirs = torch.nn.ConvTranspose2d(2, 3, 3, (2, 3), 1)
    theirs.load_state_dict({name: torch.tensor(value.numpy()) for name, value in layer.state_dict().items()})
    for size in ([8, 14], [1, 3, 7, 15]):
        expected = theirs(torch.tensor(x.numpy()), output_size=size[-2:]).detach().numpy()
        np.testing.assert_allclose(layer(x, output_size=size).numpy(), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"may be \(7, 13\) to \(8, 15\)"):
        layer(x, output_size=[9, 13])


def test_layers_of_layers(backend: str) -> None:
    lucid.manual_seed(1)
    for sides in (1, 2, 3):
        x = image(2, 4, *(5, 6, 4)[:sides])
        block = getattr(nn, f"ConvBNReLU{sides}d")(4, 6, 3, padding=1)
        inside = nn.Sequential(block.conv, block.bn, block.relu)
        assert (block(x).numpy() == inside(x).numpy()).all()
        separable = getattr(nn, f"DepthSeparableConv{sides}d")(4, 6, 3, padding=1)
        assert separable.depthwise.weight.shape == (4, 1, *[3] * sides)
        assert (separable(x).numpy() == separable.pointwise(separable.depthwise(x)).numpy()).all()
        for layer in (block, separable):
            before = layer.state_dict()["conv.weight" if layer is block else "pointwise.weight"].numpy().copy()
            layer.reset_parameters()
            assert (layer.state_dict()["conv.weight" if layer is block else "pointwise.weight"].numpy() != before).any()
    layer = nn.SelectiveKernel(4, 6, [3, 5], stride=2)
    x = image(2, 4, 7, 6, dtype=np.float64)
    layer.double().eval()
    branches = [branch(x).numpy() for branch in layer.branches]
    logits = layer.fc2(layer.fc1(lucid.tensor(np.sum(branches, 0)).mean((2, 3), keepdims=True))).numpy()
    shares = np.exp(logits.reshape(2, 2, 6, 1, 1))
    expected = sum(b * shares[:, i] / shares.sum(1) for i, b in enumerate(branches))
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="kernel_sizes, padding"):
        nn.SelectiveKernel(4, 6, [3, 5], padding=[1])


def test_losses_are_pytorchs(backend: str) -> None:
    rng = np.random.default_rng(0)
    x, t, w = rng.random((3, 4)), rng.random((3, 4)), rng.random(4) + 0.5
    ours = [nn.BCELoss(lucid.tensor(w)), nn.BCEWithLogitsLoss(pos_weight=lucid.tensor(w)), nn.HuberLoss(delta=0.2)]
    ours.append(nn.SmoothL1Loss(beta=0.3, reduction="sum"))
    m = torch.nn
    theirs = [m.BCELoss(torch.tensor(w)), m.BCEWithLogitsLoss(pos_weight=torch.tensor(w)), m.HuberLoss(delta=0.2)]
    theirs.append(m.SmoothL1Loss(beta=0.3, reduction="sum"))
    for a, b in zip(ours, theirs, strict=True):
        got = float(a(lucid.tensor(x), lucid.tensor(t)).numpy())
        assert abs(got - float(b(torch.tensor(x), torch.tensor(t)))) < 1e-13


def test_new_statistics_count_as_changes() -> None:
    layer = nn.BatchNorm2d(2)
    x = lucid.ones(2, requires_grad=True)
    y = (x * layer.running_mean).sum()
    layer(image(2, 2, 3, 3))
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_parameters_are_views_of_what_they_are_made_from() -> None:
    x, data = lucid.ones(1, requires_grad=True), lucid.tensor([3.0])
    for made in (nn.Parameter(data, requires_grad=False), nn.Buffer(data)):
        y = x * made
        data.fill_(2.0)
        with pytest.raises(RuntimeError, match="changed in place"):
            y.backward()


def test_pooling_returns_indices(backend: str) -> None:
    array = np.random.default_rng(0).standard_normal((1, 2, 5, 6))
    y, index = nn.MaxPool2d(2, return_indices=True)(lucid.tensor(array))
    ty, tindex = torch.nn.MaxPool2d(2, return_indices=True)(torch.tensor(array))
    assert y.tolist() == ty.tolist()
    assert index.tolist() == tindex.tolist()
    y, index = nn.AdaptiveMaxPool2d((3, 4), return_indices=True)(lucid.tensor(array))
    ty, tindex = torch.nn.AdaptiveMaxPool2d((3, 4), return_indices=True)(torch.tensor(array))
    assert y.tolist() == ty.tolist()
    assert index.tolist() == tindex.tolist()


def test_statistics_of_integers_steps() -> None:
    layer = nn.BatchNorm2d(2)
    layer(image(2, 2, 3, 3))
    layer.reset_running_stats()
    assert (layer.running_mean.tolist(), layer.running_var.tolist(), layer.num_batches_tracked.item()) == (
        [0, 0],
        [1, 1],
        0,
    )
    layer.weight.data[...] = 3
    layer.reset_parameters()
    assert layer.weight.tolist() == [1, 1]
    scaled = nn.LayerNorm(2)
    scaled.weight.data[...] = scaled.bias.data[...] = 3
    scaled.reset_parameters()
    assert (scaled.weight.tolist(), scaled.bias.tolist()) == ([1, 1], [0, 0])


def test_default_initial_values() -> None:
    lucid.manual_seed(0)
    conv, linear = nn.Conv2d(8, 32, 3, groups=2), nn.Linear(100, 50)
    for layer, fan in ((conv, 4 * 9), (linear, 100)):
        bound = 1 / np.sqrt(fan)
        for values in (layer.weight.numpy(), layer.bias.numpy()):
            assert np.abs(values).max() <= bound
            assert np.abs(values).max() > 0.8 * bound
            assert values.dtype == np.float32
    assert nn.BatchNorm2d(2).weight.tolist() == [1, 1]


def test_squeeze_and_excitation(backend: str) -> None:
    gate = nn.SEModule(4, 2, dtype=F64)
    x = image(2, 4, 3, 3, dtype=np.float64)
    array = x.numpy()
    hidden = np.maximum(array.mean((2, 3)) @ gate.fc1.weight.numpy()[:, :, 0, 0].T + gate.fc1.bias.numpy(), 0)
    scale = 1 / (1 + np.exp(-(hidden @ gate.fc2.weight.numpy()[:, :, 0, 0].T + gate.fc2.bias.numpy())))
    np.testing.assert_allclose(gate(x).numpy(), array * scale[:, :, None, None], rtol=1e-12)


def test_dropout(backend: str) -> None:
    lucid.manual_seed(1)
    layer = nn.Dropout(0.25)
    x = lucid.ones(4000, requires_grad=True)
    y = layer(x)
    kept = y.numpy() != 0
    assert 0.72 < kept.mean() < 0.78
    assert np.unique(y.numpy()[kept]).tolist() == [float(np.float32(4 / 3))]
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
    assert layer.eval()(x) is x
    assert nn.Dropout(1.0)(x).numpy().any() == False  # noqa: E712
    assert repr(layer) == "Dropout(p=0.25)"


# -- losses against PyTorch --------------------------------------------------------------------------------------------

SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "rows": ((6, 5), (6,)),
    "one": ((5,), ()),
    "images": ((2, 5, 3, 2), (2, 3, 2)),
    "sequence": ((3, 5, 4), (3, 4)),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_is_pytorchs(backend: str, shape: str, reduction: str, weighted: bool, smoothing: float) -> None:
    logits_shape, target_shape = SHAPES[shape]
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal(logits_shape), rng.integers(0, 5, target_shape)
    if target.size > 2:
        target.flat[1] = 4
    weight = rng.random(5) + 0.5 if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": 4}
    if target.size == 1:
        options["ignore_index"] = -100
    x, tx = lucid.tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    y = F.cross_entropy(x, lucid.tensor(target), None if weight is None else lucid.tensor(weight), **options)
    ty = torch.nn.functional.cross_entropy(
        tx, torch.tensor(target), None if weight is None else torch.tensor(weight), **options
    )
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-12, atol=1e-12)
    assert y.shape == tuple(ty.shape)
    y.sum().backward()
    ty.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2), (3,)])
def test_cross_entropy_of_probabilities(backend: str, shape: tuple[int, ...], reduction: str, smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits, target, weight = rng.standard_normal(shape), rng.random(shape), rng.random(3)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    x, tx = lucid.tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    y = nn.CrossEntropyLoss(lucid.tensor(weight), **options)(x, lucid.tensor(target))
    ty = torch.nn.CrossEntropyLoss(torch.tensor(weight), **options)(tx, torch.tensor(target))
    np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-12)
    y.sum().backward()
    ty.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_other_losses_are_pytorchs(backend: str, reduction: str) -> None:
    rng = np.random.default_rng(0)
    a, b, target = rng.standard_normal((4, 3)), rng.standard_normal((4, 3)), rng.integers(0, 3, 4)
    for own, other, second in (
        (nn.MSELoss(reduction=reduction), torch.nn.MSELoss(reduction=reduction), b),
        (nn.NLLLoss(reduction=reduction), torch.nn.NLLLoss(reduction=reduction), target),
    ):
        x, tx = lucid.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
        y, ty = own(x, lucid.tensor(second)), other(tx, torch.tensor(second))
        np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-12)
        y.sum().backward()
        ty.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), tx.grad.numpy(), rtol=1e-12)


def test_narrow_target_integers(backend: str) -> None:
    x = lucid.zeros(2, 3)
    for dtype in (lucid.uint8, lucid.int8, lucid.int32):
        assert F.cross_entropy(x, lucid.tensor([0, 2], dtype=dtype)).item() == pytest.approx(np.log(3))


def test_all_ignored_is_nan(backend: str) -> None:
    assert np.isnan(F.nll_loss(lucid.zeros(2, 3), lucid.tensor([-100, -100])).item())


def test_softmax(backend: str) -> None:
    array = np.random.default_rng(0).standard_normal((3, 4))
    for axis in (0, -1):
        np.testing.assert_allclose(
            F.softmax(lucid.tensor(array), axis).numpy(), torch.softmax(torch.tensor(array), axis).numpy(), rtol=1e-12
        )


Pair = collections.namedtuple("Pair", "first second")


@dataclasses.dataclass(frozen=True)
class Both:
    first: Any
    rest: Any


CONTAINERS: dict[str, Callable[[Any, Any], Any]] = {
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, b],
    "namedtuple": Pair,
    "dict": lambda a, b: {"first": a, "second": b},
    "ordered dict": lambda a, b: collections.OrderedDict(first=a, second=b),
    "dataclass": Both,
    "nested": lambda a, b: Pair({"a": [a, None]}, Both((b, 3), "text")),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_hooks_leave_what_a_module_returns_of_its_type(name: str) -> None:
    class Two(nn.Module):
        def forward(self, x: lucid.Tensor) -> Any:
            return CONTAINERS[name](x * 2, x * 3)

    def parts(value: Any) -> list[lucid.Tensor]:
        if isinstance(value, lucid.Tensor):
            return [value]
        if dataclasses.is_dataclass(value):
            value = [getattr(value, field.name) for field in dataclasses.fields(value)]
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else []
        return [part for one in inner for part in parts(one)]

    seen: list[Any] = []
    module, x = Two(), lucid.ones(1, requires_grad=True)
    plain = module(x)
    module.register_forward_hook(lambda m, args, output: None)
    module.register_backward_hook(lambda m, into, out: seen.append([g and g.item() for g in out]))
    output = module(x)
    assert type(output) is type(plain)
    if name == "nested":
        assert (type(output.second), output.second.rest, output.first["a"][1]) == (Both, "text", None)
    a, b = parts(output)
    (a + 10 * b).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [32.0]
    assert [g for g in seen[0] if g is not None] == [1.0, 10.0]


def test_a_failed_pass_leaves_nothing_in_a_modules_hook() -> None:
    """Neither half of the gradients of its outputs, nor those outputs' gradients for the next pass to see."""

    class Two(nn.Module):
        def forward(self, x: lucid.Tensor) -> Any:
            self.__dict__["inner"] = x * 1.0
            return self.inner * 1.0, self.inner * 10.0

    seen: list[Any] = []
    module, x = Two(), lucid.ones(1, requires_grad=True)
    module.register_backward_hook(lambda m, into, out: seen.append([g and g.item() for g in out]))
    a, b = module(x)
    hook = a.register_hook(lambda gradient: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (a.sum() + b.sum()).backward(retain_graph=True)
    hook.remove()
    a.sum().backward(retain_graph=True)
    assert x.grad is not None
    assert (x.grad.tolist(), seen) == ([1.0], [[1.0, None]])
    module.inner.sum().backward(retain_graph=True)  # reaches the input without passing an output
    assert seen[1] == [None, None]
    x.grad = None
    (a.sum() + b.sum()).backward()
    assert x.grad.tolist() == [11.0]  # type: ignore[attr-defined]


JUNK: dict[str, tuple[Any, str]] = {
    "text": ("abc", "wrong value: weight is 'abc'"),
    "nothing": (None, "wrong value: weight is None"),
    "object": (object(), "wrong value: weight is object"),
    "ragged": ([[1.0], [1.0, 2.0]], "wrong value: weight is list"),
    "dict": ({"a": 1}, "wrong value: weight is dict"),
    "shape": (lucid.ones(3, 3), r"wrong shape: weight is \(3, 3\), must be \(1, 2\)"),
    "complex": (np.ones((1, 2), complex), "wrong value: weight is ndarray"),
}


@pytest.mark.parametrize("name", JUNK)
def test_junk_in_a_state_is_one_error_that_names_it(name: str) -> None:
    value, message = JUNK[name]
    layer = nn.Linear(2, 1)
    before = layer.bias.tolist()  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict({"bias": lucid.tensor([9.0]), "weight": value})
    assert layer.bias.tolist() == before  # type: ignore[union-attr]
    for other in (None, "abc", [1]):
        with pytest.raises(TypeError, match="state_dict: got"):
            layer.load_state_dict(other)  # type: ignore[arg-type]


NONE_IN = {
    "linear": (lambda: nn.Linear(2, 3), (0, 2)),
    "linear, images": (lambda: nn.Linear(2, 3), (0, 4, 2)),
    "convolution": (lambda: nn.Conv2d(2, 3, 2), (0, 2, 4, 4)),
    "normalisation": (lambda: nn.BatchNorm2d(2), (0, 2, 4, 4)),
    "normalisation, no pixels": (lambda: nn.BatchNorm2d(2), (3, 2, 0, 4)),
    "normalisation, evaluated": (lambda: nn.BatchNorm2d(2).eval(), (0, 2, 4, 4)),
    "in a row": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU()), (0, 2, 4, 4)),
    "max pooling": (lambda: nn.MaxPool2d(2), (0, 2, 4, 4)),
    "average pooling": (lambda: nn.AvgPool2d(2), (0, 2, 4, 4)),
    "adaptive pooling": (lambda: nn.AdaptiveAvgPool2d(1), (0, 2, 4, 4)),
}


@pytest.mark.parametrize("name", NONE_IN)
def test_gradients_of_an_empty_batch_are_zero(backend: str, name: str) -> None:
    make, shape = NONE_IN[name]
    module, x = make(), lucid.zeros(shape, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.numpy().any()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("loss", ["cross_entropy", "smooth", "soft", "nll_loss", "mse_loss"])
def test_losses_of_an_empty_batch(backend: str, loss: str, reduction: str) -> None:
    """NaN for a mean, as PyTorch has it; the gradients are 0 all the same."""
    layer = nn.Linear(2, 3)
    y, classes = layer(lucid.zeros(0, 2)), lucid.zeros(0, dtype=lucid.int64)
    if loss == "mse_loss":
        value = F.mse_loss(y, lucid.zeros(0, 3), reduction=reduction)
    elif loss == "nll_loss":
        value = F.nll_loss(y, classes, reduction=reduction)
    else:
        target = lucid.zeros(0, 3) if loss == "soft" else classes
        value = F.cross_entropy(y, target, reduction=reduction, label_smoothing=0.1 if loss == "smooth" else 0.0)
    value.sum().backward()
    assert np.isnan(value.numpy()).all() if reduction == "mean" else not value.numpy().any()
    assert not any(parameter.grad.numpy().any() for parameter in layer.parameters())  # type: ignore[union-attr]
