"""Goes through every float32 and compares an elementary function with the correctly rounded value.

    python tools/exhaustive.py tanh log2 [--part 1/8] [--threads 2] [--record]

The truth is another origin's float64 (NumPy's, PyTorch's for erf), whose error is at most ``MARGIN`` ulps. Where
that whole interval rounds to one float32 it decides; where the middle of two float32 lies in it, mpmath does. Wrong
inputs are printed; ``--record`` adds a row to ``tools/records/elementary.md``. The exit status is 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import lucid

Array = Any
MARGIN = 8 * 2.0**-52
BLOCK = 1 << 21
BLOCKS = (1 << 32) // BLOCK
RECORD = Path(__file__).parent / "records" / "elementary.md"


def _erf(x: Array) -> Array:
    import torch

    return torch.special.erf(torch.from_numpy(x)).numpy()


NUMPYS = "exp exp2 expm1 log log2 log1p sin cos tan arcsin arccos arctan sinh cosh tanh floor ceil trunc"
ORIGINS: dict[str, Callable[[Array], Array]] = {name: getattr(np, name) for name in NUMPYS.split(" ")}
ORIGINS |= {"erf": _erf, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "round": np.rint}


def exact(name: str) -> Callable[[float], Any]:
    """The function in mpmath, with 300 bits."""
    import mpmath

    mp = mpmath.mp.clone()
    mp.prec = 300
    names = {"arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan, "round": mp.nint}
    own = {
        "exp2": lambda v: mp.mpf(2) ** v,
        "log2": lambda v: mp.log(v) / mp.log(2),
        "sigmoid": lambda v: 1 / (1 + mp.exp(-v)),
    }
    function = own.get(name) or names.get(name) or getattr(mp, name)
    return lambda v: function(mp.mpf(v))


def nearest(true: Any, low: np.float32, high: np.float32) -> np.float32:
    """Which of two neighbours is nearer to the true value; the even one, where it is between them."""
    below, above = true - float(low), float(high) - true
    if below != above:
        return low if below < above else high
    return low if low.view(np.uint32) % 2 == 0 else high


def natively(name: str, x: Array) -> Array:
    return lucid.get_backend("native").unary(name, x)


def compared(
    name: str, x: Array, ours: Callable[[str, Array], Array] = natively
) -> tuple[list[tuple[float, float, float]], int]:
    """The wrong ones of these inputs, each with what it gave and should have given; and how many mpmath decided."""
    y = ours(name, x)
    with np.errstate(all="ignore"):
        true = ORIGINS[name](x.astype(np.float64))
        low, high = (true * (1 - MARGIN)).astype(np.float32), (true * (1 + MARGIN)).astype(np.float32)
        same = (y == low) & (np.signbit(y) == np.signbit(low)) | (np.isnan(y) & np.isnan(low))
    open_ = (low != high) & ~(np.isnan(low) & np.isnan(high))
    wrong = [(float(x[i]), float(y[i]), float(low[i])) for i in np.flatnonzero(~same & ~open_)]
    undecided = np.flatnonzero(open_)
    for i in undecided:
        right = nearest(exact(name)(float(x[i])), *sorted((low[i], high[i])))
        if y[i] != right:
            wrong.append((float(x[i]), float(y[i]), float(right)))
    return wrong, len(undecided)


def look(name: str, place: int) -> tuple[list[tuple[float, float, float]], int]:
    """One block of all inputs."""
    first = place * BLOCK
    return compared(name, np.arange(first, first + BLOCK, dtype=np.int64).astype(np.uint32).view(np.float32))


def go_through(name: str, blocks: range, threads: int) -> bool:
    """All these blocks for one function; True if none of their inputs is wrong."""
    start, wrong, decided = time.perf_counter(), [], 0
    with ThreadPoolExecutor(threads) as pool:
        for found, undecided in pool.map(lambda place: look(name, place), blocks):
            wrong += found
            decided += undecided
    seconds = time.perf_counter() - start
    for x, got, right in wrong[:20]:
        print(f"{name}({x.hex()}) is {got.hex()}, should be {right.hex()}")
    row = f"| {name} | {len(blocks) * BLOCK:,} | {len(wrong)} | {decided} | {seconds:.0f} |"
    print(row, flush=True)
    if len(blocks) == BLOCKS and ARGUMENTS.record:
        with RECORD.open("a", encoding="utf-8") as record:
            record.write(row + "\n")
    return not wrong


def main() -> int:
    lucid.set_num_threads(1)
    part, parts = map(int, ARGUMENTS.part.split("/"))
    blocks = range(BLOCKS * (part - 1) // parts, BLOCKS * part // parts)
    right = [go_through(name, blocks, ARGUMENTS.threads) for name in ARGUMENTS.functions]
    return 0 if all(right) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", nargs="+", choices=sorted(ORIGINS), metavar="FUNCTION")
    parser.add_argument("--part", default="1/1", help="one part of the inputs: 3/8 is the third eighth")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="add a row to tools/records/elementary.md")
    ARGUMENTS = parser.parse_args()
    sys.exit(main())
