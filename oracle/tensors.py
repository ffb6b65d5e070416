"""Files of named tensors from anywhere: names, types and sizes are read first, and then only what is asked for.

safetensors and NumPy's .npz. Nothing is unpickled, and nothing is believed: what a header says of sizes is compared
with what the file can hold before anything is allocated. bfloat16 and float8 are widened to float32, which is exact.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lucid._safetensors import Entry as StoredEntry
from lucid._safetensors import read_header, read_tensor, widen
from lucid.files import open_regular
from oracle.errors import UsageError

WIDENED = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
FLOATS = ("float64", "float32", "float16", *WIDENED)

# The types of safetensors, by their names in NumPy and PyTorch.
_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_NPZ_BFLOAT16 = np.dtype("V2")  # how NumPy stores the bfloat16 of ml_dtypes
_LONGEST_NPY_HEADER = 10_000  # of an array: NumPy's own limit


@dataclass(frozen=True)
class Entry:
    """One tensor of a file, not read yet.

    Args:
        name: as the file has it.
        dtype: in which it is stored, as NumPy or PyTorch calls it.
        shape: of it.
        size: of its bytes in memory, widened.
        read: reads its values, floats of `WIDENED` as float32.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class TensorFile:
    """What a file of tensors holds: its entries in the file's own order, and the text stored with them."""

    path: Path
    entries: tuple[Entry, ...]
    metadata: Mapping[str, str]


def open_tensors(path: Path, what: str) -> TensorFile:
    """Read the names, types and sizes of a .safetensors or .npz file.

    Args:
        path: the file.
        what: begins the sentence of an error, such as ``"trace"``.

    Raises:
        UsageError: the file is missing, corrupt, or of another format.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "x.npz"
        ...     np.savez(path, a=np.zeros((2, 3), np.float16))
        ...     [entry] = open_tensors(path, "file").entries
        ...     entry.name, entry.dtype, entry.shape, entry.read().sum()
        ('a', 'float16', (2, 3), np.float16(0.0))
    """
    try:
        with open_regular(path) as file:
            archive = file.read(2) == b"PK"
    except OSError as error:
        raise UsageError(f"{what}: cannot read {path}: {error.strerror or error}") from None
    sentence = f"{what}: {path} is {'not' if archive else 'neither a sound safetensors nor'} a sound .npz file"
    try:
        return _open_npz(path, sentence) if archive else _open_safetensors(path, sentence)
    except UsageError:
        raise
    except Exception as error:  # whatever a parser raises at a hostile header, the file is not sound
        hint = (
            ""
            if archive or "pickle" in str(error)
            else " (pickles, such as .pt and .pth, are not read: reading one can run code)"
        )
        raise UsageError(f"{sentence}: {error or type(error).__name__}{hint}") from None


def _reading(sentence: str, read: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """``read`` with its errors as sentences."""

    def safely() -> np.ndarray:
        try:
            return read()
        except (UsageError, MemoryError):
            raise
        except Exception as error:  # as above: a damaged member
            raise UsageError(f"{sentence}: {error or type(error).__name__}") from None

    return safely


def _memory(dtype: str, shape: tuple[int, ...]) -> int:
    width = 4 if dtype in WIDENED else np.dtype(dtype).itemsize
    return math.prod(shape) * width


# -- safetensors ------------------------------------------------------------------------------------------------------


def _open_safetensors(path: Path, sentence: str) -> TensorFile:
    with open_regular(path) as file:
        entries, metadata = read_header(file)
    return TensorFile(path, tuple(_safetensors_entry(path, sentence, entry) for entry in entries), metadata)


def _safetensors_entry(path: Path, sentence: str, entry: StoredEntry) -> Entry:
    dtype = _SAFETENSORS.get(entry.dtype)
    if dtype is None:  # one that is not known here: nobody will read it
        refuse = _reading(sentence, lambda: _refuse(entry.name, entry.dtype))
        return Entry(entry.name, entry.dtype, entry.shape, entry.end - entry.begin, refuse)

    def read() -> np.ndarray:
        with open_regular(path) as file:
            return read_tensor(file, entry)

    return Entry(entry.name, dtype, entry.shape, _memory(dtype, entry.shape), _reading(sentence, read))


def _refuse(name: str, dtype: str) -> np.ndarray:
    raise ValueError(f"{name!r} is stored as {dtype}, which is not known here")


# -- .npz -------------------------------------------------------------------------------------------------------------


def _open_npz(path: Path, sentence: str) -> TensorFile:
    entries = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            entries.append(_npz_entry(path, sentence, archive, member))
    return TensorFile(path, tuple(entries), {})


def _npz_entry(path: Path, sentence: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Entry:
    """One member, of which only the first bytes are unpacked."""
    name = member.filename.removesuffix(".npy")
    if not member.filename.endswith(".npy"):
        return Entry(
            name, "bytes", (member.file_size,), member.file_size, _reading(sentence, lambda: _refuse(name, "bytes"))
        )
    with archive.open(member) as file:
        shape, fortran, stored, length = _npy_header(file)
    if stored.hasobject:
        raise ValueError(f"{name!r}: Object arrays cannot be loaded: reading one can run code")
    size = math.prod(shape) * stored.itemsize
    if member.file_size != length + size:
        raise ValueError(f"{name!r} has {member.file_size - length} bytes, which is not what {stored} of {shape} takes")
    dtype = "bfloat16" if stored == _NPZ_BFLOAT16 else stored.name

    def read() -> np.ndarray:
        with zipfile.ZipFile(path) as again, again.open(member) as packed:
            content = packed.read()  # no more than the size that the directory states; zipfile compares the checksum
        if len(content) != length + size:
            raise ValueError(f"{name!r} is shorter than it says")
        flat = np.frombuffer(bytearray(content[length:]), stored)
        array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
        return widen(array.view("<u2"), "BF16") if dtype == "bfloat16" else array

    memory = _memory(dtype, shape) if dtype == "bfloat16" else size
    return Entry(name, dtype, shape, memory, _reading(sentence, read))


def _npy_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran's order, type, and the length of the header itself."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\x01\x00", b"\x02\x00"):
        raise ValueError("a member is no array that NumPy wrote")
    width = 2 if magic[6] == 1 else 4
    prefix = file.read(width)
    length = int.from_bytes(prefix, "little")
    if length > _LONGEST_NPY_HEADER:
        raise ValueError(f"the header of an array would be {length} bytes long")
    text = io.BytesIO(prefix + file.read(length))
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(text, max_header_size=_LONGEST_NPY_HEADER)
    if not all(side >= 0 for side in shape):
        raise ValueError(f"the shape of an array is {shape}")
    return shape, fortran, dtype, 8 + width + length
