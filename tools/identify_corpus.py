"""Emulated arithmetics with known properties, which `oracle.identify` has to name. It shares no code with that.

An `Emulation` is one operation in NumPy and the words that are right for it. `emulations` is the table: orders of
summation and accumulators, factors, products, subnormal numbers, normalisation, casts, functions of known errors.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Add = Callable[[Any, Any], Any]
Order = Callable[[Sequence[Any], Add], Any]
TERMS = 64


@dataclass(frozen=True)
class Emulation:
    """One operation of an arithmetic.

    Args:
        name: what it is.
        operation: as `oracle.identify` calls it.
        function: of NumPy arrays in float32.
        words: by aspect, what is right.
    """

    name: str
    operation: str
    function: Callable[..., Array]
    words: dict[str, str]


# -- formats -----------------------------------------------------------------------------------------------------------


def to_bits(fraction: int, how: str = "even") -> Callable[[Array], Array]:
    """Rounds to so many bits of fraction."""
    rint: Callable[[Array], Array] = {
        "even": np.rint,
        "truncated": np.trunc,
        "away": lambda x: np.trunc(x + np.copysign(0.5, x)),
        "up": np.ceil,
        "down": np.floor,
    }[how]

    def rounded(x: Array) -> Array:
        part, exponent = np.frexp(np.asarray(x, np.float64))
        return np.asarray(np.ldexp(rint(np.ldexp(part, fraction + 1)), exponent - fraction - 1))

    return rounded


def through(kind: Any) -> Callable[[Array], Array]:
    """Rounds as NumPy's own conversion does."""
    return lambda x: np.asarray(x, kind).astype(np.float64)


ACCUMULATORS = {
    "float64": through(np.float64),
    "float32": through(np.float32),
    "float16": through(np.float16),
    "bfloat16": to_bits(7),
    "TF32": to_bits(10),
    "20 bits of fraction": to_bits(20),
}
FACTORS = {
    "as stored": through(np.float32),
    "TF32, to nearest even": to_bits(10),
    "TF32, to nearest, ties away": to_bits(10, "away"),
    "TF32, truncated": to_bits(10, "truncated"),
    "bfloat16, to nearest even": to_bits(7),
    "bfloat16, truncated": to_bits(7, "truncated"),
    "float16, to nearest even": through(np.float16),
    "16 bits of fraction, to nearest even": to_bits(16),
}


# -- orders ------------------------------------------------------------------------------------------------------------


def sequential(values: Sequence[Any], add: Add) -> Any:
    total = values[0]
    for value in values[1:]:
        total = add(total, value)
    return total


def backwards(values: Sequence[Any], add: Add) -> Any:
    return sequential(values[::-1], add)


def pairwise(values: Sequence[Any], add: Add) -> Any:
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return add(pairwise(values[:half], add), pairwise(values[half:], add))


def folded(values: Sequence[Any], add: Add) -> Any:
    while len(values) > 1:
        half = len(values) // 2
        values = [add(one, other) for one, other in zip(values[:half], values[half:], strict=True)]
    return values[0]


def blocks(size: int, inner: Order, outer: Order) -> Order:
    return lambda values, add: outer(
        [inner(values[start : start + size], add) for start in range(0, len(values), size)], add
    )


def lanes(count: int, inner: Order, outer: Order) -> Order:
    return lambda values, add: outer([inner(values[lane::count], add) for lane in range(count)], add)


ORDERS: dict[str, Order] = {
    "sequential": sequential,
    "sequential from the last": backwards,
    "pairwise": pairwise,
    "pairwise of halves": folded,
    "blocks of 8 (sequential), then sequential": blocks(8, sequential, sequential),
    "blocks of 16 (sequential), then pairwise": blocks(16, sequential, pairwise),
    "blocks of 8 (pairwise), then sequential": blocks(8, pairwise, sequential),
    "blocks of 16 (pairwise of halves), then sequential from the last": blocks(16, folded, backwards),
    "4 lanes (sequential), then pairwise": lanes(4, sequential, pairwise),
    "8 lanes (sequential), then sequential": lanes(8, sequential, sequential),
    "8 lanes (sequential), then pairwise of halves": lanes(8, sequential, folded),
    "16 lanes (pairwise), then sequential": lanes(16, pairwise, sequential),
    "blocks of 32 (8 lanes (sequential), then pairwise), then sequential": blocks(
        32, lanes(8, sequential, pairwise), sequential
    ),
    "4 lanes (blocks of 4 (pairwise), then sequential), then pairwise": lanes(
        4, blocks(4, pairwise, sequential), pairwise
    ),
}


HOW = {"truncated": "truncated", "away": "to nearest, ties away", "up": "up", "down": "down"}
ROUNDED = ("sequential", "sequential from the last", "pairwise", "8 lanes (sequential), then sequential")


def sums() -> Iterator[Emulation]:
    """Every order in every accumulator."""
    for (order, run), (width, rounded) in itertools.product(ORDERS.items(), ACCUMULATORS.items()):
        function = _summing(run, rounded)
        yield Emulation(f"{order}, {width}", "sum", function, _summed(order, width))
    for (how, words), fraction, order in itertools.product(HOW.items(), (23, 20), ROUNDED):
        function = _summing(ORDERS[order], to_bits(fraction, how))
        width = {23: "float32", 20: "20 bits of fraction"}[fraction]
        yield Emulation(
            f"{order}, {width}, {words}", "sum", function, _summed(order, width) | {"rounding of sums": words}
        )
    for size in (4, 8):
        told = _summed(f"sequential, {size} at a time", "float32") | {"rounding of sums": "truncated"}
        yield Emulation(f"{size} at a time", "sum", _at_once(size), told)
    for size, width, early in itertools.product((8, 16), ("float16", "bfloat16"), (True, False)):
        least = size if early else 2 * size
        yield Emulation(
            f"float32 in blocks of {size}, {width} between, narrowed {'before' if early else 'after'} they are added",
            "sum",
            _mixed(size, ACCUMULATORS[width], early),
            _summed(
                f"blocks of {size} (sequential), then sequential",
                f"float32 in sums of fewer than {least} terms, {width} from there on",
            ),
        )


def _summing(run: Order, rounded: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def function(x: Array) -> Array:
        terms = [rounded(term) for term in x.astype(np.float64).T]
        return np.asarray(run(terms, lambda a, b: rounded(a + b))).astype(np.float32)

    return function


def _summed(order: str, width: str) -> dict[str, str]:
    return {"accumulator": width, "order": f"{order}, of {TERMS} terms", "rounding of sums": "to nearest even"}


def _at_once(size: int) -> Callable[[Array], Array]:
    """As matrix units do it: a total and so many terms are aligned to the largest, cut off, and added exactly."""

    def function(x: Array) -> Array:
        total = np.zeros((len(x), 1))
        for start in range(0, x.shape[1], size):
            terms = np.concatenate([total, x[:, start : start + size].astype(np.float64)], 1)
            exponent = np.frexp(np.abs(terms).max(1, keepdims=True))[1] - 24
            total = np.ldexp(np.trunc(np.ldexp(terms, -exponent)).sum(1, keepdims=True), exponent)
            total = to_bits(23, "truncated")(total)
        return total[:, 0].astype(np.float32)

    return function


def _mixed(size: int, rounded: Callable[[Array], Array], early: bool) -> Callable[[Array], Array]:
    """Blocks in float32, which are added up in a narrower format; ``early``: each is narrowed before it is added."""
    single = through(np.float32)

    def function(x: Array) -> Array:
        columns = list(x.astype(np.float64).T)
        starts = range(0, len(columns), size)
        parts = [sequential(columns[start : start + size], lambda a, b: single(a + b)) for start in starts]
        parts = [rounded(part) for part in parts] if early else parts
        return np.asarray(sequential(parts, lambda a, b: rounded(a + b))).astype(np.float32)

    return function


# -- products ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """Factors that are not multiplied yet."""

    a: Array
    b: Array


def matmul(
    factor: Callable[[Array], Array], rounded: Callable[[Array], Array], order: Order, fused: bool, flush: str
) -> Callable[[Array, Array], Array]:
    """A product of matrices of known arithmetic; ``flush``: which subnormal numbers are zero."""

    def add(total: Any, term: Any) -> Any:
        if isinstance(total, Product):
            total, term = term, total
        if isinstance(total, Product):  # both: the first is rounded
            total = rounded(total.a * total.b)
        return rounded(total + (term.a * term.b if isinstance(term, Product) else term))

    def function(a: Array, b: Array) -> Array:
        with np.errstate(all="ignore"):
            left, right = factor(_flushed(a, "in" in flush)), factor(_flushed(b, "in" in flush))
            terms = [Product(left[:, [k]], right[[k]]) for k in range(a.shape[1])]
            values = terms if fused else [rounded(term.a * term.b) for term in terms]
            return _flushed(np.asarray(order(values, add)).astype(np.float32), "out" in flush)

    return function


def _flushed(x: Array, on: bool) -> Array:
    found = np.asarray(x, np.float64 if x.dtype == np.float64 else np.float32)
    return np.where(np.abs(found) < 2.0**-126, np.zeros_like(found), found) if on else found


def _subnormal(flush: str) -> dict[str, str]:
    return {
        "subnormal inputs": "taken as zero" if "in" in flush else "kept",
        "subnormal results": "flushed to zero" if "out" in flush else "kept",
    }


def products(seed: int = 0, count: int = 60) -> Iterator[Emulation]:
    """Draws of factors, accumulators, orders, fma and subnormal numbers."""
    draw = random.Random(seed)
    fusible = [order for order in ORDERS if "pairwise" not in order]
    every = list(itertools.product(FACTORS, ("float32", "float64"), (True, False), ("", "in", "out", "in out")))
    for factor, width, fused, flush in draw.sample(every, count):
        order = draw.choice(fusible if fused else list(ORDERS))
        bits = {"as": 23, "TF": 10, "bf": 7, "fl": 10, "16": 16}[factor[:2]]
        exact = 2 * bits + 1 <= {"float32": 23, "float64": 52}[width]
        words = {
            "factors": factor,
            "products": "exact" if exact else "added unrounded (fma)" if fused else "rounded, then added",
            **_summed(order, width),
            **_subnormal("in out" if factor.startswith("float16") else flush),  # which has no such small numbers
        }
        if factor.startswith("float16") and width == "float64":  # its factors have too few exponents to show more
            words = {name: words[name] for name in ("factors", "subnormal inputs", "subnormal results")}
            words |= {"products": "hidden", "accumulator": "more than 38 bits of fraction"}
        function = matmul(FACTORS[factor], ACCUMULATORS[width], ORDERS[order], fused, flush)
        yield Emulation(f"{factor}; {width}; {order}; fma {fused}; flush {flush or 'none'}", "matmul", function, words)


# -- elementwise -------------------------------------------------------------------------------------------------------


def elementwise() -> Iterator[Emulation]:
    """Subnormal numbers, multiply and add, and functions with known errors."""
    for flush in ("", "in", "out", "in out"):
        for operation, ufunc in (("add", np.add), ("multiply", np.multiply)):

            def function(a: Array, b: Array, ufunc: Any = ufunc, flush: str = flush) -> Array:
                return _flushed(ufunc(_flushed(a, "in" in flush), _flushed(b, "in" in flush)), "out" in flush)

            yield Emulation(f"{operation}, flush {flush or 'none'}", operation, function, _subnormal(flush))
    yield Emulation("a * b + c", "multiply_add", lambda a, b, c: a * b + c, {"a * b + c": "rounded twice"})

    def fma(a: Array, b: Array, c: Array) -> Array:
        return np.asarray(a.astype(np.float64) * b + c, np.float32)

    yield Emulation("fma", "multiply_add", fma, {"a * b + c": "rounded once (fma, or a wider format)"})
    for name, exact in (("exp", np.exp), ("tanh", np.tanh), ("sqrt", np.sqrt), ("log", np.log)):
        yield Emulation(name, name, _of_bits(exact, None), {"results": "rounded correctly"})
        yield Emulation(f"{name}, truncated", name, _of_bits(exact, 23), {"results": "within 1 unit in the last place"})
        yield Emulation(f"{name}, 11 bits", name, _of_bits(exact, 11), {"results": "approximate: 11 of 24 bits"})

    def exp_by_exp2(x: Array) -> Array:
        return np.exp2((x * np.float32(np.log2(np.e))).astype(np.float64)).astype(np.float32)

    yield Emulation(
        "exp by exp2",
        "exp",
        exp_by_exp2,
        {"results": "2 to the power of a rounded x * log2(e): the error grows with x"},
    )
    yield Emulation(
        "rsqrt of half the bits", "rsqrt", lambda x: _rsqrt(x, 0), {"results": "approximate: 13 of 24 bits"}
    )
    yield Emulation(
        "rsqrt with one step of Newton",
        "rsqrt",
        lambda x: _rsqrt(x, 1),
        {"results": "within 2 units in the last place"},
    )


def _of_bits(exact: Callable[[Array], Array], fraction: int | None) -> Callable[[Array], Array]:
    """The function, correctly rounded, or cut off after so many bits of fraction."""

    def function(x: Array) -> Array:
        found = exact(x.astype(np.float64))
        return (found if fraction is None else to_bits(fraction, "truncated")(found)).astype(np.float32)

    return function


def _rsqrt(x: Array, steps: int) -> Array:
    y = to_bits(12)(1 / np.sqrt(x.astype(np.float64))).astype(np.float32)
    for _ in range(steps):
        y = y * (np.float32(1.5) - np.float32(0.5) * x * y * y)
    return y


# -- normalisation and casts -------------------------------------------------------------------------------------------

EPS: dict[str, Callable[[Array, float], Array]] = {
    "inside of the root": lambda variance, eps: np.sqrt(variance + np.float32(eps)),
    "beside the root": lambda variance, eps: np.sqrt(variance) + np.float32(eps),
    "its root beside the root": lambda variance, eps: np.sqrt(variance) + np.sqrt(np.float32(eps)),
    "the least variance": lambda variance, eps: np.sqrt(np.maximum(variance, np.float32(eps))),
    "the least deviation": lambda variance, eps: np.maximum(np.sqrt(variance), np.float32(eps)),
    "nowhere": lambda variance, eps: np.sqrt(variance),
}
DIVISORS = {"biased (N)": 0, "unbiased (N - 1)": 1}
PASSES = {
    "one": np.float32,
    "two (or one that a large mean does not spoil)": None,
    "one, in a wider format": np.float64,
}


def normalization() -> Iterator[Emulation]:
    """Places of eps, divisors and passes, along rows and columns; variances alone."""
    for passes, (divisor, less) in itertools.product(PASSES, DIVISORS.items()):

        def variance(x: Array, less: int = less, passes: str = passes) -> Array:
            return _variance(x, less, passes)[..., 0]

        yield Emulation(
            f"var, {divisor}, passes {passes}", "var", variance, {"variance": divisor, "passes": _seen(passes)}
        )
        for place, (operation, axis) in itertools.product(EPS, (("layer_norm", -1), ("batch_norm", 0))):
            kind = "biased (N) or unbiased (N - 1)" if place.startswith("the least") else divisor
            yield Emulation(
                f"{operation}, {place}, {divisor}, passes {passes}",
                operation,
                _normalize(EPS[place], less, passes, axis),
                {"eps": place, "variance": kind, "passes": _seen(passes)},
            )


def _seen(passes: str) -> str:
    """Squares of float32 fit into float64: one pass there is as good as two."""
    return "two (or one that a large mean does not spoil)" if passes == "one, in a wider format" else passes


def _variance(x: Array, less: int, passes: str) -> Array:
    n = x.shape[-1]
    wide = PASSES[passes]
    if wide is None:
        return np.asarray(((x - x.mean(-1, keepdims=True)) ** 2).sum(-1, keepdims=True) / np.float32(n - less))
    y = x.astype(wide)
    mean = y.mean(-1, keepdims=True)
    found = np.maximum((y * y).mean(-1, keepdims=True) - mean * mean, 0)
    return np.asarray(found * n / (n - less)).astype(np.float32)


def _normalize(root: Callable[[Array, float], Array], less: int, passes: str, axis: int) -> Callable[..., Array]:
    def function(x: Array, eps: float) -> Array:
        rows = x.T if axis == 0 else x
        with np.errstate(all="ignore"):
            found = (rows - rows.mean(-1, keepdims=True)) / root(_variance(rows, less, passes), eps)
        return np.asarray(found.T if axis == 0 else found)

    return function


ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "to nearest even": np.rint,
    "to nearest, ties away from zero": lambda x: np.trunc(x + np.copysign(0.5, x)),
    "to nearest, ties towards zero": lambda x: np.copysign(np.ceil(np.abs(x) - 0.5), x),
    "truncated": np.trunc,
    "away from zero": lambda x: np.copysign(np.ceil(np.abs(x)), x),
    "up": np.ceil,
    "down": np.floor,
}


def casts() -> Iterator[Emulation]:
    """Roundings, saturation and subnormal numbers; and a rounding at random."""
    for (target, fraction, highest), (rounding, rint), saturated, flushed in itertools.product(
        (("float16", 10, 15), ("bfloat16", 7, 127)), ROUNDINGS.items(), (False, True), (False, True)
    ):
        words = {
            "rounding": rounding,
            "beyond the largest": "the largest number" if saturated else "infinity",
            "subnormal results": "flushed to zero" if flushed else "kept",
        }
        function = _cast(fraction, highest, rint, saturated, flushed)
        yield Emulation(
            f"{target}, {rounding}, saturated {saturated}, flushed {flushed}", f"cast_{target}", function, words
        )
    draw = np.random.default_rng(0)
    noise = _cast(10, 15, lambda x: np.floor(x + draw.random(x.shape)), False, False)
    words = {"rounding": "at random", "beyond the largest": "infinity", "subnormal results": "kept"}
    yield Emulation("float16, at random", "cast_float16", noise, words)


def _cast(
    fraction: int, highest: int, rint: Callable[[Array], Array], saturated: bool, flushed: bool
) -> Callable[[Array], Array]:
    def function(x: Array) -> Array:
        wide = x.astype(np.float64)
        exponent = np.maximum(np.frexp(wide)[1] - 1, 1 - highest)
        found = np.ldexp(rint(np.ldexp(wide, fraction - exponent)), exponent - fraction)
        largest = 2.0**highest * (2 - 2.0**-fraction)
        found = np.where(np.abs(wide) > largest, np.copysign(largest if saturated else np.inf, wide), found)
        return np.where(np.abs(found) < 2.0 ** (1 - highest), 0.0, found) if flushed else found

    return function


def emulations() -> list[Emulation]:
    """All of them."""
    return [*sums(), *products(), *elementwise(), *normalization(), *casts()]
