"""Gradients through read ONNX models: each operator of one node, in float64, against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import lucid

onnx = pytest.importorskip("onnx")

from onnx import helper  # noqa: E402

from lucid.onnx import load  # noqa: E402

BUDGET = 1e-10
"""Of what float64 computes, beside the largest value."""


class Row(NamedTuple):
    operator: str
    theirs: Callable[..., Any]
    operands: tuple[np.ndarray | None, ...]
    attributes: dict[str, Any] = {}
    opset: int = 24
    results: int = 1
    fixed: tuple[int, ...] = ()
    """Operands that are not differentiated: axes, masks."""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


X = normal(3, 4)
Y = normal(3, 4, seed=1)
POSITIVE, INSIDE = np.abs(X) + 0.3, np.tanh(X) * 0.9
IMAGE = normal(2, 4, 3, 3)
C = normal(4), normal(4, seed=1)
LENGTHS = np.array([3, 1], np.int32)
T = torch


def unary(operator: str, theirs: Callable[..., Any], x: np.ndarray = X, **attributes: Any) -> Row:
    return Row(operator, theirs, (x,), attributes)


def reduced(operator: str, theirs: Callable[..., Any], x: np.ndarray = X, opset: int = 24) -> Row:
    """The axes as an operand, or before their time as an attribute."""
    if opset < 18:
        return Row(operator, theirs, (x,), {"axes": [1]}, opset)
    return Row(operator, theirs, (x, np.array([1])), fixed=(1,))


UNARY = [
    unary("Abs", T.abs),
    unary("Acos", T.acos, INSIDE),
    unary("Acosh", T.acosh, POSITIVE + 1),
    unary("Asin", T.asin, INSIDE),
    unary("Asinh", T.asinh),
    unary("Atan", T.atan),
    unary("Atanh", T.atanh, INSIDE),
    unary("Celu", lambda x: TF.celu(x, 1.5), alpha=1.5),
    unary("Cos", T.cos),
    unary("Cosh", T.cosh),
    unary("Elu", lambda x: TF.elu(x, 0.5), alpha=0.5),
    unary("Erf", T.erf),
    unary("Exp", T.exp),
    unary("Gelu", TF.gelu),
    unary("Gelu", lambda x: TF.gelu(x, approximate="tanh"), approximate="tanh"),
    unary("HardSigmoid", lambda x: (x * 0.25 + 0.5).clamp(0, 1), alpha=0.25),
    unary("HardSwish", TF.hardswish),
    unary("LeakyRelu", lambda x: TF.leaky_relu(x, 0.25), alpha=0.25),
    unary("Log", T.log, POSITIVE),
    unary("Mish", TF.mish),
    unary("Neg", T.neg),
    unary("Reciprocal", T.reciprocal, POSITIVE),
    unary("Relu", T.relu),
    unary("Selu", lambda x: TF.elu(x, 1.5) * 0.5, alpha=1.5, gamma=0.5),
    unary("Shrink", lambda x: T.where(x.abs() > 0.5, x - 0.25 * x.sign(), 0 * x), lambd=0.5, bias=0.25),
    unary("Sigmoid", T.sigmoid),
    unary("Sin", T.sin),
    unary("Sinh", T.sinh),
    unary("Softplus", TF.softplus),
    unary("Softsign", TF.softsign),
    unary("Sqrt", T.sqrt, POSITIVE),
    unary("Swish", lambda x: x * T.sigmoid(1.5 * x), alpha=1.5),
    unary("Tan", T.tan),
    unary("Tanh", T.tanh),
    unary("ThresholdedRelu", lambda x: T.where(x > 0.5, x, 0 * x), alpha=0.5),
]
SEVERAL = [
    Row("Add", T.add, (X, C[0])),
    Row("Div", T.div, (X, POSITIVE)),
    Row("Max", lambda *x: T.stack(x).amax(0), (X, Y, normal(3, 4, seed=2))),
    Row("Mean", lambda *x: T.stack(x).mean(0), (X, Y, X * Y)),
    Row("Min", T.minimum, (X, Y)),
    Row("Mod", T.fmod, (X, Y), {"fmod": 1}),
    Row("Mul", T.mul, (X, C[0])),
    Row("PRelu", lambda x, w: T.where(x > 0, x, x * w), (X, C[0])),
    Row("Pow", T.pow, (POSITIVE, Y)),
    Row("Sub", T.sub, (X, Y)),
    Row("Sum", lambda *x: sum(x), (X, Y, X * Y)),
    Row("SwiGLU", lambda a, b: TF.silu(a) * b, (X, Y), opset=28),
    Row("Where", T.where, (X > 0, X, Y), fixed=(0,)),
    Row("Clip", T.clamp, (X, np.array(-0.5), np.array(0.75))),
]
REDUCTIONS = [
    *(
        reduced(operator, theirs, opset=opset)
        for opset in (11, 24)
        for operator, theirs in (
            ("ReduceL1", lambda x: x.abs().sum(1, True)),
            ("ReduceL2", lambda x: T.linalg.vector_norm(x, 2, 1, True)),
            ("ReduceLogSumExp", lambda x: x.logsumexp(1, True)),
            ("ReduceMax", lambda x: x.amax(1, True)),
            ("ReduceMean", lambda x: x.mean(1, True)),
            ("ReduceMin", lambda x: x.amin(1, True)),
            ("ReduceProd", lambda x: x.prod(1, True)),
            ("ReduceSum", lambda x: x.sum(1, True)),
            ("ReduceSumSquare", lambda x: (x * x).sum(1, True)),
        )
    ),
    reduced("ReduceLogSum", lambda x: x.sum(1, True).log(), POSITIVE),
    Row(
        "CumSum",
        lambda x: x.flip(1).cumsum(1).flip(1) - x,
        (X, np.array(1)),
        {"exclusive": 1, "reverse": 1},
        fixed=(1,),
    ),
    Row("CumProd", lambda x: x.cumprod(1), (X, np.array(1)), opset=28, fixed=(1,)),
    Row("Softmax", lambda x: x.softmax(0), (X,), {"axis": 0}),
    Row("Softmax", lambda x: x.reshape(2, 36).softmax(1).reshape(x.shape), (IMAGE,), {"axis": 1}, 11),
    Row("LogSoftmax", lambda x: x.log_softmax(-1), (X,)),
    Row("LpNormalization", lambda x: TF.normalize(x, 2.0, 1), (X,)),
    Row("Det", T.linalg.det, (normal(2, 3, 3),)),
    Row(
        "Einsum",
        lambda a, b: T.einsum("bij,bjk->ik", a, b),
        (normal(2, 3, 4), normal(2, 4, 5)),
        {"equation": "bij,bjk->ik"},
    ),
]
PRODUCTS = [
    Row("MatMul", T.matmul, (normal(2, 3, 4), normal(4, 5))),
    Row("MatMul", T.matmul, (normal(4), normal(2, 4, 5))),
    Row(
        "Gemm",
        lambda a, b, c: 0.5 * a.T @ b.T + 2 * c,
        (normal(4, 3), normal(5, 4), normal(5)),
        {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1},
    ),
]
NORMALIZATIONS = [
    Row(
        "BatchNormalization",
        lambda x, w, b, m, v: TF.batch_norm(x, m, v, w, b),
        (IMAGE, *C, normal(4, seed=3), POSITIVE[0]),
        fixed=(3, 4),
    ),
    Row(
        "BatchNormalization",
        lambda x, w, b, m, v: TF.batch_norm(x, None, None, w, b, True),
        (IMAGE, *C, normal(4, seed=3), POSITIVE[0]),
        {"training_mode": 1},
        fixed=(3, 4),
    ),
    Row("InstanceNormalization", lambda x, w, b: TF.instance_norm(x, None, None, w, b), (IMAGE, *C)),
    Row("GroupNormalization", lambda x, w, b: TF.group_norm(x, 2, w, b), (IMAGE, *C), {"num_groups": 2}),
    Row(
        "GroupNormalization",
        lambda x, w, b: TF.group_norm(x, 2, w.repeat_interleave(2), b.repeat_interleave(2)),
        (IMAGE, C[0][:2], C[1][:2]),
        {"num_groups": 2},
        18,
    ),
    Row("LayerNormalization", lambda x, w, b: TF.layer_norm(x, (4,), w, b), (X, *C)),
    Row("RMSNormalization", lambda x, w: TF.rms_norm(x, (4,), w, 1e-5), (X, C[0])),
    Row(
        "LRN",
        lambda x: TF.local_response_norm(x, 3, 0.5, 0.75, 2.0),
        (IMAGE,),
        {"size": 3, "alpha": 0.5, "beta": 0.75, "bias": 2.0},
    ),
    Row(
        "MeanVarianceNormalization",
        lambda x: (x - x.mean((0, 2, 3), True)) / (x.var((0, 2, 3), correction=0, keepdim=True).sqrt() + 1e-9),
        (IMAGE,),
    ),
    Row(
        "NegativeLogLikelihoodLoss",
        lambda x, t, w: TF.nll_loss(x, t, w),
        (X, np.array([0, 3, 2]), POSITIVE[0]),
        fixed=(1, 2),
    ),
    Row(
        "SoftmaxCrossEntropyLoss",
        lambda x, t: TF.cross_entropy(x, t, ignore_index=3),
        (X, np.array([0, 3, 2])),
        {"ignore_index": 3},
        fixed=(1,),
    ),
]
Q, K, V = normal(2, 4, 3, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 6)
MASK = normal(3, 5)


def repeated(x: Any) -> Any:
    return x.repeat_interleave(2, 1)


def capped(q: Any, k: Any, v: Any, mask: Any) -> Any:
    scores = q @ repeated(k).transpose(-1, -2) * 0.5
    return (2 * T.tanh(scores / 2) + mask).softmax(-1) @ repeated(v)


def turned(x: Any, cos: Any, sin: Any) -> Any:
    a, b, cos, sin = x[..., ::2], x[..., 1::2], cos[:, None], sin[:, None]
    return T.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def linear_attention(q: Any, k: Any, v: Any, decay: Any) -> Any:
    state, steps = T.zeros(2, 4, 3, dtype=T.float64), []
    for t in range(3):
        state = state * decay[:, t].exp()[..., None] + k[:, t, :, None] * v[:, t, None]
        steps.append((q[:, t, None] @ state)[:, 0] / 2)
    return T.stack(steps, 1)


ATTENTION = [
    Row(
        "Attention", lambda q, k, v, m: TF.scaled_dot_product_attention(q, repeated(k), repeated(v), m), (Q, K, V, MASK)
    ),
    Row("Attention", capped, (Q, K, V, MASK), {"softcap": 2.0, "scale": 0.5}),
    Row("RotaryEmbedding", turned, (normal(2, 2, 3, 4), normal(2, 3, 2), normal(2, 3, 2, seed=1)), {"interleaved": 1}),
    Row(
        "LinearAttention",
        linear_attention,
        (normal(2, 3, 4), normal(2, 3, 4, seed=1), normal(2, 3, 3), None, -np.abs(normal(2, 3, 4))),
        {"update_rule": "gated", "q_num_heads": 1, "kv_num_heads": 1},
        28,
        2,
    ),
    Row(
        "CausalConvWithState",
        lambda x, w, b: TF.silu(TF.conv1d(TF.pad(x, (2, 0)), w, b, groups=4)),
        (normal(2, 4, 5), normal(4, 1, 3), C[0]),
        {"activation": "silu"},
        28,
        2,
    ),
]


def torch_recurrent(kind: str, order: list[int]) -> Callable[..., Any]:
    """Both directions, by the layer of PyTorch whose gates stand in ``order`` of ONNX's."""

    def run(x: Any, w: Any, r: Any, b: Any, lengths: Any, *states: Any) -> Any:
        layer = getattr(T.nn, kind)(3, 2, bidirectional=True, dtype=T.float64)
        parameters = {}
        for i, end in enumerate(("", "_reverse")):
            gates = [part.reshape(len(order), 2, -1)[order] for part in (w[i], r[i], *b[i].chunk(2))]
            for name, gate in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), gates, strict=True):
                parameters[f"{name}_l0{end}"] = gate.reshape(len(order) * 2, -1).squeeze(-1)
        packed = T.nn.utils.rnn.pack_padded_sequence(x, lengths.long(), enforce_sorted=False)
        # Gradients by operands: the layer's parameters are what the operands make.
        y, ends = T.func.functional_call(layer, parameters, (packed, states if len(states) > 1 else states[0]))
        y, _ = T.nn.utils.rnn.pad_packed_sequence(y, total_length=x.shape[0])
        ends = ends if isinstance(ends, tuple) else (ends,)
        return y.reshape(*y.shape[:2], 2, 2).transpose(1, 2), *ends

    return run


def recurrent(operator: str, gates: int, order: list[int], **attributes: Any) -> Row:
    states = [normal(2, 2, 2, seed=seed) for seed in range(2 if operator == "LSTM" else 1)]
    operands = normal(3, 2, 3), normal(2, gates * 2, 3), normal(2, gates * 2, 2), normal(2, gates * 4), LENGTHS, *states
    attributes |= {"hidden_size": 2, "direction": "bidirectional"}
    return Row(operator, torch_recurrent(operator, order), operands, attributes, results=1 + len(states), fixed=(4,))


RECURRENT = [
    recurrent("RNN", 1, [0]),
    recurrent("GRU", 3, [1, 0, 2], linear_before_reset=1),
    recurrent("LSTM", 4, [0, 2, 3, 1]),
]
IMAGES, WIDE = normal(2, 4, 6, 7), normal(1, 2, 5, 6)
GRID = np.tanh(normal(1, 3, 4, 2)) * 1.2


def transposed(x: Any, w: Any, b: Any) -> Any:
    return TF.conv_transpose2d(x, w, b, stride=2)[:, :, 1:, :-1]


def dilated_means(x: Any) -> Any:
    """Over zeros around the images, which count."""
    return TF.conv2d(
        TF.pad(x, (1, 1, 1, 1)).flatten(0, 1)[:, None], T.full((1, 1, 2, 2), 0.25).double(), dilation=2
    ).view(2, 4, 6, 7)


def powers(x: Any) -> Any:
    return (TF.avg_pool2d(x.abs() ** 3, 2, 2) * 4) ** (1 / 3)


def unpooled(x: Any, index: Any) -> Any:
    return TF.max_unpool2d(x, index, 2, 2)


def spectrum(x: Any) -> Any:
    return T.view_as_real(T.fft.rfft(x[..., 0], dim=1))


def frames(x: Any, window: Any) -> Any:
    return T.view_as_real(T.stft(x, 6, 2, 6, window, center=False, return_complex=True)).transpose(1, 2)


def deformed(x: Any, w: Any, offset: Any, bias: Any, mask: Any) -> Any:
    """By PyTorch's grid_sample, one tap after the other."""
    total = bias[:, None, None] + T.zeros(1, 3, 4, 5).double()
    down, across = T.meshgrid(T.arange(4).double(), T.arange(5).double(), indexing="ij")
    for tap in range(4):
        y, x_ = (
            start + step + offset[0, 2 * tap + i]
            for i, (start, step) in enumerate([(down, tap // 2), (across, tap % 2)])
        )
        grid = T.stack([x_ * 2 / 5 - 1, y * 2 / 4 - 1], -1)[None]
        sampled = TF.grid_sample(x, grid, align_corners=True) * mask[:, tap : tap + 1]
        total = total + T.einsum("oc,nchw->nohw", w[:, :, tap // 2, tap % 2], sampled)
    return total


def resized(size: tuple[int, ...], mode: str, **how: Any) -> Callable[..., Any]:
    return lambda x: TF.interpolate(x, size, mode=mode, **how)


def resize(size: tuple[int, ...], mode: str, theirs: dict[str, Any], **attributes: Any) -> Row:
    """``Resize`` of two sides to ``size``, beside PyTorch's interpolate."""
    sizes = None, None, np.array([1, 2, *size])
    names = {"linear": "bilinear", "cubic": "bicubic"}
    return Row(
        "Resize",
        lambda x, _: resized(size, names[mode], **theirs)(x),
        (WIDE, *sizes),
        attributes | {"mode": mode},
        fixed=(3,),
    )


def sampled(**how: Any) -> Callable[..., Any]:
    return lambda x, grid: TF.grid_sample(x, grid, align_corners=False, **how)


WINDOWS = [
    Row(
        "Conv",
        lambda x, w: TF.conv2d(TF.pad(x, (1, 2, 0, 1)), w, groups=2),
        (IMAGES, normal(6, 2, 2, 3)),
        {"pads": [0, 1, 1, 2], "group": 2},
    ),
    Row(
        "ConvTranspose", transposed, (IMAGES, normal(4, 3, 3, 3), normal(3)), {"strides": [2, 2], "pads": [1, 0, 0, 1]}
    ),
    Row(
        "MaxPool",
        lambda x: TF.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        (IMAGES,),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
    Row(
        "MaxPool",
        lambda x: TF.max_pool2d(TF.pad(x, (0, 1, 2, 0), value=-np.inf), 3, 2),
        (IMAGES,),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [2, 0, 0, 1]},
    ),
    Row(
        "AveragePool",
        lambda x: TF.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        (IMAGES,),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    Row(
        "AveragePool",
        dilated_means,
        (IMAGES,),
        {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    Row("LpPool", powers, (IMAGES,), {"kernel_shape": [2, 2], "strides": [2, 2], "p": 3}),
    Row("GlobalMaxPool", lambda x: TF.adaptive_max_pool2d(x, 1), (IMAGES,)),
    Row("GlobalLpPool", lambda x: T.linalg.vector_norm(x, 2, (2, 3), keepdim=True), (IMAGES,), {"p": 2}),
    Row(
        "MaxUnpool",
        unpooled,
        (normal(1, 1, 2, 2), np.array([[[[0, 3], [9, 14]]]])),
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        fixed=(1,),
    ),
    Row(
        "Col2Im",
        lambda x, *_: TF.fold(x, (5, 6), 2, padding=1),
        (normal(2, 8, 42), np.array([5, 6]), np.array([2, 2])),
        {"pads": [1, 1, 1, 1]},
        fixed=(1, 2),
    ),
    Row(
        "DeformConv",
        deformed,
        (normal(1, 2, 5, 6), normal(3, 2, 2, 2), normal(1, 8, 4, 5) * 0.4, C[0][:3], normal(1, 4, 4, 5)),
    ),
    resize((7, 3), "linear", {"align_corners": False}),
    resize((7, 9), "cubic", {"align_corners": True}, coordinate_transformation_mode="align_corners"),
    resize((3, 2), "cubic", {"antialias": True}, antialias=1, cubic_coeff_a=-0.5, exclude_outside=1),
    Row("GridSample", sampled(mode="bicubic"), (WIDE, GRID), {"mode": "cubic"}),
    Row(
        "GridSample",
        sampled(padding_mode="reflection"),
        (normal(1, 2, 3, 4, 5), np.tanh(normal(1, 2, 2, 2, 3)) * 1.2),
        {"padding_mode": "reflection"},
    ),
    Row("DFT", spectrum, (normal(2, 9, 1),), {"axis": 1, "onesided": 1}, 19),
    Row("STFT", lambda x, _, w: frames(x, w), (normal(2, 14), np.array(2), np.abs(normal(6)) + 0.5), fixed=(1,)),
]
ROWS = [*WINDOWS, *UNARY, *SEVERAL, *REDUCTIONS, *PRODUCTS, *NORMALIZATIONS, *ATTENTION, *RECURRENT]


def model(row: Row) -> Any:
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(row.operands)]
    node = helper.make_node(row.operator, names, [f"y{i}" for i in range(row.results)], **row.attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in zip(names, row.operands, strict=True)
        if x is not None
    ]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=name) for name in node.output])
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", row.opset)]))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.operator}-{row.opset}")
def test_results_and_gradients_are_pytorchs(row):
    taken = [i for i, x in enumerate(row.operands) if x is not None and i not in row.fixed]
    ours = [None if x is None else lucid.tensor(x) for x in row.operands]
    theirs = [None if x is None else torch.tensor(x) for x in row.operands]
    for i in taken:
        ours[i].requires_grad = True
        theirs[i].requires_grad = True
    axes = row.operator.startswith(("Reduce", "Cum"))
    got = model(row)(*[x for x in ours if x is not None])
    want = row.theirs(*[x for x in theirs[: 1 if axes else None] if x is not None])
    pairs = list(zip(*[each if isinstance(each, tuple) else (each,) for each in (got, want)], strict=False))
    close("results", [(y.detach().numpy(), ty.detach().numpy()) for y, ty in pairs])
    seeds = [normal(*y.shape, seed=9) for y, _ in pairs]
    grads = lucid.autograd.grad([y for y, _ in pairs], [ours[i] for i in taken], [lucid.tensor(s) for s in seeds])
    known = torch.autograd.grad([ty for _, ty in pairs], [theirs[i] for i in taken], [torch.tensor(s) for s in seeds])
    close("gradients", [(g.numpy(), tg.numpy()) for g, tg in zip(grads, known, strict=True)])


def close(what: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert pairs
    for got, want in pairs:
        assert (got.shape, got.dtype) == (want.shape, want.dtype), what
        assert np.abs(got - want).max() <= BUDGET * max(1.0, np.abs(want).max()), what
