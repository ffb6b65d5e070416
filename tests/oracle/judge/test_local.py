"""The local view: its exact results, its error model, that the healthy pass it, and that one wrong weight does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lucid.backends import backend_for  # noqa: E402
from oracle.case.case import Case, seeded_uniform  # noqa: E402
from oracle.errors import UsageError  # noqa: E402
from oracle.graph.graph import Node, Window  # noqa: E402
from oracle.judge.exact import expected  # noqa: E402
from oracle.judge.local import LocalTruth, judge_local, local_check, local_checks  # noqa: E402
from oracle.judge.verdicts import LayerVerdict, SubjectVerdict  # noqa: E402
from oracle.operations.operation import Feed  # noqa: E402
from oracle.precision.rounding import ROUNDINGS, chain, limit, mean_square, plain_chain, round_to  # noqa: E402
from oracle.resnets import ARCHITECTURES, SMALL, Architecture  # noqa: E402
from oracle.resnets.twin import ResNet, layers  # noqa: E402
from oracle.subjects import Subject, find_subject  # noqa: E402
from oracle.trace import KINDS as KINDS_OF_TRACES  # noqa: E402
from oracle.trace import Recorder, Trace  # noqa: E402

KINDS = [name.removeprefix("small_") for name in SMALL]
DEEP = Architecture(
    "narrow_deep", "basic", (1, 1, 1, 1), num_classes=10, stem_width=8, stem_type="deep", channels=(8, 8, 16, 16)
)


def case_of(name: str, mode: str, seed: int = 0, source: str = "seeded") -> Case:
    architecture = DEEP if name == "deep" else SMALL[f"small_{name}"]
    return Case(architecture, mode, source, 64, 2, seed)  # type: ignore[arg-type]


_TRUTHS: dict[Case, Trace] = {}


def truth_of(case: Case) -> Trace:
    if case not in _TRUTHS:
        _TRUTHS[case] = find_subject("lucid:float64").trace(case)
    return _TRUTHS[case]


# -- the list of layers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ARCHITECTURES, "deep"])
def test_layers_are_those_of_the_twin(name: str) -> None:
    architecture = DEEP if name == "deep" else ARCHITECTURES[name]
    with torch.device("meta"):
        twin = ResNet(architecture)
    modules = dict(twin.named_modules())
    found = [layer for layer in architecture.graph().nodes if layer.op != "loss"]
    assert sorted(layer.name for layer in found) == sorted(path for path, _ in layers(twin))
    for layer in found:
        if layer.op == "conv":
            module = modules[layer.name]
            assert (module.kernel_size, module.stride, module.padding, module.groups) == (
                layer.window.kernel,
                layer.window.stride,
                layer.window.padding,
                layer.attributes["groups"],
            ), layer.name


@pytest.mark.parametrize("name", [*KINDS, "deep"])
def test_layers_take_what_the_twin_feeds_them(name: str) -> None:
    case = case_of(name, "eval")
    trace = find_subject("torch").trace(case)
    inputs: dict[str, Any] = {}
    twin = find_subject("torch").build(case)  # type: ignore[attr-defined]
    for path, module in layers(twin):
        module.register_forward_pre_hook(lambda _m, given, path=path: inputs.update({path: given[0].detach().numpy()}))
    with torch.no_grad():
        twin(torch.from_numpy(case.input))
    for layer in case.graph.nodes:
        if layer.op == "loss":
            continue
        took = layer.source if layer.op == "sum" else layer.inputs[0]
        fed = case.input if took == "input" else trace["activation", took]
        np.testing.assert_array_equal(inputs[layer.name], fed, err_msg=layer.name)


# -- what each layer should make ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", [*KINDS, "deep"])
def test_exact_results_are_pytorchs_in_float64(name: str, mode: str) -> None:
    """Every output, gradient and statistic, to a few unit roundoffs of float64."""
    case = case_of(name, mode)
    verdict = local_check(find_subject("torch:float64"), truth_of(case), case, "float64")
    assert verdict.agrees, verdict.sentence()
    assert max(layer.error for layer in verdict.layers if layer.kind == "activation") < 1e-14
    kinds = {layer.kind for layer in verdict.layers}
    assert kinds == ({"activation"} if mode == "eval" else set(KINDS_OF_TRACES))


def test_order_of_the_verdicts_is_that_of_execution() -> None:
    case = case_of("basic", "train")
    verdict = local_check(find_subject("lucid"), truth_of(case), case, "float32")
    forward = [layer.name for layer in verdict.layers if layer.kind in ("activation", "loss")]
    backward = [layer.name for layer in verdict.layers if layer.kind == "activation_gradient"]
    names = [layer.name for layer in case.graph.nodes]
    assert [name for name in forward if not name.endswith(("_mean", "_var"))] == names
    assert backward == [name for name in reversed(names) if name != "stem.0"]  # nobody asks for the image's gradient
    keys = [(layer.kind, layer.name) for layer in verdict.layers]
    assert len(set(keys)) == len(keys)


# -- the error model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [1, 2, 9, 147, 4608])
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_one_sequential_chain_stays_within_its_variance_and_near_it(terms: int, mean: float) -> None:
    generator = np.random.default_rng(terms)
    a = (generator.standard_normal((512, terms)) + mean).astype(np.float32)
    b = generator.standard_normal((512, terms)).astype(np.float32)
    total = np.zeros(512, np.float32)
    for k in range(terms):
        total += a[:, k] * b[:, k]
    products = a.astype(np.float64) * b.astype(np.float64)
    exact, squares = products.sum(1), np.square(products).sum(1)
    found = np.sqrt(np.square(total - exact).mean())
    model = np.sqrt(chain(2.0**-24, terms, exact, squares).mean())
    assert 0.1 * model < found < model


@pytest.mark.parametrize(
    ("own", "shared", "own_count", "shared_count", "wanted"),
    [
        (4.0, 0.0, 1, 1, 2 * (1 + 7.43384)),
        (0.0, 9.0, 1, 1, 3 * (1 + 7.43384)),
        (4.0, 9.0, 16, 64, 2 * (1 + 7.43384 / 4) + 3 * (1 + 7.43384 / 8)),
        (4.0, 9.0, 64, 16, 2 * (1 + 7.43384 / 8) + 3 * (1 + 7.43384 / 4)),
        (4.0, 9.0, 1e9, 1e9, 5 * (1 + 7.43384 / 8)),  # as 64 independent errors at most
        (4.0, 9.0, 0.1, 0.1, 5 * (1 + 7.43384)),  # and as one at least
    ],
)
def test_the_limit_of_so_many_errors(
    own: float, shared: float, own_count: float, shared_count: float, wanted: float
) -> None:
    """``sqrt(v) (1 + sqrt(2 t / n))``, where ``e**-t`` is 1e-12."""
    found = limit(np.array(own), np.array(shared), own_count, shared_count)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("order", ["drawn", "sorted"])
def test_one_plain_sum_stays_within_its_variance_in_any_order(order: str) -> None:
    values = np.random.default_rng(0).standard_normal((256, 2048)).astype(np.float32)
    values = np.sort(values, axis=1) if order == "sorted" else values
    total = np.zeros(256, np.float32)
    for k in range(values.shape[1]):
        total += values[:, k]
    exact = values.astype(np.float64).sum(1)
    found = np.sqrt(np.square(total - exact).mean())
    assert found < np.sqrt(plain_chain(2.0**-24, 2048, np.abs(values.astype(np.float64)).sum(1)).mean())


def test_rounding_to_a_precision() -> None:
    values = np.random.default_rng(0).standard_normal(10_000)
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16), ("float32", torch.float32)):
        theirs = torch.from_numpy(values.astype(np.float32)).to(dtype).float().numpy()
        np.testing.assert_array_equal(round_to(values, precision), theirs)  # type: ignore[arg-type]
        unit = ROUNDINGS[precision].store  # type: ignore[index]
        assert np.abs(theirs / values.astype(np.float32) - 1).max() <= unit * (1 + 1e-3)
        assert round_to(np.array(1.0), precision).shape == ()
    assert np.isnan(round_to(np.array([np.nan]), "bfloat16")).all()
    assert mean_square(1.0) == pytest.approx(1 / 3)


# -- the healthy -------------------------------------------------------------------------------------------------------


def assert_healthy(verdicts: list[SubjectVerdict]) -> None:
    for verdict in verdicts:
        assert verdict.agrees, verdict.sentence()
        assert len(verdict.layers) > 40


HEALTHY = ["torch", "torch:no-onednn", "torch:channels_last", "lucid"]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", [*KINDS, "deep", "photo", "reference"])
def test_healthy_subjects_agree(name: str, mode: str) -> None:
    case = (
        case_of("basic", mode, source="photo") if name == "photo" else case_of(name.replace("reference", "deep"), mode)
    )
    names = HEALTHY + (["onnxruntime", "onnxruntime:unoptimized"] if mode == "eval" else [])
    names = ["lucid:reference"] if name == "reference" else names
    subjects = [find_subject(each) for each in names]
    assert_healthy(local_checks(subjects, LocalTruth(case, truth_of(case), "float32")))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", ["basic", "bottleneck", "preact"])
def test_healthy_low_precision_agrees(name: str, mode: str, precision: str) -> None:
    """PyTorch at what it declares: which sums it keeps in the storage type depends on the processor."""
    case = case_of(name, mode)
    subject = find_subject(f"torch:{precision}")
    assert subject.precision == f"{precision}, sums in {precision}"
    assert_healthy([local_check(subject, truth_of(case), case, subject.precision)])


def test_lower_precision_is_over_the_budget_of_a_higher() -> None:
    """bfloat16 where float32 was said: every contraction and normalisation is over."""
    case = case_of("basic", "train")
    verdict = local_check(find_subject("torch:bfloat16"), truth_of(case), case, "float32")
    over = {layer.name for layer in verdict.layers if not layer.agrees and layer.kind == "activation"}
    rounding = {layer.name for layer in case.graph.nodes if layer.op in ("conv", "norm", "linear")}
    assert rounding <= over


# -- one wrong weight --------------------------------------------------------------------------------------------------


def sequential(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A 1x1 convolution as one sequential float32 chain a result: the worst healthy order."""
    total = np.zeros((x.shape[0], weight.shape[0], *x.shape[2:]), np.float32)
    for channel in range(x.shape[1]):
        total += x[:, channel : channel + 1] * weight[:, channel].reshape(1, -1, 1, 1)
    return total


def conv(kernel: int) -> Node:
    window = Window((kernel,) * 2, (1, 1), (kernel // 2,) * 2)
    return Node("conv", "conv", ("input",), {"window": window, "groups": 1}, {"weight": "weight"})


def verdict_of(layer: Node, x: np.ndarray, weight: np.ndarray, y: np.ndarray) -> LayerVerdict:
    feed = Feed((x,), None, {"weight": weight}, np.zeros(1, np.int64), training=False)
    [wanted] = expected(layer, feed, ROUNDINGS["float32"])
    return judge_local(wanted, y)


@pytest.mark.parametrize(
    ("channels", "kernel", "side"),
    [(512, 3, 7), (64, 3, 16), (64, 1, 16), (2048, 1, 7), (3, 7, 16), (512, 3, 2)],
    ids=lambda value: str(value),
)
def test_one_weight_off_by_one_percent_is_over(channels: int, kernel: int, side: int) -> None:
    """The channel of the wrong weight is named, by its root mean square; the healthy convolution is far below."""
    layer = conv(kernel)
    x = np.maximum(seeded_uniform(0, "x", (2, channels, side, side), spread=2.0), 0).astype(np.float32)
    weight = seeded_uniform(0, "w", (16, channels, kernel, kernel), scale=0.05).astype(np.float32)
    backend = backend_for("cpu")

    def convolved(weight: np.ndarray) -> np.ndarray:
        return np.asarray(backend.conv2d(x, weight, None, (1, 1), (kernel // 2,) * 2, (1, 1), 1))

    healthy = verdict_of(layer, x, weight, convolved(weight))
    assert healthy.agrees
    assert healthy.used < 0.5
    wrong = weight.copy()
    centre = np.abs(weight[5, :, kernel // 2, kernel // 2])  # a tap that meets more than padding
    wrong[5, np.argsort(centre)[channels // 2], kernel // 2, kernel // 2] *= np.float32(1.01)
    found = verdict_of(layer, x, weight, convolved(wrong))
    assert not found.agrees
    assert found.channel == 5
    assert found.channel_share > 1
    assert found.difference == "" or "channel" in found.difference


def test_the_worst_healthy_order_is_within() -> None:
    layer = conv(1)
    x = np.maximum(seeded_uniform(0, "x", (2, 2048, 4, 4), spread=2.0), 0).astype(np.float32)
    weight = seeded_uniform(0, "w", (32, 2048, 1, 1), scale=0.05).astype(np.float32)
    assert verdict_of(layer, x, weight, sequential(x, weight)).agrees
    assert verdict_of(layer, x, np.abs(weight), sequential(x, np.abs(weight))).agrees


# -- subjects ----------------------------------------------------------------------------------------------------------


class Whole(Subject):
    label = "whole"

    def run(self, case: Case, recorder: Recorder) -> None:
        recorder.record("activation", "fc", np.zeros((1, 10)))


def test_a_subject_that_cannot_be_driven_is_told_so() -> None:
    case = case_of("basic", "eval")
    with pytest.raises(UsageError, match="whole cannot be driven layer by layer"):
        local_check(Whole(), truth_of(case), case, "float32")
    assert find_subject("torch:compile").layerwise(case) is None
    assert find_subject("onnxruntime:fused").layerwise(case) is None


def test_a_layer_that_fails_is_named_and_the_others_are_judged() -> None:
    case = case_of("basic", "eval")
    subject: Any = find_subject("torch")
    build = subject.build

    def broken(case: Case) -> Any:
        def fail(_x: Any) -> None:
            raise RuntimeError("out of registers")

        model = build(case)
        model.get_submodule("layer2.0.conv2").forward = fail
        return model

    subject.build = broken
    verdict = local_check(subject, truth_of(case), case, "float32")
    assert not verdict.agrees
    assert verdict.failure == "layer2.0.conv2: RuntimeError: out of registers"
    assert [layer.name for layer in verdict.layers if not layer.agrees] == ["layer2.0.conv2"]


def test_a_detached_branch_is_named() -> None:
    """A gradient that a layer does not hand back is missing there; one that a block loses, is over there."""
    case = case_of("basic", "train")
    subject: Any = find_subject("torch")
    build = subject.build

    def detached(case: Case) -> Any:
        model = build(case)
        model.get_submodule("layer2.1.conv1").register_forward_pre_hook(lambda _m, given: (given[0].detach(),))
        return model

    subject.build = detached
    verdict = local_check(subject, truth_of(case), case, "float32")
    assert [(layer.name, layer.status) for layer in verdict.layers if not layer.agrees] == [
        ("layer2.1.conv1", "missing")
    ]
