"""Data of an ONNX model that lie in other files, which must be regular ones in the model's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath

import onnx

from lucid.files import open_regular
from lucid.onnx._types import bytes_of

__all__ = ["load_external"]


def load_external(proto: onnx.ModelProto, folder: str | None) -> None:
    """Put what lies in other files into the model.

    Raises:
        ValueError: a file is named that is not in the folder, or it does not hold what the model says; the folder is
            not known.
        OSError: a file cannot be read.
    """
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        if folder is None:
            raise ValueError("model: its data lie in other files; give the file's path")
        tensor.raw_data = _content(tensor, folder)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _content(tensor: onnx.TensorProto, folder: str) -> bytes:
    where = {entry.key: entry.value for entry in tensor.external_data}
    location = where.get("location", "")
    try:
        offset, size = int(where.get("offset", 0)), bytes_of(tensor)
        length = int(where.get("length", size))
    except ValueError as error:
        raise ValueError(f"model: the data of {tensor.name!r} are not to be found: {error}") from None
    path = PurePath(location)
    if not location or path.is_absolute() or ".." in path.parts or "\0" in location:
        raise ValueError(f"model: the data of {tensor.name!r} lie in {location!r}; must be in the model's folder")
    whole = Path(folder, path)
    if any(Path(folder, *path.parts[: i + 1]).is_symlink() for i in range(len(path.parts))):
        raise ValueError(f"model: the data of {tensor.name!r} lie in {location!r}, which is a link")
    if length != size or offset < 0:
        raise ValueError(f"model: the data of {tensor.name!r} are {length} bytes from {offset} on; it needs {size}")
    with open_regular(whole) as file:
        there = file.seek(0, 2)
        if offset + length > there:
            raise ValueError(
                f"model: {location!r} has {there} bytes; {tensor.name!r} takes them up to {offset + length}"
            )
        file.seek(offset)
        return file.read(length)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: of initializers and of attributes, in graphs within graphs and in functions too."""
    graphs, nodes = [proto.graph], [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        for graph in graphs:
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
        graphs = []
        for node in nodes:
            for attribute in node.attribute:
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                yield from (attribute.t, *attribute.tensors)
                graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
        nodes = []
