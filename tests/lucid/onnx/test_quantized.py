"""Quantised operators that are read from ONNX: exact in integers, beside ONNX Runtime, and with a gradient."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from support.backends import BACKENDS, on

import lucid
from lucid.backends import device_of
from lucid.graph import compile, trace

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from lucid.onnx import load, to_onnx  # noqa: E402

MS = "com.microsoft"


def model(node, operands, opset=21, outputs=1):
    """One node on constants but for its first operand; without types of its results, which follow."""
    names = [f"i{i}" if operand is not None else "" for i, operand in enumerate(operands)]
    node.input[:] = names
    node.output[:] = [f"y{i}" for i in range(outputs)]
    first = operands[0]
    x = helper.make_tensor_value_info("i0", helper.np_dtype_to_tensor_dtype(first.dtype), first.shape)
    held = [numpy_helper.from_array(np.asarray(o), n) for n, o in zip(names, operands, strict=True) if n and n != "i0"]
    ys = [helper.make_empty_tensor_value_info(name) for name in node.output]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    return helper.make_model(helper.make_graph([node], "g", [x], ys, held), opset_imports=opsets, ir_version=10)


def ours(proto, x):
    made = load(proto)(x)
    return [each.numpy() if hasattr(each, "numpy") else each for each in (made if isinstance(made, tuple) else (made,))]


def theirs(proto, x):
    """ONNX Runtime wants the types of results."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    for output in proto.graph.output:
        wide = proto.graph.node[0].op_type in ("MatMulInteger", "ConvInteger")
        floats = proto.graph.node[0].op_type in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")
        kind = (
            TensorProto.INT32
            if wide
            else TensorProto.FLOAT
            if floats
            else proto.graph.input[0].type.tensor_type.elem_type
        )
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, None))
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"i0": x})


def codes(*shape, dtype=np.uint8, seed=0):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def f(value):
    return np.float32(value)


U, S = np.uint8, np.int8
X = codes(2, 4, 6, 6)
ROW = codes(3, 8)
SX, ZX, SY, ZY = f(0.02), U(120), f(0.5), U(131)
COLUMNS = np.linspace(0.01, 0.03, 5, dtype=np.float32)

CASES = {
    "MatMulInteger": ({}, [ROW, codes(8, 5, dtype=S), ZX, S(-3)]),
    "MatMulInteger of columns": ({}, [ROW, codes(8, 5), ZX, codes(5)]),
    "ConvInteger": ({"pads": [1, 1, 1, 1]}, [X, codes(3, 4, 3, 3), ZX, U(7)]),
    "ConvInteger of groups": ({"group": 2, "strides": [2, 2]}, [X, codes(6, 2, 3, 3), ZX]),
    "QLinearMatMul": ({}, [ROW, SX, ZX, codes(8, 5), f(0.013), U(99), SY, ZY]),
    "QLinearMatMul of columns": ({}, [ROW, SX, ZX, codes(8, 5, dtype=S), COLUMNS, np.zeros(5, S), SY, ZY]),
    "QLinearConv": (
        {"pads": [1, 0, 1, 2], "dilations": [2, 1]},
        [X, SX, ZX, codes(5, 4, 3, 3, dtype=S), COLUMNS, np.zeros(5, S), SY, ZY, codes(5, dtype=np.int32) >> 20],
    ),
    "QLinearConv of 8-bit signs": ({}, [X.view(S), SX, S(4), codes(5, 4, 1, 1, dtype=S), f(0.01), S(0), SY, S(-9)]),
    "QLinearAdd": ({}, [X, SX, ZX, X[:, :1], f(0.03), U(7), f(0.0413), ZY]),
    "QLinearMul": ({}, [X, SX, ZX, X[:1], f(0.03), U(7), f(0.05), ZY]),
    "QLinearSigmoid": ({}, [X, SX, ZX, f(1 / 256), U(0)]),
    "QLinearLeakyRelu": ({"alpha": 0.1}, [X, SX, ZX, f(0.017), U(20)]),
    "QLinearGlobalAveragePool": ({"channels_last": 0}, [X, SX, ZX, f(0.01), ZY]),
    "QLinearAveragePool": (
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        [X, SX, ZX, f(0.011), ZY],
    ),
    "QGemm": (
        {"transB": 1, "alpha": 1.0},
        [ROW, SX, ZX, codes(5, 8, dtype=S), COLUMNS, np.zeros(5, S), codes(5, dtype=np.int32) >> 20, SY, ZY],
    ),
    "MatMulIntegerToFloat": ({}, [ROW, codes(8, 5), SX, COLUMNS, ZX, codes(5), np.ones(5, np.float32)]),
}


def node_of(name, attributes):
    operator = name.split()[0]
    domain = "" if operator in ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv") else MS
    return helper.make_node(operator, [], [], domain=domain, **attributes)


@pytest.mark.parametrize("name", CASES)
def test_beside_onnx_runtime(name) -> None:
    """Sums of products are equal; a few results are a step apart, where factors are grouped in another way.

    A plan has the module's bits.
    """
    attributes, operands = CASES[name]
    proto = model(node_of(name, attributes), operands)
    [mine], [other] = ours(proto, operands[0]), theirs(proto, operands[0])
    assert mine.dtype == other.dtype
    plan = compile(load(proto), lucid.tensor(operands[0]))
    assert (plan(lucid.tensor(operands[0])).numpy() == mine).all()
    if mine.dtype == np.int32:
        assert (mine == other).all()
    elif mine.dtype == np.float32:
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-6)
    else:
        off = np.abs(mine.astype(int) - other.astype(int))
        assert off.max() <= 1
        assert (off > 0).mean() < 0.05


def test_concatenation_beside_onnx_runtime() -> None:
    """The scale of the result comes first, so the first part is no input here."""
    operands = [X, SX, ZX, X[:, 1:], f(0.01), U(5)]
    names = ["sy", "zy", "i0", "s0", "z0", "i1", "s1", "z1"]
    held = dict(zip(names, [f(0.03), U(100), *operands], strict=True))
    node = helper.make_node("QLinearConcat", names, ["y0"], domain=MS, axis=1)
    x, y = (helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in ("i0", "y0"))
    tensors = [numpy_helper.from_array(np.asarray(value), n) for n, value in held.items() if n != "i0"]
    proto = helper.make_model(
        helper.make_graph([node], "g", [x], [y], tensors),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)],
        ir_version=10,
    )
    [mine], [other] = ours(proto, X), theirs(proto, X)
    assert np.abs(mine.astype(int) - other.astype(int)).max() <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_the_same_bits(backend) -> None:
    """One digest of integers' products, which is also that of a loop over integers."""
    x, w, zero = codes(2, 300, seed=1), codes(300, 7, dtype=S, seed=2), U(255)
    proto = model(helper.make_node("MatMulInteger", [], []), [x, w, zero])
    with on(backend):
        made = load(proto).to(device_of(backend))(lucid.tensor(x, device=device_of(backend))).cpu().numpy()
    loop = np.zeros((2, 7), np.int64)
    for k in range(300):
        loop += np.outer(x[:, k].astype(np.int64) - 255, w[k].astype(np.int64))
    assert (made == loop).all()
    assert hashlib.sha256(made.tobytes()).hexdigest()[:16] == hashlib.sha256(loop.astype(np.int32)).hexdigest()[:16]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_law(backend) -> None:
    """ARITHMETIC.md, 12.2, in a loop of scalars."""
    a, b, zeros = codes(3, 9, seed=4), codes(9, 5, dtype=S, seed=5), np.array([1, -2, 0, 7, 100], S)
    proto = model(node_of("QLinearMatMul", {}), [a, SX, ZX, b, COLUMNS, zeros, SY, ZY])
    with on(backend):
        device = device_of(backend)
        made = load(proto).to(device)(lucid.tensor(a, device=device)).cpu().numpy()
        x = np.random.default_rng(6).standard_normal((4, 5)).astype(np.float32) * 9
        steps = load(model(helper.make_node("QuantizeLinear", [], [], axis=1), [x, COLUMNS, np.arange(5, dtype=S)]))
        quantised = steps.to(device)(lucid.tensor(x, device=device)).cpu().numpy()
    for i, j in np.ndindex(made.shape):
        total = sum((int(a[i, k]) - int(ZX)) * (int(b[k, j]) - int(zeros[j])) for k in range(9))
        factor = np.float32(np.float32(SX * COLUMNS[j]) / SY)
        whole = int(np.rint(np.float32(np.float32(total) * factor))) + int(ZY)
        assert made[i, j] == min(max(whole, 0), 255)
    for i, j in np.ndindex(x.shape):
        assert quantised[i, j] == min(max(int(np.rint(np.float32(x[i, j] / COLUMNS[j]))) + j, -128), 127)


def test_a_factor_is_rounded_in_its_order() -> None:
    """Scales by which a total of 1 is half way, and rounded to 0; grouped otherwise it would be above, and 1."""
    generator, found = np.random.default_rng(7), 0
    for sa, sb in generator.uniform(0.1, 1, (200, 2)).astype(np.float32):
        sy = np.float32(2) * np.float32(sa * sb)
        if np.float32(sa * np.float32(sb / sy)) > 0.5 and found < 3:
            one, zero = np.ones((1, 1), U), U(0)
            found += 1
            [made] = ours(model(node_of("QLinearMatMul", {}), [one, sa, zero, one, sb, zero, sy, zero]), one)
            assert made == 0
    assert found == 3


def pair(x, scale, zero, axis=1, opset=21, other=None):
    """Quantised and dequantised at once; ``other`` is another scale for the way back."""
    names = ["s", "z"] if zero is not None else ["s"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *names], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "t" if other is not None else "s", *names[1:]], ["y"], axis=axis),
    ]
    held = [("s", scale), ("z", zero), ("t", other)]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in held if value is not None]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize("columns", [False, True])
def test_the_gradient_of_a_pair_is_that_of_fake_quantisation(columns) -> None:
    """PyTorch's: 1 within the range of the integers, 0 outside; the scale has none."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32) * 2
    scale = np.array([0.01, 0.02, 0.01, 0.03], np.float32) if columns else np.float32(0.015)
    zero = np.array([3, -100, 0, 127], S) if columns else S(-20)
    module = load(pair(x, scale, zero))
    assert not list(module.parameters())
    given = lucid.tensor(x, requires_grad=True)
    y = module(given)
    y.backward(lucid.ones_like(y))
    theirs = torch.tensor(x, requires_grad=True)
    if columns:
        made = torch.fake_quantize_per_channel_affine(
            theirs, torch.tensor(scale), torch.tensor(zero.astype(np.int32)), 1, -128, 127
        )
    else:
        made = torch.fake_quantize_per_tensor_affine(theirs, float(scale), int(zero), -128, 127)
    made.sum().backward()
    assert 0.05 < given.grad.numpy().mean() < 0.95
    assert (given.grad.numpy() == theirs.grad.numpy()).all()
    np.testing.assert_allclose(y.detach().numpy(), made.detach().numpy(), atol=1e-6)


def test_another_scale_on_the_way_back_has_no_gradient() -> None:
    given = lucid.tensor(np.ones((2, 4), np.float32), requires_grad=True)
    assert not load(pair(given.numpy(), f(0.1), None, other=f(0.2)))(given).requires_grad


@pytest.mark.parametrize("mode", ["QDQ", "QOperator", "dynamic"])
def test_what_onnx_runtime_quantises_agrees_with_it(mode, tmp_path) -> None:
    """A small network, calibrated on random images, by ONNX Runtime's own quantisers; classes by 1 step."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    generator = np.random.default_rng(3)
    images = [generator.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(4)]
    net = lucid.nn.Sequential(
        lucid.nn.Conv2d(3, 8, 3, padding=1),
        lucid.nn.ReLU(),
        lucid.nn.Conv2d(8, 8, 3, stride=2),
        lucid.nn.AvgPool2d(3),
        lucid.nn.Flatten(),
        lucid.nn.Linear(8, 5),
    )
    for number, parameter in enumerate(net.parameters()):
        chosen = np.random.default_rng(number).standard_normal(parameter.shape).astype(np.float32) * np.float32(0.3)
        parameter.data = lucid.tensor(chosen)
    path, quantised = tmp_path / "f.onnx", tmp_path / "q.onnx"
    proto = to_onnx(trace(net, lucid.tensor(images[0])))
    onnx.save(proto, path)
    name = proto.graph.input[0].name

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = iter(images)

        def get_next(self):
            image = next(self.left, None)
            return None if image is None else {name: image}

    if mode == "dynamic":
        quantization.quantize_dynamic(path, quantised)
    else:
        form = quantization.QuantFormat[mode]
        quantization.quantize_static(path, quantised, Reader(), quant_format=form, per_channel=True)
    module = load(quantised)
    session = runtime.InferenceSession(quantised, providers=["CPUExecutionProvider"])
    step = max(
        float(v)
        for k, v in ((t.name, numpy_helper.to_array(t)) for t in onnx.load(quantised).graph.initializer)
        if k.endswith("_scale") and not v.ndim
    )
    for image in images:
        other = session.run(None, {name: image})[0]
        np.testing.assert_allclose(module(image).numpy(), other, atol=1.01 * step)
