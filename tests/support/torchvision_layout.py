"""A residual network with the modules and names of torchvision's, written in plain ``torch.nn``: what people have.

One ``relu`` module a block, which runs several times; the stem is ``conv1``, ``bn1``, ``relu`` beside the stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oracle.resnets import Architecture


def _conv(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """A basic block (two convolutions) or a bottleneck (three), ``v1`` with the stride in the first of the three."""

    def __init__(self, cin: int, width: int, stride: int, *, bottleneck: bool, v1: bool, inplace: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        strides = (stride, 1, 1) if v1 or not bottleneck else (1, stride, 1)
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        channels = (cin, width, width, out) if bottleneck else (cin, width, out)
        self.count = len(kernels)
        for place, kernel in enumerate(kernels):
            self.add_module(f"conv{place + 1}", _conv(channels[place], channels[place + 1], kernel, strides[place]))
            self.add_module(f"bn{place + 1}", nn.BatchNorm2d(channels[place + 1]))
        self.relu = nn.ReLU(inplace=inplace)
        self.downsample = None
        if stride != 1 or cin != out:
            self.downsample = nn.Sequential(_conv(cin, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for place in range(1, self.count + 1):
            y = getattr(self, f"bn{place}")(getattr(self, f"conv{place}")(y))
            y = self.relu(y) if place < self.count else y
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchvisionResNet(nn.Module):
    """The network of an `Architecture` of basic blocks or bottlenecks."""

    def __init__(self, architecture: Architecture, *, v1: bool = False, inplace: bool = False) -> None:
        super().__init__()
        bottleneck = architecture.block == "bottleneck"
        self.conv1 = nn.Conv2d(3, architecture.stem_width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(architecture.stem_width)
        self.relu = nn.ReLU(inplace=inplace)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, self.stages = architecture.stem_width, len(architecture.layers)
        for stage, (width, count) in enumerate(zip(architecture.channels, architecture.layers, strict=True)):
            blocks = []
            for place in range(count):
                stride = 2 if stage and not place else 1
                blocks.append(Block(channels, width, stride, bottleneck=bottleneck, v1=v1, inplace=inplace))
                channels = 4 * width if bottleneck else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, architecture.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def torchvision_state(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A case's weights under torchvision's names."""
    stem = {"stem.0": "conv1", "stem.1": "bn1"}
    found = {}
    for name, value in state.items():
        owner, leaf = name.rsplit(".", 1)
        found[f"{stem.get(owner, owner)}.{leaf}"] = value
    return found


def make_torchvision(architecture: Architecture, state: Mapping[str, np.ndarray], **options: Any) -> TorchvisionResNet:
    """The network with a case's weights."""
    model = TorchvisionResNet(architecture, **options)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in torchvision_state(state).items()}
    model.load_state_dict(tensors)
    return model


def dump(model: nn.Module, image: np.ndarray, labels: np.ndarray | None, *, containers: bool = False) -> dict[str, Any]:
    """A trace by forward hooks on all modules, as most people write one: a later run of a module overwrites an earlier.

    Args:
        model: the network, in the mode that is wanted.
        image: its input.
        labels: with them, a train step is dumped.
        containers: whether modules that hold others have a hook too.
    """
    trace: dict[str, Any] = {}

    def watch(name: str, output: Tensor) -> None:
        trace[f"activation/{name}"] = output.detach().clone().numpy()
        if output.requires_grad:
            output.register_hook(lambda g: trace.update({f"activation_gradient/{name}": g.clone().numpy()}))

    for name, module in model.named_modules():
        if name and (containers or next(module.children(), None) is None):
            module.register_forward_hook(lambda _module, _inputs, output, name=name: watch(name, output))
    with torch.set_grad_enabled(labels is not None):
        logits = model(torch.from_numpy(image))
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
            loss.backward()
            trace["loss"] = loss.detach().numpy()
            trace |= {f"parameter_gradient/{name}": p.grad.numpy() for name, p in model.named_parameters()}
    return trace
