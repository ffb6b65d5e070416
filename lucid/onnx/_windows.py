"""Padding of windows as ONNX has it: before and after, or by a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lucid import ops
from lucid.core.tensor import Tensor
from lucid.kernels import windows
from lucid.onnx._importer import Call


def pads_of(
    call: Call, sides: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding before and after each side, by ``auto_pad`` or ``pads``."""
    rule = call["auto_pad"] or "NOTSET"
    if rule == "NOTSET":
        pads = call["pads"] or [0] * 2 * len(sides)
        return list(zip(pads[: len(sides)], pads[len(sides) :], strict=True))
    found = []
    for side, size, step, spread in zip(sides, kernel, stride, dilation, strict=True):
        needed = (-(-side // step) - 1) * step + (size - 1) * spread + 1 - side
        total = max(0, needed) if rule != "VALID" else 0
        less = total // 2
        found.append((less, total - less) if rule == "SAME_UPPER" else (total - less, less))
    return found


def window_padding(
    call: Call,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    value: float = 0.0,
) -> tuple[Tensor, tuple[int, ...]]:
    """What a lucid function of windows takes: ``x``, padded by ``value`` where the two ends differ, and the padding."""
    pads = pads_of(call, x.shape[2:], kernel, stride, dilation)
    if all(before == after for before, after in pads):
        return x, tuple(before for before, _ in pads)
    return padded(x, pads, value), (0,) * len(pads)


def padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """``x`` with sides that are longer by ``pads``; shorter, where one is negative."""
    if min(min(pair) for pair in pads) < 0:
        x = x[(..., *(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(pads, x.shape[2:], strict=True)))]
        pads = [(max(0, a), max(0, b)) for a, b in pads]
    return ops.pad(x, [(0, 0), (0, 0), *pads], value) if any(map(any, pads)) else x


@dataclass(frozen=True, slots=True)
class Pooling:
    """Where the windows of a pooling lie, by side.

    Attributes:
        pads: as the model has them, or as a rule makes them; a last window may reach beyond.
        output: how many windows there are.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    output: tuple[int, ...]

    def room(self, x: Tensor, value: float, beyond: bool = True) -> tuple[Tensor, tuple[int, ...], bool]:
        """Images, padding and ``ceil_mode`` by which lucid's pooling finds these windows, and maybe some behind them.

        Args:
            x: images.
            value: of what is laid around them, where lucid's own padding will not do.
            beyond: whether it may pad more than ``pads`` behind the images.
        """
        before = tuple([a for a, _ in self.pads])
        spans = [gap * (size - 1) + 1 for size, gap in zip(self.kernel, self.dilation, strict=True)]
        fits = all(2 * a <= span for a, span in zip(before, spans, strict=True))
        if fits and (beyond or all(a == b for a, b in self.pads)):
            for ceil in (False, True):
                if self._are_among(x.shape[2:], before, ceil):
                    return x, before, ceil
        none = (0,) * len(before)
        x = padded(x, self.pads, value)
        for ceil in (False, True):
            if self._are_among(x.shape[2:], none, ceil):
                return x, none, ceil
        ends = [(n - 1) * step + span for n, step, span in zip(self.output, self.stride, spans, strict=True)]
        more = [(0, max(0, end - side)) for end, side in zip(ends, x.shape[2:], strict=True)]
        return padded(x, more, value), none, False

    def _are_among(self, sides: tuple[int, ...], padding: tuple[int, ...], ceil: bool) -> bool:
        found = windows.output_sizes(sides, self.kernel, self.stride, padding, self.dilation, ceil)
        return all(n <= count for n, count in zip(self.output, found, strict=True))

    def cut(self, y: Tensor) -> Tensor:
        """``y`` without the windows behind these."""
        return y if y.shape[2:] == self.output else y[(..., *map(slice, self.output))]


def pooling_of(call: Call, sides: Sequence[int]) -> Pooling:
    """The windows of a pooling operator on images with these sides.

    A window that begins behind the image and its first padding is none, as later versions of ONNX say.

    Raises:
        ValueError: images of no side or of more than three, attributes for another number of sides, or no window.
    """
    ones = [1] * len(sides)
    kernel = call["kernel_shape"]
    stride, dilation = call["strides"] or ones, call["dilations"] or ones
    if not 1 <= len(sides) <= 3:
        raise call.refuse(f"its images have {len(sides)} sides; they may have one to three")
    if any(len(numbers) != len(sides) for numbers in (kernel, stride, dilation)):
        raise call.refuse(f"its windows {kernel} are not of {len(sides)} sides, as its images are")
    pads = pads_of(call, sides, kernel, stride, dilation)
    output = []
    for side, size, step, gap, (before, after) in zip(sides, kernel, stride, dilation, pads, strict=True):
        room = side + before + after - gap * (size - 1) - 1
        ceil = call["ceil_mode"] and (call["auto_pad"] or "NOTSET") == "NOTSET"
        count = (-(-room // step) if ceil else room // step) + 1
        output.append(count - 1 if ceil and (count - 1) * step >= side + before else count)
    if min(output) < 1:
        raise call.refuse(f"its windows {kernel} are larger than the images {tuple(sides)} with their padding")
    return Pooling(tuple(kernel), tuple(stride), tuple(dilation), tuple(pads), tuple(output))
