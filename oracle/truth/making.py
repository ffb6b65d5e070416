"""Making a golden: the truth of a case by its two origins, the digests of what lucid makes, and the budgets.

The two must agree within float64's own derived budget, or nothing is made. A model of somebody's own may have one
origin alone; with its golden its weights and its input are stored, from which it is checked anywhere else.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oracle.budget.free import free_budget, in_float64
from oracle.case.case import Case
from oracle.files import write_whole
from oracle.judge.summary import versions
from oracle.precision.difference import Budget
from oracle.subjects import find_subject
from oracle.trace import Key, Kind, Trace, execution_order
from oracle.truth.digest import digest_later
from oracle.truth.goldens import (
    FORMAT,
    LAW,
    MANIFEST,
    STORED,
    SUFFIXES,
    GoldenError,
    encode_golden,
    seal,
)
from oracle.truth.truth import agreement


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
    budgets: dict[str, Mapping[Key, Budget]] = {
        precision: free_budget(case, precision, truth=truth) for precision in STORED
    }
    double_budgets = {key: in_float64(key, budget) for key, budget in budgets["float32"].items()}
    layers = agreement(case, truth, double_budgets) if case.model.mirrored else []
    wrong = [layer for layer in layers if layer.judged and not layer.agrees]
    if wrong:
        worst = "; ".join(f"{layer.kind} {layer.name} used {layer.used:.2f}" for layer in wrong[:3])
        raise GoldenError(f"{case.name}: the two origins disagree in {len(wrong)} of {len(layers)} tensors: {worst}")
    description, tables = encode_golden(case, order, digests, truth, budgets)
    sound = [layer.error for layer in layers if layer.budget < 1e-9]
    used = [layer.used for layer in layers if layer.observed]
    entry = {
        "origins": ["lucid float64", *(["torch float64"] if layers else [])],
        "tensors": len(order),
        # Rounded up so far that PyTorch's last bits, which depend on its threads and the processor, make the same file.
        "largest_error": _decade(max(sound, default=0.0)),
        "largest_share_of_budget": math.ceil(10 * max(used, default=0.0)) / 10,
    }
    files = dict(zip((f"{case.name}.{suffix}" for suffix in SUFFIXES), (description, tables), strict=False))
    if case.model.weights is None:
        return files, entry
    return files | _brought(case), entry | {"own": True}


def _brought(case: Case) -> dict[str, bytes]:
    """The files of a case whose model is somebody's own: its weights and its input."""
    from safetensors.numpy import save

    given = io.BytesIO()
    np.save(given, case.input, allow_pickle=False)
    weights = {name: np.asarray(value, order="C") for name, value in case.state.items()}
    contents = save(weights), given.getvalue()
    return dict(zip((f"{case.name}.{suffix}" for suffix in SUFFIXES[2:]), contents, strict=True))


def _decade(value: float) -> float:
    """The next power of ten, 0 of 0."""
    return float(f"1e{math.ceil(math.log10(value))}") if value > 0 else 0.0


def known_manifest(directory: Path) -> dict[str, Any]:
    """What is there already, if it is of this law and format."""
    try:
        found: dict[str, Any] = json.loads((directory / MANIFEST).read_bytes())
        if (found["format"], found["law"]) == (FORMAT, LAW):
            return found
    except (OSError, ValueError, KeyError):
        pass
    return {"goldens": {}, "files": {}}


def add_to_manifest(manifest: dict[str, Any], name: str, files: Mapping[str, bytes], entry: Mapping[str, Any]) -> None:
    """Enter a golden and its files."""
    for file, content in files.items():
        manifest["files"][file] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    manifest["goldens"][name] = dict(entry)


def write_manifest(found: dict[str, Any], order: Sequence[str], directory: Path) -> None:
    """Write the manifest of the goldens that there are, in that order."""
    names = [name for name in order if name in found["goldens"]]
    files = [f"{name}.{suffix}" for name in names for suffix in SUFFIXES if f"{name}.{suffix}" in found["files"]]
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
