"""A file of named tensors, from anywhere, as a subject: for whoever has none of the runtimes that the oracle drives.

The file is safetensors or NumPy's .npz, and each tensor in it is named ``KIND/NAME``, as `oracle.trace` names them:

- ``activation/layer1.0.conv1``: the output of a layer or of a residual block (``activation/layer1.0``);
- ``activation_gradient/layer1.0.conv1``: the gradient of the loss by that output;
- ``parameter_gradient/layer1.0.conv1.weight``: the gradient by a parameter;
- ``loss``: the loss of a train step;
- ``statistic/layer1.0.bn1.running_mean`` (or without ``statistic/``, as a state dictionary has it), and
  ``running_var``: what a batch normalisation keeps after the train step.

Layouts are PyTorch's (NCHW; weights OIHW); elements are float64, float32, float16 or bfloat16. Nothing is unpickled.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from oracle.case import Case, Mode
from oracle.errors import UsageError
from oracle.subjects import Subject
from oracle.trace import KINDS, Key, Recorder, Trace

PRECISIONS = ("float64", "float32", "tf32", "bfloat16", "float16")
FLOATS = ("float64", "float32", "float16", "bfloat16")
_SAFETENSORS_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_NPZ_BFLOAT16 = np.dtype("V2")  # how NumPy stores the bfloat16 of ml_dtypes


@dataclass(frozen=True)
class TraceFile:
    """What a file of tensors holds.

    Attributes:
        trace: the tensors whose names a trace knows; bfloat16 widened to float32, which is exact.
        stored: the dtype in which the file stores each of them.
        strangers: the other names, in the file's order.
    """

    trace: Trace
    stored: Mapping[Key, str]
    strangers: tuple[str, ...] = field(default=())


def read_trace(path: Path) -> TraceFile:
    """Read the tensors of a .safetensors or .npz file.

    Raises:
        UsageError: the file is missing, corrupt, of another format, or holds a tensor that is not of floats.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "trace.npz"
        ...     np.savez(path, **{"activation/fc": np.zeros((1, 1000), np.float32), "input": np.zeros(3)})
        ...     found = read_trace(path)
        >>> list(found.trace), found.stored["activation", "fc"], found.strangers
        ([('activation', 'fc')], 'float32', ('input',))
    """
    try:
        with path.open("rb") as file:
            archive = file.read(2) == b"PK"
        tensors = _read_npz(path) if archive else _read_safetensors(path)
        return collect(tensors, str(path))
    except OSError as error:
        raise UsageError(f"trace: cannot read {path}: {error.strerror or error}") from None


def collect(tensors: Iterator[tuple[str, np.ndarray, str]], origin: str) -> TraceFile:
    """Sort named tensors, each with the dtype in which it was stored, into a trace and strangers."""
    trace, stored, strangers = Trace(), dict[Key, str](), []
    for text, array, dtype in tensors:
        key = parse_name(text)
        if key is None:
            strangers.append(text)
            continue
        if dtype not in FLOATS:
            raise UsageError(f"trace: {origin}: {text} is stored as {dtype}; may be {', '.join(FLOATS)}")
        if key in trace:
            raise UsageError(f"trace: {origin}: {text} is there twice")
        trace.record(*key, as_recorded(key, array))
        stored[key] = dtype
    return TraceFile(trace, stored, tuple(strangers))


def parse_name(text: str) -> Key | None:
    """The kind and name that a file's tensor is called by; ``None`` where it is no name of a trace's tensor.

    Example:
        >>> parse_name("activation/fc"), parse_name("loss"), parse_name("fc.weight")
        (('activation', 'fc'), ('loss', 'loss'), None)
        >>> parse_name("stem.1.running_mean")
        ('statistic', 'stem.1.running_mean')
    """
    if text == "loss":
        return ("loss", "loss")
    if text.endswith((".running_mean", ".running_var")) and "/" not in text:  # as a state dictionary has them
        return ("statistic", text)
    head, _, name = text.partition("/")
    kind = next((kind for kind in KINDS if kind == head), None)
    return (kind, name) if kind is not None and name else None


def as_recorded(key: Key, array: np.ndarray) -> np.ndarray:
    """A tensor as a trace has it: the loss is a number, whether it was written as one or as an array of one.

    Example:
        >>> [as_recorded((kind, kind), np.ones(1)).shape for kind in ("loss", "activation")]
        [(), (1,)]
    """
    return array.reshape(()) if key[0] == "loss" and array.size == 1 else array


def file_name(key: Key) -> str:
    """What a tensor is called in a file; `parse_name` reads it.

    Example:
        >>> file_name(("activation", "fc")), file_name(("loss", "loss"))
        ('activation/fc', 'loss')
    """
    return "loss" if key == ("loss", "loss") else "/".join(key)


def _read_npz(path: Path) -> Iterator[tuple[str, np.ndarray, str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                with archive.open(entry) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                if array.dtype == _NPZ_BFLOAT16:
                    yield entry.removesuffix(".npy"), _widen(array.view("<u2")), "bfloat16"
                else:
                    yield entry.removesuffix(".npy"), array, array.dtype.name
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"trace: {path} is not a sound .npz file: {error}") from None


def _read_safetensors(path: Path) -> Iterator[tuple[str, np.ndarray, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file, path.open("rb") as raw:  # the former checks all offsets
            for name in _recorded_order(file.keys(), file.metadata() or {}):
                stored = file.get_slice(name).get_dtype()
                dtype = _SAFETENSORS_FLOATS.get(stored, stored)
                if dtype == "bfloat16":  # NumPy has no such type, and safetensors gives up on it
                    yield name, _read_bfloat16(raw, name), dtype
                else:
                    yield name, file.get_tensor(name) if dtype in FLOATS else np.empty(0), dtype
    except (SafetensorError, ValueError, TypeError) as error:
        raise UsageError(
            f"trace: {path} is neither a sound safetensors nor a sound .npz file: {error} (pickles, such as .pt and "
            ".pth, are not read: reading one can run code)"
        ) from None


def _recorded_order(names: Iterable[str], metadata: Mapping[str, str]) -> list[str]:
    """The file's names, those first that its metadata puts in an order, as `Trace.save` does."""
    order = json.loads(metadata.get("order", "[]"))
    places = {name: place for place, name in enumerate(order)} if isinstance(order, list) else {}
    return sorted(names, key=lambda name: places.get(name, len(places)))


def _read_bfloat16(file: BinaryIO, name: str) -> np.ndarray:
    """Source: https://huggingface.co/docs/safetensors (eight bytes of length, a JSON header, the data)."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    entry = json.loads(file.read(length))[name]
    begin, end = entry["data_offsets"]
    file.seek(8 + length + begin)
    return _widen(np.frombuffer(file.read(end - begin), "<u2").reshape(entry["shape"]))


def _widen(words: np.ndarray) -> np.ndarray:
    """The float32 values of which bfloat16 ``words`` are the upper halves."""
    return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)


class FileSubject(Subject):
    """What somebody's runtime left in a file, judged as if it had just run: ``file:PATH`` or ``file:PATH:PRECISION``.

    The file holds one mode's run; a train step is known by its loss or its gradients. What it leaves out is not
    observed.
    """

    partial = True

    def __init__(self, *options: str) -> None:
        precisions = [option for option in options if option in PRECISIONS]
        paths = [option for option in options if option not in PRECISIONS]
        if not paths or len(precisions) > 1:
            raise UsageError(f"subject: file takes a path and one of {', '.join(PRECISIONS)}; got {options}")
        path = Path(":".join(paths))  # a path may hold colons
        self.file = read_trace(path)
        if not len(self.file.trace):
            raise UsageError(f"subject: {path} holds no tensor of a trace; names are such as activation/layer1.0.conv1")
        self.precision = precisions[0] if precisions else "float32"
        self.label = ":".join(("file", path.name, *precisions))
        train = any(kind != "activation" for kind, _ in self.file.trace)
        modes: Mode = "train" if train else "eval"
        self.modes = frozenset({modes})

    def run(self, case: Case, recorder: Recorder) -> None:
        """Record the file's tensors."""
        self.file.trace.replay(recorder)
