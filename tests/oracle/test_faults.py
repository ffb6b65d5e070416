"""Proof that the oracle catches: every fault of the catalogue is put into a subject, and the verdict names its layer.

Here each fault strikes once, in a small network, and the local view judges it; the whole matrix, with every view, is
marked slow (and is what ``lucid-oracle faults`` runs).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from oracle.case.case import Case, standard_case  # noqa: E402
from oracle.cli import run  # noqa: E402
from oracle.errors import UsageError  # noqa: E402
from oracle.faults import CATALOGUE, Draw, find_fault  # noqa: E402
from oracle.faults.bench import Bench, same_bits  # noqa: E402
from oracle.faults.inject import faulty, place  # noqa: E402
from oracle.faults.matrix import Matrix, Outcome, _names, _run, matrix_cases, run_matrix  # noqa: E402
from oracle.faults.table import misses, print_matrix, rows, summary, to_markdown  # noqa: E402
from oracle.judge.local import LocalTruth, local_checks  # noqa: E402
from oracle.judge.verdicts import SubjectVerdict  # noqa: E402
from oracle.resnets import find_architecture  # noqa: E402
from oracle.run import compare_trace  # noqa: E402
from oracle.subjects import find_subject  # noqa: E402
from oracle.subjects.pytorch import TorchSubject  # noqa: E402
from oracle.trace import Kind, Trace  # noqa: E402
from oracle.truth.goldens import Golden  # noqa: E402

CASES = {
    f"{name}-{mode}": Case(find_architecture(f"small_{name}"), mode, "seeded", 48, 3, 0)  # type: ignore[arg-type]
    for name in ("bottleneck", "basic", "grouped", "preact")
    for mode in ("train", "eval")
}
# What changes no bit of these cases: what the catalogue says is no fault, and what needs a subnormal value.
INERT = {"max pool pads with zero", "flush to zero"}
# Less than rounding leaves: the lowest bit of one element. The exact view alone can see it.
BELOW_ROUNDING = {"low bit flipped in an activation"}
# Where the next normalisation takes a constant away, the gradients sum to zero, and forgetting to centre costs nothing;
# and a weight between two blocked channels changes no more than the sign of zeros.
SOMETIMES = {"scale gradient without the mean", "weight's sign", "weight zeroed"}


_SHARED: dict[str, Any] = {}


def local_truth(case: Case) -> LocalTruth:
    if case.name not in _SHARED:
        _SHARED[case.name] = LocalTruth(case, find_subject("lucid:float64").trace(case), "float32", keep=True)
    shared: LocalTruth = _SHARED[case.name]
    return shared


def healthy(case: Case, engine: str) -> Any:
    key = f"{case.name}/{engine}"
    if key not in _SHARED:
        _SHARED[key] = _run(find_subject(engine), case)
    return _SHARED[key]


def first_case(name: str) -> Case:
    fault = find_fault(name)
    return next(case for case in CASES.values() if place(fault, case, 0) is not None)


# -- the catalogue -----------------------------------------------------------------------------------------------------


def test_catalogue() -> None:
    assert len(CATALOGUE) >= 60
    assert {fault.category for fault in CATALOGUE.values()} == {
        "kernel",
        "normalisation",
        "gradient",
        "data",
        "precision",
    }
    assert len({fault.description for fault in CATALOGUE.values()}) == len(CATALOGUE)
    for name, fault in CATALOGUE.items():
        assert fault.name == name
        assert fault.description.endswith("."), name
        assert fault.ops, name


@pytest.mark.parametrize("name", CATALOGUE)
def test_fault_can_strike_a_small_network(name: str) -> None:
    assert first_case(name) is not None


def test_layers_are_drawn_at_random_and_again_the_same() -> None:
    fault, case = find_fault("NaN in one element"), CASES["bottleneck-train"]
    drawn = [place(fault, case, seed) for seed in range(20)]
    assert drawn == [place(fault, case, seed) for seed in range(20)]
    assert len({layer.name for layer in drawn if layer is not None}) > 8
    assert Draw(1, "a").integer(1000) != Draw(2, "a").integer(1000)


def test_a_fault_does_the_same_each_time_its_subject_is_built() -> None:
    """The free view runs one model, the local view another: the same weight has to be wrong in both."""
    fault, case = find_fault("weight off by 1 %"), CASES["bottleneck-eval"]
    layer = place(fault, case, 0)
    assert layer is not None
    subject: Any = faulty("torch", fault, case, layer, 0)
    first, second = (subject.build(case).state_dict()[f"{layer.name}.weight"] for _ in range(2))
    assert torch.equal(first, second)
    assert int((first != torch.from_numpy(case.state[f"{layer.name}.weight"])).sum()) == 1


def test_unknown_fault_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'stale tile'"):
        find_fault("stale tiles")


def test_fault_at_a_layer_that_it_cannot_strike() -> None:
    case = CASES["basic-eval"]
    layer = next(layer for layer in case.graph.nodes if layer.op == "relu")
    with pytest.raises(UsageError, match=r"'stale tile' cannot strike stem\.2"):
        faulty("torch", find_fault("stale tile"), case, layer, 0)
    block = next(layer for layer in case.graph.nodes if layer.op == "sum")
    with pytest.raises(UsageError, match="not into lucid"):
        faulty("lucid", find_fault("shortcut left out"), case, block, 0)


# -- every fault -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE)
def test_fault_is_caught_and_named_by_the_local_view(name: str) -> None:
    """At the first layer drawn where it changes anything (a weight that meets a blocked channel changes nothing)."""
    fault, case = find_fault(name), first_case(name)
    for seed in range(20):
        layer = place(fault, case, seed)
        assert layer is not None
        subject = faulty("torch", fault, case, layer, seed)
        changed = not _run(subject, case).same_bits(healthy(case, "torch"))
        verdict = local_checks([subject], local_truth(case))[0]
        if changed and (name not in SOMETIMES or not verdict.agrees):
            break
    else:
        assert name in INERT
    assert changed == (name not in INERT)
    assert verdict.agrees == (name in INERT | BELOW_ROUNDING), verdict.sentence()
    if not verdict.agrees:
        assert _names(verdict, layer), verdict.sentence()
        over = [each for each in verdict.judged if not each.agrees]
        assert all(each.name == layer.name or each.name.rpartition(".")[0] == layer.name for each in over)


@pytest.mark.parametrize("name", [name for name in CATALOGUE if "lucid" in CATALOGUE[name].engines][::4])
def test_fault_in_lucid_changes_a_bit_first_at_its_layer(name: str) -> None:
    fault, case, different = find_fault(name), first_case(name), []
    before = healthy(case, "lucid").trace
    for seed in range(6):
        layer = place(fault, case, seed)
        assert layer is not None
        left = _run(faulty("lucid", fault, case, layer, seed), case).trace
        different = [key for key in before if key not in left or not same_bits(left[key], before[key])]
        if different and different[0][0] in ("activation", "loss"):
            break
    if name in INERT:
        assert not different
    elif fault.strikes == "statistics":
        assert {kind for kind, _ in different} == {"statistic"}
    elif fault.strikes == "forward":
        assert different[0] in (("activation", layer.name), ("loss", "loss"))
    else:
        assert all(kind in ("activation_gradient", "parameter_gradient") for kind, _ in different)
        assert different


def test_same_fault_does_the_same_in_both_engines() -> None:
    fault, case = find_fault("right edge dropped"), CASES["basic-eval"]
    layer = place(fault, case, 0)
    assert layer is not None
    ours, theirs = (_run(faulty(engine, fault, case, layer, 0), case).trace for engine in ("torch", "lucid"))  # type: ignore[arg-type]
    for key in theirs:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-5)


# -- faults of whole stages, in the standard cases ---------------------------------------------------------------------

Masks = Callable[[torch.Tensor], torch.Tensor]
STAGE_FAULTS: dict[str, tuple[Masks, Masks]] = {  # where the ReLU passes, forward and backward
    "first image's mask": (lambda x: x > 0, lambda x: (x[:1] > 0).expand_as(x)),
    "last image's mask": (lambda x: x > 0, lambda x: (x[-1:] > 0).expand_as(x)),
    "mask of the channel's mean": (lambda x: x > 0, lambda x: (x.mean((2, 3), keepdim=True) > 0).expand_as(x)),
    "mask of any image": (lambda x: x > 0, lambda x: (x > 0).any(0, keepdim=True).expand_as(x)),
    "no mask": (lambda x: x > 0, torch.ones_like),
    "first image's decisions": ((lambda x: (x[:1] > 0).expand_as(x)),) * 2,
}


class Stage(TorchSubject):
    """The ReLUs of one stage decide otherwise."""

    def __init__(self, stage: str, forward: Masks, backward: Masks) -> None:
        super().__init__("no-onednn")
        self.stage, self.passes = stage, (forward, backward)

    def build(self, case: Case) -> torch.nn.Module:
        passes = self.passes

        class Relu(torch.autograd.Function):
            @staticmethod
            def forward(node: Any, x: torch.Tensor) -> torch.Tensor:
                node.passed = passes[1](x)
                return x * passes[0](x)

            @staticmethod
            def backward(node: Any, gradient: torch.Tensor) -> torch.Tensor:
                return gradient * node.passed

        model = super().build(case)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.ReLU) and name.startswith(self.stage):
                module.forward = Relu.apply
        return model


@pytest.mark.parametrize("fault", STAGE_FAULTS)
@pytest.mark.parametrize("model", ["narrow_basic", "narrow_preact"])
def test_a_standard_train_step_sees_the_masks_of_every_stage(model: str, fault: str) -> None:
    """Each passed unseen in the deep stages while every channel had one sign there."""
    golden = Golden.load(f"{model}-train")
    for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
        verdict = compare_trace(Stage(stage, *STAGE_FAULTS[fault]).trace(golden.case), golden)
        first = verdict.cases[0].subjects[0].first
        assert first is not None, stage
        assert first.name.startswith(stage), (stage, first.name)


def test_a_standard_eval_case_sees_the_decisions_of_the_first_image() -> None:
    golden = Golden.load("narrow_basic-eval")
    for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
        verdict = compare_trace(Stage(stage, *STAGE_FAULTS["first image's decisions"]).trace(golden.case), golden)
        first = verdict.cases[0].subjects[0].first
        assert first is not None, stage
        assert first.name.startswith(stage)


# -- faults in what is recorded ----------------------------------------------------------------------------------------

Change = Callable[[Kind, str, np.ndarray], list[tuple[str, np.ndarray]]]


def recorded(change: Change, mode: str = "train") -> SubjectVerdict:
    """The free view of a healthy run of which something was dropped, renamed or changed when it was recorded."""
    case = CASES[f"basic-{mode}"]
    key = f"bench/{mode}"
    if key not in _SHARED:
        _SHARED[key] = Bench(case)
    trace = Trace()
    for kind, name in (healthy_trace := healthy(case, "torch").trace):
        for new_name, array in change(kind, name, healthy_trace[kind, name]):
            trace.record(kind, new_name, array)
    bench: Bench = _SHARED[key]
    return bench.free(find_subject("torch"), trace)


def test_missing_layer_is_named() -> None:
    verdict = recorded(lambda kind, name, array: [] if name == "layer2.0.bn1" else [(name, array)])
    assert verdict.first_forward is not None
    assert (verdict.first_forward.name, verdict.first_forward.status) == ("layer2.0.bn1", "missing")
    assert verdict.first_backward is not None
    assert verdict.first_backward.name == "layer2.0.bn1"


def test_renamed_layer_is_missing_and_unexpected() -> None:
    verdict = recorded(lambda kind, name, array: [(name.replace("maxpool", "pool"), array)], "eval")
    wrong = [(layer.name, layer.status) for layer in verdict.layers if layer.status in ("missing", "unexpected")]
    assert wrong == [("maxpool", "missing"), ("pool", "unexpected")]


def test_infinity_in_a_gradient_is_out_of_line() -> None:
    def spoil(kind: Kind, name: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
        if (kind, name) == ("activation_gradient", "layer4.0.bn2"):
            array = array.copy()
            array.flat[3] = np.inf
        return [(name, array)]

    verdict = recorded(spoil)
    assert verdict.first_backward is not None
    assert (verdict.first_backward.name, verdict.first_backward.status) == ("layer4.0.bn2", "not finite")
    assert "infinity appears in one element" in verdict.first_backward.difference


def test_a_subject_that_leaves_nothing_never_agrees() -> None:
    verdict = recorded(lambda kind, name, array: [])
    assert not verdict.agrees
    # Statistics may be left out: dumps from before they were recorded have none.
    assert {(layer.status, layer.kind == "statistic") for layer in verdict.layers} == {
        ("missing", False),
        ("not observed", True),
    }


# -- the matrix --------------------------------------------------------------------------------------------------------


def outcome(fault: str, changed: bool = True, unseen: str = "", **views: tuple[bool, bool]) -> Outcome:
    caught = {view: each[0] for view, each in views.items()}
    named = {view: each[1] for view, each in views.items() if each[0]}
    found = {view: f"{view} said so" for view in views}
    category = CATALOGUE[fault].category
    return Outcome(fault, category, "torch", "case", "layer", changed, caught, named, found, unseen=unseen)


MADE = Matrix(
    [
        outcome("stale tile", free=(True, True), local=(True, True)),
        outcome("no ReLU", free=(True, True), local=(True, False)),
        outcome("no ReLU", free=(False, False), local=(False, False)),
        outcome("max pool pads with zero", changed=False),
        outcome("flush to zero", changed=False, unseen="it needs a subnormal result"),
    ]
)


def test_matrix_counts() -> None:
    assert [each.fault for each in MADE.inert] == ["max pool pads with zero"]
    assert [each.fault for each in MADE.unseen] == ["flush to zero"]
    assert [each.fault for each in MADE.missed] == ["no ReLU"]
    assert [each.fault for each in MADE.misnamed] == ["no ReLU"]
    assert MADE.caught_share == pytest.approx(2 / 3)
    assert MADE.named_share == pytest.approx(1 / 3)  # the local view is the more precise: its word counts
    told = MADE.to_dict()
    assert (told["injections"], told["changed"], told["caught"], told["named"]) == (5, 3, 2, 1)
    assert (told["inert"], told["unseen"]) == (1, 1)
    assert json.loads(json.dumps(told)) == told


def test_matrix_tables() -> None:
    order = ["stale tile", "no ReLU", "flush to zero", "max pool pads with zero"]
    [stale, relu, flush, pool] = sorted(rows(MADE), key=lambda row: order.index(row.fault))
    assert (stale.caught, stale.named, stale.views) == ("1/1", "1/1", {"free": "1/1", "local": "1/1", "exact": "-"})
    assert (relu.tried, relu.caught, relu.named) == (2, "1/2", "0/2")
    assert (flush.tried, flush.inert, flush.unseen, flush.caught) == (1, 0, 1, "0/0")
    assert (pool.tried, pool.inert, pool.unseen, pool.caught) == (1, 1, 0, "0/0")
    assert "caught 66.67 %, the layer named 33.33 %" in summary(MADE)[1]
    assert len(misses(MADE)) == 2
    assert "| kernel | stale tile | 1 | 0 | 0 | 1/1 | 1/1 | - | 1/1 | 1/1 |" in to_markdown(MADE)


def test_matrix_of_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing would be proved"):
        run_matrix([CASES["basic-eval"]], ["missing mask"])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page = tmp_path / "faults.json", tmp_path / "faults.md"
    small = ["--model", "small_basic", "--mode", "train"]
    done = run(["faults", "missing mask", "no affine part", *small, "--json", str(path), "--markdown", str(page)])
    shown = capsys.readouterr().out
    assert done == 0, shown
    assert "missing mask" in shown
    assert "caught 100.00 %" in shown
    told = json.loads(path.read_text())
    assert told["faults"] == 2
    assert told["injections"] == 4
    assert {each["engine"] for each in told["outcomes"]} == {"torch", "lucid"}
    assert page.read_text().startswith("| | fault")


def test_a_batch_of_one_is_a_blind_spot_and_never_inert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "faults.md"
    names = ["missing mask", "mask of the first image", "flush to zero", "max pool pads with zero"]
    small = ["--model", "small_basic", "--mode", "train", "--engine", "torch", "--batch", "1"]
    assert run(["faults", *names, *small, "--markdown", str(page)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 changed a bit, 1 are inert (they change no bit of any case), and 2 cannot be seen by their case" in shown
    told = page.read_text().partition("What this case cannot see:")[2]
    assert "| small_basic-train | mask of the first image | - | it needs more than one image |" in told
    assert "| flush to zero |" in told
    assert "max pool" not in told


@pytest.mark.parametrize("every", [False, True])
def test_the_table_has_a_row_a_category_or_a_fault(every: bool) -> None:
    from rich.console import Console

    faults = [fault for fault in CATALOGUE.values() if fault.category == "kernel"]
    struck = [Outcome(f.name, f.category, "torch", "c", "l", True, {"free": True}, {"free": True}) for f in faults]
    print_matrix(Matrix(struck), Console(file=(out := io.StringIO()), width=160), every=every)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("│")]
    assert len(lines) == (len(faults) if every else 1)
    assert (f"{len(faults)} faults" in lines[0]) == (not every)


def test_command_lists_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["faults", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in CATALOGUE)


def test_command_says_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["faults", "no such fault"]) == 2
    assert "fault: got 'no such fault'" in capsys.readouterr().err
    assert run(["faults", "--json", "/nowhere/faults.json"]) == 2
    assert "there is no directory /nowhere" in capsys.readouterr().err


def test_a_missed_fault_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["low bit flipped in an activation", "--model", "small_basic", "--mode", "train", "--engine", "torch"]
    assert run(["faults", *arguments, "-q"]) == 1
    assert "missed: low bit flipped" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.record
def test_whole_matrix() -> None:
    """At least 99 % of what changes any bit is caught, at least 95 % named at the right layer."""
    matrix = run_matrix(matrix_cases())
    assert len({each.fault for each in matrix.live}) > 100
    assert matrix.caught_share >= 0.99, misses(matrix)
    assert matrix.named_share >= 0.95, misses(matrix)


@pytest.mark.slow
@pytest.mark.record
def test_every_fifth_fault_in_resnet_50() -> None:
    case = standard_case(find_architecture("resnet_50"), "train")
    matrix = run_matrix(
        [case], [name for name in list(CATALOGUE)[::5] if name not in BELOW_ROUNDING], engines=("torch",)
    )
    assert len(matrix.live) > 15
    assert matrix.caught_share >= 0.98, misses(matrix)
    assert matrix.named_share >= 0.95, misses(matrix)
