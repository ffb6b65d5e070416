"""Rearranging by a pattern that names axes, in the language of the einops package (Rogozhnikov, ICLR 2022).

A pattern has two sides, ``"b (h d) c -> b h d c"``. Each side names axes; parentheses join several into one, the last
running fastest; ``...`` stands for further axes; ``1`` is an axis of length one. All is composed of operations of
``shape.py`` and, in ``reduce``, of ``reduction.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lucid.core.tensor import Tensor, as_tensor
from lucid.ops import comparison, reduction
from lucid.ops.contraction import einsum as _einsum
from lucid.ops.shape import broadcast_to, getitem, reshape, stack, transpose

__all__ = ["einsum", "rearrange", "reduce", "repeat"]

DOTS = "…"
_WORD = re.compile(r"\s*(?:([A-Za-z][A-Za-z0-9_]*)|(\d+)|(\.\.\.)|([()])|(\S))")


class Side(NamedTuple):
    """One side of a pattern: for each axis of the tensor the names that are joined in it, perhaps ``DOTS``; and the
    lengths of axes that are written as numbers."""

    groups: tuple[tuple[str, ...], ...]
    lengths: dict[str, int]

    @property
    def names(self) -> list[str]:
        return [name for group in self.groups for name in group]


def _side(text: str, pattern: str, where: str) -> Side:
    groups: list[tuple[str, ...]] = []
    lengths: dict[str, int] = {}
    inside: list[str] | None = None
    for name, count, dots, bracket, other in _WORD.findall(text):
        if other or (bracket == "(" and inside is not None) or (bracket == ")" and inside is None):
            raise ValueError(f"pattern: got {pattern!r}, where {other or bracket!r} cannot stand")
        if bracket:
            if bracket == ")":
                groups.append(tuple(inside or ()))
            inside = [] if bracket == "(" else None
            continue
        word = name or (DOTS if dots else f"{where}{len(lengths)}")
        if count and int(count) == 1:
            if inside is None:
                groups.append(())
            continue
        if count:
            lengths[word] = int(count)
        if inside is None:
            groups.append((word,))
        else:
            inside.append(word)
    side = Side(tuple(groups), lengths)
    if inside is not None:
        raise ValueError(f"pattern: got {pattern!r}, where a ')' is missing")
    twice = [name for name in side.names if side.names.count(name) > 1]
    if twice:
        raise ValueError(f"pattern: got {pattern!r}; a side may name {_shown(twice[0])} once")
    return side


def _shown(name: str) -> str:
    return "'...'" if name.startswith(DOTS) else repr(name)


def check_pattern(pattern: str) -> tuple[Side, Side]:
    """Both sides of a pattern. Raises ValueError where it cannot be read."""
    if not isinstance(pattern, str):
        raise TypeError(f"pattern: got {type(pattern).__name__}; must be text, behind the tensor")
    if pattern.count("->") != 1:
        raise ValueError(f"pattern: got {pattern!r}; must have one '->'")
    before, after = pattern.split("->")
    return _side(before, pattern, "<"), _side(after, pattern, ">")


class _Plan(NamedTuple):
    """What a pattern says of a tensor: the length of each axis by name; both sides with the ellipsis spelled out."""

    lengths: dict[str, int]
    before: list[str]
    after: list[tuple[str, ...]]


def _plan(pattern: str, shape: tuple[int, ...], given: dict[str, int]) -> _Plan:
    left, right = check_pattern(pattern)
    dots = [DOTS] if DOTS in left.names else []
    if DOTS in right.names and not dots:
        raise ValueError(f"pattern: got {pattern!r}; '...' stands on the right alone")
    if dots and (DOTS,) not in left.groups:
        raise ValueError(f"pattern: got {pattern!r}; '...' may be in parentheses on the right alone")
    rest = len(shape) - (len(left.groups) - len(dots))
    if rest < 0 or (rest and not dots):
        raise ValueError(
            f"pattern: got {pattern!r} for a tensor of shape {shape}; its left side has another number of axes"
        )
    spelled = [f"{DOTS}{i}" for i in range(rest)]
    groups: list[tuple[str, ...]] = []
    for group in left.groups:
        groups += [(name,) for name in spelled] if group == (DOTS,) else [group]
    unknown = set(given) - set(left.names) - set(right.names)
    if unknown:
        raise ValueError(f"pattern: got a length for {sorted(unknown)[0]!r}, which {pattern!r} does not name")
    lengths = {**left.lengths, **right.lengths, **{name: int(n) for name, n in given.items()}}
    for group, n in zip(groups, shape, strict=True):
        _fill(pattern, group, n, lengths)
    after: list[tuple[str, ...]] = []
    for group in right.groups:
        names = tuple(part for name in group for part in (spelled if name == DOTS else [name]))
        after += [(name,) for name in names] if group == (DOTS,) else [names]
    return _Plan(lengths, [name for group in groups for name in group], after)


def _fill(pattern: str, group: tuple[str, ...], n: int, lengths: dict[str, int]) -> None:
    """Work out the length that is not known yet of the axes that are joined in one of length ``n``."""
    unknown = [name for name in group if name not in lengths]
    known = math.prod(lengths[name] for name in group if name in lengths)
    if len(unknown) > 1:
        raise ValueError(f"pattern: got {pattern!r}; give the length of {unknown[0]!r} or of {unknown[1]!r}")
    if unknown and known and n % known == 0:
        lengths[unknown[0]] = n // known
    elif unknown or known != n:
        parts = " x ".join(map(_shown, group)) or "1"
        raise ValueError(
            f"pattern: got {pattern!r}; an axis of length {n} cannot be {parts}, of which {known} is known"
        )


def _tensor(x: Any) -> Tensor:
    return stack(list(x)) if isinstance(x, list | tuple) and x and isinstance(x[0], Tensor) else as_tensor(x)


def _apart(x: Tensor, plan: _Plan) -> Tensor:
    return _shaped(x, [plan.lengths[name] for name in plan.before])


def _shaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x if x.shape == tuple(shape) else reshape(x, shape)


def _joined(x: Tensor, names: Sequence[str], plan: _Plan) -> Tensor:
    """``x``, whose axes are ``names``, as the right side says."""
    order = [names.index(name) for group in plan.after for name in group]
    turned = x if order == list(range(len(order))) else transpose(x, order)
    return _shaped(turned, [math.prod(plan.lengths[name] for name in group) for group in plan.after])


def rearrange(x: Any, pattern: str, **lengths: int) -> Tensor:
    """``x`` with its axes parted, joined and in another order, as ``pattern`` says.

    Args:
        x: a tensor, or a list of tensors of one shape, which is a first axis.
        pattern: see above; both sides name the same axes.
        lengths: of axes that the shape of ``x`` does not tell.

    Returns:
        A view where the memory order allows it. Nothing is rounded.

    Raises:
        ValueError: a pattern that cannot be read or does not fit; an axis on one side alone.

    Source: einops 0.8.

    Example:
        >>> import lucid
        >>> lucid.einops.rearrange(lucid.zeros(2, 6, 5), "b (h d) c -> b c h d", h=3).shape
        (2, 5, 3, 2)
    """
    x = _tensor(x)
    plan = _plan(pattern, x.shape, lengths)
    right = [name for group in plan.after for name in group]
    alone = sorted(set(plan.before) ^ set(right))
    if alone:
        raise ValueError(
            f"pattern: got {pattern!r}; {_shown(alone[0])} stands on one side alone (repeat and reduce let it)"
        )
    return _joined(_apart(x, plan), plan.before, plan)


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "sum": reduction.sum,
    "mean": reduction.mean,
    "max": reduction.max,
    "min": reduction.min,
    "any": comparison.any,
    "all": comparison.all,
}


def _prod(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = reshape(transpose(x, [*kept, *axes]), [*[x.shape[i] for i in kept], math.prod(x.shape[i] for i in axes)])
    return getitem(reduction.cumprod(rows, -1), (..., -1))


def reduce(x: Any, pattern: str, reduction: str | Callable[..., Tensor] = "sum", **lengths: int) -> Tensor:
    """``x`` as ``rearrange`` has it, reduced over the axes that the left side alone names.

    Args:
        x: a tensor, or a list of tensors of one shape.
        pattern: the right side names axes of the left one.
        reduction: ``"sum" "mean" "max" "min" "prod" "any" "all"``, or a function of a tensor and axes.
        lengths: of axes that the shape of ``x`` does not tell.

    Raises:
        ValueError: as ``rearrange``; another reduction.

    Source: einops 0.8. The order of a sum is that of ``lucid.sum`` (section 4).

    Example:
        >>> import lucid
        >>> lucid.einops.reduce(lucid.ones(1, 4, 4), "c (h 2) (w 2) -> c h w", "sum")
        tensor([[[4., 4.],
                 [4., 4.]]])
    """
    x = _tensor(x)
    plan = _plan(pattern, x.shape, lengths)
    right = [name for group in plan.after for name in group]
    new = [name for name in right if name not in plan.before]
    if new:
        raise ValueError(f"pattern: got {pattern!r}; {_shown(new[0])} stands on the right alone (repeat makes an axis)")
    function = reduction if callable(reduction) else _prod if reduction == "prod" else _REDUCTIONS.get(reduction)
    if function is None:
        raise ValueError(f"reduction: got {reduction!r}; may be {', '.join(_REDUCTIONS)}, prod, or a function")
    axes = tuple(i for i, name in enumerate(plan.before) if name not in right)
    parted = _apart(x, plan)
    return _joined(function(parted, axes) if axes else parted, [name for name in plan.before if name in right], plan)


def repeat(x: Any, pattern: str, **lengths: int) -> Tensor:
    """``x`` as ``rearrange`` has it, repeated along the axes that the right side alone names.

    Args:
        x: a tensor, or a list of tensors of one shape.
        pattern: the right side names all axes of the left one, and new ones.
        lengths: of the new axes, and of those that the shape of ``x`` does not tell. A new axis may be a number.

    Raises:
        ValueError: as ``rearrange``; no length for a new axis.

    Source: einops 0.8.

    Example:
        >>> import lucid
        >>> lucid.einops.repeat(lucid.tensor([1, 2]), "n -> (n k)", k=2)
        tensor([1, 1, 2, 2])
    """
    x = _tensor(x)
    plan = _plan(pattern, x.shape, lengths)
    right = [name for group in plan.after for name in group]
    lost = [name for name in plan.before if name not in right]
    if lost:
        raise ValueError(f"pattern: got {pattern!r}; {_shown(lost[0])} stands on the left alone (reduce ends an axis)")
    new = [name for name in right if name not in plan.before]
    if any(name not in plan.lengths for name in new):
        raise ValueError(f"pattern: got {pattern!r}; give the length of {new[0]!r}")
    parted = _apart(x, plan)
    if new:
        ones = reshape(parted, [*[1] * len(new), *parted.shape])
        parted = broadcast_to(ones, [*[plan.lengths[name] for name in new], *parted.shape])
    return _joined(parted, [*new, *plan.before], plan)


def einsum(*tensors_and_pattern: Any) -> Tensor:
    """The sum of products by named axes: tensors, then ``"b i d, b j d -> b i j"``, whose names are words; or, as the
    original has it, subscripts of ``lucid.einsum`` first.

    Raises:
        ValueError: a pattern that cannot be read, or does not fit.

    Source: einops 0.8; see ``lucid.einsum``.

    Example:
        >>> import lucid
        >>> lucid.einops.einsum(lucid.ones(2, 3), lucid.ones(4, 3), "row k, column k -> row column").shape
        (2, 4)
    """
    if tensors_and_pattern and isinstance(tensors_and_pattern[0], str):
        return _einsum(*tensors_and_pattern)
    *tensors, pattern = tensors_and_pattern
    if not isinstance(pattern, str) or pattern.count("->") != 1:
        raise ValueError(f"pattern: got {pattern!r}; must be text with one '->', first or last")
    letters: dict[str, str] = {}
    alphabet = iter("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

    def letter(word: re.Match[str]) -> str:
        if word[0] not in letters:
            letters[word[0]] = next(alphabet)
        return letters[word[0]]

    if re.search(r"[()]|(?<![A-Za-z_])\d", pattern):
        raise ValueError(f"pattern: got {pattern!r}; may have names, '...', ',' and '->'")
    return _einsum(re.sub(r"[A-Za-z_][A-Za-z0-9_]*", letter, pattern), *tensors)
