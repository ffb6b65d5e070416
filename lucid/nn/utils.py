"""What training does with the gradients of many parameters at once."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lucid.core.grad_mode import no_grad
from lucid.core.tensor import Tensor, tensor
from lucid.ops.comparison import isfinite
from lucid.ops.elementwise import abs as magnitude
from lucid.ops.elementwise import clip, power, sqrt, square
from lucid.ops.reduction import max as largest
from lucid.ops.reduction import sum as total_of
from lucid.ops.shape import stack

__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value", "clip_grad_value_", "get_total_norm"]

Tensors = Tensor | Iterable[Tensor]


def _several(name: str, given: Tensors) -> list[Tensor]:
    tensors = [given] if isinstance(given, Tensor) else list(given)
    for each in tensors:
        if not isinstance(each, Tensor):
            raise TypeError(f"{name}: got {type(each).__name__}; may be a tensor, or several")
    return tensors


@no_grad()
def get_total_norm(tensors: Tensors, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The norm of all elements of several tensors together: of each tensor, then of these norms; each operation rounds
    in their dtype, float64 where they have two. Of no tensors, 0.

    Args:
        tensors: float tensors, or one.
        norm_type: 1, 2, any number above 0, or infinity.
        error_if_nonfinite: whether a norm that is NaN or infinite is an error.

    Raises:
        ValueError: another norm.
        RuntimeError: the norm is not finite, and ``error_if_nonfinite``.

    Example:
        >>> import lucid
        >>> lucid.nn.utils.get_total_norm([lucid.tensor([3.0]), lucid.tensor([4.0])])
        tensor(5.)
    """
    norm_type = float(norm_type)
    if not norm_type > 0:
        raise ValueError(f"norm_type: got {norm_type}; may be a number above 0, or infinity")
    given = [each for each in _several("tensors", tensors) if each.size]
    if not given:
        return tensor(0.0)
    norms = [_norm(each, norm_type) for each in given]
    dtype = max((norm.dtype for norm in norms), key=lambda dtype: dtype.itemsize)
    total = _norm(stack([norm.to(norms[0].device).astype(dtype) for norm in norms]), norm_type)
    if error_if_nonfinite and not bool(isfinite(total).item()):
        raise RuntimeError(f"the norm of the gradients is {total.item()}; error_if_nonfinite is True")
    return total


def _norm(x: Tensor, norm_type: float) -> Tensor:
    if norm_type == 2:
        return sqrt(total_of(square(x)))
    if math.isinf(norm_type):
        return largest(magnitude(x))
    return power(total_of(power(magnitude(x), norm_type)), 1.0 / norm_type)


@no_grad()
def clip_grad_norm_(
    parameters: Tensors, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale the gradients in place so that their norm together is at most ``max_norm``: each is multiplied by
    ``min(max_norm / (norm + 1e-6), 1)``. Returns the norm before.

    Args:
        parameters: parameters, or one; those without a gradient are left out.
        max_norm: the largest norm.
        norm_type: see ``get_total_norm``.
        error_if_nonfinite: whether a norm that is NaN or infinite is an error; no gradient has been changed then.

    Raises:
        ValueError: another norm.
        RuntimeError: the norm is not finite, and ``error_if_nonfinite``.

    Source: Pascanu et al., ICML 2013, in PyTorch's form.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([3.0, 4.0])
        >>> (p * p / 2).sum().backward()
        >>> lucid.nn.utils.clip_grad_norm_([p], max_norm=1.0)
        tensor(5.)
        >>> [round(g, 3) for g in p.grad.tolist()]
        [0.6, 0.8]
    """
    grads = [p.grad for p in _several("parameters", parameters) if p.grad is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite)
    share = clip(float(max_norm) / (total + 1e-6), max_value=1.0)
    for grad in grads:
        grad *= share.to(grad.device).astype(grad.dtype)
    return total


@no_grad()
def clip_grad_value_(parameters: Tensors, clip_value: float) -> None:
    """Bring every element of the gradients, in place, to between ``-clip_value`` and ``clip_value``.

    Args:
        parameters: parameters, or one; those without a gradient are left out.
        clip_value: the largest magnitude.

    Example:
        >>> import lucid
        >>> p = lucid.nn.Parameter([3.0, -0.25])
        >>> (p * p).sum().backward()
        >>> lucid.nn.utils.clip_grad_value_(p, 1.0)
        >>> p.grad
        tensor([ 1. , -0.5])
    """
    for p in _several("parameters", parameters):
        if p.grad is not None and p.grad.size:
            p.grad[...] = clip(p.grad, -float(clip_value), float(clip_value))


clip_grad_norm, clip_grad_value = clip_grad_norm_, clip_grad_value_
