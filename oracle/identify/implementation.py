"""What is identified: operations on NumPy arrays, of PyTorch, ONNX Runtime, lucid or one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import lucid
import lucid.nn.functional
from lucid.onnx._need import need
from oracle.errors import UsageError, foreign
from oracle.identify.formats import FORMATS, Array, stored
from oracle.imports import import_module, member

_SIGNATURES = {
    "matmul": "(a, b): of shapes (P, N) and (N, Q)",
    "conv2d": "(x, w): of shapes (P, C, H, W) and (Q, C, H, W), to (P, Q, 1, 1)",
    "sum": "(x): over the last axis",
    "add": "(a, b)",
    "multiply": "(a, b)",
    "multiply_add": "(a, b, c): a * b + c",
    "exp": "(x)",
    "log": "(x)",
    "tanh": "(x)",
    "sigmoid": "(x)",
    "rsqrt": "(x)",
    "sqrt": "(x)",
    "reciprocal": "(x)",
    "var": "(x): over the last axis",
    "layer_norm": "(x, eps): over the last axis, without weights",
    "batch_norm": "(x, eps): of shape (N, C), by the batch's statistics, without weights",
    "cast_float16": "(x): of float32",
    "cast_bfloat16": "(x): of float32",
}
OPERATIONS = tuple(_SIGNATURES)


@dataclass(frozen=True)
class Implementation:
    """Somebody's arithmetic.

    Args:
        name: what it is called.
        precision: what its operations take and return; casts take float32.
        operations: by name, functions of NumPy arrays of numbers of that precision, held in float64, to such arrays.
    """

    name: str
    precision: str
    operations: Mapping[str, Callable[..., Array]]


def signatures() -> str:
    """Every operation that can be identified and what it is given, a line each."""
    return "\n".join(f"{name}{signature}" for name, signature in _SIGNATURES.items())


def find_implementation(text: str, precision: str | None = None, operation: str | None = None) -> Implementation:
    """The implementation that ``text`` names.

    - ``torch``, ``torch:bfloat16``, ``torch:cuda``, ``torch:cuda:tf32``;
    - ``onnxruntime``, ``onnxruntime:PROVIDER``;
    - ``lucid``, ``lucid:reference``;
    - ``MODULE:TABLE`` or ``PATH.py:TABLE``: a dictionary of operations, or with ``operation`` the function itself.

    Raises:
        UsageError: there is none of that name, or it cannot run here.

    Example:
        >>> find_implementation("troch")
        Traceback (most recent call last):
        ...
        oracle.errors.UsageError: subject: got 'troch'; may be torch, onnxruntime, lucid, or your own as MODULE:TABLE
    """
    name, *options = text.split(":")
    if name in _MAKERS:
        with foreign(f"subject: {text} cannot run here"):
            return _MAKERS[name](text, options, precision)
    if len(options) != 1:
        raise UsageError(f"subject: got {text!r}; may be {', '.join(_MAKERS)}, or your own as MODULE:TABLE")
    with foreign(f"subject: {text} cannot be imported"):
        found = member(import_module(name), options[0])
    if operation is not None and callable(found):
        found = {operation: found}
    if not isinstance(found, Mapping) or not found or not all(map(callable, found.values())):
        raise UsageError(
            f"subject: {text} is {type(found).__name__}; may be a dictionary of functions, or with one --operation "
            "a function"
        )
    return own(found, precision or "float32", name=text)


def own(
    operations: Mapping[str, Callable[..., Any]], precision: str = "float32", name: str = "yours"
) -> Implementation:
    """The implementation that functions of NumPy arrays are (bfloat16: of ml_dtypes' dtype).

    Raises:
        UsageError: an operation or the precision is not known.
    """
    unknown = [each for each in operations if each not in OPERATIONS]
    if unknown:
        raise UsageError(f"operation: got {unknown[0]!r}; may be {', '.join(OPERATIONS)}")
    return Implementation(
        name,
        _known(precision),
        {each: _adapted(each, function, precision, np.asarray, _numbers) for each, function in operations.items()},
    )


def _known(precision: str) -> str:
    if precision not in FORMATS:
        raise UsageError(f"precision: got {precision!r}; may be {', '.join(FORMATS)}")
    return precision


def _numbers(result: Any) -> Array:
    return np.asarray(result).astype(np.float64)


def _adapted(
    name: str, function: Callable[..., Any], precision: str, taken: Callable[[Array], Any], read: Callable[[Any], Array]
) -> Callable[..., Array]:
    """The function, given numbers in float64, in its own precision and framework, and read back."""
    kept = "float32" if name.startswith("cast_") else precision

    def call(*arguments: Any) -> Array:
        with foreign(f"operation: {name}"), np.errstate(all="ignore"):
            made = [taken(stored(each, kept)) if isinstance(each, np.ndarray) else each for each in arguments]
            found = read(function(*made))
        expected = _shape(name, *arguments)
        if found.shape != expected:
            raise UsageError(f"operation: {name} returned an array of shape {found.shape}; may be {expected}")
        return found

    return call


def _shape(name: str, first: Array, *others: Any) -> tuple[int, ...]:
    """The shape of the result."""
    if name == "matmul":
        return len(first), others[0].shape[1]
    if name == "conv2d":
        return len(first), len(others[0]), 1, 1
    return first.shape[:-1] if name in ("sum", "var") else first.shape


def _torch(text: str, options: list[str], precision: str | None) -> Implementation:
    need("torch", "the subject torch")
    import torch
    import torch.nn.functional as F

    devices = [each for each in options if each in ("cpu", "cuda")]
    rest = [each for each in options if each not in devices]
    if len(rest) > 1 or len(devices) > 1:
        raise UsageError(f"subject: got {text!r}; may be torch[:cuda][:PRECISION]")
    chosen = rest[0] if rest else precision or "float32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = chosen == "tf32"
    chosen = _known("float32" if chosen == "tf32" else chosen)
    device = devices[0] if devices else "cpu"
    kinds = {each: getattr(torch, each) for each in FORMATS}

    def taken(values: Array) -> Any:
        name = values.dtype.name
        return torch.from_numpy(values.astype(np.float64)).to(device=device, dtype=kinds[name])

    def read(result: Any) -> Array:
        found: Array = result.detach().to(torch.float64).cpu().numpy()
        return found

    operations: dict[str, Callable[..., Any]] = {
        "matmul": torch.matmul,
        "conv2d": F.conv2d,
        "sum": lambda x: x.sum(-1),
        "add": torch.add,
        "multiply": torch.mul,
        "multiply_add": lambda a, b, c: torch.addcmul(c, a, b),
        "exp": torch.exp,
        "log": torch.log,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "rsqrt": torch.rsqrt,
        "sqrt": torch.sqrt,
        "reciprocal": torch.reciprocal,
        "var": lambda x: x.var(-1),
        "layer_norm": lambda x, eps: F.layer_norm(x, x.shape[-1:], eps=eps),
        "batch_norm": lambda x, eps: F.batch_norm(x, None, None, training=True, eps=eps),
        "cast_float16": lambda x: x.to(torch.float16),
        "cast_bfloat16": lambda x: x.to(torch.bfloat16),
    }
    made = {each: _adapted(each, function, chosen, taken, read) for each, function in operations.items()}
    return Implementation(text, chosen, {each: _without_gradients(function) for each, function in made.items()})


def _without_gradients(function: Callable[..., Array]) -> Callable[..., Array]:
    def call(*arguments: Any) -> Array:
        import torch

        with torch.no_grad():
            return function(*arguments)

    return call


def _lucid(text: str, options: list[str], precision: str | None) -> Implementation:
    chosen = _known(precision or "float32")
    functional = lucid.nn.functional
    if len(options) > 1 or chosen not in ("float32", "float64"):
        raise UsageError(f"subject: got {text!r} in {chosen}; may be lucid[:BACKEND] in float32 or float64")
    operations: dict[str, Callable[..., Any]] = {
        "matmul": lucid.matmul,
        "conv2d": functional.conv2d,
        "sum": lambda x: x.sum(-1),
        "add": lucid.add,
        "multiply": lucid.multiply,
        "multiply_add": lambda a, b, c: a * b + c,
        "exp": lucid.exp,
        "log": lucid.log,
        "tanh": lucid.tanh,
        "sigmoid": lucid.sigmoid,
        "sqrt": lucid.sqrt,
        "reciprocal": lucid.reciprocal,
        "var": lambda x: x.var(-1),
        "layer_norm": lambda x, eps: functional.layer_norm(x, x.shape[-1:], eps=eps),
        "batch_norm": lambda x, eps: functional.batch_norm(x, None, None, training=True, eps=eps),
    }

    def on(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            given = (lucid.tensor(each) if isinstance(each, np.ndarray) else each for each in arguments)
            with lucid.no_grad(), lucid.use_backend(options[0]) if options else contextlib.nullcontext():
                return function(*given).numpy()

        return call

    made = {each: _adapted(each, on(function), chosen, np.asarray, _numbers) for each, function in operations.items()}
    return Implementation(text, chosen, made)


def _onnxruntime(text: str, options: list[str], precision: str | None) -> Implementation:
    need("onnx", "the subject onnxruntime")
    from oracle.identify import onnx_models

    if len(options) > 1:
        raise UsageError(f"subject: got {text!r}; may be onnxruntime[:PROVIDER]")
    chosen = precision or "float32"
    made = onnx_models.functions(chosen, options[0] if options else "CPU")
    adapted = {each: _adapted(each, function, chosen, np.asarray, _numbers) for each, function in made.items()}
    return Implementation(text, chosen, adapted)


_MAKERS = {"torch": _torch, "onnxruntime": _onnxruntime, "lucid": _lucid}
