"""Layers and losses as functions, with PyTorch's names and argument order."""

# ruff: noqa: F403 (the functions of a family, each listed by its own module)

from __future__ import annotations

import math
import operator

from lucid import random
from lucid.core.tensor import Tensor
from lucid.ops import (
    activation,
    add,
    bilinear,
    convolution,
    gelu,
    linear,
    loss,
    mul,
    normalization,
    pad,
    pooling,
    relu,
    resize,
    sigmoid,
    sum,
    tanh,
)
from lucid.ops._window import require_image
from lucid.ops.activation import *
from lucid.ops.attention import attention, rotary_embedding, swiglu
from lucid.ops.convolution import *
from lucid.ops.embedding import embedding
from lucid.ops.loss import *
from lucid.ops.normalization import *
from lucid.ops.pooling import *
from lucid.ops.resize import *

__all__ = ["alpha_dropout", "drop_block", "drop_path", "dropout", "dropout1d", "dropout2d", "dropout3d"]
__all__ += ["gelu", "linear", "pad", "relu", "sigmoid", "tanh"]
__all__ += ["bilinear", "embedding", "rotary_embedding", "scaled_dot_product_attention", "swiglu"]
__all__ += activation.__all__
__all__ += convolution.__all__
__all__ += loss.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += resize.__all__


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
    return _dropout("dropout", input, input.shape, p, training)


def _dropout(name: str, input: Tensor, shape: tuple[int, ...], p: float, training: bool, scaled: bool = True) -> Tensor:
    """``input`` times a mask of ``shape`` that is drawn for it; ``scaled``, by ``1 / (1 - p)`` where it is kept."""
    _check_dropout(name, input, p)
    if not training or p == 0.0:
        return input
    kept = random.bernoulli(1.0 - p, shape, input.dtype, input.device)
    return mul(input, kept * (1.0 / (1.0 - p)) if scaled and p < 1.0 else kept)


def _check_dropout(name: str, input: Tensor, p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p: got {p}; may be 0 to 1")
    if input.dtype.kind != "f":
        raise TypeError(f"{name}: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")


def _of_channels(sides: int, input: Tensor, p: float, training: bool) -> Tensor:
    name = f"dropout{sides}d"
    require_image(name, input.shape, sides)
    return _dropout(name, input, (*input.shape[:2], *[1] * sides), p, training)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, each channel of each image is 0 with probability ``p`` and multiplied by ``1 / (1 - p)`` otherwise.

    Args:
        input: ``(N, C, L)``, float32 or float64.
        p: from 0 to 1.
        training: without it the input is returned.

    Returns:
        A tensor of the input's shape. What is kept is drawn by ``lucid.random.bernoulli(1 - p)``, one word a channel.

    Raises:
        ValueError: another rank, ``p`` outside 0 to 1.
        TypeError: integers.

    Source: Tompson et al., CVPR 2015 (SpatialDropout).

    Example:
        >>> import lucid
        >>> lucid.nn.functional.dropout1d(lucid.ones(*(2, 3, 4)), p=0.5).shape
        (2, 3, 4)
    """
    return _of_channels(1, input, p, training)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, each channel of each image is 0 with probability ``p`` and multiplied by ``1 / (1 - p)`` otherwise.

    Args:
        input: ``(N, C, H, W)``, float32 or float64.
        p: from 0 to 1.
        training: without it the input is returned.

    Returns:
        A tensor of the input's shape. What is kept is drawn by ``lucid.random.bernoulli(1 - p)``, one word a channel.

    Raises:
        ValueError: another rank, ``p`` outside 0 to 1.
        TypeError: integers.

    Source: Tompson et al., CVPR 2015 (SpatialDropout).

    Example:
        >>> import lucid
        >>> lucid.nn.functional.dropout2d(lucid.ones(*(2, 3, 4, 4)), p=0.5).shape
        (2, 3, 4, 4)
    """
    return _of_channels(2, input, p, training)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, each channel of each image is 0 with probability ``p`` and multiplied by ``1 / (1 - p)`` otherwise.

    Args:
        input: ``(N, C, D, H, W)``, float32 or float64.
        p: from 0 to 1.
        training: without it the input is returned.

    Returns:
        A tensor of the input's shape. What is kept is drawn by ``lucid.random.bernoulli(1 - p)``, one word a channel.

    Raises:
        ValueError: another rank, ``p`` outside 0 to 1.
        TypeError: integers.

    Source: Tompson et al., CVPR 2015 (SpatialDropout).

    Example:
        >>> import lucid
        >>> lucid.nn.functional.dropout3d(lucid.ones(*(2, 3, 4, 4, 4)), p=0.5).shape
        (2, 3, 4, 4, 4)
    """
    return _of_channels(3, input, p, training)


ALPHA = 1.7580993408473766
"""SELU's value at minus infinity, with the sign changed: its scale times its alpha."""


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Dropout that keeps mean 0 and variance 1, for networks with SELU: what is dropped becomes ``-ALPHA``.

    In training ``a (x kept - ALPHA (1 - kept)) + b``, ``a = ((1 + ALPHA^2 p) (1 - p))^(-1/2)``, ``b = a ALPHA p``,
    computed as ``x (a kept) + (kept (a ALPHA) + (b - a ALPHA))``; ``+0`` everywhere for ``p = 1``.

    Args:
        input: a float tensor.
        p: from 0 to 1.
        training: without it the input is returned.

    Returns:
        A tensor of the input's shape. What is kept is drawn by ``lucid.random.bernoulli(1 - p)``.

    Raises:
        ValueError: ``p`` outside 0 to 1.
        TypeError: integers.

    Source: Klambauer et al., NeurIPS 2017.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.alpha_dropout(lucid.ones(3), p=0.0)
        tensor([1., 1., 1.])
    """
    _check_dropout("alpha_dropout", input, p)
    if not training or p == 0.0:
        return input
    kept = random.bernoulli(1.0 - p, input.shape, input.dtype, input.device)
    if p == 1.0:
        return mul(input, kept)
    a = 1.0 / math.sqrt((1.0 + ALPHA * ALPHA * p) * (1.0 - p))
    return add(mul(input, kept * a), kept * (a * ALPHA) + (a * ALPHA * p - a * ALPHA))


def drop_path(input: Tensor, p: float = 0.1, scale_by_keep: bool = True, training: bool = True) -> Tensor:
    """In training, each sample is 0 with probability ``p``: the branch of a residual network is left out for it.

    Args:
        input: ``(N, ...)``, float32 or float64.
        p: from 0 to 1.
        scale_by_keep: whether what is kept is multiplied by ``1 / (1 - p)``.
        training: without it the input is returned.

    Returns:
        A tensor of the input's shape. What is kept is drawn by ``lucid.random.bernoulli(1 - p)``, one word a sample.

    Raises:
        ValueError: no axes, ``p`` outside 0 to 1.
        TypeError: integers.

    Source: Huang et al., ECCV 2016 (stochastic depth); Larsson et al., ICLR 2017.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.drop_path(lucid.ones(3, 2), p=0.0).shape
        (3, 2)
    """
    if not input.ndim:
        raise ValueError("drop_path: input has no axes; must be (N, ...)")
    return _dropout("drop_path", input, (input.shape[0], *[1] * (input.ndim - 1)), p, training, scale_by_keep)


def drop_block(input: Tensor, block_size: int, p: float = 0.1, eps: float = 1e-7, training: bool = True) -> Tensor:
    """In training, squares of ``block_size`` pixels are 0 in each channel, about ``p`` of all; the rest is scaled up.

    A square begins at each pixel from which it fits on the image with probability
    ``p / block_size^2 * H W / ((H - block_size + 1) (W - block_size + 1))``. What is kept is multiplied by the number
    of elements over ``eps`` plus the number of those that are kept.

    Args:
        input: images ``(N, C, H, W)``, float32 or float64.
        block_size: at least 1; at most the smaller side of the image is taken.
        p: from 0 to 1.
        eps: added to the divisor.
        training: without it the input is returned.

    Returns:
        A tensor of the input's shape. Squares are drawn by ``lucid.random.bernoulli``, in row-major order.

    Raises:
        ValueError: another rank, a ``block_size`` below 1, ``p`` outside 0 to 1.
        TypeError: integers.

    Source: Ghiasi, Lin and Le, NeurIPS 2018.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.drop_block(lucid.ones(1, 2, 8, 8), 3, p=0.1).shape
        (1, 2, 8, 8)
    """
    require_image("drop_block", input.shape, 2)
    _check_dropout("drop_block", input, p)
    n, c, height, width = input.shape
    size = min(operator.index(block_size), height, width)
    if block_size < 1:
        raise ValueError(f"block_size: got {block_size}; may be 1 or more")
    if not training or p == 0.0 or not input.size:
        return input
    fits = height - size + 1, width - size + 1
    chance = min(1.0, p * height * width / (size * size * fits[0] * fits[1]))
    begun = random.bernoulli(chance, (n, c, *fits), input.dtype, input.device)
    dropped = pooling.max_pool2d(pad(begun, ((0, 0), (0, 0), *[(size - 1, size - 1)] * 2)), size, 1)
    kept = 1.0 - dropped
    return mul(input, kept * (input.size / (sum(kept) + eps)))


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(q k^T * scale + mask) v``: of each query a mean of the values, weighted by how its key fits.

    Args:
        query: ``(..., T, E)``, float32 or float64; usually ``(batch, heads, T, E)``.
        key: ``(..., S, E)``. Leading axes broadcast.
        value: ``(..., S, O)``.
        attn_mask: what is added to the scores, or booleans, True for keys that are looked at; its shape broadcasts to
            ``(..., T, S)``. A query that looks at no key has zeros.
        dropout_p: the share of weights that become 0, drawn as ``dropout`` does; in evaluation give 0.
        is_causal: whether query ``t`` looks at the keys 0 to ``t`` alone; not together with a mask.
        scale: a factor; None for ``1 / sqrt(E)``.
        enable_gqa: whether the third axis from the end, the heads, may be shorter in key and value: each of their heads
            serves as many of the query's, one after the other.

    Returns:
        ``(..., T, O)``. Without dropout the scores of all queries are never in memory at once, and the backward pass
        makes them again; the bits are those of the composition, whatever the batch, the threads and the backend.

    Raises:
        ValueError: shapes that do not fit, a mask together with ``is_causal``, a probability outside 0 to 1.
        TypeError: integers, two float dtypes.

    Source: ONNX operator Attention; Vaswani et al., NeurIPS 2017; Dao et al., NeurIPS 2022.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> lucid.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        tensor([[1.        , 0.        ],
                [0.33023846, 0.66976154]])
    """
    if attn_mask is not None and is_causal:
        raise ValueError("is_causal: got True together with attn_mask; give one of them")
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"dropout_p: got {dropout_p}; may be 0 to 1")
    drop = None if dropout_p == 0.0 else lambda weights: dropout(weights, dropout_p)
    result: Tensor = attention(query, key, value, attn_mask, is_causal, scale, enable_gqa, drop)
    return result
