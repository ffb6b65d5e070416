"""Make the goldens, byte for byte the same every time.

    python tools/make_golden.py                     all of them, into golden/; one that is of this format already is
                                                    made again, and one that cannot be made does not stop the others
    python tools/make_golden.py --missing           those alone that the manifest does not list
    python tools/make_golden.py resnet_18 --check   compare with what is stored, write nothing

Each truth has two origins, lucid in float64 and PyTorch in float64, which share no code. They must agree within
float64's own derived budget, or nothing is written.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lucid.console import leave, run_command
from oracle.errors import UsageError
from oracle.files import write_whole
from oracle.truth.goldens import GoldenError, golden_cases
from oracle.truth.making import add_to_manifest, known_manifest, make, write_manifest

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make goldens; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="models or cases; all by default")
    parser.add_argument("--check", action="store_true", help="compare with what is stored; write nothing")
    parser.add_argument("--missing", action="store_true", help="make only those that the manifest does not list")
    parser.add_argument("-o", "--output", type=Path, default=GOLDEN, help="where the goldens are")
    given = parser.parse_args(arguments)
    cases = golden_cases()
    wanted = [name for name in cases if not given.models or {name, name.rsplit("-", 1)[0]}.intersection(given.models)]
    unknown = [
        model for model in given.models if not any(name.startswith(f"{model}-") or name == model for name in cases)
    ]
    if unknown or not wanted:
        parser.error(f"models: got {', '.join(unknown)}; there are {', '.join(cases)}")
    if not given.check:
        given.output.mkdir(parents=True, exist_ok=True)
    differing, failed = [], []
    manifest = known_manifest(given.output)
    for name in wanted:
        if given.missing and name in manifest["goldens"]:
            continue
        start = time.perf_counter()
        try:
            files, entry = make(cases[name])
        except GoldenError as error:
            failed.append(name)
            print(f"make_golden: {error}", file=sys.stderr, flush=True)
            continue
        print(
            f"{name}: {sum(map(len, files.values())) / 1e6:.2f} MB, {entry}, {time.perf_counter() - start:.1f} s, "
            f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB so far",
            flush=True,
        )
        for file, content in files.items():
            if not given.check:
                write_whole(given.output / file, content)
            elif not (given.output / file).exists() or (given.output / file).read_bytes() != content:
                differing.append(file)
        add_to_manifest(manifest, name, files, entry)
        if not given.check:
            write_manifest(manifest, list(cases), given.output)
    for file in differing:
        print(f"{file}: differs from what is stored", file=sys.stderr)
    return 2 if failed else 1 if differing else 0


def _status() -> int:
    try:
        return main()
    except SystemExit as ended:  # argparse has said why, or helped
        return int(ended.code or 0)


if __name__ == "__main__":
    leave(lambda: run_command("make_golden", _status, reported=(UsageError,)))
