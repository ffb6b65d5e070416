"""Files of named tensors from anywhere: names, types and sizes are read first, and then only what is asked for.

safetensors and NumPy's .npz. Nothing is unpickled, and nothing is believed: what a header says of sizes is compared
with what the file can hold before anything is allocated. bfloat16 and float8 are widened to float32, which is exact.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
_LONGEST_HEADER = 100_000_000  # of a safetensors file: the format's own limit
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
        if not path.is_file() and path.exists():
            raise UsageError(f"{what}: cannot read {path}: it is no regular file")
        with path.open("rb") as file:
            archive = file.read(2) == b"PK"
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise UsageError(f"{what}: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    told = f"{what}: {path} is {'not' if archive else 'neither a sound safetensors nor'} a sound .npz file"
    try:
        return _open_npz(path, told) if archive else _open_safetensors(path, told)
    except UsageError:
        raise
    except Exception as error:  # whatever a parser raises at a hostile header, the file is not sound
        hint = "" if archive else " (pickles, such as .pt and .pth, are not read: reading one can run code)"
        raise UsageError(f"{told}: {error or type(error).__name__}{hint}") from None


def _reading(told: str, read: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """``read`` with its errors as sentences."""

    def safely() -> np.ndarray:
        try:
            return read()
        except (UsageError, MemoryError):
            raise
        except Exception as error:  # as above: a damaged member
            raise UsageError(f"{told}: {error or type(error).__name__}") from None

    return safely


def _memory(dtype: str, shape: tuple[int, ...]) -> int:
    width = 4 if dtype in WIDENED else np.dtype(dtype).itemsize
    return math.prod(shape) * width


# -- safetensors ------------------------------------------------------------------------------------------------------


def _open_safetensors(path: Path, told: str) -> TensorFile:
    """Source: https://huggingface.co/docs/safetensors (eight bytes of length, a JSON header, the data)."""
    whole = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if whole < 8 or length > min(_LONGEST_HEADER, whole - 8):
            raise ValueError(f"its header would be {length} bytes long, and it has {whole}")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata is no text by name")
    _require_offsets(header, whole - 8 - length)
    entries = [_safetensors_entry(path, told, 8 + length, name, each) for name, each in header.items()]
    return TensorFile(path, tuple(entries), metadata)


def _require_offsets(header: Mapping[str, Any], whole: int) -> None:
    """The tensors lie one after the other, without a hole, and fill the file."""
    end = 0
    for name, each in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        begin, after = each["data_offsets"]
        if type(begin) is not int or type(after) is not int or begin != end or after < begin:
            raise ValueError(f"the bytes of {name!r} do not follow those of the tensor before")
        if not all(type(side) is int and side >= 0 for side in each["shape"]):
            raise ValueError(f"the shape of {name!r} is {each['shape']!r}")
        end = after
    if end != whole:
        raise ValueError(f"its tensors have {end} bytes, and the file has {whole} for them")


def _safetensors_entry(path: Path, told: str, start: int, name: str, each: Mapping[str, Any]) -> Entry:
    begin, end = each["data_offsets"]
    dtype, shape = _SAFETENSORS.get(each["dtype"], str(each["dtype"])), tuple(each["shape"])
    if dtype == each["dtype"]:  # one that is not known here: nobody will read it
        return Entry(name, dtype, shape, end - begin, _reading(told, lambda: _refuse(name, dtype)))
    words = np.dtype({"bfloat16": "<u2", "float8_e4m3fn": "u1", "float8_e5m2": "u1"}.get(dtype, dtype))
    if math.prod(shape) * words.itemsize != end - begin:
        raise ValueError(f"{name!r} has {end - begin} bytes, which is not what {dtype} of shape {shape} takes")

    def read() -> np.ndarray:
        with path.open("rb") as file:
            file.seek(start + begin)
            content = file.read(end - begin)
        return widen(np.frombuffer(bytearray(content), words.newbyteorder("<")).reshape(shape), dtype)

    return Entry(name, dtype, shape, _memory(dtype, shape), _reading(told, read))


def _refuse(name: str, dtype: str) -> np.ndarray:
    raise ValueError(f"{name!r} is stored as {dtype}, which is not known here")


# -- .npz -------------------------------------------------------------------------------------------------------------


def _open_npz(path: Path, told: str) -> TensorFile:
    entries = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            entries.append(_npz_entry(path, told, archive, member))
    return TensorFile(path, tuple(entries), {})


def _npz_entry(path: Path, told: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Entry:
    """One member, of which only the first bytes are unpacked."""
    name = member.filename.removesuffix(".npy")
    if not member.filename.endswith(".npy"):
        return Entry(
            name, "bytes", (member.file_size,), member.file_size, _reading(told, lambda: _refuse(name, "bytes"))
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
        return widen(array.view("<u2"), dtype) if dtype == "bfloat16" else array

    memory = _memory(dtype, shape) if dtype == "bfloat16" else size
    return Entry(name, dtype, shape, memory, _reading(told, read))


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


# -- widening ---------------------------------------------------------------------------------------------------------


def widen(words: np.ndarray, dtype: str) -> np.ndarray:
    """The values of which ``words`` are the bits: those of `WIDENED` as float32, exactly; others as they are.

    Example:
        >>> widen(np.array([0x3F80, 0xC020], np.uint16), "bfloat16").tolist()
        [1.0, -2.5]
        >>> widen(np.array([0x38, 0xFE, 0x01], np.uint8), "float8_e4m3fn").tolist()
        [1.0, -448.0, 0.001953125]
        >>> widen(np.array([0x3C, 0x7C], np.uint8), "float8_e5m2").tolist()
        [1.0, inf]
    """
    if dtype == "bfloat16":  # the upper half of a float32
        return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "float8_e5m2":  # the upper half of a float16
        return (words.astype(np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32)
    if dtype == "float8_e4m3fn":
        return _E4M3FN[words]
    return words


def _e4m3fn() -> np.ndarray:
    """All values of float8_e4m3fn: four bits of exponent (bias 7), three of fraction, no infinity, one NaN a sign.

    Source: https://arxiv.org/abs/2209.05433
    """
    code = np.arange(128)
    exponent, fraction = code >> 3, code & 7
    size = np.where(exponent == 0, fraction * 2.0**-9, (8 + fraction) * np.exp2(exponent - 10.0))
    size[127] = np.nan
    return np.concatenate([size, -size]).astype(np.float32)


_E4M3FN = _e4m3fn()
