"""Windows on images: the one place that says how many there are."""

from __future__ import annotations

from lucid.kernels.declare import Sides


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """How many windows lie on a side of ``size``; less than 1 where not one fits.

    ``floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1``. With ``ceil_mode`` it is the ceiling: a last
    window may reach beyond the padded side, also the first one; one that would begin behind the side, in the padding or
    after it, is dropped, as in PyTorch.
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def output_sizes(
    sizes: Sides, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides, ceil_mode: bool = False
) -> Sides:
    """``output_size`` along each side."""
    sides = zip(sizes, kernel, stride, padding, dilation, strict=True)
    return tuple([output_size(*side, ceil_mode) for side in sides])


def input_sizes(outputs: Sides, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides) -> Sides:
    """The least sizes on which so many windows lie."""
    sides = zip(outputs, kernel, stride, padding, dilation, strict=True)
    return tuple([(count - 1) * step - 2 * pad + gap * (size - 1) + 1 for count, size, step, pad, gap in sides])


def by_side(field: str, numbers: Sides, missing: int = 1) -> dict[str, int]:
    """Numbers as three fields of a structure, ``field`` with d, h or w in place of ``{}``.

    An image of two sides is one of three with a depth of 1, and one of one side also has a height of 1: ``missing`` is
    what stands for the sides that are not there.
    """
    three = (missing,) * (3 - len(numbers)) + tuple(numbers)
    return {field.format(side): number for side, number in zip("dhw", three, strict=True)}


def window_fields(
    sizes: Sides, outputs: Sides, kernel: Sides, stride: Sides, padding: Sides, dilation: Sides
) -> dict[str, int]:
    """The fields of ``Conv`` and ``Pool`` of kernels.def that say where windows lie."""
    return {
        **by_side("{}", sizes),
        **by_side("o{}", outputs),
        **by_side("k{}", kernel),
        **by_side("stride_{}", stride),
        **by_side("pad_{}", padding, 0),
        **by_side("dilation_{}", dilation),
    }
