"""Models made lighter: simplified, in half precision, in 8 bits; each run in ONNX Runtime, or read again by lucid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.graph import trace, trace_gradients

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from lucid.onnx import check, halve, load, quantize, simplify, to_onnx  # noqa: E402

RNG = np.random.default_rng(0)


def network() -> nn.Module:
    model = models.ResNet(models.blocks.Bottleneck, [1, 1], num_classes=5, stem_width=4, channels=(4, 8))
    model.load_state_dict(models.seeded_state(model, 0))
    return model


def exported(model: nn.Module, image: lucid.Tensor, opset: int = 17) -> Any:
    return to_onnx(trace(model, image, dynamic_batch=True), opset=opset)


def run(model: Any, *arrays: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([each.name for each in session.get_inputs()], arrays, strict=False)))


def images(count: int) -> np.ndarray:
    return RNG.standard_normal((count, 3, 32, 32)).astype(np.float32)


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    difference = found.astype(np.float64) - wanted
    return float(np.sqrt(np.mean(difference**2) / np.mean(np.square(wanted, dtype=np.float64))))


def test_simplified_models_compute_the_same_bits() -> None:
    """With constants folded: lucid runs both files."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.shift = nn.Parameter(lucid.tensor([0.5, -1.0, 2.0]))

        def forward(self, x: lucid.Tensor) -> lucid.Tensor:
            unused = (x * 2).sum()
            del unused
            return (self.layer(x).detach() + lucid.exp(self.shift) * lucid.tensor([1.0, 0.0, 1.0])).detach()

    model = to_onnx(trace(Masked(), lucid.ones((2, 5, 4))))
    simpler = simplify(model)
    check(simpler)
    assert [node.op_type for node in simpler.graph.node] == ["MatMul", "Add", "Add", "Identity"]
    x = RNG.standard_normal((2, 5, 4)).astype(np.float32)
    with lucid.no_grad():
        np.testing.assert_array_equal(load(simpler)(x).numpy(), load(model)(x).numpy())
    np.testing.assert_allclose(run(simpler, x)[0], run(model, x)[0], rtol=1e-6)


def test_variables_are_not_constants() -> None:
    model = nn.Linear(3, 2)
    graph = trace_gradients(model, lucid.ones((4, 5, 3)), loss=lambda y: y.sum())
    simpler = simplify(to_onnx(graph))
    assert "weight" in {each.name for each in simpler.graph.initializer}
    x = RNG.standard_normal((4, 5, 3)).astype(np.float32)
    names = [each.name for each in simpler.graph.output]
    found = dict(zip(names, run(simpler, x), strict=True))
    np.testing.assert_allclose(found["weight.grad"], np.tile(x.sum((0, 1)), (2, 1)), rtol=1e-5)


@pytest.mark.parametrize("float32_inputs", [False, True])
def test_float16(float32_inputs: bool) -> None:
    model, x = network(), images(3)
    wanted = run(exported(model, lucid.tensor(x)), x)[0]
    half = halve(exported(model, lucid.tensor(x)), "float16", float32_inputs)
    check(half)
    assert {each.data_type for each in half.graph.initializer} <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    [found] = run(half, x if float32_inputs else x.astype(np.float16))
    assert found.dtype == (np.float32 if float32_inputs else np.float16)
    assert 0 < distance(found, wanted) < 64 * 2**-11


def test_bfloat16() -> None:
    """ONNX Runtime has no such convolutions on processors: lucid reads the file."""
    model, x = network(), images(3)
    wanted = run(exported(model, lucid.tensor(x)), x)[0]
    half = halve(exported(model, lucid.tensor(x), 22), "bfloat16", True)
    check(half)
    with lucid.no_grad():
        found = load(half)(x).numpy()
    assert 0 < distance(found, wanted) < 64 * 2**-8
    with pytest.raises(ValueError, match="opset: got 17; bfloat16 needs 22 or newer"):
        halve(exported(model, lucid.tensor(x)), "bfloat16")


def test_a_weight_too_large_for_float16() -> None:
    layer = nn.Linear(2, 1)
    with lucid.no_grad():
        layer.weight.fill_(1e6)
    with pytest.raises(ValueError, match="'weight' holds 1e\\+06, which is too large for float16"):
        halve(to_onnx(trace(layer, lucid.ones((1, 2)))), "float16")


def test_int8() -> None:
    """Near the float32 model, in ONNX Runtime and in lucid; the same data gives the same bytes."""
    model, x = network(), images(8)
    whole = exported(model, lucid.tensor(x))
    wanted = run(whole, x)[0]
    small = quantize(whole, {"input": x})
    check(small)
    assert small.SerializeToString() == quantize(whole, {"input": x}).SerializeToString()
    operators = [node.op_type for node in small.graph.node]
    assert "BatchNormalization" not in operators
    convolutions = operators.count("Conv")
    assert operators.count("DequantizeLinear") >= 3 * convolutions
    assert sum(each.data_type == onnx.TensorProto.INT8 for each in small.graph.initializer) > convolutions
    assert distance(run(small, x)[0], wanted) < 0.1
    with lucid.no_grad():
        assert distance(load(small)(x).numpy(), wanted) < 0.1


def test_int8_of_products() -> None:
    """Rounding to 8 bits by hand: a weight by its channel's largest value, an input by its range."""
    layer, x = nn.Linear(3, 2), RNG.standard_normal((16, 3)).astype(np.float32)
    for shape in [(16, 3), (4, 4, 3)]:
        small = quantize(to_onnx(trace(layer, lucid.tensor(x.reshape(shape)))), {"input": x.reshape(shape)})
        weight, bias = layer.weight.numpy(), layer.bias.numpy()  # type: ignore[union-attr]
        steps = np.abs(weight).max(1, keepdims=True) / 127
        step = (x.max() - x.min()) / 255
        zero = np.rint(-128 - x.min() / step)
        rounded = (np.clip(np.rint(x / step) + zero, -128, 127) - zero) * step
        wanted = rounded @ (np.rint(weight / steps) * steps).T + bias
        np.testing.assert_allclose(run(small, x.reshape(shape))[0].reshape(16, 2), wanted, atol=2e-4)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"image": np.zeros((4, 3), np.float32)}, "calibrate: the data has no 'input'; it has image"),
        ({"input": np.zeros((2, 3), np.float32)}, "calibrate: got 2 samples; the model takes 4 at a time"),
    ],
)
def test_calibration_that_does_not_fit(data: dict[str, np.ndarray], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        quantize(to_onnx(trace(nn.Linear(3, 2), lucid.ones((4, 3)))), data)
