"""relu, sigmoid, exp, log, gelu, add and multiply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from kernel_corpus import alterations as alter
from kernel_corpus.arithmetic import Arithmetic, Array, arithmetic, nearest
from kernel_corpus.kernel import Bug, Kernel, Recipe

PRECISIONS = ("float32", "bfloat16", "float16")

Exp = Callable[[Array], Array]


# -- functions ---------------------------------------------------------------------------------------------------------


def exp_by_halves(x: Array) -> Array:
    """``exp`` in float64, rounded: as good as correctly rounded."""
    return np.exp(x.astype(np.float64)).astype(x.dtype)


def exp_by_powers(x: Array, terms: int = 7) -> Array:
    """``2**n`` times a polynomial of what is left, as vector units compute it; Cody and Waite's two-part reduction."""
    kind = x.dtype.type
    clipped = np.clip(x, kind(-150), kind(150))
    n = np.rint(clipped * kind(1 / np.log(2)))
    left = (clipped - n * kind(0.693359375)) + n * kind(2.12194440e-4)
    made = np.full_like(x, 1.0 / special.factorial(terms))
    for power in range(terms - 1, -1, -1):
        made = made * left + kind(1.0 / special.factorial(power))
    whole = np.where(np.isnan(n), 0, n).astype(np.int32)
    return np.where(np.isnan(x), x, np.ldexp(made, whole))


def fast_exp(x: Array) -> Array:
    """A polynomial of degree 5: off by up to 2.4e-6, always to the same side, as fast-math libraries are."""
    return exp_by_powers(x, 5)


def relu(how: Arithmetic, x: Array, larger: Any = np.maximum) -> Array:
    """``max(x, 0)``."""
    return larger(x, x.dtype.type(0))


def relu_by_choice(how: Arithmetic, x: Array) -> Array:
    """``0 if x <= 0 else x``: NaN stays."""
    return np.where(x <= 0, x.dtype.type(0), x)


def sigmoid(how: Arithmetic, x: Array, exp: Exp = np.exp) -> Array:
    """``1 / (1 + exp(-x))``."""
    one = x.dtype.type(1)
    return one / (one + exp(-x))


def sigmoid_two_sided(how: Arithmetic, x: Array) -> Array:
    """``exp(x) / (1 + exp(x))`` on the negative side, so that nothing overflows."""
    one = x.dtype.type(1)
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, one) / (one + small)


def apply(function: Any, how: Arithmetic, x: Array) -> Array:
    """A function of each element."""
    return function(x)


def log_by_log2(x: Array) -> Array:
    """``log2`` in float64 times ``log 2``."""
    return (np.log2(x.astype(np.float64)) * np.log(2)).astype(x.dtype)


def gelu(how: Arithmetic, x: Array, *, approximate: str = "none") -> Array:
    """``x / 2 (1 + erf(x / sqrt 2))``, or by ``tanh``."""
    kind = x.dtype.type
    if approximate == "tanh":
        inner = kind(np.sqrt(2 / np.pi)) * (x + kind(0.044715) * x * x * x)
        return kind(0.5) * x * (1 + np.tanh(inner))
    return x * (kind(0.5) * (1 + special.erf(x * kind(np.sqrt(0.5))).astype(x.dtype)))


def gelu_by_erfc(how: Arithmetic, x: Array, *, approximate: str = "none") -> Array:
    """``x / 2 erfc(-x / sqrt 2)``, which is exact far to the left too; the form with ``tanh`` in float64."""
    if approximate == "tanh":
        return gelu(how, x.astype(np.float64), approximate="tanh").astype(x.dtype)
    return (x * 0.5 * special.erfc(-x.astype(np.float64) * np.sqrt(0.5))).astype(x.dtype)


def add(how: Arithmetic, a: Array, b: Array) -> Array:
    """``a + b`` with broadcasting."""
    return a + b


def multiply(how: Arithmetic, a: Array, b: Array) -> Array:
    """``a b`` with broadcasting."""
    return a * b


def in_blocks(operation: Any, how: Arithmetic, a: Array, b: Array) -> Array:
    """Both written out to one shape, and gone through in blocks of 128."""
    a, b = np.broadcast_arrays(a, b)
    flat, other = a.reshape(-1), b.reshape(-1)
    parts = [operation(how, flat[i : i + 128], other[i : i + 128]) for i in range(0, max(flat.size, 1), 128)]
    return np.concatenate(parts).reshape(a.shape)


BODIES: tuple[tuple[str, str, Any, dict[str, Any]], ...] = (
    ("relu", "maximum", relu, {}),
    ("relu", "a choice", relu_by_choice, {}),
    ("sigmoid", "1 / (1 + exp(-x))", sigmoid, {}),
    ("sigmoid", "two-sided", sigmoid_two_sided, {}),
    ("exp", "NumPy's", partial(apply, np.exp), {}),
    ("exp", "in float64", partial(apply, exp_by_halves), {}),
    ("exp", "a polynomial", partial(apply, exp_by_powers), {}),
    ("log", "NumPy's", partial(apply, np.log), {}),
    ("log", "log2 in float64", partial(apply, log_by_log2), {}),
    ("gelu", "erf", gelu, {}),
    ("gelu", "erfc in float64", gelu_by_erfc, {}),
    ("gelu", "tanh", gelu, {"approximate": "tanh"}),
    ("gelu", "tanh in float64", gelu_by_erfc, {"approximate": "tanh"}),
    ("add", "broadcast", add, {}),
    ("add", "in blocks", partial(in_blocks, add), {}),
    ("multiply", "broadcast", multiply, {}),
    ("multiply", "in blocks", partial(in_blocks, multiply), {}),
)


WRITTEN = ("relu", "add", "gelu")  # by kernels that are handed a buffer, too


def healthy() -> Iterator[Kernel]:
    """Each body in each precision, and computed in float64 throughout."""
    for precision in PRECISIONS:
        for op, name, body, attributes in BODIES:
            recipe = Recipe(op, name, arithmetic(precision), body, attributes)
            yield recipe.kernel()
            if op in WRITTEN:
                yield alter.into_buffer(recipe).kernel()


# -- bugs --------------------------------------------------------------------------------------------------------------


def _first_column(a: Array, b: Array) -> tuple[Array, Array]:
    """The second operand's first element for all."""
    return a, b if b.ndim == 0 else np.broadcast_to(b[..., :1], b.shape)


def _other_axis(a: Array, b: Array) -> tuple[Array, Array]:
    """A row taken for a column where both fit."""
    if a.ndim == b.ndim == 2 and a.shape[0] == a.shape[1] and 1 in b.shape:
        return a, b.T
    return a, b if b.ndim < 2 or b.shape[-1] != b.shape[-2] else b.swapaxes(-1, -2)


def _inner_rounded(how: Arithmetic, x: Array, gelu_too: bool = False) -> Array:
    """What stands in the sigmoid's denominator, or the factor of GELU, is stored in between."""
    one = x.dtype.type(1)
    if gelu_too:
        factor = x.dtype.type(0.5) * (one + special.erf(x * x.dtype.type(np.sqrt(0.5))).astype(x.dtype))
        return x * nearest(factor, how.precision).astype(x.dtype)
    return one / nearest(one + np.exp(-x), how.precision).astype(x.dtype)


def _leaky(how: Arithmetic, x: Array) -> Array:
    return np.where(x > 0, x, x * x.dtype.type(0.01))


def _overflowing(how: Arithmetic, x: Array) -> Array:
    return np.exp(x) / (x.dtype.type(1) + np.exp(x))


def _fast(recipe: Recipe) -> Recipe:
    body = {"exp": partial(apply, fast_exp), "sigmoid": partial(sigmoid, exp=fast_exp)}[recipe.op]
    return alter.body(body)(recipe)


FAST = Bug("fast-math exp", "an exp of 2.4e-6", _fast, subtle=True)
STORE = (alter.TRUNCATING, alter.FACTOR, alter.STRIDES, alter.unwritten(32))
TABLE: dict[str, tuple[Bug, ...]] = {
    "relu": (
        Bug("NaN swallowed", "NaN swallowed by fmax", alter.body(partial(relu, larger=np.fmax))),
        Bug("negative part", "a slope of 0.01 on the negative side", alter.body(_leaky)),
        alter.CLAMPED,
        *STORE[1:],
    ),
    "sigmoid": (alter.NAN, *STORE, Bug("overflow", "exp(x) / (1 + exp(x))", alter.body(_overflowing))),
    "exp": (alter.NAN, alter.CLAMPED, *STORE),
    "log": (
        alter.NAN,
        alter.CLAMPED,
        *STORE,
        Bug("another eps", "log(x + 1e-7)", alter.inputs(lambda x: (x + x.dtype.type(1e-7),))),
    ),
    "gelu": (
        Bug("tanh for erf", "the tanh form", alter.body(lambda how, x: gelu(how, x, approximate="tanh")), subtle=True),
        Bug("tanh for erf", "x sigmoid(1.702 x)", alter.body(lambda how, x: x * sigmoid(how, x.dtype.type(1.702) * x))),
        alter.NAN,
        *STORE,
    ),
    "add": (
        alter.NEGATIVE_ZERO,
        alter.NAN,
        alter.CLAMPED,
        Bug("broadcast wrong", "the second operand's first column for all", alter.inputs(_first_column)),
        Bug("wrong axis", "a row for a column", alter.inputs(_other_axis)),
        *STORE,
    ),
    "multiply": (
        alter.NEGATIVE_ZERO,
        alter.NAN,
        alter.CLAMPED,
        Bug("broadcast wrong", "the second operand's first column for all", alter.inputs(_first_column)),
        *STORE,
    ),
}  # fmt: skip


def mutants() -> Iterator[Kernel]:
    """The table; an exp of 2.4e-6 is a bug where that is many roundings."""
    for op, name, body, _ in (each for each in BODIES if each[0] in WRITTEN and each[1] != "tanh"):
        yield from alter.mutants(
            lambda p, op=op, name=name, body=body: alter.into_buffer(Recipe(op, name, arithmetic(p), body)),
            PRECISIONS,
            (alter.UNWRITTEN_LAST, alter.UNWRITTEN_TAIL, alter.OVERWRITTEN),
        )
    for op, bugs in TABLE.items():
        name, body = next((name, body) for of, name, body, _ in BODIES if of == op)
        yield from alter.mutants(
            lambda p, op=op, name=name, body=body: Recipe(op, name, arithmetic(p), body), PRECISIONS, bugs
        )  # type: ignore[misc]
    for op in ("exp", "sigmoid"):
        name, body = next((name, body) for of, name, body, _ in BODIES if of == op)
        yield Recipe(op, name, arithmetic("float32"), body).mutant(FAST)
    for precision in PRECISIONS[1:]:
        for op, name in (
            ("sigmoid", "the denominator stored in between"),
            ("gelu", "the factor of x stored in between"),
        ):
            body = alter.body(partial(_inner_rounded, gelu_too=op == "gelu"))
            healthy_body = gelu if op == "gelu" else sigmoid
            yield Recipe(op, "as written", arithmetic(precision), healthy_body).mutant(
                Bug("one rounding too many", name, body, subtle=True)
            )
