"""Operators of read ONNX models beside ONNX Runtime: earlier versions, corners, and those of ``com.microsoft``.

What onnx's own suite has is not repeated here; it knows the newest versions alone.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from support.backends import BACKENDS, ON_GPU, on
from support.scripts import ROOT

import lucid

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402

from lucid.onnx import load  # noqa: E402
from lucid.onnx._importer import IMPORTS  # noqa: E402
from lucid.onnx._types import element_of  # noqa: E402

BUDGET = 2e-6
"""Of float32, beside the largest value."""
MS, ML = "com.microsoft", "ai.onnx.ml"


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


SQUARE = {"kernel_shape": [3, 3], "strides": [2, 2]}
SHUFFLED = np.random.default_rng(5).permutation(2 * 3 * 7 * 8).reshape(2, 3, 7, 8)
PIXELS = SHUFFLED.astype(np.float32)
REGIONS = np.array([[0.4, 1.2, 5.1, 6.3], [2.0, -1.5, 9.0, 3.0], [3.0, 3.0, 3.2, 3.1]], np.float32)
CORNERS = np.concatenate([[[1], [0], [1]], np.round(REGIONS)], 1).astype(np.float32)
BOXES = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [1, 11.2, 0, 10.2]]], np.float32)
SCORES = np.array([[[0.9, 0.75, 0.6, 0.95, 0.5], [0.3, 0.3, 0.8, 0.1, 0.95]]], np.float32)
NONE = np.zeros(0, np.float32)

WINDOWS = [
    Row("Conv", (IMAGE, normal(3, 4, 2, 3)), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, opset=11),
    Row("ConvTranspose", (IMAGE, normal(4, 2, 3, 3)), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, opset=11),
    Row("ConvTranspose", (IMAGE, normal(4, 2, 3, 3)), {"output_shape": [8, 7], "strides": [3, 2]}, opset=11),
    Row("MaxPool", (PIXELS,), SQUARE | {"pads": [1, 0, 2, 1], "ceil_mode": 1}, "yi", 12),
    Row("MaxPool", (PIXELS,), SQUARE | {"pads": [1, 1, 1, 1], "storage_order": 1}, "yi", 11),
    Row("MaxPool", (SHUFFLED.astype(np.int8),), SQUARE | {"dilations": [2, 1], "pads": [1, 0, 2, 1]}, opset=12),
    Row("MaxPool", (SHUFFLED.astype(np.uint8),), SQUARE | {"pads": [2, 2, 2, 2]}, opset=12),
    Row("AveragePool", (PIXELS,), SQUARE | {"pads": [1, 0, 2, 1]}, opset=7),
    Row("AveragePool", (PIXELS,), SQUARE | {"pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1}, opset=19),
    Row("AveragePool", (PIXELS,), SQUARE | {"pads": [0, 2, 1, 2], "ceil_mode": 1}, opset=10),
    Row("LpPool", (PIXELS,), SQUARE | {"p": 1, "pads": [1, 1, 0, 1]}, opset=11),
    Row("GlobalMaxPool", (normal(2, 3, 4),), opset=7),
    Row(
        "MaxUnpool",
        (PIXELS[:1, :1, :2, :2], np.array([[[[0, 3], [9, 14]]]])),
        SQUARE | {"kernel_shape": [2, 2]},
        opset=11,
    ),
    Row("MaxRoiPool", (PIXELS, CORNERS), {"pooled_shape": [2, 3], "spatial_scale": 0.9}, opset=7),
    Row("RoiAlign", (PIXELS, REGIONS, np.array([0, 1, 1])), {"output_height": 2, "output_width": 3}, opset=10),
    Row(
        "RoiAlign",
        (PIXELS, REGIONS, np.array([0, 1, 1])),
        {"output_height": 2, "output_width": 2, "mode": "max", "sampling_ratio": 2},
        opset=16,
    ),
    Row("Upsample", (IMAGE,), {"scales": [1.0, 1.0, 2.0, 1.5], "mode": "linear"}, opset=7),
    Row("Upsample", (IMAGE, np.array([1, 1, 2, 3], np.float32)), {"mode": "nearest"}, opset=9),
    Row("Resize", (PIXELS, np.array([1, 1, 0.6, 0.6], np.float32)), {"mode": "nearest"}, opset=10),
    Row("Resize", (PIXELS, np.array([1, 1, 1.6, 0.7], np.float32)), {"mode": "linear"}, opset=10),
    Row("Resize", (PIXELS, NONE, NONE, np.array([2, 3, 5, 11])), {"mode": "cubic"}, opset=11),
    Row("Resize", (PIXELS, NONE, np.array([1, 1, 0.7, 2.3], np.float32)), {"mode": "linear"}, opset=13),
    Row(
        "Resize",
        (PIXELS, np.array([0, 0, 0.2, -0.1, 1, 1, 0.8, 1.1], np.float32), None, np.array([2, 3, 4, 5])),
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0},
        opset=13,
    ),
    Row("GridSample", (PIXELS, np.tanh(normal(2, 4, 5, 2)) * 1.3), {"mode": "bicubic"}, opset=16),
    Row("NonMaxSuppression", (BOXES, SCORES, np.array([3]), np.float32([0.5]), np.float32([0.2])), opset=10),
]

STUMPS: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1],
    "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
    "nodes_featureids": [0, 2, 0, 0, 0, 1, 0, 0],
    "nodes_values": [0.1, -0.3, 0.0, 0.0, 0.0, 0.2, 0.0, 0.0],
    "nodes_modes": ["BRANCH_LEQ", "BRANCH_GT", *["LEAF"] * 3, "BRANCH_LT", *["LEAF"] * 2],
    "nodes_truenodeids": [1, 3, 0, 0, 0, 1, 0, 0],
    "nodes_falsenodeids": [2, 4, 0, 0, 0, 2, 0, 0],
    "nodes_missing_value_tracks_true": [0, 1, 0, 0, 0, 0, 0, 0],
}
LEAVES = [0, 0, 0, 1, 1], [2, 3, 4, 1, 2]
FEATURES = normal(6, 4)
FEATURES[0, 2] = np.nan


def trees(operator: str, ids: list[int], weights: list[float], **attributes: Any) -> Row:
    kind = "class" if operator == "TreeEnsembleClassifier" else "target"
    names = {f"{kind}_treeids": LEAVES[0], f"{kind}_nodeids": LEAVES[1], f"{kind}_ids": ids, f"{kind}_weights": weights}
    return learned(operator, FEATURES, results="ls" if kind == "class" else "y", **STUMPS, **names, **attributes)


def learned(operator: str, *operands: Any, results: str = "y", **attributes: Any) -> Row:
    return Row(operator, operands, attributes, results, 17, ML)


VECTORS: dict[str, Any] = {
    "kernel_params": [0.4, 0.1, 2.0],
    "support_vectors": normal(5, 4).ravel().tolist(),
    "rho": [0.1, -0.2, 0.3],
}
WEIGHTS = [0.5, -0.25, 0.75, 1.0, -1.0]
TEXT = np.array([["a", "b"], ["c", "a"]], object)
LEARNED = [
    trees("TreeEnsembleRegressor", [0, 0, 0, 1, 1], WEIGHTS, n_targets=2, base_values=[0.5, -1.0]),
    trees("TreeEnsembleRegressor", [0, 0, 0, 0, 0], WEIGHTS, n_targets=1, aggregate_function="AVERAGE"),
    trees("TreeEnsembleRegressor", [0, 0, 0, 0, 0], WEIGHTS, n_targets=1, aggregate_function="MIN"),
    trees(
        "TreeEnsembleClassifier",
        [0, 1, 2, 1, 0],
        [0.5, 0.25, 0.75, 1.0, 2.0],
        classlabels_int64s=[4, 5, 6],
        post_transform="SOFTMAX",
    ),
    trees("TreeEnsembleClassifier", [0] * 5, WEIGHTS, classlabels_int64s=[4, 5], post_transform="LOGISTIC"),
    trees("TreeEnsembleClassifier", [0] * 5, WEIGHTS, classlabels_strings=["no", "yes"]),
    trees("TreeEnsembleClassifier", [0] * 5, [0.5, 0.25, 0.1, 0.2, 0.3], classlabels_int64s=[4, 5]),
    learned("LinearRegressor", X, coefficients=normal(8).tolist(), intercepts=[0.5, -0.5], targets=2),
    learned(
        "LinearClassifier",
        X,
        results="ls",
        coefficients=normal(12).tolist(),
        intercepts=[0.5, -0.5, 0.1],
        classlabels_ints=[3, 5, 8],
        post_transform="SOFTMAX",
    ),
    learned(
        "LinearClassifier",
        X,
        results="ls",
        coefficients=normal(12).tolist(),
        intercepts=[0.5, -0.5, 0.1],
        classlabels_strings=["a", "b", "c"],
        post_transform="LOGISTIC",
    ),
    learned(
        "LinearClassifier", X, results="ls", coefficients=normal(4).tolist(), intercepts=[0.5], classlabels_ints=[3, 5]
    ),
    *(
        learned("SVMRegressor", X, kernel_type=kind, n_supports=5, coefficients=WEIGHTS, **VECTORS)
        for kind in ("LINEAR", "POLY", "RBF", "SIGMOID")
    ),
    learned(
        "SVMClassifier",
        X,
        results="ls",
        kernel_type="RBF",
        vectors_per_class=[2, 2, 1],
        coefficients=WEIGHTS * 2,
        classlabels_ints=[3, 5, 8],
        **VECTORS,
    ),
    learned(
        "SVMClassifier",
        X,
        results="ls",
        kernel_type="RBF",
        vectors_per_class=[2, 2, 1],
        coefficients=WEIGHTS * 2,
        classlabels_ints=[3, 5, 8],
        prob_a=[-1.0, -0.5, -0.8],
        prob_b=[0.1, 0.2, 0.0],
        **VECTORS,
    ),
    learned(
        "SVMClassifier",
        X,
        results="ls",
        kernel_type="LINEAR",
        vectors_per_class=[3, 2],
        coefficients=WEIGHTS,
        classlabels_ints=[3, 5],
        **VECTORS,
    ),
    learned("Scaler", X, offset=[0.5, 0.1, 0.2, 0.3], scale=[2.0, 1.0, 0.5, 3.0]),
    *(learned("Normalizer", X, norm=norm) for norm in ("MAX", "L1", "L2")),
    learned("Binarizer", X, threshold=0.25),
    learned("Imputer", FEATURES, imputed_value_floats=[1.0, 2.0, 3.0, 4.0], replaced_value_float=float("nan")),
    learned("Imputer", whole(1, 0, 2, dtype="int64")[None], imputed_value_int64s=[9], replaced_value_int64=0),
    learned("ArrayFeatureExtractor", X, whole(2, 0, dtype="int64")),
    learned("FeatureVectorizer", X, POSITIVE, inputdimensions=[2, 5]),
    learned("LabelEncoder", TEXT, keys_strings=["a", "b"], values_int64s=[7, 9], default_int64=-5),
    learned("LabelEncoder", whole(1, 4, dtype="int64"), keys_int64s=[4, 2], values_strings=["x", "y"]),
    learned("LabelEncoder", np.float32([1, np.nan]), keys_floats=[float("nan"), 1.0], values_floats=[0.5, 0.25]),
    learned("CategoryMapper", TEXT, cats_strings=["a", "b"], cats_int64s=[3, 4]),
    learned("CategoryMapper", whole(4, 5, dtype="int64"), cats_strings=["a", "b"], cats_int64s=[3, 4]),
    learned("OneHotEncoder", TEXT, cats_strings=["a", "b"]),
    learned("OneHotEncoder", whole(3, 9, 4, dtype="int64"), cats_int64s=[3, 4]),
]


def model(row: Row) -> Any:
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(row.operands)]
    outputs = [f"y{i}" if letter != "-" else "" for i, letter in enumerate(row.results)]
    node = helper.make_node(row.operator, names, outputs, domain=row.domain, **row.attributes)
    infos = [
        helper.make_tensor_value_info(name, element_of(x.dtype), x.shape)
        for name, x in zip(names, row.operands, strict=True)
        if x is not None
    ]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=name) for name in outputs if name])
    opsets = [
        helper.make_opsetid("", row.opset),
        helper.make_opsetid(MS, 1),
        helper.make_opsetid(ML, 4),
        helper.make_opsetid("com.example", 1),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def theirs(proto: Any, operands: list[np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([each.name for each in session.get_inputs()], operands, strict=True)))


@pytest.mark.parametrize(
    "row", [*EARLIER, *WINDOWS, *LEARNED, *RECURRENT, *MICROSOFT], ids=lambda row: f"{row.operator}-{row.opset}"
)
def test_an_operator_computes_what_onnx_runtime_does(row):
    operands = [np.asarray(x) for x in row.operands if x is not None]
    proto = model(row)
    got = load(proto)(*operands)
    for y, want in zip(got if isinstance(got, tuple) else (got,), theirs(proto, operands), strict=True):
        mine = y if isinstance(y, np.ndarray) else y.numpy()
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
    rows = [*EARLIER, *WINDOWS, *RECURRENT, *MICROSOFT]
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


def test_classes_are_drawn_as_often_as_they_should_be():
    shares = np.array([[0.5, 0.25, 0.25, 0.0], [0.1, 0.0, 0.2, 0.7]], np.float32)
    logits = np.log(shares, where=shares > 0, out=np.full_like(shares, -np.inf))
    drawn = load(model(Row("Multinomial", (logits,), {"sample_size": 4000, "seed": 1.0})))(logits).numpy()
    counts = np.stack([np.bincount(row, minlength=4) for row in drawn])
    assert drawn.dtype == np.int32
    assert not counts[shares == 0].any()
    np.testing.assert_allclose(counts / 4000, shares, atol=0.04)  # five deviations
    probs = np.float32([0.0, 0.25, 1.0] * 400)
    ones = load(model(Row("Bernoulli", (probs,), {"seed": 2.0})))(probs).numpy().reshape(400, 3).mean(0)
    np.testing.assert_allclose(ones, [0.0, 0.25, 1.0], atol=0.11)


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


def test_a_training_graph_steps_as_pytorch_does():
    """The gradient of a loss by parameters, of which one is read within, and Momentum's step."""
    graph = onnx.parser.parse_graph("""
        step (float rate, int64 t, float[6, 4] x, float[6, 2] target, float[4, 2] w, float[4, 2] v)
            => (float loss, float[4, 2] w_new, float[4, 2] v_new) <float[2] b = {0.5, -0.25}>
        {
            h = MatMul(x, w)
            y = Add(h, b)
            wrong = Sub(y, target)
            square = Mul(wrong, wrong)
            loss = ReduceMean<keepdims = 0>(square)
        }
    """)
    domain = "ai.onnx.preview.training"
    graph.node.append(helper.make_node("Gradient", ["w", "x"], ["dw"], domain=domain, xs=["w"], zs=["x"], y="loss"))
    attributes = {"alpha": 0.9, "beta": 1.0, "mode": "standard", "norm_coefficient": 0.0}
    inputs, outputs = ["rate", "t", "w", "dw", "v"], ["w_new", "v_new"]
    graph.node.append(helper.make_node("Momentum", inputs, outputs, domain=domain, **attributes))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    module = load(helper.make_model(graph, opset_imports=opsets))
    x, target, start = normal(6, 4), normal(6, 2), normal(4, 2)
    theirs = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    w, v = start, np.zeros_like(start)
    for step in range(3):
        loss, w, v = (each.numpy() for each in module(np.float32(0.1), np.int64(step), x, target, w, v))
        wrong = torch.tensor(x) @ theirs + torch.tensor([0.5, -0.25]) - torch.tensor(target)
        optimizer.zero_grad()
        (wrong * wrong).mean().backward()
        np.testing.assert_allclose(loss, (wrong * wrong).mean().item(), rtol=BUDGET)
        optimizer.step()
    np.testing.assert_allclose(w, theirs.detach().numpy(), rtol=10 * BUDGET, atol=BUDGET)


def test_a_model_whose_inputs_say_how_it_computes_cannot_be_traced():
    """It would be traced with values that it does not have."""
    module = load(model(Row("Resize", (PIXELS, NONE, np.ones(4, np.float32)), {"mode": "linear"}, opset=13)))
    with pytest.raises(RuntimeError, match="cannot be traced"):
        lucid.compile(module, *(lucid.tensor(x) for x in (PIXELS, NONE, np.ones(4, np.float32))))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("MaxPool", (PIXELS,), {"kernel_shape": [9, 9]}, opset=12), r"windows \[9, 9\] are larger than the images"),
        (Row("MaxPool", (PIXELS,), {"kernel_shape": [3]}, opset=12), "not of 2 sides"),
        (Row("Conv", (normal(1, 2, 3, 3, 3, 3), normal(2, 2, 1, 1, 1, 1)), opset=11), "images have 4 sides"),
        (Row("Conv", (IMAGE, normal(3, 4, 2, 3)), {"kernel_shape": [3, 3]}, opset=11), r"kernel_shape is \[3, 3\]"),
        (Row("Resize", (PIXELS, NONE, NONE), {"mode": "linear"}, opset=13), "one of scales and sizes"),
        (Row("Upsample", (PIXELS, np.ones(4, np.float32)), {"mode": "cubic"}, opset=9), "mode is 'cubic'"),
        (Row("DFT", (X[..., None],), {"axis": 2}, opset=17), "axis is 2"),
        (Row("STFT", (X, np.array(0)), opset=17), "with a step of 0"),
        (learned("LinearRegressor", X, coefficients=[1.0, 2.0, 3.0]), "3 coefficients"),
        (learned("Normalizer", X, norm="L3"), "norm is 'L3'"),
        (learned("SVMRegressor", X, kernel_type="COSINE", n_supports=5, coefficients=WEIGHTS, **VECTORS), "'COSINE'"),
        (trees("TreeEnsembleRegressor", [0, 0, 0, 0, 4], WEIGHTS, n_targets=2), "name target 4"),
        (learned("OneHotEncoder", TEXT, cats_strings=["a"], zeros=0), "none of its categories"),
    ],
    ids=lambda each: each.operator if isinstance(each, Row) else "",
)
def test_windows_and_learned_models_refuse_what_they_cannot_be(row, message):
    with pytest.raises(ValueError, match=message):
        load(model(row))(*[np.asarray(x) for x in row.operands])


def test_trees_that_lead_to_each_other_are_refused():
    row = trees("TreeEnsembleRegressor", [0] * 5, WEIGHTS, n_targets=1)
    broken = row._replace(attributes=row.attributes | {"nodes_truenodeids": [1, 0, 0, 0, 0, 1, 0, 0]})
    with pytest.raises(ValueError, match="in a circle"):
        load(model(broken))(np.array([[-1, 0, 1, 0]], np.float32))
    broken = row._replace(attributes=row.attributes | {"nodes_truenodeids": [7, 3, 0, 0, 0, 1, 0, 0]})
    with pytest.raises(ValueError, match="trees are not valid"):
        load(model(broken))(FEATURES)


def test_a_row_of_scores_is_zipped_with_its_labels():
    row = learned("ZipMap", FEATURES[1:3, :2], classlabels_strings=["no", "yes"])
    found = load(model(row))(*row.operands)
    assert [list(each) for each in found] == [["no", "yes"]] * 2
    assert found[0]["yes"] == FEATURES[1, 1]


def test_an_operator_of_ones_own_as_the_page_shows_it():
    page = (ROOT / "docs" / "onnx.md").read_text()
    example = re.search(r"```python\n(from lucid.onnx import Call.*?)```", page, re.DOTALL)[1]
    exec(example, {"lucid": lucid})
    row = Row("Halve", (X,), {"times": 2}, domain="com.example")
    np.testing.assert_array_equal(load(model(row))(X).numpy(), X / 4)
    with pytest.raises(ValueError, match="Halve 'y0': times is missing"):
        load(model(row._replace(attributes={})))(X)
    IMPORTS.pop(("com.example", "Halve"))
