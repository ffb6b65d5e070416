"""Softmax and losses (``ARITHMETIC.md``, section 9)."""

from __future__ import annotations

from typing import Any, ClassVar

from lucid.backends import Backend, backend_for
from lucid.backends.shapes import Abstract
from lucid.core.device import refuse_where
from lucid.core.dtypes import int64
from lucid.core.tensor import Tensor, wrap
from lucid.ops._common import beside, broadcast_shape, one_axis
from lucid.ops._function import Function, apply
from lucid.ops.creation import full_like
from lucid.ops.elementwise import abs, add, div, exp, mul, neg, square, sub, where
from lucid.ops.reduction import mean, sum
from lucid.ops.shape import cast, reshape, transpose

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
    "softmax",
]

_REDUCTIONS = ("none", "sum", "mean")


class LogSoftmax(Function):
    name = "log_softmax"
    floats = True
    params = ("axis",)

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, be: Backend, x: Any) -> Any:
        y = be.log_softmax(x, self.axis)
        self.saved = (y,)
        return y

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        return (be.log_softmax_grad(dy, self.saved[0], self.axis),)  # type: ignore[index]


def log_softmax(input: Tensor, axis: int = -1) -> Tensor:
    """``y[c] = x[c] - log(sum over j of exp(x[j]))`` along ``axis``.

    Args:
        input: a float tensor with at least one axis.
        axis: the axis of the classes.

    Returns:
        A tensor of the input's shape. Gradient: ``dy[c] - exp(y[c]) * sum of dy``.

    Raises:
        ValueError: there is no such axis.
        TypeError: integers.

    Source: ONNX operator LogSoftmax.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.log_softmax(lucid.tensor([0.0, 0.0]))
        tensor([-0.6931472, -0.6931472])
    """
    if input._array.dtype.kind != "f":
        raise TypeError(f"log_softmax: got a {input.dtype} tensor; may be float32 or float64 (convert with .astype)")
    return apply(LogSoftmax(one_axis("log_softmax", axis, input.ndim)), input)


def softmax(input: Tensor, axis: int = -1) -> Tensor:
    """``exp(x[c]) / sum over j of exp(x[j])``, computed as ``exp(log_softmax(x))``. Arguments and errors as
    ``log_softmax``.

    Source: ONNX operator Softmax.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.softmax(lucid.tensor([0.0, 0.0]))
        tensor([0.5, 0.5])
    """
    return exp(log_softmax(input, axis))


class NllLoss(Function):
    """Of log-probabilities ``(N, C)`` and targets ``(N,)``, which have been checked."""

    name = "nll_loss"
    floats = True
    any_dtype_inputs = (1,)
    params = ("ignore_index", "reduction")

    def __init__(self, ignore_index: int, reduction: str) -> None:
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, be: Backend, logp: Any, target: Any, weight: Any) -> Any:
        loss, weight_sum = be.nll_loss(logp, target, weight, self.ignore_index, self.reduction)
        self.saved = (target, weight, weight_sum, logp.shape[1])
        return loss

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        target, weight, weight_sum, classes = self.saved  # type: ignore[misc]
        grad = be.nll_loss_grad(dy, target, weight, self.ignore_index, self.reduction, weight_sum, classes)
        return (grad, None, None)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood ``l[n] = -w[t[n]] * logp[n, t[n]]``.

    Args:
        input: log-probabilities ``(N, C)``, ``(C,)``, or ``(N, C, d1, ...)``.
        target: classes, integers of shape ``(N,)``, ``()``, or ``(N, d1, ...)``.
        weight: ``(C,)``, the weight of each class; None for 1.
        ignore_index: a target that takes no part in loss and gradient.
        reduction: ``"none"`` (each ``l[n]``), ``"sum"``, or ``"mean"``: the sum of ``l`` over the sum of the targets'
            weights.

    Returns:
        A tensor without axes, or of the target's shape for ``"none"``.

    Raises:
        IndexError: a target that is no class. For targets on a GPU it comes when a value is next read from there.
        ValueError: shapes that do not fit, an unknown reduction.
        TypeError: targets that are no integers, two float dtypes.

    Source: ONNX operator NegativeLogLikelihoodLoss.

    Example:
        >>> import lucid
        >>> logp = lucid.log(lucid.tensor([[0.5, 0.5], [0.25, 0.75]]))
        >>> lucid.nn.functional.nll_loss(logp, lucid.tensor([0, 0]))
        tensor(1.0397208)
    """
    rows, classes = _rows("nll_loss", input, target, weight, ignore_index, reduction)
    loss = apply(NllLoss(ignore_index, reduction), rows, classes, weight)
    return reshape(loss, target.shape) if reduction == "none" and loss.shape != target.shape else loss


def _rows(
    name: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> tuple[Tensor, Tensor]:
    """Input and target as ``(N, C)`` and ``(N,)``, checked."""
    _check_reduction(reduction)
    if not isinstance(target, Tensor) or target.dtype.kind not in "iu":
        kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"target: got {kind}; must be a tensor of integers, the classes")
    shape = input.shape
    if not shape or target.shape != ((*shape[:1], *shape[2:]) if len(shape) > 1 else ()):
        raise ValueError(
            f"{name}: got an input of shape {shape} and a target of shape {target.shape}; "
            "must be (N, C) and (N,), (C,) and (), or (N, C, d1, ...) and (N, d1, ...)"
        )
    classes = shape[1] if len(shape) > 1 else shape[0]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"weight: got shape {weight.shape}; must be ({classes},), one for each class")
    if len(shape) > 2:
        input = transpose(input, (0, *range(2, len(shape)), 1))
    rows = input if input.ndim == 2 else reshape(input, (target.size, classes))
    if isinstance(target._array, Abstract):  # which has no values to check
        return rows, cast(target if target.ndim == 1 else reshape(target, (target.size,)), int64)
    flat = _checked_targets(backend_for(target.device), target._array.reshape(-1), classes, ignore_index)
    return rows, wrap(flat.astype("int64", copy=False), target.device) if flat is not target._array else target


def _check_reduction(reduction: str) -> None:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: got {reduction!r}; may be 'none', 'sum' or 'mean'")


def _checked_targets(be: Backend, target: Any, classes: int, ignore_index: int) -> Any:
    """The targets, which are classes or ignored: where that can only be known later, what is neither is ignored now."""

    def error(place: int, value: float) -> Exception:
        return IndexError(
            f"target: got class {int(value)} at position {place}; may be 0 to {classes - 1}, "
            f"or {ignore_index} (ignored)"
        )

    bad = ((target < 0) | (target >= classes)) & (target != ignore_index)
    refuse_where(be, bad, target, error)
    return be.xp.where(bad, be.number(ignore_index, int64), target) if be.asynchronous else target


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``nll_loss(log_softmax(x), target)``: the cross-entropy of logits against classes.

    With smoothing ``s`` the loss is ``(1 - s) * nll + s / C * sum over c of -w[c] * logp[n, c]``; the mean of both
    parts divides by the same sum of weights.

    Args:
        input: logits ``(N, C)``, ``(C,)``, or ``(N, C, d1, ...)``.
        target: classes as in ``nll_loss``, or probabilities (floats) of the input's shape.
        weight: ``(C,)``, the weight of each class; None for 1.
        ignore_index: a class that takes no part; of no meaning for probabilities.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``; for probabilities the mean divides by ``N d1 ...``.
        label_smoothing: from 0 to 1, how much of each target is spread evenly over all classes.

    Returns:
        A tensor without axes, or of the shape of the classes for ``"none"``.

    Raises: as ``nll_loss``; ValueError also for a smoothing outside 0 to 1.

    Source: ONNX operator SoftmaxCrossEntropyLoss; Szegedy et al., CVPR 2016, for the smoothing.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.cross_entropy(lucid.tensor([[2.0, 0.0]]), lucid.tensor([0]))
        tensor(0.12692802)
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing: got {label_smoothing}; may be 0 to 1")
    if isinstance(target, Tensor) and target.dtype.kind == "f":
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    rows, classes = _rows("cross_entropy", input, target, weight, ignore_index, reduction)
    logp = log_softmax(rows, 1)
    loss = apply(NllLoss(ignore_index, reduction), logp, classes, weight)
    if label_smoothing:
        smooth = _smoothing(logp, classes, weight, ignore_index, reduction)
        loss = add(mul(loss, 1.0 - label_smoothing), mul(smooth, label_smoothing / logp.shape[1]))
    return reshape(loss, target.shape) if reduction == "none" and loss.shape != target.shape else loss


def _smoothing(logp: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
    """The sum of ``-w[c] * logp[n, c]`` over the classes, reduced as ``nll_loss`` reduces its rows."""
    taken = target != ignore_index
    each = neg(sum(logp if weight is None else mul(logp, weight), 1))
    each = where(taken, each, 0.0)
    if reduction == "none":
        return each
    total = sum(each)
    if reduction == "sum":
        return total
    if weight is None:
        return div(total, sum(taken.astype(logp.dtype)))
    return div(total, sum(where(taken, weight[where(taken, target, 0)], 0.0)))


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    """Cross-entropy against probabilities."""
    _check_reduction(reduction)
    if not input.ndim or target.shape != input.shape:
        raise ValueError(
            f"cross_entropy: probabilities of shape {target.shape} must have the input's shape {input.shape}"
        )
    axis = 1 if input.ndim > 1 else 0
    classes = input.shape[axis]
    if label_smoothing:
        target = add(mul(target, 1.0 - label_smoothing), label_smoothing / classes)
    terms = mul(log_softmax(input, axis), target)
    if weight is not None:
        if weight.shape != (classes,):
            raise ValueError(f"weight: got shape {weight.shape}; must be ({classes},), one for each class")
        terms = mul(terms, reshape(weight, (classes, *[1] * (input.ndim - axis - 1))))
    loss = neg(sum(terms, axis))
    return loss if reduction == "none" else sum(loss) if reduction == "sum" else mean(loss)


def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """``(input - target)^2``, and its mean or sum.

    Args:
        input: a float tensor.
        target: a tensor of the same shape and dtype; unlike PyTorch's it is not broadcast, which is mostly a mistake.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``.

    Returns:
        A tensor without axes, or of the input's shape for ``"none"``.

    Raises:
        ValueError: another shape, an unknown reduction.
        TypeError: two float dtypes.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.mse_loss(lucid.tensor([1.0, 2.0]), lucid.tensor([0.0, 0.0]))
        tensor(2.5)
    """
    return _reduced(square(sub(input, _like_input("mse_loss", input, target, reduction))), reduction)


def _like_input(name: str, input: Tensor, target: Any, reduction: str) -> Tensor:
    """The target of a loss of each element, checked."""
    _check_reduction(reduction)
    target = beside(target, input)
    if input.shape != target.shape:
        raise ValueError(f"{name}: input has shape {input.shape} and target {target.shape}; must be equal")
    return target


def _reduced(each: Tensor, reduction: str) -> Tensor:
    return each if reduction == "none" else sum(each) if reduction == "sum" else mean(each)


class Huber(Function):
    name = "huber"
    floats = True
    params = ("delta",)

    def __init__(self, delta: float) -> None:
        self.delta = delta

    def forward(self, be: Backend, x: Any, target: Any) -> Any:
        d = be.binary("sub", x, target)
        self.saved = (d,)
        size = be.unary("abs", d)
        near = be.binary("minimum", size, be.number(self.delta, d.dtype))
        return be.binary("mul", near, be.binary("sub", size, be.binary("mul", be.number(0.5, d.dtype), near)))

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        (d,) = self.saved  # type: ignore[misc]
        slope = be.binary("minimum", d, be.number(self.delta, d.dtype))
        dx = be.binary("mul", dy, be.binary("maximum", slope, be.number(-self.delta, d.dtype)))
        needs_x, needs_target = self.needs  # type: ignore[misc]
        return dx if needs_x else None, be.unary("neg", dx) if needs_target else None


def huber_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """``d^2 / 2`` where ``d = |input - target|`` is at most ``delta``, else ``delta (d - delta / 2)``; mean or sum.

    Computed as ``q (d - q / 2)`` with ``q = min(d, delta)``.

    Args:
        input: a float tensor.
        target: a tensor of the same shape and dtype.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``.
        delta: above 0.
        weight: by what each element is multiplied; a shape that broadcasts to the input's, or None for 1.

    Returns:
        A tensor without axes, or of the input's shape for ``"none"``. Gradient: ``dy`` times the difference, clipped to
        ``delta``.

    Raises:
        ValueError: another shape, an unknown reduction, a ``delta`` of 0 or less.
        TypeError: integers, two float dtypes.

    Source: Huber, Ann. Math. Statist. 35, 1964.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.huber_loss(lucid.tensor([0.5, 3.0]), lucid.zeros(2), reduction="none")
        tensor([0.125, 2.5  ])
    """
    target = _like_input("huber_loss", input, target, reduction)
    if not delta > 0:
        raise ValueError(f"delta: got {delta}; may be any number above 0")
    return _reduced(_weighted("huber_loss", apply(Huber(float(delta)), input, target), weight), reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """``d^2 / (2 beta)`` where ``d = |input - target|`` is at most ``beta``, else ``d - beta / 2``; mean or sum.

    It is ``huber_loss`` with ``delta = beta``, divided by ``beta``; with ``beta = 0`` the absolute difference.

    Args:
        input: a float tensor.
        target: a tensor of the same shape and dtype.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``.
        beta: at least 0.

    Returns:
        A tensor without axes, or of the input's shape for ``"none"``.

    Raises:
        ValueError: another shape, an unknown reduction, a negative ``beta``.
        TypeError: integers, two float dtypes.

    Source: Girshick, ICCV 2015.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.smooth_l1_loss(lucid.tensor([1.0, 3.0]), lucid.zeros(2), reduction="none", beta=2.0)
        tensor([0.25, 2.  ])
    """
    target = _like_input("smooth_l1_loss", input, target, reduction)
    if not beta >= 0:
        raise ValueError(f"beta: got {beta}; may be 0 or more")
    if beta == 0:
        return _reduced(abs(sub(input, target)), reduction)
    return _reduced(div(apply(Huber(float(beta)), input, target), beta), reduction)


class Cross(Function):
    """``cross`` and ``logit_cross``: the functions of each element that ``kernel`` names, and their slopes."""

    floats = True
    kernel: ClassVar[str]

    def forward(self, be: Backend, x: Any, target: Any) -> Any:
        self.saved = (x, target)
        return be.binary(self.kernel, x, target)

    def backward(self, be: Backend, dy: Any) -> tuple[Any, ...]:
        x, target = self.saved  # type: ignore[misc]
        needs_x, needs_target = self.needs  # type: ignore[misc]
        dx = be.binary("mul", dy, be.binary(f"{self.kernel}_slope", x, target)) if needs_x else None
        return dx, be.binary("mul", dy, self.slope_of_target(be, x)) if needs_target else None

    def slope_of_target(self, be: Backend, x: Any) -> Any:
        """The loss is linear in the target: what it is at 1 less what it is at 0."""
        one, zero = be.full(x.shape, 1.0, x.dtype), be.full(x.shape, 0.0, x.dtype)
        return be.binary("sub", be.binary(self.kernel, x, one), be.binary(self.kernel, x, zero))


class BinaryCross(Cross):
    name = "binary_cross_entropy"
    kernel = "cross"


class LogitCross(Cross):
    name = "binary_cross_entropy_with_logits"
    kernel = "logit_cross"


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """``-(t log(p) + (1 - t) log(1 - p))`` of probabilities ``p`` and targets ``t``, each logarithm at least -100.

    Args:
        input: probabilities, 0 to 1.
        target: what they should be, 0 to 1, of the same shape and dtype.
        weight: by what each element is multiplied; a shape that broadcasts to the input's, or None for 1.
        reduction: ``"none"``, ``"sum"`` or ``"mean"`` (over all elements).

    Returns:
        A tensor without axes, or of the input's shape for ``"none"``; each element is computed in float64 and rounded
        once. Gradient: ``dy (p - t) / max(p (1 - p), 1e-12)``.

    Raises:
        ValueError: another shape, an unknown reduction; a probability that is not 0 to 1 (on a GPU it comes when a
            value is next read from there).
        TypeError: integers, two float dtypes.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.binary_cross_entropy(lucid.tensor([0.5, 1.0]), lucid.tensor([1.0, 1.0]))
        tensor(0.3465736)
    """
    target = _like_input("binary_cross_entropy", input, target, reduction)
    be, p = backend_for(input.device), input._array
    if p.dtype.kind == "f" and not isinstance(p, Abstract):
        bad = be.compare("less", p, be.number(0.0, p.dtype)) | be.compare("greater", p, be.number(1.0, p.dtype))
        refuse_where(be, bad.reshape(-1), p.reshape(-1), _no_probability)
    each = apply(BinaryCross(), input, target)
    return _reduced(_weighted("binary_cross_entropy", each, weight), reduction)


def _no_probability(place: int, value: float) -> Exception:
    return ValueError(f"binary_cross_entropy: got {value} at position {place} of the input; may be 0 to 1")


def _weighted(name: str, each: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return each
    if broadcast_shape(name, each.shape, weight.shape) != each.shape:
        raise ValueError(f"weight: got shape {weight.shape}; must broadcast to the input's, {each.shape}")
    return mul(each, weight)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """``binary_cross_entropy(sigmoid(x), t)`` of logits ``x``, as ``max(x, 0) - x t + log(1 + exp(-|x|))``.

    Args:
        input: logits.
        target: what their sigmoids should be, 0 to 1, of the same shape and dtype.
        weight: by what each element is multiplied; a shape that broadcasts to the input's, or None for 1.
        reduction: ``"none"``, ``"sum"`` or ``"mean"`` (over all elements).
        pos_weight: by what the term with ``t`` is multiplied; a shape that broadcasts to the input's, or None for 1.

    Returns:
        A tensor without axes, or of the input's shape for ``"none"``; each element is computed in float64 and rounded
        once, with a ``pos_weight`` as ``pos_weight t loss(x, 1) + (1 - t) loss(x, 0)``. Gradient:
        ``dy (sigmoid(x) - t)``.

    Raises:
        ValueError: another shape, an unknown reduction.
        TypeError: integers, two float dtypes.

    Example:
        >>> import lucid
        >>> lucid.nn.functional.binary_cross_entropy_with_logits(lucid.zeros(2), lucid.ones(2))
        tensor(0.6931472)
    """
    name = "binary_cross_entropy_with_logits"
    target = _like_input(name, input, target, reduction)
    if pos_weight is None:
        each = apply(LogitCross(), input, target)
    else:
        positive = apply(LogitCross(), input, full_like(target, 1.0))
        negative = apply(LogitCross(), input, full_like(target, 0.0))
        positive = _weighted(name, mul(positive, target), pos_weight)
        each = add(positive, mul(negative, sub(1.0, target)))
    return _reduced(_weighted(name, each, weight), reduction)
