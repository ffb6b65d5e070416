"""Gradients as graphs: every rule beside PyTorch's float64 gradients, over the table of operations."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support import tables
from support.gradients import CLASSES, IMAGES, Lambda, differentiable, execute, small, step_of, traced
from support.operations import Row, assert_near, run_torch

import lucid
import lucid.nn.functional as F
from lucid import nn, optim
from lucid.graph import trace_gradients
from lucid.graph.gradients import LOWERED, RULES
from lucid.ops._function import Function

FAMILIES = [module for module in vars(tables).values() if isinstance(module, ModuleType)]

WITHOUT = {
    **dict.fromkeys(
        ["cholesky", "eig", "eigh", "eigvalsh", "inv", "lstsq", "pinv", "qr", "slogdet", "solve", "solve_triangular"],
        "ONNX has no decomposition and no solve",
    ),
    **dict.fromkeys(["svd", "svdvals"], "ONNX has no decomposition and no solve"),
    "det": "its gradient is an inverse, which ONNX does not have",
    "grid_sample": "its gradient adds to places that are known when the graph runs, pixel by pixel",
    "checkpoint": "a graph keeps what it needs; the module is traced through",
    "conv2d_add": "made where nobody traces",
    "standardize": "made where nobody traces",
}
"""Operations that have a gradient in lucid and none in graphs, and why."""

REFUSED = (
    r"operation '(\w+)' of .* has no gradient in graphs",
    "windows are of several sizes has no gradient",
    "an index by several arrays, by arrays and slices, or by booleans has no gradient",
    "without empty axes",  # a gradient that is a product over nothing
    "cannot be traced",
)
"""What may be said of a row that has none."""


def wrong(row: Row, without: set[str]) -> str:
    """What is wrong with a row's gradients; operations that have none are put into ``without``."""
    try:
        graph, arrays, of = traced(row, np.float64)
    except (ValueError, RuntimeError) as error:
        found = next((found for pattern in REFUSED if (found := re.search(pattern, str(error)))), None)
        without |= set(found.groups()) if found else set()
        return "" if found else f"{row.name}: {error}"
    want, got = run_torch(row, np.float64), execute(graph, arrays)
    largest = max(array.size for array in arrays)
    try:
        for name, i in of.items():
            assert_near(name, got.get(f"{name}.grad"), want[f"gradient of input {i}"], row.sums, largest)
    except AssertionError as error:
        return f"{row.name}: {error}"
    return ""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_rules_are_pytorchs_gradients(family: ModuleType) -> None:
    without: set[str] = set()
    with np.errstate(all="ignore"):
        failures = [said for row in differentiable(family.ROWS) if (said := wrong(row, without))]
    assert not failures, "\n".join(failures)
    assert without <= set(WITHOUT)


def _operations(of: type[Function]) -> set[str]:
    names = {name for part in of.__subclasses__() for name in _operations(part)}
    own = getattr(of, "name", None)
    here = of.differentiable and isinstance(own, str) and own != "leaf" and of.__module__.startswith("lucid.")
    return names | ({own} if here else set())


def test_every_operation_has_a_rule_or_a_reason() -> None:
    known = {"gather", "index_select", "scatter_add", "index_add"}  # which get their names when they are called
    names = _operations(Function) | known
    own = {"expand_like", "count", "max_pool_grad"}  # of gradients, which are not differentiated again
    assert names - own - set(RULES) - set(LOWERED) == set(WITHOUT)


@pytest.mark.parametrize(
    "settings",
    [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}, {"lr": 0.1, "momentum": 0.9, "nesterov": True}],
)
def test_steps_are_the_optimisers(settings: dict[str, Any]) -> None:
    """Three steps, each with what the one before returned as ``.next``."""
    model, twin = small(), small()
    optimizer = optim.SGD(model.parameters(), **settings)
    graph = trace_gradients(
        twin, lucid.tensor(IMAGES), lucid.tensor(CLASSES), optimizer=optim.SGD(twin.parameters(), **settings)
    )
    assert {"lr", "0.weight", "1.running_mean"} <= set(graph.variables)
    before = {name: value.numpy().copy() for name, value in twin.state_dict().items()}
    variables: dict[str, Any] = {}
    for _ in range(3):
        want, got = step_of(model, optimizer, IMAGES, CLASSES), execute(graph, [IMAGES, CLASSES], **variables)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
        variables = {name.removesuffix(".next"): value for name, value in got.items() if name.endswith(".next")}
    for name, value in twin.state_dict().items():  # tracing leaves the model as it was
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_gradients_of_inputs_and_layers() -> None:
    model = small()
    graph = trace_gradients(model, lucid.tensor(IMAGES), lucid.tensor(CLASSES), of=["input", "2", "5.bias"])
    assert graph.outputs[:4] == ["loss", "input.grad", "2.grad", "5.bias.grad"]
    seen: dict[str, Any] = {}

    def watch(module: Any, inputs: Any, output: lucid.Tensor) -> None:
        output.register_hook(lambda grad: seen.update(grad=grad.numpy()))

    hook = model[2].register_forward_hook(watch)
    x = lucid.tensor(IMAGES, requires_grad=True)
    F.cross_entropy(model(x), lucid.tensor(CLASSES)).backward()
    hook.remove()
    got = execute(graph, [IMAGES, CLASSES])
    assert x.grad is not None
    np.testing.assert_allclose(got["input.grad"], x.grad.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got["2.grad"], seen["grad"], rtol=1e-10, atol=1e-12)


def test_no_grad_and_detach_stop_gradients() -> None:
    def forward(x: lucid.Tensor) -> lucid.Tensor:
        with lucid.no_grad():
            scale = F.huber_loss(x, x * 0.5, reduction="sum") + (x * x).sum()
        return (x * scale * x.detach()).sum()

    x = lucid.tensor([1.0, -2.0, 3.0], requires_grad=True)
    forward(x).backward()
    graph = trace_gradients(Lambda(forward), x, loss=lambda y: y, of=["input"])
    assert x.grad is not None
    np.testing.assert_allclose(execute(graph, [x.detach().numpy()])["input.grad"], x.grad.numpy())


def test_equal_operations_are_one() -> None:
    """Both products are one node; the gradient is that of both."""
    model = Lambda(lambda x: (x * x).sum() + (x * x).mean())
    graph = trace_gradients(model, lucid.ones(4), loss=lambda y: y, of=["input"])
    assert sum(node.op == "mul" and node.inputs == ("input", "input") for node in graph.nodes) == 1
    np.testing.assert_allclose(execute(graph, [np.float32([1, 2, 3, 4])])["input.grad"], [2.5, 5, 7.5, 10])


def test_parameters_without_a_part_in_the_loss_are_left_out() -> None:
    model = nn.Linear(2, 1)
    model.bias.requires_grad = False  # type: ignore[union-attr]
    graph = trace_gradients(model, lucid.ones((4, 2)), loss=lambda y: y.sum())
    assert graph.outputs == ["loss", "weight.grad"]


@pytest.mark.parametrize(
    ("model", "options", "error"),
    [
        (nn.Linear(2, 1), {"loss": lambda y: y}, r"loss: returned float32 of shape \(4, 1\); must be one number"),
        (nn.Linear(2, 1), {"loss": lucid.sum, "of": ["x"]}, "of: got 'x'; may be names of parameters, inputs and"),
        (nn.Dropout(0.5), {"loss": lucid.sum}, "a model that draws random numbers"),
        (
            Lambda(lambda x: lucid.linalg.inv(x[:2])),
            {"loss": lucid.sum, "of": ["input"]},
            "'inv' of .* has no gradient",
        ),
    ],
)
def test_what_is_refused(model: nn.Module, options: Any, error: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=error):
        trace_gradients(model, lucid.ones((4, 2)), **options)


def test_dampening_is_refused() -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.1)
    with pytest.raises(ValueError, match=r"optimizer: got dampening 0\.1; may be 0 in a graph"):
        trace_gradients(model, lucid.ones((4, 2)), loss=lucid.sum, optimizer=optimizer)
