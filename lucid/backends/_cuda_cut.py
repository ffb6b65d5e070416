"""How a contraction is shared out among the blocks of a GPU, and which parts of an image make one contraction.

Nothing here changes a result: the law's order of a sum does not know tiles or chunks.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

from lucid.backends._cuda_source import tiles

SEGMENT, GROUP = 256, 32  # as in lucid/kernels/order.h


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


MOST_TERMS = 2**31 - 1 - SEGMENT
"""Of a contraction's sides: the kernel counts them in 32 bits, and the terms one tile beyond their end."""
MOST_REACH = 2**30 - 1
"""How far from an image's first pixel a kernel may look: it counts that in 32 bits, and rows that do not exist
lie ``2**30`` before the image."""


def check_range(source: str, fields: dict[str, int]) -> None:
    """Refuse what would not fit the numbers that gemm.cuh counts in, which are 32 bits long because it divides them.

    Raises:
        ValueError: a side, a plane or a reach is too large; the sentence says which.
    """
    sizes = [fields.get(name, 0) for name in ("m", "n", "k")]
    if max(sizes) > MOST_TERMS:
        m, n, k = sizes
        raise ValueError(f"a contraction of {m} by {k} by {n} terms: each may be at most {MOST_TERMS} on a GPU")
    for side, name in (("d", "deep"), ("h", "high"), ("w", "wide")):
        rows, stride, start, taps, step, image = (
            abs(fields.get(f"{field}_{side}", 0)) for field in ("rows", "stride", "start", "taps", "step", "image")
        )
        reach = image + rows * stride + start + taps * step
        if reach > MOST_REACH:
            raise ValueError(
                f"a convolution that looks at {reach} pixels of an image {image} {name}, with stride, padding and the "
                f"reach of its kernel: may be at most {MOST_REACH} on a GPU"
            )
    pixels = fields.get("image_d", 1) * fields.get("image_h", 0) * fields.get("image_w", 0)
    if source.startswith("WEIGHT_GRAD") and pixels >= 2**31:  # whose terms are places, which it counts in an image
        raise ValueError(f"a weight gradient of images of {pixels} pixels: may be at most {2**31 - 1} on a GPU")


class Tile(NamedTuple):
    """A tile of gemm.cuh: sides, threads, how many blocks a multiprocessor holds, the share of its peak they reach."""

    name: str
    m: int
    n: int
    threads: int
    resident: int
    speed: float


def _tiles(kind: str) -> tuple[Tile, ...]:
    """What tuning.cuh has for a type; the speed chooses, it changes no result."""
    made = []
    for name, c in [(name, constants) for each, name, constants in tiles() if each == kind]:
        m, n = int(c["BM"]), int(c["BN"])
        threads = m // int(c["TM"]) * (n // int(c["TN"]))
        made.append(Tile("SMALL" if name == "NAME" else name, m, n, threads, int(c["RESIDENT"]), c["SPEED"]))
    return tuple(made)


TILES = {4: _tiles("float"), 8: _tiles("double")}
"""By itemsize, the tiles to choose from."""
SOURCES = (
    *("FORWARD", "INPUT_GRAD", "WEIGHT_GRAD", "FORWARD_DEEP", "INPUT_GRAD_DEEP", "WEIGHT_GRAD_DEEP"),
    *("MATMUL_NN", "MATMUL_NT", "MATMUL_TN", "MATMUL_TT"),
)
"""What is contracted with what: ``SourceName`` of gemm.cuh."""
CHUNKS = (32, 16, 8, 4, 2, 1)
MOST_SLOT_BYTES = 1 << 30
FMA_A_CLOCK = 128  # of a multiprocessor, float32
BYTES_A_CLOCK = 12  # to and from device memory, for each multiprocessor
LAUNCH_CLOCKS = 4000


class Cut(NamedTuple):
    """A contraction shared out: the tile, segments in a chunk, chunks, and slots for their sums (0: one chunk)."""

    tile: Tile
    chunk: int
    chunks: int
    slots: int


def cut(tile: Tile, chunk: int, k: int) -> Cut:
    """``k`` in chunks of ``chunk`` segments. One chunk of at most a group needs no slots."""
    segments = ceil_div(k, SEGMENT)
    if segments <= chunk:
        return Cut(tile, GROUP, 1, 0)
    groups, rest = divmod(segments, GROUP)
    return Cut(
        tile, chunk, ceil_div(segments, chunk), groups * (GROUP + 1 - chunk) + (rest and 1 + max(0, rest - chunk))
    )


@lru_cache(4096)
def best_cut(m: int, n: int, k: int, batch: int, itemsize: int, multiprocessors: int) -> Cut:
    """The cut that is thought to be quickest: waves of blocks, and the way of the slots to memory and back."""

    def clocks(c: Cut) -> float:
        tile, segments = c.tile, ceil_div(k, SEGMENT)
        blocks = ceil_div(m, tile.m) * ceil_div(n, tile.n) * batch * c.chunks
        work = tile.m * tile.n * min(k, min(c.chunk, segments) * SEGMENT) / FMA_A_CLOCK * (itemsize // 4)
        waves, rest = divmod(blocks, multiprocessors * tile.resident)
        at_once = ceil_div(rest, multiprocessors)
        speed = tile.speed * min(1.0, 0.4 + 0.6 * at_once / tile.resident)
        slots = 2 * c.slots * m * n * batch * itemsize / (BYTES_A_CLOCK * multiprocessors)
        return work * (waves * tile.resident / tile.speed + at_once / speed) + slots + LAUNCH_CLOCKS * bool(c.slots)

    cuts = [cut(tile, chunk, k) for tile in TILES[itemsize] for chunk in CHUNKS]
    small = [c for c in cuts if c.slots * m * n * batch * itemsize <= MOST_SLOT_BYTES]
    return min(small or cuts[:1], key=clocks)


class Axis(NamedTuple):
    """The pixels of one side of an image whose coordinates leave one remainder by the stride, and the taps they see.

    Pixels ``first, first + stride, ..``, ``pixels`` of them; taps ``tap0, tap0 + tap_step, ..``, ``taps`` of them.
    Under tap number ``t``, pixel number ``j`` meets output ``j + offset - t * offset_step``.
    """

    first: int
    pixels: int
    taps: int
    tap0: int
    tap_step: int
    offset: int
    offset_step: int


def residue_class(first: int, size: int, stride: int, padding: int, dilation: int, kernel: int) -> Axis:
    pixels = ceil_div(size - first, stride)
    divisor = gcd(stride, dilation)
    tap_step = stride // divisor
    for tap0 in range(min(kernel, tap_step)):
        if (first + padding - tap0 * dilation) % stride == 0:
            offset = (first + padding - tap0 * dilation) // stride
            return Axis(first, pixels, ceil_div(kernel - tap0, tap_step), tap0, tap_step, offset, dilation // divisor)
    return Axis(first, pixels, 0, 0, 1, 0, 0)
