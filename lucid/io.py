"""Saving and loading, in the safetensors format: tensors and plain data, nothing that runs when it is read.

How files are written, whole or not at all, is in `lucid.files`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lucid._safetensors import read_file
from lucid.backends import backend_for
from lucid.core.device import check_device, to_numpy
from lucid.core.dtypes import as_dtype
from lucid.core.tensor import Tensor, as_tensor
from lucid.files import FileError, atomic_write

__all__ = ["FileError", "atomic_write", "load", "save"]

_TREE = "lucid.tree"
"""The entry of a file's metadata that holds the structure of what was saved, where it is more than a flat dict."""


def save(obj: Any, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write ``obj`` to ``path`` in the safetensors format.

    Args:
        obj: a dict of names and tensors (or arrays), such as a ``state_dict``; or nested dicts and lists of tensors,
            numbers, text, booleans and None, such as an optimiser's.
        path: the file to make or to replace, whole or not at all.
        metadata: text to store with it.

    Raises:
        TypeError: ``obj`` holds something else.
        FileError: the file cannot be written; an earlier one is then untouched, and nothing is left behind.

    Source: https://github.com/huggingface/safetensors

    Example:
        >>> import lucid, os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "x.safetensors")
        ...     lucid.save({"x": lucid.ones(2)}, path)
        ...     lucid.load(path)
        {'x': tensor([1., 1.])}
    """
    numpy_format = _safetensors()
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    header = dict(metadata or {})
    if _is_flat(obj):
        for name, value in obj.items():
            arrays[name] = _storable(name, value)
    else:
        try:
            header[_TREE] = json.dumps(_flatten(obj, "", arrays))
        except RecursionError:
            raise TypeError("save: the object is nested too deeply, or holds itself") from None
    with atomic_write(path) as temporary:
        try:
            numpy_format.save_file(arrays, str(temporary), header or None)
        except OSError:
            raise
        except Exception as error:  # safetensors reports a full disk as an exception of its own
            raise FileError(f"{Path(path)}: cannot be written: {error}") from error


def load(path: str | os.PathLike[str], device: str = "cpu") -> Any:
    """What ``save`` wrote to ``path``, or any safetensors file as a dict of names and tensors. Nothing in it is
    executed.

    Args:
        path: the file.
        device: where its tensors are to lie, whatever device they were saved from.

    Raises:
        ValueError, RuntimeError: a device that is unknown or that nothing serves here.
        FileNotFoundError: there is no such file.
        FileError: it cannot be read, is no whole safetensors file, or holds a type of numbers that has no exact place
            among lucid's.

    bfloat16 and the 8-bit floats E4M3 and E5M2 become float32, which holds each of their values.

    Example: see ``save``.
    """
    source = Path(path)
    backend_for(check_device(device))
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file")
    try:
        arrays, metadata = read_file(source)
    except OSError as error:
        raise FileError(f"{source}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FileError(f"{source}: cannot be read as a safetensors file: {error}") from error
    try:
        tensors = {name: as_tensor(array, device=device) for name, array in arrays.items()}
        return _unflatten(json.loads(metadata[_TREE]), tensors) if _TREE in metadata else tensors
    except RecursionError:
        raise FileError(f"{source}: does not hold what lucid.save writes: it is nested too deeply") from None
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"{source}: does not hold what lucid.save writes: {error}") from error


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("lucid.save needs the package safetensors: pip install safetensors") from error
    return safetensors.numpy


def _is_flat(obj: Any) -> bool:
    return isinstance(obj, Mapping) and all(isinstance(k, str) and _is_array(v) for k, v in obj.items())


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _storable(name: str, value: Any) -> np.ndarray[Any, Any]:
    array = to_numpy(value._array) if isinstance(value, Tensor) else value
    try:
        dtype = as_dtype(array.dtype)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    return np.ascontiguousarray(array, dtype).reshape(array.shape)  # ascontiguousarray gives every array an axis


def _flatten(obj: Any, path: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """``obj`` as JSON, its tensors moved to ``arrays`` under their path in it."""
    if obj is None or isinstance(obj, bool | int | float | str):
        return ["value", obj]
    if _is_array(obj):
        name = path if path not in arrays else f"{path}#{len(arrays)}"  # a key may itself look like a path
        arrays[name] = _storable(path, obj)
        return ["tensor", name]
    if isinstance(obj, list | tuple):
        return [type(obj).__name__, [_flatten(item, f"{path}/{i}", arrays) for i, item in enumerate(obj)]]
    if isinstance(obj, Mapping):
        for key in obj:
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise TypeError(f"save: got the key {key!r} in {path or 'the top'}; may be text or an integer")
        return ["dict", [[key, _flatten(item, f"{path}/{key}", arrays)] for key, item in obj.items()]]
    raise TypeError(
        f"save: got {type(obj).__name__} at {path or 'the top'}; may be a tensor, a number, text, None, "
        "or a dict or list of these"
    )


def _unflatten(node: Any, tensors: dict[str, Tensor]) -> Any:
    kind, content = node
    if kind == "value":
        return content
    if kind == "tensor":
        return tensors[content]
    if kind in ("list", "tuple"):
        items = [_unflatten(item, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    raise ValueError(f"unknown kind {kind!r}")
