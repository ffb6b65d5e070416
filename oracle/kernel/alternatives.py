"""What a wrong kernel computed instead: operations with one thing changed, as bugs change it, tried in turn.

Each family yields candidates, the most specific first: words, and a function that computes the altered operation. An
alteration changes inputs or attributes and runs the operation (`_Case.run`), so that its budget is derived as the true
one is; or, where something inside changes (a denominator, a statistic), it makes values in float64, which get the true
result's budget (`_Case.near`). To add a bug, yield it in its operation's family.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.bounded import Arithmetic, Array, Bounded
from oracle.kernel.operation import Attributes, KernelOperation, axes_of, by_sides
from oracle.kernel.pooling import _Windows
from oracle.kernel.rows import _Loss, log_softmax

Agrees = Callable[[Bounded], bool]
Candidates = Iterator[tuple[str, Callable[..., Bounded]]]

TILES = (8, 16, 32, 64, 128, 256, 512, 1024)
_STEPS = (2, 3, 4, 8, 10, 16, 32, 50, 64, 100, 128, 256)
_EPSILONS = (0.0, 1e-3, 1e-6, 1e-8, 1e-12)
_LARGEST = 3.4028235677973366e38  # what float32's exponentials overflow past
# Elements that all candidates together may have: about a second of float64 work.
_WORK = 6e6
# What agrees within so much of its budget is likelier than what needs all of it.
_CLOSE = 0.25
_SINGLE = 64  # terms of which each may be the one that is left out


def explain(
    operation: KernelOperation,
    inputs: list[Array | None],
    attributes: Attributes,
    agrees: Agrees,
    arithmetic: Arithmetic,
    place: int | None,
    dy: Array | None,
) -> str:
    """Words for what a kernel computed instead: the first altered operation whose result it agrees with; "" if none.

    Args:
        operation: what it should have computed.
        inputs: as it got them, ``None`` where not taken; labels are whole numbers.
        attributes: the operation's, settled.
        agrees: whether its result is within the budget of a result.
        arithmetic: how a healthy kernel computes.
        place: ``None`` for the output, else the input whose gradient is wrong.
        dy: the gradient of the output, for a gradient.
    """
    case = _Case(operation, inputs, attributes, arithmetic, place, dy)
    with np.errstate(all="ignore"):
        left = int(_WORK / max(1, case.work))
        if not left:
            return ""
        inexact = partial(_inexact, case, agrees)
        close, loose = (partial(_altered, case, agrees, left, share) for share in (_CLOSE, 1.0))
        # In low precision much agrees with a whole budget.
        tries = (close, inexact, loose) if arithmetic.stored > arithmetic.unit else (close, loose, inexact)
        return next(filter(None, (each() for each in tries)), "")


def _inexact(case: _Case, agrees: Agrees) -> str:
    return next((words for words, alter in _less_exact(case) if agrees(alter())), "")


def _altered(case: _Case, agrees: Agrees, left: int, share: float) -> str:
    """The first altered operation that it agrees with, within a share of its budget."""
    for words, alter in itertools.islice(_candidates(case), left):
        try:
            altered = alter()
        except (ValueError, IndexError, ZeroDivisionError, UsageError):
            continue  # there is no such bug at this shape
        if case.tells(altered) and agrees(replace(altered, error=share * altered.error)):
            return words
    return ""


@dataclass(frozen=True)
class _Case:
    """The inputs at which a kernel is wrong, and the operation that it should have computed."""

    operation: KernelOperation
    inputs: list[Array | None]
    attributes: Attributes
    arithmetic: Arithmetic
    place: int | None
    dy: Array | None

    @cached_property
    def truth(self) -> Bounded:
        return self.run()

    @property
    def work(self) -> float:
        """How many elements one candidate goes through."""
        size = sum(each.size for each in self.inputs if each is not None)
        if self.operation.name.startswith(("conv", "matmul", "linear")):
            return size + self.truth.value.size * math.sqrt(size) / 8
        return size + self.truth.value.size

    @property
    def x(self) -> Array:
        assert self.inputs[0] is not None
        return self.inputs[0]

    def given(self, place: int) -> Array | None:
        """An input that the operation may have."""
        return self.inputs[place] if place < len(self.inputs) else None

    def run(
        self,
        inputs: Sequence[Any] | None = None,
        dy: Array | None = None,
        arithmetic: Arithmetic | None = None,
        **attributes: Any,
    ) -> Bounded:
        """The operation's result, or its gradient, with something changed."""
        of = arithmetic or self.arithmetic
        bounded: list[Any] = [
            value if value is None or isinstance(value, Bounded) or argument.role == "label" else of.exact(value)
            for argument, value in zip(self.operation.arguments, inputs or self.inputs, strict=True)
        ]
        attributes = self.attributes | attributes
        y = self.operation.forward(bounded, **attributes)
        if self.place is None:
            return y
        dy = self.dy if dy is None else dy
        assert dy is not None
        assert self.operation.backward is not None
        if dy.shape != y.shape:
            raise ValueError("another shape")
        return self.operation.backward(of.exact(dy), bounded, y, **attributes)[self.place]

    @property
    def upstream(self) -> Array:
        """The output's gradient."""
        assert self.dy is not None
        return self.dy

    def changed(self, place: int, change: Callable[[Array], Any], **attributes: Any) -> Bounded:
        """With one input changed."""
        value = self.given(place)
        if value is None:
            raise ValueError("not given")
        return self.run([change(value) if each == place else x for each, x in enumerate(self.inputs)], **attributes)

    def of_dy(self, change: Callable[[Array], Array]) -> Bounded:
        """A gradient with the output's gradient changed."""
        return self.run(dy=change(self.upstream))

    def near(self, value: Any) -> Bounded:
        """Other values that a kernel computes as exactly as it should compute the right ones."""
        value, truth = np.asarray(value, np.float64), self.truth
        if value.shape != truth.shape:
            raise ValueError("another shape")
        grown = np.nan_to_num(np.maximum(1.0, np.abs(value / truth.value)), nan=1.0, posinf=1.0)
        error = truth.total * grown + 4 * self.arithmetic.unit * np.abs(value - truth.value)
        return Bounded(self.arithmetic, value, error, np.zeros(value.shape))

    def cropped(self, made: Bounded) -> Bounded:
        """As much of it as the right result has."""
        if any(side < right for side, right in zip(made.shape, self.truth.shape, strict=True)):
            raise ValueError("another shape")
        return made.moved(lambda part: part[tuple(slice(0, side) for side in self.truth.shape)])

    def tells(self, altered: Bounded) -> bool:
        """Whether agreement with this says something: it is not the right result, and its budget not far larger."""
        truth = self.truth
        if altered.shape != truth.shape:
            return False
        finite = np.isfinite(altered.value)
        if not np.isfinite(altered.total[finite]).all():
            return False
        if (finite != np.isfinite(truth.value)).any() and not any(
            np.isnan(x).any() for x in self.inputs if x is not None
        ):
            return True
        apart = np.abs(altered.value - truth.value)
        return bool(((apart > 0) & (altered.total <= 4 * truth.total + apart)).any())


def _candidates(case: _Case) -> Candidates:
    """All, the operation's own first."""
    for family in _FAMILIES.get(case.operation.name, ()):
        yield from family(case)
    yield from _anywhere(case)


# Terms of a sum


def _weightings(count: int, term: str) -> Iterator[tuple[str, Array]]:
    """How often each of ``count`` terms counts in a sum that is wrong."""

    def weights(which: Any, value: float) -> Array:
        found = np.ones(count)
        found[which] = value
        return found

    if not count:
        return
    yield f"the last {term} is left out", weights(-1, 0.0)
    yield f"the first {term} is left out", weights(0, 0.0)
    yield f"the last {term} is counted twice", weights(-1, 2.0)
    yield f"the first {term} is counted twice", weights(0, 2.0)
    for tile in TILES:
        if count > tile and count % tile:
            whole = count // tile * tile
            yield f"the {term}s past the last whole tile of {tile} are left out", weights(slice(whole, None), 0.0)
    for tile in TILES:
        if count > tile:
            yield f"the last tile of {tile} {term}s is left out", weights(slice((count - 1) // tile * tile, None), 0.0)
            yield f"only the first {tile} {term}s are taken", weights(slice(tile, None), 0.0)
    for step in _STEPS:
        if count >= step:
            for start in (0, step - 1):
                yield f"every {step}th {term} is left out", weights(slice(start, None, step), 0.0)
    for index in range(count if count <= _SINGLE else 0):
        yield f"{term} {index} is left out", weights(index, 0.0)


def _weighted(x: Array, weights: Array) -> Array:
    return np.where(weights == 0, 0.0, x * weights)


def _along(x: Array, axes: Sequence[int], change: Callable[[Array], Array]) -> Array:
    """Change rows, which lie along some axes, behind each other."""
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    order = (*kept, *axes)
    moved = x.transpose(order)
    rows = moved.reshape(*(x.shape[axis] for axis in kept), math.prod(x.shape[axis] for axis in axes))
    return change(rows).reshape(moved.shape).transpose(np.argsort(order))


def _without(place: int) -> Callable[[Array], Array | None]:
    return lambda value: None


def _other_axes(case: _Case) -> Candidates:
    """Along another axis."""
    wanted = case.attributes.get("axis")
    for axis in range(case.x.ndim):
        if wanted is None or axes_of(wanted, case.x.ndim) != (axis,):
            yield f"it goes along axis {axis} instead of axis {wanted}", partial(case.run, axis=axis)


def _sums(case: _Case) -> Candidates:
    axes = axes_of(case.attributes["axis"], case.x.ndim)
    count = math.prod(case.x.shape[axis] for axis in axes)
    mean = case.operation.name == "mean"
    if mean:
        yield "the sum instead of the mean: it is not divided by n", lambda: case.near(case.truth.value * count)
        for other in (count - 1, count + 1):
            told = f"the sum is divided by n {'-' if other < count else '+'} 1"
            yield told, lambda other=other: case.near(case.truth.value * count / other)
    elif case.place is None:
        yield "the mean instead of the sum", lambda: case.near(case.truth.value / count)
    yield from _other_axes(case)
    for words, weights in _weightings(count, "term"):
        change = partial(_along, axes=axes, change=partial(_weighted, weights=weights))
        if case.place is None:
            yield f"{words} of the sum", partial(case.changed, 0, change)
            if mean:
                yield (
                    f"{words} of the sum and of the divisor",
                    lambda change=change, w=weights: case.near(case.changed(0, change).value * count / w.sum()),
                )
        else:
            yield f"{words}: it gets no gradient", lambda change=change: case.near(change(case.truth.value))


def _variances(case: _Case) -> Candidates:
    correction = case.attributes["correction"]
    for other in (0, 1, 2):
        if other != correction:
            yield (
                f"the variance is divided by n - {other} instead of n - {correction}",
                partial(case.run, correction=other),
            )
    if case.place is None:
        axes = axes_of(case.attributes["axis"], case.x.ndim)
        keep = case.attributes["keepdims"]
        count = math.prod(case.x.shape[axis] for axis in axes)
        yield (
            "the mean is not subtracted",
            lambda: case.near(np.square(case.x).sum(axes, keepdims=keep) / (count - correction)),
        )
        yield "the square root of the variance", lambda: case.near(np.sqrt(case.truth.value))
    yield from _other_axes(case)


def _cumulative(case: _Case) -> Candidates:
    axis = case.attributes["axis"] % case.x.ndim

    def tiled(x: Array, tile: int) -> Array:
        cuts = range(tile, x.shape[axis], tile)
        return np.concatenate([part.cumsum(axis) for part in np.split(x, list(cuts), axis)], axis)

    def both(change: Callable[[Array], Array]) -> Bounded:
        """Of the output; of the gradient, which is a cumulative sum from the other side."""
        if case.place is None:
            return case.near(change(case.x))
        return case.near(np.flip(change(np.flip(case.upstream, axis)), axis))

    yield (
        "the cumulative sum is exclusive: each element's own term is left out",
        lambda: both(lambda x: x.cumsum(axis) - x),
    )
    yield (
        "the cumulative sum is reversed: it begins at the other end",
        lambda: both(lambda x: np.flip(np.flip(x, axis).cumsum(axis), axis)),
    )
    yield from _other_axes(case)
    yield (
        "the first term is left out of the cumulative sum",
        lambda: both(lambda x: x.cumsum(axis) - np.take(x, [0], axis)),
    )
    for tile in TILES:
        if case.x.shape[axis] > tile:
            yield (
                f"the carry is lost: the sum begins anew at each tile of {tile}",
                partial(both, partial(tiled, tile=tile)),
            )


# Softmax and losses


def _log_powers(x: Array, axis: int) -> Array:
    """``log_softmax`` in float64."""
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _denominators(case: _Case, axis: int, term: str) -> Iterator[tuple[str, Array]]:
    """Logarithms of probabilities whose denominator is wrong."""
    logs = _log_powers(case.x, axis)
    powers = np.exp(logs)
    shape = [-1 if each == axis else 1 for each in range(logs.ndim)]
    for words, weights in _weightings(logs.shape[axis], term):
        share = (powers * weights.reshape(shape)).sum(axis, keepdims=True)
        yield f"{words} of the denominator", logs - np.log(share)
    zero = np.exp(logs.max(axis, keepdims=True) - case.x.max(axis, keepdims=True))
    yield f"a padded {term} of zeros takes part in the denominator", logs - np.log1p(zero)
    more = np.exp(logs.max(axis, keepdims=True))
    yield f"a padded {term} takes part in the denominator, as large as the largest", logs - np.log1p(more)
    yield "the whole tensor has one denominator", _log_powers(case.x.reshape(1, -1), 1).reshape(case.x.shape)


def _masked(case: _Case, axis: int, term: str) -> Candidates:
    """Logits that are hidden."""

    def hide(x: Array, index: int) -> Array:
        found = np.moveaxis(x.copy(), axis, 0)
        found[index] = -np.inf
        return np.moveaxis(found, 0, axis)

    for index, which in ((-1, "last"), (0, "first")):
        yield (
            f"the {which} {term} is left out (masked)",
            lambda index=index: case.near(case.changed(0, partial(hide, index=index)).value),
        )


def _powers(case: _Case) -> Candidates:
    axis = case.attributes["axis"] % case.x.ndim
    logs = case.operation.name == "log_softmax"
    yield from _other_axes(case)
    if case.place is None:
        yield from _masked(case, axis, "column")

        def plain() -> Bounded:
            powers = np.exp(case.x)
            powers = np.where(powers > _LARGEST, np.inf, powers)
            total = powers.sum(axis, keepdims=True)
            return case.near(case.x - np.log(np.where(total > _LARGEST, np.inf, total)) if logs else powers / total)

        for words, made in _denominators(case, axis, "column"):
            yield words, lambda made=made: case.near(made if logs else np.exp(made))
        yield "the largest is not subtracted: exponentials overflow to infinity", plain
        yield (
            f"the logarithm is {'left out' if logs else 'taken, as log_softmax does'}",
            lambda: case.near((np.exp if logs else np.asarray)(_log_powers(case.x, axis))),
        )
        return
    y, dy = np.exp(_log_powers(case.x, axis)), case.upstream
    shape = [-1 if each == axis else 1 for each in range(y.ndim)]

    def gradient(weights: Any) -> Bounded:
        total = ((dy if logs else dy * y) * np.reshape(weights, shape)).sum(axis, keepdims=True)
        return case.near(dy - y * total if logs else y * (dy - total))

    for words, weights in _weightings(y.shape[axis], "column"):
        yield f"{words} of the gradient's sum", partial(gradient, weights)
    yield "the gradient's sum is left out", partial(gradient, np.zeros(y.shape[axis]))


def _losses(case: _Case) -> Candidates:
    labels, classes = np.asarray(case.inputs[1]), case.x.shape[1]
    smoothing, reduction = case.attributes.get("label_smoothing", 0.0), case.attributes["reduction"]

    def relabelled(step: int) -> Callable[[Array], Array]:
        ignored = labels == case.attributes["ignore_index"]
        return lambda target: np.asarray(np.where(ignored, target, (target + step) % classes))

    for step, which in ((1, "after"), (-1, "before")):
        yield f"it takes the label {which} the right one", partial(case.changed, 1, relabelled(step))
    if smoothing:
        yield "label smoothing is left out", partial(case.run, label_smoothing=0.0)
        for other in (0.5, 0.9, 1.1, 2.0, classes / max(1, classes - 1)):
            told = f"label smoothing is {smoothing * other:.4g} instead of {smoothing:g}"
            yield told, partial(case.run, label_smoothing=smoothing * other)
    yield "the weights of the classes are left out", partial(case.changed, 2, _without(2))
    yield "rows of ignore_index are not ignored", partial(case.run, ignore_index=-(1 << 40))
    yield from _divisors(case, reduction, len(labels))
    if case.operation.name == "cross_entropy":
        yield from _masked(case, 1, "class")
        for words, logs in _denominators(case, 1, "class"):
            yield words, partial(_loss_of, case, logs)


def _divisors(case: _Case, reduction: str, rows: int) -> Candidates:
    """What a loss over rows may be divided by instead, and rows that are left out of it."""
    if reduction == "none":
        return
    if reduction == "mean":
        yield "the sum instead of the mean: it is not divided by n", partial(case.run, reduction="sum")
        for other in (rows - 1, rows + 1):
            told = f"the sum of the losses is divided by n {'-' if other < rows else '+'} 1"
            yield told, lambda other=other: case.near(case.truth.value * rows / other)
        yield (
            "the sum of the losses is divided by the number of rows, not by their weights",
            lambda: case.near(case.run(reduction="sum").value / rows),
        )
        yield (
            "the sum of the losses is divided by the number of elements",
            lambda: case.near(case.run(reduction="sum").value / case.x.size),
        )
    else:
        yield "the mean instead of the sum", partial(case.run, reduction="mean")
    if case.operation.name == "mse_loss":
        return
    for words, weights in _weightings(rows, "row"):
        if weights.max() > 1:
            continue
        ignored = partial(case.changed, 1, partial(_ignoring, weights=weights, index=case.attributes["ignore_index"]))
        yield f"{words} of the loss", ignored
        if reduction == "mean":
            yield (
                f"{words} of the loss, but not of its divisor",
                lambda ignored=ignored, w=weights: case.near(ignored().value * w.sum() / rows),
            )


def _ignoring(target: Array, weights: Array, index: int) -> Array:
    return np.where(weights == 0, index, target)


def _loss_of(case: _Case, logs: Array) -> Bounded:
    """A loss of other logarithms, or its gradient."""
    of = case.arithmetic
    x, weight = of.exact(case.x), case.given(2)
    loss = _Loss(x, case.inputs[1], None if weight is None else of.exact(weight), **case.attributes)
    if case.place is None:
        made = log_softmax(x, 1)
        return loss.of(Bounded(of, logs, made.error, made.pending).stored())
    shares = loss.gradient(of.exact(case.upstream)).value
    return case.near(shares - np.exp(logs) * shares.sum(1, keepdims=True))


def _squared_losses(case: _Case) -> Candidates:
    yield from _divisors(case, case.attributes["reduction"], len(case.x))
    if case.place is None:
        yield "half of the square", lambda: case.near(case.truth.value / 2)
    else:
        yield "the factor of 2 is left out of the gradient", lambda: case.near(case.truth.value / 2)
        yield "the gradient has the wrong sign", lambda: -case.truth


# Contractions


def _matrices(case: _Case) -> Candidates:
    linear = case.operation.name == "linear"
    yield from _biases(case, 2, 0)
    if case.place is None:
        k = case.x.shape[-1]
        for words, weights in _weightings(k, "k"):
            yield f"{words} of the sum", partial(case.changed, 0, partial(_weighted, weights=weights))
    else:
        yield from _gradient_terms(case, (-1,) if case.place == 0 else tuple(range(case.upstream.ndim - 1)))
    transposed = partial(case.changed, 1, lambda b: np.swapaxes(b, -1, -2))
    yield f"the {'weight' if linear else 'second factor'} is transposed", transposed
    yield "the first factor is transposed", partial(case.changed, 0, lambda a: np.swapaxes(a, -1, -2))
    yield (
        f"the {'weight' if linear else 'second factor'} is read in column order",
        partial(case.changed, 1, lambda b: np.swapaxes(b, -1, -2).reshape(b.shape)),
    )
    yield from _shortened(case)


def _gradient_terms(case: _Case, axes: Sequence[int], term: str = "") -> Candidates:
    """Terms of a gradient that is a sum over some axes of the result's gradient."""
    axes = [axis % case.upstream.ndim for axis in axes]
    count = math.prod(case.upstream.shape[axis] for axis in axes)
    for words, weights in _weightings(count, term or "term"):
        change = partial(_along, axes=axes, change=partial(_weighted, weights=weights))
        yield f"{words} of the gradient's sum", partial(case.of_dy, change)


def _biases(case: _Case, place: int, axis: int) -> Candidates:
    """A bias, or weight, that is left out."""
    name = case.operation.arguments[place].name if place < len(case.inputs) else ""
    if case.given(place) is None or case.place == place:
        return
    neutral = 1.0 if name == "weight" else 0.0

    def put(value: Array, where: Any) -> Array:
        found = value.copy()
        found[where] = neutral
        return found

    yield f"the {name} is left out", partial(case.changed, place, _without(place))
    yield f"the {name} of the last channel is left out", partial(case.changed, place, partial(put, where=-1))
    yield (
        f"the first channel's {name} is taken for all",
        partial(case.changed, place, lambda v: np.broadcast_to(v[:1], v.shape)),
    )
    yield (
        f"the {name} is added twice" if not neutral else f"the {name} is applied twice",
        partial(case.changed, place, lambda v: v * v if neutral else 2 * v),
    )
    yield f"the {name} of the channel before is taken", partial(case.changed, place, lambda v: np.roll(v, 1))
    yield f"the {name} of the channel after is taken", partial(case.changed, place, lambda v: np.roll(v, -1))


def _shortened(case: _Case) -> Candidates:
    """Factors in fewer digits than declared."""
    for digits, words in ((11, "TF32 (11 bits)"), (8, "bfloat16 (8 bits)")):
        for cut in (np.rint, np.trunc):

            def short(value: Array, digits: int = digits, cut: Any = cut) -> Array:
                mantissa, exponent = np.frexp(value)
                return np.ldexp(cut(np.ldexp(mantissa, digits)), exponent - digits)

            def run(short: Callable[[Array], Array] = short) -> Bounded:
                inputs = [None if x is None else short(x) if at < 2 else x for at, x in enumerate(case.inputs)]
                return case.run(inputs, None if case.dy is None else short(case.dy))

            yield f"the factors are {'rounded' if cut is np.rint else 'cut off'} to {words}", run


def _convolutions(case: _Case) -> Candidates:
    weight = case.given(1)
    assert weight is not None
    flips = (
        ("the kernel is flipped in both axes", lambda w: w[..., ::-1, ::-1]),
        ("the kernel is flipped up and down", lambda w: w[..., ::-1, :]),
        ("the kernel is flipped left and right", lambda w: w[..., ::-1]),
        ("the kernel is transposed: its rows and columns are exchanged", lambda w: np.swapaxes(w, 2, 3)),
        ("filters and channels of the kernel are exchanged", lambda w: np.swapaxes(w, 0, 1)),
    )
    yield from _biases(case, 2, 1)
    for words, change in flips:
        if case.place != 1:
            yield words, partial(case.changed, 1, change)
        else:
            yield f"{words}, in its gradient", lambda change=change: case.near(change(case.truth.value))
    yield from _geometries(case)
    yield from _shortened(case)
    yield from _taps(case, weight)


def _geometries(case: _Case) -> Candidates:
    """Other strides, padding, dilation, groups; of the shape of the right result."""
    attributes, weight = case.attributes, case.given(1)
    assert weight is not None
    groups = int(attributes["groups"])
    if groups > 1:
        size, filters = case.x.shape[1] // groups, weight.shape[0] // groups
        for step, which in ((1, "before"), (-1, "after")):
            if case.place is None:
                change = partial(np.roll, shift=step * size, axis=1)
                yield (
                    f"groups are mixed: each takes the channels of the group {which}",
                    partial(case.changed, 0, change),
                )
            else:
                yield (
                    f"groups are mixed: each takes the gradient of the group {which}",
                    partial(case.of_dy, partial(np.roll, shift=step * filters, axis=1)),
                )
        order = np.arange(case.x.shape[1]).reshape(groups, size).T.reshape(-1)
        yield "groups are mixed: channels are dealt out in turn", partial(case.changed, 0, lambda x: x[:, order])
        yield (
            "all groups have the first group's filters",
            partial(case.changed, 1, lambda w: np.tile(w[:filters], (groups, 1, 1, 1))),
        )
    if isinstance(attributes["padding"], str) or case.place is not None:
        return
    dilation, padding = by_sides(attributes["dilation"], 2), by_sides(attributes["padding"], 2)
    for axis, name in ((2, "row"), (3, "column")):
        for step, which in ((1, "after"), (-1, "before")):
            yield (
                f"windows begin one {name} {'late' if step > 0 else 'early'}, with the {name} {which} the right one",
                partial(case.changed, 0, partial(_shift, axis=axis, by=step)),
            )
            yield (
                f"the input is rolled by one {name} {'up' if step > 0 else 'down'}: windows begin one {name} off",
                partial(case.changed, 0, partial(np.roll, shift=-step, axis=axis)),
            )
    for wanted in sorted({(1, 1), (dilation[0] + 1, dilation[1] + 1), dilation[::-1]} - {dilation}):
        reach = [
            (new - old) * (side - 1) / 2 for new, old, side in zip(wanted, dilation, weight.shape[2:], strict=True)
        ]
        shifted = tuple(math.ceil(p + r) for p, r in zip(padding, reach, strict=True))
        told = f"dilation is {wanted} instead of {dilation}" if wanted != (1, 1) else "dilation is ignored"
        for around in {shifted, padding}:
            if min(around) >= 0:
                yield told, lambda w=wanted, p=around: case.cropped(case.run(dilation=w, padding=p))
    stride = by_sides(attributes["stride"], 2)
    for wanted in sorted({(1, 1), stride[::-1], (stride[0] + 1, stride[1] + 1)} - {stride}):
        told = f"stride is {wanted} instead of {stride}" if wanted != (1, 1) else "stride is ignored"
        yield told, lambda w=wanted: case.cropped(case.run(stride=w))
    for around in sorted({padding[::-1], (padding[0] + 1, padding[1] + 1), (0, 0)} - {padding}):
        yield f"padding is {around} instead of {padding}", lambda p=around: case.cropped(case.run(padding=p))
    if any(padding):
        sides = ((0, 0), (0, 0), *((p, p) for p in padding))
        for mode, told in (
            ("edge", "the edge's values"),
            ("reflect", "reflected values"),
            ("wrap", "the other edge's values"),
        ):
            change = partial(np.pad, pad_width=sides, mode=mode)
            yield f"padding has {told} instead of zeros", partial(case.changed, 0, change, padding=0)


def _shift(x: Array, axis: int, by: int) -> Array:
    found = np.moveaxis(np.roll(x, -by, axis).copy(), axis, 0)
    found[-1 if by > 0 else 0] = 0.0
    return np.moveaxis(found, 0, axis)


def _taps(case: _Case, weight: Array) -> Candidates:
    """Terms of a convolution's sum: taps, channels, and both behind each other; for gradients, what those sum over."""
    if case.place in (1, 2):
        yield from _gradient_terms(case, (0, 2, 3), "position")
        yield from _gradient_terms(case, (0,), "image")
        return
    along = 1 if case.place is None else 0
    term = "channel" if along else "filter"
    orders = (
        (term, "", (along,)),
        ("tap", "", (2, 3)),
        ("k", f" (taps of each {term})", (along, 2, 3)),
        ("k", f" ({term}s of each tap)", (2, 3, along)),
    )
    for name, order, axes in orders:
        count = math.prod(weight.shape[axis] for axis in axes)
        if count == 1 or (len(axes) > 2 and count == max(weight.shape[along], math.prod(weight.shape[2:]))):
            continue
        for words, weights in _weightings(count, name):
            change = partial(_along, axes=axes, change=partial(_weighted, weights=weights))
            yield f"{words} of the sum{order}", partial(case.changed, 1, change)


# Normalisations


@dataclass(frozen=True)
class _Changes:
    """What is changed in a normalisation; by default nothing."""

    weights: Any = 1.0  # of the elements in the statistics
    of: str = "both"  # which statistics have these weights
    count: float | None = None  # what sums are divided by
    correction: int = 0
    about_zero: bool = False
    centred: bool = True
    outside: bool = False
    mean_term: bool = True
    projection: bool = True
    share: Any = 1.0  # of the elements in the gradient's sums
    scaled: bool = True


def _normalize(case: _Case, changes: _Changes) -> Bounded:
    """A normalisation by the batch's or the row's statistics, or its gradient, with something changed."""
    batch = case.operation.name == "batch_norm"
    x, eps = case.x, case.attributes["eps"]
    axes = (0, *range(2, x.ndim)) if batch else tuple(range(x.ndim - len(_last(case)), x.ndim))
    shape = (1, -1, *(1,) * (x.ndim - 2)) if batch else x.shape[axes[0] :]
    weight, bias = (
        None if each is None else each.reshape(shape) for each in map(case.given, (3, 4) if batch else (1, 2))
    )
    count = math.prod(x.shape[axis] for axis in axes)

    def mean(values: Array, weights: Any) -> Array:
        if np.ndim(weights):
            values = _along(values, axes, partial(_weighted, weights=weights))
        return values.sum(axes, keepdims=True) / (changes.count or count)

    if batch and not case.attributes["training"]:
        centre, variance = (np.reshape(each, shape) for each in case.inputs[1:3] if each is not None)
        variance = variance * (count / (count - changes.correction))
    else:
        centre = mean(x, changes.weights if changes.of != "variance" else 1.0)
        around = 0.0 if changes.about_zero else centre
        squares = mean(np.square(x - around), changes.weights if changes.of != "mean" else 1.0)
        variance = squares * (count / (count - changes.correction))
    scale = 1 / (np.sqrt(variance) + eps) if changes.outside else 1 / np.sqrt(variance + eps)
    xhat = (x - (centre if changes.centred else 0.0)) * scale
    if case.place is None:
        made = xhat if weight is None else xhat * weight
        return case.near(made if bias is None else made + bias)
    dy = case.upstream
    if case.place == (3 if batch else 1):
        others = axes if batch else tuple(range(axes[0]))
        return case.near((dy * xhat).sum(others))
    if case.place:
        raise ValueError("not a bias")
    g = dy if weight is None or not changes.scaled else dy * weight
    if batch and not case.attributes["training"]:
        return case.near(g * scale)
    made = g - mean(g, changes.share) * changes.mean_term - xhat * mean(g * xhat, changes.share) * changes.projection
    return case.near(made * scale)


def _last(case: _Case) -> tuple[int, ...]:
    given = case.attributes["normalized_shape"]
    return (given,) if isinstance(given, int) else tuple(given)


def _normalizations(case: _Case) -> Candidates:
    batch = case.operation.name == "batch_norm"
    of_batch = not batch or case.attributes["training"]
    eps = case.attributes["eps"]
    changed = lambda **more: partial(_normalize, case, _Changes(**more))  # noqa: E731
    axes = (0, *range(2, case.x.ndim)) if batch else range(case.x.ndim - len(_last(case)), case.x.ndim)
    count = math.prod(case.x.shape[axis] for axis in axes)
    if batch:
        told = "running ones" if of_batch else "the batch's"
        yield f"it takes {told} statistics", partial(case.run, training=not of_batch)
    if not of_batch:
        yield "the running variance is corrected for bias once more", changed(correction=1)
    else:
        yield "the variance is unbiased (divided by n - 1)", changed(correction=1)
        yield "the variance is about zero: the mean is not subtracted in it", changed(about_zero=True)
    if case.place is None or case.place:
        yield "the mean is not subtracted", changed(centred=False)
    if of_batch:
        yield "the mean is not subtracted, and the variance is about zero", changed(centred=False, about_zero=True)
    for other in (*_EPSILONS, 1.1 * eps, 0.9 * eps, 10 * eps, eps / 10, eps * eps):
        if not math.isclose(other, eps):
            yield (
                "eps is left out" if not other else f"eps is {other:.6g} instead of {eps:g}",
                partial(case.run, eps=other),
            )
    yield "eps is added outside of the root: sqrt(var) + eps", changed(outside=True)
    yield from _biases(case, 3 if batch else 1, 1)
    yield from _biases(case, 4 if batch else 2, 1)
    yield from _gradients_of_norms(case, batch, count if of_batch else 0)
    if of_batch:
        yield from _statistics(case, count)


def _gradients_of_norms(case: _Case, batch: bool, count: int) -> Candidates:
    changed = lambda **more: partial(_normalize, case, _Changes(**more))  # noqa: E731
    if case.place == 0:
        yield "the weight is left out of the gradient", changed(scaled=False)
        if count:
            yield "the gradient's mean term is left out", changed(mean_term=False)
            yield "the gradient's projection term (through the variance) is left out", changed(projection=False)
            yield "statistics are taken as constants in the gradient", changed(mean_term=False, projection=False)
        for words, weights in _weightings(count, "term"):
            yield f"{words} of the gradient's sums", changed(share=weights)
    elif case.place is not None:
        yield from _gradient_terms(
            case, (0, *range(2, case.x.ndim)) if batch else range(case.x.ndim - len(_last(case)))
        )


def _statistics(case: _Case, count: int) -> Candidates:
    """Statistics of fewer elements than there are."""
    changed = lambda **more: partial(_normalize, case, _Changes(**more))  # noqa: E731
    for words, weights in _weightings(count, "term"):
        for of, which in (("both", "mean and variance"), ("variance", "variance"), ("mean", "mean")):
            yield f"{words} of the statistics ({which})", changed(weights=weights, of=of)
            yield (
                f"{words} of the statistics ({which}) and of their divisor",
                changed(weights=weights, of=of, count=float(weights.sum()))
                if of == "both"
                else changed(weights=weights, of=of),
            )


# Pooling


def _pools(case: _Case) -> Candidates:
    largest = case.operation.name == "max_pool2d"
    attributes = {name: value for name, value in case.attributes.items() if name != "count_include_pad"}
    windows = _Windows(case.x.shape, attributes)
    yield from _other_windows(case, windows)
    taps = np.arange(len(windows.taps())).reshape(-1, 1, 1, 1, 1)
    if largest:
        yield from _largest(case, windows, taps)
        return
    counts = windows.counts(case.attributes["count_include_pad"])
    padded = case.attributes["count_include_pad"]
    told = "padding is not counted in the mean" if padded else "padding is counted in the mean"
    yield told, partial(case.run, count_include_pad=not padded)

    def mean(weights: Array, divisor: Any) -> Bounded:
        if case.place is None:
            return case.near(np.tensordot(weights, windows.gathered(case.x, 0.0), 1) / divisor)
        share = np.broadcast_to(case.upstream / divisor, (len(weights), *case.upstream.shape))
        return case.near(windows.scattered(share * weights.reshape(-1, 1, 1, 1, 1)))

    area = len(taps)
    yield (
        "every window is divided by its whole area, those at the edge (ceil_mode, padding) too",
        partial(mean, np.ones(area), area),
    )
    yield "the sum instead of the mean: it is not divided by n", partial(mean, np.ones(area), 1)
    inside = windows.gathered(np.ones(case.x.shape), 0.0)
    for flip, which in ((slice(None, None, -1), "last"), (slice(None), "first")):
        ends = inside[flip].cumsum(0)[flip] * inside == 1
        yield (
            f"the {which} element of each window is left out",
            lambda ends=ends: case.near((windows.gathered(case.x, 0.0) * ~ends).sum(0) / counts),
        )
    for words, weights in _weightings(area, "element"):
        yield f"{words} of each window", partial(mean, weights, counts)
        yield f"{words} of each window and of its divisor", partial(mean, weights, weights.sum())


def _largest(case: _Case, windows: _Windows, taps: Array) -> Candidates:
    elements = windows.gathered(case.x, -np.inf)
    if case.place is None:
        yield "padding counts as zero", lambda: case.near(windows.gathered(case.x, 0.0).max(0))
        yield "the last element of each window is left out", lambda: case.near(elements[:-1].max(0))
        yield "the first element of each window is left out", lambda: case.near(elements[1:].max(0))
        yield (
            "each maximum is at least 0: it begins with 0 instead of minus infinity",
            lambda: case.near(np.maximum(elements.max(0), 0)),
        )
        yield (
            "the largest by magnitude",
            lambda: case.near(np.take_along_axis(elements, np.abs(elements).argmax(0)[None], 0)[0]),
        )
        yield "the smallest instead of the largest", lambda: case.near(windows.gathered(case.x, np.inf).min(0))
        return
    won, dy = elements == elements.max(0), case.upstream
    last = taps == len(taps) - 1 - won[::-1].argmax(0)
    yield "the gradient goes to the last of those that tie", lambda: case.near(windows.scattered(last * dy))
    yield "the gradient goes to all that tie", lambda: case.near(windows.scattered(won * dy))

    def kept() -> Bounded:
        """Where windows overlap the last one's gradient is written over the others'."""
        found = np.zeros(windows.room())
        first = taps == won.argmax(0)
        for part, (rows, columns) in zip(first * dy, windows.taps(), strict=True):
            found[..., rows, columns] = np.where(part != 0, part, found[..., rows, columns])
        return case.near(found[windows._inside()])

    yield "gradients of windows that overlap are not added", kept


def _other_windows(case: _Case, windows: _Windows) -> Candidates:
    if windows.dilation != (1, 1):
        yield "dilation is ignored: windows of neighbours", lambda: case.cropped(case.run(dilation=1))
        reach = tuple(d * (k - 1) + 1 for d, k in zip(windows.dilation, windows.kernel, strict=True))
        yield (
            "dilation is ignored: the elements between those of each window take part",
            lambda: case.cropped(case.run(dilation=1, kernel_size=reach, stride=windows.stride)),
        )
    stride, kernel, padding = windows.stride, windows.kernel, windows.padding
    for wanted in sorted({stride[::-1], (stride[0] + 1, stride[1] + 1), (1, 1), kernel} - {stride}):
        yield f"stride is {wanted} instead of {stride}", lambda w=wanted: case.cropped(case.run(stride=w))
    for wanted in sorted({padding[::-1], (0, 0), (padding[0] + 1, padding[1] + 1)} - {padding}):
        yield f"padding is {wanted} instead of {padding}", lambda w=wanted: case.cropped(case.run(padding=w))
    for wanted in sorted({kernel[::-1], (kernel[0] - 1, kernel[1] - 1), (kernel[0] + 1, kernel[1] + 1)} - {kernel}):
        if min(wanted) > 0:
            yield (
                f"windows are {wanted} instead of {kernel}",
                lambda w=wanted: case.cropped(case.run(kernel_size=w, stride=stride)),
            )
    if case.place is None:
        for axis, name in ((2, "row"), (3, "column")):
            for step, which in ((1, "late"), (-1, "early")):
                yield f"windows begin one {name} {which}", partial(case.changed, 0, partial(_shift, axis=axis, by=step))
        told = (
            "windows are rounded down (floor for ceil)"
            if case.attributes["ceil_mode"]
            else "windows are rounded up (ceil for floor)"
        )
        yield told, lambda: case.cropped(case.run(ceil_mode=not case.attributes["ceil_mode"]))


def _adaptive_pools(case: _Case) -> Candidates:
    sides = case.x.shape[2:]
    counts = case.truth.shape[2:] if case.dy is None else case.upstream.shape[2:]

    def cells(bounds: Callable[[int, int, int], tuple[int, int]]) -> Bounded:
        matrices = []
        for side, count in zip(sides, counts, strict=True):
            found = np.zeros((count, side))
            for i in range(count):
                first, last = bounds(i, side, count)
                found[i, first:last] = 1.0 / max(1, min(last, side) - first)
            matrices.append(found)
        rows, columns = matrices
        if case.place is None:
            return case.near(np.einsum("ir,ncrs,js->ncij", rows, case.x, columns, optimize=True))
        return case.near(np.einsum("ir,ncij,js->ncrs", rows, case.upstream, columns, optimize=True))

    down = "the ends of windows are rounded down instead of up"
    yield down, partial(cells, lambda i, n, k: (i * n // k, (i + 1) * n // k))
    up = "the beginnings of windows are rounded up instead of down"
    yield up, partial(cells, lambda i, n, k: (-(-i * n // k), -(-(i + 1) * n // k)))
    yield (
        "all windows have one size: the side over the count, rounded down",
        partial(cells, lambda i, n, k: (i * (n // k), (i + 1) * (n // k))),
    )
    yield (
        "all windows have one size: the side over the count, rounded up",
        partial(cells, lambda i, n, k: (i * -(-n // k), (i + 1) * -(-n // k))),
    )
    yield (
        "the last row and column of each window are left out",
        partial(cells, lambda i, n, k: (i * n // k, max(i * n // k + 1, -(-(i + 1) * n // k) - 1))),
    )


# Elements


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _functions(case: _Case) -> Candidates:
    name, x = case.operation.name, case.x
    forward = case.place is None

    def other(value: Callable[[], Array], slope: Callable[[], Array] | None = None) -> Callable[[], Bounded]:
        """Another function, from its values and its derivative."""

        def make() -> Bounded:
            if forward:
                return case.near(value())
            if slope is None:
                raise ValueError("no gradient")
            return case.near(case.upstream * slope())

        return make

    if name == "gelu":
        tanh = case.attributes["approximate"] == "tanh"
        told = "GELU's erf form instead of tanh" if tanh else "GELU's tanh form instead of erf"
        yield told, partial(case.run, approximate="none" if tanh else "tanh")
        s = _sigmoid(1.702 * x)
        yield "x * sigmoid(1.702 x) instead of GELU", other(lambda: x * s, lambda: s + 1.702 * x * s * (1 - s))
        yield "x * sigmoid(x) instead of GELU", other(lambda: x * _sigmoid(x))
    if name in ("log", "sqrt", "reciprocal", "divide"):
        for eps in (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12):
            place = 1 if name == "divide" else 0
            told = (
                f"{name} of x + {eps:g}: an eps is added" if not place else f"an eps of {eps:g} is added to the divisor"
            )
            yield told, partial(case.changed, place, partial(_with_eps, case, eps))
    if name == "log":
        yield "the logarithm is to base 2", other(lambda: np.log2(x), lambda: 1 / (x * math.log(2)))
        yield "the logarithm is to base 10", other(lambda: np.log10(x))
        yield "log(1 + x) instead of log(x)", other(lambda: np.log1p(x), lambda: 1 / (1 + x))
    if name == "exp":
        yield "2 to the power of x instead of e", other(lambda: np.exp2(x))
        yield "exp(x) - 1 instead of exp(x)", other(lambda: np.expm1(x))
    if name == "relu":
        for slope in (0.01, 0.1, 0.2):
            told = f"the negative side has a slope of {slope:g}"
            yield told, other(partial(_bent, x, x, slope), partial(_bent, x, np.ones_like(x), slope))
        yield "results are clamped at 6", other(lambda: np.clip(x, 0, 6))
        yield "x itself: negative values are kept", other(lambda: x, lambda: np.ones_like(x))
    if name in ("sigmoid", "tanh"):
        yield "the hard sigmoid instead of the sigmoid", other(lambda: np.clip(x / 6 + 0.5, 0, 1))
        yield (
            f"{'tanh' if name == 'sigmoid' else 'sigmoid'} instead of {name}",
            other(lambda: (np.tanh if name == "sigmoid" else _sigmoid)(x)),
        )
    if name == "silu":
        yield "GELU's 1.702 in the sigmoid", other(lambda: x * _sigmoid(1.702 * x))
        yield "the sigmoid alone", other(lambda: _sigmoid(x))
    if name == "power":
        for step in (-1, 1):
            exponent = case.attributes["exponent"] + step
            yield f"the exponent is {exponent:g}", partial(case.run, exponent=exponent)
    if not forward:
        yield from _gradients_of_functions(case)


def _with_eps(case: _Case, eps: float, value: Array) -> Bounded:
    return case.arithmetic.exact(value) + case.arithmetic.constant(eps)


def _bent(x: Array, value: Array, slope: float) -> Array:
    return np.where(x > 0, value, slope * value)


def _gradients_of_functions(case: _Case) -> Candidates:
    if case.x.ndim and len(case.x) > 1:
        yield "the gradient's mask is another row's", partial(case.changed, 0, lambda x: np.roll(x, 1, 0))
        yield "the gradient's mask is another row's", partial(case.changed, 0, lambda x: np.roll(x, -1, 0))
        yield (
            "the gradient's mask is the first row's for all",
            partial(case.changed, 0, lambda x: np.broadcast_to(x[:1], x.shape)),
        )
    yield "the derivative is left out: the gradient is passed on as it is", lambda: case.near(case.upstream)
    yield "the derivative alone, without the result's gradient", lambda: case.of_dy(np.ones_like)


def _broadcasts(case: _Case) -> Candidates:
    """Two operands of which one is taken as another shape, or exchanged."""
    a, b = case.inputs[0], case.inputs[1]
    assert a is not None
    assert b is not None
    if case.place is None:
        for place, value, which in ((1, b, "second"), (0, a, "first")):
            yield from _reshaped(case, place, value, which)
        if a.shape == b.shape:
            yield "the operands are exchanged", lambda: case.run([b, a])
        full = case.truth.shape
        yield "the first operand alone", lambda: case.near(np.broadcast_to(a, full))
        yield "the second operand alone", lambda: case.near(np.broadcast_to(b, full))
        return
    shape, full = (b if case.place else a).shape, case.upstream.shape
    padded = (1,) * (len(full) - len(shape)) + shape
    axes = tuple(axis for axis, side in enumerate(padded) if side == 1 and full[axis] != 1)
    if not axes:
        return

    def parts() -> Array:
        return case.run([np.broadcast_to(a, full).copy(), np.broadcast_to(b, full).copy()]).value

    count = math.prod(full[axis] for axis in axes)
    for words, weights in _weightings(count, "term"):
        change = partial(_along, axes=axes, change=partial(_weighted, weights=weights))
        yield (
            f"{words} of the sum over the axes that were broadcast",
            lambda change=change: case.near(change(parts()).sum(axes).reshape(shape)),
        )
    yield (
        "the mean over the axes that were broadcast instead of the sum",
        lambda: case.near(parts().mean(axes).reshape(shape)),
    )
    for index, which in ((0, "first"), (-1, "last")):
        yield (
            f"the {which} term alone: the gradient is not summed over the axes that were broadcast",
            lambda index=index: case.near(
                _along(parts(), axes, lambda rows: np.repeat(rows[..., [index]], count, -1)).mean(axes).reshape(shape)
            ),
        )


def _taken(value: Array, axis: int, index: int) -> Array:
    return np.broadcast_to(np.take(value, [index], axis), value.shape)


def _reshaped(case: _Case, place: int, value: Array, which: str) -> Candidates:
    full = case.truth.shape
    if value.ndim:
        for axis in range(value.ndim):
            if value.shape[axis] > 1:
                name = "column" if axis == value.ndim - 1 and value.ndim > 1 else f"index of axis {axis}"
                for index, end in ((0, "first"), (-1, "last")):
                    yield (
                        f"the {which} operand's {end} {name} is taken for all",
                        partial(
                            case.changed,
                            place,
                            partial(_taken, axis=axis, index=index),
                        ),
                    )
    if len(full) == 2 and value.size == full[0] == full[1]:
        told = "row is taken for a column" if value.shape[-1] == full[1] else "column is taken for a row"
        yield (
            f"the {which} operand's {told}: it is broadcast along the other axis",
            partial(case.changed, place, lambda v: v.reshape(1, -1) if v.shape[-1] == 1 else v.reshape(-1, 1)),
        )
    if value.ndim == 2 and value.shape[0] == value.shape[1]:
        yield f"the {which} operand is transposed", partial(case.changed, place, np.transpose)
    if value.shape != full and value.size:

        def repeated(v: Array) -> Array:
            return np.resize(v.reshape(-1), full)

        yield (
            f"the {which} operand is repeated in memory order instead of broadcast",
            partial(case.changed, place, repeated),
        )
    if value.size > 1:
        yield (
            f"the {which} operand's first element is taken for all",
            partial(case.changed, place, lambda v: np.full(v.shape, v.flat[0])),
        )


# Anywhere


def _anywhere(case: _Case) -> Candidates:
    """What may happen to any result."""
    truth = case.truth
    value = truth.value
    yield "the sign is reversed", lambda: -truth
    yield "the absolute value", lambda: truth.moved(np.asarray).where(value >= 0, -truth)
    yield "results below zero are clamped at 0", lambda: truth.where(~(value < 0), 0.0)
    if value.ndim > 1 and len(value) > 1:
        for index, which in ((0, "first"), (-1, "last")):
            yield (
                f"the batch's {which} element is repeated for all",
                lambda i=index: truth.moved(lambda part: np.broadcast_to(part[[i]], part.shape).copy()),
            )
    if value.ndim > 1 and value.shape[-1] == value.shape[-2]:
        yield "the result is transposed", lambda: truth.moved(lambda part: np.swapaxes(part, -1, -2))
    if value.ndim > 1:
        yield (
            "the result is transposed in memory: it has the right values in column order",
            lambda: truth.moved(lambda part: part.T.reshape(part.shape)),
        )
    for axis in range(value.ndim):
        for step in (1, -1) if value.shape[axis] > 1 else ():
            told = f"results are shifted by one {'up' if step > 0 else 'down'} along axis {axis}"
            yield told, lambda axis=axis, step=step: truth.moved(lambda part: np.roll(part, step, axis))
    for place, each in enumerate(case.inputs):
        argument = case.operation.arguments[place]
        if each is None or argument.role == "label" or not each.ndim or not each.size:
            continue
        yield (
            f"{argument.name} is a view with strides and is read as if it were contiguous",
            partial(case.changed, place, _contiguous),
        )
        if each.ndim > 1 and each.shape[-1] == each.shape[-2]:
            yield f"{argument.name} is transposed", partial(case.changed, place, lambda v: np.swapaxes(v, -1, -2))
    yield from _factors(case)


def _contiguous(value: Array) -> Array:
    """What lies behind the first element of the view of every other column that the check hands over."""
    wide = np.full((*value.shape[:-1], 2 * value.shape[-1] + 1), np.nan)
    wide[..., 1::2] = value
    return np.resize(wide.reshape(-1)[1 : 1 + value.size], value.shape)


def _factors(case: _Case) -> Candidates:
    """Factors near 1, where elements have too few digits to measure one (`oracle.kernel.words` does it elsewhere)."""
    if case.truth.value.size < 16 or case.arithmetic.stored < 2.0**-20:
        return
    for power in range(3, 13):
        for sign in (1, -1):
            factor = 1 + sign * 2.0**-power
            yield f"a constant factor of about {factor:.7g}", lambda factor=factor: case.near(case.truth.value * factor)


def _less_exact(case: _Case) -> Candidates:
    """What a healthy kernel of less precision computes: the right result, with more error."""
    of = case.arithmetic
    if of.stored > of.unit and not of.whole:
        rounded = replace(of, unit=of.stored, composed=True)
        yield (
            "a result in between is rounded as results are stored: one rounding too many",
            partial(case.run, arithmetic=rounded),
        )
    elif case.operation.name in _FUNCTIONS and of.stored > 2.0**-26:
        truth = case.truth
        error = 2.0**-18 * (np.abs(truth.value) + (1.0 if "log" in case.operation.name else 0.0))
        words = "a function in it is off by up to 3.8e-06, as fast-math approximations of exp and log are"
        yield words, lambda: truth.with_error(error)


_FUNCTIONS = ("exp", "log", "sigmoid", "tanh", "gelu", "silu", "softmax", "log_softmax", "sqrt")
_FAMILIES: dict[str, tuple[Callable[[_Case], Candidates], ...]] = {
    "matmul": (_matrices,),
    "linear": (_matrices,),
    "conv2d": (_convolutions,),
    "batch_norm": (_normalizations,),
    "layer_norm": (_normalizations,),
    "max_pool2d": (_pools,),
    "avg_pool2d": (_pools,),
    "adaptive_avg_pool2d": (_adaptive_pools,),
    "sum": (_sums,),
    "mean": (_sums,),
    "var": (_variances,),
    "amax": (_other_axes,),
    "amin": (_other_axes,),
    "cumsum": (_cumulative,),
    "softmax": (_powers,),
    "log_softmax": (_powers,),
    "cross_entropy": (_losses,),
    "nll_loss": (_losses,),
    "mse_loss": (_squared_losses,),
    **dict.fromkeys(("exp", "log", "sqrt", "square", "reciprocal", "negative", "abs", "relu"), (_functions,)),
    **dict.fromkeys(("sigmoid", "tanh", "gelu", "silu", "clip", "power"), (_functions,)),
    **dict.fromkeys(("add", "subtract", "multiply", "maximum", "minimum"), (_broadcasts,)),
    "divide": (_functions, _broadcasts),
}
