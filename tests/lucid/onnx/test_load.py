"""Files of ONNX that are broken, or meant to harm: each is refused by one sentence."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from lucid.onnx import UnsupportedError, load  # noqa: E402

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
X, Y = helper.make_tensor_value_info("x", FLOAT, [1, 1, 4, 4]), helper.make_tensor_value_info("y", FLOAT, None)


def model(*nodes, initializers=(), inputs=(X,), outputs=(Y,), opset=17, functions=(), domains=()):
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def relu(**attributes):
    return helper.make_node("Relu", ["x"], ["y"], **attributes)


def add(name, **fields):
    """A model that adds a tensor to its input; the tensor's fields are as they are given."""
    tensor = numpy_helper.from_array(np.ones(4, np.float32), name)
    for field, value in fields.items():
        tensor.ClearField(field)
        if isinstance(value, list):
            getattr(tensor, field).extend(value)
        else:
            setattr(tensor, field, value)
    return model(helper.make_node("Add", ["x", name], ["y"]), initializers=[tensor])


def nested(depth):
    """A choice between a node and a choice between a node and a choice .."""
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = relu_graph()
    for number in range(depth):
        node = helper.make_node("If", ["c"], [f"r{number}"], then_branch=graph, else_branch=relu_graph())
        graph = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info(f"r{number}", FLOAT, None)])
    return model(
        helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=relu_graph()), inputs=(X, condition)
    )


def relu_graph():
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["s"])], "other", [], [Y])
    graph.output[0].name = "s"
    return graph


def functions(*bodies):
    """A model of functions, each of which calls those that are named."""
    made = [
        helper.make_function(
            "my",
            name,
            ["a"],
            ["b"],
            [
                helper.make_node(called, ["a" if not i else f"v{i}"], [f"v{i + 1}"], domain="my")
                for i, called in enumerate(calls)
            ]
            + [helper.make_node("Identity", [f"v{len(calls)}" if calls else "a"], ["b"])],
            [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)],
        )
        for name, calls in bodies
    ]
    return model(helper.make_node(bodies[0][0], ["x"], ["y"], domain="my"), functions=made, domains=["my"])


def sparse(shape, indices, values=(1.0, 2.0)):
    made = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "s"),
        numpy_helper.from_array(np.array(indices, np.int64), "i"),
        shape,
    )
    proto = model(helper.make_node("Add", ["x", "s"], ["y"]))
    proto.graph.sparse_initializer.append(made)
    return proto


def with_type(element):
    return model(relu(), inputs=(helper.make_tensor_value_info("x", element, [1]),))


def renamed(proto, **names):
    for field, name in names.items():
        getattr(proto.graph, field)[0].name = name
    return proto


def without(proto, field):
    proto.graph.ClearField(field) if field != "graph" else proto.ClearField("graph")
    return proto


def reference():
    node = relu()
    node.attribute.add(name="alpha", ref_attr_name="a", type=onnx.AttributeProto.FLOAT)
    node.op_type = "LeakyRelu"
    return model(node)


def branches(outputs):
    graphs = {"then_branch": relu_graph(), "else_branch": relu_graph()}
    return helper.make_node("If", ["x"], outputs, **graphs)


def hollow():
    node = branches(["y"])
    for attribute in node.attribute:
        attribute.ClearField("g")
    node.attribute.sort(key=lambda attribute: attribute.name, reverse=True)
    return model(node)


def two_outputs():
    return model(branches(["y", "z"]))


def twice(node):
    node.attribute.append(node.attribute[0])
    return node


HOSTILE = {
    "no model": (b"\xff\xfenothing", "no ONNX model"),
    "nothing": (b"", "no graph"),
    "no outputs": (without(model(relu()), "output"), "no outputs"),
    "an opset of 0": (model(relu(), opset=0), "of opset 0"),
    "an opset below 0": (model(relu(), opset=-7), "of opset -7"),
    "an opset to come": (model(relu(), opset=10**9), "it may be at most"),
    "a version to come": (model(helper.make_node("A", ["x"], ["y"], domain="d"), domains=["d"]), "d.A ('y')"),
    "an unknown operator": (model(helper.make_node("Nope", ["x"], ["y"])), "does not compute Nope ('y')"),
    "an input that is not there": (model(helper.make_node("Relu", ["z"], ["y"])), "nothing makes the value 'z'"),
    "an output that is not there": (model(helper.make_node("Relu", ["x"], ["z"])), "nothing makes its output 'y'"),
    "a circle": (
        model(helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), relu()),
        "in a circle: 'a'",
    ),
    "two of a name": (model(relu(), relu()), "two nodes make the value 'y'"),
    "two inputs of a name": (model(relu(), inputs=(X, X)), "two of its inputs have the name 'x'"),
    "a value that is there": (
        model(helper.make_node("Relu", ["x"], ["x"]), relu()),
        "makes the value 'x', which is there",
    ),
    "an input without a name": (renamed(model(relu()), input=""), "one of its inputs has no name"),
    "an output without a name": (renamed(model(relu()), output=""), "one of its outputs has no name"),
    "an initializer without a name": (add(""), "one of its initializers has no name"),
    "an unknown type": (with_type(99), "'x' is of element type 99"),
    "more elements than data": (add("t", dims=[5]), "'t' of shape (5,) and element type 1 cannot be read"),
    "a giant": (add("t", dims=[2**40, 2**40]), "cannot be read"),
    "a giant without data": (add("t", dims=[2**40], raw_data=b""), "cannot be read"),
    "a length below 0": (add("t", dims=[-1]), "a length is below 0"),
    "a tensor of no type": (add("t", data_type=0), "element type 0 cannot be read"),
    "a tensor of an unknown type": (add("t", data_type=99), "element type 99 cannot be read"),
    "odd bytes": (add("t", raw_data=b"\0" * 15), "cannot be read"),
    "a sparse giant": (sparse([2**31, 2**31], [0, 1]), "there may be 268435456 numbers"),
    "a sparse place outside": (sparse([4], [0, 4]), "do not fit it"),
    "sparse places below 0": (sparse([2, 2], [[0, 0], [-1, 0]]), "do not fit it"),
    "too few sparse places": (sparse([4], [0]), "do not fit it"),
    "deep graphs": (nested(25), "within graphs, more than 24 deep"),
    "a function that calls itself": (functions(("F", ["G"]), ("G", ["F"])), "calls itself"),
    "functions without end": (
        functions(*((f"F{i}", [f"F{i + 1}"] * 4) for i in range(40)), ("F40", [])),
        "there may be 1000000 and 64",
    ),
    "deep functions": (functions(*((f"F{i}", [f"F{i + 1}"]) for i in range(70)), ("F70", [])), "functions deep"),
    "two functions of a name": (functions(("F", []), ("F", [])), "two of its functions have one name"),
    "an unknown attribute": (model(relu(alpha=1.0)), "its attribute 'alpha' is none of"),
    "an attribute of another type": (
        model(helper.make_node("LeakyRelu", ["x"], ["y"], alpha="steep")),
        "'alpha' is STRING; it must be FLOAT",
    ),
    "an attribute of nothing": (reference(), "refers to 'a', which no function has"),
    "an attribute that is empty": (hollow(), "its attribute 'then_branch' is empty"),
    "a graph with another number of outputs": (two_outputs(), "has 0 inputs and 1 outputs; the node has 0 and 2"),
    "a name of no text": (model(relu()).SerializeToString().replace(b"Relu", b"\xffelu"), "is no UTF-8"),
    "no operand where one must be": (model(helper.make_node("Add", ["x", ""], ["y"])), "it has no operand 'B'"),
    "an attribute twice": (
        model(twice(helper.make_node("LeakyRelu", ["x"], ["y"], alpha=1.0))),
        "it has the attribute 'alpha' twice",
    ),
    "no attribute": (model(helper.make_node("Cast", ["x"], ["y"])), "it has no attribute 'to'"),
    "too many operands": (model(helper.make_node("Relu", ["x", "x"], ["y"])), "it has 2 operands; it may have 1 to 1"),
    "no operands": (model(helper.make_node("Relu", [], ["y"])), "it has 0 operands"),
    "too many results": (model(helper.make_node("Relu", ["x"], ["y", "z"])), "it has 2 results"),
    "external data in memory": (
        add("t", data_location=TensorProto.EXTERNAL),
        "lie in other files; give the file's path",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_one_sentence(name) -> None:
    """Of a model in memory and of its bytes."""
    proto, words = HOSTILE[name]
    sources = [proto] if isinstance(proto, bytes) else [proto, proto.SerializeToString()]
    for source in sources:
        with pytest.raises((ValueError, UnsupportedError)) as caught:
            load(source)
        message = str(caught.value)
        assert words in message
        assert "\n" not in message
        assert len(message) < 500


RUNS = {
    "an axis that is not there": helper.make_node("Concat", ["x", "x"], ["y"], axis=9),
    "no stride": helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 0]),
    "a window below 0": helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[-2, 2]),
    "no blocks": helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=0),
    "axes twice": helper.make_node("Transpose", ["x"], ["y"], perm=[0, 0, 1, 2]),
    "a mode that is not there": helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=3),
    "an unknown word": helper.make_node("Cast", ["x"], ["y"], to=77),
}


@pytest.mark.parametrize("name", RUNS)
def test_what_cannot_be_computed_names_the_node(name) -> None:
    """Attributes are read when the node runs."""
    node = RUNS[name]
    with pytest.raises(ValueError, match=f"^{node.op_type} 'y': ") as caught:
        load(model(node))(np.ones((1, 1, 4, 4), np.float32))
    assert "\n" not in str(caught.value)


def external(folder, **entries):
    """A file of a model whose initializer ``t`` of 4 floats lies elsewhere."""
    proto = add("t", raw_data=b"", data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        proto.graph.initializer[0].external_data.add(key=key, value=value)
    path = folder / "model" / "m.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(proto.SerializeToString())
    return path


EXTERNAL = {
    "nowhere": ({}, "must be in the model's folder"),
    "a path that leaves": ({"location": "../t.bin"}, "must be in the model's folder"),
    "a path that leaves by a folder": ({"location": "sub/../../t.bin"}, "must be in the model's folder"),
    "an absolute path": ({"location": "/etc/hostname"}, "must be in the model's folder"),
    "a link": ({"location": "link.bin"}, "which is a link"),
    "a folder that is a link": ({"location": "away/t.bin"}, "which is a link"),
    "a name with a zero": ({"location": "t\0.bin"}, "must be in the model's folder"),
    "a pipe": ({"location": "pipe"}, ""),
    "a folder": ({"location": "sub"}, ""),
    "no file": ({"location": "none.bin"}, ""),
    "words for numbers": ({"location": "t.bin", "offset": "far"}, "are not to be found"),
    "before the file": ({"location": "t.bin", "offset": "-4"}, "from -4 on"),
    "behind the file": ({"location": "t.bin", "offset": "8"}, "has 16 bytes"),
    "too few": ({"location": "t.bin", "length": "12"}, "it needs 16"),
    "more than there are": ({"location": "t.bin", "length": str(2**50)}, "it needs 16"),
}


@pytest.mark.parametrize("name", EXTERNAL)
def test_data_are_read_from_the_models_folder_alone(name, tmp_path) -> None:
    entries, words = EXTERNAL[name]
    path = external(tmp_path, **entries)
    data = np.arange(4, dtype=np.float32).tobytes()
    (tmp_path / "t.bin").write_bytes(data)
    (path.parent / "t.bin").write_bytes(data)
    (path.parent / "sub").mkdir()
    (path.parent / "link.bin").symlink_to(tmp_path / "t.bin")
    (path.parent / "away").symlink_to(tmp_path)
    os.mkfifo(path.parent / "pipe")
    with pytest.raises((ValueError, OSError)) as caught:
        load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_of_another_file_are_read(tmp_path) -> None:
    """A length may be left out, and an offset."""
    path = external(tmp_path, location="sub/t.bin", offset="4")
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "t.bin").write_bytes(np.arange(5, dtype=np.float32).tobytes())
    assert load(path).t.tolist() == [1.0, 2.0, 3.0, 4.0]


def network():
    """A small model of many kinds of parts, to be mutated."""
    branch = helper.make_graph([helper.make_node("Relu", ["h"], ["r"])], "then", [], [Y])
    branch.output[0].name = "r"
    other = helper.make_graph([helper.make_node("Neg", ["h"], ["s"])], "else", [], [Y])
    other.output[0].name = "s"
    function = helper.make_function(
        "my", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Twice", ["c"], ["d"], domain="my"),
        helper.make_node("LayerNormalization", ["d", "s0"], ["h"], axis=-1),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["e"], then_branch=branch, else_branch=other),
        helper.make_node("Reshape", ["e", "shape"], ["y"]),
    ]
    held = [
        numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "w"),
        numpy_helper.from_array(np.ones(4, np.float32), "s0"),
        helper.make_tensor("shape", INT64, [2], [1, -1]),
    ]
    return model(*nodes, initializers=held, functions=[function], domains=["my"]).SerializeToString()


def mutant(data, seed):
    chance, made = random.Random(seed), bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4])):
        place, kind = chance.randrange(len(made)), chance.random()
        if kind < 0.6:
            made[place] = chance.randrange(256)
        elif kind < 0.8:
            del made[place : place + chance.randrange(1, 9)]
        else:
            made[place:place] = chance.randbytes(chance.randrange(1, 5))
    return bytes(made)


def test_no_mutant_breaks_the_reader() -> None:
    """What is read may run, or it is refused then."""
    data, read, strange = network(), 0, []
    assert load(data)(np.ones((1, 1, 4, 4), np.float32)).shape == (1, 32)
    for seed in range(300):
        changed = mutant(data, seed)
        try:
            module = load(changed)
            read += 1
            module(np.ones((1, 1, 4, 4), np.float32))
        except (ValueError, UnsupportedError, OSError, TypeError) as error:
            # A TypeError may be about the inputs that are given, of which the mutant has others.
            if "\n" in str(error) or (isinstance(error, TypeError) and not str(error).startswith("inputs")):
                strange.append((seed, error))
    assert not strange
    assert read > 10
