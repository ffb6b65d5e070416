"""Saving and loading: what comes back, what is refused, and what is left behind (nothing)."""

from __future__ import annotations

import json
import os
import signal
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


WIDENED = {
    "bfloat16": (torch.bfloat16, np.uint16),
    "float8_e5m2": (torch.float8_e5m2, np.uint8),
    "float8_e4m3fn": (torch.float8_e4m3fn, np.uint8),
}


@pytest.mark.parametrize("name", WIDENED)
def test_narrow_floats_are_widened_exactly(tmp_path: Path, name: str) -> None:
    """Every one there is."""
    dtype, integers = WIDENED[name]
    codes = np.arange(np.iinfo(integers).max + 1, dtype=integers).reshape(2, -1)
    stored = torch.from_numpy(codes.astype(f"i{codes.itemsize}")).view(dtype)
    safetensors.torch.save_file({"x": stored}, tmp_path / "x")
    loaded = lucid.load(tmp_path / "x")["x"]
    assert loaded.dtype == np.float32
    expected = stored.float().numpy()
    assert np.isnan(loaded.numpy()).tolist() == np.isnan(expected).tolist()
    kept = ~np.isnan(expected)
    assert loaded.numpy()[kept].tobytes() == expected[kept].tobytes()


def test_a_bfloat16_checkpoint_fits_a_model(tmp_path: Path) -> None:
    weight = torch.tensor([[1.5, -2.25]], dtype=torch.bfloat16)
    safetensors.torch.save_file({"weight": weight, "bias": torch.ones(1, dtype=torch.float64)}, tmp_path / "x")
    model = lucid.nn.Linear(2, 1)
    model.load_state_dict(lucid.load(tmp_path / "x"))
    assert model.weight.numpy().tolist() == [[1.5, -2.25]]
    assert model.weight.dtype == model.bias.dtype == np.float32


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    """Without their scale they are no weights."""
    safetensors.torch.save_file({"weight": torch.ones(1, 2, dtype=torch.int8), "bias": torch.ones(1)}, tmp_path / "x")
    with pytest.raises(RuntimeError, match="wrong dtype: weight is int8, must be float32"):
        lucid.nn.Linear(2, 1).load_state_dict(lucid.load(tmp_path / "x"))


def file_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


EIGHT = bytes(8)
UNSOUND: dict[str, tuple[bytes, str]] = {
    "a dtype of no bytes": (file_of({"x": entry("F4", [4])}, EIGHT), "has the dtype 'F4'; may be one of F64, F32"),
    "scales": (file_of({"x": entry("F8_E8M0", [8])}, EIGHT), "has the dtype 'F8_E8M0'"),
    "complex numbers": (file_of({"x": entry("C64", [1])}, EIGHT), "has the dtype 'C64'"),
    "a number as dtype": (file_of({"x": entry(32)}, EIGHT), "has the dtype 32"),
    "a list as dtype": (file_of({"x": entry([])}, EIGHT), "has the dtype \\[\\]"),
    "more than the file": (file_of({"x": entry(shape=[2**50], offsets=[0, 2**52])}, EIGHT), "its header tells of"),
    "more than memory": (file_of({"x": entry(shape=[2**62], offsets=[0, 8])}, EIGHT), "has 8 bytes"),
    "beyond 64 bits": (file_of({"x": entry(shape=[2**80, 0], offsets=[0, 0])}), "beyond 64 bits"),
    "a product that overflows": (file_of({"x": entry(shape=[2**32, 2**32], offsets=[0, 0])}), "has 0 bytes"),
    "a negative side": (file_of({"x": entry(shape=[-2])}, EIGHT), "are no sizes"),
    "a side of 2.0": (file_of({"x": entry(shape=[2.0])}, EIGHT), "are no sizes"),
    "a side of true": (file_of({"x": entry(shape=[True, 2])}, EIGHT), "are no sizes"),
    "no shape": (file_of({"x": entry(shape=None)}, EIGHT), "are no sizes"),
    "many sides": (file_of({"x": entry(shape=[1] * 65 + [2])}, EIGHT), "are no sizes"),
    "offsets turned round": (file_of({"x": entry(offsets=[8, 0])}, EIGHT), "has -8 bytes"),
    "one offset": (file_of({"x": entry(offsets=[8])}, EIGHT), "are no sizes"),
    "a hole": (file_of({"x": entry(offsets=[8, 16])}, bytes(16)), "begins at byte 8, where 0"),
    "an overlap": (file_of({"x": entry(), "y": entry(offsets=[4, 12])}, bytes(12)), "begins at byte 4, where 8"),
    "bytes of nobody": (file_of({"x": entry()}, bytes(9)), "its header tells of"),
    "something more": (file_of({"x": entry(extra=1)}, EIGHT), "and nothing else"),
    "an entry of text": (file_of({"x": "F32"}, EIGHT), "and nothing else"),
    "twice": (file_of(b'{"x":1,"x":2}'), "names something twice"),
    "a list": (file_of([1]), "no list of tensors"),
    "no text": (file_of(b"\xff\xfe{}"), "is not text"),
    "no JSON": (file_of(b"{'x'}"), "is not JSON"),
    "nested": (file_of(b"[" * 200_000), "nested too deeply"),
    "nested entries": (file_of(b'{"x":' * 200_000), "nested too deeply"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}}), "metadata is not text"),
    "a long header": ((2**40).to_bytes(8, "little") + b"{}", "ends within its header"),
    "a truth of 7": (file_of({"x": entry("BOOL", [8])}, EIGHT[:7] + b"\7"), "is BOOL, but holds 7"),
    "a pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94", "looks like a pickle, as torch.save writes"),
    "PyTorch's archive": (b"PK\x03\x04" + bytes(40), "looks like a pickle, as torch.save writes"),
    "a long name": (file_of({"x" * 100_000: entry("F4")}, EIGHT), "tensor 'xxx"),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    content, words = UNSOUND[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match=words) as caught:
        lucid.load(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: cannot be read as a safetensors file: ")
    assert "\n" not in told
    assert len(told) < 400 + len(str(path))


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_begins_as_a_pickle_does(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.safetensors"
    lucid.save({"x": lucid.ones(1)}, path)
    (size,), content = np.frombuffer(path.read_bytes()[:8], np.int64), path.read_bytes()
    path.write_bytes(
        length.to_bytes(8, "little") + content[8 : 8 + size] + b" " * (length - size) + content[8 + size :]
    )
    assert path.read_bytes()[:2] in (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")
    assert lucid.load(path)["x"].tolist() == [1.0]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(FileError, match=r"cannot be read: it is a .*, not a regular file"):
            lucid.load(path)
    with pytest.raises(FileError, match="cannot be read: it is a directory, not a regular file"):
        lucid.load(tmp_path)


def test_data_that_is_nested_too_deeply(tmp_path: Path) -> None:
    data: list[Any] = []
    for _ in range(100_000):
        data = [data]
    itself: dict[str, Any] = {}
    itself["itself"] = itself
    for each in (data, itself):
        with pytest.raises(TypeError, match="nested too deeply"):
            lucid.save(each, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    tree = '["list",[' * 100_000
    safetensors.numpy.save_file({"x": np.zeros(1)}, tmp_path / "x", {"lucid.tree": tree})
    with pytest.raises(FileError, match="nested too deeply"):
        lucid.load(tmp_path / "x")


# -- what is written over --------------------------------------------------------------------------------------------


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "folder").mkdir()
    for name, words in {
        "/dev/null": "it is a character device, not a regular file",
        "fifo": "it is a FIFO, not a regular file",
        "link": "it is a FIFO, not a regular file",
        "folder": "it is a directory, not a regular file",
        "circle": "cannot be written",
        "a\0b": "cannot be written",
    }.items():
        with pytest.raises(FileError, match=words):
            lucid.save({"x": lucid.ones(1)}, tmp_path / name)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["circle", "fifo", "folder", "link"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "x")
    for value in (0.0, 1.0):  # made, and replaced
        lucid.save({"x": lucid.tensor([value])}, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert not (tmp_path / "there" / "x").is_symlink()
        assert lucid.load(tmp_path / "there" / "x")["x"].tolist() == [value]
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["x"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    lucid.save({"x": lucid.zeros(1)}, tmp_path / "x")
    (tmp_path / "x").chmod(mode)
    lucid.save({"x": lucid.ones(1)}, tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


INTERRUPTED = """
import os, signal, sys
import safetensors.numpy
import lucid
path, name, kind = sys.argv[1:]
number = getattr(signal, name)
if kind == "default":
    signal.signal(number, signal.SIG_DFL)
def handler(number, frame):
    print("the program's own", flush=True)
if kind == "own":
    signal.signal(number, handler)
before = signal.getsignal(number)
whole = safetensors.numpy.save_file
def half(arrays, filename, metadata=None):
    open(filename, "wb").write(b"half of it")
    os.kill(os.getpid(), number)
    whole(arrays, filename, metadata)
safetensors.numpy.save_file = half
lucid.save({"x": lucid.ones(2)}, path)
assert signal.getsignal(number) == before
print("went on")
"""


@pytest.mark.parametrize("kind", ["as it starts", "default", "own"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, name: str, kind: str) -> None:
    """What ends a program still ends it; what the program handles itself is left to it."""
    path = tmp_path / "x"
    lucid.save({"x": lucid.zeros(2)}, path)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(path), name, kind],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    if kind == "own":
        assert (done.returncode, done.stdout) == (0, "the program's own\nwent on\n"), done.stderr
        assert lucid.load(path)["x"].tolist() == [1, 1]
    else:
        assert done.returncode == -getattr(signal, name), done.stderr
        assert lucid.load(path)["x"].tolist() == [0, 0]


NESTED = """
import os, signal, sys
from pathlib import Path
from lucid.files import atomic_write, new_directory
number = getattr(signal, sys.argv[2])
signal.signal(number, signal.SIG_DFL)
with new_directory(Path(sys.argv[1], "made")) as folder:
    with atomic_write(folder / "file") as path:
        path.write_text("half of it")
        os.kill(os.getpid(), number)
    print("went on")
print("went on")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_a_directory_with_the_file_in_it(tmp_path: Path, name: str) -> None:
    given = [sys.executable, "-c", NESTED, str(tmp_path), name]
    done = subprocess.run(given, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-getattr(signal, name), ""), done.stderr
    assert list(tmp_path.iterdir()) == []


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
