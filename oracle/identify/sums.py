"""How terms are added up: the width of the accumulator, the order, and how it rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from oracle.identify.formats import FORMATS, Array, Format, width_in_words
from oracle.identify.trees import HiddenError, Tree, describe, reveal

_MOST = 70  # bits of fraction that are looked for
_USUAL = (7, 10, 23, 52)
_FEWEST = 8  # terms of which an order is told
_PARTS = (0.25, 0.5, 0.75)  # of a last place
_ROUNDINGS: dict[tuple[float, ...], str] = {
    (0.0, 0.0, 1.0) * 2: "to nearest even",
    (0.0, 1.0, 1.0) * 2: "to nearest, ties away",
    (0.0, 0.0, 0.0) * 2: "truncated",
    (1.0, 1.0, 1.0) * 2: "away from zero",
    (1.0, 1.0, 1.0, 0.0, 0.0, 0.0): "up",
    (0.0, 0.0, 0.0, 1.0, 1.0, 1.0): "down",
}


def matrix_orders(n: int) -> dict[str, Sequence[int]]:
    """As they are given; and with odd places before even ones, as instructions for pairs have it."""
    return {"": range(n), " (odd places before even ones)": [place ^ 1 for place in range(n - n % 2)]}


def image_orders(n: int) -> dict[str, Sequence[int]]:
    """Of terms that are channels by 2 by 2: channels outermost, innermost, innermost in blocks; each also in pairs."""
    channels = n // 4
    found: dict[str, Sequence[int]] = {}
    for block in dict.fromkeys((1, channels, 8, 16, 32)):
        words = {1: "", channels: "channels innermost"}.get(block, f"channels innermost, in blocks of {block}")
        if channels % block:
            continue
        starts = range(0, channels, block)
        order = [(start + each) * 4 + at for start in starts for at in range(4) for each in range(block)]
        odd = [4 * ((place // 4) ^ 1) + place % 4 for place in order]
        found[f" ({words})" if words else ""] = order
        if channels % 2 == 0:
            found[" (" + ", ".join(filter(None, (words, "odd ones before even ones"))) + ")"] = odd
    return found


@dataclass(frozen=True)
class Terms:
    """Terms that an implementation adds up.

    Args:
        add: adds up the rows of an array of shape (P, N), for any N.
        n: how many terms a row has.
        format: what terms may be.
        orders: by the words that say so, the leaves in the orders in which a pattern is looked for.
    """

    add: Callable[[Array], Array]
    n: int
    format: Format
    orders: Callable[[int], Mapping[str, Sequence[int]]] = matrix_orders

    def __call__(self, rows: Array) -> Array:
        """The sums of rows, which are handed on N at a time: kernels may differ by how many there are."""
        found = []
        for start in range(0, len(rows), self.n):
            part = np.zeros((self.n, self.n))
            taken = rows[start : start + self.n]
            part[: len(taken)] = taken
            found.append(self.add(part)[: len(taken)])
        return np.concatenate(found)

    def placed(self, rows: Sequence[Mapping[int, float]]) -> Array:
        """The sums of rows that are zero elsewhere."""
        made = np.zeros((len(rows), self.n))
        for row, terms in zip(made, rows, strict=True):
            for place, value in terms.items():
                row[place] = value
        return self(made)


@dataclass(frozen=True)
class Summation:
    """What was found of how terms are added up.

    Args:
        aspects: in words.
        fraction: bits of fraction of the widest accumulator, or as many as could be seen.
        narrowest: of the narrowest.
        tree: the order, where it shows.
    """

    aspects: dict[str, str]
    fraction: int
    narrowest: int
    tree: Tree | None


def identify_sums(terms: Terms) -> Summation:
    """What the sums of designed terms show."""
    terms = _within_range(terms)
    highest = terms.format.highest - 1
    # where nothing is known of the order, the least of each triple's three ways: one of them has two meet before
    n = terms.n
    triples = [(0, 1, 2), (0, 1, n - 1), (0, n // 2, n - 1)]
    seen = [min(_width(terms, way, highest) for way in permutations(triple)) for triple in triples]
    widest, narrowest, limit = max(seen), min(seen), _limit(terms, highest)
    if narrowest < 1:
        return Summation({"accumulator": "none: what comes back is no sum"}, 0, 0, None)
    if widest == limit:
        return Summation({"accumulator": f"more than {limit} bits of fraction"}, widest, narrowest, None)
    # from here on no more terms than can be counted, beside one that is large enough
    countable = min(n, 2 ** (min(narrowest, terms.format.fraction) + 1))
    while countable >= _FEWEST and highest - (widest + 2 + _log2(countable)) < terms.format.lowest:
        countable //= 2
    tree, order = None, "hidden"
    if countable >= _FEWEST:
        terms = replace(terms, n=countable)
        try:
            tree = reveal(lambda pairs: _meetings(terms, pairs, widest, highest), countable)
            order = _in_words(tree, terms)
        except HiddenError:
            order = "of no fixed tree"
    accumulator = width_in_words(narrowest, highest)
    if tree is not None and len(tree.nodes) > 1:
        accumulator, widest, narrowest = _accumulators(terms, tree, highest)
    return Summation(
        {
            "accumulator": accumulator,
            "order": f"{order}, of {countable} terms" if tree else order,
            "rounding of sums": _rounding(terms, tree, highest, narrowest),
        },
        widest,
        narrowest,
        tree,
    )


def _log2(n: int) -> int:
    return int(np.ceil(np.log2(n)))


def _within_range(terms: Terms) -> Terms:
    """The terms, within the exponents that their sums have, whatever they are stored in."""
    if np.isfinite(terms.placed([{0: 2.0 ** (terms.format.highest - 1)}])).all():
        return _with_subnormal(terms)
    return _with_subnormal(replace(terms, format=FORMATS["float16"]))


def _with_subnormal(terms: Terms) -> Terms:
    """The terms with subnormal numbers among them, where the format has few exponents and they are kept."""
    format = terms.format
    smallest = 2.0 ** (format.lowest - format.fraction)
    if format.highest > 100 or terms.placed([{0: smallest}])[0] != smallest:
        return terms
    return replace(terms, format=replace(format, lowest=format.lowest - format.fraction))


def _limit(terms: Terms, highest: int) -> int:
    return min(_MOST, highest - terms.format.lowest)


def _width(terms: Terms, way: Sequence[int], highest: int) -> int:
    """How many bits of fraction the sum of the first two places has, where they meet before the third."""
    limit = _limit(terms, highest)
    top, (one, other, last) = 2.0**highest, way
    small = [top * 2.0**-bits for bits in range(1, limit + 1)]
    kept = terms.placed([{one: top, other: each, last: -top} for each in small]) == small
    return limit if kept.all() else int(np.argmin(kept))


def _meetings(terms: Terms, pairs: Sequence[tuple[int, int]], widest: int, highest: int) -> list[int]:
    top = 2.0**highest
    unit = top * 2.0 ** -(widest + 2 + _log2(terms.n))
    rows = np.full((len(pairs), terms.n), unit)
    for row, (one, other) in zip(rows, pairs, strict=True):
        row[one], row[other] = top, -top
    found = terms(rows)
    if not np.isfinite(found).all():
        raise HiddenError
    # sums that are not rounded to nearest move the large ones by whole places, each more than all ones together
    survived = np.mod(found, 2.0 ** (highest - widest - 1)) / unit
    if not (survived == np.floor(survived)).all():
        raise HiddenError
    return [terms.n - int(each) for each in survived]


def _in_words(tree: Tree, terms: Terms) -> str:
    found = [(told, suffix) for suffix, order in terms.orders(terms.n).items() if (told := describe(tree, order))]
    if found:
        told, suffix = min(found, key=lambda each: (each[0].count("("), len(each[0])))
        return told + suffix
    first = next(node for node in tree.by_size)
    return f"another tree ({' + '.join(map(str, sorted(first)))} first)"


def _accumulators(terms: Terms, tree: Tree, highest: int) -> tuple[str, int, int]:
    """The accumulators in words, the widest and the narrowest: one node of each size is tried, with a place outside."""
    top, whole = 2.0**highest, frozenset(range(terms.n))
    of_size = {len(node): node for node in reversed(tree.by_size) if node != whole}
    usual = [bits for bits in _USUAL if bits <= _limit(terms, highest)]
    rows: list[dict[int, float]] = []
    widths: dict[int, int] = {}
    for node in of_size.values():
        (one, other), last = tree.pair(node), min(whole - node)
        rows += [{one: top, other: top * 2.0**-bits, last: -top} for bits in usual]
    kept = (terms.placed(rows) == np.tile(top * 2.0 ** -np.array(usual), len(of_size))).reshape(-1, len(usual))
    for (size, node), each in zip(of_size.items(), kept, strict=True):
        bits = usual[-1] if each.all() else usual[int(np.argmin(each)) - 1] if each[0] else -1
        same = bits == next(iter(widths.values()), None)
        (one, other), last = tree.pair(node), min(whole - node)
        widths[size] = bits if same else _width(terms, (one, other, last), highest)
    wide, narrow = max(widths.values()), min(widths.values())
    first = min(size for size, bits in widths.items() if bits == narrow)
    words = [width_in_words(bits, highest) for bits in (wide, narrow)]
    if wide == narrow:
        return words[0], wide, narrow
    if all(bits == (wide if size < first else narrow) for size, bits in widths.items()):
        return f"{words[0]} in sums of fewer than {first} terms, {words[1]} from there on", wide, narrow
    return f"{words[1]} and {words[0]}", wide, narrow


def _rounding(terms: Terms, tree: Tree | None, highest: int, fraction: int) -> str:
    """How a sum of two places is rounded: a power of two, of either sign, and quarters of its last place."""
    if highest - (fraction + 2) < terms.format.lowest:
        return "hidden"
    top, unit = 2.0**highest, 2.0 ** (highest - fraction)
    ways = [way for triple in ((0, 1, 2), (0, terms.n // 2, terms.n - 1)) for way in permutations(triple)]
    if tree is not None:
        whole = frozenset(range(terms.n))
        ways = [(*tree.pair(node), min(whole - node)) for node in tree.by_size if node != whole]
    signed = [sign * part * unit for sign in (1, -1) for part in _PARTS]
    rows = [
        {one: np.copysign(top, part), other: part, last: -np.copysign(top, part)}
        for one, other, last in ways
        for part in signed
    ]
    found = (terms.placed(rows) / unit).reshape(-1, len(signed)) * np.sign(signed)
    lost = (each for each in found if tuple(each) != _PARTS * 2)  # where the two met first
    return _ROUNDINGS.get(tuple(map(float, next(lost, ()))), "in another way")
