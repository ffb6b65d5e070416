"""Verification of an exported file: ONNX Runtime runs it, and its error is judged by lucid's own.

Another runtime rounds in another order, so its result differs. Both are compared with the same network in float64; the
runtime may be further from that than lucid in float32 is, by the factor ``ALLOWANCE``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lucid.core.dtypes import float32, float64
from lucid.core.grad_mode import no_grad
from lucid.core.tensor import tensor
from lucid.nn import Module
from lucid.onnx._export import Progress
from lucid.onnx._need import need
from lucid.random import Generator

__all__ = ["Verification", "verify"]

# A runtime folds normalisations into the convolutions before them, which moves roundings from the values to the
# weights, and may sum in longer chains. Measured at 224x224 over the ten models with random weights, healthy exports
# are at 1.0 to 2.1 times lucid's error; with the weights of one convolution of resnet_50 off by 1 %, at more than
# 20,000 times. A single weight that is off by 1 % may stay below: for that, the oracle compares every layer.
ALLOWANCE = 4.0
INPUT_SEED = 20150610


@dataclass(slots=True)
class Verification:
    """What ``verify`` found.

    Attributes:
        rows: for each input shape: the shape, the runtime's relative RMS error, lucid's own, and whether that agrees.
    """

    rows: list[tuple[tuple[int, ...], float, float, bool]] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every row does."""
        return all(agrees for *_, agrees in self.rows)

    def __str__(self) -> str:
        return "\n".join(
            f"verified with ONNX Runtime, input {' x '.join(map(str, shape))}: "
            f"{'agrees' if agrees else 'DISAGREES'}; error {runtime:.2e} of the output's RMS, "
            f"lucid's own {own:.2e}, allowed {ALLOWANCE:g} times that"
            for shape, runtime, own, agrees in self.rows
        )


def verify(
    path: str | os.PathLike[str],
    model: Module,
    input_shapes: Sequence[Sequence[int]],
    *,
    progress: Progress | None = None,
) -> Verification:
    """Run the file at ``path`` in ONNX Runtime and ``model`` in lucid on the same random inputs; compare the outputs.

    Args:
        path: a file that ``export`` wrote from ``model``.
        model: in float32, with one input and one output. It is left as it was.
        input_shapes: the inputs to try.
        progress: told of the steps.

    Raises:
        ValueError: ONNX Runtime does not accept the file, or cannot run it.
        ImportError: onnxruntime is missing.

    Example:
        >>> import tempfile
        >>> import lucid
        >>> from lucid.onnx import export, verify
        >>> layer = lucid.nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [file] = export(layer, lucid.ones((1, 3)), f"{folder}/linear.onnx", dynamic_batch=True)
        ...     verify(file, layer, [(1, 3), (5, 3)]).agrees
        True
    """
    runtime = need("onnxruntime", "verify")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        raise ValueError(f"ONNX Runtime does not accept {path}: {error}") from error
    exact = copy.deepcopy(model).to(float64)
    result = Verification()
    for number, shape in enumerate(input_shapes):
        if progress is not None:
            progress("verifying", number, len(input_shapes))
        image = Generator(INPUT_SEED).normal(size=tuple(shape), dtype=float32).numpy()
        truth = _output(exact, image.astype(np.float64))
        try:
            [foreign] = session.run(None, {session.get_inputs()[0].name: image})
        except Exception as error:  # as above
            raise ValueError(f"ONNX Runtime cannot run {path} on an input of shape {shape}: {error}") from error
        distance, own = _relative_rms(foreign, truth), _relative_rms(_output(model, image), truth)
        agrees = bool(distance <= ALLOWANCE * max(own, float(np.finfo(np.float32).eps)))  # False where either is NaN
        result.rows.append((tuple(shape), distance, own, agrees))
    return result


def _output(model: Module, image: np.ndarray) -> np.ndarray:
    modes = [(part, part.training) for part in model.modules()]
    try:
        with no_grad():
            return model.eval()(tensor(image)).numpy()
    finally:
        for part, training in modes:
            part.training = training


def _relative_rms(values: np.ndarray, truth: np.ndarray) -> float:
    if values.shape != truth.shape:
        return float("inf")
    difference = values.astype(np.float64) - truth
    return float(np.sqrt(np.mean(difference**2) / np.mean(truth**2)))
