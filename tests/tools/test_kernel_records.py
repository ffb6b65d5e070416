"""tools/kernel_records.py: what the other judges say, and how a record is counted and printed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")
pytest.importorskip("onnxruntime")
TOOLS = Path(__file__).parents[2] / "tools"
pytestmark = pytest.mark.skipif(not (TOOLS / "kernel_records.py").exists(), reason="the tools are not beside the tests")
if (TOOLS / "kernel_records.py").exists():
    sys.path.insert(0, str(TOOLS))
    import kernel_records
    from kernel_corpus import softmax


def _flagged(check, other):
    return {"check_kernel": check, "assert_close": other}


RECORDS = [
    {"op": "exp", "kernel": "a", "precision": "float32", "seconds": 1.0, "flagged": _flagged(False, True)},
    {"op": "exp", "kernel": "b", "precision": "float32", "seconds": 1.0, "flagged": _flagged(None, True)},
    {
        "op": "sum",
        "kernel": "c, the last term left out",
        "precision": "float16",
        "attributes": {"axis": -1},
        "bug": "a term left out",
        "subtle": True,
        "named": True,
        "seconds": 0.5,
        "flagged": _flagged(True, False),
    },
]


def test_counts():
    """What the check refused is no check of it."""
    found = kernel_records.counts(RECORDS)
    assert found["healthy"] == found["mutants"] == found["kind right"] == 1
    assert found["healthy flagged"] == _flagged(0, 1)
    assert found["mutants missed"] == _flagged(0, 1)


def test_table():
    """A row for each operation and precision, the sum, and what each judge got wrong."""
    page = kernel_records.table(RECORDS).splitlines()
    assert "| exp | float32 | 1 |  | 1 |  |  |  |" in page
    assert "| sum | float16 |  |  |  | 1 |  | 1 |" in page
    assert "| **all** |  | 1 |  | 1 | 1 |  | 1 |" in page
    assert "- sum(axis=-1) in float16: c, the last term left out" in page[page.index("## assert_close") :]


def test_others_judge_every_result():
    """What a missing tail makes is flagged by PyTorch's default; the kernel that it was put into is not."""
    others = kernel_records.Others(seed=0)
    kernels = {each.name: each for each in softmax.mutants() if each.precision == "float32" and each.op == "softmax"}
    mutant = kernels["by rows, the tail of the sum past a tile of 32 left out"]
    assert others.flags(mutant)["assert_close"]
    assert not others.flags(mutant.of)["assert_close"]
