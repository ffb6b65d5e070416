"""The operations of traced graphs: in float64 what lucid makes of them, in float32 within their bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import lucid
import lucid.nn.functional as F
from lucid import nn
from lucid.graph import trace
from oracle.graph.graph import Graph
from oracle.judge.exact import expected
from oracle.judge.local import judge_local
from oracle.networks.graph import graph_of
from oracle.operations import is_loss, is_traced
from oracle.operations.operation import Expected, Feed
from oracle.operations.traced import FUNCTIONS
from oracle.precision.rounding import ROUNDINGS

MASK = np.random.default_rng(1).random((2, 1, 5, 5)) < 0.8

# By operation, it and the shapes of what it takes: the input, then parameters.
ROWS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "reshape": (lambda x: x.reshape(4, 6), ((2, 3, 4),)),
    "transpose": (lambda x: x.transpose(2, 0, 1), ((2, 3, 4),)),
    "broadcast_to": (lambda x: lucid.broadcast_to(x, (5, 2, 3)), ((2, 1),)),
    "getitem": (lambda x: x[:, 1, ::2], ((2, 3, 5),)),
    "getitem backwards": (lambda x: x[::-1], ((4, 2),)),
    "getitem backwards along two": (lambda x: x[::-1, 1, ::-2], ((4, 2, 5),)),
    "getitem of rows": (lambda x: x[lucid.tensor([0, 2, 0, 0])], ((3, 2),)),
    "concatenate": (lambda x, p: lucid.concatenate([x, p], 1), ((2, 3), (2, 2))),
    "pad": (lambda x: lucid.pad(x, ((0, 0), (2, 1))), ((2, 3),)),
    "diagonal": (lambda x: lucid.diagonal(x), ((3, 4),)),
    "neg": (lambda x: -x, ((3, 4),)),
    "abs": (lambda x: abs(x), ((3, 4),)),
    "where": (lambda x, p: lucid.where(lucid.tensor(MASK[0, 0]), x, p), ((5, 5), (5, 5))),
    "maximum": (lambda x, p: lucid.maximum(x, p), ((3, 4), (3, 4))),
    "minimum": (lambda x, p: lucid.minimum(x, p), ((3, 4), (4,))),
    "clip": (lambda x: lucid.clip(x, -0.5, 0.5), ((3, 4),)),
    "embedding": (lambda x, p: F.embedding(lucid.tensor([[0, 2], [2, 1]]), p), ((1,), (3, 4))),
    "add": (lambda x, p: x + p, ((2, 3, 4), (4,))),
    "sub": (lambda x, p: x - p, ((2, 3), (2, 3))),
    "mul": (lambda x, p: x * p, ((2, 3), (2, 1))),
    "div": (lambda x, p: p / x, ((2, 3), (2, 3))),
    "relu": (lambda x, p: F.relu(p), ((1,), (3, 4))),
    "linear": (lambda x, w, b: F.linear(x, w, b), ((2, 3, 4), (5, 4), (5,))),
    "matmul": (lambda x, p: x @ p, ((2, 3, 4), (4, 5))),
    "sum": (lambda x: x.sum((0, 2)), ((3, 4, 5),)),
    "mean": (lambda x: x.mean(1, keepdims=True), ((3, 7),)),
    "max": (lambda x: x.max(1), ((3, 7),)),
    "min": (lambda x: x.min(), ((3, 7),)),
    "cumsum": (lambda x: lucid.cumsum(x, 1), ((2, 9),)),
    "log_softmax": (lambda x: F.log_softmax(x, 1), ((3, 7),)),
    "power": (lambda x: x**1.7, ((3, 4),)),
    "attention": (lambda x, k, v: F.scaled_dot_product_attention(x, k, v, is_causal=True), ((2, 4, 5, 3),) * 3),
    "attention with a mask": (
        lambda x, k, v: F.scaled_dot_product_attention(x, k, v, lucid.tensor(MASK)),
        ((2, 4, 5, 3),) * 3,
    ),
    "interpolate": (
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        ((1, 2, 3, 4),),
    ),
    "interpolate nearest": (lambda x: F.interpolate(x, scale_factor=2), ((1, 2, 3, 4),)),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1), ((2, 4, 7), (6, 4, 3), (6,))),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=2), ((2, 4, 5, 5), (6, 2, 3, 3), (6,))),
    "conv3d": (lambda x, w: F.conv3d(x, w, dilation=2), ((1, 2, 5, 5, 5), (3, 2, 2, 2, 2))),
    "conv_transpose1d": (lambda x, w, b: F.conv_transpose1d(x, w, b, stride=2), ((2, 3, 4), (3, 2, 3), (2,))),
    "conv_transpose2d": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1),
        ((2, 3, 4, 4), (3, 2, 3, 3), (2,)),
    ),
    "conv_transpose3d": (lambda x, w: F.conv_transpose3d(x, w), ((1, 2, 2, 2, 2), (2, 2, 2, 2, 2))),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 2), ((2, 3, 6),)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 1, 1), ((1, 2, 5, 5),)),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2), ((1, 2, 4, 4, 4),)),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 3), ((1, 2, 7),)),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), ((1, 2, 5, 6),)),
    "adaptive_avg_pool3d": (lambda x: F.adaptive_avg_pool3d(x, 1), ((1, 2, 2, 3, 4),)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, 8, w, b), ((3, 4, 8), (8,), (8,))),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), ((2, 4, 5), (4,), (4,))),
    "rms_norm": (lambda x, w: F.rms_norm(x, 8, w), ((3, 8), (8,))),
    "instance_norm": (lambda x: F.instance_norm(x), ((2, 3, 8),)),
    **{
        name: (lambda x, name=name: getattr(F, name)(x), ((4, 5),))
        for name in (
            *("gelu", "silu", "mish", "softplus", "elu", "selu", "leaky_relu", "relu6", "hard_sigmoid", "hard_swish"),
            "log_sigmoid",
        )
    },
    "gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), ((4, 5),)),
    **{
        name: (lambda x, name=name: getattr(lucid, name)(x), ((4, 5),))
        for name in (
            *("square", "cube", "reciprocal", "exp", "exp2", "expm1", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
            *("erf", "sigmoid", "arctan", "sqrt", "log", "log2", "log1p", "arcsin", "arccos"),
        )
    },
    "index_select": (lambda x: lucid.index_select(x, 1, lucid.tensor([2, 0, -1])), ((2, 3, 2),)),
    "gather": (lambda x: lucid.gather(x, 1, lucid.tensor([[0, 1, 1], [2, 2, 2]])), ((2, 3),)),
    "batch_norm": (
        lambda x, w, b: F.batch_norm(x, lucid.zeros(3, dtype=x.dtype), lucid.full(3, 2.0, dtype=x.dtype), w, b),
        ((2, 3, 4), (3,), (3,)),
    ),
    "power_of": (lambda x, p: x**p, ((3, 4), (3, 4))),
}
POSITIVE = {"power", "power_of", "div", "reciprocal", "sqrt", "log", "log2", "log1p", "arcsin", "arccos"}
# What has no row: it makes no floats, or is called with others alone.
WITHOUT = {"identity", "module_hook", "cast", "attention_weights", "equal", "not_equal"} | {
    f"{name}{end}" for name in ("greater", "less") for end in ("", "_equal")
}


class Calling(nn.Module):
    """A function of an input and of parameters."""

    def __init__(self, function: Callable[..., Any], parameters: list[np.ndarray]) -> None:
        super().__init__()
        self.function = function
        for place, value in enumerate(parameters):
            setattr(self, f"p{place}", nn.Parameter(lucid.tensor(value)))

    def forward(self, x: lucid.Tensor) -> Any:
        return self.function(x, *(parameter for _, parameter in self.named_parameters()))


def drawn(name: str, shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(len(name))
    low, high = (0.1, 0.9) if name in POSITIVE else (-2.0, 2.0)
    return [rng.uniform(low, high, shape).astype(np.float32) for shape in shapes]


def by_lucid(name: str, dtype: str) -> tuple[Graph, Feed, dict[str, np.ndarray]]:
    """The graph of a row, what its operation is fed, and the value and gradients that lucid makes of that."""
    function, shapes = ROWS[name]
    values = drawn(name, shapes)
    model = Calling(function, [value.astype(dtype) for value in values[1:]])
    x = lucid.tensor(values[0].astype(dtype), requires_grad=True)
    wide = Calling(function, [value.astype(float) for value in values[1:]])
    graph = graph_of(trace(wide, x.double()), wide)
    graph = replace(graph, nodes=tuple(node for node in graph.nodes if not is_loss(node)))
    y = model(x)
    gradient = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    y.backward(lucid.tensor(gradient.astype(dtype)))
    parameters = {name: value for (name, _), value in zip(model.named_parameters(), values[1:], strict=True)}
    [node] = graph.nodes
    feed = Feed(
        (values[0],) if node.inputs else (),
        gradient,
        {role: parameters[of] for role, of in node.parameters.items()},
        np.zeros(0, np.int64),
        True,
    )
    found = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return graph, feed, {"y": y.detach().numpy(), **found, **({} if x.grad is None else {"x": x.grad.numpy()})}


def of(found: dict[str, np.ndarray], each: Expected) -> np.ndarray:
    return found["y" if each.kind == "activation" else each.name if each.kind == "parameter_gradient" else "x"]


@pytest.mark.parametrize("name", ROWS)
def test_an_operation_is_lucids_and_bounded(name: str) -> None:
    graph, feed, exact = by_lucid(name, "float64")
    found = by_lucid(name, "float32")[2]
    [node] = graph.nodes
    made = expected(node, feed, ROUNDINGS["float32"])
    assert len(made) == 1 + len(node.inputs) + len(node.parameters)
    for each in made:
        scale = float(np.abs(each.exact).max(initial=0.0)) or 1.0
        assert np.abs(of(exact, each) - each.exact).max(initial=0.0) <= 1e-12 * scale, (each.kind, each.name)
        assert judge_local(each, of(found, each)).agrees, judge_local(each, of(found, each))
        # One element, off by as little as no rounding makes it.
        wrong = of(found, each).astype(np.float64)
        wrong.flat[int(np.abs(wrong).argmax())] *= 1 + 1e-4
        assert not judge_local(each, wrong).agrees, (each.kind, each.name)


def test_every_operation_has_a_row() -> None:
    nodes = {node.op for name in ROWS for node in by_lucid(name, "float64")[0].nodes if is_traced(node)}
    assert set(FUNCTIONS) - nodes - WITHOUT <= {"relu", "linear", "conv2d"}


def test_a_sum_may_be_taken_in_any_order() -> None:
    ROWS["sum of many"] = (lambda x: x.sum(1), ((3, 5000),))
    try:
        graph, feed, _ = by_lucid("sum of many", "float64")
    finally:
        del ROWS["sum of many"]
    [made, _] = expected(graph.nodes[0], feed, ROUNDINGS["float32"])
    [x] = feed.inputs
    in_sequence = np.add.accumulate(x, axis=1, dtype=np.float32)[:, -1]
    assert judge_local(made, in_sequence).agrees
    assert not judge_local(made, np.float32(x[:, :-1].sum(1, dtype=float))).agrees  # a term is missing


def test_low_precision_may_round_once_more() -> None:
    graph, feed, exact = by_lucid("layer_norm", "float64")
    [made, *_] = expected(graph.nodes[0], feed, ROUNDINGS["float16"])
    assert judge_local(made, exact["y"].astype(np.float16)).agrees
    assert not judge_local(made, (exact["y"] * 1.02).astype(np.float16)).agrees
    assert not judge_local(
        replace(made, deviation=expected(graph.nodes[0], feed, ROUNDINGS["float32"])[0].deviation),
        exact["y"].astype(np.float16),
    ).agrees
