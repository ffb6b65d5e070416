"""Gradients as plain ONNX: ONNX Runtime beside PyTorch for every operation, beside lucid's float64 for networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import tables
from support.gradients import CLASSES, IMAGES, differentiable, small, step_of, traced
from support.operations import Row, run_torch
from support.scripts import script

import lucid
import lucid.nn.functional as F
from lucid import models, nn, optim
from lucid.graph import trace_gradients

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from lucid.onnx import NEWEST_OPSET, check, export_gradients, load, to_onnx, verify_gradients  # noqa: E402


def run(model: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def one_of_each() -> list[Row]:
    """The smallest row of every operation, of a smooth one if there is."""

    def size(row: Row) -> tuple[bool, int]:
        return not row.smooth, sum(array.size for array in row.arrays(np.float32, "dense", 0))

    rows = [
        row for row in tables.ROWS if np.float32 in row.dtypes and all(0 not in given.shape for given in row.inputs)
    ]
    return list({row.operation: row for row in sorted(rows, key=size, reverse=True)}.values())


def wrong(row: Row, refused: dict[str, str]) -> str:
    """What is wrong with a row's gradients in ONNX Runtime; one that is refused is put into ``refused``."""
    try:
        graph, arrays, of = traced(row, np.float32)
        model = to_onnx(graph, opset=20)
    except (ValueError, RuntimeError) as error:
        refused[row.name] = str(error)
        return ""
    try:
        check(model)
        taken = {value.name for value in model.graph.input}
        got = run(model, {name: x for name, x in zip(graph.inputs, arrays, strict=True) if name in taken})
        want = run_torch(row, np.float32)
        for name, i in of.items():
            expected = want[f"gradient of input {i}"]
            if f"{name}.grad" in got and expected is not None:
                least = 2e-5 * np.abs(expected).max(initial=1e-3)
                np.testing.assert_allclose(got[f"{name}.grad"], expected, 1e-4, least)
    except Exception as error:  # the runtime's have no class of their own
        return f"{row.name}: {error}"
    return ""


def test_every_operation_in_onnx_runtime() -> None:
    """Gradients near PyTorch's; what has none, or no form in ONNX, is refused by a sentence."""
    refused: dict[str, str] = {}
    rows = differentiable(one_of_each())
    failures = [said for row in rows if (said := wrong(row, refused))]
    assert not failures, "\n".join(failures)
    said = (" has no gradient", " cannot be traced", " has no counterpart")
    assert not [words for words in refused.values() if not any(part in words for part in said)]
    assert len(refused) < len(rows) / 5


# -- networks --------------------------------------------------------------------------------------------------------

KIN = {"num_classes": 11, "stem_width": 6, "channels": (3, 5, 4, 7)}


def kin(name: str) -> tuple[nn.Module, lucid.Tensor, lucid.Tensor]:
    """A narrow network of the architecture, with the oracle's weights, images and classes."""
    with nn.init.skip_init():
        model = models.get_model(name, **KIN)
    model.load_state_dict(models.seeded_state(model, 0))
    rng = np.random.default_rng(0)
    images = lucid.tensor(rng.standard_normal((2, 3, 64, 64)).astype(np.float32))
    return model, images, lucid.tensor(rng.integers(0, 11, 2))


LIGHT = ["resnet_18", "resnet_50", "wide_resnet_50"]  # the oracle's own tests have a network of pre-activation blocks


@pytest.mark.parametrize(
    "name", [name if name in LIGHT else pytest.param(name, marks=pytest.mark.slow) for name in models.get_model_names()]
)
def test_narrow_kin_of_every_model(name: str, tmp_path: Any) -> None:
    model, images, classes = kin(name)
    [file] = export_gradients(model, images, classes, tmp_path / "step.onnx")
    found = verify_gradients(file, model, [images], [classes])
    assert found.agrees, str(found)
    assert {f"{name}.grad" for name, _ in model.named_parameters()} <= set(found.ratios)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet_18", "resnet_50"])
def test_whole_models(name: str, tmp_path: Any) -> None:
    model = models.get_model(name)
    model.load_state_dict(models.seeded_state(model, 0))
    images = lucid.tensor(np.random.default_rng(0).standard_normal((2, 3, 128, 128)).astype(np.float32))
    classes = lucid.tensor([3, 700])
    [file] = export_gradients(model, images, classes, tmp_path / "step.onnx")
    found = verify_gradients(file, model, [images], [classes])
    assert found.agrees, str(found)


def test_gpt(tmp_path: Any) -> None:
    lucid.manual_seed(0)
    model = script("examples/gpt.py").GPT(tokens=31, length=12, width=24, heads=3, layers=2)
    rng = np.random.default_rng(0)
    tokens, following = (lucid.tensor(rng.integers(0, 31, (3, 12))) for _ in range(2))

    def loss(logits: lucid.Tensor, target: lucid.Tensor) -> lucid.Tensor:
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))

    [file] = export_gradients(model, tokens, following, tmp_path / "step.onnx", loss=loss)
    found = verify_gradients(file, model, [tokens], [following], loss=loss)
    assert found.agrees, str(found)


def test_unet(tmp_path: Any) -> None:
    lucid.manual_seed(0)
    model = script("examples/unet.py").UNet(widths=(4, 8))
    images = lucid.random.normal(0.0, 1.0, (2, 1, 16, 16))
    target = (images > 0).astype(lucid.float32)
    loss = F.binary_cross_entropy_with_logits
    [file] = export_gradients(model, images, target, tmp_path / "step.onnx", loss=loss)
    found = verify_gradients(file, model, [images], [target], loss=loss)
    assert found.agrees, str(found)


def test_a_wrong_gradient_disagrees(tmp_path: Any) -> None:
    model, images, classes = kin("resnet_18")
    [file] = export_gradients(model, images, classes, tmp_path / "step.onnx")
    proto = onnx.load(file)
    for tensor in proto.graph.initializer:
        if tensor.name == "layer2.0.conv1.weight":
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[:, 0] *= np.float32(1.01)  # not all of it: normalisation would take that away
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, file)
    found = verify_gradients(file, model, [images], [classes])
    assert not found.agrees
    assert "DISAGREES" in str(found)


def test_models_that_were_read() -> None:
    """What imported operators need besides lucid's own: rounding to half precision and to 8 bits, resizing by rules."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    modes = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["r"], **modes),
        helper.make_node("Cast", ["r"], ["h"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["f"], to=floats),
        helper.make_node("QuantizeLinear", ["f", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["y"]),
    ]
    constants = {"scales": np.float32([1, 1, 1.7, 0.6]), "scale": np.float32(0.01), "zero": np.int8(3)}
    model = load(
        helper.make_model(
            helper.make_graph(
                nodes,
                "read",
                [helper.make_tensor_value_info("x", floats, [1, 2, 5, 7])],
                [helper.make_tensor_value_info("y", floats, None)],
                [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
            ),
            opset_imports=[helper.make_opsetid("", 19)],
        )
    )
    x = lucid.tensor(np.random.default_rng(0).standard_normal((1, 2, 5, 7)).astype(np.float32), requires_grad=True)
    model(x).sum().backward()
    graph = trace_gradients(model, x, loss=lambda y: y.sum(), of=["input"])
    assert {"resampled", "rounded", "straight_through"} <= {node.op for node in graph.nodes}
    assert x.grad is not None
    proto = to_onnx(graph, opset=19)
    check(proto)
    found = run(proto, {"input": x.detach().numpy()})["input.grad"]
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-4, atol=1e-4)


# -- the file --------------------------------------------------------------------------------------------------------


def test_steps_in_onnx_runtime() -> None:
    """Three steps of gradient descent: the parameters are inputs that need not be given."""
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    model, twin = small().to(lucid.float32), small()
    images, classes = lucid.tensor(IMAGES.astype(np.float32)), lucid.tensor(CLASSES)
    proto = to_onnx(trace_gradients(model, images, classes, optimizer=optim.SGD(model.parameters(), **settings)))
    check(proto)
    optimizer = optim.SGD(twin.parameters(), **settings)
    state: dict[str, Any] = {}
    for _ in range(3):
        got = run(proto, {"input": images.numpy(), "labels": CLASSES, **state})
        for name, value in step_of(twin, optimizer, IMAGES, CLASSES).items():
            np.testing.assert_allclose(got[name], value, 1e-4, 1e-5, err_msg=name)
        state = {name.removesuffix(".next"): value for name, value in got.items() if name.endswith(".next")}
    slower = run(proto, {"input": images.numpy(), "labels": CLASSES, "lr": np.array(0, np.float32)})
    np.testing.assert_array_equal(slower["0.weight.next"], model.state_dict()["0.weight"].numpy())


@pytest.mark.parametrize("opset", [16, NEWEST_OPSET])
def test_an_open_batch_and_standard_operators(opset: int) -> None:
    model = small().to(lucid.float32)
    images, classes = lucid.tensor(IMAGES.astype(np.float32)), lucid.tensor(CLASSES)
    proto = to_onnx(trace_gradients(model, images, classes, dynamic_batch=True), opset=opset)
    check(proto)
    assert {node.domain for node in proto.graph.node} == {""}
    assert [entry.domain for entry in proto.opset_import] == [""]
    for batch in (2, 5):
        twin = small()
        got = run(proto, {"input": images.numpy()[:batch], "labels": CLASSES[:batch]})
        for name, value in step_of(twin, None, IMAGES[:batch], CLASSES[:batch]).items():
            np.testing.assert_allclose(got[name], value, 1e-4, 1e-5, err_msg=name)


def test_max_pooling_needs_opset_16() -> None:
    graph = trace_gradients(nn.MaxPool2d(2), lucid.ones((1, 1, 4, 4)), loss=lucid.sum, of=["input"])
    with pytest.raises(ValueError, match="the gradient of a max pooling has a form in ONNX from opset 16 on"):
        to_onnx(graph, opset=15)
