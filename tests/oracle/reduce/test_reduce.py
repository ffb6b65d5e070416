"""A model that disagrees is reduced to the few nodes that do; one that does not, to nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("click")

import onnx
from onnx import helper, numpy_helper

import lucid
import lucid.nn.functional as F
from lucid import nn
from lucid.graph import trace
from lucid.onnx import quantize, simplify, to_onnx
from oracle import cli
from oracle.errors import UsageError
from oracle.reduce import Reduction, reduce_model
from oracle.reduce.bounds import expected_of, judge
from oracle.reduce.cutting import Cuts
from oracle.reduce.subjects import find_runner

Arrays = Mapping[str, Any]
Runner = Callable[[onnx.ModelProto, Arrays], Any]
LEVELS = ("optimized", "extended", "basic", "unoptimized")


class Block(nn.Module):
    """A convolution, its normalisation and ReLU, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: lucid.Tensor) -> lucid.Tensor:
        return F.relu(self.norm(self.conv(x))) + x


class Heads(nn.Module):
    """Attention, GELU and a norm over tokens, and which class is the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, tokens: lucid.Tensor) -> lucid.Tensor:
        x = self.embed(tokens)
        q, k, v = (self.qkv(self.norm(x))[..., part * 8 : part * 8 + 8] for part in range(3))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(F.gelu(x + y))


@cache
def images() -> tuple[bytes, Any]:
    lucid.manual_seed(0)
    blocks = [Block(6) for _ in range(5)]
    down = nn.Conv2d(6, 6, 3, stride=2, padding=1)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), *blocks[:3], down, *blocks[3:], nn.Flatten(), nn.Linear(54, 5)).eval()
    drawn = np.random.default_rng(0)
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(drawn.uniform(0.5, 2, buffer.shape).astype(np.float32))
    x = drawn.standard_normal((2, 2, 8, 8)).astype(np.float32)
    return to_onnx(trace(net, lucid.tensor(x))).SerializeToString(), x


def reduced(run: Runner, **options: Any) -> Reduction:
    content, x = images()
    return reduce_model(content, run, {"input": x}, **options)


@cache
def healthy() -> Runner:
    return find_runner("onnxruntime", onnx.load_from_string(images()[0]))


# -- faults ------------------------------------------------------------------------------------------------------------

Change = Callable[[onnx.ModelProto], object]


def node_of(model: onnx.ModelProto, name: str) -> Any:
    return next((node for node in model.graph.node if node.name == name), None)


def another(name: str, attribute: str, value: Any) -> Change:
    """An attribute of a node is another."""

    def change(model: onnx.ModelProto) -> None:
        node = node_of(model, name)
        if node is not None:
            kept = [each for each in node.attribute if each.name != attribute]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(attribute, value)])

    return change


def weight(name: str, place: int) -> Change:
    """One weight is off by one percent."""

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == name:
                array = numpy_helper.to_array(tensor).copy()
                array.flat[place] *= 1.01
                tensor.CopyFrom(numpy_helper.from_array(array, name))

    return change


def operator(name: str, other: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        node = node_of(model, name)
        if node is not None:
            node.op_type = other

    return change


def turned(name: str) -> Change:
    """The image is read from its other end: what a stride of the wrong sign does."""

    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[..., ::-1, :].copy(), name))

    return change


def fused(norm: str) -> Change:
    """A runtime that makes one kernel of convolution, normalisation and ReLU, and loses the bias there alone."""

    def change(model: onnx.ModelProto) -> None:
        asked = {value.name for value in model.graph.output}
        maker = {name: node for node in model.graph.node for name in node.output}
        for node in model.graph.node:
            middle = maker.get(node.input[0]) if node.op_type == "Relu" else None
            first = maker.get(middle.input[0]) if middle is not None and middle.name == norm else None
            if middle is not None and first is not None and not asked & {*middle.output, *first.output}:
                del first.input[2:]

    return change


FAULTS: dict[str, tuple[Change, set[str], int]] = {
    "another eps": (another("2.norm", "epsilon", 1e-3), {"2.norm"}, 1),
    "another padding": (another("4", "pads", [0, 0, 2, 2]), {"4"}, 1),
    "strides of axes exchanged": (turned("3.conv.weight"), {"3.conv"}, 1),
    "a weight, early": (weight("1.conv.weight", 5), {"1.conv"}, 1),
    "a weight, late": (weight("8.weight", 11), {"8"}, 1),
    "no ReLU": (operator("3.relu", "Identity"), {"3.relu"}, 1),
    "another sum": (operator("5", "Sub"), {"5"}, 1),
    "a fusion that loses the bias": (fused("2.norm"), {"2.conv", "2.norm", "2.relu"}, 3),
    "the same, later": (fused("6.norm"), {"6.conv", "6.norm", "6.relu"}, 3),
}


def broken(change: Change) -> Runner:
    def run(model: onnx.ModelProto, inputs: Arrays) -> Any:
        change(model)
        return healthy()(model, inputs)

    return run


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_reduced_to_its_nodes(fault: str) -> None:
    change, nodes, most = FAULTS[fault]
    found = reduced(broken(change))
    assert not found.agrees
    assert {node.name for node in found.model.graph.node} == nodes, found.sentence()
    assert len(found.nodes) <= most
    assert all(array.shape[0] == 1 for array in found.inputs.values())
    assert found.kind()


def test_what_a_fault_needs_stays() -> None:
    """A result that is wrong only where two branches meet cannot be cut."""

    def run(model: onnx.ModelProto, inputs: Arrays) -> Any:
        both = {"1.relu", "2"} <= {name for node in model.graph.node for name in node.output}
        made = healthy()(model, inputs)
        return {name: value + (1.0 if both else 0.0) for name, value in made.items()}

    found = reduced(run)
    assert {"1.relu", "2"} <= {node.name for node in found.model.graph.node}
    assert not found.agrees
    assert len(found.nodes) <= 6


# -- healthy -----------------------------------------------------------------------------------------------------------


def tokens() -> tuple[onnx.ModelProto, Arrays]:
    lucid.manual_seed(1)
    x = np.arange(12).reshape(2, 6) % 11
    return to_onnx(trace(Heads().eval(), lucid.tensor(x))), {"input": x}


def integers() -> tuple[onnx.ModelProto, Arrays]:
    lucid.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    model = simplify(to_onnx(trace(net, lucid.tensor(x))))
    return quantize(model, {"input": x}), {"input": x}


HEALTHY = {
    "images": lambda: (onnx.load_from_string(images()[0]), {"input": images()[1]}),
    "tokens": tokens,
    "integers": integers,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runtimes_agree(name: str) -> None:
    model, inputs = HEALTHY[name]()
    for level in LEVELS:
        found = reduce_model(model, find_runner(f"onnxruntime:{level}", model), inputs)
        assert found.agrees, f"{level}: {found.sentence()}"
        assert found.judged
        assert found.tried == 1


@pytest.mark.parametrize("name", ["narrow_basic", "narrow_preact", "narrow_gpt", "narrow_unet"])
def test_healthy_networks_have_status_0(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level in LEVELS:
        command = ["reduce", name, "--subject", f"onnxruntime:{level}", "-o", str(tmp_path / "repro"), "-q"]
        assert cli.run(command) == 0, capsys.readouterr().out
    assert "nothing disagrees" in capsys.readouterr().out
    assert not (tmp_path / "repro").exists()


# -- its parts ---------------------------------------------------------------------------------------------------------


def test_cuts_keep_what_follows_from_no_input() -> None:
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Exp", ["w"], ["v"]),
        helper.make_node("Mul", ["x", "v"], ["a"]),
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("Reshape", ["a", "s"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.ones(3, np.float32), "w")]
    cuts = Cuts(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], weights)))
    assert cuts.between((), ["y"])[1] == [0, 1, 2, 3, 4]
    assert cuts.between({"v", "a"}, ["y"]) == (["a"], [2, 3, 4])
    assert cuts.between({"v"}, ["a"]) == (["x"], [0, 1])
    given, places = cuts.between({"a", "s"}, ["b"])
    part, inputs = cuts.cut({"a": np.ones((2, 3), np.float32), "s": np.array([2, 3])}, places, ["b"])
    assert (given, inputs) == (["a", "s"], ["a"])
    assert [tensor.name for tensor in part.graph.initializer] == ["s"]  # so that it may decide a shape


def test_budgets_are_of_the_size_of_roundings() -> None:
    content, x = images()
    model = onnx.load_from_string(content)
    expected = expected_of(model, {"input": x})
    (name, exact), budget = next(iter(expected.exact.items())), next(iter(expected.budget.values()))
    assert exact.dtype == np.float64
    assert 2.0**-24 < float(np.median(budget / np.abs(exact).mean())) < 2.0**-12, name
    coarser = expected_of(model, {"input": x}, "bfloat16").budget[name]
    assert 2.0**10 < float(np.median(coarser / budget)) < 2.0**20
    assert judge(exact.astype(np.float32), exact, budget).agrees
    assert not judge(exact + 2 * budget, exact, budget).agrees
    assert not judge(np.full_like(exact, np.nan), exact, budget).agrees
    assert not judge(exact[:1], exact, budget).agrees


# -- the command -------------------------------------------------------------------------------------------------------


def run_repro(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(directory / "run.py")], capture_output=True, text=True, check=False, cwd=directory.parent
    )


def test_a_changed_file_is_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    content, x = images()
    Path("model.onnx").write_bytes(content)
    np.save("given.npy", x)
    changed = onnx.load_from_string(content)
    weight("2.conv.weight", 3)(changed)
    onnx.save(changed, "changed.onnx")
    command = ("reduce", "model.onnx", "--input", "given.npy", "-o", "repro", "-q", "--subject")
    assert cli.run([*command, "onnxruntime:file=changed.onnx"]) == 1
    assert "1 of " in capsys.readouterr().out
    files = {path.name for path in Path("repro").iterdir()}
    assert files == {"model.onnx", "original.onnx", "inputs.npz", "expected.npz", "run.py", "README.md"}
    assert "Conv '2.conv'" in Path("repro/README.md").read_text()
    ran = run_repro(tmp_path / "repro")
    assert ran.returncode == 1, ran.stderr
    assert "disagrees" in ran.stdout
    Path("repro/original.onnx").replace("repro/model.onnx")
    assert run_repro(tmp_path / "repro").returncode == 0, "the truth's own nodes agree"
    Path("changed.onnx").write_bytes(content)
    assert cli.run([*command, "onnxruntime:file=changed.onnx"]) == 0


def test_a_file_that_the_runtime_optimised_is_healthy(tmp_path: Path) -> None:
    import onnxruntime

    content, x = images()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    model = onnx.load_from_string(content)
    runner = find_runner(f"onnxruntime:file={tmp_path / 'fused.onnx'}", model)
    assert runner.observed is not None
    assert 0 < len(runner.observed) < len(model.graph.node)
    assert reduce_model(model, runner, {"input": x}, observed=runner.observed).agrees
    weight("6.conv.weight", 3)(model)  # now the file has another weight than the model, within what was fused
    found = reduce_model(model, runner, {"input": x}, observed=runner.observed)
    assert {node.name for node in found.model.graph.node} & {"6.conv"}
    assert len(found.nodes) <= 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--subject", "onnxruntime:gradients"], "gradients are of a train step"),
        (["--subject", "nowhere:function"], "cannot be imported"),
        (["--subject", "lucid"], "or a function as MODULE:FUNCTION"),
        (["--subject", "onnxruntime", "--input", "wrong.npz"], "cannot read"),
        (["--subject", "onnxruntime", "--input", "photo"], "a photograph is for models that have a name"),
        (["--subject", "onnxruntime", "--mirror", "a:b"], "lucid's float64 run is the truth"),
        (["--subject", "onnxruntime", "-o", "."], "holds other files"),
        (["--subject", "json:dumps"], "it fails on the whole model"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(images()[0])
    assert cli.run(["reduce", "model.onnx", "-o", "repro", "-q", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_inputs_that_are_missing_are_named() -> None:
    with pytest.raises(UsageError, match="'input' must be given"):
        reduce_model(images()[0], healthy(), {})
