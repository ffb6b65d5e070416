"""Operators of read ONNX models beside ONNX Runtime: earlier versions, corners, and those of ``com.microsoft``.

What onnx's own suite has is not repeated here; it knows the newest versions alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from support.backends import BACKENDS, ON_GPU, on

import lucid

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402

from lucid.onnx import load  # noqa: E402

BUDGET = 2e-6
"""Of float32, beside the largest value."""
MS = "com.microsoft"


class Row(NamedTuple):
    operator: str
    operands: tuple[Any, ...]
    attributes: dict[str, Any] = {}
    results: str = "y"
    """A letter for each result; ``-`` for one that is left out."""
    opset: int = 21
    domain: str = ""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def whole(*numbers: int, dtype: str = "int32") -> np.ndarray:
    return np.array(numbers, dtype)


X, IMAGE = normal(3, 4), normal(2, 4, 3, 3)
POSITIVE = np.abs(X) + 0.5
DIVIDENDS, DIVISORS = whole(7, -7, 7, -7), whole(2, 2, -2, -2)

EARLIER = [
    *(
        Row(op, (IMAGE,), {"axis": axis}, opset=11)
        for op in ("Softmax", "LogSoftmax", "Hardmax")
        for axis in (1, 2, -1)
    ),
    *(Row(f"Reduce{op}", (X,), {"axes": [-1]}, opset=11) for op in ("Sum", "Mean", "Max", "L1", "SumSquare", "Prod")),
    Row("ReduceSum", (whole(3, -5, 9), whole(dtype="int64")), {"noop_with_empty_axes": 1}, opset=13),
    Row("ReduceMean", (whole(3, -5, 9, -14),), {"keepdims": 0}, opset=13),
    Row("ReduceProd", (whole(3, -5, 9),), {"keepdims": 0}, opset=13),
    Row("Clip", (X,), {"min": -0.5, "max": 0.5}, opset=7),
    Row("Clip", (X,), {"max": 0.5}, opset=10),
    Row("Clip", (whole(-9, 4, 9), None, whole(5)[0]), opset=13),
    Row("BatchNormalization", (IMAGE, *(normal(4, seed=i) for i in range(3)), POSITIVE[0]), opset=9),
    Row("BatchNormalization", (X, *(normal(4, seed=i) for i in range(3)), POSITIVE[0]), {"epsilon": 0.5}, opset=15),
    Row("Dropout", (X,), {"ratio": 0.3}, opset=10),
    Row("Dropout", (X, np.float32(0.3), np.bool_(False)), {}, "ym", 13),
    Row("PRelu", (X, normal(1, 4)), opset=7),
    Row("Pow", (POSITIVE, whole(2, 3, 0, 1)), opset=13),
    Row("Pow", (whole(2, -3, 5, 7), np.float32(2)), opset=13),
    Row("Pow", (whole(2, -3, 5, 7), whole(3, 3, 0, 11)), opset=13),
    Row("Mod", (DIVIDENDS, DIVISORS), opset=10),
    Row("Mod", (DIVIDENDS, DIVISORS), {"fmod": 1}, opset=13),
    Row("Div", (DIVIDENDS, DIVISORS), opset=14),
    Row("Div", (whole(200, 9, dtype="uint8"), whole(7, 2, dtype="uint8")), opset=14),
    Row("Mean", (X, X * X), opset=8),
    Row("LRN", (IMAGE,), {"size": 5, "alpha": 0.5, "bias": 2.0}, opset=13),
    Row("Einsum", (X, normal(5, 4)), {"equation": "ij, kj"}, opset=12),
    Row("Gemm", (X, normal(4, 5), normal(3, 1)), {"alpha": 0.5, "beta": 0.25}, opset=9),
    Row("MatMul", (whole(1, 2), whole(3, 5)), opset=13),
    Row("Selu", (X,), {"alpha": 1.5, "gamma": 2.0}),
    Row("Celu", (X,), {"alpha": 0.5}),
    Row("BitShift", (whole(1, 255, dtype="uint8"), whole(3, 1, dtype="uint8")), {"direction": "LEFT"}, opset=11),
]


def recurrent(operator: str, gates: int, direction: str = "forward", opset: int = 14, **attributes: Any) -> Row:
    """Of four steps, two sequences and three neurons; with peepholes where there is an LSTM."""
    d = 2 if direction == "bidirectional" else 1
    operands: list[Any] = [normal(4, 2, 3), normal(d, gates * 3, 3), normal(d, gates * 3, 3), normal(d, gates * 6)]
    operands += [whole(4, 2), *(normal(d, 2, 3, seed=i) for i in range(2 if operator == "LSTM" else 1))]
    if operator == "LSTM":
        operands.append(normal(d, 9))
    attributes |= {"direction": direction, "hidden_size": 3}
    return Row(operator, tuple(operands), attributes, "yhc" if operator == "LSTM" else "yh", opset)


RECURRENT = [
    recurrent("RNN", 1, "reverse", activations=["LeakyRelu"], activation_alpha=[0.25]),
    recurrent(
        "RNN",
        1,
        "bidirectional",
        activations=["Affine", "ScaledTanh"],
        activation_alpha=[0.5, 2.0],
        activation_beta=[0.25, 0.5],
    ),
    recurrent("GRU", 3, clip=0.5),
    recurrent("GRU", 3, "bidirectional", opset=7, linear_before_reset=1),
    recurrent("GRU", 3, activations=["HardSigmoid", "Softsign"]),
    recurrent("LSTM", 4, "bidirectional"),
    recurrent("LSTM", 4, "reverse", opset=7, clip=1.5),
    recurrent("LSTM", 4, input_forget=1, activations=["Sigmoid", "Relu", "Elu"]),
]

WORDS, MASK = whole(1, 8, 3, 0, 4, 4).reshape(2, 3), whole(1, 1, 0, 1, 1, 1).reshape(2, 3)
TABLES = normal(9, 8), normal(5, 8), normal(2, 8)
SCALES = normal(8, seed=1), normal(8, seed=2)
Q, K, V, B = normal(2, 3, 8), normal(2, 5, 8), normal(2, 5, 8, seed=1), normal(24)
PAST = normal(2, 2, 4, 4), normal(2, 2, 4, 4, seed=1)
CONV = normal(2, 4, 6, 6), normal(5, 4, 3, 3), normal(5)
PACKED = normal(2, 3, 8), normal(8, 24), B


def microsoft(operator: str, *operands: Any, results: str = "y", **attributes: Any) -> Row:
    return Row(operator, operands, attributes, results, domain=MS)


MICROSOFT = [
    microsoft("FusedConv", *CONV, activation="Relu", kernel_shape=[3, 3]),
    microsoft("FusedConv", *CONV, activation="LeakyRelu", activation_params=[0.1], pads=[1, 1, 1, 1]),
    microsoft("FusedConv", *CONV, normal(2, 5, 4, 4), activation="Relu"),
    microsoft("FusedConv", *CONV, activation="Clip", activation_params=[-0.5, 0.5]),
    microsoft("FusedConv", *CONV, activation="HardSigmoid", activation_params=[0.3, 0.4]),
    microsoft("FusedGemm", X, normal(5, 4), normal(5), activation="LeakyRelu", activation_alpha=0.2, transB=1),
    microsoft("FusedMatMul", Q, K, transB=1, alpha=0.5),
    microsoft("FusedMatMul", normal(4, 2, 3), normal(2, 4, 5), transA=1, transBatchA=1),
    microsoft("Gelu", X),
    microsoft("BiasGelu", X, X[0]),
    microsoft("FastGelu", X, X[0]),
    microsoft("QuickGelu", X),
    microsoft("SkipLayerNormalization", Q, Q * Q, *SCALES, SCALES[0], results="y--s", epsilon=1e-5),
    microsoft("SkipLayerNormalization", Q, Q[0], *SCALES, epsilon=1e-5),
    microsoft("SkipSimplifiedLayerNormalization", Q, Q * Q, SCALES[0], results="y--s", epsilon=1e-5),
    Row("SimplifiedLayerNormalization", (Q, SCALES[0]), {"axis": -1, "epsilon": 1e-5}, "yi"),
    Row("LayerNormalization", (Q, *SCALES), {"axis": -1, "epsilon": 1e-5}, "ymi", 15),
    microsoft("EmbedLayerNormalization", WORDS, WORDS % 2, *TABLES, *SCALES, MASK, results="yms", epsilon=1e-5),
    microsoft("EmbedLayerNormalization", WORDS, None, *TABLES[:2], None, *SCALES, None, WORDS % 5, results="ym"),
    microsoft("MultiHeadAttention", Q, K, V, B, whole(5, 2), num_heads=2),
    microsoft(
        "MultiHeadAttention",
        Q,
        K,
        V,
        None,
        (np.abs(K[:, :, 0]) < 1).astype(np.int32),
        normal(1, 2, 3, 5),
        num_heads=2,
        scale=0.3,
    ),
    microsoft("MultiHeadAttention", Q, Q, Q, B, None, None, *PAST, results="ykv", num_heads=2, unidirectional=1),
    microsoft("MultiHeadAttention", Q, *PAST, num_heads=2),
    microsoft("Attention", *PACKED, MASK, num_heads=2),
    microsoft("Attention", *PACKED, whole(3, 2, 0, 1), num_heads=2),
    microsoft("Attention", *PACKED, None, normal(2, 2, 2, 4, 4), results="yp", num_heads=2, unidirectional=1),
    microsoft(
        "Attention",
        Q,
        normal(8, 20),
        normal(20),
        None,
        None,
        normal(2, 2, 3, 3),
        num_heads=2,
        qkv_hidden_sizes=[8, 8, 4],
    ),
    microsoft("RotaryEmbedding", Q, whole(1, dtype="int64"), normal(9, 2), normal(9, 2, seed=1)),
    microsoft("RotaryEmbedding", Q, WORDS.astype(np.int64), normal(9, 2), normal(9, 2, seed=1), interleaved=1),
    microsoft(
        "NhwcMaxPool", np.arange(96, dtype=np.int8).reshape(1, 4, 8, 3) % 37, kernel_shape=[2, 2], strides=[2, 2]
    ),
]


def model(row: Row) -> Any:
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(row.operands)]
    outputs = [f"y{i}" if letter != "-" else "" for i, letter in enumerate(row.results)]
    node = helper.make_node(row.operator, names, outputs, domain=row.domain, **row.attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in zip(names, row.operands, strict=True)
        if x is not None
    ]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=name) for name in outputs if name])
    opsets = [helper.make_opsetid("", row.opset), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def theirs(proto: Any, operands: list[np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([each.name for each in session.get_inputs()], operands, strict=True)))


@pytest.mark.parametrize("row", [*EARLIER, *RECURRENT, *MICROSOFT], ids=lambda row: f"{row.operator}-{row.opset}")
def test_an_operator_computes_what_onnx_runtime_does(row):
    operands = [np.asarray(x) for x in row.operands if x is not None]
    proto = model(row)
    got = load(proto)(*operands)
    for y, want in zip(got if isinstance(got, tuple) else (got,), theirs(proto, operands), strict=True):
        mine = y.numpy()
        assert (mine.shape, mine.dtype) == (want.shape, want.dtype)
        if mine.dtype.kind == "f":
            assert np.abs(mine - want).max() <= BUDGET * max(1.0, np.abs(want).max())
        else:
            np.testing.assert_array_equal(mine, want)


def bits_of(row: Row) -> list[bytes]:
    got = load(model(row))(*[lucid.tensor(np.asarray(x)) for x in row.operands if x is not None])
    return [y.cpu().numpy().tobytes() for y in (got if isinstance(got, tuple) else (got,))]


@pytest.mark.parametrize("backend", [name for name in dict.fromkeys((*BACKENDS, *ON_GPU)) if name != "reference"])
def test_every_backend_has_the_same_bits(backend):
    rows = [*EARLIER, *RECURRENT, *MICROSOFT]
    with on("reference"):
        wanted = [bits_of(row) for row in rows]
    with on(backend):
        assert [row.operator for row, bits in zip(rows, wanted, strict=True) if bits_of(row) != bits] == []


def test_dropout_drops_where_the_model_or_the_module_trains():
    row = Row("Dropout", (np.ones((40, 50), np.float32), np.float32(0.25), np.bool_(True)), {"seed": 3}, "ym", 13)
    x, ratio, trains = row.operands
    first, second = load(model(row)), load(model(row))
    y, mask = first(x, ratio, trains)
    again, _ = second(x, ratio, trains)
    np.testing.assert_array_equal(y.numpy(), again.numpy())
    np.testing.assert_array_equal(y.numpy(), np.where(mask.numpy(), np.float32(1) / np.float32(0.75), 0))
    assert 0.7 < mask.numpy().mean() < 0.8
    assert (first(x, ratio, trains)[0].numpy() != y.numpy()).any()  # the generator goes on
    assert first(x, ratio, np.bool_(False))[1].numpy().all()
    assert not first.train()(x, ratio, np.bool_(False))[1].numpy().all()


@pytest.mark.parametrize("opset", [9, 13, 15])
def test_batch_normalization_in_training_gives_and_keeps_statistics(opset):
    """ONNX's variance is that of the population; before version 14 results in plenty ask for training."""
    x, scale, shift, mean, var = IMAGE, *(normal(4, seed=i) for i in range(3)), POSITIVE[0]
    attributes: dict[str, Any] = {"momentum": 0.75}
    attributes |= {"training_mode": 1} if opset >= 14 else {}
    proto = model(
        Row("BatchNormalization", (x, scale, shift, mean, var), attributes, "ymv" if opset >= 14 else "ymvab", opset)
    )
    for tensor, name in ((mean, "x3"), (var, "x4")):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(tensor, name))
    module = load(proto).train()
    _, new_mean, new_var, *_ = module(x, scale, shift)
    wanted = [0.75 * mean + 0.25 * x.mean((0, 2, 3)), 0.75 * var + 0.25 * x.var((0, 2, 3))]
    for got, kept, want in zip((new_mean, new_var), (module.x3, module.x4), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=BUDGET)
        np.testing.assert_array_equal(kept.numpy(), got.numpy())


def test_random_operators_start_from_their_seed():
    row = Row("RandomNormal", (), {"shape": [2, 3], "seed": 7.0, "mean": 1.0, "scale": 2.0})
    first = load(model(row))()
    np.testing.assert_array_equal(first.numpy(), lucid.random.Generator(7).normal(1.0, 2.0, (2, 3)).numpy())
    assert (load(model(row._replace(attributes=row.attributes | {"seed": 7.5})))().numpy() != first.numpy()).any()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("Attention", (Q, K, V), {"q_num_heads": 3, "kv_num_heads": 2}, opset=24), "q_num_heads is 3"),
        (Row("BitShift", (whole(1, dtype="uint8"),) * 2, {"direction": "UP"}), "direction is 'UP'"),
        (
            Row("RNN", (normal(2, 1, 3), normal(1, 2, 3), normal(1, 2, 2)), {"activations": ["Sine"]}),
            "activation 'sine'",
        ),
        (Row("RNN", (normal(2, 1, 3), normal(1, 4, 3), normal(1, 2, 2)), {"hidden_size": 2}), "must start with"),
    ],
    ids=lambda each: each.operator if isinstance(each, Row) else "",
)
def test_an_operator_refuses_what_it_cannot_be(row, message):
    with pytest.raises(ValueError, match=message):
        load(model(row))(*row.operands)
