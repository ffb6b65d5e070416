"""Profiles: how they are spelled, what each option grants, and that nothing less and nothing else passes for it.

What is healthy and what is not is arithmetic that is emulated here, from exact results and declared roundings, so that
no verdict depends on the processor or on what a framework does on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from oracle.budget.driven import Disturbance, roundoff_of  # noqa: E402
from oracle.case.case import Case  # noqa: E402
from oracle.errors import UsageError  # noqa: E402
from oracle.faults.bench import Bench  # noqa: E402
from oracle.graph.graph import Node  # noqa: E402
from oracle.judge.exact import expected  # noqa: E402
from oracle.judge.local import judge_local, local_check  # noqa: E402
from oracle.judge.own import own_check  # noqa: E402
from oracle.judge.verdicts import SubjectVerdict  # noqa: E402
from oracle.operations.operation import Feed  # noqa: E402
from oracle.precision.algorithms import (  # noqa: E402
    of_images,
    tap_squares,
    transforms,
    winograd_output,
    winograd_weight_gradient,
)
from oracle.precision.profile import Profile, options_of, profile_of, take_profile  # noqa: E402
from oracle.precision.rounding import ROUNDINGS, round_to, rounding_of  # noqa: E402
from oracle.resnets import SMALL  # noqa: E402
from oracle.run import run_case  # noqa: E402
from oracle.subjects import Subject, find_subject  # noqa: E402
from oracle.subjects.layerwise import Array, CodeFeed, CodeRun, LayerRun, Layerwise  # noqa: E402
from oracle.subjects.pytorch import TorchSubject  # noqa: E402
from oracle.trace import (  # noqa: E402
    Recorder,
    Trace,
    execution_order,
)
from oracle.truth.truth import Truth, prepare  # noqa: E402

# -- how they are spelled ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("float32", "float32"),
        (" Float16 , SUMS-IN-float16", "float16, sums in float16"),
        ("bfloat16,sums in bfloat16", "bfloat16, sums in bfloat16"),
        ("bfloat16, one pass-variance, sums  in bfloat16", "bfloat16, sums in bfloat16, one-pass variance"),
        ("tf32,truncated", "tf32, truncated"),
        ("tf32, rounded", "tf32"),
        ("float16, sums in float32", "float16"),
        ("FLOAT32, Winograd-6x6, one-pass-variance", "float32, one-pass variance, winograd 6x6"),
        ("float32, one-pass variance, one-pass variance", "float32, one-pass variance"),
    ],
)
def test_one_canonical_spelling(text: str, canonical: str) -> None:
    profile = profile_of(text)
    assert str(profile) == canonical
    assert profile_of(canonical) == profile_of(profile) == profile


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "got ''; may be float64, float32, tf32, bfloat16, float16, and options"),
        ("int9, truncated", "got 'int9, truncated'; may be float64"),
        ("float16, sums in bfloat16", "after float16 may come sums in float16, sums in float32, one-pass variance"),
        ("float32, truncated", "after float32 may come one-pass variance, winograd 2x2, winograd 4x4, winograd 6x6"),
        ("float64, truncated", "float64 has no options"),
        ("float16,", "after float16 may come"),
        ("float32, winograd 4x4, winograd 6x6", "winograd 4x4 and winograd 6x6 exclude each other"),
        ("tf32, truncated, rounded", "rounded and truncated exclude each other"),
    ],
)
def test_what_is_no_profile(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        profile_of(text)


def test_the_options_of_each_base() -> None:
    assert options_of("float64") == []
    for base in ROUNDINGS:
        for option in options_of(base):
            assert profile_of(f"{base}, {option}").base == base
        assert Profile(base).options == ()
        assert rounding_of(base) == ROUNDINGS[base]
    assert [str(each) for each in profile_of("float16").with_more()] == [
        "float16, sums in float16",
        "float16, one-pass variance",
    ]
    assert [str(each) for each in profile_of("float32, winograd 4x4").with_more()] == [
        "float32, one-pass variance, winograd 4x4"
    ]


def test_a_subject_declares_what_is_usual_for_it_unless_it_is_told() -> None:
    usual = {"float16": "sums in float16"}
    for given, told in (
        (("float16",), "float16, sums in float16"),
        (("float16", "sums-in-float32"), "float16"),
        (("float16, one-pass variance",), "float16, sums in float16, one-pass variance"),
        (("bfloat16",), "bfloat16"),
        ((), "float32"),
    ):
        assert str(take_profile("it", given, usual)[0]) == told, given  # type: ignore[arg-type]
    assert take_profile("it", ("a,b.npz", "winograd-6x6"))[1] == ("a,b.npz",)
    with pytest.raises(UsageError, match="'float32' is a second precision for it"):
        take_profile("it", ("tf32", "float32"))


@pytest.mark.parametrize(
    ("text", "precision"),
    [
        ("torch", "float32"),
        ("torch:float16", "float16, sums in float16"),
        ("torch:bfloat16:no-onednn", "bfloat16, sums in bfloat16"),
        ("torch:float16:sums-in-float32", "float16"),
        ("torch:float16, sums in float32:channels_last", "float16"),
        ("torch:winograd-6x6", "float32, winograd 6x6"),
        ("lucid:float64", "float64"),
    ],
)
def test_the_profile_of_a_subject(text: str, precision: str) -> None:
    assert find_subject(text).precision == precision


# -- emulated runtimes -------------------------------------------------------------------------------------------------

_TRUTHS: dict[Case, Truth] = {}


def case_of(name: str, seed: int = 0) -> Case:
    return Case(SMALL[f"small_{name}"], "train", "seeded", 64, 4, seed)


def established(case: Case) -> Truth:
    """The truth, made once for all tests of a case."""
    if case not in _TRUTHS:
        _TRUTHS[case] = prepare(case)
    return _TRUTHS[case]


def truth_of(case: Case) -> Trace:
    return established(case).trace


class Emulated(Subject):
    """PyTorch in float64, whose results are rounded to a precision once; gradients in pieces as ``pieces`` says."""

    layered = True

    def __init__(self, base: str, pieces: Sequence[str] = ()) -> None:
        self.label, self.base, self.pieces = f"emulated {base}", base, pieces

    def run(self, case: Case, recorder: Recorder) -> None:
        raise NotImplementedError

    def layerwise(self, case: Case) -> Layerwise:
        driven: Any = find_subject("torch:float64").layerwise(case)
        with torch.no_grad():
            for value in (*driven._model.parameters(), *driven._model.buffers()):
                if value.is_floating_point():
                    value.copy_(torch.from_numpy(round_to(value.numpy(), self.base)))
        return EmulatedLayers(driven, self.base, self.pieces)


class EmulatedLayers(Layerwise):
    def __init__(self, driven: Layerwise, base: str, pieces: Sequence[str]) -> None:
        self._driven, self._base, self._pieces = driven, base, pieces

    def _round(self, array: Any) -> Any:
        return None if array is None else round_to(array, self._base)

    def _add(self, pieces: Sequence[Array]) -> Array:
        total = np.zeros_like(pieces[0], np.float32)
        for piece in pieces:
            total = round_to(total + round_to(piece, self._base), self._base)
        return total

    def run(self, layer: Node, inputs: Sequence[Array], gradient: Array | None) -> LayerRun:
        made = self._driven.run(layer, inputs, gradient)
        parameters = {name: self._round(each) for name, each in made.parameter_gradients.items()}
        if "images" in self._pieces and layer.op in ("conv", "linear") and gradient is not None:
            shares = [
                self._driven.run(layer, [inputs[0][i : i + 1]], gradient[i : i + 1]).parameter_gradients
                for i in range(len(gradient))
            ]
            parameters = {name: self._add([share[name] for share in shares]) for name in parameters}
        return LayerRun(
            self._round(made.output),
            [self._round(each) for each in made.input_gradients],
            parameters,
            {name: self._round(each) for name, each in made.statistics.items()},
        )

    def run_code(self, layer: Node, feed: CodeFeed) -> CodeRun:
        made = self._driven.run_code(layer, feed)
        return CodeRun(self._round(made.output), {name: self._round(each) for name, each in made.arrivals.items()})


@pytest.mark.parametrize("base", ["float16", "bfloat16"])
def test_sums_in_the_storage_type_are_healthy_where_they_are_declared_and_only_there(base: str) -> None:
    case = case_of("bottleneck")
    truth = truth_of(case)
    once, summed = Emulated(base), Emulated(base, ["images"])
    assert local_check(once, truth, case, base).agrees
    verdict = local_check(summed, truth, case, f"{base}, sums in {base}")
    assert verdict.agrees, verdict.sentence()
    assert verdict.precision == f"{base}, sums in {base}"
    flagged = [layer for layer in local_check(summed, truth, case, base).layers if not layer.agrees]
    assert len(flagged) > 10
    assert {layer.kind for layer in flagged} == {"parameter_gradient"}


class Arithmetic(torch.autograd.Function):
    """A convolution, exact but for what is declared: factors as ``shorten`` takes them, results in float32."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, layer: Any, shorten: Any) -> Any:
        x, weight = (shorten(each).double() for each in (x, weight))
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.shorten = layer, shorten
        return torch.nn.functional.conv2d(x, weight, None, layer.stride, layer.padding, 1, layer.groups).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight = ctx.saved_tensors
        dy = ctx.shorten(gradients[0]).double()
        dx, dw, _ = torch.ops.aten.convolution_backward(
            dy, x, weight, None, ctx.layer.stride, ctx.layer.padding, (1, 1), False, [0, 0], ctx.layer.groups,
            [ctx.needs_input_grad[0], True, False],
        )  # fmt: skip
        return None if dx is None else dx.float(), dw.float(), None, None


def cut_off(x: Any) -> Any:
    """TF32 without rounding: the low 13 bits of a float32 are zero."""
    return (x.detach().contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


def rounded(x: Any) -> Any:
    """TF32, to nearest (halves away from zero, as the conversion instruction has it)."""
    return cut_off((x.detach().contiguous().view(torch.int32) + 0x1000).view(torch.float32))


class Winograd(torch.autograd.Function):
    """A 3x3 convolution of stride 1 by F(m x m, 3 x 3) in float32, its input's gradient too; its weight's exact."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, layer: Any, m: int) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.m = layer, m
        return torch.from_numpy(by_winograd(x.detach().numpy(), weight.detach().numpy(), 1, m, layer.groups))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, weight = ctx.saved_tensors
        dy, groups = gradients[0].contiguous(), ctx.layer.groups
        split = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flip(-1, -2)
        turned = split.reshape(-1, split.shape[2], 3, 3).numpy()
        dx = torch.from_numpy(by_winograd(dy.numpy(), turned, 1, ctx.m, groups))
        dw = torch.ops.aten.convolution_backward(
            dy.double(), x.double(), weight.double(), None, (1, 1), (1, 1), (1, 1), False, [0, 0], groups,
            [False, True, False],
        )[1]  # fmt: skip
        return dx, dw.float(), None, None


def by_winograd(x: np.ndarray, weight: np.ndarray, padding: int, m: int, groups: int = 1) -> np.ndarray:
    """Winograd's algorithm in float32, the channels one after the other: tiles, transforms, products, and back."""
    of = transforms(m)
    a, g, b = (each.astype(np.float32) for each in (of.out, of.kernel, of.data))
    height, width, size = x.shape[2] + 2 * padding - 2, x.shape[3] + 2 * padding - 2, len(b)
    rows, columns = -(-height // m), -(-width // m)
    high, wide = (rows - 1) * m + size, (columns - 1) * m + size
    padded = np.zeros((*x.shape[:2], max(high, x.shape[2] + padding), max(wide, x.shape[3] + padding)), np.float32)
    padded[:, :, padding : padding + x.shape[2], padding : padding + x.shape[3]] = x
    result = np.zeros((len(x), len(weight), rows * m, columns * m), np.float32)
    kernels = (g @ weight.astype(np.float32) @ g.T).reshape(groups, -1, weight.shape[1], size, size)
    for i in range(rows):
        for j in range(columns):
            tile = padded[:, :, i * m : i * m + size, j * m : j * m + size]
            data = (b @ tile @ b.T).reshape(len(x), groups, 1, -1, size, size)
            total = np.zeros((len(x), groups, kernels.shape[1], size, size), np.float32)
            for channel in range(weight.shape[1]):
                total += data[:, :, :, channel] * kernels[None, :, :, channel]
            piece = (a.T @ total @ a).reshape(len(x), -1, m, m)
            result[:, :, i * m : (i + 1) * m, j * m : (j + 1) * m] = piece
    return result[:, :, :height, :width]


class Twin(TorchSubject):
    """The twin in float32 whose convolutions are replaced, at a declared profile."""

    def __init__(self, precision: str, replace: Any) -> None:
        super().__init__("threads=1")
        self.precision, self._replace = precision, replace
        self.label = f"emulated {precision}"

    def build(self, case: Case) -> Any:
        model = super().build(case)
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.forward = self._replace(module)  # type: ignore[method-assign]
        return model


def with_factors(shorten: Any) -> Any:
    return lambda layer: lambda x: Arithmetic.apply(x, layer.weight, layer, shorten)


def with_tiles(m: int) -> Any:
    def replaced(layer: Any) -> Any:
        if layer.kernel_size == (3, 3) and layer.stride == (1, 1):
            return lambda x: Winograd.apply(x, layer.weight, layer, m)
        return with_factors(lambda x: x)(layer)

    return replaced


EMULATED = {
    "tf32": with_factors(rounded),
    "tf32, truncated": with_factors(cut_off),
    "float32, winograd 2x2": with_tiles(2),
    "float32, winograd 4x4": with_tiles(4),
    "float32, winograd 6x6": with_tiles(6),
}


@pytest.mark.parametrize("precision", EMULATED)
def test_what_is_declared_is_healthy_in_both_views(precision: str) -> None:
    case = Case(SMALL["small_basic"], "train", "seeded", 64, 2)
    subject = Twin(precision, EMULATED[precision])
    bench = Bench(case, precision, established(case), keep=False)
    for verdict in (bench.local(subject), bench.free(subject, subject.trace(case))):
        assert verdict.agrees, verdict.sentence()


# -- hints -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["tf32, truncated", "float32, winograd 4x4", "float32, winograd 6x6"])
def test_what_is_not_declared_is_over_and_named(precision: str) -> None:
    case = Case(SMALL["small_basic"], "train", "seeded", 64, 2)
    subject = Twin(profile_of(precision).base, EMULATED[precision])
    verdict = local_check(subject, truth_of(case), case, subject.precision)
    assert not verdict.agrees
    for first in filter(None, (verdict.first_forward, verdict.first_backward)):
        assert f"'{precision}'" in first.difference
        assert "allows: declare it if" in first.difference
    assert "(--precision)" in verdict.sentence()


@pytest.mark.parametrize("precision", ["tf32, truncated", "float32, winograd 6x6"])
def test_a_trace_says_what_would_be_allowed(precision: str) -> None:
    """The own view, which a file has too."""
    case = Case(SMALL["small_basic"], "train", "seeded", 64, 2)
    replaced, base = EMULATED[precision], profile_of(precision).base
    trace = Twin(precision, replaced).trace(case)
    keys = execution_order(trace)

    def judged(declared: str) -> SubjectVerdict:
        return own_check(trace, case, declared, keys, lambda key: trace[key].shape, "a trace")

    verdict = judged(base)
    assert not verdict.agrees
    for first in filter(None, (verdict.first_forward, verdict.first_backward)):
        assert f"'{precision}'" in first.difference
        assert "allows: declare it if" in first.difference
    assert judged(precision).agrees, judged(precision).sentence()


def test_sums_in_the_storage_type_are_named() -> None:
    case = case_of("bottleneck")
    verdict = local_check(Emulated("float16", ["images"]), truth_of(case), case, "float16")
    assert verdict.first is not None
    assert "within what 'float16, sums in float16' allows" in verdict.first.difference
    assert verdict.first.status == "over"


def test_a_whole_run_that_one_option_would_allow_says_which() -> None:
    case = Case(SMALL["small_basic"], "eval", "seeded", 64, 2)
    verdict = run_case(
        case, [Twin("tf32", EMULATED["tf32, truncated"])], views=["free"], truth=established(case)
    ).subjects[0]
    assert not verdict.agrees
    assert verdict.first is not None
    assert "within what 'tf32, truncated' allows" in verdict.first.difference
    assert run_case(case, [Twin("tf32, truncated", EMULATED["tf32, truncated"])], truth=established(case)).agrees


def test_a_fault_of_one_channel_is_not_taken_for_an_algorithm() -> None:
    """One filter is a little wrong, by less than Winograd's algorithm may be: nothing is suggested."""
    case = Case(SMALL["small_basic"], "eval", "seeded", 64, 2)

    def slightly(layer: Any) -> Any:
        def forward(x: Any) -> Any:
            y = Arithmetic.apply(x, layer.weight, layer, lambda x: x)
            if layer.kernel_size == (3, 3):
                y[:, 3] *= 1 + 3e-6
            return y

        return forward

    verdict = local_check(Twin("float32", slightly), truth_of(case), case, "float32")
    over = [layer for layer in verdict.layers if not layer.agrees]
    assert over
    assert all(layer.channel == 3 for layer in over)
    assert not any("allows" in layer.difference for layer in over)


def test_a_gross_fault_gets_no_hint_and_costs_none() -> None:
    case = Case(SMALL["small_basic"], "eval", "seeded", 64, 2)
    wrong = Twin("float32", lambda layer: lambda x: 1.01 * Arithmetic.apply(x, layer.weight, layer, lambda x: x))
    for verdict in run_case(case, [wrong], truth=established(case)).subjects:
        assert not verdict.agrees
        assert "allows" not in verdict.sentence()


def test_a_precision_that_is_none_is_said_of_a_subject_of_ones_own() -> None:
    case = Case(SMALL["small_basic"], "eval", "seeded", 64, 2)
    odd = Twin("float32", with_factors(lambda x: x))
    odd.precision = "float32, sums in float16"
    for view in ("free", "local"):
        with pytest.raises(UsageError, match="after float32 may come one-pass variance"):
            run_case(case, [odd], views=[view], truth=established(case))  # type: ignore[list-item]
    odd.precision = "Float32, Winograd-6x6"
    assert [each.precision for each in run_case(case, [odd], truth=established(case)).subjects] == [
        "float32, winograd 6x6"
    ] * 3  # free, own and local


# -- what the options grant --------------------------------------------------------------------------------------------


def two_means(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel in one pass, one float32 sum after the other."""
    values = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float32)
    sums, squares = (np.cumsum(each, axis=1, dtype=np.float32)[:, -1] for each in (values, values * values))
    count = np.float32(values.shape[1])
    mean = sums / count
    return mean, squares / count - mean * mean


@pytest.mark.parametrize(("centre", "flagged"), [(0.0, False), (30.0, True), (200.0, True)])
def test_one_pass_variance_is_granted_where_it_is_declared(centre: float, flagged: bool) -> None:
    rng = np.random.default_rng(7)
    x = (centre + rng.standard_normal((8, 16, 16, 16))).astype(np.float32)
    mean, variance = two_means(x)
    scale = 1 / np.sqrt(variance.astype(np.float64) + 1e-5)
    y = ((x - mean.reshape(1, -1, 1, 1).astype(np.float64)) * scale.reshape(1, -1, 1, 1)).astype(np.float32)
    ones, zeros = np.ones(16, np.float32), np.zeros(16, np.float32)
    parameters = {"weight": ones, "bias": zeros, "running_mean": zeros, "running_var": ones}
    feed = Feed((x,), None, parameters, np.zeros(1, np.int64), training=True)
    kept = {role: role for role in ("running_mean", "running_var")}
    norm = Node("bn", "norm", ("x",), {"eps": 1e-5, "momentum": 0.1}, {}, kept)
    agree = {
        name: judge_local(expected(norm, feed, rounding_of(name))[0], y).agrees
        for name in ("float32", "float32, one-pass variance")
    }
    assert agree == {"float32": not flagged, "float32, one-pass variance": True}


def test_the_disturbed_variance_is_that_of_one_pass() -> None:
    """The spread that the whole run's budget is made of, beside errors of sequential float32 sums."""
    rng = np.random.default_rng(3)
    x = (50.0 + rng.standard_normal((4, 64, 16, 16))).astype(np.float32)
    exact = torch.from_numpy(x).double()
    spread, mean = torch.var_mean(exact, (0, 2, 3), correction=0)
    found = np.sqrt(np.mean((two_means(x)[1] / spread.numpy() - 1) ** 2))
    disturbed = {}
    for name in ("float32", "float32, one-pass variance"):
        disturb = Disturbance(roundoff_of(name), np.random.default_rng(0))
        off = disturb.shared(64, (disturb.chain(1024, 1024 * spread, (1024 * mean).square()) / 1024**2).sqrt())
        relative = disturb.shared(64, disturb.chain(1024, 0.0 * spread, torch.ones_like(spread)).sqrt())
        other = disturb.variance(spread, mean, relative, off)
        disturbed[name] = float((other / spread - 1).square().mean().sqrt())
    assert disturbed["float32"] < found / 50
    assert found / 3 < disturbed["float32, one-pass variance"] < found * 30


@pytest.mark.parametrize("m", [2, 4, 6])
def test_winograds_error_stays_within_its_variance_and_near_it(m: int) -> None:
    """Against the algorithm itself, forward; the transforms' construction against the convolution in float64."""
    rng = np.random.default_rng(m)
    x = np.maximum(rng.standard_normal((2, 32, 13, 14)) + 0.5, 0).astype(np.float32)
    weight = (0.1 * rng.standard_normal((16, 16, 3, 3))).astype(np.float32)
    wide = [torch.from_numpy(each).double() for each in (x, weight)]
    exact = torch.nn.functional.conv2d(*wide, padding=1, groups=2).numpy()
    own, shared = winograd_output(x, weight, 1, m, 2.0**-24, 2)
    assert own.shape == shared.shape == exact.shape
    found = np.sqrt(np.square(by_winograd(x, weight, 1, m, 2) - exact).mean())
    model = np.sqrt((own + shared).mean())
    assert 0.1 * model < found < model
    of = transforms(m)
    d, g = rng.standard_normal(m + 2), rng.standard_normal(3)
    np.testing.assert_allclose(of.out.T @ ((of.kernel @ g) * (of.data @ d)), np.correlate(d, g, "valid"), atol=1e-12)


def test_the_matrices_of_six_by_six() -> None:
    """Those of the literature, up to the signs of rows."""
    of = transforms(6)
    assert np.abs(of.data[0]).tolist() == [1, 0, 5.25, 0, 5.25, 0, 1, 0]
    assert np.abs(of.out[:, -1]).tolist() == [0, 1, 1, 32, 32, 1 / 32, 1 / 32, 1]
    np.testing.assert_allclose(np.abs(of.kernel[1]), [2 / 9] * 3)


def test_winograd_of_a_weights_gradient() -> None:
    """The transposed algorithm in float32, against its variance."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((2, 8, 12, 12)).astype(np.float32) for _ in range(2))
    of = transforms(6)
    a, g, b = (each.astype(np.float32) for each in (of.out, of.kernel, of.data))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    total = np.zeros((8, 8, 8, 8), np.float32)
    for n, i, j in np.ndindex(2, 2, 2):
        tile = b @ padded[n, :, 6 * i : 6 * i + 8, 6 * j : 6 * j + 8] @ b.T
        total += (a @ dy[n, :, 6 * i : 6 * i + 6, 6 * j : 6 * j + 6] @ a.T)[:, None] * tile[None]
    found = g.T @ total @ g
    exact = np.zeros((8, 8, 3, 3))
    for i, j in np.ndindex(3, 3):
        exact[..., i, j] = np.einsum("nohw,nchw->oc", dy.astype(np.float64), padded[:, :, i : i + 12, j : j + 12])
    model = np.sqrt(sum(winograd_weight_gradient(dy, x, 1, 6, 2.0**-24)).mean())  # type: ignore[union-attr]
    assert 0.1 * model < np.sqrt(np.square(found - exact).mean()) < model


@pytest.mark.parametrize("images", [2, 3, 8])
def test_sums_between_images_stay_within_their_variance_in_any_order(images: int) -> None:
    rng = np.random.default_rng(images)
    shares = rng.standard_normal((images, 4096))
    exact = shares.sum(0)
    model = np.sqrt(np.mean(of_images(list(shares), rounding_of("float16, sums in float16"))))
    for order in (shares, shares[::-1], shares[np.argsort(np.abs(shares).sum(1))]):
        total = np.zeros(4096, np.float32)
        for share in order:
            total = round_to(total + round_to(share, "float16"), "float16")
        assert 0.1 * model < np.sqrt(np.square(total - exact).mean()) < model
    assert of_images(list(shares), rounding_of("float16")) == 0.0
    assert of_images([shares[0]], rounding_of("float16, sums in float16")) == 0.0


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_the_taps_of_an_input_gradient(stride: int, groups: int) -> None:
    """Squared tap by tap, beside convolutions whose kernel has one tap alone."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 4 // groups, 3, 3))
    shape = (2, 4, 9, 8)
    window = torch.nn.functional.conv2d(torch.zeros(shape), torch.zeros(weight.shape), None, stride, 1, 1, groups)
    dy = rng.standard_normal(tuple(window.shape))
    wanted = np.zeros(shape)
    for i, j in np.ndindex(3, 3):
        one = np.zeros_like(weight)
        one[..., i, j] = weight[..., i, j]
        share = torch.ops.aten.convolution_backward(
            torch.from_numpy(dy), torch.zeros(shape).double(), torch.from_numpy(one), None, (stride, stride), (1, 1),
            (1, 1), False, [0, 0], groups, [True, False, False],
        )[0]  # fmt: skip
        wanted += share.numpy() ** 2
    np.testing.assert_allclose(tap_squares(dy, weight, shape, stride, 1, groups), wanted, rtol=1e-12)


@pytest.mark.parametrize("precision", ["tf32", "tf32, truncated"])
def test_factors_are_shortened_as_declared(precision: str) -> None:
    x = torch.from_numpy(np.random.default_rng(0).lognormal(0, 3, 100_000)).double()
    found = Disturbance(roundoff_of(precision), np.random.default_rng(1)).shorten(-x) / -x - 1
    assert float(found.abs().max()) < 2.0**-10
    mean = float(found.mean()) / 2.0**-11
    assert -1 < mean < -0.6 if "truncated" in precision else abs(mean) < 0.02
    lost = (cut_off(x.float()).double() / x - 1)[x > 1e-6]
    assert float(lost.mean()) / 2.0**-11 == pytest.approx(-0.72, abs=0.02)
