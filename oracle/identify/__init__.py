"""What did it compute? The arithmetic of an implementation, named from outside.

Rules that this package keeps:

- A probe is a designed input on which two arithmetics give different exact answers; no tolerance decides.
- What cannot be seen is said to be hidden, never guessed.
- An implementation is functions of NumPy arrays, a few an operation; nothing is known of how they work.

Example:
    >>> import numpy as np
    >>> def add_up(x):
    ...     total = np.zeros(len(x), np.float32)
    ...     for column in x.T:
    ...         total += column
    ...     return total
    >>> print(identify(own({"sum": add_up}, name="mine"), terms=64).sentence())
    mine in float32
    sum
      accumulator: float32
      order: sequential, of 64 terms
      rounding of sums: to nearest even
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oracle.errors import UsageError
from oracle.identify import elementwise, factors, normalization, sums
from oracle.identify.formats import FORMATS, Array, stored
from oracle.identify.identity import Aspects, Identity
from oracle.identify.implementation import (
    OPERATIONS,
    Implementation,
    find_implementation,
    own,
    signatures,
)

__all__ = ["OPERATIONS", "Identity", "Implementation", "find_implementation", "identify", "own", "signatures"]

_COLUMNS = 16  # of a right factor whose columns are the same
MOST_TERMS = 512


def identify(subject: str | Implementation, operations: Sequence[str] = (), terms: int = 256) -> Identity:
    """Name the arithmetic of an implementation, operation by operation.

    Args:
        subject: the implementation, or text as `find_implementation` takes.
        operations: which. [default: all that it has]
        terms: how many terms are added up; the pattern of an order shows where there are several of its blocks.

    Raises:
        UsageError: an operation is not known, or none could be run.
    """
    made = find_implementation(subject) if isinstance(subject, str) else subject
    missing = [each for each in operations if each not in made.operations]
    if missing:
        raise UsageError(f"operation: {made.name} has no {missing[0]}; it has {', '.join(made.operations)}")
    if terms < 16 or terms > MOST_TERMS or terms % 4:
        raise UsageError(f"terms: got {terms}; may be a multiple of 4 from 16 to {MOST_TERMS}")
    identity = Identity(made.name, made.precision)
    for operation in operations or made.operations:
        try:
            identity.found[operation] = _identify(operation, made, terms)
        except UsageError as error:
            identity.refused[operation] = str(error)
    if not identity.found:
        raise UsageError(f"subject: {made.name}: no operation could be run; {next(iter(identity.refused.values()))}")
    return identity


def _identify(operation: str, made: Implementation, n: int) -> Aspects:
    function, format = made.operations[operation], FORMATS[made.precision]
    if operation in ("matmul", "conv2d"):
        return _contraction(operation, made, n)
    if operation == "sum":
        return sums.identify_sums(sums.Terms(function, n, format)).aspects
    if operation == "multiply":
        return elementwise.identify_subnormal(function, format)
    if operation == "add":
        return elementwise.identify_added_subnormal(function, format)
    if operation == "multiply_add":
        return elementwise.identify_multiply_add(function, format)
    if operation in elementwise.FUNCTIONS:
        return elementwise.identify_function(operation, function, format, lambda x: _rounded(x, made.precision))
    if operation == "var":
        return normalization.identify_variance(function, format)
    if operation == "layer_norm":
        return normalization.identify_normalization(function, format)
    if operation == "batch_norm":
        return normalization.identify_normalization(lambda rows, eps: function(rows.T, eps).T, format)
    return elementwise.identify_cast(function, elementwise.target_of(operation))


def _rounded(values: Array, precision: str) -> Array:
    found: Array = stored(values, precision).astype(np.float64)
    return found


def _contraction(operation: str, made: Implementation, n: int) -> Aspects:
    function, format = made.operations[operation], FORMATS[made.precision]
    products = _convolution(made) if operation == "conv2d" else function
    orders = sums.image_orders if operation == "conv2d" else sums.matrix_orders
    terms = sums.Terms(lambda rows: products(rows, np.ones((rows.shape[1], _COLUMNS)))[:, 0], n, format, orders)
    found = sums.identify_sums(terms)
    words, fraction = factors.identify_factors(products, n, format, found)
    return {
        **words,
        **factors.identify_products(products, fraction, found),
        **found.aspects,
        **elementwise.identify_subnormal(_alone(products, n), format),
    }


def _convolution(made: Implementation) -> factors.Products:
    """Products of matrices as a convolution whose kernel is as large as the image: terms are channels by 2 by 2."""
    function = made.operations["conv2d"]

    def call(a: Array, b: Array) -> Array:
        image, kernel = a.reshape(len(a), -1, 2, 2), b.T.reshape(b.shape[1], -1, 2, 2)
        return function(np.ascontiguousarray(image), np.ascontiguousarray(kernel)).reshape(len(a), -1)

    return call


def _alone(products: factors.Products, n: int) -> elementwise.Function:
    """Products of single numbers by that of matrices, with zeros beside them."""

    def call(a: Array, b: Array) -> Array:
        left, right = np.zeros((n, n)), np.zeros((n, _COLUMNS))
        left[: len(a), 0], right[0] = a, b[0]
        return products(left, right)[: len(a), 0]

    return call
