"""Saving and loading: what comes back, what is refused, and what is left behind (nothing)."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import lucid
from lucid.io import FileError, atomic_write


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
def test_every_dtype_and_shape_comes_back(tmp_path: Path, dtype: str) -> None:
    arrays = {
        "matrix": np.arange(6).reshape(2, 3).astype(dtype),
        "turned": np.arange(6).reshape(2, 3).T.astype(dtype),
        "every other": np.arange(6).astype(dtype)[::2],
        "number": np.array(1).astype(dtype),
        "empty": np.zeros((0, 3), dtype),
    }
    lucid.save({name: lucid.tensor(a) for name, a in arrays.items()}, tmp_path / "x")
    loaded = lucid.load(tmp_path / "x")
    assert list(loaded) == list(arrays) or set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name].numpy(), array)


def test_bits_come_back(tmp_path: Path) -> None:
    bits = np.array([0x7FC00001, 0xFFC00000, 0x80000000, 1, 0x7F800000], np.uint32).view(np.float32)
    lucid.save({"x": bits}, tmp_path / "x")
    assert lucid.load(tmp_path / "x")["x"].numpy().tobytes() == bits.tobytes()


def test_a_network_comes_back(tmp_path: Path) -> None:
    make = lambda: lucid.nn.Sequential(lucid.nn.Conv2d(1, 2, 3), lucid.nn.BatchNorm2d(2))  # noqa: E731
    a, b = make(), make()
    a(lucid.random.randn(2, 1, 5, 5))
    lucid.save(a.state_dict(), str(tmp_path / "net.safetensors"), {"origin": "test"})
    b.load_state_dict(lucid.load(str(tmp_path / "net.safetensors")))
    for name, value in a.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), b.state_dict()[name].numpy())
    with safetensors.safe_open(tmp_path / "net.safetensors", "numpy") as file:
        assert file.metadata() == {"origin": "test"}


def test_files_are_pytorchs_too(tmp_path: Path) -> None:
    lucid.save({"x": lucid.tensor([1.0, 2.0])}, tmp_path / "ours")
    assert safetensors.torch.load_file(tmp_path / "ours")["x"].tolist() == [1.0, 2.0]
    safetensors.torch.save_file({"x": torch.tensor([3.0])}, tmp_path / "theirs")
    assert lucid.load(tmp_path / "theirs")["x"].tolist() == [3.0]


def test_nested_data_comes_back(tmp_path: Path) -> None:
    data = {
        "state": {0: {"buffer": lucid.ones(2), "steps": 3}, 1: {}},
        "groups": [{"lr": 0.1, "params": [0, 1], "nesterov": True, "name": None}],
        "pair": (1, "two"),
        "number": float("inf"),
    }
    lucid.save(data, tmp_path / "x")
    loaded = lucid.load(tmp_path / "x")
    assert loaded["state"][0].pop("buffer").tolist() == [1.0, 1.0]
    del data["state"][0]["buffer"]  # type: ignore[index]
    assert loaded == data
    lucid.save([lucid.zeros(1)], tmp_path / "y")
    assert lucid.load(tmp_path / "y")[0].tolist() == [0.0]


def test_names_that_look_like_paths_do_not_collide(tmp_path: Path) -> None:
    data = {"a/b": {"c": lucid.ones(1)}, "a": {"b": {"c": lucid.zeros(1)}}, "n": 1}
    lucid.save(data, tmp_path / "x")
    loaded = lucid.load(tmp_path / "x")
    assert (loaded["a/b"]["c"].item(), loaded["a"]["b"]["c"].item()) == (1.0, 0.0)


BAD: dict[str, tuple[Any, str]] = {
    "an object": ({"a": {"b": object()}}, "save: got object at /a/b"),
    "a key": ({"a": {1.5: 1}}, "got the key 1.5 in /a"),
    "a set": ({1, 2}, "save: got set at the top"),
    "complex numbers": ({"z": np.zeros(1, complex)}, "z: dtype: got complex128"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_saved_is_refused_and_writes_nothing(tmp_path: Path, name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(TypeError, match=message):
        lucid.save(data, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


CORRUPT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda b: b"",
    "cut in the header": lambda b: b[:20],
    "cut in the data": lambda b: b[:-1],
    "longer": lambda b: b + b"\0",
    "text": lambda b: b"hello, world, this is no such file",
    "a pickle": lambda b: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
    "a huge header": lambda b: b"\xff" * 8 + b[8:],
    "a broken header": lambda b: b.replace(b'"dtype"', b'"dtipe"'),
    "an unknown dtype": lambda b: b.replace(b'"F32"', b'"F99"'),
    "offsets": lambda b: b.replace(b"[0,8]", b"[4,8]"),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_file_is_one_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    lucid.save({"x": lucid.ones(2)}, path)
    path.write_bytes(CORRUPT[name](path.read_bytes()))
    with pytest.raises(FileError, match=r"x\.safetensors: cannot be read"):
        lucid.load(path)


@pytest.mark.parametrize("tree", ["no json", "[]", '["tensor","gone"]', '["magic",1]', "3", '["dict",[1]]'])
def test_a_corrupt_structure_is_one_error(tmp_path: Path, tree: str) -> None:
    safetensors.numpy.save_file({"x": np.zeros(1)}, tmp_path / "x", {"lucid.tree": tree})
    with pytest.raises(FileError, match=r"does not hold what lucid\.save writes"):
        lucid.load(tmp_path / "x")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        lucid.load(tmp_path / "nothing")
    with pytest.raises(FileError, match="cannot be read"):
        lucid.load(tmp_path)
    with pytest.raises(FileError, match="no directory"):
        lucid.save({"x": lucid.ones(1)}, tmp_path / "nowhere" / "x")


def test_dtypes_that_lucid_does_not_have(tmp_path: Path) -> None:
    safetensors.torch.save_file({"x": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "x")
    with pytest.raises(FileError, match="x"):
        lucid.load(tmp_path / "x")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), RuntimeError("io"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    path = tmp_path / "x"
    lucid.save({"x": lucid.ones(2)}, path)
    before = path.read_bytes()

    def full(arrays: Any, filename: str, metadata: Any = None) -> None:
        Path(filename).write_bytes(b"half of it")
        raise failure

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else FileError
    with pytest.raises(expected) as caught:
        lucid.save({"x": lucid.zeros(2)}, path)
    if expected is FileError:
        assert "cannot be written" in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_write_that_the_system_refuses_is_one_error(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
import lucid
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
lucid.save({"x": lucid.ones(10)}, sys.argv[1])
try:
    lucid.save({"x": lucid.ones(100_000)}, sys.argv[1])
except lucid.io.FileError as error:
    print(error)
"""
    # -B: the limit would cut off the byte code that imports leave, too, and later processes would trip over it.
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path / "x")], capture_output=True, text=True, check=True, timeout=60
    )
    assert "cannot be written" in done.stdout
    assert done.stdout.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert lucid.load(tmp_path / "x")["x"].shape == (10,)


def test_saving_replaces_and_keeps_to_the_umask(tmp_path: Path) -> None:
    for value in (0.0, 1.0):
        lucid.save({"x": lucid.tensor([value])}, tmp_path / "x")
    assert lucid.load(tmp_path / "x")["x"].tolist() == [1.0]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


def test_saving_writes_a_new_file_and_not_into_the_old(tmp_path: Path) -> None:
    lucid.save({"x": lucid.zeros(1)}, tmp_path / "x")
    (tmp_path / "link").hardlink_to(tmp_path / "x")
    lucid.save({"x": lucid.ones(1)}, tmp_path / "x")
    assert lucid.load(tmp_path / "link")["x"].item() == 0.0


def test_atomic_write(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as path:
        path.write_text("one")
        assert not (tmp_path / "a").exists()
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "a") as path:  # noqa: PT012
        path.write_text("two")
        raise ZeroDivisionError
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "one")]


def test_without_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        lucid.save({"x": lucid.ones(1)}, tmp_path / "x")


def test_the_structure_is_readable_without_lucid(tmp_path: Path) -> None:
    lucid.save({"a": [lucid.ones(1), 2]}, tmp_path / "x")
    with safetensors.safe_open(tmp_path / "x", "numpy") as file:
        tree = json.loads(file.metadata()["lucid.tree"])
        assert tree[0] == "dict"
        assert list(file.keys()) == ["/a/0"]
