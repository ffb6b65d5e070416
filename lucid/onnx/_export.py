"""``export``: trace, convert, check, write, in that order, so that a file appears only when everything went well."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx

from lucid.core.tensor import Tensor
from lucid.graph import trace
from lucid.nn import Module
from lucid.onnx._convert import DEFAULT_OPSET, to_onnx
from lucid.onnx._write import write_model

__all__ = ["Progress", "check", "export"]

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many bytes are (0 of 0 where that is not known)."""


def export(
    model: Module,
    example_input: Tensor | Sequence[Tensor],
    path: str | os.PathLike[str],
    *,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = False,
    external_data: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``model``, as it is in eval mode, to an ONNX file. The same model gives the same bytes.

    An existing file is replaced whole or not at all. The model in the file is one that onnx's checker and strict shape
    inference accept; nodes and tensors are named by module path.

    Args:
        model: a module whose forward takes tensors and returns tensors.
        example_input: an input, or several, for their shapes and dtypes; the values do not matter.
        path: the file to write.
        opset: version of ONNX's operators.
        dynamic_batch: leave the length of the inputs' first axis open.
        external_data: put the weights in a file of their own beside it, which ``path`` refers to.
        metadata: entries for the model's ``metadata_props``; where the weights come from, for instance.
        progress: told of the steps.

    Returns:
        The files written; the model is the first.

    Raises:
        ValueError: ``opset`` is out of range, or the model cannot be expressed.
        RuntimeError: the model cannot be traced.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import lucid
        >>> from lucid.onnx import export
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [file] = export(lucid.nn.Linear(3, 2), lucid.ones((1, 3)), Path(folder) / "linear.onnx")
        ...     file.name
        'linear.onnx'
    """
    tell = progress or (lambda step, done, total: None)
    inputs = [example_input] if isinstance(example_input, Tensor) else list(example_input)
    tell("tracing", 0, 0)
    graph = trace(model, *inputs, dynamic_batch=dynamic_batch)
    tell("converting", 0, 0)
    proto = to_onnx(graph, opset=opset, metadata=metadata, name=type(model).__name__)
    tell("checking", 0, 0)
    check(proto)
    return write_model(
        proto, path, external_data=external_data, report=lambda done, total: tell("writing", done, total)
    )


def check(model: onnx.ModelProto) -> None:
    """onnx's checker with ``full_check``, and its shape inference with ``strict_mode`` and ``data_prop``.

    Raises:
        ValueError: the model is not valid; the message is onnx's.

    Source: https://onnx.ai/onnx/api/checker.html, https://onnx.ai/onnx/api/shape_inference.html

    Example:
        >>> import lucid
        >>> from lucid.graph import trace
        >>> from lucid.onnx import check, to_onnx
        >>> check(to_onnx(trace(lucid.nn.ReLU(), lucid.ones(2))))
    """
    content = model.SerializeToString()  # once: each would do it for itself
    try:
        onnx.checker.check_model(content, full_check=True)
        onnx.shape_inference.infer_shapes(content, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"onnx does not accept the model: {error}") from error
