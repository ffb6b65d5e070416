"""Operations along an axis: sums, means, extrema, cumulative sums, softmax, losses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.bounded import Array, Bounded
from oracle.kernel.operation import Argument, Attributes, KernelOperation, Made, Shape, Sizes, axes_of

# Rows and their length: one, primes, just past tiles of 16 to 1024, many short rows, few long ones, none.
ROWS = (
    (1, 1), (1, 2), (3, 2), (257, 4), (5, 17), (3, 33), (7, 65), (67, 129), (3, 257), (130, 8), (1031, 100),
    (5, 1000), (2, 1025), (3, 4099), (1, 32768), (1, 100003), (0, 5),
)  # fmt: skip


def row_shape(sizes: Sizes, axis: int) -> Shape:
    """A shape with rows along ``axis``: of two axes, or as many as it needs.

    Example:
        >>> row_shape((3, 129), -1), row_shape((3, 129), 0), row_shape((3, 129), 2)
        ((3, 129), (129, 3), (3, 1, 129))
    """
    rows, length = sizes
    rank = max(2, axis + 1, -axis)
    place = axis % rank
    shape = [1] * rank
    shape[place] = length
    shape[0 if place else 1] = rows
    return tuple(shape)


def _row_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    axis = attributes["axis"]
    return (row_shape(sizes, -1 if axis is None or not isinstance(axis, int) else axis),)


def _by_rows(attributes: Attributes, rank: int) -> int:
    """The axis that counts rows: the first that is not the rows' own."""
    axis = attributes.get("axis", -1)
    return 1 if rank > 1 and isinstance(axis, int) and axis % rank == 0 else 0


def _spread(dy: Bounded, shape: Shape, axis: Any, keepdims: bool) -> Bounded:
    """The gradient of a reduction, repeated over what was reduced."""
    axes = axes_of(axis, len(shape))
    kept = tuple(1 if each in axes else side for each, side in enumerate(shape))
    return dy.moved(lambda part: np.broadcast_to(part.reshape(kept), shape))


def _sum(inputs: list[Bounded], axis: Any, keepdims: bool) -> Bounded:
    return inputs[0].sum(axes_of(axis, inputs[0].value.ndim), keepdims)


def _sum_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: Any, keepdims: bool) -> Made:
    return {0: _spread(dy, inputs[0].shape, axis, keepdims)}


def _mean(inputs: list[Bounded], axis: Any, keepdims: bool) -> Bounded:
    return inputs[0].mean(axes_of(axis, inputs[0].value.ndim), keepdims)


def _mean_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: Any, keepdims: bool) -> Made:
    count = inputs[0].value.size / max(1, dy.value.size)
    return {0: _spread(dy / count, inputs[0].shape, axis, keepdims)}


def _var(inputs: list[Bounded], axis: Any, keepdims: bool, correction: int) -> Bounded:
    x = inputs[0]
    axes = axes_of(axis, x.value.ndim)
    centred = x - x.mean(axes, keepdims=True)
    total = centred.square().sum(axes, keepdims)
    count = math.prod(x.shape[axis] for axis in axes)
    if count <= correction:
        raise UsageError(f"correction: got {correction} for {count} elements; may be less than those")
    made = total / (count - correction)
    if x.of.one_pass:
        grown = (
            x.of.gain(count, x.of.unit) * np.square(x.value).sum(axes, keepdims=keepdims) / max(1.0, count - correction)
        )
        made = made.with_error(2 * grown)
    return made


def _var_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: Any, keepdims: bool, correction: int) -> Made:
    x = inputs[0]
    axes = axes_of(axis, x.value.ndim)
    count = math.prod(x.shape[axis] for axis in axes)
    centred = x - x.mean(axes, keepdims=True)
    spread = _spread(dy, x.shape, axis, keepdims)
    made = spread * (centred * (2.0 / (count - correction)))
    return {0: made.with_error(made.of.least * (np.abs(spread.value) + np.abs(centred.value)))}  # in whatever order


def _extremum(sign: int) -> Any:
    def forward(inputs: list[Bounded], axis: Any, keepdims: bool) -> Bounded:
        x = inputs[0] if sign > 0 else -inputs[0]
        made = x.max(axes_of(axis, x.value.ndim), keepdims)
        return made if sign > 0 else -made

    return forward


def _extremum_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: Any, keepdims: bool) -> Made:
    """To the largest; among equal ones, any or in parts."""
    x = inputs[0]
    won = x.value == _spread(y, x.shape, axis, keepdims).value
    ties = won.sum(axes_of(axis, x.value.ndim), keepdims=True) > 1
    gradient = _spread(dy, x.shape, axis, keepdims)
    return {0: gradient.where(won, 0.0).with_error(np.where(won & ties, np.abs(gradient.value), 0.0))}


def _cumsum(inputs: list[Bounded], axis: int) -> Bounded:
    return inputs[0].cumsum(axis)


def _cumsum_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: int) -> Made:
    def flipped(x: Bounded) -> Bounded:
        return x.moved(lambda part: np.flip(part, axis))

    return {0: flipped(flipped(dy).cumsum(axis))}


def _places(x: Bounded, axis: int, descending: bool) -> Array:
    return np.argsort(-x.value if descending else x.value, axis, kind="stable")


def _sort(inputs: list[Bounded], axis: int, descending: bool) -> Bounded:
    places = _places(inputs[0], axis, descending)
    return inputs[0].moved(lambda part: np.take_along_axis(part, places, axis))


def _sort_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: int, descending: bool) -> Made:
    """Back to where each came from; among equal ones in any order."""
    places = _places(inputs[0], axis, descending)
    back = np.argsort(places, axis)
    made = dy.moved(lambda part: np.take_along_axis(part, back, axis))
    same = np.diff(y.value, axis=axis) == 0
    nothing = np.zeros([1 if i == axis % same.ndim else n for i, n in enumerate(same.shape)], bool)
    tied = np.concatenate([same, nothing], axis) | np.concatenate([nothing, same], axis)
    largest = np.abs(dy.value).max(axis, keepdims=True, initial=0.0)
    return {0: made.with_error(np.where(np.take_along_axis(tied, back, axis), 2 * largest, 0.0))}


def _shifted(x: Bounded, axis: int) -> tuple[Bounded, Bounded]:
    """``x - max``, and the maximum."""
    if x.value.shape[axis] == 0:
        return x, x.moved(lambda part: part.sum(axis, keepdims=True))
    largest = x.max(axis, keepdims=True)
    return x - largest, largest


def _softmax(inputs: list[Bounded], axis: int) -> Bounded:
    shifted, _ = _shifted(inputs[0], axis)
    powers = shifted.exp()
    if axis % inputs[0].value.ndim != inputs[0].value.ndim - 1:
        powers = powers.stored()  # PyTorch's, along an axis that is not the last
    return powers / powers.sum(axis, keepdims=True)


def _softmax_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: int) -> Made:
    y = y.stored()
    return {0: y * (dy - (dy * y).sum(axis, keepdims=True))}


def log_softmax(x: Bounded, axis: int) -> Bounded:
    """``x - max - log(sum(exp(x - max)))``; ``x - (max + log ...)`` is as healthy, and so is it to keep these parts as
    results are stored (PyTorch does both)."""
    shifted, largest = _shifted(x, axis)
    total = shifted.exp().sum(axis, keepdims=True).log()
    made = shifted - total
    along = np.abs(largest.value + total.value) + np.abs(largest.value)
    kept = 1 + np.abs(total.value) + np.abs(shifted.value) if x.of.stored > x.of.unit else 0.0
    unit = max(x.of.unit, x.of.stored)
    return made.with_error(np.nan_to_num(unit * (along + kept) + x.of.unit * np.abs(x.value), posinf=0.0))


def _logsumexp(inputs: list[Bounded], axis: int, keepdims: bool) -> Bounded:
    """``log(sum(exp(x - max))) + max``; a row of minus infinity has that."""
    shifted, largest = _shifted(inputs[0], axis)
    made = shifted.exp().sum(axis, keepdims=True).log() + largest
    made = made.where(np.isfinite(largest.value), largest.value)
    return made if keepdims else made.moved(lambda part: part.squeeze(axis))


def _logsumexp_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: int, keepdims: bool) -> Made:
    x = inputs[0]
    spread, along = (_spread(each, x.shape, axis, keepdims) for each in (dy, y.stored()))
    return {0: spread * (x - along).exp()}


def _log_softmax(inputs: list[Bounded], axis: int) -> Bounded:
    return log_softmax(inputs[0], axis)


def _log_softmax_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, axis: int) -> Made:
    return {0: dy - y.stored().exp() * dy.sum(axis, keepdims=True)}


def _one_hot(target: Array, classes: int) -> Array:
    found = np.zeros((*target.shape, classes))
    valid = (target >= 0) & (target < classes)
    np.put_along_axis(found, np.where(valid, target, 0)[..., None], valid[..., None].astype(np.float64), -1)
    return found


class _Loss:
    """What a loss over classes weighs: for each element of ``log p`` its share, rows that are ignored 0, and what the
    whole is divided by."""

    def __init__(
        self, x: Bounded, target: Any, weight: Any, ignore_index: int, reduction: str, label_smoothing: float = 0.0
    ) -> None:
        labels = np.asarray(target).astype(np.int64)
        classes = x.shape[1]
        kept = labels != ignore_index
        of_class = np.ones(classes) if weight is None else weight.value
        hot = _one_hot(np.where(kept, labels, -1), classes)
        shares = hot * of_class * (1 - label_smoothing)
        shares = shares + kept[:, None] * of_class * (label_smoothing / classes)
        self.shares = -shares
        self.total = _in_levels(x.of.exact((hot * of_class).sum(1)))
        self.reduction, self.smoothing = reduction, label_smoothing

    def of(self, logs: Bounded) -> Bounded:
        each = (logs * self.shares).sum(1, terms=1 + np.count_nonzero(self.shares, 1).max(initial=1))
        each = each.stored()
        if self.smoothing and each.of.stored > each.of.unit:  # made of two losses, each of them stored, and scaled
            each = each.with_error(3 * each.of.stored * np.abs(logs.value * self.shares).sum(1))
        if self.reduction == "none":
            return each
        total = _in_levels(each)
        return total / self.total if self.reduction == "mean" else total

    def gradient(self, dy: Bounded) -> Bounded:
        spread = dy.moved(lambda part: np.broadcast_to(np.reshape(part, (-1, 1)), self.shares.shape))
        share = spread * self.shares
        return share / self.total if self.reduction == "mean" else share


def _in_levels(rows: Bounded) -> Bounded:
    """A sum over a batch's rows; in low precision perhaps in levels of 16, as they are stored (PyTorch)."""
    made, of = rows.sum(), rows.of
    if of.stored <= of.unit and not of.composed:
        return made
    levels = replace(of, alike=False).gain(min(16, rows.value.size) + 1, of.stored)
    return made.with_error(levels * np.abs(rows.value).sum())


def _cross_entropy(inputs: list[Any], **attributes: Any) -> Bounded:
    x, target, weight = inputs
    return _Loss(x, target, weight, **attributes).of(log_softmax(x, 1).stored())


def _cross_entropy_gradient(dy: Bounded, inputs: list[Any], y: Bounded, **attributes: Any) -> Made:
    x, target, weight = inputs
    of_logs = _Loss(x, target, weight, **attributes).gradient(dy).stored()
    logs = log_softmax(x, 1).stored()
    if attributes["label_smoothing"]:  # shares that are all alike
        of_logs = replace(of_logs, of=replace(of_logs.of, alike=True))
        made = of_logs - logs.exp() * of_logs.sum(1, keepdims=True)
        apart = np.abs(of_logs.value) + np.exp(logs.value) * np.abs(of_logs.value).sum(1, keepdims=True)
        return {0: made.with_error(2 * made.of.unit * apart)}  # of two losses, whose gradients are added
    return {0: of_logs - logs.exp() * of_logs.sum(1, keepdims=True, terms=2)}


def _nll(inputs: list[Any], **attributes: Any) -> Bounded:
    x, target, weight = inputs
    return _Loss(x, target, weight, **attributes).of(x)


def _nll_gradient(dy: Bounded, inputs: list[Any], y: Bounded, **attributes: Any) -> Made:
    x, target, weight = inputs
    return {0: _Loss(x, target, weight, **attributes).gradient(dy)}


def _mse(inputs: list[Bounded], reduction: str) -> Bounded:
    x, target = inputs
    squares = (x - target).stored().square().stored()
    if reduction == "none":
        return squares
    return squares.mean() if reduction == "mean" else squares.sum()


def _mse_gradient(dy: Bounded, inputs: list[Bounded], y: Bounded, reduction: str) -> Made:
    x, target = inputs
    share = dy / x.value.size if reduction == "mean" else dy
    made = (x - target) * 2.0 * share.moved(lambda part: np.broadcast_to(part, x.shape))
    made = made.with_error(made.of.least * (1 + np.abs(dy.value)))  # in whatever order
    return {0: made, 1: -made}


def _check_reduction(attributes: Attributes) -> None:
    if attributes["reduction"] not in ("mean", "sum", "none"):
        raise UsageError(f"reduction: got {attributes['reduction']!r}; may be 'mean', 'sum' or 'none'")


def _label_shapes(sizes: Sizes, attributes: Attributes) -> tuple[Shape, ...]:
    rows, classes = sizes
    return (max(1, rows), classes), (max(1, rows),), (classes,)


def _along(name: str, forward: Any, backward: Any, attributes: Attributes, **more: Any) -> KernelOperation:
    given: dict[str, Any] = {
        "sizes": lambda attributes: ROWS,
        "lean_gradients": "apart" in more,
        "draws": ("spike", "offset", "wide", "cancel", "special", "zeros", "constant", "strided"),
    } | more
    return KernelOperation(
        name,
        (Argument("x"),),
        forward,
        backward,
        shapes=_row_shapes,
        attributes=attributes,
        axes=("row", "column"),
        **given,
    )


_LOSS = {"ignore_index": -100, "reduction": "mean"}
_LABELLED = (Argument("input"), Argument("target", "label", gradient=False), Argument("weight", "scale", "rare", False))
_REDUCED: Attributes = {"axis": None, "keepdims": False}
_SUMS = ("whole", "spike", "offset", "wide", "cancel", "special", "strided")

ROW_OPERATIONS = (
    _along("sum", _sum, _sum_gradient, _REDUCED, draws=_SUMS, whole=True),
    _along("mean", _mean, _mean_gradient, _REDUCED, draws=("spike", "offset", "wide", "cancel", "special", "strided")),
    _along(
        "var",
        _var,
        _var_gradient,
        _REDUCED | {"correction": 1},
        draws=("spike", "offset", "nan", "strided"),
        sizes=lambda attributes: [sizes for sizes in ROWS if sizes[1] > attributes["correction"]],
    ),
    _along(
        "amax",
        _extremum(1),
        _extremum_gradient,
        _REDUCED,
        draws=("spike", "whole", "zeros", "special", "wide", "strided"),
        conserves=lambda attributes, rank: axes_of(attributes["axis"], rank),
    ),
    _along(
        "amin",
        _extremum(-1),
        _extremum_gradient,
        _REDUCED,
        draws=("spike", "whole", "zeros", "special", "wide", "strided"),
        conserves=lambda attributes, rank: axes_of(attributes["axis"], rank),
    ),
    _along("cumsum", _cumsum, _cumsum_gradient, {"axis": -1}, draws=_SUMS, apart=_by_rows),
    _along(
        "sort",
        _sort,
        _sort_gradient,
        {"axis": -1, "descending": False},
        draws=("spike", "whole", "zeros", "wide", "strided"),
        contained=False,
        apart=_by_rows,
    ),
    _along(
        "softmax",
        _softmax,
        _softmax_gradient,
        {"axis": -1},
        draws=("spike", "offset", "span", "constant", "masked", "nan", "strided"),
        apart=_by_rows,
    ),
    _along(
        "logsumexp",
        _logsumexp,
        _logsumexp_gradient,
        {"axis": -1, "keepdims": False},
        draws=("spike", "offset", "span", "constant", "masked", "strided"),
        apart=_by_rows,
    ),
    _along(
        "log_softmax",
        _log_softmax,
        _log_softmax_gradient,
        {"axis": -1},
        draws=("spike", "offset", "span", "constant", "nan", "strided"),
        apart=_by_rows,
    ),
    KernelOperation(
        "cross_entropy",
        _LABELLED,
        _cross_entropy,
        _cross_entropy_gradient,
        lambda attributes: [sizes for sizes in ROWS if sizes[0]],
        _label_shapes,
        _LOSS | {"label_smoothing": 0.0},
        ("spike", "offset", "span", "constant", "nan", "strided"),
        ("row", "class"),
        check=_check_reduction,
        lean_gradients=False,
        apart=lambda attributes, rank: 0,
    ),
    KernelOperation(
        "nll_loss",
        _LABELLED,
        _nll,
        _nll_gradient,
        lambda attributes: [sizes for sizes in ROWS if sizes[0]],
        _label_shapes,
        _LOSS,
        ("spike", "wide", "strided"),
        ("row", "class"),
        check=_check_reduction,
        lean_gradients=False,
        apart=lambda attributes, rank: 0,
    ),
    KernelOperation(
        "mse_loss",
        (Argument("input"), Argument("target")),
        _mse,
        _mse_gradient,
        lambda attributes: [sizes for sizes in ROWS if sizes[0]],
        lambda sizes, attributes: (sizes, sizes),
        {"reduction": "mean"},
        ("spike", "offset", "strided"),
        ("row", "column"),
        check=_check_reduction,
        lean_gradients=False,
        apart=lambda attributes, rank: 0,
    ),
)
