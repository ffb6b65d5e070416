"""Models of one's own: a factory of lucid or PyTorch, or an ONNX file; checked, stored, and checked by that."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import lucid
from lucid import nn
from lucid.onnx import export
from oracle import cli
from oracle.errors import UsageError
from oracle.run import check

FACTORIES = """
import torch
from lucid import nn

class Net(torch.nn.Module):
    def __init__(self, eps=1e-5):
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.BatchNorm2d(4, eps)
        self.act, self.norm = torch.nn.GELU(), torch.nn.LayerNorm(6)
        self.pool, self.head = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Linear(4, 3)

    def forward(self, x):
        y = self.act(self.bn(self.conv(x)))
        return self.head(self.pool(self.norm(y) + y).flatten(1))

class Tokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(11, 6), torch.nn.Linear(6, 5)

    def forward(self, tokens):
        return self.head(torch.softmax(self.embed(tokens), -1))

def net():
    return Net()

def tokens():
    return Tokens()

def of_lucid():
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))

def of_torch():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))

def smaller():
    return torch.nn.Sequential(torch.nn.Linear(4, 7), torch.nn.GELU(), torch.nn.Linear(7, 3))

def dropping():
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))

def number():
    return 3
"""


@pytest.fixture(autouse=True)
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    return cli.run([*arguments, "-q"])


@pytest.mark.parametrize(
    ("factory", "given"), [("net", {"shape": (2, 2, 6, 6)}), ("tokens", {"shape": (2, 5), "tokens": 11})]
)
def test_a_module_of_pytorch_is_checked(factory: str, given: dict[str, object]) -> None:
    verdict = check(f"nets.py:{factory}", ["lucid", "torch", "onnxruntime"], **given)  # type: ignore[arg-type]
    for case in verdict.cases:
        assert "PyTorch float64 agrees" in case.truth
        assert all(subject.agrees for subject in case.subjects), [subject.sentence() for subject in case.subjects]
    names = {
        layer.name for subject in verdict.cases[0].subjects if subject.subject == "torch" for layer in subject.observed
    }
    assert {"net": {"conv", "bn", "act", "norm", "pool", "head"}, "tokens": {"embed", "head"}}[factory] <= names


def test_one_origin_speaks_alone_unless_there_is_a_mirror(capsys: pytest.CaptureFixture[str]) -> None:
    model = ("check", "nets.py:of_lucid", "--input-shape", "5x4")
    assert run(*model, "--subject", "lucid") == 0
    assert "one origin alone, which no PyTorch module confirms" in capsys.readouterr().out
    assert run(*model, "--mirror", "nets.py:of_torch") == 0
    out = capsys.readouterr().out
    assert "PyTorch float64 agrees" in out
    assert "torch (own) agrees in all" in out
    assert run(*model, "--mirror", "nets.py:smaller") == 2
    assert "its mirror in PyTorch: the weights do not fit" in capsys.readouterr().err


def test_an_onnx_file_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).eval()
    export(model, lucid.zeros((2, 2, 6, 6)), tmp_path / "small.onnx")
    np.savez(tmp_path / "given.npz", input=np.random.default_rng(0).standard_normal((2, 2, 6, 6)))
    assert run("check", "small.onnx", "--input", "given.npz", "--subject", "lucid,onnxruntime") == 0
    assert "small-train" in capsys.readouterr().out
    np.savez(tmp_path / "given.npz", input=np.zeros((2, 3, 6, 6)))
    assert run("check", "small.onnx", "--input", "given.npz") == 2


def test_what_is_stored_is_checked_by_and_another_model_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("golden", "make", "nets.py:net", "--input-shape", "2x2x6x6", "-o", "goldens", "--mode", "eval") == 0
    assert cli.run(["golden", "verify", "--directory", "goldens"]) == 0
    by_stored = ("check", "nets.py:net", "--mode", "eval", "--directory", "goldens")
    assert run(*by_stored) == 0  # the factory draws other weights each time
    assert re.search(r"all \d+ digests are the golden's", capsys.readouterr().out)
    (tmp_path / "nets.py").write_text(FACTORIES.replace("return Net()", "return Net(1e-3)"))
    from oracle.networks.given import given_network

    given_network.cache_clear()
    assert run(*by_stored) == 2
    assert "the model is not what it was" in capsys.readouterr().err
    weights = tmp_path / "goldens" / "nets-net-eval.weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert cli.run(["golden", "verify", "--directory", "goldens"]) == 2
    assert "its SHA-256 is not the manifest's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        ("nets.py:net", {}, "does not say what shape its input has"),
        ("nets.py:nothing", {}, "has no nothing that can be called"),
        ("nowhere:net", {}, "cannot be made: ModuleNotFoundError"),
        ("nets.py:number", {}, "made a int; may be a module of lucid or of PyTorch"),
        ("missing.onnx", {}, "cannot be made: FileNotFoundError"),
        ("nets.py:of_lucid", {"shape": (2, 5)}, "cannot be traced with an input of shape"),
        ("nets.py:dropping", {"shape": (2, 4), "mode": "train"}, "when it is traced"),
        ("nets.py:of_lucid", {"shape": (4,), "mode": "train"}, "without an axis of classes"),
        ("resnet_18", {"shape": (4,)}, "has an input and a mirror of its own"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence(model: str, given: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(model, ["lucid"], **given)  # type: ignore[arg-type]
