"""A model that was read from ONNX as a module: what is trained, what is kept, how it is seen, and in which type."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.graph import trace
from lucid.models import ResNet
from lucid.models.blocks import BasicBlock

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from lucid.onnx import UnsupportedError, load, to_onnx  # noqa: E402
from lucid.onnx.backend import LucidBackend, prepare  # noqa: E402

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def model(nodes, inputs, outputs, initializers=(), opset=17, **graph):
    infos = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in values]
        for values in (inputs, outputs)
    ]
    made = helper.make_graph(list(nodes), "g", *infos, initializer=list(initializers), **graph)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def affine(**others):
    """``relu(x w + b) * 2``, with names as exporters make them."""
    nodes = [
        helper.make_node("MatMul", ["x", "fc.weight"], ["/fc/MatMul_output_0"]),
        helper.make_node("Add", ["/fc/MatMul_output_0", "forward"], ["training"]),
        helper.make_node("Relu", ["training"], ["a.b.c"]),
        helper.make_node("Constant", [], ["two"], value=tensor("two", np.float32(2))),
        helper.make_node("Mul", ["a.b.c", "two"], ["y"]),
    ]
    initializers = [tensor("fc.weight", normal(3, 4)), tensor("forward", normal(4, seed=1))]
    return model(nodes, [("x", FLOAT, ["n", 3])], [("y", FLOAT, ["n", 4])], initializers, **others)


def test_weights_are_parameters_under_their_names() -> None:
    """Names that a module has itself do not come in its way; numbers are no parameters."""
    module = load(affine())
    names = [name for name, _ in module.named_parameters()]
    assert names[0] == "fc.weight"
    assert len(names) == 2
    assert module.training is False
    x = normal(2, 3)
    expected = np.maximum(x.astype(np.float64) @ normal(3, 4) + normal(4, seed=1), 0) * 2
    np.testing.assert_allclose(module(x).numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(module(x=lucid.tensor(x)).numpy(), module(x).numpy())


def test_what_the_zoo_exports_comes_back_bit_for_bit(backend: str) -> None:
    network = ResNet(BasicBlock, [1, 1], num_classes=7, stem_width=4, channels=(4, 8)).eval()
    x = lucid.tensor(normal(2, 3, 32, 32))
    module = load(to_onnx(trace(network, x)))
    with lucid.no_grad():
        assert (module(x).numpy() == network(x).numpy()).all()
        assert (lucid.compile(module, x)(x).numpy() == network(x).numpy()).all()
    mine, other = network.state_dict(), module.state_dict()
    assert {name for name in mine if not name.endswith("num_batches_tracked")} == set(other)
    assert {name for name, _ in network.named_parameters()} == {name for name, _ in module.named_parameters()}


def test_training_is_the_networks_own_bit_for_bit() -> None:
    """Two steps of SGD through the file and through the network it was made of: parameters and running statistics."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=0.25), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    x = lucid.tensor(normal(4, 3, 6, 6))
    module = load(to_onnx(trace(network, x)))
    for node in module.modules():
        if getattr(node, "call", None) is not None and node.call.operator == "BatchNormalization":
            node.call.attributes["momentum"] = 0.75  # of the file it is the default: lucid does not export it
    optimizers = [lucid.optim.SGD(each.parameters(), lr=0.1) for each in (network, module)]
    for each, optimizer in zip((network, module), optimizers, strict=True):
        each.train()
        for _ in range(2):
            optimizer.zero_grad()
            (each(x) ** 2).mean().backward()
            optimizer.step()
    state = module.state_dict()
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert value.numpy().tobytes() == state[name].numpy().tobytes(), name


def test_nodes_are_submodules_under_the_names_of_their_values() -> None:
    module = load(affine())
    seen = []
    for name in ("/fc/MatMul_output_0", "a.b.c", "y"):
        module.get_submodule(name).register_forward_hook(lambda m, x, y, name=name: seen.append((name, y.shape)))
    module(normal(5, 3))
    assert seen == [("/fc/MatMul_output_0", (5, 4)), ("a.b.c", (5, 4)), ("y", (5, 4))]
    graph = trace(module, lucid.tensor(normal(5, 3)))
    assert graph.nodes[0].output == "/fc/MatMul_output_0"
    assert graph.outputs == ["y"]


def test_it_is_copied_and_pickled() -> None:
    module, x = load(affine()), normal(2, 3)
    expected = module(x).numpy()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert (other(x).numpy() == expected).all()
        with lucid.no_grad():
            next(other.parameters()).fill_(0)
        assert (module(x).numpy() == expected).all()


def test_a_run_leaves_nothing_of_itself_behind() -> None:
    """A graph within the model sees what is around it while it runs: afterwards the module is as it was."""
    branch = [
        helper.make_graph([helper.make_node(kind, ["h"], ["z"])], kind, [], [onnx.ValueInfoProto(name="z")])
        for kind in ("Relu", "Neg")
    ]
    nodes = [
        helper.make_node("Exp", ["x"], ["h"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]
    proto = model(nodes, [("x", FLOAT, [2]), ("c", TensorProto.BOOL, [])], [("y", FLOAT, [2])])
    module, x = load(proto), normal(2)
    seen = []
    module.get_submodule("h").register_forward_hook(lambda m, given, y: seen.append(weakref.ref(y)))
    with lucid.no_grad():
        expected = module(x, np.bool_(False)).numpy()
    gc.collect()
    assert seen[0]() is None
    module.get_submodule("h")._forward_hooks.clear()
    again = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    assert (again(x, np.bool_(False)).numpy() == expected).all()


@pytest.mark.parametrize(
    "name", ["_parameters", "_buffers", "_modules", "_body", "output_names", "training", "forward"]
)
def test_no_name_comes_in_the_way_of_the_module(name: str) -> None:
    node = helper.make_node("Add", ["x", name], ["y"])
    proto = model([node], [("x", FLOAT, [2])], [("y", FLOAT, [2])], [tensor(name, np.float32([1, 2]))])
    module = load(proto)
    assert module(np.float32([0, 0])).tolist() == [1, 2]
    assert [parameter.tolist() for parameter in module.parameters()] == [[1, 2]]


def test_in_float64_nothing_is_rounded_to_less() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=HALF),
        helper.make_node("Mul", ["half", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=FLOAT),
    ]
    proto = model(nodes, [("x", FLOAT, [3])], [("y", FLOAT, [3])], [tensor("w", np.float16([1.5, 0.1, 3]))])
    module, x = load(proto), np.float32([1.0004, 0.3, 2e4])
    half = x.astype(np.float16) * np.float16([1.5, 0.1, 3])
    assert module(x).numpy().tolist() == half.astype(np.float32).tolist()
    wide = module.double()(x).numpy()
    assert wide.dtype == np.float64
    assert wide.tolist() == (x.astype(np.float64) * np.float16([1.5, 0.1, 3]).astype(np.float64)).tolist()
    assert module.float()(x).numpy().tolist() == half.astype(np.float32).tolist()


def test_in_float64_a_constant_is_compared_as_float64() -> None:
    node = helper.make_node("Equal", ["x", "c"], ["y"])
    constant = tensor("c", np.float32(-np.inf))
    module = load(model([node], [("x", FLOAT, [3])], [("y", TensorProto.BOOL, [3])], [constant]))
    x = np.array([0, -np.inf, np.inf], np.float32)
    assert module(x).numpy().tolist() == module.double()(x).numpy().tolist() == [False, True, False]


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16"])
def test_half_precision_is_rounded_once_an_operator(kind: str, backend: str) -> None:
    """Every finite half value times a number: the nearest, ties to even, as ml_dtypes and NumPy have it."""
    from lucid.onnx._types import dtype_of

    element = getattr(TensorProto, kind)
    dtype = dtype_of(element)
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    x = every[np.isfinite(every.astype(np.float32))]
    proto = model(
        [helper.make_node("Mul", ["x", "x2"], ["y"])], [(n, element, None) for n in ("x", "x2")], [("y", element, None)]
    )
    for other in (np.full_like(x, 1.5625), x[::-1].copy()):
        with np.errstate(over="ignore"):
            expected = (x.astype(np.float32) * other.astype(np.float32)).astype(dtype)
        [y] = prepare(proto).run([x, other])
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.view(np.uint16), expected.view(np.uint16))


def test_a_gradient_passes_the_rounding() -> None:
    proto = model(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        [("x", HALF, [2])],
        [("y", HALF, [2])],
        [tensor("w", np.float16([2, 3]))],
    )
    module = load(proto)
    module(np.float16([5, 7])).astype(np.float32).sum().backward()
    assert next(module.parameters()).grad.tolist() == [5, 7]


UNRUNNABLE = [
    ("missing", lambda m: m(), TypeError, "inputs: 'x' must be given"),
    ("too many", lambda m: m(normal(2, 3), 1), TypeError, "inputs: got 2; the model takes 1"),
    ("unknown", lambda m: m(normal(2, 3), z=1), TypeError, "inputs: 'z' is none of x"),
    ("twice", lambda m: m(normal(2, 3), x=1), TypeError, "inputs: 'x' is given twice"),
    ("type", lambda m: m(np.int64([[1, 2, 3]])), TypeError, "inputs: 'x' is of type int64; the model takes float32"),
    ("text", lambda m: m(np.array(["a"])), TypeError, "inputs: 'x' is of type string; the model takes float32"),
]


@pytest.mark.parametrize(("call", "kind", "words"), [row[1:] for row in UNRUNNABLE], ids=[row[0] for row in UNRUNNABLE])
def test_wrong_inputs_are_one_sentence(call, kind, words) -> None:
    with pytest.raises(kind, match=words):
        call(load(affine()))


def test_all_that_is_not_supported_is_said_at_once() -> None:
    nodes = [
        helper.make_node("Strange", ["x"], ["a"], domain="my.own"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Odd", ["b"], ["y"], name="the odd one", domain="my.own"),
    ]
    proto = model(nodes, [("x", FLOAT, [1])], [("y", FLOAT, [1])])
    proto.opset_import.append(helper.make_opsetid("my.own", 1))
    with pytest.raises(UnsupportedError, match=r"my\.own\.Odd \('the odd one'\); my\.own\.Strange \('a'\)"):
        load(proto)
    assert not LucidBackend.is_compatible(proto)
    with pytest.raises(UnsupportedError, match="of opset 6; it must be at least 7"):
        load(affine(opset=6))


def test_an_initializer_may_be_an_input_that_is_given_or_not() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["y"])]
    proto = model(nodes, [("x", FLOAT, [2]), ("b", FLOAT, [2])], [("y", FLOAT, [2])], [tensor("b", np.float32([1, 2]))])
    module = load(proto)
    assert module(np.float32([0, 0])).tolist() == [1, 2]
    assert module(np.float32([0, 0]), np.float32([5, 5])).tolist() == [5, 5]


def test_nodes_in_any_order_and_circles() -> None:
    proto = affine()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    assert (load(proto)(normal(2, 3)).numpy() == load(affine())(normal(2, 3)).numpy()).all()
    circle = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(ValueError, match=r"in a circle: ('a', 'b', 'a'|'b', 'a', 'b')"):
        load(model(circle, [("x", FLOAT, [1])], [("b", FLOAT, [1])]))
    with pytest.raises(ValueError, match="nothing makes the value 'z', which 'y' takes"):
        load(model([helper.make_node("Relu", ["z"], ["y"])], [("x", FLOAT, [1])], [("y", FLOAT, [1])]))
    with pytest.raises(ValueError, match="two nodes make the value 'y'"):
        load(model([helper.make_node("Relu", ["x"], ["y"])] * 2, [("x", FLOAT, [1])], [("y", FLOAT, [1])]))
