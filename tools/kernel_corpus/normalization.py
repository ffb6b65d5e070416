"""batch_norm (stored statistics, batch statistics, gradient) and layer_norm: two passes, one pass, Welford."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from kernel_corpus import alterations as alter
from kernel_corpus.arithmetic import ORDERS, Arithmetic, Array, arithmetic, nearest, sequential
from kernel_corpus.kernel import Bug, Kernel, Recipe

PRECISIONS = ("float32", "bfloat16", "float16")
THREE = PRECISIONS
ATTEMPTED = ("in sequence", "descending", "random order", "pairwise", "8 lanes", "float64 accumulators")


# -- statistics of rows ------------------------------------------------------------------------------------------------


def two_passes(how: Arithmetic, rows: Array) -> tuple[Array, Array]:
    """Mean, then the mean of the squared distances."""
    mean = how.mean(rows, 1)
    return mean, how.mean(np.square(rows - mean[:, None]), 1)


def one_pass(how: Arithmetic, rows: Array) -> tuple[Array, Array]:
    """The mean of the squares less the square of the mean."""
    mean = how.mean(rows, 1)
    return mean, np.maximum(how.mean(np.square(rows), 1) - mean * mean, 0)


def welford(how: Arithmetic, rows: Array) -> tuple[Array, Array]:
    """Welford's update, element by element."""
    mean, squares = np.zeros(len(rows), rows.dtype), np.zeros(len(rows), rows.dtype)
    for count, column in enumerate(rows.T, 1):
        delta = column - mean
        mean = mean + delta / rows.dtype.type(count)
        squares = squares + delta * (column - mean)
    return mean, squares / rows.dtype.type(max(rows.shape[1], 1))


def chan(how: Arithmetic, rows: Array, parts: int = 4) -> tuple[Array, Array]:
    """Parts by two passes, merged by Chan's formula."""
    count, mean, squares = rows.dtype.type(0), np.zeros(len(rows), rows.dtype), np.zeros(len(rows), rows.dtype)
    for part in np.array_split(rows, parts, 1):
        if part.shape[1]:
            size = rows.dtype.type(part.shape[1])
            its_mean, its_variance = two_passes(how, part)
            delta, both = its_mean - mean, count + size
            squares = squares + its_variance * size + delta * delta * (count * size / both)
            mean, count = mean + delta * (size / both), both
    return mean, squares / max(count, rows.dtype.type(1))


STATISTICS = {"two passes": two_passes, "Welford": welford, "Chan": chan}


# -- the operations ----------------------------------------------------------------------------------------------------


def _rows(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, 0)).reshape(x.shape[1], -1)


def _channels(x: Array, values: Array) -> Array:
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def inverse_root(variance: Array, eps: float) -> Array:
    """``1 / sqrt(variance + eps)``."""
    one = variance.dtype.type(1)
    return one / np.sqrt(variance + variance.dtype.type(eps))


def batch_norm(
    statistics: Any, how: Arithmetic, x: Array, mean: Array | None, variance: Array | None, weight: Array | None = None,
    bias: Array | None = None, *, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    folded: bool = False, inverse: Any = inverse_root,
) -> Array:  # fmt: skip
    """``(x - mean) / sqrt(variance + eps) * weight + bias``; ``folded``: as ``x * scale + shift``."""
    if training or mean is None or variance is None:
        mean, variance = statistics(how, _rows(x))
    scale = inverse(variance, eps) * (1 if weight is None else weight)
    if folded:
        made = x * _channels(x, scale) + _channels(x, (0 if bias is None else bias) - mean * scale)
    else:
        made = (x - _channels(x, mean)) * _channels(x, scale)
        made = made if bias is None else made + _channels(x, bias)
    return np.asarray(made, x.dtype)


def batch_norm_gradients(
    how: Arithmetic, dy: Array, x: Array, mean: Array | None, variance: Array | None, weight: Array | None = None,
    bias: Array | None = None, *, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    terms: tuple[int, int] = (1, 1),
) -> tuple[Array | None, ...]:  # fmt: skip
    """Of the input, (no statistics,) weight and bias; ``terms``: factors of the mean's and the variance's part."""
    if training or mean is None or variance is None:
        mean, variance = two_passes(how, _rows(x))
    inverse = inverse_root(variance, eps)
    normal = (x - _channels(x, mean)) * _channels(x, inverse)
    dbias, dweight = how.total(_rows(dy), 1), how.total(_rows(dy * normal), 1)
    scale = inverse * (1 if weight is None else weight)
    count = x.dtype.type(x.size // x.shape[1])
    made = dy
    if training:
        made = dy - terms[0] * _channels(x, dbias / count) - terms[1] * normal * _channels(x, dweight / count)
    return (
        np.asarray(made * _channels(x, scale), x.dtype),
        None,
        None,
        None if weight is None else dweight,
        None if bias is None else dbias,
    )


def layer_norm(
    statistics: Any, how: Arithmetic, x: Array, *rest: Any, normalized_shape: Any = None, eps: float = 1e-5,
    inverse: Any = inverse_root,
) -> Array:  # fmt: skip
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over the last axes."""
    weight, bias = ([each for each in rest if isinstance(each, np.ndarray)] + [None, None])[:2]
    shape = np.atleast_1d(normalized_shape) if normalized_shape is not None else np.shape(weight)
    rows = x.reshape(-1, int(np.prod(shape)))
    mean, variance = statistics(how, rows)
    made = ((rows - mean[:, None]) * inverse(variance, eps)[:, None]).reshape(x.shape)
    made = made if weight is None else made * weight
    return made if bias is None else made + bias


LAYER: dict[str, Any] = {}


def healthy() -> Iterator[Kernel]:
    """Every way to the statistics, in some orders of summation."""
    for precision in PRECISIONS:
        for folded in (False, True):
            body = partial(batch_norm, two_passes, folded=folded)
            name = "scale and shift" if folded else "as written"
            yield Recipe("batch_norm", name, arithmetic(precision), body).kernel()
        for order in ATTEMPTED:
            how = arithmetic(precision, ORDERS[order])
            for name, statistics in STATISTICS.items():
                if name != "Welford" or order == "in sequence":
                    body = partial(batch_norm, statistics)
                    yield Recipe("batch_norm", f"{name}, {order}", how, body, {"training": True}).kernel()
                    yield Recipe("layer_norm", f"{name}, {order}", how, partial(layer_norm, statistics), LAYER).kernel()
            for training in (False, True):
                body = partial(batch_norm, two_passes)
                given = {"training": training}
                yield Recipe("batch_norm", f"gradient, {order}", how, body, given, batch_norm_gradients).kernel()
    for op, body, given in (("batch_norm", batch_norm, {"training": True}), ("layer_norm", layer_norm, LAYER)):
        for precision in PRECISIONS:
            how = arithmetic(f"{precision}, one-pass variance")
            yield Recipe(op, "one pass", how, partial(body, one_pass), given).kernel()


# -- bugs --------------------------------------------------------------------------------------------------------------


def _unbiased(how: Arithmetic, rows: Array) -> tuple[Array, Array]:
    mean, variance = two_passes(how, rows)
    return mean, variance * rows.dtype.type(rows.shape[1] / max(rows.shape[1] - 1, 1))


def _about_zero(how: Arithmetic, rows: Array) -> tuple[Array, Array]:
    return how.mean(rows, 1), how.mean(np.square(rows), 1)


def _without_mean(how: Arithmetic, rows: Array) -> tuple[Array, Array]:
    mean, variance = two_passes(how, rows)
    return np.zeros_like(mean), variance


def _in_storage(how: Arithmetic, rows: Array) -> tuple[Array, Array]:
    return two_passes(replace(how, total=alter.in_storage(how.precision)), rows)


def _statistics_rounded(how: Arithmetic, rows: Array) -> tuple[Array, Array]:
    mean, variance = two_passes(how, rows)
    return nearest(mean, how.precision).astype(rows.dtype), nearest(variance, how.precision).astype(rows.dtype)


def _outside(variance: Array, eps: float) -> Array:
    return variance.dtype.type(1) / (np.sqrt(variance) + variance.dtype.type(eps))


def _rounded_normal(operation: Any) -> Any:
    """The normalised values are stored before weight and bias."""

    def body(how: Arithmetic, x: Array, *rest: Any, **given: Any) -> Array:
        if operation is layer_norm:
            shape = given.get("normalized_shape") or rest[0].shape
            plain = layer_norm(two_passes, how, x, normalized_shape=shape, eps=given.get("eps", 1e-5))
            weight, bias = ([each for each in rest if isinstance(each, np.ndarray)] + [None, None])[:2]
        else:
            plain = batch_norm(two_passes, how, x, *rest[:2], **given)
            weight, bias = (None if each is None else _channels(x, each) for each in (*rest[2:], None, None)[:2])
        made = nearest(plain, how.precision).astype(x.dtype)
        made = made if weight is None else made * weight
        return made if bias is None else made + bias

    return body


def _statistics_bugs(operation: Any) -> tuple[Bug, ...]:
    def of(statistics: Any) -> Any:
        return alter.body(partial(operation, statistics))

    return (
        Bug("unbiased variance", "unbiased variance", of(_unbiased)),
        Bug("mean left out", "the variance about zero", of(_about_zero)),
        Bug("mean left out", "the mean not subtracted", of(_without_mean)),
        Bug("accumulators in the storage type", "statistics summed in the storage type", of(_in_storage)),
        Bug("one rounding too many", "mean and variance stored in between", of(_statistics_rounded)),
        alter.left_out("the last term left out of the statistics", alter.all_but_last),
        alter.tail(32),
    )


EPS_BUGS = (
    Bug("another eps", "eps 1.1e-5 for 1e-5", alter.attribute(eps=1.1e-5), subtle=True),
    Bug("another eps", "eps 1e-3 for 1e-5", alter.attribute(eps=1e-3)),
    Bug("another eps", "eps 1e-12 for 1e-5", alter.attribute(eps=1e-12)),
    Bug("another eps", "eps outside of the root", alter.attribute(inverse=_outside)),
)
STORE_BUGS = (alter.TRUNCATING, alter.FACTOR, alter.STRIDES, alter.NAN)


def _no_last_bias(x: Array, *rest: Any) -> tuple[Any, ...]:
    bias = rest[-1]
    return (x, *rest[:-1], None if bias is None else np.append(bias[:-1], bias.dtype.type(0)))


BIAS = Bug("bias missing", "no bias for the last channel", alter.inputs(_no_last_bias))
GRADIENT_BUGS = (
    Bug(
        "mean left out", "the mean's part of the input's gradient left out",
        alter.backward(partial(batch_norm_gradients, terms=(0, 1))),
    ),
    Bug(
        "mean left out", "the variance's part of the input's gradient left out",
        alter.backward(partial(batch_norm_gradients, terms=(1, 0))),
    ),
    alter.scaled_gradient(0, "the input's gradient"),
    alter.scaled_gradient(3, "the weight's gradient"),
    alter.left_out("the last term left out of the gradient's sums", alter.all_but_last),
)  # fmt: skip


def mutants() -> Iterator[Kernel]:
    """The tables of bugs; sums in the storage type are no bug of float32."""
    train, evaluate = {"training": True}, {}

    def normal(op: str, operation: Any, given: dict[str, Any]) -> Any:
        return lambda precision: Recipe(op, "two passes", arithmetic(precision), partial(operation, two_passes), given)

    for precision in THREE:
        low = precision != "float32"
        for op, operation, given in (("batch_norm", batch_norm, train), ("layer_norm", layer_norm, LAYER)):
            bugs = [bug for bug in _statistics_bugs(operation) if low or "storage" not in bug.kind + bug.name]
            if op == "batch_norm" and precision == "bfloat16":  # PyTorch is as coarse there
                bugs = [bug for bug in bugs if bug.kind != "one rounding too many"]
            yield from alter.mutants(normal(op, operation, given), (precision,), (*bugs, *EPS_BUGS, *STORE_BUGS))
        if low:
            rounded = (
                Bug(
                    "one rounding too many",
                    "normalised values stored in between",
                    alter.body(_rounded_normal(layer_norm)),
                    subtle=True,
                ),
            )
            yield from alter.mutants(normal("layer_norm", layer_norm, LAYER), (precision,), rounded)
        evaluated = (*EPS_BUGS[:2], EPS_BUGS[3], *STORE_BUGS, BIAS)
        yield from alter.mutants(normal("batch_norm", batch_norm, evaluate), (precision,), evaluated)
        yield from alter.mutants(
            lambda p: Recipe(
                "batch_norm",
                "gradient",
                arithmetic(p, sequential),
                partial(batch_norm, two_passes),
                train,
                batch_norm_gradients,
            ),
            (precision,),
            GRADIENT_BUGS,
        )
