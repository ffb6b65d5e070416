"""Verification of an exported file: ONNX Runtime runs it, and its error is judged by lucid's own.

Another runtime rounds in another order, so its result differs. Both are compared with the same network in float64; the
runtime may be further from that than lucid in float32 is, by the factor ``ALLOWANCE``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lucid.core.dtypes import float32, float64
from lucid.core.grad_mode import no_grad
from lucid.core.tensor import Tensor, tensor
from lucid.nn import Module
from lucid.onnx._export import Progress
from lucid.onnx._need import need
from lucid.ops.loss import cross_entropy
from lucid.random import Generator

__all__ = ["GradientVerification", "Verification", "verify", "verify_gradients"]

# A runtime folds normalisations into the convolutions before them, which moves roundings from the values to the
# weights, and may sum in longer chains. Measured at 224x224 over the ten models with random weights, healthy exports
# are at 1.0 to 2.1 times lucid's error; with the weights of one convolution of resnet_50 off by 1 %, at more than
# 20,000 times. A single weight that is off by 1 % may stay below: for that, the oracle compares every layer.
ALLOWANCE = 4.0
INPUT_SEED = 20150610
# Of a train step. A ReLU that falls on the other side of 0 changes the gradients before it by up to 1e-2 of them; in a
# million elements it happens to float32 in every third run. So healthy errors are taken from runs of float64 whose
# inputs and weights are off by some roundings, in which it happens, too; the third quartile of the ratios counts, and
# of a single tensor whether it is far off. Healthy files are at 0.1 to 0.5 (the ten models in narrow, resnet_18 and
# resnet_50 whole), those with the weights of one input channel off by 1 % above 80.
DISTURBED = 2  # runs
DISTURBANCE = 16  # roundings of float32
FAR = 0.05  # of a tensor's root mean square
FAR_RATIO = 100.0  # times a healthy error


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
    session = _session(path)
    exact = copy.deepcopy(model).to(float64)
    result = Verification()
    for number, shape in enumerate(input_shapes):
        if progress is not None:
            progress("verifying", number, len(input_shapes))
        image = Generator(INPUT_SEED).normal(size=tuple(shape), dtype=float32).numpy()
        truth = _output(exact, image.astype(np.float64))
        [foreign] = _ran(session, path, [image]).values()
        distance, own = _relative_rms(foreign, truth), _relative_rms(_output(model, image), truth)
        agrees = bool(distance <= ALLOWANCE * max(own, float(np.finfo(np.float32).eps)))  # False where either is NaN
        result.rows.append((tuple(shape), distance, own, agrees))
    return result


def _session(path: str | os.PathLike[str]) -> Any:
    runtime = need("onnxruntime", "verify")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    try:
        return runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        raise ValueError(f"ONNX Runtime does not accept {path}: {error}") from error


def _ran(session: Any, path: str | os.PathLike[str], inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by name, of the inputs in their order."""
    try:
        arrays = session.run(None, {info.name: x for info, x in zip(session.get_inputs(), inputs, strict=True)})
    except Exception as error:  # as above
        shapes = ", ".join(str(array.shape) for array in inputs)
        raise ValueError(f"ONNX Runtime cannot run {path} on an input of shape {shapes}: {error}") from error
    return {output.name: array for output, array in zip(session.get_outputs(), arrays, strict=True)}


@dataclass(slots=True)
class GradientVerification:
    """What ``verify_gradients`` found, of the loss, gradients and statistics.

    Attributes:
        ratios: by name, how many times a healthy error the runtime's is. Healthy is lucid's own, or what float64 makes
            of inputs and weights that are off by some roundings of float32.
        distances: by name, the runtime's error as a share of the tensor's root mean square.
    """

    ratios: dict[str, float]
    distances: dict[str, float]

    @property
    def ratio(self) -> float:
        """The third quartile of the ratios."""
        return float(np.quantile(list(self.ratios.values()), 0.75))

    @property
    def far(self) -> list[str]:
        """The tensors that are far off, and not by roundings."""
        return [name for name, ratio in self.ratios.items() if not (ratio <= FAR_RATIO or self.distances[name] <= FAR)]

    @property
    def agrees(self) -> bool:
        """Whether all is within what is allowed."""
        return self.ratio <= ALLOWANCE and not self.far  # False for NaN

    def __str__(self) -> str:
        far = f", far off: {', '.join(self.far[:4])}" if self.far else ""
        return (
            f"verified with ONNX Runtime, {len(self.ratios)} tensors of a train step: "
            f"{'agrees' if self.agrees else 'DISAGREES'}; error {self.ratio:.2f} times a healthy one, allowed "
            f"{ALLOWANCE:g}{far}"
        )


def verify_gradients(
    path: str | os.PathLike[str],
    model: Module,
    inputs: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    loss: Callable[..., Tensor] = cross_entropy,
) -> GradientVerification:
    """Run the file at ``path`` in ONNX Runtime, and a train step of ``model`` in lucid; compare what they leave.

    Args:
        path: a file that ``export_gradients`` wrote from ``model``, without an optimiser.
        model: in float32. It is left as it was.
        inputs: what the model takes, in float32 or integers.
        labels: what the loss takes besides.
        loss: as there.

    Raises:
        ValueError: ONNX Runtime does not accept the file, or cannot run it.
        ImportError: onnxruntime is missing.

    Example:
        >>> import tempfile
        >>> import lucid
        >>> from lucid.onnx import export_gradients, verify_gradients
        >>> layer, x, classes = lucid.nn.Linear(3, 2), lucid.ones((4, 3)), lucid.tensor([0, 1, 0, 1])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [file] = export_gradients(layer, x, classes, f"{folder}/step.onnx")
        ...     verify_gradients(file, layer, [x], [classes]).agrees
        True
    """
    session, given = _session(path), [*inputs, *labels]
    foreign = _ran(session, path, [part.numpy() for part in given])
    noises: list[Generator | None] = [None, None, *map(Generator, range(DISTURBED))]
    dtypes: list[np.dtype[Any]] = [float32, *[float64] * (DISTURBED + 1)]
    runs = [
        _train_step(model, given, len(inputs), loss, dtype, noise) for dtype, noise in zip(dtypes, noises, strict=True)
    ]
    own, truth, *moved = runs
    ratios, distances = {}, {}
    for name in [name for name in truth if name in foreign]:
        exact = truth[name]
        healthy = max(_rms(run[name] - exact) for run in (own, *moved))
        least = max(float(np.finfo(np.float32).eps) * _rms(exact), float(np.finfo(np.float32).tiny))
        distance = _rms(foreign[name] - exact) if foreign[name].shape == exact.shape else float("inf")
        ratios[name], distances[name] = distance / max(healthy, least), distance / max(_rms(exact), least)
    return GradientVerification(ratios, distances)


def _train_step(
    model: Module,
    given: Sequence[Tensor],
    inputs: int,
    loss: Callable[..., Tensor],
    dtype: np.dtype,
    noise: Generator | None,
) -> dict[str, np.ndarray]:
    """What a train step of a copy of the model leaves, with every number that goes in off by a few roundings if there
    is noise."""
    copied = copy.deepcopy(model).to(dtype).train()
    parts = [part.astype(dtype) if part.dtype.kind == "f" else part for part in given]
    if noise is not None:
        with no_grad():
            for value in copied.state_dict().values():
                if value.dtype.kind == "f":
                    value.copy_(_disturbed(value, noise))
        parts = [_disturbed(part, noise) if part.dtype.kind == "f" else part for part in parts]
    value = loss(copied(*parts[:inputs]), *parts[inputs:])
    value.backward()
    left = {"loss": value.numpy()}
    left |= {f"{name}.grad": p.grad.numpy() for name, p in copied.named_parameters() if p.grad is not None}
    return left | {f"{name}.next": buffer.numpy() for name, buffer in copied.named_buffers()}


def _disturbed(value: Tensor, noise: Generator) -> Tensor:
    eps = DISTURBANCE * float(np.finfo(np.float32).eps)
    return value * (noise.normal(0.0, eps, value.shape, dtype=float64) + 1.0)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


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
