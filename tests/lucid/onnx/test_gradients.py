"""Gradients as plain ONNX: ONNX Runtime beside PyTorch for every operation, beside lucid's float64 for networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tables
from support.gradients import CLASSES, IMAGES, differentiable, small, step_of, traced
from support.networks import NARROW
from support.operations import Row, run_torch
from support.scripts import script

import lucid
import lucid.nn.functional as F
from lucid import models, nn, optim
from lucid.graph import trace_gradients

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from lucid.onnx import NEWEST_OPSET, check, export_gradients, to_onnx, verify_gradients  # noqa: E402

STANDARD = {""}
"""The domains whose operators every runtime has."""


def run(model: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def one_of_each() -> list[Row]:
    """The smallest row of every operation, of a smooth one if there is."""

    def size(row: Row) -> tuple[bool, int]:
        return not row.smooth, sum(array.size for array in row.arrays(np.float32, "dense", 0))

    rows = [row for row in tables.ROWS if np.float32 in row.dtypes and all(0 not in given.shape for given in row.inputs)]
    return list({row.operation: row for row in sorted(rows, key=size, reverse=True)}.values())


def wrong(row: Row, refused: dict[str, str]) -> str:
    """What is wrong with a row's gradients in ONNX Runtime; one that is refused is put into ``refused``."""
    try:
        graph, arrays, of = traced(row, np.float32)
        model = to_onnx(graph, opset=20)
    except (ValueError, RuntimeError) as error:
        refused[row.name] = str(error)
        return ""
    try:
        check(model)
        taken = {value.name for value in model.graph.input}
        got = run(model, {name: x for name, x in zip(graph.inputs, arrays, strict=True) if name in taken})
        want = run_torch(row, np.float32)
        for name, i in of.items():
            expected = want[f"gradient of input {i}"]
            if f"{name}.grad" in got and expected is not None:
                least = 2e-5 * np.abs(expected).max(initial=1e-3)
                np.testing.assert_allclose(got[f"{name}.grad"], expected, 1e-4, least)
    except Exception as error:  # the runtime's have no class of their own
        return f"{row.name}: {error}"
    return ""


def test_every_operation_in_onnx_runtime() -> None:
    """Gradients near PyTorch's; what has none, or no form in ONNX, is refused by a sentence."""
    refused: dict[str, str] = {}
    rows = differentiable(one_of_each())
    failures = [said for row in rows if (said := wrong(row, refused))]
    print(len(rows)); [print(k,v) for k,v in refused.items()]
    assert not failures, "\n".join(failures)
