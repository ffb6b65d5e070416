"""The U-Net of ``examples/unet.py``: its step of training beside PyTorch's in float64, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.scripts import script
from torch import nn

import lucid


def torch_level(inputs: int, outputs: int) -> nn.Sequential:
    steps: list[nn.Module] = []
    for channels in (inputs, outputs):
        steps += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.GroupNorm(4, outputs), nn.ReLU()]
    return nn.Sequential(*steps)


class TorchUNet(nn.Module):
    """Two levels, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([torch_level(1, 4), torch_level(4, 8)])
        self.wider = nn.ModuleList([nn.ConvTranspose2d(8, 4, 2, 2)])
        self.up = nn.ModuleList([torch_level(8, 4)])
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = self.down[0](x)
        low = self.down[1](nn.functional.max_pool2d(high, 2))
        return self.head(self.up[0](torch.cat([high, self.wider[0](low)], 1)))


def test_a_step_is_pytorchs(backend: str) -> None:
    unet = script("examples/unet.py")
    lucid.manual_seed(3)
    ours, theirs = unet.UNet(widths=(4, 8)).double(), TorchUNet().double()
    theirs.load_state_dict({name: torch.tensor(value.numpy()) for name, value in ours.state_dict().items()})
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 1, 8, 12)), (rng.random((2, 1, 8, 12)) < 0.5) * 1.0
    optimiser = lucid.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    other = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        loss = unet.step(ours, optimiser, lucid.tensor(x), lucid.tensor(target))
        expected = nn.functional.binary_cross_entropy_with_logits(theirs(torch.tensor(x)), torch.tensor(target))
        other.zero_grad()
        expected.backward()
        other.step()
        assert abs(loss.item() - expected.item()) < 1e-12
        for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-11, err_msg=name)
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12, err_msg=name)


def test_it_learns(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("examples/unet.py").main(12) > 0.85
    first = capsys.readouterr().out
    script("examples/unet.py").main(12)
    assert capsys.readouterr().out == first
