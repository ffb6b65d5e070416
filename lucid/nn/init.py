"""Initial values of parameters, written in place and returned.

Every function takes its numbers from ``generator``, or from the global one of ``lucid.random``, and exists under two
names, with and without PyTorch's trailing underscore.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

from lucid.core.tensor import Tensor
from lucid.random import Generator, default_generator

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones",
    "ones_",
    "skip_init",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros",
    "zeros_",
]

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights before ``nonlinearity`` are larger than before none.

    Args:
        nonlinearity: ``linear``, ``conv1d`` to ``conv3d``, ``sigmoid``, ``tanh``, ``relu``, ``selu`` or ``leaky_relu``.
        param: the negative slope of ``leaky_relu``, 0.01 if None: its gain is ``sqrt(2 / (1 + slope^2))``.

    Raises:
        ValueError: another nonlinearity.

    Example:
        >>> import lucid
        >>> round(lucid.nn.init.calculate_gain("relu"), 4)
        1.4142
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1.0 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"nonlinearity: got {nonlinearity!r}; may be leaky_relu, {', '.join(_GAINS)}")
    return _GAINS[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs feed one output of a weight ``(out, in, *kernel)``, and how many outputs one input feeds."""
    if tensor.ndim < 2:
        raise ValueError(f"tensor: got shape {tensor.shape}; fan in and fan out need at least two axes")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode: got {mode!r}; may be 'fan_in' or 'fan_out'")
    return _fans(tensor)[mode == "fan_out"]


def _write(tensor: Tensor, values: Any) -> Tensor:
    tensor._array[...] = values
    tensor._changed()
    return tensor


class _Skip(threading.local):
    active = False


_skip = _Skip()


@contextlib.contextmanager
def skip_init() -> Iterator[None]:
    """Inside, this thread draws no initial values: ``uniform``, ``normal`` and those built on them leave the tensor
    as it is.

    Modules made inside have parameters of undefined values, and are made at once however large. It is for models whose
    weights are loaded or drawn afterwards, or not needed.

    Example:
        >>> import lucid
        >>> with lucid.nn.init.skip_init():
        ...     layer = lucid.nn.Linear(2000, 3000)
        >>> layer.weight.shape
        (3000, 2000)
    """
    before, _skip.active = _skip.active, True
    try:
        yield
    finally:
        _skip.active = before


def uniform(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Numbers spread evenly between ``a`` and ``b``.

    Example:
        >>> import lucid
        >>> bool((lucid.nn.init.uniform(lucid.empty(100), -1, 1).abs() <= 1).all())
        True
    """
    if _skip.active:
        return tensor
    source = generator or default_generator
    return _write(tensor, source.uniform(a, b, tensor.shape, tensor.dtype, tensor.device)._array)


def normal(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Numbers from the normal distribution.

    Raises:
        ValueError: a negative ``std``.

    Example:
        >>> import lucid
        >>> lucid.nn.init.normal(lucid.empty(2, 3), std=0.01).shape
        (2, 3)
    """
    if _skip.active:
        return tensor
    source = generator or default_generator
    return _write(tensor, source.normal(mean, std, tensor.shape, tensor.dtype, tensor.device)._array)


def constant(tensor: Tensor, val: float) -> Tensor:
    """``val`` everywhere.

    Example:
        >>> import lucid
        >>> lucid.nn.init.constant(lucid.empty(2), 0.5)
        tensor([0.5, 0.5])
    """
    return _write(tensor, val)


def zeros(tensor: Tensor) -> Tensor:
    """0 everywhere.

    Example:
        >>> import lucid
        >>> lucid.nn.init.zeros(lucid.empty(2))
        tensor([0., 0.])
    """
    return _write(tensor, 0.0)


def ones(tensor: Tensor) -> Tensor:
    """1 everywhere.

    Example:
        >>> import lucid
        >>> lucid.nn.init.ones(lucid.empty(2))
        tensor([1., 1.])
    """
    return _write(tensor, 1.0)


def xavier_uniform(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Evenly spread up to ``gain * sqrt(6 / (fan_in + fan_out))`` on both sides of 0.

    Raises:
        ValueError: a tensor of fewer than two axes.

    Source: Glorot and Bengio, AISTATS 2010.

    Example:
        >>> import lucid
        >>> bool((lucid.nn.init.xavier_uniform(lucid.empty(3, 3)).abs() <= 1).all())
        True
    """
    bound = gain * math.sqrt(2.0 / sum(_fans(tensor))) * math.sqrt(3.0)
    return uniform(tensor, -bound, bound, generator)


def xavier_normal(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation ``gain * sqrt(2 / (fan_in + fan_out))``. Errors and source as ``xavier_uniform``.

    Example:
        >>> import lucid
        >>> lucid.nn.init.xavier_normal(lucid.empty(3, 3)).shape
        (3, 3)
    """
    return normal(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator)


def kaiming_uniform(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Evenly spread up to ``gain * sqrt(3 / fan)`` on both sides of 0.

    Args:
        tensor: a weight ``(out, in, *kernel)``.
        a: the negative slope, where the nonlinearity is ``leaky_relu``.
        mode: ``"fan_in"`` keeps the variance of activations, ``"fan_out"`` that of gradients.
        nonlinearity: what follows, as in ``calculate_gain``.
        generator: where the numbers come from; None is the global one.

    Raises:
        ValueError: a tensor of fewer than two axes, an unknown mode or nonlinearity.

    Source: He et al., ICCV 2015.

    Example:
        >>> import lucid
        >>> bool((lucid.nn.init.kaiming_uniform(lucid.empty(4, 6)).abs() <= 1).all())
        True
    """
    if not tensor.size:
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return uniform(tensor, -bound, bound, generator)


def kaiming_normal(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with standard deviation ``gain / sqrt(fan)``. Arguments, errors and source as ``kaiming_uniform``.

    Example:
        >>> import lucid
        >>> lucid.nn.init.kaiming_normal(lucid.empty(4, 6), mode="fan_out", nonlinearity="relu").shape
        (4, 6)
    """
    if not tensor.size:
        return tensor
    return normal(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


uniform_ = uniform
normal_ = normal
constant_ = constant
zeros_ = zeros
ones_ = ones
xavier_uniform_ = xavier_uniform
xavier_normal_ = xavier_normal
kaiming_uniform_ = kaiming_uniform
kaiming_normal_ = kaiming_normal
