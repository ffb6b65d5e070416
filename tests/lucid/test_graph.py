"""The tracer: names, structure, the open batch, and what it refuses."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import lucid
from lucid import nn
from lucid.graph import BATCH, trace
from lucid.models import ResNet
from lucid.models.blocks import BasicBlock, Bottleneck, PreActBottleneck


class Lambda(nn.Module):
    """A module whose forward is a function of the module and its inputs."""

    def __init__(self, function, **submodules):
        super().__init__()
        self.function = function
        for name, module in submodules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def resnet(block=BasicBlock, **kwargs) -> ResNet:
    return ResNet(block, [1, 1], num_classes=3, stem_width=4, channels=(4, 8), **kwargs)


IMAGE = lucid.ones((1, 3, 32, 32))


# -- names -----------------------------------------------------------------------------------------------------------


def test_names_of_a_basic_resnet():
    graph = trace(resnet(), IMAGE)
    assert graph.inputs == ["input"]
    assert graph.outputs == ["fc"]
    assert [node.output for node in graph.nodes] == [
        "stem.0",
        "stem.1",
        "stem.2",
        "maxpool",
        "layer1.0.conv1",
        "layer1.0.bn1",
        "layer1.0.relu1",
        "layer1.0.conv2",
        "layer1.0.bn2",
        "layer1.0.add",
        "layer1.0",
        "layer2.0.conv1",
        "layer2.0.bn1",
        "layer2.0.relu1",
        "layer2.0.conv2",
        "layer2.0.bn2",
        "layer2.0.downsample.0",
        "layer2.0.downsample.1",
        "layer2.0.add",
        "layer2.0",
        "avgpool",
        "flatten",
        "fc",
    ]


@pytest.mark.parametrize(
    ("block", "names"),
    [
        (Bottleneck, "conv1 bn1 relu1 conv2 bn2 relu2 conv3 bn3 downsample.0 downsample.1 add"),
        (PreActBottleneck, "bn1 relu1 conv1 bn2 relu2 conv2 bn3 relu3 conv3 downsample.0 downsample.1"),
    ],
)
def test_names_in_a_block(block, names):
    graph = trace(resnet(block), IMAGE)
    made = [node.output for node in graph.nodes if node.output.startswith("layer1.0")]
    assert made == [*(f"layer1.0.{name}" for name in names.split()), "layer1.0"]


def test_initializers_are_the_models_own_arrays_under_their_state_names():
    model = resnet()
    graph = trace(model, IMAGE)
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert set(graph.initializers) == set(state)
    for name, array in graph.initializers.items():
        assert np.shares_memory(array, state[name].numpy())


def test_a_module_called_twice_gets_a_numbered_name():
    layer = nn.ReLU()
    graph = trace(Lambda(lambda self, x: self.act(self.act(x) + 1), act=layer), lucid.ones(2))
    assert [node.name for node in graph.nodes] == ["act", "add", "act_1"]
    assert graph.outputs == ["act_1"]


def test_repeated_operations_and_constants():
    graph = trace(Lambda(lambda self, x: x * 2.0 + x * 3.0), lucid.ones(2))
    assert [node.name for node in graph.nodes] == ["mul", "mul_1", "output"]
    assert {name: float(array) for name, array in graph.initializers.items()} == {"constant": 2.0, "constant_1": 3.0}


def test_a_module_named_like_an_operation_keeps_its_path():
    graph = trace(Lambda(lambda self, x: -self.mul(x * x), mul=nn.Sigmoid()), lucid.ones(2))
    assert [(node.op, node.name) for node in graph.nodes] == [("mul", "mul_1"), ("sigmoid", "mul"), ("neg", "output")]


def test_several_inputs_and_outputs():
    graph = trace(Lambda(lambda self, a, b: (a + b, a * b)), lucid.ones(2), lucid.ones(2))
    assert graph.inputs == ["input_0", "input_1"]
    assert graph.outputs == ["add", "mul"]


def test_shared_parameters_have_one_name():
    layer = nn.Linear(2, 2)
    graph = trace(nn.Sequential(layer, layer), lucid.ones((1, 2)))
    assert list(graph.initializers) == ["0.weight", "0.bias"]


def test_a_detached_value_is_still_traced():
    graph = trace(Lambda(lambda self, x: (x * 2).detach() + 1), lucid.ones(2))
    assert [node.op for node in graph.nodes] == ["mul", "identity", "add"]


def test_input_returned_as_it_is():
    graph = trace(nn.Identity(), lucid.ones(2))
    assert (graph.nodes, graph.outputs) == ([], ["input"])


# -- values ----------------------------------------------------------------------------------------------------------


def test_shapes_are_those_of_a_real_run():
    model = resnet(Bottleneck).eval()
    shapes = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: shapes.__setitem__(name, output.shape))
    model(IMAGE)
    graph = trace(model, IMAGE)
    compared = [name for name in shapes if name in graph.values]
    assert len(compared) > 20
    assert all(graph.values[name].shape == shapes[name] for name in compared)
    assert {value.dtype for value in graph.values.values()} == {np.dtype(np.float32)}


def test_float64():
    graph = trace(resnet().to(lucid.float64), IMAGE.astype(lucid.float64))
    assert graph.values["fc"].dtype == np.float64


def test_attributes():
    node = next(node for node in trace(resnet(), IMAGE).nodes if node.name == "stem.0")
    assert node.op == "conv2d"
    assert node.attrs == {"stride": (2, 2), "padding": (3, 3), "dilation": (1, 1), "groups": 1}
    assert node.inputs == ("input", "stem.0.weight", None)


def test_every_input_stands_before_its_use():
    graph = trace(resnet(PreActBottleneck), IMAGE)
    known = {*graph.inputs, *graph.initializers}
    for node in graph.nodes:
        assert {name for name in node.inputs if name is not None} <= known
        known.add(node.output)
    assert set(graph.values) == known


def test_the_graph_prints():
    text = str(trace(resnet(), IMAGE))
    assert text.startswith(
        "input: float32[1, 3, 32, 32]\nstem.0: float32[1, 4, 16, 16] = conv2d(input, stem.0.weight, -"
    )
    assert text.endswith("return fc")


# -- what tracing leaves alone ---------------------------------------------------------------------------------------


def test_the_model_is_left_as_it_was():
    model = resnet()
    model.layer1.eval()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    trace(model, IMAGE)
    assert [module.training for module in model.modules()] == modes
    assert all(np.array_equal(before[name], value.numpy()) for name, value in model.state_dict().items())
    assert model(lucid.ones((2, 3, 32, 32))).requires_grad


def test_a_failed_trace_leaves_everything_as_it_was():
    model = Lambda(lambda self, x: self.layer(x), layer=nn.Linear(3, 2))
    with pytest.raises(ValueError, match="linear"):
        trace(model, lucid.ones((1, 4)))
    assert model.training
    assert lucid.grad_enabled()
    assert float(lucid.ones(3).sum()) == 3.0


def test_other_threads_compute_while_one_traces():
    inside, seen = threading.Event(), []

    def forward(self, x):
        inside.set()
        worker.join()
        return x + 1

    def compute():
        inside.wait()
        seen.append(float((lucid.ones(4) * 3).sum()))

    worker = threading.Thread(target=compute)
    worker.start()
    graph = trace(Lambda(forward), lucid.ones(2))
    assert seen == [12.0]
    assert [node.op for node in graph.nodes] == ["add"]


def test_nothing_is_computed():
    huge = lucid.ones((1, 3, 1, 1)).broadcast_to((4096, 3, 1024, 1024))  # 51 GB, were it real
    assert trace(resnet(), huge).values["stem.0"].shape == (4096, 4, 512, 512)


# -- the open batch --------------------------------------------------------------------------------------------------


def test_a_composed_operation_is_one_node_that_knows_its_parts():
    model = Lambda(lambda m, x: m.norm(lucid.nn.functional.layer_norm(x, 3) * 2), norm=nn.LayerNorm(3))
    graph = trace(model, lucid.ones((4, 3)), dynamic_batch=True)
    assert [(node.op, node.output) for node in graph.nodes] == [
        ("layer_norm", "layer_norm"),
        ("mul", "mul"),
        ("layer_norm", "norm"),
    ]
    assert graph.nodes[2].inputs == ("mul", "norm.weight", "norm.bias")
    assert graph.nodes[2].attrs == {"normalized_shape": (3,), "eps": 1e-5}
    for node in (graph.nodes[0], graph.nodes[2]):
        known = {*node.inputs, *graph.initializers}
        for part in node.body:
            assert set(part.inputs) <= known
            assert graph.values[part.output].shape[0] == BATCH
            known.add(part.output)
        assert node.body[-1].output == node.output


def test_dynamic_batch():
    graph = trace(resnet(), IMAGE, dynamic_batch=True)
    assert graph.values["input"].shape == (BATCH, 3, 32, 32)
    assert graph.values["flatten"].shape == (BATCH, 8)
    assert graph.values["fc.weight"].shape == (3, 8)
    flatten = next(node for node in graph.nodes if node.name == "flatten")
    assert flatten.attrs == {"shape": (BATCH, 8)}


def test_a_size_that_only_follows_the_batch_is_open():
    graph = trace(Lambda(lambda self, x: x.reshape(-1)), lucid.ones((4, 2)), dynamic_batch=True)
    assert graph.values["output"].shape == (None,)


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: x * (1 / x.shape[0]),
        lambda self, x: x if x.shape[0] == 2 else x + 1,
        lambda self, x: lucid.pad(x, ((0, x.shape[0]), (0, 0))),
        lambda self, x: x + lucid.ones((x.shape[0], 2)),
        lambda self, x: x[: x.shape[0] - 1],
    ],
)
def test_what_depends_on_the_batch_is_refused(forward):
    with pytest.raises(ValueError, match="dynamic_batch"):
        trace(Lambda(forward), lucid.ones((4, 2)), dynamic_batch=True)
    assert trace(Lambda(forward), lucid.ones((4, 2))).outputs


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: x if float(x.sum()) > 0 else -x,
        lambda self, x: x if (x > 0).all() else -x,
        lambda self, x: x * x.max().item(),
        lambda self, x: x * lucid.tensor(x.tolist()),
    ],
)
def test_reading_values_is_refused(forward):
    with pytest.raises(RuntimeError, match="reads the values of its tensors"):
        trace(Lambda(forward), lucid.ones(2))


def test_computing_behind_lucids_back_is_refused():
    with pytest.raises(RuntimeError, match="behind lucid's back"):
        trace(Lambda(lambda self, x: x + _wrapped(x)), lucid.ones(2))


def _wrapped(x):
    from lucid.tensor import wrap

    return wrap(np.sin(x.data))


@pytest.mark.parametrize("index", [lambda x: x.argmax(), lambda x: x > 0, lambda x: x.argmax(0, keepdims=True)])
def test_indexing_by_a_traced_tensor_is_refused(index):
    with pytest.raises(RuntimeError, match="cannot be traced"):
        trace(Lambda(lambda self, x: x[index(x)]), lucid.ones(2))


@pytest.mark.parametrize("returned", [None, 3, {"logits": 1}, ()])
def test_other_outputs_are_refused(returned):
    with pytest.raises(TypeError, match=r"model: returned \w+; a traced model may return a tensor"):
        trace(Lambda(lambda self, x: returned), lucid.ones(2))


def test_choices_by_value_inside_the_graph_are_traced():
    graph = trace(Lambda(lambda self, x: lucid.where(x > 0, x, x * 2)), lucid.ones(2))
    assert [node.op for node in graph.nodes] == ["greater", "mul", "where"]


def test_updates_in_place_are_traced() -> None:
    """``out += x`` of a forward is the addition that it is, also under the other names of the tensor."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: lucid.Tensor) -> lucid.Tensor:
            out = self.conv(x)
            same = out
            out += x
            out += out
            return lucid.relu(same)

    model, x = Residual(), lucid.random.randn(1, 2, 4, 4)
    graph = trace(model, x)
    assert [node.op for node in graph.nodes] == ["conv2d", "add", "add", "relu"]
    with lucid.no_grad():
        expected = model(x.clone()).numpy()
    assert (lucid.compile(model, x)(x).numpy() == expected).all()


def test_updates_that_cannot_be_traced() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = nn.Buffer([0.0])

        def forward(self, x: lucid.Tensor) -> lucid.Tensor:
            self.count += 1.0
            return x * self.count

    model = Counts()
    with pytest.raises(RuntimeError, match="in place, which cannot be traced"):
        trace(model, lucid.ones(1))
    assert model.count.tolist() == [0.0]
