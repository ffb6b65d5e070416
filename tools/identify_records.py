"""Measure `oracle.identify` on emulated arithmetics whose properties are known.

    python tools/identify_records.py
    python tools/identify_records.py --seed 1     # other draws of products, which are printed alone

`tools/identify_corpus.py` has them. One counts as named right where every aspect is. The record is
``tools/records/identify.md``; the exit status is 1 where less than 99 % are named right.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from identify_corpus import TERMS, Emulation, emulations, products

from oracle.files import write_whole
from oracle.identify import identify, own

RECORD = Path(__file__).parent / "records" / "identify.md"


def mistakes(emulation: Emulation) -> list[str]:
    """The aspects that are named wrong."""
    made = own({emulation.operation: emulation.function}, name=emulation.name)
    found = identify(made, terms=TERMS).found[emulation.operation]
    return [
        f"{aspect}: {found.get(aspect)}; is {emulation.words.get(aspect)}"
        for aspect in emulation.words | found
        if found.get(aspect) != emulation.words.get(aspect)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    every = list(products(seed)) if seed else emulations()
    wrong = {emulation.name: (emulation.operation, told) for emulation in every if (told := mistakes(emulation))}
    tried = Counter(emulation.operation for emulation in every)
    missed = Counter(operation for operation, _ in wrong.values())
    rows = [f"| {each} | {tried[each]} | {tried[each] - missed[each]} |" for each in sorted(tried)]
    right = len(every) - len(wrong)
    lines = [
        f"{right} of {len(every)} emulated arithmetics named right in every aspect (`tools/identify_records.py`).",
        "",
        "| operation | arithmetics | named right |",
        "|---|---:|---:|",
        *rows,
        *([""] if wrong else []),
        *(f"- {operation}, {name}: {'; '.join(told)}" for name, (operation, told) in wrong.items()),
    ]
    if not seed:
        write_whole(RECORD, ("\n".join(lines) + "\n").encode())
    print("\n".join(lines))
    return 0 if right >= 0.99 * len(every) else 1


if __name__ == "__main__":
    sys.exit(main())
