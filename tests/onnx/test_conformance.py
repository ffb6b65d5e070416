"""onnx's own suite through ``lucid.onnx.backend``: an item for each module of its node tests and for each model.

``not_passed.txt`` lists the tests that do not pass, ``group test: reason`` a line, and is held to both ways. What
passes is also held to what follows from arithmetic (support/conformance.py). ``tools/conformance.py`` counts all of
it, with ONNX Runtime's count beside, and writes the table of docs/onnx.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.backends import BACKENDS, on
from support.scripts import ROOT, script

from lucid.backends import device_of

onnx = pytest.importorskip("onnx")

from support import conformance  # noqa: E402

from lucid.onnx.backend import LucidBackend  # noqa: E402

RECORD = json.loads((ROOT / "tools" / "records" / "conformance.json").read_text())
if onnx.__version__ != RECORD["onnx"]:
    pytest.skip(f"the list and the record are of onnx {RECORD['onnx']}", allow_module_level=True)

LISTED = conformance.listed(Path(__file__).with_name("not_passed.txt"))
GROUPS = conformance.groups()
NATIVE = "native" in BACKENDS
"""Where it is not, whole networks take minutes, and budgets are judged elsewhere, on the same bits."""
SAME_BITS = [
    "averagepool",
    "batch_normalization",
    "conv",
    "convtranspose",
    "deformconv",
    "dft",
    "einsum",
    "erf",
    "gemm",
    "gridsample",
    "gru",
    "lppool",
    "maxpool",
    "roialign",
    "softmax",
    "stft",
]
"""Node tests of float operators that are also run by every backend."""


@pytest.mark.parametrize("group", [name for name in GROUPS if NATIVE or not name.startswith("real/")])
def test_the_suite(group: str) -> None:
    """All tests of a group pass but those that are listed, and none of those does."""
    wrong, names = [], set()
    for case in conformance.cases(group):
        names.add(case.name)
        try:
            found = conformance.run(case, LucidBackend.prepare)
        except Exception as error:
            if case.name not in LISTED.get(group, {}):
                wrong.append(f"{case.name}: {type(error).__name__}: {error}")
            continue
        if case.name in LISTED.get(group, {}):
            wrong.append(f"{case.name}: passes; it must leave not_passed.txt")
        elif NATIVE:
            wrong += conformance.judge(case, found, LucidBackend.prepare).over
    wrong += [f"{name}: is listed, but the suite has it not" for name in LISTED.get(group, {}).keys() - names]
    assert not wrong, "\n".join(wrong)


def test_what_is_listed_is_of_the_suite() -> None:
    assert set(LISTED) <= set(GROUPS)
    assert all(reason for group in LISTED.values() for reason in group.values())


@pytest.mark.parametrize("group", ["node/exp", "node/softmax", "node/layernormalization", "node/conv"])
def test_a_result_that_is_further_away_is_seen(group: str) -> None:
    """What is 40 roundings off passes the suite, whose tolerance is 16,000 of them, and not the derived one."""
    for case in conformance.cases(group)[:1]:
        found = conformance.run(case, LucidBackend.prepare)
        off = [[each * np.float32(1 + 40 * 2**-24) for each in outputs] for outputs in found]
        assert not conformance.judge(case, found, LucidBackend.prepare).over
        assert conformance.judge(case, off, LucidBackend.prepare).over


@pytest.mark.parametrize("name", SAME_BITS)
def test_every_backend_gives_the_same_bits(name: str) -> None:
    """Of the node tests of an operator."""
    for case in conformance.cases(f"node/{name}"):
        if case.name in LISTED.get(f"node/{name}", {}):
            continue
        own = _bits(case, "reference")
        for backend in BACKENDS:
            assert backend == "reference" or _bits(case, backend) == own, (case.name, backend)


def _bits(case: conformance.Case, backend: str) -> list[bytes]:
    def prepare(model: Any) -> Any:
        return LucidBackend.prepare(model, "CUDA" if device_of(backend) == "gpu" else "CPU")

    with on(backend):
        return [np.asarray(each).tobytes() for outputs in conformance.run(case, prepare) for each in outputs]


# -- the record and the page -----------------------------------------------------------------------------------------


def test_the_record_counts_what_the_list_says() -> None:
    """And lucid passes more than ONNX Runtime, counted in the same run."""
    assert RECORD["passed"] == RECORD["tests"] - sum(map(len, LISTED.values()))
    assert RECORD["passed"] > RECORD["onnxruntime_passed"]


def test_the_page_is_made_of_the_code() -> None:
    """Run tools/conformance.py where it is not."""
    tool = script("tools/conformance.py")
    page = (ROOT / "docs" / "onnx.md").read_text()
    assert tool.with_table(page, RECORD) == page


@pytest.mark.slow
def test_the_record_is_true() -> None:
    """Both counted anew."""
    counted = script("tools/conformance.py").counted()
    assert counted["passed"] > counted["onnxruntime_passed"]
    theirs = {"onnxruntime", "onnxruntime_passed"}  # of whichever version is here
    assert {k: v for k, v in counted.items() if k not in theirs} == {k: v for k, v in RECORD.items() if k not in theirs}
