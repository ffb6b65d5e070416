"""The ONNX export: every operation against ONNX Runtime, the files, their replacement, and interruption."""

from __future__ import annotations

import errno
import hashlib
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.tables import elementwise

import lucid
import lucid.nn.functional as F
from lucid import nn
from lucid.graph import trace
from lucid.models import ResNet, get_model, get_model_names
from lucid.models.blocks import BasicBlock, Bottleneck, PreActBottleneck

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from lucid.onnx import (  # noqa: E402
    DEFAULT_OPSET,
    NEWEST_OPSET,
    OLDEST_OPSET,
    _write,
    check,
    export,
    to_onnx,
    verify,
    write_model,
)
from lucid.onnx.operators import EXPORTS  # noqa: E402
from lucid.ops._function import Function  # noqa: E402


class Lambda(nn.Module):
    def __init__(self, function, **submodules):
        super().__init__()
        self.function = function
        for name, module in submodules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def normal(*shape, seed=0) -> lucid.Tensor:
    return lucid.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def resnet(block=BasicBlock, **kwargs) -> ResNet:
    """A small network whose normalisations have statistics of their own, so that leaving one out shows."""
    lucid.manual_seed(0)
    model = ResNet(block, [1, 1], num_classes=3, stem_width=4, channels=(4, 8), **kwargs)
    generator = np.random.default_rng(1)
    with lucid.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                value.copy_(generator.standard_normal(value.shape).astype(np.float32))
            elif name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight")):
                value.copy_(generator.uniform(0.5, 2, value.shape).astype(np.float32))
    return model


def run(model: onnx.ModelProto, *inputs: lucid.Tensor) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    # Two orders of rounding of short sums; a wrong axis, padding or attribute is off by the size of the values.
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


# -- every operation -------------------------------------------------------------------------------------------------

VECTORS = (normal(2, 3, 4), normal(2, 3, 4, seed=1))
LINE, IMAGE, VOLUME = normal(2, 4, 9), normal(2, 4, 9, 7), normal(2, 4, 3, 5, 4)

OPERATIONS = {
    "abs": (lambda m, x: lucid.abs(x), VECTORS[:1]),
    "add": (lambda m, a, b: a + b, VECTORS),
    "add broadcast": (lambda m, a, b: a + b, (normal(2, 3, 4), normal(3, 1))),
    "sub number": (lambda m, x: 1.5 - x, VECTORS[:1]),
    "mul": (lambda m, a, b: a * b, VECTORS),
    "div": (lambda m, a, b: a / b, VECTORS),
    "maximum": (lambda m, a, b: lucid.maximum(a, b), VECTORS),
    "minimum": (lambda m, a, b: lucid.minimum(a, b), VECTORS),
    "neg": (lambda m, x: -x, VECTORS[:1]),
    "exp log": (lambda m, x: lucid.log(lucid.exp(x)), VECTORS[:1]),
    "sqrt square": (lambda m, x: lucid.sqrt(lucid.square(x)), VECTORS[:1]),
    "reciprocal": (lambda m, x: lucid.reciprocal(x), VECTORS[:1]),
    "sigmoid": (lambda m, x: lucid.sigmoid(x), VECTORS[:1]),
    "sign": (lambda m, x: lucid.sign(x), VECTORS[:1]),
    "relu": (lambda m, x: lucid.relu(x), VECTORS[:1]),
    "power": (lambda m, x: x**3, VECTORS[:1]),
    "clip": (lambda m, x: x.clip(-0.5, 0.5), VECTORS[:1]),
    "clip below": (lambda m, x: x.clip(min_value=-0.5), VECTORS[:1]),
    "clip above": (lambda m, x: x.clip(max_value=0.5), VECTORS[:1]),
    "where": (lambda m, a, b: lucid.where(a > b, a, b * 2), VECTORS),
    "comparisons": (lambda m, a, b: (a == b, a != b, a < b, a <= b, a > b, a >= b), (VECTORS[0], VECTORS[0])),
    "logic": (lambda m, a, b: ((a > 0) & (b > 0), (a > 0) | (b > 0), ~(a > 0)), VECTORS),
    "sum": (lambda m, x: x.sum(1), VECTORS[:1]),
    "sum all": (lambda m, x: x.sum(), VECTORS[:1]),
    "cumsum": (lambda m, x: x.cumsum(1), VECTORS[:1]),
    "tile": (lambda m, x: lucid.tile(x, (2, 1, 3)), VECTORS[:1]),
    "tile of more axes": (lambda m, x: lucid.tile(x, (2, 1, 1, 2)), VECTORS[:1]),
    "triangles": (lambda m, x: (lucid.tril(x, -1), lucid.triu(x, 1)), VECTORS[:1]),
    "diagonal": (lambda m, x: (x.diagonal(1, 2, 0), x[0].diagonal(-1)), VECTORS[:1]),
    "trace": (lambda m, x: lucid.trace(x, axis1=1, axis2=2), VECTORS[:1]),
    "gather": (lambda m, x, i: lucid.gather(x, 1, i), (VECTORS[0], lucid.tensor([[[0, 1], [2, 0]]]))),
    "index_select": (lambda m, x: lucid.index_select(x, 1, [2, 0, 0]), VECTORS[:1]),
    "sort": (lambda m, x: x.sort(1, descending=True), VECTORS[:1]),
    "topk": (lambda m, x: x.topk(2, 1, largest=False), VECTORS[:1]),
    "scatter": (lambda m, x, i: lucid.scatter(x, 1, i, 5.0), (VECTORS[0], lucid.tensor([[[0, 1], [2, 0]]]))),
    "einsum": (lambda m, a, b: lucid.einsum("bij,bkj->kib", a, b), VECTORS),
    "rearrange": (lambda m, x: m.layer(x), VECTORS[:1], nn.Rearrange("a b (c d) -> (b d) c a", d=2)),
    "roll": (lambda m, x: lucid.roll(x, (1, -1), (0, 2)), VECTORS[:1]),
    "mean keepdims": (lambda m, x: x.mean((0, 2), keepdims=True), VECTORS[:1]),
    "max": (lambda m, x: x.max(-1), VECTORS[:1]),
    "min": (lambda m, x: x.min((0, 1)), VECTORS[:1]),
    "var": (lambda m, x: x.var(1), VECTORS[:1]),
    "argmax": (lambda m, x: x.argmax(1), VECTORS[:1]),
    "attention": (
        lambda m, q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True),
        (normal(2, 3, 4), normal(2, 5, 4)),
    ),
    "attention, masked": (
        lambda m, q, mask: F.scaled_dot_product_attention(q, q, q, mask > 0),
        (normal(2, 3, 4), lucid.tensor(np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], np.float32))),
    ),
    "multi-head attention": (
        lambda m, x: m.layer(x, x, x),
        (normal(2, 3, 4),),
        nn.MultiheadAttention(4, 2, batch_first=True),
    ),
    "encoder": (
        lambda m, x: m.layer(x, is_causal=True),
        (normal(3, 2, 4),),
        nn.TransformerEncoderLayer(4, 2, 6, activation="gelu", norm_first=True),
    ),
    "embedding": (lambda m, i: m.layer(i), (lucid.tensor([[0, 2], [1, 1]]),), nn.Embedding(3, 4)),
    "rms_norm": (lambda m, x: m.layer(x), VECTORS[:1], nn.RMSNorm(VECTORS[0].shape[-1])),
    "group_norm": (lambda m, x: m.layer(x), (normal(2, 4, 3),), nn.GroupNorm(2, 4)),
    "instance_norm": (lambda m, x: m.layer(x), (normal(2, 4, 3),), nn.InstanceNorm1d(4, affine=True)),
    "global_response_norm": (lambda m, x: F.global_response_norm(x, x[0, :, 0], x[0, :, 1]), (normal(2, 4, 3),)),
    "normalize": (lambda m, x: F.normalize(x), VECTORS[:1]),
    "swiglu": (lambda m, x: F.swiglu(x), (normal(2, 6),)),
    "rotary_embedding": (lambda m, x, c, s: F.rotary_embedding(x, c, s), (normal(2, 3, 6), normal(3, 2), normal(3, 2))),
    "bilinear": (lambda m, x, y: m.layer(x, y), (normal(2, 3), normal(2, 4)), nn.Bilinear(3, 4, 2)),
    "argmin keepdims": (lambda m, x: x.argmin(1, keepdims=True), VECTORS[:1]),
    "argmax all": (lambda m, x: x.argmax(), VECTORS[:1]),
    "cast": (lambda m, x: x.astype(lucid.float64) * 2, VECTORS[:1]),
    "cast int": (lambda m, x: x.astype(lucid.int64), VECTORS[:1]),
    "reshape": (lambda m, x: x.reshape(2, -1), VECTORS[:1]),
    "transpose": (lambda m, x: x.transpose(2, 0, 1), VECTORS[:1]),
    "broadcast_to": (lambda m, x: x.broadcast_to((5, 2, 3, 4)), VECTORS[:1]),
    "concatenate": (lambda m, a, b: lucid.concatenate([a, b], 1), VECTORS),
    "stack": (lambda m, a, b: lucid.stack([a, b], 1), VECTORS),
    "pad": (lambda m, x: lucid.pad(x, ((0, 0), (1, 2), (3, 0)), 0.5), VECTORS[:1]),
    "getitem slices": (lambda m, x: x[:, 1:, ::2], VECTORS[:1]),
    "getitem integer": (lambda m, x: x[:, 1], VECTORS[:1]),
    "getitem last": (lambda m, x: x[..., -1], VECTORS[:1]),
    "getitem new axis": (lambda m, x: x[:, None, 0], VECTORS[:1]),
    "getitem backwards": (lambda m, x: x[:, ::-1, 3:0:-2], VECTORS[:1]),
    "matmul": (lambda m, a, b: a @ b, (normal(2, 3, 4), normal(4, 5))),
    "det": (lambda m, x: lucid.linalg.det(x), (normal(2, 3, 3),)),
    **{
        f"vector_norm {p}": (lambda m, x, p=p: lucid.linalg.vector_norm(x, p, 1), VECTORS[:1])
        for p in (0, 1, 2, 3, float("inf"), float("-inf"))
    },
    "norm keepdims": (lambda m, x: lucid.linalg.norm(x, keepdims=True), VECTORS[:1]),
    "norm number": (lambda m, x: lucid.linalg.norm(x.sum()), VECTORS[:1]),
    "matrix_power": (lambda m, x: lucid.linalg.matrix_power(x, 5), (normal(2, 3, 3),)),
    "matmul vector": (lambda m, a, b: a @ b, (normal(3, 4), normal(4))),
    "linear": (lambda m, x: m.layer(x), (normal(5, 4),), nn.Linear(4, 3)),
    "linear without bias": (lambda m, x: m.layer(x), (normal(5, 4),), nn.Linear(4, 3, bias=False)),
    "linear of more axes": (lambda m, x: m.layer(x), (normal(2, 5, 4),), nn.Linear(4, 3)),
    "linear of more axes, no bias": (lambda m, x: m.layer(x), (normal(2, 5, 4),), nn.Linear(4, 3, bias=False)),
    "conv2d": (lambda m, x: m.layer(x), (IMAGE,), nn.Conv2d(4, 6, 3)),
    "conv2d strided": (lambda m, x: m.layer(x), (IMAGE,), nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0))),
    "conv2d dilated": (lambda m, x: m.layer(x), (IMAGE,), nn.Conv2d(4, 6, 3, padding=2, dilation=2, bias=False)),
    "conv2d grouped": (lambda m, x: m.layer(x), (IMAGE,), nn.Conv2d(4, 6, 3, groups=2)),
    "conv2d same": (lambda m, x: F.conv2d(x, m.layer.weight, padding="same"), (IMAGE,), nn.Conv2d(4, 6, (4, 3))),
    "conv1d": (lambda m, x: m.layer(x), (LINE,), nn.Conv1d(4, 6, 3, 2, 1, groups=2)),
    "conv3d": (lambda m, x: m.layer(x), (VOLUME,), nn.Conv3d(4, 6, (2, 3, 3), (1, 2, 1), (0, 1, 2), (1, 1, 2))),
    "conv_transpose1d": (lambda m, x: m.layer(x), (LINE,), nn.ConvTranspose1d(4, 6, 3, 2, 1, 1)),
    "conv_transpose2d": (
        lambda m, x: m.layer(x),
        (IMAGE,),
        nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, False, (2, 1)),
    ),
    "conv_transpose3d": (lambda m, x: m.layer(x), (VOLUME,), nn.ConvTranspose3d(4, 3, 3, (1, 2, 2), 1)),
    "batch_norm plain": (lambda m, x: m.layer(x), (IMAGE,), nn.BatchNorm2d(4, affine=False)),
    "layer_norm": (lambda m, x: m.layer(x), VECTORS[:1], nn.LayerNorm(4)),
    "layer_norm without bias": (lambda m, x: m.layer(x), VECTORS[:1], nn.LayerNorm((3, 4), 0.1, bias=False)),
    "layer_norm of float64": (lambda m, x: F.layer_norm(x.double(), 4), VECTORS[:1]),
    "max_pool2d": (lambda m, x: F.max_pool2d(x, 3, 2, 1), (IMAGE,)),
    "max_pool2d dilated": (lambda m, x: F.max_pool2d(x, (2, 3), 1, 0, 2), (IMAGE,)),
    "max_pool2d ceil": (lambda m, x: F.max_pool2d(x, 2, 2, ceil_mode=True), (IMAGE,)),
    "avg_pool2d": (lambda m, x: F.avg_pool2d(x, 3, 2, 1), (IMAGE,)),
    "avg_pool2d without padding": (lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (IMAGE,)),
    "avg_pool2d ceil without padding": (
        lambda m, x: F.avg_pool2d(x, (3, 4), 3, 1, ceil_mode=True, count_include_pad=False),
        (IMAGE,),
    ),
    "avg_pool2d ceil": (lambda m, x: F.avg_pool2d(x, 2, 2, ceil_mode=True), (IMAGE,)),
    "adaptive_avg_pool2d": (lambda m, x: F.adaptive_avg_pool2d(x, 1), (IMAGE,)),
    "adaptive_avg_pool2d even": (lambda m, x: F.adaptive_avg_pool2d(x, (3, 7)), (IMAGE,)),
    "adaptive_avg_pool2d uneven": (lambda m, x: F.adaptive_avg_pool2d(x, (4, 3)), (IMAGE,)),
    "max_pool1d": (lambda m, x: F.max_pool1d(x, 3, 2, 1, ceil_mode=True), (LINE,)),
    "max_pool3d": (lambda m, x: F.max_pool3d(x, (2, 3, 3), 2, (0, 1, 1)), (VOLUME,)),
    "avg_pool1d": (lambda m, x: F.avg_pool1d(x, 3, 2, 1), (LINE,)),
    "avg_pool3d": (lambda m, x: F.avg_pool3d(x, 2, 2, 1, count_include_pad=False), (VOLUME,)),
    "adaptive_avg_pool1d": (lambda m, x: F.adaptive_avg_pool1d(x, 1), (LINE,)),
    "adaptive_avg_pool1d uneven": (lambda m, x: F.adaptive_avg_pool1d(x, 4), (LINE,)),
    "adaptive_avg_pool3d": (lambda m, x: F.adaptive_avg_pool3d(x, 1), (VOLUME,)),
    "adaptive_avg_pool3d uneven": (lambda m, x: F.adaptive_avg_pool3d(x, (2, 4, 3)), (VOLUME,)),
    "adaptive_max_pool1d": (lambda m, x: F.adaptive_max_pool1d(x, 3), (LINE,)),
    "adaptive_max_pool2d": (lambda m, x: F.adaptive_max_pool2d(x, 1), (IMAGE,)),
    "adaptive_max_pool3d": (lambda m, x: F.adaptive_max_pool3d(x, (3, 1, 2)), (VOLUME,)),
    "batch_norm of one side": (lambda m, x: m.layer(x), (LINE,), nn.BatchNorm1d(4)),
    "batch_norm of no side": (lambda m, x: m.layer(x), (normal(3, 4),), nn.BatchNorm1d(4)),
    "interpolate": (lambda m, x: F.interpolate(x, (5, 8)), (IMAGE,)),
    "interpolate exact": (lambda m, x: F.interpolate(x, (5, 9), mode="nearest-exact"), (IMAGE,)),
    "interpolate scale": (lambda m, x: F.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear"), (IMAGE,)),
    "interpolate corners": (lambda m, x: F.interpolate(x, (5, 9), mode="bilinear", align_corners=True), (IMAGE,)),
    "interpolate cubic": (lambda m, x: F.interpolate(x, (12, 5), mode="bicubic"), (IMAGE,)),
    "interpolate one side": (lambda m, x: F.interpolate(x, 5, mode="linear"), (LINE,)),
    "interpolate three sides": (lambda m, x: F.interpolate(x, scale_factor=2, mode="trilinear"), (VOLUME,)),
    "upsample": (lambda m, x: m.layer(x), (IMAGE,), nn.Upsample(scale_factor=2)),
    "unfold": (lambda m, x: F.unfold(x, (3, 2), (1, 2), (1, 0), 2), (IMAGE,)),
    "log_softmax": (lambda m, x: F.log_softmax(x, 1), VECTORS[:1]),
    "power of a tensor": (lambda m, x: lucid.power(x * x + 0.5, x), VECTORS[:1]),
    "softmax": (lambda m, x: F.softmax(x), VECTORS[:1]),
    "cross_entropy": (
        lambda m, x, i: F.cross_entropy(x, i, ignore_index=1),
        (normal(4, 3), lucid.tensor([0, 2, 1, 2])),
    ),
    "nll_loss of classes": (
        lambda m, x, i: F.nll_loss(x, i, x[0] * x[0], reduction="none"),
        (normal(4, 3), lucid.tensor([0, 2, 1, 2])),
    ),
    "huber": (lambda m, a, b: F.huber_loss(a, b, delta=0.5), VECTORS),
    "binary_cross_entropy": (lambda m, a, b: F.binary_cross_entropy(a.sigmoid(), b.sigmoid()), VECTORS),
    "binary_cross_entropy_with_logits": (lambda m, a, b: F.binary_cross_entropy_with_logits(a, b.sigmoid()), VECTORS),
    "clip between": (lambda m, a, b: (a.clip(b - 0.5, b + 0.5), a.clip(b), a.clip(max_value=b)), VECTORS),
    "division with rest": (lambda m, a, b: (a // b, a % b, (a * 4) // 0.5), VECTORS),
    "division of integers": (lambda m, a: (a // 3, a % -3), (lucid.tensor([7, -7, 6, 0]),)),
    "arctan2": (lambda m, a, b: lucid.arctan2(a, b), VECTORS),
    "cumprod": (lambda m, x: lucid.cumprod(x, 1), (normal(2, 5, 3),)),
    "transpose of a number": (lambda m, x: x.sum().T, VECTORS[:1]),
    "batch_norm by its batch": (lambda m, x: m.layer(x), (IMAGE,), nn.BatchNorm2d(4, track_running_stats=False)),
    "conv_transpose2d over the stride": (
        lambda m, x: m.layer(x),
        (IMAGE,),
        nn.ConvTranspose2d(4, 2, 3, 1, 1, 1, dilation=2),
    ),
    "squeeze and excitation": (lambda m, x: m.layer(x), (IMAGE,), nn.SEModule(4, 2)),
    "input returned": (lambda m, x: x, VECTORS[:1]),
    "detach": (lambda m, x: x.detach(), VECTORS[:1]),
    "isnan": (lambda m, x: lucid.isnan(x), VECTORS[:1]),
    "isinf": (lambda m, x: lucid.isinf(x / 0.0), VECTORS[:1]),
    "logical_xor": (lambda m, a, b: lucid.logical_xor(a > 0, b > 0), VECTORS),
    "the same twice": (lambda m, x: [x + 1] * 2, VECTORS[:1]),
}


# Every function of one value that the table of operations has.
for row in elementwise.ROWS:
    if row.name.endswith("-4x1x5") and len(row.inputs) == 1:
        OPERATIONS[row.name] = (
            lambda m, x, f=row.ours: f(x),
            [lucid.tensor(x) for x in row.arrays(np.float32, "dense", 0)],
        )


@pytest.mark.parametrize("opset", [OLDEST_OPSET, DEFAULT_OPSET, 18, NEWEST_OPSET])
@pytest.mark.parametrize("case", OPERATIONS)
def test_operation(case, opset):
    forward, inputs, *layer = OPERATIONS[case]
    module = Lambda(forward, **({"layer": layer[0]} if layer else {})).eval()
    expected = module(*inputs)
    model = to_onnx(trace(module, *inputs), opset=opset)
    check(model)
    actual = run(model, *inputs)
    names = [value.name for value in model.graph.output]
    assert len(set(names)) == len(names)
    wanted = expected if isinstance(expected, tuple | list) else [expected]
    assert len(actual) == len(wanted)
    for got, tensor in zip(actual, wanted, strict=True):
        assert_close(got, tensor.detach().numpy())


NEWER = {
    "fold": (18, lambda m, x: F.fold(x.reshape(2, 36, 7), (7, 2), (3, 2), padding=(1, 0))),
    "grid_sample": (16, lambda m, x: F.grid_sample(x, x[:, :2].transpose(0, 2, 3, 1), align_corners=True)),
    "grid_sample nearest": (16, lambda m, x: F.grid_sample(x, x[:, :2].transpose(0, 2, 3, 1), "nearest", "border")),
    "affine_grid": (16, lambda m, x: F.grid_sample(x, F.affine_grid(x[:, 0, :2, :3], (2, 4, 5, 6)))),
}
"""Operations that ONNX has from some opset on."""


@pytest.mark.parametrize("opset", [16, 18, NEWEST_OPSET])
@pytest.mark.parametrize("case", NEWER)
def test_newer_operation(case, opset):
    oldest, forward = NEWER[case]
    graph = trace(Lambda(forward), IMAGE)
    if opset < oldest:
        with pytest.raises(ValueError, match=f"from opset {oldest} on"):
            to_onnx(graph, opset=opset)
        return
    model = to_onnx(graph, opset=opset)
    check(model)
    assert_close(run(model, IMAGE)[0], forward(None, IMAGE).numpy())


def test_every_entry_of_the_table_is_tried():
    tried = {
        "to_device",
        "fold",
        "grid_sample",
        "scatter_add",
        "index_add",
    }  # a second device; newer opsets, see the others
    tried |= {"expand_like", "count", "max_pool_grad", "rounded", "straight_through", "resampled"}  # test_gradients.py
    for forward, inputs, *layer in OPERATIONS.values():
        module = Lambda(forward, **({"layer": layer[0]} if layer else {}))
        tried |= {node.op for node in trace(module, *inputs).nodes}
    assert set(EXPORTS) <= tried


NOT_EXPORTED = {
    **dict.fromkeys(
        ["cholesky", "eig", "eigh", "eigvalsh", "inv", "lstsq", "pinv", "qr", "slogdet", "solve", "solve_triangular"],
        "ONNX has no decomposition and no solve",
    ),
    **dict.fromkeys(["svd", "svdvals"], "ONNX has no decomposition and no solve"),
    "checkpoint": "a module, which is traced through",
    "module_hook": "watches a backward pass",
    **dict.fromkeys(["conv2d_add", "standardize"], "made where nobody traces"),
}
"""The differentiable operations without a form in ONNX, and why."""


def test_every_differentiable_operation_is_exported_or_has_a_reason():
    def names(of):
        found = {name for part in of.__subclasses__() for name in names(part)}
        own = of.differentiable and of.__module__.startswith("lucid.") and getattr(of, "name", None)
        return found | ({own} if isinstance(own, str) and own != "leaf" else set())

    assert names(Function) - set(EXPORTS) == set(NOT_EXPORTED)


def test_scatter_add_needs_opset_16():
    index = lucid.tensor([[[0, 1], [0, 0]]])
    module = Lambda(lambda m, x, i: lucid.scatter_add(x, 1, i, 5.0))
    graph = trace(module, VECTORS[0], index)
    assert_close(run(to_onnx(graph, opset=16), VECTORS[0], index)[0], module(VECTORS[0], index).numpy())
    with pytest.raises(ValueError, match="from opset 16 on"):
        to_onnx(graph, opset=15)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda m, x: x[[0, 1]], "indexing by arrays"),
        (lambda m, x: F.adaptive_max_pool2d(x[None], 3), "windows are of several sizes"),
        (lambda m, x: F.interpolate(x[None], 3, mode="bilinear", antialias=True), "from opset 18 on"),
        (lambda m, x: lucid.isfinite(x), "'isfinite' of 'output' has no counterpart"),
        (lambda m, x: lucid.linalg.inv(x[:, :4]), "'inv' of 'output' has no counterpart"),
        (lambda m, x: F.avg_pool2d(x[None], 4, 3, 1, ceil_mode=True), "count_include_pad=False"),
    ],
)
def test_what_cannot_be_exported_is_refused(forward, words):
    with pytest.raises(ValueError, match=words):
        to_onnx(trace(Lambda(forward), normal(2, 5, 4)))


@pytest.mark.parametrize("opset", [OLDEST_OPSET - 1, NEWEST_OPSET + 1])
def test_opsets_out_of_range(opset):
    with pytest.raises(ValueError, match=f"opset: got {opset}; it may be {OLDEST_OPSET} to {NEWEST_OPSET}"):
        to_onnx(trace(nn.ReLU(), normal(2)), opset=opset)


# -- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, PreActBottleneck])
@pytest.mark.parametrize(
    "options",
    [{}, {"stem_type": "deep"}, {"block_args": {"se": True, "se_reduction": 2}}, {"block_args": {"dilation": 2}}],
)
def test_network_layer_by_layer(block, options):
    model, image = resnet(block, **options).eval(), normal(2, 3, 32, 32)
    proto = to_onnx(trace(model, image), also="all")
    expected = {}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda _, __, output, name=name: expected.__setitem__(name, output.detach().numpy())
        )
    model(image)
    check(proto)
    names = [value.name for value in proto.graph.output]
    actual = dict(zip(names, run(proto, image), strict=True))
    compared = [name for name in expected if name in actual]
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, block) or (not list(module.children()) and not isinstance(module, nn.Identity))
    ]
    assert set(layers) <= set(compared)
    for name in compared:
        assert_close(actual[name], expected[name])


def test_chosen_outputs():
    graph = trace(resnet(), normal(1, 3, 32, 32))
    proto = to_onnx(graph, also=["layer1.0.bn1", "layer1.0"])
    assert [value.name for value in proto.graph.output] == ["fc", "layer1.0.bn1", "layer1.0"]
    with pytest.raises(ValueError, match="also: no node of the graph makes 'layer9'"):
        to_onnx(graph, also=["layer9"])


def test_onnx_own_evaluator():
    model, image = resnet(Bottleneck).eval(), normal(1, 3, 32, 32)
    proto = to_onnx(trace(model, image), also="all")
    names = [value.name for value in proto.graph.output]
    actual = dict(zip(names, ReferenceEvaluator(proto).run(None, {"input": image.numpy()}), strict=True))
    assert_close(actual["fc"], model(image).detach().numpy())
    assert_close(actual["stem.1"], model.stem[1](model.stem[0](image)).detach().numpy())


def test_dynamic_batch():
    model = resnet().eval()
    proto = to_onnx(trace(model, normal(1, 3, 32, 32), dynamic_batch=True))
    check(proto)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    for batch in (1, 3):
        image = normal(batch, 3, 32, 32)
        assert_close(run(proto, image)[0], model(image).detach().numpy())


def test_names_and_metadata():
    proto = to_onnx(trace(resnet(), normal(1, 3, 32, 32)), metadata={"lucid.weights": "seed 0"})
    names = {node.name: node for node in proto.graph.node}
    assert list(names["layer1.0.conv1"].input) == ["maxpool", "layer1.0.conv1.weight"]
    assert list(names["layer1.0.conv1"].output) == ["layer1.0.conv1"]
    assert names["layer1.0.bn1"].op_type == "BatchNormalization"
    assert len(names) == len(proto.graph.node)
    assert {entry.key: entry.value for entry in proto.metadata_props} == {
        "lucid.version": lucid.__version__,
        "lucid.arithmetic": "1",
        "lucid.weights": "seed 0",
    }
    assert (proto.producer_name, proto.producer_version) == ("lucid", lucid.__version__)
    assert proto.opset_import[0].version == DEFAULT_OPSET


def test_the_version_of_the_law_is_that_of_its_text():
    law = (Path(lucid.__file__).parent / "ARITHMETIC.md").read_text()
    assert f"Version **{lucid.ARITHMETIC_VERSION}**" in law


# -- a mutation must show --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stem.0.weight", "layer1.0.bn1.running_var", "layer2.0.downsample.1.bias", "fc.bias"])
def test_verification_sees_one_wrong_weight(tmp_path, name):
    model = resnet()
    [file] = export(model, normal(1, 3, 32, 32), tmp_path / "model.onnx", dynamic_batch=True)
    assert verify(file, model, [(1, 3, 32, 32), (3, 3, 32, 32)]).agrees
    value = model.state_dict()[name]
    with lucid.no_grad():
        value.copy_(value.numpy() * np.float32(1.01))
    result = verify(file, model, [(1, 3, 32, 32)])
    assert not result.agrees
    assert "DISAGREES" in str(result)


def test_verification_sees_another_shape_and_nan(tmp_path):
    file = tmp_path / "model.onnx"
    export(Lambda(lambda m, x: x[None]), normal(2), file)
    assert not verify(file, nn.ReLU(), [(2,)]).agrees
    export(Lambda(lambda m, x: x / 0.0 * 0.0), normal(2), file)
    assert not verify(file, nn.ReLU(), [(2,)]).agrees


def test_verification_of_a_file_that_is_no_model(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="ONNX Runtime does not accept"):
        verify(file, nn.ReLU(), [(2,)])


def test_verification_leaves_the_model_alone(tmp_path):
    model = resnet()
    [file] = export(model, normal(1, 3, 32, 32), tmp_path / "model.onnx")
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    verify(file, model, [(1, 3, 32, 32)])
    assert model.training
    assert all(np.array_equal(before[name], value.numpy()) for name, value in model.state_dict().items())


# -- files -----------------------------------------------------------------------------------------------------------


def digests(folder) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("external_data", [False, True])
def test_the_same_model_gives_the_same_bytes(tmp_path, external_data):
    seen = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        export(resnet(), normal(1, 3, 32, 32), folder / "model.onnx", external_data=external_data)
        seen.append(digests(folder))
    assert seen[0] == seen[1]


def test_external_data(tmp_path):
    model, image = resnet().eval(), normal(1, 3, 32, 32)
    files = export(model, image, tmp_path / "model.onnx", external_data=True)
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert files[1].name.startswith("model.onnx.")
    assert files[1].stat().st_size > files[0].stat().st_size / 2
    onnx.checker.check_model(str(files[0]), full_check=True)
    session = ort.InferenceSession(str(files[0]))
    [output] = session.run(None, {"input": image.numpy()})
    assert_close(output, model(image).detach().numpy())


def test_external_data_of_the_older_model_is_removed(tmp_path):
    target = tmp_path / "model.onnx"
    bystander = tmp_path / "model.onnx.0123456789abcdef.data"  # looks like ours, but no model refers to it
    bystander.write_bytes(b"somebody's")
    first = export(resnet(), normal(1, 3, 32, 32), target, external_data=True)
    second = export(resnet(Bottleneck), normal(1, 3, 32, 32), target, external_data=True)
    assert first[1] != second[1]
    assert set(tmp_path.iterdir()) == {*second, bystander}
    again = export(resnet(Bottleneck), normal(1, 3, 32, 32), target, external_data=True)
    assert again == second
    assert set(tmp_path.iterdir()) == {*second, bystander}
    export(resnet(), normal(1, 3, 32, 32), target)
    assert set(tmp_path.iterdir()) == {target, bystander}


def _linear(seed: int):
    lucid.manual_seed(seed)
    return to_onnx(trace(nn.Linear(40, 30), lucid.ones((1, 40))))


@pytest.mark.parametrize("older", [0, 1, 2])
def test_two_exports_at_once_leave_one_whole_pair(tmp_path, older):
    """The second begins when the first has written its data and not yet its model, and could be done before that is."""
    target = tmp_path / "model.onnx"
    write_model(_linear(older), target, external_data=True)
    first, second = _linear(1), _linear(2)
    other = threading.Thread(target=write_model, args=(second, target), kwargs={"external_data": True})

    def report(done, total):
        if done == total:
            other.start()
            other.join(0.5)

    write_model(first, target, external_data=True, report=report)
    other.join()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert len(names) == 2, names
    assert names[1].encode() in target.read_bytes()
    onnx.checker.check_model(str(target), full_check=True)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "there" / "model.onnx")
    export(nn.ReLU(), normal(2), tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    onnx.checker.check_model(str(tmp_path / "there" / "model.onnx"))


@pytest.mark.parametrize("place", [".", "missing/model.onnx"])
def test_a_path_that_cannot_be_written(tmp_path, place):
    with pytest.raises(OSError, match=r"regular file|there is no directory"):
        export(nn.ReLU(), normal(2), tmp_path / place)
    assert list(tmp_path.iterdir()) == []


# -- interruption ----------------------------------------------------------------------------------------------------


class Stop:
    """Raises ``error`` at the ``count``-th call of the function that it replaces."""

    def __init__(self, function, count, error):
        self.function, self.left, self.error = function, count, error

    def __call__(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.function(*args, **kwargs)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "older", [None, False, True], ids=["nothing there", "a model there", "a model with data there"]
)
@pytest.mark.parametrize("external_data", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), FULL, MemoryError()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("where", ["report", "fsync", "replace"])
def test_interrupted(tmp_path, monkeypatch, older, external_data, error, count, where):
    target, image = tmp_path / "model.onnx", normal(1, 3, 32, 32)
    if older is not None:
        export(resnet(), image, target, external_data=older)
    before = digests(tmp_path)
    proto = to_onnx(trace(resnet(Bottleneck), image))
    stop, report = None, None
    monkeypatch.setattr(_write, "CHUNK_BYTES", 4096)
    if where == "report":
        stop = report = Stop(lambda done, total: None, count, error)
    elif where == "fsync":
        stop = Stop(_write.os.fsync, count, error)
        monkeypatch.setattr(_write.os, "fsync", stop)
    else:
        stop = Stop(_write.Path.replace, count, error)
        monkeypatch.setattr(_write.Path, "replace", lambda path, other: stop(path, other))
    try:
        write_model(proto, target, external_data=external_data, report=report)
    except (KeyboardInterrupt, OSError, MemoryError):
        monkeypatch.undo()
        assert digests(tmp_path) == before
    else:
        assert stop.left > 0, "the interruption was swallowed"


def test_a_failure_after_the_rename_keeps_the_new_pair(tmp_path, monkeypatch):
    """Once the model is in place, its data must stay, whatever happens then."""
    target, image = tmp_path / "model.onnx", normal(1, 3, 32, 32)
    replace = _write.Path.replace

    def replace_and_fail(path, other):
        replace(path, other)
        if other == target:
            raise KeyboardInterrupt

    monkeypatch.setattr(_write.Path, "replace", replace_and_fail)
    with pytest.raises(KeyboardInterrupt):
        export(resnet(), image, target, external_data=True)
    onnx.checker.check_model(str(target), full_check=True)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_is_really_too_small(tmp_path):
    """The kernel itself refuses the write, through a limit on the size of files."""
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the older one")
    script = (
        "import sys, lucid, resource; from lucid import nn; from lucid.onnx import export;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "export(nn.Linear(100, 100), lucid.ones((1, 100)), sys.argv[1])"
    )
    # -B: the limit would cut off the byte code that imports leave, too, and later processes would trip over it.
    done = subprocess.run(
        [sys.executable, "-B", "-c", script, str(target)], capture_output=True, text=True, timeout=120
    )
    assert "cannot be written: File too large" in done.stderr
    assert digests(tmp_path) == {"model.onnx": hashlib.sha256(b"the older one").hexdigest()}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_nothing_is_written_when_the_check_fails(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise onnx.checker.ValidationError("no good")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(ValueError, match="onnx does not accept the model: no good"):
        export(nn.ReLU(), normal(2), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_strict_check_has_teeth():
    proto = to_onnx(trace(resnet(), normal(1, 3, 32, 32)))
    next(node for node in proto.graph.node if node.name == "stem.0").attribute[0].ints[0] = 5
    with pytest.raises(ValueError, match="onnx does not accept the model"):
        check(proto)


# -- what is imported ------------------------------------------------------------------------------------------------


def test_onnx_is_imported_when_asked_for():
    script = "import sys, lucid, lucid.graph, lucid.models, lucid.onnx; print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


def test_a_missing_package_is_a_clear_sentence():
    script = "import sys; sys.modules['onnx'] = None\nfrom lucid.onnx import export"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: lucid.onnx needs the package onnx")
    assert last.endswith("pip install 'lucid-oracle[onnx]'")


# -- the ten, in full ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", get_model_names())
def test_the_ten_in_narrow(name, tmp_path):
    model = get_model(name, num_classes=5, stem_width=4, channels=(2, 2, 4, 4))
    [file] = export(model, normal(1, 3, 32, 32), tmp_path / f"{name}.onnx", dynamic_batch=True)
    proto = onnx.load(file)
    assert len(proto.graph.input) == 1
    assert sum(node.op_type == "Conv" for node in proto.graph.node) == sum(
        isinstance(module, nn.Conv2d) for module in model.modules()
    )
    image = normal(2, 3, 32, 32)
    assert run(proto, image)[0].shape == (2, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet_18", "resnet_50", "resnet_200", "wide_resnet_50"])  # every kind of block
def test_full_size(name, tmp_path):
    """At their real width and depth, on small images: the parity matrix runs all ten at 224x224."""
    lucid.manual_seed(0)
    model = get_model(name)
    files = export(
        model,
        lucid.zeros((1, 3, 96, 96)),
        tmp_path / f"{name}.onnx",
        dynamic_batch=True,
        external_data=name == "wide_resnet_50",
    )
    result = verify(files[0], model, [(1, 3, 96, 96), (3, 3, 96, 96)])
    assert result.agrees, str(result)
