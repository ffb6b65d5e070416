"""Layers and losses as functions, with PyTorch's names and argument order."""

# ruff: noqa: F403 (the functions of a family, each listed by its own module)

from __future__ import annotations

from lucid import random
from lucid.core.tensor import Tensor
from lucid.ops import (
    activation,
    convolution,
    gelu,
    linear,
    loss,
    mul,
    normalization,
    pad,
    pooling,
    relu,
    sigmoid,
    tanh,
)
from lucid.ops.activation import *
from lucid.ops.convolution import *
from lucid.ops.loss import *
from lucid.ops.normalization import *
from lucid.ops.pooling import *

__all__ = ["dropout", "gelu", "linear", "pad", "relu", "sigmoid", "tanh"]
__all__ += activation.__all__
__all__ += convolution.__all__
__all__ += loss.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, each element is 0 with probability ``p`` and multiplied by ``1 / (1 - p)`` otherwise.

    Args:
        input: a float tensor.
        p: from 0 to 1.
        training: without it the input is returned.

    Returns:
        A tensor of the input's shape. What is kept is drawn by ``lucid.random.bernoulli(1 - p)``.

    Raises:
        ValueError: ``p`` outside 0 to 1.

    Source: Srivastava et al., JMLR 15, 2014.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.dropout(lucid.ones(3), p=0.0)
        tensor([1., 1., 1.])
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p: got {p}; may be 0 to 1")
    if input.dtype.kind != "f":
        raise TypeError(f"dropout: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")
    if not training or p == 0.0:
        return input
    kept = random.bernoulli(1.0 - p, input.shape, input.dtype, input.device)
    return mul(input, kept * (1.0 / (1.0 - p)) if p < 1.0 else kept)
