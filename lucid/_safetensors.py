"""Reading the safetensors format: a length, a header of JSON, and the tensors' bytes, one after the other.

Nothing is taken on trust: every size that the header names is compared with the file's before a byte of a tensor is
read, so that memory is taken for what is there and for nothing else. Source:
https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lucid.files import open_regular

Array = np.ndarray[Any, Any]

MOST_HEADER_BYTES = 100_000_000  # the format's own bound
SHOWN = 60  # characters of a name in a sentence


class Entry(NamedTuple):
    """One tensor of a file: its name, the format's name of its type, its shape, and where its bytes lie in the file.

    Of a type that is not one of ``DTYPES`` the size is not known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_file(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a file by name, and its metadata.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is no whole safetensors file; the sentence says why.
    """
    with open_regular(path) as file:
        entries, metadata = read_header(file)
        for entry in entries:
            if entry.dtype not in DTYPES:
                known = ", ".join(DTYPES)
                raise ValueError(
                    f"tensor {_short(entry.name)} has the dtype {_short(entry.dtype)}; may be one of {known}"
                )
        return {entry.name: read_tensor(file, entry) for entry in entries}, metadata


def read_header(file: BinaryIO) -> tuple[list[Entry], dict[str, str]]:
    """The entries of an open file, in its own order, and its metadata; no byte of a tensor is read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no whole safetensors file; the sentence says why.
    """
    size = os.fstat(file.fileno()).st_size
    first = file.read(8)
    length = int.from_bytes(first, "little")  # of a header of 640 bytes it begins as a pickle does
    if len(first) < 8 or length > size - 8:
        if first[:4] == b"PK\x03\x04" or first[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise ValueError("it looks like a pickle, as torch.save writes; reading one would run what is in it")
        raise ValueError(f"it has {size} bytes, and ends within its header")
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"its header would have {length} bytes; may have at most {MOST_HEADER_BYTES}")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its header is not JSON: {error}") from None
    except UnicodeDecodeError:
        raise ValueError("its header is not text") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no list of tensors by name")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not text by name")
    start = end = 8 + length
    entries = [_entry(name, value, start) for name, value in header.items()]
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != end:
            begin, expected = entry.begin - start, end - start
            raise ValueError(f"tensor {_short(entry.name)} begins at byte {begin}, where {expected} was to come next")
        end = entry.end
    if end != size:
        raise ValueError(f"it has {size} bytes; its header tells of {end}")
    return entries, metadata


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header names something twice")
    return found


def _entry(name: str, value: Any, start: int) -> Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {_short(name)} must have a dtype, a shape and data_offsets, and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise ValueError(f"tensor {_short(name)} has the dtype {_short(dtype)}; may be one of {', '.join(DTYPES)}")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or len(shape) > 32:
        raise ValueError(f"tensor {_short(name)}: its shape or its data_offsets are no sizes")
    begin, end = offsets
    if end < begin or (dtype in DTYPES and end - begin != prod(shape) * DTYPES[dtype][0].itemsize):
        raise ValueError(f"tensor {_short(name)} of shape {_short(shape)} and dtype {dtype} has {end - begin} bytes")
    if max(shape, default=0) >= 2**63:  # beside a side of 0
        raise ValueError(f"tensor {_short(name)}: its shape {_short(shape)} has a side beyond 64 bits")
    return Entry(name, dtype, tuple(shape), start + begin, start + end)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + ".."


def read_tensor(file: BinaryIO, entry: Entry) -> Array:
    """The values of one of the entries of an open file, whose type is one of ``DTYPES``.

    Raises:
        OSError: it cannot be read.
        ValueError: the file ends before it, or it is BOOL and holds something else than 0 and 1.
    """
    raw = np.empty(prod(entry.shape), DTYPES[entry.dtype][0])
    file.seek(entry.begin)
    if raw.size and file.readinto(raw.data.cast("B")) != raw.nbytes:  # type: ignore[attr-defined]
        raise ValueError(f"it ended while tensor {_short(entry.name)} was read")
    if entry.dtype == "BOOL" and raw.size and raw.max() > 1:
        raise ValueError(f"tensor {_short(entry.name)} is BOOL, but holds {raw.max()}")
    return widen(raw, entry.dtype).reshape(entry.shape)


# -- types that NumPy does not have, and the float32 that equals each -------------------------------------------------


def widen(raw: Array, dtype: str) -> Array:
    """The values of which ``raw`` holds the bits, ``dtype`` being one of ``DTYPES``: bfloat16 and the 8-bit floats as
    float32, exactly; others as they are.

    Source: https://arxiv.org/abs/2209.05433 (the 8-bit floats)

    Example:
        >>> widen(np.array([0x3F80, 0xC020], np.uint16), "BF16").tolist()
        [1.0, -2.5]
        >>> widen(np.array([0x38, 0xFE, 0x01], np.uint8), "F8_E4M3").tolist()
        [1.0, -448.0, 0.001953125]
        >>> widen(np.array([0x3C, 0x7C], np.uint8), "F8_E5M2").tolist()
        [1.0, inf]
    """
    stored, widened = DTYPES[dtype]
    return raw.astype(stored.newbyteorder("="), copy=False) if widened is None else widened(raw)


def _from_bfloat16(raw: Array) -> Array:
    return (raw.astype(np.uint32) << 16).view(np.float32)


def _from_e5m2(raw: Array) -> Array:
    return (raw.astype(np.uint16) << 8).view(np.float16).astype(np.float32)


def _from_e4m3(raw: Array) -> Array:
    """Exponent bias 7, no infinities, NaN where all seven bits below the sign are set."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10))
    size[code & 127 == 127] = np.nan
    return np.where(code > 127, -size, size).astype(np.float32)[raw]


_Widen = Callable[[Array], Array]
DTYPES: dict[str, tuple[np.dtype[Any], _Widen | None]] = {
    **{name: (np.dtype(f"<{name[0].lower()}{int(name[1:]) // 8}"), None) for name in ("F64", "F32", "F16")},
    **{name: (np.dtype(f"<{name[0].lower()}{int(name[1:]) // 8}"), None) for name in ("I64", "I32", "I16", "I8")},
    **{name: (np.dtype(f"<{name[0].lower()}{int(name[1:]) // 8}"), None) for name in ("U64", "U32", "U16", "U8")},
    "BOOL": (np.dtype(np.uint8), lambda raw: raw.view(np.bool_)),
    "BF16": (np.dtype("<u2"), _from_bfloat16),
    "F8_E5M2": (np.dtype(np.uint8), _from_e5m2),
    "F8_E4M3": (np.dtype(np.uint8), _from_e4m3),
}
"""By the format's name: how the bytes are stored, and, where that is no type of lucid's, how to widen it exactly."""
