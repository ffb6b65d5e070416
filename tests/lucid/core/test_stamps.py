"""What a tensor's stamp promises: weights that were packed are used again only while nobody has changed them.

However a module came to be (copied, pickled, loaded in another process, forked), a change of its weights shows in what
it computes by fused kernels, as it shows in what it computes module by module.
"""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.bits import bits

import lucid
from lucid import nn

tensor_module = sys.modules["lucid.core.tensor"]


@pytest.fixture(autouse=True)
def _native() -> Iterator[None]:
    if "native" not in lucid.available_backends():
        pytest.skip("packed weights are the native kernels'")
    with lucid.use_backend("native"):
        yield


def make() -> nn.Sequential:
    """Large enough that its weights are packed."""
    lucid.manual_seed(1)
    return nn.Sequential(nn.Conv2d(64, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()).eval()


X = np.random.default_rng(0).standard_normal((1, 64, 6, 6)).astype(np.float32)


def fused(model: nn.Sequential) -> np.ndarray:
    with lucid.no_grad():
        return model(lucid.tensor(X)).numpy()


def one_by_one(model: nn.Sequential) -> np.ndarray:
    with lucid.no_grad():
        return model[2](model[1](model[0](lucid.tensor(X)))).numpy()


def pickled(protocol: int) -> Callable[[nn.Sequential], nn.Sequential]:
    return lambda model: pickle.loads(pickle.dumps(model, protocol))


def out_of_band(model: nn.Sequential) -> nn.Sequential:
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(model, 5, buffer_callback=buffers.append)
    return pickle.loads(text, buffers=[bytearray(buffer) for buffer in buffers])


WAYS: dict[str, Callable[[nn.Sequential], nn.Sequential]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(2, 6)},
    "pickle out of band": out_of_band,
}
CHANGES: dict[str, Callable[[lucid.Tensor], object]] = {
    "fill_": lambda weight: weight.fill_(0.25),
    "copy_": lambda weight: weight.copy_(weight * 2),
    "an index": lambda weight: weight.__setitem__((0, 0), 1.0),
    "through a detached tensor": lambda weight: weight.detach().fill_(0.5),
    "through a shallow copy": lambda weight: copy.copy(weight).fill_(0.5),
    "through NumPy": lambda weight: weight.numpy().fill(0.5),
}


def count_from(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own, which has not come further yet."""
    monkeypatch.setattr(tensor_module, "_versions", itertools.count(number))


@pytest.mark.parametrize("used_before", [False, True])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", WAYS)
def test_a_change_shows(way: str, change: str, used_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for before_it in range(6):  # the change takes the number that the weight had, or one close to it
        model = make()
        if used_before:
            fused(model)
        if way != "copy":  # whose arrays no other process has
            count_from(max(0, model[0].weight._version_cell()[0] - before_it), monkeypatch)
        model = WAYS[way](model)
        before = fused(model)
        with lucid.no_grad():
            CHANGES[change](model[0].weight)
        assert bits(fused(model)) == bits(one_by_one(model)), before_it
        assert bits(fused(model)) != bits(before)


def test_tensors_that_share_memory_still_do_so_after_a_pickle() -> None:
    weight = make()[0].weight
    both = pickle.loads(pickle.dumps((weight, weight.detach())))
    assert both[0]._version is both[1]._version
    assert both[0]._version is not weight._version
    assert both[0]._array is both[1]._array


def test_a_pickle_of_old_brings_no_number_along() -> None:
    tensor = lucid.ones(3)
    state = {**tensor.__getstate__(), "_version": [7, False]}
    loaded = lucid.Tensor.__new__(lucid.Tensor)
    loaded.__setstate__(state)
    assert isinstance(loaded._version_cell(), tensor_module._Version)
    assert loaded._version_cell()[0] != 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_change_shows_in_a_child() -> None:
    model = make()
    fused(model)
    child = os.fork()
    if child == 0:
        with lucid.no_grad():
            model[0].weight.fill_(0.5)
        os._exit(0 if bits(fused(model)) == bits(one_by_one(model)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert bits(fused(model)) == bits(one_by_one(model))
