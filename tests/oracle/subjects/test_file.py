"""Subjects from outside: a file of tensors, and a class of somebody's own."""

from __future__ import annotations

import io
import json
import pickle
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from oracle.case.case import Case, read_weights
from oracle.errors import UsageError
from oracle.resnets import find_architecture
from oracle.subjects import find_subject
from oracle.subjects.file import FileSubject, file_name, parse_name, read_trace
from oracle.trace import KINDS, Trace

EXAMPLE = Path(__file__).parents[3] / "examples" / "numpy_runtime.py"
TENSORS: dict[str, np.ndarray] = {
    "activation/stem.0": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    "activation/fc": np.linspace(0, 1, 4, dtype=np.float64),
    "activation_gradient/fc": np.array([0.5, np.inf], np.float16),
    "parameter_gradient/fc.bias": np.array([np.nan], np.float32),
    "loss": np.array([2.5], np.float32),
    "images": np.zeros(3, np.uint8),
    "layer1": np.zeros(3, np.float32),
}


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **tensors)  # type: ignore[arg-type]
    else:
        save_file(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_both_formats_hold_the_same(tmp_path: Path, suffix: str) -> None:
    found = read_trace(write(tmp_path / f"trace{suffix}", TENSORS))
    assert set(found.strangers) == {"images", "layer1"}
    assert {file_name(key) for key in found.trace} == set(TENSORS) - set(found.strangers)
    for key in found.trace:
        expected = TENSORS[file_name(key)]
        assert np.array_equal(found.trace[key].reshape(-1), expected.reshape(-1), equal_nan=True)
        assert found.stored[key] == expected.dtype.name
    assert found.trace["loss", "loss"].shape == ()


def test_a_compressed_archive_and_the_other_byte_order(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "trace.npz", **{"activation/fc": TENSORS["activation/fc"].astype(">f4")})  # type: ignore[arg-type]
    found = read_trace(tmp_path / "trace.npz")
    assert np.array_equal(found.trace["activation", "fc"], TENSORS["activation/fc"].astype(np.float32))
    assert found.stored["activation", "fc"] == "float32"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_bfloat16_is_widened_exactly(tmp_path: Path, suffix: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    exact = np.array([[1.0, -2.5, 3.0e38], [np.inf, 2.0**-130, 0.0]], np.float32)
    path = tmp_path / f"trace{suffix}"
    if suffix == ".npz":
        np.savez(path, **{"activation/fc": exact.astype(ml_dtypes.bfloat16)})
    else:
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file as save_torch

        others = {"activation/a": torch.ones(3), "activation/z": torch.ones(5, dtype=torch.float64)}
        save_torch({"activation/fc": torch.from_numpy(exact).bfloat16(), **others}, path)
    found = read_trace(path)
    expected = exact.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(found.trace["activation", "fc"], expected)
    assert found.stored["activation", "fc"] == "bfloat16"


def test_a_saved_trace_keeps_its_order(tmp_path: Path) -> None:
    trace = Trace()
    for name in ("z", "a", "m"):
        trace.record("activation", name, np.zeros(1))
    trace.save(tmp_path / "trace.safetensors")
    assert list(read_trace(tmp_path / "trace.safetensors").trace) == list(trace)


@pytest.mark.parametrize("kind", KINDS)
def test_names_round_trip(kind: Any) -> None:
    for name in ("fc", "layer1.0.conv1.weight", "a/b"):
        assert parse_name(file_name((kind, name))) == (kind, name)
    assert parse_name("loss") == ("loss", "loss") == parse_name("loss/loss")


@pytest.mark.parametrize("name", ["", "fc", "activation", "activation/", "Activation/fc", "/fc", "losses"])
def test_other_names_are_none_of_a_trace(name: str) -> None:
    assert parse_name(name) is None


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was run",))


def broken_files(folder: Path) -> dict[str, Path]:
    """Files that are no sound traces, by the words that have to stand in the sentence about each."""
    sound = write(folder / "sound.safetensors", TENSORS).read_bytes()
    archive = write(folder / "sound.npz", TENSORS).read_bytes()
    (folder / "short.safetensors").write_bytes(sound[:-5])
    (folder / "header.safetensors").write_bytes(sound[:60])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "short.npz").write_bytes(archive[: len(archive) // 2])
    damaged = bytearray(archive)
    damaged[200] ^= 0xFF
    (folder / "damaged.npz").write_bytes(bytes(damaged))
    (folder / "model.pt").write_bytes(pickle.dumps({"activation/fc": Bomb()}))
    np.savez(folder / "objects.npz", **{"activation/fc": np.array([Bomb()], dtype=object)})  # type: ignore[arg-type]
    with zipfile.ZipFile(folder / "text.npz", "w") as text:
        text.writestr("activation/fc.npy", "no array")
    with zipfile.ZipFile(folder / "twice.npz", "w") as twice:
        member = zipfile.ZipFile(folder / "sound.npz").read("activation/fc.npy")
        twice.writestr("activation/fc.npy", member)
        with pytest.warns(UserWarning, match="Duplicate"):
            twice.writestr("activation/fc.npy", member)
    write(folder / "integers.npz", {"activation/fc": np.zeros(3, np.int8)})
    write(folder / "integers.safetensors", {"activation/fc": np.zeros(3, np.int32)})
    header = json.dumps({"activation/fc": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}).encode()
    (folder / "offsets.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return {
        "short.safetensors": "neither a sound safetensors",
        "header.safetensors": "neither a sound safetensors",
        "empty.safetensors": "neither a sound safetensors",
        "short.npz": "not a sound .npz",
        "damaged.npz": "not a sound .npz",
        "model.pt": "reading one would run what is in it",
        "objects.npz": "Object arrays cannot be loaded",
        "text.npz": "not a sound .npz",
        "twice.npz": "activation/fc is there twice",
        "integers.npz": "is stored as int8; may be float64, float32",
        "integers.safetensors": "is stored as int32; may be",
        "offsets.safetensors": "neither a sound safetensors",
        "missing.npz": "cannot read",
        "": "cannot read",
    }


def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    for name, words in broken_files(tmp_path).items():
        with pytest.raises(UsageError, match=words) as caught:
            read_trace(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_subject_knows_its_mode_and_precision(tmp_path: Path) -> None:
    step = write(tmp_path / "step.npz", TENSORS)
    forward = write(tmp_path / "for:ward.npz", {"activation/fc": np.zeros(3, np.float32)})
    subject = find_subject(f"file:{step}:bfloat16")
    assert isinstance(subject, FileSubject)
    assert (subject.label, subject.precision, subject.modes) == ("file:step.npz:bfloat16", "bfloat16", {"train"})
    subject = find_subject(f"file:{forward}")
    assert (subject.label, subject.precision, subject.modes) == ("file:for:ward.npz", "float32", {"eval"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file", "file takes a path"),
        ("file:float32", "file takes a path"),
        ("file:x.npz:float16:float32", "'float32' is a second precision for file, which has float16"),
        ("file:missing.npz", "cannot read missing.npz"),
    ],
)
def test_wrong_file_subjects(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_subject(text)


def test_a_file_without_any_tensor_of_a_trace_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.npz", {"fc.weight": np.zeros(3, np.float32)})
    with pytest.raises(UsageError, match="holds no tensor of a trace; names are such as activation/"):
        find_subject(f"file:{path}")


# -- sizes ------------------------------------------------------------------------------------------------------------


def a_bomb(path: Path, name: str, elements: int) -> Path:
    """An .npz of one array of zeros, a thousandth as large as what it unpacks to."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (elements,)})
    block = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as file:
        file.write(header.getvalue())
        for _ in range(4 * elements >> 20):
            file.write(block)
    return path


SHAPES: dict[Any, tuple[int, ...]] = {("activation", "fc"): (2, 10), ("loss", "loss"): ()}


@pytest.mark.parametrize("name", ["strange", "activation/strange", "activation/fc"])
def test_what_nobody_compares_is_not_read(name: str, tmp_path: Path) -> None:
    path = a_bomb(tmp_path / "bomb.npz", name, 64 << 20)  # 256 MiB
    with zipfile.ZipFile(path, "a") as archive, archive.open("loss.npy", "w") as file:
        np.lib.format.write_array(file, np.float32(2.5).reshape(()))
    tracemalloc.start()
    found = read_trace(path, SHAPES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert float(found.trace["loss", "loss"]) == 2.5
    key = parse_name(name)
    assert (key is None) == (found.strangers == (name,))
    assert key is None or found.trace[key].shape == (64 << 20,)  # of the wrong shape, which is out of line


def test_what_is_small_is_read_whatever_its_shape(tmp_path: Path) -> None:
    tensors = {"activation/fc": np.ones((10, 2), np.float32), "activation/other": np.full(7, 3.0, np.float32)}
    found = read_trace(write(tmp_path / "trace.npz", tensors), SHAPES)
    assert found.trace["activation", "fc"].sum() == 20
    assert found.trace["activation", "other"].sum() == 21


def lying_archives(folder: Path) -> Iterator[Path]:
    """Archives whose headers promise what they do not hold."""

    def archive(name: str, header: bytes, content: bytes = b"") -> Path:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("activation/fc.npy", header + content)
        return folder / name

    def described(shape: str, descr: str = "'<f4'") -> bytes:
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text

    yield archive("huge.npz", described(f"({2**62}, {2**62})"))
    yield archive("large.npz", described("(1000000000,)"), bytes(4))
    yield archive("negative.npz", described("(-1,)"), bytes(4))
    yield archive("nested.npz", described("(" * 3000))
    yield archive("code.npz", described("__import__('os').getpid()"))
    yield archive("structured.npz", described("(1,)", "[('a', '<f4')]"), bytes(4))
    yield archive("objects.npz", described("(1,)", "'|O'"), bytes(8))
    yield archive("version.npz", b"\x93NUMPY\x09\x00" + bytes(50))
    yield archive("long.npz", b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little"), bytes(1 << 20))
    yield archive("trailing.npz", described("(1,)"), bytes(5))


def test_headers_are_not_believed(tmp_path: Path) -> None:
    tracemalloc.start()
    for path in lying_archives(tmp_path):
        with pytest.raises(UsageError, match=r"trace: .*\.npz") as caught:
            read_trace(path)
        assert "\n" not in str(caught.value)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


FLOAT8 = ["float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", *FLOAT8])
def test_weights_of_every_float_are_read(dtype: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    exact = torch.tensor([[1.0, -2.5, 0.0], [448.0, 2.0**-6, -0.0]])
    counted = torch.tensor(3, dtype=torch.int64)
    save_torch({"fc.weight": exact.to(getattr(torch, dtype)), "bn.num_batches_tracked": counted}, tmp_path / "w")
    state = read_weights(tmp_path / "w")
    assert state["fc.weight"].dtype == np.float32
    assert np.array_equal(state["fc.weight"], exact.to(getattr(torch, dtype)).float().numpy())
    assert (state["bn.num_batches_tracked"].dtype, int(state["bn.num_batches_tracked"])) == (np.int64, 3)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint16", "bool"])
def test_integers_for_weights_are_refused_by_name(dtype: str, tmp_path: Path) -> None:
    save_file({"fc.bias": np.zeros(3, np.float32), "fc.weight": np.zeros((3, 3), dtype)}, tmp_path / "w")
    with pytest.raises(UsageError, match=rf"weights: .*'fc.weight' is stored as {dtype}; a parameter may be float64"):
        read_weights(tmp_path / "w")


def test_weights_of_a_larger_model_are_refused_unread(tmp_path: Path) -> None:
    save_file({"fc.weight": np.zeros((1 << 20, 8), np.float32)}, tmp_path / "w")
    with pytest.raises(UsageError, match="holds tensors of 34 MB, and this model's take at most 1 MB"):
        read_weights(tmp_path / "w", most=1 << 20)


# -- a class of somebody's own ----------------------------------------------------------------------------------------


def test_the_example_runtime_is_right() -> None:
    pytest.importorskip("torch")
    case = Case(find_architecture("resnet_18"), "eval", source="seeded", size=64)
    found, expected = find_subject(f"{EXAMPLE}:NumpyRuntime").trace(case), find_subject("torch:float64").trace(case)
    assert set(found) == set(expected)
    for key in expected:
        norm = np.linalg.norm(expected[key])
        assert np.linalg.norm(found[key] - expected[key]) < 2e-6 * norm, key


def test_a_module_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "from oracle import Subject\n"
        "class Mine(Subject):\n"
        "    def __init__(self, *options):\n"
        "        self.label = ':'.join(('mine', *options))\n"
        "    def run(self, case, recorder):\n"
        "        pass\n"
        "NOT_A_CLASS = 3\n"
    )
    (tmp_path / "my_runtime_1.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert find_subject("my_runtime_1:Mine").label == "mine"
    assert find_subject("my_runtime_1.py:Mine:fast:gpu").label == "mine:fast:gpu"
    for text in ("my_runtime_1:NOT_A_CLASS", "my_runtime_1:Missing", "json:JSONDecoder"):
        with pytest.raises(UsageError, match=r"has no class \w+ derived from oracle.Subject"):
            find_subject(text)


@pytest.mark.parametrize("known", [True, False])
def test_where_modules_are_looked_for_stays(known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = [str(tmp_path), *sys.path] if known else sys.path[:]
    monkeypatch.setattr(sys, "path", before[:])
    with pytest.raises(UsageError):
        find_subject("json:JSONDecoder")
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no_such_module:Mine", "no_such_module cannot be imported: ModuleNotFoundError"),
        ("lucit:native", "did you mean 'lucid'"),
        ("missing.py:Mine", "missing.py cannot be imported: FileNotFoundError"),
        ("my_runtime", "your own as MODULE:CLASS or PATH.py:CLASS"),
        (f"{EXAMPLE}:NumpyRuntime:fast", "cannot be made with the options"),
    ],
)
def test_what_is_no_subject_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_subject(text)


def test_a_module_that_fails_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UsageError, match="cannot be imported: ZeroDivisionError"):
        find_subject(f"{tmp_path}/broken.py:Mine")
