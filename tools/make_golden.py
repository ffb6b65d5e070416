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
import hashlib
import json
import math
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lucid.console import leave, run_command
from oracle.budget.free import free_budget, in_float64
from oracle.case.case import Case
from oracle.errors import UsageError
from oracle.files import write_whole
from oracle.run import versions
from oracle.subjects import find_subject
from oracle.trace import Key, Kind, Trace, execution_order
from oracle.truth.digest import digest_later
from oracle.truth.goldens import FORMAT, LAW, MANIFEST, STORED, GoldenError, encode_golden, golden_cases, seal
from oracle.truth.truth import agreement

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


class _Digests:
    """A recorder that keeps only digests."""

    def __init__(self) -> None:
        self.found: dict[Key, Any] = {}

    def record(self, kind: Kind, name: str, array: np.ndarray) -> None:
        self.found[kind, name] = digest_later(array)


def make(case: Case) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The two files of a golden by name, and what the manifest says of it.

    Raises:
        GoldenError: the two origins disagree.
    """
    truth, narrow = Trace(), _Digests()
    find_subject("lucid:float64").run(case, truth)
    for key in truth:
        truth.replace(key, np.asarray(truth[key], order="C"))
    find_subject("lucid").run(case, narrow)
    order = execution_order(truth)
    double = {key: digest_later(truth[key]) for key in order}
    digests = {
        "float32": {key: narrow.found[key].result() for key in order},
        "float64": {key: double[key].result() for key in order},
    }
    budgets = {precision: free_budget(case, precision, truth=truth) for precision in STORED}
    layers = agreement(case, truth, {key: in_float64(key, budget) for key, budget in budgets["float32"].items()})
    wrong = [layer for layer in layers if layer.judged and not layer.agrees]
    if wrong:
        worst = "; ".join(f"{layer.kind} {layer.name} used {layer.used:.2f}" for layer in wrong[:3])
        raise GoldenError(f"{case.name}: the two origins disagree in {len(wrong)} of {len(layers)} tensors: {worst}")
    description, tables = encode_golden(case, order, digests, truth, budgets)
    sound = [layer.error for layer in layers if layer.budget < 1e-9]
    entry = {
        "origins": ["lucid float64", "torch float64"],
        "tensors": len(order),
        # Rounded up so far that PyTorch's last bits, which depend on its threads and the processor, make the same file.
        "largest_error": _decade(max(sound)),
        "largest_share_of_budget": math.ceil(10 * max(layer.used for layer in layers)) / 10,
    }
    return {f"{case.name}.json": description, f"{case.name}.safetensors": tables}, entry


def _decade(value: float) -> float:
    """The next power of ten, 0 of 0."""
    return float(f"1e{math.ceil(math.log10(value))}") if value > 0 else 0.0


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
    manifest = _manifest(given.output)
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
            manifest["files"][file] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            if not given.check:
                write_whole(given.output / file, content)
            elif not (given.output / file).exists() or (given.output / file).read_bytes() != content:
                differing.append(file)
        manifest["goldens"][name] = entry
        if not given.check:
            _write_manifest(manifest, list(cases), given.output)
    for file in differing:
        print(f"{file}: differs from what is stored", file=sys.stderr)
    return 2 if failed else 1 if differing else 0


def _status() -> int:
    try:
        return main()
    except SystemExit as ended:  # argparse has said why, or helped
        return int(ended.code or 0)


def _manifest(directory: Path) -> dict[str, Any]:
    """What is there already, if it is of this law and format."""
    try:
        found: dict[str, Any] = json.loads((directory / MANIFEST).read_bytes())
        if (found["format"], found["law"]) == (FORMAT, LAW):
            return found
    except (OSError, ValueError, KeyError):
        pass
    return {"goldens": {}, "files": {}}


def _write_manifest(found: dict[str, Any], order: Sequence[str], directory: Path) -> None:
    names = [name for name in order if name in found["goldens"]]
    files = [f"{name}.{suffix}" for name in names for suffix in ("json", "safetensors")]
    made = {name: version for name, version in versions().items() if name in ("lucid-oracle", "numpy", "torch")}
    manifest = {
        "format": FORMAT,
        "law": LAW,
        "made_by": made,
        "goldens": {name: found["goldens"][name] for name in names},
        "files": {file: found["files"][file] for file in files},
    }
    manifest["seal"] = seal(manifest)
    write_whole(directory / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())


if __name__ == "__main__":
    leave(lambda: run_command("make_golden", _status, reported=(UsageError,)))
