"""The own view: healthy runs agree in every precision, and a fault is found where the budget of a run drowns it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from oracle.case.case import Case  # noqa: E402
from oracle.graph.graph import Window  # noqa: E402
from oracle.graph.model import Mode  # noqa: E402
from oracle.judge.lean import lean, repeats  # noqa: E402
from oracle.judge.own import own_check  # noqa: E402
from oracle.judge.pieces import NOTE as PIECE  # noqa: E402
from oracle.judge.ties import pool_gradients  # noqa: E402
from oracle.judge.verdicts import SubjectVerdict, View  # noqa: E402
from oracle.precision.rounding import ROUNDINGS, Deviation, mean_square, round_to  # noqa: E402
from oracle.resnets import find_architecture  # noqa: E402
from oracle.run import compare_trace, run_case  # noqa: E402
from oracle.subjects import find_subject  # noqa: E402
from oracle.subjects.file import file_name  # noqa: E402
from oracle.subjects.pytorch import TorchSubject  # noqa: E402
from oracle.testing import assert_matches_golden, tensors_compared  # noqa: E402
from oracle.trace import (  # noqa: E402
    Key,
    Recorder,
    Trace,
    execution_order,
)
from oracle.truth.goldens import Golden  # noqa: E402


@cache
def case_of(model: str, mode: Mode, seed: int = 0) -> Case:
    architecture = find_architecture(model)
    return Case(architecture, mode, "seeded", *architecture.standard_shape(mode), seed, None)


@cache
def healthy(model: str, mode: Mode, subject: str, seed: int = 0) -> Trace:
    return find_subject(subject).trace(case_of(model, mode, seed))


def judged(trace: Trace, case: Case, subject: str, whole: Trace | None = None) -> SubjectVerdict:
    whole = trace if whole is None else whole
    precision = find_subject(subject).precision
    return own_check(trace, case, precision, execution_order(whole), lambda key: whole[key].shape, subject)  # type: ignore[arg-type]


def changed(trace: Trace, change: Callable[[Key, np.ndarray], np.ndarray | None]) -> Trace:
    found = Trace()
    for key in trace:
        array = change(key, trace[key])
        if array is not None:
            found.record(*key, array)
    return found


# -- healthy runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("subject", ["torch", "torch:no-onednn", "torch:channels_last", "torch:bfloat16", "lucid"])
@pytest.mark.parametrize("model", ["narrow_basic", "narrow_preact", "small_bottleneck", "small_grouped"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_healthy_runs_agree(model: str, mode: Mode, subject: str, seed: int) -> None:
    verdict = judged(healthy(model, mode, subject, seed), case_of(model, mode, seed), subject)
    assert verdict.agrees, verdict.sentence()
    assert len(verdict.judged) > 0.8 * len(verdict.layers), verdict.sentence()


@pytest.mark.parametrize("level", ["optimized", "extended", "basic", "unoptimized"])
def test_onnx_runtime_agrees_at_every_level(level: str) -> None:
    pytest.importorskip("onnxruntime")
    subject = f"onnxruntime:{level}"
    verdict = judged(healthy("narrow_preact", "eval", subject), case_of("narrow_preact", "eval"), subject)
    assert verdict.agrees, verdict.sentence()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("model", ["small_preact", "small_basic"])
def test_a_run_in_float32_that_is_dumped_in_low_precision_agrees(model: str, precision: str) -> None:
    """Gradients too that are near the smallest normal number of float16, whose rounding is not in proportion, and
    behind a max pooling whose largest elements the rounding made equal."""
    trace, case = healthy(model, "train", "torch"), case_of(model, "train")
    dumped = changed(trace, lambda key, array: round_to(array, precision))
    verdict = own_check(dumped, case, precision, execution_order(trace), lambda key: trace[key].shape, "a dump")
    assert verdict.agrees, verdict.sentence()


# -- faults ------------------------------------------------------------------------------------------------------------


def apart(trace: Trace, most: int) -> list[set[Key]]:
    """Every tensor once, up to so many of one kind together, so far apart that zeros in one excuse no other's."""
    found = []
    for kind in dict.fromkeys(key[0] for key in trace):
        keys = [key for key in trace if key[0] == kind]
        step = -(-len(keys) // most)
        found += [set(keys[start::step]) for start in range(step)]
    return found


@pytest.mark.parametrize("subject", ["torch", "torch:bfloat16"])
def test_any_tensor_of_zeros_is_found(subject: str) -> None:
    """In bfloat16 too, where the budget of a whole run exceeds the signal."""
    trace, case = healthy("narrow_basic", "train", subject), case_of("narrow_basic", "train")
    for zeroed in apart(trace, 4):
        broken = changed(trace, lambda key, array, zeroed=zeroed: np.zeros_like(array) if key in zeroed else array)  # type: ignore[misc]
        verdict = judged(broken, case, subject)
        assert {(each.kind, each.name) for each in verdict.layers if each.status == "over"} >= zeroed


def test_gradients_that_were_never_computed_disagree_in_bfloat16() -> None:
    golden = Golden.load("narrow_basic-train")
    trace = find_subject("torch:bfloat16").trace(golden.case)
    drowned = {key for key in trace if key[0] == "parameter_gradient" and golden.budget(key, "bfloat16").rms > 1.0}
    assert drowned
    broken = changed(trace, lambda key, array: np.zeros_like(array) if key in drowned else array)
    free, own = compare_trace(broken, golden, "bfloat16").cases[0].subjects
    assert free.agrees
    assert not {(layer.kind, layer.name) for layer in free.judged} & drowned
    assert {(layer.kind, layer.name) for layer in own.judged if not layer.agrees} == drowned
    before = tensors_compared()
    assert_matches_golden(trace, golden, "bfloat16")
    assert tensors_compared() - before > len(free.judged)  # what one view cannot judge, the other does


def first_image(array: np.ndarray) -> np.ndarray:
    return np.broadcast_to(array[:1], array.shape)


FAULTS: dict[str, tuple[str, Callable[[Trace, str, str], np.ndarray]]] = {
    "the mask of the first image": (
        "relu1",
        lambda trace, name, taker: np.where(
            first_image(trace["activation", taker]) > 0, trace["activation_gradient", taker], 0
        ),
    ),
    "no mask": ("relu1", lambda trace, name, taker: trace["activation_gradient", taker]),
}


@pytest.mark.parametrize("subject", ["torch", "torch:bfloat16"])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_relu_are_found(fault: str, subject: str) -> None:
    trace, case = healthy("small_bottleneck", "train", subject), case_of("small_bottleneck", "train")
    taker, wrong = "layer1.0.relu1", ("activation_gradient", "layer1.0.bn1")
    broken = changed(trace, lambda key, array: FAULTS[fault][1](trace, key[1], taker) if key == wrong else array)
    verdict = judged(broken, case, subject)
    assert verdict.first_backward is not None
    assert ("activation_gradient", verdict.first_backward.name) == wrong


# -- errors of one sign, below one rounding of an element --------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 1.02, 0.98])
@pytest.mark.parametrize(
    "key",
    [
        ("activation", "stem.0"),
        ("activation", "layer2.0.bn1"),
        ("activation", "layer1.1"),
        ("activation_gradient", "layer1.0.relu2"),
        ("activation_gradient", "layer3.1.conv2"),
        ("parameter_gradient", "stem.0.weight"),
    ],
)
def test_a_factor_is_found_in_bfloat16(key: Key, factor: float) -> None:
    trace, case = healthy("small_preact", "train", "torch:bfloat16"), case_of("small_preact", "train")
    wrong = changed(
        trace, lambda each, array: round_to(array * np.float32(factor), "bfloat16") if each == key else array
    )
    [found] = [layer for layer in judged(wrong, case, "torch:bfloat16").layers if (layer.kind, layer.name) == key]
    assert found.agrees == (factor == 1.0), found


@pytest.mark.parametrize("store", ["nearest", "truncated"])
def test_a_truncating_store_is_found_in_bfloat16(store: str) -> None:
    trace, case = healthy("small_preact", "train", "torch:bfloat16"), case_of("small_preact", "train")
    weight = torch.from_numpy(round_to(case.state["stem.0.weight"], "bfloat16"))
    image = torch.from_numpy(round_to(case.input, "bfloat16"))
    whole = torch.nn.functional.conv2d(image, weight, stride=2, padding=3).numpy()
    cut = (whole.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    output: Key = ("activation", "stem.0")
    made = cut if store == "truncated" else round_to(whole, "bfloat16")
    wrong = changed(trace, lambda each, array: made if each == output else array)
    [found] = [layer for layer in judged(wrong, case, "torch:bfloat16").layers if (layer.kind, layer.name) == output]
    assert found.agrees == (store == "nearest"), found
    assert ("along the tensor itself" in found.note) == (store == "truncated")


def test_equal_neighbours_and_equal_numbers_are_rounded_alike() -> None:
    """Every element is the same number, whose rounding is no error of one sign."""
    exact = np.full((4, 4, 8, 8), 1.0 + 2.0**-9)
    stored = round_to(exact, "bfloat16")
    bfloat16 = ROUNDINGS["bfloat16"]
    made = Deviation(mean_square(bfloat16.store) * exact**2)
    measured, allowed = lean(stored, exact, 1, made, 0.0, bfloat16)
    assert 1e-3 < abs(measured) < allowed
    planes = np.repeat(np.arange(1.0, 17.0), 64).reshape(4, 4, 8, 8)
    assert repeats(planes) == 64.0


# -- parts of a trace --------------------------------------------------------------------------------------------------


def test_what_has_no_ancestors_in_the_trace_is_judged_from_the_nearest_that_are() -> None:
    trace, case = healthy("narrow_basic", "train", "torch"), case_of("narrow_basic", "train")
    kept = {("activation", "layer1.0.conv1"), ("activation", "layer1.0.bn1"), ("activation_gradient", "layer1.0.bn1")}
    part = changed(trace, lambda key, array: array if key in kept else None)
    verdict = judged(part, case, "torch", trace)
    told = {(layer.kind, layer.name): (layer.status, layer.note) for layer in verdict.observed}
    assert told == {
        ("activation", "layer1.0.conv1"): ("within", PIECE),
        ("activation", "layer1.0.bn1"): ("within", ""),
        ("activation_gradient", "layer1.0.bn1"): ("within", PIECE),
    }


@pytest.mark.parametrize("absent", ["activation", "activation_gradient"])
def test_the_gradient_of_an_output_is_made_by_all_that_take_it(absent: str) -> None:
    """A block's input has two consumers; without the gradient or the input of one it is judged over a longer piece, in
    which both count."""
    trace, case = healthy("narrow_basic", "train", "torch"), case_of("narrow_basic", "train")
    gone: Key = (
        ("activation_gradient", "layer1.0.conv1") if absent == "activation_gradient" else ("activation", "maxpool")
    )
    part, wanted = changed(trace, lambda key, array: None if key == gone else array), ("activation_gradient", "maxpool")
    verdict = judged(part, case, "torch", trace)
    assert verdict.agrees, verdict.sentence()
    [found] = [each for each in verdict.layers if (each.kind, each.name) == wanted]
    assert (found.status, found.note) == ("within", PIECE)
    alone = trace["activation_gradient", "layer1.0"] * (
        trace["activation", "layer1.0"] > 0
    )  # what one of them hands back
    broken = changed(part, lambda key, array: alone if key == wanted else array)
    [found] = [each for each in judged(broken, case, "torch", trace).layers if (each.kind, each.name) == wanted]
    assert found.status == "over"


@pytest.mark.parametrize(
    ("array", "status"),
    [
        (lambda array: array[:, :1], "shape"),
        (lambda array: np.where(np.arange(array.size).reshape(array.shape) == 3, np.nan, array), "not finite"),
    ],
)
def test_misshapen_and_not_finite_tensors_judge_no_other(
    array: Callable[[np.ndarray], np.ndarray], status: str
) -> None:
    trace, case = healthy("narrow_basic", "train", "torch"), case_of("narrow_basic", "train")
    for wrong in [
        ("activation", "layer1.0.conv1"),
        ("activation_gradient", "layer1.0.conv2"),
        ("activation", "maxpool"),
    ]:
        broken = changed(trace, lambda key, each, wrong=wrong: array(each) if key == wrong else each)  # type: ignore[misc]
        verdict = judged(broken, case, "torch", trace)
        assert [(each.kind, each.name, each.status) for each in verdict.judged if not each.agrees] == [(*wrong, status)]


# -- ties of the max pooling -------------------------------------------------------------------------------------------


def windows(image: np.ndarray) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Of one plane: for each window its place and its largest elements, in order."""
    found = []
    for row in range((image.shape[0] + 1) // 2):
        for column in range((image.shape[1] + 1) // 2):
            places = [
                (y, x)
                for y in range(max(0, 2 * row - 1), min(image.shape[0], 2 * row + 2))
                for x in range(max(0, 2 * column - 1), min(image.shape[1], 2 * column + 2))
            ]
            top = max(image[place] for place in places)
            found.append((row, column, [place for place in places if image[place] == top]))
    return found


def placed(image: np.ndarray, gradient: np.ndarray, convention: str) -> np.ndarray:
    """The gradient of the max pooling's input where ties go to the first, the last, all alike, or twice."""
    made = np.zeros(image.shape)
    for plane in np.ndindex(image.shape[:2]):
        for row, column, equal in windows(image[plane]):
            dy = gradient[(*plane, row, column)]
            shares = {
                "first": [1.0] + [0.0] * (len(equal) - 1),
                "last": [0.0] * (len(equal) - 1) + [1.0],
                "shared": [1 / len(equal)] * len(equal),
                "twice": [1.0] * len(equal),
            }[convention]
            for share, place in zip(shares, equal, strict=True):
                made[plane][place] += share * dy
    return made


@pytest.mark.parametrize("convention", ["first", "last", "shared", "twice"])
def test_a_tie_may_go_to_any_of_equal_elements(convention: str) -> None:
    generator = np.random.default_rng(1)
    image = generator.integers(1, 4, (2, 3, 9, 8)).astype(np.float64)
    gradient = generator.standard_normal((2, 3, 5, 4))
    found = placed(image, gradient, convention)
    candidates, ties = pool_gradients(image, gradient, found, Window((3, 3), (2, 2), (1, 1)))
    assert ties > 10
    met = any((np.abs(each - found) <= 1e-3 * reach + 1e-12).all() for each, reach in candidates)
    assert met == (convention != "twice")


@pytest.mark.parametrize("convention", ["first", "last", "shared", "twice"])
def test_the_own_view_names_a_tie(convention: str) -> None:
    """A bfloat16 image has ties above zero, and many of zeros."""
    trace, case = healthy("narrow_basic", "train", "torch:bfloat16"), case_of("narrow_basic", "train")
    key: Key = ("activation_gradient", "stem.2")
    image, gradient = (
        trace[kind, name] for kind, name in (("activation", "stem.2"), ("activation_gradient", "maxpool"))
    )
    moved = placed(image, gradient, convention).astype(np.float32)
    trace = changed(trace, lambda each, array: moved if each == key else array)
    verdict = judged(trace, case, "torch:bfloat16")
    [found] = [layer for layer in verdict.layers if (layer.kind, layer.name) == key]
    assert found.agrees == (convention != "twice"), found
    assert ("equal largest elements" in found.note) == (convention in ("last", "shared"))


# -- the statistics that are kept --------------------------------------------------------------------------------------


def kept_wrongly(fault: str, case: Case, trace: Trace) -> Trace:
    """A trace whose first normalisation keeps its statistics wrongly."""
    layer = "stem.1"
    images = trace["activation", "stem.0"].astype(np.float64)
    mean, var, count = images.mean((0, 2, 3)), images.var((0, 2, 3)), images.size // images.shape[1]
    unbiased = var * count / (count - 1)
    old = {name: case.state[f"{layer}.{name}"].astype(np.float64) for name in ("running_mean", "running_var")}
    momentum = 0.9 if fault == "momentum" else 0.0 if fault == "not updated" else 0.1
    new = {"running_mean": mean, "running_var": var if fault == "biased" else unbiased}
    if fault == "exchanged":
        new = {"running_mean": unbiased, "running_var": mean}
    wrong = {f"{layer}.{name}": ((1 - momentum) * old[name] + momentum * new[name]) for name in old}
    return changed(trace, lambda key, array: wrong[key[1]].astype(np.float32) if key[1] in wrong else array)


@pytest.mark.parametrize("fault", ["", "momentum", "not updated", "biased", "exchanged"])
def test_statistics_are_judged_in_every_view(fault: str) -> None:
    architecture = find_architecture("narrow_basic")
    case = Case(architecture, "train", "seeded", 64, 2, 4, None)

    class Keeper(TorchSubject):
        def run(self, case: Case, recorder: Recorder) -> None:
            kept_wrongly(fault, case, find_subject("torch").trace(case)).replay(recorder)

    verdict = run_case(case, [Keeper()], views=["free", "own"])
    wrong = {"biased": {"stem.1.running_var"}, "": set()}.get(fault, {"stem.1.running_mean", "stem.1.running_var"})
    for subject in verdict.subjects:
        found = {layer.name for layer in subject.judged if not layer.agrees}
        assert found == wrong, (fault, subject.view)
    assert all(sum(layer.kind == "statistic" for layer in subject.judged) == 24 for subject in verdict.subjects)


@pytest.mark.parametrize("subject", ["torch", "lucid", "torch:bfloat16"])
def test_subjects_record_what_they_keep(subject: str) -> None:
    case = case_of("narrow_basic", "train")
    names = [name for name in case.state if name.endswith(("running_mean", "running_var"))]
    assert healthy("narrow_basic", "train", subject).names("statistic") == names
    assert not healthy("narrow_basic", "eval", subject).names("statistic")


def test_traces_without_statistics_agree_and_say_so() -> None:
    golden = Golden.load("narrow_basic-train")
    trace = changed(
        find_subject("torch").trace(golden.case), lambda key, array: None if key[0] == "statistic" else array
    )
    [case] = compare_trace(trace, golden).cases
    assert case.agrees
    own = case.subjects[-1]
    assert [layer.status for layer in own.layers if layer.kind == "statistic"] == ["not observed"] * 24
    assert "24 not observed" in own.sentence()


@pytest.mark.parametrize("prefix", ["statistic/", ""])
def test_a_file_may_hold_statistics_under_the_names_of_a_state_dictionary(prefix: str) -> None:
    golden = Golden.load("narrow_basic-train")
    trace = find_subject("torch").trace(golden.case)
    tensors = {(prefix + key[1] if key[0] == "statistic" else file_name(key)): trace[key] for key in trace}
    own = assert_matches_golden(tensors, golden).cases[0].subjects[-1]
    assert sum(layer.kind == "statistic" for layer in own.judged) == 24


class LastOfEquals(torch.nn.Module):
    """A max pooling whose gradient goes to the last of equal elements."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, (1, 0, 1, 0), value=-torch.inf).flip(2, 3)
        return torch.nn.functional.max_pool2d(padded, 3, 2).flip(2, 3)


class OtherTies(TorchSubject):
    """PyTorch with another convention for ties; ``wrong`` sends the gradient to elements that are not the largest."""

    wrong = False

    def build(self, case: Case) -> torch.nn.Module:
        model = super().build(case)
        model.maxpool = torch.nn.AvgPool2d(3, 2, 1) if self.wrong else LastOfEquals()  # type: ignore[assignment]
        return model


@pytest.mark.parametrize("view", ["free", "own", "local"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_another_convention_for_ties_is_legal_in_every_view(precision: str, view: View) -> None:
    case = case_of("narrow_basic", "train")
    verdict = run_case(case, [OtherTies(precision)], views=[view])
    assert verdict.agrees, verdict.subjects[0].sentence()
    if view != "local" and precision == "bfloat16":
        notes = {layer.name for layer in verdict.subjects[0].layers if "equal largest elements" in layer.note}
        assert view == "free" or notes == {"stem.2"}
    faulty = OtherTies(precision)
    faulty.wrong = True
    assert not run_case(case, [faulty], views=[view]).agrees
