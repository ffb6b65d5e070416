"""Profiles: how they are spelled, what each option grants, and that nothing less and nothing else passes for it.

What is healthy and what is not is arithmetic that is emulated here, from exact results and declared roundings, so that
no verdict depends on the processor or on what a framework does on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from oracle.algorithms import transforms  # noqa: E402
from oracle.architecture import SMALL  # noqa: E402
from oracle.case import Case  # noqa: E402
from oracle.driving import Array, BlockRun, LayerRun, Layerwise  # noqa: E402
from oracle.errors import UsageError  # noqa: E402
from oracle.faults.bench import Bench  # noqa: E402
from oracle.layer import Layer  # noqa: E402
from oracle.local import local_check  # noqa: E402
from oracle.profile import Profile, options_of, profile_of, take_profile  # noqa: E402
from oracle.rounding import ROUNDINGS, round_to, rounding_of  # noqa: E402
from oracle.subjects import Subject, find_subject  # noqa: E402
from oracle.subjects.pytorch import TorchSubject  # noqa: E402
from oracle.trace import Recorder, Trace  # noqa: E402

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

_TRUTHS: dict[Case, Trace] = {}


def case_of(name: str, seed: int = 0) -> Case:
    return Case(SMALL[f"small_{name}"], "train", "seeded", 64, 4, seed)


def truth_of(case: Case) -> Trace:
    if case not in _TRUTHS:
        _TRUTHS[case] = find_subject("lucid:float64").trace(case)
    return _TRUTHS[case]


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

    def run(self, layer: Layer, inputs: Sequence[Array], gradient: Array | None) -> LayerRun:
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

    def run_block(
        self,
        layer: Layer,
        source: Array,
        outputs: Mapping[str, Array],
        input_gradients: Mapping[str, Array],
        gradient: Array | None,
    ) -> BlockRun:
        made = self._driven.run_block(layer, source, outputs, input_gradients, gradient)
        return BlockRun(self._round(made.output), {name: self._round(each) for name, each in made.arrivals.items()})


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


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("precision", EMULATED)
def test_what_is_declared_is_healthy_in_both_views(precision: str, mode: str) -> None:
    case = Case(SMALL["small_basic"], mode, "seeded", 64, 2)  # type: ignore[arg-type]
    subject = Twin(precision, EMULATED[precision])
    bench = Bench(case, precision, keep=False)
    for verdict in (bench.local(subject), bench.free(subject, subject.trace(case))):
        assert verdict.agrees, verdict.sentence()
        print(precision, mode, verdict.view, max(layer.used for layer in verdict.layers))
