"""Matrix products: contractions of ``ARITHMETIC.md``, section 3."""

from __future__ import annotations

from typing import Any

from lucid.backends import Backend
from lucid.core.tensor import Operand, Tensor
from lucid.ops._common import broadcast_shape, unbroadcast
from lucid.ops._function import Function, apply, compose
from lucid.ops._promotion import promoted
from lucid.ops.elementwise import mul
from lucid.ops.shape import reshape

__all__ = ["bilinear", "dot", "linear", "matmul"]


class MatMul(Function):
    name = "matmul"
    floats = True

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        self.shapes = a.shape, b.shape
        a, b = a.reshape(1, -1) if a.ndim == 1 else a, b.reshape(-1, 1) if b.ndim == 1 else b
        self.saved = (a, b)
        y = be.matmul(a, b)
        self.full = y.shape
        rows = () if len(self.shapes[0]) == 1 else y.shape[-2:-1]
        columns = () if len(self.shapes[1]) == 1 else y.shape[-1:]
        return y.reshape((*y.shape[:-2], *rows, *columns))

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        a, b = self.saved  # type: ignore[misc]
        needs_a, needs_b = self.needs  # type: ignore[misc]
        dy = dy.reshape(self.full)
        da = unbroadcast(be, be.matmul(dy, b.swapaxes(-1, -2)), a.shape) if needs_a else None
        db = unbroadcast(be, be.matmul(a.swapaxes(-1, -2), dy), b.shape) if needs_b else None
        return (
            None if da is None else da.reshape(self.shapes[0]),
            None if db is None else db.reshape(self.shapes[1]),
        )


class IntegerMatMul(Function):
    """Of integers: exact, wrapping around where a sum leaves the dtype."""

    name = "matmul"
    differentiable = False

    def forward(self, be: Backend, a: Any, b: Any) -> Any:
        return be.xp.asarray(be.xp.matmul(a, b))


def matmul(a: Operand, b: Operand) -> Tensor:
    """The matrix product ``y[..., m, n] = sum over k of a[..., m, k] * b[..., k, n]``.

    Args:
        a: ``(..., M, K)`` or ``(K,)``.
        b: ``(..., K, N)`` or ``(K,)``. Leading axes broadcast; an operand of one axis is a row, or a column, whose
            axis is left out of the result.

    Returns:
        ``(..., M, N)``. Gradients: ``dy b^T`` and ``a^T dy``, summed over broadcast axes.

    Raises:
        ValueError: an operand without axes, another ``K``, or leading axes that do not broadcast.
        TypeError: two float dtypes, or booleans alone.

    Integers are multiplied and added exactly in their common dtype, and wrap around where a sum leaves it; beside
    floats they are converted. Source: ONNX operator MatMul.

    Example:
        >>> import lucid
        >>> lucid.matmul(lucid.tensor([[1.0, 2.0], [3.0, 4.0]]), lucid.tensor([1.0, 1.0]))
        tensor([3., 7.])
    """
    x, y = promoted("matmul", a, b)
    if not x.ndim or not y.ndim:
        raise ValueError(f"matmul: got shapes {x.shape} and {y.shape}; both operands need an axis")
    if x.shape[-1] != y.shape[-2 if y.ndim > 1 else -1]:
        raise ValueError(
            f"matmul: got shapes {x.shape} and {y.shape}; the last axis of the first must be as long as "
            "the last but one of the second"
        )
    if x.ndim > 2 or y.ndim > 2:
        broadcast_shape("matmul", x.shape[:-2], y.shape[:-2])
    if x.dtype.kind == "b":
        raise TypeError("matmul: got booleans, which have no sums; convert one with .astype")
    return apply(MatMul() if x.dtype.kind == "f" else IntegerMatMul(), x, y)


def dot(a: Operand, b: Operand) -> Tensor:
    """The product of two vectors, or of matrices: ``matmul`` for operands of at most two axes.

    Raises:
        ValueError: an operand with more axes, or lengths that do not fit.

    Example:
        >>> import lucid
        >>> lucid.dot(lucid.tensor([1.0, 2.0]), lucid.tensor([3.0, 4.0]))
        tensor(11.)
    """
    x, y = promoted("dot", a, b)
    if x.ndim > 2 or y.ndim > 2:
        raise ValueError(f"dot: got shapes {x.shape} and {y.shape}; both may have at most two axes (matmul takes more)")
    return matmul(x, y)


class Linear(Function):
    name = "linear"
    floats = True

    def forward(self, be: Backend, x: Any, weight: Any, bias: Any) -> Any:
        self.source = x.shape
        rows = x.reshape(-1, x.shape[-1]) if x.ndim != 2 else x
        self.saved = (rows, weight)
        y = be.linear(rows, weight, bias)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[0])

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        x, weight = self.saved  # type: ignore[misc]
        needs_x, needs_weight, needs_bias = self.needs  # type: ignore[misc]
        if dy.ndim != 2:
            dy = dy.reshape(-1, weight.shape[0])
        return (
            be.matmul(dy, weight).reshape(self.source) if needs_x else None,
            be.matmul(x.swapaxes(0, 1), dy).swapaxes(0, 1) if needs_weight else None,  # stored as weights are
            be.reduce("sum", dy, (0,), False) if needs_bias else None,
        )


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``y = x W^T + b``.

    Args:
        input: ``(..., in_features)``.
        weight: ``(out_features, in_features)``.
        bias: ``(out_features,)``, or None.

    Returns:
        ``(..., out_features)``. Gradients: ``dx = dy W``, ``dW = dy^T x``, ``db`` the sum of ``dy``.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: two float dtypes.

    Source: ONNX operator Gemm with ``transB``.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.linear(lucid.tensor([[1.0, 2.0]]), lucid.tensor([[3.0, 4.0]]), lucid.tensor([0.5]))
        tensor([[11.5]])
    """
    if weight.ndim != 2:
        raise ValueError(f"linear: weight has shape {weight.shape}; must be (out_features, in_features)")
    if not input.ndim or input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: input has shape {input.shape}; its last axis must have length {weight.shape[1]}, "
            f"the in_features of the weight {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias has shape {bias.shape}; must be {weight.shape[:1]}")
    return apply(Linear(), input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``y[o] = sum over i, j of x1[i] * weight[o, i, j] * x2[j]``, plus ``bias[o]``.

    Args:
        input1: ``(..., I)``.
        input2: ``(..., J)``, with the same leading axes.
        weight: ``(O, I, J)``.
        bias: ``(O,)``, or None.

    Returns:
        ``(..., O)``. It is composed, and so is its gradient: the products ``x1[i] * x2[j]``, rounded, are multiplied
        with the weight as in ``linear``.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: two float dtypes.

    Source: ``torch.nn.functional.bilinear``.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([[1.0, 2.0]])
        >>> lucid.nn.functional.bilinear(x, x, lucid.ones(1, 2, 2))
        tensor([[9.]])
    """
    if weight.ndim != 3:
        raise ValueError(
            f"bilinear: weight has shape {weight.shape}; must be (out_features, in1_features, in2_features)"
        )
    if not input1.ndim or not input2.ndim or input1.shape[:-1] != input2.shape[:-1]:
        raise ValueError(
            f"bilinear: inputs have shapes {input1.shape} and {input2.shape}; may differ in the last axis only"
        )
    if (input1.shape[-1], input2.shape[-1]) != weight.shape[1:]:
        raise ValueError(
            f"bilinear: inputs have {input1.shape[-1]} and {input2.shape[-1]} features; must have {weight.shape[1]} "
            f"and {weight.shape[2]}, as weight has, {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bilinear: bias has shape {bias.shape}; must be {weight.shape[:1]}")
    return compose("bilinear", _bilinear, input1, input2, weight, bias)


def _bilinear(x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    (out, i, j), leading = weight.shape, x1.shape[:-1]
    pairs = mul(reshape(x1, (*leading, i, 1)), reshape(x2, (*leading, 1, j)))
    return linear(reshape(pairs, (*leading, i * j)), reshape(weight, (out, i * j)), bias)
