"""Operators of ONNX that move, choose and go round: gradients beside PyTorch's, and how older opsets have them."""

from __future__ import annotations

import numpy as np
import pytest

import lucid

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from lucid.graph import trace  # noqa: E402
from lucid.onnx import load  # noqa: E402

DOUBLE, INT64 = TensorProto.DOUBLE, TensorProto.INT64


def model(nodes, x, held=(), opset=24, outputs=("y",)):
    info = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(held).items()]
    ys = [helper.make_empty_tensor_value_info(name) for name in outputs]
    return helper.make_model(
        helper.make_graph(nodes, "g", [info], ys, tensors), opset_imports=[helper.make_opsetid("", opset)]
    )


def node(operator, *inputs, outputs=("y",), **attributes):
    return helper.make_node(operator, ["x", *inputs], list(outputs), **attributes)


X = np.random.default_rng(0).standard_normal((2, 4, 4, 6))
T = np.array([[1, 3, 0, 2], [2, 2, 1, 0]])


def scattered(reduce):
    """PyTorch's scatter_reduce along the last axis, with indices that come again."""
    return lambda x: torch.scatter_reduce(x, 1, torch.tensor(T), torch.full((2, 4), 0.5, dtype=x.dtype), reduce)


ROWS = np.ascontiguousarray(X[:, :, 0, 0])
POINTS = np.array([[0, 1], [1, 2], [0, -1]])
GRADIENTS = {
    "Pad reflect": (
        node("Pad", "p", mode="reflect"),
        {"p": np.array([0, 0, 1, 2, 0, 0, 3, 1])},
        X,
        lambda x: torch.nn.functional.pad(x, (2, 1, 1, 3), "reflect"),
    ),
    "Pad edge, less": (
        node("Pad", "p", mode="edge"),
        {"p": np.array([0, 0, -1, 2, 0, 0, 3, 1])},
        X,
        lambda x: torch.nn.functional.pad(x[:, :, 1:], (2, 1, 0, 3), "replicate"),
    ),
    "Pad wrap": (
        node("Pad", "p", "", "a", mode="wrap"),
        {"p": np.array([2, 1]), "a": np.array([-1])},
        X,
        lambda x: torch.nn.functional.pad(x, (2, 1, 0, 0), "circular"),
    ),
    "Slice backwards": (
        node("Slice", "s", "e", "a", "t"),
        {"s": np.array([9, 0]), "e": np.array([-99, 3]), "a": np.array([-1, 1]), "t": np.array([-2, 2])},
        X,
        lambda x: x.flip(-1)[:, 0:3:2, :, ::2],
    ),
    "Gather": (node("Gather", "i", axis=1), {"i": np.array([[1, -1], [1, 0]])}, X, lambda x: x[:, [[1, -1], [1, 0]]]),
    "GatherND": (
        node("GatherND", "i", batch_dims=1),
        {"i": np.array([[[0, 1]], [[-1, 2]]])},
        X,
        lambda x: torch.stack([x[0, 0, 1][None], x[1, -1, 2][None]]),
    ),
    "ScatterND": (
        node("ScatterND", "i", "u"),
        {"i": POINTS, "u": X[0, :3]},
        X,
        lambda x: x.index_put(tuple(torch.tensor(POINTS.T)), torch.tensor(X[0, :3])),
    ),
    "ScatterElements add": (node("ScatterElements", "i", "u", axis=1, reduction="add"), {}, ROWS, scattered("sum")),
    "ScatterElements mul": (node("ScatterElements", "i", "u", axis=1, reduction="mul"), {}, ROWS, scattered("prod")),
    "ScatterElements max": (node("ScatterElements", "i", "u", axis=1, reduction="max"), {}, ROWS, scattered("amax")),
    "ScatterElements min": (node("ScatterElements", "i", "u", axis=1, reduction="min"), {}, ROWS, scattered("amin")),
    "DepthToSpace": (
        node("DepthToSpace", blocksize=2, mode="CRD"),
        {},
        X,
        lambda x: torch.nn.functional.pixel_shuffle(x, 2),
    ),
    "TopK": (
        node("TopK", "k", outputs=("y", "z"), largest=0),
        {"k": np.array([3])},
        X,
        lambda x: torch.topk(x, 3, largest=False)[0],
    ),
    "ReverseSequence": (
        node("ReverseSequence", "l", batch_axis=0, time_axis=1),
        {"l": np.array([3, 4])},
        X,
        lambda x: torch.stack([torch.cat([x[0, :3].flip(0), x[0, 3:]]), x[1].flip(0)]),
    ),
    "CenterCropPad": (
        node("CenterCropPad", "s", axes=[1, 3]),
        {"s": np.array([2, 9])},
        X,
        lambda x: torch.nn.functional.pad(x[:, 1:3], (1, 2)),
    ),
    "Where": (node("Where"), {}, X, lambda x: torch.where(torch.tensor(X > 0), x, 2.0 * torch.tensor(X))),
    "TensorScatter": (
        node("TensorScatter", "u", "w", axis=1, mode="circular"),
        {"u": np.ones((2, 2, 4, 6)), "w": np.array([3, 0])},
        X,
        lambda x: (
            torch.stack(
                [x[0] * torch.tensor([0.0, 1, 1, 0])[:, None, None], x[1] * torch.tensor([0.0, 0, 1, 1])[:, None, None]]
            )
            + torch.tensor([[1.0, 0, 0, 1], [1, 1, 0, 0]])[..., None, None]
        ),
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_values_and_gradients_are_pytorchs(name) -> None:
    made, held, x, function = GRADIENTS[name]
    if name.startswith("ScatterElements"):
        held = {"i": T, "u": np.full(T.shape, 0.5)}
    if name == "Where":
        held = {"c": X > 0, "other": 2.0 * X}
        made.input[:] = ["c", "x", "other"]
    given = lucid.tensor(x, requires_grad=True)
    y = load(model([made], x, held))(given)
    y = y[0] if isinstance(y, tuple) else y
    theirs = torch.tensor(x, requires_grad=True)
    other = function(theirs)
    weights = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(lucid.tensor(weights))
    other.backward(torch.tensor(weights))
    np.testing.assert_allclose(y.detach().numpy(), other.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(given.grad.numpy(), theirs.grad.numpy(), rtol=1e-12, atol=1e-15)


def graph(nodes, inputs, outputs):
    return helper.make_graph(
        nodes, "inner", *[[helper.make_empty_tensor_value_info(n) for n in each] for each in (inputs, outputs)]
    )


def test_a_loop_has_a_gradient_and_ends_by_itself() -> None:
    """``h = h h x`` until it is above 100, with a factor that trains."""
    body = graph(
        [
            helper.make_node("Mul", ["h", "h"], ["hh"]),
            helper.make_node("Mul", ["hh", "w"], ["next"]),
            helper.make_node("ReduceMax", ["next"], ["top"], keepdims=0),
            helper.make_node("Less", ["top", "limit"], ["on"]),
        ],
        ["i", "c", "h"],
        ["on", "next", "next"],
    )
    body.output[2].name = "seen"
    body.node.append(helper.make_node("Identity", ["next"], ["seen"]))
    made = helper.make_node("Loop", ["", "", "x"], ["last", "y"], body=body)
    x = np.array([1.5, 1.25])
    module = load(model([made], x, {"w": np.array([1.1, 1.2]), "limit": np.float64(100)}, outputs=("last", "y")))
    given = lucid.tensor(x, requires_grad=True)
    last, seen = module(given)
    theirs, w, stack = torch.tensor(x, requires_grad=True), torch.tensor([1.1, 1.2], dtype=torch.float64), []
    w.requires_grad = True
    state = theirs
    while not stack or stack[-1].max() < 100:
        state = state * state * w
        stack.append(state)
    assert seen.shape == (len(stack), 2)
    assert len(stack) > 2
    lucid.ops.sum(seen).backward()
    torch.stack(stack).sum().backward()
    np.testing.assert_allclose(last.detach().numpy(), stack[-1].detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(given.grad.numpy(), theirs.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(module.w.grad.numpy(), w.grad.numpy(), rtol=1e-12)


def test_a_loop_of_no_turns_stacks_nothing() -> None:
    body = graph(
        [
            helper.make_node("Identity", ["h"], ["n"]),
            helper.make_node("Identity", ["h"], ["s"]),
            helper.make_node("Identity", ["c"], ["d"]),
        ],
        ["i", "c", "h"],
        ["d", "n", "s"],
    )
    made = helper.make_node("Loop", ["m", "", "x"], ["last", "y"], body=body)
    last, seen = load(model([made], np.ones(2), {"m": np.array(0)}, outputs=("last", "y")))(np.ones(2))
    assert last.tolist() == [1.0, 1.0]
    assert seen.shape[0] == 0


@pytest.mark.parametrize("back", [0, 1])
def test_a_scan_goes_along_any_axis_both_ways(back) -> None:
    """A running sum over the second axis, which is put together along the last."""
    body = graph(
        [helper.make_node("Add", ["h", "e"], ["n"]), helper.make_node("Identity", ["n"], ["s"])], ["h", "e"], ["n", "s"]
    )
    attributes = {
        "scan_input_axes": [1],
        "scan_output_axes": [-1],
        "scan_input_directions": [back],
        "scan_output_directions": [back],
    }
    made = helper.make_node("Scan", ["h0", "x"], ["last", "y"], body=body, num_scan_inputs=1, **attributes)
    x = X[0, 0]
    given = lucid.tensor(x, requires_grad=True)
    _, y = load(model([made], x, {"h0": np.zeros(4)}, outputs=("last", "y")))(given)
    theirs = torch.tensor(x, requires_grad=True)
    other = theirs.flip(1).cumsum(1).flip(1) if back else theirs.cumsum(1)
    (y * y).sum().backward()
    (other * other).sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), other.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(given.grad.numpy(), theirs.grad.numpy(), rtol=1e-12)


def test_a_choice_trains_the_branch_that_it_takes() -> None:
    branches = {
        f"{word}_branch": graph([helper.make_node("Mul", ["x", word], [f"{word}_y"])], [], [f"{word}_y"])
        for word in ("then", "else")
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], **branches),
    ]
    held = {"then": np.array([2.0, 3.0]), "else": np.array([4.0, 5.0]), "zero": np.float64(0)}
    module = load(model(nodes, np.ones(2), held))
    lucid.ops.sum(module(np.array([1.0, 2.0]))).backward()
    named = dict(module.named_parameters())
    assert named["then"].grad.tolist() == [1.0, 2.0]
    assert named["else"].grad is None


PADS = [(0, 0), (1, 0), (0, 0), (0, 2)]
OLD = {
    "Squeeze": (5, node("Squeeze", axes=[0, -1]), np.ones((1, 2, 1)), lambda x: x[0, :, 0]),
    "Unsqueeze": (11, node("Unsqueeze", axes=[-1, 0]), np.ones(2), lambda x: x[None, :, None]),
    "Slice": (9, node("Slice", starts=[1, -3], ends=[9, -1], axes=[1, 3]), X, lambda x: x[:, 1:, :, -3:-1]),
    "Split": (11, node("Split", axis=3, split=[1, 5], outputs=("z", "y")), X, lambda x: x[..., 1:]),
    "Pad": (10, node("Pad", pads=[0, 1, 0, 0, 0, 0, 0, 2], value=7.0), X, lambda x: np.pad(x, PADS, constant_values=7)),
    "TopK": (9, node("TopK", k=2, outputs=("y", "z")), X, lambda x: -np.sort(-x)[..., :2]),
    "Hardmax": (11, node("Hardmax", axis=2), X, lambda x: np.eye(24)[x.reshape(8, 24).argmax(1)].reshape(x.shape)),
    "Cast": (7, node("Cast", to=INT64), X, lambda x: x.astype(np.int64)),
    "Reshape": (7, node("Reshape", "s"), X, lambda x: x.reshape(2, 96)),
    "ConstantOfShape": (9, helper.make_node("ConstantOfShape", "s", "y"), X, lambda x: np.zeros((0, 3), np.float32)),
    "Scatter": (9, node("Scatter", "i", "u", axis=1), ROWS, lambda x: np.array([[4.0, 4, 4, 4], [4, 4, 4, x[1, 3]]])),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_older_opsets(name) -> None:
    opset, made, x, function = OLD[name]
    shape = np.array([0, 3]) if name == "ConstantOfShape" else np.array([0, -1])
    held = {"s": shape, "i": T, "u": np.full(T.shape, 4.0)}
    outputs = list(made.output)
    held = {key: value for key, value in held.items() if key in made.input}
    found = load(model([made], x, held, max(opset, 7), outputs))(x)
    found = found[outputs.index("y")] if isinstance(found, tuple) else found
    np.testing.assert_array_equal(found.numpy(), function(x))


def test_an_old_scan_has_a_batch_and_lengths() -> None:
    """Opset 8: the batch is the first axis, and its sequences may be shorter."""
    body = graph(
        [helper.make_node("Add", ["h", "e"], ["n"]), helper.make_node("Identity", ["n"], ["s"])], ["h", "e"], ["n", "s"]
    )
    made = helper.make_node("Scan", ["", "h0", "x"], ["last", "y"], body=body, num_scan_inputs=1)
    x = X[0]
    last, y = load(model([made], x, {"h0": np.zeros((4, 6))}, 8, ("last", "y")))(x)
    np.testing.assert_allclose(y.numpy(), x.cumsum(1), rtol=1e-12)
    np.testing.assert_allclose(last.numpy(), x.sum(1), rtol=1e-12)


def test_casts_round_once() -> None:
    """From float64 to half precision and to float8 what is nearest, not what the nearest float32 is nearest to."""
    x = np.array([1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-4 + 2.0**-40, -(1 + 2.0**-4 + 2.0**-40)])
    for kind, wanted in (
        (TensorProto.FLOAT16, [1 + 2.0**-10, 1 + 2.0**-8, 1 + 2.0**-4, -1 - 2.0**-4]),
        (TensorProto.BFLOAT16, [1.0, 1 + 2.0**-7, 1 + 2.0**-4, -1 - 2.0**-4]),
        (TensorProto.FLOAT8E4M3FN, [1.0, 1.0, 1 + 2.0**-3, -1 - 2.0**-3]),
    ):
        made = load(model([node("Cast", to=kind)], x))(x)
        assert np.asarray(made.numpy() if hasattr(made, "numpy") else made, np.float64).tolist() == wanted


def test_shapes_are_known_while_a_model_is_traced() -> None:
    """Shape, Gather, Concat and Cast of shapes compute at once; Cast and QuantizeLinear of tensors are seen."""
    nodes = [
        node("Shape", outputs=("s",)),
        helper.make_node("Gather", ["s", "zero"], ["batch"], axis=0),
        helper.make_node("Cast", ["rest"], ["r"], to=INT64),
        helper.make_node("Concat", ["batch", "r"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "scale", "point"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "point"], ["y"]),
    ]
    held = {"zero": np.array([0]), "rest": np.array([-1], np.int32), "scale": np.float32(0.1), "point": np.uint8(9)}
    x = X.astype(np.float32)
    module = load(model(nodes, x, held))
    seen = [each.op for each in trace(module, lucid.tensor(x)).nodes]
    assert "reshape" in seen
    assert "gather" not in seen
    wanted = np.clip(np.rint(x.reshape(2, -1) / np.float32(0.1)) + 9, 0, 255)
    np.testing.assert_array_equal(module(x).numpy(), (wanted - 9).astype(np.float32) * np.float32(0.1))


@pytest.mark.parametrize("index", [[[0, 4]], [[-3, 0]], [[2, 0]]])
def test_a_place_out_of_range_is_an_error(index) -> None:
    """Of each axis, also where the place in memory would be there."""
    for operator, held in (("GatherND", {}), ("ScatterND", {"u": np.ones((1, 4, 6))})):
        module = load(model([node(operator, "i", *held)], X, {"i": np.array(index), **held}))
        with pytest.raises(ValueError, match=f"{operator} 'y': .*index"):
            module(X)


@pytest.mark.parametrize("operator", ["ScatterElements", "ScatterND"])
def test_values_meet_one_after_the_other(operator) -> None:
    """Products in row-major order of the values, each rounded: the bits of a loop."""
    generator = np.random.default_rng(5)
    x, u = generator.standard_normal(3).astype(np.float32), generator.standard_normal(40).astype(np.float32)
    places = generator.integers(-3, 3, 40)
    index = places if operator == "ScatterElements" else places[:, None]
    made = load(model([node(operator, "i", "u", reduction="mul")], x, {"i": index, "u": u}))(x)
    wanted = x.copy()
    for place, value in zip(places, u, strict=True):
        wanted[place] *= value
    assert (made.numpy() == wanted).all()
