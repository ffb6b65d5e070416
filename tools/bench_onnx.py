"""Models that were read from ONNX, as plans, beside ONNX Runtime: rows of ``tools/bench.py --onnx``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import real_files

import lucid
from lucid.graph import trace
from lucid.models import get_model
from lucid.onnx import load, to_onnx

ZOO = ("resnet_18", "resnet_50", "resnet_200")
SIDE = 224

Timed = Callable[[Callable[[], Any], Callable[[], Any]], tuple[float, float]]


def onnx_rows(names: Sequence[str], wheels: Path, timed: Timed) -> list[dict[str, Any]]:
    """Every model whose name has one of ``names`` in it (all, where there is none)."""
    rows = []
    for name, proto in (*zoo(names), *real_files.models(wheels)):
        if names and not any(part in name for part in names):
            continue
        module, given = load(proto), real_files.inputs(name, proto)
        arrays = [given[each] for each in module.input_names if each in given]
        with lucid.no_grad():
            run, planned = real_files.planned(module, arrays)
            session = real_files.session_of(proto)
            ours, theirs = timed(run, lambda session=session, given=given: session.run(None, given))
        rows.append({"model": name, "planned": planned, "lucid_s": ours, "onnxruntime_s": theirs})
        show(rows[-1])
    return rows


def zoo(names: Sequence[str]) -> Iterator[tuple[str, onnx.ModelProto]]:
    """What lucid exports of its own networks."""
    for name in ZOO:
        if not names or any(part in f"lucid/{name}" for part in names):
            model = get_model(name).eval()
            yield f"lucid/{name}", to_onnx(trace(model, lucid.tensor(np.zeros((1, 3, SIDE, SIDE), np.float32))))


def show(row: dict[str, Any]) -> None:
    ours, theirs = row["lucid_s"], row["onnxruntime_s"]
    how = "" if row["planned"] else "  (no plan)"
    print(
        f"{row['model']:52s} lucid {1e3 * ours:9.2f} ms  onnxruntime {1e3 * theirs:9.2f} ms  {ours / theirs:5.2f}{how}"
    )
