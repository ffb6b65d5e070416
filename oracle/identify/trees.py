"""The tree by which terms are added up, from how many of them survive beside two large ones that cancel.

Put M at one place, -M at another and ones elsewhere, with M so large that ones beside it are lost: the ones that are
added before M and -M have met are lost, all others survive. So the sum tells how many leaves are under the lowest node
that both places share; asked for enough pairs, this gives the whole tree.

Source: Xie et al., "FPRev: Revealing Floating-Point Accumulation Orders" (2025); nodes may have several children.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

Leaves = frozenset[int]
Sizes = Callable[[Sequence[tuple[int, int]]], list[int]]


class HiddenError(Exception):
    """What the probes show is no tree."""


@dataclass(frozen=True)
class Tree:
    """A tree of additions: the sets of leaves of its nodes, without the leaves themselves."""

    nodes: frozenset[Leaves]

    @cached_property
    def by_size(self) -> list[Leaves]:
        """The nodes, the smallest first."""
        return sorted(self.nodes, key=lambda node: (len(node), sorted(node)))

    def meeting(self, one: int, other: int) -> int:
        """How many leaves are under the lowest node that has both."""
        return next(len(node) for node in self.by_size if one in node and other in node)

    def pair(self, node: Leaves) -> tuple[int, int]:
        """Two leaves that meet at this node, and no sooner."""
        one = min(node)
        inside = [each for each in self.nodes if each < node and one in each]
        beside = node - max(inside, key=len, default=frozenset({one}))
        return one, min(beside)


def reveal(sizes: Sizes, n: int, seed: int = 0) -> Tree:
    """The tree of ``n`` terms, where ``sizes`` says of pairs how many leaves are under their lowest common node.

    Raises:
        HiddenError: the sizes are those of no tree, or not the same a second time.

    Example:
        >>> tree = reveal(lambda pairs: [max(pair) + 1 for pair in pairs], 4)
        >>> describe(tree, range(4))
        'sequential'
    """
    draw, nodes = random.Random(seed), set()

    def build(leaves: list[int], parent: int) -> list[Leaves]:
        """The children of the node of ``parent`` leaves that hold these."""
        pivot = draw.choice(leaves)
        others = [leaf for leaf in leaves if leaf != pivot]
        groups: dict[int, list[int]] = {}
        for other, size in zip(others, sizes([(pivot, other) for other in others]) if others else [], strict=True):
            groups.setdefault(size, []).append(other)
        tree = frozenset({pivot})
        for size, members in sorted(groups.items()):
            if size == parent:
                return [tree, *build(members, parent)]
            tree = tree.union(*build(members, size))
            if len(tree) != size:
                raise HiddenError
            nodes.add(tree)
        return [tree]

    if build(list(range(n)), n + 1) != [frozenset(range(n))]:
        raise HiddenError
    tree = Tree(frozenset(nodes))
    again = [tuple(draw.sample(range(n), 2)) for _ in range(32)]
    pairs = [(one, other) for one, other in again]
    if [tree.meeting(*pair) for pair in pairs] != sizes(pairs):
        raise HiddenError
    return tree


def describe(tree: Tree, order: Sequence[int]) -> str | None:
    """The tree in words, over leaves in that order; None where it is none of the known ones.

    ``sequential``, ``pairwise`` (of neighbours), ``pairwise of halves`` (i and i + n/2), ``at once``,
    ``sequential, N at a time``; and of these ``blocks of N (...), then ...`` and ``N lanes (...), then ...`` (i mod N).
    The shortest words that fit.
    """
    found = _words(tree.nodes, [frozenset({leaf}) for leaf in order])
    return None if found is None else found[1]


def _words(nodes: frozenset[Leaves], parts: list[Leaves]) -> tuple[int, str] | None:
    """The words, and how many patterns they take, of the nodes that are above these parts."""
    n = len(parts)
    for name, expected in _PATTERNS.items():
        if nodes == expected(parts):
            return 1, name
    found: list[tuple[int, str]] = []
    for size in (size for size in range(2, n // 2 + 1) if n % size == 0):
        chunks = [parts[start : start + size] for start in range(0, n, size)]
        if nodes == _sequential([frozenset[int]().union(*chunk) for chunk in chunks]) | {
            frozenset[int]().union(*chunks[0])
        }:
            found.append((2, f"sequential, {size} at a time"))
        lanes = [parts[lane::size] for lane in range(size)]
        for name, groups in ((f"blocks of {size}", chunks), (f"{size} lanes", lanes)):
            told = _composed(nodes, groups)
            if told is not None:
                found.append((told[0] + 1, f"{name} ({told[1]}), then {told[2]}"))
    return min(found, default=None)


def _composed(nodes: frozenset[Leaves], groups: list[list[Leaves]]) -> tuple[int, str, str] | None:
    wholes = [frozenset[int]().union(*group) for group in groups]
    if not all(whole in nodes for whole in wholes):
        return None
    inner = {
        _words(frozenset(each for each in nodes if each <= whole), group)
        for whole, group in zip(wholes, groups, strict=True)
    }
    outer = _words(frozenset(each for each in nodes if not any(each <= whole for whole in wholes)), wholes)
    if len(inner) > 1 or outer is None:
        return None
    within = inner.pop()
    return None if within is None else (within[0] + outer[0], within[1], outer[1])


def _sequential(parts: list[Leaves]) -> frozenset[Leaves]:
    found, nodes = parts[0], set()
    for part in parts[1:]:
        found = found | part
        nodes.add(found)
    return frozenset(nodes)


def _pairwise(parts: list[Leaves]) -> frozenset[Leaves]:
    if len(parts) == 1:
        return frozenset()
    half = len(parts) // 2
    return _pairwise(parts[:half]) | _pairwise(parts[half:]) | {frozenset[int]().union(*parts)}


def _folded(parts: list[Leaves]) -> frozenset[Leaves]:
    if len(parts) == 1 or len(parts) % 2:
        return frozenset()
    half = len(parts) // 2
    pairs = [one | other for one, other in zip(parts[:half], parts[half:], strict=True)]
    return frozenset(pairs) | _folded(pairs)


_PATTERNS: dict[str, Callable[[list[Leaves]], frozenset[Leaves]]] = {
    "sequential": _sequential,
    "sequential from the last": lambda parts: _sequential(parts[::-1]),
    "pairwise": _pairwise,
    "pairwise of halves": _folded,
    "at once": lambda parts: frozenset({frozenset[int]().union(*parts)}),
}
