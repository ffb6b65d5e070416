"""What products are made of: to what the factors are rounded, and whether a product is rounded before it is added."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from oracle.identify.formats import Array, Format, width_in_words
from oracle.identify.sums import Summation

_COLUMNS = 16  # of a right factor whose columns are the same
Products = Callable[[Array, Array], Array]  # (P, N) and (N, Q) to (P, Q)


def identify_factors(products: Products, n: int, format: Format, sums: Summation) -> tuple[dict[str, str], int]:
    """To what each side's factors are rounded, and the fewer bits of fraction of the two."""

    def left(values: Array, other: float = 1.0) -> Array:
        return _alone(products, values, n, other)

    def right(values: Array, other: float = 1.0) -> Array:
        return _alone(lambda a, b: products(b.T, a.T).T, values, n, other)

    (words, bits), (others, other) = (_factor(side, format, sums) for side in (left, right))
    if words == others:
        return {"factors": words}, bits
    return {"left factors": words, "right factors": others}, min(bits, other)


def identify_products(products: Products, fraction: int, sums: Summation) -> dict[str, str]:
    """Whether products of factors of that many bits are rounded before they are added."""
    if sums.tree is None:
        return {"products": "hidden"}
    half = sums.narrowest // 2 + 2  # (1 + 2^-half)^2 has bits that the accumulator has not
    if half > fraction:
        return {"products": "exact"}
    value = 1 + 2.0**-half
    rest = -(1 + 2.0 ** (1 - half))
    n = len(sums.tree.by_size[-1])
    found = []
    for node in sums.tree.by_size[:: max(1, n // 16)]:
        one, other = sums.tree.pair(node)
        for at, beside in ((one, other), (other, one)):
            a, b = np.zeros((n, n)), np.zeros((n, _COLUMNS))
            a[0, at], b[at] = value, value
            a[0, beside], b[beside] = rest, 1
            found.append(products(a, b)[0, 0] == 2.0 ** (-2 * half))
    return {"products": "added unrounded (fma)" if any(found) else "rounded, then added"}


def _alone(products: Products, values: Array, n: int, other: float) -> Array:
    """Each value times another, with zeros beside it."""
    size = max(n, len(values))
    a, b = np.zeros((size, n)), np.zeros((n, _COLUMNS))
    a[: len(values), 0], b[0] = values, other
    return products(a, b)[: len(values), 0]


def _factor(kept: Callable[..., Array], format: Format, sums: Summation) -> tuple[str, int]:
    probes = 1 + 2.0 ** -np.arange(1, format.fraction + 1)
    same = kept(probes) == probes
    if same.all():
        return "as stored", format.fraction
    bits = int(np.argmin(same))
    if bits == sums.narrowest and bits + 3 <= format.fraction:  # the accumulator rounds them, whatever they are
        above = 1 + 3 * 2.0 ** -(bits + 3)  # less than half a place above 1; 1.5 times it is more than half above 1.5
        if kept(np.array([above]), 1.5)[0] != 1.5:
            return "no narrower than the accumulator", bits
    highest = 127 if np.isfinite(kept(np.array([2.0**20]))).all() else 15
    unit = 2.0**-bits
    tie, most = (kept(1 + np.array([0.5, 0.75]) * unit) - 1) / unit
    known = {(0.0, 1.0): "to nearest even", (1.0, 1.0): "to nearest, ties away", (0.0, 0.0): "truncated"}
    how = known.get((float(tie), float(most)), "rounded in another way")
    return f"{width_in_words(bits, highest)}, {how}", bits
