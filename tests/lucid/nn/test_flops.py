"""Counts of floating-point operations, beside PyTorch's counter and the papers' figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import lucid
from lucid import models, nn
from oracle.resnets import find_architecture, twin

CASES: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 7), lambda: torch.nn.Linear(5, 7), (3, 5)),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 2, 1)),
        lambda: torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(6, 2, 1)),
        (2, 4, 9, 7),
    ),
    "one side": (lambda: nn.Conv1d(3, 4, 3), lambda: torch.nn.Conv1d(3, 4, 3), (2, 3, 9)),
    "three sides": (lambda: nn.Conv3d(2, 3, 2), lambda: torch.nn.Conv3d(2, 3, 2), (1, 2, 4, 5, 6)),
    "transposed": (
        lambda: nn.ConvTranspose2d(3, 4, 3, 2),
        lambda: torch.nn.ConvTranspose2d(3, 4, 3, 2),
        (2, 3, 5, 4),
    ),
}


@pytest.mark.parametrize("wanted", [False, True], ids=["constant input", "input with a gradient"])
@pytest.mark.parametrize("name", CASES)
def test_counts_are_pytorchs(backend: str, name: str, wanted: bool) -> None:
    ours, theirs, shape = CASES[name]
    x = np.ones(shape, np.float32)
    own = lucid.tensor(x, requires_grad=wanted)
    with lucid.count_flops() as count:
        y = ours()(own)
        forward = count.total
        y.sum().backward()
    with FlopCounterMode(display=False) as other:
        z = theirs()(torch.tensor(x, requires_grad=wanted))
        assert forward == other.get_total_flops() == 2 * (forward // 2) > 0
        z.sum().backward()
    assert count.total == other.get_total_flops() == 2 * count.macs > forward
    y.sum()  # outside
    assert count.total == other.get_total_flops()


def test_groups(backend: str) -> None:
    """An output sums over its group's channels alone. (Backward, PyTorch's counter takes all channels.)"""
    with lucid.count_flops() as count:
        nn.Conv2d(4, 6, 3, groups=2)(lucid.ones(2, 4, 5, 5, requires_grad=True)).sum().backward()
    forward = 2 * (2 * 6 * 3 * 3) * (2 * 3 * 3)
    assert count.by_operation == {"conv2d": forward, "conv2d.backward": 2 * forward}


def test_products_of_tensors(backend: str) -> None:
    a, b = lucid.ones(2, 3, 4, requires_grad=True), lucid.ones(2, 4, 5)
    with lucid.count_flops() as count:
        (a @ b).sum().backward()
    assert count.by_operation == {"matmul": 2 * 2 * 3 * 4 * 5, "matmul.backward": 2 * 2 * 3 * 4 * 5}
    assert count.by_module == {}


def test_a_zoo_model_beside_its_twin_and_the_papers_figure() -> None:
    model, shape = models.resnet_18().eval(), (1, 3, 64, 64)
    with lucid.count_flops() as count, lucid.no_grad():
        model(lucid.zeros(*shape))
    with FlopCounterMode(display=False) as other, torch.no_grad():
        twin.ResNet(find_architecture("resnet_18")).eval()(torch.zeros(shape))
    assert count.total == other.get_total_flops()
    assert count.macs == models.summarize(model, shape).total_macs == sum(count.by_module.values()) // 2
    assert count.by_module["fc"] == 2 * 512 * 1000


def test_an_error_inside_and_a_second_counter() -> None:
    with lucid.count_flops() as count:
        with pytest.raises(ValueError, match="channels"):
            nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)))(lucid.ones(1, 2, 3, 3))
        with pytest.raises(RuntimeError, match="watched already"), lucid.count_flops():
            pass
        nn.Linear(2, 2)(lucid.ones(1, 2))
    assert count.total == 8
