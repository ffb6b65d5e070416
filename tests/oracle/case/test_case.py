"""Cases and traces: deterministic, good instruments, and clear about what cannot be read."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from safetensors.numpy import save_file

import lucid
from lucid import models
from lucid.models.blocks import BasicBlock
from oracle.case.case import Case, photograph, read_weights, standard_case
from oracle.errors import UsageError
from oracle.files import write_whole
from oracle.operations import rectified
from oracle.resnets import ARCHITECTURES, NARROW, SMALL, Architecture, find_architecture
from oracle.subjects import find_subject
from oracle.trace import Trace
from oracle.truth.goldens import state_digest
from oracle.truth.sides import LEAST_TWO_SIDED, least_two_sided, two_sided_shares

TINY = Architecture("tiny", "bottleneck", (1, 2, 1, 1), num_classes=10, stem_width=8, channels=(8, 8, 8, 8))


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


# -- determinism -------------------------------------------------------------------------------------------------------


def test_a_case_follows_from_its_fields() -> None:
    first, again, other = (
        Case(TINY, "train", batch=2),
        Case(TINY, "train", batch=2),
        Case(TINY, "train", batch=2, seed=1),
    )
    assert digest(first.input) == digest(again.input)
    assert all(digest(first.state[name]) == digest(again.state[name]) for name in first.state)
    assert digest(first.state["layer1.0.conv2.weight"]) != digest(other.state["layer1.0.conv2.weight"])
    assert list(first.labels) == list(again.labels)
    assert len(set(first.labels.tolist())) == 2


def test_seeded_weights_are_the_same_everywhere() -> None:
    state = Case(TINY, "eval").state
    assert state["fc.bias"][:2].tolist() == [-0.057243261486291885, 0.6961668729782104]
    assert state["stem.0.weight"].dtype == np.float32
    assert state["stem.1.num_batches_tracked"].dtype == np.int64
    assert state["layer4.0.bn3.running_mean"][:2].tolist() == [1.4958890676498413, -0.2964874804019928]
    assert state_digest(state)[:16] == "0a4840cee448a172"


def test_the_models_of_lucid_have_the_weights_of_the_cases() -> None:
    """By name, by model and by the oracle's own description: one generator."""
    case = standard_case(find_architecture("resnet_18"), "eval")
    by_name, by_model = models.seeded_state("resnet_18"), models.seeded_state(models.resnet_18())
    assert state_digest(by_name) == state_digest(by_model) == state_digest(case.state)
    assert state_digest(models.seeded_state("resnet_18", seed=1)) != state_digest(by_name)


def test_models_of_other_shapes_have_seeded_weights_too() -> None:
    for model in (
        models.ResNet(BasicBlock, [1, 1], num_classes=3, stem_width=4, channels=(4, 8), block_args={"se": True}),
        models.ResNet(BasicBlock, [1], num_classes=3, stem_type="deep", stem_width=4, channels=(4,)),
        lucid.nn.Sequential(lucid.nn.Conv2d(3, 4, 3), lucid.nn.BatchNorm2d(4), lucid.nn.Flatten()),
        lucid.nn.Linear(3, 2),
    ):
        state = models.seeded_state(model)
        model.load_state_dict(state)
        assert all(np.isfinite(value).all() for value in state.values())


def test_a_weight_does_not_depend_on_the_rest_of_the_model() -> None:
    wider = Architecture("wider", "bottleneck", (1, 3, 1, 1), num_classes=10, stem_width=8, channels=(8, 8, 8, 8))
    assert digest(Case(TINY, "eval").state["layer2.1.conv1.weight"]) == digest(
        Case(wider, "eval").state["layer2.1.conv1.weight"]
    )


def test_images_of_a_batch_differ_and_the_first_does_not_depend_on_the_batch() -> None:
    one, three = Case(TINY, "eval", size=64).input, Case(TINY, "eval", size=64, batch=3).input
    assert three.shape == (3, 3, 64, 64)
    assert digest(three[:1]) == digest(one)
    assert len({digest(image) for image in three}) == 3


# -- a good instrument -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", ["resnet_18", "resnet_50", pytest.param("resnet_200", marks=pytest.mark.slow)])
def test_activations_are_of_order_one(name: str, mode: str) -> None:
    case = Case(find_architecture(name), mode, "seeded", size=72, batch=3)  # type: ignore[arg-type]
    trace = find_subject("torch").trace(case)
    for layer in trace.names("activation"):
        values = trace["activation", layer].astype(np.float64)
        assert 0.1 < np.sqrt(np.mean(values**2)) < 10, layer
        if ".relu" in layer:
            assert 0.3 < np.mean(values > 0) < 0.95, layer


QUICK = ("resnet_18", *NARROW, *SMALL)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=() if each in QUICK else pytest.mark.slow) for each in ARCHITECTURES | NARROW | SMALL],
)
def test_every_relu_of_a_standard_case_decides_in_every_image(name: str, mode: Any) -> None:
    """A quarter of the channels hold both signs: where one sign fills a channel, a wrong mask does not show."""
    case = standard_case(find_architecture(name), mode)
    shares = two_sided_shares(case)
    assert list(shares) == rectified(case.graph)
    assert {layer: share for layer, share in shares.items() if share < LEAST_TWO_SIDED} == {}
    assert case.batch > (2 if mode == "train" else 1)


def test_channels_of_one_sign_are_not_two_sided() -> None:
    """What all channels of the deep stages were: the share says so, and no golden is made of it."""
    case = replace(standard_case(NARROW["narrow_basic"], "train"), weights=None)
    state = {name: value + (8 if name.endswith("bn1.bias") else 0) for name, value in case.state.items()}
    case.__dict__["state"] = state
    assert least_two_sided(two_sided_shares(case))[1] == 0.0


def test_the_photograph_is_normalised() -> None:
    image = Case(TINY, "eval").input
    assert image.dtype == np.float32
    assert abs(float(image.mean())) < 1
    assert 0.5 < float(image.std()) < 2


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_unreadable_pictures(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "short.jpg").write_bytes(photograph().read_bytes()[:2000])
    for name in ("missing.jpg", "broken.jpg", "short.jpg", "."):
        with pytest.raises(UsageError, match="cannot read"):
            _ = Case(TINY, "eval", source=tmp_path / name, size=32).input


def test_picture_for_a_model_without_three_channels() -> None:
    grey = Architecture("grey", "basic", (1, 1, 1, 1), in_channels=1)
    with pytest.raises(UsageError, match="1 input channels"):
        _ = Case(grey, "eval").input
    assert Case(grey, "eval", source="seeded", size=32).input.shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"mode": "test"}, "mode"),
        ({"size": 0}, "size"),
        ({"batch": 0}, "batch"),
        ({"mode": "train", "size": 32}, "batch"),
    ],
)
def test_impossible_cases(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Case(TINY, **{"mode": "eval", **arguments})  # type: ignore[arg-type]


def test_weights_file(tmp_path: Path) -> None:
    state = dict(Case(TINY, "eval", seed=5).state)
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    read = Case(TINY, "eval", weights=path).state
    assert all(digest(read[name]) == digest(state[name]) for name in state)
    state["fc.bias"] = np.zeros(3, np.float32)
    del state["stem.0.weight"]
    save_file(state, path)
    with pytest.raises(UsageError, match=r"missing stem\.0\.weight; of another shape fc\.bias"):
        _ = Case(TINY, "eval", weights=path).state


def test_corrupt_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(100, np.float32)}, path)
    whole = path.read_bytes()
    for content in (b"", b"\x00" * 7, whole[:-40], b"\xff" * 200, b"{}" * 50):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="weights"):
            read_weights(path)
    with pytest.raises(UsageError, match="No such file"):
        read_weights(tmp_path / "missing.safetensors")


# -- traces ------------------------------------------------------------------------------------------------------------


def test_a_trace_survives_a_file(tmp_path: Path) -> None:
    trace = find_subject("torch").trace(Case(TINY, "train", size=64, batch=2))
    trace.save(tmp_path / "trace.safetensors")
    read = Trace.load(tmp_path / "trace.safetensors")
    assert list(read) == list(trace)
    assert all(np.array_equal(read[key], trace[key]) for key in trace)
    assert read.consumers == trace.consumers
    assert [path.name for path in tmp_path.iterdir()] == ["trace.safetensors"]


def test_a_trace_names_layers_in_order() -> None:
    trace = find_subject("torch").trace(Case(TINY, "train", size=64, batch=2))
    names = trace.names("activation")
    assert names[:6] == ["stem.0", "stem.1", "stem.2", "maxpool", "layer1.0.conv1", "layer1.0.bn1"]
    block = [name for name in names if name.startswith("layer2.0")]
    assert [name.removeprefix("layer2.0").lstrip(".") for name in block] == [
        "conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "conv3", "bn3", "downsample.0", "downsample.1", "",
    ]  # fmt: skip
    assert names[-3:] == ["avgpool", "flatten", "fc"]
    assert set(trace.names("activation_gradient")) == set(names)
    assert set(trace.names("parameter_gradient")) == {
        name for name in Case(TINY, "eval").state if "running" not in name and "tracked" not in name
    }
    assert trace["loss", "loss"].shape == ()


def test_consumers() -> None:
    consumers = find_subject("torch").trace(Case(TINY, "eval", size=64)).consumers
    assert consumers["layer1.0.bn1"] == ("layer1.0.relu1",)
    assert consumers["layer1.0.bn3"] == ("layer1.0",)
    assert consumers["layer1.0.downsample.1"] == ("layer1.0",)
    assert set(consumers["layer2.0"]) == {"layer2.1", "layer2.1.conv1"}
    assert set(consumers["layer1.0"]) == {"layer2.0.conv1", "layer2.0.downsample.0"}
    assert consumers["fc"] == ()


def test_recording_twice_or_an_unknown_kind_is_refused() -> None:
    trace = Trace()
    trace.record("activation", "fc", np.zeros(1))
    with pytest.raises(ValueError, match="recorded twice"):
        trace.record("activation", "fc", np.zeros(1))
    with pytest.raises(ValueError, match="kind"):
        trace.record("weight", "fc", np.zeros(1))  # type: ignore[arg-type]


def test_damaged_trace_files(tmp_path: Path) -> None:
    path = tmp_path / "trace.safetensors"
    save_file({"activation/fc": np.zeros(4, np.float32)}, path)
    with pytest.raises(UsageError, match="not a sound trace"):
        Trace.load(path)
    trace = Trace()
    trace.record("activation", "fc", np.zeros(100))
    trace.save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UsageError, match="neither a sound safetensors"):
        Trace.load(path)
    with pytest.raises(UsageError, match="cannot read"):
        Trace.load(tmp_path / "missing")


def test_writing_replaces_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UsageError, match="there is no directory"):
        write_whole(tmp_path / "no" / "file", b"")
