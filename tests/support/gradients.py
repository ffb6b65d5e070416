"""Graphs of gradients: from a row of the table of operations, of a small network, and how lucid computes one."""

from __future__ import annotations

from typing import Any

import numpy as np

import lucid
import lucid.nn.functional as F
from lucid import nn, optim
from lucid.backends import backend_for
from lucid.graph import Graph, trace_gradients
from support.operations import Row, gradient_like, run_torch


class Lambda(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: lucid.Tensor) -> Any:
        return self.function(*inputs)


def execute(graph: Graph, arrays: list[Any], **variables: Any) -> dict[str, Any]:
    """What a graph returns, by lucid's kernels."""
    be = backend_for("cpu")
    values = {**graph.initializers, **variables, **dict(zip(graph.inputs, arrays, strict=True))}
    for node in graph.nodes:
        operands = [None if name is None else values[name] for name in node.inputs]
        values[node.output] = node.function.forward(be, *operands)
    return {name: values[name] for name in graph.outputs}


def weighted(y: lucid.Tensor, weights: lucid.Tensor) -> lucid.Tensor:
    """A loss whose gradient by the result is ``weights``."""
    return (y * weights).sum()


def traced(row: Row, dtype: Any) -> tuple[Graph, list[Any], dict[str, int]]:
    """The graph of a row's gradients, what to give it, and for each gradient the input that it is of."""
    arrays = row.arrays(dtype, "dense", 0)
    dy = gradient_like(row, run_torch(row, dtype)["result"], "dense", 0)
    names = ["input"] if len(arrays) == 1 else [f"input_{i}" for i in range(len(arrays))]
    of = {name: i for i, (name, given) in enumerate(zip(names, row.inputs, strict=True)) if given.grad}
    inputs = [lucid.to_tensor(array) for array in arrays]
    graph = trace_gradients(Lambda(row.ours), inputs, lucid.to_tensor(dy), weighted, of=list(of))
    return graph, [*arrays, dy], of


def differentiable(rows: list[Row]) -> list[Row]:
    return [
        row
        for row in rows
        if np.float64 in row.dtypes
        and any(given.grad for given in row.inputs)
        and run_torch(row, np.float64)["result"].dtype.kind == "f"  # type: ignore[union-attr]
    ]


def step_of(model: nn.Module, optimizer: optim.SGD | None, x: Any, y: Any) -> dict[str, Any]:
    """By lucid's backward pass: the loss, gradients, and what a step makes of parameters and statistics."""
    loss = F.cross_entropy(model.train()(lucid.tensor(x)), lucid.tensor(y))
    loss.backward()
    found = {"loss": loss.numpy()}
    found |= {f"{name}.grad": parameter.grad.numpy().copy() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]
    if optimizer is not None:
        optimizer.step()
        found |= {f"{name}.next": parameter.numpy().copy() for name, parameter in model.named_parameters()}
    model.zero_grad()
    found |= {f"{name}.next": value.numpy().copy() for name, value in model.named_buffers() if value.ndim}
    return found


def small() -> nn.Module:
    lucid.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(*layers).to(lucid.float64)


RNG = np.random.default_rng(0)
IMAGES, CLASSES = RNG.standard_normal((6, 2, 8, 8)), np.array([0, 2, 1, 1, 0, 2])
