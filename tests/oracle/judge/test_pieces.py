"""Dumps with gaps: each tensor is judged over the piece of the graph since its nearest observed ancestors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from oracle.case.case import Case  # noqa: E402
from oracle.case.zoo import find_model  # noqa: E402
from oracle.graph.graph import Graph, Node, Window  # noqa: E402
from oracle.graph.model import Mode  # noqa: E402
from oracle.judge.own import own_check  # noqa: E402
from oracle.judge.pieces import NOTE, nodes_between  # noqa: E402
from oracle.judge.verdicts import SubjectVerdict  # noqa: E402
from oracle.operations import OPERATIONS, is_loss, operation_of, shapes_of_values  # noqa: E402
from oracle.subjects import find_subject  # noqa: E402
from oracle.subjects.pytorch import TorchSubject  # noqa: E402
from oracle.trace import (  # noqa: E402
    Key,
    Trace,
    execution_order,
)

VALUES = ("activation", "activation_gradient")


class Tf32(TorchSubject):
    """PyTorch in float32 whose convolutions take input and weight in TF32, and hand gradients straight through."""

    def build(self, case: Case) -> Any:
        model = super().build(case)
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.data = rounded(module.weight.data)
                module.register_forward_pre_hook(
                    lambda _module, given: (given[0] + (rounded(given[0]) - given[0]).detach(),)
                )
        return model


def rounded(x: Any) -> Any:
    return ((x.detach().contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


SUBJECTS = {
    "float32": lambda: find_subject("torch"),
    "bfloat16": lambda: find_subject("torch:bfloat16"),
    "float16": lambda: find_subject("torch:float16"),
    "tf32": Tf32,
}


@cache
def case_of(model: str, mode: Mode) -> Case:
    found = find_model(model)
    return Case(found, mode, "seeded", *found.standard_shape(mode))


@cache
def healthy(model: str, mode: Mode, precision: str) -> Trace:
    return SUBJECTS[precision]().trace(case_of(model, mode))


def every_fifth(graph: Graph) -> set[str]:
    return {node.name for node in graph.nodes[4::5]}


def of_blocks(graph: Graph) -> set[str]:
    """What is left where a compiler fuses whole blocks."""
    return {node.name for node in graph.nodes if node.has_code}


def of_fused(graph: Graph) -> set[str]:
    """What is left where a normalisation and a ReLU are fused into what is before them."""
    return {node.name for node in graph.nodes if node.op in ("conv", "relu", "sum", "linear")}


GAPS: dict[str, Callable[[Graph], set[str]]] = {
    "every fifth": every_fifth,
    "blocks": of_blocks,
    "fused": of_fused,
    "no values": lambda graph: set(),
}


def part_of(trace: Trace, kept: set[str], but: set[Key] = frozenset()) -> Trace:  # type: ignore[assignment]
    part = Trace()
    for key in trace:
        if (key[0] not in VALUES or key[1] in kept) and key not in but:
            part.record(*key, trace[key])
    return part


def judged(part: Trace, whole: Trace, case: Case, precision: str) -> SubjectVerdict:
    return own_check(part, case, precision, execution_order(whole), lambda key: whole[key].shape, "a dump")


# -- healthy dumps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("precision", SUBJECTS)
@pytest.mark.parametrize(
    ("model", "mode"), [("narrow_basic", "train"), ("narrow_preact", "train"), ("narrow_preact", "eval")]
)
def test_healthy_dumps_with_gaps_agree(model: str, mode: Mode, precision: str, gap: str) -> None:
    case, whole = case_of(model, mode), healthy(model, mode, precision)
    declared = "tf32" if precision == "tf32" else SUBJECTS[precision]().precision
    kept = GAPS[gap](case.graph)
    if mode == "eval" and not kept:
        return
    verdict = judged(part_of(whole, kept), whole, case, declared)
    assert verdict.agrees, verdict.sentence()
    pieces = [layer for layer in verdict.observed if NOTE in layer.note]
    assert pieces
    told = [layer for layer in pieces if layer.judged]
    # In low precision the budget of a long gap of such narrow networks exceeds many of their small tensors.
    assert len(told) > (0.9 if precision == "float32" else 0.3) * len(pieces), verdict.sentence()


def test_a_whole_trace_is_judged_over_single_operations() -> None:
    case, whole = case_of("narrow_basic", "train"), healthy("narrow_basic", "train", "float32")
    assert not [layer for layer in judged(whole, whole, case, "float32").layers if NOTE in layer.note]


def test_the_nodes_of_a_piece() -> None:
    graph = case_of("narrow_basic", "train").graph
    known: set[Key] = {("activation", "stem.2"), ("activation_gradient", "layer1.0"), ("activation", "layer1.0.conv1")}
    forward = nodes_between(graph, known, [("activation", "layer1.0.relu1")])
    assert [node.name for node in forward] == ["layer1.0.bn1", "layer1.0.relu1"]
    backward = nodes_between(graph, known, [("activation_gradient", "maxpool")])
    assert [node.name for node in backward] == [
        "maxpool", "layer1.0.conv1", "layer1.0.bn1", "layer1.0.relu1", "layer1.0.conv2", "layer1.0.bn2", "layer1.0",
    ]  # fmt: skip


# -- faults inside of a gap --------------------------------------------------------------------------------------------


def no_mask(module: Any) -> None:
    module.forward = lambda x: x + (x.relu() - x).detach()


def no_gradient(module: Any) -> None:
    healthy = module.forward
    module.forward = lambda x: healthy(x.detach() + 0 * x)


# What is wrong, with which operation, and the first tensor behind it that the dump holds.
FAULTS: dict[str, tuple[Callable[[Any], Any], str, Key]] = {
    "another eps": (lambda norm: setattr(norm, "eps", 0.5), "layer2.0.bn1", ("activation", "layer2.0.relu1")),
    "a scaled weight": (lambda norm: norm.weight.data.mul_(1.1), "layer3.0.bn1", ("activation", "layer3.0.relu1")),
    "no mask": (no_mask, "layer2.0.relu1", ("activation_gradient", "layer2.0.conv1")),
    "no gradient": (no_gradient, "layer3.0.conv2", ("activation_gradient", "layer3.0.bn1")),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_inside_of_a_gap_is_found_behind_it(fault: str, precision: str) -> None:
    """Of the neighbourhood of the fault the dump holds what lies two or three operations apart alone."""
    break_it, name, found = FAULTS[fault]

    class Broken(TorchSubject):
        def build(self, case: Case) -> Any:
            model = super().build(case)
            break_it(model.get_submodule(name))
            return model

    case, subject = case_of("narrow_basic", "train"), Broken(*() if precision == "float32" else (precision,))
    whole = subject.trace(case)
    block = name.rpartition(".")[0]
    kept = {node.name for node in case.graph.nodes if node.scope != block or node.name in (block, found[1])}
    hidden: set[Key] = {key for key in whole if key[0] in ("parameter_gradient", "statistic")}
    verdict = judged(part_of(whole, kept, hidden), whole, case, subject.precision)
    assert verdict.first is not None, verdict.sentence()
    assert (verdict.first.kind, verdict.first.name) == found, verdict.sentence()
    assert judged(
        part_of(healthy("narrow_basic", "train", precision), kept, hidden), whole, case, subject.precision
    ).agrees


def test_a_gradient_of_zeros_behind_a_gap_is_found() -> None:
    case, whole = case_of("narrow_basic", "train"), healthy("narrow_basic", "train", "float32")
    kept = of_blocks(case.graph)
    for key in [key for key in part_of(whole, kept) if key[0].endswith("gradient")][::7]:
        broken = part_of(whole, kept)
        broken.replace(key, np.zeros_like(whole[key]))
        over = [(layer.kind, layer.name) for layer in judged(broken, whole, case, "float32").judged if not layer.agrees]
        assert over[:1] == [key], key


# -- graphs ------------------------------------------------------------------------------------------------------------


def test_windows_have_one_two_or_three_sides() -> None:
    for sides, output in (((9,), (5,)), ((9, 8), (5, 4)), ((9, 8, 7), (5, 4, 4))):
        count = len(sides)
        window = Window((3,) * count, (2,) * count, (1,) * count)
        nodes = (
            Node("a", "conv", ("input",), {"window": window, "groups": 1}, {"weight": "any string"}),
            Node("b", "max pool", ("a",), {"window": window}),
        )
        graph = Graph(nodes, {"input": (2, 3, *sides)}, {"any string": (4, 3, *(3,) * count)}, "b")
        shapes = shapes_of_values(graph)
        assert shapes["a"] == (2, 4, *output)
        assert window.overlap == 2**count


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_declares_how_it_errs(name: str) -> None:
    """What moves data makes its results exactly; what sums says how many terms."""
    operation = OPERATIONS[name]
    graphs = (case_of(model, "train").graph for model in ("narrow_basic", "narrow_gpt"))
    graph, node = next((graph, node) for graph in graphs for node in graph.nodes if operation_of(node) is operation)
    assert operation.errs.way in ("moves", "rounds", "sums", "composed")
    if operation.errs.way == "sums":
        assert operation.errs.terms(node, shapes_of_values(graph)[node.inputs[0]]) > 1
    assert is_loss(node) == (name == "loss")
