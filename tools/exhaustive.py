"""Goes through every float32 and compares an elementary function with the correctly rounded value.

    python tools/exhaustive.py tanh log2 [--part 1/8] [--threads 2] [--record]

Of two values (power, arctan2) it goes through 2^29 pairs instead: drawn so that results are everywhere, operands lie
near 1, or have few bits, so that results are exact or in the middle of two float32; and those of ``HARD``.

The truth is another origin's float64 (NumPy's, PyTorch's for erf), whose error is at most ``MARGIN`` ulps. Where
that whole interval rounds to one float32 it decides; where the middle of two float32 lies in it, mpmath does. Wrong
inputs are printed; ``--record`` adds a row to ``tools/records/elementary.md``. The exit status is 1 if one is wrong.

``--own`` compares with lucid's own float64 instead, narrowed: the two may differ where the law's tables amend the
result, and nowhere else. It takes no other origin and less time, and shows what changes of the float32 kernels do.
"""

from __future__ import annotations

import argparse
import math
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
PAIR_BLOCKS = (1 << 29) // BLOCK
SEED = 20240607
RECORD = Path(__file__).parent / "records" / "elementary.md"


def _erf(x: Array) -> Array:
    import torch

    return torch.special.erf(torch.from_numpy(x)).numpy()


NUMPYS = "exp exp2 expm1 log log2 log1p sin cos tan arcsin arccos arctan sinh cosh tanh floor ceil trunc"
ORIGINS: dict[str, Callable[[Array], Array]] = {name: getattr(np, name) for name in NUMPYS.split(" ")}
PAIRS = {"power": np.power, "arctan2": np.arctan2}
ORIGINS |= {**PAIRS, "erf": _erf, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "round": np.rint}


LEAST = 2.0**-149
HARD: dict[str, list[tuple[float, float]]] = {
    # In the middle of two: odd numbers of 25 bits; and roots of which such are powers.
    "power": [(4097, 2), (5793, 2), (257, 3), (321, 3), (31, 5), (27, 5), (11, 7), (7, 9), (3, 16), (5, 11), (1.5, 16)]
    + [(x * x, n / 2) for x, n in ((257, 3), (31, 5), (11, 7), (7, 9), (5, 11), (3, 15))]
    + [(x**4, n / 4) for x, n in ((31, 5), (27, 5), (11, 7), (7, 9))]
    # Beside it: next to 1, to the least and the largest number.
    + [(1 + 2.0**-23, 0.5), (1 - 2.0**-24, 0.5), (1 + 2.0**-23, 1.5), (1 - 2.0**-24, 3), (1 + 2.0**-12, 2.0)]
    + [(2, -149), (2, -150), (2, -149.5), (2, -126), (2, 127.99999), (2, 128), (1 + 2.0**-23, 744261120.0)]
    + [(-2, 3), (-2, -149), (-3, 16), (-0.5, 149), (-0.5, 151), (LEAST, 1.0), (LEAST, 0.5), (LEAST, -0.85)],
    # The quotient is exact, or in the middle of two numbers that are subnormal; the angle is a little less.
    "arctan2": [
        (1, 1),
        (1, -1),
        (3 * LEAST, 2.0),
        (LEAST, 2.0),
        (5 * LEAST, -2.0),
        (7 * 2.0**-140, 1024.0),
        (LEAST, LEAST),
    ]
    + [(1, 2.0**k) for k in range(10, 16)],
}


def exact(name: str) -> Callable[..., Any]:
    """The function in mpmath, with 300 bits; of two values with 2000, of which the first 1500 are right."""
    import mpmath

    mp, short = mpmath.mp.clone(), mpmath.mp.clone()
    mp.prec, short.prec = (2000, 1500) if name in PAIRS else (300, 300)
    names = {
        "power": mp.power,
        "arctan2": mp.atan2,
        "arcsin": mp.asin,
        "arccos": mp.acos,
        "arctan": mp.atan,
        "round": mp.nint,
    }
    own = {
        "exp2": lambda v: mp.mpf(2) ** v,
        "log2": lambda v: mp.log(v) / mp.log(2),
        "sigmoid": lambda v: 1 / (1 + mp.exp(-v)),
    }
    function = own.get(name) or names.get(name) or getattr(mp, name)
    return lambda *v: short.mpf(function(*map(mp.mpf, v)))


def _number(end: np.float32) -> float:
    """A float32 as the end of what is rounded: infinity stands where the next number would."""
    return math.copysign(2.0**128, end) if np.isinf(end) else float(end)


def nearest(true: Any, low: np.float32, high: np.float32) -> np.float32:
    """Which of two neighbours is nearer to the true value; the even one, where it is between them."""
    below, above = true - _number(low), _number(high) - true
    if below != above:
        return low if below < above else high
    return low if low.view(np.uint32) % 2 == 0 else high


def natively(name: str, *x: Array) -> Array:
    be = lucid.get_backend("native")
    return be.unary(name, *x) if len(x) == 1 else be.binary(name, *x)


def compared_with_own(name: str, x: Array) -> tuple[list[tuple[tuple[float, ...], float, float]], int]:
    """Where the result is not lucid's float64 narrowed; mpmath decides nothing."""
    y = natively(name, x)
    with np.errstate(all="ignore"):
        own = natively(name, x.astype(np.float64)).astype(np.float32)
    other = (y.view(np.uint32) != own.view(np.uint32)) & ~(np.isnan(y) & np.isnan(own))
    return [((float(x[i]),), float(y[i]), float(own[i])) for i in np.flatnonzero(other)], 0


def compared(
    name: str, *x: Array, ours: Callable[..., Array] = natively
) -> tuple[list[tuple[tuple[float, ...], float, float]], int]:
    """The wrong ones of these inputs, each with what it gave and should have given; and how many mpmath decided."""
    y = ours(name, *x)
    with np.errstate(all="ignore"):
        true = ORIGINS[name](*(part.astype(np.float64) for part in x))
        low, high = (true * (1 - MARGIN)).astype(np.float32), (true * (1 + MARGIN)).astype(np.float32)
        same = (y == low) & (np.signbit(y) == np.signbit(low)) | (np.isnan(y) & np.isnan(low))
    open_ = (low != high) & ~(np.isnan(low) & np.isnan(high))

    def at(i: int) -> tuple[float, ...]:
        return tuple(float(part[i]) for part in x)

    wrong = [(at(i), float(y[i]), float(low[i])) for i in np.flatnonzero(~same & ~open_)]
    undecided, truth = np.flatnonzero(open_), exact(name)
    for i in undecided:
        right = nearest(truth(*at(i)), *sorted((low[i], high[i])))
        if y[i] != right:
            wrong.append((at(i), float(y[i]), float(right)))
    return wrong, len(undecided)


def pairs(name: str, place: int, count: int) -> tuple[Array, Array]:
    """So many pairs of float32; other ones for another place."""
    rng = np.random.default_rng([SEED, place])
    part = count // 8
    x = np.concatenate([rng.integers(0, 0x7F800000, 4 * part, np.uint32).view(np.float32), _near_one(rng, 2 * part)])
    few, whole = rng.integers(1, 1 << rng.integers(1, 13, part)), rng.integers(-64, 64, part)
    with np.errstate(all="ignore"):
        a, b = rng.integers(0, 1 << 32, (2, part), np.uint32).view(np.float32).astype(np.float64)  # anything
        if name == "power":
            n = rng.uniform(-152, 129, 6 * part) / np.log2(x.astype(np.float64))
            few = few * 2.0 ** rng.integers(-2, 3, part) * rng.choice([1, -1], part)
            whole = whole / 2.0 ** rng.integers(0, 4, part)
        else:
            n = x * 2.0 ** rng.uniform(*rng.choice([(-26, 26), (100, 150)]), 6 * part) * rng.choice([1, -1], 6 * part)
            whole = whole * 2.0 ** rng.integers(0, 140, part)
        drawn = np.concatenate([a, x, few]), np.concatenate([b, n, whole])
        return tuple(values.astype(np.float32) for values in drawn)  # type: ignore[return-value]


def _near_one(rng: np.random.Generator, count: int) -> Array:
    return (1 + rng.choice([1, -1], count) * 2.0 ** rng.uniform(-24, -1, count)).astype(np.float32)


def hard(name: str) -> Array:
    """The hard pairs, all signs: first operands, and second ones."""
    found = np.array(HARD[name], np.float32).T
    if name == "power":
        return found
    return np.concatenate([found * np.array(sign, np.float32)[:, None] for sign in ((1, 1), (1, -1), (-1, 1))], 1)


def look(name: str, place: int) -> tuple[list[tuple[tuple[float, ...], float, float]], int]:
    """One block of all inputs."""
    first = place * BLOCK
    if name in PAIRS:
        return compared(name, *(np.append(p, h) for p, h in zip(pairs(name, place, BLOCK), hard(name), strict=True)))
    x = np.arange(first, first + BLOCK, dtype=np.int64).astype(np.uint32).view(np.float32)
    return (compared_with_own if ARGUMENTS.own else compared)(name, x)


def go_through(name: str, blocks: range, threads: int) -> bool:
    """All these blocks for one function; True if none of their inputs is wrong."""
    start, wrong, decided = time.perf_counter(), [], 0
    with ThreadPoolExecutor(threads) as pool:
        for found, undecided in pool.map(lambda place: look(name, place), blocks):
            wrong += found
            decided += undecided
    seconds = time.perf_counter() - start
    for x, got, right in wrong[:20]:
        print(f"{name}({', '.join(part.hex() for part in x)}) is {got.hex()}, beside it {right.hex()}")
    row = f"| {name} | {len(blocks) * BLOCK:,} | {len(wrong)} | {decided} | {seconds:.0f} |"
    print(row, flush=True)
    if len(blocks) in (BLOCKS, PAIR_BLOCKS) and ARGUMENTS.record and not ARGUMENTS.own:
        with RECORD.open("a", encoding="utf-8") as record:
            record.write(row + "\n")
    return not wrong


def main() -> int:
    lucid.set_num_threads(1)
    part, parts = map(int, ARGUMENTS.part.split("/"))
    right = []
    for name in ARGUMENTS.functions:
        count = PAIR_BLOCKS if name in PAIRS else BLOCKS
        right.append(go_through(name, range(count * (part - 1) // parts, count * part // parts), ARGUMENTS.threads))
    return 0 if ARGUMENTS.own or all(right) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("functions", nargs="+", choices=sorted(ORIGINS), metavar="FUNCTION")
    parser.add_argument("--part", default="1/1", help="one part of the inputs: 3/8 is the third eighth")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--own", action="store_true", help="beside lucid's own float64")
    parser.add_argument("--record", action="store_true", help="add a row to tools/records/elementary.md")
    ARGUMENTS = parser.parse_args()
    sys.exit(main())
