"""Gradients of chosen tensors, gradcheck, checkpointing, and where a NaN was made."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

import lucid
from lucid import autograd, nn
from lucid.ops._function import Function, apply


def leaf(*values: float) -> lucid.Tensor:
    return lucid.tensor(list(values), dtype=lucid.float64, requires_grad=True)


# -- grad ------------------------------------------------------------------------------------------------------------


def test_grad_is_pytorchs(backend: str) -> None:
    rng = np.random.default_rng(0)
    a, b, w = (rng.standard_normal(4) for _ in range(3))

    def losses(module: Any, x: Any, y: Any) -> tuple[Any, Any]:
        z = x * y
        return (z * z * x).sum(), module.exp(z)

    x, y = lucid.tensor(a, requires_grad=True), lucid.tensor(b, requires_grad=True)
    tx, ty = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    ours = autograd.grad(losses(lucid, x, y), [x, y], [None, lucid.tensor(w)])
    theirs = torch.autograd.grad(
        losses(torch, tx, ty), [tx, ty], [torch.tensor(1.0, dtype=torch.float64), torch.tensor(w)]
    )
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own.numpy(), other.numpy(), rtol=1e-13)
    assert (x.grad, y.grad) == (None, None)


def test_grad_of_what_is_no_leaf_and_of_one_tensor_twice(backend: str) -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    loss = (y * y).sum()
    (dy,) = autograd.grad(loss, y, retain_graph=True)
    dx, again = autograd.grad(loss, [x, x], retain_graph=True)
    assert (dy.tolist(), dx.tolist(), again.tolist()) == ([6.0, 12.0], [18.0, 36.0], [18.0, 36.0])
    (both,) = autograd.grad([loss, loss], x)
    assert both.tolist() == [36.0, 72.0]
    with pytest.raises(RuntimeError, match="second time"):
        autograd.grad(loss, x)


def test_a_returned_gradient_is_nobody_elses(backend: str) -> None:
    x = leaf(1.0)
    given = lucid.tensor([5.0], dtype=lucid.float64)
    (dx,) = autograd.grad(x + 0, x, given)
    dx += 1
    assert given.tolist() == [5.0]


def test_hooks_take_part_in_grad() -> None:
    x = leaf(1.0)
    handle = x.register_hook(lambda gradient: gradient * 10)
    assert autograd.grad((x * 2).sum(), x)[0].tolist() == [20.0]
    handle.remove()
    assert autograd.grad((x * 2).sum(), x)[0].tolist() == [2.0]


GRAD_REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "recording": (lambda x: autograd.grad(x.sum(), x, create_graph=True), ValueError, "create_graph: got True"),
    "constant output": (lambda x: autograd.grad(x.detach().sum(), x), RuntimeError, "outputs: number 0 does not"),
    "constant input": (lambda x: autograd.grad(x.sum(), lucid.ones(1)), RuntimeError, "inputs: number 0 does not"),
    "unused": (lambda x: autograd.grad(x.sum(), [x, leaf(1.0)]), RuntimeError, "no output depends on number 1"),
    "no number": (lambda x: autograd.grad(x, x), RuntimeError, "got None for output 0 of shape"),
    "another shape": (lambda x: autograd.grad(x, x, leaf(1.0)), RuntimeError, "of shape \\(1,\\)"),
    "too many": (lambda x: autograd.grad(x.sum(), x, [None, None]), ValueError, "grad_outputs: got 2; must be 1"),
    "nothing": (lambda x: autograd.grad([], x), ValueError, "outputs: got none"),
    "an array": (lambda x: autograd.grad(x.sum(), np.ones(1)), TypeError, "inputs: got float64"),
}


@pytest.mark.parametrize("name", GRAD_REFUSED)
def test_what_grad_refuses(name: str) -> None:
    action, kind, message = GRAD_REFUSED[name]
    with pytest.raises(kind, match=message):
        action(leaf(1.0, 2.0))


def test_unused_inputs_get_none() -> None:
    x = leaf(1.0)
    assert autograd.grad(x.sum(), [leaf(2.0), x], allow_unused=True)[0] is None


# -- gradcheck -------------------------------------------------------------------------------------------------------


class Wrong(Function):
    """A square whose gradient is off where x is above 1."""

    name = "wrong"

    def forward(self, be: Any, x: Any) -> Any:
        self.saved = (x,)
        return x * x

    def backward(self, be: Any, dy: Any) -> tuple[Any, ...]:
        (x,) = self.saved or ()
        return (dy * x * np.where(x > 1, 2.01, 2.0),)


def test_gradcheck_passes_what_is_right(backend: str) -> None:
    x = lucid.randn(3, 4, requires_grad=True)
    assert autograd.gradcheck(lambda x, y: (x * y).exp().sum(0), [x, lucid.randn(4)])
    assert autograd.gradcheck(lambda a, b: (a @ b, a.sum()), {"a": x, "b": lucid.randn(4, 2, requires_grad=True)})
    assert autograd.gradcheck(lambda x: nn.functional.dropout(x, 0.5), x)
    assert x.grad is None


def test_gradcheck_of_a_float32_module(backend: str) -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    assert autograd.gradcheck(net, lucid.randn(2, 2, 5, 5, requires_grad=True))
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
        assert value.dtype != np.float64


def test_gradcheck_names_what_is_wrong(backend: str) -> None:
    def func(good: lucid.Tensor, bad: lucid.Tensor) -> lucid.Tensor:
        return good + apply(Wrong(), bad)

    values = {"good": leaf(1.0, 2.0, 3.0), "bad": leaf(0.5, 3.0, -1.0)}
    with pytest.raises(
        autograd.GradcheckError, match=r"gradient of input bad at \[1\] .*; 1 of 3 elements differ"
    ) as said:
        autograd.gradcheck(func, values)
    assert "good" not in str(said.value)
    assert autograd.gradcheck(func, values, raise_exception=False) is False


def test_gradcheck_of_a_gradient_that_is_missing() -> None:
    with pytest.raises(autograd.GradcheckError, match="is 0, central differences say"):
        autograd.gradcheck(lambda x: x.detach() * 2, leaf(1.0))
    with pytest.raises(ValueError, match="none requires a gradient"):
        autograd.gradcheck(lambda x: x, lucid.ones(1))
    calls = iter(range(100))
    with pytest.raises(RuntimeError, match="other values"):
        autograd.gradcheck(lambda x: x * next(calls), leaf(1.0))


# -- checkpoint ------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Segments that may be checkpointed; the last linear layer is used in two of them, and outside."""

    def __init__(self, checkpointed: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=None), nn.Dropout(0.5))
        self.shared = nn.Linear(6, 6)
        self.checkpointed = checkpointed

    def call(self, function: Any, *args: Any) -> Any:
        return autograd.checkpoint(function, *args) if self.checkpointed else function(*args)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        x = self.call(self.stem, x)
        x = self.call(lambda x: self.call(self.middle, x) + x, x)
        x = self.shared(x)
        x, y = self.call(lambda x: (self.shared(x), x * 2), x)
        return (self.call(lambda x, y: self.shared(x * y), x, y) * nn.functional.dropout(x, 0.25)).mean()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_checkpointing_changes_no_bit(backend: str, dtype: str) -> None:
    """Loss, gradients, running statistics, the random numbers that follow; a parameter is used in several places."""
    seen = []
    for checkpointed in (False, True):
        lucid.manual_seed(7)
        net = Net(checkpointed)
        if dtype == "float64":
            net.double()
        x = lucid.randn(2, 3, 6, 6, dtype=dtype, requires_grad=True)
        for _ in range(2):
            loss = net(x)
            loss.backward()
        arrays = {"loss": loss, "x": x.grad, **net.state_dict(), "random": lucid.rand(3)}
        arrays |= {f"{name}.grad": p.grad for name, p in net.named_parameters()}
        seen.append({name: value.numpy().copy() for name, value in arrays.items()})
    for name, value in seen[0].items():
        np.testing.assert_array_equal(seen[1][name], value, err_msg=name)


def test_a_checkpoint_keeps_only_its_arguments(backend: str) -> None:
    kept: list[Any] = []

    def function(x: lucid.Tensor) -> lucid.Tensor:
        inner = x.exp()
        kept.append(weakref.ref(inner))
        return inner.exp()

    x = leaf(0.1, 0.2)
    y = autograd.checkpoint(function, x)
    assert y.requires_grad
    assert [ref() for ref in kept] == [None]
    y.sum().backward()
    expected = np.exp(np.exp([0.1, 0.2])) * np.exp([0.1, 0.2])
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-14)
    assert len(kept) == 2
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


def test_a_checkpoint_is_walked_again() -> None:
    x = leaf(2.0)
    y = autograd.checkpoint(lambda x: x * x, x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8.0]


def test_checkpoints_of_other_results() -> None:
    x, n = leaf(2.0), lucid.tensor([3])
    assert autograd.checkpoint(lambda x: "text", x) == "text"
    assert not autograd.checkpoint(lambda n: n + 1, n).requires_grad
    y, other, text = autograd.checkpoint(lambda x: (x * x, n, "text"), x)
    assert (other is n, text) == (True, "text")
    assert autograd.grad(y.sum(), x)[0].tolist() == [4.0]
    with lucid.no_grad():
        assert not autograd.checkpoint(lambda x: x * x, x).requires_grad
    z = autograd.checkpoint(lambda x: (x * 2, x.detach()), x)
    (z[0] + z[1]).sum().backward()
    assert x.grad.tolist() == [2.0]


def test_a_change_before_the_second_run_is_noticed(backend: str) -> None:
    x = lucid.ones(2, requires_grad=True)
    y = x * 1
    z = autograd.checkpoint(lambda y: y * y, y)
    with lucid.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="backward pass of checkpoint needs was changed in place"):
        z.sum().backward()
    layer = nn.Linear(2, 2)
    z = autograd.checkpoint(layer, x)
    with lucid.no_grad():
        layer.weight += 1
    with pytest.raises(RuntimeError, match="backward pass of checkpoint needs was changed in place"):
        z.sum().backward()


def test_another_shape_in_the_second_run_is_noticed() -> None:
    sizes = iter((2, 3))
    y = autograd.checkpoint(lambda x: x * lucid.ones(next(sizes), dtype=lucid.float64), leaf(1.0))
    with pytest.raises(RuntimeError, match=r"returned shapes \[\(3,\)\]; at first they were \[\(2,\)\]"):
        y.sum().backward()


# -- anomalies -------------------------------------------------------------------------------------------------------


class Faulty(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.ReLU(), Root())

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return self.blocks(x) * 2


class Root(nn.Module):
    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return lucid.sqrt(x)


def test_the_first_bad_operation_of_a_forward_pass_is_named(backend: str) -> None:
    x, infinite = lucid.tensor([1.0, 0.0, 2.0]), lucid.tensor([math.inf])
    message = r"^log made -inf in 1 of 3 elements, the first at \[1\]"
    with pytest.raises(autograd.AnomalyError, match=message), autograd.detect_anomaly():
        lucid.log(x) * 2
    with pytest.raises(autograd.AnomalyError, match=r"^sub made nan"), autograd.detect_anomaly():
        infinite - infinite
    lucid.log(lucid.tensor([0.0]))  # outside


def test_the_layer_is_named() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))
    x = lucid.ones(1, 2) * 1e10
    with lucid.no_grad():
        net[0].weight[...] = 1.0
        net[1][1].weight[...] = 3e38
    message = r"in '1.1' \(Linear\) of Sequential made inf"
    with pytest.raises(autograd.AnomalyError, match=message), autograd.detect_anomaly():
        net(x)


def test_a_backward_pass_is_watched(backend: str) -> None:
    net, x = Faulty(), lucid.zeros(3, requires_grad=True)
    with autograd.detect_anomaly():
        y = net(x).sum()
        message = r"^backward of sqrt in 'blocks.1' \(Root\) of Faulty made inf .* the gradient of input 0"
        with pytest.raises(autograd.AnomalyError, match=message):
            y.backward()
    assert x.grad is None


def test_a_mask_of_minus_infinity_is_no_anomaly(backend: str) -> None:
    x = lucid.randn(2, 3, requires_grad=True)
    mask = lucid.tensor([[True, False, False], [False, True, False]])
    with autograd.detect_anomaly():
        nn.functional.log_softmax(x.masked_fill(mask, -1e9), 1).sum().backward()
        x.masked_fill(mask, -math.inf)
    with autograd.detect_anomaly(check_inf=False):
        lucid.log(lucid.zeros(1))


def test_anomalies_in_a_composed_operation_and_nesting() -> None:
    with pytest.raises(autograd.AnomalyError, match="in layer_norm made"), autograd.detect_anomaly():
        nn.functional.layer_norm(lucid.tensor([3e38, 3e38, -3e38]), 3, eps=0.0)
    with autograd.detect_anomaly():
        with pytest.raises(RuntimeError, match="entered already"), autograd.detect_anomaly():
            pass
        with pytest.raises(autograd.AnomalyError):
            lucid.log(lucid.zeros(1))


def test_results_are_those_without(backend: str) -> None:
    lucid.manual_seed(0)
    net, x = Net(False), lucid.randn(2, 3, 6, 6)
    lucid.manual_seed(1)
    plain = net(x).item()
    lucid.manual_seed(1)
    with autograd.detect_anomaly():
        assert net(x).item() == plain
