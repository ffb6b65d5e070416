"""Windows along one side of an image: the one place that says how many there are."""

from __future__ import annotations


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
