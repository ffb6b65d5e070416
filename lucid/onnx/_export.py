"""``export``: trace, convert, check, write, in that order, so that a file appears only when everything went well."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from lucid.core.tensor import Tensor
from lucid.graph import Graph, trace, trace_gradients
from lucid.nn import Module
from lucid.onnx._convert import DEFAULT_OPSET, to_onnx
from lucid.onnx._write import write_model
from lucid.ops.loss import cross_entropy
from lucid.optim import SGD

__all__ = ["Progress", "check", "export", "export_gradients"]

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
    inputs = [example_input] if isinstance(example_input, Tensor) else list(example_input)
    return write_graph(
        lambda: trace(model, *inputs, dynamic_batch=dynamic_batch),
        path,
        progress or _silent,
        external_data,
        opset=opset,
        metadata=metadata,
        name=type(model).__name__,
    )


def export_gradients(
    model: Module,
    example_input: Tensor | Sequence[Tensor],
    labels: Tensor | Sequence[Tensor],
    path: str | os.PathLike[str],
    *,
    loss: Callable[..., Tensor] = cross_entropy,
    of: Sequence[str] | None = None,
    optimizer: SGD | None = None,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = False,
    external_data: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write a train step of ``model`` to an ONNX file of standard operators, which any runtime computes.

    It takes inputs and labels and returns ``loss``, ``<name>.grad`` for every parameter, and ``<name>.next``: the
    running statistics after the step and, with an optimiser, the parameters. These are inputs, too, that need not be
    given: the file holds their values. See ``lucid.graph.trace_gradients``.

    Args:
        model: a module whose forward takes tensors, in training mode or not: the file is of training.
        example_input: an input, or several, for their shapes and dtypes.
        labels: what the loss gets besides the model's output, likewise.
        path: the file to write.
        loss: ``loss(output, *labels)``, a number.
        of: names of parameters, inputs and layers; None for every parameter that requires a gradient.
        optimizer: whose settings the step has.
        opset: version of ONNX's operators; max pooling and embeddings need 16.
        dynamic_batch: leave the length of the first axis of inputs and labels open.
        external_data: put the weights in a file of their own beside it, which ``path`` refers to.
        metadata: entries for the model's ``metadata_props``.
        progress: told of the steps.

    Returns:
        The files written; the model is the first.

    Raises:
        ValueError, RuntimeError, OSError: as ``export``; ValueError also for an operation that has no gradient there.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import lucid
        >>> from lucid.onnx import export_gradients
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "step.onnx"
        ...     [file] = export_gradients(lucid.nn.Linear(3, 2), lucid.ones((4, 3)), lucid.tensor([0, 1, 0, 1]), path)
        ...     file.name
        'step.onnx'
    """
    return write_graph(
        lambda: trace_gradients(
            model, example_input, labels, loss, of=of, optimizer=optimizer, dynamic_batch=dynamic_batch
        ),
        path,
        progress or _silent,
        external_data,
        opset=opset,
        metadata=metadata,
        name=f"{type(model).__name__}_gradients",
    )


def write_graph(
    make: Callable[[], Graph],
    path: str | os.PathLike[str],
    tell: Progress,
    external_data: bool,
    change: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda model: model,
    **options: Any,
) -> list[Path]:
    """Trace, convert by ``to_onnx`` with ``options``, ``change`` the model, check and write."""
    tell("tracing", 0, 0)
    graph = make()
    tell("converting", 0, 0)
    proto = change(to_onnx(graph, **options))
    tell("checking", 0, 0)
    check(proto)
    return write_model(
        proto, path, external_data=external_data, report=lambda done, total: tell("writing", done, total)
    )


def _silent(step: str, done: int, total: int) -> None:
    """Where nobody wants to be told."""


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
