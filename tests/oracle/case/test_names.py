"""Names of other programs: what is read, what is said of it, and what is refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.numpy import save_file
from support.torchvision_layout import dump, make_torchvision, torchvision_state

from oracle import cli
from oracle.case.adopt import adopt_trace, compare_weights, judge_weights
from oracle.case.case import Case, standard_case
from oracle.case.names import Rules, Vocabulary
from oracle.errors import UsageError
from oracle.judge.verdicts import SubjectVerdict
from oracle.resnets import NARROW, SMALL, Architecture, find_architecture
from oracle.run import run_case
from oracle.subjects import Brought, find_subject
from oracle.testing import OutOfLineError, assert_matches_golden
from oracle.trace import Trace
from oracle.truth.goldens import Golden

NAME = "narrow_basic-train"
BASIC = NARROW["narrow_basic"]
BOTTLENECK = Architecture("thin", "bottleneck", (1, 2), num_classes=10, stem_width=8, channels=(8, 16))


# -- names alone ------------------------------------------------------------------------------------------------------

READ: dict[str, tuple[dict[str, str], str]] = {
    "ours": ({"stem.0": "stem.0", "layer1.0": "layer1.0", "fc.weight": "fc.weight"}, ""),
    "data parallel": ({"module.stem.0.weight": "stem.0.weight", "module.fc.bias": "fc.bias"}, "without 'module.'"),
    "compiled": ({"_orig_mod.layer1.0.bn1": "layer1.0.bn1"}, "without '_orig_mod.'"),
    "compiled in parts": ({"layer1._orig_mod.0.bn1": "layer1.0.bn1", "fc": "fc"}, "without '_orig_mod.'"),
    "both": ({"module._orig_mod.fc.bias": "fc.bias"}, "without 'module.'; names read without '_orig_mod.'"),
    "nested": ({"state_dict.module.fc.bias": "fc.bias"}, "without 'state_dict.'"),
    "a lightning module": ({"model.conv1.weight": "stem.0.weight", "model.layer1.0.conv1": "layer1.0.conv1"},
                           "without 'model.'; names read as torchvision's: conv1 is stem.0"),
    "torchvision": ({"conv1": "stem.0", "bn1": "stem.1", "relu": "stem.2", "layer1.0.conv1": "layer1.0.conv1"},
                    "conv1 is stem.0, bn1 is stem.1, relu is stem.2"),
    "feature extractor": ({"layer1.0.relu": "layer1.0.relu1", "layer1.0.relu_1": "layer1.0"},
                          "numbered runs of a block's relu read as its ReLUs in their order: layer1.0.relu is"),
}  # fmt: skip


@pytest.mark.parametrize("which", READ)
def test_names_are_read_and_the_assumption_is_said(which: str) -> None:
    names, told = READ[which]
    reading = Vocabulary(BASIC).read(names)
    assert dict(reading.names) == names
    assert not reading.unknown
    assert told in "; ".join(reading.assumed)
    assert bool(reading.assumed) == bool(told)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["student.fc.bias", "teacher.fc.bias"], r"'student\.', 'teacher\.' could each be left out"),
        (["conv1.weight", "stem.0.weight"], r"conv1\.weight and stem\.0\.weight would both be stem\.0\.weight"),
        (["module.fc.bias", "fc.bias"], r"would both be fc\.bias"),
        (
            ["layer1.0.bn2", "layer1.0.relu", "layer1.0.relu_1", "layer1.0"],
            r"layer1\.0\.relu_1 and layer1\.0 would both",
        ),
    ],
)
def test_what_could_be_two_things_is_refused(names: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Vocabulary(BASIC).read(names)


def test_the_whole_network_is_its_last_layer() -> None:
    reading = Vocabulary(BASIC).read(["module", "module.conv1"])
    assert dict(reading.aliases) == {"module": "fc"}
    assert dict(Vocabulary(BASIC).read(["net", "net.conv1", "net.layer2"]).aliases) == {
        "net": "fc",
        "net.layer2": "layer2.0",
    }


def test_what_is_not_understood_is_left_as_it_is() -> None:
    reading = Vocabulary(BASIC).read(["fc.bias", "head.weight", "layer9.0.conv1", "layer1.0.relu_7"])
    assert reading.unknown == ("head.weight", "layer9.0.conv1", "layer1.0.relu_7")


# -- the file of rules ------------------------------------------------------------------------------------------------

RULES = {"c": "stem.0", "skip": False, "net.": "", "^stage(\\d)_(\\d)": "layer\\1.\\2"}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("c.weight", "stem.0.weight"),
        ("c", "stem.0"),
        ("conv", "conv"),
        ("net.fc", "fc"),
        ("stage1_0.bn1", "layer1.0.bn1"),
        ("skip.me", None),
        ("skipped", "skipped"),
    ],
)
@pytest.mark.parametrize("kind", ["toml", "json"])
def test_rules_are_read_from_a_file(kind: str, name: str, ours: str | None, tmp_path: Path) -> None:
    path = tmp_path / f"names.{kind}"
    toml = "c = 'stem.0'\nskip = false\n'net.' = ''\n'^stage(\\d)_(\\d)' = 'layer\\1.\\2'\n"
    path.write_text(json.dumps(RULES) if kind == "json" else toml)
    assert Rules.read(path).apply(name) == ours


def test_nested_tables_are_joined_by_dots(tmp_path: Path) -> None:
    (tmp_path / "names.toml").write_text("enc.conv1 = 'stem.0'\n[head]\nout = 'fc'\n")
    rules = Rules.read(tmp_path / "names.toml")
    assert rules.apply("enc.conv1.weight") == "stem.0.weight"
    assert rules.apply("head.out") == "fc"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("a.toml", "= 1", "is not TOML"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[" * 100000, "is not JSON"),
        ("a.json", "[1]", "holds list"),
        ("a.json", "{}", "holds nothing"),
        ("a.json", '{"a": 1}', "'a' is 1; may be a name"),
        ("a.json", '{"a": true}', "'a' is True"),
        ("a.json", '{"": "b"}', "'' is 'b'"),
        ("a.json", '{"^(": "b"}', "is no regular expression"),
        ("a.json", '{"^a": "\\\\1"}', "is no regular expression"),
        ("a.toml", b"\xff\xfe", "is not TOML"),
    ],
)
def test_a_file_that_holds_no_rules_is_named(file: str, content: str | bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=words):
        Rules.read(tmp_path / file)
    with pytest.raises(UsageError, match="cannot read"):
        Rules.read(tmp_path / "missing.toml")


# -- weights ----------------------------------------------------------------------------------------------------------


def prefixed(prefix: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    return lambda state: {prefix + name: value for name, value in state.items()}


def without_counters(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


WEIGHTS: dict[str, tuple[Any, str]] = {
    "data parallel": (prefixed("module."), "weights: names read without 'module.'"),
    "nested": (prefixed("state_dict.model."), "weights: names read without 'state_dict.model.'"),
    "torchvision": (torchvision_state, "conv1 is stem.0, bn1 is stem.1"),
    "counters missing": (without_counters, "12 num_batches_tracked missing, taken as 0"),
    "all of it": (
        lambda state: prefixed("module._orig_mod.")(without_counters(torchvision_state(state))),
        "torchvision",
    ),
}


@pytest.mark.parametrize("which", WEIGHTS)
def test_weights_under_other_names_are_the_same_weights(which: str, tmp_path: Path) -> None:
    change, told = WEIGHTS[which]
    case = standard_case(BASIC, "eval")
    save_file(change(case.state), tmp_path / "w.safetensors")
    other = Case(BASIC, "eval", weights=tmp_path / "w.safetensors")
    assert sorted(other.state) == sorted(case.state)
    assert all(np.array_equal(other.state[name], value) for name, value in case.state.items())
    assert told in "; ".join(other.notes)
    assert other.describe()["notes"] == list(other.notes)


def test_weights_by_rules_and_what_is_left_over(tmp_path: Path) -> None:
    case = standard_case(BASIC, "eval")
    state = {name.replace("layer", "stage"): value for name, value in case.state.items()}
    save_file({**state, "aux.weight": np.zeros(3, np.float32)}, tmp_path / "w.safetensors")
    rules = tmp_path / "names.json"
    rules.write_text(json.dumps({"^stage": "layer"}))
    with pytest.raises(UsageError, match=r"unexpected aux\.weight"):
        _ = Case(BASIC, "eval", weights=tmp_path / "w.safetensors", names=rules).state
    rules.write_text(json.dumps({"^stage": "layer", "aux": False}))
    found = Case(BASIC, "eval", weights=tmp_path / "w.safetensors", names=rules)
    assert sorted(found.state) == sorted(case.state)
    assert "read by names.json" in found.notes[0]
    assert found == Case(BASIC, "eval", weights=tmp_path / "w.safetensors")  # rules say how to find, not what is run


def test_the_command_says_what_was_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(prefixed("module.")(torchvision_state(standard_case(BASIC, "eval").state)), tmp_path / "w.safetensors")
    arguments = ["check", "narrow_basic", "--subject", "torch", "--mode", "eval", "--view", "free"]
    assert cli.run([*arguments, "--weights", str(tmp_path / "w.safetensors"), "-q"]) == cli.AGREES
    assert "note: weights: names read as torchvision's: conv1 is stem.0, bn1 is stem.1" in " ".join(
        capsys.readouterr().out.split()
    )


# -- traces -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dumped() -> dict[str, Any]:
    """A healthy train step of the torchvision layout, by hooks on every module."""
    case = Golden.load(NAME).case
    return dump(make_torchvision(BASIC, case.state).train(), case.input, case.labels)


def test_a_torchvision_network_dumped_by_hooks_agrees(
    dumped: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(dumped, tmp_path / "trace.safetensors")
    assert cli.run(["compare", str(tmp_path / "trace.safetensors"), "--golden", NAME, "-q"]) == cli.AGREES
    told = " ".join(capsys.readouterr().out.split())
    assert "note: names read as torchvision's: conv1 is stem.0, bn1 is stem.1, relu is stem.2" in told
    assert "activation/layer1.0.relu and 3 more read as the block's output" not in told
    assert "read as the block's output (the module runs several times)" in told


def test_a_shared_relu_is_placed_by_its_neighbours(dumped: dict[str, Any]) -> None:
    case = Golden.load(NAME).case
    trace, healthy = Trace(), find_subject("torch").trace(case)
    for name, array in dumped.items():
        trace.record(*(("loss", "loss") if name == "loss" else name.split("/", 1)), array)  # type: ignore[arg-type]
    adopted = adopt_trace(trace, case)
    assert ("activation", "layer2.0") in adopted.trace  # what the hook kept is the last run's output
    assert ("activation_gradient", "layer2.0.relu1") in adopted.trace  # and the first run's gradient
    for key in adopted.trace:
        np.testing.assert_allclose(adopted.trace[key], healthy[key], rtol=1e-2, atol=1e-4)


def test_a_fault_in_it_is_named_by_our_names(dumped: dict[str, Any]) -> None:
    wrong = dict(dumped)
    wrong["activation/bn1"] = dumped["activation/bn1"] * np.float32(1.01)
    with pytest.raises(OutOfLineError, match=r"first out of line: the output of stem\.1"):
        assert_matches_golden(wrong, NAME)


def test_containers_are_their_last_layers() -> None:
    case = Golden.load("narrow_basic-eval").case
    trace = dump(make_torchvision(BASIC, case.state).eval(), case.input, None, containers=True)
    verdict = assert_matches_golden(trace, "narrow_basic-eval")
    subject = verdict.cases[0].subjects[0]
    assert [layer.name for layer in subject.layers if not layer.observed] == [
        *(f"layer{stage}.0.relu1" for stage in (1, 2, 3, 4)),
        "flatten",
    ]
    trace["activation/layer2"] = trace["activation/layer2"] * 2
    with pytest.raises(UsageError, match=r"layer2 should be the output of layer2\.0, which is there too and differs"):
        assert_matches_golden(trace, "narrow_basic-eval")


def test_a_name_that_is_left_over_is_refused_once_something_was_assumed(dumped: dict[str, Any]) -> None:
    strange = {**dumped, "activation/aux.head": np.zeros(3, np.float32)}
    with pytest.raises(UsageError, match=r"activation/aux\.head is not to be understood so: .* --names"):
        assert_matches_golden(strange, NAME)
    assert assert_matches_golden(strange, NAME, names={"aux": False}).agrees


def test_a_trace_by_rules(dumped: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {name.removeprefix("activation/"): array for name, array in dumped.items() if "activation/" in name}
    np.savez(tmp_path / "trace.npz", **{name.replace("layer", "stage"): array for name, array in outputs.items()})
    (tmp_path / "names.toml").write_text("'^(?=conv1|bn1|fc|relu|maxpool|avgpool)' = 'activation/'\n"
                                         "'^stage' = 'activation/layer'\n")  # fmt: skip
    arguments = ["compare", str(tmp_path / "trace.npz"), "--golden", NAME, "-q"]
    assert cli.run(arguments) == cli.WRONG_USAGE
    assert "--names" in capsys.readouterr().err
    assert cli.run([*arguments, "--names", str(tmp_path / "names.toml")]) == cli.AGREES


def thin(case: Case, **options: Any) -> Trace:
    trace = Trace()
    model = make_torchvision(BOTTLENECK, case.state, **options).train(case.mode == "train")
    for name, array in dump(model, case.input, case.labels if case.mode == "train" else None).items():
        trace.record(*(("loss", "loss") if name == "loss" else name.split("/", 1)), array)  # type: ignore[arg-type]
    return trace


def test_a_bottleneck_is_read_and_the_original_stride_is_refused() -> None:
    case = standard_case(BOTTLENECK, "train")
    adopted, healthy = adopt_trace(thin(case), case).trace, find_subject("torch").trace(case)
    assert ("activation", "layer2.1") in adopted
    for key in adopted:
        np.testing.assert_allclose(adopted[key], healthy[key], rtol=1e-2, atol=1e-4)
    with pytest.raises(UsageError, match=r"the original bottleneck \(ResNet v1\).*layer2\.0\.conv1"):
        adopt_trace(thin(case, v1=True), case)
    with pytest.raises(UsageError, match="another network, or another size"):
        adopt_trace(thin(Case(BOTTLENECK, "train", "seeded", 96, 2)), case)


# -- ONNX -------------------------------------------------------------------------------------------------------------


def export(model: torch.nn.Module, case: Case, path: Path, *, fold: bool) -> Path:
    onnx = pytest.importorskip("onnx")
    keep = {} if fold else {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (torch.from_numpy(case.input),), str(path), dynamo=False, **keep)
    assert onnx.load(path).graph.output
    return path


def onnx_check(model: str, path: Path, *options: str) -> int:
    subject = f"onnxruntime:file={path}"
    return cli.run(["check", model, "--subject", subject, "--mode", "eval", "--view", "free", "-q", *options])


@pytest.mark.parametrize("fold", [False, True], ids=["whole", "folded"])
@pytest.mark.parametrize("architecture", [BASIC, BOTTLENECK], ids=lambda each: each.block)
def test_what_torch_onnx_exports_is_checked(architecture: Architecture, fold: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    case = Case(architecture, "eval", "seeded", 32)
    network = make_torchvision(architecture, case.state, inplace=True)

    def judged(file: str) -> SubjectVerdict:
        subject = find_subject(f"onnxruntime:file={export(network, case, tmp_path / file, fold=fold)}")
        return run_case(case, [subject], views=["free"]).subjects[0]

    found = judged("m.onnx")
    assert found.agrees
    assert "names read as torchvision's: conv1 is stem.0" in found.notes[0]
    convolutions = [name.removesuffix(".weight") for name, value in case.state.items() if value.ndim == 4]
    absent = {layer.name for layer in found.layers if not layer.observed}
    assert absent == (set(convolutions) if fold else set())
    with torch.no_grad():
        network.layer2[0].bn1.bias[1] += 0.5
    found = judged("wrong.onnx")
    assert not found.agrees
    assert found.first is not None
    assert found.first.name == "layer2.0.bn1"
    assert found.differing == (() if fold else ("layer2.0.bn1.bias",))
    assert ("its own layer2.0.bn1.bias differs from the case's" in found.sentence()) == (not fold)


def test_the_parameters_names_and_the_edges_are_enough(tmp_path: Path) -> None:
    """Newer exporters number the tensors; what they take says what they are."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from oracle.subjects.onnx_names import ForeignGraph, own_weights

    case = Case(BOTTLENECK, "eval", "seeded", 32)
    proto = onnx.load(export(make_torchvision(BOTTLENECK, case.state), case, tmp_path / "m.onnx", fold=False))
    kept = {each.name for each in proto.graph.initializer} | {proto.graph.input[0].name, ""}
    kept |= {node.output[0] for node in proto.graph.node if node.op_type == "Identity"}
    for node in proto.graph.node:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = name if name in kept else f"val_{abs(hash(name))}"
    found = ForeignGraph(proto, BOTTLENECK)
    trace = find_subject("torch").trace(case)
    assert list(found.names().values()) == [node.name for node in BOTTLENECK.graph().nodes if node.op != "loss"]
    assert set(found.names().values()) == set(trace.names("activation"))
    own = own_weights(proto, found.reading.names)
    assert compare_weights(own, case.state).compared == tuple(n for n in case.state if not n.endswith("_tracked"))
    assert not compare_weights(own, case.state).differing


def test_tensors_of_an_onnx_file_by_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from oracle.subjects.onnx_runtime import OnnxRuntimeSubject

    proto, _ = OnnxRuntimeSubject().export(standard_case(BASIC, "eval"))
    for node in proto.graph.node:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = name if name in ("", proto.graph.input[0].name) else f"/net/{name}:0"
    for part in (proto.graph.initializer, proto.graph.output):
        for each in part:
            each.name = f"/net/{each.name}:0"
    del proto.graph.value_info[:]
    onnx.save(proto, tmp_path / "m.onnx")
    (tmp_path / "names.json").write_text(json.dumps({"^/net/(.*):0$": "\\1"}))
    assert onnx_check("narrow_basic", tmp_path / "m.onnx", "--names", str(tmp_path / "names.json")) == cli.AGREES
    told = " ".join(capsys.readouterr().out.split())
    assert "read by names.json" in told
    assert "agrees in all 37 tensors;" in told
    assert "of 62 parameters and statistics 62 found by name and shape, all as the case's" in told


def test_an_onnx_file_of_the_original_stride_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    case = standard_case(SMALL["small_bottleneck"], "eval")
    path = export(make_torchvision(case.architecture, case.state, v1=True), case, tmp_path / "v1.onnx", fold=False)
    assert onnx_check("small_bottleneck", path) == cli.WRONG_USAGE
    assert "the file has stride 2 at layer2.0.conv1, where small_bottleneck has 1" in capsys.readouterr().err


def test_other_weights_are_said_before_anything_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    case = standard_case(BASIC, "eval")
    model = make_torchvision(BASIC, Case(BASIC, "eval", seed=1).state)
    path = export(model, case, tmp_path / "m.onnx", fold=False)
    assert onnx_check("narrow_basic", path) == cli.WRONG_USAGE
    told = capsys.readouterr().err
    assert "these are other weights: 38 of 38 parameters differ (first: stem.0.weight)" in told
    assert "--weights FILE" in told
    assert "stem.0 disagrees" not in told
    save_file(Case(BASIC, "eval", seed=1).state, tmp_path / "w.safetensors")  # with those that it was made of
    assert onnx_check("narrow_basic", path, "--weights", str(tmp_path / "w.safetensors")) == cli.AGREES


def test_where_lucid_export_put_the_weights_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from oracle.subjects.onnx_runtime import OnnxRuntimeSubject

    proto, _ = OnnxRuntimeSubject().export(Case(BASIC, "eval", seed=3))
    onnx.helper.set_model_props(proto, {"lucid.weights": "seed 7"})
    onnx.save(proto, tmp_path / "m.onnx")
    assert onnx_check("narrow_basic", tmp_path / "m.onnx") == cli.WRONG_USAGE
    assert "(lucid-export: seed 7)" in capsys.readouterr().err


def test_how_to_get_the_cases_weights_is_said() -> None:
    other = Case(find_architecture("resnet_18"), "eval", seed=5).state
    case = Case(find_architecture("resnet_18"), "eval", seed=6)
    with pytest.raises(
        UsageError, match=r"62 of 62 parameters .*\(`lucid-export resnet_18 --onnx --seed 6`; `lucid-or"
    ):
        judge_weights("s", Brought(other), case)
    partial = dict(list(case.state.items())[:3]) | {"fc.bias": other["fc.bias"]}
    notes, differing = judge_weights("s", Brought(partial), case)
    assert differing == ("fc.bias",)
    assert notes == ("of 102 parameters and statistics 4 found by name and shape, 1 of another value",)


@pytest.mark.parametrize(
    ("dtype", "change", "differs"),
    [
        (np.float32, lambda array: array, False),
        (np.float32, lambda array: np.nextafter(array, np.float32(9)), False),  # rounded once more
        (np.float16, lambda array: array, False),
        (np.float32, lambda array: array * np.float32(1 + 1e-5), True),
        (np.float16, lambda array: array * np.float16(1.01), True),
        (np.float32, lambda array: np.full_like(array, np.nan), True),
    ],
)
def test_a_parameter_differs_beyond_the_rounding_of_its_type(dtype: Any, change: Any, differs: bool) -> None:
    state = {"fc.weight": np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)}
    found = compare_weights({"fc.weight": change(state["fc.weight"].astype(dtype))}, state)
    assert found.compared == ("fc.weight",)
    assert bool(found.differing) == differs


def test_what_has_another_shape_or_name_is_not_compared() -> None:
    state = {"fc.weight": np.ones((2, 2), np.float32), "fc.bias": np.ones(2, np.float32)}
    found = compare_weights({"fc.weight": np.zeros(4, np.float32), "onnx::Conv_1": np.zeros(2, np.float32)}, state)
    assert found.compared == ()
    assert not found.others
