"""Padding of windows as ONNX has it: before and after, or by a rule."""

from __future__ import annotations

from collections.abc import Sequence

from lucid import ops
from lucid.core.tensor import Tensor
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
    return ops.pad(x, [(0, 0), (0, 0), *pads], value), (0,) * len(pads)
