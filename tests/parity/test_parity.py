"""The parity matrix: model x mode x subject, each a test of its own.

lucid is held to the goldens' digests, bit by bit; everybody else to the budgets, the whole run and layer by layer.
``tox -e parity`` runs all of it and fails if it compared nothing; the default run has the small part. Tests of one case
follow each other (and, with ``--dist loadgroup``, in one worker), so that its truth is made once.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from oracle.case.case import standard_case
from oracle.graph.model import Mode
from oracle.resnets import ARCHITECTURES, find_architecture
from oracle.run import Verdict, run_case, versions
from oracle.subjects import find_subject
from oracle.testing import assert_agrees
from oracle.truth.truth import Truth, prepare

MODES: tuple[Mode, ...] = ("eval", "train")

# Who runs a case in which modes, and for which models that is not a long run.
QUICK, ALWAYS, NEVER = ("resnet_18",), ("resnet_18", "resnet_50"), ()
SUBJECTS: dict[str, tuple[tuple[Mode, ...], tuple[str, ...]]] = {
    "lucid:threads=1": (MODES, ALWAYS),
    "lucid:threads=2": (MODES, QUICK),
    "lucid:plan": (("eval",), ALWAYS),
    "torch": (MODES, ALWAYS),
    "torch:no-onednn": (MODES, QUICK),
    "torch:channels_last": (MODES, QUICK),
    "torch:threads=2": (MODES, NEVER),
    "torch:compile": (("eval",), NEVER),  # a train step layer by layer compiles for minutes: tools/healthy.py
    "torch:bfloat16": (("eval",), QUICK),
    "onnxruntime": (("eval",), ALWAYS),
    "onnxruntime:extended": (("eval",), NEVER),
    "onnxruntime:basic": (("eval",), NEVER),
    "onnxruntime:unoptimized": (("eval",), QUICK),
    "onnxruntime:fused": (("eval",), QUICK),
}
# Who runs every model. The other subjects run a model of each post-activation block (pre-activation ones in all guises
# are in oracle/test_budget.py and oracle/judge/test_own.py, small), and what takes minutes a model, less.
EVERY = ("lucid:threads=1", "lucid:plan", "torch", "onnxruntime")
KINDS = ("resnet_18", "resnet_50")
# The largest repeat the blocks of the others: one foreign subject a mode.
LARGEST = ("resnet_152", "resnet_269", "resnet_1001", "wide_resnet_101")
ONLY: dict[str, tuple[str, ...]] = {"torch:compile": QUICK, "torch:bfloat16": QUICK}


def matrix() -> list[Any]:
    """A parameter a test, whose id reads ``resnet_50-train-torch:no-onednn``."""
    tests = []
    for model in ARCHITECTURES:
        for mode in MODES:
            for subject, (modes, quick) in SUBJECTS.items():
                if mode not in modes or (model not in ONLY.get(subject, KINDS) and subject not in EVERY):
                    continue
                if model in LARGEST and (subject, mode) == ("torch", "eval"):
                    continue
                case = f"{model}-{mode}"
                marks = [pytest.mark.xdist_group(case)] if importlib.util.find_spec("xdist") else []
                marks += [] if model in quick else [pytest.mark.slow]
                tests.append(pytest.param(model, mode, subject, id=f"{case}-{subject}", marks=marks))
    return tests


@lru_cache(maxsize=1)
def truth(model: str, mode: Mode) -> Truth:
    """The case's truth, kept until another case's is asked for."""
    return prepare(standard_case(find_architecture(model), mode))


@pytest.mark.parametrize(("model", "mode", "subject"), matrix())
def test_parity(model: str, mode: Mode, subject: str) -> None:
    known = truth(model, mode)
    assert_agrees(Verdict([run_case(known.case, [find_subject(subject)], truth=known)], versions()))


def test_the_matrix_is_whole() -> None:
    ids = [test.id for test in matrix()]
    assert len(ids) == len(set(ids))
    for model in ARCHITECTURES:
        for mode in MODES:
            foreign = ("onnxruntime",) if model in LARGEST else ("torch", "onnxruntime")
            for engine in ("lucid", *(foreign if mode == "eval" else ("torch",))):
                assert any(each.startswith(f"{model}-{mode}-{engine}") for each in ids)
