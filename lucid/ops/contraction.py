"""Sums of products by index (``ARITHMETIC.md``, section 3): pair by pair from the left, each a matrix product."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from lucid.core.tensor import Operand, Tensor
from lucid.ops._common import one_axis
from lucid.ops._function import compose
from lucid.ops._promotion import promoted
from lucid.ops.arrange import diagonal
from lucid.ops.elementwise import mul
from lucid.ops.product import matmul
from lucid.ops.reduction import sum
from lucid.ops.shape import broadcast_to, reshape, transpose, unsqueeze

__all__ = ["einsum", "inner", "outer", "tensordot"]

Labels = tuple[Hashable, ...]
"""What names the axes of an operand: a letter, or a number for an axis of the ellipsis, counted from its last."""


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """The sum of products that ``subscripts`` describe: ``einsum("ij,jk->ik", a, b)`` is the matrix product.

    Operands are taken two at a time from the left; each pair is one matrix product (see the section of the law), so the
    order of the roundings depends on the subscripts alone.

    Args:
        subscripts: a letter for each axis of each operand, commas between them, behind ``->`` those of the result. A
            letter twice in an operand is its diagonal; ``...`` stands for further axes, which broadcast. Without ``->``
            the result has the axes of the ellipsis, and then each letter that stands once, in alphabetical order.
        operands: tensors, or a list of them.

    Returns:
        A tensor with the axes behind the arrow.

    Raises:
        ValueError: subscripts that cannot be read, or that do not fit the operands.
        TypeError: two float dtypes; a product of booleans.

    Source: ``numpy.einsum``, ``torch.einsum``; ONNX operator Einsum.

    Example:
        >>> import lucid
        >>> x = lucid.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> lucid.einsum("ij->j", x), lucid.einsum("ii", x)
        (tensor([4., 6.]), tensor(5.))
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"subscripts: got {type(subscripts).__name__}; the text comes first, then the tensors")
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    terms, result = _read(subscripts, len(operands))
    tensors = promoted("einsum", *operands)
    labels = [_labels(subscripts, term, t.ndim) for term, t in zip(terms, tensors, strict=True)]
    wide = max(_ellipsis_axes(each) for each in labels)
    output = _output(subscripts, result, labels, wide)
    return compose(
        "einsum",
        lambda *tensors, subscripts: contract("einsum", tensors, labels, output),
        *tensors,
        subscripts=subscripts,
    )


def _read(subscripts: str, operands: int) -> tuple[list[str], str | None]:
    text = subscripts.replace(" ", "")
    if not re.fullmatch(r"(?:[A-Za-z]|\.\.\.|,)*(?:->(?:[A-Za-z]|\.\.\.)*)?", text):
        raise ValueError(f"subscripts: got {subscripts!r}; may be letters, '...', ',' and one '->'")
    before, arrow, after = text.partition("->")
    terms = before.split(",")
    if len(terms) != operands:
        raise ValueError(f"subscripts: got {subscripts!r} for {operands} operands; it describes {len(terms)}")
    if any(term.count("...") > 1 for term in (*terms, after)):
        raise ValueError(f"subscripts: got {subscripts!r}; each operand may have one '...'")
    return terms, after if arrow else None


def _ellipsis_axes(labels: Labels) -> int:
    """How many axes of the ellipsis there are."""
    return len([label for label in labels if isinstance(label, int)])


def _labels(subscripts: str, term: str, ndim: int) -> Labels:
    letters = len(term.replace("...", ""))
    rest = ndim - letters
    if rest < 0 or (rest and "..." not in term):
        raise ValueError(f"subscripts: got {subscripts!r}, where {term!r} stands for an operand of {ndim} axes")
    before, _, after = term.partition("...")
    return (*before, *reversed(range(rest)), *after)


def _output(subscripts: str, result: str | None, labels: Sequence[Labels], wide: int) -> Labels:
    ellipsis = tuple(reversed(range(wide)))
    every = [label for each in labels for label in each if isinstance(label, str)]
    if result is None:
        return (*ellipsis, *sorted(label for label in set(every) if every.count(label) == 1))
    before, dots, after = result.partition("...")
    for letter in before + after:
        if letter not in every or (before + after).count(letter) > 1:
            raise ValueError(
                f"subscripts: got {subscripts!r}; the result may have {letter!r} once, and if an operand has it"
            )
    return (*before, *(ellipsis if dots else ()), *after)


# -- pair by pair ----------------------------------------------------------------------------------------------------


def contract(name: str, tensors: Sequence[Tensor], labels: Sequence[Labels], output: Labels) -> Tensor:
    """The sum over all labels that are not in ``output``, of the product of the tensors."""
    lengths: dict[Hashable, int] = {}
    for tensor, each in zip(tensors, labels, strict=True):
        for label, n in zip(each, tensor.shape, strict=True):
            known = lengths.setdefault(label, n)
            if n != known and 1 not in (n, known):
                raise ValueError(f"{name}: got lengths {known} and {n} for axes that are one, {_name(label)}")
            lengths[label] = n if known == 1 else known
    parts = [_diagonals(*part) for part in zip(tensors, labels, strict=True)]
    x, own = parts[0]
    for i, (other, others) in enumerate(parts[1:], start=2):
        kept = {*output, *(label for _, later in parts[i:] for label in later)}
        x, own = _pair(x, own, other, others, kept, lengths)
    x, own = _summed(x, own, set(output))
    order = [own.index(label) for label in output]
    return x if order == list(range(len(order))) else transpose(x, order)


def _name(label: Hashable) -> str:
    return repr(label) if isinstance(label, str) else "of the ellipsis" if isinstance(label, int) else str(label)


def _diagonals(x: Tensor, labels: Labels) -> tuple[Tensor, Labels]:
    """Of labels that stand several times, the diagonal, as the last axis."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            if x.shape[first] != x.shape[second]:
                raise ValueError(
                    f"einsum: got lengths {x.shape[first]} and {x.shape[second]} for the diagonal {_name(label)}"
                )
            x = diagonal(x, 0, first, second)
            labels = (*labels[:first], *labels[first + 1 : second], *labels[second + 1 :], label)
    return x, labels


def _summed(x: Tensor, labels: Labels, kept: set[Hashable]) -> tuple[Tensor, Labels]:
    axes = tuple(i for i, label in enumerate(labels) if label not in kept)
    return (sum(x, axes), tuple(label for label in labels if label in kept)) if axes else (x, labels)


def _pair(
    a: Tensor, of_a: Labels, b: Tensor, of_b: Labels, kept: set[Hashable], lengths: dict[Hashable, int]
) -> tuple[Tensor, Labels]:
    a, of_a = _summed(a, of_a, kept | set(of_b))
    b, of_b = _summed(b, of_b, kept | set(of_a))
    both = [label for label in of_a if label in of_b]
    inside, batch = [label for label in both if label not in kept], [label for label in both if label in kept]
    only_a, only_b = [label for label in of_a if label not in both], [label for label in of_b if label not in both]
    result = (*batch, *only_a, *only_b)
    if not inside:
        left = reshape(_in_order(a, of_a, (*batch, *only_a)), [*_sizes(a, of_a, (*batch, *only_a)), *[1] * len(only_b)])
        right = _in_order(b, of_b, (*batch, *only_b))
        sizes = _sizes(b, of_b, (*batch, *only_b))
        return mul(left, reshape(right, [*sizes[: len(batch)], *[1] * len(only_a), *sizes[len(batch) :]])), result
    a, b = _full(a, of_a, both, lengths), _full(b, of_b, both, lengths)
    leading = [lengths[label] for label in batch]
    rows, columns = _sizes(a, of_a, only_a), _sizes(b, of_b, only_b)
    terms = math.prod(lengths[label] for label in inside)
    left = reshape(_in_order(a, of_a, (*batch, *only_a, *inside)), (*leading, math.prod(rows), terms))
    right = reshape(_in_order(b, of_b, (*batch, *inside, *only_b)), (*leading, terms, math.prod(columns)))
    return reshape(matmul(left, right), (*leading, *rows, *columns)), result


def _sizes(x: Tensor, labels: Labels, wanted: Sequence[Hashable]) -> list[int]:
    return [x.shape[labels.index(label)] for label in wanted]


def _in_order(x: Tensor, labels: Labels, wanted: Sequence[Hashable]) -> Tensor:
    order = [labels.index(label) for label in wanted]
    return x if order == list(range(x.ndim)) else transpose(x, order)


def _full(x: Tensor, labels: Labels, shared: Sequence[Hashable], lengths: dict[Hashable, int]) -> Tensor:
    """``x`` broadcast along shared axes of length one."""
    shape = tuple(lengths[label] if label in shared else n for label, n in zip(labels, x.shape, strict=True))
    return x if shape == x.shape else broadcast_to(x, shape)


# -- the same by other names -----------------------------------------------------------------------------------------


def tensordot(a: Operand, b: Operand, axes: int | Sequence[Any] = 2) -> Tensor:
    """The sum of products over axes of both: matrix product, its axes as one.

    Args:
        a: a tensor.
        b: another.
        axes: how many, the last of ``a`` and the first of ``b``; or a pair: axes of ``a``, and axes of ``b``.

    Returns:
        The other axes of ``a``, then those of ``b``.

    Raises:
        ValueError: axes that do not fit.
        TypeError: two float dtypes; booleans.

    Source: ``numpy.tensordot``, ``torch.tensordot``.

    Example:
        >>> import lucid
        >>> lucid.tensordot(lucid.ones(2, 3, 4), lucid.ones(3, 4, 5)).shape
        (2, 5)
    """
    x, y = promoted("tensordot", a, b)
    if isinstance(axes, Sequence):
        pairs = [[each] if isinstance(each, int | np.integer) else list(each) for each in axes]
        if len(pairs) != 2:
            raise ValueError(f"axes: got {axes}; may be a number, or axes of the first and axes of the second")
        first = [one_axis("tensordot", axis, x.ndim) for axis in pairs[0]]
        second = [one_axis("tensordot", axis, y.ndim) for axis in pairs[1]]
    else:
        count = operator.index(axes)
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise ValueError(f"axes: got {axes} for tensors of {x.ndim} and {y.ndim} axes")
        first, second = list(range(x.ndim - count, x.ndim)), list(range(count))
    if [x.shape[i] for i in first] != [y.shape[i] for i in second] or len({*first}) != len({*second}):
        raise ValueError(
            f"tensordot: got shapes {x.shape} and {y.shape}, whose axes {first} and {second} are not alike"
        )
    of_x: list[Hashable] = [f"axis {i} of the first" for i in range(x.ndim)]
    of_y: list[Hashable] = [f"axis {i} of the second" for i in range(y.ndim)]
    output = [label for i, label in enumerate(of_x) if i not in first]
    output += [label for i, label in enumerate(of_y) if i not in second]
    for i, j in zip(first, second, strict=True):
        of_y[j] = of_x[i]
    return contract("tensordot", [x, y], [tuple(of_x), tuple(of_y)], tuple(output))


def inner(a: Operand, b: Operand) -> Tensor:
    """The sum of products over the last axes of both; the product, where one is a number.

    Raises:
        ValueError: last axes of two lengths.
        TypeError: two float dtypes; booleans.

    Source: ``numpy.inner``, ``torch.inner``.

    Example:
        >>> import lucid
        >>> lucid.inner(lucid.tensor([1.0, 2.0]), lucid.tensor([3.0, 4.0]))
        tensor(11.)
    """
    x, y = promoted("inner", a, b)
    return tensordot(x, y, (-1, -1)) if x.ndim and y.ndim else mul(x, y)


def outer(a: Operand, b: Operand) -> Tensor:
    """Each product of an element of one vector and one of the other: ``y[i, j] = a[i] * b[j]``.

    Raises:
        ValueError: an operand that is no vector.
        TypeError: two float dtypes.

    Source: ``torch.outer``.

    Example:
        >>> import lucid
        >>> lucid.outer(lucid.tensor([1, 2]), lucid.tensor([3, 4]))
        tensor([[3, 4],
                [6, 8]])
    """
    x, y = promoted("outer", a, b)
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"outer: got shapes {x.shape} and {y.shape}; must be vectors (ravel makes one)")
    return mul(unsqueeze(x, 1), unsqueeze(y, 0))
