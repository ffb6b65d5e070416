"""The verdict on a trace does not depend on the order of its tensors, and a healthy part of a trace is healthy."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import save_file  # noqa: E402

from oracle.case.case import Case  # noqa: E402
from oracle.judge.verdicts import LayerVerdict  # noqa: E402
from oracle.precision.difference import Precision  # noqa: E402
from oracle.run import compare_trace, run_case  # noqa: E402
from oracle.subjects import Subject, find_subject  # noqa: E402
from oracle.subjects.file import file_name, read_trace  # noqa: E402
from oracle.testing import assert_matches_golden, to_trace  # noqa: E402
from oracle.trace import Key, Recorder, Trace  # noqa: E402
from oracle.truth.goldens import Golden  # noqa: E402
from oracle.truth.truth import Truth  # noqa: E402

NAME = "narrow_basic-train"
PRECISIONS: dict[Precision, str] = {"float32": "torch", "bfloat16": "torch:bfloat16"}

Order = Callable[[list[Key]], list[Key]]
ORDERS: dict[str, Order] = {
    "as they came": lambda keys: keys,
    "shuffled": lambda keys: random.Random(5).sample(keys, len(keys)),
    "alphabetical": sorted,
    "backwards": lambda keys: keys[::-1],
    "gradients first": lambda keys: sorted(keys, key=lambda key: key[0] in ("activation", "loss")),
}
Part = Callable[[Key], bool]
PARTS: dict[str, Part] = {
    "the gradients alone": lambda key: key[0].endswith("gradient"),
    "the gradients of parameters alone": lambda key: key[0] == "parameter_gradient",
    "without what the max pooling takes": lambda key: key[1] != "stem.2",
    "without the max pooling": lambda key: key[1] != "maxpool",
    "the max pooling alone": lambda key: key[1] == "maxpool",
    "one output": lambda key: key == ("activation", "layer2.0.bn1"),
    "one gradient": lambda key: key == ("parameter_gradient", "stem.0.weight"),
    "without the ReLUs": lambda key: "relu" not in key[1],
    "blocks alone": lambda key: key[1].count(".") == 1,
    "loss": lambda key: key[0] == "loss",
}


@cache
def golden() -> Golden:
    return Golden.load(NAME)


@cache
def healthy(precision: Precision) -> Trace:
    return find_subject(PRECISIONS[precision]).trace(golden().case)


def in_order(trace: Trace, order: Order, part: Part = lambda key: True) -> Trace:
    found = Trace()
    for key in order([key for key in trace if part(key)]):
        found.record(*key, trace[key])
    return found


def told(layers: Any) -> list[str]:
    """Verdicts without what compares unequal to itself."""
    return [repr(layer) for layer in layers if isinstance(layer, LayerVerdict)]


@cache
def expected(precision: Precision) -> list[str]:
    [case] = compare_trace(healthy(precision), golden(), precision).cases
    return told(case.subjects[0].layers)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_verdict_does_not_depend_on_the_order(order: str, precision: Precision) -> None:
    [case] = compare_trace(in_order(healthy(precision), ORDERS[order]), golden(), precision).cases
    assert case.agrees, case.subjects[0].sentence()
    assert told(case.subjects[0].layers) == expected(precision)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("order", ["alphabetical", "gradients first"])
def test_files_of_either_format(tmp_path: Path, suffix: str, order: str) -> None:
    trace = in_order(healthy("bfloat16"), ORDERS[order])
    tensors = {file_name(key): np.ascontiguousarray(trace[key]) for key in trace}
    path = tmp_path / f"trace{suffix}"
    if suffix == ".npz":
        np.savez(path, **tensors)  # type: ignore[arg-type]
    else:
        save_file(tensors, path)
    verdict = assert_matches_golden(path, golden(), "bfloat16")
    assert told(verdict.cases[0].subjects[0].layers) == expected("bfloat16")
    verdict = assert_matches_golden(tensors, golden(), "bfloat16")
    assert told(verdict.cases[0].subjects[0].layers) == expected("bfloat16")
    assert set(to_trace(path)) == set(read_trace(path).trace) == set(trace)


class Disordered(Subject):
    """A subject that records in an order of its own."""

    label, precision, partial = "disordered", "bfloat16", False

    def __init__(self, order: str) -> None:
        self._order = order

    def run(self, case: Case, recorder: Recorder) -> None:
        in_order(healthy("bfloat16"), ORDERS[self._order]).replay(recorder)


@pytest.mark.parametrize("order", ["shuffled", "gradients first"])
def test_subjects_that_record_in_any_order(order: str) -> None:
    found = run_case(golden().case, [Disordered(order)], views=["free"], truth=Truth(golden().case, golden()))
    assert told(found.subjects[0].layers) == expected("bfloat16")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("part", PARTS)
def test_a_healthy_part_is_healthy_in_any_order(part: str, precision: Precision) -> None:
    found = []
    for order in ("as they came", "shuffled"):
        [case] = compare_trace(in_order(healthy(precision), ORDERS[order], PARTS[part]), golden(), precision).cases
        assert case.agrees or all(each.undecided for each in case.subjects), case.subjects[0].sentence()
        found.append([told(each.layers) for each in case.subjects])
    assert found[0] == found[1]


def test_a_part_of_a_faulty_trace_is_faulty() -> None:
    """What unseen decisions may have been excuses no fault."""
    trace = in_order(healthy("float32"), ORDERS["shuffled"], PARTS["the gradients of parameters alone"])
    key: Key = ("parameter_gradient", "layer1.0.bn1.weight")
    trace.replace(key, trace[key] * 1.01)
    [case] = compare_trace(trace, golden(), "float32").cases
    assert [layer.name for layer in case.subjects[0].observed if not layer.agrees] == ["layer1.0.bn1.weight"]
