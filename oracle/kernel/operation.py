"""What an operation of a kernel check declares: its inputs, the sizes that find faults, and how it errs.

``forward`` and ``backward`` are written in `oracle.kernel.bounded.Bounded` numbers, so that one expression is the truth
and its budget. To add an operation, declare it in its family's file; `oracle.kernel.operations.OPERATIONS` has all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracle.errors import UsageError
from oracle.kernel.bounded import Bounded

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Attributes = dict[str, Any]
Sizes = tuple[int, ...]
Made = Mapping[int, Bounded]
EACH = -1  # every result has roundings of its own


@dataclass(frozen=True)
class Argument:
    """One input.

    Args:
        name: as `lucid.nn.functional` calls it.
        role: how its values are drawn: ``data``, ``weight``, ``scale`` (near 1), ``positive``, ``fraction`` (from -0.9
            to 0.9), ``label`` (whole numbers below a side of an input).
        optional: ``given`` where kernels usually take it, ``rare`` where they take it only if they name it, or "".
        gradient: whether it has a gradient.
        changed: whether the operation changes it in place (running statistics).
        below: the place of the input, and which of its sides, that labels are below.
    """

    name: str
    role: str = "data"
    optional: str = ""
    gradient: bool = True
    changed: bool = False
    below: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class KernelOperation:
    """An operation that kernels are checked against.

    Args:
        name: as `lucid` or `lucid.nn.functional` calls it.
        arguments: its inputs, in order.
        forward: its result, from inputs (``None`` where an optional one is not given) and attributes.
        backward: by place of an input, its gradient; from the result's gradient, the inputs and the result.
        sizes: what is drawn, from attributes: tuples of sizes.
        shapes: the inputs' shapes, from one tuple of sizes and attributes.
        attributes: their names and defaults.
        draws: the kinds of values that it is fed (`oracle.kernel.draw`), after ``normal``.
        axes: what the axes of the result are called, if not by number.
        zeros: whether the sign of a zero result is defined.
        contained: whether one input that is not finite leaves the other results alone in every healthy algorithm.
        whole: whether 8-bit whole numbers have one right answer.
        span: the inputs between which a function is neither 0 nor infinite.
        check: raise UsageError for attributes that cannot be.
        apart: the axis along which results share no rounding, from attributes and the result's rank; `EACH` where no
            two results do.
        conserves: axes over which the gradient of the first input has the sum that the result's has, whoever won a tie.
        edges: numbers at the ends of what a function is defined for.
        lean_gradients: whether that holds of the gradient of the first input, too: not where one rounded factor is in
            all of it.
        constants: what rounded constants may cost all results together, in roundings.
        changes: by place of an input that it changes in place, what that is afterwards.
        settle: attributes with all that is left out filled in, from the inputs' shapes.
    """

    name: str
    arguments: tuple[Argument, ...]
    forward: Callable[..., Bounded]
    backward: Callable[..., Made] | None
    sizes: Callable[[Attributes], Sequence[Sizes]]
    shapes: Callable[[Sizes, Attributes], tuple[Shape, ...]]
    attributes: Attributes = field(default_factory=dict)
    draws: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    zeros: bool = False
    contained: bool = True
    whole: bool = False
    span: tuple[float, float] = (-8.0, 8.0)
    check: Callable[[Attributes], None] = lambda attributes: None
    settle: Callable[[Attributes, Sequence[Shape]], Attributes] = lambda attributes, shapes: attributes
    changes: Callable[..., Made] | None = None
    apart: Callable[[Attributes, int], int] = lambda attributes, rank: EACH
    edges: tuple[float, ...] = ()
    conserves: Callable[[Attributes, int], tuple[int, ...]] | None = None
    lean_gradients: bool = True
    constants: float = 0.0

    def with_defaults(self, given: Attributes) -> Attributes:
        """Its attributes, those that are not given as they are by default.

        Raises:
            UsageError: there is no such attribute.
        """
        unknown = sorted(set(given) - set(self.attributes))
        if unknown:
            known = ", ".join(self.attributes) or "no attributes"
            raise UsageError(f"{self.name}: got {unknown[0]}={given[unknown[0]]!r}; it has {known}")
        found = self.attributes | given
        self.check(found)
        return found


def by_sides(value: Any, sides: int) -> tuple[int, ...]:
    """One number for every side, or one each.

    Raises:
        UsageError: there are as many as sides neither, nor one.

    Example:
        >>> by_sides(3, 2), by_sides((1, 2, 1), 3)
        ((3, 3), (1, 2, 1))
    """
    if isinstance(value, int | np.integer):
        return (int(value),) * sides
    found = tuple(int(each) for each in value)
    if len(found) != sides:
        raise UsageError(f"sides: got {value!r}; may be a whole number, or {sides} of them")
    return found


def axes_of(axis: Any, rank: int) -> tuple[int, ...]:
    """Axes, counted from the front; all where ``axis`` is None."""
    if axis is None:
        return tuple(range(rank))
    given = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    for each in given:
        if not -rank <= each < rank:
            raise UsageError(f"axis: got {each} for {rank} axes; may be {-rank} to {rank - 1}")
    return tuple(sorted(each % rank for each in given))
