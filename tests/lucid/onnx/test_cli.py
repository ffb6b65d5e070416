"""The command lucid-export: what it writes, what it says, and its exit status."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import lucid
from lucid import models
from lucid.models.blocks import BasicBlock
from lucid.onnx import cli

onnx = pytest.importorskip("onnx")
pytest.importorskip("click")
pytest.importorskip("rich")

from lucid.onnx import _write  # noqa: E402

OPTIONS = ["--image-size", "32"]


@pytest.fixture(autouse=True)
def narrow_model(monkeypatch, tmp_path):
    """``narrow`` is a model that exports in a moment; the current directory is the test's own."""

    def narrow() -> models.ResNet:
        return models.ResNet(BasicBlock, [1, 1], num_classes=3, stem_width=4, channels=(4, 8))

    monkeypatch.setitem(models.registry._factories, "narrow", narrow)
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    status = cli.run([*arguments])
    out, err = capsys.readouterr()
    return status, out, err


def fails(capsys, *arguments: str, status: int = 2) -> str:
    """The one sentence that a failure leaves on the standard error output."""
    before = sorted(os.listdir())  # noqa: PTH208 (names, with those of directories)
    actual, out, err = run(capsys, *arguments)
    assert (actual, out) == (status, "")
    assert err.startswith("lucid-export: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(os.listdir()) == before  # noqa: PTH208
    return err


def metadata(path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


# -- what it writes --------------------------------------------------------------------------------------------------


def test_writes_the_model_in_the_current_directory(capsys, tmp_path):
    status, out, err = run(capsys, "--onnx", "narrow", *OPTIONS)
    assert (status, err) == (0, "")
    assert out.startswith("narrow.onnx: narrow, ")
    assert [file.name for file in tmp_path.iterdir()] == ["narrow.onnx"]
    proto = onnx.load("narrow.onnx")
    assert [dim.dim_param or dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        32,
        32,
    ]
    assert metadata("narrow.onnx") == {
        "lucid.version": lucid.__version__,
        "lucid.arithmetic": "1",
        "lucid.model": "narrow",
        "lucid.weights": "seed 0",
    }


def test_options(capsys, tmp_path):
    status, _, _ = run(
        capsys,
        "narrow",
        "--onnx",
        *OPTIONS,
        "-o",
        "other.onnx",
        "--opset",
        "18",
        "--batch",
        "2",
        "--seed",
        "7",
        "--external-data",
    )
    assert status == 0
    proto = onnx.load("other.onnx", load_external_data=False)
    assert proto.opset_import[0].version == 18
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert metadata("other.onnx")["lucid.weights"] == "seed 7"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_default_weights_are_the_seeded_ones(capsys, tmp_path):
    assert run(capsys, "--onnx", "narrow", *OPTIONS)[0] == 0
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load("narrow.onnx").graph.initializer}
    state = models.seeded_state("narrow")
    assert len(stored) > 10
    for name in stored.keys() & state.keys():
        np.testing.assert_array_equal(stored[name], state[name])


def test_random_weights_are_those_of_training(capsys, tmp_path):
    assert run(capsys, "--onnx", "narrow", *OPTIONS, "--random", "--seed", "7")[0] == 0
    assert metadata("narrow.onnx")["lucid.weights"] == "random, seed 7"
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load("narrow.onnx").graph.initializer}
    lucid.manual_seed(7)
    np.testing.assert_array_equal(stored["stem.0.weight"], models.get_model("narrow").stem[0].weight.numpy())
    assert "--weights and --random exclude" in fails(
        capsys, "--onnx", "narrow", "--random", "--weights", "w.safetensors"
    )


def test_the_oracle_agrees_with_an_export_of_default_weights(capsys, monkeypatch, tmp_path):
    """One default for both commands: what ``lucid-export`` writes is what ``lucid-oracle check`` expects."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    from oracle.errors import UsageError
    from oracle.resnets import NARROW
    from oracle.run import check

    name = "narrow_basic"
    monkeypatch.setitem(models.registry._factories, name, NARROW[name].lucid_model)
    assert run(capsys, "--onnx", name, "--image-size", "72")[0] == 0
    verdict = check(name, [f"onnxruntime:file={tmp_path / name}.onnx"], mode="eval")
    assert verdict.agrees, verdict.cases[0].subjects[0].sentence()
    assert run(capsys, "--onnx", name, "--image-size", "72", "--random")[0] == 0
    with pytest.raises(UsageError, match="these are other weights: 38 of 38 parameters differ"):
        check(name, [f"onnxruntime:file={tmp_path / name}.onnx"], mode="eval")


def test_the_seed_decides_the_bytes(capsys, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run(capsys, "--onnx", "narrow", *OPTIONS, "--seed", seed, "-o", f"{name}.onnx")[0] == 0
    a, b, c = ((tmp_path / f"{name}.onnx").read_bytes() for name in "abc")
    assert a == b != c


def test_weights_from_a_file(capsys, tmp_path):
    lucid.manual_seed(5)
    model = models.get_model("narrow")
    lucid.save(model.state_dict(), "weights.safetensors")
    assert run(capsys, "--onnx", "narrow", *OPTIONS, "--weights", "weights.safetensors")[0] == 0
    digest = hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    assert metadata("narrow.onnx")["lucid.weights"] == f"sha256:{digest}"
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load("narrow.onnx").graph.initializer}
    np.testing.assert_array_equal(stored["stem.0.weight"], model.state_dict()["stem.0.weight"].numpy())


def test_verify_agrees(capsys):
    pytest.importorskip("onnxruntime")
    status, out, err = run(capsys, "--onnx", "narrow", *OPTIONS, "--verify")
    assert (status, err) == (0, "")
    assert out.count("agrees") == 2
    assert "input 1 x 3 x 32 x 32" in out
    assert "input 3 x 3 x 32 x 32" in out
    assert run(capsys, "--onnx", "narrow", *OPTIONS, "--verify", "--batch", "2")[1].count("agrees") == 1


def test_verify_disagrees(capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    from lucid.onnx.operators import EXPORTS

    def forget_padding(builder, node):
        builder.emit(
            "Conv", node, node.inputs, kernel_shape=[3, 3], strides=list(node.attrs["stride"]), auto_pad="SAME_UPPER"
        )

    original = EXPORTS["conv2d"]
    monkeypatch.setitem(
        EXPORTS,
        "conv2d",
        lambda b, node: (forget_padding if node.name == "layer2.0.conv1" else original)(b, node),
    )
    status, out, err = run(capsys, "--onnx", "narrow", *OPTIONS, "--verify")
    assert (status, err) == (1, "")
    assert "DISAGREES" in out


def test_help_and_version(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for option in [
        "--onnx",
        "--output",
        "--opset",
        "--batch",
        "--image-size",
        "--weights",
        "--seed",
        "--external-data",
        "--verify",
    ]:
        assert option in out
    assert run(capsys, "--version") == (0, f"lucid-export, version {lucid.__version__}\n", "")


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument 'MODEL'"),
        (["narrow"], "say which format to write; it may be --onnx"),
        (["--onnx", "resnet50"], "no model is called 'resnet50'; did you mean 'resnet_50'?"),
        (["--onnx", "narrow", "--opset", "3"], "--opset"),
        (["--onnx", "narrow", "--opset", "x"], "--opset"),
        (["--onnx", "narrow", "--batch", "0"], "got '0'; it may be a positive number or dynamic"),
        (["--onnx", "narrow", "--batch", "many"], "got 'many'"),
        (["--onnx", "narrow", "--image-size", "0"], "--image-size"),
        (["--onnx", "narrow", "--seed", "-1"], "--seed"),
        (["--onnx", "narrow", "--seed", "1", "--weights", "w"], "exclude each other"),
        (["--onnx", "narrow", "--nonsense"], "--nonsense"),
        (["--onnx", "narrow", "extra"], "extra"),
        (["--onnx", "narrow", "-o", "missing/narrow.onnx"], "there is no directory"),
        (["--onnx", "narrow", "-o", "."], "not a regular file"),
        (["--onnx", "narrow", "--weights", "missing.safetensors"], "missing.safetensors"),
        (["--onnx", "narrow", "--input-shape", "1,3,8,8"], "--input-shape is for ONNX files and factories"),
        (["--onnx", "no.such:factory", "--input-shape", "1,3"], "no.such:factory: cannot be imported: No module"),
        (["--onnx", "json:nothing", "--input-shape", "1,3"], "json:nothing: cannot be imported: module 'json'"),
        (["--onnx", "os:getcwd", "--input-shape", "1,3"], "os:getcwd: made str; it may make a lucid.nn.Module"),
        (["--onnx", "json:loads"], "json:loads: say the shape of its input by --input-shape"),
        (["--onnx", "json:loads", "--input-shape", "1,x"], "got '1,x'; it may be numbers, such as 1,3,224,224"),
        (["--onnx", "missing.onnx"], "missing.onnx"),
        (["--onnx", "narrow", "--optimizer", "sgd"], "--optimizer is a part of --gradients"),
        (["--onnx", "narrow", "--gradients", "--precision", "float16"], "--gradients and --precision exclude"),
        (["--onnx", "narrow", "--gradients", "--opset", "13", *OPTIONS], "from opset 16 on"),
        (["--onnx", "narrow", "--precision", "int8"], "--precision int8 and --calibrate FILE.npz belong together"),
        (["--onnx", "narrow", "--precision", "bfloat16", *OPTIONS], "bfloat16 needs 22 or newer"),
        (["--onnx", "narrow", "--precision", "float16", "--verify"], "--verify is for float32"),
        (
            ["--onnx", "narrow", "--precision", "int8", "--calibrate", "missing.npz", *OPTIONS],
            "missing.npz: cannot be read as an .npz file",
        ),
    ],
)
def test_wrong_usage(capsys, arguments, words):
    assert words in fails(capsys, *arguments)


def test_an_onnx_file_is_not_overwritten(capsys):
    assert run(capsys, "--onnx", "narrow", *OPTIONS)[0] == 0
    assert "narrow.onnx would be overwritten; say where to write by --output" in fails(capsys, "--onnx", "narrow.onnx")


FAILING = """
from lucid import nn

class Net(nn.Module):
    def forward(self, x):
        return {}["nothing"]

def made():
    raise KeyError("no data")
"""


def test_factories_that_fail(capsys, tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    given = ["--input-shape", "1,3"]
    assert "failing:made: raised KeyError: 'no data'" in fails(capsys, "--onnx", "failing:made", *given)
    assert "Net: its forward raised KeyError: 'nothing'" in fails(capsys, "--onnx", "failing:Net", *given)


def test_calibration_data_that_cannot_be_read(capsys, tmp_path):
    (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("junk.npz", "array.npy"):
        given = ["--precision", "int8", "--calibrate", name, *OPTIONS]
        assert f"{name}: cannot be read as an .npz file" in fails(capsys, "--onnx", "narrow", *given)


def test_hostile_onnx_files(capsys, tmp_path):
    (tmp_path / "junk.onnx").write_bytes(b"\xff" * 100)
    assert "junk.onnx" in fails(capsys, "--onnx", "junk.onnx", "-o", "other.onnx")


def test_gradients(capsys):
    pytest.importorskip("onnxruntime")
    status, out, err = run(capsys, "--onnx", "narrow", *OPTIONS, "--gradients", "--verify")
    assert (status, err) == (0, "")
    assert "(a train step)" in out
    assert "agrees" in out
    proto = onnx.load("narrow.onnx")
    assert [value.name for value in proto.graph.input[:2]] == ["input", "labels"]
    assert proto.graph.output[0].name == "loss"
    assert {"fc.weight.grad", "stem.1.running_mean.next"} <= {value.name for value in proto.graph.output}
    assert run(capsys, "--onnx", "narrow", *OPTIONS, "--gradients", "--optimizer", "sgd", "--batch", "2")[0] == 0
    assert {"fc.weight.next", "fc.weight.momentum.next"} <= {v.name for v in onnx.load("narrow.onnx").graph.output}


def test_a_corrupt_weights_file(capsys, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"\xff" * 100)
    assert "weights.safetensors" in fails(capsys, "--onnx", "narrow", "--weights", "weights.safetensors")


def test_weights_of_another_model(capsys):
    model = models.get_model("narrow")
    state = model.state_dict()
    del state["fc.bias"]
    lucid.save(state, "weights.safetensors")
    sentence = fails(capsys, "--onnx", "narrow", "--weights", "weights.safetensors")
    assert sentence == "lucid-export: weights.safetensors: does not fit narrow: missing: fc.bias\n"
    lucid.save({"x": lucid.ones(2)}, "weights.safetensors")
    sentence = fails(capsys, "--onnx", "narrow", "--weights", "weights.safetensors")
    assert "missing: stem.0.weight; missing: stem.1.weight;" in sentence
    assert sentence.endswith("; and 35 more\n")


def test_a_full_disk(capsys, monkeypatch, tmp_path):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "narrow.onnx").write_bytes(b"the older one")
    monkeypatch.setattr(_write.os, "fsync", full)
    assert "No space left on device" in fails(capsys, "--onnx", "narrow", *OPTIONS)
    assert (tmp_path / "narrow.onnx").read_bytes() == b"the older one"


@pytest.mark.parametrize("package", ["click", "rich", "onnx", "onnxruntime"])
def test_a_missing_package(capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    sentence = fails(capsys, "--onnx", "narrow", "--verify")
    assert f"needs the package {package}" in sentence
    assert "pip install 'lucid-oracle[onnx]'" in sentence


# -- interruption ----------------------------------------------------------------------------------------------------


def test_control_c(capsys, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(_write.os, "fsync", interrupt)
    assert "interrupted" in fails(capsys, "--onnx", "narrow", *OPTIONS, status=130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_writes(tmp_path, number):
    """A real process, stopped while its temporary file is there."""
    script = (
        "import signal, time, lucid.onnx._write as w\n"
        "from lucid.onnx.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it\n"
        "from lucid import models, nn\n"
        "w.os.fsync = lambda descriptor: time.sleep(60)\n"
        "models.registry._factories['line'] = lambda: nn.Sequential(nn.Conv2d(3, 4, 1))\n"
        "main(['--onnx', 'line', '--image-size', '4'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "lucid-export: interrupted; no file is left half-written\n"
    assert list(tmp_path.iterdir()) == []


def test_signal_handlers_are_put_back(capsys):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        run(capsys, "--onnx", "narrow", *OPTIONS)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


# -- progress --------------------------------------------------------------------------------------------------------


def test_progress_on_a_terminal_only(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's way to be told that it speaks to a terminal
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    _, _, err = run(capsys, "--onnx", "narrow", *OPTIONS)
    assert "writing" in err or "checking" in err
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.delenv("TTY_COMPATIBLE")
    assert run(capsys, "--onnx", "narrow", *OPTIONS)[2] == ""


def test_a_runtime_that_fails_is_no_disagreement(capsys, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")

    class Dead:
        def __init__(self, *arguments, **options):
            pass

        def get_inputs(self):
            raise KeyError("out of memory")

    monkeypatch.setattr(runtime, "InferenceSession", Dead)
    status, _, err = run(capsys, "--onnx", "narrow", *OPTIONS, "--verify")
    assert (status, err.count("\n")) == (2, 1)
    assert "narrow.onnx on an input of shape (1, 3, 32, 32)" in err
